/*
 * Putting a chunk's frames into one receive ring (netmap.md 9.3, 7 to 9): slots are reserved,
 * filled without a lock, and published in the order of reservations. A packet is copied whole or
 * not at all.
 */
#include "models/vale/vale_deliver_private.h"

enum { COPY_UNIT = 64, COPY_UNITS_BELOW = 1024 };

/* The reserved slots that are still empty. */
struct filler {
    struct netmap_slot *slots;
    uint32_t n_slots, at, left;
    uint8_t *buf_base;
    uint32_t buf_size, buf_total;
    uint64_t offset_mask, offset_max;
    uint64_t bytes;
    bool ran_out;
};

bool vale_kring_is_open(const struct vale_port *port, const struct nm_kring *kring)
{
    int state = atomic_load_explicit(&kring->state, memory_order_relaxed);

    return port->is_on && atomic_load_explicit(&kring->is_on, memory_order_acquire) &&
           kring->leases && !(state & NM_KR_STOPPED);
}

static uint32_t filler_offset(const struct filler *f)
{
    if (f->offset_mask == 0) {
        return 0;
    }
    uint64_t offset = __atomic_load_n(&f->slots[f->at].ptr, __ATOMIC_RELAXED) & f->offset_mask;
    return (uint32_t)MIN(offset, f->offset_max);
}

/* Where the slot's data begins; NULL: the receiver put an index there that is no buffer's. */
static uint8_t *filler_buffer(const struct filler *f, uint32_t index)
{
    return index < f->buf_total ? f->buf_base + (uint64_t)index * f->buf_size : NULL;
}

static inline void filler_put(struct filler *f, union nm_slot_word slot, uint32_t len,
                              unsigned flags)
{
    slot.len = (uint16_t)len;
    slot.flags = (uint16_t)flags;
    nm_slot_store(&f->slots[f->at], slot);
    f->bytes += len;
    f->at = nm_next(f->at, f->n_slots);
    f->left--;
}

/* Direct data of `len` bytes; both buffers are long enough for whole units of 64 bytes unless
 * `is_exact`. */
static inline void copy_direct(uint8_t *to, const uint8_t *from, uint32_t len, bool is_exact)
{
    if (len >= COPY_UNITS_BELOW || is_exact) {
        memcpy(to, from, len);
        return;
    }
    for (uint32_t done = 0; done < len; done += COPY_UNIT) {
        memcpy(to + done, from + done, COPY_UNIT);
    }
}

/* With offsets, data keeps its place within a cache line: the destination's offset is moved up. */
static uint32_t align_like(struct filler *f, const uint8_t *from, uint32_t offset)
{
    uint32_t wanted = (uint32_t)((uintptr_t)from & (COPY_UNIT - 1));
    uint64_t moved = (offset & ~(uint64_t)(COPY_UNIT - 1)) + wanted;

    moved += moved < offset ? COPY_UNIT : 0;
    if (moved > f->offset_max || moved > f->offset_mask || moved == offset) {
        return offset;
    }
    struct netmap_slot *slot = &f->slots[f->at];
    uint64_t ptr = __atomic_load_n(&slot->ptr, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->ptr, (ptr & ~f->offset_mask) | moved, __ATOMIC_RELAXED);
    return (uint32_t)moved;
}

static void put_frag_slowly(struct filler *f, const struct vale_frag *frag, unsigned flags)
{
    union nm_slot_word slot = nm_slot_load(&f->slots[f->at]);
    uint8_t *buffer = filler_buffer(f, slot.buf_idx);
    uint32_t offset = filler_offset(f), len = frag->len;

    if (f->offset_mask != 0 && !(frag->flags & NS_INDIRECT)) {
        offset = align_like(f, frag->data, offset);
    }
    uint32_t room = f->buf_size - offset;
    if (!buffer || len > room) {
        len = 0;
    } else if (frag->flags & NS_INDIRECT) {
        len = vale_frag_read(frag, 0, buffer + offset, len) ? len : 0;
    } else {
        bool is_exact =
            (frag->flags & VALE_FRAG_EXACT) || ((len + COPY_UNIT - 1) & ~(COPY_UNIT - 1u)) > room;
        copy_direct(buffer + offset, frag->data, len, is_exact);
    }
    filler_put(f, slot, len, flags);
}

