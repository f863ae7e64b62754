/*
 * 64-byte frames from one virtio network device to another through QEMU's hub, rings and buffers in
 * an ivshmem BAR: in bursts, a notification for each if the device wants one, and with a
 * notification for every frame. One thread sends, receives and looks at every byte.
 */
#include "harness/bench/bench.h"
#include "harness/session.h"
#include "qtest_client/virtio_net.h"

#include <string.h>

enum {
    BURST = 64,
    WINDOW = 192, /* frames under way at most: what the receiver's ring holds, less a burst */
    FRAME_BYTES = 64,
    MAC_BYTES = 6,
    SHARED_BYTES = 8 << 20,
    DEADLINE_US = 5000000,
    MILLION = 1000000,
};

static const struct bench_figure figures[] = {
    {"virtio_net.hub_frames_per_s", "1/s", "64-byte frames through QEMU's hub, in bursts of 64",
     NULL},
    {"virtio_net.burst_vs_single_kick", "x", "the same / with a notification for every frame",
     NULL},
    {"virtio_net.qtest_ops_per_million_frames", "1/million",
     "qtest commands in bursts of 64: notifications only", NULL},
    {NULL, NULL, NULL, NULL},
};

struct bed {
    struct session *session;
    struct session_machine *machine;
    struct virtio_net *sender, *receiver;
    struct virtio_net_frame frames[BURST]; /* to send */
    uint8_t bytes[BURST][FRAME_BYTES];
    uint64_t n_sent, n_received;
    bool kicks_each;
    double *ops_per_million; /* per slice of bursts; the first, which does not count, too */
    unsigned n_slices;
};

static struct virtio_net *driver_new(struct session_device *dev, struct guest_region *region,
                                     GError **error)
{
    struct virtio_net_options options = {.transport = VIRTIO_TRANSPORT_MODERN, .region = region};
    struct pci_device *pci = session_device_pci(dev, error);

    return pci ? virtio_net_new(pci, &options, error) : NULL;
}

static bool bed_open(struct bed *bed, unsigned n_rounds, GError **error)
{
    static const char net[] = "virtio-net-pci,disable-legacy=on";
    struct session_machine_options options = {.name = "bench"};

    *bed = (struct bed){.session = session_new(NULL, NULL)};
    bed->ops_per_million = g_new0(double, n_rounds + 1);
    struct guest_region *region =
        session_memory_new(bed->session, "rings", SHARED_BYTES, GUEST_HUGEPAGES_PREFER, error);
    bed->machine = region ? session_machine_new(bed->session, &options, error) : NULL;
    if (!bed->machine) {
        return false;
    }
    struct session_backing backing = {.region = region};
    struct session_device *from = session_device_new(bed->machine, net, NULL, error);
    struct session_device *to = from ? session_device_new(bed->machine, net, NULL, error) : NULL;
    return to && session_device_new(bed->machine, "ivshmem-plain", &backing, error) &&
           session_machine_start(bed->machine, error) &&
           (bed->sender = driver_new(from, region, error)) &&
           (bed->receiver = driver_new(to, region, error));
}

static void bed_close(struct bed *bed)
{
    virtio_net_free(bed->sender);
    virtio_net_free(bed->receiver);
    session_free(bed->session);
    g_free(bed->ops_per_million);
}

/* ---- frames: addresses, a type for experiments, the frame's number, a pattern ---- */

static void frame_write(const struct bed *bed, uint64_t number, uint8_t *bytes)
{
    static const uint8_t local_experimental[] = {0x88, 0xb5};
    uint8_t *p = bytes;

    memcpy(p, virtio_net_mac(bed->receiver), MAC_BYTES);
    memcpy(p += MAC_BYTES, virtio_net_mac(bed->sender), MAC_BYTES);
    memcpy(p += MAC_BYTES, local_experimental, sizeof(local_experimental));
    memcpy(p += sizeof(local_experimental), &number, sizeof(number));
    p += sizeof(number);
    memset(p, (int)(number & 0xff), (size_t)(bytes + FRAME_BYTES - p));
}

static void prepare(struct bed *bed)
{
    for (unsigned i = 0; i < BURST; i++) {
        frame_write(bed, bed->n_sent + i, bed->bytes[i]);
        bed->frames[i] = (struct virtio_net_frame){bed->bytes[i], FRAME_BYTES, 0};
    }
}

static bool frame_check(const struct bed *bed, const struct virtio_net_frame *frame, GError **error)
{
    uint8_t expected[FRAME_BYTES];

    frame_write(bed, bed->n_received, expected);
    if (frame->len != FRAME_BYTES || memcmp(frame->data, expected, FRAME_BYTES) != 0) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG,
                    "frame %" G_GUINT64_FORMAT " did not arrive as it was sent", bed->n_received);
        return false;
    }
    return true;
}

/* ---- moving them ---- */

static bool send_burst(struct bed *bed, GError **error)
{
    unsigned n = 0;

    prepare(bed);
    while (n < BURST) {
        unsigned sent = virtio_net_tx_burst(bed->sender, 0, bed->frames + n, BURST - n, error);
        if (sent == 0) {
            return false; /* the window is smaller than the ring: this is an error, not a full one
                           */
        }
        n += sent;
    }
    bed->n_sent += BURST;
    return true;
}

