#include "harness/pktgen/packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct packet_options options_of(uint32_t len)
{
    return (struct packet_options){
        .src_mac = {0x020000000001, 0x020000000001},
        .dst_mac = {0xffffffffffff, 0xffffffffffff},
        .src = {0x0a000001, 0x0a000001, 1234, 1234},
        .dst = {0x0a010001, 0x0a010001, 1234, 1234},
        .min_len = len,
        .max_len = len,
    };
}

/* The Internet checksum over a frame's part, folded: 0xffff where it is right. */
static uint32_t sum(const uint8_t *bytes, uint32_t len, uint32_t start)
{
    for (uint32_t i = 0; i < len; i++) {
        start += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    }
    while (start >> 16) {
        start = (start & 0xffff) + (start >> 16);
    }
    return start;
}

static void check_sums(const struct packet *p)
{
    const uint32_t len = p->len - p->options.vnet_hdr;

    assert_int_equal(sum(p->bytes + 14, 20, 0), 0xffff);
    assert_int_equal(p->bytes[16] << 8 | p->bytes[17], len - 14);
    if (p->bytes[40] || p->bytes[41]) {
        assert_int_equal(sum(p->bytes + 34, len - 34, sum(p->bytes + 26, 8, 17 + len - 34)),
                         0xffff);
    }
}

static void a_frame_is_udp_over_ipv4_with_checksums(void **state)
{
    static const uint8_t headers[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,  1,
                                      8,    0,    0x45, 0,    0,    46,   0, 0, 0, 0, 64, 17};
    struct packet_options o = options_of(60);
    struct packet p;

    (void)state;
    assert_true(packet_init(&p, &o, 1, NULL));
    assert_int_equal(p.len, 60);
    assert_memory_equal(p.bytes, headers, sizeof(headers));
    assert_memory_equal(p.bytes + 42, "ringlab pktgen rin", 18);
    assert_true(p.bytes[40] || p.bytes[41]);
    check_sums(&p);
    packet_clear(&p);
    o.min_len = o.max_len = 61; /* an odd byte counts, too */
    assert_true(packet_init(&p, &o, 1, NULL));
    check_sums(&p);
    packet_clear(&p);
}

static void ranges_count_the_source_port_first(void **state)
{
    struct packet_options o = options_of(60);
    struct packet p;

    (void)state;
    o.src = (struct packet_ips){0x0a000001, 0x0a000002, 5, 6};
    o.dst.last_port = 1235;
    o.src_mac.last = o.src_mac.first + 2;
    assert_true(packet_init(&p, &o, 1, NULL));
    for (unsigned i = 0; i < 20; i++) {
        check_sums(&p);
        assert_int_equal(p.bytes[35], 5 + i % 2);
        assert_int_equal(p.bytes[29], 1 + i / 2 % 2);
        assert_int_equal(p.bytes[36] << 8 | p.bytes[37], 1234 + i / 4 % 2);
        assert_int_equal(p.bytes[11], 1 + i % 3);
        packet_next(&p);
    }
    packet_clear(&p);
}

static void lengths_are_drawn_between_their_limits(void **state)
{
    struct packet_options o = options_of(0);
    unsigned seen[3] = {0};
    struct packet p;

    (void)state;
    o.min_len = 60;
    o.max_len = 62;
    assert_true(packet_init(&p, &o, 7, NULL));
    for (unsigned i = 0; i < 300; i++) {
        assert_true(p.len >= 60 && p.len <= 62);
        seen[p.len - 60]++;
        check_sums(&p);
        packet_next(&p);
    }
    assert_true(seen[0] > 50 && seen[1] > 50 && seen[2] > 50); /* a third each, roughly */
    packet_clear(&p);
}

static void a_tag_comes_out_as_it_went_in(void **state)
{
    struct packet_options o = options_of(58);
    struct packet p;
    struct packet_tag tag = {0};

    (void)state;
    o.is_tagged = true;
    o.vnet_hdr = 12;
    assert_true(packet_init(&p, &o, 1, NULL));
    for (uint32_t i = 0; i < 100000; i += 997) {
        packet_set_tag(&p, &(struct packet_tag){i, UINT64_C(0x123456789abc) * i, 7});
        check_sums(&p);
        assert_true(packet_get_tag(p.bytes, p.len - 12, &tag));
        assert_int_equal(tag.sequence, i);
        assert_int_equal(tag.time_ns, UINT64_C(0x123456789abc) * i);
        assert_int_equal(tag.stream, 7);
    }
    assert_false(packet_get_tag(p.bytes, 57, &tag));
    assert_int_equal(packet_data(&p)[0], 0);
    assert_int_equal(packet_data(&p)[12], 0xff);
    p.bytes[57] = 0;
    assert_false(packet_get_tag(p.bytes, 58, &tag));
    packet_clear(&p);
}

