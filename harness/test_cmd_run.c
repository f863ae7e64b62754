/*
 * `ringlab run` with an engine that is played: which files, which options reach it, what is
 * printed, which exit status comes out, and what Ctrl-C does. The scenarios here are lines "VERB
 * NAME".
 */
#include "harness/cancel.h"
#include "harness/cmd.h"
#include "harness/run_files.h"
#include "harness/scenario/scenario.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "harness/test_capture.h"

static struct scenario_options seen; /* by the engine, the last time */
static GString *seen_seeds;

GQuark scenario_error_quark(void)
{
    return g_quark_from_static_string("played");
}

static void play_test(struct report *report, const char *verb, const char *name)
{
    struct report_result result = {.message = "because", .duration_us = 1};
    result.outcome = !strcmp(verb, "pass")   ? REPORT_PASSED
                     : !strcmp(verb, "skip") ? REPORT_SKIPPED
                                             : REPORT_FAILED;
    report_test_started(report, name);
    if (!strcmp(verb, "interrupt")) {
        struct pollfd fd = {.fd = seen.cancel_fd, .events = POLLIN};
        bool is_quiet = poll(&fd, 1, 0) == 0 && !seen.is_cancelled();
        raise(SIGINT);
        if (!is_quiet || poll(&fd, 1, 0) != 1) {
            report_note(report, "the engine is not told");
        }
        return;
    }
    report_test_ended(report, &result);
}

bool scenario_run_file(const char *path, const struct scenario_options *options,
                       struct report *report, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    seen = *options;
    g_string_append_printf(seen_seeds, "%u ", options->shuffle_seed);
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(g_strchomp(text), "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, "break ")) {
            g_set_error(error, scenario_error_quark(), 0, "%s:1: %s\nsecond line", path,
                        *line + strlen("break "));
            return false;
        }
        char *name = strchr(*line, ' ');
        if (name && (!options->filter || g_pattern_match_simple(options->filter, name + 1))) {
            *name = '\0';
            g_ptr_array_add(names, name + 1);
            continue;
        }
        **line = '\0';
    }
    report_file_planned(report, (const char *const *)names->pdata, names->len);
    for (char **line = lines; *line && !options->only_list; line++) {
        if (options->is_cancelled()) {
            return true;
        }
        if (**line) {
            play_test(report, *line, *line + strlen(*line) + 1);
        }
    }
    return true;
}

struct fixture {
    char *top, *old;
    char *out, *err;
};

static void write_file(const char *name, const char *text)
{
    g_autofree char *dir = g_path_get_dirname(name);
    assert_int_equal(g_mkdir_with_parents(dir, 0777), 0);
    assert_true(g_file_set_contents(name, text, -1, NULL));
}

/* Each test works in a folder of its own. */
static int setup(void **state)
{
    struct fixture *f = g_new0(struct fixture, 1);
    f->top = g_dir_make_tmp("ringlab-test-XXXXXX", NULL);
    f->old = g_get_current_dir();
    seen_seeds = g_string_new(NULL);
    g_unsetenv("HARNESS_ACTIVE");
    *state = f;
    return chdir(f->top);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    const char *const rm[] = {"rm", "-rf", f->top, NULL};
    int status = -1;
    bool gone =
        chdir(f->old) == 0 && g_spawn_sync(NULL, (char **)(uintptr_t)rm, NULL, G_SPAWN_SEARCH_PATH,
                                           NULL, NULL, NULL, NULL, &status, NULL);
    g_free(f->top);
    g_free(f->old);
    g_free(f->out);
    g_free(f->err);
    g_free(f);
    g_string_free(seen_seeds, TRUE);
    return gone ? status : -1;
}

static int run(struct fixture *f, const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    int argc = (int)g_strv_length(words);
    g_autofree char **argv = g_memdup2(words, ((size_t)argc + 1) * sizeof(char *));
    struct capture out, err;
    g_clear_pointer(&f->out, g_free);
    g_clear_pointer(&f->err, g_free);
    g_set_prgname("ringlab run");
    capture_begin(&out, STDOUT_FILENO);
    capture_begin(&err, STDERR_FILENO);
    int status = cmd_run(argc, argv);
    f->err = capture_end(&err);
    f->out = capture_end(&out);
    return status;
}

