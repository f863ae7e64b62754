/*
 * The machine behind a qtest socket; and the parts common to all machines (tracing, checks, choice
 * between shared memory and the wire).
 */
#include "qtest_client/machine.h"

#include <string.h>

struct machine_qtest {
    struct machine base;
    struct qtest *q;
    struct qtest_batch *batch;
};

static struct machine_qtest *qtest_of(struct machine *m)
{
    return (struct machine_qtest *)m;
}

static bool run_one(struct qtest *q, struct machine_access *a, GError **error)
{
    if (a->space == MACHINE_IO) {
        return a->is_write ? qtest_out(q, a->width, a->addr, a->value, error)
                           : qtest_in(q, a->width, a->addr, &a->value, error);
    }
    return a->is_write ? qtest_write(q, a->width, a->addr, a->value, error)
                       : qtest_read(q, a->width, a->addr, &a->value, error);
}

static bool qtest_machine_run(struct machine *m, struct machine_access *accesses, size_t n,
                              GError **error)
{
    struct machine_qtest *mq = qtest_of(m);

    if (n == 1) {
        return run_one(mq->q, accesses, error);
    }
    qtest_batch_clear(mq->batch);
    for (size_t i = 0; i < n; i++) {
        const struct machine_access *a = &accesses[i];
        if (a->space == MACHINE_IO) {
            if (a->is_write) {
                qtest_batch_out(mq->batch, a->width, a->addr, a->value);
            } else {
                qtest_batch_in(mq->batch, a->width, a->addr);
            }
        } else if (a->is_write) {
            qtest_batch_write(mq->batch, a->width, a->addr, a->value);
        } else {
            qtest_batch_read(mq->batch, a->width, a->addr);
        }
    }
    if (!qtest_batch_run(mq->batch, error)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!accesses[i].is_write) {
            accesses[i].value = qtest_batch_value(mq->batch, i);
        }
    }
    return true;
}

static bool qtest_machine_post(struct machine *m, const struct machine_access *a, GError **error)
{
    struct qtest *q = qtest_of(m)->q;

    return a->space == MACHINE_IO ? qtest_post_out(q, a->width, a->addr, a->value, error)
                                  : qtest_post_write(q, a->width, a->addr, a->value, error);
}

static bool qtest_machine_barrier(struct machine *m, GError **error)
{
    return qtest_barrier(qtest_of(m)->q, error);
}

static bool qtest_machine_read_bytes(struct machine *m, uint64_t addr, void *bytes, size_t len,
                                     GError **error)
{
    return qtest_read_bytes(qtest_of(m)->q, addr, bytes, len, error);
}

static bool qtest_machine_write_bytes(struct machine *m, uint64_t addr, const void *bytes,
                                      size_t len, GError **error)
{
    return qtest_write_bytes(qtest_of(m)->q, addr, bytes, len, error);
}

static bool qtest_machine_irq_state(struct machine *m, unsigned line, bool *level,
                                    uint64_t *n_raised)
{
    struct qtest_irq_line s = qtest_irq_state(qtest_of(m)->q, line);

    *level = s.level;
    *n_raised = s.n_raised;
    return line < QTEST_N_IRQ_LINES;
}

static bool qtest_machine_irq_wait_raised(struct machine *m, unsigned line, uint64_t n_raised,
                                          int timeout_ms, GError **error)
{
    return qtest_irq_wait_raised(qtest_of(m)->q, line, n_raised, timeout_ms, error);
}

static bool qtest_machine_irq_wait_level(struct machine *m, unsigned line, bool level,
                                         int timeout_ms, GError **error)
{
    return qtest_irq_wait_level(qtest_of(m)->q, line, level, timeout_ms, error);
}

static int qtest_machine_lifeline(struct machine *m)
{
    return qtest_fd(qtest_of(m)->q);
}

