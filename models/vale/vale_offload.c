/*
 * Frames between ports with and without a vnet header (netmap.md 9.4): a header is put in front,
 * made longer or shorter, or taken off; then the checksum and the segmentation that it asked for
 * are done here. As netmap's switch does it, segments are as long as the destination takes
 * (gso_size is not looked at), and the Ethertype says which IP, gso_type which transport.
 */
#include "models/vale/vale_checksum.h"
#include "models/vale/vale_private.h"

enum {
    ETHERTYPE_AT = 12,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
    ETHERTYPE_VLAN = 0x8100,
    VLAN_TAG = 4, /* bytes */

    IPV4_MIN = 20, /* bytes of a header */
    IPV4_LENGTH_AT = 2,
    IPV4_ID_AT = 4,
    IPV4_CHECKSUM_AT = 10,
    IPV4_ADDRESSES_AT = 12,
    IPV6_HEADER = 40,
    IPV6_LENGTH_AT = 4,
    IPV6_ADDRESSES_AT = 8,

    TCP_MIN = 20,
    TCP_SEQUENCE_AT = 4,
    TCP_LENGTH_AT = 12,
    TCP_FLAGS_AT = 13,
    TCP_CHECKSUM_AT = 16,
    TCP_FIN = 0x01,
    TCP_PSH = 0x08,
    UDP_HEADER = 8,
    UDP_LENGTH_AT = 4,
    UDP_CHECKSUM_AT = 6,
    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,

    MAX_HEADERS = 160, /* bytes: Ethernet, tags, IPv4 and TCP with all their options */
    MAX_TAGS = 2,
};

static uint32_t load_be16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static void store_be16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint32_t load_be32(const uint8_t *at)
{
    return load_be16(at) << 16 | load_be16(at + 2);
}

static void store_be32(uint8_t *at, uint32_t value)
{
    store_be16(at, value >> 16);
    store_be16(at + 2, value & 0xffff);
}

/* ---- reading a packet of several fragments ---- */

struct cursor {
    const struct vale_frag *frag;
    unsigned n; /* fragments left, with this one */
    uint32_t offset;
};

/* Past fragments that are used up. */
static void cursor_settle(struct cursor *c)
{
    while (c->n > 0 && c->offset >= c->frag->len) {
        c->offset = 0;
        c->frag++;
        c->n--;
    }
}

static uint32_t cursor_in_frag(const struct cursor *c)
{
    return c->n > 0 ? c->frag->len - c->offset : 0;
}

static uint32_t cursor_left(const struct cursor *c)
{
    uint32_t left = cursor_in_frag(c);

    for (unsigned i = 1; i < c->n; i++) {
        left += c->frag[i].len;
    }
    return left;
}

static bool cursor_read(struct cursor *c, uint8_t *to, uint32_t len)
{
    while (len > 0) {
        uint32_t part = MIN(len, cursor_in_frag(c));
        if (part == 0 || !vale_frag_read(c->frag, c->offset, to, part)) {
            return false;
        }
        c->offset += part;
        to += part;
        len -= part;
        cursor_settle(c);
    }
    return true;
}

/* ---- a checksum that is made while the frame is copied ---- */

struct checksum {
    bool is_wanted;
    uint32_t start, field; /* where in the frame it begins, and where it goes */
    uint64_t sum;
    uint8_t *field_at[2]; /* where these two bytes went; NULL: not yet */
};

/* `len` bytes of the frame, from its byte `position` on, lie at `at` now. */
static void checksum_cover(struct checksum *c, uint8_t *at, uint32_t position, uint32_t len)
{
    if (!c->is_wanted) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(c->field_at); i++) {
        if (c->field + i - position < len) {
            c->field_at[i] = at + (c->field + i - position);
        }
    }
    if (position + len <= c->start) {
        return;
    }
    uint32_t skip = c->start > position ? c->start - position : 0;
    bool is_odd = (position + skip - c->start) & 1;
    c->sum = is_odd ? vale_sum_add_odd(c->sum, at + skip, len - skip)
                    : vale_sum_add(c->sum, at + skip, len - skip);
}

/* A sum of 0 is written as 0xffff, which means the same and is not UDP's "no checksum". */
static bool checksum_store(struct checksum *c)
{
    if (!c->is_wanted) {
        return true;
    }
    uint16_t sum = vale_sum_finish(c->sum);
    uint8_t bytes[2];
    sum = sum ? sum : 0xffff;
    memcpy(bytes, &sum, sizeof(bytes));
    if (!c->field_at[0] || !c->field_at[1]) {
        return false;
    }
    *c->field_at[0] = bytes[0];
    *c->field_at[1] = bytes[1];
    return true;
}

/* ---- frames that stay one frame ---- */

