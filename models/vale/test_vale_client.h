/*
 * Programs on VALE ports, for unit tests: a port opened by its name, frames sent and received by
 * syncs, as an application does it.
 */
#ifndef RINGLAB_TEST_VALE_CLIENT_H
#define RINGLAB_TEST_VALE_CLIENT_H

#include "models/vale/vale.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct client {
    struct nm_file *file;
    struct netmap_if *nifp;
};

static inline struct nm_host *test_host(void)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);

    assert_non_null(host);
    return host;
}

/* A request about `name`; the name comes back in it where the answer has one. */
static inline int test_request(struct nm_host *host, uint16_t type, char name[NETMAP_REQ_IFNAMSIZ],
                               void *body)
{
    struct nm_file *file = nm_open(host);
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = type, .nr_body = (uintptr_t)body};

    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    int err = nm_ctrl(file, &header);
    nm_close(file);
    if (type == NETMAP_REQ_VALE_LIST && !err) {
        (void)g_strlcpy(name, header.nr_name, NETMAP_REQ_IFNAMSIZ);
    }
    return err;
}

#define TEST_NAME(text) ((char[NETMAP_REQ_IFNAMSIZ]){text})

/* 0 or errno; on an error nothing is open. */
static inline int client_open_with(struct client *c, struct nm_host *host, const char *name,
                                   struct nmreq_register *reg)
{
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_body = (uintptr_t)reg};

    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    *c = (struct client){.file = nm_open(host)};
    int err = nm_ctrl(c->file, &header);
    if (err) {
        nm_close(g_steal_pointer(&c->file));
        return err;
    }
    c->nifp = nm_file_if(c->file);
    return 0;
}

/* All rings, default sizes; takes frames with vnet headers. */
static inline struct client client_open(struct nm_host *host, const char *name)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_ACCEPT_VNET_HDR};
    struct client c = {NULL, NULL};

    assert_int_equal(client_open_with(&c, host, name, &reg), 0);
    return c;
}

static inline void client_close(struct client *c)
{
    nm_close(g_steal_pointer(&c->file));
}

/* Addresses 02:00:00:00:00:XX, 0xff: ff:00:00:00:00:ff. */
static inline void test_mac(uint8_t *to, unsigned host)
{
    memset(to, 0, 6);
    to[0] = host == 0xff ? 0xff : 2;
    to[5] = (uint8_t)host;
}

/* Puts a frame into the next free slot of a transmit ring, which it returns; no sync. */
static inline struct netmap_slot *client_put(struct client *c, unsigned ring_id, const void *frame,
                                             uint16_t len)
{
    struct netmap_ring *ring = nm_txring(c->nifp, ring_id);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    struct netmap_slot *slot = &ring->slot[head];

    assert_true(nm_ring_space(ring) > 0);
    memcpy(nm_buf(ring, slot->buf_idx), frame, len);
    slot->len = len;
    slot->flags = 0;
    head = nm_ring_next(ring, head);
    atomic_store_explicit(&ring->cur, head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head, memory_order_release);
    return slot;
}

/* Sends a frame of 60 bytes whose last one is `mark`. */
static inline void client_send(struct client *c, unsigned dst, unsigned src, uint8_t mark)
{
    uint8_t frame[60] = {[12] = 0x88, [13] = 0xb5, [59] = mark};

    test_mac(frame, dst);
    test_mac(frame + 6, src);
    client_put(c, 0, frame, sizeof(frame));
    assert_int_equal(nm_txsync(c->file), 0);
}

/* Copies and releases the next slot of a receive ring; its length, -1 if there is none. */
static inline int client_take(struct client *c, unsigned ring_id, void *to, uint16_t *flags)
{
    struct netmap_ring *ring = nm_rxring(c->nifp, ring_id);

    *flags = 0;
    assert_int_equal(nm_rxsync(c->file), 0);
    if (nm_ring_space(ring) == 0) {
        return -1;
    }
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    const struct netmap_slot *slot = &ring->slot[head];
    memcpy(to, nm_buf(ring, slot->buf_idx), slot->len);
    *flags = slot->flags;
    int len = slot->len;
    head = nm_ring_next(ring, head);
    atomic_store_explicit(&ring->cur, head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head, memory_order_release);
    return len;
}

/* The last byte of the next frame, -1 if there is none. */
static inline int client_receive(struct client *c)
{
    uint8_t frame[65536];
    uint16_t flags;
    int len = client_take(c, 0, frame, &flags);

    return len > 0 ? frame[len - 1] : len == 0 ? 0 : -1;
}

#endif
