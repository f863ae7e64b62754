#include "models/netmap/test_nm_nic.h"

#include <sys/eventfd.h>
#include <unistd.h>

/* ---- interfaces ---- */

static int new_with(struct nm_host *host, struct nm_nic_options o)
{
    g_autoptr(GError) error = NULL;

    if (nm_nic_new(host, &o, &error)) {
        return 0;
    }
    assert_true(error->domain == NM_ERROR);
    return error->code;
}

static void interfaces_have_names_of_their_own(void **state)
{
    struct nm_host *host = nm_host_new(NULL, NULL);

    (void)state;
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "em0"}), 0);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "em0"}), EEXIST);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "em0456789012345"}), 0);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "em04567890123456"}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = ""}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = NULL}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "vale0"}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "em0{1"}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "em0-1"}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "a", .tx_rings = 64}), 0);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "b", .rx_rings = 65}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "c", .rx_slots = 1}), EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "d", .tx_slots = 4097}),
                     EINVAL);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "e", .mtu = 67}), EINVAL);
    assert_false(nm_nic_remove(host, "none", NULL));
    nm_host_free(host);
}

static void an_interface_that_nobody_made_is_not_found(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    int err;

    (void)state;
    assert_null(
        try_bind(bed.host, "em1", (struct nmreq_register){.nr_mode = NR_REG_ALL_NIC}, &err));
    assert_int_equal(err, ENXIO);
    bed_free(&bed);
}

static int port_info(struct nm_host *host, const char *name, struct nmreq_port_info_get *info)
{
    struct nmreq_header header = {.nr_version = NETMAP_API,
                                  .nr_reqtype = NETMAP_REQ_PORT_INFO_GET,
                                  .nr_body = (uintptr_t)info};
    struct nm_file *file = nm_open(host);
    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    int err = nm_ctrl(file, &header);

    nm_close(file);
    return err;
}

static void an_emulated_interface_has_the_generic_counts(void **state)
{
    const struct nm_host_options options = {.generic_ringsize = 128, .generic_rings = 3};
    struct nm_host *host = nm_host_new(&options, NULL);
    struct nmreq_port_info_get info = {0};

    (void)state;
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "g", .is_emulated = true}), 0);
    assert_int_equal(new_with(host, (struct nm_nic_options){.name = "n"}), 0);
    assert_int_equal(port_info(host, "g", &info), 0);
    assert_int_equal(info.nr_tx_rings, 3);
    assert_int_equal(info.nr_rx_slots, 128);
    info = (struct nmreq_port_info_get){0};
    assert_int_equal(port_info(host, "n", &info), 0);
    assert_int_equal(info.nr_rx_rings, 1);
    assert_int_equal(info.nr_tx_slots, 1024);
    nm_host_free(host);
}

static void native_mode_only_refuses_an_emulated_interface(void **state)
{
    struct bed bed = bed_new_with((struct nm_host_options){.admode = 1},
                                  (struct nm_nic_options){.is_emulated = true}, 16);
    int err;

    (void)state;
    assert_null(
        try_bind(bed.host, "em0", (struct nmreq_register){.nr_mode = NR_REG_ALL_NIC}, &err));
    assert_int_equal(err, EOPNOTSUPP);
    bed_free(&bed);
}

static void the_address_is_the_one_given_or_one_of_its_own(void **state)
{
    struct bed given = bed_new((struct nm_nic_options){.mac = {2, 3, 4, 5, 6, 7}, .mtu = 576});
    struct bed made = bed_new((struct nm_nic_options){0});
    const uint8_t mac[6] = {2, 3, 4, 5, 6, 7};

    (void)state;
    assert_memory_equal(info_of(&given).mac, mac, 6);
    assert_int_equal(info_of(&given).mtu, 576);
    assert_int_equal(info_of(&made).mac[0], 2);
    assert_int_equal(info_of(&made).mtu, 1500);
    bed_free(&given);
    bed_free(&made);
}

