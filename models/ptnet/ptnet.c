/*
 * The ptnet device: its registers, and where its CSB lies in guest memory; what
 * hw/net/ptnetmap-netif.c of the ptnet QEMU does. The port behind it is ptnet_backend.c's.
 */
#include "models/abi/ptnet.h"
#include "models/ptnet/ptnet_private.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

enum {
    CLASS_ETHERNET = 0x020000,
    QEMU_SUBSYSTEM_VENDOR_ID = 0x1af4, /* what QEMU gives a device that says nothing */
    QEMU_SUBSYSTEM_ID = 0x1100,
    INTERRUPT_PIN_A = 1,
    CACHE_LINE = 0x10,
    CSB_ENTRY_BYTES = sizeof(struct nm_csb_atok),
};
_Static_assert(sizeof(struct nm_csb_ktoa) == CSB_ENTRY_BYTES, "both arrays have equal entries");

/* One array of the CSB in guest memory. */
struct csb_map {
    struct pci_dma *dma;
    void *host; /* NULL: not mapped */
};

struct ptnet {
    struct pci_model *model;
    struct ptnet_backend backend;
    uint32_t regs[PTNET_IO_END / 4];
    uint8_t mac[6];
    unsigned n_rings; /* since it was made: vectors, kicks, CSB entries */
    struct csb_map gh, hg;
    _Atomic uint64_t kicks[PTNET_MAX_RINGS], interrupts[PTNET_MAX_RINGS];
    _Atomic uint64_t creates, deletes, create_failures, csb_failures;
};

static uint32_t *reg(struct ptnet *pt, unsigned offset)
{
    return &pt->regs[offset / 4];
}

static bool has_passthrough(const struct ptnet *pt)
{
    return pt->backend.port != NULL;
}

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void interrupt(void *data, unsigned ring)
{
    struct ptnet *pt = data;

    count(&pt->interrupts[ring]);
    pci_model_raise(pt->model, ring);
}

/* ---- PTCTL, ptnet.md 3.1 and 3.2: what becomes its status ---- */

static int create(struct ptnet *pt)
{
    int status = ENXIO;

    count(&pt->creates);
    if (pt->gh.host && pt->hg.host)
        status = ptnet_backend_start(&pt->backend, pt->gh.host, pt->hg.host);
    if (status)
        count(&pt->create_failures);
    return status;
}

static int stop(struct ptnet *pt)
{
    return ptnet_backend_stop(&pt->backend);
}

static int control(struct ptnet *pt, uint32_t command)
{
    switch (command) {
    case PTNETMAP_PTCTL_CREATE:
        return create(pt);
    case PTNETMAP_PTCTL_DELETE:
        count(&pt->deletes);
        return stop(pt);
    default:
        return EINVAL;
    }
}

/* ---- the CSB ---- */

static void unmap_csb(struct csb_map *map)
{
    if (map->host)
        pci_dma_unmap(map->dma, map->host);
    *map = (struct csb_map){0};
}

static void map_csb(struct ptnet *pt, struct csb_map *map, uint64_t base)
{
    struct pci_dma *dma = pci_model_dma(pt->model);

    unmap_csb(map);
    if (base == 0)
        return;
    map->dma = dma;
    if (dma)
        map->host = pci_dma_map(dma, base, (uint64_t)pt->n_rings * CSB_ENTRY_BYTES);
    if (!map->host)
        count(&pt->csb_failures);
}

/* A write of an address' low half; ptnet.md 3, notes 4 and 5. The loop is stopped first, so that
 * nobody uses what is unmapped. */
static void set_csb_base(struct ptnet *pt, struct csb_map *map, unsigned bah, uint32_t bal)
{
    *reg(pt, PTNET_IO_PTCTL) = (uint32_t)stop(pt);
    *reg(pt, bah + 4) = bal;
    map_csb(pt, map, (uint64_t)*reg(pt, bah) << 32 | bal);
}

/* ---- registers ---- */