/* A slot per fragment (two for one longer than a buffer), the header in front of the first. */
static bool put_whole(struct vale_sink *sink, const uint8_t *header, unsigned header_len,
                      struct cursor from, struct checksum *checksum)
{
    uint32_t room, used = header_len, position = 0;
    uint8_t *buffer = sink->next(sink, &room);

    if (!buffer || room <= header_len) {
        return false;
    }
    memcpy(buffer, header, header_len);
    for (cursor_settle(&from); from.n > 0;) {
        uint32_t part = MIN(cursor_in_frag(&from), room - used);
        if (!cursor_read(&from, buffer + used, part)) {
            return false;
        }
        checksum_cover(checksum, buffer + used, position, part);
        position += part;
        used += part;
        if (from.n > 0 && (from.offset == 0 || used == room)) {
            sink->done(sink, used, true);
            buffer = sink->next(sink, &room);
            used = 0;
            if (!buffer || room == 0) {
                return false;
            }
        }
    }
    if (!checksum_store(checksum)) {
        return false;
    }
    sink->done(sink, used, false);
    return true;
}

/* ---- segmentation ---- */

struct headers {
    uint8_t bytes[MAX_HEADERS];
    uint32_t ip, transport, len; /* where they begin, and where the payload does */
    bool is_ipv4, is_tcp;
    uint32_t ip_id, sequence;
    uint8_t tcp_flags;
};

/* Which headers a frame begins with; they must lie in its first fragment. */
static bool headers_read(struct headers *h, const struct cursor *from, bool is_tcp)
{
    uint32_t have = MIN(cursor_in_frag(from), (uint32_t)sizeof(h->bytes));
    uint32_t type_at = ETHERTYPE_AT;

    h->is_tcp = is_tcp;
    if (have < VALE_ETHER_LEN || !vale_frag_read(from->frag, from->offset, h->bytes, have)) {
        return false;
    }
    for (unsigned i = 0; i < MAX_TAGS && type_at + 2 + VLAN_TAG <= have &&
                         load_be16(h->bytes + type_at) == ETHERTYPE_VLAN;
         i++) {
        type_at += VLAN_TAG;
    }
    uint32_t type = load_be16(h->bytes + type_at);
    h->ip = type_at + 2;
    h->is_ipv4 = type == ETHERTYPE_IPV4;
    if (h->is_ipv4 ? have < h->ip + IPV4_MIN
                   : type != ETHERTYPE_IPV6 || have < h->ip + IPV6_HEADER) {
        return false;
    }
    uint32_t ip_len = h->is_ipv4 ? (h->bytes[h->ip] & 0xfu) * 4 : IPV6_HEADER;
    h->transport = h->ip + ip_len;
    if (ip_len < IPV4_MIN || have < h->transport + (is_tcp ? TCP_MIN : UDP_HEADER)) {
        return false;
    }
    const uint8_t *transport = h->bytes + h->transport;
    uint32_t transport_len = is_tcp ? (transport[TCP_LENGTH_AT] >> 4) * 4u : UDP_HEADER;
    h->len = h->transport + transport_len;
    if (transport_len < (is_tcp ? TCP_MIN : UDP_HEADER) || have < h->len) {
        return false;
    }
    h->ip_id = load_be16(h->bytes + h->ip + IPV4_ID_AT);
    h->sequence = load_be32(transport + TCP_SEQUENCE_AT);
    h->tcp_flags = is_tcp ? transport[TCP_FLAGS_AT] : 0;
    return true;
}

static void mend_ip(const struct headers *h, uint8_t *segment, uint32_t len, unsigned index)
{
    uint8_t *ip = segment + h->ip;

    if (!h->is_ipv4) {
        store_be16(ip + IPV6_LENGTH_AT, len - h->transport);
        return;
    }
    store_be16(ip + IPV4_LENGTH_AT, len - h->ip);
    store_be16(ip + IPV4_ID_AT, h->ip_id + index);
    memset(ip + IPV4_CHECKSUM_AT, 0, 2);
    uint16_t sum = vale_sum_finish(vale_sum_add(0, ip, h->transport - h->ip));
    memcpy(ip + IPV4_CHECKSUM_AT, &sum, sizeof(sum));
}

