#include "models/netmap/test_nm_bed.h"

struct pipe_bed {
    struct nm_host *host;
    struct bed_nic *nic;
};

static int set_up(void **state)
{
    struct pipe_bed *bed = g_new0(struct pipe_bed, 1);

    bed->host = bed_host();
    bed->nic = bed_nic_new(bed->host, "x0");
    *state = bed;
    return 0;
}

static int tear_down(void **state)
{
    struct pipe_bed *bed = *state;

    assert_use(bed->host, 0, 0, 0);
    nm_host_free(bed->host);
    g_free(bed);
    return 0;
}

static struct nm_file *open_end(struct pipe_bed *bed, const char *name, uint32_t n_slots)
{
    struct nmreq_register reg = {
        .nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = n_slots, .nr_rx_slots = n_slots};
    struct nm_file *file = nm_open(bed->host);

    assert_int_equal(bed_register(file, name, &reg), 0);
    return file;
}

static struct netmap_ring *tx_of(struct nm_file *file)
{
    return nm_txring(nm_file_if(file), 0);
}

static struct netmap_ring *rx_of(struct nm_file *file)
{
    return nm_rxring(nm_file_if(file), 0);
}

/* Hands over n slots from head on, each with its number as length. */
static void send_frames(struct nm_file *file, unsigned n)
{
    struct netmap_ring *ring = tx_of(file);

    for (unsigned i = 0; i < n; i++) {
        ring->slot[ring->head].len = (uint16_t)(60 + i);
        ring->head = ring->cur = nm_ring_next(ring, ring->head);
    }
    assert_int_equal(nm_txsync(file), 0);
}

static void release(struct nm_file *file, unsigned n)
{
    struct netmap_ring *ring = rx_of(file);

    while (n--) {
        ring->head = ring->cur = nm_ring_next(ring, ring->head);
    }
    assert_int_equal(nm_rxsync(file), 0);
}

static void the_ends_share_one_set_of_buffers(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8);

    assert_use(bed->host, 1, 4, 16);
    struct nm_file *b = open_end(bed, "x0}1", 0);
    assert_use(bed->host, 2, 4, 16);
    assert_string_equal(nm_file_if(a)->ni_name, "x0{1");
    assert_string_equal(nm_file_if(b)->ni_name, "x0}1");
    assert_int_equal(tx_of(b)->num_slots, 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(tx_of(a)->slot[i].buf_idx, rx_of(b)->slot[i].buf_idx);
        assert_int_equal(rx_of(a)->slot[i].buf_idx, tx_of(b)->slot[i].buf_idx);
        assert_int_equal(rx_of(b)->slot[i].len, 2048);
    }
    nm_close(a);
    assert_use(bed->host, 1, 4, 16);
    nm_close(b);
}

static void slots_travel_and_come_back(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8), *b = open_end(bed, "x0}1", 8);
    struct netmap_ring *tx = tx_of(a), *rx = rx_of(b);
    const uint32_t sent = tx->slot[1].buf_idx, spare = rx->slot[7].buf_idx;

    tx->slot[0].flags = NS_BUF_CHANGED | NS_REPORT;
    tx->slot[1].ptr = 0x1234;
    send_frames(a, 2);
    assert_int_equal(tx->tail, 7);
    assert_int_equal(tx->slot[0].flags, NS_REPORT);
    assert_int_equal(rx->tail, 0);
    assert_int_equal(nm_rxsync(b), 0);
    assert_int_equal(rx->tail, 2);
    assert_int_equal(rx->slot[0].flags, NS_BUF_CHANGED | NS_REPORT);
    assert_int_equal(rx->slot[0].len, 60);
    assert_int_equal(rx->slot[1].len, 61);
    assert_int_equal(rx->slot[1].ptr, 0x1234);
    assert_int_equal(rx->slot[1].buf_idx, sent);

    /* the receiver keeps that buffer and gives another one for it */
    rx->slot[1].buf_idx = spare;
    rx->slot[7].buf_idx = sent;
    rx->slot[1].flags = NS_BUF_CHANGED;
    release(b, 2);
    assert_int_equal(tx->slot[1].buf_idx, spare);
    assert_int_equal(tx->slot[1].flags, NS_BUF_CHANGED);
    assert_int_equal(rx->slot[1].flags, 0);
    assert_int_equal(tx->tail, 7);
    assert_int_equal(nm_txsync(a), 0);
    assert_int_equal(tx->tail, 1);
    tx->slot[7].buf_idx = sent; /* as it would be with the slots exchanged, for what follows */
    nm_close(a);
    nm_close(b);
}

