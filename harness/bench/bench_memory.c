/*
 * 16 MiB of guest memory read into a buffer: through memory that is shared with QEMU, and over the
 * qtest socket. The memory is that of an ivshmem device.
 */
#include "harness/bench/bench.h"
#include "harness/session.h"
#include "qtest_client/machine.h"

#include <string.h>

enum { BYTES = 16 << 20 };

static const struct bench_figure figures[] = {
    {"memory.shared_vs_b64", "x", "16 MiB read through shared memory / by qtest's b64read", NULL},
    {"memory.shared_mib_per_s", "MiB/s", "16 MiB read through shared memory", NULL},
    {"memory.b64_mib_per_s", "MiB/s", "16 MiB read by qtest's b64read", NULL},
    {NULL, NULL, NULL, NULL},
};

struct bed {
    struct session *session;
    struct guest_region *region;
    struct session_machine *machine;
    uint8_t *bytes;
};

static bool bed_open(struct bed *bed, GError **error)
{
    struct session_machine_options options = {.name = "bench"};

    *bed = (struct bed){.session = session_new(NULL, NULL)};
    bed->region = session_memory_new(bed->session, "bench", BYTES, GUEST_HUGEPAGES_PREFER, error);
    if (!bed->region) {
        return false;
    }
    bed->machine = session_machine_new(bed->session, &options, error);
    struct session_backing backing = {.region = bed->region};
    if (!bed->machine || !session_device_new(bed->machine, "ivshmem-plain", &backing, error) ||
        !session_machine_start(bed->machine, error)) {
        return false;
    }
    for (size_t i = 0; i < BYTES / sizeof(uint32_t); i++) {
        uint32_t word = (uint32_t)i * 2654435761u; /* no two pages alike */
        memcpy(bed->region->host + i * sizeof(word), &word, sizeof(word));
    }
    bed->bytes = g_malloc0(BYTES);
    return true;
}

static void bed_close(struct bed *bed)
{
    session_free(bed->session);
    g_free(bed->bytes);
}

static bool read_shared(struct bed *bed, GError **error)
{
    return machine_read_bytes(session_machine_machine(bed->machine), bed->region->gpa, bed->bytes,
                              BYTES, error);
}

static bool read_b64(struct bed *bed, GError **error)
{
    return qtest_read_bytes(qemu_qtest(session_machine_qemu(bed->machine)), bed->region->gpa,
                            bed->bytes, BYTES, error);
}

struct way {
    struct bed *bed;
    bool (*read)(struct bed *bed, GError **error);
};

static bool measure(void *data, int64_t slice_us, double *mib_per_s, GError **error)
{
    const struct way *way = data;
    const struct bed *bed = way->bed;

    (void)slice_us;
    memset(bed->bytes, 0, BYTES);
    int64_t begin = g_get_monotonic_time();
    if (!way->read(way->bed, error)) {
        return false;
    }
    int64_t took_us = MAX(g_get_monotonic_time() - begin, 1);
    if (memcmp(bed->bytes, bed->region->host, BYTES) != 0) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG,
                    "16 MiB were not read as they were written");
        return false;
    }
    *mib_per_s = BYTES / 1048576.0 * 1e6 / (double)took_us;
    return true;
}

static bool run(const struct bench_settings *settings, const struct bench_sink *sink,
                GError **error)
{
    enum { SHARED, B64, N_WAYS };
    struct bed bed;
    struct way ways[N_WAYS] = {[SHARED] = {&bed, read_shared}, [B64] = {&bed, read_b64}};
    struct bench_side sides[N_WAYS] = {
        [SHARED] = {measure, &ways[SHARED], NULL},
        [B64] = {measure, &ways[B64], NULL},
    };
    /* a fifth of a second each: fewer rounds are enough */
    struct bench_settings fewer = *settings;
    fewer.n_rounds = (settings->n_rounds + 4) / 5;
    bool ok = bed_open(&bed, error) && bench_rounds(&fewer, sides, N_WAYS, error);

    if (ok) {
        const double *shared = sides[SHARED].samples, *b64 = sides[B64].samples;
        bench_emit(sink, "memory.shared_vs_b64",
                   bench_summarize_ratios(shared, b64, fewer.n_rounds));
        bench_emit(sink, "memory.shared_mib_per_s", bench_summarize(shared, fewer.n_rounds));
        bench_emit(sink, "memory.b64_mib_per_s", bench_summarize(b64, fewer.n_rounds));
    }
    bench_sides_clear(sides, N_WAYS);
    bed_close(&bed);
    return ok;
}

const struct bench_group bench_memory = {figures, run};
