/*
 * QEMU's ACPI PCI hotplug registers: I/O ports through which a guest sees and ejects devices.
 * Follows QEMU's docs/specs/acpi_pci_hotplug.rst.
 */
#ifndef RINGLAB_ABI_ACPI_HOTPLUG_H
#define RINGLAB_ABI_ACPI_HOTPLUG_H

enum {
    ACPI_PCIHP_BASE_PC = 0xae00,
    ACPI_PCIHP_BASE_Q35 = 0x0cc0,

    /* offsets from the base, 4 bytes each */
    ACPI_PCIHP_UP = 0x00,   /* read: slots plugged since the last read */
    ACPI_PCIHP_DOWN = 0x04, /* read: slots whose device should go */
    ACPI_PCIHP_EJ = 0x08,   /* write 1 << slot: eject */
    ACPI_PCIHP_RMV = 0x0c,  /* read: slots that can be ejected */
    ACPI_PCIHP_SEL = 0x10,  /* which bus the others are about */
};

#endif
