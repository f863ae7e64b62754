/*
 * What the two virtio PCI transports have in common: the order of initialization, device
 * configuration, batches of register accesses.
 */
#include "qtest_client/virtio_pci_private.h"

#include <inttypes.h>
#include <string.h>

G_DEFINE_QUARK(virtio_pci_error, virtio_pci_error)

enum {
    RESET_TIMEOUT_MS = 1000,
    CONFIG_TRIES = 64,
    CONFIG_MAX_BYTES = 256,
};

void virtio_pci_set_error(struct virtio_pci *v, GError **error, int code, const char *format, ...)
{
    g_autofree char *name = pci_device_describe(v->dev);
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VIRTIO_PCI_ERROR, code, "%s: %s", name, text);
}

/* ---- batches of accesses ---- */

void virtio_batch_init(struct virtio_batch *batch, struct virtio_pci *v)
{
    batch->dev = v->dev;
    batch->n = 0;
    batch->bad = NULL;
}

static unsigned append(struct virtio_batch *batch, const struct pci_block *block, uint32_t offset,
                       unsigned width, bool is_write, uint64_t value)
{
    g_assert(batch->n < VIRTIO_BATCH_MAX);
    struct machine_access *a = &batch->accesses[batch->n];
    if (batch->bad) {
        return batch->n;
    }
    if (width > block->size || offset > block->size - width) {
        g_autofree char *name = pci_device_describe(batch->dev);
        batch->bad =
            g_error_new(VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID,
                        "%s: %u bytes at offset 0x%x are beyond its '%s' registers of 0x%x bytes",
                        name, width, offset, block->name, block->size);
        return batch->n;
    }
    a->is_write = is_write;
    a->value = value;
    if (!pci_bar_access(batch->dev, block->bar, (uint64_t)block->offset + offset, width, a,
                        &batch->bad)) {
        return batch->n;
    }
    return batch->n++;
}

void virtio_batch_write(struct virtio_batch *batch, const struct pci_block *block, uint32_t offset,
                        unsigned width, uint64_t value)
{
    append(batch, block, offset, width, true, value);
}

unsigned virtio_batch_read(struct virtio_batch *batch, const struct pci_block *block,
                           uint32_t offset, unsigned width)
{
    return append(batch, block, offset, width, false, 0);
}

bool virtio_batch_run(struct virtio_batch *batch, GError **error)
{
    if (batch->bad) {
        g_propagate_error(error, g_steal_pointer(&batch->bad));
        return false;
    }
    return machine_run(batch->dev->machine, batch->accesses, batch->n, error);
}

/* ---- life ---- */

struct virtio_pci *virtio_pci_new(struct pci_device *dev, enum virtio_transport transport,
                                  GError **error)
{
    struct virtio_pci *v = g_new0(struct virtio_pci, 1);

    v->dev = dev;
    v->transport = transport;
    v->ops = transport == VIRTIO_TRANSPORT_MODERN ? &virtio_pci_modern_ops : &virtio_pci_legacy_ops;
    if (dev->vendor_id != VIRTIO_PCI_VENDOR_ID) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_NO_DEVICE,
                             "not a virtio device (vendor 0x%04x, not 0x%04x)", dev->vendor_id,
                             VIRTIO_PCI_VENDOR_ID);
    } else if (pci_device_enable(dev, error) && v->ops->open(v, error)) {
        return v;
    }
    virtio_pci_free(v);
    return NULL;
}

void virtio_pci_free(struct virtio_pci *v)
{
    if (v) {
        g_free(v->notify_offsets);
        g_free(v);
    }
}

/* ---- status and features ---- */

bool virtio_pci_get_status(struct virtio_pci *v, uint8_t *status, GError **error)
{
    return v->ops->get_status(v, status, error);
}

bool virtio_pci_set_status(struct virtio_pci *v, uint8_t status, GError **error)
{
    return v->ops->set_status(v, status, error);
}

bool virtio_pci_add_status(struct virtio_pci *v, uint8_t bits, GError **error)
{
    uint8_t status;

    return v->ops->get_status(v, &status, error) && v->ops->set_status(v, status | bits, error);
}

