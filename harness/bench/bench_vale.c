/*
 * Frames of 60 bytes from one VALE port to another one, in one thread, beside a bare loop that
 * copies as much between two such rings; and the same on switches with more and more idle ports.
 */
#include "harness/bench/ports.h"

static const struct bench_figure figures[] = {
    {"vale.cost_vs_copy", "x", "time per frame between VALE ports / a bare loop copying 60 bytes",
     "at most 2"},
    {"vale.cost_16_vs_2_ports", "x", "time per frame with 14 idle ports / with none",
     "at most 1.1"},
    {"vale.cost_64_vs_2_ports", "x", "the same with 62 idle ports", "at most 1.1"},
    {"vale.cost_254_vs_2_ports", "x", "the same with 252 idle ports", "at most 1.1"},
    {"vale.frames_per_s", "1/s", "frames of 60 bytes between VALE ports, one thread", NULL},
    {"vale.copies_per_s", "1/s", "copies of 60 bytes by the bare loop", NULL},
    {NULL, NULL, NULL, NULL},
};

enum { SWITCHES = 4, MAX_IDLE = 252, IDLE_SLOTS = 4, IDLE_MEM = 1 };
static const unsigned n_idle[SWITCHES] = {0, 14, 62, MAX_IDLE};

/* A switch with two ports at work. */
struct bed {
    struct ports_end from, to, idle[MAX_IDLE];
};

static bool bed_open(struct bed *bed, struct nm_host *host, unsigned i, GError **error)
{
    g_autofree char *from = g_strdup_printf("vale%u:from", i);
    g_autofree char *to = g_strdup_printf("vale%u:to", i);

    for (unsigned k = 0; k < n_idle[i]; k++) {
        g_autofree char *name = g_strdup_printf("vale%u:idle%u", i, k);
        if (!ports_open(&bed->idle[k], host, name, IDLE_SLOTS, IDLE_MEM, error)) {
            return false;
        }
    }
    if (!ports_open(&bed->from, host, from, PORTS_SLOTS, 0, error) ||
        !ports_open(&bed->to, host, to, PORTS_SLOTS, 0, error)) {
        return false;
    }
    /* each knows where the other is, before anything is counted */
    struct netmap_ring *tx = nm_txring(bed->to.nifp, 0);
    ports_fill(&bed->to, 2, 1);
    tx->slot[0].len = PORTS_FRAME_BYTES;
    tx->cur = tx->head = 1;
    nm_txsync(bed->to.file);
    nm_rxsync(bed->from.file);
    ports_fill(&bed->from, 1, 2);
    return true;
}

static void bed_close(struct bed *bed)
{
    ports_close(&bed->from);
    ports_close(&bed->to);
    for (unsigned k = 0; k < MAX_IDLE; k++) {
        ports_close(&bed->idle[k]);
    }
}

static bool measure_switch(void *data, int64_t slice_us, double *per_s, GError **error)
{
    struct bed *bed = data;

    return ports_measure(&bed->from, &bed->to, slice_us, per_s, error);
}

static bool measure_copy(void *data, int64_t slice_us, double *per_s, GError **error)
{
    struct bed *bed = data;

    (void)error;
    ports_measure_bare(&bed->from, &bed->to, ports_bare_copy, slice_us, per_s);
    return true;
}

static void emit(const struct bench_settings *settings, const struct bench_sink *sink,
                 const struct bench_side *sides)
{
    const double *two = sides[0].samples, *copy = sides[SWITCHES].samples;
    static const char *const more[SWITCHES] = {
        NULL, "vale.cost_16_vs_2_ports", "vale.cost_64_vs_2_ports", "vale.cost_254_vs_2_ports"};

    bench_emit(sink, "vale.cost_vs_copy", bench_summarize_ratios(copy, two, settings->n_rounds));
    for (unsigned i = 1; i < SWITCHES; i++) {
        bench_emit(sink, more[i],
                   bench_summarize_ratios(two, sides[i].samples, settings->n_rounds));
    }
    bench_emit(sink, "vale.frames_per_s", bench_summarize(two, settings->n_rounds));
    bench_emit(sink, "vale.copies_per_s", bench_summarize(copy, settings->n_rounds));
}

static bool run(const struct bench_settings *settings, const struct bench_sink *sink,
                GError **error)
{
    const struct nm_host_options options = {.if_num = 400, .ring_num = 1000, .buf_num = 8192};
    struct nm_host *host = nm_host_new(&options, error);
    g_autofree struct bed *beds = g_new0(struct bed, SWITCHES + 1);
    struct bench_side sides[SWITCHES + 1];
    bool ok = host != NULL;

    for (unsigned i = 0; i < SWITCHES; i++) {
        ok = ok && bed_open(&beds[i], host, i, error);
        sides[i] = (struct bench_side){measure_switch, &beds[i], NULL};
    }
    /* the rings of the bare loop: of two ports on a switch each, which nobody syncs */
    ok = ok && ports_open(&beds[SWITCHES].from, host, "valex:from", PORTS_SLOTS, 0, error) &&
         ports_open(&beds[SWITCHES].to, host, "valey:to", PORTS_SLOTS, 0, error);
    sides[SWITCHES] = (struct bench_side){measure_copy, &beds[SWITCHES], NULL};
    if (ok) {
        ports_fill(&beds[SWITCHES].from, 1, 2);
        ok = bench_rounds(settings, sides, SWITCHES + 1, error);
        if (ok) {
            emit(settings, sink, sides);
        }
        bench_sides_clear(sides, SWITCHES + 1);
    }
    for (unsigned i = 0; i <= SWITCHES; i++) {
        bed_close(&beds[i]);
    }
    nm_host_free(host);
    return ok;
}

const struct bench_group bench_vale = {figures, run};
