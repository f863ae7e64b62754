/*
 * Modelled devices on the bus of a real QEMU: what a guest sees of them, and what becomes of either
 * side when the other dies. Skipped where there is no QEMU.
 */
#include "harness/session.h"
#include "models/test_toy_model.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DEADLINE_MS = 10000 };

static struct session *session;
static GPtrArray *notes;

static void check_done(bool ok, const GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "failed without an error");
        abort(); /* not reached: for static analysis, which does not know what fail_msg does */
    }
}

/* The call first, then a look at its error. */
#define check(call, error)                                                                         \
    do {                                                                                           \
        bool is_done = (call);                                                                     \
        check_done(is_done, error);                                                                \
    } while (0)

static void take_note(void *data, const char *line)
{
    (void)data;
    g_ptr_array_add(notes, g_strdup(line));
}

static int open_session(void **state)
{
    (void)state;
    notes = g_ptr_array_new_with_free_func(g_free);
    session = qemu_info_get(NULL) ? session_new(take_note, NULL) : NULL;
    return 0;
}

static int close_session(void **state)
{
    (void)state;
    session_free(session);
    g_ptr_array_unref(notes);
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
    need_qemu();
    struct session_machine *m = session_machine_new(session, options, &error);
    check(m != NULL, error);
    return m;
}

static struct session_device *declare(struct session_machine *m, struct toy_model *toy,
                                      const char *properties)
{
    g_autoptr(GError) error = NULL;
    struct session_model_options options = {.properties = properties};
    struct session_device *dev = session_model_new(m, toy->m, &options, &error);
    check(dev != NULL, error);
    return dev;
}

static struct session_device *declare_plain(struct session_machine *m, const char *spec)
{
    g_autoptr(GError) error = NULL;
    struct session_device *dev = session_device_new(m, spec, NULL, &error);
    check(dev != NULL, error);
    return dev;
}

static void start(struct session_machine *m)
{
    g_autoptr(GError) error = NULL;
    check(session_machine_start(m, &error), error);
}

static struct pci_device *function_of(struct session_device *dev)
{
    g_autoptr(GError) error = NULL;
    struct pci_device *p = session_device_pci(dev, &error);
    check(p != NULL, error);
    return p;
}

/* QEMU does not wait for an answer when it hands over memory; but what it says to a device comes in
 * order, so that after an answer to an access the model has seen it all. */
static void let_models_see_memory(struct session_machine *m)
{
    for (unsigned i = 0; session_machine_device(m, i); i++) {
        struct session_device *dev = session_machine_device(m, i);
        g_autoptr(GError) error = NULL;
        uint64_t id;
        if (session_device_model(dev)) {
            check(pci_config_read(function_of(dev), 0, 2, &id, &error), error);
        }
    }
}

static uint64_t bar_read(struct pci_device *p, unsigned bar, uint64_t offset, unsigned width)
{
    g_autoptr(GError) error = NULL;
    uint64_t value = 0;
    check(pci_bar_read(p, bar, offset, width, &value, &error), error);
    return value;
}

static void bar_write(struct pci_device *p, unsigned bar, uint64_t offset, unsigned width,
                      uint64_t value)
{
    g_autoptr(GError) error = NULL;
    check(pci_bar_write(p, bar, offset, width, value, &error), error);
}

/* ---- what is on the bus ---- */

static void expect_toy(struct pci_device *p)
{
    assert_int_equal(p->vendor_id, TOY_VENDOR);
    assert_int_equal(p->device_id, TOY_DEVICE);
    assert_int_equal(p->bars[TOY_IO_BAR].size, TOY_IO_BYTES);
    assert_int_equal(p->bars[TOY_MEMORY_BAR].size, TOY_MEMORY_BYTES);
    assert_int_equal(p->bars[TOY_REGISTER_BAR].size, TOY_REGISTER_BYTES);
    assert_int_equal(p->bars[3].size, 0);
    assert_int_equal(p->bars[TOY_MSIX_BAR].size, 4096);
    assert_int_equal(p->bars[5].size, 0);
}

