/*
 * Monitors, on a port whose every step is the test's: what it completes and what arrives there.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- a port: 2 tx rings, 3 rx rings, 2 host rings of 8 slots ---- */

enum { N_TX = 2, N_RX = 3, N_HOST = 2, N_SLOTS = 8, BUF_SIZE = 2048 };

struct port {
    struct nm_adapter up;
    bool is_slow; /* transmission is completed by complete() */
    bool is_full; /* nothing is taken of what is handed over */
    _Atomic unsigned n_rxsyncs;
};

static int port_txsync(struct nm_kring *kring, int flags)
{
    const struct port *p = (const struct port *)(const void *)kring->na;

    (void)flags;
    if (p->is_full)
        return 0;
    kring->hwcur = kring->rhead;
    if (!p->is_slow)
        atomic_store(&kring->hwtail, nm_prev(kring->hwcur, N_SLOTS));
    return 0;
}

static int port_rxsync(struct nm_kring *kring, int flags)
{
    (void)flags;
    atomic_fetch_add(&((struct port *)(void *)kring->na)->n_rxsyncs, 1);
    pthread_spin_lock(&kring->lease_lock); /* frames arrive in other threads */
    kring->hwcur = kring->rhead;
    pthread_spin_unlock(&kring->lease_lock);
    return 0;
}

static int port_krings_created(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++)
        for (unsigned i = 0; i < nm_all_rings(na, t); i++)
            na->krings[t][i].sync = t == NM_TX ? port_txsync : port_rxsync;
    return 0;
}

static void port_free(struct nm_adapter *na)
{
    nm_adapter_clear(na);
    g_free(na);
}

static const struct nm_port_ops port_ops = {
    .kind = "test", .krings_created = port_krings_created, .free = port_free};

/* ---- a host with the port, and one file that has bound all of it ---- */

struct fixture {
    struct nm_host *host;
    struct port *port;
    struct nm_file *file;
};

static int open_as(struct fixture *f, const char *name, struct nmreq_register *reg,
                   struct nm_file **file)
{
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_body = (uintptr_t)reg};

    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    *file = nm_open(f->host);
    int err = nm_ctrl(*file, &header);
    if (err != 0) {
        nm_close(*file);
        *file = NULL;
    }
    return err;
}

static struct nm_file *monitor_with(struct fixture *f, struct nmreq_register *reg)
{
    struct nm_file *file;

    assert_int_equal(open_as(f, "em0", reg, &file), 0);
    return file;
}

static struct nm_file *monitor(struct fixture *f, uint64_t flags)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_flags = flags};

    return monitor_with(f, &reg);
}

static struct fixture set_up(void)
{
    struct fixture f = {.host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL)};
    struct nmreq_register reg = {.nr_mode = NR_REG_NIC_SW};
    struct nm_mem *mem = nm_mem_find(f.host->mems, 1);

    f.port = g_new0(struct port, 1);
    nm_adapter_init(&f.port->up, f.host, &port_ops, "em0", mem);
    nm_mem_unref(mem);
    f.port->up.flags = NAF_HOST_RINGS;
    f.port->up.n_rings[NM_TX] = N_TX;
    f.port->up.n_rings[NM_RX] = N_RX;
    f.port->up.n_slots[NM_TX] = f.port->up.n_slots[NM_RX] = N_SLOTS;
    g_hash_table_insert(f.host->nics, g_strdup("em0"), f.port);
    reg.nr_host_tx_rings = reg.nr_host_rx_rings = N_HOST;
    f.file = monitor_with(&f, &reg); /* which monitors nothing */
    return f;
}

/* All buffers are back, whoever had them last. */
static void tear_down(struct fixture *f)
{
    struct nm_mem *mem = nm_mem_find(f->host->mems, 1);

    nm_close(f->file);
    assert_int_equal(nm_mem_used(mem, NM_POOL_BUF), 0);
    assert_int_equal(nm_mem_used(mem, NM_POOL_RING), 0);
    assert_int_equal(nm_mem_used(mem, NM_POOL_IF), 0);
    nm_mem_unref(mem);
    nm_host_free(f->host);
}

static struct netmap_ring *tx(struct nm_file *file, unsigned i)
{
    return nm_txring(nm_file_if(file), i);
}

static struct netmap_ring *rx(struct nm_file *file, unsigned i)
{
    return nm_rxring(nm_file_if(file), i);
}

static struct nm_kring *rx_kring(const struct fixture *f, unsigned i)
{
    return &f->port->up.krings[NM_RX][i];
}

/* ---- frames: 60 bytes, each of one value ---- */

enum { LEN = 60 };

static void fill(struct netmap_ring *ring, struct netmap_slot *slot, uint8_t value, uint16_t flags)
{
    memset(nm_buf(ring, slot->buf_idx), value, LEN);
    slot->len = LEN;
    slot->flags = flags;
}

/* Puts frames of values first, first + 1 ... into a transmit ring and syncs. */
static void send_frames(struct nm_file *file, unsigned ring_id, uint8_t first, unsigned n)
{
    struct netmap_ring *ring = tx(file, ring_id);

    assert_true(nm_ring_space(ring) >= n);
    uint32_t head = ring->head;
    for (unsigned i = 0; i < n; i++) {
        fill(ring, &ring->slot[head], (uint8_t)(first + i), 0);
        head = nm_ring_next(ring, head);
    }
    ring->head = ring->cur = head;
    assert_int_equal(nm_txsync(file), 0);
}

/* What the wire of a slow port does. */
static void complete(struct fixture *f, unsigned ring_id)
{
    struct nm_kring *kring = &f->port->up.krings[NM_TX][ring_id];

    atomic_store(&kring->hwtail, nm_prev(kring->hwcur, N_SLOTS));
}

