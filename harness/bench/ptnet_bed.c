/*
 * Two ptnets and what is between them, made and torn down; and the two threads of a placement.
 */
#include "harness/bench/ptnet_bed.h"
#include "models/vale/vale.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum {
    SHARED_BYTES = 1 << 20,
    FRAMES_BYTES = 1 << 20,
    DEADLINE_US = 5000000,
    MILLION = 1000000,
    LEARN_DEADLINE_US = 5000000,
    MAC_BYTES = 6,
};
#define SHARED_GPA UINT64_C(0x500000000)

/* ---- making it ---- */

static bool add_side(struct ptnet_bed *bed, unsigned side, GError **error)
{
    struct ptnet_options options = {.port = bed->options.ports[side],
                                    .mac = {2, 0, 0, 0, 0, (uint8_t)(side + 1)},
                                    .is_stepped = bed->options.is_stepped};

    return sim_ptnet_add(bed->machine, bed->host, &options, &bed->sides[side], error);
}

static bool open_driver(struct ptnet_bed *bed, unsigned side, GError **error)
{
    struct ptnet_driver_options options = {.no_vnet_hdr = !bed->options.has_header,
                                           .has_interrupts = bed->options.sleeps,
                                           .interrupt_kind = INTERRUPT_EVENTFD,
                                           .bridge = sim_machine_bridge(bed->machine),
                                           .shared = bed->region,
                                           .fence_before_kick = bed->options.sleeps};

    return sim_ptnet_open(&bed->sides[side], bed->bus, &options, error);
}

/* Destination, source, an experimental EtherType, behind the header if there is one. */
static void address_buffers(struct ptnet_bed *bed, unsigned side)
{
    struct ptnet_queue *q = ptnet_driver_tx(bed->sides[side].driver, 0);
    const unsigned skip = ptnet_driver_header_bytes(bed->sides[side].driver);

    for (uint32_t i = 0; i < q->num_slots; i++) {
        const uint8_t head[] = {
            2, 0, 0, 0, 0, (uint8_t)(2 - side), 2, 0, 0, 0, 0, (uint8_t)(side + 1), 0x88, 0xb5};
        memcpy(q->buf_base + (uint64_t)q->ring->slot[i].buf_idx * q->buf_size + skip, head,
               sizeof(head));
    }
}

/* A frame back, so that the switch knows where to send the others. */
static bool teach(struct ptnet_bed *bed, GError **error)
{
    struct ptnet_queue *tx = ptnet_driver_tx(bed->sides[PTNET_BED_RECEIVER].driver, 0);
    struct ptnet_queue *rx = ptnet_driver_rx(bed->sides[PTNET_BED_SENDER].driver, 0);
    const int64_t deadline = g_get_monotonic_time() + LEARN_DEADLINE_US;

    tx->ring->slot[0].len = PTNET_BED_FRAME_BYTES;
    tx->ring->slot[0].flags = 0;
    tx->ring->head = tx->ring->cur = 1;
    if (!ptnet_txsync(tx, 0, error)) {
        return false;
    }
    while (rx->ring->head == rx->ring->tail) {
        if (g_get_monotonic_time() > deadline) {
            g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM, "the first frame did not arrive");
            return false;
        }
        if (!ptnet_part_step_receiver(bed, error) || !ptnet_part_step_sender(bed, error) ||
            !ptnet_rxsync(rx, 0, error)) {
            return false;
        }
    }
    rx->ring->head = rx->ring->cur = rx->ring->tail;
    return ptnet_rxsync(rx, 0, error);
}

bool ptnet_bed_open(struct ptnet_bed *bed, const struct ptnet_bed_options *options, GError **error)
{
    struct nm_nic_options nic = {.name = "x0"}; /* what pipes hang on */

    *bed = (struct ptnet_bed){.options = *options, .machine = sim_machine_new()};
    bed->frames = g_malloc0(FRAMES_BYTES);
    bed->region = guest_region_new("shared", SHARED_BYTES, GUEST_HUGEPAGES_OFF, error);
    if (!bed->region || !sim_machine_add_memory(bed->machine, bed->region, SHARED_GPA, error) ||
        !(bed->host = nm_host_new(NULL, error)) || !nm_nic_new(bed->host, &nic, error) ||
        !add_side(bed, 0, error) || !add_side(bed, 1, error)) {
        return false;
    }
    /* a switch that drops what finds no room would have the sender run ahead for nothing */
    int err = g_str_has_prefix(options->ports[0], "vale")
                  ? vale_set_full_policy(bed->host, "vale0:", VALE_FULL_WAIT)
                  : 0;
    if (err != 0) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM, "vale0: %s", g_strerror(err));
        return false;
    }
    bed->bus = pci_bus_new(bed->machine);
    if (!pci_bus_scan(bed->bus, error) || !open_driver(bed, 0, error) ||
        !open_driver(bed, 1, error)) {
        return false;
    }
    bed->tx = ptnet_driver_tx(bed->sides[PTNET_BED_SENDER].driver, 0);
    bed->rx = ptnet_driver_rx(bed->sides[PTNET_BED_RECEIVER].driver, 0);
    address_buffers(bed, 0);
    address_buffers(bed, 1);
    return teach(bed, error);
}

