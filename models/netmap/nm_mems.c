/*
 * The allocators of a host: sizes and limits, ids, the global one, private ones and those over a
 * user's memory. Follows netmap_mem2.c (netmap.md, 8).
 */
#include "models/netmap/netmap.h"
#include "models/netmap/nm_mem_private.h"

#include <errno.h>

G_DEFINE_QUARK(nm - error - quark, nm_error)

enum {
    OBJECT_ALIGN = 64,
    MAX_CLUSTER_BYTES = 4 << 20,
    MAX_ID = UINT16_MAX,
};

struct pool_limits {
    uint32_t min_size, max_size, min_num, max_num;
};

/* Private allocators differ in the number of interfaces only. */
static const struct pool_limits global_limits[NM_N_POOLS] = {
    {sizeof(struct netmap_if), 4096, 10, 10000},
    {sizeof(struct netmap_ring), 32 * NM_PAGE, 2, 1024},
    {64, 65536, 4, 1000000},
};
static const struct pool_limits private_if_limits = {sizeof(struct netmap_if), 4096, 1, 100};

static const struct nm_mem_config private_minimum = {
    .pools = {{1024, 2}, {5 * NM_PAGE, 4}, {2048, 4098}}};

static const char *const pool_names[NM_N_POOLS] = {"interface", "ring", "buffer"};

/* ---- sizes ---- */

/* The fewest objects that fill whole pages; 0: more than a cluster may hold. */
static uint32_t objects_per_cluster(uint32_t size)
{
    for (uint32_t n = 1; (uint64_t)n * size <= MAX_CLUSTER_BYTES; n++)
        if ((uint64_t)n * size % NM_PAGE == 0)
            return n;
    return 0;
}

static int configure_pool(struct nm_mem_pool *p, const struct pool_limits *limits, uint64_t size,
                          uint64_t num)
{
    size = (size + OBJECT_ALIGN - 1) / OBJECT_ALIGN * OBJECT_ALIGN;
    if (size < limits->min_size || size > limits->max_size || num < limits->min_num ||
        num > limits->max_num)
        return EINVAL;
    p->size = (uint32_t)size;
    p->cluster = objects_per_cluster(p->size);
    if (p->cluster == 0)
        return EINVAL;
    p->num = (uint32_t)((num + p->cluster - 1) / p->cluster * p->cluster);
    return 0;
}

/* On error *bad is the pool that is out of range. */
static int configure(struct nm_mem *mem, const struct nm_mem_config *config, bool is_private,
                     unsigned *bad)
{
    for (*bad = 0; *bad < NM_N_POOLS; ++*bad) {
        const struct pool_limits *limits =
            is_private && *bad == NM_POOL_IF ? &private_if_limits : &global_limits[*bad];
        int err = configure_pool(&mem->pools[*bad], limits, config->pools[*bad].size,
                                 config->pools[*bad].num);
        if (err != 0)
            return err;
    }
    nm_mem_lay_out(mem);
    return 0;
}

/* ---- making and keeping them ---- */

static struct nm_mem *mem_new(struct nm_mems *mems)
{
    struct nm_mem *mem = g_new0(struct nm_mem, 1);

    mem->mems = mems;
    mem->refs = 1;
    mem->region.fd = -1;
    pthread_mutex_init(&mem->lock, NULL);
    return mem;
}

static void mem_free(struct nm_mem *mem)
{
    for (unsigned i = 0; i < NM_N_POOLS; i++)
        nm_bits_clear(&mem->pools[i].free);
    nm_region_free(&mem->region);
    pthread_mutex_destroy(&mem->lock);
    g_free(mem);
}

static struct nm_mem *look_up(struct nm_mems *mems, uint16_t id)
{
    return g_hash_table_lookup(mems->by_id, GUINT_TO_POINTER(id));
}

/* Gives it the next id after the last one given, and so makes it known. mems->lock held. */
static int add(struct nm_mems *mems, struct nm_mem *mem)
{
    if (g_hash_table_size(mems->by_id) == MAX_ID)
        return ENOMEM;
    do {
        mems->last_id++;
    } while (mems->last_id == 0 || look_up(mems, mems->last_id));
    mem->id = mems->last_id;
    g_hash_table_insert(mems->by_id, GUINT_TO_POINTER(mem->id), mem);
    return 0;
}

struct nm_mems *nm_mems_new(const struct nm_mems_options *options, GError **error)
{
    struct nm_mems *mems = g_new0(struct nm_mems, 1);
    unsigned bad;

    pthread_mutex_init(&mems->lock, NULL);
    mems->dir = g_strdup(options->dir);
    mems->hugepages = options->hugepages;
    mems->by_id = g_hash_table_new(NULL, NULL);
    struct nm_mem *global = mem_new(mems);
    add(mems, global);
    int err = configure(global, &options->global, false, &bad);
    if (err == 0)
        return mems;
    g_set_error(error, NM_ERROR, err, "global allocator: %s pool: %u objects of %u bytes: %s",
                pool_names[bad], options->global.pools[bad].num, options->global.pools[bad].size,
                g_strerror(err));
    nm_mems_free(mems);
    return NULL;
}

void nm_mems_free(struct nm_mems *mems)
{
    nm_mem_unref(look_up(mems, NM_MEM_GLOBAL_ID));
    g_assert(g_hash_table_size(mems->by_id) == 0);
    g_hash_table_destroy(mems->by_id);
    pthread_mutex_destroy(&mems->lock);
    g_free(mems->dir);
    g_free(mems);
}

struct nm_mem *nm_mem_find(struct nm_mems *mems, uint16_t id)
{
    pthread_mutex_lock(&mems->lock);
    struct nm_mem *mem = look_up(mems, id != 0 ? id : NM_MEM_GLOBAL_ID);
    if (mem)
        mem->refs++;
    pthread_mutex_unlock(&mems->lock);
    return mem;
}