/* Frames arrive at a receive ring. */
static void arrive(struct fixture *f, unsigned ring_id, uint8_t first, unsigned n)
{
    struct nm_kring *kring = rx_kring(f, ring_id);
    uint32_t tail = kring->hwtail;

    for (unsigned i = 0; i < n; i++) {
        fill(kring->ring, &kring->ring->slot[tail], (uint8_t)(first + i), 0);
        tail = nm_next(tail, N_SLOTS);
        assert_int_not_equal(tail, kring->hwcur);
    }
    atomic_store(&kring->hwtail, tail);
    nm_kr_notify(kring, 0);
}

/* Releases everything that has arrived. */
static unsigned drain(struct nm_file *file, unsigned ring_id)
{
    struct netmap_ring *ring = rx(file, ring_id);
    unsigned n;

    assert_int_equal(nm_rxsync(file), 0);
    n = nm_ring_space(ring);
    ring->head = ring->cur = ring->tail;
    assert_int_equal(nm_rxsync(file), 0);
    return n;
}

static void expect_frame(struct netmap_ring *ring, uint32_t slot, uint8_t value, uint16_t flags)
{
    const uint8_t *data = (const uint8_t *)nm_buf(ring, ring->slot[slot].buf_idx);

    assert_int_equal(ring->slot[slot].len, LEN);
    assert_int_equal(ring->slot[slot].flags, flags);
    for (unsigned i = 0; i < LEN; i++)
        assert_int_equal(data[i], value);
}

/* Exactly these frames are in the monitor's ring; they are released. */
static void expect_frames(struct nm_file *mon, unsigned ring_id, uint8_t first, unsigned n,
                          uint16_t flags)
{
    struct netmap_ring *ring = rx(mon, ring_id);

    assert_int_equal(nm_rxsync(mon), 0);
    assert_int_equal(nm_ring_space(ring), n);
    uint32_t head = ring->head;
    for (unsigned i = 0; i < n; i++) {
        expect_frame(ring, head, (uint8_t)(first + i), flags);
        head = nm_ring_next(ring, head);
    }
    ring->head = ring->cur = head;
}

static void expect_nothing(struct nm_file *mon, unsigned ring_id)
{
    expect_frames(mon, ring_id, 0, 0, 0);
}

/* ---- what a monitor is ---- */

static void a_monitor_has_a_ring_for_each_of_the_port_and_one_that_cannot_send(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_MONITOR_RX};
    struct nm_file *mon = monitor_with(&f, &reg);

    assert_string_equal(nm_file_if(mon)->ni_name, "em0/r#0");
    assert_int_equal(reg.nr_tx_rings, 1);
    assert_int_equal(reg.nr_rx_rings, N_RX + N_HOST);
    assert_int_equal(reg.nr_tx_slots, N_SLOTS);
    assert_int_equal(reg.nr_rx_slots, N_SLOTS);
    assert_int_equal(reg.nr_mem_id, 2);
    assert_int_equal(nm_file_if(mon)->ni_flags, NI_PRIV_MEM);
    tx(mon, 0)->head = tx(mon, 0)->cur = 3;
    assert_int_equal(nm_txsync(mon), 0); /* errors of single rings are not told */
    assert_int_equal(tx(mon, 0)->tail, N_SLOTS - 1);
    assert_int_equal(nm_poll(mon, POLLOUT) & POLLERR, POLLERR);
    nm_close(mon);
    tear_down(&f);
}

static void slots_are_those_of_the_port_unless_asked_for_and_at_most_4096(void **state)
{
    (void)state;
    struct fixture f = set_up();
    static const uint32_t wanted[] = {0, 1, 100, 4096, 4097, UINT32_MAX};
    static const uint32_t got[] = {N_SLOTS, 1, 100, 4096, 4096, 4096};

    for (unsigned i = 0; i < G_N_ELEMENTS(wanted); i++) {
        struct nmreq_register reg = {.nr_mode = NR_REG_ONE_NIC,
                                     .nr_flags = NR_MONITOR_TX,
                                     .nr_tx_slots = wanted[i],
                                     .nr_rx_slots = wanted[i]};
        struct nm_file *mon = monitor_with(&f, &reg);
        assert_int_equal(reg.nr_tx_slots, got[i]);
        assert_int_equal(reg.nr_rx_slots, got[i]);
        nm_close(mon);
    }
    tear_down(&f);
}

static void names_say_what_is_monitored_and_count(void **state)
{
    (void)state;
    struct fixture f = set_up();
    static const struct {
        uint64_t flags;
        const char *name;
    } cases[] = {{NR_MONITOR_TX, "em0/t#0"},
                 {NR_MONITOR_RX, "em0/r#1"},
                 {NR_MONITOR_TX | NR_MONITOR_RX, "em0/rt#2"},
                 {NR_ZCOPY_MON, "em0/zrt#3"},
                 {NR_ZCOPY_MON | NR_MONITOR_TX, "em0/zrt#4"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nm_file *mon = monitor(&f, cases[i].flags);
        assert_string_equal(nm_file_if(mon)->ni_name, cases[i].name);
        nm_close(mon);
    }
    tear_down(&f);
}

static void only_a_port_in_netmap_mode_can_be_monitored(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_MONITOR_TX}, again = reg;
    struct nm_file *mon;

    assert_int_equal(open_as(&f, "em7", &reg, &mon), ENXIO);
    nm_close(f.file);
    assert_int_equal(open_as(&f, "em0", &again, &mon), EINVAL);
    again = (struct nmreq_register){.nr_mode = NR_REG_NIC_SW};
    f.file = monitor_with(&f, &again);
    tear_down(&f);
}

