/*
 * The register prober against a device made up here, whose registers answer in every way that the
 * prober tells apart; and the comparison of snapshots.
 */
#include "harness/regs.h"
#include "models/abi/pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- a device made up ---- */

enum {
    SLOT = 4,
    BAR_BASE = 0xe0000000,
    BAR_BYTES = 0x100,
    PLAIN = 0x00,    /* bits 23:8 can be written */
    CLEAR1 = 0x04,   /* write 1 to clear, 0xf after reset */
    SET1 = 0x08,     /* write 1 to set bits 7:0 */
    CLEARS = 0x0c,   /* reading clears */
    INVERTED = 0x10, /* reads inverted */
    SIZE = 0x14,     /* takes powers of two up to 0x400, reset 0x100; 2 bytes */
    CONTROL = 0x18,  /* writing 1 clears PLAIN, 2 changes KEPT; writing ones ends the device */
    CLOCK = 0x1c,    /* counts reads */
    KEPT = 0x20,     /* a system reset leaves it alone; only 4-byte accesses */
    FRAGILE = 0x24,  /* must not be written */
    VECTOR = 0x28,   /* takes 0 to 3, what is greater becomes 0xffff; 2 bytes */
};

struct fake {
    struct regs_bed bed;
    struct machine machine;
    struct machine_ops ops;
    struct pci_device dev;
    struct pci_block regs;
    uint32_t config_address;
    uint32_t plain, clear1, set1, clears, inverted, clock, kept;
    uint16_t size, vector;
    uint32_t command;
    bool is_dead, was_fragile_written;
    unsigned n_restarts;
};

static uint32_t fake_read(struct fake *f, uint32_t at)
{
    uint32_t value;

    switch (at) {
    case PLAIN:
        return f->plain;
    case CLEAR1:
        return f->clear1;
    case SET1:
        return f->set1;
    case CLEARS:
        value = f->clears;
        f->clears = 0;
        return value;
    case INVERTED:
        return ~f->inverted;
    case SIZE:
        return f->size;
    case VECTOR:
        return f->vector;
    case CLOCK:
        return f->clock++;
    case KEPT:
        return f->kept;
    default:
        return 0;
    }
}

static void fake_write(struct fake *f, uint32_t at, uint32_t value)
{
    switch (at) {
    case PLAIN:
        f->plain = value & 0x00ffff00;
        break;
    case CLEAR1:
        f->clear1 &= ~value;
        break;
    case SET1:
        f->set1 |= value & 0xff;
        break;
    case CLEARS:
        f->clears = value;
        break;
    case INVERTED:
        f->inverted = value;
        break;
    case SIZE:
        if (value && value <= 0x400 && !(value & (value - 1)))
            f->size = (uint16_t)value;
        break;
    case CONTROL:
        if (value == 1)
            f->plain = 0;
        if (value == 2)
            f->kept = 2;
        f->is_dead = value == UINT32_MAX;
        break;
    case KEPT:
        f->kept = value;
        break;
    case VECTOR:
        f->vector = (uint16_t)value < 4 ? (uint16_t)value : 0xffff;
        break;
    case FRAGILE:
        f->was_fragile_written = true;
        break;
    default:
        break;
    }
}

/* Narrow accesses reach their part of a register, except KEPT, which wants 4 bytes. */
static void access_bar(struct fake *f, struct machine_access *a)
{
    uint32_t at = (uint32_t)(a->addr - BAR_BASE);
    uint32_t start = at & ~3u, shift = 8 * (at & 3);
    uint32_t mask = a->width >= 4 ? UINT32_MAX : (1u << (8 * a->width)) - 1;

    if (a->width == 8) {
        struct machine_access half = *a;
        half.width = 4;
        half.value = (uint32_t)a->value;
        access_bar(f, &half);
        uint64_t low = half.value;
        half.addr += 4;
        half.value = a->value >> 32;
        access_bar(f, &half);
        if (!a->is_write)
            a->value = low | half.value << 32;
    } else if (at >= BAR_BYTES || (start == KEPT && a->width != 4)) {
        a->value = 0;
    } else if (!a->is_write) {
        a->value = (fake_read(f, start) >> shift) & mask;
    } else {
        uint32_t whole = start == CONTROL || start == CLOCK ? 0 : fake_read(f, start);
        if (start == INVERTED)
            whole = ~whole;
        if (start == CLEAR1 || start == SET1)
            whole = 0; /* ones act, zeros do not */
        fake_write(f, start, (whole & ~(mask << shift)) | ((uint32_t)a->value & mask) << shift);
    }
}