static void check(struct fixture *f, const char *line, int status, const char *out, const char *err)
{
    int got = run(f, line);
    assert_string_equal(f->err, err);
    assert_string_equal(f->out, out);
    assert_int_equal(got, status);
}

static void all_passed_is_status_0_and_leaves_both_files(void **state)
{
    write_file("a.lua", "pass one\nskip two\n");
    check(*state, "run a.lua", CMD_PASSED,
          "TAP version 14\n"
          "ok 1 - a.lua: one\n"
          "ok 2 - a.lua: two # SKIP because\n"
          "1..2\n"
          "1 passed, 0 failed, 1 skipped\n",
          "");
    assert_int_equal(access("results/junit.xml", R_OK), 0);
    assert_int_equal(access("results/run.json", R_OK), 0);
    assert_int_equal(seen.test_timeout_ms, 30000);
    assert_int_equal(seen.shuffle_seed, 0);
    assert_false(seen.has_trace);
    assert_null(seen.filter);
}

static void a_failure_is_status_1_and_the_next_file_runs(void **state)
{
    write_file("a.lua", "fail one\n");
    write_file("b.lua", "pass two\n");
    check(*state, "run a.lua b.lua", CMD_FAILED,
          "TAP version 14\n"
          "not ok 1 - a.lua: one\n"
          "  ---\n"
          "  message: \"because\"\n"
          "  severity: fail\n"
          "  duration_ms: 0.001\n"
          "  ...\n"
          "ok 2 - b.lua: two\n"
          "1..2\n"
          "1 passed, 1 failed, 0 skipped\n",
          "");
}

static void all_skipped_is_status_77(void **state)
{
    write_file("a.lua", "skip one\n");
    assert_int_equal(run(*state, "run a.lua"), CMD_SKIPPED);
}

static void a_broken_scenario_is_status_2_with_one_line_and_the_next_file_runs(void **state)
{
    write_file("a.lua", "break 'end' expected\n");
    write_file("b.lua", "fail two\n");
    struct fixture *f = *state;
    assert_int_equal(run(f, "run a.lua b.lua"), CMD_USAGE);
    assert_string_equal(f->err, "ringlab run: a.lua:1: 'end' expected; second line\n");
    assert_non_null(strstr(f->out, "not ok 1 - a.lua\n  ---\n  message: |\n"
                                   "    a.lua:1: 'end' expected\n    second line\n"));
    assert_non_null(strstr(f->out, "not ok 2 - b.lua: two\n"));
    assert_true(g_str_has_suffix(f->out, "\n0 passed, 2 failed, 0 skipped\n"));
}

static void files_that_cannot_be_read_stop_the_run_before_it_starts(void **state)
{
    write_file("a.lua", "pass one\n");
    write_file("empty/x.txt", "");
    check(*state, "run a.lua nowhere.lua", CMD_USAGE, "",
          "ringlab run: cannot read scenario 'nowhere.lua': No such file or directory\n");
    check(*state, "run empty", CMD_USAGE, "",
          "ringlab run: no scenario in folder 'empty': there is no *.lua file in it\n");
    check(*state, "run /dev/null", CMD_USAGE, "",
          "ringlab run: cannot read scenario '/dev/null': it is neither a file nor a folder\n");
    assert_int_equal(access("results", F_OK), -1);
}

