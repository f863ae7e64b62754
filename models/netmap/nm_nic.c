/*
 * NIC-like ports: interfaces of the model's system with a wire and a stack behind them, native or
 * emulated. Their life and names are here, their rings in nm_nic_tx.c and nm_nic_rx.c.
 */
#include "models/netmap/nm_nic_private.h"

#include <errno.h>
#include <string.h>

static const struct nm_port_ops nic_ops;

/* ---- krings ---- */

static void clear_queues(struct nic_side *side)
{
    pthread_mutex_lock(&side->rx_lock);
    for (unsigned i = 0; i < side->n_queues; i++) {
        nic_queue_clear(&side->queues[i]);
    }
    g_clear_pointer(&side->queues, g_free);
    side->n_queues = 0;
    pthread_mutex_unlock(&side->rx_lock);
}

static bool init_queues(struct nm_nic *nic, struct nic_side *side)
{
    const unsigned n = nic_n_rings(nic, side, NM_RX);
    struct nic_queue *queues = g_new0(struct nic_queue, n);
    bool ok = true;

    for (unsigned i = 0; i < n; i++) {
        ok = nic_queue_init(&queues[i], nic->na.n_slots[NM_RX], nm_mem_buf_size(nic->na.mem)) && ok;
    }
    pthread_mutex_lock(&side->rx_lock);
    side->queues = queues;
    side->n_queues = n;
    pthread_mutex_unlock(&side->rx_lock);
    return ok;
}

/* Whether frames have to go through queues: not all of them belong to one ring, or fit in one slot.
 */
static bool needs_queues(const struct nm_nic *nic, const struct nic_side *side)
{
    enum { ETHERNET_AND_TAGS = 14 + 2 * 4 };
    const struct nm_adapter *na = &nic->na;

    if (!side->backend) {
        return false;
    }
    if (side == &nic->stack) {
        return na->n_rings[NM_TX] > 1 || na->n_host_rings[NM_RX] > 1;
    }
    return na->n_rings[NM_RX] > 1 || nic->is_emulated ||
           na->mtu + ETHERNET_AND_TAGS > nm_mem_buf_size(na->mem);
}

static int krings_created(struct nm_adapter *na)
{
    struct nm_nic *nic = (struct nm_nic *)na;
    struct nic_side *sides[] = {&nic->wire, &nic->stack};

    for (unsigned i = 0; i < nm_all_rings(na, NM_TX); i++) {
        na->krings[NM_TX][i].sync = nic_txsync;
    }
    for (unsigned i = 0; i < nm_all_rings(na, NM_RX); i++) {
        na->krings[NM_RX][i].sync = nic_rxsync;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(sides); i++) {
        if (needs_queues(nic, sides[i]) && !init_queues(nic, sides[i])) {
            clear_queues(&nic->wire);
            clear_queues(&nic->stack);
            return ENOMEM;
        }
    }
    return 0;
}

static void krings_deleted(struct nm_adapter *na)
{
    struct nm_nic *nic = (struct nm_nic *)na;

    clear_queues(&nic->wire);
    clear_queues(&nic->stack);
}

static int set_active(struct nm_adapter *na, bool active)
{
    struct nm_nic *nic = (struct nm_nic *)na;

    pthread_mutex_lock(&nic->lock);
    nic->is_active = active;
    pthread_mutex_unlock(&nic->lock);
    if (!active) { /* whoever binds rings syncs them, which arms; the driver is to be told */
        nic_arm(nic, &nic->wire);
        nic_arm(nic, &nic->stack);
    }
    return 0;
}

/* The thread touches rings with the lock held. */
static void quiesce(struct nm_adapter *na)
{
    struct nm_nic *nic = (struct nm_nic *)na;

    pthread_mutex_lock(&nic->lock);
    pthread_mutex_unlock(&nic->lock);
}

/* ---- life ---- */

static void side_init(struct nic_side *side, struct backend *backend)
{
    side->backend = backend;
    pthread_mutex_init(&side->rx_lock, NULL);
    pthread_mutex_init(&side->tx_lock, NULL);
    side->scratch = g_malloc((size_t)NIC_SCRATCH_FRAMES * BACKEND_MAX_FRAME);
    side->joined = g_malloc(BACKEND_MAX_FRAME);
}

static void side_unplug(struct nic_side *side)
{
    pthread_mutex_lock(&side->rx_lock);
    pthread_mutex_lock(&side->tx_lock);
    g_clear_pointer(&side->backend, backend_free);
    pthread_mutex_unlock(&side->tx_lock);
    pthread_mutex_unlock(&side->rx_lock);
}

static void side_clear(struct nic_side *side)
{
    side_unplug(side);
    pthread_mutex_destroy(&side->rx_lock);
    pthread_mutex_destroy(&side->tx_lock);
    g_free(side->scratch);
    g_free(side->joined);
}

