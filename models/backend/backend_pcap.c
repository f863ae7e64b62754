/*
 * Captures: one that is replayed, with its own timing, at a rate or as fast as possible; and one
 * that is written.
 */
#include "models/backend/backend_private.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const uint64_t NS_PER_S = 1000000000;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- replay ---- */

struct replay {
    struct backend b;
    struct backend_pcap_options options;
    char *path;
    pcap_t *pcap;
    unsigned n_loops_left;
    bool is_started;
    uint64_t start_ns;  /* when the clock was started */
    uint64_t offset_ns; /* what is due now was due so long after the start */
    uint64_t seen_ns;   /* when the capture saw the frame before */
    bool has_next;      /* `next` waits for its time */
    const struct pcap_pkthdr *next;
    const uint8_t *bytes;
};

static pcap_t *open_capture(const char *path, GError **error)
{
    char text[PCAP_ERRBUF_SIZE];
    pcap_t *pcap = pcap_open_offline_with_tstamp_precision(path, PCAP_TSTAMP_PRECISION_NANO, text);

    if (!pcap) {
        g_set_error(error, BACKEND_ERROR, EINVAL, "capture %s: %s", path,
                    g_str_has_prefix(text, path) ? text + strlen(path) + 2 : text);
        return NULL;
    }
    if (pcap_datalink(pcap) != DLT_EN10MB) {
        const char *name = pcap_datalink_val_to_name(pcap_datalink(pcap));
        g_set_error(error, BACKEND_ERROR, EINVAL,
                    "capture %s: link type %s; only Ethernet (EN10MB)", path,
                    name ? name : "unknown");
        pcap_close(pcap);
        return NULL;
    }
    return pcap;
}

static uint64_t frame_ns(const struct pcap_pkthdr *h)
{
    return (uint64_t)h->ts.tv_sec * NS_PER_S + (uint64_t)h->ts.tv_usec; /* nanoseconds, as asked */
}

/* How long after the frame before `next` is due. */
static uint64_t gap_ns(const struct replay *r, bool is_first)
{
    switch (r->options.pace) {
    case BACKEND_PACE_ORIGINAL: {
        uint64_t seen = frame_ns(r->next);
        return is_first || seen < r->seen_ns
                   ? 0
                   : (uint64_t)((double)(seen - r->seen_ns) / r->options.speed);
    }
    case BACKEND_PACE_RATE:
        return (uint64_t)((double)r->next->caplen * 8 * (double)NS_PER_S /
                          (double)r->options.rate_bps);
    case BACKEND_PACE_FAST:
    default:
        return 0;
    }
}

/* Reads the frame that comes next, through the file again if it is to loop. */
static bool read_next(struct replay *r)
{
    struct pcap_pkthdr *header;
    bool is_first = !r->is_started;
    int got = pcap_next_ex(r->pcap, &header, &r->bytes);

    if (got != 1 && r->n_loops_left > 1) {
        pcap_t *again = open_capture(r->path, NULL);
        if (again) {
            pcap_close(r->pcap);
            r->pcap = again;
            r->n_loops_left--;
            is_first = true;
            got = pcap_next_ex(r->pcap, &header, &r->bytes);
        }
    }
    if (got != 1) {
        return false;
    }
    r->next = header;
    if (!r->is_started) {
        r->is_started = true;
        r->start_ns = now_ns(CLOCK_MONOTONIC);
    }
    r->offset_ns += gap_ns(r, is_first);
    r->seen_ns = frame_ns(header);
    r->has_next = true;
    return true;
}

/* Makes the descriptor readable when the next frame is due (at once with 0). */
static void arm(const struct replay *r, uint64_t at_ns)
{
    struct itimerspec when = {.it_value = {(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)}};

    if (at_ns == 0) {
        when.it_value.tv_nsec = 1;
    }
    timerfd_settime(r->b.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static unsigned replay_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    struct replay *r = (struct replay *)b;
    unsigned n_done = 0;

    while (n_done < n && !b->is_ended) {
        struct backend_frame *f = &frames[n_done];
        if (!r->has_next && !read_next(r)) {
            struct itimerspec never = {.it_value = {0}};
            b->is_ended = true;
            timerfd_settime(b->fd, 0, &never, NULL);
            break;
        }
        if (r->options.pace != BACKEND_PACE_FAST &&
            r->start_ns + r->offset_ns > now_ns(CLOCK_MONOTONIC)) {
            arm(r, r->start_ns + r->offset_ns);
            break;
        }
        r->has_next = false;
        if (r->next->caplen > f->len || r->next->caplen == 0) {
            b->stats.dropped_receive++;
            continue;
        }
        f->len = r->next->caplen;
        f->time_ns = r->seen_ns;
        memcpy(f->data, r->bytes, f->len);
        backend_count_received(b, f->len);
        n_done++;
    }
    return n_done;
}

static unsigned replay_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    (void)frames;
    b->stats.dropped_send += n;
    return n;
}