static void the_mtu_must_fit_the_buffers(void **state)
{
    struct bed small =
        bed_new_with((struct nm_host_options){.buf_size = 1024}, (struct nm_nic_options){0}, 16);
    struct bed jumbo = bed_new((struct nm_nic_options){.mtu = 9000});
    struct bed emulated = bed_new((struct nm_nic_options){.mtu = 9000, .is_emulated = true});
    const struct nmreq_register all = {.nr_mode = NR_REG_ALL_NIC};
    int err;

    (void)state;
    assert_null(try_bind(small.host, "em0", all, &err));
    assert_int_equal(err, EINVAL);
    nm_close(try_bind(jumbo.host, "em0", all, &err));
    assert_int_equal(err, 0);
    assert_null(try_bind(emulated.host, "em0", all, &err));
    assert_int_equal(err, EINVAL);
    bed_free(&small);
    bed_free(&jumbo);
    bed_free(&emulated);
}

/* ---- transmit ---- */

static void a_frame_that_is_sent_comes_out_of_the_wire(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = tx_ring(file, 0);
    uint32_t len = 0;

    (void)state;
    put(ring, 60, 11, NS_BUF_CHANGED);
    put(ring, 1514, 12, 0);
    assert_int_equal(draw(bed.wire, &len), -1);
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), 11);
    assert_int_equal(len, 60);
    assert_int_equal(draw(bed.wire, &len), 12);
    assert_int_equal(len, 1514);
    assert_int_equal(draw(bed.wire, &len), -1);
    assert_int_equal(ring->slot[0].flags, 0);
    assert_int_equal(nm_ring_space(ring), 15);
    assert_int_equal(info_of(&bed).wire.sent, 2);
    nm_close(file);
    bed_free(&bed);
}

static void every_ring_sends(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.tx_rings = 3});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 3; i++) {
        put(tx_ring(file, i), 60, i, 0);
    }
    assert_int_equal(nm_txsync(file), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(draw(bed.wire, &len), i);
    }
    nm_close(file);
    bed_free(&bed);
}

static void a_frame_that_cannot_be_is_dropped_and_counted(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = tx_ring(file, 0);
    const uint32_t own = ring->slot[2].buf_idx;
    uint32_t len = 0;

    (void)state;
    put(ring, 13, 1, 0);
    put(ring, 60, 2, 0);
    put(ring, 60, 3, NS_BUF_CHANGED);
    put(ring, 60, 4, 0);
    put(ring, 60, 5, 0);
    ring->slot[2].buf_idx = 4096;
    ring->slot[3].len = 2049;
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), 2);
    assert_int_equal(draw(bed.wire, &len), 5);
    assert_int_equal(draw(bed.wire, &len), -1);
    assert_int_equal(info_of(&bed).wire.dropped_tx, 3);
    assert_int_equal(nm_ring_space(ring), 15);
    ring->slot[2].buf_idx = own;
    nm_close(file);
    bed_free(&bed);
}

static void an_unplugged_interface_takes_everything_and_gives_nothing(void **state)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);

    (void)state;
    assert_int_equal(
        new_with(host, (struct nm_nic_options){.name = "em0", .tx_slots = 16, .rx_slots = 16}), 0);
    struct nm_file *file = bind_to(host, NR_REG_NIC_SW, 0);
    put(tx_ring(file, 0), 60, 1, 0);
    put(tx_ring(file, 1), 60, 1, 0);
    assert_int_equal(nm_poll(file, POLLIN | POLLOUT), POLLOUT);
    assert_int_equal(nm_ring_space(tx_ring(file, 0)), 15);
    assert_int_equal(nm_ring_space(rx_ring(file, 0)), 0);
    nm_close(file);
    nm_host_free(host);
}

static void a_wire_without_room_makes_the_ring_wait(void **state)
{
    struct bed bed = bed_new_with((struct nm_host_options){0}, (struct nm_nic_options){0}, 4);
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = tx_ring(file, 0);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 15; i++) {
        put(ring, 60, i, 0);
    }
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(nm_ring_space(ring), 4);
    /* the rest goes without anybody asking */
    for (int i = 0; i < 15; i++) {
        assert_int_equal(draw_waiting(bed.wire, &len), i);
    }
    const int64_t deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;
    while (nm_ring_space(ring) < 15) { /* the thread may still be in the ring */
        assert_int_equal(nm_txsync(file), 0);
        assert_true(g_get_monotonic_time() < deadline);
    }
    assert_int_equal(info_of(&bed).wire.dropped_tx, 0);
    nm_close(file);
    bed_free(&bed);
}

