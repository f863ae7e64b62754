/*
 * The qtest protocol over a connected stream socket: one access at a time, posted writes, batches,
 * interrupt lines, transcripts. Protocol facts: QEMU's softmmu/qtest.c. The client formats every
 * command itself from checked numbers: nothing a caller passes can produce a line that makes QEMU
 * abort (an empty line, a bad number, a port above 0xffff, a zero-length read ...).
 * Not here: what lies behind an address (machine.h, pci.h) and starting QEMU (harness/qemu.h).
 *
 * Not thread-safe: one struct qtest belongs to one thread at a time.
 */
#ifndef RINGLAB_QTEST_H
#define RINGLAB_QTEST_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define QTEST_ERROR (qtest_error_quark())
GQuark qtest_error_quark(void);

enum qtest_error {
    QTEST_ERROR_FAIL,      /* QEMU answered FAIL: it does not know or refuses the command */
    QTEST_ERROR_ERR,       /* QEMU answered ERR: an argument's size is wrong */
    QTEST_ERROR_CLOSED,    /* the socket was closed: QEMU is gone */
    QTEST_ERROR_GARBLED,   /* a reply that the protocol does not have */
    QTEST_ERROR_OVERSIZED, /* a reply longer than any this command can have */
    QTEST_ERROR_TIMEOUT,   /* no reply, or no interrupt, before the deadline */
    QTEST_ERROR_INVALID,   /* an argument that must not be sent; nothing was sent */
    QTEST_ERROR_CANCELLED, /* the cancel descriptor became readable while waiting */
    QTEST_ERROR_SYSTEM,    /* a system call failed */
};

enum {
    QTEST_DEFAULT_TIMEOUT_MS = 5000,
    QTEST_N_IRQ_LINES = 24,   /* the I/O APIC's inputs, GSI 0..23 */
    QTEST_MAX_POSTED = 64,    /* posted writes in flight at most */
    QTEST_BLOCK_BYTES = 49152 /* bytes moved per b64read/b64write line (QEMU's parser is quadratic
                                 in the line length) */
};

struct qtest;

/* Takes ownership of `fd`, a connected stream socket, and makes it non-blocking. Never fails. */
struct qtest *qtest_new(int fd);
void qtest_free(struct qtest *q);

/* The deadline for each reply, in ms (1..3600000; default 5000). */
void qtest_set_timeout(struct qtest *q, unsigned timeout_ms);
/* How long to poll the socket before sleeping, in µs (0..10000; default 50): a reply that arrives
 * meanwhile saves the wake-up of a sleeping processor, which is most of a round trip. Where other
 * work keeps the processors busy, sleeping at once is quicker; the client finds out by itself. */
void qtest_set_spin(struct qtest *q, unsigned spin_us);
int qtest_fd(const struct qtest *q);
/* Waits end early, with CANCELLED, once `fd` is readable (nothing is read from it); -1: none. */
void qtest_set_cancel_fd(struct qtest *q, int fd);
/* Lines sent so far: every command, however it was sent. */
uint64_t qtest_n_commands(const struct qtest *q);

/* Called when the socket turned out closed, before the error is made: may return a text saying
 * what became of QEMU (freed with g_free), which then ends the error's message. */
typedef char *(*qtest_closed_fn)(void *data);
void qtest_set_closed_hook(struct qtest *q, qtest_closed_fn hook, void *data);

/* ---- one access at a time; `width` is in bytes ---- */

/* Port I/O: width 1, 2 or 4; port 0..0xffff. A value wider than the port access is INVALID. */
bool qtest_in(struct qtest *q, unsigned width, uint64_t port, uint64_t *value, GError **error);
bool qtest_out(struct qtest *q, unsigned width, uint64_t port, uint64_t value, GError **error);
/* Memory and MMIO: width 1, 2, 4 or 8, any address. QEMU gives no error for unassigned memory. */
bool qtest_read(struct qtest *q, unsigned width, uint64_t addr, uint64_t *value, GError **error);
bool qtest_write(struct qtest *q, unsigned width, uint64_t addr, uint64_t value, GError **error);
/* Writes whose reply is not waited for: errors surface at the next call that waits. At most
 * QTEST_MAX_POSTED are in flight; one more first collects replies. */
bool qtest_post_write(struct qtest *q, unsigned width, uint64_t addr, uint64_t value,
                      GError **error);
