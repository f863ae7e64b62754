/*
 * The memory under an allocator: a nameless file that others can map too. Its length is a power of
 * two, so that it can be an ivshmem BAR, and cannot be changed by those who hold its descriptor
 * where the kernel can see to that (memfd). Private to nm_mem.
 */
#ifndef RINGLAB_NM_REGION_PRIVATE_H
#define RINGLAB_NM_REGION_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

enum { NM_PAGE = 4096 }; /* bytes; what netmap calls a page */

struct nm_region {
    int fd;
    uint8_t *base;
    uint64_t file_size; /* bytes */
};

/* `size` bytes, rounded up. In folder `dir` the file's room is reserved, as a full file system
 * would otherwise kill whoever touches a page; without `dir` it is a memfd whose pages come as they
 * are touched, or with `hugepages` one whose huge pages are reserved, if there are enough. 0,
 * ENOMEM (short of memory: less may do), or the errno of a system call. */
int nm_region_make(struct nm_region *region, const char *dir, bool hugepages, uint64_t size);
void nm_region_free(struct nm_region *region);
/* 0 if this process may read and write all of [at, at + size), else EFAULT. */
int nm_region_check_user(const void *at, uint64_t size);

#endif