static void refresh_info(struct ptnet *pt)
{
    struct nmreq_port_info_get info;
    int err = ptnet_backend_info(&pt->backend, &info);

    if (err) {
        nm_log(pt->backend.host, "%s: ptnet: asking for its rings: %s",
               pt->backend.port->header.nr_name, g_strerror(err));
        return;
    }
    if (info.nr_tx_rings + info.nr_rx_rings != (int)pt->n_rings)
        nm_log(pt->backend.host, "%s: ptnet: it has %d rings now, %u vectors and kicks",
               pt->backend.port->header.nr_name, info.nr_tx_rings + info.nr_rx_rings, pt->n_rings);
    *reg(pt, PTNET_IO_NUM_TX_RINGS) = info.nr_tx_rings;
    *reg(pt, PTNET_IO_NUM_RX_RINGS) = info.nr_rx_rings;
    *reg(pt, PTNET_IO_NUM_TX_SLOTS) = info.nr_tx_slots;
    *reg(pt, PTNET_IO_NUM_RX_SLOTS) = info.nr_rx_slots;
}

static void refresh(struct ptnet *pt, unsigned offset)
{
    switch (offset) {
    case PTNET_IO_NIFP_OFS:
        *reg(pt, offset) = (uint32_t)pt->backend.port->reg.nr_offset;
        break;
    case PTNET_IO_HOSTMEMID:
        *reg(pt, offset) = pt->backend.port->reg.nr_mem_id;
        break;
    case PTNET_IO_NUM_TX_RINGS:
    case PTNET_IO_NUM_RX_RINGS:
    case PTNET_IO_NUM_TX_SLOTS:
    case PTNET_IO_NUM_RX_SLOTS:
        refresh_info(pt);
        break;
    default:
        break;
    }
}

static uint64_t read_register(void *model, unsigned bar, uint64_t offset, unsigned size)
{
    struct ptnet *pt = model;
    unsigned aligned = (unsigned)offset & ~3u;

    (void)size; /* any size gives the whole register, cut to that size by the bus */
    if (bar != PTNETMAP_IO_PCI_BAR || aligned >= PTNET_IO_END)
        return 0;
    if (has_passthrough(pt))
        refresh(pt, aligned);
    return *reg(pt, aligned);
}

/* A kick is a write of 4 bytes, to a ring that there is; the value does not matter. */
static void kick(struct ptnet *pt, unsigned offset, unsigned size)
{
    unsigned ring = (offset - PTNET_IO_KICK_BASE) / 4;

    if (size != 4 || ring >= pt->n_rings)
        return;
    count(&pt->kicks[ring]);
    ptnet_backend_kick(&pt->backend, ring);
}

static void write_register(void *model, unsigned bar, uint64_t offset, uint64_t value64,
                           unsigned size)
{
    struct ptnet *pt = model;
    unsigned aligned = (unsigned)offset & ~3u;
    uint32_t value = (uint32_t)value64;

    if (bar != PTNETMAP_IO_PCI_BAR || !has_passthrough(pt))
        return;
    if (aligned >= PTNET_IO_KICK_BASE) {
        kick(pt, aligned, size);
        return;
    }
    switch (aligned) {
    case PTNET_IO_PTFEAT:
        *reg(pt, aligned) = value & pt->backend.features;
        break;
    case PTNET_IO_PTCTL:
        *reg(pt, aligned) = (uint32_t)control(pt, value);
        break;
    case PTNET_IO_VNET_HDR_LEN:
        if (ptnet_backend_set_header(&pt->backend, value) == 0)
            *reg(pt, aligned) = value;
        break;
    case PTNET_IO_CSB_GH_BAH:
    case PTNET_IO_CSB_HG_BAH:
        *reg(pt, aligned) = value;
        break;
    case PTNET_IO_CSB_GH_BAL:
        set_csb_base(pt, &pt->gh, PTNET_IO_CSB_GH_BAH, value);
        break;
    case PTNET_IO_CSB_HG_BAL:
        set_csb_base(pt, &pt->hg, PTNET_IO_CSB_HG_BAH, value);
        break;
    default:
        break;
    }
}

/* ---- life ---- */

static void reset(void *model)
{
    struct ptnet *pt = model;

    if (has_passthrough(pt))
        stop(pt);
    unmap_csb(&pt->gh);
    unmap_csb(&pt->hg);
    *reg(pt, PTNET_IO_MAC_LO) = (uint32_t)pt->mac[2] << 24 | (uint32_t)pt->mac[3] << 16 |
                                (uint32_t)pt->mac[4] << 8 | pt->mac[5];
    *reg(pt, PTNET_IO_MAC_HI) = (uint32_t)pt->mac[0] << 8 | pt->mac[1];
}

static void free_model(void *model)
{
    struct ptnet *pt = model;

    if (has_passthrough(pt))
        stop(pt);
    unmap_csb(&pt->gh);
    unmap_csb(&pt->hg);
    ptnet_backend_close(&pt->backend);
    g_free(pt);
}