struct nm_mem *nm_mem_ref(struct nm_mem *mem)
{
    pthread_mutex_lock(&mem->mems->lock);
    mem->refs++;
    pthread_mutex_unlock(&mem->mems->lock);
    return mem;
}

void nm_mem_unref(struct nm_mem *mem)
{
    pthread_mutex_t *lock = &mem->mems->lock;

    pthread_mutex_lock(lock);
    bool is_last = --mem->refs == 0;
    if (is_last)
        g_hash_table_remove(mem->mems->by_id, GUINT_TO_POINTER(mem->id));
    pthread_mutex_unlock(lock);
    if (is_last)
        mem_free(mem);
}

/* ---- private allocators ---- */

/* NULL and *err, or one that has its sizes but no id yet. */
static struct nm_mem *configured_new(struct nm_mems *mems, const struct nm_mem_config *config,
                                     int *err)
{
    struct nm_mem *mem = mem_new(mems);
    unsigned bad;

    *err = configure(mem, config, true, &bad);
    if (*err == 0)
        return mem;
    mem_free(mem);
    return NULL;
}

static uint32_t clamp_u32(uint64_t value)
{
    return (uint32_t)MIN(value, UINT32_MAX);
}

static void at_least(struct nm_mem_config *config, enum nm_pool pool, uint64_t size, uint64_t num)
{
    config->pools[pool].size = MAX(config->pools[pool].size, clamp_u32(size));
    config->pools[pool].num = MAX(config->pools[pool].num, clamp_u32(num));
}

struct nm_mem *nm_mem_private_new(struct nm_mems *mems, unsigned txr, unsigned txd, unsigned rxr,
                                  unsigned rxd, unsigned extra_bufs, unsigned pipes, int *err)
{
    struct nm_mem_config config = private_minimum;
    uint64_t n_tx = (uint64_t)txr + 1, n_rx = (uint64_t)rxr + 1; /* and the fake host rings */
    uint64_t n_bufs =
        (4ull * pipes + n_rx) * rxd + (4ull * pipes + n_tx) * txd + NM_BUFS_RESERVED + extra_bufs;

    at_least(&config, NM_POOL_IF, sizeof(struct netmap_if) + 8 * (n_tx + n_rx), 2 + 4ull * pipes);
    at_least(&config, NM_POOL_RING,
             sizeof(struct netmap_ring) + sizeof(struct netmap_slot) * (uint64_t)MAX(txd, rxd),
             n_tx + n_rx + 8ull * pipes);
    at_least(&config, NM_POOL_BUF, 0, n_bufs);
    struct nm_mem *mem = configured_new(mems, &config, err);
    if (!mem)
        return NULL;
    pthread_mutex_lock(&mems->lock);
    *err = add(mems, mem);
    pthread_mutex_unlock(&mems->lock);
    if (*err == 0)
        return mem;
    mem_free(mem);
    return NULL;
}

/* ---- memory of a user ---- */

static struct nm_mem *find_over(struct nm_mems *mems, const void *memory, uint64_t size)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, mems->by_id);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct nm_mem *mem = value;
        if (mem->user_memory == memory && mem->user_size == size)
            return mem;
    }
    return NULL;
}

static void want(struct nm_mem_config *config, enum nm_pool pool, uint32_t size, uint32_t num)
{
    if (size != 0)
        config->pools[pool].size = size;
    if (num != 0)
        config->pools[pool].num = num;
}

/* What is asked for must fit; what is left becomes buffers. */
static int fit(struct nm_mem *mem, uint64_t size)
{
    struct nm_mem_pool *bufs = &mem->pools[NM_POOL_BUF];

    if (mem->size > size)
        return ENOMEM;
    bufs->num = clamp_u32((size - bufs->offset) / bufs->size);
    nm_mem_lay_out(mem);
    return 0;
}

static struct nm_mem *over_new(struct nm_mems *mems, void *memory, uint64_t size,
                               const struct nmreq_pools_info *info, int *err)
{
    struct nm_mem_config config = private_minimum;

    want(&config, NM_POOL_IF, info->nr_if_pool_objsize, info->nr_if_pool_objtotal);
    want(&config, NM_POOL_RING, info->nr_ring_pool_objsize, info->nr_ring_pool_objtotal);
    want(&config, NM_POOL_BUF, info->nr_buf_pool_objsize, info->nr_buf_pool_objtotal);
    struct nm_mem *mem = configured_new(mems, &config, err);
    if (!mem)
        return NULL;
    *err = fit(mem, size);
    if (*err == 0)
        *err = add(mems, mem);
    if (*err != 0) {
        mem_free(mem);
        return NULL;
    }
    mem->user_memory = mem->base = memory;
    mem->user_size = size;
    nm_mem_make_bitmaps(mem);
    mem->is_made = true;
    return mem;
}

struct nm_mem *nm_mem_ext_new(struct nm_mems *mems, void *memory, struct nmreq_pools_info *info,
                              int *err)
{
    uint64_t size = info->nr_memsize / NM_PAGE * NM_PAGE;

    *err =
        (uintptr_t)memory % NM_PAGE != 0 || size == 0 ? EINVAL : nm_region_check_user(memory, size);
    if (*err != 0)
        return NULL;
    pthread_mutex_lock(&mems->lock);
    struct nm_mem *mem = find_over(mems, memory, size);
    if (mem)
        mem->refs++;
    else
        mem = over_new(mems, memory, size, info, err);
    pthread_mutex_unlock(&mems->lock);
    if (mem)
        nm_mem_pools_info(mem, info);
    return mem;
}
