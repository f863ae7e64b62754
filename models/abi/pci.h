/*
 * PCI: configuration headers, capabilities, MSI-X structures, and how x86 boards reach
 * configuration space. Follows PCI Local Bus 3.0, PCI-to-PCI Bridge 1.2, PCI Express Base 2.0
 * (7.8) and PCI Power Management 1.2; constants are spelled as in Linux where it has them.
 */
#ifndef RINGLAB_ABI_PCI_H
#define RINGLAB_ABI_PCI_H

#include "models/abi/reg.h"

enum {
    PCI_CONFIG_BYTES = 256,
    PCI_CONFIG_EXPRESS_BYTES = 4096,
    PCI_HEADER_BYTES = 64,
    PCI_VENDOR_NONE = 0xffff,  /* what an absent function answers */
    PCI_MAX_CAPABILITIES = 48, /* dwords that could hold one: more is a loop */
};

/* ---- reaching it ---- */

enum {
    PCI_CONFIG_ADDRESS_PORT = 0xcf8, /* configuration mechanism #1, 3.2.2.3.2 */
    PCI_CONFIG_DATA_PORT = 0xcfc,    /* byte lanes 0xcfc..0xcff */
};
#define PCI_CONFIG_ADDRESS_ENABLE 0x80000000u
#define PCI_CONFIG_ADDRESS(bus, slot, function, offset)                                            \
    (PCI_CONFIG_ADDRESS_ENABLE | ((uint32_t)(bus) << 16) | ((uint32_t)(slot) << 11) |              \
     ((uint32_t)(function) << 8) | (uint32_t)((offset)&0xfcu))
#define PCI_ECAM_OFFSET(bus, slot, function, offset)                                               \
    (((uint64_t)(bus) << 20) | ((uint64_t)(slot) << 15) | ((uint64_t)(function) << 12) |           \
     (uint64_t)(offset))

/* q35's host bridge (00:00.0): where ECAM lies. */
enum {
    Q35_PCIEXBAR = 0x60, /* 8 bytes */
    Q35_PCIEXBAR_ENABLE = 0x1,
    Q35_PCIEXBAR_LENGTH = 0x6, /* 0: 256 MiB, 1: 128 MiB, 2: 64 MiB */
    Q35_PCIEXBAR_LENGTH_256 = 0x0,
};
/* PIIX3, the ISA bridge of machine pc (00:01.0), and ICH9, that of q35 (00:1f.0): which line each
 * PIRQ goes to, one byte each. */
enum {
    PIIX3_SLOT = 1,
    PIIX3_PIRQA = 0x60, /* .. PIRQD 0x63 */
    PIIX3_PIRQ_IRQ_MASK = 0x0f,
    PIIX3_PIRQ_DISABLE = 0x80,
    ICH9_PIRQA = 0x60, /* .. PIRQD 0x63 */
    ICH9_PIRQE = 0x68, /* .. PIRQH 0x6b */
    ICH9_PIRQ_IRQ_MASK = 0x0f,
    ICH9_PIRQ_DISABLE = 0x80,
    ICH9_GSI_PIRQA = 16, /* I/O APIC inputs 16..19; E..H: 20..23 */
    ICH9_GSI_PIRQE = 20,
    ICH9_FIRST_ROUTED_SLOT = 25, /* slots from here on have route registers of their own */
    ICH9_PCI_BRIDGE_SLOT = 30,   /* ... but this one */
};

/* ---- BARs, 6.2.5.1 ---- */

#define PCI_BAR_SPACE_IO      0x1u
#define PCI_BAR_MEM_TYPE_MASK 0x6u
#define PCI_BAR_MEM_TYPE_32   0x0u
#define PCI_BAR_MEM_TYPE_64   0x4u
#define PCI_BAR_MEM_PREFETCH  0x8u
#define PCI_BAR_MEM_MASK      0xfffffff0u
#define PCI_BAR_IO_MASK       0xfffffffcu
#define PCI_ROM_ENABLE        0x1u
#define PCI_ROM_MASK          0xfffff800u

/* ---- configuration header ---- */

enum {
    PCI_HEADER_TYPE_MASK = 0x7f,
    PCI_HEADER_TYPE_NORMAL = 0,
    PCI_HEADER_TYPE_BRIDGE = 1,
    PCI_HEADER_TYPE_CARDBUS = 2,
    PCI_HEADER_TYPE_MULTI_FUNCTION = 0x80,
    PCI_CLASS_DEVICE = 0x0a, /* sub class and base class, 2 bytes */
    PCI_CLASS_BRIDGE_HOST = 0x0600,
    PCI_CLASS_BRIDGE_ISA = 0x0601,
    PCI_CLASS_BRIDGE_PCI = 0x0604,
    PCI_CLASS_NETWORK_ETHERNET = 0x0200,
    PCI_CLASS_MEMORY_RAM = 0x0500,
};

