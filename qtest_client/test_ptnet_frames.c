/*
 * ptnet's frame interface against a host played by the test: what lies in slots and buffers, what
 * is refused or dropped, kicks counted exactly.
 */
#include "qtest_client/test_ptnet_rings.h"

#include <pthread.h>

enum { N = 8, HEADER = 12 };

static struct rings_bed bed;
static struct ptnet_queue *q;

static int open_tx(void **state)
{
    (void)state;
    q = rings_open(&bed, true, N, HEADER);
    return 0;
}

static int open_tx_bare(void **state)
{
    (void)state;
    q = rings_open(&bed, true, N, 0);
    return 0;
}

static int open_rx(void **state)
{
    (void)state;
    q = rings_open(&bed, false, N, HEADER);
    bed.ktoa.kern_need_kick = 0;
    return 0;
}

static int open_rx_bare(void **state)
{
    (void)state;
    q = rings_open(&bed, false, N, 0);
    bed.ktoa.kern_need_kick = 0;
    return 0;
}

static int close_bed(void **state)
{
    (void)state;
    rings_close(&bed);
    return 0;
}

static uint8_t pattern[1024];

static struct ptnet_frame frame_of(uint32_t len)
{
    for (unsigned i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)(i * 7 + 1);
    }
    return (struct ptnet_frame){.data = pattern, .len = len};
}

static void expect_slot(uint32_t i, uint16_t len, uint16_t flags)
{
    assert_int_equal(q->ring->slot[i].len, len);
    assert_int_equal(q->ring->slot[i].flags, flags);
    assert_int_equal(q->ring->slot[i].buf_idx, 2 + i);
}

/* ---- transmit ---- */

static void a_frame_lies_behind_its_header(void **state)
{
    struct ptnet_frame f = frame_of(40);
    g_autoptr(GError) error = NULL;

    (void)state;
    f.hdr = (struct nm_vnet_hdr){
        .flags = NM_VNET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 4, .num_buffers = 9};
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 1);
    expect_slot(0, HEADER + 40, 0);
    const uint8_t header[HEADER] = {1, 0, 0, 0, 0, 0, 34, 0, 4, 0, 0, 0};
    assert_memory_equal(rings_buffer(&bed, 0), header, HEADER);
    assert_memory_equal(rings_buffer(&bed, 0) + HEADER, pattern, 40);
    assert_int_equal(bed.atok.head, 1);
    assert_int_equal(bed.atok.cur, 1);
    assert_int_equal(bed.atok.sync_flags, NAF_FORCE_RECLAIM);
    assert_int_equal(bed.n_kicks, 1);
    assert_int_equal(q->n_frames, 1);
    assert_int_equal(q->n_bytes, 40);
}

static void a_large_frame_fills_buffer_after_buffer(void **state)
{
    struct ptnet_frame f = frame_of(150);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_int_equal(ptnet_frame_slots(q, 150), 3);
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 1);
    expect_slot(0, 64, NS_MOREFRAG);
    expect_slot(1, 64, NS_MOREFRAG);
    expect_slot(2, 34, 0);
    assert_memory_equal(rings_buffer(&bed, 0) + HEADER, pattern, 52);
    assert_memory_equal(rings_buffer(&bed, 1), pattern + 52, 64);
    assert_memory_equal(rings_buffer(&bed, 2), pattern + 116, 34);
    assert_int_equal(bed.atok.head, 3);
}

static void a_frame_that_just_fits_takes_one_slot(void **state)
{
    struct ptnet_frame f[2] = {frame_of(64), frame_of(65)};
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_int_equal(ptnet_tx_burst(q, f, 2, &error), 2);
    expect_slot(0, 64, 0);
    expect_slot(1, 64, NS_MOREFRAG);
    expect_slot(2, 1, 0);
}

