/*
 * All that can be measured, in the order in which it is.
 */
#include "harness/bench/bench.h"

const struct bench_group *const bench_groups[] = {
    &bench_qtest, &bench_qtest_loaded, &bench_memory, &bench_start, &bench_virtio_net,
    &bench_vale,  &bench_pipe,         &bench_ptnet,  NULL,
};
