/*
 * The ivshmem server seen from its clients: what arrives on the wire, in which order, when peers
 * come, leave and die.
 */
#include "models/test_ivshmem_client.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/un.h>

/* ---- connecting ---- */

static void a_new_peer_gets_version_id_memory_the_others_vectors_and_then_its_own(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2);
    int member[3], of_first[2], of_member[3], own[2];
    uint16_t first_id, second_id;

    int first = connect_peer(f.server, &first_id);
    assert_int_equal(first_id, 0);
    assert_int_equal(fcntl(first, F_GETFD), FD_CLOEXEC);
    assert_int_equal(join_peer(f.server, 3, member), 1);
    int second = connect_peer(f.server, &second_id);
    assert_int_equal(second_id, 2);

    expect_plain(second, 0);
    expect_plain(second, 2);
    close(expect_with_fd(second, -1));
    expect_eventfds(second, 0, 2, of_first);
    expect_eventfds(second, 1, 3, of_member);
    expect_eventfds(second, 2, 2, own);
    expect_nothing(second);

    for (unsigned i = 0; i < 3; i++) {
        ring(of_member[i]);
        assert_int_equal(take(member[i]), 1);
        assert_int_equal(take(member[(i + 1) % 3]), 0);
        close(of_member[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_true(ivshmem_server_ring(f.server, second_id, i));
        assert_int_equal(take(own[i]), 1);
        assert_int_equal(take(own[1 - i]), 0);
        assert_true(ivshmem_server_ring(f.server, first_id, i));
        assert_int_equal(take(of_first[i]), 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        close(own[i]);
        close(of_first[i]);
    }
    close(first);
    close(second);
    tear_down(&f, 0);
}

static void all_peers_get_the_memory_the_server_was_made_with(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    uint16_t id;
    assert_int_equal(pwrite(f.memory_fd, "shared", 6, 4242), 6);
    for (unsigned i = 0; i < 3; i++) {
        int socket = connect_peer(f.server, &id);
        expect_plain(socket, 0);
        expect_plain(socket, id);
        int fd = expect_with_fd(socket, -1);
        char bytes[7] = "";
        assert_int_equal(lseek(fd, 0, SEEK_END), MEMORY_BYTES);
        assert_int_equal(pread(fd, bytes, 6, 4242), 6);
        assert_string_equal(bytes, "shared");
        close(fd);
        close(socket);
    }
    tear_down(&f, 0);
}

static void peers_that_are_there_are_told_of_a_newcomer(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2);
    uint16_t id;
    int member[5];

    int first = connect_peer(f.server, &id);
    expect_hello(first, 0);
    expect_eventfds(first, 0, 2, NULL);
    int second = connect_peer(f.server, &id);
    expect_eventfds(first, 1, 2, NULL);
    expect_nothing(first);

    expect_hello(second, 1);
    expect_eventfds(second, 0, 2, NULL);
    expect_eventfds(second, 1, 2, NULL);
    join_peer(f.server, 5, member);
    expect_eventfds(first, 2, 5, NULL);
    expect_eventfds(second, 2, 5, NULL);
    expect_nothing(first);
    expect_nothing(second);
    close(first);
    close(second);
    tear_down(&f, 0);
}

static void a_peer_may_come_through_the_abstract_socket(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    g_autoptr(GError) error = NULL;
    const char *name = ivshmem_server_listen(f.server, &error);
    assert_non_null(name);
    assert_ptr_equal(ivshmem_server_listen(f.server, &error), name);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path + 1, name, strlen(name));
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int sockets[3];
    for (unsigned i = 0; i < 3; i++) {
        sockets[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(sockets[i], (struct sockaddr *)&address, len), 0);
        assert_true(ivshmem_server_wait_peers(f.server, i + 1, DEADLINE_MS));
        expect_hello(sockets[i], i);
        for (unsigned other = 0; other <= i; other++)
            expect_eventfds(sockets[i], other, 1, NULL);
    }
    close(sockets[0]);
    expect_eventfds(sockets[1], 2, 1, NULL);
    expect_plain(sockets[1], 0);
    expect_plain(sockets[2], 0);
    close(sockets[1]);
    close(sockets[2]);
    assert_true(ivshmem_server_wait_peers(f.server, 0, DEADLINE_MS));
    tear_down(&f, 0);
}

