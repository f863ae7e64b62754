/*
 * The sync-kloop, stepped over a port whose syncs the test decides: every row of the notification
 * table (ptnet.md 7.5), the check after asking for kicks, interrupts, flags, bad pointers, turns.
 */
#include "models/ptnet/test_kloop_port.h"

static uint32_t need_kick(struct bed *bed, unsigned ring)
{
    return bed->ktoa[ring].kern_need_kick;
}

/* ---- enabling the CSB, ptnet.md 4.1 ---- */

static void enabling_fills_the_entries_of_tx_rings_then_those_of_rx_rings(void **state)
{
    struct bed *bed = *state;

    memset(bed->atok, 0xff, PAGE);
    memset(bed->ktoa, 0xff, PAGE);
    for (unsigned i = 0; i < N_RINGS; i++) {
        struct nm_kring *kring = kring_of(bed, i);
        kring->rhead = 1 + i;
        kring->rcur = 2 + i;
        kring->hwcur = i;
        kring->hwtail = 3 + i;
    }
    enable_csb(bed);
    for (unsigned i = 0; i < N_RINGS; i++) {
        assert_int_equal(bed->atok[i].head, 1 + i);
        assert_int_equal(bed->atok[i].cur, 2 + i);
        assert_int_equal(bed->atok[i].appl_need_kick, 1);
        assert_int_equal(bed->atok[i].sync_flags, 1);
        assert_int_equal(bed->atok[i].pad[11], 0xffffffff);
        assert_int_equal(bed->ktoa[i].hwcur, i);
        assert_int_equal(bed->ktoa[i].hwtail, 3 + i);
        assert_int_equal(bed->ktoa[i].kern_need_kick, 1);
        for (unsigned k = 0; k < 13; k++)
            assert_int_equal(bed->ktoa[i].pad[k], 0);
    }
    assert_int_equal(bed->ktoa[N_RINGS].hwcur, 0xffffffff);
    assert_ptr_equal(bed->file.csb_atok, bed->atok);
    assert_ptr_equal(bed->file.csb_ktoa, bed->ktoa);
}

static void enabling_serves_the_bound_rings_only(void **state)
{
    struct bed *bed = *state;

    bed->file.first[NM_TX] = 1;
    bed->file.last[NM_RX] = 1;
    bed->krings[NM_TX][1].hwcur = 5;
    bed->krings[NM_RX][0].hwcur = 6;
    bed->ktoa[2].kern_need_kick = 77;
    enable_csb(bed);
    assert_int_equal(bed->ktoa[0].hwcur, 5);
    assert_int_equal(bed->ktoa[1].hwcur, 6);
    assert_int_equal(bed->ktoa[2].kern_need_kick, 77);
}

static void enabling_refuses_in_the_published_order(void **state)
{
    struct bed *bed = *state;
    struct nm_csb_atok *odd_atok = (void *)((char *)bed->atok + 4);
    struct nm_csb_ktoa *odd_ktoa = (void *)((char *)bed->ktoa + 32);

    bed->file.reg_flags = 0;
    bed->file.kloop_state = KLOOP_RUNNING;
    assert_int_equal(kloop_csb_enable(&bed->file, odd_atok, odd_ktoa), EBUSY);
    bed->file.kloop_state = 0;
    bed->file.last[NM_TX] = bed->file.last[NM_RX] = 0;
    assert_int_equal(kloop_csb_enable(&bed->file, odd_atok, odd_ktoa), 0);
    assert_null(bed->file.csb_atok);
    bed->file.last[NM_TX] = bed->file.last[NM_RX] = 2;
    assert_int_equal(kloop_csb_enable(&bed->file, bed->atok, bed->ktoa), EINVAL);
    bed->file.reg_flags = NR_EXCLUSIVE;
    assert_int_equal(kloop_csb_enable(&bed->file, odd_atok, bed->ktoa), EINVAL);
    assert_int_equal(kloop_csb_enable(&bed->file, bed->atok, odd_ktoa), EINVAL);
    assert_int_equal(kloop_csb_enable(&bed->file, NULL, bed->ktoa), EFAULT);
    mprotect(bed->ktoa, PAGE, PROT_READ);
    assert_int_equal(kloop_csb_enable(&bed->file, bed->atok, bed->ktoa), EFAULT);
    mprotect(bed->ktoa, PAGE, PROT_READ | PROT_WRITE);
    assert_null(bed->file.csb_atok);
    assert_null(bed->file.csb_ktoa);
}

