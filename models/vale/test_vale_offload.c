/*
 * vnet headers: put in front, made longer and shorter, taken off; checksums and segments that are
 * made then, checked byte by byte with a checksum of this file's own.
 */
#include "models/vale/vale_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

enum {
    MAX_OUT = 64,
    ROOM = 2048,
    ETHER = 14,
    IPV4 = 20,
    IPV6 = 40,
    TCP = 32, /* with 12 bytes of options */
    UDP = 8,
    MFS = 1514,
    FIN = 1,
    PSH = 8,
    ACK = 16,
};

/* Slots as a conversion fills them. */
struct out {
    uint8_t bytes[MAX_OUT][ROOM];
    uint32_t len[MAX_OUT], room;
    bool has_more[MAX_OUT];
    unsigned n, max;
    struct vale_sink sink;
};

static uint8_t *out_next(struct vale_sink *sink, uint32_t *room)
{
    struct out *out = sink->data;

    *room = out->room;
    return out->n < out->max ? out->bytes[out->n] : NULL;
}

static void out_done(struct vale_sink *sink, uint32_t len, bool has_more)
{
    struct out *out = sink->data;

    out->len[out->n] = len;
    out->has_more[out->n++] = has_more;
}

static struct out *out_new(void)
{
    struct out *out = g_new0(struct out, 1);

    out->room = ROOM;
    out->max = MAX_OUT;
    out->sink = (struct vale_sink){.next = out_next, .done = out_done, .data = out};
    return out;
}

static bool convert(struct out *out, unsigned src_hdr, unsigned dst_hdr,
                    const struct vale_frag *frags, unsigned n)
{
    struct vale_conversion how = {.src_hdr = src_hdr, .dst_hdr = dst_hdr, .dst_mfs = MFS};
    struct vale_frag copy[16];

    memcpy(copy, frags, n * sizeof(*frags));
    copy[0].frags = (uint8_t)n;
    out->n = 0;
    bool ok = vale_convert(&how, copy, n, &out->sink);
    if (ok) {
        assert_in_range(out->n, 1, vale_convert_slots(&how, copy, n, out->room));
    }
    return ok;
}

#define FRAG(at, bytes)                                                                            \
    {                                                                                              \
        .data = (at), .len = (uint16_t)(bytes)                                                     \
    }

