/*
 * The thread behind a NIC-like port: it stands for the interrupts of wire and stack, goes on with a
 * transmission that the wire had no room for, and carries frames between the two sides where rings
 * are not in netmap mode, as the driver would.
 */
#include "models/netmap/nm_nic_private.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    EVENT,
    WIRE,
    STACK,
    MAX_RETRY_MS = 16, /* how seldom a wire that stays full is tried again */
};

void nic_arm(struct nm_nic *nic, struct nic_side *side)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                .data.u32 = side == &nic->wire ? WIRE : STACK};

    if (nic->has_thread && side->backend && side->backend->fd >= 0 && !side->backend->is_ended &&
        !atomic_exchange(&side->is_armed, true)) {
        epoll_ctl(nic->epoll_fd, EPOLL_CTL_MOD, side->backend->fd, &event);
    }
}

void nic_wake_thread(struct nm_nic *nic)
{
    const uint64_t one = 1;

    if (nic->has_thread) {
        (void)!write(nic->event_fd, &one, sizeof(one));
    }
}

/* ---- with nic->lock held ---- */

static bool is_ring_on(const struct nm_nic *nic, enum nm_txrx t, unsigned i)
{
    return atomic_load(&nic->na.krings[t][i].is_on);
}

static void notify(struct nm_nic *nic, struct nic_side *side, uint64_t set)
{
    if (!nic->is_active) {
        return; /* the number of host rings may be changing */
    }
    const unsigned first = nic_first_ring(nic, side, NM_RX), n = nic_n_rings(nic, side, NM_RX);
    for (unsigned i = 0; i < n; i++) {
        if ((set >> i & 1) && is_ring_on(nic, NM_RX, first + i)) {
            struct nm_kring *kring = &nic->na.krings[NM_RX][first + i];
            kring->notify(kring, 0);
        }
    }
}

/* Whether frames of this side may be for the other one: a ring that they follow is not in netmap
 * mode. */
static bool may_pass(struct nm_nic *nic, const struct nic_side *side)
{
    const enum nm_txrx t = side == &nic->wire ? NM_RX : NM_TX;
    bool passes = !nic->is_active;

    for (unsigned i = 0; i < nic->na.n_rings[t] && !passes; i++) {
        passes = !is_ring_on(nic, t, i);
    }
    return passes && nic_other_side(nic, side)->backend;
}

static void serve(struct nm_nic *nic, struct nic_side *side)
{
    atomic_store(&side->is_armed, false);
    if (may_pass(nic, side) || (nic->is_active && side->queues)) {
        bool is_full = !nic_pump(nic, side);
        if (!is_full) {
            nic_arm(nic, side);
        } else { /* whoever takes frames arms it again */
            atomic_fetch_or(&side->pending, UINT64_MAX);
        }
    } else {
        notify(nic, side, UINT64_MAX); /* whoever finds nothing arms it again */
    }
}

static void notify_pending(struct nm_nic *nic, struct nic_side *side)
{
    if (atomic_load_explicit(&side->pending, memory_order_relaxed)) {
        notify(nic, side, atomic_exchange(&side->pending, 0));
    }
}

/* Goes on sending what rings had handed over. */
static void resume(struct nm_nic *nic)
{
    atomic_store(&nic->wire.is_stalled, false);
    for (unsigned i = 0; i < nic->na.n_rings[NM_TX] && nic->is_active; i++) {
        struct nm_kring *kring = &nic->na.krings[NM_TX][i];
        if (!is_ring_on(nic, NM_TX, i) || nm_kr_acquire(kring, false) != 0) {
            continue;
        }
        const uint32_t before = kring->hwcur;
        nic_txsync(kring, 0);
        const bool has_moved = kring->hwcur != before;
        nm_kr_release(kring);
        /* a switch that found the ring taken meanwhile has left its frames to us */
        if (has_moved || (nic->na.flags & NAF_BUSY)) {
            nm_kr_notify(kring, 0);
        }
    }
}

/* ---- the loop ---- */

static void handle(struct nm_nic *nic, uint32_t which)
{
    uint64_t count;

    pthread_mutex_lock(&nic->lock);
    if (which == EVENT) {
        (void)!read(nic->event_fd, &count, sizeof(count));
    } else {
        serve(nic, which == WIRE ? &nic->wire : &nic->stack);
    }
    notify_pending(nic, &nic->wire);
    notify_pending(nic, &nic->stack);
    pthread_mutex_unlock(&nic->lock);
}

static void *run(void *data)
{
    struct nm_nic *nic = data;
    int retry_ms = 1;

    while (!atomic_load(&nic->is_stopping)) {
        struct epoll_event events[4];
        const bool is_stalled = atomic_load(&nic->wire.is_stalled);
        int n = epoll_wait(nic->epoll_fd, events, 4, is_stalled ? retry_ms : -1);
        for (int i = 0; i < n; i++) {
            handle(nic, events[i].data.u32);
        }
        if (is_stalled) {
            pthread_mutex_lock(&nic->lock);
            resume(nic);
            pthread_mutex_unlock(&nic->lock);
        }
        retry_ms = atomic_load(&nic->wire.is_stalled) ? MIN(retry_ms * 2, MAX_RETRY_MS) : 1;
    }
    return NULL;
}

/* ---- start and stop ---- */

static int watch(struct nm_nic *nic, int fd, uint32_t which, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = which};

    return epoll_ctl(nic->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? errno : 0;
}

static int watch_side(struct nm_nic *nic, struct nic_side *side, uint32_t which)
{
    if (!side->backend || side->backend->fd < 0) {
        return 0;
    }
    atomic_store(&side->is_armed, true);
    return watch(nic, side->backend->fd, which, EPOLLIN | EPOLLONESHOT);
}

/* Signals are for the program's own threads. */
static int start(struct nm_nic *nic)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&nic->thread, NULL, run, nic);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int nic_thread_start(struct nm_nic *nic)
{
    int error = 0;

    nic->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    nic->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (nic->epoll_fd < 0 || nic->event_fd < 0) {
        error = errno;
    }
    error = error ? error : watch(nic, nic->event_fd, EVENT, EPOLLIN);
    error = error ? error : watch_side(nic, &nic->wire, WIRE);
    error = error ? error : watch_side(nic, &nic->stack, STACK);
    if (!error) {
        nic->has_thread = true; /* before it runs: it looks at it */
        error = start(nic);
        if (error) {
            nic->has_thread = false;
        }
    }
    return error;
}

void nic_thread_stop(struct nm_nic *nic)
{
    if (nic->has_thread) {
        atomic_store(&nic->is_stopping, true);
        nic_wake_thread(nic);
        pthread_join(nic->thread, NULL);
        nic->has_thread = false;
    }
    if (nic->epoll_fd >= 0) {
        close(nic->epoll_fd);
    }
    if (nic->event_fd >= 0) {
        close(nic->event_fd);
    }
    nic->epoll_fd = nic->event_fd = -1;
}
