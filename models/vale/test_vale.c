/*
 * Switches and ports as programs see them: names, requests and their errors, what comes and goes.
 */
#include "models/vale/test_vale_client.h"

static int attach(struct nm_host *host, char *name, uint32_t mode, uint32_t *index)
{
    struct nmreq_vale_attach body = {.reg.nr_mode = mode};
    int err = test_request(host, NETMAP_REQ_VALE_ATTACH, name, &body);

    if (index) {
        *index = body.port_index;
    }
    return err;
}

static int detach(struct nm_host *host, char *name)
{
    struct nmreq_vale_detach body = {0};

    return test_request(host, NETMAP_REQ_VALE_DETACH, name, &body);
}

static int newif(struct nm_host *host, char *name)
{
    struct nmreq_vale_newif body = {.nr_tx_slots = 64, .nr_rx_slots = 64};

    return test_request(host, NETMAP_REQ_VALE_NEWIF, name, &body);
}

static int open_only(struct nm_host *host, const char *name)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct client c = {NULL, NULL};
    int err = client_open_with(&c, host, name, &reg);

    if (!err) {
        client_close(&c);
    }
    return err;
}

/* ---- frames ---- */

static void frames_go_from_port_to_port(void **state)
{
    struct nm_host *host = test_host();
    struct client a = client_open(host, "vale0:a"), b = client_open(host, "vale0:b");
    struct client other = client_open(host, "vale1:c");

    (void)state;
    client_send(&a, 2, 1, 'x');
    assert_int_equal(client_receive(&b), 'x');
    assert_int_equal(client_receive(&b), -1);
    client_send(&b, 1, 2, 'y');
    assert_int_equal(client_receive(&a), 'y');
    assert_int_equal(client_receive(&other), -1);

    struct vale_port_stats stats;
    assert_int_equal(vale_port_stats(host, "vale0:a", &stats), 0);
    assert_int_equal(stats.rx_frames, 1);
    assert_int_equal(stats.rx_bytes, 60);
    assert_int_equal(stats.tx_frames, 1);
    assert_int_equal(stats.tx_bytes, 60);
    assert_int_equal(vale_port_stats(host, "vale0:c", &stats), ENXIO);
    client_close(&a);
    client_close(&b);
    client_close(&other);
    nm_host_free(host);
}

static void transmission_never_blocks_and_the_excess_is_dropped(void **state)
{
    struct nm_host *host = test_host();
    struct nmreq_register small = {.nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 8, .nr_rx_slots = 8};
    struct client a, b;
    struct vale_port_stats stats;

    (void)state;
    assert_int_equal(client_open_with(&a, host, "vale0:a", &small), 0);
    assert_int_equal(client_open_with(&b, host, "vale0:b", &small), 0);
    assert_int_equal(small.nr_tx_slots, 8);
    for (unsigned i = 0; i < 20; i++) {
        client_send(&a, 0xff, 1, (uint8_t)i);
        assert_int_equal(nm_ring_space(nm_txring(a.nifp, 0)), 7);
    }
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(client_receive(&b), i);
    }
    assert_int_equal(client_receive(&b), -1);
    vale_port_stats(host, "vale0:b", &stats);
    assert_int_equal(stats.dropped_full, 13);
    client_send(&a, 0xff, 1, 'z');
    assert_int_equal(client_receive(&b), 'z');
    client_close(&a);
    client_close(&b);
    nm_host_free(host);
}

