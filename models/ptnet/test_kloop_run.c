/*
 * The sync-kloop as it runs: its requests with their options, kicks and interrupts by eventfd, what
 * wakes it and how often, starting and stopping from several threads.
 */
#include "models/ptnet/test_kloop_port.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>

/* ---- a loop in a thread, started by request ---- */

struct eventfds {
    struct nmreq_option nro_opt;
    struct nmreq_opt_sync_kloop_eventfd fds[N_RINGS];
};
_Static_assert(offsetof(struct eventfds, fds) ==
                   offsetof(struct nmreq_opt_sync_kloop_eventfds, eventfds),
               "the option, with room for its array");

struct runner {
    struct bed *bed;
    struct eventfds eventfds;
    struct kloop *kloop;
    struct kloop_stats stats; /* at its end */
    pthread_t thread;
};

static void open_eventfds(struct eventfds *e)
{
    *e = (struct eventfds){.nro_opt = {.nro_reqtype = NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
                                       .nro_status = EOPNOTSUPP,
                                       .nro_size = 24 + 8 * N_RINGS}};
    for (unsigned i = 0; i < N_RINGS; i++) {
        e->fds[i].ioeventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        e->fds[i].irqfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
}

static void close_eventfds(struct eventfds *e)
{
    for (unsigned i = 0; i < N_RINGS; i++) {
        close(e->fds[i].ioeventfd);
        close(e->fds[i].irqfd);
    }
}

static int start(struct bed *bed, uint32_t sleep_us, struct eventfds *e,
                 struct nmreq_opt_sync_kloop_mode *mode)
{
    struct nmreq_sync_kloop_start request = {.sleep_us = sleep_us};

    return kloop_start(&bed->file, &request, (struct nmreq_opt_sync_kloop_eventfds *)(void *)e,
                       mode);
}

static void *run(void *data)
{
    struct runner *r = data;

    kloop_run(r->kloop);
    r->stats = kloop_stats(r->kloop);
    kloop_free(r->kloop);
    return NULL;
}

static void start_runner(struct runner *r, struct bed *bed, uint32_t mode)
{
    int err = 0;

    *r = (struct runner){.bed = bed};
    open_eventfds(&r->eventfds);
    enable_csb(bed);
    struct kloop_options options = {
        .eventfds = r->eventfds.fds, .n_eventfds = N_RINGS, .mode = mode};
    r->kloop = kloop_new(&bed->file, &options, &err);
    assert_non_null(r->kloop);
    assert_int_equal(pthread_create(&r->thread, NULL, run, r), 0);
}

/* A sleep that nothing ended would be a wake-up that was lost. */
static void stop_runner(struct runner *r)
{
    assert_int_equal(kloop_stop(&r->bed->file), 0);
    assert_int_equal(r->bed->file.kloop_state, 0);
    pthread_join(r->thread, NULL);
    close_eventfds(&r->eventfds);
    assert_int_equal(r->stats.timeouts, 0);
}

static uint64_t counter_of(int fd)
{
    uint64_t n = 0;

    return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void wait_for_counter(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
}

static void kick(struct runner *r, unsigned ring)
{
    assert_int_equal(write(r->eventfds.fds[ring].ioeventfd, &(uint64_t){1}, 8), 8);
}

static void wait_for_hwcur(struct bed *bed, unsigned ring, uint32_t hwcur)
{
    uint64_t deadline = now_ms() + DEADLINE_MS;

    while (bed->ktoa[ring].hwcur != hwcur || !bed->ktoa[ring].kern_need_kick) {
        assert_true(now_ms() < deadline);
        sched_yield();
    }
}

static void wait_for_syncs(struct bed *bed, unsigned ring, unsigned n)
{
    uint64_t deadline = now_ms() + DEADLINE_MS;

    while (bed->rings[ring].n_syncs < n) {
        assert_true(now_ms() < deadline);
        sched_yield();
    }
}

static unsigned open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* ---- SYNC_KLOOP_START, ptnet.md 7.1 ---- */

static void starting_refuses_in_the_published_order(void **state)
{
    struct bed *bed = *state;
    struct nmreq_opt_sync_kloop_mode mode = {.nro_opt.nro_status = EOPNOTSUPP, .mode = 4};

    bed->file.kloop_state = KLOOP_RUNNING;
    bed->na.active_files = 0;
    assert_int_equal(start(bed, 1000001, NULL, &mode), EINVAL);
    assert_int_equal(start(bed, 1000000, NULL, &mode), ENXIO);
    bed->na.active_files = 1;
    assert_int_equal(start(bed, 0, NULL, &mode), EINVAL);
    bed->file.csb_atok = bed->atok;
    bed->file.csb_ktoa = bed->ktoa;
    assert_int_equal(start(bed, 0, NULL, &mode), EBUSY);
    assert_int_equal(mode.nro_opt.nro_status, EOPNOTSUPP);
    assert_int_equal(bed->file.kloop_state, KLOOP_RUNNING);
    bed->file.kloop_state = 0;
    bed->file.na = NULL;
    assert_int_equal(start(bed, 0, NULL, &mode), ENXIO);
    bed->file.na = &bed->na;
    assert_int_equal(start(bed, 0, NULL, &mode), EINVAL);
    assert_int_equal(mode.nro_opt.nro_status, EINVAL);
    assert_int_equal(bed->file.kloop_state, 0);
}

static void each_option_says_what_became_of_it(void **state)
{
    struct bed *bed = *state;
    struct nmreq_opt_sync_kloop_mode mode = {.nro_opt.nro_status = EOPNOTSUPP};
    struct eventfds e;
    unsigned before = open_descriptors();

    enable_csb(bed);
    open_eventfds(&e);
    int good = e.fds[RX1].ioeventfd, fds[2];
    assert_int_equal(pipe(fds), 0);

    e.nro_opt.nro_size = 24 + 8 * (N_RINGS - 1);
    assert_int_equal(start(bed, 0, &e, &mode), EINVAL);
    assert_int_equal(mode.nro_opt.nro_status, 0);
    assert_int_equal(e.nro_opt.nro_status, EINVAL);
    e.nro_opt.nro_size = 24 + 8 * N_RINGS + 4;
    assert_int_equal(start(bed, 0, &e, &mode), EINVAL);
    e.nro_opt.nro_size = 20;
    assert_int_equal(start(bed, 0, &e, &mode), EINVAL);
    e.nro_opt.nro_size = 24 + 8 * N_RINGS;

    e.fds[RX1].ioeventfd = -1; /* busy waiting, which nothing can be direct in */
    mode.mode = NM_OPT_SYNC_KLOOP_DIRECT_RX;
    assert_int_equal(start(bed, 0, &e, &mode), EINVAL);
    assert_int_equal(e.nro_opt.nro_status, EINVAL);
    mode.mode = 0;
    e.fds[RX1].ioeventfd = 9999;
    assert_int_equal(start(bed, 0, &e, &mode), EBADF);
    assert_int_equal(e.nro_opt.nro_status, EBADF);
    e.fds[RX1].ioeventfd = fds[0];
    assert_int_equal(start(bed, 0, &e, &mode), EINVAL);
    e.fds[RX1].ioeventfd = good;
    e.fds[TX1].irqfd += 5000;
    assert_int_equal(start(bed, 0, &e, &mode), EBADF);
    e.fds[TX1].irqfd -= 5000;

    bed->file.kloop_state = KLOOP_STOPPING; /* nothing else is wrong: it ends at once */
    assert_int_equal(start(bed, 0, &e, &mode), 0);
    assert_int_equal(mode.nro_opt.nro_status, 0);
    assert_int_equal(e.nro_opt.nro_status, 0);
    close_eventfds(&e);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(open_descriptors(), before);
}

/* ---- what wakes it ---- */

static void each_kick_is_one_wake_up(void **state)
{
    struct bed *bed = *state;
    struct runner r;

    start_runner(&r, bed, 0);
    wait_for_syncs(bed, RX1, 1);
    for (uint32_t head = 1; head <= 5; head++) {
        guest_says(bed, TX0, head, head);
        kick(&r, TX0);
        wait_for_hwcur(bed, TX0, head);
    }
    stop_runner(&r);
    /* the first pass, one for each kick, none for being stopped */
    assert_int_equal(bed->rings[TX0].n_syncs, 6);
    assert_int_equal(bed->rings[RX1].n_syncs, 6);
    assert_int_equal(r.stats.passes, 6);
    assert_int_equal(r.stats.kicks_seen, 5);
}

static void kicks_are_seen_by_descriptor_and_the_counters_are_left_alone(void **state)
{
    struct bed *bed = *state;
    struct eventfds e;

    open_eventfds(&e);
    struct kloop_options options = {.eventfds = e.fds, .n_eventfds = N_RINGS};
    struct kloop *kloop = new_kloop(bed, &options);
    assert_true(kloop_take_wake(kloop));
    assert_false(kloop_take_wake(kloop));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(write(e.fds[RX0].ioeventfd, &(uint64_t){1}, 8), 8);
        assert_true(kloop_take_wake(kloop));
        assert_false(kloop_take_wake(kloop));
    }
    assert_int_equal(kloop_stats(kloop).kicks_seen, 3);
    assert_int_equal(counter_of(e.fds[RX0].ioeventfd), 3);
    close_eventfds(&e);
}

static void a_direct_ring_kicked_by_descriptor_is_synced_by_the_loop(void **state)
{
    struct bed *bed = *state;
    struct runner r;

    start_runner(&r, bed, NM_OPT_SYNC_KLOOP_DIRECT_TX);
    guest_says(bed, TX1, 4, 4);
    kick(&r, TX1);
    wait_for_hwcur(bed, TX1, 4);
    stop_runner(&r);
    assert_int_equal(bed->rings[TX1].n_syncs, 1);
    assert_int_equal(bed->rings[TX0].n_syncs, 0);
}

static void frames_at_the_port_wake_it_and_it_interrupts(void **state)
{
    struct bed *bed = *state;
    struct runner r;

    start_runner(&r, bed, 0);
    wait_for_syncs(bed, RX1, 1);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(nm_kr_acquire(kring_of(bed, RX1), true), 0);
        bed->rings[RX1].arriving = 1;
        nm_kr_release(kring_of(bed, RX1));
        nm_notify(kring_of(bed, RX1), 0);
        wait_for_counter(r.eventfds.fds[RX1].irqfd);
        assert_int_equal(counter_of(r.eventfds.fds[RX1].irqfd), 1);
        assert_int_equal(bed->ktoa[RX1].hwtail, i);
    }
    assert_int_equal(counter_of(r.eventfds.fds[RX0].irqfd), 0);
    stop_runner(&r);
}

