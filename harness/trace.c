/*
 * A bounded ring of register accesses, named when they happen, printed when somebody asks.
 */
#include "harness/trace.h"

#include "models/abi/pci.h"

#include <inttypes.h>
#include <string.h>

enum { BYTES_KEPT = 16 };

enum target_kind { TARGET_IO, TARGET_MEM, TARGET_CONFIG, TARGET_BAR, TARGET_NONE };

/* Where an access went. Of what can vanish only copies are kept: names are interned, and register
 * tables are constant data. */
struct target {
    enum target_kind kind;
    uint64_t offset;   /* address; or offset in configuration space or in the BAR */
    uint16_t function; /* bus, slot, function, for CONFIG and BAR */
    uint8_t bar;       /* for BAR */
    const char *block; /* interned; NULL: no register known there */
    const struct abi_reg *reg;
    uint32_t index;      /* element of the block or the register */
    bool is_block_index; /* the block repeats, not the register */
    uint32_t shift;      /* bytes from the start of the register */
};

struct record {
    int64_t first_us, last_us;
    unsigned n_times;
    uint64_t value;
    uint8_t width;
    bool is_write;
    struct target target;
    size_t n_bytes; /* of a block, else 0; its first ones: */
    uint8_t bytes[BYTES_KEPT];
    const char *remark; /* instead of all that; or NULL */
};

struct trace {
    struct machine *machine;
    const GPtrArray *devices;
    GHashTable *names; /* function number to interned name */
    int64_t start_us;
    struct record *ring;
    unsigned capacity;
    uint64_t n_records;            /* ever; the ring holds the last ones */
    uint64_t n_most;               /* before anything was taken back: what the ring lost */
    uint32_t config_address;       /* what port 0xcf8 was last set to */
    bool is_address_pending;       /* it was set, and no data access has followed yet */
    uint64_t ecam_base, ecam_size; /* size 0: closed */
};

static uint16_t function_number(unsigned bus, unsigned slot, unsigned function)
{
    return (uint16_t)(bus << 8 | slot << 3 | function);
}

/* ---- naming ---- */

static void name_register(struct target *target, const struct pci_block *block, uint32_t offset)
{
    uint32_t index = 0;
    const struct abi_reg *reg = pci_block_register_at(block, offset, &index);
    if (!reg)
        return;
    uint32_t step = reg->count > 1 ? reg->stride : 0;
    uint32_t start = reg->offset + index * (block->abi->stride ? block->abi->stride : step);
    target->block = g_intern_string(block->name);
    target->reg = reg;
    target->index = index;
    target->is_block_index = block->abi->stride != 0;
    target->shift = offset - start;
}

static struct pci_device *find_function(const struct trace *t, uint16_t function)
{
    for (guint i = 0; t->devices && i < t->devices->len; i++) {
        struct pci_device *dev = t->devices->pdata[i];
        if (function_number(dev->bus, dev->slot, dev->function) == function)
            return dev;
    }
    return NULL;
}

static struct target config_target(const struct trace *t, uint16_t function, uint32_t offset)
{
    struct target target = {.kind = TARGET_CONFIG, .function = function, .offset = offset};
    struct pci_device *dev = find_function(t, function);
    for (guint i = 0; dev && i < dev->blocks->len && !target.reg; i++) {
        const struct pci_block *block = dev->blocks->pdata[i];
        if (block->in_config && offset >= block->offset && offset - block->offset < block->size)
            name_register(&target, block, offset - block->offset);
    }
    return target;
}

static bool bar_target(const struct trace *t, const struct machine_access *access,
                       struct target *target)
{
    for (guint i = 0; t->devices && i < t->devices->len; i++) {
        struct pci_device *dev = t->devices->pdata[i];
        for (unsigned nr = 0; nr < PCI_N_BARS; nr++) {
            const struct pci_bar *bar = &dev->bars[nr];
            const struct pci_block *block = NULL;
            const struct abi_reg *reg = NULL;
            uint32_t index;
            enum machine_space space = bar->kind == PCI_BAR_IO ? MACHINE_IO : MACHINE_MEM;
            if (bar->kind == PCI_BAR_NONE || bar->base == 0 || access->space != space ||
                access->addr < bar->base || access->addr - bar->base >= bar->size)
                continue;
            target->kind = TARGET_BAR;
            target->function = function_number(dev->bus, dev->slot, dev->function);
            target->bar = (uint8_t)nr;
            target->offset = access->addr - bar->base;
            if (pci_device_decode(dev, access, &block, &reg, &index))
                name_register(target, block, (uint32_t)(target->offset - block->offset));
            return true;
        }
    }
    return false;
}

