/*
 * The command line of `ringlab pktgen`: NICs, and groups, each begun by -i. What stands before the
 * first -i holds for all groups.
 */
#include "harness/cmd.h"
#include "harness/pktgen/pktgen.h"

#include <string.h>

const char *const pktgen_mode_names[PKTGEN_N_MODES] = {"rx",   "tx",    "ping",
                                                       "pong", "txseq", "rxseq"};

static const char help_text[] =
    "Generates, receives, and measures frames on netmap ports: VALE, pipes, monitors, NICs. All\n"
    "ports live in this process, so the command line describes the whole bed: every -i PORT "
    "begins\n"
    "a group of threads, and the options after it are that group's; options before the first -i\n"
    "are everybody's.\n"
    "\n"
    "PORT is as netmap's programs know it: 'vale0:a', 'vale0:a{1' (a pipe), 'netmap:em0', or just\n"
    "'em0', where em0 is declared with --nic NAME=WIRE[,rings=N][,slots=N][,mtu=N][,emulated]\n"
    "[,stack=tap:IF]. WIRE is tap:IF (made in this network namespace), pcap:FILE (a capture to\n"
    "replay with its own timing), write:FILE (a capture to write), cable:OTHER (makes OTHER, "
    "too),\n"
    "or null.\n"
    "\n"
    "A bed ends when every group with -n has what it wants, when nobody sends any more and "
    "nothing\n"
    "comes for a second, or with Ctrl-C, which prints the totals, too.";

static const char help_examples[] =
    "Examples:\n"
    "  ringlab pktgen -i vale0:a -f tx -n 10M -i vale0:b -f rx\n"
    "  ringlab pktgen -i vale0:a -f ping -n 1000 -i vale0:b -f pong\n"
    "  ringlab pktgen --nic a=cable:b -i a -f txseq -n 1M -i b -f rxseq\n"
    "  ringlab pktgen --nic em0=tap:tap0 -i em0 -f tx -R 10K -d 10.0.0.2:7 -n 50K\n"
    "  ringlab pktgen -n 1M -i vale0:x{1 -f tx -p 4 -i vale0:x}1 -f rx -p 4\n"
    "\n"
    "Exit status: 0 done; 1 not everything came that was to come, or a port went away; 2 wrong\n"
    "usage; 130 interrupted.\n";

/* GOption gives the callbacks of main entries no data. */
static struct pktgen_options *parsed;
static struct pktgen_group_options everybody;

static struct pktgen_group_options *current(void)
{
    return parsed->groups->len ? g_ptr_array_index(parsed->groups, parsed->groups->len - 1)
                               : &everybody;
}

static gboolean bad(GError **error, const char *option, const char *value, const char *wanted)
{
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s %s: give %s", option, value,
                wanted);
    return FALSE;
}

/* "1000", "10K", "1.5" is none. */
static bool parse_count(const char *text, uint64_t max, uint64_t *value)
{
    static const struct {
        char letter;
        uint64_t factor;
    } units[] = {{'K', 1000}, {'M', 1000000}, {'G', 1000000000}};
    g_autofree char *digits = g_strdup(text);
    const size_t len = strlen(digits);
    uint64_t factor = 1;

    for (unsigned i = 0; i < G_N_ELEMENTS(units); i++) {
        if (len > 1 && g_ascii_toupper(digits[len - 1]) == units[i].letter) {
            digits[len - 1] = '\0';
            factor = units[i].factor;
        }
    }
    if (!g_ascii_string_to_unsigned(digits, 10, 0, max / factor, value, NULL)) {
        return false;
    }
    *value *= factor;
    return true;
}

/* ---- options of a group ---- */

static gboolean take_port(const char *name, const char *value, gpointer data, GError **error)
{
    struct pktgen_group_options *group = g_memdup2(&everybody, sizeof(everybody));

    (void)data;
    group->pcap = g_strdup(everybody.pcap);
    group->port = g_strdup(value);
    g_ptr_array_add(parsed->groups, group);
    return value[0] ? TRUE : bad(error, name, "''", "a port's name");
}

static gboolean take_mode(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    for (unsigned i = 0; i < PKTGEN_N_MODES; i++) {
        if (strcmp(value, pktgen_mode_names[i]) == 0) {
            current()->mode = (enum pktgen_mode)i;
            return TRUE;
        }
    }
    return bad(error, name, value, "tx, rx, ping, pong, txseq or rxseq");
}

