/*
 * Fuzz target: frames with vnet headers, of any fragments, sent to ports of each header length at
 * once. Whatever comes, slots stay within their buffers, packets end where they say, and segments
 * carry right checksums.
 * Input: a byte for the sender (header of 0, 10, 12), then slots: two bytes of length, one of flags
 * (with NS_INDIRECT two of where it points), and so many bytes of data.
 */
#include "models/vale/vale.h"

#include <stdlib.h>
#include <string.h>

enum {
    SENDERS = 3,
    RECEIVERS = 4,
    SLOTS = 256,
    FAR_BYTES = 65536, /* memory that indirect slots point to */
    ETHER = 14,
};
static const unsigned sender_hdr[SENDERS] = {0, 10, 12};
/* The last one had a header once, and takes long frames since. */
static const unsigned receiver_hdr[RECEIVERS] = {0, 10, 12, 0};
enum { LONG_RECEIVER = 3 };

struct end {
    struct nm_file *file;
    struct netmap_if *nifp;
};

static struct nm_host *host;
static struct end senders[SENDERS], receivers[RECEIVERS];
static uint8_t *far_memory; /* an unmapped page behind it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the bed, made once ---- */

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void request(const char *name, uint16_t type, void *body, struct nm_file *file)
{
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = type, .nr_body = (uintptr_t)body};

    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    MUST(nm_ctrl(file, &header) == 0);
}

static void set_header(const char *name, unsigned len, struct nm_file *file)
{
    struct nmreq_port_hdr hdr = {.nr_hdr_len = len};

    request(name, NETMAP_REQ_PORT_HDR_SET, &hdr, file);
}

static void open_end(struct end *end, const char *kind, unsigned i, unsigned hdr)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC,
                                 .nr_tx_slots = SLOTS,
                                 .nr_rx_slots = SLOTS,
                                 .nr_flags = NR_ACCEPT_VNET_HDR};
    g_autofree char *name = g_strdup_printf("vale0:%s%u", kind, i);

    end->file = nm_open(host);
    request(name, NETMAP_REQ_REGISTER, &reg, end->file);
    end->nifp = nm_file_if(end->file);
    set_header(name, hdr, end->file);
}

static unsigned to_all(void *data, const uint8_t *frame, size_t len, unsigned src_port,
                       uint8_t *ring)
{
    (void)data, (void)src_port, (void)ring;
    return frame[0] + frame[len - 1] < 0 ? VALE_PORT_DROP : VALE_PORT_BROADCAST;
}

static void open_all(void)
{
    host = nm_host_new(NULL, NULL);
    MUST(host);
    for (unsigned i = 0; i < RECEIVERS; i++) {
        open_end(&receivers[i], "r", i, receiver_hdr[i]);
    }
    set_header("vale0:r3", NM_VNET_HDR_LEN_12, receivers[LONG_RECEIVER].file);
    set_header("vale0:r3", 0, receivers[LONG_RECEIVER].file);
    for (unsigned i = 0; i < SENDERS; i++) {
        open_end(&senders[i], "s", i, sender_hdr[i]);
    }
    MUST(vale_set_lookup(host, "vale0:", to_all, NULL) == 0);
    far_memory = g_malloc0(FAR_BYTES);
}

/* ---- sending ---- */

struct input {
    const uint8_t *data;
    size_t left;
};

static unsigned next_number(struct input *in, unsigned n_bytes)
{
    unsigned value = 0;

    for (; n_bytes > 0 && in->left > 0; n_bytes--, in->left--) {
        value = value << 8 | *in->data++;
    }
    return value;
}

/* Where nothing is mapped, at the end of what is, or inside. */
static uint8_t *far_address(unsigned number)
{
    return number < 4 ? (uint8_t *)(uintptr_t)number : far_memory + number % (FAR_BYTES - 4096);
}

