/* Shared memory: backing, allocation, the guest's map. */
#include "qtest_client/guest_memory.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096 };

static struct guest_region *region_of(uint64_t size)
{
    GError *error = NULL;
    struct guest_region *r = guest_region_new("test", size, GUEST_HUGEPAGES_OFF, &error);

    assert_non_null(r);
    assert_null(error);
    return r;
}

static void assert_error(GError **error, int code, const char *part)
{
    assert_non_null(*error);
    assert_int_equal((*error)->domain, GUEST_MEMORY_ERROR);
    assert_int_equal((*error)->code, code);
    if (!strstr((*error)->message, part)) {
        fail_msg("'%s' is not in '%s'", part, (*error)->message);
    }
    g_clear_error(error);
}

static void a_region_is_zeroed_shared_and_aligned_to_its_size(void **state)
{
    struct guest_region *r = region_of(1 << 20);
    static const uint8_t zero[PAGE];

    (void)state;
    assert_int_equal(r->size, 1 << 20);
    assert_int_equal(r->page_size, PAGE);
    assert_int_equal((uintptr_t)r->host % (1 << 20), 0);
    assert_true(r->gpa == GUEST_UNPLACED);
    assert_memory_equal(r->host, zero, PAGE);
    uint8_t *other = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, r->fd, 0);
    r->host[5] = 0xa5;
    assert_int_equal(other[5], 0xa5);
    munmap(other, PAGE);
    guest_region_free(r);
}

