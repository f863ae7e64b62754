/*
 * What no register claims: the bytes between and after the registers of a block, the rest of
 * configuration space, and accesses across and beyond the end of each BAR.
 */
#include "harness/regs_private.h"
#include "models/abi/pci.h"

#include <inttypes.h>
#include <string.h>

enum {
    MAX_GAP = 4096, /* longer ones are looked at where they start and end */
    EDGE_BYTES = 256,
    MAX_RUNS = 12, /* per block */
    MAX_WIDTH = 8,
};

/* Some bytes of a gap that read alike. */
struct run {
    uint32_t offset, end;
    uint8_t width;
    uint64_t value;
};

/* The widest access of 1, 2 or 4 bytes that is aligned at `at` and ends by `end`. */
static uint8_t natural_width(uint32_t at, uint32_t end)
{
    uint8_t width = 4;

    while (width > 1 && (at % width || at + width > end))
        width /= 2;
    return width;
}

static bool read_gap(struct regs_probe *p, const struct pci_block *block, uint32_t start,
                     uint32_t end, GArray *runs, GError **error)
{
    g_autoptr(GArray) reads = g_array_new(FALSE, FALSE, sizeof(struct regs_op));

    for (uint32_t at = start; at < end;) {
        struct regs_op op = {at, natural_width(block->offset + at, block->offset + end), false, 0};
        g_array_append_val(reads, op);
        at += op.width;
    }
    if (!regs_run(p, block, (struct regs_op *)(void *)reads->data, reads->len, error))
        return false;
    for (guint i = 0; i < reads->len; i++) {
        const struct regs_op *op = &g_array_index(reads, struct regs_op, i);
        struct run *last = runs->len ? &g_array_index(runs, struct run, runs->len - 1) : NULL;

        if (last && last->end == op->offset && last->width == op->width &&
            last->value == op->value) {
            last->end = op->offset + op->width;
        } else {
            struct run run = {op->offset, op->offset + op->width, op->width, op->value};
            g_array_append_val(runs, run);
        }
    }
    return true;
}

/* Writes ones where a run starts and tells what came of it. */
static bool put_run(struct regs_probe *p, const struct pci_block *block, enum regs_mode mode,
                    const struct run *run, GString *text, GError **error)
{
    struct regs_op ops[] = {{run->offset, run->width, true, regs_ones(run->width)},
                            {run->offset, run->width, false, 0}};
    g_autoptr(GError) cause = NULL;
    g_autofree char *how = NULL;

    g_string_append_printf(text, "  +0x%02x..0x%02x  reads ", run->offset, run->end - 1);
    regs_put(text, run->width, run->value);
    if (!regs_settle(p, mode, NULL, &cause) || !regs_run(p, block, ops, 2, &cause) ||
        !regs_scan(p, &cause)) {
        if (!regs_revive(p, mode, cause, &how, error))
            return false;
        g_string_append_printf(text, ", writing ones: QEMU %s\n", how);
        return true;
    }
    g_autofree char *changes = regs_changes(p, NULL);
    if (ops[1].value == run->value) {
        g_string_append(text, ", ignores writes");
    } else {
        g_string_append(text, ", after ones ");
        regs_put(text, run->width, ops[1].value);
    }
    g_string_append_printf(text, "%s%s\n", *changes ? ", changes " : "", changes);
    regs_disturb(p);
    return true;
}

/* Marks the bytes that registers of `block` cover, from `base` on. */
static void mark_registers(const struct pci_block *block, uint32_t base, bool *used, uint32_t size)
{
    for (unsigned i = 0; i < block->abi->n_regs; i++) {
        const struct abi_reg *reg = &block->abi->regs[i];

        for (unsigned element = 0; element < reg->count; element++) {
            uint32_t at = base + reg->offset + element * reg->stride;
            for (unsigned k = 0; k < reg->width && at + k < size; k++)
                used[at + k] = true;
        }
    }
}

/* Bytes of a block (or of configuration space) that no register covers, as (start, end) pairs. */
static GArray *find_gaps(const struct regs_probe *p, const struct pci_block *block, bool is_config)
{
    g_autofree bool *used = g_new0(bool, block->size);
    GArray *gaps = g_array_new(FALSE, FALSE, sizeof(uint32_t));

    if (!is_config)
        mark_registers(block, 0, used, block->size);
    for (guint i = 0; is_config && i < p->blocks->len; i++) {
        const struct pci_block *b = p->blocks->pdata[i];
        if (b->in_config)
            mark_registers(b, b->offset, used, block->size);
    }
    for (uint32_t at = 0; at < block->size; at++) {
        bool is_inside = gaps->len % 2 != 0;
        if (used[at] == is_inside)
            g_array_append_val(gaps, at);
    }
    if (gaps->len % 2)
        g_array_append_val(gaps, block->size);
    return gaps;
}

