/*
 * One PCI function: configuration space, BARs, capabilities.
 */
#include "models/abi/pci.h"
#include "qtest_client/pci_private.h"

#include <inttypes.h>
#include <string.h>

char *pci_device_describe(const struct pci_device *dev)
{
    char ids[16];

    g_snprintf(ids, sizeof(ids), "%04x:%04x", dev->vendor_id, dev->device_id);
    return g_strdup_printf("%02x:%02x.%x %s", dev->bus, dev->slot, dev->function,
                           dev->abi ? dev->abi->name : ids);
}

/* ---- configuration space ---- */

static uint32_t config_address(const struct pci_device *dev, unsigned offset)
{
    return 0x80000000u | (uint32_t)dev->bus << 16 | (uint32_t)dev->slot << 11 |
           (uint32_t)dev->function << 8 | (offset & 0xfcu);
}

/* Opens the window through which PCI Express boards show 4 KiB of configuration space each. */
static bool open_ecam(struct pci_bus *bus, GError **error)
{
    struct pci_device host_bridge = {.machine = bus->machine, .host = bus};

    if (bus->has_ecam) {
        return true;
    }
    if (!pci_config_write(&host_bridge, Q35_PCIEXBAR + 4, 4, 0, error) ||
        !pci_config_write(&host_bridge, Q35_PCIEXBAR, 4, PCI_ECAM_BASE | Q35_PCIEXBAR_ENABLE,
                          error)) {
        return false;
    }
    bus->has_ecam = true;
    return true;
}

/* Legacy virtio registers move with MSI-X Enable, so what is written there is remembered. */
static void note_msix_enable(struct pci_device *dev, unsigned offset, unsigned width,
                             uint64_t value)
{
    unsigned at = dev->msix_cap + PCI_MSIX_FLAGS + 1u; /* the byte that holds Enable */

    if (offset <= at && at < offset + width) {
        dev->msix_enabled = (value >> (8 * (at - offset))) & (PCI_MSIX_FLAGS_ENABLE >> 8);
    }
}

static bool config_access(struct pci_device *dev, unsigned offset, unsigned width, bool is_write,
                          uint64_t *value, GError **error)
{
    bool extended = offset >= PCI_CONFIG_BYTES;

    if ((width != 1 && width != 2 && width != 4) || offset % width != 0 || offset + width > 4096 ||
        (extended && dev->machine->board != MACHINE_Q35)) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: no configuration access of %u bytes at offset 0x%x (aligned, 1, 2 or 4 "
                    "bytes, below %s)",
                    name, width, offset, dev->machine->board == MACHINE_Q35 ? "4096" : "256");
        return false;
    }
    if (is_write && *value >> (8 * width) != 0) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: value 0x%" PRIx64 " is too wide for %u bytes at configuration offset 0x%x",
                    name, *value, width, offset);
        return false;
    }
    if (extended) {
        uint64_t at = PCI_ECAM_BASE + ((uint64_t)dev->bus << 20 | (uint64_t)dev->slot << 15 |
                                       (uint64_t)dev->function << 12 | offset);
        if (!open_ecam(dev->host, error)) {
            return false;
        }
        return is_write ? machine_write(dev->machine, MACHINE_MEM, at, width, *value, error)
                        : machine_read(dev->machine, MACHINE_MEM, at, width, value, error);
    }
    struct machine_access a[2] = {
        {PCI_CONFIG_ADDRESS_PORT, config_address(dev, offset), MACHINE_IO, 4, true},
        {PCI_CONFIG_DATA_PORT + (offset & 3), is_write ? *value : 0, MACHINE_IO, (uint8_t)width,
         is_write},
    };
    if (!machine_run(dev->machine, a, 2, error)) {
        return false;
    }
    *value = a[1].value;
    if (is_write && dev->msix_cap) {
        note_msix_enable(dev, offset, width, *value);
    }
    return true;
}

bool pci_config_read(struct pci_device *dev, unsigned offset, unsigned width, uint64_t *value,
                     GError **error)
{
    return config_access(dev, offset, width, false, value, error);
}

bool pci_config_write(struct pci_device *dev, unsigned offset, unsigned width, uint64_t value,
                      GError **error)
{
    return config_access(dev, offset, width, true, &value, error);
}

bool pci_config_read_bytes(struct pci_device *dev, unsigned offset, unsigned len, uint8_t *bytes,
                           GError **error)
{
    struct machine_access a[2 * PCI_CONFIG_BYTES / 4];
    unsigned first = offset & ~3u, n = 0;

    if (offset + len > PCI_CONFIG_BYTES) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: bytes 0x%x to 0x%x are not in configuration space", name, offset,
                    offset + len);
        return false;
    }
    for (unsigned at = first; at < offset + len; at += 4) {
        a[n++] = (struct machine_access){PCI_CONFIG_ADDRESS_PORT, config_address(dev, at),
                                         MACHINE_IO, 4, true};
        a[n++] = (struct machine_access){PCI_CONFIG_DATA_PORT, 0, MACHINE_IO, 4, false};
    }
    if (!machine_run(dev->machine, a, n, error)) {
        return false;
    }
    for (unsigned i = 0; i < len; i++) {
        unsigned at = offset + i - first;
        bytes[i] = (uint8_t)(a[2 * (at / 4) + 1].value >> (8 * (at & 3)));
    }
    return true;
}

bool pci_command(struct pci_device *dev, uint16_t set, uint16_t clear, GError **error)
{
    uint64_t command;

    return pci_config_read(dev, PCI_COMMAND, 2, &command, error) &&
           pci_config_write(dev, PCI_COMMAND, 2, (command & ~(uint64_t)clear) | set, error);
}

