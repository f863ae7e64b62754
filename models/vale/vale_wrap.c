/*
 * NICs on a switch (netmap.md 9.2): a wrapper port whose receive rings are the NIC's transmit rings
 * and the other way round, and another one for the host rings. The wrapper binds the NIC as a file
 * would. Who sends to it syncs the NIC's transmit ring; what the NIC receives is forwarded by a
 * thread of the wrapper, which the NIC's notifications wake (vale_wrap_thread.c).
 */
#include "models/vale/vale_wrap_private.h"

#include <errno.h>

static struct vale_wrapped *wrapped_of(const struct vale_port *port)
{
    return (struct vale_wrapped *)(uintptr_t)port;
}

struct nm_kring *vale_wrapped_hw(const struct nm_kring *kring)
{
    const struct vale_wrapped *w = wrapped_of((const struct vale_port *)(const void *)kring->na);
    enum nm_txrx t = kring->tx == NM_RX ? NM_TX : NM_RX;

    return &w->wrapper->hw->krings[t][w->hw_first[t] + kring->ring_id];
}

/* ---- the NIC's transmit rings: receive rings of the switch ---- */

/* Hands over what was published. Both rings are ours. */
static void transmit(const struct nm_kring *kring, struct nm_kring *hw, int flags)
{
    hw->rhead = hw->rcur = atomic_load_explicit(&kring->hwtail, memory_order_acquire);
    if (hw->sync(hw, flags) == 0) {
        nm_sync_finalize(hw);
    }
}

/* What was sent is room again. Under the lock, so that what is seen of hwtail never goes back. */
static void reclaim(struct nm_kring *kring, struct nm_kring *hw)
{
    pthread_spin_lock(&kring->lease_lock);
    uint32_t tail = atomic_load_explicit(&hw->hwtail, memory_order_acquire);
    vale_queue_release(kring, nm_next(tail, hw->num_slots));
    pthread_spin_unlock(&kring->lease_lock);
}

void vale_wrapped_transmit(struct nm_kring *kring, int flags)
{
    struct vale_receiver *receiver = kring->port_data;
    struct nm_kring *hw = vale_wrapped_hw(kring);

    atomic_store(&receiver->has_work, true);
    while (atomic_load(&receiver->has_work) && nm_kr_acquire(hw, false) == 0) {
        atomic_store(&receiver->has_work, false);
        transmit(kring, hw, flags);
        nm_kr_release(hw);
        /* who found the ring taken has left the work to us */
        atomic_thread_fence(memory_order_seq_cst);
    }
    reclaim(kring, hw);
}

/* Nobody binds these rings: what they show is for senders only. */
static int sync_of_nobody(struct nm_kring *kring, int flags)
{
    (void)kring;
    (void)flags;
    return 0;
}

static int wrapped_krings_created(struct nm_adapter *na)
{
    struct vale_wrapped *w = (void *)na;

    vale_rings_init(&w->port);
    for (unsigned i = 0; i < na->n_rings[NM_RX]; i++) {
        na->krings[NM_RX][i].sync = sync_of_nobody;
        na->krings[NM_RX][i].notify = vale_wrapped_transmit;
    }
    for (unsigned i = 0; i < na->n_rings[NM_TX]; i++) {
        na->krings[NM_TX][i].notify = vale_wrapper_wake_tx;
    }
    return 0;
}

static void wrapped_krings_deleted(struct nm_adapter *na)
{
    vale_rings_clear((struct vale_port *)(void *)na);
}

static void wrapped_free(struct nm_adapter *na)
{
    nm_adapter_clear(na);
    g_aligned_free(na);
}

static const struct nm_port_ops wrapped_ops = {
    .kind = "vale-wrapper",
    .krings_created = wrapped_krings_created,
    .krings_deleted = wrapped_krings_deleted,
    .free = wrapped_free,
};

/* ---- rings shared with the NIC ---- */

static void share_ring(struct nm_kring *kring)
{
    const struct nm_kring *hw = vale_wrapped_hw(kring);
    uint32_t tail = atomic_load_explicit(&hw->hwtail, memory_order_acquire);

    kring->ring = hw->ring;
    kring->num_slots = hw->num_slots;
    kring->offset_mask = hw->offset_mask;
    kring->offset_max = hw->offset_max;
    if (kring->tx == NM_RX) {
        kring->hwcur = nm_next(tail, hw->num_slots);
        kring->lease_next = hw->rhead;
        atomic_store_explicit(&kring->hwtail, hw->rhead, memory_order_relaxed);
    } else {
        kring->hwcur = kring->rhead = hw->rhead;
    }
    atomic_store_explicit(&kring->is_on, true, memory_order_release);
}

static int wrapped_new(struct vale_wrapper *wrapper, const char *name, bool is_host,
                       struct vale_wrapped **result)
{
    struct nm_adapter *hw = wrapper->hw;
    struct vale_wrapped *w = g_aligned_alloc0(1, sizeof(*w), _Alignof(struct vale_wrapped));

    nm_adapter_init(&w->port.na, hw->host, &wrapped_ops, name, hw->mem);
    w->wrapper = wrapper;
    w->port.is_wrapper = true;
    w->port.mfs = VALE_DEFAULT_MFS;
    w->port.na.flags = NAF_BUSY | NAF_MOREFRAG;
    w->port.na.virt_hdr_len = hw->virt_hdr_len;
    for (int t = 0; t < NM_N_TXRX; t++) {
        enum nm_txrx other = t == NM_RX ? NM_TX : NM_RX;
        w->hw_first[t] = is_host ? hw->n_rings[t] : 0;
        w->port.na.n_rings[t] =
            MIN(is_host ? hw->n_host_rings[other] : hw->n_rings[other], (uint32_t)VALE_MAX_RINGS);
        w->port.na.n_slots[t] = hw->n_slots[other];
    }
    int err = nm_krings_create(&w->port.na);
    if (err) {
        nm_adapter_unref(&w->port.na);
        return err;
    }
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < w->port.na.n_rings[t]; i++) {
            share_ring(&w->port.na.krings[t][i]);
        }
    }
    w->port.is_on = true; /* on no switch yet: nobody looks */
    *result = w;
    return 0;
}

