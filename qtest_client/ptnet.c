/*
 * ptnet's bring-up and tear-down: register accesses in the order of the Linux driver (sections are
 * those of the reference sheet ptnet.md).
 */
#include "models/abi/pci.h"
#include "qtest_client/ptnet_private.h"

#include <inttypes.h>
#include <string.h>

G_DEFINE_QUARK(ptnet_error, ptnet_error)

bool ptnet_fail(const struct ptnet_driver *d, int code, GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *name = pci_device_describe(d->dev);
    g_set_error(error, PTNET_ERROR, code, "%s: %s", name, what);
    return false;
}

/* ---- registers ---- */

static bool read_reg(struct ptnet_driver *d, enum ptnet_offset offset, uint32_t *value,
                     GError **error)
{
    uint64_t read;

    if (!pci_bar_read(d->dev, PTNETMAP_IO_PCI_BAR, offset, 4, &read, error)) {
        return false;
    }
    *value = (uint32_t)read;
    return true;
}

static bool write_reg(struct ptnet_driver *d, enum ptnet_offset offset, uint32_t value,
                      GError **error)
{
    return pci_bar_write(d->dev, PTNETMAP_IO_PCI_BAR, offset, 4, value, error);
}

/* 3.1, 3.2: a command, and its status. */
static bool command(struct ptnet_driver *d, uint32_t ptctl, const char *name, GError **error)
{
    uint32_t status;

    if (!write_reg(d, PTNET_IO_PTCTL, ptctl, error) ||
        !read_reg(d, PTNET_IO_PTCTL, &status, error)) {
        return false;
    }
    return status == 0 ||
           ptnet_fail(d, PTNET_ERROR_DEVICE, error, "PTCTL %s: status %" PRIu32 " (%s)", name,
                      status, g_strerror((int)status));
}

static bool negotiate_header(struct ptnet_driver *d, GError **error)
{
    uint32_t wanted = d->features & PTNETMAP_F_VNET_HDR ? NM_VNET_HDR_LEN_12 : 0;

    if (!write_reg(d, PTNET_IO_VNET_HDR_LEN, wanted, error) ||
        !read_reg(d, PTNET_IO_VNET_HDR_LEN, &d->header_bytes, error)) {
        return false;
    }
    return d->header_bytes == 0 || d->header_bytes == NM_VNET_HDR_LEN_10 ||
           d->header_bytes == NM_VNET_HDR_LEN_12 ||
           ptnet_fail(d, PTNET_ERROR_DEVICE, error, "VNET_HDR_LEN reads %" PRIu32, d->header_bytes);
}

/* ---- probe ---- */

static bool check_options(struct ptnet_driver *d, GError **error)
{
    const struct ptnet_driver_options *o = &d->options;

    if (d->dev->vendor_id != PTNETMAP_PCI_VENDOR_ID || d->dev->device_id != PTNETMAP_PCI_NETIF_ID) {
        return ptnet_fail(d, PTNET_ERROR_INVALID, error, "is %04x:%04x, not ptnet (%04x:%04x)",
                          d->dev->vendor_id, d->dev->device_id, PTNETMAP_PCI_VENDOR_ID,
                          PTNETMAP_PCI_NETIF_ID);
    }
    if (!o->shared || o->shared->gpa == GUEST_UNPLACED) {
        return ptnet_fail(d, PTNET_ERROR_INVALID, error,
                          "the CSB needs shared memory that has a guest address");
    }
    if (o->has_interrupts && o->interrupt_kind == INTERRUPT_LINE) {
        return ptnet_fail(d, PTNET_ERROR_INVALID, error, "has MSI-X only, no interrupt line");
    }
    if (o->has_interrupts && o->interrupt_kind == INTERRUPT_EVENTFD && !o->bridge) {
        return ptnet_fail(d, PTNET_ERROR_INVALID, error,
                          "interrupts as eventfds need an interrupt bridge");
    }
    return true;
}