static void bad_modes_and_rings_are_refused(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {.nr_flags = NR_MONITOR_TX};
    struct nm_file *mon;

    assert_int_equal(open_as(&f, "em0", &reg, &mon), EINVAL);
    reg = (struct nmreq_register){
        .nr_mode = NR_REG_ONE_NIC, .nr_flags = NR_MONITOR_TX, .nr_ringid = N_RX};
    assert_int_equal(open_as(&f, "em0", &reg, &mon), EINVAL);
    reg = (struct nmreq_register){
        .nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_MONITOR_TX, .nr_mem_id = 99};
    assert_int_equal(open_as(&f, "em0", &reg, &mon), EINVAL);
    assert_int_equal(nm_txsync(f.file), 0); /* and nothing was left behind */
    tear_down(&f);
}

/* ---- copies ---- */

static void a_copy_monitor_gets_what_is_sent_and_what_arrives_and_the_port_keeps_it(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX | NR_MONITOR_RX);
    uint32_t sent_in = tx(f.file, 1)->slot[0].buf_idx;

    send_frames(f.file, 1, 10, 2);
    expect_frames(mon, 1, 10, 2, NS_TXMON);
    assert_int_equal(tx(f.file, 1)->slot[0].buf_idx, sent_in);
    arrive(&f, 1, 20, 3);
    expect_frames(mon, 1, 20, 3, 0); /* before the application has looked */
    assert_int_equal(nm_rxsync(f.file), 0);
    assert_int_equal(nm_ring_space(rx(f.file, 1)), 3);
    expect_frame(rx(f.file, 1), 0, 20, 0);
    assert_int_equal(drain(f.file, 1), 3);
    expect_nothing(mon, 1); /* once, not again when the application syncs */
    nm_close(mon);
    send_frames(f.file, 1, 30, 2); /* the ring works without it */
    tear_down(&f);
}

static void frames_that_wait_for_the_port_are_copied_once(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX);
    struct netmap_ring *ring = tx(f.file, 0);

    f.port->is_full = true;
    send_frames(f.file, 0, 1, 2);
    send_frames(f.file, 0, 3, 1);
    assert_int_equal(nm_txsync(f.file), 0);
    expect_frames(mon, 0, 1, 3, NS_TXMON);

    /* an application that takes back what it handed over has its ring looked at anew */
    ring->head = ring->cur = N_SLOTS + 1;
    assert_int_equal(nm_txsync(f.file), 0);
    assert_int_equal(ring->head, 0);
    send_frames(f.file, 0, 5, 2);
    expect_frames(mon, 0, 5, 2, NS_TXMON);
    f.port->is_full = false;
    send_frames(f.file, 0, 7, 1);
    expect_frames(mon, 0, 7, 1, NS_TXMON);
    nm_close(mon);
    tear_down(&f);
}

static void a_monitor_that_comes_later_begins_with_the_next_frame(void **state)
{
    (void)state;
    struct fixture f = set_up();

    send_frames(f.file, 0, 1, 6);
    arrive(&f, 0, 1, 6);
    assert_int_equal(drain(f.file, 0), 6);
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX | NR_MONITOR_RX);
    send_frames(f.file, 0, 7, 4);
    expect_frames(mon, 0, 7, 4, NS_TXMON);
    assert_int_equal(nm_rxsync(mon), 0);
    arrive(&f, 0, 11, 4);
    expect_frames(mon, 0, 11, 4, 0);
    nm_close(mon);
    tear_down(&f);
}

static void a_monitor_has_receive_rings_looked_at_when_it_comes(void **state)
{
    (void)state;
    struct fixture f = set_up();

    /* a wire that told of frames once does so again only when somebody has looked */
    nm_close(monitor(&f, NR_MONITOR_TX));
    nm_close(monitor(&f, NR_ZCOPY_MON));
    assert_int_equal(f.port->n_rxsyncs, 0);
    nm_close(monitor(&f, NR_MONITOR_RX));
    assert_int_equal(f.port->n_rxsyncs, N_RX);
    tear_down(&f);
}

static void only_the_direction_asked_for_is_monitored(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *t = monitor(&f, NR_MONITOR_TX), *r = monitor(&f, NR_MONITOR_RX);

    send_frames(f.file, 0, 1, 1);
    arrive(&f, 0, 2, 1);
    expect_frames(t, 0, 1, 1, NS_TXMON);
    expect_frames(r, 0, 2, 1, 0);
    nm_close(t);
    nm_close(r);
    tear_down(&f);
}

static void one_ring_alone_can_be_monitored(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {
        .nr_mode = NR_REG_ONE_NIC, .nr_ringid = 1, .nr_flags = NR_MONITOR_TX | NR_MONITOR_RX};
    struct nm_file *mon = monitor_with(&f, &reg);

    send_frames(f.file, 0, 1, 1);
    send_frames(f.file, 1, 2, 1);
    arrive(&f, 2, 3, 1);
    expect_frames(mon, 1, 2, 1, NS_TXMON);
    assert_int_equal(nm_file_if(mon)->ring_ofs[2], 0); /* tx, host tx, then rx 0 */
    nm_close(mon);
    tear_down(&f);
}

static void host_rings_are_monitored_behind_those_of_the_nic(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {.nr_mode = NR_REG_SW, .nr_flags = NR_MONITOR_TX | NR_MONITOR_RX},
                          one = {.nr_mode = NR_REG_ONE_SW,
                                 .nr_ringid = 1,
                                 .nr_flags = NR_MONITOR_TX | NR_MONITOR_RX};
    struct nm_file *mon = monitor_with(&f, &reg), *second = monitor_with(&f, &one);

    send_frames(f.file, 0, 1, 1);
    arrive(&f, 1, 2, 1);
    send_frames(f.file, N_TX, 3, 1); /* the first host tx ring is number 2 */
    arrive(&f, N_RX + 1, 4, 1);      /* the second host rx ring is number 4 */
    expect_nothing(mon, 0);
    expect_nothing(mon, 1);
    expect_frames(mon, 2, 3, 1, NS_TXMON);
    expect_frames(mon, 4, 4, 1, 0);
    expect_nothing(second, 2);
    expect_frames(second, 4, 4, 1, 0);
    nm_close(mon);
    nm_close(second);
    tear_down(&f);
}

