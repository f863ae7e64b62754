/*
 * The ptnet device at work: kicks, passes and interrupts counted one by one while it is stepped;
 * resets, memory that changes under it, wrong orders; and the same with its thread.
 */
#include "models/ptnet/test_ptnet_bed.h"

#include <pthread.h>
#include <sched.h>

static void create(struct bed *bed)
{
    set_csb(bed, GH_GPA, HG_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
}

static void kick(struct bed *bed, unsigned ring)
{
    reg_write(bed, PTNET_IO_KICK_BASE + 4 * ring, 0);
}

/* ---- stepped: kicks ---- */

static void a_kick_asks_for_a_pass_and_a_pass_sends(void **state)
{
    struct bed *bed = *state;

    create(bed);
    assert_true(ptnet_step(bed->pt)); /* the first one comes unasked */
    assert_false(ptnet_step(bed->pt));
    assert_int_equal(hg(bed)[TX1].kern_need_kick, 1);
    guest_says(bed, TX1, 3);
    kick(bed, TX1);
    assert_int_equal(hg(bed)[TX1].hwcur, 0);
    assert_true(ptnet_step(bed->pt));
    assert_int_equal(hg(bed)[TX1].hwcur, 3);
    assert_int_equal(hg(bed)[TX1].hwtail, 2);
    assert_int_equal(bed->n_syncs[TX1], 3);
    struct ptnet_stats stats = ptnet_stats(bed->pt);
    assert_int_equal(stats.kicks[TX1], 1);
    assert_int_equal(stats.kicks[TX0], 0);
    struct kloop_stats loop = ptnet_kloop_stats(bed->pt);
    assert_int_equal(loop.passes, 3);
    assert_int_equal(loop.kicks_seen, 1);
}

static void only_four_bytes_to_a_ring_that_is_there_are_a_kick(void **state)
{
    struct bed *bed = *state;

    create(bed);
    ptnet_step(bed->pt);
    for (unsigned i = 0; i < PTNET_MAX_KICKS; i++)
        reg_write(bed, PTNET_IO_KICK_BASE + 4 * i, 0xdeadbeef);
    pci_model_bar_write(bed->model, 0, PTNET_IO_KICK_BASE, 0, 2);
    pci_model_bar_write(bed->model, 0, PTNET_IO_KICK_BASE + 1, 0, 1);
    pci_model_bar_write(bed->model, 0, PTNET_IO_KICK_BASE - 4, 0, 4);
    struct ptnet_stats stats = ptnet_stats(bed->pt);
    for (unsigned i = 0; i < PTNET_MAX_RINGS; i++)
        assert_int_equal(stats.kicks[i], i < N_RINGS);
    assert_int_equal(ptnet_kloop_stats(bed->pt).kicks_seen, N_RINGS);
    pci_model_bar_write(bed->model, 0, PTNET_IO_KICK_BASE, 0, 8); /* two of four bytes */
    stats = ptnet_stats(bed->pt);
    assert_int_equal(stats.kicks[TX0], 2);
    assert_int_equal(stats.kicks[TX1], 2);
}

static void a_kick_without_a_loop_is_counted_and_nothing_else(void **state)
{
    struct bed *bed = *state;

    kick(bed, RX0);
    assert_false(ptnet_step(bed->pt));
    create(bed);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
    guest_says(bed, TX0, 3);
    kick(bed, TX0);
    assert_false(ptnet_step(bed->pt));
    assert_false(ptnet_step_ring(bed->pt, TX0));
    assert_int_equal(hg(bed)[TX0].hwcur, 0);
    assert_int_equal(bed->n_syncs[TX0], 0);
    assert_int_equal(ptnet_stats(bed->pt).kicks[RX0], 1);
    assert_int_equal(ptnet_kloop_stats(bed->pt).kicks_seen, 0);
}

static void one_ring_is_stepped_alone(void **state)
{
    struct bed *bed = *state;

    create(bed);
    guest_says(bed, TX0, 2);
    assert_true(ptnet_step_ring(bed->pt, TX0));
    assert_int_equal(hg(bed)[TX0].hwcur, 2);
    assert_int_equal(bed->n_syncs[TX0], 1);
    assert_int_equal(bed->n_syncs[TX1], 0);
    assert_false(ptnet_step_ring(bed->pt, N_RINGS));
}

static void a_direct_ring_is_synced_in_the_kick_and_interrupted_by_the_port(void **state)
{
    struct bed *bed = *state;
    struct ptnet_options options = {
        .port = "netmap:em0", .is_stepped = true, .kloop_direct_tx = true, .kloop_direct_rx = true};

    plug(bed, &options);
    enable_msix(bed, N_RINGS);
    create(bed);
    guest_says(bed, TX0, 3);
    kick(bed, TX0);
    assert_int_equal(hg(bed)[TX0].hwcur, 3);
    assert_int_equal(msi_word(bed, TX0), 0);
    nm_notify(&bed->na->krings[NM_RX][1], 0);
    assert_int_equal(msi_word(bed, RX0), 0x102);
    assert_int_equal(msi_word(bed, RX1), 0x103);
    bed->arriving = 4;
    kick(bed, RX0);
    assert_int_equal(hg(bed)[RX0].hwtail, 4);
}

/* ---- stepped: interrupts ---- */

static void each_ring_has_the_vector_of_its_number(void **state)
{
    struct bed *bed = *state;

    create(bed);
    bed->arriving = 1;
    guest_says(bed, TX1, 1);
    ptnet_step(bed->pt);
    assert_int_equal(msi_word(bed, TX0), 0);
    assert_int_equal(msi_word(bed, TX1), 0x101);
    assert_int_equal(msi_word(bed, RX0), 0x102);
    assert_int_equal(msi_word(bed, RX1), 0);
    struct ptnet_stats stats = ptnet_stats(bed->pt);
    assert_int_equal(stats.interrupts[TX1], 1);
    assert_int_equal(stats.interrupts[RX0], 1);
    assert_int_equal(stats.interrupts[TX0] + stats.interrupts[RX1], 0);
    assert_int_equal(pci_model_stats(bed->model).messages, 2);
    /* the port announces nothing new: none follows */
    ptnet_step(bed->pt);
    assert_int_equal(pci_model_stats(bed->model).messages, 2);
}

static void an_interrupt_that_is_not_wanted_is_not_sent(void **state)
{
    struct bed *bed = *state;

    create(bed);
    gh(bed)[RX0].appl_need_kick = 0;
    bed->arriving = 1;
    ptnet_step(bed->pt);
    assert_int_equal(hg(bed)[RX0].hwtail, 1);
    assert_int_equal(pci_model_stats(bed->model).messages, 0);
}

static void an_interrupt_of_a_masked_vector_is_sent_when_it_is_unmasked(void **state)
{
    struct bed *bed = *state;
    uint64_t mask = RX0 * PCI_MSIX_ENTRY_BYTES + PCI_MSIX_ENTRY_VECTOR_CTRL;

    create(bed);
    pci_model_bar_write(bed->model, PTNETMAP_MSIX_PCI_BAR, mask, 1, 4);
    bed->arriving = 1;
    ptnet_step(bed->pt);
    assert_int_equal(msi_word(bed, RX0), 0);
    assert_int_equal(pci_model_bar_read(bed->model, PTNETMAP_MSIX_PCI_BAR, 2048, 4), 1 << RX0);
    pci_model_bar_write(bed->model, PTNETMAP_MSIX_PCI_BAR, mask, 0, 4);
    assert_int_equal(msi_word(bed, RX0), 0x102);
}

static void a_port_that_moves_asks_for_a_pass(void **state)
{
    struct bed *bed = *state;

    create(bed);
    ptnet_step(bed->pt);
    bed->arriving = 5;
    nm_notify(&bed->na->krings[NM_RX][0], 0);
    assert_true(ptnet_step(bed->pt));
    assert_int_equal(hg(bed)[RX0].hwtail, 5);
    assert_int_equal(ptnet_kloop_stats(bed->pt).kicks_seen, 0);
}

/* ---- stepped: nonsense in the CSB ---- */

static void bad_pointers_on_one_ring_leave_the_others_alone(void **state)
{
    struct bed *bed = *state;

    create(bed);
    gh(bed)[TX0].head = 0xffffffff;
    gh(bed)[TX0].cur = 0x80000000;
    gh(bed)[RX1].head = RX_SLOTS;
    guest_says(bed, TX1, 9);
    bed->arriving = 7;
    ptnet_step(bed->pt);
    assert_int_equal(hg(bed)[TX1].hwcur, 9);
    assert_int_equal(hg(bed)[RX0].hwtail, 7);
    assert_int_equal(hg(bed)[TX0].kern_need_kick, 1);
    assert_int_equal(ptnet_kloop_stats(bed->pt).bad_rings, 2);
    guest_says(bed, TX0, 4);
    ptnet_step(bed->pt);
    assert_int_equal(hg(bed)[TX0].hwcur, 4);
}

static void both_arrays_in_one_place_are_the_guests_own_problem(void **state)
{
    struct bed *bed = *state;

    set_csb(bed, GH_GPA, GH_GPA);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0);
    for (unsigned i = 0; i < 10; i++)
        ptnet_step(bed->pt);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
}

