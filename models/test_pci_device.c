/*
 * A modelled PCI function without a bus: configuration space, BARs, MSI-X.
 */
#include "models/abi/pci.h"
#include "models/pci_device.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

enum { IO_BAR = 0, MEMORY_BAR = 1, REGISTER_BAR = 2, MSIX_BAR = 4, N_VECTORS = 70, LOG = 16 };

enum { CAP = PCI_MODEL_MSIX_CAPABILITY, ON = PCI_MSIX_FLAGS_ENABLE, ALL = PCI_MSIX_FLAGS_MASKALL };

struct access {
    unsigned bar, size;
    uint64_t offset, value;
    bool is_write;
};

struct toy {
    struct pci_model *m;
    struct pci_dma *dma;
    struct access log[LOG];
    unsigned n_log, n_resets, n_frees;
    uint64_t answer;
    uint16_t command_at_reset;
    _Alignas(8) uint8_t memory[48];
    _Alignas(8) uint8_t ram[4096];
};

static uint64_t toy_read(void *data, unsigned bar, uint64_t offset, unsigned size)
{
    struct toy *t = data;
    t->log[t->n_log++ % LOG] = (struct access){bar, size, offset, 0, false};
    return t->answer;
}

static void toy_write(void *data, unsigned bar, uint64_t offset, uint64_t value, unsigned size)
{
    struct toy *t = data;
    t->log[t->n_log++ % LOG] = (struct access){bar, size, offset, value, true};
}

static void toy_reset(void *data)
{
    struct toy *t = data;
    t->n_resets++;
    t->command_at_reset = (uint16_t)pci_model_config_read(t->m, PCI_COMMAND, 2);
}

static void toy_free(void *data)
{
    ((struct toy *)data)->n_frees++;
}

static const struct pci_model_ops toy_ops = {"toy", toy_read, toy_write, toy_reset, toy_free};

static struct pci_model_options toy_options(struct toy *t)
{
    return (struct pci_model_options){
        .vendor_id = 0x1b36,
        .device_id = 0x000d,
        .subsystem_vendor_id = 0x1af4,
        .subsystem_id = 0x1100,
        .class_code = 0x020001,
        .revision = 3,
        .interrupt_pin = 1,
        .cache_line = 0x10,
        .bars = {[IO_BAR] = {.size = 64, .is_io = true},
                 [MEMORY_BAR] = {.size = 4096,
                                 .is_prefetchable = true,
                                 .memory = t->memory,
                                 .memory_size = sizeof(t->memory) - 1},
                 [REGISTER_BAR] = {.size = 16}},
        .n_vectors = N_VECTORS,
        .msix_bar = MSIX_BAR,
    };
}

static int set_up(void **state)
{
    struct toy *t = g_new0(struct toy, 1);
    struct pci_model_options options = toy_options(t);
    t->m = pci_model_new(&toy_ops, t, &options, NULL);
    assert_non_null(t->m);
    struct pci_dma_range ram = {0x10000, sizeof(t->ram), t->ram};
    t->dma = pci_dma_new();
    pci_dma_set(t->dma, &ram, 1, NULL, NULL);
    pci_model_set_dma(t->m, t->dma);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct toy *t = *state;
    pci_model_free(t->m);
    pci_dma_free(t->dma);
    assert_int_equal(t->n_frees, 1);
    g_free(t);
    return 0;
}

static uint32_t cfg(struct toy *t, unsigned offset, unsigned size)
{
    return pci_model_config_read(t->m, offset, size);
}

static void set_cfg(struct toy *t, unsigned offset, uint32_t value, unsigned size)
{
    pci_model_config_write(t->m, offset, value, size);
}

/* ---- configuration space ---- */

