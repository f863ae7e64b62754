/*
 * The qtest commands: formatted from checked numbers, replies checked against what was asked.
 * The bytes underneath are qtest_wire.c's, batches qtest_batch.c's, the stand-in qtest_replay.c's.
 */
#include "qtest_client/qtest_private.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

G_DEFINE_QUARK(qtest - error - quark, qtest_error)

enum { DEFAULT_SPIN_US = 50 };

struct qtest *qtest_new(int fd)
{
    struct qtest *q = g_new0(struct qtest, 1);

    q->fd = fd;
    q->cancel_fd = -1;
    q->timeout_ms = QTEST_DEFAULT_TIMEOUT_MS;
    q->spin_us = DEFAULT_SPIN_US;
    qtest_spin_init(&q->spin);
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) {
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
    return q;
}

void qtest_free(struct qtest *q)
{
    if (!q) {
        return;
    }
    close(q->fd);
    g_clear_error(&q->broken);
    g_free(q->rx);
    g_free(q);
}

void qtest_set_timeout(struct qtest *q, unsigned timeout_ms)
{
    q->timeout_ms = CLAMP(timeout_ms, 1, 3600000);
}

void qtest_set_spin(struct qtest *q, unsigned spin_us)
{
    q->spin_us = MIN(spin_us, 10000);
}

int qtest_fd(const struct qtest *q)
{
    return q->fd;
}

void qtest_set_cancel_fd(struct qtest *q, int fd)
{
    q->cancel_fd = fd;
}

uint64_t qtest_n_commands(const struct qtest *q)
{
    return q->n_commands;
}

void qtest_set_closed_hook(struct qtest *q, qtest_closed_fn hook, void *data)
{
    q->closed_hook = hook;
    q->closed_data = data;
}

void qtest_record(struct qtest *q, FILE *file)
{
    q->record = file;
}

/* ---- one operation: check, format, parse ---- */

static bool fits(uint64_t value, unsigned width)
{
    return width >= 8 || value >> (8 * width) == 0;
}

bool qtest_op_check(const struct qtest_op *op, GError **error)
{
    bool is_io = op->kind == QTEST_OP_IN || op->kind == QTEST_OP_OUT;
    bool is_write = op->kind == QTEST_OP_OUT || op->kind == QTEST_OP_WRITE;
    unsigned w = op->width;

    if (w != 1 && w != 2 && w != 4 && (w != 8 || is_io)) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "%s 0x%" PRIx64 ": an access of %u bytes does not exist (use 1, 2, 4%s)",
                    is_io ? "port" : "address", op->addr, w, is_io ? "" : " or 8");
        return false;
    }
    if (is_io && op->addr > 0xffff) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "port 0x%" PRIx64 " is beyond the last one, 0xffff", op->addr);
        return false;
    }
    if (is_write && !fits(op->value, w)) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "value 0x%" PRIx64 " is too wide for a %u-byte access to %s 0x%" PRIx64,
                    op->value, w, is_io ? "port" : "address", op->addr);
        return false;
    }
    return true;
}

static char *put_hex(char *p, uint64_t value)
{
    static const char digits[] = "0123456789abcdef";
    int shift = value ? (63 - __builtin_clzll(value)) & ~3 : 0;

    *p++ = '0';
    *p++ = 'x';
    for (; shift >= 0; shift -= 4) {
        *p++ = digits[(value >> shift) & 0xf];
    }
    return p;
}

size_t qtest_op_format(const struct qtest_op *op, char *text)
{
    static const char *const verbs[] = {[QTEST_OP_IN] = "in",
                                        [QTEST_OP_OUT] = "out",
                                        [QTEST_OP_READ] = "read",
                                        [QTEST_OP_WRITE] = "write"};
    static const char suffix[9] = {[1] = 'b', [2] = 'w', [4] = 'l', [8] = 'q'};
    char *p = text;

    for (const char *v = verbs[op->kind]; *v; v++) {
        *p++ = *v;
    }
    *p++ = suffix[op->width];
    *p++ = ' ';
    p = put_hex(p, op->addr);
    if (op->kind == QTEST_OP_OUT || op->kind == QTEST_OP_WRITE) {
        *p++ = ' ';
        p = put_hex(p, op->value);
    }
    *p++ = '\n';
    return (size_t)(p - text);
}

