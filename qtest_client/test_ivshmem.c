/*
 * The ivshmem driver against functions of plain bytes: which registers it touches, and where it
 * lets the shared memory lie.
 */
#include "models/abi/ivshmem.h"
#include "qtest_client/ivshmem.h"
#include "qtest_client/test_fake_pci.h"

enum { MEMORY_BYTES = 1 << 20, REGISTER_BYTES = IVSHMEM_REGS_BYTES };

static struct guest_memory *memory;
static struct guest_region *region;
static struct fake_machine fake;
static struct pci_bus *bus;
static struct ivshmem *plain, *doorbell;

static struct fake_function *add_ivshmem(uint8_t slot, bool has_msix)
{
    struct fake_function *f = fake_add(&fake, slot, IVSHMEM_VENDOR_ID, IVSHMEM_DEVICE_ID, 0);

    fake_add_bar(f, IVSHMEM_BAR_REGISTERS, REGISTER_BYTES, 0);
    if (has_msix) {
        fake_add_msix(f, IVSHMEM_BAR_MSIX, 4);
    }
    fake_add_bar(f, IVSHMEM_BAR_MEMORY, MEMORY_BYTES, PCI_BAR_MEM_TYPE_64 | PCI_BAR_MEM_PREFETCH);
    return f;
}

static struct pci_device *function_at(unsigned slot)
{
    struct pci_device *d = pci_bus_find(bus, 0, slot, 0);

    assert_non_null(d);
    return d;
}

static struct ivshmem *open_at(unsigned slot)
{
    g_autoptr(GError) error = NULL;
    struct ivshmem *shm = ivshmem_new(function_at(slot), &error);

    if (!shm) {
        fail_msg("%s", error->message);
    }
    return shm;
}

static int open_machine(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    memory = guest_memory_new();
    region = guest_region_new("shared", MEMORY_BYTES, GUEST_HUGEPAGES_OFF, &error);
    assert_non_null(region);
    fake_machine_init(&fake, MACHINE_PC, memory);
    add_ivshmem(4, false);
    add_ivshmem(5, true);
    fake_add(&fake, 6, 0x1234, 0x5678, 0);
    bus = pci_bus_new(&fake.base);
    assert_true(pci_bus_scan(bus, &error));
    plain = open_at(4);
    doorbell = open_at(5);
    g_array_set_size(fake.writes, 0);
    return 0;
}

static int close_machine(void **state)
{
    (void)state;
    ivshmem_free(plain);
    ivshmem_free(doorbell);
    pci_bus_free(bus);
    fake_machine_clear(&fake);
    guest_memory_free(memory);
    guest_region_free(region);
    return 0;
}

static void expect_error(GError **error, GQuark domain, int code, const char *text)
{
    assert_non_null(*error);
    if (!g_error_matches(*error, domain, code) || !strstr((*error)->message, text)) {
        fail_msg("not \"...%s...\" but: %s", text, (*error)->message);
    }
    g_clear_error(error);
}

static void a_new_driver_knows_its_variant_and_has_placed_all_but_the_memory(void **state)
{
    (void)state;
    assert_false(plain->has_doorbell);
    assert_true(doorbell->has_doorbell);
    assert_int_equal(plain->memory_size, MEMORY_BYTES);
    assert_int_equal(doorbell->memory_size, MEMORY_BYTES);
    assert_int_not_equal(plain->dev->bars[IVSHMEM_BAR_REGISTERS].base, 0);
    assert_int_not_equal(doorbell->dev->bars[IVSHMEM_BAR_REGISTERS].base, 0);
    assert_int_not_equal(doorbell->dev->bars[IVSHMEM_BAR_MSIX].base, 0);
    assert_int_equal(doorbell->dev->bars[IVSHMEM_BAR_MEMORY].base, 0);
    assert_null(plain->region);
    /* memory decoding and, for the messages of MSI-X, bus mastering */
    assert_int_equal(fake_get(fake.functions[1].config + PCI_COMMAND, 2), 0x6);
}

static void a_function_that_is_placed_already_is_left_where_it_is(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    uint64_t base = plain->dev->bars[IVSHMEM_BAR_REGISTERS].base;

    assert_true(pci_device_enable(plain->dev, &error));
    struct ivshmem *again = open_at(4);
    assert_int_equal(plain->dev->bars[IVSHMEM_BAR_REGISTERS].base, base);
    ivshmem_free(again);
}

