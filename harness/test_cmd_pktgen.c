/*
 * `ringlab pktgen`: what is sent arrives and is counted, in every mode and on every kind of port;
 * wrong input is one line. Never how fast.
 */
#include "harness/cmd.h"

#include <pcap/pcap.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "harness/test_capture.h"

/* Runs `pktgen` with the words of `line`; *out and *err are what it printed. */
static int pktgen(const char *line, char **out, char **err)
{
    g_autofree char *whole = g_strconcat("pktgen -T 0 ", line, NULL);
    g_auto(GStrv) words = g_strsplit(whole, " ", -1);
    int argc = (int)g_strv_length(words);
    g_autofree char **argv = g_memdup2(words, ((size_t)argc + 1) * sizeof(char *));
    struct capture stdout_capture, stderr_capture;

    g_set_prgname("ringlab pktgen");
    capture_begin(&stdout_capture, 1);
    capture_begin(&stderr_capture, 2);
    int status = cmd_pktgen(argc, argv);
    *err = capture_end(&stderr_capture);
    *out = capture_end(&stdout_capture);
    return status;
}

/* The command passes, and lines of its output begin with these; ended by NULL. */
static void check_lines(const char *line, const char *const *wanted)
{
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;

    assert_int_equal(pktgen(line, &out, &err), CMD_PASSED);
    assert_string_equal(err, "");
    for (; *wanted; wanted++) {
        g_autofree char *text = g_strconcat("\n", out, NULL);
        g_autofree char *start = g_strconcat("\n", *wanted, NULL);
        if (!strstr(text, start)) {
            fail_msg("no line '%s...' in:\n%s", *wanted, out);
        }
    }
}
#define check(line, ...) check_lines(line, (const char *const[]){__VA_ARGS__, NULL})

static void frames_go_from_port_to_port_of_a_switch(void **state)
{
    (void)state;
    check("-i vale0:a -f tx -n 500 -i vale0:b -f rx -n 500",
          "vale0:a tx: 500 packets sent, 30000 bytes",
          "vale0:b rx: 500 packets received, 30000 bytes");
}

static void a_sender_without_end_stops_when_the_receiver_has_its_frames(void **state)
{
    (void)state;
    check("-i vale0:a -f tx -i vale0:b -f rx -n 2000",
          "vale0:b rx: 2000 packets received, 120000 bytes");
}

static void what_is_on_its_way_at_the_end_is_still_received(void **state)
{
    (void)state;
    check("-i vale0:a -f tx -n 700 -l 64 -i vale0:b", "vale0:a tx: 700 packets sent, 44800 bytes",
          "vale0:b rx: 700 packets received, 44800 bytes");
}

static void a_pipe_and_a_cable_lose_nothing(void **state)
{
    (void)state;
    check("-i vale0:x{1 -f txseq -n 30000 -i vale0:x}1 -f rxseq -n 30000",
          "vale0:x{1 txseq: 30000 packets sent, 1800000 bytes",
          "vale0:x}1 rxseq: 30000 packets received, 1800000 bytes");
    check("--nic a=cable:b -i a -f txseq -n 30000 -i netmap:b -f rxseq -n 30000",
          "a txseq: 30000 packets sent", "netmap:b rxseq: 30000 packets received");
}

static void every_ping_is_answered(void **state)
{
    (void)state;
    check("-i vale0:a -f ping -n 50 -i vale0:b -f pong", "vale0:a ping: 50 packets answered, 3000",
          "  round trip: min ", "vale0:b pong: 50 packets answered, 3000");
    check("--nic a=cable:b,emulated -i a -f ping -n 30 -b 3 -i b -f pong -n 30",
          "a ping: 30 packets answered", "b pong: 30 packets answered");
}

static void pings_that_nobody_answers_are_lost(void **state)
{
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;

    (void)state;
    assert_int_equal(pktgen("--nic n=null -i n -f ping -n 4 -b 4", &out, &err), CMD_FAILED);
    assert_string_equal(out, "n ping: 0 packets answered, 0 bytes, 4 lost\n");
    assert_string_equal(err, "");
}

static void threads_share_the_packets_and_the_rings(void **state)
{
    (void)state;
    check("-i vale0:x{1 -f txseq -n 10001 -p 3 -i vale0:x}1 -f rxseq -n 10001 -p 3",
          "vale0:x{1 txseq: 10001 packets sent", "vale0:x}1 rxseq: 10001 packets received");
}

