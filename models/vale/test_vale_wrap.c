/*
 * NICs on a switch, with and without their host rings, and polled; a persistent port on two
 * switches. The wire and the stack are cables whose other ends the tests hold.
 */
#include "models/backend/backend.h"
#include "models/vale/test_vale_client.h"

enum { DEADLINE_MS = 5000, BIG = 4096 };

struct bed {
    struct nm_host *host;
    struct backend *wire, *stack; /* the test's ends */
    struct client a;              /* on vale0 */
};

static struct bed bed_new(uint16_t n_rings)
{
    struct nm_nic_options nic = {
        .name = "em0", .tx_rings = n_rings, .rx_rings = n_rings, .tx_slots = 16, .rx_slots = 16};
    struct bed bed = {.host = test_host()};

    assert_true(backend_cable_new(256, BIG, &nic.wire, &bed.wire, NULL));
    assert_true(backend_cable_new(256, BIG, &nic.stack, &bed.stack, NULL));
    assert_true(nm_nic_new(bed.host, &nic, NULL));
    bed.a = client_open(bed.host, "vale0:a");
    return bed;
}

static void bed_free(struct bed *bed)
{
    client_close(&bed->a);
    nm_host_free(bed->host);
    backend_free(bed->wire);
    backend_free(bed->stack);
}

static int attach(struct bed *bed, char *name, uint32_t mode)
{
    struct nmreq_vale_attach body = {.reg.nr_mode = mode};

    return test_request(bed->host, NETMAP_REQ_VALE_ATTACH, name, &body);
}

static int detach(struct bed *bed, char *name)
{
    struct nmreq_vale_detach body = {0};

    return test_request(bed->host, NETMAP_REQ_VALE_DETACH, name, &body);
}

static int polling(struct bed *bed, char *name, bool enable, uint32_t mode, uint32_t cpu,
                   uint32_t n_cpus)
{
    struct nmreq_vale_polling body = {
        .nr_mode = mode, .nr_first_cpu_id = cpu, .nr_num_polling_cpus = n_cpus};

    return test_request(bed->host,
                        enable ? NETMAP_REQ_VALE_POLLING_ENABLE : NETMAP_REQ_VALE_POLLING_DISABLE,
                        name, &body);
}

static void feed(struct backend *end, unsigned dst, unsigned src, uint8_t mark)
{
    uint8_t bytes[60] = {[12] = 0x88, [13] = 0xb5, [59] = mark};
    struct backend_frame frame = {bytes, sizeof(bytes), 0};

    test_mac(bytes, dst);
    test_mac(bytes + 6, src);
    assert_int_equal(backend_send(end, &frame, 1), 1);
}

/* The last byte of the next frame that a cable brings; -1: none. */
static int taken(struct backend *end)
{
    uint8_t bytes[BIG];
    struct backend_frame frame = {bytes, sizeof(bytes), 0};

    return backend_receive(end, &frame, 1) == 1 ? bytes[frame.len - 1] : -1;
}

/* The same when it comes by another thread. */
static int waited(struct backend *end)
{
    struct pollfd fd = {.fd = end->fd, .events = POLLIN};
    int mark = taken(end);

    if (mark < 0 && poll(&fd, 1, DEADLINE_MS) == 1) {
        mark = taken(end);
    }
    return mark;
}

static int waited_at(struct client *c)
{
    struct pollfd fd = {.fd = nm_poll_fd(c->file), .events = POLLIN};

    while (nm_poll(c->file, POLLIN) == 0) { /* it may be told late of what it has taken */
        assert_int_equal(poll(&fd, 1, DEADLINE_MS), 1);
    }
    return client_receive(c);
}

static void a_nic_on_a_switch_sends_and_receives(void **state)
{
    struct bed bed = bed_new(1);

    (void)state;
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em0"), NR_REG_ALL_NIC), 0);
    client_send(&bed.a, 0xff, 1, 'x');
    assert_int_equal(taken(bed.wire), 'x');
    for (unsigned i = 0; i < 100; i++) { /* several times around its rings */
        feed(bed.wire, 1, 2, (uint8_t)i);
        assert_int_equal(waited_at(&bed.a), i);
        client_send(&bed.a, 2, 1, (uint8_t)(i + 100));
        assert_int_equal(taken(bed.wire), i + 100);
    }
    assert_int_equal(taken(bed.stack), -1);
    bed_free(&bed);
}

