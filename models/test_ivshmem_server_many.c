/*
 * The ivshmem server with peers that do not read, and with many that come and die at once, from
 * several threads.
 */
#include "models/test_ivshmem_client.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- peers that do not read, and many at once ---- */

static void a_peer_that_does_not_read_is_not_waited_for_and_catches_up_later(void **state)
{
    (void)state;
    enum { N_CAME_AND_WENT = 3000, N_STAYED = 400 };
    struct fixture f;
    set_up(&f, 1);
    int fd;
    uint16_t id, last = 0;
    int sleeper = connect_peer(f.server, &id);
    for (unsigned i = 0; i < N_CAME_AND_WENT; i++)
        assert_true(ivshmem_server_leave(f.server, join_peer(f.server, 1, &fd)));
    for (unsigned i = 0; i < N_STAYED; i++)
        last = join_peer(f.server, 1, &fd);
    assert_int_equal(ivshmem_server_n_peers(f.server), 1 + N_STAYED);

    g_autofree struct view *view = g_new0(struct view, 1);
    expect_hello(sleeper, id);
    follow_until(view, sleeper, last);
    expect_nothing(sleeper);
    assert_int_equal(view->vectors[id], 1);
    for (unsigned other = 1; other <= IVSHMEM_SERVER_MAX_ID; other++)
        assert_int_equal(view->vectors[other], other > N_CAME_AND_WENT && other <= last);
    /* Those who left before their announcement was sent are never mentioned. */
    assert_true(view->n_messages < 1 + N_STAYED + 1000);
    close(sleeper);
    tear_down(&f, 0);
}

static void a_peer_that_never_read_can_leave_or_die(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 64);
    uint16_t left, died;
    int fds[IVSHMEM_SERVER_MAX_VECTORS];
    int leaver = connect_peer(f.server, &left);
    int dier = connect_peer(f.server, &died);
    for (unsigned i = 0; i < 10; i++)
        join_peer(f.server, IVSHMEM_SERVER_MAX_VECTORS, fds);
    assert_true(ivshmem_server_leave(f.server, left));
    close(dier);
    assert_true(ivshmem_server_wait_peers(f.server, 10, DEADLINE_MS));
    close(leaver);
    tear_down(&f, 0);
}

/* The body of the next test, in a process of its own with the rights of an ordinary user: returns
 * the line of the first thing that was not as it should be, or 0. The kernel allows such a user no
 * more unread descriptors than it may have open ones. */