static void is_found_and_reached(enum machine_board board)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){.board = board});
    struct session_device *dev = declare(m, toy, "id=toy,addr=7");
    assert_ptr_equal(session_device_model(dev), toy->m);
    start(m);
    struct pci_device *p = function_of(dev);
    expect_toy(p);
    static const unsigned bars[] = {TOY_IO_BAR, TOY_REGISTER_BAR};
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned width = 1; width <= 4; width *= 2) {
            bar_write(p, bars[i], 8 + width, width, 0x44332211u >> (32 - 8 * width));
            assert_int_equal(bar_read(p, bars[i], 8 + width, width),
                             0x44332211u >> (32 - 8 * width));
        }
    }
    memcpy(toy->memory + 4096, "seen through QEMU", 17);
    uint64_t seen = bar_read(p, TOY_MEMORY_BAR, 4096, 8);
    assert_memory_equal(&seen, "seen thr", 8);
}

static void a_device_is_found_and_its_registers_reached_on_pc(void **state)
{
    (void)state;
    is_found_and_reached(MACHINE_PC);
}

static void a_device_is_found_and_its_registers_reached_on_q35(void **state)
{
    (void)state;
    is_found_and_reached(MACHINE_Q35);
}

/* The line of QEMU's `info pci` about a BAR at `base`. */
static bool qemu_sees_bar(struct session_machine *m, const char *kind, uint64_t base)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = qmp_hmp(qemu_qmp(session_machine_qemu(m)), "info pci", &error);
    check(text != NULL, error);
    g_autofree char *line = g_strdup_printf("%s at 0x%04" PRIx64 " [", kind, base);
    return strstr(text, line) != NULL;
}

static void bars_move_and_qemu_sees_them_where_they_are(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    uint64_t old, value, io = 0xd040, memory = 0xe1230000;
    (void)state;
    start(m);
    struct pci_device *p = function_of(dev);
    old = p->bars[TOY_REGISTER_BAR].base;
    assert_true(qemu_sees_bar(m, "32 bit memory", old));
    bar_write(p, TOY_REGISTER_BAR, 0, 4, 0x12345678);
    check(pci_bar_place(p, TOY_REGISTER_BAR, memory, &error), error);
    check(pci_bar_place(p, TOY_IO_BAR, io, &error), error);
    assert_true(qemu_sees_bar(m, "32 bit memory", memory));
    assert_true(qemu_sees_bar(m, "I/O", io));
    assert_false(qemu_sees_bar(m, "32 bit memory", old));
    check(machine_read(p->machine, MACHINE_MEM, memory, 4, &value, &error), error);
    assert_int_equal(value, 0x12345678);
    check(machine_read(p->machine, MACHINE_MEM, old, 4, &value, &error), error);
    assert_int_not_equal(value, 0x12345678);
    check(machine_write(p->machine, MACHINE_IO, io + 60, 2, 0xbeef, &error), error);
    assert_int_equal(bar_read(p, TOY_IO_BAR, 60, 2), 0xbeef);
    /* not decoded: nobody answers, and the model is not asked */
    uint64_t n = pci_model_stats(toy->m).bar_reads;
    check(pci_command(p, 0, PCI_COMMAND_MEMORY, &error), error);
    check(machine_read(p->machine, MACHINE_MEM, memory, 4, &value, &error), error);
    assert_int_not_equal(value, 0x12345678);
    assert_int_equal(pci_model_stats(toy->m).bar_reads, n);
}