static bool probe_block_gaps(struct regs_probe *p, const struct pci_block *block, bool is_config,
                             GString *text, GError **error)
{
    enum regs_mode mode = is_config                      ? REGS_PLAIN
                          : block->when == ABI_WITH_MSIX ? REGS_MSIX
                                                         : REGS_ENABLED;
    g_autoptr(GArray) gaps = find_gaps(p, block, is_config);
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(struct run));

    if (!regs_settle(p, mode, NULL, error))
        return false;
    for (guint i = 0; i + 1 < gaps->len; i += 2) {
        uint32_t start = g_array_index(gaps, uint32_t, i);
        uint32_t end = g_array_index(gaps, uint32_t, i + 1);
        bool is_long = end - start > MAX_GAP;

        if (!read_gap(p, block, start, is_long ? start + EDGE_BYTES : end, runs, error) ||
            (is_long && !read_gap(p, block, end - EDGE_BYTES, end, runs, error)))
            return false;
    }
    if (runs->len)
        g_string_append_printf(text, "\n%s between registers\n", block->name);
    for (guint i = 0; i < MIN(runs->len, (guint)MAX_RUNS); i++)
        if (!put_run(p, block, mode, &g_array_index(runs, struct run, i), text, error))
            return false;
    if (runs->len > MAX_RUNS)
        g_string_append_printf(text, "  and %u more\n", runs->len - MAX_RUNS);
    return true;
}

bool regs_probe_gaps(struct regs_probe *p, GString *text, GError **error)
{
    struct pci_block config = {.name = (char *)(uintptr_t) "configuration space",
                               .in_config = true,
                               .size = PCI_CONFIG_BYTES};

    if (!probe_block_gaps(p, &config, true, text, error))
        return false;
    for (guint i = 0; i < p->blocks->len; i++) {
        const struct pci_block *block = p->blocks->pdata[i];

        if (!block->in_config && !block->abi->stride &&
            !probe_block_gaps(p, block, false, text, error))
            return false;
    }
    return true;
}

/* ---- where a BAR ends ---- */

enum place { LAST, ACROSS, BEYOND }; /* the last bytes, from the last byte on, past the end */

static bool put_reads(struct regs_probe *p, const struct pci_block *end, enum place place,
                      GString *text, GError **error)
{
    static const char *const names[] = {"last", "across", "beyond"};
    unsigned first = place == ACROSS ? 2 : 1;

    g_string_append_printf(text, "  %-9s", names[place]);
    for (unsigned width = first; width <= regs_max_width(p, end); width *= 2) {
        uint32_t back = place == LAST ? width : place == ACROSS ? 1 : 0;
        struct regs_op op = {end->size - back, (uint8_t)width, false, 0};

        if (!regs_settle(p, REGS_ENABLED, NULL, error) || !regs_run(p, end, &op, 1, error))
            return false;
        g_string_append_printf(text, "%s%u: ", width > first ? "; " : " ", width);
        regs_put(text, width, op.value);
    }
    g_string_append_c(text, '\n');
    return true;
}

/* Ones across the end: whether anything the tables know changes. */
static bool put_writes(struct regs_probe *p, const struct pci_block *end, GString *text,
                       GError **error)
{
    for (unsigned width = 2; width <= regs_max_width(p, end); width *= 2) {
        struct regs_op op = {end->size - 1, (uint8_t)width, true, regs_ones(width)};

        if (!regs_settle(p, REGS_ENABLED, NULL, error) || !regs_run(p, end, &op, 1, error) ||
            !regs_scan(p, error))
            return false;
        g_autofree char *changes = regs_changes(p, NULL);
        g_string_append_printf(text, "%s%u: %s", width == 2 ? "  write     " : "; ", width,
                               *changes ? changes : "nothing changes");
        regs_disturb(p);
    }
    g_string_append_c(text, '\n');
    return true;
}

static bool put_end(struct regs_probe *p, unsigned bar, GString *text, GError **error)
{
    uint64_t size = p->bed->dev->bars[bar].size;
    struct pci_block end = {.bar = (uint8_t)bar, .size = (uint32_t)size};

    if (size > UINT32_MAX)
        return true;
    g_string_append_printf(text, "\nbar %u end\n", bar);
    return put_reads(p, &end, LAST, text, error) && put_reads(p, &end, ACROSS, text, error) &&
           put_reads(p, &end, BEYOND, text, error) && put_writes(p, &end, text, error);
}

bool regs_probe_ends(struct regs_probe *p, GString *text, GError **error)
{
    for (unsigned bar = 0; bar < PCI_N_BARS; bar++) {
        g_autoptr(GError) cause = NULL;
        g_autofree char *how = NULL;

        if (!p->bed->dev->bars[bar].size || put_end(p, bar, text, &cause))
            continue;
        if (!regs_revive(p, REGS_ENABLED, cause, &how, error))
            return false;
        g_string_append_printf(text, "  QEMU %s\n", how);
    }
    return true;
}
