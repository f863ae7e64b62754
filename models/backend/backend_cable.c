/*
 * A cable: each end's frames come out of the other. One queue per direction, one producer and one
 * consumer each, without a lock; the eventfd is written only when the consumer has found its queue
 * empty and said so.
 */
#include "models/backend/backend_private.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SLOTS = 65536 };

struct slot {
    uint32_t len;
    uint64_t time_ns;
};

/* From one end to the other. */
struct lane {
    _Atomic unsigned n_in, n_out; /* frames put in and taken out so far */
    _Atomic bool is_armed;        /* the consumer wants its descriptor written */
    _Atomic bool is_cut;          /* the consumer is gone */
    int fd;                       /* the consumer's */
    struct slot *slots;
    uint8_t *bytes;
};

struct cable {
    struct lane lanes[2];
    unsigned n_slots;
    uint32_t max_frame;
    gatomicrefcount refs;
};

struct end {
    struct backend b;
    struct cable *cable;
    struct lane *out, *in;
};

static void wake(struct lane *lane)
{
    uint64_t one = 1;

    /* pairs with the fence in cable_receive: either we see it armed, or it sees our frames */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_exchange_explicit(&lane->is_armed, false, memory_order_relaxed)) {
        (void)!write(lane->fd, &one, sizeof(one));
    }
}

static unsigned cable_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    struct end *end = (struct end *)b;
    const struct cable *c = end->cable;
    struct lane *lane = end->out;
    unsigned n_in = atomic_load_explicit(&lane->n_in, memory_order_relaxed);
    unsigned room = c->n_slots - (n_in - atomic_load_explicit(&lane->n_out, memory_order_acquire));
    unsigned n_done = 0;

    if (atomic_load_explicit(&lane->is_cut, memory_order_relaxed)) {
        backend_count_sent(b, frames, n);
        return n;
    }
    for (; n_done < n; n_done++) {
        const struct backend_frame *f = &frames[n_done];
        if (f->len == 0 || f->len > c->max_frame) {
            b->stats.dropped_send++;
            continue;
        }
        if (room == 0) {
            break;
        }
        unsigned at = n_in % c->n_slots;
        memcpy(lane->bytes + (size_t)at * c->max_frame, f->data, f->len);
        lane->slots[at] = (struct slot){f->len, f->time_ns};
        backend_count_sent(b, f, 1);
        n_in++;
        room--;
    }
    atomic_store_explicit(&lane->n_in, n_in, memory_order_release);
    wake(lane);
    return n_done;
}

static unsigned take(struct end *end, struct backend_frame *frames, unsigned n)
{
    const struct cable *c = end->cable;
    struct lane *lane = end->in;
    unsigned n_out = atomic_load_explicit(&lane->n_out, memory_order_relaxed);
    unsigned n_in = atomic_load_explicit(&lane->n_in, memory_order_acquire);
    unsigned n_done = 0;

    while (n_done < n && n_out != n_in) {
        unsigned at = n_out++ % c->n_slots;
        struct backend_frame *f = &frames[n_done];
        if (f->len < lane->slots[at].len) {
            end->b.stats.dropped_receive++;
            continue;
        }
        f->len = lane->slots[at].len;
        f->time_ns = lane->slots[at].time_ns;
        memcpy(f->data, lane->bytes + (size_t)at * c->max_frame, f->len);
        backend_count_received(&end->b, f->len);
        n_done++;
    }
    atomic_store_explicit(&lane->n_out, n_out, memory_order_release);
    return n_done;
}

static unsigned cable_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    struct end *end = (struct end *)b;
    unsigned n_done = take(end, frames, n);
    uint64_t count;

    if (n_done > 0 || n == 0) {
        return n_done;
    }
    (void)!read(b->fd, &count, sizeof(count));
    bool is_cut = atomic_load(&end->out->is_cut);
    atomic_store_explicit(&end->in->is_armed, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    n_done = take(end, frames, n);
    if (n_done > 0) {
        wake(end->in); /* more may be there: stay readable */
    } else if (is_cut) {
        b->is_ended = true;
    }
    return n_done;
}

static void cable_unref(struct cable *c)
{
    if (!g_atomic_ref_count_dec(&c->refs)) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        close(c->lanes[i].fd);
        g_free(c->lanes[i].slots);
        g_free(c->lanes[i].bytes);
    }
    g_free(c);
}

static void cable_free(struct backend *b)
{
    struct end *end = (struct end *)b;

    atomic_store(&end->in->is_cut, true);
    wake(end->out); /* whoever sleeps there looks, and sees the end */
    cable_unref(end->cable);
    g_free(b->name);
    g_free(end);
}

static struct backend *new_end(struct cable *c, unsigned i)
{
    static const struct backend_ops ops = {"cable", cable_send, cable_receive, cable_free};
    struct end *end = g_new0(struct end, 1);

    end->b = (struct backend){
        .ops = &ops, .name = g_strdup(i ? "cable:b" : "cable:a"), .fd = c->lanes[!i].fd};
    end->cable = c;
    end->out = &c->lanes[i];
    end->in = &c->lanes[!i];
    return &end->b;
}

bool backend_cable_new(unsigned n_slots, uint32_t max_frame, struct backend **a, struct backend **b,
                       GError **error)
{
    if (n_slots == 0 || n_slots > MAX_SLOTS || max_frame == 0 || max_frame > BACKEND_MAX_FRAME) {
        backend_set_errno(error, EINVAL, "a cable for %u frames of %u bytes", n_slots, max_frame);
        return false;
    }
    int fds[2] = {backend_new_eventfd(error), -1};
    if (fds[0] < 0) {
        return false;
    }
    if ((fds[1] = backend_new_eventfd(error)) < 0) {
        close(fds[0]);
        return false;
    }
    struct cable *c = g_new0(struct cable, 1);
    /* its counters run over: the place of a frame is its number modulo the slots */
    c->n_slots = 1;
    while (c->n_slots < n_slots) {
        c->n_slots *= 2;
    }
    c->max_frame = max_frame;
    g_atomic_ref_count_init(&c->refs);
    g_atomic_ref_count_inc(&c->refs);
    for (unsigned i = 0; i < 2; i++) {
        c->lanes[i].fd = fds[i];
        c->lanes[i].slots = g_new0(struct slot, c->n_slots);
        c->lanes[i].bytes = g_malloc((size_t)c->n_slots * max_frame);
    }
    *a = new_end(c, 0);
    *b = new_end(c, 1);
    return true;
}
