/*
 * The virtio network device: features, configuration, packet header, control queue. Follows virtio
 * 1.2, 5.1.
 */
#ifndef RINGLAB_ABI_VIRTIO_NET_H
#define RINGLAB_ABI_VIRTIO_NET_H

#include "models/abi/virtio_pci.h"

enum {
    VIRTIO_NET_DEVICE_ID_TRANSITIONAL = 0x1000,
    VIRTIO_NET_DEVICE_ID = VIRTIO_PCI_DEVICE_ID_MODERN + VIRTIO_ID_NET,
    VIRTIO_NET_MAC_BYTES = 6,
};

/* Feature bit numbers, 5.1.3. */
enum virtio_net_feature {
    VIRTIO_NET_F_CSUM = 0,
    VIRTIO_NET_F_GUEST_CSUM = 1,
    VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2,
    VIRTIO_NET_F_MTU = 3,
    VIRTIO_NET_F_MAC = 5,
    VIRTIO_NET_F_GSO = 6, /* legacy */
    VIRTIO_NET_F_GUEST_TSO4 = 7,
    VIRTIO_NET_F_GUEST_TSO6 = 8,
    VIRTIO_NET_F_GUEST_ECN = 9,
    VIRTIO_NET_F_GUEST_UFO = 10,
    VIRTIO_NET_F_HOST_TSO4 = 11,
    VIRTIO_NET_F_HOST_TSO6 = 12,
    VIRTIO_NET_F_HOST_ECN = 13,
    VIRTIO_NET_F_HOST_UFO = 14,
    VIRTIO_NET_F_MRG_RXBUF = 15,
    VIRTIO_NET_F_STATUS = 16,
    VIRTIO_NET_F_CTRL_VQ = 17,
    VIRTIO_NET_F_CTRL_RX = 18,
    VIRTIO_NET_F_CTRL_VLAN = 19,
    VIRTIO_NET_F_CTRL_RX_EXTRA = 20,
    VIRTIO_NET_F_GUEST_ANNOUNCE = 21,
    VIRTIO_NET_F_MQ = 22,
    VIRTIO_NET_F_CTRL_MAC_ADDR = 23,
    VIRTIO_NET_F_NOTF_COAL = 53,
    VIRTIO_NET_F_HASH_REPORT = 57,
    VIRTIO_NET_F_GUEST_HDRLEN = 59,
    VIRTIO_NET_F_RSS = 60,
    VIRTIO_NET_F_RSC_EXT = 61,
    VIRTIO_NET_F_STANDBY = 62,
    VIRTIO_NET_F_SPEED_DUPLEX = 63,
};

/* clang-format off */
#define VIRTIO_NET_STATUS_FIELDS(F)                                                                \
    F(VIRTIO_NET_S_LINK_UP,  link_up,  0, 1, "the link is up")                                     \
    F(VIRTIO_NET_S_ANNOUNCE, announce, 1, 1, "the driver should announce itself")

/* Device configuration, 5.1.4. A field is there only with its feature. */
#define VIRTIO_NET_REGISTERS(R)                                                                    \
    R(VIRTIO_NET_CFG_MAC,         mac,                 0x00, 1, RO, ABI_VARIES, 0, ABI_MANY(VIRTIO_NET_MAC_BYTES, 1), ABI_NONE, "MAC address, with MAC; legacy drivers may write it") \
    R(VIRTIO_NET_CFG_STATUS,      status,              0x06, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(virtio_net_status), "link state, with STATUS") \
    R(VIRTIO_NET_CFG_MAX_PAIRS,   max_virtqueue_pairs, 0x08, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "most queue pairs, with MQ or RSS") \
    R(VIRTIO_NET_CFG_MTU,         mtu,                 0x0a, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "advised MTU, with MTU") \
    R(VIRTIO_NET_CFG_SPEED,       speed,               0x0c, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "Mbit/s, with SPEED_DUPLEX") \
    R(VIRTIO_NET_CFG_DUPLEX,      duplex,              0x10, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "0 half, 1 full, with SPEED_DUPLEX") \
    R(VIRTIO_NET_CFG_RSS_KEY,     rss_max_key_size,    0x11, 1, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "with RSS or HASH_REPORT") \
    R(VIRTIO_NET_CFG_RSS_TABLE,   rss_max_indirection_table_length, 0x12, 2, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "with RSS") \
    R(VIRTIO_NET_CFG_HASH_TYPES,  supported_hash_types, 0x14, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "with RSS or HASH_REPORT")
