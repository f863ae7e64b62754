/*
 * One allocator at work: its region, its users, objects and buffers. See nm_mem.h.
 */
#include "models/netmap/nm_mem_private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- the region, and who uses it ---- */

void nm_mem_lay_out(struct nm_mem *mem)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < NM_N_POOLS; i++) {
        struct nm_mem_pool *p = &mem->pools[i];
        p->offset = at;
        at += (uint64_t)p->size * p->num;
        at = (at + NM_PAGE - 1) / NM_PAGE * NM_PAGE;
    }
    mem->size = at;
}

static void reserve_bad_buffers(struct nm_mem *mem)
{
    for (uint32_t i = 0; i < NM_BUFS_RESERVED; i++) {
        uint32_t index;
        bool is_there = nm_bits_take(&mem->pools[NM_POOL_BUF].free, &index);
        assert(is_there && index == i);
        (void)is_there;
    }
}

void nm_mem_make_bitmaps(struct nm_mem *mem)
{
    for (unsigned i = 0; i < NM_N_POOLS; i++)
        nm_bits_init(&mem->pools[i].free, mem->pools[i].num);
    reserve_bad_buffers(mem);
}

/* netmap halves the pool in which it runs short while it fills one page after the other. Here the
 * whole file is there at once or not at all; the buffers come last and are by far the most. */
static bool halve_buffers(struct nm_mem *mem)
{
    struct nm_mem_pool *bufs = &mem->pools[NM_POOL_BUF];
    uint32_t clusters = bufs->num / bufs->cluster / 2;

    if (clusters * bufs->cluster <= NM_BUFS_RESERVED)
        return false;
    bufs->num = clusters * bufs->cluster;
    nm_mem_lay_out(mem);
    return true;
}

static int make(struct nm_mem *mem)
{
    uint32_t configured = mem->pools[NM_POOL_BUF].num;
    int err;

    do {
        err = nm_region_make(&mem->region, mem->mems->dir, mem->mems->hugepages, mem->size);
    } while (err == ENOMEM && halve_buffers(mem));
    if (err != 0) { /* perhaps there is more memory the next time */
        mem->pools[NM_POOL_BUF].num = configured;
        nm_mem_lay_out(mem);
        return err;
    }
    mem->base = mem->region.base;
    nm_mem_make_bitmaps(mem);
    mem->is_made = true;
    return 0;
}

int nm_mem_finalize(struct nm_mem *mem)
{
    pthread_mutex_lock(&mem->lock);
    int err = mem->is_made ? 0 : make(mem);
    if (err == 0)
        mem->users++;
    pthread_mutex_unlock(&mem->lock);
    return err;
}

/* Objects are of users: who allocates or frees without being one has lost count. */
static void lock_in_use(struct nm_mem *mem)
{
    pthread_mutex_lock(&mem->lock);
    assert(mem->users > 0);
}

static uint32_t reserved(enum nm_pool pool)
{
    return pool == NM_POOL_BUF ? NM_BUFS_RESERVED : 0;
}

static uint32_t used(const struct nm_mem *mem, enum nm_pool pool)
{
    const struct nm_bits *free = &mem->pools[pool].free;

    return mem->is_made ? free->n - free->n_free - reserved(pool) : 0;
}

uint32_t nm_mem_release(struct nm_mem *mem)
{
    uint32_t n_leaked = 0;

    lock_in_use(mem);
    if (--mem->users == 0) {
        for (unsigned i = 0; i < NM_N_POOLS; i++) {
            if (used(mem, i) == 0)
                continue;
            n_leaked += used(mem, i);
            nm_bits_reset(&mem->pools[i].free);
            if (i == NM_POOL_BUF)
                reserve_bad_buffers(mem);
        }
    }
    pthread_mutex_unlock(&mem->lock);
    return n_leaked;
}

/* ---- what it is ---- */

uint16_t nm_mem_id(const struct nm_mem *mem)
{
    return mem->id;
}

bool nm_mem_is_private(const struct nm_mem *mem)
{
    return mem->id != NM_MEM_GLOBAL_ID;
}

int nm_mem_fd(const struct nm_mem *mem)
{
    return mem->region.fd;
}

uint8_t *nm_mem_base(const struct nm_mem *mem)
{
    return mem->base;
}

uint64_t nm_mem_size(const struct nm_mem *mem)
{
    return mem->size;
}

uint64_t nm_mem_file_size(const struct nm_mem *mem)
{
    return mem->region.file_size;
}

