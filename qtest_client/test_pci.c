/* Finding functions, BARs, capabilities, registers by name: on a machine of plain bytes. */
#include "models/abi/ptnet.h"
#include "qtest_client/pci.h"
#include "qtest_client/test_fake_pci.h"

enum { VENDOR = 0x1af4, DEVICE = 0x1110, CAP_AT = 0x40 };

struct bed {
    struct fake_machine m;
    struct guest_memory *memory;
    struct pci_bus *bus;
};

static void bed_open(struct bed *b, enum machine_board board)
{
    b->memory = guest_memory_new();
    fake_machine_init(&b->m, board, b->memory);
    b->bus = pci_bus_new(&b->m.base);
}

static void bed_close(struct bed *b)
{
    pci_bus_free(b->bus);
    guest_memory_free(b->memory);
    fake_machine_clear(&b->m);
}

static void scan(struct bed *b)
{
    GError *error = NULL;

    if (!pci_bus_scan(b->bus, &error)) {
        fail_msg("scan: %s", error->message);
    }
}

static void assert_error(GError **error, int code, const char *part)
{
    assert_non_null(*error);
    assert_int_equal((*error)->domain, PCI_ERROR);
    assert_int_equal((*error)->code, code);
    if (!strstr((*error)->message, part)) {
        fail_msg("'%s' is not in '%s'", part, (*error)->message);
    }
    g_clear_error(error);
}

static void a_scan_finds_functions_in_bus_order_with_their_ids(void **state)
{
    struct bed b;

    (void)state;
    bed_open(&b, MACHINE_PC);
    fake_add(&b.m, 9, 0x8086, 0x10d3, 1);
    fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    scan(&b);
    GPtrArray *all = pci_bus_devices(b.bus);
    assert_int_equal(all->len, 2);
    struct pci_device *first = all->pdata[0], *second = all->pdata[1];
    assert_int_equal(first->slot, 4);
    assert_int_equal(first->vendor_id, VENDOR);
    assert_int_equal(first->device_id, DEVICE);
    assert_int_equal(second->slot, 9);
    assert_int_equal(second->interrupt_pin, 1);
    assert_ptr_equal(pci_bus_find(b.bus, 0, 9, 0), second);
    assert_ptr_equal(pci_bus_find_id(b.bus, VENDOR, DEVICE, 0), first);
    assert_null(pci_bus_find_id(b.bus, VENDOR, DEVICE, 1));
    g_autofree char *name = pci_device_describe(second);
    assert_string_equal(name, "00:09.0 e1000e");
    bed_close(&b);
}

static void bars_of_every_kind_are_sized_and_left_as_they_were(void **state)
{
    struct bed b;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    fake_add_bar(f, 0, 256, 0);
    f->config[PCI_BAR0 + 4] = PCI_BAR_SPACE_IO; /* I/O: bits 31:16 hardwired to 0 */
    fake_put(f->writable + PCI_BAR0 + 4, 4, 0xffe0);
    fake_add_bar(f, 2, 1 << 24, PCI_BAR_MEM_TYPE_64 | PCI_BAR_MEM_PREFETCH);
    fake_put(f->config + PCI_BAR0 + 8, 4, 0xc000000c);
    fake_add_bar(f, 4, 4096, PCI_BAR_MEM_PREFETCH);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_int_equal(dev->bars[0].kind, PCI_BAR_MEM32);
    assert_int_equal(dev->bars[0].size, 256);
    assert_false(dev->bars[0].prefetchable);
    assert_int_equal(dev->bars[1].kind, PCI_BAR_IO);
    assert_int_equal(dev->bars[1].size, 32);
    assert_int_equal(dev->bars[2].kind, PCI_BAR_MEM64);
    assert_int_equal(dev->bars[2].size, 1 << 24);
    assert_true(dev->bars[2].prefetchable);
    assert_int_equal(dev->bars[3].kind, PCI_BAR_NONE);
    assert_int_equal(dev->bars[3].size, 0);
    assert_int_equal(dev->bars[4].kind, PCI_BAR_MEM32);
    assert_int_equal(dev->bars[4].size, 4096);
    assert_true(dev->bars[4].prefetchable);
    assert_int_equal(dev->bars[5].size, 0);
    assert_int_equal(fake_get(f->config + PCI_BAR0 + 8, 4), 0xc000000c);
    assert_int_equal(fake_get(f->config + PCI_COMMAND, 2), 0);
    bed_close(&b);
}

