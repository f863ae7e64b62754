/*
 * A machine in this process with one virtio network device in slot 4, for tests of the drivers: PCI
 * configuration space, both virtio interfaces, MSI-X and INTx, and a data path that sends
 * back what was transmitted. Does on an access what virtio 1.2 says, counts what drivers should be
 * sparing with, and can be told to misbehave.
 */
#ifndef RINGLAB_TEST_FAKE_VIRTIO_H
#define RINGLAB_TEST_FAKE_VIRTIO_H

#include "models/abi/pci.h"
#include "models/abi/virtio_net.h"
#include "qtest_client/pci.h"
#include "qtest_client/test_device_ring.h"
#include "qtest_client/virtio_pci.h"

#include <unistd.h>

enum {
    FAKE_SLOT = 4,
    FAKE_ISA_SLOT = 1, /* routes the pin: PIRQD for slot 4 */
    FAKE_N_QUEUES = 3,
    FAKE_N_VECTORS = 4,
    FAKE_MSIX_CAP = 0x98,
    FAKE_COMMON = 0x0000, /* in BAR 4 */
    FAKE_ISR = 0x1000,
    FAKE_DEVICE = 0x2000,
    FAKE_NOTIFY = 0x3000,
    FAKE_MAX_FRAME = 4096,
};

/* What QEMU 7.2 offers by default on a backend without offloads, by its legacy interface more. */
#define FAKE_LEGACY_ONLY VIRTIO_FEATURE(VIRTIO_F_ANY_LAYOUT)
#define FAKE_FEATURES    (UINT64_C(0x10130bf8024) | FAKE_LEGACY_ONLY)

struct fake_queue {
    uint16_t max, size, vector;
    bool is_enabled;
    uint64_t address[3]; /* descriptors, available ring, used ring */
    struct device_ring ring;
    unsigned n_kicks;
};

struct fake_frame {
    uint32_t len;
    uint8_t bytes[FAKE_MAX_FRAME];
};

struct fake_virtio {
    struct machine base;
    uint8_t config[PCI_CONFIG_BYTES], writable[PCI_CONFIG_BYTES];
    uint8_t isa[PCI_CONFIG_BYTES];
    uint32_t config_address;
    /* the device */
    uint64_t offered, taken;
    uint32_t device_select, driver_select, queue_select;
    uint8_t status, isr, generation;
    uint16_t config_vector;
    struct fake_queue queues[FAKE_N_QUEUES];
    uint8_t net_config[VIRTIO_NET_CFG_BYTES];
    uint32_t msix_table[FAKE_N_VECTORS * 4];
    uint32_t msix_pending;
    bool line_level;
    uint64_t n_raised;
    GQueue *in_flight; /* struct fake_frame *: transmitted, no receive buffer yet */
    /* what happened */
    unsigned n_posts, n_messages[FAKE_N_VECTORS];
    unsigned n_config_reads, n_accesses;
    uint8_t status_log[16]; /* what was written to the status register */
    unsigned n_status_log;
    /* what it is to do */
    bool is_paused;            /* kicks are counted and forgotten */
    bool is_silent;            /* never interrupts */
    bool is_dead;              /* every access fails, as if QEMU had gone */
    unsigned dies_after;       /* accesses; 0: never */
    bool refuses_features;     /* FEATURES_OK does not stick */
    bool refuses_vectors;      /* vectors read back as NO_VECTOR */
    unsigned n_stubborn_reads; /* status reads for which a reset is not yet complete */
    unsigned n_config_changes; /* reads of the configuration during which it changes */
    uint32_t piece_bytes;      /* MRG_RXBUF: bytes put in one buffer at most; 0: what fits */
    uint64_t doorbell_gpa;     /* messages that go there ... */
    const int *doorbell_fds;   /* ... add 1 to the eventfd with the number in their upper half */
};

/* ---- little-endian bytes ---- */

static inline uint64_t fake_get(const uint8_t *from, unsigned width)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < width; i++) {
        value |= (uint64_t)from[i] << (8 * i);
    }
    return value;
}

