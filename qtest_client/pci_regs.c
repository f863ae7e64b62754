/*
 * Registers of a function by name: which blocks it has and where, from the tables in models/abi/.
 */
#include "models/abi/pci.h"
#include "models/abi/virtio_pci.h"
#include "qtest_client/pci_private.h"

#include <inttypes.h>
#include <string.h>

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- resolving ---- */

static struct pci_block *add_block(struct pci_device *dev, const struct abi_block *abi,
                                   bool in_config, unsigned bar, uint64_t offset, uint64_t size,
                                   uint32_t count)
{
    uint64_t room = in_config ? PCI_CONFIG_BYTES : bar < PCI_N_BARS ? dev->bars[bar].size : 0;
    unsigned same = 1;

    if (offset >= room) {
        return NULL; /* the device points outside of what it has */
    }
    for (guint i = 0; i < dev->blocks->len; i++) {
        same += ((struct pci_block *)dev->blocks->pdata[i])->abi == abi;
    }
    struct pci_block *b = g_new0(struct pci_block, 1);
    b->abi = abi;
    b->name = same == 1 ? g_strdup(abi->name) : g_strdup_printf("%s%u", abi->name, same);
    b->in_config = in_config;
    b->bar = (uint8_t)bar;
    b->offset = (uint32_t)offset;
    b->size = (uint32_t)MIN(size ? size : room - offset, room - offset);
    b->count = count;
    if (abi->stride && count == 0) {
        b->count = MAX(b->size / abi->stride, 1);
    }
    g_ptr_array_add(dev->blocks, b);
    return b;
}

/* The first virtio vendor capability of this type; NULL if there is none. */
static const struct pci_capability *virtio_cap(struct pci_device *dev, const uint8_t *config,
                                               uint8_t cfg_type)
{
    for (guint i = 0; i < dev->capabilities->len; i++) {
        const struct pci_capability *cap =
            &g_array_index(dev->capabilities, struct pci_capability, i);
        if (cap->id == PCI_CAP_ID_VENDOR && cap->length >= VIRTIO_PCI_CAP_BYTES &&
            cap->offset + VIRTIO_PCI_CAP_BYTES <= PCI_CONFIG_BYTES &&
            config[cap->offset + VIRTIO_PCI_CAP_CFG_TYPE] == cfg_type) {
            return cap;
        }
    }
    return NULL;
}

static void resolve_msix(struct pci_device *dev, const uint8_t *config)
{
    if (!dev->msix_cap) {
        return;
    }
    uint32_t table = get32(config + dev->msix_cap + PCI_MSIX_TABLE);
    uint32_t pba = get32(config + dev->msix_cap + PCI_MSIX_PBA);
    add_block(dev, &abi_msix_table_block, false, table & PCI_MSIX_TABLE_BIR,
              table & PCI_MSIX_TABLE_OFFSET, (uint64_t)dev->msix_n * PCI_MSIX_ENTRY_BYTES,
              dev->msix_n);
    add_block(dev, &abi_msix_pba_block, false, pba & PCI_MSIX_PBA_BIR, pba & PCI_MSIX_PBA_OFFSET,
              (dev->msix_n + 63u) / 64 * 8, (dev->msix_n + 63u) / 64);
}

/* NULL: this function does not have it. */
static struct pci_block *place_block(struct pci_device *dev, const uint8_t *config,
                                     const struct abi_placement *p)
{
    const struct pci_capability *cap;

    switch (p->where) {
    case ABI_AT_CONFIG:
        return add_block(dev, p->block, true, 0, p->offset, p->block->size, 0);
    case ABI_AT_CAP:
        cap = pci_find_capability(dev, p->id, 0);
        return cap ? add_block(dev, p->block, true, 0, cap->offset + p->offset, p->block->size, 0)
                   : NULL;
    case ABI_AT_VIRTIO_CFG:
        cap = virtio_cap(dev, config, p->id);
        return cap ? add_block(dev, p->block, true, 0, cap->offset + p->offset, cap->length, 0)
                   : NULL;
    case ABI_AT_VIRTIO_CAP:
        cap = virtio_cap(dev, config, p->id);
        return cap ? add_block(dev, p->block, false, config[cap->offset + VIRTIO_PCI_CAP_BAR],
                               get32(config + cap->offset + VIRTIO_PCI_CAP_OFFSET) + p->offset,
                               get32(config + cap->offset + VIRTIO_PCI_CAP_LENGTH), 0)
                   : NULL;
    case ABI_AT_BAR:
        return add_block(dev, p->block, false, p->id, p->offset, p->block->size, 0);
    case ABI_AT_MSIX_TABLE:
    case ABI_AT_MSIX_PBA:
        return NULL; /* every function's: resolve_msix */
    }
    return NULL;
}

