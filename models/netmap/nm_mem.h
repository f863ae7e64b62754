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

struct nm_mems *nm_mems_new(const struct nm_mems_options *options, GError **error);
void nm_mems_free(struct nm_mems *mems);
/* The allocator of this id with a reference, or NULL. 0 is the global one. */
struct nm_mem *nm_mem_find(struct nm_mems *mems, uint16_t id);
/* A private allocator at least as large as these rings need (netmap.md 8, private sizing);
 * `txr`, `rxr` without host rings. *err: errno. One reference. */
struct nm_mem *nm_mem_private_new(struct nm_mems *mems, unsigned txr, unsigned txd, unsigned rxr,
                                  unsigned rxd, unsigned extra_bufs, unsigned pipes, int *err);
/* Over memory that a user handed in (option EXTMEM); the same memory again is the same allocator.
 * `info` gives sizes and counts (0: private minimum) and receives what came of it. */
struct nm_mem *nm_mem_ext_new(struct nm_mems *mems, void *memory, struct nmreq_pools_info *info,
                              int *err);
struct nm_mem *nm_mem_ref(struct nm_mem *mem);
void nm_mem_unref(struct nm_mem *mem);

/* The first user makes the region (pools laid out, buffers 0 and 1 reserved); when the last one
 * goes all bitmaps are reset: leaks are reclaimed. 0 or errno. */
int nm_mem_finalize(struct nm_mem *mem);
void nm_mem_release(struct nm_mem *mem); /* undoes one finalize */

uint16_t nm_mem_id(const struct nm_mem *mem);
bool nm_mem_is_private(const struct nm_mem *mem); /* NI_PRIV_MEM */
int nm_mem_fd(const struct nm_mem *mem);          /* -1: memory of a user */
/* Valid while finalized. The region's file is at least a power of two long, so that it can be a BAR
 * (nm_mem_file_size); what lies behind nm_mem_size reads zero. */
uint8_t *nm_mem_base(const struct nm_mem *mem);
uint64_t nm_mem_size(const struct nm_mem *mem); /* bytes, what nr_memsize says */
uint64_t nm_mem_file_size(const struct nm_mem *mem);
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

/* Objects, zeroed (not buffers). NULL: exhausted or too large. */
void *nm_mem_alloc(struct nm_mem *mem, enum nm_pool pool, uint64_t len);
void nm_mem_free_object(struct nm_mem *mem, enum nm_pool pool, void *object);
/* Buffer indices: fills `indices[0..n)`; all or nothing. */
bool nm_mem_alloc_bufs(struct nm_mem *mem, uint32_t *indices, uint32_t n);
/* False if it is out of range or free already. */
bool nm_mem_free_buf(struct nm_mem *mem, uint32_t index);
/* Up to n extra buffers linked through their first word; returns how many, *head the first. */
uint32_t nm_mem_alloc_list(struct nm_mem *mem, uint32_t n, uint32_t *head);
/* Walks such a list as an application left it; stops at a bad or free index. Returns how many were
 * freed. */
uint32_t nm_mem_free_list(struct nm_mem *mem, uint32_t head);
/* Objects in use, without the reserved ones. */
uint32_t nm_mem_used(const struct nm_mem *mem, enum nm_pool pool);

#endif