static struct target find_target(const struct trace *t, const struct machine_access *access)
{
    struct target target = {
        .kind = access->space == MACHINE_IO ? TARGET_IO : TARGET_MEM,
        .offset = access->addr,
    };
    if (access->space == MACHINE_IO && access->addr >= PCI_CONFIG_DATA_PORT &&
        access->addr < PCI_CONFIG_DATA_PORT + 4 &&
        (t->config_address & PCI_CONFIG_ADDRESS_ENABLE)) {
        uint32_t lane = (uint32_t)(access->addr - PCI_CONFIG_DATA_PORT);
        return config_target(t, (uint16_t)(t->config_address >> 8),
                             (t->config_address & 0xfc) + lane);
    }
    if (access->space == MACHINE_MEM && access->addr - t->ecam_base < t->ecam_size) {
        uint64_t offset = access->addr - t->ecam_base;
        return config_target(t, (uint16_t)(offset >> 12), (uint32_t)(offset & 0xfff));
    }
    bar_target(t, access, &target);
    return target;
}

/* q35's host bridge says in PCIEXBAR where memory-mapped configuration space lies. */
static void watch_ecam(struct trace *t, const struct machine_access *access,
                       const struct target *target)
{
    if (!t->machine || t->machine->board != MACHINE_Q35 || target->kind != TARGET_CONFIG ||
        target->function != 0 || target->offset != Q35_PCIEXBAR || !access->is_write ||
        access->width != 4)
        return;
    uint64_t size = UINT64_C(256) << 20 >> ((access->value & Q35_PCIEXBAR_LENGTH) >> 1);
    t->ecam_base = access->value & ~(size - 1);
    t->ecam_size = access->value & Q35_PCIEXBAR_ENABLE ? size : 0;
}

/* ---- keeping ---- */

static struct record *nth_record(const struct trace *t, uint64_t n)
{
    g_assert(t->capacity > 0);
    return &t->ring[n % t->capacity];
}

static bool is_same(const struct record *a, const struct record *b)
{
    const struct target *x = &a->target, *y = &b->target;
    return a->value == b->value && a->width == b->width && a->is_write == b->is_write &&
           x->kind == y->kind && x->offset == y->offset && x->function == y->function &&
           x->bar == y->bar && x->reg == y->reg && x->block == y->block && a->n_bytes == 0 &&
           b->n_bytes == 0;
}

static void append(struct trace *t, struct record record)
{
    record.first_us = record.last_us = g_get_monotonic_time() - t->start_us;
    record.n_times = 1;
    *nth_record(t, t->n_records++) = record;
    t->n_most = MAX(t->n_most, t->n_records);
}

static void keep(struct trace *t, const struct machine_access *access, const struct target *target)
{
    struct record record = {.value = access->value,
                            .width = access->width,
                            .is_write = access->is_write,
                            .target = *target};
    if (t->n_records > 0) {
        struct record *last = nth_record(t, t->n_records - 1);
        if (is_same(last, &record)) {
            last->n_times++;
            last->last_us = g_get_monotonic_time() - t->start_us;
            return;
        }
    }
    append(t, record);
}

/* An address that was set is told only if no data access makes a configuration cycle of it. */
static void keep_pending_address(struct trace *t)
{
    const struct machine_access access = {PCI_CONFIG_ADDRESS_PORT, t->config_address, MACHINE_IO, 4,
                                          true};
    const struct target target = {.kind = TARGET_IO, .offset = PCI_CONFIG_ADDRESS_PORT};
    if (t->is_address_pending)
        keep(t, &access, &target);
    t->is_address_pending = false;
}