static bool refuse(const struct qtest_op *op, const char *text, int code, const char *how,
                   const char *line, size_t len, GError **error)
{
    char mine[QTEST_LINE_BYTES];
    g_autofree char *shown = g_strndup(line, MIN(len, 120));
    g_autofree char *safe = g_strescape(shown, NULL);

    if (op->kind != QTEST_OP_TEXT) {
        mine[qtest_op_format(op, mine) - 1] = '\0';
        text = mine;
    }
    g_set_error(error, QTEST_ERROR, code, "qtest: '%s' %s '%s'", text, how, safe);
    return false;
}

/* "0x" and 1 to 16 hexadecimal digits, to the end. */
static bool parse_hex(const char *p, size_t len, uint64_t *value)
{
    uint64_t v = 0;

    if (len < 3 || len > 18 || p[0] != '0' || p[1] != 'x') {
        return false;
    }
    for (size_t i = 2; i < len; i++) {
        unsigned c = (unsigned char)p[i];
        unsigned digit = c - '0';
        if (digit > 9) {
            digit = (c | 0x20) - 'a';
            if (digit > 5) {
                return false;
            }
            digit += 10;
        }
        v = v << 4 | digit;
    }
    *value = v;
    return true;
}

bool qtest_op_parse(struct qtest_op *op, const char *text, const char *line, size_t len,
                    GError **error)
{
    if (len >= 2 && line[0] == 'O' && line[1] == 'K') {
        switch (op->kind) {
        case QTEST_OP_IN:
        case QTEST_OP_READ:
            if (len > 3 && line[2] == ' ' && parse_hex(line + 3, len - 3, &op->value) &&
                fits(op->value, op->width)) {
                return true;
            }
            break;
        case QTEST_OP_TEXT:
            if (len == 2 || line[2] == ' ') {
                return true;
            }
            break;
        default:
            if (len == 2) {
                return true;
            }
        }
        return refuse(op, text, QTEST_ERROR_GARBLED, "was answered with the garbled", line, len,
                      error);
    }
    if (len >= 4 && memcmp(line, "FAIL", 4) == 0 && (len == 4 || line[4] == ' ')) {
        return refuse(op, text, QTEST_ERROR_FAIL, "was refused:", line, len, error);
    }
    if (len >= 3 && memcmp(line, "ERR", 3) == 0 && (len == 3 || line[3] == ' ')) {
        return refuse(op, text, QTEST_ERROR_ERR, "was an error to QEMU:", line, len, error);
    }
    return refuse(op, text, QTEST_ERROR_GARBLED, "was answered with the garbled", line, len, error);
}

/* ---- posted writes ---- */

bool qtest_drain_posted(struct qtest *q, GError **error)
{
    GError *first = NULL;
    unsigned n = q->n_posted;

    q->n_posted = 0;
    for (unsigned i = 0; i < n; i++) {
        GError *e = NULL;
        char *line;
        size_t len;
        if (!qtest_wire_reply(q, QTEST_REPLY_BYTES, &q->posted[i], NULL, &line, &len, &e)) {
            g_clear_error(&first);
            g_propagate_error(error, e);
            return false;
        }
        if (!qtest_op_parse(&q->posted[i], NULL, line, len, &e)) {
            if (first) {
                g_error_free(e);
            } else {
                first = e;
            }
        }
    }
    if (first) {
        g_propagate_error(error, first);
        return false;
    }
    return true;
}

static bool post(struct qtest *q, enum qtest_op_kind kind, unsigned width, uint64_t addr,
                 uint64_t value, GError **error)
{
    struct qtest_op op = {kind, (uint8_t)MIN(width, 255), addr, value};
    char text[QTEST_LINE_BYTES];

    if (!qtest_wire_usable(q, error) || !qtest_op_check(&op, error)) {
        return false;
    }
    if (q->n_posted == QTEST_MAX_POSTED && !qtest_drain_posted(q, error)) {
        return false;
    }
    if (!qtest_wire_send(q, text, qtest_op_format(&op, text), error)) {
        return false;
    }
    q->posted[q->n_posted++] = op;
    q->n_commands++;
    return true;
}