static void what_came_before_it_was_attached_is_forwarded(void **state)
{
    struct bed bed = bed_new(1);

    (void)state;
    nm_nic_remove(bed.host, "em0", NULL);
    struct nm_nic_options nic = {.name = "em1"};
    backend_free(g_steal_pointer(&bed.wire));
    assert_true(backend_cable_new(256, BIG, &nic.wire, &bed.wire, NULL));
    feed(bed.wire, 0xff, 2, 'x');
    assert_true(nm_nic_new(bed.host, &nic, NULL));
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em1"), NR_REG_ALL_NIC), 0);
    feed(bed.wire, 0xff, 2, 'y');
    int first = waited_at(&bed.a);
    if (first == 'x') { /* 'x' may have gone to the stack before, which there is none of */
        first = waited_at(&bed.a);
    }
    assert_int_equal(first, 'y');
    bed_free(&bed);
}

static void an_attached_nic_is_busy_and_a_busy_one_is_not_attached(void **state)
{
    struct bed bed = bed_new(1);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct client c;

    (void)state;
    assert_int_equal(client_open_with(&c, bed.host, "em0", &reg), 0);
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em0"), NR_REG_ALL_NIC), EBUSY);
    client_close(&c);
    struct nmreq_vale_attach unknown = {.reg = {.nr_mode = NR_REG_ALL_NIC, .nr_mem_id = 999}};
    assert_int_equal(
        test_request(bed.host, NETMAP_REQ_VALE_ATTACH, TEST_NAME("vale0:em0"), &unknown), EINVAL);
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em0"), NR_REG_ALL_NIC), 0);
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em0"), NR_REG_ALL_NIC), EBUSY);
    assert_int_equal(attach(&bed, TEST_NAME("vale1:em0"), NR_REG_ALL_NIC), EBUSY);
    assert_int_equal(client_open_with(&c, bed.host, "em0", &reg), EBUSY);
    assert_int_equal(client_open_with(&c, bed.host, "vale0:em0", &reg), EBUSY);
    assert_int_equal(detach(&bed, TEST_NAME("vale0:em0")), 0);
    assert_int_equal(client_open_with(&c, bed.host, "em0", &reg), 0);
    client_close(&c);
    bed_free(&bed);
}

static void an_attached_nic_is_described_with_its_directions_swapped(void **state)
{
    struct bed bed = bed_new(2);
    struct nmreq_port_info_get info = {0};

    (void)state;
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em0"), NR_REG_NIC_SW), 0);
    assert_int_equal(
        test_request(bed.host, NETMAP_REQ_PORT_INFO_GET, TEST_NAME("vale0:em0"), &info), 0);
    assert_int_equal(info.nr_tx_rings, 2);
    assert_int_equal(info.nr_tx_slots, 16);
    struct nmreq_vale_list list = {0};
    assert_int_equal(test_request(bed.host, NETMAP_REQ_VALE_LIST, TEST_NAME("vale0:em0^"), &list),
                     0);
    assert_int_equal(list.nr_port_idx, 2);
    assert_int_equal(detach(&bed, TEST_NAME("vale0:em0")), 0);
    assert_int_equal(test_request(bed.host, NETMAP_REQ_VALE_LIST, TEST_NAME("vale0:em0^"), &list),
                     0);
    assert_int_equal(list.nr_port_idx, 255); /* both went */
    bed_free(&bed);
}

static void the_host_stack_is_a_port_of_its_own(void **state)
{
    struct bed bed = bed_new(1);

    (void)state;
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em0"), NR_REG_NIC_SW), 0);
    client_send(&bed.a, 0xff, 1, 'x'); /* to both */
    assert_int_equal(taken(bed.wire), 'x');
    assert_int_equal(taken(bed.stack), 'x');
    for (unsigned i = 0; i < 40; i++) {
        feed(bed.stack, 1, 3, (uint8_t)i);
        assert_int_equal(waited_at(&bed.a), i);
        client_send(&bed.a, 3, 1, (uint8_t)(i + 100));
        assert_int_equal(taken(bed.stack), i + 100);
    }
    assert_int_equal(taken(bed.wire), -1);
    feed(bed.wire, 3, 2, 'w'); /* from the wire through the switch to the stack */
    assert_int_equal(waited(bed.stack), 'w');
    bed_free(&bed);
}

