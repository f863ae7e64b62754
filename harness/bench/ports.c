/*
 * One thread that sends bursts from a port and takes them from another one.
 */
#include "harness/bench/ports.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* Of this thread: what else runs on the machine does not count. */
static int64_t processor_time_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

bool ports_open(struct ports_end *end, struct nm_host *host, const char *name, uint32_t n_slots,
                uint16_t mem_id, GError **error)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC,
                                 .nr_tx_slots = n_slots,
                                 .nr_rx_slots = n_slots,
                                 .nr_mem_id = mem_id};
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_body = (uintptr_t)&reg};

    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    end->file = nm_open(host);
    int err = end->file ? nm_ctrl(end->file, &header) : ENOMEM;
    if (err) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM, "cannot open %s: %s", name,
                    g_strerror(err));
        return false;
    }
    end->nifp = nm_file_if(end->file);
    return true;
}

void ports_close(struct ports_end *end)
{
    g_clear_pointer(&end->file, nm_close);
}

void ports_fill(struct ports_end *end, unsigned src, unsigned dst)
{
    struct netmap_ring *ring = nm_txring(end->nifp, 0);

    for (uint32_t i = 0; i < ring->num_slots; i++) {
        uint8_t frame[PORTS_FRAME_BYTES] = {
            2, 0, 0, 0, 0, (uint8_t)dst, 2, 0, 0, 0, 0, (uint8_t)src, 0x88, 0xb5};
        memcpy(nm_buf(ring, ring->slot[i].buf_idx), frame, sizeof(frame));
    }
}

/* What a generator does with each slot. */
static uint32_t write_slots(struct netmap_ring *ring, uint32_t at)
{
    for (unsigned i = 0; i < PORTS_BURST; i++) {
        ring->slot[at].len = PORTS_FRAME_BYTES;
        ring->slot[at].flags = 0;
        at = nm_ring_next(ring, at);
    }
    return at;
}

static void hand_over(struct netmap_ring *ring, uint32_t head)
{
    atomic_store_explicit(&ring->cur, head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head, memory_order_release);
}

/* One burst; how many frames came. */
static uint32_t move(struct ports_end *from, struct ports_end *to)
{
    struct netmap_ring *tx = nm_txring(from->nifp, 0), *rx = nm_rxring(to->nifp, 0);

    hand_over(tx, write_slots(tx, atomic_load_explicit(&tx->head, memory_order_relaxed)));
    nm_txsync(from->file);
    nm_rxsync(to->file);
    uint32_t n = nm_ring_space(rx);
    hand_over(rx, atomic_load_explicit(&rx->tail, memory_order_acquire));
    return n;
}

bool ports_measure(struct ports_end *from, struct ports_end *to, int64_t slice_us, double *per_s,
                   GError **error)
{
    uint64_t n_sent = 0, n_received = 0;
    int64_t begin = processor_time_us(), now;

    do {
        for (unsigned i = 0; i < PORTS_SLOTS / PORTS_BURST; i++) {
            n_received += move(from, to);
            n_sent += PORTS_BURST;
        }
        now = processor_time_us();
    } while (now - begin < slice_us);
    if (n_received != n_sent) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG,
                    "%" G_GUINT64_FORMAT " frames were sent, %" G_GUINT64_FORMAT " came", n_sent,
                    n_received);
        return false;
    }
    *per_s = (double)n_received * 1e6 / (double)(now - begin);
    return true;
}

/* ---- bare loops ---- */

void ports_bare_copy(struct netmap_ring *tx, struct netmap_ring *rx, uint32_t at)
{
    for (unsigned i = 0; i < PORTS_BURST; i++) {
        struct netmap_slot *from = &tx->slot[at], *to = &rx->slot[at];
        memcpy(nm_buf(rx, to->buf_idx), nm_buf(tx, from->buf_idx), PORTS_FRAME_BYTES);
        to->len = from->len;
        to->flags = from->flags;
        at = nm_ring_next(tx, at);
    }
}

void ports_bare_swap(struct netmap_ring *tx, struct netmap_ring *rx, uint32_t at)
{
    for (unsigned i = 0; i < PORTS_BURST; i++) {
        struct netmap_slot slot = tx->slot[at];
        tx->slot[at] = rx->slot[at];
        rx->slot[at] = slot;
        at = nm_ring_next(tx, at);
    }
}

void ports_measure_bare(struct ports_end *from, struct ports_end *to, ports_bare_fn move_slots,
                        int64_t slice_us, double *per_s)
{
    struct netmap_ring *tx = nm_txring(from->nifp, 0), *rx = nm_rxring(to->nifp, 0);
    int64_t begin = processor_time_us(), now;
    uint64_t n = 0;

    do {
        for (uint32_t at = 0; at < PORTS_SLOTS; at += PORTS_BURST) {
            write_slots(tx, at);
            move_slots(tx, rx, at);
            atomic_store_explicit(&rx->tail, at, memory_order_release);
        }
        n += PORTS_SLOTS;
        now = processor_time_us();
    } while (now - begin < slice_us);
    *per_s = (double)n * 1e6 / (double)(now - begin);
}
