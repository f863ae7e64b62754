/*
 * Allocators: sizes and limits, ids, objects, buffers, extra buffers, and what users leave behind.
 */
#include "models/netmap/netmap.h"
#include "models/netmap/nm_mem.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096 };

/* 10 interfaces become 3 clusters of 4; 5 rings of two pages; 64 buffers. */
static const struct nm_mems_options small = {
    .global = {.pools = {{1024, 10}, {8192, 5}, {2048, 64}}}};
enum { SMALL_IFS = 12 * 1024, SMALL_RINGS = 5 * 8192, SMALL_BUFS = 64 * 2048 };

/* A host's allocators, and the global one with one user. */
struct fixture {
    struct nm_mems *mems;
    struct nm_mem *mem;
};

static struct fixture set_up_with(const struct nm_mems_options *options)
{
    GError *error = NULL;
    struct fixture f = {.mems = nm_mems_new(options, &error)};

    assert_null(error);
    f.mem = nm_mem_find(f.mems, 1);
    assert_non_null(f.mem);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    return f;
}

static struct fixture set_up(void)
{
    return set_up_with(&small);
}

/* The users' objects are all back. */
static void tear_down(struct fixture *f)
{
    assert_int_equal(nm_mem_release(f->mem), 0);
    nm_mem_unref(f->mem);
    nm_mems_free(f->mems);
}

static uint32_t *buffer(struct nm_mem *mem, uint32_t index)
{
    return (uint32_t *)(void *)(nm_mem_buf_base(mem) + (size_t)index * nm_mem_buf_size(mem));
}

/* ---- sizes ---- */

static void pools_are_rounded_to_clusters_and_lie_one_after_the_other(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_pools_info info;

    nm_mem_pools_info(f.mem, &info);
    assert_int_equal(info.nr_mem_id, 1);
    assert_int_equal(info.nr_if_pool_offset, 0);
    assert_int_equal(info.nr_if_pool_objtotal, 12);
    assert_int_equal(info.nr_if_pool_objsize, 1024);
    assert_int_equal(info.nr_ring_pool_offset, SMALL_IFS);
    assert_int_equal(info.nr_ring_pool_objtotal, 5);
    assert_int_equal(info.nr_ring_pool_objsize, 8192);
    assert_int_equal(info.nr_buf_pool_offset, SMALL_IFS + SMALL_RINGS);
    assert_int_equal(info.nr_buf_pool_objtotal, 64);
    assert_int_equal(info.nr_buf_pool_objsize, 2048);
    assert_int_equal(info.nr_memsize, SMALL_IFS + SMALL_RINGS + SMALL_BUFS);
    assert_int_equal(nm_mem_size(f.mem), info.nr_memsize);
    assert_int_equal(nm_mem_buf_total(f.mem), 64);
    assert_int_equal(nm_mem_buf_size(f.mem), 2048);
    assert_ptr_equal(nm_mem_buf_base(f.mem), nm_mem_base(f.mem) + info.nr_buf_pool_offset);
    assert_false(nm_mem_is_private(f.mem));
    tear_down(&f);
}

static void objects_are_rounded_to_64_bytes_and_grouped_until_they_fill_pages(void **state)
{
    (void)state;
    /* 1472 rounds to 1472 = 23 * 64: 64 of them are 23 pages; 65 * 64 bytes: 64 are 65 pages */
    const struct nm_mems_options odd = {.global = {.pools = {{57, 10}, {4097, 2}, {1450, 65}}}};
    struct fixture f = set_up_with(&odd);
    struct nmreq_pools_info info;

    nm_mem_pools_info(f.mem, &info);
    assert_int_equal(info.nr_if_pool_objsize, 64);
    assert_int_equal(info.nr_if_pool_objtotal, 64);
    assert_int_equal(info.nr_ring_pool_objsize, 4160);
    assert_int_equal(info.nr_ring_pool_objtotal, 64);
    assert_int_equal(info.nr_buf_pool_objsize, 1472);
    assert_int_equal(info.nr_buf_pool_objtotal, 128);
    assert_int_equal(info.nr_memsize, 64 * 64 + 64 * 4160 + 128 * 1472);
    tear_down(&f);
}