static void several_copy_monitors_get_everything_each(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon[3];

    for (unsigned i = 0; i < 3; i++)
        mon[i] = monitor(&f, NR_MONITOR_TX | NR_MONITOR_RX);
    send_frames(f.file, 0, 1, 2);
    for (unsigned i = 0; i < 3; i++)
        expect_frames(mon[i], 0, 1, 2, NS_TXMON);
    nm_close(mon[1]);
    arrive(&f, 0, 5, 1);
    expect_frames(mon[0], 0, 5, 1, 0);
    expect_frames(mon[2], 0, 5, 1, 0);
    nm_close(mon[0]);
    nm_close(mon[2]);
    tear_down(&f);
}

static void without_room_the_oldest_of_the_new_frames_are_skipped(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {
        .nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_MONITOR_TX, .nr_rx_slots = 5};
    struct nm_file *mon = monitor_with(&f, &reg);
    struct netmap_ring *ring = rx(mon, 0);

    send_frames(f.file, 0, 1, 2); /* 1 and 2; room for 2 more */
    send_frames(f.file, 0, 3, 5); /* 3 4 5 are skipped */
    send_frames(f.file, 0, 8, 1); /* no room at all */
    assert_int_equal(nm_rxsync(mon), 0);
    assert_int_equal(nm_ring_space(ring), 4);
    expect_frame(ring, 0, 1, NS_TXMON);
    expect_frame(ring, 1, 2, NS_TXMON);
    expect_frame(ring, 2, 6, NS_TXMON);
    expect_frame(ring, 3, 7, NS_TXMON);
    ring->head = ring->cur = 3;
    assert_int_equal(nm_rxsync(mon), 0);
    send_frames(f.file, 0, 9, 3); /* over the end of both rings */
    expect_frame(ring, 3, 7, NS_TXMON);
    ring->head = ring->cur = 4;
    expect_frames(mon, 0, 9, 3, NS_TXMON);
    nm_close(mon);
    tear_down(&f);
}

static void a_ring_of_one_slot_holds_nothing(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {
        .nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_MONITOR_TX | NR_MONITOR_RX, .nr_rx_slots = 1};
    struct nm_file *mon = monitor_with(&f, &reg);

    send_frames(f.file, 0, 1, 3);
    arrive(&f, 0, 1, 3);
    expect_nothing(mon, 0);
    nm_close(mon);
    tear_down(&f);
}

static void frames_are_cut_at_the_monitors_buffers(void **state)
{
    (void)state;
    struct nm_host *host =
        nm_host_new(&(struct nm_host_options){.buf_num = 64, .buf_size = 4096}, NULL);
    struct fixture f = {.host = host, .port = g_new0(struct port, 1)};
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nm_mem *mem = nm_mem_find(host->mems, 1);
    nm_adapter_init(&f.port->up, host, &port_ops, "em0", mem);
    nm_mem_unref(mem);
    f.port->up.n_rings[NM_TX] = f.port->up.n_rings[NM_RX] = 1;
    f.port->up.n_slots[NM_TX] = f.port->up.n_slots[NM_RX] = N_SLOTS;
    g_hash_table_insert(host->nics, g_strdup("em0"), f.port);
    f.file = monitor_with(&f, &reg);
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX);
    struct netmap_ring *ring = tx(f.file, 0), *seen = rx(mon, 0);

    assert_int_equal(seen->nr_buf_size, BUF_SIZE);
    memset(nm_buf(ring, ring->slot[0].buf_idx), 7, 4096);
    ring->slot[0].len = 4096;
    ring->head = ring->cur = 1;
    assert_int_equal(nm_txsync(f.file), 0);
    assert_int_equal(nm_rxsync(mon), 0);
    assert_int_equal(nm_ring_space(seen), 1);
    assert_int_equal(seen->slot[0].len, BUF_SIZE);
    assert_int_equal(nm_buf(seen, seen->slot[0].buf_idx)[BUF_SIZE - 1], 7);
    nm_close(mon);
    tear_down(&f);
}

/* Syncs one slot with these contents; the copy has `len` bytes. */
static void expect_copied(struct fixture *f, struct nm_file *mon, struct netmap_slot slot,
                          uint16_t len, uint16_t flags)
{
    struct netmap_ring *ring = tx(f->file, 0), *seen = rx(mon, 0);
    struct netmap_slot before = ring->slot[ring->head];
    uint32_t head = ring->head, at = seen->head;

    ring->slot[head] = slot;
    ring->head = ring->cur = nm_ring_next(ring, head);
    assert_int_equal(nm_txsync(f->file), 0);
    ring->slot[head] = before;
    assert_int_equal(nm_rxsync(mon), 0);
    assert_int_equal(nm_ring_space(seen), 1);
    assert_int_equal(seen->slot[at].len, len);
    assert_int_equal(seen->slot[at].flags, flags);
    seen->head = seen->cur = seen->tail;
}

static void what_an_application_gets_wrong_in_a_slot_is_an_empty_copy(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX);
    uint32_t own = tx(f.file, 0)->slot[5].buf_idx;

    expect_copied(&f, mon, (struct netmap_slot){own, BUF_SIZE, 0, 0}, BUF_SIZE, NS_TXMON);
    expect_copied(&f, mon, (struct netmap_slot){own, BUF_SIZE + 1, 0, 0}, 0, NS_TXMON);
    expect_copied(&f, mon, (struct netmap_slot){own, UINT16_MAX, 0, 0}, 0, NS_TXMON);
    expect_copied(&f, mon, (struct netmap_slot){4096, LEN, 0, 0}, 0, NS_TXMON);
    expect_copied(&f, mon, (struct netmap_slot){UINT32_MAX, LEN, 0, 0}, 0, NS_TXMON);
    expect_copied(&f, mon, (struct netmap_slot){own, LEN, NS_MOREFRAG | NS_REPORT | 0x300, 0}, LEN,
                  NS_TXMON | NS_MOREFRAG | NS_REPORT | 0x300);
    nm_close(mon);
    tear_down(&f);
}