static void configuration_space_is_the_models_in_every_width(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m =
        new_machine(&(struct session_machine_options){.board = MACHINE_Q35});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    uint8_t bytes[64];
    uint64_t value;
    (void)state;
    start(m);
    struct pci_device *p = function_of(dev);
    check(pci_config_read_bytes(p, 0, sizeof(bytes), bytes, &error), error);
    for (unsigned width = 1; width <= 4; width *= 2) {
        for (unsigned i = 0; i < sizeof(bytes); i += width) {
            uint64_t expected = 0;
            memcpy(&expected, bytes + i, width);
            check(pci_config_read(p, i, width, &value, &error), error);
            assert_int_equal(value, expected);
        }
    }
    assert_int_equal(bytes[0] | bytes[1] << 8, TOY_VENDOR);
    check(pci_config_write(p, PCI_INTERRUPT_LINE, 1, 0x5a, &error), error);
    check(pci_config_write(p, PCI_VENDOR_ID, 2, 0, &error), error);
    check(pci_config_read(p, PCI_INTERRUPT_LINE, 2, &value, &error), error);
    assert_int_equal(value, 0x005a);
    check(pci_config_read(p, PCI_CARDBUS_CIS, 4, &value, &error), error);
    assert_int_equal(value, 0);
}

static void an_access_that_is_not_aligned_is_cut_into_aligned_ones(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    (void)state;
    start(m);
    struct pci_device *p = function_of(dev);
    uint64_t base = p->bars[TOY_REGISTER_BAR].base, value;
    uint64_t n = pci_model_stats(toy->m).bar_writes;
    check(machine_write(p->machine, MACHINE_MEM, base + 1, 4, 0x44332211, &error), error);
    check(machine_write(p->machine, MACHINE_MEM, base + 16, 8, 0x8877665544332211, &error), error);
    check(machine_read(p->machine, MACHINE_MEM, base, 8, &value, &error), error);
    assert_true(value == 0x0000004433221100);
    check(machine_read(p->machine, MACHINE_MEM, base + 16, 8, &value, &error), error);
    assert_true(value == 0x8877665544332211);
    assert_int_equal(pci_model_stats(toy->m).bar_writes - n, 3 + 2);
}

/* ---- interrupts ---- */

static struct interrupt *aim(struct pci_device *p, unsigned vector, struct guest_region *region,
                             uint32_t data)
{
    g_autoptr(GError) error = NULL;
    uint64_t offset;
    check(guest_region_alloc(region, 4, 4, &offset, &error), error);
    struct interrupt *irq = interrupt_new_memory(p, vector, region->gpa + offset, data, &error);
    check(irq != NULL, error);
    return irq;
}

static void raise_vector(struct pci_device *p, unsigned vector)
{
    bar_write(p, TOY_REGISTER_BAR, TOY_RAISE, 4, vector);
}

static void messages_reach_ram_ivshmem_memory_and_eventfds(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){.has_bridge = true});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    (void)state;
    struct session_device *shared = declare_plain(m, "ivshmem-plain");
    start(m);
    struct pci_device *p = function_of(dev);
    struct interrupt *ram = aim(p, 0, session_machine_ram(m), 0x11);
    struct interrupt *memory = aim(p, 1, session_device_region(shared), 0x22);
    struct interrupt *all[TOY_VECTORS] = {ram, memory};
    for (unsigned i = 2; i < TOY_VECTORS; i++) {
        all[i] = interrupt_new_eventfd(p, i, session_machine_bridge(m), &error);
        check(all[i] != NULL, error);
    }
    check(msix_set_enabled(p, true, &error), error);
    for (unsigned i = 0; i < TOY_VECTORS; i++) {
        raise_vector(p, i);
        for (unsigned j = 0; j < TOY_VECTORS; j++) {
            assert_int_equal(interrupt_take(all[j]), i == j);
        }
    }
    assert_int_equal(pci_model_stats(toy->m).messages, TOY_VECTORS);
    assert_int_equal(pci_model_stats(toy->m).messages_lost, 0);
    for (unsigned i = 0; i < TOY_VECTORS; i++) {
        interrupt_free(all[i]);
    }
}

