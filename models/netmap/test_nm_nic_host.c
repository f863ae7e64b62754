/*
 * The host stack's side of NIC-like ports: host rings, frames between wire and stack, forwarding.
 */
#include "models/netmap/test_nm_nic.h"

/* ---- host rings ---- */

static void what_is_put_into_a_host_ring_reaches_the_stack(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_SW, 0);
    struct netmap_ring *ring = tx_ring(file, 1);
    uint32_t len = 0;

    (void)state;
    put(ring, 60, 1, 0);
    put(ring, 13, 2, 0); /* no Ethernet frame */
    put(ring, 2048, 3, NS_MOREFRAG);
    put(ring, 14, 4, 0); /* not put together */
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(nm_ring_space(ring), 15);
    assert_int_equal(draw(bed.stack, &len), 1);
    assert_int_equal(draw(bed.stack, &len), 3);
    assert_int_equal(len, 2048);
    assert_int_equal(draw(bed.stack, &len), 6); /* the header's last byte */
    assert_int_equal(len, 14);
    assert_int_equal(draw(bed.stack, &len), -1);
    assert_int_equal(info_of(&bed).stack.dropped_tx, 1);
    nm_close(file);
    bed_free(&bed);
}

static void a_stack_that_takes_nothing_never_makes_a_host_ring_wait(void **state)
{
    struct bed bed = bed_new_with((struct nm_host_options){0}, (struct nm_nic_options){0}, 4);
    struct nm_file *file = bind_to(bed.host, NR_REG_SW, 0);
    struct netmap_ring *ring = tx_ring(file, 1);

    (void)state;
    for (uint8_t i = 0; i < 15; i++) {
        put(ring, 60, i, 0);
    }
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(nm_ring_space(ring), 15);
    assert_int_equal(info_of(&bed).stack.dropped_tx, 11);
    nm_close(file);
    bed_free(&bed);
}

static void what_the_stack_sends_comes_out_of_the_host_ring(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    uint32_t len = 0;

    (void)state;
    feed(bed.stack, 2049, 1, 0); /* longer than a buffer */
    feed(bed.stack, 60, 2, 0);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    assert_int_equal(nm_ring_space(rx_ring(file, 0)), 0);
    assert_int_equal(take(rx_ring(file, 1), &len), 2);
    assert_int_equal(info_of(&bed).stack.dropped_rx, 1);
    assert_int_equal(draw(bed.wire, &len), -1);
    nm_close(file);
    bed_free(&bed);
}

static void the_stack_uses_the_wire_while_netmap_does_not_transmit(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_SW, 0);
    uint32_t len = 0;

    (void)state;
    feed(bed.stack, 60, 1, 0);
    assert_int_equal(draw_waiting(bed.wire, &len), 1);
    assert_int_equal(nm_poll(file, POLLIN), 0);
    /* and the other way: no rx ring takes the frames */
    feed(bed.wire, 60, 2, 0);
    assert_int_equal(draw_waiting(bed.stack, &len), 2);
    nm_close(file);
    bed_free(&bed);
}

static void a_host_ring_alone_gets_nothing_of_what_the_stack_sends(void **state)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 8192}, NULL);
    struct nm_nic_options o = {.name = "em0"}; /* without a wire, where it would go to */
    struct backend *stack;
    uint32_t len = 0;

    (void)state;
    assert_true(backend_cable_new(16, 2048, &o.stack, &stack, NULL));
    assert_true(nm_nic_new(host, &o, NULL));
    struct nm_file *file = bind_to(host, NR_REG_SW, 0);
    feed(stack, 60, 1, 0);
    assert_int_equal(nm_poll(file, POLLIN), 0);
    nm_close(file);
    file = bind_to(host, NR_REG_NIC_SW, 0);
    assert_int_equal(nm_poll(file, POLLIN), POLLIN);
    assert_int_equal(take(rx_ring(file, 1), &len), 1);
    nm_close(file);
    nm_host_free(host);
    backend_free(stack);
}

