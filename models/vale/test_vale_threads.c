/*
 * Many threads on one switch: senders that fill one receiver's ring at once, and ports that come
 * and go meanwhile. Every frame carries its sender, a number and a sum; none may be corrupted,
 * doubled or out of order, and none lost that is not counted.
 */
#include "models/vale/test_vale_client.h"

enum { SENDERS = 3, FRAMES = 6000, DEADLINE_MS = 20000, RECEIVER = 0x50, NOBODY = 0x60 };

/* Behind the addresses and the type. */
struct mark {
    uint32_t sender, number, sum;
};
enum { MARK_AT = 14, MIN_LEN = 60, MAX_LEN = 1514 };

static uint32_t length_of(uint32_t number)
{
    return MIN_LEN + number * 7919 % (MAX_LEN - MIN_LEN);
}

static uint32_t fill(uint8_t *frame, unsigned dst, uint32_t sender, uint32_t number)
{
    uint32_t len = length_of(number);
    struct mark mark = {.sender = sender, .number = number};

    memset(frame, (int)(sender * 31 + number), len);
    test_mac(frame, dst);
    test_mac(frame + 6, 1 + sender);
    for (uint32_t i = MARK_AT + sizeof(mark); i < len; i++) {
        mark.sum = mark.sum * 31 + frame[i];
    }
    memcpy(frame + MARK_AT, &mark, sizeof(mark));
    return len;
}

/* What a frame says of itself; all of it must fit together. */
static struct mark check(const uint8_t *frame, uint32_t len)
{
    struct mark mark;
    uint32_t sum = 0;

    assert_true(len >= MIN_LEN);
    memcpy(&mark, frame + MARK_AT, sizeof(mark));
    for (uint32_t i = MARK_AT + sizeof(mark); i < len; i++) {
        sum = sum * 31 + frame[i];
    }
    assert_int_equal(len, length_of(mark.number));
    assert_int_equal(sum, mark.sum);
    return mark;
}

static void wait_for(struct nm_file *file, short events)
{
    struct pollfd fd = {.fd = nm_poll_fd(file), .events = POLLIN};

    if (nm_poll(file, events) == 0) {
        assert_int_equal(poll(&fd, 1, DEADLINE_MS), 1);
    }
}

/* ---- threads ---- */

struct bed {
    struct nm_host *host;
    struct client senders[SENDERS], receiver;
    _Atomic bool is_stopping;
    uint32_t n_received[SENDERS], next[SENDERS];
};

struct sender {
    struct bed *bed;
    uint32_t number;
    pthread_t thread;
};

static void *send_all(void *data)
{
    const struct sender *s = data;
    struct client *c = &s->bed->senders[s->number];
    struct netmap_ring *ring = nm_txring(c->nifp, 0);
    uint8_t frame[2048];

    for (uint32_t i = 0; i < FRAMES;) {
        for (unsigned k = 0; k < 50 && i < FRAMES && nm_ring_space(ring) > 0; k++, i++) {
            client_put(c, 0, frame, (uint16_t)fill(frame, RECEIVER, s->number, i));
        }
        assert_int_equal(nm_txsync(c->file), 0);
        if (nm_ring_space(ring) == 0) {
            wait_for(c->file, POLLOUT);
        }
    }
    while (atomic_load(&ring->tail) != (ring->head + ring->num_slots - 1) % ring->num_slots) {
        wait_for(c->file, POLLOUT); /* the last ones */
        assert_int_equal(nm_txsync(c->file), 0);
    }
    return NULL;
}

/* Takes what is there; how many. */
static uint32_t receive(struct bed *bed)
{
    struct client *c = &bed->receiver;
    uint8_t frame[2048];
    uint16_t flags;
    uint32_t n = 0;

    for (int len; (len = client_take(c, 0, frame, &flags)) >= 0;) {
        if (len == 0) {
            continue; /* what another sender gave up */
        }
        struct mark mark = check(frame, (uint32_t)len);
        assert_true(mark.sender < SENDERS);
        assert_true(mark.number >= bed->next[mark.sender]);
        bed->next[mark.sender] = mark.number + 1;
        bed->n_received[mark.sender]++;
        n++;
    }
    return n;
}

static struct bed *bed_open(enum vale_full_policy policy)
{
    struct bed *bed = g_new0(struct bed, 1);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_tx_slots = 128, .nr_rx_slots = 128};

    bed->host = test_host();
    for (unsigned i = 0; i < SENDERS; i++) {
        char name[NETMAP_REQ_IFNAMSIZ];
        (void)g_snprintf(name, sizeof(name), "vale0:s%u", i);
        assert_int_equal(client_open_with(&bed->senders[i], bed->host, name, &reg), 0);
    }
    assert_int_equal(client_open_with(&bed->receiver, bed->host, "vale0:r", &reg), 0);
    client_send(&bed->receiver, 0xff, RECEIVER, 0); /* from now on it is known */
    assert_int_equal(vale_set_full_policy(bed->host, "vale0:", policy), 0);
    return bed;
}

static void bed_close(struct bed *bed)
{
    for (unsigned i = 0; i < SENDERS; i++) {
        client_close(&bed->senders[i]);
    }
    client_close(&bed->receiver);
    nm_host_free(bed->host);
    g_free(bed);
}

