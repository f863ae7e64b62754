/*
 * ptnetmap-memdev: its registers against what netmap says of its pools, the memory behind its BAR,
 * and one of them shared by several ptnets.
 */
#include "models/ptnet/test_ptnet_bed.h"

#include <sys/mman.h>
#include <sys/stat.h>

static struct pci_model *memdev_of(struct bed *bed)
{
    GError *error = NULL;
    struct pci_model *m = memdev_new(ptnet_file(bed->pt), &error);

    assert_null(error);
    assert_non_null(m);
    return m;
}

static uint32_t mread(struct pci_model *m, unsigned offset)
{
    return (uint32_t)pci_model_bar_read(m, PTNETMAP_IO_PCI_BAR, offset, 4);
}

static void it_is_a_function_with_registers_and_memory(void **state)
{
    struct pci_model *m = memdev_of(*state);

    assert_string_equal(pci_model_name(m), "ptnetmap-memdev");
    assert_int_equal(pci_model_config_read(m, PCI_VENDOR_ID, 4), 0x000c1b36);
    assert_int_equal(pci_model_config_read(m, PCI_REVISION_ID, 4), 0x00ff0000);
    assert_int_equal(pci_model_config_read(m, PCI_INTERRUPT_PIN, 1), 0);
    assert_int_equal(pci_model_config_read(m, PCI_CACHE_LINE_SIZE, 1), 0);
    assert_int_equal(pci_model_config_read(m, PCI_CAPABILITY_LIST, 1), 0);
    assert_true(pci_model_bar(m, 0)->is_io);
    assert_int_equal(pci_model_bar(m, 0)->size, 128);
    assert_true(pci_model_bar(m, 1)->is_prefetchable);
    assert_int_equal(pci_model_config_read(m, PCI_BAR1, 4), 0x8); /* 32 bits, prefetchable */
    assert_int_equal(pci_model_bar(m, 2)->size, 0);
    pci_model_free(m);
}

static void each_register_is_what_netmap_says_of_its_pools(void **state)
{
    struct bed *bed = *state;
    struct pci_model *m = memdev_of(bed);
    struct nmreq_pools_info info = {0};
    struct nmreq_header header = {.nr_version = NETMAP_API,
                                  .nr_reqtype = NETMAP_REQ_POOLS_INFO_GET,
                                  .nr_name = "em0",
                                  .nr_body = (uintptr_t)&info};

    assert_int_equal(nm_ctrl(ptnet_file(bed->pt), &header), 0);
    assert_int_equal(mread(m, PTNET_MDEV_IO_MEMSIZE_LO), info.nr_memsize);
    assert_int_equal(mread(m, PTNET_MDEV_IO_MEMSIZE_HI), 0);
    assert_int_equal(mread(m, PTNET_MDEV_IO_MEMID), 1);
    assert_int_equal(mread(m, PTNET_MDEV_IO_IF_POOL_OFS), info.nr_if_pool_offset);
    assert_int_equal(mread(m, PTNET_MDEV_IO_IF_POOL_OBJNUM), info.nr_if_pool_objtotal);
    assert_int_equal(mread(m, PTNET_MDEV_IO_IF_POOL_OBJSZ), 1024);
    assert_int_equal(mread(m, PTNET_MDEV_IO_RING_POOL_OFS), info.nr_ring_pool_offset);
    assert_int_equal(mread(m, PTNET_MDEV_IO_RING_POOL_OBJNUM), info.nr_ring_pool_objtotal);
    assert_int_equal(mread(m, PTNET_MDEV_IO_RING_POOL_OBJSZ), 36864);
    assert_int_equal(mread(m, PTNET_MDEV_IO_BUF_POOL_OFS), info.nr_buf_pool_offset);
    assert_int_equal(mread(m, PTNET_MDEV_IO_BUF_POOL_OBJNUM), info.nr_buf_pool_objtotal);
    assert_int_equal(mread(m, PTNET_MDEV_IO_BUF_POOL_OBJSZ), 2048);
    assert_int_equal(info.nr_buf_pool_objtotal, 4096);
    pci_model_free(m);
}

static void everything_else_reads_zero_and_nothing_can_be_written(void **state)
{
    const struct abi_block *table =
        abi_find_device(PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_DEVICE_ID)->placements[0].block;
    struct pci_model *m = memdev_of(*state);
    uint32_t before[PTNET_MDEV_IO_BAR_BYTES / 4];
    unsigned n_registers = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(before); i++) {
        bool is_register = false;
        for (unsigned k = 0; k < table->n_regs; k++)
            is_register |= table->regs[k].offset == 4 * i;
        before[i] = mread(m, 4 * i);
        if (!is_register)
            assert_int_equal(before[i], 0);
        n_registers += is_register;
    }
    assert_int_equal(n_registers, 12);
    for (unsigned i = 0; i < G_N_ELEMENTS(before); i++)
        pci_model_bar_write(m, PTNETMAP_IO_PCI_BAR, 4 * i, 0xffffffff, 4);
    pci_model_reset(m);
    for (unsigned i = 0; i < G_N_ELEMENTS(before); i++)
        assert_int_equal(mread(m, 4 * i), before[i]);
    assert_int_equal(pci_model_bar_read(m, PTNETMAP_IO_PCI_BAR, PTNET_MDEV_IO_BUF_POOL_OBJSZ, 1),
                     2048 & 0xff);
    assert_int_equal(pci_model_bar_read(m, PTNETMAP_IO_PCI_BAR, PTNET_MDEV_IO_BUF_POOL_OBJSZ, 2),
                     2048);
    pci_model_free(m);
}

