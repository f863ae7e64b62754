#include "models/netmap/test_nm_bed.h"

#include <pthread.h>

struct sync_bed {
    struct nm_host *host;
    struct bed_nic *nic;
    struct nm_file *file;
    struct netmap_ring *tx, *rx;
    struct nm_kring *ktx, *krx;
    unsigned n_lines; /* logged */
    char *line;
};

static void keep_line(void *data, const char *line)
{
    struct sync_bed *bed = data;

    bed->n_lines++;
    g_free(bed->line);
    bed->line = g_strdup(line);
}

/* Ring 0 of each direction bound: 16 tx slots, 8 rx slots. */
static int set_up(void **state)
{
    struct sync_bed *bed = g_new0(struct sync_bed, 1);

    bed->host = bed_host();
    nm_host_set_log(bed->host, keep_line, bed);
    bed->nic = bed_nic_new(bed->host, "x0");
    bed->file = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    bed->tx = nm_txring(nm_file_if(bed->file), 0);
    bed->rx = nm_rxring(nm_file_if(bed->file), 0);
    bed->ktx = &bed->nic->up.krings[NM_TX][0];
    bed->krx = &bed->nic->up.krings[NM_RX][0];
    *state = bed;
    return 0;
}

static int tear_down(void **state)
{
    struct sync_bed *bed = *state;

    nm_host_free(bed->host);
    g_free(bed->line);
    g_free(bed);
    return 0;
}

/* ---- the prologues ---- */

struct indices {
    uint32_t from, to; /* tx: rhead, rtail; rx: hwcur, hwtail */
    uint32_t head, cur;
    bool is_good;
};

/* Of 8 slots. */
static const struct indices orders[] = {
    /* free space without a wrap */
    {2, 5, 2, 2, true},
    {2, 5, 5, 5, true},
    {2, 5, 3, 4, true},
    {2, 5, 2, 5, true},
    {2, 5, 1, 2, false},
    {2, 5, 6, 6, false},
    {2, 5, 3, 2, false},
    {2, 5, 3, 6, false},
    {2, 5, 5, 4, false},
    /* with one */
    {6, 2, 6, 6, true},
    {6, 2, 7, 1, true},
    {6, 2, 0, 2, true},
    {6, 2, 2, 2, true},
    {6, 2, 6, 2, true},
    {6, 2, 3, 3, false},
    {6, 2, 5, 6, false},
    {6, 2, 7, 3, false},
    {6, 2, 7, 6, false},
    {6, 2, 0, 7, false},
    {6, 2, 1, 0, false},
    /* nothing free, and all but one */
    {4, 4, 4, 4, true},
    {4, 4, 4, 5, false},
    {4, 4, 3, 3, false},
    {4, 3, 3, 3, true},
    {4, 3, 4, 3, true},
    {4, 3, 3, 4, false},
    /* beyond the ring, also where it wraps */
    {2, 5, 8, 8, false},
    {2, 5, 3, 8, false},
    {6, 2, 8, 8, false},
    {6, 2, 7, 8, false},
    {6, 2, 0xffffffff, 0xffffffff, false},
    {4, 3, 3, 0x80000003, false},
};

static void tx_takes_what_lies_between_rhead_and_rtail(void **state)
{
    struct sync_bed *bed = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(orders); i++) {
        const struct indices *o = &orders[i];

        bed->ktx->num_slots = 8;
        bed->ktx->hwcur = bed->ktx->rhead = bed->ktx->rcur = o->from;
        bed->ktx->rtail = o->to;
        atomic_store(&bed->ktx->hwtail, o->to);
        assert_int_equal(nm_txsync_prologue(bed->ktx, o->head, o->cur), o->is_good);
        assert_int_equal(bed->ktx->rhead, o->is_good ? o->head : o->from);
        assert_int_equal(bed->ktx->rcur, o->is_good ? o->cur : o->from);
    }
    bed->ktx->num_slots = 16;
}

static void tx_does_not_go_back_and_not_beyond_what_was_shown(void **state)
{
    struct sync_bed *bed = *state;

    bed->ktx->hwcur = 2; /* handed over and not yet taken: [2, 4) */
    bed->ktx->rhead = 4;
    bed->ktx->rtail = 6;
    atomic_store(&bed->ktx->hwtail, 9); /* not yet shown: [6, 9) */
    assert_false(nm_txsync_prologue(bed->ktx, 3, 3));
    assert_false(nm_txsync_prologue(bed->ktx, 7, 7));
    assert_true(nm_txsync_prologue(bed->ktx, 6, 6));
    bed->ktx->rtail = 9; /* shown, but taken back since */
    atomic_store(&bed->ktx->hwtail, 7);
    assert_false(nm_txsync_prologue(bed->ktx, 8, 8));
    assert_true(nm_txsync_prologue(bed->ktx, 7, 9));
}

