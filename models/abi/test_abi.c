/*
 * The register tables as data: what every table must obey, whoever adds it, and a few rows by value
 * so that the lists and what is made out of them cannot drift apart.
 */
#include "models/abi/e1000e.h"
#include "models/abi/edu.h"
#include "models/abi/ivshmem.h"
#include "models/abi/pci.h"
#include "models/abi/ptnet.h"
#include "models/abi/virtio_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint64_t width_mask(unsigned width_bytes)
{
    return width_bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * width_bytes)) - 1;
}

static uint32_t reg_end(const struct abi_reg *reg)
{
    return reg->offset + (uint32_t)(reg->count - 1) * reg->stride + reg->width;
}

/* Calls `check` with each block there is. */
static void each_block(void (*check)(const struct abi_block *block))
{
    static const uint8_t caps[] = {PCI_CAP_ID_PM, PCI_CAP_ID_SSVID, PCI_CAP_ID_MSIX};

    check(abi_header_block(PCI_HEADER_TYPE_NORMAL));
    check(abi_header_block(PCI_HEADER_TYPE_BRIDGE));
    check(&abi_msix_table_block);
    check(&abi_msix_pba_block);
    for (size_t i = 0; i < ABI_COUNT(caps); i++)
        check(abi_capability_block(caps[i], 0));
    for (unsigned i = 0; i < 4; i++)
        check(abi_capability_block(
            PCI_CAP_ID_MSI,
            (uint16_t)((i & 1 ? PCI_MSI_FLAGS_64BIT : 0) | (i & 2 ? PCI_MSI_FLAGS_MASKBIT : 0))));
    check(abi_capability_block(PCI_CAP_ID_EXPRESS, 0x0001));
    check(abi_capability_block(PCI_CAP_ID_EXPRESS, 0x0041));
    check(abi_capability_block(PCI_CAP_ID_EXPRESS, 0x0002));
    for (size_t d = 0; d < abi_n_devices; d++)
        for (unsigned p = 0; p < abi_devices[d]->n_placements; p++)
            check(abi_devices[d]->placements[p].block);
}

static void check_fields(const struct abi_block *block, const struct abi_reg *reg)
{
    unsigned next_bit = 0;

    if (!reg->fields) {
        assert_int_equal(reg->n_fields, 0);
        return;
    }
    assert_int_not_equal(reg->n_fields, 0);
    for (unsigned i = 0; i < reg->n_fields; i++) {
        const struct abi_field *field = &reg->fields[i];

        if (field->lsb < next_bit || field->bits < 1 || field->lsb + field->bits > 8 * reg->width)
            fail_msg("%s.%s.%s: bits %u..%u overlap, are out of order or outside its %u bytes",
                     block->name, reg->name, field->name, field->lsb, field->lsb + field->bits - 1,
                     reg->width);
        next_bit = field->lsb + field->bits;
        assert_true(field->name[0] != '\0' && field->what[0] != '\0');
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(field->name, reg->fields[k].name);
    }
}

static void check_register(const struct abi_block *block, const struct abi_reg *reg)
{
    if (reg->width != 1 && reg->width != 2 && reg->width != 4 && reg->width != 8)
        fail_msg("%s.%s: width %u", block->name, reg->name, reg->width);
    if (reg->offset % (reg->width == 8 ? 4 : reg->width))
        fail_msg("%s.%s: offset 0x%x is not aligned to %u", block->name, reg->name, reg->offset,
                 reg->width);
    if (reg->reset & ~width_mask(reg->width))
        fail_msg("%s.%s: reset value is wider than %u bytes", block->name, reg->name, reg->width);
    if ((reg->flags & ABI_VARIES) && reg->reset)
        fail_msg("%s.%s: a reset value that varies is 0", block->name, reg->name);
    if (reg->count < 1 || (reg->count > 1) != (reg->stride > 0) ||
        (reg->count > 1 && reg->stride < reg->width))
        fail_msg("%s.%s: count %u, stride %u", block->name, reg->name, reg->count, reg->stride);
    assert_true(reg->name[0] != '\0' && reg->what[0] != '\0');
    check_fields(block, reg);
}