static void a_sender_that_waits_is_told_when_there_is_room(void **state)
{
    struct nm_host *host = test_host();
    struct nmreq_register small = {.nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 8, .nr_rx_slots = 8};
    struct client a, b;

    (void)state;
    assert_int_equal(client_open_with(&a, host, "vale0:a", &small), 0);
    assert_int_equal(client_open_with(&b, host, "vale0:b", &small), 0);
    assert_int_equal(vale_set_full_policy(host, "vale0:", VALE_FULL_WAIT), 0);
    assert_int_equal(vale_set_full_policy(host, "vale1:", VALE_FULL_WAIT), ENXIO);
    for (unsigned i = 0; i < 14; i++) {
        client_send(&a, 0xff, 1, (uint8_t)i);
    }
    assert_int_equal(nm_ring_space(nm_txring(a.nifp, 0)), 0);
    assert_int_equal(nm_poll(a.file, POLLOUT), 0);
    struct pollfd fd = {.fd = nm_poll_fd(a.file), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_int_equal(client_receive(&b), 0);
    assert_int_equal(client_receive(&b), 1); /* its sync gives the first slot back */
    assert_int_equal(poll(&fd, 1, 0), 1);
    assert_int_equal(nm_poll(a.file, POLLOUT), POLLOUT);
    for (unsigned i = 2; i < 14; i++) {
        assert_int_equal(nm_txsync(a.file), 0);
        assert_int_equal(client_receive(&b), i);
    }
    assert_int_equal(client_receive(&b), -1);
    for (unsigned i = 0; i < 14; i++) {
        client_send(&a, 0xff, 1, (uint8_t)i);
    }
    assert_int_equal(nm_poll(a.file, POLLOUT), 0);
    client_close(&b); /* nobody is left to wait for */
    assert_int_equal(poll(&fd, 1, 0), 1);
    assert_int_equal(nm_poll(a.file, POLLOUT), POLLOUT);
    client_close(&a);
    nm_host_free(host);
}

static void a_sender_is_told_when_a_receiver_that_stays_attached_is_closed(void **state)
{
    struct nm_host *host = test_host();
    struct nmreq_register small = {.nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 128};
    struct client a, b;

    (void)state;
    assert_int_equal(client_open_with(&a, host, "vale0:a", &small), 0);
    assert_int_equal(newif(host, TEST_NAME("v0")), 0);
    assert_int_equal(attach(host, TEST_NAME("vale0:v0"), NR_REG_ALL_NIC, NULL), 0);
    b = client_open(host, "v0");
    assert_int_equal(vale_set_full_policy(host, "vale0:", VALE_FULL_WAIT), 0);
    for (unsigned i = 0; i < 63 + 127; i++) {
        client_send(&a, 0xff, 1, (uint8_t)i);
    }
    struct pollfd fd = {.fd = nm_poll_fd(a.file), .events = POLLIN};
    assert_int_equal(nm_poll(a.file, POLLOUT), 0);
    assert_int_equal(poll(&fd, 1, 0), 0);
    client_close(&b);
    assert_int_equal(poll(&fd, 1, 0), 1);
    assert_int_equal(nm_poll(a.file, POLLOUT), POLLOUT);
    client_close(&a);
    nm_host_free(host);
}

static void a_receiver_that_polls_is_woken(void **state)
{
    struct nm_host *host = test_host();
    struct client a = client_open(host, "vale0:a"), b = client_open(host, "vale0:b");
    struct pollfd fd = {.fd = nm_poll_fd(b.file), .events = POLLIN};

    (void)state;
    assert_int_equal(nm_poll(b.file, POLLIN), 0);
    assert_int_equal(poll(&fd, 1, 0), 0);
    client_send(&a, 0xff, 1, 'x');
    assert_int_equal(poll(&fd, 1, 0), 1);
    assert_int_equal(nm_poll(b.file, POLLIN), POLLIN);
    client_close(&a);
    client_close(&b);
    nm_host_free(host);
}

static void ports_with_and_without_vnet_headers_understand_each_other(void **state)
{
    struct nm_host *host = test_host();
    struct client a = client_open(host, "vale0:a"), b = client_open(host, "vale0:b");
    struct nmreq_port_hdr hdr = {.nr_hdr_len = 12};
    uint8_t frame[2048] = {0};
    uint16_t flags;

    (void)state;
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_SET, TEST_NAME("vale0:b"), &hdr), 0);
    hdr.nr_hdr_len = 0;
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_GET, TEST_NAME("vale0:b"), &hdr), 0);
    assert_int_equal(hdr.nr_hdr_len, 12);
    hdr.nr_hdr_len = 11;
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_SET, TEST_NAME("vale0:b"), &hdr),
                     EINVAL);
    hdr.nr_hdr_len = 10;
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_SET, TEST_NAME("vale0:x"), &hdr),
                     ENXIO);
    assert_int_equal(open_only(host, "vale0:b"), EIO); /* needs NR_ACCEPT_VNET_HDR */
    client_send(&a, 0xff, 1, 'x');
    assert_int_equal(client_take(&b, 0, frame, &flags), 72);
    assert_int_equal(frame[71], 'x');
    assert_int_equal(flags, 1 << NS_PORT_SHIFT);
    memset(frame, 0, 12);
    test_mac(frame + 12, 0xff);
    test_mac(frame + 18, 2);
    client_put(&b, 0, frame, 72);
    nm_txsync(b.file);
    assert_int_equal(client_take(&a, 0, frame, &flags), 60);
    assert_int_equal(frame[59], 'x');
    client_close(&a);
    client_close(&b);
    nm_host_free(host);
}