static void access_config(struct fake *f, struct machine_access *a)
{
    uint32_t at = (f->config_address & 0xfc) + (uint32_t)(a->addr - PCI_CONFIG_DATA_PORT);

    if (a->is_write && at == PCI_COMMAND)
        f->command = (uint32_t)a->value & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    if (!a->is_write)
        a->value = at == PCI_COMMAND ? f->command : 0;
}

static bool fake_run(struct machine *m, struct machine_access *accesses, size_t n, GError **error)
{
    struct fake *f = (struct fake *)((char *)m - offsetof(struct fake, machine));

    for (size_t i = 0; i < n; i++) {
        struct machine_access *a = &accesses[i];

        if (f->is_dead) {
            g_set_error(error, QTEST_ERROR, QTEST_ERROR_CLOSED, "gone");
            return false;
        }
        if (a->space == MACHINE_MEM)
            access_bar(f, a);
        else if (a->addr == PCI_CONFIG_ADDRESS_PORT)
            f->config_address = (uint32_t)a->value;
        else
            access_config(f, a);
    }
    return true;
}

static bool fake_reset(struct regs_bed *bed, bool is_restart, enum regs_mode mode, GError **error)
{
    struct fake *f = (struct fake *)bed;

    if (f->is_dead && !is_restart) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_CLOSED, "gone");
        return false;
    }
    f->plain = f->set1 = f->clears = f->inverted = 0;
    f->clear1 = 0xf;
    f->size = 0x100;
    f->vector = 0xffff;
    f->command = mode == REGS_PLAIN ? 0 : PCI_COMMAND_MEMORY;
    if (is_restart) {
        f->kept = 0x12345678;
        f->is_dead = false;
        f->n_restarts++;
    }
    return true;
}

static char *fake_ended(struct regs_bed *bed)
{
    return ((struct fake *)bed)->is_dead ? g_strdup("was killed by signal 6 (Aborted)") : NULL;
}

#define REG(name, offset, width, access, flags, reset)                                             \
    {                                                                                              \
        name, offset, width, access, flags, reset, NULL, 0, 1, 0, "made up"                        \
    }
static const struct abi_reg fake_regs[] = {
    REG("plain", PLAIN, 4, ABI_RW, 0, 0),
    REG("clear1", CLEAR1, 4, ABI_RW1C, 0, 0xe),
    REG("set1", SET1, 4, ABI_RW1S, 0, 0),
    REG("clears", CLEARS, 4, ABI_RC, 0, 0),
    REG("inverted", INVERTED, 4, ABI_RW, 0, UINT32_MAX),
    REG("size", SIZE, 2, ABI_RW, 0, 0x100),
    REG("control", CONTROL, 4, ABI_WO, 0, 0),
    REG("clock", CLOCK, 4, ABI_RO, ABI_VARIES, 0),
    REG("kept", KEPT, 4, ABI_RW, ABI_VARIES, 0),
    REG("fragile", FRAGILE, 4, ABI_RW, ABI_UNSAFE, 0),
    REG("vector", VECTOR, 2, ABI_RW, 0, 0xffff),
};
static const struct abi_block fake_block = {"regs", "made up", BAR_BYTES,
                                            0,      fake_regs, ABI_COUNT(fake_regs)};
static const struct abi_reset fake_resets[] = {{"regs", "control", 1}};
static const struct abi_device fake_abi = {.name = "fake",
                                           .what = "made up",
                                           .vendor_id = 0x1234,
                                           .device_ids = {0x5678},
                                           .resets = fake_resets,
                                           .n_resets = 1};