static void masks_keep_messages_pending_through_qemu(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m =
        new_machine(&(struct session_machine_options){.board = MACHINE_Q35});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    bool pending;
    (void)state;
    start(m);
    struct pci_device *p = function_of(dev);
    struct interrupt *irq = aim(p, 2, session_machine_ram(m), 0x33);
    check(msix_set_enabled(p, true, &error), error);
    check(msix_set_masked(p, 2, true, &error), error);
    raise_vector(p, 2);
    assert_false(interrupt_take(irq));
    check(msix_pending(p, 2, &pending, &error), error);
    assert_true(pending);
    check(msix_set_masked(p, 2, false, &error), error);
    assert_true(interrupt_take(irq));
    check(msix_pending(p, 2, &pending, &error), error);
    assert_false(pending);
    check(msix_set_function_mask(p, true, &error), error);
    raise_vector(p, 2);
    assert_false(interrupt_take(irq));
    check(msix_set_function_mask(p, false, &error), error);
    assert_true(interrupt_take(irq));
    interrupt_free(irq);
}

static void memory_that_moves_on_the_bus_is_followed(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    (void)state;
    struct session_device *shared = declare_plain(m, "ivshmem-plain,size=1M");
    start(m);
    function_of(dev);
    struct pci_device *s = function_of(shared);
    struct guest_region *region = session_device_region(shared);
    struct pci_dma *dma = pci_model_dma(toy->m);
    uint64_t high = region->gpa, low = 0xe0000000;
    let_models_see_memory(m);
    uint8_t *before = pci_dma_map(dma, high + 4096, 16);
    assert_non_null(before);
    memcpy(region->host + 4096, "the same bytes", 15);
    assert_string_equal(before, "the same bytes");
    check(pci_bar_place(s, 2, low, &error), error);
    let_models_see_memory(m);
    assert_null(pci_dma_map(dma, high + 4096, 16));
    uint8_t *after = pci_dma_map(dma, low + 4096, 16);
    assert_string_equal(after, "the same bytes");
    assert_null(pci_dma_map(dma, low + (1 << 20) - 8, 16));
    check(pci_command(s, 0, PCI_COMMAND_MEMORY, &error), error);
    let_models_see_memory(m);
    assert_null(pci_dma_map(dma, low, 16));
    assert_string_equal(before, "the same bytes");
    pci_dma_unmap(dma, before);
    pci_dma_unmap(dma, after);
}

static void more_shared_memory_than_qemu_hands_over_is_refused(void **state)
{
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct toy_model *toy = toy_new();
    struct session_device *shared[5];
    g_autoptr(GError) error = NULL;
    (void)state;
    declare(m, toy, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(shared); i++) {
        shared[i] = declare_plain(m, "ivshmem-plain,size=4K");
    }
    start(m);
    let_models_see_memory(m);
    for (unsigned i = 0; i < G_N_ELEMENTS(shared); i++) {
        assert_true(
            pci_dma_write32(pci_model_dma(toy->m), session_device_region(shared[i])->gpa, i + 1));
        assert_int_equal(session_device_region(shared[i])->host[0], i + 1);
    }
    assert_null(session_device_plug(m, "ivshmem-plain,size=4K", NULL, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_SPEC));
    assert_non_null(strstr(error->message, "there are 6 with shared memory"));
    g_clear_error(&error);
    session_machine_stop(m);
    declare_plain(m, "ivshmem-plain,size=4K");
    assert_false(session_machine_start(m, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_SPEC));
}

/* ---- several, and reset ---- */

static void two_devices_do_not_know_of_each_other(void **state)
{
    struct toy_model *toys[2] = {toy_new(), toy_new()};
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *devices[2] = {declare(m, toys[0], "id=left"),
                                         declare(m, toys[1], "id=right")};
    struct pci_device *p[2];
    g_autoptr(GError) error = NULL;
    (void)state;
    start(m);
    for (unsigned i = 0; i < 2; i++) {
        p[i] = function_of(devices[i]);
        bar_write(p[i], TOY_REGISTER_BAR, 0, 4, i + 1);
    }
    struct interrupt *irqs[2] = {aim(p[0], 0, session_machine_ram(m), 0x10),
                                 aim(p[1], 0, session_machine_ram(m), 0x20)};
    for (unsigned i = 0; i < 2; i++) {
        check(msix_set_enabled(p[i], true, &error), error);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(bar_read(p[i], TOY_REGISTER_BAR, 0, 4), i + 1);
        raise_vector(p[i], 0);
        assert_false(interrupt_take(irqs[!i]));
        assert_true(interrupt_take(irqs[i]));
    }
    for (unsigned i = 0; i < 2; i++) {
        interrupt_free(irqs[i]);
    }
}

