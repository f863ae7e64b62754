/*
 * ivshmem against a real QEMU: registers, memory, doorbells between QEMUs and members of this
 * process, peers dying and joining, and the interrupt bridge. Skipped where there is no QEMU.
 */
#include "harness/session.h"
#include "models/abi/ivshmem.h"
#include "models/abi/pci.h"
#include "qtest_client/ivshmem.h"
#include "qtest_client/virtio_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    SHARED_BYTES = 1 << 20,
    WORDS_OFFSET = 0x1000, /* where messages land: a word per QEMU and vector */
    WORDS_PER_QEMU = 16,
    DEADLINE_MS = 10000,
};

static struct session *session;
static struct guest_region *region;

static void check(bool ok, const GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "failed without an error");
        abort(); /* not reached: for static analysis, which does not know what fail_msg does */
    }
}

static int open_session(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    if (!qemu_info_get(NULL)) {
        return 0;
    }
    session = session_new(NULL, NULL);
    region = session_memory_new(session, "shared", SHARED_BYTES, GUEST_HUGEPAGES_OFF, &error);
    check(region != NULL, error);
    return 0;
}

static int close_session(void **state)
{
    (void)state;
    session_free(session);
    session = NULL;
    return 0;
}

static void need_qemu(void)
{
    if (!session) {
        print_message("# there is no QEMU\n");
        skip();
    }
}

static struct session_machine *new_machine(const struct session_machine_options *options)
{
    g_autoptr(GError) error = NULL;
    struct session_machine *m = session_machine_new(session, options, &error);

    check(m != NULL, error);
    return m;
}

static struct session_device *new_device(struct session_machine *m, const char *spec,
                                         struct session_backing backing)
{
    g_autoptr(GError) error = NULL;
    struct session_device *d = session_device_new(m, spec, &backing, &error);

    check(d != NULL, error);
    return d;
}

static struct pci_device *pci_of(struct session_device *d)
{
    g_autoptr(GError) error = NULL;
    struct pci_device *p = session_device_pci(d, &error);

    check(p != NULL, error);
    return p;
}

static void start(struct session_machine *m)
{
    g_autoptr(GError) error = NULL;

    check(session_machine_start(m, &error), error);
}

static struct ivshmem *open_ivshmem(struct session_device *d)
{
    g_autoptr(GError) error = NULL;
    struct ivshmem *shm = ivshmem_new(pci_of(d), &error);

    check(shm != NULL, error);
    return shm;
}

static uint64_t read_gpa(struct session_machine *m, uint64_t gpa)
{
    g_autoptr(GError) error = NULL;
    uint64_t value = 0;

    check(qtest_read(qemu_qtest(session_machine_qemu(m)), 8, gpa, &value, &error), error);
    return value;
}

static void write_gpa(struct session_machine *m, uint64_t gpa, uint64_t value)
{
    g_autoptr(GError) error = NULL;

    check(qtest_write(qemu_qtest(session_machine_qemu(m)), 8, gpa, value, &error), error);
}

static uint64_t *shared_word(uint64_t offset)
{
    return (uint64_t *)(void *)(region->host + offset);
}

/* ---- one QEMU ---- */

static void registers_behave_alike(struct session_device *d, uint16_t position)
{
    g_autoptr(GError) error = NULL;
    struct ivshmem *shm = open_ivshmem(d);
    uint32_t value = 1;
    uint16_t id = 1;

    check(ivshmem_position(shm, &id, &error), error);
    assert_int_equal(id, position);
    check(ivshmem_interrupt_mask(shm, &value, &error), error);
    assert_int_equal(value, 0);
    check(ivshmem_set_interrupt_mask(shm, 0xdeadbeef, &error), error);
    check(ivshmem_interrupt_mask(shm, &value, &error), error);
    assert_int_equal(value, 0xdeadbeef);
    check(pci_bar_write(shm->dev, IVSHMEM_BAR_REGISTERS, IVSHMEM_INTR_STATUS, 4, 5, &error), error);
    check(ivshmem_interrupt_status(shm, &value, &error), error);
    assert_int_equal(value, 5);
    check(ivshmem_interrupt_status(shm, &value, &error), error);
    assert_int_equal(value, 0);
    ivshmem_free(shm);
}