const struct pci_capability *pci_find_capability(struct pci_device *dev, uint8_t id, unsigned n)
{
    for (guint i = 0; i < dev->capabilities->len; i++) {
        const struct pci_capability *cap =
            &g_array_index(dev->capabilities, struct pci_capability, i);
        if (cap->id == id && n-- == 0) {
            return cap;
        }
    }
    return NULL;
}

/* ---- BARs ---- */

static bool bar_exists(struct pci_device *dev, unsigned bar, GError **error)
{
    if (bar < PCI_N_BARS && dev->bars[bar].size != 0) {
        return true;
    }
    g_autofree char *name = pci_device_describe(dev);
    g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "%s has no BAR %u", name, bar);
    return false;
}

bool pci_bar_place(struct pci_device *dev, unsigned bar, uint64_t base, GError **error)
{
    if (!bar_exists(dev, bar, error)) {
        return false;
    }
    struct pci_bar *b = &dev->bars[bar];
    uint64_t last = base + (b->size - 1);
    uint64_t limit = b->kind == PCI_BAR_IO      ? 0xffff
                     : b->kind == PCI_BAR_MEM32 ? 0xffffffff
                                                : UINT64_MAX - 1;
    if ((base & (b->size - 1)) != 0 || last < base || last > limit) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: BAR %u of 0x%" PRIx64 " bytes cannot lie at 0x%" PRIx64
                    " (%s, last address 0x%" PRIx64 " at most)",
                    name, bar, b->size, base, "a multiple of its size", limit);
        return false;
    }
    uint64_t command;
    uint16_t decode = b->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    unsigned offset = PCI_BAR0 + 4 * bar;
    if (!pci_config_read(dev, PCI_COMMAND, 2, &command, error) ||
        ((command & decode) &&
         !pci_config_write(dev, PCI_COMMAND, 2, command & ~(uint64_t)decode, error)) ||
        !pci_config_write(dev, offset, 4, base & 0xffffffff, error) ||
        (b->kind == PCI_BAR_MEM64 && !pci_config_write(dev, offset + 4, 4, base >> 32, error)) ||
        ((command & decode) && !pci_config_write(dev, PCI_COMMAND, 2, command, error))) {
        return false;
    }
    b->base = base;
    return true;
}

static bool take_address(struct pci_bus *bus, unsigned bus_nr, const struct pci_device *owner,
                         enum pci_bar_kind kind, uint64_t size, uint64_t *base, GError **error)
{
    struct pci_window *w = bus->windows[bus_nr];
    enum pci_window_kind first = pci_window_of(kind, size);
    uint64_t align = pci_bar_align(kind, size);

    if (pci_window_take(&w[first], size, align, owner, base) ||
        (kind == PCI_BAR_MEM64 &&
         pci_window_take(&w[PCI_WINDOW_MEM64], size, align, owner, base))) {
        return true;
    }
    g_set_error(error, PCI_ERROR, PCI_ERROR_NO_SPACE,
                "no 0x%" PRIx64 " bytes of %s addresses are left on bus %u", size,
                kind == PCI_BAR_IO ? "port" : "memory", bus_nr);
    return false;
}

bool pci_bus_reserve(struct pci_bus *bus, enum pci_bar_kind kind, uint64_t size, uint64_t *base,
                     GError **error)
{
    if (kind == PCI_BAR_NONE || size == 0 || (size & (size - 1)) != 0) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "0x%" PRIx64 " bytes are no size of a BAR (a power of two)", size);
        return false;
    }
    return take_address(bus, 0, NULL, kind, size, base, error);
}

bool pci_bar_reserve(struct pci_device *dev, unsigned bar, uint64_t *base, GError **error)
{
    return bar_exists(dev, bar, error) &&
           take_address(dev->host, dev->bus, dev, dev->bars[bar].kind, dev->bars[bar].size, base,
                        error);
}

bool pci_device_enable(struct pci_device *dev, GError **error)
{
    for (unsigned i = 0; i < PCI_N_BARS; i++) {
        const struct pci_bar *b = &dev->bars[i];
        uint64_t base;
        if (b->size != 0 && b->base == 0 &&
            (!pci_bar_reserve(dev, i, &base, error) || !pci_bar_place(dev, i, base, error))) {
            return false;
        }
    }
    return pci_command(dev, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0, error);
}

bool pci_bar_access(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned width,
                    struct machine_access *access, GError **error)
{
    if (!bar_exists(dev, bar, error)) {
        return false;
    }
    const struct pci_bar *b = &dev->bars[bar];
    if (b->base == 0) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND,
                    "%s: BAR %u has no address yet (enable the device first)", name, bar);
        return false;
    }
    if (width > b->size || offset > b->size - width) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: %u bytes at offset 0x%" PRIx64 " are beyond BAR %u of 0x%" PRIx64 " bytes",
                    name, width, offset, bar, b->size);
        return false;
    }
    access->space = b->kind == PCI_BAR_IO ? MACHINE_IO : MACHINE_MEM;
    access->addr = b->base + offset;
    access->width = (uint8_t)MIN(width, 255);
    return true;
}

bool pci_bar_read(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned width,
                  uint64_t *value, GError **error)
{
    struct machine_access a = {.is_write = false};

    if (!pci_bar_access(dev, bar, offset, width, &a, error) ||
        !machine_run(dev->machine, &a, 1, error)) {
        return false;
    }
    *value = a.value;
    return true;
}

bool pci_bar_write(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned width,
                   uint64_t value, GError **error)
{
    struct machine_access a = {.is_write = true, .value = value};

    return pci_bar_access(dev, bar, offset, width, &a, error) &&
           machine_run(dev->machine, &a, 1, error);
}
