/*
 * Medians and quartiles, and the rounds that give them their samples.
 */
#include "harness/bench/bench.h"
#include "harness/cancel.h"

#include <stdlib.h>

G_DEFINE_QUARK(bench - error - quark, bench_error)

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_quantile(const double *sorted, unsigned n, double p)
{
    double at = p * (n - 1);
    unsigned below = (unsigned)at;
    unsigned above = MIN(below + 1, n - 1);

    return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

struct bench_spread bench_summarize(const double *values, unsigned n)
{
    g_autofree double *sorted = g_memdup2(values, n * sizeof(*values));

    qsort(sorted, n, sizeof(*sorted), compare);
    return (struct bench_spread){
        .median = bench_quantile(sorted, n, 0.5),
        .low = bench_quantile(sorted, n, 0.25),
        .high = bench_quantile(sorted, n, 0.75),
        .n = n,
    };
}

struct bench_spread bench_summarize_ratios(const double *values, const double *others, unsigned n)
{
    g_autofree double *ratios = g_new(double, n);

    for (unsigned i = 0; i < n; i++) {
        ratios[i] = values[i] / others[i];
    }
    return bench_summarize(ratios, n);
}

struct bench_spread bench_summarize_differences(const double *values, const double *others,
                                                unsigned n)
{
    g_autofree double *differences = g_new(double, n);

    for (unsigned i = 0; i < n; i++) {
        differences[i] = values[i] - others[i];
    }
    return bench_summarize(differences, n);
}

static bool measure_side(struct bench_side *side, int64_t slice_us, double *sample, GError **error)
{
    if (cancel_is_requested()) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_CANCELLED, "interrupted");
        return false;
    }
    return side->measure(side->data, slice_us, sample, error);
}

bool bench_rounds(const struct bench_settings *settings, struct bench_side *sides, unsigned n_sides,
                  GError **error)
{
    int64_t slice_us = (int64_t)settings->slice_ms * 1000;
    double ignored;

    for (unsigned i = 0; i < n_sides; i++) {
        sides[i].samples = g_new0(double, settings->n_rounds);
        if (!measure_side(&sides[i], slice_us, &ignored, error)) {
            return false;
        }
    }
    for (unsigned round = 0; round < settings->n_rounds; round++) {
        for (unsigned i = 0; i < n_sides; i++) {
            if (!measure_side(&sides[i], slice_us, &sides[i].samples[round], error)) {
                return false;
            }
        }
    }
    return true;
}

void bench_sides_clear(struct bench_side *sides, unsigned n_sides)
{
    for (unsigned i = 0; i < n_sides; i++) {
        g_clear_pointer(&sides[i].samples, g_free);
    }
}
