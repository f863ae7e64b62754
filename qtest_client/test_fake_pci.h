/*
 * A machine for tests with no QEMU behind it: PCI functions made of a configuration space and BARs
 * of plain bytes, guest memory, interrupt lines. It keeps what was written to memory, in order. A
 * function sends MSI-X messages when the test tells it to.
 */
#ifndef RINGLAB_TEST_FAKE_PCI_H
#define RINGLAB_TEST_FAKE_PCI_H

#include "models/abi/pci.h"
#include "qtest_client/pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { FAKE_MAX_FUNCTIONS = 8, FAKE_MSIX_CAP = 0x40 };

struct fake_machine;

struct fake_function {
    uint8_t bus, slot;
    uint8_t config[PCI_CONFIG_BYTES];
    uint8_t writable[PCI_CONFIG_BYTES];
    uint64_t bar_size[PCI_N_BARS];
    uint8_t *bar[PCI_N_BARS];
    unsigned msix_bar;
};

struct fake_machine {
    struct machine base;
    struct fake_function functions[FAKE_MAX_FUNCTIONS];
    unsigned n_functions;
    uint32_t config_address;
    struct {
        bool level;
        uint64_t n_raised;
    } lines[QTEST_N_IRQ_LINES], unseen[QTEST_N_IRQ_LINES]; /* unseen: told at the next barrier */
    GArray *writes; /* struct machine_access: memory writes so far */
    bool is_dead;   /* everything fails */
    int lifeline;   /* -1: none */
    /* What a message to an address outside guest memory does. */
    void (*message)(void *data, uint64_t address, uint32_t value);
    void *message_data;
};

static inline uint64_t fake_get(const uint8_t *from, unsigned width)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < width; i++) {
        value |= (uint64_t)from[i] << (8 * i);
    }
    return value;
}

static inline void fake_put(uint8_t *to, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static inline uint64_t fake_bar_base(const struct fake_function *f, unsigned bar)
{
    bool is_wide = (f->config[PCI_BAR0 + 4 * bar] & PCI_BAR_MEM_TYPE_MASK) == PCI_BAR_MEM_TYPE_64;

    return fake_get(f->config + PCI_BAR0 + 4 * bar, is_wide ? 8 : 4) & ~UINT64_C(0xf);
}

static inline void fake_config(struct fake_machine *m, struct machine_access *a)
{
    uint32_t where = m->config_address;

    if (a->addr == PCI_CONFIG_ADDRESS_PORT) {
        m->config_address = (uint32_t)a->value;
        return;
    }
    assert_in_range(a->addr, PCI_CONFIG_DATA_PORT, PCI_CONFIG_DATA_PORT + 3);
    unsigned offset = (where & 0xfc) + (unsigned)(a->addr - PCI_CONFIG_DATA_PORT);
    if (!a->is_write) {
        a->value = UINT64_MAX >> (64 - 8 * a->width);
    }
    for (unsigned i = 0; i < m->n_functions; i++) {
        struct fake_function *f = &m->functions[i];
        if ((where >> 16 & 0xff) != f->bus || (where >> 11 & 0x1f) != f->slot ||
            (where >> 8 & 7) != 0) {
            continue;
        }
        if (!a->is_write) {
            a->value = fake_get(f->config + offset, a->width);
            return;
        }
        for (unsigned b = 0; b < a->width; b++) {
            uint8_t w = f->writable[offset + b];
            uint8_t v = (uint8_t)(a->value >> (8 * b));
            f->config[offset + b] = (uint8_t)((f->config[offset + b] & ~w) | (v & w));
        }
    }
}

static inline void fake_memory(struct fake_machine *m, struct machine_access *a)
{
    if (a->is_write) {
        g_array_append_val(m->writes, *a);
    } else {
        a->value = 0;
    }
    for (unsigned i = 0; i < m->n_functions; i++) {
        struct fake_function *f = &m->functions[i];
        if (!(f->config[PCI_COMMAND] & PCI_COMMAND_MEMORY)) {
            continue;
        }
        for (unsigned b = 0; b < PCI_N_BARS; b++) {
            uint64_t base = f->bar_size[b] ? fake_bar_base(f, b) : 0;
            if (base == 0 || a->addr < base || a->addr - base + a->width > f->bar_size[b]) {
                continue;
            }
            if (a->is_write) {
                fake_put(f->bar[b] + (a->addr - base), a->width, a->value);
            } else {
                a->value = fake_get(f->bar[b] + (a->addr - base), a->width);
            }
        }
    }
}

static inline bool fake_check_alive(struct fake_machine *m, GError **error)
{
    if (m->is_dead) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_CLOSED, "the fake machine is dead");
    }
    return !m->is_dead;
}

