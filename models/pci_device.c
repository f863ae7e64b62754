/*
 * A modelled PCI function: configuration space and BARs. MSI-X is pci_device_msix.c's, guest memory
 * pci_dma.c's. Follows PCI Local Bus 3.0, 6.1, 6.2 and 6.2.5.
 */
#include "models/abi/pci.h"
#include "models/pci_device_private.h"

#include <string.h>

G_DEFINE_QUARK(ringlab_pci_model_error, pci_model_error)

enum {
    MIN_BAR_BYTES = 16,
    MAX_IO_BYTES = 256,
    MAX_MEMORY_BYTES = 1 << 30,
    IO_SPACE_BYTES = 1 << 16,
    COMMAND_WRITABLE = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR |
                       PCI_COMMAND_INTX_DISABLE,
};

static void put(uint8_t *bytes, unsigned size, uint32_t value)
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

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- making one ---- */

static bool bar_is_possible(const struct pci_model_bar *bar)
{
    uint32_t max = bar->is_io ? MAX_IO_BYTES : MAX_MEMORY_BYTES;

    return bar->size >= MIN_BAR_BYTES && bar->size <= max && (bar->size & (bar->size - 1)) == 0 &&
           (!bar->memory || (!bar->is_io && (uintptr_t)bar->memory % 8 == 0)) &&
           !(bar->is_io && bar->is_prefetchable);
}

static bool check_bars(const struct pci_model *m, GError **error)
{
    for (unsigned i = 0; i < PCI_MODEL_BARS; i++) {
        const struct pci_model_bar *bar = &m->options.bars[i];
        if (bar->size != 0 && !bar_is_possible(bar)) {
            g_set_error(
                error, PCI_MODEL_ERROR, PCI_MODEL_ERROR_INVALID,
                "%s: BAR %u cannot be %s of %u bytes (a power of two, I/O 16 to 256, memory "
                "16 to 2^30, not both)",
                m->ops->name, i, bar->is_io ? "I/O" : "memory", bar->size);
            return false;
        }
    }
    return true;
}

static uint32_t bar_type(const struct pci_model_bar *bar)
{
    return bar->is_io ? PCI_BAR_SPACE_IO : bar->is_prefetchable ? PCI_BAR_MEM_PREFETCH : 0;
}

/* As after power-on. */
static void fill_config(struct pci_model *m)
{
    const struct pci_model_options *o = &m->options;
    uint8_t *c = m->config;

    memset(m->config, 0, sizeof(m->config));
    memset(m->write_mask, 0, sizeof(m->write_mask));
    put(c + PCI_VENDOR_ID, 2, o->vendor_id);
    put(c + PCI_DEVICE_ID, 2, o->device_id);
    c[PCI_REVISION_ID] = o->revision;
    put(c + PCI_CLASS_PROG, 3, o->class_code);
    put(c + PCI_SUBSYSTEM_VENDOR_ID, 2, o->subsystem_vendor_id);
    put(c + PCI_SUBSYSTEM_ID, 2, o->subsystem_id);
    c[PCI_INTERRUPT_PIN] = o->interrupt_pin;
    put(m->write_mask + PCI_COMMAND, 2, COMMAND_WRITABLE);
    m->write_mask[PCI_CACHE_LINE_SIZE] = 0xff;
    m->write_mask[PCI_INTERRUPT_LINE] = 0xff;
    for (unsigned i = 0; i < PCI_MODEL_BARS; i++) {
        const struct pci_model_bar *bar = &o->bars[i];
        if (bar->size == 0)
            continue;
        put(c + PCI_BAR0 + 4 * i, 4, bar_type(bar));
        put(m->write_mask + PCI_BAR0 + 4 * i, 4, ~(bar->size - 1));
    }
    pci_msix_fill_config(m);
}

