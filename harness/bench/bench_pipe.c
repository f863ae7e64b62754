/*
 * Frames from one end of a pipe to the other, in one thread, beside a bare loop that swaps as many
 * slots of two such rings.
 */
#include "harness/bench/ports.h"

static const struct bench_figure figures[] = {
    {"pipe.cost_vs_swap", "x", "time per frame through a pipe / a bare loop swapping slots",
     "at most 1.5"},
    {"pipe.frames_per_s", "1/s", "frames through a pipe, one thread", NULL},
    {"pipe.swaps_per_s", "1/s", "slots swapped by the bare loop", NULL},
    {NULL, NULL, NULL, NULL},
};

struct bed {
    struct ports_end from, to;
};

static bool measure_pipe(void *data, int64_t slice_us, double *per_s, GError **error)
{
    struct bed *bed = data;

    return ports_measure(&bed->from, &bed->to, slice_us, per_s, error);
}

static bool measure_swap(void *data, int64_t slice_us, double *per_s, GError **error)
{
    struct bed *bed = data;

    (void)error;
    ports_measure_bare(&bed->from, &bed->to, ports_bare_swap, slice_us, per_s);
    return true;
}

static bool run(const struct bench_settings *settings, const struct bench_sink *sink,
                GError **error)
{
    enum { PIPE, SWAP, N_SIDES };
    struct nm_host *host = nm_host_new(NULL, error);
    struct bed pipe = {{NULL, NULL}, {NULL, NULL}}, bare = pipe;
    struct bench_side sides[N_SIDES] = {
        [PIPE] = {measure_pipe, &pipe, NULL},
        [SWAP] = {measure_swap, &bare, NULL},
    };
    bool ok = host && ports_open(&pipe.from, host, "vale0:a{1", PORTS_SLOTS, 0, error) &&
              ports_open(&pipe.to, host, "vale0:a}1", PORTS_SLOTS, 0, error) &&
              ports_open(&bare.from, host, "vale1:a", PORTS_SLOTS, 0, error) &&
              ports_open(&bare.to, host, "vale1:b", PORTS_SLOTS, 0, error);

    if (ok) {
        ok = bench_rounds(settings, sides, N_SIDES, error);
        if (ok) {
            const double *frames = sides[PIPE].samples, *swaps = sides[SWAP].samples;
            bench_emit(sink, "pipe.cost_vs_swap",
                       bench_summarize_ratios(swaps, frames, settings->n_rounds));
            bench_emit(sink, "pipe.frames_per_s", bench_summarize(frames, settings->n_rounds));
            bench_emit(sink, "pipe.swaps_per_s", bench_summarize(swaps, settings->n_rounds));
        }
        bench_sides_clear(sides, N_SIDES);
    }
    ports_close(&pipe.from);
    ports_close(&pipe.to);
    ports_close(&bare.from);
    ports_close(&bare.to);
    nm_host_free(host);
    return ok;
}

const struct bench_group bench_pipe = {figures, run};