/* Slots of the common kind are moved four at a time: one special slot among them, at each place. */
static void a_special_slot_among_many_is_seen(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 16), *b = open_end(bed, "x0}1", 16);
    struct netmap_ring *tx = tx_of(a), *rx = rx_of(b);

    for (unsigned round = 0; round < 13; round++) {
        const uint32_t first = tx->head, special = (first + round) % 16;

        tx->slot[special].flags = NS_BUF_CHANGED;
        send_frames(a, 13);
        nm_rxsync(b);
        for (uint32_t i = first; i != tx->head; i = nm_ring_next(tx, i)) {
            assert_int_equal(rx->slot[i].len, 60 + nm_dist(first, i, 16));
            assert_int_equal(rx->slot[i].flags, i == special ? NS_BUF_CHANGED : 0);
            assert_int_equal(tx->slot[i].flags, 0);
        }
        rx->slot[special].flags = 0;
        rx->slot[first].flags = NS_BUF_CHANGED;
        release(b, 13);
        nm_txsync(a);
        for (uint32_t i = first; i != tx->head; i = nm_ring_next(tx, i)) {
            assert_int_equal(tx->slot[i].flags, i == first ? NS_BUF_CHANGED : 0);
            assert_int_equal(rx->slot[i].flags, 0);
        }
        tx->slot[first].flags = 0;
    }
    nm_close(a);
    nm_close(b);
}

static void only_whole_packets_are_seen(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8), *b = open_end(bed, "x0}1", 8);
    struct netmap_ring *tx = tx_of(a), *rx = rx_of(b);

    tx->slot[1].flags = tx->slot[2].flags = NS_MOREFRAG;
    send_frames(a, 3);
    nm_rxsync(b);
    assert_int_equal(rx->tail, 1);
    send_frames(a, 1);
    nm_rxsync(b);
    assert_int_equal(rx->tail, 4);

    /* across the wrap: slot 7 begins a packet that slot 0 ends */
    release(b, 4);
    nm_txsync(a);
    tx->slot[7].flags = NS_MOREFRAG;
    send_frames(a, 4);
    nm_rxsync(b);
    assert_int_equal(rx->tail, 7);
    send_frames(a, 1);
    nm_rxsync(b);
    assert_int_equal(rx->tail, 1);
    /* and one that ends with the last slot */
    release(b, 5);
    nm_txsync(a);
    tx->slot[1].flags = NS_MOREFRAG;
    tx->slot[7].flags = 0;
    send_frames(a, 7);
    nm_rxsync(b);
    assert_int_equal(rx->tail, 0);
    nm_close(a);
    nm_close(b);
}

static void without_a_reader_n_minus_1_slots_are_taken(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8);

    send_frames(a, 7);
    assert_int_equal(tx_of(a)->tail, 7);
    assert_int_equal(tx_of(a)->head, 7);
    assert_int_equal(nm_ring_space(tx_of(a)), 0);
    nm_close(a);
}

static void what_was_sent_survives_the_sender_and_the_ring_state_survives_a_close(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8), *b = open_end(bed, "x0}1", 8);

    send_frames(a, 3);
    nm_close(a);
    nm_rxsync(b);
    assert_int_equal(rx_of(b)->tail, 3);
    release(b, 1);
    a = open_end(bed, "x0{1", 8);
    assert_int_equal(tx_of(a)->head, 3);
    nm_txsync(a);
    assert_int_equal(tx_of(a)->tail, 0);
    send_frames(a, 1);
    nm_rxsync(b);
    assert_int_equal(rx_of(b)->tail, 4);
    nm_close(b);
    nm_close(a);
}

