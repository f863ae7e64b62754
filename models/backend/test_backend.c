/*
 * Back ends: null, source, cable, captures and QEMU's socket netdevs in one process. The TAP is
 * tried where a network namespace of one's own may be made.
 */
#include "models/backend/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 8, ROOM = 2048, DEADLINE_MS = 10000 };

struct burst {
    uint8_t bytes[N][ROOM];
    struct backend_frame frames[N];
};

/* Frame i has `len` bytes, all of value first + i. */
static struct backend_frame *fill(struct burst *burst, unsigned n, uint32_t len, uint8_t first)
{
    for (unsigned i = 0; i < n; i++) {
        memset(burst->bytes[i], first + (int)i, len);
        burst->frames[i] = (struct backend_frame){burst->bytes[i], len, 0};
    }
    return burst->frames;
}

static struct backend_frame *empty(struct burst *burst)
{
    for (unsigned i = 0; i < N; i++) {
        burst->frames[i] = (struct backend_frame){burst->bytes[i], ROOM, 0};
    }
    return burst->frames;
}

static void assert_frame(const struct backend_frame *f, uint32_t len, uint8_t value)
{
    assert_int_equal(f->len, len);
    for (uint32_t i = 0; i < len; i++) {
        assert_int_equal(f->data[i], value);
    }
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void assert_refused(struct backend *b, GError *error, int code, const char *text)
{
    assert_null(b);
    assert_non_null(error);
    assert_int_equal(error->code, code);
    if (!strstr(error->message, text)) {
        fail_msg("'%s' is not in: %s", text, error->message);
    }
    g_error_free(error);
}

/* ---- null, source ---- */

static void null_takes_everything_and_gives_nothing(void **state)
{
    struct burst burst;
    struct backend *b = backend_null_new();

    (void)state;
    assert_int_equal(backend_send(b, fill(&burst, 3, 60, 1), 3), 3);
    assert_int_equal(b->stats.sent, 3);
    assert_int_equal(b->stats.sent_bytes, 180);
    assert_int_equal(backend_receive(b, empty(&burst), N), 0);
    assert_true(b->is_ended);
    backend_free(b);
}

static void a_source_gives_its_frame_so_often_and_ends(void **state)
{
    uint8_t frame[60];
    struct burst burst;

    (void)state;
    memset(frame, 0x5a, sizeof(frame));
    struct backend *b = backend_source_new(frame, sizeof(frame), N + 3, NULL);
    assert_true(is_readable(b->fd));
    assert_int_equal(backend_receive(b, empty(&burst), N), N);
    assert_frame(&burst.frames[N - 1], 60, 0x5a);
    assert_false(b->is_ended);
    assert_int_equal(backend_receive(b, empty(&burst), N), 3);
    assert_true(b->is_ended);
    assert_false(is_readable(b->fd));
    assert_int_equal(backend_receive(b, empty(&burst), N), 0);
    assert_int_equal(b->stats.received, N + 3);
    backend_free(b);

    b = backend_source_new(frame, sizeof(frame), 0, NULL);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(backend_receive(b, empty(&burst), N), N);
    }
    empty(&burst)->len = 59; /* no room */
    assert_int_equal(backend_receive(b, burst.frames, 1), 0);
    assert_int_equal(b->stats.dropped_receive, 1);
    backend_free(b);
}

static void a_source_of_impossible_frames_is_refused(void **state)
{
    GError *error = NULL;
    uint8_t byte = 0;

    (void)state;
    struct backend *b = backend_source_new(&byte, 0, 1, &error);
    assert_refused(b, error, EINVAL, "a source of frames of 0 bytes");
}

/* ---- cable ---- */