/* ---- packets ---- */

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* The sum of big-endian words, folded. */
static unsigned sum_of(const uint8_t *at, uint32_t len, uint32_t sum)
{
    for (uint32_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)at[i] << 8 : at[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* What the transport's checksum field must make of it all: 0xffff. */
static unsigned transport_sum(const uint8_t *frame, uint32_t len, bool is_ipv4, unsigned protocol)
{
    uint32_t ip_len = is_ipv4 ? IPV4 : IPV6, begin = ETHER + ip_len;
    const uint8_t *addresses = frame + ETHER + (is_ipv4 ? 12 : 8);
    uint32_t sum = sum_of(addresses, is_ipv4 ? 8 : 32, protocol + (len - begin));

    return sum_of(frame + begin, len - begin, sum);
}

struct packet {
    uint8_t bytes[70000];
    uint32_t headers, len; /* of the frame; it begins at 12, behind room for a vnet header */
};

static uint8_t *frame_of(struct packet *p)
{
    return p->bytes + NM_VNET_HDR_LEN_12;
}

static struct packet *packet_new(bool is_ipv4, bool is_tcp, uint32_t payload)
{
    struct packet *p = g_new0(struct packet, 1);
    uint8_t *frame = frame_of(p), *ip = frame + ETHER;
    uint8_t *transport = ip + (is_ipv4 ? IPV4 : IPV6);

    for (unsigned i = 0; i < 12; i++) {
        frame[i] = (uint8_t)(2 + i * 2);
    }
    put16(frame + 12, is_ipv4 ? 0x0800 : 0x86dd);
    p->headers = ETHER + (is_ipv4 ? IPV4 : IPV6) + (is_tcp ? TCP : UDP);
    p->len = p->headers + payload;
    ip[0] = is_ipv4 ? 0x45 : 0x60;
    if (is_ipv4) {
        put16(ip + 2, p->len - ETHER);
        put16(ip + 4, 0xfffe); /* the id wraps */
        ip[8] = 64;
        ip[9] = is_tcp ? 6 : 17;
    } else {
        put16(ip + 4, p->len - ETHER - IPV6);
        ip[6] = is_tcp ? 6 : 17;
    }
    for (unsigned i = 0; i < (is_ipv4 ? 8 : 32); i++) {
        ip[(is_ipv4 ? 12 : 8) + i] = (uint8_t)(0x11 * (i + 1));
    }
    put16(transport, 1000);
    put16(transport + 2, 2000);
    if (is_tcp) {
        put16(transport + 4, 0xffff); /* the sequence number wraps */
        put16(transport + 6, 0xfc00);
        transport[12] = TCP / 4 << 4;
        transport[13] = ACK | PSH | FIN;
    }
    for (uint32_t i = 0; i < payload; i++) {
        frame[p->headers + i] = (uint8_t)(i * 7 + (i >> 8));
    }
    return p;
}

static void set_header(struct packet *p, unsigned hdr_len, const struct nm_vnet_hdr *header)
{
    memcpy(frame_of(p) - hdr_len, header, hdr_len);
}

/* ---- headers alone ---- */

static void a_header_of_zeros_is_put_in_front(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 100);
    const struct vale_frag frag = FRAG(frame_of(p), p->len);
    const uint8_t zeros[12] = {0};

    (void)state;
    memset(out->bytes[0], 0xee, ROOM);
    assert_true(convert(out, 0, 12, &frag, 1));
    assert_int_equal(out->n, 1);
    assert_int_equal(out->len[0], p->len + 12);
    assert_memory_equal(out->bytes[0], zeros, 12);
    assert_memory_equal(out->bytes[0] + 12, frame_of(p), p->len);
    assert_true(convert(out, 0, 10, &frag, 1));
    assert_int_equal(out->len[0], p->len + 10);
    assert_memory_equal(out->bytes[0] + 10, frame_of(p), p->len);
    g_free(out);
}

static void what_the_header_pushes_out_goes_to_a_slot_of_its_own(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, ROOM - ETHER - IPV4 - TCP);
    const struct vale_frag frag = FRAG(frame_of(p), p->len);

    (void)state;
    assert_int_equal(p->len, ROOM);
    assert_true(convert(out, 0, 12, &frag, 1));
    assert_int_equal(out->n, 2);
    assert_int_equal(out->len[0], ROOM);
    assert_true(out->has_more[0]);
    assert_int_equal(out->len[1], 12);
    assert_false(out->has_more[1]);
    assert_memory_equal(out->bytes[1], frame_of(p) + ROOM - 12, 12);
    out->max = 1;
    assert_false(convert(out, 0, 12, &frag, 1));
    g_free(out);
}

static void headers_of_10_and_12_bytes_become_each_other(void **state)
{
    const struct nm_vnet_hdr header = {.flags = NM_VNET_HDR_F_NEEDS_CSUM,
                                       .gso_type = NM_VNET_HDR_GSO_TCPV4,
                                       .hdr_len = 66,
                                       .gso_size = 1448,
                                       .csum_start = 34,
                                       .csum_offset = 16,
                                       .num_buffers = 0x5555};
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 100);
    const uint8_t zeros[2] = {0};

    (void)state;
    set_header(p, 10, &header);
    const struct vale_frag ten = FRAG(frame_of(p) - 10, p->len + 10);
    assert_true(convert(out, 10, 12, &ten, 1));
    assert_int_equal(out->len[0], p->len + 12);
    assert_memory_equal(out->bytes[0], &header, 10);
    assert_memory_equal(out->bytes[0] + 10, zeros, 2);
    assert_memory_equal(out->bytes[0] + 12, frame_of(p), p->len);
    set_header(p, 12, &header);
    const struct vale_frag twelve = FRAG(frame_of(p) - 12, p->len + 12);
    assert_true(convert(out, 12, 10, &twelve, 1));
    assert_int_equal(out->len[0], p->len + 10);
    assert_memory_equal(out->bytes[0], &header, 10);
    assert_memory_equal(out->bytes[0] + 10, frame_of(p), p->len);
    g_free(out);
}

static void a_header_in_a_fragment_of_its_own_is_found(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 500);
    uint8_t header[12] = {0};
    const struct vale_frag frags[] = {FRAG(header, 12), FRAG(frame_of(p), 100),
                                      FRAG(frame_of(p) + 100, p->len - 100)};

    (void)state;
    assert_true(convert(out, 12, 0, frags, 3));
    assert_int_equal(out->n, 2); /* a slot per fragment with data */
    assert_int_equal(out->len[0], 100);
    assert_true(out->has_more[0]);
    assert_int_equal(out->len[1], p->len - 100);
    assert_false(out->has_more[1]);
    assert_memory_equal(out->bytes[1], frame_of(p) + 100, p->len - 100);
    assert_false(out->sink.is_segmented);
    g_free(out);
}

/* ---- checksums ---- */

