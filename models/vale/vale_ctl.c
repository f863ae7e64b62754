/*
 * Requests about switches (netmap.md 9.2): attaching and detaching, listing, polling; and what
 * netmap has no request for: lookup, policy, statistics.
 */
#include "models/vale/vale_private.h"

#include <errno.h>

enum { NO_PORT = 255 }; /* LIST: of a switch, or no port of that name */

/* ---- the port that a request names ---- */

static int find_port(struct nm_host *host, const char *name, struct vale_port **port)
{
    size_t len;

    if (vale_name_parse(name, &len) != VALE_NAME_GOOD) {
        return EINVAL;
    }
    const struct vale_switch *sw = vale_switch_find(host->vale, name, false);
    *port = sw ? vale_switch_port(sw, name) : NULL;
    return *port ? 0 : ENXIO;
}

/* ---- ATTACH and DETACH ---- */

/* A persistent port on its first switch stays what it is. */
static void attach_persistent(struct nm_host *host, struct vale_switch *sw, const char *name,
                              struct nm_adapter *na, struct vale_port **port)
{
    *port = (struct vale_port *)(void *)nm_adapter_ref(na);
    vale_switch_add(host->vale, sw, *port, name);
}

static int attach_interface(struct nm_host *host, struct vale_switch *sw, const char *name,
                            struct nmreq_register *reg, struct vale_port **port)
{
    struct nmreq_header header = {.nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER};
    const char *interface = name + strlen(sw->name);
    bool has_host = reg->nr_mode == NR_REG_NIC_SW;
    struct nm_adapter *na;

    if (!g_hash_table_contains(host->nics, interface)) {
        return EINVAL;
    }
    if (sw->n_active + (has_host ? 2 : 1) > VALE_MAX_PORTS) {
        return ENOMEM;
    }
    (void)g_strlcpy(header.nr_name, interface, sizeof(header.nr_name));
    reg->nr_flags &= ~(uint64_t)(NR_MONITOR_TX | NR_MONITOR_RX | NR_ZCOPY_MON);
    int err = nm_resolve(host, &header, reg, NULL, false, &na);
    if (err) {
        return err;
    }
    const struct vale_port *known = vale_is_vale_port(na) ? (void *)na : NULL;
    if (known && !known->sw && !has_host) {
        attach_persistent(host, sw, name, na, port);
    } else {
        err = vale_wrap(host->vale, sw, name, na, has_host, port);
    }
    nm_unresolve(na);
    return err;
}

static void describe(const struct nm_adapter *na, struct nmreq_vale_attach *body,
                     unsigned port_index)
{
    body->port_index = port_index;
    body->reg.nr_mem_id = nm_mem_id(na->mem);
    body->reg.nr_tx_rings = (uint16_t)na->n_rings[NM_TX];
    body->reg.nr_rx_rings = (uint16_t)na->n_rings[NM_RX];
    body->reg.nr_tx_slots = na->n_slots[NM_TX];
    body->reg.nr_rx_slots = na->n_slots[NM_RX];
}

int vale_attach(struct nm_host *host, struct nmreq_header *header, struct nmreq_vale_attach *body)
{
    struct vale_port *port = NULL;
    int err = find_port(host, header->nr_name, &port);

    if (err != ENXIO) {
        return err ? err : EBUSY;
    }
    if ((body->reg.nr_mode != NR_REG_ALL_NIC && body->reg.nr_mode != NR_REG_NIC_SW) ||
        body->reg.nr_ringid != 0) {
        return EINVAL;
    }
    struct vale_switch *sw = vale_switch_find(host->vale, header->nr_name, true);
    if (!sw) {
        return ENOMEM;
    }
    err = attach_interface(host, sw, header->nr_name, &body->reg, &port);
    vale_switch_drop_if_empty(host->vale, sw);
    if (!err) {
        describe(&port->na, body, port->index);
    }
    return err;
}

/* Whether another switch has wrapped this port. */
static bool is_wrapped(const struct vale_port *port)
{
    return port->na.flags & NAF_BUSY;
}

int vale_detach(struct nm_host *host, struct nmreq_header *header, struct nmreq_vale_detach *body)
{
    struct vale_port *port;
    int err = find_port(host, header->nr_name, &port);

    if (err) {
        return err;
    }
    unsigned index = port->index;
    if (port->is_wrapper) {
        if (vale_wrap_is_polled(port)) {
            return EBUSY;
        }
        vale_unwrap(host->vale, port);
    } else if (is_wrapped(port)) {
        return EBUSY;
    } else if (!port->is_persistent) {
        return EINVAL; /* its users attached it, and take it along */
    } else {
        vale_switch_remove(host->vale, port);
        nm_adapter_unref(&port->na);
    }
    body->port_index = index;
    return 0;
}

/* ---- LIST ---- */

