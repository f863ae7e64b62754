/* The session against a real QEMU: devices by their names, shared memory, hotplug, teardown. */
#include "harness/session.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void need_qemu(void)
{
    if (!qemu_info_get(NULL)) {
        skip();
    }
}

static struct session_machine *machine_on(struct session *s, enum machine_board board)
{
    GError *error = NULL;
    struct session_machine_options o = {.board = board};
    struct session_machine *m = session_machine_new(s, &o, &error);

    assert_non_null(m);
    return m;
}

static struct session_device *add(struct session_machine *m, const char *spec)
{
    GError *error = NULL;
    struct session_device *dev = session_device_new(m, spec, NULL, &error);

    if (!dev) {
        fail_msg("%s: %s", spec, error->message);
    }
    return dev;
}

static void start(struct session_machine *m)
{
    GError *error = NULL;

    if (!session_machine_start(m, &error)) {
        fail_msg("start: %s", error->message);
    }
}

static struct pci_device *function_of(struct session_device *dev)
{
    GError *error = NULL;
    struct pci_device *p = session_device_pci(dev, &error);

    if (!p) {
        fail_msg("%s", error->message);
    }
    return p;
}

static void assert_refused(struct session_machine *m, const char *spec, const char *part)
{
    GError *error = NULL;

    assert_null(session_device_new(m, spec, NULL, &error));
    if (!strstr(error->message, part)) {
        fail_msg("'%s' is not in '%s'", part, error->message);
    }
    g_error_free(error);
}

static void every_device_that_needs_something_starts_by_its_name_alone(void **state)
{
    static const char *const names[] = {
        "virtio-net-pci",
        "e1000",
        "e1000e",
        "i82550",
        "i82562",
        "i82801",
        "ne2k_pci",
        "pcnet",
        "rtl8139",
        "tulip",
        "vmxnet3",
        "acpi-erst",
        "ivshmem-plain",
        "virtio-blk-pci",
        "virtio-9p-pci",
        "nvme",
        "ivshmem-doorbell",
        "pci-bridge",
        "virtio-crypto-pci",
        "virtio-mem-pci",
        "virtio-pmem-pci",
        "AC97",
        "ES1370",
        "ctucan_pci",
        "kvaser_pci",
        "mioe3680_pci",
        "pcm3680_pci",
        "pci-ipmi-bt",
    };
    enum { AT_ONCE = 16 };

    (void)state;
    need_qemu();
    for (size_t from = 0; from < G_N_ELEMENTS(names); from += AT_ONCE) {
        struct session *s = session_new(NULL, NULL);
        struct session_machine *m = machine_on(s, MACHINE_PC);
        for (size_t i = from; i < MIN(from + AT_ONCE, G_N_ELEMENTS(names)); i++) {
            if (qemu_info_has_device(qemu_info_get(NULL), names[i])) {
                add(m, names[i]);
            }
        }
        start(m);
        for (unsigned i = 0; session_machine_device(m, i); i++) {
            function_of(session_machine_device(m, i));
        }
        g_autofree char *log = qemu_log(session_machine_qemu(m));
        assert_string_equal(log, "");
        session_free(s);
    }
}

static void what_cannot_be_is_refused_before_qemu_sees_it(void **state)
{
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC);

    (void)state;
    add(m, "edu,id=a");
    assert_refused(m, "edu,id=a", "has the id 'a' already");
    assert_refused(m, "", "");
    assert_refused(m, "edu,addr=20", "addr=20 is no slot");
    assert_refused(m, "edu,addr=4.8", "addr=4.8 is no slot");
    assert_refused(m, "ivshmem-plain,size=3M", "size=3M must be a power of two");
    assert_refused(m, "ivshmem-plain,size=big", "big");
    assert_refused(m, "ivshmem-doorbell,vectors=65", "vectors=65 must be a number from 1 to 64");
    assert_refused(m, "ivshmem-doorbell,vectors=0", "vectors=0 must be a number from 1 to 64");
    struct session_machine_options tiny = {.ram_bytes = 4096};
    assert_null(session_machine_new(s, &tiny, NULL));
    session_free(s);
}

static void devices_get_ids_and_slots_in_order_and_keep_those_they_have(void **state)
{
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC);
    unsigned slot, function;

    (void)state;
    struct session_device *a = add(m, "edu"), *b = add(m, "edu,addr=4.3,id=mine"),
                          *c = add(m, "edu");
    assert_string_equal(session_device_id(a), "dev0");
    assert_string_equal(session_device_id(b), "mine");
    assert_true(session_device_slot(a, &slot, &function));
    assert_int_equal(slot, 4);
    assert_true(session_device_slot(b, &slot, &function));
    assert_int_equal(slot, 4);
    assert_int_equal(function, 3);
    assert_true(session_device_slot(c, &slot, &function));
    assert_int_equal(slot, 5);
    session_free(s);
}

