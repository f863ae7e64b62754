/*
 * PCI from the guest's side, with no firmware having run: scanning buses through bridges, sizing
 * and placing BARs, capabilities, register blocks by name. Follows PCI Local Bus 3.0 and PCI-to-PCI
 * Bridge 1.2; names of registers come from models/abi/.
 * Not here: interrupts (interrupt.h) and what a particular device does.
 */
#ifndef RINGLAB_PCI_H
#define RINGLAB_PCI_H

#include "models/abi/reg.h"
#include "qtest_client/machine.h"

#define PCI_ERROR (pci_error_quark())
GQuark pci_error_quark(void);

enum pci_error {
    PCI_ERROR_NOT_FOUND, /* no such function, BAR, capability, block or register */
    PCI_ERROR_NO_SPACE,  /* the address window is full */
    PCI_ERROR_INVALID,   /* an argument that cannot be */
    PCI_ERROR_BROKEN,    /* the device contradicts the specification (a capability loop ...) */
};

enum { PCI_N_BARS = 6 };

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
    enum pci_bar_kind kind; /* NONE: absent, or the upper half of a 64-bit BAR */
    bool prefetchable;
    uint64_t size; /* bytes, a power of two; 0 if absent */
    uint64_t base; /* address it was given; 0 while not placed */
};

struct pci_capability {
    uint8_t id;
    uint8_t offset; /* in config space */
    uint8_t length; /* bytes up to what is known of its size; at least 2 */
};

struct pci_bus;

/* A register block of this device, resolved to where it can be accessed. */
struct pci_block {
    const struct abi_block *abi;
    char *name;     /* the block's name; a second one of the same name gets a number */
    bool in_config; /* config space at `offset`, else BAR `bar` at `offset` */
    uint8_t bar;
    uint32_t offset;
    uint32_t size;      /* bytes */
    uint32_t count;     /* elements of a repeating block, else 1 */
    enum abi_when when; /* whether MSI-X must be on or off for it to be there */
};

struct pci_device {
    struct machine *machine;
    struct pci_bus *host; /* the hierarchy it was found in */
    uint8_t bus, slot, function;
    uint16_t vendor_id, device_id;
    uint32_t class_code; /* 24 bits */
    uint8_t revision;
    uint8_t header_type;                    /* without the multi-function bit */
    uint8_t secondary_bus, subordinate_bus; /* bridges: the buses behind it; else 0 */
    uint8_t interrupt_pin;                  /* 0 none, 1 A .. 4 D */
    bool is_express;
    struct pci_bar bars[PCI_N_BARS];
    GArray *capabilities;         /* struct pci_capability, in list order */
    const struct abi_device *abi; /* NULL if the device is not known */
    GPtrArray *blocks;            /* struct pci_block * */
    uint8_t msix_cap;             /* config offset of the MSI-X capability, or 0 */
    uint16_t msix_n;              /* vectors in its table */
    bool msix_enabled;            /* as last written through configuration space */
};

/* ---- the bus ---- */

/* The root bus of `m`. Nothing is accessed yet. */
struct pci_bus *pci_bus_new(struct machine *m);
void pci_bus_free(struct pci_bus *bus);
/* Finds every function, through all bridges (numbering their buses and opening their windows).
 * May be called again after a hotplug or a system reset: functions still there keep their struct
 * pci_device (same pointer) and, with a reset in between, lose their BAR addresses. */
bool pci_bus_scan(struct pci_bus *bus, GError **error);
/* After a system reset: forgets all addresses given, as the devices did. */
void pci_bus_forget(struct pci_bus *bus);
/* Everything found, struct pci_device *, in bus, slot, function order. Owned by the bus. */
GPtrArray *pci_bus_devices(struct pci_bus *bus);
struct pci_device *pci_bus_find(struct pci_bus *bus, unsigned bus_nr, unsigned slot,
                                unsigned function);
/* The n-th (from 0) function with these ids, or NULL. */
struct pci_device *pci_bus_find_id(struct pci_bus *bus, uint16_t vendor_id, uint16_t device_id,
                                   unsigned n);
