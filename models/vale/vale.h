/*
 * VALE: learning software switches between netmap ports. Follows netmap_vale.c, netmap_bdg.c and
 * netmap_offloadings.c at API 14. Ports are netmap adapters (models/netmap/nm_kern.h); programs
 * reach them by names "valeX:port" through nm_ctrl.
 */
#ifndef RINGLAB_VALE_H
#define RINGLAB_VALE_H

#include "models/netmap/nm_kern.h"

enum {
    VALE_MAX_PORTS = 254,
    VALE_PORT_BROADCAST = 254,
    VALE_PORT_DROP = 255,
    VALE_HASH_BITS = 10,
    VALE_MAX_RINGS = 16,
    VALE_SLOT_BROADCAST = 255, /* in the high byte of a slot's flags */
    VALE_MAX_SLOTS = 4096,
    VALE_DEFAULT_SLOTS = 1024,
    VALE_DEFAULT_MFS = 1514, /* bytes: largest frame made by segmentation */
};

struct vale_switches *vale_switches_new(struct nm_host *host);
void vale_switches_free(struct vale_switches *switches);

/* Requests of nm_ctrl, with host->lock held and copied-in bodies; 0 or errno (netmap.md 9). */
int vale_attach(struct nm_host *, struct nmreq_header *, struct nmreq_vale_attach *);
int vale_detach(struct nm_host *, struct nmreq_header *, struct nmreq_vale_detach *);
int vale_list(struct nm_host *, struct nmreq_header *, struct nmreq_vale_list *);
int vale_newif(struct nm_host *, struct nmreq_header *, struct nmreq_vale_newif *);
int vale_delif(struct nm_host *, struct nmreq_header *);
int vale_polling(struct nm_host *, struct nmreq_header *, struct nmreq_vale_polling *, bool enable);

/* Chooses where a frame goes. `frame` is its first fragment behind the vnet header, `len` >= 14
 * bytes of it (of an indirect one at most 256); returns a port index, VALE_PORT_BROADCAST or
 * VALE_PORT_DROP; *ring (in: the source's ring) may be changed. Nothing is learnt. Any thread,
 * several at once; it must not call anything of netmap or VALE. */
typedef unsigned (*vale_lookup_fn)(void *data, const uint8_t *frame, size_t len, unsigned src_port,
                                   uint8_t *ring);
/* Replaces the learning lookup of switch "valeX:"; NULL restores it. 0 or errno (ENXIO). */
int vale_set_lookup(struct nm_host *host, const char *switch_name, vale_lookup_fn lookup,
                    void *data);

/* Switches begin with netmap's ways, and are gone with their last port and all that was set. */
/* When a destination is full: drop what does not fit (netmap's way, the default), or keep the
 * source waiting (the frames stay in its ring until there is room everywhere). */
enum vale_full_policy { VALE_FULL_DROP, VALE_FULL_WAIT };
int vale_set_full_policy(struct nm_host *host, const char *switch_name,
                         enum vale_full_policy policy);

/* Whether slots of transmit rings name their destination: netmap's header describes it
 * (NS_PORT_MASK), its switch does not look. With it, the high byte of the flags of a packet's first
 * slot counts: 0 looks up as always; 1..254 is port index + 1 (LIST, ATTACH); VALE_SLOT_BROADCAST
 * (255) is every port but the sender's. The source is learnt as always, a lookup of one's own is
 * not asked. A port that is not there, or the sender's, drops the packet. Off by default. */
int vale_set_slot_destination(struct nm_host *host, const char *switch_name, bool is_used);

/* Frames and bytes with vnet headers, as they lie in slots. */
struct vale_port_stats {
    uint64_t rx_frames, rx_bytes; /* into the switch: sent by the port's user */
    uint64_t tx_frames, tx_bytes; /* out of the switch, into the port's rx rings */
    uint64_t dropped_full;        /* for this destination: no room */
    uint64_t dropped_bad;         /* from this source: too short, no header, unknown port ... */
    uint64_t dropped_no_destination;
};
/* Of "valeX:port"; ENXIO. */
int vale_port_stats(struct nm_host *host, const char *port_name, struct vale_port_stats *stats);

#endif
