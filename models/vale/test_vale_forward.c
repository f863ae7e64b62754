/*
 * Forwarding between rings: learning, flooding, fragments, what is dropped and what waits, and
 * receive queues that several senders fill.
 */
#include "models/vale/test_vale_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

static void assert_frame(const struct nm_kring *kring, uint32_t slot, uint32_t len, uint8_t mark)
{
    assert_int_equal(bed_slot(kring, slot)->len, len);
    assert_int_equal(bed_buffer(kring, slot)[len - 1], mark);
}

static void an_unknown_destination_is_flooded_and_its_source_learnt(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);

    (void)state;
    bed_send(bed, 0, 2, 1, 'a');
    assert_int_equal(bed_waiting(bed_rx(bed, 0)), 0);
    for (unsigned i = 1; i < BED_PORTS; i++) {
        assert_int_equal(bed_waiting(bed_rx(bed, i)), 1);
        assert_frame(bed_rx(bed, i), 0, 60, 'a');
        assert_int_equal(bed_slot(bed_rx(bed, i), 0)->flags, 1 << NS_PORT_SHIFT);
    }
    bed_send(bed, 1, 1, 2, 'b');
    assert_int_equal(bed_waiting(bed_rx(bed, 0)), 1);
    assert_frame(bed_rx(bed, 0), 0, 60, 'b');
    assert_int_equal(bed_waiting(bed_rx(bed, 2)), 1);
    bed_free(bed);
}

static void group_addresses_are_flooded_and_never_learnt(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);

    (void)state;
    bed_send(bed, 0, 0xff, 0xff, 'a');
    bed_send(bed, 1, 0xff, 2, 'b');
    assert_int_equal(bed_waiting(bed_rx(bed, 0)), 1);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 1);
    assert_int_equal(bed_waiting(bed_rx(bed, 2)), 2);
    bed_free(bed);
}

static void a_frame_to_its_own_port_or_one_that_left_goes_nowhere(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);

    (void)state;
    bed_send(bed, 0, 0xff, 1, 'a');
    bed_send(bed, 2, 0xff, 3, 'b');
    bed_send(bed, 0, 1, 1, 'c');
    bed->sw.ports[2] = NULL;
    bed_send(bed, 0, 3, 1, 'd');
    assert_int_equal(bed->ports[0].port.counters.dropped_no_destination, 2);
    assert_int_equal(bed->ports[0].port.counters.rx_frames, 3);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 2);
    bed_free(bed);
}

static void a_source_is_learnt_once_until_the_port_sends_from_another(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);

    (void)state;
    bed_send(bed, 0, 0xff, 1, 'a');
    bed_send(bed, 1, 0xff, 1, 'b'); /* the same address, now here */
    bed_send(bed, 0, 0xff, 1, 'c'); /* nothing new at this port */
    bed_send(bed, 2, 1, 3, 'd');
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 3);
    assert_int_equal(bed_waiting(bed_rx(bed, 0)), 1);
    bed_free(bed);
}

static void what_one_frame_teaches_the_next_one_knows(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    bed_queue(tx, 2, 1, 60, 'a'); /* flooded */
    bed_queue(tx, 2, 2, 60, 'b'); /* 2 is behind this very port */
    bed_queue(tx, 2, 2, 60, 'c');
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 1);
    assert_int_equal(bed->ports[0].port.counters.dropped_no_destination, 2);
    bed_free(bed);
}

static void a_slot_that_says_so_is_not_learnt_from(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    bed_queue(tx, 0xff, 1, 60, 'a');
    bed_slot(tx, 0)->flags = NS_NO_LEARN;
    bed_forward(bed, tx);
    bed_send(bed, 1, 1, 2, 'b');
    assert_int_equal(bed_waiting(bed_rx(bed, 2)), 2);
    assert_int_equal(bed_slot(bed_rx(bed, 2), 0)->flags, 1 << NS_PORT_SHIFT);
    bed_free(bed);
}