static void registers_of_both_variants_behave_alike_but_for_the_position(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct ivshmem_server *server = session_ivshmem_server_new(session, region, 1, &error);
    uint16_t id;
    int fd;

    check(server && ivshmem_server_join(server, 1, &fd, &id, &error), error);
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *plain =
        new_device(m, "ivshmem-plain", (struct session_backing){.region = NULL});
    struct session_device *doorbell =
        new_device(m, "ivshmem-doorbell", (struct session_backing){.server = server});
    start(m);
    registers_behave_alike(plain, 0);
    registers_behave_alike(doorbell, 1);
}

static void the_last_peer_id_is_a_position_like_any_other(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct ivshmem_server *server = session_ivshmem_server_new(session, region, 1, &error);
    uint16_t id;

    check(server != NULL, error);
    for (unsigned i = 0; i < IVSHMEM_SERVER_MAX_ID; i++) {
        check(ivshmem_server_join(server, 0, NULL, &id, &error), error);
    }
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *d =
        new_device(m, "ivshmem-doorbell", (struct session_backing){.server = server});
    start(m);
    assert_int_equal(session_device_peer(d), 65535);
    registers_behave_alike(d, 65535);
}

static void memory_can_lie_at_its_host_address_and_below_4_gib(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    const uint64_t places[] = {0xc0000000, IVSHMEM_AT_HOST_ADDRESS, UINT64_C(1) << 51};
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *d =
        new_device(m, "ivshmem-plain", (struct session_backing){.region = region});
    start(m);
    struct ivshmem *shm = open_ivshmem(d);

    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        uint64_t gpa =
            places[i] == IVSHMEM_AT_HOST_ADDRESS ? (uint64_t)(uintptr_t)region->host : places[i];
        check(ivshmem_map(shm, region, places[i], &error), error);
        assert_int_equal(region->gpa, gpa);
        *shared_word(SHARED_BYTES - 8) = 0x1122334455667788 + i;
        assert_int_equal(read_gpa(m, gpa + SHARED_BYTES - 8), 0x1122334455667788 + i);
        write_gpa(m, gpa, 0x99aabbccddeeff00 + i);
        assert_int_equal(*shared_word(0), 0x99aabbccddeeff00 + i);
    }
    ivshmem_free(shm);
}

static void memory_is_seen_by_two_qemus(void **state)
{
    (void)state;
    need_qemu();
    const enum machine_board boards[] = {MACHINE_PC, MACHINE_Q35};
    struct session_machine *machines[2];

    for (unsigned i = 0; i < 2; i++) {
        machines[i] = new_machine(&(struct session_machine_options){.board = boards[i]});
        new_device(machines[i], "ivshmem-plain", (struct session_backing){.region = region});
        start(machines[i]);
    }
    write_gpa(machines[0], region->gpa + 0x100, 0x0123456789abcdef);
    assert_int_equal(read_gpa(machines[1], region->gpa + 0x100), 0x0123456789abcdef);
    write_gpa(machines[1], region->gpa + 0x100, 42);
    assert_int_equal(read_gpa(machines[0], region->gpa + 0x100), 42);
}

/* ---- doorbells ---- */

/* A QEMU with a doorbell device, its vectors delivered to words of the shared memory. */
struct node {
    struct session_machine *machine;
    struct ivshmem *shm;
    uint16_t id;
    unsigned n_vectors;
    struct interrupt *irqs[WORDS_PER_QEMU];
};

static void node_listen(struct node *node, unsigned nr)
{
    g_autoptr(GError) error = NULL;

    for (unsigned v = 0; v < node->n_vectors; v++) {
        uint64_t word = region->gpa + WORDS_OFFSET + 4 * (nr * WORDS_PER_QEMU + v);
        node->irqs[v] = interrupt_new_memory(node->shm->dev, v, word, 1 + v, &error);
        check(node->irqs[v] != NULL, error);
    }
    check(msix_set_enabled(node->shm->dev, true, &error), error);
}

