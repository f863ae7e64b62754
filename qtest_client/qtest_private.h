/*
 * What the files that implement qtest.h share: the wire (bytes, lines, deadlines) and the commands.
 * Not for users of the client.
 */
#ifndef RINGLAB_QTEST_PRIVATE_H
#define RINGLAB_QTEST_PRIVATE_H

#include "qtest_client/qtest.h"

enum qtest_op_kind {
    QTEST_OP_IN,
    QTEST_OP_OUT,
    QTEST_OP_READ,
    QTEST_OP_WRITE,
    QTEST_OP_TEXT, /* any other command; its text names it */
};

/* A command as it was asked for: to check its reply and to name it in an error. */
struct qtest_op {
    enum qtest_op_kind kind;
    uint8_t width;
    uint64_t addr, value; /* value: written, or receives what was read */
};

enum {
    QTEST_LINE_BYTES = 64,  /* room for the text of any IN, OUT, READ or WRITE */
    QTEST_REPLY_BYTES = 64, /* longest reply to those, and longest IRQ line */
    QTEST_RX_CHUNK = 65536,
};

/* Whether waiting begins with polling; see qtest_spin.c. */
struct qtest_spin {
    bool sleeps; /* the outcome of the last trial */
    uint8_t phase;
    unsigned n_left;            /* exchanges until the phase ends */
    int64_t sum_us, longest_us; /* of the exchanges of this phase */
    int64_t spin_us;            /* of a trial's polling exchanges */
};

struct qtest {
    int fd;
    int cancel_fd;
    unsigned timeout_ms, spin_us;
    struct qtest_spin spin;
    FILE *record;
    qtest_closed_fn closed_hook;
    void *closed_data;
    GError *broken; /* set once replies and commands no longer match: every later call fails */
    /* received bytes [rx_start, rx_end); rx_scanned of them are known to hold no newline */
    char *rx;
    size_t rx_size, rx_start, rx_end, rx_scanned;
    struct qtest_op posted[QTEST_MAX_POSTED];
    unsigned n_posted;
    uint64_t n_commands;
    struct qtest_irq_line irq[QTEST_N_IRQ_LINES];
};

/* False, with INVALID, if the operation must not be sent. */
bool qtest_op_check(const struct qtest_op *op, GError **error);
/* Writes the operation's line, newline included, to `text` (QTEST_LINE_BYTES); returns its length.
 */
size_t qtest_op_format(const struct qtest_op *op, char *text);
/* Checks a reply line (without newline) and takes its value. `text` names a QTEST_OP_TEXT. */
bool qtest_op_parse(struct qtest_op *op, const char *text, const char *line, size_t len,
                    GError **error);

void qtest_spin_init(struct qtest_spin *s);
bool qtest_spin_wanted(const struct qtest_spin *s);
/* Whether it matters how long the next exchange takes. */
bool qtest_spin_is_trial(const struct qtest_spin *s);
/* One short command was sent and its reply has come, `took_us` later if that matters. */
void qtest_spin_exchanged(struct qtest_spin *s, int64_t took_us);

/* Sends all of `text`, taking in what arrives meanwhile. `what` is named in errors. */
bool qtest_wire_send(struct qtest *q, const char *text, size_t len, GError **error);
/* The next line that is not an IRQ line, valid until the next call; interrupt lines met on the way
 * are counted. A line longer than `max_len` is OVERSIZED. `naming` describes what is waited for. */
bool qtest_wire_reply(struct qtest *q, size_t max_len, const struct qtest_op *op, const char *text,
                      char **line, size_t *len, GError **error);
/* A reply if a whole one has already arrived: 1 yes, 0 no, -1 error. */
int qtest_wire_poll_reply(struct qtest *q, size_t max_len, const struct qtest_op *op,
                          const char *text, char **line, size_t *len, GError **error);
/* Takes in what has arrived; waits for something if there is nothing, until `deadline_us`
 * (monotonic). With `unsent` it also returns when the socket takes more. */
bool qtest_wire_wait(struct qtest *q, int64_t deadline_us, bool unsent, const struct qtest_op *op,
                     const char *text, GError **error);
/* Sends as much as the socket takes now; SIZE_MAX on an error. */
size_t qtest_wire_send_some(struct qtest *q, const char *text, size_t len, GError **error);
void qtest_wire_record_sent(struct qtest *q, const char *text, size_t len);
/* Fails if the connection is unusable since an earlier error. */
bool qtest_wire_usable(struct qtest *q, GError **error);
/* Collects the replies to posted writes; the first that failed is the error. */
bool qtest_drain_posted(struct qtest *q, GError **error);
int64_t qtest_deadline(const struct qtest *q);

#endif
