/*
 * What the threads of `ringlab pktgen` have in common: start and end, waiting, rings, counters.
 */
#include "harness/pktgen/pktgen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t pktgen_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- threads ---- */

static void *run(void *data)
{
    static void (*const bodies[PKTGEN_N_MODES])(struct pktgen_worker *) = {
        [PKTGEN_RX] = pktgen_receive, [PKTGEN_TX] = pktgen_send,
        [PKTGEN_PING] = pktgen_ping,  [PKTGEN_PONG] = pktgen_pong,
        [PKTGEN_TXSEQ] = pktgen_send, [PKTGEN_RXSEQ] = pktgen_receive_sequences,
    };
    struct pktgen_worker *w = data;
    const uint64_t one = 1;

    bodies[w->group->options->mode](w);
    atomic_store(&w->is_done, true);
    (void)!write(w->group->bed->done_fd, &one, sizeof(one));
    return NULL;
}

/* Receivers first, so that they are there when something comes. */
static int start_all(struct pktgen_bed *bed, bool senders)
{
    int err = 0;

    for (unsigned i = 0; i < bed->groups->len; i++) {
        struct pktgen_group *group = g_ptr_array_index(bed->groups, i);
        for (unsigned k = 0; k < group->n_workers; k++) {
            struct pktgen_worker *w = &group->workers[k];
            if (!err && pktgen_sends(group->options->mode) == senders) {
                err = pthread_create(&w->thread, NULL, run, w);
                w->is_started = err == 0;
            }
        }
    }
    return err;
}

bool pktgen_start(struct pktgen_bed *bed, GError **error)
{
    sigset_t all, before;
    int err;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = start_all(bed, false);
    err = err ? err : start_all(bed, true);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) {
        g_set_error(error, PKTGEN_ERROR, PKTGEN_ERROR_FAILED, "a thread cannot be started: %s",
                    g_strerror(err));
    }
    return !err;
}

void pktgen_join(struct pktgen_bed *bed)
{
    for (unsigned i = 0; i < bed->groups->len; i++) {
        struct pktgen_group *group = g_ptr_array_index(bed->groups, i);
        for (unsigned k = 0; k < group->n_workers; k++) {
            if (group->workers[k].is_started) {
                pthread_join(group->workers[k].thread, NULL);
                group->workers[k].is_started = false;
            }
        }
    }
}

/* ---- waiting ---- */

bool pktgen_is_stopped(const struct pktgen_worker *w)
{
    const struct pktgen_bed *bed = w->group->bed;

    return atomic_load_explicit(&bed->is_stopping, memory_order_relaxed) ||
           (atomic_load_explicit(&bed->is_send_stopping, memory_order_relaxed) &&
            pktgen_sends(w->group->options->mode)) ||
           atomic_load_explicit(&w->is_gone, memory_order_relaxed);
}

bool pktgen_wait(struct pktgen_worker *w, short events, int64_t timeout_ns)
{
    const struct pktgen_bed *bed = w->group->bed;
    const int64_t ns = timeout_ns < 0 || timeout_ns > 999999999 ? 999999999 : timeout_ns;
    const struct timespec timeout = {.tv_nsec = ns};
    struct pollfd fds[] = {
        {.fd = pktgen_sends(w->group->options->mode) ? bed->send_stop_fd : bed->stop_fd,
         .events = POLLIN},
        {.fd = nm_poll_fd(w->port->file), .events = POLLIN},
    };

    if (events) {
        const short found = nm_poll(w->port->file, events);
        if (found & POLLERR) {
            atomic_store(&w->is_gone, true);
        }
        if (found) {
            return !pktgen_is_stopped(w);
        }
    }
    (void)ppoll(fds, events ? 2 : 1, &timeout, NULL);
    return !pktgen_is_stopped(w);
}

static bool check_sync(struct pktgen_worker *w, int err)
{
    if (err) {
        atomic_store(&w->is_gone, true);
    }
    return !err;
}