static void fake_init(struct fake *f, bool has_table)
{
    memset(f, 0, sizeof(*f));
    f->ops.run = fake_run;
    f->machine.ops = &f->ops;
    f->regs = (struct pci_block){
        .abi = &fake_block, .name = (char *)(uintptr_t) "regs", .size = BAR_BYTES, .count = 1};
    f->dev.machine = &f->machine;
    f->dev.slot = SLOT;
    f->dev.vendor_id = 0x1234;
    f->dev.device_id = 0x5678;
    f->dev.bars[0] = (struct pci_bar){PCI_BAR_MEM32, false, BAR_BYTES, BAR_BASE};
    f->dev.capabilities = g_array_new(FALSE, FALSE, sizeof(struct pci_capability));
    f->dev.blocks = g_ptr_array_new();
    if (has_table) {
        f->dev.abi = &fake_abi;
        g_ptr_array_add(f->dev.blocks, &f->regs);
    }
    f->bed.dev = &f->dev;
    f->bed.reset = fake_reset;
    f->bed.ended = fake_ended;
}

static void fake_clear(struct fake *f)
{
    g_array_unref(f->dev.capabilities);
    g_ptr_array_unref(f->dev.blocks);
}

/* The snapshot of the device with its table, made once. */
static struct fake fake;
static char *fake_text;

static int take_snapshot(void **state)
{
    struct regs_options options = {0};
    GError *error = NULL;

    (void)state;
    fake_init(&fake, true);
    fake_text = regs_snapshot(&fake.bed, &options, &error);
    if (!fake_text)
        print_error("%s\n", error->message);
    return fake_text ? 0 : -1;
}

static int free_snapshot(void **state)
{
    (void)state;
    g_free(fake_text);
    fake_clear(&fake);
    return 0;
}

/* The paragraph that starts with `name`, without that line. */
static void assert_paragraph(const char *text, const char *name, const char *expected)
{
    g_autofree char *start = g_strdup_printf("\n\n%s", name);
    const char *at = strstr(text, start);

    if (!at) {
        fail_msg("no paragraph %s in:\n%s", name, text);
        return;
    }
    at = strchr(at + 2, '\n') + 1;
    const char *end = strstr(at, "\n\n");
    g_autofree char *body = end ? g_strndup(at, (gsize)(end + 1 - at)) : g_strdup(at);
    assert_string_equal(body, expected);
}

/* ---- what it finds out ---- */

static void bits_that_read_back_are_told_from_those_that_do_not(void **state)
{
    (void)state;
    assert_paragraph(
        fake_text, "regs.plain +0x00 4 RW",
        "  reset     0x00000000\n"
        "  bits      read/write 0x00ffff00\n"
        "  resets    regs.control = 0x1 restores; system reset restores (0x00a69700)\n");
}

static void write_one_to_clear_is_recognised_and_a_wrong_table_is_noted(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.clear1 +0x04 4 RW1C",
                     "  reset     0x0000000f (its table says 0x0000000e)\n"
                     "  bits      write 1 clears 0x0000000f\n"
                     "  resets    regs.control = 0x1 keeps; system reset restores (0x00000007)\n");
}

static void write_one_to_set_is_recognised(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.set1 +0x08 4 RW1S",
                     "  reset     0x00000000\n"
                     "  bits      write 1 sets 0x000000ff\n"
                     "  resets    regs.control = 0x1 keeps; system reset restores (0x00000088)\n");
}

static void clearing_by_reading_is_recognised(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.clears +0x0c 4 RC",
                     "  reset     0x00000000\n"
                     "  bits      read clears 0xffffffff\n"
                     "  resets    regs.control = 0x1 keeps; system reset restores (0xb5a69788)\n");
}

static void a_register_that_reads_inverted_is_recognised(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.inverted +0x10 4 RW",
                     "  reset     0xffffffff\n"
                     "  bits      inverted 0xffffffff\n"
                     "  resets    regs.control = 0x1 keeps; system reset restores (0x4a596877)\n"
                     "  reads     8: 0x000001004a596877\n"
                     "  writes    1: 0xffffff00 0xffff00ff 0xff00ffff 0x00ffffff; "
                     "2: 0xffff0000 0x0000ffff\n");
}

static void a_register_that_checks_its_value_shows_the_bits_it_takes_one_by_one(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.size +0x14 2 RW",
                     "  reset     0x0100\n"
                     "  bits      one by one 0x07ff\n"
                     "  resets    regs.control = 0x1 keeps; system reset restores (0x0001)\n"
                     "  reads     4: 0x00000001\n");
}

