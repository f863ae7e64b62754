/*
 * Where a port's frames come from and go to: a TAP, a pcap file, a null sink, a cable to another
 * port, QEMU's socket netdevs. One small table of operations; bursts, no allocation per frame.
 */
#ifndef RINGLAB_BACKEND_H
#define RINGLAB_BACKEND_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backend_frame {
    uint8_t *data;
    uint32_t len;     /* bytes; receive: in: room, out: bytes */
    uint64_t time_ns; /* of a capture; 0: now */
};

struct backend;

struct backend_ops {
    const char *kind;
    /* How many of the frames were taken. Fewer: full for now. Dropping counts as taking. */
    unsigned (*send)(struct backend *b, const struct backend_frame *frames, unsigned n);
    /* How many came; never waits. A frame longer than its room is dropped and counted. */
    unsigned (*receive)(struct backend *b, struct backend_frame *frames, unsigned n);
    void (*free)(struct backend *b);
};

struct backend_stats {
    uint64_t sent, sent_bytes, received, received_bytes, dropped;
};

struct backend {
    const struct backend_ops *ops;
    char *name;
    int fd;        /* readable when frames may have come; -1: ask */
    bool is_ended; /* no more will come: end of a file, the peer is gone */
    struct backend_stats stats;
};

void backend_free(struct backend *b);
static inline unsigned backend_send(struct backend *b, const struct backend_frame *f, unsigned n)
{
    return b->ops->send(b, f, n);
}
static inline unsigned backend_receive(struct backend *b, struct backend_frame *f, unsigned n)
{
    return b->ops->receive(b, f, n);
}

/* Everything is taken and nothing comes; or, with frames_to_make > 0, that many copies of a frame.
 */
struct backend *backend_null_new(void);
struct backend *backend_source_new(const void *frame, uint32_t len, uint64_t n_frames);
/* A cable: two ends; each holds up to n_slots frames in flight towards the other. */
bool backend_cable_new(unsigned n_slots, struct backend **a, struct backend **b, GError **error);
/* A TAP in the network namespace of the calling thread; made if there is none of that name. */
struct backend *backend_tap_new(const char *name, GError **error);
/* The same from a descriptor (a TAP opened elsewhere); owned from now. */
struct backend *backend_tap_from_fd(int fd, const char *name, GError **error);

enum backend_pace { BACKEND_PACE_FAST, BACKEND_PACE_ORIGINAL, BACKEND_PACE_RATE };
struct backend_pcap_options {
    enum backend_pace pace;
    double speed;      /* ORIGINAL: 2 is twice as fast; 0 means 1 */
    uint64_t rate_bps; /* RATE: bits/s of frames */
    unsigned n_loops;  /* times through the file; 0: 1 */
};
struct backend *backend_pcap_new(const char *path, const struct backend_pcap_options *options,
                                 GError **error);
/* Writes what is sent to it; nanosecond pcap, readable by tcpdump at any time (flushed per burst).
 */
struct backend *backend_pcap_writer_new(const char *path, GError **error);
/* The other end of QEMU's -netdev stream (a connected stream socket: 4 bytes of length, big endian,
 * then the frame) or -netdev dgram (one frame per datagram). `fd` is owned from now. */
struct backend *backend_stream_from_fd(int fd, GError **error);
struct backend *backend_dgram_from_fd(int fd, GError **error);

#endif