static inline void fake_put(uint8_t *to, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

/* ---- interrupts ---- */

static inline bool fake_msix_enabled(const struct fake_virtio *f)
{
    return f->config[FAKE_MSIX_CAP + PCI_MSIX_FLAGS + 1] & (PCI_MSIX_FLAGS_ENABLE >> 8);
}

static inline unsigned fake_line(const struct fake_virtio *f)
{
    return f->isa[PIIX3_PIRQA + 3] & PIIX3_PIRQ_IRQ_MASK;
}

static inline void fake_send(struct fake_virtio *f, uint16_t vector)
{
    if (vector >= FAKE_N_VECTORS) {
        return;
    }
    const uint32_t *entry = &f->msix_table[4 * vector];
    if (entry[3] & PCI_MSIX_ENTRY_CTRL_MASKED) {
        f->msix_pending |= 1u << vector;
        return;
    }
    uint64_t address = entry[0] | (uint64_t)entry[1] << 32;
    _Atomic uint32_t *word = guest_memory_host(f->base.memory, address, 4);
    f->n_messages[vector]++;
    if (word) {
        *word = entry[2];
    } else if (address == f->doorbell_gpa && f->doorbell_fds) {
        uint64_t one = 1;
        ssize_t n = write(f->doorbell_fds[entry[2] >> 16], &one, sizeof(one));
        g_assert(n == (ssize_t)sizeof(one));
    }
}

/* 4.1.5.3 and 4.1.5.4: by vector, or by ISR and line. */
static inline void fake_interrupt(struct fake_virtio *f, uint16_t vector, uint8_t isr)
{
    if (f->is_silent) {
        return;
    }
    if (fake_msix_enabled(f)) {
        fake_send(f, vector);
        return;
    }
    f->isr |= isr;
    bool disabled = f->config[PCI_COMMAND + 1] & (PCI_COMMAND_INTX_DISABLE >> 8);
    if (!f->line_level && !disabled) {
        f->line_level = true;
        f->n_raised++;
    }
}

/* The configuration changed, as when the link goes down. */
static inline void fake_change_config(struct fake_virtio *f)
{
    f->generation++;
    fake_interrupt(f, f->config_vector, VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG);
}

/* ---- the data path ---- */

static inline unsigned fake_header_bytes(const struct fake_virtio *f)
{
    uint64_t longer = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF);

    return f->taken & longer ? VIRTIO_NET_HDR_BYTES : VIRTIO_NET_HDR_BYTES_LEGACY;
}

/* Writes into the chain's buffers from byte `at` on. Returns how much went in. */
static inline uint32_t fake_scatter(const struct device_chain *chain, uint32_t at,
                                    const uint8_t *bytes, uint32_t len)
{
    uint32_t done = 0;

    for (unsigned i = chain->n_out; i < chain->n_out + chain->n_in && done < len; i++) {
        const struct device_buffer *b = &chain->buffers[i];
        if (at >= b->len) {
            at -= b->len;
            continue;
        }
        uint32_t n = MIN(b->len - at, len - done);
        memcpy(b->host + at, bytes + done, n);
        done += n;
        at = 0;
    }
    return done;
}

/* Puts one frame into receive buffers; false if there are not enough. 5.1.6.4 */
static inline bool fake_receive(struct fake_virtio *f, const struct fake_frame *frame)
{
    bool is_mrg = f->taken & VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF);
    struct fake_queue *q = &f->queues[0];
    struct device_ring before = q->ring;
    struct device_chain chain, first = {0};
    uint32_t done = 0;
    uint16_t n_buffers = 0;

    while (done < frame->len) {
        uint8_t header[VIRTIO_NET_HDR_BYTES] = {0};
        uint32_t skip = n_buffers == 0 ? fake_header_bytes(f) : 0;
        if (!device_take(&q->ring, &chain) || (n_buffers > 0 && !is_mrg)) {
            q->ring = before;
            return false;
        }
        if (n_buffers == 0) {
            fake_scatter(&chain, 0, header, skip);
            first = chain;
        }
        uint32_t want = frame->len - done;
        if (is_mrg && f->piece_bytes) {
            want = MIN(want, f->piece_bytes);
        }
        uint32_t n = fake_scatter(&chain, skip, frame->bytes + done, want);
        device_put(&q->ring, chain.head, skip + n);
        done += n;
        n_buffers++;
    }
    if (is_mrg) {
        uint8_t num_buffers[2] = {(uint8_t)n_buffers, (uint8_t)(n_buffers >> 8)};
        fake_scatter(&first, offsetof(struct virtio_net_hdr, num_buffers), num_buffers, 2);
    }
    return true;
}

