#include "harness/child.h"
#include "harness/qemu.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 20000 };

/* TMPDIR of this program, to see what is left in it. */
static char own_tmp[] = "/tmp/ringlab-test-XXXXXX";

static struct qemu *start_or_die(const struct qemu_options *options)
{
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = qemu_start(options, &error);
    if (!qemu)
        fail_msg("%s", error->message);
    return qemu;
}

static struct qemu *start_plain(const char *name)
{
    return start_or_die(&(struct qemu_options){.name = name});
}

static void assert_start_fails(const struct qemu_options *options, int code, const char *message)
{
    g_autoptr(GError) error = NULL;
    assert_null(qemu_start(options, &error));
    assert_non_null(error);
    assert_string_equal(error->message, message);
    assert_true(g_error_matches(error, QEMU_ERROR, code));
}

/* Waits until a process that is not our child has ended. */
static bool wait_gone(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    return poll(&p, 1, WAIT_MS) == 1;
}

/* ---- running ---- */

static void a_started_qemu_runs_and_answers(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = start_plain("m");
    uint64_t id = 0;
    assert_true(qtest_out(qemu_qtest(qemu), 4, 0xcf8, 0x80000000, &error));
    assert_true(qtest_in(qemu_qtest(qemu), 4, 0xcfc, &id, &error));
    assert_int_equal(id, 0x12378086);
    g_autoptr(JsonNode) status = qmp_execute(qemu_qmp(qemu), "query-status", NULL, &error);
    assert_non_null(status);
    assert_string_equal(json_object_get_string_member(json_node_get_object(status), "status"),
                        "running");
    assert_true(qmp_version(qemu_qmp(qemu))->major >= 5);
    assert_true(qemu_is_alive(qemu, NULL));
    g_autofree char *log = qemu_log(qemu);
    assert_string_equal(log, "");
    assert_true(g_str_equal(qemu_accelerator(qemu), "tcg") ||
                g_str_equal(qemu_accelerator(qemu), "qtest"));
    qemu_free(qemu);
}

static void the_virtual_processor_is_parked(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = start_or_die(&(struct qemu_options){.name = "m", .accelerator = "tcg"});
    gint64 deadline_us = g_get_monotonic_time() + WAIT_MS * 1000;
    bool is_parked = false;
    while (!is_parked && g_get_monotonic_time() < deadline_us) {
        g_autofree char *registers = qmp_hmp(qemu_qmp(qemu), "info registers", &error);
        assert_non_null(registers);
        /* The instruction after `cli; hlt` of the ROM. */
        is_parked = strstr(registers, "EIP=0000fff2") && strstr(registers, "HLT=1");
    }
    assert_true(is_parked);
    qemu_free(qemu);
}

static void q35_is_another_machine(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = start_or_die(&(struct qemu_options){.name = "m", .board = MACHINE_Q35});
    uint64_t id = 0;
    assert_true(qtest_out(qemu_qtest(qemu), 4, 0xcf8, 0x80000000, &error));
    assert_true(qtest_in(qemu_qtest(qemu), 4, 0xcfc, &id, &error));
    assert_int_equal(id, 0x29c08086);
    qemu_free(qemu);
}

static void several_run_at_once(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct qemu *qemus[3];
    for (int i = 0; i < 3; i++)
        qemus[i] = start_plain("m");
    for (unsigned i = 0; i < 3; i++)
        assert_true(qtest_write(qemu_qtest(qemus[i]), 4, 0x1000, 100 + i, &error));
    for (unsigned i = 0; i < 3; i++) {
        uint64_t value = 0;
        assert_true(qtest_read(qemu_qtest(qemus[i]), 4, 0x1000, &value, &error));
        assert_int_equal(value, 100 + i);
    }
    for (int i = 0; i < 3; i++)
        qemu_free(qemus[i]);
}

static void machine_ram_may_be_our_memory(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    enum { RAM_BYTES = 32 << 20 };
    int fd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, RAM_BYTES), 0);
    uint8_t *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(ram != MAP_FAILED);
    struct qemu *qemu =
        start_or_die(&(struct qemu_options){.name = "m", .ram_fd = fd, .ram_bytes = RAM_BYTES});
    assert_true(qtest_write(qemu_qtest(qemu), 4, RAM_BYTES - 4, 0x11223344, &error));
    assert_int_equal(ram[RAM_BYTES - 4], 0x44);
    assert_int_equal(ram[RAM_BYTES - 1], 0x11);
    qemu_free(qemu);
    munmap(ram, RAM_BYTES);
    close(fd);
}