static void indirect_data_are_copied_from_where_they_lie(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX);
    uint8_t data[LEN];
    uint32_t own = tx(f.file, 0)->slot[0].buf_idx;

    memset(data, 0x55, sizeof(data));
    expect_copied(&f, mon, (struct netmap_slot){own, LEN, NS_INDIRECT, (uintptr_t)data}, LEN,
                  NS_TXMON);
    expect_frame(rx(mon, 0), 0, 0x55, NS_TXMON);
    expect_copied(&f, mon, (struct netmap_slot){own, LEN, NS_INDIRECT, 8}, 0, NS_TXMON);
    f.port->up.krings[NM_TX][0].flags |= NKR_NO_INDIRECT; /* the application is a guest */
    expect_copied(&f, mon, (struct netmap_slot){own, LEN, NS_INDIRECT, (uintptr_t)data}, 0,
                  NS_TXMON);
    nm_close(mon);
    tear_down(&f);
}

static void a_monitor_that_spoils_its_ring_gets_empty_frames(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX);
    struct netmap_ring *ring = rx(mon, 0);
    uint32_t own = ring->slot[0].buf_idx;

    ring->slot[0].buf_idx = UINT32_MAX;
    ring->slot[1].buf_idx = 0;
    send_frames(f.file, 0, 1, 3);
    assert_int_equal(nm_rxsync(mon), 0);
    assert_int_equal(nm_ring_space(ring), 3);
    assert_int_equal(ring->slot[0].len, 0);
    assert_int_equal(ring->slot[1].len, 0);
    expect_frame(ring, 2, 3, NS_TXMON);
    ring->slot[0].buf_idx = own;
    nm_close(mon);
    tear_down(&f);
}

/* ---- waiting ---- */

static void frames_wake_who_polls_the_monitor(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX | NR_MONITOR_RX);
    struct pollfd p = {.fd = nm_poll_fd(mon), .events = POLLIN};

    assert_int_equal(nm_poll(mon, POLLIN), 0);
    assert_int_equal(poll(&p, 1, 0), 0);
    arrive(&f, 2, 1, 1);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_int_equal(nm_poll(mon, POLLIN), POLLIN);
    expect_frames(mon, 2, 1, 1, 0);
    assert_int_equal(nm_poll(mon, POLLIN), 0);
    send_frames(f.file, 0, 2, 1);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_int_equal(nm_poll(mon, POLLIN), POLLIN);
    nm_close(mon);
    tear_down(&f);
}

static void the_ports_own_application_is_woken_as_before(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_RX);
    struct pollfd p = {.fd = nm_poll_fd(f.file), .events = POLLIN};

    assert_int_equal(nm_poll(f.file, POLLIN), 0);
    arrive(&f, 0, 1, 1);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_int_equal(nm_poll(f.file, POLLIN), POLLIN);
    nm_close(mon);
    tear_down(&f);
}

static void frames_that_come_during_a_sync_are_not_told_before_they_are_copied(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_RX);
    struct nm_kring *kring = rx_kring(&f, 0);

    /* the application's sync, as it happens in another thread: the frame comes behind its copies */
    assert_int_equal(nm_kr_acquire(kring, false), 0);
    assert_int_equal(kring->sync(kring, 0), 0);
    arrive(&f, 0, 1, 1);
    nm_sync_finalize(kring);
    nm_kr_release(kring);
    assert_int_equal(nm_ring_space(rx(f.file, 0)), 0);
    expect_nothing(mon, 0);
    assert_int_equal(nm_rxsync(f.file), 0);
    assert_int_equal(nm_ring_space(rx(f.file, 0)), 1);
    expect_frames(mon, 0, 1, 1, 0);
    nm_close(mon);
    tear_down(&f);
}

/* ---- zero copy ---- */

static void a_zero_copy_monitor_takes_buffers_when_transmission_is_complete(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_ZCOPY_MON);
    struct netmap_ring *ring = tx(f.file, 0), *seen = rx(mon, 0);
    uint32_t sent[2] = {ring->slot[0].buf_idx, ring->slot[1].buf_idx},
             fresh[2] = {seen->slot[0].buf_idx, seen->slot[1].buf_idx};

    assert_int_equal(nm_file_if(mon)->ni_flags, 0); /* the port's memory */
    assert_string_equal(nm_file_if(mon)->ni_name, "em0/zrt#0");
    f.port->is_slow = true;
    send_frames(f.file, 0, 1, 2);
    expect_nothing(mon, 0); /* on its way */
    assert_int_equal(ring->slot[0].buf_idx, sent[0]);
    complete(&f, 0);
    assert_int_equal(nm_txsync(f.file), 0);
    assert_int_equal(seen->slot[0].buf_idx, sent[0]);
    assert_int_equal(seen->slot[1].buf_idx, sent[1]);
    assert_int_equal(ring->slot[0].buf_idx, fresh[0]);
    assert_int_equal(ring->slot[1].buf_idx, fresh[1]);
    assert_int_equal(ring->slot[0].flags, NS_BUF_CHANGED);
    assert_int_equal(ring->slot[0].len, BUF_SIZE); /* as the monitor's slot had it */
    expect_frames(mon, 0, 1, 2, NS_TXMON);
    nm_close(mon);
    tear_down(&f);
}

