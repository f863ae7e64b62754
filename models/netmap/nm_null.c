/*
 * Null ports (netmap.md 12): rings that go nowhere, to get at an allocator's memory. Each request
 * makes one of its own.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>

static int null_sync(struct nm_kring *kring, int flags)
{
    (void)kring;
    (void)flags;
    return 0;
}

static int null_krings_created(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < nm_all_rings(na, t); i++) {
            na->krings[t][i].sync = null_sync;
        }
    }
    return 0;
}

static void null_free(struct nm_adapter *na)
{
    nm_adapter_clear(na);
    g_free(na);
}

static const struct nm_port_ops null_ops = {
    .kind = "null",
    .krings_created = null_krings_created,
    .free = null_free,
};

int nm_null_resolve(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
                    struct nm_mem *mem, bool create, struct nm_adapter **na)
{
    g_autofree char *name = NULL;

    if (reg->nr_mode != NR_REG_NULL) {
        return 0;
    }
    if (!mem || !create) {
        return EINVAL;
    }
    name = g_strdup_printf("null:%s", header->nr_name);
    *na = g_new0(struct nm_adapter, 1);
    nm_adapter_init(*na, host, &null_ops, name, mem);
    (*na)->flags = NAF_OFFSETS;
    (*na)->n_rings[NM_TX] = reg->nr_tx_rings;
    (*na)->n_rings[NM_RX] = reg->nr_rx_rings;
    (*na)->n_slots[NM_TX] = reg->nr_tx_slots;
    (*na)->n_slots[NM_RX] = reg->nr_rx_slots;
    return 0;
}
