/*
 * ptnet's native sync against a host played by the test: what is stored where, kicks and requests
 * for interrupts counted exactly, and two threads that sleep whenever the protocol lets them.
 */
#include "qtest_client/test_ptnet_rings.h"

#include <poll.h>
#include <pthread.h>

enum { N = 8 };

static struct rings_bed bed;
static struct ptnet_queue *q;

static int open_tx(void **state)
{
    (void)state;
    q = rings_open(&bed, true, N, 0);
    return 0;
}

static int open_rx(void **state)
{
    (void)state;
    q = rings_open(&bed, false, N, 0);
    return 0;
}

static int close_bed(void **state)
{
    (void)state;
    rings_close(&bed);
    return 0;
}

static void sync_ok(int flags)
{
    g_autoptr(GError) error = NULL;

    if (!(q->is_tx ? ptnet_txsync(q, flags, &error) : ptnet_rxsync(q, flags, &error))) {
        fail_msg("%s", error->message);
    }
}

static void move_to(uint32_t head)
{
    q->ring->head = q->ring->cur = head;
}

/* ---- transmit ---- */

static void a_frame_is_told_and_kicked_if_the_host_sleeps(void **state)
{
    (void)state;
    move_to(1);
    sync_ok(0);
    assert_int_equal(bed.atok.head, 1);
    assert_int_equal(bed.atok.cur, 1);
    assert_int_equal(bed.atok.sync_flags, 0);
    assert_int_equal(bed.atok.appl_need_kick, 0); /* there is room: nobody waits */
    assert_int_equal(bed.n_kicks, 1);
    assert_int_equal(bed.kicked_at, RINGS_IO_BASE + 0x80);
    assert_int_equal(q->n_kicks, 1);
    assert_int_equal(q->n_syncs, 1);
}

static void a_host_that_is_awake_is_not_kicked(void **state)
{
    (void)state;
    bed.ktoa.kern_need_kick = 0;
    for (uint32_t head = 1; head < 5; head++) {
        move_to(head);
        sync_ok(0);
    }
    assert_int_equal(bed.atok.head, 4);
    assert_int_equal(bed.n_kicks, 0);
    assert_int_equal(bed.atok.sync_flags, 1); /* as it was */
}

static void a_sync_with_nothing_new_kicks_nobody(void **state)
{
    (void)state;
    sync_ok(0);
    assert_int_equal(bed.n_kicks, 0);
    assert_int_equal(bed.atok.appl_need_kick, 0);
}

static void a_forced_reclaim_always_kicks_and_reads_the_tail(void **state)
{
    (void)state;
    bed.ktoa.kern_need_kick = 0;
    move_to(3);
    sync_ok(0);
    rings_host_sends(&bed);
    sync_ok(0);
    assert_int_equal(q->ring->tail, N - 1); /* there is room: not looked at */
    sync_ok(NAF_FORCE_RECLAIM);
    assert_int_equal(q->ring->tail, 2);
    assert_int_equal(bed.n_kicks, 1);
    assert_int_equal(bed.atok.sync_flags, NAF_FORCE_RECLAIM);
}

static void a_full_ring_asks_for_an_interrupt(void **state)
{
    (void)state;
    bed.ktoa.kern_need_kick = 0;
    move_to(N - 1);
    sync_ok(0);
    assert_int_equal(bed.atok.appl_need_kick, 1);
    assert_int_equal(q->ring->tail, N - 1);
    assert_int_equal(bed.n_kicks, 0);
    rings_host_sends(&bed);
    sync_ok(0);
    assert_int_equal(q->ring->tail, N - 2);
    assert_int_equal(bed.atok.appl_need_kick, 0);
}

static void a_full_ring_kicks_a_host_that_sleeps_though_it_has_all(void **state)
{
    (void)state;
    bed.ktoa.kern_need_kick = 0;
    move_to(N - 1);
    sync_ok(0);
    bed.ktoa.hwcur = N - 1; /* taken, but not free yet */
    bed.ktoa.kern_need_kick = 1;
    sync_ok(0);
    assert_int_equal(bed.n_kicks, 1);
}

static void poll_mode_never_asks_for_an_interrupt(void **state)
{
    (void)state;
    q->has_no_interrupts = true;
    move_to(N - 1);
    sync_ok(0);
    assert_int_equal(bed.atok.appl_need_kick, 0);
    rings_host_sends(&bed);
    sync_ok(0);
    assert_int_equal(q->ring->tail, N - 2);
}