static void a_peer_that_comes_while_descriptors_are_short_is_served_later(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    g_autoptr(GError) error = NULL;
    const char *name = ivshmem_server_listen(f.server, &error);
    assert_non_null(name);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path + 1, name, strlen(name));
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0; /* no descriptor can be made, however low */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = connect(client, (struct sockaddr *)&address, len);
    bool came = ivshmem_server_wait_peers(f.server, 1, 100);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, 0);
    assert_false(came);
    assert_true(ivshmem_server_wait_peers(f.server, 1, DEADLINE_MS));
    expect_hello(client, 0);
    close(client);
    tear_down(&f, 0);
}

/* ---- leaving ---- */

static void a_peer_that_dies_is_reported_to_the_others(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2);
    uint16_t ids[3];
    int sockets[3];
    for (unsigned i = 0; i < 3; i++)
        sockets[i] = connect_peer(f.server, &ids[i]);
    for (unsigned i = 0; i < 3; i++) {
        expect_hello(sockets[i], i);
        for (unsigned other = 0; other < i; other++)
            expect_eventfds(sockets[i], other, 2, NULL);
        expect_eventfds(sockets[i], i, 2, NULL);
        for (unsigned other = i + 1; other < 3; other++)
            expect_eventfds(sockets[i], other, 2, NULL);
    }

    close(sockets[1]);
    assert_true(ivshmem_server_wait_peers(f.server, 2, DEADLINE_MS));
    assert_false(ivshmem_server_has_peer(f.server, 1));
    assert_true(ivshmem_server_has_peer(f.server, 0));
    assert_true(ivshmem_server_has_peer(f.server, 2));
    expect_plain(sockets[0], 1);
    expect_plain(sockets[2], 1);
    expect_nothing(sockets[0]);
    expect_nothing(sockets[2]);

    /* A newcomer hears of the living only. */
    uint16_t id;
    int late = connect_peer(f.server, &id);
    assert_int_equal(id, 3);
    expect_hello(late, 3);
    expect_eventfds(late, 0, 2, NULL);
    expect_eventfds(late, 2, 2, NULL);
    expect_eventfds(late, 3, 2, NULL);
    expect_nothing(late);
    close(sockets[0]);
    close(sockets[2]);
    close(late);
    tear_down(&f, 0);
}

static void a_peer_that_sends_a_byte_is_gone(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    uint16_t id;
    int watcher = connect_peer(f.server, &id);
    int talker = connect_peer(f.server, &id);
    expect_hello(watcher, 0);
    expect_eventfds(watcher, 0, 1, NULL);
    expect_eventfds(watcher, 1, 1, NULL);
    assert_int_equal(write(talker, "x", 1), 1);
    expect_plain(watcher, 1);
    assert_int_equal(ivshmem_server_n_peers(f.server), 1);
    close(watcher);
    close(talker);
    tear_down(&f, 0);
}

static void a_peer_that_shuts_down_its_sending_side_is_gone(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    uint16_t id;
    int socket = connect_peer(f.server, &id);
    shutdown(socket, SHUT_WR);
    assert_true(ivshmem_server_wait_peers(f.server, 0, DEADLINE_MS));
    close(socket);
    tear_down(&f, 0);
}

