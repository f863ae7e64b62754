/*
 * The virtio network driver against a device in this process that sends back what it gets
 * (test_fake_virtio.h): bursts, kicks and interrupts counted exactly, frames in several buffers,
 * broken devices. (A real QEMU: harness/test_virtio_net_live.c.)
 */
#include "qtest_client/test_fake_virtio.h"
#include "qtest_client/virtio_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/eventfd.h>

#include <cmocka.h>

enum {
    GPA = 0xC0000000,
    REGION_BYTES = 4 << 20,
    N_CHANNELS = 3,
    DOORBELL = 0xE800000C,
    N_FRAMES = 300,
};

static struct guest_memory *memory;
static struct guest_region *region;
static struct fake_virtio fake;
static struct pci_bus *bus;
static struct pci_device *dev;
static struct virtio_net *net;
static int eventfds[N_CHANNELS];
static const uint16_t peers[N_CHANNELS] = {0, 1, 2};
static struct interrupt_bridge bridge;
static uint8_t payload[N_FRAMES][VIRTIO_NET_MAX_FRAME];

static void assert_ok(bool ok, const GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "no error was set");
    }
}

static int open_machine(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    memory = guest_memory_new();
    region = guest_region_new("shared", REGION_BYTES, GUEST_HUGEPAGES_OFF, NULL);
    assert_true(guest_memory_place(memory, region, GPA, NULL));
    fake_virtio_init(&fake, memory);
    fake.doorbell_gpa = DOORBELL;
    fake.doorbell_fds = eventfds;
    for (unsigned i = 0; i < N_CHANNELS; i++) {
        eventfds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    bridge = (struct interrupt_bridge){.doorbell_gpa = DOORBELL,
                                       .peer_ids = peers,
                                       .eventfds = eventfds,
                                       .n_channels = N_CHANNELS};
    bus = pci_bus_new(&fake.base);
    assert_ok(pci_bus_scan(bus, &error), error);
    dev = pci_bus_find(bus, 0, FAKE_SLOT, 0);
    return 0;
}

static int close_machine(void **state)
{
    (void)state;
    virtio_net_free(net);
    net = NULL;
    assert_int_equal(guest_region_allocated(region), 0);
    pci_bus_free(bus);
    fake_virtio_clear(&fake);
    guest_memory_free(memory);
    guest_region_free(region);
    for (unsigned i = 0; i < N_CHANNELS; i++) {
        close(eventfds[i]);
    }
    return 0;
}

static void close_net(void)
{
    virtio_net_free(net);
    net = NULL;
}

/* Brings the card up and starts counting. */
static void open_net(struct virtio_net_options options)
{
    g_autoptr(GError) error = NULL;

    options.region = region;
    options.bridge = &bridge;
    net = virtio_net_new(dev, &options, &error);
    assert_ok(net != NULL, error);
    fake.n_posts = 0;
    fake.n_raised = 0;
    memset(fake.n_messages, 0, sizeof(fake.n_messages));
    for (unsigned i = 0; i < FAKE_N_QUEUES; i++) {
        fake.queues[i].n_kicks = 0;
    }
}

static int open_modern(void **state)
{
    open_machine(state);
    open_net((struct virtio_net_options){0});
    return 0;
}

static int open_without_event_idx(void **state)
{
    open_machine(state);
    open_net((struct virtio_net_options){.refused_features = VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX)});
    return 0;
}

/* Options number `i` of all: three forms of interrupts and none, by either transport. */
static struct virtio_net_options any_interrupts(unsigned i)
{
    return (struct virtio_net_options){
        .transport = i & 1 ? VIRTIO_TRANSPORT_LEGACY : VIRTIO_TRANSPORT_MODERN,
        .use_interrupts = i / 2 < 3,
        .interrupts = (enum interrupt_kind)(i / 2 % 3),
    };
}

enum { N_INTERRUPT_OPTIONS = 8 };

/* ---- frames ---- */

static void make_frames(struct virtio_net_frame *frames, unsigned n, uint32_t len)
{
    for (unsigned i = 0; i < n; i++) {
        for (uint32_t k = 0; k < len; k++) {
            payload[i][k] = (uint8_t)(i * 13 + k * 3);
        }
        frames[i] = (struct virtio_net_frame){payload[i], len, 0};
    }
}

static void send_frames(unsigned n, uint32_t len)
{
    struct virtio_net_frame frames[N_FRAMES];
    g_autoptr(GError) error = NULL;

    make_frames(frames, n, len);
    unsigned n_sent = virtio_net_tx_burst(net, 0, frames, n, &error);
    assert_ok(!error, error);
    assert_int_equal(n_sent, n);
}

static unsigned receive(struct virtio_net_frame *frames, unsigned max)
{
    g_autoptr(GError) error = NULL;
    unsigned n = virtio_net_rx_burst(net, 0, frames, max, &error);

    assert_ok(!error, error);
    return n;
}

static void release(const struct virtio_net_frame *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        virtio_net_rx_release(net, 0, &frames[i]);
    }
}

/* Receives the `n` frames that were sent last, and gives them back. */
static void expect_frames(unsigned n, uint32_t len)
{
    struct virtio_net_frame frames[N_FRAMES];

    assert_int_equal(receive(frames, N_FRAMES), n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(frames[i].len, len);
        assert_memory_equal(frames[i].data, payload[i], len);
    }
    release(frames, n);
}