static void a_slot_names_its_destination_only_where_that_is_allowed(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    bed_queue(tx, 0xff, 1, 60, 'a');
    bed_slot(tx, 0)->flags = 3 << NS_PORT_SHIFT;
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 1); /* netmap's way: not looked at */
    bed->sw.has_slot_destination = true;
    bed_queue(tx, 0xff, 1, 60, 'b');
    bed_slot(tx, 1)->flags = 3 << NS_PORT_SHIFT; /* port 2 */
    bed_queue(tx, 1, 1, 60, 'c');
    bed_slot(tx, 2)->flags = VALE_SLOT_BROADCAST << NS_PORT_SHIFT;
    bed_queue(tx, 0xff, 1, 60, 'd'); /* 0: looked up */
    bed_queue(tx, 0xff, 1, 60, 'e');
    bed_slot(tx, 4)->flags = 200 << NS_PORT_SHIFT; /* no such port */
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 3);
    assert_int_equal(bed_waiting(bed_rx(bed, 2)), 4);
    assert_frame(bed_rx(bed, 2), 1, 60, 'b');
    assert_int_equal(bed->ports[0].port.counters.dropped_no_destination, 1);
    bed_free(bed);
}

static void frames_shorter_than_an_ethernet_header_are_dropped(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    bed_queue(tx, 0xff, 1, 13, 'a');
    bed_queue(tx, 0xff, 1, 14, 'b');
    bed_queue(tx, 0xff, 1, BED_BUFFER, 'c');
    bed_queue(tx, 0xff, 1, 60, 'd');
    bed_slot(tx, 3)->len = BED_BUFFER + 1; /* as an empty one */
    bed_queue(tx, 0xff, 1, 60, 'e');
    uint32_t index = bed_slot(tx, 4)->buf_idx;
    bed_slot(tx, 4)->buf_idx = tx->buf_total; /* no such buffer */
    bed_forward(bed, tx);
    bed_slot(tx, 4)->buf_idx = index;
    assert_int_equal(bed->ports[0].port.counters.dropped_bad, 3);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 2);
    assert_frame(bed_rx(bed, 1), 0, 14, 'b');
    assert_frame(bed_rx(bed, 1), 1, BED_BUFFER, 'c');
    bed_free(bed);
}

static void fragments_stay_together_and_say_how_many_they_are(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    bed_queue(tx, 0xff, 1, 100, 'a');
    bed_queue(tx, 0, 0, 20, 'b');
    bed_queue(tx, 0, 0, 7, 'c');
    bed_slot(tx, 0)->flags = NS_MOREFRAG;
    bed_slot(tx, 1)->flags = NS_MOREFRAG;
    bed_queue(tx, 0xff, 1, 60, 'd');
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(rx), 4);
    assert_frame(rx, 0, 100, 'a');
    assert_frame(rx, 1, 20, 'b');
    assert_frame(rx, 2, 7, 'c');
    assert_int_equal(bed_slot(rx, 0)->flags, 3 << NS_PORT_SHIFT | NS_MOREFRAG);
    assert_int_equal(bed_slot(rx, 1)->flags, 3 << NS_PORT_SHIFT | NS_MOREFRAG);
    assert_int_equal(bed_slot(rx, 2)->flags, 3 << NS_PORT_SHIFT);
    assert_int_equal(bed_slot(rx, 3)->flags, 1 << NS_PORT_SHIFT);
    assert_int_equal(bed->ports[1].port.counters.tx_frames, 2);
    assert_int_equal(bed->ports[1].port.counters.tx_bytes, 187);
    bed_free(bed);
}

static void a_packet_left_unfinished_is_sent_as_far_as_it_goes(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    bed_queue(tx, 0xff, 1, 60, 'a');
    bed_queue(tx, 0, 0, 20, 'b');
    bed_slot(tx, 0)->flags = NS_MOREFRAG;
    bed_slot(tx, 1)->flags = NS_MOREFRAG;
    assert_int_equal(bed_forward(bed, tx), 2);
    assert_int_equal(bed_slot(rx, 1)->flags, 2 << NS_PORT_SHIFT);
    bed_free(bed);
}

