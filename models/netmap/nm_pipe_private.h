/*
 * A pipe's two ends, for the data path (nm_pipe.c) and the names (nm_pipe_resolve.c).
 */
#ifndef RINGLAB_NM_PIPE_PRIVATE_H
#define RINGLAB_NM_PIPE_PRIVATE_H

#include "models/netmap/nm_kern.h"

enum {
    NM_PIPE_MAX_RINGS = 256,  /* per direction */
    NM_PIPE_MAX_SLOTS = 4096, /* per ring */
    NM_PIPE_MAX_PER_PARENT = 64,
};

enum nm_pipe_role { NM_PIPE_MASTER, NM_PIPE_SLAVE, NM_PIPE_N_ROLES };

struct nm_pipe {
    struct nm_adapter ends[NM_PIPE_N_ROLES]; /* both without references: all of it goes */
    struct nm_adapter *parent;               /* a reference */
    char id[NETMAP_REQ_IFNAMSIZ];            /* what stands behind the bracket */
};

static inline struct nm_adapter *nm_pipe_peer(const struct nm_adapter *na)
{
    struct nm_pipe *pipe = na->port;

    return na == &pipe->ends[NM_PIPE_MASTER] ? &pipe->ends[NM_PIPE_SLAVE]
                                             : &pipe->ends[NM_PIPE_MASTER];
}

int nm_pipe_krings_created(struct nm_adapter *na);
void nm_pipe_krings_deleted(struct nm_adapter *na);
bool nm_pipe_keeps_krings(struct nm_adapter *na);

#endif