static void the_header_says_what_the_options_say(void **state)
{
    struct toy *t = *state;
    assert_string_equal(pci_model_name(t->m), "toy");
    assert_ptr_equal(pci_model_data(t->m), t);
    assert_int_equal(cfg(t, 0x00, 4), 0x000d1b36);
    assert_int_equal(cfg(t, 0x04, 4), 0x00100000);
    assert_int_equal(cfg(t, 0x08, 4), 0x02000103);
    assert_int_equal(cfg(t, 0x0c, 4), 0x00000010);
    assert_int_equal(cfg(t, 0x10, 4), 0x00000001);
    assert_int_equal(cfg(t, 0x14, 4), 0x00000008);
    assert_int_equal(cfg(t, 0x18, 4), 0x00000000);
    assert_int_equal(cfg(t, 0x28, 4), 0x00000000);
    assert_int_equal(cfg(t, 0x2c, 4), 0x11001af4);
    assert_int_equal(cfg(t, 0x30, 4), 0x00000000);
    assert_int_equal(cfg(t, 0x34, 4), 0x00000040);
    assert_int_equal(cfg(t, 0x3c, 4), 0x00000100);
    assert_int_equal(cfg(t, CAP, 4), 0x00450011); /* 70 vectors */
    assert_int_equal(cfg(t, CAP + 4, 4), 0x00000004);
    assert_int_equal(cfg(t, CAP + 8, 4), 0x00000804); /* half of 4 KiB */
}

static void only_what_is_writable_can_be_written(void **state)
{
    struct toy *t = *state;
    for (unsigned i = 0; i < PCI_MODEL_CONFIG_BYTES; i += 4) {
        set_cfg(t, i, 0xffffffff, 4);
    }
    assert_int_equal(cfg(t, 0x00, 4), 0x000d1b36);
    assert_int_equal(cfg(t, 0x04, 4), 0x00100507);
    assert_int_equal(cfg(t, 0x08, 4), 0x02000103);
    assert_int_equal(cfg(t, 0x0c, 4), 0x000000ff);
    assert_int_equal(cfg(t, 0x10, 4), 0xffffffc1);
    assert_int_equal(cfg(t, 0x14, 4), 0xfffff008);
    assert_int_equal(cfg(t, 0x18, 4), 0xfffffff0);
    assert_int_equal(cfg(t, 0x1c, 4), 0);
    assert_int_equal(cfg(t, 0x20, 4), 0xfffff000);
    assert_int_equal(cfg(t, 0x24, 4), 0);
    assert_int_equal(cfg(t, 0x28, 4), 0);
    assert_int_equal(cfg(t, 0x30, 4), 0);
    assert_int_equal(cfg(t, 0x3c, 4), 0x000001ff);
    assert_int_equal(cfg(t, CAP, 4), 0xc0450011);
    assert_int_equal(cfg(t, CAP + 4, 4), 0x00000004);
    assert_int_equal(cfg(t, 0xfc, 4), 0);
}

static void configuration_space_takes_every_width_and_place(void **state)
{
    struct toy *t = *state;
    set_cfg(t, PCI_BAR1 + 3, 0xab, 1);
    set_cfg(t, PCI_BAR1 + 1, 0xcdef, 2);
    assert_int_equal(cfg(t, PCI_BAR1, 4), 0xabcde008);
    assert_int_equal(cfg(t, PCI_BAR1 + 1, 2), 0xcde0);
    assert_int_equal(cfg(t, PCI_BAR1 + 3, 1), 0xab);
    assert_int_equal(cfg(t, 0x01, 4), 0x00000d1b);
    /* across the end, and beyond it */
    assert_int_equal(cfg(t, 0xfe, 4), 0xffff0000);
    assert_int_equal(cfg(t, 0x100, 2), 0xffff);
    assert_int_equal(cfg(t, UINT_MAX, 4), 0xffffffff);
    set_cfg(t, 0xfe, 0xffffffff, 4);
    set_cfg(t, UINT_MAX, 0xffffffff, 4);
    assert_int_equal(cfg(t, 0x00, 4), 0x000d1b36);
}

