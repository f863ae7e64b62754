/*
 * Guest memory of a QEMU, from the descriptors it hands over. A file is mapped once and as a whole,
 * whatever pieces of it the guest's bus shows: QEMU sends its list anew whenever anything on any
 * bus moves, mostly without a change, and pointers then stay what they are.
 */
#include "models/qemu_proxy_private.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* One file, mapped; kept while any list has it. */
struct mapped_file {
    _Atomic unsigned n_refs;
    dev_t dev;
    ino_t ino;
    uint8_t *host;
    uint64_t size;
};

/* One list of QEMU's. */
struct qemu_proxy_memory {
    unsigned n;
    struct mapped_file *files[QEMU_PROXY_MAX_FDS];
    struct pci_dma_range ranges[QEMU_PROXY_MAX_FDS];
};

static void file_unref(struct mapped_file *file)
{
    if (atomic_fetch_sub(&file->n_refs, 1) > 1)
        return;
    munmap(file->host, file->size);
    g_free(file);
}

static void memory_free(void *data)
{
    struct qemu_proxy_memory *memory = data;

    for (unsigned i = 0; i < memory->n; i++)
        file_unref(memory->files[i]);
    g_free(memory);
}

static struct mapped_file *find_file(const struct qemu_proxy_memory *memory, const struct stat *st)
{
    for (unsigned i = 0; memory && i < memory->n; i++) {
        struct mapped_file *file = memory->files[i];
        if (file->dev == st->st_dev && file->ino == st->st_ino &&
            file->size == (uint64_t)st->st_size) {
            atomic_fetch_add(&file->n_refs, 1);
            return file;
        }
    }
    return NULL;
}

static struct mapped_file *map_file(const struct stat *st, int fd)
{
    uint64_t size = (uint64_t)st->st_size;
    void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

    if (host == MAP_FAILED)
        return NULL;
    struct mapped_file *file = g_new0(struct mapped_file, 1);
    *file = (struct mapped_file){
        .n_refs = 1, .dev = st->st_dev, .ino = st->st_ino, .host = host, .size = size};
    return file;
}

/* Adds entry i of QEMU's list; false if it cannot be mapped. */
static bool add_range(const struct qemu_proxy *p, struct qemu_proxy_memory *memory,
                      const struct qemu_proxy_sysmem *sysmem, unsigned i, int fd)
{
    uint64_t size = sysmem->size[i], offset = sysmem->offset[i];
    struct stat st;

    if (fstat(fd, &st) != 0 || st.st_size <= 0 || size == 0 || offset > (uint64_t)st.st_size ||
        size > (uint64_t)st.st_size - offset)
        return false;
    struct mapped_file *file = find_file(memory, &st);
    if (!file)
        file = find_file(p->memory, &st);
    if (!file)
        file = map_file(&st, fd);
    if (!file)
        return false;
    memory->files[memory->n] = file;
    memory->ranges[memory->n++] = (struct pci_dma_range){sysmem->gpa[i], size, file->host + offset};
    return true;
}

static bool is_same(const struct qemu_proxy_memory *a, const struct qemu_proxy_memory *b)
{
    if (!a || a->n != b->n)
        return false;
    for (unsigned i = 0; i < a->n; i++) {
        const struct pci_dma_range *x = &a->ranges[i], *y = &b->ranges[i];
        if (x->gpa != y->gpa || x->size != y->size || x->host != y->host)
            return false;
    }
    return true;
}

void qemu_proxy_memory_update(struct qemu_proxy *p, const struct qemu_proxy_sysmem *sysmem,
                              const int *fds, unsigned n_fds)
{
    struct qemu_proxy_memory *memory = g_new0(struct qemu_proxy_memory, 1);

    for (unsigned i = 0; i < n_fds; i++) {
        if (!add_range(p, memory, sysmem, i, fds[i]))
            qemu_proxy_count(&p->unmapped_ranges);
    }
    if (is_same(p->memory, memory)) {
        memory_free(memory);
        return;
    }
    p->memory = memory;
    pci_dma_set(p->dma, memory->ranges, memory->n, memory_free, memory);
}

void qemu_proxy_memory_forget(struct qemu_proxy *p)
{
    p->memory = NULL;
    pci_dma_set(p->dma, NULL, 0, NULL, NULL);
}