/* ---- kicks: who turns them on and off ---- */

static void kicks_are_off_while_a_ring_is_synced_and_on_when_it_is_idle(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    guest_says(bed, TX0, 3, 3);
    assert_int_equal(need_kick(bed, TX0), 1);
    kloop_step_ring(kloop, TX0);
    assert_int_equal(bed->rings[TX0].n_syncs, 1);
    assert_int_equal(bed->rings[TX0].need_kick, 0);
    assert_int_equal(need_kick(bed, TX0), 1);
    assert_int_equal(bed->ktoa[TX0].hwcur, 3);
    assert_int_equal(bed->ktoa[TX0].hwtail, 2);
    assert_int_equal(bed->krings[NM_TX][0].rtail, 2);
}

/* The first interrupt comes between the sync and the second look at the CSB. */
static void guest_sends_before_it_sees_the_one(struct bed *bed)
{
    guest_says(bed, TX0, 5, 5);
}

static void catch_the_asking_for_kicks(struct bed *bed, unsigned ring)
{
    (void)ring;
    bed->on_interrupt = NULL;
    catch_next_store(bed, guest_sends_before_it_sees_the_one);
}

static void what_was_sent_before_kicks_were_on_is_sent_without_a_kick(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    caught.n = 0;
    bed->on_interrupt = catch_the_asking_for_kicks;
    guest_says(bed, TX0, 3, 3);
    kloop_step_ring(kloop, TX0);
    assert_int_equal(caught.n, 1);
    assert_int_equal(bed->rings[TX0].n_syncs, 2);
    assert_int_equal(bed->rings[TX0].need_kick, 0); /* turned off again for the second sync */
    assert_int_equal(bed->ktoa[TX0].hwcur, 5);
    assert_int_equal(need_kick(bed, TX0), 1);
}

static void an_rx_ring_without_slots_asks_for_kicks(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->rings[RX1].arriving = 100;
    kloop_step_ring(kloop, RX1);
    assert_int_equal(bed->rings[RX1].n_syncs, 1);
    assert_int_equal(bed->rings[RX1].need_kick, 0);
    assert_int_equal(bed->ktoa[RX1].hwtail, N_SLOTS - 1);
    assert_int_equal(need_kick(bed, RX1), 1);
}

static void guest_gives_slots_back(struct bed *bed)
{
    guest_says(bed, RX0, 4, 4);
}

static void catch_the_asking_for_slots(struct bed *bed, unsigned ring)
{
    (void)ring;
    bed->on_interrupt = NULL;
    catch_next_store(bed, guest_gives_slots_back);
}

static void slots_given_back_before_kicks_were_on_are_used_without_a_kick(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    caught.n = 0;
    bed->on_interrupt = catch_the_asking_for_slots;
    bed->rings[RX0].arriving = 9; /* 7 fit, then 2 more */
    kloop_step_ring(kloop, RX0);
    assert_int_equal(caught.n, 1);
    assert_int_equal(bed->ktoa[RX0].hwcur, 4);
    assert_int_equal(bed->ktoa[RX0].hwtail, 1);
    assert_int_equal(need_kick(bed, RX0), 0); /* slots are left: the port comes next */
}

static void a_full_tx_ring_with_nothing_new_asks_for_kicks(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->rings[TX1].is_stuck = true;
    guest_says(bed, TX1, 7, 7);
    kloop_step_ring(kloop, TX1);
    assert_int_equal(need_kick(bed, TX1), 1);
    assert_int_equal(bed->rings[TX1].n_syncs, 1);
}

static void guest_fills_up(struct port_ring *ring)
{
    guest_says(ring->bed, ring->index, 7, 7);
}

static void a_tx_ring_that_fills_up_while_it_is_synced_leaves_kicks_off(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);
    struct nm_kring *kring = kring_of(bed, TX0);

    /* The guest may use up to slot 5, and stands there; what it says next is beyond that, so the
     * loop must leave before it looks, for the port to free slots first. */
    kring->hwtail = kring->rtail = 5;
    bed->rings[TX0].is_stuck = true;
    bed->rings[TX0].on_sync = guest_fills_up;
    guest_says(bed, TX0, 5, 5);
    kloop_step_ring(kloop, TX0);
    assert_int_equal(bed->rings[TX0].n_syncs, 1);
    assert_int_equal(kloop_stats(kloop).bad_rings, 0);
    assert_int_equal(need_kick(bed, TX0), 0);
}

