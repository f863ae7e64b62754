/*
 * Krings and rings of an adapter: made when the first file binds it, freed when the last one that
 * needs them is gone (netmap.md 5.3, 5.4). What the rings are for is the port kinds' business.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int sync_of_nobody(struct nm_kring *kring, int flags)
{
    (void)kring;
    (void)flags;
    return EIO;
}

/* An empty ring: nothing to send and room for N - 1, nothing received. */
static void reset(struct nm_kring *kring)
{
    const uint32_t hwtail = kring->tx == NM_TX && kring->num_slots ? kring->num_slots - 1 : 0;

    kring->hwcur = kring->rhead = kring->rcur = 0;
    kring->rtail = hwtail;
    kring->lease_next = hwtail;
    kring->mon_head = 0;
    kring->mon_tail = hwtail;
    kring->offset_mask = kring->offset_max = 0;
    kring->usable_len = kring->buf_size;
    atomic_store_explicit(&kring->hwtail, hwtail, memory_order_relaxed);
    atomic_store_explicit(&kring->pipe_tail, hwtail, memory_order_relaxed);
}

static void kring_init(struct nm_kring *kring, struct nm_adapter *na, enum nm_txrx t, unsigned i)
{
    const bool is_host = i >= na->n_rings[t];

    kring->na = na;
    kring->tx = t;
    kring->ring_id = (uint16_t)i;
    kring->num_slots = na->n_slots[t];
    kring->buf_total = nm_mem_buf_total(na->mem);
    kring->buf_size = nm_mem_buf_size(na->mem);
    kring->buf_base = nm_mem_buf_base(na->mem);
    kring->sync = sync_of_nobody;
    atomic_init(&kring->notify, nm_notify);
    atomic_init(&kring->base_notify, nm_notify);
    kring->flags = is_host && !(na->flags & NAF_HOST_RINGS) ? NKR_FAKE : 0;
    pthread_spin_init(&kring->lease_lock, PTHREAD_PROCESS_PRIVATE);
    nm_waiters_init(&kring->waiters);
    (void)g_snprintf(kring->name, sizeof(kring->name), "%s %s%u", na->name,
                     t == NM_TX ? "TX" : "RX", i);
    reset(kring);
}

static void free_krings(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; na->krings[t] && i < nm_all_rings(na, t); i++) {
            g_assert(!na->krings[t][i].monitored);
            pthread_spin_destroy(&na->krings[t][i].lease_lock);
            nm_waiters_clear(&na->krings[t][i].waiters);
        }
        free(na->krings[t]);
        na->krings[t] = NULL;
    }
}

int nm_krings_create(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        const size_t size = nm_all_rings(na, t) * sizeof(struct nm_kring);

        na->krings[t] = aligned_alloc(_Alignof(struct nm_kring), size);
        if (!na->krings[t]) {
            free_krings(na);
            return ENOMEM;
        }
        memset(na->krings[t], 0, size);
        for (unsigned i = 0; i < nm_all_rings(na, t); i++) {
            kring_init(&na->krings[t][i], na, t, i);
        }
    }
    int err = na->ops->krings_created(na);
    if (err) {
        free_krings(na);
    }
    return err;
}

/* The ring with its buffers back to the pools; buffers that the application put into slots instead
 * of ours go with it, and what it left out is lost until the allocator's last user leaves. */
static void ring_delete(struct nm_kring *kring)
{
    struct nm_mem *mem = kring->na->mem;

    if (!kring->ring) {
        return;
    }
    for (uint32_t i = 0; !(kring->flags & NKR_FAKE) && i < kring->num_slots; i++) {
        const uint32_t buf_idx = nm_slot_load(&kring->ring->slot[i]).buf_idx;

        if (nm_buf_index_ok(buf_idx, kring->buf_total)) {
            nm_mem_free_buf(mem, buf_idx);
        }
    }
    nm_mem_free_object(mem, NM_POOL_RING, kring->ring);
    kring->ring = NULL;
}

/* Slots of a new ring: a fresh buffer each, or buffer 0. */
static bool fill_slots(struct nm_kring *kring, struct netmap_ring *ring)
{
    const uint32_t n = kring->num_slots;
    g_autofree uint32_t *indices = g_new0(uint32_t, n);

    if (!(kring->flags & NKR_FAKE) && !nm_mem_alloc_bufs(kring->na->mem, indices, n)) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        ring->slot[i] =
            (struct netmap_slot){.buf_idx = indices[i], .len = (uint16_t)kring->buf_size};
    }
    return true;
}

static bool ring_create(struct nm_kring *kring)
{
    const struct nm_adapter *na = kring->na;
    const uint64_t len =
        sizeof(struct netmap_ring) + (uint64_t)kring->num_slots * sizeof(struct netmap_slot);
    struct netmap_ring *ring = nm_mem_alloc(na->mem, NM_POOL_RING, len);

    if (!ring) {
        return false;
    }
    reset(kring);
    ring->buf_ofs = (int64_t)((intptr_t)kring->buf_base - (intptr_t)ring);
    ring->num_slots = kring->num_slots;
    ring->nr_buf_size = kring->buf_size;
    ring->ringid = kring->ring_id;
    ring->dir = kring->tx;
    ring->buf_align = NM_BUF_ALIGN;
    atomic_store_explicit(&ring->head, kring->rhead, memory_order_relaxed);
    atomic_store_explicit(&ring->cur, kring->rcur, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, kring->rtail, memory_order_relaxed);
    if (!fill_slots(kring, ring)) {
        nm_mem_free_object(na->mem, NM_POOL_RING, ring);
        return false;
    }
    kring->ring = ring;
    return true;
}

static bool is_needed(const struct nm_kring *kring)
{
    return kring->users > 0 || (kring->flags & NKR_NEEDRING);
}

int nm_rings_create(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < nm_all_rings(na, t); i++) {
            struct nm_kring *kring = &na->krings[t][i];

            if (!kring->ring && is_needed(kring) && !ring_create(kring)) {
                return ENOMEM;
            }
        }
    }
    return 0;
}

void nm_rings_delete(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < nm_all_rings(na, t); i++) {
            if (!is_needed(&na->krings[t][i])) {
                ring_delete(&na->krings[t][i]);
            }
        }
    }
}

void nm_krings_delete(struct nm_adapter *na)
{
    if (!na->krings[NM_TX]) {
        return;
    }
    if (na->ops->krings_deleted) {
        na->ops->krings_deleted(na);
    }
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < nm_all_rings(na, t); i++) {
            ring_delete(&na->krings[t][i]);
        }
    }
    free_krings(na);
}