static void node_open(struct node *node, struct ivshmem_server *server, unsigned nr,
                      unsigned n_vectors)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strdup_printf("ivshmem-doorbell,vectors=%u", n_vectors);

    node->n_vectors = n_vectors;
    node->machine = new_machine(&(struct session_machine_options){0});
    struct session_device *d =
        new_device(node->machine, spec, (struct session_backing){.server = server});
    start(node->machine);
    node->shm = open_ivshmem(d);
    check(ivshmem_position(node->shm, &node->id, &error), error);
    assert_int_equal(node->id, session_device_peer(d));
    node_listen(node, nr);
}

static void node_close(struct node *node)
{
    for (unsigned v = 0; v < node->n_vectors; v++) {
        interrupt_free(node->irqs[v]);
    }
    ivshmem_free(node->shm);
    session_machine_stop(node->machine);
}

/* Returns when events signalled before the call have been delivered: QEMU's main loop finds them in
 * the same round as the first command at the latest, and the second command comes a round later. */
static void settle(struct node *node)
{
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 2; i++) {
        check(machine_barrier(node->shm->dev->machine, &error), error);
    }
}

static void expect_silence(struct node *node)
{
    settle(node);
    for (unsigned v = 0; v < node->n_vectors; v++) {
        assert_false(interrupt_is_raised(node->irqs[v]));
    }
}

static void expect_interrupt(struct node *to, unsigned vector)
{
    g_autoptr(GError) error = NULL;

    check(interrupt_wait(to->irqs[vector], DEADLINE_MS, &error), error);
    expect_silence(to);
}

/* A QEMU reads what the server says of newcomers at a time of its own: rung until it arrives. */
static void expect_ring(struct node *from, struct node *to, unsigned vector)
{
    g_autoptr(GError) error = NULL;
    gint64 deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;
    bool arrived = false;

    while (!arrived && g_get_monotonic_time() < deadline) {
        check(ivshmem_ring(from->shm, to->id, (uint8_t)vector, &error), error);
        arrived = interrupt_wait(to->irqs[vector], 20, NULL);
    }
    if (!arrived) {
        fail_msg("peer %u rang vector %u of peer %u in vain", from->id, vector, to->id);
    }
    settle(to);
    interrupt_take(to->irqs[vector]); /* if it took more than one ring */
    expect_silence(to);
}

static void three_qemus_ring_each_other_while_one_dies_and_one_joins(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct ivshmem_server *server = session_ivshmem_server_new(session, region, 2, &error);
    struct node nodes[4];

    check(server != NULL, error);
    for (unsigned i = 0; i < 3; i++) {
        node_open(&nodes[i], server, i, 2);
        assert_int_equal(nodes[i].id, i);
    }
    for (unsigned from = 0; from < 3; from++) {
        for (unsigned to = 0; to < 3; to++) {
            expect_ring(&nodes[from], &nodes[to], (from + to) % 2);
        }
    }

    node_close(&nodes[1]);
    assert_true(ivshmem_server_wait_peers(server, 2, DEADLINE_MS));
    assert_false(ivshmem_server_has_peer(server, 1));
    check(ivshmem_ring(nodes[0].shm, 1, 0, &error), error); /* nobody: ignored */
    expect_ring(&nodes[0], &nodes[2], 1);
    expect_ring(&nodes[2], &nodes[0], 0);

    node_open(&nodes[3], server, 3, 2);
    assert_int_equal(nodes[3].id, 3); /* the dead one's id is not used again so soon */
    expect_ring(&nodes[0], &nodes[3], 0);
    expect_ring(&nodes[3], &nodes[0], 1);
    expect_ring(&nodes[2], &nodes[3], 1);
    expect_ring(&nodes[3], &nodes[2], 0);
    for (unsigned i = 0; i < 4; i++) {
        if (i != 1) {
            expect_silence(&nodes[i]);
            node_close(&nodes[i]);
        }
    }
    assert_true(ivshmem_server_wait_peers(server, 0, DEADLINE_MS));
}

