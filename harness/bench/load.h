/*
 * Something else that keeps the processors awake while a bench runs: a thread on each that computes
 * at the lowest priority, so that whoever has work gets the processor, and never waits for a
 * sleeping one to wake up. Ends by itself when its time is over, whatever became of its starter.
 */
#ifndef RINGLAB_BENCH_LOAD_H
#define RINGLAB_BENCH_LOAD_H

#include "harness/bench/bench.h"

struct load;

/* One thread per processor, for `max_ms` at most. */
struct load *load_start(unsigned max_ms, GError **error);
void load_stop(struct load *load);

#endif
