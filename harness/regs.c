/*
 * The experiments: what is written to each register in turn, what comes back, and the text that
 * says so. Every experiment starts from the state after a reset.
 */
#include "harness/regs_private.h"
#include "models/abi/pci.h"

#include <inttypes.h>
#include <string.h>

/* A value whose bytes all differ, so that it shows which part of a register an access reached. */
#define PATTERN UINT64_C(0xf1e2d3c4b5a69788)

enum { MAX_WIDTH = 8, N_WIDTHS = 4, MAX_RESETS = 4 };

/* What was found out about one register. */
struct finding {
    uint64_t ones, ones_again, zeros_after_ones; /* read after each of these writes */
    uint64_t zeros, ones_after_zeros;
    char *ones_change, *zeros_change; /* other registers that changed */
    uint64_t singles;                 /* bits that stick when written alone */
    bool has_dirty;                   /* there is a value other than the reset value to be had */
    uint64_t dirty, dirty_reads;      /* what to write for it, what then reads back */
    GString *lines;                   /* of the text: after, reads, writes, ends */
};

struct experiment {
    const char *name;
    bool is_writing; /* left out for registers that must not be written at random */
    bool (*run)(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                GError **error);
};

static struct regs_op full_write(const struct regs_target *t, uint64_t value)
{
    return (struct regs_op){t->offset, t->reg->width, true, value & regs_ones(t->reg->width)};
}

static struct regs_op full_read(const struct regs_target *t)
{
    return (struct regs_op){t->offset, t->reg->width, false, 0};
}

static bool settle(struct regs_probe *p, const struct regs_target *t, GError **error)
{
    return regs_settle(p, t->mode, t, error);
}

/* ---- which bits can be written, and how ---- */

static bool write_ones(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                       GError **error)
{
    struct regs_op ones[] = {full_write(t, UINT64_MAX), full_read(t), full_read(t)};
    struct regs_op zeros[] = {full_write(t, 0), full_read(t)};

    if (!regs_run(p, t->block, ones, 3, error) || !regs_scan(p, error))
        return false;
    f->ones = ones[1].value;
    f->ones_again = ones[2].value;
    f->ones_change = regs_changes(p, t);
    if (!regs_run(p, t->block, zeros, 2, error))
        return false;
    f->zeros_after_ones = zeros[1].value;
    return true;
}

static bool write_zeros(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                        GError **error)
{
    struct regs_op zeros[] = {full_write(t, 0), full_read(t)};
    struct regs_op ones[] = {full_write(t, UINT64_MAX), full_read(t)};

    if (!regs_run(p, t->block, zeros, 2, error) || !regs_scan(p, error))
        return false;
    f->zeros = zeros[1].value;
    f->zeros_change = regs_changes(p, t);
    if (!regs_run(p, t->block, ones, 2, error))
        return false;
    f->ones_after_zeros = ones[1].value;
    return true;
}

/* Bits that are as they were written, whatever was written before. */
static uint64_t plain_bits(const struct finding *f)
{
    uint64_t clears = f->ones & ~f->ones_again;

    return f->ones & ~f->zeros & ~f->zeros_after_ones & f->ones_after_zeros & ~clears;
}

/* Registers that check what is written (a queue's size, a vector) refuse all ones but take some. A
 * bit sticks if it is there, and the plain ones among the others are not. */
static bool write_singles(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                          GError **error)
{
    struct regs_op ops[2 * 8 * MAX_WIDTH];
    unsigned n_bits = 8u * t->reg->width;
    uint64_t always = UINT64_MAX; /* bits that read 1 whichever bit was written */

    for (unsigned i = 0; i < n_bits; i++) {
        ops[2 * i] = full_write(t, UINT64_C(1) << i);
        ops[2 * i + 1] = full_read(t);
    }
    if (!regs_run(p, t->block, ops, (size_t)2 * n_bits, error))
        return false;
    for (unsigned i = 0; i < n_bits; i++) {
        uint64_t bit = UINT64_C(1) << i, reads = ops[2 * i + 1].value;

        if ((reads & (bit | plain_bits(f))) == bit)
            f->singles |= bit;
        always &= reads;
    }
    f->singles &= ~(always & regs_settled(p, t));
    return true;
}