static void rx_takes_what_lies_between_hwcur_and_hwtail(void **state)
{
    struct sync_bed *bed = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(orders); i++) {
        const struct indices *o = &orders[i];

        bed->krx->hwcur = bed->krx->rhead = bed->krx->rcur = o->from;
        atomic_store(&bed->krx->hwtail, o->to);
        assert_int_equal(nm_rxsync_prologue(bed->krx, o->head, o->cur), o->is_good);
        assert_int_equal(bed->krx->rhead, o->is_good ? o->head : o->from);
    }
}

static void indices_of_ours_beyond_the_ring_fail_both(void **state)
{
    struct sync_bed *bed = *state;

    bed->ktx->hwcur = 16;
    assert_false(nm_txsync_prologue(bed->ktx, 0, 0));
    bed->ktx->hwcur = 0;
    atomic_store(&bed->ktx->hwtail, 16);
    assert_false(nm_txsync_prologue(bed->ktx, 0, 0));
    atomic_store(&bed->ktx->hwtail, 15);
    bed->ktx->rtail = 16;
    assert_false(nm_txsync_prologue(bed->ktx, 0, 0));
    bed->ktx->rtail = 15;
    bed->ktx->rhead = 16;
    assert_false(nm_txsync_prologue(bed->ktx, 0, 0));
    bed->ktx->rhead = 0;
    assert_true(nm_txsync_prologue(bed->ktx, 0, 0));
    atomic_store(&bed->krx->hwtail, 8);
    assert_false(nm_rxsync_prologue(bed->krx, 0, 0));
    atomic_store(&bed->krx->hwtail, 0);
    bed->krx->hwcur = 8;
    assert_false(nm_rxsync_prologue(bed->krx, 0, 0));
}

/* ---- reinit ---- */

static void indices_beyond_the_ring_are_set_back(void **state)
{
    struct sync_bed *bed = *state;
    const struct {
        uint32_t head, cur, tail;
    } bad[] = {{16, 3, 15}, {3, 16, 15}, {3, 3, 16}, {0xffffffff, 0xffffffff, 0xffffffff}};

    bed->tx->head = bed->tx->cur = 3;
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->tx->tail, 2);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        bed->tx->head = bad[i].head;
        bed->tx->cur = bad[i].cur;
        bed->tx->tail = bad[i].tail;
        assert_true(nm_ring_reinit(bed->ktx));
        assert_int_equal(bed->tx->head, 3);
        assert_int_equal(bed->tx->cur, 3);
        assert_int_equal(bed->tx->tail, 2);
        assert_int_equal(bed->ktx->rhead, 3);
        assert_int_equal(bed->ktx->rcur, 3);
        assert_int_equal(bed->ktx->rtail, 2);
    }
}

static void a_bad_order_leaves_the_indices_and_sends_nothing(void **state)
{
    struct sync_bed *bed = *state;

    bed->tx->head = 5;
    bed->tx->cur = 4;
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 0);
    assert_int_equal(bed->tx->head, 5);
    assert_int_equal(bed->tx->cur, 4);
    assert_int_equal(bed->ktx->n_reinits, 1);
    assert_string_equal(bed->line,
                        "netmap: x0 TX0: bad ring (1 so far): head 5 cur 4 tail 15, of 16 slots");
    bed->tx->cur = 5;
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 1);
    assert_int_equal(bed->ktx->hwcur, 5);
}

static void a_tail_of_the_applications_own_making_is_not_believed(void **state)
{
    struct sync_bed *bed = *state;

    bed->tx->head = bed->tx->cur = 3;
    nm_txsync(bed->file); /* tail 2: slots 3..1 are free */
    bed->tx->head = bed->tx->cur = 2;
    nm_txsync(bed->file);          /* all sent: tail 1 */
    bed->nic->sync_fails = EAGAIN; /* nothing is reclaimed from now on */
    atomic_store(&bed->ktx->hwtail, 2);
    bed->ktx->rtail = 2;
    bed->tx->head = 7; /* a bad order, with a tail that would allow it */
    bed->tx->cur = 6;
    bed->tx->tail = 9;
    nm_txsync(bed->file);
    bed->tx->cur = 7;
    nm_txsync(bed->file);
    assert_int_equal(bed->ktx->n_reinits, 2);
    assert_int_equal(bed->ktx->rhead, 2);
}

