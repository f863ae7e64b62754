/*
 * `ringlab pktgen`: ports of one netmap in this process (the bed), groups of threads that send and
 * receive on them, their figures. From a command line (args.c) to a bed (bed.c), workers (worker.c,
 * sender.c, receiver.c, ping.c) and what is told (report.c).
 */
#ifndef RINGLAB_PKTGEN_H
#define RINGLAB_PKTGEN_H

#include "harness/pktgen/packet.h"
#include "models/netmap/netmap.h"

#include <pthread.h>
#include <stdatomic.h>

enum pktgen_mode {
    PKTGEN_RX,
    PKTGEN_TX,
    PKTGEN_PING,
    PKTGEN_PONG,
    PKTGEN_TXSEQ,
    PKTGEN_RXSEQ,
    PKTGEN_N_MODES
};
extern const char *const pktgen_mode_names[PKTGEN_N_MODES];

enum {
    PKTGEN_DEFAULT_BURST = 512,
    PKTGEN_MAX_BURST = 8192,
    PKTGEN_MAX_THREADS = 64,
    PKTGEN_MAX_FRAGMENTS = 63,
    PKTGEN_LATENCY_BUCKETS = 64 * 16, /* sixteen to a power of two */
};

/* What `-i` begins. */
struct pktgen_group_options {
    char *port;
    enum pktgen_mode mode;
    uint64_t n_packets; /* 0: without end */
    unsigned burst;     /* 0: default of the mode */
    unsigned n_threads;
    uint64_t rate_pps; /* of the group; 0: as fast as it goes */
    int vnet_hdr;      /* bytes; -1: what the port has */
    unsigned n_fragments;
    bool is_indirect;
    bool has_src_mac; /* else the interface's */
    unsigned n_lens;  /* how often -l was given */
    struct packet_options packet;
    char *pcap;
};

/* --nic NAME=WIRE,... */
struct pktgen_nic_options {
    char *text; /* as given, for messages */
    char *name, *wire, *stack;
    char *peer; /* the other end of a cable; NULL */
    uint16_t n_rings;
    uint32_t n_slots, mtu;
    bool is_emulated;
};

struct pktgen_options {
    GPtrArray *nics;   /* struct pktgen_nic_options */
    GPtrArray *attach; /* char *: "vale0:em0" */
    GPtrArray *groups; /* struct pktgen_group_options */
    int report_ms;     /* 0: no lines in between */
    int idle_ms;       /* ends when nothing has come or gone for so long; 0: never */
};

/* ---- args.c ---- */

/* Parses the words behind the command's name. NULL: *status says what the command returns (help, or
 * wrong usage that was told). */
struct pktgen_options *pktgen_parse(int argc, char **argv, int *status);
void pktgen_options_free(struct pktgen_options *options);

/* ---- bed.c ---- */

struct pktgen_group;

struct pktgen_bed {
    struct nm_host *host;
    GPtrArray *groups; /* struct pktgen_group */
    /* All workers are to end; those that send of their own accord are. The descriptors become
     * readable with them. */
    _Atomic bool is_stopping, is_send_stopping;
    int stop_fd, send_stop_fd;
    int done_fd; /* a worker has ended */
};

struct pktgen_counters {
    _Alignas(64) _Atomic uint64_t packets;
    _Atomic uint64_t bytes; /* without vnet headers */
    _Atomic uint64_t bursts;
    _Atomic uint64_t lost;      /* ping */
    _Atomic uint64_t reordered; /* rxseq */
    _Atomic uint64_t foreign;   /* frames without a tag where one was to be */
};

/* What one receiver has seen of a sender's packets. */
struct pktgen_stream {
    uint64_t next;  /* after the highest sequence number */
    uint64_t count; /* packets */
};

struct pktgen_worker {
    struct pktgen_counters counters;
    struct pktgen_group *group;
    struct nm_port *port;
    uint64_t n_packets; /* this one's share; UINT64_MAX: without end */
    uint16_t stream;    /* in the tags of its frames */
    uint32_t sequence;
    pthread_t thread;
    bool is_started;
    _Atomic bool is_done, is_gone; /* gone: its port is */
    struct packet packet;
    uint8_t *indirect;      /* where indirect slots point to; NULL: none */
    uint32_t indirect_step; /* bytes between those of two slots; 0: one for all */
    uint32_t *latencies;    /* ping: histogram */
    uint64_t n_latencies, min_ns, max_ns, sum_ns;
    struct pktgen_stream *streams; /* rxseq: one for every number of a stream */
    uint64_t first_ns, last_ns;    /* of the first and the last packet; monotonic */
};

