/*
 * INTx of a real QEMU: every slot and bridge leads to the line that interrupt.c says. Skipped where
 * there is no QEMU. (MSI-X of a real QEMU: test_ivshmem_live.c.)
 */
#include "harness/session.h"
#include "models/abi/edu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DEADLINE_MS = 10000 };

static struct session *session;

static void check(bool ok, const GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "failed without an error");
        abort(); /* not reached: for static analysis, which does not know what fail_msg does */
    }
}

static int open_session(void **state)
{
    (void)state;
    session = qemu_info_get(NULL) ? session_new(NULL, NULL) : NULL;
    return 0;
}

static int close_session(void **state)
{
    (void)state;
    session_free(session);
    return 0;
}

static struct session_machine *new_machine(enum machine_board board)
{
    g_autoptr(GError) error = NULL;
    struct session_machine *m =
        session_machine_new(session, &(struct session_machine_options){.board = board}, &error);

    check(m != NULL, error);
    return m;
}

/* Raises and acknowledges edu's interrupt: its line follows. */
static void expect_own_line(struct session_device *d)
{
    g_autoptr(GError) error = NULL;
    struct pci_device *dev = session_device_pci(d, &error);
    check(dev != NULL, error);
    struct interrupt *irq = interrupt_new_line(dev, &error);
    check(irq != NULL, error);

    assert_false(interrupt_is_raised(irq));
    assert_false(interrupt_take(irq));
    for (unsigned i = 0; i < 3; i++) {
        check(pci_bar_write(dev, EDU_BAR, EDU_IRQ_RAISE, 4, 1, &error), error);
        check(interrupt_wait(irq, DEADLINE_MS, &error), error);
        assert_true(interrupt_is_raised(irq));
        assert_false(interrupt_take(irq)); /* up, but taken */
        check(pci_bar_write(dev, EDU_BAR, EDU_IRQ_ACK, 4, 1, &error), error);
        assert_false(interrupt_is_raised(irq));
    }
    assert_int_equal(irq->n_taken, 3);
    interrupt_free(irq);
}

static void expect_lines(enum machine_board board, const char *const *specs, unsigned n)
{
    g_autoptr(GError) error = NULL;

    if (!session) {
        print_message("# there is no QEMU\n");
        skip();
    }
    struct session_machine *m = new_machine(board);
    struct session_device *devices[8] = {NULL};

    assert_in_range(n, 1, G_N_ELEMENTS(devices));
    for (unsigned i = 0; i < n; i++) {
        devices[i] = session_device_new(m, specs[i], NULL, &error);
        check(devices[i] != NULL, error);
    }
    check(session_machine_start(m, &error), error);
    for (unsigned i = 0; i < n; i++) {
        if (g_str_has_prefix(specs[i], "edu")) {
            expect_own_line(devices[i]);
        }
    }
}

static void on_pc_interrupts_of_every_slot_reach_their_lines(void **state)
{
    (void)state;
    const char *specs[] = {"edu,addr=2", "edu,addr=3", "edu,addr=4",
                           "edu,addr=5", "edu,addr=6", "edu,addr=1f"};
    expect_lines(MACHINE_PC, specs, G_N_ELEMENTS(specs));
}

static void on_q35_interrupts_of_every_slot_reach_their_lines(void **state)
{
    (void)state;
    const char *specs[] = {"edu,addr=2",  "edu,addr=3",  "edu,addr=4",  "edu,addr=5",
                           "edu,addr=18", "edu,addr=19", "edu,addr=1d", "edu,addr=1e"};
    expect_lines(MACHINE_Q35, specs, G_N_ELEMENTS(specs));
}

static void interrupts_behind_bridges_reach_their_lines(void **state)
{
    (void)state;
    const char *specs[] = {"pci-bridge,id=b1,chassis_nr=1,addr=6", "edu,bus=b1,addr=1",
                           "edu,bus=b1,addr=2", "pci-bridge,id=b2,chassis_nr=2,bus=b1,addr=3",
                           "edu,bus=b2,addr=2"};
    expect_lines(MACHINE_PC, specs, G_N_ELEMENTS(specs));
    expect_lines(MACHINE_Q35, specs, G_N_ELEMENTS(specs));
}

#define live(test) cmocka_unit_test_setup_teardown(test, open_session, close_session)

int main(void)
{
    const struct CMUnitTest tests[] = {
        live(on_pc_interrupts_of_every_slot_reach_their_lines),
        live(on_q35_interrupts_of_every_slot_reach_their_lines),
        live(interrupts_behind_bridges_reach_their_lines),
    };
    return cmocka_run_group_tests_name("interrupt_live", tests, NULL, NULL);
}