static void a_system_reset_resets_the_model(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    uint64_t value;
    (void)state;
    start(m);
    struct pci_device *p = function_of(dev);
    bar_write(p, TOY_REGISTER_BAR, 0, 4, 0x1234);
    check(msix_set_enabled(p, true, &error), error);
    unsigned n = toy_n_resets(toy);
    check(session_machine_reset(m, &error), error);
    assert_int_equal(toy_n_resets(toy), n + 1);
    check(pci_config_read(p, PCI_COMMAND, 2, &value, &error), error);
    assert_int_equal(value, 0);
    check(pci_config_read(p, PCI_BAR2, 4, &value, &error), error);
    assert_int_equal(value, 0);
    assert_false(pci_model_msix_enabled(toy->m));
    check(session_machine_setup(m, &error), error);
    assert_int_equal(bar_read(p, TOY_REGISTER_BAR, 0, 4), 0);
    struct qemu_proxy_stats stats = session_device_proxy_stats(dev);
    assert_int_equal(stats.resets, n + 1);
    assert_int_equal(stats.bad_messages, 0);
    assert_int_equal(stats.unmapped_ranges, 0);
    assert_true(stats.is_connected);
}

/* ---- coming and going ---- */

static void comes_and_goes(struct session_machine *m, const char *properties)
{
    struct toy_model *toy = toy_new();
    g_autoptr(GError) error = NULL;
    struct session_model_options options = {.properties = properties};
    struct session_device *dev = session_model_plug(m, toy->m, &options, &error);
    check(dev != NULL, error);
    for (unsigned i = 0; i < 2; i++) {
        check(session_device_enable(dev, &error), error);
        struct pci_device *p = function_of(dev);
        expect_toy(p);
        bar_write(p, TOY_REGISTER_BAR, 4, 4, 0x77);
        assert_int_equal(bar_read(p, TOY_REGISTER_BAR, 4, 4), 0x77);
        struct interrupt *irq = aim(p, 1, session_machine_ram(m), 0x44);
        check(msix_set_enabled(p, true, &error), error);
        raise_vector(p, 1);
        assert_true(interrupt_take(irq));
        interrupt_free(irq);
        unsigned n = toy_n_resets(toy);
        check(session_device_unplug(dev, &error), error);
        assert_int_equal(toy_n_resets(toy), n + 1);
        assert_false(session_device_proxy_stats(dev).is_connected);
        assert_null(session_device_pci(dev, NULL));
        check(session_device_replug(dev, &error), error);
    }
}

static void a_device_can_be_plugged_unplugged_and_plugged_again_on_pc(void **state)
{
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    g_autoptr(GError) error = NULL;
    (void)state;
    declare_plain(m, "pci-bridge,id=br,chassis_nr=1");
    start(m);
    comes_and_goes(m, NULL);
    comes_and_goes(m, "id=behind,bus=br,addr=3");
    assert_int_equal(notes->len, 0);
}

static void a_device_can_be_plugged_unplugged_and_plugged_again_on_q35(void **state)
{
    struct session_machine *m =
        new_machine(&(struct session_machine_options){.board = MACHINE_Q35});
    g_autoptr(GError) error = NULL;
    (void)state;
    declare_plain(m, "pcie-root-port,id=rp,chassis=1");
    start(m);
    comes_and_goes(m, "bus=rp");
    assert_int_equal(notes->len, 0);
}

static void a_declared_device_can_be_unplugged(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    (void)state;
    start(m);
    check(session_device_unplug(dev, &error), error);
    check(session_device_replug(dev, &error), error);
    check(session_device_enable(dev, &error), error);
    bar_write(function_of(dev), TOY_REGISTER_BAR, 4, 4, 0x77);
    assert_int_equal(bar_read(function_of(dev), TOY_REGISTER_BAR, 4, 4), 0x77);
}

