/*
 * Modelled devices on the bus of a real QEMU: what a guest sees of them, and what becomes of either
 * side when the other dies. Skipped where there is no QEMU.
 */
#include "harness/session.h"
#include "models/test_toy_model.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DEADLINE_MS = 10000 };

static struct session *session;
static GPtrArray *notes;

static void check(bool ok, const GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "failed without an error");
        abort(); /* not reached: for static analysis, which does not know what fail_msg does */
    }
}

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

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_session, close_session)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_is_found_and_its_registers_reached_on_pc),
        TEST(a_device_is_found_and_its_registers_reached_on_q35),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