/* ---- memory that changes ---- */

static void the_csb_stays_where_it_was_until_the_guest_lets_go(void **state)
{
    struct bed *bed = *state;

    create(bed);
    pci_dma_set(bed->dma, NULL, 0, NULL, NULL);
    assert_int_equal(bed->n_released, 0);
    guest_says(bed, TX0, 3);
    kick(bed, TX0);
    ptnet_step(bed->pt);
    assert_int_equal(hg(bed)[TX0].hwcur, 3);
    assert_int_equal(pci_model_stats(bed->model).messages_lost, 1); /* that is looked up anew */
    reg_write(bed, PTNET_IO_CSB_GH_BAL, GH_GPA);
    assert_int_equal(ptnet_file(bed->pt)->kloop_state, 0);
    assert_int_equal(bed->n_released, 0);
    reg_write(bed, PTNET_IO_CSB_HG_BAL, HG_GPA);
    assert_int_equal(bed->n_released, 1);
    assert_int_equal(ptnet_stats(bed->pt).csb_failures, 2); /* there is no memory now */
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
    set_memory(bed);
    create(bed);
}

static void a_device_that_goes_lets_go_of_memory(void **state)
{
    struct bed *bed = *state;

    create(bed);
    pci_dma_set(bed->dma, NULL, 0, NULL, NULL);
    unplug(bed);
    assert_int_equal(bed->n_released, 1);
}