static void an_rx_ring_that_is_empty_leaves_kicks_off(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    kloop_step_ring(kloop, RX0);
    assert_int_equal(bed->rings[RX0].n_syncs, 1);
    assert_int_equal(need_kick(bed, RX0), 0);
}

static void an_rx_ring_that_is_dry_twice_is_left_with_kicks_off(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->rings[RX0].arriving = 2;
    kloop_step_ring(kloop, RX0);
    assert_int_equal(bed->rings[RX0].n_syncs, 3); /* one brought frames, two were dry */
    assert_int_equal(bed->ktoa[RX0].hwtail, 2);
    assert_int_equal(need_kick(bed, RX0), 0);
}

static void a_bad_pointer_re_initialises_the_ring_and_asks_for_kicks(void **state)
{
    static const struct {
        unsigned ring;
        uint32_t head, cur;
    } rows[] = {
        {TX0, 8, 8}, {TX0, 0xffffffff, 0xffffffff}, {TX0, 3, 2}, {TX0, 1, 8}, {TX1, 7, 0},
        {RX0, 1, 1}, {RX0, 0xffffffff, 0},          {RX1, 0, 1},
    };

    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        unsigned ring = rows[i].ring;

        guest_says(bed, ring, rows[i].head, rows[i].cur);
        kloop_step_ring(kloop, ring);
        assert_int_equal(bed->rings[ring].n_syncs, 0);
        assert_int_equal(kloop_stats(kloop).bad_rings, i + 1);
        assert_int_equal(need_kick(bed, ring), 1);
        assert_int_equal(kring_of(bed, ring)->rhead, 0);
        assert_int_equal(bed->ktoa[ring].hwcur, 0);
    }
    /* and the ring works again as soon as it is told something sensible */
    guest_says(bed, TX0, 2, 2);
    kloop_step_ring(kloop, TX0);
    assert_int_equal(bed->ktoa[TX0].hwcur, 2);
}

static void a_sync_that_fails_asks_for_kicks_and_publishes_nothing(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    for (unsigned ring = 0; ring < N_RINGS; ring += 2) {
        bed->rings[ring].error = EIO;
        bed->ktoa[ring].hwcur = 55;
        kloop_step_ring(kloop, ring);
        assert_int_equal(bed->rings[ring].n_syncs, 1);
        assert_int_equal(need_kick(bed, ring), 1);
        assert_int_equal(bed->ktoa[ring].hwcur, 55);
    }
    assert_int_equal(kloop_stats(kloop).sync_errors, 2);
    assert_int_equal(kloop_stats(kloop).tx_syncs, 0);
}

static void busy_waiting_turns_kicks_off_and_never_on(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = new_kloop(bed, &(struct kloop_options){0});

    assert_true(kloop_step(kloop));
    for (unsigned i = 0; i < N_RINGS; i++)
        assert_int_equal(need_kick(bed, i), 0);
    bed->rings[RX0].arriving = 100;
    bed->rings[TX1].error = EIO;
    guest_says(bed, TX0, 99, 99);
    assert_true(kloop_step(kloop));
    assert_int_equal(kloop_stats(kloop).bad_rings, 1);
    assert_int_equal(kloop_stats(kloop).sync_errors, 1);
    for (unsigned i = 0; i < N_RINGS; i++)
        assert_int_equal(need_kick(bed, i), 0);
    assert_true(kloop_take_wake(kloop));
    assert_true(kloop_take_wake(kloop));
}

static void a_stopped_ring_is_passed_over(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    nm_kr_stop(kring_of(bed, TX0));
    guest_says(bed, TX0, 3, 3);
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->rings[TX0].n_syncs, 0);
    assert_int_equal(need_kick(bed, TX0), 1);
    assert_int_equal(bed->rings[TX1].n_syncs, 1);
}

/* ---- direct, ptnet.md 7.6 ---- */

