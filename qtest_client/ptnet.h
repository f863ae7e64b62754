/*
 * The ptnet driver, the guest's side: memdev and ptnet registers, the host's netmap memory mapped,
 * CSB, MSI-X, transmit and receive sync in the published order, natively (netmap slots) or as
 * frames that are copied as a network stack would. Follows LINUX/netmap_ptnet.c and the guest part
 * of netmap_kloop.c at API 14. One struct ptnet_queue belongs to one thread at a time; the data
 * path allocates nothing and touches the machine only to kick.
 */
#ifndef RINGLAB_PTNET_DRIVER_H
#define RINGLAB_PTNET_DRIVER_H

#include "models/abi/netmap.h"
#include "qtest_client/interrupt.h"

#define PTNET_ERROR (ptnet_error_quark())
GQuark ptnet_error_quark(void);

enum ptnet_error {
    PTNET_ERROR_DEVICE,  /* the device refused (PTCTL status), or contradicts itself */
    PTNET_ERROR_MEMORY,  /* no memdev with the host memory id, or its memory cannot be mapped */
    PTNET_ERROR_INVALID, /* an option, a frame or ring indices that cannot be */
};

struct ptnet_driver_options {
    bool no_vnet_hdr;                   /* ask for no virtio-net header */
    bool has_interrupts;                /* MSI-X (needs `interrupt_kind`); else poll mode */
    enum interrupt_kind interrupt_kind; /* MEMORY or EVENTFD */
    struct interrupt_bridge *bridge;    /* EVENTFD: one channel per ring */
    /* Where the netmap memory is mapped; NULL: looked for behind memdev's BAR in guest memory. */
    struct guest_region *memory;
    struct guest_region *shared; /* CSB and interrupt words are allocated here; placed */
    /* The published driver stores head and then loads kern_need_kick with no store-load fence in
     * between: on a machine with store buffers it may miss that the host just armed it, and the
     * host sleeps until something else wakes it. True: a full fence there. */
    bool fence_before_kick;
};

struct ptnet_driver;

/* A ring and what the guest's kernel knows of it: the names of netmap's kring. Read-only for
 * callers, but for the ring's head and cur, its slots and their buffers. */
struct ptnet_queue {
    struct netmap_ring *ring; /* in the netmap memory */
    struct nm_csb_atok *atok; /* guest to host */
    struct nm_csb_ktoa *ktoa; /* host to guest */
    uint8_t *buf_base;        /* buffer 0 */
    uint32_t buf_size;        /* bytes */
    uint32_t buf_total;       /* indices 2..buf_total - 1 are buffers */
    uint32_t num_slots;       /* N */
    uint32_t rhead, rcur;     /* last told to the host */
    uint32_t hwcur, hwtail;   /* last heard from the host, checked */
    unsigned index;           /* global: all tx, then all rx */
    bool is_tx;
    bool has_no_interrupts; /* NKR_NOINTR: poll mode */
    bool is_armed;          /* appl_need_kick is 1 */
    bool owes_kick;         /* a kick failed: the next call tries again */
    struct interrupt *irq;  /* NULL in poll mode */
    struct ptnet_driver *driver;
    uint64_t n_kicks, n_interrupts, n_syncs;
    uint64_t n_frames, n_bytes; /* of the frame interface; bytes without headers */
    uint64_t n_errors;          /* frames dropped, values of the other side refused */
};

/* Probes `dev` (1b36:000d): features, rings, CSB, MAC, MSI-X, memory, header, in Linux' order
 * (ptnet.md 8.1). Nothing runs yet. */
struct ptnet_driver *ptnet_driver_new(struct pci_device *dev,
                                      const struct ptnet_driver_options *options, GError **error);
/* Register OFF if it is on, then the tear-down of ptnet.md 8.1. The CSB stays allocated if the
 * device could not be told. */
void ptnet_driver_free(struct ptnet_driver *d);
/* PTCTL CREATE and indices from the CSB; and DELETE (ptnet.md 8.4). No queue is in use meanwhile.
 * Rings go on from what the host knows of them: what was released without its having looked comes
 * again. */
bool ptnet_driver_start(struct ptnet_driver *d, GError **error);
bool ptnet_driver_stop(struct ptnet_driver *d, GError **error);
/* Forgets the device without telling it: a guest that died. The host goes on using the CSB, which
 * therefore stays allocated. */
void ptnet_driver_abandon(struct ptnet_driver *d);
unsigned ptnet_driver_n_tx(const struct ptnet_driver *d);
unsigned ptnet_driver_n_rx(const struct ptnet_driver *d);
/* NULL if there is no such ring. */
struct ptnet_queue *ptnet_driver_tx(struct ptnet_driver *d, unsigned i);
struct ptnet_queue *ptnet_driver_rx(struct ptnet_driver *d, unsigned i);
const uint8_t *ptnet_driver_mac(const struct ptnet_driver *d);    /* 6 bytes */
unsigned ptnet_driver_header_bytes(const struct ptnet_driver *d); /* 0, 10 or 12 */
uint32_t ptnet_driver_features(const struct ptnet_driver *d);     /* PTNETMAP_F_ */

/* ---- native: the application moves ring->head and cur, then syncs (ptnet.md 6) ----
 * `flags`: 0 as poll(2) does it, NAF_FORCE_RECLAIM (tx) and NAF_FORCE_READ (rx) as NIOCTXSYNC and
 * NIOCRXSYNC do. Updates ring->tail. INVALID for a head or cur that goes back or beyond tail: they
 * are put back. DEVICE for values of the host that cannot be: nothing is taken over. Errors of the
 * machine if the kick cannot be written. */
bool ptnet_txsync(struct ptnet_queue *q, int flags, GError **error);
bool ptnet_rxsync(struct ptnet_queue *q, int flags, GError **error);
/* Waits until at least n_slots (1..N - 1) lie between cur and tail: by interrupt, armed and
 * re-checked in the published order, or in poll mode by looking. Good for native use and frames.
 * QTEST_ERROR_TIMEOUT; QTEST_ERROR_CLOSED once the machine is gone. */
bool ptnet_wait(struct ptnet_queue *q, unsigned n_slots, int timeout_ms, GError **error);

/* ---- frames, copied (ptnet.md 11) ---- */

enum { PTNET_MAX_FRAME = 65536 + 14 }; /* bytes, with GSO */

struct ptnet_frame {
    uint8_t *data;
    uint32_t len; /* bytes; receive: in: room, out: what arrived */
    /* Offloads asked for, or received. Where the port has no header: nothing can be asked for. */
    struct nm_vnet_hdr hdr;
};
/* Queues up to n frames, in as many slots each as it takes; kicks at most once. Returns how many:
 * fewer if the ring is full. 0 with error set: INVALID (the first frame), DEVICE, or the machine is
 * gone. */
unsigned ptnet_tx_burst(struct ptnet_queue *q, const struct ptnet_frame *frames, unsigned n,
                        GError **error);
/* Receives up to n frames and releases their slots; kicks at most once. Frames that do not fit
 * their room, or cannot be, are dropped and counted in n_errors. 0 with error set: DEVICE, or the
 * machine is gone. */
unsigned ptnet_rx_burst(struct ptnet_queue *q, struct ptnet_frame *frames, unsigned n,
                        GError **error);
/* Slots that a frame of len bytes takes. */
unsigned ptnet_frame_slots(const struct ptnet_queue *q, uint32_t len);

#endif