static void a_burst_is_told_once_and_kicked_once(void **state)
{
    struct ptnet_frame f[4] = {frame_of(40), frame_of(40), frame_of(40), frame_of(40)};
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_int_equal(ptnet_tx_burst(q, f, 4, &error), 4);
    assert_int_equal(bed.n_kicks, 1);
    assert_int_equal(q->n_syncs, 1);
    bed.ktoa.kern_need_kick = 0;
    bed.atok.sync_flags = 77;
    assert_int_equal(ptnet_tx_burst(q, f, 1, &error), 1);
    assert_int_equal(bed.n_kicks, 1);
    assert_int_equal(bed.atok.sync_flags, 77);
    assert_int_equal(bed.atok.head, 5);
    assert_int_equal(ptnet_tx_burst(q, f, 0, &error), 0);
    assert_int_equal(q->n_syncs, 2);
}

static void a_full_ring_takes_what_there_is_room_for(void **state)
{
    struct ptnet_frame f[N];
    g_autoptr(GError) error = NULL;

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        f[i] = frame_of(100); /* two slots each */
    }
    assert_int_equal(ptnet_tx_burst(q, f, N, &error), 3);
    assert_int_equal(ptnet_tx_burst(q, f, N, &error), 0);
    assert_null(error);
    assert_int_equal(bed.atok.head, 6);
    rings_host_sends(&bed);
    assert_int_equal(ptnet_tx_burst(q, f, N, &error), 3);
    assert_int_equal(bed.atok.head, 4);
    expect_slot(7, 48, 0);
    expect_slot(0, 64, NS_MOREFRAG);
}

static void waiting_for_the_slots_of_a_frame_is_enough(void **state)
{
    struct ptnet_frame f = frame_of(300); /* five slots */
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 1);
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 0);
    bed.ktoa.hwcur = 3;
    bed.ktoa.hwtail = 1; /* four free */
    assert_false(ptnet_wait(q, 5, 0, &error));
    g_clear_error(&error);
    bed.ktoa.hwtail = 2;
    assert_true(ptnet_wait(q, 5, 0, &error));
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 1);
}

static void frames_that_cannot_be_are_refused(void **state)
{
    static const struct {
        uint32_t len;
        struct nm_vnet_hdr hdr;
    } bad[] = {
        {.len = 0},
        {.len = PTNET_MAX_FRAME + 1},
        {.len = UINT32_MAX},
        {.len = 8 * 64 - HEADER}, /* as many slots as the ring has */
        {.len = 60, .hdr = {.flags = 4}},
        {.len = 60, .hdr = {.flags = 1, .csum_start = 50, .csum_offset = 9}},
        {.len = 60, .hdr = {.flags = 1, .csum_start = 65535, .csum_offset = 65535}},
        {.len = 60, .hdr = {.gso_type = 2, .gso_size = 10}},
        {.len = 60, .hdr = {.gso_type = 1, .gso_size = 0}},
        {.len = 60, .hdr = {.gso_type = 1, .gso_size = 10, .hdr_len = 61}},
    };
    struct ptnet_frame good = frame_of(40);
    GError *error = NULL;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct ptnet_frame f[2] = {{pattern, bad[i].len, bad[i].hdr}, good};
        assert_int_equal(ptnet_tx_burst(q, f, 2, &error), 0);
        rings_expect(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "ring 0 cannot send a frame");
        f[1] = f[0];
        f[0] = good; /* the one before it goes out */
        uint32_t head = bed.atok.head;
        assert_int_equal(ptnet_tx_burst(q, f, 2, &error), 1);
        assert_null(error);
        assert_int_equal(bed.atok.head, ptnet_next(head, N));
        rings_host_sends(&bed);
    }
}

static void offloads_without_a_header_are_refused(void **state)
{
    struct ptnet_frame f = frame_of(40);
    GError *error = NULL;

    (void)state;
    f.hdr.flags = NM_VNET_HDR_F_NEEDS_CSUM;
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 0);
    rings_expect(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "headers have 0 bytes");
    f.hdr.flags = 0;
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 1);
    expect_slot(0, 40, 0);
    assert_memory_equal(rings_buffer(&bed, 0), pattern, 40);
}

static void a_slot_without_a_buffer_is_not_written(void **state)
{
    static const uint32_t bad[] = {0, 1, RINGS_BUFS, UINT32_MAX};
    struct ptnet_frame f = frame_of(100);
    GError *error = NULL;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        q->ring->slot[1].buf_idx = bad[i];
        assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 0);
        rings_expect(&error, PTNET_ERROR, PTNET_ERROR_DEVICE, "slot 1 has buffer");
        assert_int_equal(bed.atok.head, 0);
        assert_int_equal(q->n_errors, i + 1);
    }
    assert_int_equal(q->n_frames, 0);
}