static void port_moves_once(struct port_ring *ring)
{
    if (ring->n_syncs == 1)
        nm_notify(kring_of(ring->bed, TX0), 0);
}

static void what_the_port_does_during_a_pass_calls_for_another(void **state)
{
    struct bed *bed = *state;
    struct runner r;

    bed->rings[RX1].on_sync = port_moves_once;
    start_runner(&r, bed, 0);
    wait_for_syncs(bed, RX1, 2);
    stop_runner(&r);
    assert_int_equal(bed->rings[RX1].n_syncs, 2);
}

static void a_ring_without_irqfd_is_never_interrupted(void **state)
{
    struct bed *bed = *state;
    struct eventfds e;

    open_eventfds(&e);
    int irqfd = e.fds[TX0].irqfd;
    e.fds[TX0].irqfd = -1;
    struct kloop_options options = {.eventfds = e.fds, .n_eventfds = N_RINGS};
    struct kloop *kloop = new_kloop(bed, &options);
    guest_says(bed, TX0, 3, 3);
    guest_says(bed, TX1, 3, 3);
    assert_true(kloop_step(kloop));
    assert_int_equal(counter_of(irqfd), 0);
    assert_int_equal(counter_of(e.fds[TX1].irqfd), 1);
    assert_int_equal(kloop_stats(kloop).interrupts, 1);
    e.fds[TX0].irqfd = irqfd;
    close_eventfds(&e);
}

