/*
 * `ringlab regs`: takes register snapshots of live devices, compares them, and checks a set of
 * devices against committed baselines.
 */
#include "harness/cancel.h"
#include "harness/cmd.h"
#include "harness/regs.h"
#include "harness/session_ptnet.h"

#include <stdio.h>
#include <string.h>

#define BASELINES "results/baseline"
#define DEVICES   "devices.txt"

struct regs_command {
    const char *machine; /* "pc" or "q35" */
    const char *output;
    const char *baselines;
    gint raw_dwords;
};

static const char text[] =
    "Finds out, by acting on a live device, what each of its registers does: its value after\n"
    "reset, which bits can be written and how, what resets restore, what accesses of other widths\n"
    "do, what lies between registers and beyond the end of BARs. DEVICE is written as for QEMU's\n"
    "-device; memory, servers and netdevs that it needs are supplied.\n\n"
    "  snapshot DEVICE       prints what was found\n"
    "  diff BEFORE [AFTER]   compares two files, or a file with its device as it is now\n"
    "  check [NAME...]       compares the devices listed in the baseline folder, as TAP";

static const char examples[] =
    "Examples:\n"
    "  ringlab regs snapshot virtio-net-pci,disable-legacy=on\n"
    "  ringlab regs snapshot -o edu.txt edu && ringlab regs diff edu.txt\n"
    "  ringlab regs check\n\n"
    "Exit status: 0 no difference; 1 something differs; 2 wrong usage; 77 no baseline for this "
    "QEMU.";

static const char legend[] =
    "# What the registers of a device do, found by `ringlab regs snapshot`. Per register: its "
    "name,\n"
    "# offset in its block, bytes, and access according to its table; then, each time starting "
    "from\n"
    "# the state after a reset:\n"
    "#   reset         what it reads\n"
    "#   bits          how bits answer to all ones and all zeros, written in both orders; "
    "`fixed`:\n"
    "#                 they do not. `one by one`: bits that stick when written alone, if others\n"
    "#   ones, zeros   what else changes with such a write\n"
    "#   resets        what becomes of a value that was written before (the one in parentheses)\n"
    "#   reads, writes accesses of other widths: narrower ones part by part (for writes: what the\n"
    "#                 register reads after ones in that part), wider ones starting at the "
    "register.\n"
    "#                 Only widths that do not just reach the same bytes\n"
    "#   ends          what was done when QEMU ended\n";

static bool parse_board(const char *name, enum machine_board *board)
{
    *board = g_strcmp0(name, "q35") == 0 ? MACHINE_Q35 : MACHINE_PC;
    if (!name || strcmp(name, "pc") == 0 || strcmp(name, "q35") == 0)
        return true;
    cmd_error("no machine '%s'; it is pc or q35", name);
    return false;
}

/* The text of a device as it is now, with the header that says what it is of. */
static char *snapshot(const char *spec, const char *machine, const struct regs_command *c,
                      GError **error)
{
    const struct qemu_info *info = qemu_info_get(error);
    struct regs_options options = {.raw_dwords = (unsigned)c->raw_dwords};
    enum machine_board board;

    if (!info || !parse_board(machine, &board))
        return NULL;
    struct regs_bed *bed = regs_bed_new(spec, board, error);
    if (!bed)
        return NULL;
    g_autofree char *body = regs_snapshot(bed, &options, error);
    regs_bed_free(bed);
    return body ? g_strdup_printf("%sqemu      %d.%d\nmachine   %s\ndevice    %s\n%s", legend,
                                  info->major, info->minor, machine ? machine : "pc", spec, body)
                : NULL;
}

static int fail(GError *error)
{
    if (error)
        cmd_error("%s", error->message);
    g_clear_error(&error);
    return CMD_USAGE;
}

static int run_snapshot(const struct regs_command *c, int argc, char **argv)
{
    GError *error = NULL;

    if (argc != 1) {
        cmd_error("snapshot takes one DEVICE, not %d; 'ringlab regs --help' shows how", argc);
        return CMD_USAGE;
    }
    g_autofree char *result = snapshot(argv[0], c->machine, c, &error);
    if (!result)
        return fail(error);
    if (!c->output) {
        fputs(result, stdout);
        return CMD_PASSED;
    }
    g_autofree char *folder = g_path_get_dirname(c->output);
    g_mkdir_with_parents(folder, 0777);
    if (!g_file_set_contents_full(c->output, result, -1, G_FILE_SET_CONTENTS_NONE, 0666, &error))
        return fail(error);
    return CMD_PASSED;
}

static char *read_file(const char *path, GError **error)
{
    char *contents = NULL;

    g_file_get_contents(path, &contents, NULL, error);
    return contents;
}