static inline void fake_deliver(struct fake_virtio *f)
{
    struct fake_queue *q = &f->queues[0];
    bool any = false;

    if (!(f->status & VIRTIO_STATUS_DRIVER_OK) || !q->is_enabled) {
        return;
    }
    while (!g_queue_is_empty(f->in_flight) && fake_receive(f, g_queue_peek_head(f->in_flight))) {
        g_free(g_queue_pop_head(f->in_flight));
        any = true;
    }
    device_want_kicks(&q->ring, true);
    if (any && device_publish(&q->ring)) {
        fake_interrupt(f, q->vector, VIRTIO_ISR_QUEUE);
    }
}

/* Gathers what was transmitted; 5.1.6.2. Returns whether the driver wants to know. */
static inline void fake_transmit(struct fake_virtio *f)
{
    struct fake_queue *q = &f->queues[1];
    struct device_chain chain;

    if (!(f->status & VIRTIO_STATUS_DRIVER_OK) || !q->is_enabled) {
        return;
    }
    while (device_take(&q->ring, &chain)) {
        uint32_t skip = fake_header_bytes(f);
        struct fake_frame *frame = g_new0(struct fake_frame, 1);
        for (unsigned i = 0; i < chain.n_out; i++) {
            const struct device_buffer *b = &chain.buffers[i];
            uint32_t drop = MIN(skip, b->len);
            g_assert(b->host && frame->len + b->len - drop <= FAKE_MAX_FRAME);
            memcpy(frame->bytes + frame->len, b->host + drop, b->len - drop);
            frame->len += b->len - drop;
            skip -= drop;
        }
        g_queue_push_tail(f->in_flight, frame);
        device_put(&q->ring, chain.head, 0);
    }
    device_want_kicks(&q->ring, true);
    if (device_publish(&q->ring)) {
        fake_interrupt(f, q->vector, VIRTIO_ISR_QUEUE);
    }
}

/* Carries out what there is to do, whether it was kicked or not. */
static inline void fake_process(struct fake_virtio *f)
{
    fake_transmit(f);
    fake_deliver(f);
}

static inline void fake_kick(struct fake_virtio *f, uint64_t queue)
{
    if (queue < FAKE_N_QUEUES) {
        f->queues[queue].n_kicks++;
        if (!f->is_paused) {
            fake_process(f);
        }
    }
}

/* ---- registers ---- */

static inline void fake_start_queue(struct fake_virtio *f, struct fake_queue *q)
{
    q->is_enabled = true;
    q->ring = (struct device_ring){.memory = f->base.memory,
                                   .desc_gpa = q->address[0],
                                   .avail_gpa = q->address[1],
                                   .used_gpa = q->address[2],
                                   .size = q->size,
                                   .has_event_idx = f->taken & VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX)};
}

static inline void fake_stop_queue(struct fake_queue *q)
{
    *q = (struct fake_queue){
        .max = q->max, .size = q->max, .vector = VIRTIO_NO_VECTOR, .n_kicks = q->n_kicks};
}

static inline void fake_write_status(struct fake_virtio *f, uint8_t status)
{
    if (status == 0) {
        for (unsigned i = 0; i < FAKE_N_QUEUES; i++) {
            fake_stop_queue(&f->queues[i]);
        }
        f->isr = 0;
        f->line_level = false;
        f->config_vector = VIRTIO_NO_VECTOR;
        f->queue_select = 0;
        f->taken = 0;
        g_queue_foreach(f->in_flight, (GFunc)(void (*)(void))g_free, NULL);
        g_queue_clear(f->in_flight);
    }
    if (f->n_status_log < sizeof(f->status_log)) {
        f->status_log[f->n_status_log++] = status;
    }
    if (f->refuses_features) {
        status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    }
    f->status = status;
}

