/*
 * The last register accesses of a machine, with names: which device, block, register and bits each
 * one touched, as the register tables know them. For whoever looks at a failed test.
 * Names are found when an access happens, since devices move and vanish.
 */
#ifndef RINGLAB_TRACE_H
#define RINGLAB_TRACE_H

#include "qtest_client/pci.h"

enum { TRACE_DEFAULT_CAPACITY = 4096 };

struct trace;

/* Keeps the last `capacity` accesses (0: TRACE_DEFAULT_CAPACITY). Times count from here. */
struct trace *trace_new(unsigned capacity);
/* Detach first if the machine goes on. */
void trace_free(struct trace *t);

/* Sees every access to `m` from now on. One machine at a time: the next one takes its place, for
 * instance when QEMU was started anew. */
void trace_attach(struct trace *t, struct machine *m);
/* No longer sees any; what was seen stays. To be called before that machine is freed. */
void trace_detach(struct trace *t);
/* The devices by which accesses are named, struct pci_device *: pci_bus_devices() of the machine's
 * bus, read at each access. NULL: none any more. Not owned. */
void trace_set_devices(struct trace *t, const GPtrArray *devices);
/* What a function is called in the text; without a name it is "00:04.0". */
void trace_name_function(struct trace *t, unsigned bus, unsigned slot, unsigned function,
                         const char *name);
/* How much was seen so far; and forgets what came after that point, as if it had not happened. */
uint64_t trace_mark(struct trace *t);
void trace_rewind(struct trace *t, uint64_t mark);
/* A line of text among the accesses: "QEMU was started again". `text` is constant. */
void trace_remark(struct trace *t, const char *text);

/* The accesses as lines, oldest first; "" if there were none. Freed with g_free().
 *   +0.001234 net  common.device_status <- 0x0f (acknowledge driver driver_ok features_ok)
 * "<-" is a write, "->" a read. A configuration cycle is one line. An access that is narrower or
 * wider than its register, or begins inside it, says so: "config.vendor_id:4",
 * "isr.isr_status+1:1". What has no name is told by address. A block of bytes that went over the
 * wire is one line with its first bytes; what was copied in shared memory is not seen. The same
 * access with the same value many times over, as in polling, is one line with a count. */
char *trace_text(const struct trace *t);

#endif