static void the_command_line_is_quoted_for_a_shell(void **state)
{
    (void)state;
    const char *args[] = {"-name", "two words", NULL};
    struct qemu *qemu = start_or_die(&(struct qemu_options){.name = "m", .args = args});
    g_autofree char *line = qemu_command_line(qemu);
    assert_true(g_str_has_suffix(line, "'-name' 'two words'"));
    qemu_free(qemu);
}

/* ---- what it inherits and leaves ---- */

static char *read_fd_link(int pid, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/%s", pid, name);
    return g_file_read_link(path, NULL);
}

static void only_the_listed_descriptors_are_inherited(void **state)
{
    (void)state;
    int wanted = memfd_create("ringlab-test-wanted", MFD_CLOEXEC);
    int unwanted = memfd_create("ringlab-test-unwanted", 0);
    struct qemu *qemu = start_or_die(
        &(struct qemu_options){.name = "m", .inherit_fds = &wanted, .n_inherit_fds = 1});
    int pid = qemu_pid(qemu);
    g_autofree char *number = g_strdup_printf("%d", wanted);
    g_autofree char *link = read_fd_link(pid, number);
    assert_non_null(link);
    assert_non_null(strstr(link, "ringlab-test-wanted"));
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", pid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    assert_non_null(dir);
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *target = read_fd_link(pid, name);
        assert_true(!target || !strstr(target, "ringlab-test-unwanted"));
    }
    g_autofree char *input = read_fd_link(pid, "0");
    assert_string_equal(input, "/dev/null");
    qemu_free(qemu);
    close(wanted);
    close(unwanted);
}

static void its_working_folder_has_no_name_and_nothing_is_left(void **state)
{
    (void)state;
    struct qemu *qemu = start_plain("m");
    g_autofree char *path = g_strdup_printf("/proc/%d/cwd", qemu_pid(qemu));
    g_autofree char *cwd = g_file_read_link(path, NULL);
    g_autofree char *prefix = g_build_filename(own_tmp, "ringlab-", NULL);
    assert_true(g_str_has_prefix(cwd, prefix));
    assert_true(g_str_has_suffix(cwd, " (deleted)"));
    struct stat folder;
    assert_int_equal(stat(path, &folder), 0);
    assert_int_equal(folder.st_mode & 07777, 0700);
    g_autoptr(GDir) dir = g_dir_open(own_tmp, 0, NULL);
    assert_null(g_dir_read_name(dir));
    qemu_free(qemu);
}

static void ctrl_c_in_the_terminal_does_not_reach_it(void **state)
{
    (void)state;
    struct qemu *qemu = start_plain("m");
    /* The terminal signals its foreground group, which is ours. */
    assert_int_equal(getpgid(qemu_pid(qemu)), qemu_pid(qemu));
    qemu_free(qemu);
}