static void expect_eventfd(int fd, uint64_t wanted)
{
    uint64_t count = 0;
    ssize_t n = read(fd, &count, sizeof(count));

    assert_int_equal(n, wanted ? (ssize_t)sizeof(count) : -1);
    assert_int_equal(count, wanted);
}

static void a_qemu_and_a_member_of_this_process_ring_each_other(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct ivshmem_server *server = session_ivshmem_server_new(session, region, 4, &error);
    uint16_t member;
    int fds[3];
    struct node node;

    check(server && ivshmem_server_join(server, 3, fds, &member, &error), error);
    node_open(&node, server, 0, 4);
    /* The doorbell has been rung when the write returns. */
    check(ivshmem_ring(node.shm, member, 2, &error), error);
    check(ivshmem_ring(node.shm, member, 2, &error), error);
    expect_eventfd(fds[0], 0);
    expect_eventfd(fds[1], 0);
    expect_eventfd(fds[2], 2);
    /* Vectors and peers nobody has are ignored; so are the bits in between. */
    check(ivshmem_ring(node.shm, member, 3, &error), error);
    check(ivshmem_ring(node.shm, 999, 0, &error), error);
    check(pci_bar_write(node.shm->dev, IVSHMEM_BAR_REGISTERS, IVSHMEM_DOORBELL, 4,
                        (uint32_t)member << 16 | 0xff01, &error),
          error);
    expect_eventfd(fds[0], 0);
    expect_eventfd(fds[1], 1);
    expect_eventfd(fds[2], 0);

    for (unsigned v = 0; v < 4; v++) {
        assert_true(ivshmem_server_ring(server, node.id, v));
        expect_interrupt(&node, v);
        assert_int_equal(node.irqs[v]->n_taken, 1);
    }
    assert_true(ivshmem_server_leave(server, member));
    check(ivshmem_ring(node.shm, member, 0, &error), error);
    expect_silence(&node);
    node_close(&node);
}

static void events_before_msix_is_enabled_are_lost(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct ivshmem_server *server = session_ivshmem_server_new(session, region, 1, &error);
    struct node node;
    uint32_t status = 1;

    check(server != NULL, error);
    node_open(&node, server, 0, 1);
    check(msix_set_enabled(node.shm->dev, false, &error), error);
    assert_true(ivshmem_server_ring(server, node.id, 0));
    expect_silence(&node);
    check(ivshmem_interrupt_status(node.shm, &status, &error), error);
    assert_int_equal(status, 0);
    check(msix_set_enabled(node.shm->dev, true, &error), error);
    expect_silence(&node);
    assert_true(ivshmem_server_ring(server, node.id, 0));
    expect_interrupt(&node, 0);
    node_close(&node);
}

static void a_masked_message_is_pending_and_comes_when_its_vector_opens(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct ivshmem_server *server = session_ivshmem_server_new(session, region, 2, &error);
    struct node node;
    bool is_pending = true;
    gint64 deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;

    check(server != NULL, error);
    node_open(&node, server, 0, 2);
    check(msix_set_masked(node.shm->dev, 1, true, &error), error);
    check(msix_pending(node.shm->dev, 1, &is_pending, &error), error);
    assert_false(is_pending);
    assert_true(ivshmem_server_ring(server, node.id, 1));
    while (!is_pending && g_get_monotonic_time() < deadline) {
        check(msix_pending(node.shm->dev, 1, &is_pending, &error), error);
    }
    assert_true(is_pending);
    expect_silence(&node);
    check(msix_set_masked(node.shm->dev, 1, false, &error), error);
    expect_interrupt(&node, 1);
    check(msix_pending(node.shm->dev, 1, &is_pending, &error), error);
    assert_false(is_pending);
    node_close(&node);
}

/* ---- the interrupt bridge ---- */

