/*
 * A NIC between two cables, for the tests of NIC-like ports: the test holds the other ends, `wire`
 * and `stack`. Whatever waits has a deadline.
 */
#ifndef RINGLAB_TEST_NM_NIC_H
#define RINGLAB_TEST_NM_NIC_H

#include "models/backend/backend.h"
#include "models/netmap/nm_nic_private.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { DEADLINE_MS = 5000 };

struct bed {
    struct nm_host *host;
    struct backend *wire, *stack; /* the test's ends */
};

/* Fills in name "em0", and both cables: n_slots frames each way. */
static inline struct bed bed_new_with(struct nm_host_options host, struct nm_nic_options o,
                                      unsigned n_slots)
{
    struct bed bed = {0};

    host.buf_num = host.buf_num ? host.buf_num : 4096;
    bed.host = nm_host_new(&host, NULL);
    assert_non_null(bed.host);
    o.name = "em0";
    o.tx_slots = o.tx_slots ? o.tx_slots : 16;
    o.rx_slots = o.rx_slots ? o.rx_slots : 16;
    assert_true(backend_cable_new(n_slots, 16384, &o.wire, &bed.wire, NULL));
    assert_true(backend_cable_new(n_slots, 16384, &o.stack, &bed.stack, NULL));
    assert_true(nm_nic_new(bed.host, &o, NULL));
    return bed;
}

static inline struct bed bed_new(struct nm_nic_options o)
{
    return bed_new_with((struct nm_host_options){0}, o, 256);
}

static inline void bed_free(struct bed *bed)
{
    nm_host_free(bed->host);
    backend_free(bed->wire);
    backend_free(bed->stack);
}

/* REGISTER; *err: errno. */
static inline struct nm_file *try_bind(struct nm_host *host, const char *name,
                                       struct nmreq_register reg, int *err)
{
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_body = (uintptr_t)&reg};
    struct nm_file *file = nm_open(host);

    assert_non_null(file);
    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    *err = nm_ctrl(file, &header);
    if (*err) {
        nm_close(file);
        return NULL;
    }
    return file;
}

static inline struct nm_file *bind_to(struct nm_host *host, uint32_t mode, uint16_t ringid)
{
    int err;
    struct nm_file *file =
        try_bind(host, "em0", (struct nmreq_register){.nr_mode = mode, .nr_ringid = ringid}, &err);

    assert_int_equal(err, 0);
    return file;
}

static inline struct netmap_ring *tx_ring(struct nm_file *file, unsigned i)
{
    return nm_txring(nm_file_if(file), i);
}

static inline struct netmap_ring *rx_ring(struct nm_file *file, unsigned i)
{
    return nm_rxring(nm_file_if(file), i);
}

/* An Ethernet frame whose bytes tell its number; UDP over IPv4 from a port if that is not 0. */
static inline void make_frame(uint8_t *frame, uint32_t len, uint8_t number, uint16_t port)
{
    static const uint8_t header[38] = {
        0x02, 0, 0, 0,  0, 1, 0x02, 0, 0,  0,  0, 2, 8,  0, /* Ethernet, IPv4 */
        0x45, 0, 0, 46, 0, 0, 0,    0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 7};

    memset(frame, number, len);
    memcpy(frame, header, MIN(len, sizeof(header)));
    if (port == 0 && len > 13) {
        frame[13] = 6; /* ARP */
    } else if (len > 36) {
        frame[34] = (uint8_t)(port >> 8);
        frame[35] = (uint8_t)port;
    }
}

/* Into the test's end of a cable. */
static inline void feed(struct backend *end, uint32_t len, uint8_t number, uint16_t port)
{
    uint8_t frame[16384];
    struct backend_frame f = {frame, len, 0};

    make_frame(frame, len, number, port);
    assert_int_equal(backend_send(end, &f, 1), 1);
}

/* What comes out of the test's end: the frame's number; -1: nothing. */
static inline int draw(struct backend *end, uint32_t *len)
{
    uint8_t frame[16384];
    struct backend_frame f = {frame, sizeof(frame), 0};

    if (backend_receive(end, &f, 1) == 0) {
        return -1;
    }
    *len = f.len;
    return frame[f.len - 1];
}

/* The same, waiting until something comes. */
static inline int draw_waiting(struct backend *end, uint32_t *len)
{
    int number;

    while ((number = draw(end, len)) < 0) {
        struct pollfd p = {.fd = end->fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    }
    return number;
}

/* One frame of one slot into a tx ring; the caller syncs. */
static inline void put(struct netmap_ring *ring, uint32_t len, uint8_t number, uint16_t flags)
{
    uint32_t head = atomic_load(&ring->head);
    uint8_t frame[4096];

    assert_true(nm_ring_space(ring) > 0);
    make_frame(frame, len, number, 0);
    memcpy(nm_buf(ring, ring->slot[head].buf_idx), frame, len);
    ring->slot[head].len = (uint16_t)len;
    ring->slot[head].flags = flags;
    head = nm_ring_next(ring, head);
    atomic_store(&ring->head, head);
    atomic_store(&ring->cur, head);
}

/* The slot at head of an rx ring, not yet released. */
static inline struct netmap_slot *peek(struct netmap_ring *ring)
{
    assert_true(nm_ring_space(ring) > 0);
    return &ring->slot[atomic_load(&ring->head)];
}

static inline void release(struct netmap_ring *ring)
{
    uint32_t head = nm_ring_next(ring, atomic_load(&ring->head));

    atomic_store(&ring->head, head);
    atomic_store(&ring->cur, head);
}

/* Takes the frame at head: its number. */
static inline int take(struct netmap_ring *ring, uint32_t *len)
{
    const struct netmap_slot *slot = peek(ring);
    int number;

    *len = slot->len;
    number = (uint8_t)nm_buf(ring, slot->buf_idx)[slot->len - 1];
    release(ring);
    return number;
}

/* Until one of the events is there. */
static inline short wait_for(struct nm_file *file, short events)
{
    for (;;) {
        short found = nm_poll(file, events);
        struct pollfd p = {.fd = nm_poll_fd(file), .events = POLLIN};
        if (found) {
            return found;
        }
        assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    }
}

static inline bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

/* Until the NIC's thread has done what was to be done. */
static inline void settle(struct nm_host *host)
{
    struct nm_nic *nic = g_hash_table_lookup(host->nics, "em0");
    const int64_t deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;

    for (int i = 0; i < 3; i++) { /* events that came with this one are dealt with by the next */
        nic_wake_thread(nic);
        while (is_readable(nic->event_fd)) {
            assert_true(g_get_monotonic_time() < deadline);
        }
    }
    pthread_mutex_lock(&nic->lock);
    pthread_mutex_unlock(&nic->lock);
}

static inline struct nm_nic_info info_of(struct bed *bed)
{
    struct nm_nic_info info;

    assert_true(nm_nic_info(bed->host, "em0", &info));
    return info;
}

#endif
