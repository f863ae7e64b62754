/*
 * For tests of the engine: a Lua text becomes a scenario file, is run, and what was reported can be
 * asked for. The file is "s.lua" in a folder of the test's own, with folder/lib/ beside it.
 */
#ifndef RINGLAB_TEST_RUN_H
#define RINGLAB_TEST_RUN_H

#include "harness/scenario/scenario.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct run {
    char *dir, *path;
    struct scenario_options options;
    struct report *report;
    struct report_sink sink;
    GString *notes; /* lines */
    char *broken;   /* what scenario_run_file said, or NULL */
};

static inline void run_keep_note(struct report_sink *sink, const struct report *r,
                                 enum report_event event, const struct report_file *file,
                                 const struct report_test *test, const char *text)
{
    struct run *run = (struct run *)(void *)((char *)sink - offsetof(struct run, sink));

    (void)r;
    (void)file;
    (void)test;
    if (event == REPORT_NOTE) {
        g_string_append_printf(run->notes, "%s\n", text);
    }
}

static inline void run_keep_sink(struct report_sink *sink)
{
    (void)sink;
}

static inline int run_setup(void **state)
{
    struct run *run = g_new0(struct run, 1);

    run->dir = g_dir_make_tmp("ringlab-test-XXXXXX", NULL);
    run->path = g_build_filename(run->dir, "s.lua", NULL);
    run->options.cancel_fd = -1;
    run->sink = (struct report_sink){.event = run_keep_note, .free = run_keep_sink};
    run->notes = g_string_new(NULL);
    *state = run;
    return run->dir ? 0 : -1;
}

static inline void run_forget(struct run *run)
{
    report_free(g_steal_pointer(&run->report));
    g_clear_pointer(&run->broken, g_free);
    g_string_truncate(run->notes, 0);
}

static inline int run_teardown(void **state)
{
    struct run *run = *state;
    const char *const rm[] = {"rm", "-rf", run->dir, NULL};
    bool gone = g_spawn_sync(NULL, (char **)(uintptr_t)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                             NULL, NULL, NULL, NULL);

    run_forget(run);
    g_string_free(run->notes, TRUE);
    g_free(run->dir);
    g_free(run->path);
    g_free(run);
    return gone ? 0 : -1;
}

/* A file beside the scenario: "helper.lua". */
static inline void run_write(const struct run *run, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(run->dir, name, NULL);
    g_autofree char *folder = g_path_get_dirname(path);

    assert_int_equal(g_mkdir_with_parents(folder, 0700), 0);
    assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* Runs the text as the scenario; what an earlier one left is forgotten. */
static inline void run_text(struct run *run, const char *text)
{
    g_autoptr(GError) error = NULL;

    run_forget(run);
    run_write(run, "s.lua", text);
    run->report = report_new();
    report_add_sink(run->report, &run->sink);
    report_run_started(run->report, NULL, 1);
    report_file_started(run->report, run->path, 1);
    if (!scenario_run_file(run->path, &run->options, run->report, &error)) {
        assert_non_null(error);
        assert_true(strncmp(error->message, run->path, strlen(run->path)) == 0);
        run->broken = g_strdup(error->message + strlen(run->path));
    }
    report_run_ended(run->report, 0);
}

static inline unsigned run_n(const struct run *run)
{
    const struct report_file *file = report_files(run->report)->pdata[0];

    return file->tests->len;
}

/* The n-th test (from 0) that ran. */
static inline const struct report_test *run_nth(const struct run *run, unsigned n)
{
    const struct report_file *file = report_files(run->report)->pdata[0];

    if (n >= file->tests->len) {
        fail_msg("only %u tests ran%s%s", file->tests->len, run->broken ? ": s.lua" : "",
                 run->broken ? run->broken : "");
    }
    return file->tests->pdata[n];
}

static inline const char *run_outcome(enum report_outcome outcome)
{
    static const char *const names[] = {"passed", "failed", "skipped", "error"};

    return names[outcome];
}

/* The outcome, message and line of the n-th test. The line is the script's; 0: any. */
static inline void run_expect(const struct run *run, unsigned n, enum report_outcome outcome,
                              const char *message, unsigned line)
{
    const struct report_test *t = run_nth(run, n);

    if (t->outcome != outcome || g_strcmp0(t->message, message) != 0) {
        fail_msg("test '%s' %s, \"%s\", not: %s, \"%s\"", t->name, run_outcome(t->outcome),
                 t->message ? t->message : "", run_outcome(outcome), message ? message : "");
    }
    if (line) {
        assert_string_equal(t->script, run->path);
        assert_int_equal(t->line, line);
    }
}

static inline void run_expect_passed(const struct run *run, unsigned n)
{
    run_expect(run, n, REPORT_PASSED, NULL, 0);
}

/* The text of an attachment of the n-th test, or NULL. */
static inline const char *run_attachment(const struct run *run, unsigned n, const char *name)
{
    const GPtrArray *all = run_nth(run, n)->attachments;

    for (guint i = 0; i < all->len; i++) {
        const struct report_text *a = all->pdata[i];
        if (strcmp(a->name, name) == 0) {
            return a->text;
        }
    }
    return NULL;
}

#endif