static inline bool fake_run(struct machine *machine, struct machine_access *a, size_t n,
                            GError **error)
{
    struct fake_machine *m = (struct fake_machine *)machine;

    for (size_t i = 0; i < n && !m->is_dead; i++) {
        if (a[i].space == MACHINE_IO) {
            fake_config(m, &a[i]);
        } else {
            fake_memory(m, &a[i]);
        }
    }
    return fake_check_alive(m, error);
}

static inline bool fake_barrier(struct machine *machine, GError **error)
{
    struct fake_machine *m = (struct fake_machine *)machine;

    memcpy(m->lines, m->unseen, sizeof(m->lines));
    return fake_check_alive(m, error);
}

static inline bool fake_irq_state(struct machine *machine, unsigned line, bool *level,
                                  uint64_t *n_raised)
{
    struct fake_machine *m = (struct fake_machine *)machine;

    *level = m->lines[line].level;
    *n_raised = m->lines[line].n_raised;
    return true;
}

static inline bool fake_irq_wait_raised(struct machine *machine, unsigned line, uint64_t n_raised,
                                        int timeout_ms, GError **error)
{
    struct fake_machine *m = (struct fake_machine *)machine;

    (void)timeout_ms;
    if (!fake_barrier(machine, error)) {
        return false;
    }
    if (m->lines[line].n_raised < n_raised) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "no raise");
        return false;
    }
    return true;
}

static inline int fake_lifeline(struct machine *machine)
{
    return ((struct fake_machine *)machine)->lifeline;
}

static inline void fake_machine_init(struct fake_machine *m, enum machine_board board,
                                     struct guest_memory *memory)
{
    static const struct machine_ops ops = {.run = fake_run,
                                           .barrier = fake_barrier,
                                           .irq_state = fake_irq_state,
                                           .irq_wait_raised = fake_irq_wait_raised,
                                           .lifeline = fake_lifeline};

    memset(m, 0, sizeof(*m));
    m->base.ops = &ops;
    m->base.board = board;
    m->base.memory = memory;
    m->lifeline = -1;
    m->writes = g_array_new(FALSE, FALSE, sizeof(struct machine_access));
}

static inline void fake_machine_clear(struct fake_machine *m)
{
    for (unsigned i = 0; i < m->n_functions; i++) {
        for (unsigned b = 0; b < PCI_N_BARS; b++) {
            g_free(m->functions[i].bar[b]);
        }
    }
    g_array_unref(m->writes);
}

static inline void fake_line_raise(struct fake_machine *m, unsigned line)
{
    m->unseen[line].level = true;
    m->unseen[line].n_raised++;
}

static inline void fake_line_lower(struct fake_machine *m, unsigned line)
{
    m->unseen[line].level = false;
}

static inline struct fake_function *fake_add(struct fake_machine *m, uint8_t slot,
                                             uint16_t vendor_id, uint16_t device_id, uint8_t pin)
{
    struct fake_function *f = &m->functions[m->n_functions++];

    assert_in_range(m->n_functions, 1, FAKE_MAX_FUNCTIONS);
    f->slot = slot;
    fake_put(f->config + PCI_VENDOR_ID, 2, vendor_id);
    fake_put(f->config + PCI_DEVICE_ID, 2, device_id);
    f->config[PCI_INTERRUPT_PIN] = pin;
    fake_put(f->writable + PCI_COMMAND, 2, 0x7);
    return f;
}

