/*
 * netmap's binary interface, API version 14, LP64 little endian: what lies in the shared region,
 * the requests of the control call with their options, and their numbers. Same names, offsets and
 * values as a program sees that was compiled against netmap's own header (sys/net/netmap.h). Fields
 * that one side stores while the other loads are atomic.
 */
#ifndef RINGLAB_ABI_NETMAP_H
#define RINGLAB_ABI_NETMAP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NETMAP_API = 14,
    NETMAP_MIN_API = 14,
    NETMAP_MAX_API = 15,
    NETMAP_REQ_IFNAMSIZ = 64,
    NETMAP_IFNAMSIZ = 16,
    NETMAP_REQ_MAXSIZE = 4096, /* body and options together, bytes */
    NETMAP_MAX_FRAGS = 64,
    NM_CACHE_ALIGN = 128,
    NM_BUF_ALIGN = 64,
};

/* ---- the shared region ---- */

enum {
    NS_BUF_CHANGED = 0x0001, /* buf_idx is new */
    NS_REPORT = 0x0002,
    NS_FORWARD = 0x0004,  /* pass on to the other side (host rings) */
    NS_NO_LEARN = 0x0008, /* a VALE switch does not learn the source */
    NS_INDIRECT = 0x0010, /* ptr is the address of the data */
    NS_MOREFRAG = 0x0020, /* the packet goes on in the next slot */
    NS_TXMON = 0x0040,    /* a monitor saw it on a transmit ring */
    NS_PORT_SHIFT = 8,
    NS_PORT_MASK = 0xff00,
};
#define NS_RFRAGS(slot_flags) ((uint16_t)(slot_flags) >> NS_PORT_SHIFT)

struct netmap_slot {
    uint32_t buf_idx;
    uint16_t len;   /* bytes */
    uint16_t flags; /* NS_ */
    uint64_t ptr;   /* address of an indirect buffer, or the offset of the data */
};

enum {
    NR_TIMESTAMP = 0x0002,
    NR_FORWARD = 0x0004,
};

struct netmap_timeval {
    int64_t tv_sec, tv_usec;
};

/* [head, tail) belong to the application. */
struct netmap_ring {
    int64_t buf_ofs; /* from this struct to buffer 0 */
    uint32_t num_slots;
    uint32_t nr_buf_size; /* bytes */
    uint16_t ringid;
    uint16_t dir; /* enum nm_txrx as the kernel counts: 0 rx, 1 tx */
    _Atomic uint32_t head;
    _Atomic uint32_t cur;
    _Atomic uint32_t tail;
    _Atomic uint32_t flags; /* NR_ */
    uint32_t pad0;
    struct netmap_timeval ts; /* of the last sync */
    uint64_t offset_mask;
    uint64_t buf_align;
    uint8_t pad1[56];
    uint8_t sem[128];
    struct netmap_slot slot[];
};

enum {
    NI_PRIV_MEM = 0x1, /* the region is of this port alone */
};

struct netmap_if {
    char ni_name[NETMAP_IFNAMSIZ];
    uint32_t ni_version;
    uint32_t ni_flags; /* NI_ */
    uint32_t ni_tx_rings;
    uint32_t ni_rx_rings;
    uint32_t ni_bufs_head; /* first of the list of extra buffers; 0: none */
    uint32_t ni_host_tx_rings;
    uint32_t ni_host_rx_rings;
    uint32_t ni_spare1[3];
    int64_t ring_ofs[]; /* from this struct: tx, host tx, rx, host rx; 0: not bound */
};

/* ---- requests ---- */

enum {
    NETMAP_REQ_REGISTER = 1,
    NETMAP_REQ_PORT_INFO_GET,
    NETMAP_REQ_VALE_ATTACH,
    NETMAP_REQ_VALE_DETACH,
    NETMAP_REQ_VALE_LIST,
    NETMAP_REQ_PORT_HDR_SET,
    NETMAP_REQ_PORT_HDR_GET,
    NETMAP_REQ_VALE_NEWIF,
    NETMAP_REQ_VALE_DELIF,
    NETMAP_REQ_VALE_POLLING_ENABLE,
    NETMAP_REQ_VALE_POLLING_DISABLE,
    NETMAP_REQ_POOLS_INFO_GET,
    NETMAP_REQ_SYNC_KLOOP_START,
    NETMAP_REQ_SYNC_KLOOP_STOP,
    NETMAP_REQ_CSB_ENABLE,
};