void ptnet_bed_close(struct ptnet_bed *bed)
{
    if (!bed->machine) {
        return;
    }
    sim_ptnet_close(&bed->sides[0]);
    sim_ptnet_close(&bed->sides[1]);
    pci_bus_free(bed->bus);
    machine_free(bed->machine);
    if (bed->host) {
        nm_host_free(bed->host);
    }
    guest_region_free(bed->region);
    g_free(bed->frames);
    *bed = (struct ptnet_bed){.machine = NULL};
}

static uint64_t sum(const uint64_t *values)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < PTNET_MAX_RINGS; i++) {
        total += values[i];
    }
    return total;
}

uint64_t ptnet_bed_kicks(struct ptnet_bed *bed)
{
    struct ptnet_stats a = ptnet_stats(bed->sides[0].ptnet), b = ptnet_stats(bed->sides[1].ptnet);

    return sum(a.kicks) + sum(b.kicks);
}

uint64_t ptnet_bed_interrupts(struct ptnet_bed *bed)
{
    struct ptnet_stats a = ptnet_stats(bed->sides[0].ptnet), b = ptnet_stats(bed->sides[1].ptnet);

    return sum(a.interrupts) + sum(b.interrupts);
}

/* ---- threads ---- */

/* To the n-th of the processors that are allowed, where there are that many. */
static void pin(const cpu_set_t *allowed, unsigned n)
{
    cpu_set_t one;

    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, allowed) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
            return;
        }
    }
}

struct second {
    struct ptnet_bed *bed;
    const ptnet_part_fn *parts;
    const cpu_set_t *allowed;
    GError *error;
};

static bool do_parts(struct ptnet_bed *bed, const ptnet_part_fn *parts, GError **error)
{
    for (unsigned i = 0; i < PTNET_MAX_PARTS && parts[i]; i++) {
        if (!parts[i](bed, error)) {
            return false;
        }
    }
    return true;
}

static void *second_thread(void *data)
{
    struct second *second = data;

    pin(second->allowed, 1);
    while (!atomic_load_explicit(&second->bed->has_ended, memory_order_relaxed) &&
           do_parts(second->bed, second->parts, &second->error)) {
    }
    atomic_store(&second->bed->has_ended, true);
    return NULL;
}

/* Until the time is over and something was received, or an error. */
static bool first_thread(struct ptnet_bed *bed, const ptnet_part_fn *parts, int64_t begin,
                         int64_t slice_us, GError **error)
{
    const uint64_t n_before = bed->n_received;
    int64_t now;

    do {
        if (!do_parts(bed, parts, error)) {
            return false;
        }
        now = g_get_monotonic_time();
        if (now - begin > slice_us + DEADLINE_US) {
            g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM, "no frame came through within %d s",
                        DEADLINE_US / MILLION);
            return false;
        }
    } while ((now - begin < slice_us || bed->n_received == n_before) &&
             !atomic_load_explicit(&bed->has_ended, memory_order_relaxed));
    return true;
}

bool ptnet_bed_run(struct ptnet_bed *bed, const struct ptnet_placement *placement, int64_t slice_us,
                   double *frames_per_s, double *bytes_per_s, GError **error)
{
    const uint64_t n_frames = bed->n_received, n_bytes = bed->n_bytes;
    const bool has_second = placement->there[0] != NULL;
    cpu_set_t allowed;
    pthread_t thread;

    sched_getaffinity(0, sizeof(allowed), &allowed);
    struct second second = {.bed = bed, .parts = placement->there, .allowed = &allowed};
    atomic_store(&bed->has_ended, false);
    int err = has_second ? pthread_create(&thread, NULL, second_thread, &second) : 0;
    if (err != 0) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM, "a thread: %s", g_strerror(err));
        return false;
    }
    pin(&allowed, 0);
    const int64_t begin = g_get_monotonic_time();
    bool ok = first_thread(bed, placement->here, begin, slice_us, error);
    const double seconds = (double)(g_get_monotonic_time() - begin) / MILLION;
    *frames_per_s = (double)(bed->n_received - n_frames) / seconds;
    *bytes_per_s = (double)(bed->n_bytes - n_bytes) / seconds;
    atomic_store(&bed->has_ended, true);
    if (has_second) {
        pthread_join(thread, NULL);
    }
    pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed);
    if (second.error) {
        g_clear_error(ok ? NULL : error);
        g_propagate_error(error, second.error);
        return false;
    }
    return ok;
}