static void who_waits_for_room_is_woken_when_the_wire_has_some(void **state)
{
    struct bed bed = bed_new_with((struct nm_host_options){0}, (struct nm_nic_options){0}, 4);
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = tx_ring(file, 0);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 15; i++) {
        put(ring, 60, i, 0);
    }
    assert_int_equal(nm_poll(file, POLLOUT), POLLOUT);
    for (uint8_t i = 15; i < 19; i++) {
        put(ring, 60, i, 0);
    }
    assert_int_equal(nm_poll(file, POLLOUT), 0);
    assert_false(is_readable(nm_poll_fd(file)));
    assert_int_equal(draw(bed.wire, &len), 0);
    assert_int_equal(wait_for(file, POLLOUT), POLLOUT);
    nm_close(file);
    bed_free(&bed);
}

/* ---- several slots ---- */

static void a_native_interface_joins_the_slots_of_a_frame(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = tx_ring(file, 0);
    uint32_t len = 0;

    (void)state;
    put(ring, 60, 1, 0);
    put(ring, 2048, 2, NS_MOREFRAG);
    put(ring, 1, 2, NS_MOREFRAG);
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), 1);
    assert_int_equal(draw(bed.wire, &len), -1); /* its end is not there yet */
    assert_int_equal(nm_ring_space(ring), 13);
    put(ring, 100, 3, 0);
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), 3);
    assert_int_equal(len, 2149);
    assert_int_equal(nm_ring_space(ring), 15);
    nm_close(file);
    bed_free(&bed);
}

static void a_frame_without_end_does_not_block_its_ring_for_ever(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.tx_slots = 128});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = tx_ring(file, 0);
    uint32_t len = 0;

    (void)state;
    for (int i = 0; i < 65; i++) {
        put(ring, 60, 1, NS_MOREFRAG);
    }
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(nm_ring_space(ring), 127);
    assert_int_equal(info_of(&bed).wire.dropped_tx, 1);
    put(ring, 60, 9, 0);
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), 9);
    nm_close(file);
    bed_free(&bed);
}

static void an_emulated_interface_sends_each_slot_for_itself(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.is_emulated = true});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    uint32_t len = 0;

    (void)state;
    put(tx_ring(file, 0), 70, 1, NS_MOREFRAG);
    put(tx_ring(file, 0), 80, 2, 0);
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), 1);
    assert_int_equal(len, 70);
    assert_int_equal(draw(bed.wire, &len), 2);
    nm_close(file);
    bed_free(&bed);
}

static void check_split(struct nm_nic_options o)
{
    struct bed bed = bed_new(o);
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = rx_ring(file, 0);
    uint32_t len = 0;

    feed(bed.wire, 5000, 7, 0);
    feed(bed.wire, 60, 8, 0);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    assert_int_equal(nm_rxsync(file), 0);
    assert_int_equal(nm_ring_space(ring), 4);
    assert_int_equal(peek(ring)->flags, NS_MOREFRAG);
    assert_int_equal(take(ring, &len), 7);
    assert_int_equal(len, 2048);
    assert_int_equal(peek(ring)->flags, NS_MOREFRAG);
    assert_int_equal(take(ring, &len), 7);
    assert_int_equal(peek(ring)->flags, 0);
    assert_int_equal(take(ring, &len), 7);
    assert_int_equal(len, 904);
    assert_int_equal(take(ring, &len), 8);
    nm_close(file);
    bed_free(&bed);
}

static void a_long_frame_takes_several_slots(void **state)
{
    (void)state;
    check_split((struct nm_nic_options){.is_emulated = true});
    check_split((struct nm_nic_options){.mtu = 9000});
}

