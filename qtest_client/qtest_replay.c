/*
 * A stand-in for QEMU that plays a recorded transcript on a socket pair, so that drivers can be
 * tested where there is no QEMU. Lines: `> ` a command that must come, `< ` an answer to give, `#`
 * a remark.
 */
#include "qtest_client/qtest.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEND_TIMEOUT_S = 5 }; /* a client that does not read */

struct qtest_replay {
    GThread *thread;
    int fd;
    char **lines;
    GMutex lock;   /* guards `error` while the thread runs */
    GError *error; /* what was wrong; the thread ends with it */
};

static void G_GNUC_PRINTF(3, 4) set_error(struct qtest_replay *r, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_mutex_lock(&r->lock);
    r->error = g_error_new_valist(QTEST_ERROR, code, format, args);
    g_mutex_unlock(&r->lock);
    va_end(args);
}

/* Reads one line from the client; NULL if it hung up. Times are bounded by the client's end: it
 * closes its socket when it has had enough. */
static char *read_line(int fd, GString *buffer)
{
    for (;;) {
        char *end = strchr(buffer->str, '\n');
        if (end) {
            char *line = g_strndup(buffer->str, (gsize)(end - buffer->str));
            g_string_erase(buffer, 0, end - buffer->str + 1);
            return line;
        }
        char bytes[4096];
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return NULL;
        }
        g_string_append_len(buffer, bytes, n);
    }
}

static bool send_line(int fd, const char *line)
{
    g_autofree char *text = g_strconcat(line, "\n", NULL);
    size_t len = strlen(text), sent = 0;

    while (sent < len) {
        ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        sent += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static gpointer play(gpointer data)
{
    struct qtest_replay *r = data;
    g_autoptr(GString) buffer = g_string_new(NULL);

    for (unsigned i = 0; r->lines[i] && !r->error; i++) {
        const char *line = r->lines[i];
        if (g_str_has_prefix(line, "> ")) {
            g_autofree char *came = read_line(r->fd, buffer);
            if (!came) {
                set_error(r, QTEST_ERROR_CLOSED,
                          "transcript line %u: expected '%s', but the client hung up", i + 1,
                          line + 2);
            } else if (strcmp(came, line + 2) != 0) {
                set_error(r, QTEST_ERROR_GARBLED,
                          "transcript line %u: expected '%s', the client sent '%s'", i + 1,
                          line + 2, came);
            }
        } else if (g_str_has_prefix(line, "< ") && !send_line(r->fd, line + 2)) {
            set_error(r, QTEST_ERROR_CLOSED,
                      "transcript line %u: the client hung up before '%s', or did not read it",
                      i + 1, line + 2);
        }
    }
    if (!r->error) {
        g_autofree char *more = read_line(r->fd, buffer);
        if (more) {
            set_error(r, QTEST_ERROR_GARBLED, "after the transcript's end the client sent '%s'",
                      more);
        }
    }
    shutdown(r->fd, SHUT_RDWR);
    return NULL;
}

struct qtest_replay *qtest_replay_new(const char *transcript, int *client_fd, GError **error)
{
    int fds[2];
    g_auto(GStrv) lines = g_strsplit(transcript, "\n", -1);

    for (unsigned i = 0; lines[i]; i++) {
        const char *l = lines[i];
        if (l[0] != '\0' && l[0] != '#' && !g_str_has_prefix(l, "> ") &&
            !g_str_has_prefix(l, "< ")) {
            g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                        "transcript line %u is neither '> ', '< ' nor a remark: '%.40s'", i + 1, l);
            return NULL;
        }
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_SYSTEM, "socketpair: %s", g_strerror(errno));
        return NULL;
    }
    struct timeval timeout = {.tv_sec = SEND_TIMEOUT_S};
    setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    struct qtest_replay *r = g_new0(struct qtest_replay, 1);
    g_mutex_init(&r->lock);
    r->fd = fds[0];
    r->lines = g_steal_pointer(&lines);
    *client_fd = fds[1];
    r->thread = g_thread_new("qtest-replay", play, r);
    return r;
}

char *qtest_replay_complaint(void *replay)
{
    struct qtest_replay *r = replay;

    g_mutex_lock(&r->lock);
    char *text = r->error ? g_strdup(r->error->message) : NULL;
    g_mutex_unlock(&r->lock);
    return text;
}

bool qtest_replay_finish(struct qtest_replay *r, GError **error)
{
    /* an open client would keep the thread waiting for what is still expected */
    shutdown(r->fd, SHUT_RD);
    g_thread_join(r->thread);
    bool ok = r->error == NULL;
    if (!ok) {
        g_propagate_error(error, r->error);
    }
    close(r->fd);
    g_strfreev(r->lines);
    g_mutex_clear(&r->lock);
    g_free(r);
    return ok;
}