/* Looks for a value that takes the register away from what it is after a reset. */
static bool find_dirty(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                       GError **error)
{
    uint64_t reset = regs_settled(p, t);
    uint64_t usable = f->singles & ~reset;
    uint64_t candidates[] = {PATTERN, UINT64_MAX, 0, usable & -usable};

    for (size_t i = 0; i < G_N_ELEMENTS(candidates) && !f->has_dirty; i++) {
        struct regs_op ops[] = {full_write(t, candidates[i]), full_read(t)};

        if (!settle(p, t, error) || !regs_run(p, t->block, ops, 2, error))
            return false;
        f->has_dirty = ops[1].value != reset;
        f->dirty = candidates[i];
        f->dirty_reads = ops[1].value;
    }
    return true;
}

/* ---- what resets restore ---- */

static void put_outcome(GString *line, const struct regs_target *t, const struct finding *f,
                        uint64_t after)
{
    if (after == t->first) {
        g_string_append(line, " restores");
    } else if (after == f->dirty_reads) {
        g_string_append(line, " keeps");
    } else {
        g_string_append(line, " leaves ");
        regs_put(line, t->reg->width, after);
    }
}

static const struct regs_target *find_target(struct regs_probe *p, const char *block,
                                             const char *reg)
{
    for (guint i = 0; i < p->targets->len; i++) {
        const struct regs_target *t = p->targets->pdata[i];
        if (strcmp(t->block->name, block) == 0 && strcmp(t->reg->name, reg) == 0)
            return t;
    }
    return NULL;
}

static bool try_resets(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                       GError **error)
{
    const struct abi_device *abi = p->bed->dev->abi;
    struct regs_op dirty = full_write(t, f->dirty), read = full_read(t);
    g_autoptr(GString) line = g_string_new("  resets    ");

    if (!f->has_dirty)
        return true;
    for (unsigned i = 0; abi && i < abi->n_resets && t->mode != REGS_PLAIN; i++) {
        const struct abi_reset *reset = &abi->resets[i];
        const struct regs_target *by = find_target(p, reset->block, reset->reg);

        if (!by || by == t)
            continue;
        struct regs_op op = full_write(by, reset->value);
        if (!settle(p, t, error) || !regs_run(p, t->block, &dirty, 1, error) ||
            !regs_run(p, by->block, &op, 1, error) || !regs_run(p, t->block, &read, 1, error))
            return false;
        g_string_append_printf(line, "%s = 0x%" PRIx64, by->name, reset->value);
        put_outcome(line, t, f, read.value);
        g_string_append(line, "; ");
    }
    if (!settle(p, t, error) || !regs_run(p, t->block, &dirty, 1, error) ||
        !p->bed->reset(p->bed, false, t->mode, error) || !regs_run(p, t->block, &read, 1, error))
        return false;
    g_string_append(line, "system reset");
    put_outcome(line, t, f, read.value);
    g_string_append_printf(f->lines, "%s (", line->str);
    regs_put(f->lines, t->reg->width, f->dirty_reads);
    g_string_append(f->lines, ")\n");
    return true;
}

/* ---- other widths ---- */

/* The register of the same block at `offset`, if one starts there. */
static const struct regs_target *neighbour(const struct regs_probe *p, const struct regs_target *t,
                                           uint32_t offset)
{
    for (guint i = 0; i < p->targets->len; i++) {
        const struct regs_target *n = p->targets->pdata[i];
        if (n->block == t->block && n->offset == offset)
            return n;
    }
    return NULL;
}