static void a_frame_longer_than_the_ring_is_dropped(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.is_emulated = true, .rx_slots = 4});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    uint32_t len = 0;

    (void)state;
    feed(bed.wire, 3 * 2048 + 1, 7, 0);
    feed(bed.wire, 3 * 2048, 8, 0);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    assert_int_equal(nm_ring_space(rx_ring(file, 0)), 3);
    assert_int_equal(take(rx_ring(file, 0), &len), 8);
    assert_int_equal(info_of(&bed).wire.dropped_rx, 1);
    nm_close(file);
    bed_free(&bed);
}

/* ---- receive ---- */

static void frames_of_the_wire_come_in_order(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.rx_slots = 8});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = rx_ring(file, 0);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 50; i++) { /* more than the ring takes: the wire keeps them */
        feed(bed.wire, 60u + i, i, 0);
    }
    for (uint32_t i = 0; i < 50;) {
        assert_int_equal(wait_for(file, POLLIN), POLLIN);
        assert_true(nm_ring_space(ring) <= 7);
        for (; nm_ring_space(ring) > 0; i++) {
            assert_int_equal(take(ring, &len), i);
            assert_int_equal(len, 60 + i);
        }
    }
    assert_int_equal(info_of(&bed).wire.dropped_rx, 0);
    nm_close(file);
    bed_free(&bed);
}

static void a_frame_longer_than_a_buffer_is_dropped(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    uint32_t len = 0;

    (void)state;
    feed(bed.wire, 2049, 1, 0);
    feed(bed.wire, 2048, 2, 0);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    assert_int_equal(take(rx_ring(file, 0), &len), 2);
    assert_int_equal(info_of(&bed).wire.dropped_rx, 1);
    nm_close(file);
    bed_free(&bed);
}

static void a_flow_and_its_answers_belong_to_one_ring(void **state)
{
    uint8_t there[60], back[60];
    unsigned seen = 0;

    (void)state;
    for (uint16_t port = 1; port < 200; port++) {
        make_frame(there, sizeof(there), 0, port);
        memcpy(back, there, sizeof(back));
        memcpy(back + 26, there + 30, 4);
        memcpy(back + 30, there + 26, 4);
        memcpy(back + 34, there + 36, 2);
        memcpy(back + 36, there + 34, 2);
        const unsigned ring = nic_hash(there, sizeof(there), 4);
        assert_true(ring < 4);
        assert_int_equal(nic_hash(back, sizeof(back), 4), ring);
        seen |= 1u << ring;
    }
    assert_int_equal(seen, 0xf);
    make_frame(there, sizeof(there), 0, 0);
    assert_int_equal(nic_hash(there, sizeof(there), 4), 0); /* ARP */
    for (uint16_t port = 1; port < 20; port++) {            /* only a first fragment has ports */
        make_frame(there, sizeof(there), 0, port);
        there[20] = 0x20;
        make_frame(back, sizeof(back), 0, (uint16_t)(port + 1));
        back[21] = 9;
        assert_int_equal(nic_hash(there, sizeof(there), 64), nic_hash(back, sizeof(back), 64));
    }
}

/* A port whose flow belongs to that ring of four. */
static uint16_t port_of_ring(unsigned ring, unsigned n)
{
    uint8_t frame[60];
    uint16_t port = 0;

    do {
        make_frame(frame, sizeof(frame), 0, ++port);
    } while (nic_hash(frame, sizeof(frame), n) != ring);
    return port;
}

static void each_flow_comes_to_its_ring(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.rx_rings = 4});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    uint32_t len = 0;

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        feed(bed.wire, 60, (uint8_t)i, port_of_ring(i % 4, 4));
    }
    for (unsigned found = 0; found < 12;) {
        assert_int_equal(wait_for(file, POLLIN), POLLIN);
        found = 0;
        for (unsigned i = 0; i < 4; i++) {
            struct netmap_ring *ring = rx_ring(file, i);
            found += nm_ring_space(ring);
            atomic_store(&ring->cur, atomic_load(&ring->tail)); /* seen, not released */
        }
    }
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(take(rx_ring(file, i % 4), &len), i);
    }
    nm_close(file);
    bed_free(&bed);
}

