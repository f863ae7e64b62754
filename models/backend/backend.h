/*
 * Where a port's frames come from and go to: a TAP, a pcap file, a null sink, a cable to another
 * port, QEMU's socket netdevs. One small table of operations; bursts, no allocation per frame. One
 * thread at a time sends and one receives; these may be two.
 */
#ifndef RINGLAB_BACKEND_H
#define RINGLAB_BACKEND_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BACKEND_ERROR (backend_error_quark())
GQuark backend_error_quark(void); /* codes: errno values */

/* Bytes; longer frames are dropped and counted (QEMU's netdevs carry that much). */
enum { BACKEND_MAX_FRAME = 4096 + 65536 };

struct backend_frame {
    uint8_t *data;
    uint32_t len;     /* bytes; receive: in: room, out: bytes */
    uint64_t time_ns; /* when a capture says it was seen, since 1970; 0: now */
};

struct backend;

struct backend_ops {
    const char *kind;
    /* How many of the frames were taken, in order. Fewer: full for now. Dropping counts as taking.
     * What the wire took only a part of goes out with the next send (of none, too) or receive. */
    unsigned (*send)(struct backend *b, const struct backend_frame *frames, unsigned n);
    /* How many came; never waits. A frame longer than its room is dropped and counted. */
    unsigned (*receive)(struct backend *b, struct backend_frame *frames, unsigned n);
    void (*free)(struct backend *b);
};

struct backend_stats {
    uint64_t sent, sent_bytes;         /* towards the wire; of the sending thread */
    uint64_t received, received_bytes; /* of the receiving thread */
    uint64_t dropped_send, dropped_receive;
};

struct backend {
    const struct backend_ops *ops;
    char *name;
    int fd; /* readable when frames may have come, until receive finds none; -1: ask */
    _Atomic bool is_ended; /* no more will come: end of a file, the peer is gone */
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

/* Takes everything; nothing comes. */
struct backend *backend_null_new(void);
/* Takes everything; `n_frames` copies of a frame come (0: without end). EINVAL for a length that is
 * not 1..BACKEND_MAX_FRAME. */
struct backend *backend_source_new(const void *frame, uint32_t len, uint64_t n_frames,
                                   GError **error);
/* A cable: two ends; each holds up to n_slots frames (1..65536) of up to `max_frame` bytes in
 * flight towards the other. An end that was freed takes everything. */
bool backend_cable_new(unsigned n_slots, uint32_t max_frame, struct backend **a, struct backend **b,
                       GError **error);
/* A TAP in the network namespace of the calling thread, made if there is none of that name (1..15
 * characters), gone when it is freed. Frames sent while its link is down are dropped and counted.
 */
struct backend *backend_tap_new(const char *name, GError **error);
/* The same from a descriptor (a TAP opened elsewhere, without packet information); owned from now,
 * also on failure. */
struct backend *backend_tap_from_fd(int fd, const char *name, GError **error);

enum backend_pace {
    BACKEND_PACE_FAST,     /* as soon as somebody asks */
    BACKEND_PACE_ORIGINAL, /* with the capture's gaps */
    BACKEND_PACE_RATE,     /* so many bits of frames per second */
};
struct backend_pcap_options {
    enum backend_pace pace;
    double speed;      /* ORIGINAL: 2 is twice as fast; 0 means 1; at most 1e6 */
    uint64_t rate_bps; /* RATE: bits of frames (without preamble and gaps) per second, not 0 */
    unsigned n_loops;  /* times through the file; 0: 1 */
};
/* Replays an Ethernet capture (pcap or pcapng); the clock starts at the first receive. What is sent
 * to it is dropped and counted. */
struct backend *backend_pcap_new(const char *path, const struct backend_pcap_options *options,
                                 GError **error);
/* Writes what is sent to it; nanosecond pcap, readable by tcpdump at any time (flushed per burst).
 * A frame that cannot be written is dropped and counted. */
struct backend *backend_pcap_writer_new(const char *path, GError **error);
/* The other end of QEMU's -netdev stream (a connected stream socket: 4 bytes of length, big endian,
 * then the frame) or -netdev dgram (one frame per datagram). `fd` is owned from now, also on
 * failure.
 */
struct backend *backend_stream_from_fd(int fd, GError **error);
struct backend *backend_dgram_from_fd(int fd, GError **error);

#endif