static void a_reset_takes_everything_back_and_then_tells_the_model(void **state)
{
    struct toy *t = *state;
    set_cfg(t, PCI_COMMAND, 0x507, 2);
    set_cfg(t, PCI_BAR0, 0xc000, 4);
    set_cfg(t, PCI_INTERRUPT_LINE, 11, 1);
    set_cfg(t, CAP + PCI_MSIX_FLAGS, ON | ALL, 2);
    pci_model_bar_write(t->m, MSIX_BAR, 0x10, 0x1234, 4);
    pci_model_bar_write(t->m, MSIX_BAR, 0x1c, 0, 4);
    pci_model_raise(t->m, 1);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 1), 2);

    pci_model_reset(t->m);
    assert_int_equal(t->n_resets, 1);
    assert_int_equal(t->command_at_reset, 0);
    assert_int_equal(cfg(t, PCI_COMMAND, 4), 0x00100000);
    assert_int_equal(cfg(t, PCI_CACHE_LINE_SIZE, 4), 0); /* QEMU's reset clears it, too */
    assert_int_equal(cfg(t, PCI_BAR0, 4), 1);
    assert_int_equal(cfg(t, PCI_INTERRUPT_LINE, 2), 0x0100);
    assert_int_equal(cfg(t, CAP, 4), 0x00450011);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 0x10, 4), 0);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 0x1c, 4), 1);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 1), 0);
}

/* ---- BARs ---- */