/* ---- reset ---- */

static void a_reset_ends_the_loop_and_forgets_the_csb_but_no_register(void **state)
{
    struct bed *bed = *state;

    create(bed);
    assert_int_equal(control(bed, 9), EINVAL);
    pci_model_reset(bed->model);
    assert_int_equal(ptnet_file(bed->pt)->kloop_state, 0);
    assert_int_equal(reg_read(bed, PTNET_IO_CSB_GH_BAL), GH_GPA);
    assert_int_equal(reg_read(bed, PTNET_IO_CSB_HG_BAL), HG_GPA);
    assert_int_equal(reg_read(bed, PTNET_IO_PTCTL), EINVAL);
    assert_int_equal(reg_read(bed, PTNET_IO_MAC_HI), 0x5254);
    guest_says(bed, TX0, 3);
    kick(bed, TX0);
    assert_false(ptnet_step(bed->pt));
    assert_int_equal(hg(bed)[TX0].hwcur, 0);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), ENXIO);
    pci_dma_set(bed->dma, NULL, 0, NULL, NULL);
    assert_int_equal(bed->n_released, 1);
    set_memory(bed);
    create(bed);
}

static void indices_go_on_where_they_were_after_delete_and_create(void **state)
{
    struct bed *bed = *state;

    create(bed);
    guest_says(bed, TX0, 5);
    ptnet_step(bed->pt);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
    memset(bed->low, 0, RAM_BYTES);
    create(bed);
    assert_int_equal(gh(bed)[TX0].head, 5);
    assert_int_equal(hg(bed)[TX0].hwcur, 5);
    assert_int_equal(hg(bed)[TX0].hwtail, 4);
}

/* ---- with its thread ---- */

static void wait_for_hwcur(struct bed *bed, unsigned ring, uint32_t hwcur)
{
    uint64_t deadline = now_ms() + DEADLINE_MS;

    while (atomic_load(&hg(bed)[ring].hwcur) != hwcur) {
        assert_true(now_ms() < deadline);
        sched_yield();
    }
}