static void a_frame_longer_than_a_buffer_never_takes_two_slots_of_a_host_ring(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.tx_rings = 2});
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    uint32_t len = 0;

    (void)state;
    feed(bed.stack, 2049, 1, 0);
    feed(bed.stack, 2048, 2, 0);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    assert_int_equal(take(rx_ring(file, 1), &len), 2);
    assert_int_equal(info_of(&bed).stack.dropped_rx, 1);
    nm_close(file);
    bed_free(&bed);
}

static void a_request_chooses_the_number_of_host_rings(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.tx_rings = 2});
    int err;
    struct nm_file *file =
        try_bind(bed.host, "em0",
                 (struct nmreq_register){
                     .nr_mode = NR_REG_NIC_SW, .nr_host_tx_rings = 2, .nr_host_rx_rings = 2},
                 &err);
    uint16_t ports[2] = {0};
    uint8_t frame[60];
    uint32_t len = 0;

    (void)state;
    assert_int_equal(err, 0);
    assert_int_equal(nm_file_if(file)->ni_host_rx_rings, 2);
    for (uint16_t port = 1; !ports[0] || !ports[1]; port++) {
        make_frame(frame, sizeof(frame), 0, port);
        ports[nic_hash(frame, sizeof(frame), 2)] = port;
    }
    feed(bed.stack, 60, 1, ports[1]);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    feed(bed.stack, 60, 2, ports[0]);
    while (nm_ring_space(rx_ring(file, 1)) == 0 || nm_ring_space(rx_ring(file, 2)) == 0) {
        for (unsigned i = 1; i < 3; i++) { /* seen, not released */
            atomic_store(&rx_ring(file, i)->cur, atomic_load(&rx_ring(file, i)->tail));
        }
        assert_int_equal(wait_for(file, POLLIN), POLLIN);
    }
    assert_int_equal(take(rx_ring(file, 1), &len), 2);
    assert_int_equal(take(rx_ring(file, 2), &len), 1);
    nm_close(file);
    assert_null(try_bind(bed.host, "em0",
                         (struct nmreq_register){.nr_mode = NR_REG_SW, .nr_host_rx_rings = 65},
                         &err));
    assert_int_equal(err, EINVAL);
    bed_free(&bed);
}

/* ---- the driver's part ---- */

static void an_interface_that_nobody_has_open_connects_wire_and_stack(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.rx_rings = 2});
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 100; i++) {
        feed(bed.wire, 60, i, i);
        feed(bed.stack, 1514, (uint8_t)(i + 1), i);
        assert_int_equal(draw_waiting(bed.stack, &len), i);
        assert_int_equal(len, 60);
        assert_int_equal(draw_waiting(bed.wire, &len), i + 1);
        assert_int_equal(len, 1514);
    }
    bed_free(&bed);
}

/* Rings that are full leave both sides unwatched. */
static void what_is_left_when_the_last_one_closes_it_goes_on(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 16; i++) {
        feed(bed.wire, 60, i, 0);
        feed(bed.stack, 60, i, 0);
    }
    assert_int_equal(nm_poll(file, POLLIN), POLLIN);
    assert_int_equal(nm_ring_space(rx_ring(file, 0)), 15);
    assert_int_equal(nm_ring_space(rx_ring(file, 1)), 15);
    settle(bed.host);
    nm_close(file);
    assert_int_equal(draw_waiting(bed.stack, &len), 15);
    assert_int_equal(draw_waiting(bed.wire, &len), 15);
    bed_free(&bed);
}

static void frames_of_a_ring_that_nobody_has_go_to_the_stack(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.rx_rings = 2, .tx_rings = 2});
    struct nm_file *file = bind_to(bed.host, NR_REG_ONE_NIC, 1);
    uint16_t ports[2] = {0};
    uint8_t frame[60];
    uint32_t len = 0;

    (void)state;
    for (uint16_t port = 1; !ports[0] || !ports[1]; port++) {
        make_frame(frame, sizeof(frame), 0, port);
        ports[nic_hash(frame, sizeof(frame), 2)] = port;
    }
    feed(bed.wire, 60, 1, ports[0]);
    feed(bed.wire, 60, 2, ports[1]);
    assert_int_equal(draw_waiting(bed.stack, &len), 1);
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    assert_int_equal(take(rx_ring(file, 1), &len), 2);
    feed(bed.stack, 60, 3, ports[0]); /* transmit ring 0 is the driver's, too */
    assert_int_equal(draw_waiting(bed.wire, &len), 3);
    assert_int_equal(draw(bed.stack, &len), -1);
    nm_close(file);
    bed_free(&bed);
}

