/*
 * A look at a PCI bus: starts a QEMU with devices, finds every function and reads every register
 * that a table describes. Printing it as text or JSON is here too; the command line is not
 * (cmd_probe.c).
 */
#ifndef RINGLAB_PROBE_H
#define RINGLAB_PROBE_H

#include "harness/session.h"

#include <stdio.h>

#define PROBE_ERROR (probe_error_quark())
GQuark probe_error_quark(void);

enum probe_error {
    PROBE_ERROR_NO_PCI, /* a device that was asked for is on no PCI bus */
};

struct probe_options {
    enum machine_board board;
    const char *accelerator;    /* NULL: chosen (qemu.h) */
    const char *const *devices; /* NULL-terminated, as for -device; may be NULL */
    bool is_all;                /* read the registers of all functions, not only those asked for */
};

/* The registers of one block as they were read. */
struct probe_block {
    const struct pci_block *block;
    GArray **values; /* one per register: uint64_t, as many as it or the block repeats; NULL where
                        nothing can be read */
};

struct probe_function {
    struct pci_device *dev;
    const struct session_device *device; /* NULL: part of the machine */
    const char *name;  /* the driver's, or that of the register tables, or its class */
    GPtrArray *blocks; /* struct probe_block *; NULL: not read */
};

struct probe {
    enum machine_board board;
    struct session *session;
    struct session_machine *machine;
    GPtrArray *functions; /* struct probe_function *, in the order of their addresses */
};

/* Starts, scans, enables and reads. */
struct probe *probe_new(const struct probe_options *options, GError **error);
void probe_free(struct probe *probe);

/* A list of all functions, then each one that was read in full. `has_color`: for a terminal. */
void probe_print_text(const struct probe *probe, FILE *out, bool has_color);
/* The same as one JSON object. */
void probe_print_json(const struct probe *probe, FILE *out);

/* How one register is used: "ro", "rw" ... */
const char *probe_access_name(enum abi_access access);
/* A field of a register's value. */
uint64_t probe_field_value(const struct abi_field *field, uint64_t value);

#endif
