/*
 * `ringlab run`: which files run, how often, what is reported where, with which exit status.
 * Not here: what a scenario is (scenario/) and what reports look like (report/).
 */
#include "harness/cancel.h"
#include "harness/child.h"
#include "harness/cmd.h"
#include "harness/report/report.h"
#include "harness/run_files.h"
#include "harness/scenario/scenario.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static const char help_text[] =
    "Runs scenarios: Lua scripts that declare machines and devices, and tests of them. Each FILE\n"
    "is a scenario; in a DIR all *.lua files are, sorted by name, in its subfolders too, except\n"
    "below folders called 'lib'. Results are told as TAP on standard output, which ends with a\n"
    "line 'N passed, N failed, N skipped', and are written to DIR/junit.xml and DIR/run.json of\n"
    "--results. Ctrl-C stops the test that runs and says what was not run; a second one stops at\n"
    "once.";

static const char help_examples[] =
    "Examples:\n"
    "  ringlab run scenarios                          all of them\n"
    "  ringlab run --trace scenarios/virtio_net/status.lua\n"
    "                                                 failures show the register accesses\n"
    "  ringlab run --filter '*reset*' --repeat 100 --shuffle 7 scenarios/virtio_net\n"
    "  ringlab run --record wire scenarios/demo.lua   transcripts, for tests without a QEMU\n"
    "  ringlab run --list scenarios                   names only\n"
    "  prove --exec 'ringlab run' scenarios/pci/*.lua another TAP consumer\n"
    "\n"
    "Exit status: 0 all passed; 1 something failed; 2 wrong usage or a broken scenario; 77 all\n"
    "skipped; 130 interrupted.\n";

struct run_options {
    struct scenario_options scenario;
    const char *results;
    unsigned n_rounds;
    bool is_quiet;
};

/* ---- running them ---- */

/* In a thread of its own: nothing ends the script that is stuck but the end of this process. */
static void on_stuck(void *data, struct report *report)
{
    const struct run_options *options = data;
    g_autoptr(GError) error = NULL;
    child_end_all();
    report_run_given_up(report, "a script is stuck in one call that nothing can interrupt, long "
                                "after its deadline (a string pattern without end? a finalizer or "
                                "an error handler that loops?): the run ends here");
    if (!report_write(report, options->results, &error)) {
        cmd_error("%s", error->message);
    }
    fflush(NULL);
    _exit(CMD_FAILED);
}

static bool has_terminal(int fd)
{
    const char *term = g_getenv("TERM");
    return isatty(fd) && g_strcmp0(term, "dumb") != 0;
}

static void add_sinks(struct report *report, const struct run_options *options)
{
    const char *no_color = g_getenv("NO_COLOR");
    bool has_color = has_terminal(STDOUT_FILENO) && !(no_color && *no_color);
    /* perl's Test::Harness before 3.45 takes nothing above 13, and says in this variable that it
     * listens; what follows the first line is valid in both. */
    unsigned version = g_getenv("HARNESS_ACTIVE") ? 13 : 14;
    report_add_sink(report, report_tap_new(stdout, version, has_color));
    if (!options->is_quiet && has_terminal(STDERR_FILENO)) {
        report_add_sink(report, report_progress_new(stderr, 0));
    }
}

static void run_file(struct report *report, const char *path, unsigned round,
                     const struct scenario_options *options)
{
    g_autoptr(GError) error = NULL;
    report_file_started(report, path, round);
    if (!scenario_run_file(path, options, report, &error)) {
        report_file_broken(report, error->message);
        report_hide(report);
        cmd_error("%s", error->message);
    }
    if (!cancel_is_requested()) {
        report_file_ended(report);
    }
}

static void run_rounds(struct report *report, const GPtrArray *files,
                       const struct run_options *options)
{
    struct scenario_options scenario = options->scenario;
    for (unsigned round = 1; round <= options->n_rounds && !cancel_is_requested(); round++) {
        if (options->scenario.shuffle_seed) {
            scenario.shuffle_seed = options->scenario.shuffle_seed + round - 1;
            report_note(report, "order of tests drawn from --shuffle %u", scenario.shuffle_seed);
        }
        for (guint i = 0; files->pdata[i] && !cancel_is_requested(); i++) {
            run_file(report, files->pdata[i], round, &scenario);
        }
    }
}

static unsigned count_tests(const struct report *report, bool planned)
{
    const GPtrArray *files = report_files(report);
    unsigned n = 0;
    for (guint i = 0; i < files->len; i++) {
        const struct report_file *file = files->pdata[i];
        n += planned ? (file->planned ? file->planned->len : 0) : file->tests->len;
    }
    return n;
}

static int verdict(const struct report *report, const struct run_options *options)
{
    struct report_counts counts = report_counts(report);
    bool only_list = options->scenario.only_list;
    if (cancel_is_requested()) {
        return CMD_INTERRUPTED;
    }
    if (counts.broken) {
        return CMD_USAGE;
    }
    if (count_tests(report, only_list) == 0) {
        if (options->scenario.filter) {
            cmd_error("no test matches --filter '%s'; --list shows the names, and the pattern has "
                      "to match all of one",
                      options->scenario.filter);
        } else {
            cmd_error("no test in any of the scenarios given");
        }
        return CMD_USAGE;
    }
    if (only_list) {
        return CMD_PASSED;
    }
    return counts.failed ? CMD_FAILED : counts.passed ? CMD_PASSED : CMD_SKIPPED;
}