enum {
    NETMAP_REQ_OPT_EXTMEM = 1,
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_CSB,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
    NETMAP_REQ_OPT_OFFSETS,
    NETMAP_REQ_OPT_MAX, /* no option: one more than the last */
};

struct nmreq_header {
    uint16_t nr_version;
    uint16_t nr_reqtype; /* NETMAP_REQ_ */
    uint32_t nr_reserved;
    char nr_name[NETMAP_REQ_IFNAMSIZ];
    uint64_t nr_options; /* address of the first struct nmreq_option; 0: none */
    uint64_t nr_body;    /* address */
};

struct nmreq_option {
    uint64_t nro_next;
    uint32_t nro_reqtype; /* NETMAP_REQ_OPT_ */
    uint32_t nro_status;  /* errno */
    uint64_t nro_size;    /* bytes with this struct; only where the type does not say */
};

enum {
    NR_REG_DEFAULT = 0, /* not valid */
    NR_REG_ALL_NIC,
    NR_REG_SW,
    NR_REG_NIC_SW,
    NR_REG_ONE_NIC,
    NR_REG_PIPE_MASTER, /* deprecated */
    NR_REG_PIPE_SLAVE,  /* deprecated */
    NR_REG_NULL,
    NR_REG_ONE_SW,
};

enum {
    NR_MONITOR_TX = 0x100,
    NR_MONITOR_RX = 0x200,
    NR_ZCOPY_MON = 0x400,
    NR_EXCLUSIVE = 0x800,
    NR_RX_RINGS_ONLY = 0x2000,
    NR_TX_RINGS_ONLY = 0x4000,
    NR_ACCEPT_VNET_HDR = 0x8000,
    NR_DO_RX_POLL = 0x10000,
    NR_NO_TX_POLL = 0x20000,
};

struct nmreq_register {
    uint64_t nr_offset;  /* of the netmap_if in the region */
    uint64_t nr_memsize; /* bytes of the region */
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t nr_ringid;
    uint32_t nr_mode; /* NR_REG_ */
    uint32_t nr_extra_bufs;
    uint32_t pad1;
    uint64_t nr_flags; /* NR_ */
};

struct nmreq_port_info_get {
    uint64_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad[3];
};

struct nmreq_vale_attach {
    struct nmreq_register reg;
    uint32_t port_index;
    uint32_t pad1;
};

struct nmreq_vale_detach {
    uint32_t port_index;
    uint32_t pad1;
};

struct nmreq_vale_list {
    uint16_t nr_bridge_idx;
    uint16_t pad1;
    uint32_t nr_port_idx;
};

struct nmreq_port_hdr {
    uint32_t nr_hdr_len; /* bytes: 0, 10 or 12 */
    uint32_t pad1;
};

struct nmreq_vale_newif {
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad1;
};

enum {
    NETMAP_POLLING_MODE_SINGLE_CPU = 1,
    NETMAP_POLLING_MODE_MULTI_CPU = 2,
};

struct nmreq_vale_polling {
    uint32_t nr_mode;
    uint32_t nr_first_cpu_id;
    uint32_t nr_num_polling_cpus;
    uint32_t pad1;
};

struct nmreq_pools_info {
    uint64_t nr_memsize;
    uint16_t nr_mem_id;
    uint16_t pad1[3];
    uint64_t nr_if_pool_offset;
    uint32_t nr_if_pool_objtotal;
    uint32_t nr_if_pool_objsize;
    uint64_t nr_ring_pool_offset;
    uint32_t nr_ring_pool_objtotal;
    uint32_t nr_ring_pool_objsize;
    uint64_t nr_buf_pool_offset;
    uint32_t nr_buf_pool_objtotal;
    uint32_t nr_buf_pool_objsize;
};

struct nmreq_sync_kloop_start {
    uint32_t sleep_us;
    uint32_t pad1;
};

struct nmreq_opt_sync_kloop_eventfd {
    int32_t ioeventfd;
    int32_t irqfd;
};

