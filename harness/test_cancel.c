#include "harness/cancel.h"
#include "harness/cmd.h"
#include "harness/qemu.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 20000, LONG_MS = 600000 };

/* A process in the place of the command line: runs `body`, which writes to `pipe_fd` when it is
 * ready for the signal, and exits with what it returns. */
struct lab {
    pid_t pid;
    int pipe_fd;
};

static struct lab start_lab(int (*body)(int pipe_fd))
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    struct lab lab = {.pid = fork(), .pipe_fd = pipe_fds[0]};
    if (lab.pid == 0)
        _exit(body(pipe_fds[1]));
    close(pipe_fds[1]);
    return lab;
}

static int read_number(const struct lab *lab)
{
    int number = -1;
    assert_int_equal(read(lab->pipe_fd, &number, sizeof(number)), sizeof(number));
    return number;
}

/* How it ended, as of waitpid. */
static int finish_lab(const struct lab *lab)
{
    int status = -1;
    int pidfd = pidfd_open(lab->pid, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    bool has_ended = poll(&p, 1, WAIT_MS) == 1;
    if (!has_ended)
        kill(lab->pid, SIGKILL);
    waitpid(lab->pid, &status, 0);
    close(pidfd);
    close(lab->pipe_fd);
    assert_true(has_ended);
    return status;
}

static void tell(int pipe_fd, int number)
{
    if (write(pipe_fd, &number, sizeof(number)) < 0)
        _exit(99);
}

/* Waits for an interrupt that never comes. Returns 0 if all is as it should be. */
static int wait_in_qtest(int pipe_fd)
{
    g_autoptr(GError) error = NULL;
    cancel_install(60);
    struct qemu *qemu = qemu_start(&(struct qemu_options){.name = "m"}, NULL);
    if (!qemu || cancel_is_requested())
        return 1;
    tell(pipe_fd, qemu_pid(qemu));
    qtest_irq_wait_raised(qemu_qtest(qemu), 5, 1, LONG_MS, &error);
    struct pollfd p = {.fd = cancel_fd(), .events = POLLIN};
    bool is_told = poll(&p, 1, 0) == 1 && cancel_is_requested() && cancel_signal() == SIGINT;
    bool is_closed = g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED);
    qemu_free(qemu);
    g_autoptr(GError) start_error = NULL;
    bool is_refused = !qemu_start(&(struct qemu_options){.name = "m"}, &start_error);
    if (!is_told)
        return 2;
    if (!is_closed)
        return 3;
    return is_refused ? CMD_INTERRUPTED : 4;
}

static void the_first_signal_ends_a_wait_and_the_teardown_is_ours(void **state)
{
    (void)state;
    struct lab lab = start_lab(wait_in_qtest);
    int qemu_pidfd = pidfd_open(read_number(&lab), 0);
    kill(lab.pid, SIGINT);
    int status = finish_lab(&lab);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CMD_INTERRUPTED);
    struct pollfd p = {.fd = qemu_pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    close(qemu_pidfd);
}

static int ignore_requests(int pipe_fd)
{
    cancel_install(600);
    tell(pipe_fd, 1);
    while (!cancel_is_requested())
        pause();
    tell(pipe_fd, 2);
    while (pause() < 0)
        ;
    return 98;
}

static void a_second_signal_ends_us_at_once(void **state)
{
    (void)state;
    struct lab lab = start_lab(ignore_requests);
    assert_int_equal(read_number(&lab), 1);
    kill(lab.pid, SIGTERM);
    assert_int_equal(read_number(&lab), 2);
    kill(lab.pid, SIGINT);
    int status = finish_lab(&lab);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CMD_INTERRUPTED);
}

static int hang_in_teardown(int pipe_fd)
{
    cancel_install(1);
    tell(pipe_fd, 1);
    while (pause() < 0)
        ;
    return 98;
}

static void a_teardown_that_hangs_is_ended(void **state)
{
    (void)state;
    struct lab lab = start_lab(hang_in_teardown);
    assert_int_equal(read_number(&lab), 1);
    kill(lab.pid, SIGHUP);
    int status = finish_lab(&lab);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CMD_INTERRUPTED);
}

static int be_immune_to_hangup(int pipe_fd)
{
    signal(SIGHUP, SIG_IGN);
    cancel_install(1);
    raise(SIGHUP);
    tell(pipe_fd, cancel_is_requested());
    return 0;
}

static void a_signal_that_was_ignored_stays_ignored(void **state)
{
    (void)state;
    struct lab lab = start_lab(be_immune_to_hangup);
    assert_int_equal(read_number(&lab), 0);
    assert_int_equal(finish_lab(&lab), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_signal_ends_a_wait_and_the_teardown_is_ours),
        cmocka_unit_test(a_second_signal_ends_us_at_once),
        cmocka_unit_test(a_teardown_that_hangs_is_ended),
        cmocka_unit_test(a_signal_that_was_ignored_stays_ignored),
    };
    return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