/* Lengths of the frames that a TCP frame of 3000 bytes behind a header becomes at `to`. */
static void send_large(struct client *from, struct client *to, int lengths[3])
{
    static const uint8_t begin[] = {0, NM_VNET_HDR_GSO_TCPV4, 0, 0, 0, 0, 0, 0, 0, 0};
    uint8_t packet[10 + 3000] = {0}, *frame = packet + 10, got[2048];
    uint16_t flags;

    memcpy(packet, begin, sizeof(begin));
    test_mac(frame, 0xff);
    test_mac(frame + 6, 1);
    frame[12] = 0x08; /* IPv4, TCP, headers without options */
    frame[14] = 0x45;
    frame[34 + 12] = 0x50;
    client_put(from, 0, packet, 2010)->flags = NS_MOREFRAG;
    client_put(from, 0, packet + 2010, 1000);
    assert_int_equal(nm_txsync(from->file), 0);
    for (unsigned i = 0; i < 3; i++) {
        lengths[i] = client_take(to, 0, got, &flags);
    }
}

static void a_port_that_had_a_header_goes_on_taking_frames_of_a_whole_buffer(void **state)
{
    struct nm_host *host = test_host();
    struct client a = client_open(host, "vale0:a"), b = client_open(host, "vale0:b");
    struct nmreq_port_hdr hdr = {.nr_hdr_len = 10};
    int lengths[3];

    (void)state;
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_SET, TEST_NAME("vale0:a"), &hdr), 0);
    send_large(&a, &b, lengths);
    assert_int_equal(lengths[0], 1514);
    assert_int_equal(lengths[1], 1514);
    assert_int_equal(lengths[2], 3000 - 54 - 2 * (1514 - 54) + 54);
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_SET, TEST_NAME("vale0:b"), &hdr), 0);
    hdr.nr_hdr_len = 0;
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_SET, TEST_NAME("vale0:b"), &hdr), 0);
    send_large(&a, &b, lengths);
    assert_int_equal(lengths[0], 2048);
    assert_int_equal(lengths[1], 54 + 3000 - 2048);
    assert_int_equal(lengths[2], -1);
    client_close(&a);
    client_close(&b);
    nm_host_free(host);
}

/* ---- names ---- */

static void names_are_checked_as_netmap_does(void **state)
{
    struct nm_host *host = test_host();

    (void)state;
    assert_int_equal(open_only(host, "vale:a"), 0);
    assert_int_equal(open_only(host, "vale_A9:a"), 0);
    assert_int_equal(open_only(host, "valx:a"), 0); /* three letters are compared */
    assert_int_equal(open_only(host, "vale0123456789a:b"), 0);
    assert_int_equal(open_only(host, "vale0123456789ab:c"), ENOMEM); /* the colon comes too late */
    assert_int_equal(open_only(host, "vale0"), ENOMEM);
    assert_int_equal(open_only(host, "vale-0:a"), ENOMEM);
    assert_int_equal(open_only(host, "nothing"), ENXIO);
    struct nmreq_port_hdr hdr = {0};
    assert_int_equal(test_request(host, NETMAP_REQ_PORT_HDR_GET, TEST_NAME("vale0"), &hdr), ENXIO);
    assert_int_equal(newif(host, TEST_NAME("v0")), 0);
    assert_int_equal(open_only(host, "vale0:v0"), EINVAL); /* an interface's name is for ATTACH */
    nm_host_free(host);
}

static void counts_are_brought_within_limits(void **state)
{
    struct nm_host *host = test_host();
    struct nmreq_register reg = {
        .nr_mode = NR_REG_ALL_NIC, .nr_tx_rings = 99, .nr_rx_rings = 3, .nr_rx_slots = 9999};
    struct client a;

    (void)state;
    reg.nr_tx_slots = 16;
    assert_int_equal(client_open_with(&a, host, "vale0:a", &reg), 0);
    assert_int_equal(reg.nr_tx_rings, VALE_MAX_RINGS);
    assert_int_equal(reg.nr_rx_rings, 3);
    assert_int_equal(reg.nr_tx_slots, 16);
    assert_int_equal(reg.nr_rx_slots, VALE_MAX_SLOTS);
    assert_true(reg.nr_mem_id > 1); /* an allocator of its own */
    client_close(&a);
    nm_host_free(host);
}