static void a_peer_made_to_leave_is_disconnected_and_reported(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    uint16_t watcher_id, id;
    int member[2];
    int watcher = connect_peer(f.server, &watcher_id);
    int socket = connect_peer(f.server, &id);
    uint16_t member_id = join_peer(f.server, 2, member);
    expect_hello(watcher, 0);
    expect_eventfds(watcher, 0, 1, NULL);
    expect_eventfds(watcher, 1, 1, NULL);
    expect_eventfds(watcher, 2, 2, NULL);

    assert_true(ivshmem_server_leave(f.server, id));
    assert_false(ivshmem_server_leave(f.server, id));
    expect_plain(watcher, id);
    expect_hello(socket, id);
    expect_eventfds(socket, 0, 1, NULL);
    expect_eventfds(socket, 1, 1, NULL);
    expect_eventfds(socket, 2, 2, NULL);
    expect_end(socket);

    assert_true(ivshmem_server_leave(f.server, member_id));
    expect_plain(watcher, member_id);
    expect_nothing(watcher);
    assert_false(ivshmem_server_ring(f.server, member_id, 0));
    assert_int_equal(ivshmem_server_n_peers(f.server), 1);
    close(watcher);
    close(socket);
    tear_down(&f, 0);
}

static void freeing_the_server_ends_all_connections_and_leaves_the_memory(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    uint16_t id;
    int member;
    int socket = connect_peer(f.server, &id);
    join_peer(f.server, 1, &member);
    expect_plain(socket, 0);
    expect_plain(socket, 0);
    int memory = expect_with_fd(socket, -1);
    int own = expect_with_fd(socket, 0);
    int others = expect_with_fd(socket, 1);
    tear_down(&f, 4); /* what this test still holds */
    expect_end(socket);
    assert_int_equal(lseek(memory, 0, SEEK_END), MEMORY_BYTES);
    ring(own);
    assert_int_equal(take(own), 1);
    ring(others);
    close(memory);
    close(own);
    close(others);
    close(socket);
}

/* ---- vectors ---- */

static void peers_may_have_different_numbers_of_vectors(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 64);
    int one[1], many[IVSHMEM_SERVER_MAX_VECTORS], three[3];
    uint16_t id;
    join_peer(f.server, 1, one);
    join_peer(f.server, IVSHMEM_SERVER_MAX_VECTORS, many);
    int socket = connect_peer(f.server, &id);
    join_peer(f.server, 3, three);

    expect_hello(socket, 2);
    expect_eventfds(socket, 0, 1, NULL);
    expect_eventfds(socket, 1, 64, NULL);
    expect_eventfds(socket, 2, 64, NULL);
    expect_eventfds(socket, 3, 3, NULL);
    expect_nothing(socket);

    assert_true(ivshmem_server_ring(f.server, 1, 63));
    assert_int_equal(take(many[63]), 1);
    assert_int_equal(take(many[62]), 0);
    assert_false(ivshmem_server_ring(f.server, 0, 1));
    assert_false(ivshmem_server_ring(f.server, 1, 64));
    assert_false(ivshmem_server_ring(f.server, 77, 0));
    close(socket);
    tear_down(&f, 0);
}

static void ringing_adds_up_until_it_is_taken(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    int member;
    uint16_t id = join_peer(f.server, 1, &member);
    assert_int_equal(take(member), 0);
    for (unsigned i = 0; i < 5; i++)
        assert_true(ivshmem_server_ring(f.server, id, 0));
    assert_int_equal(take(member), 5);
    uint64_t full = UINT64_MAX - 1;
    assert_int_equal(write(member, &full, sizeof(full)), sizeof(full));
    assert_true(ivshmem_server_ring(f.server, id, 0)); /* neither blocks nor fails */
    assert_int_equal(take(member), full);
    tear_down(&f, 0);
}

static void expect_refused(int memory_fd, unsigned n_vectors, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    assert_null(ivshmem_server_new(memory_fd, n_vectors, &error));
    assert_true(g_error_matches(error, IVSHMEM_SERVER_ERROR, code));
    assert_non_null(strstr(error->message, text));
}