static void plugging_that_fails_leaves_nothing_behind(void **state)
{
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    g_autoptr(GError) error = NULL;
    (void)state;
    struct session_model_options options = {.properties = "bus=nowhere,addr=4"};
    assert_null(session_model_plug(m, toy_new()->m, &options, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_STATE));
    g_clear_error(&error);
    start(m);
    assert_null(session_model_plug(m, toy_new()->m, &options, &error));
    assert_true(g_error_matches(error, QMP_ERROR, QMP_ERROR_COMMAND));
    g_clear_error(&error);
    assert_null(session_model_new(m, toy_new()->m, NULL, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_STATE));
    comes_and_goes(m, NULL);
}

/* ---- memory at the speed of memory ---- */

static void a_models_memory_can_be_an_ivshmem_device_too(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *dev = declare(m, toy, NULL);
    const struct pci_model_bar *bar = pci_model_bar(toy->m, TOY_MEMORY_BAR);
    g_autoptr(GError) error = NULL;
    (void)state;
    struct session_backing backing = {
        .region = session_memory_from_fd(session, "toy", bar->memory_fd, bar->size, &error)};
    check(backing.region != NULL, error);
    struct session_device *shown = session_device_new(m, "ivshmem-plain", &backing, &error);
    check(shown != NULL, error);
    start(m);
    struct pci_device *p = function_of(dev);
    memcpy(toy->memory + 100, "model", 6);
    assert_string_equal(backing.region->host + 100, "model");
    memcpy(backing.region->host + 4000, "region", 7);
    uint64_t through_proxy = bar_read(p, TOY_MEMORY_BAR, 4000, 4);
    assert_memory_equal(&through_proxy, "regi", 4);
    uint64_t through_ivshmem = bar_read(function_of(shown), 2, 100, 4);
    assert_memory_equal(&through_ivshmem, "mode", 4);
    bar_write(p, TOY_MEMORY_BAR, 8188, 4, 0x21676e6f);
    assert_memory_equal(backing.region->host + 8188, "ong!", 4);
}

static void an_ivshmem_device_can_lie_over_a_late_bar(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    const struct pci_model_bar *bar = pci_model_bar(toy->m, TOY_MEMORY_BAR);
    g_autoptr(GError) error = NULL;
    (void)state;
    struct session_model_options options = {.proxy.late_bars = 1 << TOY_MEMORY_BAR};
    struct session_device *dev = session_model_new(m, toy->m, &options, &error);
    check(dev != NULL, error);
    struct session_backing backing = {
        .region = session_memory_from_fd(session, "toy", bar->memory_fd, bar->size, &error)};
    check(backing.region != NULL, error);
    struct session_device *shown = session_device_new(m, "ivshmem-plain", &backing, &error);
    check(shown != NULL, error);
    start(m);
    struct pci_device *p = function_of(dev);
    expect_toy(p); /* the guest sees the BAR, and gave it a place */
    uint64_t base = p->bars[TOY_MEMORY_BAR].base;
    assert_int_not_equal(base, 0);
    assert_false(qemu_sees_bar(m, "32 bit memory", base));
    check(pci_bar_place(function_of(shown), 2, base, &error), error);
    memcpy(toy->memory + 8, "at speed", 8);
    uint64_t n = pci_model_stats(toy->m).bar_reads, value = bar_read(p, TOY_MEMORY_BAR, 8, 8);
    assert_memory_equal(&value, "at speed", 8);
    assert_int_equal(pci_model_stats(toy->m).bar_reads, n); /* the model was not asked */
    bar_write(p, TOY_REGISTER_BAR, 0, 4, 5);                /* its registers still are its own */
    assert_int_equal(bar_read(p, TOY_REGISTER_BAR, 0, 4), 5);
}

/* ---- either side's death ---- */

