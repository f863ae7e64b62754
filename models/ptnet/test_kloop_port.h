/*
 * A port made for testing the sync-kloop: two tx and two rx rings of 8 slots whose syncs do exactly
 * what a test tells them, a file that binds them, and a CSB on pages of its own, so that a test can
 * act between two of the loop's stores.
 */
#ifndef RINGLAB_TEST_KLOOP_PORT_H
#define RINGLAB_TEST_KLOOP_PORT_H

#include "models/ptnet/kloop.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    N_SLOTS = 8,
    N_TX = 2,
    N_RX = 2,
    N_RINGS = N_TX + N_RX,
    TX0 = 0,
    TX1 = 1,
    RX0 = 2,
    RX1 = 3,
    PAGE = 4096,
    DEADLINE_MS = 10000,
};

struct bed;

/* What the port does with one ring. */
struct port_ring {
    struct bed *bed;
    unsigned index;
    _Atomic unsigned n_syncs;
    int flags;                               /* of the last sync */
    int error;                               /* to answer with */
    bool is_stuck;                           /* tx: nothing is reclaimed */
    unsigned arriving;                       /* rx: frames of the next sync */
    uint32_t need_kick;                      /* kern_need_kick as it was during the last sync */
    void (*on_sync)(struct port_ring *ring); /* at its beginning */
};

struct bed {
    struct nm_host *host;
    struct nm_adapter na;
    struct nm_kring krings[NM_N_TXRX][2];
    struct nm_file file;
    struct kloop *kloop; /* of event_kloop and the like: freed by the teardown */
    struct port_ring rings[N_RINGS];
    struct nm_csb_atok *atok; /* a page */
    struct nm_csb_ktoa *ktoa; /* a page */
    _Atomic unsigned interrupts[N_RINGS];
    void (*on_interrupt)(struct bed *bed, unsigned ring);
};

static inline struct nm_kring *kring_of(struct bed *bed, unsigned ring)
{
    return ring < N_TX ? &bed->krings[NM_TX][ring] : &bed->krings[NM_RX][ring - N_TX];
}

static int port_sync(struct nm_kring *kring, int flags)
{
    struct port_ring *ring = kring->port_data;
    uint32_t hwtail = kring->hwtail;

    ring->n_syncs++;
    ring->flags = flags;
    ring->need_kick = ring->bed->ktoa[ring->index].kern_need_kick;
    if (ring->on_sync)
        ring->on_sync(ring);
    if (ring->error)
        return ring->error;
    kring->hwcur = kring->rhead;
    if (kring->tx && !ring->is_stuck)
        hwtail = nm_prev(kring->hwcur, N_SLOTS);
    if (!kring->tx) {
        unsigned room = N_SLOTS - 1 - nm_dist(kring->hwcur, hwtail, N_SLOTS);
        unsigned n = ring->arriving < room ? ring->arriving : room;
        ring->arriving -= n;
        hwtail = (hwtail + n) % N_SLOTS;
    }
    kring->hwtail = hwtail;
    return 0;
}

static inline void no_log(void *data, const char *line)
{
    (void)data, (void)line;
}

static inline void init_kring(struct bed *bed, enum nm_txrx t, unsigned k, unsigned index)
{
    struct nm_kring *kring = &bed->krings[t][k];

    *kring = (struct nm_kring){
        .ring = g_malloc0(sizeof(struct netmap_ring) + N_SLOTS * sizeof(struct netmap_slot)),
        .num_slots = N_SLOTS,
        .hwtail = t == NM_TX ? N_SLOTS - 1 : 0,
        .rtail = t == NM_TX ? N_SLOTS - 1 : 0,
        .buf_total = 100,
        .buf_size = 2048,
        .sync = port_sync,
        .notify = nm_notify,
        .na = &bed->na,
        .ring_id = (uint16_t)k,
        .tx = (uint8_t)t,
        .users = 1,
        .port_data = &bed->rings[index],
    };
    kring->ring->num_slots = N_SLOTS;
    g_snprintf(kring->name, sizeof(kring->name), "port %s%u", t == NM_TX ? "TX" : "RX", k);
    nm_waiters_init(&kring->waiters);
    bed->rings[index] = (struct port_ring){.bed = bed, .index = index};
}

