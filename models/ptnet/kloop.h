/*
 * netmap's sync-kloop: a loop that syncs the rings of one file on behalf of an application that
 * speaks through a control and status block (CSB) in shared memory: a ptnet guest, or any program.
 * Follows netmap_kloop.c at API 14. Run as a thread's work, or stepped, one ring pass at a time.
 */
#ifndef RINGLAB_KLOOP_H
#define RINGLAB_KLOOP_H

#include "models/netmap/nm_kern.h"

enum { KLOOP_RUNNING = 1, KLOOP_STOPPING = 2 }; /* nm_file.kloop_state */

/* CSB_ENABLE, and the CSB option of REGISTER (ptnet.md 4.1). 0 or errno. */
int kloop_csb_enable(struct nm_file *file, struct nm_csb_atok *atok, struct nm_csb_ktoa *ktoa);
/* SYNC_KLOOP_START: returns when it was stopped. Options' statuses are set. 0 or errno. */
int kloop_start(struct nm_file *file, const struct nmreq_sync_kloop_start *request,
                struct nmreq_opt_sync_kloop_eventfds *eventfds,
                struct nmreq_opt_sync_kloop_mode *mode);
/* SYNC_KLOOP_STOP: returns when it has stopped. */
int kloop_stop(struct nm_file *file);

/* ---- the same by hand ---- */

struct kloop;

struct kloop_options {
    const struct nmreq_opt_sync_kloop_eventfd
        *eventfds; /* per ring, tx first; NULL: busy waiting */
    unsigned n_eventfds;
    uint32_t mode;     /* NM_OPT_SYNC_KLOOP_DIRECT_ */
    uint32_t sleep_us; /* busy waiting: after each pass; 0..1000000 */
};

struct kloop_stats {
    uint64_t passes, kicks_seen, sleeps, interrupts;
    uint64_t tx_syncs, rx_syncs, bad_rings;
};

/* The checks of ptnet.md 7.1; errno in *err. The file is RUNNING until kloop_free. */
struct kloop *kloop_new(struct nm_file *file, const struct kloop_options *options, int *err);
void kloop_free(struct kloop *kloop);
/* One pass over all rings that are not direct. */
void kloop_step(struct kloop *kloop);
/* One pass over ring i (all tx, then all rx). */
void kloop_step_ring(struct kloop *kloop, unsigned i);
/* Whether anything (a kick, the port) called for a pass since the last one; clears it. */
bool kloop_take_wake(struct kloop *kloop);
/* Passes until STOPPING, sleeping in between (event mode: until woken, at most 3 s). */
void kloop_run(struct kloop *kloop);
struct kloop_stats kloop_stats(const struct kloop *kloop);

#endif
