/*
 * The parts of a frame's way between two ptnet drivers, as a program over netmap rings or a network
 * stack over a driver would do them.
 */
#include "harness/bench/ptnet_bed.h"

#include <string.h>

enum {
    BURST = 256,             /* slots per sync, at most */
    LARGE_BYTES = 64 * 1024, /* frame, with its headers */
    LARGE_BURST = 2,         /* what is under way should fit the caches */
    LARGE_HEADERS = 54,
    LARGE_MSS = 1448,
    NAP_MS = 20, /* then the end of the slice is looked for */
};

/* Nothing to do: where drivers sleep, until an interrupt. That none came is no error. */
static bool nap(struct ptnet_bed *bed, struct ptnet_queue *q, unsigned n_slots, GError **error)
{
    GError *why = NULL;

    if (!bed->options.sleeps || ptnet_wait(q, n_slots, NAP_MS, &why)) {
        return true;
    }
    if (g_error_matches(why, QTEST_ERROR, QTEST_ERROR_TIMEOUT)) {
        g_error_free(why);
        return true;
    }
    g_propagate_error(error, why);
    return false;
}

static void count(struct ptnet_bed *bed, uint64_t n_frames, uint64_t n_bytes)
{
    /* one thread counts, another looks */
    atomic_store_explicit(&bed->n_received, bed->n_received + n_frames, memory_order_relaxed);
    atomic_store_explicit(&bed->n_bytes, bed->n_bytes + n_bytes, memory_order_relaxed);
}

static bool fail(GError **error, const char *what)
{
    g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG, "%s", what);
    return false;
}

/* ---- 60 bytes, natively ---- */

static uint32_t space(const struct netmap_ring *ring, uint32_t head, uint32_t n_slots)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    return tail >= head ? tail - head : tail + n_slots - head;
}

bool ptnet_part_send(struct ptnet_bed *bed, GError **error)
{
    struct netmap_ring *ring = bed->tx->ring;
    const uint32_t n_slots = bed->tx->num_slots;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    const uint32_t n = MIN(space(ring, head, n_slots), BURST);

    for (uint32_t i = 0; i < n; i++) {
        ring->slot[head].len = PTNET_BED_FRAME_BYTES;
        ring->slot[head].flags = 0;
        head = head + 1 == n_slots ? 0 : head + 1;
    }
    atomic_store_explicit(&ring->head, head, memory_order_relaxed);
    atomic_store_explicit(&ring->cur, head, memory_order_relaxed);
    return ptnet_txsync(bed->tx, 0, error) &&
           (space(ring, head, n_slots) > 0 || nap(bed, bed->tx, n_slots / 2, error));
}

bool ptnet_part_receive(struct ptnet_bed *bed, GError **error)
{
    struct netmap_ring *ring = bed->rx->ring;
    const uint32_t n_slots = bed->rx->num_slots;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed), n;
    uint64_t n_bytes = 0;

    if (!ptnet_rxsync(bed->rx, 0, error)) {
        return false;
    }
    n = space(ring, head, n_slots);
    for (uint32_t i = 0; i < n; i++) {
        n_bytes += ring->slot[head].len;
        head = head + 1 == n_slots ? 0 : head + 1;
    }
    if (n_bytes != (uint64_t)n * PTNET_BED_FRAME_BYTES) {
        return fail(error, "a frame has another length than was sent");
    }
    atomic_store_explicit(&ring->head, head, memory_order_relaxed);
    atomic_store_explicit(&ring->cur, head, memory_order_relaxed);
    count(bed, n, n_bytes);
    return n > 0 || nap(bed, bed->rx, 1, error);
}

/* ---- the kernel loops ---- */

bool ptnet_part_step_sender(struct ptnet_bed *bed, GError **error)
{
    (void)error;
    ptnet_step(bed->sides[PTNET_BED_SENDER].ptnet);
    return true;
}

bool ptnet_part_step_receiver(struct ptnet_bed *bed, GError **error)
{
    (void)error;
    ptnet_step(bed->sides[PTNET_BED_RECEIVER].ptnet);
    return true;
}

/* ---- 64 KiB, copied ---- */

static void fill_large(struct ptnet_bed *bed)
{
    static const uint8_t ip_and_tcp[] = {
        0x08, 0, 0x45, 0, 0, 0,    0,    1, 0x40, 0, 64, 6, 0, 0, 10, 0,    0,    1,   10,
        0,    0, 2,    0, 9, 0x12, 0x34, 0, 0,    0, 1,  0, 0, 0, 0,  0x50, 0x10, 0xff};
    const uint8_t macs[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};

    memcpy(bed->frames, macs, sizeof(macs));
    memcpy(bed->frames + sizeof(macs), ip_and_tcp, sizeof(ip_and_tcp));
}