static inline uint8_t fake_read_status(struct fake_virtio *f)
{
    if (f->n_stubborn_reads > 0) {
        f->n_stubborn_reads--;
        return VIRTIO_STATUS_ACKNOWLEDGE;
    }
    return f->status;
}

static inline uint8_t fake_read_isr(struct fake_virtio *f)
{
    uint8_t isr = f->isr;

    f->isr = 0;
    f->line_level = false;
    return isr;
}

static inline struct fake_queue *fake_selected(struct fake_virtio *f)
{
    return f->queue_select < FAKE_N_QUEUES ? &f->queues[f->queue_select] : NULL;
}

/* As QEMU has it: a number that is none is ignored, and the queue before stays selected. */
static inline void fake_select(struct fake_virtio *f, uint64_t value)
{
    if (value < VIRTIO_PCI_MAX_QUEUES) {
        f->queue_select = (uint32_t)value;
    }
}

static inline void fake_set_vector(const struct fake_virtio *f, uint16_t *vector, uint64_t value)
{
    *vector = (uint16_t)(value < FAKE_N_VECTORS && !f->refuses_vectors ? value : VIRTIO_NO_VECTOR);
}

static inline uint64_t fake_common_read(struct fake_virtio *f, unsigned offset)
{
    const struct fake_queue *q = fake_selected(f);

    switch (offset) {
    case VIRTIO_PCI_COMMON_DEVICE_FEATURE:
        return f->device_select < 2
                   ? (uint32_t)((f->offered & ~FAKE_LEGACY_ONLY) >> (32 * f->device_select))
                   : 0;
    case VIRTIO_PCI_COMMON_DRIVER_FEATURE:
        return f->driver_select < 2 ? (uint32_t)(f->taken >> (32 * f->driver_select)) : 0;
    case VIRTIO_PCI_COMMON_CONFIG_MSIX_VECTOR:
        return f->config_vector;
    case VIRTIO_PCI_COMMON_NUM_QUEUES:
        return FAKE_N_QUEUES;
    case VIRTIO_PCI_COMMON_DEVICE_STATUS:
        return fake_read_status(f);
    case VIRTIO_PCI_COMMON_CONFIG_GENERATION:
        return f->generation;
    case VIRTIO_PCI_COMMON_QUEUE_SIZE:
        return q ? q->size : 0;
    case VIRTIO_PCI_COMMON_QUEUE_MSIX_VECTOR:
        return q ? q->vector : VIRTIO_NO_VECTOR;
    case VIRTIO_PCI_COMMON_QUEUE_ENABLE:
        return q ? q->is_enabled : 0;
    case VIRTIO_PCI_COMMON_QUEUE_NOTIFY_OFF:
        return f->queue_select;
    default:
        return 0;
    }
}

static inline void fake_common_write(struct fake_virtio *f, unsigned offset, uint64_t value)
{
    struct fake_queue *q = fake_selected(f);

    switch (offset) {
    case VIRTIO_PCI_COMMON_DEVICE_FEATURE_SELECT:
        f->device_select = (uint32_t)value;
        return;
    case VIRTIO_PCI_COMMON_DRIVER_FEATURE_SELECT:
        f->driver_select = (uint32_t)value;
        return;
    case VIRTIO_PCI_COMMON_DRIVER_FEATURE:
        if (f->driver_select < 2) {
            fake_put((uint8_t *)&f->taken + 4 * f->driver_select, 4, value);
        }
        return;
    case VIRTIO_PCI_COMMON_CONFIG_MSIX_VECTOR:
        fake_set_vector(f, &f->config_vector, value);
        return;
    case VIRTIO_PCI_COMMON_DEVICE_STATUS:
        fake_write_status(f, (uint8_t)value);
        return;
    case VIRTIO_PCI_COMMON_QUEUE_SELECT:
        fake_select(f, value);
        return;
    default:
        break;
    }
    if (!q) {
        return;
    }
    if (offset >= VIRTIO_PCI_COMMON_QUEUE_DESC && offset < VIRTIO_PCI_COMMON_QUEUE_DEVICE + 8) {
        unsigned at = offset - VIRTIO_PCI_COMMON_QUEUE_DESC;
        fake_put((uint8_t *)&q->address[at / 8] + at % 8, 4, value);
    } else if (offset == VIRTIO_PCI_COMMON_QUEUE_SIZE) {
        q->size = (uint16_t)value;
    } else if (offset == VIRTIO_PCI_COMMON_QUEUE_MSIX_VECTOR) {
        fake_set_vector(f, &q->vector, value);
    } else if (offset == VIRTIO_PCI_COMMON_QUEUE_ENABLE && value == 1) {
        fake_start_queue(f, q);
    } else if (offset == VIRTIO_PCI_COMMON_QUEUE_RESET && value == 1) {
        fake_stop_queue(q);
    }
}