static void a_bar_beyond_4_gib_keeps_its_size(void **state)
{
    struct bed b;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    f->config[PCI_BAR0] = PCI_BAR_MEM_TYPE_64;
    fake_put(f->writable + PCI_BAR0, 8, ~((UINT64_C(8) << 30) - 1));
    scan(&b);
    assert_true(pci_bus_find(b.bus, 0, 4, 0)->bars[0].size == UINT64_C(8) << 30);
    bed_close(&b);
}

static void enabling_places_bars_aligned_disjoint_and_switches_decoding_on(void **state)
{
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    struct fake_function *g = fake_add(&b.m, 5, VENDOR, DEVICE, 0);
    fake_add_bar(f, 0, 256, 0);
    fake_add_bar(f, 2, 1 << 20, PCI_BAR_MEM_TYPE_64 | PCI_BAR_MEM_PREFETCH);
    fake_add_bar(g, 0, 1 << 16, 0);
    scan(&b);
    struct pci_device *x = pci_bus_find(b.bus, 0, 4, 0), *y = pci_bus_find(b.bus, 0, 5, 0);
    assert_true(pci_device_enable(x, &error));
    assert_true(pci_device_enable(y, &error));
    assert_int_equal(x->bars[0].base % 4096, 0); /* a page of its own */
    assert_int_equal(x->bars[2].base % (1 << 20), 0);
    assert_int_equal(y->bars[0].base % (1 << 16), 0);
    assert_true(y->bars[0].base + y->bars[0].size <= x->bars[0].base ||
                x->bars[0].base + 256 <= y->bars[0].base);
    assert_int_equal(fake_get(f->config + PCI_COMMAND, 2), 7);
    assert_true(fake_bar_base(f, 2) == x->bars[2].base);
    uint64_t value;
    f->bar[0][4] = 0x5a;
    assert_true(pci_bar_read(x, 0, 4, 1, &value, &error));
    assert_int_equal(value, 0x5a);
    assert_false(pci_bar_read(x, 0, 256, 1, &value, &error));
    assert_error(&error, PCI_ERROR_INVALID, "beyond BAR 0 of 0x100 bytes");
    assert_false(pci_bar_read(x, 0, 254, 4, &value, &error));
    assert_error(&error, PCI_ERROR_INVALID, "beyond BAR 0");
    assert_false(pci_bar_read(x, 1, 0, 1, &value, &error));
    assert_error(&error, PCI_ERROR_NOT_FOUND, "has no BAR 1");
    bed_close(&b);
}

static void a_bar_goes_only_where_it_can(void **state)
{
    struct bed b;
    GError *error = NULL;
    uint64_t value;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    fake_add_bar(f, 0, 4096, 0);
    fake_add_bar(f, 2, 1 << 20, PCI_BAR_MEM_TYPE_64);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_false(pci_bar_read(dev, 0, 0, 4, &value, &error));
    assert_error(&error, PCI_ERROR_NOT_FOUND, "has no address yet");
    assert_false(pci_bar_place(dev, 0, 0xe0000100, &error));
    assert_error(&error, PCI_ERROR_INVALID, "cannot lie at 0xe0000100");
    assert_false(pci_bar_place(dev, 0, 0x100000000, &error));
    assert_error(&error, PCI_ERROR_INVALID, "last address 0xffffffff");
    /* ending at the last address means "not mapped" to QEMU */
    assert_false(pci_bar_place(dev, 2, UINT64_MAX - (1 << 20) + 1, &error));
    assert_error(&error, PCI_ERROR_INVALID, "cannot lie at");
    assert_true(pci_bar_place(dev, 2, 0x7f1234000000, &error));
    assert_true(fake_get(f->config + PCI_BAR0 + 8, 8) == (0x7f1234000000 | PCI_BAR_MEM_TYPE_64));
    assert_false(pci_bar_place(dev, 3, 0, &error));
    assert_error(&error, PCI_ERROR_NOT_FOUND, "has no BAR 3");
    bed_close(&b);
}

