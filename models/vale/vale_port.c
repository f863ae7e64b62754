/*
 * VALE ports as a kind of netmap port: ephemeral ones, made by the first who opens "valeX:Y" and
 * gone with the last, and persistent ones, which are interfaces (netmap.md 9.2).
 */
#include "models/vale/vale_private.h"

#include <errno.h>

enum {
    MAX_EXTRA_BUFS = 128 * 4096,
    PIPES_PER_PORT = 2, /* what a private allocator has room for */
};

static struct vale_port *port_of(struct nm_adapter *na)
{
    return (struct vale_port *)(void *)na;
}

/* ---- the kind ---- */

static int port_krings_created(struct nm_adapter *na)
{
    return vale_rings_init(port_of(na));
}

static void port_krings_deleted(struct nm_adapter *na)
{
    vale_rings_clear(port_of(na));
}

static int port_set_active(struct nm_adapter *na, bool active)
{
    vale_port_set_on(port_of(na), active);
    return 0;
}

/* Whoever was in a ring before the gate closed has left it. */
static void port_quiesce(struct nm_adapter *na)
{
    struct vale_gate *gate = &na->host->vale->gate;

    vale_gate_close(gate);
    vale_gate_open(gate);
}

/* netmap.md 9.4: with a header, frames may fill a buffer, also after it is taken away. */
static int port_set_header(struct nm_adapter *na, unsigned len)
{
    struct vale_gate *gate = &na->host->vale->gate;

    vale_gate_close(gate);
    na->virt_hdr_len = len;
    if (len > 0) {
        port_of(na)->mfs = nm_mem_buf_size(na->mem);
    }
    vale_gate_open(gate);
    return 0;
}

static void port_free(struct nm_adapter *na)
{
    struct vale_port *port = port_of(na);

    if (port->sw) {
        vale_switch_remove(na->host->vale, port);
    }
    nm_adapter_clear(na);
    g_aligned_free(port);
}

static const struct nm_port_ops port_ops = {
    .kind = "vale",
    .krings_created = port_krings_created,
    .krings_deleted = port_krings_deleted,
    .set_active = port_set_active,
    .quiesce = port_quiesce,
    .set_header = port_set_header,
    .free = port_free,
};

bool vale_is_vale_port(const struct nm_adapter *na)
{
    return na->ops == &port_ops;
}

/* ---- making one ---- */

static uint32_t bounded(uint32_t value, uint32_t if_zero, uint32_t max)
{
    return MIN(value ? value : if_zero, max);
}

/* Counts of `reg` are brought within VALE's limits. `mem` NULL: an allocator of its own. */
static struct vale_port *port_new(struct nm_host *host, const char *name,
                                  struct nmreq_register *reg, struct nm_mem *mem, int *err)
{
    struct nm_mem *own = NULL;

    reg->nr_tx_rings = (uint16_t)bounded(reg->nr_tx_rings, 1, VALE_MAX_RINGS);
    reg->nr_rx_rings = (uint16_t)bounded(reg->nr_rx_rings, 1, VALE_MAX_RINGS);
    reg->nr_tx_slots = bounded(reg->nr_tx_slots, VALE_DEFAULT_SLOTS, VALE_MAX_SLOTS);
    reg->nr_rx_slots = bounded(reg->nr_rx_slots, VALE_DEFAULT_SLOTS, VALE_MAX_SLOTS);
    reg->nr_extra_bufs = MIN(reg->nr_extra_bufs, MAX_EXTRA_BUFS);
    if (!mem) {
        mem = own =
            nm_mem_private_new(host->mems, reg->nr_tx_rings, reg->nr_tx_slots, reg->nr_rx_rings,
                               reg->nr_rx_slots, reg->nr_extra_bufs, PIPES_PER_PORT, err);
    }
    if (!mem) {
        return NULL;
    }
    struct vale_port *port =
        g_aligned_alloc0(1, sizeof(struct vale_port), _Alignof(struct vale_port));
    nm_adapter_init(&port->na, host, &port_ops, name, mem);
    port->na.flags = NAF_OFFSETS | NAF_MOREFRAG;
    port->na.n_rings[NM_TX] = reg->nr_tx_rings;
    port->na.n_rings[NM_RX] = reg->nr_rx_rings;
    port->na.n_slots[NM_TX] = reg->nr_tx_slots;
    port->na.n_slots[NM_RX] = reg->nr_rx_slots;
    port->na.rx_buf_maxsize = nm_mem_buf_size(mem);
    port->mfs = VALE_DEFAULT_MFS;
    g_clear_pointer(&own, nm_mem_unref);
    return port;
}