static void a_nic_that_is_full_is_tried_again_and_then_drops(void **state)
{
    struct bed bed = bed_new(1);
    struct nm_nic_options nic = {.name = "em1", .tx_slots = 16, .rx_slots = 16};
    struct backend *wire;
    struct vale_port_stats stats;

    (void)state;
    assert_true(backend_cable_new(8, BIG, &nic.wire, &wire, NULL));
    assert_true(nm_nic_new(bed.host, &nic, NULL));
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em1"), NR_REG_ALL_NIC), 0);
    for (unsigned i = 0; i < 30; i++) {
        client_send(&bed.a, 0xff, 1, (uint8_t)i);
    }
    assert_int_equal(vale_port_stats(bed.host, "vale0:em1", &stats), 0);
    assert_int_equal(stats.tx_frames + stats.dropped_full, 30);
    assert_true(stats.tx_frames >= 15);
    for (unsigned i = 0; i < stats.tx_frames; i++) {
        assert_int_equal(waited(wire), i);
    }
    int mark = -1;
    for (gint64 end = g_get_monotonic_time() + DEADLINE_MS * 1000;
         mark < 0 && g_get_monotonic_time() < end; mark = taken(wire)) {
        client_send(&bed.a, 0xff, 1, 'z'); /* the NIC's thread may be at it still */
    }
    assert_int_equal(mark, 'z');
    bed_free(&bed);
    backend_free(wire);
}

static void a_sender_waits_for_a_nic_too(void **state)
{
    struct bed bed = bed_new(1);
    struct nm_nic_options nic = {.name = "em1", .tx_slots = 16, .rx_slots = 16};
    struct backend *wire;
    struct netmap_ring *ring = nm_txring(bed.a.nifp, 0);
    struct pollfd fd = {.fd = nm_poll_fd(bed.a.file), .events = POLLIN};
    uint8_t frame[60];

    (void)state;
    assert_true(backend_cable_new(8, BIG, &nic.wire, &wire, NULL));
    assert_true(nm_nic_new(bed.host, &nic, NULL));
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em1"), NR_REG_ALL_NIC), 0);
    assert_int_equal(vale_set_full_policy(bed.host, "vale0:", VALE_FULL_WAIT), 0);
    for (unsigned i = 0; i < 200; i++) {
        memset(frame, 0, sizeof(frame));
        test_mac(frame, 0xff);
        test_mac(frame + 6, 1);
        frame[59] = (uint8_t)i;
        client_put(&bed.a, 0, frame, sizeof(frame));
    }
    assert_int_equal(nm_txsync(bed.a.file), 0);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(waited(wire), i);
        if (nm_ring_space(ring) < ring->num_slots - 1 && poll(&fd, 1, 0) == 1) {
            nm_poll(bed.a.file, POLLOUT);
        }
        assert_int_equal(nm_txsync(bed.a.file), 0);
    }
    assert_int_equal(nm_ring_space(ring), ring->num_slots - 1);
    bed_free(&bed);
    backend_free(wire);
}

static void polling_is_for_nics_and_its_numbers_are_checked(void **state)
{
    struct bed bed = bed_new(2);
    char *nic = TEST_NAME("vale0:em0");
    const uint32_t single = NETMAP_POLLING_MODE_SINGLE_CPU, multi = NETMAP_POLLING_MODE_MULTI_CPU;

    (void)state;
    assert_int_equal(attach(&bed, nic, NR_REG_ALL_NIC), 0);
    assert_int_equal(polling(&bed, TEST_NAME("vale0:a"), true, single, 0, 1), EOPNOTSUPP);
    assert_int_equal(polling(&bed, TEST_NAME("vale0:b"), true, single, 0, 1), ENXIO);
    assert_int_equal(polling(&bed, TEST_NAME("em0"), true, single, 0, 1), EINVAL);
    assert_int_equal(polling(&bed, nic, false, 0, 0, 0), EFAULT);
    assert_int_equal(polling(&bed, nic, true, single, 0, 0), EINVAL);
    assert_int_equal(polling(&bed, nic, true, single, 0, g_get_num_processors()), EINVAL);
    assert_int_equal(polling(&bed, nic, true, 3, 0, 1), EINVAL);
    assert_int_equal(polling(&bed, nic, true, multi, 2, 1), EINVAL);
    if (g_get_num_processors() < 2) {
        skip(); /* fewer CPUs than there are must be asked for */
    }
    assert_int_equal(polling(&bed, nic, true, multi, 1, 1), 0);
    assert_int_equal(polling(&bed, nic, true, single, 0, 1), EFAULT);
    assert_int_equal(detach(&bed, nic), EBUSY);
    assert_int_equal(polling(&bed, nic, false, 0, 0, 0), 0);
    assert_int_equal(polling(&bed, nic, true, single, 0, 1), 0);
    bed_free(&bed); /* with a poller running */
}

