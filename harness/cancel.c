/*
 * Signal handlers of the command line: everything in them is async-signal-safe.
 */
#include "harness/cancel.h"
#include "harness/child.h"
#include "harness/cmd.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const int handled[] = {SIGINT, SIGTERM, SIGHUP};
static atomic_int requested_by;
static int event_fd = -1;
static unsigned grace_seconds;

static void on_grace_over(int signal_number)
{
    (void)signal_number;
    _exit(CMD_INTERRUPTED);
}

static void on_request(int signal_number)
{
    int saved_errno = errno;
    int none = 0;
    if (!atomic_compare_exchange_strong(&requested_by, &none, signal_number))
        _exit(CMD_INTERRUPTED);
    child_end_all();
    uint64_t one = 1;
    if (event_fd >= 0 && write(event_fd, &one, sizeof(one)) < 0) {
        /* It is readable already. */
    }
    alarm(grace_seconds);
    errno = saved_errno;
}

static void handle(int signal_number, void (*handler)(int))
{
    struct sigaction old;
    /* nohup, and shells that start us in the background, ask for a signal to be ignored. */
    if (sigaction(signal_number, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
        return;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(signal_number, &action, NULL);
}

void cancel_install(unsigned grace_s)
{
    grace_seconds = grace_s;
    if (event_fd < 0)
        event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    handle(SIGALRM, on_grace_over);
    for (size_t i = 0; i < G_N_ELEMENTS(handled); i++)
        handle(handled[i], on_request);
}

bool cancel_is_requested(void)
{
    return cancel_signal() != 0;
}

int cancel_signal(void)
{
    return atomic_load(&requested_by);
}

int cancel_fd(void)
{
    return event_fd;
}
