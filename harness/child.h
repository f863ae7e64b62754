/*
 * Child processes that cannot outlive us or surprise us: killed with the thread that started them,
 * out of the terminal's foreground group, with no descriptor that was not asked for, in a working
 * folder that has no name. Not here: what is run (qemu.h, qemu_info.h).
 */
#ifndef RINGLAB_CHILD_H
#define RINGLAB_CHILD_H

#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

struct child {
    pid_t pid;  /* 0 once reaped */
    int pidfd;  /* readable when it has ended; -1 once reaped */
    int status; /* as of waitpid, once reaped */
    bool is_ended;
};

struct child_options {
    const char *program;     /* path to the executable */
    const char *const *argv; /* NULL-terminated */
    const int *inherit_fds;  /* kept open under the same number, besides 0, 1 and 2 */
    unsigned n_inherit_fds;
    int stdout_fd, stderr_fd; /* become its 1 and 2; stdin is /dev/null */
    bool is_users; /* a program of the user's: it keeps our terminal, stdin and working folder, and
                      the signals that the terminal sends reach it too */
};

/* Starts it. SIGKILL reaches it when the calling thread ends, however that happens. Errors are
 * G_IO_ERROR: CANCELLED after child_end_all, else what the system said. */
bool child_start(struct child *child, const struct child_options *options, GError **error);
/* Waits for its end up to `timeout_ms` (0: looks), and reaps it. False if it is still running. */
bool child_wait(struct child *child, int timeout_ms);
/* SIGKILL, and reaps it. Does nothing if it has ended. */
void child_kill(struct child *child);
/* SIGKILL to every child there is; from now on none can be started. For signal handlers: it is
 * async-signal-safe, and leaves reaping to the owners. */
void child_end_all(void);
/* "exited with status 1", "was killed by signal 9 (Killed)"; freed with g_free. */
char *child_how_ended(const struct child *child);

/* A nameless file for a child's output, whose size is limited to `max_bytes`: what a child writes
 * beyond is lost, and the child goes on. -1 with errno if the system refuses. */
int child_log_new(const char *name, size_t max_bytes);
/* What was written to it so far, as valid UTF-8; freed with g_free. */
char *child_log_text(int log_fd);

#endif
