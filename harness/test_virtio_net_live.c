/*
 * The virtio network driver against a real QEMU: two cards on QEMU's hub, so that what one sends
 * the other receives. Skipped where there is no QEMU. (Tests without one stand beside the driver.)
 */
#include "harness/qemu.h"
#include "harness/session.h"
#include "qtest_client/virtio_net.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 5000, SHARED_BYTES = 8 << 20, RAM_BYTES = 32 << 20, BURST = 64 };

struct bed {
    struct session *session;
    struct session_machine *machine;
    struct session_device *cards[2];
    struct guest_region *shared; /* behind an ivshmem BAR */
};

static void assert_ok(bool ok, const GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "no error was set");
    }
}

static int open_bed(void **state)
{
    g_autoptr(GError) error = NULL;
    struct session_machine_options options = {.ram_bytes = RAM_BYTES, .has_bridge = true};
    struct session_backing backing = {0};
    struct bed *bed = g_new0(struct bed, 1);

    *state = bed;
    if (!qemu_info_get(NULL)) {
        return 0; /* each test skips */
    }
    bed->session = session_new(NULL, NULL);
    bed->machine = session_machine_new(bed->session, &options, &error);
    assert_ok(bed->machine != NULL, error);
    bed->shared =
        session_memory_new(bed->session, "shared", SHARED_BYTES, GUEST_HUGEPAGES_OFF, &error);
    assert_ok(bed->shared != NULL, error);
    backing.region = bed->shared;
    assert_ok(session_device_new(bed->machine, "ivshmem-plain", &backing, &error) != NULL, error);
    for (unsigned i = 0; i < 2; i++) {
        bed->cards[i] = session_device_new(bed->machine, "virtio-net-pci", NULL, &error);
        assert_ok(bed->cards[i] != NULL, error);
    }
    assert_ok(session_machine_start(bed->machine, &error), error);
    return 0;
}

static int close_bed(void **state)
{
    struct bed *bed = *state;

    if (bed->session) {
        session_free(bed->session);
    }
    g_free(bed);
    return 0;
}

static struct bed *bed_of(void **state)
{
    struct bed *bed = *state;

    if (!bed->session) {
        skip();
    }
    return bed;
}

/* Brings up card `i`; a zeroed region means the shared memory. */
static struct virtio_net *open_card(struct bed *bed, unsigned i, struct virtio_net_options options)
{
    g_autoptr(GError) error = NULL;
    struct pci_device *dev = session_device_pci(bed->cards[i], &error);

    assert_ok(dev != NULL, error);
    options.region = options.region ? options.region : bed->shared;
    options.bridge = session_machine_bridge(bed->machine);
    struct virtio_net *net = virtio_net_new(dev, &options, &error);
    assert_ok(net != NULL, error);
    return net;
}

/* Frame number `seed`: addresses, a type, and bytes that depend on number and place. */
static void make_frame(uint8_t *bytes, uint32_t len, unsigned seed)
{
    for (uint32_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(seed * 31 + i * 7 + (seed >> 8));
    }
    if (len > 0) {
        bytes[0] = 0x02; /* a unicast address that is locally administered */
    }
}

static void assert_frame(const struct virtio_net_frame *f, uint32_t len, unsigned seed)
{
    uint8_t want[VIRTIO_NET_MAX_FRAME];

    make_frame(want, len, seed);
    assert_int_equal(f->len, len);
    assert_memory_equal(f->data, want, len);
}

static void send_all(struct virtio_net *net, struct virtio_net_frame *frames, unsigned n)
{
    g_autoptr(GError) error = NULL;

    assert_int_equal(virtio_net_tx_burst(net, 0, frames, n, &error), n);
    assert_null(error);
}

static void send_one(struct virtio_net *net, uint32_t len, unsigned seed)
{
    uint8_t bytes[VIRTIO_NET_MAX_FRAME];
    struct virtio_net_frame frame = {bytes, len, 0};

    make_frame(bytes, len, seed);
    send_all(net, &frame, 1);
}