/* The field holds the pseudo header's sum, as a driver leaves it. */
static void ask_for_checksum(struct packet *p, bool is_ipv4, bool is_tcp)
{
    uint8_t *ip = frame_of(p) + ETHER, *transport = ip + (is_ipv4 ? IPV4 : IPV6);
    uint32_t len = p->len - (uint32_t)(transport - frame_of(p));
    const struct nm_vnet_hdr header = {.flags = NM_VNET_HDR_F_NEEDS_CSUM,
                                       .csum_start = (uint16_t)(transport - frame_of(p)),
                                       .csum_offset = is_tcp ? 16 : 6};

    put16(transport + header.csum_offset,
          sum_of(ip + (is_ipv4 ? 12 : 8), is_ipv4 ? 8 : 32, (is_tcp ? 6 : 17) + len));
    set_header(p, 12, &header);
}

static void a_checksum_is_made_when_the_header_is_taken_off(void **state)
{
    struct out *out = out_new();

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        bool is_ipv4 = i & 1, is_tcp = i & 2;
        g_autofree struct packet *p = packet_new(is_ipv4, is_tcp, i & 4 ? 1001 : 1000);
        ask_for_checksum(p, is_ipv4, is_tcp);
        const struct vale_frag frag = FRAG(p->bytes, p->len + 12);
        assert_true(convert(out, 12, 0, &frag, 1));
        assert_int_equal(out->len[0], p->len);
        assert_int_equal(transport_sum(out->bytes[0], p->len, is_ipv4, is_tcp ? 6 : 17), 0xffff);
        assert_memory_equal(out->bytes[0] + p->headers, frame_of(p) + p->headers,
                            p->len - p->headers);
    }
    g_free(out);
}

static void a_checksum_over_odd_fragments_is_the_same(void **state)
{
    struct out *whole = out_new(), *parts = out_new();
    g_autofree struct packet *p = packet_new(true, true, 1000);

    (void)state;
    ask_for_checksum(p, true, true);
    const struct vale_frag frag = FRAG(p->bytes, p->len + 12);
    assert_true(convert(whole, 12, 0, &frag, 1));
    for (uint32_t cut = 13; cut < p->len; cut += 37) { /* also in the middle of the field */
        uint32_t second = (p->len + 12 - cut) / 2 | 1;
        const struct vale_frag frags[] = {
            FRAG(p->bytes, cut), FRAG(p->bytes + cut, second),
            FRAG(p->bytes + cut + second, p->len + 12 - cut - second)};
        assert_true(convert(parts, 12, 0, frags, 3));
        assert_int_equal(parts->n, 3);
        uint8_t joined[3 * ROOM];
        memcpy(joined, parts->bytes[0], parts->len[0]);
        memcpy(joined + parts->len[0], parts->bytes[1], parts->len[1]);
        memcpy(joined + parts->len[0] + parts->len[1], parts->bytes[2], parts->len[2]);
        assert_memory_equal(joined, whole->bytes[0], p->len);
    }
    g_free(whole);
    g_free(parts);
}

static void a_checksum_that_is_zero_is_sent_as_all_ones(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, false, 2);
    uint8_t *udp = frame_of(p) + ETHER + IPV4;

    (void)state;
    ask_for_checksum(p, true, false);
    put16(frame_of(p) + p->headers, 0);
    put16(frame_of(p) + p->headers,
          0xffff - sum_of(udp, p->len - ETHER - IPV4, 0)); /* now all of it sums up to 0xffff */
    const struct vale_frag frag = FRAG(p->bytes, p->len + 12);
    assert_true(convert(out, 12, 0, &frag, 1));
    assert_int_equal(get16(out->bytes[0] + ETHER + IPV4 + 6), 0xffff);
    g_free(out);
}

static void a_checksum_field_outside_the_frame_drops_it(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 10);
    struct nm_vnet_hdr header = {.flags = NM_VNET_HDR_F_NEEDS_CSUM, .csum_start = 34};
    const struct vale_frag frag = FRAG(p->bytes, p->len + 12);

    (void)state;
    header.csum_offset = (uint16_t)(p->len - 34 - 2);
    set_header(p, 12, &header);
    assert_true(convert(out, 12, 0, &frag, 1));
    header.csum_offset++;
    set_header(p, 12, &header);
    assert_false(convert(out, 12, 0, &frag, 1));
    header.csum_start = header.csum_offset = 0xffff;
    set_header(p, 12, &header);
    assert_false(convert(out, 12, 0, &frag, 1));
    g_free(out);
}

