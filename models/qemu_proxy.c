/*
 * The connection of a modelled function with its QEMU: a thread that reads, has the message
 * handled and answers; and a watchdog, which hangs up when a model does not come back, because
 * QEMU, which blocks in every access, would otherwise wait for ever.
 */
#include "models/qemu_proxy_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

G_DEFINE_QUARK(ringlab_qemu_proxy_error, qemu_proxy_error)

enum { DEFAULT_DEADLINE_MS = 2000, REPLY_BYTES = 24 };

void qemu_proxy_say_why(struct qemu_proxy *p, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    pthread_mutex_lock(&p->lock);
    if (p->why_ended[0] == '\0')
        vsnprintf(p->why_ended, sizeof(p->why_ended), format, ap);
    pthread_mutex_unlock(&p->lock);
    va_end(ap);
}

/* ---- reading ---- */

/* What was received, or is being so. */
struct incoming {
    uint8_t bytes[sizeof(struct qemu_proxy_header) + QEMU_PROXY_MAX_PAYLOAD];
    size_t len;
    int fds[QEMU_PROXY_MAX_FDS];
    unsigned n_fds;
};

enum received { RECEIVED, RECEIVED_END, RECEIVED_BAD };

static void close_fds(struct incoming *in)
{
    for (unsigned i = 0; i < in->n_fds; i++)
        close(in->fds[i]);
    in->n_fds = 0;
}

/* Takes the descriptors out of a control message; closes those that are too many. */
static bool take_fds(struct incoming *in, struct msghdr *msg)
{
    bool is_good = !(msg->msg_flags & MSG_CTRUNC);

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (in->n_fds < QEMU_PROXY_MAX_FDS) {
                in->fds[in->n_fds++] = fd;
            } else {
                close(fd);
                is_good = false;
            }
        }
    }
    return is_good;
}

/* Reads until the message has `len` bytes. */
static enum received receive_until(struct qemu_proxy *p, struct incoming *in, size_t len)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(QEMU_PROXY_MAX_FDS * sizeof(int))];
    } control;

    while (in->len < len) {
        struct iovec iov = {in->bytes + in->len, len - in->len};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(p->fd, &msg, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return RECEIVED_END; /* inside of a message, too: it died while it spoke */
        in->len += (size_t)n;
        if (!take_fds(in, &msg)) {
            qemu_proxy_say_why(p, "QEMU sent more descriptors than %d, or than can be open here",
                               QEMU_PROXY_MAX_FDS);
            return RECEIVED_BAD;
        }
    }
    return RECEIVED;
}

static enum received receive(struct qemu_proxy *p, struct incoming *in)
{
    struct qemu_proxy_header header;

    in->len = 0;
    in->n_fds = 0;
    enum received r = receive_until(p, in, sizeof(header));
    if (r != RECEIVED)
        return r;
    memcpy(&header, in->bytes, sizeof(header));
    if (header.size > QEMU_PROXY_MAX_PAYLOAD) {
        qemu_proxy_say_why(p, "QEMU announced a message of %" G_GUINT64_FORMAT " bytes",
                           header.size);
        return RECEIVED_BAD;
    }
    return receive_until(p, in, sizeof(header) + header.size);
}

/* ---- serving ---- */

/* QEMU waits for each answer: a socket without room for one has a peer that never reads. */
static bool answer(struct qemu_proxy *p, const uint8_t *reply, ssize_t len)
{
    ssize_t n;

    do
        n = send(p->fd, reply, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n == len)
        return true;
    if (n >= 0 || errno == EAGAIN) {
        qemu_proxy_say_why(p, "QEMU does not read its answers");
        qemu_proxy_count(&p->bad_messages);
    }
    return false;
}

static bool serve_one(struct qemu_proxy *p)
{
    uint8_t reply[REPLY_BYTES];
    struct incoming in;
    enum received r = receive(p, &in);

    if (r != RECEIVED) {
        close_fds(&in);
        if (r == RECEIVED_BAD)
            qemu_proxy_count(&p->bad_messages);
        return false;
    }
    p->busy_since_us = g_get_monotonic_time();
    ssize_t len = qemu_proxy_message(p, in.bytes, in.len, in.fds, in.n_fds, reply);
    p->busy_since_us = 0;
    return len == 0 || (len > 0 && answer(p, reply, len));
}

static void destroy(struct qemu_proxy *p)
{
    pci_model_set_dma(p->model, NULL);
    pci_dma_free(p->dma);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    g_free(p);
}

static void *server_thread(void *data)
{
    struct qemu_proxy *p = data;

    while (serve_one(p))
        ;
    shutdown(p->fd, SHUT_RDWR);
    p->busy_since_us = g_get_monotonic_time();
    pci_model_reset(p->model);
    p->busy_since_us = 0;
    qemu_proxy_memory_forget(p);

    pthread_mutex_lock(&p->lock);
    close(p->fd);
    p->fd = -1;
    p->has_ended = true;
    bool is_abandoned = p->is_abandoned;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (is_abandoned)
        destroy(p);
    return NULL;
}

/* ---- the watchdog ---- */

static struct timespec timespec_of_us(int64_t us)
{
    return (struct timespec){us / G_USEC_PER_SEC, us % G_USEC_PER_SEC * 1000};
}

/* An access that begins while it sleeps ends no earlier than a deadline later, so that it never
 * has to be woken for one. */
