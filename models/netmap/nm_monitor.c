/*
 * Monitor ports (netmap.md 11): a look at the frames of another port, as copies or by taking over
 * the buffers that it gives back. Here: finding the port, the monitor's rings and memory, and
 * tying them to the port's rings; what happens to frames is in nm_monitor_path.c.
 */
#include "models/netmap/nm_monitor_private.h"

#include <errno.h>

enum { MAX_SLOTS = 4096, ANY_MONITOR = NR_MONITOR_TX | NR_MONITOR_RX };

struct nm_monitor {
    struct nm_adapter up;      /* first: an adapter is freed as what it is */
    struct nm_adapter *parent; /* a reference; NULL: it left netmap mode. host->lock */
    _Atomic bool is_over;      /* the same, for syncs */
    bool is_zcopy;
    unsigned first[NM_N_TXRX], last[NM_N_TXRX]; /* rings of the parent */
};

static struct nm_monitor *monitor_of(struct nm_adapter *na)
{
    return (struct nm_monitor *)(void *)na;
}

/* ---- one ring that is monitored ---- */

static void tie(struct nm_kring *kring, struct nm_kring *mkring, bool is_zcopy)
{
    nm_kr_lock(kring);
    if (!kring->monitored)
        nm_monitor_hook(kring);
    if (is_zcopy)
        kring->monitored->zcopy = mkring;
    else
        g_ptr_array_add(kring->monitored->copies, mkring);
    nm_kr_unlock(kring);
    if (kring->tx == NM_RX && !is_zcopy)
        nm_kr_notify(kring, 0); /* what came before was for the application to look at */
}

/* `next` takes the place of a zero-copy monitor in the chain. */
static void untie(struct nm_kring *kring, struct nm_kring *mkring, struct nm_kring *next)
{
    nm_kr_lock(kring);
    struct nm_monitored *m = kring->monitored;
    if (m) {
        if (m->zcopy == mkring)
            m->zcopy = next;
        g_ptr_array_remove(m->copies, mkring);
        if (!m->zcopy && m->copies->len == 0)
            nm_monitor_unhook(kring);
    }
    nm_kr_unlock(kring);
}

/* The end of a ring's chain of zero-copy monitors, or the ring itself: what a further one is to
 * monitor. */
static struct nm_kring *end_of_chain(struct nm_kring *kring)
{
    while (kring->monitored && kring->monitored->zcopy)
        kring = kring->monitored->zcopy;
    return kring;
}

/* ---- all rings of a monitor ---- */

static void attach(struct nm_monitor *mon)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = mon->first[t]; i < mon->last[t]; i++) {
            struct nm_kring *mkring = &mon->up.krings[NM_RX][i];
            struct nm_kring *kring = &mon->parent->krings[t][i];
            if (!mkring->ring)
                continue; /* the request did not bind it */
            if (mon->is_zcopy)
                kring = end_of_chain(kring);
            if (kring != mkring) /* one chain for both directions: it is in it */
                tie(kring, mkring, mon->is_zcopy);
        }
    }
}

/* Takes a monitor's ring from those of the parent, and out of the chain that goes on behind it. */
static void detach_ring(struct nm_monitor *mon, unsigned i)
{
    const GPtrArray *others = mon->parent->monitors;
    struct nm_kring *mkring = &mon->up.krings[NM_RX][i];
    struct nm_kring *next = mkring->monitored ? mkring->monitored->zcopy : NULL;

    for (int t = 0; t < NM_N_TXRX; t++)
        if (i >= mon->first[t] && i < mon->last[t])
            untie(&mon->parent->krings[t][i], mkring, next);
    for (unsigned m = 0; m < others->len; m++) {
        struct nm_adapter *other = g_ptr_array_index(others, m);
        if (other->krings[NM_RX] && i < other->n_rings[NM_RX])
            untie(&other->krings[NM_RX][i], mkring, next);
    }
    if (next)
        untie(mkring, next, NULL);
}

static void detach(struct nm_monitor *mon)
{
    for (unsigned i = 0; i < mon->up.n_rings[NM_RX]; i++)
        detach_ring(mon, i);
    g_ptr_array_remove(mon->parent->monitors, mon);
    g_clear_pointer(&mon->parent, nm_adapter_unref);
}

void nm_monitor_stop(struct nm_adapter *parent)
{
    while (parent->monitors && parent->monitors->len > 0) {
        struct nm_monitor *mon = g_ptr_array_index(parent->monitors, parent->monitors->len - 1);
        detach(mon);
        atomic_store(&mon->is_over, true);
        for (unsigned i = 0; i < mon->up.n_rings[NM_RX]; i++)
            nm_kr_notify(&mon->up.krings[NM_RX][i], 0);
    }
}

/* ---- the port ---- */

static int rxsync(struct nm_kring *mkring, int flags)
{
    struct nm_monitor *mon = monitor_of(mkring->na);

    (void)flags;
    return atomic_load(&mon->is_over) ? EIO : nm_monitor_release_slots(mkring);
}

/* The transmit ring is there because a port has one; it keeps the sync that only fails. */
static int krings_created(struct nm_adapter *na)
{
    for (unsigned i = 0; i < na->n_rings[NM_RX]; i++) {
        struct nm_kring *mkring = &na->krings[NM_RX][i];
        struct nm_monitor_ring *ring = g_new0(struct nm_monitor_ring, 1);
        pthread_mutex_init(&ring->lock, NULL);
        mkring->port_data = ring;
        mkring->sync = rxsync;
    }
    return 0;
}