static void a_ring_that_nobody_empties_loses_frames_and_the_others_none(void **state)
{
    enum { N = 1200 };
    struct bed bed =
        bed_new_with((struct nm_host_options){0}, (struct nm_nic_options){.rx_rings = 2}, 2048);
    struct nm_file *file = bind_to(bed.host, NR_REG_ONE_NIC, 0);
    struct nm_file *idle = bind_to(bed.host, NR_REG_ONE_NIC, 1);
    const uint16_t ports[] = {port_of_ring(0, 2), port_of_ring(1, 2)};
    struct netmap_ring *ring = rx_ring(file, 0);
    uint32_t len = 0;

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        feed(bed.wire, 60, (uint8_t)i, ports[0]);
        feed(bed.wire, 60, (uint8_t)i, ports[1]);
        if (i % 8 == 7) {
            for (unsigned k = 0; k < 8;) {
                assert_int_equal(wait_for(file, POLLIN), POLLIN);
                for (; nm_ring_space(ring) > 0; k++) {
                    assert_int_equal(take(ring, &len), (uint8_t)(i - 7 + k));
                }
            }
        }
    }
    assert_int_equal(nm_ring_space(rx_ring(idle, 1)), 0);
    assert_int_equal(nm_rxsync(idle), 0);
    assert_int_equal(nm_ring_space(rx_ring(idle, 1)), 15);
    assert_int_equal(take(rx_ring(idle, 1), &len), 0);  /* the first ones are kept */
    assert_true(info_of(&bed).wire.dropped_rx > N / 2); /* a queue has room for 16 */
    assert_true(info_of(&bed).wire.dropped_rx < N);
    nm_close(file);
    nm_close(idle);
    bed_free(&bed);
}

static void a_ring_that_is_full_does_not_keep_the_others_asleep(void **state)
{
    struct bed bed =
        bed_new_with((struct nm_host_options){0}, (struct nm_nic_options){.rx_rings = 2}, 2048);
    struct nm_file *file = bind_to(bed.host, NR_REG_ONE_NIC, 0);
    struct nm_file *idle = bind_to(bed.host, NR_REG_ONE_NIC, 1);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 10; i++) {
        assert_int_equal(nm_poll(file, POLLIN), 0);
        for (unsigned k = 0; k < 20; k++) { /* a queue has room for 16 */
            feed(bed.wire, 60, 0, port_of_ring(1, 2));
        }
        settle(bed.host);
        assert_true(is_readable(nm_poll_fd(file))); /* is to take over */
        assert_int_equal(nm_poll(file, POLLIN), 0);
        settle(bed.host);
        assert_int_equal(nm_poll(file, POLLIN), 0);
        feed(bed.wire, 60, i, port_of_ring(0, 2));
        settle(bed.host);
        assert_true(is_readable(nm_poll_fd(file)));
        assert_int_equal(nm_poll(file, POLLIN), POLLIN);
        assert_int_equal(take(rx_ring(file, 0), &len), i);
    }
    nm_close(file);
    nm_close(idle);
    bed_free(&bed);
}

static void a_slot_without_a_buffer_is_an_error_of_its_ring(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct netmap_ring *ring = rx_ring(file, 0);
    const uint32_t own = ring->slot[1].buf_idx;
    uint32_t len = 0;

    (void)state;
    ring->slot[1].buf_idx = 1;
    feed(bed.wire, 60, 1, 0);
    feed(bed.wire, 60, 2, 0);
    assert_int_equal(nm_poll(file, POLLIN) & POLLERR, POLLERR);
    ring->slot[1].buf_idx = own;
    assert_int_equal(nm_poll(file, POLLIN), POLLIN);
    assert_int_equal(take(ring, &len), 1);
    assert_int_equal(take(ring, &len), 2);
    nm_close(file);
    bed_free(&bed);
}

/* ---- waiting ---- */

static void who_waits_for_a_frame_is_woken_by_it(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 20; i++) {
        assert_int_equal(nm_poll(file, POLLIN), 0);
        assert_false(is_readable(nm_poll_fd(file)));
        feed(bed.wire, 60, i, 0);
        assert_int_equal(wait_for(file, POLLIN), POLLIN);
        assert_int_equal(take(rx_ring(file, 0), &len), i);
    }
    nm_close(file);
    bed_free(&bed);
}