static void a_polled_nic_forwards_and_goes_on_when_polling_ends(void **state)
{
    struct bed bed = bed_new(1);
    char *nic = TEST_NAME("vale0:em0");

    (void)state;
    if (g_get_num_processors() < 2) {
        skip();
    }
    assert_int_equal(attach(&bed, nic, NR_REG_ALL_NIC), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(polling(&bed, nic, true, NETMAP_POLLING_MODE_SINGLE_CPU, 0, 1), 0);
        feed(bed.wire, 0xff, 2, 'p');
        assert_int_equal(waited_at(&bed.a), 'p');
        assert_int_equal(polling(&bed, nic, false, 0, 0, 0), 0);
        feed(bed.wire, 0xff, 2, 'i');
        assert_int_equal(waited_at(&bed.a), 'i');
    }
    assert_int_equal(detach(&bed, nic), 0);
    bed_free(&bed);
}

static void a_persistent_port_joins_two_switches(void **state)
{
    struct bed bed = bed_new(1);
    struct client b = client_open(bed.host, "vale1:b");
    struct nmreq_vale_newif newif = {.nr_tx_slots = 16, .nr_rx_slots = 16};
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct client c;

    (void)state;
    assert_int_equal(test_request(bed.host, NETMAP_REQ_VALE_NEWIF, TEST_NAME("v0"), &newif), 0);
    assert_int_equal(attach(&bed, TEST_NAME("vale0:v0"), NR_REG_ALL_NIC), 0);
    assert_int_equal(attach(&bed, TEST_NAME("vale1:v0"), NR_REG_ALL_NIC), 0);
    assert_int_equal(client_open_with(&c, bed.host, "v0", &reg), EBUSY);
    for (unsigned i = 0; i < 40; i++) {
        client_send(&b, i ? 1 : 0xff, 2, (uint8_t)i); /* wrapped: straight into vale0 */
        assert_int_equal(client_receive(&bed.a), i);
        client_send(&bed.a, 2, 1, (uint8_t)(i + 100)); /* by the wrapper's thread */
        assert_int_equal(waited_at(&b), i + 100);
    }
    assert_int_equal(detach(&bed, TEST_NAME("vale0:v0")), EBUSY);
    assert_int_equal(detach(&bed, TEST_NAME("vale1:v0")), 0);
    assert_int_equal(detach(&bed, TEST_NAME("vale0:v0")), 0);
    client_close(&b);
    bed_free(&bed);
}

static void a_nic_that_is_removed_leaves_the_switch_in_order(void **state)
{
    struct bed bed = bed_new(1);
    struct client b = client_open(bed.host, "vale0:b");

    (void)state;
    assert_int_equal(attach(&bed, TEST_NAME("vale0:em0"), NR_REG_NIC_SW), 0);
    assert_true(nm_nic_remove(bed.host, "em0", NULL));
    for (unsigned i = 0; i < 40; i++) {
        client_send(&bed.a, 0xff, 1, (uint8_t)i);
        assert_int_equal(client_receive(&b), i);
    }
    assert_int_equal(detach(&bed, TEST_NAME("vale0:em0")), 0);
    client_close(&b);
    bed_free(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nic_on_a_switch_sends_and_receives),
        cmocka_unit_test(what_came_before_it_was_attached_is_forwarded),
        cmocka_unit_test(an_attached_nic_is_busy_and_a_busy_one_is_not_attached),
        cmocka_unit_test(an_attached_nic_is_described_with_its_directions_swapped),
        cmocka_unit_test(the_host_stack_is_a_port_of_its_own),
        cmocka_unit_test(a_nic_that_is_full_is_tried_again_and_then_drops),
        cmocka_unit_test(a_sender_waits_for_a_nic_too),
        cmocka_unit_test(polling_is_for_nics_and_its_numbers_are_checked),
        cmocka_unit_test(a_polled_nic_forwards_and_goes_on_when_polling_ends),
        cmocka_unit_test(a_persistent_port_joins_two_switches),
        cmocka_unit_test(a_nic_that_is_removed_leaves_the_switch_in_order),
    };
    return cmocka_run_group_tests_name("models/vale/wrap", tests, NULL, NULL);
}
