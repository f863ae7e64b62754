/*
 * A split virtqueue, driver side: descriptors, chains, indirect tables, publishing, notification
 * suppression by flags and by event index, used buffers checked. Works on shared memory alone: it
 * knows no device and no bus. Follows virtio 1.2, 2.7.
 * Every store and load that the device may see is a C11 atomic; what the device may change is read
 * once and checked.
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
    uint16_t size;         /* entries, a power of two, 1..32768 */
    bool has_event_idx;    /* VIRTIO_F_EVENT_IDX negotiated */
    bool has_indirect;     /* VIRTIO_F_INDIRECT_DESC negotiated */
    uint64_t desc_gpa, avail_gpa, used_gpa;
    struct virtq_desc *desc; /* host views of the same */
    struct virtq_avail *avail;
    struct virtq_used *used;
    struct guest_region *region;
    uint64_t region_offset; /* of the allocation that holds everything */
    uint16_t n_free;        /* free descriptors */
    uint16_t free_head;
    uint16_t avail_idx;     /* next index to fill; published up to avail_idx_published */
    uint16_t avail_idx_published;
    uint16_t avail_idx_notified; /* at the last notification decision */
    uint16_t last_used_idx;
    uint16_t n_in_flight;   /* chains the device has */
    bool is_broken;         /* the device returned nonsense: reset needed */
    char *broken_reason;
    struct virtqueue_slot *slots;           /* per head: token, chain length; private */
    uint64_t indirect_gpa;                  /* per head, one table; private */
    struct virtq_desc *indirect;
    uint16_t indirect_entries;
};

enum virtqueue_layout {
    VIRTQUEUE_LAYOUT_MODERN, /* three areas, each aligned as 2.7 asks */
    VIRTQUEUE_LAYOUT_LEGACY, /* one block, page-aligned, used ring at the next 4096 boundary */
};

/* Allocates and zeroes the rings in `region` (placed in `memory`). With `indirect_entries` > 0 and
 * has_indirect, chains longer than one descriptor use an indirect table of up to that many. */
struct virtqueue *virtqueue_new(struct guest_memory *memory, struct guest_region *region,
                                uint16_t size, enum virtqueue_layout layout, bool has_event_idx,
                                uint16_t indirect_entries, GError **error);
void virtqueue_free(struct virtqueue *vq);
/* As new, after the device was reset: rings zeroed, nothing in flight. */
void virtqueue_reset(struct virtqueue *vq);

/* Adds a chain of `n_out` buffers the device reads followed by `n_in` it writes. Returns true, or
 * false if there are too few free descriptors (nothing was changed). The chain is visible to the
 * device after virtqueue_publish. `token` comes back with the used buffer; it is not NULL. */
bool virtqueue_add(struct virtqueue *vq, const struct virtqueue_buffer *buffers, unsigned n_out,
                   unsigned n_in, void *token);
/* Makes all added chains available (virtio 1.2, 2.7.13.3). */
void virtqueue_publish(struct virtqueue *vq);
/* After publishing: whether the device wants to be notified (2.7.13.4.1). Asks once for everything
 * published since the last call; the answer is lost if not acted on. */
bool virtqueue_needs_kick(struct virtqueue *vq);

/* Takes up to `max` used chains. Returns how many; marks the queue broken and stops at the first
 * thing a device must not return (id out of range, a head not in flight, more used than
 * available). */
unsigned virtqueue_pop(struct virtqueue *vq, struct virtqueue_used *used, unsigned max);
/* Whether pop would find something. */
bool virtqueue_has_used(const struct virtqueue *vq);

/* Interrupts are a hint: disabling is best effort. Enabling returns true if nothing was used in
 * the meantime; false: look again before sleeping (2.7.7, 2.7.10). */
void virtqueue_disable_interrupts(struct virtqueue *vq);
bool virtqueue_enable_interrupts(struct virtqueue *vq);
/* With event index: interrupt after about 3/4 of what is in flight; else as enable. */
bool virtqueue_enable_interrupts_delayed(struct virtqueue *vq);

/* (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx): whether going from old to new
 * passed the event index. */
static inline bool virtqueue_need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
    return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

#endif