static void after_a_reset_addresses_are_given_anew(void **state)
{
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_PC);
    fake_add_bar(fake_add(&b.m, 4, VENDOR, DEVICE, 0), 0, 4096, 0);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_true(pci_device_enable(dev, &error));
    uint64_t first = dev->bars[0].base;
    pci_bus_forget(b.bus);
    assert_int_equal(dev->bars[0].base, 0);
    scan(&b);
    assert_ptr_equal(pci_bus_find(b.bus, 0, 4, 0), dev); /* the same handle */
    assert_true(pci_device_enable(dev, &error));
    assert_int_equal(dev->bars[0].base, first);
    bed_close(&b);
}

static void a_function_that_left_gives_its_addresses_back(void **state)
{
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    fake_add_bar(f, 0, 4096, 0);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_true(pci_device_enable(dev, &error));
    uint64_t first = dev->bars[0].base;
    f->slot = 7; /* moves: the one in slot 4 is gone, another is in slot 7 */
    memset(f->config + PCI_BAR0, 0, 4);
    scan(&b);
    assert_int_equal(pci_bus_devices(b.bus)->len, 1);
    assert_null(pci_bus_find(b.bus, 0, 4, 0));
    struct pci_device *other = pci_bus_find(b.bus, 0, 7, 0);
    assert_true(pci_device_enable(other, &error));
    assert_int_equal(other->bars[0].base, first);
    assert_int_equal(dev->slot, 4); /* the old handle is still readable */
    bed_close(&b);
}

static void bridges_get_bus_numbers_and_windows_that_hold_what_is_behind(void **state)
{
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *outer = fake_add_bridge(&b.m, 0, 3);
    struct fake_function *inner = fake_add_bridge(&b.m, 1, 2);
    struct fake_function *leaf = fake_add(&b.m, 1, VENDOR, DEVICE, 0);
    leaf->bus = 2;
    fake_add_bar(leaf, 0, 4096, 0);
    fake_add_bar(leaf, 2, 1 << 26, PCI_BAR_MEM_TYPE_64 | PCI_BAR_MEM_PREFETCH);
    scan(&b);
    assert_int_equal(pci_bus_devices(b.bus)->len, 3);
    assert_int_equal(outer->config[PCI_SECONDARY_BUS], 1);
    assert_int_equal(inner->config[PCI_PRIMARY_BUS], 1);
    assert_int_equal(inner->config[PCI_SECONDARY_BUS], 2);
    assert_in_range(inner->config[PCI_SUBORDINATE_BUS], 2, outer->config[PCI_SUBORDINATE_BUS]);
    struct pci_device *dev = pci_bus_find(b.bus, 2, 1, 0);
    assert_non_null(dev);
    assert_true(pci_device_enable(dev, &error));
    for (unsigned i = 0; i < 2; i++) {
        const struct fake_function *bridge = i ? inner : outer;
        uint64_t base = fake_get(bridge->config + PCI_MEMORY_BASE, 2) << 16;
        uint64_t limit = (fake_get(bridge->config + PCI_MEMORY_LIMIT, 2) << 16) | 0xfffff;
        assert_in_range(dev->bars[0].base, base, limit - 4095);
        base = (fake_get(bridge->config + PCI_PREF_MEMORY_BASE, 2) & 0xfff0) << 16 |
               fake_get(bridge->config + PCI_PREF_BASE_UPPER32, 4) << 32;
        limit = (fake_get(bridge->config + PCI_PREF_MEMORY_LIMIT, 2) & 0xfff0) << 16 | 0xfffff |
                fake_get(bridge->config + PCI_PREF_LIMIT_UPPER32, 4) << 32;
        assert_true(dev->bars[2].base >= base && dev->bars[2].base + (1 << 26) - 1 <= limit);
        assert_int_equal(fake_get(bridge->config + PCI_COMMAND, 2), 7);
    }
    bed_close(&b);
}