/* clang-format off */
#define PCI_COMMAND_FIELDS(F)                                                                      \
    F(PCI_COMMAND_IO,           io_space,            0, 1, "answers to I/O space")                 \
    F(PCI_COMMAND_MEMORY,       memory_space,        1, 1, "answers to memory space")              \
    F(PCI_COMMAND_MASTER,       bus_master,          2, 1, "may master the bus: DMA and MSI")      \
    F(PCI_COMMAND_SPECIAL,      special_cycles,      3, 1, "watches special cycles")               \
    F(PCI_COMMAND_INVALIDATE,   memory_write_invalidate, 4, 1, "may use Memory Write and Invalidate") \
    F(PCI_COMMAND_VGA_PALETTE,  vga_palette_snoop,   5, 1, "snoops VGA palette writes")            \
    F(PCI_COMMAND_PARITY,       parity_error_response, 6, 1, "acts on parity errors")              \
    F(PCI_COMMAND_WAIT,         stepping_control,    7, 1, "address and data stepping (PCI 2.x)")  \
    F(PCI_COMMAND_SERR,         serr_enable,         8, 1, "may drive SERR#")                      \
    F(PCI_COMMAND_FAST_BACK,    fast_back_to_back,   9, 1, "fast back-to-back to different agents") \
    F(PCI_COMMAND_INTX_DISABLE, interrupt_disable,  10, 1, "keeps INTx from being asserted")

#define PCI_STATUS_FIELDS(F)                                                                       \
    F(PCI_STATUS_INTERRUPT,         interrupt_status,       3, 1, "INTx would be asserted")        \
    F(PCI_STATUS_CAP_LIST,          capabilities_list,      4, 1, "there is a capability list")    \
    F(PCI_STATUS_66MHZ,             mhz66_capable,          5, 1, "runs at 66 MHz")                \
    F(PCI_STATUS_FAST_BACK,         fast_back_to_back_capable, 7, 1, "takes fast back-to-back")    \
    F(PCI_STATUS_PARITY,            master_data_parity_error, 8, 1, "parity error as master; write 1 to clear") \
    F(PCI_STATUS_DEVSEL,            devsel_timing,          9, 2, "0 fast, 1 medium, 2 slow")      \
    F(PCI_STATUS_SIG_TARGET_ABORT,  signaled_target_abort, 11, 1, "write 1 to clear")              \
    F(PCI_STATUS_REC_TARGET_ABORT,  received_target_abort, 12, 1, "write 1 to clear")              \
    F(PCI_STATUS_REC_MASTER_ABORT,  received_master_abort, 13, 1, "write 1 to clear")              \
    F(PCI_STATUS_SIG_SYSTEM_ERROR,  signaled_system_error, 14, 1, "write 1 to clear")              \
    F(PCI_STATUS_DETECTED_PARITY,   detected_parity_error, 15, 1, "write 1 to clear")

#define PCI_HEADER_TYPE_FIELDS(F)                                                                  \
    F(PCI_HEADER_TYPE_LAYOUT, layout,         0, 7, "0 device, 1 PCI bridge, 2 CardBus bridge")    \
    F(PCI_HEADER_TYPE_MULTI,  multi_function, 7, 1, "slot has more functions than this")

#define PCI_BIST_FIELDS(F)                                                                         \
    F(PCI_BIST_CODE,    completion_code, 0, 4, "0: passed")                                        \
    F(PCI_BIST_START,   start,           6, 1, "starts the self test")                             \
    F(PCI_BIST_CAPABLE, capable,         7, 1, "has a self test")

#define PCI_BRIDGE_CONTROL_FIELDS(F)                                                               \
    F(PCI_BRIDGE_CTL_PARITY,       parity_error_response, 0, 1, "acts on parity errors behind it") \
    F(PCI_BRIDGE_CTL_SERR,         serr_enable,           1, 1, "forwards SERR#")                  \
    F(PCI_BRIDGE_CTL_ISA,          isa_enable,            2, 1, "blocks ISA aliases")              \
    F(PCI_BRIDGE_CTL_VGA,          vga_enable,            3, 1, "forwards VGA addresses")          \
    F(PCI_BRIDGE_CTL_VGA_16,       vga_16bit_decode,      4, 1, "decodes VGA I/O by 16 bits")      \
    F(PCI_BRIDGE_CTL_MASTER_ABORT, master_abort_mode,     5, 1, "reports master aborts")           \
    F(PCI_BRIDGE_CTL_BUS_RESET,    secondary_bus_reset,   6, 1, "holds the bus behind it in reset") \
    F(PCI_BRIDGE_CTL_FAST_BACK,    fast_back_to_back,     7, 1, "fast back-to-back behind it")     \
    F(PCI_BRIDGE_CTL_PRIMARY_DISCARD, primary_discard_timer, 8, 1, "0: 2^15 clocks, 1: 2^10")      \
    F(PCI_BRIDGE_CTL_SECONDARY_DISCARD, secondary_discard_timer, 9, 1, "0: 2^15 clocks, 1: 2^10")  \
    F(PCI_BRIDGE_CTL_DISCARD_STATUS, discard_timer_status, 10, 1, "write 1 to clear")              \
    F(PCI_BRIDGE_CTL_DISCARD_SERR, discard_timer_serr_enable, 11, 1, "SERR# on a discard")

