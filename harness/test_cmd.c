/*
 * The command line before any command: finding commands, help, wrong usage, one-line errors.
 */
#include "harness/cmd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/test_capture.h"

static int seen_argc;
static char *seen_argument;
static gboolean seen_loud;

static int cmd_play(int argc, char **argv)
{
    const GOptionEntry entries[] = {
        {"loud", 'l', 0, G_OPTION_ARG_NONE, &seen_loud, "Play loudly", NULL},
        G_OPTION_ENTRY_NULL,
    };
    bool done = false;
    if (!cmd_parse(entries, "TUNE", "Plays a tune.", "Example:\n  ringlab play x", &argc, &argv,
                   &done))
        return CMD_USAGE;
    if (done)
        return CMD_PASSED;
    seen_argc = argc;
    seen_argument = argc > 1 ? argv[1] : NULL;
    return CMD_FAILED;
}

static int cmd_sing(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    cmd_error("no voice in '%s'\nat all", "throat");
    return CMD_SKIPPED;
}

static const struct command commands[] = {
    {"play", "TUNE", "play a tune", cmd_play},
    {"sing", "SONG...", "sing songs", cmd_sing},
    {NULL, NULL, NULL, NULL},
};

/* Runs `line` (words separated by spaces) and returns the status; *out and *err are what it
 * printed. */
static int dispatch(const char *line, char **out, char **err)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    int argc = (int)g_strv_length(words);
    g_autofree char **argv = g_memdup2(words, ((size_t)argc + 1) * sizeof(char *));
    struct capture stdout_capture, stderr_capture;
    capture_begin(&stdout_capture, 1);
    capture_begin(&stderr_capture, 2);
    seen_argc = -1;
    seen_loud = FALSE;
    int status = cmd_dispatch(commands, argc, argv);
    seen_argument = g_strdup(seen_argument);
    *err = capture_end(&stderr_capture);
    *out = capture_end(&stdout_capture);
    return status;
}

static void check(const char *line, int status, const char *out, const char *err)
{
    g_autofree char *got_out = NULL;
    g_autofree char *got_err = NULL;
    assert_int_equal(dispatch(line, &got_out, &got_err), status);
    assert_string_equal(got_err, err);
    assert_string_equal(got_out, out);
    g_clear_pointer(&seen_argument, g_free);
}

static void a_command_gets_its_own_arguments_and_its_status_is_returned(void **state)
{
    (void)state;
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    assert_int_equal(dispatch("ringlab play --loud march", &out, &err), CMD_FAILED);
    assert_int_equal(seen_argc, 2);
    assert_true(seen_loud);
    assert_string_equal(seen_argument, "march");
    g_clear_pointer(&seen_argument, g_free);
}

static void two_dashes_end_the_options(void **state)
{
    (void)state;
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    assert_int_equal(dispatch("ringlab play -- --loud", &out, &err), CMD_FAILED);
    assert_int_equal(seen_argc, 2);
    assert_false(seen_loud);
    assert_string_equal(seen_argument, "--loud");
    g_clear_pointer(&seen_argument, g_free);
}

static void an_unknown_command_names_the_nearest(void **state)
{
    (void)state;
    check("ringlab sign", CMD_USAGE, "", "ringlab: no command 'sign'; did you mean 'sing'?\n");
    check("ringlab pl", CMD_USAGE, "", "ringlab: no command 'pl'; did you mean 'play'?\n");
    check("ringlab help plya", CMD_USAGE, "", "ringlab: no command 'plya'; did you mean 'play'?\n");
}

static void an_unknown_command_like_no_other_points_to_help(void **state)
{
    (void)state;
    check("ringlab orchestra", CMD_USAGE, "",
          "ringlab: no command 'orchestra'; 'ringlab --help' lists them\n");
}

static void no_command_and_unknown_options_are_wrong_usage(void **state)
{
    (void)state;
    check("ringlab", CMD_USAGE, "", "ringlab: no command given; 'ringlab --help' lists them\n");
    check("ringlab --loud play", CMD_USAGE, "",
          "ringlab: no option '--loud' before the command; 'ringlab --help' lists them\n");
    check("ringlab play --quiet", CMD_USAGE, "",
          "ringlab play: Unknown option --quiet; 'ringlab play --help' lists the options\n");
}

static void version_is_one_line(void **state)
{
    (void)state;
    check("ringlab --version", CMD_PASSED, "ringlab " RINGLAB_VERSION "\n", "");
}

static void help_lists_every_command_with_its_arguments(void **state)
{
    (void)state;
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    assert_int_equal(dispatch("ringlab --help", &out, &err), CMD_PASSED);
    assert_string_equal(err, "");
    assert_non_null(strstr(out, "\n  play TUNE                  play a tune\n"
                                "  sing SONG...               sing songs\n"));
}

static void help_of_a_command_is_the_same_in_both_spellings(void **state)
{
    (void)state;
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autofree char *err1 = NULL;
    g_autofree char *err2 = NULL;
    assert_int_equal(dispatch("ringlab help play", &first, &err1), CMD_PASSED);
    assert_int_equal(dispatch("ringlab play --help", &second, &err2), CMD_PASSED);
    assert_string_equal(err1, "");
    assert_string_equal(err2, "");
    assert_string_equal(first, second);
    assert_int_equal(strncmp(first, "Usage:\n  ringlab play [OPTION…] TUNE\n\nPlays a tune.\n", 30),
                     0);
    assert_non_null(strstr(first, "  -l, --loud     Play loudly\n"));
    assert_non_null(strstr(first, "  -h, --help     Print this text\n"));
    assert_non_null(strstr(first, "Example:\n  ringlab play x\n"));
    assert_int_equal(seen_argc, -1);
}

static void an_error_is_one_line_that_names_the_command(void **state)
{
    (void)state;
    check("ringlab sing", CMD_SKIPPED, "", "ringlab sing: no voice in 'throat'; at all\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_gets_its_own_arguments_and_its_status_is_returned),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(an_unknown_command_names_the_nearest),
        cmocka_unit_test(an_unknown_command_like_no_other_points_to_help),
        cmocka_unit_test(no_command_and_unknown_options_are_wrong_usage),
        cmocka_unit_test(version_is_one_line),
        cmocka_unit_test(help_lists_every_command_with_its_arguments),
        cmocka_unit_test(help_of_a_command_is_the_same_in_both_spellings),
        cmocka_unit_test(an_error_is_one_line_that_names_the_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