static void functions_that_are_no_ivshmem_device_are_refused(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_null(ivshmem_new(function_at(6), &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "1234:5678");
}

static void each_register_is_one_aligned_dword_at_its_offset(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    uint8_t *regs = fake.functions[1].bar[IVSHMEM_BAR_REGISTERS];
    uint64_t base = doorbell->dev->bars[IVSHMEM_BAR_REGISTERS].base;
    uint32_t value;
    uint16_t id;

    fake_put(regs + 0x0, 4, 0x11223344);
    fake_put(regs + 0x4, 4, 0x55667788);
    fake_put(regs + 0x8, 4, 65535);
    assert_true(ivshmem_interrupt_mask(doorbell, &value, &error));
    assert_int_equal(value, 0x11223344);
    assert_true(ivshmem_interrupt_status(doorbell, &value, &error));
    assert_int_equal(value, 0x55667788);
    assert_true(ivshmem_position(doorbell, &id, &error));
    assert_int_equal(id, 65535);
    assert_int_equal(fake.writes->len, 0);

    assert_true(ivshmem_set_interrupt_mask(doorbell, 0xffffffff, &error));
    assert_true(ivshmem_ring(doorbell, 0xabcd, 0xef, &error));
    assert_int_equal(fake.writes->len, 2);
    const struct machine_access *w = &g_array_index(fake.writes, struct machine_access, 0);
    assert_int_equal(w[0].addr, base);
    assert_int_equal(w[0].value, 0xffffffff);
    assert_int_equal(w[0].width, 4);
    assert_int_equal(w[1].addr, base + 0xc);
    assert_int_equal(w[1].value, 0xabcd00ef);
    assert_int_equal(w[1].width, 4);
}

static void a_position_that_is_no_peer_id_is_reported(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    uint16_t id = 7;

    fake_put(fake.functions[1].bar[IVSHMEM_BAR_REGISTERS] + 8, 4, 65536);
    assert_false(ivshmem_position(doorbell, &id, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_BROKEN, "0x10000");
    assert_int_equal(id, 7);
}

/* ---- where the memory lies ---- */

static void expect_mapped(struct ivshmem *shm, unsigned nr, uint64_t gpa)
{
    assert_ptr_equal(shm->region, region);
    assert_int_equal(region->gpa, gpa);
    assert_int_equal(shm->dev->bars[IVSHMEM_BAR_MEMORY].base, gpa);
    assert_int_equal(fake_bar_base(&fake.functions[nr], IVSHMEM_BAR_MEMORY), gpa);
    assert_ptr_equal(guest_memory_host(memory, gpa + 5, 1), region->host + 5);
}

static void memory_goes_where_the_caller_wants_it_and_can_move(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(ivshmem_map(plain, region, 0xc0000000, &error));
    expect_mapped(plain, 0, 0xc0000000);
    assert_true(ivshmem_map(plain, region, UINT64_C(1) << 51, &error));
    expect_mapped(plain, 0, UINT64_C(1) << 51);
    assert_null(guest_memory_host(memory, 0xc0000000, 1));
}

static void memory_at_its_host_address_needs_no_translation(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(ivshmem_map(plain, region, IVSHMEM_AT_HOST_ADDRESS, &error));
    expect_mapped(plain, 0, (uint64_t)(uintptr_t)region->host);
    assert_int_equal(guest_memory_gpa(memory, region->host + 123),
                     (uint64_t)(uintptr_t)region->host + 123);
}

static void memory_anywhere_finds_a_place_and_keeps_it(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(ivshmem_map(doorbell, region, IVSHMEM_ANYWHERE, &error));
    uint64_t gpa = region->gpa;
    assert_int_equal(gpa % MEMORY_BYTES, 0);
    assert_int_not_equal(gpa, doorbell->dev->bars[IVSHMEM_BAR_REGISTERS].base);
    expect_mapped(doorbell, 1, gpa);
    assert_true(ivshmem_map(doorbell, region, IVSHMEM_ANYWHERE, &error));
    expect_mapped(doorbell, 1, gpa);
}

/* What does not lie in the windows of its bridge, the bus never passes on. */
static void behind_a_bridge_everything_lies_in_its_windows(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct fake_function *bridge = fake_add_bridge(&fake, 0, 7), *f = add_ivshmem(1, true);
    f->bus = 1;
    assert_true(pci_bus_scan(bus, &error));
    struct ivshmem *shm = ivshmem_new(pci_bus_find(bus, 1, 1, 0), &error);
    assert_non_null(shm);
    assert_true(ivshmem_map(shm, region, IVSHMEM_ANYWHERE, &error));
    uint64_t base = fake_get(bridge->config + PCI_MEMORY_BASE, 2) << 16;
    uint64_t limit = fake_get(bridge->config + PCI_MEMORY_LIMIT, 2) << 16 | 0xfffff;
    for (unsigned i = 0; i <= IVSHMEM_BAR_MEMORY; i++) {
        assert_in_range(fake_bar_base(f, i), base, limit + 1 - f->bar_size[i]);
    }
    assert_true(region->gpa == fake_bar_base(f, IVSHMEM_BAR_MEMORY));

    /* after resets too, however often: the old places are given out again */
    uint64_t first = shm->dev->bars[IVSHMEM_BAR_REGISTERS].base;
    for (unsigned i = 0; i < 3; i++) {
        ivshmem_free(shm);
        guest_memory_remove(memory, region);
        pci_bus_forget(bus);
        shm = ivshmem_new(pci_bus_find(bus, 1, 1, 0), &error);
        assert_non_null(shm);
        assert_true(shm->dev->bars[IVSHMEM_BAR_REGISTERS].base == first);
    }
    ivshmem_free(shm);
}

static void memory_that_another_machine_shows_goes_to_the_same_address(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct guest_memory *other = guest_memory_new();

    assert_true(guest_memory_place(other, region, UINT64_C(0x5000000000), &error));
    assert_true(ivshmem_map(plain, region, IVSHMEM_ANYWHERE, &error));
    expect_mapped(plain, 0, UINT64_C(0x5000000000));
    guest_memory_free(other);
}

static void expect_refused(uint64_t gpa, const char *text)
{
    g_autoptr(GError) error = NULL;

    assert_false(ivshmem_map(plain, region, gpa, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, text);
    assert_null(plain->region);
    assert_int_equal(region->gpa, GUEST_UNPLACED);
    assert_int_equal(fake_bar_base(&fake.functions[0], IVSHMEM_BAR_MEMORY), 0);
}

static void addresses_the_bar_cannot_have_are_refused(void **state)
{
    (void)state;
    expect_refused(0, "at 0x0");
    expect_refused(0xc0001000, "at 0xc0001000");
    expect_refused(UINT64_C(0) - MEMORY_BYTES, "at 0xfffffffffff00000"); /* ends at 2^64 - 1 */
}

static void an_address_the_bar_cannot_have_leaves_the_memory_where_it_was(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(ivshmem_map(plain, region, 0xc0000000, &error));
    assert_false(ivshmem_map(plain, region, UINT64_C(0) - MEMORY_BYTES, &error));
    expect_mapped(plain, 0, 0xc0000000);
}

static void memory_of_another_size_is_refused(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct guest_region *small =
        guest_region_new("small", MEMORY_BYTES / 2, GUEST_HUGEPAGES_OFF, &error);

    assert_false(ivshmem_map(plain, small, 0xc0000000, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "'small' has 0x80000");
    guest_region_free(small);
}

static void an_address_that_is_taken_is_refused_before_the_device_moves(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct guest_region *ram = guest_region_new("ram", 2 << 20, GUEST_HUGEPAGES_OFF, &error);

    assert_true(guest_memory_place(memory, ram, 0x100000, &error));
    assert_true(ivshmem_map(plain, region, 0xc0000000, &error));
    assert_false(ivshmem_map(plain, region, 0x200000, &error));
    expect_error(&error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_OVERLAP, "ram");
    expect_mapped(plain, 0, 0xc0000000);
    guest_memory_remove(memory, ram);
    guest_region_free(ram);
}

static void memory_that_could_not_be_placed_on_the_bus_is_not_in_the_map(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    fake.is_dead = true;
    assert_false(ivshmem_map(plain, region, 0xc0000000, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_CLOSED, "dead");
    assert_null(guest_memory_host(memory, 0xc0000000, 1));
    assert_null(plain->region);
}

#define machine_test(test) cmocka_unit_test_setup_teardown(test, open_machine, close_machine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        machine_test(a_new_driver_knows_its_variant_and_has_placed_all_but_the_memory),
        machine_test(a_function_that_is_placed_already_is_left_where_it_is),
        machine_test(functions_that_are_no_ivshmem_device_are_refused),
        machine_test(each_register_is_one_aligned_dword_at_its_offset),
        machine_test(a_position_that_is_no_peer_id_is_reported),
        machine_test(memory_goes_where_the_caller_wants_it_and_can_move),
        machine_test(memory_at_its_host_address_needs_no_translation),
        machine_test(memory_anywhere_finds_a_place_and_keeps_it),
        machine_test(behind_a_bridge_everything_lies_in_its_windows),
        machine_test(memory_that_another_machine_shows_goes_to_the_same_address),
        machine_test(addresses_the_bar_cannot_have_are_refused),
        machine_test(an_address_the_bar_cannot_have_leaves_the_memory_where_it_was),
        machine_test(memory_of_another_size_is_refused),
        machine_test(an_address_that_is_taken_is_refused_before_the_device_moves),
        machine_test(memory_that_could_not_be_placed_on_the_bus_is_not_in_the_map),
    };
    return cmocka_run_group_tests_name("ivshmem", tests, NULL, NULL);
}
