/*
 * Frames between the NIC rings and the host stack that pass through an application which marks, and
 * does not copy them: NR_FORWARD, NS_FORWARD, the sysctl fwd (netmap.md 13).
 */
#include "models/netmap/nm_nic_private.h"

/* *all: every slot, not only those that are marked. */
static bool is_forwarding(const struct nm_kring *kring, bool *all)
{
    *all = kring->na->host->options.fwd;
    return *all ||
           (atomic_load_explicit(&kring->ring->flags, memory_order_relaxed) & NR_FORWARD) != 0;
}

void nic_forward_up(struct nm_kring *kring)
{
    bool all;

    if (nic_is_host_ring(kring) || !is_forwarding(kring, &all)) {
        return;
    }
    for (uint32_t at = kring->hwcur; at != kring->rhead; at = nm_next(at, kring->num_slots)) {
        struct netmap_slot *slot = &kring->ring->slot[at];
        union nm_slot_word w = nm_slot_load(slot);
        uint8_t *data = nic_slot_data(kring, slot, w.buf_idx);
        if (!all && !(w.flags & NS_FORWARD)) {
            continue;
        }
        nic_send(&nic_of(kring)->stack, data, data && w.len <= kring->usable_len ? w.len : 0);
        w.flags = (uint16_t)(w.flags & ~NS_FORWARD);
        nm_slot_store(slot, w);
    }
}

/* Exchanges the buffers of a host slot and of a NIC's. */
static void swap_slots(struct netmap_slot *host, union nm_slot_word w, struct netmap_slot *nic)
{
    union nm_slot_word free = nm_slot_load(nic);

    nm_slot_store(
        nic, (union nm_slot_word){.buf_idx = w.buf_idx, .len = w.len, .flags = NS_BUF_CHANGED});
    nm_slot_store(
        host, (union nm_slot_word){.buf_idx = free.buf_idx, .len = w.len, .flags = NS_BUF_CHANGED});
    uint64_t ptr = __atomic_load_n(&nic->ptr, __ATOMIC_RELAXED);
    __atomic_store_n(&nic->ptr, __atomic_load_n(&host->ptr, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    __atomic_store_n(&host->ptr, ptr, __ATOMIC_RELAXED);
}

/* As if the application had put the frames there: its head and cur move. `at` moves on over the
 * host ring's slots. */
static void fill_tx_ring(struct nm_kring *from, struct nm_kring *to, bool all, uint32_t *at)
{
    struct netmap_ring *ring = to->ring;
    const uint32_t n = to->num_slots;
    const uint32_t tail = to->rtail;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    if (head >= n || nm_dist(to->rhead, head, n) > nm_dist(to->rhead, tail, n)) {
        return; /* its own sync will find that out */
    }
    for (; *at != from->rhead && head != tail; *at = nm_next(*at, from->num_slots)) {
        struct netmap_slot *slot = &from->ring->slot[*at];
        union nm_slot_word w = nm_slot_load(slot);
        if (!all && !(w.flags & NS_FORWARD)) {
            continue;
        }
        swap_slots(slot, w, &ring->slot[head]);
        head = nm_next(head, n);
        from->wants_flush = true;
    }
    atomic_store_explicit(&ring->cur, head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head, memory_order_relaxed);
}

void nic_forward_down(struct nm_kring *kring)
{
    struct nm_adapter *na = kring->na;
    uint32_t at = kring->hwcur;
    bool all;

    if (kring->ring_id != na->n_rings[NM_RX] || !is_forwarding(kring, &all)) {
        return; /* the first host ring only */
    }
    for (unsigned i = 0; i < na->n_rings[NM_TX] && at != kring->rhead; i++) {
        fill_tx_ring(kring, &na->krings[NM_TX][i], all, &at);
    }
}
