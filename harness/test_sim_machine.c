/*
 * The machine without QEMU, with toy functions on its bus, as drivers see it.
 */
#include "harness/sim_machine.h"
#include "models/abi/pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum {
    REGS_BAR = 0,   /* I/O: one register of 4 bytes at 8 */
    MEMORY_BAR = 1, /* a page of memory in a BAR of two */
    MSIX_BAR = 2,
    REGISTER = 8,
    PAGE = 4096,
    SHARED_BYTES = 1 << 16,
};
#define SHARED_GPA UINT64_C(0x880000000)

struct toy {
    uint32_t value;
    uint8_t *page;
};

static uint64_t toy_read(void *data, unsigned bar, uint64_t offset, unsigned size)
{
    struct toy *t = data;

    return bar == REGS_BAR && offset == REGISTER && size == 4 ? t->value : 0;
}

static void toy_write(void *data, unsigned bar, uint64_t offset, uint64_t value, unsigned size)
{
    struct toy *t = data;

    if (bar == REGS_BAR && offset == REGISTER && size == 4) {
        t->value = (uint32_t)value;
    }
}

static void toy_free(void *data)
{
    struct toy *t = data;

    munmap(t->page, PAGE);
    g_free(t);
}

static struct pci_model *toy_new(uint16_t device_id)
{
    static const struct pci_model_ops ops = {
        .name = "toy", .read = toy_read, .write = toy_write, .free = toy_free};
    struct toy *t = g_new0(struct toy, 1);
    g_autoptr(GError) error = NULL;

    t->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pci_model_options options = {
        .vendor_id = 0x1b36,
        .device_id = device_id,
        .class_code = 0x020000,
        .bars = {[REGS_BAR] = {.size = 16, .is_io = true},
                 [MEMORY_BAR] =
                     {.size = 2 * PAGE, .memory = t->page, .memory_size = PAGE, .memory_fd = -1}},
        .n_vectors = 2,
        .msix_bar = MSIX_BAR,
    };
    struct pci_model *m = pci_model_new(&ops, t, &options, &error);
    assert_null(error);
    return m;
}

static struct machine *machine;
static struct pci_model *model;
static struct toy *toy;
static struct guest_region *region;
static struct pci_bus *bus;
static struct pci_device *dev;

static int open_all(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    machine = sim_machine_new();
    region = guest_region_new("shared", SHARED_BYTES, GUEST_HUGEPAGES_OFF, &error);
    assert_true(sim_machine_add_memory(machine, region, SHARED_GPA, &error));
    model = toy_new(0x1234);
    toy = pci_model_data(model);
    assert_true(sim_machine_add(machine, model, 5, &error));
    bus = pci_bus_new(machine);
    assert_true(pci_bus_scan(bus, &error));
    dev = pci_bus_find(bus, 0, 5, 0);
    assert_non_null(dev);
    assert_null(error);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    pci_bus_free(bus);
    machine_free(machine);
    guest_region_free(region);
    return 0;
}

static void expect_error(GError **error, GQuark domain, int code, const char *text)
{
    assert_non_null(*error);
    assert_int_equal((*error)->domain, domain);
    assert_int_equal((*error)->code, code);
    if (!strstr((*error)->message, text)) {
        fail_msg("'%s' is not in '%s'", text, (*error)->message);
    }
    g_clear_error(error);
}

static uint64_t read_at(enum machine_space space, uint64_t addr, unsigned width)
{
    g_autoptr(GError) error = NULL;
    uint64_t value;

    assert_true(machine_read(machine, space, addr, width, &value, &error));
    return value;
}

static void write_at(enum machine_space space, uint64_t addr, unsigned width, uint64_t value)
{
    g_autoptr(GError) error = NULL;

    assert_true(machine_write(machine, space, addr, width, value, &error));
}

