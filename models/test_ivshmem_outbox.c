/*
 * Messages kept for a client that does not read.
 */
#include "models/ivshmem_outbox.h"
#include "models/test_ivshmem_client.h"

struct pair {
    int ours, theirs;
    struct ivshmem_outbox outbox;
};

static void set_up_pair(struct pair *p)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    p->ours = fds[0];
    p->theirs = fds[1];
    ivshmem_outbox_init(&p->outbox, p->ours);
}

static void tear_down_pair(struct pair *p)
{
    ivshmem_outbox_clear(&p->outbox);
    close(p->ours);
    close(p->theirs);
}

/* Adds and sends until the socket is full; returns how many went out, beside one that is kept. */
static unsigned fill(struct pair *p)
{
    for (unsigned n = 0;; n++) {
        ivshmem_outbox_add(&p->outbox, n, -1);
        enum ivshmem_outbox_result result = ivshmem_outbox_flush(&p->outbox);
        if (result == IVSHMEM_OUTBOX_FULL)
            return n;
        assert_int_equal(result, IVSHMEM_OUTBOX_EMPTY);
    }
}

static void messages_arrive_in_order_with_their_descriptors(void **state)
{
    (void)state;
    struct pair p;
    set_up_pair(&p);
    assert_true(ivshmem_outbox_is_empty(&p.outbox));
    ivshmem_outbox_add(&p.outbox, 0, -1);
    ivshmem_outbox_add(&p.outbox, -1, p.ours);
    ivshmem_outbox_add(&p.outbox, 65535, -1);
    assert_false(ivshmem_outbox_is_empty(&p.outbox));
    expect_nothing(p.theirs);
    assert_int_equal(ivshmem_outbox_flush(&p.outbox), IVSHMEM_OUTBOX_EMPTY);
    assert_true(ivshmem_outbox_is_empty(&p.outbox));
    expect_plain(p.theirs, 0);
    close(expect_with_fd(p.theirs, -1));
    expect_plain(p.theirs, 65535);
    tear_down_pair(&p);
}

static void only_unsent_messages_with_a_descriptor_are_taken_back(void **state)
{
    (void)state;
    struct pair p;
    set_up_pair(&p);
    unsigned n = fill(&p);
    ivshmem_outbox_add(&p.outbox, 7, -1);
    ivshmem_outbox_add(&p.outbox, 8, p.ours);
    ivshmem_outbox_add(&p.outbox, 7, p.ours);
    ivshmem_outbox_add(&p.outbox, 7, p.ours);
    assert_int_equal(ivshmem_outbox_take_back(&p.outbox, 7), 2);
    assert_int_equal(ivshmem_outbox_take_back(&p.outbox, 7), 0);
    ivshmem_outbox_add(&p.outbox, 9, -1);

    for (unsigned i = 0; i < n; i++)
        expect_plain(p.theirs, i);
    expect_nothing(p.theirs);
    assert_int_equal(ivshmem_outbox_flush(&p.outbox), IVSHMEM_OUTBOX_EMPTY);
    expect_plain(p.theirs, n);
    expect_plain(p.theirs, 7);
    close(expect_with_fd(p.theirs, 8));
    expect_plain(p.theirs, 9);
    expect_nothing(p.theirs);
    tear_down_pair(&p);
}

static void nothing_is_kept_for_a_broken_connection(void **state)
{
    (void)state;
    struct pair p;
    set_up_pair(&p);
    fill(&p);
    shutdown(p.ours, SHUT_RDWR);
    assert_int_equal(ivshmem_outbox_flush(&p.outbox), IVSHMEM_OUTBOX_BROKEN);
    assert_true(ivshmem_outbox_is_empty(&p.outbox));
    ivshmem_outbox_add(&p.outbox, 1, -1);
    assert_true(ivshmem_outbox_is_empty(&p.outbox));
    assert_int_equal(ivshmem_outbox_flush(&p.outbox), IVSHMEM_OUTBOX_BROKEN);
    tear_down_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_order_with_their_descriptors),
        cmocka_unit_test(only_unsent_messages_with_a_descriptor_are_taken_back),
        cmocka_unit_test(nothing_is_kept_for_a_broken_connection),
    };
    return cmocka_run_group_tests_name("ivshmem_outbox", tests, NULL, NULL);
}