/* ---- coming up and going down ---- */

static void refuse(struct virtio_net_options options, const char *text)
{
    g_autoptr(GError) error = NULL;

    options.region = options.region ? options.region : region;
    assert_null(virtio_net_new(dev, &options, &error));
    assert_true(g_error_matches(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID));
    if (!strstr(error->message, text)) {
        fail_msg("'%s' lacks '%s'", error->message, text);
    }
    assert_int_equal(guest_region_allocated(region), 0);
}

static void impossible_options_are_refused(void **state)
{
    struct guest_region elsewhere = {.gpa = GUEST_UNPLACED};
    uint64_t mrg = VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF);

    (void)state;
    refuse((struct virtio_net_options){.n_pairs = 2}, "2 queue pairs");
    refuse((struct virtio_net_options){.wanted_features = VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)},
           "feature bits 0x400000000");
    refuse((struct virtio_net_options){.region = &elsewhere}, "guest address: RAM, or");
    refuse((struct virtio_net_options){.tx_chain = 17}, "17 descriptors");
    refuse((struct virtio_net_options){.use_interrupts = true, .interrupts = INTERRUPT_EVENTFD},
           "bridge");
    refuse((struct virtio_net_options){.buffer_bytes = 1525, .refused_features = mrg},
           "receive buffers of 1525 bytes (1526 to 65536, without MRG_RXBUF)");
    refuse((struct virtio_net_options){.buffer_bytes = 12}, "(13 to 65536, with MRG_RXBUF)");
    refuse((struct virtio_net_options){.tx_size = 2, .tx_chain = 3}, "a transmit ring of 2");
    refuse((struct virtio_net_options){.transport = VIRTIO_TRANSPORT_LEGACY,
                                       .tx_chain = 1,
                                       .refused_features = VIRTIO_FEATURE(VIRTIO_F_ANY_LAYOUT)},
           "ANY_LAYOUT");
}

static void another_kind_of_virtio_device_is_refused(void **state)
{
    (void)state;
    fake_put(fake.config + PCI_DEVICE_ID, 2, 0x1042);
    assert_true(pci_bus_scan(bus, NULL));
    dev = pci_bus_find(bus, 0, FAKE_SLOT, 0);
    refuse((struct virtio_net_options){0}, "not a virtio network device");
}

static void a_ring_size_the_device_does_not_take_is_refused(void **state)
{
    static const struct {
        uint16_t rx_size;
        enum virtio_transport transport;
    } cases[] = {{512, VIRTIO_TRANSPORT_MODERN},
                 {100, VIRTIO_TRANSPORT_MODERN},
                 {128, VIRTIO_TRANSPORT_LEGACY}};

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct virtio_net_options o = {
            .rx_size = cases[i].rx_size, .transport = cases[i].transport, .region = region};
        g_autoptr(GError) error = NULL;
        assert_null(virtio_net_new(dev, &o, &error));
        assert_non_null(error);
        assert_int_equal(guest_region_allocated(region), 0);
        assert_int_equal(fake.status, 0);
    }
}

static void the_device_comes_up_in_order_with_all_receive_buffers_posted(void **state)
{
    static const uint8_t order[] = {0, 0, 1, 3, 0x0b, 0x0f};

    (void)state;
    open_net((struct virtio_net_options){0});
    assert_int_equal(fake.n_status_log, sizeof(order));
    assert_memory_equal(fake.status_log, order, sizeof(order));
    /* MAC, MRG_RXBUF, STATUS, EVENT_IDX, VERSION_1, RING_RESET */
    assert_int_equal(virtio_net_features(net), UINT64_C(0x10120018020));
    assert_int_equal(virtio_net_header_bytes(net), 12);
    assert_memory_equal(virtio_net_mac(net), fake.net_config, 6);
    assert_int_equal(virtio_net_rx_queue(net, 0)->n_in_flight, 256);
    assert_int_equal(virtio_net_tx_queue(net, 0)->n_in_flight, 0);
    assert_null(virtio_net_rx_queue(net, 1));
    assert_null(virtio_net_rx_interrupt(net, 0));
    for (unsigned i = 0; i < 2; i++) {
        assert_true(fake.queues[i].is_enabled);
        assert_int_equal(fake.queues[i].vector, VIRTIO_NO_VECTOR);
    }
}

static void the_buffers_are_announced_by_one_kick(void **state)
{
    struct virtio_net_options o = {.region = region};

    (void)state;
    net = virtio_net_new(dev, &o, NULL);
    assert_non_null(net);
    assert_int_equal(fake.n_posts, 1);
    assert_int_equal(fake.queues[0].n_kicks, 1);
    /* and it was not too early: the device looks at nothing before DRIVER_OK */
    assert_int_equal(device_n_available(&fake.queues[0].ring), 256);
    assert_int_equal(*virtqueue_avail_event(virtio_net_rx_queue(net, 0)), 0);
    send_frames(1, 60);
    expect_frames(1, 60);
}