static inline void put_frag(struct filler *f, const struct vale_frag *frag, unsigned flags)
{
    union nm_slot_word slot = nm_slot_load(&f->slots[f->at]);

    if (G_UNLIKELY((frag->flags & (NS_INDIRECT | VALE_FRAG_EXACT)) || frag->len > f->buf_size ||
                   slot.buf_idx >= f->buf_total || f->offset_mask != 0)) {
        put_frag_slowly(f, frag, flags);
        return;
    }
    copy_direct(f->buf_base + (uint64_t)slot.buf_idx * f->buf_size, frag->data, frag->len, false);
    filler_put(f, slot, frag->len, flags);
}

static void put_packet(struct filler *f, const struct vale_frag *frags)
{
    unsigned n = frags[0].frags, count = n << NS_PORT_SHIFT;

    for (unsigned i = 0; i + 1 < n; i++) {
        put_frag(f, &frags[i], count | NS_MOREFRAG);
    }
    put_frag(f, &frags[n - 1], count);
}

/* ---- a sink that is a filler ---- */

static uint8_t *sink_next(struct vale_sink *sink, uint32_t *room)
{
    struct filler *f = sink->data;

    if (f->left == 0) {
        f->ran_out = true;
        return NULL;
    }
    uint32_t offset = filler_offset(f);
    uint8_t *buffer = filler_buffer(f, nm_slot_load(&f->slots[f->at]).buf_idx);
    *room = f->buf_size - offset;
    return buffer ? buffer + offset : NULL;
}

static void sink_done(struct vale_sink *sink, uint32_t len, bool has_more)
{
    struct filler *f = sink->data;

    filler_put(f, nm_slot_load(&f->slots[f->at]), len, has_more ? NS_MOREFRAG : 0);
}

/* A frame of several slots is told how many it has, as others are. */
static void number_frags(const struct filler *f, uint32_t first)
{
    unsigned n = nm_dist(first, f->at, f->n_slots);

    for (uint32_t i = first; i != f->at; i = nm_next(i, f->n_slots)) {
        union nm_slot_word slot = nm_slot_load(&f->slots[i]);
        slot.flags |= (uint16_t)(n << NS_PORT_SHIFT);
        nm_slot_store(&f->slots[i], slot);
    }
}

/* True: the packet is dealt with; *made of it: frames, 0 if it was dropped for good. */
static bool put_converted(struct filler *f, const struct vale_conversion *how,
                          const struct vale_frag *frags, uint32_t *made)
{
    struct vale_sink sink = {.next = sink_next, .done = sink_done, .data = f};
    struct filler before = *f;

    *made = 0;
    f->ran_out = false;
    if (vale_convert(how, frags, frags[0].frags, &sink)) {
        *made = sink.is_segmented ? before.left - f->left : 1;
        if (!sink.is_segmented) {
            number_frags(f, before.at);
        }
        return true;
    }
    bool was_full = f->ran_out;
    *f = before;
    return !was_full;
}

/* ---- */

static struct vale_conversion conversion(const struct vale_sender *sender,
                                         const struct vale_port *dst)
{
    return (struct vale_conversion){.src_hdr = sender->port->na.virt_hdr_len,
                                    .dst_hdr = dst->na.virt_hdr_len,
                                    .dst_mfs = dst->mfs};
}

/* The next packet of both lists, in the sender's order. */
static inline uint16_t *next_of(struct vale_delivery *d)
{
    return d->unicast < d->broadcast ? &d->unicast
                                     : &d->broadcast; /* VALE_NO_FRAG is the largest */
}

