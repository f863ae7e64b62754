/*
 * Address windows and bus numbers: what a bus has to give, and what bridges get of it. No firmware
 * ran before, so bridges are programmed here, by what lies behind them and some room for hotplug.
 */
#include "models/abi/pci.h"
#include "qtest_client/pci_private.h"

/* Where things go on machines pc and q35 with up to 2 GiB of RAM. The first 64-bit address clears
 * RAM above 4 GiB by far; legacy virtio reaches it (below 2^44). */
#define ROOT_IO_BASE    0x1000u
#define ROOT_IO_SIZE    0xf000u
#define ACPI_IO_BASE    0xa000u /* ACPI hotplug, GPE and SMBus registers lie in here */
#define ACPI_IO_SIZE    0x2000u
#define ROOT_MEM32_BASE 0xe0000000u
#define ROOT_MEM32_SIZE 0x1e000000u /* up to 0xfe000000: I/O APIC, HPET, local APIC follow */
#define ROOT_MEM64_BASE 0x4000000000u
#define ROOT_MEM64_SIZE 0x40000000000u
/* What a bridge's windows count in (PCI-to-PCI Bridge 1.2, 3.2.5), and get beyond the need. */
#define IO_GRANULE  0x1000u
#define MEM_GRANULE 0x100000u
#define SPARE_MEM32 0x400000u
#define SPARE_MEM64 0x100000000u
#define SPARE_BUSES 2u         /* for bridges plugged in later */
#define SMALL_MEM64 0x2000000u /* a 64-bit BAR up to this size goes below 4 GiB */

/* ---- windows ---- */

static void take_at(struct pci_window *w, guint i, uint64_t base, uint64_t size,
                    const struct pci_device *owner)
{
    struct pci_range r = {base, size, owner};

    if (!w->taken) {
        w->taken = g_array_new(FALSE, FALSE, sizeof(struct pci_range));
    }
    g_array_insert_val(w->taken, i, r);
}

bool pci_window_take(struct pci_window *w, uint64_t size, uint64_t align,
                     const struct pci_device *owner, uint64_t *base)
{
    uint64_t at = (w->base + align - 1) & ~(align - 1);
    guint i = 0;

    for (; w->taken && i < w->taken->len; i++) {
        const struct pci_range *r = &g_array_index(w->taken, struct pci_range, i);
        if (at + size <= r->base) {
            break;
        }
        at = MAX(at, (r->base + r->size + align - 1) & ~(align - 1));
    }
    if (size == 0 || at < w->base || at - w->base > w->size || size > w->size - (at - w->base)) {
        return false;
    }
    take_at(w, i, at, size, owner);
    *base = at;
    return true;
}

void pci_window_give_back(struct pci_window *w, const struct pci_device *owner)
{
    for (guint i = w->taken ? w->taken->len : 0; i > 0; i--) {
        if (g_array_index(w->taken, struct pci_range, i - 1).owner == owner) {
            g_array_remove_index(w->taken, i - 1);
        }
    }
}

void pci_window_give_back_at(struct pci_window *w, const struct pci_device *owner, uint64_t base)
{
    for (guint i = w->taken ? w->taken->len : 0; i > 0; i--) {
        const struct pci_range *r = &g_array_index(w->taken, struct pci_range, i - 1);
        if (r->owner == owner && r->base == base) {
            g_array_remove_index(w->taken, i - 1);
        }
    }
}

static void window_set(struct pci_window *w, uint64_t base, uint64_t size)
{
    w->base = base;
    w->size = size;
    if (w->taken) {
        g_array_set_size(w->taken, 0);
    }
}

static uint64_t window_free_bytes(const struct pci_window *w)
{
    uint64_t taken = 0;

    for (guint i = 0; w->taken && i < w->taken->len; i++) {
        taken += g_array_index(w->taken, struct pci_range, i).size;
    }
    return w->size - taken;
}

void pci_windows_open_root(struct pci_bus *bus)
{
    struct pci_window *root = bus->windows[0];

    window_set(&root[PCI_WINDOW_BUS], 1, PCI_N_BUSES - 1);
    window_set(&root[PCI_WINDOW_IO], ROOT_IO_BASE, ROOT_IO_SIZE);
    window_set(&root[PCI_WINDOW_MEM32], ROOT_MEM32_BASE, ROOT_MEM32_SIZE);
    window_set(&root[PCI_WINDOW_MEM64], ROOT_MEM64_BASE, ROOT_MEM64_SIZE);
    take_at(&root[PCI_WINDOW_IO], 0, ACPI_IO_BASE, ACPI_IO_SIZE, NULL);
}

