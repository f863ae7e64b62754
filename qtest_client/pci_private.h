/*
 * What the files that implement pci.h share. Not for users of the client.
 */
#ifndef RINGLAB_PCI_PRIVATE_H
#define RINGLAB_PCI_PRIVATE_H

#include "models/abi/pci.h"
#include "qtest_client/pci.h"

enum { PCI_N_BUSES = 256 };

#define PCI_ECAM_BASE 0xb0000000u /* where q35 shows extended configuration space */

enum pci_window_kind {
    PCI_WINDOW_IO,
    PCI_WINDOW_MEM32,
    PCI_WINDOW_MEM64,
    PCI_WINDOW_BUS,
    PCI_N_WINDOWS
};

/* A range of bus addresses (or bus numbers), from which BARs and bridges below take pieces. */
struct pci_window {
    uint64_t base, size;
    GArray *taken; /* struct pci_range, sorted by base */
};

struct pci_range {
    uint64_t base, size;
    const struct pci_device *owner; /* or NULL */
};

struct pci_bus {
    struct machine *machine;
    GPtrArray *devices; /* struct pci_device *, sorted; owned */
    GPtrArray *gone;    /* functions that vanished: callers may still hold them */
    bool has_ecam;      /* the window for extended configuration space is open */
    struct pci_window windows[PCI_N_BUSES][PCI_N_WINDOWS];
};

/* Fills in dev->blocks from what was found in `config` (PCI_CONFIG_BYTES). */
void pci_device_resolve_blocks(struct pci_device *dev, const uint8_t *config);
/* First fit of `size` bytes aligned to `align` in a window. */
bool pci_window_take(struct pci_window *w, uint64_t size, uint64_t align,
                     const struct pci_device *owner, uint64_t *base);
void pci_window_give_back(struct pci_window *w, const struct pci_device *owner);

#endif