static void on_access(void *data, const struct machine_access *access)
{
    struct trace *t = data;
    struct target target = find_target(t, access);
    if (target.kind == TARGET_CONFIG && access->space == MACHINE_IO)
        t->is_address_pending = false;
    keep_pending_address(t);
    if (access->space == MACHINE_IO && access->addr == PCI_CONFIG_ADDRESS_PORT &&
        access->width == 4 && access->is_write) {
        t->config_address = (uint32_t)access->value;
        t->is_address_pending = true;
        return;
    }
    watch_ecam(t, access, &target);
    keep(t, access, &target);
}

static void on_bytes(void *data, uint64_t gpa, const void *bytes, size_t len, bool is_write)
{
    struct trace *t = data;
    const struct machine_access first = {gpa, 0, MACHINE_MEM, 1, is_write};
    struct record record = {.n_bytes = len, .is_write = is_write, .target = find_target(t, &first)};

    keep_pending_address(t);
    record.target.reg = NULL; /* it may be many registers, or none */
    memcpy(record.bytes, bytes, MIN(len, sizeof(record.bytes)));
    append(t, record);
}

struct trace *trace_new(unsigned capacity)
{
    struct trace *t = g_new0(struct trace, 1);
    t->capacity = capacity ? capacity : TRACE_DEFAULT_CAPACITY;
    t->ring = g_new(struct record, t->capacity);
    t->names = g_hash_table_new(NULL, NULL);
    t->start_us = g_get_monotonic_time();
    return t;
}

void trace_free(struct trace *t)
{
    if (!t)
        return;
    g_hash_table_unref(t->names);
    g_free(t->ring);
    g_free(t);
}

void trace_attach(struct trace *t, struct machine *m)
{
    trace_detach(t);
    t->machine = m;
    t->config_address = 0;
    t->ecam_size = 0;
    m->trace_data = t;
    m->trace = on_access;
    m->trace_bytes = on_bytes;
}

void trace_detach(struct trace *t)
{
    keep_pending_address(t);
    if (t->machine) {
        t->machine->trace = NULL;
        t->machine->trace_bytes = NULL;
        t->machine->trace_data = NULL;
    }
    t->machine = NULL;
}

void trace_set_devices(struct trace *t, const GPtrArray *devices)
{
    t->devices = devices;
}

void trace_name_function(struct trace *t, unsigned bus, unsigned slot, unsigned function,
                         const char *name)
{
    g_hash_table_insert(t->names, GUINT_TO_POINTER(function_number(bus, slot, function)),
                        (char *)(uintptr_t)g_intern_string(name));
}

uint64_t trace_mark(struct trace *t)
{
    keep_pending_address(t);
    return t->n_records;
}

void trace_rewind(struct trace *t, uint64_t mark)
{
    keep_pending_address(t);
    t->n_records = MIN(mark, t->n_records);
}

void trace_remark(struct trace *t, const char *text)
{
    struct record record = {.remark = text, .target = {.kind = TARGET_NONE}};

    keep_pending_address(t);
    append(t, record);
}

/* ---- printing ---- */

static char *owner_name(const struct trace *t, const struct target *target)
{
    if (target->kind == TARGET_NONE)
        return g_strdup("");
    if (target->kind == TARGET_IO || target->kind == TARGET_MEM)
        return g_strdup(target->kind == TARGET_IO ? "io" : "mem");
    const char *name = g_hash_table_lookup(t->names, GUINT_TO_POINTER(target->function));
    if (name)
        return g_strdup(name);
    return g_strdup_printf("%02x:%02x.%x", target->function >> 8, target->function >> 3 & 0x1f,
                           target->function & 7);
}