/* Offsets 0x00..0x0f are the same in both headers. */
#define PCI_HEADER_COMMON_REGISTERS(R)                                                             \
    R(PCI_VENDOR_ID,       vendor_id,       0x00, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "who made it") \
    R(PCI_DEVICE_ID,       device_id,       0x02, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "which device") \
    R(PCI_COMMAND,         command,         0x04, 2, RW, 0, 0, ABI_ONE, ABI_FIELDS(pci_command), "what it may do on the bus") \
    R(PCI_STATUS,          status,          0x06, 2, RW1C, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_status), "what happened on the bus") \
    R(PCI_REVISION_ID,     revision_id,     0x08, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "revision") \
    R(PCI_CLASS_PROG,      prog_if,         0x09, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "programming interface") \
    R(PCI_SUB_CLASS,       sub_class,       0x0a, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "kind within its class") \
    R(PCI_BASE_CLASS,      base_class,      0x0b, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "class") \
    R(PCI_CACHE_LINE_SIZE, cache_line_size, 0x0c, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "in 4-byte units") \
    R(PCI_LATENCY_TIMER,   latency_timer,   0x0d, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "bus clocks it may keep the bus") \
    R(PCI_HEADER_TYPE,     header_type,     0x0e, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_header_type), "layout of the rest") \
    R(PCI_BIST,            bist,            0x0f, 1, RW, 0, 0, ABI_ONE, ABI_FIELDS(pci_bist), "built-in self test")

#define PCI_HEADER0_REGISTERS(R)                                                                   \
    R(PCI_BAR0, bar0, 0x10, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 0") \
    R(PCI_BAR1, bar1, 0x14, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 1, or upper half of 0") \
    R(PCI_BAR2, bar2, 0x18, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 2, or upper half of 1") \
    R(PCI_BAR3, bar3, 0x1c, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 3, or upper half of 2") \
    R(PCI_BAR4, bar4, 0x20, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 4, or upper half of 3") \
    R(PCI_BAR5, bar5, 0x24, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 5, or upper half of 4") \
    R(PCI_CARDBUS_CIS,         cardbus_cis,          0x28, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "CardBus CIS pointer") \
    R(PCI_SUBSYSTEM_VENDOR_ID, subsystem_vendor_id,  0x2c, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "who made the board") \
    R(PCI_SUBSYSTEM_ID,        subsystem_id,         0x2e, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "which board") \
    R(PCI_ROM_ADDRESS,         expansion_rom,        0x30, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "expansion ROM base, bit 0 enables it") \
    R(PCI_CAPABILITY_LIST,     capabilities_pointer, 0x34, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "first capability, 0: none") \
    R(PCI_INTERRUPT_LINE,      interrupt_line,       0x3c, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "scratch for software: its IRQ") \
    R(PCI_INTERRUPT_PIN,       interrupt_pin,        0x3d, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "0 none, 1 INTA# .. 4 INTD#") \
    R(PCI_MIN_GNT,             min_gnt,              0x3e, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "burst length wanted, 250 ns") \
    R(PCI_MAX_LAT,             max_lat,              0x3f, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "how often it needs the bus, 250 ns")

#define PCI_HEADER1_REGISTERS(R)                                                                   \
    R(PCI_BRIDGE_BAR0,         bar0,                0x10, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 0") \
    R(PCI_BRIDGE_BAR1,         bar1,                0x14, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "base address 1, or upper half of 0") \
    R(PCI_PRIMARY_BUS,         primary_bus,         0x18, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "bus it lies on") \
    R(PCI_SECONDARY_BUS,       secondary_bus,       0x19, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "bus right behind it") \
    R(PCI_SUBORDINATE_BUS,     subordinate_bus,     0x1a, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "highest bus behind it") \
    R(PCI_SEC_LATENCY_TIMER,   secondary_latency_timer, 0x1b, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "latency timer behind it") \
    R(PCI_IO_BASE,             io_base,             0x1c, 1, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "I/O window start, bits 15:12; low nibble 1: 32 bits") \
    R(PCI_IO_LIMIT,            io_limit,            0x1d, 1, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "I/O window end, bits 15:12") \
    R(PCI_SEC_STATUS,          secondary_status,    0x1e, 2, RW1C, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what happened on the bus behind it") \
    R(PCI_MEMORY_BASE,         memory_base,         0x20, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "memory window start, bits 31:20") \
    R(PCI_MEMORY_LIMIT,        memory_limit,        0x22, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "memory window end, bits 31:20") \
    R(PCI_PREF_MEMORY_BASE,    prefetchable_memory_base,  0x24, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "prefetchable window start; low nibble 1: 64 bits") \
    R(PCI_PREF_MEMORY_LIMIT,   prefetchable_memory_limit, 0x26, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "prefetchable window end") \
    R(PCI_PREF_BASE_UPPER32,   prefetchable_base_upper,   0x28, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "prefetchable window start, bits 63:32") \
    R(PCI_PREF_LIMIT_UPPER32,  prefetchable_limit_upper,  0x2c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "prefetchable window end, bits 63:32") \
    R(PCI_IO_BASE_UPPER16,     io_base_upper,       0x30, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "I/O window start, bits 31:16") \
    R(PCI_IO_LIMIT_UPPER16,    io_limit_upper,      0x32, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "I/O window end, bits 31:16") \
    R(PCI_BRIDGE_CAPABILITY_LIST, capabilities_pointer, 0x34, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "first capability, 0: none") \
    R(PCI_BRIDGE_ROM_ADDRESS,  expansion_rom,       0x38, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "expansion ROM base, bit 0 enables it") \
    R(PCI_BRIDGE_INTERRUPT_LINE, interrupt_line,    0x3c, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "scratch for software: its IRQ") \
    R(PCI_BRIDGE_INTERRUPT_PIN, interrupt_pin,      0x3d, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "0 none, 1 INTA# .. 4 INTD#") \
    R(PCI_BRIDGE_CONTROL,      bridge_control,      0x3e, 2, RW, 0, 0, ABI_ONE, ABI_FIELDS(pci_bridge_control), "what it forwards; reset of the bus behind it")