static void a_direct_ring_is_synced_by_its_kick_and_keeps_kicks_on(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, NM_OPT_SYNC_KLOOP_DIRECT_TX);

    guest_says(bed, TX0, 3, 3);
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->rings[TX0].n_syncs, 0);
    assert_int_equal(bed->rings[RX0].n_syncs, 1);
    kloop_kick(kloop, TX0);
    assert_int_equal(bed->rings[TX0].n_syncs, 1);
    assert_int_equal(bed->rings[TX0].need_kick, 1);
    assert_int_equal(need_kick(bed, TX0), 1);
    assert_int_equal(bed->ktoa[TX0].hwcur, 3);
    assert_int_equal(bed->interrupts[TX0], 0); /* its writer is looking */
    assert_false(kloop_take_wake(kloop));
}

static void what_the_port_does_interrupts_all_rings_of_a_direct_direction(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, NM_OPT_SYNC_KLOOP_DIRECT_RX);

    for (unsigned i = 0; i < N_RINGS; i++)
        bed->atok[i].appl_need_kick = 0;
    nm_notify(kring_of(bed, RX1), 0);
    assert_int_equal(bed->interrupts[RX0], 1);
    assert_int_equal(bed->interrupts[RX1], 1);
    assert_int_equal(bed->interrupts[TX0], 0);
    assert_false(kloop_take_wake(kloop));
    nm_notify(kring_of(bed, TX1), 0);
    assert_int_equal(bed->interrupts[TX1], 0);
    assert_true(kloop_take_wake(kloop));
    assert_int_equal(kloop_stats(kloop).interrupts, 2);
}

/* ---- interrupts ---- */

static void tx_space_interrupts_once_if_the_guest_asked(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    guest_says(bed, TX0, 3, 3);
    guest_says(bed, TX1, 3, 3);
    bed->atok[TX1].appl_need_kick = 0;
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->interrupts[TX0], 1);
    assert_int_equal(bed->interrupts[TX1], 0);
    assert_int_equal(bed->atok[TX0].appl_need_kick, 1); /* the host never clears it */
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->interrupts[TX0], 1);
    assert_int_equal(kloop_stats(kloop).interrupts, 1);
}

static void frames_interrupt_once_if_the_guest_asked(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->rings[RX0].arriving = bed->rings[RX1].arriving = 3;
    bed->atok[RX1].appl_need_kick = 0;
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->interrupts[RX0], 1);
    assert_int_equal(bed->interrupts[RX1], 0);
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->interrupts[RX0], 1);
}

static void send_twice(struct port_ring *ring)
{
    if (ring->n_syncs == 1) {
        ring->bed->atok[TX0].appl_need_kick = 0;
        guest_says(ring->bed, TX0, 4, 4);
    } else {
        ring->bed->atok[TX0].appl_need_kick = 1;
        ring->error = EIO;
    }
}

/* The first sync makes space that nobody wants to hear of; the loop leaves the ring over the second
 * one, and the guest has asked meanwhile. */
static void who_asks_for_an_interrupt_at_the_last_moment_gets_it(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->rings[TX0].on_sync = send_twice;
    guest_says(bed, TX0, 3, 3);
    kloop_step_ring(kloop, TX0);
    assert_int_equal(bed->rings[TX0].n_syncs, 2);
    assert_int_equal(bed->interrupts[TX0], 1);
}

/* ---- flags ---- */

static void a_tx_ring_with_little_space_is_reclaimed(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->atok[TX0].sync_flags = bed->atok[TX1].sync_flags = 0;
    kring_of(bed, TX1)->hwtail = 4; /* half of 8, from 0 */
    kring_of(bed, TX0)->hwtail = 5;
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->rings[TX0].flags, 0);
    assert_int_equal(bed->rings[TX1].flags, NAF_FORCE_RECLAIM);
}

static void only_the_public_sync_flags_reach_the_port(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->atok[TX0].sync_flags = 0xffffffff;
    bed->atok[RX0].sync_flags = NAF_FORCE_READ;
    bed->atok[RX1].sync_flags = NAF_CAN_FORWARD_DOWN;
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->rings[TX0].flags, NAF_FORCE_READ | NAF_FORCE_RECLAIM);
    assert_int_equal(bed->rings[RX0].flags, NAF_FORCE_READ);
    assert_int_equal(bed->rings[RX1].flags, 0);
}

/* ---- turns ---- */

