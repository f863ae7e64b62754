/* The qtest client against scripted peers: no QEMU is needed here. */
#include "qtest_client/qtest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A peer that answers nothing by itself: the test writes to and reads from `far`. */
struct wire {
    struct qtest *q;
    int far;
};

static struct wire wire_open(void)
{
    int fds[2];
    struct wire w;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    w.q = qtest_new(fds[0]);
    w.far = fds[1];
    return w;
}

static void wire_close(struct wire *w)
{
    qtest_free(w->q);
    if (w->far >= 0) {
        close(w->far);
    }
}

static void answer(const struct wire *w, const char *text)
{
    assert_int_equal(write(w->far, text, strlen(text)), strlen(text));
}

static void assert_sent(const struct wire *w, const char *expected)
{
    char got[4096];
    ssize_t n = recv(w->far, got, sizeof(got) - 1, MSG_DONTWAIT);

    got[MAX(n, 0)] = '\0';
    assert_string_equal(got, expected);
}

static void assert_error(GError **error, int code, const char *part)
{
    assert_non_null(*error);
    assert_int_equal((*error)->domain, QTEST_ERROR);
    assert_int_equal((*error)->code, code);
    if (!strstr((*error)->message, part)) {
        fail_msg("'%s' is not in '%s'", part, (*error)->message);
    }
    g_clear_error(error);
}

static void each_access_has_its_line_and_takes_its_value(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value = 0;

    (void)state;
    answer(&w, "OK 0x00ff\nOK 0xbeef\nOK 0x12345678\n");
    assert_true(qtest_in(w.q, 1, 0x64, &value, &error));
    assert_int_equal(value, 0xff);
    assert_true(qtest_in(w.q, 2, 0x1f0, &value, &error));
    assert_int_equal(value, 0xbeef);
    assert_true(qtest_in(w.q, 4, 0xcfc, &value, &error));
    assert_int_equal(value, 0x12345678);
    assert_sent(&w, "inb 0x64\ninw 0x1f0\ninl 0xcfc\n");
    answer(&w, "OK\nOK\nOK 0x00000000000000a5\nOK 0xfedcba9876543210\n");
    assert_true(qtest_out(w.q, 4, 0xcf8, 0x80000000, &error));
    assert_true(qtest_write(w.q, 8, 0xfee0000000, UINT64_MAX, &error));
    assert_true(qtest_read(w.q, 1, 0, &value, &error));
    assert_int_equal(value, 0xa5);
    assert_true(qtest_read(w.q, 8, UINT64_MAX, &value, &error));
    assert_true(value == 0xfedcba9876543210);
    assert_sent(&w, "outl 0xcf8 0x80000000\nwriteq 0xfee0000000 0xffffffffffffffff\n"
                    "readb 0x0\nreadq 0xffffffffffffffff\n");
    wire_close(&w);
}

