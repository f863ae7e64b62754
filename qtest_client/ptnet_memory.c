/*
 * The netmap memory as a ptnet guest finds it: the memdev with the host's allocator id, the region
 * behind its BAR, and in it the netmap_if and the rings. All of it is the host's own memory: every
 * value is read once and checked before it leads anywhere.
 */
#include "models/abi/pci.h"
#include "qtest_client/ptnet_private.h"

#include <inttypes.h>

/* ---- memdev ---- */

static bool read_memdev(struct pci_device *memdev, enum ptnet_memdev_offset offset, uint32_t *value,
                        GError **error)
{
    uint64_t read;

    if (!pci_bar_read(memdev, PTNETMAP_IO_PCI_BAR, offset, 4, &read, error)) {
        return false;
    }
    *value = (uint32_t)read;
    return true;
}

static bool place_bar(struct pci_device *dev, unsigned bar, GError **error)
{
    uint64_t base;

    return dev->bars[bar].size == 0 || dev->bars[bar].base != 0 ||
           (pci_bar_reserve(dev, bar, &base, error) && pci_bar_place(dev, bar, base, error));
}

/* Registers, and the memory too where that is how it is reached. */
static bool enable_memdev(struct ptnet_driver *d, struct pci_device *memdev, GError **error)
{
    return place_bar(memdev, PTNETMAP_IO_PCI_BAR, error) &&
           (d->options.memory || place_bar(memdev, PTNETMAP_MEM_PCI_BAR, error)) &&
           pci_command(memdev, PCI_COMMAND_IO | PCI_COMMAND_MEMORY, 0, error);
}

/* 9.1: the memdev of the same host allocator. */
static struct pci_device *find_memdev(struct ptnet_driver *d, GError **error)
{
    struct pci_device *memdev;
    uint32_t id;
    unsigned n = 0;

    while ((memdev =
                pci_bus_find_id(d->dev->host, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_DEVICE_ID, n))) {
        n++;
        if (!enable_memdev(d, memdev, error) ||
            !read_memdev(memdev, PTNET_MDEV_IO_MEMID, &id, error)) {
            return NULL;
        }
        if (id == d->host_mem_id) {
            return memdev;
        }
    }
    ptnet_fail(d, PTNET_ERROR_MEMORY, error,
               "no ptnetmap-memdev shows the memory of host allocator %" PRIu32
               " (%u on the bus have other ids)",
               d->host_mem_id, n);
    return NULL;
}

/* Where this process sees it. */
static bool map(struct ptnet_driver *d, struct pci_device *memdev, GError **error)
{
    const struct guest_region *region = d->options.memory;
    struct ptnet_memory *memory = &d->memory;
    g_autofree char *name = pci_device_describe(memdev);

    if (region && region->size < memory->size) {
        return ptnet_fail(d, PTNET_ERROR_MEMORY, error,
                          "memory '%s' has %" PRIu64 " bytes, but %s says there are %" PRIu64,
                          region->name, region->size, name, memory->size);
    }
    if (!region && memdev->bars[PTNETMAP_MEM_PCI_BAR].size < memory->size) {
        return ptnet_fail(d, PTNET_ERROR_MEMORY, error,
                          "%s says it has %" PRIu64 " bytes, in a BAR of %" PRIu64, name,
                          memory->size, memdev->bars[PTNETMAP_MEM_PCI_BAR].size);
    }
    uint64_t bar = memdev->bars[PTNETMAP_MEM_PCI_BAR].base;
    memory->base =
        region ? region->host : guest_memory_host(d->dev->machine->memory, bar, memory->size);
    return memory->base || ptnet_fail(d, PTNET_ERROR_MEMORY, error,
                                      "the memory BAR of %s, at 0x%" PRIx64
                                      ", cannot be mapped: say which shared memory shows the same",
                                      name, bar);
}

bool ptnet_memory_map(struct ptnet_driver *d, GError **error)
{
    struct ptnet_memory *memory = &d->memory;
    struct pci_device *memdev = find_memdev(d, error);
    uint32_t high, low, buf_ofs;

    /* in this order: 2, "Guest use" */
    if (!memdev || !read_memdev(memdev, PTNET_MDEV_IO_MEMSIZE_HI, &high, error) ||
        !read_memdev(memdev, PTNET_MDEV_IO_MEMSIZE_LO, &low, error)) {
        return false;
    }
    memory->size = (uint64_t)high << 32 | low;
    if (!map(d, memdev, error) ||
        !read_memdev(memdev, PTNET_MDEV_IO_BUF_POOL_OBJSZ, &memory->buf_size, error) ||
        !read_memdev(memdev, PTNET_MDEV_IO_BUF_POOL_OBJNUM, &memory->buf_total, error) ||
        !read_memdev(memdev, PTNET_MDEV_IO_BUF_POOL_OFS, &buf_ofs, error)) {
        return false;
    }
    memory->buf_ofs = buf_ofs;
    return (memory->buf_size != 0 &&
            memory->buf_ofs + (uint64_t)memory->buf_size * memory->buf_total <= memory->size) ||
           ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                      "memdev says %" PRIu32 " buffers of %" PRIu32 " bytes lie at %" PRIu32
                      ", in %" PRIu64 " bytes of memory",
                      memory->buf_total, memory->buf_size, buf_ofs, memory->size);
}