static void headers_that_make_no_sense_drop_the_frame(void **state)
{
    const struct nm_vnet_hdr bad[] = {
        {.flags = 4}, {.flags = 0x80}, {.gso_type = 2}, {.gso_type = 5}, {.gso_type = 0x7f}};
    const struct nm_vnet_hdr good[] = {{.flags = NM_VNET_HDR_F_DATA_VALID},
                                       {.gso_type = NM_VNET_HDR_GSO_ECN}};
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 10);
    const struct vale_frag frag = FRAG(p->bytes, p->len + 12);

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        set_header(p, 12, &bad[i]);
        assert_false(convert(out, 12, 0, &frag, 1));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        set_header(p, 12, &good[i]);
        assert_true(convert(out, 12, 0, &frag, 1));
    }
    g_free(out);
}

/* ---- segments ---- */

static void check_tcp_segment(const struct packet *p, const uint8_t *segment, uint32_t len,
                              unsigned index, uint32_t offset, bool is_ipv4)
{
    const uint8_t *ip = segment + ETHER, *tcp = ip + (is_ipv4 ? IPV4 : IPV6);
    bool is_last = offset + len - p->headers == p->len - p->headers;

    if (is_ipv4) {
        assert_int_equal(get16(ip + 2), len - ETHER);
        assert_int_equal(get16(ip + 4), (0xfffe + index) & 0xffff);
        assert_int_equal(sum_of(ip, IPV4, 0), 0xffff);
    } else {
        assert_int_equal(get16(ip + 4), len - ETHER - IPV6);
    }
    assert_int_equal(get32(tcp + 4), 0xfffffc00 + offset);
    assert_int_equal(tcp[13], is_last ? ACK | PSH | FIN : ACK);
    assert_int_equal(transport_sum(segment, len, is_ipv4, 6), 0xffff);
    assert_memory_equal(segment + p->headers, p->bytes + 12 + p->headers + offset,
                        len - p->headers);
}

static void check_tcp(bool is_ipv4, uint32_t payload)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(is_ipv4, true, payload);
    const struct nm_vnet_hdr header = {
        .flags = NM_VNET_HDR_F_NEEDS_CSUM,
        .gso_type = is_ipv4 ? NM_VNET_HDR_GSO_TCPV4 : NM_VNET_HDR_GSO_TCPV6 | NM_VNET_HDR_GSO_ECN};
    uint32_t per_segment = MFS - p->headers, offset = 0;
    struct vale_frag frags[3] = {FRAG(p->bytes, 12 + p->headers + 5)};

    set_header(p, 12, &header);
    if (payload > 5) {
        frags[1] = (struct vale_frag)FRAG(p->bytes + frags[0].len, (payload - 5) / 2);
        frags[2] = (struct vale_frag)FRAG(frags[1].data + frags[1].len, payload - 5 - frags[1].len);
    } else {
        frags[0].len = (uint16_t)(12 + p->len);
    }
    assert_true(convert(out, 12, 0, frags, payload > 5 ? 3 : 1));
    assert_true(out->sink.is_segmented);
    assert_int_equal(out->n, payload ? (payload + per_segment - 1) / per_segment : 1);
    for (unsigned i = 0; i < out->n; i++) {
        uint32_t expected = MIN(per_segment, payload - offset) + p->headers;
        assert_int_equal(out->len[i], expected);
        assert_false(out->has_more[i]);
        check_tcp_segment(p, out->bytes[i], out->len[i], i, offset, is_ipv4);
        offset += out->len[i] - p->headers;
    }
    assert_int_equal(offset, payload);
    g_free(out);
}

static void tcp_is_cut_into_segments_of_the_destinations_frame_size(void **state)
{
    const uint32_t payloads[] = {0, 1, 1000, 1448, 1449, 2896, 2897, 64000};

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(payloads); i++) {
        check_tcp(true, payloads[i]);
        check_tcp(false, payloads[i]);
    }
}

static void udp_segments_have_lengths_of_their_own(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, false, 3000);
    const struct nm_vnet_hdr header = {.gso_type = NM_VNET_HDR_GSO_UDP};
    const struct vale_frag frag = FRAG(p->bytes, p->len + 12);

    (void)state;
    set_header(p, 12, &header);
    assert_true(convert(out, 12, 0, &frag, 1));
    assert_int_equal(out->n, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(get16(out->bytes[i] + ETHER + IPV4 + 4), out->len[i] - ETHER - IPV4);
        assert_int_equal(transport_sum(out->bytes[i], out->len[i], true, 17), 0xffff);
    }
    assert_int_equal(out->len[2], p->headers + 3000 - 2 * (MFS - p->headers));
    g_free(out);
}

