/*
 * The wire under the qtest client: non-blocking bytes in and out, lines, deadlines, interrupt lines
 * taken out of the stream. It knows no commands; qtest.c makes them.
 */
#include "qtest_client/qtest_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int64_t qtest_deadline(const struct qtest *q)
{
    return g_get_monotonic_time() + (int64_t)q->timeout_ms * 1000;
}

static char *describe(const struct qtest_op *op, const char *text)
{
    char line[QTEST_LINE_BYTES];

    if (op && op->kind != QTEST_OP_TEXT) {
        size_t len = qtest_op_format(op, line);
        return g_strndup(line, len - 1);
    }
    return g_strdup(text ? text : "a command");
}

/* From now on commands and replies can no longer be matched. */
static void break_connection(struct qtest *q, const GError *why)
{
    if (!q->broken) {
        q->broken = g_error_copy(why);
    }
}

bool qtest_wire_usable(struct qtest *q, GError **error)
{
    if (q->broken) {
        g_set_error(error, q->broken->domain, q->broken->code,
                    "the qtest connection is unusable since an earlier error: %s",
                    q->broken->message);
        return false;
    }
    return true;
}

static bool fail_closed(struct qtest *q, const char *doing, GError **error)
{
    g_autofree char *why = q->closed_hook ? q->closed_hook(q->closed_data) : NULL;
    g_autoptr(GError) e = g_error_new(QTEST_ERROR, QTEST_ERROR_CLOSED,
                                      "qtest: connection closed while waiting for '%s'%s%s", doing,
                                      why ? ": " : "", why ? why : "");
    break_connection(q, e);
    g_propagate_error(error, g_steal_pointer(&e));
    return false;
}

static bool fail_system(struct qtest *q, const char *call, const char *doing, GError **error)
{
    int saved = errno;

    if (saved == EPIPE || saved == ECONNRESET) {
        return fail_closed(q, doing, error);
    }
    g_autoptr(GError) e = g_error_new(QTEST_ERROR, QTEST_ERROR_SYSTEM, "qtest: %s for '%s': %s",
                                      call, doing, g_strerror(saved));
    break_connection(q, e);
    g_propagate_error(error, g_steal_pointer(&e));
    return false;
}

static void rx_make_room(struct qtest *q)
{
    if (q->rx_start == q->rx_end) {
        q->rx_start = q->rx_end = q->rx_scanned = 0;
    }
    if (q->rx_size - q->rx_end >= QTEST_RX_CHUNK / 2) {
        return;
    }
    if (q->rx_start > 0) {
        memmove(q->rx, q->rx + q->rx_start, q->rx_end - q->rx_start);
        q->rx_end -= q->rx_start;
        q->rx_scanned -= q->rx_start;
        q->rx_start = 0;
    }
    if (q->rx_size - q->rx_end < QTEST_RX_CHUNK / 2) {
        q->rx_size = q->rx_size ? q->rx_size * 2 : (size_t)QTEST_RX_CHUNK * 2;
        q->rx = g_realloc(q->rx, q->rx_size);
    }
}

/* 1: bytes came; 0: nothing there now; -1: error set. */
static int receive_some(struct qtest *q, const struct qtest_op *op, const char *text,
                        GError **error)
{
    rx_make_room(q);
    ssize_t n = recv(q->fd, q->rx + q->rx_end, q->rx_size - q->rx_end, MSG_DONTWAIT);
    if (n > 0) {
        q->rx_end += (size_t)n;
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return 0;
    }
    int saved = errno;
    g_autofree char *doing = describe(op, text);
    errno = saved;
    if (n == 0) {
        fail_closed(q, doing, error);
    } else {
        fail_system(q, "recv", doing, error);
    }
    return -1;
}

bool qtest_wire_wait(struct qtest *q, int64_t deadline_us, bool unsent, const struct qtest_op *op,
                     const char *text, GError **error)
{
    bool spins = !unsent && q->spin_us > 0 && qtest_spin_wanted(&q->spin);
    /* otherwise something has hardly come yet: poll says when it has */
    bool looks_first = spins || unsent || g_get_monotonic_time() >= deadline_us;
    int64_t spin_until = 0;

    for (;;) {
        int got = looks_first ? receive_some(q, op, text, error) : 0;
        if (got != 0) {
            return got > 0;
        }
        looks_first = true;
        int64_t now = g_get_monotonic_time();
        if (spin_until == 0) {
            spin_until = now + (spins ? q->spin_us : 0);
        }
        if (now < spin_until) {
            continue;
        }
        if (now >= deadline_us) {
            g_autofree char *doing = describe(op, text);
            g_autoptr(GError) e = g_error_new(QTEST_ERROR, QTEST_ERROR_TIMEOUT,
                                              "qtest: no reply to '%s' within its deadline", doing);
            if (op || !text || !g_str_has_prefix(text, "IRQ")) {
                break_connection(q, e);
            }
            g_propagate_error(error, g_steal_pointer(&e));
            return false;
        }
        struct pollfd fds[2] = {
            {.fd = q->fd, .events = (short)(POLLIN | (unsent ? POLLOUT : 0))},
            {.fd = q->cancel_fd, .events = POLLIN},
        };
        int ready = poll(fds, q->cancel_fd >= 0 ? 2 : 1, (int)((deadline_us - now + 999) / 1000));
        if (ready < 0 && errno != EINTR) {
            g_autofree char *doing = describe(op, text);
            return fail_system(q, "poll", doing, error);
        }
        if (ready > 0 && q->cancel_fd >= 0 && fds[1].revents) {
            g_autofree char *doing = describe(op, text);
            g_autoptr(GError) e = g_error_new(QTEST_ERROR, QTEST_ERROR_CANCELLED,
                                              "qtest: interrupted while waiting for '%s'", doing);
            break_connection(q, e);
            g_propagate_error(error, g_steal_pointer(&e));
            return false;
        }
        if (ready > 0 && unsent && (fds[0].revents & POLLOUT)) {
            return true;
        }
    }
}

