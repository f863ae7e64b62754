/* The qtest machine over transcripts: short ones made up here, and one recorded on a real QEMU. */
#include "qtest_client/machine.h"
#include "qtest_client/test_walk.h"

#include <string.h>

#define RECORDED "qtest_client/testdata/virtio-net-pci.qtest"

enum { PAGE = 4096, REGION_GPA = 0x100000 };

struct bed {
    struct qtest_replay *replay;
    struct qtest *q;
    struct guest_memory *memory;
    struct guest_region *region;
    struct machine *m;
};

static struct bed bed_open(const char *transcript)
{
    GError *error = NULL;
    struct bed b;
    int fd;

    b.replay = qtest_replay_new(transcript, &fd, &error);
    assert_non_null(b.replay);
    b.q = qtest_new(fd);
    b.memory = guest_memory_new();
    b.region = guest_region_new("test", PAGE, GUEST_HUGEPAGES_OFF, &error);
    assert_true(guest_memory_place(b.memory, b.region, REGION_GPA, &error));
    b.m = machine_qtest_new(b.q, b.memory, MACHINE_PC);
    return b;
}

/* All of the transcript was asked for, and nothing else. */
static void bed_close(struct bed *b)
{
    g_autoptr(GError) error = NULL;

    machine_free(b->m);
    qtest_free(b->q);
    if (!qtest_replay_finish(b->replay, &error)) {
        fail_msg("%s", error->message);
    }
    guest_memory_free(b->memory);
    guest_region_free(b->region);
}

static void assert_error(GError **error, int code, const char *part)
{
    assert_non_null(*error);
    assert_int_equal((*error)->domain, QTEST_ERROR);
    assert_int_equal((*error)->code, code);
    if (!strstr((*error)->message, part)) {
        fail_msg("'%s' is not in '%s'", part, (*error)->message);
    }
    g_clear_error(error);
}

/* ---- accesses ---- */

static void an_access_goes_to_its_space_with_its_width(void **state)
{
    struct bed b = bed_open("> outw 0x10 0xbeef\n< OK\n"
                            "> inl 0x14\n< OK 0x12345678\n"
                            "> writeq 0x10 0x8877665544332211\n< OK\n"
                            "> readb 0x17\n< OK 0x0000000000000088\n");
    GError *error = NULL;
    uint64_t value;

    (void)state;
    assert_true(machine_write(b.m, MACHINE_IO, 0x10, 2, 0xbeef, &error));
    assert_true(machine_read(b.m, MACHINE_IO, 0x14, 4, &value, &error));
    assert_int_equal(value, 0x12345678);
    assert_true(machine_write(b.m, MACHINE_MEM, 0x10, 8, 0x8877665544332211, &error));
    assert_true(machine_read(b.m, MACHINE_MEM, 0x17, 1, &value, &error));
    assert_int_equal(value, 0x88);
    bed_close(&b);
}

/* Sent together: the transcript has all commands before the first answer. */
static void many_accesses_are_one_batch_in_their_order(void **state)
{
    struct bed b = bed_open("> outl 0xcf8 0x80000000\n> inw 0xcfc\n> writew 0x2000 0x1\n"
                            "> readl 0x2004\n< OK\n< OK 0x8086\n< OK\n< OK 0x00000000000000aa\n");
    struct machine_access a[] = {
        {.space = MACHINE_IO, .addr = 0xcf8, .width = 4, .is_write = true, .value = 0x80000000},
        {.space = MACHINE_IO, .addr = 0xcfc, .width = 2},
        {.space = MACHINE_MEM, .addr = 0x2000, .width = 2, .is_write = true, .value = 1},
        {.space = MACHINE_MEM, .addr = 0x2004, .width = 4},
    };
    GError *error = NULL;

    (void)state;
    assert_true(machine_run(b.m, a, G_N_ELEMENTS(a), &error));
    assert_true(a[0].value == 0x80000000); /* what was written stays */
    assert_int_equal(a[1].value, 0x8086);
    assert_int_equal(a[2].value, 1);
    assert_int_equal(a[3].value, 0xaa);
    assert_true(machine_run(b.m, a, 0, &error));
    bed_close(&b);
}

