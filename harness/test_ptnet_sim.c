/*
 * ptnet from end to end in one process: driver, register model, sync-kloop, netmap pipe or VALE
 * switch, and back up to a second driver, on machines without QEMU. The kloops are stepped: kicks
 * and interrupts are counted exactly. With kloops that are threads: test_ptnet_sim_threads.c.
 */
#include "harness/test_ptnet_sim.h"

#include <string.h>

static struct sim_bed bed;

static int open_pipe(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.is_pipe = true, .is_stepped = true});
    return 0;
}

static int open_vale(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.is_stepped = true});
    return 0;
}

static int open_direct(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.is_stepped = true, .is_direct = true});
    return 0;
}

static int open_vale_with_rings(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.is_stepped = true, .rings = 4});
    return 0;
}

static int close_bed(void **state)
{
    (void)state;
    sim_bed_close(&bed);
    return 0;
}

/* ---- frames ---- */

static void frames_arrive_as_they_were_sent(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    for (unsigned round = 0; round < 200; round++) {
        unsigned n = 1 + round % 7;
        sim_send(&bed, 0, round * 7, n);
        sim_step(&bed);
        sim_expect(&bed, 1, round * 7, n);
        sim_send(&bed, 1, round * 7, n);
        sim_step(&bed);
        sim_expect(&bed, 0, round * 7, n);
    }
    assert_int_equal(sim_tx(&bed, 0)->n_errors + sim_rx(&bed, 1)->n_errors, 0);
}

static void a_full_ring_holds_all_but_one_slot(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    unsigned n = sim_tx(&bed, 0)->num_slots - 1;

    for (unsigned i = 0; i < n; i++) {
        sim_send(&bed, 0, i, 1);
    }
    assert_int_equal(sim_try_send(&bed, 0, n, 1), 0);
    sim_step(&bed);
    for (unsigned i = 0; i < n; i++) {
        sim_expect(&bed, 1, i, 1);
    }
    sim_step(&bed); /* the slots come back */
    sim_send(&bed, 0, n, 1);
    sim_step(&bed);
    sim_expect(&bed, 1, n, 1);
}

/* ---- kicks and interrupts ---- */

static void each_frame_to_a_sleeping_host_is_one_kick(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    sim_step(&bed); /* the first passes: hosts go to sleep */
    for (unsigned i = 0; i < 10; i++) {
        sim_send(&bed, 0, i, 1);
        assert_int_equal(sim_kicks(&bed, 0), i + 1);
        assert_int_equal(sim_tx(&bed, 0)->n_kicks, i + 1);
        sim_step(&bed);
        sim_expect(&bed, 1, i, 1);
    }
    /* nobody waited: no interrupts; the receiver has given back slots in time: no kicks */
    assert_int_equal(sim_interrupts(&bed, 0) + sim_interrupts(&bed, 1), 0);
    assert_int_equal(sim_kicks(&bed, 1), 0);
}

static void a_burst_is_one_kick(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    sim_step(&bed);
    sim_send(&bed, 0, 0, 50);
    assert_int_equal(sim_kicks(&bed, 0), 1);
    assert_true(ptnet_step(bed.sides[0].ptnet));  /* was called for */
    assert_false(ptnet_step(bed.sides[0].ptnet)); /* and is done */
    assert_true(ptnet_step(bed.sides[1].ptnet));  /* by the port */
    sim_expect(&bed, 1, 0, 50);
    assert_int_equal(sim_kicks(&bed, 0), 1);
}

static void a_waiting_receiver_is_interrupted_once(void **state)
{
    struct ptnet_driver_options options = {.has_interrupts = true,
                                           .interrupt_kind = INTERRUPT_MEMORY};

    (void)state;
    sim_bed_start(&bed, &options);
    sim_step(&bed);
    uint64_t before = sim_interrupts(&bed, 1);
    for (unsigned i = 0; i < 10; i++) {
        g_autoptr(GError) error = NULL;
        assert_false(ptnet_wait(sim_rx(&bed, 1), 1, 0, &error)); /* armed now */
        sim_send(&bed, 0, 3 * i, 3);
        sim_step(&bed);
        assert_int_equal(sim_interrupts(&bed, 1) - before, i + 1);
        assert_true(interrupt_is_raised(sim_rx(&bed, 1)->irq));
        g_clear_error(&error);
        assert_true(ptnet_wait(sim_rx(&bed, 1), 3, 0, &error));
        sim_expect(&bed, 1, 3 * i, 3);
        interrupt_take(sim_rx(&bed, 1)->irq);
        sim_step(&bed);
    }
    /* awake again, it is not told of more */
    sim_send(&bed, 0, 100, 3);
    sim_step(&bed);
    assert_int_equal(sim_interrupts(&bed, 1) - before, 10);
    assert_false(interrupt_is_raised(sim_rx(&bed, 1)->irq));
}