void pci_device_resolve_blocks(struct pci_device *dev, const uint8_t *config)
{
    g_ptr_array_set_size(dev->blocks, 0);
    const struct abi_block *header = abi_header_block(dev->header_type);
    if (header) {
        add_block(dev, header, true, 0, 0, PCI_HEADER_BYTES, 1);
    }
    for (guint i = 0; i < dev->capabilities->len; i++) {
        const struct pci_capability *cap =
            &g_array_index(dev->capabilities, struct pci_capability, i);
        const struct abi_block *abi = abi_capability_block(
            cap->id, (uint16_t)(config[cap->offset + 2] | config[cap->offset + 3] << 8));
        if (abi) {
            add_block(dev, abi, true, 0, cap->offset, MAX(cap->length, 2), 1);
        }
    }
    resolve_msix(dev, config);
    for (unsigned i = 0; dev->abi && i < dev->abi->n_placements; i++) {
        const struct abi_placement *p = &dev->abi->placements[i];
        struct pci_block *block = place_block(dev, config, p);
        if (block) {
            block->when = p->when;
        }
    }
}

/* ---- names ---- */

static unsigned edit_distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    g_autofree unsigned *row = g_new(unsigned, lb + 1);

    for (size_t j = 0; j <= lb; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned up = row[j];
            unsigned change =
                diagonal + (g_ascii_tolower(a[i - 1]) != g_ascii_tolower(b[j - 1]) ? 1 : 0);
            row[j] = MIN(change, MIN(up, row[j - 1]) + 1);
            diagonal = up;
        }
    }
    return row[lb];
}

const char *pci_nearest_name(const char *word, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    unsigned best_distance = (unsigned)(strlen(word) / 2) + 1;
    bool is_near = false;

    for (size_t i = 0; i < n; i++) {
        unsigned d = edit_distance(word, candidates[i]);
        if (d < best_distance) {
            best_distance = d;
            best = candidates[i];
            is_near = true;
        }
    }
    for (size_t i = 0; !is_near && *word && i < n; i++) {
        if (g_str_has_prefix(candidates[i], word) &&
            (!best || strlen(candidates[i]) < strlen(best))) {
            best = candidates[i];
        }
    }
    return best;
}

static void not_found(GError **error, const char *what, const char *where, const char *name,
                      GPtrArray *names)
{
    const char *near = pci_nearest_name(name, (const char *const *)names->pdata, names->len);
    g_autoptr(GString) all = g_string_new(NULL);

    for (guint i = 0; !near && i < names->len; i++) {
        g_string_append_printf(all, "%s%s", i ? ", " : "", (const char *)names->pdata[i]);
    }
    if (near) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "%s has no %s '%s'; did you mean '%s'?",
                    where, what, name, near);
    } else {
        g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "%s has no %s '%s'; it has %s", where,
                    what, name, all->len ? all->str : "none");
    }
}

struct pci_block *pci_find_block(struct pci_device *dev, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < dev->blocks->len; i++) {
        struct pci_block *b = dev->blocks->pdata[i];
        if (strcmp(b->name, name) == 0) {
            return b;
        }
        g_ptr_array_add(names, b->name);
    }
    g_autofree char *where = pci_device_describe(dev);
    not_found(error, "register block", where, name, names);
    return NULL;
}

const struct abi_reg *pci_find_register(const struct pci_block *block, const char *name,
                                        GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (unsigned i = 0; i < block->abi->n_regs; i++) {
        const struct abi_reg *r = &block->abi->regs[i];
        if (strcmp(r->name, name) == 0) {
            return r;
        }
        g_ptr_array_add(names, (gpointer)(uintptr_t)r->name);
    }
    not_found(error, "register", block->name, name, names);
    return NULL;
}

const struct abi_field *pci_find_field(const struct abi_reg *reg, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (unsigned i = 0; i < reg->n_fields; i++) {
        if (strcmp(reg->fields[i].name, name) == 0) {
            return &reg->fields[i];
        }
        g_ptr_array_add(names, (gpointer)(uintptr_t)reg->fields[i].name);
    }
    not_found(error, "bit field", reg->name, name, names);
    return NULL;
}

/* ---- access ---- */

static bool block_access(struct pci_device *dev, const struct pci_block *block, uint32_t offset,
                         unsigned width, bool is_write, uint64_t *value, GError **error)
{
    if (width > block->size || offset > block->size - width) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: %u bytes at offset 0x%x are beyond block '%s' of 0x%x bytes", name, width,
                    offset, block->name, block->size);
        return false;
    }
    if (block->in_config) {
        return is_write ? pci_config_write(dev, block->offset + offset, width, *value, error)
                        : pci_config_read(dev, block->offset + offset, width, value, error);
    }
    return is_write ? pci_bar_write(dev, block->bar, block->offset + offset, width, *value, error)
                    : pci_bar_read(dev, block->bar, block->offset + offset, width, value, error);
}

