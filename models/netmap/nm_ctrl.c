/*
 * The control call: requests and their options are copied in, answered, and copied out (netmap.md
 * 3). What a request does stands elsewhere; here is only what every request has in common.
 */
#include "models/netmap/nm_core_private.h"
#include "models/ptnet/kloop.h"
#include "models/vale/vale.h"

#include <errno.h>
#include <string.h>

/* ---- sizes ---- */

static size_t body_size(uint16_t type)
{
    switch (type) {
    case NETMAP_REQ_REGISTER:
        return sizeof(struct nmreq_register);
    case NETMAP_REQ_PORT_INFO_GET:
        return sizeof(struct nmreq_port_info_get);
    case NETMAP_REQ_VALE_ATTACH:
        return sizeof(struct nmreq_vale_attach);
    case NETMAP_REQ_VALE_DETACH:
        return sizeof(struct nmreq_vale_detach);
    case NETMAP_REQ_VALE_LIST:
        return sizeof(struct nmreq_vale_list);
    case NETMAP_REQ_PORT_HDR_SET:
    case NETMAP_REQ_PORT_HDR_GET:
        return sizeof(struct nmreq_port_hdr);
    case NETMAP_REQ_VALE_NEWIF:
        return sizeof(struct nmreq_vale_newif);
    case NETMAP_REQ_VALE_POLLING_ENABLE:
    case NETMAP_REQ_VALE_POLLING_DISABLE:
        return sizeof(struct nmreq_vale_polling);
    case NETMAP_REQ_POOLS_INFO_GET:
        return sizeof(struct nmreq_pools_info);
    case NETMAP_REQ_SYNC_KLOOP_START:
        return sizeof(struct nmreq_sync_kloop_start);
    default:
        return 0;
    }
}

/* Bytes behind the option's header; a type nobody knows has none. */
static uint64_t option_body_size(const struct nmreq_option *option)
{
    uint64_t size = sizeof(*option);

    switch (option->nro_reqtype) {
    case NETMAP_REQ_OPT_EXTMEM:
        size = sizeof(struct nmreq_opt_extmem);
        break;
    case NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS:
        size = MAX(size, option->nro_size);
        break;
    case NETMAP_REQ_OPT_CSB:
        size = sizeof(struct nmreq_opt_csb);
        break;
    case NETMAP_REQ_OPT_SYNC_KLOOP_MODE:
        size = sizeof(struct nmreq_opt_sync_kloop_mode);
        break;
    case NETMAP_REQ_OPT_OFFSETS:
        size = sizeof(struct nmreq_opt_offsets);
        break;
    default:
        break;
    }
    return size - sizeof(*option);
}

/* ---- copying in ---- */

enum { MAX_OPTIONS = NETMAP_REQ_MAXSIZE / sizeof(struct nmreq_option) };

struct copied {
    struct nm_request request;
    struct nmreq_header header;
    size_t used; /* bytes of `space`, with what aligns an option after one of odd length */
    size_t size; /* bytes of body and options: what NETMAP_REQ_MAXSIZE bounds */
    unsigned n_options;
    struct nmreq_option *options[MAX_OPTIONS]; /* in `space` */
    uint64_t from[MAX_OPTIONS];                /* where they came from */
    _Alignas(8) uint8_t space[NETMAP_REQ_MAXSIZE + 8 * MAX_OPTIONS];
};

static void *space_for(struct copied *c, size_t len)
{
    void *at = c->space + c->used;

    c->used += (len + 7) / 8 * 8;
    c->size += len;
    return at;
}

/* Type 0 and a second option of one type are errors, which their statuses say too. */
static int file_option(struct copied *c, struct nmreq_option *option)
{
    struct nmreq_option **slot;

    option->nro_status = EOPNOTSUPP;
    if (option->nro_reqtype == 0) {
        option->nro_status = EINVAL;
        return EINVAL;
    }
    if (option->nro_reqtype >= NETMAP_REQ_OPT_MAX) {
        c->request.has_unknown_option = true;
        return 0;
    }
    slot = &c->request.options[option->nro_reqtype];
    if (*slot) {
        (*slot)->nro_status = option->nro_status = EINVAL;
        return EINVAL;
    }
    *slot = option;
    return 0;
}

/* The list may loop, and may change while it is read: each header is read once, and the bytes are
 * bounded. *bad: EINVAL of an option, which does not end the walk. */
static int copy_options(struct copied *c, int *bad)
{
    for (uint64_t at = c->header.nr_options; at;) {
        struct nmreq_option head;
        struct nmreq_option *option;
        uint64_t len;
        int err = nm_copyin(&head, at, sizeof(head));

        if (err) {
            return err;
        }
        len = option_body_size(&head);
        if (len > NETMAP_REQ_MAXSIZE || c->size + sizeof(head) + len > NETMAP_REQ_MAXSIZE) {
            return EMSGSIZE;
        }
        option = space_for(c, sizeof(head) + len);
        *option = head;
        err = nm_copyin(option + 1, at + sizeof(head), len);
        if (err) {
            return err;
        }
        c->options[c->n_options] = option;
        c->from[c->n_options++] = at;
        err = file_option(c, option);
        *bad = *bad ? *bad : err;
        at = head.nro_next;
    }
    return 0;
}