static void a_switch_takes_254_ports_and_a_host_as_many_switches_as_it_was_told(void **state)
{
    struct nm_host *host = nm_host_new(
        &(struct nm_host_options){
            .max_bridges = 2, .if_num = 300, .ring_size = 512, .ring_num = 600, .buf_num = 3000},
        NULL);
    struct client ports[VALE_MAX_PORTS], extra;
    struct nmreq_vale_list list = {0};
    char name[NETMAP_REQ_IFNAMSIZ];

    (void)state;
    for (unsigned i = 0; i < VALE_MAX_PORTS; i++) {
        struct nmreq_register reg = {
            .nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 4, .nr_rx_slots = 4, .nr_mem_id = 1};
        (void)g_snprintf(name, sizeof(name), "vale0:p%u", i);
        assert_int_equal(client_open_with(&ports[i], host, name, &reg), 0);
    }
    assert_int_equal(open_only(host, "vale0:more"), ENOMEM);
    extra = client_open(host, "vale1:a");
    assert_int_equal(open_only(host, "vale2:a"), ENOMEM);
    client_send(&ports[0], 0xff, 1, 'x');
    for (unsigned i = 1; i < VALE_MAX_PORTS; i++) {
        assert_int_equal(client_receive(&ports[i]), 'x');
    }
    client_send(&ports[253], 1, 2, 'y');
    assert_int_equal(client_receive(&ports[0]), 'y');
    assert_int_equal(client_receive(&ports[1]), -1);
    /* the index of one that left is the next to be given */
    client_close(&ports[77]);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    assert_int_equal(client_open_with(&ports[77], host, "vale0:new", &reg), 0);
    (void)g_strlcpy(name, "vale0:new", sizeof(name));
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_LIST, name, &list), 0);
    assert_int_equal(list.nr_port_idx, 77);
    for (unsigned i = 0; i < VALE_MAX_PORTS; i++) {
        client_close(&ports[i]);
    }
    assert_int_equal(open_only(host, "vale2:a"), 0); /* the switch went with its last port */
    client_close(&extra);
    nm_host_free(host);
}

static void ports_are_listed_by_name_and_one_by_one(void **state)
{
    struct nm_host *host = test_host();
    struct client a = client_open(host, "vale7:a"), b = client_open(host, "vale7:b"),
                  c = client_open(host, "vale8:c");
    struct nmreq_vale_list list = {0};
    char name[NETMAP_REQ_IFNAMSIZ] = "";

    (void)state;
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_LIST, TEST_NAME("vale8:c"), &list), 0);
    assert_int_equal(list.nr_bridge_idx, 1);
    assert_int_equal(list.nr_port_idx, 0);
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_LIST, TEST_NAME("vale7:"), &list), 0);
    assert_int_equal(list.nr_bridge_idx, 0);
    assert_int_equal(list.nr_port_idx, 255);
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_LIST, TEST_NAME("vale9:c"), &list), ENOENT);
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_LIST, TEST_NAME("em0"), &list), EINVAL);
    list = (struct nmreq_vale_list){0};
    const char *expected[] = {"vale7:a", "vale7:b", "vale8:c"};
    for (unsigned i = 0; i < 3; i++) {
        name[0] = '\0';
        assert_int_equal(test_request(host, NETMAP_REQ_VALE_LIST, name, &list), 0);
        assert_string_equal(name, expected[i]);
        list.nr_port_idx++;
    }
    name[0] = '\0';
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_LIST, name, &list), ENOENT);
    client_close(&a);
    client_close(&b);
    client_close(&c);
    nm_host_free(host);
}

/* ---- persistent ports ---- */

static void a_persistent_port_is_an_interface_until_it_is_deleted(void **state)
{
    struct nm_host *host = test_host();

    (void)state;
    assert_int_equal(newif(host, TEST_NAME("vale5")), EINVAL);
    assert_int_equal(newif(host, TEST_NAME("sixteenletters16")), EINVAL);
    assert_int_equal(newif(host, TEST_NAME("v0")), 0);
    assert_int_equal(newif(host, TEST_NAME("v0")), EEXIST);
    struct client a = client_open(host, "v0");
    assert_int_equal(nm_txring(a.nifp, 0)->num_slots, 64);
    client_send(&a, 0xff, 1, 'x'); /* on no switch: it is gone */
    assert_int_equal(nm_ring_space(nm_txring(a.nifp, 0)), 63);
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_DELIF, TEST_NAME("v0"), NULL), EBUSY);
    client_close(&a);
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_DELIF, TEST_NAME("v1"), NULL), ENXIO);
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_DELIF, TEST_NAME("v0"), NULL), 0);
    assert_int_equal(open_only(host, "v0"), ENXIO);
    nm_host_free(host);
}