static void a_function_is_not_taken_for_another_device_with_its_ids(void **state)
{
    struct bed b;

    (void)state;
    bed_open(&b, MACHINE_Q35);
    struct fake_function *port = fake_add_bridge(&b.m, 0, 3); /* pcie-root-port */
    fake_put(port->config + PCI_VENDOR_ID, 2, PTNETMAP_PCI_VENDOR_ID);
    fake_put(port->config + PCI_DEVICE_ID, 2, PTNETMAP_PCI_DEVICE_ID);
    fake_add_bar(port, 0, 4096, 0);
    fake_add_bar(fake_add(&b.m, 4, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_NETIF_ID, 1), 0, 16384,
                 PCI_BAR_MEM_TYPE_64); /* qemu-xhci */
    fake_add_bar(fake_add(&b.m, 5, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_DEVICE_ID, 0), 0, 128,
                 PCI_BAR_SPACE_IO);
    fake_add_bar(fake_add(&b.m, 6, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_NETIF_ID, 1), 0, 256,
                 PCI_BAR_SPACE_IO);
    scan(&b);
    static const char *const names[] = {"00:03.0 1b36:000c", "00:04.0 1b36:000d",
                                        "00:05.0 ptnetmap-memdev", "00:06.0 ptnet-pci"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *name = pci_device_describe(pci_bus_find(b.bus, 0, 3 + i, 0));
        assert_string_equal(name, names[i]);
    }
    bed_close(&b);
}

static uint64_t window_base(const struct fake_function *bridge)
{
    return fake_get(bridge->config + PCI_MEMORY_BASE, 2) << 16;
}

static uint64_t window_limit(const struct fake_function *bridge)
{
    return (fake_get(bridge->config + PCI_MEMORY_LIMIT, 2) << 16) | 0xfffff;
}

static void bridges_below_bridges_leave_room_at_every_level(void **state)
{
    enum { DEPTH = 6 };
    struct fake_function *bridges[DEPTH];
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_Q35);
    for (unsigned i = 0; i < DEPTH; i++) {
        bridges[i] = fake_add_bridge(&b.m, (uint8_t)i, 1);
        fake_put(bridges[i]->writable + PCI_BAR0, 4, 0xfffff000); /* a BAR of its own */
    }
    struct fake_function *leaf = fake_add(&b.m, 1, VENDOR, DEVICE, 0);
    leaf->bus = DEPTH;
    fake_add_bar(leaf, 0, 1 << 25, 0);
    leaf->config[PCI_BAR0 + 4] = PCI_BAR_SPACE_IO;
    fake_put(leaf->writable + PCI_BAR0 + 4, 4, 0xffe0);
    scan(&b);
    for (unsigned i = 0; i <= DEPTH; i++) {
        struct pci_device *dev = pci_bus_find(b.bus, i, 1, 0);
        assert_non_null(dev);
        if (!pci_device_enable(dev, &error)) {
            fail_msg("%s", error->message);
        }
        for (unsigned k = 0; k < i; k++) { /* everything above forwards what it was given */
            assert_in_range(dev->bars[0].base, window_base(bridges[k]), window_limit(bridges[k]));
            assert_in_range(i, bridges[k]->config[PCI_SECONDARY_BUS],
                            bridges[k]->config[PCI_SUBORDINATE_BUS]);
        }
    }
    uint64_t port = pci_bus_find(b.bus, DEPTH, 1, 0)->bars[1].base;
    for (unsigned k = 0; k < DEPTH; k++) {
        assert_in_range(port, (bridges[k]->config[PCI_IO_BASE] & 0xf0) << 8,
                        (bridges[k]->config[PCI_IO_LIMIT] & 0xf0) << 8 | 0xfff);
    }
    bed_close(&b);
}

