/*
 * The threads of a wrapped NIC: one that its notifications wake, and those that poll (netmap.md
 * 9.5). Both do the same: import what the NIC received, forward it, give the slots back.
 */
#include "models/vale/vale_wrap_private.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

enum {
    IDLE_PASSES = 1000, /* of a poller, before it rests */
    REST_NS =
        20 * 1000,  /* between its passes then: a quarter of a ring at 14.88 million frames/s */
    WAIT_MS = 1000, /* longest sleep of the thread that is woken */
};

/* ---- a ring ---- */

/* Forwards what a receive ring of the NIC holds. True: there was something. */
static bool receive(struct nm_kring *kring)
{
    struct nm_kring *hw = vale_wrapped_hw(kring);

    if (nm_kr_acquire(hw, false) != 0) {
        return false;
    }
    uint32_t before = hw->rhead;
    if (hw->sync(hw, NAF_FORCE_READ) != 0) {
        nm_kr_release(hw);
        return false;
    }
    kring->hwcur = hw->rhead;
    kring->rhead = kring->rcur = nm_kr_tail(hw);
    vale_txsync(kring, 0);
    hw->rhead = hw->rcur = kring->hwcur;
    bool had_some = hw->rhead != before;
    if (had_some && hw->sync(hw, 0) == 0) {
        nm_sync_finalize(hw);
    }
    nm_kr_release(hw);
    return had_some;
}

static bool receive_rings(struct vale_wrapped *w, unsigned first, unsigned last)
{
    bool had_some = false;

    for (unsigned i = first; i < last; i++) {
        had_some = receive(&w->port.na.krings[NM_TX][i]) || had_some;
    }
    return had_some;
}

/* The NIC's transmit rings: frames that were left to somebody else, and room that was made. */
static void transmit_rings(struct vale_wrapped *w)
{
    for (unsigned i = 0; i < w->port.na.n_rings[NM_RX]; i++) {
        struct nm_kring *kring = &w->port.na.krings[NM_RX][i];
        struct vale_receiver *receiver = kring->port_data;
        bool has_waiting = vale_has_waiting(receiver);
        if (has_waiting || atomic_load(&receiver->has_work)) {
            vale_wrapped_transmit(kring, NAF_FORCE_RECLAIM);
        }
        if (has_waiting && vale_queue_room(kring) > 0) {
            vale_wake_waiting(kring);
        }
    }
}

/* ---- woken ---- */

static bool wait_for_work(struct vale_wrapper *wrapper)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&wrapper->lock);
    if (!wrapper->is_woken && !wrapper->is_stopping) {
        pthread_cond_timedwait(&wrapper->cond, &wrapper->lock, &deadline);
    }
    wrapper->is_woken = false;
    bool goes_on = !wrapper->is_stopping;
    pthread_mutex_unlock(&wrapper->lock);
    return goes_on;
}

static void *serve(void *data)
{
    struct vale_wrapper *wrapper = data;

    while (wait_for_work(wrapper)) {
        for (unsigned i = 0; i < G_N_ELEMENTS(wrapper->ports); i++) {
            struct vale_wrapped *w = wrapper->ports[i];
            if (!w) {
                continue;
            }
            transmit_rings(w);
            bool is_polled = i == VALE_WRAPPED_NIC && atomic_load(&wrapper->is_polling);
            if (!is_polled && receive_rings(w, 0, w->port.na.n_rings[NM_TX])) {
                vale_wrapper_wake(wrapper); /* there may be more */
            }
        }
    }
    return NULL;
}

void vale_wrapper_wake(struct vale_wrapper *wrapper)
{
    pthread_mutex_lock(&wrapper->lock);
    wrapper->is_woken = true;
    pthread_cond_signal(&wrapper->cond);
    pthread_mutex_unlock(&wrapper->lock);
}

void vale_wrapper_wake_tx(struct nm_kring *kring, int flags)
{
    (void)flags;
    vale_wrapper_wake(((struct vale_wrapped *)(void *)kring->na)->wrapper);
}