static void freeing_it_leaves_the_function_as_it_was(void **state)
{
    (void)state;
    for (unsigned i = 0; i < N_INTERRUPT_OPTIONS; i++) {
        struct virtio_net_options o = any_interrupts(i);
        open_net(o);
        assert_int_equal(fake_get(fake.config + PCI_COMMAND, 2),
                         7 | (o.use_interrupts ? 0 : PCI_COMMAND_INTX_DISABLE));
        assert_int_equal(fake_msix_enabled(&fake),
                         o.use_interrupts && o.interrupts != INTERRUPT_LINE);
        close_net();
        assert_int_equal(fake.status, 0);
        assert_false(fake_msix_enabled(&fake));
        for (unsigned k = 0; k < FAKE_N_VECTORS; k++) {
            assert_int_equal(fake.msix_table[4 * k + 3], PCI_MSIX_ENTRY_CTRL_MASKED);
        }
        assert_int_equal(fake_get(fake.config + PCI_COMMAND, 2), 7);
        assert_int_equal(guest_region_allocated(region), 0);
        assert_int_equal(bridge.used, 0);
    }
}

static void whichever_access_fails_bringing_it_up_nothing_is_left_behind(void **state)
{
    (void)state;
    for (unsigned i = 0; i < N_INTERRUPT_OPTIONS; i++) {
        struct virtio_net_options o = any_interrupts(i);
        unsigned n_failed = 0;
        o.region = region;
        o.bridge = &bridge;
        do {
            g_autoptr(GError) error = NULL;
            fake.is_dead = false;
            fake.n_accesses = 0;
            fake.dies_after = ++n_failed;
            net = virtio_net_new(dev, &o, &error);
            fake.dies_after = 0;
            if (!net) {
                assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
                assert_int_equal(guest_region_allocated(region), 0);
                assert_int_equal(bridge.used, 0);
            }
        } while (!net);
        assert_in_range(n_failed, 30, 300); /* it takes at least so many accesses, and not more */
        close_net();
    }
}

static void without_mac_feature_the_address_is_a_local_one(void **state)
{
    static const uint8_t own[] = {0x02, 'r', 'l', 0, FAKE_SLOT, 0};

    (void)state;
    open_net((struct virtio_net_options){.refused_features = VIRTIO_FEATURE(VIRTIO_NET_F_MAC)});
    assert_memory_equal(virtio_net_mac(net), own, 6);
    assert_int_equal(fake.n_config_reads, 0);
}

static void the_link_follows_the_configuration(void **state)
{
    bool is_up = false;

    (void)state;
    assert_true(virtio_net_link_up(net, &is_up, NULL));
    assert_true(is_up);
    fake.net_config[VIRTIO_NET_CFG_STATUS] = VIRTIO_NET_S_ANNOUNCE;
    assert_true(virtio_net_link_up(net, &is_up, NULL));
    assert_false(is_up);
}

static void without_status_feature_the_link_is_up(void **state)
{
    bool is_up = false;

    (void)state;
    open_net((struct virtio_net_options){.refused_features = VIRTIO_FEATURE(VIRTIO_NET_F_STATUS)});
    fake.net_config[VIRTIO_NET_CFG_STATUS] = 0;
    assert_true(virtio_net_link_up(net, &is_up, NULL));
    assert_true(is_up);
}

/* ---- transmit ---- */

static void a_burst_costs_one_kick(void **state)
{
    (void)state;
    send_frames(64, 60);
    assert_int_equal(fake.n_posts, 1);
    assert_int_equal(fake.queues[1].n_kicks, 1);
    send_frames(64, 60);
    assert_int_equal(fake.n_posts, 2);
    struct virtio_net_stats stats = virtio_net_stats(net);
    assert_int_equal(stats.tx_frames, 128);
    assert_int_equal(stats.tx_bytes, 128 * 60);
    assert_int_equal(stats.tx_kicks, 2);
    assert_int_equal(virtio_net_tx_pending(net, 0), 0);
}

static void a_device_that_has_not_asked_again_is_not_kicked_again(void **state)
{
    (void)state;
    fake.is_paused = true;
    for (unsigned i = 0; i < 10; i++) {
        send_frames(10, 60);
    }
    assert_int_equal(fake.queues[1].n_kicks, 1);
    assert_int_equal(virtio_net_tx_pending(net, 0), 100);
    fake_process(&fake);
    assert_int_equal(virtio_net_tx_pending(net, 0), 0);
    send_frames(10, 60);
    assert_int_equal(fake.queues[1].n_kicks, 2);
}

static void without_event_index_every_burst_costs_one_kick_unless_declined(void **state)
{
    (void)state;
    fake.is_paused = true;
    for (unsigned i = 0; i < 10; i++) {
        send_frames(10, 60);
    }
    assert_int_equal(fake.queues[1].n_kicks, 10);
    device_want_kicks(&fake.queues[1].ring, false);
    send_frames(10, 60);
    assert_int_equal(fake.queues[1].n_kicks, 10);
}

