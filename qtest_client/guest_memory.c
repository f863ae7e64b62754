/*
 * Shared memory regions and the guest's map of them: see guest_memory.h.
 */
#include "qtest_client/guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

G_DEFINE_QUARK(guest - memory - error - quark, guest_memory_error)

enum { DEFAULT_ALIGN = 16 };

#define HUGEPAGES_HINT "enable some with: echo 64 > /proc/sys/vm/nr_hugepages (as root)"

/* A line of /proc/meminfo, such as "Hugepagesize:", in bytes; 0 if it is not there. */
static uint64_t meminfo(const char *line)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL)) {
        return 0;
    }
    const char *at = strstr(text, line);
    return at ? g_ascii_strtoull(at + strlen(line), NULL, 10) * 1024 : 0;
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* Maps `fd` at an address that is a multiple of the size (of the next power of two), so that a BAR
 * can be placed at the host address. */
static uint8_t *map_aligned(int fd, uint64_t size)
{
    uint64_t align = 1;

    while (align < size) {
        align <<= 1;
    }
    uint64_t reserved = size + align;
    uint8_t *space =
        mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) {
        return NULL;
    }
    uint8_t *at = space + (round_up((uintptr_t)space, align) - (uintptr_t)space);
    if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int saved = errno;
        munmap(space, reserved);
        errno = saved;
        return NULL;
    }
    if (at > space) {
        munmap(space, (size_t)(at - space));
    }
    uint8_t *end = space + reserved;
    if (end > at + size) {
        munmap(at + size, (size_t)(end - (at + size)));
    }
    return at;
}

static struct guest_region *region_at(const char *name, int fd, uint8_t *host, uint64_t size,
                                      uint64_t page_size)
{
    struct guest_region *r = g_new0(struct guest_region, 1);

    r->name = g_strdup(name);
    r->fd = fd;
    r->host = host;
    r->size = size;
    r->page_size = page_size;
    r->gpa = GUEST_UNPLACED;
    r->allocations = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    return r;
}

static struct guest_region *region_from_fd(const char *name, int fd, uint64_t size,
                                           uint64_t page_size, GError **error)
{
    uint8_t *host = map_aligned(fd, size);

    if (!host) {
        int code = errno == ENOMEM ? GUEST_MEMORY_ERROR_NO_SPACE : GUEST_MEMORY_ERROR_SYSTEM;
        g_set_error(error, GUEST_MEMORY_ERROR, code, "memory '%s': mapping %" PRIu64 " bytes: %s",
                    name, size, g_strerror(errno));
        close(fd);
        return NULL;
    }
    return region_at(name, fd, host, size, page_size);
}

/* Sizes the file and, if it is to be `filled`, makes sure that its pages exist; closes `fd` on
 * failure. */
static struct guest_region *region_sized(const char *name, int fd, uint64_t size,
                                         uint64_t page_size, bool filled, const char *where,
                                         GError **error)
{
    int rc = ftruncate(fd, (off_t)size) < 0 ? errno : 0;

    if (rc == 0 && filled) {
        rc = posix_fallocate(fd, 0, (off_t)size);
    }
    if (rc != 0) {
        g_set_error(error, GUEST_MEMORY_ERROR,
                    rc == ENOSPC || rc == ENOMEM ? GUEST_MEMORY_ERROR_NO_SPACE
                                                 : GUEST_MEMORY_ERROR_SYSTEM,
                    "memory '%s': %s has no room for %" PRIu64 " bytes: %s", name, where, size,
                    g_strerror(rc));
        close(fd);
        return NULL;
    }
    return region_from_fd(name, fd, size, page_size, error);
}

static struct guest_region *new_hugepages(const char *name, uint64_t size, GError **error)
{
    uint64_t page = meminfo("Hugepagesize:");

    if (page == 0) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_HUGEPAGES,
                    "memory '%s': this kernel has no huge pages", name);
        return NULL;
    }
    uint64_t rounded = round_up(size, page);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_HUGETLB);
    if (fd < 0) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_HUGEPAGES,
                    "memory '%s': a memfd with huge pages: %s; " HUGEPAGES_HINT, name,
                    g_strerror(errno));
        return NULL;
    }
    g_autoptr(GError) why = NULL;
    struct guest_region *r =
        region_sized(name, fd, rounded, page, true, "the pool of huge pages", &why);
    if (!r) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_HUGEPAGES,
                    "memory '%s': %" PRIu64 " free huge pages of %" PRIu64
                    " KiB are needed; " HUGEPAGES_HINT,
                    name, rounded / page, page / 1024);
    }
    return r;
}