static void a_full_sender_is_interrupted_when_there_is_room(void **state)
{
    struct ptnet_driver_options options = {.has_interrupts = true,
                                           .interrupt_kind = INTERRUPT_EVENTFD};
    g_autoptr(GError) error = NULL;

    (void)state;
    sim_bed_start(&bed, &options);
    struct ptnet_queue *tx = sim_tx(&bed, 0);
    for (unsigned i = 0; i < tx->num_slots - 1; i++) {
        sim_send(&bed, 0, i, 1);
    }
    sim_step(&bed);
    while (interrupt_take(tx->irq)) {
    }
    assert_false(ptnet_wait(tx, 1, 0, &error));
    g_clear_error(&error);
    uint64_t before = sim_interrupts(&bed, 0);
    sim_expect(&bed, 1, 0, 5);
    sim_step(&bed);
    assert_int_equal(sim_interrupts(&bed, 0), before + 1);
    assert_true(ptnet_wait(tx, 5, 0, &error));
    assert_false(ptnet_wait(tx, 6, 0, &error));
}

/* ---- the pipe ---- */

static void a_pipe_hands_over_buffers_and_copies_nothing(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    sim_bed_start(&bed, NULL);
    struct ptnet_queue *tx = sim_tx(&bed, 0), *rx = sim_rx(&bed, 1);
    struct netmap_slot *slot = tx->ring->slot;
    uint32_t first = slot[0].buf_idx, other = slot[9].buf_idx;

    slot[0] = (struct netmap_slot){.buf_idx = other, .len = 60, .flags = NS_BUF_CHANGED};
    slot[9] = (struct netmap_slot){.buf_idx = first, .flags = NS_BUF_CHANGED};
    tx->ring->head = tx->ring->cur = 1;
    assert_true(ptnet_txsync(tx, 0, &error));
    sim_step(&bed);
    assert_true(ptnet_rxsync(rx, 0, &error));
    assert_int_equal(rx->ring->tail, 1);
    assert_int_equal(rx->ring->slot[0].buf_idx, other);
    assert_int_equal(rx->ring->slot[0].len, 60);
    assert_true(rx->ring->slot[0].flags & NS_BUF_CHANGED);
    assert_ptr_equal(rx->buf_base, tx->buf_base); /* one memory, which both machines show */
}

/* ---- bad guests ---- */

static void a_guest_that_lies_harms_itself_only(void **state)
{
    static const uint32_t bad[] = {256, UINT32_MAX, 255, 0x80000000};

    (void)state;
    sim_bed_start(&bed, NULL);
    struct ptnet_queue *tx = sim_tx(&bed, 0);
    assert_int_equal(tx->num_slots, 256);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        tx->atok->cur = bad[i];
        tx->atok->head = i == 2 ? 0 : bad[i]; /* cur beyond, and both beyond */
        tx->atok->cur = i == 2 ? 256 : bad[i];
        uint64_t before = ptnet_kloop_stats(bed.sides[0].ptnet).bad_rings;
        ptnet_step(bed.sides[0].ptnet);
        assert_int_equal(ptnet_kloop_stats(bed.sides[0].ptnet).bad_rings, before + 1);
        /* the other direction carries on */
        sim_send(&bed, 1, i, 1);
        sim_step(&bed);
        sim_expect(&bed, 0, i, 1);
    }
}