static void a_packet_of_more_than_64_fragments_is_dropped_whole(void **state)
{
    struct bed *bed = bed_new(256);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        bed_queue(tx, 0xff, 1, 60, 'a');
        bed_slot(tx, i)->flags = i < 63 ? NS_MOREFRAG : 0;
    }
    for (unsigned i = 64; i < 64 + 65; i++) {
        bed_queue(tx, 0xff, 1, 60, 'b');
        bed_slot(tx, i)->flags = i < 64 + 64 ? NS_MOREFRAG : 0;
    }
    bed_queue(tx, 0xff, 1, 60, 'c');
    assert_int_equal(bed_forward(bed, tx), 130);
    assert_int_equal(bed_waiting(rx), 65);
    assert_frame(rx, 63, 60, 'a');
    assert_frame(rx, 64, 60, 'c');
    assert_int_equal(bed->ports[0].port.counters.dropped_bad, 1);
    bed_free(bed);
}

static void what_does_not_fit_is_dropped_and_counted_at_the_destination(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    for (unsigned i = 0; i < 12; i++) {
        bed_queue(tx, 2, 1, 60, 'a');
    }
    bed_forward(bed, tx);
    for (unsigned i = 0; i < 4; i++) { /* two packets of two: one fits */
        bed_queue(tx, 2, 1, 60, 'b');
        bed_slot(tx, nm_prev(tx->rhead, BED_SLOTS))->flags = i % 2 == 0 ? NS_MOREFRAG : 0;
    }
    assert_int_equal(bed_forward(bed, tx), 4);
    assert_int_equal(bed_waiting(rx), 14);
    assert_int_equal(bed->ports[1].port.counters.dropped_full, 1);
    bed_send(bed, 0, 2, 1, 'c'); /* what was not used came back */
    bed_send(bed, 0, 2, 1, 'd');
    assert_int_equal(bed_waiting(rx), 15);
    assert_frame(rx, 14, 60, 'c');
    assert_int_equal(bed->ports[1].port.counters.dropped_full, 2);
    vale_queue_release(rx, 15);
    bed_send(bed, 0, 2, 1, 'e');
    assert_int_equal(bed_waiting(rx), 1);
    assert_frame(rx, 15, 60, 'e');
    bed_free(bed);
}

static void unicast_and_flooded_frames_arrive_in_the_order_sent(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    bed_queue(tx, 2, 1, 60, 'a');
    bed_queue(tx, 0xff, 1, 60, 'b');
    bed_queue(tx, 2, 1, 60, 'c');
    bed_queue(tx, 0xff, 1, 60, 'd');
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(rx), 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_frame(rx, i, 60, (uint8_t)('a' + i));
    }
    assert_int_equal(bed_waiting(bed_rx(bed, 2)), 3);
    bed_free(bed);
}

static void unicast_keeps_its_ring_and_flooding_goes_to_the_first(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = &bed->ports[0].port.na.krings[NM_TX][1];
    struct nm_kring *rx = bed->ports[1].port.na.krings[NM_RX];

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    bed_queue(tx, 2, 1, 60, 'a');
    bed_queue(tx, 0xff, 1, 60, 'b');
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(&rx[1]), 1);
    assert_int_equal(bed_waiting(&rx[0]), 1);
    bed->ports[1].port.na.n_rings[NM_RX] = 1;
    bed_queue(tx, 2, 1, 60, 'c');
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(&rx[0]), 2);
    bed_free(bed);
}

static void ports_that_are_off_or_have_no_reader_are_passed_over(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);

    (void)state;
    bed->ports[1].port.is_on = false;
    bed_rx(bed, 2)->is_on = false;
    bed_send(bed, 0, 0xff, 1, 'a');
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 0);
    assert_int_equal(bed_waiting(bed_rx(bed, 2)), 0);
    assert_int_equal(bed_waiting(bed_rx(bed, 3)), 1);
    atomic_store(&bed_rx(bed, 3)->state, NM_KR_STOPPED);
    bed_send(bed, 0, 0xff, 1, 'b');
    assert_int_equal(bed_waiting(bed_rx(bed, 3)), 1);
    bed_free(bed);
}