static void memory_of_somebody_else_is_shown_and_left_alone(void **state)
{
    struct guest_region *owner = region_of(4 * PAGE);
    struct guest_memory *map = guest_memory_new();
    GError *error = NULL;
    uint64_t offset;

    (void)state;
    struct guest_region *r =
        guest_region_new_over("shown", owner->host + PAGE, 2 * PAGE, owner->fd, &error);
    assert_null(error);
    assert_true(guest_memory_place(map, r, 0x10000, &error));
    assert_ptr_equal(guest_memory_host(map, 0x10004, 4), owner->host + PAGE + 4);
    assert_null(guest_memory_host(map, 0x10000, 2 * PAGE + 1));
    assert_false(guest_region_alloc(r, 16, 0, &offset, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, "'shown'");
    guest_memory_free(map);
    guest_region_free(r);
    owner->host[PAGE] = 1; /* still mapped, and its descriptor still open */
    assert_int_equal(ftruncate(owner->fd, 4 * PAGE), 0);
    assert_null(guest_region_new_over("odd", owner->host + 1, PAGE, -1, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_INVALID, "'odd'");
    assert_null(guest_region_new_over("odd", owner->host, PAGE + 1, -1, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_INVALID, "'odd'");
    guest_region_free(owner);
}

static void a_file_can_be_seen_through_a_second_region(void **state)
{
    struct guest_region *owner = region_of(4 * PAGE);
    GError *error = NULL;
    uint64_t offset;

    (void)state;
    struct guest_region *r = guest_region_new_from_fd("view", owner->fd, 2 * PAGE - 1, &error);
    assert_null(error);
    assert_int_equal(r->size, 2 * PAGE);
    assert_ptr_not_equal(r->host, owner->host);
    r->host[PAGE + 1] = 7;
    assert_int_equal(owner->host[PAGE + 1], 7);
    assert_false(guest_region_alloc(r, 16, 0, &offset, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, "'view'");
    guest_region_free(r);
    /* a file that is too short is made longer, and is not cut when it is longer */
    r = guest_region_new_from_fd("longer", owner->fd, 8 * PAGE, &error);
    assert_null(error);
    r->host[8 * PAGE - 1] = 1;
    guest_region_free(r);
    assert_int_equal(lseek(owner->fd, 0, SEEK_END), 8 * PAGE);
    r = guest_region_new_from_fd("shorter", owner->fd, PAGE, &error);
    assert_null(error);
    guest_region_free(r);
    assert_int_equal(lseek(owner->fd, 0, SEEK_END), 8 * PAGE);
    assert_null(guest_region_new_from_fd("closed", -1, PAGE, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_SYSTEM, "'closed'");
    assert_null(guest_region_new_from_fd("none", owner->fd, 0, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_INVALID, "'none'");
    guest_region_free(owner);
}

static void sizes_that_cannot_be_are_refused(void **state)
{
    GError *error = NULL;

    (void)state;
    assert_null(guest_region_new("none", 0, GUEST_HUGEPAGES_OFF, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_INVALID, "'none'");
    assert_null(guest_region_new("all", UINT64_MAX, GUEST_HUGEPAGES_OFF, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_INVALID, "'all'");
    assert_null(
        guest_region_new_in_dir("dir", 4096, "/nonexistent/folder", GUEST_HUGEPAGES_OFF, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_SYSTEM, "/nonexistent/folder");
}

static void a_full_file_system_is_reported_not_hit_later(void **state)
{
    GError *error = NULL;

    (void)state;
    /* more than any machine that runs this has */
    assert_null(guest_region_new("vast", UINT64_C(1) << 60, GUEST_HUGEPAGES_OFF, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, "no room for 1152921504606846976 bytes");
    assert_null(
        guest_region_new_in_dir("shm", UINT64_C(1) << 60, "/dev/shm", GUEST_HUGEPAGES_OFF, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, "/dev/shm has no room for");
}

/* ---- huge pages ---- */

/* A number out of /proc/meminfo. */
static uint64_t meminfo(const char *line)
{
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents("/proc/meminfo", &text, NULL, NULL));
    const char *at = strstr(text, line);
    return at ? g_ascii_strtoull(at + strlen(line), NULL, 10) : 0;
}

static uint64_t hugepage_bytes(void)
{
    return meminfo("Hugepagesize:") * 1024;
}

/* Also if another run reserves some meanwhile. */
static uint64_t more_than_the_pool_has(void)
{
    return (meminfo("HugePages_Free:") + 64) * hugepage_bytes();
}

static void need_free_hugepages(unsigned n)
{
    if (meminfo("HugePages_Free:") < n) {
        print_message("fewer than %u huge pages are free: ci/with-hugepages.sh reserves some\n", n);
        skip();
    }
}

static void assert_is_huge(struct guest_region *r, uint64_t n_pages)
{
    assert_non_null(r);
    assert_int_equal(r->page_size, hugepage_bytes());
    assert_int_equal(r->size, n_pages * hugepage_bytes());
    assert_int_equal((uintptr_t)r->host % hugepage_bytes(), 0);
    assert_null(r->note);
    r->host[r->size - 1] = 0xa5;
    uint8_t *other = mmap(NULL, r->size, PROT_READ, MAP_SHARED, r->fd, 0);
    assert_int_equal(other[r->size - 1], 0xa5);
    munmap(other, r->size);
}

static void assert_fell_back(struct guest_region *r, const char *why)
{
    assert_non_null(r);
    assert_int_equal(r->page_size, PAGE);
    assert_non_null(r->note);
    assert_ptr_equal(strstr(r->note, "using ordinary pages: "), r->note);
    if (!strstr(r->note, why)) {
        fail_msg("'%s' is not in '%s'", why, r->note);
    }
    assert_null(strchr(r->note, '\n'));
    guest_region_free(r);
}

static void a_memfd_can_have_huge_pages(void **state)
{
    GError *error = NULL;

    (void)state;
    need_free_hugepages(1);
    struct guest_region *r = guest_region_new("huge", 1, GUEST_HUGEPAGES_REQUIRE, &error);
    assert_is_huge(r, 1);
    guest_region_free(r);
    r = guest_region_new("huge", 1, GUEST_HUGEPAGES_PREFER, &error);
    assert_is_huge(r, 1);
    guest_region_free(r);
}

static void a_memfd_without_huge_pages_to_be_had_says_how_to_get_some(void **state)
{
    GError *error = NULL;
    uint64_t size = more_than_the_pool_has();

    (void)state;
    assert_null(guest_region_new("huge", size, GUEST_HUGEPAGES_REQUIRE, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_HUGEPAGES, "echo 64 > /proc/sys/vm/nr_hugepages");
    assert_fell_back(guest_region_new("huge", size, GUEST_HUGEPAGES_PREFER, &error),
                     "echo 64 > /proc/sys/vm/nr_hugepages");
}

static void a_folder_that_is_no_hugetlbfs_has_no_huge_pages(void **state)
{
    GError *error = NULL;

    (void)state;
    assert_null(guest_region_new_in_dir("f", PAGE, "/dev/shm", GUEST_HUGEPAGES_REQUIRE, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_HUGEPAGES, "mount -t hugetlbfs none /dev/shm");
    assert_fell_back(guest_region_new_in_dir("f", PAGE, "/dev/shm", GUEST_HUGEPAGES_PREFER, &error),
                     "/dev/shm is no hugetlbfs");
}

/* Mounts a hugetlbfs that nobody else sees, at a folder of its own; skips where that is not
 * allowed. */
static char *mount_hugetlbfs(void)
{
    char *dir = g_dir_make_tmp("ringlab-test-XXXXXX", NULL);

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", dir, "hugetlbfs", 0, NULL) < 0) {
        print_message("a hugetlbfs cannot be mounted here: %s\n", g_strerror(errno));
        rmdir(dir);
        g_free(dir);
        skip();
    }
    return dir;
}

static void a_hugetlbfs_can_back_a_region(void **state)
{
    GError *error = NULL;

    (void)state;
    need_free_hugepages(2);
    g_autofree char *dir = mount_hugetlbfs();
    for (enum guest_hugepages h = GUEST_HUGEPAGES_OFF; h <= GUEST_HUGEPAGES_REQUIRE; h++) {
        struct guest_region *r =
            guest_region_new_in_dir("huge", hugepage_bytes() + 1, dir, h, &error);
        assert_is_huge(r, 2);
        guest_region_free(r);
    }
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    assert_null(g_dir_read_name(entries));
    uint64_t size = more_than_the_pool_has();
    assert_null(guest_region_new_in_dir("huge", size, dir, GUEST_HUGEPAGES_OFF, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, dir);
    assert_null(guest_region_new_in_dir("huge", size, dir, GUEST_HUGEPAGES_REQUIRE, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_HUGEPAGES, "nr_hugepages");
    assert_fell_back(guest_region_new_in_dir("huge", size, dir, GUEST_HUGEPAGES_PREFER, &error),
                     dir);
    umount2(dir, MNT_DETACH);
    rmdir(dir);
}

/* ---- any folder ---- */

static void a_folder_can_back_a_region_without_leaving_a_name(void **state)
{
    GError *error = NULL;
    g_autofree char *dir = g_dir_make_tmp("ringlab-test-XXXXXX", NULL);

    (void)state;
    struct guest_region *r =
        guest_region_new_in_dir("file", 3 * PAGE, dir, GUEST_HUGEPAGES_OFF, &error);
    assert_non_null(r);
    assert_int_equal(r->size, 3 * PAGE);
    r->host[3 * PAGE - 1] = 1;
    assert_int_equal(rmdir(dir), 0); /* it is empty */
    guest_region_free(r);
}

static void allocations_are_aligned_zeroed_disjoint_and_first_fit(void **state)
{
    struct guest_region *r = region_of(4 * PAGE);
    GError *error = NULL;
    uint64_t a, b, c, d;

    (void)state;
    memset(r->host, 0xff, r->size);
    assert_true(guest_region_alloc(r, 100, 0, &a, &error));
    assert_int_equal(a, 0);
    assert_int_equal(r->host[99], 0);
    assert_int_equal(r->host[100], 0xff);
    assert_true(guest_region_alloc(r, 10, 256, &b, &error));
    assert_int_equal(b, 256);
    assert_true(guest_region_alloc(r, PAGE, PAGE, &c, &error));
    assert_int_equal(c, PAGE);
    assert_true(guest_region_alloc(r, 100, 16, &d, &error));
    assert_int_equal(d, 112); /* between a and b */
    assert_int_equal(guest_region_allocated(r), 100 + 10 + PAGE + 100);
    guest_region_release(r, a);
    assert_true(guest_region_alloc(r, 64, 16, &a, &error));
    assert_int_equal(a, 0);
    guest_region_free(r);
}

static void a_region_can_be_filled_to_its_last_byte_and_no_further(void **state)
{
    struct guest_region *r = region_of(2 * PAGE);
    GError *error = NULL;
    uint64_t at;

    (void)state;
    assert_false(guest_region_alloc(r, 2 * PAGE + 1, 1, &at, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, "0 of 8192 bytes are in use");
    assert_true(guest_region_alloc(r, 2 * PAGE, PAGE, &at, &error));
    assert_int_equal(at, 0);
    assert_false(guest_region_alloc(r, 1, 1, &at, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, "no room for 1 bytes");
    guest_region_release(r, 0);
    guest_region_reserve_below(r, PAGE);
    assert_true(guest_region_alloc(r, PAGE, 16, &at, &error));
    assert_int_equal(at, PAGE);
    assert_false(guest_region_alloc(r, 1, 1, &at, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_NO_SPACE, "no room");
    assert_false(guest_region_alloc(r, 0, 16, &at, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_INVALID, "0 bytes");
    assert_false(guest_region_alloc(r, 8, 3, &at, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_INVALID, "aligned to 3");
    guest_region_free(r);
}

static void addresses_translate_both_ways_within_bounds(void **state)
{
    struct guest_memory *m = guest_memory_new();
    struct guest_region *low = region_of(2 * PAGE), *high = region_of(PAGE);
    GError *error = NULL;
    uint64_t top = UINT64_MAX - PAGE + 1;

    (void)state;
    assert_true(guest_memory_place(m, low, 0x100000, &error));
    assert_true(guest_memory_place(m, high, top, &error));
    assert_ptr_equal(guest_memory_host(m, 0x100000, 2 * PAGE), low->host);
    assert_ptr_equal(guest_memory_host(m, 0x100000 + 2 * PAGE - 1, 1), low->host + 2 * PAGE - 1);
    assert_null(guest_memory_host(m, 0x100000 + 2 * PAGE - 1, 2));
    assert_null(guest_memory_host(m, 0xfffff, 1));
    assert_null(guest_memory_host(m, 0x100000, UINT64_MAX));
    assert_ptr_equal(guest_memory_host(m, UINT64_MAX, 1), high->host + PAGE - 1);
    assert_null(guest_memory_host(m, UINT64_MAX, 2));
    assert_true(guest_memory_gpa(m, low->host + 7) == 0x100007);
    assert_true(guest_memory_gpa(m, high->host) == top);
    assert_true(guest_memory_gpa(m, low->host + low->size) == GUEST_UNPLACED ||
                low->host + low->size == high->host);
    assert_ptr_equal(guest_memory_region_at(m, 0x100001), low);
    assert_null(guest_memory_host_checked(m, 0x42, 4, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_RANGE,
                 "0x42 are outside the shared memory ('test' 0x1");
    guest_memory_free(m);
    assert_true(low->gpa == GUEST_UNPLACED);
    guest_region_free(low);
    guest_region_free(high);
}

static void regions_never_overlap_and_can_move(void **state)
{
    struct guest_memory *m = guest_memory_new();
    struct guest_region *a = region_of(2 * PAGE), *b = region_of(PAGE);
    GError *error = NULL;

    (void)state;
    assert_true(guest_memory_place(m, a, 0x10000, &error));
    assert_false(guest_memory_place(m, b, 0x10000 + PAGE, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_OVERLAP, "would overlap");
    assert_true(guest_memory_place(m, b, 0x10000 + 2 * PAGE, &error));
    assert_false(guest_memory_place(m, a, 0x10000 + PAGE, &error)); /* would reach b */
    assert_error(&error, GUEST_MEMORY_ERROR_OVERLAP, "would overlap");
    assert_true(guest_memory_place(m, a, 0x20000, &error));
    assert_null(guest_memory_host(m, 0x10000, 1));
    assert_true(guest_memory_place(m, a, GUEST_UNPLACED, &error));
    assert_null(guest_memory_host(m, 0x20000, 1));
    assert_false(guest_memory_place(m, a, UINT64_MAX - PAGE, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_RANGE, "beyond the last address");
    guest_memory_free(m);
    guest_region_free(a);
    guest_region_free(b);
}

static void machines_share_a_region_at_one_address_only(void **state)
{
    struct guest_memory *m = guest_memory_new(), *n = guest_memory_new();
    struct guest_region *r = region_of(PAGE);
    GError *error = NULL;

    (void)state;
    assert_true(guest_memory_place(m, r, 0x10000, &error));
    assert_false(guest_memory_place(n, r, 0x20000, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_OVERLAP, "another machine");
    assert_true(guest_memory_place(n, r, 0x10000, &error));
    assert_false(guest_memory_place(n, r, 0x20000, &error));
    assert_error(&error, GUEST_MEMORY_ERROR_OVERLAP, "another machine");
    assert_ptr_equal(guest_memory_host(n, 0x10000, 1), r->host); /* it stayed where it was */
    guest_memory_free(m);
    assert_true(r->gpa == 0x10000);
    assert_ptr_equal(guest_memory_host(n, 0x10000, 1), r->host);
    guest_memory_free(n);
    assert_true(r->gpa == GUEST_UNPLACED);
    guest_region_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_region_is_zeroed_shared_and_aligned_to_its_size),
        cmocka_unit_test(memory_of_somebody_else_is_shown_and_left_alone),
        cmocka_unit_test(a_file_can_be_seen_through_a_second_region),
        cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(a_full_file_system_is_reported_not_hit_later),
        cmocka_unit_test(a_memfd_can_have_huge_pages),
        cmocka_unit_test(a_memfd_without_huge_pages_to_be_had_says_how_to_get_some),
        cmocka_unit_test(a_folder_that_is_no_hugetlbfs_has_no_huge_pages),
        cmocka_unit_test(a_hugetlbfs_can_back_a_region),
        cmocka_unit_test(a_folder_can_back_a_region_without_leaving_a_name),
        cmocka_unit_test(allocations_are_aligned_zeroed_disjoint_and_first_fit),
        cmocka_unit_test(a_region_can_be_filled_to_its_last_byte_and_no_further),
        cmocka_unit_test(addresses_translate_both_ways_within_bounds),
        cmocka_unit_test(regions_never_overlap_and_can_move),
        cmocka_unit_test(machines_share_a_region_at_one_address_only),
    };
    return cmocka_run_group_tests_name("guest_memory", tests, NULL, NULL);
}
