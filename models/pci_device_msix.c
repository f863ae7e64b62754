/*
 * MSI-X of a modelled PCI function: the table, the pending bits, and which message is sent when.
 * Follows PCI Local Bus 3.0, 6.8.2 and 6.8.3.
 */
#include "models/abi/pci.h"
#include "models/pci_device_private.h"

#include <string.h>

enum { MIN_BAR_BYTES = 4096, PENDING_UNIT = 64 /* vectors */ };

static uint64_t table_bytes(const struct pci_model *m)
{
    return (uint64_t)m->options.n_vectors * PCI_MSIX_ENTRY_BYTES;
}

static uint64_t pending_bytes(const struct pci_model *m)
{
    return (uint64_t)(m->options.n_vectors + PENDING_UNIT - 1) / PENDING_UNIT * PCI_MSIX_PBA_BYTES;
}

static uint64_t pending_offset(const struct pci_model *m)
{
    return m->options.bars[m->options.msix_bar].size / 2;
}

static bool fail(const struct pci_model *m, const char *why, GError **error)
{
    g_set_error(error, PCI_MODEL_ERROR, PCI_MODEL_ERROR_INVALID, "%s: MSI-X with %u vectors %s",
                m->ops->name, m->options.n_vectors, why);
    return false;
}

bool pci_msix_init(struct pci_model *m, GError **error)
{
    struct pci_model_options *o = &m->options;

    if (o->n_vectors == 0)
        return true;
    if (o->n_vectors > PCI_MODEL_MAX_VECTORS)
        return fail(m, "(there can be 2048)", error);
    if (o->msix_bar >= PCI_MODEL_BARS)
        return fail(m, "needs a BAR from 0 to 5", error);
    struct pci_model_bar *bar = &o->bars[o->msix_bar];
    if (bar->is_io || bar->memory)
        return fail(m, "needs a memory BAR of its own", error);
    if (bar->size == 0) {
        bar->size = MIN_BAR_BYTES;
        while (bar->size / 2 < table_bytes(m))
            bar->size *= 2;
    }
    if (bar->size / 2 < table_bytes(m) || bar->size / 2 < pending_bytes(m))
        return fail(m, "does not fit into its BAR", error);
    m->msix_table = g_malloc0(table_bytes(m));
    m->msix_pending = g_malloc0(pending_bytes(m));
    return true;
}

void pci_msix_clear(struct pci_model *m)
{
    g_free(m->msix_table);
    g_free(m->msix_pending);
}

