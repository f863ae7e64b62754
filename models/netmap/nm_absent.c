/*
 * Parts of the host side that are not there yet, each with the errno that says so. Weak: whoever
 * brings the part takes its lines out of here, and with the last one the file goes.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>

#define ABSENT __attribute__((weak))

#define ABSENT_KIND(name)                                                                          \
    ABSENT int name(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg, \
                    struct nm_mem *mem, bool create, struct nm_adapter **na)

ABSENT_KIND(nm_monitor_resolve)
{
    (void)host, (void)header, (void)mem, (void)create, (void)na;
    return reg->nr_flags & (NR_MONITOR_TX | NR_MONITOR_RX) ? EOPNOTSUPP : 0;
}