/* ---- rings ---- */

/* The first of `size` bytes at `offset` of the netmap memory, aligned for its fields; or NULL. */
static void *object_at(const struct ptnet_memory *memory, int64_t offset, uint64_t size)
{
    const bool is_inside =
        offset >= 0 && (uint64_t)offset <= memory->size && size <= memory->size - (uint64_t)offset;

    return is_inside && offset % (int64_t)sizeof(uint64_t) == 0 ? memory->base + offset : NULL;
}

/* Sum without overflow: offsets beyond the memory stay beyond it. */
static int64_t add_offset(int64_t base, int64_t offset)
{
    int64_t sum;

    return __builtin_add_overflow(base, offset, &sum) ? -1 : sum;
}

static bool find_ring(struct ptnet_driver *d, struct ptnet_queue *q, int64_t offset, GError **error)
{
    const struct ptnet_memory *memory = &d->memory;
    const uint32_t num_slots = d->n_slots[q->is_tx];
    const uint64_t bytes =
        sizeof(struct netmap_ring) + (uint64_t)num_slots * sizeof(struct netmap_slot);

    q->ring = object_at(memory, offset, bytes);
    if (!q->ring) {
        return ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                          "ring %u cannot lie at %" PRId64 " of the netmap memory", q->index,
                          offset);
    }
    const uint32_t ring_slots = q->ring->num_slots, ring_buf_size = q->ring->nr_buf_size;
    const int64_t buf_ofs = q->ring->buf_ofs;
    if (ring_slots != num_slots || ring_buf_size != memory->buf_size ||
        add_offset(offset, buf_ofs) != (int64_t)memory->buf_ofs) {
        return ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                          "ring %u says it has %" PRIu32 " slots and buffers of %" PRIu32
                          " bytes at %" PRId64 "; the registers say %" PRIu32 ", %" PRIu32
                          " and %" PRId64,
                          q->index, ring_slots, ring_buf_size, buf_ofs, num_slots, memory->buf_size,
                          (int64_t)memory->buf_ofs - offset);
    }
    q->num_slots = num_slots;
    q->buf_size = memory->buf_size;
    q->buf_total = memory->buf_total;
    q->buf_base = memory->base + memory->buf_ofs;
    return true;
}

bool ptnet_memory_find_rings(struct ptnet_driver *d, GError **error)
{
    const struct netmap_if *nifp = object_at(&d->memory, d->nifp_ofs, sizeof(*nifp));
    const uint32_t n_tx = d->n_rings[true], n_rx = d->n_rings[false];

    if (!nifp) {
        return ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                          "the netmap_if cannot lie at %" PRIu32 " of the netmap memory",
                          d->nifp_ofs);
    }
    const uint32_t if_tx = nifp->ni_tx_rings, if_rx = nifp->ni_rx_rings,
                   if_host_tx = nifp->ni_host_tx_rings;
    /* ring_ofs: tx, host tx, rx, host rx (netmap.md 2.3) */
    const uint64_t first_rx = (uint64_t)if_tx + if_host_tx;
    if (if_tx != n_tx || if_rx != n_rx ||
        !object_at(&d->memory, d->nifp_ofs, sizeof(*nifp) + (first_rx + n_rx) * sizeof(int64_t))) {
        return ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                          "the netmap_if says %" PRIu32 " tx, %" PRIu32 " host tx and %" PRIu32
                          " rx rings; the registers say %" PRIu32 " and %" PRIu32,
                          if_tx, if_host_tx, if_rx, n_tx, n_rx);
    }
    for (unsigned i = 0; i < n_tx + n_rx; i++) {
        struct ptnet_queue *q = &d->queues[i];
        int64_t ring_ofs = nifp->ring_ofs[q->is_tx ? i : first_rx + (i - n_tx)];
        if (ring_ofs == 0) {
            return ptnet_fail(d, PTNET_ERROR_DEVICE, error, "ring %u is not bound by the host", i);
        }
        if (!find_ring(d, q, add_offset(d->nifp_ofs, ring_ofs), error)) {
            return false;
        }
    }
    return true;
}
