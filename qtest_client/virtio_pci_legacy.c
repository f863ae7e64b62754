/*
 * The legacy virtio PCI transport, also that of transitional devices: registers in I/O BAR 0, rings
 * by page number, no FEATURES_OK. Follows virtio 1.2, 4.1.4.10 and 2.7.2.
 */
#include "qtest_client/virtio_pci_private.h"

#include <inttypes.h>

static bool legacy_open(struct virtio_pci *v, GError **error)
{
    v->legacy = pci_find_block(v->dev, "legacy", NULL);
    v->legacy_msix = pci_find_block(v->dev, "legacy_msix", NULL);
    v->legacy_config = pci_find_block(v->dev, "legacy_device", NULL);
    v->legacy_config_msix = pci_find_block(v->dev, "legacy_device_msix", NULL);
    if (!v->legacy || !v->legacy_msix || !v->legacy_config || !v->legacy_config_msix) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_NO_DEVICE,
                             "it has no legacy interface (no BAR 0): is it disable-legacy=on?");
        return false;
    }
    return true;
}

static bool legacy_get_status(struct virtio_pci *v, uint8_t *status, GError **error)
{
    uint64_t value;

    if (!pci_block_read(v->dev, v->legacy, VIRTIO_PCI_LEGACY_DEVICE_STATUS, 1, &value, error)) {
        return false;
    }
    *status = (uint8_t)value;
    return true;
}

static bool legacy_set_status(struct virtio_pci *v, uint8_t status, GError **error)
{
    return pci_block_write(v->dev, v->legacy, VIRTIO_PCI_LEGACY_DEVICE_STATUS, 1, status, error);
}

static bool legacy_get_features(struct virtio_pci *v, uint64_t *features, GError **error)
{
    return pci_block_read(v->dev, v->legacy, VIRTIO_PCI_LEGACY_DEVICE_FEATURES, 4, features, error);
}

static bool legacy_set_features(struct virtio_pci *v, uint64_t features, GError **error)
{
    return pci_block_write(v->dev, v->legacy, VIRTIO_PCI_LEGACY_DRIVER_FEATURES, 4,
                           (uint32_t)features, error);
}

struct queue_info {
    uint16_t size;
    uint32_t page;
};

static bool queue_info(struct virtio_pci *v, uint16_t index, struct queue_info *info,
                       GError **error)
{
    struct virtio_batch b;

    virtio_batch_init(&b, v);
    virtio_batch_write(&b, v->legacy, VIRTIO_PCI_LEGACY_QUEUE_SELECT, 2, index);
    unsigned size = virtio_batch_read(&b, v->legacy, VIRTIO_PCI_LEGACY_QUEUE_SIZE, 2);
    unsigned page = virtio_batch_read(&b, v->legacy, VIRTIO_PCI_LEGACY_QUEUE_ADDRESS, 4);
    if (!virtio_batch_run(&b, error)) {
        return false;
    }
    info->size = (uint16_t)b.accesses[size].value;
    info->page = (uint32_t)b.accesses[page].value;
    return true;
}

static bool legacy_queue_max_size(struct virtio_pci *v, uint16_t index, uint16_t *size,
                                  GError **error)
{
    struct queue_info info;

    if (!queue_info(v, index, &info, error)) {
        return false;
    }
    *size = info.size;
    return true;
}

static bool legacy_n_queues(struct virtio_pci *v, uint16_t *n, GError **error)
{
    uint16_t size = 0;

    for (*n = 0; *n < VIRTIO_PCI_MAX_QUEUES; (*n)++) {
        if (!legacy_queue_max_size(v, *n, &size, error)) {
            return false;
        }
        if (size == 0) {
            break;
        }
    }
    return true;
}

static bool check_queue(struct virtio_pci *v, uint16_t index, const struct queue_info *info,
                        const struct virtqueue *vq, uint16_t vector, GError **error)
{
    uint64_t mask = VIRTQ_LEGACY_ALIGN - 1, avail = vq->desc_gpa + VIRTQ_DESC_BYTES(vq->size);

    if (info->size == 0) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE, "there is no queue %u", index);
    } else if (info->page != 0) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "queue %u is in use already: reset the device first", index);
    } else if (vq->size != info->size) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "queue %u has %u entries, not %u: legacy devices do not let the "
                             "driver choose",
                             index, info->size, vq->size);
    } else if ((vq->desc_gpa & mask) != 0 || vq->avail_gpa != avail ||
               vq->used_gpa != ((avail + VIRTQ_AVAIL_BYTES(vq->size) + mask) & ~mask)) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "the rings of queue %u are not laid out as the legacy interface "
                             "needs them (VIRTQUEUE_LAYOUT_LEGACY)",
                             index);
    } else if (vq->desc_gpa >> VIRTIO_PCI_QUEUE_ADDR_SHIFT > UINT32_MAX) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "the rings of queue %u at 0x%" PRIx64
                             " are out of the legacy interface's reach: place them below 2^44",
                             index, vq->desc_gpa);
    } else if (vector != VIRTIO_NO_VECTOR && !v->dev->msix_enabled) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_INVALID,
                             "queue %u: the legacy interface has vectors only while MSI-X is "
                             "enabled",
                             index);
    } else {
        return true;
    }
    return false;
}

