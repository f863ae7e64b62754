/*
 * QEMU's socket netdevs. -netdev stream: 4 bytes of length, big endian, then the frame. -netdev
 * dgram: a frame per datagram. Follows net/stream.c, net/dgram.c and net/net.c (SocketReadState) of
 * QEMU 7.2.
 */
#include "models/backend/backend_private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LENGTH_BYTES = 4, BUFFER_BYTES = 4 * (BACKEND_MAX_FRAME + LENGTH_BYTES) };

struct stream {
    struct backend b;
    size_t in_from, in_to;   /* of `in`: read and not yet taken */
    size_t out_from, out_to; /* of `out`: the rest of a frame that the socket took a part of */
    GMutex out_lock;
    uint8_t in[BUFFER_BYTES];
    uint8_t out[LENGTH_BYTES + BACKEND_MAX_FRAME];
};

/* ---- stream: sending ---- */

/* True if nothing of an earlier frame waits any more. */
static bool flush(struct stream *s)
{
    while (s->out_from < s->out_to) {
        ssize_t sent = send(s->b.fd, s->out + s->out_from, s->out_to - s->out_from, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return false;
        }
        s->out_from += (size_t)sent;
    }
    s->out_from = s->out_to = 0;
    return true;
}

static void keep_rest(struct stream *s, const struct backend_frame *f, const uint8_t *length,
                      size_t sent)
{
    s->out_to = 0;
    if (sent < LENGTH_BYTES) {
        s->out_to = LENGTH_BYTES - sent;
        memcpy(s->out, length + sent, s->out_to);
        sent = LENGTH_BYTES;
    }
    memcpy(s->out + s->out_to, f->data + (sent - LENGTH_BYTES), f->len - (sent - LENGTH_BYTES));
    s->out_to += f->len - (sent - LENGTH_BYTES);
    s->out_from = 0;
}

/* 1: taken, 0: full for now, -1: nobody is there. */
static int send_one(struct stream *s, const struct backend_frame *f)
{
    uint8_t length[LENGTH_BYTES] = {(uint8_t)(f->len >> 24), (uint8_t)(f->len >> 16),
                                    (uint8_t)(f->len >> 8), (uint8_t)f->len};
    struct iovec pieces[2] = {{length, LENGTH_BYTES}, {f->data, f->len}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    ssize_t sent;

    do {
        sent = sendmsg(s->b.fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return errno == EAGAIN ? 0 : -1;
    }
    if ((size_t)sent < LENGTH_BYTES + f->len) {
        keep_rest(s, f, length, (size_t)sent);
    }
    return 1;
}

static unsigned stream_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    struct stream *s = (struct stream *)b;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&s->out_lock);

    if (!flush(s) && errno == EAGAIN) {
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        int taken = -1;
        if (frames[i].len > 0 && frames[i].len <= BACKEND_MAX_FRAME) {
            taken = flush(s) ? send_one(s, &frames[i]) : (errno == EAGAIN ? 0 : -1);
        }
        if (taken == 0) {
            return i;
        }
        if (taken < 0) {
            b->stats.dropped_send++;
        } else {
            backend_count_sent(b, &frames[i], 1);
        }
    }
    return n;
}

/* ---- stream: receiving ---- */