static void a_full_ring_takes_what_fits(void **state)
{
    struct virtio_net_frame frames[300];

    (void)state;
    fake.is_paused = true;
    make_frames(frames, 300, 60);
    assert_int_equal(virtio_net_tx_burst(net, 0, frames, 300, NULL), 256);
    assert_int_equal(virtio_net_tx_burst(net, 0, frames + 256, 44, NULL), 0);
    assert_int_equal(virtio_net_stats(net).tx_full, 2);
    assert_int_equal(virtio_net_tx_pending(net, 0), 256);
    fake_transmit(&fake);
    assert_int_equal(virtio_net_tx_burst(net, 0, frames + 256, 44, NULL), 44);
    assert_int_equal(virtio_net_tx_pending(net, 0), 44);
}

static void a_frame_of_impossible_length_is_refused_and_ends_a_burst(void **state)
{
    struct virtio_net_frame frames[3];
    g_autoptr(GError) error = NULL;

    (void)state;
    make_frames(frames, 3, VIRTIO_NET_MAX_FRAME);
    frames[1].len = VIRTIO_NET_MAX_FRAME + 1;
    assert_int_equal(virtio_net_tx_burst(net, 0, frames, 3, &error), 1);
    assert_null(error);
    assert_int_equal(virtio_net_tx_burst(net, 0, frames + 1, 2, &error), 0);
    assert_true(g_error_matches(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID));
    assert_non_null(strstr(error->message, "a frame of 1515 bytes cannot be sent (1 to 1514)"));
    g_clear_error(&error);
    frames[2].len = 0;
    assert_int_equal(virtio_net_tx_burst(net, 0, frames + 2, 1, &error), 0);
    assert_true(g_error_matches(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID));
    g_clear_error(&error);
    assert_int_equal(virtio_net_tx_burst(net, 0, frames, 0, &error), 0);
    assert_null(error);
}

static void another_queue_pair_is_an_error(void **state)
{
    struct virtio_net_frame frame;
    g_autoptr(GError) error = NULL;

    (void)state;
    make_frames(&frame, 1, 60);
    assert_int_equal(virtio_net_tx_burst(net, 1, &frame, 1, &error), 0);
    assert_true(g_error_matches(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID));
    g_clear_error(&error);
    assert_int_equal(virtio_net_rx_burst(net, 1, &frame, 1, &error), 0);
    assert_true(g_error_matches(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID));
    g_clear_error(&error);
    assert_false(virtio_net_rx_wait(net, 7, 0, &error));
    assert_true(g_error_matches(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID));
}

static void frames_are_cut_into_chains_as_told(void **state)
{
    static const uint32_t parts[] = {12, 33, 33, 34};
    struct device_chain chain;

    (void)state;
    open_net((struct virtio_net_options){.tx_chain = 4});
    fake.is_paused = true;
    send_frames(1, 100);
    assert_true(device_take(&fake.queues[1].ring, &chain));
    assert_false(chain.was_indirect);
    assert_int_equal(chain.n_out, 4);
    assert_int_equal(chain.n_in, 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(chain.buffers[i].len, parts[i]);
    }
    send_frames(1, 2); /* fewer bytes than parts */
    assert_true(device_take(&fake.queues[1].ring, &chain));
    assert_int_equal(chain.n_out, 3);
}

static void chains_in_indirect_tables_take_one_descriptor_each(void **state)
{
    struct virtio_net_frame frame = {payload[0], 60, 0};

    (void)state;
    open_net((struct virtio_net_options){.tx_chain = 8, .indirect_entries = 8});
    assert_true(virtio_net_features(net) & VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC));
    fake.is_paused = true;
    send_frames(256, 700);
    assert_int_equal(virtio_net_tx_burst(net, 0, &frame, 1, NULL), 0);
    fake_process(&fake);
    expect_frames(256, 700);
}

static void chains_without_tables_share_the_ring(void **state)
{
    struct virtio_net_frame frames[40];

    (void)state;
    open_net((struct virtio_net_options){.tx_chain = 8});
    fake.is_paused = true;
    make_frames(frames, 40, 700);
    assert_int_equal(virtio_net_tx_burst(net, 0, frames, 40, NULL), 32);
    fake_process(&fake);
    expect_frames(32, 700);
}

/* ---- receive ---- */

static void frames_of_every_length_come_back_over_either_transport(void **state)
{
    static const uint64_t refused[] = {0, VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF),
                                       VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) |
                                           VIRTIO_FEATURE(VIRTIO_F_ANY_LAYOUT)};

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        open_net((struct virtio_net_options){.transport = i & 1 ? VIRTIO_TRANSPORT_LEGACY
                                                                : VIRTIO_TRANSPORT_MODERN,
                                             .refused_features = refused[i / 2]});
        for (uint32_t len = 1; len <= VIRTIO_NET_MAX_FRAME; len++) {
            send_frames(1, len);
            expect_frames(1, len);
        }
        struct virtio_net_stats stats = virtio_net_stats(net);
        assert_int_equal(stats.rx_frames, VIRTIO_NET_MAX_FRAME);
        assert_int_equal(stats.rx_bytes, VIRTIO_NET_MAX_FRAME * (VIRTIO_NET_MAX_FRAME + 1) / 2);
        assert_int_equal(stats.rx_errors, 0);
        close_net();
    }
}

