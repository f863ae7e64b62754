/*
 * The machine without QEMU: configuration mechanism #1, decoding, memory, messages.
 */
#include "harness/sim_machine.h"
#include "models/abi/pci.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Where the doorbell of the interrupt bridge is: below what drivers give to BARs. */
#define DOORBELL_GPA UINT64_C(0xd0000000)
enum {
    DOORBELL_PEER_SHIFT = 16, /* as ivshmem's: peer and vector */
    CONFIG_SLOT_SHIFT = 11,
};

struct slot {
    struct pci_model *function; /* NULL: empty */
    /* BARs that are memory of the model, as guest memory; NULL: none */
    struct guest_region *shown[PCI_MODEL_BARS];
};

struct sim_machine {
    struct machine base;
    pthread_mutex_t lock; /* one access at a time */
    struct guest_memory *map;
    struct pci_dma *dma;
    GArray *ranges; /* struct pci_dma_range: what `dma` was told */
    uint32_t config_address;
    struct slot slots[SIM_MACHINE_SLOTS];
    struct interrupt_bridge bridge; /* n_channels 0: not asked for */
    uint16_t peer_ids[SIM_MACHINE_CHANNELS];
    int eventfds[SIM_MACHINE_CHANNELS];
};

static struct sim_machine *sim_of(struct machine *m)
{
    return (struct sim_machine *)m;
}

/* ---- memory BARs ---- */

/* The address of a memory BAR as the guest programmed it; 0 if it is not decoded. */
static uint64_t bar_base(struct pci_model *f, unsigned bar)
{
    uint32_t low = pci_model_config_read(f, PCI_BAR0 + 4 * bar, 4);

    return pci_model_config_read(f, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY
               ? low & (uint32_t)PCI_BAR_MEM_MASK
               : 0;
}

/* After a write to configuration space: memory of the model lies where its BAR says. Where that
 * would overlap something else it is not shown, and accesses go through the model. */
static void show_memory(struct sim_machine *s, struct slot *slot)
{
    for (unsigned i = 0; i < PCI_MODEL_BARS; i++) {
        if (slot->shown[i]) {
            uint64_t base = bar_base(slot->function, i);
            if (base == 0 || !guest_memory_place(s->map, slot->shown[i], base, NULL)) {
                guest_memory_remove(s->map, slot->shown[i]);
            }
        }
    }
}

/* ---- accesses ---- */

static struct slot *config_target(struct sim_machine *s)
{
    const uint32_t where = s->config_address, slot = where >> CONFIG_SLOT_SHIFT & 0x1f;
    const uint32_t bus_and_function = 0xff0700;

    if (!(where & PCI_CONFIG_ADDRESS_ENABLE) || (where & bus_and_function) != 0 ||
        !s->slots[slot].function) {
        return NULL;
    }
    return &s->slots[slot];
}

static void access_config(struct sim_machine *s, struct machine_access *a)
{
    struct slot *slot = config_target(s);
    unsigned offset = (s->config_address & 0xfc) + (unsigned)(a->addr & 3);

    if (!slot || (a->addr & 3) + a->width > 4) {
        a->value = a->is_write ? a->value : UINT64_MAX;
    } else if (a->is_write) {
        pci_model_config_write(slot->function, offset, (uint32_t)a->value, a->width);
        show_memory(s, slot);
    } else {
        a->value = pci_model_config_read(slot->function, offset, a->width);
    }
}

/* Nobody answers: ports read all ones, memory reads 0, as on QEMU's pc. */
static void access_nobody(struct machine_access *a)
{
    if (!a->is_write) {
        a->value = a->space == MACHINE_IO ? UINT64_MAX : 0;
    }
}

static bool access_function(struct sim_machine *s, struct machine_access *a)
{
    for (unsigned i = 0; i < SIM_MACHINE_SLOTS; i++) {
        struct pci_model *f = s->slots[i].function;
        uint64_t offset;
        int bar = f ? pci_model_decode(f, a->space == MACHINE_IO, a->addr, &offset) : -1;
        if (bar >= 0 && a->is_write) {
            pci_model_bar_write(f, (unsigned)bar, offset, a->value, a->width);
        } else if (bar >= 0) {
            a->value = pci_model_bar_read(f, (unsigned)bar, offset, a->width);
        }
        if (bar >= 0) {
            return true;
        }
    }
    return false;
}

static bool access_memory(struct sim_machine *s, struct machine_access *a)
{
    void *host = guest_memory_host(s->map, a->addr, a->width);

    if (!host) {
        return false;
    }
    if (a->is_write) {
        memcpy(host, &a->value, a->width);
    } else {
        memcpy(&a->value, host, a->width);
    }
    return true;
}

static void access_one(struct sim_machine *s, struct machine_access *a)
{
    a->value = a->is_write ? a->value : 0;
    if (a->space == MACHINE_IO && a->addr == PCI_CONFIG_ADDRESS_PORT && a->width == 4) {
        if (a->is_write) {
            s->config_address = (uint32_t)a->value;
        } else {
            a->value = s->config_address;
        }
    } else if (a->space == MACHINE_IO && a->addr >= PCI_CONFIG_DATA_PORT &&
               a->addr < PCI_CONFIG_DATA_PORT + 4) {
        access_config(s, a);
    } else if (!(a->space == MACHINE_MEM && access_memory(s, a)) && !access_function(s, a)) {
        access_nobody(a);
    }
    if (!a->is_write && a->width < 8) {
        a->value &= (UINT64_C(1) << (8 * a->width)) - 1;
    }
}

static bool check_access(const struct machine_access *a, GError **error)
{
    bool has_width = a->width == 1 || a->width == 2 || a->width == 4 ||
                     (a->width == 8 && a->space != MACHINE_IO);

    if (!has_width || (a->is_write && a->width < 8 && a->value >> (8 * a->width) != 0)) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "no access of %u bytes at 0x%" PRIx64 " (value 0x%" PRIx64 ")", a->width,
                    a->addr, a->value);
        return false;
    }
    return true;
}

