/*
 * ptnet from end to end with kloops that are threads, and drivers in threads of their own that
 * sleep whenever there is nothing to do. Run with SANITIZE=thread too.
 */
#include "harness/test_ptnet_sim.h"

#include <pthread.h>
#include <string.h>

enum { N_FRAMES = 3000, BURST = 16, TIMEOUT_MS = 20000 };

static struct sim_bed bed;

static int close_bed(void **state)
{
    (void)state;
    sim_bed_close(&bed);
    return 0;
}

static int open_pipe(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.is_pipe = true});
    return 0;
}

static int open_vale(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.is_pipe = false});
    assert_int_equal(vale_set_full_policy(bed.host, "vale0:", VALE_FULL_WAIT), 0);
    return 0;
}

/* One thread's work on one side; what went wrong is told by the main thread. */
struct worker {
    unsigned side, ring;
    pthread_t thread;
    GError *error;
    const char *complaint;
    unsigned n_rounds;
};

static const struct ptnet_driver_options fenced = {.no_vnet_hdr = true,
                                                   .has_interrupts = true,
                                                   .interrupt_kind = INTERRUPT_MEMORY,
                                                   .fence_before_kick = true};

/* Waits for room, sends what there is room for. */
static void *send_all(void *data)
{
    struct worker *w = data;
    struct ptnet_queue *tx = ptnet_driver_tx(bed.sides[w->side].driver, w->ring);
    uint8_t bytes[BURST][2048];
    struct ptnet_frame frames[BURST];
    unsigned n = 0;

    while (n < N_FRAMES && !w->error) {
        unsigned burst = MIN(1 + n % BURST, N_FRAMES - n);
        for (unsigned i = 0; i < burst; i++) {
            frames[i] = (struct ptnet_frame){bytes[i], sim_frame_len(n + i), {0}};
            sim_frame_fill(w->side, n + i, bytes[i], frames[i].len);
        }
        unsigned done = ptnet_tx_burst(tx, frames, burst, &w->error);
        n += done;
        if (done < burst && !w->error) {
            ptnet_wait(tx, 1, TIMEOUT_MS, &w->error);
        }
    }
    return NULL;
}

static void *receive_all(void *data)
{
    struct worker *w = data;
    struct ptnet_queue *rx = ptnet_driver_rx(bed.sides[w->side].driver, w->ring);
    uint8_t expected[2048], room[BURST][2048] = {{0}};
    struct ptnet_frame frames[BURST];
    unsigned n = 0;

    while (n < N_FRAMES && !w->error && !w->complaint) {
        for (unsigned i = 0; i < BURST; i++) {
            frames[i] = (struct ptnet_frame){room[i], sizeof(expected), {0}};
        }
        unsigned done = ptnet_rx_burst(rx, frames, BURST, &w->error);
        for (unsigned i = 0; i < done && !w->complaint; i++, n++) {
            sim_frame_fill(1 - w->side, n, expected, sim_frame_len(n));
            if (frames[i].len != sim_frame_len(n) ||
                memcmp(frames[i].data, expected, frames[i].len) != 0) {
                w->complaint = "a frame arrived that is not the next one sent";
            }
        }
        if (done == 0 && !w->error) {
            ptnet_wait(rx, 1, TIMEOUT_MS, &w->error);
        }
    }
    return NULL;
}

static void run_workers(struct worker *workers, unsigned n, void *(*const *functions)(void *))
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, functions[i], &workers[i]), 0);
    }
    for (unsigned i = 0; i < n; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (unsigned i = 0; i < n; i++) {
        if (workers[i].error || workers[i].complaint) {
            fail_msg("side %u: %s", workers[i].side,
                     workers[i].error ? workers[i].error->message : workers[i].complaint);
        }
    }
}

static void run_one_way(const struct ptnet_driver_options *options)
{
    struct worker workers[] = {{.side = 0}, {.side = 1}};
    void *(*const functions[])(void *) = {send_all, receive_all};

    sim_bed_start(&bed, options);
    run_workers(workers, 2, functions);
    assert_int_equal(sim_rx(&bed, 1)->n_frames, N_FRAMES);
    assert_int_equal(sim_rx(&bed, 1)->n_errors, 0);
}

static void sleepers_lose_no_frame(void **state)
{
    (void)state;
    run_one_way(&fenced);
    assert_int_equal(sim_kicks(&bed, 0), sim_tx(&bed, 0)->n_kicks);
    assert_int_equal(sim_kicks(&bed, 1), sim_rx(&bed, 1)->n_kicks);
}

static void sleepers_on_descriptors_lose_no_frame(void **state)
{
    struct ptnet_driver_options options = fenced;

    (void)state;
    options.interrupt_kind = INTERRUPT_EVENTFD;
    run_one_way(&options);
}

static void pollers_lose_no_frame(void **state)
{
    struct ptnet_driver_options options = {.no_vnet_hdr = true, .fence_before_kick = true};

    (void)state;
    run_one_way(&options);
    assert_int_equal(sim_interrupts(&bed, 0) + sim_interrupts(&bed, 1), 0);
}

enum { N_PAIRS = 3 };

static int open_vale_with_rings(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.rings = N_PAIRS, .slots = 64});
    assert_int_equal(vale_set_full_policy(bed.host, "vale0:", VALE_FULL_WAIT), 0);
    return 0;
}

static int open_pipe_with_rings(void **state)
{
    (void)state;
    sim_bed_open(&bed, &(struct sim_bed_options){.is_pipe = true, .rings = N_PAIRS, .slots = 64});
    return 0;
}

