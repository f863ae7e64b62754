/*
 * The yardsticks: that they speak the protocol as what they stand for does.
 */
#include "harness/bench/yardstick.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct pair {
    struct yardstick y;
    int far;
};

static int setup(void **state)
{
    struct pair *p = g_new0(struct pair, 1);
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    yardstick_init(&p->y, fds[0]);
    assert_true(yardstick_set_blocking(fds[0], true, NULL));
    p->far = fds[1];
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;

    close(p->y.fd);
    if (p->far >= 0) {
        close(p->far);
    }
    yardstick_clear(&p->y);
    g_free(p);
    return 0;
}

static void answer(struct pair *p, const char *text)
{
    assert_int_equal(write(p->far, text, strlen(text)), strlen(text));
}

static void assert_sent(struct pair *p, const char *text)
{
    char got[32] = "";

    assert_true(read(p->far, got, sizeof(got) - 1) > 0);
    assert_string_equal(got, text);
}

static void libqtest_reads_a_register_with_one_line_each_way(void **state)
{
    struct pair *p = *state;
    uint32_t value = 0;

    answer(p, "OK 0x12378086\n");
    assert_true(yardstick_inl(&p->y, 0xcfc, &value, NULL));
    assert_int_equal(value, 0x12378086);
    assert_sent(p, "inl 0xcfc\n");
}

static void libqtest_passes_over_interrupt_lines_and_keeps_what_follows(void **state)
{
    struct pair *p = *state;
    uint32_t value = 0;

    answer(p, "IRQ raise 4\nOK 0x0001\nOK 0x0002\n");
    assert_true(yardstick_inl(&p->y, 1, &value, NULL));
    assert_int_equal(value, 1);
    assert_true(yardstick_inl(&p->y, 2, &value, NULL));
    assert_int_equal(value, 2);
}

static void a_refused_read_is_an_error(void **state)
{
    struct pair *p = *state;
    GError *error = NULL;
    uint32_t value;

    answer(p, "FAIL Unknown command\n");
    assert_false(yardstick_inl(&p->y, 0x10, &value, &error));
    assert_string_equal(error->message, "yardstick: 'inl 0x10' was answered with 'FAIL'");
    g_error_free(error);
}

static void the_end_of_the_connection_is_an_error(void **state)
{
    struct pair *p = *state;
    GError *error = NULL;
    uint32_t value;

    assert_int_equal(shutdown(p->far, SHUT_WR), 0);
    assert_false(yardstick_inl(&p->y, 0x10, &value, &error));
    assert_string_equal(error->message, "yardstick: read: Connection reset by peer");
    g_clear_error(&error);
    close(p->far);
    p->far = -1;
    assert_false(yardstick_raw_inl(&p->y, 0x10, &error));
    assert_string_equal(error->message, "yardstick: write: Broken pipe");
    g_error_free(error);
}

static void the_raw_loop_sends_a_batch_and_takes_as_many_lines(void **state)
{
    struct pair *p = *state;
    GString *replies = g_string_new(NULL);
    char sent[16384];
    ssize_t n_sent = 0;

    for (unsigned i = 0; i < YARDSTICK_RAW_BATCH; i++) {
        g_string_append(replies, "OK 0x0000\n");
    }
    answer(p, replies->str);
    assert_true(yardstick_raw_inl(&p->y, 0xcfc, NULL));
    n_sent = read(p->far, sent, sizeof(sent));
    assert_int_equal(n_sent, YARDSTICK_RAW_BATCH * (ssize_t)strlen("inl 0xcfc\n"));
    for (ssize_t i = 0; i < n_sent; i += 10) {
        assert_memory_equal(sent + i, "inl 0xcfc\n", 10);
    }
    /* nothing is left: not one line more, not one less was taken */
    assert_int_equal(recv(p->y.fd, sent, sizeof(sent), MSG_DONTWAIT), -1);
    g_string_free(replies, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(libqtest_reads_a_register_with_one_line_each_way, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(libqtest_passes_over_interrupt_lines_and_keeps_what_follows,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_read_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_of_the_connection_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(the_raw_loop_sends_a_batch_and_takes_as_many_lines, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
