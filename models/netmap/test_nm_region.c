/*
 * What lies under allocators: files of all kinds, too little memory, and a user's own.
 */
#include "models/netmap/netmap.h"
#include "models/netmap/nm_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096 };

/* 12 interfaces, 5 rings and 64 buffers take 184320 bytes. */
static const struct nm_mems_options small = {
    .global = {.pools = {{1024, 12}, {8192, 5}, {2048, 64}}}};
enum { SMALL_BEFORE_BUFS = 12 * 1024 + 5 * 8192, SMALL_SIZE = 184320, SMALL_FILE = 262144 };

struct fixture {
    struct nm_mems *mems;
    struct nm_mem *mem; /* the global one */
};

static struct fixture set_up_with(const struct nm_mems_options *options)
{
    struct fixture f = {.mems = nm_mems_new(options, NULL)};

    assert_non_null(f.mems);
    f.mem = nm_mem_find(f.mems, 1);
    return f;
}

static void tear_down(struct fixture *f)
{
    nm_mem_unref(f->mem);
    nm_mems_free(f->mems);
}

/* ---- files ---- */

static void the_file_is_a_power_of_two_long_and_what_lies_behind_the_pools_is_zero(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);
    struct stat st;

    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_int_equal(nm_mem_size(f.mem), SMALL_SIZE);
    assert_int_equal(nm_mem_file_size(f.mem), SMALL_FILE);
    assert_int_equal(fstat(nm_mem_fd(f.mem), &st), 0);
    assert_int_equal(st.st_size, SMALL_FILE);
    for (unsigned i = SMALL_SIZE; i < SMALL_FILE; i++)
        assert_int_equal(nm_mem_base(f.mem)[i], 0);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