static void cur_ahead_of_head_waits_for_more_room(void **state)
{
    (void)state;
    bed.ktoa.kern_need_kick = 0;
    q->ring->head = 2;
    q->ring->cur = N - 1;
    sync_ok(0);
    assert_int_equal(bed.atok.head, 2);
    assert_int_equal(bed.atok.cur, N - 1);
    assert_int_equal(bed.atok.appl_need_kick, 1);
}

static void indices_wrap(void **state)
{
    uint32_t head = 0;

    (void)state;
    for (unsigned i = 0; i < 10 * N; i++) {
        head = ptnet_next(ptnet_next(ptnet_next(head, N), N), N);
        move_to(head);
        sync_ok(0);
        assert_int_equal(bed.atok.head, head);
        rings_host_sends(&bed);
        /* full again and again, as the tail is read only then */
        q->ring->cur = q->ring->tail;
        sync_ok(0);
        assert_int_equal(q->ring->tail, (head + N - 1) % N);
        q->ring->cur = head;
    }
    assert_int_equal(q->n_errors, 0);
}

/* ---- receive ---- */

static void an_empty_ring_asks_for_an_interrupt_and_wakes_the_host(void **state)
{
    (void)state;
    sync_ok(NAF_FORCE_READ);
    assert_int_equal(bed.atok.appl_need_kick, 1);
    assert_int_equal(bed.atok.sync_flags, NAF_FORCE_READ);
    assert_int_equal(bed.n_kicks, 1);
    assert_int_equal(bed.kicked_at, RINGS_IO_BASE + 0x84);
}

static void frames_are_seen_and_released(void **state)
{
    (void)state;
    bed.ktoa.kern_need_kick = 0;
    for (unsigned i = 0; i < 3; i++) {
        rings_host_receives(&bed, 60, 0, 'a');
    }
    sync_ok(0);
    assert_int_equal(q->ring->tail, 3);
    assert_int_equal(bed.atok.appl_need_kick, 0); /* there is something to do */
    assert_int_equal(bed.atok.head, 0);
    move_to(2);
    sync_ok(0);
    assert_int_equal(bed.atok.head, 2);
    assert_int_equal(bed.atok.cur, 2);
    assert_int_equal(bed.atok.appl_need_kick, 0);
    move_to(3);
    sync_ok(0);
    assert_int_equal(bed.atok.head, 3);
    assert_int_equal(bed.atok.appl_need_kick, 1);
    assert_int_equal(bed.n_kicks, 0);
}

static void released_slots_kick_a_host_that_waits_for_them(void **state)
{
    (void)state;
    bed.ktoa.kern_need_kick = 0;
    for (unsigned i = 0; i < N - 1; i++) {
        rings_host_receives(&bed, 60, 0, 'a');
    }
    sync_ok(0);
    bed.ktoa.kern_need_kick = 1;
    sync_ok(0); /* nothing released, nothing missing: no kick */
    assert_int_equal(bed.n_kicks, 0);
    move_to(1);
    sync_ok(0);
    assert_int_equal(bed.n_kicks, 1);
    rings_host_takes_back(&bed);
    sync_ok(0);
    assert_int_equal(bed.n_kicks, 1);
}

/* ---- what cannot be ---- */

static void an_application_that_goes_back_or_too_far_is_put_right(void **state)
{
    static const struct {
        uint32_t head, cur;
    } bad[] = {{N, 3}, {3, N}, {UINT32_MAX, 0}, {2, 3}, {4, 3}, {3, 1}, {N - 1, N - 1}};
    GError *error = NULL;

    (void)state;
    move_to(3);
    sync_ok(0);
    bed.ktoa.hwtail = 6; /* hwcur 0: what was sent is not free */
    q->hwtail = 6;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        q->ring->head = bad[i].head;
        q->ring->cur = bad[i].cur;
        q->ring->tail = 77;
        assert_false(ptnet_txsync(q, 0, &error));
        rings_expect(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "do not lie between 3 and tail 6");
        assert_int_equal(q->ring->head, 3);
        assert_int_equal(q->ring->cur, 3);
        assert_int_equal(q->ring->tail, 6);
        assert_int_equal(q->n_errors, i + 1);
    }
    assert_int_equal(bed.atok.head, 3);
    move_to(6);
    sync_ok(0);
    assert_int_equal(bed.atok.head, 6);
    bed.ktoa.hwcur = 6; /* tail lies beyond the ring's end, and N looks as if it were before it */
    bed.ktoa.hwtail = 3;
    q->hwtail = 3;
    q->ring->head = q->ring->cur = N;
    assert_false(ptnet_txsync(q, 0, &error));
    rings_expect(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "head 8 and cur 8");
}

