/*
 * Monitors on ports as they are: VALE, pipes, an interface with a wire; opened by their names.
 */
#include "models/backend/backend.h"
#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { LEN = 60, DEADLINE_MS = 10000 };

static struct nm_host *host_new(void)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 8192}, NULL);

    assert_non_null(host);
    return host;
}

static struct nm_port *open_port(struct nm_host *host, const char *name)
{
    GError *error = NULL;
    struct nm_port *port = nm_port_open(host, name, 0, &error);

    if (error)
        fail_msg("%s: %s", name, error->message);
    return port;
}

static struct netmap_ring *tx(const struct nm_port *port)
{
    return nm_txring(port->nifp, 0);
}

static struct netmap_ring *rx(const struct nm_port *port)
{
    return nm_rxring(port->nifp, 0);
}

/* A broadcast of a source of its own, with a number in it. */
static void put(struct netmap_ring *ring, uint32_t number)
{
    struct netmap_slot *slot = &ring->slot[ring->head];
    uint8_t *data = (uint8_t *)nm_buf(ring, slot->buf_idx);

    memset(data, 0, LEN);
    memset(data, 0xff, 6);
    data[6] = 2;
    memcpy(data + 14, &number, sizeof(number));
    slot->len = LEN;
    slot->flags = 0;
    ring->head = ring->cur = nm_ring_next(ring, ring->head);
}

static uint32_t number_in(const struct netmap_ring *ring, uint32_t slot)
{
    uint32_t number;

    memcpy(&number, nm_buf(ring, ring->slot[slot].buf_idx) + 14, sizeof(number));
    return number;
}

static void send_numbers(struct nm_port *port, uint32_t first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        put(tx(port), first + i);
    assert_int_equal(nm_txsync(port->file), 0);
}

/* Exactly these have come; they are released with the next sync. */
static void expect_numbers(struct nm_port *port, uint32_t first, uint32_t n, uint16_t flags)
{
    struct netmap_ring *ring = rx(port);

    assert_int_equal(nm_rxsync(port->file), 0);
    assert_int_equal(nm_ring_space(ring), n);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(ring->slot[ring->head].len, LEN);
        assert_int_equal(ring->slot[ring->head].flags & (NS_TXMON | NS_MOREFRAG), flags);
        assert_int_equal(number_in(ring, ring->head), first + i);
        ring->head = ring->cur = nm_ring_next(ring, ring->head);
    }
}

/* ---- VALE ---- */

static void a_switchs_port_can_be_watched_from_both_sides(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    struct nm_port *a = open_port(host, "vale0:a"), *b = open_port(host, "vale0:b"),
                   *out = open_port(host, "vale0:a/t"), *in = open_port(host, "vale0:b/r"),
                   *both = open_port(host, "vale0:b/rt");

    assert_string_equal(in->nifp->ni_name, "vale0:b/r#0");
    send_numbers(a, 1, 3);
    expect_numbers(out, 1, 3, NS_TXMON);
    expect_numbers(in, 1, 3, 0); /* b has not synced */
    expect_numbers(both, 1, 3, 0);
    expect_numbers(b, 1, 3, 0);
    send_numbers(b, 4, 1);
    expect_numbers(both, 4, 1, NS_TXMON);
    expect_numbers(in, 0, 0, 0);
    expect_numbers(a, 4, 1, 0);
    nm_port_close(in);
    send_numbers(a, 5, 1);
    expect_numbers(both, 5, 1, 0);
    expect_numbers(b, 5, 1, 0);
    nm_port_close(a);
    nm_port_close(b);
    nm_port_close(out);
    nm_port_close(both);
    nm_host_free(host);
}

