/*
 * The modern virtio PCI transport: common configuration and notification structures that vendor
 * capabilities point to. Follows virtio 1.2, 4.1.4.
 */
#include "qtest_client/virtio_pci_private.h"

#include <inttypes.h>

enum { QUEUE_RESET_TIMEOUT_MS = 1000 };

static bool modern_open(struct virtio_pci *v, GError **error)
{
    uint64_t multiplier;

    v->common = pci_find_block(v->dev, "common", NULL);
    v->notify = pci_find_block(v->dev, "notify", NULL);
    v->isr = pci_find_block(v->dev, "isr", NULL);
    v->config = pci_find_block(v->dev, "device", NULL);
    struct pci_block *cap = pci_find_block(v->dev, "notify_cap", NULL);
    if (!v->common || !v->notify || !v->isr || !v->config || !cap) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_NO_DEVICE,
                             "it has no modern interface (no %s capability): is it "
                             "disable-modern=on?",
                             !v->common           ? "common configuration"
                             : !v->notify || !cap ? "notification"
                             : !v->isr            ? "ISR"
                                                  : "device configuration");
        return false;
    }
    if (!pci_block_read(v->dev, cap, VIRTIO_PCI_NOTIFY_CAP_MULT, 4, &multiplier, error)) {
        return false;
    }
    v->notify_multiplier = (uint32_t)multiplier;
    v->notify_offsets = g_new(uint32_t, VIRTIO_PCI_MAX_QUEUES);
    for (unsigned i = 0; i < VIRTIO_PCI_MAX_QUEUES; i++) {
        v->notify_offsets[i] = UINT32_MAX;
    }
    return true;
}

static bool modern_get_status(struct virtio_pci *v, uint8_t *status, GError **error)
{
    uint64_t value;

    if (!pci_block_read(v->dev, v->common, VIRTIO_PCI_COMMON_DEVICE_STATUS, 1, &value, error)) {
        return false;
    }
    *status = (uint8_t)value;
    return true;
}

static bool modern_set_status(struct virtio_pci *v, uint8_t status, GError **error)
{
    return pci_block_write(v->dev, v->common, VIRTIO_PCI_COMMON_DEVICE_STATUS, 1, status, error);
}

static bool modern_get_features(struct virtio_pci *v, uint64_t *features, GError **error)
{
    struct virtio_batch b;
    unsigned word[2];

    virtio_batch_init(&b, v);
    for (unsigned i = 0; i < 2; i++) {
        virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_DEVICE_FEATURE_SELECT, 4, i);
        word[i] = virtio_batch_read(&b, v->common, VIRTIO_PCI_COMMON_DEVICE_FEATURE, 4);
    }
    if (!virtio_batch_run(&b, error)) {
        return false;
    }
    *features = b.accesses[word[0]].value | b.accesses[word[1]].value << 32;
    return true;
}

static bool modern_set_features(struct virtio_pci *v, uint64_t features, GError **error)
{
    struct virtio_batch b;

    virtio_batch_init(&b, v);
    for (unsigned i = 0; i < 2; i++) {
        virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_DRIVER_FEATURE_SELECT, 4, i);
        virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_DRIVER_FEATURE, 4,
                           (uint32_t)(features >> (32 * i)));
    }
    return virtio_batch_run(&b, error);
}

static bool modern_n_queues(struct virtio_pci *v, uint16_t *n, GError **error)
{
    uint64_t value;

    if (!pci_block_read(v->dev, v->common, VIRTIO_PCI_COMMON_NUM_QUEUES, 2, &value, error)) {
        return false;
    }
    *n = (uint16_t)value;
    return true;
}

/* What the device says about a queue before it is touched. */
struct queue_info {
    uint16_t size, notify_off;
    bool is_enabled;
};

static bool queue_info(struct virtio_pci *v, uint16_t index, struct queue_info *info,
                       GError **error)
{
    struct virtio_batch b;

    virtio_batch_init(&b, v);
    virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_SELECT, 2, index);
    unsigned size = virtio_batch_read(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_SIZE, 2);
    unsigned enable = virtio_batch_read(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_ENABLE, 2);
    unsigned off = virtio_batch_read(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_NOTIFY_OFF, 2);
    if (!virtio_batch_run(&b, error)) {
        return false;
    }
    info->size = (uint16_t)b.accesses[size].value;
    info->is_enabled = b.accesses[enable].value != 0;
    info->notify_off = (uint16_t)b.accesses[off].value;
    return true;
}

static bool modern_queue_max_size(struct virtio_pci *v, uint16_t index, uint16_t *size,
                                  GError **error)
{
    struct queue_info info;

    if (!queue_info(v, index, &info, error)) {
        return false;
    }
    *size = info.size;
    return true;
}

/* 4.1.4.4: where a write tells the device to look at this queue. */
static bool learn_notify_offset(struct virtio_pci *v, uint16_t index, uint16_t notify_off,
                                GError **error)
{
    uint64_t offset = (uint64_t)notify_off * v->notify_multiplier;

    if (v->notify->size < 2 || offset > v->notify->size - 2) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "queue %u is to be notified at offset 0x%" PRIx64
                             ", beyond its notification structure of 0x%x bytes",
                             index, offset, v->notify->size);
        return false;
    }
    v->notify_offsets[index] = (uint32_t)offset;
    return true;
}