static void a_kick_that_failed_is_told_by_the_next_call(void **state)
{
    struct ptnet_frame f = frame_of(40);
    GError *error = NULL;

    (void)state;
    bed.is_dead = true;
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 1); /* it is queued */
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 0);
    rings_expect(&error, QTEST_ERROR, QTEST_ERROR_CLOSED, "dead");
    bed.is_dead = false;
    bed.ktoa.kern_need_kick = 0;
    assert_int_equal(ptnet_tx_burst(q, &f, 1, &error), 1);
    assert_int_equal(bed.n_kicks, 1);
}

/* ---- receive ---- */

static uint8_t room[4][256];

static unsigned receive(struct ptnet_frame *frames, unsigned n)
{
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < n; i++) {
        frames[i] = (struct ptnet_frame){.data = room[i], .len = sizeof(room[i])};
    }
    unsigned done = ptnet_rx_burst(q, frames, n, &error);
    assert_null(error);
    return done;
}

static void a_frame_comes_without_its_header(void **state)
{
    struct ptnet_frame f[2];

    (void)state;
    rings_host_receives(&bed, HEADER + 3, 0, 0);
    const uint8_t bytes[HEADER + 3] = {2, 1, 54, 0, 10, 0, 0, 0, 0, 0, 0, 0, 'x', 'y', 'z'};
    memcpy(rings_buffer(&bed, 0), bytes, sizeof(bytes));
    assert_int_equal(receive(f, 2), 0); /* hdr_len 54 of 3 bytes cannot be */
    assert_int_equal(q->n_errors, 1);
    rings_host_receives(&bed, HEADER + 3, 0, 0);
    memcpy(rings_buffer(&bed, 1), bytes, sizeof(bytes));
    rings_buffer(&bed, 1)[2] = 3;
    assert_int_equal(receive(f, 2), 1);
    assert_int_equal(f[0].len, 3);
    assert_memory_equal(f[0].data, "xyz", 3);
    assert_int_equal(f[0].hdr.flags, NM_VNET_HDR_F_DATA_VALID);
    assert_int_equal(f[0].hdr.gso_type, NM_VNET_HDR_GSO_TCPV4);
    assert_int_equal(f[0].hdr.gso_size, 10);
    assert_int_equal(bed.atok.head, 2);
    assert_int_equal(q->n_frames, 1);
    assert_int_equal(q->n_bytes, 3);
}

static void slots_of_one_frame_are_put_together(void **state)
{
    struct ptnet_frame f[2];

    (void)state;
    rings_host_receives(&bed, 64, NS_MOREFRAG, 0);
    rings_host_receives(&bed, 64, NS_MOREFRAG, 'b');
    rings_host_receives(&bed, 10, 0, 'c');
    rings_host_receives(&bed, HEADER + 1, 0, 0);
    assert_int_equal(receive(f, 2), 2);
    assert_int_equal(f[0].len, 52 + 64 + 10);
    assert_int_equal(f[0].data[51], 0);
    assert_int_equal(f[0].data[52], 'b');
    assert_int_equal(f[0].data[52 + 63], 'b');
    assert_int_equal(f[0].data[52 + 64], 'c');
    assert_int_equal(f[1].len, 1);
    assert_int_equal(bed.atok.head, 4);
}

static void a_burst_stops_at_what_was_asked_for(void **state)
{
    struct ptnet_frame f[4];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        rings_host_receives(&bed, 20, 0, (uint8_t)('a' + i));
    }
    assert_int_equal(receive(f, 2), 2);
    assert_int_equal(f[1].data[0], 'b');
    assert_int_equal(bed.atok.head, 2);
    assert_int_equal(receive(f, 4), 1);
    assert_int_equal(f[0].data[0], 'c');
    assert_int_equal(receive(f, 4), 0);
    assert_int_equal(q->n_syncs, 2); /* nothing to tell */
    assert_int_equal(bed.n_kicks, 0);
}