void nm_mem_pools_info(const struct nm_mem *mem, struct nmreq_pools_info *info)
{
    const struct nm_mem_pool *ifs = &mem->pools[NM_POOL_IF], *rings = &mem->pools[NM_POOL_RING],
                             *bufs = &mem->pools[NM_POOL_BUF];

    *info = (struct nmreq_pools_info){
        .nr_memsize = mem->size,
        .nr_mem_id = mem->id,
        .nr_if_pool_offset = ifs->offset,
        .nr_if_pool_objtotal = ifs->num,
        .nr_if_pool_objsize = ifs->size,
        .nr_ring_pool_offset = rings->offset,
        .nr_ring_pool_objtotal = rings->num,
        .nr_ring_pool_objsize = rings->size,
        .nr_buf_pool_offset = bufs->offset,
        .nr_buf_pool_objtotal = bufs->num,
        .nr_buf_pool_objsize = bufs->size,
    };
}

uint32_t nm_mem_buf_size(const struct nm_mem *mem)
{
    return mem->pools[NM_POOL_BUF].size;
}

uint32_t nm_mem_buf_total(const struct nm_mem *mem)
{
    return mem->pools[NM_POOL_BUF].num;
}

uint8_t *nm_mem_buf_base(const struct nm_mem *mem)
{
    return mem->base ? mem->base + mem->pools[NM_POOL_BUF].offset : NULL;
}

uint32_t nm_mem_used(struct nm_mem *mem, enum nm_pool pool)
{
    pthread_mutex_lock(&mem->lock);
    uint32_t n = used(mem, pool);
    pthread_mutex_unlock(&mem->lock);
    return n;
}

/* ---- interfaces and rings ---- */

void *nm_mem_alloc(struct nm_mem *mem, enum nm_pool pool, uint64_t len)
{
    struct nm_mem_pool *p = &mem->pools[pool];
    uint32_t index;

    assert(pool != NM_POOL_BUF);
    lock_in_use(mem);
    bool is_there = len <= p->size && nm_bits_take(&p->free, &index);
    pthread_mutex_unlock(&mem->lock);
    if (!is_there)
        return NULL;
    return memset(mem->base + p->offset + (uint64_t)index * p->size, 0, len);
}

void nm_mem_free_object(struct nm_mem *mem, enum nm_pool pool, void *object)
{
    struct nm_mem_pool *p = &mem->pools[pool];
    uint64_t at = (uint64_t)((uint8_t *)object - mem->base) - p->offset;

    assert(pool != NM_POOL_BUF && at % p->size == 0 && at / p->size < p->num);
    lock_in_use(mem);
    bool was_used = nm_bits_give(&p->free, (uint32_t)(at / p->size));
    pthread_mutex_unlock(&mem->lock);
    assert(was_used);
    (void)was_used;
}

/* ---- buffers ---- */

bool nm_mem_alloc_bufs(struct nm_mem *mem, uint32_t *indices, uint32_t n)
{
    struct nm_bits *free = &mem->pools[NM_POOL_BUF].free;

    lock_in_use(mem);
    bool are_there = free->n_free >= n;
    for (uint32_t i = 0; are_there && i < n; i++)
        nm_bits_take(free, &indices[i]);
    pthread_mutex_unlock(&mem->lock);
    return are_there;
}

static bool free_buf(struct nm_mem *mem, uint32_t index)
{
    return nm_buf_index_ok(index, mem->pools[NM_POOL_BUF].num) &&
           nm_bits_give(&mem->pools[NM_POOL_BUF].free, index);
}

bool nm_mem_free_buf(struct nm_mem *mem, uint32_t index)
{
    lock_in_use(mem);
    bool was_used = free_buf(mem, index);
    pthread_mutex_unlock(&mem->lock);
    return was_used;
}

/* The word that links a buffer to the next one; an application may write to it at any time. */
static uint32_t *link_of(struct nm_mem *mem, uint32_t index)
{
    return (uint32_t *)(void *)(nm_mem_buf_base(mem) + (uint64_t)index * nm_mem_buf_size(mem));
}

uint32_t nm_mem_alloc_list(struct nm_mem *mem, uint32_t n, uint32_t *head)
{
    uint32_t n_got = 0, index;

    *head = 0;
    lock_in_use(mem);
    while (n_got < n && nm_bits_take(&mem->pools[NM_POOL_BUF].free, &index)) {
        __atomic_store_n(link_of(mem, index), *head, __ATOMIC_RELAXED);
        *head = index;
        n_got++;
    }
    pthread_mutex_unlock(&mem->lock);
    return n_got;
}

uint32_t nm_mem_free_list(struct nm_mem *mem, uint32_t head)
{
    uint32_t n_freed = 0;

    lock_in_use(mem);
    /* a list that comes back to itself ends there: that buffer is free already */
    while (free_buf(mem, head)) {
        head = __atomic_exchange_n(link_of(mem, head), 0, __ATOMIC_RELAXED);
        n_freed++;
    }
    pthread_mutex_unlock(&mem->lock);
    return n_freed;
}
