/*
 * The control requests about the sync-kloop: CSB_ENABLE, SYNC_KLOOP_START, SYNC_KLOOP_STOP, with
 * the checks of netmap_kloop.c at API 14 in their order.
 */
#include "models/ptnet/kloop_private.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CSB_ALIGN = 64 };

/* Reads the one array and zeroes the other, or says where there is no memory. */
static int probe_csb(const struct nm_csb_atok *atok, struct nm_csb_ktoa *ktoa, unsigned n_rings)
{
    size_t bytes = n_rings * sizeof(*atok);
    g_autofree uint8_t *probe = g_try_malloc0(bytes);

    _Static_assert(sizeof(*atok) == sizeof(*ktoa), "both arrays are equally long");
    if (!probe)
        return ENOMEM;
    int err = nm_copyin(probe, (uintptr_t)atok, bytes);
    if (err)
        return err;
    memset(probe, 0, bytes);
    return nm_copyout((uintptr_t)ktoa, probe, bytes);
}

static void store(_Atomic uint32_t *field, uint32_t value)
{
    atomic_store_explicit(field, value, memory_order_relaxed);
}

static void init_entry(const struct nm_kring *kring, struct nm_csb_atok *atok,
                       struct nm_csb_ktoa *ktoa)
{
    store(&atok->head, kring->rhead);
    store(&atok->cur, kring->rcur);
    store(&atok->appl_need_kick, 1);
    store(&atok->sync_flags, NAF_FORCE_READ);
    store(&ktoa->hwcur, kring->hwcur);
    store(&ktoa->hwtail, atomic_load(&kring->hwtail));
    store(&ktoa->kern_need_kick, 1);
}

int kloop_csb_enable(struct nm_file *file, struct nm_csb_atok *atok, struct nm_csb_ktoa *ktoa)
{
    unsigned n_tx = kloop_file_rings(file, NM_TX), n_rings = n_tx + kloop_file_rings(file, NM_RX);

    if (atomic_load(&file->kloop_state) & KLOOP_RUNNING)
        return EBUSY;
    if (n_rings == 0)
        return 0;
    if (!(file->reg_flags & NR_EXCLUSIVE))
        return EINVAL;
    if ((uintptr_t)atok % CSB_ALIGN || (uintptr_t)ktoa % CSB_ALIGN)
        return EINVAL;
    int err = probe_csb(atok, ktoa, n_rings);
    if (err)
        return err;
    file->csb_atok = atok;
    file->csb_ktoa = ktoa;
    for (int t = NM_RX; t <= NM_TX; t++) {
        unsigned entry = t == NM_TX ? 0 : n_tx;

        for (unsigned k = file->first[t]; k < file->last[t]; k++, entry++)
            init_entry(&file->na->krings[t][k], &atok[entry], &ktoa[entry]);
    }
    return 0;
}

int kloop_start(struct nm_file *file, const struct nmreq_sync_kloop_start *request,
                struct nmreq_opt_sync_kloop_eventfds *eventfds,
                struct nmreq_opt_sync_kloop_mode *mode)
{
    struct kloop_options options = {
        .eventfds = eventfds ? eventfds->eventfds : NULL,
        .mode = mode ? mode->mode : 0,
        .sleep_us = request->sleep_us,
    };
    int err;

    if (eventfds) {
        size_t head = sizeof(*eventfds), one = sizeof(eventfds->eventfds[0]);
        uint64_t size = eventfds->nro_opt.nro_size;

        /* a size that is not 24 + 8 * rings matches no number of rings */
        options.n_eventfds =
            size >= head && (size - head) % one == 0 ? (unsigned)((size - head) / one) : UINT_MAX;
    }
    struct kloop *kloop = kloop_create(file, &options, mode ? &mode->nro_opt.nro_status : NULL,
                                       eventfds ? &eventfds->nro_opt.nro_status : NULL, &err);
    if (!kloop)
        return err;
    kloop_run(kloop);
    kloop_free(kloop);
    return 0;
}

/* ---- stopping: who waits sleeps on the state word itself ---- */

void kloop_set_stopped(struct nm_file *file)
{
    atomic_store(&file->kloop_state, 0);
    syscall(SYS_futex, &file->kloop_state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool wait_until_stopped(struct nm_file *file)
{
    struct timespec deadline;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += KLOOP_STOP_DEADLINE_MS / 1000;
    for (;;) {
        int state = atomic_load(&file->kloop_state);

        /* its end clears both bits; RUNNING alone is a loop that was started since */
        if (state != (KLOOP_RUNNING | KLOOP_STOPPING))
            return true;
        if (syscall(SYS_futex, &file->kloop_state, FUTEX_WAIT_BITSET_PRIVATE, state, &deadline,
                    NULL, FUTEX_BITSET_MATCH_ANY) != 0 &&
            errno == ETIMEDOUT)
            return false;
    }
}

int kloop_stop(struct nm_file *file)
{
    struct nm_adapter *na = file->na;

    if (!na || na->active_files == 0)
        return ENXIO;
    if (!(atomic_fetch_or(&file->kloop_state, KLOOP_STOPPING) & KLOOP_RUNNING))
        return 0;
    struct nm_waiters *queue = kloop_port_queue(file, NM_RX);
    nm_waiters_wake(queue ? queue : kloop_port_queue(file, NM_TX), NULL);
    return wait_until_stopped(file) ? 0 : ETIMEDOUT;
}