static void a_zero_copy_monitor_takes_received_buffers_when_they_are_released(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_ZCOPY_MON);
    struct netmap_ring *ring = rx(f.file, 2), *seen = rx(mon, 2);
    uint32_t first = ring->slot[0].buf_idx, fresh = seen->slot[0].buf_idx;

    arrive(&f, 2, 1, 3);
    assert_int_equal(nm_rxsync(f.file), 0);
    expect_frame(ring, 0, 1, 0);
    expect_nothing(mon, 2);
    ring->head = ring->cur = 2; /* of three */
    assert_int_equal(nm_rxsync(f.file), 0);
    assert_int_equal(seen->slot[0].buf_idx, first);
    assert_int_equal(ring->slot[0].buf_idx, fresh);
    assert_int_equal(ring->slot[0].flags, NS_BUF_CHANGED);
    expect_frames(mon, 2, 1, 2, 0);
    expect_frame(ring, 2, 3, 0);
    nm_close(mon);
    tear_down(&f);
}

static void without_room_the_oldest_buffers_stay_with_the_port(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register reg = {
        .nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_ZCOPY_MON, .nr_rx_slots = 3};
    struct nm_file *mon = monitor_with(&f, &reg);
    struct netmap_ring *ring = tx(f.file, 0);
    uint32_t sent[6];

    for (unsigned i = 0; i < 6; i++)
        sent[i] = ring->slot[i].buf_idx;
    send_frames(f.file, 0, 1, 5);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ring->slot[i].buf_idx, sent[i]);
        assert_int_equal(ring->slot[i].flags, 0);
    }
    assert_int_not_equal(ring->slot[3].buf_idx, sent[3]);
    expect_frames(mon, 0, 4, 2, NS_TXMON);
    send_frames(f.file, 0, 6, 1); /* the two are released with the next sync only */
    assert_int_equal(ring->slot[5].buf_idx, sent[5]);
    expect_nothing(mon, 0);
    send_frames(f.file, 0, 7, 1);
    expect_frames(mon, 0, 7, 1, NS_TXMON);
    nm_close(mon);
    tear_down(&f);
}

static void slots_without_a_buffer_of_their_own_are_not_taken(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_ZCOPY_MON);
    struct netmap_ring *ring = tx(f.file, 0), *seen = rx(mon, 0);
    uint32_t own[3] = {ring->slot[0].buf_idx, ring->slot[1].buf_idx, ring->slot[2].buf_idx},
             fresh[4];

    for (unsigned i = 0; i < 4; i++)
        fresh[i] = seen->slot[i].buf_idx;
    ring->slot[0] = (struct netmap_slot){.buf_idx = own[0], .len = LEN, .flags = NS_INDIRECT};
    ring->slot[1] = (struct netmap_slot){.buf_idx = 1, .len = LEN};
    ring->slot[2] = (struct netmap_slot){.buf_idx = 4096, .len = LEN};
    seen->slot[3].buf_idx = UINT32_MAX;
    ring->head = ring->cur = 4;
    assert_int_equal(nm_txsync(f.file), 0);
    assert_int_equal(nm_rxsync(mon), 0);
    assert_int_equal(nm_ring_space(seen), 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(seen->slot[i].len, 0);
        assert_int_equal(seen->slot[i].flags, NS_TXMON);
        assert_int_equal(seen->slot[i].buf_idx, i == 3 ? UINT32_MAX : fresh[i]);
    }
    assert_int_equal(ring->slot[0].buf_idx, own[0]);
    assert_int_equal(ring->slot[2].buf_idx, 4096);
    for (unsigned i = 0; i < 3; i++)
        ring->slot[i].buf_idx = own[i];
    seen->slot[3].buf_idx = fresh[3];
    nm_close(mon);
    tear_down(&f);
}

static void copies_and_zero_copy_go_together(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *zcopy = monitor(&f, NR_ZCOPY_MON),
                   *copy = monitor(&f, NR_MONITOR_TX | NR_MONITOR_RX);

    send_frames(f.file, 0, 1, 2);
    expect_frames(copy, 0, 1, 2, NS_TXMON);
    expect_frames(zcopy, 0, 1, 2, NS_TXMON);
    arrive(&f, 0, 3, 2);
    expect_frames(copy, 0, 3, 2, 0);
    expect_nothing(zcopy, 0);
    assert_int_equal(drain(f.file, 0), 2);
    expect_frames(zcopy, 0, 3, 2, 0);
    expect_nothing(copy, 0);
    nm_close(copy);
    arrive(&f, 0, 5, 1);
    assert_int_equal(drain(f.file, 0), 1);
    expect_frames(zcopy, 0, 5, 1, 0);
    nm_close(zcopy);
    tear_down(&f);
}

/* ---- chains ---- */

static void a_second_zero_copy_monitor_gets_what_the_first_one_releases(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *first = monitor(&f, NR_ZCOPY_MON), *second = monitor(&f, NR_ZCOPY_MON);
    uint32_t sent = tx(f.file, 0)->slot[0].buf_idx;

    send_frames(f.file, 0, 1, 1);
    arrive(&f, 0, 2, 1);
    assert_int_equal(drain(f.file, 0), 1);
    expect_nothing(second, 0);
    assert_int_equal(nm_rxsync(first), 0);
    expect_frame(rx(first, 0), 0, 1, NS_TXMON);
    expect_frame(rx(first, 0), 1, 2, 0);
    assert_int_equal(rx(first, 0)->slot[0].buf_idx, sent);
    expect_nothing(second, 0); /* looked at, not released */
    assert_int_equal(drain(first, 0), 2);
    assert_int_equal(rx(second, 0)->slot[0].buf_idx, sent);
    assert_int_equal(nm_rxsync(second), 0);
    expect_frame(rx(second, 0), 0, 1, NS_TXMON);
    expect_frame(rx(second, 0), 1, 2, 0);
    assert_int_equal(nm_ring_space(rx(second, 0)), 2);
    nm_close(first);
    nm_close(second);
    tear_down(&f);
}

