/*
 * Bringing the virtio network device up and down: options, features, queues, buffers, interrupts.
 * The data path is in virtio_net_data.c, waiting in virtio_net_wait.c.
 */
#include "models/abi/pci.h"
#include "qtest_client/virtio_net_private.h"

#include <inttypes.h>
#include <string.h>

G_DEFINE_QUARK(virtio_net_error, virtio_net_error)

/* What the driver knows how to use. Offloads, the control queue and multiqueue join here once there
 * is code for them: each is a promise to the device. */
#define KNOWN_FEATURES                                                                             \
    (VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) |                      \
     VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_FEATURE(VIRTIO_F_ANY_LAYOUT) |                \
     VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) |                 \
     VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_F_RING_RESET))

static bool has(const struct virtio_net *net, unsigned bit)
{
    return net->transport->features & VIRTIO_FEATURE(bit);
}

static void G_GNUC_PRINTF(3, 4)
    invalid(struct pci_device *dev, GError **error, const char *format, ...)
{
    g_autofree char *name = pci_device_describe(dev);
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID, "%s: %s", name, text);
}

/* ---- options ---- */

static bool check_options(struct pci_device *dev, const struct virtio_net_options *o,
                          GError **error)
{
    uint64_t unknown = o->wanted_features & ~o->refused_features & ~KNOWN_FEATURES;

    if (dev->vendor_id != VIRTIO_PCI_VENDOR_ID ||
        (dev->device_id != VIRTIO_NET_DEVICE_ID &&
         dev->device_id != VIRTIO_NET_DEVICE_ID_TRANSITIONAL)) {
        invalid(dev, error, "not a virtio network device");
    } else if (o->n_pairs > 1) {
        invalid(dev, error,
                "%u queue pairs: this driver has one (more need the control queue and feature MQ)",
                o->n_pairs);
    } else if (unknown) {
        invalid(dev, error, "feature bits 0x%" PRIx64 " are wanted, which the driver cannot use",
                unknown);
    } else if (!o->region || o->region->gpa == GUEST_UNPLACED) {
        invalid(dev, error,
                "rings and buffers need memory that has a guest address: RAM, or what an ivshmem "
                "device of this machine shows");
    } else if (o->tx_chain > VIRTIO_NET_MAX_CHAIN) {
        invalid(dev, error, "%u descriptors per transmit frame (at most %d)", o->tx_chain,
                VIRTIO_NET_MAX_CHAIN);
    } else if (o->use_interrupts && o->interrupts == INTERRUPT_EVENTFD && !o->bridge) {
        invalid(dev, error, "interrupts as eventfds need an interrupt bridge");
    } else if (o->use_interrupts && o->interrupts != INTERRUPT_LINE && dev->msix_n < 3) {
        invalid(dev, error, "3 MSI-X vectors are needed, the device has %u", dev->msix_n);
    } else {
        return true;
    }
    return false;
}

/* Without MRG_RXBUF a receive buffer holds header and whole frame (5.1.6.3.1). */
static bool check_buffer_bytes(struct virtio_net *net, unsigned bytes, GError **error)
{
    unsigned least = net->header_bytes + (net->has_mrg_rxbuf ? 1 : VIRTIO_NET_MAX_FRAME);
    unsigned most = NET_SCRATCH_BYTES;

    if (bytes < least || bytes > most) {
        invalid(net->transport->dev, error, "receive buffers of %u bytes (%u to %u, %s MRG_RXBUF)",
                bytes, least, most, net->has_mrg_rxbuf ? "with" : "without");
        return false;
    }
    return true;
}

/* ---- interrupts ---- */

static bool open_line(struct virtio_net *net, GError **error)
{
    struct pci_device *dev = net->transport->dev;

    if ((dev->msix_cap && !msix_set_enabled(dev, false, error)) ||
        !pci_command(dev, 0, PCI_COMMAND_INTX_DISABLE, error)) {
        return false;
    }
    net->config_irq = interrupt_new_line(dev, error);
    net->rx.irq = net->tx.irq = net->config_irq;
    return net->config_irq != NULL;
}

static struct interrupt *open_vector(struct virtio_net *net, const struct virtio_net_options *o,
                                     unsigned vector, GError **error)
{
    struct pci_device *dev = net->transport->dev;
    uint64_t word = o->region->gpa + net->words_offset + (uint64_t)vector * NET_WORD_STRIDE;

    return o->interrupts == INTERRUPT_EVENTFD
               ? interrupt_new_eventfd(dev, vector, o->bridge, error)
               : interrupt_new_memory(dev, vector, word, vector + 1, error);
}

