/*
 * VALE's inside: the learning table, switches and their ports, what a sending ring keeps while it
 * forwards, receive queues that several senders fill. Shared by the files of models/vale/ and their
 * tests; nobody else includes it.
 *
 * Locks: host->lock (control requests) > switches->lock (the layout: which port is where, who is in
 * netmap mode; writers only) > a sender's `inside` (readers: no shared word is written) > a receive
 * queue's lease_lock.
 */
#ifndef RINGLAB_VALE_PRIVATE_H
#define RINGLAB_VALE_PRIVATE_H

#include "models/vale/vale.h"

#include <string.h>

enum {
    VALE_CHUNK = 256, /* slots looked up before they are copied: they stay in the cache meanwhile */
    VALE_MAC_LEN = 6,
    VALE_ETHER_LEN = 14,
    VALE_PEEK = 256, /* bytes of an indirect fragment that a lookup sees */
};

/* ---- the learning table (vale_lookup.c) ---- */

enum { VALE_TABLE_SIZE = 1 << VALE_HASH_BITS };

/* An entry is the address (48 bits, first byte lowest) with the port's index + 1 above it; 0:
 * empty. One word, so that threads that learn and look up need no lock. */
struct vale_table {
    _Atomic uint64_t entries[VALE_TABLE_SIZE];
};

#define VALE_MAC_MASK UINT64_C(0xffffffffffff)

static inline uint64_t vale_load64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}
/* Addresses of a frame of at least 14 bytes, first byte lowest. */
static inline uint64_t vale_frame_destination(const uint8_t *frame)
{
    return vale_load64(frame) & VALE_MAC_MASK;
}
static inline uint64_t vale_frame_source(const uint8_t *frame)
{
    return vale_load64(frame + 4) >> 16;
}
static inline bool vale_mac_is_group(uint64_t mac)
{
    return mac & 1;
}

/* Bucket of an address: 0..VALE_TABLE_SIZE - 1 (netmap.md 9.3, 3). */
unsigned vale_hash(uint64_t mac);
void vale_learn(struct vale_table *table, uint64_t mac, unsigned port);
/* A port's index, or VALE_PORT_BROADCAST: unknown, or a group address. */
unsigned vale_find(const struct vale_table *table, uint64_t mac);

/* ---- switches and ports (vale_switch.c, vale_port.c) ---- */

struct vale_port;

struct vale_switch {
    char name[NETMAP_IFNAMSIZ + 1]; /* "vale0:" */
    struct vale_port *ports[VALE_MAX_PORTS];
    uint8_t active[VALE_MAX_PORTS]; /* all indices: first those in use, then the next to be used */
    unsigned n_active;
    vale_lookup_fn lookup; /* NULL: learning */
    void *lookup_data;
    enum vale_full_policy policy;
    bool has_slot_destination;
    struct vale_table table;
};

struct vale_counters {
    _Atomic uint64_t rx_frames, rx_bytes, dropped_bad, dropped_no_destination;
    char apart[32]; /* those above are written by the sender, those below by other ports */
    _Atomic uint64_t tx_frames, tx_bytes, dropped_full;
};

static inline void vale_count(_Atomic uint64_t *counter, uint64_t n)
{
    if (n > 0) {
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
    }
}

struct vale_port {
    struct nm_adapter na;           /* first: a port is an adapter */
    struct vale_switch *sw;         /* NULL: on none */
    char name[NETMAP_REQ_IFNAMSIZ]; /* on the switch: "vale0:a" */
    unsigned index;                 /* in the switch */
    bool is_on;                     /* in netmap mode; the switch reaches its krings */
    bool is_wrapper;                /* its rings are those of a NIC (struct vale_wrapped) */
    bool is_persistent;             /* an interface, made by NEWIF */
    uint32_t mfs;                   /* bytes of the largest frame made for it */
    _Atomic uint64_t last_source;   /* learnt last */
    struct vale_counters counters;
};

/* ---- the gate: many forward at once; the layout changes when nobody does ---- */

struct vale_gate {
    pthread_mutex_t lock; /* of the one who changes the layout */
    _Atomic bool is_closed;
    GPtrArray *passers; /* struct vale_passer, of all rings that may be inside */
};

/* A ring's own mark: whoever passes writes nothing that others write. */
struct vale_passer {
    _Alignas(64) _Atomic unsigned is_inside;
    bool is_nested;          /* within another pass of the same thread */
    struct vale_gate *outer; /* what this thread was in before */
    char apart[40];
};

