/*
 * The register tables, made out of the lists in this folder's headers, and which device has which
 * of them where. Nothing else: to add a device, write its header and add it at the end.
 */
#include "models/abi/e1000e.h"
#include "models/abi/edu.h"
#include "models/abi/ivshmem.h"
#include "models/abi/pci.h"
#include "models/abi/ptnet.h"
#include "models/abi/reg.h"
#include "models/abi/virtio_net.h"
#include "models/abi/virtio_pci.h"

#define ABI_ONE                                1, 0
#define ABI_MANY(count, stride)                (count), (stride)
#define ABI_NONE                               NULL, 0
#define ABI_FIELDS(prefix)                     prefix##_fields, ABI_COUNT(prefix##_fields)

#define FIELD(constant, name, lsb, bits, what) {#name, (lsb), (bits), (what)},
/* A row takes two steps, so that `repeat` and `fields` are two members each when they arrive. */
#define REGISTER(constant, name, offset, width, access, flags, reset, repeat, fields, what)        \
    REGISTER_ROW(#name, offset, width, ABI_##access, flags, reset, fields, repeat, what)
#define REGISTER_ROW(name, offset, width, access, flags, reset, fields, n_fields, count, stride,   \
                     what)                                                                         \
    {name, offset, width, access, flags, reset, fields, n_fields, count, stride, what},

#define FIELD_TABLE(prefix, LIST)    static const struct abi_field prefix##_fields[] = {LIST(FIELD)}
#define REGISTER_TABLE(prefix, LIST) static const struct abi_reg prefix##_regs[] = {LIST(REGISTER)}
#define REGS(prefix)                 prefix##_regs, ABI_COUNT(prefix##_regs)

/* ---- every PCI function ---- */

FIELD_TABLE(pci_command, PCI_COMMAND_FIELDS);
FIELD_TABLE(pci_status, PCI_STATUS_FIELDS);
FIELD_TABLE(pci_header_type, PCI_HEADER_TYPE_FIELDS);
FIELD_TABLE(pci_bist, PCI_BIST_FIELDS);
FIELD_TABLE(pci_bridge_control, PCI_BRIDGE_CONTROL_FIELDS);
FIELD_TABLE(pci_pm_pmc, PCI_PM_PMC_FIELDS);
FIELD_TABLE(pci_pm_ctrl, PCI_PM_CTRL_FIELDS);
FIELD_TABLE(pci_msi_flags, PCI_MSI_FLAGS_FIELDS);
FIELD_TABLE(pci_msix_flags, PCI_MSIX_FLAGS_FIELDS);
FIELD_TABLE(pci_msix_table, PCI_MSIX_TABLE_FIELDS);
FIELD_TABLE(pci_msix_pba, PCI_MSIX_PBA_FIELDS);
FIELD_TABLE(pci_msix_entry_ctrl, PCI_MSIX_ENTRY_CTRL_FIELDS);
FIELD_TABLE(pci_exp_flags, PCI_EXP_FLAGS_FIELDS);
FIELD_TABLE(pci_exp_devctl, PCI_EXP_DEVCTL_FIELDS);
FIELD_TABLE(pci_exp_devsta, PCI_EXP_DEVSTA_FIELDS);
FIELD_TABLE(pci_exp_lnksta, PCI_EXP_LNKSTA_FIELDS);
FIELD_TABLE(pci_exp_sltcap, PCI_EXP_SLTCAP_FIELDS);
FIELD_TABLE(pci_exp_sltctl, PCI_EXP_SLTCTL_FIELDS);
FIELD_TABLE(pci_exp_sltsta, PCI_EXP_SLTSTA_FIELDS);

static const struct abi_reg pci_header0_regs[] = {PCI_HEADER_COMMON_REGISTERS(REGISTER)
                                                      PCI_HEADER0_REGISTERS(REGISTER)};
static const struct abi_reg pci_header1_regs[] = {PCI_HEADER_COMMON_REGISTERS(REGISTER)
                                                      PCI_HEADER1_REGISTERS(REGISTER)};