static void a_receiver_is_told_once_per_sync(void **state)
{
    struct bed *bed = bed_new(512);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    for (unsigned i = 0; i < 400; i++) { /* several chunks */
        bed_queue(tx, 0xff, 1, 60, 'a');
    }
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 400);
    assert_int_equal(bed->ports[1].n_woken, 1);
    bed_free(bed);
}

static void an_indirect_slot_is_read_where_it_points(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);
    uint8_t frame[80] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, [79] = 'i'};
    void *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        bed_queue(tx, 0xff, 1, 80, 'd');
        bed_slot(tx, i)->flags = NS_INDIRECT;
    }
    bed_slot(tx, 0)->ptr = (uintptr_t)frame;
    bed_slot(tx, 1)->ptr = (uintptr_t)hole; /* nothing there */
    bed_slot(tx, 2)->ptr = 0;
    bed_slot(tx, 3)->flags = NS_MOREFRAG; /* a direct one, then an indirect one that is not there */
    bed_queue(tx, 0, 0, 80, 'd');
    bed_slot(tx, 4)->flags = NS_INDIRECT;
    bed_slot(tx, 4)->ptr = (uintptr_t)hole;
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(rx), 3);
    assert_frame(rx, 0, 80, 'i');
    assert_frame(rx, 1, 80, 'd');
    assert_int_equal(bed_slot(rx, 2)->len, 0);
    assert_int_equal(bed->ports[0].port.counters.dropped_bad, 2);
    munmap(hole, 4096);
    bed_free(bed);
}

static void offsets_are_followed_and_keep_their_place_in_a_cache_line(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    tx->offset_mask = rx->offset_mask = 0xffff;
    tx->offset_max = rx->offset_max = 256;
    bed_queue(tx, 0xff, 1, 60, 'a');
    memmove(bed_buffer(tx, 0) + 10, bed_buffer(tx, 0), 60);
    bed_slot(tx, 0)->ptr = 10;
    bed_slot(rx, 0)->ptr = UINT64_C(0xabcd0000) | 64;
    bed_forward(bed, tx);
    assert_true(bed_slot(rx, 0)->ptr == (UINT64_C(0xabcd0000) | 74));
    assert_int_equal(bed_slot(rx, 0)->len, 60);
    assert_memory_equal(bed_buffer(rx, 0) + 74, bed_buffer(tx, 0) + 10, 60);
    bed_free(bed);
}

static void a_fragment_longer_than_the_receivers_buffer_becomes_empty(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    rx->buf_size = 1024;
    bed_queue(tx, 0xff, 1, 1025, 'a');
    bed_queue(tx, 0xff, 1, 1024, 'b');
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(rx), 2);
    assert_int_equal(bed_slot(rx, 0)->len, 0);
    assert_int_equal(bed_slot(rx, 1)->len, 1024);
    bed_free(bed);
}

static unsigned to_port_three(void *data, const uint8_t *frame, size_t len, unsigned src_port,
                              uint8_t *ring)
{
    unsigned *calls = data;

    ++*calls;
    assert_int_equal(frame[5], 9);
    assert_int_equal(len, 60);
    assert_int_equal(src_port, 0);
    assert_int_equal(*ring, 0);
    *ring = 1;
    return *calls == 3 ? VALE_PORT_DROP : 3;
}

static void a_lookup_of_ones_own_decides_port_and_ring(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    unsigned calls = 0;

    (void)state;
    bed->sw.lookup = to_port_three;
    bed->sw.lookup_data = &calls;
    for (unsigned i = 0; i < 3; i++) {
        bed_send(bed, 0, 9, 1, 'a');
    }
    assert_int_equal(calls, 3);
    assert_int_equal(bed_waiting(&bed->ports[3].port.na.krings[NM_RX][1]), 2);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 0);
    bed_free(bed);
}

/* ---- runs: many frames with the same addresses ---- */