/* clang-format on */

/* Windows of a bridge. */
enum {
    PCI_IO_RANGE_MASK = 0xf0,
    PCI_IO_RANGE_TYPE_MASK = 0x0f,
    PCI_IO_RANGE_TYPE_32 = 0x01,
    PCI_MEMORY_RANGE_MASK = 0xfff0,
    PCI_PREF_RANGE_MASK = 0xfff0,
    PCI_PREF_RANGE_TYPE_MASK = 0x0f,
    PCI_PREF_RANGE_TYPE_64 = 0x01,
};

/* ---- capabilities ---- */

enum {
    PCI_CAP_LIST_ID = 0,
    PCI_CAP_LIST_NEXT = 1,
    PCI_CAP_FLAGS = 2,

    PCI_CAP_ID_PM = 0x01,
    PCI_CAP_ID_AGP = 0x02,
    PCI_CAP_ID_VPD = 0x03,
    PCI_CAP_ID_SLOTID = 0x04,
    PCI_CAP_ID_MSI = 0x05,
    PCI_CAP_ID_PCIX = 0x07,
    PCI_CAP_ID_VENDOR = 0x09,
    PCI_CAP_ID_SHPC = 0x0c,
    PCI_CAP_ID_SSVID = 0x0d,
    PCI_CAP_ID_EXPRESS = 0x10,
    PCI_CAP_ID_MSIX = 0x11,
    PCI_CAP_ID_SATA = 0x12,
    PCI_CAP_ID_AF = 0x13,
};

/* clang-format off */
/* The two bytes every capability starts with. */
#define PCI_CAP_REGISTERS(R, CAP)                                                                  \
    R(CAP##_CAP_ID,   cap_id,   0x00, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "capability id")    \
    R(CAP##_CAP_NEXT, cap_next, 0x01, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "next capability, 0: last")

#define PCI_PM_PMC_FIELDS(F)                                                                       \
    F(PCI_PM_CAP_VERSION,   version,       0, 3, "3: Power Management 1.2")                        \
    F(PCI_PM_CAP_PME_CLOCK, pme_clock,     3, 1, "needs the bus clock for PME#")                   \
    F(PCI_PM_CAP_DSI,       device_specific_init, 5, 1, "needs initialisation by its driver")      \
    F(PCI_PM_CAP_AUX,       aux_current,   6, 3, "3.3 V auxiliary current")                        \
    F(PCI_PM_CAP_D1,        d1_support,    9, 1, "has state D1")                                   \
    F(PCI_PM_CAP_D2,        d2_support,   10, 1, "has state D2")                                   \
    F(PCI_PM_CAP_PME,       pme_support,  11, 5, "states it can raise PME# from")
#define PCI_PM_CTRL_FIELDS(F)                                                                      \
    F(PCI_PM_CTRL_STATE,         power_state,   0, 2, "0 D0, 3 D3hot")                             \
    F(PCI_PM_CTRL_NO_SOFT_RESET, no_soft_reset, 3, 1, "keeps its state from D3hot to D0")          \
    F(PCI_PM_CTRL_PME_ENABLE,    pme_enable,    8, 1, "may raise PME#")                            \
    F(PCI_PM_CTRL_DATA_SELECT,   data_select,   9, 4, "which figure `data` shows")                 \
    F(PCI_PM_CTRL_DATA_SCALE,    data_scale,   13, 2, "unit of `data`")                            \
    F(PCI_PM_CTRL_PME_STATUS,    pme_status,   15, 1, "PME# is raised; write 1 to clear")
#define PCI_PM_REGISTERS(R)                                                                        \
    PCI_CAP_REGISTERS(R, PCI_PM)                                                                   \
    R(PCI_PM_PMC,  capabilities,    0x02, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_pm_pmc), "power states it has") \
    R(PCI_PM_CTRL, control_status,  0x04, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_pm_ctrl), "power state it is in") \
    R(PCI_PM_PPB_EXTENSIONS, bridge_extensions, 0x06, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "bridges: the bus in D3hot") \
    R(PCI_PM_DATA, data,            0x07, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "power figure chosen by data_select")