static void bridges_side_by_side_get_bus_numbers_by_need(void **state)
{
    struct bed b;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *first = fake_add_bridge(&b.m, 0, 1),
                         *second = fake_add_bridge(&b.m, 0, 2);
    struct fake_function *third = fake_add_bridge(&b.m, 0, 3);
    scan(&b);
    struct fake_function *late = fake_add_bridge(&b.m, first->config[PCI_SECONDARY_BUS], 1);
    scan(&b);
    assert_int_equal(first->config[PCI_SECONDARY_BUS], 1);
    assert_int_equal(late->config[PCI_SECONDARY_BUS], 2); /* found room where it was plugged in */
    assert_in_range(late->config[PCI_SUBORDINATE_BUS], 2, first->config[PCI_SUBORDINATE_BUS]);
    assert_int_equal(second->config[PCI_SECONDARY_BUS], first->config[PCI_SUBORDINATE_BUS] + 1);
    assert_int_equal(third->config[PCI_SECONDARY_BUS], second->config[PCI_SUBORDINATE_BUS] + 1);
    assert_in_range(third->config[PCI_SUBORDINATE_BUS], third->config[PCI_SECONDARY_BUS], 20);
    assert_true(window_base(first) > 0 && window_limit(first) > window_base(first));
    assert_true(window_limit(first) < window_base(second) ||
                window_limit(second) < window_base(first));
    bed_close(&b);
}

static void a_bridge_loses_its_own_bar_with_a_reset_and_keeps_its_windows(void **state)
{
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add_bridge(&b.m, 0, 3);
    fake_put(f->writable + PCI_BAR0, 4, 0xfffff000);
    scan(&b);
    struct pci_device *bridge = pci_bus_find(b.bus, 0, 3, 0);
    uint64_t window = window_base(f);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(pci_device_enable(bridge, &error));
        uint64_t base = bridge->bars[0].base;
        assert_true(base != 0);
        assert_int_equal(fake_get(f->config + PCI_BAR0, 4), base);
        memset(f->config + PCI_COMMAND, 0, 2);
        memset(f->config + PCI_BAR0, 0, PCI_CAPABILITY_LIST - PCI_BAR0);
        pci_bus_forget(b.bus);
        assert_int_equal(bridge->bars[0].base, 0);
        scan(&b);
        assert_int_equal(f->config[PCI_SECONDARY_BUS], 1);
        assert_int_equal(window_base(f), window);
        assert_true(pci_bus_reserve(b.bus, PCI_BAR_MEM32, 4096, &base, &error));
        assert_true(base < window || base > window_limit(f));
    }
    bed_close(&b);
}

static void a_function_reset_by_itself_is_noticed_by_the_next_scan(void **state)
{
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *reset = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    struct fake_function *other = fake_add(&b.m, 5, VENDOR, DEVICE, 0);
    fake_add_bar(reset, 0, 4096, 0);
    fake_add_bar(other, 0, 4096, 0);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0), *next = pci_bus_find(b.bus, 0, 5, 0);
    assert_true(pci_device_enable(dev, &error) && pci_device_enable(next, &error));
    uint64_t base = next->bars[0].base;
    fake_put(reset->config + PCI_BAR0, 4, 0);
    scan(&b);
    assert_int_equal(dev->bars[0].base, 0);
    assert_int_equal(next->bars[0].base, base);
    assert_true(pci_device_enable(dev, &error));
    assert_true(dev->bars[0].base != 0 && dev->bars[0].base != base);
    assert_int_equal(fake_get(reset->config + PCI_BAR0, 4), dev->bars[0].base);
    bed_close(&b);
}

