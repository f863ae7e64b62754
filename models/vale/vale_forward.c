/*
 * A sender's slots through the switch (netmap.md 9.3): chunk by chunk, slots are checked and looked
 * up, which puts each packet on the list of its destination; then each destination gets its list.
 * What a chunk costs depends on the destinations in it, not on the ports of the switch, unless
 * something is flooded. Not here: how a list gets into a ring (vale_deliver.c).
 */
#include "models/vale/vale_deliver_private.h"

struct vale_sender *vale_sender_new(struct vale_gate *gate, struct vale_port *port)
{
    struct vale_sender *sender = g_aligned_alloc0(1, sizeof(*sender), _Alignof(struct vale_sender));

    sender->gate = gate;
    sender->port = port;
    for (unsigned i = 0; i < G_N_ELEMENTS(sender->lists); i++) {
        sender->lists[i].head = VALE_NO_FRAG;
    }
    return sender;
}

void vale_sender_free(struct vale_sender *sender)
{
    g_aligned_free(sender);
}

/* What became of a chunk's packets. */
struct vale_sent {
    uint64_t packets, bytes, bad, nowhere;
};

/* ---- a chunk of slots ---- */

struct chunk {
    uint32_t first, end; /* slots of the ring; fragment i is slot first + i */
    unsigned n;          /* fragments; the last packet is whole */
    bool is_cut;         /* ends within a packet of too many fragments */
};

/* What a slot points to. One that is too long or points nowhere counts as an empty one. */
static inline void frag_take(struct vale_frag *frag, const struct nm_kring *kring,
                             const struct netmap_slot *from)
{
    union nm_slot_word slot = nm_slot_load(from);
    uint32_t offset = 0, size = kring->buf_size;

    frag->len = slot.len;
    frag->flags = slot.flags;
    if (G_UNLIKELY(kring->offset_mask != 0 || (slot.flags & NS_INDIRECT))) {
        uint64_t ptr = __atomic_load_n(&from->ptr, __ATOMIC_RELAXED);
        if (slot.flags & NS_INDIRECT) {
            frag->data = (const uint8_t *)(uintptr_t)ptr;
            if (ptr == 0 || (kring->flags & NKR_NO_INDIRECT)) {
                frag->data = kring->buf_base;
                frag->len = 0;
                frag->flags &= NS_MOREFRAG;
            }
            return;
        }
        offset = (uint32_t)MIN(ptr & kring->offset_mask, kring->offset_max);
    }
    frag->data = kring->buf_base + (uint64_t)slot.buf_idx * size + offset;
    if (G_UNLIKELY(slot.buf_idx >= kring->buf_total || slot.len > size - offset)) {
        frag->data = kring->buf_base;
        frag->len = 0;
    } else if (G_UNLIKELY(offset != 0)) {
        frag->flags |= VALE_FRAG_EXACT;
    }
    __builtin_prefetch(frag->data);
}

static void chunk_take(struct vale_sender *sender, const struct nm_kring *kring, uint32_t at,
                       struct chunk *chunk)
{
    const struct netmap_slot *slots = kring->ring->slot;
    const uint32_t n_slots = kring->num_slots, head = kring->rhead;
    unsigned n = 0, packet = 0;

    chunk->first = at;
    chunk->is_cut = false;
    while (at != head && (packet != n || n < VALE_CHUNK)) {
        struct vale_frag *frag = &sender->frags[n++];
        frag_take(frag, kring, &slots[at]);
        at = nm_next(at, n_slots);
        if (G_LIKELY(!(frag->flags & NS_MOREFRAG))) {
            sender->frags[packet].frags = (uint8_t)(n - packet);
            packet = n;
        } else if (n - packet == NETMAP_MAX_FRAGS) {
            chunk->is_cut = true;
            n = packet;
            break;
        }
    }
    if (packet != n) { /* the application left off in the middle: what is there is sent */
        sender->frags[packet].frags = (uint8_t)(n - packet);
    }
    chunk->n = n;
    chunk->end = at;
}

/* Drops a packet of too many fragments, of which chunk->end is somewhere in the middle. */
static void chunk_skip(struct vale_sender *sender, const struct nm_kring *kring,
                       struct chunk *chunk)
{
    bool has_more = true;