static void an_answer_has_addresses_exchanged(void **state)
{
    struct packet_options o = options_of(60);
    struct packet p;

    (void)state;
    o.src.first_port = o.src.last_port = 99;
    assert_true(packet_init(&p, &o, 1, NULL));
    packet_turn(p.bytes, 60);
    assert_int_equal(p.bytes[0], 2);
    assert_int_equal(p.bytes[6], 0xff);
    assert_int_equal(p.bytes[27], 1); /* 10.1.0.1 */
    assert_int_equal(p.bytes[37], 99);
    check_sums(&p);
    packet_turn(p.bytes, 11); /* no more than is there */
    packet_clear(&p);
}

static void ranges_are_read(void **state)
{
    struct packet_ips ips = {1, 1, 1234, 1234};
    struct packet_macs macs;

    (void)state;
    assert_true(packet_parse_ips("10.0.0.1", &ips, NULL));
    assert_int_equal(ips.first, 0x0a000001);
    assert_int_equal(ips.last, 0x0a000001);
    assert_int_equal(ips.first_port, 1234);
    assert_true(packet_parse_ips("10.0.0.1:5-10.0.0.9:8", &ips, NULL));
    assert_int_equal(ips.last, 0x0a000009);
    assert_int_equal(ips.first_port, 5);
    assert_int_equal(ips.last_port, 8);
    assert_true(packet_parse_ips(":7", &ips, NULL));
    assert_int_equal(ips.first_port, 7);
    assert_int_equal(ips.last_port, 7);
    assert_true(packet_parse_macs("02:0:0:0:0:ff-02:00:00:00:01:00", &macs, NULL));
    assert_int_equal(macs.first, 0x0200000000ff);
    assert_int_equal(macs.last, 0x020000000100);
}

static void what_is_no_range_is_refused(void **state)
{
    static const char *const ips[] = {"",
                                      "10.0.0",
                                      "10.0.0.1:65536",
                                      "10.0.0.1:x",
                                      "10.0.0.1-",
                                      "1.2.3.4:",
                                      "a",
                                      "1.1.1.1-1.1.1.0",
                                      "1.1.1.1-2.2.2.2-3.3.3.3",
                                      "1.1.1.1:9-1.1.1.2:8",
                                      ":"};
    static const char *const macs[] = {"",
                                       "02:00:00:00:00",
                                       "02:00:00:00:00:00:00",
                                       "x",
                                       "-",
                                       "02:00:00:00:00:100",
                                       "02:00:00:00:00:01-02:00:00:00:00:00"};
    struct packet_ips got = {0};
    struct packet_macs got_macs;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(ips); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(packet_parse_ips(ips[i], &got, &error));
        assert_true(g_error_matches(error, PKTGEN_ERROR, PKTGEN_ERROR_USAGE));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(macs); i++) {
        assert_false(packet_parse_macs(macs[i], &got_macs, NULL));
    }
}

static void a_capture_that_cannot_be_used_says_why(void **state)
{
    struct packet_options o = options_of(60);
    g_autoptr(GError) error = NULL;
    struct packet p;

    (void)state;
    o.pcap = "/nonexistent.pcap";
    assert_false(packet_init(&p, &o, 1, &error));
    assert_non_null(strstr(error->message, "/nonexistent.pcap"));
    packet_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_udp_over_ipv4_with_checksums),
        cmocka_unit_test(ranges_count_the_source_port_first),
        cmocka_unit_test(lengths_are_drawn_between_their_limits),
        cmocka_unit_test(a_tag_comes_out_as_it_went_in),
        cmocka_unit_test(an_answer_has_addresses_exchanged),
        cmocka_unit_test(ranges_are_read),
        cmocka_unit_test(what_is_no_range_is_refused),
        cmocka_unit_test(a_capture_that_cannot_be_used_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
