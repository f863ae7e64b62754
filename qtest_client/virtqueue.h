/*
 * A split virtqueue, driver side: descriptors, chains, indirect tables, publishing, notification
 * suppression by flags and by event index, used buffers checked. Works on shared memory alone: it
 * knows no device and no bus. Follows virtio 1.2, 2.7.
 * Fields that one side stores while the other loads are C11 atomics; descriptors are plain, and
 * ordered by the fences around them. What the device may change is read once and checked.
 */
#ifndef RINGLAB_VIRTQUEUE_H
#define RINGLAB_VIRTQUEUE_H

#include "models/abi/virtio_ring.h"
#include "qtest_client/guest_memory.h"

#include <stdbool.h>
#include <stdint.h>

#define VIRTQUEUE_ERROR (virtqueue_error_quark())
GQuark virtqueue_error_quark(void);

enum virtqueue_error {
    VIRTQUEUE_ERROR_INVALID, /* a size or feature combination that cannot be */
    VIRTQUEUE_ERROR_DEVICE,  /* the device returned something the specification forbids */
};

/* One buffer: a guest address and a length in bytes (1..2^32-1). */
struct virtqueue_buffer {
    uint64_t gpa;
    uint32_t len;
};

/* A used chain. */
struct virtqueue_used {
    void *token;  /* what was given to virtqueue_add */
    uint32_t len; /* bytes the device says it wrote */
    uint16_t head;
};

struct virtqueue {
    uint16_t size;      /* entries, a power of two, 1..32768 */
    bool has_event_idx; /* VIRTIO_F_EVENT_IDX negotiated */
    bool has_indirect;  /* chains use indirect tables: VIRTIO_F_INDIRECT_DESC negotiated */
    uint64_t desc_gpa, avail_gpa, used_gpa;
    struct virtq_desc *desc; /* host views of the same */
    struct virtq_avail *avail;
    struct virtq_used *used;
    struct guest_region *region;
    uint64_t region_offset; /* of the allocation that holds everything */
    uint16_t n_free;        /* free descriptors */
    uint16_t free_head;
    uint16_t avail_idx;           /* chains added so far, modulo 2^16 */
    uint16_t avail_idx_published; /* what the device may know of them */
    uint16_t avail_idx_notified;  /* at the last notification decision */
    uint32_t n_undecided;         /* published since that decision */
    uint16_t last_used_idx;
    uint16_t n_in_flight;             /* chains the device has: published and not yet popped */
    bool is_broken;                   /* the device returned nonsense: reset needed */
    char broken_reason[160];          /* one line, if it is */
    struct virtqueue_slot *slots;     /* per descriptor: token, chain; private */
    uint16_t first_added, last_added; /* chains added and not published; private */
    uint64_t indirect_gpa;            /* per head, one table; private */
    struct virtq_desc *indirect;
    uint16_t indirect_entries;
};

enum virtqueue_layout {
    VIRTQUEUE_LAYOUT_MODERN, /* three areas, each aligned as 2.7 asks */
    VIRTQUEUE_LAYOUT_LEGACY, /* one block, page-aligned, used ring at the next 4096 boundary (2.7.2)
                              */
};

/* Allocates and zeroes the rings in `region`, which is placed in `memory`. `size` is a power of
 * two, 1..32768. `indirect_entries` > 0 (at most `size`; VIRTIO_F_INDIRECT_DESC negotiated): chains
 * of 2 to that many buffers use an indirect table. INVALID, or an error of guest_region_alloc. */
struct virtqueue *virtqueue_new(struct guest_memory *memory, struct guest_region *region,
                                uint16_t size, enum virtqueue_layout layout, bool has_event_idx,
                                uint16_t indirect_entries, GError **error);
/* The device must not use the rings any more: reset it (or the queue) first. NULL is fine. */
void virtqueue_free(struct virtqueue *vq);
/* As new, after the device was reset: rings zeroed, every index restarted, nothing in flight. */
void virtqueue_reset(struct virtqueue *vq);

/* Adds a chain of `n_out` buffers the device reads followed by `n_in` it writes, at least one in
 * all. Returns true; or false, nothing changed, if there are too few free descriptors (always so
 * for a chain longer than the queue) or the queue is broken. The device knows of the chain after
 * virtqueue_publish. `token` comes back with the used buffer; it is not NULL. Addresses and lengths
 * are passed on unchecked: sending the device bad ones is a use of this library. */
bool virtqueue_add(struct virtqueue *vq, const struct virtqueue_buffer *buffers, unsigned n_out,
                   unsigned n_in, void *token);
/* Makes all added chains available (2.7.13.2, 2.7.13.3). */
void virtqueue_publish(struct virtqueue *vq);
/* After publishing: whether the device wants to be notified (2.7.13.4.1). Asks once for everything
 * published since the last call; the answer is lost if not acted on. */
bool virtqueue_needs_kick(struct virtqueue *vq);

/* Takes up to `max` used chains. Returns how many; marks the queue broken and stops at the first
 * thing a device must not return (id out of range, a head not in flight, more used than
 * available, a length beyond what the chain lets it write). */
unsigned virtqueue_pop(struct virtqueue *vq, struct virtqueue_used *used, unsigned max);
/* Whether pop would find something, be it an error. False if the queue is broken. */
bool virtqueue_has_used(const struct virtqueue *vq);

/* Interrupts are a hint: disabling is best effort. Enabling returns true if nothing was used in
 * the meantime; false: look again before sleeping (2.7.7, 2.7.10). */
void virtqueue_disable_interrupts(struct virtqueue *vq);
bool virtqueue_enable_interrupts(struct virtqueue *vq);
/* With event index: interrupt once about 3/4 of what is in flight is used; false: that much is
 * used already. Without: as virtqueue_enable_interrupts. */
bool virtqueue_enable_interrupts_delayed(struct virtqueue *vq);

/* The event index fields, behind the rings (2.7.6, 2.7.8): meaningful with VIRTIO_F_EVENT_IDX. */
static inline _Atomic uint16_t *virtqueue_used_event(const struct virtqueue *vq)
{
    return &vq->avail->ring[vq->size];
}
static inline _Atomic uint16_t *virtqueue_avail_event(const struct virtqueue *vq)
{
    return (_Atomic uint16_t *)(void *)&vq->used->ring[vq->size];
}

/* (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx): whether going from old to new
 * passed the event index. */
static inline bool virtqueue_need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
    return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

#endif