    while (has_more && chunk->end != kring->rhead) {
        has_more = nm_slot_load(&kring->ring->slot[chunk->end]).flags & NS_MOREFRAG;
        chunk->end = nm_next(chunk->end, kring->num_slots);
    }
    vale_count(&sender->port->counters.dropped_bad, 1);
}

/* ---- looking up ---- */

/* What was found for the packet before, as long as nothing was learnt since. */
struct last_found {
    uint64_t mac; /* UINT64_MAX: nothing */
    unsigned list;
};

/* Bytes of the frame behind its vnet header, in one piece; NULL: not a frame. */
static const uint8_t *frame_begin(struct vale_sender *sender, const struct vale_frag *frags,
                                  uint32_t *len)
{
    unsigned header = sender->port->na.virt_hdr_len;
    const struct vale_frag *frag = &frags[0];

    if (frag->len == header && frags[0].frags > 1) {
        frag = &frags[1];
        header = 0;
    } else if (frag->len < header) {
        return NULL;
    }
    *len = frag->len - header;
    if (!(frag->flags & NS_INDIRECT)) {
        return frag->data + header;
    }
    *len = MIN(*len, (uint32_t)VALE_PEEK);
    return vale_frag_read(frag, header, sender->peek, *len) ? sender->peek : NULL;
}

static unsigned list_of(const struct vale_sender *sender, const struct vale_switch *sw,
                        unsigned port, unsigned ring)
{
    if (port == VALE_PORT_BROADCAST) {
        return VALE_LIST_BROADCAST;
    }
    if (port >= VALE_MAX_PORTS || !sw->ports[port] || sw->ports[port] == sender->port) {
        return VALE_LIST_NOWHERE;
    }
    unsigned n_rings = sw->ports[port]->na.n_rings[NM_RX];
    return port * VALE_MAX_RINGS + (ring < n_rings ? ring : ring % n_rings);
}

/* netmap.md 9.3, 3: what is learnt is what differs from the port's last source. */
static inline void learn(struct vale_sender *sender, struct vale_switch *sw, const uint8_t *frame,
                         unsigned slot_flags, struct last_found *last)
{
    uint64_t source = vale_frame_source(frame);
    _Atomic uint64_t *known = &sender->port->last_source;

    if (G_LIKELY(source == atomic_load_explicit(known, memory_order_relaxed)) ||
        vale_mac_is_group(source) || (slot_flags & NS_NO_LEARN)) {
        return;
    }
    atomic_store_explicit(known, source, memory_order_relaxed);
    vale_learn(&sw->table, source, sender->port->index);
    last->mac = UINT64_MAX;
}

/* The list of a packet whose frame is not in plain sight, or of a switch with rules of its own. */
static unsigned choose_slowly(struct vale_sender *sender, struct vale_switch *sw,
                              const struct nm_kring *kring, const struct vale_frag *frags,
                              struct last_found *last)
{
    uint32_t len;
    const uint8_t *frame = frame_begin(sender, frags, &len);
    unsigned wanted = sw->has_slot_destination ? NS_RFRAGS(frags[0].flags) : 0;
    uint8_t ring = (uint8_t)kring->ring_id;
    unsigned port;

    if (!frame || len < VALE_ETHER_LEN) {
        return VALE_LIST_BAD;
    }
    if (!sw->lookup) {
        learn(sender, sw, frame, frags[0].flags, last);
    }
    if (wanted > 0) {
        port = wanted == VALE_SLOT_BROADCAST ? VALE_PORT_BROADCAST : wanted - 1;
    } else if (sw->lookup) {
        port = sw->lookup(sw->lookup_data, frame, len, sender->port->index, &ring);
    } else {
        port = vale_find(&sw->table, vale_frame_destination(frame));
    }
    return list_of(sender, sw, port, ring);
}

static inline unsigned choose(struct vale_sender *sender, struct vale_switch *sw,
                              const struct nm_kring *kring, const struct vale_frag *frags,
                              struct last_found *last)
{
    const uint8_t *frame = frags[0].data;