static bool open_interrupts(struct virtio_net *net, const struct virtio_net_options *o,
                            GError **error)
{
    struct pci_device *dev = net->transport->dev;

    net->use_interrupts = o->use_interrupts;
    net->kind = o->interrupts;
    if (!o->use_interrupts) {
        net->intx_was_disabled = true;
        return pci_command(dev, PCI_COMMAND_INTX_DISABLE, 0, error);
    }
    if (o->interrupts == INTERRUPT_LINE) {
        return open_line(net, error);
    }
    if (o->interrupts == INTERRUPT_MEMORY) {
        if (!guest_region_alloc(o->region, 3 * NET_WORD_STRIDE, NET_WORD_STRIDE, &net->words_offset,
                                error)) {
            return false;
        }
        net->words_region = o->region;
        net->has_words = true;
    }
    return (net->config_irq = open_vector(net, o, NET_VECTOR_CONFIG, error)) &&
           (net->rx.irq = open_vector(net, o, 1u + net->rx.index, error)) &&
           (net->tx.irq = open_vector(net, o, 1u + net->tx.index, error)) &&
           msix_set_enabled(dev, true, error);
}

static void close_interrupts(struct virtio_net *net)
{
    struct pci_device *dev = net->transport->dev;

    if (net->intx_was_disabled) {
        pci_command(dev, 0, PCI_COMMAND_INTX_DISABLE, NULL);
    }
    if (net->rx.irq != net->config_irq) {
        interrupt_free(net->rx.irq);
    }
    if (net->tx.irq != net->config_irq) {
        interrupt_free(net->tx.irq);
    }
    interrupt_free(net->config_irq);
    if (net->use_interrupts && net->kind != INTERRUPT_LINE) {
        msix_set_enabled(dev, false, NULL);
    }
    if (net->has_words) {
        guest_region_release(net->words_region, net->words_offset);
    }
}

static uint16_t vector_of(const struct virtio_net *net, unsigned vector)
{
    bool has_vectors = net->use_interrupts && net->kind != INTERRUPT_LINE;

    return (uint16_t)(has_vectors ? vector : VIRTIO_NO_VECTOR);
}

/* ---- queues and buffers ---- */

static bool open_buffers(struct net_buffers *b, struct guest_region *region, unsigned n,
                         unsigned bytes, GError **error)
{
    uint64_t stride = (bytes + NET_BUFFER_ALIGN - 1u) / NET_BUFFER_ALIGN * NET_BUFFER_ALIGN;

    if (!guest_region_alloc(region, n * stride, NET_BUFFER_ALIGN, &b->region_offset, error)) {
        return false;
    }
    b->is_allocated = true;
    b->region = region;
    b->n = n;
    b->bytes = bytes;
    b->all = g_new0(struct net_buffer, n);
    b->stack = g_new0(uint32_t, n);
    for (unsigned i = 0; i < n; i++) {
        uint64_t offset = b->region_offset + i * stride;
        b->all[i] = (struct net_buffer){region->host + offset, region->gpa + offset, i, false};
        b->stack[i] = n - 1 - i; /* the first buffer is taken first */
    }
    b->n_stack = n;
    return true;
}

static void close_queue(struct net_queue *q)
{
    if (q->buffers.is_allocated) {
        guest_region_release(q->buffers.region, q->buffers.region_offset);
    }
    g_free(q->buffers.all);
    g_free(q->buffers.stack);
    g_free(q->scratch);
    g_free(q->scratch_memory);
    g_free(q->free_scratch);
    virtqueue_free(q->vq);
}

static void open_scratch(struct net_queue *rx)
{
    rx->scratch = g_new0(struct net_scratch, NET_N_SCRATCH);
    rx->scratch_memory = g_malloc((gsize)NET_N_SCRATCH * NET_SCRATCH_BYTES);
    rx->free_scratch = g_new0(uint32_t, NET_N_SCRATCH);
    for (unsigned i = 0; i < NET_N_SCRATCH; i++) {
        rx->scratch[i].data = rx->scratch_memory + (gsize)i * NET_SCRATCH_BYTES;
        rx->free_scratch[i] = i;
    }
    rx->n_free_scratch = NET_N_SCRATCH;
}

static bool open_ring(struct virtio_net *net, struct net_queue *q, uint16_t size,
                      const struct virtio_net_options *o, uint16_t indirect_entries, GError **error)
{
    struct pci_device *dev = net->transport->dev;

    if (size == 0 && !virtio_pci_queue_max_size(net->transport, q->index, &size, error)) {
        return false;
    }
    q->vq = virtqueue_new(dev->machine->memory, o->region, size,
                          o->transport == VIRTIO_TRANSPORT_LEGACY ? VIRTQUEUE_LAYOUT_LEGACY
                                                                  : VIRTQUEUE_LAYOUT_MODERN,
                          has(net, VIRTIO_F_EVENT_IDX), indirect_entries, error);
    return q->vq && virtio_pci_queue_enable(net->transport, q->index, q->vq,
                                            vector_of(net, 1u + q->index), error);
}