static int run_short_of_descriptors_under_way(void)
{
    enum { N_CONNECTED = 6, N_STAYED = 20, N_DESCRIPTORS = 1 + N_CONNECTED + N_STAYED };
    rlim_t max_open = n_open_descriptors() + 60; /* opened below: 6, 18 and 20 */
    struct rlimit limit = {.rlim_cur = max_open, .rlim_max = max_open};
    int memory_fd = memfd_create("test", MFD_CLOEXEC);
    int fd, sockets[N_CONNECTED];
    uint16_t id;
    if (ftruncate(memory_fd, MEMORY_BYTES) != 0 || setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return __LINE__;
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        return __LINE__;
    struct ivshmem_server *server = ivshmem_server_new(memory_fd, 1, NULL);
    if (!server)
        return __LINE__;
    /* 6 peers with at least 22 descriptors each to read: 132 under way if there were no limit. */
    for (unsigned i = 0; i < N_CONNECTED; i++)
        if (!ivshmem_server_connect(server, &sockets[i], &id, NULL))
            return __LINE__;
    for (unsigned i = 0; i < N_STAYED; i++)
        if (!ivshmem_server_join(server, 1, &fd, &id, NULL))
            return __LINE__;
    /* In turn, as peers do: one that read alone could wait for ever for what the others hold. */
    unsigned n_done = 0, n_fds[N_CONNECTED] = {0};
    gint64 deadline = g_get_monotonic_time() + DEADLINE_MS * 1000;
    for (unsigned i = 0; n_done < N_CONNECTED; i = (i + 1) % N_CONNECTED) {
        int64_t value;
        if (n_fds[i] == N_DESCRIPTORS || !receive(sockets[i], &value, &fd, 1)) {
            if (g_get_monotonic_time() > deadline)
                return __LINE__;
        } else if (fd >= 0) {
            close(fd);
            if (++n_fds[i] == N_DESCRIPTORS) {
                n_done++;
                if (value != id) /* the last that joined is the last announced */
                    return __LINE__;
            }
        }
    }
    ivshmem_server_free(server);
    return 0;
}

static void descriptors_the_kernel_refuses_to_carry_are_sent_later(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int line = run_short_of_descriptors_under_way();
        if (line != 0)
            dprintf(2, "# line %d\n", line);
        _exit(line != 0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

enum { N_THREADS = 4, N_ROUNDS = 60, N_KEPT = 25 };

struct crowd {
    struct ivshmem_server *server;
    unsigned seed;
    int kept_sockets[N_KEPT];
    uint8_t kept_vectors[N_KEPT];
    uint16_t kept_ids[N_KEPT];
    const char *failure;
};

/* One peer comes and goes: by closing at once, after part of the messages, by talking, by being
 * made to leave, or as a member of this process. */
static const char *come_and_go(struct crowd *crowd, GRand *rand)
{
    uint16_t id;
    int socket = -1, fd, fds[4];
    int64_t value;
    int how = g_rand_int_range(rand, 0, 5);
    if (how == 4) {
        if (!ivshmem_server_join(crowd->server, 4, fds, &id, NULL))
            return "join failed";
        if (!ivshmem_server_ring(crowd->server, id, 3) || take(fds[3]) != 1)
            return "a member was not rung";
        return ivshmem_server_leave(crowd->server, id) ? NULL : "a member could not leave";
    }
    if (!ivshmem_server_connect(crowd->server, &socket, &id, NULL))
        return "connect failed";
    const char *failure = NULL;
    int n_read = how == 0 ? 0 : g_rand_int_range(rand, 3, 40);
    for (int i = 0; i < n_read && !failure; i++) {
        if (!receive(socket, &value, &fd, i < 3 ? DEADLINE_MS : 0)) {
            failure = i < 3 ? "the first messages were not there" : NULL;
            break;
        }
        if (i < 3 && value != (i == 0 ? 0 : i == 1 ? id : -1))
            failure = "the first messages were not version, id, memory";
        if (fd >= 0)
            close(fd);
    }
    if (how == 2 && write(socket, "!", 1) != 1)
        failure = "a client could not talk";
    if (how == 3 && !ivshmem_server_leave(crowd->server, id))
        failure = "a connected peer could not be made to leave";
    close(socket);
    return failure;
}

static void *crowd_thread(void *data)
{
    struct crowd *crowd = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(crowd->seed);
    unsigned n_kept = 0;
    for (unsigned round = 0; round < N_ROUNDS && !crowd->failure; round++) {
        crowd->failure = come_and_go(crowd, rand);
        if (round % 2 == 0 && n_kept < N_KEPT && !crowd->failure) {
            int fds[3];
            bool is_member = n_kept % 2 == 0;
            crowd->kept_vectors[n_kept] = is_member ? 3 : 2;
            crowd->kept_sockets[n_kept] = -1;
            bool ok =
                is_member
                    ? ivshmem_server_join(crowd->server, 3, fds, &crowd->kept_ids[n_kept], NULL)
                    : ivshmem_server_connect(crowd->server, &crowd->kept_sockets[n_kept],
                                             &crowd->kept_ids[n_kept], NULL);
            if (!ok)
                crowd->failure = "a peer could not come";
            n_kept++;
        }
    }
    return NULL;
}

static void a_hundred_peers_coming_and_dying_in_several_threads_leave_an_exact_view(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 2);
    uint16_t watcher_id;
    int watcher = connect_peer(f.server, &watcher_id), marker;
    struct crowd crowds[N_THREADS];
    pthread_t threads[N_THREADS];
    memset(crowds, 0, sizeof(crowds));
    for (unsigned i = 0; i < N_THREADS; i++) {
        crowds[i].server = f.server;
        crowds[i].seed = 1 + i;
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_thread, &crowds[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < N_THREADS; i++)
        if (crowds[i].failure)
            fail_msg("thread %u: %s", i, crowds[i].failure);
    assert_true(ivshmem_server_wait_peers(f.server, 1 + N_THREADS * N_KEPT, DEADLINE_MS));

    g_autofree struct view *view = g_new0(struct view, 1);
    g_autofree struct view *wanted = g_new0(struct view, 1);
    uint16_t marker_id = join_peer(f.server, 1, &marker);
    wanted->vectors[watcher_id] = 2;
    wanted->vectors[marker_id] = 1;
    for (unsigned i = 0; i < N_THREADS; i++)
        for (unsigned k = 0; k < N_KEPT; k++) {
            assert_int_equal(wanted->vectors[crowds[i].kept_ids[k]], 0); /* no id twice */
            wanted->vectors[crowds[i].kept_ids[k]] = crowds[i].kept_vectors[k];
        }
    expect_hello(watcher, watcher_id);
    follow_until(view, watcher, marker_id);
    assert_memory_equal(view->vectors, wanted->vectors, sizeof(wanted->vectors));

    for (unsigned i = 0; i < N_THREADS; i++)
        for (unsigned k = 0; k < N_KEPT; k++)
            if (crowds[i].kept_sockets[k] >= 0)
                close(crowds[i].kept_sockets[k]);
    /* 12 of each thread's 25 were connected; 13 and the marker are members. */
    assert_true(ivshmem_server_wait_peers(f.server, 1 + N_THREADS * 13 + 1, DEADLINE_MS));
    close(watcher);
    tear_down(&f, 0);
}

static void *kill_thread(void *data)
{
    const int *sockets = data;
    for (unsigned i = 0; i < 50; i++)
        close(sockets[i]);
    return NULL;
}

static void peers_dying_while_others_connect_are_all_reported(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    int dying[50], staying[50], marker;
    uint16_t id, watcher_id, staying_ids[50];
    pthread_t thread;
    int watcher = connect_peer(f.server, &watcher_id);
    for (unsigned i = 0; i < 50; i++)
        dying[i] = connect_peer(f.server, &id);
    assert_int_equal(pthread_create(&thread, NULL, kill_thread, dying), 0);
    for (unsigned i = 0; i < 50; i++)
        staying[i] = connect_peer(f.server, &staying_ids[i]);
    pthread_join(thread, NULL);
    assert_true(ivshmem_server_wait_peers(f.server, 51, DEADLINE_MS));
    uint16_t marker_id = join_peer(f.server, 1, &marker);

    g_autofree struct view *wanted = g_new0(struct view, 1);
    wanted->vectors[watcher_id] = 1;
    wanted->vectors[marker_id] = 1;
    for (unsigned i = 0; i < 50; i++)
        wanted->vectors[staying_ids[i]] = 1;
    for (unsigned i = 0; i < 50; i++) {
        g_autofree struct view *view = g_new0(struct view, 1);
        expect_hello(staying[i], staying_ids[i]);
        follow_until(view, staying[i], marker_id);
        assert_memory_equal(view->vectors, wanted->vectors, sizeof(wanted->vectors));
    }
    for (unsigned i = 0; i < 50; i++)
        close(staying[i]);
    close(watcher);
    tear_down(&f, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_that_does_not_read_is_not_waited_for_and_catches_up_later),
        cmocka_unit_test(a_peer_that_never_read_can_leave_or_die),
        cmocka_unit_test(descriptors_the_kernel_refuses_to_carry_are_sent_later),
        cmocka_unit_test(a_hundred_peers_coming_and_dying_in_several_threads_leave_an_exact_view),
        cmocka_unit_test(peers_dying_while_others_connect_are_all_reported),
    };
    return cmocka_run_group_tests_name("ivshmem_server_many", tests, NULL, NULL);
}