void qtest_wire_record_sent(struct qtest *q, const char *text, size_t len)
{
    while (q->record && len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len;
        fprintf(q->record, "> %.*s\n", (int)n, text);
        len -= n + (end ? 1 : 0);
        text += n + (end ? 1 : 0);
    }
}

/* What a line says of itself in an error; of a block of data, its beginning. */
static char *first_words(const char *text, size_t len)
{
    const char *end = memchr(text, '\n', len);

    return g_strndup(text, MIN(end ? (size_t)(end - text) : len, 64));
}

size_t qtest_wire_send_some(struct qtest *q, const char *text, size_t len, GError **error)
{
    ssize_t n = send(q->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n >= 0) {
        return (size_t)n;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return 0;
    }
    int saved = errno;
    g_autofree char *doing = first_words(text, len);
    errno = saved;
    fail_system(q, "send", doing, error);
    return SIZE_MAX;
}

bool qtest_wire_send(struct qtest *q, const char *text, size_t len, GError **error)
{
    int64_t deadline = qtest_deadline(q);
    size_t sent = 0;

    if (q->record) {
        qtest_wire_record_sent(q, text, len);
    }
    for (;;) {
        size_t n = qtest_wire_send_some(q, text + sent, len - sent, error);
        if (n == SIZE_MAX) {
            return false;
        }
        sent += n;
        if (sent == len) {
            return true;
        }
        if (n > 0) {
            deadline = qtest_deadline(q);
            continue;
        }
        g_autofree char *doing = first_words(text, len);
        if (!qtest_wire_wait(q, deadline, true, NULL, doing, error)) {
            return false;
        }
    }
}

/* "IRQ raise 10" or "IRQ lower 10". */
static bool take_irq(struct qtest *q, const char *line, size_t len)
{
    if (len < 11 || memcmp(line, "IRQ ", 4) != 0) {
        return false;
    }
    bool raise = memcmp(line + 4, "raise ", 6) == 0;
    if (!raise && memcmp(line + 4, "lower ", 6) != 0) {
        return false;
    }
    unsigned nr = 0;
    for (size_t i = 10; i < len; i++) {
        if (line[i] < '0' || line[i] > '9' || nr > 100000) {
            return false;
        }
        nr = nr * 10 + (unsigned)(line[i] - '0');
    }
    if (nr < QTEST_N_IRQ_LINES) {
        struct qtest_irq_line *irq = &q->irq[nr];
        irq->level = raise;
        if (raise) {
            irq->n_raised++;
        } else {
            irq->n_lowered++;
        }
    }
    return true;
}

int qtest_wire_poll_reply(struct qtest *q, size_t max_len, const struct qtest_op *op,
                          const char *text, char **line, size_t *len, GError **error)
{
    for (;;) {
        char *from = q->rx + q->rx_scanned;
        char *end =
            q->rx_scanned < q->rx_end ? memchr(from, '\n', q->rx_end - q->rx_scanned) : NULL;
        size_t n = (end ? (size_t)(end - q->rx) : q->rx_end) - q->rx_start;
        if (n > MAX(max_len, QTEST_REPLY_BYTES)) {
            g_autofree char *doing = describe(op, text);
            g_autoptr(GError) e = g_error_new(QTEST_ERROR, QTEST_ERROR_OVERSIZED,
                                              "qtest: the reply to '%s' is longer than the %zu "
                                              "bytes it can have",
                                              doing, max_len);
            break_connection(q, e);
            g_propagate_error(error, g_steal_pointer(&e));
            return -1;
        }
        if (!end) {
            q->rx_scanned = q->rx_end;
            return 0;
        }
        *line = q->rx + q->rx_start;
        *len = n;
        q->rx_start += n + 1;
        q->rx_scanned = q->rx_start;
        if (q->record) {
            fprintf(q->record, "< %.*s\n", (int)n, *line);
        }
        if ((*line)[0] != 'I' || !take_irq(q, *line, n)) {
            return 1;
        }
    }
}

bool qtest_wire_reply(struct qtest *q, size_t max_len, const struct qtest_op *op, const char *text,
                      char **line, size_t *len, GError **error)
{
    int64_t deadline = 0;

    for (;;) {
        int got = qtest_wire_poll_reply(q, max_len, op, text, line, len, error);
        if (got != 0) {
            return got > 0;
        }
        if (deadline == 0) {
            deadline = qtest_deadline(q);
        }
        if (!qtest_wire_wait(q, deadline, false, op, text, error)) {
            return false;
        }
    }
}