/* A memfd has no limit of its own: filling one beyond what there is ends in the kernel's
 * out-of-memory killer, not in an error. So what there is is asked beforehand, and the pages come
 * as they are touched: few of a machine's RAM ever are, and clearing 16 MiB takes 6 ms. */
static struct guest_region *new_ordinary(const char *name, uint64_t size, GError **error)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), available = meminfo("MemAvailable:");

    if (available != 0 && size > available) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_SPACE,
                    "memory '%s': no room for %" PRIu64 " bytes, %" PRIu64
                    " are available; ask for less or free some",
                    name, size, available);
        return NULL;
    }
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_SYSTEM,
                    "memory '%s': memfd_create: %s", name, g_strerror(errno));
        return NULL;
    }
    return region_sized(name, fd, round_up(size, page), page, false, "shared memory", error);
}

/* Nameless where the file system can; else a name that lives for two system calls. */
static int open_nameless(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        g_autofree char *path = g_build_filename(dir, "ringlab-XXXXXX", NULL);
        fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0) {
            unlink(path);
        }
    }
    return fd;
}

static struct guest_region *new_file(const char *name, uint64_t size, const char *dir,
                                     const struct statfs *fs, GError **error)
{
    uint64_t room = (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize;

    /* a hugetlbfs without a limit of its own has no blocks */
    if (fs->f_blocks != 0 && size > room) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_SPACE,
                    "memory '%s': %s has no room for %" PRIu64 " bytes, %" PRIu64 " are free", name,
                    dir, size, room);
        return NULL;
    }
    int fd = open_nameless(dir);
    if (fd < 0) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_SYSTEM,
                    "memory '%s': a file in %s: %s", name, dir, g_strerror(errno));
        return NULL;
    }
    uint64_t page = MAX((uint64_t)fs->f_bsize, (uint64_t)sysconf(_SC_PAGESIZE));
    return region_sized(name, fd, round_up(size, page), page, true, dir, error);
}

/* A file of huge pages, or why there can be none. */
static struct guest_region *new_huge_file(const char *name, uint64_t size, const char *dir,
                                          const struct statfs *fs, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (fs->f_type != HUGETLBFS_MAGIC) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_HUGEPAGES,
                    "memory '%s': %s is no hugetlbfs; mount one with: mount -t hugetlbfs none %s "
                    "(as root)",
                    name, dir, dir);
        return NULL;
    }
    struct guest_region *r = new_file(name, size, dir, fs, &why);
    if (!r) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_HUGEPAGES,
                    "%s; " HUGEPAGES_HINT, why->message);
    }
    return r;
}

static bool size_is_possible(const char *name, uint64_t size, GError **error)
{
    if (size == 0 || size > INT64_MAX / 4) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_INVALID,
                    "memory '%s' cannot have a size of %" PRIu64 " bytes", name, size);
        return false;
    }
    return true;
}

/* After huge pages could not be had: ordinary ones with a note, if that will do. Takes `why`. */
static struct guest_region *fall_back(const char *name, uint64_t size,
                                      enum guest_hugepages hugepages, GError *why, GError **error)
{
    if (hugepages == GUEST_HUGEPAGES_REQUIRE) {
        g_propagate_error(error, why);
        return NULL;
    }
    struct guest_region *r = new_ordinary(name, size, error);
    if (r) {
        r->note = g_strdup_printf("using ordinary pages: %s", why->message);
    }
    g_error_free(why);
    return r;
}

struct guest_region *guest_region_new(const char *name, uint64_t size,
                                      enum guest_hugepages hugepages, GError **error)
{
    GError *why = NULL;

    if (!size_is_possible(name, size, error)) {
        return NULL;
    }
    if (hugepages == GUEST_HUGEPAGES_OFF) {
        return new_ordinary(name, size, error);
    }
    struct guest_region *r = new_hugepages(name, size, &why);
    return r ? r : fall_back(name, size, hugepages, why, error);
}

struct guest_region *guest_region_new_in_dir(const char *name, uint64_t size, const char *dir,
                                             enum guest_hugepages hugepages, GError **error)
{
    GError *why = NULL;
    struct statfs fs;

    if (!size_is_possible(name, size, error)) {
        return NULL;
    }
    if (statfs(dir, &fs) < 0) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_SYSTEM, "memory '%s': %s: %s",
                    name, dir, g_strerror(errno));
        return NULL;
    }
    if (hugepages == GUEST_HUGEPAGES_OFF) {
        return new_file(name, size, dir, &fs, error);
    }
    struct guest_region *r = new_huge_file(name, size, dir, &fs, &why);
    return r ? r : fall_back(name, size, hugepages, why, error);
}