static void packets_of_several_slots_arrive_whole(void **state)
{
    (void)state;
    check("-i vale0:a -f tx -n 40 -l 9000 -i vale0:b -n 40", /* longer than a buffer */
          "vale0:b rx: 40 packets received, 360000 bytes");
    check("-i vale0:a -f txseq -n 100 -F 3 -l 200 -i vale0:b -f rxseq -n 100",
          "vale0:b rxseq: 100 packets received, 20000 bytes, 0 lost, 0 out of order");
    check("--nic a=cable:b,mtu=9000 -i a -f tx -n 40 -l 9014 -i b -n 40",
          "b rx: 40 packets received, 360560 bytes");
}

static void indirect_buffers_hold_each_packet(void **state)
{
    (void)state;
    check("-i vale0:a -f txseq -I -n 300 -i vale0:b -f rxseq -n 300",
          "vale0:b rxseq: 300 packets received, 18000 bytes, 0 lost, 0 out of order");
}

static void a_header_stands_before_each_frame_and_is_not_counted(void **state)
{
    (void)state;
    check("-H 12 -i vale0:a -f txseq -n 300 -i vale0:b -f rxseq -n 300",
          "vale0:b rxseq: 300 packets received, 18000 bytes, 0 lost, 0 out of order");
    check("-i vale0:a -H 10 -f txseq -n 300 -i vale0:b -f rxseq -n 300", /* taken off on its way */
          "vale0:b rxseq: 300 packets received, 18000 bytes, 0 lost, 0 out of order");
}

static void a_rate_is_met_in_small_bursts(void **state)
{
    (void)state;
    check("-i vale0:a -f tx -R 30K -n 300 -i vale0:b -n 300", "vale0:a tx: 300 packets sent");
}

static void an_attached_nic_is_a_port_of_the_switch(void **state)
{
    (void)state;
    check("--nic n=cable:m --attach vale0:n -i vale0:a -f tx -n 200 -i m -n 200",
          "m rx: 200 packets received, 12000 bytes");
}

/* ---- captures ---- */

/* Frames of a capture: how many, and the length of the last. */
static unsigned count_frames(const char *path, uint32_t *len)
{
    char why[PCAP_ERRBUF_SIZE];
    pcap_t *pcap = pcap_open_offline(path, why);
    struct pcap_pkthdr *header;
    const uint8_t *bytes;
    unsigned n = 0;

    assert_non_null(pcap);
    while (pcap_next_ex(pcap, &header, &bytes) == 1) {
        *len = header->caplen;
        n++;
    }
    pcap_close(pcap);
    return n;
}

static void captures_are_written_replayed_and_sent_from(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("ringlab-pktgen-XXXXXX", NULL);
    g_autofree char *first = g_build_filename(dir, "first.pcap", NULL);
    g_autofree char *second = g_build_filename(dir, "second.pcap", NULL);
    g_autofree char *write_line = g_strdup_printf("--nic w=write:%s -i w -f tx -n 7 -l 77", first);
    g_autofree char *read_line = g_strdup_printf("--nic r=pcap:%s -i r -n 7", first);
    g_autofree char *send_line =
        g_strdup_printf("--nic w=write:%s -i w -f tx -n 3 -P %s", second, first);
    uint32_t len = 0;

    (void)state;
    check(write_line, "w tx: 7 packets sent, 539 bytes");
    assert_int_equal(count_frames(first, &len), 7);
    assert_int_equal(len, 77);
    check(read_line, "r rx: 7 packets received, 539 bytes");
    check(send_line, "w tx: 3 packets sent, 231 bytes");
    assert_int_equal(count_frames(second, &len), 3);
    assert_int_equal(len, 77);
    remove(first);
    remove(second);
    remove(dir);
}

/* ---- ends ---- */

static void frames_that_do_not_come_are_a_failure(void **state)
{
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;

    (void)state;
    assert_int_equal(pktgen("-i vale0:a -f tx -n 5 -i vale0:b -n 6", &out, &err), CMD_FAILED);
    assert_non_null(strstr(out, "vale0:b rx: 5 packets received, 300 bytes"));
    assert_string_equal(err, "");
}

static void an_idle_bed_ends_when_it_is_to(void **state)
{
    (void)state;
    check("--idle 60 -i vale0:a", "vale0:a rx: 0 packets received, 0 bytes\n");
}

