/*
 * Fuzz target: a ptnet guest that writes anything to registers, CSB, slots and ring headers, in any
 * order, while its kernel loop is stepped over a VALE port. Whatever it does, nothing of the host's
 * is touched, and two other ports of the switch go on exchanging frames without losing one.
 * Input: one byte of rings and modes, then operations, a byte each with what it needs behind it.
 */
#include "models/abi/pci.h"
#include "models/abi/ptnet.h"
#include "models/netmap/nm_kern.h"
#include "models/ptnet/ptnet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    RAM_BYTES = 0x4000,
    RAM_GPA = 0x100000,
    GH_OFFSET = 0,
    HG_OFFSET = 0x1000,
    MAX_OPERATIONS = 200,
    FRAME_BYTES = 60,
};

/* ---- input ---- */

struct input {
    const uint8_t *data;
    size_t left;
};

static uint32_t take(struct input *in, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
        value |= (uint32_t)*in->data++ << (8 * i);
    return value;
}

/* Mostly small numbers and edges, as those get further than any 32 bits. */
static uint32_t take_index(struct input *in, uint32_t n)
{
    uint32_t how = take(in, 1);

    switch (how >> 6) {
    case 0:
    case 1:
        return (how & 0x3f) % (n + 2);
    case 2:
        return n - (how & 0x3f);
    default:
        return take(in, 4);
    }
}

/* ---- the switch, with two ports that behave; made once ---- */

static struct nm_host *host;
static struct nm_port *sender, *receiver;

static void make_host(void)
{
    host = nm_host_new(&(struct nm_host_options){.buf_num = 512, .ring_num = 32}, NULL);
    sender = nm_port_open(host, "vale0:b@1@conf:slots=16", 0, NULL);
    receiver = nm_port_open(host, "vale0:c@1@conf:slots=64", 0, NULL);
    g_assert(sender && receiver);
}

/* Takes all frames; returns how many of them are `frame`. */
static unsigned receive(const uint8_t *frame)
{
    struct netmap_ring *ring = nm_rxring(receiver->nifp, 0);
    uint32_t head = ring->head;
    unsigned n = 0;

    for (; head != ring->tail; head = nm_ring_next(ring, head))
        n += ring->slot[head].len == FRAME_BYTES &&
             !memcmp(nm_buf(ring, ring->slot[head].buf_idx), frame, FRAME_BYTES);
    ring->head = ring->cur = head;
    nm_rxsync(receiver->file);
    return n;
}

static void others_lose_no_frame(void)
{
    static uint64_t serial;
    struct netmap_ring *ring = nm_txring(sender->nifp, 0);
    uint8_t frame[FRAME_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xbb};

    serial++;
    memcpy(frame + 20, &serial, sizeof(serial));
    memset(frame + 28, 0x5a, sizeof(frame) - 28);
    nm_rxsync(receiver->file);
    receive(frame);
    struct netmap_slot *slot = &ring->slot[ring->head];
    memcpy(nm_buf(ring, slot->buf_idx), frame, FRAME_BYTES);
    slot->len = FRAME_BYTES;
    ring->head = ring->cur = nm_ring_next(ring, ring->head);
    nm_txsync(sender->file);
    nm_rxsync(receiver->file);
    unsigned n = receive(frame);
    g_assert(n == 1);
}

/* ---- the guest ---- */

struct guest {
    struct pci_model *model;
    struct ptnet *pt;
    struct pci_dma *dma;
    uint8_t *ram;
    unsigned n_rings, n_tx;
};

static void reg_write(struct guest *g, unsigned offset, uint32_t value)
{
    pci_model_bar_write(g->model, PTNETMAP_IO_PCI_BAR, offset, value, 4);
}

static void bring_up(struct guest *g)
{
    reg_write(g, PTNET_IO_CSB_GH_BAH, 0);
    reg_write(g, PTNET_IO_CSB_GH_BAL, RAM_GPA + GH_OFFSET);
    reg_write(g, PTNET_IO_CSB_HG_BAH, 0);
    reg_write(g, PTNET_IO_CSB_HG_BAL, RAM_GPA + HG_OFFSET);
    reg_write(g, PTNET_IO_PTCTL, PTNETMAP_PTCTL_CREATE);
}

static void set_memory(struct guest *g, unsigned how)
{
    struct pci_dma_range range = {RAM_GPA, RAM_BYTES, g->ram};

    if (how % 4 == 1)
        range.size = HG_OFFSET + 64; /* the end lies in the second array */
    pci_dma_set(g->dma, &range, how % 4 == 0 ? 0 : 1, NULL, NULL);
}

static void access_bar(struct guest *g, struct input *in)
{
    unsigned bar = take(in, 1) % 3, offset = take(in, 1), size = 1u << (take(in, 1) % 4);

    pci_model_bar_read(g->model, bar, offset, size);
    pci_model_bar_write(g->model, bar, offset, take(in, 4), size);
}