bool qtest_post_write(struct qtest *q, unsigned width, uint64_t addr, uint64_t value,
                      GError **error)
{
    return post(q, QTEST_OP_WRITE, width, addr, value, error);
}

bool qtest_post_out(struct qtest *q, unsigned width, uint64_t port, uint64_t value, GError **error)
{
    return post(q, QTEST_OP_OUT, width, port, value, error);
}

/* ---- one at a time ---- */

/* Sends one line, collects what posted writes still owe, then its own reply. */
static bool exchange(struct qtest *q, struct qtest_op *op, const char *text, size_t text_len,
                     const char *naming, size_t max_reply, char **line, size_t *len, GError **error)
{
    GError *posted = NULL;

    if (!qtest_wire_usable(q, error) || !qtest_wire_send(q, text, text_len, error)) {
        return false;
    }
    q->n_commands++;
    if (q->n_posted > 0 && !qtest_drain_posted(q, &posted) && q->broken) {
        g_propagate_error(error, posted);
        return false;
    }
    if (!qtest_wire_reply(q, max_reply, op, naming, line, len, posted ? NULL : error)) {
        if (posted) {
            g_propagate_error(error, posted);
        }
        return false;
    }
    bool ok = qtest_op_parse(op, naming, *line, *len, posted ? NULL : error);
    if (posted) {
        g_propagate_error(error, posted);
        return false;
    }
    return ok;
}

static bool access_one(struct qtest *q, enum qtest_op_kind kind, unsigned width, uint64_t addr,
                       uint64_t *value, GError **error)
{
    struct qtest_op op = {kind, (uint8_t)MIN(width, 255), addr, 0};
    char text[QTEST_LINE_BYTES];
    char *line;
    size_t len;

    if (kind == QTEST_OP_OUT || kind == QTEST_OP_WRITE) {
        op.value = *value;
    }
    int64_t begin_us = qtest_spin_is_trial(&q->spin) ? g_get_monotonic_time() : 0;
    if (!qtest_op_check(&op, error) || !exchange(q, &op, text, qtest_op_format(&op, text), NULL,
                                                 QTEST_REPLY_BYTES, &line, &len, error)) {
        return false;
    }
    qtest_spin_exchanged(&q->spin, begin_us ? g_get_monotonic_time() - begin_us : 0);
    *value = op.value;
    return true;
}

bool qtest_in(struct qtest *q, unsigned width, uint64_t port, uint64_t *value, GError **error)
{
    return access_one(q, QTEST_OP_IN, width, port, value, error);
}

bool qtest_out(struct qtest *q, unsigned width, uint64_t port, uint64_t value, GError **error)
{
    return access_one(q, QTEST_OP_OUT, width, port, &value, error);
}

bool qtest_read(struct qtest *q, unsigned width, uint64_t addr, uint64_t *value, GError **error)
{
    return access_one(q, QTEST_OP_READ, width, addr, value, error);
}

bool qtest_write(struct qtest *q, unsigned width, uint64_t addr, uint64_t value, GError **error)
{
    return access_one(q, QTEST_OP_WRITE, width, addr, &value, error);
}

/* Any other command, made by this file from numbers and constants. `naming` is what errors call it;
 * `rest` (may be NULL) receives what follows "OK ". */
static bool command(struct qtest *q, const char *text, const char *naming, size_t max_reply,
                    const char **rest, size_t *rest_len, GError **error)
{
    struct qtest_op op = {QTEST_OP_TEXT, 0, 0, 0};
    g_autofree char *with_newline = g_strconcat(text, "\n", NULL);
    char *line;
    size_t len;

    if (!exchange(q, &op, with_newline, strlen(with_newline), naming, max_reply, &line, &len,
                  error)) {
        return false;
    }
    if (rest) {
        *rest = len > 3 ? line + 3 : "";
        *rest_len = len > 3 ? len - 3 : 0;
    }
    return true;
}