static void capabilities_are_walked_in_order_and_a_loop_is_named(void **state)
{
    struct bed b;
    GError *error = NULL;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    fake_put(f->config + PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
    f->config[PCI_CAPABILITY_LIST] = 0x50;
    fake_put(f->config + 0x50, 2, PCI_CAP_ID_VENDOR | CAP_AT << 8);
    f->config[0x52] = 16;
    fake_put(f->config + CAP_AT, 4, PCI_CAP_ID_MSIX | 2 << 16);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_int_equal(dev->capabilities->len, 2);
    assert_int_equal(pci_find_capability(dev, PCI_CAP_ID_VENDOR, 0)->offset, 0x50);
    assert_int_equal(pci_find_capability(dev, PCI_CAP_ID_VENDOR, 0)->length, 16);
    assert_null(pci_find_capability(dev, PCI_CAP_ID_VENDOR, 1));
    assert_int_equal(dev->msix_cap, CAP_AT);
    assert_int_equal(dev->msix_n, 3);

    f->config[CAP_AT + 1] = 0x50;
    f->slot = 5; /* a new function, so that it is probed again */
    assert_false(pci_bus_scan(b.bus, &error));
    assert_error(&error, PCI_ERROR_BROKEN, "capability list loops at 0x50");
    assert_null(pci_bus_find(b.bus, 0, 5, 0)); /* it is not half known: the next scan says so too */
    assert_false(pci_bus_scan(b.bus, &error));
    assert_error(&error, PCI_ERROR_BROKEN, "capability list loops at 0x50");
    f->config[CAP_AT + 1] = 0x10;
    f->slot = 6;
    assert_false(pci_bus_scan(b.bus, &error));
    assert_error(&error, PCI_ERROR_BROKEN, "points into the header at 0x10");
    bed_close(&b);
}

static void registers_are_found_by_name_and_the_nearest_is_suggested(void **state)
{
    struct bed b;
    GError *error = NULL;
    uint64_t value;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    fake_add_bar(f, 0, 256, 0);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_true(pci_device_enable(dev, &error));
    const struct pci_block *regs = pci_find_block(dev, "regs", &error);
    const struct abi_reg *position = pci_find_register(regs, "IVPosition", &error);
    fake_put(f->bar[0] + 8, 4, 0x1234);
    assert_true(pci_reg_read(dev, regs, position, 0, &value, &error));
    assert_int_equal(value, 0x1234);
    assert_null(pci_find_block(dev, "reg", &error));
    assert_error(&error, PCI_ERROR_NOT_FOUND, "did you mean 'regs'?");
    assert_null(pci_find_register(regs, "IVposition", &error));
    assert_error(&error, PCI_ERROR_NOT_FOUND, "did you mean 'IVPosition'?");
    assert_null(pci_find_register(regs, "zzzzzzzzzzzzzz", &error));
    assert_error(&error, PCI_ERROR_NOT_FOUND, "it has IntrMask, IntrStatus");
    const struct pci_block *config = pci_find_block(dev, "config", &error);
    const struct abi_reg *command = pci_find_register(config, "command", &error);
    assert_non_null(pci_find_field(command, "bus_master", &error));
    assert_null(pci_find_field(command, "bus_mastr", &error));
    assert_error(&error, PCI_ERROR_NOT_FOUND, "did you mean 'bus_master'?");
    assert_false(pci_reg_write(dev, config, command, 0, 0x10000, &error));
    assert_error(&error, PCI_ERROR_INVALID, "too wide for config.command, which has 16 bits");
    assert_false(pci_reg_read(dev, regs, position, 1, &value, &error));
    assert_error(&error, PCI_ERROR_INVALID, "elements 0 to 0, not 1");
    assert_false(pci_block_read(dev, regs, 253, 4, &value, &error));
    assert_error(&error, PCI_ERROR_INVALID, "beyond block 'regs'");
    bed_close(&b);
}

static void what_a_word_was_meant_to_be_is_the_nearest_or_begins_so(void **state)
{
    static const char *const names[] = {"ivshmem-plain", "edu", "ivshmem-doorbell", "edux"};

    (void)state;
    assert_string_equal(pci_nearest_name("ivshmem-plane", names, 4), "ivshmem-plain");
    assert_string_equal(pci_nearest_name("EDUX", names, 4), "edux");
    assert_string_equal(pci_nearest_name("ivs", names, 4), "ivshmem-plain"); /* the shorter */
    assert_string_equal(pci_nearest_name("e", names, 4), "edu");
    assert_null(pci_nearest_name("virtio-net-pci", names, 4));
    assert_null(pci_nearest_name("", names, 4));
    assert_null(pci_nearest_name("edu", names, 0));
}

static void accesses_decode_to_block_register_and_element(void **state)
{
    struct bed b;
    GError *error = NULL;
    const struct pci_block *block;
    const struct abi_reg *reg;
    uint32_t index;

    (void)state;
    bed_open(&b, MACHINE_PC);
    struct fake_function *f = fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    fake_add_bar(f, 0, 256, 0);
    fake_add_msix(f, 1, 4);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_true(pci_device_enable(dev, &error));
    struct machine_access a = {dev->bars[0].base + 0xc, 0, MACHINE_MEM, 4, true};
    assert_true(pci_device_decode(dev, &a, &block, &reg, &index));
    assert_string_equal(block->name, "regs");
    assert_string_equal(reg->name, "Doorbell");
    a.addr = dev->bars[1].base + 2 * 16 + 8;
    assert_true(pci_device_decode(dev, &a, &block, &reg, &index));
    assert_string_equal(block->name, "msix_table");
    assert_string_equal(reg->name, "message_data");
    assert_int_equal(index, 2);
    a.addr = dev->bars[0].base + 256;
    assert_false(pci_device_decode(dev, &a, &block, &reg, &index) && block->bar == 0);
    a.addr = dev->bars[0].base + 0x80;
    assert_true(pci_device_decode(dev, &a, &block, &reg, &index));
    assert_null(reg); /* a hole */
    bed_close(&b);
}

static void configuration_accesses_are_checked(void **state)
{
    struct bed b;
    GError *error = NULL;
    uint64_t value;
    uint8_t bytes[8];

    (void)state;
    bed_open(&b, MACHINE_PC);
    fake_add(&b.m, 4, VENDOR, DEVICE, 0);
    scan(&b);
    struct pci_device *dev = pci_bus_find(b.bus, 0, 4, 0);
    assert_true(pci_config_read(dev, 2, 2, &value, &error));
    assert_int_equal(value, DEVICE);
    assert_true(pci_config_read_bytes(dev, 1, 3, bytes, &error));
    assert_int_equal(bytes[0], VENDOR >> 8);
    assert_int_equal(bytes[1], DEVICE & 0xff);
    assert_int_equal(bytes[2], DEVICE >> 8);
    assert_false(pci_config_read(dev, 3, 2, &value, &error));
    assert_error(&error, PCI_ERROR_INVALID, "offset 0x3");
    assert_false(pci_config_read(dev, 256, 4, &value, &error));
    assert_error(&error, PCI_ERROR_INVALID, "below 256");
    assert_false(pci_config_write(dev, 4, 1, 0x100, &error));
    assert_error(&error, PCI_ERROR_INVALID, "too wide");
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_finds_functions_in_bus_order_with_their_ids),
        cmocka_unit_test(bars_of_every_kind_are_sized_and_left_as_they_were),
        cmocka_unit_test(a_bar_beyond_4_gib_keeps_its_size),
        cmocka_unit_test(enabling_places_bars_aligned_disjoint_and_switches_decoding_on),
        cmocka_unit_test(a_bar_goes_only_where_it_can),
        cmocka_unit_test(after_a_reset_addresses_are_given_anew),
        cmocka_unit_test(a_function_that_left_gives_its_addresses_back),
        cmocka_unit_test(bridges_get_bus_numbers_and_windows_that_hold_what_is_behind),
        cmocka_unit_test(a_function_is_not_taken_for_another_device_with_its_ids),
        cmocka_unit_test(bridges_below_bridges_leave_room_at_every_level),
        cmocka_unit_test(bridges_side_by_side_get_bus_numbers_by_need),
        cmocka_unit_test(a_bridge_loses_its_own_bar_with_a_reset_and_keeps_its_windows),
        cmocka_unit_test(a_function_reset_by_itself_is_noticed_by_the_next_scan),
        cmocka_unit_test(capabilities_are_walked_in_order_and_a_loop_is_named),
        cmocka_unit_test(registers_are_found_by_name_and_the_nearest_is_suggested),
        cmocka_unit_test(what_a_word_was_meant_to_be_is_the_nearest_or_begins_so),
        cmocka_unit_test(accesses_decode_to_block_register_and_element),
        cmocka_unit_test(configuration_accesses_are_checked),
    };
    return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