/* Waits for the next frame and compares it. */
static void expect_one(struct virtio_net *net, uint32_t len, unsigned seed)
{
    g_autoptr(GError) error = NULL;
    struct virtio_net_frame frame;

    assert_ok(virtio_net_rx_wait(net, 0, TIMEOUT_MS, &error), error);
    assert_int_equal(virtio_net_rx_burst(net, 0, &frame, 1, &error), 1);
    assert_frame(&frame, len, seed);
    virtio_net_rx_release(net, 0, &frame);
}

static void drain(struct virtio_net *net)
{
    g_autoptr(GError) error = NULL;

    assert_ok(virtio_net_tx_drain(net, 0, TIMEOUT_MS, &error), error);
    assert_int_equal(virtio_net_tx_pending(net, 0), 0);
}

/* The card's receive queue is armed: the next frame interrupts, whatever the form. */
static void expect_interrupt(struct virtio_net *from, struct virtio_net *to, unsigned seed)
{
    g_autoptr(GError) error = NULL;

    send_one(from, 64, seed);
    assert_ok(interrupt_wait(virtio_net_rx_interrupt(to, 0), TIMEOUT_MS, &error), error);
    expect_one(to, 64, seed);
}

/* ---- tests ---- */

static void frames_cross_with_either_transport_any_memory_and_any_interrupt(void **state)
{
    struct bed *bed = bed_of(state);
    struct guest_region *regions[] = {bed->shared, session_machine_ram(bed->machine)};

    for (unsigned i = 0; i < 2 * 2 * 4; i++) {
        struct virtio_net_options o = {
            .transport = i & 1 ? VIRTIO_TRANSPORT_LEGACY : VIRTIO_TRANSPORT_MODERN,
            .region = regions[i >> 1 & 1],
            .use_interrupts = i >> 2 != 3,
            .interrupts = (enum interrupt_kind)(i >> 2 == 3 ? 0 : i >> 2),
        };
        struct virtio_net *a = open_card(bed, 0, o), *b = open_card(bed, 1, o);
        if (o.use_interrupts) {
            expect_interrupt(a, b, 1); /* armed from the start */
            assert_true(virtqueue_enable_interrupts(virtio_net_rx_queue(b, 0)));
            expect_interrupt(a, b, 2);
        }
        for (unsigned k = 0; k < 20; k++) {
            send_one(a, 60 + k, k);
            expect_one(b, 60 + k, k);
            send_one(b, 1514 - k, 1000 + k);
            expect_one(a, 1514 - k, 1000 + k);
        }
        drain(a);
        drain(b);
        struct virtio_net_stats stats = virtio_net_stats(b);
        assert_int_equal(stats.tx_frames, 20);
        assert_int_equal(stats.rx_frames, o.use_interrupts ? 22 : 20);
        assert_int_equal(stats.rx_errors, 0);
        /* beyond those two, a wait may find the frame there already */
        assert_true(o.use_interrupts ? stats.interrupts >= 2 : stats.interrupts == 0);
        virtio_net_free(a);
        virtio_net_free(b);
    }
}

static void every_length_from_1_to_1514_arrives_as_it_was(void **state)
{
    static const uint64_t refused[] = {0, VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF),
                                       VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) |
                                           VIRTIO_FEATURE(VIRTIO_F_ANY_LAYOUT)};
    struct bed *bed = bed_of(state);

    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(refused); i++) {
        struct virtio_net_options o = {
            .transport = i & 1 ? VIRTIO_TRANSPORT_LEGACY : VIRTIO_TRANSPORT_MODERN,
            .refused_features = refused[i / 2],
        };
        struct virtio_net *a = open_card(bed, 0, o), *b = open_card(bed, 1, o);
        assert_int_equal(virtio_net_header_bytes(a), i == 3 || i == 5 ? 10 : 12);
        for (uint32_t len = 1; len <= VIRTIO_NET_MAX_FRAME; len++) {
            send_one(a, len, len);
            expect_one(b, len, len);
        }
        virtio_net_free(a);
        virtio_net_free(b);
    }
}

static void frames_larger_than_a_receive_buffer_are_put_together(void **state)
{
    struct bed *bed = bed_of(state);
    struct virtio_net_options o = {.buffer_bytes = 128};
    struct virtio_net *a = open_card(bed, 0, o), *b = open_card(bed, 1, o);

    for (uint32_t len = 100; len <= VIRTIO_NET_MAX_FRAME; len += 7) {
        send_one(a, len, len);
        expect_one(b, len, len);
    }
    assert_int_equal(virtio_net_stats(b).rx_errors, 0);
    virtio_net_free(a);
    virtio_net_free(b);
}

