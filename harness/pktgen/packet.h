/*
 * The frames that `ringlab pktgen` sends: Ethernet, IPv4, UDP, with addresses and ports that run
 * through ranges, and a tag by which a receiver knows them; or a frame out of a capture.
 */
#ifndef RINGLAB_PKTGEN_PACKET_H
#define RINGLAB_PKTGEN_PACKET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define PKTGEN_ERROR (pktgen_error_quark())
GQuark pktgen_error_quark(void);
enum pktgen_error { PKTGEN_ERROR_USAGE, PKTGEN_ERROR_FAILED };

enum {
    PACKET_MIN_LEN = 16,    /* bytes, without CRC */
    PACKET_MAX_LEN = 65536, /* with a vnet header before it */
    PACKET_HEADERS = 42,    /* Ethernet, IPv4, UDP */
    PACKET_MIN_TAGGED = 58, /* shortest frame with a tag */
    PACKET_MAX_VNET_HDR = 12,
};

/* Both ends included; first <= last. */
struct packet_ips {
    uint32_t first, last; /* host byte order */
    uint16_t first_port, last_port;
};
struct packet_macs {
    uint64_t first, last; /* the 48 bits as a number */
};

/* "10.0.0.1", "10.0.0.1:2000", "10.0.0.1:2000-10.0.0.9:2010", "10.0.0.1-10.0.0.9". A part that is
 * not there leaves what *ips held. */
bool packet_parse_ips(const char *text, struct packet_ips *ips, GError **error);
/* "02:00:00:00:00:01", or two with '-' between. */
bool packet_parse_macs(const char *text, struct packet_macs *macs, GError **error);

struct packet_options {
    struct packet_macs src_mac, dst_mac;
    struct packet_ips src, dst;
    uint32_t min_len, max_len; /* bytes without vnet header; not equal: a random length between */
    uint32_t vnet_hdr;         /* bytes of zero before each frame: 0, 10, 12 */
    bool is_tagged;            /* min_len is at least PACKET_MIN_TAGGED */
    const char *pcap;          /* the first frame of this capture instead; NULL: none */
};

struct packet {
    uint8_t *bytes; /* of the frame, behind its vnet header */
    uint32_t len;   /* bytes: vnet header and frame */
    /* private */
    struct packet_options options;
    uint8_t *memory;
    struct packet_macs at_mac; /* first: source; last: destination */
    uint32_t at_src, at_dst;
    uint16_t at_src_port, at_dst_port;
    bool is_fixed; /* every frame is the same */
    uint64_t random;
};

bool packet_init(struct packet *p, const struct packet_options *options, uint64_t seed,
                 GError **error);
void packet_clear(struct packet *p);
/* The next frame: source port, source address, destination port, destination address, as a counter
 * counts, its first digit the source port; MAC addresses go on by one each time. */
void packet_next(struct packet *p);
/* What stands before the frame, zeroed, and the frame: p->len bytes. */
static inline const uint8_t *packet_data(const struct packet *p)
{
    return p->bytes - p->options.vnet_hdr;
}

/* What a tagged frame carries. */
struct packet_tag {
    uint32_t sequence;
    uint64_t time_ns; /* of its sender's monotonic clock */
    uint16_t stream;  /* of one sender */
};
void packet_set_tag(struct packet *p, const struct packet_tag *tag);
/* False: the frame (behind its vnet header) has none. */
bool packet_get_tag(const uint8_t *frame, uint32_t len, struct packet_tag *tag);
/* Makes an answer of a frame: exchanges MAC addresses, and IPv4's and the ports. */
void packet_turn(uint8_t *frame, uint32_t len);

#endif