REGISTER_TABLE(pci_pm, PCI_PM_REGISTERS);
REGISTER_TABLE(pci_msi, PCI_MSI_REGISTERS);
REGISTER_TABLE(pci_msi32, PCI_MSI32_REGISTERS);
REGISTER_TABLE(pci_msix, PCI_MSIX_REGISTERS);
REGISTER_TABLE(pci_msix_entry, PCI_MSIX_ENTRY_REGISTERS);
REGISTER_TABLE(pci_msix_pba_entry, PCI_MSIX_PBA_ENTRY_REGISTERS);
REGISTER_TABLE(pci_ssvid, PCI_SSVID_REGISTERS);
REGISTER_TABLE(pci_exp, PCI_EXP_REGISTERS);

static const struct abi_block pci_header0_block = {"config", "configuration header of a device",
                                                   PCI_HEADER_BYTES, 0, REGS(pci_header0)};
static const struct abi_block pci_header1_block = {"config", "configuration header of a bridge",
                                                   PCI_HEADER_BYTES, 0, REGS(pci_header1)};
static const struct abi_block pci_pm_block = {"power_management", "power management capability",
                                              PCI_PM_BYTES, 0, REGS(pci_pm)};
static const struct abi_block pci_msix_block = {"msix", "MSI-X capability", PCI_MSIX_BYTES, 0,
                                                REGS(pci_msix)};
static const struct abi_block pci_ssvid_block = {"subsystem", "bridge subsystem capability",
                                                 PCI_SSVID_BYTES, 0, REGS(pci_ssvid)};
/* MSI: with and without an upper address, with and without mask and pending bits; 6.8.1. */
static const struct abi_block pci_msi_blocks[2][2] = {
    {{"msi", "MSI capability, 32-bit", 0x0a, 0, pci_msi32_regs, ABI_COUNT(pci_msi32_regs) - 2},
     {"msi", "MSI capability, 32-bit, masks", 0x14, 0, REGS(pci_msi32)}},
    {{"msi", "MSI capability, 64-bit", 0x0e, 0, pci_msi_regs, ABI_COUNT(pci_msi_regs) - 2},
     {"msi", "MSI capability, 64-bit, masks", 0x18, 0, REGS(pci_msi)}},
};
/* PCI Express: version 1 ends after the link registers of an endpoint, after the root registers of
 * a port; version 2 has all. */
enum { EXP_ENDPOINT_REGS = 8, EXP_PORT_REGS = 14 };
static const struct abi_block pci_exp_endpoint_block = {
    "pci_express", "PCI Express capability 1", 0x14, 0, pci_exp_regs, EXP_ENDPOINT_REGS};
static const struct abi_block pci_exp_port_block = {
    "pci_express", "PCI Express capability 1, port", 0x24, 0, pci_exp_regs, EXP_PORT_REGS};
static const struct abi_block pci_exp_block = {"pci_express", "PCI Express capability 2",
                                               PCI_EXP_BYTES, 0, REGS(pci_exp)};

const struct abi_block abi_msix_table_block = {"msix_table", "MSI-X table", 0, PCI_MSIX_ENTRY_BYTES,
                                               REGS(pci_msix_entry)};
const struct abi_block abi_msix_pba_block = {"msix_pba", "MSI-X pending bits", 0,
                                             PCI_MSIX_PBA_BYTES, REGS(pci_msix_pba_entry)};

const struct abi_block *abi_header_block(uint8_t header_type)
{
    switch (header_type & PCI_HEADER_TYPE_MASK) {
    case PCI_HEADER_TYPE_NORMAL:
        return &pci_header0_block;
    case PCI_HEADER_TYPE_BRIDGE:
        return &pci_header1_block;
    default:
        return NULL;
    }
}

static const struct abi_block *express_block(uint16_t flags)
{
    enum { TYPE_ENDPOINT = 0, TYPE_LEGACY_ENDPOINT = 1 };
    unsigned type = (flags & PCI_EXP_FLAGS_TYPE) >> PCI_EXP_FLAGS_TYPE_SHIFT;

    if ((flags & PCI_EXP_FLAGS_VERS) >= 2)
        return &pci_exp_block;
    return type <= TYPE_LEGACY_ENDPOINT ? &pci_exp_endpoint_block : &pci_exp_port_block;
}

const struct abi_block *abi_capability_block(uint8_t cap_id, uint16_t control)
{
    switch (cap_id) {
    case PCI_CAP_ID_PM:
        return &pci_pm_block;
    case PCI_CAP_ID_MSI:
        return &pci_msi_blocks[!!(control & PCI_MSI_FLAGS_64BIT)]
                              [!!(control & PCI_MSI_FLAGS_MASKBIT)];
    case PCI_CAP_ID_SSVID:
        return &pci_ssvid_block;
    case PCI_CAP_ID_EXPRESS:
        return express_block(control);
    case PCI_CAP_ID_MSIX:
        return &pci_msix_block;
    default:
        return NULL;
    }
}

