/*
 * What a device's registers do, found by acting on the live device, as text that can be compared:
 * reset values, which bits can be written and how, what resets restore, odd widths, what lies
 * between registers and beyond the end. Names come from the register tables; a device without one
 * is probed as raw dwords.
 * Not here: what a register ought to do (scenarios say that).
 */
#ifndef RINGLAB_REGS_H
#define RINGLAB_REGS_H

#include "harness/session.h"
#include "qtest_client/pci.h"

#define REGS_ERROR (regs_error_quark())
GQuark regs_error_quark(void);

enum regs_error {
    REGS_ERROR_UNSTABLE, /* the device does not come back to the state it had */
    REGS_ERROR_FORMAT,   /* a text that is no snapshot */
};

/* How a device is set up before its registers are probed. */
enum regs_mode {
    REGS_PLAIN,   /* as a reset leaves it: no address, nothing enabled */
    REGS_ENABLED, /* BARs placed, memory, I/O and bus mastering on */
    REGS_MSIX,    /* the same, and MSI-X enabled */
    REGS_N_MODES,
};

/* A device that can be brought back to reset at will. */
struct regs_bed {
    struct pci_device *dev; /* valid after a reset */
    /* System reset, or a new start (always after `ended` returned a reason), then sets up `mode`.
     */
    bool (*reset)(struct regs_bed *bed, bool is_restart, enum regs_mode mode, GError **error);
    /* Why the device is gone ("was killed by signal 6 (Aborted)"), to be freed; NULL if it is
     * there. */
    char *(*ended)(struct regs_bed *bed);
};

struct regs_options {
    unsigned raw_dwords; /* dwords per BAR of a device without a table; 0: 64 */
};

/* Probes all registers and returns the text, freed with g_free. Takes some seconds. A register
 * whose probing ends QEMU is reported as such, and probing goes on. */
char *regs_snapshot(struct regs_bed *bed, const struct regs_options *options, GError **error);

/* A bed on a session of its own: one machine with one device, given as -device takes it. The
 * machine is stopped, so that no clock moves what is looked at. */
struct regs_bed *regs_bed_new(const char *spec, enum machine_board board, GError **error);
void regs_bed_free(struct regs_bed *bed);

/* What differs between two snapshots, register by register, as text with `-` and `+` lines; NULL
 * if nothing does. Lines that start with `#` are not compared. */
char *regs_diff(const char *before, const char *after, GError **error);
/* The value of a header line ("device", "machine", "qemu"), freed with g_free; NULL if there is
 * none. */
char *regs_header(const char *snapshot, const char *key);

#endif
