/*
 * What the name of a port says, in full: request, flags, allocator, and memory from a file.
 */
#ifndef RINGLAB_NM_PARSE_PRIVATE_H
#define RINGLAB_NM_PARSE_PRIVATE_H

#include "models/netmap/netmap.h"

struct nm_parsed {
    struct nmreq_header header;
    struct nmreq_register reg;
    char *extmem_file;              /* NULL: option extmem was not given */
    struct nmreq_pools_info extmem; /* its sizes and numbers; 0: netmap's choice */
};

/* EINVAL with what is wrong; EOPNOTSUPP: option offset; for "share" what the other port answers.
 * `host` is for share. */
bool nm_parse(struct nm_host *host, const char *name, struct nm_parsed *parsed, GError **error);
void nm_parsed_clear(struct nm_parsed *parsed);

#endif
