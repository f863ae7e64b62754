/*
 * One visit of the sync-kloop to one ring: the CSB's accessors and the two state machines of
 * netmap_kloop.c at API 14 (netmap_sync_kloop_tx_ring, netmap_sync_kloop_rx_ring), store by store.
 * Every word of the guest is loaded once and goes through netmap's prologues before it is used.
 */
#include "models/ptnet/kloop_private.h"

/* What the application said, as last read. */
struct shadow {
    uint32_t head, cur;
    int flags;
};

/* ---- accessors, ptnet.md 5. The fences are the protocol's; stores and loads of the indices are
 * release and acquire besides, which costs nothing on x86, for checkers that know no fences ---- */

static void set_need_kick(struct kloop_ring *r, uint32_t value)
{
    atomic_store_explicit(&r->ktoa->kern_need_kick, value, memory_order_relaxed);
}

static bool is_irq_wanted(struct kloop_ring *r)
{
    return atomic_load_explicit(&r->atok->appl_need_kick, memory_order_relaxed) != 0;
}

static void kernel_write(struct kloop_ring *r, uint32_t hwcur, uint32_t hwtail)
{
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&r->ktoa->hwcur, hwcur, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&r->ktoa->hwtail, hwtail, memory_order_release);
}

static void kernel_read(struct kloop_ring *r, struct shadow *s)
{
    s->head = atomic_load_explicit(&r->atok->head, memory_order_acquire);
    atomic_thread_fence(memory_order_acquire);
    s->cur = atomic_load_explicit(&r->atok->cur, memory_order_relaxed);
    s->flags = (int)(atomic_load_explicit(&r->atok->sync_flags, memory_order_relaxed) &
                     (NAF_FORCE_READ | NAF_FORCE_RECLAIM));
    atomic_thread_fence(memory_order_acquire);
}

static uint32_t load_hwtail(struct nm_kring *kring)
{
    return nm_kr_tail(kring);
}

/* Asks for kicks, and looks again: who stored before seeing the 1 did not kick (full fence on both
 * sides, ptnet.md 6.1 and 7.3 i). */
static void ask_for_kicks(struct kloop_ring *r, struct shadow *s)
{
    set_need_kick(r, 1);
    atomic_thread_fence(memory_order_seq_cst);
    kernel_read(r, s);
}

/* ---- what both directions share ---- */

/* Checks and takes what the shadow says, then has the port sync. False: the ring is left, and only
 * a kick brings it back. */
static bool sync_ring(struct kloop_ring *r, const struct shadow *s)
{
    struct nm_kring *kring = r->kring;
    struct kloop_counters *counters = &r->kloop->counters;
    bool is_ok = kring->tx ? nm_txsync_prologue(kring, s->head, s->cur)
                           : nm_rxsync_prologue(kring, s->head, s->cur);

    if (!is_ok) {
        kloop_count(&counters->bad_rings);
        nm_ring_reinit(kring);
    } else if (kring->sync(kring, s->flags) != 0) {
        kloop_count(&counters->sync_errors);
        is_ok = false;
    } else {
        kloop_count(kring->tx ? &counters->tx_syncs : &counters->rx_syncs);
    }
    if (!is_ok && !r->kloop->is_busy_wait)
        set_need_kick(r, 1);
    return is_ok;
}

/* Interrupts if there is something to tell and the application wants to know; true if so. */
static bool interrupt_if_wanted(struct kloop_ring *r, bool has_irq, bool has_news)
{
    if (!has_irq || !has_news || !is_irq_wanted(r))
        return false;
    kloop_interrupt(r);
    return true;
}

/* ---- transmit, ptnet.md 7.3 ---- */

static bool visit_tx(struct kloop_ring *r, bool has_irq, bool *has_news)
{
    struct nm_kring *kring = r->kring;
    uint32_t n = kring->num_slots;
    struct shadow s;

    kernel_read(r, &s);
    for (unsigned round = 0; round < KLOOP_ROUNDS; round++) {
        if (nm_dist(kring->hwcur, load_hwtail(kring), n) <= n / 2)
            s.flags |= NAF_FORCE_RECLAIM;
        if (!sync_ring(r, &s))
            return false;
        uint32_t hwtail = load_hwtail(kring);
        kernel_write(r, kring->hwcur, hwtail);
        if (kring->rtail != hwtail) {
            kring->rtail = hwtail;
            *has_news = true;
        }
        if (interrupt_if_wanted(r, has_irq, *has_news))
            *has_news = false;
        kernel_read(r, &s);
        if (s.head == kring->rhead) {
            if (r->kloop->is_busy_wait)
                return false;
            ask_for_kicks(r, &s);
            if (s.head == kring->rhead)
                return false;
            set_need_kick(r, 0);
            continue;
        }
        if (kring->rhead == load_hwtail(kring))
            return false; /* full: the port wakes the loop */
    }
    return true;
}

/* ---- receive, ptnet.md 7.4 ---- */

enum { MAX_DRY_ROUNDS = 2 };

/* The application has taken back no slot that a frame could be put into. */
static bool has_no_rx_slots(struct nm_kring *kring, const struct shadow *s)
{
    /* s->head is not checked yet; a bad one is found by the next visit's prologue */
    return load_hwtail(kring) == nm_prev(s->head, kring->num_slots);
}

static bool visit_rx(struct kloop_ring *r, bool has_irq, bool *has_news)
{
    struct nm_kring *kring = r->kring;
    unsigned dry_rounds = 0;
    struct shadow s;

    kernel_read(r, &s);
    for (unsigned round = 0; round < KLOOP_ROUNDS; round++) {
        if (!sync_ring(r, &s))
            return false;
        uint32_t hwtail = load_hwtail(kring);
        kernel_write(r, kring->hwcur, hwtail);
        if (kring->rtail != hwtail) {
            kring->rtail = hwtail;
            *has_news = true;
            dry_rounds = 0;
        } else {
            dry_rounds++;
        }
        if (interrupt_if_wanted(r, has_irq, *has_news))
            *has_news = false;
        kernel_read(r, &s);
        if (has_no_rx_slots(kring, &s)) {
            if (r->kloop->is_busy_wait)
                return false;
            ask_for_kicks(r, &s);
            if (has_no_rx_slots(kring, &s))
                return false;
            set_need_kick(r, 0);
            continue;
        }
        if (load_hwtail(kring) == kring->rhead || dry_rounds >= MAX_DRY_ROUNDS)
            return false; /* empty: the port wakes the loop */
    }
    return true;
}

bool kloop_visit(struct kloop_ring *r, bool has_irq)
{
    bool has_news = false;

    if (nm_kr_acquire(r->kring, true) != 0)
        return false;
    if (!r->is_direct)
        set_need_kick(r, 0);
    bool is_cut_short =
        r->kring->tx ? visit_tx(r, has_irq, &has_news) : visit_rx(r, has_irq, &has_news);
    nm_kr_release(r->kring);
    /* In the kernel giving up the ring is a locked instruction, a full fence: the store of hwtail
     * before the last look at appl_need_kick. Pairs with the guest's (ptnet.md 6.1, 6 b). */
    atomic_thread_fence(memory_order_seq_cst);
    interrupt_if_wanted(r, has_irq, has_news);
    return is_cut_short;
}
