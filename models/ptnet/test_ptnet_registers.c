/*
 * The ptnet device as its registers show it: identity, every register's value, width and effect,
 * commands in every wrong order, CSB addresses that are nowhere.
 */
#include "models/ptnet/test_ptnet_bed.h"

static const struct abi_block *table(void)
{
    return abi_find_device(PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_NETIF_ID)->placements[0].block;
}

/* ---- what it is ---- */

static void it_is_an_ethernet_function_with_a_vector_per_ring(void **state)
{
    struct bed *bed = *state;
    struct pci_model *m = bed->model;

    assert_string_equal(pci_model_name(m), "ptnet-pci");
    assert_int_equal(pci_model_config_read(m, PCI_VENDOR_ID, 4), 0x000d1b36);
    assert_int_equal(pci_model_config_read(m, PCI_REVISION_ID, 4), 0x02000000);
    assert_int_equal(pci_model_config_read(m, PCI_CACHE_LINE_SIZE, 1), 0x10);
    assert_int_equal(pci_model_config_read(m, PCI_INTERRUPT_PIN, 1), 1);
    assert_int_equal(pci_model_config_read(m, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
    assert_true(pci_model_bar(m, 0)->is_io);
    assert_int_equal(pci_model_bar(m, 0)->size, 256);
    assert_int_equal(pci_model_bar(m, 1)->size, 0);
    assert_int_equal(pci_model_bar(m, 2)->size, 4096);
    assert_int_equal(pci_model_config_read(m, PCI_MODEL_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2) &
                         PCI_MSIX_FLAGS_QSIZE,
                     N_RINGS - 1);
    assert_int_equal(pci_model_config_read(m, PCI_MODEL_MSIX_CAPABILITY + PCI_MSIX_TABLE, 4), 2);
}

static uint32_t expected_at_first(struct bed *bed, unsigned offset)
{
    switch (offset) {
    case PTNET_IO_MAC_LO:
        return 0x00123456;
    case PTNET_IO_MAC_HI:
        return 0x5254;
    case PTNET_IO_NIFP_OFS:
        return (uint32_t)((char *)nm_file_if(ptnet_file(bed->pt)) -
                          (char *)nm_memory(ptnet_file(bed->pt)));
    case PTNET_IO_NUM_TX_RINGS:
    case PTNET_IO_NUM_RX_RINGS:
        return 2;
    case PTNET_IO_NUM_TX_SLOTS:
        return TX_SLOTS;
    case PTNET_IO_NUM_RX_SLOTS:
        return RX_SLOTS;
    case PTNET_IO_HOSTMEMID:
        return 1;
    default:
        return 0;
    }
}

static void each_register_reads_as_documented_and_the_rest_as_zero(void **state)
{
    struct bed *bed = *state;

    for (unsigned offset = 0; offset < PTNET_IO_BAR_BYTES; offset += 4)
        assert_int_equal(reg_read(bed, offset), expected_at_first(bed, offset));
    for (unsigned i = 0; i < table()->n_regs; i++) {
        const struct abi_reg *reg = &table()->regs[i];
        if (!(reg->flags & ABI_VARIES))
            assert_int_equal(reg_read(bed, reg->offset), reg->reset);
    }
}

static void the_address_is_the_one_that_was_asked_for(void **state)
{
    struct bed *bed = *state;
    struct ptnet_options options = {.port = "netmap:em0", .mac = {2, 0x11, 0x22, 0x33, 0x44, 0xff}};

    plug(bed, &options);
    assert_int_equal(reg_read(bed, PTNET_IO_MAC_HI), 0x0211);
    assert_int_equal(reg_read(bed, PTNET_IO_MAC_LO), 0x223344ff);
}

static void what_cannot_be_written_stays(void **state)
{
    struct bed *bed = *state;

    for (unsigned i = 0; i < table()->n_regs; i++) {
        const struct abi_reg *reg = &table()->regs[i];
        if (reg->access != ABI_RO && reg->access != ABI_RSVD)
            continue;
        reg_write(bed, reg->offset, 0xffffffff);
        assert_int_equal(reg_read(bed, reg->offset), expected_at_first(bed, reg->offset));
    }
    for (unsigned offset = PTNET_IO_END; offset < PTNET_IO_BAR_BYTES; offset += 4) {
        reg_write(bed, offset, 0xffffffff);
        assert_int_equal(reg_read(bed, offset), 0);
    }
}

/* As QEMU's memory core does it for a device of 4-byte registers. */
static void a_narrow_access_means_the_whole_register(void **state)
{
    struct bed *bed = *state;
    struct pci_model *m = bed->model;

    assert_int_equal(pci_model_bar_read(m, 0, PTNET_IO_MAC_LO, 1), 0x56);
    assert_int_equal(pci_model_bar_read(m, 0, PTNET_IO_MAC_LO + 2, 1), 0x56);
    assert_int_equal(pci_model_bar_read(m, 0, PTNET_IO_MAC_LO, 2), 0x3456);
    pci_model_bar_write(m, 0, PTNET_IO_CSB_GH_BAH, 0xabcd, 2);
    assert_int_equal(reg_read(bed, PTNET_IO_CSB_GH_BAH), 0xabcd);
    pci_model_bar_write(m, 0, PTNET_IO_CSB_GH_BAH + 3, 0x7f, 1);
    assert_int_equal(reg_read(bed, PTNET_IO_CSB_GH_BAH), 0x7f);
    pci_model_bar_write(m, 0, PTNET_IO_CSB_GH_BAH, 0x0000000400000003, 8);
    assert_int_equal(reg_read(bed, PTNET_IO_CSB_GH_BAH), 3);
    assert_int_equal(reg_read(bed, PTNET_IO_CSB_GH_BAL), 4);
}

static void features_are_those_asked_for_and_offered(void **state)
{
    struct bed *bed = *state;

    /* em0 takes no header, so none is offered */
    reg_write(bed, PTNET_IO_PTFEAT, 0xffffffff);
    assert_int_equal(reg_read(bed, PTNET_IO_PTFEAT), 0);
    reg_write(bed, PTNET_IO_VNET_HDR_LEN, 12);
    assert_int_equal(reg_read(bed, PTNET_IO_VNET_HDR_LEN), 0);
}

static void ring_numbers_are_asked_for_at_each_read(void **state)
{
    struct bed *bed = *state;

    bed->na->n_slots[NM_RX] = 77;
    assert_int_equal(reg_read(bed, PTNET_IO_NUM_TX_RINGS), 2);
    bed->na->n_slots[NM_RX] = 78;
    assert_int_equal(reg_read(bed, PTNET_IO_NUM_RX_SLOTS), 78);
    bed->na->n_rings[NM_TX] = 3;
    assert_int_equal(reg_read(bed, PTNET_IO_NUM_TX_RINGS), 3);
    assert_string_equal(bed->last_log,
                        "netmap: em0: ptnet: it has 5 rings now, 4 vectors and kicks");
    bed->na->n_rings[NM_TX] = 2;
    bed->na->n_slots[NM_RX] = RX_SLOTS;
}

/* ---- PTCTL ---- */

static void a_command_nobody_knows_is_invalid(void **state)
{
    struct bed *bed = *state;

    assert_int_equal(control(bed, 0), EINVAL);
    assert_int_equal(control(bed, 3), EINVAL);
    assert_int_equal(control(bed, 0xffffffff), EINVAL);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
    assert_int_equal(reg_read(bed, PTNET_IO_PTCTL), 0);
}

static void create_needs_both_arrays(void **state)
{
    struct bed *bed = *state;

    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
    set_csb(bed, GH_GPA, 0);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
    set_csb(bed, 0, HG_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
    set_csb(bed, GH_GPA, HG_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
    struct ptnet_stats stats = ptnet_stats(bed->pt);
    assert_int_equal(stats.creates, 4);
    assert_int_equal(stats.create_failures, 3);
    assert_int_equal(stats.csb_failures, 0);
}

static void create_fills_the_csb_and_is_done_once(void **state)
{
    struct bed *bed = *state;

    memset(hg(bed), 0xff, CSB_BYTES);
    set_csb(bed, GH_GPA, HG_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
    for (unsigned i = 0; i < N_RINGS; i++) {
        assert_int_equal(gh(bed)[i].head, 0);
        assert_int_equal(gh(bed)[i].appl_need_kick, 1);
        assert_int_equal(gh(bed)[i].sync_flags, 1);
        assert_int_equal(hg(bed)[i].hwcur, 0);
        assert_int_equal(hg(bed)[i].hwtail, i < N_TX ? TX_SLOTS - 1 : 0);
        assert_int_equal(hg(bed)[i].kern_need_kick, 1);
    }
    gh(bed)[TX0].appl_need_kick = 5;
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
    assert_int_equal(gh(bed)[TX0].appl_need_kick, 5);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
    assert_int_equal(gh(bed)[TX0].appl_need_kick, 1);
    assert_int_equal(ptnet_stats(bed->pt).deletes, 2);
}

static void a_csb_that_is_not_aligned_gives_status_one(void **state)
{
    struct bed *bed = *state;

    set_csb(bed, GH_GPA + 32, HG_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 1);
    set_csb(bed, GH_GPA, HG_GPA + 4);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 1);
    assert_int_equal(ptnet_stats(bed->pt).create_failures, 2);
    assert_int_equal(ptnet_stats(bed->pt).csb_failures, 0);
}

static void a_low_half_ends_the_loop_and_its_status_is_that_of_the_delete(void **state)
{
    struct bed *bed = *state;

    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
    reg_write(bed, PTNET_IO_CSB_GH_BAH, 0);
    assert_int_equal(reg_read(bed, PTNET_IO_PTCTL), ENXIO); /* only latched */
    reg_write(bed, PTNET_IO_CSB_GH_BAL, GH_GPA);
    assert_int_equal(reg_read(bed, PTNET_IO_PTCTL), 0);
    reg_write(bed, PTNET_IO_CSB_HG_BAL, HG_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
    assert_int_equal(ptnet_file(bed->pt)->kloop_state, KLOOP_RUNNING);
    reg_write(bed, PTNET_IO_CSB_HG_BAH, 0);
    assert_int_equal(ptnet_file(bed->pt)->kloop_state, KLOOP_RUNNING);
    reg_write(bed, PTNET_IO_CSB_HG_BAL, HG_GPA);
    assert_int_equal(ptnet_file(bed->pt)->kloop_state, 0);
    assert_int_equal(ptnet_stats(bed->pt).deletes, 0); /* no command of the guest's */
}

/* ---- CSB addresses ---- */

static void addresses_outside_memory_or_across_its_end_are_not_mapped(void **state)
{
    static const uint64_t nowhere[] = {
        LOW_GPA - 64,
        LOW_GPA + RAM_BYTES,
        LOW_GPA + RAM_BYTES - CSB_BYTES + 64,
        LOW_GPA - CSB_BYTES / 2,
        64,
        UINT64_MAX - 63,
        UINT64_MAX - CSB_BYTES + 1,
        HIGH_GPA + RAM_BYTES - 64,
        (uint32_t)HIGH_GPA, /* its low half alone */
        UINT64_C(1) << 63,
    };

    struct bed *bed = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(nowhere); i++) {
        set_csb(bed, GH_GPA, nowhere[i]);
        assert_int_equal(reg_read(bed, PTNET_IO_CSB_HG_BAL), (uint32_t)nowhere[i]);
        assert_int_equal(reg_read(bed, PTNET_IO_CSB_HG_BAH), nowhere[i] >> 32);
        assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
        set_csb(bed, nowhere[i], HG_GPA);
        assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
        assert_int_equal(ptnet_stats(bed->pt).csb_failures, 2 * (i + 1));
    }
}

static void the_last_bytes_of_memory_will_do(void **state)
{
    struct bed *bed = *state;

    set_csb(bed, LOW_GPA + RAM_BYTES - CSB_BYTES, HIGH_GPA + RAM_BYTES - CSB_BYTES);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
    struct nm_csb_ktoa *ktoa = (void *)(bed->high + RAM_BYTES - CSB_BYTES);
    assert_int_equal(ktoa[TX1].hwtail, TX_SLOTS - 1);
    assert_int_equal(ktoa[RX1].kern_need_kick, 1);
}

static void an_address_of_zero_takes_the_array_away(void **state)
{
    struct bed *bed = *state;

    set_csb(bed, GH_GPA, HG_GPA);
    set_csb(bed, GH_GPA, 0);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
    assert_int_equal(ptnet_stats(bed->pt).csb_failures, 0);
}

static void a_device_on_no_bus_maps_nothing(void **state)
{
    struct bed *bed = *state;

    pci_model_set_dma(bed->model, NULL);
    set_csb(bed, GH_GPA, HG_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
}

/* ---- without passthrough, and what cannot be made ---- */

static void without_passthrough_writes_are_ignored(void **state)
{
    struct bed *bed = *state;

    plug(bed, &(struct ptnet_options){.port = "netmap:em0", .no_passthrough = true});
    for (unsigned offset = 0; offset < PTNET_IO_BAR_BYTES; offset += 4) {
        reg_write(bed, offset, 0xffffffff);
        assert_int_equal(reg_read(bed, offset), offset == PTNET_IO_MAC_LO   ? 0x00123456
                                                : offset == PTNET_IO_MAC_HI ? 0x5254
                                                                            : 0);
    }
    assert_null(ptnet_file(bed->pt));
    assert_false(ptnet_step(bed->pt));
    assert_false(ptnet_step_ring(bed->pt, 0));
    assert_int_equal(ptnet_kloop_stats(bed->pt).passes, 0);
    pci_model_reset(bed->model);
}

static void expect_refusal(struct bed *bed, const char *port, int code)
{
    g_autoptr(GError) error = NULL;

    assert_null(ptnet_new(bed->host, &(struct ptnet_options){.port = port}, &error));
    assert_non_null(error);
    assert_int_equal(error->domain, NM_ERROR);
    assert_int_equal(error->code, code);
}

static void a_port_that_cannot_be_had_is_refused_with_its_errno(void **state)
{
    struct bed *bed = *state;

    expect_refusal(bed, "netmap:em7", ENXIO);
    expect_refusal(bed, "netmap:em0-1", EINVAL);
    add_port(bed, "wide0", PTNET_MAX_RINGS / 2 + 1);
    expect_refusal(bed, "netmap:wide0", E2BIG);
    plug(bed, &(struct ptnet_options){.port = "netmap:em0"});
    expect_refusal(bed, "netmap:em0", EBUSY); /* exclusive */
    unplug(bed);
    plug(bed, &(struct ptnet_options){.port = "netmap:em0"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STEPPED(it_is_an_ethernet_function_with_a_vector_per_ring),
        STEPPED(each_register_reads_as_documented_and_the_rest_as_zero),
        BARE(the_address_is_the_one_that_was_asked_for),
        STEPPED(what_cannot_be_written_stays),
        STEPPED(a_narrow_access_means_the_whole_register),
        STEPPED(features_are_those_asked_for_and_offered),
        STEPPED(ring_numbers_are_asked_for_at_each_read),
        STEPPED(a_command_nobody_knows_is_invalid),
        STEPPED(create_needs_both_arrays),
        STEPPED(create_fills_the_csb_and_is_done_once),
        STEPPED(a_csb_that_is_not_aligned_gives_status_one),
        STEPPED(a_low_half_ends_the_loop_and_its_status_is_that_of_the_delete),
        STEPPED(addresses_outside_memory_or_across_its_end_are_not_mapped),
        STEPPED(the_last_bytes_of_memory_will_do),
        STEPPED(an_address_of_zero_takes_the_array_away),
        STEPPED(a_device_on_no_bus_maps_nothing),
        BARE(without_passthrough_writes_are_ignored),
        BARE(a_port_that_cannot_be_had_is_refused_with_its_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