bool virtio_pci_check(struct virtio_pci *v, GError **error)
{
    uint8_t status;

    if (!v->ops->get_status(v, &status, error)) {
        return false;
    }
    if (status & VIRTIO_STATUS_NEEDS_RESET) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_NEEDS_RESET,
                             "the device cannot go on: status 0x%02x has DEVICE_NEEDS_RESET; reset "
                             "it",
                             status);
        return false;
    }
    return true;
}

bool virtio_pci_reset(struct virtio_pci *v, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + RESET_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    uint8_t status = 0;

    v->features = 0;
    if (!v->ops->set_status(v, 0, error)) {
        return false;
    }
    do {
        if (!v->ops->get_status(v, &status, error)) {
            return false;
        }
        if (status == 0) {
            return true;
        }
    } while (g_get_monotonic_time() < deadline);
    virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_TIMEOUT,
                         "reset: status still reads 0x%02x after %d ms", status, RESET_TIMEOUT_MS);
    return false;
}

bool virtio_pci_device_features(struct virtio_pci *v, uint64_t *features, GError **error)
{
    return v->ops->get_features(v, features, error);
}

static char *list_bits(uint64_t bits)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; i < 64; i++) {
        if (bits & VIRTIO_FEATURE(i)) {
            g_string_append_printf(s, "%s%u", s->len ? ", " : "", i);
        }
    }
    return g_string_free(s, FALSE);
}

/* 3.1.1, step 5 and 6 */
static bool confirm_features(struct virtio_pci *v, GError **error)
{
    uint8_t status;

    if (!v->ops->has_features_ok) {
        return true;
    }
    if (!virtio_pci_add_status(v, VIRTIO_STATUS_FEATURES_OK, error) ||
        !v->ops->get_status(v, &status, error)) {
        return false;
    }
    if (!(status & VIRTIO_STATUS_FEATURES_OK)) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_FEATURES,
                             "the device does not accept features 0x%" PRIx64
                             ": status 0x%02x lacks FEATURES_OK",
                             v->features, status);
        return false;
    }
    return true;
}

static bool agree(struct virtio_pci *v, uint64_t wanted, uint64_t required, GError **error)
{
    uint64_t offered;

    if (!v->ops->set_status(v, VIRTIO_STATUS_ACKNOWLEDGE, error) ||
        !v->ops->set_status(v, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER, error) ||
        !v->ops->get_features(v, &offered, error)) {
        return false;
    }
    if (required & ~offered) {
        g_autofree char *missing = list_bits(required & ~offered);
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_FEATURES,
                             "the device does not offer feature bits %s (%s interface, offered: "
                             "0x%" PRIx64 ")",
                             missing, v->ops->name, offered);
        return false;
    }
    v->features = (offered & wanted) | required;
    return v->ops->set_features(v, v->features, error) && confirm_features(v, error);
}

bool virtio_pci_negotiate(struct virtio_pci *v, uint64_t wanted, uint64_t required, GError **error)
{
    if (!virtio_pci_reset(v, error)) {
        return false;
    }
    if (!agree(v, wanted, required, error)) {
        v->features = 0;
        virtio_pci_add_status(v, VIRTIO_STATUS_FAILED, NULL); /* 3.1.1, last paragraph */
        return false;
    }
    return true;
}

/* ---- queues ---- */

bool virtio_pci_n_queues(struct virtio_pci *v, uint16_t *n, GError **error)
{
    return v->ops->n_queues(v, n, error);
}

bool virtio_pci_queue_max_size(struct virtio_pci *v, uint16_t index, uint16_t *size, GError **error)
{
    *size = 0;
    return index >= VIRTIO_PCI_MAX_QUEUES || v->ops->queue_max_size(v, index, size, error);
}

bool virtio_pci_queue_enable(struct virtio_pci *v, uint16_t index, const struct virtqueue *vq,
                             uint16_t vector, GError **error)
{
    if (index >= VIRTIO_PCI_MAX_QUEUES) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE, "there is no queue %u", index);
        return false;
    }
    if (vector != VIRTIO_NO_VECTOR && vector >= v->dev->msix_n) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE,
                             "queue %u cannot have vector %u: the MSI-X table has %u entries",
                             index, vector, v->dev->msix_n);
        return false;
    }
    return v->ops->queue_enable(v, index, vq, vector, error);
}