static void set_fd_error(const char *name, uint64_t size, GError **error)
{
    g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_SYSTEM,
                "memory '%s': a file of %" PRIu64 " bytes behind its descriptor: %s", name, size,
                g_strerror(errno));
}

struct guest_region *guest_region_new_from_fd(const char *name, int fd, uint64_t size,
                                              GError **error)
{
    struct statfs fs;
    struct stat st;

    if (!size_is_possible(name, size, error)) {
        return NULL;
    }
    if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0) {
        set_fd_error(name, size, error);
        return NULL;
    }
    bool is_huge = fs.f_type == HUGETLBFS_MAGIC;
    uint64_t page = is_huge ? (uint64_t)fs.f_bsize : (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t rounded = round_up(size, page);
    int own = -1;
    if (((uint64_t)st.st_size < rounded && ftruncate(fd, (off_t)rounded) < 0) ||
        (own = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0) {
        set_fd_error(name, size, error);
        return NULL;
    }
    struct guest_region *r = region_from_fd(name, own, rounded, page, error);
    if (r) {
        guest_region_reserve_below(r, rounded);
    }
    return r;
}

struct guest_region *guest_region_new_over(const char *name, void *host, uint64_t size, int fd,
                                           GError **error)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if (!size_is_possible(name, size, error)) {
        return NULL;
    }
    if (size % page != 0 || (uintptr_t)host % page != 0) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_INVALID,
                    "memory '%s': %" PRIu64 " bytes at %p are not whole pages", name, size, host);
        return NULL;
    }
    struct guest_region *r = region_at(name, fd, host, size, page);
    r->is_foreign = true;
    guest_region_reserve_below(r, size);
    return r;
}

void guest_region_free(struct guest_region *r)
{
    if (!r) {
        return;
    }
    if (!r->is_foreign) {
        munmap(r->host, r->size);
        close(r->fd);
    }
    g_hash_table_unref(r->allocations);
    g_free(r->name);
    g_free(r->note);
    g_free(r);
}

/* ---- allocation: first fit over the sorted allocations ---- */

static int by_offset(const void *a, const void *b)
{
    uint64_t x = **(const uint64_t *const *)a, y = **(const uint64_t *const *)b;

    return x < y ? -1 : x > y;
}

bool guest_region_alloc(struct guest_region *r, uint64_t len, uint64_t align, uint64_t *offset,
                        GError **error)
{
    if (align == 0) {
        align = DEFAULT_ALIGN;
    }
    if (len == 0 || !is_power_of_two(align)) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_INVALID,
                    "memory '%s': cannot allocate %" PRIu64 " bytes aligned to %" PRIu64, r->name,
                    len, align);
        return false;
    }
    guint n = 0;
    g_autofree const uint64_t **used =
        (const uint64_t **)g_hash_table_get_keys_as_array(r->allocations, &n);
    if (n > 1) {
        qsort(used, n, sizeof(*used), by_offset);
    }
    uint64_t at = round_up(r->alloc_from, align);
    for (guint i = 0; i < n; i++) {
        uint64_t used_len = *(uint64_t *)g_hash_table_lookup(r->allocations, used[i]);
        if (at + len <= *used[i] && at + len >= at) {
            break;
        }
        if (*used[i] + used_len > at) {
            at = round_up(*used[i] + used_len, align);
        }
    }
    if (len > r->size || at > r->size - len) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_SPACE,
                    "memory '%s' has no room for %" PRIu64 " bytes aligned to %" PRIu64 " (%" PRIu64
                    " of %" PRIu64 " bytes are in use)",
                    r->name, len, align, guest_region_allocated(r), r->size);
        return false;
    }
    g_hash_table_insert(r->allocations, g_memdup2(&at, sizeof(at)), g_memdup2(&len, sizeof(len)));
    memset(r->host + at, 0, len);
    *offset = at;
    return true;
}

void guest_region_release(struct guest_region *r, uint64_t offset)
{
    g_hash_table_remove(r->allocations, &offset);
}

void guest_region_reserve_below(struct guest_region *r, uint64_t offset)
{
    r->alloc_from = offset;
}

uint64_t guest_region_allocated(const struct guest_region *r)
{
    GHashTableIter it;
    gpointer len;
    uint64_t sum = 0;

    g_hash_table_iter_init(&it, r->allocations);
    while (g_hash_table_iter_next(&it, NULL, &len)) {
        sum += *(uint64_t *)len;
    }
    return sum;
}

/* ---- the guest's map ---- */

struct mapping {
    struct guest_region *region;
    uint64_t gpa;
};

struct guest_memory {
    GArray *mappings; /* struct mapping */
};