static void slots_that_name_no_buffer_are_emptied(void **state)
{
    struct sync_bed *bed = *state;
    const uint32_t good = bed->tx->slot[4].buf_idx;

    bed->tx->slot[0].buf_idx = 0;
    bed->tx->slot[1].buf_idx = 1;
    bed->tx->slot[2].buf_idx = 4096;
    bed->tx->slot[3].buf_idx = 0xffffffff;
    bed->tx->slot[4].len = 2049;
    bed->tx->slot[5].len = 2048;
    bed->tx->slot[3].flags = NS_REPORT;
    bed->tx->head = 99;
    assert_int_equal(nm_txsync(bed->file), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(bed->tx->slot[i].buf_idx, 0);
        assert_int_equal(bed->tx->slot[i].len, 0);
    }
    assert_int_equal(bed->tx->slot[3].flags, NS_REPORT);
    assert_int_equal(bed->tx->slot[4].buf_idx, good);
    assert_int_equal(bed->tx->slot[4].len, 0);
    assert_int_equal(bed->tx->slot[5].len, 2048);
}

static void a_storm_of_bad_rings_is_counted_and_not_all_logged(void **state)
{
    struct sync_bed *bed = *state;

    for (int i = 0; i < 1000; i++) {
        bed->tx->head = 77;
        assert_int_equal(nm_txsync(bed->file), 0);
    }
    assert_int_equal(bed->ktx->n_reinits, 1000);
    assert_int_equal(bed->n_lines, 10); /* 1, 2, 4 ... 512 */
}

/* ---- the syncs ---- */

static void tx_sync_takes_slots_and_moves_tail(void **state)
{
    struct sync_bed *bed = *state;

    bed->tx->head = 4;
    bed->tx->cur = 6;
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->ktx->hwcur, 4);
    assert_int_equal(bed->ktx->rcur, 6);
    assert_int_equal(bed->ktx->rtail, 3);
    assert_int_equal(bed->tx->tail, 3);
    assert_int_equal(bed->nic->last_flags[NM_TX], NAF_FORCE_RECLAIM);
    assert_int_equal(bed->nic->n_syncs[NM_RX], 0);
}

static void rx_sync_shows_what_came_and_takes_back_what_was_released(void **state)
{
    struct sync_bed *bed = *state;

    bed->nic->echoes = true;
    bed->tx->slot[0].len = 60;
    bed->tx->slot[1].len = 61;
    bed->tx->head = bed->tx->cur = 2;
    nm_txsync(bed->file);
    assert_int_equal(bed->rx->tail, 0);
    assert_int_equal(nm_rxsync(bed->file), 0);
    assert_int_equal(bed->rx->tail, 2);
    assert_int_equal(bed->rx->slot[1].len, 61);
    assert_int_equal(nm_ring_space(bed->rx), 2);
    assert_int_equal(bed->nic->last_flags[NM_RX], NAF_FORCE_READ);
    bed->rx->head = bed->rx->cur = 1;
    nm_rxsync(bed->file);
    assert_int_equal(bed->krx->hwcur, 1);
}

static void a_bad_rx_ring_is_synced_and_releases_nothing(void **state)
{
    struct sync_bed *bed = *state;

    bed->nic->echoes = true;
    bed->tx->head = bed->tx->cur = 2;
    nm_txsync(bed->file);
    bed->rx->head = bed->rx->cur = 3; /* beyond hwtail, on the ring */
    assert_int_equal(nm_rxsync(bed->file), 0);
    assert_int_equal(bed->nic->n_syncs[NM_RX], 1);
    assert_int_equal(bed->krx->hwcur, 0);
    assert_int_equal(bed->rx->head, 3);
    assert_int_equal(bed->rx->tail, 2);
    bed->rx->head = bed->rx->cur = 8; /* not on the ring */
    assert_int_equal(nm_rxsync(bed->file), 0);
    assert_int_equal(bed->rx->head, 0);
    assert_int_equal(bed->rx->tail, 2);
    assert_int_equal(bed->krx->n_reinits, 2);
}

static void a_tail_that_was_written_is_mended(void **state)
{
    struct sync_bed *bed = *state;

    bed->nic->sync_fails = EAGAIN;
    bed->tx->tail = 9;
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->tx->tail, 15);
    assert_string_equal(bed->line, "netmap: x0 TX0: the application changed tail");
}

static void a_failing_port_leaves_tail_and_is_not_told(void **state)
{
    struct sync_bed *bed = *state;

    bed->nic->sync_fails = EAGAIN;
    bed->tx->head = bed->tx->cur = 3;
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->tx->tail, 15);
    assert_int_equal(nm_rxsync(bed->file), 0);
}