static void killing_the_harness_kills_qemu(void **state)
{
    (void)state;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t harness = fork();
    if (harness == 0) {
        struct qemu *qemu = qemu_start(&(struct qemu_options){.name = "m"}, NULL);
        int pid = qemu ? qemu_pid(qemu) : 0;
        if (write(pipe_fds[1], &pid, sizeof(pid)) < 0)
            _exit(1);
        for (;;)
            pause();
    }
    int qemu_pid_seen = 0;
    assert_int_equal(read(pipe_fds[0], &qemu_pid_seen, sizeof(qemu_pid_seen)),
                     sizeof(qemu_pid_seen));
    assert_true(qemu_pid_seen > 0);
    int pidfd = pidfd_open(qemu_pid_seen, 0);
    assert_true(pidfd >= 0);
    kill(harness, SIGKILL);
    waitpid(harness, NULL, 0);
    assert_true(wait_gone(pidfd));
    close(pidfd);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void freeing_it_reaps_it(void **state)
{
    (void)state;
    struct qemu *qemu = start_plain("m");
    int pid = qemu_pid(qemu);
    assert_int_equal(kill(pid, 0), 0);
    qemu_free(qemu);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* ---- its death ---- */

static void a_killed_qemu_is_named_by_the_next_access(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = start_plain("left");
    kill(qemu_pid(qemu), SIGKILL);
    uint64_t value;
    assert_false(qtest_in(qemu_qtest(qemu), 4, 0xcfc, &value, &error));
    assert_true(g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED));
    assert_non_null(strstr(error->message, "QEMU left was killed by signal 9 (Killed)"));
    g_clear_error(&error);
    assert_false(qmp_run(qemu_qmp(qemu), "query-status", NULL, &error));
    assert_string_equal(error->message, "QMP command query-status: QEMU closed the QMP connection: "
                                        "QEMU left was killed by signal 9 (Killed)");
    g_clear_error(&error);
    g_autofree char *reason = NULL;
    assert_false(qemu_is_alive(qemu, &reason));
    assert_string_equal(reason, "was killed by signal 9 (Killed)");
    assert_int_equal(qemu_pid(qemu), 0);
    qemu_free(qemu);
}

static void a_qemu_whose_sockets_are_closed_is_not_alive(void **state)
{
    (void)state;
    struct qemu *qemu = start_plain("m");
    struct pollfd p = {.fd = qtest_fd(qemu_qtest(qemu))};
    assert_int_equal(kill(qemu_pid(qemu), SIGKILL), 0);
    assert_int_equal(poll(&p, 1, 5000), 1);
    g_autofree char *reason = NULL;
    assert_false(qemu_is_alive(qemu, &reason));
    assert_string_equal(reason, "was killed by signal 9 (Killed)");
    qemu_free(qemu);
}

static void an_aborting_qemu_is_reported_with_its_last_words(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = start_plain("m");
    /* An empty line makes QEMU's qtest server abort: the client never sends one by itself. */
    assert_int_equal(write(qtest_fd(qemu_qtest(qemu)), "\n", 1), 1);
    assert_false(qtest_barrier(qemu_qtest(qemu), &error));
    assert_non_null(strstr(error->message, "QEMU m was killed by signal 6 (Aborted): "));
    assert_non_null(strstr(error->message, "assertion failed"));
    assert_null(strchr(error->message, '\n'));
    qemu_free(qemu);
}

static void a_qemu_that_quits_is_reported_with_its_status(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = start_plain("m");
    assert_true(qmp_run(qemu_qmp(qemu), "quit", NULL, &error));
    assert_false(qtest_barrier(qemu_qtest(qemu), &error));
    assert_non_null(strstr(error->message, "QEMU m exited with status 0"));
    qemu_free(qemu);
}

/* ---- starts that fail ---- */

static void an_unknown_device_is_reported_with_the_nearest(void **state)
{
    (void)state;
    const char *args[] = {"-device", "virtio-nett-pci", NULL};
    assert_start_fails(&(struct qemu_options){.name = "m", .args = args}, QEMU_ERROR_UNSUPPORTED,
                       "QEMU m: there is no device virtio-nett-pci; did you mean virtio-net-pci?");
}

static void a_bad_device_option_is_reported_in_qemus_words(void **state)
{
    (void)state;
    const char *args[] = {"-device", "virtio-net-pci,foo=1", NULL};
    /* The end of QEMU is noticed, not the deadline waited for. */
    enum { DEADLINE_MS = 60000 };
    gint64 started_us = g_get_monotonic_time();
    assert_start_fails(&(struct qemu_options){.name = "m", .args = args, .timeout_ms = DEADLINE_MS},
                       QEMU_ERROR_START,
                       "QEMU m exited with status 1 while starting: -device virtio-net-pci,foo=1: "
                       "Property 'virtio-net-pci.foo' not found");
    assert_true(g_get_monotonic_time() - started_us < DEADLINE_MS * 1000ll);
}

static void an_unknown_accelerator_is_reported_with_those_there_are(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_null(qemu_start(&(struct qemu_options){.name = "m", .accelerator = "warp"}, &error));
    assert_true(g_error_matches(error, QEMU_ERROR, QEMU_ERROR_UNSUPPORTED));
    assert_true(g_str_has_prefix(error->message,
                                 "QEMU m: accelerator warp cannot be used (this QEMU has "));
    assert_true(g_str_has_suffix(error->message, "): -accel warp: invalid accelerator warp"));
    assert_non_null(strstr(error->message, "tcg"));
}

static void a_silent_ivshmem_server_is_a_timeout_and_leaves_no_process(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    g_autofree char *chardev = g_strdup_printf("socket,id=iv,fd=%d", pair[1]);
    const char *args[] = {"-chardev", chardev, "-device", "ivshmem-doorbell,chardev=iv", NULL};
    assert_null(qemu_start(&(struct qemu_options){.name = "m",
                                                  .args = args,
                                                  .inherit_fds = &pair[1],
                                                  .n_inherit_fds = 1,
                                                  .timeout_ms = 300},
                           &error));
    assert_true(g_error_matches(error, QEMU_ERROR, QEMU_ERROR_START));
    assert_true(g_str_has_prefix(error->message, "QEMU m did not start: QMP "));
    assert_non_null(strstr(error->message, "within 300 ms"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    close(pair[0]);
    close(pair[1]);
}

/* ---- other binaries; `restore_binary` is the tear-down of each of these tests ---- */

static char *original_binary; /* RINGLAB_QEMU as it was, or NULL */

static int restore_binary(void **state)
{
    (void)state;
    if (original_binary)
        g_setenv("RINGLAB_QEMU", original_binary, TRUE);
    else
        g_unsetenv("RINGLAB_QEMU");
    g_autofree char *path = g_build_filename(own_tmp, "fake-qemu", NULL);
    unlink(path);
    return 0;
}

/* Makes RINGLAB_QEMU name a shell script with this text. Returns its path. */
static char *use_fake_qemu(const char *script)
{
    char *path = g_build_filename(own_tmp, "fake-qemu", NULL);
    assert_true(g_file_set_contents(path, script, -1, NULL));
    assert_int_equal(chmod(path, 0700), 0);
    g_setenv("RINGLAB_QEMU", path, TRUE);
    return path;
}

/* A shell may complain about its nameless working folder first: only ends are compared. */
static void assert_start_fails_with(unsigned timeout_ms, const char *start, const char *end)
{
    g_autoptr(GError) error = NULL;
    assert_null(qemu_start(&(struct qemu_options){.name = "m", .timeout_ms = timeout_ms}, &error));
    assert_true(g_error_matches(error, QEMU_ERROR, QEMU_ERROR_START));
    if (!g_str_has_prefix(error->message, start) || !g_str_has_suffix(error->message, end))
        fail_msg("%s", error->message);
}

static void a_qemu_that_never_answers_is_a_timeout(void **state)
{
    (void)state;
    g_autofree char *path = use_fake_qemu("#!/bin/sh\necho I am busy >&2\nexec sleep 1000\n");
    assert_start_fails_with(
        200, "QEMU m did not start: QMP greeting: nothing came within 200 ms; it printed: ",
        "I am busy");
}

static void a_program_that_is_no_qemu_is_reported_with_its_words(void **state)
{
    (void)state;
    g_autofree char *path = use_fake_qemu("#!/bin/sh\necho 'what?'; echo no >&2\nexit 3\n");
    assert_start_fails_with(0, "QEMU m exited with status 3 while starting: ", "what? | no");
    g_autoptr(GError) error = NULL;
    assert_null(qemu_info_get(&error));
    g_autofree char *expected =
        g_strdup_printf("%s -version printed \"what?\", which is no QEMU's version; set "
                        "RINGLAB_QEMU to a qemu-system-x86_64",
                        path);
    assert_string_equal(error->message, expected);
}

static void a_flood_on_standard_error_is_bounded(void **state)
{
    (void)state;
    g_autofree char *path =
        use_fake_qemu("#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' x >&2\nexit 0\n");
    g_autoptr(GError) error = NULL;
    assert_null(qemu_start(&(struct qemu_options){.name = "m"}, &error));
    assert_true(strlen(error->message) < 2000);
    assert_non_null(strstr(error->message, "exited with status 0 while starting: "));
    assert_non_null(strstr(error->message, "xxxxxxxx"));
}

static void a_log_keeps_its_first_bytes_and_does_not_grow(void **state)
{
    (void)state;
    static char lots[10000];
    memset(lots, 'x', sizeof(lots));
    int fd = child_log_new("ringlab-test-log", 4096);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "ab", 2), 2);
    while (write(fd, lots, sizeof(lots)) > 0)
        ;
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    assert_int_equal(file.st_size, 4096);
    g_autofree char *text = child_log_text(fd);
    assert_int_equal(strlen(text), 4096);
    assert_memory_equal(text, "abx", 3);
    close(fd);
}

static void a_missing_binary_is_named(void **state)
{
    (void)state;
    g_setenv("RINGLAB_QEMU", "/nonexistent/qemu", TRUE);
    assert_start_fails(&(struct qemu_options){.name = "m"}, QEMU_ERROR_NOT_FOUND,
                       "no QEMU: RINGLAB_QEMU=/nonexistent/qemu is no program; set it to the path "
                       "of a qemu-system-x86_64");
}

/* ---- what a binary says of itself ---- */

static void the_binary_lists_version_accelerators_and_devices(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    const struct qemu_info *info = qemu_info_get(&error);
    assert_non_null(info);
    struct qemu *qemu = start_plain("m");
    assert_int_equal(info->major, qmp_version(qemu_qmp(qemu))->major);
    assert_int_equal(info->minor, qmp_version(qemu_qmp(qemu))->minor);
    assert_int_equal(info->micro, qmp_version(qemu_qmp(qemu))->micro);
    assert_string_equal(info->package, qmp_version(qemu_qmp(qemu))->package);
    qemu_free(qemu);
    assert_true(g_strv_contains(qemu_info_accelerators(info), "tcg"));
    assert_false(g_strv_contains(qemu_info_accelerators(info), "Accelerators"));
    assert_false(g_strv_contains(qemu_info_accelerators(info), "warp"));
    assert_true(qemu_info_has_device(info, "virtio-net-pci"));
    assert_true(qemu_info_has_device(info, "virtio-net"));
    assert_true(qemu_info_has_device(info, "ivshmem-plain"));
    assert_false(qemu_info_has_device(info, "virtio-nett-pci"));
    assert_string_equal(qemu_info_nearest_device(info, "ivshmem-plane"), "ivshmem-plain");
    assert_string_equal(qemu_info_nearest_device(info, "ivshmem"), "ivshmem-plain");
    assert_null(qemu_info_nearest_device(info, "qwertzuiop"));
    assert_ptr_equal(qemu_info_get(NULL), info);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_started_qemu_runs_and_answers),
        cmocka_unit_test(the_virtual_processor_is_parked),
        cmocka_unit_test(q35_is_another_machine),
        cmocka_unit_test(several_run_at_once),
        cmocka_unit_test(machine_ram_may_be_our_memory),
        cmocka_unit_test(the_command_line_is_quoted_for_a_shell),
        cmocka_unit_test(only_the_listed_descriptors_are_inherited),
        cmocka_unit_test(its_working_folder_has_no_name_and_nothing_is_left),
        cmocka_unit_test(ctrl_c_in_the_terminal_does_not_reach_it),
        cmocka_unit_test(killing_the_harness_kills_qemu),
        cmocka_unit_test(freeing_it_reaps_it),
        cmocka_unit_test(a_killed_qemu_is_named_by_the_next_access),
        cmocka_unit_test(a_qemu_whose_sockets_are_closed_is_not_alive),
        cmocka_unit_test(an_aborting_qemu_is_reported_with_its_last_words),
        cmocka_unit_test(a_qemu_that_quits_is_reported_with_its_status),
        cmocka_unit_test(an_unknown_device_is_reported_with_the_nearest),
        cmocka_unit_test(a_bad_device_option_is_reported_in_qemus_words),
        cmocka_unit_test(an_unknown_accelerator_is_reported_with_those_there_are),
        cmocka_unit_test(a_silent_ivshmem_server_is_a_timeout_and_leaves_no_process),
        cmocka_unit_test_teardown(a_qemu_that_never_answers_is_a_timeout, restore_binary),
        cmocka_unit_test_teardown(a_program_that_is_no_qemu_is_reported_with_its_words,
                                  restore_binary),
        cmocka_unit_test_teardown(a_flood_on_standard_error_is_bounded, restore_binary),
        cmocka_unit_test(a_log_keeps_its_first_bytes_and_does_not_grow),
        cmocka_unit_test_teardown(a_missing_binary_is_named, restore_binary),
        cmocka_unit_test(the_binary_lists_version_accelerators_and_devices),
    };
    original_binary = g_strdup(g_getenv("RINGLAB_QEMU"));
    if (!mkdtemp(own_tmp) || setenv("TMPDIR", own_tmp, 1) < 0)
        return 1;
    int n_failed = cmocka_run_group_tests_name("qemu", tests, NULL, NULL);
    g_free(original_binary);
    if (rmdir(own_tmp) < 0) {
        perror(own_tmp);
        return 1;
    }
    return n_failed;
}