static void a_register_with_a_limit_shows_the_bits_below_it_one_by_one(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.vector +0x28 2 RW",
                     "  reset     0xffff\n"
                     "  bits      read/write 0xffff, one by one 0x0003\n"
                     "  resets    regs.control = 0x1 keeps; system reset restores (0x0000)\n"
                     "  reads     4: 0x00000000; 8: 0x0000000000000000\n");
}

static void a_write_that_ends_the_device_is_reported_and_probing_goes_on(void **state)
{
    (void)state;
    assert_non_null(strstr(fake_text, "\nregs.control +0x18 4 WO\n"));
    assert_non_null(
        strstr(fake_text, "  ends      writing ones: QEMU was killed by signal 6 (Aborted)\n"));
    assert_non_null(strstr(fake_text, "\nregs.fragile +0x24 4 RW\n"));
    assert_non_null(strstr(fake_text, "\nbar 0 end\n"));
}

static void a_register_that_changes_by_itself_is_not_compared(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.clock +0x1c 4 RO", "  reset     varies\n");
}

static void a_value_that_a_system_reset_keeps_is_reported_and_cleared_by_a_restart(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.kept +0x20 4 RW",
                     "  reset     0x12345678\n"
                     "  bits      read/write 0xffffffff\n"
                     "  resets    regs.control = 0x1 keeps; system reset keeps (0xb5a69788)\n"
                     "  reads     1: 0x00 0x00 0x00 0x00; 2: 0x0000 0x0000\n"
                     "  writes    1: ignored; 2: ignored\n");
}

static void an_unsafe_register_is_only_read(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs.fragile +0x24 4 RW",
                     "  reset     0x00000000\n"
                     "  bits      not probed by writing\n");
    assert_false(fake.was_fragile_written);
}

static void what_no_register_claims_is_probed_too(void **state)
{
    (void)state;
    assert_paragraph(fake_text, "regs between registers",
                     "  +0x16..0x17  reads 0x0000, ignores writes\n"
                     "  +0x2a..0x2b  reads 0x0000, ignores writes\n"
                     "  +0x2c..0xff  reads 0x00000000, ignores writes\n");
    assert_paragraph(fake_text, "bar 0 end",
                     "  last      1: 0x00; 2: 0x0000; 4: 0x00000000; 8: 0x0000000000000000\n"
                     "  across    2: 0x0000; 4: 0x00000000; 8: 0x0000000000000000\n"
                     "  beyond    1: 0x00; 2: 0x0000; 4: 0x00000000; 8: 0x0000000000000000\n"
                     "  write     2: nothing changes; 4: nothing changes; 8: nothing changes\n");
}

static void two_snapshots_of_one_device_are_the_same_text(void **state)
{
    struct regs_options options = {0};
    g_autoptr(GError) error = NULL;
    struct fake other;

    (void)state;
    fake_init(&other, true);
    g_autofree char *text = regs_snapshot(&other.bed, &options, &error);
    assert_non_null(text);
    assert_string_equal(text, fake_text);
    fake_clear(&other);
}

static void a_device_without_a_table_is_probed_as_dwords(void **state)
{
    struct regs_options options = {.raw_dwords = 3};
    g_autoptr(GError) error = NULL;
    struct fake other;

    (void)state;
    fake_init(&other, false);
    g_autofree char *text = regs_snapshot(&other.bed, &options, &error);
    assert_non_null(text);
    assert_paragraph(text, "bar0.dword_0x08 +0x08 4 RW",
                     "  reset     0x00000000\n"
                     "  bits      write 1 sets 0x000000ff\n"
                     "  resets    system reset restores (0x00000088)\n"
                     "  reads     8: 0x0000000000000088\n");
    assert_null(strstr(text, "dword_0x0c"));
    fake_clear(&other);
}

/* ---- comparing ---- */

#define HEAD "# remark\nqemu      7.2\nmachine   pc\ndevice    edu,dma_mask=1\n"