#define PCI_MSI_FLAGS_FIELDS(F)                                                                    \
    F(PCI_MSI_FLAGS_ENABLE,  enable,                    0, 1, "sends messages instead of INTx")    \
    F(PCI_MSI_FLAGS_QMASK,   multiple_message_capable,  1, 3, "log2 of vectors wanted")            \
    F(PCI_MSI_FLAGS_QSIZE,   multiple_message_enable,   4, 3, "log2 of vectors given")             \
    F(PCI_MSI_FLAGS_64BIT,   address_64bit,             7, 1, "has an upper address")              \
    F(PCI_MSI_FLAGS_MASKBIT, per_vector_masking,        8, 1, "has mask and pending bits")
#define PCI_MSI_HEAD_REGISTERS(R, CAP)                                                             \
    PCI_CAP_REGISTERS(R, CAP)                                                                      \
    R(CAP##_FLAGS,      message_control, 0x02, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_msi_flags), "MSI on, number of vectors") \
    R(CAP##_ADDRESS_LO, message_address, 0x04, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "where messages go")
#define PCI_MSI_REGISTERS(R)                                                                       \
    PCI_MSI_HEAD_REGISTERS(R, PCI_MSI)                                                             \
    R(PCI_MSI_ADDRESS_HI, message_upper_address, 0x08, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "where messages go, bits 63:32") \
    R(PCI_MSI_DATA_64,    message_data, 0x0c, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "what is written; low bits: the vector") \
    R(PCI_MSI_MASK_64,    mask_bits,    0x10, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "vectors held back") \
    R(PCI_MSI_PENDING_64, pending_bits, 0x14, 4, RO, 0, 0, ABI_ONE, ABI_NONE, "held-back vectors that are due")
#define PCI_MSI32_REGISTERS(R)                                                                     \
    PCI_MSI_HEAD_REGISTERS(R, PCI_MSI32)                                                           \
    R(PCI_MSI_DATA_32,    message_data, 0x08, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "what is written; low bits: the vector") \
    R(PCI_MSI_MASK_32,    mask_bits,    0x0c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "vectors held back") \
    R(PCI_MSI_PENDING_32, pending_bits, 0x10, 4, RO, 0, 0, ABI_ONE, ABI_NONE, "held-back vectors that are due")

#define PCI_MSIX_FLAGS_FIELDS(F)                                                                   \
    F(PCI_MSIX_FLAGS_QSIZE,   table_size,     0, 11, "entries of the table, less one")             \
    F(PCI_MSIX_FLAGS_MASKALL, function_mask, 14,  1, "all vectors masked")                         \
    F(PCI_MSIX_FLAGS_ENABLE,  enable,        15,  1, "sends messages instead of INTx")
#define PCI_MSIX_TABLE_FIELDS(F)                                                                   \
    F(PCI_MSIX_TABLE_BIR,    bir,    0,  3, "BAR the table lies in")                               \
    F(PCI_MSIX_TABLE_OFFSET, offset, 3, 29, "where in that BAR, in units of 8 bytes")
#define PCI_MSIX_PBA_FIELDS(F)                                                                     \
    F(PCI_MSIX_PBA_BIR,    bir,    0,  3, "BAR the pending bits lie in")                           \
    F(PCI_MSIX_PBA_OFFSET, offset, 3, 29, "where in that BAR, in units of 8 bytes")
#define PCI_MSIX_REGISTERS(R)                                                                      \
    PCI_CAP_REGISTERS(R, PCI_MSIX)                                                                 \
    R(PCI_MSIX_FLAGS, message_control, 0x02, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_msix_flags), "MSI-X on, number of vectors") \
    R(PCI_MSIX_TABLE, table,           0x04, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_msix_table), "where the table lies") \
    R(PCI_MSIX_PBA,   pba,             0x08, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_msix_pba), "where the pending bits lie")

#define PCI_MSIX_ENTRY_CTRL_FIELDS(F)                                                              \
    F(PCI_MSIX_ENTRY_CTRL_MASKED, masked, 0, 1, "vector held back")
#define PCI_MSIX_ENTRY_REGISTERS(R)                                                                \
    R(PCI_MSIX_ENTRY_LOWER_ADDR,  message_address,       0x0, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "where the message goes, 4-byte aligned") \
    R(PCI_MSIX_ENTRY_UPPER_ADDR,  message_upper_address, 0x4, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "where the message goes, bits 63:32") \
    R(PCI_MSIX_ENTRY_DATA,        message_data,          0x8, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "what is written there") \
    R(PCI_MSIX_ENTRY_VECTOR_CTRL, vector_control,        0xc, 4, RW, 0, 1, ABI_ONE, ABI_FIELDS(pci_msix_entry_ctrl), "mask bit")
