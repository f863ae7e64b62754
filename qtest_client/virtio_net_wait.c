/*
 * Waiting for the virtio network device: by interrupt, armed and re-checked in the order that loses
 * no wake-up, or by polling. Whatever is waited for has a deadline, and a QEMU that died meanwhile
 * is noticed.
 */
#include "qtest_client/virtio_net_private.h"

#include <sched.h>

enum {
    SLICE_MS = 100, /* how often to see whether QEMU is still there */
    SPINS = 256,    /* looks at shared memory between looks at the clock */
};

static gint64 deadline_after(int timeout_ms)
{
    return g_get_monotonic_time() + (gint64)MAX(timeout_ms, 0) * G_TIME_SPAN_MILLISECOND;
}

/* Time has passed: if the device gave up, that is the error; else TIMEOUT with this text. */
static bool G_GNUC_PRINTF(3, 4)
    timed_out(struct virtio_net *net, GError **error, const char *format, ...)
{
    va_list args;

    if (!virtio_pci_check(net->transport, error)) {
        return false;
    }
    g_autofree char *name = pci_device_describe(net->transport->dev);
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "%s: %s", name, text);
    return false;
}

/* The ISR lowers the line, so it is read before the rings are looked at, never after: else the
 * device takes a line that is still raised for one not yet seen, and raises nothing (4.1.5.3). */
static bool acknowledge_line(struct virtio_net *net, GError **error)
{
    uint8_t isr;

    if (net->kind != INTERRUPT_LINE) {
        return true;
    }
    if (!virtio_pci_isr(net->transport, &isr, error)) {
        return false;
    }
    net->is_config_changed |= (isr & VIRTIO_ISR_CONFIG) != 0;
    return true;
}

/* Sleeps until the queue's interrupt. In slices, only to notice that QEMU is gone: the rings are
 * not looked at in between, so an interrupt that never comes is an error and not a delay. */
static bool sleep_until_interrupt(struct virtio_net *net, struct net_queue *q, gint64 deadline,
                                  int timeout_ms, GError **error)
{
    for (;;) {
        g_autoptr(GError) why = NULL;
        gint64 left_ms = (deadline - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND;
        if (interrupt_wait(q->irq, (int)CLAMP(left_ms, 0, SLICE_MS), &why)) {
            return true;
        }
        /* of a QEMU that is gone, the barrier says more */
        if ((g_error_matches(why, QTEST_ERROR, QTEST_ERROR_TIMEOUT) ||
             g_error_matches(why, QTEST_ERROR, QTEST_ERROR_CLOSED)) &&
            !machine_barrier(net->transport->dev->machine, error)) {
            return false;
        }
        if (!g_error_matches(why, QTEST_ERROR, QTEST_ERROR_TIMEOUT)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        if (left_ms <= SLICE_MS) {
            return timed_out(
                net, error, "queue %u: no interrupt within %d ms%s", q->index, timeout_ms,
                virtqueue_has_used(q->vq) ? ", although buffers were used: it was lost or not sent"
                                          : "");
        }
    }
}

/* Waits until the queue has used buffers (or is broken, which the next call reports). */
static bool wait_by_interrupt(struct virtio_net *net, struct net_queue *q, bool is_delayed,
                              gint64 deadline, int timeout_ms, GError **error)
{
    bool ok = true;

    while (ok && !q->vq->is_broken && !virtqueue_has_used(q->vq)) {
        /* acknowledge, arm, look again, sleep (virtio 1.2, 2.7.14) */
        ok = acknowledge_line(net, error);
        if (ok && (is_delayed ? virtqueue_enable_interrupts_delayed(q->vq)
                              : virtqueue_enable_interrupts(q->vq))) {
            ok = sleep_until_interrupt(net, q, deadline, timeout_ms, error);
        }
    }
    virtqueue_disable_interrupts(q->vq);
    return ok && acknowledge_line(net, error);
}

static bool wait_by_polling(struct virtio_net *net, struct net_queue *q, gint64 deadline,
                            int timeout_ms, GError **error)
{
    gint64 next_check = g_get_monotonic_time() + SLICE_MS * G_TIME_SPAN_MILLISECOND;

    for (;;) {
        for (unsigned i = 0; i < SPINS; i++) {
            if (q->vq->is_broken || virtqueue_has_used(q->vq)) {
                return true;
            }
        }
        gint64 now = g_get_monotonic_time();
        if (now >= next_check || now >= deadline) {
            next_check = now + SLICE_MS * G_TIME_SPAN_MILLISECOND;
            if (!machine_barrier(net->transport->dev->machine, error)) {
                return false;
            }
        }
        if (now >= deadline) {
            return virtqueue_has_used(q->vq) ||
                   timed_out(net, error, "queue %u: nothing used within %d ms", q->index,
                             timeout_ms);
        }
        sched_yield();
    }
}

bool virtio_net_rx_wait(struct virtio_net *net, unsigned pair, int timeout_ms, GError **error)
{
    gint64 deadline = deadline_after(timeout_ms);
    struct net_queue *rx = virtio_net_queue(net, pair, true, error);

    /* a device without buffers would never send anything */
    if (!rx || !virtio_net_queue_ok(net, rx, error) || !virtio_net_refill(net, rx, error)) {
        return false;
    }
    return net->use_interrupts ? wait_by_interrupt(net, rx, false, deadline, timeout_ms, error)
                               : wait_by_polling(net, rx, deadline, timeout_ms, error);
}

bool virtio_net_tx_drain(struct virtio_net *net, unsigned pair, int timeout_ms, GError **error)
{
    gint64 deadline = deadline_after(timeout_ms);
    struct net_queue *tx = virtio_net_queue(net, pair, false, error);

    if (!tx) {
        return false;
    }
    for (;;) {
        virtio_net_reclaim(tx);
        if (!virtio_net_queue_ok(net, tx, error)) {
            return false;
        }
        if (tx->vq->n_in_flight == 0) {
            return true;
        }
        if (!(net->use_interrupts ? wait_by_interrupt(net, tx, true, deadline, timeout_ms, error)
                                  : wait_by_polling(net, tx, deadline, timeout_ms, error))) {
            return false;
        }
    }
}

bool virtio_net_config_changed(struct virtio_net *net, bool *changed, GError **error)
{
    if (net->config_irq && net->kind != INTERRUPT_LINE) {
        *changed = interrupt_take(net->config_irq);
        return true;
    }
    uint8_t isr;
    if (!virtio_pci_isr(net->transport, &isr, error)) {
        return false;
    }
    *changed = net->is_config_changed || (isr & VIRTIO_ISR_CONFIG) != 0;
    net->is_config_changed = false;
    return true;
}