static void put_slot(struct netmap_ring *ring, struct netmap_slot *slot, struct input *in)
{
    slot->len = (uint16_t)next_number(in, 2);
    slot->flags = (uint16_t)next_number(in, 1);
    uint8_t *to = (uint8_t *)nm_buf(ring, slot->buf_idx);
    size_t room = ring->nr_buf_size;
    if (slot->flags & NS_INDIRECT) {
        uint8_t *at = far_address(next_number(in, 2));
        slot->ptr = (uintptr_t)at;
        slot->len %= 4096;
        to = at >= far_memory ? at : to;
        room = 4096;
    }
    size_t n = MIN(MIN(in->left, room), slot->len);
    memset(to, 0, MIN(room, slot->len));
    memcpy(to, in->data, n);
    in->data += n;
    in->left -= n;
}

static void send_all(struct end *sender, struct input *in)
{
    struct netmap_ring *ring = nm_txring(sender->nifp, 0);
    uint32_t head = ring->head;

    for (unsigned i = 0; i + 1 < SLOTS && in->left > 0; i++) {
        put_slot(ring, &ring->slot[head], in);
        head = nm_ring_next(ring, head);
    }
    ring->cur = ring->head = head;
    MUST(nm_txsync(sender->file) == 0);
    MUST(nm_ring_space(ring) == SLOTS - 1);
}

/* ---- what came ---- */

static unsigned sum_of(const uint8_t *at, uint32_t len, uint32_t sum)
{
    for (uint32_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)at[i] << 8 : at[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* A frame made by segmentation, without tags. */
static void check_segment(const uint8_t *frame, uint32_t len)
{
    unsigned type = frame[12] << 8 | frame[13];
    const uint8_t *ip = frame + ETHER;
    uint32_t ip_len = type == 0x86dd ? 40 : (ip[0] & 15u) * 4, left = len - ETHER - ip_len;

    if (type != 0x0800 && type != 0x86dd) {
        return;
    }
    MUST(len > ETHER + ip_len);
    MUST(type == 0x86dd || sum_of(ip, ip_len, 0) == 0xffff);
    uint32_t addresses = type == 0x86dd ? sum_of(ip + 8, 32, 0) : sum_of(ip + 12, 8, 0);
    unsigned as_tcp = sum_of(ip + ip_len, left, sum_of(NULL, 0, addresses + 6 + left));
    unsigned as_udp = sum_of(ip + ip_len, left, sum_of(NULL, 0, addresses + 17 + left));
    MUST(as_tcp == 0xffff || as_udp == 0xffff);
}

static void take_all(struct end *receiver, unsigned hdr, uint32_t max_segment)
{
    struct netmap_ring *ring = nm_rxring(receiver->nifp, 0);
    unsigned n = 0;

    MUST(nm_rxsync(receiver->file) == 0);
    for (uint32_t at = ring->head; at != ring->tail; at = nm_ring_next(ring, at)) {
        const struct netmap_slot *slot = &ring->slot[at];
        MUST(slot->len <= ring->nr_buf_size);
        n++;
        if (slot->flags == 0 && slot->len > 0) {
            MUST(hdr == 0 && n == 1 && slot->len <= max_segment);
            check_segment((const uint8_t *)nm_buf(ring, slot->buf_idx), slot->len);
        } else if (slot->flags != 0) {
            MUST(slot->flags & NS_MOREFRAG ? NS_RFRAGS(slot->flags) > n
                                           : NS_RFRAGS(slot->flags) == n);
        }
        n = slot->flags & NS_MOREFRAG ? n : 0;
    }
    MUST(n == 0);
    ring->cur = ring->head = ring->tail;
    MUST(nm_rxsync(receiver->file) == 0);
    MUST(nm_ring_space(ring) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (!host) {
        open_all();
    }
    send_all(&senders[next_number(&in, 1) % SENDERS], &in);
    for (unsigned i = 0; i < RECEIVERS; i++) {
        take_all(&receivers[i], receiver_hdr[i], i == LONG_RECEIVER ? 2048 : VALE_DEFAULT_MFS);
    }
    return 0;
}