static void a_bad_access_keeps_the_whole_batch_from_being_sent(void **state)
{
    struct bed b = bed_open("");
    struct machine_access a[] = {
        {.space = MACHINE_MEM, .addr = 0x10, .width = 4},
        {.space = MACHINE_IO, .addr = 0x10, .width = 1, .is_write = true, .value = 0x100},
    };
    GError *error = NULL;
    uint64_t value;

    (void)state;
    assert_false(machine_run(b.m, a, 2, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "value 0x100 is too wide for a 1-byte access");
    assert_false(machine_write(b.m, MACHINE_MEM, 0x10, 2, 0x10000, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "too wide");
    assert_false(machine_post(b.m, MACHINE_IO, 0x10, 8, 0, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "8 bytes");
    /* no width is cut to one that exists */
    assert_false(machine_read(b.m, MACHINE_MEM, 0x10, 257, &value, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "255 bytes");
    bed_close(&b);
}

/* Two commands before an answer: neither write waited for its own. */
static void posted_writes_wait_for_nothing_and_a_barrier_for_all_of_them(void **state)
{
    struct bed b = bed_open("> writew 0x3004 0x1\n> outw 0xc010 0x1\n> endianness\n"
                            "< OK\n< OK\n< IRQ raise 11\n< OK little\n");
    GError *error = NULL;
    bool level;
    uint64_t n;

    (void)state;
    assert_true(machine_post(b.m, MACHINE_MEM, 0x3004, 2, 1, &error));
    assert_true(machine_post(b.m, MACHINE_IO, 0xc010, 2, 1, &error));
    assert_true(b.m->ops->irq_state(b.m, 11, &level, &n));
    assert_int_equal(n, 0);
    assert_true(machine_barrier(b.m, &error));
    assert_true(b.m->ops->irq_state(b.m, 11, &level, &n));
    assert_int_equal(n, 1);
    assert_true(level);
    assert_false(b.m->ops->irq_state(b.m, QTEST_N_IRQ_LINES, &level, &n));
    bed_close(&b);
}

static void interrupt_lines_are_waited_for_by_raises_and_by_level(void **state)
{
    struct bed b = bed_open("< IRQ raise 10\n< IRQ lower 10\n< IRQ raise 10\n");
    GError *error = NULL;

    (void)state;
    assert_true(b.m->ops->irq_wait_raised(b.m, 10, 2, 5000, &error));
    assert_true(b.m->ops->irq_wait_level(b.m, 10, true, 5000, &error));
    assert_false(b.m->ops->irq_wait_level(b.m, 10, false, 0, &error));
    assert_error(&error, QTEST_ERROR_TIMEOUT, "line 10 was not lowered");
    bed_close(&b);
}

/* ---- tracing ---- */

static void note(void *data, const struct machine_access *a)
{
    g_string_append_printf(data, "%s%c %s 0x%" G_GINT64_MODIFIER "x",
                           ((GString *)data)->len ? ", " : "", a->is_write ? 'w' : 'r',
                           a->space == MACHINE_IO ? "io" : "mem", a->value);
}

static void a_trace_sees_what_was_done_and_nothing_that_failed(void **state)
{
    struct bed b = bed_open("> inb 0x20\n< OK 0x0005\n> writel 0x40 0x6\n> outb 0x21 0x7\n"
                            "> readl 0x44\n< OK\n< OK\n< FAIL no\n");
    g_autoptr(GString) seen = g_string_new(NULL);
    GError *error = NULL;
    uint64_t value;

    (void)state;
    b.m->trace = note;
    b.m->trace_data = seen;
    assert_true(machine_read(b.m, MACHINE_IO, 0x20, 1, &value, &error));
    assert_true(machine_post(b.m, MACHINE_MEM, 0x40, 4, 6, &error));
    assert_true(machine_post(b.m, MACHINE_IO, 0x21, 1, 7, &error));
    assert_false(machine_read(b.m, MACHINE_MEM, 0x44, 4, &value, &error));
    assert_error(&error, QTEST_ERROR_FAIL, "readl 0x44");
    assert_string_equal(seen->str, "r io 0x5, w mem 0x6, w io 0x7");
    bed_close(&b);
}

/* ---- blocks of memory ---- */

static void shared_memory_is_copied_and_other_memory_goes_over_the_wire(void **state)
{
    struct bed b = bed_open("> b64write 0x1000 0x3 YWJj\n< OK\n> b64read 0x1000 0x3\n< OK YWJj\n"
                            "> b64read 0x100ffe 0x3\n< OK eHl6\n");
    GError *error = NULL;
    char bytes[4] = "";

    (void)state;
    assert_true(machine_write_bytes(b.m, REGION_GPA + PAGE - 3, "xyz", 3, &error));
    assert_memory_equal(b.region->host + PAGE - 3, "xyz", 3);
    assert_true(machine_read_bytes(b.m, REGION_GPA + PAGE - 3, bytes, 3, &error));
    assert_string_equal(bytes, "xyz");
    assert_true(machine_write_bytes(b.m, 0x1000, "abc", 3, &error));
    assert_true(machine_read_bytes(b.m, 0x1000, bytes, 3, &error));
    assert_string_equal(bytes, "abc");
    /* half inside is not inside */
    assert_true(machine_read_bytes(b.m, REGION_GPA + PAGE - 2, bytes, 3, &error));
    assert_string_equal(bytes, "xyz");
    assert_true(machine_read_bytes(b.m, REGION_GPA, bytes, 0, &error));
    bed_close(&b);
}

/* ---- drivers, with no QEMU ---- */

static void a_recorded_qemu_leads_drivers_from_the_bus_to_a_kick(void **state)
{
    g_autofree char *transcript = NULL;
    g_autoptr(GError) error = NULL;
    int fd;

    (void)state;
    if (!g_file_get_contents(RECORDED, &transcript, NULL, &error)) {
        fail_msg("%s (run this in the project's top folder)", error->message);
    }
    struct qtest_replay *replay = qtest_replay_new(transcript, &fd, &error);
    assert_non_null(replay);
    struct qtest *q = qtest_new(fd);
    qtest_set_closed_hook(q, qtest_replay_complaint, replay);
    walk(q);
    qtest_free(q);
    if (!qtest_replay_finish(replay, &error)) {
        fail_msg("%s; if drivers rightly do something else now, record it again with "
                 "RINGLAB_TRANSCRIPT=" RECORDED " build/tests/harness/test_transcript_live",
                 error->message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_access_goes_to_its_space_with_its_width),
        cmocka_unit_test(many_accesses_are_one_batch_in_their_order),
        cmocka_unit_test(a_bad_access_keeps_the_whole_batch_from_being_sent),
        cmocka_unit_test(posted_writes_wait_for_nothing_and_a_barrier_for_all_of_them),
        cmocka_unit_test(interrupt_lines_are_waited_for_by_raises_and_by_level),
        cmocka_unit_test(a_trace_sees_what_was_done_and_nothing_that_failed),
        cmocka_unit_test(shared_memory_is_copied_and_other_memory_goes_over_the_wire),
        cmocka_unit_test(a_recorded_qemu_leads_drivers_from_the_bus_to_a_kick),
    };
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