static void a_scan_finds_functions_and_their_bars(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(sim_machine_add(machine, toy_new(0x4321), 0, &error));
    assert_true(pci_bus_scan(bus, &error));
    assert_int_equal(pci_bus_devices(bus)->len, 2);
    assert_ptr_equal(pci_bus_find_id(bus, 0x1b36, 0x1234, 0), dev);
    struct pci_device *other = pci_bus_find(bus, 0, 1, 0); /* the first free slot */
    assert_int_equal(other->device_id, 0x4321);
    assert_int_equal(dev->class_code, 0x020000);
    assert_int_equal(dev->bars[REGS_BAR].kind, PCI_BAR_IO);
    assert_int_equal(dev->bars[REGS_BAR].size, 16);
    assert_int_equal(dev->bars[MEMORY_BAR].kind, PCI_BAR_MEM32);
    assert_int_equal(dev->bars[MEMORY_BAR].size, 2 * PAGE);
    assert_int_equal(dev->msix_n, 2);
}

static void registers_are_where_their_bar_was_placed(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(pci_device_enable(dev, &error));
    assert_true(pci_bar_write(dev, REGS_BAR, REGISTER, 4, 0x55aa1234, &error));
    assert_int_equal(toy->value, 0x55aa1234);
    assert_int_equal(read_at(MACHINE_IO, dev->bars[REGS_BAR].base + REGISTER, 4), 0x55aa1234);
    assert_true(
        machine_post(machine, MACHINE_IO, dev->bars[REGS_BAR].base + REGISTER, 4, 7, &error));
    assert_true(machine_barrier(machine, &error));
    assert_int_equal(toy->value, 7);
    assert_true(pci_command(dev, 0, PCI_COMMAND_IO, &error));
    assert_int_equal(read_at(MACHINE_IO, dev->bars[REGS_BAR].base + REGISTER, 4), 0xffffffff);
}

static void what_nobody_answers_reads_as_on_a_pc(void **state)
{
    (void)state;
    assert_int_equal(read_at(MACHINE_IO, 0x1234, 2), 0xffff);
    assert_int_equal(read_at(MACHINE_MEM, 0xe0000000, 8), 0);
    write_at(MACHINE_MEM, 0xe0000000, 8, UINT64_MAX);
    write_at(MACHINE_IO, PCI_CONFIG_ADDRESS_PORT, 4, PCI_CONFIG_ADDRESS(0, 6, 0, 0));
    assert_int_equal(read_at(MACHINE_IO, PCI_CONFIG_DATA_PORT, 4), 0xffffffff); /* empty slot */
    write_at(MACHINE_IO, PCI_CONFIG_ADDRESS_PORT, 4, PCI_CONFIG_ADDRESS(1, 5, 0, 0));
    assert_int_equal(read_at(MACHINE_IO, PCI_CONFIG_DATA_PORT, 2), 0xffff); /* no such bus */
    write_at(MACHINE_IO, PCI_CONFIG_ADDRESS_PORT, 4, PCI_CONFIG_ADDRESS(0, 5, 1, 0));
    assert_int_equal(read_at(MACHINE_IO, PCI_CONFIG_DATA_PORT, 2), 0xffff); /* nor function */
    write_at(MACHINE_IO, PCI_CONFIG_ADDRESS_PORT, 4,
             PCI_CONFIG_ADDRESS(0, 5, 0, 0) & ~PCI_CONFIG_ADDRESS_ENABLE);
    assert_int_equal(read_at(MACHINE_IO, PCI_CONFIG_DATA_PORT, 2), 0xffff);
    write_at(MACHINE_IO, PCI_CONFIG_ADDRESS_PORT, 4, PCI_CONFIG_ADDRESS(0, 5, 0, 0));
    assert_int_equal(read_at(MACHINE_IO, PCI_CONFIG_DATA_PORT + 2, 2), 0x1234);
    assert_int_equal(read_at(MACHINE_IO, PCI_CONFIG_ADDRESS_PORT, 4),
                     PCI_CONFIG_ADDRESS(0, 5, 0, 0));
}

