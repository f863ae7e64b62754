/*
 * What an allocator consists of. nm_mems.c makes them, with sizes and ids; nm_mem.c is what one
 * does once it is there.
 */
#ifndef RINGLAB_NM_MEM_PRIVATE_H
#define RINGLAB_NM_MEM_PRIVATE_H

#include "models/netmap/nm_bits_private.h"
#include "models/netmap/nm_mem.h"
#include "models/netmap/nm_region_private.h"

#include <pthread.h>

enum { NM_MEM_GLOBAL_ID = 1, NM_BUFS_RESERVED = 2 };

/* Objects of one size, one after the other from `offset` in the region. */
struct nm_mem_pool {
    uint32_t size;    /* bytes of an object, a multiple of 64 */
    uint32_t num;     /* objects */
    uint32_t cluster; /* objects in a whole number of pages; num is a multiple (not in EXTMEM) */
    uint64_t offset;  /* bytes */
    struct nm_bits free;
};

struct nm_mem {
    struct nm_mems *mems;
    uint16_t id;
    unsigned refs; /* mems->lock */

    pthread_mutex_t lock; /* of what follows */
    struct nm_mem_pool pools[NM_N_POOLS];
    uint64_t size; /* bytes in use of the region, whole pages */
    unsigned users;
    bool is_made; /* from the first finalize on: base, bitmaps */
    uint8_t *base;
    struct nm_region region; /* fd -1: not made, or the memory is a user's */
    void *user_memory;       /* EXTMEM: what identifies it; else NULL */
    uint64_t user_size;
};

struct nm_mems {
    pthread_mutex_t lock;
    char *dir;
    bool hugepages;
    GHashTable *by_id; /* uint16_t -> struct nm_mem */
    uint16_t last_id;
};

/* Gives the pools their places, each from a page boundary on, and the region its size. */
void nm_mem_lay_out(struct nm_mem *mem);
/* Bitmaps over the pools, and buffers 0 and 1 reserved. */
void nm_mem_make_bitmaps(struct nm_mem *mem);

#endif