uint32_t vale_delivery_slots(const struct vale_sender *sender, const struct vale_delivery *d)
{
    struct vale_conversion how = conversion(sender, d->dst);
    struct vale_delivery walk = *d;
    uint32_t room = d->kring->buf_size - (uint32_t)d->kring->offset_max, slots = 0;

    if (how.src_hdr == how.dst_hdr) {
        return d->slots;
    }
    for (; walk.packets > 0 && slots < d->kring->num_slots; walk.packets--) {
        uint16_t *next = next_of(&walk);
        const struct vale_frag *frags = &sender->frags[*next];
        slots += vale_convert_slots(&how, frags, frags[0].frags, room);
        *next = frags[0].next;
    }
    return slots;
}

static void fill(struct vale_sender *sender, struct vale_delivery *d, struct filler *f,
                 uint32_t *delivered, uint32_t *bad)
{
    struct vale_conversion how = conversion(sender, d->dst);

    while (d->packets > 0) {
        uint16_t *next = next_of(d);
        const struct vale_frag *frags = &sender->frags[*next];
        unsigned n = frags[0].frags;
        if (G_LIKELY(how.src_hdr == how.dst_hdr)) {
            if (n > f->left) {
                return;
            }
            put_packet(f, frags);
            ++*delivered;
        } else {
            uint32_t made;
            if (!put_converted(f, &how, frags, &made)) {
                return;
            }
            *bad += made == 0;
            *delivered += made;
        }
        *next = frags[0].next;
        d->packets--;
        d->slots -= n;
    }
}

void vale_deliver(struct vale_sender *sender, struct vale_delivery *d)
{
    struct nm_kring *kring = d->kring;
    uint32_t first, delivered = 0, bad = 0;
    uint32_t reserved = vale_queue_reserve(kring, vale_delivery_slots(sender, d), &first);
    struct filler f = {
        .slots = kring->ring->slot,
        .n_slots = kring->num_slots,
        .at = first,
        .left = reserved,
        .buf_base = kring->buf_base,
        .buf_size = kring->buf_size,
        .buf_total = kring->buf_total,
        .offset_mask = kring->offset_mask,
        .offset_max = kring->offset_max,
    };

    fill(sender, d, &f, &delivered, &bad);
    vale_queue_publish(kring, first, reserved, reserved - f.left);
    struct vale_counters *to = &d->dst->counters, *from = &sender->port->counters;
    vale_count(&to->tx_frames, delivered);
    vale_count(&to->tx_bytes, f.bytes);
    vale_count(&from->dropped_bad, bad);
}

/* ---- runs ---- */

/* Into slots [at, at + n), without a wrap. Returns the bytes. */
static uint64_t copy_run(const struct nm_kring *kring, const struct vale_frag *frag, uint32_t at,
                         uint32_t n)
{
    struct netmap_slot *slot = &kring->ring->slot[at];
    uint8_t *const base = kring->buf_base;
    const uint32_t buf_size = kring->buf_size, buf_total = kring->buf_total;
    uint64_t bytes = 0;

    for (const struct vale_frag *end = frag + n; frag != end; frag++, slot++) {
        union nm_slot_word word = nm_slot_load(slot);
        uint32_t len = frag->len;
        if (G_UNLIKELY(word.buf_idx >= buf_total || len > buf_size)) {
            len = 0;
        }
        copy_direct(base + (uint64_t)word.buf_idx * buf_size, frag->data, len, false);
        word.len = (uint16_t)len;
        word.flags = 1 << NS_PORT_SHIFT;
        nm_slot_store(slot, word);
        bytes += len;
    }
    return bytes;
}

uint32_t vale_deliver_run(struct vale_sender *sender, struct vale_port *dst, struct nm_kring *kring,
                          uint32_t n)
{
    uint32_t first, reserved = vale_queue_reserve(kring, n, &first);
    uint32_t before_wrap = MIN(reserved, kring->num_slots - first);
    uint64_t bytes = copy_run(kring, sender->frags, first, before_wrap);

    bytes += copy_run(kring, sender->frags + before_wrap, 0, reserved - before_wrap);
    vale_queue_publish(kring, first, reserved, reserved);
    vale_count(&dst->counters.tx_frames, reserved);
    vale_count(&dst->counters.tx_bytes, bytes);
    return reserved;
}
