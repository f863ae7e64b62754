/*
 * What devices need beside themselves: a netdev, a memory backend, an ivshmem server, a disk ...
 * One table says which property of which device names what, so that every device can be started by
 * its name alone. Not here: making these things (session.h).
 */
#ifndef RINGLAB_DEVNEEDS_H
#define RINGLAB_DEVNEEDS_H

#include "harness/devspec.h"

enum devneed_kind {
    DEVNEED_MEMORY, /* a memory backend (ivshmem-plain, acpi-erst) */
    DEVNEED_SERVER, /* a chardev that leads to an ivshmem server (ivshmem-doorbell) */
    DEVNEED_NETDEV, /* a netdev: every network card */
    DEVNEED_OPTION, /* another option of QEMU with an id of its own: a disk, a sound backend ... */
    DEVNEED_NUMBER, /* a value that differs from device to device: a chassis number ... */
};

struct devneed {
    const char *pattern;  /* of driver names, a glob */
    const char *property; /* of the device: names what it needs */
    enum devneed_kind kind;
    const char *option; /* NETDEV, OPTION: "-netdev" ... */
    const char *format; /* NETDEV, OPTION: the option's value, with %s for the id; NUMBER: the
                           property's value, with %u for the number */
    const char *memory; /* what -m must say besides, or NULL */
};

/* The first thing that `spec` needs and does not name itself; NULL: nothing. */
const struct devneed *devneed_next(const struct devspec *spec);

#endif
