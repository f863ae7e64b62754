/*
 * The requests about one port: REGISTER, PORT_INFO_GET, POOLS_INFO_GET, PORT_HDR_SET and _GET,
 * CSB_ENABLE (netmap.md 5, 8, 9.4). What they name is found by nm_resolve, bound by nm_file_bind.
 */
#include "models/netmap/nm_core_private.h"
#include "models/ptnet/kloop.h"

#include <errno.h>

/* ---- REGISTER ---- */

/* *mem: a reference, or NULL where the request leaves the choice to the port. */
static int requested_mem(struct nm_request *request, struct nm_mem **mem)
{
    struct nm_mems *mems = request->file->host->mems;
    const struct nmreq_register *reg = request->body;
    struct nmreq_opt_extmem *extmem = (void *)request->options[NETMAP_REQ_OPT_EXTMEM];
    int err = 0;

    *mem = NULL;
    if (extmem) {
        *mem = nm_mem_ext_new(mems, (void *)(uintptr_t)extmem->nro_usrptr, &extmem->nro_info, &err);
        extmem->nro_opt.nro_status = (uint32_t)err;
        return err;
    }
    if (reg->nr_mem_id) {
        *mem = nm_mem_find(mems, reg->nr_mem_id);
        return *mem ? 0 : EINVAL;
    }
    return 0;
}

static int apply_options(struct nm_request *request)
{
    struct nmreq_opt_offsets *offsets = (void *)request->options[NETMAP_REQ_OPT_OFFSETS];
    struct nmreq_opt_csb *csb = (void *)request->options[NETMAP_REQ_OPT_CSB];
    int err = 0;

    if (offsets) {
        err = nm_offsets_apply(request->file, offsets);
        offsets->nro_opt.nro_status = (uint32_t)err;
    }
    if (!err && csb) {
        err = kloop_csb_enable(request->file, (void *)(uintptr_t)csb->csb_atok,
                               (void *)(uintptr_t)csb->csb_ktoa);
        csb->nro_opt.nro_status = (uint32_t)err;
    }
    if (!err && request->has_unknown_option) {
        err = EOPNOTSUPP;
    }
    for (unsigned i = 1; !err && i < NETMAP_REQ_OPT_MAX; i++) {
        if (request->options[i] && request->options[i]->nro_status == EOPNOTSUPP) {
            err = EOPNOTSUPP;
        }
    }
    return err;
}

static void answer(const struct nm_file *file, struct nmreq_register *reg)
{
    const struct nm_adapter *na = file->na;

    if (reg->nr_extra_bufs) {
        uint32_t head = 0;

        reg->nr_extra_bufs = nm_mem_alloc_list(file->mem, reg->nr_extra_bufs, &head);
        file->nifp->ni_bufs_head = head;
    }
    reg->nr_offset = (uint64_t)((uint8_t *)file->nifp - nm_mem_base(file->mem));
    reg->nr_memsize = nm_mem_size(file->mem);
    reg->nr_mem_id = nm_mem_id(file->mem);
    reg->nr_tx_rings = (uint16_t)na->n_rings[NM_TX];
    reg->nr_rx_rings = (uint16_t)na->n_rings[NM_RX];
    reg->nr_tx_slots = na->n_slots[NM_TX];
    reg->nr_rx_slots = na->n_slots[NM_RX];
    reg->nr_host_tx_rings = (uint16_t)na->n_host_rings[NM_TX];
    reg->nr_host_rx_rings = (uint16_t)na->n_host_rings[NM_RX];
}

static int bind_resolved(struct nm_request *request, struct nm_adapter *na)
{
    struct nmreq_register *reg = request->body;
    int err;

    if (na->flags & NAF_BUSY) {
        return EBUSY;
    }
    if (na->virt_hdr_len && !(reg->nr_flags & NR_ACCEPT_VNET_HDR)) {
        return EIO;
    }
    err = nm_file_bind(request->file, na, reg->nr_mode, reg->nr_ringid, reg->nr_flags);
    if (err) {
        return err;
    }
    err = apply_options(request);
    if (err) {
        nm_file_unbind(request->file);
        return err;
    }
    answer(request->file, reg);
    return 0;
}

static int register_locked(struct nm_request *request)
{
    struct nm_mem *mem;
    struct nm_adapter *na;
    int err;

    if (request->file->na) {
        return EBUSY;
    }
    err = requested_mem(request, &mem);
    if (err) {
        return err;
    }
    err = nm_resolve(request->file->host, request->header, request->body, mem, true, &na);
    if (!err) {
        err = bind_resolved(request, na);
        nm_unresolve(na);
    }
    g_clear_pointer(&mem, nm_mem_unref);
    return err;
}

int nm_request_register(struct nm_request *request)
{
    struct nm_host *host = request->file->host;

    pthread_mutex_lock(&host->lock);
    int err = register_locked(request);
    pthread_mutex_unlock(&host->lock);
    return err;
}

/* ---- questions ---- */

/* The port of this name, made for the time of the question if it is of a kind that is. */
static int look_up(struct nm_request *request, struct nmreq_register *reg, bool create,
                   struct nm_adapter **na)
{
    reg->nr_mode = NR_REG_ALL_NIC;
    return nm_resolve(request->file->host, request->header, reg, NULL, create, na);
}

