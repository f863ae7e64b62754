/*
 * `ringlab regs` as it is called: against a real QEMU where a device is needed (skipped where there
 * is none), with baselines in a folder of the test's own.
 */
#include "harness/cmd.h"
#include "harness/qemu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/test_capture.h"

#include <glib/gstdio.h>

/* What one call printed, and its status. */
struct called {
    int status;
    char *out, *err;
};

static char *folder; /* removed at the end */

/* `words` follow "regs" and end with NULL. */
static struct called call(const char *const *words)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    struct capture out, err;
    struct called called;

    g_ptr_array_add(argv, g_strdup("regs"));
    for (; *words; words++)
        g_ptr_array_add(argv, g_strdup(*words));
    int argc = (int)argv->len;
    /* the options' parser takes words out of this array */
    g_autofree char **taken = g_new0(char *, argv->len + 1);
    memcpy(taken, argv->pdata, argv->len * sizeof(char *));
    g_set_prgname("ringlab regs");
    capture_begin(&out, STDOUT_FILENO);
    capture_begin(&err, STDERR_FILENO);
    called.status = cmd_regs(argc, taken);
    called.err = capture_end(&err);
    called.out = capture_end(&out);
    return called;
}

#define CALL(...) call((const char *const[]){__VA_ARGS__, NULL})

static void called_clear(struct called *called)
{
    g_free(called->out);
    g_free(called->err);
}

static const struct qemu_info *qemu_or_skip(void)
{
    const struct qemu_info *info = qemu_info_get(NULL);

    if (!info || !qemu_info_has_device(info, "ivshmem-plain"))
        skip();
    return info;
}

static char *in_folder(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void put_file(const char *path, const char *contents)
{
    g_autofree char *parent = g_path_get_dirname(path);

    assert_int_equal(g_mkdir_with_parents(parent, 0700), 0);
    assert_true(g_file_set_contents(path, contents, -1, NULL));
}

static int make_folder(void **state)
{
    (void)state;
    folder = g_dir_make_tmp("ringlab-regs-XXXXXX", NULL);
    g_autofree char *list = in_folder("devices.txt");
    put_file(list, "# NAME MACHINE DEVICE\n\nplain pc ivshmem-plain\nnone pc no-such-device\n");
    return 0;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        remove_tree(child);
    }
    g_remove(path);
}

static int remove_folder(void **state)
{
    (void)state;
    remove_tree(folder);
    g_free(folder);
    return 0;
}

static char *baseline_path(const struct qemu_info *info, const char *name)
{
    return g_strdup_printf("%s/qemu-%d.%d/%s.txt", folder, info->major, info->minor, name);
}

static void a_qemu_without_a_baseline_is_skipped_with_the_command_that_creates_one(void **state)
{
    const struct qemu_info *info = qemu_or_skip();
    struct called c = CALL("check", "--baselines", folder, "plain");
    g_autofree char *expected = g_strdup_printf(
        "TAP version 14\n1..1\nok 1 - plain # SKIP no baseline for QEMU %d.%d; create it: ringlab "
        "regs snapshot --machine pc -o %s/qemu-%d.%d/plain.txt ivshmem-plain\n",
        info->major, info->minor, folder, info->major, info->minor);

    (void)state;
    assert_string_equal(c.out, expected);
    assert_string_equal(c.err, "");
    assert_int_equal(c.status, CMD_SKIPPED);
    called_clear(&c);
}

/* The life of a baseline: created, the same again, then with one line changed. */
static void a_device_that_differs_from_its_baseline_fails_and_shows_the_register(void **state)
{
    g_autofree char *path = baseline_path(qemu_or_skip(), "plain");
    struct called made = CALL("snapshot", "-o", path, "ivshmem-plain");
    struct called same = CALL("check", "--baselines", folder, "plain");
    g_autofree char *baseline = NULL;

    (void)state;
    assert_int_equal(made.status, CMD_PASSED);
    assert_string_equal(made.out, "");
    assert_string_equal(same.out, "TAP version 14\n1..1\nok 1 - plain\n");
    assert_int_equal(same.status, CMD_PASSED);

    assert_true(g_file_get_contents(path, &baseline, NULL, NULL));
    char *line = strstr(baseline, "\nregs.IntrMask +0x00 4 RW\n  reset     0x00000000\n");
    assert_non_null(line);
    *(strstr(line, "0x00000000") + 9) = '1';
    put_file(path, baseline);
    struct called other = CALL("check", "--baselines", folder, "plain");
    g_autofree char *expected =
        g_strdup_printf("TAP version 14\n1..1\nnot ok 1 - plain\n# differs from %s:\n"
                        "# regs.IntrMask\n# -   reset     0x00000001\n# +   reset     0x00000000\n",
                        path);
    assert_string_equal(other.out, expected);
    assert_int_equal(other.status, CMD_FAILED);

    struct called diff = CALL("diff", path);
    assert_string_equal(diff.out, "regs.IntrMask\n-   reset     0x00000001\n"
                                  "+   reset     0x00000000\n");
    assert_int_equal(diff.status, CMD_FAILED);
    assert_int_equal(g_remove(path), 0);
    called_clear(&made);
    called_clear(&same);
    called_clear(&other);
    called_clear(&diff);
}