static void a_legacy_device_that_insists_gets_the_header_by_itself(void **state)
{
    struct device_chain chain;

    (void)state;
    open_net(
        (struct virtio_net_options){.transport = VIRTIO_TRANSPORT_LEGACY,
                                    .refused_features = VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) |
                                                        VIRTIO_FEATURE(VIRTIO_F_ANY_LAYOUT)});
    assert_int_equal(virtio_net_header_bytes(net), 10);
    assert_int_equal(virtio_net_rx_queue(net, 0)->n_in_flight, 128);
    assert_true(device_take(&fake.queues[0].ring, &chain));
    assert_int_equal(chain.n_in, 2);
    assert_int_equal(chain.buffers[0].len, 10);
    assert_int_equal(chain.buffers[1].len, 2038);
}

static void with_mrg_rxbuf_a_legacy_device_takes_header_and_frame_together(void **state)
{
    (void)state;
    open_net((struct virtio_net_options){.transport = VIRTIO_TRANSPORT_LEGACY,
                                         .refused_features = VIRTIO_FEATURE(VIRTIO_F_ANY_LAYOUT)});
    assert_int_equal(virtio_net_rx_queue(net, 0)->n_in_flight, 256);
    send_frames(100, 60);
    expect_frames(100, 60);
}

static void released_buffers_are_posted_by_the_next_burst(void **state)
{
    struct virtio_net_frame frames[200];

    (void)state;
    send_frames(200, 60);
    assert_int_equal(receive(frames, 200), 200);
    release(frames, 200);
    assert_int_equal(virtio_net_rx_queue(net, 0)->n_in_flight, 56);
    assert_int_equal(receive(frames, 1), 0);
    assert_int_equal(virtio_net_rx_queue(net, 0)->n_in_flight, 256);
    /* the device asked to hear of chain 200, and 256 to 455 are others: the kick is the first one
     */
    assert_int_equal(virtio_net_stats(net).rx_kicks, 1);
    assert_int_equal(fake.queues[0].n_kicks, 0);
}

static void a_device_out_of_buffers_is_kicked_once_when_it_gets_some(void **state)
{
    struct virtio_net_frame frames[256];

    (void)state;
    send_frames(256, 60);
    send_frames(44, 60);
    assert_int_equal(receive(frames, 256), 256);
    for (unsigned i = 256; i > 0; i--) { /* in any order */
        virtio_net_rx_release(net, 0, &frames[i - 1]);
    }
    assert_int_equal(fake.queues[0].n_kicks, 0);
    assert_int_equal(receive(frames, 256), 44); /* posts 256 with one kick, then looks */
    assert_int_equal(fake.queues[0].n_kicks, 1);
    release(frames, 44);
    assert_int_equal(virtio_net_stats(net).rx_frames, 300);
}

static void waiting_posts_buffers_too_or_nothing_would_ever_come(void **state)
{
    struct virtio_net_frame frames[256];
    g_autoptr(GError) error = NULL;

    (void)state;
    send_frames(256, 60);
    send_frames(3, 60);
    assert_int_equal(receive(frames, 256), 256);
    release(frames, 256);
    assert_ok(virtio_net_rx_wait(net, 0, 1000, &error), error);
    expect_frames(3, 60);
}

static void a_frame_stays_in_place_until_it_is_released(void **state)
{
    struct virtio_net_frame held, frame;

    (void)state;
    send_frames(1, 900);
    assert_int_equal(receive(&held, 1), 1);
    for (unsigned i = 0; i < 20; i++) {
        send_frames(100, 60);
        expect_frames(100, 60);
    }
    make_frames(&frame, 1, 900);
    assert_memory_equal(held.data, payload[0], 900);
    virtio_net_rx_release(net, 0, &held);
}

static void a_frame_over_several_buffers_is_put_together(void **state)
{
    (void)state;
    fake.piece_bytes = 100;
    for (uint32_t len = 1; len <= VIRTIO_NET_MAX_FRAME; len++) {
        send_frames(2, len);
        expect_frames(2, len);
    }
    assert_int_equal(virtio_net_stats(net).rx_frames, 2 * VIRTIO_NET_MAX_FRAME);
    assert_int_equal(virtio_net_stats(net).rx_errors, 0);
}

static void small_buffers_are_filled_one_after_the_other(void **state)
{
    (void)state;
    open_net((struct virtio_net_options){.buffer_bytes = 64});
    for (uint32_t len = 1; len <= VIRTIO_NET_MAX_FRAME; len += 3) {
        send_frames(4, len);
        expect_frames(4, len);
    }
}

/* The device uses one receive buffer: this count in the header, this length, these bytes. */
static void deliver_raw(uint16_t num_buffers, bool has_header, const void *bytes, uint32_t len,
                        uint32_t used_len)
{
    struct fake_queue *q = &fake.queues[0];
    uint8_t header[12] = {[10] = (uint8_t)num_buffers, [11] = (uint8_t)(num_buffers >> 8)};
    struct device_chain chain;

    assert_true(device_take(&q->ring, &chain));
    if (has_header) {
        fake_scatter(&chain, 0, header, sizeof(header));
    }
    fake_scatter(&chain, has_header ? sizeof(header) : 0, bytes, len);
    device_put(&q->ring, chain.head, used_len);
    device_publish(&q->ring);
}