static void a_negative_ioeventfd_means_busy_waiting_with_interrupts(void **state)
{
    struct bed *bed = *state;
    struct eventfds e;

    open_eventfds(&e);
    close(e.fds[RX0].ioeventfd);
    e.fds[RX0].ioeventfd = -1;
    struct kloop_options options = {.eventfds = e.fds, .n_eventfds = N_RINGS};
    struct kloop *kloop = new_kloop(bed, &options);
    guest_says(bed, TX1, 3, 3);
    assert_true(kloop_step(kloop));
    assert_int_equal(bed->ktoa[TX1].hwcur, 3);
    assert_int_equal(bed->ktoa[TX1].kern_need_kick, 0);
    assert_int_equal(counter_of(e.fds[TX1].irqfd), 1);
    close_eventfds(&e);
}

/* ---- stopping ---- */

static void stopping_needs_a_registered_file(void **state)
{
    struct bed *bed = *state;

    bed->na.active_files = 0;
    assert_int_equal(kloop_stop(&bed->file), ENXIO);
    bed->file.na = NULL;
    assert_int_equal(kloop_stop(&bed->file), ENXIO);
    assert_int_equal(bed->file.kloop_state, 0);
    bed->file.na = &bed->na;
}

static void a_stop_without_a_loop_ends_the_next_one_at_its_first_look(void **state)
{
    struct bed *bed = *state;

    enable_csb(bed);
    assert_int_equal(kloop_stop(&bed->file), 0);
    assert_int_equal(bed->file.kloop_state, KLOOP_STOPPING);
    assert_int_equal(start(bed, 0, NULL, NULL), 0);
    assert_int_equal(bed->rings[TX0].n_syncs, 0);
    assert_int_equal(bed->file.kloop_state, 0);
}