/* Reads [t, t + width) register by register. *is_whole: registers cover all of it. */
static bool read_by_registers(struct regs_probe *p, const struct regs_target *t, unsigned width,
                              uint64_t *value, bool *is_whole, GError **error)
{
    *value = 0;
    *is_whole = true;
    for (unsigned at = 0; at < width;) {
        const struct regs_target *n = neighbour(p, t, t->offset + at);

        if (!n || at + n->reg->width > width) {
            *is_whole = false;
            return true;
        }
        struct regs_op read = full_read(n);
        if (!regs_run(p, n->block, &read, 1, error))
            return false;
        *value |= read.value << (8 * at);
        at += n->reg->width;
    }
    return true;
}

static bool make_dirty(struct regs_probe *p, const struct regs_target *t, const struct finding *f,
                       GError **error)
{
    struct regs_op op = full_write(t, f->dirty);

    return !f->has_dirty || regs_run(p, t->block, &op, 1, error);
}

static bool read_narrow(struct regs_probe *p, const struct regs_target *t, const struct finding *f,
                        unsigned width, GString *line, GError **error)
{
    uint64_t whole = f->has_dirty ? f->dirty_reads : regs_settled(p, t);
    bool is_parts = true;
    g_autoptr(GString) values = g_string_new(NULL);

    for (unsigned at = 0; at < t->reg->width; at += width) {
        struct regs_op read = {t->offset + at, (uint8_t)width, false, 0};

        if (!make_dirty(p, t, f, error) || !regs_run(p, t->block, &read, 1, error))
            return false;
        is_parts = is_parts && read.value == ((whole >> (8 * at)) & regs_ones(width));
        g_string_append_c(values, ' ');
        regs_put(values, width, read.value);
    }
    if (!is_parts)
        g_string_append_printf(line, "%s%u:%s", line->len ? "; " : "", width, values->str);
    return true;
}

static bool read_wide(struct regs_probe *p, const struct regs_target *t, const struct finding *f,
                      unsigned width, GString *line, GError **error)
{
    struct regs_op read = {t->offset, (uint8_t)width, false, 0};
    uint64_t parts;
    bool is_whole;

    if (!make_dirty(p, t, f, error) || !regs_run(p, t->block, &read, 1, error) ||
        !make_dirty(p, t, f, error) || !read_by_registers(p, t, width, &parts, &is_whole, error))
        return false;
    if (is_whole && parts == read.value)
        return true;
    g_string_append_printf(line, "%s%u: ", line->len ? "; " : "", width);
    regs_put(line, width, read.value);
    return true;
}

/* Whether a wider access at this register is aligned and can reach it at all. */
static bool can_widen(const struct regs_probe *p, const struct regs_target *t, unsigned width)
{
    uint32_t at = t->block->offset + t->offset;
    uint64_t room = t->block->in_config ? PCI_CONFIG_BYTES : p->bed->dev->bars[t->block->bar].size;

    return width <= regs_max_width(p, t->block) && at % width == 0 && at + width <= room;
}

/* Only what is out of the ordinary: parts of this register, or this and the ones beside it. */
static void put_widths(GString *lines, const char *what, const GString *line)
{
    if (line->len)
        g_string_append_printf(lines, "  %-9s %s\n", what, line->str);
}

static bool read_widths(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                        GError **error)
{
    g_autoptr(GString) line = g_string_new(NULL);

    for (unsigned width = 1; width <= MAX_WIDTH; width *= 2) {
        if (width == t->reg->width || (width > t->reg->width && !can_widen(p, t, width)))
            continue;
        if (!settle(p, t, error))
            return false;
        if (!(width < t->reg->width ? read_narrow : read_wide)(p, t, f, width, line, error))
            return false;
    }
    put_widths(f->lines, "reads", line);
    return true;
}

