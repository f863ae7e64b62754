/*
 * What the files of the sync-kloop share: kloop.c (life, passes, sleeping), kloop_ring.c (one visit
 * to one ring), kloop_request.c (the requests of the control call).
 */
#ifndef RINGLAB_KLOOP_PRIVATE_H
#define RINGLAB_KLOOP_PRIVATE_H

#include "models/ptnet/kloop.h"

struct kloop_ring {
    struct kloop *kloop;
    struct nm_kring *kring;
    struct nm_csb_atok *atok;
    struct nm_csb_ktoa *ktoa;
    unsigned index;
    bool is_direct;
    _Atomic bool is_kicked; /* direct only: the loop is to visit it */
    int ioeventfd, irqfd;   /* our own duplicates; -1: none */
};

struct kloop_counters {
    _Atomic uint64_t passes, kicks_seen, interrupts, sleeps, timeouts, tx_syncs, rx_syncs;
    _Atomic uint64_t bad_rings, sync_errors;
};

struct kloop {
    struct nm_file *file;
    bool is_busy_wait;
    bool has_eventfds; /* kicks come by descriptor too */
    bool is_direct[NM_N_TXRX];
    uint32_t sleep_us;
    void (*interrupt)(void *data, unsigned ring);
    void *interrupt_data;
    int epoll_fd, wake_fd;
    _Atomic bool is_woken;    /* a pass is called for */
    _Atomic bool is_sleeping; /* wake_fd has to be written */
    struct nm_waiter waiters[NM_N_TXRX];
    struct nm_waiters *queues[NM_N_TXRX]; /* where they wait; NULL: nowhere */
    struct kloop_counters counters;
    unsigned n_rings;
    struct kloop_ring rings[]; /* all tx, then all rx */
};

static inline void kloop_count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline unsigned kloop_file_rings(const struct nm_file *file, enum nm_txrx t)
{
    return file->last[t] - file->first[t];
}

/* Asks for a pass: any thread. */
void kloop_wake(struct kloop *kloop);
/* Signals ring's interrupt, if it has one. */
void kloop_interrupt(struct kloop_ring *ring);

/* ptnet.md 7.3 and 7.4; `has_irq` false: no interrupts (direct, 7.6). True: it was cut short, and
 * wants another visit without being kicked for it. */
bool kloop_visit(struct kloop_ring *ring, bool has_irq);

/* kloop_new, which also says what became of each option (pointers may be NULL). */
struct kloop *kloop_create(struct nm_file *file, const struct kloop_options *options,
                           uint32_t *mode_status, uint32_t *eventfds_status, int *err);
/* Clears RUNNING and STOPPING, and wakes who waits for that. */
void kloop_set_stopped(struct nm_file *file);
/* Where the port announces what happens to the file's rings of a direction; NULL: it has none. */
struct nm_waiters *kloop_port_queue(const struct nm_file *file, enum nm_txrx t);

#endif