static void a_run_of_frames_keeps_their_order_and_lengths_across_the_rings_end(void **state)
{
    struct bed *bed = bed_new(64);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 40; i++) {
            bed_queue(tx, 2, 1, 60 + i * 50, (uint8_t)(round * 40 + i));
        }
        uint32_t at = rx->hwtail;
        assert_int_equal(bed_forward(bed, tx), 40);
        assert_int_equal(bed_waiting(rx), 40);
        for (unsigned i = 0; i < 40; i++, at = nm_next(at, 64)) {
            assert_frame(rx, at, 60 + i * 50, (uint8_t)(round * 40 + i));
            assert_int_equal(bed_slot(rx, at)->flags, 1 << NS_PORT_SHIFT);
        }
        vale_queue_release(rx, rx->hwtail);
    }
    assert_int_equal(bed->ports[0].port.counters.rx_frames, 200);
    assert_int_equal(bed->ports[0].port.counters.rx_bytes, 5 * (40 * 60 + 780 * 50));
    assert_int_equal(bed->ports[1].port.counters.tx_frames, 200);
    assert_int_equal(bed->ports[1].port.counters.tx_bytes, 5 * (40 * 60 + 780 * 50));
    assert_int_equal(bed->ports[1].n_woken, 5);
    bed_free(bed);
}

static void a_run_ends_where_a_frame_is_different(void **state)
{
    struct bed *bed = bed_new(64);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    bed_send(bed, 2, 0xff, 3, 'x');
    for (unsigned i = 0; i < 48; i++) { /* 2 2 2 2 2 2 3 3 3 3 3 3 ... */
        bed_queue(tx, 2 + i / 6 % 2, 1, 60, (uint8_t)i);
    }
    bed_slot(tx, 3)->flags = NS_MOREFRAG;
    bed_queue(tx, 3, 9, 60, 'n'); /* another source, to be learnt */
    bed_queue(tx, 3, 9, 10, 's'); /* too short */
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 25); /* with port 2's 'x' */
    assert_int_equal(bed_waiting(bed_rx(bed, 2)), 26); /* with port 1's */
    assert_frame(bed_rx(bed, 1), 7, 60, 12);
    assert_frame(bed_rx(bed, 2), 25, 60, 'n');
    assert_int_equal(bed_slot(bed_rx(bed, 1), 4)->flags, 2 << NS_PORT_SHIFT | NS_MOREFRAG);
    assert_int_equal(vale_find(&bed->sw.table, 2 | UINT64_C(9) << 40), 0);
    assert_int_equal(bed->ports[0].port.counters.dropped_bad, 1);
    bed_free(bed);
}

static void another_source_within_a_run_is_learnt(void **state)
{
    struct bed *bed = bed_new(64);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    for (unsigned i = 0; i < 30; i++) {
        bed_queue(tx, 2, i == 20 ? 9 : 1, 60, (uint8_t)i);
    }
    bed_forward(bed, tx);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 30);
    assert_int_equal(vale_find(&bed->sw.table, 2 | UINT64_C(1) << 40), 0);
    assert_int_equal(vale_find(&bed->sw.table, 2 | UINT64_C(9) << 40), 0);
    bed_free(bed);
}

static void a_run_that_does_not_fit_is_cut_off(void **state)
{
    struct bed *bed = bed_new(64);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    for (unsigned i = 0; i < 60; i++) {
        bed_queue(tx, 2, 1, 60, (uint8_t)i);
    }
    bed_forward(bed, tx);
    for (unsigned i = 0; i < 10; i++) {
        bed_queue(tx, 2, 1, 60, (uint8_t)(60 + i));
    }
    bed_slot(rx, 61)->buf_idx = rx->buf_total; /* the receiver broke one: that frame is empty */
    assert_int_equal(bed_forward(bed, tx), 10);
    assert_int_equal(bed_waiting(rx), 63);
    assert_frame(rx, 60, 60, 60);
    assert_int_equal(bed_slot(rx, 61)->len, 0);
    assert_frame(rx, 62, 60, 62);
    assert_int_equal(bed->ports[1].port.counters.dropped_full, 7);
    bed_free(bed);
}

/* ---- where senders wait ---- */

