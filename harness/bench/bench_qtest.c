/*
 * Register reads over the qtest socket: one at a time and in batches, against libqtest's way and
 * against a bare socket loop, on one connection to one QEMU, in turns. On a machine as it is, and
 * again with something else that keeps its processors awake.
 */
#include "harness/bench/bench.h"
#include "harness/bench/load.h"
#include "harness/bench/yardstick.h"
#include "harness/qemu.h"
#include "models/abi/pci.h"

#include <inttypes.h>

enum { BATCH = 256, LOAD_MAX_MS = 60000 };

static const struct bench_figure idle_figures[] = {
    {"qtest.batch_vs_libqtest", "x", "register reads in batches of 256 / as libqtest reads them",
     "at least 25"},
    {"qtest.batch_vs_raw", "x", "the same / a bare socket loop, prepared batches of 1024",
     "at least 0.85"},
    {"qtest.single_vs_libqtest", "x", "register reads one at a time / as libqtest reads them",
     NULL},
    {"qtest.libqtest_per_s", "1/s", "register reads as libqtest reads them", NULL},
    {"qtest.single_per_s", "1/s", "register reads one at a time", NULL},
    {"qtest.batch_per_s", "1/s", "register reads in batches of 256", NULL},
    {"qtest.raw_per_s", "1/s", "register reads of the bare socket loop", NULL},
    {NULL, NULL, NULL, NULL},
};

static const struct bench_figure loaded_figures[] = {
    {"qtest.single_vs_libqtest_loaded", "x",
     "as qtest.single_vs_libqtest, while something keeps all processors awake", NULL},
    {"qtest.batch_vs_libqtest_loaded", "x", "as qtest.batch_vs_libqtest, so", NULL},
    {"qtest.libqtest_loaded_per_s", "1/s", "as qtest.libqtest_per_s, so", NULL},
    {"qtest.single_loaded_per_s", "1/s", "as qtest.single_per_s, so", NULL},
    {"qtest.batch_loaded_per_s", "1/s", "as qtest.batch_per_s, so", NULL},
    {NULL, NULL, NULL, NULL},
};

/* One QEMU whose port 0xcfc reads as the ids of the host bridge. */
struct bed {
    struct qemu *qemu;
    struct qtest *q;
    struct qtest_batch *batch;
    struct yardstick yardstick;
    uint64_t ids;
};

static bool bed_open(struct bed *bed, GError **error)
{
    struct qemu_options options = {.name = "bench"};

    *bed = (struct bed){.qemu = qemu_start(&options, error)};
    if (!bed->qemu) {
        return false;
    }
    bed->q = qemu_qtest(bed->qemu);
    bed->batch = qtest_batch_new(bed->q);
    yardstick_init(&bed->yardstick, qtest_fd(bed->q));
    return qtest_out(bed->q, 4, PCI_CONFIG_ADDRESS_PORT, PCI_CONFIG_ADDRESS(0, 0, 0, 0), error) &&
           qtest_in(bed->q, 4, PCI_CONFIG_DATA_PORT, &bed->ids, error);
}

static void bed_close(struct bed *bed)
{
    if (bed->qemu) {
        yardstick_clear(&bed->yardstick);
        qtest_batch_free(bed->batch);
        qemu_free(bed->qemu);
    }
}

static bool check_ids(const struct bed *bed, uint64_t value, const char *client, GError **error)
{
    if (value != bed->ids) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG,
                    "%s read 0x%" PRIx64 " where 0x%" PRIx64 " was read before", client, value,
                    bed->ids);
        return false;
    }
    return true;
}

/* ---- the four ways to read; each returns how many reads it did, 0 on an error ---- */

typedef unsigned (*read_fn)(struct bed *bed, GError **error);

static unsigned read_libqtest(struct bed *bed, GError **error)
{
    uint32_t value;

    return yardstick_inl(&bed->yardstick, PCI_CONFIG_DATA_PORT, &value, error) &&
           check_ids(bed, value, "the yardstick", error);
}

static unsigned read_raw(struct bed *bed, GError **error)
{
    return yardstick_raw_inl(&bed->yardstick, PCI_CONFIG_DATA_PORT, error) ? YARDSTICK_RAW_BATCH
                                                                           : 0;
}

static unsigned read_single(struct bed *bed, GError **error)
{
    uint64_t value;

    return qtest_in(bed->q, 4, PCI_CONFIG_DATA_PORT, &value, error) &&
           check_ids(bed, value, "qtest_in", error);
}

static unsigned read_batch(struct bed *bed, GError **error)
{
    qtest_batch_clear(bed->batch);
    for (unsigned i = 0; i < BATCH; i++) {
        qtest_batch_in(bed->batch, 4, PCI_CONFIG_DATA_PORT);
    }
    if (!qtest_batch_run(bed->batch, error)) {
        return 0;
    }
    for (unsigned i = 0; i < BATCH; i++) {
        if (!check_ids(bed, qtest_batch_value(bed->batch, i), "a batch", error)) {
            return 0;
        }
    }
    return BATCH;
}

