/*
 * `ringlab bench`: that every figure comes out, in the form promised; never how large it is.
 */
#include "harness/bench/bench.h"
#include "harness/cmd.h"

#include <json-glib/json-glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "harness/test_capture.h"

/* Runs `bench` with the words of `line`; *out and *err are what it printed. */
static int bench(const char *line, char **out, char **err)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    int argc = (int)g_strv_length(words);
    g_autofree char **argv = g_memdup2(words, ((size_t)argc + 1) * sizeof(char *));
    struct capture stdout_capture, stderr_capture;

    g_set_prgname("ringlab bench");
    capture_begin(&stdout_capture, 1);
    capture_begin(&stderr_capture, 2);
    int status = cmd_bench(argc, argv);
    *err = capture_end(&stderr_capture);
    *out = capture_end(&stdout_capture);
    return status;
}

static void check(const char *line, int status, const char *out, const char *err)
{
    g_autofree char *got_out = NULL;
    g_autofree char *got_err = NULL;

    assert_int_equal(bench(line, &got_out, &got_err), status);
    assert_string_equal(got_err, err);
    assert_string_equal(got_out, out);
}

/* The number of lines of `text` that begin with `name`. */
static unsigned count_lines(const char *text, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    size_t len = strlen(name);
    unsigned n = 0;

    for (char **line = lines; *line; line++) {
        n += strncmp(*line, name, len) == 0 && ((*line)[len] == ' ' || (*line)[len] == '\0');
    }
    return n;
}

static void the_list_has_the_names_that_others_rely_on(void **state)
{
    static const char *const names[] = {
        "qtest.batch_vs_libqtest",
        "qtest.batch_vs_raw",
        "qtest.single_vs_libqtest",
        "qtest.single_vs_libqtest_loaded",
        "memory.shared_vs_b64",
        "start.first_reply_ms",
        "start.scenario_overhead_ms",
        "virtio_net.hub_frames_per_s",
        "virtio_net.burst_vs_single_kick",
        "virtio_net.qtest_ops_per_million_frames",
        "ptnet.vale_frames_per_s",
        "ptnet.pipe_frames_per_s",
        "ptnet.kicks_per_million",
        "ptnet.interrupts_per_million",
        "ptnet.tso_gbit_per_s",
        "ptnet.transactions_per_s",
    };
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;

    (void)state;
    assert_int_equal(bench("bench --list", &out, &err), CMD_PASSED);
    assert_string_equal(err, "");
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        assert_int_equal(count_lines(out, names[i]), 1);
    }
}

static void names_choose_by_figure_by_group_and_by_pattern(void **state)
{
    static const struct {
        const char *line;
        unsigned n_lines;
    } cases[] = {
        {"bench --list memory.shared_vs_b64", 1},
        {"bench --list virtio_net", 3},
        {"bench --list start.*_ms", 4},
        {"bench --list memory.shared_vs_b64 virtio_net *.shared_vs_b64", 4},
    };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *out = NULL;
        g_autofree char *err = NULL;
        assert_int_equal(bench(cases[i].line, &out, &err), CMD_PASSED);
        g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
        assert_int_equal(g_strv_length(lines) - 1, cases[i].n_lines);
    }
}

static void wrong_usage_is_told_in_one_line(void **state)
{
    (void)state;
    check("bench qtest.warp", CMD_USAGE, "",
          "ringlab bench: no figure 'qtest.warp'; 'ringlab bench --list' shows them\n");
    check("bench start qtes", CMD_USAGE, "",
          "ringlab bench: no figure 'qtes'; 'ringlab bench --list' shows them\n");
    check("bench --runs 0", CMD_USAGE, "",
          "ringlab bench: --runs 0: give a number of rounds from 1 to 10000\n");
    check("bench --runs 10001", CMD_USAGE, "",
          "ringlab bench: --runs 10001: give a number of rounds from 1 to 10000\n");
}

static void without_a_qemu_nothing_is_measured(void **state)
{
    g_autofree char *before = g_strdup(g_getenv("RINGLAB_QEMU"));
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;

    (void)state;
    g_setenv("RINGLAB_QEMU", "/nowhere/qemu", TRUE);
    int status = bench("bench --quick start", &out, &err);
    if (before) {
        g_setenv("RINGLAB_QEMU", before, TRUE);
    } else {
        g_unsetenv("RINGLAB_QEMU");
    }
    assert_int_equal(status, CMD_USAGE);
    assert_string_equal(out, "");
    assert_non_null(strstr(err, "/nowhere/qemu"));
    assert_string_equal(strchr(err, '\n'), "\n");
}

/* A figure's object: its members, and that quartiles lie around the median. Returns the name. */
static char *check_object(const char *line)
{
    g_autoptr(JsonNode) node = json_from_string(line, NULL);

    assert_non_null(node);
    JsonObject *o = json_node_get_object(node);
    assert_int_equal(json_object_get_size(o), 5);
    double value = json_object_get_double_member(o, "value");
    JsonArray *spread = json_object_get_array_member(o, "spread");
    assert_int_equal(json_array_get_length(spread), 2);
    assert_true(json_array_get_double_element(spread, 0) <= value);
    assert_true(json_array_get_double_element(spread, 1) >= value);
    assert_true(json_object_get_int_member(o, "n") >= 1);
    assert_true(strlen(json_object_get_string_member(o, "unit")) > 0);
    const char *name = json_object_get_string_member(o, "name");
    /* a difference of two times may be anything where the machine is busy */
    assert_true(value > 0 || strcmp(name, "start.scenario_overhead_ms") == 0);
    return g_strdup(name);
}

static void every_figure_comes_out_once_as_an_object_on_a_line(void **state)
{
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    g_autoptr(GString) names = g_string_new(NULL);

    (void)state;
    int status = bench("bench --quick --json", &out, &err);
    assert_string_equal(err, "");
    assert_int_equal(status, CMD_PASSED);
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    for (char **line = lines; line[1]; line++) {
        g_autofree char *name = check_object(*line);
        g_string_append_printf(names, "%s\n", name);
    }
    unsigned n = 0;
    for (const struct bench_group *const *g = bench_groups; *g; g++) {
        for (const struct bench_figure *f = (*g)->figures; f->name; f++, n++) {
            assert_int_equal(count_lines(names->str, f->name), 1);
        }
    }
    assert_int_equal(g_strv_length(lines) - 1, n);
}

static void only_figures_asked_for_are_in_the_table(void **state)
{
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;

    (void)state;
    assert_int_equal(bench("bench --quick start.end_ms", &out, &err), CMD_PASSED);
    assert_string_equal(err, "");
    assert_int_equal(count_lines(out, "figure"), 1);
    assert_int_equal(count_lines(out, "start.end_ms"), 1);
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    assert_int_equal(g_strv_length(lines) - 1, 2);
}

int main(void)
{
    /* tests are run from the top of the repository */
    g_setenv("RINGLAB_LUA_PATH", "scenarios/lib", TRUE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_list_has_the_names_that_others_rely_on),
        cmocka_unit_test(names_choose_by_figure_by_group_and_by_pattern),
        cmocka_unit_test(wrong_usage_is_told_in_one_line),
        cmocka_unit_test(without_a_qemu_nothing_is_measured),
        cmocka_unit_test(every_figure_comes_out_once_as_an_object_on_a_line),
        cmocka_unit_test(only_figures_asked_for_are_in_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
