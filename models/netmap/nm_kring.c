/*
 * One ring at a time: taking it for a sync, the checks of what its application says, and what
 * becomes of a ring whose application said nonsense (netmap.md 6.2 to 6.4).
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <sched.h>

int nm_kr_acquire(struct nm_kring *kring, bool wait)
{
    for (;;) {
        int state = NM_KR_FREE;

        if (atomic_compare_exchange_strong_explicit(&kring->state, &state, NM_KR_BUSY,
                                                    memory_order_acquire, memory_order_relaxed)) {
            return 0;
        }
        if (state & NM_KR_STOPPED) {
            return EIO;
        }
        if (!wait && !(state & NM_KR_LOCKED)) {
            return EBUSY;
        }
        sched_yield();
    }
}

void nm_kr_release(struct nm_kring *kring)
{
    atomic_fetch_and_explicit(&kring->state, ~NM_KR_BUSY, memory_order_release);
}

/* Nobody enters from now on; returns when nobody is inside. */
static void shut(struct nm_kring *kring, int bit)
{
    int state = atomic_fetch_or(&kring->state, bit);

    while (state & NM_KR_BUSY) {
        sched_yield();
        state = atomic_load(&kring->state);
    }
}

void nm_kr_stop(struct nm_kring *kring)
{
    shut(kring, NM_KR_STOPPED);
}

void nm_kr_lock(struct nm_kring *kring)
{
    shut(kring, NM_KR_LOCKED);
}

void nm_kr_unlock(struct nm_kring *kring)
{
    atomic_fetch_and(&kring->state, ~NM_KR_LOCKED);
}

/* from <= head <= cur <= to on a ring of n, all below n. */
static bool in_order(uint32_t from, uint32_t head, uint32_t cur, uint32_t to, uint32_t n)
{
    return head < n && cur < n && nm_dist(from, head, n) <= nm_dist(from, cur, n) &&
           nm_dist(from, cur, n) <= nm_dist(from, to, n);
}

bool nm_txsync_prologue(struct nm_kring *kring, uint32_t head, uint32_t cur)
{
    const uint32_t n = kring->num_slots;
    const uint32_t hwcur = kring->hwcur;
    const uint32_t hwtail = atomic_load_explicit(&kring->hwtail, memory_order_relaxed);

    if (hwcur >= n || hwtail >= n || kring->rhead >= n || kring->rtail >= n ||
        !in_order(kring->rhead, head, cur, kring->rtail, n) ||
        nm_dist(hwcur, head, n) > nm_dist(hwcur, hwtail, n)) {
        return false;
    }
    kring->rhead = head;
    kring->rcur = cur;
    return true;
}

bool nm_rxsync_prologue(struct nm_kring *kring, uint32_t head, uint32_t cur)
{
    const uint32_t n = kring->num_slots;
    const uint32_t hwcur = kring->hwcur;
    const uint32_t hwtail = atomic_load_explicit(&kring->hwtail, memory_order_relaxed);

    if (hwcur >= n || hwtail >= n || !in_order(hwcur, head, cur, hwtail, n)) {
        return false;
    }
    kring->rhead = head;
    kring->rcur = cur;
    return true;
}

/* A slot that names no buffer of the pool, or more bytes than one holds, is made harmless. */
static void repair_slots(struct nm_kring *kring)
{
    for (uint32_t i = 0; i < kring->num_slots; i++) {
        struct netmap_slot *slot = &kring->ring->slot[i];
        union nm_slot_word w = nm_slot_load(slot);

        if (!nm_buf_index_ok(w.buf_idx, kring->buf_total)) {
            w.buf_idx = 0;
            w.len = 0;
        } else if (w.len > kring->buf_size) {
            w.len = 0;
        } else {
            continue;
        }
        nm_slot_store(slot, w);
    }
}

bool nm_ring_reinit(struct nm_kring *kring)
{
    struct netmap_ring *ring = kring->ring;
    const uint32_t n = kring->num_slots;
    const uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    const uint32_t cur = atomic_load_explicit(&ring->cur, memory_order_relaxed);
    const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    const uint32_t hwtail = atomic_load_explicit(&kring->hwtail, memory_order_relaxed);
    const bool is_beyond = head >= n || cur >= n || tail >= n;

    kring->n_reinits++;
    if ((kring->n_reinits & (kring->n_reinits - 1)) == 0) { /* 1, 2, 4 ... : no flood of lines */
        nm_log(kring->na->host, "%s: bad ring (%u so far): head %u cur %u tail %u, of %u slots",
               kring->name, kring->n_reinits, head, cur, tail, n);
    }
    repair_slots(kring);
    kring->rhead = kring->rcur = kring->hwcur;
    if (is_beyond) {
        kring->rtail = hwtail;
        atomic_store_explicit(&ring->head, kring->hwcur, memory_order_relaxed);
        atomic_store_explicit(&ring->cur, kring->hwcur, memory_order_relaxed);
        atomic_store_explicit(&ring->tail, hwtail, memory_order_release);
    }
    return is_beyond;
}

void nm_sync_finalize(struct nm_kring *kring)
{
    kring->rtail = nm_kr_tail(kring);
    atomic_store_explicit(&kring->ring->tail, kring->rtail, memory_order_release);
}