struct pktgen_group {
    const struct pktgen_group_options *options;
    struct pktgen_bed *bed;
    uint32_t vnet_hdr; /* bytes */
    unsigned burst, n_fragments;
    struct pktgen_worker *workers;
    unsigned n_workers;
    uint64_t told_packets, told_bytes, told_bursts; /* by the last line of statistics */
};

struct pktgen_bed *pktgen_bed_new(const struct pktgen_options *options, GError **error);
void pktgen_bed_free(struct pktgen_bed *bed);

/* ---- worker.c ---- */

static inline bool pktgen_sends(enum pktgen_mode mode)
{
    return mode == PKTGEN_TX || mode == PKTGEN_TXSEQ || mode == PKTGEN_PING;
}
bool pktgen_start(struct pktgen_bed *bed, GError **error);
/* Waits until all threads have ended. */
void pktgen_join(struct pktgen_bed *bed);

uint64_t pktgen_now_ns(void); /* monotonic */
/* Waits until the port may be ready for `events` (0: only the time counts), until the worker is to
 * end, or `timeout_ns` (at most 1 s; negative: 1 s). False: it is to end, or the port is gone. */
bool pktgen_wait(struct pktgen_worker *w, short events, int64_t timeout_ns);
bool pktgen_is_stopped(const struct pktgen_worker *w);
/* Syncs; false: the port is gone. */
bool pktgen_txsync(struct pktgen_worker *w);
bool pktgen_rxsync(struct pktgen_worker *w);
static inline struct netmap_ring *pktgen_txring(const struct pktgen_worker *w, unsigned i)
{
    return nm_txring(w->port->nifp, i);
}
static inline struct netmap_ring *pktgen_rxring(const struct pktgen_worker *w, unsigned i)
{
    return nm_rxring(w->port->nifp, i);
}
void pktgen_count(struct pktgen_worker *w, uint64_t packets, uint64_t bytes);

/* The bodies of the threads. */
void pktgen_send(struct pktgen_worker *w);
void pktgen_receive(struct pktgen_worker *w);
void pktgen_receive_sequences(struct pktgen_worker *w);
void pktgen_ping(struct pktgen_worker *w);
void pktgen_pong(struct pktgen_worker *w);

/* The frame at the ring's head: how many slots it takes, *len its bytes with vnet header; 0: none,
 * or its end has not come yet. */
uint32_t pktgen_frame_slots(const struct netmap_ring *ring, uint32_t *len);
/* Moves head and cur of a ring on by n slots. */
void pktgen_advance(struct netmap_ring *ring, uint32_t n);
/* Puts the worker's packet, tagged if it is to be, at the ring's head, and makes the next one.
 * False: no room. */
bool pktgen_put(struct pktgen_worker *w, struct netmap_ring *ring, uint64_t time_ns);
/* Puts up to n of them, wherever there is room. Returns how many; *bytes their lengths. */
unsigned pktgen_put_burst(struct pktgen_worker *w, unsigned n, uint64_t time_ns, uint64_t *bytes);
/* When the next burst of `sent` packets may follow one that was due at due_ns. */
uint64_t pktgen_next_due(const struct pktgen_worker *w, uint64_t due_ns, unsigned sent);

/* ---- report.c ---- */

/* Prints one line per group about the time since the last call. */
void pktgen_report(struct pktgen_bed *bed, double at_s, double seconds);
/* Prints what came of it all. False: some of what was to come did not. */
bool pktgen_summary(struct pktgen_bed *bed);
/* ping: counts a round trip. */
void pktgen_count_latency(struct pktgen_worker *w, uint64_t ns);
uint64_t pktgen_group_sum(const struct pktgen_group *group, size_t counter_offset);
#define PKTGEN_SUM(group, counter)                                                                 \
    pktgen_group_sum(group, offsetof(struct pktgen_counters, counter))
/* "12.3 Mpps" and the like; freed with g_free. */
char *pktgen_number(double value, const char *unit);

/* ---- run.c ---- */

/* Runs the bed to its end, or until Ctrl-C. Exit status of the command. */
int pktgen_run(struct pktgen_bed *bed, const struct pktgen_options *options);

#endif