static void a_frame_wakes_only_who_waits_for_its_ring(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.rx_rings = 2});
    struct nm_file *files[] = {bind_to(bed.host, NR_REG_ONE_NIC, 0),
                               bind_to(bed.host, NR_REG_ONE_NIC, 1)};
    uint32_t len = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(nm_poll(files[0], POLLIN), 0);
        assert_int_equal(nm_poll(files[1], POLLIN), 0);
        feed(bed.wire, 60, (uint8_t)i, port_of_ring(i % 2, 2));
        settle(bed.host);
        assert_true(is_readable(nm_poll_fd(files[i % 2])));
        assert_int_equal(nm_poll(files[i % 2], POLLIN), POLLIN);
        assert_int_equal(take(rx_ring(files[i % 2], i % 2), &len), i);
        assert_false(is_readable(nm_poll_fd(files[!(i % 2)])));
    }
    nm_close(files[0]);
    nm_close(files[1]);
    bed_free(&bed);
}

static void who_finds_frames_of_another_ring_wakes_its_owner(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.rx_rings = 2});
    struct nm_file *files[] = {bind_to(bed.host, NR_REG_ONE_NIC, 0),
                               bind_to(bed.host, NR_REG_ONE_NIC, 1)};
    struct nm_nic *nic = g_hash_table_lookup(bed.host->nics, "em0");

    (void)state;
    assert_int_equal(nm_poll(files[1], POLLIN), 0);
    settle(bed.host);
    pthread_mutex_lock(&nic->lock); /* the thread sees nothing of it */
    feed(bed.wire, 60, 1, port_of_ring(1, 2));
    assert_int_equal(nm_poll(files[0], POLLIN), 0);
    assert_true(is_readable(nm_poll_fd(files[1])));
    pthread_mutex_unlock(&nic->lock);
    assert_int_equal(nm_poll(files[1], POLLIN), POLLIN);
    nm_close(files[0]);
    nm_close(files[1]);
    bed_free(&bed);
}

/* A wire whose descriptor stays readable although it has ended. */
struct ended {
    struct backend b;
    _Atomic unsigned n_receives;
};

static unsigned ended_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    (void)b, (void)frames;
    return n;
}

static unsigned ended_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    (void)frames, (void)n;
    b->is_ended = true;
    ((struct ended *)b)->n_receives++;
    return 0;
}

static void ended_free(struct backend *b)
{
    close(b->fd);
}

static void a_wire_that_has_ended_is_not_watched_any_more(void **state)
{
    static const struct backend_ops ops = {"ended", ended_send, ended_receive, ended_free};

    (void)state;
    for (uint16_t n_rings = 1; n_rings <= 2; n_rings++) {
        struct ended ended = {.b = {.ops = &ops, .fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)}};
        struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 8192}, NULL);
        assert_int_equal(
            new_with(host,
                     (struct nm_nic_options){.name = "em0", .wire = &ended.b, .rx_rings = n_rings}),
            0);
        struct nm_file *file = bind_to(host, NR_REG_ALL_NIC, 0);
        assert_int_equal(nm_poll(file, POLLIN), 0);
        settle(host);
        assert_int_equal(nm_poll(file, POLLIN), 0);
        settle(host);
        const unsigned n_receives = ended.n_receives;
        settle(host);
        assert_int_equal(ended.n_receives, n_receives);
        assert_false(is_readable(nm_poll_fd(file)));
        nm_close(file);
        settle(host);
        assert_int_equal(ended.n_receives, n_receives);
        nm_host_free(host);
    }
}

static void a_source_without_end_waits_for_its_first_reader(void **state)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);
    uint8_t frame[60] = {0};
    struct nm_nic_info info;

    (void)state;
    struct backend *source = backend_source_new(frame, sizeof(frame), 0, NULL);
    assert_int_equal(
        new_with(host, (struct nm_nic_options){.name = "em0", .wire = source, .rx_rings = 2}), 0);
    struct nm_file *file = bind_to(host, NR_REG_ALL_NIC, 0);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    nm_close(file);
    settle(host);
    assert_true(nm_nic_info(host, "em0", &info));
    const uint64_t received = info.wire.received;
    settle(host);
    assert_true(nm_nic_info(host, "em0", &info));
    assert_int_equal(info.wire.received, received);
    nm_host_free(host);
}

