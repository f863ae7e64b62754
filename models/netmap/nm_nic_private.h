/*
 * The inside of NIC-like ports: one struct per interface with two sides, the wire and the stack
 * (host rings), each with a back end; queues of frames that came, and the thread that stands for
 * interrupts.
 *
 * Locks, in order: host->lock > nic->lock > a kring > a side's rx_lock > the other side's tx_lock.
 */
#ifndef RINGLAB_NM_NIC_PRIVATE_H
#define RINGLAB_NM_NIC_PRIVATE_H

#include "models/backend/backend.h"
#include "models/netmap/nm_kern.h"

enum {
    NIC_BURST = 32,
    NIC_SCRATCH_FRAMES = 8,
    NIC_MIN_FRAME = 14,    /* bytes: an Ethernet header */
    NIC_MAX_RINGS = 64,    /* per side and direction */
    NIC_RX_BUF_MAX = 2048, /* bytes that a native NIC puts into one slot */
    NIC_GENERIC_RX_BUF_MAX = 32768,
};

/* Frames that came for a ring and wait for its rxsync: a ring of bytes, each frame behind its
 * length. Locked by its owner. */
struct nic_queue {
    uint8_t *bytes;
    size_t size;        /* a power of two */
    size_t n_in, n_out; /* bytes so far */
    uint32_t n_frames, max_frames;
};

/* Room for max_frames of up to frame_bytes, within bounds. False: no memory. */
bool nic_queue_init(struct nic_queue *q, uint32_t max_frames, uint32_t frame_bytes);
void nic_queue_clear(struct nic_queue *q);
/* False: full. */
bool nic_queue_put(struct nic_queue *q, const uint8_t *frame, uint32_t len);
/* Length of the first frame; 0: none. */
uint32_t nic_queue_first(const struct nic_queue *q);
/* Copies bytes [at, at + len) of the first frame. */
void nic_queue_copy(const struct nic_queue *q, uint32_t at, uint8_t *to, uint32_t len);
void nic_queue_drop(struct nic_queue *q);

/* Which of n rings a frame belongs to: the same for both directions of a flow. */
unsigned nic_hash(const uint8_t *frame, uint32_t len, unsigned n);

/* One side of an interface: the wire, or the stack. */
struct nic_side {
    struct backend *backend;  /* NULL: unplugged */
    pthread_mutex_t rx_lock;  /* receiving, and the queues */
    pthread_mutex_t tx_lock;  /* sending */
    struct nic_queue *queues; /* one per rx ring; NULL: one ring, filled by the back end */
    unsigned n_queues;
    uint8_t *scratch;         /* NIC_SCRATCH_FRAMES of BACKEND_MAX_FRAME bytes; rx_lock */
    uint8_t *joined;          /* a frame of several slots; tx_lock */
    uint64_t dropped_rx;      /* no room, no ring; rx_lock */
    uint64_t dropped_tx;      /* bad slots, a full stack; tx_lock */
    _Atomic bool is_armed;    /* the thread waits for the back end's descriptor */
    _Atomic bool is_stalled;  /* the wire took less than it was given */
    _Atomic uint64_t pending; /* bits: rx rings for the thread to notify */
};

struct nm_nic {
    struct nm_adapter na; /* first */
    struct nic_side wire, stack;
    uint8_t mac[6];
    bool is_emulated;
    pthread_mutex_t lock;
    bool is_active; /* nic->lock: in netmap mode, krings exist */
    pthread_t thread;
    bool has_thread;
    _Atomic bool is_stopping;
    int epoll_fd, event_fd;
};

static inline struct nm_nic *nic_of(const struct nm_kring *kring)
{
    return (struct nm_nic *)kring->na;
}
static inline bool nic_is_host_ring(const struct nm_kring *kring)
{
    return kring->ring_id >= kring->na->n_rings[kring->tx];
}
static inline struct nic_side *nic_side_of(const struct nm_kring *kring)
{
    return nic_is_host_ring(kring) ? &nic_of(kring)->stack : &nic_of(kring)->wire;
}
static inline struct nic_side *nic_other_side(struct nm_nic *nic, const struct nic_side *side)
{
    return side == &nic->wire ? &nic->stack : &nic->wire;
}
/* Index of the first of a side's krings, and how many. */
static inline unsigned nic_first_ring(const struct nm_nic *nic, const struct nic_side *side,
                                      enum nm_txrx t)
{
    return side == &nic->stack ? nic->na.n_rings[t] : 0;
}
static inline unsigned nic_n_rings(const struct nm_nic *nic, const struct nic_side *side,
                                   enum nm_txrx t)
{
    return side == &nic->stack ? nic->na.n_host_rings[t] : nic->na.n_rings[t];
}
/* Where the data of a slot lies; NULL: the index cannot be. */
uint8_t *nic_slot_data(const struct nm_kring *kring, const struct netmap_slot *slot,
                       uint32_t buf_idx);

/* ---- nm_nic_tx.c ---- */
int nic_txsync(struct nm_kring *kring, int flags);
/* Sends one frame to a side from outside its rings (forwarding, between wire and stack). A frame
 * that is not taken is dropped and counted. */
void nic_send(struct nic_side *side, uint8_t *frame, uint32_t len);

/* ---- nm_nic_rx.c ---- */
int nic_rxsync(struct nm_kring *kring, int flags);
/* The thread: takes what is there to queues, or to the other side where rings are not in netmap
 * mode; notifications are left in side->pending. False: a queue was full. nic->lock held. */
bool nic_pump(struct nm_nic *nic, struct nic_side *side);

/* ---- nm_nic_forward.c ---- */
void nic_forward_up(struct nm_kring *kring);
/* Released slots of the first host rx ring, to free slots of the NIC tx rings. */
void nic_forward_down(struct nm_kring *kring);

/* ---- nm_nic_thread.c ---- */
int nic_thread_start(struct nm_nic *nic);
void nic_thread_stop(struct nm_nic *nic);
/* The thread is to tell when there is something to receive. */
void nic_arm(struct nm_nic *nic, struct nic_side *side);
/* The thread is to look after itself what is to be done. */
void nic_wake_thread(struct nm_nic *nic);

#endif
