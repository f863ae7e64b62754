/*
 * What the files of the ptnet model share: ptnet.c (registers, CSB mappings) and ptnet_backend.c
 * (the netmap port behind it, and the kernel loop's life).
 */
#ifndef RINGLAB_PTNET_PRIVATE_H
#define RINGLAB_PTNET_PRIVATE_H

#include "models/ptnet/ptnet.h"

#include <pthread.h>

/* What hw/net/ptnetmap-netif.c asks of net/netmap.c: register accesses and direct kicks come from
 * one thread, steps from another; `lock` keeps the kloop between them. */
struct ptnet_backend {
    struct nm_host *host;
    struct nm_port *port;
    uint32_t features; /* PTNETMAP_F_ that can be acknowledged */
    uint32_t vnet_hdr_len;
    bool is_stepped;
    uint32_t kloop_mode; /* NM_OPT_SYNC_KLOOP_ */
    void (*interrupt)(void *data, unsigned ring);
    void *interrupt_data;
    bool is_started;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    struct kloop *kloop;      /* lock; NULL: none, or it has ended by itself */
    struct kloop_stats ended; /* lock; sum of those that are gone */
};

bool ptnet_backend_open(struct ptnet_backend *b, struct nm_host *host,
                        const struct ptnet_options *options, GError **error);
/* Stops the kloop, closes the port. */
void ptnet_backend_close(struct ptnet_backend *b);
/* PORT_INFO_GET and PORT_HDR_SET: 0 or errno. */
int ptnet_backend_info(struct ptnet_backend *b, struct nmreq_port_info_get *info);
/* Tries the length, restores the one before; then sets it for good. */
int ptnet_backend_set_header(struct ptnet_backend *b, uint32_t len);
/* ptnet.md 3.1, 4 to 7; what becomes the status: 0, or 1 (CSB_ENABLE failed), or errno. */
int ptnet_backend_start(struct ptnet_backend *b, struct nm_csb_atok *atok,
                        struct nm_csb_ktoa *ktoa);
/* ptnet.md 3.2: 0 or errno. Afterwards nothing touches the CSB. */
int ptnet_backend_stop(struct ptnet_backend *b);
void ptnet_backend_kick(struct ptnet_backend *b, unsigned ring);
/* Of all its kloops until now. */
void ptnet_backend_stats(struct ptnet_backend *b, struct kloop_stats *sum);

#endif