static gboolean take_count(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return parse_count(value, UINT64_MAX / 2, &current()->n_packets)
               ? TRUE
               : bad(error, name, value, "a number of packets, 0 for no end; K, M and G multiply");
}

static gboolean take_rate(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return parse_count(value, 1000000000, &current()->rate_pps)
               ? TRUE
               : bad(error, name, value, "packets per second up to 1G, 0 for no limit");
}

static gboolean take_len(const char *name, const char *value, gpointer data, GError **error)
{
    struct pktgen_group_options *group = current();
    uint64_t len;

    (void)data;
    if (!g_ascii_string_to_unsigned(value, 10, PACKET_MIN_LEN, PACKET_MAX_LEN, &len, NULL)) {
        return bad(error, name, value, "a length of 16 to 65536 bytes, without CRC");
    }
    if (++group->n_lens == 1) {
        group->packet.min_len = group->packet.max_len = (uint32_t)len;
    } else {
        group->packet.min_len = MIN(group->packet.max_len, (uint32_t)len);
        group->packet.max_len = MAX(group->packet.max_len, (uint32_t)len);
    }
    return TRUE;
}

static bool take_number(const char *name, const char *value, unsigned min, unsigned max,
                        unsigned *number, GError **error)
{
    uint64_t got;

    if (!g_ascii_string_to_unsigned(value, 10, min, max, &got, NULL)) {
        g_autofree char *wanted = g_strdup_printf("a number from %u to %u", min, max);
        return bad(error, name, value, wanted);
    }
    *number = (unsigned)got;
    return true;
}

static gboolean take_burst(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return take_number(name, value, 1, PKTGEN_MAX_BURST, &current()->burst, error);
}

static gboolean take_threads(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return take_number(name, value, 1, PKTGEN_MAX_THREADS, &current()->n_threads, error);
}

static gboolean take_fragments(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return take_number(name, value, 1, PKTGEN_MAX_FRAGMENTS, &current()->n_fragments, error);
}

static gboolean take_header(const char *name, const char *value, gpointer data, GError **error)
{
    static const int lens[] = {0, NM_VNET_HDR_LEN_10, NM_VNET_HDR_LEN_12};
    uint64_t len;

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(lens); i++) {
        if (g_ascii_string_to_unsigned(value, 10, 0, 12, &len, NULL) && (int)len == lens[i]) {
            current()->vnet_hdr = lens[i];
            return TRUE;
        }
    }
    return bad(error, name, value, "a vnet header's length: 0, 10 or 12 bytes");
}

static gboolean take_indirect(const char *name, const char *value, gpointer data, GError **error)
{
    (void)name, (void)value, (void)data, (void)error;
    current()->is_indirect = true;
    return TRUE;
}

static gboolean take_pcap(const char *name, const char *value, gpointer data, GError **error)
{
    (void)name, (void)data, (void)error;
    g_free(current()->pcap);
    current()->pcap = g_strdup(value);
    return TRUE;
}

/* Says which option it was. */
static gboolean named(bool ok, const char *name, GError **error)
{
    if (!ok) {
        g_prefix_error(error, "%s: ", name);
    }
    return ok;
}

static gboolean take_src(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return named(packet_parse_ips(value, &current()->packet.src, error), name, error);
}

static gboolean take_dst(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return named(packet_parse_ips(value, &current()->packet.dst, error), name, error);
}

static gboolean take_src_mac(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    current()->has_src_mac = true;
    return named(packet_parse_macs(value, &current()->packet.src_mac, error), name, error);
}

static gboolean take_dst_mac(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    return named(packet_parse_macs(value, &current()->packet.dst_mac, error), name, error);
}

/* ---- options of the bed ---- */

static void nic_options_free(gpointer data)
{
    struct pktgen_nic_options *nic = data;

    g_free(nic->text);
    g_free(nic->name);
    g_free(nic->wire);
    g_free(nic->stack);
    g_free(nic->peer);
    g_free(nic);
}

