/*
 * What the qtest client is compared with, on a connection that it shares with it in turns: a client
 * that works as QEMU's own libqtest does, and the least that any client could do.
 */
#ifndef RINGLAB_BENCH_YARDSTICK_H
#define RINGLAB_BENCH_YARDSTICK_H

#include "harness/bench/bench.h"

enum { YARDSTICK_RAW_BATCH = 1024 };

struct yardstick {
    int fd;      /* blocking while a yardstick uses it */
    GString *rx; /* libqtest's line buffer */
    char *text;  /* the prepared batch */
    size_t text_len;
};

/* `fd` stays the caller's. */
void yardstick_init(struct yardstick *y, int fd);
void yardstick_clear(struct yardstick *y);
/* Between use by a yardstick and use by somebody else: sets whether the descriptor blocks. */
bool yardstick_set_blocking(int fd, bool blocks, GError **error);

/* One register read as libqtest's qtest_inl does it: the command formatted into a new string, one
 * write, blocking reads into a growing line buffer, the line split into words, the first compared
 * with OK, the second converted. (tests/qtest/libqtest.c) */
bool yardstick_inl(struct yardstick *y, uint16_t port, uint32_t *value, GError **error);
/* YARDSTICK_RAW_BATCH reads of `port`, prepared once, written at once; as many newlines counted. */
bool yardstick_raw_inl(struct yardstick *y, uint16_t port, GError **error);

#endif