/* clang-format on */

enum virtio_net_offset {
    VIRTIO_NET_REGISTERS(ABI_ENUM_OFFSET) /* */
    VIRTIO_NET_CFG_BYTES = 0x18,
};
enum virtio_net_field { VIRTIO_NET_STATUS_FIELDS(ABI_ENUM_FIELD) };

/* ---- packet header, 5.1.6 ---- */

/* Little-endian, in legacy native. How many of its bytes are there depends on the features: see
 * VIRTIO_NET_HDR_BYTES. */
struct virtio_net_hdr {
    uint8_t flags;    /* VIRTIO_NET_HDR_F_* */
    uint8_t gso_type; /* VIRTIO_NET_HDR_GSO_* */
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers; /* VERSION_1 or MRG_RXBUF */
    uint32_t hash_value;  /* HASH_REPORT, and what follows */
    uint16_t hash_report;
    uint16_t padding;
};
_Static_assert(sizeof(struct virtio_net_hdr) == 20, "virtio 1.2, 5.1.6");
_Static_assert(offsetof(struct virtio_net_hdr, num_buffers) == 10, "virtio 1.2, 5.1.6");

enum {
    VIRTIO_NET_HDR_BYTES_LEGACY = 10, /* neither VERSION_1 nor MRG_RXBUF */
    VIRTIO_NET_HDR_BYTES = 12,        /* VERSION_1 or MRG_RXBUF */
    VIRTIO_NET_HDR_BYTES_HASH = 20,   /* HASH_REPORT */

    VIRTIO_NET_HDR_F_NEEDS_CSUM = 1,
    VIRTIO_NET_HDR_F_DATA_VALID = 2,
    VIRTIO_NET_HDR_F_RSC_INFO = 4,

    VIRTIO_NET_HDR_GSO_NONE = 0,
    VIRTIO_NET_HDR_GSO_TCPV4 = 1,
    VIRTIO_NET_HDR_GSO_UDP = 3,
    VIRTIO_NET_HDR_GSO_TCPV6 = 4,
    VIRTIO_NET_HDR_GSO_UDP_L4 = 5,
    VIRTIO_NET_HDR_GSO_ECN = 0x80,
};

/* ---- control queue, 5.1.6.5 ---- */

/* The device-readable start of a command; data follows, then a device-writable ack byte. */
struct virtio_net_ctrl_hdr {
    uint8_t class;
    uint8_t command;
};

enum {
    VIRTIO_NET_CTRL_ACK_OK = 0,
    VIRTIO_NET_CTRL_ACK_ERR = 1,

    VIRTIO_NET_CTRL_RX = 0,
    VIRTIO_NET_CTRL_RX_PROMISC = 0,
    VIRTIO_NET_CTRL_RX_ALLMULTI = 1,
    VIRTIO_NET_CTRL_RX_ALLUNI = 2,
    VIRTIO_NET_CTRL_RX_NOMULTI = 3,
    VIRTIO_NET_CTRL_RX_NOUNI = 4,
    VIRTIO_NET_CTRL_RX_NOBCAST = 5,

    VIRTIO_NET_CTRL_MAC = 1,
    VIRTIO_NET_CTRL_MAC_TABLE_SET = 0,
    VIRTIO_NET_CTRL_MAC_ADDR_SET = 1,

    VIRTIO_NET_CTRL_VLAN = 2,
    VIRTIO_NET_CTRL_VLAN_ADD = 0,
    VIRTIO_NET_CTRL_VLAN_DEL = 1,

    VIRTIO_NET_CTRL_ANNOUNCE = 3,
    VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0,

    VIRTIO_NET_CTRL_MQ = 4,
    VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0,
    VIRTIO_NET_CTRL_MQ_RSS_CONFIG = 1,
    VIRTIO_NET_CTRL_MQ_HASH_CONFIG = 2,

    VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5,
    VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0,

    VIRTIO_NET_CTRL_NOTF_COAL = 6,
    VIRTIO_NET_CTRL_NOTF_COAL_TX_SET = 0,
    VIRTIO_NET_CTRL_NOTF_COAL_RX_SET = 1,
};

#endif