/* Of three monitors in a chain one leaves; the others still get everything in order. */
static void expect_mended(unsigned leaver)
{
    struct fixture f = set_up();
    struct nm_file *mon[3];

    for (unsigned i = 0; i < 3; i++)
        mon[i] = monitor(&f, NR_ZCOPY_MON);
    send_frames(f.file, 1, 1, 2); /* some are in its ring when it leaves */
    assert_int_equal(drain(mon[0], 1), 2);
    assert_int_equal(drain(mon[1], 1), 2);
    assert_int_equal(drain(mon[2], 1), 2);
    nm_close(g_steal_pointer(&mon[leaver]));
    send_frames(f.file, 1, 7, 2);
    arrive(&f, 1, 9, 1);
    assert_int_equal(drain(f.file, 1), 1);
    for (unsigned i = 0; i < 3; i++)
        if (mon[i])
            assert_int_equal(drain(mon[i], 1), 3);
    for (unsigned i = 0; i < 3; i++)
        if (mon[i])
            nm_close(mon[i]);
    tear_down(&f);
}

static void a_chain_closes_when_one_of_it_leaves(void **state)
{
    (void)state;
    expect_mended(0);
    expect_mended(1);
    expect_mended(2);
}

static void chains_of_one_direction_meet(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon[3];
    static const uint64_t only[3] = {NR_TX_RINGS_ONLY, NR_RX_RINGS_ONLY, 0};

    /* a monitor whose receive rings are not bound sees nothing; one that looks at reception only
     * stands before one that looks at both */
    for (unsigned i = 0; i < 3; i++)
        mon[i] = monitor(&f, NR_ZCOPY_MON | only[i]);
    send_frames(f.file, 0, 1, 1);
    arrive(&f, 0, 2, 1);
    assert_int_equal(drain(f.file, 0), 1);
    expect_frames(mon[2], 0, 1, 1, NS_TXMON);
    assert_int_equal(drain(mon[1], 0), 1);
    expect_frames(mon[2], 0, 2, 1, 0);
    nm_close(mon[2]);
    send_frames(f.file, 0, 3, 1);
    for (unsigned i = 0; i < 2; i++)
        nm_close(mon[i]);
    tear_down(&f);
}

/* ---- the end ---- */

static void when_the_port_leaves_netmap_mode_its_monitors_learn_it(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon[4] = {monitor(&f, NR_MONITOR_TX), monitor(&f, NR_ZCOPY_MON),
                              monitor(&f, NR_ZCOPY_MON), monitor(&f, NR_MONITOR_RX)};
    struct pollfd p = {.fd = nm_poll_fd(mon[0]), .events = POLLIN};
    struct nmreq_register reg = {.nr_mode = NR_REG_NIC_SW};

    send_frames(f.file, 0, 1, 1);
    assert_int_equal(drain(mon[0], 0), 1);
    assert_int_equal(nm_poll(mon[0], POLLIN), 0);
    nm_close(f.file);
    assert_int_equal(poll(&p, 1, 0), 1);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(nm_poll(mon[i], POLLIN) & POLLERR, POLLERR);
        assert_int_equal(nm_rxsync(mon[i]), 0); /* errors of single rings are not told */
    }
    assert_int_equal(nm_ring_space(rx(mon[1], 0)), 0); /* nothing new is shown */

    /* the port comes back; those monitors stay where they are, a new one works */
    f.file = monitor_with(&f, &reg);
    struct nm_file *again = monitor(&f, NR_MONITOR_TX);
    send_frames(f.file, 0, 2, 1);
    expect_frames(again, 0, 2, 1, NS_TXMON);
    assert_int_equal(nm_poll(mon[0], POLLIN) & POLLERR, POLLERR);
    for (unsigned i = 0; i < 4; i++)
        nm_close(mon[i]);
    nm_close(again);
    tear_down(&f);
}

static void another_file_keeps_the_port_in_netmap_mode_for_its_monitors(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nmreq_register all = {.nr_mode = NR_REG_NIC_SW,
                                 .nr_flags = NR_MONITOR_TX | NR_MONITOR_RX};
    struct nm_file *mon = monitor_with(&f, &all), *other = monitor(&f, 0);

    nm_close(f.file); /* the host rings go with it */
    f.file = other;
    send_frames(f.file, 0, 1, 1);
    arrive(&f, 0, 2, 1);
    assert_int_equal(nm_rxsync(mon), 0);
    expect_frame(rx(mon, 0), 0, 1, NS_TXMON);
    expect_frame(rx(mon, 0), 1, 2, 0);

    struct nmreq_register reg = {.nr_mode = NR_REG_SW};
    struct nm_file *host = monitor_with(&f, &reg); /* rings that begin anew */
    arrive(&f, N_RX, 3, 3);
    expect_frames(mon, N_RX, 3, 3, 0);
    nm_close(host);
    host = monitor_with(&f, &reg);
    arrive(&f, N_RX, 6, 1);
    expect_frames(mon, N_RX, 6, 1, 0);
    nm_close(host);
    nm_close(mon);
    tear_down(&f);
}

static void monitors_do_not_keep_the_port_in_netmap_mode(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon = monitor(&f, NR_MONITOR_TX);

    assert_int_equal(f.port->up.active_files, 1);
    nm_close(f.file);
    assert_int_equal(f.port->up.active_files, 0);
    assert_int_equal(f.port->up.refs, 1);
    nm_close(mon);
    assert_int_equal(f.port->up.refs, 1);
    f.file = nm_open(f.host);
    tear_down(&f);
}

static void a_port_without_monitors_has_its_own_functions_back(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct nm_file *mon[2] = {monitor(&f, NR_ZCOPY_MON),
                              monitor(&f, NR_MONITOR_TX | NR_MONITOR_RX)};

    assert_true(f.port->up.krings[NM_TX][0].sync != port_txsync);
    nm_close(mon[0]);
    nm_close(mon[1]);
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < nm_all_rings(&f.port->up, t); i++) {
            const struct nm_kring *kring = &f.port->up.krings[t][i];
            assert_true(kring->sync == (t == NM_TX ? port_txsync : port_rxsync));
            assert_true(kring->notify == nm_notify);
            assert_null(kring->monitored);
        }
    }
    tear_down(&f);
}