static void *run_busily(void *data)
{
    assert_int_equal(start(data, 1000, NULL, NULL), 0);
    return NULL;
}

static void a_loop_that_sleeps_between_busy_passes_is_stopped(void **state)
{
    struct bed *bed = *state;
    pthread_t thread;

    enable_csb(bed);
    assert_int_equal(pthread_create(&thread, NULL, run_busily, bed), 0);
    wait_for_syncs(bed, RX1, 3);
    assert_int_equal(kloop_stop(&bed->file), 0);
    pthread_join(thread, NULL);
    assert_int_equal(bed->file.kloop_state, 0);
}

/* ---- races ---- */

enum { RACES = 300 };

static void *start_again_and_again(void *data)
{
    struct bed *bed = data;
    struct eventfds e;
    unsigned n_busy = 0;

    open_eventfds(&e);
    for (unsigned i = 0; i < RACES; i++) {
        int err = start(bed, 0, &e, NULL);
        if (err)
            assert_int_equal(err, EBUSY);
        n_busy += err == EBUSY;
    }
    close_eventfds(&e);
    return NULL;
}

/* Two threads start, this one stops: no loop is left running, none is stopped twice for nothing. */
static void starts_and_stops_from_several_threads_leave_nothing_running(void **state)
{
    struct bed *bed = *state;
    _Atomic bool is_done = false;
    pthread_t starters[2];

    enable_csb(bed);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&starters[i], NULL, start_again_and_again, bed), 0);
    for (unsigned n_joined = 0; !is_done;) {
        assert_int_equal(kloop_stop(&bed->file), 0);
        nm_notify(kring_of(bed, TX1), 0);
        while (n_joined < 2 && pthread_tryjoin_np(starters[n_joined], NULL) == 0)
            n_joined++;
        is_done = n_joined == 2;
        sched_yield();
    }
    assert_int_equal(bed->file.kloop_state & KLOOP_RUNNING, 0);
}

/* ---- no wake-up is lost: a guest that follows the protocol, and never kicks without being asked
 * ---- */

enum { N_FRAMES = 20000 };

/* ptnet.md 6.1, one frame at a time; returns when the host may have all of them. */
static unsigned send_frames(struct runner *r, unsigned ring)
{
    struct bed *bed = r->bed;
    struct nm_csb_ktoa *ktoa = &bed->ktoa[ring];
    uint32_t head = 0;
    unsigned n_kicks = 0;

    for (unsigned i = 0; i < N_FRAMES; i++) {
        uint64_t deadline = now_ms() + DEADLINE_MS;

        while (head == atomic_load(&ktoa->hwtail)) {
            assert_true(now_ms() < deadline);
            sched_yield();
        }
        head = nm_next(head, N_SLOTS);
        guest_says(bed, ring, head, head);
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&ktoa->kern_need_kick)) {
            kick(r, ring);
            n_kicks++;
        }
    }
    for (uint64_t deadline = now_ms() + DEADLINE_MS; atomic_load(&ktoa->hwcur) != head;) {
        assert_true(now_ms() < deadline);
        sched_yield();
    }
    return n_kicks;
}

static void no_frame_waits_for_a_kick_that_was_not_asked_for(void **state)
{
    struct bed *bed = *state;
    struct runner r;

    start_runner(&r, bed, 0);
    unsigned n_kicks = send_frames(&r, TX1);
    assert_in_range(n_kicks, 1, N_FRAMES); /* how many depends on who runs when */
    stop_runner(&r);
    assert_int_equal(kring_of(bed, TX1)->hwcur, N_FRAMES % N_SLOTS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(starting_refuses_in_the_published_order),
        TEST(each_option_says_what_became_of_it),
        TEST(each_kick_is_one_wake_up),
        TEST(kicks_are_seen_by_descriptor_and_the_counters_are_left_alone),
        TEST(a_direct_ring_kicked_by_descriptor_is_synced_by_the_loop),
        TEST(frames_at_the_port_wake_it_and_it_interrupts),
        TEST(what_the_port_does_during_a_pass_calls_for_another),
        TEST(a_ring_without_irqfd_is_never_interrupted),
        TEST(a_negative_ioeventfd_means_busy_waiting_with_interrupts),
        TEST(stopping_needs_a_registered_file),
        TEST(a_stop_without_a_loop_ends_the_next_one_at_its_first_look),
        TEST(a_loop_that_sleeps_between_busy_passes_is_stopped),
        TEST(starts_and_stops_from_several_threads_leave_nothing_running),
        TEST(no_frame_waits_for_a_kick_that_was_not_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