#define PCI_MSIX_PBA_ENTRY_REGISTERS(R)                                                            \
    R(PCI_MSIX_PBA_PENDING, pending, 0x0, 8, RO, 0, 0, ABI_ONE, ABI_NONE, "one bit per vector that is due")

#define PCI_SSVID_REGISTERS(R)                                                                     \
    PCI_CAP_REGISTERS(R, PCI_SSVID)                                                                \
    R(PCI_SSVID_VENDOR_ID, subsystem_vendor_id, 0x04, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "who made the board") \
    R(PCI_SSVID_DEVICE_ID, subsystem_id,        0x06, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "which board")

/* ---- PCI Express capability, PCI Express Base 2.0, 7.8 ---- */

#define PCI_EXP_FLAGS_FIELDS(F)                                                                    \
    F(PCI_EXP_FLAGS_VERS, version,          0, 4, "of this capability")                            \
    F(PCI_EXP_FLAGS_TYPE, device_port_type, 4, 4, "0 endpoint, 4 root port, 9 root complex endpoint") \
    F(PCI_EXP_FLAGS_SLOT, slot_implemented, 8, 1, "port leads to a slot")                          \
    F(PCI_EXP_FLAGS_IRQ,  interrupt_message_number, 9, 5, "vector used for port events")
#define PCI_EXP_DEVCTL_FIELDS(F)                                                                   \
    F(PCI_EXP_DEVCTL_CERE,       correctable_error_reporting,  0, 1, "reports correctable errors") \
    F(PCI_EXP_DEVCTL_NFERE,      non_fatal_error_reporting,    1, 1, "reports non-fatal errors")   \
    F(PCI_EXP_DEVCTL_FERE,       fatal_error_reporting,        2, 1, "reports fatal errors")       \
    F(PCI_EXP_DEVCTL_URRE,       unsupported_request_reporting, 3, 1, "reports unsupported requests") \
    F(PCI_EXP_DEVCTL_RELAX_EN,   relaxed_ordering,             4, 1, "may relax ordering")         \
    F(PCI_EXP_DEVCTL_PAYLOAD,    max_payload_size,             5, 3, "128 << n bytes")             \
    F(PCI_EXP_DEVCTL_EXT_TAG,    extended_tag,                 8, 1, "8-bit tags")                 \
    F(PCI_EXP_DEVCTL_PHANTOM,    phantom_functions,            9, 1, "uses unclaimed functions")   \
    F(PCI_EXP_DEVCTL_AUX_PME,    aux_power_pm,                10, 1, "draws auxiliary power")      \
    F(PCI_EXP_DEVCTL_NOSNOOP_EN, no_snoop,                    11, 1, "may set No Snoop")           \
    F(PCI_EXP_DEVCTL_READRQ,     max_read_request_size,       12, 3, "128 << n bytes")             \
    F(PCI_EXP_DEVCTL_BCR_FLR,    function_level_reset,        15, 1, "writing 1 resets the function")
#define PCI_EXP_DEVSTA_FIELDS(F)                                                                   \
    F(PCI_EXP_DEVSTA_CED,    correctable_error_detected, 0, 1, "write 1 to clear")                 \
    F(PCI_EXP_DEVSTA_NFED,   non_fatal_error_detected,   1, 1, "write 1 to clear")                 \
    F(PCI_EXP_DEVSTA_FED,    fatal_error_detected,       2, 1, "write 1 to clear")                 \
    F(PCI_EXP_DEVSTA_URD,    unsupported_request_detected, 3, 1, "write 1 to clear")               \
    F(PCI_EXP_DEVSTA_AUXPD,  aux_power_detected,         4, 1, "has auxiliary power")              \
    F(PCI_EXP_DEVSTA_TRPND,  transactions_pending,       5, 1, "requests not yet completed")
#define PCI_EXP_LNKSTA_FIELDS(F)                                                                   \
    F(PCI_EXP_LNKSTA_CLS,   current_link_speed, 0, 4, "1: 2.5 GT/s")                               \
    F(PCI_EXP_LNKSTA_NLW,   negotiated_link_width, 4, 6, "lanes")                                  \
    F(PCI_EXP_LNKSTA_LT,    link_training,     11, 1, "link comes up")                             \
    F(PCI_EXP_LNKSTA_SLC,   slot_clock,        12, 1, "uses the slot's clock")                     \
    F(PCI_EXP_LNKSTA_DLLLA, data_link_layer_active, 13, 1, "link is up")                           \
    F(PCI_EXP_LNKSTA_LBMS,  link_bandwidth_management, 14, 1, "write 1 to clear")                  \
    F(PCI_EXP_LNKSTA_LABS,  link_autonomous_bandwidth, 15, 1, "write 1 to clear")
