/*
 * A probe as text: one line per function, then each function that was read with its BARs,
 * capabilities and registers in aligned columns.
 */
#include "harness/probe.h"

#include "models/abi/pci_names.h"

#include <inttypes.h>
#include <string.h>

enum {
    TEXT_COLUMNS = 100,
    MAX_MATRIX_REGS = 8, /* a repeating block with more registers is not shown as a table */
    MAX_BYTE_STRING = 8,
};

struct text {
    FILE *out;
    const char *bold, *dim, *plain; /* escape sequences, or "" */
};

/* ---- small things ---- */

static char *format_size(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;
    while (unit + 1 < G_N_ELEMENTS(units) && bytes >= 1024 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    return g_strdup_printf("%" PRIu64 " %s", bytes, units[unit]);
}

/* All digits of its width, so that values of a column line up. */
static char *format_value(uint64_t value, unsigned width_bytes)
{
    return g_strdup_printf("0x%0*" PRIx64, (int)(2 * width_bytes), value);
}

static char *format_place(const struct pci_block *block)
{
    if (block->in_config)
        return g_strdup_printf("configuration space at 0x%02x", block->offset);
    return g_strdup_printf("BAR %u at 0x%x", block->bar, block->offset);
}

/* Words separated by ", ", broken at TEXT_COLUMNS; every line starts with `indent` blanks. */
static void print_wrapped(const struct text *text, const char *lead, GPtrArray *words,
                          unsigned indent)
{
    g_autoptr(GString) line = g_string_new(lead);
    for (guint i = 0; i < words->len; i++) {
        const char *word = g_ptr_array_index(words, i);
        if (i > 0 && indent + line->len + 2 + strlen(word) > TEXT_COLUMNS) {
            fprintf(text->out, "%*s%s%s,%s\n", (int)indent, "", text->dim, line->str, text->plain);
            g_string_printf(line, "%*s", (int)strlen(lead), "");
        } else if (i > 0) {
            g_string_append(line, ", ");
        }
        g_string_append(line, word);
    }
    fprintf(text->out, "%*s%s%s%s\n", (int)indent, "", text->dim, line->str, text->plain);
}

/* ---- registers ---- */

struct columns {
    int offset, name, value;
};

/* Bytes in a row (a MAC address) are shown as such: "52:54:00:12:34:56". */
static bool is_byte_string(const struct abi_reg *reg)
{
    return reg->width == 1 && reg->stride == 1 && reg->count > 1 && reg->count <= MAX_BYTE_STRING;
}

static struct columns measure(const struct probe_block *block)
{
    struct columns columns = {3, 0, 4};
    for (uint64_t size = block->block->size - 1u; size >> (4 * columns.offset);)
        columns.offset++;
    for (unsigned i = 0; i < block->block->abi->n_regs; i++) {
        const struct abi_reg *reg = &block->block->abi->regs[i];
        int name = (int)strlen(reg->name);
        if (reg->count > 1)
            name += snprintf(NULL, 0, "[%u-%u]", 0u, reg->count - 1u);
        columns.name = MAX(columns.name, name);
        if (block->values[i])
            columns.value =
                MAX(columns.value, is_byte_string(reg) ? 3 * reg->count - 1 : 2 + 2 * reg->width);
    }
    return columns;
}

static void print_fields(const struct text *text, const struct abi_reg *reg, uint64_t value,
                         unsigned indent)
{
    g_autoptr(GPtrArray) clear = g_ptr_array_new();
    int name_width = 0;
    for (unsigned i = 0; i < reg->n_fields; i++)
        name_width = MAX(name_width, (int)strlen(reg->fields[i].name));
    for (unsigned i = 0; i < reg->n_fields; i++) {
        const struct abi_field *field = &reg->fields[i];
        uint64_t bits = probe_field_value(field, value);
        if (field->bits == 1 && bits == 0) {
            g_ptr_array_add(clear, (gpointer)(guintptr)field->name);
            continue;
        }
        g_autofree char *where =
            field->bits == 1
                ? g_strdup_printf("[%u]", field->lsb)
                : g_strdup_printf("[%u:%u]", field->lsb + field->bits - 1u, (unsigned)field->lsb);
        g_autofree char *shown =
            bits < 10 ? g_strdup_printf("%" PRIu64, bits) : g_strdup_printf("0x%" PRIx64, bits);
        fprintf(text->out, "%*s%-7s %-*s = %-6s %s%s%s\n", (int)indent, "", where, name_width,
                field->name, shown, text->dim, field->what, text->plain);
    }
    if (clear->len > 0)
        print_wrapped(text, "clear:  ", clear, indent);
}

static void print_row(const struct text *text, const struct columns *columns, uint32_t offset,
                      const char *name, const struct abi_reg *reg, const char *value)
{
    fprintf(text->out, "    0x%0*x  %-*s  %-4s  %-*s  %s%s%s\n", columns->offset, offset,
            columns->name, name, probe_access_name(reg->access), columns->value, value, text->dim,
            reg->what, text->plain);
}

/* Elements of an array register; equal neighbours are one row. */
static void print_elements(const struct text *text, const struct columns *columns,
                           const struct abi_reg *reg, const GArray *values)
{
    for (guint first = 0, next; first < values->len; first = next) {
        uint64_t value = g_array_index(values, uint64_t, first);
        for (next = first + 1; next < values->len; next++) {
            if (g_array_index(values, uint64_t, next) != value)
                break;
        }
        g_autofree char *name = next - first == 1
                                    ? g_strdup_printf("%s[%u]", reg->name, first)
                                    : g_strdup_printf("%s[%u-%u]", reg->name, first, next - 1);
        g_autofree char *shown = format_value(value, reg->width);
        print_row(text, columns, reg->offset + first * reg->stride, name, reg, shown);
    }
}

static void print_bytes(const struct text *text, const struct columns *columns,
                        const struct abi_reg *reg, const GArray *values)
{
    g_autoptr(GString) shown = g_string_new(NULL);
    for (guint i = 0; i < values->len; i++)
        g_string_append_printf(shown, "%s%02x", i ? ":" : "",
                               (unsigned)g_array_index(values, uint64_t, i));
    g_autofree char *name = g_strdup_printf("%s[0-%u]", reg->name, values->len - 1);
    print_row(text, columns, reg->offset, name, reg, shown->str);
}

static void print_registers(const struct text *text, const struct probe_block *block)
{
    const struct abi_block *abi = block->block->abi;
    struct columns columns = measure(block);
    for (unsigned i = 0; i < abi->n_regs; i++) {
        const struct abi_reg *reg = &abi->regs[i];
        const GArray *values = block->values[i];
        if (!values) {
            if (reg->access == ABI_WO && reg->offset < block->block->size)
                print_row(text, &columns, reg->offset, reg->name, reg, "-");
            continue;
        }
        if (is_byte_string(reg)) {
            print_bytes(text, &columns, reg, values);
            continue;
        }
        if (values->len > 1) {
            print_elements(text, &columns, reg, values);
            continue;
        }
        uint64_t value = g_array_index(values, uint64_t, 0);
        g_autofree char *shown = format_value(value, reg->width);
        print_row(text, &columns, reg->offset, reg->name, reg, shown);
        if (reg->n_fields)
            print_fields(text, reg, value, 11);
    }
}

/* ---- blocks that repeat: one row per element, one column per register ---- */

static bool are_rows_equal(const struct probe_block *block, guint a, guint b)
{
    for (unsigned i = 0; i < block->block->abi->n_regs; i++) {
        const GArray *values = block->values[i];
        if (values && g_array_index(values, uint64_t, a) != g_array_index(values, uint64_t, b))
            return false;
    }
    return true;
}

static int matrix_width(const struct abi_reg *reg)
{
    return MAX((int)strlen(reg->name), 2 + 2 * reg->width);
}

/* Registers that nothing can be read from have no column. */
static void print_matrix_row(const struct text *text, const struct probe_block *block, guint first,
                             guint last)
{
    const struct abi_block *abi = block->block->abi;
    g_autofree char *index =
        first == last ? g_strdup_printf("%u", first) : g_strdup_printf("%u-%u", first, last);
    g_autoptr(GString) line = g_string_new(NULL);
    g_string_append_printf(line, "    %-7s", index);
    for (unsigned i = 0; i < abi->n_regs; i++) {
        const struct abi_reg *reg = &abi->regs[i];
        if (!block->values[i])
            continue;
        g_autofree char *value =
            format_value(g_array_index(block->values[i], uint64_t, first), reg->width);
        g_string_append_printf(line, "  %-*s", matrix_width(reg), value);
    }
    fprintf(text->out, "%s\n", g_strchomp(line->str));
}

static void print_matrix_head(const struct text *text, const struct probe_block *block)
{
    const struct abi_block *abi = block->block->abi;
    g_autoptr(GString) line = g_string_new("    element");
    for (unsigned i = 0; i < abi->n_regs; i++) {
        const struct abi_reg *reg = &abi->regs[i];
        if (block->values[i])
            g_string_append_printf(line, "  %-*s", matrix_width(reg), reg->name);
    }
    fprintf(text->out, "%s\n", g_strchomp(line->str));
}

static void print_matrix(const struct text *text, const struct probe_block *block)
{
    const struct abi_block *abi = block->block->abi;
    struct columns columns = measure(block);
    bool is_any = false;
    columns.value = 0;
    for (unsigned i = 0; i < abi->n_regs; i++) {
        print_row(text, &columns, abi->regs[i].offset, abi->regs[i].name, &abi->regs[i], "");
        is_any = is_any || block->values[i];
    }
    if (!is_any)
        return;
    print_matrix_head(text, block);
    guint n = block->block->count;
    for (guint first = 0, next; first < n; first = next) {
        for (next = first + 1; next < n && are_rows_equal(block, first, next);)
            next++;
        print_matrix_row(text, block, first, next - 1);
    }
}

static void print_block(const struct text *text, const struct probe_block *block)
{
    const struct pci_block *b = block->block;
    g_autofree char *place = format_place(b);
    g_autofree char *size = format_size(b->size);
    g_autofree char *count = b->abi->stride
                                 ? g_strdup_printf(", %u element%s of %u bytes", b->count,
                                                   b->count == 1 ? "" : "s", b->abi->stride)
                                 : g_strdup("");
    fprintf(text->out, "\n  %s%s%s: %s; %s, %s%s\n", text->bold, b->name, text->plain, b->abi->what,
            place, size, count);
    if (b->abi->stride && b->abi->n_regs <= MAX_MATRIX_REGS)
        print_matrix(text, block);
    else
        print_registers(text, block);
}

/* ---- one function ---- */

static const char *bar_kind_name(const struct pci_bar *bar)
{
    switch (bar->kind) {
    case PCI_BAR_IO:
        return "I/O ports";
    case PCI_BAR_MEM32:
        return bar->prefetchable ? "32-bit memory, prefetchable" : "32-bit memory";
    case PCI_BAR_MEM64:
        return bar->prefetchable ? "64-bit memory, prefetchable" : "64-bit memory";
    case PCI_BAR_NONE:
        break;
    }
    return "absent";
}

static void print_bars(const struct text *text, const struct pci_device *dev)
{
    for (unsigned i = 0; i < PCI_N_BARS; i++) {
        const struct pci_bar *bar = &dev->bars[i];
        if (bar->kind == PCI_BAR_NONE)
            continue;
        g_autofree char *size = format_size(bar->size);
        fprintf(text->out, "  BAR %u       %-27s  %8s at 0x%" PRIx64 "\n", i, bar_kind_name(bar),
                size, bar->base);
    }
}

/* The block that decodes the capability, or NULL. */
static const struct pci_block *capability_block(const struct pci_device *dev,
                                                const struct pci_capability *cap)
{
    for (guint i = 0; i < dev->blocks->len; i++) {
        const struct pci_block *block = g_ptr_array_index(dev->blocks, i);
        if (block->in_config && block->offset == cap->offset)
            return block;
    }
    return NULL;
}

static void print_capabilities(const struct text *text, const struct pci_device *dev)
{
    for (guint i = 0; i < dev->capabilities->len; i++) {
        const struct pci_capability *cap =
            &g_array_index(dev->capabilities, struct pci_capability, i);
        const struct pci_block *block = capability_block(dev, cap);
        g_autofree char *vectors = cap->offset == dev->msix_cap
                                       ? g_strdup_printf(", %u vectors", dev->msix_n)
                                       : g_strdup("");
        g_autofree char *name = g_strdup_printf("%s%s", abi_capability_name(cap->id), vectors);
        g_autofree char *where =
            block ? g_strdup_printf("registers: %s", block->name) : g_strdup("no register table");
        fprintf(text->out, "  cap 0x%02x    %-27s  %8s at 0x%02x  %s%s%s\n", cap->id, name, "",
                cap->offset, text->dim, where, text->plain);
    }
}

static void print_function(const struct text *text, const struct probe_function *function)
{
    static const char *const pins[] = {"no INTx", "INTA#", "INTB#", "INTC#", "INTD#"};
    const struct pci_device *dev = function->dev;
    fprintf(text->out, "\n%s%02x:%02x.%x  %s%s%s%s\n", text->bold, dev->bus, dev->slot,
            dev->function, function->name, function->device ? "  id " : "",
            function->device ? session_device_id(function->device) : "", text->plain);
    fprintf(text->out, "  device      %04x:%04x revision %02x%s%s\n", dev->vendor_id,
            dev->device_id, dev->revision, dev->abi ? ", " : ", no register table for it",
            dev->abi ? dev->abi->what : "");
    fprintf(text->out, "  class       %06x, %s\n", dev->class_code,
            abi_class_name(dev->class_code));
    fprintf(text->out, "  interrupt   %s\n",
            dev->interrupt_pin < G_N_ELEMENTS(pins) ? pins[dev->interrupt_pin] : "pin invalid");
    if (dev->secondary_bus)
        fprintf(text->out, "  bridge to   buses %02x to %02x\n", dev->secondary_bus,
                dev->subordinate_bus);
    print_bars(text, dev);
    print_capabilities(text, dev);
    for (guint i = 0; i < function->blocks->len; i++)
        print_block(text, g_ptr_array_index(function->blocks, i));
}

/* ---- the whole ---- */

static void print_list(const struct text *text, const struct probe *probe)
{
    int name_width = 0;
    for (guint i = 0; i < probe->functions->len; i++) {
        const struct probe_function *function = g_ptr_array_index(probe->functions, i);
        name_width = MAX(name_width, (int)strlen(function->name));
    }
    for (guint i = 0; i < probe->functions->len; i++) {
        const struct probe_function *function = g_ptr_array_index(probe->functions, i);
        const struct pci_device *dev = function->dev;
        const char *class_name = abi_class_name(dev->class_code);
        g_autofree char *line =
            g_strdup_printf("%02x:%02x.%x  %04x:%04x  %-*s  %s", dev->bus, dev->slot, dev->function,
                            dev->vendor_id, dev->device_id, name_width, function->name,
                            g_str_equal(function->name, class_name) ? "" : class_name);
        fprintf(text->out, "%s\n", g_strchomp(line));
    }
}

void probe_print_text(const struct probe *probe, FILE *out, bool has_color)
{
    struct text text = {out, "", "", ""};
    if (has_color)
        text = (struct text){out, "\033[1m", "\033[2m", "\033[0m"};
    const struct qmp_version *version = qmp_version(qemu_qmp(session_machine_qemu(probe->machine)));
    fprintf(out, "QEMU %d.%d.%d%s%s%s, machine %s, accelerator %s\n\n", version->major,
            version->minor, version->micro, *version->package ? " (" : "", version->package,
            *version->package ? ")" : "", probe->board == MACHINE_Q35 ? "q35" : "pc",
            qemu_accelerator(session_machine_qemu(probe->machine)));
    print_list(&text, probe);
    bool is_any = false;
    for (guint i = 0; i < probe->functions->len; i++) {
        const struct probe_function *function = g_ptr_array_index(probe->functions, i);
        if (function->blocks) {
            print_function(&text, function);
            is_any = true;
        }
    }
    if (!is_any)
        fprintf(out, "\nName devices to add them and see their registers; --all shows those of "
                     "these.\n");
}