static int port_info(struct nm_request *request)
{
    struct nmreq_port_info_get *info = request->body;
    struct nmreq_register reg = {
        .nr_tx_slots = info->nr_tx_slots,
        .nr_rx_slots = info->nr_rx_slots,
        .nr_tx_rings = info->nr_tx_rings,
        .nr_rx_rings = info->nr_rx_rings,
        .nr_host_tx_rings = info->nr_host_tx_rings,
        .nr_host_rx_rings = info->nr_host_rx_rings,
        .nr_mem_id = info->nr_mem_id,
    };
    struct nm_adapter *na;
    int err = look_up(request, &reg, true, &na);

    if (err) {
        return err;
    }
    if (!na->active_files && !na->krings[NM_TX] && na->ops->config) {
        err = na->ops->config(na);
    }
    if (!err) {
        *info = (struct nmreq_port_info_get){
            .nr_memsize = nm_mem_size(na->mem),
            .nr_mem_id = nm_mem_id(na->mem),
            .nr_tx_rings = (uint16_t)na->n_rings[NM_TX],
            .nr_rx_rings = (uint16_t)na->n_rings[NM_RX],
            .nr_tx_slots = na->n_slots[NM_TX],
            .nr_rx_slots = na->n_slots[NM_RX],
            .nr_host_tx_rings = (uint16_t)na->n_host_rings[NM_TX],
            .nr_host_rx_rings = (uint16_t)na->n_host_rings[NM_RX],
        };
    }
    nm_unresolve(na);
    return err;
}

/* Without a name: of an allocator alone. */
static int memory_info(struct nm_request *request)
{
    struct nmreq_port_info_get *info = request->body;
    struct nm_mem *mem = nm_mem_find(request->file->host->mems, info->nr_mem_id);

    if (!mem) {
        return EINVAL;
    }
    info->nr_memsize = nm_mem_size(mem);
    info->nr_mem_id = nm_mem_id(mem);
    nm_mem_unref(mem);
    return 0;
}

int nm_request_port_info(struct nm_request *request)
{
    struct nm_host *host = request->file->host;

    pthread_mutex_lock(&host->lock);
    int err = request->header->nr_name[0] ? port_info(request) : memory_info(request);
    pthread_mutex_unlock(&host->lock);
    return err;
}

static int pools_info(struct nm_request *request)
{
    struct nmreq_pools_info *info = request->body;
    struct nmreq_register reg = {.nr_mem_id = info->nr_mem_id};
    struct nm_adapter *na;
    int err = look_up(request, &reg, true, &na);

    if (err) {
        return err;
    }
    err = nm_mem_finalize(na->mem);
    if (!err) {
        nm_mem_pools_info(na->mem, info);
        nm_mem_release(na->mem);
    }
    nm_unresolve(na);
    return err;
}

int nm_request_pools_info(struct nm_request *request)
{
    struct nm_host *host = request->file->host;

    pthread_mutex_lock(&host->lock);
    int err = pools_info(request);
    pthread_mutex_unlock(&host->lock);
    return err;
}

/* ---- the vnet header ---- */

static int hdr_set(struct nm_request *request, uint32_t len)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nm_adapter *na = NULL;
    int err;

    if (len != 0 && len != NM_VNET_HDR_LEN_10 && len != NM_VNET_HDR_LEN_12) {
        return EINVAL;
    }
    err = vale_resolve(request->file->host, request->header, &reg, NULL, false, &na);
    if (err || !na) {
        return err ? err : ENXIO;
    }
    err = na->ops->set_header ? na->ops->set_header(na, len) : EOPNOTSUPP;
    nm_unresolve(na);
    return err;
}

static int hdr_get(struct nm_request *request, uint32_t *len)
{
    struct nmreq_register reg = {0};
    struct nm_adapter *na;
    int err = look_up(request, &reg, false, &na);

    if (!err) {
        *len = na->virt_hdr_len;
        nm_unresolve(na);
    }
    return err;
}

int nm_request_port_hdr(struct nm_request *request, bool set)
{
    struct nm_host *host = request->file->host;
    struct nmreq_port_hdr *hdr = request->body;

    pthread_mutex_lock(&host->lock);
    int err = set ? hdr_set(request, hdr->nr_hdr_len) : hdr_get(request, &hdr->nr_hdr_len);
    pthread_mutex_unlock(&host->lock);
    return err;
}

int nm_request_csb_enable(struct nm_request *request)
{
    struct nm_host *host = request->file->host;
    struct nmreq_opt_csb *csb = (void *)request->options[NETMAP_REQ_OPT_CSB];

    if (!csb) {
        return EINVAL;
    }
    pthread_mutex_lock(&host->lock);
    int err = kloop_csb_enable(request->file, (void *)(uintptr_t)csb->csb_atok,
                               (void *)(uintptr_t)csb->csb_ktoa);
    pthread_mutex_unlock(&host->lock);
    csb->nro_opt.nro_status = (uint32_t)err;
    return err;
}