static bool send_each(struct bed *bed, GError **error)
{
    uint16_t queue = 1; /* transmit of the first pair, virtio 1.2, 5.1.2 */

    prepare(bed);
    for (unsigned i = 0; i < BURST; i++) {
        uint64_t n_kicks = virtio_net_stats(bed->sender).tx_kicks;
        if (virtio_net_tx_burst(bed->sender, 0, &bed->frames[i], 1, error) != 1) {
            return false;
        }
        if (virtio_net_stats(bed->sender).tx_kicks == n_kicks &&
            !virtio_pci_notify(virtio_net_transport(bed->sender), queue, error)) {
            return false;
        }
    }
    bed->n_sent += BURST;
    return true;
}

/* Takes what has arrived; false on an error only. */
static bool receive(struct bed *bed, GError **error)
{
    struct virtio_net_frame frames[BURST];
    GError *local = NULL;
    unsigned n = virtio_net_rx_burst(bed->receiver, 0, frames, BURST, &local);

    if (local) {
        g_propagate_error(error, local);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        if (!frame_check(bed, &frames[i], error)) {
            return false;
        }
        virtio_net_rx_release(bed->receiver, 0, &frames[i]);
        bed->n_received++;
    }
    return true;
}

/* Keeps the window full until `until_us`, then waits for what is under way. */
static bool move_frames(struct bed *bed, int64_t until_us, GError **error)
{
    int64_t now = g_get_monotonic_time(), last_us = now;

    while (now < until_us || bed->n_received < bed->n_sent) {
        uint64_t n_before = bed->n_received;
        if (now < until_us && bed->n_sent - bed->n_received + BURST <= WINDOW &&
            !(bed->kicks_each ? send_each(bed, error) : send_burst(bed, error))) {
            return false;
        }
        if (!receive(bed, error)) {
            return false;
        }
        now = g_get_monotonic_time();
        if (bed->n_received != n_before) {
            last_us = now;
        } else if (now - last_us > DEADLINE_US) {
            g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM,
                        "frame %" G_GUINT64_FORMAT " did not arrive within %d s", bed->n_received,
                        DEADLINE_US / MILLION);
            return false;
        }
    }
    return true;
}

static uint64_t count_kicks(const struct bed *bed)
{
    struct virtio_net_stats s = virtio_net_stats(bed->sender), r = virtio_net_stats(bed->receiver);

    return s.tx_kicks + s.rx_kicks + r.tx_kicks + r.rx_kicks;
}

static bool measure(struct bed *bed, int64_t slice_us, double *per_s, GError **error)
{
    uint64_t n_before = bed->n_received;
    int64_t begin = g_get_monotonic_time();

    if (!move_frames(bed, begin + slice_us, error)) {
        return false;
    }
    *per_s =
        (double)(bed->n_received - n_before) * MILLION / (double)(g_get_monotonic_time() - begin);
    return true;
}

static bool measure_bursts(void *data, int64_t slice_us, double *per_s, GError **error)
{
    struct bed *bed = data;
    struct qtest *q = qemu_qtest(session_machine_qemu(bed->machine));
    uint64_t n_before = bed->n_received, n_commands = qtest_n_commands(q);
    uint64_t n_kicks = count_kicks(bed);

    bed->kicks_each = false;
    if (!measure(bed, slice_us, per_s, error)) {
        return false;
    }
    n_commands = qtest_n_commands(q) - n_commands;
    n_kicks = count_kicks(bed) - n_kicks;
    if (n_commands != n_kicks) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG,
                    "%" G_GUINT64_FORMAT " qtest commands were sent for %" G_GUINT64_FORMAT
                    " notifications",
                    n_commands, n_kicks);
        return false;
    }
    bed->ops_per_million[bed->n_slices++] =
        (double)n_commands * MILLION / (double)(bed->n_received - n_before);
    return true;
}

static bool measure_each(void *data, int64_t slice_us, double *per_s, GError **error)
{
    struct bed *bed = data;

    bed->kicks_each = true;
    return measure(bed, slice_us, per_s, error);
}

static bool run(const struct bench_settings *settings, const struct bench_sink *sink,
                GError **error)
{
    enum { BURSTS, EACH, N_WAYS };
    unsigned n = settings->n_rounds;
    struct bed bed;
    struct bench_side sides[N_WAYS] = {
        [BURSTS] = {measure_bursts, &bed, NULL},
        [EACH] = {measure_each, &bed, NULL},
    };
    bool ok = bed_open(&bed, n, error) && bench_rounds(settings, sides, N_WAYS, error);

    if (ok) {
        bench_emit(sink, "virtio_net.hub_frames_per_s", bench_summarize(sides[BURSTS].samples, n));
        bench_emit(sink, "virtio_net.burst_vs_single_kick",
                   bench_summarize_ratios(sides[BURSTS].samples, sides[EACH].samples, n));
        bench_emit(sink, "virtio_net.qtest_ops_per_million_frames",
                   bench_summarize(bed.ops_per_million + 1, n));
    }
    bench_sides_clear(sides, N_WAYS);
    bed_close(&bed);
    return ok;
}

const struct bench_group bench_virtio_net = {figures, run};