/* The device that a snapshot is of, as it is now. */
static char *again(const char *path, const char *before, const struct regs_command *c,
                   GError **error)
{
    g_autofree char *device = regs_header(before, "device");
    g_autofree char *machine = regs_header(before, "machine");

    if (!device || !machine) {
        g_set_error(error, REGS_ERROR, REGS_ERROR_FORMAT,
                    "'%s' is no register snapshot: it has no lines 'device' and 'machine'; make "
                    "one with 'ringlab regs snapshot -o FILE DEVICE'",
                    path);
        return NULL;
    }
    return snapshot(device, machine, c, error);
}

static int run_diff(const struct regs_command *c, int argc, char **argv)
{
    GError *error = NULL;

    if (argc != 1 && argc != 2) {
        cmd_error("diff takes one or two files; 'ringlab regs --help' shows how");
        return CMD_USAGE;
    }
    g_autofree char *before = read_file(argv[0], &error);
    if (!before)
        return fail(error);
    g_autofree char *after =
        argc == 2 ? read_file(argv[1], &error) : again(argv[0], before, c, &error);
    if (!after)
        return fail(error);
    g_autofree char *difference = regs_diff(before, after, &error);
    if (error)
        return fail(error);
    if (!difference)
        return CMD_PASSED;
    fputs(difference, stdout);
    return CMD_FAILED;
}

/* ---- check ---- */

struct baseline {
    char *name, *machine, *spec;
};

static void baseline_free(gpointer data)
{
    struct baseline *b = data;

    g_free(b->name);
    g_free(b->machine);
    g_free(b->spec);
    g_free(b);
}

/* Lines "NAME MACHINE DEVICE"; `#` starts a comment. */
static GPtrArray *read_list(const char *path, GError **error)
{
    g_autofree char *contents = read_file(path, error);
    if (!contents)
        return NULL;
    GPtrArray *list = g_ptr_array_new_with_free_func(baseline_free);
    g_auto(GStrv) lines = g_strsplit(contents, "\n", -1);

    for (unsigned i = 0; lines[i]; i++) {
        g_autoptr(GError) bad = NULL;
        g_auto(GStrv) words = NULL;

        g_strstrip(lines[i]);
        if (*lines[i] == '\0' || *lines[i] == '#')
            continue;
        if (!g_shell_parse_argv(lines[i], NULL, &words, &bad) || g_strv_length(words) != 3) {
            g_set_error(error, REGS_ERROR, REGS_ERROR_FORMAT,
                        "%s, line %u: not NAME MACHINE DEVICE", path, i + 1);
            g_ptr_array_unref(list);
            return NULL;
        }
        struct baseline *b = g_new0(struct baseline, 1);
        b->name = g_strdup(words[0]);
        b->machine = g_strdup(words[1]);
        b->spec = g_strdup(words[2]);
        g_ptr_array_add(list, b);
    }
    return list;
}

static void refuse_name(GPtrArray *list, const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < list->len; i++)
        g_ptr_array_add(names, ((struct baseline *)list->pdata[i])->name);
    const char *nearest = pci_nearest_name(name, (const char *const *)names->pdata, names->len);
    g_ptr_array_add(names, NULL);
    g_autofree char *all = g_strjoinv(", ", (char **)names->pdata);
    if (nearest)
        cmd_error("no baseline '%s'; did you mean '%s'?", name, nearest);
    else
        cmd_error("no baseline '%s'; there are %s", name, all);
}

/* Keeps those that were asked for by name; false if one of the names is not there. */
static bool keep_named(GPtrArray *list, int n_names, char **names)
{
    for (int i = 0; i < n_names; i++) {
        bool found = false;
        for (guint k = 0; k < list->len; k++)
            found = found || strcmp(((struct baseline *)list->pdata[k])->name, names[i]) == 0;
        if (!found) {
            refuse_name(list, names[i]);
            return false;
        }
    }
    for (guint k = list->len; n_names && k > 0; k--) {
        bool wanted = false;
        for (int i = 0; i < n_names; i++)
            wanted |= strcmp(((struct baseline *)list->pdata[k - 1])->name, names[i]) == 0;
        if (!wanted)
            g_ptr_array_remove_index(list, k - 1);
    }
    return true;
}

static void print_comment(const char *lines)
{
    g_auto(GStrv) all = g_strsplit(lines, "\n", -1);

    for (char **line = all; *line; line++)
        if (**line)
            printf("# %s\n", *line);
}

