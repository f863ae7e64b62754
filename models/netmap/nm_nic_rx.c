/*
 * What the receive rings of a NIC-like port do: frames from the wire or the stack to slots. A side
 * with one ring whose slots take any frame lets its back end fill the buffers; else frames go
 * through queues, one per ring. netmap.md 6, 13, 14.
 */
#include "models/netmap/nm_nic_private.h"

#include <errno.h>

enum { SPREAD_ROUNDS = 16 };

/* ---- from the back end to queues, or to the other side ---- */

/* Whether the ring that a frame belongs to is in netmap mode; *q: the queue. What the stack sends
 * follows the NIC's transmit rings (netmap.md 13). Krings exist. */
static bool is_for_ring(const struct nm_nic *nic, const struct nic_side *side,
                        const struct backend_frame *f, unsigned *q)
{
    const enum nm_txrx t = side == &nic->wire ? NM_RX : NM_TX;
    const unsigned i = nic_hash(f->data, f->len, nic->na.n_rings[t]);

    *q = side == &nic->wire ? i : i % nic->na.n_host_rings[NM_RX];
    return atomic_load(&nic->na.krings[t][i].is_on);
}

/* Puts a frame where it belongs. 1: into queue *q; 0: elsewhere; -1: the queue was full. */
static int place(struct nm_nic *nic, struct nic_side *side, const struct backend_frame *f,
                 bool has_krings, unsigned *q)
{
    if (!has_krings || !is_for_ring(nic, side, f, q)) {
        struct nic_side *other = nic_other_side(nic, side);
        if (other->backend) {
            nic_send(other, f->data, f->len);
        } else {
            side->dropped_rx++;
        }
        return 0;
    }
    if (side->queues && nic_queue_put(&side->queues[*q], f->data, f->len)) {
        return 1;
    }
    side->dropped_rx++;
    return -1;
}

static unsigned receive(struct nic_side *side, struct backend_frame *frames)
{
    for (unsigned i = 0; i < NIC_SCRATCH_FRAMES; i++) {
        frames[i] = (struct backend_frame){.data = side->scratch + (size_t)i * BACKEND_MAX_FRAME,
                                           .len = BACKEND_MAX_FRAME};
    }
    return backend_receive(side->backend, frames, NIC_SCRATCH_FRAMES);
}

/* Tells the rings of a set that something is in their queues. A notification that does more than
 * signal (a switch, a monitor) is the thread's to make. */
static void notify_rings(struct nm_nic *nic, struct nic_side *side, uint64_t set)
{
    struct nm_kring *krings = nic->na.krings[NM_RX] + nic_first_ring(nic, side, NM_RX);
    uint64_t left = 0;

    for (unsigned i = 0; set >> i != 0; i++) {
        if (set >> i & 1) {
            if (krings[i].notify == nm_notify) {
                nm_notify(&krings[i], 0);
            } else {
                left |= UINT64_C(1) << i;
            }
        }
        if (i == NIC_MAX_RINGS - 1) {
            break;
        }
    }
    if (left) {
        atomic_fetch_or(&side->pending, left);
        nic_wake_thread(nic);
    }
}

bool nic_pump(struct nm_nic *nic, struct nic_side *side)
{
    const bool has_krings = nic->is_active;
    bool is_dry = false, is_full = false;
    uint64_t filled = 0;

    pthread_mutex_lock(&side->rx_lock);
    for (unsigned rounds = 0; rounds < SPREAD_ROUNDS && !is_dry && !is_full; rounds++) {
        struct backend_frame frames[NIC_SCRATCH_FRAMES];
        unsigned n = receive(side, frames), q;
        for (unsigned i = 0; i < n; i++) {
            int placed = place(nic, side, &frames[i], has_krings, &q);
            filled |= placed > 0 ? UINT64_C(1) << q : 0;
            is_full |= placed < 0;
        }
        is_dry = n < NIC_SCRATCH_FRAMES;
    }
    pthread_mutex_unlock(&side->rx_lock);
    atomic_fetch_or(&side->pending, filled);
    return !is_full;
}

/* Called by the ring that wants frames itself: until its queue is half full. */
static uint64_t spread(struct nm_kring *kring, struct nic_side *side, unsigned own)
{
    struct nm_nic *nic = nic_of(kring);
    const struct nic_queue *queue = &side->queues[own];
    uint64_t filled = 0;

    for (unsigned rounds = 0; rounds < SPREAD_ROUNDS; rounds++) {
        struct backend_frame frames[NIC_SCRATCH_FRAMES];
        if (queue->n_frames >= queue->max_frames / 2 ||
            queue->n_in - queue->n_out >= queue->size / 2) {
            break;
        }
        unsigned n = receive(side, frames), q;
        for (unsigned i = 0; i < n; i++) {
            if (place(nic, side, &frames[i], true, &q) > 0 && q != own) {
                filled |= UINT64_C(1) << q;
            }
        }
        if (n < NIC_SCRATCH_FRAMES) {
            break;
        }
    }
    return filled;
}

/* ---- to slots ---- */

/* What the stack sends while the NIC does not transmit for netmap is the driver's. */
static bool is_cut_off(const struct nm_nic *nic, const struct nic_side *side)
{
    return side == &nic->stack && !side->queues && !atomic_load(&nic->na.krings[NM_TX][0].is_on);
}

static void fill_slot(struct netmap_slot *slot, uint32_t buf_idx, uint32_t len, uint16_t flags)
{
    nm_slot_store(slot,
                  (union nm_slot_word){.buf_idx = buf_idx, .len = (uint16_t)len, .flags = flags});
}