static void a_host_that_waits_for_slots_is_kicked_once(void **state)
{
    struct ptnet_frame f[4];

    (void)state;
    for (unsigned i = 0; i < N - 1; i++) {
        rings_host_receives(&bed, 20, 0, 'a');
    }
    bed.ktoa.kern_need_kick = 1;
    assert_int_equal(receive(f, 4), 4);
    assert_int_equal(bed.n_kicks, 1);
    assert_int_equal(bed.atok.sync_flags, NAF_FORCE_READ);
}

static void what_cannot_be_is_dropped_and_counted(void **state)
{
    struct ptnet_frame f[4];

    (void)state;
    rings_host_receives(&bed, 65, 0, 'a'); /* longer than its buffer */
    rings_host_receives(&bed, UINT16_MAX, 0, 'a');
    rings_host_receives(&bed, 20, 0, 'a');
    q->ring->slot[2].buf_idx = RINGS_BUFS; /* no buffer */
    rings_host_receives(&bed, 64, NS_MOREFRAG, 'a');
    rings_host_receives(&bed, 20, 0, 'a');
    q->ring->slot[4].buf_idx = 1; /* nor in the middle */
    rings_host_receives(&bed, 20, 0, 'b');
    assert_int_equal(receive(f, 4), 1);
    assert_int_equal(f[0].data[0], 'b');
    assert_int_equal(q->n_errors, 4);
    assert_int_equal(bed.atok.head, 6); /* all are given back */
}

static void a_frame_without_a_whole_header_is_dropped(void **state)
{
    struct ptnet_frame f[4];

    (void)state;
    rings_host_receives(&bed, HEADER - 1, 0, 0);
    rings_host_receives(&bed, HEADER, 0, 0);           /* no byte behind it */
    rings_host_receives(&bed, HEADER, NS_MOREFRAG, 0); /* the header alone in its slot */
    rings_host_receives(&bed, 7, 0, 'b');
    assert_int_equal(receive(f, 4), 1);
    assert_int_equal(f[0].len, 7);
    assert_int_equal(q->n_errors, 2);
}

static void a_frame_larger_than_its_room_is_dropped(void **state)
{
    struct ptnet_frame f[2];
    g_autoptr(GError) error = NULL;

    (void)state;
    rings_host_receives(&bed, 40, NS_MOREFRAG, 'a');
    rings_host_receives(&bed, 41, 0, 'a');
    rings_host_receives(&bed, 64, 0, 'b');
    room[0][80] = 0x5a;
    f[0] = (struct ptnet_frame){.data = room[0], .len = 80};
    assert_int_equal(ptnet_rx_burst(q, f, 1, &error), 1);
    assert_int_equal(f[0].data[0], 'b');
    assert_int_equal(room[0][80], 0x5a);
    assert_int_equal(q->n_errors, 1);
}

static void a_frame_whose_end_is_missing_is_left_until_it_comes(void **state)
{
    struct ptnet_frame f[2];

    (void)state;
    rings_host_receives(&bed, 20, 0, 'a');
    rings_host_receives(&bed, 64, NS_MOREFRAG, 'b');
    assert_int_equal(receive(f, 2), 1);
    assert_int_equal(bed.atok.head, 1);
    assert_int_equal(q->n_errors, 1);
    rings_host_receives(&bed, 1, 0, 'c');
    assert_int_equal(receive(f, 2), 1);
    assert_int_equal(f[0].len, 65);
    assert_int_equal(bed.atok.head, 3);
}

static void a_slot_that_a_switch_did_not_use_is_no_error(void **state)
{
    struct ptnet_frame f[2];

    (void)state;
    rings_host_receives(&bed, 0, 0, 0);
    rings_host_receives(&bed, 20, 0, 0);
    rings_host_receives(&bed, 0, 0, 0);
    assert_int_equal(receive(f, 2), 1);
    assert_int_equal(bed.atok.head, 3);
    assert_int_equal(q->n_errors, 0);
}

/* ---- a host that writes anything, at any time ---- */

enum { N_SCRIBBLES = 20000 };

