/*
 * The virtio PCI transports: vendor capabilities, common configuration, notification, ISR, and the
 * legacy interface; status and feature bits common to all virtio devices. Follows virtio 1.2, 2.1,
 * 4.1.4 and 6.
 */
#ifndef RINGLAB_ABI_VIRTIO_PCI_H
#define RINGLAB_ABI_VIRTIO_PCI_H

#include "models/abi/reg.h"

enum {
    VIRTIO_PCI_VENDOR_ID = 0x1af4,
    VIRTIO_PCI_DEVICE_ID_LEGACY = 0x1000, /* transitional devices: 0x1000..0x103f */
    VIRTIO_PCI_DEVICE_ID_MODERN = 0x1040, /* plus the virtio device id */
    VIRTIO_ID_NET = 1,
    VIRTIO_MSI_NO_VECTOR = 0xffff,
    VIRTIO_PCI_LEGACY_BAR = 0,
    VIRTIO_PCI_QUEUE_ADDR_SHIFT = 12, /* legacy queue_address counts pages of 4096 bytes */
    VIRTIO_PCI_NOTIFY_STRIDE = 4,     /* notify_off_multiplier of QEMU's devices */
};

/* cfg_type of a vendor capability, 4.1.4 */
enum virtio_pci_cfg_type {
    VIRTIO_PCI_CAP_COMMON_CFG = 1,
    VIRTIO_PCI_CAP_NOTIFY_CFG = 2,
    VIRTIO_PCI_CAP_ISR_CFG = 3,
    VIRTIO_PCI_CAP_DEVICE_CFG = 4,
    VIRTIO_PCI_CAP_PCI_CFG = 5,
    VIRTIO_PCI_CAP_SHARED_MEMORY_CFG = 8,
    VIRTIO_PCI_CAP_VENDOR_CFG = 9,
};

/* Feature bit numbers, 6. A mask is VIRTIO_FEATURE(bit). */
enum virtio_feature {
    VIRTIO_F_NOTIFY_ON_EMPTY = 24, /* legacy */
    VIRTIO_F_ANY_LAYOUT = 27,      /* legacy */
    VIRTIO_F_INDIRECT_DESC = 28,
    VIRTIO_F_EVENT_IDX = 29,
    VIRTIO_F_LEGACY_BAD = 30, /* legacy: a driver that takes it is broken */
    VIRTIO_F_VERSION_1 = 32,
    VIRTIO_F_ACCESS_PLATFORM = 33,
    VIRTIO_F_RING_PACKED = 34,
    VIRTIO_F_IN_ORDER = 35,
    VIRTIO_F_ORDER_PLATFORM = 36,
    VIRTIO_F_SR_IOV = 37,
    VIRTIO_F_NOTIFICATION_DATA = 38,
    VIRTIO_F_NOTIF_CONFIG_DATA = 39,
    VIRTIO_F_RING_RESET = 40,
};
#define VIRTIO_FEATURE(bit) (UINT64_C(1) << (bit))

/* clang-format off */
/* 2.1 */
#define VIRTIO_STATUS_FIELDS(F)                                                                    \
    F(VIRTIO_STATUS_ACKNOWLEDGE, acknowledge,        0, 1, "the guest has seen the device")        \
    F(VIRTIO_STATUS_DRIVER,      driver,             1, 1, "the guest knows how to drive it")      \
    F(VIRTIO_STATUS_DRIVER_OK,   driver_ok,          2, 1, "the driver is ready")                  \
    F(VIRTIO_STATUS_FEATURES_OK, features_ok,        3, 1, "features are agreed")                  \
    F(VIRTIO_STATUS_NEEDS_RESET, device_needs_reset, 6, 1, "the device cannot go on")              \
    F(VIRTIO_STATUS_FAILED,      failed,             7, 1, "the guest has given up")