/* ---- going away ---- */

static void the_files_of_a_removed_interface_are_told(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    int err;

    (void)state;
    assert_int_equal(nm_poll(file, POLLIN), 0);
    assert_true(nm_nic_remove(bed.host, "em0", NULL));
    assert_true(is_readable(nm_poll_fd(file)));
    assert_int_equal(nm_poll(file, POLLIN | POLLOUT), POLLERR);
    assert_int_equal(nm_txsync(file), ENXIO);
    assert_int_equal(nm_rxsync(file), ENXIO);
    assert_null(
        try_bind(bed.host, "em0", (struct nmreq_register){.nr_mode = NR_REG_ALL_NIC}, &err));
    assert_int_equal(err, ENXIO);
    /* its memory is there as long as the file is */
    assert_int_equal(tx_ring(file, 0)->num_slots, 16);
    assert_int_equal(new_with(bed.host, (struct nm_nic_options){.name = "em0"}), 0);
    nm_close(file);
    bed_free(&bed);
}

static void removing_an_interface_unplugs_its_wire(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    uint32_t len = 0;

    (void)state;
    assert_true(nm_nic_remove(bed.host, "em0", NULL));
    assert_int_equal(draw(bed.wire, &len), -1);
    assert_true(bed.wire->is_ended);
    assert_false(nm_nic_remove(bed.host, "em0", NULL));
    bed_free(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interfaces_have_names_of_their_own),
        cmocka_unit_test(an_interface_that_nobody_made_is_not_found),
        cmocka_unit_test(an_emulated_interface_has_the_generic_counts),
        cmocka_unit_test(native_mode_only_refuses_an_emulated_interface),
        cmocka_unit_test(the_address_is_the_one_given_or_one_of_its_own),
        cmocka_unit_test(the_mtu_must_fit_the_buffers),
        cmocka_unit_test(a_frame_that_is_sent_comes_out_of_the_wire),
        cmocka_unit_test(every_ring_sends),
        cmocka_unit_test(a_frame_that_cannot_be_is_dropped_and_counted),
        cmocka_unit_test(an_unplugged_interface_takes_everything_and_gives_nothing),
        cmocka_unit_test(a_wire_without_room_makes_the_ring_wait),
        cmocka_unit_test(who_waits_for_room_is_woken_when_the_wire_has_some),
        cmocka_unit_test(a_native_interface_joins_the_slots_of_a_frame),
        cmocka_unit_test(a_frame_without_end_does_not_block_its_ring_for_ever),
        cmocka_unit_test(an_emulated_interface_sends_each_slot_for_itself),
        cmocka_unit_test(a_long_frame_takes_several_slots),
        cmocka_unit_test(a_frame_longer_than_the_ring_is_dropped),
        cmocka_unit_test(frames_of_the_wire_come_in_order),
        cmocka_unit_test(a_frame_longer_than_a_buffer_is_dropped),
        cmocka_unit_test(a_flow_and_its_answers_belong_to_one_ring),
        cmocka_unit_test(each_flow_comes_to_its_ring),
        cmocka_unit_test(a_ring_that_nobody_empties_loses_frames_and_the_others_none),
        cmocka_unit_test(a_ring_that_is_full_does_not_keep_the_others_asleep),
        cmocka_unit_test(a_slot_without_a_buffer_is_an_error_of_its_ring),
        cmocka_unit_test(who_waits_for_a_frame_is_woken_by_it),
        cmocka_unit_test(a_frame_wakes_only_who_waits_for_its_ring),
        cmocka_unit_test(who_finds_frames_of_another_ring_wakes_its_owner),
        cmocka_unit_test(a_wire_that_has_ended_is_not_watched_any_more),
        cmocka_unit_test(a_source_without_end_waits_for_its_first_reader),
        cmocka_unit_test(the_files_of_a_removed_interface_are_told),
        cmocka_unit_test(removing_an_interface_unplugs_its_wire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