static void a_host_that_says_what_cannot_be_is_not_believed(void **state)
{
    static const struct {
        uint32_t hwcur, hwtail;
    } bad[] = {{N, 5}, {1, N}, {UINT32_MAX, UINT32_MAX}, {4, 5}, {1, 2}, {0, 0}, {3, 4}, {1, 3}};
    GError *error = NULL;

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        rings_host_receives(&bed, 60, 0, 'a');
    }
    sync_ok(0);
    move_to(3);
    sync_ok(0);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        bed.ktoa.hwcur = bad[i].hwcur;
        bed.ktoa.hwtail = bad[i].hwtail;
        assert_false(ptnet_rxsync(q, 0, &error));
        rings_expect(&error, PTNET_ERROR, PTNET_ERROR_DEVICE, "ring 1: the host says");
        assert_int_equal(q->hwcur, 0);
        assert_int_equal(q->hwtail, 5);
        assert_int_equal(q->ring->tail, 5);
        assert_int_equal(q->n_errors, i + 1);
    }
    bed.ktoa.hwcur = 3;
    bed.ktoa.hwtail = 2; /* all but one: as full as can be */
    sync_ok(0);
    assert_int_equal(q->ring->tail, 2);
}

static void a_transmit_sync_checks_what_it_reads_too(void **state)
{
    GError *error = NULL;

    (void)state;
    move_to(2);
    bed.ktoa.hwcur = 5; /* more than was ever given */
    assert_false(ptnet_txsync(q, 0, &error));
    rings_expect(&error, PTNET_ERROR, PTNET_ERROR_DEVICE, "hwcur 5");
    assert_int_equal(bed.n_kicks, 0);
    bed.ktoa.hwcur = 1;
    move_to(N - 1);
    bed.ktoa.hwtail = N;
    assert_false(ptnet_txsync(q, 0, &error));
    rings_expect(&error, PTNET_ERROR, PTNET_ERROR_DEVICE, "hwtail 8");
    assert_int_equal(q->ring->tail, N - 1);
    assert_int_equal(bed.n_kicks, 1); /* it was told, and asked to be */
}

static void a_kick_that_failed_is_made_up_for(void **state)
{
    GError *error = NULL;

    (void)state;
    bed.is_dead = true;
    move_to(1);
    assert_false(ptnet_txsync(q, 0, &error));
    rings_expect(&error, QTEST_ERROR, QTEST_ERROR_CLOSED, "dead");
    assert_int_equal(q->n_kicks, 0);
    assert_false(ptnet_wait(q, 1, 0, &error));
    rings_expect(&error, QTEST_ERROR, QTEST_ERROR_CLOSED, "dead");
    bed.is_dead = false;
    bed.ktoa.kern_need_kick = 0;
    sync_ok(0);
    assert_int_equal(bed.n_kicks, 1);
}

/* ---- waiting ---- */

static void waiting_returns_at_once_if_there_are_slots(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    rings_host_receives(&bed, 60, 0, 'a');
    rings_host_receives(&bed, 60, 0, 'b');
    assert_true(ptnet_wait(q, 2, 0, &error));
    assert_int_equal(q->ring->tail, 2);
    assert_int_equal(q->n_interrupts, 0);
}

static void waiting_arms_and_says_what_it_waited_for(void **state)
{
    GError *error = NULL;

    (void)state;
    rings_host_receives(&bed, 60, 0, 'a');
    bed.atok.appl_need_kick = 0;
    assert_false(ptnet_wait(q, 2, 1, &error));
    rings_expect(&error, QTEST_ERROR, QTEST_ERROR_TIMEOUT,
                 "ring 1 has not got 2 filled slots within 1 ms (hwcur 0, head 0, hwtail 1)");
    assert_int_equal(bed.atok.appl_need_kick, 1);
    q->has_no_interrupts = true;
    bed.atok.appl_need_kick = 0;
    assert_false(ptnet_wait(q, 2, 1, &error));
    rings_expect(&error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "2 filled slots within 1 ms");
    assert_int_equal(bed.atok.appl_need_kick, 0);
}

static void an_interrupt_without_slots_is_waited_over(void **state)
{
    GError *error = NULL;

    (void)state;
    bed.irq_word = 1;
    assert_false(ptnet_wait(q, 1, 2, &error));
    rings_expect(&error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "1 filled slots");
    assert_int_equal(q->n_interrupts, 1);
}

static void waiting_for_more_than_a_ring_has_is_refused(void **state)
{
    GError *error = NULL;

    (void)state;
    assert_false(ptnet_wait(q, N, 0, &error));
    rings_expect(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "8 slots: one cannot wait for 8");
    assert_false(ptnet_wait(q, 0, 0, &error));
    rings_expect(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "wait for 0");
}

/* ---- two threads: whoever has nothing to do sleeps until it is told ---- */

