/*
 * Driver for QEMU's inter-VM shared memory devices, plain and doorbell: their four registers, and
 * the shared memory placed on the guest's bus. Follows QEMU's docs/specs/ivshmem-spec.txt.
 * Not here: the server that doorbell devices connect to (models/ivshmem_server.h).
 */
#ifndef RINGLAB_IVSHMEM_H
#define RINGLAB_IVSHMEM_H

#include "qtest_client/guest_memory.h"
#include "qtest_client/interrupt.h"
#include "qtest_client/pci.h"

struct ivshmem {
    struct pci_device *dev;
    bool has_doorbell;           /* ivshmem-doorbell: MSI-X is there */
    uint64_t memory_size;        /* bytes of BAR 2 */
    struct guest_region *region; /* what was mapped, or NULL */
};

/* Takes an enabled or not yet enabled function: registers and MSI-X get addresses if they have
 * none, memory decoding and bus mastering are switched on. NOT_FOUND if it is another device. */
struct ivshmem *ivshmem_new(struct pci_device *dev, GError **error);
void ivshmem_free(struct ivshmem *shm);

/* IVPosition: this device's peer id, 0..65535; 0 for plain. */
bool ivshmem_position(struct ivshmem *shm, uint16_t *id, GError **error);
/* Rings vector 0..255 of a peer. An id or vector nobody has is ignored by the device. */
bool ivshmem_ring(struct ivshmem *shm, uint16_t peer, uint8_t vector, GError **error);
bool ivshmem_interrupt_mask(struct ivshmem *shm, uint32_t *mask, GError **error);
bool ivshmem_set_interrupt_mask(struct ivshmem *shm, uint32_t mask, GError **error);
/* Reading clears it. */
bool ivshmem_interrupt_status(struct ivshmem *shm, uint32_t *status, GError **error);

/* Puts the shared memory (BAR 2) at guest-physical `gpa` and enters `region`, which must be the
 * same memory, into the machine's map there; both stay after ivshmem_free. A `gpa` of
 * IVSHMEM_AT_HOST_ADDRESS places it at region->host, so that pointers need no translation;
 * IVSHMEM_ANYWHERE takes the address where other machines see the region, or where the BAR lies
 * already, or free bus space. INVALID for an address the BAR cannot have or memory of another size,
 * GUEST_MEMORY_ERROR_OVERLAP if another region is there: nothing has moved then. */
#define IVSHMEM_AT_HOST_ADDRESS (UINT64_MAX - 1)
#define IVSHMEM_ANYWHERE        (UINT64_MAX - 2)
bool ivshmem_map(struct ivshmem *shm, struct guest_region *region, uint64_t gpa, GError **error);

#endif