/* `kind` is what the low bits of the BAR read as. */
static inline struct fake_function *fake_add_bridge(struct fake_machine *m, uint8_t bus,
                                                    uint8_t slot)
{
    struct fake_function *f = fake_add(m, slot, 0x1b36, 0x0001, 0);

    f->bus = bus;
    f->config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
    memset(f->writable + PCI_PRIMARY_BUS, 0xff, 3);
    memset(f->writable + PCI_IO_BASE, 0xf0, 2);
    memset(f->writable + PCI_MEMORY_BASE, 0xff, 4);
    memset(f->writable + PCI_PREF_MEMORY_BASE, 0xff, 12);
    return f;
}

static inline void fake_add_bar(struct fake_function *f, unsigned bar, uint64_t size, uint32_t kind)
{
    uint8_t *writable = f->writable + PCI_BAR0 + 4 * bar;

    f->bar_size[bar] = size;
    f->bar[bar] = g_malloc0(size);
    f->config[PCI_BAR0 + 4 * bar] = (uint8_t)kind;
    fake_put(writable, kind & PCI_BAR_MEM_TYPE_64 ? 8 : 4, ~(size - 1) & ~UINT64_C(0xf));
}

/* A table of `n` masked vectors at the start of a BAR, the pending bits in its second half. */
static inline void fake_add_msix(struct fake_function *f, unsigned bar, unsigned n)
{
    uint8_t *cap = f->config + FAKE_MSIX_CAP;

    fake_add_bar(f, bar, 4096, 0);
    f->msix_bar = bar;
    fake_put(f->config + PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
    f->config[PCI_CAPABILITY_LIST] = FAKE_MSIX_CAP;
    cap[0] = PCI_CAP_ID_MSIX;
    fake_put(cap + PCI_MSIX_FLAGS, 2, n - 1);
    fake_put(cap + PCI_MSIX_TABLE, 4, bar);
    fake_put(cap + PCI_MSIX_PBA, 4, 2048 | bar);
    f->writable[FAKE_MSIX_CAP + PCI_MSIX_FLAGS + 1] = 0xc0;
    for (unsigned i = 0; i < n; i++) {
        f->bar[bar][i * PCI_MSIX_ENTRY_BYTES + PCI_MSIX_ENTRY_VECTOR_CTRL] = 1;
    }
}

static inline uint32_t fake_msix_entry(const struct fake_function *f, unsigned vector,
                                       unsigned offset)
{
    return (uint32_t)fake_get(f->bar[f->msix_bar] + vector * PCI_MSIX_ENTRY_BYTES + offset, 4);
}

/* What a device does when it has something to say on `vector`. */
static inline void fake_send(struct fake_machine *m, struct fake_function *f, unsigned vector)
{
    uint64_t address = fake_msix_entry(f, vector, PCI_MSIX_ENTRY_LOWER_ADDR) |
                       (uint64_t)fake_msix_entry(f, vector, PCI_MSIX_ENTRY_UPPER_ADDR) << 32;
    uint32_t value = fake_msix_entry(f, vector, PCI_MSIX_ENTRY_DATA);

    if (!(fake_get(f->config + FAKE_MSIX_CAP + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_ENABLE)) {
        return;
    }
    if (fake_msix_entry(f, vector, PCI_MSIX_ENTRY_VECTOR_CTRL) & PCI_MSIX_ENTRY_CTRL_MASKED) {
        f->bar[f->msix_bar][2048 + vector / 8] |= (uint8_t)(1u << vector % 8);
        return;
    }
    void *host = guest_memory_host(m->base.memory, address, sizeof(value));
    if (host) {
        __atomic_store_n((uint32_t *)host, value, __ATOMIC_SEQ_CST);
    } else if (m->message) {
        m->message(m->message_data, address, value);
    }
}

#endif
