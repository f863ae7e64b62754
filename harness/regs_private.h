/*
 * What the files that implement regs.h share: the list of registers of a device under test, and
 * accesses to it.
 */
#ifndef RINGLAB_REGS_PRIVATE_H
#define RINGLAB_REGS_PRIVATE_H

#include "harness/regs.h"

/* One access relative to a block. */
struct regs_op {
    uint32_t offset; /* in the block; may lie beyond its end */
    uint8_t width;   /* bytes */
    bool is_write;
    uint64_t value;
};

/* One register, or one element of one that repeats. */
struct regs_target {
    const struct pci_block *block;
    const struct abi_reg *reg;
    char *name;          /* "common.queue_size", "device.mac[5]" */
    guint index;         /* in the list */
    uint32_t offset;     /* in the block */
    enum regs_mode mode; /* what it is probed in */
    bool is_probed;      /* false: only watched (elements in the middle of an array) */
    bool is_volatile;    /* changes by itself */
    uint64_t first;      /* what the first read after a reset in `mode` returns */
};

struct regs_probe {
    struct regs_bed *bed;
    const struct regs_options *options;
    GPtrArray *blocks;  /* struct pci_block * */
    GPtrArray *owned;   /* memory of the blocks and of tables made up */
    GPtrArray *targets; /* struct regs_target * */
    enum regs_mode mode;
    bool is_touched;                 /* something was accessed since it was known to be settled */
    bool is_disturbed;               /* something was written that no register shows */
    uint64_t *settled[REGS_N_MODES]; /* what every target reads once it has been read */
    uint64_t *seen;                  /* what the last scan read */
    bool has_mode[REGS_N_MODES];
};

/* Lists blocks and registers, and what they read after a reset. */
struct regs_probe *regs_probe_new(struct regs_bed *bed, const struct regs_options *options,
                                  GError **error);
void regs_probe_free(struct regs_probe *p);

/* Carries out accesses in order; reads fill in `value`. */
bool regs_run(struct regs_probe *p, const struct pci_block *block, struct regs_op *ops, size_t n,
              GError **error);
/* Reads all registers that are there in the present mode into p->seen. */
bool regs_scan(struct regs_probe *p, GError **error);
/* Whether target `i` is there in the present mode, and comparable. */
bool regs_is_watched(const struct regs_probe *p, guint i);
/* Brings the device back to its state after a reset in `mode`: does nothing if it still reads so;
 * else a system reset, else a restart. With `target` (unless it is unsafe) its settled value is
 * written back first, which often saves the reset. */
bool regs_settle(struct regs_probe *p, enum regs_mode mode, const struct regs_target *target,
                 GError **error);
/* The next regs_settle resets, whatever the registers read. */
void regs_disturb(struct regs_probe *p);
/* After an error: true if QEMU ended or hangs. It is started again, and *how says what became of
 * it. False: the error is something else. */
bool regs_revive(struct regs_probe *p, enum regs_mode mode, const GError *cause, char **how,
                 GError **error);
/* The settled value of a target in the present mode. */
uint64_t regs_settled(const struct regs_probe *p, const struct regs_target *target);
/* Registers but `except` that differ from their settled values in the last scan: "a 0x0 -> 0x1, b
 * ..." ; "" if none. */
char *regs_changes(const struct regs_probe *p, const struct regs_target *except);

/* All ones in `width` bytes. */
uint64_t regs_ones(unsigned width);
/* The widest access that reaches the block: 8, or 4 for ports and configuration space. */
unsigned regs_max_width(const struct regs_probe *p, const struct pci_block *block);
/* Appends 0x and the digits of `width` bytes. */
void regs_put(GString *text, unsigned width, uint64_t value);

/* regs_edges.c: what lies between the registers of a block and where a BAR ends. */
bool regs_probe_gaps(struct regs_probe *p, GString *text, GError **error);
bool regs_probe_ends(struct regs_probe *p, GString *text, GError **error);

#endif
