#include "models/netmap/test_nm_bed.h"

struct poll_bed {
    struct nm_host *host;
    struct bed_nic *nic;
};

static int set_up(void **state)
{
    struct poll_bed *bed = g_new0(struct poll_bed, 1);

    bed->host = bed_host();
    bed->nic = bed_nic_new(bed->host, "x0");
    *state = bed;
    return 0;
}

static int tear_down(void **state)
{
    struct poll_bed *bed = *state;

    assert_use(bed->host, 0, 0, 0);
    nm_host_free(bed->host);
    g_free(bed);
    return 0;
}

static bool is_readable(struct nm_file *file)
{
    struct pollfd fd = {.fd = nm_poll_fd(file), .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

/* n frames for rx ring i, as the port would get them from outside. */
static void arrive(struct poll_bed *bed, unsigned i, unsigned n)
{
    struct nm_kring *kring = &bed->nic->up.krings[NM_RX][i];

    atomic_store(&kring->hwtail, (atomic_load(&kring->hwtail) + n) % kring->num_slots);
    kring->notify(kring, 0);
}

static void what_is_asked_for_and_ready_is_answered(void **state)
{
    static const struct {
        short events, empty, filled;
    } cases[] = {
        {0, 0, 0},
        {POLLOUT, POLLOUT, POLLOUT},
        {POLLWRNORM, POLLWRNORM, POLLWRNORM},
        {POLLOUT | POLLWRNORM, POLLOUT | POLLWRNORM, POLLOUT | POLLWRNORM},
        {POLLIN, 0, POLLIN},
        {POLLRDNORM, 0, POLLRDNORM},
        {POLLIN | POLLOUT, POLLOUT, POLLIN | POLLOUT},
        {POLLPRI, 0, 0},
    };
    struct poll_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_int_equal(nm_poll(file, cases[i].events), cases[i].empty);
    }
    arrive(bed, 1, 2);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_int_equal(nm_poll(file, cases[i].events), cases[i].filled);
    }
    assert_int_equal(nm_rxring(nm_file_if(file), 1)->tail, 2);
    nm_close(file);
}

static void a_file_that_is_not_registered_is_an_error(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host);

    assert_int_equal(nm_poll(file, POLLIN | POLLOUT), POLLERR);
    nm_close(file);
}

static void poll_sends_unless_it_was_told_not_to(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    struct netmap_ring *ring = nm_txring(nm_file_if(file), 0);

    /* nothing to send and nobody asks: not even a sync */
    nm_poll(file, POLLIN);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 0);
    ring->head = ring->cur = 3;
    assert_int_equal(nm_poll(file, POLLIN), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 1);
    assert_int_equal(ring->tail, 2);
    nm_close(file);

    file = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, NR_NO_TX_POLL);
    ring = nm_txring(nm_file_if(file), 0);
    ring->head = ring->cur = 3;
    assert_int_equal(nm_poll(file, POLLIN), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 1);
    assert_int_equal(nm_poll(file, POLLOUT), POLLOUT);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 2);
    nm_close(file);
}

static void what_is_not_ready_makes_the_descriptor_readable_once(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 1, 0);
    struct netmap_ring *ring = nm_rxring(nm_file_if(file), 1);

    arrive(bed, 1, 1); /* not armed: nobody asked yet */
    assert_false(is_readable(file));
    assert_int_equal(nm_poll(file, POLLIN), POLLIN);
    ring->head = ring->cur = 1;
    assert_int_equal(nm_poll(file, POLLIN), 0);
    assert_false(is_readable(file));
    arrive(bed, 1, 1);
    assert_true(is_readable(file));
    assert_int_equal(nm_poll(file, POLLOUT), POLLOUT); /* any poll empties it */
    assert_false(is_readable(file));
    arrive(bed, 1, 1); /* armed no more */
    assert_false(is_readable(file));
    assert_int_equal(nm_poll(file, POLLIN), POLLIN);
    nm_close(file);
}

