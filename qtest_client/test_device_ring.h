/*
 * The device's side of a split virtqueue, for tests of the driver's side: takes chains, returns
 * them, decides about interrupts and asks for kicks. Follows virtio 1.2, 2.7; written plainly, and
 * independent of virtqueue.c, which it is there to check.
 */
#ifndef RINGLAB_TEST_DEVICE_RING_H
#define RINGLAB_TEST_DEVICE_RING_H

#include "models/abi/virtio_ring.h"
#include "qtest_client/guest_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { DEVICE_CHAIN_MAX = 64 };

struct device_ring {
    struct guest_memory *memory;
    uint64_t desc_gpa, avail_gpa, used_gpa;
    uint16_t size;
    bool has_event_idx;
    uint16_t last_avail;    /* chains taken */
    uint16_t used_idx;      /* chains returned, published or not */
    uint16_t signalled_idx; /* used index at the last interrupt decision */
};

struct device_buffer {
    uint8_t *host; /* NULL: outside guest memory */
    uint64_t gpa;
    uint32_t len;
};

struct device_chain {
    uint16_t head;
    unsigned n_out, n_in;
    bool was_indirect;
    struct device_buffer buffers[DEVICE_CHAIN_MAX]; /* those to read, then those to write */
};

static inline struct virtq_avail *device_avail(const struct device_ring *r)
{
    return guest_memory_host(r->memory, r->avail_gpa, VIRTQ_AVAIL_BYTES(r->size));
}

static inline struct virtq_used *device_used(const struct device_ring *r)
{
    return guest_memory_host(r->memory, r->used_gpa, VIRTQ_USED_BYTES(r->size));
}

static inline uint16_t device_used_event(const struct device_ring *r)
{
    return device_avail(r)->ring[r->size];
}

static inline void device_set_avail_event(const struct device_ring *r, uint16_t event)
{
    _Atomic uint16_t *at = (void *)(device_used(r)->ring + r->size);

    *at = event;
}

/* Follows one list of descriptors, `n_table` long at `table`. False if it goes astray. */
static inline bool device_follow(const struct device_ring *r, uint64_t table_gpa, uint32_t n_table,
                                 uint16_t first, bool in_table, struct device_chain *chain)
{
    const struct virtq_desc *table =
        guest_memory_host(r->memory, table_gpa, (uint64_t)n_table * sizeof(*table));
    uint16_t at = first;

    for (uint32_t n = 0; table && n < n_table && at < n_table; n++) {
        struct virtq_desc d = table[at];
        if (d.flags & VIRTQ_DESC_F_INDIRECT) {
            chain->was_indirect = true;
            return !in_table && d.len % sizeof(d) == 0 && d.len > 0 &&
                   device_follow(r, d.addr, d.len / (uint32_t)sizeof(d), 0, true, chain);
        }
        if (chain->n_out + chain->n_in == DEVICE_CHAIN_MAX ||
            (chain->n_in > 0 && !(d.flags & VIRTQ_DESC_F_WRITE))) {
            return false;
        }
        chain->buffers[chain->n_out + chain->n_in] =
            (struct device_buffer){guest_memory_host(r->memory, d.addr, d.len), d.addr, d.len};
        if (d.flags & VIRTQ_DESC_F_WRITE) {
            chain->n_in++;
        } else {
            chain->n_out++;
        }
        if (!(d.flags & VIRTQ_DESC_F_NEXT)) {
            return true;
        }
        at = d.next;
    }
    return false;
}

static inline uint16_t device_n_available(const struct device_ring *r)
{
    return (uint16_t)(device_avail(r)->idx - r->last_avail);
}

/* Takes the next chain. False: there is none, or it is malformed (head is 0xffff then). */
static inline bool device_take(struct device_ring *r, struct device_chain *chain)
{
    memset(chain, 0, sizeof(*chain));
    chain->head = 0xffff;
    if (device_n_available(r) == 0) {
        return false;
    }
    uint16_t head = device_avail(r)->ring[r->last_avail++ % r->size];
    if (!device_follow(r, r->desc_gpa, r->size, head, false, chain)) {
        return false;
    }
    chain->head = head;
    return true;
}

/* Writes a used entry; the driver sees it after device_publish. */
static inline void device_put(struct device_ring *r, uint32_t id, uint32_t len)
{
    struct virtq_used_elem *entry = &device_used(r)->ring[r->used_idx++ % r->size];

    entry->id = id;
    entry->len = len;
}

/* Whether going from index `from` to `to` passed `event`, one step at a time. */
static inline bool device_passes(uint16_t from, uint16_t to, uint16_t event)
{
    for (uint16_t i = from; i != to; i++) {
        if (i == event) {
            return true;
        }
    }
    return false;
}

/* Publishes what was put. Returns whether the driver wants an interrupt for it. */
static inline bool device_publish(struct device_ring *r)
{
    device_used(r)->idx = r->used_idx;
    atomic_thread_fence(memory_order_seq_cst);
    uint16_t from = r->signalled_idx;
    r->signalled_idx = r->used_idx;
    if (r->has_event_idx) {
        return device_passes(from, r->used_idx, device_used_event(r));
    }
    return from != r->used_idx && !(device_avail(r)->flags & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

/* Asks to be kicked for the next chain, or for none (flags mode only). */
static inline void device_want_kicks(struct device_ring *r, bool wanted)
{
    if (r->has_event_idx && wanted) {
        device_set_avail_event(r, r->last_avail);
    } else if (!r->has_event_idx) {
        device_used(r)->flags = wanted ? 0 : VIRTQ_USED_F_NO_NOTIFY;
    }
    atomic_thread_fence(memory_order_seq_cst);
}

#endif
