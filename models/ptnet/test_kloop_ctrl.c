/*
 * The sync-kloop as a program uses it, without a guest: control requests with chained options,
 * eventfds, a CSB in its own memory, over ports of a VALE switch.
 */
#include "models/ptnet/kloop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { TX = 0, RX = 1, N_RINGS = 2, DEADLINE_MS = 10000 };

struct eventfds {
    struct nmreq_option nro_opt;
    struct nmreq_opt_sync_kloop_eventfd fds[N_RINGS];
};

/* A program with one pair of rings. */
struct program {
    _Alignas(64) struct nm_csb_atok atok[N_RINGS];
    _Alignas(64) struct nm_csb_ktoa ktoa[N_RINGS];
    struct nm_file *file;
    struct netmap_if *nifp;
    struct eventfds eventfds;
    struct nmreq_opt_sync_kloop_mode mode;
    pthread_t thread;
    bool is_running;
    int result;
};

struct bed {
    struct nm_host *host;
    struct program programs[2];
};

static int request(struct nm_file *file, const char *name, uint16_t type, void *body, void *options)
{
    struct nmreq_header header = {.nr_version = NETMAP_API,
                                  .nr_reqtype = type,
                                  .nr_body = (uintptr_t)body,
                                  .nr_options = (uintptr_t)options};

    g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    return nm_ctrl(file, &header);
}

static struct nmreq_opt_csb csb_option(struct program *p)
{
    return (struct nmreq_opt_csb){.nro_opt.nro_reqtype = NETMAP_REQ_OPT_CSB,
                                  .csb_atok = (uintptr_t)p->atok,
                                  .csb_ktoa = (uintptr_t)p->ktoa};
}

static int register_with_csb(struct bed *bed, unsigned i, const char *name, uint64_t flags)
{
    struct program *p = &bed->programs[i];
    struct nmreq_opt_csb csb = csb_option(p);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_flags = flags};

    p->file = nm_open(bed->host);
    int err = request(p->file, name, NETMAP_REQ_REGISTER, &reg, &csb);
    if (err)
        assert_int_equal(csb.nro_opt.nro_status, err);
    else
        assert_int_equal(csb.nro_opt.nro_status, 0);
    p->nifp = nm_file_if(p->file);
    return err;
}

