/*
 * netmap's allocators: one shared region each, with pools of interfaces, rings and buffers.
 * Follows netmap_mem2.c of netmap at API 14 (reference: layout, limits, ids, reserved buffers).
 * Not here: who uses them. All functions may be called from any thread.
 */
#ifndef RINGLAB_NM_MEM_H
#define RINGLAB_NM_MEM_H

#include "models/abi/netmap.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct nm_mem;
struct nm_mems; /* all allocators of one host: ids 1 (global), 2, 3 ... wrapping, never 0 */

enum nm_pool { NM_POOL_IF, NM_POOL_RING, NM_POOL_BUF, NM_N_POOLS };

struct nm_mem_config {
    struct {
        uint32_t size, num; /* bytes of an object, number of objects */
    } pools[NM_N_POOLS];
};

struct nm_mems_options {
    const char *dir; /* a folder for nameless files (hugetlbfs ...); NULL: memfd */
    bool hugepages;  /* memfd: huge pages where there are any */
    struct nm_mem_config global;
};

/* EINVAL: sizes or numbers of the global allocator out of range (netmap.md 8). Every field counts:
 * 0 stands for no default here. */
struct nm_mems *nm_mems_new(const struct nm_mems_options *options, GError **error);
/* Nobody holds a reference any more. */
void nm_mems_free(struct nm_mems *mems);
/* The allocator of this id with a reference, or NULL. 0 is the global one (id 1). */
struct nm_mem *nm_mem_find(struct nm_mems *mems, uint16_t id);
/* A private allocator at least as large as these rings need (netmap.md 8, private sizing);
 * `txr`, `rxr` without host rings. One reference; or NULL and *err: EINVAL (beyond the limits) or
 * ENOMEM (no id left). */
struct nm_mem *nm_mem_private_new(struct nm_mems *mems, unsigned txr, unsigned txd, unsigned rxr,
                                  unsigned rxd, unsigned extra_bufs, unsigned pipes, int *err);
/* Over memory that a user handed in (option EXTMEM), which has to stay mapped as long as the
 * allocator lives; the same address and size again are the same allocator. `info` gives memsize
 * (bytes, rounded down to pages) with sizes and counts of objects (0: private minimum), and
 * receives what came of it: what is left over becomes buffers. NULL and *err: EINVAL (limits; not
 * on a page), EFAULT (not memory that this process may write), ENOMEM (too small; no id left). */
struct nm_mem *nm_mem_ext_new(struct nm_mems *mems, void *memory, struct nmreq_pools_info *info,
                              int *err);
struct nm_mem *nm_mem_ref(struct nm_mem *mem);
void nm_mem_unref(struct nm_mem *mem);

/* A user comes. The first one makes the region, which then stays for the allocator's life: pools
 * laid out, buffers 0 and 1 reserved; with fewer buffers than configured when memory is short
 * (halved until it fits). 0, ENOMEM, or the errno of a system call (EMFILE ...). */
int nm_mem_finalize(struct nm_mem *mem);
/* Undoes one finalize. When the last user goes all objects are free again; returns how many had
 * been leaked. Objects are freed before, never after it. */
uint32_t nm_mem_release(struct nm_mem *mem);

uint16_t nm_mem_id(const struct nm_mem *mem);
bool nm_mem_is_private(const struct nm_mem *mem); /* NI_PRIV_MEM */
/* Valid from the first finalize on. The region's file is a power of two long, so that it can be a
 * BAR; what lies behind nm_mem_size reads zero. A user's memory has no file: -1 and 0. */
int nm_mem_fd(const struct nm_mem *mem);
uint64_t nm_mem_file_size(const struct nm_mem *mem); /* bytes */
uint8_t *nm_mem_base(const struct nm_mem *mem);
/* Bytes, what nr_memsize says. Before the first finalize: what is configured; so the counts. */
uint64_t nm_mem_size(const struct nm_mem *mem);
void nm_mem_pools_info(const struct nm_mem *mem, struct nmreq_pools_info *info);

uint32_t nm_mem_buf_size(const struct nm_mem *mem);
uint32_t nm_mem_buf_total(const struct nm_mem *mem);
/* Address of buffer 0; buffer i lies i * buf_size behind. */
uint8_t *nm_mem_buf_base(const struct nm_mem *mem);
/* Whether index may be in a slot: 2 <= index < total (netmap.md 6.4). */
static inline bool nm_buf_index_ok(uint32_t index, uint32_t total)
{
    return index >= 2 && index < total;
}

/* Objects of the first two pools, `len` bytes of them zeroed: the lowest that is free. NULL:
 * exhausted, or len is larger than an object. */
void *nm_mem_alloc(struct nm_mem *mem, enum nm_pool pool, uint64_t len);
void nm_mem_free_object(struct nm_mem *mem, enum nm_pool pool, void *object);
/* Buffer indices, the lowest that are free, ascending: fills `indices[0..n)`; all or nothing. */
bool nm_mem_alloc_bufs(struct nm_mem *mem, uint32_t *indices, uint32_t n);
/* False if it is out of range or free already. */
bool nm_mem_free_buf(struct nm_mem *mem, uint32_t index);
/* Up to n extra buffers linked through their first word, the last one taken first in the list;
 * returns how many, *head the first (0: none). */
uint32_t nm_mem_alloc_list(struct nm_mem *mem, uint32_t n, uint32_t *head);
/* Walks such a list as an application left it, zeroing the links; stops at an index that is bad or
 * of a free buffer. Returns how many were freed. */
uint32_t nm_mem_free_list(struct nm_mem *mem, uint32_t head);
/* Objects in use, without the reserved ones. */
uint32_t nm_mem_used(struct nm_mem *mem, enum nm_pool pool);

#endif