static int run_scenarios(const GPtrArray *files, const struct run_options *options)
{
    g_autoptr(GError) error = NULL;
    if (!report_prepare(options->results, &error)) {
        cmd_error("%s", error->message);
        return CMD_USAGE;
    }
    struct report *report = report_new();
    add_sinks(report, options);
    report_run_started(report, (const char *const *)files->pdata, options->n_rounds);
    run_rounds(report, files, options);
    report_run_ended(report, cancel_signal());
    int status = verdict(report, options);
    if (!report_write(report, options->results, &error)) {
        cmd_error("%s", error->message);
        status = CMD_USAGE;
    }
    report_free(report);
    return status;
}

static int list_scenarios(const GPtrArray *files, const struct run_options *options)
{
    struct report *report = report_new();
    report_run_started(report, (const char *const *)files->pdata, 1);
    for (guint i = 0; files->pdata[i] && !cancel_is_requested(); i++) {
        run_file(report, files->pdata[i], 1, &options->scenario);
        const struct report_file *file = report_files(report)->pdata[i];
        for (guint t = 0; file->planned && t < file->planned->len; t++) {
            printf("%s: %s\n", file->path, (const char *)file->planned->pdata[t]);
        }
    }
    report_run_ended(report, cancel_signal());
    int status = verdict(report, options);
    report_free(report);
    return status;
}

/* ---- the command line ---- */

enum { NO_SHUFFLE = INT_MIN };

static bool check_numbers(int repeat, double timeout_s, int shuffle, struct run_options *options)
{
    if (repeat < 1) {
        cmd_error("--repeat %d: give a number of rounds from 1 up", repeat);
        return false;
    }
    if (!(timeout_s >= 0.001 && timeout_s <= 86400)) {
        cmd_error("--timeout %g: give seconds from 0.001 to 86400", timeout_s);
        return false;
    }
    if (shuffle < 0 && shuffle != NO_SHUFFLE) {
        cmd_error("--shuffle %d: give a seed from 0 up (0: draw one)", shuffle);
        return false;
    }
    options->n_rounds = (unsigned)repeat;
    options->scenario.test_timeout_ms = (unsigned)(timeout_s * 1000);
    if (shuffle != NO_SHUFFLE) {
        options->scenario.shuffle_seed = shuffle ? (unsigned)shuffle : 1 + (g_random_int() >> 8);
    }
    return true;
}

/* Before a long run, not in the middle of it. */
static bool check_folder(const char *dir)
{
    if (g_mkdir_with_parents(dir, 0777) == 0 && access(dir, W_OK | X_OK) == 0) {
        return true;
    }
    cmd_error("--record: cannot write to '%s': %s; choose another folder", dir, g_strerror(errno));
    return false;
}

int cmd_run(int argc, char **argv)
{
    gboolean trace = FALSE, list = FALSE, quiet = FALSE;
    g_autofree char *filter = NULL;
    g_autofree char *results = NULL;
    g_autofree char *record = NULL;
    int repeat = 1, shuffle = NO_SHUFFLE;
    double timeout_s = 30;
    const GOptionEntry entries[] = {
        {"filter", 'f', 0, G_OPTION_ARG_STRING, &filter,
         "Only tests whose whole name matches, * and ? as in the shell", "PATTERN"},
        {"list", 'l', 0, G_OPTION_ARG_NONE, &list, "Print 'FILE: TEST' lines, run nothing", NULL},
        {"trace", 't', 0, G_OPTION_ARG_NONE, &trace,
         "Attach the last register accesses to a test that fails", NULL},
        {"timeout", 0, 0, G_OPTION_ARG_DOUBLE, &timeout_s,
         "A test fails after so many seconds (default 30)", "SECONDS"},
        {"repeat", 'n', 0, G_OPTION_ARG_INT, &repeat, "Run everything N times over", "N"},
        {"shuffle", 0, 0, G_OPTION_ARG_INT, &shuffle,
         "Run the tests of each file in an order drawn from SEED (0: draw a seed too)", "SEED"},
        {"record", 0, 0, G_OPTION_ARG_FILENAME, &record,
         "Write to DIR what goes over the qtest socket, a file for each machine of each test",
         "DIR"},
        {"results", 0, 0, G_OPTION_ARG_FILENAME, &results,
         "Folder for junit.xml and run.json (default 'results')", "DIR"},
        {"quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet, "No progress line on the terminal", NULL},
        G_OPTION_ENTRY_NULL,
    };
    struct run_options options = {.scenario = {.cancel_fd = -1}, .n_rounds = 1};
    g_autoptr(GError) error = NULL;
    bool done = false;

    if (!cmd_parse(entries, "FILE|DIR...", help_text, help_examples, &argc, &argv, &done)) {
        return CMD_USAGE;
    }
    if (done) {
        return CMD_PASSED;
    }
    if (argc < 2) {
        cmd_error("no scenario given; name a file or a folder, such as 'ringlab run scenarios'");
        return CMD_USAGE;
    }
    if (!check_numbers(repeat, timeout_s, shuffle, &options)) {
        return CMD_USAGE;
    }
    if (record && !check_folder(record)) {
        return CMD_USAGE;
    }
    g_autoptr(GPtrArray) files = run_files_collect((const char *const *)argv + 1, &error);
    if (!files) {
        cmd_error("%s", error->message);
        return CMD_USAGE;
    }
    options.scenario.filter = filter;
    options.scenario.has_trace = trace;
    options.scenario.only_list = list;
    options.scenario.record_dir = record;
    options.scenario.cancel_fd = cancel_fd();
    options.scenario.is_cancelled = cancel_is_requested;
    options.results = results ? results : "results";
    options.scenario.stuck = list ? NULL : on_stuck;
    options.scenario.stuck_data = &options;
    options.is_quiet = quiet;
    return list ? list_scenarios(files, &options) : run_scenarios(files, &options);
}
