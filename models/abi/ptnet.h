/*
 * ptnet, the network device whose rings are a netmap port's (CSB in models/abi/netmap.h), and
 * ptnetmap-memdev, which shows the guest the memory of that port. Follows netmap's
 * sys/net/netmap_virt.h. Both take 4-byte accesses, little endian; BARs and classes are those of
 * the devices' QEMU models.
 */
#ifndef RINGLAB_ABI_PTNET_H
#define RINGLAB_ABI_PTNET_H

#include "models/abi/reg.h"

enum {
    PTNETMAP_PCI_VENDOR_ID = 0x1b36,
    PTNETMAP_PCI_DEVICE_ID = 0x000c, /* ptnetmap-memdev */
    PTNETMAP_PCI_NETIF_ID = 0x000d,  /* ptnet */

    PTNETMAP_IO_PCI_BAR = 0,   /* registers, I/O space, of both */
    PTNETMAP_MEM_PCI_BAR = 1,  /* memdev: the netmap memory */
    PTNETMAP_MSIX_PCI_BAR = 2, /* ptnet: one vector per ring, all tx, then all rx */

    PTNET_MDEV_IO_BAR_BYTES = 128,
    PTNET_IO_BAR_BYTES = 256,
    PTNET_MAX_KICKS = 32, /* kick registers that fit the BAR */

    PTNETMAP_PTCTL_CREATE = 1,
    PTNETMAP_PTCTL_DELETE = 2,
};

/* clang-format off */
#define PTNET_PTFEAT_FIELDS(F)                                                                     \
    F(PTNETMAP_F_VNET_HDR, vnet_hdr, 0, 1, "frames with a virtio-net header of 12 bytes")

/* CREATE with leftover CSB addresses would have the host write anywhere in guest memory: PTCTL is
 * not probed by writing. */
#define PTNET_IO_REGISTERS(R)                                                                      \
    R(PTNET_IO_PTFEAT,        PTFEAT,        0x00, 4, RW, 0, 0, ABI_ONE, ABI_FIELDS(ptnet_ptfeat), "write: features wanted; read: features acknowledged") \
    R(PTNET_IO_PTCTL,         PTCTL,         0x04, 4, RW, ABI_UNSAFE, 0, ABI_ONE, ABI_NONE, "write: 1 create, 2 delete the kernel loop; read: its errno") \
    R(PTNET_IO_MAC_LO,        MAC_LO,        0x08, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "MAC address, bytes 2..5, byte 5 lowest") \
    R(PTNET_IO_MAC_HI,        MAC_HI,        0x0c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "MAC address, bytes 0 and 1, byte 1 lowest") \
    R(PTNET_IO_CSBBAH,        CSBBAH,        0x10, 4, RSVD, 0, 0, ABI_ONE, ABI_NONE, "was the address of the only CSB") \
    R(PTNET_IO_CSBBAL,        CSBBAL,        0x14, 4, RSVD, 0, 0, ABI_ONE, ABI_NONE, "was the address of the only CSB") \
    R(PTNET_IO_NIFP_OFS,      NIFP_OFS,      0x18, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "netmap_if: bytes from the start of the netmap memory") \
    R(PTNET_IO_NUM_TX_RINGS,  NUM_TX_RINGS,  0x1c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "transmit rings") \
    R(PTNET_IO_NUM_RX_RINGS,  NUM_RX_RINGS,  0x20, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "receive rings") \
    R(PTNET_IO_NUM_TX_SLOTS,  NUM_TX_SLOTS,  0x24, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "slots of a transmit ring") \
    R(PTNET_IO_NUM_RX_SLOTS,  NUM_RX_SLOTS,  0x28, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "slots of a receive ring") \
    R(PTNET_IO_VNET_HDR_LEN,  VNET_HDR_LEN,  0x2c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "bytes before each frame: 0, 10 or 12; others are not taken") \
    R(PTNET_IO_HOSTMEMID,     HOSTMEMID,     0x30, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "host allocator: which memdev shows the memory") \
    R(PTNET_IO_CSB_GH_BAH,    CSB_GH_BAH,    0x34, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "guest to host CSB array, address bits 63:32") \
    R(PTNET_IO_CSB_GH_BAL,    CSB_GH_BAL,    0x38, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "address bits 31:0; a write maps it and ends the kernel loop") \
    R(PTNET_IO_CSB_HG_BAH,    CSB_HG_BAH,    0x3c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "host to guest CSB array, address bits 63:32") \
    R(PTNET_IO_CSB_HG_BAL,    CSB_HG_BAL,    0x40, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "address bits 31:0; a write maps it and ends the kernel loop") \
    R(PTNET_IO_KICK_BASE,     KICK,          0x80, 4, WO, 0, 0, ABI_MANY(PTNET_MAX_KICKS, 4), ABI_NONE, "a write tells the host to look at the ring")

#define PTNET_MDEV_IO_REGISTERS(R)                                                                 \
    R(PTNET_MDEV_IO_MEMSIZE_LO,       MEMSIZE_LO,       0x00, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "bytes of the netmap memory, bits 31:0") \
    R(PTNET_MDEV_IO_MEMSIZE_HI,       MEMSIZE_HI,       0x04, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "bytes of the netmap memory, bits 63:32") \
    R(PTNET_MDEV_IO_MEMID,            MEMID,            0x08, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "host allocator it belongs to") \
    R(PTNET_MDEV_IO_IF_POOL_OFS,      IF_POOL_OFS,      0x40, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "interfaces: where") \
    R(PTNET_MDEV_IO_IF_POOL_OBJNUM,   IF_POOL_OBJNUM,   0x44, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "interfaces: how many") \
    R(PTNET_MDEV_IO_IF_POOL_OBJSZ,    IF_POOL_OBJSZ,    0x48, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "interfaces: bytes of each") \
    R(PTNET_MDEV_IO_RING_POOL_OFS,    RING_POOL_OFS,    0x4c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "rings: where") \
    R(PTNET_MDEV_IO_RING_POOL_OBJNUM, RING_POOL_OBJNUM, 0x50, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "rings: how many") \
    R(PTNET_MDEV_IO_RING_POOL_OBJSZ,  RING_POOL_OBJSZ,  0x54, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "rings: bytes of each") \
    R(PTNET_MDEV_IO_BUF_POOL_OFS,     BUF_POOL_OFS,     0x58, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "buffers: where") \
    R(PTNET_MDEV_IO_BUF_POOL_OBJNUM,  BUF_POOL_OBJNUM,  0x5c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "buffers: how many") \
    R(PTNET_MDEV_IO_BUF_POOL_OBJSZ,   BUF_POOL_OBJSZ,   0x60, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "buffers: bytes of each")
/* clang-format on */

enum ptnet_offset {
    PTNET_IO_REGISTERS(ABI_ENUM_OFFSET) /* */
    PTNET_IO_END = 0x44,                /* from here on registers read 0 */
};
enum ptnet_memdev_offset {
    PTNET_MDEV_IO_REGISTERS(ABI_ENUM_OFFSET) /* */
    PTNET_MDEV_IO_END = 0x64,
};
enum ptnet_field { PTNET_PTFEAT_FIELDS(ABI_ENUM_FIELD) };

#endif