static void its_bar_is_the_ports_memory_by_access_and_by_descriptor(void **state)
{
    struct bed *bed = *state;
    struct pci_model *m = memdev_of(bed);
    struct nm_file *file = ptnet_file(bed->pt);
    const struct pci_model_bar *bar = pci_model_bar(m, PTNETMAP_MEM_PCI_BAR);
    uint32_t nifp_ofs = reg_read(bed, PTNET_IO_NIFP_OFS);
    struct stat st;

    assert_int_equal(reg_read(bed, PTNET_IO_HOSTMEMID), mread(m, PTNET_MDEV_IO_MEMID));
    assert_ptr_equal(bar->memory, nm_memory(file));
    assert_int_equal(bar->memory_size, nm_memory_size(file));
    assert_int_equal(bar->size & (bar->size - 1), 0);
    assert_true(bar->size >= bar->memory_size && bar->size / 2 < bar->memory_size);
    assert_int_equal(
        pci_model_bar_read(m, 1, nifp_ofs + offsetof(struct netmap_if, ni_tx_rings), 4), N_TX);
    assert_int_equal(pci_model_bar_read(m, 1, nifp_ofs, 4), 0x00306d65); /* "em0" */

    assert_int_equal(fstat(bar->memory_fd, &st), 0);
    assert_int_equal(st.st_size, bar->size);
    uint8_t *view = mmap(NULL, bar->size, PROT_READ | PROT_WRITE, MAP_SHARED, bar->memory_fd, 0);
    assert_ptr_not_equal(view, MAP_FAILED);
    uint32_t buf = mread(m, PTNET_MDEV_IO_BUF_POOL_OFS) + 7 * 2048;
    pci_model_bar_write(m, 1, buf, 0x11223344, 4);
    assert_int_equal(view[buf], 0x44);
    assert_int_equal(*nm_buf(nm_txring(nm_file_if(file), 0), 7), 0x44);
    if (bar->memory_size < bar->size) {
        pci_model_bar_write(m, 1, bar->size - 4, 0xffffffff, 4);
        assert_int_equal(pci_model_bar_read(m, 1, bar->size - 4, 4), 0);
        assert_int_equal(view[bar->size - 4], 0);
    }
    munmap(view, bar->size);
    pci_model_free(m);
}

static void one_shows_the_memory_of_all_ptnets_of_its_allocator(void **state)
{
    struct bed *bed = *state;
    struct pci_model *m = memdev_of(bed);
    GError *error = NULL;

    add_port(bed, "em1", 1);
    struct pci_model *second = ptnet_new(
        bed->host, &(struct ptnet_options){.port = "netmap:em1", .is_stepped = true}, &error);
    assert_null(error);
    assert_int_equal(pci_model_bar_read(second, 0, PTNET_IO_HOSTMEMID, 4),
                     mread(m, PTNET_MDEV_IO_MEMID));
    uint32_t nifp_ofs = (uint32_t)pci_model_bar_read(second, 0, PTNET_IO_NIFP_OFS, 4);
    assert_int_not_equal(nifp_ofs, reg_read(bed, PTNET_IO_NIFP_OFS));
    assert_int_equal(pci_model_bar_read(m, 1, nifp_ofs, 4), 0x00316d65); /* "em1" */
    pci_model_free(second);
    pci_model_free(m);
}

static void it_outlives_the_port(void **state)
{
    struct bed *bed = *state;
    struct pci_model *m = memdev_of(bed);
    uint32_t size = mread(m, PTNET_MDEV_IO_MEMSIZE_LO);

    unplug(bed);
    assert_int_equal(mread(m, PTNET_MDEV_IO_MEMSIZE_LO), size);
    pci_model_bar_write(m, 1, size - 4, 0xcafe, 4);
    assert_int_equal(pci_model_bar_read(m, 1, size - 4, 4), 0xcafe);
    pci_model_free(m);
}

static void a_file_without_a_port_has_no_memory_to_show(void **state)
{
    struct bed *bed = *state;
    g_autoptr(GError) error = NULL;
    struct nm_file *file = nm_open(bed->host);

    assert_null(memdev_new(file, &error));
    assert_int_equal(error->code, ENXIO);
    nm_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STEPPED(it_is_a_function_with_registers_and_memory),
        STEPPED(each_register_is_what_netmap_says_of_its_pools),
        STEPPED(everything_else_reads_zero_and_nothing_can_be_written),
        STEPPED(its_bar_is_the_ports_memory_by_access_and_by_descriptor),
        STEPPED(one_shows_the_memory_of_all_ptnets_of_its_allocator),
        STEPPED(it_outlives_the_port),
        BARE(a_file_without_a_port_has_no_memory_to_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