static void qtest_machine_free(struct machine *m)
{
    qtest_batch_free(qtest_of(m)->batch);
    g_free(m);
}

static const struct machine_ops qtest_machine_ops = {
    .run = qtest_machine_run,
    .post = qtest_machine_post,
    .barrier = qtest_machine_barrier,
    .read_bytes = qtest_machine_read_bytes,
    .write_bytes = qtest_machine_write_bytes,
    .irq_state = qtest_machine_irq_state,
    .irq_wait_raised = qtest_machine_irq_wait_raised,
    .irq_wait_level = qtest_machine_irq_wait_level,
    .lifeline = qtest_machine_lifeline,
    .free = qtest_machine_free,
};

struct machine *machine_qtest_new(struct qtest *q, struct guest_memory *memory,
                                  enum machine_board board)
{
    struct machine_qtest *mq = g_new0(struct machine_qtest, 1);

    mq->base.ops = &qtest_machine_ops;
    mq->base.board = board;
    mq->base.memory = memory;
    mq->q = q;
    mq->batch = qtest_batch_new(q);
    return &mq->base;
}

void machine_free(struct machine *m)
{
    if (m) {
        m->ops->free(m);
    }
}

bool machine_run(struct machine *m, struct machine_access *accesses, size_t n, GError **error)
{
    if (n == 0) {
        return true;
    }
    if (!m->ops->run(m, accesses, n, error)) {
        return false;
    }
    for (size_t i = 0; m->trace && i < n; i++) {
        m->trace(m->trace_data, &accesses[i]);
    }
    return true;
}

bool machine_read(struct machine *m, enum machine_space space, uint64_t addr, unsigned width,
                  uint64_t *value, GError **error)
{
    struct machine_access a = {addr, 0, (uint8_t)space, (uint8_t)MIN(width, 255), false};

    if (!machine_run(m, &a, 1, error)) {
        return false;
    }
    *value = a.value;
    return true;
}

bool machine_write(struct machine *m, enum machine_space space, uint64_t addr, unsigned width,
                   uint64_t value, GError **error)
{
    struct machine_access a = {addr, value, (uint8_t)space, (uint8_t)MIN(width, 255), true};

    return machine_run(m, &a, 1, error);
}

bool machine_post(struct machine *m, enum machine_space space, uint64_t addr, unsigned width,
                  uint64_t value, GError **error)
{
    struct machine_access a = {addr, value, (uint8_t)space, (uint8_t)MIN(width, 255), true};

    if (!m->ops->post(m, &a, error)) {
        return false;
    }
    if (m->trace) {
        m->trace(m->trace_data, &a);
    }
    return true;
}

bool machine_barrier(struct machine *m, GError **error)
{
    return m->ops->barrier(m, error);
}

int machine_lifeline(struct machine *m)
{
    return m->ops->lifeline ? m->ops->lifeline(m) : -1;
}

bool machine_read_bytes(struct machine *m, uint64_t gpa, void *bytes, size_t len, GError **error)
{
    const void *host = m->memory && len ? guest_memory_host(m->memory, gpa, len) : NULL;

    if (host) {
        memcpy(bytes, host, len);
        return true;
    }
    if (!m->ops->read_bytes(m, gpa, bytes, len, error)) {
        return false;
    }
    if (m->trace_bytes) {
        m->trace_bytes(m->trace_data, gpa, bytes, len, false);
    }
    return true;
}

bool machine_write_bytes(struct machine *m, uint64_t gpa, const void *bytes, size_t len,
                         GError **error)
{
    void *host = m->memory && len ? guest_memory_host(m->memory, gpa, len) : NULL;

    if (host) {
        memcpy(host, bytes, len);
        return true;
    }
    if (!m->ops->write_bytes(m, gpa, bytes, len, error)) {
        return false;
    }
    if (m->trace_bytes) {
        m->trace_bytes(m->trace_data, gpa, bytes, len, true);
    }
    return true;
}