#define VIRTIO_ISR_FIELDS(F)                                                                       \
    F(VIRTIO_ISR_QUEUE,  queue_interrupt,                0, 1, "a queue has used buffers")         \
    F(VIRTIO_ISR_CONFIG, device_configuration_interrupt, 1, 1, "the configuration changed")

/* 4.1.4, 4.1.4.4, 4.1.4.9; offsets from the capability's first byte */
#define VIRTIO_PCI_CAP_REGISTERS(R)                                                                \
    R(VIRTIO_PCI_CAP_VNDR,     cap_vndr, 0x00, 1, RO, 0, 0x09, ABI_ONE, ABI_NONE, "9: vendor specific") \
    R(VIRTIO_PCI_CAP_NEXT,     cap_next, 0x01, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "next capability, 0: last") \
    R(VIRTIO_PCI_CAP_LEN,      cap_len,  0x02, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "bytes of this capability") \
    R(VIRTIO_PCI_CAP_CFG_TYPE, cfg_type, 0x03, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "structure it points to") \
    R(VIRTIO_PCI_CAP_BAR,      bar,      0x04, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "BAR that holds it") \
    R(VIRTIO_PCI_CAP_ID,       id,       0x05, 1, RO, 0, 0, ABI_ONE, ABI_NONE, "which of several of this type") \
    R(VIRTIO_PCI_CAP_OFFSET,   offset,   0x08, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "where in the BAR") \
    R(VIRTIO_PCI_CAP_LENGTH,   length,   0x0c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "bytes of the structure")
#define VIRTIO_PCI_NOTIFY_CAP_REGISTERS(R)                                                         \
    R(VIRTIO_PCI_NOTIFY_CAP_MULT, notify_off_multiplier, 0x10, 4, RO, 0, VIRTIO_PCI_NOTIFY_STRIDE, ABI_ONE, ABI_NONE, "bytes per queue_notify_off")
/* The window: bar, offset and length may be written, 4.1.4.9.1. */
#define VIRTIO_PCI_CFG_CAP_REGISTERS(R)                                                            \
    R(VIRTIO_PCI_CFG_CAP_VNDR,     cap_vndr, 0x00, 1, RO, 0, 0x09, ABI_ONE, ABI_NONE, "9: vendor specific") \
    R(VIRTIO_PCI_CFG_CAP_NEXT,     cap_next, 0x01, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "next capability, 0: last") \
    R(VIRTIO_PCI_CFG_CAP_LEN,      cap_len,  0x02, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "bytes of this capability") \
    R(VIRTIO_PCI_CFG_CAP_CFG_TYPE, cfg_type, 0x03, 1, RO, 0, VIRTIO_PCI_CAP_PCI_CFG, ABI_ONE, ABI_NONE, "5: access window") \
    R(VIRTIO_PCI_CFG_CAP_BAR,      bar,      0x04, 1, RW, 0, 0, ABI_ONE, ABI_NONE, "BAR to access") \
    R(VIRTIO_PCI_CFG_CAP_ID,       id,       0x05, 1, RO, 0, 0, ABI_ONE, ABI_NONE, "which of several of this type") \
    R(VIRTIO_PCI_CFG_CAP_OFFSET,   offset,   0x08, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "offset in the BAR to access") \
    R(VIRTIO_PCI_CFG_CAP_LENGTH,   length,   0x0c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "width of the access: 1, 2 or 4") \
    R(VIRTIO_PCI_CFG_CAP_DATA,     pci_cfg_data, 0x10, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "reading or writing it makes the access")