static void nic_free(struct nm_adapter *na)
{
    struct nm_nic *nic = (struct nm_nic *)na;

    nic_thread_stop(nic);
    side_clear(&nic->wire);
    side_clear(&nic->stack);
    pthread_mutex_destroy(&nic->lock);
    nm_adapter_clear(na);
    g_free(nic);
}

static const struct nm_port_ops nic_ops = {
    .kind = "nic",
    .krings_created = krings_created,
    .krings_deleted = krings_deleted,
    .set_active = set_active,
    .quiesce = quiesce,
    .forward_up = nic_forward_up,
    .free = nic_free,
};

static void set_counts(struct nm_nic *nic, const struct nm_nic_options *o)
{
    struct nm_adapter *na = &nic->na;
    const struct nm_host_options *host = &na->host->options;
    const uint32_t rings = nic->is_emulated ? host->generic_rings : 1;
    const uint32_t slots = nic->is_emulated ? host->generic_ringsize : 1024;

    na->n_rings[NM_TX] = o->tx_rings ? o->tx_rings : rings;
    na->n_rings[NM_RX] = o->rx_rings ? o->rx_rings : rings;
    na->n_slots[NM_TX] = o->tx_slots ? o->tx_slots : slots;
    na->n_slots[NM_RX] = o->rx_slots ? o->rx_slots : slots;
    na->mtu = o->mtu ? o->mtu : 1500;
    na->rx_buf_maxsize = nic->is_emulated ? NIC_GENERIC_RX_BUF_MAX : NIC_RX_BUF_MAX;
    na->flags |= NAF_HOST_RINGS | NAF_OFFSETS | NAF_MOREFRAG;
}

/* A locally administered address of its own, where none is given. */
static void set_mac(struct nm_nic *nic, const uint8_t *mac)
{
    static const uint8_t none[6];
    const uint32_t hash = g_str_hash(nic->na.name);

    if (memcmp(mac, none, sizeof(none)) != 0) {
        memcpy(nic->mac, mac, sizeof(nic->mac));
    } else {
        nic->mac[0] = 0x02;
        memcpy(nic->mac + 2, &hash, sizeof(hash));
    }
}

static struct nm_nic *nic_new(struct nm_host *host, const struct nm_nic_options *o)
{
    struct nm_nic *nic = g_new0(struct nm_nic, 1);
    struct nm_mem *mem = nm_mem_find(host->mems, 0);

    nm_adapter_init(&nic->na, host, &nic_ops, o->name, mem);
    nm_mem_unref(mem);
    nic->epoll_fd = nic->event_fd = -1;
    nic->is_emulated = o->is_emulated || host->options.admode == 2;
    nic->na.flags |= o->is_emulated ? 0 : NAF_NATIVE;
    set_counts(nic, o);
    set_mac(nic, o->mac);
    pthread_mutex_init(&nic->lock, NULL);
    side_init(&nic->wire, o->wire);
    side_init(&nic->stack, o->stack);
    return nic;
}

/* What is wrong with the options; NULL: nothing. */
static const char *what_is_wrong(const struct nm_nic_options *o)
{
    enum { MIN_MTU = 68, MAX_MTU = 65535, MIN_SLOTS = 2, MAX_SLOTS = 4096 };

    if (!o->name || !o->name[0] || strlen(o->name) >= NETMAP_IFNAMSIZ) {
        return "a name has 1 to 15 characters";
    }
    if (g_str_has_prefix(o->name, "val")) {
        return "names that begin with 'val' are VALE's";
    }
    if (strpbrk(o->name, "{}:^@/*- ")) {
        return "a name has none of { } : ^ @ / * - and no space";
    }
    if (o->tx_rings > NIC_MAX_RINGS || o->rx_rings > NIC_MAX_RINGS) {
        return "it has 1 to 64 rings";
    }
    if ((o->tx_slots && o->tx_slots < MIN_SLOTS) || (o->rx_slots && o->rx_slots < MIN_SLOTS) ||
        o->tx_slots > MAX_SLOTS || o->rx_slots > MAX_SLOTS) {
        return "a ring has 2 to 4096 slots";
    }
    if (o->mtu && (o->mtu < MIN_MTU || o->mtu > MAX_MTU)) {
        return "an MTU is 68 to 65535";
    }
    return NULL;
}

static bool fail(GError **error, int code, const char *name, const char *why)
{
    g_set_error(error, NM_ERROR, code, "interface '%s': %s", name ? name : "", why);
    return false;
}