    if (G_UNLIKELY(!sender->is_plain || frags[0].len < VALE_ETHER_LEN ||
                   (frags[0].flags & NS_INDIRECT))) {
        return choose_slowly(sender, sw, kring, frags, last);
    }
    learn(sender, sw, frame, frags[0].flags, last);
    uint64_t mac = vale_frame_destination(frame);
    if (G_UNLIKELY(mac != last->mac)) {
        last->mac = mac;
        last->list = list_of(sender, sw, vale_find(&sw->table, mac), kring->ring_id);
    }
    return last->list;
}

static inline void append(struct vale_sender *sender, unsigned id, unsigned packet)
{
    struct vale_list *list = &sender->lists[id];
    struct vale_frag *first = &sender->frags[packet];

    first->next = VALE_NO_FRAG;
    if (list->head == VALE_NO_FRAG) {
        *list = (struct vale_list){.head = (uint16_t)packet};
        sender->touched[sender->n_touched++] = (uint16_t)id;
    } else {
        sender->frags[list->tail].next = (uint16_t)packet;
    }
    list->tail = (uint16_t)packet;
    list->packets++;
    list->slots += first->frags;
}

static uint32_t packet_bytes(const struct vale_frag *frags)
{
    uint32_t bytes = frags[0].len;

    for (unsigned i = 1; i < frags[0].frags; i++) {
        bytes += frags[i].len;
    }
    return bytes;
}

static void count_sent(struct vale_sender *sender, const struct vale_sent *sent)
{
    struct vale_counters *counters = &sender->port->counters;

    vale_count(&counters->rx_frames, sent->packets);
    vale_count(&counters->rx_bytes, sent->bytes);
    vale_count(&counters->dropped_bad, sent->bad);
    vale_count(&counters->dropped_no_destination, sent->nowhere);
}

/* Puts the chunk's packets on lists, and these into rings; what does not fit is dropped. */
static void chunk_send(struct vale_sender *sender, struct vale_switch *sw,
                       const struct nm_kring *kring, const struct chunk *chunk)
{
    struct last_found last = {.mac = UINT64_MAX};
    struct vale_sent sent = {.packets = 0};

    for (unsigned i = 0; i < chunk->n; i += sender->frags[i].frags) {
        unsigned list = choose(sender, sw, kring, &sender->frags[i], &last);
        sent.packets++;
        sent.bytes += packet_bytes(&sender->frags[i]);
        if (G_LIKELY(list <= VALE_LIST_BROADCAST)) {
            append(sender, list, i);
        } else {
            sent.bad += list == VALE_LIST_BAD;
            sent.nowhere += list == VALE_LIST_NOWHERE;
        }
    }
    vale_flush(sender, sw);
    count_sent(sender, &sent);
}

/* The same where senders wait for room: runs of packets to one place, up to the first that does not
 * fit. Returns its fragment, or the chunk's end. */
static unsigned chunk_send_waiting(struct vale_sender *sender, struct vale_switch *sw,
                                   const struct nm_kring *kring, const struct chunk *chunk)
{
    struct last_found last = {.mac = UINT64_MAX};
    struct vale_sent sent = {.packets = 0};
    unsigned run = VALE_LIST_NOWHERE, stop = chunk->n, i = 0;

    for (;; i += sender->frags[i].frags) {
        unsigned list =
            i < chunk->n ? choose(sender, sw, kring, &sender->frags[i], &last) : VALE_LIST_NOWHERE;
        if (sender->n_touched > 0 && (list != run || run == VALE_LIST_BROADCAST)) {
            stop = vale_flush_waiting(sender, sw, i);
            if (stop != i) {
                break;
            }
        }
        if (i >= chunk->n) {
            break;
        }
        run = list;
        if (list <= VALE_LIST_BROADCAST) {
            append(sender, list, i);
        } else {
            sent.bad += list == VALE_LIST_BAD;
            sent.nowhere += list == VALE_LIST_NOWHERE;
        }
    }
    stop = MIN(stop, i);
    for (i = 0; i < stop; i += sender->frags[i].frags) {
        sent.packets++;
        sent.bytes += packet_bytes(&sender->frags[i]);
    }
    count_sent(sender, &sent);
    return stop;
}