/* 4.1.4.3 */
#define VIRTIO_PCI_COMMON_REGISTERS(R)                                                             \
    R(VIRTIO_PCI_COMMON_DEVICE_FEATURE_SELECT, device_feature_select, 0x00, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "word of the device's features shown") \
    R(VIRTIO_PCI_COMMON_DEVICE_FEATURE,        device_feature,        0x04, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "features the device offers") \
    R(VIRTIO_PCI_COMMON_DRIVER_FEATURE_SELECT, driver_feature_select, 0x08, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "word of the driver's features shown") \
    R(VIRTIO_PCI_COMMON_DRIVER_FEATURE,        driver_feature,        0x0c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "features the driver takes") \
    R(VIRTIO_PCI_COMMON_CONFIG_MSIX_VECTOR,    config_msix_vector,    0x10, 2, RW, 0, 0xffff, ABI_ONE, ABI_NONE, "vector of configuration changes, 0xffff: none") \
    R(VIRTIO_PCI_COMMON_NUM_QUEUES,            num_queues,            0x12, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "queues the device has") \
    R(VIRTIO_PCI_COMMON_DEVICE_STATUS,         device_status,         0x14, 1, RW, 0, 0, ABI_ONE, ABI_FIELDS(virtio_status), "how far the driver is; writing 0 resets") \
    R(VIRTIO_PCI_COMMON_CONFIG_GENERATION,     config_generation,     0x15, 1, RO, 0, 0, ABI_ONE, ABI_NONE, "changes when the configuration does") \
    R(VIRTIO_PCI_COMMON_QUEUE_SELECT,          queue_select,          0x16, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "queue the registers below are about") \
    R(VIRTIO_PCI_COMMON_QUEUE_SIZE,            queue_size,            0x18, 2, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "entries; 0: no such queue") \
    R(VIRTIO_PCI_COMMON_QUEUE_MSIX_VECTOR,     queue_msix_vector,     0x1a, 2, RW, 0, 0xffff, ABI_ONE, ABI_NONE, "vector of this queue, 0xffff: none") \
    R(VIRTIO_PCI_COMMON_QUEUE_ENABLE,          queue_enable,          0x1c, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "1: the device may use the queue") \
    R(VIRTIO_PCI_COMMON_QUEUE_NOTIFY_OFF,      queue_notify_off,      0x1e, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "which notification address is its own") \
    R(VIRTIO_PCI_COMMON_QUEUE_DESC,            queue_desc,            0x20, 8, RW, 0, 0, ABI_ONE, ABI_NONE, "address of the descriptors") \
    R(VIRTIO_PCI_COMMON_QUEUE_DRIVER,          queue_driver,          0x28, 8, RW, 0, 0, ABI_ONE, ABI_NONE, "address of the available ring") \
    R(VIRTIO_PCI_COMMON_QUEUE_DEVICE,          queue_device,          0x30, 8, RW, 0, 0, ABI_ONE, ABI_NONE, "address of the used ring") \
    R(VIRTIO_PCI_COMMON_QUEUE_NOTIFY_DATA,     queue_notify_data,     0x38, 2, RO, 0, 0, ABI_ONE, ABI_NONE, "what to write to notify, with NOTIF_CONFIG_DATA") \
    R(VIRTIO_PCI_COMMON_QUEUE_RESET,           queue_reset,           0x3a, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "1: resets this queue, with RING_RESET")

/* 4.1.4.5: reading acknowledges and lowers INTx */
#define VIRTIO_PCI_ISR_REGISTERS(R)                                                                \
    R(VIRTIO_PCI_ISR_STATUS, isr_status, 0x00, 1, RC, 0, 0, ABI_ONE, ABI_FIELDS(virtio_isr), "why INTx is raised")
/* 4.1.4.4 */
#define VIRTIO_PCI_NOTIFY_REGISTERS(R)                                                             \
    R(VIRTIO_PCI_NOTIFY_QUEUE, queue_notify, 0x00, 2, WO, 0, 0, ABI_ONE, ABI_NONE, "a write tells the device to look at the queue")