static void a_guest_that_died_is_followed_by_the_next(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    sim_send(&bed, 0, 0, 3); /* told, and not yet looked at */
    ptnet_driver_abandon(bed.sides[0].driver);
    bed.sides[0].driver = NULL;
    sim_step(&bed); /* the host goes on with the dead guest's memory */
    sim_expect(&bed, 1, 0, 3);
    sim_bed_start_side(&bed, 0, NULL);
    sim_send(&bed, 0, 3, 20);
    sim_step(&bed);
    sim_expect(&bed, 1, 3, 20);
    sim_send(&bed, 1, 0, 1);
    sim_step(&bed);
    sim_expect(&bed, 0, 0, 1);
}

static void a_stopped_driver_starts_where_it_left_off(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    sim_bed_start(&bed, NULL);
    for (unsigned i = 0; i < 10; i++) {
        sim_send(&bed, 0, 5 * i, 5);
        sim_step(&bed);
        sim_expect(&bed, 1, 5 * i, 5);
        struct ptnet_driver *d = bed.sides[i % 2].driver;
        sim_step(&bed); /* or the host has not seen what was released, and gives it again */
        assert_true(ptnet_driver_stop(d, &error));
        assert_false(ptnet_step(bed.sides[i % 2].ptnet));
        assert_true(ptnet_driver_start(d, &error));
    }
}

static void a_reset_in_the_middle_leaves_the_other_side_alone(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    sim_send(&bed, 0, 0, 4);
    sim_step(&bed);
    pci_model_reset(bed.sides[0].model);
    sim_expect(&bed, 1, 0, 4);
    ptnet_driver_abandon(bed.sides[0].driver); /* its guest was reset with it */
    bed.sides[0].driver = NULL;
    sim_step(&bed);
    sim_bed_rescan(&bed, 0);
    sim_bed_start_side(&bed, 0, NULL);
    sim_send(&bed, 0, 4, 4);
    sim_step(&bed);
    sim_expect(&bed, 1, 4, 4);
}

/* ---- direct mode: kernel loops off, klooptx=off and klooprx=off ---- */

static void without_loops_rings_are_synced_by_who_kicks_them(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    sim_bed_start(&bed, NULL);
    struct ptnet_queue *tx = sim_tx(&bed, 0), *rx = sim_rx(&bed, 1);
    sim_frame_fill(0, 0, tx->buf_base + (size_t)tx->ring->slot[0].buf_idx * tx->buf_size, 60);
    tx->ring->slot[0].len = 60;
    tx->ring->head = tx->ring->cur = 1;
    assert_true(ptnet_txsync(tx, 0, &error));
    assert_int_equal(sim_kicks(&bed, 0), 1);
    assert_int_equal(tx->ktoa->hwcur, 1);
    /* what arrives is announced to a ring that asked for nothing, and fetched by its kick */
    assert_int_equal(ptnet_stats(bed.sides[1].ptnet).interrupts[1], 1);
    assert_true(ptnet_rxsync(rx, 0, &error));
    assert_int_equal(rx->ring->tail, 0);
    assert_int_equal(sim_kicks(&bed, 1), 1);
    assert_true(ptnet_rxsync(rx, 0, &error));
    assert_int_equal(rx->ring->tail, 1);
    assert_int_equal(rx->ring->slot[0].len, 60);
}

/* ---- a port without passthrough ---- */

static void a_device_without_passthrough_has_no_rings_to_drive(void **state)
{
    struct ptnet_options options = {.no_passthrough = true};
    struct ptnet_driver_options driver = {.no_vnet_hdr = true};
    struct sim_ptnet p;
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(sim_ptnet_add(bed.machines[0], bed.host, &options, &p, &error));
    sim_bed_rescan(&bed, 0);
    driver.shared = bed.regions[0];
    assert_false(sim_ptnet_open(&p, bed.buses[0], &driver, &error));
    assert_true(g_error_matches(error, PTNET_ERROR, PTNET_ERROR_DEVICE));
    assert_non_null(strstr(error->message, "0 tx and 0 rx rings"));
}

/* ---- the switch ---- */

