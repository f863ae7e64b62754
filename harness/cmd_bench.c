/*
 * `ringlab bench`: which figures are measured, how long, and how they are told.
 * Not here: how anything is measured (bench/).
 */
#include "harness/bench/bench.h"
#include "harness/cancel.h"
#include "harness/cmd.h"
#include "harness/qemu.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help_text[] =
    "Measures how fast a stock QEMU is driven, and against what. Without NAME everything is\n"
    "measured, which takes about a quarter of a minute; NAME is a figure, its first part\n"
    "('qtest'), or a pattern ('*_vs_*').\n"
    "\n"
    "What is compared is measured in turns on the same QEMU, round after round, and a ratio is "
    "taken\n"
    "within each round, so that what slows the machine down slows both sides. Each figure is the\n"
    "median of its rounds, with the first and third quartiles.\n"
    "\n"
    "What is aimed at is meant for a machine that does nothing else. On such a machine a client "
    "that\n"
    "works as libqtest does spends most of its time waking processors up, so that it is much "
    "further\n"
    "behind than on one whose processors are awake; figures with 'loaded' in their\n"
    "name are taken while something else (threads at the lowest priority) keeps them awake.\n"
    "\n"
    "With --json each figure is one object on a line of its own:\n"
    "  "
    "{\"name\":\"...\",\"value\":MEDIAN,\"unit\":\"x\",\"spread\":[QUARTILE,QUARTILE],\"n\":"
    "ROUNDS}";

static const char help_examples[] =
    "Examples:\n"
    "  ringlab bench                             everything, as a table\n"
    "  ringlab bench --list                      the figures, and what each means\n"
    "  ringlab bench --json 'qtest.*_vs_*'       the ratios of the qtest client, for a program\n"
    "  ringlab bench --runs 200 start            start-up times, of more rounds\n"
    "\n"
    "Exit status: 0 all figures came out, whatever they are; 1 one could not be measured; 2 wrong\n"
    "usage, or no QEMU; 130 interrupted.\n";

enum {
    DEFAULT_ROUNDS = 50,
    DEFAULT_SLICE_MS = 20,
    QUICK_ROUNDS = 3,
    QUICK_SLICE_MS = 1,
    MAX_ROUNDS = 10000,
    NO_RUNS = INT_MIN,
};

struct output {
    char *const *patterns; /* NULL-terminated */
    bool is_json;
    bool has_header;
};

/* ---- names ---- */

static bool matches(const char *pattern, const char *name)
{
    size_t len = strlen(pattern);

    return g_pattern_match_simple(pattern, name) ||
           (strncmp(pattern, name, len) == 0 && name[len] == '.');
}

static bool is_wanted(char *const *patterns, const char *name)
{
    bool wanted = !*patterns;

    for (; *patterns && !wanted; patterns++) {
        wanted = matches(*patterns, name);
    }
    return wanted;
}

static const struct bench_figure *find_figure(const char *pattern)
{
    for (const struct bench_group *const *g = bench_groups; *g; g++) {
        for (const struct bench_figure *f = (*g)->figures; f->name; f++) {
            if (matches(pattern, f->name)) {
                return f;
            }
        }
    }
    return NULL;
}

static bool names_exist(char *const *patterns)
{
    for (; *patterns; patterns++) {
        if (!find_figure(*patterns)) {
            cmd_error("no figure '%s'; 'ringlab bench --list' shows them", *patterns);
            return false;
        }
    }
    return true;
}

/* ---- output ---- */

/* Four digits that count, without an exponent. */
static char *number_text(double value)
{
    int after = 3;

    for (double size = value < 0 ? -value : value; size >= 10 && after > 0; size /= 10) {
        after--;
    }
    return g_strdup_printf("%.*f", after, value);
}

static char *aim_text(const struct bench_figure *f)
{
    return f->aim ? g_strdup_printf(" (aim: %s)", f->aim) : g_strdup("");
}