static void replay_free(struct backend *b)
{
    struct replay *r = (struct replay *)b;

    pcap_close(r->pcap);
    close(b->fd);
    g_free(r->path);
    g_free(b->name);
    g_free(r);
}

static bool check_options(const struct backend_pcap_options *o, const char *path, GError **error)
{
    if (o->pace == BACKEND_PACE_RATE && o->rate_bps == 0) {
        backend_set_errno(error, EINVAL, "capture %s: a rate of 0 bit/s", path);
        return false;
    }
    if (!(o->speed >= 0 && o->speed <= 1e6)) {
        backend_set_errno(error, EINVAL, "capture %s: %g times its speed", path, o->speed);
        return false;
    }
    return true;
}

struct backend *backend_pcap_new(const char *path, const struct backend_pcap_options *options,
                                 GError **error)
{
    static const struct backend_ops ops = {"pcap", replay_send, replay_receive, replay_free};
    static const struct backend_pcap_options defaults = {.pace = BACKEND_PACE_FAST};
    const struct backend_pcap_options *o = options ? options : &defaults;

    if (!check_options(o, path, error)) {
        return NULL;
    }
    pcap_t *pcap = open_capture(path, error);
    if (!pcap) {
        return NULL;
    }
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0) {
        backend_set_errno(error, errno, "capture %s: timerfd", path);
        pcap_close(pcap);
        return NULL;
    }
    struct replay *r = g_new0(struct replay, 1);
    r->b = (struct backend){.ops = &ops, .name = g_path_get_basename(path), .fd = fd};
    r->options = *o;
    r->options.speed = o->speed > 0 ? o->speed : 1;
    r->n_loops_left = o->n_loops ? o->n_loops : 1;
    r->path = g_strdup(path);
    r->pcap = pcap;
    arm(r, 0);
    return &r->b;
}

/* ---- writer ---- */

struct writer {
    struct backend b;
    pcap_t *pcap;
    pcap_dumper_t *dumper;
};

static unsigned writer_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    struct writer *w = (struct writer *)b;

    for (unsigned i = 0; i < n; i++) {
        uint64_t at = frames[i].time_ns ? frames[i].time_ns : now_ns(CLOCK_REALTIME);
        struct pcap_pkthdr h = {
            .ts = {(time_t)(at / NS_PER_S), (suseconds_t)(at % NS_PER_S)},
            .caplen = frames[i].len,
            .len = frames[i].len,
        };
        pcap_dump((u_char *)w->dumper, &h, frames[i].data);
    }
    if (pcap_dump_flush(w->dumper) == 0 && !ferror(pcap_dump_file(w->dumper))) {
        backend_count_sent(b, frames, n);
    } else {
        clearerr(pcap_dump_file(w->dumper));
        b->stats.dropped_send += n;
    }
    return n;
}

static unsigned writer_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    (void)b;
    (void)frames;
    (void)n;
    return 0;
}

static void writer_free(struct backend *b)
{
    struct writer *w = (struct writer *)b;

    pcap_dump_close(w->dumper);
    pcap_close(w->pcap);
    g_free(b->name);
    g_free(w);
}

struct backend *backend_pcap_writer_new(const char *path, GError **error)
{
    static const struct backend_ops ops = {"pcap-writer", writer_send, writer_receive, writer_free};
    pcap_t *pcap = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, BACKEND_MAX_FRAME,
                                                        PCAP_TSTAMP_PRECISION_NANO);
    pcap_dumper_t *dumper = pcap_dump_open(pcap, path);

    if (!dumper || pcap_dump_flush(dumper) != 0) {
        g_set_error(error, BACKEND_ERROR, EIO, "capture %s cannot be written: %s", path,
                    dumper ? g_strerror(errno) : pcap_geterr(pcap));
        if (dumper) {
            pcap_dump_close(dumper);
        }
        pcap_close(pcap);
        return NULL;
    }
    struct writer *w = g_new0(struct writer, 1);
    w->b = (struct backend){.ops = &ops, .name = g_path_get_basename(path), .fd = -1};
    w->b.is_ended = true;
    w->pcap = pcap;
    w->dumper = dumper;
    return &w->b;
}
