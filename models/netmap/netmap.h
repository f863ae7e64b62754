/*
 * netmap in user space: what /dev/netmap is to a program, as a library. One struct nm_host stands
 * for one kernel with its allocators, ports and switches; any number of open files, from any
 * threads. Structures, request numbers, port names and errno values are those of netmap's API
 * version 14 (models/abi/netmap.h); addresses in requests are addresses of this process. Not here:
 * the switch (models/vale/), the sync-kloop (models/ptnet/kloop.h), wires (models/backend/).
 */
#ifndef RINGLAB_NETMAP_H
#define RINGLAB_NETMAP_H

#include "models/abi/netmap.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NM_ERROR (nm_error_quark())
GQuark nm_error_quark(void); /* codes: errno values */

struct backend;

struct nm_host;
struct nm_file;

/* What sysctl dev.netmap.* and module parameters set; 0 anywhere means netmap's default. */
struct nm_host_options {
    const char *name;         /* in messages; NULL: "netmap" */
    const char *memory_dir;   /* where regions lie: a folder (hugetlbfs ...); NULL: memfd */
    bool hugepages;           /* memfd with huge pages where there are any, else ordinary ones */
    uint32_t if_size, if_num; /* global allocator: bytes and number of objects */
    uint32_t ring_size, ring_num; /* defaults of the user-space model: 1024 x 100, 36864 x 200, */
    uint32_t buf_size, buf_num;   /* 2048 x 16384 (the kernel's 163840 need 320 MiB) */
    uint32_t max_bridges;         /* 8 */
    uint32_t bridge_batch;        /* 1024 slots */
    uint32_t txsync_retry;        /* 2 */
    uint32_t generic_ringsize;    /* 1024 */
    uint32_t generic_rings;       /* 1 */
    bool fwd;                     /* forward between NIC and host rings without NR_FORWARD */
    bool no_timestamp;
    int admode; /* 0 best, 1 native only, 2 emulated only */
};

/* One line about something a user of a port did wrong, or a port did to itself: a bad ring, a
 * leaked buffer. Called from any thread. */
typedef void (*nm_log_fn)(void *data, const char *line);

struct nm_host *nm_host_new(const struct nm_host_options *options, GError **error);
/* Files still open are closed as if their process had died. No other thread may be inside. */
void nm_host_free(struct nm_host *host);
void nm_host_set_log(struct nm_host *host, nm_log_fn log, void *data);

/* ---- system interfaces of the model: what `ip link` would show ---- */

struct nm_nic_options {
    const char *name;            /* 1..15 characters; not "val...", without { } : ^ @ / * - space */
    uint16_t tx_rings, rx_rings; /* 1..64; 0 means 1, emulated generic_rings */
    uint32_t tx_slots, rx_slots; /* 2..4096; 0 means 1024, emulated generic_ringsize */
    uint32_t mtu;                /* 68..65535; 0 means 1500 */
    uint8_t mac[6];              /* all zero: a locally administered one is made from the name */
    bool is_emulated;            /* no native support: the generic adapter */
    /* Both are owned from now, also on failure. */
    struct backend *wire;  /* frames come from and go there; NULL: unplugged */
    struct backend *stack; /* the host stack's side: a TAP in the real kernel; NULL: none */
};
/* A NIC-like interface, with a thread that stands for its interrupts. Of several rx rings a frame
 * goes to one that its IP addresses and ports choose, the same for both directions of a flow, and
 * frames of other protocols to the first. Frames longer than a buffer take several slots; a frame
 * that has no room in its ring's queue is dropped, but a single ring keeps its wire waiting.
 * What belongs to rings that are not in netmap mode goes between wire and stack as a driver would
 * carry it; without a stack it stays on the wire. EEXIST, EINVAL, or a system call's errno. */
bool nm_nic_new(struct nm_host *host, const struct nm_nic_options *options, GError **error);
/* The driver goes away: open files get ENXIO and POLLERR from then on. ENXIO. */
bool nm_nic_remove(struct nm_host *host, const char *name, GError **error);

struct nm_nic_side_stats {
    uint64_t sent, received;         /* frames, by the back end */
    uint64_t dropped_tx, dropped_rx; /* bad slots, no ring, no room; or by the back end */
};
struct nm_nic_info {
    uint8_t mac[6];
    uint32_t mtu;
    struct nm_nic_side_stats wire, stack;
};
/* False: no NIC of that name. */
bool nm_nic_info(struct nm_host *host, const char *name, struct nm_nic_info *info);

