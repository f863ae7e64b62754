/*
 * Pipes (netmap.md 10): two ends whose tx and rx rings are linked crosswise. Slots travel, data
 * does not: a buffer belongs to whichever end's ring has its slot. Both ends and all their rings
 * are made together and live until both are closed. Who is found under which name is in
 * nm_pipe_resolve.c.
 */
#include "models/netmap/nm_pipe_private.h"

#include <errno.h>

/* ---- slots ---- */

struct slot_copy {
    union nm_slot_word w;
    uint64_t ptr;
};

static inline struct slot_copy slot_read(const struct netmap_slot *slot)
{
    return (struct slot_copy){nm_slot_load(slot), __atomic_load_n(&slot->ptr, __ATOMIC_RELAXED)};
}

/* The copy says BUF_CHANGED if the original did; the original, which was seen to, no longer. */
static inline void slot_move(struct netmap_slot *to, struct netmap_slot *from, struct slot_copy s)
{
    nm_slot_store(to, s.w);
    __atomic_store_n(&to->ptr, s.ptr, __ATOMIC_RELAXED);
    if (s.w.flags & NS_BUF_CHANGED) {
        s.w.flags &= (uint16_t)~NS_BUF_CHANGED;
        nm_slot_store(from, s.w);
    }
}

static uint64_t offset_of(const struct nm_kring *kring, uint64_t ptr)
{
    return MIN(ptr & kring->offset_mask, kring->offset_max);
}

/* The larger of the sender's offset and the one that the receiver's slot had stays. */
static uint64_t keep_offset(const struct nm_kring *rx, const struct netmap_slot *to, uint64_t ptr)
{
    const uint64_t had = offset_of(rx, __atomic_load_n(&to->ptr, __ATOMIC_RELAXED));

    return offset_of(rx, ptr) < had ? (ptr & ~rx->offset_mask) | had : ptr;
}

/* Four slots at once, where all of them are of the common kind: loaded once, and stored if none has
 * one of `flags`. Returns whether they were. */
typedef uint64_t slot_lanes __attribute__((vector_size(sizeof(struct netmap_slot)), may_alias));
enum { LANES = 4, FLAGS_SHIFT = 48 };

static inline bool move_four(struct netmap_slot *to, const struct netmap_slot *from, uint16_t flags)
{
    const slot_lanes *in = (const void *)from;
    slot_lanes *out = (void *)to;
    const slot_lanes a = in[0], b = in[1], c = in[2], d = in[3];

    if (((a | b | c | d)[0] >> FLAGS_SHIFT) & flags) {
        return false;
    }
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
    return true;
}

/* Slots [from, to) one by one; returns behind the last that ends a packet, or `complete`. */
static uint32_t send_slots(struct nm_kring *tx, struct nm_kring *rx, uint32_t from, uint32_t to,
                           uint32_t complete)
{
    struct netmap_slot *ts = tx->ring->slot, *rs = rx->ring->slot;

    for (uint32_t i = from; i < to; i++) {
        struct slot_copy s = slot_read(&ts[i]);

        if (rx->offset_mask) {
            s.ptr = keep_offset(rx, &rs[i], s.ptr);
        }
        slot_move(&rs[i], &ts[i], s);
        if (!(s.w.flags & NS_MOREFRAG)) {
            complete = i + 1;
        }
    }
    return complete;
}

/* The same, four at a time where it can be. */
static uint32_t send_run(struct nm_kring *tx, struct nm_kring *rx, uint32_t from, uint32_t to,
                         uint32_t complete)
{
    struct netmap_slot *ts = tx->ring->slot, *rs = rx->ring->slot;
    uint32_t i = from;

    if (rx->offset_mask) {
        return send_slots(tx, rx, from, to, complete);
    }
    for (; to - i >= LANES; i += LANES) {
        complete = move_four(&rs[i], &ts[i], NS_BUF_CHANGED | NS_MOREFRAG)
                       ? i + LANES
                       : send_slots(tx, rx, i, i + LANES, complete);
    }
    return send_slots(tx, rx, i, to, complete);
}

static void return_slots(struct nm_kring *rx, struct nm_kring *tx, uint32_t from, uint32_t to)
{
    struct netmap_slot *ts = tx->ring->slot, *rs = rx->ring->slot;

    for (uint32_t i = from; i < to; i++) {
        slot_move(&ts[i], &rs[i], slot_read(&rs[i]));
    }
}

static void return_run(struct nm_kring *rx, struct nm_kring *tx, uint32_t from, uint32_t to)
{
    struct netmap_slot *ts = tx->ring->slot, *rs = rx->ring->slot;
    uint32_t i = from;

    for (; to - i >= LANES; i += LANES) {
        if (!move_four(&ts[i], &rs[i], NS_BUF_CHANGED)) {
            return_slots(rx, tx, i, i + LANES);
        }
    }
    return_slots(rx, tx, i, to);
}

/* ---- syncs ---- */