/* What to write to a register so that it stays as it is. */
static uint64_t harmless(const struct regs_probe *p, const struct regs_target *t)
{
    bool acts_on_ones =
        t->reg->access == ABI_RW1C || t->reg->access == ABI_RW1S || t->reg->access == ABI_WO;

    return acts_on_ones ? 0 : regs_settled(p, t);
}

/* Writes ones to each part of the register in turn, and compares with a full write that has the
 * same bits. */
static bool write_narrow(struct regs_probe *p, const struct regs_target *t, unsigned width,
                         GString *line, GError **error)
{
    uint64_t reset = regs_settled(p, t);
    bool is_parts = true, is_ignored = true;
    g_autoptr(GString) values = g_string_new(NULL);

    for (unsigned at = 0; at < t->reg->width; at += width) {
        uint64_t mask = regs_ones(width) << (8 * at);
        struct regs_op full[] = {full_write(t, harmless(p, t) | mask), full_read(t)};
        struct regs_op part[] = {{t->offset + at, (uint8_t)width, true, regs_ones(width)},
                                 full_read(t)};

        if (!settle(p, t, error) || !regs_run(p, t->block, full, 2, error) ||
            !settle(p, t, error) || !regs_run(p, t->block, part, 2, error))
            return false;
        is_parts = is_parts && part[1].value == full[1].value;
        is_ignored = is_ignored && part[1].value == reset;
        g_string_append_c(values, ' ');
        regs_put(values, t->reg->width, part[1].value);
    }
    if (!is_parts)
        g_string_append_printf(line, "%s%u:%s", line->len ? "; " : "", width,
                               is_ignored ? " ignored" : values->str);
    return true;
}

/* Ones for this register, and what changes nothing for those beside it. */
static bool write_wide(struct regs_probe *p, const struct regs_target *t, const struct finding *f,
                       unsigned width, GString *line, GError **error)
{
    uint64_t value = regs_ones(t->reg->width);

    for (unsigned at = t->reg->width; at < width;) {
        const struct regs_target *n = neighbour(p, t, t->offset + at);

        if (n && (n->reg->flags & ABI_UNSAFE))
            return true;
        value |= n && at + n->reg->width <= width ? harmless(p, n) << (8 * at) : 0;
        at += n ? n->reg->width : 1;
    }
    struct regs_op ops[] = {{t->offset, (uint8_t)width, true, value}, full_read(t)};
    if (!settle(p, t, error) || !regs_run(p, t->block, ops, 2, error) || !regs_scan(p, error))
        return false;
    g_autofree char *changes = regs_changes(p, t);
    if (ops[1].value == f->ones && g_strcmp0(changes, f->ones_change) == 0)
        return true;
    g_string_append_printf(line, "%s%u: ", line->len ? "; " : "", width);
    regs_put(line, t->reg->width, ops[1].value);
    if (*changes)
        g_string_append_printf(line, " and %s", changes);
    else if (f->ones_change && *f->ones_change)
        g_string_append(line, " and nothing else changes");
    return true;
}

static bool write_widths(struct regs_probe *p, const struct regs_target *t, struct finding *f,
                         GError **error)
{
    g_autoptr(GString) line = g_string_new(NULL);

    for (unsigned width = 1; width <= MAX_WIDTH; width *= 2) {
        bool ok = true;

        if (width < t->reg->width)
            ok = write_narrow(p, t, width, line, error);
        else if (width > t->reg->width && can_widen(p, t, width))
            ok = write_wide(p, t, f, width, line, error);
        if (!ok)
            return false;
    }
    put_widths(f->lines, "writes", line);
    return true;
}

static const struct experiment experiments[] = {
    {"writing ones", true, write_ones},
    {"writing zeros", true, write_zeros},
    {"writing bits", true, write_singles},
    {"writing", true, find_dirty},
    {"resetting", true, try_resets},
    {"reading other widths", false, read_widths},
    {"writing other widths", true, write_widths},
};

/* ---- text ---- */

