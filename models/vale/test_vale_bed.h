/*
 * A switch for unit tests: ports with one or two rings of a few slots in ordinary memory, without
 * files, requests or allocators.
 */
#ifndef RINGLAB_TEST_VALE_BED_H
#define RINGLAB_TEST_VALE_BED_H

#include "models/vale/vale_deliver_private.h"

enum { BED_PORTS = 4, BED_RINGS = 2, BED_SLOTS = 16, BED_BUFFER = 2048 };

struct bed_port {
    struct vale_port port;
    uint8_t *buffers;
    unsigned n_woken; /* receive rings notified */
};

struct bed {
    struct nm_host host;
    struct vale_gate gate;
    struct vale_switch sw;
    struct bed_port ports[BED_PORTS];
};

static inline void bed_notify(struct nm_kring *kring, int flags)
{
    (void)flags;
    ((struct bed_port *)(void *)kring->na)->n_woken++;
}

static inline void bed_kring_init(struct bed *bed, struct bed_port *p, enum nm_txrx t, unsigned i,
                                  uint32_t n_slots)
{
    struct nm_kring *kring = &p->port.na.krings[t][i];
    struct netmap_ring *ring = g_malloc0(sizeof(*ring) + n_slots * sizeof(struct netmap_slot));
    uint32_t first_buffer = 2 + (t * BED_RINGS + i) * n_slots;

    ring->num_slots = n_slots;
    for (uint32_t k = 0; k < n_slots; k++) {
        ring->slot[k].buf_idx = first_buffer + k;
    }
    *kring = (struct nm_kring){
        .ring = ring,
        .num_slots = n_slots,
        .buf_total = 2 + 2 * BED_RINGS * n_slots,
        .buf_size = BED_BUFFER,
        .buf_base = p->buffers,
        .na = &p->port.na,
        .ring_id = (uint16_t)i,
        .is_on = true,
        .notify = bed_notify,
    };
    if (t == NM_TX) {
        kring->port_data = vale_sender_new(&bed->gate, &p->port);
        kring->hwtail = n_slots - 1;
    } else {
        struct vale_receiver *receiver =
            g_aligned_alloc0(1, sizeof(*receiver), _Alignof(struct vale_receiver));
        receiver->port = &p->port;
        kring->port_data = receiver;
        pthread_spin_init(&kring->lease_lock, PTHREAD_PROCESS_PRIVATE);
        vale_queue_init(kring);
    }
}

/* Ports 0..BED_PORTS-1, all in netmap mode. */
static inline struct bed *bed_new(uint32_t n_slots)
{
    struct bed *bed = g_new0(struct bed, 1);

    bed->host.options.txsync_retry = 2;
    vale_gate_init(&bed->gate);
    for (unsigned i = 0; i < BED_PORTS; i++) {
        struct bed_port *p = &bed->ports[i];
        p->buffers = g_aligned_alloc0(2 + 2 * BED_RINGS * n_slots, BED_BUFFER, 64);
        p->port.index = i;
        p->port.is_on = true;
        p->port.sw = &bed->sw;
        p->port.mfs = VALE_DEFAULT_MFS;
        p->port.na.host = &bed->host;
        bed->sw.ports[i] = &p->port;
        bed->sw.active[bed->sw.n_active++] = (uint8_t)i;
        for (unsigned t = 0; t < NM_N_TXRX; t++) {
            p->port.na.n_rings[t] = BED_RINGS;
            p->port.na.krings[t] =
                g_aligned_alloc0(BED_RINGS, sizeof(struct nm_kring), _Alignof(struct nm_kring));
            for (unsigned k = 0; k < BED_RINGS; k++) {
                bed_kring_init(bed, p, t, k, n_slots);
            }
        }
    }
    return bed;
}

static inline void bed_free(struct bed *bed)
{
    for (unsigned i = 0; i < BED_PORTS; i++) {
        struct bed_port *p = &bed->ports[i];
        for (unsigned k = 0; k < BED_RINGS; k++) {
            vale_sender_free(p->port.na.krings[NM_TX][k].port_data);
            g_aligned_free(p->port.na.krings[NM_RX][k].port_data);
            vale_queue_clear(&p->port.na.krings[NM_RX][k]);
            pthread_spin_destroy(&p->port.na.krings[NM_RX][k].lease_lock);
            g_free(p->port.na.krings[NM_TX][k].ring);
            g_free(p->port.na.krings[NM_RX][k].ring);
        }
        g_aligned_free(p->port.na.krings[NM_TX]);
        g_aligned_free(p->port.na.krings[NM_RX]);
        g_aligned_free(p->buffers);
    }
    vale_gate_clear(&bed->gate);
    g_free(bed);
}

static inline struct nm_kring *bed_tx(struct bed *bed, unsigned port)
{
    return &bed->ports[port].port.na.krings[NM_TX][0];
}

static inline struct nm_kring *bed_rx(struct bed *bed, unsigned port)
{
    return &bed->ports[port].port.na.krings[NM_RX][0];
}

static inline uint8_t *bed_buffer(const struct nm_kring *kring, uint32_t slot)
{
    return kring->buf_base + (size_t)kring->ring->slot[slot].buf_idx * kring->buf_size;
}

static inline struct netmap_slot *bed_slot(const struct nm_kring *kring, uint32_t slot)
{
    return &kring->ring->slot[slot];
}

/* Addresses 02:00:00:00:00:XX. */
static inline void bed_mac(uint8_t *to, unsigned host)
{
    memset(to, 0, VALE_MAC_LEN);
    to[0] = host == 0xff ? 0xff : 2;
    to[5] = (uint8_t)host;
}

/* Queues a frame of `len` bytes, the last byte 'mark'; dst 0xff is a group address. */
static inline void bed_queue(struct nm_kring *kring, unsigned dst, unsigned src, uint32_t len,
                             uint8_t mark)
{
    uint8_t *frame = bed_buffer(kring, kring->rhead);

    memset(frame, 0, len);
    bed_mac(frame, dst);
    bed_mac(frame + VALE_MAC_LEN, src);
    frame[len - 1] = mark;
    bed_slot(kring, kring->rhead)->len = (uint16_t)len;
    bed_slot(kring, kring->rhead)->flags = 0;
    kring->rhead = nm_next(kring->rhead, kring->num_slots);
}

/* Forwards what is queued; returns how many slots were taken. */
static inline uint32_t bed_forward(struct bed *bed, struct nm_kring *kring)
{
    uint32_t end = vale_forward(kring, &bed->sw), n = nm_dist(kring->hwcur, end, kring->num_slots);

    kring->hwcur = end;
    return n;
}

static inline void bed_send(struct bed *bed, unsigned port, unsigned dst, unsigned src,
                            uint8_t mark)
{
    bed_queue(bed_tx(bed, port), dst, src, 60, mark);
    bed_forward(bed, bed_tx(bed, port));
}

/* Frames in a receive ring. */
static inline uint32_t bed_waiting(const struct nm_kring *kring)
{
    return nm_dist(kring->hwcur, kring->hwtail, kring->num_slots);
}

#endif