#define PCI_EXP_SLTCAP_FIELDS(F)                                                                   \
    F(PCI_EXP_SLTCAP_ABP, attention_button,    0, 1, "has an attention button")                    \
    F(PCI_EXP_SLTCAP_PCP, power_controller,    1, 1, "has a power controller")                     \
    F(PCI_EXP_SLTCAP_MRLSP, mrl_sensor,        2, 1, "has a latch sensor")                         \
    F(PCI_EXP_SLTCAP_AIP, attention_indicator, 3, 1, "has an attention light")                     \
    F(PCI_EXP_SLTCAP_PIP, power_indicator,     4, 1, "has a power light")                          \
    F(PCI_EXP_SLTCAP_HPS, hot_plug_surprise,   5, 1, "devices may vanish")                         \
    F(PCI_EXP_SLTCAP_HPC, hot_plug_capable,    6, 1, "takes hot-plug")                             \
    F(PCI_EXP_SLTCAP_SPLV, slot_power_limit,   7, 8, "power limit value")                          \
    F(PCI_EXP_SLTCAP_SPLS, slot_power_scale,  15, 2, "power limit scale")                          \
    F(PCI_EXP_SLTCAP_EIP, interlock,          17, 1, "has an electromechanical interlock")         \
    F(PCI_EXP_SLTCAP_NCCS, no_command_completed, 18, 1, "does not report completed commands")      \
    F(PCI_EXP_SLTCAP_PSN, physical_slot_number, 19, 13, "number of the slot")
#define PCI_EXP_SLTCTL_FIELDS(F)                                                                   \
    F(PCI_EXP_SLTCTL_ABPE, attention_button_enable,  0, 1, "interrupt on attention button")        \
    F(PCI_EXP_SLTCTL_PFDE, power_fault_enable,       1, 1, "interrupt on power fault")             \
    F(PCI_EXP_SLTCTL_MRLSCE, mrl_sensor_enable,      2, 1, "interrupt on latch change")            \
    F(PCI_EXP_SLTCTL_PDCE, presence_detect_enable,   3, 1, "interrupt on presence change")         \
    F(PCI_EXP_SLTCTL_CCIE, command_completed_enable, 4, 1, "interrupt on completed command")       \
    F(PCI_EXP_SLTCTL_HPIE, hot_plug_interrupt_enable, 5, 1, "interrupts of this slot on")          \
    F(PCI_EXP_SLTCTL_AIC,  attention_indicator,      6, 2, "1 on, 2 blink, 3 off")                 \
    F(PCI_EXP_SLTCTL_PIC,  power_indicator,          8, 2, "1 on, 2 blink, 3 off")                 \
    F(PCI_EXP_SLTCTL_PCC,  power_off,               10, 1, "slot power off")                       \
    F(PCI_EXP_SLTCTL_EIC,  interlock_toggle,        11, 1, "toggles the interlock")                \
    F(PCI_EXP_SLTCTL_DLLSCE, link_state_enable,     12, 1, "interrupt on link change")
#define PCI_EXP_SLTSTA_FIELDS(F)                                                                   \
    F(PCI_EXP_SLTSTA_ABP,  attention_button_pressed, 0, 1, "write 1 to clear")                     \
    F(PCI_EXP_SLTSTA_PFD,  power_fault_detected,     1, 1, "write 1 to clear")                     \
    F(PCI_EXP_SLTSTA_MRLSC, mrl_sensor_changed,      2, 1, "write 1 to clear")                     \
    F(PCI_EXP_SLTSTA_PDC,  presence_detect_changed,  3, 1, "write 1 to clear")                     \
    F(PCI_EXP_SLTSTA_CC,   command_completed,        4, 1, "write 1 to clear")                     \
    F(PCI_EXP_SLTSTA_MRLSS, mrl_sensor_state,        5, 1, "latch is open")                        \
    F(PCI_EXP_SLTSTA_PDS,  presence_detect_state,    6, 1, "a device is there")                    \
    F(PCI_EXP_SLTSTA_EIS,  interlock_status,         7, 1, "interlock is engaged")                 \
    F(PCI_EXP_SLTSTA_DLLSC, link_state_changed,      8, 1, "write 1 to clear")

