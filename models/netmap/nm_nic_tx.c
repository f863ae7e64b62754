/*
 * What the transmit rings of a NIC-like port do: frames from slots to the wire or the stack.
 * netmap.md 6 (rings), 13 (host rings), 14 (emulated adapters).
 */
#include "models/netmap/nm_nic_private.h"

#include <string.h>

uint8_t *nic_slot_data(const struct nm_kring *kring, const struct netmap_slot *slot,
                       uint32_t buf_idx)
{
    if (!nm_buf_index_ok(buf_idx, kring->buf_total)) {
        return NULL;
    }
    uint8_t *buf = kring->buf_base + (uint64_t)buf_idx * kring->buf_size;
    if (kring->offset_mask) {
        uint64_t ptr = __atomic_load_n(&slot->ptr, __ATOMIC_RELAXED);
        buf += MIN(ptr & kring->offset_mask, kring->offset_max);
    }
    return buf;
}

/* Frames of a burst, and how many slots each takes. */
struct outgoing {
    struct backend_frame frames[NIC_BURST]; /* len 0: bad, to be dropped */
    uint32_t n_slots[NIC_BURST];
    unsigned n;
};

/* A frame of several slots, put together in side->joined. Returns how many slots; 0: its end is not
 * there yet. *len: bytes; 0: too long, or a bad slot. */
static uint32_t join(const struct nm_kring *kring, struct nic_side *side, uint32_t from,
                     uint32_t end, uint32_t *len)
{
    uint32_t n_slots = 0, total = 0;
    bool is_bad = false, is_last = false;

    for (uint32_t at = from; !is_last && at != end; at = nm_next(at, kring->num_slots)) {
        const struct netmap_slot *slot = &kring->ring->slot[at];
        union nm_slot_word w = nm_slot_load(slot);
        const uint8_t *data = nic_slot_data(kring, slot, w.buf_idx);
        if (++n_slots > NETMAP_MAX_FRAGS || !data || w.len > kring->usable_len ||
            total + w.len > BACKEND_MAX_FRAME) {
            is_bad = true;
        } else if (!is_bad) {
            memcpy(side->joined + total, data, w.len);
            total += w.len;
        }
        is_last = !(w.flags & NS_MOREFRAG);
    }
    *len = is_bad || total < NIC_MIN_FRAME ? 0 : total;
    return is_last || n_slots > NETMAP_MAX_FRAGS || n_slots == kring->num_slots - 1 ? n_slots : 0;
}

/* Gathers frames from `at` on: up to a burst, or one that had to be put together. */
static void gather(struct nm_kring *kring, struct nic_side *side, uint32_t at, uint32_t end,
                   struct outgoing *out)
{
    const bool joins = !nic_of(kring)->is_emulated && !nic_is_host_ring(kring);

    out->n = 0;
    while (at != end && out->n < NIC_BURST) {
        const struct netmap_slot *slot = &kring->ring->slot[at];
        union nm_slot_word w = nm_slot_load(slot);
        struct backend_frame *f = &out->frames[out->n];

        *f = (struct backend_frame){0};
        if (joins && (w.flags & NS_MOREFRAG)) {
            if (out->n == 0) { /* `joined` holds one */
                f->data = side->joined;
                out->n_slots[0] = join(kring, side, at, end, &f->len);
                out->n = out->n_slots[0] > 0;
            }
            return;
        }
        f->data = nic_slot_data(kring, slot, w.buf_idx);
        f->len = f->data && w.len <= kring->usable_len && w.len >= NIC_MIN_FRAME ? w.len : 0;
        out->n_slots[out->n++] = 1;
        at = nm_next(at, kring->num_slots);
    }
}

static void count_bad(struct nm_kring *kring, struct nic_side *side)
{
    const uint64_t n = ++side->dropped_tx;

    if ((n & (n - 1)) == 0) { /* 1, 2, 4 ... : no flood of lines */
        nm_log(kring->na->host, "%s: a frame that cannot be sent (%" G_GUINT64_FORMAT " so far)",
               kring->name, n);
    }
}

/* How many frames of the burst are done with: sent, or bad. */
static unsigned send_burst(struct nm_kring *kring, struct nic_side *side,
                           const struct outgoing *out)
{
    unsigned n_done = 0;

    while (n_done < out->n) {
        unsigned n = 0;
        while (n_done + n < out->n && out->frames[n_done + n].len > 0) {
            n++;
        }
        if (n == 0) {
            count_bad(kring, side);
            n_done++;
            continue;
        }
        unsigned n_sent = side->backend ? backend_send(side->backend, &out->frames[n_done], n) : n;
        n_done += n_sent;
        if (n_sent < n) {
            break;
        }
    }
    return n_done;
}

static void clear_changed(struct nm_kring *kring, uint32_t from, uint32_t to)
{
    for (; from != to; from = nm_next(from, kring->num_slots)) {
        struct netmap_slot *slot = &kring->ring->slot[from];
        union nm_slot_word w = nm_slot_load(slot);
        if (w.flags & NS_BUF_CHANGED) {
            w.flags = (uint16_t)(w.flags & ~NS_BUF_CHANGED);
            nm_slot_store(slot, w);
        }
    }
}

int nic_txsync(struct nm_kring *kring, int flags)
{
    struct nic_side *side = nic_side_of(kring);
    struct outgoing out;
    uint32_t at = kring->hwcur, end = kring->rhead, first = at;
    bool is_stalled = false;

    (void)flags;
    pthread_mutex_lock(&side->tx_lock);
    if (at == end && side->backend) {
        backend_send(side->backend, NULL, 0); /* the rest of what it took a part of */
    }
    while (at != end && !is_stalled) {
        gather(kring, side, at, end, &out);
        if (out.n == 0) {
            break;
        }
        unsigned n_done = send_burst(kring, side, &out);
        is_stalled = n_done < out.n;
        for (unsigned i = 0; i < n_done; i++) {
            at = (at + out.n_slots[i]) % kring->num_slots;
        }
    }
    if (is_stalled && nic_is_host_ring(kring)) { /* the stack never makes it wait */
        side->dropped_tx += nm_dist(at, end, kring->num_slots);
        at = end;
        is_stalled = false;
    }
    pthread_mutex_unlock(&side->tx_lock);
    clear_changed(kring, first, at);
    kring->hwcur = at;
    atomic_store_explicit(&kring->hwtail, nm_prev(at, kring->num_slots), memory_order_relaxed);
    if (is_stalled && !atomic_exchange(&side->is_stalled, true)) {
        nic_wake_thread(nic_of(kring));
    }
    return 0;
}

void nic_send(struct nic_side *side, uint8_t *frame, uint32_t len)
{
    struct backend_frame f = {frame, len, 0};

    pthread_mutex_lock(&side->tx_lock);
    if (!side->backend || len < NIC_MIN_FRAME || backend_send(side->backend, &f, 1) != 1) {
        side->dropped_tx++;
    }
    pthread_mutex_unlock(&side->tx_lock);
}