/* 8.1 step 3; no more rings than there are kick registers. */
static bool read_ring_numbers(struct ptnet_driver *d, GError **error)
{
    uint32_t n_tx, n_rx;

    if (!read_reg(d, PTNET_IO_NUM_TX_RINGS, &n_tx, error) ||
        !read_reg(d, PTNET_IO_NUM_RX_RINGS, &n_rx, error)) {
        return false;
    }
    if (n_tx == 0 || n_rx == 0 || n_tx > PTNET_MAX_QUEUES || n_rx > PTNET_MAX_QUEUES - n_tx) {
        return ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                          "it says it has %" PRIu32 " tx and %" PRIu32 " rx rings (%d at most)",
                          n_tx, n_rx, PTNET_MAX_QUEUES);
    }
    d->n_rings[true] = n_tx;
    d->n_rings[false] = n_rx;
    return true;
}

static bool write_address(struct ptnet_driver *d, enum ptnet_offset high, enum ptnet_offset low,
                          uint64_t gpa, GError **error)
{
    return write_reg(d, high, (uint32_t)(gpa >> 32), error) &&
           write_reg(d, low, (uint32_t)gpa, error);
}

/* Steps 4 and 5: two pages, the second for what the host writes. */
static bool open_csb(struct ptnet_driver *d, GError **error)
{
    struct guest_region *shared = d->options.shared;

    if (!guest_region_alloc(shared, 2 * PTNET_PAGE_BYTES, PTNET_PAGE_BYTES, &d->csb_offset,
                            error)) {
        return false;
    }
    d->has_csb = true;
    struct nm_csb_atok *atok = (void *)(shared->host + d->csb_offset);
    struct nm_csb_ktoa *ktoa = (void *)(shared->host + d->csb_offset + PTNET_PAGE_BYTES);
    for (unsigned i = 0; i < ptnet_n_queues(d); i++) {
        d->queues[i] = (struct ptnet_queue){.driver = d,
                                            .index = i,
                                            .is_tx = i < d->n_rings[true],
                                            .has_no_interrupts = !d->options.has_interrupts,
                                            .atok = &atok[i],
                                            .ktoa = &ktoa[i]};
    }
    uint64_t gpa = shared->gpa + d->csb_offset;
    d->is_told = true;
    return write_address(d, PTNET_IO_CSB_GH_BAH, PTNET_IO_CSB_GH_BAL, gpa, error) &&
           write_address(d, PTNET_IO_CSB_HG_BAH, PTNET_IO_CSB_HG_BAL, gpa + PTNET_PAGE_BYTES,
                         error);
}

static bool read_mac(struct ptnet_driver *d, GError **error)
{
    uint32_t high, low;

    if (!read_reg(d, PTNET_IO_MAC_HI, &high, error) || !read_reg(d, PTNET_IO_MAC_LO, &low, error)) {
        return false;
    }
    for (unsigned i = 0; i < sizeof(d->mac); i++) {
        d->mac[i] = (uint8_t)(i < 2 ? high >> (8 - 8 * i) : low >> (40 - 8 * i));
    }
    return true;
}

static struct interrupt *open_vector(struct ptnet_driver *d, unsigned vector, GError **error)
{
    const struct ptnet_driver_options *o = &d->options;
    uint64_t word = o->shared->gpa + d->words_offset + (uint64_t)vector * PTNET_WORD_STRIDE;

    return o->interrupt_kind == INTERRUPT_EVENTFD
               ? interrupt_new_eventfd(d->dev, vector, o->bridge, error)
               : interrupt_new_memory(d->dev, vector, word, vector + 1, error);
}

/* Step 8: as many vectors as rings, ring i has vector i. */
static bool open_interrupts(struct ptnet_driver *d, GError **error)
{
    const unsigned n = ptnet_n_queues(d);

    if (!d->options.has_interrupts) {
        return d->dev->msix_cap == 0 || msix_set_enabled(d->dev, false, error);
    }
    if (d->dev->msix_n != n) {
        return ptnet_fail(d, PTNET_ERROR_DEVICE, error, "%u MSI-X vectors for %u rings",
                          d->dev->msix_n, n);
    }
    if (d->options.interrupt_kind == INTERRUPT_MEMORY) {
        if (!guest_region_alloc(d->options.shared, (uint64_t)n * PTNET_WORD_STRIDE,
                                PTNET_WORD_STRIDE, &d->words_offset, error)) {
            return false;
        }
        d->has_words = true;
    }
    for (unsigned i = 0; i < n; i++) {
        d->queues[i].irq = open_vector(d, i, error);
        if (!d->queues[i].irq) {
            return false;
        }
    }
    return msix_set_enabled(d->dev, true, error);
}