static void a_file_of_one_ring_is_not_woken_by_another(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *one = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    struct nm_file *all = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);

    assert_int_equal(nm_poll(one, POLLIN), 0);
    assert_int_equal(nm_poll(all, POLLIN), 0);
    arrive(bed, 1, 1);
    assert_false(is_readable(one));
    assert_true(is_readable(all));
    arrive(bed, 0, 1);
    assert_true(is_readable(one));
    nm_close(one);
    nm_close(all);
}

/* What arrives while poll is between its first look and arming is found by the second look. */
static int rxsync_that_brings_a_frame(struct nm_kring *kring, int flags)
{
    struct bed_nic *nic = kring->na->port;

    (void)flags;
    nic->n_syncs[NM_RX]++;
    kring->hwcur = kring->rhead;
    if (nic->n_syncs[NM_RX] == 2) {
        atomic_store(&kring->hwtail, 1);
    }
    return 0;
}

static void the_second_look_finds_what_the_first_missed(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);

    bed->nic->up.krings[NM_RX][0].sync = rxsync_that_brings_a_frame;
    assert_int_equal(nm_poll(file, POLLIN), POLLIN);
    assert_int_equal(bed->nic->n_syncs[NM_RX], 2);
    assert_false(file->is_armed[NM_RX]);
    nm_close(file);
}

static void a_full_tx_ring_is_waited_for(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    struct netmap_ring *ring = nm_txring(nm_file_if(file), 0);
    struct nm_kring *kring = &bed->nic->up.krings[NM_TX][0];

    ring->cur = 15; /* wake me when slot 15 is mine */
    assert_int_equal(nm_poll(file, POLLOUT), 0);
    assert_false(is_readable(file));
    kring->notify(kring, 0);
    assert_true(is_readable(file));
    ring->cur = 0;
    ring->head = 0;
    nm_close(file);
}

static void bad_stopped_and_failing_rings_are_errors(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    struct netmap_ring *tx = nm_txring(nm_file_if(file), 0), *rx = nm_rxring(nm_file_if(file), 0);

    tx->head = 77;
    assert_int_equal(nm_poll(file, POLLOUT), POLLERR | POLLOUT);
    assert_int_equal(tx->head, 0);
    assert_int_equal(nm_poll(file, POLLOUT), POLLOUT);
    rx->cur = 8;
    assert_int_equal(nm_poll(file, POLLIN), POLLERR);
    bed->nic->sync_fails = EAGAIN;
    assert_int_equal(nm_poll(file, POLLIN), POLLERR);
    bed->nic->sync_fails = 0;
    assert_int_equal(nm_kr_acquire(&bed->nic->up.krings[NM_RX][0], false), 0);
    assert_int_equal(nm_poll(file, POLLIN), 0); /* somebody else is at it */
    nm_kr_release(&bed->nic->up.krings[NM_RX][0]);
    nm_kr_stop(&bed->nic->up.krings[NM_RX][0]);
    assert_int_equal(nm_poll(file, POLLIN), POLLERR);
    nm_close(file);
}

static int host_rxsync_that_forwards(struct nm_kring *kring, int flags)
{
    (void)flags;
    kring->wants_flush = true;
    return 0;
}

static void frames_forwarded_by_the_host_rings_are_pushed_out(void **state)
{
    struct poll_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_NIC_SW, 0, NR_NO_TX_POLL);

    bed->nic->up.krings[NM_RX][2].sync = host_rxsync_that_forwards;
    assert_int_equal(nm_poll(file, POLLIN), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 4);
    nm_close(file);
}

/* ---- waiters ---- */

static void count(void *data, struct nm_kring *kring)
{
    (void)kring;
    ++*(int *)data;
}