bool qtest_barrier(struct qtest *q, GError **error)
{
    const char *rest;
    size_t len;

    if (!command(q, "endianness", "endianness", QTEST_REPLY_BYTES, &rest, &len, error)) {
        return false;
    }
    if (len != 6 || memcmp(rest, "little", 6) != 0) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_GARBLED,
                    "qtest: 'endianness' was answered with '%.*s'; only little-endian targets are "
                    "supported",
                    (int)MIN(len, 40), rest);
        return false;
    }
    return true;
}

/* ---- blocks ---- */

static bool block_range(uint64_t addr, size_t len, GError **error)
{
    if (len > 0 && addr + (len - 1) < addr) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "a block of %zu bytes at address 0x%" PRIx64 " goes beyond the last address",
                    len, addr);
        return false;
    }
    return true;
}

bool qtest_read_bytes(struct qtest *q, uint64_t addr, void *bytes, size_t len, GError **error)
{
    uint8_t *out = bytes;

    if (!block_range(addr, len, error)) {
        return false;
    }
    while (len > 0) {
        size_t n = MIN(len, QTEST_BLOCK_BYTES);
        g_autofree char *text = g_strdup_printf("b64read 0x%" PRIx64 " 0x%zx", addr, n);
        size_t expected = (n + 2) / 3 * 4;
        const char *rest;
        size_t rest_len;
        if (!command(q, text, text, 3 + expected, &rest, &rest_len, error)) {
            return false;
        }
        /* g_base64_decode_step may write up to two bytes of padding beyond n */
        g_autofree uint8_t *decoded = g_malloc(expected + 4);
        int state = 0;
        guint save = 0;
        size_t got = g_base64_decode_step(rest, rest_len, decoded, &state, &save);
        if (rest_len != expected || got != n) {
            g_set_error(error, QTEST_ERROR, QTEST_ERROR_GARBLED,
                        "qtest: '%s' was answered with %zu bytes of base64 that hold %zu", text,
                        rest_len, got);
            return false;
        }
        memcpy(out, decoded, n);
        out += n;
        addr += n;
        len -= n;
    }
    return true;
}

bool qtest_write_bytes(struct qtest *q, uint64_t addr, const void *bytes, size_t len,
                       GError **error)
{
    const uint8_t *in = bytes;

    if (!block_range(addr, len, error)) {
        return false;
    }
    while (len > 0) {
        size_t n = MIN(len, QTEST_BLOCK_BYTES);
        g_autofree char *base64 = g_base64_encode(in, n);
        g_autofree char *naming = g_strdup_printf("b64write 0x%" PRIx64 " 0x%zx", addr, n);
        g_autofree char *text = g_strconcat(naming, " ", base64, NULL);
        if (!command(q, text, naming, QTEST_REPLY_BYTES, NULL, NULL, error)) {
            return false;
        }
        in += n;
        addr += n;
        len -= n;
    }
    return true;
}

bool qtest_memset(struct qtest *q, uint64_t addr, size_t len, uint8_t value, GError **error)
{
    /* QEMU allocates what it is asked to set, and dies if it cannot: so in pieces */
    enum { PIECE = 1 << 20 };

    if (!block_range(addr, len, error)) {
        return false;
    }
    while (len > 0) {
        size_t n = MIN(len, PIECE);
        g_autofree char *text = g_strdup_printf("memset 0x%" PRIx64 " 0x%zx 0x%x", addr, n, value);
        if (!command(q, text, text, QTEST_REPLY_BYTES, NULL, NULL, error)) {
            return false;
        }
        addr += n;
        len -= n;
    }
    return true;
}