static void check_block(const struct abi_block *block)
{
    uint32_t end = 0;

    assert_non_null(block);
    assert_true(block->n_regs > 0);
    for (unsigned i = 0; i < block->n_regs; i++) {
        const struct abi_reg *reg = &block->regs[i];

        check_register(block, reg);
        if (reg->offset < end)
            fail_msg("%s.%s at 0x%x lies before the end 0x%x of the register before", block->name,
                     reg->name, reg->offset, end);
        end = reg_end(reg);
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(reg->name, block->regs[k].name))
                fail_msg("%s.%s is there twice", block->name, reg->name);
    }
    if ((block->size && end > block->size) || (block->stride && end > block->stride))
        fail_msg("%s: registers end at 0x%x, beyond the block", block->name, end);
}

static void every_table_is_sorted_unique_and_within_its_widths(void **state)
{
    (void)state;
    each_block(check_block);
}

static void block_names_of_a_device_are_unique(void **state)
{
    (void)state;
    for (size_t d = 0; d < abi_n_devices; d++) {
        const struct abi_device *device = abi_devices[d];

        for (unsigned i = 0; i < device->n_placements; i++)
            for (unsigned k = 0; k < i; k++)
                assert_string_not_equal(device->placements[i].block->name,
                                        device->placements[k].block->name);
    }
}

static void devices_are_found_by_each_of_their_ids(void **state)
{
    static const struct {
        uint16_t vendor_id, device_id;
        const char *name;
    } rows[] = {
        {0x1af4, 0x1000, "virtio-net-pci"},
        {0x1af4, 0x1041, "virtio-net-pci"},
        {0x1af4, 0x1110, "ivshmem"},
        {0x8086, 0x10d3, "e1000e"},
        {0x1234, 0x11e8, "edu"},
        {0x1b36, 0x000d, "ptnet-pci"},
        {0x1b36, 0x000c, "ptnetmap-memdev"},
    };

    (void)state;
    for (size_t i = 0; i < ABI_COUNT(rows); i++) {
        const struct abi_device *device = abi_find_device(rows[i].vendor_id, rows[i].device_id);

        assert_non_null(device);
        assert_string_equal(device->name, rows[i].name);
    }
    assert_null(abi_find_device(0x1af4, 0x1001));
    assert_null(abi_find_device(0x1af4, 0));
    assert_null(abi_find_device(0x8086, 0x1041));
}

static void header_blocks_follow_the_header_type(void **state)
{
    (void)state;
    assert_string_equal(abi_header_block(0)->regs[12].name, "bar0");
    assert_string_equal(abi_header_block(0x80)->regs[14].name, "bar2");
    assert_string_equal(abi_header_block(0x81)->regs[14].name, "primary_bus");
    assert_null(abi_header_block(2));
}

static void msi_and_express_capabilities_are_as_long_as_their_control_word_says(void **state)
{
    static const struct {
        uint8_t id;
        uint16_t control;
        uint32_t bytes;
    } rows[] = {
        {PCI_CAP_ID_MSI, 0x0000, 10},     {PCI_CAP_ID_MSI, 0x0080, 14},
        {PCI_CAP_ID_MSI, 0x0100, 20},     {PCI_CAP_ID_MSI, 0x0180, 24},
        {PCI_CAP_ID_EXPRESS, 0x0001, 20}, {PCI_CAP_ID_EXPRESS, 0x0041, 36},
        {PCI_CAP_ID_EXPRESS, 0x0002, 60}, {PCI_CAP_ID_MSIX, 0x8003, 12},
        {PCI_CAP_ID_PM, 0xc803, 8},
    };

    (void)state;
    for (size_t i = 0; i < ABI_COUNT(rows); i++)
        assert_int_equal(abi_capability_block(rows[i].id, rows[i].control)->size, rows[i].bytes);
    assert_null(abi_capability_block(PCI_CAP_ID_VENDOR, 0));
}

static const struct abi_reg *find(const struct abi_block *block, const char *name)
{
    for (unsigned i = 0; i < block->n_regs; i++)
        if (!strcmp(block->regs[i].name, name))
            return &block->regs[i];
    fail_msg("%s has no %s", block->name, name);
    return NULL;
}

static const struct abi_block *block_of(uint16_t vendor_id, uint16_t device_id, const char *name)
{
    const struct abi_device *device = abi_find_device(vendor_id, device_id);

    for (unsigned i = 0; i < device->n_placements; i++)
        if (!strcmp(device->placements[i].block->name, name))
            return device->placements[i].block;
    fail_msg("%s has no block %s", device->name, name);
    return NULL;
}