static void a_switchs_port_gives_its_buffers_to_a_zero_copy_monitor(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    struct nm_port *a = open_port(host, "vale0:a"), *b = open_port(host, "vale0:b"),
                   *mon_a = open_port(host, "vale0:a/z"), *mon_b = open_port(host, "vale0:b/z");
    uint32_t sent = tx(a)->slot[0].buf_idx, got = rx(b)->slot[0].buf_idx;

    assert_int_equal(mon_a->reg.nr_mem_id, a->reg.nr_mem_id);
    send_numbers(a, 1, 2);
    assert_int_equal(rx(mon_a)->slot[0].buf_idx, sent);
    expect_numbers(mon_a, 1, 2, NS_TXMON);
    expect_numbers(b, 1, 2, 0);
    expect_numbers(mon_b, 0, 0, 0);
    assert_int_equal(nm_rxsync(b->file), 0);
    assert_int_equal(rx(mon_b)->slot[0].buf_idx, got);
    expect_numbers(mon_b, 1, 2, 0);
    nm_port_close(mon_a);
    nm_port_close(mon_b);
    nm_port_close(a);
    nm_port_close(b);
    nm_host_free(host);
}

static void a_monitor_does_not_keep_a_port_on_its_switch(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    struct nm_port *a = open_port(host, "vale0:a"), *mon = open_port(host, "vale0:a/rt");
    struct nmreq_vale_list list = {0};
    struct nmreq_header header = {.nr_version = NETMAP_API,
                                  .nr_reqtype = NETMAP_REQ_VALE_LIST,
                                  .nr_name = "vale0:a",
                                  .nr_body = (uintptr_t)&list};

    assert_int_equal(nm_ctrl(mon->file, &header), 0);
    nm_port_close(a);
    assert_int_equal(nm_ctrl(mon->file, &header), ENOENT);
    assert_int_equal(nm_poll(mon->file, POLLIN) & POLLERR, POLLERR);
    a = open_port(host, "vale0:a");
    nm_port_close(mon);
    nm_port_close(a);
    nm_host_free(host);
}

static void a_port_that_nobody_has_open_is_not_left_behind_by_who_wants_to_watch_it(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    GError *error = NULL;
    struct nmreq_vale_list list = {0};
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_VALE_LIST, .nr_body = (uintptr_t)&list};
    struct nm_file *file = nm_open(host);

    assert_null(nm_port_open(host, "vale0:a/t", 0, &error));
    assert_true(g_error_matches(error, NM_ERROR, EINVAL));
    g_clear_error(&error);
    assert_null(nm_port_open(host, "vale0:a/z", 0, &error));
    assert_true(g_error_matches(error, NM_ERROR, EINVAL));
    g_clear_error(&error);
    assert_int_equal(nm_ctrl(file, &header), ENOENT);
    nm_close(file);
    nm_host_free(host);
}

/* ---- pipes ---- */

static void both_ends_of_a_pipe_can_be_watched(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    struct nm_port *a = open_port(host, "vale0:x{1"), *b = open_port(host, "vale0:x}1"),
                   *mon_a = open_port(host, "vale0:x{1/rt"),
                   *mon_b = open_port(host, "vale0:x}1/r");

    assert_string_equal(mon_b->nifp->ni_name, "vale0:x}1/r#0");
    send_numbers(a, 1, 3);
    expect_numbers(mon_a, 1, 3, NS_TXMON);
    expect_numbers(mon_b, 1, 3, 0);
    expect_numbers(b, 1, 3, 0);
    send_numbers(b, 4, 2);
    expect_numbers(mon_a, 4, 2, 0);
    expect_numbers(a, 4, 2, 0);
    nm_port_close(b); /* its monitor learns it, the other end's goes on */
    assert_int_equal(nm_poll(mon_b->file, POLLIN) & POLLERR, POLLERR);
    send_numbers(a, 6, 1);
    expect_numbers(mon_a, 6, 1, NS_TXMON);
    nm_port_close(mon_b);
    nm_port_close(a);
    nm_port_close(mon_a);
    nm_host_free(host);
}

