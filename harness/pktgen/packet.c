/*
 * Frames for `ringlab pktgen`. The header checksum is right in every frame; UDP's is right where
 * all frames have one length, else 0 (none).
 */
#include "harness/pktgen/packet.h"

#include <arpa/inet.h>
#include <pcap/pcap.h>
#include <string.h>

G_DEFINE_QUARK(ringlab - pktgen, pktgen_error)

enum {
    ETHER_TYPE = 12,
    IP = 14,
    IP_LEN = IP + 2,
    IP_SUM = IP + 10,
    IP_SRC = IP + 12,
    IP_DST = IP + 16,
    UDP = 34,
    UDP_DST = UDP + 2,
    UDP_LEN = UDP + 4,
    UDP_SUM = UDP + 6,
    TAG = PACKET_HEADERS, /* sequence, time, stream, magic */
    TAG_MAGIC = 0x726c,
};

/* ---- ranges ---- */

static bool usage(GError **error, const char *text, const char *wanted)
{
    g_set_error(error, PKTGEN_ERROR, PKTGEN_ERROR_USAGE, "'%s' is no %s", text, wanted);
    return false;
}

static bool parse_endpoint(const char *text, uint32_t *ip, uint16_t *port, bool *has_port)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 3);
    struct in_addr address;
    uint64_t number;

    if (!parts[0] || g_strv_length(parts) > 2) {
        return false;
    }
    if (parts[0][0]) {
        if (inet_pton(AF_INET, parts[0], &address) != 1) {
            return false;
        }
        *ip = ntohl(address.s_addr);
    }
    *has_port = parts[1] != NULL;
    if (*has_port) {
        if (!g_ascii_string_to_unsigned(parts[1], 10, 0, UINT16_MAX, &number, NULL)) {
            return false;
        }
        *port = (uint16_t)number;
    }
    return parts[0][0] || *has_port;
}

bool packet_parse_ips(const char *text, struct packet_ips *ips, GError **error)
{
    static const char wanted[] = "range of addresses; write IP, IP:PORT, IP-IP or "
                                 "IP:PORT-IP:PORT";
    g_auto(GStrv) ends = g_strsplit(text, "-", 3);
    struct packet_ips got = *ips;
    bool has_port, has_last_port;

    if (g_strv_length(ends) < 1 || g_strv_length(ends) > 2 ||
        !parse_endpoint(ends[0], &got.first, &got.first_port, &has_port)) {
        return usage(error, text, wanted);
    }
    got.last = got.first;
    got.last_port = has_port ? got.first_port : got.last_port;
    if (ends[1] && !parse_endpoint(ends[1], &got.last, &got.last_port, &has_last_port)) {
        return usage(error, text, wanted);
    }
    if (got.first > got.last || got.first_port > got.last_port) {
        return usage(error, text, "range: its end comes before its beginning");
    }
    *ips = got;
    return true;
}

static bool parse_mac(const char *text, uint64_t *mac)
{
    g_auto(GStrv) bytes = g_strsplit(text, ":", 7);

    *mac = 0;
    if (g_strv_length(bytes) != 6) {
        return false;
    }
    for (unsigned i = 0; i < 6; i++) {
        uint64_t byte;
        if (!g_ascii_string_to_unsigned(bytes[i], 16, 0, UINT8_MAX, &byte, NULL)) {
            return false;
        }
        *mac = *mac << 8 | byte;
    }
    return true;
}

bool packet_parse_macs(const char *text, struct packet_macs *macs, GError **error)
{
    g_auto(GStrv) ends = g_strsplit(text, "-", 3);
    struct packet_macs got;

    if (g_strv_length(ends) < 1 || g_strv_length(ends) > 2 || !parse_mac(ends[0], &got.first) ||
        !parse_mac(ends[1] ? ends[1] : ends[0], &got.last)) {
        return usage(error, text,
                     "MAC address; write six bytes, 02:00:00:00:00:01, or two with "
                     "'-' between");
    }
    if (got.first > got.last) {
        return usage(error, text, "range: its end comes before its beginning");
    }
    *macs = got;
    return true;
}

/* ---- bytes and checksums ---- */

static uint16_t load16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void store16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void store32(uint8_t *at, uint32_t value)
{
    store16(at, value >> 16);
    store16(at + 2, value);
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static uint32_t sum_bytes(const uint8_t *bytes, uint32_t len)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i + 1 < len; i += 2) {
        sum += load16(bytes + i);
    }
    return len % 2 ? sum + ((uint32_t)bytes[len - 1] << 8) : sum;
}

/* RFC 1624: what a checksum becomes when a word it covers changes. */
static void amend(uint8_t *checksum, uint16_t before, uint16_t after)
{
    store16(checksum,
            (uint16_t)~fold((uint32_t)(uint16_t)~load16(checksum) + (uint16_t)~before + after));
}