bool qtest_clock_step(struct qtest *q, uint64_t ns, uint64_t *now_ns, GError **error)
{
    g_autofree char *text = g_strdup_printf("clock_step %" PRIu64, ns);
    const char *rest;
    size_t len;

    if (ns > INT64_MAX) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "clock step of %" PRIu64 " ns is beyond the clock's range", ns);
        return false;
    }
    if (!command(q, text, text, QTEST_REPLY_BYTES, &rest, &len, error)) {
        return false;
    }
    g_autofree char *digits = g_strndup(rest, len);
    guint64 now;
    if (!g_ascii_string_to_unsigned(digits, 10, 0, G_MAXUINT64, &now, NULL)) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_GARBLED,
                    "qtest: '%s' was answered with '%s', not with a time", text, digits);
        return false;
    }
    if (now_ns) {
        *now_ns = now;
    }
    return true;
}

/* ---- interrupt lines ---- */

bool qtest_irq_intercept_ioapic(struct qtest *q, GError **error)
{
    return command(q, "irq_intercept_in ioapic", "irq_intercept_in ioapic", QTEST_REPLY_BYTES, NULL,
                   NULL, error);
}

struct qtest_irq_line qtest_irq_state(const struct qtest *q, unsigned line)
{
    static const struct qtest_irq_line never;

    return line < QTEST_N_IRQ_LINES ? q->irq[line] : never;
}

bool qtest_irq_set_ioapic(struct qtest *q, unsigned line, bool level, GError **error)
{
    if (line >= QTEST_N_IRQ_LINES) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "the I/O APIC has no input %u (0 to %d)", line, QTEST_N_IRQ_LINES - 1);
        return false;
    }
    g_autofree char *text = g_strdup_printf("set_irq_in ioapic unnamed-gpio-in %u %d", line, level);
    return command(q, text, text, QTEST_REPLY_BYTES, NULL, NULL, error);
}

static bool irq_wait(struct qtest *q, unsigned line, bool by_level, uint64_t wanted, int timeout_ms,
                     GError **error)
{
    int64_t deadline = g_get_monotonic_time() + (int64_t)MAX(timeout_ms, 0) * 1000;

    if (line >= QTEST_N_IRQ_LINES) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID, "there is no interrupt line %u", line);
        return false;
    }
    if (!qtest_wire_usable(q, error) || !qtest_drain_posted(q, error)) {
        return false;
    }
    g_autofree char *what = by_level
                                ? g_strdup_printf("IRQ %s %u", wanted ? "raise" : "lower", line)
                                : g_strdup_printf("IRQ raise %u", line);
    for (;;) {
        const struct qtest_irq_line *irq = &q->irq[line];
        if (by_level ? irq->level == (wanted != 0) : irq->n_raised >= wanted) {
            return true;
        }
        char *reply;
        size_t len;
        int got = qtest_wire_poll_reply(q, QTEST_REPLY_BYTES, NULL, what, &reply, &len, error);
        if (got < 0) {
            return false;
        }
        if (got > 0) {
            struct qtest_op op = {QTEST_OP_TEXT, 0, 0, 0};
            refuse(&op, what, QTEST_ERROR_GARBLED, "was waited for, but this came:", reply, len,
                   error);
            return false;
        }
        if (by_level ? irq->level == (wanted != 0) : irq->n_raised >= wanted) {
            return true;
        }
        GError *e = NULL;
        if (!qtest_wire_wait(q, deadline, false, NULL, what, &e)) {
            if (g_error_matches(e, QTEST_ERROR, QTEST_ERROR_TIMEOUT)) {
                g_error_free(e);
                g_set_error(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT,
                            "interrupt line %u was not %s within %d ms (level %d, raised %" PRIu64
                            " times)",
                            line, by_level && !wanted ? "lowered" : "raised", timeout_ms,
                            irq->level, irq->n_raised);
            } else {
                g_propagate_error(error, e);
            }
            return false;
        }
    }
}

bool qtest_irq_wait_level(struct qtest *q, unsigned line, bool level, int timeout_ms,
                          GError **error)
{
    return irq_wait(q, line, true, level, timeout_ms, error);
}

bool qtest_irq_wait_raised(struct qtest *q, unsigned line, uint64_t n_raised, int timeout_ms,
                           GError **error)
{
    return irq_wait(q, line, false, n_raised, timeout_ms, error);
}
