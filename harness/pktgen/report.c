/*
 * What `ringlab pktgen` tells: a line per group now and then, and a summary.
 */
#include "harness/pktgen/pktgen.h"

#include <stdio.h>

uint64_t pktgen_group_sum(const struct pktgen_group *group, size_t counter_offset)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < group->n_workers; i++) {
        const char *counters = (const char *)&group->workers[i].counters;
        sum += atomic_load_explicit(
            (const _Atomic uint64_t *)(const void *)(counters + counter_offset),
            memory_order_relaxed);
    }
    return sum;
}

char *pktgen_number(double value, const char *unit)
{
    static const char *const scales[] = {"", "K", "M", "G", "T"};
    unsigned i = 0;

    while (value >= 1000 && i < G_N_ELEMENTS(scales) - 1) {
        value /= 1000;
        i++;
    }
    return g_strdup_printf("%.*f %s%s",
                           i == 0        ? 0
                           : value < 10  ? 3
                           : value < 100 ? 2
                                         : 1,
                           value, scales[i], unit);
}

/* ---- now and then ---- */

static void report_group(struct pktgen_group *group, double at_s, double seconds)
{
    const uint64_t packets = PKTGEN_SUM(group, packets), bytes = PKTGEN_SUM(group, bytes);
    const uint64_t bursts = PKTGEN_SUM(group, bursts);
    const double n = (double)(packets - group->told_packets);
    const uint64_t n_bursts = bursts - group->told_bursts;
    g_autofree char *pps = pktgen_number(n / seconds, "pps");
    g_autofree char *bps = pktgen_number((double)(bytes - group->told_bytes) * 8 / seconds, "bps");

    printf("%8.2f s  %-16s %-5s %11s %11s  %.1f per batch\n", at_s, group->options->port,
           pktgen_mode_names[group->options->mode], pps, bps,
           n_bursts ? n / (double)n_bursts : 0.0);
    group->told_packets = packets;
    group->told_bytes = bytes;
    group->told_bursts = bursts;
}

void pktgen_report(struct pktgen_bed *bed, double at_s, double seconds)
{
    for (unsigned i = 0; i < bed->groups->len; i++) {
        report_group(g_ptr_array_index(bed->groups, i), at_s, seconds);
    }
    fflush(stdout);
}

/* ---- round trips ---- */

/* Sixteen buckets to a power of two. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < 16) {
        return (unsigned)ns;
    }
    const unsigned exponent = 63 - (unsigned)__builtin_clzll(ns);
    return (exponent - 3) * 16 + (unsigned)(ns >> (exponent - 4) & 15);
}

static uint64_t bucket_start(unsigned bucket)
{
    return bucket < 16 ? bucket : (UINT64_C(16) + bucket % 16) << (bucket / 16 - 1);
}

void pktgen_count_latency(struct pktgen_worker *w, uint64_t ns)
{
    w->min_ns = w->n_latencies == 0 ? ns : MIN(w->min_ns, ns);
    w->max_ns = MAX(w->max_ns, ns);
    w->sum_ns += ns;
    w->n_latencies++;
    w->latencies[bucket_of(ns)]++;
}

/* The time that `share` of all round trips were not longer than, to a sixteenth. */
static double quantile_us(const struct pktgen_group *group, uint64_t n, double share)
{
    const double wanted = share * (double)n;
    uint64_t so_far = 0;

    for (unsigned b = 0; b < PKTGEN_LATENCY_BUCKETS - 1; b++) {
        for (unsigned i = 0; i < group->n_workers; i++) {
            so_far += group->workers[i].latencies[b];
        }
        if ((double)so_far >= wanted) {
            return (double)bucket_start(b) / 1e3;
        }
    }
    return 0;
}

