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

/* Interfaces that others put into the table; host ring counts are the first user's to choose. */
ABSENT_KIND(nm_nic_resolve)
{
    struct nm_adapter *found = g_hash_table_lookup(host->nics, header->nr_name);

    (void)mem, (void)create;
    if (!found) {
        return ENXIO;
    }
    if ((found->flags & NAF_HOST_RINGS) && !found->active_files) {
        const uint16_t wanted[NM_N_TXRX] = {
            [NM_TX] = reg->nr_host_tx_rings, [NM_RX] = reg->nr_host_rx_rings};

        for (int t = 0; t < NM_N_TXRX; t++) {
            found->n_host_rings[t] = wanted[t] ? wanted[t] : found->n_host_rings[t];
        }
    }
    *na = nm_adapter_ref(found);
    return 0;
}
