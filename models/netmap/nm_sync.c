/*
 * The application's syncs: NIOCTXSYNC and NIOCRXSYNC over the rings that a file has bound
 * (netmap.md 6.5), and the steps of one ring's sync that poll shares.
 */
#include "models/netmap/nm_sync_private.h"

#include <errno.h>
#include <time.h>

/* An application that wrote to tail, which is not its to write, finds it mended. */
static void mend_tail(struct nm_kring *kring)
{
    struct netmap_ring *ring = kring->ring;

    if (atomic_load_explicit(&ring->tail, memory_order_relaxed) != kring->rtail) {
        atomic_store_explicit(&ring->tail, kring->rtail, memory_order_relaxed);
        nm_log(kring->na->host, "%s: the application changed tail", kring->name);
    }
}

bool nm_sync_enter(struct nm_kring *kring)
{
    struct netmap_ring *ring = kring->ring;
    const uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    const uint32_t cur = atomic_load_explicit(&ring->cur, memory_order_relaxed);
    const bool is_good = kring->tx == NM_TX ? nm_txsync_prologue(kring, head, cur)
                                            : nm_rxsync_prologue(kring, head, cur);

    if (is_good) {
        mend_tail(kring);
    } else {
        nm_ring_reinit(kring);
    }
    return is_good;
}

void nm_sync_timestamp(struct nm_kring *kring)
{
    struct netmap_ring *ring = kring->ring;

    if (!kring->na->host->options.no_timestamp ||
        (atomic_load_explicit(&ring->flags, memory_order_relaxed) & NR_TIMESTAMP)) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        ring->ts = (struct netmap_timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    }
}

void nm_sync_forward_up(struct nm_kring *kring)
{
    if (kring->na->ops->forward_up) {
        kring->na->ops->forward_up(kring);
    }
}

int nm_sync_usable(struct nm_file *file)
{
    if (!nm_file_if(file) || (file->na->flags & NAF_ZOMBIE)) {
        return ENXIO;
    }
    return file->csb_atok ? EBUSY : 0;
}

static void sync_one(struct nm_file *file, struct nm_kring *kring)
{
    const bool is_good = nm_sync_enter(kring);

    if (kring->tx == NM_TX) {
        if (is_good && kring->sync(kring, file->sync_flags | NAF_FORCE_RECLAIM) == 0) {
            nm_sync_finalize(kring);
        }
        return;
    }
    nm_sync_forward_up(kring);
    if (kring->sync(kring, file->sync_flags | NAF_FORCE_READ) == 0) {
        nm_sync_finalize(kring);
    }
    nm_sync_timestamp(kring);
}

static int sync_all(struct nm_file *file, enum nm_txrx t)
{
    int err = nm_sync_usable(file);

    if (err) {
        return err;
    }
    for (unsigned i = file->first[t]; i < file->last[t]; i++) {
        struct nm_kring *kring = &file->na->krings[t][i];

        switch (nm_kr_acquire(kring, false)) {
        case 0:
            sync_one(file, kring);
            nm_kr_release(kring);
            break;
        case EIO:
            err = EIO;
            break;
        default: /* another thread is at it */
            break;
        }
    }
    return err;
}

int nm_txsync(struct nm_file *file)
{
    return sync_all(file, NM_TX);
}

int nm_rxsync(struct nm_file *file)
{
    return sync_all(file, NM_RX);
}