void vale_gate_init(struct vale_gate *gate);
void vale_gate_clear(struct vale_gate *gate);
/* After this the layout stays as it is until vale_gate_leave. Within another ring's pass it is only
 * counted (a forwarded frame that is forwarded again by the next switch). */
void vale_gate_enter(struct vale_gate *gate, struct vale_passer *passer);
void vale_gate_leave(struct vale_passer *passer);
/* Waits until nobody is inside; the caller may change the layout until vale_gate_open. */
void vale_gate_close(struct vale_gate *gate);
void vale_gate_open(struct vale_gate *gate);
/* The gate is closed by the caller. */
void vale_gate_add(struct vale_gate *gate, struct vale_passer *passer);
void vale_gate_remove(struct vale_gate *gate, struct vale_passer *passer);

struct vale_switches {
    struct nm_host *host;
    struct vale_gate gate;
    struct vale_switch **slots; /* by the index that LIST shows; NULL: free */
    unsigned n_slots;
};

/* A name "valeX:port" (netmap.md 4.4). */
enum vale_name { VALE_NAME_OTHER, VALE_NAME_BAD, VALE_NAME_GOOD };
/* *len: bytes of the switch's part, with the colon. */
enum vale_name vale_name_parse(const char *name, size_t *len);

/* The functions on switches are called with host->lock held. */
/* The switch that a port's name begins with; with `create` it is made. NULL: bad name, none of that
 * name, or no free one. An empty one goes with vale_switch_drop_if_empty. */
struct vale_switch *vale_switch_find(struct vale_switches *switches, const char *name, bool create);
void vale_switch_drop_if_empty(struct vale_switches *switches, struct vale_switch *sw);
unsigned vale_switch_index(const struct vale_switches *switches, const struct vale_switch *sw);
/* The port of this name, or NULL. */
struct vale_port *vale_switch_port(const struct vale_switch *sw, const char *name);
/* Puts a port on a switch that has room, under `name`; takes it off, and the switch with the last
 * one. */
void vale_switch_add(struct vale_switches *switches, struct vale_switch *sw, struct vale_port *port,
                     const char *name);
void vale_switch_remove(struct vale_switches *switches, struct vale_port *port);

/* The rings of a port: what senders and receivers keep beside them (vale_rings.c). */
int vale_rings_init(struct vale_port *port);
void vale_rings_clear(struct vale_port *port);
/* Senders see the port's rings from now on, or no more. */
void vale_port_set_on(struct vale_port *port, bool is_on);
/* kring->sync of VALE rings. */
int vale_txsync(struct nm_kring *kring, int flags);
int vale_rxsync(struct nm_kring *kring, int flags);
/* Room was made in a receive ring: tells senders that wait for it. */
void vale_wake_waiting(struct nm_kring *kring);
/* Tells all senders of a switch. The gate is closed by the caller, or host->lock held. */
void vale_wake_all(struct vale_switch *sw);

bool vale_is_vale_port(const struct nm_adapter *na);

/* NICs, and persistent ports of another switch, on a switch (vale_wrap.c). host->lock held. */
struct vale_wrapper;
/* With `has_host` the host rings too, as port "NAME^". 0 or errno. */
int vale_wrap(struct vale_switches *switches, struct vale_switch *sw, const char *name,
              struct nm_adapter *hw, bool has_host, struct vale_port **port);
/* Both ports go. */
void vale_unwrap(struct vale_switches *switches, struct vale_port *port);
bool vale_wrap_is_polled(const struct vale_port *port);
/* The port is a wrapper. 0, EINVAL, EFAULT. */
int vale_wrap_poll(struct vale_port *port, const struct nmreq_vale_polling *request);
int vale_wrap_unpoll(struct vale_port *port);

/* ---- frames on their way (vale_forward.c, vale_copy.c, vale_offload.c) ---- */

enum { VALE_FRAG_EXACT = 0x8000 }; /* in flags: nothing may be read behind len */

/* A slot of a sender, checked. */
struct vale_frag {
    const uint8_t *data; /* indirect: an address of the application, not to be trusted */
    uint16_t len;        /* bytes */
    uint16_t flags;      /* NS_INDIRECT, NS_MOREFRAG, VALE_FRAG_ */
    uint16_t next;       /* first fragment of the next packet to the same place; VALE_NO_FRAG */
    uint8_t frags;       /* in the first one of a packet: 1..NETMAP_MAX_FRAGS */
    uint8_t pad;
};
enum { VALE_NO_FRAG = 0xffff };

