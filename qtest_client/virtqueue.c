/*
 * The split virtqueue: see virtqueue.h. Descriptor lists and tokens are kept in private memory, so
 * that nothing the device scribbles into the shared rings can lead the driver astray.
 */
#include "qtest_client/virtqueue.h"

#include <inttypes.h>
#include <string.h>

G_DEFINE_QUARK(virtqueue_error, virtqueue_error)

_Static_assert(G_BYTE_ORDER == G_LITTLE_ENDIAN, "the rings are little-endian (virtio 1.2, 2.7)");

enum { CACHE_LINE = 64 };

/* What is known of a descriptor of the ring; of the whole chain, in the one of its head. */
struct virtqueue_slot {
    void *token;         /* not NULL: head of a chain that was added and not yet popped */
    uint64_t writable;   /* bytes the device may write into the chain */
    uint16_t n_desc;     /* descriptors of the ring it takes */
    uint16_t tail;       /* the last of them */
    uint16_t next;       /* the next one of this chain or of the free list */
    uint16_t next_added; /* head of the chain added after this one */
    bool is_published;
};

/* ---- life ---- */

static uint64_t align_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Offsets of the parts from the start of the allocation. */
struct layout {
    uint64_t avail, used, indirect, total, align;
};

static struct layout lay_out(uint16_t size, enum virtqueue_layout layout, uint16_t indirect_entries)
{
    bool is_legacy = layout == VIRTQUEUE_LAYOUT_LEGACY;
    struct layout l = {.align = is_legacy ? VIRTQ_LEGACY_ALIGN : CACHE_LINE};

    /* what the driver writes and what the device writes share no cache line, except where the
     * legacy layout has the available ring begin right behind the descriptors */
    l.avail = is_legacy ? VIRTQ_DESC_BYTES(size) : align_up(VIRTQ_DESC_BYTES(size), CACHE_LINE);
    l.used = align_up(l.avail + VIRTQ_AVAIL_BYTES(size), l.align);
    l.indirect = align_up(l.used + VIRTQ_USED_BYTES(size), CACHE_LINE);
    l.total = l.indirect + (uint64_t)size * indirect_entries * sizeof(struct virtq_desc);
    return l;
}

struct virtqueue *virtqueue_new(struct guest_memory *memory, struct guest_region *region,
                                uint16_t size, enum virtqueue_layout layout, bool has_event_idx,
                                uint16_t indirect_entries, GError **error)
{
    if (size == 0 || size > VIRTQ_MAX_SIZE || (size & (size - 1)) != 0) {
        g_set_error(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_INVALID,
                    "a split virtqueue cannot have %u entries: take a power of two, 1 to %d", size,
                    VIRTQ_MAX_SIZE);
        return NULL;
    }
    if (indirect_entries > size) {
        g_set_error(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_INVALID,
                    "indirect tables of %u entries for a queue of %u: chains longer than the queue "
                    "are forbidden",
                    indirect_entries, size);
        return NULL;
    }
    if (region->gpa == GUEST_UNPLACED || guest_memory_region_at(memory, region->gpa) != region) {
        g_set_error(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_INVALID,
                    "rings in memory '%s', which has no guest address yet: place it first",
                    region->name);
        return NULL;
    }
    struct layout l = lay_out(size, layout, indirect_entries);
    uint64_t offset;
    if (!guest_region_alloc(region, l.total, l.align, &offset, error)) {
        return NULL;
    }
    struct virtqueue *vq = g_new0(struct virtqueue, 1);
    uint8_t *host = region->host + offset;
    uint64_t gpa = region->gpa + offset;
    vq->size = size;
    vq->has_event_idx = has_event_idx;
    vq->has_indirect = indirect_entries > 0;
    vq->indirect_entries = indirect_entries;
    vq->region = region;
    vq->region_offset = offset;
    vq->desc_gpa = gpa;
    vq->avail_gpa = gpa + l.avail;
    vq->used_gpa = gpa + l.used;
    vq->indirect_gpa = gpa + l.indirect;
    vq->desc = (void *)host;
    vq->avail = (void *)(host + l.avail);
    vq->used = (void *)(host + l.used);
    vq->indirect = (void *)(host + l.indirect);
    vq->slots = g_new0(struct virtqueue_slot, size);
    virtqueue_reset(vq);
    return vq;
}