static void a_persistent_port_is_reached_by_both_names_while_it_is_attached(void **state)
{
    struct nm_host *host = test_host();
    struct client b = client_open(host, "vale0:b");
    uint32_t index = 99;

    (void)state;
    assert_int_equal(newif(host, TEST_NAME("v0")), 0);
    assert_int_equal(attach(host, TEST_NAME("em0"), NR_REG_ALL_NIC, NULL), EINVAL);
    assert_int_equal(attach(host, TEST_NAME("vale0:none"), NR_REG_ALL_NIC, NULL), EINVAL);
    assert_int_equal(attach(host, TEST_NAME("vale0:v0"), NR_REG_ONE_NIC, NULL), EINVAL);
    assert_int_equal(attach(host, TEST_NAME("vale0:v0"), NR_REG_ALL_NIC, &index), 0);
    assert_int_equal(index, 1);
    assert_int_equal(attach(host, TEST_NAME("vale0:v0"), NR_REG_ALL_NIC, NULL), EBUSY);
    struct client a = client_open(host, "v0");
    client_send(&b, 0xff, 2, 'x');
    assert_int_equal(client_receive(&a), 'x');
    client_close(&a);
    a = client_open(host, "vale0:v0");
    client_send(&a, 2, 1, 'y');
    assert_int_equal(client_receive(&b), 'y');
    assert_int_equal(test_request(host, NETMAP_REQ_VALE_DELIF, TEST_NAME("v0"), NULL), EBUSY);
    assert_int_equal(detach(host, TEST_NAME("vale0:v0")), 0);
    assert_int_equal(detach(host, TEST_NAME("vale0:v0")), ENXIO);
    assert_int_equal(detach(host, TEST_NAME("v0")), EINVAL);
    assert_int_equal(detach(host, TEST_NAME("vale0:b")), EINVAL); /* goes with its users */
    client_send(&a, 2, 1, 'z');
    assert_int_equal(client_receive(&b), -1);
    client_close(&a);
    client_close(&b);
    nm_host_free(host);
}

static void what_a_switch_was_told_goes_with_it(void **state)
{
    struct nm_host *host = test_host();
    struct client a = client_open(host, "vale0:a"), b = client_open(host, "vale0:b");

    (void)state;
    assert_int_equal(vale_set_slot_destination(host, "vale0:", true), 0);
    assert_int_equal(vale_set_lookup(host, "vale1:", NULL, NULL), ENXIO);
    uint8_t frame[60] = {0xff};
    client_put(&a, 0, frame, 60)->flags = 1 << NS_PORT_SHIFT; /* its own: dropped */
    nm_txsync(a.file);
    assert_int_equal(client_receive(&b), -1);
    client_close(&a);
    client_close(&b);
    a = client_open(host, "vale0:a");
    b = client_open(host, "vale0:b");
    client_put(&a, 0, frame, 60)->flags = 1 << NS_PORT_SHIFT;
    nm_txsync(a.file);
    assert_int_equal(client_receive(&b), 0);
    client_close(&a);
    client_close(&b);
    nm_host_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_go_from_port_to_port),
        cmocka_unit_test(transmission_never_blocks_and_the_excess_is_dropped),
        cmocka_unit_test(a_sender_that_waits_is_told_when_there_is_room),
        cmocka_unit_test(a_sender_is_told_when_a_receiver_that_stays_attached_is_closed),
        cmocka_unit_test(a_receiver_that_polls_is_woken),
        cmocka_unit_test(ports_with_and_without_vnet_headers_understand_each_other),
        cmocka_unit_test(a_port_that_had_a_header_goes_on_taking_frames_of_a_whole_buffer),
        cmocka_unit_test(names_are_checked_as_netmap_does),
        cmocka_unit_test(counts_are_brought_within_limits),
        cmocka_unit_test(a_switch_takes_254_ports_and_a_host_as_many_switches_as_it_was_told),
        cmocka_unit_test(ports_are_listed_by_name_and_one_by_one),
        cmocka_unit_test(a_persistent_port_is_an_interface_until_it_is_deleted),
        cmocka_unit_test(a_persistent_port_is_reached_by_both_names_while_it_is_attached),
        cmocka_unit_test(what_a_switch_was_told_goes_with_it),
    };
    return cmocka_run_group_tests_name("models/vale/vale", tests, NULL, NULL);
}