static uint32_t random_of(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Half of the values are such as could be. */
static uint32_t any_value(uint32_t *seed, uint32_t sane)
{
    static const uint32_t extremes[] = {0, 1, N - 1, N, N + 1, UINT16_MAX, UINT32_MAX, 0x80000000};
    uint32_t r = random_of(seed);

    return r & 1 ? (r >> 1) % sane : extremes[(r >> 1) % G_N_ELEMENTS(extremes)];
}

static void scribble(uint32_t *seed)
{
    union ptnet_slot s = {.buf_idx = any_value(seed, RINGS_BUFS),
                          .len = (uint16_t)any_value(seed, RINGS_BUF_BYTES + 1),
                          .flags = (uint16_t)any_value(seed, 64)};

    ptnet_store(&bed.ktoa.hwcur, any_value(seed, N));
    ptnet_store(&bed.ktoa.hwtail, any_value(seed, N));
    ptnet_store(&bed.ktoa.kern_need_kick, random_of(seed) & 1);
    ptnet_slot_store(&q->ring->slot[random_of(seed) % N], s);
}

static void *scribbling_thread(void *data)
{
    uint32_t seed = 7;

    for (unsigned i = 0; i < N_SCRIBBLES; i++) {
        scribble(&seed);
    }
    return data;
}

/* Under AddressSanitizer a step outside of what is ours ends the test. */
static void suffer(unsigned n, bool scribbles_itself)
{
    uint32_t seed = 1;

    for (unsigned i = 0; i < n; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *data = g_malloc(200);
        uint32_t len = 1 + random_of(&seed) % 200;
        struct ptnet_frame f = {.data = data, .len = len};
        if (scribbles_itself) {
            scribble(&seed);
        }
        memset(data, (int)i, 200);
        unsigned done =
            q->is_tx ? ptnet_tx_burst(q, &f, 1, &error) : ptnet_rx_burst(q, &f, 1, &error);
        assert_in_range(f.len, 1, len);
        assert_true(!error || done == 0);
        for (unsigned k = len; k < 200; k++) {
            assert_int_equal(data[k], (uint8_t)i);
        }
        assert_in_range(bed.atok.head, 0, N - 1);
        assert_in_range(bed.atok.cur, 0, N - 1);
    }
}

static void whatever_the_host_writes_leads_nowhere(void **state)
{
    (void)state;
    suffer(N_SCRIBBLES, true);
    assert_true(q->n_errors > 0 && q->n_frames > 0);
}

static void whenever_the_host_writes_it(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, scribbling_thread, NULL), 0);
    suffer(N_SCRIBBLES, false);
    pthread_join(thread, NULL);
}

#define on(test, open) cmocka_unit_test_setup_teardown(test, open, close_bed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on(a_frame_lies_behind_its_header, open_tx),
        on(a_large_frame_fills_buffer_after_buffer, open_tx),
        on(a_frame_that_just_fits_takes_one_slot, open_tx_bare),
        on(a_burst_is_told_once_and_kicked_once, open_tx),
        on(a_full_ring_takes_what_there_is_room_for, open_tx),
        on(waiting_for_the_slots_of_a_frame_is_enough, open_tx),
        on(frames_that_cannot_be_are_refused, open_tx),
        on(offloads_without_a_header_are_refused, open_tx_bare),
        on(a_slot_without_a_buffer_is_not_written, open_tx),
        on(a_kick_that_failed_is_told_by_the_next_call, open_tx),
        on(a_frame_comes_without_its_header, open_rx),
        on(slots_of_one_frame_are_put_together, open_rx),
        on(a_burst_stops_at_what_was_asked_for, open_rx_bare),
        on(a_host_that_waits_for_slots_is_kicked_once, open_rx_bare),
        on(what_cannot_be_is_dropped_and_counted, open_rx_bare),
        on(a_frame_without_a_whole_header_is_dropped, open_rx),
        on(a_frame_larger_than_its_room_is_dropped, open_rx_bare),
        on(a_frame_whose_end_is_missing_is_left_until_it_comes, open_rx_bare),
        on(a_slot_that_a_switch_did_not_use_is_no_error, open_rx),
        on(whatever_the_host_writes_leads_nowhere, open_rx),
        on(whatever_the_host_writes_leads_nowhere, open_tx),
        on(whenever_the_host_writes_it, open_rx),
        on(whenever_the_host_writes_it, open_tx),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
