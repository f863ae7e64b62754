/*
 * NIC-like ports with a real TAP behind them, in a network namespace of this process' own: the real
 * Linux stack answers. Skipped where that is not permitted.
 */
#include "models/netmap/test_nm_nic.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *why_not; /* NULL: TAPs can be made */

static int enter_namespace(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    if (unshare(CLONE_NEWNET) < 0) {
        why_not = g_strdup_printf("no network namespace: %s", g_strerror(errno));
        return 0;
    }
    struct backend *tap = backend_tap_new("probe", &error);
    if (!tap) {
        why_not = g_strdup(error->message);
    }
    backend_free(tap);
    return 0;
}

static void skip_without_taps(void)
{
    if (why_not) {
        print_message("skipped: %s\n", why_not);
        skip();
    }
}

/* An interface of the kernel with the address 10.77.0.1/24. */
static struct backend *tap_new(const char *name)
{
    g_autoptr(GError) error = NULL;
    struct ifreq request = {0};
    struct sockaddr_in *address = (struct sockaddr_in *)(void *)&request.ifr_addr;
    struct backend *tap = backend_tap_new(name, &error);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_non_null(tap);
    assert_true(fd >= 0);
    (void)g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = inet_addr("10.77.0.1");
    assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
    address->sin_addr.s_addr = inet_addr("255.255.255.0");
    assert_int_equal(ioctl(fd, SIOCSIFNETMASK, &request), 0);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
    return tap;
}

/* ---- frames of 02:00:00:00:00:07, 10.77.0.7 ---- */

static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 7};

static void make_arp_request(uint8_t *frame)
{
    static const uint8_t arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,  0,  0, 0, 0, 7,
                                    8,    6,    0,    1,    8,    0,    6,  4,  0, 1, /* request */
                                    2,    0,    0,    0,    0,    7,    10, 77, 0, 7, 0, 0,
                                    0,    0,    0,    0,    10,   77,   0,  1};

    memset(frame, 0, 60);
    memcpy(frame, arp, sizeof(arp));
}

static bool is_arp_reply(const uint8_t *frame, uint32_t len)
{
    return len >= 42 && frame[12] == 8 && frame[13] == 6 && frame[21] == 2 &&
           memcmp(frame, own_mac, 6) == 0 && frame[28] == 10 && frame[31] == 1;
}

static uint16_t checksum(const uint8_t *bytes, unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i += 2) {
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

enum { ECHO_LEN = 14 + 20 + 8 + 56 };

static void make_echo_request(uint8_t *frame, const uint8_t *to, uint8_t number)
{
    static const uint8_t ip[20] = {
        0x45, 0, 0, ECHO_LEN - 14, 0, 0, 0, 0, 64, 1, 0, 0, 10, 77, 0, 7, 10, 77, 0, 1};
    uint16_t sum;

    memset(frame, 0x5a, ECHO_LEN);
    memcpy(frame, to, 6);
    memcpy(frame + 6, own_mac, 6);
    frame[12] = 8;
    frame[13] = 0;
    memcpy(frame + 14, ip, sizeof(ip));
    sum = checksum(frame + 14, 20);
    frame[24] = (uint8_t)(sum >> 8);
    frame[25] = (uint8_t)sum;
    memset(frame + 34, 0, 8);
    frame[34] = 8; /* echo request */
    frame[41] = number;
    sum = checksum(frame + 34, ECHO_LEN - 34);
    frame[36] = (uint8_t)(sum >> 8);
    frame[37] = (uint8_t)sum;
}

static bool is_echo_reply(const uint8_t *frame, uint32_t len, uint8_t number)
{
    return len == ECHO_LEN && frame[12] == 8 && frame[13] == 0 && frame[23] == 1 &&
           frame[34] == 0 && frame[41] == number && checksum(frame + 34, ECHO_LEN - 34) == 0 &&
           frame[ECHO_LEN - 1] == 0x5a;
}

/* ---- through rings ---- */

static void send_frame(struct nm_file *file, struct netmap_ring *ring, const uint8_t *frame,
                       uint32_t len)
{
    uint32_t head = atomic_load(&ring->head);

    assert_true(nm_ring_space(ring) > 0);
    memcpy(nm_buf(ring, ring->slot[head].buf_idx), frame, len);
    ring->slot[head].len = (uint16_t)len;
    ring->slot[head].flags = 0;
    head = nm_ring_next(ring, head);
    atomic_store(&ring->cur, head);
    atomic_store(&ring->head, head);
    assert_int_equal(nm_txsync(file), 0);
}

/* The next frame of the ring, waiting for it. Others (the kernel asks for IPv6 neighbours) come,
 * too. */
static uint32_t receive_frame(struct nm_file *file, struct netmap_ring *ring, uint8_t *frame)
{
    uint32_t len = 0;

    while (nm_ring_space(ring) == 0) {
        assert_int_equal(wait_for(file, POLLIN), POLLIN);
    }
    const struct netmap_slot *slot = peek(ring);
    len = slot->len;
    memcpy(frame, nm_buf(ring, slot->buf_idx), len);
    release(ring);
    return len;
}

static void ask_the_kernel(struct nm_file *file, struct netmap_ring *tx, struct netmap_ring *rx)
{
    uint8_t frame[2048], mac[6];
    uint32_t len;

    make_arp_request(frame);
    send_frame(file, tx, frame, 60);
    do {
        len = receive_frame(file, rx, frame);
    } while (!is_arp_reply(frame, len));
    memcpy(mac, frame + 22, sizeof(mac));
    for (uint8_t i = 0; i < 10; i++) {
        make_echo_request(frame, mac, i);
        send_frame(file, tx, frame, ECHO_LEN);
        do {
            len = receive_frame(file, rx, frame);
        } while (!is_echo_reply(frame, len, i));
    }
}

static struct nm_host *host_with(struct nm_nic_options o)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 8192}, NULL);

    o.name = "em0";
    o.tx_slots = o.rx_slots = 64;
    assert_non_null(host);
    assert_true(nm_nic_new(host, &o, NULL));
    return host;
}