static void put_target(GString *line, const struct record *record)
{
    const struct target *target = &record->target;
    const struct abi_reg *reg = target->reg;
    if (reg) {
        g_string_append(line, target->block);
        if (target->is_block_index)
            g_string_append_printf(line, "[%u]", target->index);
        g_string_append_printf(line, ".%s", reg->name);
        if (!target->is_block_index && reg->count > 1)
            g_string_append_printf(line, "[%u]", target->index);
        if (target->shift)
            g_string_append_printf(line, "+%u", target->shift);
        if (target->shift || record->width != reg->width)
            g_string_append_printf(line, ":%u", record->width);
        return;
    }
    if (target->kind == TARGET_CONFIG)
        g_string_append(line, "config+");
    else if (target->kind == TARGET_BAR)
        g_string_append_printf(line, "bar%u+", target->bar);
    g_string_append_printf(line, "0x%" PRIx64 ":%u", target->offset, record->width);
}

/* A bit that is set is told by its name, a wider field that is not 0 with its value. */
static void put_fields(GString *line, const struct record *record)
{
    const struct abi_reg *reg = record->target.reg;
    bool is_first = true;
    if (!reg || record->target.shift || record->width != reg->width)
        return;
    for (unsigned i = 0; i < reg->n_fields; i++) {
        const struct abi_field *field = &reg->fields[i];
        uint64_t mask = field->bits < 64 ? (UINT64_C(1) << field->bits) - 1 : UINT64_MAX;
        uint64_t value = record->value >> field->lsb & mask;
        if (value == 0)
            continue;
        g_string_append_printf(line, "%s%s", is_first ? " (" : " ", field->name);
        if (field->bits > 1)
            g_string_append_printf(line, "=0x%" PRIx64, value);
        is_first = false;
    }
    if (!is_first)
        g_string_append_c(line, ')');
}

static void put_bytes(GString *line, const struct record *record)
{
    const struct target *target = &record->target;
    if (target->kind == TARGET_BAR)
        g_string_append_printf(line, "bar%u+", target->bar);
    g_string_append_printf(line, "0x%" PRIx64 " %s %zu bytes:", target->offset,
                           record->is_write ? "<-" : "->", record->n_bytes);
    for (size_t i = 0; i < MIN(record->n_bytes, BYTES_KEPT); i++)
        g_string_append_printf(line, " %02x", record->bytes[i]);
    g_string_append(line, record->n_bytes > BYTES_KEPT ? " ...\n" : "\n");
}

static void put_record(GString *out, const struct trace *t, const struct record *record,
                       unsigned owner_columns)
{
    if (record->remark) {
        g_string_append_printf(out, "+%" PRId64 ".%06" PRId64 " ---- %s ----\n",
                               record->first_us / G_USEC_PER_SEC, record->first_us % G_USEC_PER_SEC,
                               record->remark);
        return;
    }
    g_autofree char *owner = owner_name(t, &record->target);
    g_string_append_printf(out, "+%" PRId64 ".%06" PRId64 " %-*s  ",
                           record->first_us / G_USEC_PER_SEC, record->first_us % G_USEC_PER_SEC,
                           (int)owner_columns, owner);
    if (record->n_bytes > 0) {
        put_bytes(out, record);
        return;
    }
    put_target(out, record);
    g_string_append_printf(out, " %s 0x%0*" PRIx64, record->is_write ? "<-" : "->",
                           record->width * 2, record->value);
    put_fields(out, record);
    if (record->n_times > 1) {
        int64_t us = record->last_us;
        g_string_append_printf(out, " [%u times, last at +%" PRId64 ".%06" PRId64 "]",
                               record->n_times, us / G_USEC_PER_SEC, us % G_USEC_PER_SEC);
    }
    g_string_append_c(out, '\n');
}

char *trace_text(const struct trace *t)
{
    g_assert(t->capacity > 0);
    GString *out = g_string_new(NULL);
    uint64_t first = t->n_most > t->capacity ? t->n_most - t->capacity : 0;
    first = MIN(first, t->n_records);
    unsigned columns = 0;
    for (uint64_t i = first; i < t->n_records; i++) {
        g_autofree char *owner = owner_name(t, &nth_record(t, i)->target);
        columns = MAX(columns, (unsigned)strlen(owner));
    }
    if (first > 0)
        g_string_append_printf(out, "(%" PRIu64 " earlier lines are not kept)\n", first);
    for (uint64_t i = first; i < t->n_records; i++)
        put_record(out, t, nth_record(t, i), columns);
    return g_string_free(out, FALSE);
}
