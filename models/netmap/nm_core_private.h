/*
 * What the files of the control path share: one request as it was copied in, and who answers it.
 * Port kinds use nm_kern.h, applications netmap.h.
 */
#ifndef RINGLAB_NM_CORE_PRIVATE_H
#define RINGLAB_NM_CORE_PRIVATE_H

#include "models/netmap/nm_kern.h"

/* A request in our own memory. */
struct nm_request {
    struct nm_file *file;
    struct nmreq_header *header;
    void *body;                                       /* of the type's size; NULL: has none */
    struct nmreq_option *options[NETMAP_REQ_OPT_MAX]; /* by type; NULL: not given */
    bool has_unknown_option;
};

/* Answers it, without copying anything in or out: 0 or errno. */
int nm_request_run(struct nm_request *request);

/* The handlers; each takes host->lock itself. */
int nm_request_register(struct nm_request *request);
int nm_request_port_info(struct nm_request *request);
int nm_request_pools_info(struct nm_request *request);
int nm_request_port_hdr(struct nm_request *request, bool set);
int nm_request_csb_enable(struct nm_request *request);

/* Option OFFSETS (netmap.md 15) on the rings that the file has just bound: 0, EOPNOTSUPP, EINVAL,
 * EBUSY. */
int nm_offsets_apply(struct nm_file *file, struct nmreq_opt_offsets *option);

#endif