static void an_address_is_found_while_its_space_is_on_and_its_bar_placed(void **state)
{
    struct toy *t = *state;
    uint64_t offset = 99;
    set_cfg(t, PCI_BAR0, 0xc000, 4);
    set_cfg(t, PCI_BAR1, 0xc000, 4);
    assert_int_equal(pci_model_decode(t->m, true, 0xc000, &offset), -1);
    set_cfg(t, PCI_COMMAND, PCI_COMMAND_IO, 2);
    assert_int_equal(pci_model_decode(t->m, true, 0xc03f, &offset), IO_BAR);
    assert_int_equal(offset, 0x3f);
    assert_int_equal(pci_model_decode(t->m, true, 0xc040, &offset), -1);
    assert_int_equal(pci_model_decode(t->m, true, 0xbfff, &offset), -1);
    assert_int_equal(pci_model_decode(t->m, false, 0xc000, &offset), -1);
    set_cfg(t, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(pci_model_decode(t->m, true, 0xc000, &offset), -1);
    assert_int_equal(pci_model_decode(t->m, false, 0xc123, &offset), MEMORY_BAR);
    assert_int_equal(offset, 0x123);
    assert_int_equal(pci_model_decode(t->m, false, 0x10000c123, &offset), -1);

    /* not placed: at 0; at the end of I/O space it ends there */
    assert_int_equal(pci_model_decode(t->m, false, 0, &offset), -1);
    set_cfg(t, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY, 2);
    set_cfg(t, PCI_BAR0, 0xffc0, 4);
    assert_int_equal(pci_model_decode(t->m, true, 0xffff, &offset), IO_BAR);
    set_cfg(t, PCI_BAR0, 0x10000, 4);
    assert_int_equal(pci_model_decode(t->m, true, 0x10000, &offset), -1);
    set_cfg(t, PCI_BAR2, 0xfffffff0, 4);
    assert_int_equal(pci_model_decode(t->m, false, 0xffffffff, &offset), REGISTER_BAR);
    assert_int_equal(offset, 15);
}

static void expect_access(struct toy *t, unsigned n, struct access a)
{
    assert_int_equal(t->log[n].bar, a.bar);
    assert_int_equal(t->log[n].offset, a.offset);
    assert_int_equal(t->log[n].size, a.size);
    assert_int_equal(t->log[n].value, a.value);
    assert_int_equal(t->log[n].is_write, a.is_write);
}

static void registers_are_reached_at_their_bar_offset_and_size(void **state)
{
    struct toy *t = *state;
    t->answer = 0x1122334455667788;
    assert_int_equal(pci_model_bar_read(t->m, IO_BAR, 0x3c, 4), 0x55667788);
    assert_int_equal(pci_model_bar_read(t->m, REGISTER_BAR, 2, 2), 0x7788);
    assert_int_equal(pci_model_bar_read(t->m, REGISTER_BAR, 15, 1), 0x88);
    pci_model_bar_write(t->m, IO_BAR, 4, 0xdeadbeef, 2);
    assert_int_equal(t->n_log, 4);
    expect_access(t, 0, (struct access){IO_BAR, 4, 0x3c, 0, false});
    expect_access(t, 1, (struct access){REGISTER_BAR, 2, 2, 0, false});
    expect_access(t, 2, (struct access){REGISTER_BAR, 1, 15, 0, false});
    expect_access(t, 3, (struct access){IO_BAR, 2, 4, 0xbeef, true});
}

static void what_is_wide_or_unaligned_comes_in_aligned_pieces(void **state)
{
    struct toy *t = *state;
    t->answer = 0xa5a5a5a5;
    assert_true(pci_model_bar_read(t->m, REGISTER_BAR, 0, 8) == 0xa5a5a5a5a5a5a5a5);
    pci_model_bar_write(t->m, REGISTER_BAR, 8, 0x1122334455667788, 8);
    pci_model_bar_write(t->m, REGISTER_BAR, 1, 0x11223344, 4);
    assert_int_equal(t->n_log, 7);
    expect_access(t, 0, (struct access){REGISTER_BAR, 4, 0, 0, false});
    expect_access(t, 1, (struct access){REGISTER_BAR, 4, 4, 0, false});
    expect_access(t, 2, (struct access){REGISTER_BAR, 4, 8, 0x55667788, true});
    expect_access(t, 3, (struct access){REGISTER_BAR, 4, 12, 0x11223344, true});
    expect_access(t, 4, (struct access){REGISTER_BAR, 1, 1, 0x44, true});
    expect_access(t, 5, (struct access){REGISTER_BAR, 2, 2, 0x2233, true});
    expect_access(t, 6, (struct access){REGISTER_BAR, 1, 4, 0x11, true});
}

static void outside_a_bar_there_is_nothing(void **state)
{
    struct toy *t = *state;
    assert_int_equal(pci_model_bar_read(t->m, REGISTER_BAR, 16, 4), 0xffffffff);
    assert_int_equal(pci_model_bar_read(t->m, 3, 0, 2), 0xffff);
    assert_int_equal(pci_model_bar_read(t->m, 6, 0, 1), 0xff);
    assert_true(pci_model_bar_read(t->m, REGISTER_BAR, UINT64_MAX, 8) == UINT64_MAX);
    pci_model_bar_write(t->m, REGISTER_BAR, 16, 0, 4);
    pci_model_bar_write(t->m, 6, 0, 0, 4);
    assert_int_equal(t->n_log, 0);
    /* across the end: what is inside is reached */
    assert_int_equal(pci_model_bar_read(t->m, REGISTER_BAR, 14, 4), 0xffff0000);
    pci_model_bar_write(t->m, REGISTER_BAR, 15, 0x1234, 2);
    assert_int_equal(t->n_log, 2);
    expect_access(t, 0, (struct access){REGISTER_BAR, 2, 14, 0, false});
    expect_access(t, 1, (struct access){REGISTER_BAR, 1, 15, 0x34, true});
}

static void a_bar_of_memory_is_that_memory_and_zeros_beyond_it(void **state)
{
    struct toy *t = *state;
    for (unsigned i = 0; i < sizeof(t->memory); i++)
        t->memory[i] = (uint8_t)i;
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 0, 1), 0x00);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 2, 2), 0x0302);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 40, 4), 0x2b2a2928);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 46, 1), 0x2e);
    assert_true(pci_model_bar_read(t->m, MEMORY_BAR, 8, 8) == 0x0f0e0d0c0b0a0908);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 1, 4), 0x04030201);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 48, 4), 0);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 4095, 1), 0);
    pci_model_bar_write(t->m, MEMORY_BAR, 7, 0x99887766, 4);
    assert_memory_equal(t->memory + 6, "\x06\x66\x77\x88\x99\x0b", 6);
    /* at the end of it, 47 bytes: what crosses the end is beyond */
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 47, 1), 0);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 46, 2), 0);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 44, 4), 0);
    pci_model_bar_write(t->m, MEMORY_BAR, 45, 0xaabbccdd, 4);
    pci_model_bar_write(t->m, MEMORY_BAR, 44, 0xaabbccdd, 4);
    assert_memory_equal(t->memory + 44, "\x2c\xdd\x2e\x2f", 4);
    pci_model_bar_write(t->m, MEMORY_BAR, 100, 1, 4);
    assert_int_equal(pci_model_bar_read(t->m, MEMORY_BAR, 100, 4), 0);
    assert_int_equal(t->n_log, 0);
}