static void frames_for_a_full_ring_wait_with_all_behind_them(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);
    struct vale_receiver *receiver = rx->port_data;

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    bed->sw.policy = VALE_FULL_WAIT;
    for (unsigned i = 0; i < 13; i++) {
        bed_queue(tx, 2, 1, 60, (uint8_t)('a' + i));
    }
    assert_int_equal(bed_forward(bed, tx), 13);
    for (unsigned i = 0; i < 3; i++) {
        bed_queue(tx, 2, 1, 60, (uint8_t)('n' + i));
    }
    bed_queue(tx, 0xff, 1, 60, 'q');
    assert_int_equal(bed_forward(bed, tx), 2);
    assert_int_equal(bed_forward(bed, tx), 0);
    assert_true(receiver->waiting[0] == 1);
    vale_queue_release(rx, 1);
    assert_int_equal(bed_forward(bed, tx), 1);
    vale_queue_release(rx, 2);
    assert_int_equal(bed_forward(bed, tx), 1);
    assert_frame(rx, 15, 60, 'p');
    assert_frame(rx, 0, 60, 'q');
    assert_int_equal(bed->ports[1].port.counters.dropped_full, 0);
    assert_int_equal(bed->ports[0].port.counters.rx_frames, 17);
    bed_free(bed);
}

static void a_flooded_frame_waits_until_there_is_room_everywhere(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0);

    (void)state;
    bed->sw.policy = VALE_FULL_WAIT;
    bed_send(bed, 3, 0xff, 4, 'x');
    for (unsigned i = 0; i < 15; i++) {
        bed_queue(tx, 4, 1, 60, 'a');
    }
    assert_int_equal(bed_forward(bed, tx), 15);
    bed_queue(tx, 0xff, 1, 60, 'b');
    bed_queue(tx, 0xff, 1, 60, 'c');
    assert_int_equal(bed_forward(bed, tx), 0);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 1); /* 'x' */
    vale_queue_release(bed_rx(bed, 3), 1);
    assert_int_equal(bed_forward(bed, tx), 1);
    assert_int_equal(bed_waiting(bed_rx(bed, 1)), 2);
    assert_int_equal(bed_forward(bed, tx), 0);
    bed_free(bed);
}

static void a_packet_that_could_never_fit_does_not_wait(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *tx = bed_tx(bed, 0), *rx = bed_rx(bed, 1);
    struct netmap_ring *ring = rx->ring;

    (void)state;
    bed_send(bed, 1, 0xff, 2, 'x');
    bed->sw.policy = VALE_FULL_WAIT;
    rx->num_slots = 4;
    for (unsigned i = 0; i < 4; i++) {
        bed_queue(tx, 2, 1, 60, 'a');
        bed_slot(tx, i)->flags = i < 3 ? NS_MOREFRAG : 0;
    }
    bed_queue(tx, 2, 1, 60, 'b');
    assert_int_equal(bed_forward(bed, tx), 5);
    assert_int_equal(bed_waiting(rx), 1);
    assert_int_equal(ring->slot[0].len, 60);
    assert_int_equal(bed->ports[1].port.counters.dropped_full, 1);
    bed_free(bed);
}

/* ---- receive queues ---- */

static void slots_become_visible_in_the_order_of_reservations(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *rx = bed_rx(bed, 1);
    uint32_t a, b, c;

    (void)state;
    assert_int_equal(vale_queue_reserve(rx, 3, &a), 3);
    assert_int_equal(vale_queue_reserve(rx, 4, &b), 4);
    assert_int_equal(vale_queue_reserve(rx, 20, &c), 8);
    assert_int_equal(vale_queue_room(rx), 0);
    vale_queue_publish(rx, c, 8, 2); /* the last one gives back */
    assert_int_equal(rx->hwtail, 0);
    assert_int_equal(vale_queue_room(rx), 6);
    vale_queue_publish(rx, b, 4, 4);
    assert_int_equal(rx->hwtail, 0);
    vale_queue_publish(rx, a, 3, 3);
    assert_int_equal(rx->hwtail, 9);
    bed_free(bed);
}