static void what_goes_into_one_end_of_a_cable_comes_out_of_the_other(void **state)
{
    struct burst burst;
    struct backend *a, *b;

    (void)state;
    assert_true(backend_cable_new(4, ROOM, &a, &b, NULL));
    assert_int_equal(backend_receive(b, empty(&burst), N), 0);
    assert_false(is_readable(b->fd));
    assert_int_equal(backend_send(a, fill(&burst, 6, 60, 1), 6), 4); /* full */
    assert_true(is_readable(b->fd));
    assert_int_equal(backend_send(b, fill(&burst, 1, 1, 0x77), 1), 1);
    assert_int_equal(backend_receive(b, empty(&burst), 3), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_frame(&burst.frames[i], 60, (uint8_t)(1 + i));
    }
    assert_true(is_readable(b->fd));
    assert_int_equal(backend_receive(b, empty(&burst), N), 1);
    assert_frame(&burst.frames[0], 60, 4);
    assert_int_equal(backend_receive(b, empty(&burst), N), 0);
    assert_false(is_readable(b->fd));
    assert_int_equal(backend_receive(a, empty(&burst), N), 1);
    assert_frame(&burst.frames[0], 1, 0x77);
    backend_free(a);
    backend_free(b);
}

static void a_cable_drops_and_counts_what_does_not_fit(void **state)
{
    struct burst burst;
    struct backend *a, *b;

    (void)state;
    assert_true(backend_cable_new(4, 100, &a, &b, NULL));
    fill(&burst, 3, 100, 1);
    burst.frames[1].len = 101;
    assert_int_equal(backend_send(a, burst.frames, 3), 3);
    assert_int_equal(a->stats.dropped_send, 1);
    assert_int_equal(a->stats.sent, 2);
    empty(&burst)->len = 99; /* neither has room */
    assert_int_equal(backend_receive(b, burst.frames, 1), 0);
    assert_int_equal(b->stats.dropped_receive, 2);
    backend_free(a);
    backend_free(b);
}

static void the_other_end_of_a_cable_learns_that_one_was_freed(void **state)
{
    struct burst burst;
    struct backend *a, *b;

    (void)state;
    assert_true(backend_cable_new(4, ROOM, &a, &b, NULL));
    assert_int_equal(backend_send(a, fill(&burst, 1, 60, 9), 1), 1);
    backend_free(a);
    assert_int_equal(backend_receive(b, empty(&burst), N), 1); /* what was on its way arrives */
    assert_frame(&burst.frames[0], 60, 9);
    assert_int_equal(backend_receive(b, empty(&burst), N), 0);
    assert_true(b->is_ended);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(backend_send(b, fill(&burst, N, 60, 1), N), N);
    }
    backend_free(b);
}

enum { N_THREADED = 20000 };

