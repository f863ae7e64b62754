/*
 * ptnet devices of a session's machines: each with the memdev of its port's allocator, one per
 * machine and allocator as QEMU's ptnet makes it, and beside it an ivshmem BAR with the same bytes,
 * which is how drivers out here reach them at the speed of memory.
 */
#ifndef RINGLAB_SESSION_PTNET_H
#define RINGLAB_SESSION_PTNET_H

#include "harness/session.h"
#include "models/ptnet/ptnet.h"

struct session_ptnet_options {
    struct nm_host *host; /* outlives the session; NULL: one of the session's own */
    /* port NULL: the specification's `port`, or "vale0:pN" with the first N that is free; mac is
     * the specification's. */
    struct ptnet_options ptnet;
};

/* Whether the specification names a device of this file: "ptnet-pci,..." or "ptnetmap-memdev". */
bool session_ptnet_is(const char *spec);
/* Declares one, or plugs it into a running machine. Of its properties `mac`, `port`, `klooptx` and
 * `klooprx` (on, off) are ours, the others (id, addr, bus) QEMU's. A memdev by itself shows the
 * allocator of a port of its own. `options` may be NULL. */
struct session_device *session_ptnet_new(struct session_machine *m, const char *spec,
                                         const struct session_ptnet_options *options,
                                         GError **error);
/* NULL if the device is none. */
struct ptnet *session_device_ptnet(struct session_device *dev);
/* The memdev of its machine that shows its memory; NULL if there is none. */
struct session_device *session_ptnet_memdev(struct session_device *dev);
/* The ivshmem device with the same memory, and what is behind both; NULL: memory without a file. */
struct session_device *session_ptnet_ivshmem(struct session_device *dev);
struct guest_region *session_ptnet_memory(struct session_device *dev);

#endif
