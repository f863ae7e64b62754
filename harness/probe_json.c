/*
 * A probe as one JSON object. Addresses and register values are strings ("0x1af4"), since JSON's
 * numbers do not hold 64 bits everywhere; sizes, offsets and counts are numbers.
 */
#include "harness/probe.h"

#include "models/abi/pci_names.h"

#include <inttypes.h>

static void begin_member(JsonBuilder *b, const char *name)
{
    json_builder_set_member_name(b, name);
}

static void add_string(JsonBuilder *b, const char *name, const char *value)
{
    begin_member(b, name);
    json_builder_add_string_value(b, value);
}

static void add_int(JsonBuilder *b, const char *name, gint64 value)
{
    begin_member(b, name);
    json_builder_add_int_value(b, value);
}

static void add_bool(JsonBuilder *b, const char *name, bool value)
{
    begin_member(b, name);
    json_builder_add_boolean_value(b, value);
}

static void add_hex_value(JsonBuilder *b, uint64_t value, unsigned n_digits)
{
    g_autofree char *text = g_strdup_printf("0x%0*" PRIx64, (int)n_digits, value);
    json_builder_add_string_value(b, text);
}

static void add_hex(JsonBuilder *b, const char *name, uint64_t value, unsigned n_digits)
{
    begin_member(b, name);
    add_hex_value(b, value, n_digits);
}

static void add_fields(JsonBuilder *b, const struct abi_reg *reg, uint64_t value)
{
    begin_member(b, "fields");
    json_builder_begin_array(b);
    for (unsigned i = 0; i < reg->n_fields; i++) {
        const struct abi_field *field = &reg->fields[i];
        json_builder_begin_object(b);
        add_string(b, "name", field->name);
        add_int(b, "lsb", field->lsb);
        add_int(b, "bits", field->bits);
        add_hex(b, "value", probe_field_value(field, value), 1);
        add_string(b, "what", field->what);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

/* A register that is read has `value`, or `values` where it or its block repeats. */
static void add_register(JsonBuilder *b, const struct abi_reg *reg, const GArray *values,
                         bool repeats)
{
    json_builder_begin_object(b);
    add_string(b, "name", reg->name);
    add_int(b, "offset", reg->offset);
    add_int(b, "width", reg->width);
    add_string(b, "access", probe_access_name(reg->access));
    add_string(b, "what", reg->what);
    if (values && repeats) {
        begin_member(b, "values");
        json_builder_begin_array(b);
        for (guint i = 0; i < values->len; i++)
            add_hex_value(b, g_array_index(values, uint64_t, i), 2u * reg->width);
        json_builder_end_array(b);
    } else if (values) {
        uint64_t value = g_array_index(values, uint64_t, 0);
        add_hex(b, "value", value, 2u * reg->width);
        if (reg->n_fields)
            add_fields(b, reg, value);
    }
    json_builder_end_object(b);
}

static void add_block(JsonBuilder *b, const struct probe_block *block)
{
    const struct pci_block *place = block->block;
    const struct abi_block *abi = place->abi;
    json_builder_begin_object(b);
    add_string(b, "name", place->name);
    add_string(b, "what", abi->what);
    if (place->in_config)
        add_string(b, "space", "config");
    else
        add_int(b, "bar", place->bar);
    add_int(b, "offset", place->offset);
    add_int(b, "size", place->size);
    if (abi->stride) {
        add_int(b, "stride", abi->stride);
        add_int(b, "count", place->count);
    }
    begin_member(b, "registers");
    json_builder_begin_array(b);
    for (unsigned i = 0; i < abi->n_regs; i++) {
        const struct abi_reg *reg = &abi->regs[i];
        if (reg->access == ABI_WO || block->values[i])
            add_register(b, reg, block->values[i], abi->stride || reg->count > 1);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static void add_bars(JsonBuilder *b, const struct pci_device *dev)
{
    static const char *const kinds[] = {
        [PCI_BAR_IO] = "io", [PCI_BAR_MEM32] = "mem32", [PCI_BAR_MEM64] = "mem64"};
    begin_member(b, "bars");
    json_builder_begin_array(b);
    for (unsigned i = 0; i < PCI_N_BARS; i++) {
        const struct pci_bar *bar = &dev->bars[i];
        if (bar->kind == PCI_BAR_NONE)
            continue;
        json_builder_begin_object(b);
        add_int(b, "bar", i);
        add_string(b, "kind", kinds[bar->kind]);
        add_bool(b, "prefetchable", bar->prefetchable);
        add_int(b, "size", (gint64)bar->size);
        if (bar->base)
            add_hex(b, "address", bar->base, 1);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_capabilities(JsonBuilder *b, const struct pci_device *dev)
{
    begin_member(b, "capabilities");
    json_builder_begin_array(b);
    for (guint i = 0; i < dev->capabilities->len; i++) {
        const struct pci_capability *cap =
            &g_array_index(dev->capabilities, struct pci_capability, i);
        json_builder_begin_object(b);
        add_int(b, "id", cap->id);
        add_string(b, "name", abi_capability_name(cap->id));
        add_int(b, "offset", cap->offset);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_function(JsonBuilder *b, const struct probe_function *function)
{
    const struct pci_device *dev = function->dev;
    g_autofree char *address = g_strdup_printf("%02x:%02x.%x", dev->bus, dev->slot, dev->function);
    json_builder_begin_object(b);
    add_string(b, "address", address);
    add_string(b, "name", function->name);
    if (function->device)
        add_string(b, "id", session_device_id(function->device));
    add_hex(b, "vendor_id", dev->vendor_id, 4);
    add_hex(b, "device_id", dev->device_id, 4);
    add_hex(b, "class_code", dev->class_code, 6);
    add_string(b, "class", abi_class_name(dev->class_code));
    add_int(b, "revision", dev->revision);
    add_int(b, "interrupt_pin", dev->interrupt_pin);
    add_int(b, "msix_vectors", dev->msix_n);
    if (dev->secondary_bus) {
        add_int(b, "secondary_bus", dev->secondary_bus);
        add_int(b, "subordinate_bus", dev->subordinate_bus);
    }
    add_bars(b, dev);
    add_capabilities(b, dev);
    if (function->blocks) {
        begin_member(b, "blocks");
        json_builder_begin_array(b);
        for (guint i = 0; i < function->blocks->len; i++)
            add_block(b, g_ptr_array_index(function->blocks, i));
        json_builder_end_array(b);
    }
    json_builder_end_object(b);
}

void probe_print_json(const struct probe *probe, FILE *out)
{
    const struct qmp_version *version = qmp_version(qemu_qmp(session_machine_qemu(probe->machine)));
    g_autofree char *number =
        g_strdup_printf("%d.%d.%d", version->major, version->minor, version->micro);
    g_autoptr(JsonBuilder) b = json_builder_new();
    json_builder_begin_object(b);
    begin_member(b, "qemu");
    json_builder_begin_object(b);
    add_string(b, "version", number);
    add_string(b, "package", version->package);
    json_builder_end_object(b);
    add_string(b, "machine", probe->board == MACHINE_Q35 ? "q35" : "pc");
    add_string(b, "accelerator", qemu_accelerator(session_machine_qemu(probe->machine)));
    begin_member(b, "functions");
    json_builder_begin_array(b);
    for (guint i = 0; i < probe->functions->len; i++)
        add_function(b, g_ptr_array_index(probe->functions, i));
    json_builder_end_array(b);
    json_builder_end_object(b);
    g_autoptr(JsonNode) root = json_builder_get_root(b);
    g_autofree char *text = json_to_string(root, TRUE);
    fprintf(out, "%s\n", text);
}
