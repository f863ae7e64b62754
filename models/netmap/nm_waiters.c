/*
 * Who wants to know that a ring moved: lists of callbacks, walked by whoever moved it. The fences
 * pair: a waiter adds itself (or arms), then looks at the ring; a waker stores, then looks for
 * waiters. One of the two sees the other.
 */
#include "models/netmap/nm_kern.h"

void nm_waiters_init(struct nm_waiters *w)
{
    atomic_init(&w->n, 0);
    pthread_mutex_init(&w->lock, NULL);
    w->first = NULL;
}

void nm_waiters_clear(struct nm_waiters *w)
{
    g_assert(!w->first);
    pthread_mutex_destroy(&w->lock);
}

void nm_waiters_add(struct nm_waiters *w, struct nm_waiter *waiter)
{
    pthread_mutex_lock(&w->lock);
    waiter->next = w->first;
    w->first = waiter;
    atomic_fetch_add(&w->n, 1);
    pthread_mutex_unlock(&w->lock);
    atomic_thread_fence(memory_order_seq_cst);
}

void nm_waiters_remove(struct nm_waiters *w, struct nm_waiter *waiter)
{
    pthread_mutex_lock(&w->lock);
    for (struct nm_waiter **at = &w->first; *at; at = &(*at)->next) {
        if (*at == waiter) {
            *at = waiter->next;
            atomic_fetch_sub(&w->n, 1);
            break;
        }
    }
    pthread_mutex_unlock(&w->lock);
}

/* The caller has fenced. */
static void wake(struct nm_waiters *w, struct nm_kring *kring)
{
    if (!atomic_load_explicit(&w->n, memory_order_relaxed)) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    for (struct nm_waiter *waiter = w->first; waiter; waiter = waiter->next) {
        waiter->wake(waiter->data, kring);
    }
    pthread_mutex_unlock(&w->lock);
}

void nm_waiters_wake(struct nm_waiters *w, struct nm_kring *kring)
{
    atomic_thread_fence(memory_order_seq_cst);
    wake(w, kring);
}

void nm_notify(struct nm_kring *kring, int flags)
{
    (void)flags;
    atomic_thread_fence(memory_order_seq_cst);
    wake(&kring->waiters, kring);
    wake(&kring->na->waiters[kring->tx], kring);
}