/* ---- virtio ---- */

FIELD_TABLE(virtio_status, VIRTIO_STATUS_FIELDS);
FIELD_TABLE(virtio_isr, VIRTIO_ISR_FIELDS);
FIELD_TABLE(virtio_net_status, VIRTIO_NET_STATUS_FIELDS);

static const struct abi_reg virtio_cap_regs[] = {VIRTIO_PCI_CAP_REGISTERS(REGISTER)};
static const struct abi_reg virtio_notify_cap_regs[] = {
    VIRTIO_PCI_CAP_REGISTERS(REGISTER) VIRTIO_PCI_NOTIFY_CAP_REGISTERS(REGISTER)};
REGISTER_TABLE(virtio_cfg_cap, VIRTIO_PCI_CFG_CAP_REGISTERS);
REGISTER_TABLE(virtio_common, VIRTIO_PCI_COMMON_REGISTERS);
REGISTER_TABLE(virtio_isr, VIRTIO_PCI_ISR_REGISTERS);
REGISTER_TABLE(virtio_notify, VIRTIO_PCI_NOTIFY_REGISTERS);
REGISTER_TABLE(virtio_legacy, VIRTIO_PCI_LEGACY_REGISTERS);
REGISTER_TABLE(virtio_legacy_msix, VIRTIO_PCI_LEGACY_MSIX_REGISTERS);
REGISTER_TABLE(virtio_net, VIRTIO_NET_REGISTERS);

#define CAP_BLOCK(name, what)                                                                      \
    {                                                                                              \
        name, what, VIRTIO_PCI_CAP_BYTES, 0, REGS(virtio_cap)                                      \
    }
static const struct abi_block common_cap_block =
    CAP_BLOCK("common_cap", "capability: where `common` lies");
static const struct abi_block notify_cap_block = {"notify_cap", "capability: where `notify` lies",
                                                  VIRTIO_PCI_NOTIFY_CAP_BYTES, 0,
                                                  REGS(virtio_notify_cap)};
static const struct abi_block isr_cap_block = CAP_BLOCK("isr_cap", "capability: where `isr` lies");
static const struct abi_block device_cap_block =
    CAP_BLOCK("device_cap", "capability: where `device` lies");
static const struct abi_block pci_cfg_cap_block = {"pci_cfg_cap", "capability: window to the BARs",
                                                   VIRTIO_PCI_CFG_CAP_BYTES, 0,
                                                   REGS(virtio_cfg_cap)};
static const struct abi_block common_block = {"common", "common configuration", 0, 0,
                                              REGS(virtio_common)};
static const struct abi_block notify_block = {"notify", "queue notification", 0,
                                              VIRTIO_PCI_NOTIFY_STRIDE, REGS(virtio_notify)};
static const struct abi_block isr_block = {"isr", "interrupt status", 0, 0, REGS(virtio_isr)};
static const struct abi_block legacy_block = {"legacy", "legacy interface", VIRTIO_PCI_LEGACY_MSIX,
                                              0, REGS(virtio_legacy)};
static const struct abi_block legacy_msix_block = {
    "legacy_msix", "legacy interface: vectors, while MSI-X is enabled", 4, 0,
    REGS(virtio_legacy_msix)};
static const struct abi_block net_device_block = {"device", "network device configuration", 0, 0,
                                                  REGS(virtio_net)};
static const struct abi_block legacy_net_device_block = {
    "legacy_device", "network device configuration, while MSI-X is disabled", VIRTIO_NET_CFG_BYTES,
    0, REGS(virtio_net)};
static const struct abi_block legacy_net_device_msix_block = {
    "legacy_device_msix", "network device configuration, while MSI-X is enabled",
    VIRTIO_NET_CFG_BYTES, 0, REGS(virtio_net)};

