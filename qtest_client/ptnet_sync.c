/*
 * ptnet's sync protocol as the guest speaks it: every load, store and fence in the order that
 * netmap publishes (sections are those of the reference sheet ptnet.md), and waiting for the host.
 */
#include "qtest_client/ptnet_private.h"

#include <inttypes.h>
#include <poll.h>
#include <sched.h>

enum {
    SPINS = 256,         /* looks at shared memory between looks at the clock */
    SPIN_US = 50,        /* how long to poll before giving way to other threads */
    LIFELINE_US = 10000, /* how often to see whether the machine is still there */
};

/* ---- what the host says ---- */

static bool refuse_host(struct ptnet_queue *q, uint32_t hwcur, uint32_t hwtail, GError **error)
{
    q->n_errors++;
    return ptnet_fail(q->driver, PTNET_ERROR_DEVICE, error,
                      "ring %u: the host says hwcur %" PRIu32 " and hwtail %" PRIu32
                      ", which cannot be with head %" PRIu32 " and %" PRIu32 " slots",
                      q->index, hwcur, hwtail, q->rhead, q->num_slots);
}

/* hwcur <= rhead <= hwtail, going round once at most, and hwtail not going back. Holds for values
 * of two moments too: hwcur is the younger. */
static bool host_may_say(const struct ptnet_queue *q, uint32_t hwcur, uint32_t hwtail)
{
    const uint32_t n = q->num_slots;
    if (hwcur >= n || hwtail >= n) {
        return false;
    }
    const uint32_t n_slots = ptnet_distance(q->rhead, hwtail, n);
    return ptnet_distance(hwcur, q->rhead, n) + n_slots < n &&
           n_slots >= ptnet_distance(q->rhead, q->hwtail, n);
}

bool ptnet_take_hwcur(struct ptnet_queue *q, GError **error)
{
    uint32_t hwcur = ptnet_load(&q->ktoa->hwcur);

    if (G_UNLIKELY(!host_may_say(q, hwcur, q->hwtail))) {
        return refuse_host(q, hwcur, q->hwtail, error);
    }
    q->hwcur = hwcur;
    return true;
}

bool ptnet_appl_read(struct ptnet_queue *q, GError **error)
{
    uint32_t hwtail = ptnet_load(&q->ktoa->hwtail);
    PTNET_FENCE_LOAD_LOAD();
    uint32_t hwcur = ptnet_load(&q->ktoa->hwcur);
    PTNET_FENCE_LOAD_LOAD();

    if (G_UNLIKELY(!host_may_say(q, hwcur, hwtail))) {
        return refuse_host(q, hwcur, hwtail, error);
    }
    q->hwcur = hwcur;
    q->hwtail = hwtail;
    return true;
}

bool ptnet_sync_tail(struct ptnet_queue *q, GError **error)
{
    bool ok = ptnet_appl_read(q, error);

    ptnet_store(&q->ring->tail, q->hwtail);
    return ok;
}

/* ---- kicks ---- */

bool ptnet_host_wants_kick(struct ptnet_queue *q)
{
    if (q->driver->options.fence_before_kick) {
        PTNET_FENCE_STORE_LOAD(); /* not in the published driver */
    }
    return ptnet_load(&q->ktoa->kern_need_kick) != 0;
}

bool ptnet_kick(struct ptnet_queue *q, GError **error)
{
    struct pci_device *dev = q->driver->dev;
    uint64_t at = dev->bars[PTNETMAP_IO_PCI_BAR].base + PTNET_IO_KICK_BASE + 4ull * q->index;

    q->owes_kick = !machine_post(dev->machine, MACHINE_IO, at, 4, 0, error);
    q->n_kicks += !q->owes_kick;
    return !q->owes_kick;
}

/* ---- native sync ---- */

static bool would_block(const struct ptnet_queue *q)
{
    return q->rcur == q->hwtail;
}

/* The checks of netmap.md 6.2 and 6.3, rhead <= head <= cur <= tail; the application's values are
 * read once. */