static void *run(void *data)
{
    struct program *p = data;
    struct nmreq_sync_kloop_start start = {0};

    p->result = request(p->file, "", NETMAP_REQ_SYNC_KLOOP_START, &start, &p->mode);
    return NULL;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void start_loop(struct program *p, uint32_t mode)
{
    uint64_t deadline = now_ms() + DEADLINE_MS;

    p->mode = (struct nmreq_opt_sync_kloop_mode){
        .nro_opt = {.nro_reqtype = NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
                    .nro_next = (uintptr_t)&p->eventfds},
        .mode = mode};
    p->eventfds.nro_opt = (struct nmreq_option){.nro_reqtype = NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
                                                .nro_size = sizeof(p->eventfds)};
    for (unsigned i = 0; i < N_RINGS; i++) {
        p->eventfds.fds[i].ioeventfd = eventfd(0, EFD_CLOEXEC);
        p->eventfds.fds[i].irqfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
    p->is_running = true;
    while (!(p->file->kloop_state & KLOOP_RUNNING)) {
        assert_true(now_ms() < deadline);
        sched_yield();
    }
}

static void join_loop(struct program *p)
{
    pthread_join(p->thread, NULL);
    p->is_running = false;
    assert_int_equal(p->result, 0);
    for (unsigned i = 0; i < N_RINGS; i++) {
        close(p->eventfds.fds[i].ioeventfd);
        close(p->eventfds.fds[i].irqfd);
    }
}

static int stop_loop(struct program *p)
{
    int err = request(p->file, "", NETMAP_REQ_SYNC_KLOOP_STOP, NULL, NULL);

    join_loop(p);
    return err;
}

/* netmap.md 16: fill slots; write; load kern_need_kick; kick. */
static void publish(struct program *p, unsigned ring, uint32_t head)
{
    atomic_store_explicit(&p->atok[ring].cur, head, memory_order_release);
    atomic_store_explicit(&p->atok[ring].head, head, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&p->ktoa[ring].kern_need_kick))
        assert_int_equal(write(p->eventfds.fds[ring].ioeventfd, &(uint64_t){1}, 8), 8);
}

static void send_frame(struct program *p, uint8_t fill)
{
    struct netmap_ring *ring = nm_txring(p->nifp, 0);
    uint32_t head = p->atok[TX].head;
    union nm_slot_word w = nm_slot_load(&ring->slot[head]);
    char *buf = nm_buf(ring, w.buf_idx);

    memset(buf, fill, 60);
    memset(buf, 0xff, 6);
    memset(buf + 6, 2, 6);
    w.len = 60;
    nm_slot_store(&ring->slot[head], w);
    publish(p, TX, nm_ring_next(ring, head));
}

static void expect_frame(struct program *p, uint8_t fill)
{
    struct netmap_ring *ring = nm_rxring(p->nifp, 0);
    struct pollfd irq = {.fd = p->eventfds.fds[RX].irqfd, .events = POLLIN};
    uint32_t head = p->atok[RX].head;
    uint64_t n;

    while (atomic_load_explicit(&p->ktoa[RX].hwtail, memory_order_acquire) == head) {
        assert_int_equal(poll(&irq, 1, DEADLINE_MS), 1);
        assert_int_equal(read(irq.fd, &n, sizeof(n)), sizeof(n));
    }
    union nm_slot_word w = nm_slot_load(&ring->slot[head]);
    assert_int_equal(w.len, 60);
    assert_int_equal((uint8_t)nm_buf(ring, w.buf_idx)[59], fill);
    publish(p, RX, nm_ring_next(ring, head));
}

static void a_program_with_a_csb_has_no_other_way_to_sync(void **state)
{
    struct bed *bed = *state;
    struct program *p = &bed->programs[0];

    assert_int_equal(register_with_csb(bed, 0, "vale0:a", NR_EXCLUSIVE), 0);
    assert_int_equal(p->ktoa[TX].hwtail, 1023);
    assert_int_equal(p->ktoa[RX].kern_need_kick, 1);
    assert_int_equal(nm_txsync(p->file), EBUSY);
    assert_int_equal(nm_rxsync(p->file), EBUSY);
    assert_int_equal(nm_poll(p->file, POLLIN | POLLOUT), POLLERR);
}

static void a_csb_needs_the_port_for_itself(void **state)
{
    struct bed *bed = *state;

    assert_int_equal(register_with_csb(bed, 0, "vale0:a", 0), EINVAL);
    assert_null(nm_file_if(bed->programs[0].file));
}

static void a_csb_is_enabled_later_too_and_needs_its_option(void **state)
{
    struct bed *bed = *state;
    struct program *p = &bed->programs[0];
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_EXCLUSIVE};
    struct nmreq_opt_csb csb = csb_option(p);
    struct nmreq_sync_kloop_start start = {0};

    p->file = nm_open(bed->host);
    assert_int_equal(request(p->file, "", NETMAP_REQ_SYNC_KLOOP_START, &start, NULL), ENXIO);
    assert_int_equal(request(p->file, "", NETMAP_REQ_SYNC_KLOOP_STOP, NULL, NULL), ENXIO);
    assert_int_equal(request(p->file, "vale0:a", NETMAP_REQ_REGISTER, &reg, NULL), 0);
    assert_int_equal(request(p->file, "", NETMAP_REQ_SYNC_KLOOP_START, &start, NULL), EINVAL);
    assert_int_equal(nm_txsync(p->file), 0);
    assert_int_equal(request(p->file, "", NETMAP_REQ_CSB_ENABLE, NULL, NULL), EINVAL);
    csb.csb_atok = 0;
    assert_int_equal(request(p->file, "", NETMAP_REQ_CSB_ENABLE, NULL, &csb), EFAULT);
    assert_int_equal(csb.nro_opt.nro_status, EFAULT);
    csb.csb_atok = (uintptr_t)p->atok;
    assert_int_equal(request(p->file, "", NETMAP_REQ_CSB_ENABLE, NULL, &csb), 0);
    assert_int_equal(csb.nro_opt.nro_status, 0);
    assert_int_equal(p->atok[RX].sync_flags, 1);
    assert_int_equal(nm_txsync(p->file), EBUSY);
}