static void a_model_that_hangs_is_cut_off_and_qemu_goes_on(void **state)
{
    struct toy_model *toys[2] = {toy_new(), toy_new()};
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_model_options options = {.properties = "id=stuck", .proxy.deadline_ms = 100};
    g_autoptr(GError) error = NULL;
    (void)state;
    struct session_device *stuck = session_model_new(m, toys[0]->m, &options, &error);
    check(stuck != NULL, error);
    struct session_device *other = declare(m, toys[1], NULL);
    start(m);
    bar_write(function_of(stuck), TOY_REGISTER_BAR, TOY_HANG, 4, 1); /* returns all the same */
    struct qemu_proxy_stats stats = session_device_proxy_stats(stuck);
    assert_true(stats.was_cut_off);
    assert_false(stats.is_connected);
    assert_int_equal(bar_read(function_of(stuck), TOY_REGISTER_BAR, 0, 4), 0xffffffff);
    bar_write(function_of(other), TOY_REGISTER_BAR, 0, 4, 9);
    assert_int_equal(bar_read(function_of(other), TOY_REGISTER_BAR, 0, 4), 9);
    /* it comes back; then it can be plugged out, and in again */
    toy_go_on(toys[0]);
    assert_true(session_device_wait_unserved(stuck, DEADLINE_MS));
    check(session_device_unplug(stuck, &error), error);
    assert_int_equal(notes->len, 1);
    assert_string_equal(notes->pdata[0], "machine m1, device 'stuck': the model took longer than "
                                         "100 ms over an access");
    check(session_device_replug(stuck, &error), error);
    check(session_device_enable(stuck, &error), error);
    bar_write(function_of(stuck), TOY_REGISTER_BAR, 0, 4, 8);
    assert_int_equal(bar_read(function_of(stuck), TOY_REGISTER_BAR, 0, 4), 8);
}

static void a_model_that_never_comes_back_does_not_hold_up_the_session(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_model_options options = {.properties = "id=stuck", .proxy.deadline_ms = 50};
    g_autoptr(GError) error = NULL;
    (void)state;
    struct session_device *dev = session_model_new(m, toy->m, &options, &error);
    check(dev != NULL, error);
    start(m);
    bar_write(function_of(dev), TOY_REGISTER_BAR, TOY_HANG, 4, 1);
    session_machine_stop(m);
    assert_int_equal(notes->len, 2);
    assert_string_equal(notes->pdata[1], "machine m1, device 'stuck': its model hangs; it is left "
                                         "behind with what it has");
    assert_null(session_device_model(dev));
    assert_false(session_machine_start(m, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_STATE));
    /* here it comes back after all, so that the test leaves nothing */
    toy_go_on(toy);
    gint64 until = g_get_monotonic_time() + DEADLINE_MS * 1000;
    while (pci_model_dma(toy->m) && g_get_monotonic_time() < until) {
        g_thread_yield();
    }
    assert_null(pci_model_dma(toy->m));
    pci_model_free(toy->m);
}

