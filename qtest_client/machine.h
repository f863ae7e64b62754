/*
 * The seam between drivers and what stands behind them: ports, memory-mapped registers, guest
 * memory and interrupt lines behind one small table of operations. Drivers use nothing else. The
 * implementation here speaks qtest; a model in the same process can be another.
 */
#ifndef RINGLAB_MACHINE_H
#define RINGLAB_MACHINE_H

#include "qtest_client/guest_memory.h"
#include "qtest_client/qtest.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum machine_space {
    MACHINE_IO,  /* x86 ports */
    MACHINE_MEM, /* guest-physical memory and MMIO */
};

enum machine_board {
    MACHINE_PC,  /* i440fx: conventional PCI */
    MACHINE_Q35, /* PCI Express */
};

/* One access of 1, 2, 4 or (memory only) 8 bytes. */
struct machine_access {
    uint64_t addr;
    uint64_t value; /* written; or receives what was read */
    uint8_t space;  /* enum machine_space */
    uint8_t width;
    bool is_write;
};

struct machine;

struct machine_ops {
    /* Carries out `n` accesses in order and fills in what was read. */
    bool (*run)(struct machine *m, struct machine_access *accesses, size_t n, GError **error);
    /* Carries out one write, without waiting until it has happened. */
    bool (*post)(struct machine *m, const struct machine_access *access, GError **error);
    /* Returns when all posted writes have happened and interrupts raised by them are known. */
    bool (*barrier)(struct machine *m, GError **error);
    /* Blocks of memory outside the shared regions. */
    bool (*read_bytes)(struct machine *m, uint64_t addr, void *bytes, size_t len, GError **error);
    bool (*write_bytes)(struct machine *m, uint64_t addr, const void *bytes, size_t len,
                        GError **error);
    /* Interrupt lines, GSI 0..23: count of raises so far and level; waiting. */
    bool (*irq_state)(struct machine *m, unsigned line, bool *level, uint64_t *n_raised);
    bool (*irq_wait_raised)(struct machine *m, unsigned line, uint64_t n_raised, int timeout_ms,
                            GError **error);
    bool (*irq_wait_level)(struct machine *m, unsigned line, bool level, int timeout_ms,
                           GError **error);
    /* A descriptor that poll(2) reports as hung up once there is nothing behind the machine any
     * more, and that any thread may ask so; -1, or no such operation: none. */
    int (*lifeline)(struct machine *m);
    void (*free)(struct machine *m);
};

/* Sees every access after it was carried out: for the register trace. `posted` writes too. */
typedef void (*machine_trace_fn)(void *data, const struct machine_access *access);

/* The same for a block of bytes that went over the wire. */
typedef void (*machine_trace_bytes_fn)(void *data, uint64_t gpa, const void *bytes, size_t len,
                                       bool is_write);

struct machine {
    const struct machine_ops *ops;
    enum machine_board board;
    struct guest_memory *memory;        /* not owned */
    machine_trace_fn trace;             /* or NULL */
    machine_trace_bytes_fn trace_bytes; /* or NULL */
    void *trace_data;
};

/* A machine reached through qtest. Owns neither; both must outlive it. */
struct machine *machine_qtest_new(struct qtest *q, struct guest_memory *memory,
                                  enum machine_board board);
void machine_free(struct machine *m);

/* Accesses of any width by itself, many at once, or posted. A value too wide for its access is an
 * error (QTEST_ERROR_INVALID), never silently cut. */
bool machine_run(struct machine *m, struct machine_access *accesses, size_t n, GError **error);
bool machine_read(struct machine *m, enum machine_space space, uint64_t addr, unsigned width,
                  uint64_t *value, GError **error);
bool machine_write(struct machine *m, enum machine_space space, uint64_t addr, unsigned width,
                   uint64_t value, GError **error);
bool machine_post(struct machine *m, enum machine_space space, uint64_t addr, unsigned width,
                  uint64_t value, GError **error);
bool machine_barrier(struct machine *m, GError **error);
/* As above; -1: none. */
int machine_lifeline(struct machine *m);

/* Guest memory as bytes: by copying where a shared region holds the range, else over the wire. */
bool machine_read_bytes(struct machine *m, uint64_t gpa, void *bytes, size_t len, GError **error);
bool machine_write_bytes(struct machine *m, uint64_t gpa, const void *bytes, size_t len,
                         GError **error);

#endif