static void two_programs_exchange_frames_through_their_loops(void **state)
{
    struct bed *bed = *state;
    struct program *a = &bed->programs[0], *b = &bed->programs[1];

    assert_int_equal(register_with_csb(bed, 0, "vale0:a", NR_EXCLUSIVE), 0);
    assert_int_equal(register_with_csb(bed, 1, "vale0:b", NR_EXCLUSIVE), 0);
    start_loop(a, 0);
    start_loop(b, 0);
    for (unsigned i = 0; i < 300; i++) {
        send_frame(a, (uint8_t)i);
        expect_frame(b, (uint8_t)i);
        send_frame(b, (uint8_t)~i);
        expect_frame(a, (uint8_t)~i);
    }
    assert_int_equal(stop_loop(a), 0);
    assert_int_equal(stop_loop(b), 0);
    assert_int_equal(a->mode.nro_opt.nro_status, 0);
    assert_int_equal(a->eventfds.nro_opt.nro_status, 0);
}

static void a_file_whose_loop_runs_can_neither_enable_nor_start_again(void **state)
{
    struct bed *bed = *state;
    struct program *p = &bed->programs[0];
    struct nmreq_sync_kloop_start start = {0};
    struct nmreq_opt_csb csb = csb_option(p);

    assert_int_equal(register_with_csb(bed, 0, "vale0:a", NR_EXCLUSIVE), 0);
    start_loop(p, NM_OPT_SYNC_KLOOP_DIRECT_TX | NM_OPT_SYNC_KLOOP_DIRECT_RX);
    assert_int_equal(request(p->file, "", NETMAP_REQ_SYNC_KLOOP_START, &start, NULL), EBUSY);
    assert_int_equal(request(p->file, "", NETMAP_REQ_CSB_ENABLE, NULL, &csb), EBUSY);
    assert_int_equal(stop_loop(p), 0);
}

static void closing_a_file_stops_its_loop(void **state)
{
    struct bed *bed = *state;
    struct program *p = &bed->programs[0];

    assert_int_equal(register_with_csb(bed, 0, "vale0:a", NR_EXCLUSIVE), 0);
    start_loop(p, 0);
    nm_close(g_steal_pointer(&p->file));
    join_loop(p);
}

static int setup(void **state)
{
    void *aligned = NULL;

    assert_int_equal(posix_memalign(&aligned, 64, sizeof(struct bed)), 0);
    struct bed *bed = memset(aligned, 0, sizeof(struct bed));
    bed->host = nm_host_new(NULL, NULL);
    assert_non_null(bed->host);
    *state = bed;
    return 0;
}

static int teardown(void **state)
{
    struct bed *bed = *state;

    for (unsigned i = 0; i < 2; i++) {
        if (bed->programs[i].is_running)
            stop_loop(&bed->programs[i]);
        nm_close(bed->programs[i].file);
    }
    nm_host_free(bed->host);
    free(bed);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_program_with_a_csb_has_no_other_way_to_sync),
        TEST(a_csb_needs_the_port_for_itself),
        TEST(a_csb_is_enabled_later_too_and_needs_its_option),
        TEST(two_programs_exchange_frames_through_their_loops),
        TEST(a_file_whose_loop_runs_can_neither_enable_nor_start_again),
        TEST(closing_a_file_stops_its_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