static bool check_slots(struct ptnet_driver *d, uint32_t n_tx_slots, uint32_t n_rx_slots,
                        GError **error)
{
    d->n_slots[true] = n_tx_slots;
    d->n_slots[false] = n_rx_slots;
    return (n_tx_slots >= 2 && n_rx_slots >= 2) ||
           ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                      "it says its rings have %" PRIu32 " tx and %" PRIu32 " rx slots", n_tx_slots,
                      n_rx_slots);
}

/* 8.1 */
static bool probe(struct ptnet_driver *d, GError **error)
{
    uint32_t n_tx_slots, n_rx_slots;

    return pci_device_enable(d->dev, error) && /* step 1 */
           write_reg(d, PTNET_IO_PTFEAT, d->options.no_vnet_hdr ? 0 : PTNETMAP_F_VNET_HDR,
                     error) && /* 2 */
           read_reg(d, PTNET_IO_PTFEAT, &d->features, error) &&
           read_ring_numbers(d, error) &&                            /* 3 */
           open_csb(d, error) &&                                     /* 4, 5 */
           read_mac(d, error) &&                                     /* 6 */
           open_interrupts(d, error) &&                              /* 8 */
           read_reg(d, PTNET_IO_NIFP_OFS, &d->nifp_ofs, error) &&    /* 10 */
           read_reg(d, PTNET_IO_NUM_TX_SLOTS, &n_tx_slots, error) && //
           read_reg(d, PTNET_IO_NUM_RX_SLOTS, &n_rx_slots, error) && //
           check_slots(d, n_tx_slots, n_rx_slots, error) &&
           read_reg(d, PTNET_IO_HOSTMEMID, &d->host_mem_id, error) &&
           negotiate_header(d, error) && /* 11 */
           ptnet_memory_map(d, error) && ptnet_memory_find_rings(d, error);
}

struct ptnet_driver *ptnet_driver_new(struct pci_device *dev,
                                      const struct ptnet_driver_options *options, GError **error)
{
    struct ptnet_driver *d = g_new0(struct ptnet_driver, 1);

    d->dev = dev;
    d->options = *options;
    if (!check_options(d, error) || !probe(d, error)) {
        ptnet_driver_free(d);
        return NULL;
    }
    return d;
}

/* ---- on and off (8.4) ---- */

/* The config callback: what the rings were laid out for still holds. */
static bool refresh_config(struct ptnet_driver *d, GError **error)
{
    static const enum ptnet_offset offsets[] = {PTNET_IO_NUM_TX_RINGS, PTNET_IO_NUM_RX_RINGS,
                                                PTNET_IO_NUM_TX_SLOTS, PTNET_IO_NUM_RX_SLOTS};
    const uint32_t expected[] = {d->n_rings[true], d->n_rings[false], d->n_slots[true],
                                 d->n_slots[false]};

    for (unsigned i = 0; i < G_N_ELEMENTS(offsets); i++) {
        uint32_t now;
        if (!read_reg(d, offsets[i], &now, error)) {
            return false;
        }
        if (now != expected[i]) {
            return ptnet_fail(d, PTNET_ERROR_DEVICE, error,
                              "its rings have changed since the probe: register 0x%02x reads "
                              "%" PRIu32 ", not %" PRIu32,
                              (unsigned)offsets[i], now, expected[i]);
        }
    }
    return true;
}

/* ON step 1d: the indices that CREATE left in the CSB. */
static bool take_indices(struct ptnet_queue *q, GError **error)
{
    const uint32_t n = q->num_slots;

    q->rhead = ptnet_load(&q->atok->head);
    q->rcur = ptnet_load(&q->atok->cur);
    q->owes_kick = false;
    if (q->rhead >= n || q->rcur >= n) {
        return ptnet_fail(q->driver, PTNET_ERROR_DEVICE, error,
                          "ring %u of %" PRIu32 " slots starts with head %" PRIu32
                          " and cur %" PRIu32,
                          q->index, n, q->rhead, q->rcur);
    }
    q->hwtail = q->rhead; /* nothing yet */
    ptnet_store(&q->ring->head, q->rhead);
    ptnet_store(&q->ring->cur, q->rcur);
    if (!ptnet_sync_tail(q, error)) {
        return false;
    }
    q->is_armed = true;
    if (q->has_no_interrupts) {
        ptnet_disarm(q); /* 6.3: interrupts off */
    }
    return true;
}

