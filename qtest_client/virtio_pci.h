/*
 * The virtio PCI transports, modern and legacy/transitional, behind one table of operations:
 * status, features, queues, notification, device configuration. Follows virtio 1.2, 4.1.
 */
#ifndef RINGLAB_VIRTIO_PCI_H
#define RINGLAB_VIRTIO_PCI_H

#include "qtest_client/pci.h"
#include "qtest_client/virtqueue.h"

#define VIRTIO_PCI_ERROR (virtio_pci_error_quark())
GQuark virtio_pci_error_quark(void);

enum virtio_pci_error {
    VIRTIO_PCI_ERROR_NO_DEVICE,    /* not a virtio function, or not of the transport asked for */
    VIRTIO_PCI_ERROR_FEATURES,     /* the device refused the features */
    VIRTIO_PCI_ERROR_QUEUE,        /* no such queue, a size it does not take, rings out of reach */
    VIRTIO_PCI_ERROR_NEEDS_RESET,  /* DEVICE_NEEDS_RESET is set */
    VIRTIO_PCI_ERROR_TIMEOUT,      /* reset did not complete */
    VIRTIO_PCI_ERROR_INVALID,
};

enum virtio_transport { VIRTIO_TRANSPORT_MODERN, VIRTIO_TRANSPORT_LEGACY };

#define VIRTIO_NO_VECTOR 0xffffu

struct virtio_pci {
    struct pci_device *dev;
    const struct virtio_pci_ops *ops; /* private */
    enum virtio_transport transport;
    uint64_t features; /* negotiated; 0 before virtio_pci_negotiate */
    bool has_msix;     /* MSI-X was enabled when the transport was set up: moves the legacy device
                          config by 4 bytes */
    struct pci_block *common, *notify, *isr, *config, *legacy;
    uint32_t notify_multiplier;
};

/* `transport` MODERN or LEGACY; the function is enabled (BARs placed, bus master) first if needed. */
struct virtio_pci *virtio_pci_new(struct pci_device *dev, enum virtio_transport transport,
                                  GError **error);
void virtio_pci_free(struct virtio_pci *v);

bool virtio_pci_get_status(struct virtio_pci *v, uint8_t *status, GError **error);
bool virtio_pci_set_status(struct virtio_pci *v, uint8_t status, GError **error);
/* ORs into the status. */
bool virtio_pci_add_status(struct virtio_pci *v, uint8_t bits, GError **error);
/* Writes 0 and waits until the status reads 0 (4.1.4.3.2). */
bool virtio_pci_reset(struct virtio_pci *v, GError **error);

bool virtio_pci_device_features(struct virtio_pci *v, uint64_t *features, GError **error);
/* reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK and its check (3.1.1, steps 1 to 6). Takes
 * (offered & wanted) | required; FEATURES error naming what is missing if `required` is not all
 * offered. */
bool virtio_pci_negotiate(struct virtio_pci *v, uint64_t wanted, uint64_t required,
                          GError **error);

bool virtio_pci_n_queues(struct virtio_pci *v, uint16_t *n, GError **error);
/* Largest size queue `index` takes; 0: there is no such queue. */
bool virtio_pci_queue_max_size(struct virtio_pci *v, uint16_t index, uint16_t *size,
                               GError **error);
/* Programs size and ring addresses, the MSI-X vector (or VIRTIO_NO_VECTOR), and enables it. */
bool virtio_pci_queue_enable(struct virtio_pci *v, uint16_t index, const struct virtqueue *vq,
                             uint16_t vector, GError **error);
/* Needs VIRTIO_F_RING_RESET. */
bool virtio_pci_queue_reset(struct virtio_pci *v, uint16_t index, GError **error);
bool virtio_pci_set_config_vector(struct virtio_pci *v, uint16_t vector, GError **error);
/* Kicks: posted, so the reply is not waited for. */
bool virtio_pci_notify(struct virtio_pci *v, uint16_t index, GError **error);
/* Reads and clears the ISR: bit 0 queue, bit 1 configuration. */
bool virtio_pci_isr(struct virtio_pci *v, uint8_t *isr, GError **error);
/* Device configuration, bytes; consistent by the generation counter where there is one. */
bool virtio_pci_config_read(struct virtio_pci *v, uint32_t offset, void *bytes, unsigned len,
                            GError **error);
bool virtio_pci_config_write(struct virtio_pci *v, uint32_t offset, const void *bytes,
                             unsigned len, GError **error);

#endif
