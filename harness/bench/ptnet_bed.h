/*
 * What the figures of ptnet are measured on: two drivers on a machine without QEMU, their devices,
 * and a pipe or a VALE switch between them. Parts of a frame's way are functions; which thread does
 * which of them is a placement.
 */
#ifndef RINGLAB_BENCH_PTNET_BED_H
#define RINGLAB_BENCH_PTNET_BED_H

#include "harness/bench/bench.h"
#include "harness/sim_ptnet.h"

#include <stdatomic.h>

enum {
    PTNET_BED_SENDER = 0,
    PTNET_BED_RECEIVER = 1,
    PTNET_BED_FRAME_BYTES = 60,
};

struct ptnet_bed_options {
    const char *ports[2]; /* the sender's, the receiver's */
    bool is_stepped;      /* the parts step the kernel loops; else they are threads */
    bool sleeps;          /* drivers that have nothing to do sleep until an interrupt; else look */
    bool has_header;      /* virtio-net header */
};

struct ptnet_bed {
    struct ptnet_bed_options options;
    struct nm_host *host;
    struct machine *machine;
    struct guest_region *region;
    struct pci_bus *bus;
    struct sim_ptnet sides[2];
    struct ptnet_queue *tx, *rx; /* the sender's and the receiver's, of the way there */
    uint8_t *frames;             /* to send, and room to receive */
    _Atomic uint64_t n_received, n_bytes;
    atomic_bool has_ended;
};

/* Both drivers are started, the switch knows where they are, each buffer holds a frame from its
 * sender to the other. */
bool ptnet_bed_open(struct ptnet_bed *bed, const struct ptnet_bed_options *options, GError **error);
void ptnet_bed_close(struct ptnet_bed *bed);
/* As the devices counted them, both sides. */
uint64_t ptnet_bed_kicks(struct ptnet_bed *bed);
uint64_t ptnet_bed_interrupts(struct ptnet_bed *bed);

/* Some of the work, if there is any. False on an error. */
typedef bool (*ptnet_part_fn)(struct ptnet_bed *bed, GError **error);

enum { PTNET_MAX_PARTS = 4 };
struct ptnet_placement {
    ptnet_part_fn here[PTNET_MAX_PARTS];  /* done in turn by the calling thread */
    ptnet_part_fn there[PTNET_MAX_PARTS]; /* by a second thread; empty: there is none */
};

/* Does the parts for `slice_us`, each thread on a processor of its own, and says how many frames
 * and bytes were received per second. SYSTEM if none comes through within some seconds. */
bool ptnet_bed_run(struct ptnet_bed *bed, const struct ptnet_placement *placement, int64_t slice_us,
                   double *frames_per_s, double *bytes_per_s, GError **error);

/* ---- parts ---- */

/* Natively, frames of 60 bytes: slots are filled in and looked at, data stays where it is. */
bool ptnet_part_send(struct ptnet_bed *bed, GError **error);
bool ptnet_part_receive(struct ptnet_bed *bed, GError **error);
/* Frames of 64 KiB to be segmented, copied in and out. */
bool ptnet_part_send_large(struct ptnet_bed *bed, GError **error);
bool ptnet_part_receive_large(struct ptnet_bed *bed, GError **error);
/* A pass of a kernel loop. */
bool ptnet_part_step_sender(struct ptnet_bed *bed, GError **error);
bool ptnet_part_step_receiver(struct ptnet_bed *bed, GError **error);
/* A question and the wait for its answer; and the other side. */
bool ptnet_part_ask(struct ptnet_bed *bed, GError **error);
bool ptnet_part_answer(struct ptnet_bed *bed, GError **error);

#endif