/* Changes a word behind the Ethernet header, and the checksums with it. */
static void change16(struct packet *p, unsigned at, uint16_t value)
{
    uint8_t *frame = p->bytes;
    const uint16_t before = load16(frame + at);
    const uint32_t len = p->len - p->options.vnet_hdr;

    if (before == value || at + 2 > len) {
        return;
    }
    store16(frame + at, value);
    if (at < UDP && len >= UDP) {
        amend(frame + IP_SUM, before, value);
    }
    if (at >= IP_SRC && len >= PACKET_HEADERS && load16(frame + UDP_SUM) != 0) {
        amend(frame + UDP_SUM, before, value);
        if (load16(frame + UDP_SUM) == 0) { /* 0 stands for no checksum */
            store16(frame + UDP_SUM, 0xffff);
        }
    }
}

static void change32(struct packet *p, unsigned at, uint32_t value)
{
    change16(p, at, (uint16_t)(value >> 16));
    change16(p, at + 2, (uint16_t)value);
}

/* ---- frames ---- */

static void store_mac(uint8_t *at, uint64_t mac)
{
    store16(at, (uint32_t)(mac >> 32));
    store32(at + 2, (uint32_t)mac);
}

static void set_length(struct packet *p, uint32_t len)
{
    p->len = p->options.vnet_hdr + len;
    if (len >= PACKET_HEADERS) {
        change16(p, IP_LEN, (uint16_t)(len - IP));
        store16(p->bytes + UDP_LEN, len - UDP);
    }
}

static void compute_udp_checksum(struct packet *p)
{
    uint8_t *frame = p->bytes;
    const uint32_t len = p->len - p->options.vnet_hdr - UDP;
    uint32_t sum = IPPROTO_UDP + len + sum_bytes(frame + IP_SRC, 8);

    sum = fold(sum) + fold(sum_bytes(frame + UDP, len));
    store16(frame + UDP_SUM, (uint16_t)~fold(sum));
    if (load16(frame + UDP_SUM) == 0) {
        store16(frame + UDP_SUM, 0xffff);
    }
}

static void make_headers(struct packet *p)
{
    static const char text[] = "ringlab pktgen ";
    const struct packet_options *o = &p->options;
    uint8_t *frame = p->bytes;

    for (uint32_t i = PACKET_HEADERS; i < o->max_len; i++) {
        frame[i] = (uint8_t)text[(i - PACKET_HEADERS) % (sizeof(text) - 1)];
    }
    store_mac(frame, o->dst_mac.first);
    store_mac(frame + 6, o->src_mac.first);
    store16(frame + ETHER_TYPE, 0x0800);
    frame[IP] = 0x45;
    frame[IP + 8] = 64; /* hops */
    frame[IP + 9] = IPPROTO_UDP;
    store16(frame + IP_LEN, o->max_len - IP);
    store32(frame + IP_SRC, o->src.first);
    store32(frame + IP_DST, o->dst.first);
    store16(frame + IP_SUM, (uint16_t)~fold(sum_bytes(frame + IP, UDP - IP)));
    store16(frame + UDP, o->src.first_port);
    store16(frame + UDP_DST, o->dst.first_port);
    store16(frame + UDP_LEN, o->max_len - UDP);
    if (o->is_tagged) {
        memset(frame + TAG, 0, PACKET_MIN_TAGGED - TAG);
        store16(frame + PACKET_MIN_TAGGED - 2, TAG_MAGIC);
    }
    p->len = o->vnet_hdr + o->max_len;
    if (o->min_len == o->max_len && o->max_len >= PACKET_HEADERS) {
        compute_udp_checksum(p);
    }
}

/* The first frame of a capture. */
static bool load_pcap(struct packet *p, GError **error)
{
    char why[PCAP_ERRBUF_SIZE] = "";
    pcap_t *pcap = pcap_open_offline(p->options.pcap, why);
    struct pcap_pkthdr *header;
    const uint8_t *bytes;
    const char *wrong = NULL;

    if (!pcap) {
        g_set_error(error, PKTGEN_ERROR, PKTGEN_ERROR_USAGE, "%s", why);
        return false;
    }
    if (pcap_datalink(pcap) != DLT_EN10MB) {
        wrong = "it is no capture of Ethernet";
    } else if (pcap_next_ex(pcap, &header, &bytes) != 1) {
        wrong = "there is no frame in it";
    } else if (header->caplen < PACKET_MIN_LEN ||
               header->caplen > PACKET_MAX_LEN - PACKET_MAX_VNET_HDR) {
        wrong = "its first frame is too short or too long";
    } else {
        memcpy(p->bytes, bytes, header->caplen);
        p->len = p->options.vnet_hdr + header->caplen;
        p->is_fixed = true;
    }
    pcap_close(pcap);
    if (wrong) {
        g_set_error(error, PKTGEN_ERROR, PKTGEN_ERROR_USAGE, "%s: %s", p->options.pcap, wrong);
    }
    return !wrong;
}

