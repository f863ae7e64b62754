/*
 * Finding functions: buses through bridges, BAR sizes, capabilities.
 */
#include "models/abi/pci.h"
#include "qtest_client/pci_private.h"

#include <inttypes.h>
#include <string.h>

G_DEFINE_QUARK(pci - error - quark, pci_error)

struct pci_bus *pci_bus_new(struct machine *m)
{
    struct pci_bus *bus = g_new0(struct pci_bus, 1);

    bus->machine = m;
    bus->devices = g_ptr_array_new();
    bus->gone = g_ptr_array_new();
    pci_windows_open_root(bus);
    return bus;
}

static void block_free(gpointer data)
{
    struct pci_block *block = data;

    g_free(block->name);
    g_free(block);
}

static void device_free(gpointer data)
{
    struct pci_device *dev = data;

    g_array_unref(dev->capabilities);
    g_ptr_array_unref(dev->blocks);
    g_free(dev);
}

void pci_bus_free(struct pci_bus *bus)
{
    if (!bus) {
        return;
    }
    g_ptr_array_foreach(bus->devices, (GFunc)(void (*)(void))device_free, NULL);
    g_ptr_array_foreach(bus->gone, (GFunc)(void (*)(void))device_free, NULL);
    g_ptr_array_unref(bus->devices);
    g_ptr_array_unref(bus->gone);
    for (unsigned b = 0; b < PCI_N_BUSES; b++) {
        for (unsigned w = 0; w < PCI_N_WINDOWS; w++) {
            if (bus->windows[b][w].taken) {
                g_array_unref(bus->windows[b][w].taken);
            }
        }
    }
    g_free(bus);
}

GPtrArray *pci_bus_devices(struct pci_bus *bus)
{
    return bus->devices;
}

struct pci_device *pci_bus_find(struct pci_bus *bus, unsigned bus_nr, unsigned slot,
                                unsigned function)
{
    for (guint i = 0; i < bus->devices->len; i++) {
        struct pci_device *d = bus->devices->pdata[i];
        if (d->bus == bus_nr && d->slot == slot && d->function == function) {
            return d;
        }
    }
    return NULL;
}

struct pci_device *pci_bus_find_id(struct pci_bus *bus, uint16_t vendor_id, uint16_t device_id,
                                   unsigned n)
{
    for (guint i = 0; i < bus->devices->len; i++) {
        struct pci_device *d = bus->devices->pdata[i];
        if (d->vendor_id == vendor_id && d->device_id == device_id && n-- == 0) {
            return d;
        }
    }
    return NULL;
}

static void forget_addresses(struct pci_device *dev)
{
    for (unsigned i = 0; i < PCI_N_BARS; i++) {
        dev->bars[i].base = 0;
    }
    dev->msix_enabled = false;
    for (unsigned w = 0; w < PCI_N_WINDOWS; w++) {
        pci_window_give_back(&dev->host->windows[dev->bus][w], dev);
    }
}

/* A bridge keeps its bus numbers and windows, which are programmed again: its own BARs are lost. */
static void forget_bridge_bars(struct pci_device *bridge)
{
    for (unsigned i = 0; i < PCI_N_BARS; i++) {
        for (unsigned w = 0; bridge->bars[i].base != 0 && w < PCI_N_WINDOWS; w++) {
            pci_window_give_back_at(&bridge->host->windows[bridge->bus][w], bridge,
                                    bridge->bars[i].base);
        }
        bridge->bars[i].base = 0;
    }
    bridge->msix_enabled = false;
}

static void forget(struct pci_device *dev)
{
    if (dev->secondary_bus != 0) {
        forget_bridge_bars(dev);
    } else {
        forget_addresses(dev);
    }
}

void pci_bus_forget(struct pci_bus *bus)
{
    for (guint i = 0; i < bus->devices->len; i++) {
        forget(bus->devices->pdata[i]);
    }
    bus->has_ecam = false;
}

/* ---- one function ---- */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
}

