/*
 * A run of `ringlab pktgen`: when it ends, and what is told meanwhile.
 */
#include "harness/cancel.h"
#include "harness/cmd.h"
#include "harness/pktgen/pktgen.h"

#include <poll.h>
#include <unistd.h>

enum {
    LOOK_MS = 50,    /* how often it is looked at whether anything moves */
    QUIET_MS = 1000, /* when nobody sends any more */
    DRAIN_MS = 100,  /* what is on its way when the run is to end */
    MAX_DRAIN_MS = 2000,
};

static bool is_done(const struct pktgen_group *group)
{
    for (unsigned i = 0; i < group->n_workers; i++) {
        if (!atomic_load(&group->workers[i].is_done)) {
            return false;
        }
    }
    return true;
}

static const struct pktgen_group *gone_group(const struct pktgen_bed *bed)
{
    for (unsigned i = 0; i < bed->groups->len; i++) {
        const struct pktgen_group *group = g_ptr_array_index(bed->groups, i);
        for (unsigned k = 0; k < group->n_workers; k++) {
            if (atomic_load(&group->workers[k].is_gone)) {
                return group;
            }
        }
    }
    return NULL;
}

/* Every group that has an end has reached it. */
static bool has_all(const struct pktgen_bed *bed)
{
    bool has_limit = false;

    for (unsigned i = 0; i < bed->groups->len; i++) {
        const struct pktgen_group *group = g_ptr_array_index(bed->groups, i);
        if (group->options->n_packets > 0) {
            has_limit = true;
            if (!is_done(group)) {
                return false;
            }
        }
    }
    return has_limit;
}

/* There were senders, and they have finished. */
static bool has_no_sender(const struct pktgen_bed *bed)
{
    bool had_one = false;

    for (unsigned i = 0; i < bed->groups->len; i++) {
        const struct pktgen_group *group = g_ptr_array_index(bed->groups, i);
        if (pktgen_sends(group->options->mode)) {
            had_one = true;
            if (!is_done(group)) {
                return false;
            }
        }
    }
    return had_one;
}

static uint64_t all_packets(const struct pktgen_bed *bed)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < bed->groups->len; i++) {
        const struct pktgen_group *group = g_ptr_array_index(bed->groups, i);
        sum += PKTGEN_SUM(group, packets) + PKTGEN_SUM(group, foreign);
    }
    return sum;
}

/* How long nothing has come or gone. */
struct quiet {
    uint64_t packets, since_ns;
};

static uint64_t quiet_ms(const struct pktgen_bed *bed, struct quiet *q)
{
    const uint64_t packets = all_packets(bed), now = pktgen_now_ns();

    if (packets != q->packets || q->since_ns == 0) {
        *q = (struct quiet){packets, now};
    }
    return (now - q->since_ns) / 1000000;
}

static void wait_for_something(const struct pktgen_bed *bed, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = bed->done_fd, .events = POLLIN},
                           {.fd = cancel_fd(), .events = POLLIN}};
    uint64_t count;

    (void)poll(fds, G_N_ELEMENTS(fds), timeout_ms);
    (void)!read(bed->done_fd, &count, sizeof(count));
}

/* Until the run is to end. */
static void watch(struct pktgen_bed *bed, const struct pktgen_options *options, uint64_t start)
{
    const uint64_t every = (uint64_t)options->report_ms * 1000000;
    uint64_t told = start;
    struct quiet q = {0};

    while (!cancel_is_requested() && !gone_group(bed) && !has_all(bed)) {
        const uint64_t quiet = quiet_ms(bed, &q), now = pktgen_now_ns();
        if ((has_no_sender(bed) && quiet >= QUIET_MS) ||
            (options->idle_ms > 0 && quiet >= (uint64_t)options->idle_ms)) {
            return;
        }
        if (every > 0 && now - told >= every) {
            pktgen_report(bed, (double)(now - start) / 1e9, (double)(now - told) / 1e9);
            told = now;
        }
        wait_for_something(bed, LOOK_MS);
    }
}

static void signal_stop(_Atomic bool *flag, int fd)
{
    const uint64_t one = 1;

    atomic_store(flag, true);
    (void)!write(fd, &one, sizeof(one));
}

static bool is_all_done(const struct pktgen_bed *bed)
{
    for (unsigned i = 0; i < bed->groups->len; i++) {
        if (!is_done(g_ptr_array_index(bed->groups, i))) {
            return false;
        }
    }
    return true;
}

/* Senders first; what they sent has a moment to arrive. */
static void stop(struct pktgen_bed *bed)
{
    struct quiet q = {0};

    signal_stop(&bed->is_send_stopping, bed->send_stop_fd);
    for (int ms = 0; ms < MAX_DRAIN_MS && !is_all_done(bed) && !cancel_is_requested() &&
                     !gone_group(bed) && quiet_ms(bed, &q) < DRAIN_MS;
         ms += LOOK_MS) {
        wait_for_something(bed, LOOK_MS);
    }
    signal_stop(&bed->is_stopping, bed->stop_fd);
    pktgen_join(bed);
}

int pktgen_run(struct pktgen_bed *bed, const struct pktgen_options *options)
{
    g_autoptr(GError) error = NULL;
    const uint64_t start = pktgen_now_ns();

    if (!pktgen_start(bed, &error)) {
        stop(bed);
        cmd_error("%s", error->message);
        return CMD_FAILED;
    }
    watch(bed, options, start);
    stop(bed);
    const bool is_complete = pktgen_summary(bed);
    const struct pktgen_group *gone = gone_group(bed);
    if (cancel_is_requested()) {
        return CMD_INTERRUPTED;
    }
    if (gone) {
        cmd_error("%s: the port went away", gone->options->port);
        return CMD_FAILED;
    }
    return is_complete ? CMD_PASSED : CMD_FAILED;
}
