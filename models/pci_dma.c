/*
 * Guest memory for modelled devices: sets of ranges, each kept until the last pointer into it was
 * given back. See pci_device.h.
 */
#include "models/pci_device_private.h"

#include <string.h>

struct range {
    struct pci_dma_range r;
    unsigned n_mapped;
};

/* What one pci_dma_set gave. */
struct generation {
    void (*release)(void *data);
    void *data;
    unsigned n_mapped; /* of all ranges */
    size_t n;
    struct range ranges[];
};

struct pci_dma {
    pthread_mutex_t lock;
    unsigned n_refs;       /* owners, and one for each generation that is only kept for its users */
    GPtrArray *superseded; /* struct generation *, oldest first, each with something mapped */
    struct generation *current; /* or NULL */
};

struct pci_dma *pci_dma_new(void)
{
    struct pci_dma *dma = g_new0(struct pci_dma, 1);

    pthread_mutex_init(&dma->lock, NULL);
    dma->n_refs = 1;
    dma->superseded = g_ptr_array_new();
    return dma;
}

struct pci_dma *pci_dma_ref(struct pci_dma *dma)
{
    pthread_mutex_lock(&dma->lock);
    dma->n_refs++;
    pthread_mutex_unlock(&dma->lock);
    return dma;
}

static void generation_free(struct generation *g)
{
    if (!g)
        return;
    if (g->release)
        g->release(g->data);
    g_free(g);
}

/* Unlocks; frees what nobody needs any more. Release functions run without the lock. */
static void unlock_and_free(struct pci_dma *dma, struct generation *unused, unsigned n_refs_gone)
{
    dma->n_refs -= n_refs_gone;
    bool is_last = dma->n_refs == 0;
    pthread_mutex_unlock(&dma->lock);
    generation_free(unused);
    if (!is_last)
        return;
    generation_free(dma->current);
    g_ptr_array_unref(dma->superseded);
    pthread_mutex_destroy(&dma->lock);
    g_free(dma);
}

/* The current generation is no longer; returns it if nobody uses it. */
static struct generation *retire_current(struct pci_dma *dma)
{
    struct generation *old = g_steal_pointer(&dma->current);

    if (old && old->n_mapped > 0) {
        g_ptr_array_add(dma->superseded, old);
        dma->n_refs++;
        old = NULL;
    }
    return old;
}

void pci_dma_set(struct pci_dma *dma, const struct pci_dma_range *ranges, size_t n,
                 void (*release)(void *data), void *data)
{
    struct generation *g = g_malloc0(sizeof(*g) + n * sizeof(g->ranges[0]));

    g->release = release;
    g->data = data;
    for (size_t i = 0; i < n; i++) {
        bool is_possible = ranges[i].size > 0 && ranges[i].gpa <= UINT64_MAX - ranges[i].size;
        if (is_possible)
            g->ranges[g->n++].r = ranges[i];
    }
    pthread_mutex_lock(&dma->lock);
    struct generation *unused = retire_current(dma);
    dma->current = g;
    unlock_and_free(dma, unused, 0);
}

void pci_dma_unref(struct pci_dma *dma)
{
    if (!dma)
        return;
    pthread_mutex_lock(&dma->lock);
    unlock_and_free(dma, NULL, 1);
}

void pci_dma_free(struct pci_dma *dma)
{
    if (!dma)
        return;
    pci_dma_set(dma, NULL, 0, NULL, NULL);
    pci_dma_unref(dma);
}

static struct range *find_gpa(struct pci_dma *dma, uint64_t gpa, uint64_t len)
{
    struct generation *g = dma->current;

    for (size_t i = 0; g && i < g->n; i++) {
        const struct pci_dma_range *r = &g->ranges[i].r;
        if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
            return &g->ranges[i];
    }
    return NULL;
}

void *pci_dma_map(struct pci_dma *dma, uint64_t gpa, uint64_t len)
{
    uint8_t *host = NULL;

    if (len == 0)
        return NULL;
    pthread_mutex_lock(&dma->lock);
    struct range *range = find_gpa(dma, gpa, len);
    if (range) {
        range->n_mapped++;
        dma->current->n_mapped++;
        host = range->r.host + (gpa - range->r.gpa);
    }
    pthread_mutex_unlock(&dma->lock);
    return host;
}

static bool drop_mapping(struct generation *g, const uint8_t *host)
{
    for (size_t i = 0; g && i < g->n; i++) {
        struct range *range = &g->ranges[i];
        if (range->n_mapped > 0 && host >= range->r.host &&
            (uint64_t)(host - range->r.host) < range->r.size) {
            range->n_mapped--;
            g->n_mapped--;
            return true;
        }
    }
    return false;
}

void pci_dma_unmap(struct pci_dma *dma, void *host)
{
    struct generation *unused = NULL;

    if (!host)
        return;
    pthread_mutex_lock(&dma->lock);
    for (guint i = 0; i < dma->superseded->len; i++) {
        struct generation *g = dma->superseded->pdata[i];
        if (!drop_mapping(g, host))
            continue;
        if (g->n_mapped == 0) {
            g_ptr_array_remove_index(dma->superseded, i);
            unused = g;
        }
        unlock_and_free(dma, unused, unused != NULL);
        return;
    }
    bool was_mapped = drop_mapping(dma->current, host);
    pthread_mutex_unlock(&dma->lock);
    g_assert(was_mapped); /* unmapped more often than mapped */
}

bool pci_dma_write32(struct pci_dma *dma, uint64_t gpa, uint32_t value)
{
    if (gpa % 4 != 0)
        return false;
    pthread_mutex_lock(&dma->lock);
    const struct range *range = find_gpa(dma, gpa, 4);
    uint8_t *host = range ? range->r.host + (gpa - range->r.gpa) : NULL;
    if (host)
        atomic_store_explicit((_Atomic uint32_t *)(void *)host, GUINT32_TO_LE(value),
                              memory_order_release);
    pthread_mutex_unlock(&dma->lock);
    return host != NULL;
}