/* A kernel loop serves all rings of its port, each of which has a driver's thread of its own. */
static void rings_with_threads_of_their_own_keep_their_order(void **state)
{
    struct worker workers[2 * N_PAIRS];
    void *(*functions[2 * N_PAIRS])(void *);
    g_autoptr(GError) error = NULL;

    (void)state;
    sim_bed_start(&bed, &fenced);
    if (!bed.options.is_pipe) { /* the switch learns: else all would go to ring 0 */
        sim_send(&bed, 1, 0, 1);
        assert_true(ptnet_wait(sim_rx(&bed, 0), 1, TIMEOUT_MS, &error));
        sim_expect(&bed, 0, 0, 1);
    }
    for (unsigned i = 0; i < 2 * N_PAIRS; i++) {
        workers[i] = (struct worker){.side = i % 2, .ring = i / 2};
        functions[i] = i % 2 == 0 ? send_all : receive_all;
    }
    run_workers(workers, 2 * N_PAIRS, functions);
    for (unsigned i = 0; i < N_PAIRS; i++) {
        assert_int_equal(ptnet_driver_rx(bed.sides[1].driver, i)->n_frames, N_FRAMES);
    }
}

/* ---- ping-pong ---- */

enum { N_ROUNDS = 500 };

static void *ping(void *data)
{
    struct worker *w = data;
    static uint8_t bytes[2][2048], room[2][2048], expected[2048];
    struct ptnet_queue *tx = sim_tx(&bed, w->side), *rx = sim_rx(&bed, w->side);
    unsigned at = w->side;

    for (unsigned i = 0; i < N_ROUNDS && !w->error && !w->complaint; i++) {
        struct ptnet_frame out = {bytes[at], sim_frame_len(i), {0}}, in = {room[at], 2048, {0}};
        sim_frame_fill(w->side, i, out.data, out.len);
        if (w->side == 0 && ptnet_tx_burst(tx, &out, 1, &w->error) != 1) {
            break;
        }
        if (!ptnet_wait(rx, 1, TIMEOUT_MS, &w->error) ||
            ptnet_rx_burst(rx, &in, 1, &w->error) != 1) {
            break;
        }
        if (w->side == 0) {
            sim_frame_fill(1, i, expected, in.len);
            if (in.len != sim_frame_len(i) || memcmp(in.data, expected, in.len) != 0) {
                w->complaint = "another answer than was sent";
            }
        } else if (ptnet_tx_burst(tx, &out, 1, &w->error) != 1) {
            break;
        }
        w->n_rounds++;
    }
    return NULL;
}

static void questions_are_answered_with_both_sides_asleep(void **state)
{
    struct worker workers[] = {{.side = 0}, {.side = 1}};
    void *(*const functions[])(void *) = {ping, ping};
    struct ptnet_driver_options options = fenced;

    (void)state;
    options.interrupt_kind = INTERRUPT_EVENTFD;
    sim_bed_start(&bed, &options);
    run_workers(workers, 2, functions);
    assert_int_equal(workers[0].n_rounds, N_ROUNDS);
    assert_int_equal(workers[1].n_rounds, N_ROUNDS);
    /* nobody slept until a timeout: no wake-up was lost */
    assert_int_equal(ptnet_kloop_stats(bed.sides[0].ptnet).timeouts, 0);
    assert_int_equal(ptnet_kloop_stats(bed.sides[1].ptnet).timeouts, 0);
}

/* ---- coming and going ---- */

static void a_sender_that_comes_and_goes_disturbs_nobody(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    sim_bed_start(&bed, &fenced);
    for (unsigned i = 0; i < 50; i++) {
        sim_send(&bed, 0, i, 1);
        assert_true(ptnet_wait(sim_rx(&bed, 1), 1, TIMEOUT_MS, &error));
        sim_expect(&bed, 1, i, 1);
        if (i % 3 == 0) {
            sim_ptnet_close(&bed.sides[0]);
        } else if (i % 3 == 1) {
            ptnet_driver_abandon(bed.sides[0].driver);
        } else {
            pci_model_reset(bed.sides[0].model);
            ptnet_driver_abandon(bed.sides[0].driver);
            sim_bed_rescan(&bed, 0);
        }
        bed.sides[0].driver = NULL;
        sim_machine_bridge(bed.machines[0])->n_used = 0;
        sim_bed_start_side(&bed, 0, &fenced);
    }
}

#define on_pipe(test) cmocka_unit_test_setup_teardown(test, open_pipe, close_bed)
#define on_vale(test) cmocka_unit_test_setup_teardown(test, open_vale, close_bed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_pipe(sleepers_lose_no_frame),
        on_pipe(sleepers_on_descriptors_lose_no_frame),
        on_pipe(pollers_lose_no_frame),
        on_pipe(questions_are_answered_with_both_sides_asleep),
        on_pipe(a_sender_that_comes_and_goes_disturbs_nobody),
        on_vale(sleepers_lose_no_frame),
        on_vale(sleepers_on_descriptors_lose_no_frame),
        on_vale(pollers_lose_no_frame),
        on_vale(questions_are_answered_with_both_sides_asleep),
        on_vale(a_sender_that_comes_and_goes_disturbs_nobody),
        cmocka_unit_test_setup_teardown(rings_with_threads_of_their_own_keep_their_order,
                                        open_pipe_with_rings, close_bed),
        cmocka_unit_test_setup_teardown(rings_with_threads_of_their_own_keep_their_order,
                                        open_vale_with_rings, close_bed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