static void a_device_on_no_pci_bus_is_named(void **state)
{
    GError *error = NULL;

    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC);
    add(m, "usb-tablet");
    assert_false(session_machine_start(m, &error));
    assert_non_null(strstr(error->message, "usb-tablet is on no PCI bus"));
    g_error_free(error);
    session_free(s);
}

static void shared_memory_has_one_address_in_all_machines(void **state)
{
    GError *error = NULL;
    uint64_t value;

    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct guest_region *r = session_memory_new(s, "shared", 5000, GUEST_HUGEPAGES_OFF, &error);
    assert_int_equal(r->size, 8192);
    struct session_backing backing = {.region = r};
    struct session_machine *m = machine_on(s, MACHINE_PC), *n = machine_on(s, MACHINE_Q35);
    assert_non_null(session_device_new(m, "ivshmem-plain", &backing, &error));
    assert_non_null(session_device_new(n, "edu", NULL, &error));
    assert_non_null(session_device_new(n, "ivshmem-plain", &backing, &error));
    start(m);
    start(n);
    assert_true(
        machine_write(session_machine_machine(m), MACHINE_MEM, r->gpa + 8, 4, 0xabcd, &error));
    assert_true(
        machine_read(session_machine_machine(n), MACHINE_MEM, r->gpa + 8, 4, &value, &error));
    assert_int_equal(value, 0xabcd);
    assert_ptr_equal(guest_memory_host(session_machine_memory(m), r->gpa, 1), r->host);
    session_machine_stop(m);
    assert_null(guest_memory_host(session_machine_memory(m), r->gpa, 1));
    assert_ptr_equal(guest_memory_host(session_machine_memory(n), r->gpa, 1), r->host);
    session_free(s);
}

static void a_machine_can_be_started_again(void **state)
{
    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC);
    struct session_device *bell = add(m, "ivshmem-doorbell"), *plain = add(m, "ivshmem-plain");
    start(m);
    int pid = qemu_pid(session_machine_qemu(m));
    uint16_t peer = session_device_peer(bell);
    session_device_region(plain)->host[0] = 0x77;
    session_machine_stop(m);
    assert_false(session_machine_is_started(m));
    assert_int_equal(kill(pid, 0), -1);
    start(m);
    assert_int_not_equal(qemu_pid(session_machine_qemu(m)), pid);
    assert_int_not_equal(session_device_peer(bell), peer);
    assert_true(ivshmem_server_wait_peers(session_device_server(bell), 1, 5000));
    assert_int_equal(session_device_region(plain)->host[0], 0x77);
    function_of(plain);
    session_free(s);
}

/* Plug, use, unplug, plug again: on every bus that can. */
static void plug_cycle(struct session_machine *m, const char *spec)
{
    GError *error = NULL;
    struct session_device *dev = session_device_plug(m, spec, NULL, &error);

    if (!dev) {
        fail_msg("%s: %s", spec, error->message);
    }
    for (int round = 0; round < 2; round++) {
        if (!session_device_enable(dev, &error)) {
            fail_msg("%s: %s", spec, error->message);
        }
        assert_true(function_of(dev)->bars[function_of(dev)->bars[0].size ? 0 : 1].base != 0);
        if (!session_device_unplug(dev, &error)) {
            fail_msg("%s: %s", spec, error->message);
        }
        assert_null(session_device_pci(dev, &error));
        assert_non_null(strstr(error->message, "it was unplugged"));
        g_clear_error(&error);
        assert_false(session_device_unplug(dev, &error));
        g_clear_error(&error);
        if (!session_device_replug(dev, &error)) {
            fail_msg("%s: %s", spec, error->message);
        }
    }
}

static void devices_can_be_plugged_and_unplugged_on_pc(void **state)
{
    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC);
    add(m, "pci-bridge,id=br");
    start(m);
    plug_cycle(m, "virtio-net-pci");
    plug_cycle(m, "ivshmem-plain");
    plug_cycle(m, "virtio-net-pci,bus=br,addr=3,mrg_rxbuf=off");
    /* QEMU 7.2 keeps watching the eventfds of an ivshmem-doorbell that was unplugged, and dies of
     * it when their numbers are used again: no second plug after this one. */
    GError *error = NULL;
    struct session_device *bell =
        session_device_plug(m, "ivshmem-doorbell,vectors=2", NULL, &error);
    if (!bell || !session_device_enable(bell, &error) || !session_device_unplug(bell, &error)) {
        fail_msg("%s", error->message);
    }
    session_free(s);
}