static bool sim_run(struct machine *m, struct machine_access *accesses, size_t n, GError **error)
{
    struct sim_machine *s = sim_of(m);

    for (size_t i = 0; i < n; i++) {
        if (!check_access(&accesses[i], error)) {
            return false;
        }
    }
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < n; i++) {
        access_one(s, &accesses[i]);
    }
    pthread_mutex_unlock(&s->lock);
    return true;
}

static bool sim_post(struct machine *m, const struct machine_access *access, GError **error)
{
    struct machine_access a = *access;

    return sim_run(m, &a, 1, error);
}

static bool sim_barrier(struct machine *m, GError **error)
{
    (void)m;
    (void)error;
    return true;
}

static bool sim_read_bytes(struct machine *m, uint64_t addr, void *bytes, size_t len,
                           GError **error)
{
    for (size_t i = 0; i < len; i++) {
        struct machine_access a = {addr + i, 0, MACHINE_MEM, 1, false};
        if (!sim_run(m, &a, 1, error)) {
            return false;
        }
        ((uint8_t *)bytes)[i] = (uint8_t)a.value;
    }
    return true;
}

static bool sim_write_bytes(struct machine *m, uint64_t addr, const void *bytes, size_t len,
                            GError **error)
{
    for (size_t i = 0; i < len; i++) {
        struct machine_access a = {addr + i, ((const uint8_t *)bytes)[i], MACHINE_MEM, 1, true};
        if (!sim_run(m, &a, 1, error)) {
            return false;
        }
    }
    return true;
}

/* ---- interrupts ---- */

/* The functions modelled here have no INTx: lines are there and stay low. */
static bool sim_irq_state(struct machine *m, unsigned line, bool *level, uint64_t *n_raised)
{
    (void)m;
    *level = false;
    *n_raised = 0;
    return line < QTEST_N_IRQ_LINES;
}

static bool no_lines(unsigned line, GError **error)
{
    g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                "line %u will never change: a machine without QEMU has no interrupt controller; "
                "use MSI-X",
                line);
    return false;
}

static bool sim_irq_wait_raised(struct machine *m, unsigned line, uint64_t n_raised, int timeout_ms,
                                GError **error)
{
    (void)m;
    (void)n_raised;
    (void)timeout_ms;
    return no_lines(line, error);
}

static bool sim_irq_wait_level(struct machine *m, unsigned line, bool level, int timeout_ms,
                               GError **error)
{
    (void)m;
    (void)timeout_ms;
    return !level || no_lines(line, error);
}

/* A message from a function, any thread. */
static bool deliver(void *data, uint64_t address, uint32_t value)
{
    struct sim_machine *s = data;
    unsigned channel = (value >> DOORBELL_PEER_SHIFT) - 1u;
    const uint64_t one = 1;

    if (address != DOORBELL_GPA) {
        return pci_dma_write32(s->dma, address, value);
    }
    return channel < s->bridge.n_channels &&
           write(s->eventfds[channel], &one, sizeof(one)) == (ssize_t)sizeof(one);
}

struct interrupt_bridge *sim_machine_bridge(struct machine *m)
{
    struct sim_machine *s = sim_of(m);