static bool legacy_queue_enable(struct virtio_pci *v, uint16_t index, const struct virtqueue *vq,
                                uint16_t vector, GError **error)
{
    struct queue_info info;
    struct virtio_batch b;

    if (!queue_info(v, index, &info, error) || !check_queue(v, index, &info, vq, vector, error)) {
        return false;
    }
    if (v->dev->msix_enabled) {
        virtio_batch_init(&b, v);
        virtio_batch_write(&b, v->legacy_msix, VIRTIO_PCI_LEGACY_MSIX_QUEUE_VECTOR, 2, vector);
        unsigned got =
            virtio_batch_read(&b, v->legacy_msix, VIRTIO_PCI_LEGACY_MSIX_QUEUE_VECTOR, 2);
        if (!virtio_batch_run(&b, error)) {
            return false;
        }
        if (b.accesses[got].value != vector) {
            virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                                 "the device has no room for vector %u of queue %u (reads back "
                                 "0x%04x)",
                                 vector, index, (unsigned)b.accesses[got].value);
            return false;
        }
    }
    return pci_block_write(v->dev, v->legacy, VIRTIO_PCI_LEGACY_QUEUE_ADDRESS, 4,
                           vq->desc_gpa >> VIRTIO_PCI_QUEUE_ADDR_SHIFT, error);
}

static bool legacy_queue_reset(struct virtio_pci *v, uint16_t index, GError **error)
{
    virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_INVALID,
                         "queue %u: the legacy interface cannot reset a queue alone", index);
    return false;
}

static bool legacy_set_config_vector(struct virtio_pci *v, uint16_t *vector, GError **error)
{
    struct virtio_batch b;

    if (!v->dev->msix_enabled) {
        if (*vector == VIRTIO_NO_VECTOR) {
            return true; /* there is none */
        }
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_INVALID,
                             "the legacy interface has vectors only while MSI-X is enabled");
        return false;
    }
    virtio_batch_init(&b, v);
    virtio_batch_write(&b, v->legacy_msix, VIRTIO_PCI_LEGACY_MSIX_CONFIG_VECTOR, 2, *vector);
    unsigned got = virtio_batch_read(&b, v->legacy_msix, VIRTIO_PCI_LEGACY_MSIX_CONFIG_VECTOR, 2);
    if (!virtio_batch_run(&b, error)) {
        return false;
    }
    *vector = (uint16_t)b.accesses[got].value;
    return true;
}

static bool legacy_notify(struct virtio_pci *v, uint16_t index, GError **error)
{
    struct machine_access a;
    uint64_t offset = (uint64_t)v->legacy->offset + VIRTIO_PCI_LEGACY_QUEUE_NOTIFY;

    return pci_bar_access(v->dev, v->legacy->bar, offset, 2, &a, error) &&
           machine_post(v->dev->machine, a.space, a.addr, 2, index, error);
}

static bool legacy_isr(struct virtio_pci *v, uint8_t *isr, GError **error)
{
    uint64_t value;

    if (!pci_block_read(v->dev, v->legacy, VIRTIO_PCI_LEGACY_ISR_STATUS, 1, &value, error)) {
        return false;
    }
    *isr = (uint8_t)value;
    return true;
}

/* It moves by the four bytes of the vectors, which are there only while MSI-X is enabled. */
static const struct pci_block *legacy_config(struct virtio_pci *v)
{
    return v->dev->msix_enabled ? v->legacy_config_msix : v->legacy_config;
}

const struct virtio_pci_ops virtio_pci_legacy_ops = {
    .name = "legacy",
    .has_features_ok = false,
    .open = legacy_open,
    .get_status = legacy_get_status,
    .set_status = legacy_set_status,
    .get_features = legacy_get_features,
    .set_features = legacy_set_features,
    .n_queues = legacy_n_queues,
    .queue_max_size = legacy_queue_max_size,
    .queue_enable = legacy_queue_enable,
    .queue_reset = legacy_queue_reset,
    .set_config_vector = legacy_set_config_vector,
    .notify = legacy_notify,
    .isr = legacy_isr,
    .config = legacy_config,
};
