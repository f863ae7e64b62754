/*
 * What the files that implement virtio_pci.h share: the operations of a transport, and register
 * accesses gathered into one batch. Not for users of the client.
 */
#ifndef RINGLAB_VIRTIO_PCI_PRIVATE_H
#define RINGLAB_VIRTIO_PCI_PRIVATE_H

#include "qtest_client/virtio_pci.h"

/* How a transport does what differs between the two. Arguments as in virtio_pci.h, and checked. */
struct virtio_pci_ops {
    const char *name;
    bool has_features_ok;
    bool (*open)(struct virtio_pci *v, GError **error);
    bool (*get_status)(struct virtio_pci *v, uint8_t *status, GError **error);
    bool (*set_status)(struct virtio_pci *v, uint8_t status, GError **error);
    bool (*get_features)(struct virtio_pci *v, uint64_t *features, GError **error);
    bool (*set_features)(struct virtio_pci *v, uint64_t features, GError **error);
    bool (*n_queues)(struct virtio_pci *v, uint16_t *n, GError **error);
    bool (*queue_max_size)(struct virtio_pci *v, uint16_t index, uint16_t *size, GError **error);
    bool (*queue_enable)(struct virtio_pci *v, uint16_t index, const struct virtqueue *vq,
                         uint16_t vector, GError **error);
    bool (*queue_reset)(struct virtio_pci *v, uint16_t index, GError **error);
    /* Returns what the device made of it through *vector. */
    bool (*set_config_vector)(struct virtio_pci *v, uint16_t *vector, GError **error);
    bool (*notify)(struct virtio_pci *v, uint16_t index, GError **error);
    bool (*isr)(struct virtio_pci *v, uint8_t *isr, GError **error);
    /* The block that holds the device configuration now. */
    const struct pci_block *(*config)(struct virtio_pci *v);
};

extern const struct virtio_pci_ops virtio_pci_modern_ops;
extern const struct virtio_pci_ops virtio_pci_legacy_ops;

enum { VIRTIO_BATCH_MAX = 260 };

/* Accesses to registers, carried out in order with one call. The first bad one is remembered. */
struct virtio_batch {
    struct pci_device *dev;
    unsigned n;
    GError *bad;
    struct machine_access accesses[VIRTIO_BATCH_MAX];
};

void virtio_batch_init(struct virtio_batch *batch, struct virtio_pci *v);
void virtio_batch_write(struct virtio_batch *batch, const struct pci_block *block, uint32_t offset,
                        unsigned width, uint64_t value);
/* Returns the index of its value in `accesses`. */
unsigned virtio_batch_read(struct virtio_batch *batch, const struct pci_block *block,
                           uint32_t offset, unsigned width);
bool virtio_batch_run(struct virtio_batch *batch, GError **error);

/* An error about this device: "00:04.0 virtio-net-pci: " and then the text. */
void G_GNUC_PRINTF(4, 5)
    virtio_pci_set_error(struct virtio_pci *v, GError **error, int code, const char *format, ...);

#endif