enum { N_FRAMES = 20000, TIMEOUT_MS = 20000 };

static const char *complaint; /* of the host's thread */

/* The kloop's visit to a tx ring, ptnet.md 7.3, without limits; then it sleeps until kicked. */
static void *host_thread(void *data)
{
    struct pollfd kick = {.fd = bed.kick_fd, .events = POLLIN};
    uint32_t head = 0, expected = 0, n_seen = 0;
    uint64_t count;

    (void)data;
    while (n_seen < N_FRAMES) {
        bool is_sleepy = false;
        ptnet_store(&bed.ktoa.kern_need_kick, 0);
        for (;;) {
            uint32_t now = ptnet_load(&bed.atok.head);
            for (; head != now; head = ptnet_next(head, N), n_seen++, expected++) {
                if (ptnet_slot_load(&q->ring->slot[head]).len != expected % 1000) {
                    complaint = "a frame is another than was sent";
                }
                is_sleepy = false;
            }
            ptnet_store(&bed.ktoa.hwcur, head);
            ptnet_store(&bed.ktoa.hwtail, head == 0 ? N - 1 : head - 1);
            atomic_thread_fence(memory_order_seq_cst); /* the host's interrupt check has none */
            if (ptnet_load(&bed.atok.appl_need_kick)) {
                ptnet_store(&bed.irq_word, 1);
            }
            if (is_sleepy) {
                break;
            }
            ptnet_store(&bed.ktoa.kern_need_kick, 1);
            atomic_thread_fence(memory_order_seq_cst);
            is_sleepy = true;
        }
        if (n_seen < N_FRAMES && poll(&kick, 1, TIMEOUT_MS) != 1) {
            complaint = "the host was not kicked";
            return NULL;
        }
        (void)!read(bed.kick_fd, &count, sizeof(count));
    }
    return NULL;
}

static void no_wake_up_is_lost_between_two_threads(void **state)
{
    GError *error = NULL;
    pthread_t host;

    (void)state;
    bed.kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bed.driver.options.fence_before_kick = true;
    assert_int_equal(pthread_create(&host, NULL, host_thread, NULL), 0);
    for (unsigned i = 0; i < N_FRAMES && !error; i++) {
        union ptnet_slot s = {.buf_idx = 2, .len = (uint16_t)(i % 1000)};
        uint32_t head = q->ring->head;
        ptnet_slot_store(&q->ring->slot[head], s);
        move_to(ptnet_next(head, N));
        /* syncs one by one and in batches, so that both sides run dry */
        if (i % 7 < 5 || q->ring->head == q->ring->tail) {
            ptnet_txsync(q, 0, &error);
        }
        if (!error && q->ring->head == q->ring->tail) {
            ptnet_wait(q, 1, TIMEOUT_MS, &error);
        }
    }
    if (!error) {
        ptnet_txsync(q, 0, &error);
    }
    pthread_join(host, NULL);
    close(bed.kick_fd);
    if (error || complaint) {
        fail_msg("%s", error ? error->message : complaint);
    }
}

#define on_tx(test) cmocka_unit_test_setup_teardown(test, open_tx, close_bed)
#define on_rx(test) cmocka_unit_test_setup_teardown(test, open_rx, close_bed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_tx(a_frame_is_told_and_kicked_if_the_host_sleeps),
        on_tx(a_host_that_is_awake_is_not_kicked),
        on_tx(a_sync_with_nothing_new_kicks_nobody),
        on_tx(a_forced_reclaim_always_kicks_and_reads_the_tail),
        on_tx(a_full_ring_asks_for_an_interrupt),
        on_tx(a_full_ring_kicks_a_host_that_sleeps_though_it_has_all),
        on_tx(poll_mode_never_asks_for_an_interrupt),
        on_tx(cur_ahead_of_head_waits_for_more_room),
        on_tx(indices_wrap),
        on_rx(an_empty_ring_asks_for_an_interrupt_and_wakes_the_host),
        on_rx(frames_are_seen_and_released),
        on_rx(released_slots_kick_a_host_that_waits_for_them),
        on_tx(an_application_that_goes_back_or_too_far_is_put_right),
        on_rx(a_host_that_says_what_cannot_be_is_not_believed),
        on_tx(a_transmit_sync_checks_what_it_reads_too),
        on_tx(a_kick_that_failed_is_made_up_for),
        on_rx(waiting_returns_at_once_if_there_are_slots),
        on_rx(waiting_arms_and_says_what_it_waited_for),
        on_rx(an_interrupt_without_slots_is_waited_over),
        on_rx(waiting_for_more_than_a_ring_has_is_refused),
        on_tx(no_wake_up_is_lost_between_two_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