/* ---- MSI-X ---- */

static void set_vector(struct toy *t, unsigned vector, uint64_t address, uint32_t value)
{
    pci_model_bar_write(t->m, MSIX_BAR, vector * 16, address, 8);
    pci_model_bar_write(t->m, MSIX_BAR, vector * 16 + 8, value, 8); /* and unmasked */
}

static uint32_t ram32(const struct toy *t, unsigned offset)
{
    uint32_t value;
    memcpy(&value, t->ram + offset, 4);
    return value;
}

static void switch_on(struct toy *t)
{
    set_cfg(t, PCI_COMMAND, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 2);
    set_cfg(t, CAP + PCI_MSIX_FLAGS, ON, 2);
}

static uint64_t n_messages(struct toy *t)
{
    return pci_model_stats(t->m).messages;
}

static void a_raised_vector_stores_its_message_in_guest_memory(void **state)
{
    struct toy *t = *state;
    set_vector(t, 0, 0x10000, 0x11111111);
    set_vector(t, 69, 0x10ffc, 0x69696969);
    assert_false(pci_model_msix_enabled(t->m));
    switch_on(t);
    assert_true(pci_model_msix_enabled(t->m));
    pci_model_raise(t->m, 69);
    assert_int_equal(ram32(t, 0xffc), 0x69696969);
    assert_int_equal(ram32(t, 0), 0);
    pci_model_raise(t->m, 0);
    assert_int_equal(ram32(t, 0), 0x11111111);
    assert_int_equal(n_messages(t), 2);
    pci_model_raise(t->m, 70);
    pci_model_raise(t->m, UINT_MAX);
    assert_int_equal(n_messages(t), 2);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 8), 0);
}

static void nothing_is_sent_or_kept_while_off_or_without_bus_mastering(void **state)
{
    struct toy *t = *state;
    set_vector(t, 3, 0x10000, 1);
    pci_model_raise(t->m, 3);
    set_cfg(t, CAP + PCI_MSIX_FLAGS, ON, 2);
    pci_model_raise(t->m, 3);
    set_cfg(t, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
    set_cfg(t, CAP + PCI_MSIX_FLAGS, 0, 2);
    pci_model_raise(t->m, 3);
    set_cfg(t, CAP + PCI_MSIX_FLAGS, ON, 2);
    assert_int_equal(n_messages(t), 0);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 8), 0);
    pci_model_raise(t->m, 3);
    assert_int_equal(n_messages(t), 1);
}

static void a_masked_vector_is_pending_until_it_is_unmasked(void **state)
{
    struct toy *t = *state;
    switch_on(t);
    set_vector(t, 65, 0x10010, 5);
    pci_model_bar_write(t->m, MSIX_BAR, 65 * 16 + 12, 1, 4);
    pci_model_raise(t->m, 65);
    pci_model_raise(t->m, 65);
    pci_model_raise(t->m, 2); /* masked from the start */
    assert_int_equal(n_messages(t), 0);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048 + 8, 8), 2);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 8), 4);
    /* other fields of the entry send nothing, the mask bit does, once */
    pci_model_bar_write(t->m, MSIX_BAR, 65 * 16 + 8, 6, 4);
    assert_int_equal(n_messages(t), 0);
    pci_model_bar_write(t->m, MSIX_BAR, 65 * 16 + 12, 0, 4);
    assert_int_equal(n_messages(t), 1);
    assert_int_equal(ram32(t, 0x10), 6);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048 + 8, 8), 0);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 8), 4);
}