/* ---- forwarding ---- */

static void ask_to_forward(struct netmap_ring *ring)
{
    atomic_store(&ring->flags, NR_FORWARD);
}

/* Frames 1, 2, 3 are in the ring; the second is marked; all are released. */
static void receive_three(struct nm_file *file, struct backend *end, unsigned ring_id)
{
    struct netmap_ring *ring = rx_ring(file, ring_id);

    for (uint8_t i = 1; i <= 3; i++) {
        feed(end, 60, i, 0);
    }
    assert_int_equal(wait_for(file, POLLIN), POLLIN);
    assert_int_equal(nm_ring_space(ring), 3);
    ring->slot[1].flags |= NS_FORWARD;
    for (int i = 0; i < 3; i++) {
        release(ring);
    }
}

static void marked_frames_of_the_wire_go_to_the_stack(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    uint32_t len = 0;

    (void)state;
    ask_to_forward(rx_ring(file, 0));
    receive_three(file, bed.wire, 0);
    assert_int_equal(draw(bed.stack, &len), -1);
    assert_int_equal(nm_rxsync(file), 0);
    assert_int_equal(draw(bed.stack, &len), 2);
    assert_int_equal(draw(bed.stack, &len), -1);
    assert_int_equal(rx_ring(file, 0)->slot[1].flags, 0);
    nm_close(file);
    bed_free(&bed);
}

static void without_the_rings_flag_a_mark_means_nothing(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    uint32_t len = 0;

    (void)state;
    receive_three(file, bed.wire, 0);
    receive_three(file, bed.stack, 1);
    assert_int_equal(nm_poll(file, POLLIN), 0);
    assert_int_equal(draw(bed.stack, &len), -1);
    assert_int_equal(draw(bed.wire, &len), -1);
    nm_close(file);
    bed_free(&bed);
}

static void with_the_sysctl_every_released_frame_is_forwarded(void **state)
{
    struct bed bed =
        bed_new_with((struct nm_host_options){.fwd = true}, (struct nm_nic_options){0}, 64);
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    uint32_t len = 0;

    (void)state;
    receive_three(file, bed.wire, 0);
    assert_int_equal(nm_poll(file, POLLIN), 0);
    receive_three(file, bed.stack, 1);
    assert_int_equal(nm_poll(file, POLLIN), 0);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(draw(bed.stack, &len), i);
        assert_int_equal(draw(bed.wire, &len), i);
    }
    nm_close(file);
    bed_free(&bed);
}

static void marked_frames_of_the_stack_go_to_the_wire_without_a_copy(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    struct netmap_ring *host = rx_ring(file, 1), *nic = tx_ring(file, 0);
    const uint32_t host_buffer = host->slot[1].buf_idx, nic_buffer = nic->slot[0].buf_idx;
    uint32_t len = 0;

    (void)state;
    ask_to_forward(host);
    receive_three(file, bed.stack, 1);
    assert_int_equal(nm_poll(file, POLLIN), 0); /* pushes it out at once */
    assert_int_equal(draw(bed.wire, &len), 2);
    assert_int_equal(len, 60);
    assert_int_equal(draw(bed.wire, &len), -1);
    assert_int_equal(nic->slot[0].buf_idx, host_buffer);
    assert_int_equal(host->slot[1].buf_idx, nic_buffer);
    assert_int_equal(atomic_load(&nic->head), 1);
    assert_int_equal(nm_ring_space(nic), 15);
    nm_close(file);
    bed_free(&bed);
}

static void rxsync_leaves_what_goes_to_the_wire_for_the_next_txsync(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){0});
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    uint32_t len = 0;

    (void)state;
    ask_to_forward(rx_ring(file, 1));
    receive_three(file, bed.stack, 1);
    assert_int_equal(nm_rxsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), -1);
    assert_int_equal(tx_ring(file, 0)->slot[0].flags, NS_BUF_CHANGED);
    assert_int_equal(nm_txsync(file), 0);
    assert_int_equal(draw(bed.wire, &len), 2);
    nm_close(file);
    bed_free(&bed);
}

