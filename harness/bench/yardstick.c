/*
 * The yardsticks: see yardstick.h. They are as plain as what they stand for; nothing here is how
 * the client itself works.
 */
#include "harness/bench/yardstick.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { RX_BYTES = 1024, RAW_RX_BYTES = 65536, DEADLINE_S = 5 };

void yardstick_init(struct yardstick *y, int fd)
{
    *y = (struct yardstick){.fd = fd, .rx = g_string_new(NULL)};
}

void yardstick_clear(struct yardstick *y)
{
    g_string_free(y->rx, TRUE);
    g_free(y->text);
}

static bool fail(const char *doing, GError **error)
{
    g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM, "yardstick: %s: %s", doing,
                errno == EAGAIN ? "no reply within 5 s" : g_strerror(errno));
    return false;
}

bool yardstick_set_blocking(int fd, bool blocks, GError **error)
{
    struct timeval deadline = {.tv_sec = DEADLINE_S};
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, blocks ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) < 0) {
        return fail("fcntl", error);
    }
    return true;
}

static bool write_all(int fd, const char *text, size_t len, GError **error)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail("write", error);
        }
        text += n;
        len -= (size_t)n;
    }
    return true;
}

/* 0 is the end of the connection, an error too. */
static ssize_t read_some(int fd, char *buffer, size_t size, GError **error)
{
    ssize_t n;

    do {
        n = read(fd, buffer, size);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        errno = ECONNRESET;
    }
    if (n <= 0) {
        fail("read", error);
    }
    return n;
}

/* ---- as libqtest ---- */

G_GNUC_PRINTF(3, 4)
static bool send_formatted(struct yardstick *y, GError **error, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    return write_all(y->fd, text, strlen(text), error);
}

static GString *receive_line(struct yardstick *y, GError **error)
{
    char buffer[RX_BYTES];
    char *newline;

    while (!(newline = strchr(y->rx->str, '\n'))) {
        ssize_t n = read_some(y->fd, buffer, sizeof(buffer), error);
        if (n <= 0) {
            return NULL;
        }
        g_string_append_len(y->rx, buffer, n);
    }
    gssize len = newline - y->rx->str;
    GString *line = g_string_new_len(y->rx->str, len);
    g_string_erase(y->rx, 0, len + 1);
    return line;
}

static char **receive_words(struct yardstick *y, GError **error)
{
    for (;;) {
        GString *line = receive_line(y, error);
        if (!line) {
            return NULL;
        }
        g_auto(GStrv) words = g_strsplit(line->str, " ", 0);
        g_string_free(line, TRUE);
        if (g_strcmp0(words[0], "IRQ") != 0) {
            return g_steal_pointer(&words);
        }
    }
}

bool yardstick_inl(struct yardstick *y, uint16_t port, uint32_t *value, GError **error)
{
    if (!send_formatted(y, error, "inl 0x%x\n", port)) {
        return false;
    }
    g_auto(GStrv) words = receive_words(y, error);
    if (!words) {
        return false;
    }
    char *end = NULL;
    guint64 number = 0;
    if (g_strcmp0(words[0], "OK") == 0 && words[1]) {
        number = g_ascii_strtoull(words[1], &end, 0);
    }
    if (!end || *end != '\0') {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG,
                    "yardstick: 'inl 0x%x' was answered with '%s'", port, words[0] ? words[0] : "");
        return false;
    }
    *value = (uint32_t)number;
    return true;
}

/* ---- as little as possible ---- */

static void prepare(struct yardstick *y, uint16_t port)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < YARDSTICK_RAW_BATCH; i++) {
        g_string_append_printf(text, "inl 0x%x\n", port);
    }
    y->text_len = text->len;
    y->text = g_string_free(text, FALSE);
}

bool yardstick_raw_inl(struct yardstick *y, uint16_t port, GError **error)
{
    static char buffer[RAW_RX_BYTES];
    unsigned n_lines = 0;

    if (!y->text) {
        prepare(y, port);
    }
    /* less than a socket takes, so that nobody waits for the other to read */
    if (!write_all(y->fd, y->text, y->text_len, error)) {
        return false;
    }
    while (n_lines < YARDSTICK_RAW_BATCH) {
        ssize_t n = read_some(y->fd, buffer, sizeof(buffer), error);
        if (n <= 0) {
            return false;
        }
        for (const char *p = buffer, *end = buffer + n; (p = memchr(p, '\n', (size_t)(end - p)));
             p++) {
            n_lines++;
        }
    }
    return true;
}
