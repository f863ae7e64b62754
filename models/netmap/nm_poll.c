/*
 * poll on an open file (netmap.md 6.6): syncs what was asked for, says what is ready, and arms the
 * file's eventfd for what is not.
 */
#include "models/netmap/nm_sync_private.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { POLL_TX = POLLOUT | POLLWRNORM, POLL_RX = POLLIN | POLLRDNORM };

struct polling {
    struct nm_file *file;
    short want[NM_N_TXRX]; /* events asked for and not yet found */
    short revents;
    bool is_flushing; /* frames of the host stack were put into NIC tx rings */
};

/* "A descriptor bound to more than one ring of a direction sleeps on the port's queue." */
static void arm(struct nm_file *file, enum nm_txrx t)
{
    const unsigned n = file->last[t] - file->first[t];

    atomic_store(&file->is_armed[t], true);
    if (!file->waits_on[t] && n > 0) {
        file->waits_on[t] =
            n > 1 ? &file->na->waiters[t] : &file->na->krings[t][file->first[t]].waiters;
        nm_waiters_add(file->waits_on[t], &file->waiter[t]);
    }
    atomic_thread_fence(memory_order_seq_cst);
}

static void found(struct polling *p, enum nm_txrx t)
{
    p->revents |= p->want[t];
    p->want[t] = 0;
}

static void poll_ring(struct polling *p, struct nm_kring *kring)
{
    struct nm_file *file = p->file;
    const bool is_tx = kring->tx == NM_TX;
    const int flags = file->sync_flags | (is_tx ? 0 : NAF_FORCE_READ);

    if (!nm_sync_enter(kring)) {
        p->revents |= POLLERR;
    }
    if (!is_tx) {
        nm_sync_forward_up(kring);
    }
    if (kring->sync(kring, flags)) {
        p->revents |= POLLERR;
    } else {
        nm_sync_finalize(kring);
    }
    if (!is_tx) {
        nm_sync_timestamp(kring);
        p->is_flushing |= kring->wants_flush;
        kring->wants_flush = false;
    }
    if (kring->rcur != kring->rtail) {
        found(p, kring->tx);
    }
}

/* Whether a tx ring that nobody asked about has nothing to send. */
static bool is_idle_tx(const struct polling *p, const struct nm_kring *kring)
{
    return kring->tx == NM_TX && !p->want[NM_TX] && !p->is_flushing &&
           atomic_load_explicit(&kring->ring->head, memory_order_relaxed) == kring->hwcur;
}

static void poll_rings(struct polling *p, enum nm_txrx t)
{
    struct nm_file *file = p->file;

    for (unsigned i = file->first[t]; i < file->last[t]; i++) {
        struct nm_kring *kring = &file->na->krings[t][i];
        int err = nm_kr_acquire(kring, false);

        if (err) {
            p->revents |= err == EIO ? POLLERR : 0;
            continue;
        }
        if (!is_idle_tx(p, kring)) {
            poll_ring(p, kring);
        }
        nm_kr_release(kring);
    }
}

/* One look; where it found nothing, armed, and a second look. */
static void poll_direction(struct polling *p, enum nm_txrx t)
{
    poll_rings(p, t);
    if (p->want[t]) {
        arm(p->file, t);
        poll_rings(p, t);
        if (!p->want[t]) {
            atomic_store(&p->file->is_armed[t], false);
        }
    }
}

static void empty_fd(struct nm_file *file)
{
    uint64_t n;

    if (atomic_exchange(&file->is_signalled, false)) {
        ssize_t got = read(file->poll_fd, &n, sizeof(n));

        (void)got; /* empty already: fine */
    }
}

short nm_poll(struct nm_file *file, short events)
{
    struct polling p = {
        .file = file,
        .want = {[NM_TX] = (short)(events & POLL_TX), [NM_RX] = (short)(events & POLL_RX)},
    };

    empty_fd(file);
    if (nm_sync_usable(file)) {
        return POLLERR;
    }
    if (p.want[NM_TX] || !(file->reg_flags & NR_NO_TX_POLL)) {
        poll_direction(&p, NM_TX);
    }
    if (p.want[NM_RX]) {
        poll_direction(&p, NM_RX);
    }
    if (p.is_flushing) {
        poll_rings(&p, NM_TX);
    }
    return p.revents;
}