static uint64_t n_dropped(const struct bed *bed)
{
    struct vale_port_stats stats;

    assert_int_equal(vale_port_stats(bed->host, "vale0:r", &stats), 0);
    return stats.dropped_full;
}

/* Until all senders are done and nothing is left. */
static void run_senders(struct bed *bed)
{
    struct sender senders[SENDERS];
    const uint64_t all = (uint64_t)SENDERS * FRAMES;
    uint64_t n = 0;

    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.bed = bed, .number = i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    while (n + n_dropped(bed) < all) {
        uint32_t some = receive(bed);
        n += some;
        if (some == 0 && n + n_dropped(bed) < all) {
            wait_for(bed->receiver.file, POLLIN);
        }
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(senders[i].thread, NULL);
    }
    assert_int_equal(n + receive(bed) + n_dropped(bed), all);
}

/* ---- */

static void senders_that_wait_lose_nothing(void **state)
{
    struct bed *bed = bed_open(VALE_FULL_WAIT);

    (void)state;
    run_senders(bed);
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(bed->n_received[i], FRAMES);
    }
    bed_close(bed);
}

static void what_senders_lose_is_counted(void **state)
{
    struct bed *bed = bed_open(VALE_FULL_DROP);

    (void)state;
    run_senders(bed);
    bed_close(bed);
}

/* Ports that are opened, flood a frame, and go; a NEWIF port that is attached and detached. */
static void *come_and_go(void *data)
{
    struct bed *bed = data;
    struct nmreq_vale_newif newif = {.nr_tx_slots = 16, .nr_rx_slots = 16};

    assert_int_equal(test_request(bed->host, NETMAP_REQ_VALE_NEWIF, TEST_NAME("v0"), &newif), 0);
    for (unsigned i = 0; !atomic_load(&bed->is_stopping); i++) {
        struct nmreq_vale_attach attach = {.reg.nr_mode = NR_REG_ALL_NIC};
        struct nmreq_vale_detach detach = {0};
        struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC,
                                     .nr_tx_slots = 16,
                                     .nr_rx_slots = 16,
                                     .nr_rx_rings = (uint16_t)(1 + i % 3)};
        struct client c;
        assert_int_equal(client_open_with(&c, bed->host, "vale0:guest", &reg), 0);
        assert_int_equal(
            test_request(bed->host, NETMAP_REQ_VALE_ATTACH, TEST_NAME("vale0:v0"), &attach), 0);
        client_send(&c, NOBODY + 1, NOBODY, 0); /* to where nobody is: dropped or flooded */
        assert_int_equal(
            test_request(bed->host, NETMAP_REQ_VALE_DETACH, TEST_NAME("vale0:v0"), &detach), 0);
        client_close(&c);
    }
    return NULL;
}

/* Drops everything that is not for the receiver. */
static unsigned only_to_receiver(void *data, const uint8_t *frame, size_t len, unsigned src_port,
                                 uint8_t *ring)
{
    (void)data, (void)len, (void)src_port, (void)ring;
    return frame[5] == RECEIVER ? SENDERS : VALE_PORT_DROP;
}

static void ports_come_and_go_without_a_loss_to_others(void **state)
{
    struct bed *bed = bed_open(VALE_FULL_WAIT);
    pthread_t guest;

    (void)state;
    assert_int_equal(vale_set_lookup(bed->host, "vale0:", only_to_receiver, NULL), 0);
    assert_int_equal(pthread_create(&guest, NULL, come_and_go, bed), 0);
    run_senders(bed);
    atomic_store(&bed->is_stopping, true);
    pthread_join(guest, NULL);
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(bed->n_received[i], FRAMES);
    }
    bed_close(bed);
}

/* One that receives what all others flood, and is gone again. */
static void *receive_a_little(void *data)
{
    struct bed *bed = data;
    uint8_t frame[2048];
    uint16_t flags;

    while (!atomic_load(&bed->is_stopping)) {
        struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_rx_slots = 64};
        struct client c;
        assert_int_equal(client_open_with(&c, bed->host, "vale0:guest", &reg), 0);
        for (int len; (len = client_take(&c, 0, frame, &flags)) >= 0;) {
            if (len > 0) {
                check(frame, (uint32_t)len);
            }
        }
        client_close(&c);
    }
    return NULL;
}

static unsigned to_all(void *data, const uint8_t *frame, size_t len, unsigned src_port,
                       uint8_t *ring)
{
    (void)data, (void)frame, (void)len, (void)src_port, (void)ring;
    return VALE_PORT_BROADCAST;
}

static void receivers_come_and_go_while_all_is_flooded(void **state)
{
    struct bed *bed = bed_open(VALE_FULL_DROP);
    pthread_t guest;

    (void)state;
    assert_int_equal(vale_set_lookup(bed->host, "vale0:", to_all, NULL), 0);
    assert_int_equal(pthread_create(&guest, NULL, receive_a_little, bed), 0);
    run_senders(bed);
    atomic_store(&bed->is_stopping, true);
    pthread_join(guest, NULL);
    bed_close(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(senders_that_wait_lose_nothing),
        cmocka_unit_test(what_senders_lose_is_counted),
        cmocka_unit_test(ports_come_and_go_without_a_loss_to_others),
        cmocka_unit_test(receivers_come_and_go_while_all_is_flooded),
    };
    return cmocka_run_group_tests_name("models/vale/threads", tests, NULL, NULL);
}
