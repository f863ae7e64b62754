/*
 * Starting and ending child processes. Between fork and exec only async-signal-safe functions are
 * used, since other threads may hold locks at that moment.
 */
#include "harness/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Everything the child needs, prepared before the fork. */
struct plan {
    const struct child_options *options;
    pid_t parent;
    int cwd_fd, null_fd;
    int error_fd; /* receives errno if it could not become the program */
    rlim_t max_fds;
};

/* Those that run, for child_end_all; 0: a free place. */
enum { MAX_CHILDREN = 256 };
static atomic_int running[MAX_CHILDREN];
static atomic_bool is_ending;

static bool enter(pid_t pid)
{
    for (unsigned i = 0; i < MAX_CHILDREN; i++) {
        int none = 0;
        if (atomic_compare_exchange_strong(&running[i], &none, pid))
            return true;
    }
    return false;
}

/* Before it is reaped: afterwards its number may be another process's. */
static void leave(pid_t pid)
{
    for (unsigned i = 0; i < MAX_CHILDREN; i++) {
        int expected = pid;
        if (atomic_compare_exchange_strong(&running[i], &expected, 0))
            return;
    }
}

void child_end_all(void)
{
    atomic_store(&is_ending, true);
    for (unsigned i = 0; i < MAX_CHILDREN; i++) {
        int pid = atomic_load(&running[i]);
        if (pid > 0)
            kill(pid, SIGKILL);
    }
}

static bool set_cloexec(int fd, bool on)
{
    return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0;
}

static void close_all_on_exec(rlim_t max_fds)
{
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
        return;
    /* Kernels before 5.11. */
    for (int fd = 3; (rlim_t)fd < max_fds; fd++)
        set_cloexec(fd, true);
}

static _Noreturn void become(const struct plan *plan)
{
    const struct child_options *o = plan->options;
    bool ok = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    /* The parent may have died before the line above. */
    if (getppid() != plan->parent)
        _exit(1);
    /* Ctrl-C in the terminal is for us, who then end the child in order. */
    ok = ok && (o->is_users || setpgid(0, 0) == 0);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!o->is_users) {
        ok = ok && fchdir(plan->cwd_fd) == 0;
        ok = ok && dup2(plan->null_fd, STDIN_FILENO) >= 0;
    }
    ok = ok && dup2(o->stdout_fd, STDOUT_FILENO) >= 0;
    ok = ok && dup2(o->stderr_fd, STDERR_FILENO) >= 0;
    if (ok) {
        close_all_on_exec(plan->max_fds);
        for (unsigned i = 0; ok && i < o->n_inherit_fds; i++)
            ok = set_cloexec(o->inherit_fds[i], false);
    }
    if (ok)
        execv(o->program, (char *const *)(guintptr)o->argv);
    int saved_errno = errno;
    while (write(plan->error_fd, &saved_errno, sizeof(saved_errno)) < 0 && errno == EINTR)
        ;
    _exit(127);
}

static bool fail(GError **error, const char *what, const char *which, int saved_errno)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved_errno), "%s %s: %s", what, which,
                g_strerror(saved_errno));
    return false;
}

/* A private folder whose name is gone before anybody could leave something in it. */
static int open_private_folder(GError **error)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "ringlab-XXXXXX", NULL);
    if (!g_mkdtemp_full(path, 0700)) {
        fail(error, "cannot make a private folder (set TMPDIR to a writable one):", path, errno);
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int saved_errno = errno;
    rmdir(path);
    if (fd < 0)
        fail(error, "cannot open the private folder", path, saved_errno);
    return fd;
}

/* With SIGCHLD ignored (some parents leave it so) the kernel reaps children itself, and how they
 * ended is lost. */