void virtqueue_free(struct virtqueue *vq)
{
    if (vq) {
        guest_region_release(vq->region, vq->region_offset);
        g_free(vq->slots);
        g_free(vq);
    }
}

void virtqueue_reset(struct virtqueue *vq)
{
    memset((void *)vq->desc, 0, VIRTQ_DESC_BYTES(vq->size));
    memset((void *)vq->avail, 0, VIRTQ_AVAIL_BYTES(vq->size));
    memset((void *)vq->used, 0, VIRTQ_USED_BYTES(vq->size));
    memset(vq->slots, 0, vq->size * sizeof(vq->slots[0]));
    for (unsigned i = 0; i < vq->size; i++) {
        vq->slots[i].next = (uint16_t)(i + 1);
    }
    vq->n_free = vq->size;
    vq->free_head = 0;
    /* every index, the one of the last notification decision too: a stale one would make the
     * wrap-around arithmetic of need_event say "told already" */
    vq->avail_idx = vq->avail_idx_published = vq->avail_idx_notified = 0;
    vq->n_undecided = 0;
    vq->last_used_idx = 0;
    vq->n_in_flight = 0;
    vq->is_broken = false;
    vq->broken_reason[0] = '\0';
}

/* ---- driver to device ---- */

static void fill(struct virtq_desc *desc, const struct virtqueue_buffer *buffer, uint16_t flags,
                 uint16_t next)
{
    desc->addr = buffer->gpa;
    desc->len = buffer->len;
    desc->flags = flags;
    desc->next = next;
}

/* 2.7.5.3: one descriptor of the ring, pointing to a table that holds the chain. */
static void fill_indirect(struct virtqueue *vq, uint16_t head,
                          const struct virtqueue_buffer *buffers, unsigned n_out, unsigned n)
{
    uint64_t first = (uint64_t)head * vq->indirect_entries;
    struct virtq_desc *table = vq->indirect + first;
    struct virtqueue_buffer whole = {vq->indirect_gpa + first * sizeof(*table),
                                     (uint32_t)(n * sizeof(*table))};

    for (unsigned i = 0; i < n; i++) {
        bool is_last = i + 1 == n;
        uint16_t flags =
            (uint16_t)((i >= n_out ? VIRTQ_DESC_F_WRITE : 0) | (is_last ? 0 : VIRTQ_DESC_F_NEXT));
        fill(&table[i], &buffers[i], flags, (uint16_t)(is_last ? 0 : i + 1));
    }
    fill(&vq->desc[head], &whole, VIRTQ_DESC_F_INDIRECT, 0);
}

/* Returns the last descriptor of the chain. */
static uint16_t fill_chain(struct virtqueue *vq, uint16_t head,
                           const struct virtqueue_buffer *buffers, unsigned n_out, unsigned n)
{
    uint16_t at = head;

    for (unsigned i = 0;; i++) {
        uint16_t next = vq->slots[at].next;
        uint16_t write = i >= n_out ? VIRTQ_DESC_F_WRITE : 0;
        if (i + 1 == n) {
            fill(&vq->desc[at], &buffers[i], write, 0);
            return at;
        }
        fill(&vq->desc[at], &buffers[i], write | VIRTQ_DESC_F_NEXT, next);
        at = next;
    }
}

