/*
 * A request to stop that comes while a test runs. It cannot be taken back: nothing else is tested
 * in this program.
 */
#include "harness/cancel.h"
#include "harness/scenario/scenario.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

/* Asks to stop as soon as a test has started. */
static void stop_at_first_test(struct report_sink *sink, const struct report *r,
                               enum report_event event, const struct report_file *file,
                               const struct report_test *test, const char *text)
{
    (void)sink;
    (void)r;
    (void)file;
    (void)test;
    (void)text;
    if (event == REPORT_TEST_STARTED) {
        raise(SIGINT);
    }
}

static void keep(struct report_sink *sink)
{
    (void)sink;
}

static void a_request_to_stop_ends_a_test_that_never_ends_and_runs_no_other(void **state)
{
    (void)state;
    static const char script[] = "test('spins', function() while true do end end)\n"
                                 "test('never', function() end)\n";
    struct report_sink sink = {.event = stop_at_first_test, .free = keep};
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;
    int fd = g_file_open_tmp("ringlab-test-XXXXXX.lua", &path, NULL);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, script, sizeof script - 1), sizeof script - 1);
    close(fd);
    cancel_install(60);
    struct scenario_options options = {.cancel_fd = cancel_fd(),
                                       .is_cancelled = cancel_is_requested};
    struct report *report = report_new();
    report_add_sink(report, &sink);
    report_run_started(report, NULL, 1);
    report_file_started(report, path, 1);
    bool is_scenario = scenario_run_file(path, &options, report, &error);
    unlink(path);
    assert_true(is_scenario);
    report_run_ended(report, cancel_signal());

    const struct report_file *file = report_files(report)->pdata[0];
    assert_int_equal(file->tests->len, 1);
    const struct report_test *test = file->tests->pdata[0];
    assert_string_equal(test->name, "spins");
    assert_int_equal(test->outcome, REPORT_ERROR);
    assert_string_equal(test->message, "interrupted; what the test saw of it: stopped by request");
    g_autoptr(GPtrArray) not_run = report_not_run(report);
    assert_int_equal(not_run->len, 1);
    g_autofree char *never = g_strdup_printf("%s: never", path);
    assert_string_equal(not_run->pdata[0], never);
    report_free(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_to_stop_ends_a_test_that_never_ends_and_runs_no_other),
    };
    g_setenv("RINGLAB_LUA_PATH", "scenarios/lib", FALSE); /* tests run at the top of the tree */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
