/*
 * Memory that this process and a QEMU share: machine RAM as a shared memfd, and any number of extra
 * regions (hugetlbfs, memfd with huge pages, plain memfd) that a device such as ivshmem shows to
 * the guest. Allocation inside a region, address translation both ways, bounds checked.
 * Not here: telling QEMU about it (harness) or placing a BAR (pci.h, ivshmem.h).
 */
#ifndef RINGLAB_GUEST_MEMORY_H
#define RINGLAB_GUEST_MEMORY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define GUEST_MEMORY_ERROR (guest_memory_error_quark())
GQuark guest_memory_error_quark(void);

enum guest_memory_error {
    GUEST_MEMORY_ERROR_NO_HUGEPAGES, /* `require`, and there are none: the scenario is skipped */
    GUEST_MEMORY_ERROR_NO_SPACE,     /* the backing store or the region is full */
    GUEST_MEMORY_ERROR_RANGE,        /* an address that no region has */
    GUEST_MEMORY_ERROR_OVERLAP,      /* two regions would share guest addresses */
    GUEST_MEMORY_ERROR_INVALID,      /* size or alignment that cannot be */
    GUEST_MEMORY_ERROR_SYSTEM,
};

enum guest_hugepages {
    GUEST_HUGEPAGES_OFF,     /* ordinary pages */
    GUEST_HUGEPAGES_PREFER,  /* huge pages if there are any, else ordinary ones */
    GUEST_HUGEPAGES_REQUIRE, /* huge pages or the error NO_HUGEPAGES */
};

#define GUEST_UNPLACED UINT64_MAX

/* One piece of shared memory. Read-only for callers, except through the functions below. */
struct guest_region {
    char *name;
    int fd;             /* what backs it; may be inherited by a child process */
    uint8_t *host;      /* where it is mapped here; aligned to its size */
    uint64_t size;      /* bytes, a multiple of page_size */
    uint64_t page_size; /* bytes: of the pages that back it */
    uint64_t gpa;       /* where the guest's bus sees it, or GUEST_UNPLACED; machines that share
                           it see it at the same address */
    char *note;         /* one line if `prefer` fell back: why, and how to enable; else NULL */
    GHashTable *allocations; /* offset -> length; private */
    uint64_t alloc_from;     /* private: allocations lie at or above this offset */
    unsigned n_maps;         /* private: guest memories it is placed in */
    bool is_foreign;         /* private: memory and descriptor belong to somebody else */
};

/* Backed by a memfd (with huge pages: MFD_HUGETLB). `size` is rounded up to the page size; extra
 * regions that become a BAR need a power of two (the caller's business). The memory reads zero.
 * Too few huge pages, or less memory than `size` available, are reported here, not by a later
 * SIGBUS; ordinary pages come into being when they are touched. */
struct guest_region *guest_region_new(const char *name, uint64_t size,
                                      enum guest_hugepages hugepages, GError **error);
/* Backed by a nameless file in `dir`. With `hugepages` off any file system will do, a hugetlbfs
 * included; otherwise `dir` is the hugetlbfs to take huge pages from. */
struct guest_region *guest_region_new_in_dir(const char *name, uint64_t size, const char *dir,
                                             enum guest_hugepages hugepages, GError **error);
/* Memory that is mapped in this process already and stays somebody else's, who must keep it there:
 * `size` bytes at `host`, both multiples of the page size; `fd` backs it from its start, or is -1.
 * Nothing can be allocated in it. */
struct guest_region *guest_region_new_over(const char *name, void *host, uint64_t size, int fd,
                                           GError **error);
/* The first `size` bytes (rounded up to the file's pages) of the file behind `fd`, which stays the
 * caller's: another view of the same memory. A shorter file is made longer. Nothing can be
 * allocated in it. */
struct guest_region *guest_region_new_from_fd(const char *name, int fd, uint64_t size,
                                              GError **error);
void guest_region_free(struct guest_region *region);

/* Allocates `len` bytes aligned to `align` (a power of two; 0 means 16); the memory is zeroed.
 * Returns the offset in the region through *offset. First fit from the start. */
bool guest_region_alloc(struct guest_region *region, uint64_t len, uint64_t align, uint64_t *offset,
                        GError **error);
void guest_region_release(struct guest_region *region, uint64_t offset);
/* Allocations from now on lie at or above `offset` (RAM: 1 MiB, above the BIOS area). */
void guest_region_reserve_below(struct guest_region *region, uint64_t offset);
/* Bytes allocated at present. */
uint64_t guest_region_allocated(const struct guest_region *region);

/* All regions of one machine. Regions are owned by their creator, and must outlive it. A region may
 * be in the memories of several machines, at the same address in each. */
struct guest_memory;

struct guest_memory *guest_memory_new(void);
void guest_memory_free(struct guest_memory *memory);
/* The region answers at guest addresses [gpa, gpa + size) from now on; GUEST_UNPLACED takes it
 * away. A region not yet known is added. OVERLAP if another region is there, or if another machine
 * sees this one elsewhere: then it stays where it was. */
bool guest_memory_place(struct guest_memory *memory, struct guest_region *region, uint64_t gpa,
                        GError **error);
void guest_memory_remove(struct guest_memory *memory, struct guest_region *region);

/* The host address of guest bytes [gpa, gpa + len), or NULL if they do not all lie in one region.
 */
void *guest_memory_host(const struct guest_memory *memory, uint64_t gpa, uint64_t len);
/* The same, with an error that names the address and the regions there are. */
void *guest_memory_host_checked(const struct guest_memory *memory, uint64_t gpa, uint64_t len,
                                GError **error);
/* The guest address of a host pointer into a placed region, or GUEST_UNPLACED. */
uint64_t guest_memory_gpa(const struct guest_memory *memory, const void *host);
/* The region that holds gpa, or NULL. */
struct guest_region *guest_memory_region_at(const struct guest_memory *memory, uint64_t gpa);

#endif