bool virtqueue_add(struct virtqueue *vq, const struct virtqueue_buffer *buffers, unsigned n_out,
                   unsigned n_in, void *token)
{
    unsigned n = n_out + n_in;

    g_assert(n > 0 && token != NULL);
    bool is_indirect = n > 1 && n <= vq->indirect_entries;
    unsigned n_desc = is_indirect ? 1 : n;
    if (n_desc > vq->n_free || vq->is_broken) {
        return false;
    }
    uint16_t head = vq->free_head;
    struct virtqueue_slot *slot = &vq->slots[head];
    if (is_indirect) {
        fill_indirect(vq, head, buffers, n_out, n);
        slot->tail = head;
    } else {
        slot->tail = fill_chain(vq, head, buffers, n_out, n);
    }
    vq->free_head = vq->slots[slot->tail].next;
    vq->n_free = (uint16_t)(vq->n_free - n_desc);
    slot->token = token;
    slot->n_desc = (uint16_t)n_desc;
    slot->is_published = false;
    slot->writable = 0;
    for (unsigned i = n_out; i < n; i++) {
        slot->writable += buffers[i].len;
    }
    if (vq->avail_idx == vq->avail_idx_published) {
        vq->first_added = head;
    } else {
        vq->slots[vq->last_added].next_added = head;
    }
    vq->last_added = head;
    vq->avail_idx++;
    return true;
}

void virtqueue_publish(struct virtqueue *vq)
{
    uint16_t mask = (uint16_t)(vq->size - 1), head = vq->first_added;
    uint16_t n = (uint16_t)(vq->avail_idx - vq->avail_idx_published);

    if (n == 0) {
        return;
    }
    for (uint16_t idx = vq->avail_idx_published; idx != vq->avail_idx; idx++) {
        atomic_store_explicit(&vq->avail->ring[idx & mask], head, memory_order_relaxed);
        vq->slots[head].is_published = true;
        head = vq->slots[head].next_added;
    }
    /* virtio 1.2, 2.7.13.3: descriptors and ring entries before idx. Pairs with the acquire fence
     * between the device's load of avail.idx and its load of the entry. */
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&vq->avail->idx, vq->avail_idx, memory_order_relaxed);
    vq->avail_idx_published = vq->avail_idx;
    vq->n_in_flight = (uint16_t)(vq->n_in_flight + n);
    vq->n_undecided += n;
}

bool virtqueue_needs_kick(struct virtqueue *vq)
{
    uint16_t new_idx = vq->avail_idx_published, old_idx = vq->avail_idx_notified;
    uint32_t n = vq->n_undecided;

    if (n == 0 || vq->is_broken) {
        return false;
    }
    vq->avail_idx_notified = new_idx;
    vq->n_undecided = 0;
    /* virtio 1.2, 2.7.13.4.1: the store of avail.idx before the load of what the device asks for.
     * Pairs with the device's full fence between its store of avail_event (or used.flags) and its
     * second look at avail.idx: at least one of the two sees the other's store. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!vq->has_event_idx) {
        uint16_t flags = atomic_load_explicit(&vq->used->flags, memory_order_relaxed);
        return !(flags & VIRTQ_USED_F_NO_NOTIFY);
    }
    uint16_t event = atomic_load_explicit(virtqueue_avail_event(vq), memory_order_relaxed);
    /* going all the way round passes every event index */
    return n > UINT16_MAX || virtqueue_need_event(event, new_idx, old_idx);
}

/* ---- device to driver ---- */

static void G_GNUC_PRINTF(2, 3) mark_broken(struct virtqueue *vq, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_vsnprintf(vq->broken_reason, sizeof(vq->broken_reason), format, args);
    va_end(args);
    vq->is_broken = true;
}

/* Checks one entry of the used ring. False: it was nonsense, and the queue is broken now. */
static bool entry_is_sane(struct virtqueue *vq, uint32_t id, uint32_t len)
{
    if (id >= vq->size) {
        mark_broken(vq, "used entry %u returns head %" PRIu32 ": the queue has only 0 to %d",
                    vq->last_used_idx, id, vq->size - 1);
    } else if (!vq->slots[id].token || !vq->slots[id].is_published) {
        mark_broken(vq, "used entry %u returns head %" PRIu32 ", which is not in flight",
                    vq->last_used_idx, id);
    } else if (len > vq->slots[id].writable) {
        mark_broken(vq,
                    "used entry %u, head %" PRIu32 ": %" PRIu32
                    " bytes written, where the chain has room for %" PRIu64,
                    vq->last_used_idx, id, len, vq->slots[id].writable);
    }
    return !vq->is_broken;
}