bool nm_nic_new(struct nm_host *host, const struct nm_nic_options *options, GError **error)
{
    const char *wrong = what_is_wrong(options);

    if (wrong) {
        backend_free(options->wire);
        backend_free(options->stack);
        return fail(error, EINVAL, options->name, wrong);
    }
    pthread_mutex_lock(&host->lock);
    struct nm_nic *nic = nic_new(host, options);
    int code = g_hash_table_contains(host->nics, options->name) ? EEXIST : nic_thread_start(nic);
    if (code) {
        nm_adapter_unref(&nic->na);
    } else {
        g_hash_table_insert(host->nics, g_strdup(options->name), &nic->na);
    }
    pthread_mutex_unlock(&host->lock);
    return !code || fail(error, code, options->name, g_strerror(code));
}

/* A NIC of this name, or NULL; host->lock held. */
static struct nm_nic *find(struct nm_host *host, const char *name)
{
    struct nm_adapter *na = g_hash_table_lookup(host->nics, name);

    return na && na->ops == &nic_ops ? (struct nm_nic *)na : NULL;
}

/* Files that have it open find it stopped; who sleeps is woken to see that. */
static void go_away(struct nm_nic *nic)
{
    struct nm_adapter *na = &nic->na;

    na->flags |= NAF_ZOMBIE;
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; na->krings[t] && i < nm_all_rings(na, t); i++) {
            nm_kr_stop(&na->krings[t][i]);
        }
    }
    nic_thread_stop(nic);
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; na->krings[t] && i < nm_all_rings(na, t); i++) {
            na->krings[t][i].notify(&na->krings[t][i], 0);
        }
    }
    side_unplug(&nic->wire);
    side_unplug(&nic->stack);
}

bool nm_nic_remove(struct nm_host *host, const char *name, GError **error)
{
    pthread_mutex_lock(&host->lock);
    struct nm_nic *nic = find(host, name);
    if (nic) {
        g_hash_table_remove(host->nics, name);
        go_away(nic);
        nm_adapter_unref(&nic->na);
    }
    pthread_mutex_unlock(&host->lock);
    return nic || fail(error, ENXIO, name, "there is none of that name");
}

bool nm_nic_info(struct nm_host *host, const char *name, struct nm_nic_info *info)
{
    pthread_mutex_lock(&host->lock);
    struct nm_nic *nic = find(host, name);
    if (nic) {
        struct nic_side *sides[] = {&nic->wire, &nic->stack};
        struct nm_nic_side_stats *stats[] = {&info->wire, &info->stack};
        memcpy(info->mac, nic->mac, sizeof(info->mac));
        info->mtu = nic->na.mtu;
        for (unsigned i = 0; i < G_N_ELEMENTS(sides); i++) {
            const struct backend *b = sides[i]->backend;
            pthread_mutex_lock(&sides[i]->rx_lock);
            stats[i]->received = b ? b->stats.received : 0;
            stats[i]->dropped_rx = sides[i]->dropped_rx + (b ? b->stats.dropped_receive : 0);
            pthread_mutex_unlock(&sides[i]->rx_lock);
            pthread_mutex_lock(&sides[i]->tx_lock);
            stats[i]->sent = b ? b->stats.sent : 0;
            stats[i]->dropped_tx = sides[i]->dropped_tx + (b ? b->stats.dropped_send : 0);
            pthread_mutex_unlock(&sides[i]->tx_lock);
        }
    }
    pthread_mutex_unlock(&host->lock);
    return nic != NULL;
}

/* ---- names ---- */

static bool set_host_rings(struct nm_adapter *na, const struct nmreq_register *reg)
{
    const uint16_t wanted[NM_N_TXRX] = {
        [NM_TX] = reg->nr_host_tx_rings, [NM_RX] = reg->nr_host_rx_rings};

    if (!(na->flags & NAF_HOST_RINGS) || na->active_files || na->krings[NM_TX]) {
        return true;
    }
    for (int t = 0; t < NM_N_TXRX; t++) {
        if (wanted[t] > NIC_MAX_RINGS) {
            return false;
        }
        na->n_host_rings[t] = wanted[t] ? wanted[t] : na->n_host_rings[t];
    }
    return true;
}

/* Also finds what others put into the table: persistent VALE interfaces. */
int nm_nic_resolve(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
                   struct nm_mem *mem, bool create, struct nm_adapter **na)
{
    struct nm_adapter *found = g_hash_table_lookup(host->nics, header->nr_name);

    (void)mem;
    (void)create;
    if (!found) {
        return ENXIO;
    }
    if (found->ops == &nic_ops && !(found->flags & NAF_NATIVE) && host->options.admode == 1) {
        return EOPNOTSUPP;
    }
    if (!set_host_rings(found, reg)) {
        return EINVAL;
    }
    *na = nm_adapter_ref(found);
    return 0;
}