static void waiters_are_woken_until_they_go(void **state)
{
    struct nm_waiters waiters;
    int a = 0, b = 0;
    struct nm_waiter wa = {.wake = count, .data = &a}, wb = {.wake = count, .data = &b};

    (void)state;
    nm_waiters_init(&waiters);
    nm_waiters_wake(&waiters, NULL);
    nm_waiters_add(&waiters, &wa);
    nm_waiters_add(&waiters, &wb);
    assert_int_equal(waiters.n, 2);
    nm_waiters_wake(&waiters, NULL);
    nm_waiters_remove(&waiters, &wa);
    nm_waiters_remove(&waiters, &wa);
    assert_int_equal(waiters.n, 1);
    nm_waiters_wake(&waiters, NULL);
    assert_int_equal(a, 1);
    assert_int_equal(b, 2);
    nm_waiters_remove(&waiters, &wb);
    nm_waiters_clear(&waiters);
}

/* One thread sleeps on the descriptor after every poll that found nothing, the other sends: no
 * wake-up may be lost. */
enum { N_FRAMES = 3000 };

static gpointer receive_all(gpointer data)
{
    struct nm_file *file = data;
    struct netmap_ring *ring = nm_rxring(nm_file_if(file), 0);
    unsigned n = 0;

    while (n < N_FRAMES) {
        struct pollfd fd = {.fd = nm_poll_fd(file), .events = POLLIN};
        short revents = nm_poll(file, POLLIN);

        if (revents & POLLERR) {
            break;
        }
        if (!(revents & POLLIN)) {
            if (poll(&fd, 1, 10000) != 1) { /* a lost wake-up */
                break;
            }
            continue;
        }
        n += nm_ring_space(ring);
        atomic_store(&ring->cur, atomic_load(&ring->tail));
        atomic_store(&ring->head, atomic_load(&ring->tail));
    }
    return GUINT_TO_POINTER(n);
}

static void no_wake_up_is_lost_between_threads(void **state)
{
    struct poll_bed *bed = *state;
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 4, .nr_rx_slots = 4};
    struct nm_file *a = nm_open(bed->host), *b;

    assert_int_equal(bed_register(a, "x0{1", &reg), 0);
    b = bed_open(bed->host, "x0}1", NR_REG_ALL_NIC, 0, 0);
    GThread *receiver = g_thread_new("receiver", receive_all, b);
    struct netmap_ring *ring = nm_txring(nm_file_if(a), 0);
    for (unsigned n = 0; n < N_FRAMES;) {
        struct pollfd fd = {.fd = nm_poll_fd(a), .events = POLLIN};

        if (nm_poll(a, POLLOUT) & POLLOUT) {
            const uint32_t next = nm_ring_next(ring, atomic_load(&ring->head));
            atomic_store(&ring->cur, next);
            atomic_store(&ring->head, next);
            n++;
        } else {
            assert_int_equal(poll(&fd, 1, 10000), 1);
        }
    }
    assert_int_equal(nm_txsync(a), 0);
    assert_int_equal(GPOINTER_TO_UINT(g_thread_join(receiver)), N_FRAMES);
    nm_close(a);
    nm_close(b);
}

int main(void)
{
#define POLL_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        POLL_TEST(what_is_asked_for_and_ready_is_answered),
        POLL_TEST(a_file_that_is_not_registered_is_an_error),
        POLL_TEST(poll_sends_unless_it_was_told_not_to),
        POLL_TEST(what_is_not_ready_makes_the_descriptor_readable_once),
        POLL_TEST(a_file_of_one_ring_is_not_woken_by_another),
        POLL_TEST(the_second_look_finds_what_the_first_missed),
        POLL_TEST(a_full_tx_ring_is_waited_for),
        POLL_TEST(bad_stopped_and_failing_rings_are_errors),
        POLL_TEST(frames_forwarded_by_the_host_rings_are_pushed_out),
        cmocka_unit_test(waiters_are_woken_until_they_go),
        POLL_TEST(no_wake_up_is_lost_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