static uint32_t max_slot_len(const struct nm_kring *kring)
{
    return MIN(kring->usable_len, (uint32_t)UINT16_MAX);
}

/* One ring alone: the back end fills its buffers. *is_dry: nothing more is there. Returns the new
 * tail; *error: EIO for a slot without a buffer. */
static uint32_t receive_directly(struct nm_kring *kring, struct nic_side *side, uint32_t tail,
                                 uint32_t stop, bool *is_dry, int *error)
{
    struct backend_frame frames[NIC_BURST];
    uint32_t indices[NIC_BURST] = {0};

    *is_dry = false;
    while (tail != stop && !*is_dry && *error == 0) {
        unsigned n = 0;
        for (uint32_t at = tail; at != stop && n < NIC_BURST; at = nm_next(at, kring->num_slots)) {
            const struct netmap_slot *slot = &kring->ring->slot[at];
            indices[n] = nm_slot_load(slot).buf_idx;
            frames[n] = (struct backend_frame){.data = nic_slot_data(kring, slot, indices[n]),
                                               .len = max_slot_len(kring)};
            if (!frames[n].data) {
                *error = EIO;
                break;
            }
            n++;
        }
        unsigned n_got = n > 0 ? backend_receive(side->backend, frames, n) : 0;
        *is_dry = n_got < n;
        for (unsigned i = 0; i < n_got; i++) {
            fill_slot(&kring->ring->slot[tail], indices[i], frames[i].len, 0);
            tail = nm_next(tail, kring->num_slots);
        }
    }
    return tail;
}

/* One frame out of its queue into n_slots slots from `at` on. False: a slot has no buffer. */
static bool fill_slots(struct nm_kring *kring, const struct nic_queue *q, uint32_t len, uint32_t at)
{
    const uint32_t room = max_slot_len(kring);

    for (uint32_t done = 0; done < len; done += room, at = nm_next(at, kring->num_slots)) {
        struct netmap_slot *slot = &kring->ring->slot[at];
        uint32_t idx = nm_slot_load(slot).buf_idx, n = MIN(room, len - done);
        uint8_t *data = nic_slot_data(kring, slot, idx);
        if (!data) {
            return false;
        }
        nic_queue_copy(q, done, data, n);
        fill_slot(slot, idx, n, done + n < len ? NS_MOREFRAG : 0);
    }
    return true;
}

/* Takes frames out of the ring's queue; one longer than a buffer goes into several slots, but never
 * in a host ring (netmap.md 13). */
static uint32_t take_queued(struct nm_kring *kring, struct nic_side *side, struct nic_queue *q,
                            uint32_t tail, uint32_t stop, int *error)
{
    const uint32_t room = max_slot_len(kring);
    uint32_t len;

    while ((len = nic_queue_first(q)) > 0) {
        uint32_t n_slots = (len + room - 1) / room;
        if ((n_slots > 1 && nic_is_host_ring(kring)) || n_slots >= kring->num_slots ||
            n_slots > NETMAP_MAX_FRAGS) {
            side->dropped_rx++;
            nic_queue_drop(q);
            continue;
        }
        if (nm_dist(tail, stop, kring->num_slots) < n_slots) {
            break;
        }
        if (!fill_slots(kring, q, len, tail)) {
            *error = EIO;
            break;
        }
        nic_queue_drop(q);
        tail = (tail + n_slots) % kring->num_slots;
    }
    return tail;
}

static void release_slots(struct nm_kring *kring, int flags)
{
    if (nic_is_host_ring(kring) && (flags & NAF_CAN_FORWARD_DOWN)) {
        nic_forward_down(kring);
    }
    for (uint32_t at = kring->hwcur; at != kring->rhead; at = nm_next(at, kring->num_slots)) {
        struct netmap_slot *slot = &kring->ring->slot[at];
        union nm_slot_word w = nm_slot_load(slot);
        if (w.flags & NS_BUF_CHANGED) {
            w.flags = (uint16_t)(w.flags & ~NS_BUF_CHANGED);
            nm_slot_store(slot, w);
        }
    }
    kring->hwcur = kring->rhead;
}

int nic_rxsync(struct nm_kring *kring, int flags)
{
    struct nm_nic *nic = nic_of(kring);
    struct nic_side *side = nic_side_of(kring);
    const unsigned own = kring->ring_id - nic_first_ring(nic, side, NM_RX);
    uint32_t tail = atomic_load_explicit(&kring->hwtail, memory_order_relaxed);
    uint64_t others = 0;
    bool wants_more = false;
    int error = 0;

    release_slots(kring, flags);
    const uint32_t stop = nm_prev(kring->hwcur, kring->num_slots);
    if (side->backend && !is_cut_off(nic, side)) {
        pthread_mutex_lock(&side->rx_lock);
        if (side->queues) {
            others = spread(kring, side, own);
            tail = take_queued(kring, side, &side->queues[own], tail, stop, &error);
            wants_more = true; /* for the other rings, too */
        } else {
            tail = receive_directly(kring, side, tail, stop, &wants_more, &error);
        }
        pthread_mutex_unlock(&side->rx_lock);
    }
    atomic_store_explicit(&kring->hwtail, tail, memory_order_relaxed);
    notify_rings(nic, side, others);
    if (wants_more) {
        nic_arm(nic, side);
    }
    if (error) {
        nm_ring_reinit(kring);
    }
    return error;
}