static inline void *new_page(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(page, MAP_FAILED);
    return page;
}

static inline int bed_setup(void **state)
{
    void *aligned = NULL;

    assert_int_equal(posix_memalign(&aligned, 64, sizeof(struct bed)), 0);
    struct bed *bed = memset(aligned, 0, sizeof(struct bed));
    bed->host = nm_host_new(NULL, NULL);
    assert_non_null(bed->host);
    nm_host_set_log(bed->host, no_log, NULL);
    bed->na.host = bed->host;
    bed->na.active_files = 1;
    for (unsigned k = 0; k < 2; k++) {
        init_kring(bed, NM_TX, k, TX0 + k);
        init_kring(bed, NM_RX, k, RX0 + k);
    }
    for (int t = 0; t < NM_N_TXRX; t++) {
        bed->na.krings[t] = bed->krings[t];
        nm_waiters_init(&bed->na.waiters[t]);
        bed->file.last[t] = 2;
    }
    bed->file.host = bed->host;
    bed->file.na = &bed->na;
    bed->file.reg_flags = NR_EXCLUSIVE;
    bed->atok = new_page();
    bed->ktoa = new_page();
    *state = bed;
    return 0;
}

static inline int bed_teardown(void **state)
{
    struct bed *bed = *state;

    kloop_free(bed->kloop);
    if (bed->file.kloop_state & KLOOP_RUNNING)
        kloop_stop(&bed->file); /* a test failed half-way */
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned k = 0; k < 2; k++) {
            nm_waiters_clear(&bed->krings[t][k].waiters);
            g_free(bed->krings[t][k].ring);
        }
        nm_waiters_clear(&bed->na.waiters[t]);
    }
    munmap(bed->atok, PAGE);
    munmap(bed->ktoa, PAGE);
    nm_host_free(bed->host);
    free(bed);
    return 0;
}

static inline void bed_interrupt(void *data, unsigned ring)
{
    struct bed *bed = data;

    bed->interrupts[ring]++;
    if (bed->on_interrupt)
        bed->on_interrupt(bed, ring);
}

static inline void enable_csb(struct bed *bed)
{
    assert_int_equal(kloop_csb_enable(&bed->file, bed->atok, bed->ktoa), 0);
}

static inline struct kloop *new_kloop(struct bed *bed, const struct kloop_options *options)
{
    int err = -1;

    enable_csb(bed);
    bed->kloop = kloop_new(&bed->file, options, &err);
    assert_int_equal(err, 0);
    assert_non_null(bed->kloop);
    return bed->kloop;
}

/* Event mode, kicks and interrupts by call; the wake-up that it begins with is taken. */
static inline struct kloop *event_kloop(struct bed *bed, uint32_t mode)
{
    struct kloop_options options = {
        .interrupt = bed_interrupt, .interrupt_data = bed, .mode = mode};
    struct kloop *kloop = new_kloop(bed, &options);

    assert_true(kloop_take_wake(kloop));
    return kloop;
}

/* The guest says: these slots are yours, and wake me at this one. */
static inline void guest_says(struct bed *bed, unsigned ring, uint32_t head, uint32_t cur)
{
    atomic_thread_fence(memory_order_release);
    atomic_store(&bed->atok[ring].cur, cur);
    atomic_thread_fence(memory_order_release);
    atomic_store(&bed->atok[ring].head, head);
}

static inline uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- acting between two of the loop's stores: the next one into the ktoa page is caught before it
 * happens, the act runs, and the store is done ---- */

struct caught {
    struct bed *bed;
    void (*act)(struct bed *bed);
    unsigned n;
    struct sigaction before;
};
static struct caught caught;

static void on_store(int signal)
{
    (void)signal;
    mprotect(caught.bed->ktoa, PAGE, PROT_READ | PROT_WRITE);
    sigaction(SIGSEGV, &caught.before, NULL);
    caught.n++;
    caught.act(caught.bed);
}

static inline void catch_next_store(struct bed *bed, void (*act)(struct bed *bed))
{
    struct sigaction action = {.sa_handler = on_store};

    caught.bed = bed;
    caught.act = act;
    sigaction(SIGSEGV, &action, &caught.before);
    mprotect(bed->ktoa, PAGE, PROT_READ);
}

#endif
