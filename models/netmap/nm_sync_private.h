/*
 * The steps of one ring's sync on behalf of an application, for the sync calls and for poll.
 */
#ifndef RINGLAB_NM_SYNC_PRIVATE_H
#define RINGLAB_NM_SYNC_PRIVATE_H

#include "models/netmap/nm_kern.h"

/* 0; ENXIO: not registered, or the driver is gone; EBUSY: in CSB mode, the sync-kloop's. */
int nm_sync_usable(struct nm_file *file);
/* Takes head and cur from the shared ring. False: they were refused and the ring went through
 * reinit; a sync now takes nothing. The kring is acquired. */
bool nm_sync_enter(struct nm_kring *kring);
/* Slots of an rx ring that go to the host stack before it is synced. */
void nm_sync_forward_up(struct nm_kring *kring);
/* ring.ts, where it is wanted. */
void nm_sync_timestamp(struct nm_kring *kring);

#endif