enum pci_window_kind pci_window_of(enum pci_bar_kind kind, uint64_t size)
{
    return kind == PCI_BAR_IO                                            ? PCI_WINDOW_IO
           : kind == PCI_BAR_MEM32 || (size != 0 && size <= SMALL_MEM64) ? PCI_WINDOW_MEM32
                                                                         : PCI_WINDOW_MEM64;
}

uint64_t pci_bar_align(enum pci_bar_kind kind, uint64_t size)
{
    return MAX(size, kind == PCI_BAR_IO ? 4u : 4096u);
}

/* ---- what lies behind a bridge needs ---- */

enum { N_ADDRESS_WINDOWS = PCI_WINDOW_BUS };

struct need {
    uint64_t size, align;
    bool is_real; /* something is there that needs it: not only room for what may come */
};

static uint64_t granule_of(unsigned window)
{
    return window == PCI_WINDOW_IO ? IO_GRANULE : MEM_GRANULE;
}

static void add_bars(const struct pci_device *dev, struct need *needs)
{
    for (unsigned i = 0; i < PCI_N_BARS; i++) {
        const struct pci_bar *bar = &dev->bars[i];
        if (bar->size != 0) {
            struct need *n = &needs[pci_window_of(bar->kind, bar->size)];
            uint64_t size = pci_bar_align(bar->kind, bar->size);
            n->size += 2 * size; /* in whatever order they are placed, aligned, they fit in this */
            n->align = MAX(n->align, size);
            n->is_real = true;
        }
    }
}

/* What the windows of bus `nr` must hold. */
static void need_of_bus(struct pci_bus *bus, unsigned nr, struct need *needs)
{
    static const uint64_t spare[N_ADDRESS_WINDOWS] = {
        [PCI_WINDOW_MEM32] = SPARE_MEM32, [PCI_WINDOW_MEM64] = SPARE_MEM64};
    unsigned n_below = 0;

    for (unsigned w = 0; w < N_ADDRESS_WINDOWS; w++) {
        needs[w] = (struct need){spare[w], granule_of(w), false};
    }
    for (guint i = 0; i < bus->devices->len; i++) {
        const struct pci_device *dev = bus->devices->pdata[i];
        struct need below[N_ADDRESS_WINDOWS];
        if (dev->bus != nr) {
            continue;
        }
        add_bars(dev, needs);
        if (dev->secondary_bus == 0) {
            continue;
        }
        need_of_bus(bus, dev->secondary_bus, below);
        for (unsigned w = 0; w < N_ADDRESS_WINDOWS; w++) {
            /* the first one lies at the start, which is aligned for all */
            needs[w].size += below[w].size + (n_below > 0 ? below[w].align - granule_of(w) : 0);
            needs[w].align = MAX(needs[w].align, below[w].align);
            needs[w].is_real |= below[w].is_real;
        }
        n_below++;
    }
    for (unsigned w = 0; w < N_ADDRESS_WINDOWS; w++) {
        uint64_t granule = granule_of(w);
        needs[w].size = MAX((needs[w].size + granule - 1) & ~(granule - 1), granule);
    }
}

/* Gives the bus behind a bridge a piece of the windows of the bus it hangs on, where it has none
 * yet. One that only waits for hotplug leaves something to the devices on the root bus. */
static void take_windows(struct pci_bus *bus, struct pci_device *bridge)
{
    struct pci_window *up = bus->windows[bridge->bus], *down = bus->windows[bridge->secondary_bus];
    struct need needs[N_ADDRESS_WINDOWS];

    need_of_bus(bus, bridge->secondary_bus, needs);
    for (unsigned w = 0; w < N_ADDRESS_WINDOWS; w++) {
        const struct need *n = &needs[w];
        uint64_t base, kept = !n->is_real && bridge->bus == 0 ? granule_of(w) : 0;
        if (down[w].size == 0 && window_free_bytes(&up[w]) >= n->size + kept &&
            pci_window_take(&up[w], n->size, n->align, bridge, &base)) {
            window_set(&down[w], base, n->size);
        }
    }
}