bool virtio_pci_queue_reset(struct virtio_pci *v, uint16_t index, GError **error)
{
    if (!(v->features & VIRTIO_FEATURE(VIRTIO_F_RING_RESET))) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_INVALID,
                             "queue %u cannot be reset alone: feature RING_RESET (bit %d) was not "
                             "negotiated",
                             index, VIRTIO_F_RING_RESET);
        return false;
    }
    if (index >= VIRTIO_PCI_MAX_QUEUES) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_QUEUE, "there is no queue %u", index);
        return false;
    }
    return v->ops->queue_reset(v, index, error);
}

bool virtio_pci_set_config_vector(struct virtio_pci *v, uint16_t vector, GError **error)
{
    uint16_t got = vector;

    if (!v->ops->set_config_vector(v, &got, error)) {
        return false;
    }
    if (got != vector) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_INVALID,
                             "the device does not take vector %u for configuration changes (reads "
                             "back 0x%04x)",
                             vector, got);
        return false;
    }
    return true;
}

bool virtio_pci_notify(struct virtio_pci *v, uint16_t index, GError **error)
{
    return v->ops->notify(v, index, error);
}

bool virtio_pci_isr(struct virtio_pci *v, uint8_t *isr, GError **error)
{
    return v->ops->isr(v, isr, error);
}

/* ---- device configuration ---- */

/* How to access `len` bytes at `offset`: 4.1.3.1. */
static unsigned field_width(uint32_t offset, unsigned len)
{
    if ((len == 2 || len == 4) && offset % len == 0) {
        return len;
    }
    return len == 8 && offset % 8 == 0 ? 4 : 1;
}

static bool config_len_ok(struct virtio_pci *v, unsigned len, GError **error)
{
    if (len == 0 || len > CONFIG_MAX_BYTES) {
        virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_INVALID,
                             "%u bytes of device configuration at once (1 to %d)", len,
                             CONFIG_MAX_BYTES);
        return false;
    }
    return true;
}

bool virtio_pci_config_read(struct virtio_pci *v, uint32_t offset, void *bytes, unsigned len,
                            GError **error)
{
    const struct pci_block *config = v->ops->config(v);
    unsigned width = field_width(offset, len);
    struct virtio_batch batch;

    if (!config_len_ok(v, len, error)) {
        return false;
    }
    for (unsigned tries = 0; tries < CONFIG_TRIES; tries++) {
        unsigned before = 0, first = 0, after = 0;
        virtio_batch_init(&batch, v);
        if (v->common) {
            before = virtio_batch_read(&batch, v->common, VIRTIO_PCI_COMMON_CONFIG_GENERATION, 1);
        }
        for (unsigned i = 0; i < len; i += width) {
            unsigned at = virtio_batch_read(&batch, config, offset + i, width);
            first = i == 0 ? at : first;
        }
        if (v->common) {
            after = virtio_batch_read(&batch, v->common, VIRTIO_PCI_COMMON_CONFIG_GENERATION, 1);
        }
        if (!virtio_batch_run(&batch, error)) {
            return false;
        }
        for (unsigned i = 0; i < len; i += width) {
            uint64_t value = GUINT64_TO_LE(batch.accesses[first + i / width].value);
            memcpy((uint8_t *)bytes + i, &value, width);
        }
        if (batch.accesses[before].value == batch.accesses[after].value) {
            return true;
        }
    }
    virtio_pci_set_error(v, error, VIRTIO_PCI_ERROR_TIMEOUT,
                         "the device configuration changed in each of %d attempts to read it",
                         CONFIG_TRIES);
    return false;
}

bool virtio_pci_config_write(struct virtio_pci *v, uint32_t offset, const void *bytes, unsigned len,
                             GError **error)
{
    unsigned width = field_width(offset, len);
    struct virtio_batch batch;

    if (!config_len_ok(v, len, error)) {
        return false;
    }
    virtio_batch_init(&batch, v);
    for (unsigned i = 0; i < len; i += width) {
        uint64_t value = 0;
        memcpy(&value, (const uint8_t *)bytes + i, width);
        virtio_batch_write(&batch, v->ops->config(v), offset + i, width, GUINT64_FROM_LE(value));
    }
    return virtio_batch_run(&batch, error);
}