static void *recycle(struct virtqueue *vq, uint16_t head)
{
    struct virtqueue_slot *slot = &vq->slots[head];
    void *token = slot->token;

    vq->slots[slot->tail].next = vq->free_head;
    vq->free_head = head;
    vq->n_free = (uint16_t)(vq->n_free + slot->n_desc);
    vq->n_in_flight--;
    slot->token = NULL;
    return token;
}

unsigned virtqueue_pop(struct virtqueue *vq, struct virtqueue_used *used, unsigned max)
{
    if (vq->is_broken) {
        return 0;
    }
    uint16_t mask = (uint16_t)(vq->size - 1);
    uint16_t used_idx = atomic_load_explicit(&vq->used->idx, memory_order_relaxed);
    uint16_t n = (uint16_t)(used_idx - vq->last_used_idx);
    if (n == 0) {
        return 0;
    }
    if (n > vq->n_in_flight) {
        mark_broken(vq, "used.idx went from %u to %u, but only %u chains are in flight",
                    vq->last_used_idx, used_idx, vq->n_in_flight);
        return 0;
    }
    /* virtio 1.2, 2.7.14: the used entries and the buffers only after idx. Pairs with the device's
     * release fence between its stores of the entry and of used.idx. */
    atomic_thread_fence(memory_order_acquire);
    unsigned n_taken = 0;
    while (n_taken < MIN(n, max)) {
        struct virtq_used_elem *entry = &vq->used->ring[vq->last_used_idx & mask];
        uint32_t id = atomic_load_explicit(&entry->id, memory_order_relaxed);
        uint32_t len = atomic_load_explicit(&entry->len, memory_order_relaxed);
        if (!entry_is_sane(vq, id, len)) {
            break;
        }
        used[n_taken].head = (uint16_t)id;
        used[n_taken].len = len;
        used[n_taken].token = recycle(vq, (uint16_t)id);
        n_taken++;
        vq->last_used_idx++;
    }
    return n_taken;
}

bool virtqueue_has_used(const struct virtqueue *vq)
{
    return !vq->is_broken &&
           atomic_load_explicit(&vq->used->idx, memory_order_relaxed) != vq->last_used_idx;
}

/* ---- interrupts wanted or not ---- */

void virtqueue_disable_interrupts(struct virtqueue *vq)
{
    if (vq->has_event_idx) {
        /* flags stay 0 (2.7.7.1); an event index just behind is passed again only after 2^16 */
        atomic_store_explicit(virtqueue_used_event(vq), (uint16_t)(vq->last_used_idx - 1),
                              memory_order_relaxed);
    } else {
        atomic_store_explicit(&vq->avail->flags, VIRTQ_AVAIL_F_NO_INTERRUPT, memory_order_relaxed);
    }
}

/* Asks for an interrupt when more than `n_more` further chains are used; false if they are. */
static bool arm(struct virtqueue *vq, uint16_t n_more)
{
    if (vq->has_event_idx) {
        atomic_store_explicit(virtqueue_used_event(vq), (uint16_t)(vq->last_used_idx + n_more),
                              memory_order_relaxed);
    } else {
        atomic_store_explicit(&vq->avail->flags, 0, memory_order_relaxed);
    }
    /* virtio 1.2, 2.7.14: the store above before the second look at used.idx. Pairs with the
     * device's full fence between its store of used.idx and its load of used_event (or
     * avail.flags): what is used from here on either interrupts or is seen here. */
    atomic_thread_fence(memory_order_seq_cst);
    uint16_t used_idx = atomic_load_explicit(&vq->used->idx, memory_order_relaxed);
    return (uint16_t)(used_idx - vq->last_used_idx) <= n_more;
}

bool virtqueue_enable_interrupts(struct virtqueue *vq)
{
    return arm(vq, 0);
}

bool virtqueue_enable_interrupts_delayed(struct virtqueue *vq)
{
    return arm(vq, vq->has_event_idx ? (uint16_t)(vq->n_in_flight * 3u / 4u) : 0);
}