static void write_csb(struct guest *g, struct input *in)
{
    unsigned ring = take(in, 1) % (g->n_rings + 1), field = take(in, 1);
    uint32_t value = take_index(in, 16);
    unsigned offset = field & 0x80 ? HG_OFFSET : GH_OFFSET;

    memcpy(g->ram + offset + 64 * ring + 4 * (field % 4), &value, sizeof(value));
}

/* What a driver would write: cur and head, the same. */
static void publish(struct guest *g, struct input *in)
{
    unsigned ring = take(in, 1) % g->n_rings;
    uint32_t head = take_index(in, 16);

    memcpy(g->ram + GH_OFFSET + 64 * ring, &head, sizeof(head));
    memcpy(g->ram + GH_OFFSET + 64 * ring + 4, &head, sizeof(head));
    reg_write(g, PTNET_IO_KICK_BASE + 4 * ring, 0);
}

static struct netmap_ring *ring_of(struct guest *g, unsigned ring)
{
    /* as it was registered, not as the guest may have written since */
    struct nm_file *file = ptnet_file(g->pt);

    return ring < g->n_tx ? file->na->krings[NM_TX][ring].ring
                          : file->na->krings[NM_RX][ring - g->n_tx].ring;
}

static void write_slot(struct guest *g, struct input *in)
{
    struct netmap_ring *ring = ring_of(g, take(in, 1) % g->n_rings);
    struct netmap_slot *slot = &ring->slot[take(in, 1) % 16];

    slot->buf_idx = take_index(in, 4098);
    slot->len = (uint16_t)take_index(in, 2048);
    slot->flags = (uint16_t)take(in, 2);
    slot->ptr = take(in, 4);
}

static void write_header(struct guest *g, struct input *in)
{
    uint8_t *bytes = (uint8_t *)ring_of(g, take(in, 1) % g->n_rings);
    uint32_t offset = 4 * (take(in, 1) % 64), value = take_index(in, 16);

    memcpy(bytes + offset, &value, sizeof(value));
}

static void write_interface(struct guest *g, struct input *in)
{
    uint8_t *bytes = (uint8_t *)nm_file_if(ptnet_file(g->pt));
    uint32_t offset = 4 * (take(in, 1) % 32), value = take_index(in, 16);

    memcpy(bytes + offset, &value, sizeof(value));
}

static void operate(struct guest *g, struct input *in)
{
    uint8_t what = (uint8_t)take(in, 1);

    switch (what % 16) {
    case 0:
        bring_up(g);
        break;
    case 1:
        reg_write(g, take(in, 1) & ~3u, take(in, 4));
        break;
    case 2:
        access_bar(g, in);
        break;
    case 3:
    case 4:
        publish(g, in);
        break;
    case 5:
        write_csb(g, in);
        break;
    case 6:
        write_slot(g, in);
        break;
    case 7:
        write_header(g, in);
        break;
    case 8:
        write_interface(g, in);
        break;
    case 9:
    case 10:
        ptnet_step(g->pt);
        break;
    case 11:
        ptnet_step_ring(g->pt, take(in, 1) % (g->n_rings + 1));
        break;
    case 12:
        set_memory(g, what >> 4);
        break;
    case 13:
        pci_model_config_write(g->model, take(in, 1), take(in, 4), 1u << what / 16 % 3);
        break;
    case 14:
        others_lose_no_frame();
        break;
    default:
        if (what >> 4 == 0)
            pci_model_reset(g->model);
        else
            reg_write(g, PTNET_IO_PTCTL, what >> 6);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const ports[] = {"vale0:a@conf:slots=16", "vale0:a@conf:slots=16,rings=3"};
    struct input in = {data, size};
    uint8_t how = (uint8_t)take(&in, 1);
    struct ptnet_options options = {.port = ports[how & 1],
                                    .is_stepped = true,
                                    .kloop_direct_tx = how & 2,
                                    .kloop_direct_rx = how & 4};
    struct guest g = {0};

    if (!host)
        make_host();
    g.ram = g_aligned_alloc0(1, RAM_BYTES, 4096);
    g.dma = pci_dma_new();
    g.model = ptnet_new(host, &options, NULL);
    g_assert(g.model);
    g.pt = ptnet_of(g.model);
    pci_model_set_dma(g.model, g.dma);
    g.n_tx = how & 1 ? 3 : 1;
    g.n_rings = 2 * g.n_tx;
    set_memory(&g, 2);
    if (how & 8)
        bring_up(&g);
    for (unsigned i = 0; i < MAX_OPERATIONS && in.left > 0; i++)
        operate(&g, &in);
    others_lose_no_frame();
    pci_model_free(g.model);
    pci_dma_free(g.dma);
    g_aligned_free(g.ram);
    others_lose_no_frame();
    return 0;
}