static enum cmd_status check_one(const struct regs_command *c, const struct qemu_info *info,
                                 const struct baseline *b, unsigned number)
{
    g_autofree char *path =
        g_strdup_printf("%s/qemu-%d.%d/%s.txt", c->baselines, info->major, info->minor, b->name);
    g_autoptr(GError) error = NULL;

    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        printf("ok %u - %s # SKIP no baseline for QEMU %d.%d; create it: ringlab regs snapshot "
               "--machine %s -o %s %s\n",
               number, b->name, info->major, info->minor, b->machine, path, b->spec);
        return CMD_SKIPPED;
    }
    /* models of ours need of QEMU what puts them on its bus */
    g_autofree char *driver = session_ptnet_is(b->spec) ? g_strdup("x-pci-proxy-dev")
                                                        : g_strndup(b->spec, strcspn(b->spec, ","));
    if (!qemu_info_has_device(info, driver)) {
        printf("ok %u - %s # SKIP this QEMU has no device %s\n", number, b->name, driver);
        return CMD_SKIPPED;
    }
    g_autofree char *before = read_file(path, &error);
    g_autofree char *after = before ? snapshot(b->spec, b->machine, c, &error) : NULL;
    g_autofree char *difference = after ? regs_diff(before, after, &error) : NULL;
    if (cancel_is_requested())
        return CMD_INTERRUPTED;
    bool passed = after && !difference && !error;

    printf("%sok %u - %s\n", passed ? "" : "not ", number, b->name);
    if (error)
        print_comment(error->message);
    if (difference) {
        printf("# differs from %s:\n", path);
        print_comment(difference);
    }
    return passed ? CMD_PASSED : CMD_FAILED;
}

static int run_check(const struct regs_command *c, int argc, char **argv)
{
    g_autofree char *path = g_build_filename(c->baselines, DEVICES, NULL);
    GError *error = NULL;
    const struct qemu_info *info = qemu_info_get(&error);
    g_autoptr(GPtrArray) list = info ? read_list(path, &error) : NULL;
    unsigned n_skipped = 0, n_failed = 0;

    if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        cmd_error("no list of baselines '%s'; give its folder with --baselines", path);
        g_error_free(error);
        return CMD_USAGE;
    }
    if (!list)
        return fail(error);
    if (!keep_named(list, argc, argv))
        return CMD_USAGE;
    printf("TAP version 14\n1..%u\n", list->len);
    for (guint i = 0; i < list->len && !cancel_is_requested(); i++) {
        enum cmd_status status = check_one(c, info, list->pdata[i], i + 1);

        fflush(stdout);
        n_failed += status == CMD_FAILED;
        n_skipped += status == CMD_SKIPPED;
    }
    if (cancel_is_requested()) {
        cmd_error("interrupted");
        return CMD_INTERRUPTED;
    }
    if (n_failed)
        return CMD_FAILED;
    return list->len && n_skipped == list->len ? CMD_SKIPPED : CMD_PASSED;
}

int cmd_regs(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct regs_command *c, int argc, char **argv);
    } actions[] = {{"snapshot", run_snapshot}, {"diff", run_diff}, {"check", run_check}};
    g_autofree char *machine = NULL, *output = NULL, *baselines = NULL;
    struct regs_command c = {0};
    const GOptionEntry entries[] = {
        {"machine", 'm', 0, G_OPTION_ARG_STRING, &machine, "pc (default) or q35", "NAME"},
        {"output", 'o', 0, G_OPTION_ARG_FILENAME, &output, "Write the snapshot to FILE", "FILE"},
        {"dwords", 0, 0, G_OPTION_ARG_INT, &c.raw_dwords,
         "Dwords probed per BAR of a device without a table (default 64)", "N"},
        {"baselines", 0, 0, G_OPTION_ARG_FILENAME, &baselines,
         "Folder of baselines for check (default " BASELINES ")", "DIR"},
        G_OPTION_ENTRY_NULL,
    };
    enum machine_board board;
    bool done;

    if (!cmd_parse(entries, "snapshot|diff|check ARGUMENT...", text, examples, &argc, &argv, &done))
        return CMD_USAGE;
    if (done)
        return CMD_PASSED;
    if (!parse_board(machine, &board))
        return CMD_USAGE;
    if (c.raw_dwords < 0 || c.raw_dwords > 1024) {
        cmd_error("--dwords %d: it is 0 to 1024", c.raw_dwords);
        return CMD_USAGE;
    }
    c.machine = machine;
    c.output = output;
    c.baselines = baselines ? baselines : BASELINES;
    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(actions); i++)
        if (strcmp(argv[1], actions[i].name) == 0)
            return actions[i].run(&c, argc - 2, argv + 2);
    if (argc > 1)
        cmd_error("no action '%s'; there are snapshot, diff and check", argv[1]);
    else
        cmd_error("no action given: snapshot, diff or check; 'ringlab regs --help' shows how");
    return CMD_USAGE;
}