static bool prologue(struct ptnet_queue *q, GError **error)
{
    const uint32_t n = q->num_slots;
    uint32_t head = ptnet_load(&q->ring->head), cur = ptnet_load(&q->ring->cur);

    if (G_UNLIKELY(head >= n || cur >= n ||
                   ptnet_distance(q->rhead, head, n) > ptnet_distance(q->rhead, cur, n) ||
                   ptnet_distance(q->rhead, cur, n) > ptnet_distance(q->rhead, q->hwtail, n))) {
        q->n_errors++;
        ptnet_store(&q->ring->head, q->rhead);
        ptnet_store(&q->ring->cur, q->rcur);
        ptnet_store(&q->ring->tail, q->hwtail);
        return ptnet_fail(q->driver, PTNET_ERROR_INVALID, error,
                          "ring %u: head %" PRIu32 " and cur %" PRIu32
                          " do not lie between %" PRIu32 " and tail %" PRIu32 " (%" PRIu32
                          " slots)",
                          q->index, head, cur, q->rhead, q->hwtail, n);
    }
    q->rhead = head;
    q->rcur = cur;
    q->n_syncs++;
    return true;
}

/* Asks for an interrupt, and looks again: what came in between is not interrupted for. */
static bool arm(struct ptnet_queue *q, GError **error)
{
    q->is_armed = true;
    ptnet_store(&q->atok->appl_need_kick, 1);
    PTNET_FENCE_STORE_LOAD();
    return ptnet_appl_read(q, error);
}

bool ptnet_txsync(struct ptnet_queue *q, int flags, GError **error)
{
    bool notify = false, ok = true;

    if (!ptnet_pay_kick(q, error) || !prologue(q, error)) {
        return false;
    }
    ptnet_disarm(q);                   /* 6.1 step 1 */
    if (!ptnet_take_hwcur(q, error)) { /* step 2 */
        return false;
    }
    ptnet_appl_write(q); /* step 3 */
    if (((q->rhead != q->hwcur || would_block(q)) && ptnet_host_wants_kick(q)) ||
        (flags & NAF_FORCE_RECLAIM)) { /* step 4 */
        ptnet_store(&q->atok->sync_flags, (uint32_t)flags);
        notify = true;
    }
    if (would_block(q) || (flags & NAF_FORCE_RECLAIM)) { /* step 5 */
        ok = ptnet_appl_read(q, error);
    }
    if (ok && would_block(q) && !q->has_no_interrupts) { /* step 6 */
        ok = arm(q, error);
        if (!would_block(q)) {
            ptnet_disarm(q);
        }
    }
    ptnet_store(&q->ring->tail, q->hwtail);
    return (!notify || ptnet_kick(q, ok ? error : NULL)) && ok;
}

bool ptnet_rxsync(struct ptnet_queue *q, int flags, GError **error)
{
    bool notify = false;

    if (!ptnet_pay_kick(q, error) || !prologue(q, error)) {
        return false;
    }
    ptnet_disarm(q);                     /* 6.2 step 1 */
    bool ok = ptnet_appl_read(q, error); /* step 2 */
    if (q->rhead != q->hwcur) {          /* step 3 */
        ptnet_appl_write(q);
    }
    if (ok && would_block(q) && !q->has_no_interrupts) { /* step 4 */
        ok = arm(q, error);
        if (!would_block(q)) {
            ptnet_disarm(q);
        }
    }
    if ((q->rhead != q->hwcur || would_block(q)) && ptnet_host_wants_kick(q)) { /* step 5 */
        ptnet_store(&q->atok->sync_flags, (uint32_t)flags);
        notify = true;
    }
    ptnet_store(&q->ring->tail, q->hwtail);
    return (!notify || ptnet_kick(q, ok ? error : NULL)) && ok;
}

/* ---- waiting ---- */

static bool has_slots(const struct ptnet_queue *q, unsigned n_slots)
{
    return ptnet_distance(q->rcur, q->hwtail, q->num_slots) >= n_slots;
}

static bool fail_timeout(struct ptnet_queue *q, unsigned n_slots, int timeout_ms, GError **error)
{
    g_autofree char *name = pci_device_describe(q->driver->dev);

    g_set_error(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT,
                "%s: ring %u has not got %u %s within %d ms (hwcur %" PRIu32 ", head %" PRIu32
                ", hwtail %" PRIu32 ")",
                name, q->index, n_slots, q->is_tx ? "free slots" : "filled slots", timeout_ms,
                q->hwcur, q->rhead, q->hwtail);
    return false;
}

