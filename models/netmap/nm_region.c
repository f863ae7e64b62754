/*
 * Files under allocators: see nm_region_private.h.
 */
#include "models/netmap/nm_region_private.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Below this nobody asks how much memory there is. */
#define SMALL_BYTES (UINT64_C(64) << 20)

/* A line of /proc/meminfo, such as "Hugepagesize:", in bytes; 0 if it is not there. */
static uint64_t meminfo(const char *line)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
        return 0;
    const char *at = strstr(text, line);
    return at ? g_ascii_strtoull(at + strlen(line), NULL, 10) * 1024 : 0;
}

static uint64_t power_of_two(uint64_t size, uint64_t at_least)
{
    uint64_t power = at_least;

    while (power < size)
        power <<= 1;
    return power;
}

/* What system calls say when there is not enough, as one number. EFBIG is the process' own limit.
 */
static int shortage(int err)
{
    return err == ENOSPC || err == EFBIG || err == EDQUOT ? ENOMEM : err;
}

/* Owns fd from now. Mapping a file of huge pages reserves them all. */
static int map_file(struct nm_region *region, int fd, uint64_t file_size, bool is_filled)
{
    int err = ftruncate(fd, (off_t)file_size) < 0 ? errno : 0;

    if (err == 0 && is_filled)
        err = posix_fallocate(fd, 0, (off_t)file_size);
    if (err == 0) {
        void *base = mmap(NULL, file_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base != MAP_FAILED) {
            *region = (struct nm_region){.fd = fd, .base = base, .file_size = file_size};
            return 0;
        }
        err = errno;
    }
    close(fd);
    return shortage(err);
}

static int make_memfd(struct nm_region *region, uint64_t size, unsigned huge, uint64_t page)
{
    int fd = memfd_create("netmap", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
    if (fd < 0)
        return errno;
    int err = map_file(region, fd, power_of_two(size, page), false);
    if (err == 0) /* without seals it works as well, for those who behave */
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return err;
}

/* Nameless where the file system can; else a name that lives for two system calls. */
static int open_nameless(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        g_autofree char *path = g_build_filename(dir, "netmap-XXXXXX", NULL);
        fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            g_unlink(path);
    }
    return fd;
}

static int make_file(struct nm_region *region, const char *dir, uint64_t size)
{
    struct statfs fs;
    int fd = open_nameless(dir);

    if (fd < 0)
        return errno;
    if (fstatfs(fd, &fs) < 0) {
        int err = errno;
        close(fd);
        return err;
    }
    bool is_huge = fs.f_type == HUGETLBFS_MAGIC;
    return map_file(region, fd, power_of_two(size, is_huge ? (uint64_t)fs.f_bsize : NM_PAGE),
                    !is_huge);
}

int nm_region_make(struct nm_region *region, const char *dir, bool hugepages, uint64_t size)
{
    if (dir)
        return make_file(region, dir, size);
    uint64_t huge_page = hugepages ? meminfo("Hugepagesize:") : 0;
    if (huge_page != 0 && make_memfd(region, size, MFD_HUGETLB, huge_page) == 0)
        return 0;
    /* a memfd has no limit: filling one beyond what there is ends in the out-of-memory killer */
    if (size > SMALL_BYTES) {
        uint64_t available = meminfo("MemAvailable:");
        if (available != 0 && size > available)
            return ENOMEM;
    }
    return make_memfd(region, size, 0, NM_PAGE);
}

void nm_region_free(struct nm_region *region)
{
    if (region->base) {
        munmap(region->base, region->file_size);
        close(region->fd);
    }
    *region = (struct nm_region){.fd = -1};
}

int nm_region_check_user(const void *at, uint64_t size)
{
    uintptr_t from = (uintptr_t)at;
    uintptr_t to = from + size;
    g_autofree char *maps = NULL;

    if (to < from || !g_file_get_contents("/proc/self/maps", &maps, NULL, NULL))
        return EFAULT;
    /* lines are in the order of addresses */
    for (const char *line = maps; from < to && line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        char *rest;
        uint64_t first = g_ascii_strtoull(line, &rest, 16);
        if (*rest != '-')
            break;
        uint64_t end = g_ascii_strtoull(rest + 1, &rest, 16);
        if (from < first)
            break;
        if (from < end) {
            if (strncmp(rest, " rw", 3) != 0)
                break;
            from = end;
        }
    }
    return from < to ? EFAULT : 0;
}