static void put_bits(GString *text, const struct regs_target *t, const char *name, uint64_t mask)
{
    if (!mask)
        return;
    g_string_append_printf(text, "%s%s ", text->len ? ", " : "", name);
    regs_put(text, t->reg->width, mask);
}

/* Sorts bits by how they answered: v after reset, then after the writes. */
static void put_classes(GString *text, const struct regs_target *t, const struct finding *f,
                        uint64_t v)
{
    uint64_t all = regs_ones(t->reg->width);
    uint64_t o = f->ones, z = f->zeros, oz = f->zeros_after_ones, zo = f->ones_after_zeros;
    uint64_t clears = f->ones & ~f->ones_again;
    uint64_t plain = ~clears & all;
    uint64_t rw = plain_bits(f);
    uint64_t inverted = ~o & z & oz & ~zo & plain;
    uint64_t w1c = v & ~o & z & plain & ~inverted;
    uint64_t w1s = ~v & o & ~z & oz & plain;
    uint64_t w0c = v & ~z & o & ~zo & plain;
    uint64_t w0s = ~v & z & ~o & plain & ~inverted;
    uint64_t fixed = ~(v ^ o) & ~(v ^ z) & ~(v ^ oz) & ~(v ^ zo) & plain;
    uint64_t other = all & ~(clears | rw | inverted | w1c | w1s | w0c | w0s | fixed);
    g_autoptr(GString) classes = g_string_new(NULL);

    put_bits(classes, t, "read/write", rw);
    put_bits(classes, t, "read clears", clears);
    put_bits(classes, t, "write 1 clears", w1c);
    put_bits(classes, t, "write 1 sets", w1s);
    put_bits(classes, t, "write 0 clears", w0c);
    put_bits(classes, t, "write 0 sets", w0s);
    put_bits(classes, t, "inverted", inverted);
    put_bits(classes, t, "other", other);
    /* a register that checks what it is given shows other bits than all ones and zeros do */
    if (f->singles != (f->ones & ~fixed))
        put_bits(classes, t, "one by one", f->singles);
    g_string_append_printf(text, "  bits      %s\n", classes->len ? classes->str : "fixed");
    if (other) {
        g_string_append(text, "  sequence  ones ");
        regs_put(text, t->reg->width, o);
        g_string_append(text, ", then zeros ");
        regs_put(text, t->reg->width, oz);
        g_string_append(text, "; zeros ");
        regs_put(text, t->reg->width, z);
        g_string_append(text, ", then ones ");
        regs_put(text, t->reg->width, zo);
        g_string_append_c(text, '\n');
    }
}

static const char *access_name(enum abi_access access)
{
    static const char *const names[] = {
        [ABI_RO] = "RO",     [ABI_RW] = "RW",     [ABI_WO] = "WO",    [ABI_RC] = "RC",
        [ABI_RW1C] = "RW1C", [ABI_RW1S] = "RW1S", [ABI_RSVD] = "RSVD"};
    return names[access];
}

static void put_register(GString *text, const struct regs_probe *p, const struct regs_target *t,
                         const struct finding *f, bool is_written)
{
    const struct abi_reg *reg = t->reg;
    uint64_t settled = p->settled[t->mode][t->index];

    g_string_append_printf(text, "%s +0x%02x %u %s\n", t->name, t->offset, reg->width,
                           access_name(reg->access));
    if (t->is_volatile) {
        g_string_append(text, "  reset     varies\n");
        return;
    }
    g_string_append(text, "  reset     ");
    regs_put(text, reg->width, t->first);
    if (!(reg->flags & ABI_VARIES) && reg->access != ABI_WO && reg->reset != t->first) {
        g_string_append(text, " (its table says ");
        regs_put(text, reg->width, reg->reset);
        g_string_append_c(text, ')');
    }
    if (settled != t->first) {
        g_string_append(text, ", read again ");
        regs_put(text, reg->width, settled);
    }
    g_string_append_c(text, '\n');
    if (!is_written) {
        g_string_append(text, "  bits      not probed by writing\n");
    } else {
        put_classes(text, t, f, settled);
        if (f->ones_change && *f->ones_change)
            g_string_append_printf(text, "  ones      change %s\n", f->ones_change);
        if (f->zeros_change && *f->zeros_change)
            g_string_append_printf(text, "  zeros     change %s\n", f->zeros_change);
    }
    g_string_append(text, f->lines->str);
}