static bool has_ranges(const struct packet_options *o)
{
    return o->src_mac.first != o->src_mac.last || o->dst_mac.first != o->dst_mac.last ||
           o->src.first != o->src.last || o->dst.first != o->dst.last ||
           o->src.first_port != o->src.last_port || o->dst.first_port != o->dst.last_port ||
           o->min_len != o->max_len;
}

bool packet_init(struct packet *p, const struct packet_options *options, uint64_t seed,
                 GError **error)
{
    *p = (struct packet){
        .options = *options,
        .at_mac = {options->src_mac.first, options->dst_mac.first},
        .at_src = options->src.first,
        .at_dst = options->dst.first,
        .at_src_port = options->src.first_port,
        .at_dst_port = options->dst.first_port,
        .is_fixed = !has_ranges(options),
        .random = seed * 2 + 1,
    };
    p->memory = g_malloc0(PACKET_MAX_LEN + PACKET_MAX_VNET_HDR);
    p->bytes = p->memory + options->vnet_hdr;
    if (options->pcap) {
        return load_pcap(p, error);
    }
    make_headers(p);
    set_length(p, options->min_len);
    return true;
}

void packet_clear(struct packet *p)
{
    g_clear_pointer(&p->memory, g_free);
}

/* xorshift64* */
static uint32_t random_below(struct packet *p, uint32_t n)
{
    p->random ^= p->random >> 12;
    p->random ^= p->random << 25;
    p->random ^= p->random >> 27;
    return (uint32_t)(((p->random * UINT64_C(2685821657736338717)) >> 32) * n >> 32);
}

static bool step16(uint16_t *value, uint16_t first, uint16_t last)
{
    *value = *value == last ? first : (uint16_t)(*value + 1);
    return *value == first; /* on to the next digit */
}

static bool step32(uint32_t *value, uint32_t first, uint32_t last)
{
    *value = *value == last ? first : *value + 1;
    return *value == first;
}

void packet_next(struct packet *p)
{
    const struct packet_options *o = &p->options;

    if (p->is_fixed) {
        return;
    }
    if (step16(&p->at_src_port, o->src.first_port, o->src.last_port) &&
        step32(&p->at_src, o->src.first, o->src.last) &&
        step16(&p->at_dst_port, o->dst.first_port, o->dst.last_port)) {
        step32(&p->at_dst, o->dst.first, o->dst.last);
    }
    if (o->min_len != o->max_len) {
        set_length(p, o->min_len + random_below(p, o->max_len - o->min_len + 1));
    }
    change16(p, UDP, p->at_src_port);
    change32(p, IP_SRC, p->at_src);
    change16(p, UDP_DST, p->at_dst_port);
    change32(p, IP_DST, p->at_dst);
    p->at_mac.first = p->at_mac.first == o->src_mac.last ? o->src_mac.first : p->at_mac.first + 1;
    p->at_mac.last = p->at_mac.last == o->dst_mac.last ? o->dst_mac.first : p->at_mac.last + 1;
    store_mac(p->bytes, p->at_mac.last);
    store_mac(p->bytes + 6, p->at_mac.first);
}

/* ---- tags ---- */

void packet_set_tag(struct packet *p, const struct packet_tag *tag)
{
    change32(p, TAG, tag->sequence);
    change32(p, TAG + 4, (uint32_t)(tag->time_ns >> 32));
    change32(p, TAG + 8, (uint32_t)tag->time_ns);
    change16(p, TAG + 12, tag->stream);
}

static uint32_t load32(const uint8_t *at)
{
    return (uint32_t)load16(at) << 16 | load16(at + 2);
}

bool packet_get_tag(const uint8_t *frame, uint32_t len, struct packet_tag *tag)
{
    if (len < PACKET_MIN_TAGGED || load16(frame + ETHER_TYPE) != 0x0800 || frame[IP] != 0x45 ||
        frame[IP + 9] != IPPROTO_UDP || load16(frame + PACKET_MIN_TAGGED - 2) != TAG_MAGIC) {
        return false;
    }
    *tag = (struct packet_tag){
        .sequence = load32(frame + TAG),
        .time_ns = (uint64_t)load32(frame + TAG + 4) << 32 | load32(frame + TAG + 8),
        .stream = load16(frame + TAG + 12),
    };
    return true;
}

static void exchange(uint8_t *a, uint8_t *b, unsigned n)
{
    uint8_t kept[6];

    memcpy(kept, a, n);
    memcpy(a, b, n);
    memcpy(b, kept, n);
}

void packet_turn(uint8_t *frame, uint32_t len)
{
    if (len >= ETHER_TYPE) {
        exchange(frame, frame + 6, 6);
    }
    if (len >= PACKET_HEADERS && load16(frame + ETHER_TYPE) == 0x0800 && frame[IP] == 0x45 &&
        frame[IP + 9] == IPPROTO_UDP) {
        exchange(frame + IP_SRC, frame + IP_DST, 4); /* sums stay as they are */
        exchange(frame + UDP, frame + UDP_DST, 2);
    }
}