static void expect_configuration(enum nm_pool pool, uint32_t size, uint32_t num, bool is_good)
{
    struct nm_mems_options options = small;
    GError *error = NULL;

    options.global.pools[pool].size = size;
    options.global.pools[pool].num = num;
    struct nm_mems *mems = nm_mems_new(&options, &error);
    if (is_good) {
        assert_non_null(mems);
        nm_mems_free(mems);
    } else {
        assert_null(mems);
        assert_true(g_error_matches(error, NM_ERROR, EINVAL));
        g_clear_error(&error);
    }
}

static void the_global_allocator_keeps_to_netmaps_limits(void **state)
{
    (void)state;
    static const struct {
        enum nm_pool pool;
        uint32_t min_size, max_size, min_num, max_num;
    } limits[] = {
        {NM_POOL_IF, 1, 4096, 10, 10000}, /* 1 is rounded up to 64, which an interface fits into */
        {NM_POOL_RING, 193, 131072, 2, 1024},
        {NM_POOL_BUF, 1, 65536, 4, 1000000},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        expect_configuration(limits[i].pool, limits[i].min_size, limits[i].min_num, true);
        expect_configuration(limits[i].pool, limits[i].max_size, limits[i].min_num, true);
        expect_configuration(limits[i].pool, limits[i].min_size, limits[i].max_num, true);
        expect_configuration(limits[i].pool, limits[i].min_size - 1, limits[i].min_num, false);
        expect_configuration(limits[i].pool, limits[i].max_size + 1, limits[i].min_num, false);
        expect_configuration(limits[i].pool, limits[i].min_size, limits[i].min_num - 1, false);
        expect_configuration(limits[i].pool, limits[i].min_size, limits[i].max_num + 1, false);
        expect_configuration(limits[i].pool, UINT32_MAX, limits[i].min_num, false);
    }
}

static void the_error_names_the_pool_that_is_out_of_range(void **state)
{
    (void)state;
    struct nm_mems_options options = small;
    GError *error = NULL;

    options.global.pools[NM_POOL_RING].num = 1;
    assert_null(nm_mems_new(&options, &error));
    assert_string_equal(error->message,
                        "global allocator: ring pool: 1 objects of 8192 bytes: Invalid argument");
    g_error_free(error);
}

/* ---- private allocators ---- */

static void expect_private(struct fixture *f, const unsigned wish[6], const uint32_t expected[6])
{
    struct nmreq_pools_info info;
    int err = -1;
    struct nm_mem *mem =
        nm_mem_private_new(f->mems, wish[0], wish[1], wish[2], wish[3], wish[4], wish[5], &err);

    assert_non_null(mem);
    assert_int_equal(err, 0);
    assert_true(nm_mem_is_private(mem));
    nm_mem_pools_info(mem, &info);
    assert_int_equal(info.nr_if_pool_objsize, expected[0]);
    assert_int_equal(info.nr_if_pool_objtotal, expected[1]);
    assert_int_equal(info.nr_ring_pool_objsize, expected[2]);
    assert_int_equal(info.nr_ring_pool_objtotal, expected[3]);
    assert_int_equal(info.nr_buf_pool_objsize, expected[4]);
    assert_int_equal(info.nr_buf_pool_objtotal, expected[5]);
    nm_mem_unref(mem);
}