static void a_zero_copy_monitor_in_a_pipe_gets_the_buffers_that_travel(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    struct nm_port *a = open_port(host, "vale0:x{1"), *b = open_port(host, "vale0:x}1"),
                   *mon = open_port(host, "vale0:x}1/z"), *behind = open_port(host, "vale0:x}1/z");
    uint32_t sent = tx(a)->slot[0].buf_idx, fresh = rx(mon)->slot[0].buf_idx;

    send_numbers(a, 1, 1);
    assert_int_equal(rx(b)->slot[0].buf_idx, sent);
    expect_numbers(b, 1, 1, 0);
    assert_int_equal(nm_rxsync(b->file), 0);
    assert_int_equal(rx(mon)->slot[0].buf_idx, sent);
    assert_int_equal(nm_txsync(a->file), 0);
    assert_int_equal(tx(a)->slot[0].buf_idx, fresh); /* came back in its place */
    expect_numbers(mon, 1, 1, 0);
    assert_int_equal(nm_rxsync(mon->file), 0);
    assert_int_equal(rx(behind)->slot[0].buf_idx, sent);
    expect_numbers(behind, 1, 1, 0);

    struct nm_mem *mem = nm_mem_find(host->mems, a->reg.nr_mem_id);
    nm_port_close(mon);
    nm_port_close(a);
    nm_port_close(behind);
    assert_int_not_equal(nm_mem_used(mem, NM_POOL_BUF), 0);
    nm_port_close(b);
    assert_int_equal(nm_mem_used(mem, NM_POOL_BUF), 0);
    assert_int_equal(nm_mem_used(mem, NM_POOL_RING), 0);
    nm_mem_unref(mem);
    nm_host_free(host);
}

/* ---- interfaces ---- */

static void nic_new(struct nm_host *host, const char *name, struct backend *wire)
{
    const struct nm_nic_options options = {.name = name, .wire = wire};
    GError *error = NULL;

    if (!nm_nic_new(host, &options, &error))
        fail_msg("%s: %s", name, error->message);
}

static void what_an_interface_sends_into_nothing_can_be_watched(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    nic_new(host, "em0", backend_null_new());
    struct nm_port *port = open_port(host, "netmap:em0"), *copy = open_port(host, "netmap:em0/rt"),
                   *zcopy = open_port(host, "netmap:em0/z");

    assert_int_equal(copy->reg.nr_rx_rings, 2); /* its own and the host ring */
    assert_int_equal(zcopy->reg.nr_mem_id, 1);
    send_numbers(port, 1, 3);
    expect_numbers(copy, 1, 3, NS_TXMON);
    expect_numbers(zcopy, 1, 3, NS_TXMON);
    nm_port_close(port);
    nm_port_close(copy);
    nm_port_close(zcopy);
    nm_host_free(host);
}

/* The frames of the other end's thread come through here by a notification, whenever that is. */
static void expect_to_come(struct nm_port *port, uint32_t first, uint32_t n)
{
    struct pollfd p = {.fd = nm_poll_fd(port->file), .events = POLLIN};

    for (uint32_t i = 0; i < n;) {
        struct netmap_ring *ring = rx(port);
        while (!(nm_poll(port->file, POLLIN) & POLLIN))
            assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        for (; nm_ring_space(ring) > 0; i++) {
            assert_true(i < n);
            assert_int_equal(number_in(ring, ring->head), first + i);
            ring->head = ring->cur = nm_ring_next(ring, ring->head);
        }
    }
}

static void frames_from_a_wire_reach_a_monitor_without_the_applications_doing(void **state)
{
    (void)state;
    struct nm_host *host = host_new();
    struct backend *ends[2];

    assert_true(backend_cable_new(64, 2048, &ends[0], &ends[1], NULL));
    nic_new(host, "em0", ends[0]);
    nic_new(host, "em1", ends[1]);
    struct nm_port *a = open_port(host, "netmap:em0"), *b = open_port(host, "netmap:em1"),
                   *mon = open_port(host, "netmap:em1/r");
    send_numbers(a, 1, 5);
    expect_to_come(mon, 1, 5);
    expect_to_come(b, 1, 5);
    nm_port_close(b);
    nm_port_close(mon);
    nm_port_close(a);
    nm_host_free(host);
}

/* ---- many at once ---- */

enum { N_ROUNDS = 100, N_WATCHED = 3, BURST = 8 };

struct stream {
    struct nm_port *from, *to;
    _Atomic bool is_enough;
    uint32_t n_sent, n_received, n_wrong;
};