static void accesses_that_cannot_be_are_refused(void **state)
{
    (void)state;
    GError *error = NULL;
    uint64_t value;

    assert_false(machine_read(machine, MACHINE_IO, 0x1000, 8, &value, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_INVALID, "8 bytes at 0x1000");
    assert_false(machine_write(machine, MACHINE_MEM, SHARED_GPA, 2, 0x10000, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_INVALID, "0x10000");
    assert_false(machine_read(machine, MACHINE_MEM, 0, 3, &value, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_INVALID, "3 bytes");
}

static void memory_is_reached_by_accesses_and_by_devices(void **state)
{
    (void)state;
    uint8_t bytes[6] = {1, 2, 3, 4, 5, 6}, back[6] = {0};
    g_autoptr(GError) error = NULL;

    write_at(MACHINE_MEM, SHARED_GPA + 0x100, 8, 0x1122334455667788);
    assert_int_equal(*(uint64_t *)(void *)(region->host + 0x100), 0x1122334455667788);
    assert_int_equal(read_at(MACHINE_MEM, SHARED_GPA + 0x102, 2), 0x5566);
    assert_true(machine_write_bytes(machine, SHARED_GPA + SHARED_BYTES - 6, bytes, 6, &error));
    assert_memory_equal(region->host + SHARED_BYTES - 6, bytes, 6);
    /* beyond its end nobody answers */
    assert_true(machine_read_bytes(machine, SHARED_GPA + SHARED_BYTES - 3, back, 6, &error));
    assert_memory_equal(back, "\4\5\6\0\0\0", 6);
    void *mapped = pci_dma_map(pci_model_dma(model), SHARED_GPA + 0x100, 8);
    assert_ptr_equal(mapped, region->host + 0x100);
    pci_dma_unmap(pci_model_dma(model), mapped);
}

static void memory_of_a_model_is_guest_memory_while_its_bar_is_decoded(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(pci_device_enable(dev, &error));
    uint64_t base = dev->bars[MEMORY_BAR].base;
    assert_ptr_equal(guest_memory_host(machine->memory, base, PAGE), toy->page);
    assert_null(guest_memory_host(machine->memory, base, PAGE + 1));
    write_at(MACHINE_MEM, base + 16, 4, 0xabcdef01);
    assert_int_equal(*(uint32_t *)(void *)(toy->page + 16), 0xabcdef01);
    assert_int_equal(read_at(MACHINE_MEM, base + PAGE, 4), 0); /* the BAR goes on */
    assert_true(pci_bar_place(dev, MEMORY_BAR, base + (1 << 20), &error));
    assert_null(guest_memory_host(machine->memory, base, 1));
    assert_ptr_equal(guest_memory_host(machine->memory, base + (1 << 20), 1), toy->page);
    assert_true(pci_command(dev, 0, PCI_COMMAND_MEMORY, &error));
    assert_null(guest_memory_host(machine->memory, base + (1 << 20), 1));
}

static void a_message_lands_in_guest_memory(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(pci_device_enable(dev, &error));
    assert_true(msix_set_enabled(dev, true, &error));
    struct interrupt *irq = interrupt_new_memory(dev, 1, SHARED_GPA + 64, 99, &error);
    assert_non_null(irq);
    assert_false(interrupt_take(irq));
    pci_model_raise(model, 0); /* masked, and another */
    assert_false(interrupt_take(irq));
    pci_model_raise(model, 1);
    assert_int_equal(*(uint32_t *)(void *)(region->host + 64), 99);
    assert_true(interrupt_wait(irq, 0, &error));
    interrupt_free(irq);
}

static void a_message_to_the_bridge_rings_one_eventfd(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(pci_device_enable(dev, &error));
    assert_true(msix_set_enabled(dev, true, &error));
    struct interrupt_bridge *bridge = sim_machine_bridge(machine);
    struct interrupt *a = interrupt_new_eventfd(dev, 0, bridge, &error);
    struct interrupt *b = interrupt_new_eventfd(dev, 1, bridge, &error);
    assert_true(a && b);
    pci_model_raise(model, 1);
    pci_model_raise(model, 1);
    assert_false(interrupt_is_raised(a));
    assert_true(interrupt_wait(b, 0, &error));
    assert_int_equal(b->n_messages, 2);
    pci_model_raise(model, 0);
    assert_true(interrupt_take(a));
    interrupt_free(a);
    interrupt_free(b);
    /* a channel that the bridge does not have, and memory that is not there */
    assert_true(msix_set_message(dev, 0, bridge->doorbell_gpa, 65u << 16, &error));
    assert_true(msix_set_masked(dev, 0, false, &error));
    pci_model_raise(model, 0);
    assert_true(msix_set_message(dev, 0, 0x1000, 1, &error));
    pci_model_raise(model, 0);
    assert_int_equal(pci_model_stats(model).messages_lost, 2);
}

static void a_slot_holds_one_function(void **state)
{
    (void)state;
    GError *error = NULL;

    assert_ptr_equal(sim_machine_function(machine, 5), model);
    assert_null(sim_machine_function(machine, 6));
    assert_null(sim_machine_function(machine, 32));
    assert_false(sim_machine_add(machine, toy_new(1), 5, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "slot 5 is taken");
    assert_false(sim_machine_add(machine, toy_new(1), 32, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "1..31");
    for (unsigned i = 0; i < 30; i++) {
        assert_true(sim_machine_add(machine, toy_new(1), 0, &error));
    }
    assert_false(sim_machine_add(machine, toy_new(1), 0, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_NO_SPACE, "taken");
}

static void memory_that_would_overlap_is_refused(void **state)
{
    (void)state;
    GError *error = NULL;
    struct guest_region *other = guest_region_new("other", PAGE, GUEST_HUGEPAGES_OFF, &error);

    assert_false(sim_machine_add_memory(machine, other, SHARED_GPA + PAGE, &error));
    expect_error(&error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_OVERLAP, "'other'");
    /* a BAR there is not shown as memory, the model still answers */
    assert_true(sim_machine_add_memory(machine, other, 0xc0000000, &error));
    assert_true(pci_bar_place(dev, MEMORY_BAR, 0xc0000000, &error));
    assert_true(pci_command(dev, PCI_COMMAND_MEMORY, 0, &error));
    assert_ptr_equal(guest_memory_host(machine->memory, 0xc0000000, 1), other->host);
    pci_bus_free(bus);
    bus = NULL;
    machine_free(machine);
    machine = sim_machine_new();
    guest_region_free(other);
}

static void there_are_no_interrupt_lines(void **state)
{
    (void)state;
    GError *error = NULL;
    uint64_t n;
    bool level = true;

    assert_true(machine->ops->irq_state(machine, 3, &level, &n));
    assert_false(level);
    assert_int_equal(n, 0);
    assert_false(machine->ops->irq_wait_raised(machine, 3, 1, 0, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_INVALID, "MSI-X");
    assert_false(machine->ops->irq_wait_level(machine, 3, true, 0, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_INVALID, "line 3");
    assert_true(machine->ops->irq_wait_level(machine, 3, false, 0, &error));
    assert_int_equal(machine_lifeline(machine), -1);
}

#define on_machine(test) cmocka_unit_test_setup_teardown(test, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_machine(a_scan_finds_functions_and_their_bars),
        on_machine(registers_are_where_their_bar_was_placed),
        on_machine(what_nobody_answers_reads_as_on_a_pc),
        on_machine(accesses_that_cannot_be_are_refused),
        on_machine(memory_is_reached_by_accesses_and_by_devices),
        on_machine(memory_of_a_model_is_guest_memory_while_its_bar_is_decoded),
        on_machine(a_message_lands_in_guest_memory),
        on_machine(a_message_to_the_bridge_rings_one_eventfd),
        on_machine(a_slot_holds_one_function),
        on_machine(memory_that_would_overlap_is_refused),
        on_machine(there_are_no_interrupt_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