static void a_killed_qemu_leaves_the_model_whole_and_it_meets_the_next(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){0});
    struct session_device *dev = declare(m, toy, NULL);
    g_autoptr(GError) error = NULL;
    uint64_t value;
    (void)state;
    start(m);
    struct pci_device *p = function_of(dev);
    struct pci_dma *dma = pci_model_dma(toy->m);
    let_models_see_memory(m);
    uint8_t *ram = pci_dma_map(dma, 1 << 20, 4096);
    bar_write(p, TOY_REGISTER_BAR, 0, 4, 0x55);
    kill(qemu_pid(session_machine_qemu(m)), SIGKILL);
    assert_true(session_device_wait_unserved(dev, DEADLINE_MS));
    struct qemu_proxy_stats stats = session_device_proxy_stats(dev);
    assert_false(stats.is_connected);
    assert_false(stats.was_cut_off);
    assert_string_equal(stats.why_ended, "");
    assert_int_equal(toy->registers[0], 0); /* it was reset */
    memset(ram, 0xaa, 4096);                /* and what it has mapped is still there */
    pci_dma_unmap(dma, ram);
    assert_false(pci_bar_read(p, TOY_REGISTER_BAR, 0, 4, &value, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
    session_machine_stop(m);
    start(m);
    p = function_of(dev);
    expect_toy(p);
    bar_write(p, TOY_REGISTER_BAR, 0, 4, 0x66);
    assert_int_equal(bar_read(p, TOY_REGISTER_BAR, 0, 4), 0x66);
    assert_int_equal(notes->len, 0);
}

struct raiser {
    struct pci_model *m;
    atomic_bool is_done;
};

static void *raise_all_the_time(void *data)
{
    struct raiser *r = data;
    while (!r->is_done) {
        for (unsigned i = 0; i < TOY_VECTORS; i++) {
            pci_model_raise(r->m, i);
        }
        g_thread_yield();
    }
    return NULL;
}

static void wait_for_more_messages(struct pci_model *m)
{
    gint64 until = g_get_monotonic_time() + DEADLINE_MS * 1000;
    uint64_t n = pci_model_stats(m).messages + 1000;
    while (pci_model_stats(m).messages < n) {
        assert_true(g_get_monotonic_time() < until);
        g_thread_yield();
    }
}

static void a_model_goes_on_interrupting_while_its_qemus_come_and_die(void **state)
{
    struct toy_model *toy = toy_new();
    struct session_machine *m = new_machine(&(struct session_machine_options){.has_bridge = true});
    struct session_device *dev = declare(m, toy, NULL);
    struct raiser r = {.m = toy->m};
    g_autoptr(GError) error = NULL;
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, raise_all_the_time, &r), 0);
    for (unsigned i = 0; i < 4; i++) {
        start(m);
        struct pci_device *p = function_of(dev);
        struct interrupt *irq = aim(p, 0, session_machine_ram(m), 0x11);
        struct interrupt *bell = interrupt_new_eventfd(p, 1, session_machine_bridge(m), &error);
        check(bell != NULL, error);
        check(msix_set_enabled(p, true, &error), error);
        check(interrupt_wait(irq, DEADLINE_MS, &error), error);
        check(interrupt_wait(bell, DEADLINE_MS, &error), error);
        wait_for_more_messages(toy->m);
        kill(qemu_pid(session_machine_qemu(m)), SIGKILL);
        assert_true(session_device_wait_unserved(dev, DEADLINE_MS));
        assert_false(pci_model_msix_enabled(toy->m));
        interrupt_abandon(irq);
        interrupt_abandon(bell);
        session_machine_stop(m);
    }
    r.is_done = true;
    pthread_join(thread, NULL);
    assert_int_equal(notes->len, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_session, close_session)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_is_found_and_its_registers_reached_on_pc),
        TEST(a_device_is_found_and_its_registers_reached_on_q35),
        TEST(bars_move_and_qemu_sees_them_where_they_are),
        TEST(configuration_space_is_the_models_in_every_width),
        TEST(an_access_that_is_not_aligned_is_cut_into_aligned_ones),
        TEST(messages_reach_ram_ivshmem_memory_and_eventfds),
        TEST(masks_keep_messages_pending_through_qemu),
        TEST(memory_that_moves_on_the_bus_is_followed),
        TEST(more_shared_memory_than_qemu_hands_over_is_refused),
        TEST(two_devices_do_not_know_of_each_other),
        TEST(a_system_reset_resets_the_model),
        TEST(a_device_can_be_plugged_unplugged_and_plugged_again_on_pc),
        TEST(a_device_can_be_plugged_unplugged_and_plugged_again_on_q35),
        TEST(a_declared_device_can_be_unplugged),
        TEST(plugging_that_fails_leaves_nothing_behind),
        TEST(a_models_memory_can_be_an_ivshmem_device_too),
        TEST(an_ivshmem_device_can_lie_over_a_late_bar),
        TEST(a_model_that_hangs_is_cut_off_and_qemu_goes_on),
        TEST(a_model_that_never_comes_back_does_not_hold_up_the_session),
        TEST(a_killed_qemu_leaves_the_model_whole_and_it_meets_the_next),
        TEST(a_model_goes_on_interrupting_while_its_qemus_come_and_die),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