static void wrong_usage_is_one_line_and_status_2(void **state)
{
    write_file("a.lua", "pass one\n");
    check(*state, "run", CMD_USAGE, "",
          "ringlab run: no scenario given; name a file or a folder, such as 'ringlab run "
          "scenarios'\n");
    check(*state, "run --repeat 0 a.lua", CMD_USAGE, "",
          "ringlab run: --repeat 0: give a number of rounds from 1 up\n");
    check(*state, "run --timeout 0 a.lua", CMD_USAGE, "",
          "ringlab run: --timeout 0: give seconds from 0.001 to 86400\n");
    check(*state, "run --timeout nan a.lua", CMD_USAGE, "",
          "ringlab run: --timeout nan: give seconds from 0.001 to 86400\n");
    check(*state, "run --shuffle -1 a.lua", CMD_USAGE, "",
          "ringlab run: --shuffle -1: give a seed from 0 up (0: draw one)\n");
    check(*state, "run --results /dev/null/x a.lua", CMD_USAGE, "",
          "ringlab run: cannot write results to '/dev/null/x': Not a directory; choose another "
          "folder with --results\n");
    check(*state, "run --record /dev/null/x a.lua", CMD_USAGE, "",
          "ringlab run: --record: cannot write to '/dev/null/x': Not a directory; choose another "
          "folder\n");
}

static void no_test_at_all_is_status_2(void **state)
{
    struct fixture *f = *state;
    write_file("a.lua", "pass one\n");
    write_file("b.lua", "\n");
    assert_int_equal(run(f, "run --filter on a.lua"), CMD_USAGE);
    assert_string_equal(f->err, "ringlab run: no test matches --filter 'on'; --list shows the "
                                "names, and the pattern has to match all of one\n");
    assert_int_equal(run(f, "run b.lua"), CMD_USAGE);
    assert_string_equal(f->err, "ringlab run: no test in any of the scenarios given\n");
}

static void options_reach_the_engine(void **state)
{
    struct fixture *f = *state;
    write_file("a.lua", "pass one\nfail two\n");
    assert_int_equal(run(f, "run --trace --filter o* --timeout 0.25 --results r/s --record r/w -q "
                            "a.lua"),
                     CMD_PASSED);
    assert_true(seen.has_trace);
    assert_true(g_file_test("r/w", G_FILE_TEST_IS_DIR));
    assert_false(seen.only_list);
    assert_int_equal(seen.test_timeout_ms, 250);
    assert_int_equal(access("r/s/run.json", R_OK), 0);
    assert_int_equal(access("results", F_OK), -1);
}

static void list_prints_names_and_runs_nothing(void **state)
{
    write_file("d/a.lua", "pass one\nfail two\n");
    write_file("d/b.lua", "pass three\n");
    check(*state, "run --list d", CMD_PASSED, "d/a.lua: one\nd/a.lua: two\nd/b.lua: three\n", "");
    check(*state, "run --list --filter t* d", CMD_PASSED, "d/a.lua: two\nd/b.lua: three\n", "");
    assert_int_equal(access("results", F_OK), -1);
}

static void rounds_repeat_everything_in_another_drawn_order_each(void **state)
{
    write_file("a.lua", "pass one\n");
    write_file("b.lua", "pass two\n");
    check(*state, "run --repeat 2 --shuffle 7 a.lua b.lua", CMD_PASSED,
          "TAP version 14\n"
          "# order of tests drawn from --shuffle 7\n"
          "ok 1 - round 1: a.lua: one\n"
          "ok 2 - round 1: b.lua: two\n"
          "# order of tests drawn from --shuffle 8\n"
          "ok 3 - round 2: a.lua: one\n"
          "ok 4 - round 2: b.lua: two\n"
          "1..4\n"
          "4 passed, 0 failed, 0 skipped\n",
          "");
    assert_string_equal(seen_seeds->str, "7 7 8 8 ");
}

static void a_seed_of_0_is_drawn_and_told(void **state)
{
    struct fixture *f = *state;
    write_file("a.lua", "pass one\n");
    assert_int_equal(run(f, "run --shuffle 0 a.lua"), CMD_PASSED);
    assert_int_not_equal(seen.shuffle_seed, 0);
    g_autofree char *note =
        g_strdup_printf("# order of tests drawn from --shuffle %u\n", seen.shuffle_seed);
    assert_non_null(strstr(f->out, note));
}

