/*
 * ptnet from driver to driver, through kernel loops and a VALE switch or a pipe: frames, large
 * frames, questions and answers; and how many kicks and interrupts that takes. Frames and large
 * frames are measured with several placements of the work on two processors; the best counts.
 */
#include "harness/bench/ptnet_bed.h"

#include <string.h>

static const struct bench_figure figures[] = {
    {"ptnet.vale_frames_per_s", "1/s",
     "60-byte frames: driver, kernel loop, VALE, kernel loop, driver", "at least 20000000"},
    {"ptnet.pipe_frames_per_s", "1/s", "the same through a pipe", "at least 70000000"},
    {"ptnet.kicks_per_million", "1/million",
     "kicks per million frames through VALE, kernel loops in threads, drivers that sleep", NULL},
    {"ptnet.interrupts_per_million", "1/million", "interrupts, in the same run", NULL},
    {"ptnet.tso_gbit_per_s", "Gbit/s",
     "64 KiB frames to be segmented, copied in and out, over VALE", "at least 20"},
    {"ptnet.transactions_per_s", "1/s", "questions and answers over VALE, both sides asleep", NULL},
    {NULL, NULL, NULL, NULL},
};

#define VALE_PORTS                                                                                 \
    {                                                                                              \
        "vale0:a", "vale0:b"                                                                       \
    }
#define PIPE_PORTS                                                                                 \
    {                                                                                              \
        "netmap:x0{1", "netmap:x0}1"                                                               \
    }

/* Everything in one thread; each side in one; drivers in threads beside those of the loops. */
enum { ONE_THREAD, THREAD_PER_SIDE, LOOP_THREADS, N_PLACEMENTS };

static const struct ptnet_placement small[N_PLACEMENTS] = {
    [ONE_THREAD] = {.here = {ptnet_part_send, ptnet_part_step_sender, ptnet_part_step_receiver,
                             ptnet_part_receive}},
    [THREAD_PER_SIDE] = {.here = {ptnet_part_send, ptnet_part_step_sender},
                         .there = {ptnet_part_step_receiver, ptnet_part_receive}},
    [LOOP_THREADS] = {.here = {ptnet_part_send}, .there = {ptnet_part_receive}},
};

static const struct ptnet_placement large[N_PLACEMENTS] = {
    [ONE_THREAD] = {.here = {ptnet_part_send_large, ptnet_part_step_sender,
                             ptnet_part_step_receiver, ptnet_part_receive_large}},
    [THREAD_PER_SIDE] = {.here = {ptnet_part_send_large, ptnet_part_step_sender},
                         .there = {ptnet_part_step_receiver, ptnet_part_receive_large}},
    [LOOP_THREADS] = {.here = {ptnet_part_send_large}, .there = {ptnet_part_receive_large}},
};

static const struct ptnet_placement questions = {.here = {ptnet_part_ask},
                                                 .there = {ptnet_part_answer}};

/* One side of the comparison. */
struct way {
    struct ptnet_bed bed;
    const struct ptnet_placement *placement;
    bool counts_bytes; /* the sample is Gbit/s */
    /* per slice; the first, which does not count, too */
    double *kicks_per_million, *interrupts_per_million;
    unsigned n_slices;
};

static bool measure(void *data, int64_t slice_us, double *sample, GError **error)
{
    struct way *way = data;
    const uint64_t kicks = ptnet_bed_kicks(&way->bed), interrupts = ptnet_bed_interrupts(&way->bed),
                   n_frames = way->bed.n_received;
    double frames_per_s, bytes_per_s;

    if (!ptnet_bed_run(&way->bed, way->placement, slice_us, &frames_per_s, &bytes_per_s, error)) {
        return false;
    }
    const double millions = (double)(way->bed.n_received - n_frames) / 1e6;
    way->kicks_per_million[way->n_slices] = (double)(ptnet_bed_kicks(&way->bed) - kicks) / millions;
    way->interrupts_per_million[way->n_slices++] =
        (double)(ptnet_bed_interrupts(&way->bed) - interrupts) / millions;
    *sample = way->counts_bytes ? bytes_per_s * 8 / 1e9 : frames_per_s;
    return true;
}

enum {
    VALE,
    PIPE = VALE + N_PLACEMENTS,
    LARGE = PIPE + N_PLACEMENTS,
    QUESTIONS = LARGE + N_PLACEMENTS,
    N_WAYS
};

static bool open_way(struct way *way, unsigned which, unsigned n_rounds, GError **error)
{
    const unsigned placement = which % N_PLACEMENTS;
    struct ptnet_bed_options options = {
        .ports = VALE_PORTS,
        .is_stepped = which != QUESTIONS && placement != LOOP_THREADS,
        .sleeps = which == QUESTIONS || which == VALE + LOOP_THREADS,
        .has_header = which >= LARGE && which < QUESTIONS,
    };

    if (which >= PIPE && which < LARGE) {
        options = (struct ptnet_bed_options){.ports = PIPE_PORTS, .is_stepped = options.is_stepped};
    }
    way->placement = which == QUESTIONS ? &questions
                     : which >= LARGE   ? &large[placement]
                                        : &small[placement];
    way->counts_bytes = options.has_header;
    way->kicks_per_million = g_new0(double, n_rounds + 1);
    way->interrupts_per_million = g_new0(double, n_rounds + 1);
    return ptnet_bed_open(&way->bed, &options, error);
}

static struct bench_spread best(const struct bench_side *sides, unsigned n_rounds)
{
    struct bench_spread best = bench_summarize(sides[0].samples, n_rounds);

    for (unsigned i = 1; i < N_PLACEMENTS; i++) {
        struct bench_spread other = bench_summarize(sides[i].samples, n_rounds);
        best = other.median > best.median ? other : best;
    }
    return best;
}

static void emit(const struct bench_sink *sink, const struct way *ways,
                 const struct bench_side *sides, unsigned n)
{
    const struct way *loops = &ways[VALE + LOOP_THREADS];

    bench_emit(sink, "ptnet.vale_frames_per_s", best(sides + VALE, n));
    bench_emit(sink, "ptnet.pipe_frames_per_s", best(sides + PIPE, n));
    bench_emit(sink, "ptnet.kicks_per_million", bench_summarize(loops->kicks_per_million + 1, n));
    bench_emit(sink, "ptnet.interrupts_per_million",
               bench_summarize(loops->interrupts_per_million + 1, n));
    bench_emit(sink, "ptnet.tso_gbit_per_s", best(sides + LARGE, n));
    bench_emit(sink, "ptnet.transactions_per_s", bench_summarize(sides[QUESTIONS].samples, n));
}

static bool run(const struct bench_settings *settings, const struct bench_sink *sink,
                GError **error)
{
    g_autofree struct way *ways = g_new0(struct way, N_WAYS);
    struct bench_side sides[N_WAYS];
    bool ok = true;

    for (unsigned i = 0; i < N_WAYS; i++) {
        sides[i] = (struct bench_side){measure, &ways[i], NULL};
        ok = ok && open_way(&ways[i], i, settings->n_rounds, error);
    }
    ok = ok && bench_rounds(settings, sides, N_WAYS, error);
    if (ok) {
        emit(sink, ways, sides, settings->n_rounds);
    }
    bench_sides_clear(sides, N_WAYS);
    for (unsigned i = 0; i < N_WAYS; i++) {
        ptnet_bed_close(&ways[i].bed);
        g_free(ways[i].kicks_per_million);
        g_free(ways[i].interrupts_per_million);
    }
    return ok;
}

const struct bench_group bench_ptnet = {figures, run};
