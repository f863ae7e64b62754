/*
 * Batches: many operations, formatted as they are queued, sent together, replies matched in order.
 */
#include "qtest_client/qtest_private.h"

#include <string.h>

enum { SHORT_BATCH = 4 }; /* operations: as good as one when it comes to waiting */

struct qtest_batch {
    struct qtest *q;
    struct qtest_op *ops;
    size_t n, ops_size;
    char *text;
    size_t text_len, text_size;
    GError *invalid; /* the first bad argument */
};

struct qtest_batch *qtest_batch_new(struct qtest *q)
{
    struct qtest_batch *b = g_new0(struct qtest_batch, 1);
    b->q = q;
    return b;
}

void qtest_batch_free(struct qtest_batch *b)
{
    if (b) {
        g_clear_error(&b->invalid);
        g_free(b->ops);
        g_free(b->text);
        g_free(b);
    }
}

void qtest_batch_clear(struct qtest_batch *b)
{
    b->n = 0;
    b->text_len = 0;
    g_clear_error(&b->invalid);
}

size_t qtest_batch_len(const struct qtest_batch *b)
{
    return b->n;
}

static size_t append(struct qtest_batch *b, enum qtest_op_kind kind, unsigned width, uint64_t addr,
                     uint64_t value)
{
    struct qtest_op op = {kind, (uint8_t)MIN(width, 255), addr, value};

    if (b->n == b->ops_size) {
        b->ops_size = b->ops_size ? b->ops_size * 2 : 64;
        b->ops = g_renew(struct qtest_op, b->ops, b->ops_size);
    }
    if (b->text_size - b->text_len < QTEST_LINE_BYTES) {
        b->text_size = b->text_size ? b->text_size * 2 : (size_t)64 * QTEST_LINE_BYTES;
        b->text = g_realloc(b->text, b->text_size);
    }
    if (qtest_op_check(&op, b->invalid ? NULL : &b->invalid)) {
        b->text_len += qtest_op_format(&op, b->text + b->text_len);
    }
    b->ops[b->n] = op;
    return b->n++;
}

size_t qtest_batch_in(struct qtest_batch *b, unsigned width, uint64_t port)
{
    return append(b, QTEST_OP_IN, width, port, 0);
}

size_t qtest_batch_out(struct qtest_batch *b, unsigned width, uint64_t port, uint64_t value)
{
    return append(b, QTEST_OP_OUT, width, port, value);
}

size_t qtest_batch_read(struct qtest_batch *b, unsigned width, uint64_t addr)
{
    return append(b, QTEST_OP_READ, width, addr, 0);
}

size_t qtest_batch_write(struct qtest_batch *b, unsigned width, uint64_t addr, uint64_t value)
{
    return append(b, QTEST_OP_WRITE, width, addr, value);
}

uint64_t qtest_batch_value(const struct qtest_batch *b, size_t index)
{
    if (index >= b->n) {
        return 0;
    }
    const struct qtest_op *op = &b->ops[index];
    return op->kind == QTEST_OP_IN || op->kind == QTEST_OP_READ ? op->value : 0;
}

bool qtest_batch_run(struct qtest_batch *b, GError **error)
{
    struct qtest *q = b->q;
    GError *first = NULL;
    size_t sent = 0, got = 0;

    if (b->invalid) {
        g_propagate_error(error, g_error_copy(b->invalid));
        return false;
    }
    if (!qtest_wire_usable(q, error) || !qtest_drain_posted(q, error)) {
        return false;
    }
    if (q->record) {
        qtest_wire_record_sent(q, b->text, b->text_len);
    }
    q->n_commands += b->n;
    bool is_short = b->n <= SHORT_BATCH;
    int64_t begin_us = is_short && qtest_spin_is_trial(&q->spin) ? g_get_monotonic_time() : 0;
    int64_t deadline = qtest_deadline(q);
    while (got < b->n) {
        bool moved = false;
        if (sent < b->text_len) {
            size_t n =
                qtest_wire_send_some(q, b->text + sent, b->text_len - sent, first ? NULL : error);
            if (n == SIZE_MAX) {
                break;
            }
            sent += n;
            moved = n > 0;
        }
        int rc = 0;
        while (got < b->n) {
            char *line;
            size_t len;
            rc = qtest_wire_poll_reply(q, QTEST_REPLY_BYTES, &b->ops[got], NULL, &line, &len,
                                       first ? NULL : error);
            if (rc <= 0) {
                break;
            }
            moved = true;
            /* after the first failure the rest is collected, to keep the stream in step */
            GError *e = NULL;
            if (!qtest_op_parse(&b->ops[got], NULL, line, len, &e)) {
                if (first) {
                    g_error_free(e);
                } else {
                    first = e;
                }
            }
            got++;
        }
        if (rc < 0) {
            break;
        }
        if (moved) {
            deadline = qtest_deadline(q);
        }
        if (got < b->n && !qtest_wire_wait(q, deadline, sent < b->text_len, &b->ops[got], NULL,
                                           first ? NULL : error)) {
            break;
        }
    }
    if (first) {
        g_propagate_error(error, first);
        return false;
    }
    if (is_short) {
        qtest_spin_exchanged(&q->spin, begin_us ? g_get_monotonic_time() - begin_us : 0);
    }
    return got == b->n;
}