static void vectors_and_memory_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    g_autoptr(GError) error = NULL;
    int fds[1];
    uint16_t id;
    expect_refused(f.memory_fd, 0, IVSHMEM_SERVER_ERROR_INVALID, "0 vectors");
    expect_refused(f.memory_fd, 65, IVSHMEM_SERVER_ERROR_INVALID, "65 vectors");
    expect_refused(-1, 1, IVSHMEM_SERVER_ERROR_SYSTEM, "Bad file descriptor");
    assert_int_equal(ftruncate(f.memory_fd, 12288), 0);
    expect_refused(f.memory_fd, 1, IVSHMEM_SERVER_ERROR_INVALID, "12288 bytes");
    assert_int_equal(ftruncate(f.memory_fd, 2048), 0);
    expect_refused(f.memory_fd, 1, IVSHMEM_SERVER_ERROR_INVALID, "2048 bytes");
    assert_int_equal(ftruncate(f.memory_fd, 0), 0);
    expect_refused(f.memory_fd, 1, IVSHMEM_SERVER_ERROR_INVALID, "0 bytes");

    assert_false(ivshmem_server_join(f.server, 65, fds, &id, &error));
    assert_true(g_error_matches(error, IVSHMEM_SERVER_ERROR, IVSHMEM_SERVER_ERROR_INVALID));
    assert_int_equal(ivshmem_server_n_peers(f.server), 0);
    tear_down(&f, 0);
}

/* ---- ids ---- */

static void ids_are_given_in_turn_and_those_in_use_are_passed_over(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    int fd;
    assert_int_equal(join_peer(f.server, 1, &fd), 0);
    assert_int_equal(join_peer(f.server, 1, &fd), 1);
    assert_int_equal(join_peer(f.server, 1, &fd), 2);
    assert_true(ivshmem_server_leave(f.server, 1));
    for (unsigned id = 3; id <= IVSHMEM_SERVER_MAX_ID; id++) {
        assert_int_equal(join_peer(f.server, 1, &fd), id);
        assert_true(ivshmem_server_leave(f.server, (uint16_t)id));
    }
    assert_int_equal(join_peer(f.server, 1, &fd), 1);
    assert_int_equal(join_peer(f.server, 1, &fd), 3);
    tear_down(&f, 0);
}

static void when_all_65536_ids_are_in_use_no_peer_more_can_come(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    g_autoptr(GError) error = NULL;
    int fd;
    uint16_t id;
    for (unsigned i = 0; i < IVSHMEM_SERVER_MAX_ID; i++)
        assert_int_equal(join_peer(f.server, 0, NULL), i);
    int last = connect_peer(f.server, &id);
    assert_int_equal(id, IVSHMEM_SERVER_MAX_ID);
    assert_int_equal(ivshmem_server_n_peers(f.server), IVSHMEM_SERVER_MAX_ID + 1);
    assert_false(ivshmem_server_join(f.server, 1, &fd, &id, &error));
    assert_true(g_error_matches(error, IVSHMEM_SERVER_ERROR, IVSHMEM_SERVER_ERROR_FULL));
    g_clear_error(&error);
    assert_false(ivshmem_server_connect(f.server, &fd, &id, &error));
    assert_true(g_error_matches(error, IVSHMEM_SERVER_ERROR, IVSHMEM_SERVER_ERROR_FULL));
    assert_true(ivshmem_server_leave(f.server, 40000));
    assert_int_equal(join_peer(f.server, 1, &fd), 40000);
    expect_hello(last, IVSHMEM_SERVER_MAX_ID);
    expect_eventfds(last, IVSHMEM_SERVER_MAX_ID, 1, NULL);
    expect_eventfds(last, 40000, 1, NULL); /* the only other one with a vector */
    expect_nothing(last);
    close(last);
    tear_down(&f, 0);
}