/* The receiver has exchanged a buffer and closes before it returned the slot. */
static void buffers_are_freed_where_they_are(void **state)
{
    struct pipe_bed *bed = *state;
    struct nmreq_register null = {.nr_mode = NR_REG_NULL, .nr_mem_id = 1};
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_extra_bufs = 1};
    struct nm_file *keeper = nm_open(bed->host), *a = open_end(bed, "x0{1", 8);
    struct nm_file *b = nm_open(bed->host);

    assert_int_equal(bed_register(keeper, "k", &null), 0); /* so that leaks stay leaks */
    assert_int_equal(bed_register(b, "x0}1", &reg), 0);
    assert_use(bed->host, 3, 4, 17);
    send_frames(a, 5);
    nm_rxsync(b);
    release(b, 1);
    struct netmap_ring *rx = rx_of(b);
    const uint32_t extra = nm_file_if(b)->ni_bufs_head;
    nm_file_if(b)->ni_bufs_head = rx->slot[3].buf_idx;
    memset(nm_buf(rx, rx->slot[3].buf_idx), 0, sizeof(uint32_t));
    rx->slot[3].buf_idx = extra;
    nm_close(b);
    nm_close(a);
    assert_use(bed->host, 1, 0, 0);
    nm_close(keeper);
}

static void numbers_of_the_first_request_are_the_masters(void **state)
{
    struct pipe_bed *bed = *state;
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC,
                                 .nr_tx_rings = 2,
                                 .nr_rx_rings = 300,
                                 .nr_tx_slots = 32,
                                 .nr_rx_slots = 0};
    struct nm_file *slave = nm_open(bed->host), *master = nm_open(bed->host);

    /* 300 rings are cut to 256, which is more than the allocator has */
    assert_int_equal(bed_register(slave, "x0}a", &reg), ENOMEM);
    assert_use(bed->host, 0, 0, 0);
    assert_int_equal(bed->nic->up.refs, 1);
    reg.nr_rx_rings = 3;
    assert_int_equal(bed_register(slave, "x0}a", &reg), 0);
    assert_int_equal(reg.nr_tx_rings, 3);
    assert_int_equal(reg.nr_rx_rings, 2);
    assert_int_equal(reg.nr_tx_slots, 8); /* the parent's */
    assert_int_equal(reg.nr_rx_slots, 32);
    reg = (struct nmreq_register){.nr_mode = NR_REG_ALL_NIC, .nr_tx_rings = 7};
    assert_int_equal(bed_register(master, "x0{a", &reg), 0);
    assert_int_equal(reg.nr_tx_rings, 2);
    assert_int_equal(reg.nr_rx_rings, 3);
    assert_int_equal(reg.nr_tx_slots, 32);
    assert_int_equal(reg.nr_host_tx_rings, 1);
    nm_close(slave);
    nm_close(master);
}

static void names_and_modes_that_are_no_pipe_are_refused(void **state)
{
    static const struct {
        const char *name;
        uint32_t mode;
        int err;
    } cases[] = {
        {"x0{", NR_REG_ALL_NIC, EINVAL},   {"x0}", NR_REG_ALL_NIC, EINVAL},
        {"{1", NR_REG_ALL_NIC, EINVAL},    {"x0{1", NR_REG_SW, EINVAL},
        {"x0{1", NR_REG_NIC_SW, EINVAL},   {"x0{1", NR_REG_ONE_SW, EINVAL},
        {"x0{1", NR_REG_DEFAULT, EINVAL},  {"x0{1", NR_REG_PIPE_MASTER, EINVAL},
        {"x0}1{", NR_REG_ALL_NIC, EINVAL}, {"x0{1", NR_REG_ONE_NIC, 0},
    };
    struct pipe_bed *bed = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nmreq_register reg = {.nr_mode = cases[i].mode};
        struct nm_file *file = nm_open(bed->host);

        assert_int_equal(bed_register(file, cases[i].name, &reg), cases[i].err);
        nm_close(file);
        assert_int_equal(bed->nic->up.refs, 1);
    }
    /* the last '{' decides: a master end over the pipe end x0}1 */
    struct nm_file *nested = bed_open(bed->host, "x0}1{2", NR_REG_ALL_NIC, 0, 0);
    assert_non_null(nested);
    assert_string_equal(nested->na->name, "x0}1{2");
    nm_close(nested);
    assert_int_equal(bed->nic->up.refs, 1);
}

