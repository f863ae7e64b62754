/*
 * What monitors do to frames: copies are made of what a transmit ring is about to send and of what
 * a receive ring has got; zero-copy monitors take the buffers of slots that are given back.
 * Nothing here waits for a monitor: where one has no room the oldest of the new slots are skipped.
 */
#include "models/netmap/nm_monitor_private.h"

#include <errno.h>
#include <string.h>

/* ---- room in a monitor's ring ---- */

/* New slots of a monitored ring that go to one monitor, and where they go. */
struct batch {
    struct nm_kring *from, *to;
    uint32_t first, n; /* in `from` */
    uint32_t at;       /* in `to` */
};

/* Takes the monitor's lock. Of more slots than there is room for, the most recent remain. */
static struct batch begin(struct nm_kring *from, struct nm_kring *to, uint32_t first, uint32_t n)
{
    struct nm_monitor_ring *ring = to->port_data;

    pthread_mutex_lock(&ring->lock);
    uint32_t at = atomic_load_explicit(&to->hwtail, memory_order_relaxed);
    uint32_t room = to->num_slots - 1 - nm_dist(to->hwcur, at, to->num_slots);
    if (n > room) {
        first = (first + (n - room)) % from->num_slots;
        n = room;
    }
    return (struct batch){.from = from, .to = to, .first = first, .n = n, .at = at};
}

static void end(struct batch *b)
{
    struct nm_monitor_ring *ring = b->to->port_data;

    atomic_store_explicit(&b->to->hwtail, (b->at + b->n) % b->to->num_slots, memory_order_release);
    pthread_mutex_unlock(&ring->lock);
    if (b->n > 0)
        nm_kr_notify(b->to, 0);
}

/* ---- copies ---- */

static uint32_t offset_in(const struct nm_kring *kring, const struct netmap_slot *slot)
{
    uint64_t ptr = __atomic_load_n(&slot->ptr, __ATOMIC_RELAXED);

    return (uint32_t)MIN(ptr & kring->offset_mask, kring->offset_max);
}

/* Copies at most `room` bytes of a frame; returns how many. What an application got wrong in its
 * slot, or an address of indirect data that is not mapped or a guest's, is an empty frame. */
static uint32_t copy_frame(const struct nm_kring *from, const struct netmap_slot *slot,
                           union nm_slot_word w, uint8_t *to, uint32_t room)
{
    if (w.flags & NS_INDIRECT) {
        uint32_t len = MIN(w.len, room);
        uint64_t ptr = __atomic_load_n(&slot->ptr, __ATOMIC_RELAXED);
        bool is_ours = !(from->flags & NKR_NO_INDIRECT);
        return is_ours && nm_copyin(to, ptr, len) == 0 ? len : 0;
    }
    uint32_t offset = offset_in(from, slot);
    if (w.buf_idx >= from->buf_total || w.len > from->buf_size - offset)
        return 0;
    uint32_t len = MIN(w.len, room);
    memcpy(to, from->buf_base + (uint64_t)w.buf_idx * from->buf_size + offset, len);
    return len;
}

static void copy_slot(const struct nm_kring *from, const struct netmap_slot *slot,
                      const struct nm_kring *to, struct netmap_slot *copy)
{
    union nm_slot_word w = nm_slot_load(slot), out = nm_slot_load(copy);

    out.len = 0;
    out.flags = (uint16_t)(w.flags & ~NS_INDIRECT) | (from->tx == NM_TX ? NS_TXMON : 0);
    if (nm_buf_index_ok(out.buf_idx, to->buf_total)) {
        uint8_t *at = to->buf_base + (uint64_t)out.buf_idx * to->buf_size + offset_in(to, copy);
        out.len = (uint16_t)copy_frame(from, slot, w, at, to->usable_len);
    }
    nm_slot_store(copy, out);
}

static void copy_to_all(struct nm_kring *kring, uint32_t first, uint32_t n)
{
    const GPtrArray *copies = kring->monitored->copies;

    for (unsigned m = 0; n > 0 && m < copies->len; m++) {
        struct nm_kring *to = g_ptr_array_index(copies, m);
        struct batch b = begin(kring, to, first, n);
        uint32_t i = b.first, j = b.at;
        for (uint32_t left = b.n; left > 0; left--) {
            copy_slot(kring, &kring->ring->slot[i], to, &to->ring->slot[j]);
            i = nm_next(i, kring->num_slots);
            j = nm_next(j, to->num_slots);
        }
        end(&b);
    }
}

/* What has come since the last time. */
static void copy_received(struct nm_kring *kring)
{
    uint32_t tail = atomic_load_explicit(&kring->hwtail, memory_order_acquire);

    copy_to_all(kring, kring->mon_tail, nm_dist(kring->mon_tail, tail, kring->num_slots));
    kring->mon_tail = tail;
}

/* ---- zero copy ---- */

/* The buffers change places. Of a slot that has none of its own (a bad index, indirect data) the
 * monitor learns only that it was there. */