static void private_allocators_have_room_for_rings_pipes_and_extra_buffers(void **state)
{
    (void)state;
    struct fixture f = set_up();
    /* tx rings, slots, rx rings, slots, extra buffers, pipes -> size and number of each pool */
    static const struct {
        unsigned wish[6];
        uint32_t expected[6];
    } cases[] = {
        /* (0 + 2) * 4 * 2 + 2 = 18 buffers: the minimum is more; 2 interfaces fill a cluster of 4
         */
        {{1, 4, 1, 4, 0, 0}, {1024, 4, 20480, 4, 2048, 4098}},
        /* a VALE port: 10 ifs; 2 + 2 + 16 rings; 10 * 1024 * 2 + 2 = 20482 */
        {{1, 1024, 1, 1024, 0, 2}, {1024, 12, 20480, 20, 2048, 20482}},
        /* 16 rings of 4096: 256 + 16 * 4096 = 65792 = 1028 * 64; 16 of them are 257 pages, 50
         * become 64; (8 + 17) * 4096 * 2 + 2 + 7 = 204809, an even number */
        {{16, 4096, 16, 4096, 7, 2}, {1024, 12, 65792, 64, 2048, 204810}},
        /* tx 2 + 1, rx 5 + 1: 4 + 4; rings 256 + 16 * 2000 = 32256 = 504 * 64, 8 are 63 pages;
         * 9 of them become 16; 6 * 2000 + 3 * 100 + 2 = 12302 */
        {{2, 100, 5, 2000, 0, 0}, {1024, 4, 32256, 16, 2048, 12302}},
        /* interfaces with many rings are larger: 56 + 8 * (300 + 300) = 4856 is too much, but 56 +
         * 8 * (150 + 150) = 2456, rounded 2496 = 39 * 64: 64 are 39 pages */
        {{149, 8, 149, 8, 0, 0}, {2496, 64, 20480, 300, 2048, 4098}},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
        expect_private(&f, cases[i].wish, cases[i].expected);
    tear_down(&f);
}

static void private_allocators_beyond_the_limits_are_refused(void **state)
{
    (void)state;
    struct fixture f = set_up();
    static const unsigned wishes[][6] = {
        {300, 8, 300, 8, 0, 0},             /* the interface is larger than a page */
        {1, 8177, 1, 8, 0, 0},              /* 256 + 16 * 8177 is more than 32 pages */
        {1, 8, 1, 8177, 0, 0},              /* the same, rx */
        {1, 1024, 1, 1024, 999000, 0},      /* more than a million buffers */
        {1, 4, 1, 4, 0, 25},                /* 102 interfaces */
        {1, UINT32_MAX, 1, 4, 0, 0},        /* no number wraps */
        {UINT32_MAX, 4, 1, 4, 0, 0},        /* */
        {1, 4, 1, 4, UINT32_MAX, 0},        /* */
        {1, 4, 1, 4, 0, UINT32_MAX / 4 + 1} /* */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wishes); i++) {
        const unsigned *w = wishes[i];
        int err = 0;
        assert_null(nm_mem_private_new(f.mems, w[0], w[1], w[2], w[3], w[4], w[5], &err));
        assert_int_equal(err, EINVAL);
    }
    int err;
    struct nm_mem *mem = nm_mem_private_new(f.mems, 1, 8176, 1, 8176, 0, 0, &err);
    assert_non_null(mem);
    nm_mem_unref(mem);
    tear_down(&f);
}

static struct nm_mem *minimal_new(struct fixture *f)
{
    int err = -1;
    struct nm_mem *mem = nm_mem_private_new(f->mems, 1, 4, 1, 4, 0, 0, &err);

    assert_non_null(mem);
    assert_int_equal(err, 0);
    return mem;
}

static void ids_go_on_from_the_last_one_given(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_mem *two = minimal_new(&f), *three = minimal_new(&f);

    assert_int_equal(nm_mem_id(two), 2);
    assert_int_equal(nm_mem_id(three), 3);
    nm_mem_unref(two);
    assert_null(nm_mem_find(f.mems, 2));
    struct nm_mem *four = minimal_new(&f);
    assert_int_equal(nm_mem_id(four), 4);
    struct nm_mem *found = nm_mem_find(f.mems, 3);
    assert_ptr_equal(found, three);
    nm_mem_unref(found);
    found = nm_mem_find(f.mems, 0);
    assert_ptr_equal(found, f.mem);
    nm_mem_unref(found);
    assert_null(nm_mem_find(f.mems, 77));
    nm_mem_unref(three);
    nm_mem_unref(four);
    tear_down(&f);
}

static void ids_wrap_past_zero_and_those_in_use(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_mem *two = minimal_new(&f);

    for (uint32_t id = 3; id <= UINT16_MAX; id++) {
        struct nm_mem *mem = minimal_new(&f);
        assert_int_equal(nm_mem_id(mem), id);
        nm_mem_unref(mem);
    }
    struct nm_mem *next = minimal_new(&f);
    assert_int_equal(nm_mem_id(next), 3);
    nm_mem_unref(next);
    nm_mem_unref(two);
    tear_down(&f);
}

