/*
 * What the files that implement virtio_net.h share: the driver's state. Not for users of the
 * client.
 */
#ifndef RINGLAB_VIRTIO_NET_PRIVATE_H
#define RINGLAB_VIRTIO_NET_PRIVATE_H

#include "qtest_client/virtio_net.h"

enum {
    NET_BURST = 64,            /* used entries taken at a time */
    NET_N_SCRATCH = 64,        /* frames spanning several buffers that may be out at a time */
    NET_SCRATCH_BYTES = 65536, /* no frame is longer: 65535 and, later, offloads */
    NET_VECTOR_CONFIG = 0,     /* then 1 + queue number */
    NET_WORD_STRIDE = 64,      /* interrupt words on cache lines of their own */
    NET_DEFAULT_BUFFER_BYTES = 2048,
    NET_BUFFER_ALIGN = 64,
};

/* A piece of guest memory for one frame with its header. */
struct net_buffer {
    uint8_t *data;
    uint64_t gpa;
    uint32_t index;
    bool is_held; /* receive: the caller has the frame */
};

struct net_buffers {
    struct net_buffer *all;
    unsigned n;
    unsigned bytes;  /* of each */
    uint32_t *stack; /* transmit: free ones; receive: to be posted again */
    unsigned n_stack;
    struct guest_region *region;
    uint64_t region_offset;
    bool is_allocated;
};

/* A frame that spanned several receive buffers, copied together. */
struct net_scratch {
    uint8_t *data;
    uint32_t len;
    bool is_held;
    bool is_too_long;
};

struct net_queue {
    uint16_t index; /* 2 * pair for receive, one more for transmit */
    struct virtqueue *vq;
    struct interrupt *irq; /* or NULL */
    struct net_buffers buffers;
    unsigned n_desc; /* of each chain */
    /* receive with MRG_RXBUF only */
    struct net_scratch *scratch;
    uint8_t *scratch_memory;
    uint32_t *free_scratch;
    unsigned n_free_scratch;
    struct net_scratch *assembling; /* a frame whose last buffers are still to come */
    unsigned n_missing;             /* how many; 0 if there is none */
};

struct virtio_net {
    struct virtio_pci *transport;
    struct net_queue rx, tx;
    unsigned header_bytes;
    bool has_mrg_rxbuf;
    uint8_t mac[VIRTIO_NET_MAC_BYTES];
    struct virtio_net_stats stats;
    /* interrupts */
    bool use_interrupts;
    enum interrupt_kind kind;
    struct interrupt *config_irq;
    bool is_config_changed; /* seen in the ISR, not yet told */
    bool intx_was_disabled; /* by us */
    struct guest_region *words_region;
    uint64_t words_offset;
    bool has_words;
};

/* NULL with an error if there is no such pair. */
struct net_queue *virtio_net_queue(struct virtio_net *net, unsigned pair, bool is_rx,
                                   GError **error);
/* VIRTQUEUE_ERROR_DEVICE if the queue is broken. */
bool virtio_net_queue_ok(struct virtio_net *net, struct net_queue *q, GError **error);
/* Posts the receive buffers that were given back, with at most one kick. */
bool virtio_net_refill(struct virtio_net *net, struct net_queue *rx, GError **error);
/* Posts them without a kick, before DRIVER_OK. */
void virtio_net_post(struct virtio_net *net, struct net_queue *rx);
/* Kicks the queue if the device wants it. */
bool virtio_net_kick(struct virtio_net *net, struct net_queue *q, uint64_t *n_kicks,
                     GError **error);
/* Takes back what the device has sent. */
void virtio_net_reclaim(struct net_queue *tx);

#endif
