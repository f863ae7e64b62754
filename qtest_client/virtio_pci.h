/*
 * The virtio PCI transports, modern and legacy/transitional, behind one table of operations:
 * status, features, queues, notification, device configuration. Follows virtio 1.2, 4.1.
 */
#ifndef RINGLAB_VIRTIO_PCI_H
#define RINGLAB_VIRTIO_PCI_H

#include "models/abi/virtio_pci.h"
#include "qtest_client/pci.h"
#include "qtest_client/virtqueue.h"

#define VIRTIO_PCI_ERROR (virtio_pci_error_quark())
GQuark virtio_pci_error_quark(void);

enum virtio_pci_error {
    VIRTIO_PCI_ERROR_NO_DEVICE,   /* not a virtio function, or not of the transport asked for */
    VIRTIO_PCI_ERROR_FEATURES,    /* the device lacks, or refused, features */
    VIRTIO_PCI_ERROR_QUEUE,       /* no such queue, a size it does not take, rings out of reach */
    VIRTIO_PCI_ERROR_NEEDS_RESET, /* DEVICE_NEEDS_RESET is set */
    VIRTIO_PCI_ERROR_TIMEOUT,     /* a reset did not complete, or the configuration never settled */
    VIRTIO_PCI_ERROR_INVALID,     /* an argument that cannot be, or a call the transport lacks */
};

enum virtio_transport { VIRTIO_TRANSPORT_MODERN, VIRTIO_TRANSPORT_LEGACY };

enum {
    VIRTIO_NO_VECTOR = VIRTIO_MSI_NO_VECTOR,
    VIRTIO_PCI_MAX_QUEUES = 1024, /* numbers 0 .. 1023: there is no further queue, and selecting one
                                     leaves QEMU with the queue that was selected before */
};

struct virtio_pci {
    struct pci_device *dev;
    const struct virtio_pci_ops *ops; /* private */
    enum virtio_transport transport;
    uint64_t features; /* negotiated; 0 before virtio_pci_negotiate and after virtio_pci_reset */
    /* private: where the parts of either transport lie; NULL what it does not have */
    struct pci_block *common, *notify, *isr, *config;
    struct pci_block *legacy, *legacy_msix, *legacy_config, *legacy_config_msix;
    uint32_t notify_multiplier; /* modern: bytes per queue_notify_off */
    uint32_t *notify_offsets;   /* modern, private: per queue, UINT32_MAX: not asked yet */
};

/* `transport` MODERN or LEGACY; the function is enabled first (BARs placed, bus master). Does not
 * touch the device's registers. NO_DEVICE if it lacks the interface. */
struct virtio_pci *virtio_pci_new(struct pci_device *dev, enum virtio_transport transport,
                                  GError **error);
/* Leaves the device as it is. */
void virtio_pci_free(struct virtio_pci *v);

bool virtio_pci_get_status(struct virtio_pci *v, uint8_t *status, GError **error);
bool virtio_pci_set_status(struct virtio_pci *v, uint8_t status, GError **error);
/* ORs into the status. */
bool virtio_pci_add_status(struct virtio_pci *v, uint8_t bits, GError **error);
/* NEEDS_RESET if the device says so in its status (2.1.2). */
bool virtio_pci_check(struct virtio_pci *v, GError **error);
/* Writes 0 and waits until the status reads 0 (4.1.4.3.2), a second at most. */
bool virtio_pci_reset(struct virtio_pci *v, GError **error);

/* Legacy: bits 31:0 only. */
bool virtio_pci_device_features(struct virtio_pci *v, uint64_t *features, GError **error);
/* reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK and its check (3.1.1, steps 1 to 6; legacy has
 * no FEATURES_OK, 3.1.2). Takes (offered & wanted) | required; FEATURES error naming the bits that
 * are missing if `required` is not all offered, and FAILED is set in the status. */
bool virtio_pci_negotiate(struct virtio_pci *v, uint64_t wanted, uint64_t required, GError **error);

/* Legacy: counted by asking for the size of each. */
bool virtio_pci_n_queues(struct virtio_pci *v, uint16_t *n, GError **error);
/* Largest size queue `index` takes (legacy: the size it has); 0: there is no such queue. Modern:
 * ask before the queue is programmed, afterwards it is the size that was set. */
bool virtio_pci_queue_max_size(struct virtio_pci *v, uint16_t index, uint16_t *size,
                               GError **error);
/* Programs size and ring addresses, the MSI-X vector (or VIRTIO_NO_VECTOR), and enables it
 * (4.1.5.1.3). QUEUE error if the device has no such queue, if it is in use, if the size is more
 * than it takes (legacy: another than it has), if the rings are out of reach (legacy: not on a page
 * below 2^44), or if the device has no room for the vector. */
bool virtio_pci_queue_enable(struct virtio_pci *v, uint16_t index, const struct virtqueue *vq,
                             uint16_t vector, GError **error);
/* Takes one queue back from the device (2.6.1): afterwards it may be programmed again. Modern, with
 * VIRTIO_F_RING_RESET negotiated. */
bool virtio_pci_queue_reset(struct virtio_pci *v, uint16_t index, GError **error);
/* For configuration changes; VIRTIO_NO_VECTOR takes it away. */
bool virtio_pci_set_config_vector(struct virtio_pci *v, uint16_t vector, GError **error);
/* Kicks queue `index`, which need not be in use: posted, so that the reply is not waited for. The
 * rings are in shared memory: stores made before are visible when the device sees this write. */
bool virtio_pci_notify(struct virtio_pci *v, uint16_t index, GError **error);
/* Reads and clears the ISR: VIRTIO_ISR_QUEUE, VIRTIO_ISR_CONFIG. */
bool virtio_pci_isr(struct virtio_pci *v, uint8_t *isr, GError **error);
/* Device configuration. 2, 4 or 8 bytes at a multiple of that are one field and are accessed as
 * such (8: two of 4); anything else is an array of bytes (4.1.3.1). Reads are consistent by the
 * generation counter (2.5.1); legacy has none. `len` 1..256. */
bool virtio_pci_config_read(struct virtio_pci *v, uint32_t offset, void *bytes, unsigned len,
                            GError **error);
bool virtio_pci_config_write(struct virtio_pci *v, uint32_t offset, const void *bytes, unsigned len,
                             GError **error);

#endif