static bool find_capabilities(struct pci_device *dev, const uint8_t *config, GError **error)
{
    bool seen[PCI_CONFIG_BYTES] = {false};

    g_array_set_size(dev->capabilities, 0);
    dev->msix_cap = 0;
    dev->msix_n = 0;
    dev->is_express = false;
    if (!(get16(config + PCI_STATUS) & PCI_STATUS_CAP_LIST)) {
        return true;
    }
    unsigned at = config[PCI_CAPABILITY_LIST] & ~3u;
    while (at != 0) {
        if (at < PCI_HEADER_BYTES || seen[at]) {
            g_autofree char *name = pci_device_describe(dev);
            g_set_error(error, PCI_ERROR, PCI_ERROR_BROKEN, "%s: its capability list %s 0x%02x",
                        name, seen[at] ? "loops at" : "points into the header at", at);
            return false;
        }
        seen[at] = true;
        struct pci_capability cap = {config[at], (uint8_t)at, 2};
        if (cap.id == PCI_CAP_ID_MSIX && !dev->msix_cap && at + 12 <= PCI_CONFIG_BYTES) {
            dev->msix_cap = (uint8_t)at;
            dev->msix_n =
                (uint16_t)((get16(config + at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1);
        }
        if (cap.id == PCI_CAP_ID_EXPRESS) {
            dev->is_express = true;
        }
        if (cap.id == PCI_CAP_ID_VENDOR) {
            cap.length = MAX(config[at + 2], 2);
        } else {
            const struct abi_block *block =
                abi_capability_block(cap.id, get16(config + MIN(at + 2, PCI_CONFIG_BYTES - 2)));
            cap.length = block && block->size ? (uint8_t)block->size : 2;
        }
        g_array_append_val(dev->capabilities, cap);
        at = config[at + 1] & ~3u;
    }
    return true;
}

/* Reads each BAR after writing all ones, with decoding off; then puts back what was there. */
static bool size_bars(struct pci_device *dev, const uint8_t *config, GError **error)
{
    unsigned n = dev->header_type == PCI_HEADER_TYPE_BRIDGE   ? 2
                 : dev->header_type == PCI_HEADER_TYPE_NORMAL ? PCI_N_BARS
                                                              : 0;
    struct machine_access a[2 + 6 * PCI_N_BARS + 4];
    uint32_t address = 0x80000000u | (uint32_t)dev->bus << 16 | (uint32_t)dev->slot << 11 |
                       (uint32_t)dev->function << 8;
    unsigned k = 0, read_at[PCI_N_BARS];
    uint16_t command = get16(config + PCI_COMMAND);

    a[k++] = (struct machine_access){PCI_CONFIG_ADDRESS_PORT, address | PCI_COMMAND, MACHINE_IO, 4,
                                     true};
    a[k++] = (struct machine_access){PCI_CONFIG_DATA_PORT,
                                     command & ~(uint32_t)(PCI_COMMAND_IO | PCI_COMMAND_MEMORY),
                                     MACHINE_IO, 2, true};
    for (unsigned i = 0; i < n; i++) {
        unsigned offset = PCI_BAR0 + 4 * i;
        a[k++] =
            (struct machine_access){PCI_CONFIG_ADDRESS_PORT, address | offset, MACHINE_IO, 4, true};
        a[k++] = (struct machine_access){PCI_CONFIG_DATA_PORT, 0xffffffff, MACHINE_IO, 4, true};
        read_at[i] = k;
        a[k++] = (struct machine_access){PCI_CONFIG_DATA_PORT, 0, MACHINE_IO, 4, false};
        a[k++] = (struct machine_access){PCI_CONFIG_DATA_PORT, get32(config + offset), MACHINE_IO,
                                         4, true};
    }
    a[k++] = (struct machine_access){PCI_CONFIG_ADDRESS_PORT, address | PCI_COMMAND, MACHINE_IO, 4,
                                     true};
    a[k++] = (struct machine_access){PCI_CONFIG_DATA_PORT, command, MACHINE_IO, 2, true};
    if (!machine_run(dev->machine, a, k, error)) {
        return false;
    }
    memset(dev->bars, 0, sizeof(dev->bars));
    for (unsigned i = 0; i < n; i++) {
        struct pci_bar *bar = &dev->bars[i];
        uint32_t low = (uint32_t)a[read_at[i]].value;
        if (low == 0) {
            continue;
        }
        if (low & PCI_BAR_SPACE_IO) {
            bar->kind = PCI_BAR_IO;
            bar->size = (~(low & 0xfffcu) & 0xffffu) + 1u;
            continue;
        }
        uint64_t mask = (low & PCI_BAR_MEM_MASK) | 0xffffffff00000000u;
        bar->prefetchable = low & PCI_BAR_MEM_PREFETCH;
        bar->kind = PCI_BAR_MEM32;
        if ((low & PCI_BAR_MEM_TYPE_MASK) == PCI_BAR_MEM_TYPE_64) {
            bar->kind = PCI_BAR_MEM64;
            if (++i == n) {
                g_autofree char *name = pci_device_describe(dev);
                g_set_error(error, PCI_ERROR, PCI_ERROR_BROKEN,
                            "%s: its last BAR says it is 64 bits wide", name);
                return false;
            }
            mask = (mask & 0xffffffffu) | a[read_at[i]].value << 32;
        }
        bar->size = ~mask + 1;
    }
    return true;
}

/* A reset of one function, of its bus or a device that took its place: its BARs read zero again. */
static bool was_reset(const struct pci_device *dev, const uint8_t *config)
{
    for (unsigned i = 0; i < PCI_N_BARS; i++) {
        const struct pci_bar *bar = &dev->bars[i];
        const uint8_t *at = config + PCI_BAR0 + 4 * i;
        uint64_t low = get32(at) & (bar->kind == PCI_BAR_IO ? PCI_BAR_IO_MASK : PCI_BAR_MEM_MASK);
        uint64_t high = bar->kind == PCI_BAR_MEM64 ? get32(at + 4) : 0;
        if (bar->base != 0 && (low | high << 32) != bar->base) {
            return true;
        }
    }
    return false;
}

/* A function that was not seen before; NULL if it contradicts itself. */
static struct pci_device *device_new(const struct pci_device *place, const uint8_t *config,
                                     GError **error)
{
    struct pci_device *dev = g_memdup2(place, sizeof(*place));

    dev->vendor_id = get16(config + PCI_VENDOR_ID);
    dev->device_id = get16(config + PCI_DEVICE_ID);
    dev->capabilities = g_array_new(FALSE, FALSE, sizeof(struct pci_capability));
    dev->blocks = g_ptr_array_new_with_free_func(block_free);
    dev->header_type = config[PCI_HEADER_TYPE] & 0x7f;
    dev->abi = abi_find_device(dev->vendor_id, dev->device_id);
    dev->class_code = get32(config + PCI_REVISION_ID) >> 8;
    dev->revision = config[PCI_REVISION_ID];
    dev->interrupt_pin = config[PCI_INTERRUPT_PIN];
    if (!find_capabilities(dev, config, error) || !size_bars(dev, config, error)) {
        device_free(dev);
        return NULL;
    }
    if (dev->abi && dev->abi->has_io_bar0 && dev->bars[0].kind != PCI_BAR_IO) {
        dev->abi = NULL;
    }
    pci_device_resolve_blocks(dev, config);
    return dev;
}

static bool probe_function(struct pci_bus *bus, uint8_t nr, uint8_t slot, uint8_t function,
                           GHashTable *found, struct pci_device **out, GError **error)
{
    uint8_t config[PCI_CONFIG_BYTES];
    struct pci_device *dev = pci_bus_find(bus, nr, slot, function);
    struct pci_device probe = {
        .machine = bus->machine, .host = bus, .bus = nr, .slot = slot, .function = function};

    if (!pci_config_read_bytes(&probe, 0, sizeof(config), config, error)) {
        return false;
    }
    /* another device in the same place: the old one counts as gone */
    if (!dev || dev->vendor_id != get16(config + PCI_VENDOR_ID) ||
        dev->device_id != get16(config + PCI_DEVICE_ID)) {
        dev = device_new(&probe, config, error);
        if (!dev) {
            return false;
        }
        g_ptr_array_add(bus->devices, dev);
    }
    g_hash_table_add(found, dev);
    if (was_reset(dev, config)) {
        forget(dev);
    }
    *out = dev;
    return true;
}

/* ---- buses ---- */

static bool scan_bus(struct pci_bus *bus, uint8_t nr, GHashTable *found, GError **error);

static bool scan_bridge(struct pci_bus *bus, struct pci_device *bridge, GHashTable *found,
                        GError **error)
{
    bool is_new = bridge->secondary_bus == 0;

    return (is_new ? pci_buses_take(bus, bridge, error) : pci_buses_program(bridge, error)) &&
           scan_bus(bus, bridge->secondary_bus, found, error) &&
           (!is_new || pci_buses_settle(bus, bridge, error));
}

static bool scan_bus(struct pci_bus *bus, uint8_t nr, GHashTable *found, GError **error)
{
    enum { SLOTS = 32, FUNCTIONS = 8 };
    struct machine_access a[SLOTS * 4];

    for (unsigned s = 0; s < SLOTS; s++) {
        uint32_t address = 0x80000000u | (uint32_t)nr << 16 | s << 11;
        a[4 * s] = (struct machine_access){PCI_CONFIG_ADDRESS_PORT, address, MACHINE_IO, 4, true};
        a[4 * s + 1] = (struct machine_access){PCI_CONFIG_DATA_PORT, 0, MACHINE_IO, 4, false};
        a[4 * s + 2] = (struct machine_access){
            PCI_CONFIG_ADDRESS_PORT, address | (PCI_HEADER_TYPE & ~3u), MACHINE_IO, 4, true};
        a[4 * s + 3] = (struct machine_access){PCI_CONFIG_DATA_PORT + (PCI_HEADER_TYPE & 3), 0,
                                               MACHINE_IO, 1, false};
    }
    if (!machine_run(bus->machine, a, SLOTS * 4, error)) {
        return false;
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        uint16_t vendor = (uint16_t)a[4 * s + 1].value;
        if (vendor == 0xffff || vendor == 0) {
            continue;
        }
        unsigned n = a[4 * s + 3].value & PCI_HEADER_TYPE_MULTI_FUNCTION ? FUNCTIONS : 1;
        for (unsigned f = 0; f < n; f++) {
            struct pci_device here = {.machine = bus->machine,
                                      .host = bus,
                                      .bus = nr,
                                      .slot = (uint8_t)s,
                                      .function = (uint8_t)f};
            struct pci_device *dev;
            uint64_t id;
            if (f > 0 && (!pci_config_read(&here, PCI_VENDOR_ID, 2, &id, error))) {
                return false;
            }
            if (f > 0 && (id == 0xffff || id == 0)) {
                continue;
            }
            if (!probe_function(bus, nr, (uint8_t)s, (uint8_t)f, found, &dev, error) ||
                (dev->header_type == PCI_HEADER_TYPE_BRIDGE &&
                 !scan_bridge(bus, dev, found, error))) {
                return false;
            }
        }
    }
    return true;
}

static int by_address(gconstpointer a, gconstpointer b)
{
    const struct pci_device *x = *(struct pci_device *const *)a,
                            *y = *(struct pci_device *const *)b;

    return (x->bus << 8 | x->slot << 3 | x->function) - (y->bus << 8 | y->slot << 3 | y->function);
}

bool pci_bus_scan(struct pci_bus *bus, GError **error)
{
    g_autoptr(GHashTable) found = g_hash_table_new(NULL, NULL);

    bool ok = scan_bus(bus, 0, found, error);
    for (guint i = bus->devices->len; ok && i > 0; i--) {
        struct pci_device *dev = bus->devices->pdata[i - 1];
        if (!g_hash_table_contains(found, dev)) {
            forget_addresses(dev);
            g_ptr_array_remove_index(bus->devices, i - 1);
            g_ptr_array_add(bus->gone, dev);
        }
    }
    g_ptr_array_sort(bus->devices, by_address);
    return ok && pci_windows_open(bus, 0, error);
}
