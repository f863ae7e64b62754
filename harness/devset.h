/*
 * The devices of one QEMU, and what it must be given beside them: a netdev, a memory backend, an
 * ivshmem server ... A device that needs one and does not name one gets one made, so that every
 * device can be looked at by its name alone. Not here: starting QEMU (qemu.h).
 */
#ifndef RINGLAB_DEVSET_H
#define RINGLAB_DEVSET_H

#include "harness/devspec.h"
#include "models/ivshmem_server.h"
#include "qtest_client/guest_memory.h"

enum devspec_need {
    DEVSPEC_NEEDS_NOTHING, /* or what it needs is named in its properties */
    DEVSPEC_NEEDS_MEMORY,  /* property memdev: a memory backend (ivshmem-plain, acpi-erst) */
    DEVSPEC_NEEDS_SERVER,  /* property chardev: an ivshmem server (ivshmem-doorbell) */
    DEVSPEC_NEEDS_NETDEV,  /* property netdev: every network card */
    DEVSPEC_NEEDS_OTHER,   /* a disk, a sound or crypto backend, a chassis number ... */
};
enum devspec_need devspec_need(const struct devspec *spec);

/* A devset owns the memory and the servers it made. It must outlive the QEMU. */
struct devset;

struct devset *devset_new(void);
void devset_free(struct devset *set);
/* Adds a device, giving it an id ("dev0", "dev1" ...) and what it needs. Memory made for it has the
 * size of its property `size`, which is ours and is taken away ("ivshmem-plain,size=4M"; default
 * 1M; a power of two from 4K to 64G). Takes ownership of `spec`; it is returned as it was
 * completed, and stays owned by the set. NULL on error. */
const struct devspec *devset_add(struct devset *set, struct devspec *spec, GError **error);
/* The same from text. */
const struct devspec *devset_add_text(struct devset *set, const char *text, GError **error);
/* Makes what `spec` needs and sets the properties that name it, without adding the device: for
 * callers with an order of their own. */
bool devset_supply(struct devset *set, struct devspec *spec, GError **error);
/* A memory backend over `region` (not owned), added to the arguments once; returns its id, to be a
 * memdev. The string is owned by the set. */
const char *devset_add_memory(struct devset *set, const struct guest_region *region);

/* For struct qemu_options: NULL-terminated arguments and the descriptors they name. Valid until
 * the next addition. */
const char *const *devset_args(struct devset *set);
const int *devset_fds(const struct devset *set, unsigned *n);
/* Call this when the QEMU has started: closes what only QEMU needs, so that a server notices the
 * end of it. The arguments serve for one start only. */
void devset_started(struct devset *set);
unsigned devset_len(const struct devset *set);
const struct devspec *devset_get(const struct devset *set, unsigned index);
/* The memory behind the device with this id (of an ivshmem-plain or -doorbell that the set made it
 * for), or NULL. */
struct guest_region *devset_memory(struct devset *set, const char *id);
/* The server of an ivshmem-doorbell that the set made one for, or NULL. */
struct ivshmem_server *devset_server(struct devset *set, const char *id);

#endif
