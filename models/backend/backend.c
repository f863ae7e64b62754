/*
 * What all back ends share, and those without a wire: null and source.
 */
#include "models/backend/backend_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

G_DEFINE_QUARK(ringlab - backend, backend_error)

void backend_free(struct backend *b)
{
    if (b) {
        b->ops->free(b);
    }
}

void backend_count_sent(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    b->stats.sent += n;
    for (unsigned i = 0; i < n; i++) {
        b->stats.sent_bytes += frames[i].len;
    }
}

void backend_count_received(struct backend *b, uint32_t len)
{
    b->stats.received++;
    b->stats.received_bytes += len;
}

void backend_set_errno(GError **error, int errno_value, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, BACKEND_ERROR, errno_value, "%s: %s", what, g_strerror(errno_value));
}

int backend_new_eventfd(GError **error)
{
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        backend_set_errno(error, errno, "eventfd");
    }
    return fd;
}

bool backend_set_nonblocking(int fd, GError **error)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        backend_set_errno(error, errno, "descriptor %d", fd);
        return false;
    }
    return true;
}

/* ---- null ---- */

static unsigned null_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    backend_count_sent(b, frames, n);
    return n;
}

static unsigned null_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    (void)b;
    (void)frames;
    (void)n;
    return 0;
}

static void null_free(struct backend *b)
{
    g_free(b->name);
    g_free(b);
}

struct backend *backend_null_new(void)
{
    static const struct backend_ops ops = {"null", null_send, null_receive, null_free};
    struct backend *b = g_new0(struct backend, 1);

    *b = (struct backend){.ops = &ops, .name = g_strdup("null"), .fd = -1};
    b->is_ended = true;
    return b;
}

/* ---- source ---- */

struct source {
    struct backend b;
    uint8_t *frame;
    uint32_t len;
    uint64_t n_left; /* UINT64_MAX: without end */
};

static unsigned source_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    struct source *s = (struct source *)b;
    unsigned n_done = 0;

    while (n_done < n && s->n_left > 0) {
        struct backend_frame *f = &frames[n_done];
        s->n_left -= s->n_left != UINT64_MAX;
        if (f->len < s->len) {
            b->stats.dropped_receive++;
            if (s->n_left == UINT64_MAX) {
                break; /* all of them are too long */
            }
            continue;
        }
        memcpy(f->data, s->frame, s->len);
        f->len = s->len;
        f->time_ns = 0;
        backend_count_received(b, s->len);
        n_done++;
    }
    if (s->n_left == 0 && !b->is_ended) {
        uint64_t count;
        b->is_ended = true;
        (void)!read(b->fd, &count, sizeof(count));
    }
    return n_done;
}

static void source_free(struct backend *b)
{
    struct source *s = (struct source *)b;

    close(b->fd);
    g_free(b->name);
    g_free(s->frame);
    g_free(s);
}

struct backend *backend_source_new(const void *frame, uint32_t len, uint64_t n_frames,
                                   GError **error)
{
    static const struct backend_ops ops = {"source", null_send, source_receive, source_free};

    if (len == 0 || len > BACKEND_MAX_FRAME) {
        backend_set_errno(error, EINVAL, "a source of frames of %u bytes", len);
        return NULL;
    }
    int fd = backend_new_eventfd(error);
    if (fd < 0) {
        return NULL;
    }
    struct source *s = g_new0(struct source, 1);
    s->b = (struct backend){.ops = &ops, .name = g_strdup("source"), .fd = fd};
    s->frame = g_memdup2(frame, len);
    s->len = len;
    s->n_left = n_frames ? n_frames : UINT64_MAX;
    return &s->b;
}