static void an_allocator_lives_until_its_last_reference_goes(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_mem *mem = minimal_new(&f);

    assert_ptr_equal(nm_mem_ref(mem), mem);
    nm_mem_unref(mem);
    struct nm_mem *found = nm_mem_find(f.mems, 2);
    assert_ptr_equal(found, mem);
    nm_mem_unref(found);
    nm_mem_unref(mem);
    assert_null(nm_mem_find(f.mems, 2));
    tear_down(&f);
}

/* ---- objects ---- */

static void objects_are_given_out_zeroed_and_lowest_first_until_none_is_left(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint8_t *rings[5];

    memset(nm_mem_base(f.mem) + SMALL_IFS, 0xff, SMALL_RINGS);
    for (unsigned i = 0; i < 5; i++) {
        rings[i] = nm_mem_alloc(f.mem, NM_POOL_RING, 8192);
        assert_ptr_equal(rings[i], nm_mem_base(f.mem) + SMALL_IFS + i * 8192);
        for (unsigned j = 0; j < 8192; j++)
            assert_int_equal(rings[i][j], 0);
    }
    assert_null(nm_mem_alloc(f.mem, NM_POOL_RING, 1));
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_RING), 5);
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_IF), 0);
    nm_mem_free_object(f.mem, NM_POOL_RING, rings[3]);
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_RING), 4);
    assert_ptr_equal(nm_mem_alloc(f.mem, NM_POOL_RING, 1), rings[3]);
    for (unsigned i = 0; i < 5; i++)
        nm_mem_free_object(f.mem, NM_POOL_RING, rings[i]);
    tear_down(&f);
}

static void an_object_larger_than_the_pools_is_refused(void **state)
{
    (void)state;
    struct fixture f = set_up();

    assert_null(nm_mem_alloc(f.mem, NM_POOL_IF, 1025));
    assert_null(nm_mem_alloc(f.mem, NM_POOL_RING, 8193));
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_IF), 0);
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_RING), 0);
    tear_down(&f);
}

/* ---- buffers ---- */

static void the_first_buffer_given_out_is_number_two(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint32_t got[3];

    assert_true(nm_mem_alloc_bufs(f.mem, got, 3));
    assert_int_equal(got[0], 2);
    assert_int_equal(got[1], 3);
    assert_int_equal(got[2], 4);
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 3);
    assert_true(nm_mem_free_buf(f.mem, 3));
    assert_true(nm_mem_alloc_bufs(f.mem, got, 2));
    assert_int_equal(got[0], 3);
    assert_int_equal(got[1], 5);
    for (uint32_t i = 2; i <= 5; i++)
        assert_true(nm_mem_free_buf(f.mem, i));
    tear_down(&f);
}

static void buffers_come_all_or_none(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint32_t got[63];

    assert_false(nm_mem_alloc_bufs(f.mem, got, 63));
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 0);
    assert_true(nm_mem_alloc_bufs(f.mem, got, 62));
    assert_int_equal(got[61], 63);
    assert_false(nm_mem_alloc_bufs(f.mem, got, 1));
    assert_true(nm_mem_alloc_bufs(f.mem, got, 0));
    for (uint32_t i = 2; i < 64; i++)
        assert_true(nm_mem_free_buf(f.mem, i));
    tear_down(&f);
}

static void buffers_that_are_reserved_free_or_beyond_the_pool_cannot_be_freed(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint32_t got;

    assert_true(nm_mem_alloc_bufs(f.mem, &got, 1));
    assert_false(nm_mem_free_buf(f.mem, 0));
    assert_false(nm_mem_free_buf(f.mem, 1));
    assert_false(nm_mem_free_buf(f.mem, 3));
    assert_false(nm_mem_free_buf(f.mem, 64));
    assert_false(nm_mem_free_buf(f.mem, UINT32_MAX));
    assert_true(nm_mem_free_buf(f.mem, 2));
    assert_false(nm_mem_free_buf(f.mem, 2));
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 0);
    tear_down(&f);
}