struct pci_model *pci_model_new(const struct pci_model_ops *ops, void *model,
                                const struct pci_model_options *options, GError **error)
{
    struct pci_model *m = g_new0(struct pci_model, 1);

    m->ops = ops;
    m->data = model;
    m->options = *options;
    if (!pci_msix_init(m, error) || !check_bars(m, error)) {
        pci_msix_clear(m);
        g_free(m);
        return NULL;
    }
    pthread_mutex_init(&m->lock, NULL);
    fill_config(m);
    m->config[PCI_CACHE_LINE_SIZE] = options->cache_line;
    pci_msix_reset(m);
    return m;
}

void pci_model_free(struct pci_model *m)
{
    if (!m)
        return;
    if (m->ops->free)
        m->ops->free(m->data);
    pci_model_set_dma(m, NULL);
    pci_msix_clear(m);
    pthread_mutex_destroy(&m->lock);
    g_free(m);
}

const char *pci_model_name(const struct pci_model *m)
{
    return m->ops->name;
}

void *pci_model_data(struct pci_model *m)
{
    return m->data;
}

const struct pci_model_bar *pci_model_bar(const struct pci_model *m, unsigned bar)
{
    return bar < PCI_MODEL_BARS ? &m->options.bars[bar] : NULL;
}

/* ---- configuration space ---- */

uint32_t pci_model_config_read(struct pci_model *m, unsigned offset, unsigned size)
{
    uint32_t value = 0;

    count(&m->config_reads);
    for (unsigned i = 0; i < size && i < 4; i++) {
        bool is_inside = offset < PCI_MODEL_CONFIG_BYTES && offset + i < PCI_MODEL_CONFIG_BYTES;
        value |= (uint32_t)(is_inside ? m->config[offset + i] : 0xff) << (8 * i);
    }
    return value;
}

void pci_model_config_write(struct pci_model *m, unsigned offset, uint32_t value, unsigned size)
{
    count(&m->config_writes);
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < size && i < 4 && offset < PCI_MODEL_CONFIG_BYTES - i; i++) {
        uint8_t mask = m->write_mask[offset + i], *byte = &m->config[offset + i];
        *byte = (uint8_t)((*byte & ~mask) | ((value >> (8 * i)) & mask));
    }
    pci_msix_send_pending(m); /* it may have been unmasked */
    pthread_mutex_unlock(&m->lock);
}

void pci_model_reset(struct pci_model *m)
{
    pthread_mutex_lock(&m->lock);
    fill_config(m);
    pci_msix_reset(m);
    pthread_mutex_unlock(&m->lock);
    if (m->ops->reset)
        m->ops->reset(m->data);
}

/* ---- BARs ---- */

int pci_model_decode(const struct pci_model *m, bool is_io, uint64_t addr, uint64_t *offset)
{
    unsigned enable = is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    uint64_t space = is_io ? IO_SPACE_BYTES : 1ull << 32;

    if (!(m->config[PCI_COMMAND] & enable))
        return -1;
    for (int i = 0; i < PCI_MODEL_BARS; i++) {
        const struct pci_model_bar *bar = &m->options.bars[i];
        uint32_t base =
            get32(m->config + PCI_BAR0 + 4 * i) & (bar->is_io ? PCI_BAR_IO_MASK : PCI_BAR_MEM_MASK);
        bool is_placed = bar->size != 0 && base != 0 && (uint64_t)base + bar->size <= space;
        if (is_placed && bar->is_io == is_io && addr >= base && addr - base < bar->size) {
            *offset = addr - base;
            return i;
        }
    }
    return -1;
}

/* A BAR of memory. What lies beyond it is shown as 0. */
static uint64_t memory_read(const struct pci_model_bar *bar, uint64_t offset, unsigned size)
{
    const void *p = bar->memory + offset;

    if (offset >= bar->memory_size || size > bar->memory_size - offset)
        return 0;
    switch (size) {
    case 1:
        return atomic_load_explicit((const _Atomic uint8_t *)p, memory_order_acquire);
    case 2:
        return GUINT16_FROM_LE(
            atomic_load_explicit((const _Atomic uint16_t *)p, memory_order_acquire));
    default:
        return GUINT32_FROM_LE(
            atomic_load_explicit((const _Atomic uint32_t *)p, memory_order_acquire));
    }
}