static void segments_keep_a_vlan_tag(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 2000);
    const struct nm_vnet_hdr header = {.gso_type = NM_VNET_HDR_GSO_TCPV4};
    const uint8_t tag[4] = {0x81, 0x00, 0x20, 0x05};

    (void)state;
    memmove(frame_of(p) + 16, frame_of(p) + 12, p->len - 12);
    memcpy(frame_of(p) + 12, tag, 4);
    set_header(p, 10, &header);
    const struct vale_frag frag = FRAG(frame_of(p) - 10, p->len + 4 + 10);
    assert_true(convert(out, 10, 0, &frag, 1));
    assert_int_equal(out->n, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_memory_equal(out->bytes[i] + 12, tag, 4);
        memmove(out->bytes[i] + 12, out->bytes[i] + 16, out->len[i] - 16);
        assert_int_equal(transport_sum(out->bytes[i], out->len[i] - 4, true, 6), 0xffff);
    }
    assert_int_equal(out->len[0], MFS);
    g_free(out);
}

static void what_cannot_be_segmented_is_dropped(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 3000);
    const struct nm_vnet_hdr header = {.gso_type = NM_VNET_HDR_GSO_TCPV4};
    uint8_t *ip = frame_of(p) + ETHER;

    (void)state;
    set_header(p, 12, &header);
    const struct vale_frag frag = FRAG(p->bytes, p->len + 12);
    const struct vale_frag split[] = {FRAG(p->bytes, 12 + p->headers - 1),
                                      FRAG(p->bytes + 12 + p->headers - 1, 3001)};
    assert_false(convert(out, 12, 0, split, 2)); /* headers in two fragments */
    out->max = 2;
    assert_false(convert(out, 12, 0, &frag, 1));
    out->max = 3;
    assert_true(convert(out, 12, 0, &frag, 1));
    out->room = p->headers; /* no buffer for a byte of payload */
    assert_false(convert(out, 12, 0, &frag, 1));
    out->room = ROOM;
    ip[IPV4 + 12] = 4 << 4; /* a TCP header of 16 bytes */
    assert_false(convert(out, 12, 0, &frag, 1));
    ip[IPV4 + 12] = 5 << 4;
    ip[0] = 0x44; /* an IP header of 16 bytes */
    assert_false(convert(out, 12, 0, &frag, 1));
    ip[0] = 0x45;
    assert_true(convert(out, 12, 0, &frag, 1));
    put16(frame_of(p) + 12, 0x0806);
    assert_false(convert(out, 12, 0, &frag, 1));
    g_free(out);
}

static void indirect_memory_that_is_not_there_drops_the_frame(void **state)
{
    struct out *out = out_new();
    g_autofree struct packet *p = packet_new(true, true, 3000);
    const struct nm_vnet_hdr header = {.gso_type = NM_VNET_HDR_GSO_TCPV4};
    uint8_t *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct vale_frag frags[2] = {FRAG(p->bytes, 12 + p->headers + 1000), FRAG(hole, 2000)};

    (void)state;
    set_header(p, 12, &header);
    frags[0].flags = frags[1].flags = NS_INDIRECT;
    assert_false(convert(out, 12, 0, frags, 2));
    frags[1].data = frags[0].data + frags[0].len;
    assert_true(convert(out, 12, 0, frags, 2));
    assert_int_equal(out->n, 3);
    munmap(hole, 4096);
    g_free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_of_zeros_is_put_in_front),
        cmocka_unit_test(what_the_header_pushes_out_goes_to_a_slot_of_its_own),
        cmocka_unit_test(headers_of_10_and_12_bytes_become_each_other),
        cmocka_unit_test(a_header_in_a_fragment_of_its_own_is_found),
        cmocka_unit_test(a_checksum_is_made_when_the_header_is_taken_off),
        cmocka_unit_test(a_checksum_over_odd_fragments_is_the_same),
        cmocka_unit_test(a_checksum_that_is_zero_is_sent_as_all_ones),
        cmocka_unit_test(a_checksum_field_outside_the_frame_drops_it),
        cmocka_unit_test(headers_that_make_no_sense_drop_the_frame),
        cmocka_unit_test(tcp_is_cut_into_segments_of_the_destinations_frame_size),
        cmocka_unit_test(udp_segments_have_lengths_of_their_own),
        cmocka_unit_test(segments_keep_a_vlan_tag),
        cmocka_unit_test(what_cannot_be_segmented_is_dropped),
        cmocka_unit_test(indirect_memory_that_is_not_there_drops_the_frame),
    };
    return cmocka_run_group_tests_name("models/vale/offload", tests, NULL, NULL);
}
