/*
 * What reports look like: TAP, the progress line, JUnit XML, JSON, and the files written.
 */
#include "harness/report/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>

/* A report and what its TAP sink wrote. */
struct fixture {
    struct report *report;
    char *text;
    size_t len;
    FILE *out;
};

static int setup_version(void **state, unsigned version, bool color)
{
    struct fixture *f = g_new0(struct fixture, 1);
    f->out = open_memstream(&f->text, &f->len);
    f->report = report_new();
    report_add_sink(f->report, report_tap_new(f->out, version, color));
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_version(state, 14, false);
}

static int setup_13(void **state)
{
    return setup_version(state, 13, false);
}

static int setup_color(void **state)
{
    return setup_version(state, 14, true);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    report_free(f->report);
    fclose(f->out);
    free(f->text);
    g_free(f);
    return 0;
}

static void test_ended(struct report *r, const char *name, enum report_outcome outcome,
                       const char *message)
{
    struct report_result result = {.outcome = outcome, .message = message, .duration_us = 1500};
    report_test_started(r, name);
    report_test_ended(r, &result);
}

/* What is measured is taken out before texts are compared. */
static char *without_times(const char *text)
{
    g_autoptr(GRegex) regex =
        g_regex_new(" time(stamp)?=\"[-0-9.:TZ]+\"|  duration_ms: [0-9.]+\n", 0, 0, NULL);
    return g_regex_replace_literal(regex, text, -1, 0, "", 0, NULL);
}

/* A run with one test of each outcome. */
static void tell_mixed_run(struct report *r)
{
    const struct report_attachment attachments[] = {
        {.name = "QEMU m stderr", .text = "qemu: one\n\n  two\n"},
        {.name = "m \"trace\"", .text = ""},
    };
    const struct report_result failure = {
        .outcome = REPORT_FAILED,
        .message = "status differs",
        .expression = "net.common.device_status",
        .expected = "0x0f",
        .actual = "\"a\\b\"",
        .script = "s/a.lua",
        .line = 12,
        .duration_us = 2345,
        .attachments = attachments,
        .n_attachments = G_N_ELEMENTS(attachments),
    };
    report_run_started(r, NULL, 1);
    report_file_started(r, "s/a.lua", 1);
    test_ended(r, "resets", REPORT_PASSED, NULL);
    report_test_started(r, "reads status");
    report_test_ended(r, &failure);
    test_ended(r, "has #1 C:\\", REPORT_SKIPPED, "no\nhuge pages #2");
    test_ended(r, "divides", REPORT_ERROR, "  attempt to\n\n    divide\n");
    report_file_ended(r);
    report_run_ended(r, 0);
}

static void a_run_is_told_as_tap(void **state)
{
    struct fixture *f = *state;
    tell_mixed_run(f->report);
    assert_string_equal(f->text, "TAP version 14\n"
                                 "ok 1 - s/a.lua: resets\n"
                                 "not ok 2 - s/a.lua: reads status\n"
                                 "  ---\n"
                                 "  message: \"status differs\"\n"
                                 "  severity: fail\n"
                                 "  at:\n"
                                 "    file: \"s/a.lua\"\n"
                                 "    line: 12\n"
                                 "  expression: \"net.common.device_status\"\n"
                                 "  expected: \"0x0f\"\n"
                                 "  actual: \"\\\"a\\\\b\\\"\"\n"
                                 "  duration_ms: 2.345\n"
                                 "  attachments:\n"
                                 "    \"QEMU m stderr\": |\n"
                                 "      qemu: one\n"
                                 "      \n"
                                 "        two\n"
                                 "    \"m \\\"trace\\\"\": \"\"\n"
                                 "  ...\n"
                                 "ok 3 - s/a.lua: has \\#1 C:\\\\ # SKIP no huge pages \\#2\n"
                                 "not ok 4 - s/a.lua: divides\n"
                                 "  ---\n"
                                 "  message: |\n"
                                 "    attempt to\n"
                                 "    \n"
                                 "        divide\n"
                                 "  severity: error\n"
                                 "  duration_ms: 1.500\n"
                                 "  ...\n"
                                 "1..4\n"
                                 "1 passed, 2 failed, 1 skipped\n");
}