/* ---- extra buffers ---- */

static void extra_buffers_are_linked_through_their_first_word(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint32_t head = 77;

    assert_int_equal(nm_mem_alloc_list(f.mem, 3, &head), 3);
    assert_int_equal(head, 4);
    assert_int_equal(*buffer(f.mem, 4), 3);
    assert_int_equal(*buffer(f.mem, 3), 2);
    assert_int_equal(*buffer(f.mem, 2), 0);
    assert_int_equal(nm_mem_free_list(f.mem, head), 3);
    assert_int_equal(*buffer(f.mem, 4), 0);
    assert_int_equal(*buffer(f.mem, 3), 0);
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 0);
    tear_down(&f);
}

static void fewer_extra_buffers_come_when_the_pool_runs_out(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint32_t head, none;

    assert_int_equal(nm_mem_alloc_list(f.mem, UINT32_MAX, &head), 62);
    assert_int_equal(head, 63);
    assert_int_equal(nm_mem_alloc_list(f.mem, 1, &none), 0);
    assert_int_equal(none, 0);
    assert_int_equal(nm_mem_alloc_list(f.mem, 0, &none), 0);
    assert_int_equal(nm_mem_free_list(f.mem, head), 62);
    assert_int_equal(nm_mem_free_list(f.mem, 0), 0);
    tear_down(&f);
}

/* A list of buffers 5, 4, 3, 2 whose link from 4 is overwritten. */
static void expect_freed(uint32_t link, uint32_t n_freed)
{
    struct fixture f = set_up();
    uint32_t head;

    assert_int_equal(nm_mem_alloc_list(f.mem, 4, &head), 4);
    *buffer(f.mem, 4) = link;
    assert_int_equal(nm_mem_free_list(f.mem, head), n_freed);
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 4 - n_freed);
    assert_int_equal(nm_mem_release(f.mem), 4 - n_freed);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    tear_down(&f);
}

static void the_walk_along_extra_buffers_stops_at_a_bad_index_or_a_double_free(void **state)
{
    (void)state;
    expect_freed(3, 4);
    expect_freed(0, 2);
    expect_freed(1, 2);          /* reserved */
    expect_freed(64, 2);         /* beyond the pool */
    expect_freed(UINT32_MAX, 2); /* far beyond */
    expect_freed(5, 2);          /* a loop */
    expect_freed(4, 2);          /* itself */
    expect_freed(9, 2);          /* not allocated */
    expect_freed(2, 3);          /* a short cut: 3 is leaked */
}

/* ---- users ---- */

static void what_the_last_user_leaves_behind_is_reclaimed(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint32_t got[10], head;

    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_true(nm_mem_alloc_bufs(f.mem, got, 10));
    assert_int_equal(nm_mem_alloc_list(f.mem, 5, &head), 5);
    assert_non_null(nm_mem_alloc(f.mem, NM_POOL_IF, 56));
    assert_non_null(nm_mem_alloc(f.mem, NM_POOL_RING, 256));
    assert_int_equal(nm_mem_release(f.mem), 0); /* another user is there */
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 15);
    assert_int_equal(nm_mem_release(f.mem), 17);
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 0);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_true(nm_mem_alloc_bufs(f.mem, got, 1));
    assert_int_equal(got[0], 2);
    assert_true(nm_mem_free_buf(f.mem, 2));
    tear_down(&f);
}

static void the_region_stays_where_it_is_between_users(void **state)
{
    (void)state;
    struct fixture f = set_up();
    uint8_t *base = nm_mem_base(f.mem);
    int fd = nm_mem_fd(f.mem);

    base[100] = 42;
    assert_int_equal(nm_mem_release(f.mem), 0);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_ptr_equal(nm_mem_base(f.mem), base);
    assert_int_equal(nm_mem_fd(f.mem), fd);
    assert_int_equal(base[100], 42);
    tear_down(&f);
}