/* ---- threads ---- */

enum { N_ROUNDS = 300 };

struct traffic {
    struct fixture *f;
    _Atomic bool is_done;
    unsigned n_failed;
};

/* The port's application. */
static void *send_and_receive(void *data)
{
    struct traffic *traffic = data;
    struct nm_file *file = traffic->f->file;

    while (!atomic_load(&traffic->is_done)) {
        struct netmap_ring *ring = tx(file, 0);
        uint32_t head = ring->head;
        if (nm_ring_space(ring) > 0) {
            fill(ring, &ring->slot[head], 1, 0);
            ring->head = ring->cur = nm_ring_next(ring, head);
        }
        traffic->n_failed += nm_txsync(file) != 0;
        traffic->n_failed += nm_rxsync(file) != 0;
        rx(file, 0)->head = rx(file, 0)->cur = rx(file, 0)->tail;
    }
    return NULL;
}

/* Frames arrive from elsewhere, as a switch delivers them. */
static void *deliver(void *data)
{
    struct traffic *traffic = data;
    struct nm_kring *kring = rx_kring(traffic->f, 0);

    while (!atomic_load(&traffic->is_done)) {
        pthread_spin_lock(&kring->lease_lock);
        uint32_t tail = atomic_load(&kring->hwtail), next = nm_next(tail, N_SLOTS);
        bool has_room = next != kring->hwcur;
        pthread_spin_unlock(&kring->lease_lock);
        if (has_room) {
            fill(kring->ring, &kring->ring->slot[tail], 2, 0);
            atomic_store(&kring->hwtail, next);
        }
        nm_kr_notify(kring, 0);
    }
    return NULL;
}

static void monitors_come_and_go_while_threads_use_the_port(void **state)
{
    (void)state;
    struct fixture f = set_up();
    struct traffic traffic = {.f = &f};
    pthread_t threads[2];

    assert_int_equal(pthread_create(&threads[0], NULL, send_and_receive, &traffic), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, deliver, &traffic), 0);
    for (unsigned i = 0; i < N_ROUNDS; i++) {
        struct nm_file *copy = monitor(&f, NR_MONITOR_TX | NR_MONITOR_RX),
                       *zcopy = monitor(&f, NR_ZCOPY_MON), *behind = monitor(&f, NR_ZCOPY_MON);
        (void)drain(copy, 0);
        (void)drain(zcopy, 0);
        (void)drain(behind, 0);
        nm_close(i % 2 ? copy : zcopy);
        (void)drain(behind, 0);
        nm_close(i % 2 ? zcopy : copy);
        nm_close(behind);
    }
    atomic_store(&traffic.is_done, true);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_int_equal(traffic.n_failed, 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_monitor_has_a_ring_for_each_of_the_port_and_one_that_cannot_send),
        cmocka_unit_test(slots_are_those_of_the_port_unless_asked_for_and_at_most_4096),
        cmocka_unit_test(names_say_what_is_monitored_and_count),
        cmocka_unit_test(only_a_port_in_netmap_mode_can_be_monitored),
        cmocka_unit_test(bad_modes_and_rings_are_refused),
        cmocka_unit_test(a_copy_monitor_gets_what_is_sent_and_what_arrives_and_the_port_keeps_it),
        cmocka_unit_test(frames_that_wait_for_the_port_are_copied_once),
        cmocka_unit_test(a_monitor_that_comes_later_begins_with_the_next_frame),
        cmocka_unit_test(a_monitor_has_receive_rings_looked_at_when_it_comes),
        cmocka_unit_test(only_the_direction_asked_for_is_monitored),
        cmocka_unit_test(one_ring_alone_can_be_monitored),
        cmocka_unit_test(host_rings_are_monitored_behind_those_of_the_nic),
        cmocka_unit_test(several_copy_monitors_get_everything_each),
        cmocka_unit_test(without_room_the_oldest_of_the_new_frames_are_skipped),
        cmocka_unit_test(a_ring_of_one_slot_holds_nothing),
        cmocka_unit_test(frames_are_cut_at_the_monitors_buffers),
        cmocka_unit_test(what_an_application_gets_wrong_in_a_slot_is_an_empty_copy),
        cmocka_unit_test(indirect_data_are_copied_from_where_they_lie),
        cmocka_unit_test(a_monitor_that_spoils_its_ring_gets_empty_frames),
        cmocka_unit_test(frames_wake_who_polls_the_monitor),
        cmocka_unit_test(the_ports_own_application_is_woken_as_before),
        cmocka_unit_test(frames_that_come_during_a_sync_are_not_told_before_they_are_copied),
        cmocka_unit_test(a_zero_copy_monitor_takes_buffers_when_transmission_is_complete),
        cmocka_unit_test(a_zero_copy_monitor_takes_received_buffers_when_they_are_released),
        cmocka_unit_test(without_room_the_oldest_buffers_stay_with_the_port),
        cmocka_unit_test(slots_without_a_buffer_of_their_own_are_not_taken),
        cmocka_unit_test(copies_and_zero_copy_go_together),
        cmocka_unit_test(a_second_zero_copy_monitor_gets_what_the_first_one_releases),
        cmocka_unit_test(a_chain_closes_when_one_of_it_leaves),
        cmocka_unit_test(chains_of_one_direction_meet),
        cmocka_unit_test(when_the_port_leaves_netmap_mode_its_monitors_learn_it),
        cmocka_unit_test(another_file_keeps_the_port_in_netmap_mode_for_its_monitors),
        cmocka_unit_test(monitors_do_not_keep_the_port_in_netmap_mode),
        cmocka_unit_test(a_port_without_monitors_has_its_own_functions_back),
        cmocka_unit_test(monitors_come_and_go_while_threads_use_the_port),
    };
    return cmocka_run_group_tests_name("models/netmap/nm_monitor", tests, NULL, NULL);
}