static bool probe_register(struct regs_probe *p, const struct regs_target *t, GString *text,
                           GError **error)
{
    bool is_written = !(t->reg->flags & ABI_UNSAFE) && !t->is_volatile;
    g_autoptr(GString) lines = g_string_new(NULL);
    struct finding f = {.lines = lines};
    bool ok = true;

    for (size_t i = 0; ok && !t->is_volatile && i < G_N_ELEMENTS(experiments); i++) {
        const struct experiment *e = &experiments[i];
        g_autoptr(GError) cause = NULL;
        g_autofree char *how = NULL;

        if (e->is_writing && !is_written)
            continue;
        ok = settle(p, t, &cause) && e->run(p, t, &f, &cause);
        if (ok) {
            if (e->is_writing && t->reg->access == ABI_WO)
                regs_disturb(p);
            continue;
        }
        ok = regs_revive(p, t->mode, cause, &how, error);
        if (ok)
            g_string_append_printf(lines, "  ends      %s: QEMU %s\n", e->name, how);
    }
    if (ok)
        put_register(text, p, t, &f, is_written);
    g_free(f.ones_change);
    g_free(f.zeros_change);
    return ok;
}

static void put_head(GString *text, const struct regs_probe *p)
{
    const struct pci_device *dev = p->bed->dev;
    static const char *const kinds[] = {"", "ports", "memory, 32 bits", "memory, 64 bits"};

    g_string_append_printf(text, "function  %04x:%04x revision %02x class %06x%s%s\n",
                           dev->vendor_id, dev->device_id, dev->revision, dev->class_code,
                           dev->abi ? " " : " no table", dev->abi ? dev->abi->name : "");
    for (unsigned i = 0; i < PCI_N_BARS; i++)
        if (dev->bars[i].size)
            g_string_append_printf(text, "bar %u     0x%" PRIx64 " bytes of %s%s\n", i,
                                   dev->bars[i].size, kinds[dev->bars[i].kind],
                                   dev->bars[i].prefetchable ? ", prefetchable" : "");
    for (guint i = 0; i < dev->capabilities->len; i++) {
        const struct pci_capability *cap =
            &g_array_index(dev->capabilities, struct pci_capability, i);
        g_string_append_printf(text, "cap 0x%02x  at 0x%02x\n", cap->id, cap->offset);
    }
    for (guint i = 0; i < p->blocks->len; i++) {
        const struct pci_block *block = p->blocks->pdata[i];
        g_autofree char *where = block->in_config ? g_strdup("configuration space")
                                                  : g_strdup_printf("BAR %u", block->bar);
        g_string_append_printf(text, "block     %s: %s + 0x%x, 0x%x bytes\n", block->name, where,
                               block->offset, block->size);
    }
}

char *regs_snapshot(struct regs_bed *bed, const struct regs_options *options, GError **error)
{
    struct regs_probe *p = regs_probe_new(bed, options, error);
    g_autoptr(GString) text = g_string_new(NULL);
    bool ok = p != NULL;

    if (ok)
        put_head(text, p);
    for (guint i = 0; ok && i < p->targets->len; i++) {
        const struct regs_target *t = p->targets->pdata[i];

        if (!t->is_probed)
            continue;
        g_string_append_c(text, '\n');
        ok = probe_register(p, t, text, error);
    }
    ok = ok && regs_probe_gaps(p, text, error) && regs_probe_ends(p, text, error);
    regs_probe_free(p);
    return ok ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}
