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
    PTNET_ERROR_INVALID, /* an option or a frame that cannot be */
};

struct ptnet_driver_options {
    bool no_vnet_hdr;                   /* ask for no virtio-net header */
    bool has_interrupts;                /* MSI-X (needs `interrupt_kind`); else poll mode */
    enum interrupt_kind interrupt_kind; /* MEMORY or EVENTFD */
    struct interrupt_bridge *bridge;    /* EVENTFD */
    /* Where the netmap memory is mapped; NULL: looked for behind memdev's BAR in guest memory. */
    struct guest_region *memory;
    struct guest_region *shared; /* CSB and interrupt words are allocated here */
};

struct ptnet_queue {
    unsigned index; /* global: all tx, then all rx */
    bool is_tx;
    struct netmap_ring *ring;
    struct nm_csb_atok *atok;
    struct nm_csb_ktoa *ktoa;
    uint32_t num_slots, buf_size, buf_total;
    uint8_t *buf_base;
    uint32_t rhead, rcur, hwcur, hwtail;
    struct interrupt *irq; /* NULL in poll mode */
    uint64_t n_kicks, n_interrupts, n_frames, n_bytes, n_syncs, n_errors;
    struct ptnet_driver *driver;
};

struct ptnet_driver;

/* Probes `dev` (1b36:000d): features, rings, CSB, MAC, MSI-X, memory, header, in Linux' order
 * (ptnet.md 8.1). Nothing runs yet. */
struct ptnet_driver *ptnet_driver_new(struct pci_device *dev,
                                      const struct ptnet_driver_options *options, GError **error);
/* Register OFF if it is on, then the tear-down of ptnet.md 8.1. */
void ptnet_driver_free(struct ptnet_driver *d);
/* PTCTL CREATE and indices from the CSB; and DELETE (ptnet.md 8.4). */
bool ptnet_driver_start(struct ptnet_driver *d, GError **error);
bool ptnet_driver_stop(struct ptnet_driver *d, GError **error);
/* Forgets the device without telling it: a guest that died. */
void ptnet_driver_abandon(struct ptnet_driver *d);
unsigned ptnet_driver_n_tx(const struct ptnet_driver *d);
unsigned ptnet_driver_n_rx(const struct ptnet_driver *d);
struct ptnet_queue *ptnet_driver_tx(struct ptnet_driver *d, unsigned i);
struct ptnet_queue *ptnet_driver_rx(struct ptnet_driver *d, unsigned i);
const uint8_t *ptnet_driver_mac(const struct ptnet_driver *d);
unsigned ptnet_driver_header_bytes(const struct ptnet_driver *d); /* 0 or 12 */
uint32_t ptnet_driver_features(const struct ptnet_driver *d);

/* ---- native: the application moves ring->head and cur, then syncs (ptnet.md 6). flags: NAF_ ----
 */
bool ptnet_txsync(struct ptnet_queue *q, int flags, GError **error);
bool ptnet_rxsync(struct ptnet_queue *q, int flags, GError **error);
/* The host's answer wanted by interrupt: sleeps until a slot can be used. QTEST_ERROR_TIMEOUT. */
bool ptnet_wait(struct ptnet_queue *q, int timeout_ms, GError **error);

/* ---- frames, copied (ptnet.md 11): `hdr` is NULL or the vnet header (ignored without one) ---- */
struct ptnet_frame {
    uint8_t *data;
    uint32_t len; /* receive: in: room, out: bytes */
    struct nm_vnet_hdr hdr;
};
/* Returns how many were queued; kicks at most once. 0 with error set: INVALID, or the device is
 * gone. */
unsigned ptnet_tx_burst(struct ptnet_queue *q, const struct ptnet_frame *frames, unsigned n,
                        GError **error);
unsigned ptnet_rx_burst(struct ptnet_queue *q, struct ptnet_frame *frames, unsigned n,
                        GError **error);

#endif