static void keep_exit_statuses(void)
{
    struct sigaction action;
    if (sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
        signal(SIGCHLD, SIG_DFL);
}

/* Reads the child's errno; 0 when the descriptor was closed by a successful exec. */
static int read_errno(int fd)
{
    int child_errno = 0;
    ssize_t n;
    do {
        n = read(fd, &child_errno, sizeof(child_errno));
    } while (n < 0 && errno == EINTR);
    return n == sizeof(child_errno) ? child_errno : 0;
}

static bool start(struct child *child, struct plan *plan, GError **error)
{
    const char *program = plan->options->program;
    int error_pipe[2];
    if (pipe2(error_pipe, O_CLOEXEC) < 0)
        return fail(error, "cannot start", program, errno);
    plan->error_fd = error_pipe[1];
    pid_t pid = fork();
    if (pid == 0)
        become(plan);
    int fork_errno = errno;
    close(error_pipe[1]);
    if (pid < 0) {
        close(error_pipe[0]);
        return fail(error, "cannot start", program, fork_errno);
    }
    child->pid = pid;
    int child_errno = enter(pid) ? read_errno(error_pipe[0]) : EAGAIN;
    close(error_pipe[0]);
    if (!child_errno) {
        child->pidfd = pidfd_open(pid, 0);
        if (child->pidfd < 0)
            child_errno = errno;
    }
    /* The end may have been called between the fork and the entry. */
    if (!child_errno && atomic_load(&is_ending))
        child_errno = ECANCELED;
    if (child_errno) {
        child_kill(child);
        return fail(error, "cannot start", program, child_errno);
    }
    return true;
}

bool child_start(struct child *child, const struct child_options *options, GError **error)
{
    *child = (struct child){.pidfd = -1};
    struct rlimit limit = {.rlim_cur = 1024};
    getrlimit(RLIMIT_NOFILE, &limit);
    struct plan plan = {.options = options, .parent = getpid(), .max_fds = limit.rlim_cur};
    keep_exit_statuses();
    plan.cwd_fd = open_private_folder(error);
    if (plan.cwd_fd < 0)
        return false;
    plan.null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool ok = plan.null_fd >= 0 ? start(child, &plan, error)
                                : fail(error, "cannot open", "/dev/null", errno);
    if (plan.null_fd >= 0)
        close(plan.null_fd);
    close(plan.cwd_fd);
    return ok;
}

/* Reaps it if it has ended, or (flags 0) when it ends. */
static bool reap(struct child *child, int flags)
{
    siginfo_t info = {0};
    int result;
    do {
        result = waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT | flags);
    } while (result < 0 && errno == EINTR);
    if (result == 0 && info.si_pid == 0)
        return false;
    leave(child->pid);
    int status = 0;
    pid_t pid;
    do {
        pid = waitpid(child->pid, &status, 0);
    } while (pid < 0 && errno == EINTR);
    child->status = pid > 0 ? status : 0;
    child->is_ended = true;
    child->pid = 0;
    if (child->pidfd >= 0)
        close(child->pidfd);
    child->pidfd = -1;
    return true;
}

bool child_wait(struct child *child, int timeout_ms)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    while (child->pid > 0 && !reap(child, WNOHANG)) {
        gint64 left_us = deadline_us - g_get_monotonic_time();
        if (left_us <= 0)
            return false;
        struct pollfd p = {.fd = child->pidfd, .events = POLLIN};
        poll(&p, 1, (int)((left_us + 999) / 1000));
    }
    return true;
}

void child_kill(struct child *child)
{
    if (child->pid <= 0)
        return;
    kill(child->pid, SIGKILL);
    reap(child, 0);
}

char *child_how_ended(const struct child *child)
{
    if (!child->is_ended)
        return g_strdup("is still running");
    if (WIFSIGNALED(child->status))
        return g_strdup_printf("was killed by signal %d (%s)", WTERMSIG(child->status),
                               g_strsignal(WTERMSIG(child->status)));
    return g_strdup_printf("exited with status %d", WEXITSTATUS(child->status));
}

int child_log_new(const char *name, size_t max_bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    /* The file has its full size from the start, without using memory, and cannot grow. */
    if (ftruncate(fd, (off_t)max_bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        int saved_errno = errno;
        close(fd);
        errno = saved_errno;
        return -1;
    }
    return fd;
}

char *child_log_text(int log_fd)
{
    /* The offset is shared with the child: it is how much was written. */
    off_t len = lseek(log_fd, 0, SEEK_CUR);
    if (len <= 0)
        return g_strdup("");
    g_autofree char *text = g_malloc((gsize)len);
    gsize done = 0;
    while (done < (gsize)len) {
        ssize_t n = pread(log_fd, text + done, (gsize)len - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (gsize)n;
    }
    return g_utf8_make_valid(text, (gssize)done);
}