static void nothing_is_sent_for_an_argument_that_would_abort_qemu(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;
    char byte = 0;

    (void)state;
    assert_false(qtest_in(w.q, 1, 0x10000, &value, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "0x10000");
    assert_false(qtest_in(w.q, 8, 0, &value, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "8 bytes");
    assert_false(qtest_out(w.q, 1, 0x80, 0x100, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "too wide");
    assert_false(qtest_read(w.q, 3, 0, &value, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "3 bytes");
    assert_false(qtest_write(w.q, 4, 0, UINT64_C(1) << 32, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "too wide");
    assert_false(qtest_post_write(w.q, 2, 0, 0x10000, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "too wide");
    assert_false(qtest_post_out(w.q, 2, 0x10000, 1, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "0x10000");
    assert_false(qtest_irq_set_ioapic(w.q, 24, true, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "24");
    assert_false(qtest_write_bytes(w.q, UINT64_MAX, "ab", 2, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "beyond the last address");
    assert_true(qtest_read_bytes(w.q, 0, &byte, 0, &error));
    assert_true(qtest_write_bytes(w.q, 0, &byte, 0, &error));
    assert_true(qtest_memset(w.q, 0, 0, 0, &error));
    struct qtest_batch *b = qtest_batch_new(w.q);
    qtest_batch_read(b, 4, 0);
    qtest_batch_in(b, 4, 0x10000);
    assert_false(qtest_batch_run(b, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "0x10000");
    qtest_batch_free(b);
    assert_sent(&w, "");
    wire_close(&w);
}

static void fail_and_err_name_the_command_and_leave_the_connection_usable(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;

    (void)state;
    answer(&w, "FAIL Unknown command 'clock_step'\nERR invalid argument size\nOK 0x0001\n");
    assert_false(qtest_clock_step(w.q, 100, NULL, &error));
    assert_error(&error, QTEST_ERROR_FAIL, "clock_step 100");
    assert_false(qtest_write(w.q, 4, 0x1000, 7, &error));
    assert_error(&error, QTEST_ERROR_ERR, "writel 0x1000 0x7");
    assert_true(qtest_in(w.q, 2, 0, &value, &error));
    assert_int_equal(value, 1);
    wire_close(&w);
}

static void a_garbled_reply_names_the_command_and_what_came(void **state)
{
    static const char *const garbled[] = {"HELLO\n",
                                          "OK\n",
                                          "OK 12\n",
                                          "OK 0x\n",
                                          "OK 0xzz\n",
                                          "OK 0x100\n",
                                          "OKAY 0x1\n",
                                          "OK 0x1 0x2\n",
                                          "\n",
                                          "IRQ jump 5\n",
                                          "IRQ raise x\n",
                                          "OK  0x1\n",
                                          "OK 0x1\r\n",
                                          "OK 0x12345678901234567\n"};

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(garbled); i++) {
        struct wire w = wire_open();
        GError *error = NULL;
        uint64_t value;
        answer(&w, garbled[i]);
        assert_false(qtest_read(w.q, 1, 0xabc, &value, &error));
        assert_error(&error, QTEST_ERROR_GARBLED, "readb 0xabc");
        wire_close(&w);
    }
}

static void an_endless_reply_is_oversized_and_ends_the_connection(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;
    char junk[200];

    (void)state;
    memset(junk, 'A', sizeof(junk));
    assert_int_equal(write(w.far, junk, sizeof(junk)), sizeof(junk));
    assert_false(qtest_read(w.q, 4, 0x1234, &value, &error));
    assert_error(&error, QTEST_ERROR_OVERSIZED, "readl 0x1234");
    assert_false(qtest_read(w.q, 4, 0, &value, &error));
    assert_error(&error, QTEST_ERROR_OVERSIZED, "unusable since");
    wire_close(&w);
}

static char *how_it_ended(void *data)
{
    return g_strdup(data);
}

static void a_closed_socket_says_what_was_asked_and_what_became_of_qemu(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;
    char why[] = "killed by signal 9";

    (void)state;
    qtest_set_closed_hook(w.q, how_it_ended, why);
    close(w.far);
    w.far = -1;
    assert_false(qtest_read(w.q, 2, 0x44, &value, &error));
    assert_error(&error, QTEST_ERROR_CLOSED, "killed by signal 9");
    wire_close(&w);
}

static void no_reply_is_a_timeout_that_names_the_command(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;

    (void)state;
    qtest_set_timeout(w.q, 20);
    answer(&w, "OK 0x"); /* half a line is no reply */
    assert_false(qtest_read(w.q, 4, 0x99, &value, &error));
    assert_error(&error, QTEST_ERROR_TIMEOUT, "readl 0x99");
    answer(&w, "1\n"); /* too late: replies no longer match commands */
    assert_false(qtest_read(w.q, 4, 0x9a, &value, &error));
    assert_error(&error, QTEST_ERROR_TIMEOUT, "unusable since");
    wire_close(&w);
}

static void a_command_that_nobody_reads_is_a_timeout_that_names_it(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    static uint8_t block[QTEST_BLOCK_BYTES];
    const int smallest = 1;

    (void)state;
    assert_int_equal(setsockopt(qtest_fd(w.q), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest)),
                     0);
    qtest_set_timeout(w.q, 20);
    assert_false(qtest_write_bytes(w.q, 0x5000, block, sizeof(block), &error));
    assert_error(&error, QTEST_ERROR_TIMEOUT, "no reply to 'b64write 0x5000 0xc000 AAAA");
    wire_close(&w);
}

static void a_wait_ends_when_cancelled(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;
    int cancel[2];

    (void)state;
    assert_int_equal(pipe(cancel), 0);
    assert_int_equal(write(cancel[1], "x", 1), 1);
    qtest_set_cancel_fd(w.q, cancel[0]);
    assert_false(qtest_read(w.q, 4, 0x77, &value, &error));
    assert_error(&error, QTEST_ERROR_CANCELLED, "readl 0x77");
    close(cancel[0]);
    close(cancel[1]);
    wire_close(&w);
}

static void what_has_come_is_found_without_polling_for_it(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value = 0;

    (void)state;
    qtest_set_spin(w.q, 0);
    answer(&w, "OK 0x00ff\n");
    assert_true(qtest_in(w.q, 1, 0x64, &value, &error));
    assert_int_equal(value, 0xff);
    answer(&w, "IRQ raise 5\n");
    assert_true(qtest_irq_wait_level(w.q, 5, true, 0, &error));
    qtest_set_timeout(w.q, 1);
    assert_false(qtest_in(w.q, 1, 0x64, &value, &error));
    assert_error(&error, QTEST_ERROR_TIMEOUT, "inb 0x64");
    wire_close(&w);
}

static void a_long_session_tries_both_ways_to_wait_and_loses_nothing(void **state)
{
    enum { LONG = 200 }; /* beyond the first trial, see qtest_spin.c */
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value = 0;
    char reply[32];

    (void)state;
    for (unsigned i = 0; i < LONG; i++) {
        g_snprintf(reply, sizeof(reply), "OK 0x%04x\n", i);
        answer(&w, reply);
        assert_true(qtest_in(w.q, 2, 0x64, &value, &error));
        assert_int_equal(value, i);
        assert_sent(&w, "inw 0x64\n");
    }
    wire_close(&w);
}

static void batch_results_come_in_the_order_of_the_operations(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    struct qtest_batch *b = qtest_batch_new(w.q);

    (void)state;
    assert_int_equal(qtest_batch_read(b, 4, 0x10), 0);
    assert_int_equal(qtest_batch_write(b, 4, 0x14, 5), 1);
    assert_int_equal(qtest_batch_in(b, 1, 0x60), 2);
    assert_int_equal(qtest_batch_read(b, 8, 0x18), 3);
    assert_int_equal(qtest_batch_out(b, 2, 0x61, 6), 4);
    assert_int_equal(qtest_batch_len(b), 5);
    answer(&w, "OK 0x0000000000000001\nIRQ raise 3\nOK\nOK 0x0002\nOK 0x0000000000000003\nOK\n");
    assert_true(qtest_batch_run(b, &error));
    assert_int_equal(qtest_batch_value(b, 0), 1);
    assert_int_equal(qtest_batch_value(b, 1), 0);
    assert_int_equal(qtest_batch_value(b, 2), 2);
    assert_int_equal(qtest_batch_value(b, 3), 3);
    assert_sent(&w, "readl 0x10\nwritel 0x14 0x5\ninb 0x60\nreadq 0x18\noutw 0x61 0x6\n");
    assert_int_equal(qtest_irq_state(w.q, 3).n_raised, 1);
    qtest_batch_free(b);
    wire_close(&w);
}

static void a_failure_inside_a_batch_leaves_the_stream_in_step(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    struct qtest_batch *b = qtest_batch_new(w.q);
    uint64_t value;

    (void)state;
    qtest_batch_read(b, 4, 0x10);
    qtest_batch_read(b, 4, 0x20);
    qtest_batch_read(b, 4, 0x30);
    answer(&w, "OK 0x01\nFAIL no\nOK 0x03\nOK 0x04\n");
    assert_false(qtest_batch_run(b, &error));
    assert_error(&error, QTEST_ERROR_FAIL, "readl 0x20");
    assert_int_equal(qtest_batch_value(b, 0), 1);
    assert_true(qtest_read(w.q, 4, 0x40, &value, &error));
    assert_int_equal(value, 4);
    qtest_batch_free(b);
    wire_close(&w);
}

/* Answers each line with its own number, and, like QEMU, reads nothing while its answer has not
 * been taken. Small buffers make sure that both sides run into each other's limits. */
static gpointer blocking_peer(gpointer data)
{
    int fd = GPOINTER_TO_INT(data);
    FILE *in = fdopen(dup(fd), "r");
    char line[128];
    unsigned n = 0;

    while (fgets(line, sizeof(line), in)) {
        g_autofree char *reply = g_strdup_printf("OK 0x%016x\n", n++);
        size_t sent = 0;
        while (sent < strlen(reply)) {
            ssize_t rc = send(fd, reply + sent, strlen(reply) - sent, MSG_NOSIGNAL);
            if (rc < 0) {
                fclose(in);
                return NULL;
            }
            sent += (size_t)rc;
        }
    }
    fclose(in);
    return NULL;
}

static void a_batch_of_any_size_cannot_deadlock(void **state)
{
    enum { N = 100000 };
    struct wire w = wire_open();
    GError *error = NULL;
    struct qtest_batch *b = qtest_batch_new(w.q);
    int small = 4096;

    (void)state;
    setsockopt(w.far, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    setsockopt(qtest_fd(w.q), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    GThread *peer = g_thread_new("peer", blocking_peer, GINT_TO_POINTER(w.far));
    for (unsigned i = 0; i < N; i++) {
        qtest_batch_read(b, 4, i);
    }
    assert_true(qtest_batch_run(b, &error));
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(qtest_batch_value(b, i), i);
    }
    assert_int_equal(qtest_n_commands(w.q), N);
    qtest_batch_free(b);
    qtest_free(w.q);
    g_thread_join(peer);
    close(w.far);
}

static void posted_writes_are_collected_by_the_next_wait(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;

    (void)state;
    assert_true(qtest_post_write(w.q, 2, 0x3000, 1, &error));
    assert_true(qtest_post_write(w.q, 2, 0x3004, 2, &error));
    assert_true(qtest_post_out(w.q, 2, 0xc010, 3, &error));
    assert_sent(&w, "writew 0x3000 0x1\nwritew 0x3004 0x2\noutw 0xc010 0x3\n");
    answer(&w, "OK\nOK\nOK\nOK 0x00000005\n");
    assert_true(qtest_read(w.q, 4, 0x10, &value, &error));
    assert_int_equal(value, 5);
    wire_close(&w);
}

static void no_more_writes_are_posted_than_there_is_room_for(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;

    (void)state;
    qtest_set_timeout(w.q, 20);
    for (unsigned i = 0; i < QTEST_MAX_POSTED; i++) {
        assert_true(qtest_post_write(w.q, 2, 0x3000, 1, &error));
        answer(&w, i == 5 ? "FAIL the sixth\n" : "OK\n");
    }
    /* the next one collects what the others were answered, and is not sent if one had failed */
    assert_int_equal(qtest_n_commands(w.q), QTEST_MAX_POSTED);
    assert_false(qtest_post_write(w.q, 2, 0x3000, 2, &error));
    assert_error(&error, QTEST_ERROR_FAIL, "the sixth");
    assert_int_equal(qtest_n_commands(w.q), QTEST_MAX_POSTED);
    assert_true(qtest_post_write(w.q, 2, 0x3000, 3, &error));
    /* nobody answers: the sixty-fourth after it waits for a reply */
    for (unsigned i = 1; i < QTEST_MAX_POSTED; i++) {
        assert_true(qtest_post_write(w.q, 2, 0x3000, 3, &error));
    }
    assert_false(qtest_post_write(w.q, 2, 0x3000, 4, &error));
    assert_error(&error, QTEST_ERROR_TIMEOUT, "writew 0x3000 0x3");
    wire_close(&w);
}

static void a_posted_write_that_failed_is_named_later(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;

    (void)state;
    assert_true(qtest_post_write(w.q, 2, 0x3000, 1, &error));
    answer(&w, "FAIL why not\nOK 0x05\nOK 0x06\n");
    assert_false(qtest_read(w.q, 4, 0x10, &value, &error));
    assert_error(&error, QTEST_ERROR_FAIL, "writew 0x3000 0x1");
    assert_true(qtest_read(w.q, 4, 0x10, &value, &error));
    assert_int_equal(value, 6);
    wire_close(&w);
}

static void irq_lines_are_kept_per_number_whenever_they_come(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;

    (void)state;
    answer(&w, "IRQ raise 10\nIRQ raise 5\nIRQ lower 10\nOK 0x00\nIRQ raise 10\n");
    assert_true(qtest_in(w.q, 1, 0, &value, &error));
    assert_int_equal(qtest_irq_state(w.q, 10).n_raised, 1);
    assert_int_equal(qtest_irq_state(w.q, 10).n_lowered, 1);
    assert_false(qtest_irq_state(w.q, 10).level);
    assert_true(qtest_irq_state(w.q, 5).level);
    assert_true(qtest_irq_wait_raised(w.q, 10, 2, 1000, &error));
    assert_true(qtest_irq_state(w.q, 10).level);
    assert_false(qtest_irq_wait_level(w.q, 10, false, 10, &error));
    assert_error(&error, QTEST_ERROR_TIMEOUT, "line 10 was not lowered");
    answer(&w, "IRQ lower 10\n");
    assert_true(qtest_irq_wait_level(w.q, 10, false, 1000, &error)); /* a timeout broke nothing */
    answer(&w, "OK little\n");
    assert_true(qtest_barrier(w.q, &error));
    assert_false(qtest_irq_wait_raised(w.q, 24, 1, 0, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "24");
    wire_close(&w);
}

static void blocks_travel_as_base64_and_are_checked(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    char bytes[8] = "";

    (void)state;
    answer(&w, "OK aGVsbG8=\nOK\nOK aGVsbG8h\nOK aGVsb\n");
    assert_true(qtest_read_bytes(w.q, 0x1000, bytes, 5, &error));
    assert_string_equal(bytes, "hello");
    assert_true(qtest_write_bytes(w.q, 0x2000, "x", 1, &error));
    assert_sent(&w, "b64read 0x1000 0x5\nb64write 0x2000 0x1 eA==\n");
    assert_false(qtest_read_bytes(w.q, 0x1000, bytes, 5, &error));
    assert_error(&error, QTEST_ERROR_GARBLED, "b64read 0x1000 0x5");
    assert_false(qtest_read_bytes(w.q, 0x1000, bytes, 5, &error));
    assert_error(&error, QTEST_ERROR_GARBLED, "b64read 0x1000 0x5");
    wire_close(&w);
}

static void a_big_endian_target_is_refused(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;

    (void)state;
    answer(&w, "OK big\n");
    assert_false(qtest_barrier(w.q, &error));
    assert_error(&error, QTEST_ERROR_GARBLED, "little-endian");
    wire_close(&w);
}

static void a_recorded_session_can_be_replayed(void **state)
{
    struct wire w = wire_open();
    GError *error = NULL;
    uint64_t value;
    char *transcript = NULL;
    size_t len;
    FILE *file = open_memstream(&transcript, &len);

    (void)state;
    qtest_record(w.q, file);
    answer(&w, "OK 0x00000000000000aa\nIRQ raise 9\nOK 0x01\nOK\n");
    assert_true(qtest_read(w.q, 1, 0x100, &value, &error));
    struct qtest_batch *b = qtest_batch_new(w.q);
    qtest_batch_in(b, 1, 0x20);
    qtest_batch_out(b, 1, 0x21, 3);
    assert_true(qtest_batch_run(b, &error));
    qtest_batch_free(b);
    fclose(file);
    wire_close(&w);
    assert_string_equal(transcript, "> readb 0x100\n< OK 0x00000000000000aa\n> inb 0x20\n"
                                    "> outb 0x21 0x3\n< IRQ raise 9\n< OK 0x01\n< OK\n");

    int fd;
    struct qtest_replay *replay = qtest_replay_new(transcript, &fd, &error);
    assert_non_null(replay);
    struct qtest *q = qtest_new(fd);
    assert_true(qtest_read(q, 1, 0x100, &value, &error));
    assert_int_equal(value, 0xaa);
    assert_true(qtest_in(q, 1, 0x20, &value, &error) ||
                g_error_matches(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT));
    g_clear_error(&error);
    qtest_free(q);
    assert_false(qtest_replay_finish(replay, &error)); /* outb never came */
    assert_error(&error, QTEST_ERROR_CLOSED, "outb 0x21 0x3");
    free(transcript);
}

static void a_replay_names_the_line_that_differs(void **state)
{
    GError *error = NULL;
    uint64_t value;
    int fd;

    (void)state;
    struct qtest_replay *replay =
        qtest_replay_new("# remark\n> readb 0x1\n< OK 0x02\n", &fd, &error);
    struct qtest *q = qtest_new(fd);
    assert_null(qtest_replay_complaint(replay));
    qtest_set_closed_hook(q, qtest_replay_complaint, replay);
    assert_false(qtest_read(q, 1, 0x2, &value, &error));
    assert_error(&error, QTEST_ERROR_CLOSED, "expected 'readb 0x1', the client sent 'readb 0x2'");
    qtest_free(q);
    assert_false(qtest_replay_finish(replay, &error));
    assert_error(&error, QTEST_ERROR_GARBLED, "line 2: expected 'readb 0x1', the client sent");
    assert_null(qtest_replay_new("nonsense\n", &fd, &error));
    assert_error(&error, QTEST_ERROR_INVALID, "line 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_access_has_its_line_and_takes_its_value),
        cmocka_unit_test(nothing_is_sent_for_an_argument_that_would_abort_qemu),
        cmocka_unit_test(fail_and_err_name_the_command_and_leave_the_connection_usable),
        cmocka_unit_test(a_garbled_reply_names_the_command_and_what_came),
        cmocka_unit_test(an_endless_reply_is_oversized_and_ends_the_connection),
        cmocka_unit_test(a_closed_socket_says_what_was_asked_and_what_became_of_qemu),
        cmocka_unit_test(no_reply_is_a_timeout_that_names_the_command),
        cmocka_unit_test(a_command_that_nobody_reads_is_a_timeout_that_names_it),
        cmocka_unit_test(a_wait_ends_when_cancelled),
        cmocka_unit_test(what_has_come_is_found_without_polling_for_it),
        cmocka_unit_test(a_long_session_tries_both_ways_to_wait_and_loses_nothing),
        cmocka_unit_test(batch_results_come_in_the_order_of_the_operations),
        cmocka_unit_test(a_failure_inside_a_batch_leaves_the_stream_in_step),
        cmocka_unit_test(a_batch_of_any_size_cannot_deadlock),
        cmocka_unit_test(posted_writes_are_collected_by_the_next_wait),
        cmocka_unit_test(no_more_writes_are_posted_than_there_is_room_for),
        cmocka_unit_test(a_posted_write_that_failed_is_named_later),
        cmocka_unit_test(irq_lines_are_kept_per_number_whenever_they_come),
        cmocka_unit_test(blocks_travel_as_base64_and_are_checked),
        cmocka_unit_test(a_big_endian_target_is_refused),
        cmocka_unit_test(a_recorded_session_can_be_replayed),
        cmocka_unit_test(a_replay_names_the_line_that_differs),
    };
    return cmocka_run_group_tests_name("qtest", tests, NULL, NULL);
}