bool pci_block_read(struct pci_device *dev, const struct pci_block *block, uint32_t offset,
                    unsigned width, uint64_t *value, GError **error)
{
    return block_access(dev, block, offset, width, false, value, error);
}

bool pci_block_write(struct pci_device *dev, const struct pci_block *block, uint32_t offset,
                     unsigned width, uint64_t value, GError **error)
{
    return block_access(dev, block, offset, width, true, &value, error);
}

/* The register's place in its block; an index may count elements of the block or of the register.
 */
static bool reg_offset(const struct pci_block *block, const struct abi_reg *reg, uint32_t index,
                       uint32_t *offset, GError **error)
{
    bool block_repeats = block->abi->stride != 0;
    uint32_t n = block_repeats ? block->count : MAX(reg->count, 1);
    uint32_t stride = block_repeats ? block->abi->stride : reg->stride;

    if (index >= n) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID, "%s.%s has elements 0 to %u, not %u",
                    block->name, reg->name, n - 1, index);
        return false;
    }
    *offset = reg->offset + index * stride;
    return true;
}

/* Ports and configuration space move at most 4 bytes at a time: a register of 8 is two of 4. */
static bool by_halves(struct pci_device *dev, const struct pci_block *block,
                      const struct abi_reg *reg)
{
    return reg->width == 8 && (block->in_config || dev->bars[block->bar].kind == PCI_BAR_IO);
}

bool pci_reg_read(struct pci_device *dev, const struct pci_block *block, const struct abi_reg *reg,
                  uint32_t index, uint64_t *value, GError **error)
{
    uint32_t offset;
    uint64_t low, high;

    if (!reg_offset(block, reg, index, &offset, error)) {
        return false;
    }
    if (!by_halves(dev, block, reg)) {
        return block_access(dev, block, offset, reg->width, false, value, error);
    }
    if (!block_access(dev, block, offset, 4, false, &low, error) ||
        !block_access(dev, block, offset + 4, 4, false, &high, error)) {
        return false;
    }
    *value = low | high << 32;
    return true;
}

bool pci_reg_write(struct pci_device *dev, const struct pci_block *block, const struct abi_reg *reg,
                   uint32_t index, uint64_t value, GError **error)
{
    uint32_t offset;

    if (reg->width < 8 && value >> (8 * reg->width) != 0) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "value 0x%" PRIx64 " is too wide for %s.%s, which has %u bits", value,
                    block->name, reg->name, 8u * reg->width);
        return false;
    }
    if (!reg_offset(block, reg, index, &offset, error)) {
        return false;
    }
    if (!by_halves(dev, block, reg)) {
        return block_access(dev, block, offset, reg->width, true, &value, error);
    }
    uint64_t low = value & 0xffffffff, high = value >> 32;
    return block_access(dev, block, offset, 4, true, &low, error) &&
           block_access(dev, block, offset + 4, 4, true, &high, error);
}

/* ---- decoding for traces ---- */

bool pci_device_decode(struct pci_device *dev, const struct machine_access *access,
                       const struct pci_block **block, const struct abi_reg **reg, uint32_t *index)
{
    for (guint i = 0; i < dev->blocks->len; i++) {
        const struct pci_block *b = dev->blocks->pdata[i];
        if (b->in_config || dev->bars[b->bar].base == 0 ||
            (b->when == ABI_WITH_MSIX && !dev->msix_enabled) ||
            (b->when == ABI_WITHOUT_MSIX && dev->msix_enabled)) {
            continue;
        }
        const struct pci_bar *bar = &dev->bars[b->bar];
        enum machine_space space = bar->kind == PCI_BAR_IO ? MACHINE_IO : MACHINE_MEM;
        uint64_t start = bar->base + b->offset;
        if (access->space != space || access->addr < start || access->addr - start >= b->size) {
            continue;
        }
        uint32_t offset = (uint32_t)(access->addr - start);
        *block = b;
        *reg = pci_block_register_at(b, offset, index);
        return true;
    }
    return false;
}

const struct abi_reg *pci_block_register_at(const struct pci_block *block, uint32_t offset,
                                            uint32_t *index)
{
    uint32_t stride = block->abi->stride;
    uint32_t inside = stride ? offset % stride : offset;

    for (unsigned i = 0; i < block->abi->n_regs; i++) {
        const struct abi_reg *r = &block->abi->regs[i];
        uint32_t step = r->count > 1 ? r->stride : r->width;
        uint32_t length = r->count > 1 ? (uint32_t)r->count * step : r->width;
        if (inside >= r->offset && inside - r->offset < length) {
            *index = stride ? offset / stride : (inside - r->offset) / step;
            return r;
        }
    }
    return NULL;
}
