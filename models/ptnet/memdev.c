/*
 * ptnetmap-memdev: registers that say what the memory of a netmap allocator is made of, and that
 * memory as a BAR; what hw/net/ptnetmap-memdev.c of the ptnet QEMU does.
 */
#include "models/abi/ptnet.h"
#include "models/ptnet/ptnet.h"

#include <errno.h>

enum {
    CLASS_OTHERS = 0x00ff00, /* QEMU's "others", stored as base class 0, subclass 0xff */
    QEMU_SUBSYSTEM_VENDOR_ID = 0x1af4,
    QEMU_SUBSYSTEM_ID = 0x1100,
    MIN_MEMORY_BAR_BYTES = 16,
    MAX_MEMORY_BAR_BYTES = 1 << 30,
};

struct memdev {
    struct nm_mem *mem;
    struct nmreq_pools_info info; /* as of its making */
};

static uint64_t read_register(void *model, unsigned bar, uint64_t offset, unsigned size)
{
    const struct nmreq_pools_info *info = &((const struct memdev *)model)->info;

    (void)size; /* any size gives the whole register, cut to that size by the bus */
    if (bar != PTNETMAP_IO_PCI_BAR)
        return 0;
    switch (offset & ~UINT64_C(3)) {
    case PTNET_MDEV_IO_MEMSIZE_LO:
        return (uint32_t)info->nr_memsize;
    case PTNET_MDEV_IO_MEMSIZE_HI:
        return info->nr_memsize >> 32;
    case PTNET_MDEV_IO_MEMID:
        return info->nr_mem_id;
    case PTNET_MDEV_IO_IF_POOL_OFS:
        return (uint32_t)info->nr_if_pool_offset;
    case PTNET_MDEV_IO_IF_POOL_OBJNUM:
        return info->nr_if_pool_objtotal;
    case PTNET_MDEV_IO_IF_POOL_OBJSZ:
        return info->nr_if_pool_objsize;
    case PTNET_MDEV_IO_RING_POOL_OFS:
        return (uint32_t)info->nr_ring_pool_offset;
    case PTNET_MDEV_IO_RING_POOL_OBJNUM:
        return info->nr_ring_pool_objtotal;
    case PTNET_MDEV_IO_RING_POOL_OBJSZ:
        return info->nr_ring_pool_objsize;
    case PTNET_MDEV_IO_BUF_POOL_OFS:
        return (uint32_t)info->nr_buf_pool_offset;
    case PTNET_MDEV_IO_BUF_POOL_OBJNUM:
        return info->nr_buf_pool_objtotal;
    case PTNET_MDEV_IO_BUF_POOL_OBJSZ:
        return info->nr_buf_pool_objsize;
    default:
        return 0;
    }
}

static void free_model(void *model)
{
    struct memdev *md = model;

    nm_mem_unref(md->mem);
    g_free(md);
}

static const struct pci_model_ops memdev_ops = {
    .name = "ptnetmap-memdev",
    .read = read_register,
    .free = free_model,
};

struct pci_model *memdev_new(struct nm_file *file, GError **error)
{
    struct memdev *md;
    uint32_t bar_size = MIN_MEMORY_BAR_BYTES;

    if (!file->mem) {
        g_set_error(error, NM_ERROR, ENXIO, "memdev: the file has no port, and so no memory");
        return NULL;
    }
    uint64_t size = nm_mem_size(file->mem);
    if (size > MAX_MEMORY_BAR_BYTES) {
        g_set_error(error, NM_ERROR, EFBIG,
                    "memdev: %" G_GUINT64_FORMAT " bytes of netmap memory; a BAR can show %d", size,
                    MAX_MEMORY_BAR_BYTES);
        return NULL;
    }
    while (bar_size < size)
        bar_size *= 2;
    md = g_new0(struct memdev, 1);
    md->mem = nm_mem_ref(file->mem);
    nm_mem_pools_info(md->mem, &md->info);
    struct pci_model_options pci = {
        .vendor_id = PTNETMAP_PCI_VENDOR_ID,
        .device_id = PTNETMAP_PCI_DEVICE_ID,
        .subsystem_vendor_id = QEMU_SUBSYSTEM_VENDOR_ID,
        .subsystem_id = QEMU_SUBSYSTEM_ID,
        .class_code = CLASS_OTHERS,
        .bars[PTNETMAP_IO_PCI_BAR] = {.size = PTNET_MDEV_IO_BAR_BYTES, .is_io = true},
        .bars[PTNETMAP_MEM_PCI_BAR] = {.size = bar_size,
                                       .is_prefetchable = true,
                                       .memory = nm_mem_base(md->mem),
                                       .memory_size = size,
                                       .memory_fd = nm_mem_fd(md->mem)},
    };
    struct pci_model *model = pci_model_new(&memdev_ops, md, &pci, error);
    if (!model)
        free_model(md);
    return model;
}