static void frames_for_the_wire_fill_its_rings_in_order_and_the_rest_is_dropped(void **state)
{
    struct bed bed = bed_new_with((struct nm_host_options){.fwd = true},
                                  (struct nm_nic_options){.tx_rings = 2, .tx_slots = 4}, 64);
    struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
    struct netmap_ring *host = rx_ring(file, 1);
    uint32_t len = 0;

    (void)state;
    for (uint8_t i = 0; i < 10; i++) {
        feed(bed.stack, 60, i, 0);
    }
    while (nm_ring_space(host) < 10) {
        atomic_store(&host->cur, atomic_load(&host->tail));
        assert_int_equal(wait_for(file, POLLIN), POLLIN);
    }
    for (int i = 0; i < 10; i++) {
        release(host);
    }
    assert_int_equal(nm_rxsync(file), 0);
    assert_int_equal(nm_ring_space(tx_ring(file, 0)), 0);
    assert_int_equal(nm_ring_space(tx_ring(file, 1)), 0);
    assert_int_equal(nm_txsync(file), 0);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(draw(bed.wire, &len), i);
    }
    assert_int_equal(draw(bed.wire, &len), -1);
    nm_close(file);
    bed_free(&bed);
}

static void who_has_not_all_transmit_rings_forwards_nothing_to_the_wire(void **state)
{
    struct bed bed =
        bed_new_with((struct nm_host_options){.fwd = true}, (struct nm_nic_options){0}, 64);
    struct nm_file *nic = bind_to(bed.host, NR_REG_ALL_NIC, 0);
    struct nm_file *file = bind_to(bed.host, NR_REG_SW, 0);
    uint32_t len = 0;

    (void)state;
    receive_three(file, bed.stack, 1);
    assert_int_equal(nm_poll(file, POLLIN), 0);
    assert_int_equal(nm_poll(nic, POLLOUT), POLLOUT);
    assert_int_equal(draw(bed.wire, &len), -1);
    nm_close(file);
    nm_close(nic);
    bed_free(&bed);
}

/* ---- many threads ---- */

enum { N_FRAMES = 20000 };

static void *send_frames(void *data)
{
    struct nm_file *file = data;
    struct netmap_ring *ring = tx_ring(file, 0);

    for (uint32_t i = 0; i < N_FRAMES;) {
        if (wait_for(file, POLLOUT) & POLLERR) {
            return NULL;
        }
        for (; i < N_FRAMES && nm_ring_space(ring) > 0; i++) {
            put(ring, 60, (uint8_t)i, 0);
        }
    }
    while (nm_ring_space(ring) < ring->num_slots - 1) {
        assert_int_equal(nm_txsync(file), 0);
    }
    return NULL;
}

static void two_interfaces_lose_nothing_between_two_threads(void **state)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);
    struct nm_nic_options a = {.name = "a", .tx_slots = 64, .rx_slots = 64};
    struct nm_nic_options b = {.name = "b", .tx_slots = 64, .rx_slots = 64};
    const struct nmreq_register all = {.nr_mode = NR_REG_ALL_NIC};
    pthread_t thread;
    uint32_t len = 0;
    int err;

    (void)state;
    assert_true(backend_cable_new(32, 2048, &a.wire, &b.wire, NULL));
    assert_true(nm_nic_new(host, &a, NULL));
    assert_true(nm_nic_new(host, &b, NULL));
    struct nm_file *from = try_bind(host, "a", all, &err), *to = try_bind(host, "b", all, &err);
    assert_int_equal(err, 0);
    assert_int_equal(pthread_create(&thread, NULL, send_frames, from), 0);
    for (uint32_t i = 0; i < N_FRAMES;) {
        assert_int_equal(wait_for(to, POLLIN), POLLIN);
        for (; nm_ring_space(rx_ring(to, 0)) > 0; i++) {
            assert_int_equal(take(rx_ring(to, 0), &len), (uint8_t)i);
        }
    }
    pthread_join(thread, NULL);
    nm_close(from);
    nm_close(to);
    nm_host_free(host);
}

