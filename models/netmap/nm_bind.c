/*
 * Binding a file to rings of an adapter and giving them up (netmap.md 5.2 to 5.4). Each step that
 * takes something has its reverse beside it; a failure undoes the steps before it.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>

/* ---- which rings ---- */

static int mode_range(const struct nm_adapter *na, enum nm_txrx t, uint32_t mode, uint16_t ringid,
                      unsigned *first, unsigned *last)
{
    const unsigned n = na->n_rings[t], n_host = na->n_host_rings[t];
    const unsigned n_other = na->n_rings[!t], n_other_host = na->n_host_rings[!t];

    switch (mode) {
    case NR_REG_ALL_NIC:
    case NR_REG_NULL:
        *first = 0;
        *last = n;
        return 0;
    case NR_REG_SW:
    case NR_REG_NIC_SW:
        *first = mode == NR_REG_SW ? n : 0;
        *last = n + n_host;
        return na->flags & NAF_HOST_RINGS ? 0 : EINVAL;
    case NR_REG_ONE_NIC:
        *first = ringid < n ? ringid : 0;
        *last = n ? *first + 1 : 0;
        return ringid < MAX(n, n_other) ? 0 : EINVAL;
    case NR_REG_ONE_SW:
        *first = n + (ringid < n_host ? ringid : 0);
        *last = *first + 1;
        return (na->flags & NAF_HOST_RINGS) && ringid < MAX(n_host, n_other_host) ? 0 : EINVAL;
    default:
        return EINVAL;
    }
}

int nm_ring_range(const struct nm_adapter *na, enum nm_txrx t, uint32_t mode, uint16_t ringid,
                  uint64_t flags, unsigned *first, unsigned *last)
{
    static const uint64_t is_left_out[NM_N_TXRX] = {
        [NM_RX] = NR_TX_RINGS_ONLY, [NM_TX] = NR_RX_RINGS_ONLY};

    *first = *last = 0;
    return flags & is_left_out[t] ? 0 : mode_range(na, t, mode, ringid, first, last);
}

static int set_ranges(struct nm_file *file, uint32_t mode, uint16_t ringid, uint64_t flags)
{
    struct nm_adapter *na = file->na;

    for (int t = 0; t < NM_N_TXRX; t++) {
        int err = nm_ring_range(na, t, mode, ringid, flags, &file->first[t], &file->last[t]);

        if (err) {
            return err;
        }
    }
    file->reg_flags = flags;
    file->sync_flags = file->first[NM_TX] == 0 && file->last[NM_TX] >= na->n_rings[NM_TX]
                           ? NAF_CAN_FORWARD_DOWN
                           : 0;
    return 0;
}

/* ---- krings: made for the first file ---- */

/* Whether buffers can take what the interface behind the port sends. */
static int check_mtu(const struct nm_file *file)
{
    const struct nm_adapter *na = file->na;
    const uint32_t buf_size = nm_mem_buf_size(na->mem);

    if (!na->mtu || file->first[NM_RX] == file->last[NM_RX]) {
        return 0;
    }
    if (!na->rx_buf_maxsize) {
        return EIO;
    }
    if (na->mtu <= na->rx_buf_maxsize) {
        return buf_size < na->mtu ? EINVAL : 0;
    }
    return !(na->flags & NAF_MOREFRAG) || buf_size < na->rx_buf_maxsize ? EINVAL : 0;
}

static int take_krings(struct nm_file *file)
{
    int err = 0;

    if (!file->na->active_files) {
        err = check_mtu(file);
    }
    if (!err && !file->na->krings[NM_TX]) {
        err = nm_krings_create(file->na);
    }
    return err;
}

static void drop_krings(struct nm_adapter *na)
{
    if (!na->active_files && na->krings[NM_TX] &&
        !(na->ops->keeps_krings && na->ops->keeps_krings(na))) {
        nm_krings_delete(na);
    }
}

/* ---- users of the rings ---- */

static int check_exclusive(const struct nm_file *file)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = file->first[t]; i < file->last[t]; i++) {
            const struct nm_kring *kring = &file->na->krings[t][i];

            if ((kring->flags & NKR_EXCLUSIVE) ||
                ((file->reg_flags & NR_EXCLUSIVE) && kring->users)) {
                return EBUSY;
            }
        }
    }
    return 0;
}

static void take_users(struct nm_file *file)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = file->first[t]; i < file->last[t]; i++) {
            struct nm_kring *kring = &file->na->krings[t][i];

            kring->users++;
            kring->flags |= file->reg_flags & NR_EXCLUSIVE ? NKR_EXCLUSIVE : 0;
        }
    }
}

static void drop_users(struct nm_file *file)
{
    struct nm_adapter *na = file->na;

    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = file->first[t]; i < file->last[t]; i++) {
            struct nm_kring *kring = &na->krings[t][i];

            kring->users--;
            if (!kring->users) {
                kring->flags &= (uint8_t)~NKR_EXCLUSIVE;
                atomic_store(&kring->is_on, false);
                nm_kr_lock(kring); /* a notification may be in it, for its monitors */
                nm_kr_unlock(kring);
            }
        }
    }
    if (na->ops->quiesce) {
        na->ops->quiesce(na);
    }
    nm_rings_delete(na);
}

static void turn_on(struct nm_file *file)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = file->first[t]; i < file->last[t]; i++) {
            atomic_store(&file->na->krings[t][i].is_on, true);
        }
    }
}