static bool check_queue(struct virtio_pci *v, uint16_t index, const struct queue_info *info,
                        const struct virtqueue *vq, GError **error)
{
    if (info->size == 0) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE, "there is no queue %u", index);
    } else if (info->is_enabled) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "queue %u is in use already: reset it or the device first", index);
    } else if (vq->size > info->size) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "queue %u takes at most %u entries, not %u", index, info->size,
                             vq->size);
    } else {
        return learn_notify_offset(v, index, info->notify_off, error);
    }
    return false;
}

static void write_address(struct virtio_batch *b, const struct pci_block *common, uint32_t offset,
                          uint64_t gpa)
{
    virtio_batch_write(b, common, offset, 4, (uint32_t)gpa); /* 4.1.3.1: as two halves */
    virtio_batch_write(b, common, offset + 4, 4, gpa >> 32);
}

static bool modern_queue_enable(struct virtio_pci *v, uint16_t index, const struct virtqueue *vq,
                                uint16_t vector, GError **error)
{
    struct queue_info info;
    struct virtio_batch b;

    if (!queue_info(v, index, &info, error) || !check_queue(v, index, &info, vq, error)) {
        return false;
    }
    virtio_batch_init(&b, v);
    virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_SIZE, 2, vq->size);
    virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_MSIX_VECTOR, 2, vector);
    unsigned got = virtio_batch_read(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_MSIX_VECTOR, 2);
    write_address(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_DESC, vq->desc_gpa);
    write_address(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_DRIVER, vq->avail_gpa);
    write_address(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_DEVICE, vq->used_gpa);
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
    return pci_block_write(v->dev, v->common, VIRTIO_PCI_COMMON_QUEUE_ENABLE, 2, 1, error);
}

static bool modern_queue_reset(struct virtio_pci *v, uint16_t index, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + QUEUE_RESET_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    struct virtio_batch b;

    virtio_batch_init(&b, v);
    virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_SELECT, 2, index);
    virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_RESET, 2, 1);
    unsigned got = virtio_batch_read(&b, v->common, VIRTIO_PCI_COMMON_QUEUE_RESET, 2);
    if (!virtio_batch_run(&b, error)) {
        return false;
    }
    /* 4.1.4.3.2: it is done when the register reads 0 again */
    uint64_t value = b.accesses[got].value;
    while (value != 0) {
        if (g_get_monotonic_time() >= deadline) {
            virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_TIMEOUT,
                                 "reset of queue %u did not complete within %d ms", index,
                                 QUEUE_RESET_TIMEOUT_MS);
            return false;
        }
        if (!pci_block_read(v->dev, v->common, VIRTIO_PCI_COMMON_QUEUE_RESET, 2, &value, error)) {
            return false;
        }
    }
    return true;
}

static bool modern_set_config_vector(struct virtio_pci *v, uint16_t *vector, GError **error)
{
    struct virtio_batch b;

    virtio_batch_init(&b, v);
    virtio_batch_write(&b, v->common, VIRTIO_PCI_COMMON_CONFIG_MSIX_VECTOR, 2, *vector);
    unsigned got = virtio_batch_read(&b, v->common, VIRTIO_PCI_COMMON_CONFIG_MSIX_VECTOR, 2);
    if (!virtio_batch_run(&b, error)) {
        return false;
    }
    *vector = (uint16_t)b.accesses[got].value;
    return true;
}

static bool modern_notify(struct virtio_pci *v, uint16_t index, GError **error)
{
    struct machine_access a;

    if (index >= VIRTIO_PCI_MAX_QUEUES) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_INVALID,
                             "queue %u cannot be notified: 0 to %d can", index,
                             VIRTIO_PCI_MAX_QUEUES - 1);
        return false;
    }
    if (v->notify_offsets[index] == UINT32_MAX) {
        struct queue_info info;
        if (!queue_info(v, index, &info, error) ||
            !learn_notify_offset(v, index, info.notify_off, error)) {
            return false;
        }
    }
    uint64_t offset = (uint64_t)v->notify->offset + v->notify_offsets[index];
    return pci_bar_access(v->dev, v->notify->bar, offset, 2, &a, error) &&
           machine_post(v->dev->machine, a.space, a.addr, 2, index, error);
}

static bool modern_isr(struct virtio_pci *v, uint8_t *isr, GError **error)
{
    uint64_t value;

    if (!pci_block_read(v->dev, v->isr, VIRTIO_PCI_ISR_STATUS, 1, &value, error)) {
        return false;
    }
    *isr = (uint8_t)value;
    return true;
}

static const struct pci_block *modern_config(struct virtio_pci *v)
{
    return v->config;
}

const struct virtio_pci_ops virtio_pci_modern_ops = {
    .name = "modern",
    .has_features_ok = true,
    .open = modern_open,
    .get_status = modern_get_status,
    .set_status = modern_set_status,
    .get_features = modern_get_features,
    .set_features = modern_set_features,
    .n_queues = modern_n_queues,
    .queue_max_size = modern_queue_max_size,
    .queue_enable = modern_queue_enable,
    .queue_reset = modern_queue_reset,
    .set_config_vector = modern_set_config_vector,
    .notify = modern_notify,
    .isr = modern_isr,
    .config = modern_config,
};