static void pools_that_are_a_power_of_two_fill_the_file(void **state)
{
    (void)state;
    struct nm_mems_options options = small;

    options.global.pools[NM_POOL_RING].num = 6;
    options.global.pools[NM_POOL_BUF].num = 34;
    struct fixture f = set_up_with(&options);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_int_equal(nm_mem_size(f.mem), 131072);
    assert_int_equal(nm_mem_file_size(f.mem), 131072);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

static void whoever_maps_the_file_sees_the_same_bytes(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);

    assert_int_equal(nm_mem_finalize(f.mem), 0);
    uint8_t *other =
        mmap(NULL, SMALL_FILE, PROT_READ | PROT_WRITE, MAP_SHARED, nm_mem_fd(f.mem), 0);
    assert_ptr_not_equal(other, MAP_FAILED);
    nm_mem_base(f.mem)[SMALL_SIZE - 1] = 17;
    assert_int_equal(other[SMALL_SIZE - 1], 17);
    other[0] = 18;
    assert_int_equal(nm_mem_base(f.mem)[0], 18);
    munmap(other, SMALL_FILE);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

static void who_has_the_descriptor_of_a_memfd_cannot_change_its_length(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);

    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_int_equal(ftruncate(nm_mem_fd(f.mem), 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(nm_mem_fd(f.mem), (off_t)2 * SMALL_FILE), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

static void pages_nobody_has_touched_take_no_memory(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);
    struct stat st;
    uint32_t got[40], head;

    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_true(nm_mem_alloc_bufs(f.mem, got, 40));
    assert_int_equal(fstat(nm_mem_fd(f.mem), &st), 0);
    assert_int_equal(st.st_blocks, 0);
    assert_int_equal(nm_mem_alloc_list(f.mem, 1, &head), 1); /* its link is one page */
    assert_int_equal(fstat(nm_mem_fd(f.mem), &st), 0);
    assert_int_equal(st.st_blocks, PAGE / 512);
    assert_int_equal(nm_mem_release(f.mem), 41);
    tear_down(&f);
}

static void huge_pages_are_taken_where_there_are_any(void **state)
{
    (void)state;
    struct nm_mems_options options = small;
    struct stat st;

    options.hugepages = true;
    struct fixture f = set_up_with(&options);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_int_equal(fstat(nm_mem_fd(f.mem), &st), 0);
    /* whether this machine has one free is not ours to say */
    assert_int_equal(st.st_size, MAX(SMALL_FILE, st.st_blksize));
    assert_int_equal(nm_mem_file_size(f.mem), st.st_size);
    memset(nm_mem_base(f.mem), 1, (size_t)st.st_size);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

static void a_file_in_a_folder_is_nameless_and_has_its_room_reserved(void **state)
{
    (void)state;
    g_autofree char *dir = g_dir_make_tmp("nm-region-XXXXXX", NULL);
    struct nm_mems_options options = small;
    struct stat st;

    options.dir = dir;
    struct fixture f = set_up_with(&options);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_int_equal(fstat(nm_mem_fd(f.mem), &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_size, SMALL_FILE);
    assert_true(st.st_blocks >= SMALL_FILE / 512); /* and what the file system adds */
    assert_int_equal(rmdir(dir), 0);               /* so it is empty */
    nm_mem_base(f.mem)[SMALL_FILE - 1] = 1;
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

static void a_folder_that_is_not_there_is_the_first_users_error(void **state)
{
    (void)state;
    struct nm_mems_options options = small;

    options.dir = "/nonexistent/folder";
    struct fixture f = set_up_with(&options);
    assert_int_equal(nm_mem_finalize(f.mem), ENOENT);
    assert_int_equal(nm_mem_finalize(f.mem), ENOENT);
    assert_null(nm_mem_base(f.mem));
    assert_int_equal(nm_mem_buf_total(f.mem), 64);
    tear_down(&f);
}

/* ---- too little ---- */

/* Runs what follows with a soft limit, which restore() lifts again. */
static struct rlimit limit(int resource, rlim_t soft)
{
    struct rlimit before, now;

    assert_int_equal(getrlimit(resource, &before), 0);
    now = before;
    now.rlim_cur = soft;
    assert_int_equal(setrlimit(resource, &now), 0);
    return before;
}

static void restore(int resource, const struct rlimit *before)
{
    assert_int_equal(setrlimit(resource, before), 0);
}

/* With at most `bytes` of a file: how many buffers there are, or 0 for ENOMEM. */
static uint32_t buffers_within(struct fixture *f, rlim_t bytes)
{
    struct rlimit before = limit(RLIMIT_FSIZE, bytes);
    int err = nm_mem_finalize(f->mem);

    restore(RLIMIT_FSIZE, &before);
    if (err == ENOMEM)
        return 0;
    assert_int_equal(err, 0);
    assert_true(nm_mem_file_size(f->mem) <= bytes);
    uint32_t n = nm_mem_buf_total(f->mem);
    assert_int_equal(nm_mem_size(f->mem), SMALL_BEFORE_BUFS + n * 2048);
    return n;
}

static void buffers_are_halved_until_the_region_fits(void **state)
{
    (void)state;
    /* what a limit leaves: 53248 bytes are not for buffers, and the file is a power of two */
    static const struct {
        rlim_t bytes;
        uint32_t n_bufs;
    } cases[] = {{SMALL_FILE, 64}, {SMALL_FILE - 1, 32}, {131072, 32}, {131071, 4}, {65536, 4}};

    signal(SIGXFSZ, SIG_IGN);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct fixture f = set_up_with(&small);
        uint32_t got[62];
        assert_int_equal(buffers_within(&f, cases[i].bytes), cases[i].n_bufs);
        assert_true(nm_mem_alloc_bufs(f.mem, got, cases[i].n_bufs - 2));
        assert_int_equal(got[cases[i].n_bufs - 3], cases[i].n_bufs - 1);
        assert_false(nm_mem_alloc_bufs(f.mem, got, 1));
        assert_int_equal(nm_mem_release(f.mem), cases[i].n_bufs - 2);
        tear_down(&f);
    }
    signal(SIGXFSZ, SIG_DFL);
}

static void without_room_for_any_buffer_there_is_no_region_until_there_is_memory_again(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(buffers_within(&f, 65535), 0);
    assert_int_equal(nm_mem_buf_total(f.mem), 64);
    assert_int_equal(buffers_within(&f, SMALL_FILE), 64);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);

    struct nm_mems_options options = small;
    options.global.pools[NM_POOL_RING].num = 6;
    f = set_up_with(&options);
    assert_int_equal(buffers_within(&f, 65536), 0); /* the two reserved ones would fit */
    tear_down(&f);
    signal(SIGXFSZ, SIG_DFL);
}

static void what_the_machine_does_not_have_is_not_promised(void **state)
{
    (void)state;
    struct nm_mems_options options = small;

    /* 61 GiB of buffers; whether fewer come of it depends on the machine's memory */
    options.global.pools[NM_POOL_BUF].size = 65536;
    options.global.pools[NM_POOL_BUF].num = 1000000;
    struct fixture f = set_up_with(&options);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents("/proc/meminfo", &text, NULL, NULL));
    uint64_t total = g_ascii_strtoull(strstr(text, "MemTotal:") + 9, NULL, 10) * 1024;
    assert_true(nm_mem_size(f.mem) <= total);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

static void without_a_descriptor_left_the_error_says_so(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);
    int lowest = dup(0);

    assert_true(lowest >= 0);
    close(lowest);
    struct rlimit before = limit(RLIMIT_NOFILE, (rlim_t)lowest);
    int err = nm_mem_finalize(f.mem);
    restore(RLIMIT_NOFILE, &before);
    assert_int_equal(err, EMFILE);
    assert_int_equal(nm_mem_finalize(f.mem), 0);
    assert_int_equal(nm_mem_release(f.mem), 0);
    tear_down(&f);
}

/* ---- a user's memory ---- */

/* 64 pages, with one before and one behind that cannot be written. */
enum { USER_PAGES = 64, USER_SIZE = USER_PAGES * PAGE };

static uint8_t *user_memory_new(void)
{
    uint8_t *at = mmap(NULL, USER_SIZE + 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(at, MAP_FAILED);
    assert_int_equal(mprotect(at + PAGE, USER_SIZE, PROT_READ | PROT_WRITE), 0);
    return at + PAGE;
}

static void user_memory_free(uint8_t *at)
{
    munmap(at - PAGE, USER_SIZE + 2 * PAGE);
}

/* 4 interfaces of 1 KiB, 2 rings of a page, 3 buffers of 1536 bytes (8 in three pages). */
static struct nmreq_pools_info user_wish(void)
{
    return (struct nmreq_pools_info){
        .nr_memsize = USER_SIZE,
        .nr_if_pool_objtotal = 4,
        .nr_if_pool_objsize = 1000,
        .nr_ring_pool_objtotal = 2,
        .nr_ring_pool_objsize = PAGE,
        .nr_buf_pool_objtotal = 4,
        .nr_buf_pool_objsize = 1500,
    };
}

static void a_users_memory_is_filled_with_buffers_to_the_end(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);
    uint8_t *memory = user_memory_new();
    struct nmreq_pools_info info = user_wish();
    int err = -1;
    struct nm_mem *mem = nm_mem_ext_new(f.mems, memory, &info, &err);

    assert_non_null(mem);
    assert_int_equal(err, 0);
    assert_int_equal(info.nr_mem_id, 2);
    assert_int_equal(info.nr_if_pool_offset, 0);
    assert_int_equal(info.nr_if_pool_objtotal, 4);
    assert_int_equal(info.nr_if_pool_objsize, 1024);
    assert_int_equal(info.nr_ring_pool_offset, PAGE);
    assert_int_equal(info.nr_ring_pool_objtotal, 2);
    assert_int_equal(info.nr_ring_pool_objsize, PAGE);
    assert_int_equal(info.nr_buf_pool_offset, 3 * PAGE);
    assert_int_equal(info.nr_buf_pool_objsize, 1536);
    assert_int_equal(info.nr_buf_pool_objtotal, (USER_SIZE - 3 * PAGE) / 1536); /* 162 */
    assert_int_equal(info.nr_memsize, USER_SIZE);
    assert_true(nm_mem_is_private(mem));

    uint32_t got[160], head;
    assert_int_equal(nm_mem_finalize(mem), 0);
    assert_ptr_equal(nm_mem_base(mem), memory);
    assert_int_equal(nm_mem_fd(mem), -1);
    assert_int_equal(nm_mem_file_size(mem), 0);
    assert_ptr_equal(nm_mem_alloc(mem, NM_POOL_RING, PAGE), memory + PAGE);
    assert_true(nm_mem_alloc_bufs(mem, got, 159));
    assert_int_equal(nm_mem_alloc_list(mem, 5, &head), 1);
    assert_int_equal(head, 161);
    memset(nm_mem_buf_base(mem) + 161ul * 1536, 1, 1536); /* the page behind cannot be written */
    assert_int_equal(nm_mem_release(mem), 161);
    nm_mem_unref(mem);
    user_memory_free(memory);
    tear_down(&f);
}

static void the_same_memory_again_is_the_same_allocator(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);
    uint8_t *memory = user_memory_new();
    struct nmreq_pools_info info = user_wish(), again = {.nr_memsize = USER_SIZE + 77},
                            half = user_wish();
    int err;
    struct nm_mem *mem = nm_mem_ext_new(f.mems, memory, &info, &err);

    assert_ptr_equal(nm_mem_ext_new(f.mems, memory, &again, &err), mem);
    assert_int_equal(err, 0);
    assert_memory_equal(&again, &info, sizeof(info));
    half.nr_memsize = USER_SIZE / 2;
    struct nm_mem *other = nm_mem_ext_new(f.mems, memory, &half, &err);
    assert_ptr_not_equal(other, mem);
    assert_int_equal(nm_mem_id(other), 3);
    nm_mem_unref(other);
    nm_mem_unref(mem);
    nm_mem_unref(mem);
    assert_null(nm_mem_find(f.mems, 2));
    info = user_wish();
    mem = nm_mem_ext_new(f.mems, memory, &info, &err);
    assert_int_equal(nm_mem_id(mem), 4);
    nm_mem_unref(mem);
    user_memory_free(memory);
    tear_down(&f);
}

static void what_is_not_said_about_a_users_pools_is_the_private_minimum(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);
    /* a cluster of 4 interfaces, 4 rings of 5 pages, 4098 buffers */
    enum { MINIMUM = PAGE + 4 * 5 * PAGE + 4098 * 2048 };
    struct nmreq_pools_info info = {.nr_memsize = MINIMUM};
    uint8_t *memory =
        mmap(NULL, MINIMUM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int err = -1;

    assert_ptr_not_equal(memory, MAP_FAILED);
    struct nm_mem *mem = nm_mem_ext_new(f.mems, memory, &info, &err);
    assert_non_null(mem);
    assert_int_equal(info.nr_if_pool_objtotal, 4);
    assert_int_equal(info.nr_if_pool_objsize, 1024);
    assert_int_equal(info.nr_ring_pool_objtotal, 4);
    assert_int_equal(info.nr_ring_pool_objsize, 20480);
    assert_int_equal(info.nr_buf_pool_objtotal, 4098);
    assert_int_equal(info.nr_buf_pool_objsize, 2048);
    nm_mem_unref(mem);
    info = (struct nmreq_pools_info){.nr_memsize = MINIMUM - 1};
    assert_null(nm_mem_ext_new(f.mems, memory, &info, &err));
    assert_int_equal(err, ENOMEM);
    munmap(memory, MINIMUM);
    tear_down(&f);
}

static void expect_refused(struct fixture *f, uint8_t *memory, struct nmreq_pools_info info,
                           int expected)
{
    struct nmreq_pools_info before = info;
    int err = 0;

    assert_null(nm_mem_ext_new(f->mems, memory, &info, &err));
    assert_int_equal(err, expected);
    assert_memory_equal(&info, &before, sizeof(info));
}

static void memory_that_cannot_serve_is_refused(void **state)
{
    (void)state;
    struct fixture f = set_up_with(&small);
    uint8_t *memory = user_memory_new();
    struct nmreq_pools_info info = user_wish();

    expect_refused(&f, memory - PAGE, info, EFAULT); /* cannot be written */
    expect_refused(&f, memory + PAGE, info, EFAULT); /* nor its last page */
    expect_refused(&f, NULL, info, EFAULT);
    expect_refused(&f, memory + 64, info, EINVAL);
    info.nr_memsize = PAGE - 1;
    expect_refused(&f, memory, info, EINVAL);
    info.nr_memsize = UINT64_MAX;
    expect_refused(&f, memory, info, EFAULT);
    info.nr_memsize = (UINT64_C(1) << 46);
    expect_refused(&f, memory, info, EFAULT);
    info = user_wish();
    info.nr_if_pool_objtotal = 101;
    expect_refused(&f, memory, info, EINVAL);
    info = user_wish();
    info.nr_ring_pool_objsize = 131073;
    expect_refused(&f, memory, info, EINVAL);
    info = user_wish();
    info.nr_buf_pool_objtotal = 162; /* rounded to 168 */
    expect_refused(&f, memory, info, ENOMEM);
    assert_int_equal(mprotect(memory + 9 * (size_t)PAGE, PAGE, PROT_NONE), 0);
    expect_refused(&f, memory, user_wish(), EFAULT);
    user_memory_free(memory);
    expect_refused(&f, memory, user_wish(), EFAULT);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_is_a_power_of_two_long_and_what_lies_behind_the_pools_is_zero),
        cmocka_unit_test(pools_that_are_a_power_of_two_fill_the_file),
        cmocka_unit_test(whoever_maps_the_file_sees_the_same_bytes),
        cmocka_unit_test(who_has_the_descriptor_of_a_memfd_cannot_change_its_length),
        cmocka_unit_test(pages_nobody_has_touched_take_no_memory),
        cmocka_unit_test(huge_pages_are_taken_where_there_are_any),
        cmocka_unit_test(a_file_in_a_folder_is_nameless_and_has_its_room_reserved),
        cmocka_unit_test(a_folder_that_is_not_there_is_the_first_users_error),
        cmocka_unit_test(buffers_are_halved_until_the_region_fits),
        cmocka_unit_test(
            without_room_for_any_buffer_there_is_no_region_until_there_is_memory_again),
        cmocka_unit_test(what_the_machine_does_not_have_is_not_promised),
        cmocka_unit_test(without_a_descriptor_left_the_error_says_so),
        cmocka_unit_test(a_users_memory_is_filled_with_buffers_to_the_end),
        cmocka_unit_test(the_same_memory_again_is_the_same_allocator),
        cmocka_unit_test(what_is_not_said_about_a_users_pools_is_the_private_minimum),
        cmocka_unit_test(memory_that_cannot_serve_is_refused),
    };
    return cmocka_run_group_tests_name("models/netmap/nm_region", tests, NULL, NULL);
}