static void devices_can_be_plugged_and_unplugged_on_q35(void **state)
{
    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_Q35);
    add(m, "pcie-root-port,id=port0");
    add(m, "pcie-root-port,id=port1");
    start(m);
    plug_cycle(m, "virtio-net-pci,bus=port1");
    plug_cycle(m, "ivshmem-plain,bus=port0");
    session_free(s);
}

static void a_reset_takes_addresses_and_shared_memory_off_the_bus(void **state)
{
    GError *error = NULL;
    uint64_t command;

    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC);
    struct session_device *dev = add(m, "ivshmem-plain");
    start(m);
    struct guest_region *r = session_device_region(dev);
    uint64_t gpa = r->gpa;
    assert_true(session_machine_reset(m, &error));
    assert_null(guest_memory_host(session_machine_memory(m), gpa, 1));
    assert_int_equal(function_of(dev)->bars[2].base, 0);
    assert_true(pci_config_read(function_of(dev), 4, 2, &command, &error));
    assert_int_equal(command, 0);
    assert_true(session_machine_setup(m, &error));
    assert_int_equal(r->gpa, gpa);
    session_free(s);
}

static void nothing_is_left_of_a_session_whose_qemu_was_killed(void **state)
{
    GError *error = NULL;
    uint64_t value;

    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC), *n = machine_on(s, MACHINE_PC);
    start(m);
    start(n);
    int pid = qemu_pid(session_machine_qemu(m)), other = qemu_pid(session_machine_qemu(n));
    kill(pid, SIGKILL);
    assert_false(machine_read(session_machine_machine(m), MACHINE_MEM, 0, 4, &value, &error));
    assert_non_null(strstr(error->message, "was killed by signal 9"));
    g_error_free(error);
    session_free(s);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(kill(other, 0), -1);
}

static void declaring_is_for_before_and_plugging_for_after_the_start(void **state)
{
    GError *error = NULL;

    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine *m = machine_on(s, MACHINE_PC);
    assert_null(session_device_plug(m, "edu", NULL, &error));
    assert_non_null(strstr(error->message, "declare 'edu'"));
    g_clear_error(&error);
    start(m);
    assert_null(session_device_new(m, "edu", NULL, &error));
    assert_non_null(strstr(error->message, "plug 'edu' in instead"));
    g_clear_error(&error);
    assert_null(session_device_plug(m, "virtio-blk-pci", NULL, &error));
    assert_non_null(strstr(error->message, "-blockdev"));
    g_clear_error(&error);
    session_free(s);
}

static void the_bridge_offers_eventfds_behind_one_doorbell(void **state)
{
    GError *error = NULL;

    (void)state;
    need_qemu();
    struct session *s = session_new(NULL, NULL);
    struct session_machine_options o = {.has_bridge = true};
    struct session_machine *m = session_machine_new(s, &o, &error);
    assert_null(session_machine_bridge(m));
    start(m);
    struct interrupt_bridge *b = session_machine_bridge(m);
    assert_int_equal(b->n_channels, 32);
    uint64_t one;
    assert_true(machine_write(session_machine_machine(m), MACHINE_MEM, b->doorbell_gpa, 4,
                              (uint32_t)b->peer_ids[5] << 16, &error));
    assert_int_equal(read(b->eventfds[5], &one, sizeof(one)), sizeof(one));
    assert_int_equal(one, 1);
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device_that_needs_something_starts_by_its_name_alone),
        cmocka_unit_test(what_cannot_be_is_refused_before_qemu_sees_it),
        cmocka_unit_test(devices_get_ids_and_slots_in_order_and_keep_those_they_have),
        cmocka_unit_test(a_device_on_no_pci_bus_is_named),
        cmocka_unit_test(shared_memory_has_one_address_in_all_machines),
        cmocka_unit_test(a_machine_can_be_started_again),
        cmocka_unit_test(devices_can_be_plugged_and_unplugged_on_pc),
        cmocka_unit_test(devices_can_be_plugged_and_unplugged_on_q35),
        cmocka_unit_test(a_reset_takes_addresses_and_shared_memory_off_the_bus),
        cmocka_unit_test(nothing_is_left_of_a_session_whose_qemu_was_killed),
        cmocka_unit_test(declaring_is_for_before_and_plugging_for_after_the_start),
        cmocka_unit_test(the_bridge_offers_eventfds_behind_one_doorbell),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
