/*
 * The registers of a device under test as a list, accesses to them, and the way back to the state
 * after a reset.
 */
#include "harness/regs_private.h"
#include "models/abi/pci.h"

#include <inttypes.h>
#include <string.h>

G_DEFINE_QUARK(regs - error - quark, regs_error)

enum {
    RAW_DWORDS = 64,
    MAX_CHANGES = 6,
    MAX_WATCHED = 16, /* elements of an array; of a longer one, only this many and the last */
};

uint64_t regs_ones(unsigned width)
{
    return width >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * width)) - 1;
}

void regs_put(GString *text, unsigned width, uint64_t value)
{
    g_string_append_printf(text, "0x%0*" PRIx64, (int)(2 * width), value);
}

static bool is_port(const struct regs_probe *p, const struct pci_block *block)
{
    return !block->in_config && p->bed->dev->bars[block->bar].kind == PCI_BAR_IO;
}

unsigned regs_max_width(const struct regs_probe *p, const struct pci_block *block)
{
    return block->in_config || is_port(p, block) ? 4 : 8;
}

/* ---- accesses ---- */

/* One access, as ports or memory. For configuration space the address goes first, unless the access
 * before was to the same dword. Returns how many were added. */
static unsigned add_access(const struct regs_probe *p, const struct pci_block *block,
                           const struct regs_op *op, unsigned part, unsigned width,
                           uint32_t *config_dword, GArray *accesses)
{
    const struct pci_device *dev = p->bed->dev;
    uint32_t at = block->offset + op->offset + part;
    struct machine_access a = {.is_write = op->is_write, .width = (uint8_t)width};
    unsigned n = 1;

    if (block->in_config) {
        struct machine_access address = {
            .is_write = true,
            .width = 4,
            .space = MACHINE_IO,
            .addr = PCI_CONFIG_ADDRESS_PORT,
            .value = PCI_CONFIG_ADDRESS(dev->bus, dev->slot, dev->function, at)};
        if (*config_dword != at / 4) {
            g_array_append_val(accesses, address);
            n++;
        }
        *config_dword = at / 4;
        a.space = MACHINE_IO;
        a.addr = PCI_CONFIG_DATA_PORT + (at & 3);
    } else {
        a.space = is_port(p, block) ? MACHINE_IO : MACHINE_MEM;
        a.addr = dev->bars[block->bar].base + at;
    }
    if (op->is_write)
        a.value = (op->value >> (8 * part)) & regs_ones(width);
    g_array_append_val(accesses, a);
    return n;
}

bool regs_run(struct regs_probe *p, const struct pci_block *block, struct regs_op *ops, size_t n,
              GError **error)
{
    g_autoptr(GArray) accesses = g_array_new(FALSE, FALSE, sizeof(struct machine_access));
    g_autofree guint *ends = g_new(guint, 2 * n); /* of the accesses of each half of each op */
    unsigned max = regs_max_width(p, block);
    uint32_t config_dword = UINT32_MAX;
    guint end = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned width = MIN(max, ops[i].width);

        end += add_access(p, block, &ops[i], 0, width, &config_dword, accesses);
        ends[2 * i] = end;
        if (width < ops[i].width)
            end += add_access(p, block, &ops[i], width, width, &config_dword, accesses);
        ends[2 * i + 1] = end;
    }
    struct machine_access *a = (struct machine_access *)(void *)accesses->data;
    p->is_touched = true;
    if (!machine_run(p->bed->dev->machine, a, accesses->len, error))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (ops[i].is_write)
            continue;
        ops[i].value = a[ends[2 * i] - 1].value;
        if (ends[2 * i + 1] != ends[2 * i])
            ops[i].value |= a[ends[2 * i + 1] - 1].value << (8 * max);
    }
    return true;
}

/* ---- the list ---- */

static void target_free(gpointer data)
{
    struct regs_target *t = data;

    g_free(t->name);
    g_free(t);
}

