/*
 * The ivshmem devices' registers and where their memory lies (QEMU's docs/specs/ivshmem-spec.txt,
 * "PCI memory BARs" and "Device registers").
 */
#include "qtest_client/ivshmem.h"
#include "models/abi/ivshmem.h"
#include "models/abi/pci.h"

#include <inttypes.h>

static bool fail(struct pci_device *dev, int code, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

static bool fail(struct pci_device *dev, int code, GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *name = pci_device_describe(dev);
    g_set_error(error, PCI_ERROR, code, "%s: %s", name, what);
    return false;
}

/* Registers, and MSI-X if there is any; the shared memory stays where it is. */
static bool place_small_bars(struct pci_device *dev, GError **error)
{
    for (unsigned i = 0; i < IVSHMEM_BAR_MEMORY; i++) {
        const struct pci_bar *bar = &dev->bars[i];
        uint64_t base;
        if (bar->size != 0 && bar->base == 0 &&
            (!pci_bar_reserve(dev, i, &base, error) || !pci_bar_place(dev, i, base, error))) {
            return false;
        }
    }
    return pci_command(dev, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0, error);
}

struct ivshmem *ivshmem_new(struct pci_device *dev, GError **error)
{
    const struct pci_bar *memory = &dev->bars[IVSHMEM_BAR_MEMORY];

    if (dev->vendor_id != IVSHMEM_VENDOR_ID || dev->device_id != IVSHMEM_DEVICE_ID) {
        fail(dev, PCI_ERROR_NOT_FOUND, error, "is %04x:%04x, not an ivshmem device (%04x:%04x)",
             dev->vendor_id, dev->device_id, IVSHMEM_VENDOR_ID, IVSHMEM_DEVICE_ID);
        return NULL;
    }
    if (dev->bars[IVSHMEM_BAR_REGISTERS].size < IVSHMEM_DOORBELL + 4 ||
        memory->kind != PCI_BAR_MEM64) {
        fail(dev, PCI_ERROR_BROKEN, error, "has no registers in BAR %d, or no memory in BAR %d",
             IVSHMEM_BAR_REGISTERS, IVSHMEM_BAR_MEMORY);
        return NULL;
    }
    if (!place_small_bars(dev, error)) {
        return NULL;
    }
    struct ivshmem *shm = g_new0(struct ivshmem, 1);
    shm->dev = dev;
    shm->has_doorbell = dev->msix_cap != 0;
    shm->memory_size = memory->size;
    return shm;
}

void ivshmem_free(struct ivshmem *shm)
{
    g_free(shm);
}

/* ---- registers ---- */

static bool read_register(struct ivshmem *shm, unsigned offset, uint32_t *value, GError **error)
{
    uint64_t read;

    if (!pci_bar_read(shm->dev, IVSHMEM_BAR_REGISTERS, offset, 4, &read, error)) {
        return false;
    }
    *value = (uint32_t)read;
    return true;
}

bool ivshmem_position(struct ivshmem *shm, uint16_t *id, GError **error)
{
    uint32_t position;

    if (!read_register(shm, IVSHMEM_IV_POSITION, &position, error)) {
        return false;
    }
    if (position > IVSHMEM_MAX_PEER_ID) {
        return fail(shm->dev, PCI_ERROR_BROKEN, error,
                    "IVPosition reads 0x%" PRIx32 ", which is no peer id", position);
    }
    *id = (uint16_t)position;
    return true;
}

bool ivshmem_ring(struct ivshmem *shm, uint16_t peer, uint8_t vector, GError **error)
{
    uint32_t value = (uint32_t)peer << IVSHMEM_DOORBELL_PEER_SHIFT |
                     (uint32_t)vector << IVSHMEM_DOORBELL_VECTOR_SHIFT;

    return pci_bar_write(shm->dev, IVSHMEM_BAR_REGISTERS, IVSHMEM_DOORBELL, 4, value, error);
}

bool ivshmem_interrupt_mask(struct ivshmem *shm, uint32_t *mask, GError **error)
{
    return read_register(shm, IVSHMEM_INTR_MASK, mask, error);
}

bool ivshmem_set_interrupt_mask(struct ivshmem *shm, uint32_t mask, GError **error)
{
    return pci_bar_write(shm->dev, IVSHMEM_BAR_REGISTERS, IVSHMEM_INTR_MASK, 4, mask, error);
}

bool ivshmem_interrupt_status(struct ivshmem *shm, uint32_t *status, GError **error)
{
    return read_register(shm, IVSHMEM_INTR_STATUS, status, error);
}

/* ---- the shared memory ---- */

static bool choose_address(struct ivshmem *shm, struct guest_region *region, uint64_t wanted,
                           uint64_t *gpa, GError **error)
{
    const struct pci_bar *memory = &shm->dev->bars[IVSHMEM_BAR_MEMORY];

    if (wanted == IVSHMEM_AT_HOST_ADDRESS) {
        *gpa = (uint64_t)(uintptr_t)region->host;
        return true;
    }
    if (wanted != IVSHMEM_ANYWHERE) {
        *gpa = wanted;
        return true;
    }
    /* where other machines see it, or where this one does, before a new place */
    *gpa = region->gpa != GUEST_UNPLACED ? region->gpa : memory->base;
    return *gpa != 0 || pci_bar_reserve(shm->dev, IVSHMEM_BAR_MEMORY, gpa, error);
}

bool ivshmem_map(struct ivshmem *shm, struct guest_region *region, uint64_t gpa, GError **error)
{
    struct guest_memory *map = shm->dev->machine->memory;
    const struct pci_bar *memory = &shm->dev->bars[IVSHMEM_BAR_MEMORY];

    if (region->size != shm->memory_size) {
        return fail(shm->dev, PCI_ERROR_INVALID, error,
                    "shows 0x%" PRIx64 " bytes of memory, but '%s' has 0x%" PRIx64
                    ": it is not the same memory",
                    shm->memory_size, region->name, region->size);
    }
    if (!choose_address(shm, region, gpa, &gpa, error)) {
        return false;
    }
    /* Address 0 and an end at 2^64 - 1 both mean "nowhere" to the device. */
    if (gpa == 0 || gpa % memory->size != 0 || gpa >= UINT64_MAX - (memory->size - 1)) {
        return fail(shm->dev, PCI_ERROR_INVALID, error,
                    "its memory cannot lie at 0x%" PRIx64
                    ": not 0, a multiple of its size (0x%" PRIx64 "), and below 2^64 less its size",
                    gpa, memory->size);
    }
    if (!guest_memory_place(map, region, gpa, error)) {
        return false;
    }
    if (!pci_bar_place(shm->dev, IVSHMEM_BAR_MEMORY, gpa, error) ||
        !pci_command(shm->dev, PCI_COMMAND_MEMORY, 0, error)) {
        guest_memory_remove(map, region);
        shm->region = NULL;
        return false;
    }
    shm->region = region;
    return true;
}
