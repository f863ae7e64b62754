/*
 * What `ringlab bench` measures, and how: figures, groups of figures that are measured together,
 * rounds in which the sides of a comparison take turns. A ratio is taken within a round, so that
 * what slows the machine down slows both sides.
 * Not here: options and output (cmd_bench.c).
 */
#ifndef RINGLAB_BENCH_H
#define RINGLAB_BENCH_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define BENCH_ERROR (bench_error_quark())
GQuark bench_error_quark(void);

enum bench_error {
    BENCH_ERROR_WRONG,  /* what was measured did not do what it should have done */
    BENCH_ERROR_SYSTEM, /* a system call failed, or a deadline passed */
    BENCH_ERROR_CANCELLED,
};

/* ---- statistics ---- */

struct bench_spread {
    double median, low, high; /* low and high: the quartiles */
    unsigned n;               /* samples */
};

/* Quantile `p` (0..1) of `n` >= 1 ascending values, between two of them by interpolation. */
double bench_quantile(const double *sorted, unsigned n, double p);
struct bench_spread bench_summarize(const double *values, unsigned n);
/* Of values[i] / others[i]: pairs that were measured next to each other. */
struct bench_spread bench_summarize_ratios(const double *values, const double *others, unsigned n);
/* Of values[i] - others[i]. */
struct bench_spread bench_summarize_differences(const double *values, const double *others,
                                                unsigned n);

/* ---- rounds ---- */

struct bench_settings {
    unsigned n_rounds; /* samples per figure, 1.. */
    unsigned slice_ms; /* how long one side is measured at a stretch where it can be chosen */
};

/* Does something for about `slice_us` and says how much of it was done per second; or does it once
 * and says how long it took. */
typedef bool (*bench_measure_fn)(void *data, int64_t slice_us, double *sample, GError **error);

struct bench_side {
    bench_measure_fn measure;
    void *data;
    double *samples; /* n_rounds of them; owned by the side, g_free */
};

/* All sides in turn, n_rounds times, after one round that does not count; ends early, with
 * CANCELLED, on Ctrl-C. */
bool bench_rounds(const struct bench_settings *settings, struct bench_side *sides, unsigned n_sides,
                  GError **error);
void bench_sides_clear(struct bench_side *sides, unsigned n_sides);

/* ---- figures ---- */

struct bench_figure {
    const char *name; /* group.figure */
    const char *unit;
    const char *meaning; /* one phrase */
    const char *aim;     /* "at least 25"; NULL: nothing is aimed at */
};

typedef void (*bench_emit_fn)(void *data, const char *name, struct bench_spread value);
struct bench_sink {
    bench_emit_fn emit;
    void *data;
};

/* Figures that are measured together. */
struct bench_group {
    const struct bench_figure *figures; /* ended by one without a name */
    /* Emits each of its figures once. */
    bool (*run)(const struct bench_settings *settings, const struct bench_sink *sink,
                GError **error);
};

extern const struct bench_group bench_qtest, bench_qtest_loaded, bench_memory, bench_start,
    bench_virtio_net, bench_vale, bench_pipe, bench_ptnet;
/* All of them, ended by NULL. */
extern const struct bench_group *const bench_groups[];

static inline void bench_emit(const struct bench_sink *sink, const char *name,
                              struct bench_spread value)
{
    sink->emit(sink->data, name, value);
}

#endif