/* Runs `argv` with `text` as the file its last argument (appended) names. */
static int run_on_text(const char *const *words, const char *text, char **out)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("ringlab-test-XXXXXX", &path, NULL);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    for (; *words; words++)
        g_ptr_array_add(argv, g_strdup(*words));
    g_ptr_array_add(argv, path);
    g_ptr_array_add(argv, NULL);
    int status = -1;
    g_autofree char *err = NULL;
    bool started = g_spawn_sync(NULL, (char **)argv->pdata, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                                out, &err, &status, NULL);
    unlink(path);
    for (guint i = 0; i + 2 < argv->len; i++)
        g_free(argv->pdata[i]);
    assert_true(started);
    return status;
}

static bool has_program(const char *name)
{
    g_autofree char *path = g_find_program_in_path(name);
    return path != NULL;
}

static const char *const prove[] = {"prove", "--exec", "cat", NULL};

static void prove_counts_every_test_and_reads_the_diagnostics(void **state)
{
    struct fixture *f = *state;
    g_autofree char *out = NULL;
    if (!has_program("prove"))
        skip();
    tell_mixed_run(f->report);
    assert_int_not_equal(run_on_text(prove, f->text, &out), 0);
    assert_non_null(strstr(out, "Failed 2/4 subtests"));
    assert_non_null(strstr(out, "(less 1 skipped subtest: 1 okay)"));
    assert_non_null(strstr(out, "Failed tests:  2, 4"));
    assert_null(strstr(out, "Parse errors"));
}

static void prove_accepts_a_run_that_passed(void **state)
{
    struct fixture *f = *state;
    g_autofree char *out = NULL;
    if (!has_program("prove"))
        skip();
    report_run_started(f->report, NULL, 1);
    report_file_started(f->report, "a.lua", 1);
    report_note(f->report, "no huge pages");
    test_ended(f->report, "one", REPORT_PASSED, NULL);
    test_ended(f->report, "two", REPORT_SKIPPED, "why");
    report_file_ended(f->report);
    report_run_ended(f->report, 0);
    assert_int_equal(run_on_text(prove, f->text, &out), 0);
    assert_non_null(strstr(out, "All tests successful."));
}

static void what_is_noted_once_is_told_once_a_run(void **state)
{
    struct fixture *f = *state;
    report_run_started(f->report, NULL, 1);
    report_file_started(f->report, "a", 1);
    report_note_once(f->report, "ordinary pages");
    report_note_once(f->report, "ordinary pages");
    report_note_once(f->report, "another");
    report_note(f->report, "ordinary pages");
    report_file_ended(f->report);
    report_run_ended(f->report, 0);
    assert_string_equal(f->text, "TAP version 14\n"
                                 "# ordinary pages\n"
                                 "# another\n"
                                 "# ordinary pages\n"
                                 "1..0 # SKIP no tests\n"
                                 "0 passed, 0 failed, 0 skipped\n");
}

static void colour_marks_the_verdict_only(void **state)
{
    struct fixture *f = *state;
    report_run_started(f->report, NULL, 1);
    report_file_started(f->report, "a", 1);
    test_ended(f->report, "p", REPORT_PASSED, NULL);
    test_ended(f->report, "s", REPORT_SKIPPED, "");
    report_file_broken(f->report, "gone");
    report_file_ended(f->report);
    report_run_ended(f->report, 0);
    assert_string_equal(f->text, "TAP version 14\n"
                                 "\033[32mok\033[0m 1 - a: p\n"
                                 "\033[33mok\033[0m 2 - a: s # SKIP\n"
                                 "\033[31mnot ok\033[0m 3 - a\n"
                                 "  ---\n  message: \"gone\"\n  severity: error\n  ...\n"
                                 "1..3\n"
                                 "1 passed, 1 failed, 1 skipped\n");
}