static void *watchdog_thread(void *data)
{
    struct qemu_proxy *p = data;
    int64_t deadline_us = (int64_t)p->deadline_ms * 1000;

    pthread_mutex_lock(&p->lock);
    while (!p->is_stopping && !p->has_ended && !p->was_cut_off) {
        int64_t now = g_get_monotonic_time(), busy_since = p->busy_since_us;
        if (busy_since != 0 && now - busy_since >= deadline_us) {
            p->was_cut_off = true;
            snprintf(p->why_ended, sizeof(p->why_ended),
                     "the model took longer than %u ms over an access", p->deadline_ms);
            shutdown(p->fd, SHUT_RDWR);
            break;
        }
        struct timespec until = timespec_of_us((busy_since ? busy_since : now) + deadline_us);
        pthread_cond_timedwait(&p->changed, &p->lock, &until);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- beginning and end ---- */

/* Threads of ours never take the signals of the program. */
static int start_thread(pthread_t *thread, void *(*run)(void *), struct qemu_proxy *p)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, run, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void init(struct qemu_proxy *p)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static void stop_watchdog(struct qemu_proxy *p)
{
    pthread_mutex_lock(&p->lock);
    p->is_stopping = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->watchdog, NULL);
}

static bool start_threads(struct qemu_proxy *p, GError **error)
{
    int rc = start_thread(&p->watchdog, watchdog_thread, p);

    if (rc == 0) {
        rc = start_thread(&p->server, server_thread, p);
        if (rc != 0)
            stop_watchdog(p);
    }
    if (rc != 0)
        g_set_error(error, QEMU_PROXY_ERROR, QEMU_PROXY_ERROR_SYSTEM,
                    "%s: cannot start its thread: %s", pci_model_name(p->model), g_strerror(rc));
    return rc == 0;
}

struct qemu_proxy *qemu_proxy_new(struct pci_model *model, int fd,
                                  const struct qemu_proxy_options *options, GError **error)
{
    struct qemu_proxy *p = g_new0(struct qemu_proxy, 1);

    init(p);
    p->model = model;
    p->fd = fd;
    p->deadline_ms = options && options->deadline_ms ? options->deadline_ms : DEFAULT_DEADLINE_MS;
    p->hidden_bars = options ? options->late_bars : 0;
    p->bar_accessed = options ? options->bar_accessed : NULL;
    p->data = options ? options->data : NULL;
    p->has_ended = fd < 0;
    p->dma = pci_dma_new();
    pci_model_set_dma(model, p->dma);
    p->has_threads = fd >= 0;
    if (fd >= 0 && !start_threads(p, error)) {
        close(fd);
        destroy(p);
        return NULL;
    }
    return p;
}

/* The lock is held. Waits until the serving thread is through, but for a model not longer than its
 * deadline. */
static bool wait_for_model(struct qemu_proxy *p)
{
    int64_t start = g_get_monotonic_time(), deadline_us = (int64_t)p->deadline_ms * 1000;

    while (!p->has_ended) {
        int64_t busy_since = p->busy_since_us;
        int64_t until_us = (busy_since ? busy_since : start) + deadline_us;
        struct timespec until = timespec_of_us(until_us);
        if (g_get_monotonic_time() >= until_us)
            return false;
        pthread_cond_timedwait(&p->changed, &p->lock, &until);
    }
    return true;
}

bool qemu_proxy_free(struct qemu_proxy *p)
{
    if (!p)
        return true;
    if (!p->has_threads) {
        destroy(p);
        return true;
    }
    pthread_mutex_lock(&p->lock);
    p->is_stopping = true;
    pthread_cond_broadcast(&p->changed);
    if (p->fd >= 0)
        shutdown(p->fd, SHUT_RDWR);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->watchdog, NULL);
    pthread_t server = p->server;
    pthread_mutex_lock(&p->lock);
    bool is_back = wait_for_model(p);
    p->is_abandoned = !is_back;
    pthread_mutex_unlock(&p->lock);
    if (!is_back) {
        pthread_detach(server);
        return false;
    }
    pthread_join(server, NULL);
    destroy(p);
    return true;
}

bool qemu_proxy_wait_end(struct qemu_proxy *p, int timeout_ms)
{
    struct timespec until = timespec_of_us(g_get_monotonic_time() + (int64_t)timeout_ms * 1000);
    int rc = 0;

    pthread_mutex_lock(&p->lock);
    while (!p->has_ended && rc == 0)
        rc = pthread_cond_timedwait(&p->changed, &p->lock, &until);
    bool has_ended = p->has_ended;
    pthread_mutex_unlock(&p->lock);
    return has_ended;
}

struct qemu_proxy_stats qemu_proxy_stats(struct qemu_proxy *p)
{
    struct qemu_proxy_stats stats = {
        .requests = p->requests,
        .config_reads = p->config_reads,
        .config_writes = p->config_writes,
        .bar_reads = p->bar_reads,
        .bar_writes = p->bar_writes,
        .memory_updates = p->memory_updates,
        .resets = p->resets,
        .bad_messages = p->bad_messages,
        .unmapped_ranges = p->unmapped_ranges,
    };

    pthread_mutex_lock(&p->lock);
    stats.is_connected = !p->has_ended && !p->was_cut_off;
    stats.was_cut_off = p->was_cut_off;
    memcpy(stats.why_ended, p->why_ended, sizeof(stats.why_ended));
    pthread_mutex_unlock(&p->lock);
    return stats;
}