/* Copies `len` bytes from `offset` of a fragment. False: the application's memory is not there. */
bool vale_frag_read(const struct vale_frag *frag, uint32_t offset, void *to, uint32_t len);

/* Where converted frames are put: slot after slot. */
struct vale_sink {
    /* The next slot's buffer and its size; NULL: no slot left. */
    uint8_t *(*next)(struct vale_sink *sink, uint32_t *room);
    /* The slot of the last `next` holds `len` bytes, and the packet goes on in another one. */
    void (*done)(struct vale_sink *sink, uint32_t len, bool has_more);
    void *data;
    bool is_segmented; /* set by vale_convert: the slots are frames of their own */
};

struct vale_conversion {
    unsigned src_hdr, dst_hdr; /* bytes: 0, 10, 12; not equal */
    uint32_t dst_mfs;          /* bytes of the largest frame to be made by segmentation */
};
/* Converts one packet of `n` fragments (netmap.md 9.4): a header is made, changed, or taken off and
 * what it asked for is done. False: the packet is to be dropped, what is in the sink is worth
 * nothing. */
bool vale_convert(const struct vale_conversion *how, const struct vale_frag *frags, unsigned n,
                  struct vale_sink *sink);
/* Slots of `room` bytes that a packet may become at most. */
uint32_t vale_convert_slots(const struct vale_conversion *how, const struct vale_frag *frags,
                            unsigned n, uint32_t room);

/* Frames of a chunk to one receive ring. */
struct vale_list {
    uint16_t head, tail; /* VALE_NO_FRAG: empty */
    uint16_t packets, slots;
};

enum {
    VALE_LISTS = VALE_MAX_PORTS * VALE_MAX_RINGS,
    VALE_LIST_BROADCAST = VALE_LISTS,
    VALE_LIST_BAD,     /* no list: it is no frame */
    VALE_LIST_NOWHERE, /* no list: there is no such destination */
};

/* What a sending ring needs to forward; kring->port_data. */
struct vale_sender {
    struct vale_passer passer;
    struct vale_gate *gate;
    struct vale_port *port;
    bool is_plain; /* nothing but learning decides, and frames begin where slots do */
    unsigned n_touched, n_to_wake;
    struct vale_frag frags[VALE_CHUNK + NETMAP_MAX_FRAGS];
    struct vale_list lists[VALE_LISTS + 1];
    uint16_t touched[VALE_CHUNK + NETMAP_MAX_FRAGS]; /* lists that are not empty */
    uint16_t to_wake[VALE_LISTS];                    /* rings that got something */
    bool is_to_wake[VALE_LISTS];
    uint8_t peek[VALE_PEEK];
};

struct vale_sender *vale_sender_new(struct vale_gate *gate, struct vale_port *port);
void vale_sender_free(struct vale_sender *sender);
/* Forwards the slots from hwcur up to rhead. Returns the first that was not taken: rhead, unless
 * the switch keeps senders waiting. The gate is passed. */
uint32_t vale_forward(struct nm_kring *kring, struct vale_switch *sw);

/* Who waits for room in a receive ring; kring->port_data. */
struct vale_receiver {
    struct vale_passer passer;
    struct vale_gate *gate;
    struct vale_port *port;
    _Atomic uint64_t waiting[(VALE_MAX_PORTS + 63) / 64]; /* bits: ports whose frames do not fit */
    _Atomic bool has_work; /* a wrapped NIC's transmit ring: frames it was not told of */
};

static inline bool vale_has_waiting(const struct vale_receiver *receiver)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(receiver->waiting); i++) {
        bits |= atomic_load(&receiver->waiting[i]);
    }
    return bits != 0;
}

/* ---- receive queues (vale_queue.c) ---- */

void vale_queue_init(struct nm_kring *kring);
void vale_queue_clear(struct nm_kring *kring);
/* Reserves up to `n` slots from *first on; how many. Any thread. */
uint32_t vale_queue_reserve(struct nm_kring *kring, uint32_t n, uint32_t *first);
/* The first `used` of `reserved` slots from `first` on are filled; the others are given back, or
 * become empty ones. hwtail moves when all earlier reservations are done. */
void vale_queue_publish(struct nm_kring *kring, uint32_t first, uint32_t reserved, uint32_t used);
/* Free slots. */
uint32_t vale_queue_room(struct nm_kring *kring);
/* The receiver has released all slots before `head`. */
static inline void vale_queue_release(struct nm_kring *kring, uint32_t head)
{
    __atomic_store_n(&kring->hwcur, head, __ATOMIC_SEQ_CST); /* before a look at who waits */
}

#endif
