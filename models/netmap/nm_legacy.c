/*
 * The old requests, NIOCGINFO and NIOCREGIF with struct nmreq: turned into today's, answered, and
 * the answer turned back (netmap.md 2.6).
 */
#include "models/netmap/nm_core_private.h"

#include <errno.h>

enum { LEGACY_MODE_MASK = 0xf }; /* of nr_flags */

struct legacy {
    struct nmreq nmr;
    struct nmreq_header header;
    union {
        struct nmreq_register reg;
        struct nmreq_port_info_get info;
        struct nmreq_vale_attach attach;
        struct nmreq_vale_detach detach;
        struct nmreq_vale_list list;
        struct nmreq_port_hdr hdr;
        struct nmreq_vale_newif newif;
        struct nmreq_vale_polling polling;
    } body;
};

/* ---- to today's ---- */

static uint32_t register_mode(struct legacy *l)
{
    const struct nmreq *nmr = &l->nmr;
    const uint32_t mode = nmr->nr_flags & LEGACY_MODE_MASK;

    switch (mode) {
    case NR_REG_DEFAULT:
        return nmr->nr_ringid & NETMAP_SW_RING   ? NR_REG_SW
               : nmr->nr_ringid & NETMAP_HW_RING ? NR_REG_ONE_NIC
                                                 : NR_REG_ALL_NIC;
    case NR_REG_PIPE_MASTER:
    case NR_REG_PIPE_SLAVE: {
        const size_t len = strnlen(nmr->nr_name, sizeof(nmr->nr_name) - 1);

        (void)g_snprintf(l->header.nr_name + len, sizeof(l->header.nr_name) - len, "%c%u",
                         mode == NR_REG_PIPE_MASTER ? '{' : '}',
                         (unsigned)nmr->nr_ringid & NETMAP_RING_MASK);
        return NR_REG_ALL_NIC;
    }
    default:
        return mode;
    }
}

static void to_register(struct legacy *l, struct nmreq_register *reg)
{
    const struct nmreq *nmr = &l->nmr;

    *reg = (struct nmreq_register){
        .nr_offset = nmr->nr_offset,
        .nr_memsize = nmr->nr_memsize,
        .nr_tx_slots = nmr->nr_tx_slots,
        .nr_rx_slots = nmr->nr_rx_slots,
        .nr_tx_rings = nmr->nr_tx_rings,
        .nr_rx_rings = nmr->nr_rx_rings,
        .nr_mem_id = nmr->nr_arg2,
        .nr_ringid = nmr->nr_ringid & NETMAP_RING_MASK,
        .nr_mode = register_mode(l),
        .nr_extra_bufs = nmr->nr_arg3,
        .nr_flags = nmr->nr_flags & ~(uint32_t)LEGACY_MODE_MASK,
    };
    if (nmr->nr_ringid & NETMAP_NO_TX_POLL) {
        reg->nr_flags |= NR_NO_TX_POLL;
    }
    if (nmr->nr_ringid & NETMAP_DO_RX_POLL) {
        reg->nr_flags |= NR_DO_RX_POLL;
    }
}

static void to_polling(struct legacy *l, bool on)
{
    const struct nmreq *nmr = &l->nmr;
    const uint32_t mode = nmr->nr_flags & LEGACY_MODE_MASK;

    l->header.nr_reqtype = on ? NETMAP_REQ_VALE_POLLING_ENABLE : NETMAP_REQ_VALE_POLLING_DISABLE;
    l->body.polling = (struct nmreq_vale_polling){
        .nr_mode = mode == NR_REG_ONE_NIC   ? NETMAP_POLLING_MODE_MULTI_CPU
                   : mode == NR_REG_ALL_NIC ? NETMAP_POLLING_MODE_SINGLE_CPU
                                            : 0,
        .nr_first_cpu_id = nmr->nr_ringid & NETMAP_RING_MASK,
        .nr_num_polling_cpus = nmr->nr_arg1,
    };
}

/* What NIOCREGIF means by its nr_cmd; a type of 0 where that is nothing. */
static int from_regif(struct legacy *l)
{
    const struct nmreq *nmr = &l->nmr;

    switch (nmr->nr_cmd) {
    case 0:
        l->header.nr_reqtype = NETMAP_REQ_REGISTER;
        to_register(l, &l->body.reg);
        return 0;
    case NETMAP_BDG_ATTACH:
        l->header.nr_reqtype = NETMAP_REQ_VALE_ATTACH;
        to_register(l, &l->body.attach.reg);
        l->body.attach.reg.nr_mode =
            nmr->nr_arg1 & NETMAP_BDG_HOST ? NR_REG_NIC_SW : NR_REG_ALL_NIC;
        return 0;
    case NETMAP_BDG_DETACH:
        l->header.nr_reqtype = NETMAP_REQ_VALE_DETACH;
        return 0;
    case NETMAP_BDG_VNET_HDR:
    case NETMAP_VNET_HDR_GET:
        l->header.nr_reqtype =
            nmr->nr_cmd == NETMAP_BDG_VNET_HDR ? NETMAP_REQ_PORT_HDR_SET : NETMAP_REQ_PORT_HDR_GET;
        l->body.hdr.nr_hdr_len = nmr->nr_arg1;
        return 0;
    case NETMAP_BDG_NEWIF:
        l->header.nr_reqtype = NETMAP_REQ_VALE_NEWIF;
        l->body.newif = (struct nmreq_vale_newif){
            .nr_tx_slots = nmr->nr_tx_slots,
            .nr_rx_slots = nmr->nr_rx_slots,
            .nr_tx_rings = nmr->nr_tx_rings,
            .nr_rx_rings = nmr->nr_rx_rings,
            .nr_mem_id = nmr->nr_arg2,
        };
        return 0;
    case NETMAP_BDG_DELIF:
        l->header.nr_reqtype = NETMAP_REQ_VALE_DELIF;
        return 0;
    case NETMAP_BDG_POLLING_ON:
    case NETMAP_BDG_POLLING_OFF:
        to_polling(l, nmr->nr_cmd == NETMAP_BDG_POLLING_ON);
        return 0;
    case NETMAP_PT_HOST_CREATE:
    case NETMAP_PT_HOST_DELETE:
        return ENOMEM;
    default:
        return 0;
    }
}