static enum regs_mode mode_of(const struct pci_block *block)
{
    if (block->in_config && block->offset == 0)
        return REGS_PLAIN;
    return block->when == ABI_WITH_MSIX ? REGS_MSIX : REGS_ENABLED;
}

static void add_target(struct regs_probe *p, const struct pci_block *block,
                       const struct abi_reg *reg, uint32_t index, uint32_t count, uint32_t stride)
{
    bool is_edge = index == 0 || index + 1 == count;

    if (!is_edge && (reg->access == ABI_WO || index >= MAX_WATCHED))
        return;
    struct regs_target *t = g_new0(struct regs_target, 1);
    t->block = block;
    t->reg = reg;
    t->offset = reg->offset + index * stride;
    t->name = count > 1 ? g_strdup_printf("%s.%s[%u]", block->name, reg->name, index)
                        : g_strdup_printf("%s.%s", block->name, reg->name);
    t->mode = mode_of(block);
    t->is_probed = is_edge;
    t->index = p->targets->len;
    t->is_volatile = reg->flags & ABI_VOLATILE;
    p->has_mode[t->mode] = true;
    g_ptr_array_add(p->targets, t);
}

static void add_block(struct regs_probe *p, struct pci_block *block)
{
    uint32_t stride = block->abi->stride;

    g_ptr_array_add(p->blocks, block);
    for (uint32_t element = 0; element < (stride ? block->count : 1); element++) {
        for (unsigned i = 0; i < block->abi->n_regs; i++) {
            const struct abi_reg *reg = &block->abi->regs[i];

            if (reg->offset + (uint32_t)(reg->count - 1) * reg->stride + reg->width > block->size)
                continue; /* this device's block is shorter than the table */
            if (stride)
                add_target(p, block, reg, element, block->count, stride);
            for (uint32_t k = 0; !stride && k < reg->count; k++)
                add_target(p, block, reg, k, reg->count, reg->stride);
        }
    }
}

/* A BAR of a device without a table: its first dwords, named by their offsets. */
static void add_raw_bar(struct regs_probe *p, unsigned bar)
{
    unsigned max = p->options->raw_dwords ? p->options->raw_dwords : RAW_DWORDS;
    uint64_t size = p->bed->dev->bars[bar].size;
    unsigned n = (unsigned)MIN((uint64_t)max, MAX(size / 4, 1));
    struct abi_reg *regs = g_new0(struct abi_reg, n);
    struct abi_block *abi = g_new0(struct abi_block, 1);
    struct pci_block *block = g_new0(struct pci_block, 1);

    for (unsigned i = 0; i < n; i++) {
        char *name = g_strdup_printf("dword_0x%02x", 4 * i);
        regs[i] = (struct abi_reg){.name = name,
                                   .offset = 4 * i,
                                   .width = 4,
                                   .access = ABI_RW,
                                   .flags = ABI_VARIES,
                                   .count = 1,
                                   .what = "unknown"};
        g_ptr_array_add(p->owned, name);
    }
    block->name = g_strdup_printf("bar%u", bar);
    abi->name = block->name;
    abi->what = "no table for this device";
    abi->regs = regs;
    abi->n_regs = (uint16_t)n;
    block->abi = abi;
    block->bar = (uint8_t)bar;
    block->size = 4 * n;
    block->count = 1;
    g_ptr_array_add(p->owned, regs);
    g_ptr_array_add(p->owned, abi);
    g_ptr_array_add(p->owned, block->name);
    g_ptr_array_add(p->owned, block);
    add_block(p, block);
}

