/*
 * The sync-kloop as a whole: made, stepped, run, woken. What a visit to a ring does is in
 * kloop_ring.c. Wake-ups set one flag; only a loop that sleeps costs its waker a system call.
 */
#include "models/ptnet/kloop_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_PER_WAIT = 32, TAG_WAKE = UINT32_MAX };

/* ---- waking ---- */

void kloop_wake(struct kloop *kloop)
{
    atomic_store(&kloop->is_woken, true);
    /* the loop stores is_sleeping, then looks at is_woken (both sequentially consistent): one of
     * the two sees the other */
    if (atomic_load(&kloop->is_sleeping) && atomic_exchange(&kloop->is_sleeping, false))
        (void)!write(kloop->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
}

void kloop_interrupt(struct kloop_ring *ring)
{
    struct kloop *kloop = ring->kloop;

    if (kloop->interrupt)
        kloop->interrupt(kloop->interrupt_data, ring->index);
    else if (ring->irqfd >= 0)
        (void)!write(ring->irqfd, &(uint64_t){1}, sizeof(uint64_t));
    else
        return;
    kloop_count(&kloop->counters.interrupts);
}

static bool is_stopping(const struct kloop *kloop)
{
    return atomic_load_explicit(&kloop->file->kloop_state, memory_order_acquire) & KLOOP_STOPPING;
}

/* The port moved. Direct (ptnet.md 7.6): all rings of that direction are interrupted, no questions
 * asked. A loop that is to stop is woken. */
static void port_moved(struct kloop *kloop, enum nm_txrx t)
{
    if (!kloop->is_direct[t] || is_stopping(kloop)) {
        kloop_wake(kloop);
        return;
    }
    for (unsigned i = 0; i < kloop->n_rings; i++)
        if (kloop->rings[i].kring->tx == t)
            kloop_interrupt(&kloop->rings[i]);
}

static void tx_moved(void *data, struct nm_kring *kring)
{
    (void)kring;
    port_moved(data, NM_TX);
}

static void rx_moved(void *data, struct nm_kring *kring)
{
    (void)kring;
    port_moved(data, NM_RX);
}

void kloop_kick(struct kloop *kloop, unsigned i)
{
    struct kloop_ring *ring = &kloop->rings[i];

    kloop_count(&kloop->counters.kicks_seen);
    if (kloop->is_busy_wait)
        return;
    if (ring->is_direct) {
        if (!kloop_visit(ring, false))
            return;
        atomic_store(&ring->is_kicked, true);
    }
    kloop_wake(kloop);
}

/* ---- life ---- */

static int check_file(const struct nm_file *file)
{
    const struct nm_adapter *na = file->na;

    if (!na || na->active_files == 0 || (na->flags & NAF_ZOMBIE))
        return ENXIO;
    return file->csb_atok && file->csb_ktoa ? 0 : EINVAL;
}

static void set_rings(struct kloop *kloop)
{
    struct nm_file *file = kloop->file;
    unsigned n = 0;

    for (int t = NM_TX; t >= NM_RX; t--) {
        for (unsigned k = file->first[t]; k < file->last[t]; k++, n++) {
            kloop->rings[n] = (struct kloop_ring){
                .kloop = kloop,
                .kring = &file->na->krings[t][k],
                .atok = &file->csb_atok[n],
                .ktoa = &file->csb_ktoa[n],
                .index = n,
                .is_direct = kloop->is_direct[t],
                .ioeventfd = -1,
                .irqfd = -1,
            };
        }
    }
}

static bool is_eventfd(int fd)
{
    char path[48], target[32];

    g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return errno == ENOENT; /* no /proc here: taken on trust */
    target[n] = '\0';
    return strcmp(target, "anon_inode:[eventfd]") == 0;
}

/* 0 or errno. */
static int duplicate_eventfd(int fd, int *own)
{
    *own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (*own < 0)
        return errno;
    return is_eventfd(*own) ? 0 : EINVAL;
}

static int watch(struct kloop *kloop, int fd, uint32_t tag)
{
    /* Edge-triggered: each write is one event, and nobody has to read the counter (7.2). */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = tag};

    return epoll_ctl(kloop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

static int take_descriptors(struct kloop *kloop, const struct nmreq_opt_sync_kloop_eventfd *fds)
{
    int err = 0;

    for (unsigned i = 0; !err && i < kloop->n_rings; i++) {
        struct kloop_ring *ring = &kloop->rings[i];

        if (!kloop->is_busy_wait) {
            err = duplicate_eventfd(fds[i].ioeventfd, &ring->ioeventfd);
            if (!err)
                err = watch(kloop, ring->ioeventfd, i);
        }
        if (!err && fds[i].irqfd >= 0)
            err = duplicate_eventfd(fds[i].irqfd, &ring->irqfd);
    }
    return err;
}

/* ptnet.md 7.1, what the options ask for; their statuses. 0 or errno. */
static int take_options(struct kloop *kloop, const struct kloop_options *options,
                        uint32_t *mode_status, uint32_t *eventfds_status)
{
    const struct nmreq_opt_sync_kloop_eventfd *fds = options->eventfds;

    if (options->mode & ~(uint32_t)(NM_OPT_SYNC_KLOOP_DIRECT_TX | NM_OPT_SYNC_KLOOP_DIRECT_RX))
        return (int)(*mode_status = EINVAL);
    *mode_status = 0;
    kloop->is_direct[NM_TX] = options->mode & NM_OPT_SYNC_KLOOP_DIRECT_TX;
    kloop->is_direct[NM_RX] = options->mode & NM_OPT_SYNC_KLOOP_DIRECT_RX;
    kloop->interrupt = options->interrupt;
    kloop->interrupt_data = options->interrupt_data;
    kloop->is_busy_wait = !fds && !options->interrupt;
    set_rings(kloop);
    if (!fds)
        return 0;
    if (options->n_eventfds != kloop->n_rings)
        return (int)(*eventfds_status = EINVAL);
    for (unsigned i = 0; i < kloop->n_rings; i++)
        kloop->is_busy_wait |= fds[i].ioeventfd < 0;
    kloop->has_eventfds = !kloop->is_busy_wait;
    if (kloop->is_busy_wait && options->mode)
        return (int)(*eventfds_status = EINVAL);
    return (int)(*eventfds_status = (uint32_t)take_descriptors(kloop, fds));
}

/* netmap.md 6.6 */
struct nm_waiters *kloop_port_queue(const struct nm_file *file, enum nm_txrx t)
{
    struct nm_kring *krings = file->na->krings[t];
    unsigned n = kloop_file_rings(file, t);

    if (n == 0 || !krings)
        return NULL;
    return n == 1 ? &krings[file->first[t]].waiters : &file->na->waiters[t];
}

static void listen_to_port(struct kloop *kloop)
{
    static const nm_wake_fn moved[NM_N_TXRX] = {[NM_RX] = rx_moved, [NM_TX] = tx_moved};

    for (int t = 0; t < NM_N_TXRX; t++) {
        kloop->waiters[t] = (struct nm_waiter){.wake = moved[t], .data = kloop};
        kloop->queues[t] = kloop_port_queue(kloop->file, t);
        if (kloop->queues[t])
            nm_waiters_add(kloop->queues[t], &kloop->waiters[t]);
    }
}

struct kloop *kloop_create(struct nm_file *file, const struct kloop_options *options,
                           uint32_t *mode_status, uint32_t *eventfds_status, int *err)
{
    uint32_t ignored;
    unsigned n_rings;

    *err = options->sleep_us > KLOOP_MAX_SLEEP_US ? EINVAL : check_file(file);
    if (!*err && (atomic_fetch_or(&file->kloop_state, KLOOP_RUNNING) & KLOOP_RUNNING))
        *err = EBUSY;
    if (*err)
        return NULL;
    n_rings = kloop_file_rings(file, NM_TX) + kloop_file_rings(file, NM_RX);
    struct kloop *kloop = g_malloc0(sizeof(*kloop) + n_rings * sizeof(kloop->rings[0]));
    kloop->file = file;
    kloop->n_rings = n_rings;
    kloop->sleep_us = options->sleep_us;
    kloop->is_woken = true;
    kloop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    kloop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (kloop->epoll_fd < 0 || kloop->wake_fd < 0)
        *err = errno;
    else
        *err = watch(kloop, kloop->wake_fd, TAG_WAKE);
    if (!*err)
        *err = take_options(kloop, options, mode_status ? mode_status : &ignored,
                            eventfds_status ? eventfds_status : &ignored);
    if (*err) {
        kloop_free(kloop);
        return NULL;
    }
    if (!kloop->is_busy_wait)
        listen_to_port(kloop);
    return kloop;
}

struct kloop *kloop_new(struct nm_file *file, const struct kloop_options *options, int *err)
{
    return kloop_create(file, options, NULL, NULL, err);
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void kloop_free(struct kloop *kloop)
{
    if (!kloop)
        return;
    struct nm_file *file = kloop->file;

    for (int t = 0; t < NM_N_TXRX; t++)
        if (kloop->queues[t])
            nm_waiters_remove(kloop->queues[t], &kloop->waiters[t]);
    for (unsigned i = 0; i < kloop->n_rings; i++) {
        if (kloop->rings[i].kloop) {
            close_if_open(kloop->rings[i].ioeventfd);
            close_if_open(kloop->rings[i].irqfd);
        }
    }
    close_if_open(kloop->epoll_fd);
    close_if_open(kloop->wake_fd);
    g_free(kloop);
    kloop_set_stopped(file);
}

/* ---- passes ---- */

static void visit_from_loop(struct kloop_ring *ring)
{
    if (!kloop_visit(ring, !ring->is_direct))
        return;
    if (ring->is_direct)
        atomic_store(&ring->is_kicked, true);
    atomic_store(&ring->kloop->is_woken, true);
}

bool kloop_step(struct kloop *kloop)
{
    if (is_stopping(kloop))
        return false;
    kloop_count(&kloop->counters.passes);
    for (unsigned i = 0; i < kloop->n_rings; i++) {
        struct kloop_ring *ring = &kloop->rings[i];

        if (!ring->is_direct || (atomic_load_explicit(&ring->is_kicked, memory_order_relaxed) &&
                                 atomic_exchange(&ring->is_kicked, false)))
            visit_from_loop(ring);
    }
    return true;
}

void kloop_step_ring(struct kloop *kloop, unsigned i)
{
    visit_from_loop(&kloop->rings[i]);
}

/* Waits for descriptors to be written, and notes which. True if any was. */
static bool wait_for_descriptors(struct kloop *kloop, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    int n = epoll_wait(kloop->epoll_fd, events, EVENTS_PER_WAIT, timeout_ms);

    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 == TAG_WAKE)
            continue;
        struct kloop_ring *ring = &kloop->rings[events[i].data.u32];
        kloop_count(&kloop->counters.kicks_seen);
        if (ring->is_direct)
            atomic_store(&ring->is_kicked, true);
    }
    return n != 0; /* a signal, too, has it look again */
}

bool kloop_take_wake(struct kloop *kloop)
{
    bool is_woken = atomic_exchange(&kloop->is_woken, false);

    if (kloop->has_eventfds)
        is_woken |= wait_for_descriptors(kloop, 0);
    return is_woken || kloop->is_busy_wait;
}

/* Until a wake-up since the pass before, at most KLOOP_SLEEP_MS. */
static void sleep_until_woken(struct kloop *kloop)
{
    atomic_store(&kloop->is_sleeping, true);
    if (!atomic_load(&kloop->is_woken)) {
        kloop_count(&kloop->counters.sleeps);
        if (!wait_for_descriptors(kloop, KLOOP_SLEEP_MS))
            kloop_count(&kloop->counters.timeouts);
    } else if (kloop->has_eventfds && (kloop->is_direct[NM_TX] || kloop->is_direct[NM_RX])) {
        /* rings that are visited only when kicked must not wait until the others are idle */
        wait_for_descriptors(kloop, 0);
    }
    atomic_store(&kloop->is_sleeping, false);
}

void kloop_run(struct kloop *kloop)
{
    struct timespec pause = {.tv_sec = kloop->sleep_us / 1000000,
                             .tv_nsec = (long)(kloop->sleep_us % 1000000) * 1000};

    for (;;) {
        /* Before looking at the rings: what happens from here on calls for another pass (7.2). */
        atomic_exchange(&kloop->is_woken, false);
        if (!kloop_step(kloop))
            return;
        if (!kloop->is_busy_wait)
            sleep_until_woken(kloop);
        else if (kloop->sleep_us)
            nanosleep(&pause, NULL);
    }
}

struct kloop_stats kloop_stats(const struct kloop *kloop)
{
    const struct kloop_counters *c = &kloop->counters;

    return (struct kloop_stats){
        .passes = c->passes,
        .kicks_seen = c->kicks_seen,
        .interrupts = c->interrupts,
        .sleeps = c->sleeps,
        .timeouts = c->timeouts,
        .tx_syncs = c->tx_syncs,
        .rx_syncs = c->rx_syncs,
        .bad_rings = c->bad_rings,
        .sync_errors = c->sync_errors,
    };
}