bool ptnet_part_send_large(struct ptnet_bed *bed, GError **error)
{
    struct ptnet_frame frames[LARGE_BURST];
    GError *why = NULL;

    if (bed->frames[0] == 0) {
        fill_large(bed);
    }
    for (unsigned i = 0; i < LARGE_BURST; i++) {
        frames[i] = (struct ptnet_frame){
            .data = bed->frames + (size_t)i * LARGE_BYTES,
            .len = LARGE_BYTES,
            .hdr = {.flags = NM_VNET_HDR_F_NEEDS_CSUM,
                    .gso_type = NM_VNET_HDR_GSO_TCPV4,
                    .hdr_len = LARGE_HEADERS,
                    .gso_size = LARGE_MSS,
                    .csum_start = 34,
                    .csum_offset = 16},
        };
        memcpy(frames[i].data, bed->frames, LARGE_HEADERS);
    }
    if (ptnet_tx_burst(bed->tx, frames, LARGE_BURST, &why) == 0 && why) {
        g_propagate_error(error, why);
        return false;
    }
    return true;
}

bool ptnet_part_receive_large(struct ptnet_bed *bed, GError **error)
{
    struct ptnet_frame frames[LARGE_BURST];
    GError *why = NULL;
    uint64_t n_bytes = 0;

    for (unsigned i = 0; i < LARGE_BURST; i++) {
        frames[i] = (struct ptnet_frame){
            .data = bed->frames + (size_t)(LARGE_BURST + i) * LARGE_BYTES, .len = LARGE_BYTES};
    }
    unsigned n = ptnet_rx_burst(bed->rx, frames, LARGE_BURST, &why);
    if (why) {
        g_propagate_error(error, why);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        n_bytes += frames[i].len;
        if (frames[i].len != LARGE_BYTES || frames[i].hdr.gso_size != LARGE_MSS ||
            memcmp(frames[i].data, bed->frames, LARGE_HEADERS) != 0) {
            return fail(error, "a large frame did not arrive as it was sent");
        }
    }
    count(bed, n, n_bytes);
    return true;
}

/* ---- questions and answers ---- */

static bool send_one(struct ptnet_bed *bed, unsigned side, GError **error)
{
    const uint8_t macs[] = {2, 0, 0, 0, 0, (uint8_t)(2 - side), 2, 0, 0, 0, 0, (uint8_t)(side + 1)};
    struct ptnet_frame f = {.data = bed->frames + (size_t)side * LARGE_BYTES,
                            .len = PTNET_BED_FRAME_BYTES};

    memcpy(f.data, macs, sizeof(macs));
    return ptnet_tx_burst(ptnet_driver_tx(bed->sides[side].driver, 0), &f, 1, error) == 1;
}

/* Sleeps until there is one, or for a while; *n: whether there was. */
static bool receive_one(struct ptnet_bed *bed, unsigned side, unsigned *n, GError **error)
{
    struct ptnet_queue *rx = ptnet_driver_rx(bed->sides[side].driver, 0);
    struct ptnet_frame f = {.data = bed->frames + (size_t)(2 + side) * LARGE_BYTES,
                            .len = LARGE_BYTES};
    GError *why = NULL;

    *n = 0;
    if (!nap(bed, rx, 1, error)) {
        return false;
    }
    *n = ptnet_rx_burst(rx, &f, 1, &why);
    if (why) {
        g_propagate_error(error, why);
    }
    return why == NULL;
}

bool ptnet_part_ask(struct ptnet_bed *bed, GError **error)
{
    unsigned n = 0;

    if (!send_one(bed, PTNET_BED_SENDER, error)) {
        return false;
    }
    while (n == 0 && !atomic_load_explicit(&bed->has_ended, memory_order_relaxed)) {
        if (!receive_one(bed, PTNET_BED_SENDER, &n, error)) {
            return false;
        }
    }
    count(bed, n, 0);
    return true;
}

bool ptnet_part_answer(struct ptnet_bed *bed, GError **error)
{
    unsigned n;

    return receive_one(bed, PTNET_BED_RECEIVER, &n, error) &&
           (n == 0 || send_one(bed, PTNET_BED_RECEIVER, error));
}