static void list_registers(struct regs_probe *p)
{
    struct pci_device *dev = p->bed->dev;
    bool is_decoded[PCI_N_BARS] = {false};

    /* copies: a restart makes a new function with blocks of its own */
    for (guint i = 0; i < dev->blocks->len; i++) {
        struct pci_block *block = g_memdup2(dev->blocks->pdata[i], sizeof(*block));

        block->name = g_strdup(block->name);
        g_ptr_array_add(p->owned, block->name);
        g_ptr_array_add(p->owned, block);
        if (!block->in_config)
            is_decoded[block->bar] = true;
        add_block(p, block);
    }
    for (unsigned bar = 0; !dev->abi && bar < PCI_N_BARS; bar++)
        if (dev->bars[bar].size && !is_decoded[bar])
            add_raw_bar(p, bar);
    for (unsigned bar = 0; bar < PCI_N_BARS; bar++)
        p->has_mode[REGS_ENABLED] |= dev->bars[bar].size != 0;
}

/* ---- states ---- */

static bool is_there(const struct regs_probe *p, const struct regs_target *t)
{
    if (p->mode == REGS_PLAIN)
        return t->block->in_config;
    return t->block->when != (p->mode == REGS_MSIX ? ABI_WITHOUT_MSIX : ABI_WITH_MSIX);
}

bool regs_is_watched(const struct regs_probe *p, guint i)
{
    const struct regs_target *t = p->targets->pdata[i];

    return !t->is_volatile && is_there(p, t);
}

bool regs_scan(struct regs_probe *p, GError **error)
{
    g_autofree struct regs_op *ops = g_new0(struct regs_op, p->targets->len);
    guint i = 0;

    /* one batch per block: targets of a block follow each other */
    while (i < p->targets->len) {
        const struct pci_block *block = ((struct regs_target *)p->targets->pdata[i])->block;
        guint first = i;
        size_t n = 0;

        for (; i < p->targets->len; i++) {
            const struct regs_target *t = p->targets->pdata[i];
            if (t->block != block)
                break;
            ops[n++] = (struct regs_op){.offset = t->offset, .width = t->reg->width};
        }
        if (!is_there(p, p->targets->pdata[first]))
            continue;
        if (!regs_run(p, block, ops, n, error))
            return false;
        for (size_t k = 0; k < n; k++)
            p->seen[first + k] = ops[k].value;
    }
    return true;
}

/* Judges by the last scan. */
static bool looks_settled(struct regs_probe *p)
{
    for (guint i = 0; i < p->targets->len; i++)
        if (regs_is_watched(p, i) && p->seen[i] != p->settled[p->mode][i])
            return false;
    p->is_touched = false;
    return true;
}

uint64_t regs_settled(const struct regs_probe *p, const struct regs_target *target)
{
    return p->settled[p->mode][target->index];
}

char *regs_changes(const struct regs_probe *p, const struct regs_target *except)
{
    GString *text = g_string_new(NULL);
    unsigned n = 0;

    for (guint i = 0; i < p->targets->len; i++) {
        const struct regs_target *t = p->targets->pdata[i];
        uint64_t before = p->settled[p->mode][i];

        if (t == except || !regs_is_watched(p, i) || p->seen[i] == before)
            continue;
        if (n++ >= MAX_CHANGES)
            continue;
        g_string_append_printf(text, "%s%s ", n > 1 ? ", " : "", t->name);
        regs_put(text, t->reg->width, before);
        g_string_append(text, " -> ");
        regs_put(text, t->reg->width, p->seen[i]);
    }
    if (n > MAX_CHANGES)
        g_string_append_printf(text, " and %u more", n - MAX_CHANGES);
    return g_string_free(text, FALSE);
}

/* A reset; then everything is read twice, since a read may clear something. */
static bool reset(struct regs_probe *p, bool is_restart, enum regs_mode mode, GError **error)
{
    if (!p->bed->reset(p->bed, is_restart, mode, error))
        return false;
    p->mode = mode;
    p->is_disturbed = false;
    if (!regs_scan(p, error))
        return false;
    return regs_scan(p, error);
}

void regs_disturb(struct regs_probe *p)
{
    p->is_disturbed = true;
}