static void nothing_is_made_before_the_first_user(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_mem *mem = minimal_new(&f);

    assert_null(nm_mem_base(mem));
    assert_null(nm_mem_buf_base(mem));
    assert_int_equal(nm_mem_fd(mem), -1);
    assert_int_equal(nm_mem_file_size(mem), 0);
    assert_int_equal(nm_mem_used(mem, NM_POOL_BUF), 0);
    assert_int_equal(nm_mem_size(mem), PAGE + 4 * 20480 + 4098 * 2048);
    nm_mem_unref(mem);
    tear_down(&f);
}

/* ---- threads ---- */

enum { N_THREADS = 4, N_ROUNDS = 400, N_EACH = 12 };

struct worker {
    pthread_t thread;
    struct nm_mems *mems;
    uint32_t mark;
    unsigned n_failed;
};

/* Each buffer is marked by the thread that has it: nobody else has it too. */
static void *allocate_and_free(void *data)
{
    struct worker *w = data;

    for (unsigned round = 0; round < N_ROUNDS; round++) {
        struct nm_mem *mem = nm_mem_find(w->mems, 1);
        uint32_t got[N_EACH], head;
        w->n_failed += nm_mem_finalize(mem) != 0;
        w->n_failed += !nm_mem_alloc_bufs(mem, got, N_EACH);
        for (unsigned i = 0; i < N_EACH; i++)
            buffer(mem, got[i])[1] = w->mark;
        w->n_failed += nm_mem_alloc_list(mem, 2, &head) != 2;
        void *ring = nm_mem_alloc(mem, NM_POOL_RING, 8192);
        w->n_failed += ring == NULL;
        if (ring)
            nm_mem_free_object(mem, NM_POOL_RING, ring);
        for (unsigned i = 0; i < N_EACH; i++) {
            w->n_failed += buffer(mem, got[i])[1] != w->mark;
            w->n_failed += !nm_mem_free_buf(mem, got[i]);
        }
        w->n_failed += nm_mem_free_list(mem, head) != 2;
        w->n_failed += nm_mem_release(mem) != 0;
        nm_mem_unref(mem);
    }
    return NULL;
}

static void threads_share_an_allocator_without_sharing_objects(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct worker workers[N_THREADS];

    for (uint32_t i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){.mems = f.mems, .mark = i + 1};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, allocate_and_free, &workers[i]),
                         0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].n_failed, 0);
    }
    assert_int_equal(nm_mem_used(f.mem, NM_POOL_BUF), 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pools_are_rounded_to_clusters_and_lie_one_after_the_other),
        cmocka_unit_test(objects_are_rounded_to_64_bytes_and_grouped_until_they_fill_pages),
        cmocka_unit_test(the_global_allocator_keeps_to_netmaps_limits),
        cmocka_unit_test(the_error_names_the_pool_that_is_out_of_range),
        cmocka_unit_test(private_allocators_have_room_for_rings_pipes_and_extra_buffers),
        cmocka_unit_test(private_allocators_beyond_the_limits_are_refused),
        cmocka_unit_test(ids_go_on_from_the_last_one_given),
        cmocka_unit_test(ids_wrap_past_zero_and_those_in_use),
        cmocka_unit_test(an_allocator_lives_until_its_last_reference_goes),
        cmocka_unit_test(objects_are_given_out_zeroed_and_lowest_first_until_none_is_left),
        cmocka_unit_test(an_object_larger_than_the_pools_is_refused),
        cmocka_unit_test(the_first_buffer_given_out_is_number_two),
        cmocka_unit_test(buffers_come_all_or_none),
        cmocka_unit_test(buffers_that_are_reserved_free_or_beyond_the_pool_cannot_be_freed),
        cmocka_unit_test(extra_buffers_are_linked_through_their_first_word),
        cmocka_unit_test(fewer_extra_buffers_come_when_the_pool_runs_out),
        cmocka_unit_test(the_walk_along_extra_buffers_stops_at_a_bad_index_or_a_double_free),
        cmocka_unit_test(what_the_last_user_leaves_behind_is_reclaimed),
        cmocka_unit_test(the_region_stays_where_it_is_between_users),
        cmocka_unit_test(nothing_is_made_before_the_first_user),
        cmocka_unit_test(threads_share_an_allocator_without_sharing_objects),
    };
    return cmocka_run_group_tests_name("models/netmap/nm_mem", tests, NULL, NULL);
}
