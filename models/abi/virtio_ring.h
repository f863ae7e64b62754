/*
 * Split virtqueue memory layout, virtio 1.2, 2.7. All fields little-endian. Fields that one side
 * stores while the other loads are atomic.
 */
#ifndef RINGLAB_ABI_VIRTIO_RING_H
#define RINGLAB_ABI_VIRTIO_RING_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    VIRTQ_DESC_F_NEXT = 1,     /* the chain goes on at `next` */
    VIRTQ_DESC_F_WRITE = 2,    /* the device writes this buffer */
    VIRTQ_DESC_F_INDIRECT = 4, /* the buffer is a table of descriptors */

    VIRTQ_AVAIL_F_NO_INTERRUPT = 1,
    VIRTQ_USED_F_NO_NOTIFY = 1,

    VIRTQ_DESC_ALIGN = 16,
    VIRTQ_AVAIL_ALIGN = 2,
    VIRTQ_USED_ALIGN = 4,
    VIRTQ_MAX_SIZE = 32768,
    VIRTQ_LEGACY_ALIGN = 4096, /* page size of the legacy layout, 2.7.2 */
};

/* Written by the driver before the chain is available. */
struct virtq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

/* Followed by `_Atomic uint16_t used_event` after ring[size]. */
struct virtq_avail {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    _Atomic uint16_t ring[];
};

struct virtq_used_elem {
    _Atomic uint32_t id;
    _Atomic uint32_t len;
};

/* Followed by `_Atomic uint16_t avail_event` after ring[size]. */
struct virtq_used {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    struct virtq_used_elem ring[];
};

/* Bytes of each part of a queue of n entries, event index fields included. */
#define VIRTQ_DESC_BYTES(n)  (16u * (n))
#define VIRTQ_AVAIL_BYTES(n) (4u + 2u * (n) + 2u)
#define VIRTQ_USED_BYTES(n)  (4u + 8u * (n) + 2u)

_Static_assert(sizeof(struct virtq_desc) == 16, "virtio 1.2, 2.7.5");
_Static_assert(sizeof(struct virtq_used_elem) == 8, "virtio 1.2, 2.7.8");

#endif
