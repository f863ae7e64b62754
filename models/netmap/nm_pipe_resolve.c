/*
 * Names of pipes: "X{id" and "X}id" are the master and slave ends of pipe `id` over the port X
 * (netmap.md 10). The parent gives the allocator and the number of slots, and lives as long as its
 * pipes.
 */
#include "models/netmap/nm_pipe_private.h"
#include "models/vale/vale.h"

#include <errno.h>
#include <string.h>

static void pipe_end_free(struct nm_adapter *na);

static const struct nm_port_ops pipe_ops = {
    .kind = "pipe",
    .krings_created = nm_pipe_krings_created,
    .krings_deleted = nm_pipe_krings_deleted,
    .keeps_krings = nm_pipe_keeps_krings,
    .free = pipe_end_free,
};

static void pipe_end_free(struct nm_adapter *na)
{
    struct nm_pipe *pipe = na->port;

    if (nm_pipe_peer(na)->refs) {
        return;
    }
    g_ptr_array_remove_fast(pipe->parent->pipes, pipe);
    for (int role = 0; role < NM_PIPE_N_ROLES; role++) {
        nm_adapter_clear(&pipe->ends[role]);
    }
    nm_unresolve(pipe->parent);
    g_free(pipe);
}

static uint32_t bounded(uint32_t wanted, uint32_t otherwise, uint32_t max)
{
    return MIN(wanted ? wanted : MAX(otherwise, 1), max);
}

/* Numbers of a request are those of the master, whichever end it names. No references yet. */
static struct nm_pipe *pipe_new(struct nm_adapter *parent, const char *id,
                                const struct nmreq_register *reg)
{
    const uint32_t rings[NM_N_TXRX] = {[NM_TX] = reg->nr_tx_rings, [NM_RX] = reg->nr_rx_rings};
    const uint32_t slots[NM_N_TXRX] = {[NM_TX] = reg->nr_tx_slots, [NM_RX] = reg->nr_rx_slots};
    struct nm_pipe *pipe = g_new0(struct nm_pipe, 1);

    pipe->parent = nm_adapter_ref(parent);
    (void)g_strlcpy(pipe->id, id, sizeof(pipe->id));
    for (int role = 0; role < NM_PIPE_N_ROLES; role++) {
        struct nm_adapter *na = &pipe->ends[role];
        g_autofree char *name =
            g_strdup_printf("%s%c%s", parent->name, role == NM_PIPE_MASTER ? '{' : '}', id);

        nm_adapter_init(na, parent->host, &pipe_ops, name, parent->mem);
        na->refs = 0;
        na->port = pipe;
        na->flags = NAF_MEM_OWNER | NAF_OFFSETS | NAF_MOREFRAG;
        for (int t = 0; t < NM_N_TXRX; t++) {
            const int of_master = role == NM_PIPE_MASTER ? t : !t;

            na->n_rings[t] = bounded(rings[of_master], 1, NM_PIPE_MAX_RINGS);
            na->n_slots[t] =
                bounded(slots[of_master], parent->n_slots[of_master], NM_PIPE_MAX_SLOTS);
        }
    }
    if (!parent->pipes) {
        parent->pipes = g_ptr_array_new();
    }
    g_ptr_array_add(parent->pipes, pipe);
    return pipe;
}

static int pipe_get(struct nm_adapter *parent, const char *id, const struct nmreq_register *reg,
                    bool create, struct nm_pipe **pipe)
{
    const unsigned n = parent->pipes ? parent->pipes->len : 0;

    if (parent->flags & NAF_BUSY) {
        return EBUSY;
    }
    for (unsigned i = 0; i < n; i++) {
        *pipe = g_ptr_array_index(parent->pipes, i);
        if (strcmp((*pipe)->id, id) == 0) {
            return 0;
        }
    }
    if (!create) {
        return ENODEV;
    }
    if (n >= NM_PIPE_MAX_PER_PARENT) {
        return EINVAL;
    }
    *pipe = pipe_new(parent, id, reg);
    return 0;
}

/* The port before the bracket; a persistent VALE port where there is none, for as long as it is
 * used. */
static int parent_get(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
                      struct nm_mem *mem, bool create, struct nm_adapter **parent)
{
    struct nmreq_vale_newif newif = {
        .nr_tx_slots = reg->nr_tx_slots,
        .nr_rx_slots = reg->nr_rx_slots,
        .nr_tx_rings = reg->nr_tx_rings,
        .nr_rx_rings = reg->nr_rx_rings,
        .nr_mem_id = mem ? nm_mem_id(mem) : 0,
    };
    struct nm_adapter *made;
    int err = nm_resolve(host, header, reg, mem, create, parent);

    if (err != ENXIO || !create || vale_newif(host, header, &newif) != 0) {
        return err;
    }
    made = g_hash_table_lookup(host->nics, header->nr_name);
    g_assert(made);
    made->flags |= NAF_AUTODELETE;
    err = nm_resolve(host, header, reg, mem, create, parent);
    if (err) { /* taking and giving it back deletes it */
        nm_adapter_unref(nm_adapter_ref(made));
    }
    return err;
}

int nm_pipe_resolve(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
                    struct nm_mem *mem, bool create, struct nm_adapter **na)
{
    struct nmreq_header of_parent = *header;
    char *bracket = strrchr(of_parent.nr_name, '{');
    enum nm_pipe_role role = bracket ? NM_PIPE_MASTER : NM_PIPE_SLAVE;
    struct nm_adapter *parent;
    struct nm_pipe *pipe = NULL;
    int err;

    if (!bracket) {
        bracket = strrchr(of_parent.nr_name, '}');
    }
    if (!bracket) {
        return 0;
    }
    if (bracket == of_parent.nr_name || !bracket[1] ||
        (reg->nr_mode != NR_REG_ALL_NIC && reg->nr_mode != NR_REG_ONE_NIC)) {
        return EINVAL;
    }
    *bracket = 0;
    err = parent_get(host, &of_parent, reg, mem, create, &parent);
    if (err) {
        return err;
    }
    err = pipe_get(parent, bracket + 1, reg, create, &pipe);
    if (!err) {
        *na = nm_adapter_ref(&pipe->ends[role]);
    }
    nm_unresolve(parent);
    return err;
}