/* Reads what is there. False: nothing (more). */
static bool fill(struct stream *s)
{
    if (s->in_from > 0) {
        memmove(s->in, s->in + s->in_from, s->in_to - s->in_from);
        s->in_to -= s->in_from;
        s->in_from = 0;
    }
    ssize_t got = recv(s->b.fd, s->in + s->in_to, BUFFER_BYTES - s->in_to, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        s->b.is_ended = true;
    }
    s->in_to += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* The next whole frame in the buffer, or NULL. A length that cannot be ends the connection: what
 * follows it has no meaning. */
static const uint8_t *next_frame(struct stream *s, uint32_t *len)
{
    const uint8_t *at = s->in + s->in_from;
    size_t there = s->in_to - s->in_from;

    if (there < LENGTH_BYTES) {
        return NULL;
    }
    *len = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    if (*len > BACKEND_MAX_FRAME) {
        s->b.stats.dropped_receive++;
        s->b.is_ended = true;
        s->in_from = s->in_to = 0;
        shutdown(s->b.fd, SHUT_RDWR);
        return NULL;
    }
    if (there < LENGTH_BYTES + *len) {
        return NULL;
    }
    s->in_from += LENGTH_BYTES + *len;
    return at + LENGTH_BYTES;
}

static unsigned stream_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    struct stream *s = (struct stream *)b;
    unsigned n_done = 0;

    if (g_mutex_trylock(&s->out_lock)) { /* else a sender is at it */
        flush(s);
        g_mutex_unlock(&s->out_lock);
    }
    while (n_done < n) {
        struct backend_frame *f = &frames[n_done];
        uint32_t len = 0;
        const uint8_t *bytes = next_frame(s, &len);
        if (!bytes) {
            if (b->is_ended || !fill(s)) {
                break;
            }
            continue;
        }
        if (len == 0 || len > f->len) {
            b->stats.dropped_receive++;
            continue;
        }
        memcpy(f->data, bytes, len);
        f->len = len;
        f->time_ns = 0;
        backend_count_received(b, len);
        n_done++;
    }
    return n_done;
}

static void stream_free(struct backend *b)
{
    struct stream *s = (struct stream *)b;

    close(b->fd);
    g_mutex_clear(&s->out_lock);
    g_free(b->name);
    g_free(s);
}

/* ---- dgram ---- */

static unsigned dgram_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ssize_t sent = send(b->fd, frames[i].data, frames[i].len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)frames[i].len) {
            backend_count_sent(b, &frames[i], 1);
        } else if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            return i;
        } else {
            b->stats.dropped_send++;
        }
    }
    return n;
}

static unsigned dgram_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    unsigned n_done = 0;

    while (n_done < n) {
        struct backend_frame *f = &frames[n_done];
        ssize_t got = recv(b->fd, f->data, f->len, MSG_TRUNC | MSG_DONTWAIT);
        if (got < 0) {
            if (errno == ECONNREFUSED) {
                continue; /* of a datagram sent before */
            }
            if (errno != EAGAIN && errno != EINTR) {
                b->is_ended = true;
            }
            break;
        }
        if ((size_t)got > f->len || got == 0) {
            b->stats.dropped_receive += got > 0;
            if (got == 0) {
                break;
            }
            continue;
        }
        f->len = (uint32_t)got;
        f->time_ns = 0;
        backend_count_received(b, f->len);
        n_done++;
    }
    return n_done;
}

static void dgram_free(struct backend *b)
{
    close(b->fd);
    g_free(b->name);
    g_free(b);
}

/* ---- making them ---- */

static bool has_type(int fd, int wanted, GError **error)
{
    int type = 0;
    socklen_t len = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        backend_set_errno(error, errno, "descriptor %d", fd);
        return false;
    }
    if (type != wanted) {
        backend_set_errno(error, EINVAL, "descriptor %d is no %s socket", fd,
                          wanted == SOCK_STREAM ? "stream" : "datagram");
        return false;
    }
    return backend_set_nonblocking(fd, error);
}

struct backend *backend_stream_from_fd(int fd, GError **error)
{
    static const struct backend_ops ops = {"stream", stream_send, stream_receive, stream_free};

    if (!has_type(fd, SOCK_STREAM, error)) {
        close(fd);
        return NULL;
    }
    struct stream *s = g_new0(struct stream, 1);
    s->b = (struct backend){.ops = &ops, .name = g_strdup("stream"), .fd = fd};
    g_mutex_init(&s->out_lock);
    return &s->b;
}

struct backend *backend_dgram_from_fd(int fd, GError **error)
{
    static const struct backend_ops ops = {"dgram", dgram_send, dgram_receive, dgram_free};

    if (!has_type(fd, SOCK_DGRAM, error)) {
        close(fd);
        return NULL;
    }
    struct backend *b = g_new0(struct backend, 1);
    *b = (struct backend){.ops = &ops, .name = g_strdup("dgram"), .fd = fd};
    return b;
}
