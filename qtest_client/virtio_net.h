/*
 * The virtio network driver: features, MAC, link status, one queue pair, poll-mode bursts,
 * interrupt mode, statistics. Follows virtio 1.2, 5.1. The data path allocates nothing and touches
 * the socket only to kick. One struct virtio_net belongs to one thread at a time.
 */
#ifndef RINGLAB_VIRTIO_NET_H
#define RINGLAB_VIRTIO_NET_H

#include "models/abi/virtio_net.h"
#include "qtest_client/interrupt.h"
#include "qtest_client/virtio_pci.h"

#define VIRTIO_NET_ERROR (virtio_net_error_quark())
GQuark virtio_net_error_quark(void);

enum virtio_net_error {
    VIRTIO_NET_ERROR_INVALID, /* an option, a queue pair or a frame that cannot be */
};

enum {
    VIRTIO_NET_MAX_FRAME = 1514, /* bytes: Ethernet header and 1500 of payload */
    VIRTIO_NET_MAX_CHAIN = 16,   /* descriptors per transmit frame */
};

struct virtio_net_options {
    enum virtio_transport transport;
    uint64_t wanted_features;  /* 0: all the driver knows how to use; others are INVALID */
    uint64_t refused_features; /* taken out of the wanted ones; VERSION_1 cannot be refused */
    unsigned n_pairs;          /* queue pairs; 0 means 1. More need the control queue and MQ, which
                                  the driver does not have yet: INVALID */
    uint16_t rx_size, tx_size; /* ring entries; 0: the device's own */
    unsigned buffer_bytes;     /* per receive buffer, header included; 0: 2048. Less than a whole
                                  frame only where MRG_RXBUF is negotiated */
    unsigned tx_chain;         /* descriptors per transmit frame, the header alone in the first of
                                  several; 0: as few as the features allow (with indirect tables: 2).
                                  At most VIRTIO_NET_MAX_CHAIN */
    uint16_t indirect_entries; /* > 0: transmit chains through indirect tables of that many, if the
                                  device offers INDIRECT_DESC */
    struct guest_region *region;     /* rings, buffers and interrupt words lie here; placed in the
                                        machine's memory */
    bool use_interrupts;             /* false: poll mode, interrupts suppressed */
    enum interrupt_kind interrupts;  /* used if use_interrupts */
    struct interrupt_bridge *bridge; /* for INTERRUPT_EVENTFD: 3 channels */
};

struct virtio_net_stats {
    uint64_t tx_frames, tx_bytes;
    uint64_t tx_kicks; /* notifications written */
    uint64_t tx_full;  /* bursts that were not taken whole */
    uint64_t rx_frames, rx_bytes, rx_kicks;
    uint64_t rx_errors;  /* frames the device delivered that could not be one */
    uint64_t interrupts; /* consumed */
};

/* A frame: on transmit, bytes to send (no virtio header); on receive, where the frame lies until it
 * is released. */
struct virtio_net_frame {
    uint8_t *data;
    uint32_t len;    /* bytes; transmit: 1 to VIRTIO_NET_MAX_FRAME, or to what buffer_bytes holds if
                        that is more */
    uint32_t handle; /* receive: for virtio_net_rx_release */
};

struct virtio_net;

/* Brings the device from reset to DRIVER_OK with all receive buffers posted (3.1.1); enables it on
 * the bus. With interrupts, the vectors are 0 configuration, 1 receive, 2 transmit, all unmasked,
 * and receive is armed; INTERRUPT_LINE has one line for all. Poll mode keeps the function from
 * raising INTx. */
struct virtio_net *virtio_net_new(struct pci_device *dev, const struct virtio_net_options *options,
                                  GError **error);
/* Resets the device, then frees rings and buffers; frames not yet released are gone. */
void virtio_net_free(struct virtio_net *net);
struct virtio_pci *virtio_net_transport(struct virtio_net *net);
/* Queue numbers are 2 * pair and 2 * pair + 1 (5.1.2). NULL if there is no such pair. */
struct virtqueue *virtio_net_rx_queue(struct virtio_net *net, unsigned pair);
struct virtqueue *virtio_net_tx_queue(struct virtio_net *net, unsigned pair);
/* Receive and transmit interrupts of a pair and the configuration's; NULL in poll mode. */
struct interrupt *virtio_net_rx_interrupt(struct virtio_net *net, unsigned pair);
struct interrupt *virtio_net_tx_interrupt(struct virtio_net *net, unsigned pair);
struct interrupt *virtio_net_config_interrupt(struct virtio_net *net);
uint64_t virtio_net_features(const struct virtio_net *net);
/* Bytes of the header before each frame: 10 or 12 (5.1.6). */
unsigned virtio_net_header_bytes(const struct virtio_net *net);
/* 6 bytes; from the device configuration, without MAC feature a locally administered one. */
const uint8_t *virtio_net_mac(const struct virtio_net *net);
/* Link status now; true if the device has no STATUS feature. */
bool virtio_net_link_up(struct virtio_net *net, bool *is_up, GError **error);
/* Whether the device announced a change of its configuration since the last call: by its vector, or
 * where there is none, in the ISR. */
bool virtio_net_config_changed(struct virtio_net *net, bool *changed, GError **error);
struct virtio_net_stats virtio_net_stats(const struct virtio_net *net);

/* Copies up to `n` frames into transmit buffers and publishes them with at most one kick. Returns
 * how many were taken: fewer if the ring is full (completed ones are reclaimed first). 0 with an
 * error set if the first frame has an impossible length, or the device is broken
 * (VIRTQUEUE_ERROR_DEVICE) or gone. */
unsigned virtio_net_tx_burst(struct virtio_net *net, unsigned pair,
                             const struct virtio_net_frame *frames, unsigned n, GError **error);
/* Frames the device has not finished with; reclaims finished ones. */
unsigned virtio_net_tx_pending(struct virtio_net *net, unsigned pair);
/* Takes up to `n` received frames: in place, or, one that spans several buffers, copied together.
 * Release each (in any order) to give its buffer back; buffers are posted again, with at most one
 * kick, by the next rx_burst or rx_wait. 0 with an error set if the device is broken or gone. At
 * most 64 copied frames can be out at a time: then 0 without an error until one is released. */
unsigned virtio_net_rx_burst(struct virtio_net *net, unsigned pair, struct virtio_net_frame *frames,
                             unsigned n, GError **error);
void virtio_net_rx_release(struct virtio_net *net, unsigned pair, const struct virtio_net_frame *f);
/* Waits until a burst would find something: by the interrupt in interrupt mode (armed and
 * re-checked in the published order; disarmed again on return), else by polling.
 * QTEST_ERROR_TIMEOUT; in interrupt mode also if buffers were used and no interrupt came, and it
 * says so. */
bool virtio_net_rx_wait(struct virtio_net *net, unsigned pair, int timeout_ms, GError **error);
/* Waits until nothing is pending on transmit, in the same way. */
bool virtio_net_tx_drain(struct virtio_net *net, unsigned pair, int timeout_ms, GError **error);

#endif