static void a_pipe_of_a_port_owned_by_the_kernel_is_busy(void **state)
{
    struct pipe_bed *bed = *state;

    bed->nic->up.flags |= NAF_BUSY;
    assert_null(bed_open(bed->host, "x0{1", NR_REG_ALL_NIC, 0, 0));
    assert_int_equal(errno, EBUSY);
}

static void sixty_four_pipes_fit_on_a_port(void **state)
{
    struct nm_host *host =
        nm_host_new(&(struct nm_host_options){.buf_num = 1024, .ring_num = 1024}, NULL);
    struct bed_nic *nic = bed_nic_new(host, "x0");
    struct nmreq_port_hdr hdr = {.nr_hdr_len = 1};
    struct nm_file *asking = nm_open(host);
    char name[16];

    (void)state;
    for (int i = 0; i < 65; i++) {
        struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 2, .nr_rx_slots = 2};

        (void)g_snprintf(name, sizeof(name), "x0{%d", i);
        assert_int_equal(bed_register(nm_open(host), name, &reg), i < 64 ? 0 : EINVAL);
    }
    assert_int_equal(nic->up.pipes->len, 64);
    assert_int_equal(bed_request(asking, NETMAP_REQ_PORT_HDR_GET, "x0{1", &hdr, NULL), 0);
    assert_int_equal(hdr.nr_hdr_len, 0);
    assert_int_equal(bed_request(asking, NETMAP_REQ_PORT_HDR_GET, "x0{99", &hdr, NULL), ENODEV);
    assert_int_equal(bed_request(asking, NETMAP_REQ_PORT_HDR_GET, "y{1", &hdr, NULL), ENXIO);
    nm_host_free(host);
}

static void a_parent_that_is_not_there_is_made_and_goes_with_its_last_user(void **state)
{
    struct pipe_bed *bed = *state;
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 64, .nr_rx_slots = 32};
    struct nm_file *master = nm_open(bed->host), *slave, *parent;

    assert_int_equal(bed_register(master, "made{1", &reg), 0);
    assert_int_equal(reg.nr_tx_slots, 64);
    assert_int_equal(reg.nr_rx_slots, 32);
    assert_int_not_equal(reg.nr_mem_id, 1);
    slave = bed_open(bed->host, "made}1", NR_REG_ALL_NIC, 0, 0);
    parent = bed_open(bed->host, "made", NR_REG_ALL_NIC, 0, 0);
    assert_non_null(slave);
    assert_non_null(parent);
    assert_int_equal(nm_mem_id(parent->mem), reg.nr_mem_id);
    nm_close(master);
    nm_close(slave);
    assert_non_null(g_hash_table_lookup(bed->host->nics, "made"));
    nm_close(parent);
    assert_null(g_hash_table_lookup(bed->host->nics, "made"));
    assert_null(bed_open(bed->host, "made", NR_REG_ALL_NIC, 0, 0));
    assert_int_equal(errno, ENXIO);
    /* nor is it left behind by a question, by a pipe that fails, or made with a name too long */
    struct nmreq_port_info_get info = {0};
    parent = nm_open(bed->host);
    assert_int_equal(bed_request(parent, NETMAP_REQ_PORT_INFO_GET, "made{1", &info, NULL), 0);
    reg.nr_mem_id = 1;
    reg.nr_tx_rings = 256;
    assert_int_equal(bed_register(parent, "made{1", &reg), ENOMEM);
    reg.nr_tx_rings = 1;
    assert_int_equal(bed_register(parent, "a_name_of_16_let{1", &reg), ENXIO);
    assert_int_equal(g_hash_table_size(bed->host->nics), 1);
    nm_close(parent);
}

