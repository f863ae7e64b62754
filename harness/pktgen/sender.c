/*
 * Sending: tx and txseq.
 */
#include "harness/pktgen/pktgen.h"

#include <poll.h>

uint64_t pktgen_next_due(const struct pktgen_worker *w, uint64_t due_ns, unsigned sent)
{
    const struct pktgen_group *group = w->group;
    const uint64_t step =
        (uint64_t)sent * 1000000000u * group->n_workers / group->options->rate_pps;
    const uint64_t now = pktgen_now_ns(), next = due_ns + step;

    /* who is a second late does not catch up */
    return next + 1000000000u < now ? now : next;
}

static bool has_pending(const struct pktgen_worker *w)
{
    for (unsigned i = w->port->first_tx_ring; i <= w->port->last_tx_ring; i++) {
        const struct netmap_ring *ring = pktgen_txring(w, i);
        if (nm_ring_space(ring) < ring->num_slots - 1) {
            return true;
        }
    }
    return false;
}

/* What the port has not yet taken: it has two seconds. */
static void flush(struct pktgen_worker *w)
{
    const uint64_t deadline = pktgen_now_ns() + 2000000000u;

    while (pktgen_txsync(w) && has_pending(w) && pktgen_now_ns() < deadline &&
           pktgen_wait(w, 0, 1000000)) {
    }
}

void pktgen_send(struct pktgen_worker *w)
{
    const bool is_paced = w->group->options->rate_pps > 0;
    uint64_t due = pktgen_now_ns(), left = w->n_packets;

    while (left > 0 && !pktgen_is_stopped(w)) {
        const uint64_t now = is_paced ? pktgen_now_ns() : 0;
        if (is_paced && now < due) {
            pktgen_wait(w, 0, (int64_t)(due - now));
            continue;
        }
        uint64_t bytes;
        const unsigned n = pktgen_put_burst(w, (unsigned)MIN(w->group->burst, left), 0, &bytes);
        if (n == 0) {
            pktgen_wait(w, POLLOUT, -1);
            continue;
        }
        if (!pktgen_txsync(w)) {
            return;
        }
        pktgen_count(w, n, bytes);
        left -= left == UINT64_MAX ? 0 : n;
        due = is_paced ? pktgen_next_due(w, due, n) : 0;
    }
    flush(w);
}