static void kicks_reach_the_thread_and_its_interrupts_the_guest(void **state)
{
    struct bed *bed = *state;

    create(bed);
    assert_false(ptnet_step(bed->pt)); /* that is the thread's */
    for (uint32_t head = 1; head < 8; head++) {
        guest_says(bed, TX0, head);
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&hg(bed)[TX0].kern_need_kick))
            kick(bed, TX0);
        wait_for_hwcur(bed, TX0, head);
    }
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
    assert_int_equal(msi_word(bed, TX0), 0x100);
    /* each made space, and the guest always wants to know */
    assert_int_equal(ptnet_stats(bed->pt).interrupts[TX0], 7);
    assert_int_equal(ptnet_kloop_stats(bed->pt).timeouts, 0);
}

static void it_is_created_and_deleted_in_a_storm_of_kicks(void **state)
{
    struct bed *bed = *state;
    uint32_t head = 0;

    for (unsigned i = 0; i < 200; i++) {
        create(bed);
        head = (head + 1) % TX_SLOTS;
        guest_says(bed, TX1, head);
        for (unsigned k = 0; k < 20; k++)
            kick(bed, k % N_RINGS);
        if (i % 2)
            wait_for_hwcur(bed, TX1, head);
        if (i % 3 == 0)
            pci_model_reset(bed->model);
        else if (i % 3 == 1)
            assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
        else
            reg_write(bed, PTNET_IO_CSB_HG_BAL, 0);
        assert_int_equal(ptnet_file(bed->pt)->kloop_state, 0);
        head = hg(bed)[TX1].hwcur;
    }
    assert_int_equal(ptnet_stats(bed->pt).create_failures, 0);
}

static void *change_memory(void *data)
{
    struct bed *bed = data;

    for (unsigned i = 0; i < 500; i++)
        set_memory(bed);
    return NULL;
}

static void memory_is_replaced_while_the_thread_runs(void **state)
{
    struct bed *bed = *state;
    pthread_t thread;
    uint32_t head = 0;

    assert_int_equal(pthread_create(&thread, NULL, change_memory, bed), 0);
    for (unsigned i = 0; i < 100; i++) {
        create(bed);
        head = (hg(bed)[TX0].hwcur + 3) % TX_SLOTS;
        guest_says(bed, TX0, head);
        kick(bed, TX0);
        wait_for_hwcur(bed, TX0, head);
    }
    pthread_join(thread, NULL);
    unplug(bed);
    pci_dma_set(bed->dma, NULL, 0, NULL, NULL);
    assert_int_equal(bed->n_released, 501);
}

static void a_loop_that_somebody_else_stopped_is_started_again(void **state)
{
    struct bed *bed = *state;

    create(bed);
    assert_int_equal(kloop_stop(ptnet_file(bed->pt)), 0);
    kick(bed, TX0);
    assert_int_equal(control(bed, PTNETMAP_PTCTL_CREATE), 0); /* to its knowledge it runs */
    assert_int_equal(control(bed, PTNETMAP_PTCTL_DELETE), 0);
    create(bed);
    guest_says(bed, TX0, 3);
    kick(bed, TX0);
    wait_for_hwcur(bed, TX0, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STEPPED(a_kick_asks_for_a_pass_and_a_pass_sends),
        STEPPED(only_four_bytes_to_a_ring_that_is_there_are_a_kick),
        STEPPED(a_kick_without_a_loop_is_counted_and_nothing_else),
        STEPPED(one_ring_is_stepped_alone),
        BARE(a_direct_ring_is_synced_in_the_kick_and_interrupted_by_the_port),
        STEPPED(each_ring_has_the_vector_of_its_number),
        STEPPED(an_interrupt_that_is_not_wanted_is_not_sent),
        STEPPED(an_interrupt_of_a_masked_vector_is_sent_when_it_is_unmasked),
        STEPPED(a_port_that_moves_asks_for_a_pass),
        STEPPED(bad_pointers_on_one_ring_leave_the_others_alone),
        STEPPED(both_arrays_in_one_place_are_the_guests_own_problem),
        STEPPED(the_csb_stays_where_it_was_until_the_guest_lets_go),
        STEPPED(a_device_that_goes_lets_go_of_memory),
        STEPPED(a_reset_ends_the_loop_and_forgets_the_csb_but_no_register),
        STEPPED(indices_go_on_where_they_were_after_delete_and_create),
        THREADED(kicks_reach_the_thread_and_its_interrupts_the_guest),
        THREADED(it_is_created_and_deleted_in_a_storm_of_kicks),
        THREADED(memory_is_replaced_while_the_thread_runs),
        THREADED(a_loop_that_somebody_else_stopped_is_started_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