static void what_an_early_sender_leaves_unused_is_published_empty(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *rx = bed_rx(bed, 1);
    uint32_t a, b;

    (void)state;
    vale_queue_reserve(rx, 3, &a);
    vale_queue_reserve(rx, 2, &b);
    for (unsigned i = 0; i < 5; i++) {
        bed_slot(rx, i)->len = 60;
        bed_slot(rx, i)->flags = NS_MOREFRAG;
    }
    vale_queue_publish(rx, a, 3, 1);
    assert_int_equal(rx->hwtail, 3);
    assert_int_equal(bed_slot(rx, 0)->len, 60);
    assert_int_equal(bed_slot(rx, 1)->len, 0);
    assert_int_equal(bed_slot(rx, 2)->len, 0);
    assert_int_equal(bed_slot(rx, 2)->flags, 0);
    vale_queue_publish(rx, b, 2, 2);
    assert_int_equal(rx->hwtail, 5);
    assert_int_equal(bed_slot(rx, 3)->len, 60);
    bed_free(bed);
}

static void reservations_wrap_around_the_ring(void **state)
{
    struct bed *bed = bed_new(BED_SLOTS);
    struct nm_kring *rx = bed_rx(bed, 1);
    uint32_t first;

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        assert_int_equal(vale_queue_reserve(rx, 7, &first), 7);
        assert_int_equal(first, round * 7 % BED_SLOTS);
        vale_queue_publish(rx, first, 7, 7);
        assert_int_equal(rx->hwtail, (round + 1) * 7 % BED_SLOTS);
        vale_queue_release(rx, rx->hwtail);
    }
    assert_int_equal(vale_queue_room(rx), BED_SLOTS - 1);
    bed_free(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_destination_is_flooded_and_its_source_learnt),
        cmocka_unit_test(group_addresses_are_flooded_and_never_learnt),
        cmocka_unit_test(a_frame_to_its_own_port_or_one_that_left_goes_nowhere),
        cmocka_unit_test(a_source_is_learnt_once_until_the_port_sends_from_another),
        cmocka_unit_test(what_one_frame_teaches_the_next_one_knows),
        cmocka_unit_test(a_slot_that_says_so_is_not_learnt_from),
        cmocka_unit_test(a_slot_names_its_destination_only_where_that_is_allowed),
        cmocka_unit_test(frames_shorter_than_an_ethernet_header_are_dropped),
        cmocka_unit_test(fragments_stay_together_and_say_how_many_they_are),
        cmocka_unit_test(a_packet_left_unfinished_is_sent_as_far_as_it_goes),
        cmocka_unit_test(a_packet_of_more_than_64_fragments_is_dropped_whole),
        cmocka_unit_test(what_does_not_fit_is_dropped_and_counted_at_the_destination),
        cmocka_unit_test(unicast_and_flooded_frames_arrive_in_the_order_sent),
        cmocka_unit_test(unicast_keeps_its_ring_and_flooding_goes_to_the_first),
        cmocka_unit_test(ports_that_are_off_or_have_no_reader_are_passed_over),
        cmocka_unit_test(a_receiver_is_told_once_per_sync),
        cmocka_unit_test(an_indirect_slot_is_read_where_it_points),
        cmocka_unit_test(offsets_are_followed_and_keep_their_place_in_a_cache_line),
        cmocka_unit_test(a_fragment_longer_than_the_receivers_buffer_becomes_empty),
        cmocka_unit_test(a_lookup_of_ones_own_decides_port_and_ring),
        cmocka_unit_test(a_run_of_frames_keeps_their_order_and_lengths_across_the_rings_end),
        cmocka_unit_test(a_run_ends_where_a_frame_is_different),
        cmocka_unit_test(another_source_within_a_run_is_learnt),
        cmocka_unit_test(a_run_that_does_not_fit_is_cut_off),
        cmocka_unit_test(frames_for_a_full_ring_wait_with_all_behind_them),
        cmocka_unit_test(a_flooded_frame_waits_until_there_is_room_everywhere),
        cmocka_unit_test(a_packet_that_could_never_fit_does_not_wait),
        cmocka_unit_test(slots_become_visible_in_the_order_of_reservations),
        cmocka_unit_test(what_an_early_sender_leaves_unused_is_published_empty),
        cmocka_unit_test(reservations_wrap_around_the_ring),
    };
    return cmocka_run_group_tests_name("models/vale/forward", tests, NULL, NULL);
}
