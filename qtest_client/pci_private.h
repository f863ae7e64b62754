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

/* ---- windows and bus numbers (pci_windows.c) ---- */

/* First fit of `size` bytes aligned to `align` in a window. */
bool pci_window_take(struct pci_window *w, uint64_t size, uint64_t align,
                     const struct pci_device *owner, uint64_t *base);
/* Everything `owner` took, or what it took at `base`. */
void pci_window_give_back(struct pci_window *w, const struct pci_device *owner);
void pci_window_give_back_at(struct pci_window *w, const struct pci_device *owner, uint64_t base);
/* The window a BAR goes to first (a small 64-bit one goes below 4 GiB, where everything can reach
 * it), and how it is aligned. */
enum pci_window_kind pci_window_of(enum pci_bar_kind kind, uint64_t size);
uint64_t pci_bar_align(enum pci_bar_kind kind, uint64_t size);
/* What the root bus has to give. */
void pci_windows_open_root(struct pci_bus *bus);
/* Gives all bridges on and below bus `nr` their windows and switches them on. */
bool pci_windows_open(struct pci_bus *bus, unsigned nr, GError **error);
/* Gives a bridge all the bus numbers there are, so that what lies behind it can be scanned;
 * afterwards settle leaves it those in use and some for hotplug. */
bool pci_buses_take(struct pci_bus *bus, struct pci_device *bridge, GError **error);
bool pci_buses_settle(struct pci_bus *bus, struct pci_device *bridge, GError **error);
/* Writes the numbers it has. */
bool pci_buses_program(struct pci_device *bridge, GError **error);

#endif