/* The device configuration: byte `at`, changing under the reader's hands if told so. */
static inline void fake_net_config(struct fake_virtio *f, unsigned at, struct machine_access *a)
{
    if (at + a->width > sizeof(f->net_config)) {
        return;
    }
    if (a->is_write) {
        fake_put(f->net_config + at, a->width, a->value);
        return;
    }
    f->n_config_reads++;
    a->value = fake_get(f->net_config + at, a->width);
    if (f->n_config_changes > 0) {
        f->n_config_changes--;
        f->generation++;
        memset(f->net_config, f->net_config[0] + 1, VIRTIO_NET_MAC_BYTES);
    }
}

static inline uint64_t fake_legacy_read(struct fake_virtio *f, unsigned offset)
{
    const struct fake_queue *q = fake_selected(f);

    switch (offset) {
    case VIRTIO_PCI_LEGACY_DEVICE_FEATURES:
        return (uint32_t)f->offered;
    case VIRTIO_PCI_LEGACY_DRIVER_FEATURES:
        return (uint32_t)f->taken;
    case VIRTIO_PCI_LEGACY_QUEUE_ADDRESS:
        return q ? q->address[0] >> VIRTIO_PCI_QUEUE_ADDR_SHIFT : 0;
    case VIRTIO_PCI_LEGACY_QUEUE_SIZE:
        return q ? q->max : 0;
    case VIRTIO_PCI_LEGACY_QUEUE_SELECT:
        return f->queue_select;
    case VIRTIO_PCI_LEGACY_DEVICE_STATUS:
        return fake_read_status(f);
    case VIRTIO_PCI_LEGACY_ISR_STATUS:
        return fake_read_isr(f);
    case VIRTIO_PCI_LEGACY_MSIX + VIRTIO_PCI_LEGACY_MSIX_CONFIG_VECTOR:
        return f->config_vector;
    case VIRTIO_PCI_LEGACY_MSIX + VIRTIO_PCI_LEGACY_MSIX_QUEUE_VECTOR:
        return q ? q->vector : VIRTIO_NO_VECTOR;
    default:
        return 0;
    }
}

static inline void fake_legacy_address(struct fake_virtio *f, struct fake_queue *q, uint64_t page)
{
    uint64_t align = VIRTQ_LEGACY_ALIGN, n = q->max;

    q->address[0] = page << VIRTIO_PCI_QUEUE_ADDR_SHIFT;
    q->address[1] = q->address[0] + 16 * n;
    q->address[2] = (q->address[1] + 6 + 2 * n + align - 1) / align * align; /* 2.7.2 */
    q->size = q->max;
    fake_start_queue(f, q);
}

static inline void fake_legacy_write(struct fake_virtio *f, unsigned offset, uint64_t value)
{
    struct fake_queue *q = fake_selected(f);

    switch (offset) {
    case VIRTIO_PCI_LEGACY_DRIVER_FEATURES:
        f->taken = value;
        break;
    case VIRTIO_PCI_LEGACY_QUEUE_ADDRESS:
        if (q) {
            fake_legacy_address(f, q, value);
        }
        break;
    case VIRTIO_PCI_LEGACY_QUEUE_SELECT:
        fake_select(f, value);
        break;
    case VIRTIO_PCI_LEGACY_QUEUE_NOTIFY:
        fake_kick(f, value);
        break;
    case VIRTIO_PCI_LEGACY_DEVICE_STATUS:
        fake_write_status(f, (uint8_t)value);
        break;
    case VIRTIO_PCI_LEGACY_MSIX + VIRTIO_PCI_LEGACY_MSIX_CONFIG_VECTOR:
        fake_set_vector(f, &f->config_vector, value);
        break;
    case VIRTIO_PCI_LEGACY_MSIX + VIRTIO_PCI_LEGACY_MSIX_QUEUE_VECTOR:
        if (q) {
            fake_set_vector(f, &q->vector, value);
        }
        break;
    default:
        break;
    }
}