static void put(uint8_t *bytes, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get32(const uint8_t *bytes)
{
    uint32_t value;

    memcpy(&value, bytes, sizeof(value));
    return GUINT32_FROM_LE(value);
}

void pci_msix_fill_config(struct pci_model *m)
{
    uint8_t *cap = m->config + PCI_MODEL_MSIX_CAPABILITY;

    if (m->options.n_vectors == 0)
        return;
    put(m->config + PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
    m->config[PCI_CAPABILITY_LIST] = PCI_MODEL_MSIX_CAPABILITY;
    cap[PCI_CAP_LIST_ID] = PCI_CAP_ID_MSIX;
    put(cap + PCI_MSIX_FLAGS, 2, m->options.n_vectors - 1);
    put(cap + PCI_MSIX_TABLE, 4, m->options.msix_bar);
    put(cap + PCI_MSIX_PBA, 4, pending_offset(m) | m->options.msix_bar);
    put(m->write_mask + PCI_MODEL_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2,
        PCI_MSIX_FLAGS_MASKALL | PCI_MSIX_FLAGS_ENABLE);
}

/* ---- sending; the lock is held ---- */

static uint8_t *entry(struct pci_model *m, unsigned vector)
{
    return m->msix_table + (size_t)vector * PCI_MSIX_ENTRY_BYTES;
}

static unsigned control(const struct pci_model *m)
{
    const uint8_t *flags = m->config + PCI_MODEL_MSIX_CAPABILITY + PCI_MSIX_FLAGS;

    return m->options.n_vectors ? flags[0] | (unsigned)flags[1] << 8 : 0;
}

static bool is_on(const struct pci_model *m)
{
    return (control(m) & PCI_MSIX_FLAGS_ENABLE) && (m->config[PCI_COMMAND] & PCI_COMMAND_MASTER);
}

static bool is_masked(struct pci_model *m, unsigned vector)
{
    return (control(m) & PCI_MSIX_FLAGS_MASKALL) ||
           (get32(entry(m, vector) + PCI_MSIX_ENTRY_VECTOR_CTRL) & PCI_MSIX_ENTRY_CTRL_MASKED);
}

static void send(struct pci_model *m, unsigned vector)
{
    const uint8_t *e = entry(m, vector);
    uint64_t address =
        get32(e + PCI_MSIX_ENTRY_LOWER_ADDR) | (uint64_t)get32(e + PCI_MSIX_ENTRY_UPPER_ADDR) << 32;
    uint32_t value = get32(e + PCI_MSIX_ENTRY_DATA);
    bool is_delivered = (m->dma && pci_dma_write32(m->dma, address, value)) ||
                        (m->msi && m->msi(m->msi_data, address, value));

    atomic_fetch_add_explicit(is_delivered ? &m->messages : &m->messages_lost, 1,
                              memory_order_relaxed);
}

static void raise_locked(struct pci_model *m, unsigned vector)
{
    if (!is_on(m))
        return;
    if (is_masked(m, vector))
        m->msix_pending[vector / 8] |= (uint8_t)(1u << vector % 8);
    else
        send(m, vector);
}

void pci_model_raise(struct pci_model *m, unsigned vector)
{
    if (vector >= m->options.n_vectors)
        return;
    pthread_mutex_lock(&m->lock);
    raise_locked(m, vector);
    pthread_mutex_unlock(&m->lock);
}

static void send_if_pending(struct pci_model *m, unsigned vector)
{
    uint8_t bit = (uint8_t)(1u << vector % 8);

    if ((m->msix_pending[vector / 8] & bit) && is_on(m) && !is_masked(m, vector)) {
        m->msix_pending[vector / 8] &= (uint8_t)~bit;
        send(m, vector);
    }
}

void pci_msix_send_pending(struct pci_model *m)
{
    for (unsigned i = 0; i < m->options.n_vectors; i++)
        send_if_pending(m, i);
}

void pci_msix_reset(struct pci_model *m)
{
    for (unsigned i = 0; i < m->options.n_vectors; i++) {
        memset(entry(m, i), 0, PCI_MSIX_ENTRY_BYTES);
        put(entry(m, i) + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, PCI_MSIX_ENTRY_CTRL_MASKED);
    }
    if (m->options.n_vectors)
        memset(m->msix_pending, 0, pending_bytes(m));
}

bool pci_model_msix_enabled(struct pci_model *m)
{
    pthread_mutex_lock(&m->lock);
    bool is_enabled = (control(m) & PCI_MSIX_FLAGS_ENABLE) != 0;
    pthread_mutex_unlock(&m->lock);
    return is_enabled;
}

/* ---- the BAR ---- */

static uint8_t read_byte(struct pci_model *m, uint64_t offset)
{
    if (offset < table_bytes(m))
        return m->msix_table[offset];
    if (offset >= pending_offset(m) && offset - pending_offset(m) < pending_bytes(m))
        return m->msix_pending[offset - pending_offset(m)];
    return 0;
}

uint64_t pci_msix_read(struct pci_model *m, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_byte(m, offset + i) << (8 * i);
    pthread_mutex_unlock(&m->lock);
    return value;
}

/* Pending bits are read-only. Address, data and the reserved bits keep what was written. */
void pci_msix_write(struct pci_model *m, uint64_t offset, uint64_t value, unsigned size)
{
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < size && offset + i < table_bytes(m); i++)
        m->msix_table[offset + i] = (uint8_t)(value >> (8 * i));
    if (offset < table_bytes(m)) {
        uint64_t last = MIN(offset + size, table_bytes(m)) - 1;
        for (uint64_t v = offset / PCI_MSIX_ENTRY_BYTES; v <= last / PCI_MSIX_ENTRY_BYTES; v++)
            send_if_pending(m, (unsigned)v);
    }
    pthread_mutex_unlock(&m->lock);
}