/* 4.1.4.10; native byte order */
#define VIRTIO_PCI_LEGACY_REGISTERS(R)                                                             \
    R(VIRTIO_PCI_LEGACY_DEVICE_FEATURES, device_features, 0x00, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "features the device offers, bits 31:0") \
    R(VIRTIO_PCI_LEGACY_DRIVER_FEATURES, driver_features, 0x04, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "features the driver takes") \
    R(VIRTIO_PCI_LEGACY_QUEUE_ADDRESS,   queue_address,   0x08, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "page number of the rings; 0 takes the queue away") \
    R(VIRTIO_PCI_LEGACY_QUEUE_SIZE,      queue_size,      0x0c, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "entries; 0: no such queue") \
    R(VIRTIO_PCI_LEGACY_QUEUE_SELECT,    queue_select,    0x0e, 2, RW, 0, 0, ABI_ONE, ABI_NONE, "queue the registers around are about") \
    R(VIRTIO_PCI_LEGACY_QUEUE_NOTIFY,    queue_notify,    0x10, 2, WO, 0, 0, ABI_ONE, ABI_NONE, "queue to look at") \
    R(VIRTIO_PCI_LEGACY_DEVICE_STATUS,   device_status,   0x12, 1, RW, 0, 0, ABI_ONE, ABI_FIELDS(virtio_status), "how far the driver is; writing 0 resets") \
    R(VIRTIO_PCI_LEGACY_ISR_STATUS,      isr_status,      0x13, 1, RC, 0, 0, ABI_ONE, ABI_FIELDS(virtio_isr), "why INTx is raised")
/* Only while MSI-X is enabled; the device configuration follows right after what there is. */
#define VIRTIO_PCI_LEGACY_MSIX_REGISTERS(R)                                                        \
    R(VIRTIO_PCI_LEGACY_MSIX_CONFIG_VECTOR, config_msix_vector, 0x00, 2, RW, 0, 0xffff, ABI_ONE, ABI_NONE, "vector of configuration changes, 0xffff: none") \
    R(VIRTIO_PCI_LEGACY_MSIX_QUEUE_VECTOR,  queue_msix_vector,  0x02, 2, RW, 0, 0xffff, ABI_ONE, ABI_NONE, "vector of the selected queue, 0xffff: none")
/* clang-format on */

enum virtio_pci_offset {
    VIRTIO_PCI_CAP_REGISTERS(ABI_ENUM_OFFSET)         /* */
    VIRTIO_PCI_NOTIFY_CAP_REGISTERS(ABI_ENUM_OFFSET)  /* */
    VIRTIO_PCI_CFG_CAP_REGISTERS(ABI_ENUM_OFFSET)     /* */
    VIRTIO_PCI_COMMON_REGISTERS(ABI_ENUM_OFFSET)      /* */
    VIRTIO_PCI_ISR_REGISTERS(ABI_ENUM_OFFSET)         /* */
    VIRTIO_PCI_NOTIFY_REGISTERS(ABI_ENUM_OFFSET)      /* */
    VIRTIO_PCI_LEGACY_REGISTERS(ABI_ENUM_OFFSET)      /* */
    VIRTIO_PCI_LEGACY_MSIX_REGISTERS(ABI_ENUM_OFFSET) /* */

    VIRTIO_PCI_CAP_BYTES = 16,
    VIRTIO_PCI_NOTIFY_CAP_BYTES = 20,
    VIRTIO_PCI_CFG_CAP_BYTES = 20,
    VIRTIO_PCI_COMMON_BYTES = 0x3c,       /* what the table above describes */
    VIRTIO_PCI_LEGACY_MSIX = 0x14,        /* the vectors, while MSI-X is enabled */
    VIRTIO_PCI_LEGACY_CONFIG = 0x14,      /* the device configuration without ... */
    VIRTIO_PCI_LEGACY_CONFIG_MSIX = 0x18, /* ... and with MSI-X enabled */
};
enum virtio_pci_field {
    VIRTIO_STATUS_FIELDS(ABI_ENUM_FIELD) /* */
    VIRTIO_ISR_FIELDS(ABI_ENUM_FIELD)    /* */
};

#endif