static void *send_numbers(void *data)
{
    struct backend *b = data;

    for (uint32_t i = 0; i < N_THREADED;) {
        struct backend_frame f = {(uint8_t *)&i, sizeof(i), 0};
        if (backend_send(b, &f, 1) == 1) {
            i++;
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void a_sleeping_receiver_of_a_cable_misses_nothing(void **state)
{
    struct backend *a, *b;

    (void)state;
    assert_true(backend_cable_new(16, 64, &a, &b, NULL));
    GThread *sender = g_thread_new("sender", send_numbers, a);
    for (uint32_t n = 0; n < N_THREADED;) {
        uint32_t got[4];
        struct backend_frame f[4];
        for (unsigned i = 0; i < 4; i++) {
            f[i] = (struct backend_frame){(uint8_t *)&got[i], 4, 0};
        }
        unsigned n_got = backend_receive(b, f, 4);
        for (unsigned i = 0; i < n_got; i++) {
            assert_int_equal(got[i], n++);
        }
        if (n_got == 0) {
            struct pollfd p = {.fd = b->fd, .events = POLLIN};
            assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        }
    }
    g_thread_join(sender);
    backend_free(a);
    backend_free(b);
}

static void a_cable_that_cannot_be_is_refused(void **state)
{
    struct backend *a = NULL, *b;
    GError *error = NULL;

    (void)state;
    assert_false(backend_cable_new(0, 64, &a, &b, &error));
    assert_refused(a, error, EINVAL, "a cable for 0 frames of 64 bytes");
}

/* ---- captures ---- */

static char *temporary(void)
{
    char *path = g_strdup("/tmp/ringlab-test-XXXXXX");
    int fd = g_mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    return path;
}

/* Three frames, the second 30 ms after the first, the third 20 ms later. */
static char *write_capture(void)
{
    static const uint64_t at[] = {1700000000000000001, 1700000000030000001, 1700000000050000001};
    char *path = temporary();
    struct burst burst;
    struct backend *w = backend_pcap_writer_new(path, NULL);

    assert_non_null(w);
    fill(&burst, 3, 60, 1);
    for (unsigned i = 0; i < 3; i++) {
        burst.frames[i].time_ns = at[i];
    }
    assert_int_equal(backend_send(w, burst.frames, 3), 3);
    assert_int_equal(w->stats.sent, 3);
    backend_free(w);
    return path;
}

static void a_capture_that_was_written_replays_byte_for_byte(void **state)
{
    g_autofree char *path = write_capture();
    struct burst burst;

    (void)state;
    struct backend *b = backend_pcap_new(path, NULL, NULL);
    assert_true(is_readable(b->fd));
    assert_int_equal(backend_receive(b, empty(&burst), 2), 2);
    assert_frame(&burst.frames[0], 60, 1);
    assert_frame(&burst.frames[1], 60, 2);
    assert_true(burst.frames[1].time_ns == 1700000000030000001);
    assert_int_equal(backend_receive(b, empty(&burst), N), 1);
    assert_frame(&burst.frames[0], 60, 3);
    assert_true(b->is_ended);
    assert_false(is_readable(b->fd));
    assert_int_equal(backend_send(b, fill(&burst, 2, 60, 1), 2), 2);
    assert_int_equal(b->stats.dropped_send, 2);
    backend_free(b);
    unlink(path);
}

static void a_capture_can_loop(void **state)
{
    g_autofree char *path = write_capture();
    struct backend_pcap_options twice = {.n_loops = 2};
    struct burst burst;

    (void)state;
    struct backend *b = backend_pcap_new(path, &twice, NULL);
    assert_int_equal(backend_receive(b, empty(&burst), N), 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_frame(&burst.frames[i], 60, (uint8_t)(1 + i % 3));
    }
    backend_free(b);
    unlink(path);
}

/* Receives all, sleeping on the descriptor; returns how many nanoseconds that took. */
static gint64 drain(struct backend *b, unsigned n_expected)
{
    gint64 start = g_get_monotonic_time();
    struct burst burst;
    unsigned n = 0;

    while (!b->is_ended) {
        unsigned n_got = backend_receive(b, empty(&burst), N);
        n += n_got;
        if (n_got == 0 && !b->is_ended) {
            struct pollfd p = {.fd = b->fd, .events = POLLIN};
            assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        }
    }
    assert_int_equal(n, n_expected);
    return (g_get_monotonic_time() - start) * 1000;
}

/* Only the lower bound: no frame comes early. How late one comes is the machine's business. */
static void no_frame_of_a_paced_replay_comes_early(void **state)
{
    g_autofree char *path = write_capture();
    struct backend_pcap_options original = {.pace = BACKEND_PACE_ORIGINAL};
    struct backend_pcap_options faster = {.pace = BACKEND_PACE_ORIGINAL, .speed = 10};
    struct backend_pcap_options rate = {.pace = BACKEND_PACE_RATE, .rate_bps = 48000};

    (void)state;
    struct backend *b = backend_pcap_new(path, &original, NULL);
    assert_true(drain(b, 3) >= 50000000);
    backend_free(b);
    b = backend_pcap_new(path, &faster, NULL);
    assert_true(drain(b, 3) >= 5000000);
    backend_free(b);
    b = backend_pcap_new(path, &rate, NULL); /* 480 bits each: 10 ms */
    assert_true(drain(b, 3) >= 30000000);
    backend_free(b);
    unlink(path);
}

static void captures_that_cannot_be_are_refused_with_a_reason(void **state)
{
    g_autofree char *path = temporary();
    struct backend_pcap_options no_rate = {.pace = BACKEND_PACE_RATE};
    GError *error = NULL;

    (void)state;
    struct backend *b = backend_pcap_new("/nowhere/x.pcap", NULL, &error);
    assert_refused(b, error, EINVAL, "capture /nowhere/x.pcap: ");
    error = NULL;
    b = backend_pcap_new(path, NULL, &error); /* empty */
    assert_refused(b, error, EINVAL, path);
    error = NULL;
    b = backend_pcap_new(path, &no_rate, &error);
    assert_refused(b, error, EINVAL, "a rate of 0 bit/s");
    error = NULL;
    b = backend_pcap_writer_new("/nowhere/x.pcap", &error);
    assert_refused(b, error, EIO, "capture /nowhere/x.pcap cannot be written");
    unlink(path);
}

static void a_full_disk_is_told(void **state)
{
    GError *error = NULL;

    (void)state;
    struct backend *b = backend_pcap_writer_new("/dev/full", &error);
    assert_refused(b, error, EIO, "No space left on device");
}

/* ---- QEMU's sockets ---- */

static void a_stream_carries_frames_both_ways(void **state)
{
    struct burst burst;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct backend *a = backend_stream_from_fd(pair[0], NULL);
    struct backend *b = backend_stream_from_fd(pair[1], NULL);
    assert_int_equal(backend_send(a, fill(&burst, 3, 60, 1), 3), 3);
    assert_true(is_readable(b->fd));
    assert_int_equal(backend_receive(b, empty(&burst), N), 3);
    assert_frame(&burst.frames[2], 60, 3);
    assert_int_equal(backend_send(b, fill(&burst, 1, 1500, 7), 1), 1);
    assert_int_equal(backend_receive(a, empty(&burst), N), 1);
    assert_frame(&burst.frames[0], 1500, 7);
    backend_free(a);
    assert_int_equal(backend_receive(b, empty(&burst), N), 0);
    assert_true(b->is_ended);
    assert_int_equal(backend_send(b, fill(&burst, 1, 60, 7), 1), 1);
    assert_int_equal(b->stats.dropped_send, 1);
    backend_free(b);
}

static void a_stream_puts_frames_together_however_they_arrive(void **state)
{
    static const uint8_t wire[] = {0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 2, 'd', 'e'};
    struct burst burst;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct backend *b = backend_stream_from_fd(pair[1], NULL);
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof(wire); i++) {
        assert_int_equal(write(pair[0], &wire[i], 1), 1);
        unsigned n_got = backend_receive(b, empty(&burst), N);
        assert_int_equal(n_got, i == 6 || i == 12);
        if (n_got) {
            assert_int_equal(burst.frames[0].len, n == 0 ? 3 : 2);
            assert_memory_equal(burst.frames[0].data, n == 0 ? "abc" : "de", burst.frames[0].len);
            n++;
        }
    }
    assert_int_equal(n, 2);
    close(pair[0]);
    backend_free(b);
}

static void a_stream_that_is_full_loses_and_mixes_nothing(void **state)
{
    struct burst burst;
    int pair[2], bytes = 4096;
    unsigned n_sent = 0, n_got = 0;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    struct backend *a = backend_stream_from_fd(pair[0], NULL);
    struct backend *b = backend_stream_from_fd(pair[1], NULL);
    while (n_got < 2000) {
        uint32_t len = 1 + n_sent * 37 % 1999;
        while (n_sent < 2000 && backend_send(a, fill(&burst, 1, len, (uint8_t)n_sent), 1) == 1) {
            n_sent++;
            len = 1 + n_sent * 37 % 1999;
        }
        backend_send(a, NULL, 0);
        unsigned got = backend_receive(b, empty(&burst), N);
        for (unsigned i = 0; i < got; i++, n_got++) {
            assert_frame(&burst.frames[i], 1 + n_got * 37 % 1999, (uint8_t)n_got);
        }
        assert_true(got > 0 || n_sent < 2000);
    }
    assert_int_equal(a->stats.sent, 2000);
    assert_int_equal(a->stats.dropped_send + b->stats.dropped_receive, 0);
    backend_free(a);
    backend_free(b);
}

static void a_length_that_cannot_be_ends_a_stream(void **state)
{
    static const uint8_t wire[] = {0x7f, 0, 0, 0, 'a', 'b', 'c'};
    struct burst burst;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct backend *b = backend_stream_from_fd(pair[1], NULL);
    assert_int_equal(write(pair[0], wire, sizeof(wire)), sizeof(wire));
    assert_int_equal(backend_receive(b, empty(&burst), N), 0);
    assert_true(b->is_ended);
    assert_int_equal(b->stats.dropped_receive, 1);
    assert_true(send(pair[0], wire, 1, MSG_NOSIGNAL) < 0);
    close(pair[0]);
    backend_free(b);
}

static void a_datagram_is_a_frame(void **state)
{
    struct burst burst;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    struct backend *a = backend_dgram_from_fd(pair[0], NULL);
    struct backend *b = backend_dgram_from_fd(pair[1], NULL);
    assert_int_equal(backend_send(a, fill(&burst, 3, 60, 1), 3), 3);
    empty(&burst)->len = 59; /* no room for the first: the second comes, and has none either */
    assert_int_equal(backend_receive(b, burst.frames, 1), 0);
    assert_int_equal(b->stats.dropped_receive, 3);
    assert_int_equal(backend_send(a, fill(&burst, 2, 60, 1), 2), 2);
    assert_int_equal(backend_receive(b, empty(&burst), N), 2);
    assert_frame(&burst.frames[1], 60, 2);
    backend_free(a);
    backend_free(b);
}

static void sockets_of_the_wrong_kind_are_refused(void **state)
{
    GError *error = NULL;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    struct backend *b = backend_stream_from_fd(pair[0], &error);
    assert_refused(b, error, EINVAL, "is no stream socket");
    error = NULL;
    assert_int_equal(fcntl(pair[0], F_GETFD), -1); /* owned, also then */
    b = backend_dgram_from_fd(pair[1], NULL);
    assert_non_null(b);
    backend_free(b);
}

/* ---- TAP, in a network namespace of its own ---- */

static bool set_up(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    int s = socket(AF_INET, SOCK_DGRAM, 0);

    g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
    bool ok = s >= 0 && ioctl(s, SIOCSIFFLAGS, &request) == 0;
    close(s);
    return ok;
}

static void a_tap_carries_frames_to_and_from_the_kernel(void **state)
{
    struct burst burst;
    GError *error = NULL;

    (void)state;
    if (unshare(CLONE_NEWNET) != 0) {
        print_message("# no network namespace of one's own may be made here\n");
        skip();
    }
    struct backend *b = backend_tap_new("rl-test", &error);
    if (!b) {
        print_message("# %s\n", error->message);
        g_error_free(error);
        skip();
    }
    assert_int_equal(backend_send(b, fill(&burst, 1, 60, 1), 1), 1); /* its link is down */
    assert_int_equal(b->stats.dropped_send, 1);
    assert_true(set_up("rl-test"));
    assert_int_equal(backend_send(b, fill(&burst, 2, 60, 1), 2), 2);
    assert_int_equal(b->stats.sent, 2);
    /* the kernel speaks first, with IPv6's neighbour discovery, as soon as the link is up */
    struct pollfd p = {.fd = b->fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    assert_in_range(backend_receive(b, empty(&burst), N), 1, N);
    assert_int_equal(burst.frames[0].data[0], 0x33); /* IPv6 multicast */
    assert_null(backend_tap_new("rl-test", &error)); /* ours already */
    g_error_free(error);
    backend_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_takes_everything_and_gives_nothing),
        cmocka_unit_test(a_source_gives_its_frame_so_often_and_ends),
        cmocka_unit_test(a_source_of_impossible_frames_is_refused),
        cmocka_unit_test(what_goes_into_one_end_of_a_cable_comes_out_of_the_other),
        cmocka_unit_test(a_cable_drops_and_counts_what_does_not_fit),
        cmocka_unit_test(the_other_end_of_a_cable_learns_that_one_was_freed),
        cmocka_unit_test(a_sleeping_receiver_of_a_cable_misses_nothing),
        cmocka_unit_test(a_cable_that_cannot_be_is_refused),
        cmocka_unit_test(a_capture_that_was_written_replays_byte_for_byte),
        cmocka_unit_test(a_capture_can_loop),
        cmocka_unit_test(no_frame_of_a_paced_replay_comes_early),
        cmocka_unit_test(captures_that_cannot_be_are_refused_with_a_reason),
        cmocka_unit_test(a_full_disk_is_told),
        cmocka_unit_test(a_stream_carries_frames_both_ways),
        cmocka_unit_test(a_stream_puts_frames_together_however_they_arrive),
        cmocka_unit_test(a_stream_that_is_full_loses_and_mixes_nothing),
        cmocka_unit_test(a_length_that_cannot_be_ends_a_stream),
        cmocka_unit_test(a_datagram_is_a_frame),
        cmocka_unit_test(sockets_of_the_wrong_kind_are_refused),
        cmocka_unit_test(a_tap_carries_frames_to_and_from_the_kernel),
    };
    return cmocka_run_group_tests_name("back ends", tests, NULL, NULL);
}