static void a_recycled_id_inherits_nothing(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    uint16_t id;
    int old_fds[2], new_fd, ignored;
    int watcher = connect_peer(f.server, &id);
    assert_int_equal(join_peer(f.server, 2, old_fds), 1);
    expect_hello(watcher, 0);
    expect_eventfds(watcher, 0, 1, NULL);
    int old_seen[2], new_seen;
    expect_eventfds(watcher, 1, 2, old_seen);
    ring(old_seen[0]); /* left pending when the old owner goes */
    assert_true(ivshmem_server_leave(f.server, 1));

    for (unsigned other = 2; other <= IVSHMEM_SERVER_MAX_ID; other++) {
        assert_int_equal(join_peer(f.server, 1, &ignored), other);
        assert_true(ivshmem_server_leave(f.server, (uint16_t)other));
    }
    assert_int_equal(join_peer(f.server, 1, &new_fd), 1);

    expect_plain(watcher, 1); /* the old owner's end comes before the new owner's eventfd */
    /* Those that came and went while the watcher read nothing: for each, announcement and notice,
     * or neither. */
    int64_t value;
    int fd;
    bool was_announced = false;
    for (;;) {
        assert_true(receive(watcher, &value, &fd, DEADLINE_MS));
        if (value == 1)
            break;
        assert_int_equal(fd >= 0, !was_announced);
        was_announced = fd >= 0;
        if (fd >= 0)
            close(fd);
    }
    new_seen = fd;
    assert_true(new_seen >= 0);
    assert_int_equal(take(new_fd), 0);
    ring(old_seen[0]);
    ring(old_seen[1]);
    assert_int_equal(take(new_fd), 0);
    ring(new_seen);
    assert_int_equal(take(new_fd), 1);
    assert_false(ivshmem_server_ring(f.server, 1, 1)); /* the old owner had a second vector */
    close(old_seen[0]);
    close(old_seen[1]);
    close(new_seen);
    close(watcher);
    tear_down(&f, 0);
}

/* ---- waiting ---- */

static void waiting_for_peers_that_do_not_come_ends_at_the_deadline(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    assert_true(ivshmem_server_wait_peers(f.server, 0, 0));
    assert_false(ivshmem_server_wait_peers(f.server, 1, 0));
    assert_false(ivshmem_server_wait_peers(f.server, 1, 1));
    tear_down(&f, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_peer_gets_version_id_memory_the_others_vectors_and_then_its_own),
        cmocka_unit_test(all_peers_get_the_memory_the_server_was_made_with),
        cmocka_unit_test(peers_that_are_there_are_told_of_a_newcomer),
        cmocka_unit_test(a_peer_may_come_through_the_abstract_socket),
        cmocka_unit_test(a_peer_that_comes_while_descriptors_are_short_is_served_later),
        cmocka_unit_test(a_peer_that_dies_is_reported_to_the_others),
        cmocka_unit_test(a_peer_that_sends_a_byte_is_gone),
        cmocka_unit_test(a_peer_that_shuts_down_its_sending_side_is_gone),
        cmocka_unit_test(a_peer_made_to_leave_is_disconnected_and_reported),
        cmocka_unit_test(freeing_the_server_ends_all_connections_and_leaves_the_memory),
        cmocka_unit_test(peers_may_have_different_numbers_of_vectors),
        cmocka_unit_test(ringing_adds_up_until_it_is_taken),
        cmocka_unit_test(vectors_and_memory_that_cannot_be_are_refused),
        cmocka_unit_test(ids_are_given_in_turn_and_those_in_use_are_passed_over),
        cmocka_unit_test(when_all_65536_ids_are_in_use_no_peer_more_can_come),
        cmocka_unit_test(a_recycled_id_inherits_nothing),
        cmocka_unit_test(waiting_for_peers_that_do_not_come_ends_at_the_deadline),
    };
    return cmocka_run_group_tests_name("ivshmem_server", tests, NULL, NULL);
}