/* ---- the netmap_if ---- */

static bool is_bound(const struct nm_file *file, enum nm_txrx t, unsigned i)
{
    return i >= file->first[t] && i < file->last[t];
}

static struct netmap_if *if_new(struct nm_file *file)
{
    const struct nm_adapter *na = file->na;
    const unsigned n_tx = nm_all_rings(na, NM_TX), n_rx = nm_all_rings(na, NM_RX);
    struct netmap_if *nifp =
        nm_mem_alloc(file->mem, NM_POOL_IF, sizeof(*nifp) + (n_tx + n_rx) * sizeof(int64_t));

    if (!nifp) {
        return NULL;
    }
    (void)g_strlcpy(nifp->ni_name, na->name, sizeof(nifp->ni_name));
    nifp->ni_flags = nm_mem_is_private(file->mem) ? NI_PRIV_MEM : 0;
    nifp->ni_tx_rings = na->n_rings[NM_TX];
    nifp->ni_rx_rings = na->n_rings[NM_RX];
    nifp->ni_host_tx_rings = na->n_host_rings[NM_TX];
    nifp->ni_host_rx_rings = na->n_host_rings[NM_RX];
    for (unsigned i = 0; i < n_tx + n_rx; i++) {
        const enum nm_txrx t = i < n_tx ? NM_TX : NM_RX;
        const unsigned k = i < n_tx ? i : i - n_tx;

        if (is_bound(file, t, k)) {
            nifp->ring_ofs[i] = (char *)na->krings[t][k].ring - (char *)nifp;
        }
    }
    return nifp;
}

/* ---- all of it ---- */

/* With users taken: rings, the netmap_if, the port's own. */
static int enter(struct nm_file *file)
{
    struct nm_adapter *na = file->na;
    struct netmap_if *nifp;
    int err = nm_rings_create(na);

    if (err) {
        return err;
    }
    nifp = if_new(file);
    if (!nifp) {
        return ENOMEM;
    }
    turn_on(file);
    if (!na->active_files && na->ops->set_active) {
        err = na->ops->set_active(na, true);
        if (err) {
            nm_mem_free_object(file->mem, NM_POOL_IF, nifp);
            return err;
        }
    }
    na->active_files++;
    __atomic_store_n(&file->nifp, nifp, __ATOMIC_RELEASE);
    return 0;
}

static int bind_with_memory(struct nm_file *file, uint32_t mode, uint16_t ringid, uint64_t flags)
{
    int err = set_ranges(file, mode, ringid, flags);

    if (!err) {
        err = take_krings(file);
    }
    if (err) {
        return err;
    }
    err = check_exclusive(file);
    if (!err) {
        take_users(file);
        err = enter(file);
        if (err) {
            drop_users(file);
        }
    }
    if (err) {
        drop_krings(file->na);
    }
    return err;
}

static void give_up_memory(struct nm_file *file)
{
    const uint32_t n_leaked = nm_mem_release(file->mem);

    if (n_leaked) {
        nm_log(file->host, "%s: %u buffers, rings or interfaces were leaked and are free again",
               file->na->name, n_leaked);
    }
}

static void drop_adapter(struct nm_file *file)
{
    g_clear_pointer(&file->mem, nm_mem_unref);
    nm_unresolve(g_steal_pointer(&file->na));
}

int nm_file_bind(struct nm_file *file, struct nm_adapter *na, uint32_t mode, uint16_t ringid,
                 uint64_t flags)
{
    int err = 0;

    if (file->na) {
        return EBUSY;
    }
    if (na->flags & NAF_ZOMBIE) {
        return ENXIO;
    }
    if (!na->active_files && !na->krings[NM_TX] && na->ops->config) {
        err = na->ops->config(na);
    }
    if (!err) {
        err = nm_mem_finalize(na->mem);
    }
    if (err) {
        return err;
    }
    file->na = nm_adapter_ref(na);
    file->mem = nm_mem_ref(na->mem);
    err = bind_with_memory(file, mode, ringid, flags);
    if (err) {
        give_up_memory(file);
        drop_adapter(file);
    }
    return err;
}

static void stop_waiting(struct nm_file *file)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        if (file->waits_on[t]) {
            nm_waiters_remove(file->waits_on[t], &file->waiter[t]);
            file->waits_on[t] = NULL;
        }
    }
}

void nm_file_unbind(struct nm_file *file)
{
    struct nm_adapter *na = file->na;
    struct netmap_if *nifp = file->nifp;

    if (!na) {
        return;
    }
    stop_waiting(file);
    __atomic_store_n(&file->nifp, NULL, __ATOMIC_RELEASE);
    file->csb_atok = NULL;
    file->csb_ktoa = NULL;
    if (na->active_files == 1) {
        nm_monitor_stop(na);
        if (na->ops->set_active) {
            na->ops->set_active(na, false);
        }
    }
    na->active_files--;
    drop_users(file);
    nm_mem_free_list(file->mem, __atomic_load_n(&nifp->ni_bufs_head, __ATOMIC_RELAXED));
    nm_mem_free_object(file->mem, NM_POOL_IF, nifp);
    drop_krings(na);
    if (!na->active_files && !na->krings[NM_TX] && (na->flags & NAF_HOST_RINGS)) {
        na->n_host_rings[NM_TX] = na->n_host_rings[NM_RX] = 1;
    }
    give_up_memory(file);
    drop_adapter(file);
}