static void chains_and_indirect_tables_carry_the_same_frames(void **state)
{
    struct bed *bed = bed_of(state);

    for (unsigned chain = 1; chain <= VIRTIO_NET_MAX_CHAIN; chain++) {
        struct virtio_net_options o = {.tx_chain = chain,
                                       .indirect_entries = chain % 2 ? VIRTIO_NET_MAX_CHAIN : 0};
        struct virtio_net *a = open_card(bed, 0, o), *b = open_card(bed, 1, o);
        for (uint32_t len = 1; len <= VIRTIO_NET_MAX_FRAME; len += 89) {
            send_one(a, len, len);
            expect_one(b, len, len);
        }
        drain(a);
        virtio_net_free(a);
        virtio_net_free(b);
    }
}

/* Sends `n` frames from a to b in bursts, never more under way than b has buffers. */
static void stream(struct virtio_net *a, struct virtio_net *b, unsigned n)
{
    static uint8_t bytes[BURST][64];
    struct virtio_net_frame frames[BURST], got[BURST];
    g_autoptr(GError) error = NULL;
    unsigned n_sent = 0, n_got = 0;

    while (n_got < n) {
        unsigned burst = MIN(BURST, MIN(n - n_sent, n_got + 128 - n_sent));
        for (unsigned i = 0; i < burst; i++) {
            make_frame(bytes[i], 64, n_sent + i);
            frames[i] = (struct virtio_net_frame){bytes[i], 64, 0};
        }
        n_sent += virtio_net_tx_burst(a, 0, frames, burst, &error);
        assert_null(error);
        assert_ok(virtio_net_rx_wait(b, 0, TIMEOUT_MS, &error), error);
        unsigned k = virtio_net_rx_burst(b, 0, got, BURST, &error);
        assert_null(error);
        for (unsigned i = 0; i < k; i++) {
            assert_frame(&got[i], 64, n_got++);
            virtio_net_rx_release(b, 0, &got[i]);
        }
    }
    drain(a);
}

static void seventy_thousand_frames_arrive_in_order_over_the_wrap_of_the_indices(void **state)
{
    struct bed *bed = bed_of(state);

    /* with event index and without, polling and by interrupt */
    for (unsigned i = 0; i < 4; i++) {
        struct virtio_net_options o = {
            .refused_features = i & 1 ? VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) : 0,
            .use_interrupts = i & 2,
            .interrupts = INTERRUPT_MEMORY,
        };
        struct virtio_net *a = open_card(bed, 0, o), *b = open_card(bed, 1, o);
        stream(a, b, 70000);
        struct virtio_net_stats sent = virtio_net_stats(a), got = virtio_net_stats(b);
        assert_int_equal(sent.tx_frames, 70000);
        assert_int_equal(got.rx_frames, 70000);
        assert_int_equal(got.rx_bytes, 70000 * 64);
        assert_int_equal(got.rx_errors, 0);
        /* a kick for each burst at most: bursts have 1 frame at least */
        assert_in_range(sent.tx_kicks, 1, 70000);
        virtio_net_free(a);
        virtio_net_free(b);
    }
}

static void a_burst_larger_than_the_ring_is_taken_in_parts(void **state)
{
    enum { N = 300 };
    static uint8_t bytes[N][64];
    struct bed *bed = bed_of(state);
    struct virtio_net_options o = {.tx_size = 16};
    struct virtio_net *a = open_card(bed, 0, o), *b = open_card(bed, 1, o);
    struct virtio_net_frame frames[N];
    g_autoptr(GError) error = NULL;
    unsigned n_sent = 0;

    for (unsigned i = 0; i < N; i++) {
        make_frame(bytes[i], 64, i);
        frames[i] = (struct virtio_net_frame){bytes[i], 64, 0};
    }
    assert_int_equal(virtio_net_tx_burst(a, 0, frames, N, &error), 16);
    n_sent = 16;
    for (unsigned i = 0; i < N; i++) {
        expect_one(b, 64, i);
        /* the hub drops what finds no receive buffer: 256 */
        unsigned n = MIN(N, i + 200) - n_sent;
        n_sent += virtio_net_tx_burst(a, 0, frames + n_sent, n, &error);
        assert_null(error);
    }
    assert_int_equal(n_sent, N);
    assert_true(virtio_net_stats(a).tx_full > 0);
    virtio_net_free(a);
    virtio_net_free(b);
}

