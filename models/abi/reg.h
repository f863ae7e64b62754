/*
 * What a register table is made of. A device's registers are described once, as data: driver
 * accessors, Lua fields, `ringlab probe`, `ringlab regs`, trace decoding and reports all read it.
 * Facts only: nothing here allocates, decides or touches a device.
 */
#ifndef RINGLAB_ABI_REG_H
#define RINGLAB_ABI_REG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How software may use a register, from the driver's side. */
enum abi_access {
    ABI_RO,   /* read only: writes are ignored */
    ABI_RW,   /* what was written (where bits are writable) reads back */
    ABI_WO,   /* write only: a read returns nothing useful */
    ABI_RC,   /* reading it clears it */
    ABI_RW1C, /* writing a one clears that bit */
    ABI_RW1S, /* writing a one sets that bit or starts something */
    ABI_RSVD, /* reserved */
};

/* Properties of a register beside its access. */
enum abi_flags {
    ABI_VARIES = 1u << 0,   /* the reset value depends on how the device was configured */
    ABI_UNSAFE = 1u << 1,   /* a write of arbitrary bits may hang or remove the device: probing by
                               writing leaves it alone */
    ABI_VOLATILE = 1u << 2, /* changes by itself (a clock, a counter): its value is not compared */
};

/* A bit field: bits [lsb, lsb + bits) of its register. */
struct abi_field {
    const char *name; /* the specification's name */
    uint8_t lsb;      /* lowest bit, 0..63 */
    uint8_t bits;     /* number of bits, 1..64 */
    const char *what; /* one phrase */
};

/* One register. `offset` counts bytes from the start of its block; `width` is 1, 2, 4 or 8 (8: two
 * 4-byte halves where the bus needs it). Registers of a block are sorted by offset. A register that
 * repeats (an array) has count > 1 and lies at offset + i * stride. */
struct abi_reg {
    const char *name;
    uint32_t offset;
    uint8_t width;
    enum abi_access access;
    uint32_t flags;                 /* enum abi_flags */
    uint64_t reset;                 /* value after reset; 0 and without meaning with ABI_VARIES */
    const struct abi_field *fields; /* or NULL */
    uint16_t n_fields;
    uint16_t count;  /* 1 unless an array */
    uint16_t stride; /* bytes from one element to the next; 0 unless an array */
    const char *what;
};

/* A block of registers that lie together: a BAR, a capability, a structure in a BAR. */
struct abi_block {
    const char *name; /* `common`, `notify`, `regs`, `config` ... as scripts spell it */
    const char *what;
    uint32_t size;   /* bytes the block decodes; 0: as long as what holds it */
    uint32_t stride; /* != 0: the block repeats (MSI-X entries) every `stride` bytes */
    const struct abi_reg *regs;
    uint16_t n_regs;
};

/* Where a block lies on a device. */
enum abi_where {
    ABI_AT_CONFIG,     /* config space, at `offset` */
    ABI_AT_CAP,        /* config space, at the capability with id `id` */
    ABI_AT_BAR,        /* BAR `id`, at `offset` */
    ABI_AT_VIRTIO_CAP, /* where the virtio vendor capability of cfg_type `id` points */
    ABI_AT_VIRTIO_CFG, /* config space, at the virtio vendor capability of cfg_type `id` itself */
    ABI_AT_MSIX_TABLE, /* where the MSI-X capability says the table lies */
    ABI_AT_MSIX_PBA,   /* where the MSI-X capability says the pending bits lie */
};

/* When a block lies there: legacy virtio devices move registers as MSI-X is switched on and off. */
enum abi_when { ABI_ALWAYS, ABI_WITH_MSIX, ABI_WITHOUT_MSIX };

/* A placement whose BAR or capability a function lacks is passed over: not every variant of a
 * device has all of its blocks. */
struct abi_placement {
    const struct abi_block *block;
    enum abi_where where;
    uint8_t id;
    uint32_t offset;
    enum abi_when when;
};

/* A write that resets the device: `value` to register `reg` of `block`. A function without that
 * block does not have this reset. */
struct abi_reset {
    const char *block, *reg;
    uint64_t value;
};

/* A known device: which ids it answers with and which blocks it has beyond those of every PCI
 * function (config header, capabilities, MSI-X table and PBA are found by themselves). */
struct abi_device {
    const char *name; /* as QEMU names it where it can: `virtio-net-pci`, `ivshmem-plain` */
    const char *what;
    uint16_t vendor_id;
    uint16_t device_ids[4]; /* unused ones 0 */
    bool has_io_bar0;       /* tells it from devices of QEMU that have its ids and memory there */
    const struct abi_placement *placements;
    uint16_t n_placements;
    const struct abi_reset *resets;
    uint16_t n_resets;
};

/* All known devices, and the blocks every PCI function may have. */
extern const struct abi_device *const abi_devices[];
extern const size_t abi_n_devices;

/* The device that answers with these ids, or NULL. */
const struct abi_device *abi_find_device(uint16_t vendor_id, uint16_t device_id);
/* The config header of a header type (0 or 1; the multi-function bit is ignored), or NULL. */
const struct abi_block *abi_header_block(uint8_t header_type);
/* The block of a standard capability, or NULL if it is not known. `control` is the 16-bit word at
 * its offset 2, which says how long MSI and PCI Express capabilities are. The size of the block
 * counts from the capability's first byte. */
const struct abi_block *abi_capability_block(uint8_t cap_id, uint16_t control);
extern const struct abi_block abi_msix_table_block; /* repeats, one entry per vector */
extern const struct abi_block abi_msix_pba_block;   /* repeats, 64 vectors per element */

/* What register lists (`X_REGISTERS(R)`) and field lists (`X_FIELDS(F)`) in the headers of this
 * folder are made into there: enumerators for code. tables.c makes the tables out of the same
 * lists. R(CONSTANT, name, offset, width, access, flags, reset, repeat, fields, what) repeat:
 * ABI_ONE or ABI_MANY(count, stride); fields: ABI_NONE or ABI_FIELDS(prefix) F(CONSTANT, name, lsb,
 * bits, what) A register's constant is its offset in its block. A field's constant is its mask;
 * CONSTANT_SHIFT is its lowest bit. */
#define ABI_ENUM_OFFSET(constant, name, offset, ...) constant = (offset),
#define ABI_ENUM_FIELD(constant, name, lsb, bits, what)                                            \
    constant = ((((UINT64_C(1) << ((bits)-1)) << 1) - 1) << (lsb)), constant##_SHIFT = (lsb),

#define ABI_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
