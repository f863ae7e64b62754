/*
 * netmap's sync-kloop: a loop that syncs the rings of one file on behalf of an application that
 * speaks through a control and status block (CSB) in shared memory: a ptnet guest, or any program.
 * Follows netmap_kloop.c at API 14. Run as a thread's work, or stepped, one ring pass at a time.
 *
 * Rings are numbered as their CSB entries are: all bound tx rings, then all bound rx rings.
 *
 * Where it differs from the kernel's, on purpose:
 *  - a visit to a ring ends after KLOOP_ROUNDS rounds even if the application always has more (it
 *    goes on in the next pass, with kicks off in between), so that no ring starves the others;
 *  - only FORCE_READ and FORCE_RECLAIM of the application's sync_flags are passed on;
 *  - a ring that is direct and kicked through its ioeventfd is synced by the loop (a descriptor
 *    has no way to run it in its writer's context; kloop_kick does).
 */
#ifndef RINGLAB_KLOOP_H
#define RINGLAB_KLOOP_H

#include "models/netmap/nm_kern.h"

enum {
    KLOOP_RUNNING = 1, /* nm_file.kloop_state */
    KLOOP_STOPPING = 2,

    KLOOP_ROUNDS = 16,              /* syncs of one ring before the next one has its turn */
    KLOOP_SLEEP_MS = 3000,          /* longest sleep between two passes, event mode */
    KLOOP_MAX_SLEEP_US = 1000000,   /* sleep_us */
    KLOOP_STOP_DEADLINE_MS = 10000, /* how long kloop_stop waits */
};

/* CSB_ENABLE, and the CSB option of REGISTER (ptnet.md 4.1): both arrays are as long as the file
 * has bound rings. 0, or EBUSY (a loop runs), EINVAL (not exclusive; an array not aligned to 64),
 * EFAULT. Without bound rings 0, and nothing is recorded. */
int kloop_csb_enable(struct nm_file *file, struct nm_csb_atok *atok, struct nm_csb_ktoa *ktoa);
/* SYNC_KLOOP_START (ptnet.md 7.1): returns when it was stopped. Options may be NULL; their statuses
 * are set. 0, or EINVAL, ENXIO, EBUSY, or what a descriptor's look-up gave. Not with host->lock
 * held. */
int kloop_start(struct nm_file *file, const struct nmreq_sync_kloop_start *request,
                struct nmreq_opt_sync_kloop_eventfds *eventfds,
                struct nmreq_opt_sync_kloop_mode *mode);
/* SYNC_KLOOP_STOP: returns when it has stopped. With none running, STOPPING stays set and the next
 * one ends at its first look. 0, ENXIO, or ETIMEDOUT (it did not end within its deadline). */
int kloop_stop(struct nm_file *file);

/* ---- the same by hand ---- */

struct kloop;

struct kloop_options {
    /* Per ring {ioeventfd, irqfd}; duplicated, the caller keeps its own. A negative ioeventfd
     * anywhere: busy waiting; a negative irqfd: no interrupts for that ring. */
    const struct nmreq_opt_sync_kloop_eventfd *eventfds;
    unsigned n_eventfds;
    /* Instead of `eventfds`: interrupts are calls, from whatever thread found a reason, perhaps
     * with a ring acquired; kicks come through kloop_kick. NULL, and no eventfds: busy waiting. */
    void (*interrupt)(void *data, unsigned ring);
    void *interrupt_data;
    uint32_t mode;     /* NM_OPT_SYNC_KLOOP_DIRECT_ */
    uint32_t sleep_us; /* busy waiting: after each pass; 0..KLOOP_MAX_SLEEP_US */
};

struct kloop_stats {
    uint64_t passes, kicks_seen, interrupts;
    uint64_t sleeps, timeouts; /* timeouts: sleeps that nothing ended; work then was a lost wake */
    uint64_t tx_syncs, rx_syncs;
    uint64_t bad_rings; /* prologues that failed */
    uint64_t sync_errors;
};

/* The checks of ptnet.md 7.1; errno in *err. The file is RUNNING until kloop_free. */
struct kloop *kloop_new(struct nm_file *file, const struct kloop_options *options, int *err);
void kloop_free(struct kloop *kloop);
/* One pass over all rings that are not direct, or were kicked by descriptor. False, and nothing is
 * done, once it is STOPPING. */
bool kloop_step(struct kloop *kloop);
/* One visit to ring i, direct or not. */
void kloop_step_ring(struct kloop *kloop, unsigned i);
/* Ring i was kicked, as by a write to its ioeventfd. Direct: synced here and now. Any thread. */
void kloop_kick(struct kloop *kloop, unsigned i);
/* Whether anything (a kick, the port, a visit that was cut short) called for a pass since the last
 * call; clears it. Busy waiting: always true. */
bool kloop_take_wake(struct kloop *kloop);
/* Passes until STOPPING, sleeping in between (event mode: until woken, at most KLOOP_SLEEP_MS). */
void kloop_run(struct kloop *kloop);
/* Any thread. */
struct kloop_stats kloop_stats(const struct kloop *kloop);

#endif