static bool take_nic_property(struct pktgen_nic_options *nic, const char *word, GError **error)
{
    const char *value = strchr(word, '=');
    uint64_t number = 0;

    if (strcmp(word, "emulated") == 0) {
        nic->is_emulated = true;
        return true;
    }
    if (g_str_has_prefix(word, "stack=tap:") && word[10]) {
        g_free(nic->stack);
        nic->stack = g_strdup(word + strlen("stack="));
        return true;
    }
    if (value && g_ascii_string_to_unsigned(value + 1, 10, 1, 65535, &number, NULL)) {
        if (g_str_has_prefix(word, "rings=") && number <= 64) {
            nic->n_rings = (uint16_t)number;
            return true;
        }
        if (g_str_has_prefix(word, "slots=") && number >= 2 && number <= 4096) {
            nic->n_slots = (uint32_t)number;
            return true;
        }
        if (g_str_has_prefix(word, "mtu=") && number >= 68) {
            nic->mtu = (uint32_t)number;
            return true;
        }
    }
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "--nic %s: '%s' is none of rings=1..64, slots=2..4096, mtu=68..65535, emulated, "
                "stack=tap:IF",
                nic->text, word);
    return false;
}

static gboolean take_nic(const char *name, const char *value, gpointer data, GError **error)
{
    static const char *const wires[] = {"tap:", "pcap:", "write:", "cable:"};
    g_auto(GStrv) words = g_strsplit(value, ",", -1);
    const char *wire = words[0] ? strchr(words[0], '=') : NULL;
    bool is_known = wire && strcmp(wire + 1, "null") == 0;

    (void)data;
    for (unsigned i = 0; wire && i < G_N_ELEMENTS(wires); i++) {
        is_known |= g_str_has_prefix(wire + 1, wires[i]) && wire[1 + strlen(wires[i])] != '\0';
    }
    if (!is_known || wire == words[0]) {
        return bad(error, name, value,
                   "NAME=WIRE, where WIRE is tap:IF, pcap:FILE, write:FILE, cable:OTHER or null");
    }
    struct pktgen_nic_options *nic = g_new0(struct pktgen_nic_options, 1);
    g_ptr_array_add(parsed->nics, nic);
    nic->text = g_strdup(value);
    nic->name = g_strndup(words[0], (size_t)(wire - words[0]));
    nic->wire = g_strdup(wire + 1);
    nic->peer = g_str_has_prefix(nic->wire, "cable:") ? g_strdup(nic->wire + 6) : NULL;
    for (char **word = words + 1; *word; word++) {
        if (!take_nic_property(nic, *word, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean take_attach(const char *name, const char *value, gpointer data, GError **error)
{
    (void)data;
    g_ptr_array_add(parsed->attach, g_strdup(value));
    return g_str_has_prefix(value, "vale") && strchr(value, ':')
               ? TRUE
               : bad(error, name, value, "SWITCH:NIC, such as vale0:em0");
}

static gboolean take_report(const char *name, const char *value, gpointer data, GError **error)
{
    unsigned ms;

    (void)data;
    if (!take_number(name, value, 0, 3600 * 1000, &ms, error)) {
        return FALSE;
    }
    parsed->report_ms = (int)ms;
    return TRUE;
}

static gboolean take_idle(const char *name, const char *value, gpointer data, GError **error)
{
    unsigned ms;

    (void)data;
    if (!take_number(name, value, 0, 3600 * 1000, &ms, error)) {
        return FALSE;
    }
    parsed->idle_ms = (int)ms;
    return TRUE;
}

/* ---- together ---- */

static void group_options_free(gpointer data)
{
    struct pktgen_group_options *group = data;

    g_free(group->port);
    g_free(group->pcap);
    g_free(group);
}

void pktgen_options_free(struct pktgen_options *options)
{
    if (options) {
        g_ptr_array_unref(options->nics);
        g_ptr_array_unref(options->attach);
        g_ptr_array_unref(options->groups);
        g_free(options);
    }
}

static void set_defaults(void)
{
    parsed = g_new0(struct pktgen_options, 1);
    parsed->nics = g_ptr_array_new_with_free_func(nic_options_free);
    parsed->attach = g_ptr_array_new_with_free_func(g_free);
    parsed->groups = g_ptr_array_new_with_free_func(group_options_free);
    parsed->report_ms = 1000;
    everybody = (struct pktgen_group_options){
        .mode = PKTGEN_RX,
        .n_threads = 1,
        .vnet_hdr = -1,
        .n_fragments = 1,
        .packet = {.src_mac = {0, 0},
                   .dst_mac = {UINT64_C(0xffffffffffff), UINT64_C(0xffffffffffff)},
                   .src = {0x0a000001, 0x0a000001, 1234, 1234},
                   .dst = {0x0a010001, 0x0a010001, 1234, 1234},
                   .min_len = 60,
                   .max_len = 60},
    };
}

/* What fits together only when everything is known. */
static bool check(const struct pktgen_options *options)
{
    if (options->groups->len == 0) {
        cmd_error("no port given; -i PORT begins a group, 'ringlab pktgen --help' shows examples");
        return false;
    }
    for (unsigned i = 0; i < options->groups->len; i++) {
        struct pktgen_group_options *group = g_ptr_array_index(options->groups, i);
        const bool is_tagged = group->mode == PKTGEN_TXSEQ || group->mode == PKTGEN_PING;
        if (is_tagged &&
            (group->packet.min_len < PACKET_MIN_TAGGED * group->n_fragments || group->pcap)) {
            cmd_error("%s: -f %s marks its packets; give -l of at least %d per fragment, and no -P",
                      group->port, pktgen_mode_names[group->mode], PACKET_MIN_TAGGED);
            return false;
        }
        if (group->packet.max_len < group->n_fragments) {
            cmd_error("%s: %u bytes do not make %u fragments", group->port, group->packet.max_len,
                      group->n_fragments);
            return false;
        }
        group->packet.is_tagged = is_tagged;
        group->packet.pcap = group->pcap;
    }
    return true;
}

struct pktgen_options *pktgen_parse(int argc, char **argv, int *status)
{
    const GOptionEntry entries[] = {
        {"interface", 'i', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_port, "A port; begins a group",
         "PORT"},
        {"function", 'f', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_mode,
         "rx (default), tx, ping, pong, txseq, rxseq", "MODE"},
        {"count", 'n', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_count,
         "Packets of the group, 0 (default) without end", "N"},
        {"length", 'l', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_len,
         "Bytes of a packet without CRC (60); twice: random between both", "BYTES"},
        {"burst", 'b', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_burst,
         "Packets at a time (512; ping and pong 1)", "N"},
        {"rate", 'R', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_rate,
         "Packets per second of the group, 0 (default) without limit", "PPS"},
        {"threads", 'p', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_threads,
         "Threads, each with a ring of its own (1, with all rings)", "N"},
        {"src", 's', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_src,
         "Source, IP[:PORT][-IP[:PORT]] (10.0.0.1:1234)", "RANGE"},
        {"dst", 'd', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_dst,
         "Destination, likewise (10.1.0.1:1234)", "RANGE"},
        {"src-mac", 'S', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_src_mac,
         "Source MAC or two with '-' between (the interface's)", "RANGE"},
        {"dst-mac", 'D', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_dst_mac,
         "Destination MAC likewise (ff:ff:ff:ff:ff:ff)", "RANGE"},
        {"header", 'H', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_header,
         "Set the port's vnet header to 0, 10 or 12 bytes", "BYTES"},
        {"fragments", 'F', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_fragments,
         "Slots per packet, 1 to 63 (1)", "N"},
        {"indirect", 'I', G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, (gpointer)take_indirect,
         "Indirect buffers (VALE ports)", NULL},
        {"pcap", 'P', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_pcap,
         "Send the first frame of a capture", "FILE"},
        {"nic", 0, 0, G_OPTION_ARG_CALLBACK, (gpointer)take_nic, "Declare a NIC",
         "NAME=WIRE[,...]"},
        {"attach", 0, 0, G_OPTION_ARG_CALLBACK, (gpointer)take_attach, "Attach a NIC to a switch",
         "SWITCH:NIC"},
        {"report", 'T', 0, G_OPTION_ARG_CALLBACK, (gpointer)take_report,
         "Milliseconds between lines of statistics (1000), 0 for none", "MS"},
        {"idle", 0, 0, G_OPTION_ARG_CALLBACK, (gpointer)take_idle,
         "End when nothing has come or gone for so long, 0 (default) never", "MS"},
        G_OPTION_ENTRY_NULL,
    };
    bool done = false, ok;

    set_defaults();
    ok = cmd_parse(entries, "-i PORT [-f MODE] ...", help_text, help_examples, &argc, &argv, &done);
    if (ok && !done && argc > 1) {
        cmd_error("'%s' belongs to no option; 'ringlab pktgen --help' shows examples", argv[1]);
        ok = false;
    }
    ok = ok && (done || check(parsed));
    *status = ok ? CMD_PASSED : CMD_USAGE;
    struct pktgen_options *result = g_steal_pointer(&parsed);
    g_clear_pointer(&everybody.pcap, g_free);
    if (!ok || done) {
        g_clear_pointer(&result, pktgen_options_free);
    }
    return result;
}