static int ephemeral_new(struct nm_host *host, struct vale_switch *sw, const char *name,
                         struct nmreq_register *reg, struct nm_mem *mem, struct nm_adapter **na)
{
    int err = ENOMEM;

    if (sw->n_active >= VALE_MAX_PORTS) {
        return ENOMEM;
    }
    if (g_hash_table_contains(host->nics, name + strlen(sw->name))) {
        return EINVAL; /* "switch:interface" is for ATTACH */
    }
    struct vale_port *port = port_new(host, name, reg, mem, &err);
    if (!port) {
        return err;
    }
    vale_switch_add(host->vale, sw, port, name);
    *na = &port->na;
    return 0;
}

int vale_resolve(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
                 struct nm_mem *mem, bool create, struct nm_adapter **na)
{
    const char *name = header->nr_name;
    size_t len;

    if (vale_name_parse(name, &len) == VALE_NAME_OTHER) {
        struct nm_adapter *found = g_hash_table_lookup(host->nics, name);
        *na = found && vale_is_vale_port(found) ? nm_adapter_ref(found) : NULL;
        return 0;
    }
    struct vale_switch *sw = vale_switch_find(host->vale, name, create);
    if (!sw) {
        return create ? ENOMEM : ENXIO;
    }
    struct vale_port *port = vale_switch_port(sw, name);
    if (port) {
        *na = nm_adapter_ref(&port->na);
        return 0;
    }
    int err = create ? ephemeral_new(host, sw, name, reg, mem, na) : ENXIO;
    vale_switch_drop_if_empty(host->vale, sw);
    return err;
}

/* ---- persistent ones ---- */

static void describe(const struct nm_adapter *na, struct nmreq_vale_newif *body)
{
    *body = (struct nmreq_vale_newif){
        .nr_tx_slots = na->n_slots[NM_TX],
        .nr_rx_slots = na->n_slots[NM_RX],
        .nr_tx_rings = (uint16_t)na->n_rings[NM_TX],
        .nr_rx_rings = (uint16_t)na->n_rings[NM_RX],
        .nr_mem_id = nm_mem_id(na->mem),
    };
}

int vale_newif(struct nm_host *host, struct nmreq_header *header, struct nmreq_vale_newif *body)
{
    const char *name = header->nr_name;
    struct nmreq_register reg = {
        .nr_tx_slots = body->nr_tx_slots,
        .nr_rx_slots = body->nr_rx_slots,
        .nr_tx_rings = body->nr_tx_rings,
        .nr_rx_rings = body->nr_rx_rings,
    };
    const struct nm_adapter *same = g_hash_table_lookup(host->nics, name);
    struct nm_mem *mem = NULL;
    int err = ENOMEM;

    if (g_str_has_prefix(name, "vale") || !*name || strlen(name) >= NETMAP_IFNAMSIZ) {
        return EINVAL;
    }
    if (same) {
        describe(same, body);
        return EEXIST;
    }
    if (body->nr_mem_id && !(mem = nm_mem_find(host->mems, body->nr_mem_id))) {
        return EINVAL;
    }
    struct vale_port *port = port_new(host, name, &reg, mem, &err);
    g_clear_pointer(&mem, nm_mem_unref);
    if (!port) {
        return err;
    }
    port->is_persistent = true;
    g_hash_table_insert(host->nics, g_strdup(name), &port->na); /* it has the reference */
    describe(&port->na, body);
    return 0;
}

int vale_delif(struct nm_host *host, struct nmreq_header *header)
{
    struct nm_adapter *na = g_hash_table_lookup(host->nics, header->nr_name);

    if (!na) {
        return ENXIO;
    }
    if (!vale_is_vale_port(na) || !port_of(na)->is_persistent) {
        return EINVAL;
    }
    if (na->refs > 1) {
        return EBUSY;
    }
    g_hash_table_remove(host->nics, header->nr_name);
    nm_adapter_unref(na);
    return 0;
}