static void pieces_that_come_one_by_one_make_the_same_frame(void **state)
{
    struct virtio_net_frame frame;

    (void)state;
    deliver_raw(3, true, "a", 1, 13);
    assert_int_equal(receive(&frame, 1), 0);
    deliver_raw(0, false, "b", 1, 1);
    assert_int_equal(receive(&frame, 1), 0);
    deliver_raw(0, false, "c", 1, 1);
    assert_int_equal(receive(&frame, 1), 1);
    assert_int_equal(frame.len, 3);
    assert_memory_equal(frame.data, "abc", 3);
    virtio_net_rx_release(net, 0, &frame);
}

static void at_most_64_copied_frames_are_out_at_a_time(void **state)
{
    struct virtio_net_frame frames[128], more[2];

    (void)state;
    fake.piece_bytes = 50;
    send_frames(100, 100);
    assert_int_equal(receive(frames, 128), 64);
    assert_int_equal(receive(more, 2), 0);
    virtio_net_rx_release(net, 0, &frames[5]);
    assert_int_equal(receive(more, 2), 1);
    assert_memory_equal(more[0].data, payload[64], 100);
    frames[5] = more[0];
    release(frames, 64);
    assert_int_equal(receive(frames, 128), 35);
    assert_memory_equal(frames[0].data, payload[65], 100);
    release(frames, 35);
}

static void what_cannot_be_a_frame_is_counted_and_its_buffer_used_again(void **state)
{
    static const struct {
        uint16_t num_buffers;
        uint32_t used_len;
    } cases[] = {{1, 11}, {1, 0}, {1, 12}, {0, 100}, {257, 100}, {0xffff, 100}};
    struct virtio_net_frame frame;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        deliver_raw(cases[i].num_buffers, true, "", 0, cases[i].used_len);
        assert_int_equal(receive(&frame, 1), 0);
        assert_int_equal(virtio_net_stats(net).rx_errors, i + 1);
    }
    assert_int_equal(receive(&frame, 1), 0);
    assert_int_equal(virtio_net_rx_queue(net, 0)->n_in_flight, 256);
    send_frames(1, 60);
    expect_frames(1, 60);
    assert_int_equal(virtio_net_stats(net).rx_frames, 1);
}

static void a_frame_longer_than_any_can_be_is_dropped(void **state)
{
    struct virtio_net_frame frame;

    (void)state;
    for (unsigned i = 0; i < 33; i++) {
        deliver_raw(33, i == 0, "", 0, 2048);
    }
    assert_int_equal(receive(&frame, 1), 0);
    assert_int_equal(virtio_net_stats(net).rx_errors, 1);
    send_frames(1, 60);
    expect_frames(1, 60);
}

static void without_mrg_rxbuf_the_count_in_the_header_means_nothing(void **state)
{
    struct virtio_net_frame frame;

    (void)state;
    open_net(
        (struct virtio_net_options){.refused_features = VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF)});
    deliver_raw(7, true, "xyz", 3, 15);
    assert_int_equal(receive(&frame, 1), 1);
    assert_int_equal(frame.len, 3);
    assert_memory_equal(frame.data, "xyz", 3);
    virtio_net_rx_release(net, 0, &frame);
}

/* ---- broken and dead devices ---- */

static void break_queue(unsigned i)
{
    device_put(&fake.queues[i].ring, 999, 60);
    device_publish(&fake.queues[i].ring);
}

static void a_broken_receive_queue_is_reported_until_a_reset(void **state)
{
    struct virtio_net_frame frame;
    g_autoptr(GError) error = NULL;

    (void)state;
    break_queue(0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(virtio_net_rx_burst(net, 0, &frame, 1, &error), 0);
        assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_DEVICE));
        assert_string_equal(error->message,
                            "00:04.0 virtio-net-pci: the device broke queue 0: used entry 0 "
                            "returns head 999: the queue has only 0 to 255; reset it");
        g_clear_error(&error);
    }
    assert_false(virtio_net_rx_wait(net, 0, 1000, &error));
    assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_DEVICE));
    send_frames(1, 60); /* the other one is fine */
    close_net();
    open_net((struct virtio_net_options){0});
    send_frames(5, 60);
    expect_frames(5, 60);
}

static void a_broken_transmit_queue_is_reported(void **state)
{
    struct virtio_net_frame frame;
    g_autoptr(GError) error = NULL;

    (void)state;
    fake.is_paused = true;
    send_frames(1, 60);
    break_queue(1);
    assert_false(virtio_net_tx_drain(net, 0, 1000, &error));
    assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_DEVICE));
    g_clear_error(&error);
    make_frames(&frame, 1, 60);
    assert_int_equal(virtio_net_tx_burst(net, 0, &frame, 1, &error), 0);
    assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_DEVICE));
}

static void frames_before_the_break_are_still_received(void **state)
{
    struct virtio_net_frame frames[8];
    g_autoptr(GError) error = NULL;

    (void)state;
    send_frames(3, 60);
    break_queue(0);
    assert_int_equal(virtio_net_rx_burst(net, 0, frames, 8, &error), 3);
    assert_null(error);
    release(frames, 3);
    assert_int_equal(virtio_net_rx_burst(net, 0, frames, 8, &error), 0);
    assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_DEVICE));
}