/* ---- BARs and configuration space ---- */

static inline void fake_legacy_bar(struct fake_virtio *f, unsigned offset, struct machine_access *a)
{
    unsigned config =
        fake_msix_enabled(f) ? VIRTIO_PCI_LEGACY_CONFIG_MSIX : VIRTIO_PCI_LEGACY_CONFIG;

    if (offset >= config) {
        fake_net_config(f, offset - config, a);
    } else if (a->is_write) {
        fake_legacy_write(f, offset, a->value);
    } else {
        a->value = fake_legacy_read(f, offset);
    }
}

static inline void fake_msix_bar(struct fake_virtio *f, unsigned offset, struct machine_access *a)
{
    if (offset >= 0x800) {
        a->value = offset == 0x800 ? f->msix_pending : 0;
    } else if (offset < sizeof(f->msix_table)) {
        uint32_t *dword = &f->msix_table[offset / 4];
        unsigned vector = offset / PCI_MSIX_ENTRY_BYTES;
        if (!a->is_write) {
            a->value = *dword;
            return;
        }
        *dword = (uint32_t)a->value;
        if (!(f->msix_table[4 * vector + 3] & 1) && (f->msix_pending & 1u << vector)) {
            f->msix_pending &= ~(1u << vector);
            fake_send(f, (uint16_t)vector);
        }
    }
}

static inline void fake_modern_bar(struct fake_virtio *f, unsigned offset, struct machine_access *a)
{
    if (offset >= FAKE_NOTIFY) {
        if (a->is_write) {
            fake_kick(f, (offset - FAKE_NOTIFY) / VIRTIO_PCI_NOTIFY_STRIDE);
        }
    } else if (offset >= FAKE_DEVICE) {
        fake_net_config(f, offset - FAKE_DEVICE, a);
    } else if (offset >= FAKE_ISR) {
        a->value = a->is_write ? a->value : fake_read_isr(f);
    } else if (a->is_write) {
        fake_common_write(f, offset, a->value);
    } else {
        a->value = fake_common_read(f, offset);
    }
}

static inline void fake_config_access(struct fake_virtio *f, unsigned offset,
                                      struct machine_access *a)
{
    unsigned slot = f->config_address >> 11 & 0x1f;
    uint8_t *bytes = slot == FAKE_SLOT ? f->config : f->isa;

    if ((f->config_address >> 16 & 0xff) != 0 || (f->config_address >> 8 & 7) != 0 ||
        (slot != FAKE_SLOT && slot != FAKE_ISA_SLOT)) {
        a->value = a->is_write ? a->value : UINT64_MAX >> (64 - 8 * a->width);
        return;
    }
    if (!a->is_write) {
        a->value = fake_get(bytes + offset, a->width);
        return;
    }
    for (unsigned i = 0; i < a->width; i++) {
        uint8_t w = slot == FAKE_SLOT ? f->writable[offset + i]
                    : offset + i >= PIIX3_PIRQA && offset + i < PIIX3_PIRQA + 4 ? 0xff
                                                                                : 0;
        bytes[offset + i] =
            (uint8_t)((bytes[offset + i] & ~w) | ((uint8_t)(a->value >> (8 * i)) & w));
    }
}

static inline uint64_t fake_bar_base(const struct fake_virtio *f, unsigned bar, unsigned width)
{
    return fake_get(f->config + PCI_BAR0 + 4 * bar, width) & ~UINT64_C(0xf);
}