static void a_run_without_tests_has_an_empty_plan(void **state)
{
    struct fixture *f = *state;
    report_run_started(f->report, NULL, 1);
    report_run_ended(f->report, 0);
    assert_string_equal(f->text, "TAP version 14\n1..0 # SKIP no tests\n"
                                 "0 passed, 0 failed, 0 skipped\n");
}

static void an_interrupted_run_says_what_was_not_run(void **state)
{
    struct fixture *f = *state;
    const char *const files[] = {"a.lua", "b.lua", NULL};
    const char *const names[] = {"same", "same", "last"};
    report_run_started(f->report, files, 2);
    report_file_started(f->report, "a.lua", 1);
    report_file_planned(f->report, names, G_N_ELEMENTS(names));
    report_test_started(f->report, "same");
    report_run_ended(f->report, 2);
    g_autofree char *timeless = without_times(f->text);
    assert_string_equal(timeless, "TAP version 14\n"
                                  "not ok 1 - round 1: a.lua: same\n"
                                  "  ---\n"
                                  "  message: \"interrupted by signal 2 (Interrupt)\"\n"
                                  "  severity: error\n"
                                  "  ...\n"
                                  "# not run: round 1: a.lua: same\n"
                                  "# not run: round 1: a.lua: last\n"
                                  "# not run: round 1: b.lua\n"
                                  "# not run: round 2: a.lua\n"
                                  "# not run: round 2: b.lua\n"
                                  "Bail out! interrupted by signal 2 (Interrupt)\n"
                                  "0 passed, 1 failed, 0 skipped\n");
}

static void a_broken_file_is_a_failure_and_ends_the_test_that_runs(void **state)
{
    struct fixture *f = *state;
    const char *const names[] = {"one", "two"};
    report_run_started(f->report, NULL, 1);
    report_file_started(f->report, "a.lua", 1);
    report_file_planned(f->report, names, G_N_ELEMENTS(names));
    report_test_started(f->report, "one");
    report_file_broken(f->report, "a.lua:3: no end");
    report_file_ended(f->report);
    report_run_ended(f->report, 0);
    struct report_counts counts = report_counts(f->report);
    assert_int_equal(counts.failed, 2);
    assert_int_equal(counts.errors, 1);
    assert_int_equal(counts.broken, 1);
    g_autoptr(GPtrArray) not_run = report_not_run(f->report);
    assert_int_equal(not_run->len, 1);
    assert_string_equal(not_run->pdata[0], "a.lua: two");
}

static void tap_shows_the_end_of_a_long_attachment_and_the_files_all_of_it(void **state)
{
    struct fixture *f = *state;
    g_autoptr(GString) log = g_string_new(NULL);
    for (int i = 1; i <= 100; i++)
        g_string_append_printf(log, "line %d.\n", i);
    struct report_attachment attachment = {.name = "log", .text = log->str};
    struct report_result result = {
        .outcome = REPORT_FAILED, .attachments = &attachment, .n_attachments = 1};
    report_run_started(f->report, NULL, 1);
    report_file_started(f->report, "a", 1);
    report_test_started(f->report, "t");
    report_test_ended(f->report, &result);
    report_file_ended(f->report);
    report_run_ended(f->report, 0);
    assert_non_null(strstr(f->text, "\"log\": |\n"
                                    "      (40 earlier lines are in the result files)\n"
                                    "      line 41.\n"));
    assert_null(strstr(f->text, "line 40."));
    assert_non_null(strstr(f->text, "      line 100.\n  ...\n"));
    g_autofree char *junit = report_junit(f->report);
    assert_non_null(strstr(junit, "line 1.\nline 2.\n"));
    assert_non_null(strstr(junit, "line 100.\n"));
}