bool pktgen_txsync(struct pktgen_worker *w)
{
    return check_sync(w, nm_txsync(w->port->file));
}

bool pktgen_rxsync(struct pktgen_worker *w)
{
    return check_sync(w, nm_rxsync(w->port->file));
}

/* ---- counters ---- */

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    /* one thread writes, others look */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void pktgen_count(struct pktgen_worker *w, uint64_t packets, uint64_t bytes)
{
    if (packets == 0) {
        return;
    }
    w->last_ns = pktgen_now_ns();
    w->first_ns = w->first_ns ? w->first_ns : w->last_ns;
    add(&w->counters.packets, packets);
    add(&w->counters.bytes, bytes);
    add(&w->counters.bursts, 1);
}

/* ---- rings ---- */

uint32_t pktgen_frame_slots(const struct netmap_ring *ring, uint32_t *len)
{
    uint32_t at = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t n = 0;

    *len = 0;
    for (uint32_t space = nm_ring_space(ring); n < space; at = nm_ring_next(ring, at)) {
        *len += ring->slot[at].len;
        n++;
        if (!(ring->slot[at].flags & NS_MOREFRAG)) {
            return n;
        }
    }
    return 0;
}

void pktgen_advance(struct netmap_ring *ring, uint32_t n)
{
    const uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed) + n;
    const uint32_t next = head >= ring->num_slots ? head - ring->num_slots : head;

    atomic_store_explicit(&ring->cur, next, memory_order_relaxed);
    atomic_store_explicit(&ring->head, next, memory_order_release);
}

static void fill_slot(const struct pktgen_worker *w, struct netmap_ring *ring, uint32_t at,
                      const uint8_t *data, uint32_t len, bool has_more)
{
    struct netmap_slot *slot = &ring->slot[at];

    slot->len = (uint16_t)len;
    slot->flags = (uint16_t)((slot->flags & NS_BUF_CHANGED) | (has_more ? NS_MOREFRAG : 0));
    if (w->indirect) {
        slot->flags |= NS_INDIRECT;
        slot->ptr = (uintptr_t)data;
    } else {
        memcpy(nm_buf(ring, slot->buf_idx), data, len);
    }
}

bool pktgen_put(struct pktgen_worker *w, struct netmap_ring *ring, uint64_t time_ns)
{
    const uint32_t n = w->group->n_fragments;
    uint32_t at = atomic_load_explicit(&ring->head, memory_order_relaxed);
    const uint8_t *data;

    if (nm_ring_space(ring) < n) {
        return false;
    }
    if (w->packet.options.is_tagged) {
        packet_set_tag(&w->packet, &(struct packet_tag){w->sequence++, time_ns, w->stream});
    }
    data = packet_data(&w->packet);
    if (w->indirect) {
        data = memcpy(w->indirect + (size_t)at * w->indirect_step, data, w->packet.len);
    }
    const uint32_t step = (w->packet.len + n - 1) / n;
    for (uint32_t done = 0; done < w->packet.len; done += step, at = nm_ring_next(ring, at)) {
        const uint32_t len = MIN(step, w->packet.len - done);
        fill_slot(w, ring, at, data + done, len, done + len < w->packet.len);
    }
    pktgen_advance(ring, (w->packet.len + step - 1) / step);
    packet_next(&w->packet);
    return true;
}

unsigned pktgen_put_burst(struct pktgen_worker *w, unsigned n, uint64_t time_ns, uint64_t *bytes)
{
    unsigned n_put = 0;

    *bytes = 0;
    for (unsigned i = w->port->first_tx_ring; i <= w->port->last_tx_ring && n_put < n; i++) {
        struct netmap_ring *ring = pktgen_txring(w, i);
        uint32_t len = w->packet.len;
        while (n_put < n && pktgen_put(w, ring, time_ns)) {
            *bytes += len - w->group->vnet_hdr;
            len = w->packet.len;
            n_put++;
        }
    }
    return n_put;
}