static void mac_and_features_are_those_of_the_card(void **state)
{
    static const uint8_t macs[2][6] = {{0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
                                       {0x52, 0x54, 0x00, 0x12, 0x34, 0x57}};
    struct bed *bed = bed_of(state);

    for (unsigned i = 0; i < 4; i++) {
        struct virtio_net_options o = {
            .transport = i & 1 ? VIRTIO_TRANSPORT_LEGACY : VIRTIO_TRANSPORT_MODERN,
            .use_interrupts = i & 2, /* MSI-X moves the legacy configuration */
        };
        for (unsigned k = 0; k < 2; k++) {
            struct virtio_net *net = open_card(bed, k, o);
            assert_memory_equal(virtio_net_mac(net), macs[k], 6);
            uint64_t f = virtio_net_features(net);
            assert_int_equal(!!(f & VIRTIO_FEATURE(VIRTIO_F_VERSION_1)), !(i & 1));
            assert_true(f & VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF));
            assert_true(f & VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX));
            virtio_net_free(net);
        }
    }
}

static void a_link_that_goes_down_is_announced_in_every_form(void **state)
{
    struct bed *bed = bed_of(state);
    struct qmp *qmp = qemu_qmp(session_machine_qemu(bed->machine));

    for (unsigned i = 0; i < 2 * 4; i++) {
        struct virtio_net_options o = {
            .transport = i & 1 ? VIRTIO_TRANSPORT_LEGACY : VIRTIO_TRANSPORT_MODERN,
            .use_interrupts = i / 2 != 3,
            .interrupts = (enum interrupt_kind)(i / 2 == 3 ? 0 : i / 2),
        };
        struct virtio_net *net = open_card(bed, 0, o);
        g_autoptr(GError) error = NULL;
        bool changed = true, is_up = false;

        assert_ok(virtio_net_config_changed(net, &changed, &error), error);
        assert_false(changed);
        assert_ok(virtio_net_link_up(net, &is_up, &error), error);
        assert_true(is_up);
        g_autofree char *down =
            g_strdup_printf("{\"name\": \"%s\", \"up\": false}", session_device_id(bed->cards[0]));
        assert_ok(qmp_run(qmp, "set_link", down, &error), error);
        if (virtio_net_config_interrupt(net)) {
            assert_ok(interrupt_wait(virtio_net_config_interrupt(net), TIMEOUT_MS, &error), error);
        }
        assert_ok(virtio_net_link_up(net, &is_up, &error), error);
        assert_false(is_up);
        if (!o.use_interrupts || o.interrupts == INTERRUPT_LINE) {
            assert_ok(virtio_net_config_changed(net, &changed, &error), error);
            assert_true(changed);
            assert_ok(virtio_net_config_changed(net, &changed, &error), error);
            assert_false(changed);
        }
        g_autofree char *up =
            g_strdup_printf("{\"name\": \"%s\", \"up\": true}", session_device_id(bed->cards[0]));
        assert_ok(qmp_run(qmp, "set_link", up, &error), error);
        virtio_net_free(net);
    }
}

static void an_impossible_descriptor_needs_a_reset_and_the_next_driver_works(void **state)
{
    struct bed *bed = bed_of(state);
    struct virtio_net *a = open_card(bed, 0, (struct virtio_net_options){0});
    struct virtqueue *vq = virtio_net_tx_queue(a, 0);
    struct virtqueue_buffer empty = {vq->desc_gpa, 0};
    g_autoptr(GError) error = NULL;
    int token;

    assert_true(virtqueue_add(vq, &empty, 1, 0, &token));
    virtqueue_publish(vq);
    assert_true(virtqueue_needs_kick(vq));
    assert_ok(virtio_pci_notify(virtio_net_transport(a), 1, &error), error);
    /* the device answers by never using it: 300 ms are long enough for it to have looked */
    assert_false(virtio_net_tx_drain(a, 0, 300, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_NEEDS_RESET));
    virtio_net_free(a);
    a = open_card(bed, 0, (struct virtio_net_options){0});
    struct virtio_net *b = open_card(bed, 1, (struct virtio_net_options){0});
    send_one(a, 64, 1);
    expect_one(b, 64, 1);
    virtio_net_free(a);
    virtio_net_free(b);
}

