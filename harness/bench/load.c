/*
 * Keeping processors awake: see load.h.
 */
#include "harness/bench/load.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

struct load {
    atomic_bool has_ended;
    int64_t deadline_us;
    GPtrArray *threads;
};

static void *compute(void *data)
{
    struct load *load = data;
    struct sched_param lowest = {0};

    pthread_setschedparam(pthread_self(), SCHED_IDLE, &lowest);
    while (!atomic_load_explicit(&load->has_ended, memory_order_relaxed) &&
           g_get_monotonic_time() < load->deadline_us) {
    }
    return NULL;
}

struct load *load_start(unsigned max_ms, GError **error)
{
    struct load *load = g_new0(struct load, 1);

    load->deadline_us = g_get_monotonic_time() + (int64_t)max_ms * 1000;
    load->threads = g_ptr_array_new();
    for (unsigned i = 0; i < g_get_num_processors(); i++) {
        GThread *thread = g_thread_try_new("load", compute, load, error);
        if (!thread) {
            load_stop(load);
            return NULL;
        }
        g_ptr_array_add(load->threads, thread);
    }
    return load;
}

void load_stop(struct load *load)
{
    if (!load) {
        return;
    }
    atomic_store_explicit(&load->has_ended, true, memory_order_relaxed);
    for (guint i = 0; i < load->threads->len; i++) {
        g_thread_join(load->threads->pdata[i]);
    }
    g_ptr_array_unref(load->threads);
    g_free(load);
}