static const struct abi_placement virtio_net_placements[] = {
    {&common_cap_block, ABI_AT_VIRTIO_CFG, VIRTIO_PCI_CAP_COMMON_CFG, 0, ABI_ALWAYS},
    {&notify_cap_block, ABI_AT_VIRTIO_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG, 0, ABI_ALWAYS},
    {&isr_cap_block, ABI_AT_VIRTIO_CFG, VIRTIO_PCI_CAP_ISR_CFG, 0, ABI_ALWAYS},
    {&device_cap_block, ABI_AT_VIRTIO_CFG, VIRTIO_PCI_CAP_DEVICE_CFG, 0, ABI_ALWAYS},
    {&pci_cfg_cap_block, ABI_AT_VIRTIO_CFG, VIRTIO_PCI_CAP_PCI_CFG, 0, ABI_ALWAYS},
    {&common_block, ABI_AT_VIRTIO_CAP, VIRTIO_PCI_CAP_COMMON_CFG, 0, ABI_ALWAYS},
    {&isr_block, ABI_AT_VIRTIO_CAP, VIRTIO_PCI_CAP_ISR_CFG, 0, ABI_ALWAYS},
    {&net_device_block, ABI_AT_VIRTIO_CAP, VIRTIO_PCI_CAP_DEVICE_CFG, 0, ABI_ALWAYS},
    {&notify_block, ABI_AT_VIRTIO_CAP, VIRTIO_PCI_CAP_NOTIFY_CFG, 0, ABI_ALWAYS},
    {&legacy_block, ABI_AT_BAR, VIRTIO_PCI_LEGACY_BAR, 0, ABI_ALWAYS},
    {&legacy_net_device_block, ABI_AT_BAR, VIRTIO_PCI_LEGACY_BAR, VIRTIO_PCI_LEGACY_CONFIG,
     ABI_WITHOUT_MSIX},
    {&legacy_msix_block, ABI_AT_BAR, VIRTIO_PCI_LEGACY_BAR, VIRTIO_PCI_LEGACY_MSIX, ABI_WITH_MSIX},
    {&legacy_net_device_msix_block, ABI_AT_BAR, VIRTIO_PCI_LEGACY_BAR,
     VIRTIO_PCI_LEGACY_CONFIG_MSIX, ABI_WITH_MSIX},
};
static const struct abi_reset virtio_resets[] = {
    {"common", "device_status", 0},
    {"legacy", "device_status", 0},
};
static const struct abi_device virtio_net_device = {
    .name = "virtio-net-pci",
    .what = "virtio network device",
    .vendor_id = VIRTIO_PCI_VENDOR_ID,
    .device_ids = {VIRTIO_NET_DEVICE_ID_TRANSITIONAL, VIRTIO_NET_DEVICE_ID},
    .placements = virtio_net_placements,
    .n_placements = ABI_COUNT(virtio_net_placements),
    .resets = virtio_resets,
    .n_resets = ABI_COUNT(virtio_resets),
};

/* ---- others ---- */

FIELD_TABLE(ivshmem_doorbell, IVSHMEM_DOORBELL_FIELDS);
REGISTER_TABLE(ivshmem, IVSHMEM_REGISTERS);
static const struct abi_block ivshmem_block = {"regs", "shared memory device registers",
                                               IVSHMEM_REGS_BYTES, 0, REGS(ivshmem)};
static const struct abi_placement ivshmem_placements[] = {
    {&ivshmem_block, ABI_AT_BAR, IVSHMEM_BAR_REGISTERS, 0, ABI_ALWAYS},
};
static const struct abi_device ivshmem_device = {
    .name = "ivshmem",
    .what = "inter-VM shared memory, plain or doorbell",
    .vendor_id = IVSHMEM_VENDOR_ID,
    .device_ids = {IVSHMEM_DEVICE_ID},
    .placements = ivshmem_placements,
    .n_placements = ABI_COUNT(ivshmem_placements),
};

FIELD_TABLE(e1000e_ctrl, E1000E_CTRL_FIELDS);
FIELD_TABLE(e1000e_status, E1000E_STATUS_FIELDS);
FIELD_TABLE(e1000e_eerd, E1000E_EERD_FIELDS);
FIELD_TABLE(e1000e_mdic, E1000E_MDIC_FIELDS);
FIELD_TABLE(e1000e_icr, E1000E_ICR_FIELDS);
FIELD_TABLE(e1000e_rctl, E1000E_RCTL_FIELDS);
FIELD_TABLE(e1000e_tctl, E1000E_TCTL_FIELDS);
REGISTER_TABLE(e1000e, E1000E_REGISTERS);
static const struct abi_block e1000e_block = {"regs", "82574 registers", E1000E_MMIO_BYTES, 0,
                                              REGS(e1000e)};
