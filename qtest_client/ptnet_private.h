/*
 * What the parts of the ptnet driver share: bring-up (ptnet.c), the netmap memory (ptnet_memory.c),
 * native sync (ptnet_sync.c), frames (ptnet_frames.c).
 */
#ifndef RINGLAB_PTNET_PRIVATE_H
#define RINGLAB_PTNET_PRIVATE_H

#include "models/abi/ptnet.h"
#include "qtest_client/ptnet.h"

#include <stdatomic.h>

enum {
    PTNET_PAGE_BYTES = 4096, /* of the guest; the CSB is two: guest to host, host to guest */
    PTNET_MAX_QUEUES = PTNET_MAX_KICKS,
    PTNET_WORD_STRIDE = 64, /* between interrupt words: a cache line each */
};

struct ptnet_memory {
    uint8_t *base; /* NULL: not mapped */
    uint64_t size; /* bytes, as memdev says */
    uint64_t buf_ofs;
    uint32_t buf_size, buf_total;
};

struct ptnet_driver {
    struct pci_device *dev;
    struct ptnet_driver_options options;
    uint32_t features;
    uint32_t n_rings[2]; /* by is_tx */
    uint32_t n_slots[2];
    uint32_t nifp_ofs, host_mem_id;
    uint32_t header_bytes;
    uint8_t mac[6];
    uint64_t csb_offset, words_offset; /* in options.shared */
    bool has_csb, has_words;
    bool is_started;
    bool is_told; /* the device has addresses of ours */
    struct ptnet_memory memory;
    struct ptnet_queue queues[PTNET_MAX_QUEUES];
};

static inline unsigned ptnet_n_queues(const struct ptnet_driver *d)
{
    return d->n_rings[true] + d->n_rings[false];
}

/* "00:04.0 ptnet: " and what is wrong. Returns false. */
bool ptnet_fail(const struct ptnet_driver *d, int code, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* Finds the memdev of d->host_mem_id and the memory it describes; fills in d->memory. */
bool ptnet_memory_map(struct ptnet_driver *d, GError **error);
/* Finds the rings in it, through the netmap_if; fills in the queues. */
bool ptnet_memory_find_rings(struct ptnet_driver *d, GError **error);

/* ---- ring indices, modulo N ---- */

static inline uint32_t ptnet_distance(uint32_t from, uint32_t to, uint32_t n)
{
    return to >= from ? to - from : to + n - from;
}

static inline uint32_t ptnet_next(uint32_t i, uint32_t n)
{
    return i + 1 == n ? 0 : i + 1;
}

/* ---- the CSB (ptnet.md 5). Published fences are explicit. Accesses are acquire and release beside
 * them, which costs nothing on x86, for tools that do not understand fences ---- */

static inline uint32_t ptnet_load(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static inline void ptnet_store(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

#define PTNET_FENCE_STORE_STORE() atomic_thread_fence(memory_order_release) /* F_ss */
#define PTNET_FENCE_LOAD_LOAD()   atomic_thread_fence(memory_order_acquire) /* F_ll */
#define PTNET_FENCE_STORE_LOAD()  atomic_thread_fence(memory_order_seq_cst) /* F_sl */

/* appl_write of rcur and rhead. */
static inline void ptnet_appl_write(struct ptnet_queue *q)
{
    PTNET_FENCE_STORE_STORE();
    ptnet_store(&q->atok->cur, q->rcur);
    PTNET_FENCE_STORE_STORE();
    ptnet_store(&q->atok->head, q->rhead);
}

/* No interrupts from now on. */
static inline void ptnet_disarm(struct ptnet_queue *q)
{
    q->is_armed = false;
    ptnet_store(&q->atok->appl_need_kick, 0);
}

/* The same where interrupts may be on: who looks at the ring needs none. */
static inline void ptnet_wake_up(struct ptnet_queue *q)
{
    if (q->is_armed) {
        ptnet_disarm(q);
    }
}

/* Takes over what the host says, each value read once. False: it cannot be, and nothing changed. */
bool ptnet_take_hwcur(struct ptnet_queue *q, GError **error);
bool ptnet_appl_read(struct ptnet_queue *q, GError **error); /* hwtail, then hwcur */
/* appl_read, and the ring's tail. */
bool ptnet_sync_tail(struct ptnet_queue *q, GError **error);
/* Whether the host wants a kick, after ptnet_appl_write. */
bool ptnet_host_wants_kick(struct ptnet_queue *q);
bool ptnet_kick(struct ptnet_queue *q, GError **error);
/* A kick that failed before. */
static inline bool ptnet_pay_kick(struct ptnet_queue *q, GError **error)
{
    return G_LIKELY(!q->owes_kick) || ptnet_kick(q, error);
}

/* ---- slots: shared with the host; index, length and flags are read and written as one ---- */

union ptnet_slot {
    uint64_t word;
    struct {
        uint32_t buf_idx;
        uint16_t len, flags;
    };
};

static inline union ptnet_slot ptnet_slot_load(const struct netmap_slot *slot)
{
    return (union ptnet_slot){
        .word = __atomic_load_n((const uint64_t *)(const void *)slot, __ATOMIC_RELAXED)};
}

static inline void ptnet_slot_store(struct netmap_slot *slot, union ptnet_slot s)
{
    __atomic_store_n((uint64_t *)(void *)slot, s.word, __ATOMIC_RELAXED);
}

/* The buffer of a slot, or NULL if its index is none (netmap.md 6.7). */
static inline uint8_t *ptnet_buffer(const struct ptnet_queue *q, uint32_t buf_idx)
{
    return buf_idx >= 2 && buf_idx < q->buf_total ? q->buf_base + (uint64_t)buf_idx * q->buf_size
                                                  : NULL;
}

#endif