/* Opens, uses and closes while frames come and the other files do, too. */
static void *come_and_go(void *data)
{
    struct bed *bed = data;

    for (unsigned i = 0; i < 100; i++) {
        struct nm_file *file = bind_to(bed->host, i % 2 ? NR_REG_NIC_SW : NR_REG_ONE_NIC, 1);
        struct netmap_ring *ring = rx_ring(file, 1);
        (void)nm_poll(file, POLLIN | POLLOUT);
        atomic_store(&ring->cur, atomic_load(&ring->tail));
        atomic_store(&ring->head, atomic_load(&ring->tail));
        (void)nm_rxsync(file);
        nm_close(file);
    }
    return NULL;
}

static void files_come_and_go_while_frames_do(void **state)
{
    struct bed bed = bed_new((struct nm_nic_options){.rx_rings = 2, .tx_rings = 2});
    pthread_t threads[2];
    uint32_t len = 0;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &bed), 0);
    }
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t frame[60];
        struct backend_frame f = {frame, sizeof(frame), 0};
        make_frame(frame, sizeof(frame), 1, (uint16_t)i);
        (void)backend_send(bed.wire, &f, 1);
        (void)backend_send(bed.stack, &f, 1);
        (void)draw(bed.wire, &len);
        (void)draw(bed.stack, &len);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    bed_free(&bed);
}

static void *sync_until_it_is_gone(void *data)
{
    while (nm_txsync(data) == 0 && nm_rxsync(data) == 0) {
    }
    return NULL;
}

static void an_interface_may_be_removed_while_it_is_used(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct bed bed = bed_new((struct nm_nic_options){.rx_rings = 2});
        struct nm_file *file = bind_to(bed.host, NR_REG_NIC_SW, 0);
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, sync_until_it_is_gone, file), 0);
        for (uint8_t k = 0; k < 50; k++) {
            feed(bed.wire, 60, k, k);
        }
        assert_true(nm_nic_remove(bed.host, "em0", NULL));
        pthread_join(thread, NULL);
        nm_close(file);
        bed_free(&bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_into_a_host_ring_reaches_the_stack),
        cmocka_unit_test(a_stack_that_takes_nothing_never_makes_a_host_ring_wait),
        cmocka_unit_test(what_the_stack_sends_comes_out_of_the_host_ring),
        cmocka_unit_test(the_stack_uses_the_wire_while_netmap_does_not_transmit),
        cmocka_unit_test(a_host_ring_alone_gets_nothing_of_what_the_stack_sends),
        cmocka_unit_test(a_frame_longer_than_a_buffer_never_takes_two_slots_of_a_host_ring),
        cmocka_unit_test(a_request_chooses_the_number_of_host_rings),
        cmocka_unit_test(an_interface_that_nobody_has_open_connects_wire_and_stack),
        cmocka_unit_test(what_is_left_when_the_last_one_closes_it_goes_on),
        cmocka_unit_test(frames_of_a_ring_that_nobody_has_go_to_the_stack),
        cmocka_unit_test(marked_frames_of_the_wire_go_to_the_stack),
        cmocka_unit_test(without_the_rings_flag_a_mark_means_nothing),
        cmocka_unit_test(with_the_sysctl_every_released_frame_is_forwarded),
        cmocka_unit_test(marked_frames_of_the_stack_go_to_the_wire_without_a_copy),
        cmocka_unit_test(rxsync_leaves_what_goes_to_the_wire_for_the_next_txsync),
        cmocka_unit_test(frames_for_the_wire_fill_its_rings_in_order_and_the_rest_is_dropped),
        cmocka_unit_test(who_has_not_all_transmit_rings_forwards_nothing_to_the_wire),
        cmocka_unit_test(two_interfaces_lose_nothing_between_two_threads),
        cmocka_unit_test(files_come_and_go_while_frames_do),
        cmocka_unit_test(an_interface_may_be_removed_while_it_is_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
