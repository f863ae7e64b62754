/*
 * ptnet rings for tests, without a device: a queue as the driver keeps it, in memory of its own,
 * whose CSB the test fills in as the host; and a machine that counts kicks.
 */
#ifndef RINGLAB_TEST_PTNET_RINGS_H
#define RINGLAB_TEST_PTNET_RINGS_H

#include "qtest_client/ptnet_private.h"
#include "qtest_client/test_fake_pci.h"

#include <sys/eventfd.h>
#include <unistd.h>

enum {
    RINGS_BUFS = 64, /* with the two that are none */
    RINGS_BUF_BYTES = 64,
    RINGS_IO_BASE = 0x1000,
    RINGS_MAX_SLOTS = 16,
};

struct rings_bed {
    struct machine machine;
    struct machine_ops ops;
    struct pci_device dev;
    struct ptnet_driver driver;
    struct interrupt irq;
    _Atomic uint32_t irq_word;
    struct nm_csb_atok atok;
    struct nm_csb_ktoa ktoa;
    uint8_t *memory; /* ring, slots, buffers */
    struct ptnet_queue *q;
    unsigned n_kicks;
    uint64_t kicked_at;
    bool is_dead;
    int kick_fd; /* written at each kick; -1: none */
};

static inline bool rings_post(struct machine *machine, const struct machine_access *access,
                              GError **error)
{
    struct rings_bed *bed = (struct rings_bed *)machine;
    const uint64_t one = 1;

    if (bed->is_dead) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_CLOSED, "the machine is dead");
        return false;
    }
    assert_int_equal(access->space, MACHINE_IO);
    assert_int_equal(access->width, 4);
    bed->kicked_at = access->addr;
    bed->n_kicks++;
    if (bed->kick_fd >= 0) {
        assert_int_equal(write(bed->kick_fd, &one, sizeof(one)), sizeof(one));
    }
    return true;
}

/* A ring as it is after CREATE: all free (tx) or all empty (rx), buffers 2, 3 ... in its slots. */
static inline struct ptnet_queue *rings_open(struct rings_bed *bed, bool is_tx, uint32_t n,
                                             uint32_t header_bytes)
{
    const size_t ring_bytes = sizeof(struct netmap_ring) + n * sizeof(struct netmap_slot);

    memset(bed, 0, sizeof(*bed));
    assert_in_range(n, 2, RINGS_MAX_SLOTS);
    bed->ops = (struct machine_ops){.post = rings_post};
    bed->machine.ops = &bed->ops;
    bed->kick_fd = -1;
    bed->dev.machine = &bed->machine;
    bed->dev.bars[0] = (struct pci_bar){.kind = PCI_BAR_IO, .size = 256, .base = RINGS_IO_BASE};
    bed->driver.dev = &bed->dev;
    bed->driver.header_bytes = header_bytes;
    bed->driver.n_rings[true] = bed->driver.n_rings[false] = 1;
    bed->memory = g_malloc0(ring_bytes + RINGS_BUFS * RINGS_BUF_BYTES);
    bed->irq = (struct interrupt){
        .kind = INTERRUPT_MEMORY, .dev = &bed->dev, .word = &bed->irq_word, .eventfd = -1};
    bed->q = &bed->driver.queues[is_tx ? 0 : 1];
    *bed->q = (struct ptnet_queue){
        .ring = (void *)bed->memory,
        .atok = &bed->atok,
        .ktoa = &bed->ktoa,
        .buf_base = bed->memory + ring_bytes,
        .buf_size = RINGS_BUF_BYTES,
        .buf_total = RINGS_BUFS,
        .num_slots = n,
        .hwtail = is_tx ? n - 1 : 0,
        .index = is_tx ? 0 : 1,
        .is_tx = is_tx,
        .irq = &bed->irq,
        .driver = &bed->driver,
    };
    bed->q->ring->num_slots = n;
    bed->q->ring->tail = bed->q->hwtail;
    for (uint32_t i = 0; i < n; i++) {
        bed->q->ring->slot[i].buf_idx = 2 + i;
    }
    bed->ktoa.hwtail = bed->q->hwtail;
    bed->atok.appl_need_kick = 1; /* as the host leaves them */
    bed->atok.sync_flags = 1;
    bed->ktoa.kern_need_kick = 1;
    return bed->q;
}

static inline void rings_close(struct rings_bed *bed)
{
    g_free(bed->memory);
    bed->memory = NULL;
}

/* The host's pass over a tx ring: everything up to head is sent and its slots are free again. */
static inline void rings_host_sends(struct rings_bed *bed)
{
    const uint32_t head = bed->atok.head, n = bed->q->num_slots;

    bed->ktoa.hwcur = head;
    bed->ktoa.hwtail = head == 0 ? n - 1 : head - 1;
}

/* The host fills one slot of an rx ring. */
static inline void rings_host_receives(struct rings_bed *bed, uint16_t len, uint16_t flags,
                                       uint8_t byte)
{
    const uint32_t tail = bed->ktoa.hwtail;
    struct netmap_slot *slot = &bed->q->ring->slot[tail];

    memset(bed->q->buf_base + slot->buf_idx * RINGS_BUF_BYTES, byte, RINGS_BUF_BYTES);
    slot->len = len;
    slot->flags = flags;
    bed->ktoa.hwtail = ptnet_next(tail, bed->q->num_slots);
}

/* The host takes back what was released. */
static inline void rings_host_takes_back(struct rings_bed *bed)
{
    bed->ktoa.hwcur = bed->atok.head;
}

static inline uint8_t *rings_buffer(struct rings_bed *bed, uint32_t slot)
{
    return bed->q->buf_base + bed->q->ring->slot[slot].buf_idx * RINGS_BUF_BYTES;
}

static inline void rings_expect(GError **error, GQuark domain, int code, const char *text)
{
    assert_non_null(*error);
    assert_int_equal((*error)->domain, domain);
    assert_int_equal((*error)->code, code);
    if (!strstr((*error)->message, text)) {
        fail_msg("'%s' is not in '%s'", text, (*error)->message);
    }
    g_clear_error(error);
}

#endif