static void krings_deleted(struct nm_adapter *na)
{
    for (unsigned i = 0; i < na->n_rings[NM_RX]; i++) {
        struct nm_monitor_ring *ring = na->krings[NM_RX][i].port_data;
        pthread_mutex_destroy(&ring->lock);
        g_clear_pointer(&na->krings[NM_RX][i].port_data, g_free);
    }
}

static int set_active(struct nm_adapter *na, bool active)
{
    struct nm_monitor *mon = monitor_of(na);

    if (active && !mon->parent)
        return ENXIO;
    if (active) {
        if (!mon->parent->monitors)
            mon->parent->monitors = g_ptr_array_new();
        g_ptr_array_add(mon->parent->monitors, mon);
        attach(mon);
    } else if (mon->parent) {
        detach(mon);
    }
    return 0;
}

static void monitor_free(struct nm_adapter *na)
{
    struct nm_monitor *mon = monitor_of(na);

    g_clear_pointer(&mon->parent, nm_adapter_unref); /* never bound */
    nm_adapter_clear(na);
    g_free(mon);
}

static const struct nm_port_ops monitor_ops = {
    .kind = "monitor",
    .krings_created = krings_created,
    .krings_deleted = krings_deleted,
    .set_active = set_active,
    .free = monitor_free,
};

/* ---- making one ---- */

static uint32_t slots(uint32_t wanted, uint32_t parents)
{
    return wanted == 0 ? parents : MIN(wanted, MAX_SLOTS);
}

/* The parent's ring i is monitored through ring i, be it for transmission, reception or the host
 * stack. */
static uint32_t rings(const struct nm_adapter *parent)
{
    uint32_t n[NM_N_TXRX];

    for (int t = 0; t < NM_N_TXRX; t++)
        n[t] = parent->n_rings[t] + (parent->flags & NAF_HOST_RINGS ? parent->n_host_rings[t] : 0);
    return MAX(n[NM_TX], n[NM_RX]);
}

static int memory_for(struct nm_monitor *mon, struct nm_mem **mem)
{
    const struct nm_adapter *na = &mon->up;
    int err = 0;

    *mem = mon->is_zcopy
               ? nm_mem_ref(mon->parent->mem)
               : nm_mem_private_new(mon->parent->host->mems, na->n_rings[NM_TX], na->n_slots[NM_TX],
                                    na->n_rings[NM_RX], na->n_slots[NM_RX], 0, 0, &err);
    return err;
}

/* A request for the parent's host rings selects rings that are like any other in the monitor. */
static int select_rings(struct nm_monitor *mon, struct nmreq_register *reg)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        bool is_wanted = reg->nr_flags & (t == NM_TX ? NR_MONITOR_TX : NR_MONITOR_RX);
        int err = nm_ring_range(mon->parent, t, reg->nr_mode, reg->nr_ringid, reg->nr_flags,
                                &mon->first[t], &mon->last[t]);
        if (err != 0)
            return err;
        if (!is_wanted)
            mon->first[t] = mon->last[t] = 0;
    }
    if (reg->nr_mode == NR_REG_SW || reg->nr_mode == NR_REG_NIC_SW || reg->nr_mode == NR_REG_ONE_SW)
        reg->nr_mode = NR_REG_ALL_NIC;
    return 0;
}

static void init(struct nm_monitor *mon, const struct nmreq_register *reg, struct nm_mem *mem)
{
    struct nm_adapter *parent = mon->parent;
    g_autofree char *name =
        g_strdup_printf("%s/%s%s%s#%u", parent->name, mon->is_zcopy ? "z" : "",
                        reg->nr_flags & NR_MONITOR_RX ? "r" : "",
                        reg->nr_flags & NR_MONITOR_TX ? "t" : "", parent->next_monitor_id++);

    nm_adapter_init(&mon->up, parent->host, &monitor_ops, name, mem);
    mon->up.flags = mon->is_zcopy ? NAF_MEM_OWNER : NAF_OFFSETS;
}

/* Owns the reference to the parent from now, whatever happens. */
static int monitor_new(struct nm_adapter *parent, struct nmreq_register *reg,
                       struct nm_adapter **na)
{
    struct nm_monitor *mon = g_new0(struct nm_monitor, 1);
    struct nm_mem *mem = NULL;

    mon->parent = parent;
    mon->is_zcopy = reg->nr_flags & NR_ZCOPY_MON;
    mon->up.n_rings[NM_TX] = 1;
    mon->up.n_rings[NM_RX] = rings(parent);
    mon->up.n_slots[NM_TX] = slots(reg->nr_tx_slots, parent->n_slots[NM_TX]);
    mon->up.n_slots[NM_RX] = slots(reg->nr_rx_slots, parent->n_slots[NM_RX]);
    int err = parent->active_files > 0 ? select_rings(mon, reg) : EINVAL;
    if (err == 0)
        err = memory_for(mon, &mem);
    if (err != 0) {
        nm_unresolve(parent);
        g_free(mon);
        return err;
    }
    init(mon, reg, mem);
    nm_mem_unref(mem);
    *na = &mon->up;
    return 0;
}

int nm_monitor_resolve(struct nm_host *host, struct nmreq_header *header,
                       struct nmreq_register *reg, struct nm_mem *mem, bool create,
                       struct nm_adapter **na)
{
    struct nmreq_register parents = *reg;
    struct nm_adapter *parent;

    if (reg->nr_flags & NR_ZCOPY_MON)
        reg->nr_flags |= ANY_MONITOR;
    if (!(reg->nr_flags & ANY_MONITOR))
        return 0;
    parents.nr_flags &= ~(uint64_t)(ANY_MONITOR | NR_ZCOPY_MON);
    int err = nm_resolve(host, header, &parents, mem, create, &parent);
    return err != 0 ? err : monitor_new(parent, reg, na);
}