/* Registers that read back inverted take the inverse. */
static bool write_back(struct regs_probe *p, const struct regs_target *t, GError **error)
{
    uint64_t settled = regs_settled(p, t), inverse = ~settled & regs_ones(t->reg->width);
    struct regs_op ops[] = {{t->offset, t->reg->width, true, settled},
                            {t->offset, t->reg->width, false, 0}};

    if (!regs_run(p, t->block, ops, 2, error))
        return false;
    if (ops[1].value != inverse)
        return true;
    ops[0].value = inverse;
    return regs_run(p, t->block, ops, 1, error);
}

bool regs_settle(struct regs_probe *p, enum regs_mode mode, const struct regs_target *target,
                 GError **error)
{
    if (p->mode == mode && !p->is_disturbed) {
        if (!p->is_touched)
            return true;
        if (target && !(target->reg->flags & ABI_UNSAFE) && !write_back(p, target, error))
            return false;
        if (!regs_scan(p, error))
            return false;
        if (looks_settled(p))
            return true;
    }
    if (!reset(p, false, mode, error))
        return false;
    if (looks_settled(p))
        return true;
    if (!reset(p, true, mode, error))
        return false;
    if (looks_settled(p))
        return true;
    g_autofree char *changes = regs_changes(p, NULL);
    g_set_error(error, REGS_ERROR, REGS_ERROR_UNSTABLE,
                "the device does not come back to the state it had after a reset: %s", changes);
    return false;
}

bool regs_revive(struct regs_probe *p, enum regs_mode mode, const GError *cause, char **how,
                 GError **error)
{
    *how = p->bed->ended(p->bed);
    if (!*how && g_error_matches(cause, QTEST_ERROR, QTEST_ERROR_TIMEOUT))
        *how = g_strdup("does not answer");
    if (!*how) {
        g_propagate_error(error, g_error_copy(cause));
        return false;
    }
    return reset(p, true, mode, error);
}

/* ---- what a reset leaves ---- */

/* Reads the state after a reset in each mode. The second time it only looks for what differs. */
static bool learn(struct regs_probe *p, bool is_second, GError **error)
{
    for (enum regs_mode mode = 0; mode < REGS_N_MODES; mode++) {
        if (!p->has_mode[mode])
            continue;
        if (!p->bed->reset(p->bed, true, mode, error))
            return false;
        p->mode = mode;
        for (unsigned pass = 0; pass < 2; pass++) {
            if (!regs_scan(p, error))
                return false;
            for (guint i = 0; i < p->targets->len; i++) {
                struct regs_target *t = p->targets->pdata[i];
                uint64_t *value = pass ? &p->settled[mode][i] : &t->first;

                if (!is_there(p, t) || (!pass && t->mode != mode))
                    continue;
                if (is_second && *value != p->seen[i])
                    t->is_volatile = true;
                *value = p->seen[i];
            }
        }
    }
    return true;
}

struct regs_probe *regs_probe_new(struct regs_bed *bed, const struct regs_options *options,
                                  GError **error)
{
    struct regs_probe *p = g_new0(struct regs_probe, 1);

    p->bed = bed;
    p->options = options;
    p->blocks = g_ptr_array_new();
    p->owned = g_ptr_array_new_with_free_func(g_free);
    p->targets = g_ptr_array_new_with_free_func(target_free);
    list_registers(p);
    for (enum regs_mode mode = 0; mode < REGS_N_MODES; mode++)
        p->settled[mode] = g_new0(uint64_t, p->targets->len + 1);
    p->seen = g_new0(uint64_t, p->targets->len + 1);
    if (learn(p, false, error) && learn(p, true, error))
        return p;
    regs_probe_free(p);
    return NULL;
}

void regs_probe_free(struct regs_probe *p)
{
    if (!p)
        return;
    for (enum regs_mode mode = 0; mode < REGS_N_MODES; mode++)
        g_free(p->settled[mode]);
    g_free(p->seen);
    g_ptr_array_unref(p->targets);
    g_ptr_array_unref(p->blocks);
    g_ptr_array_unref(p->owned);
    g_free(p);
}