static void a_masked_function_keeps_all_its_vectors_pending(void **state)
{
    struct toy *t = *state;
    switch_on(t);
    set_vector(t, 0, 0x10000, 1);
    set_vector(t, 1, 0x10004, 2);
    set_cfg(t, CAP + PCI_MSIX_FLAGS, ON | ALL, 2);
    pci_model_raise(t->m, 0);
    pci_model_raise(t->m, 1);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 4), 3);
    assert_int_equal(n_messages(t), 0);
    set_cfg(t, CAP + PCI_MSIX_FLAGS + 1, ON >> 8, 1); /* the upper byte alone */
    assert_int_equal(n_messages(t), 2);
    assert_int_equal(ram32(t, 0), 1);
    assert_int_equal(ram32(t, 4), 2);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 4), 0);
}

static void pending_bits_cannot_be_written_and_the_rest_of_the_bar_is_0(void **state)
{
    struct toy *t = *state;
    switch_on(t);
    pci_model_bar_write(t->m, MSIX_BAR, 2048, UINT64_MAX, 8);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 8), 0);
    pci_model_bar_write(t->m, MSIX_BAR, N_VECTORS * 16, 0xffffffff, 4);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, N_VECTORS * 16, 4), 0);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048 + 16, 4), 0);
    /* the last entry has all its bits */
    pci_model_bar_write(t->m, MSIX_BAR, 69 * 16 + 8, 0xffffffff, 4);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 69 * 16 + 8, 4), 0xffffffff);
    assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 69 * 16 + 11, 1), 0xff);
}

static void a_message_to_nowhere_is_counted_as_lost(void **state)
{
    struct toy *t = *state;
    switch_on(t);
    set_vector(t, 0, 0xfee00000, 0x41);
    set_vector(t, 1, 0x10002, 0x42);
    set_vector(t, 2, 0x11000, 0x43);
    for (unsigned i = 0; i < 3; i++)
        pci_model_raise(t->m, i);
    pci_model_set_dma(t->m, NULL);
    set_vector(t, 3, 0x10000, 0x44);
    pci_model_raise(t->m, 3);
    assert_int_equal(n_messages(t), 0);
    assert_int_equal(pci_model_stats(t->m).messages_lost, 4);
}

struct message {
    uint64_t address;
    uint32_t value;
};

static bool take_message(void *data, uint64_t address, uint32_t value)
{
    struct message *message = data;
    *message = (struct message){address, value};
    return value != 0;
}

static void messages_that_are_not_for_memory_go_where_they_are_told_to(void **state)
{
    struct toy *t = *state;
    struct message message = {0};
    pci_model_set_msi(t->m, take_message, &message);
    switch_on(t);
    set_vector(t, 0, 0x1fee01004, 0x26);
    set_vector(t, 1, 0xfee00000, 0);
    set_vector(t, 2, 0x10000, 7);
    pci_model_raise(t->m, 0);
    assert_true(message.address == 0x1fee01004);
    assert_int_equal(message.value, 0x26);
    pci_model_raise(t->m, 1);
    assert_int_equal(message.address, 0xfee00000);
    assert_int_equal(n_messages(t), 1);
    assert_int_equal(pci_model_stats(t->m).messages_lost, 1);
    pci_model_raise(t->m, 2);
    assert_int_equal(message.address, 0xfee00000);
    assert_int_equal(ram32(t, 0), 7);
    assert_int_equal(n_messages(t), 2);
}

/* ---- from other threads ---- */

enum { N_ROUNDS = 100 };

struct raiser {
    struct pci_model *m;
    atomic_bool is_done;
    atomic_uint n_raised;
};