static void a_stopped_ring_is_an_error_and_a_busy_one_is_skipped(void **state)
{
    struct sync_bed *bed = *state;

    bed->tx->head = bed->tx->cur = 3;
    assert_int_equal(nm_kr_acquire(bed->ktx, false), 0);
    assert_int_equal(nm_kr_acquire(bed->ktx, false), EBUSY);
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 0);
    nm_kr_release(bed->ktx);
    assert_int_equal(nm_txsync(bed->file), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 1);
    nm_kr_stop(bed->ktx);
    assert_int_equal(nm_kr_acquire(bed->ktx, true), EIO);
    assert_int_equal(nm_txsync(bed->file), EIO);
    assert_int_equal(nm_rxsync(bed->file), 0);
    assert_int_equal(bed->nic->n_syncs[NM_TX], 1);
}

static void timestamps_are_of_the_rx_ring(void **state)
{
    struct sync_bed *bed = *state;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    nm_txsync(bed->file);
    nm_rxsync(bed->file);
    assert_int_equal(bed->tx->ts.tv_sec, 0);
    assert_in_range(bed->rx->ts.tv_sec, now.tv_sec, now.tv_sec + 10); /* a slow machine */
    assert_in_range(bed->rx->ts.tv_usec, 0, 999999);

    struct nm_host *without = nm_host_new(&(struct nm_host_options){.no_timestamp = true}, NULL);
    bed_nic_new(without, "x0");
    struct nm_file *file = bed_open(without, "x0", NR_REG_ONE_NIC, 0, 0);
    struct netmap_ring *rx = nm_rxring(nm_file_if(file), 0);
    nm_rxsync(file);
    assert_int_equal(rx->ts.tv_sec, 0);
    rx->flags = NR_TIMESTAMP;
    nm_rxsync(file);
    assert_in_range(rx->ts.tv_sec, now.tv_sec, now.tv_sec + 10);
    nm_host_free(without);
}

static void syncs_need_a_registration(void **state)
{
    struct sync_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host);

    assert_int_equal(nm_txsync(file), ENXIO);
    assert_int_equal(nm_rxsync(file), ENXIO);
    nm_close(file);
}

/* ---- threads ---- */

static gpointer hammer(gpointer data)
{
    struct sync_bed *bed = data;

    for (int i = 0; i < 20000; i++) {
        if (nm_kr_acquire(bed->ktx, true) == 0) {
            bed->ktx->hwcur++; /* unprotected, this would lose counts */
            nm_kr_release(bed->ktx);
        }
    }
    return NULL;
}

static void one_thread_at_a_time_is_inside(void **state)
{
    struct sync_bed *bed = *state;
    GThread *threads[2];

    bed->ktx->hwcur = 0;
    for (int i = 0; i < 2; i++) {
        threads[i] = g_thread_new("hammer", hammer, bed);
    }
    for (int i = 0; i < 2; i++) {
        g_thread_join(threads[i]);
    }
    assert_int_equal(bed->ktx->hwcur, 40000);
    bed->ktx->hwcur = 0;
}

int main(void)
{
#define SYNC_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SYNC_TEST(tx_takes_what_lies_between_rhead_and_rtail),
        SYNC_TEST(tx_does_not_go_back_and_not_beyond_what_was_shown),
        SYNC_TEST(rx_takes_what_lies_between_hwcur_and_hwtail),
        SYNC_TEST(indices_of_ours_beyond_the_ring_fail_both),
        SYNC_TEST(indices_beyond_the_ring_are_set_back),
        SYNC_TEST(a_bad_order_leaves_the_indices_and_sends_nothing),
        SYNC_TEST(a_tail_of_the_applications_own_making_is_not_believed),
        SYNC_TEST(slots_that_name_no_buffer_are_emptied),
        SYNC_TEST(a_storm_of_bad_rings_is_counted_and_not_all_logged),
        SYNC_TEST(tx_sync_takes_slots_and_moves_tail),
        SYNC_TEST(rx_sync_shows_what_came_and_takes_back_what_was_released),
        SYNC_TEST(a_bad_rx_ring_is_synced_and_releases_nothing),
        SYNC_TEST(a_tail_that_was_written_is_mended),
        SYNC_TEST(a_failing_port_leaves_tail_and_is_not_told),
        SYNC_TEST(a_stopped_ring_is_an_error_and_a_busy_one_is_skipped),
        SYNC_TEST(timestamps_are_of_the_rx_ring),
        SYNC_TEST(syncs_need_a_registration),
        SYNC_TEST(one_thread_at_a_time_is_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
