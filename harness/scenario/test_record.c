/*
 * Transcripts that a run of scenarios leaves: one for each start of a machine, which the stand-in
 * for QEMU can play.
 */
#include "harness/scenario/scenario.h"
#include "qtest_client/qtest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char script[] = "local m = machine { setup = false }\n"
                             "test('reads / twice', function()\n"
                             "    m:inp(0x60, 1)\n"
                             "    m:stop()\n"
                             "    m:read(0x100, 4)\n"
                             "end)\n";

struct folder {
    char *dir, *script;
};

static int setup(void **state)
{
    struct folder *f = g_new0(struct folder, 1);

    f->dir = g_dir_make_tmp("ringlab-test-XXXXXX", NULL);
    f->script = g_build_filename(f->dir, "some.lua", NULL);
    *state = f;
    return f->dir && g_file_set_contents(f->script, script, -1, NULL) ? 0 : -1;
}

static int teardown(void **state)
{
    struct folder *f = *state;
    const char *const rm[] = {"rm", "-rf", f->dir, NULL};
    bool gone = g_spawn_sync(NULL, (char **)(uintptr_t)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                             NULL, NULL, NULL, NULL);

    g_free(f->dir);
    g_free(f->script);
    g_free(f);
    return gone ? 0 : -1;
}

struct notes {
    struct report_sink sink;
    GString *text;
};

static void keep_note(struct report_sink *sink, const struct report *r, enum report_event event,
                      const struct report_file *file, const struct report_test *test,
                      const char *text)
{
    (void)r;
    (void)file;
    (void)test;
    if (event == REPORT_NOTE) {
        g_string_append_printf(((struct notes *)sink)->text, "%s\n", text);
    }
}

static void keep_sink(struct report_sink *sink)
{
    (void)sink;
}

/* Runs the script, which passes; returns what was noted. */
static char *run(const struct folder *f, const char *record_dir)
{
    struct notes notes = {{.event = keep_note, .free = keep_sink}, g_string_new(NULL)};
    struct scenario_options options = {.cancel_fd = -1, .record_dir = record_dir};
    g_autoptr(GError) error = NULL;
    struct report *report = report_new();

    report_add_sink(report, &notes.sink);
    report_run_started(report, NULL, 1);
    report_file_started(report, f->script, 1);
    if (!scenario_run_file(f->script, &options, report, &error)) {
        fail_msg("%s", error->message);
    }
    report_run_ended(report, 0);
    assert_int_equal(report_counts(report).passed, 1);
    report_free(report);
    return g_string_free(notes.text, FALSE);
}

static char *read_transcript(const struct folder *f, const char *name)
{
    g_autofree char *path = g_build_filename(f->dir, name, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, &error)) {
        fail_msg("%s", error->message);
    }
    return text;
}

static void each_start_of_a_machine_leaves_a_transcript_that_can_be_played(void **state)
{
    struct folder *f = *state;
    g_autofree char *notes = run(f, f->dir);
    g_autofree char *first = read_transcript(f, "some.reads---twice.m1.qtest");
    g_autofree char *second = read_transcript(f, "some.reads---twice.m1.2.qtest");
    g_autofree char *head = g_strdup_printf("# %s: reads / twice\n# '", f->script);
    GError *error = NULL;
    uint64_t value;
    int fd;

    assert_string_equal(notes, "");
    assert_true(g_str_has_prefix(first, head));
    assert_true(g_str_has_suffix(first, "\n> irq_intercept_in ioapic\n< OK\n"
                                        "> inb 0x60\n< OK 0x0000\n"));
    struct qtest_replay *replay = qtest_replay_new(second, &fd, &error);
    assert_non_null(replay);
    struct qtest *q = qtest_new(fd);
    assert_true(qtest_irq_intercept_ioapic(q, &error));
    assert_true(qtest_read(q, 4, 0x100, &value, &error));
    assert_int_equal(value, 0);
    qtest_free(q);
    assert_true(qtest_replay_finish(replay, &error));
}

static void a_transcript_that_cannot_be_written_is_a_note_and_no_failure(void **state)
{
    struct folder *f = *state;
    g_autofree char *notes = run(f, "/dev/null/x");

    assert_string_equal(
        notes, "not recorded: making /dev/null/x/some.reads---twice.m1.qtest: Not a directory\n"
               "not recorded: making /dev/null/x/some.reads---twice.m1.2.qtest: Not a directory\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            each_start_of_a_machine_leaves_a_transcript_that_can_be_played, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_transcript_that_cannot_be_written_is_a_note_and_no_failure, setup, teardown),
    };
    g_setenv("RINGLAB_LUA_PATH", "scenarios/lib", FALSE); /* tests run at the top of the tree */
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