/* Called by the NIC: it must not sync here. */
static void hw_wake(void *data, struct nm_kring *kring)
{
    (void)kring;
    vale_wrapper_wake(data);
}

static unsigned for_each_hw_kring(struct vale_wrapper *wrapper,
                                  void (*fn)(struct nm_waiters *, struct nm_waiter *))
{
    struct nm_file *file = wrapper->file;
    unsigned n = 0;

    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = file->first[t]; i < file->last[t]; i++, n++) {
            if (fn) {
                fn(&wrapper->hw->krings[t][i].waiters, &wrapper->waiters[n]);
            }
        }
    }
    return n;
}

int vale_wrapper_start(struct vale_wrapper *wrapper)
{
    unsigned n = for_each_hw_kring(wrapper, NULL);

    if (pthread_create(&wrapper->thread, NULL, serve, wrapper) != 0) {
        return ENOMEM;
    }
    wrapper->waiters = g_new0(struct nm_waiter, n);
    for (unsigned i = 0; i < n; i++) {
        wrapper->waiters[i] = (struct nm_waiter){.wake = hw_wake, .data = wrapper};
    }
    for_each_hw_kring(wrapper, nm_waiters_add);
    return 0;
}

void vale_wrapper_stop(struct vale_wrapper *wrapper)
{
    pthread_mutex_lock(&wrapper->lock);
    wrapper->is_stopping = true;
    pthread_cond_signal(&wrapper->cond);
    pthread_mutex_unlock(&wrapper->lock);
    pthread_join(wrapper->thread, NULL);
    for_each_hw_kring(wrapper, nm_waiters_remove);
    g_free(wrapper->waiters);
}

/* ---- polling ---- */

static void *poll_rings(void *data)
{
    const struct vale_poller *poller = data;
    struct vale_wrapper *wrapper = poller->wrapper;
    const struct timespec rest = {.tv_nsec = REST_NS};
    unsigned n_idle = 0;

    while (atomic_load_explicit(&wrapper->is_polling, memory_order_relaxed)) {
        if (receive_rings(wrapper->ports[VALE_WRAPPED_NIC], poller->first, poller->last)) {
            n_idle = 0;
        } else if (++n_idle < IDLE_PASSES) {
            sched_yield();
        } else {
            nanosleep(&rest, NULL);
        }
    }
    return NULL;
}

/* A CPU that this process may not use: then on any. */
static void pin(const struct vale_poller *poller)
{
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    if (poller->cpu < CPU_SETSIZE) {
        CPU_SET(poller->cpu, &cpus);
        (void)pthread_setaffinity_np(poller->thread, sizeof(cpus), &cpus);
    }
}

int vale_wrapper_poll(struct vale_wrapper *wrapper, unsigned first_cpu, unsigned n, bool has_all)
{
    unsigned n_rings = wrapper->ports[VALE_WRAPPED_NIC]->port.na.n_rings[NM_TX];

    wrapper->pollers = g_new0(struct vale_poller, n);
    atomic_store(&wrapper->is_polling, true);
    for (unsigned i = 0; i < n; i++) {
        struct vale_poller *poller = &wrapper->pollers[i];
        *poller = (struct vale_poller){
            .wrapper = wrapper,
            .cpu = first_cpu + i,
            .first = has_all ? 0 : MIN(first_cpu + i, n_rings),
            .last = has_all ? n_rings : MIN(first_cpu + i + 1, n_rings),
        };
        if (pthread_create(&poller->thread, NULL, poll_rings, poller) != 0) {
            vale_wrapper_unpoll(wrapper);
            return ENOMEM;
        }
        wrapper->n_pollers++;
        pin(poller);
    }
    return 0;
}

void vale_wrapper_unpoll(struct vale_wrapper *wrapper)
{
    atomic_store(&wrapper->is_polling, false);
    for (unsigned i = 0; i < wrapper->n_pollers; i++) {
        pthread_join(wrapper->pollers[i].thread, NULL);
    }
    wrapper->n_pollers = 0;
    g_clear_pointer(&wrapper->pollers, g_free);
    vale_wrapper_wake(wrapper); /* interrupts are on again */
}
