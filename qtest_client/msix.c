/*
 * Programming the MSI-X capability, table and pending bits of a function (PCI Local
 * Bus 3.0, 6.8.2).
 */
#include "models/abi/pci.h"
#include "qtest_client/interrupt.h"

#include <inttypes.h>

static bool change_control(struct pci_device *dev, uint64_t bit, bool is_set, GError **error)
{
    uint64_t flags;

    if (dev->msix_cap == 0) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "%s has no MSI-X capability", name);
        return false;
    }
    unsigned offset = dev->msix_cap + PCI_MSIX_FLAGS;
    return pci_config_read(dev, offset, 2, &flags, error) &&
           pci_config_write(dev, offset, 2, is_set ? flags | bit : flags & ~bit, error);
}

bool msix_set_enabled(struct pci_device *dev, bool enabled, GError **error)
{
    return change_control(dev, PCI_MSIX_FLAGS_ENABLE, enabled, error);
}

bool msix_set_function_mask(struct pci_device *dev, bool masked, GError **error)
{
    return change_control(dev, PCI_MSIX_FLAGS_MASKALL, masked, error);
}

static bool check_vector(struct pci_device *dev, unsigned vector, GError **error)
{
    if (vector < dev->msix_n) {
        return true;
    }
    g_autofree char *name = pci_device_describe(dev);
    if (dev->msix_cap == 0) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "%s has no MSI-X capability", name);
    } else {
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s has no MSI-X vector %u (%u vectors, from 0)", name, vector, dev->msix_n);
    }
    return false;
}

/* The access to a dword of one of the two structures. */
static bool find_dword(struct pci_device *dev, const char *block_name, unsigned offset,
                       struct machine_access *access, GError **error)
{
    struct pci_block *block = pci_find_block(dev, block_name, error);

    *access = (struct machine_access){.is_write = false};
    return block &&
           pci_bar_access(dev, block->bar, (uint64_t)block->offset + offset, 4, access, error);
}

/* The access to a dword of a table entry. */
static bool find_entry(struct pci_device *dev, unsigned vector, unsigned offset,
                       struct machine_access *access, GError **error)
{
    return check_vector(dev, vector, error) &&
           find_dword(dev, "msix_table", vector * PCI_MSIX_ENTRY_BYTES + offset, access, error);
}

bool msix_set_message(struct pci_device *dev, unsigned vector, uint64_t address, uint32_t data,
                      GError **error)
{
    struct machine_access control, entry;

    if (address % 4 != 0) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: MSI-X vector %u cannot go to address 0x%" PRIx64 ": no multiple of 4",
                    name, vector, address);
        return false;
    }
    if (!find_entry(dev, vector, PCI_MSIX_ENTRY_VECTOR_CTRL, &control, error) ||
        !find_entry(dev, vector, 0, &entry, error) ||
        !machine_run(dev->machine, &control, 1, error)) {
        return false;
    }
    const struct {
        unsigned offset;
        uint64_t value;
    } writes[] = {
        {PCI_MSIX_ENTRY_VECTOR_CTRL, control.value | PCI_MSIX_ENTRY_CTRL_MASKED},
        {PCI_MSIX_ENTRY_LOWER_ADDR, address & 0xffffffff},
        {PCI_MSIX_ENTRY_UPPER_ADDR, address >> 32},
        {PCI_MSIX_ENTRY_DATA, data},
        {PCI_MSIX_ENTRY_VECTOR_CTRL, control.value},
    };
    struct machine_access accesses[G_N_ELEMENTS(writes)];
    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++) {
        accesses[i] = entry;
        accesses[i].addr += writes[i].offset;
        accesses[i].value = writes[i].value;
        accesses[i].is_write = true;
    }
    return machine_run(dev->machine, accesses, G_N_ELEMENTS(accesses), error);
}

bool msix_set_masked(struct pci_device *dev, unsigned vector, bool masked, GError **error)
{
    struct machine_access control;

    if (!find_entry(dev, vector, PCI_MSIX_ENTRY_VECTOR_CTRL, &control, error) ||
        !machine_run(dev->machine, &control, 1, error)) {
        return false;
    }
    const uint64_t bit = PCI_MSIX_ENTRY_CTRL_MASKED;
    control.value = masked ? control.value | bit : control.value & ~bit;
    control.is_write = true;
    return machine_run(dev->machine, &control, 1, error);
}

bool msix_pending(struct pci_device *dev, unsigned vector, bool *pending, GError **error)
{
    struct machine_access bits;

    if (!check_vector(dev, vector, error) ||
        !find_dword(dev, "msix_pba", vector / 32 * 4, &bits, error) ||
        !machine_run(dev->machine, &bits, 1, error)) {
        return false;
    }
    *pending = (bits.value >> (vector % 32) & 1) != 0;
    return true;
}
