/*
 * A client of the ivshmem server for tests: a few lines of recvmsg, so that the wire itself is
 * checked, and a server over a small memory that must leave no descriptor behind.
 */
#ifndef RINGLAB_TEST_IVSHMEM_CLIENT_H
#define RINGLAB_TEST_IVSHMEM_CLIENT_H

#include "models/ivshmem_server.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { MEMORY_BYTES = 1 << 16, DEADLINE_MS = 10000 };

/* ---- a client ---- */

/* Reads one message. *fd is -1 if none came with it. False at the end of the connection or after
 * `timeout_ms` without a message. */
static inline bool receive(int socket, int64_t *value, int *fd, int timeout_ms)
{
    struct pollfd p = {.fd = socket, .events = POLLIN};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    uint64_t wire = 0;
    struct iovec iov = {.iov_base = &wire, .iov_len = sizeof(wire)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};

    *fd = -1;
    if (poll(&p, 1, timeout_ms) != 1)
        return false;
    if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(wire))
        return false;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(cmsg), sizeof(int));
    *value = (int64_t)GUINT64_FROM_LE(wire);
    return true;
}

static inline void expect_plain(int socket, int64_t value)
{
    int64_t got = 0;
    int fd;
    assert_true(receive(socket, &got, &fd, DEADLINE_MS));
    assert_int_equal(got, value);
    assert_int_equal(fd, -1);
}

/* The descriptor belongs to the caller. */
static inline int expect_with_fd(int socket, int64_t value)
{
    int64_t got = 0;
    int fd;
    assert_true(receive(socket, &got, &fd, DEADLINE_MS));
    assert_int_equal(got, value);
    assert_true(fd >= 0);
    return fd;
}

static inline void expect_eventfds(int socket, int64_t id, unsigned n, int *fds)
{
    for (unsigned i = 0; i < n; i++) {
        int fd = expect_with_fd(socket, id);
        if (fds)
            fds[i] = fd;
        else
            close(fd);
    }
}

static inline void expect_nothing(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
}

static inline void expect_end(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLIN};
    char byte;
    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    assert_int_equal(recv(socket, &byte, 1, 0), 0);
}

/* Reads the three messages a device needs; leaves the eventfds. */
static inline void expect_hello(int socket, int64_t id)
{
    expect_plain(socket, 0);
    expect_plain(socket, id);
    close(expect_with_fd(socket, -1));
}

/* The count of an eventfd, which becomes 0; 0 if nothing was rung. */
static inline uint64_t take(int eventfd)
{
    uint64_t count = 0;
    if (read(eventfd, &count, sizeof(count)) != (ssize_t)sizeof(count))
        assert_int_equal(errno, EAGAIN);
    return count;
}

static inline void ring(int eventfd)
{
    uint64_t one = 1;
    assert_int_equal(write(eventfd, &one, sizeof(one)), sizeof(one));
}

/* What a client knows of the others: how many eventfds of each id it was given. */
struct view {
    uint8_t vectors[IVSHMEM_SERVER_MAX_ID + 1];
    unsigned n_messages;
};

/* Applies everything up to and with the only eventfd of peer `last`. */
static inline void follow_until(struct view *view, int socket, uint16_t last)
{
    for (;;) {
        int64_t id = -1;
        int fd;
        assert_true(receive(socket, &id, &fd, DEADLINE_MS));
        assert_in_range(id, 0, IVSHMEM_SERVER_MAX_ID);
        view->n_messages++;
        if (fd >= 0) {
            close(fd);
            view->vectors[id]++;
        } else {
            assert_int_not_equal(view->vectors[id], 0); /* only of peers it was told of */
            view->vectors[id] = 0;
        }
        if (id == last && fd >= 0)
            return;
    }
}

/* ---- fixture: a server over a small memory, and no descriptor left behind ---- */

struct fixture {
    struct ivshmem_server *server;
    int memory_fd;
    unsigned n_open_before;
};

static inline unsigned n_open_descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    unsigned n = 0;
    assert_non_null(dir);
    while (g_dir_read_name(dir))
        n++;
    return n;
}

static inline void set_up(struct fixture *f, unsigned n_vectors)
{
    g_autoptr(GError) error = NULL;
    f->n_open_before = n_open_descriptors();
    f->memory_fd = memfd_create("test", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->memory_fd, MEMORY_BYTES), 0);
    f->server = ivshmem_server_new(f->memory_fd, n_vectors, &error);
    assert_non_null(f->server);
    assert_null(error);
}

/* `n_held`: descriptors that the test still has, beside those of the fixture. */
static inline void tear_down(struct fixture *f, unsigned n_held)
{
    ivshmem_server_free(f->server);
    close(f->memory_fd);
    assert_int_equal(n_open_descriptors(), f->n_open_before + n_held);
}

static inline int connect_peer(struct ivshmem_server *server, uint16_t *id)
{
    g_autoptr(GError) error = NULL;
    int fd = -1;
    if (!ivshmem_server_connect(server, &fd, id, &error))
        fail_msg("%s", error->message);
    return fd;
}

static inline uint16_t join_peer(struct ivshmem_server *server, unsigned n_vectors, int *eventfds)
{
    g_autoptr(GError) error = NULL;
    uint16_t id = 0;
    if (!ivshmem_server_join(server, n_vectors, eventfds, &id, &error))
        fail_msg("%s", error->message);
    return id;
}

#endif
