/*
 * Frames between netmap ports of one thread, as a generator and a sink on them would move them, and
 * what they are compared with: the same slots and buffers moved by a bare loop. Of the bench.
 */
#ifndef RINGLAB_BENCH_PORTS_H
#define RINGLAB_BENCH_PORTS_H

#include "harness/bench/bench.h"
#include "models/netmap/netmap.h"

enum { PORTS_BURST = 256, PORTS_FRAME_BYTES = 60, PORTS_SLOTS = 1024 };

struct ports_end {
    struct nm_file *file;
    struct netmap_if *nifp;
};

/* Opens a port with rings of `n_slots`; mem_id 0: the port's own choice. */
bool ports_open(struct ports_end *end, struct nm_host *host, const char *name, uint32_t n_slots,
                uint16_t mem_id, GError **error);
void ports_close(struct ports_end *end);
/* Fills each transmit slot's buffer with a frame from station `src` to station `dst`. */
void ports_fill(struct ports_end *end, unsigned src, unsigned dst);

/* Sends from one to the other for a while; frames per second of processor time. False if any is
 * missing. */
bool ports_measure(struct ports_end *from, struct ports_end *to, int64_t slice_us, double *per_s,
                   GError **error);

/* How a bare loop moves PORTS_BURST slots from `at` on. */
typedef void (*ports_bare_fn)(struct netmap_ring *tx, struct netmap_ring *rx, uint32_t at);
void ports_bare_copy(struct netmap_ring *tx, struct netmap_ring *rx, uint32_t at);
void ports_bare_swap(struct netmap_ring *tx, struct netmap_ring *rx, uint32_t at);
/* The same for rings that nobody syncs. */
void ports_measure_bare(struct ports_end *from, struct ports_end *to, ports_bare_fn move,
                        int64_t slice_us, double *per_s);

#endif