/* One burst after the other, each of which arrives before the next one is sent. */
static void *stream(void *data)
{
    struct stream *s = data;

    while (!atomic_load(&s->is_enough)) {
        struct netmap_ring *ring = rx(s->to);
        for (uint32_t i = 0; i < BURST; i++)
            put(tx(s->from), s->n_sent++);
        s->n_wrong += nm_txsync(s->from->file) != 0;
        s->n_wrong += nm_rxsync(s->to->file) != 0;
        /* a ring that a monitor is just looking at is skipped by a sync */
        for (unsigned more = 0; nm_ring_space(ring) < BURST && more < 1000000; more++)
            s->n_wrong += nm_rxsync(s->to->file) != 0;
        if (nm_ring_space(ring) < BURST)
            break;
        for (; nm_ring_space(ring) > 0; s->n_received++) {
            s->n_wrong += number_in(ring, ring->head) != s->n_received;
            ring->head = ring->cur = nm_ring_next(ring, ring->head);
        }
    }
    return NULL;
}

/* What comes to a monitor goes up; where it was too slow, by more than one. */
static void expect_ascending(struct nm_port *mon)
{
    struct pollfd p = {.fd = nm_poll_fd(mon->file), .events = POLLIN};
    struct netmap_ring *ring = rx(mon);
    uint32_t last = 0;

    while (!(nm_poll(mon->file, POLLIN) & POLLIN))
        assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    for (bool is_first = true; nm_ring_space(ring) > 0; is_first = false) {
        uint32_t number = number_in(ring, ring->head);
        assert_true(is_first || number > last);
        last = number;
        ring->head = ring->cur = nm_ring_next(ring, ring->head);
    }
}

static void expect_stream(const char *from, const char *to, const char *const watched[N_WATCHED])
{
    struct nm_host *host = host_new();
    struct stream s = {.from = open_port(host, from), .to = open_port(host, to)};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, stream, &s), 0);
    for (unsigned round = 0; round < N_ROUNDS; round++) {
        struct nm_port *mon[N_WATCHED];
        for (unsigned i = 0; i < N_WATCHED; i++)
            mon[i] = open_port(host, watched[i]);
        for (unsigned i = 0; i < N_WATCHED; i++)
            expect_ascending(mon[(i + round) % N_WATCHED]);
        for (unsigned i = 0; i < N_WATCHED; i++)
            nm_port_close(mon[(i + round) % N_WATCHED]);
    }
    atomic_store(&s.is_enough, true);
    pthread_join(thread, NULL);
    assert_int_equal(s.n_received, s.n_sent);
    assert_int_equal(s.n_wrong, 0);
    nm_port_close(s.from);
    nm_port_close(s.to);
    nm_host_free(host);
}

static void no_frame_is_lost_or_changed_while_monitors_come_and_go(void **state)
{
    (void)state;
    static const char *const on_vale[N_WATCHED] = {"vale0:a/t", "vale0:b/r", "vale0:b/z"};
    static const char *const on_pipe[N_WATCHED] = {"vale0:x{1/t", "vale0:x}1/r", "vale0:x}1/z"};

    expect_stream("vale0:a", "vale0:b", on_vale);
    expect_stream("vale0:x{1", "vale0:x}1", on_pipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_switchs_port_can_be_watched_from_both_sides),
        cmocka_unit_test(a_switchs_port_gives_its_buffers_to_a_zero_copy_monitor),
        cmocka_unit_test(a_monitor_does_not_keep_a_port_on_its_switch),
        cmocka_unit_test(a_port_that_nobody_has_open_is_not_left_behind_by_who_wants_to_watch_it),
        cmocka_unit_test(both_ends_of_a_pipe_can_be_watched),
        cmocka_unit_test(a_zero_copy_monitor_in_a_pipe_gets_the_buffers_that_travel),
        cmocka_unit_test(what_an_interface_sends_into_nothing_can_be_watched),
        cmocka_unit_test(frames_from_a_wire_reach_a_monitor_without_the_applications_doing),
        cmocka_unit_test(no_frame_is_lost_or_changed_while_monitors_come_and_go),
    };
    return cmocka_run_group_tests_name("models/netmap/nm_monitor_ports", tests, NULL, NULL);
}