static void a_machine_that_is_gone_is_an_error_everywhere(void **state)
{
    struct virtio_net_frame frame;
    g_autoptr(GError) error = NULL;
    bool flag;

    (void)state;
    fake.is_dead = true;
    make_frames(&frame, 1, 60);
    assert_int_equal(virtio_net_tx_burst(net, 0, &frame, 1, &error), 0);
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
    g_clear_error(&error);
    assert_false(virtio_net_rx_wait(net, 0, 5000, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
    g_clear_error(&error);
    assert_false(virtio_net_link_up(net, &flag, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
    g_clear_error(&error);
    assert_false(virtio_net_config_changed(net, &flag, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
}

static void a_device_that_gave_up_is_told_from_one_that_is_slow(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    fake.is_paused = true;
    send_frames(1, 60);
    assert_false(virtio_net_tx_drain(net, 0, 5, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT));
    g_clear_error(&error);
    fake.status |= VIRTIO_STATUS_NEEDS_RESET;
    assert_false(virtio_net_tx_drain(net, 0, 5, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_NEEDS_RESET));
}

/* ---- interrupts ---- */

static void poll_mode_is_never_interrupted(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) { /* and not for the lack of a vector or a line only */
        const struct device_ring *ring = &fake.queues[i].ring;
        assert_int_equal(ring->has_event_idx ? device_used_event(ring) : device_avail(ring)->flags,
                         ring->has_event_idx ? 0xffff : VIRTQ_AVAIL_F_NO_INTERRUPT);
    }
    for (unsigned i = 0; i < 300; i++) {
        send_frames(10, 60);
        expect_frames(10, 60);
    }
    assert_int_equal(fake.n_raised, 0);
    for (unsigned i = 0; i < FAKE_N_VECTORS; i++) {
        assert_int_equal(fake.n_messages[i], 0);
    }
}

static void being_armed_costs_one_interrupt_in_every_form(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * 6; i++) {
        g_autoptr(GError) error = NULL;
        struct virtio_net_options o = any_interrupts(i / 2);
        o.refused_features = i & 1 ? VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) : 0;
        open_net(o);
        bool is_line = o.interrupts == INTERRUPT_LINE;
        struct interrupt *irq = virtio_net_rx_interrupt(net, 0);
        irq->n_seen = 0;
        for (unsigned k = 1; k <= 10; k++) {
            assert_false(interrupt_take(irq));
            /* armed from the start, then each time */
            assert_true(k == 1 || virtqueue_enable_interrupts(virtio_net_rx_queue(net, 0)));
            send_frames(1, 60);
            assert_ok(interrupt_wait(irq, 1000, &error), error);
            assert_ok(virtio_net_rx_wait(net, 0, 1000, &error), error); /* disarms */
            assert_false(fake.line_level);
            expect_frames(1, 60);
            send_frames(5, 60);
            expect_frames(5, 60);
            assert_int_equal(is_line ? fake.n_raised : fake.n_messages[1], k);
        }
        assert_int_equal(fake.n_messages[0] + fake.n_messages[2], 0);
        assert_int_equal(virtio_net_stats(net).interrupts, 10);
        close_net();
    }
}

/* An interrupt stays unseen, and the used index moves right after the driver looked at it. */
static struct machine_ops slow_ops;
static unsigned frames_to_come;
static bool deliver_at_barrier(struct machine *m, GError **error)
{
    if (frames_to_come > 0) {
        frames_to_come--;
        deliver_raw(1, true, "x", 1, 13);
    }
    return fake_barrier(m, error);
}

static void an_interrupt_that_never_comes_is_called_lost(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    open_net((struct virtio_net_options){.use_interrupts = true, .interrupts = INTERRUPT_MEMORY});
    assert_false(virtio_net_rx_wait(net, 0, 5, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT));
    assert_non_null(strstr(error->message, "queue 0: no interrupt within 5 ms"));
    assert_null(strstr(error->message, "lost"));
    g_clear_error(&error);
    slow_ops = *fake.base.ops;
    slow_ops.barrier = deliver_at_barrier;
    fake.base.ops = &slow_ops;
    frames_to_come = 1; /* deliver_raw sends no interrupt */
    assert_false(virtio_net_rx_wait(net, 0, 5, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT));
    assert_non_null(strstr(error->message, "although buffers were used: it was lost or not sent"));
}

/* What the driver asked for while it sleeps. */
static uint16_t event_while_asleep;
static bool look_at_barrier(struct machine *m, GError **error)
{
    event_while_asleep = device_used_event(&fake.queues[1].ring);
    return fake_barrier(m, error);
}

static void draining_by_interrupt_asks_for_three_quarters_of_what_is_left(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    open_net((struct virtio_net_options){.use_interrupts = true, .interrupts = INTERRUPT_MEMORY});
    slow_ops = *fake.base.ops;
    slow_ops.barrier = look_at_barrier;
    fake.base.ops = &slow_ops;
    fake.is_paused = true;
    send_frames(64, 60);
    assert_false(virtio_net_tx_drain(net, 0, 5, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT));
    assert_int_equal(event_while_asleep, 48);
    g_clear_error(&error);
    fake_process(&fake); /* after the wait, nothing is armed */
    assert_int_equal(fake.n_messages[2], 0);
    assert_ok(virtio_net_tx_drain(net, 0, 1000, &error), error);
    assert_int_equal(virtio_net_tx_pending(net, 0), 0);
}

static void a_configuration_change_is_told_once_in_every_form(void **state)
{
    (void)state;
    for (unsigned i = 0; i < N_INTERRUPT_OPTIONS; i++) {
        bool changed = true;
        open_net(any_interrupts(i));
        assert_true(virtio_net_config_changed(net, &changed, NULL));
        assert_false(changed);
        fake_change_config(&fake);
        assert_true(virtio_net_config_changed(net, &changed, NULL));
        assert_true(changed);
        assert_true(virtio_net_config_changed(net, &changed, NULL));
        assert_false(changed);
        close_net();
    }
}

static void a_configuration_change_seen_while_waiting_on_the_line_is_kept(void **state)
{
    bool changed = false;

    (void)state;
    open_net((struct virtio_net_options){.use_interrupts = true, .interrupts = INTERRUPT_LINE});
    fake_change_config(&fake);
    send_frames(1, 60);
    assert_true(virtio_net_rx_wait(net, 0, 1000, NULL));
    assert_false(fake.line_level);
    assert_true(virtio_net_config_changed(net, &changed, NULL));
    assert_true(changed);
    assert_true(virtio_net_config_changed(net, &changed, NULL));
    assert_false(changed);
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, close_machine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(impossible_options_are_refused, open_machine),
        TEST(another_kind_of_virtio_device_is_refused, open_machine),
        TEST(a_ring_size_the_device_does_not_take_is_refused, open_machine),
        TEST(the_device_comes_up_in_order_with_all_receive_buffers_posted, open_machine),
        TEST(the_buffers_are_announced_by_one_kick, open_machine),
        TEST(freeing_it_leaves_the_function_as_it_was, open_machine),
        TEST(whichever_access_fails_bringing_it_up_nothing_is_left_behind, open_machine),
        TEST(without_mac_feature_the_address_is_a_local_one, open_machine),
        TEST(the_link_follows_the_configuration, open_modern),
        TEST(without_status_feature_the_link_is_up, open_machine),
        TEST(a_burst_costs_one_kick, open_modern),
        TEST(a_device_that_has_not_asked_again_is_not_kicked_again, open_modern),
        TEST(without_event_index_every_burst_costs_one_kick_unless_declined,
             open_without_event_idx),
        TEST(a_full_ring_takes_what_fits, open_modern),
        TEST(a_frame_of_impossible_length_is_refused_and_ends_a_burst, open_modern),
        TEST(another_queue_pair_is_an_error, open_modern),
        TEST(frames_are_cut_into_chains_as_told, open_machine),
        TEST(chains_in_indirect_tables_take_one_descriptor_each, open_machine),
        TEST(chains_without_tables_share_the_ring, open_machine),
        TEST(frames_of_every_length_come_back_over_either_transport, open_machine),
        TEST(a_legacy_device_that_insists_gets_the_header_by_itself, open_machine),
        TEST(with_mrg_rxbuf_a_legacy_device_takes_header_and_frame_together, open_machine),
        TEST(released_buffers_are_posted_by_the_next_burst, open_modern),
        TEST(a_device_out_of_buffers_is_kicked_once_when_it_gets_some, open_modern),
        TEST(waiting_posts_buffers_too_or_nothing_would_ever_come, open_modern),
        TEST(a_frame_stays_in_place_until_it_is_released, open_modern),
        TEST(a_frame_over_several_buffers_is_put_together, open_modern),
        TEST(small_buffers_are_filled_one_after_the_other, open_machine),
        TEST(pieces_that_come_one_by_one_make_the_same_frame, open_modern),
        TEST(at_most_64_copied_frames_are_out_at_a_time, open_modern),
        TEST(what_cannot_be_a_frame_is_counted_and_its_buffer_used_again, open_modern),
        TEST(a_frame_longer_than_any_can_be_is_dropped, open_modern),
        TEST(without_mrg_rxbuf_the_count_in_the_header_means_nothing, open_machine),
        TEST(a_broken_receive_queue_is_reported_until_a_reset, open_modern),
        TEST(a_broken_transmit_queue_is_reported, open_modern),
        TEST(frames_before_the_break_are_still_received, open_modern),
        TEST(a_machine_that_is_gone_is_an_error_everywhere, open_modern),
        TEST(a_device_that_gave_up_is_told_from_one_that_is_slow, open_modern),
        TEST(poll_mode_is_never_interrupted, open_modern),
        TEST(poll_mode_is_never_interrupted, open_without_event_idx),
        TEST(being_armed_costs_one_interrupt_in_every_form, open_machine),
        TEST(an_interrupt_that_never_comes_is_called_lost, open_machine),
        TEST(draining_by_interrupt_asks_for_three_quarters_of_what_is_left, open_machine),
        TEST(a_configuration_change_is_told_once_in_every_form, open_machine),
        TEST(a_configuration_change_seen_while_waiting_on_the_line_is_kept, open_machine),
    };

    return cmocka_run_group_tests_name("virtio_net", tests, NULL, NULL);
}