/* ---- the device file; functions return 0 or a positive errno ---- */

/* NULL with errno: no descriptor was left for its eventfd. */
struct nm_file *nm_open(struct nm_host *host);
/* As close(2): rings are given up, what the file had alone is freed, a sync-kloop is stopped. */
void nm_close(struct nm_file *file);
/* NIOCCTRL. The header's nr_body and nr_options are addresses of this process; memory that is not
 * there is EFAULT, not a crash. */
int nm_ctrl(struct nm_file *file, struct nmreq_header *header);
/* NIOCGINFO and NIOCREGIF with the old request (netmap.md 2.6); any other number EOPNOTSUPP. On an
 * error nothing is written back. */
int nm_legacy(struct nm_file *file, uint32_t cmd, struct nmreq *request);
/* NIOCTXSYNC, NIOCRXSYNC. */
int nm_txsync(struct nm_file *file);
int nm_rxsync(struct nm_file *file);
/* poll(2) with a timeout of 0: POLLIN, POLLOUT, POLLERR of what was asked for in `events`; syncs as
 * netmap's poll does. What is not ready is armed: the descriptor of nm_poll_fd becomes readable
 * when it is worth asking again. */
short nm_poll(struct nm_file *file, short events);
/* An eventfd, owned by the file. Readable once after something that was armed happened; nm_poll
 * empties it. */
int nm_poll_fd(struct nm_file *file);

/* ---- memory: what mmap(2) on the device file would give ---- */

/* -1 with EINVAL before registration. The descriptor belongs to the allocator and stays valid while
 * the file is open; -1 for memory that a user handed in. */
int nm_memory_fd(struct nm_file *file);
uint64_t nm_memory_size(struct nm_file *file); /* bytes; 0 before registration */
void *nm_memory(struct nm_file *file);         /* where this process sees it, or NULL */
/* The netmap_if of the registration, or NULL. */
struct netmap_if *nm_file_if(struct nm_file *file);

/* ---- libnetmap's way: open a port by its name, grammar of nmport_open ---- */

/* Of option extmem: the file, mapped. */
struct nm_port_memory {
    void *base; /* NULL: the option was not given */
    uint64_t size;
};

struct nm_port {
    struct nm_host *host;
    struct nm_file *file;
    struct nmreq_header header;
    struct nmreq_register reg; /* as answered */
    struct netmap_if *nifp;
    /* The bound rings, with host rings behind the others; last < first (modulo 2^16): none. */
    uint16_t first_tx_ring, last_tx_ring, first_rx_ring, last_rx_ring;
    struct nm_port_memory memory;
};
/* Fills header and request (nr_body is `reg`) from e.g. "netmap:em0-2/x", "vale0:a{1",
 * "vale0:b@3@conf:slots=256" (netmap.md 4.2). EINVAL with what is wrong, also for option extmem,
 * which only nm_port_open can do; EOPNOTSUPP for option offset; option share asks `host` for the
 * other port, and gives its errno. */
bool nm_parse_port(struct nm_host *host, const char *name, struct nmreq_header *header,
                   struct nmreq_register *reg, GError **error);
/* Parses, opens and registers; extra flags (NR_ACCEPT_VNET_HDR ...) are or-ed in. Option extmem
 * maps its file; the mapping goes with the port, or with the host if others use the memory then. */
struct nm_port *nm_port_open(struct nm_host *host, const char *name, uint64_t nr_flags,
                             GError **error);
void nm_port_close(struct nm_port *port);

static inline struct netmap_ring *nm_txring(const struct netmap_if *nifp, unsigned i)
{
    return (struct netmap_ring *)(void *)((char *)(uintptr_t)nifp + nifp->ring_ofs[i]);
}

static inline struct netmap_ring *nm_rxring(const struct netmap_if *nifp, unsigned i)
{
    return nm_txring(nifp, i + nifp->ni_tx_rings + nifp->ni_host_tx_rings);
}

static inline char *nm_buf(const struct netmap_ring *ring, uint32_t index)
{
    return (char *)(uintptr_t)ring + ring->buf_ofs + (uint64_t)index * ring->nr_buf_size;
}

static inline uint32_t nm_ring_next(const struct netmap_ring *ring, uint32_t i)
{
    return i + 1 == ring->num_slots ? 0 : i + 1;
}

/* Slots between head and tail: what the application may use. */
static inline uint32_t nm_ring_space(const struct netmap_ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

    return tail >= head ? tail - head : tail + ring->num_slots - head;
}

#endif
