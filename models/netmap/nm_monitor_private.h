/*
 * Monitors, inside (netmap.md 11). nm_monitor.c says who monitors what, as ports come and go;
 * nm_monitor_path.c is what happens to frames.
 */
#ifndef RINGLAB_NM_MONITOR_PRIVATE_H
#define RINGLAB_NM_MONITOR_PRIVATE_H

#include "models/netmap/nm_kern.h"

/* A ring that is monitored: a port's, or that of a zero-copy monitor which has another one behind
 * it. Changed while the ring is locked, looked at while it is acquired. */
struct nm_monitored {
    int (*sync)(struct nm_kring *kring, int flags); /* the port's own */
    GPtrArray *copies;                              /* struct nm_kring of copy monitors */
    struct nm_kring *zcopy;                         /* the first of the chain; NULL: none */
};

/* The receive ring of a monitor, its kring's port_data. Frames come from rings that several threads
 * sync: the lock is theirs, and guards hwcur, hwtail and the slots in between. */
struct nm_monitor_ring {
    pthread_mutex_t lock;
};

/* Puts monitors before a ring's own functions, or takes them away again: called when the first one
 * comes or the last has gone. The ring is locked. */
void nm_monitor_hook(struct nm_kring *kring);
void nm_monitor_unhook(struct nm_kring *kring);
/* rxsync of a monitor's ring: gives slots back. */
int nm_monitor_release_slots(struct nm_kring *mkring);

#endif