static void print_figure(void *data, const char *name, struct bench_spread value)
{
    struct output *out = data;
    const struct bench_figure *f = find_figure(name);

    if (!is_wanted(out->patterns, name)) {
        return;
    }
    g_autofree char *median = number_text(value.median);
    g_autofree char *low = number_text(value.low);
    g_autofree char *high = number_text(value.high);
    if (out->is_json) {
        printf("{\"name\":\"%s\",\"value\":%s,\"unit\":\"%s\",\"spread\":[%s,%s],\"n\":%u}\n", name,
               median, f->unit, low, high, value.n);
    } else {
        if (!out->has_header) {
            printf("%-41s %9s %-9s  %s\n", "figure", "median", "unit", "quartiles");
        }
        out->has_header = true;
        g_autofree char *aim = aim_text(f);
        g_autofree char *quartiles = g_strdup_printf("%s .. %s", low, high);
        printf("%-41s %9s %-9s  %-20s%s\n", name, median, f->unit, quartiles, aim);
    }
    fflush(stdout);
}

static void print_list(char *const *patterns)
{
    for (const struct bench_group *const *g = bench_groups; *g; g++) {
        for (const struct bench_figure *f = (*g)->figures; f->name; f++) {
            if (is_wanted(patterns, f->name)) {
                g_autofree char *aim = aim_text(f);
                printf("%-41s %-9s  %s%s\n", f->name, f->unit, f->meaning, aim);
            }
        }
    }
}

/* Whether something else keeps the machine busy, for whoever looks at the figures. */
static void warn_of_load(void)
{
    double load;

    if (isatty(STDERR_FILENO) && getloadavg(&load, 1) == 1 && load > 0.7) {
        fprintf(stderr,
                "note: the load average is %.1f; what is aimed at is meant for an idle machine\n",
                load);
    }
}

/* ---- running ---- */

static bool is_group_wanted(const struct bench_group *group, char *const *patterns)
{
    for (const struct bench_figure *f = group->figures; f->name; f++) {
        if (is_wanted(patterns, f->name)) {
            return true;
        }
    }
    return false;
}

static int run(const struct bench_settings *settings, struct output *out)
{
    const struct bench_sink sink = {print_figure, out};
    int status = CMD_PASSED;

    for (const struct bench_group *const *g = bench_groups; *g; g++) {
        g_autoptr(GError) error = NULL;
        if (!is_group_wanted(*g, out->patterns) || (*g)->run(settings, &sink, &error)) {
            continue;
        }
        if (cancel_is_requested()) {
            cmd_error("interrupted");
            return CMD_INTERRUPTED;
        }
        cmd_error("%s: %s", (*g)->figures->name, error->message);
        if (g_error_matches(error, QEMU_ERROR, QEMU_ERROR_NOT_FOUND)) {
            return CMD_USAGE;
        }
        status = CMD_FAILED;
    }
    return status;
}

int cmd_bench(int argc, char **argv)
{
    gboolean json = FALSE, list = FALSE, quick = FALSE;
    int runs = NO_RUNS;
    const GOptionEntry entries[] = {
        {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "One JSON object per line", NULL},
        {"list", 'l', 0, G_OPTION_ARG_NONE, &list, "Print the figures' names, measure nothing",
         NULL},
        {"runs", 'n', 0, G_OPTION_ARG_INT, &runs, "Rounds per figure (default 50)", "N"},
        {"quick", 'q', 0, G_OPTION_ARG_NONE, &quick,
         "Three short rounds: shows that everything can be measured, the figures mean little",
         NULL},
        G_OPTION_ENTRY_NULL,
    };
    bool done = false;

    if (!cmd_parse(entries, "[NAME...]", help_text, help_examples, &argc, &argv, &done)) {
        return CMD_USAGE;
    }
    if (done) {
        return CMD_PASSED;
    }
    if (runs != NO_RUNS && (runs < 1 || runs > MAX_ROUNDS)) {
        cmd_error("--runs %d: give a number of rounds from 1 to %d", runs, MAX_ROUNDS);
        return CMD_USAGE;
    }
    struct output out = {.patterns = argv + 1, .is_json = json};
    if (!names_exist(out.patterns)) {
        return CMD_USAGE;
    }
    if (list) {
        print_list(out.patterns);
        return CMD_PASSED;
    }
    struct bench_settings settings = {
        .n_rounds = runs != NO_RUNS ? (unsigned)runs
                    : quick         ? QUICK_ROUNDS
                                    : DEFAULT_ROUNDS,
        .slice_ms = quick ? QUICK_SLICE_MS : DEFAULT_SLICE_MS,
    };
    warn_of_load();
    return run(&settings, &out);
}