#define PCI_EXP_REGISTERS(R)                                                                       \
    PCI_CAP_REGISTERS(R, PCI_EXP)                                                                  \
    R(PCI_EXP_FLAGS,   capabilities,        0x02, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_exp_flags), "version, kind of device or port") \
    R(PCI_EXP_DEVCAP,  device_capabilities, 0x04, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what it can") \
    R(PCI_EXP_DEVCTL,  device_control,      0x08, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_exp_devctl), "what it may") \
    R(PCI_EXP_DEVSTA,  device_status,       0x0a, 2, RW1C, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_exp_devsta), "errors seen") \
    R(PCI_EXP_LNKCAP,  link_capabilities,   0x0c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what the link can") \
    R(PCI_EXP_LNKCTL,  link_control,        0x10, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what the link may") \
    R(PCI_EXP_LNKSTA,  link_status,         0x12, 2, RW1C, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_exp_lnksta), "speed, width, state of the link") \
    R(PCI_EXP_SLTCAP,  slot_capabilities,   0x14, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_exp_sltcap), "ports: what the slot has") \
    R(PCI_EXP_SLTCTL,  slot_control,        0x18, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_exp_sltctl), "ports: power, lights, interrupts of the slot") \
    R(PCI_EXP_SLTSTA,  slot_status,         0x1a, 2, RW1C, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(pci_exp_sltsta), "ports: what happened at the slot") \
    R(PCI_EXP_RTCTL,   root_control,        0x1c, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "root ports: errors and PME") \
    R(PCI_EXP_RTCAP,   root_capabilities,   0x1e, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "root ports: what it can") \
    R(PCI_EXP_RTSTA,   root_status,         0x20, 4, RW1C, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "root ports: PME") \
    R(PCI_EXP_DEVCAP2, device_capabilities2, 0x24, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what it can, more") \
    R(PCI_EXP_DEVCTL2, device_control2,     0x28, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what it may, more") \
    R(PCI_EXP_DEVSTA2, device_status2,      0x2a, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "reserved") \
    R(PCI_EXP_LNKCAP2, link_capabilities2,  0x2c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what the link can, more") \
    R(PCI_EXP_LNKCTL2, link_control2,       0x30, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "what the link may, more") \
    R(PCI_EXP_LNKSTA2, link_status2,        0x32, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "state of the link, more") \
    R(PCI_EXP_SLTCAP2, slot_capabilities2,  0x34, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "reserved") \
    R(PCI_EXP_SLTCTL2, slot_control2,       0x38, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "reserved") \
    R(PCI_EXP_SLTSTA2, slot_status2,        0x3a, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "reserved")
/* clang-format on */

enum pci_offset {
    PCI_HEADER_COMMON_REGISTERS(ABI_ENUM_OFFSET) /* */
    PCI_HEADER0_REGISTERS(ABI_ENUM_OFFSET)       /* */
    PCI_HEADER1_REGISTERS(ABI_ENUM_OFFSET)       /* */
};
enum pci_capability_offset {
    PCI_PM_REGISTERS(ABI_ENUM_OFFSET)             /* */
    PCI_MSI_REGISTERS(ABI_ENUM_OFFSET)            /* */
    PCI_MSI32_REGISTERS(ABI_ENUM_OFFSET)          /* */
    PCI_MSIX_REGISTERS(ABI_ENUM_OFFSET)           /* */
    PCI_SSVID_REGISTERS(ABI_ENUM_OFFSET)          /* */
    PCI_EXP_REGISTERS(ABI_ENUM_OFFSET)            /* */
    PCI_MSIX_ENTRY_REGISTERS(ABI_ENUM_OFFSET)     /* */
    PCI_MSIX_PBA_ENTRY_REGISTERS(ABI_ENUM_OFFSET) /* */
    PCI_PM_BYTES = 0x08,
    PCI_MSIX_BYTES = 0x0c,
    PCI_SSVID_BYTES = 0x08,
    PCI_EXP_BYTES = 0x3c, /* version 2 */
    PCI_MSIX_ENTRY_BYTES = 16,
    PCI_MSIX_PBA_BYTES = 8, /* 64 vectors */
};
enum pci_field {
    PCI_COMMAND_FIELDS(ABI_ENUM_FIELD)         /* */
    PCI_STATUS_FIELDS(ABI_ENUM_FIELD)          /* */
    PCI_HEADER_TYPE_FIELDS(ABI_ENUM_FIELD)     /* */
    PCI_BIST_FIELDS(ABI_ENUM_FIELD)            /* */
    PCI_BRIDGE_CONTROL_FIELDS(ABI_ENUM_FIELD)  /* */
    PCI_PM_PMC_FIELDS(ABI_ENUM_FIELD)          /* */
    PCI_PM_CTRL_FIELDS(ABI_ENUM_FIELD)         /* */
    PCI_MSI_FLAGS_FIELDS(ABI_ENUM_FIELD)       /* */
    PCI_MSIX_FLAGS_FIELDS(ABI_ENUM_FIELD)      /* */
    PCI_MSIX_TABLE_FIELDS(ABI_ENUM_FIELD)      /* */
    PCI_MSIX_PBA_FIELDS(ABI_ENUM_FIELD)        /* */
    PCI_MSIX_ENTRY_CTRL_FIELDS(ABI_ENUM_FIELD) /* */
    PCI_EXP_FLAGS_FIELDS(ABI_ENUM_FIELD)       /* */
    PCI_EXP_DEVCTL_FIELDS(ABI_ENUM_FIELD)      /* */
    PCI_EXP_DEVSTA_FIELDS(ABI_ENUM_FIELD)      /* */
    PCI_EXP_LNKSTA_FIELDS(ABI_ENUM_FIELD)      /* */
    PCI_EXP_SLTCAP_FIELDS(ABI_ENUM_FIELD)      /* */
    PCI_EXP_SLTCTL_FIELDS(ABI_ENUM_FIELD)      /* */
    PCI_EXP_SLTSTA_FIELDS(ABI_ENUM_FIELD)      /* */
};

#endif