static void print_latencies(const struct pktgen_group *group)
{
    uint64_t min = UINT64_MAX, max = 0, sum = 0, n = 0;

    for (unsigned i = 0; i < group->n_workers; i++) {
        const struct pktgen_worker *w = &group->workers[i];
        if (w->n_latencies > 0) {
            min = MIN(min, w->min_ns);
            max = MAX(max, w->max_ns);
            sum += w->sum_ns;
            n += w->n_latencies;
        }
    }
    if (n > 0) {
        printf("  round trip: min %.2f us, average %.2f, median %.2f, 99%% %.2f, max %.2f\n",
               (double)min / 1e3, (double)sum / (double)n / 1e3, quantile_us(group, n, 0.5),
               quantile_us(group, n, 0.99), (double)max / 1e3);
    }
}

/* ---- at the end ---- */

static double duration_s(const struct pktgen_group *group)
{
    uint64_t first = UINT64_MAX, last = 0;

    for (unsigned i = 0; i < group->n_workers; i++) {
        const struct pktgen_worker *w = &group->workers[i];
        if (w->first_ns) {
            first = MIN(first, w->first_ns);
            last = MAX(last, w->last_ns);
        }
    }
    return last > first ? (double)(last - first) / 1e9 : 0;
}

/* rxseq: numbers below the highest that no thread of the group has seen. */
static uint64_t count_lost(const struct pktgen_group *group)
{
    uint64_t lost = 0;

    for (unsigned i = 0; i <= UINT16_MAX; i++) {
        uint64_t next = 0, count = 0;
        for (unsigned k = 0; k < group->n_workers; k++) {
            next = MAX(next, group->workers[k].streams[i].next);
            count += group->workers[k].streams[i].count;
        }
        lost += next > count ? next - count : 0;
    }
    return lost;
}

static bool summarize(const struct pktgen_group *group)
{
    static const char *const verbs[PKTGEN_N_MODES] = {
        [PKTGEN_RX] = "received",   [PKTGEN_TX] = "sent",    [PKTGEN_PING] = "answered",
        [PKTGEN_PONG] = "answered", [PKTGEN_TXSEQ] = "sent", [PKTGEN_RXSEQ] = "received"};
    const struct pktgen_group_options *o = group->options;
    const uint64_t packets = PKTGEN_SUM(group, packets), bytes = PKTGEN_SUM(group, bytes);
    const uint64_t lost = o->mode == PKTGEN_RXSEQ ? count_lost(group) : PKTGEN_SUM(group, lost);
    const uint64_t late = PKTGEN_SUM(group, reordered);
    const uint64_t bursts = PKTGEN_SUM(group, bursts), foreign = PKTGEN_SUM(group, foreign);
    const double s = duration_s(group);

    printf("%s %s: %" G_GUINT64_FORMAT " packets %s, %" G_GUINT64_FORMAT " bytes", o->port,
           pktgen_mode_names[o->mode], packets, verbs[o->mode], bytes);
    if (s > 0) {
        g_autofree char *pps = pktgen_number((double)packets / s, "pps");
        g_autofree char *bps = pktgen_number((double)bytes * 8 / s, "bps");
        printf(", %.3f s, %s, %s, %.1f per batch", s, pps, bps, (double)packets / (double)bursts);
    }
    if (o->mode == PKTGEN_PING || o->mode == PKTGEN_RXSEQ) {
        printf(", %" G_GUINT64_FORMAT " lost", lost);
    }
    if (o->mode == PKTGEN_RXSEQ) {
        printf(", %" G_GUINT64_FORMAT " out of order", late);
    }
    printf(foreign ? ", %" G_GUINT64_FORMAT " others\n" : "\n", foreign);
    if (o->mode == PKTGEN_PING) {
        print_latencies(group);
    }
    return lost == 0 && late == 0 && packets >= o->n_packets;
}

bool pktgen_summary(struct pktgen_bed *bed)
{
    bool is_complete = true;

    for (unsigned i = 0; i < bed->groups->len; i++) {
        is_complete = summarize(g_ptr_array_index(bed->groups, i)) && is_complete;
    }
    return is_complete;
}