static bool open_rx(struct virtio_net *net, const struct virtio_net_options *o, GError **error)
{
    unsigned bytes = o->buffer_bytes ? o->buffer_bytes : NET_DEFAULT_BUFFER_BYTES;
    struct net_queue *rx = &net->rx;

    if (!check_buffer_bytes(net, bytes, error) || !open_ring(net, rx, o->rx_size, o, 0, error)) {
        return false;
    }
    /* the framing of a device that insists: 5.1.6.6 */
    rx->n_desc =
        has(net, VIRTIO_F_VERSION_1) || has(net, VIRTIO_F_ANY_LAYOUT) || net->has_mrg_rxbuf ? 1 : 2;
    if (rx->vq->size < rx->n_desc) {
        invalid(net->transport->dev, error, "a receive ring of %u entries (chains take %u)",
                rx->vq->size, rx->n_desc);
        return false;
    }
    if (net->has_mrg_rxbuf) {
        open_scratch(rx);
    }
    return open_buffers(&rx->buffers, o->region, rx->vq->size / rx->n_desc, bytes, error);
}

static bool open_tx(struct virtio_net *net, const struct virtio_net_options *o, GError **error)
{
    bool any_layout = has(net, VIRTIO_F_VERSION_1) || has(net, VIRTIO_F_ANY_LAYOUT);
    bool has_tables = has(net, VIRTIO_F_INDIRECT_DESC) && o->indirect_entries > 1;
    unsigned bytes = MAX(o->buffer_bytes, net->header_bytes + VIRTIO_NET_MAX_FRAME);
    struct net_queue *tx = &net->tx;

    if (!open_ring(net, tx, o->tx_size, o, has_tables ? o->indirect_entries : 0, error)) {
        return false;
    }
    tx->n_desc = o->tx_chain ? o->tx_chain : any_layout && !has_tables ? 1 : 2;
    if (tx->n_desc == 1 && !any_layout) {
        invalid(net->transport->dev, error,
                "one descriptor per transmit frame needs VERSION_1 or ANY_LAYOUT");
        return false;
    }
    unsigned in_ring = has_tables && tx->n_desc <= o->indirect_entries ? 1 : tx->n_desc;
    if (tx->vq->size < in_ring) {
        invalid(net->transport->dev, error, "a transmit ring of %u entries (chains take %u)",
                tx->vq->size, in_ring);
        return false;
    }
    return open_buffers(&tx->buffers, o->region, tx->vq->size / in_ring, bytes, error);
}

/* ---- life ---- */

static bool read_mac(struct virtio_net *net, GError **error)
{
    const struct pci_device *dev = net->transport->dev;

    if (has(net, VIRTIO_NET_F_MAC)) {
        return virtio_pci_config_read(net->transport, VIRTIO_NET_CFG_MAC, net->mac,
                                      sizeof(net->mac), error);
    }
    const uint8_t own[] = {0x02, 'r', 'l', dev->bus, dev->slot, dev->function};
    memcpy(net->mac, own, sizeof(own));
    return true;
}

static bool negotiate(struct virtio_net *net, const struct virtio_net_options *o, GError **error)
{
    bool is_modern = o->transport == VIRTIO_TRANSPORT_MODERN;
    uint64_t version_1 = VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
    uint64_t wanted = o->wanted_features ? o->wanted_features : KNOWN_FEATURES;

    wanted &= ~(o->refused_features | version_1);
    if (o->indirect_entries == 0) {
        wanted &= ~VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC);
    }
    if (!virtio_pci_negotiate(net->transport, wanted, is_modern ? version_1 : 0, error)) {
        return false;
    }
    net->has_mrg_rxbuf = has(net, VIRTIO_NET_F_MRG_RXBUF);
    net->header_bytes = has(net, VIRTIO_F_VERSION_1) || net->has_mrg_rxbuf
                            ? VIRTIO_NET_HDR_BYTES
                            : VIRTIO_NET_HDR_BYTES_LEGACY;
    return true;
}

/* 3.1.1, steps 7 and 8. Kicks only after DRIVER_OK: one that came before might be forgotten. */
static bool go_live(struct virtio_net *net, GError **error)
{
    virtio_net_post(net, &net->rx);
    virtqueue_disable_interrupts(net->tx.vq);
    if (!net->use_interrupts) {
        virtqueue_disable_interrupts(net->rx.vq);
    }
    return virtio_pci_add_status(net->transport, VIRTIO_STATUS_DRIVER_OK, error) &&
           virtio_net_kick(net, &net->rx, &net->stats.rx_kicks, error) &&
           virtio_pci_check(net->transport, error);
}