static void guest_always_has_one_more(struct port_ring *ring)
{
    uint32_t head = nm_next(kring_of(ring->bed, ring->index)->rhead, N_SLOTS);

    guest_says(ring->bed, ring->index, head, head);
}

static void a_ring_that_never_ends_lets_the_others_have_their_turn(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    bed->rings[TX0].on_sync = guest_always_has_one_more;
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->rings[TX0].n_syncs, KLOOP_ROUNDS);
    assert_int_equal(need_kick(bed, TX0), 0);
    assert_int_equal(bed->rings[TX1].n_syncs, 1);
    assert_int_equal(bed->rings[RX0].n_syncs, 1);
    assert_true(kloop_take_wake(kloop)); /* it wants to go on, unasked */
    assert_false(kloop_take_wake(kloop));
    bed->rings[TX0].on_sync = NULL;
    assert_true(kloop_step(kloop));
    assert_int_equal(need_kick(bed, TX0), 1);
    assert_false(kloop_take_wake(kloop));
}

static void a_direct_ring_that_never_ends_goes_on_in_the_loop(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, NM_OPT_SYNC_KLOOP_DIRECT_TX);

    bed->rings[TX0].on_sync = guest_always_has_one_more;
    guest_says(bed, TX0, 1, 1);
    kloop_kick(kloop, TX0);
    assert_int_equal(bed->rings[TX0].n_syncs, KLOOP_ROUNDS);
    assert_true(kloop_take_wake(kloop));
    bed->rings[TX0].on_sync = NULL;
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->rings[TX0].n_syncs, KLOOP_ROUNDS + 1);
    assert_false(kloop_take_wake(kloop));
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->rings[TX0].n_syncs, KLOOP_ROUNDS + 1);
}

static void a_storm_of_kicks_is_one_wake_up(void **state)
{
    struct bed *bed = *state;
    struct kloop *kloop = event_kloop(bed, 0);

    for (unsigned i = 0; i < 1000; i++)
        kloop_kick(kloop, RX0);
    assert_true(kloop_take_wake(kloop));
    assert_false(kloop_take_wake(kloop));
    assert_int_equal(kloop_stats(kloop).kicks_seen, 1000);
    assert_true(kloop_step(kloop));
    for (unsigned i = 0; i < N_RINGS; i++)
        assert_int_equal(bed->rings[i].n_syncs, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(enabling_fills_the_entries_of_tx_rings_then_those_of_rx_rings),
        TEST(enabling_serves_the_bound_rings_only),
        TEST(enabling_refuses_in_the_published_order),
        TEST(kicks_are_off_while_a_ring_is_synced_and_on_when_it_is_idle),
        TEST(what_was_sent_before_kicks_were_on_is_sent_without_a_kick),
        TEST(an_rx_ring_without_slots_asks_for_kicks),
        TEST(slots_given_back_before_kicks_were_on_are_used_without_a_kick),
        TEST(a_full_tx_ring_with_nothing_new_asks_for_kicks),
        TEST(a_tx_ring_that_fills_up_while_it_is_synced_leaves_kicks_off),
        TEST(an_rx_ring_that_is_empty_leaves_kicks_off),
        TEST(an_rx_ring_that_is_dry_twice_is_left_with_kicks_off),
        TEST(a_bad_pointer_re_initialises_the_ring_and_asks_for_kicks),
        TEST(a_sync_that_fails_asks_for_kicks_and_publishes_nothing),
        TEST(busy_waiting_turns_kicks_off_and_never_on),
        TEST(a_stopped_ring_is_passed_over),
        TEST(a_direct_ring_is_synced_by_its_kick_and_keeps_kicks_on),
        TEST(what_the_port_does_interrupts_all_rings_of_a_direct_direction),
        TEST(tx_space_interrupts_once_if_the_guest_asked),
        TEST(frames_interrupt_once_if_the_guest_asked),
        TEST(who_asks_for_an_interrupt_at_the_last_moment_gets_it),
        TEST(a_tx_ring_with_little_space_is_reclaimed),
        TEST(only_the_public_sync_flags_reach_the_port),
        TEST(a_ring_that_never_ends_lets_the_others_have_their_turn),
        TEST(a_direct_ring_that_never_ends_goes_on_in_the_loop),
        TEST(a_storm_of_kicks_is_one_wake_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