/* A request to stop cannot be taken back: the run that gets one has a process of its own. */
static void ctrl_c_ends_the_run_and_says_what_was_not_run(void **state)
{
    struct fixture *f = *state;
    write_file("a.lua", "pass one\ninterrupt two\npass three\n");
    write_file("b.lua", "pass four\n");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        cancel_install(60);
        int ended = run(f, "run --repeat 2 --shuffle 5 a.lua b.lua");
        write_file("out", f->out);
        _exit(ended);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CMD_INTERRUPTED);
    assert_true(g_file_get_contents("out", &f->out, NULL, NULL));
    g_autoptr(GRegex) regex = g_regex_new("  duration_ms: [0-9.]+\n", 0, 0, NULL);
    g_autofree char *timeless = g_regex_replace_literal(regex, f->out, -1, 0, "", 0, NULL);
    assert_string_equal(timeless, "TAP version 14\n"
                                  "# order of tests drawn from --shuffle 5\n"
                                  "ok 1 - round 1: a.lua: one\n"
                                  "not ok 2 - round 1: a.lua: two\n"
                                  "  ---\n"
                                  "  message: \"interrupted by signal 2 (Interrupt)\"\n"
                                  "  severity: error\n"
                                  "  ...\n"
                                  "# not run: round 1: a.lua: three\n"
                                  "# not run: round 1: b.lua\n"
                                  "# not run: round 2: a.lua\n"
                                  "# not run: round 2: b.lua\n"
                                  "Bail out! interrupted by signal 2 (Interrupt)\n"
                                  "1 passed, 1 failed, 0 skipped\n");
    assert_int_equal(access("results/run.json", R_OK), 0);
}

static void under_a_perl_harness_the_version_line_says_13(void **state)
{
    struct fixture *f = *state;
    write_file("a.lua", "pass one\n");
    g_setenv("HARNESS_ACTIVE", "1", TRUE);
    assert_int_equal(run(f, "run a.lua"), CMD_PASSED);
    g_unsetenv("HARNESS_ACTIVE");
    assert_true(g_str_has_prefix(f->out, "TAP version 13\nok 1 - a.lua: one\n"));
}

static void folders_are_searched_in_order_without_lib_hidden_and_links(void **state)
{
    (void)state;
    const char *const names[] = {"d/b.lua",       "d/a/z.lua",  "d/a/lib/no.lua", "d/c/a.lua",
                                 "d/.hidden.lua", "d/note.txt", "d/.git/x.lua",   "e.script"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        write_file(names[i], "");
    }
    assert_int_equal(symlink("..", "d/loop"), 0);
    const char *const arguments[] = {"e.script", "d", NULL};
    g_autoptr(GPtrArray) files = run_files_collect(arguments, NULL);
    g_autofree char *all = g_strjoinv(" ", (char **)files->pdata);
    assert_string_equal(all, "e.script d/a/z.lua d/b.lua d/c/a.lua");
}

int main(void)
{
#define in_folder(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        in_folder(all_passed_is_status_0_and_leaves_both_files),
        in_folder(a_failure_is_status_1_and_the_next_file_runs),
        in_folder(all_skipped_is_status_77),
        in_folder(a_broken_scenario_is_status_2_with_one_line_and_the_next_file_runs),
        in_folder(files_that_cannot_be_read_stop_the_run_before_it_starts),
        in_folder(wrong_usage_is_one_line_and_status_2),
        in_folder(no_test_at_all_is_status_2),
        in_folder(options_reach_the_engine),
        in_folder(list_prints_names_and_runs_nothing),
        in_folder(rounds_repeat_everything_in_another_drawn_order_each),
        in_folder(a_seed_of_0_is_drawn_and_told),
        in_folder(ctrl_c_ends_the_run_and_says_what_was_not_run),
        in_folder(under_a_perl_harness_the_version_line_says_13),
        in_folder(folders_are_searched_in_order_without_lib_hidden_and_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