/* A pipe over a port of a switch lives in that port's private memory. */
static void a_switch_port_is_a_parent_too(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = bed_open(bed->host, "vale3:p{x", NR_REG_ALL_NIC, 0, 0);
    struct nm_file *b = bed_open(bed->host, "vale3:p}x", NR_REG_ALL_NIC, 0, 0);

    assert_non_null(a);
    assert_non_null(b);
    send_frames(a, 5);
    nm_rxsync(b);
    assert_int_equal(nm_ring_space(rx_of(b)), 5);
    nm_close(b);
    nm_close(a);
}

static void each_end_wakes_the_other(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8), *b = open_end(bed, "x0}1", 8);
    struct pollfd readable_a = {.fd = nm_poll_fd(a), .events = POLLIN};
    struct pollfd readable_b = {.fd = nm_poll_fd(b), .events = POLLIN};

    assert_int_equal(nm_poll(b, POLLIN), 0);
    assert_int_equal(poll(&readable_b, 1, 0), 0);
    send_frames(a, 7);
    assert_int_equal(poll(&readable_b, 1, 0), 1);
    assert_int_equal(nm_poll(a, POLLOUT), 0);
    assert_int_equal(nm_poll(b, POLLIN), POLLIN);
    assert_int_equal(poll(&readable_b, 1, 0), 0);
    assert_int_equal(poll(&readable_a, 1, 0), 0);
    release(b, 3);
    assert_int_equal(poll(&readable_a, 1, 0), 1);
    assert_int_equal(nm_poll(a, POLLOUT), POLLOUT);
    nm_close(a);
    nm_close(b);
}

static void the_larger_offset_stays(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8), *b = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nmreq_opt_offsets offsets = {
        .nro_opt.nro_reqtype = NETMAP_REQ_OPT_OFFSETS,
        .nro_max_offset = 256,
        .nro_initial_offset = 64,
        .nro_offset_bits = 16,
    };

    assert_int_equal(bed_request(b, NETMAP_REQ_REGISTER, "x0}1", &reg, &offsets), 0);
    assert_int_equal(rx_of(b)->offset_mask, 0xffff);
    assert_int_equal(rx_of(b)->slot[3].ptr, 64);
    tx_of(a)->slot[0].ptr = 32;
    tx_of(a)->slot[1].ptr = 128;
    send_frames(a, 2);
    assert_int_equal(rx_of(b)->slot[0].ptr, 64);
    assert_int_equal(rx_of(b)->slot[1].ptr, 128);
    nm_close(a);
    nm_close(b);
}

static void a_bad_ring_of_one_end_does_not_reach_the_other(void **state)
{
    struct pipe_bed *bed = *state;
    struct nm_file *a = open_end(bed, "x0{1", 8), *b = open_end(bed, "x0}1", 8);
    struct netmap_ring *rx = rx_of(b);

    send_frames(a, 2);
    nm_rxsync(b);
    rx->head = rx->cur = 6; /* beyond tail */
    assert_int_equal(nm_rxsync(b), 0);
    assert_int_equal(rx->head, 6);
    nm_txsync(a);
    assert_int_equal(tx_of(a)->tail, 7);
    rx->head = rx->cur = 2;
    assert_int_equal(nm_rxsync(b), 0);
    nm_txsync(a);
    assert_int_equal(tx_of(a)->tail, 1);
    nm_close(a);
    nm_close(b);
}

/* ---- two threads ---- */

enum { N_FRAMES = 20000 };

struct end {
    struct nm_file *file;
    uint64_t n, errors;
};

