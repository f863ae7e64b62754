/*
 * Names of PCI classes and capabilities, as tables.
 */
#include "models/abi/pci_names.h"
#include "models/abi/pci.h"

struct class_name {
    uint16_t class_device; /* base class and sub class */
    const char *name;
};

static const struct class_name class_names[] = {
    {0x0000, "device without a class"},
    {0x0001, "VGA-compatible device without a class"},
    {0x0100, "SCSI controller"},
    {0x0101, "IDE controller"},
    {0x0102, "floppy controller"},
    {0x0104, "RAID controller"},
    {0x0105, "ATA controller"},
    {0x0106, "SATA controller"},
    {0x0107, "SAS controller"},
    {0x0108, "NVM controller"},
    {0x0180, "mass storage controller"},
    {0x0200, "Ethernet controller"},
    {0x0280, "network controller"},
    {0x0300, "VGA controller"},
    {0x0302, "3D controller"},
    {0x0380, "display controller"},
    {0x0400, "video device"},
    {0x0401, "audio device"},
    {0x0403, "high definition audio device"},
    {0x0480, "multimedia device"},
    {0x0500, "RAM"},
    {0x0501, "flash memory"},
    {0x0502, "CXL memory device"},
    {0x0580, "memory controller"},
    {0x0600, "host bridge"},
    {0x0601, "ISA bridge"},
    {0x0604, "PCI bridge"},
    {0x0680, "bridge"},
    {0x0700, "serial controller"},
    {0x0701, "parallel controller"},
    {0x0702, "multiport serial controller"},
    {0x0780, "communication controller"},
    {0x0800, "interrupt controller"},
    {0x0801, "DMA controller"},
    {0x0802, "timer"},
    {0x0803, "real-time clock"},
    {0x0805, "SD host controller"},
    {0x0880, "system peripheral"},
    {0x0900, "keyboard controller"},
    {0x0902, "mouse controller"},
    {0x0980, "input controller"},
    {0x0c00, "FireWire controller"},
    {0x0c03, "USB controller"},
    {0x0c05, "SMBus controller"},
    {0x0c06, "InfiniBand controller"},
    {0x0c07, "IPMI interface"},
    {0x0c09, "CAN bus controller"},
    {0x0c80, "serial bus controller"},
    {0x1000, "network and computing encryption device"},
    {0x1080, "encryption controller"},
    {0x1180, "signal processing controller"},
    {0x1200, "processing accelerator"},
};

static const char *const base_class_names[] = {
    "device without a class",
    "mass storage controller",
    "network controller",
    "display controller",
    "multimedia device",
    "memory controller",
    "bridge",
    "communication controller",
    "system peripheral",
    "input device",
    "docking station",
    "processor",
    "serial bus controller",
    "wireless controller",
    "intelligent I/O controller",
    "satellite communication controller",
    "encryption controller",
    "signal processing controller",
    "processing accelerator",
    "instrumentation",
};

struct cap_name {
    uint8_t id;
    const char *name;
};

static const struct cap_name cap_names[] = {
    {PCI_CAP_ID_PM, "power management"},
    {PCI_CAP_ID_AGP, "AGP"},
    {PCI_CAP_ID_VPD, "vital product data"},
    {PCI_CAP_ID_SLOTID, "slot identification"},
    {PCI_CAP_ID_MSI, "MSI"},
    {0x06, "CompactPCI hot swap"},
    {PCI_CAP_ID_PCIX, "PCI-X"},
    {0x08, "HyperTransport"},
    {PCI_CAP_ID_VENDOR, "vendor specific"},
    {0x0a, "debug port"},
    {0x0b, "CompactPCI resource control"},
    {PCI_CAP_ID_SHPC, "standard hot-plug controller"},
    {PCI_CAP_ID_SSVID, "bridge subsystem"},
    {0x0e, "AGP 8x"},
    {0x0f, "secure device"},
    {PCI_CAP_ID_EXPRESS, "PCI Express"},
    {PCI_CAP_ID_MSIX, "MSI-X"},
    {PCI_CAP_ID_SATA, "SATA"},
    {PCI_CAP_ID_AF, "advanced features"},
    {0x14, "enhanced allocation"},
};

const char *abi_class_name(uint32_t class_code)
{
    uint32_t class_device = class_code >> 8, base = class_code >> 16;

    for (unsigned i = 0; i < ABI_COUNT(class_names); i++) {
        if (class_names[i].class_device == class_device)
            return class_names[i].name;
    }
    return base < ABI_COUNT(base_class_names) ? base_class_names[base] : "device of unknown class";
}

const char *abi_capability_name(uint8_t cap_id)
{
    for (unsigned i = 0; i < ABI_COUNT(cap_names); i++) {
        if (cap_names[i].id == cap_id)
            return cap_names[i].name;
    }
    return "unknown";
}