static void a_device_that_this_qemu_lacks_is_skipped(void **state)
{
    g_autofree char *path = baseline_path(qemu_or_skip(), "none");

    (void)state;
    put_file(path, "qemu      0.0\nmachine   pc\ndevice    no-such-device\n");
    struct called c = CALL("check", "--baselines", folder, "none");
    assert_string_equal(c.out, "TAP version 14\n1..1\n"
                               "ok 1 - none # SKIP this QEMU has no device no-such-device\n");
    assert_int_equal(c.status, CMD_SKIPPED);
    called_clear(&c);
}

static void assert_usage(struct called c, const char *message)
{
    g_autofree char *line = g_strdup_printf("ringlab regs: %s\n", message);

    assert_string_equal(c.err, line);
    assert_string_equal(c.out, "");
    assert_int_equal(c.status, CMD_USAGE);
    called_clear(&c);
}

static void wrong_usage_is_one_line_that_says_what_to_do(void **state)
{
    (void)state;
    assert_usage(call((const char *const[]){NULL}),
                 "no action given: snapshot, diff or check; 'ringlab regs --help' "
                 "shows how");
    assert_usage(CALL("snip"), "no action 'snip'; there are snapshot, diff and check");
    assert_usage(CALL("snapshot"),
                 "snapshot takes one DEVICE, not 0; 'ringlab regs --help' shows how");
    assert_usage(CALL("-m", "microvm", "snapshot", "edu"), "no machine 'microvm'; it is pc or q35");
    assert_usage(CALL("--dwords", "5000", "snapshot", "edu"), "--dwords 5000: it is 0 to 1024");
    assert_usage(CALL("diff", "a", "b", "c"),
                 "diff takes one or two files; 'ringlab regs --help' shows how");
}

static void a_file_that_is_no_snapshot_is_refused_by_name(void **state)
{
    g_autofree char *path = in_folder("devices.txt");
    g_autofree char *expected =
        g_strdup_printf("'%s' is no register snapshot: it has no lines 'device' and "
                        "'machine'; make one with 'ringlab regs snapshot -o FILE DEVICE'",
                        path);

    (void)state;
    assert_usage(CALL("diff", path), expected);
}

static void a_folder_without_a_list_of_baselines_says_which_option_names_another(void **state)
{
    (void)qemu_or_skip();
    (void)state;
    assert_usage(CALL("check", "--baselines", "/nonexistent"),
                 "no list of baselines '/nonexistent/devices.txt'; give its folder "
                 "with --baselines");
}

static void an_unknown_baseline_is_refused_with_the_nearest(void **state)
{
    qemu_or_skip();
    (void)state;
    assert_usage(CALL("check", "--baselines", folder, "plane"),
                 "no baseline 'plane'; did you mean 'plain'?");
    assert_usage(CALL("check", "--baselines", folder, "zzzzzzzz"),
                 "no baseline 'zzzzzzzz'; there are plain, none");
}

static void a_broken_list_of_baselines_is_refused_with_its_line(void **state)
{
    g_autofree char *broken = in_folder("broken");
    g_autofree char *list = g_build_filename(broken, "devices.txt", NULL);
    g_autofree char *message = g_strdup_printf("%s, line 2: not NAME MACHINE DEVICE", list);

    qemu_or_skip();
    (void)state;
    put_file(list, "# list\nedu pc\n");
    assert_usage(CALL("check", "--baselines", broken), message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_qemu_without_a_baseline_is_skipped_with_the_command_that_creates_one),
        cmocka_unit_test(a_device_that_differs_from_its_baseline_fails_and_shows_the_register),
        cmocka_unit_test(a_device_that_this_qemu_lacks_is_skipped),
        cmocka_unit_test(wrong_usage_is_one_line_that_says_what_to_do),
        cmocka_unit_test(a_file_that_is_no_snapshot_is_refused_by_name),
        cmocka_unit_test(a_folder_without_a_list_of_baselines_says_which_option_names_another),
        cmocka_unit_test(an_unknown_baseline_is_refused_with_the_nearest),
        cmocka_unit_test(a_broken_list_of_baselines_is_refused_with_its_line),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