/* ---- the common case ---- */

enum { SHORTEST_RUN = 4 };

/* Frames of one slot each, all with the addresses of the first: from `at` on, as fragments. */
static unsigned run_take(struct vale_sender *sender, const struct nm_kring *kring, uint32_t at,
                         uint64_t *bytes)
{
    const struct netmap_slot *slots = kring->ring->slot;
    const uint32_t n_slots = kring->num_slots, head = kring->rhead;
    const uint32_t buf_total = kring->buf_total, buf_size = kring->buf_size;
    const uint8_t *base = kring->buf_base;
    struct vale_frag *frag = sender->frags, *end = frag + VALE_CHUNK;
    uint64_t addresses = 0, more_addresses = 0, sum = 0;

    for (; at != head && frag != end; at = nm_next(at, n_slots), frag++) {
        union nm_slot_word slot = nm_slot_load(&slots[at]);
        if (slot.flags & (NS_MOREFRAG | NS_INDIRECT | NS_NO_LEARN) || slot.buf_idx >= buf_total ||
            slot.len > buf_size || slot.len < VALE_ETHER_LEN) {
            break;
        }
        const uint8_t *data = base + (uint64_t)slot.buf_idx * buf_size;
        uint64_t these = vale_load64(data), others = vale_load64(data + 4);
        if (frag == sender->frags) {
            addresses = these;
            more_addresses = others;
        }
        if (these != addresses || others != more_addresses) {
            break;
        }
        frag->data = data;
        frag->len = slot.len;
        sum += slot.len;
    }
    *bytes = sum;
    return (unsigned)(frag - sender->frags);
}

/* Sends a run of frames from `at` on that all go to one ring and need nothing done to them. Returns
 * how many; 0: it is not that simple, nothing was sent. */
static unsigned run_send(struct vale_sender *sender, struct vale_switch *sw,
                         const struct nm_kring *kring, uint32_t at)
{
    struct last_found last = {.mac = UINT64_MAX};
    struct vale_sent sent = {.packets = 0};
    struct vale_frag *first = &sender->frags[0];

    frag_take(first, kring, &kring->ring->slot[at]);
    first->frags = 1;
    if (first->flags & NS_MOREFRAG) {
        return 0;
    }
    unsigned list = choose(sender, sw, kring, first, &last);
    if (list >= VALE_LISTS || !vale_can_run(sw, list)) {
        return 0;
    }
    sent.packets = run_take(sender, kring, at, &sent.bytes);
    if (sent.packets < SHORTEST_RUN) {
        return 0;
    }
    vale_flush_run(sender, sw, list, (unsigned)sent.packets);
    count_sent(sender, &sent);
    return (unsigned)sent.packets;
}

uint32_t vale_forward(struct nm_kring *kring, struct vale_switch *sw)
{
    struct vale_sender *sender = kring->port_data;
    struct chunk chunk = {.end = kring->hwcur};

    sender->is_plain =
        !sw->lookup && !sw->has_slot_destination && sender->port->na.virt_hdr_len == 0;
    const bool can_run =
        sender->is_plain && kring->offset_mask == 0 && sw->policy == VALE_FULL_DROP;
    while (chunk.end != kring->rhead) {
        unsigned n_run = can_run ? run_send(sender, sw, kring, chunk.end) : 0;
        if (n_run > 0) {
            chunk.end += n_run;
            chunk.end -= chunk.end >= kring->num_slots ? kring->num_slots : 0;
            continue;
        }
        chunk_take(sender, kring, chunk.end, &chunk);
        if (G_LIKELY(sw->policy == VALE_FULL_DROP)) {
            chunk_send(sender, sw, kring, &chunk);
        } else {
            unsigned stop = chunk_send_waiting(sender, sw, kring, &chunk);
            if (stop < chunk.n) {
                uint32_t slot = chunk.first + stop;
                chunk.end = slot >= kring->num_slots ? slot - kring->num_slots : slot;
                break;
            }
        }
        if (chunk.is_cut) {
            chunk_skip(sender, kring, &chunk);
        }
    }
    vale_wake_receivers(sender, sw);
    return chunk.end;
}