static int list_named(struct vale_switches *switches, const char *name,
                      struct nmreq_vale_list *body)
{
    size_t len;

    if (vale_name_parse(name, &len) != VALE_NAME_GOOD) {
        return EINVAL;
    }
    const struct vale_switch *sw = vale_switch_find(switches, name, false);
    if (!sw) {
        return ENOENT;
    }
    const struct vale_port *port = vale_switch_port(sw, name);
    body->nr_bridge_idx = (uint16_t)vale_switch_index(switches, sw);
    body->nr_port_idx = port ? port->index : NO_PORT;
    return 0;
}

/* The first port at or after the place in `body`. */
static int list_next(const struct vale_switches *switches, struct nmreq_header *header,
                     struct nmreq_vale_list *body)
{
    uint32_t first = body->nr_port_idx;

    for (unsigned i = body->nr_bridge_idx; i < switches->n_slots; i++, first = 0) {
        const struct vale_switch *sw = switches->slots[i];
        for (uint32_t k = first; sw && k < VALE_MAX_PORTS; k++) {
            if (sw->ports[k]) {
                body->nr_bridge_idx = (uint16_t)i;
                body->nr_port_idx = k;
                (void)g_strlcpy(header->nr_name, sw->ports[k]->name, sizeof(header->nr_name));
                return 0;
            }
        }
    }
    return ENOENT;
}

int vale_list(struct nm_host *host, struct nmreq_header *header, struct nmreq_vale_list *body)
{
    return header->nr_name[0] ? list_named(host->vale, header->nr_name, body)
                              : list_next(host->vale, header, body);
}

/* ---- polling ---- */

int vale_polling(struct nm_host *host, struct nmreq_header *header, struct nmreq_vale_polling *body,
                 bool enable)
{
    struct vale_port *port;
    int err = find_port(host, header->nr_name, &port);

    if (err) {
        return err;
    }
    if (!port->is_wrapper) {
        return EOPNOTSUPP;
    }
    return enable ? vale_wrap_poll(port, body) : vale_wrap_unpoll(port);
}

/* ---- what is not netmap's ---- */

/* The switch with the gate closed and host->lock held, or NULL with nothing held. */
static struct vale_switch *lock_switch(struct nm_host *host, const char *name)
{
    pthread_mutex_lock(&host->lock);
    struct vale_switch *sw = vale_switch_find(host->vale, name, false);
    if (!sw) {
        pthread_mutex_unlock(&host->lock);
        return NULL;
    }
    vale_gate_close(&host->vale->gate);
    return sw;
}

static void unlock_switch(struct nm_host *host)
{
    vale_gate_open(&host->vale->gate);
    pthread_mutex_unlock(&host->lock);
}

int vale_set_lookup(struct nm_host *host, const char *switch_name, vale_lookup_fn lookup,
                    void *data)
{
    struct vale_switch *sw = lock_switch(host, switch_name);

    if (!sw) {
        return ENXIO;
    }
    sw->lookup = lookup;
    sw->lookup_data = data;
    unlock_switch(host);
    return 0;
}

int vale_set_full_policy(struct nm_host *host, const char *switch_name,
                         enum vale_full_policy policy)
{
    struct vale_switch *sw = lock_switch(host, switch_name);

    if (!sw) {
        return ENXIO;
    }
    vale_wake_all(sw); /* whoever waits need not any more */
    sw->policy = policy;
    unlock_switch(host);
    return 0;
}

int vale_set_slot_destination(struct nm_host *host, const char *switch_name, bool is_used)
{
    struct vale_switch *sw = lock_switch(host, switch_name);

    if (!sw) {
        return ENXIO;
    }
    sw->has_slot_destination = is_used;
    unlock_switch(host);
    return 0;
}

int vale_port_stats(struct nm_host *host, const char *port_name, struct vale_port_stats *stats)
{
    struct vale_port *port;

    pthread_mutex_lock(&host->lock);
    int err = find_port(host, port_name, &port) ? ENXIO : 0;
    if (!err) {
        const struct vale_counters *c = &port->counters;
        *stats = (struct vale_port_stats){
            .rx_frames = atomic_load_explicit(&c->rx_frames, memory_order_relaxed),
            .rx_bytes = atomic_load_explicit(&c->rx_bytes, memory_order_relaxed),
            .tx_frames = atomic_load_explicit(&c->tx_frames, memory_order_relaxed),
            .tx_bytes = atomic_load_explicit(&c->tx_bytes, memory_order_relaxed),
            .dropped_full = atomic_load_explicit(&c->dropped_full, memory_order_relaxed),
            .dropped_bad = atomic_load_explicit(&c->dropped_bad, memory_order_relaxed),
            .dropped_no_destination =
                atomic_load_explicit(&c->dropped_no_destination, memory_order_relaxed),
        };
    }
    pthread_mutex_unlock(&host->lock);
    return err;
}
