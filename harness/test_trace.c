/*
 * The register trace: names, configuration cycles, what is not a register, and the bound.
 * Accesses are handed to the hook that the trace set, as a machine does.
 */
#include "harness/trace.h"

#include "models/abi/pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct abi_field status_fields[] = {
    {"acknowledge", 0, 1, ""},
    {"driver", 1, 1, ""},
    {"phase", 4, 3, ""},
    {"failed", 7, 1, ""},
};
static const struct abi_reg common_regs[] = {
    {"status", 0, 1, ABI_RW, 0, 0, status_fields, ABI_COUNT(status_fields), 1, 0, ""},
    {"size", 2, 2, ABI_RW, 0, 0, NULL, 0, 1, 0, ""},
    {"queue", 8, 4, ABI_RW, 0, 0, NULL, 0, 4, 8, ""},
};
static const struct abi_block common_abi = {"common", "",          64,
                                            0,        common_regs, ABI_COUNT(common_regs)};

enum { MEM_BAR = 0xe0000000, IO_BAR = 0xc000, COMMON_AT = 0x1000, TABLE_AT = 0x2000 };

struct fixture {
    struct machine machine;
    struct pci_device device;
    struct pci_block blocks[3];
    GPtrArray *devices;
    struct trace *trace;
};

/* 00:04.0 with a memory BAR 4 that holds two blocks, and an I/O BAR 0 that holds none. */
static int setup_capacity(void **state, unsigned capacity)
{
    struct fixture *f = g_new0(struct fixture, 1);
    struct pci_device *dev = &f->device;
    f->machine.board = MACHINE_Q35;
    dev->slot = 4;
    dev->bars[4] = (struct pci_bar){.kind = PCI_BAR_MEM64, .size = 0x4000, .base = MEM_BAR};
    dev->bars[0] = (struct pci_bar){.kind = PCI_BAR_IO, .size = 0x20, .base = IO_BAR};
    f->blocks[0] =
        (struct pci_block){.abi = abi_header_block(0), .in_config = true, .size = PCI_HEADER_BYTES};
    f->blocks[1] =
        (struct pci_block){.abi = &common_abi, .bar = 4, .offset = COMMON_AT, .size = 64};
    f->blocks[2] = (struct pci_block){
        .abi = &abi_msix_table_block, .bar = 4, .offset = TABLE_AT, .size = 64, .count = 4};
    dev->blocks = g_ptr_array_new();
    for (size_t i = 0; i < G_N_ELEMENTS(f->blocks); i++) {
        f->blocks[i].name = g_strdup(f->blocks[i].abi->name);
        g_ptr_array_add(dev->blocks, &f->blocks[i]);
    }
    f->devices = g_ptr_array_new();
    g_ptr_array_add(f->devices, dev);
    f->trace = trace_new(capacity);
    trace_attach(f->trace, &f->machine);
    trace_set_devices(f->trace, f->devices);
    trace_name_function(f->trace, 0, 4, 0, "net");
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_capacity(state, 0);
}

static int setup_small(void **state)
{
    return setup_capacity(state, 3);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    trace_free(f->trace);
    g_ptr_array_unref(f->devices);
    g_ptr_array_unref(f->device.blocks);
    for (size_t i = 0; i < G_N_ELEMENTS(f->blocks); i++) {
        g_free(f->blocks[i].name);
    }
    g_free(f);
    return 0;
}

static void access_one(struct fixture *f, enum machine_space space, uint64_t addr, unsigned width,
                       bool is_write, uint64_t value)
{
    struct machine_access access = {addr, value, (uint8_t)space, (uint8_t)width, is_write};
    f->machine.trace(f->machine.trace_data, &access);
}

static void mem_write(struct fixture *f, uint64_t addr, unsigned width, uint64_t value)
{
    access_one(f, MACHINE_MEM, addr, width, true, value);
}

static void mem_read(struct fixture *f, uint64_t addr, unsigned width, uint64_t value)
{
    access_one(f, MACHINE_MEM, addr, width, false, value);
}

static void io(struct fixture *f, uint64_t addr, unsigned width, bool is_write, uint64_t value)
{
    access_one(f, MACHINE_IO, addr, width, is_write, value);
}

/* The text with the times taken out. */
static void check(struct fixture *f, const char *expected)
{
    g_autofree char *text = trace_text(f->trace);
    g_autoptr(GRegex) regex = g_regex_new("\\+[0-9]+\\.[0-9]{6}", 0, 0, NULL);
    g_autofree char *timeless = g_regex_replace_literal(regex, text, -1, 0, "T", 0, NULL);
    assert_string_equal(timeless, expected);
}