static void the_kernel_answers_at_the_other_end_of_the_wire(void **state)
{
    (void)state;
    skip_without_taps();
    struct nm_host *host = host_with((struct nm_nic_options){.wire = tap_new("wire0")});
    struct nm_file *file = bind_to(host, NR_REG_ALL_NIC, 0);

    ask_the_kernel(file, tx_ring(file, 0), rx_ring(file, 0));
    nm_close(file);
    nm_host_free(host);
}

static void the_kernel_answers_an_emulated_interface(void **state)
{
    (void)state;
    skip_without_taps();
    struct nm_host *host =
        host_with((struct nm_nic_options){.wire = tap_new("wire1"), .is_emulated = true});
    struct nm_file *file = bind_to(host, NR_REG_ALL_NIC, 0);

    ask_the_kernel(file, tx_ring(file, 0), rx_ring(file, 0));
    nm_close(file);
    nm_host_free(host);
}

static void the_kernel_is_the_stack_behind_the_host_rings(void **state)
{
    (void)state;
    skip_without_taps();
    struct nm_host *host = host_with((struct nm_nic_options){.stack = tap_new("stack0")});
    struct nm_file *file = bind_to(host, NR_REG_NIC_SW, 0);

    ask_the_kernel(file, tx_ring(file, 1), rx_ring(file, 1));
    nm_close(file);
    nm_host_free(host);
}

/* One interface is the kernel's way out: what it sends is forwarded to the wire, what comes from
 * there is forwarded to it, and the program only marks. */
static void the_kernel_talks_through_a_program_that_forwards(void **state)
{
    uint8_t frame[2048];
    struct nm_nic_options o = {0};
    struct backend *end;
    struct backend_frame f = {.data = frame};

    (void)state;
    skip_without_taps();
    assert_true(backend_cable_new(64, 2048, &o.wire, &end, NULL));
    o.stack = tap_new("stack1");
    struct nm_host *host = host_with(o);
    struct nm_file *file = bind_to(host, NR_REG_NIC_SW, 0);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&rx_ring(file, i)->flags, NR_FORWARD);
    }
    make_arp_request(frame);
    f.len = 60;
    assert_int_equal(backend_send(end, &f, 1), 1);
    for (;;) {
        f.len = sizeof(frame);
        if (backend_receive(end, &f, 1) == 1 && is_arp_reply(frame, f.len)) {
            break;
        }
        for (unsigned i = 0; i < 2; i++) {
            struct netmap_ring *ring = rx_ring(file, i);
            while (nm_ring_space(ring) > 0) {
                peek(ring)->flags |= NS_FORWARD;
                release(ring);
            }
        }
        if (nm_poll(file, POLLIN) == 0 && !is_readable(end->fd)) {
            struct pollfd p[] = {{.fd = nm_poll_fd(file), .events = POLLIN},
                                 {.fd = end->fd, .events = POLLIN}};
            assert_true(poll(p, 2, DEADLINE_MS) > 0);
        }
    }
    nm_close(file);
    nm_host_free(host);
    backend_free(end);
}

static void without_a_program_the_kernel_has_the_wire_to_itself(void **state)
{
    uint8_t frame[2048];
    struct nm_nic_options o = {0};
    struct backend *end;
    struct backend_frame f = {.data = frame, .len = 60};

    (void)state;
    skip_without_taps();
    assert_true(backend_cable_new(64, 2048, &o.wire, &end, NULL));
    o.stack = tap_new("stack2");
    struct nm_host *host = host_with(o);
    make_arp_request(frame);
    assert_int_equal(backend_send(end, &f, 1), 1);
    do {
        f.len = sizeof(frame);
        while (backend_receive(end, &f, 1) == 0) {
            struct pollfd p = {.fd = end->fd, .events = POLLIN};
            assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        }
    } while (!is_arp_reply(frame, f.len));
    nm_host_free(host);
    backend_free(end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_answers_at_the_other_end_of_the_wire),
        cmocka_unit_test(the_kernel_answers_an_emulated_interface),
        cmocka_unit_test(the_kernel_is_the_stack_behind_the_host_rings),
        cmocka_unit_test(the_kernel_talks_through_a_program_that_forwards),
        cmocka_unit_test(without_a_program_the_kernel_has_the_wire_to_itself),
    };

    return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