static void a_wait_without_traffic_ends_at_its_deadline(void **state)
{
    struct bed *bed = bed_of(state);

    for (unsigned i = 0; i < 4; i++) {
        struct virtio_net_options o = {.use_interrupts = i < 3, .interrupts = i % 3};
        struct virtio_net *net = open_card(bed, 0, o);
        g_autoptr(GError) error = NULL;
        assert_false(virtio_net_rx_wait(net, 0, 30, &error));
        assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT));
        virtio_net_free(net);
    }
}

static void a_queue_can_be_reset_by_itself_and_programmed_again(void **state)
{
    struct bed *bed = bed_of(state);
    struct virtio_net *a = open_card(bed, 0, (struct virtio_net_options){0}),
                      *b = open_card(bed, 1, (struct virtio_net_options){0});
    struct virtqueue *vq = virtio_net_tx_queue(a, 0);
    struct virtio_pci *v = virtio_net_transport(a);
    g_autoptr(GError) error = NULL;

    send_one(a, 64, 1);
    expect_one(b, 64, 1);
    drain(a);
    assert_false(virtio_pci_queue_enable(v, 1, vq, VIRTIO_NO_VECTOR, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_QUEUE));
    g_clear_error(&error);
    assert_ok(virtio_pci_queue_reset(v, 1, &error), error);
    virtqueue_reset(vq);
    assert_ok(virtio_pci_queue_enable(v, 1, vq, VIRTIO_NO_VECTOR, &error), error);
    send_one(a, 64, 2);
    expect_one(b, 64, 2);
    virtio_net_free(a);
    virtio_net_free(b);
}

static void a_qemu_that_dies_is_noticed_by_who_waits(void **state)
{
    struct bed *bed = bed_of(state);
    struct virtio_net *a = open_card(bed, 0, (struct virtio_net_options){0});
    struct virtio_net_options o = {.use_interrupts = true, .interrupts = INTERRUPT_MEMORY};
    struct virtio_net *b = open_card(bed, 1, o);
    g_autoptr(GError) error = NULL;

    kill(qemu_pid(session_machine_qemu(bed->machine)), SIGKILL);
    assert_false(virtio_net_rx_wait(a, 0, TIMEOUT_MS, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
    g_clear_error(&error);
    assert_false(virtio_net_rx_wait(b, 0, TIMEOUT_MS, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
    virtio_net_free(a);
    virtio_net_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_cross_with_either_transport_any_memory_and_any_interrupt),
        cmocka_unit_test(every_length_from_1_to_1514_arrives_as_it_was),
        cmocka_unit_test(frames_larger_than_a_receive_buffer_are_put_together),
        cmocka_unit_test(chains_and_indirect_tables_carry_the_same_frames),
        cmocka_unit_test(seventy_thousand_frames_arrive_in_order_over_the_wrap_of_the_indices),
        cmocka_unit_test(a_burst_larger_than_the_ring_is_taken_in_parts),
        cmocka_unit_test(mac_and_features_are_those_of_the_card),
        cmocka_unit_test(a_link_that_goes_down_is_announced_in_every_form),
        cmocka_unit_test(an_impossible_descriptor_needs_a_reset_and_the_next_driver_works),
        cmocka_unit_test(a_wait_without_traffic_ends_at_its_deadline),
        cmocka_unit_test(a_queue_can_be_reset_by_itself_and_programmed_again),
        /* last: it takes the QEMU of the others with it */
        cmocka_unit_test(a_qemu_that_dies_is_noticed_by_who_waits),
    };

    return cmocka_run_group_tests_name("virtio_net_live", tests, open_bed, close_bed);
}