static void ring_i_is_ring_i_of_the_other_port(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    struct ptnet_driver *a = bed.sides[0].driver, *b = bed.sides[1].driver;
    assert_int_equal(ptnet_driver_n_tx(a), 4);
    assert_int_equal(ptnet_driver_n_rx(b), 4);
    sim_send(&bed, 1, 0, 1); /* the switch learns where the other is */
    sim_step(&bed);
    sim_expect(&bed, 0, 0, 1);
    for (unsigned i = 0; i < 4; i++) {
        struct ptnet_frame f[2];
        assert_int_equal(sim_try_send_on(ptnet_driver_tx(a, i), 0, 10 * i, 2), 2);
        assert_int_equal(ptnet_driver_tx(a, i)->n_kicks, 1);
        sim_step(&bed);
        for (unsigned k = 0; k < 4; k++) {
            assert_int_equal(sim_receive_on(&bed, ptnet_driver_rx(b, k), f, 2), k == i ? 2 : 0);
            if (k == i) {
                sim_check(0, 10 * i, &f[0]);
                sim_check(0, 10 * i + 1, &f[1]);
            }
        }
    }
}

static void headers_are_negotiated_and_large_frames_cross_whole(void **state)
{
    struct ptnet_driver_options options = {.no_vnet_hdr = false};
    g_autofree uint8_t *bytes = g_malloc(60000);
    struct ptnet_frame got[2], f = {.data = bytes,
                                    .len = 60000,
                                    .hdr = {.flags = NM_VNET_HDR_F_NEEDS_CSUM,
                                            .gso_type = NM_VNET_HDR_GSO_TCPV4,
                                            .hdr_len = 54,
                                            .gso_size = 1448,
                                            .csum_start = 34,
                                            .csum_offset = 16}};
    g_autoptr(GError) error = NULL;

    (void)state;
    sim_bed_start(&bed, &options);
    assert_int_equal(ptnet_driver_header_bytes(bed.sides[0].driver), 12);
    sim_frame_fill(0, 7, bytes, f.len);
    for (unsigned i = 0; i < 20; i++) { /* round the ring, 30 slots each */
        assert_int_equal(ptnet_tx_burst(sim_tx(&bed, 0), &f, 1, &error), 1);
        sim_step(&bed);
        assert_int_equal(sim_receive_on(&bed, sim_rx(&bed, 1), got, 2), 1);
        assert_int_equal(got[0].len, f.len);
        assert_memory_equal(got[0].data, bytes, f.len);
        assert_memory_equal(&got[0].hdr, &f.hdr, sizeof(f.hdr));
    }
}