static bool check_alive(struct ptnet_queue *q, GError **error)
{
    struct pollfd p = {.fd = machine_lifeline(q->driver->dev->machine)};

    if (p.fd < 0 || poll(&p, 1, 0) <= 0) {
        return true;
    }
    g_autofree char *name = pci_device_describe(q->driver->dev);
    g_set_error(error, QTEST_ERROR, QTEST_ERROR_CLOSED,
                "%s: QEMU is gone: nothing will happen on ring %u any more", name, q->index);
    return false;
}

static bool wait_by_polling(struct ptnet_queue *q, unsigned n_slots, int timeout_ms, GError **error)
{
    const gint64 start = g_get_monotonic_time();
    gint64 next_look = start + LIFELINE_US;

    for (;;) {
        for (unsigned i = 0; i < SPINS; i++) {
            if (!ptnet_sync_tail(q, error)) {
                return false;
            }
            if (has_slots(q, n_slots)) {
                return true;
            }
        }
        const gint64 now = g_get_monotonic_time();
        if (now - start >= (gint64)timeout_ms * 1000) {
            return fail_timeout(q, n_slots, timeout_ms, error);
        }
        if (now >= next_look) {
            if (!check_alive(q, error)) {
                return false;
            }
            next_look = now + LIFELINE_US;
        }
        if (now - start >= SPIN_US) {
            sched_yield();
        }
    }
}

/* Says what is worth knowing of an interrupt that did not come. */
static bool explain_timeout(struct ptnet_queue *q, unsigned n_slots, int timeout_ms, GError *why,
                            GError **error)
{
    if (!g_error_matches(why, QTEST_ERROR, QTEST_ERROR_TIMEOUT)) {
        g_propagate_error(error, why);
        return false;
    }
    g_error_free(why);
    if (!ptnet_sync_tail(q, error)) {
        return false;
    }
    fail_timeout(q, n_slots, timeout_ms, error);
    if (has_slots(q, n_slots)) {
        g_prefix_error(error, "no interrupt, although there are slots now: ");
    }
    return false;
}

static bool wait_by_interrupt(struct ptnet_queue *q, unsigned n_slots, int timeout_ms,
                              GError **error)
{
    const gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;

    for (;;) {
        GError *why = NULL;
        /* 11.2 step 8, 11.3 step 5: arm, look again, disarm if it was not necessary */
        bool ok = arm(q, error);
        ptnet_store(&q->ring->tail, q->hwtail);
        if (!ok || has_slots(q, n_slots)) {
            ptnet_disarm(q);
            return ok;
        }
        gint64 left_ms = (deadline - g_get_monotonic_time() + 999) / 1000;
        if (!interrupt_wait(q->irq, (int)MAX(left_ms, 0), &why)) {
            return explain_timeout(q, n_slots, timeout_ms, why, error);
        }
        q->n_interrupts++;
        ptnet_disarm(q); /* as the handler does */
        if (!ptnet_sync_tail(q, error)) {
            return false;
        }
        if (has_slots(q, n_slots)) {
            return true;
        }
    }
}

bool ptnet_wait(struct ptnet_queue *q, unsigned n_slots, int timeout_ms, GError **error)
{
    if (n_slots == 0 || n_slots >= q->num_slots) {
        return ptnet_fail(q->driver, PTNET_ERROR_INVALID, error,
                          "ring %u has %" PRIu32 " slots: one cannot wait for %u", q->index,
                          q->num_slots, n_slots);
    }
    if (!ptnet_pay_kick(q, error) || !ptnet_sync_tail(q, error)) {
        return false;
    }
    if (has_slots(q, n_slots)) {
        ptnet_wake_up(q);
        return true;
    }
    return q->has_no_interrupts ? wait_by_polling(q, n_slots, timeout_ms, error)
                                : wait_by_interrupt(q, n_slots, timeout_ms, error);
}