static void text_is_made_valid_and_harmless(void **state)
{
    (void)state;
    const struct {
        const char *raw, *clean;
    } cases[] = {
        {"plain \t\n", "plain \t\n"},
        {"\033[2J\r\x7f", "\\x1b[2J\\x0d\\x7f"},
        {"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"},
        {"\xff\xc3", "\\xff\\xc3"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* a surrogate */
        {"\xc2\x9b", "\\u{9b}"},             /* CSI in one character */
        {"\xef\xbf\xbe\xef\xbf\xbd", "\\u{fffe}\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *clean = report_clean(cases[i].raw);
        assert_string_equal(clean, cases[i].clean);
    }
    g_autofree char *line = report_clean_line("\n a\nb\tc \n");
    assert_string_equal(line, "a b c");
}

static void junit_is_well_formed_whatever_bytes_come_in(void **state)
{
    struct fixture *f = *state;
    char bytes[256 + 16] = "";
    for (int i = 1; i < 256; i++)
        bytes[i - 1] = (char)i;
    g_strlcat(bytes, "\xef\xbf\xbf]]>&lt;", sizeof bytes);
    struct report_attachment attachment = {.name = bytes, .text = bytes};
    report_run_started(f->report, NULL, 1);
    report_file_started(f->report, bytes, 1);
    for (enum report_outcome outcome = REPORT_PASSED; outcome <= REPORT_ERROR; outcome++) {
        struct report_result result = {outcome, bytes, bytes, bytes,       bytes,
                                       bytes,   1,     1,     &attachment, 1};
        report_test_started(f->report, bytes);
        report_test_ended(f->report, &result);
    }
    report_file_broken(f->report, bytes);
    report_file_ended(f->report);
    report_run_ended(f->report, 0);

    g_autofree char *junit = report_junit(f->report);
    assert_true(g_utf8_validate(junit, -1, NULL));
    for (const char *c = junit; *c; c++)
        assert_true((guchar)*c >= 0x20 || *c == '\n' || *c == '\t');
    const GMarkupParser nothing = {0};
    g_autoptr(GMarkupParseContext) context = g_markup_parse_context_new(&nothing, 0, NULL, NULL);
    assert_true(g_markup_parse_context_parse(context, junit, -1, NULL));
    assert_true(g_markup_parse_context_end_parse(context, NULL));
    const char *const xmllint[] = {"xmllint", "--noout", NULL};
    const char *const python[] = {
        "python3", "-c", "import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])", NULL};
    g_autofree char *out = NULL;
    if (has_program("xmllint"))
        assert_int_equal(run_on_text(xmllint, junit, &out), 0);
    else if (has_program("python3"))
        assert_int_equal(run_on_text(python, junit, &out), 0);

    g_autofree char *json = report_json(f->report);
    g_autoptr(JsonNode) root = json_from_string(json, NULL);
    assert_non_null(root);
    if (has_program("prove")) {
        g_autofree char *verdict = NULL;
        run_on_text(prove, f->text, &verdict);
        assert_non_null(strstr(verdict, "Failed 3/5 subtests"));
    }
}

static void junit_has_a_suite_per_file_and_a_case_per_test(void **state)
{
    struct fixture *f = *state;
    tell_mixed_run(f->report);
    g_autofree char *xml = report_junit(f->report);
    assert_non_null(strstr(xml, " name=\"resets\" time=\"0.001500\">"));
    g_autofree char *timeless = without_times(xml);
    assert_string_equal(
        timeless,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<testsuites name=\"ringlab\" tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\">\n"
        "  <testsuite name=\"s/a.lua\" tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\">\n"
        "    <testcase classname=\"s/a.lua\" name=\"resets\">\n"
        "    </testcase>\n"
        "    <testcase classname=\"s/a.lua\" name=\"reads status\" file=\"s/a.lua\""
        " line=\"12\">\n"
        "      <failure message=\"status differs\" type=\"failure\">s/a.lua:12: status differs\n"
        "expression: net.common.device_status\n"
        "expected:   0x0f\n"
        "actual:     &quot;a\\b&quot;\n"
        "</failure>\n"
        "      <system-out>---- QEMU m stderr\n"
        "qemu: one\n\n  two\n\n"
        "---- m &quot;trace&quot;\n\n"
        "</system-out>\n"
        "    </testcase>\n"
        "    <testcase classname=\"s/a.lua\" name=\"has #1 C:\\\">\n"
        "      <skipped message=\"no&#10;huge pages #2\"/>\n"
        "    </testcase>\n"
        "    <testcase classname=\"s/a.lua\" name=\"divides\">\n"
        "      <error message=\"  attempt to&#10;&#10;    divide&#10;\" type=\"error\">"
        "  attempt to\n\n    divide\n\n"
        "</error>\n"
        "    </testcase>\n"
        "  </testsuite>\n"
        "</testsuites>\n");
}

static void json_holds_every_result(void **state)
{
    struct fixture *f = *state;
    tell_mixed_run(f->report);
    g_autofree char *text = report_json(f->report);
    g_autoptr(JsonNode) root = json_from_string(text, NULL);
    JsonObject *run = json_node_get_object(root);
    assert_int_equal(json_object_get_int_member(run, "passed"), 1);
    assert_int_equal(json_object_get_int_member(run, "failed"), 2);
    assert_int_equal(json_object_get_int_member(run, "skipped"), 1);
    assert_int_equal(json_object_get_int_member(run, "errors"), 1);
    assert_false(json_object_has_member(run, "interruption"));
    assert_int_equal(json_array_get_length(json_object_get_array_member(run, "not_run")), 0);
    JsonArray *files = json_object_get_array_member(run, "files");
    assert_int_equal(json_array_get_length(files), 1);
    JsonObject *file = json_array_get_object_element(files, 0);
    assert_string_equal(json_object_get_string_member(file, "path"), "s/a.lua");
    JsonArray *tests = json_object_get_array_member(file, "tests");
    assert_int_equal(json_array_get_length(tests), 4);
    JsonObject *test = json_array_get_object_element(tests, 1);
    assert_string_equal(json_object_get_string_member(test, "name"), "reads status");
    assert_string_equal(json_object_get_string_member(test, "outcome"), "failed");
    assert_string_equal(json_object_get_string_member(test, "expected"), "0x0f");
    assert_string_equal(json_object_get_string_member(test, "actual"), "\"a\\b\"");
    assert_int_equal(json_object_get_int_member(test, "line"), 12);
    assert_int_equal(json_object_get_int_member(test, "duration_us"), 2345);
    JsonArray *attachments = json_object_get_array_member(test, "attachments");
    JsonObject *log = json_array_get_object_element(attachments, 0);
    assert_string_equal(json_object_get_string_member(log, "name"), "QEMU m stderr");
    assert_string_equal(json_object_get_string_member(log, "text"), "qemu: one\n\n  two\n");
    assert_string_equal(
        json_object_get_string_member(json_array_get_object_element(tests, 3), "outcome"), "error");
}

static void json_of_an_interrupted_run_lists_what_was_not_run(void **state)
{
    struct fixture *f = *state;
    const char *const files[] = {"a.lua", "b.lua", NULL};
    report_run_started(f->report, files, 1);
    report_file_started(f->report, "a.lua", 1);
    report_run_ended(f->report, 15);
    g_autofree char *text = report_json(f->report);
    g_autoptr(JsonNode) root = json_from_string(text, NULL);
    JsonObject *run = json_node_get_object(root);
    assert_string_equal(json_object_get_string_member(run, "interruption"),
                        "interrupted by signal 15 (Terminated)");
    JsonArray *not_run = json_object_get_array_member(run, "not_run");
    assert_int_equal(json_array_get_length(not_run), 1);
    assert_string_equal(json_array_get_string_element(not_run, 0), "b.lua");
}

static void the_progress_line_fits_and_is_gone_before_anything_is_printed(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *terminal = open_memstream(&text, &len);
    struct report *r = report_new();
    report_add_sink(r, report_tap_new(terminal, 14, false));
    report_add_sink(r, report_progress_new(terminal, 40));
    const char *const names[] = {"t\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad"};
    report_run_started(r, NULL, 1);
    report_file_started(r, "a.lua", 1);
    report_file_planned(r, names, 1);
    report_test_started(r, names[0]);
    report_test_ended(r, &(struct report_result){.outcome = REPORT_PASSED});
    report_file_ended(r);
    report_run_ended(r, 0);
    assert_string_equal(
        text, "TAP version 14\n"
              "\r[0 done, 0 failed] a.lua\033[K"
              "\r\033[K"
              /* 39 columns: t is the 31st, and a wide character takes two */
              "\r[0 done, 0 failed] 1/1 a.lua: t\xe4\xb8\xad\xe4\xb8\xad...\033[K"
              "\r\033[K"
              "ok 1 - a.lua: t\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\n"
              "\r[1 done, 0 failed] a.lua\033[K"
              "\r\033[K"
              "1..1\n"
              "1 passed, 0 failed, 0 skipped\n");
    report_free(r);
    fclose(terminal);
    free(text);
}

static void result_files_are_replaced_as_a_whole(void **state)
{
    struct fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *top = g_dir_make_tmp("ringlab-test-XXXXXX", NULL);
    g_autofree char *dir = g_build_filename(top, "new", "deep", NULL);
    g_autofree char *json = g_build_filename(dir, "run.json", NULL);
    g_autofree char *junit = g_build_filename(dir, "junit.xml", NULL);
    tell_mixed_run(f->report);
    assert_true(report_write(f->report, dir, &error));
    g_autofree char *expected = report_json(f->report);
    g_autofree char *first = NULL;
    assert_true(g_file_get_contents(json, &first, NULL, NULL));
    assert_string_equal(first, expected);

    /* Whoever reads the first run's file meanwhile keeps all of it. */
    struct stat before, after;
    assert_int_equal(stat(junit, &before), 0);
    assert_int_equal(before.st_mode & 0444, 0444);
    int reader = open(junit, O_RDONLY);
    assert_true(report_write(f->report, dir, &error));
    assert_int_equal(stat(junit, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    struct stat open_file;
    assert_int_equal(fstat(reader, &open_file), 0);
    assert_int_equal(open_file.st_size, before.st_size);
    assert_int_equal(open_file.st_nlink, 0);
    close(reader);

    GDir *listing = g_dir_open(dir, 0, NULL);
    unsigned n = 0;
    while (g_dir_read_name(listing))
        n++;
    g_dir_close(listing);
    assert_int_equal(n, 2);
    g_autofree char *middle = g_path_get_dirname(dir);
    assert_int_equal(unlink(json) + unlink(junit) + rmdir(dir) + rmdir(middle) + rmdir(top), 0);
}

static void a_results_folder_that_cannot_be_is_named(void **state)
{
    struct fixture *f = *state;
    g_autoptr(GError) error = NULL;
    assert_false(report_write(f->report, "/dev/null/results", &error));
    assert_string_equal(error->message,
                        "cannot write results to '/dev/null/results': Not a directory; "
                        "choose another folder with --results");
}

int main(void)
{
#define with(setup_function, test) cmocka_unit_test_setup_teardown(test, setup_function, teardown)
    const struct CMUnitTest tests[] = {
        with(setup, a_run_is_told_as_tap),
        with(setup_13, prove_counts_every_test_and_reads_the_diagnostics),
        with(setup_13, prove_accepts_a_run_that_passed),
        with(setup_color, what_is_noted_once_is_told_once_a_run),
        with(setup_color, colour_marks_the_verdict_only),
        with(setup, a_run_without_tests_has_an_empty_plan),
        with(setup, an_interrupted_run_says_what_was_not_run),
        with(setup, a_broken_file_is_a_failure_and_ends_the_test_that_runs),
        with(setup, tap_shows_the_end_of_a_long_attachment_and_the_files_all_of_it),
        cmocka_unit_test(text_is_made_valid_and_harmless),
        with(setup_13, junit_is_well_formed_whatever_bytes_come_in),
        with(setup, junit_has_a_suite_per_file_and_a_case_per_test),
        with(setup, json_holds_every_result),
        with(setup, json_of_an_interrupted_run_lists_what_was_not_run),
        cmocka_unit_test(the_progress_line_fits_and_is_gone_before_anything_is_printed),
        with(setup, result_files_are_replaced_as_a_whole),
        with(setup, a_results_folder_that_cannot_be_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