static void assert_diff(const char *before, const char *after, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *difference = regs_diff(before, after, &error);

    assert_null(error);
    if (expected)
        assert_string_equal(difference, expected);
    else
        assert_null(difference);
}

static void a_difference_names_the_register_and_only_the_lines_that_differ(void **state)
{
    (void)state;
    assert_diff(
        HEAD "\na.b +0x00 4 RW\n  reset     0x1\n  bits      fixed\n\na.c +0x04 4 RO\n  x\n",
        HEAD "\na.b +0x00 4 RW\n  reset     0x2\n  bits      fixed\n\na.c +0x04 4 RO\n  x\n",
        "a.b\n-   reset     0x1\n+   reset     0x2\n");
}

static void registers_that_came_or_went_are_differences(void **state)
{
    (void)state;
    assert_diff(HEAD "\na.b +0x00 4 RW\n  x\n", HEAD "\na.c +0x00 4 RW\n  x\n",
                "a.b\n- a.b +0x00 4 RW\n-   x\na.c\n+ a.c +0x00 4 RW\n+   x\n");
}

static void remarks_are_not_compared_and_equal_texts_have_no_difference(void **state)
{
    (void)state;
    assert_diff(HEAD "\na.b +0x00 4 RW\n  x\n", "# another\n" HEAD "\na.b +0x00 4 RW\n  x\n", NULL);
    assert_diff(HEAD, "qemu      8.0\nmachine   pc\ndevice    edu,dma_mask=1\n",
                "(head)\n- qemu      7.2\n+ qemu      8.0\n");
}

static void a_text_that_is_no_snapshot_is_refused(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(regs_diff(HEAD, "hello\n", &error));
    assert_true(g_error_matches(error, REGS_ERROR, REGS_ERROR_FORMAT));
    assert_string_equal(error->message,
                        "the second text is no register snapshot: it has no line 'device'");
}

static void the_header_says_what_a_snapshot_is_of(void **state)
{
    g_autofree char *device = regs_header(HEAD "\nmachine x\n", "device");
    g_autofree char *machine = regs_header(HEAD, "machine");
    g_autofree char *bits = regs_header(HEAD "\nbits z\n", "bits");

    (void)state;
    assert_string_equal(device, "edu,dma_mask=1");
    assert_string_equal(machine, "pc");
    assert_null(bits);
}

int main(void)
{
    const struct CMUnitTest probing[] = {
        cmocka_unit_test(bits_that_read_back_are_told_from_those_that_do_not),
        cmocka_unit_test(write_one_to_clear_is_recognised_and_a_wrong_table_is_noted),
        cmocka_unit_test(write_one_to_set_is_recognised),
        cmocka_unit_test(clearing_by_reading_is_recognised),
        cmocka_unit_test(a_register_that_reads_inverted_is_recognised),
        cmocka_unit_test(a_register_that_checks_its_value_shows_the_bits_it_takes_one_by_one),
        cmocka_unit_test(a_register_with_a_limit_shows_the_bits_below_it_one_by_one),
        cmocka_unit_test(a_write_that_ends_the_device_is_reported_and_probing_goes_on),
        cmocka_unit_test(a_register_that_changes_by_itself_is_not_compared),
        cmocka_unit_test(a_value_that_a_system_reset_keeps_is_reported_and_cleared_by_a_restart),
        cmocka_unit_test(an_unsafe_register_is_only_read),
        cmocka_unit_test(what_no_register_claims_is_probed_too),
        cmocka_unit_test(two_snapshots_of_one_device_are_the_same_text),
        cmocka_unit_test(a_device_without_a_table_is_probed_as_dwords),
    };
    const struct CMUnitTest comparing[] = {
        cmocka_unit_test(a_difference_names_the_register_and_only_the_lines_that_differ),
        cmocka_unit_test(registers_that_came_or_went_are_differences),
        cmocka_unit_test(remarks_are_not_compared_and_equal_texts_have_no_difference),
        cmocka_unit_test(a_text_that_is_no_snapshot_is_refused),
        cmocka_unit_test(the_header_says_what_a_snapshot_is_of),
    };

    return cmocka_run_group_tests(probing, take_snapshot, free_snapshot) +
           cmocka_run_group_tests(comparing, NULL, NULL);
}