struct nmreq_opt_sync_kloop_eventfds {
    struct nmreq_option nro_opt; /* nro_size = 24 + 8 * rings */
    struct nmreq_opt_sync_kloop_eventfd eventfds[];
};

enum {
    NM_OPT_SYNC_KLOOP_DIRECT_TX = 1,
    NM_OPT_SYNC_KLOOP_DIRECT_RX = 2,
};

struct nmreq_opt_sync_kloop_mode {
    struct nmreq_option nro_opt;
    uint32_t mode; /* NM_OPT_SYNC_KLOOP_ */
    uint32_t pad1;
};

struct nmreq_opt_extmem {
    struct nmreq_option nro_opt;
    uint64_t nro_usrptr;
    struct nmreq_pools_info nro_info;
};

struct nmreq_opt_csb {
    struct nmreq_option nro_opt;
    uint64_t csb_atok; /* address of struct nm_csb_atok[rings] */
    uint64_t csb_ktoa; /* address of struct nm_csb_ktoa[rings] */
};

struct nmreq_opt_offsets {
    struct nmreq_option nro_opt;
    uint64_t nro_max_offset;
    uint64_t nro_initial_offset;
    uint32_t nro_offset_bits;
    uint32_t nro_tx_align;
    uint64_t nro_min_gap;
};

/* The version 11 request of NIOCGINFO and NIOCREGIF. */
struct nmreq {
    char nr_name[NETMAP_IFNAMSIZ];
    uint32_t nr_version;
    uint32_t nr_offset;
    uint32_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_ringid;
    uint16_t nr_cmd;
    uint16_t nr_arg1;
    uint16_t nr_arg2;
    uint32_t nr_arg3;
    uint32_t nr_flags;
    uint32_t spare2[1];
};

enum {
    NETMAP_HW_RING = 0x4000,
    NETMAP_SW_RING = 0x2000,
    NETMAP_RING_MASK = 0x0fff,
    NETMAP_NO_TX_POLL = 0x1000,
    NETMAP_DO_RX_POLL = 0x8000,

    NETMAP_BDG_ATTACH = 1,
    NETMAP_BDG_DETACH,
    NETMAP_BDG_REGOPS,
    NETMAP_BDG_LIST,
    NETMAP_BDG_VNET_HDR,
    NETMAP_BDG_NEWIF,
    NETMAP_BDG_DELIF,
    NETMAP_PT_HOST_CREATE,
    NETMAP_PT_HOST_DELETE,
    NETMAP_BDG_POLLING_ON,
    NETMAP_BDG_POLLING_OFF,
    NETMAP_VNET_HDR_GET,
    NETMAP_BDG_HOST = 1, /* in nr_arg1 of BDG_ATTACH */
};

/* Linux' numbers of the calls. */
#define NIOCCTRL   0xc0586997u
#define NIOCTXSYNC 0x00006994u
#define NIOCRXSYNC 0x00006995u
#define NIOCGINFO  0xc03c6991u
#define NIOCREGIF  0xc03c6992u

/* ---- the control and status block of the sync-kloop, one entry per ring and direction ---- */

enum {
    NAF_FORCE_READ = 1,    /* sync_flags */
    NAF_FORCE_RECLAIM = 2, /* sync_flags */
    NAF_CAN_FORWARD_DOWN = 4,
};

/* Written by the application (guest). */
struct nm_csb_atok {
    _Atomic uint32_t head;
    _Atomic uint32_t cur;
    _Atomic uint32_t appl_need_kick;
    _Atomic uint32_t sync_flags;
    uint32_t pad[12];
};

/* Written by the kernel (host). */
struct nm_csb_ktoa {
    _Atomic uint32_t hwcur;
    _Atomic uint32_t hwtail;
    _Atomic uint32_t kern_need_kick;
    uint32_t pad[13];
};

/* ---- the header before a frame on ports that have one; virtio's, 10 or 12 bytes ---- */

enum {
    NM_VNET_HDR_F_NEEDS_CSUM = 1,
    NM_VNET_HDR_F_DATA_VALID = 2,
    NM_VNET_HDR_GSO_NONE = 0,
    NM_VNET_HDR_GSO_TCPV4 = 1,
    NM_VNET_HDR_GSO_UDP = 3,
    NM_VNET_HDR_GSO_TCPV6 = 4,
    NM_VNET_HDR_GSO_ECN = 0x80,
    NM_VNET_HDR_LEN_10 = 10,
    NM_VNET_HDR_LEN_12 = 12,
};