/* Numbers as the specifications give them, not as the lists do. */
static void constants_are_those_of_the_specifications(void **state)
{
    (void)state;
    assert_int_equal(PCI_COMMAND, 0x04);
    assert_int_equal(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0x7);
    assert_int_equal(PCI_COMMAND_INTX_DISABLE, 0x400);
    assert_int_equal(PCI_STATUS_CAP_LIST, 0x10);
    assert_int_equal(PCI_BAR5, 0x24);
    assert_int_equal(PCI_CAPABILITY_LIST, 0x34);
    assert_int_equal(PCI_SUBORDINATE_BUS, 0x1a);
    assert_int_equal(PCI_BRIDGE_CONTROL, 0x3e);
    assert_int_equal(PCI_MSIX_FLAGS_QSIZE, 0x7ff);
    assert_int_equal(PCI_MSIX_FLAGS_ENABLE, 0x8000);
    assert_int_equal(PCI_MSIX_TABLE_OFFSET, 0xfffffff8);
    assert_int_equal(PCI_EXP_SLTCTL_PIC_SHIFT, 8);
    assert_int_equal(PCI_CONFIG_ADDRESS(1, 2, 3, 0x45), 0x80011344);
    assert_int_equal(PCI_ECAM_OFFSET(1, 2, 3, 0x145), 0x113145);
    assert_int_equal(VIRTIO_PCI_COMMON_QUEUE_DESC, 0x20);
    assert_int_equal(VIRTIO_PCI_COMMON_QUEUE_RESET, 0x3a);
    assert_int_equal(VIRTIO_STATUS_NEEDS_RESET, 0x40);
    assert_int_equal(VIRTIO_PCI_LEGACY_DEVICE_STATUS, 0x12);
    assert_int_equal(VIRTIO_NET_CFG_HASH_TYPES, 0x14);
    assert_int_equal(VIRTIO_NET_DEVICE_ID, 0x1041);
    assert_int_equal(IVSHMEM_DOORBELL, 0x0c);
    assert_int_equal(IVSHMEM_DOORBELL_PEER, 0xffff0000);
    assert_int_equal(EDU_DMA_CMD, 0x98);
    assert_int_equal(E1000E_TDT0, 0x3818);
    assert_int_equal(PTNET_IO_HOSTMEMID, 48);
    assert_int_equal(PTNET_IO_CSB_HG_BAL, 64);
    assert_int_equal(PTNET_IO_END, 68);
    assert_int_equal(PTNET_IO_KICK_BASE, 128);
    assert_int_equal(PTNETMAP_F_VNET_HDR, 1);
    assert_int_equal(PTNET_MDEV_IO_BUF_POOL_OBJSZ, 96);
    assert_int_equal(PTNET_MDEV_IO_END, 100);
}

static void tables_hold_what_the_lists_say(void **state)
{
    const struct abi_reg *reg = find(block_of(0x1af4, 0x1041, "common"), "device_status");

    (void)state;
    assert_int_equal(reg->offset, VIRTIO_PCI_COMMON_DEVICE_STATUS);
    assert_int_equal(reg->width, 1);
    assert_int_equal(reg->n_fields, 6);
    assert_string_equal(reg->fields[4].name, "device_needs_reset");
    assert_int_equal(reg->fields[4].lsb, 6);

    reg = find(block_of(0x1af4, 0x1041, "device"), "mac");
    assert_int_equal(reg->count, 6);
    assert_int_equal(reg->stride, 1);
    assert_null(reg->fields);

    reg = find(block_of(0x1af4, 0x1110, "regs"), "IntrStatus");
    assert_int_equal(reg->access, ABI_RC);
    reg = find(block_of(0x1234, 0x11e8, "regs"), "dma_cmd");
    assert_int_equal(reg->flags, ABI_UNSAFE);
    reg = find(block_of(0x1b36, 0x000d, "regs"), "KICK");
    assert_int_equal(reg->count, 32);
    assert_int_equal(reg->stride, 4);
    assert_int_equal(find(block_of(0x1b36, 0x000d, "regs"), "PTCTL")->flags, ABI_UNSAFE);
    reg = find(&abi_msix_table_block, "vector_control");
    assert_int_equal(reg->reset, 1);
    assert_int_equal(abi_msix_table_block.stride, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_is_sorted_unique_and_within_its_widths),
        cmocka_unit_test(block_names_of_a_device_are_unique),
        cmocka_unit_test(devices_are_found_by_each_of_their_ids),
        cmocka_unit_test(header_blocks_follow_the_header_type),
        cmocka_unit_test(msi_and_express_capabilities_are_as_long_as_their_control_word_says),
        cmocka_unit_test(constants_are_those_of_the_specifications),
        cmocka_unit_test(tables_hold_what_the_lists_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