/* Gives every unplaced BAR of `dev` an address and switches on memory, I/O and bus mastering. */
bool pci_device_enable(struct pci_device *dev, GError **error);
/* Places one BAR at `base` (aligned to its size), memory decode off while it moves. `base` may be
 * any 64-bit address for a 64-bit BAR; that it reaches the bus, and that nothing else lies there,
 * is the caller's business unless it comes from pci_bar_reserve. */
bool pci_bar_place(struct pci_device *dev, unsigned bar, uint64_t base, GError **error);
/* An address for this BAR where its bus can reach it, kept for the device until a reset or until it
 * is gone. */
bool pci_bar_reserve(struct pci_device *dev, unsigned bar, uint64_t *base, GError **error);
/* An address range of the root bus, for a BAR of this size, below 4 GiB or above; not given out
 * again. */
bool pci_bus_reserve(struct pci_bus *bus, enum pci_bar_kind kind, uint64_t size, uint64_t *base,
                     GError **error);

/* ---- configuration space: offset 0..255 (..4095 where there is ECAM), width 1, 2 or 4 ---- */

bool pci_config_read(struct pci_device *dev, unsigned offset, unsigned width, uint64_t *value,
                     GError **error);
bool pci_config_write(struct pci_device *dev, unsigned offset, unsigned width, uint64_t value,
                      GError **error);
/* Reads [offset, offset + len) by aligned dwords in one batch. */
bool pci_config_read_bytes(struct pci_device *dev, unsigned offset, unsigned len, uint8_t *bytes,
                           GError **error);
/* Sets and clears bits of COMMAND. */
bool pci_command(struct pci_device *dev, uint16_t set, uint16_t clear, GError **error);
/* The n-th (from 0) capability with this id, or NULL. */
const struct pci_capability *pci_find_capability(struct pci_device *dev, uint8_t id, unsigned n);

/* ---- BARs: fails with a message that names the device and BAR if it is absent or not placed, or
 * the access goes beyond its end ---- */

bool pci_bar_access(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned width,
                    struct machine_access *access, GError **error);
bool pci_bar_read(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned width,
                  uint64_t *value, GError **error);
bool pci_bar_write(struct pci_device *dev, unsigned bar, uint64_t offset, unsigned width,
                   uint64_t value, GError **error);

/* ---- registers by name ---- */

/* NULL with NOT_FOUND naming the nearest block if there is none of that name. */
struct pci_block *pci_find_block(struct pci_device *dev, const char *name, GError **error);
/* NULL with NOT_FOUND naming the nearest register. */
const struct abi_reg *pci_find_register(const struct pci_block *block, const char *name,
                                        GError **error);
const struct abi_field *pci_find_field(const struct abi_reg *reg, const char *name, GError **error);
/* Raw access inside a block. */
bool pci_block_read(struct pci_device *dev, const struct pci_block *block, uint32_t offset,
                    unsigned width, uint64_t *value, GError **error);
bool pci_block_write(struct pci_device *dev, const struct pci_block *block, uint32_t offset,
                     unsigned width, uint64_t value, GError **error);
/* Register of element `index` (0 unless block or register repeat). A value too wide is INVALID. */
bool pci_reg_read(struct pci_device *dev, const struct pci_block *block, const struct abi_reg *reg,
                  uint32_t index, uint64_t *value, GError **error);
bool pci_reg_write(struct pci_device *dev, const struct pci_block *block, const struct abi_reg *reg,
                   uint32_t index, uint64_t value, GError **error);
/* The register that byte `offset` of the block belongs to (and of which element), or NULL. */
const struct abi_reg *pci_block_register_at(const struct pci_block *block, uint32_t offset,
                                            uint32_t *index);
/* Which block, and which register in it (NULL: a hole), an access to one of this device's BARs
 * hits; for traces. False if none. */
bool pci_device_decode(struct pci_device *dev, const struct machine_access *access,
                       const struct pci_block **block, const struct abi_reg **reg, uint32_t *index);
/* "00:04.0 virtio-net-pci" */
char *pci_device_describe(const struct pci_device *dev);
/* The candidate that `word` was probably meant to be, for messages: the nearest by edit distance,
 * or the shortest that `word` is the start of; NULL if none is near. */
const char *pci_nearest_name(const char *word, const char *const *candidates, size_t n);

#endif