struct nm_vnet_hdr {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers; /* 12-byte header only */
};

#define NM_AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #field)
_Static_assert(sizeof(struct netmap_slot) == 16, "netmap_slot");
_Static_assert(sizeof(struct netmap_ring) == 256, "netmap_ring");
_Static_assert(sizeof(struct netmap_if) == 56, "netmap_if");
_Static_assert(sizeof(struct nmreq_header) == 88, "nmreq_header");
_Static_assert(sizeof(struct nmreq_option) == 24, "nmreq_option");
_Static_assert(sizeof(struct nmreq_register) == 56, "nmreq_register");
_Static_assert(sizeof(struct nmreq_port_info_get) == 32, "nmreq_port_info_get");
_Static_assert(sizeof(struct nmreq_vale_attach) == 64, "nmreq_vale_attach");
_Static_assert(sizeof(struct nmreq_vale_detach) == 8, "nmreq_vale_detach");
_Static_assert(sizeof(struct nmreq_vale_list) == 8, "nmreq_vale_list");
_Static_assert(sizeof(struct nmreq_port_hdr) == 8, "nmreq_port_hdr");
_Static_assert(sizeof(struct nmreq_vale_newif) == 16, "nmreq_vale_newif");
_Static_assert(sizeof(struct nmreq_vale_polling) == 16, "nmreq_vale_polling");
_Static_assert(sizeof(struct nmreq_pools_info) == 64, "nmreq_pools_info");
_Static_assert(sizeof(struct nmreq_sync_kloop_start) == 8, "nmreq_sync_kloop_start");
_Static_assert(sizeof(struct nmreq_opt_sync_kloop_mode) == 32, "nmreq_opt_sync_kloop_mode");
_Static_assert(sizeof(struct nmreq_opt_extmem) == 96, "nmreq_opt_extmem");
_Static_assert(sizeof(struct nmreq_opt_csb) == 40, "nmreq_opt_csb");
_Static_assert(sizeof(struct nmreq_opt_offsets) == 56, "nmreq_opt_offsets");
_Static_assert(sizeof(struct nmreq) == 60, "nmreq");
_Static_assert(sizeof(struct nm_csb_atok) == 64, "nm_csb_atok");
_Static_assert(sizeof(struct nm_csb_ktoa) == 64, "nm_csb_ktoa");
_Static_assert(sizeof(struct nm_vnet_hdr) == 12, "nm_vnet_hdr");
NM_AT(struct netmap_ring, num_slots, 8);
NM_AT(struct netmap_ring, nr_buf_size, 12);
NM_AT(struct netmap_ring, ringid, 16);
NM_AT(struct netmap_ring, head, 20);
NM_AT(struct netmap_ring, cur, 24);
NM_AT(struct netmap_ring, tail, 28);
NM_AT(struct netmap_ring, flags, 32);
NM_AT(struct netmap_ring, ts, 40);
NM_AT(struct netmap_ring, offset_mask, 56);
NM_AT(struct netmap_ring, buf_align, 64);
NM_AT(struct netmap_ring, sem, 128);
NM_AT(struct netmap_ring, slot, 256);
NM_AT(struct netmap_if, ni_bufs_head, 32);
NM_AT(struct netmap_if, ni_host_tx_rings, 36);
NM_AT(struct nmreq_header, nr_name, 8);
NM_AT(struct nmreq_header, nr_options, 72);
NM_AT(struct nmreq_register, nr_mem_id, 32);
NM_AT(struct nmreq_register, nr_mode, 36);
NM_AT(struct nmreq_register, nr_flags, 48);
NM_AT(struct nmreq_port_info_get, nr_mem_id, 24);
NM_AT(struct nmreq_pools_info, nr_if_pool_offset, 16);
NM_AT(struct nmreq_pools_info, nr_buf_pool_objsize, 60);
NM_AT(struct nmreq_opt_extmem, nro_info, 32);
NM_AT(struct nmreq_opt_offsets, nro_min_gap, 48);
NM_AT(struct nmreq, nr_flags, 52);
#undef NM_AT

#endif
