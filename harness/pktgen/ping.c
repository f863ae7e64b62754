/*
 * Round trips: ping sends tagged packets and waits for their answers, pong answers.
 */
#include "harness/pktgen/pktgen.h"

#include <poll.h>
#include <string.h>

enum { ANSWER_NS = 1000000000 }; /* later ones are lost */

static void bump(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- ping ---- */

/* Answers to the packets from `first` on: how many. */
static unsigned take_answers(struct pktgen_worker *w, uint32_t first, uint64_t *bytes)
{
    const uint32_t hdr = w->group->vnet_hdr;
    unsigned n = 0;

    *bytes = 0;
    for (unsigned i = w->port->first_rx_ring; i <= w->port->last_rx_ring; i++) {
        struct netmap_ring *ring = pktgen_rxring(w, i);
        uint32_t len, n_slots;
        while ((n_slots = pktgen_frame_slots(ring, &len)) > 0) {
            const struct netmap_slot *slot =
                &ring->slot[atomic_load_explicit(&ring->head, memory_order_relaxed)];
            const uint8_t *frame = (const uint8_t *)nm_buf(ring, slot->buf_idx) + hdr;
            struct packet_tag tag;
            if (slot->len < hdr || !packet_get_tag(frame, slot->len - hdr, &tag) ||
                tag.stream != w->stream || (int32_t)(tag.sequence - first) < 0) {
                bump(&w->counters.foreign, 1);
            } else {
                pktgen_count_latency(w, pktgen_now_ns() - tag.time_ns);
                *bytes += len - hdr;
                n++;
            }
            pktgen_advance(ring, n_slots);
        }
    }
    return n;
}

/* Sends a burst; how many. 0: stopped. */
static unsigned send_burst(struct pktgen_worker *w, unsigned n)
{
    uint64_t bytes;
    unsigned n_put;

    while ((n_put = pktgen_put_burst(w, n, pktgen_now_ns(), &bytes)) == 0) {
        if (!pktgen_wait(w, POLLOUT, -1)) {
            return 0;
        }
    }
    return pktgen_txsync(w) ? n_put : 0;
}

static unsigned wait_for_answers(struct pktgen_worker *w, unsigned n, uint32_t first)
{
    const uint64_t deadline = pktgen_now_ns() + ANSWER_NS;
    unsigned n_got = 0;

    while (n_got < n) {
        uint64_t bytes, now;
        const unsigned n_new = take_answers(w, first, &bytes);
        pktgen_count(w, n_new, bytes);
        n_got += n_new;
        now = pktgen_now_ns();
        if (n_got >= n || now >= deadline || !pktgen_wait(w, POLLIN, (int64_t)(deadline - now))) {
            break;
        }
    }
    return n_got;
}

void pktgen_ping(struct pktgen_worker *w)
{
    uint64_t due = pktgen_now_ns(), left = w->n_packets;

    while (left > 0 && !pktgen_is_stopped(w)) {
        const uint64_t now = pktgen_now_ns();
        if (w->group->options->rate_pps && now < due) {
            pktgen_wait(w, 0, (int64_t)(due - now));
            continue;
        }
        const uint32_t first = w->sequence;
        const unsigned n = send_burst(w, (unsigned)MIN(w->group->burst, left));
        const unsigned n_got = wait_for_answers(w, n, first);
        left -= left == UINT64_MAX ? 0 : n;
        if (n_got < n && !pktgen_is_stopped(w)) {
            bump(&w->counters.lost, n - n_got);
        }
        due = w->group->options->rate_pps ? pktgen_next_due(w, due, n) : 0;
    }
}

/* ---- pong ---- */

/* Copies a frame into free slots of a tx ring, turned round. False: no room. */
static bool answer(struct pktgen_worker *w, const struct netmap_ring *rx, uint32_t n_slots,
                   struct netmap_ring *tx)
{
    uint32_t from = atomic_load_explicit(&rx->head, memory_order_relaxed);
    uint32_t to = atomic_load_explicit(&tx->head, memory_order_relaxed);
    const uint32_t hdr = w->group->vnet_hdr;

    if (nm_ring_space(tx) < n_slots) {
        return false;
    }
    for (uint32_t i = 0; i < n_slots; i++) {
        const struct netmap_slot *slot = &rx->slot[from];
        struct netmap_slot *out = &tx->slot[to];
        char *data = nm_buf(tx, out->buf_idx);
        const uint32_t len = MIN(slot->len, tx->nr_buf_size);
        memcpy(data, nm_buf(rx, slot->buf_idx), len);
        if (i == 0 && len >= hdr) {
            packet_turn((uint8_t *)data + hdr, len - hdr);
        }
        out->len = (uint16_t)len;
        out->flags = (uint16_t)((out->flags & NS_BUF_CHANGED) | (slot->flags & NS_MOREFRAG));
        from = nm_ring_next(rx, from);
        to = nm_ring_next(tx, to);
    }
    pktgen_advance(tx, n_slots);
    return true;
}

static bool is_tagged(const struct pktgen_worker *w, const struct netmap_ring *ring)
{
    const struct netmap_slot *slot =
        &ring->slot[atomic_load_explicit(&ring->head, memory_order_relaxed)];
    const uint32_t hdr = w->group->vnet_hdr;
    struct packet_tag tag;

    return slot->len >= hdr && packet_get_tag((const uint8_t *)nm_buf(ring, slot->buf_idx) + hdr,
                                              slot->len - hdr, &tag);
}

/* Answers what is there, up to `most` packets. *is_full: some are left for want of room. */
static unsigned answer_all(struct pktgen_worker *w, uint64_t most, uint64_t *bytes, bool *is_full)
{
    struct netmap_ring *tx = pktgen_txring(w, w->port->first_tx_ring);
    unsigned n = 0;

    *bytes = 0;
    *is_full = false;
    for (unsigned i = w->port->first_rx_ring; i <= w->port->last_rx_ring && !*is_full; i++) {
        struct netmap_ring *ring = pktgen_rxring(w, i);
        uint32_t len, n_slots;
        while (n < most && (n_slots = pktgen_frame_slots(ring, &len)) > 0) {
            if (!is_tagged(w, ring)) {
                bump(&w->counters.foreign, 1);
            } else if (answer(w, ring, n_slots, tx)) {
                *bytes += len - w->group->vnet_hdr;
                n++;
            } else {
                *is_full = true;
                break;
            }
            pktgen_advance(ring, n_slots);
        }
    }
    return n;
}

void pktgen_pong(struct pktgen_worker *w)
{
    uint64_t left = w->n_packets;

    while (left > 0 && !pktgen_is_stopped(w)) {
        uint64_t bytes;
        bool is_full;
        const unsigned n = answer_all(w, left, &bytes, &is_full);
        if (n > 0 && !pktgen_txsync(w)) {
            return;
        }
        pktgen_count(w, n, bytes);
        left -= left == UINT64_MAX ? 0 : n;
        if (n == 0) {
            pktgen_wait(w, is_full ? POLLOUT : POLLIN, -1);
        }
    }
}