static inline void fake_access(struct fake_virtio *f, struct machine_access *a)
{
    uint64_t io = fake_bar_base(f, 0, 4), msix = fake_bar_base(f, 1, 4),
             modern = fake_bar_base(f, 4, 8);

    if (a->space == MACHINE_IO && a->addr == PCI_CONFIG_ADDRESS_PORT) {
        f->config_address = (uint32_t)a->value;
    } else if (a->space == MACHINE_IO && a->addr - PCI_CONFIG_DATA_PORT < 4) {
        unsigned lane = (unsigned)(a->addr - PCI_CONFIG_DATA_PORT);
        fake_config_access(f, (f->config_address & 0xfc) + lane, a);
    } else if (a->space == MACHINE_IO && io && a->addr - io < 0x20) {
        fake_legacy_bar(f, (unsigned)(a->addr - io), a);
    } else if (a->space == MACHINE_MEM && msix && a->addr - msix < 0x1000) {
        fake_msix_bar(f, (unsigned)(a->addr - msix), a);
    } else if (a->space == MACHINE_MEM && modern && a->addr - modern < 0x4000) {
        fake_modern_bar(f, (unsigned)(a->addr - modern), a);
    } else if (!a->is_write) {
        a->value = 0;
    }
}

/* ---- the machine ---- */

static inline bool fake_is_alive(const struct fake_virtio *f, GError **error)
{
    if (f->is_dead) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_CLOSED, "the fake machine is gone");
    }
    return !f->is_dead;
}

static inline bool fake_run(struct machine *m, struct machine_access *accesses, size_t n,
                            GError **error)
{
    struct fake_virtio *f = (struct fake_virtio *)m;

    for (size_t i = 0; i < n && !f->is_dead; i++) {
        fake_access(f, &accesses[i]);
        f->n_accesses++;
        f->is_dead = f->n_accesses == f->dies_after;
    }
    return fake_is_alive(f, error);
}

static inline bool fake_post(struct machine *m, const struct machine_access *access, GError **error)
{
    struct machine_access a = *access;

    ((struct fake_virtio *)m)->n_posts++;
    return fake_run(m, &a, 1, error);
}

static inline bool fake_barrier(struct machine *m, GError **error)
{
    return fake_is_alive((struct fake_virtio *)m, error);
}

static inline bool fake_irq_state(struct machine *m, unsigned line, bool *level, uint64_t *n_raised)
{
    struct fake_virtio *f = (struct fake_virtio *)m;
    bool is_ours = line == fake_line(f);

    *level = is_ours && f->line_level;
    *n_raised = is_ours ? f->n_raised : 0;
    return true;
}

/* Nothing happens by itself here, so there is nothing to wait for. */
static inline bool fake_irq_wait_raised(struct machine *m, unsigned line, uint64_t n_raised,
                                        int timeout_ms, GError **error)
{
    uint64_t n;
    bool level;

    if (!fake_irq_state(m, line, &level, &n) || n < n_raised) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "line %u: nothing in %d ms", line,
                    timeout_ms);
        return false;
    }
    return true;
}

static inline void fake_add_cap(struct fake_virtio *f, unsigned at, unsigned next, unsigned type,
                                uint32_t offset)
{
    uint8_t *cap = f->config + at;

    cap[VIRTIO_PCI_CAP_VNDR] = PCI_CAP_ID_VENDOR;
    cap[VIRTIO_PCI_CAP_NEXT] = (uint8_t)next;
    cap[VIRTIO_PCI_CAP_LEN] =
        type == VIRTIO_PCI_CAP_NOTIFY_CFG ? VIRTIO_PCI_NOTIFY_CAP_BYTES : VIRTIO_PCI_CAP_BYTES;
    cap[VIRTIO_PCI_CAP_CFG_TYPE] = (uint8_t)type;
    cap[VIRTIO_PCI_CAP_BAR] = 4;
    fake_put(cap + VIRTIO_PCI_CAP_OFFSET, 4, offset);
    fake_put(cap + VIRTIO_PCI_CAP_LENGTH, 4, 0x1000);
}