/* A window that is not there is written as one whose base lies above its limit. */
static bool program_windows(struct pci_bus *bus, struct pci_device *bridge, GError **error)
{
    const struct pci_window *w = bus->windows[bridge->secondary_bus];
    const struct pci_window *io = &w[PCI_WINDOW_IO], *m32 = &w[PCI_WINDOW_MEM32],
                            *m64 = &w[PCI_WINDOW_MEM64];
    uint64_t io_end = io->base + io->size - 1, m32_end = m32->base + m32->size - 1,
             m64_end = m64->base + m64->size - 1;

    return pci_config_write(bridge, PCI_IO_BASE, 2,
                            io->size ? ((io->base >> 8) & 0xf0) | (io_end & 0xf000) : 0x00f0,
                            error) &&
           pci_config_write(bridge, PCI_MEMORY_BASE, 4,
                            m32->size ? ((m32->base >> 16) & 0xfff0) | (m32_end & 0xfff00000)
                                      : 0x0000fff0,
                            error) &&
           pci_config_write(bridge, PCI_PREF_MEMORY_BASE, 4,
                            m64->size ? ((m64->base >> 16) & 0xfff0) | (m64_end & 0xfff00000)
                                      : 0x0000fff0,
                            error) &&
           pci_config_write(bridge, PCI_PREF_BASE_UPPER32, 4, m64->size ? m64->base >> 32 : 0,
                            error) &&
           pci_config_write(bridge, PCI_PREF_LIMIT_UPPER32, 4, m64->size ? m64_end >> 32 : 0,
                            error) &&
           pci_command(bridge, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0, error);
}

bool pci_windows_open(struct pci_bus *bus, unsigned nr, GError **error)
{
    for (guint i = 0; i < bus->devices->len; i++) {
        struct pci_device *dev = bus->devices->pdata[i];
        if (dev->bus != nr || dev->secondary_bus == 0) {
            continue;
        }
        take_windows(bus, dev);
        if (!program_windows(bus, dev, error) ||
            !pci_windows_open(bus, dev->secondary_bus, error)) {
            return false;
        }
    }
    return true;
}

/* ---- bus numbers ---- */

bool pci_buses_program(struct pci_device *bridge, GError **error)
{
    return pci_config_write(bridge, PCI_PRIMARY_BUS, 1, bridge->bus, error) &&
           pci_config_write(bridge, PCI_SECONDARY_BUS, 1, bridge->secondary_bus, error) &&
           pci_config_write(bridge, PCI_SUBORDINATE_BUS, 1, bridge->subordinate_bus, error);
}

bool pci_buses_take(struct pci_bus *bus, struct pci_device *bridge, GError **error)
{
    struct pci_window *up = &bus->windows[bridge->bus][PCI_WINDOW_BUS];
    uint64_t base, size = up->size;

    while (size > 0 && !pci_window_take(up, size, 1, bridge, &base)) {
        size--;
    }
    if (size == 0) {
        g_autofree char *name = pci_device_describe(bridge);
        g_set_error(error, PCI_ERROR, PCI_ERROR_NO_SPACE,
                    "%s: no bus number is left for what lies behind it", name);
        return false;
    }
    bridge->secondary_bus = (uint8_t)base;
    bridge->subordinate_bus = (uint8_t)(base + size - 1);
    for (unsigned w = 0; w < N_ADDRESS_WINDOWS; w++) {
        window_set(&bus->windows[base][w], 0, 0);
    }
    window_set(&bus->windows[base][PCI_WINDOW_BUS], base + 1, size - 1);
    return pci_buses_program(bridge, error);
}

bool pci_buses_settle(struct pci_bus *bus, struct pci_device *bridge, GError **error)
{
    struct pci_window *up = &bus->windows[bridge->bus][PCI_WINDOW_BUS],
                      *down = &bus->windows[bridge->secondary_bus][PCI_WINDOW_BUS];
    uint64_t base = bridge->secondary_bus, last = base;

    for (guint i = 0; down->taken && i < down->taken->len; i++) {
        const struct pci_range *r = &g_array_index(down->taken, struct pci_range, i);
        last = MAX(last, r->base + r->size - 1);
    }
    last = MIN(last + SPARE_BUSES, (uint64_t)bridge->subordinate_bus);
    for (guint i = 0; i < up->taken->len; i++) {
        struct pci_range *r = &g_array_index(up->taken, struct pci_range, i);
        if (r->owner == bridge) {
            r->size = last - base + 1;
        }
    }
    down->size = last - base;
    bridge->subordinate_bus = (uint8_t)last;
    return pci_config_write(bridge, PCI_SUBORDINATE_BUS, 1, last, error);
}