/* The Internet checksum over pseudo header and segment must come out as 0. */
static uint16_t tcp_sum(const uint8_t *ip, uint32_t tcp_len)
{
    uint32_t sum = 6 + tcp_len;

    for (unsigned i = 12; i < 20 + tcp_len; i += 2) { /* addresses, then the segment */
        sum += (uint32_t)ip[i] << 8 | (i + 1 < 20 + tcp_len ? ip[i + 1] : 0);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void a_receiver_without_headers_gets_segments_with_checksums(void **state)
{
    enum { MSS = 1400, PAYLOAD = 4 * MSS + 100, HEADERS = 54 };
    struct ptnet_driver_options with = {.no_vnet_hdr = false};
    uint8_t bytes[HEADERS + PAYLOAD] = {0};
    struct ptnet_frame got[8], f = {.data = bytes,
                                    .len = sizeof(bytes),
                                    .hdr = {.flags = NM_VNET_HDR_F_NEEDS_CSUM,
                                            .gso_type = NM_VNET_HDR_GSO_TCPV4,
                                            .hdr_len = HEADERS,
                                            .gso_size = MSS,
                                            .csum_start = 34,
                                            .csum_offset = 16}};
    const uint8_t ip_and_tcp[40] = {0x45, 0, 0, 0, 0,  1, 0x40, 0, 64,   6,    0,    0,
                                    10,   0, 0, 1, 10, 0, 0,    2, 0,    80,   0x12, 0x34,
                                    0,    0, 0, 9, 0,  0, 0,    0, 0x50, 0x18, 1};
    g_autoptr(GError) error = NULL;
    uint32_t at = 0;

    (void)state;
    sim_bed_start_side(&bed, 0, &with);
    sim_bed_start_side(&bed, 1, NULL);
    sim_frame_fill(0, 3, bytes, f.len);
    bytes[12] = 0x08;
    bytes[13] = 0;
    memcpy(bytes + 14, ip_and_tcp, sizeof(ip_and_tcp));
    assert_int_equal(ptnet_tx_burst(sim_tx(&bed, 0), &f, 1, &error), 1);
    sim_step(&bed);
    /* as large as a buffer: the device has tried the header on the port (netmap.md 9.4) */
    const unsigned largest = 2048 - HEADERS, n = (PAYLOAD + largest - 1) / largest;
    assert_int_equal(sim_receive_on(&bed, sim_rx(&bed, 1), got, 8), n);
    for (unsigned i = 0; i < n; i++) {
        uint32_t len = got[i].len - HEADERS;
        assert_int_equal(len, MIN(largest, PAYLOAD - at));
        assert_memory_equal(got[i].data + HEADERS, bytes + HEADERS + at, len);
        assert_int_equal(tcp_sum(got[i].data + 14, 20 + len), 0);
        at += len;
    }
    assert_int_equal(at, PAYLOAD);
}

static void a_guest_that_lies_costs_other_ports_no_frame(void **state)
{
    (void)state;
    sim_bed_start(&bed, NULL);
    g_autoptr(GError) error = NULL;
    struct nm_port *other = nm_port_open(bed.host, "vale0:c", 0, &error);
    assert_non_null(other);
    struct netmap_ring *rx = nm_rxring(other->nifp, 0);
    for (unsigned i = 0; i < 50; i++) {
        sim_rx(&bed, 1)->atok->head = 1000000 + i; /* side 1 lies about what it released */
        sim_tx(&bed, 1)->atok->head = 255 - i;     /* and about what it sends */
        sim_send(&bed, 0, i, 1);
        sim_step(&bed);
        assert_int_equal(nm_rxsync(other->file), 0);
        assert_int_equal(nm_ring_space(rx), 1);
        const struct netmap_slot *slot = &rx->slot[rx->head];
        struct ptnet_frame f = {.data = (uint8_t *)nm_buf(rx, slot->buf_idx), .len = slot->len};
        sim_check(0, i, &f);
        rx->head = rx->cur = nm_ring_next(rx, rx->head);
    }
    nm_port_close(other);
}

#define on_pipe(test) cmocka_unit_test_setup_teardown(test, open_pipe, close_bed)
#define on_vale(test) cmocka_unit_test_setup_teardown(test, open_vale, close_bed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_pipe(frames_arrive_as_they_were_sent),
        on_pipe(a_full_ring_holds_all_but_one_slot),
        on_pipe(each_frame_to_a_sleeping_host_is_one_kick),
        on_pipe(a_burst_is_one_kick),
        on_pipe(a_waiting_receiver_is_interrupted_once),
        on_pipe(a_full_sender_is_interrupted_when_there_is_room),
        on_pipe(a_pipe_hands_over_buffers_and_copies_nothing),
        on_pipe(a_guest_that_lies_harms_itself_only),
        on_pipe(a_guest_that_died_is_followed_by_the_next),
        on_pipe(a_stopped_driver_starts_where_it_left_off),
        on_pipe(a_reset_in_the_middle_leaves_the_other_side_alone),
        on_vale(frames_arrive_as_they_were_sent),
        on_vale(each_frame_to_a_sleeping_host_is_one_kick),
        on_vale(a_burst_is_one_kick),
        on_vale(a_waiting_receiver_is_interrupted_once),
        on_vale(a_guest_that_died_is_followed_by_the_next),
        on_vale(a_stopped_driver_starts_where_it_left_off),
        on_vale(a_reset_in_the_middle_leaves_the_other_side_alone),
        cmocka_unit_test_setup_teardown(ring_i_is_ring_i_of_the_other_port, open_vale_with_rings,
                                        close_bed),
        cmocka_unit_test_setup_teardown(without_loops_rings_are_synced_by_who_kicks_them,
                                        open_direct, close_bed),
        on_vale(a_device_without_passthrough_has_no_rings_to_drive),
        on_vale(headers_are_negotiated_and_large_frames_cross_whole),
        on_vale(a_receiver_without_headers_gets_segments_with_checksums),
        on_vale(a_guest_that_lies_costs_other_ports_no_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