static void a_device_aimed_at_the_bridge_makes_our_eventfd_readable(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct session_machine *m = new_machine(&(struct session_machine_options){.has_bridge = true});
    struct ivshmem_server *server = session_ivshmem_server_new(session, region, 2, &error);
    check(server != NULL, error);
    struct session_device *d =
        new_device(m, "ivshmem-doorbell,vectors=2", (struct session_backing){.server = server});
    start(m);
    struct pci_device *dev = pci_of(d);
    struct interrupt_bridge *bridge = session_machine_bridge(m);
    struct interrupt *irqs[2];

    assert_non_null(bridge);
    for (unsigned v = 0; v < 2; v++) {
        irqs[v] = interrupt_new_eventfd(dev, v, bridge, &error);
        check(irqs[v] != NULL, error);
    }
    check(msix_set_enabled(dev, true, &error), error);
    for (unsigned i = 0; i < 20; i++) {
        assert_true(ivshmem_server_ring(server, session_device_peer(d), i % 2));
        check(interrupt_wait(irqs[i % 2], DEADLINE_MS, &error), error);
        assert_false(interrupt_take(irqs[0]));
        assert_false(interrupt_take(irqs[1]));
    }
    interrupt_free(irqs[0]);
    interrupt_free(irqs[1]);
    assert_int_equal(bridge->n_used, 0);
}

static struct virtio_net *open_net(struct session_device *d, enum interrupt_kind kind,
                                   struct interrupt_bridge *bridge)
{
    g_autoptr(GError) error = NULL;
    struct virtio_net_options options = {.rx_size = 16,
                                         .tx_size = 16,
                                         .region = region,
                                         .use_interrupts = true,
                                         .interrupts = kind,
                                         .bridge = bridge};
    struct virtio_net *net = virtio_net_new(pci_of(d), &options, &error);

    check(net != NULL, error);
    return net;
}

static void a_network_device_wakes_a_sleeper_through_the_bridge(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    need_qemu();
    struct session_machine *m = new_machine(&(struct session_machine_options){.has_bridge = true});
    new_device(m, "ivshmem-plain", (struct session_backing){.region = region});
    struct session_device *left =
        new_device(m, "virtio-net-pci", (struct session_backing){.region = NULL});
    struct session_device *right =
        new_device(m, "virtio-net-pci", (struct session_backing){.region = NULL});
    start(m);
    struct interrupt_bridge *bridge = session_machine_bridge(m);
    struct virtio_net *from = open_net(left, INTERRUPT_MEMORY, NULL);
    struct virtio_net *to = open_net(right, INTERRUPT_EVENTFD, bridge);
    uint8_t bytes[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};

    for (unsigned i = 0; i < 10; i++) {
        bytes[14] = (uint8_t)i;
        const struct virtio_net_frame frame = {.data = bytes, .len = sizeof(bytes)};
        struct virtio_net_frame received;
        assert_int_equal(virtio_net_tx_burst(from, 0, &frame, 1, &error), 1);
        check(virtio_net_rx_wait(to, 0, DEADLINE_MS, &error), error);
        assert_int_equal(virtio_net_rx_burst(to, 0, &received, 1, &error), 1);
        assert_int_equal(received.len, sizeof(bytes));
        assert_memory_equal(received.data, bytes, sizeof(bytes));
        virtio_net_rx_release(to, 0, &received);
    }
    assert_int_equal(virtio_net_rx_interrupt(to, 0)->kind, INTERRUPT_EVENTFD);
    virtio_net_free(from);
    virtio_net_free(to);
}

#define live(test) cmocka_unit_test_setup_teardown(test, open_session, close_session)

int main(void)
{
    const struct CMUnitTest tests[] = {
        live(registers_of_both_variants_behave_alike_but_for_the_position),
        live(the_last_peer_id_is_a_position_like_any_other),
        live(memory_can_lie_at_its_host_address_and_below_4_gib),
        live(memory_is_seen_by_two_qemus),
        live(three_qemus_ring_each_other_while_one_dies_and_one_joins),
        live(a_qemu_and_a_member_of_this_process_ring_each_other),
        live(events_before_msix_is_enabled_are_lost),
        live(a_masked_message_is_pending_and_comes_when_its_vector_opens),
        live(a_device_aimed_at_the_bridge_makes_our_eventfd_readable),
        live(a_network_device_wakes_a_sleeper_through_the_bridge),
    };
    return cmocka_run_group_tests_name("ivshmem_live", tests, NULL, NULL);
}