struct way {
    struct bed *bed;
    read_fn read;
    bool blocks; /* wants a blocking descriptor */
};

static bool measure(void *data, int64_t slice_us, double *per_s, GError **error)
{
    const struct way *way = data;
    int fd = qtest_fd(way->bed->q);
    uint64_t n = 0;

    if (way->blocks && !yardstick_set_blocking(fd, true, error)) {
        return false;
    }
    int64_t begin = g_get_monotonic_time(), now;
    do {
        unsigned n_read = way->read(way->bed, error);
        if (n_read == 0) {
            return false;
        }
        n += n_read;
        now = g_get_monotonic_time();
    } while (now - begin < slice_us);
    *per_s = (double)n * 1e6 / (double)(now - begin);
    return !way->blocks || yardstick_set_blocking(fd, false, error);
}

static bool run_idle(const struct bench_settings *settings, const struct bench_sink *sink,
                     GError **error)
{
    enum { LIBQTEST, SINGLE, BATCHES, RAW, N_WAYS };
    struct bed bed;
    struct way ways[N_WAYS] = {
        [LIBQTEST] = {&bed, read_libqtest, true},
        [SINGLE] = {&bed, read_single, false},
        [BATCHES] = {&bed, read_batch, false},
        [RAW] = {&bed, read_raw, true},
    };
    struct bench_side sides[N_WAYS] = {{0}};

    for (unsigned i = 0; i < N_WAYS; i++) {
        sides[i] = (struct bench_side){measure, &ways[i], NULL};
    }
    bool ok = bed_open(&bed, error) && bench_rounds(settings, sides, N_WAYS, error);
    if (ok) {
        unsigned n = settings->n_rounds;
        const double *libqtest = sides[LIBQTEST].samples, *raw = sides[RAW].samples;
        const double *single = sides[SINGLE].samples, *batches = sides[BATCHES].samples;
        bench_emit(sink, "qtest.batch_vs_libqtest", bench_summarize_ratios(batches, libqtest, n));
        bench_emit(sink, "qtest.batch_vs_raw", bench_summarize_ratios(batches, raw, n));
        bench_emit(sink, "qtest.single_vs_libqtest", bench_summarize_ratios(single, libqtest, n));
        bench_emit(sink, "qtest.libqtest_per_s", bench_summarize(libqtest, n));
        bench_emit(sink, "qtest.single_per_s", bench_summarize(single, n));
        bench_emit(sink, "qtest.batch_per_s", bench_summarize(batches, n));
        bench_emit(sink, "qtest.raw_per_s", bench_summarize(raw, n));
    }
    bench_sides_clear(sides, N_WAYS);
    bed_close(&bed);
    return ok;
}

static bool run_loaded(const struct bench_settings *settings, const struct bench_sink *sink,
                       GError **error)
{
    enum { LIBQTEST, SINGLE, BATCHES, N_WAYS };
    struct bed bed;
    struct way ways[N_WAYS] = {
        [LIBQTEST] = {&bed, read_libqtest, true},
        [SINGLE] = {&bed, read_single, false},
        [BATCHES] = {&bed, read_batch, false},
    };
    struct bench_side sides[N_WAYS] = {{0}};

    for (unsigned i = 0; i < N_WAYS; i++) {
        sides[i] = (struct bench_side){measure, &ways[i], NULL};
    }
    struct load *load = NULL;
    bool ok = bed_open(&bed, error) && (load = load_start(LOAD_MAX_MS, error)) &&
              bench_rounds(settings, sides, N_WAYS, error);
    load_stop(load);
    if (ok) {
        unsigned n = settings->n_rounds;
        const double *libqtest = sides[LIBQTEST].samples;
        const double *single = sides[SINGLE].samples, *batches = sides[BATCHES].samples;
        bench_emit(sink, "qtest.single_vs_libqtest_loaded",
                   bench_summarize_ratios(single, libqtest, n));
        bench_emit(sink, "qtest.batch_vs_libqtest_loaded",
                   bench_summarize_ratios(batches, libqtest, n));
        bench_emit(sink, "qtest.libqtest_loaded_per_s", bench_summarize(libqtest, n));
        bench_emit(sink, "qtest.single_loaded_per_s", bench_summarize(single, n));
        bench_emit(sink, "qtest.batch_loaded_per_s", bench_summarize(batches, n));
    }
    bench_sides_clear(sides, N_WAYS);
    bed_close(&bed);
    return ok;
}

const struct bench_group bench_qtest = {idle_figures, run_idle};
const struct bench_group bench_qtest_loaded = {loaded_figures, run_loaded};
