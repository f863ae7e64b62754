/*
 * Receive queues that several senders fill at once. A sender reserves slots (a lease), copies into
 * them without a lock, and publishes; slots become visible in the order in which they were reserved
 * (netmap.md 9.3, 7). kring->leases holds, at a finished lease's first slot, its end + 1 while
 * earlier ones are still being filled.
 */
#include "models/vale/vale_private.h"

void vale_queue_init(struct nm_kring *kring)
{
    kring->leases = g_new0(uint32_t, kring->num_slots);
    kring->lease_next = atomic_load_explicit(&kring->hwtail, memory_order_relaxed);
}

void vale_queue_clear(struct nm_kring *kring)
{
    g_clear_pointer(&kring->leases, g_free);
}

static uint32_t room(const struct nm_kring *kring)
{
    uint32_t released = __atomic_load_n(&kring->hwcur, __ATOMIC_SEQ_CST);

    return kring->num_slots - 1 - nm_dist(released, kring->lease_next, kring->num_slots);
}

uint32_t vale_queue_room(struct nm_kring *kring)
{
    pthread_spin_lock(&kring->lease_lock);
    uint32_t n = room(kring);
    pthread_spin_unlock(&kring->lease_lock);
    return n;
}

uint32_t vale_queue_reserve(struct nm_kring *kring, uint32_t n, uint32_t *first)
{
    pthread_spin_lock(&kring->lease_lock);
    n = MIN(n, room(kring));
    *first = kring->lease_next;
    uint32_t next = kring->lease_next + n;
    kring->lease_next = next >= kring->num_slots ? next - kring->num_slots : next;
    pthread_spin_unlock(&kring->lease_lock);
    return n;
}

/* A later lease exists: what was not used cannot be given back. */
static void fill_with_nothing(struct nm_kring *kring, uint32_t from, uint32_t end)
{
    for (uint32_t i = from; i != end; i = nm_next(i, kring->num_slots)) {
        union nm_slot_word slot = nm_slot_load(&kring->ring->slot[i]);
        slot.len = 0;
        slot.flags = 0;
        nm_slot_store(&kring->ring->slot[i], slot);
    }
}

void vale_queue_publish(struct nm_kring *kring, uint32_t first, uint32_t reserved, uint32_t used)
{
    uint32_t n = kring->num_slots;
    uint32_t end = first + reserved >= n ? first + reserved - n : first + reserved;
    uint32_t used_end = first + used >= n ? first + used - n : first + used;

    if (reserved == 0) {
        return;
    }
    pthread_spin_lock(&kring->lease_lock);
    if (used < reserved && kring->lease_next == end) {
        kring->lease_next = end = used_end;
    } else if (used < reserved) {
        fill_with_nothing(kring, used_end, end);
    }
    uint32_t tail = atomic_load_explicit(&kring->hwtail, memory_order_relaxed);
    if (tail == first) {
        tail = end;
        while (kring->leases[tail] != 0) {
            uint32_t next = kring->leases[tail] - 1;
            kring->leases[tail] = 0;
            tail = next;
        }
        atomic_store_explicit(&kring->hwtail, tail, memory_order_release);
    } else if (end != first) {
        kring->leases[first] = end + 1;
    }
    pthread_spin_unlock(&kring->lease_lock);
}
