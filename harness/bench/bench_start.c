/*
 * Starting: a QEMU to its first reply, and what a scenario file adds to that: loading Lua and the
 * library, shared memory, the bus scan, enabling the device, the test, taking everything down.
 */
#include "harness/bench/bench.h"
#include "harness/cancel.h"
#include "harness/qemu.h"
#include "harness/report/report.h"
#include "harness/scenario/scenario.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct bench_figure figures[] = {
    {"start.first_reply_ms", "ms", "start of a QEMU to its first reply", NULL},
    {"start.end_ms", "ms", "end of that QEMU, until it is reaped", NULL},
    {"start.scenario_ms", "ms", "a scenario file with one test of one virtio-net device", NULL},
    {"start.scenario_overhead_ms", "ms", "the same - start and end of a QEMU with that device",
     "below 20"},
    {NULL, NULL, NULL, NULL},
};

static const char script[] = "local m = machine { board = 'pc' }\n"
                             "local net = m:device 'virtio-net-pci,disable-legacy=on'\n"
                             "test('a status bit that is set reads back', function()\n"
                             "    net.common.device_status = 1\n"
                             "    expect(net.common.device_status, 1)\n"
                             "end)\n";

struct bed {
    int script_fd;
    char path[32];
};

static bool bed_open(struct bed *bed, GError **error)
{
    bed->script_fd = memfd_create("ringlab-bench", MFD_CLOEXEC);
    if (bed->script_fd < 0 ||
        write(bed->script_fd, script, strlen(script)) != (ssize_t)strlen(script)) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_SYSTEM, "cannot make the scenario: %s",
                    g_strerror(errno));
        return false;
    }
    g_snprintf(bed->path, sizeof(bed->path), "/proc/self/fd/%d", bed->script_fd);
    return true;
}

static void bed_close(struct bed *bed)
{
    if (bed->script_fd >= 0) {
        close(bed->script_fd);
    }
}

static double ms_since(int64_t begin)
{
    return (double)(g_get_monotonic_time() - begin) / 1000;
}

/* One start of a QEMU with nothing but what its board has. */
struct bare {
    double *end_ms; /* per round; the first, which does not count, is overwritten */
    unsigned n;
};

static bool measure_first_reply(void *data, int64_t slice_us, double *ms, GError **error)
{
    struct bare *bare = data;
    struct qemu_options options = {.name = "bench"};

    (void)slice_us;
    int64_t begin = g_get_monotonic_time();
    struct qemu *qemu = qemu_start(&options, error);
    if (!qemu) {
        return false;
    }
    *ms = ms_since(begin);
    begin = g_get_monotonic_time();
    qemu_free(qemu);
    bare->end_ms[bare->n > 0 ? bare->n - 1 : 0] = ms_since(begin);
    bare->n++;
    return true;
}

/* What a scenario cannot do without. */
static bool measure_with_device(void *data, int64_t slice_us, double *ms, GError **error)
{
    static const char *const args[] = {"-netdev", "hubport,id=n,hubid=0", "-device",
                                       "virtio-net-pci,disable-legacy=on,netdev=n", NULL};
    struct qemu_options options = {.name = "bench", .args = args};

    (void)data;
    (void)slice_us;
    int64_t begin = g_get_monotonic_time();
    struct qemu *qemu = qemu_start(&options, error);
    if (!qemu) {
        return false;
    }
    qemu_free(qemu);
    *ms = ms_since(begin);
    return true;
}

static bool has_passed(const struct report *report, GError **error)
{
    if (report_counts(report).passed == 1) {
        return true;
    }
    const struct report_file *file = report_files(report)->pdata[0];
    const struct report_test *test = file->tests->len ? file->tests->pdata[0] : NULL;
    g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG, "the scenario's test did not pass: %s",
                test && test->message ? test->message : "it did not run");
    return false;
}

static bool measure_scenario(void *data, int64_t slice_us, double *ms, GError **error)
{
    const struct bed *bed = data;
    struct scenario_options options = {.cancel_fd = cancel_fd(),
                                       .is_cancelled = cancel_is_requested};

    (void)slice_us;
    int64_t begin = g_get_monotonic_time();
    struct report *report = report_new();
    report_run_started(report, NULL, 1);
    report_file_started(report, bed->path, 1);
    bool ok = scenario_run_file(bed->path, &options, report, error);
    report_file_ended(report);
    report_run_ended(report, 0);
    *ms = ms_since(begin);
    ok = ok && has_passed(report, error);
    report_free(report);
    return ok;
}

static bool run(const struct bench_settings *settings, const struct bench_sink *sink,
                GError **error)
{
    enum { FIRST_REPLY, WITH_DEVICE, SCENARIO, N_WAYS };
    unsigned n = settings->n_rounds;
    struct bed bed;
    struct bare bare = {.end_ms = g_new0(double, n)};
    struct bench_side sides[N_WAYS] = {
        [FIRST_REPLY] = {measure_first_reply, &bare, NULL},
        [WITH_DEVICE] = {measure_with_device, NULL, NULL},
        [SCENARIO] = {measure_scenario, &bed, NULL},
    };
    bool ok = bed_open(&bed, error) && bench_rounds(settings, sides, N_WAYS, error);

    if (ok) {
        const double *scenario = sides[SCENARIO].samples;
        bench_emit(sink, "start.first_reply_ms", bench_summarize(sides[FIRST_REPLY].samples, n));
        bench_emit(sink, "start.end_ms", bench_summarize(bare.end_ms, n));
        bench_emit(sink, "start.scenario_ms", bench_summarize(scenario, n));
        bench_emit(sink, "start.scenario_overhead_ms",
                   bench_summarize_differences(scenario, sides[WITH_DEVICE].samples, n));
    }
    bench_sides_clear(sides, N_WAYS);
    bed_close(&bed);
    g_free(bare.end_ms);
    return ok;
}

const struct bench_group bench_start = {figures, run};