static void memory_write(const struct pci_model_bar *bar, uint64_t offset, uint64_t value,
                         unsigned size)
{
    void *p = bar->memory + offset;

    if (offset >= bar->memory_size || size > bar->memory_size - offset)
        return;
    switch (size) {
    case 1:
        atomic_store_explicit((_Atomic uint8_t *)p, (uint8_t)value, memory_order_release);
        break;
    case 2:
        atomic_store_explicit((_Atomic uint16_t *)p, GUINT16_TO_LE((uint16_t)value),
                              memory_order_release);
        break;
    default:
        atomic_store_explicit((_Atomic uint32_t *)p, GUINT32_TO_LE((uint32_t)value),
                              memory_order_release);
        break;
    }
}

static uint64_t ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

/* The largest aligned piece at `offset`, at most `left` bytes and 4. */
static unsigned piece(uint64_t offset, unsigned left)
{
    unsigned size = 4;

    while (size > left || offset % size != 0)
        size /= 2;
    return size;
}

static uint64_t read_piece(struct pci_model *m, unsigned bar, uint64_t offset, unsigned size)
{
    const struct pci_model_bar *b = &m->options.bars[bar];

    if (offset >= b->size)
        return ones(size);
    if (m->msix_table && bar == m->options.msix_bar)
        return pci_msix_read(m, offset, size);
    if (b->memory)
        return memory_read(b, offset, size);
    return m->ops->read ? m->ops->read(m->data, bar, offset, size) & ones(size) : 0;
}

static void write_piece(struct pci_model *m, unsigned bar, uint64_t offset, uint64_t value,
                        unsigned size)
{
    const struct pci_model_bar *b = &m->options.bars[bar];

    if (offset >= b->size)
        return;
    if (m->msix_table && bar == m->options.msix_bar)
        pci_msix_write(m, offset, value, size);
    else if (b->memory)
        memory_write(b, offset, value, size);
    else if (m->ops->write)
        m->ops->write(m->data, bar, offset, value, size);
}

uint64_t pci_model_bar_read(struct pci_model *m, unsigned bar, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    count(&m->bar_reads);
    if (bar >= PCI_MODEL_BARS || size > 8 || offset >= m->options.bars[bar].size)
        return ones(size);
    for (unsigned done = 0, n; done < size; done += n) {
        n = piece(offset + done, size - done);
        value |= read_piece(m, bar, offset + done, n) << (8 * done);
    }
    return value;
}

void pci_model_bar_write(struct pci_model *m, unsigned bar, uint64_t offset, uint64_t value,
                         unsigned size)
{
    count(&m->bar_writes);
    if (bar >= PCI_MODEL_BARS || size > 8 || offset >= m->options.bars[bar].size)
        return;
    for (unsigned done = 0, n; done < size; done += n) {
        n = piece(offset + done, size - done);
        write_piece(m, bar, offset + done, (value >> (8 * done)) & ones(n), n);
    }
}

/* ---- to the bus ---- */

void pci_model_set_dma(struct pci_model *m, struct pci_dma *dma)
{
    if (dma)
        pci_dma_ref(dma);
    pthread_mutex_lock(&m->lock);
    struct pci_dma *old = m->dma;
    m->dma = dma;
    pthread_mutex_unlock(&m->lock);
    pci_dma_unref(old);
}

struct pci_dma *pci_model_dma(struct pci_model *m)
{
    pthread_mutex_lock(&m->lock);
    struct pci_dma *dma = m->dma;
    pthread_mutex_unlock(&m->lock);
    return dma;
}

void pci_model_set_msi(struct pci_model *m, pci_model_msi_fn msi, void *data)
{
    pthread_mutex_lock(&m->lock);
    m->msi = msi;
    m->msi_data = data;
    pthread_mutex_unlock(&m->lock);
}

struct pci_model_stats pci_model_stats(struct pci_model *m)
{
    return (struct pci_model_stats){
        .config_reads = m->config_reads,
        .config_writes = m->config_writes,
        .bar_reads = m->bar_reads,
        .bar_writes = m->bar_writes,
        .messages = m->messages,
        .messages_lost = m->messages_lost,
    };
}