static void from_ginfo(struct legacy *l)
{
    const struct nmreq *nmr = &l->nmr;

    if (nmr->nr_cmd == NETMAP_BDG_LIST) {
        l->header.nr_reqtype = NETMAP_REQ_VALE_LIST;
        l->body.list.nr_bridge_idx = nmr->nr_arg1;
        l->body.list.nr_port_idx = nmr->nr_arg2;
        return;
    }
    l->header.nr_reqtype = NETMAP_REQ_PORT_INFO_GET;
    l->body.info = (struct nmreq_port_info_get){
        .nr_tx_slots = nmr->nr_tx_slots,
        .nr_rx_slots = nmr->nr_rx_slots,
        .nr_tx_rings = nmr->nr_tx_rings,
        .nr_rx_rings = nmr->nr_rx_rings,
        .nr_mem_id = nmr->nr_arg2,
    };
}

/* ---- and back; offset and size lose what is beyond 32 bits ---- */

static void back_register(struct nmreq *nmr, const struct nmreq_register *reg)
{
    nmr->nr_offset = (uint32_t)reg->nr_offset;
    nmr->nr_memsize = (uint32_t)reg->nr_memsize;
    nmr->nr_tx_slots = reg->nr_tx_slots;
    nmr->nr_rx_slots = reg->nr_rx_slots;
    nmr->nr_tx_rings = reg->nr_tx_rings;
    nmr->nr_rx_rings = reg->nr_rx_rings;
    nmr->nr_arg2 = reg->nr_mem_id;
    nmr->nr_arg3 = reg->nr_extra_bufs;
}

static void back_info(struct nmreq *nmr, const struct nmreq_port_info_get *info)
{
    nmr->nr_memsize = (uint32_t)info->nr_memsize;
    nmr->nr_tx_slots = info->nr_tx_slots;
    nmr->nr_rx_slots = info->nr_rx_slots;
    nmr->nr_tx_rings = info->nr_tx_rings;
    nmr->nr_rx_rings = info->nr_rx_rings;
    nmr->nr_arg2 = info->nr_mem_id;
}

static void back_newif(struct nmreq *nmr, const struct nmreq_vale_newif *newif)
{
    nmr->nr_tx_slots = newif->nr_tx_slots;
    nmr->nr_rx_slots = newif->nr_rx_slots;
    nmr->nr_tx_rings = newif->nr_tx_rings;
    nmr->nr_rx_rings = newif->nr_rx_rings;
    nmr->nr_arg2 = newif->nr_mem_id;
}

static void back(struct legacy *l)
{
    switch (l->header.nr_reqtype) {
    case NETMAP_REQ_REGISTER:
        back_register(&l->nmr, &l->body.reg);
        break;
    case NETMAP_REQ_VALE_ATTACH:
        back_register(&l->nmr, &l->body.attach.reg);
        break;
    case NETMAP_REQ_PORT_INFO_GET:
        back_info(&l->nmr, &l->body.info);
        break;
    case NETMAP_REQ_VALE_NEWIF:
        back_newif(&l->nmr, &l->body.newif);
        break;
    case NETMAP_REQ_VALE_LIST:
        (void)g_strlcpy(l->nmr.nr_name, l->header.nr_name, sizeof(l->nmr.nr_name));
        l->nmr.nr_arg1 = l->body.list.nr_bridge_idx;
        l->nmr.nr_arg2 = (uint16_t)l->body.list.nr_port_idx;
        break;
    case NETMAP_REQ_PORT_HDR_SET:
    case NETMAP_REQ_PORT_HDR_GET:
        l->nmr.nr_arg1 = (uint16_t)l->body.hdr.nr_hdr_len;
        break;
    default:
        break;
    }
}

int nm_legacy(struct nm_file *file, uint32_t cmd, struct nmreq *request)
{
    const uint64_t from = (uint64_t)(uintptr_t)request;
    struct legacy l = {.header.nr_version = NETMAP_API};
    struct nm_request today = {.file = file, .header = &l.header, .body = &l.body};
    int err = 0;

    if (cmd != NIOCGINFO && cmd != NIOCREGIF) {
        return EOPNOTSUPP;
    }
    if (!request) {
        return EINVAL;
    }
    err = nm_copyin(&l.nmr, from, sizeof(l.nmr));
    if (err) {
        return err;
    }
    if (l.nmr.nr_version < NETMAP_MIN_API) {
        return EINVAL;
    }
    l.nmr.nr_name[sizeof(l.nmr.nr_name) - 1] = 0;
    (void)g_strlcpy(l.header.nr_name, l.nmr.nr_name, sizeof(l.header.nr_name));
    if (cmd == NIOCGINFO) {
        from_ginfo(&l);
    } else {
        err = from_regif(&l);
    }
    if (!err) {
        err = nm_request_run(&today);
    }
    if (!err) {
        back(&l);
        err = nm_copyout(from, &l.nmr, sizeof(l.nmr));
    }
    return err;
}