static void swap_slots(const struct nm_kring *from, struct netmap_slot *slot,
                       struct netmap_slot *taken)
{
    union nm_slot_word w = nm_slot_load(slot), t = nm_slot_load(taken);
    uint16_t mark = from->tx == NM_TX ? NS_TXMON : 0;

    if (!(w.flags & NS_INDIRECT) && nm_buf_index_ok(w.buf_idx, from->buf_total) &&
        nm_buf_index_ok(t.buf_idx, from->buf_total)) {
        nm_slot_store(slot, (union nm_slot_word){.buf_idx = t.buf_idx,
                                                 .len = t.len,
                                                 .flags = w.flags | NS_BUF_CHANGED});
        t.buf_idx = w.buf_idx;
        t.len = w.len;
    } else {
        t.len = 0;
    }
    t.flags = (uint16_t)(w.flags & ~NS_INDIRECT) | mark;
    nm_slot_store(taken, t);
}

static void hand_over(struct nm_kring *kring, uint32_t first, uint32_t n)
{
    struct nm_kring *to = kring->monitored->zcopy;

    if (!to || n == 0)
        return;
    struct batch b = begin(kring, to, first, n);
    uint32_t i = b.first, j = b.at;
    for (uint32_t left = b.n; left > 0; left--) {
        swap_slots(kring, &kring->ring->slot[i], &to->ring->slot[j]);
        i = nm_next(i, kring->num_slots);
        j = nm_next(j, to->num_slots);
    }
    end(&b);
}

/* ---- in place of a ring's own functions ---- */

/* What the application has handed over since the last time. A port that does not take all of it at
 * once finds the rest again; a ring that was bad may begin anew before what we saw of it. */
static void copy_sent(struct nm_kring *kring)
{
    const uint32_t n = kring->num_slots;

    if (nm_dist(kring->hwcur, kring->mon_head, n) > nm_dist(kring->hwcur, kring->rhead, n))
        kring->mon_head = kring->hwcur;
    copy_to_all(kring, kring->mon_head, nm_dist(kring->mon_head, kring->rhead, n));
    kring->mon_head = kring->rhead;
}

static int monitored_txsync(struct nm_kring *kring, int flags)
{
    const uint32_t n = kring->num_slots;

    copy_sent(kring);
    int err = kring->monitored->sync(kring, flags);
    if (err == 0) {
        uint32_t tail = atomic_load_explicit(&kring->hwtail, memory_order_acquire);
        hand_over(kring, nm_next(kring->mon_tail, n), nm_dist(kring->mon_tail, tail, n));
        kring->mon_tail = tail;
    }
    return err;
}

static int monitored_rxsync(struct nm_kring *kring, int flags)
{
    copy_received(kring); /* before slots are released that nobody has looked at */
    hand_over(kring, kring->hwcur, nm_dist(kring->hwcur, kring->rhead, kring->num_slots));
    int err = kring->monitored->sync(kring, flags);
    if (err == 0)
        copy_received(kring);
    return err;
}

/* Frames have come, and copies are made without waiting for the application. Where it is in the
 * ring just now its own sync makes them. */
static void monitored_notify(struct nm_kring *kring, int flags)
{
    if (nm_kr_acquire(kring, false) == 0) {
        if (atomic_load(&kring->is_on) && kring->monitored && kring->monitored->copies->len > 0)
            monitored_rxsync(kring, NAF_FORCE_READ);
        nm_kr_release(kring);
    }
    void (*notify)(struct nm_kring *, int) = atomic_load(&kring->base_notify);
    notify(kring, flags);
}

void nm_monitor_hook(struct nm_kring *kring)
{
    struct nm_monitored *m = g_new0(struct nm_monitored, 1);

    m->sync = kring->sync;
    m->copies = g_ptr_array_new();
    kring->monitored = m;
    kring->mon_head = kring->hwcur;
    kring->mon_tail = atomic_load_explicit(&kring->hwtail, memory_order_acquire);
    if (kring->tx == NM_TX) {
        kring->sync = monitored_txsync;
        return;
    }
    kring->sync = monitored_rxsync;
    atomic_store(&kring->base_notify, atomic_load(&kring->notify));
    atomic_store(&kring->notify, monitored_notify);
}

void nm_monitor_unhook(struct nm_kring *kring)
{
    struct nm_monitored *m = kring->monitored;

    kring->sync = m->sync;
    if (kring->tx == NM_RX)
        atomic_store(&kring->notify, atomic_load(&kring->base_notify));
    g_ptr_array_unref(m->copies);
    g_free(m);
    kring->monitored = NULL;
}

int nm_monitor_release_slots(struct nm_kring *mkring)
{
    struct nm_monitor_ring *ring = mkring->port_data;

    pthread_mutex_lock(&ring->lock);
    mkring->hwcur = mkring->rhead;
    pthread_mutex_unlock(&ring->lock);
    return 0;
}