struct guest_memory *guest_memory_new(void)
{
    struct guest_memory *m = g_new0(struct guest_memory, 1);
    m->mappings = g_array_new(FALSE, FALSE, sizeof(struct mapping));
    return m;
}

static struct mapping *mapping_at(const struct guest_memory *m, guint i)
{
    return &g_array_index(m->mappings, struct mapping, i);
}

static void unmap(struct guest_memory *m, guint i)
{
    struct guest_region *r = mapping_at(m, i)->region;

    if (--r->n_maps == 0) {
        r->gpa = GUEST_UNPLACED;
    }
    g_array_remove_index(m->mappings, i);
}

void guest_memory_free(struct guest_memory *m)
{
    if (m) {
        while (m->mappings->len > 0) {
            unmap(m, m->mappings->len - 1);
        }
        g_array_unref(m->mappings);
        g_free(m);
    }
}

void guest_memory_remove(struct guest_memory *m, struct guest_region *r)
{
    for (guint i = m->mappings->len; i > 0; i--) {
        if (mapping_at(m, i - 1)->region == r) {
            unmap(m, i - 1);
        }
    }
}

bool guest_memory_place(struct guest_memory *m, struct guest_region *r, uint64_t gpa,
                        GError **error)
{
    if (gpa == GUEST_UNPLACED) {
        guest_memory_remove(m, r);
        return true;
    }
    if (gpa + (r->size - 1) < gpa) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_RANGE,
                    "memory '%s': %" PRIu64 " bytes at 0x%" PRIx64 " go beyond the last address",
                    r->name, r->size, gpa);
        return false;
    }
    for (guint i = 0; i < m->mappings->len; i++) {
        const struct mapping *o = mapping_at(m, i);
        if (o->region != r && gpa <= o->gpa + (o->region->size - 1) &&
            o->gpa <= gpa + (r->size - 1)) {
            g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_OVERLAP,
                        "memory '%s' at 0x%" PRIx64 " would overlap '%s' at 0x%" PRIx64, r->name,
                        gpa, o->region->name, o->gpa);
            return false;
        }
    }
    unsigned n_elsewhere = r->n_maps;
    for (guint i = 0; i < m->mappings->len; i++) {
        n_elsewhere -= mapping_at(m, i)->region == r;
    }
    if (n_elsewhere > 0 && r->gpa != gpa) {
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_OVERLAP,
                    "memory '%s' lies at 0x%" PRIx64
                    " in another machine; it cannot lie at 0x%" PRIx64 " in this one",
                    r->name, r->gpa, gpa);
        return false;
    }
    guest_memory_remove(m, r);
    struct mapping mapping = {r, gpa};
    g_array_append_val(m->mappings, mapping);
    r->gpa = gpa;
    r->n_maps++;
    return true;
}

struct guest_region *guest_memory_region_at(const struct guest_memory *m, uint64_t gpa)
{
    for (guint i = 0; i < m->mappings->len; i++) {
        const struct mapping *map = mapping_at(m, i);
        if (gpa >= map->gpa && gpa - map->gpa < map->region->size) {
            return map->region;
        }
    }
    return NULL;
}

void *guest_memory_host(const struct guest_memory *m, uint64_t gpa, uint64_t len)
{
    const struct guest_region *r = guest_memory_region_at(m, gpa);

    if (!r || len > r->size - (gpa - r->gpa)) {
        return NULL;
    }
    return r->host + (gpa - r->gpa);
}

void *guest_memory_host_checked(const struct guest_memory *m, uint64_t gpa, uint64_t len,
                                GError **error)
{
    void *host = guest_memory_host(m, gpa, len);

    if (!host) {
        g_autoptr(GString) known = g_string_new(NULL);
        for (guint i = 0; i < m->mappings->len; i++) {
            const struct mapping *map = mapping_at(m, i);
            g_string_append_printf(known, "%s'%s' 0x%" PRIx64 "-0x%" PRIx64, known->len ? ", " : "",
                                   map->region->name, map->gpa, map->gpa + (map->region->size - 1));
        }
        g_set_error(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_RANGE,
                    "%" PRIu64 " bytes at guest address 0x%" PRIx64
                    " are outside the shared memory (%s)",
                    len, gpa, known->len ? known->str : "there is none");
    }
    return host;
}

uint64_t guest_memory_gpa(const struct guest_memory *m, const void *host)
{
    const uint8_t *p = host;

    for (guint i = 0; i < m->mappings->len; i++) {
        const struct mapping *map = mapping_at(m, i);
        const struct guest_region *r = map->region;
        if (p >= r->host && (uint64_t)(p - r->host) < r->size) {
            return map->gpa + (uint64_t)(p - r->host);
        }
    }
    return GUEST_UNPLACED;
}