bool ptnet_driver_start(struct ptnet_driver *d, GError **error)
{
    if (d->is_started) {
        return ptnet_fail(d, PTNET_ERROR_INVALID, error, "is started already");
    }
    if (!refresh_config(d, error)) {
        return false;
    }
    for (unsigned i = 0; i < ptnet_n_queues(d); i++) { /* ON step 1a */
        struct ptnet_queue *q = &d->queues[i];
        ptnet_store(&q->atok->appl_need_kick, !q->is_tx);
        ptnet_store(&q->ktoa->kern_need_kick, 1);
    }
    if (!negotiate_header(d, error) || !command(d, PTNETMAP_PTCTL_CREATE, "CREATE", error)) {
        return false;
    }
    d->is_started = true;
    for (unsigned i = 0; i < ptnet_n_queues(d); i++) {
        if (!take_indices(&d->queues[i], error)) {
            ptnet_driver_stop(d, NULL);
            return false;
        }
    }
    return true;
}

bool ptnet_driver_stop(struct ptnet_driver *d, GError **error)
{
    d->is_started = false;
    return command(d, PTNETMAP_PTCTL_DELETE, "DELETE", error);
}

/* ---- tear-down ---- */

/* 8.1, "Remove": true if the device has let go of the CSB. */
static bool tell_removal(struct ptnet_driver *d)
{
    return command(d, PTNETMAP_PTCTL_DELETE, "DELETE", NULL) &&
           write_address(d, PTNET_IO_CSB_GH_BAH, PTNET_IO_CSB_GH_BAL, 0, NULL) &&
           write_address(d, PTNET_IO_CSB_HG_BAH, PTNET_IO_CSB_HG_BAL, 0, NULL);
}

void ptnet_driver_free(struct ptnet_driver *d)
{
    if (!d) {
        return;
    }
    if (d->is_started) {
        ptnet_driver_stop(d, NULL);
    }
    const bool is_let_go = !d->is_told || tell_removal(d);
    for (unsigned i = 0; i < ptnet_n_queues(d); i++) {
        interrupt_free(d->queues[i].irq);
    }
    if (d->options.has_interrupts && d->has_csb) {
        msix_set_enabled(d->dev, false, NULL);
    }
    if (d->has_csb && is_let_go) {
        guest_region_release(d->options.shared, d->csb_offset);
    }
    if (d->has_words && is_let_go) {
        guest_region_release(d->options.shared, d->words_offset);
    }
    g_free(d);
}

void ptnet_driver_abandon(struct ptnet_driver *d)
{
    for (unsigned i = 0; i < ptnet_n_queues(d); i++) {
        interrupt_abandon(d->queues[i].irq);
    }
    g_free(d);
}

/* ---- what is known ---- */

unsigned ptnet_driver_n_tx(const struct ptnet_driver *d)
{
    return d->n_rings[true];
}

unsigned ptnet_driver_n_rx(const struct ptnet_driver *d)
{
    return d->n_rings[false];
}

struct ptnet_queue *ptnet_driver_tx(struct ptnet_driver *d, unsigned i)
{
    return i < d->n_rings[true] ? &d->queues[i] : NULL;
}

struct ptnet_queue *ptnet_driver_rx(struct ptnet_driver *d, unsigned i)
{
    return i < d->n_rings[false] ? &d->queues[d->n_rings[true] + i] : NULL;
}

const uint8_t *ptnet_driver_mac(const struct ptnet_driver *d)
{
    return d->mac;
}

unsigned ptnet_driver_header_bytes(const struct ptnet_driver *d)
{
    return d->header_bytes;
}

uint32_t ptnet_driver_features(const struct ptnet_driver *d)
{
    return d->features;
}
