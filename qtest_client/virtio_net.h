/*
 * The virtio network driver: features, MAC, link status, one queue pair or more, poll-mode bursts,
 * interrupt mode, statistics. Follows virtio 1.2, 5.1. The data path allocates nothing and touches
 * the socket only to kick.
 */
#ifndef RINGLAB_VIRTIO_NET_H
#define RINGLAB_VIRTIO_NET_H

#include "qtest_client/interrupt.h"
#include "qtest_client/virtio_pci.h"

enum { VIRTIO_NET_MAX_FRAME = 1514 }; /* bytes: Ethernet header and 1500 of payload */

struct virtio_net_options {
    enum virtio_transport transport;
    uint64_t wanted_features;   /* 0: what the driver knows how to use */
    uint64_t refused_features;  /* taken out of the wanted ones */
    unsigned n_pairs;           /* queue pairs, 1.. ; 0 means 1 */
    uint16_t rx_size, tx_size;  /* ring entries; 0: the device's own */
    unsigned buffer_bytes;      /* per receive buffer, header included; 0: 2048 */
    uint16_t indirect_entries;  /* > 0: transmit chains through indirect tables of that many */
    struct guest_region *region;/* rings and buffers lie here; placed in the machine's memory */
    enum interrupt_kind interrupts; /* used if use_interrupts */
    bool use_interrupts;        /* false: poll mode, interrupts suppressed */
    struct interrupt_bridge *bridge; /* for INTERRUPT_EVENTFD */
};

struct virtio_net_stats {
    uint64_t tx_frames, tx_bytes, tx_kicks, tx_full;
    uint64_t rx_frames, rx_bytes, rx_kicks, rx_errors;
    uint64_t interrupts;
};

/* A frame: on transmit, bytes to send (no virtio header); on receive, where the frame lies until it
 * is released. */
struct virtio_net_frame {
    uint8_t *data;
    uint32_t len;    /* bytes, 1..65535 */
    uint32_t handle; /* receive: for virtio_net_rx_release */
};

struct virtio_net;

/* Brings the device from reset to DRIVER_OK with all receive buffers posted (3.1.1). */
struct virtio_net *virtio_net_new(struct pci_device *dev, const struct virtio_net_options *options,
                                  GError **error);
/* Resets the device, then frees rings and buffers. */
void virtio_net_free(struct virtio_net *net);
struct virtio_pci *virtio_net_transport(struct virtio_net *net);
struct virtqueue *virtio_net_rx_queue(struct virtio_net *net, unsigned pair);
struct virtqueue *virtio_net_tx_queue(struct virtio_net *net, unsigned pair);
/* Receive and transmit interrupts of a pair and the configuration's; NULL in poll mode. */
struct interrupt *virtio_net_rx_interrupt(struct virtio_net *net, unsigned pair);
struct interrupt *virtio_net_tx_interrupt(struct virtio_net *net, unsigned pair);
struct interrupt *virtio_net_config_interrupt(struct virtio_net *net);
uint64_t virtio_net_features(const struct virtio_net *net);
/* 6 bytes; from the device configuration. */
const uint8_t *virtio_net_mac(const struct virtio_net *net);
/* Link status now; true if the device has no STATUS feature. */
bool virtio_net_link_up(struct virtio_net *net, bool *is_up, GError **error);
struct virtio_net_stats virtio_net_stats(const struct virtio_net *net);

/* Copies up to `n` frames into transmit buffers and publishes them with at most one kick. Returns
 * how many were taken: fewer if the ring is full (completed ones are reclaimed first). 0 with an
 * error set if the device is broken or gone. */
unsigned virtio_net_tx_burst(struct virtio_net *net, unsigned pair,
                             const struct virtio_net_frame *frames, unsigned n, GError **error);
/* Frames the device has not finished with; reclaims finished ones. */
unsigned virtio_net_tx_pending(struct virtio_net *net, unsigned pair);
/* Takes up to `n` received frames, in place. Release each (in any order) to give its buffer back;
 * buffers are posted again, with at most one kick, by the next rx_burst. */
unsigned virtio_net_rx_burst(struct virtio_net *net, unsigned pair,
                             struct virtio_net_frame *frames, unsigned n, GError **error);
void virtio_net_rx_release(struct virtio_net *net, unsigned pair, const struct virtio_net_frame *f);
/* Waits until a burst would find something: by the interrupt in interrupt mode (armed and
 * re-checked in the published order), else by polling. QTEST_ERROR_TIMEOUT. */
bool virtio_net_rx_wait(struct virtio_net *net, unsigned pair, int timeout_ms, GError **error);
/* Waits until nothing is pending on transmit. */
bool virtio_net_tx_drain(struct virtio_net *net, unsigned pair, int timeout_ms, GError **error);

#endif