/* Each frame carries its number; the receiver keeps every third buffer and gives another. */
static gpointer send_numbers(gpointer data)
{
    struct end *end = data;
    struct netmap_ring *ring = tx_of(end->file);

    while (end->n < N_FRAMES) {
        uint32_t head = atomic_load(&ring->head);

        for (; head != atomic_load(&ring->tail) && end->n < N_FRAMES; end->n++) {
            memcpy(nm_buf(ring, ring->slot[head].buf_idx), &end->n, sizeof(end->n));
            ring->slot[head].len = sizeof(end->n);
            head = nm_ring_next(ring, head);
        }
        atomic_store(&ring->cur, head);
        atomic_store(&ring->head, head);
        end->errors += nm_txsync(end->file) != 0;
        if (nm_ring_space(ring) == 0) {
            g_thread_yield();
        }
    }
    return NULL;
}

static gpointer receive_numbers(gpointer data)
{
    struct end *end = data;
    struct netmap_ring *ring = rx_of(end->file);
    uint32_t spare = nm_file_if(end->file)->ni_bufs_head;

    while (end->n < N_FRAMES) {
        uint32_t head = atomic_load(&ring->head);

        end->errors += nm_rxsync(end->file) != 0;
        if (nm_ring_space(ring) == 0) {
            g_thread_yield();
        }
        for (; head != atomic_load(&ring->tail); end->n++) {
            struct netmap_slot *slot = &ring->slot[head];
            const uint32_t buf_idx = slot->buf_idx;
            uint64_t number;

            memcpy(&number, nm_buf(ring, buf_idx), sizeof(number));
            end->errors += number != end->n || slot->len != sizeof(number);
            if (end->n % 3 == 0) {
                slot->buf_idx = spare;
                slot->flags = NS_BUF_CHANGED;
                spare = buf_idx;
            }
            head = nm_ring_next(ring, head);
        }
        atomic_store(&ring->cur, head);
        atomic_store(&ring->head, head);
    }
    nm_file_if(end->file)->ni_bufs_head = spare;
    memset(nm_buf(ring, spare), 0, sizeof(uint32_t));
    return NULL;
}

static void frames_of_two_threads_arrive_once_and_in_order(void **state)
{
    struct pipe_bed *bed = *state;
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_extra_bufs = 1};
    struct end from = {.file = open_end(bed, "x0{1", 32)}, to = {.file = nm_open(bed->host)};

    assert_int_equal(bed_register(to.file, "x0}1", &reg), 0);
    GThread *threads[] = {g_thread_new("sender", send_numbers, &from),
                          g_thread_new("receiver", receive_numbers, &to)};
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
    }
    assert_int_equal(from.errors, 0);
    assert_int_equal(to.errors, 0);
    assert_int_equal(to.n, N_FRAMES);
    nm_close(from.file);
    nm_close(to.file);
}

int main(void)
{
#define PIPE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        PIPE_TEST(the_ends_share_one_set_of_buffers),
        PIPE_TEST(slots_travel_and_come_back),
        PIPE_TEST(a_special_slot_among_many_is_seen),
        PIPE_TEST(only_whole_packets_are_seen),
        PIPE_TEST(without_a_reader_n_minus_1_slots_are_taken),
        PIPE_TEST(what_was_sent_survives_the_sender_and_the_ring_state_survives_a_close),
        PIPE_TEST(buffers_are_freed_where_they_are),
        PIPE_TEST(numbers_of_the_first_request_are_the_masters),
        PIPE_TEST(names_and_modes_that_are_no_pipe_are_refused),
        PIPE_TEST(a_pipe_of_a_port_owned_by_the_kernel_is_busy),
        PIPE_TEST(sixty_four_pipes_fit_on_a_port),
        PIPE_TEST(a_parent_that_is_not_there_is_made_and_goes_with_its_last_user),
        PIPE_TEST(a_switch_port_is_a_parent_too),
        PIPE_TEST(each_end_wakes_the_other),
        PIPE_TEST(the_larger_offset_stays),
        PIPE_TEST(a_bad_ring_of_one_end_does_not_reach_the_other),
        PIPE_TEST(frames_of_two_threads_arrive_once_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
