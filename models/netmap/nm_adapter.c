/*
 * Adapters, one per port: their common part, references, and the search for the one that a request
 * names (netmap.md 4.1). The port kinds are asked in a fixed order.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>

void nm_adapter_init(struct nm_adapter *na, struct nm_host *host, const struct nm_port_ops *ops,
                     const char *name, struct nm_mem *mem)
{
    na->host = host;
    na->ops = ops;
    na->refs = 1;
    na->mem = nm_mem_ref(mem);
    (void)g_strlcpy(na->name, name, sizeof(na->name));
    for (int t = 0; t < NM_N_TXRX; t++) {
        na->n_host_rings[t] = 1;
        nm_waiters_init(&na->waiters[t]);
    }
}

void nm_adapter_clear(struct nm_adapter *na)
{
    g_assert(!na->active_files && !na->krings[NM_TX]);
    for (int t = 0; t < NM_N_TXRX; t++) {
        nm_waiters_clear(&na->waiters[t]);
    }
    g_clear_pointer(&na->mem_before, nm_mem_unref);
    g_clear_pointer(&na->mem, nm_mem_unref);
    g_clear_pointer(&na->pipes, g_ptr_array_unref);
    g_clear_pointer(&na->monitors, g_ptr_array_unref);
}

struct nm_adapter *nm_adapter_ref(struct nm_adapter *na)
{
    na->refs++;
    return na;
}

void nm_adapter_unref(struct nm_adapter *na)
{
    g_assert(na->refs > 0);
    na->refs--;
    if (na->refs == 1 && (na->flags & NAF_AUTODELETE) &&
        g_hash_table_lookup(na->host->nics, na->name) == na) {
        g_hash_table_remove(na->host->nics, na->name);
        na->refs--;
    }
    if (na->refs == 0) {
        na->ops->free(na);
    }
}

void nm_unresolve(struct nm_adapter *na)
{
    const bool has_pipes = na->pipes && na->pipes->len;

    if (!na->active_files && !na->krings[NM_TX] && !has_pipes && na->mem_before) {
        nm_mem_unref(na->mem);
        na->mem = g_steal_pointer(&na->mem_before);
    }
    nm_adapter_unref(na);
}

static int ask_kinds(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
                     struct nm_mem *mem, bool create, struct nm_adapter **na)
{
    static const nm_resolve_fn kinds[] = {nm_null_resolve, nm_monitor_resolve, nm_pipe_resolve,
                                          vale_resolve, nm_nic_resolve};

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        int err = kinds[i](host, header, reg, mem, create, na);

        if (err || *na) {
            return err;
        }
    }
    return ENXIO;
}

/* An idle adapter takes the allocator that the request asked for. */
static void use_mem(struct nm_adapter *na, struct nm_mem *mem)
{
    const bool has_pipes = na->pipes && na->pipes->len;

    if (mem != na->mem && !na->active_files && !na->krings[NM_TX] && !has_pipes &&
        !(na->flags & NAF_MEM_OWNER)) {
        if (na->mem_before) {
            nm_mem_unref(na->mem);
        } else {
            na->mem_before = na->mem;
        }
        na->mem = nm_mem_ref(mem);
    }
}

int nm_resolve(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
               struct nm_mem *mem, bool create, struct nm_adapter **na)
{
    struct nm_mem *found = NULL;
    int err;

    *na = NULL;
    if (reg->nr_mode == NR_REG_PIPE_MASTER || reg->nr_mode == NR_REG_PIPE_SLAVE) {
        return EINVAL;
    }
    if (!mem && reg->nr_mem_id) {
        mem = found = nm_mem_find(host->mems, reg->nr_mem_id);
        if (!mem) {
            return EINVAL;
        }
    }
    err = ask_kinds(host, header, reg, mem, create, na);
    if (!err && mem) {
        use_mem(*na, mem);
    }
    g_clear_pointer(&found, nm_mem_unref);
    return err;
}