bool qtest_post_out(struct qtest *q, unsigned width, uint64_t port, uint64_t value, GError **error);
/* Waits until everything sent has been answered, and for all that QEMU's main loop had already
 * emitted (interrupt lines): sends `endianness`. Fails if QEMU is not little-endian. */
bool qtest_barrier(struct qtest *q, GError **error);

/* Blocks of guest-physical memory, any length (0 does nothing), in pieces of QTEST_BLOCK_BYTES. On
 * MMIO they become 4-byte accesses. */
bool qtest_read_bytes(struct qtest *q, uint64_t addr, void *bytes, size_t len, GError **error);
bool qtest_write_bytes(struct qtest *q, uint64_t addr, const void *bytes, size_t len,
                       GError **error);
bool qtest_memset(struct qtest *q, uint64_t addr, size_t len, uint8_t value, GError **error);

/* Moves the virtual clock; only QEMUs with `-accel qtest` know it, others answer FAIL. `now_ns`
 * (may be NULL) receives the clock after the step. */
bool qtest_clock_step(struct qtest *q, uint64_t ns, uint64_t *now_ns, GError **error);

/* ---- batches: any number of operations, one write, results in order ---- */

struct qtest_batch;

struct qtest_batch *qtest_batch_new(struct qtest *q);
void qtest_batch_free(struct qtest_batch *batch);
/* Forgets all operations and results; keeps the memory. */
void qtest_batch_clear(struct qtest_batch *batch);
size_t qtest_batch_len(const struct qtest_batch *batch);
/* Each appends one operation and returns its index. Arguments as above; a bad one is remembered and
 * makes qtest_batch_run fail with INVALID before anything is sent. */
size_t qtest_batch_in(struct qtest_batch *batch, unsigned width, uint64_t port);
size_t qtest_batch_out(struct qtest_batch *batch, unsigned width, uint64_t port, uint64_t value);
size_t qtest_batch_read(struct qtest_batch *batch, unsigned width, uint64_t addr);
size_t qtest_batch_write(struct qtest_batch *batch, unsigned width, uint64_t addr, uint64_t value);
/* Sends all, collects all: reads while writing, so a batch of any size cannot deadlock with a QEMU
 * that blocks on its own replies. On an error the replies still due are collected (or the socket
 * is unusable), and values of operations before the failed one are valid. May be run again. */
bool qtest_batch_run(struct qtest_batch *batch, GError **error);
/* The value operation `index` read; 0 for writes. Valid after a successful run. */
uint64_t qtest_batch_value(const struct qtest_batch *batch, size_t index);

/* ---- interrupt lines ---- */

struct qtest_irq_line {
    bool level;        /* as last reported; false before the first report */
    uint64_t n_raised; /* how often it went up */
    uint64_t n_lowered;
};

/* Reports the inputs of the I/O APIC (machines pc and q35) from now on; lasts as long as QEMU. */
bool qtest_irq_intercept_ioapic(struct qtest *q, GError **error);
/* What is known of line 0..23 without asking; other lines read as never raised. */
struct qtest_irq_line qtest_irq_state(const struct qtest *q, unsigned line);
/* Waits until `line` has the wanted level; TIMEOUT names the line. */
bool qtest_irq_wait_level(struct qtest *q, unsigned line, bool level, int timeout_ms,
                          GError **error);
/* Waits until `line` has been raised at least `n_raised` times since the start. */
bool qtest_irq_wait_raised(struct qtest *q, unsigned line, uint64_t n_raised, int timeout_ms,
                           GError **error);
/* Drives an input of the I/O APIC, 0..23. */
bool qtest_irq_set_ioapic(struct qtest *q, unsigned line, bool level, GError **error);

/* ---- transcripts ---- */

/* Writes each line of the wire to `file` from now on: `> ` before what is sent, `< ` before what
 * came back. NULL ends it. The caller closes the file. */
void qtest_record(struct qtest *q, FILE *file);

/* A stand-in for QEMU that plays a recorded transcript: it expects the commands in their order and
 * answers with what was recorded; lines that came without a command (IRQ) come when they came. */
struct qtest_replay;
/* `*client_fd` is the socket to give to qtest_new. */
struct qtest_replay *qtest_replay_new(const char *transcript, int *client_fd, GError **error);
/* For qtest_set_closed_hook, with the replay as its data: what differed, since the connection is
 * closed then. */
char *qtest_replay_complaint(void *replay);
/* Ends it. False if a command differed from the transcript or part of it was never asked for: the
 * message names the line, what was expected and what came. */
bool qtest_replay_finish(struct qtest_replay *replay, GError **error);

#endif