static inline void fake_init_config(struct fake_virtio *f)
{
    fake_put(f->config + PCI_VENDOR_ID, 2, VIRTIO_PCI_VENDOR_ID);
    fake_put(f->config + PCI_DEVICE_ID, 2, VIRTIO_NET_DEVICE_ID_TRANSITIONAL);
    fake_put(f->config + PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
    fake_put(f->config + PCI_CLASS_DEVICE, 2, PCI_CLASS_NETWORK_ETHERNET);
    f->config[PCI_INTERRUPT_PIN] = 1;
    f->config[PCI_BAR0] = PCI_BAR_SPACE_IO;
    f->config[PCI_BAR0 + 16] = PCI_BAR_MEM_TYPE_64 | PCI_BAR_MEM_PREFETCH;
    f->config[PCI_CAPABILITY_LIST] = FAKE_MSIX_CAP;
    fake_put(f->writable + PCI_COMMAND, 2, 0x0407);
    fake_put(f->writable + PCI_BAR0, 4, 0xffffffe0);
    fake_put(f->writable + PCI_BAR0 + 4, 4, 0xfffff000);
    fake_put(f->writable + PCI_BAR0 + 16, 8, UINT64_C(0xffffffffffffc000));
    fake_add_cap(f, 0x40, 0x00, VIRTIO_PCI_CAP_COMMON_CFG, FAKE_COMMON);
    fake_add_cap(f, 0x50, 0x40, VIRTIO_PCI_CAP_ISR_CFG, FAKE_ISR);
    fake_add_cap(f, 0x60, 0x50, VIRTIO_PCI_CAP_DEVICE_CFG, FAKE_DEVICE);
    fake_add_cap(f, 0x70, 0x60, VIRTIO_PCI_CAP_NOTIFY_CFG, FAKE_NOTIFY);
    fake_put(f->config + 0x70 + VIRTIO_PCI_NOTIFY_CAP_MULT, 4, VIRTIO_PCI_NOTIFY_STRIDE);
    f->config[FAKE_MSIX_CAP] = PCI_CAP_ID_MSIX;
    f->config[FAKE_MSIX_CAP + 1] = 0x70;
    fake_put(f->config + FAKE_MSIX_CAP + PCI_MSIX_FLAGS, 2, FAKE_N_VECTORS - 1);
    fake_put(f->config + FAKE_MSIX_CAP + PCI_MSIX_TABLE, 4, 1);
    fake_put(f->config + FAKE_MSIX_CAP + PCI_MSIX_PBA, 4, 0x800 | 1);
    f->writable[FAKE_MSIX_CAP + PCI_MSIX_FLAGS + 1] = 0xc0;
    fake_put(f->isa + PCI_VENDOR_ID, 2, 0x8086);
    fake_put(f->isa + PCI_DEVICE_ID, 2, 0x7000);
    fake_put(f->isa + PCI_CLASS_DEVICE, 2, PCI_CLASS_BRIDGE_ISA);
    memset(f->isa + PIIX3_PIRQA, PIIX3_PIRQ_DISABLE, 4);
}

static inline void fake_virtio_init(struct fake_virtio *f, struct guest_memory *memory)
{
    static const struct machine_ops ops = {
        .run = fake_run,
        .post = fake_post,
        .barrier = fake_barrier,
        .irq_state = fake_irq_state,
        .irq_wait_raised = fake_irq_wait_raised,
    };
    static const uint8_t mac[] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

    memset(f, 0, sizeof(*f));
    f->base.ops = &ops;
    f->base.board = MACHINE_PC;
    f->base.memory = memory;
    f->offered = FAKE_FEATURES;
    f->in_flight = g_queue_new();
    memcpy(f->net_config + VIRTIO_NET_CFG_MAC, mac, sizeof(mac));
    fake_put(f->net_config + VIRTIO_NET_CFG_STATUS, 2, VIRTIO_NET_S_LINK_UP);
    for (unsigned i = 0; i < FAKE_N_VECTORS; i++) {
        f->msix_table[4 * i + 3] = PCI_MSIX_ENTRY_CTRL_MASKED;
    }
    f->queues[0].max = f->queues[1].max = 256;
    f->queues[2].max = 64;
    fake_init_config(f);
    fake_write_status(f, 0);
    f->n_status_log = 0;
}

static inline void fake_virtio_clear(struct fake_virtio *f)
{
    g_queue_free_full(f->in_flight, g_free);
}

#endif