static void wrapped_drop(struct vale_wrapped *w)
{
    struct nm_adapter *na = &w->port.na;

    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < na->n_rings[t]; i++) {
            na->krings[t][i].ring = NULL; /* it is the NIC's */
        }
    }
    nm_krings_delete(na);
    nm_adapter_unref(na);
}

/* ---- wrapping ---- */

static void wrapper_free(struct vale_wrapper *wrapper)
{
    if (wrapper->file) {
        nm_file_free(wrapper->file); /* the NIC's reference goes with it */
    }
    pthread_cond_destroy(&wrapper->cond);
    pthread_mutex_destroy(&wrapper->lock);
    g_free(wrapper);
}

static int bind_hw(struct vale_wrapper *wrapper, bool has_host)
{
    struct nm_host *host = wrapper->hw->host;

    if (wrapper->hw->active_files > 0 || (wrapper->hw->flags & NAF_BUSY)) {
        return EBUSY;
    }
    wrapper->file = nm_file_new(host);
    if (!wrapper->file) {
        return ENOMEM;
    }
    g_ptr_array_remove_fast(host->files, wrapper->file); /* no program's, to be closed by itself */
    int err = nm_file_bind(wrapper->file, wrapper->hw, has_host ? NR_REG_NIC_SW : NR_REG_ALL_NIC, 0,
                           NR_EXCLUSIVE);
    if (!err) {
        atomic_fetch_or(&wrapper->hw->flags, NAF_BUSY);
    }
    return err;
}

static void drop_all(struct vale_wrapper *wrapper)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(wrapper->ports); i++) {
        g_clear_pointer(&wrapper->ports[i], wrapped_drop);
    }
    if (wrapper->file && wrapper->file->na) {
        atomic_fetch_and(&wrapper->hw->flags, ~(unsigned)NAF_BUSY);
    }
    wrapper_free(wrapper);
}

int vale_wrap(struct vale_switches *switches, struct vale_switch *sw, const char *name,
              struct nm_adapter *hw, bool has_host, struct vale_port **port)
{
    struct vale_wrapper *wrapper = g_new0(struct vale_wrapper, 1);
    g_autofree char *host_name = g_strdup_printf("%s^", name);

    wrapper->hw = hw;
    pthread_mutex_init(&wrapper->lock, NULL);
    pthread_cond_init(&wrapper->cond, NULL);
    int err = bind_hw(wrapper, has_host);
    if (!err) {
        err = wrapped_new(wrapper, name, false, &wrapper->ports[VALE_WRAPPED_NIC]);
    }
    if (!err && has_host) {
        err = wrapped_new(wrapper, host_name, true, &wrapper->ports[VALE_WRAPPED_HOST]);
    }
    if (!err) {
        err = vale_wrapper_start(wrapper);
    }
    if (err) {
        drop_all(wrapper);
        return err;
    }
    vale_switch_add(switches, sw, &wrapper->ports[VALE_WRAPPED_NIC]->port, name);
    if (has_host) {
        vale_switch_add(switches, sw, &wrapper->ports[VALE_WRAPPED_HOST]->port, host_name);
    }
    *port = &wrapper->ports[VALE_WRAPPED_NIC]->port;
    vale_wrapper_wake(wrapper); /* what came before */
    return 0;
}

void vale_unwrap(struct vale_switches *switches, struct vale_port *port)
{
    struct vale_wrapper *wrapper = wrapped_of(port)->wrapper;

    vale_wrapper_unpoll(wrapper);
    vale_wrapper_stop(wrapper);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrapper->ports); i++) {
        if (wrapper->ports[i]) {
            vale_switch_remove(switches, &wrapper->ports[i]->port);
        }
    }
    drop_all(wrapper);
}

/* ---- polling ---- */

bool vale_wrap_is_polled(const struct vale_port *port)
{
    return wrapped_of(port)->wrapper->n_pollers > 0;
}

int vale_wrap_poll(struct vale_port *port, const struct nmreq_vale_polling *request)
{
    struct vale_wrapper *wrapper = wrapped_of(port)->wrapper;
    unsigned n_cpus = request->nr_num_polling_cpus, first = request->nr_first_cpu_id;
    unsigned n_rings = wrapper->ports[VALE_WRAPPED_NIC]->port.na.n_rings[NM_RX];

    if (wrapper->n_pollers > 0) {
        return EFAULT;
    }
    if (n_cpus == 0 || n_cpus >= g_get_num_processors()) {
        return EINVAL;
    }
    if (request->nr_mode == NETMAP_POLLING_MODE_SINGLE_CPU) {
        return n_cpus == 1 ? vale_wrapper_poll(wrapper, first, 1, true) : EINVAL;
    }
    if (request->nr_mode != NETMAP_POLLING_MODE_MULTI_CPU || first >= n_rings ||
        n_cpus > n_rings - first) {
        return EINVAL;
    }
    return vale_wrapper_poll(wrapper, first, n_cpus, false);
}

int vale_wrap_unpoll(struct vale_port *port)
{
    struct vale_wrapper *wrapper = wrapped_of(port)->wrapper;

    if (wrapper->n_pollers == 0) {
        return EFAULT;
    }
    vale_wrapper_unpoll(wrapper);
    return 0;
}