static void registers_are_told_by_device_block_name_and_bits(void **state)
{
    struct fixture *f = *state;
    mem_write(f, MEM_BAR + COMMON_AT, 1, 0x93);
    mem_read(f, MEM_BAR + COMMON_AT, 1, 0x00);
    mem_read(f, MEM_BAR + COMMON_AT + 2, 2, 0x100);
    check(f, "T net  common.status <- 0x93 (acknowledge driver phase=0x1 failed)\n"
             "T net  common.status -> 0x00\n"
             "T net  common.size -> 0x0100\n");
}

static void elements_of_blocks_and_registers_are_numbered(void **state)
{
    struct fixture *f = *state;
    mem_write(f, MEM_BAR + COMMON_AT + 8 + 2 * 8, 4, 5);
    mem_write(f, MEM_BAR + TABLE_AT + 3 * 16 + 12, 4, 1);
    mem_write(f, MEM_BAR + TABLE_AT + 16 + 8, 4, 0x4041);
    check(f, "T net  common.queue[2] <- 0x00000005\n"
             "T net  msix_table[3].vector_control <- 0x00000001 (masked)\n"
             "T net  msix_table[1].message_data <- 0x00004041\n");
}

static void odd_accesses_show_offset_and_width(void **state)
{
    struct fixture *f = *state;
    mem_read(f, MEM_BAR + COMMON_AT, 2, 1);
    mem_read(f, MEM_BAR + COMMON_AT + 3, 1, 1);
    mem_read(f, MEM_BAR + COMMON_AT + 8 + 8 + 2, 2, 1);
    mem_read(f, MEM_BAR + TABLE_AT + 16 + 10, 1, 1);
    check(f, "T net  common.status:2 -> 0x0001\n"
             "T net  common.size+1:1 -> 0x01\n"
             "T net  common.queue[1]+2:2 -> 0x0001\n"
             "T net  msix_table[1].message_data+2:1 -> 0x01\n");
}

static void what_is_no_register_is_told_by_place(void **state)
{
    struct fixture *f = *state;
    mem_read(f, MEM_BAR + 0x3ffc, 4, 0);
    io(f, IO_BAR + 0x12, 1, false, 0xff);
    io(f, 0x70, 1, true, 0x0f);
    mem_write(f, 0xfee00000, 8, 1);
    io(f, MEM_BAR + COMMON_AT, 1, true, 1); /* the right number in the wrong space */
    check(f, "T net  bar4+0x3ffc:4 -> 0x00000000\n"
             "T net  bar0+0x12:1 -> 0xff\n"
             "T io   0x70:1 <- 0x0f\n"
             "T mem  0xfee00000:8 <- 0x0000000000000001\n"
             "T io   0xe0001000:1 <- 0x01\n");
}

static void a_configuration_cycle_is_one_line(void **state)
{
    struct fixture *f = *state;
    io(f, 0xcf8, 4, true, PCI_CONFIG_ADDRESS(0, 4, 0, 0x04));
    io(f, 0xcfc, 2, true, 0x0006);
    io(f, 0xcf8, 4, true, PCI_CONFIG_ADDRESS(0, 4, 0, 0x04));
    io(f, 0xcfe, 2, false, 0x0010);
    io(f, 0xcf8, 4, true, PCI_CONFIG_ADDRESS(0, 4, 0, 0x00));
    io(f, 0xcfc, 4, false, 0x10411af4);
    io(f, 0xcf8, 4, true, PCI_CONFIG_ADDRESS(0, 4, 0, 0xf0));
    io(f, 0xcfd, 1, false, 0);
    io(f, 0xcf8, 4, true, PCI_CONFIG_ADDRESS(1, 31, 7, 0));
    io(f, 0xcfc, 2, false, 0xffff);
    check(f, "T net      config.command <- 0x0006 (memory_space bus_master)\n"
             "T net      config.status -> 0x0010 (capabilities_list)\n"
             "T net      config.vendor_id:4 -> 0x10411af4\n"
             "T net      config+0xf1:1 -> 0x00\n"
             "T 01:1f.7  config+0x0:2 -> 0xffff\n");
}