static void wrong_input_is_one_line(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"-f tx", "no port given"},
        {"-i", "Missing argument"},
        {"-i vale0:a -f send", "tx, rx, ping, pong, txseq or rxseq"},
        {"-i vale0:a -n 5x", "-n 5x: give a number of packets"},
        {"-i vale0:a -n -5", "-n -5: give"},
        {"-i vale0:a -n 99999999999G", "-n 99999999999G: give"},
        {"-i vale0:a -l 15", "16 to 65536 bytes"},
        {"-i vale0:a -l 60 -l 65537", "16 to 65536 bytes"},
        {"-i vale0:a -b 0", "-b 0: give a number from 1 to 8192"},
        {"-i vale0:a -R 2G", "up to 1G"},
        {"-i vale0:a -p 65", "from 1 to 64"},
        {"-i vale0:a -s 10.0.0", "-s: '10.0.0' is no range of addresses"},
        {"-i vale0:a -D 02:00", "-D: '02:00' is no MAC address"},
        {"-i vale0:a -H 11", "0, 10 or 12 bytes"},
        {"-i vale0:a -F 64", "from 1 to 63"},
        {"-i vale0:a -f tx -P /nonexistent", "/nonexistent: No such file"},
        {"-i vale0:a -f txseq -l 57", "-l of at least 58"},
        {"-i vale0:a -f txseq -F 2", "-l of at least 58 per fragment"},
        {"-i vale0:a -T x", "-T x: give a number"},
        {"-i vale0:a more", "'more' belongs to no option"},
        {"-i em0", "em0: No such device"},
        {"-i vale0:a/R -f tx", "no ring to send on"},
        {"-i vale0:a/T -f rx", "no ring to receive from"},
        {"-i vale0:a-0 -p 2", "name no ring"},
        {"-i vale0:a -i vale0:a -p 2", "-p 2, ring 1: "},
        {"--nic n -i n", "--nic n: give NAME=WIRE"},
        {"--nic n=tap: -i n", "give NAME=WIRE"},
        {"--nic =null -i n", "give NAME=WIRE"},
        {"--nic n=null,rings=0 -i n", "'rings=0' is none of"},
        {"--nic n=null,x -i n", "--nic n=null,x: 'x' is none of"},
        {"--nic vale0=null -i vale0", "names that begin with 'val'"},
        {"--nic n=null --nic n=null -i n", "interface 'n': File exists"},
        {"--nic n=cable:n -i n", "interface 'n': File exists"},
        {"--nic n=pcap:/nonexistent -i n", "/nonexistent: No such file"},
        {"--nic n=null -i n -f tx -l 1515", "more than the MTU of 1500"},
        {"--nic n=null -i n -H 12", "n: -H 12: "},
        {"--attach n -i vale0:a", "give SWITCH:NIC"},
        {"--attach vale0:n -i vale0:a", "--attach vale0:n: "},
    };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *out = NULL;
        g_autofree char *err = NULL;
        int status = pktgen(cases[i].line, &out, &err);
        if (status != CMD_USAGE || !strstr(err, cases[i].says) || !g_str_has_suffix(err, "\n") ||
            strchr(err, '\n') != strrchr(err, '\n')) {
            fail_msg("pktgen %s: status %d, '%s', not '%s'", cases[i].line, status, err,
                     cases[i].says);
        }
        assert_string_equal(out, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_go_from_port_to_port_of_a_switch),
        cmocka_unit_test(a_sender_without_end_stops_when_the_receiver_has_its_frames),
        cmocka_unit_test(what_is_on_its_way_at_the_end_is_still_received),
        cmocka_unit_test(a_pipe_and_a_cable_lose_nothing),
        cmocka_unit_test(every_ping_is_answered),
        cmocka_unit_test(pings_that_nobody_answers_are_lost),
        cmocka_unit_test(threads_share_the_packets_and_the_rings),
        cmocka_unit_test(packets_of_several_slots_arrive_whole),
        cmocka_unit_test(indirect_buffers_hold_each_packet),
        cmocka_unit_test(a_header_stands_before_each_frame_and_is_not_counted),
        cmocka_unit_test(a_rate_is_met_in_small_bursts),
        cmocka_unit_test(an_attached_nic_is_a_port_of_the_switch),
        cmocka_unit_test(captures_are_written_replayed_and_sent_from),
        cmocka_unit_test(frames_that_do_not_come_are_a_failure),
        cmocka_unit_test(an_idle_bed_ends_when_it_is_to),
        cmocka_unit_test(wrong_input_is_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