static void mend_transport(const struct headers *h, uint8_t *segment, uint32_t len,
                           uint32_t payload_offset, bool is_last)
{
    uint8_t *transport = segment + h->transport;
    uint32_t transport_len = len - h->transport;
    uint8_t *field = transport + (h->is_tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT);
    const uint8_t *addresses =
        segment + h->ip + (h->is_ipv4 ? IPV4_ADDRESSES_AT : IPV6_ADDRESSES_AT);
    uint8_t pseudo[4] = {0, h->is_tcp ? PROTOCOL_TCP : PROTOCOL_UDP};

    if (h->is_tcp) {
        store_be32(transport + TCP_SEQUENCE_AT, h->sequence + payload_offset);
        transport[TCP_FLAGS_AT] =
            is_last ? h->tcp_flags : (uint8_t)(h->tcp_flags & ~(TCP_FIN | TCP_PSH));
    } else {
        store_be16(transport + UDP_LENGTH_AT, transport_len);
    }
    memset(field, 0, 2);
    store_be16(pseudo + 2, transport_len);
    uint64_t sum = vale_sum_add(0, pseudo, sizeof(pseudo));
    sum = vale_sum_add(sum, addresses, h->is_ipv4 ? 8 : 32);
    uint16_t result = vale_sum_finish(vale_sum_add(sum, transport, transport_len));
    result = result ? result : 0xffff;
    memcpy(field, &result, sizeof(result));
}

static bool put_segments(struct vale_sink *sink, struct cursor from, bool is_tcp, uint32_t mfs)
{
    struct headers h;

    sink->is_segmented = true;
    if (!headers_read(&h, &from, is_tcp)) {
        return false;
    }
    from.offset += h.len;
    cursor_settle(&from);
    uint32_t payload = cursor_left(&from), offset = 0;
    for (unsigned index = 0; index == 0 || offset < payload; index++) {
        uint32_t room;
        uint8_t *segment = sink->next(sink, &room);
        if (!segment || MIN(room, mfs) <= h.len) {
            return false;
        }
        uint32_t part = MIN(MIN(room, mfs) - h.len, payload - offset);
        memcpy(segment, h.bytes, h.len);
        if (!cursor_read(&from, segment + h.len, part)) {
            return false;
        }
        mend_ip(&h, segment, h.len + part, index);
        mend_transport(&h, segment, h.len + part, offset, offset + part == payload);
        sink->done(sink, h.len + part, false);
        offset += part;
    }
    return true;
}

/* ---- */

static bool is_header_sane(const struct nm_vnet_hdr *header)
{
    unsigned type = header->gso_type & ~NM_VNET_HDR_GSO_ECN;
    bool is_known = type == NM_VNET_HDR_GSO_NONE || type == NM_VNET_HDR_GSO_TCPV4 ||
                    type == NM_VNET_HDR_GSO_UDP || type == NM_VNET_HDR_GSO_TCPV6;

    return is_known && !(header->flags & ~(NM_VNET_HDR_F_NEEDS_CSUM | NM_VNET_HDR_F_DATA_VALID));
}

bool vale_convert(const struct vale_conversion *how, const struct vale_frag *frags, unsigned n,
                  struct vale_sink *sink)
{
    struct cursor from = {.frag = frags, .n = n};
    struct checksum checksum = {.is_wanted = false};
    uint8_t bytes[NM_VNET_HDR_LEN_12] = {0};
    struct nm_vnet_hdr header;

    cursor_settle(&from);
    if (how->src_hdr > 0 && !cursor_read(&from, bytes, how->src_hdr)) {
        return false;
    }
    if (how->dst_hdr > 0) {
        memset(bytes + NM_VNET_HDR_LEN_10, 0, sizeof(bytes) - NM_VNET_HDR_LEN_10);
        return put_whole(sink, bytes, how->dst_hdr, from, &checksum);
    }
    memcpy(&header, bytes, sizeof(header));
    if (!is_header_sane(&header)) {
        return false;
    }
    unsigned type = header.gso_type & ~NM_VNET_HDR_GSO_ECN;
    if (type != NM_VNET_HDR_GSO_NONE) {
        return put_segments(sink, from, type != NM_VNET_HDR_GSO_UDP, how->dst_mfs);
    }
    checksum.is_wanted = header.flags & NM_VNET_HDR_F_NEEDS_CSUM;
    checksum.start = header.csum_start;
    checksum.field = (uint32_t)header.csum_start + header.csum_offset;
    return put_whole(sink, bytes, 0, from, &checksum);
}

uint32_t vale_convert_slots(const struct vale_conversion *how, const struct vale_frag *frags,
                            unsigned n, uint32_t room)
{
    uint32_t whole = 0, bytes = 0, segments = 0, mfs = MIN(how->dst_mfs, room);

    if (room == 0) {
        return n;
    }
    for (unsigned i = 0; i < n; i++) { /* the header goes before the first data, in slot 0 or 1 */
        uint32_t len = frags[i].len + (i < 2 ? how->dst_hdr : 0);
        whole += MAX((len + room - 1) / room, 1);
        bytes += frags[i].len;
    }
    if (how->dst_hdr == 0 && mfs > MAX_HEADERS && bytes > mfs) {
        segments = bytes / (mfs - MAX_HEADERS) + 1;
    }
    return MAX(whole, segments);
}