static bool bring_up(struct virtio_net *net, const struct virtio_net_options *o, GError **error)
{
    return virtio_pci_reset(net->transport, error) && open_interrupts(net, o, error) &&
           negotiate(net, o, error) && read_mac(net, error) && open_rx(net, o, error) &&
           open_tx(net, o, error) &&
           virtio_pci_set_config_vector(net->transport, vector_of(net, NET_VECTOR_CONFIG), error) &&
           go_live(net, error);
}

struct virtio_net *virtio_net_new(struct pci_device *dev, const struct virtio_net_options *options,
                                  GError **error)
{
    if (!check_options(dev, options, error)) {
        return NULL;
    }
    struct virtio_pci *transport = virtio_pci_new(dev, options->transport, error);
    if (!transport) {
        return NULL;
    }
    struct virtio_net *net = g_new0(struct virtio_net, 1);
    net->transport = transport;
    net->rx.index = 0;
    net->tx.index = 1;
    if (!bring_up(net, options, error)) {
        virtio_net_free(net);
        return NULL;
    }
    return net;
}

void virtio_net_free(struct virtio_net *net)
{
    if (!net) {
        return;
    }
    /* before the memory is given back; if the device cannot be reached any more, it is gone */
    virtio_pci_reset(net->transport, NULL);
    close_interrupts(net);
    close_queue(&net->rx);
    close_queue(&net->tx);
    virtio_pci_free(net->transport);
    g_free(net);
}

/* ---- what it is ---- */

struct net_queue *virtio_net_queue(struct virtio_net *net, unsigned pair, bool is_rx,
                                   GError **error)
{
    if (pair != 0) {
        invalid(net->transport->dev, error, "there is no queue pair %u (0 is the only one)", pair);
        return NULL;
    }
    return is_rx ? &net->rx : &net->tx;
}

bool virtio_net_queue_ok(struct virtio_net *net, struct net_queue *q, GError **error)
{
    if (!q->vq->is_broken) {
        return true;
    }
    g_autofree char *name = pci_device_describe(net->transport->dev);
    g_set_error(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_DEVICE,
                "%s: the device broke queue %u: %s; reset it", name, q->index,
                q->vq->broken_reason);
    return false;
}

struct virtio_pci *virtio_net_transport(struct virtio_net *net)
{
    return net->transport;
}

struct virtqueue *virtio_net_rx_queue(struct virtio_net *net, unsigned pair)
{
    struct net_queue *q = virtio_net_queue(net, pair, true, NULL);

    return q ? q->vq : NULL;
}

struct virtqueue *virtio_net_tx_queue(struct virtio_net *net, unsigned pair)
{
    struct net_queue *q = virtio_net_queue(net, pair, false, NULL);

    return q ? q->vq : NULL;
}

struct interrupt *virtio_net_rx_interrupt(struct virtio_net *net, unsigned pair)
{
    struct net_queue *q = virtio_net_queue(net, pair, true, NULL);

    return q ? q->irq : NULL;
}

struct interrupt *virtio_net_tx_interrupt(struct virtio_net *net, unsigned pair)
{
    struct net_queue *q = virtio_net_queue(net, pair, false, NULL);

    return q ? q->irq : NULL;
}

struct interrupt *virtio_net_config_interrupt(struct virtio_net *net)
{
    return net->config_irq;
}

uint64_t virtio_net_features(const struct virtio_net *net)
{
    return net->transport->features;
}

unsigned virtio_net_header_bytes(const struct virtio_net *net)
{
    return net->header_bytes;
}

const uint8_t *virtio_net_mac(const struct virtio_net *net)
{
    return net->mac;
}

bool virtio_net_link_up(struct virtio_net *net, bool *is_up, GError **error)
{
    uint16_t status;

    if (!has(net, VIRTIO_NET_F_STATUS)) {
        *is_up = true;
        return true;
    }
    if (!virtio_pci_config_read(net->transport, VIRTIO_NET_CFG_STATUS, &status, sizeof(status),
                                error)) {
        return false;
    }
    *is_up = GUINT16_FROM_LE(status) & VIRTIO_NET_S_LINK_UP;
    return true;
}

struct virtio_net_stats virtio_net_stats(const struct virtio_net *net)
{
    struct virtio_net_stats stats = net->stats;
    const struct interrupt *irqs[] = {net->config_irq, net->rx.irq, net->tx.irq};
    bool is_shared = net->rx.irq == net->config_irq;

    for (unsigned i = 0; i < (is_shared ? 1 : G_N_ELEMENTS(irqs)); i++) {
        stats.interrupts += irqs[i] ? irqs[i]->n_taken : 0;
    }
    return stats;
}