/* Into the other end's rx ring; what it sees grows by whole packets. */
static int pipe_txsync(struct nm_kring *tx, int flags)
{
    struct nm_kring *rx = tx->pipe;
    const uint32_t n = tx->num_slots, from = tx->hwcur, to = tx->rhead;
    uint32_t complete;

    (void)flags;
    atomic_store_explicit(&tx->hwtail, atomic_load_explicit(&tx->pipe_tail, memory_order_acquire),
                          memory_order_relaxed);
    if (from == to) {
        return 0;
    }
    complete = send_run(tx, rx, from, to < from ? n : to, n + 1); /* n + 1: none */
    if (to < from) {
        complete = send_run(tx, rx, 0, to, complete);
    }
    tx->hwcur = to;
    if (complete <= n) {
        atomic_store_explicit(&rx->pipe_tail, complete == n ? 0 : complete, memory_order_release);
        nm_kr_notify(rx, 0);
    }
    return 0;
}

/* What was released goes back to where it came from, with whatever buffer it has now. */
static int pipe_rxsync(struct nm_kring *rx, int flags)
{
    struct nm_kring *tx = rx->pipe;
    const uint32_t n = rx->num_slots, from = rx->hwcur, to = rx->rhead;

    (void)flags;
    atomic_store_explicit(&rx->hwtail, atomic_load_explicit(&rx->pipe_tail, memory_order_acquire),
                          memory_order_relaxed);
    if (from == to) {
        return 0;
    }
    return_run(rx, tx, from, to < from ? n : to);
    if (to < from) {
        return_run(rx, tx, 0, to);
    }
    rx->hwcur = to;
    atomic_store_explicit(&tx->pipe_tail, nm_prev(to, n), memory_order_release);
    nm_kr_notify(tx, 0);
    return 0;
}

/* ---- krings and rings of both ends ---- */

static void link_rings(struct nm_adapter *na, struct nm_adapter *other)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < na->n_rings[t]; i++) {
            struct nm_kring *kring = &na->krings[t][i];

            kring->pipe = other ? &other->krings[!t][i] : NULL;
            kring->sync = t == NM_TX ? pipe_txsync : pipe_rxsync;
            /* there from the first open of either end, with buffers that we look after */
            kring->flags |= NKR_FAKE | NKR_NEEDRING;
        }
    }
}

/* One set of buffers for a tx ring and the rx ring it is linked to. */
static int give_buffers(struct nm_kring *tx)
{
    const uint32_t n = tx->num_slots;
    g_autofree uint32_t *indices = g_new(uint32_t, n);

    if (!nm_mem_alloc_bufs(tx->na->mem, indices, n)) {
        return ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        tx->ring->slot[i].buf_idx = tx->pipe->ring->slot[i].buf_idx = indices[i];
    }
    return 0;
}

/* The buffers of a link: in the rx ring where it has slots that were published and not yet
 * returned, in the tx ring for the rest. */
static void take_buffers(struct nm_kring *tx)
{
    const struct nm_kring *rx = tx->pipe;
    const uint32_t n = tx->num_slots, first = rx->hwcur;
    const uint32_t n_at_rx = nm_dist(first, atomic_load(&rx->pipe_tail), n);

    for (uint32_t i = 0; tx->ring && rx->ring && i < n; i++) {
        const struct nm_kring *holder = nm_dist(first, i, n) < n_at_rx ? rx : tx;

        nm_mem_free_buf(tx->na->mem, nm_slot_load(&holder->ring->slot[i]).buf_idx);
    }
}

static void take_all_buffers(struct nm_adapter *na)
{
    for (unsigned i = 0; i < na->n_rings[NM_TX]; i++) {
        take_buffers(&na->krings[NM_TX][i]);
    }
}

static void free_rings(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < na->n_rings[t]; i++) {
            na->krings[t][i].flags &= (uint8_t)~NKR_NEEDRING;
        }
    }
    nm_rings_delete(na);
}

static int give_all_buffers(struct nm_adapter *na)
{
    int err = 0;

    for (unsigned i = 0; !err && i < na->n_rings[NM_TX]; i++) {
        err = give_buffers(&na->krings[NM_TX][i]);
    }
    return err;
}

/* For the end that is opened first this makes the other one's krings, and with those, called again,
 * the links and rings of both. */
int nm_pipe_krings_created(struct nm_adapter *na)
{
    struct nm_adapter *other = nm_pipe_peer(na);
    int err;

    if (!other->krings[NM_TX]) {
        return nm_krings_create(other);
    }
    link_rings(na, other);
    link_rings(other, na);
    err = nm_rings_create(na);
    if (!err) {
        err = nm_rings_create(other);
    }
    if (!err) {
        err = give_all_buffers(na);
    }
    if (!err) {
        err = give_all_buffers(other);
    }
    if (err) { /* slots without a buffer have index 0, which nobody frees */
        take_all_buffers(na);
        take_all_buffers(other);
        free_rings(na);
        free_rings(other);
    }
    return err;
}

void nm_pipe_krings_deleted(struct nm_adapter *na)
{
    struct nm_adapter *other = nm_pipe_peer(na);

    if (!na->krings[NM_TX][0].pipe) {
        return; /* the other end's deletion brought us here */
    }
    take_all_buffers(na);
    take_all_buffers(other);
    link_rings(na, NULL);
    link_rings(other, NULL);
    nm_krings_delete(other);
}

bool nm_pipe_keeps_krings(struct nm_adapter *na)
{
    return nm_pipe_peer(na)->active_files > 0;
}