static void an_address_without_data_is_told_as_it_is(void **state)
{
    struct fixture *f = *state;
    io(f, 0xcf8, 4, true, 0x80002000);
    mem_read(f, MEM_BAR + COMMON_AT, 1, 0);
    io(f, 0xcf8, 4, true, 0x2004); /* not enabled: no configuration cycle follows */
    io(f, 0xcfc, 4, false, 0);
    io(f, 0xcf8, 1, true, 2);
    io(f, 0xcf8, 4, true, 0x80002008);
    trace_detach(f->trace);
    assert_null(f->machine.trace);
    check(f, "T io   0xcf8:4 <- 0x80002000\n"
             "T net  common.status -> 0x00\n"
             "T io   0xcf8:4 <- 0x00002004\n"
             "T io   0xcfc:4 -> 0x00000000\n"
             "T io   0xcf8:1 <- 0x02\n"
             "T io   0xcf8:4 <- 0x80002008\n");
}

static void memory_mapped_configuration_space_is_found_where_q35_has_it(void **state)
{
    struct fixture *f = *state;
    const uint64_t command = PCI_ECAM_OFFSET(0, 4, 0, PCI_COMMAND);
    mem_read(f, 0xb0000000 + command, 2, 0);
    io(f, 0xcf8, 4, true, PCI_CONFIG_ADDRESS(0, 0, 0, Q35_PCIEXBAR));
    io(f, 0xcfc, 4, true, 0xb0000000 | Q35_PCIEXBAR_ENABLE);
    mem_read(f, 0xb0000000 + command, 2, 0x0400);
    io(f, 0xcfc, 4, true, 0xc8000000 | 2 | Q35_PCIEXBAR_ENABLE); /* 128 MiB */
    mem_read(f, 0xc8000000 + command, 2, 0x0001);
    mem_read(f, 0xd0000000 + command, 2, 0x0002);
    check(f, "T mem      0xb0020004:2 -> 0x0000\n"
             "T 00:00.0  config+0x60:4 <- 0xb0000001\n"
             "T net      config.command -> 0x0400 (interrupt_disable)\n"
             "T 00:00.0  config+0x60:4 <- 0xc8000003\n"
             "T net      config.command -> 0x0001 (io_space)\n"
             "T mem      0xd0020004:2 -> 0x0002\n");
}

static void polling_is_one_line_with_a_count(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        mem_read(f, MEM_BAR + COMMON_AT, 1, 2);
    }
    mem_read(f, MEM_BAR + COMMON_AT, 1, 0);
    mem_write(f, MEM_BAR + COMMON_AT, 1, 0);
    check(f, "T net  common.status -> 0x02 (driver) [3 times, last at T]\n"
             "T net  common.status -> 0x00\n"
             "T net  common.status <- 0x00\n");
}

static void names_are_those_of_the_moment_of_the_access(void **state)
{
    struct fixture *f = *state;
    mem_write(f, MEM_BAR + COMMON_AT, 1, 1);
    f->device.bars[4].base = 0; /* reset: the BAR lost its address, and is not at 0 */
    mem_write(f, MEM_BAR + COMMON_AT, 1, 1);
    mem_write(f, COMMON_AT, 1, 1);
    trace_set_devices(f->trace, NULL);
    mem_write(f, MEM_BAR + COMMON_AT + 1, 1, 1);
    g_free(f->blocks[1].name); /* unplugged */
    f->blocks[1].name = NULL;
    check(f, "T net  common.status <- 0x01 (acknowledge)\n"
             "T mem  0xe0001000:1 <- 0x01\n"
             "T mem  0x1000:1 <- 0x01\n"
             "T mem  0xe0001001:1 <- 0x01\n");
}

static void only_the_last_accesses_are_kept(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 5; i++) {
        mem_write(f, 0x1000 + i, 1, i);
    }
    check(f, "(2 earlier lines are not kept)\n"
             "T mem  0x1002:1 <- 0x02\n"
             "T mem  0x1003:1 <- 0x03\n"
             "T mem  0x1004:1 <- 0x04\n");
}

int main(void)
{
#define with(setup_function, test) cmocka_unit_test_setup_teardown(test, setup_function, teardown)
    const struct CMUnitTest tests[] = {
        with(setup, registers_are_told_by_device_block_name_and_bits),
        with(setup, elements_of_blocks_and_registers_are_numbered),
        with(setup, odd_accesses_show_offset_and_width),
        with(setup, what_is_no_register_is_told_by_place),
        with(setup, a_configuration_cycle_is_one_line),
        with(setup, an_address_without_data_is_told_as_it_is),
        with(setup, memory_mapped_configuration_space_is_found_where_q35_has_it),
        with(setup, polling_is_one_line_with_a_count),
        with(setup, names_are_those_of_the_moment_of_the_access),
        with(setup_small, only_the_last_accesses_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