static void *raise_all_the_time(void *data)
{
    struct raiser *r = data;
    while (!r->is_done) {
        pci_model_raise(r->m, 5);
        r->n_raised++;
    }
    return NULL;
}

static void wait_for_another(struct raiser *r)
{
    unsigned n = r->n_raised;
    while (r->n_raised < n + 2)
        sched_yield();
}

static void once_a_vector_is_masked_no_message_comes_though_others_raise_it(void **state)
{
    struct toy *t = *state;
    struct raiser r = {.m = t->m};
    _Atomic uint32_t *word = (void *)(t->ram + 0x20);
    pthread_t thread;
    switch_on(t);
    set_vector(t, 5, 0x10020, 0x55);
    assert_int_equal(pthread_create(&thread, NULL, raise_all_the_time, &r), 0);
    for (unsigned i = 0; i < N_ROUNDS; i++) {
        pci_model_bar_write(t->m, MSIX_BAR, 5 * 16 + 12, 1, 4);
        atomic_store(word, 0);
        wait_for_another(&r);
        assert_int_equal(atomic_load(word), 0);
        assert_int_equal(pci_model_bar_read(t->m, MSIX_BAR, 2048, 4), 1 << 5);
        pci_model_bar_write(t->m, MSIX_BAR, 5 * 16 + 12, 0, 4); /* what is pending is sent */
        assert_int_equal(atomic_load(word), 0x55);
    }
    r.is_done = true;
    pthread_join(thread, NULL);
}

static void accesses_are_counted(void **state)
{
    struct toy *t = *state;
    cfg(t, 0, 4);
    set_cfg(t, 4, 0, 2);
    set_cfg(t, 4, 0, 2);
    for (unsigned i = 0; i < 3; i++)
        pci_model_bar_read(t->m, IO_BAR, 0, 4);
    pci_model_bar_write(t->m, IO_BAR, 0, 0, 4);
    struct pci_model_stats stats = pci_model_stats(t->m);
    assert_int_equal(stats.config_reads, 1);
    assert_int_equal(stats.config_writes, 2);
    assert_int_equal(stats.bar_reads, 3);
    assert_int_equal(stats.bar_writes, 1);
}

/* ---- what cannot be ---- */

static void expect_refused(struct toy *t, const struct pci_model_options *options)
{
    g_autoptr(GError) error = NULL;
    assert_null(pci_model_new(&toy_ops, t, options, &error));
    assert_true(g_error_matches(error, PCI_MODEL_ERROR, PCI_MODEL_ERROR_INVALID));
    assert_int_equal(t->n_frees, 0);
}

static void bars_that_cannot_be_are_refused(void **state)
{
    struct toy *t = *state;
    static const struct pci_model_bar bad[] = {
        {.size = 8, .is_io = true},
        {.size = 512, .is_io = true},
        {.size = 48, .is_io = true},
        {.size = 8},
        {.size = 0x80000000},
        {.size = 4097},
        {.size = 64, .is_io = true, .is_prefetchable = true},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct pci_model_options options = toy_options(t);
        options.bars[5] = bad[i];
        expect_refused(t, &options);
    }
    struct pci_model_options options = toy_options(t);
    options.bars[MEMORY_BAR].memory = t->memory + 4;
    expect_refused(t, &options);
    options.bars[MEMORY_BAR].memory = t->memory;
    options.bars[IO_BAR].memory = t->memory;
    expect_refused(t, &options);
}

static void vectors_that_cannot_be_are_refused(void **state)
{
    struct toy *t = *state;
    struct pci_model_options options = toy_options(t);
    options.n_vectors = 2049;
    expect_refused(t, &options);
    options.n_vectors = 1;
    options.msix_bar = 6;
    expect_refused(t, &options);
    options.msix_bar = IO_BAR;
    expect_refused(t, &options);
    options.msix_bar = MEMORY_BAR;
    expect_refused(t, &options);
    options.msix_bar = REGISTER_BAR; /* 16 bytes: no room for pending bits */
    expect_refused(t, &options);
    options.msix_bar = 5;
    options.bars[5].size = 64;
    options.n_vectors = 3;
    expect_refused(t, &options);
    options.n_vectors = 2;
    struct pci_model *m = pci_model_new(&toy_ops, t, &options, NULL);
    assert_non_null(m);
    pci_model_free(m);
    t->n_frees = 0;
}

