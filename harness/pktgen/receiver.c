/*
 * Receiving: rx, and rxseq, which looks at the sequence numbers of txseq.
 */
#include "harness/pktgen/pktgen.h"

#include <poll.h>

typedef void (*look_fn)(struct pktgen_worker *w, const uint8_t *frame, uint32_t len);

/* Takes up to `most` frames that are there. */
static uint64_t take(struct pktgen_worker *w, uint64_t most, look_fn look, uint64_t *bytes)
{
    const uint32_t hdr = w->group->vnet_hdr;
    uint64_t n = 0;

    *bytes = 0;
    for (unsigned i = w->port->first_rx_ring; i <= w->port->last_rx_ring; i++) {
        struct netmap_ring *ring = pktgen_rxring(w, i);
        uint32_t len, n_slots;
        while (n < most && (n_slots = pktgen_frame_slots(ring, &len)) > 0) {
            const struct netmap_slot *slot =
                &ring->slot[atomic_load_explicit(&ring->head, memory_order_relaxed)];
            len -= MIN(len, hdr);
            if (look && slot->len >= hdr) {
                look(w, (const uint8_t *)nm_buf(ring, slot->buf_idx) + hdr,
                     MIN(len, slot->len - hdr));
            }
            *bytes += len;
            pktgen_advance(ring, n_slots);
            n++;
        }
    }
    return n;
}

static void receive(struct pktgen_worker *w, look_fn look)
{
    uint64_t left = w->n_packets;

    while (left > 0 && !pktgen_is_stopped(w)) {
        uint64_t bytes;
        const uint64_t n = take(w, left, look, &bytes);
        pktgen_count(w, n, bytes);
        left -= left == UINT64_MAX ? 0 : n;
        if (n > 0) {
            if (!pktgen_rxsync(w)) {
                return;
            }
        } else {
            pktgen_wait(w, POLLIN, -1);
        }
    }
}

void pktgen_receive(struct pktgen_worker *w)
{
    receive(w, NULL);
}

static void bump(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void look_at_sequence(struct pktgen_worker *w, const uint8_t *frame, uint32_t len)
{
    struct packet_tag tag;

    if (!packet_get_tag(frame, len, &tag)) {
        bump(&w->counters.foreign, 1);
        return;
    }
    struct pktgen_stream *stream = &w->streams[tag.stream];
    const int32_t gap = (int32_t)(tag.sequence - (uint32_t)stream->next);
    stream->count++;
    if (gap < 0) {
        bump(&w->counters.reordered, 1);
    } else {
        stream->next += (uint64_t)gap + 1;
    }
}

void pktgen_receive_sequences(struct pktgen_worker *w)
{
    receive(w, look_at_sequence);
}