static const struct abi_placement e1000e_placements[] = {
    {&e1000e_block, ABI_AT_BAR, E1000E_BAR_MMIO, 0, ABI_ALWAYS},
};
static const struct abi_reset e1000e_resets[] = {{"regs", "CTRL", E1000E_CTRL_RST}};
static const struct abi_device e1000e_device = {
    .name = "e1000e",
    .what = "Intel 82574 network device",
    .vendor_id = E1000E_VENDOR_ID,
    .device_ids = {E1000E_DEVICE_ID},
    .placements = e1000e_placements,
    .n_placements = ABI_COUNT(e1000e_placements),
    .resets = e1000e_resets,
    .n_resets = ABI_COUNT(e1000e_resets),
};

FIELD_TABLE(edu_id, EDU_ID_FIELDS);
FIELD_TABLE(edu_status, EDU_STATUS_FIELDS);
FIELD_TABLE(edu_dma_cmd, EDU_DMA_CMD_FIELDS);
REGISTER_TABLE(edu, EDU_REGISTERS);
static const struct abi_block edu_block = {"regs", "edu registers", EDU_BAR_BYTES, 0, REGS(edu)};
static const struct abi_placement edu_placements[] = {
    {&edu_block, ABI_AT_BAR, EDU_BAR, 0, ABI_ALWAYS},
};
static const struct abi_device edu_device = {
    .name = "edu",
    .what = "QEMU's educational device",
    .vendor_id = EDU_VENDOR_ID,
    .device_ids = {EDU_DEVICE_ID},
    .placements = edu_placements,
    .n_placements = ABI_COUNT(edu_placements),
};

FIELD_TABLE(ptnet_ptfeat, PTNET_PTFEAT_FIELDS);
REGISTER_TABLE(ptnet, PTNET_IO_REGISTERS);
static const struct abi_block ptnet_block = {"regs", "ptnet registers", PTNET_IO_BAR_BYTES, 0,
                                             REGS(ptnet)};
static const struct abi_placement ptnet_placements[] = {
    {&ptnet_block, ABI_AT_BAR, PTNETMAP_IO_PCI_BAR, 0, ABI_ALWAYS},
};
static const struct abi_device ptnet_device = {
    .name = "ptnet-pci",
    .what = "netmap passthrough network device",
    .vendor_id = PTNETMAP_PCI_VENDOR_ID,
    .device_ids = {PTNETMAP_PCI_NETIF_ID}, /* QEMU's qemu-xhci has it, too */
    .has_io_bar0 = true,
    .placements = ptnet_placements,
    .n_placements = ABI_COUNT(ptnet_placements),
};

REGISTER_TABLE(ptnet_memdev, PTNET_MDEV_IO_REGISTERS);
static const struct abi_block ptnet_memdev_block = {"regs", "netmap memory registers",
                                                    PTNET_MDEV_IO_BAR_BYTES, 0, REGS(ptnet_memdev)};
static const struct abi_placement ptnet_memdev_placements[] = {
    {&ptnet_memdev_block, ABI_AT_BAR, PTNETMAP_IO_PCI_BAR, 0, ABI_ALWAYS},
};
static const struct abi_device ptnet_memdev_device = {
    .name = "ptnetmap-memdev",
    .what = "memory of a netmap port that is passed through",
    .vendor_id = PTNETMAP_PCI_VENDOR_ID,
    .device_ids = {PTNETMAP_PCI_DEVICE_ID}, /* QEMU's pcie-root-port has it, too */
    .has_io_bar0 = true,
    .placements = ptnet_memdev_placements,
    .n_placements = ABI_COUNT(ptnet_memdev_placements),
};

const struct abi_device *const abi_devices[] = {
    &virtio_net_device, &ivshmem_device, &e1000e_device,
    &edu_device,        &ptnet_device,   &ptnet_memdev_device,
};
const size_t abi_n_devices = ABI_COUNT(abi_devices);

const struct abi_device *abi_find_device(uint16_t vendor_id, uint16_t device_id)
{
    for (size_t i = 0; i < abi_n_devices; i++) {
        const struct abi_device *device = abi_devices[i];

        for (size_t k = 0; k < ABI_COUNT(device->device_ids); k++) {
            if (device->vendor_id == vendor_id && device->device_ids[k] &&
                device->device_ids[k] == device_id)
                return device;
        }
    }
    return NULL;
}