static void as_many_vectors_as_the_specification_has_fit(void **state)
{
    struct toy *t = *state;
    struct pci_model_options options = {.n_vectors = 2048, .msix_bar = 0};
    static const struct pci_model_ops bare = {.name = "bare"};
    struct pci_model *m = pci_model_new(&bare, t, &options, NULL);
    assert_non_null(m);
    assert_int_equal(pci_model_bar(m, 0)->size, 65536);
    assert_null(pci_model_bar(m, 6));
    assert_int_equal(pci_model_config_read(m, CAP + PCI_MSIX_FLAGS, 2), 2047);
    assert_int_equal(pci_model_config_read(m, CAP + PCI_MSIX_PBA, 4), 32768);
    pci_model_config_write(m, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
    pci_model_config_write(m, CAP + PCI_MSIX_FLAGS, ON, 2);
    pci_model_raise(m, 2047);
    assert_int_equal(pci_model_bar_read(m, 0, 32768 + 255, 1), 0x80);
    pci_model_reset(m);
    assert_int_equal(pci_model_bar_read(m, 0, 32768 + 255, 1), 0);
    pci_model_free(m);
}

static void a_function_without_vectors_shows_no_capability(void **state)
{
    struct toy *t = *state;
    struct pci_model_options options = toy_options(t);
    static const struct pci_model_ops bare = {.name = "bare"};
    options.n_vectors = 0;
    struct pci_model *m = pci_model_new(&bare, t, &options, NULL);
    assert_int_equal(pci_model_config_read(m, PCI_STATUS, 2), 0);
    assert_int_equal(pci_model_config_read(m, PCI_CAPABILITY_LIST, 1), 0);
    assert_int_equal(pci_model_config_read(m, CAP, 4), 0);
    assert_false(pci_model_msix_enabled(m));
    pci_model_raise(m, 0);
    assert_int_equal(pci_model_bar_read(m, IO_BAR, 0, 4), 0); /* no read function */
    pci_model_bar_write(m, IO_BAR, 0, 1, 4);
    pci_model_reset(m);
    pci_model_free(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_header_says_what_the_options_say),
        TEST(only_what_is_writable_can_be_written),
        TEST(configuration_space_takes_every_width_and_place),
        TEST(a_reset_takes_everything_back_and_then_tells_the_model),
        TEST(an_address_is_found_while_its_space_is_on_and_its_bar_placed),
        TEST(registers_are_reached_at_their_bar_offset_and_size),
        TEST(what_is_wide_or_unaligned_comes_in_aligned_pieces),
        TEST(outside_a_bar_there_is_nothing),
        TEST(a_bar_of_memory_is_that_memory_and_zeros_beyond_it),
        TEST(a_raised_vector_stores_its_message_in_guest_memory),
        TEST(nothing_is_sent_or_kept_while_off_or_without_bus_mastering),
        TEST(a_masked_vector_is_pending_until_it_is_unmasked),
        TEST(a_masked_function_keeps_all_its_vectors_pending),
        TEST(pending_bits_cannot_be_written_and_the_rest_of_the_bar_is_0),
        TEST(a_message_to_nowhere_is_counted_as_lost),
        TEST(messages_that_are_not_for_memory_go_where_they_are_told_to),
        TEST(once_a_vector_is_masked_no_message_comes_though_others_raise_it),
        TEST(accesses_are_counted),
        TEST(bars_that_cannot_be_are_refused),
        TEST(vectors_that_cannot_be_are_refused),
        TEST(as_many_vectors_as_the_specification_has_fit),
        TEST(a_function_without_vectors_shows_no_capability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