    if (s->bridge.n_channels == 0) {
        for (unsigned i = 0; i < SIM_MACHINE_CHANNELS; i++) {
            s->peer_ids[i] = (uint16_t)(i + 1);
            s->eventfds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        }
        s->bridge = (struct interrupt_bridge){.doorbell_gpa = DOORBELL_GPA,
                                              .peer_ids = s->peer_ids,
                                              .eventfds = s->eventfds,
                                              .n_channels = SIM_MACHINE_CHANNELS};
    }
    return &s->bridge;
}

/* ---- life ---- */

static void slot_clear(struct sim_machine *s, struct slot *slot)
{
    for (unsigned i = 0; i < PCI_MODEL_BARS; i++) {
        if (slot->shown[i]) {
            guest_memory_remove(s->map, slot->shown[i]);
            guest_region_free(slot->shown[i]);
        }
    }
    pci_model_free(slot->function);
    memset(slot, 0, sizeof(*slot));
}

static void sim_free(struct machine *m)
{
    struct sim_machine *s = sim_of(m);

    for (unsigned i = 0; i < SIM_MACHINE_SLOTS; i++) {
        if (s->slots[i].function) {
            slot_clear(s, &s->slots[i]);
        }
    }
    for (unsigned i = 0; i < s->bridge.n_channels; i++) {
        close(s->eventfds[i]);
    }
    pci_dma_free(s->dma);
    guest_memory_free(s->map);
    g_array_unref(s->ranges);
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

struct machine *sim_machine_new(void)
{
    static const struct machine_ops ops = {
        .run = sim_run,
        .post = sim_post,
        .barrier = sim_barrier,
        .read_bytes = sim_read_bytes,
        .write_bytes = sim_write_bytes,
        .irq_state = sim_irq_state,
        .irq_wait_raised = sim_irq_wait_raised,
        .irq_wait_level = sim_irq_wait_level,
        .free = sim_free,
    };
    struct sim_machine *s = g_new0(struct sim_machine, 1);

    s->base.ops = &ops;
    s->base.board = MACHINE_PC;
    s->base.memory = s->map = guest_memory_new();
    s->dma = pci_dma_new();
    s->ranges = g_array_new(FALSE, FALSE, sizeof(struct pci_dma_range));
    pthread_mutex_init(&s->lock, NULL);
    return &s->base;
}

bool sim_machine_add_memory(struct machine *m, struct guest_region *region, uint64_t gpa,
                            GError **error)
{
    struct sim_machine *s = sim_of(m);
    struct pci_dma_range range = {gpa, region->size, region->host};

    if (!guest_memory_place(s->map, region, gpa, error)) {
        return false;
    }
    g_array_append_val(s->ranges, range);
    pci_dma_set(s->dma, (const struct pci_dma_range *)(void *)s->ranges->data, s->ranges->len, NULL,
                NULL);
    return true;
}

static bool find_slot(struct sim_machine *s, unsigned *slot, GError **error)
{
    const bool is_chosen = *slot != 0;

    if (*slot >= SIM_MACHINE_SLOTS || (is_chosen && s->slots[*slot].function)) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID, "slot %u is %s", *slot,
                    *slot >= SIM_MACHINE_SLOTS ? "not one of 1..31" : "taken");
        return false;
    }
    for (unsigned i = 1; !is_chosen && i < SIM_MACHINE_SLOTS && *slot == 0; i++) {
        *slot = s->slots[i].function ? 0 : i;
    }
    if (*slot == 0) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_NO_SPACE, "all slots of the bus are taken");
    }
    return *slot != 0;
}

bool sim_machine_add(struct machine *m, struct pci_model *function, unsigned slot, GError **error)
{
    struct sim_machine *s = sim_of(m);

    if (!find_slot(s, &slot, error)) {
        pci_model_free(function);
        return false;
    }
    s->slots[slot].function = function;
    for (unsigned i = 0; i < PCI_MODEL_BARS; i++) {
        const struct pci_model_bar *bar = pci_model_bar(function, i);
        if (bar && bar->memory) {
            g_autofree char *name = g_strdup_printf("%s BAR %u", pci_model_name(function), i);
            s->slots[slot].shown[i] =
                guest_region_new_over(name, bar->memory, bar->memory_size, bar->memory_fd, error);
            if (!s->slots[slot].shown[i]) {
                slot_clear(s, &s->slots[slot]);
                return false;
            }
        }
    }
    pci_model_set_dma(function, s->dma);
    pci_model_set_msi(function, deliver, s);
    return true;
}

struct pci_model *sim_machine_function(struct machine *m, unsigned slot)
{
    return slot < SIM_MACHINE_SLOTS ? sim_of(m)->slots[slot].function : NULL;
}