static const struct pci_model_ops ptnet_ops = {
    .name = "ptnet-pci",
    .read = read_register,
    .write = write_register,
    .reset = reset,
    .free = free_model,
};

static bool open_port(struct ptnet *pt, struct nm_host *host, const struct ptnet_options *options,
                      GError **error)
{
    struct ptnet_backend *b = &pt->backend;

    if (!ptnet_backend_open(b, host, options, error))
        return false;
    b->interrupt = interrupt;
    b->interrupt_data = pt;
    pt->n_rings = (unsigned)b->port->reg.nr_tx_rings + b->port->reg.nr_rx_rings;
    if (pt->n_rings > PTNET_MAX_RINGS) {
        g_set_error(error, NM_ERROR, E2BIG, "%s has %u rings; a ptnet can have %d", options->port,
                    pt->n_rings, PTNET_MAX_RINGS);
        return false;
    }
    refresh_info(pt);
    return true;
}

struct pci_model *ptnet_new(struct nm_host *host, const struct ptnet_options *options,
                            GError **error)
{
    static const uint8_t no_mac[6], qemu_mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    struct ptnet *pt = g_new0(struct ptnet, 1);

    memcpy(pt->mac, memcmp(options->mac, no_mac, sizeof(no_mac)) ? options->mac : qemu_mac,
           sizeof(pt->mac));
    if (!options->no_passthrough && !open_port(pt, host, options, error)) {
        free_model(pt);
        return NULL;
    }
    struct pci_model_options pci = {
        .vendor_id = PTNETMAP_PCI_VENDOR_ID,
        .device_id = PTNETMAP_PCI_NETIF_ID,
        .subsystem_vendor_id = QEMU_SUBSYSTEM_VENDOR_ID,
        .subsystem_id = QEMU_SUBSYSTEM_ID,
        .class_code = CLASS_ETHERNET,
        .interrupt_pin = INTERRUPT_PIN_A,
        .cache_line = CACHE_LINE,
        .bars[PTNETMAP_IO_PCI_BAR] = {.size = PTNET_IO_BAR_BYTES, .is_io = true, .memory_fd = -1},
        .n_vectors = pt->n_rings,
        .msix_bar = PTNETMAP_MSIX_PCI_BAR,
    };
    pt->model = pci_model_new(&ptnet_ops, pt, &pci, error);
    if (!pt->model) {
        free_model(pt);
        return NULL;
    }
    reset(pt);
    return pt->model;
}

struct ptnet *ptnet_of(struct pci_model *m)
{
    return pci_model_name(m) == ptnet_ops.name ? pci_model_data(m) : NULL;
}

struct nm_file *ptnet_file(struct ptnet *pt)
{
    return has_passthrough(pt) ? pt->backend.port->file : NULL;
}

/* ---- stepping and figures ---- */

bool ptnet_step(struct ptnet *pt)
{
    struct ptnet_backend *b = &pt->backend;
    bool was_woken = false;

    if (!has_passthrough(pt))
        return false;
    pthread_mutex_lock(&b->lock);
    if (b->kloop && b->is_stepped) {
        was_woken = kloop_take_wake(b->kloop);
        kloop_step(b->kloop);
    }
    pthread_mutex_unlock(&b->lock);
    return was_woken;
}

bool ptnet_step_ring(struct ptnet *pt, unsigned ring)
{
    struct ptnet_backend *b = &pt->backend;

    if (!has_passthrough(pt) || ring >= pt->n_rings)
        return false;
    pthread_mutex_lock(&b->lock);
    bool is_running = b->kloop && b->is_stepped;
    if (is_running)
        kloop_step_ring(b->kloop, ring);
    pthread_mutex_unlock(&b->lock);
    return is_running;
}

struct ptnet_stats ptnet_stats(struct ptnet *pt)
{
    struct ptnet_stats s = {
        .creates = pt->creates,
        .deletes = pt->deletes,
        .create_failures = pt->create_failures,
        .csb_failures = pt->csb_failures,
    };

    for (unsigned i = 0; i < PTNET_MAX_RINGS; i++) {
        s.kicks[i] = pt->kicks[i];
        s.interrupts[i] = pt->interrupts[i];
    }
    return s;
}

struct kloop_stats ptnet_kloop_stats(struct ptnet *pt)
{
    struct kloop_stats stats = {0};

    if (has_passthrough(pt))
        ptnet_backend_stats(&pt->backend, &stats);
    return stats;
}