static int copy_body(struct copied *c)
{
    const size_t len = body_size(c->header.nr_reqtype);

    if (c->header.nr_reserved || !len != !c->header.nr_body) {
        return EINVAL;
    }
    if (len) {
        c->request.body = space_for(c, len);
    }
    return nm_copyin(c->request.body, c->header.nr_body, len);
}

/* ---- copying out ---- */

/* Option headers always, bodies only of what was done. */
static int copy_options_out(const struct copied *c, int err)
{
    int fault = 0;

    for (unsigned i = 0; i < c->n_options; i++) {
        const struct nmreq_option *option = c->options[i];
        size_t len = sizeof(*option);

        if (!err && !option->nro_status) {
            len += option_body_size(option);
        }
        if (nm_copyout(c->from[i], option, len)) {
            fault = EFAULT;
        }
    }
    return fault;
}

static int copy_out(const struct copied *c, int err)
{
    int fault = copy_options_out(c, err);

    if (!err && c->request.body) {
        const size_t len = body_size(c->header.nr_reqtype);

        fault = nm_copyout(c->header.nr_body, c->request.body, len) ? EFAULT : fault;
    }
    return err ? err : fault;
}

/* ---- who answers ---- */

static int run_vale(struct nm_request *request)
{
    struct nm_host *host = request->file->host;
    struct nmreq_header *header = request->header;
    int err;

    pthread_mutex_lock(&host->lock);
    switch (header->nr_reqtype) {
    case NETMAP_REQ_VALE_ATTACH:
        err = vale_attach(host, header, request->body);
        break;
    case NETMAP_REQ_VALE_DETACH:
        err = vale_detach(host, header, request->body);
        break;
    case NETMAP_REQ_VALE_LIST:
        err = vale_list(host, header, request->body);
        break;
    case NETMAP_REQ_VALE_NEWIF:
        err = vale_newif(host, header, request->body);
        break;
    case NETMAP_REQ_VALE_DELIF:
        err = vale_delif(host, header);
        break;
    default:
        err = vale_polling(host, header, request->body,
                           header->nr_reqtype == NETMAP_REQ_VALE_POLLING_ENABLE);
        break;
    }
    pthread_mutex_unlock(&host->lock);
    return err;
}

/* The loop runs in here, until another thread stops it, and perhaps closes the file: nothing of the
 * file is touched afterwards. */
static int run_kloop(struct nm_request *request)
{
    return kloop_start(request->file, request->body,
                       (void *)request->options[NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS],
                       (void *)request->options[NETMAP_REQ_OPT_SYNC_KLOOP_MODE]);
}

int nm_request_run(struct nm_request *request)
{
    switch (request->header->nr_reqtype) {
    case NETMAP_REQ_REGISTER:
        return nm_request_register(request);
    case NETMAP_REQ_PORT_INFO_GET:
        return nm_request_port_info(request);
    case NETMAP_REQ_POOLS_INFO_GET:
        return nm_request_pools_info(request);
    case NETMAP_REQ_PORT_HDR_SET:
    case NETMAP_REQ_PORT_HDR_GET:
        return nm_request_port_hdr(request, request->header->nr_reqtype == NETMAP_REQ_PORT_HDR_SET);
    case NETMAP_REQ_VALE_ATTACH:
    case NETMAP_REQ_VALE_DETACH:
    case NETMAP_REQ_VALE_LIST:
    case NETMAP_REQ_VALE_NEWIF:
    case NETMAP_REQ_VALE_DELIF:
    case NETMAP_REQ_VALE_POLLING_ENABLE:
    case NETMAP_REQ_VALE_POLLING_DISABLE:
        return run_vale(request);
    case NETMAP_REQ_CSB_ENABLE:
        return nm_request_csb_enable(request);
    case NETMAP_REQ_SYNC_KLOOP_START:
        return run_kloop(request);
    case NETMAP_REQ_SYNC_KLOOP_STOP:
        return kloop_stop(request->file);
    default:
        return EINVAL;
    }
}

static int run_copied(struct copied *c)
{
    int err, bad = 0;

    if (c->header.nr_version < NETMAP_MIN_API || c->header.nr_version > NETMAP_MAX_API) {
        return EINVAL;
    }
    err = copy_body(c);
    if (!err) {
        err = copy_options(c, &bad);
    }
    if (err) {
        return err;
    }
    return copy_out(c, bad ? bad : nm_request_run(&c->request));
}

int nm_ctrl(struct nm_file *file, struct nmreq_header *header)
{
    const uint64_t from = (uint64_t)(uintptr_t)header;
    struct copied c;
    int err;

    if (!header) {
        return EINVAL;
    }
    memset(&c, 0, offsetof(struct copied, options));
    c.request.file = file;
    c.request.header = &c.header;
    err = nm_copyin(&c.header, from, sizeof(c.header));
    if (err) {
        return err;
    }
    c.header.nr_name[sizeof(c.header.nr_name) - 1] = 0;
    err = run_copied(&c);
    return nm_copyout(from, &c.header, sizeof(c.header)) && !err ? EFAULT : err;
}
