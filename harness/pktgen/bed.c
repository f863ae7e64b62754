/*
 * The bed of `ringlab pktgen`: one netmap with its NICs and switches, and the ports that workers
 * have open.
 */
#include "harness/pktgen/pktgen.h"
#include "models/backend/backend.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static bool fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool fail(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, PKTGEN_ERROR, PKTGEN_ERROR_USAGE, "%s", text);
    return false;
}

/* ---- the host ---- */

static struct nm_host *host_new(const struct pktgen_options *options, GError **error)
{
    enum { MAX_BUFS = 1000000, MAX_RING_NUM = 1024 };
    uint32_t bufs = 16384, rings = 200;

    for (unsigned i = 0; i < options->nics->len; i++) {
        const struct pktgen_nic_options *nic = g_ptr_array_index(options->nics, i);
        const uint32_t n = (nic->n_rings ? nic->n_rings : 1u) * (nic->peer ? 4u : 2u);
        rings = MIN(rings + n + 4, (uint32_t)MAX_RING_NUM);
        bufs = MIN(bufs + n * (nic->n_slots ? nic->n_slots : 1024), (uint32_t)MAX_BUFS);
    }
    return nm_host_new(&(struct nm_host_options){.buf_num = bufs, .ring_num = rings}, error);
}

/* ---- NICs ---- */

/* *peer: a cable's other end. */
static struct backend *wire_new(const char *wire, struct backend **peer, GError **error)
{
    static const struct backend_pcap_options original = {.pace = BACKEND_PACE_ORIGINAL};
    const char *what = strchr(wire, ':');
    struct backend *b = NULL;

    if (!what) {
        return backend_null_new();
    }
    what++;
    if (g_str_has_prefix(wire, "tap:")) {
        return backend_tap_new(what, error);
    }
    if (g_str_has_prefix(wire, "pcap:")) {
        return backend_pcap_new(what, &original, error);
    }
    if (g_str_has_prefix(wire, "write:")) {
        return backend_pcap_writer_new(what, error);
    }
    return backend_cable_new(2048, 16384, &b, peer, error) ? b : NULL;
}

static bool add_nic(struct nm_host *host, const struct pktgen_nic_options *nic, GError **error)
{
    struct backend *peer = NULL;
    struct nm_nic_options o = {
        .name = nic->name,
        .tx_rings = nic->n_rings,
        .rx_rings = nic->n_rings,
        .tx_slots = nic->n_slots,
        .rx_slots = nic->n_slots,
        .mtu = nic->mtu,
        .is_emulated = nic->is_emulated,
    };

    o.wire = wire_new(nic->wire, &peer, error);
    if (!o.wire) {
        return false;
    }
    if (nic->stack) {
        o.stack = backend_tap_new(nic->stack + strlen("tap:"), error);
        if (!o.stack) {
            backend_free(o.wire);
            backend_free(peer);
            return false;
        }
    }
    if (!nm_nic_new(host, &o, error)) {
        backend_free(peer);
        return false;
    }
    if (!nic->peer) {
        return true;
    }
    o.name = nic->peer;
    o.wire = peer;
    o.stack = NULL;
    return nm_nic_new(host, &o, error);
}

static bool attach(struct nm_host *host, const char *name, GError **error)
{
    struct nmreq_vale_attach body = {.reg.nr_mode = NR_REG_ALL_NIC};
    struct nmreq_header header = {.nr_version = NETMAP_API,
                                  .nr_reqtype = NETMAP_REQ_VALE_ATTACH,
                                  .nr_body = (uintptr_t)&body};
    struct nm_file *file = nm_open(host);

    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    int err = file ? nm_ctrl(file, &header) : errno;
    nm_close(file);
    return !err || fail(error, "--attach %s: %s", name, g_strerror(err));
}

/* ---- ports ---- */

/* The name for one thread of several: with its ring, and with as many rings where the port is made
 * by opening it. NULL: the name says rings itself. */
static char *name_of_ring(const char *name, unsigned ring, unsigned n_rings)
{
    const char *port = g_str_has_prefix(name, "netmap:") ? name + strlen("netmap:") : name;
    const size_t len = (size_t)(port - name) + strcspn(port, "-*^/@");
    const char *rest = name + len;

    if (*rest && strchr("-*^", *rest)) {
        return NULL;
    }
    if (strstr(rest, "conf:")) {
        return g_strdup_printf("%.*s-%u%s", (int)len, name, ring, rest);
    }
    return g_strdup_printf("%.*s-%u%s@conf:rings=%u", (int)len, name, ring, rest, n_rings);
}

static bool open_port(struct pktgen_worker *w, unsigned index, GError **error)
{
    const struct pktgen_group *group = w->group;
    const char *given = group->options->port;
    const bool has_prefix = g_str_has_prefix(given, "netmap:") || g_str_has_prefix(given, "vale");
    g_autofree char *name = g_strconcat(has_prefix ? "" : "netmap:", given, NULL);

    if (group->n_workers > 1) {
        g_autofree char *whole = g_steal_pointer(&name);
        name = name_of_ring(whole, index, group->n_workers);
        if (!name) {
            return fail(error, "%s: -p gives each thread a ring of its own; name no ring", given);
        }
    }
    w->port = nm_port_open(group->bed->host, name, NR_ACCEPT_VNET_HDR, error);
    if (!w->port) {
        if (group->n_workers > 1) {
            g_prefix_error(error, "-p %u, ring %u: ", group->n_workers, index);
        }
        return false;
    }
    return true;
}

static bool set_header(struct pktgen_group *group, GError **error)
{
    struct pktgen_worker *w = &group->workers[0];
    const int wanted = group->options->vnet_hdr;
    struct nmreq_port_hdr body = {.nr_hdr_len = wanted < 0 ? 0 : (uint32_t)wanted};
    struct nmreq_header header = w->port->header;
    struct nm_file *file = nm_open(group->bed->host);

    header.nr_reqtype = wanted < 0 ? NETMAP_REQ_PORT_HDR_GET : NETMAP_REQ_PORT_HDR_SET;
    header.nr_body = (uintptr_t)&body;
    header.nr_options = 0;
    int err = file ? nm_ctrl(file, &header) : errno;
    nm_close(file);
    if (err && wanted >= 0) {
        return fail(error, "%s: -H %d: %s", group->options->port, wanted, g_strerror(err));
    }
    group->vnet_hdr = err ? 0 : body.nr_hdr_len;
    return true;
}

/* The interface behind the port; false: there is none. */
static bool nic_info(const struct pktgen_group *group, struct nm_nic_info *info)
{
    const char *name = group->workers[0].port->header.nr_name;

    return nm_nic_info(group->bed->host, name, info);
}

/* ---- what is sent ---- */

static bool fit_packet(struct pktgen_group *group, struct packet_options *packet, GError **error)
{
    const struct netmap_ring *ring =
        pktgen_txring(&group->workers[0], group->workers[0].port->first_tx_ring);
    const char *port = group->options->port;
    const uint32_t len = packet->max_len + group->vnet_hdr, size = ring->nr_buf_size;
    struct nm_nic_info info;

    group->n_fragments = MAX(group->n_fragments, (len + size - 1) / size);
    if (group->n_fragments >= ring->num_slots || group->n_fragments > PKTGEN_MAX_FRAGMENTS) {
        return fail(error, "%s: a packet of %u bytes would take %u slots of %u", port, len,
                    group->n_fragments, ring->num_slots);
    }
    if (nic_info(group, &info)) {
        if (packet->max_len > info.mtu + 14) {
            return fail(error, "%s: a packet of %u bytes is more than the MTU of %u and a header",
                        port, packet->max_len, info.mtu);
        }
        if (!group->options->has_src_mac) {
            uint64_t mac = 0;
            for (unsigned i = 0; i < 6; i++) {
                mac = mac << 8 | info.mac[i];
            }
            packet->src_mac = (struct packet_macs){mac, mac};
        }
    }
    return true;
}

static bool make_indirect(struct pktgen_worker *w, GError **error)
{
    const struct netmap_ring *ring = pktgen_txring(w, w->port->first_tx_ring);
    const bool is_one = w->packet.is_fixed && !w->packet.options.is_tagged;
    const uint32_t len = (w->packet.options.max_len + w->group->vnet_hdr + 63) / 64 * 64;
    const size_t n = is_one ? 1 : ring->num_slots;

    w->indirect_step = is_one ? 0 : len;
    w->indirect = g_try_malloc0(n * len);
    return w->indirect || fail(error, "-I: no memory for %zu buffers of %u bytes", n, len);
}

static bool make_packets(struct pktgen_group *group, unsigned number, GError **error)
{
    struct packet_options packet = group->options->packet;

    if (!fit_packet(group, &packet, error)) {
        return false;
    }
    packet.vnet_hdr = group->vnet_hdr;
    for (unsigned i = 0; i < group->n_workers; i++) {
        struct pktgen_worker *w = &group->workers[i];
        w->stream = (uint16_t)(number * PKTGEN_MAX_THREADS + i);
        if (!packet_init(&w->packet, &packet, w->stream + 1u, error) ||
            (group->options->is_indirect && !make_indirect(w, error))) {
            return false;
        }
    }
    return true;
}

/* ---- groups ---- */

static bool needs_rings(const struct pktgen_group *group, GError **error)
{
    static const bool needs_tx[PKTGEN_N_MODES] = {
        [PKTGEN_TX] = true, [PKTGEN_TXSEQ] = true, [PKTGEN_PING] = true, [PKTGEN_PONG] = true};
    static const bool needs_rx[PKTGEN_N_MODES] = {
        [PKTGEN_RX] = true, [PKTGEN_RXSEQ] = true, [PKTGEN_PING] = true, [PKTGEN_PONG] = true};
    const struct nm_port *port = group->workers[0].port;
    const enum pktgen_mode mode = group->options->mode;

    if (needs_tx[mode] && port->last_tx_ring < port->first_tx_ring) {
        return fail(error, "%s: it has no ring to send on", group->options->port);
    }
    if (needs_rx[mode] && port->last_rx_ring < port->first_rx_ring) {
        return fail(error, "%s: it has no ring to receive from", group->options->port);
    }
    return true;
}

static void share_out(struct pktgen_group *group)
{
    const uint64_t total = group->options->n_packets;

    for (unsigned i = 0; i < group->n_workers; i++) {
        group->workers[i].n_packets =
            total ? total / group->n_workers + (i < total % group->n_workers) : UINT64_MAX;
    }
}

/* A rate is met in bursts of a 300th of a second at most. */
static void set_burst(struct pktgen_group *group)
{
    const struct pktgen_group_options *o = group->options;
    const bool is_single = o->mode == PKTGEN_PING || o->mode == PKTGEN_PONG;

    group->burst = o->burst ? o->burst : is_single ? 1 : PKTGEN_DEFAULT_BURST;
    if (o->rate_pps) {
        const uint64_t most = o->rate_pps / group->n_workers / 300;
        group->burst = (unsigned)MIN(group->burst, MAX(most, 1));
    }
}

static bool open_group(struct pktgen_group *group, GError **error)
{
    for (unsigned i = 0; i < group->n_workers; i++) {
        group->workers[i].group = group;
        if (!open_port(&group->workers[i], i, error)) {
            return false;
        }
    }
    return set_header(group, error) && needs_rings(group, error);
}

static bool prepare_group(struct pktgen_group *group, unsigned number, GError **error)
{
    const enum pktgen_mode mode = group->options->mode;

    group->n_fragments = group->options->n_fragments;
    share_out(group);
    set_burst(group);
    for (unsigned i = 0; i < group->n_workers; i++) {
        struct pktgen_worker *w = &group->workers[i];
        if (mode == PKTGEN_PING) {
            w->latencies = g_new0(uint32_t, PKTGEN_LATENCY_BUCKETS);
        }
        if (mode == PKTGEN_RXSEQ) {
            w->streams = g_new0(struct pktgen_stream, UINT16_MAX + 1);
        }
    }
    return !pktgen_sends(mode) || make_packets(group, number, error);
}

static void group_free(gpointer data)
{
    struct pktgen_group *group = data;

    for (unsigned i = 0; i < group->n_workers; i++) {
        struct pktgen_worker *w = &group->workers[i];
        nm_port_close(w->port);
        packet_clear(&w->packet);
        g_free(w->indirect);
        g_free(w->latencies);
        g_free(w->streams);
    }
    g_aligned_free(group->workers);
    g_free(group);
}

static struct pktgen_group *group_new(struct pktgen_bed *bed,
                                      const struct pktgen_group_options *options)
{
    struct pktgen_group *group = g_new0(struct pktgen_group, 1);

    group->options = options;
    group->bed = bed;
    group->n_workers = options->n_threads;
    group->workers = g_aligned_alloc0(group->n_workers, sizeof(struct pktgen_worker),
                                      _Alignof(struct pktgen_worker));
    return group;
}

/* ---- all of it ---- */

static bool fill(struct pktgen_bed *bed, const struct pktgen_options *options, GError **error)
{
    for (unsigned i = 0; i < options->nics->len; i++) {
        const struct pktgen_nic_options *nic = g_ptr_array_index(options->nics, i);
        if (!add_nic(bed->host, nic, error)) {
            g_prefix_error(error, "--nic %s: ", nic->text);
            return false;
        }
    }
    for (unsigned i = 0; i < options->attach->len; i++) {
        if (!attach(bed->host, g_ptr_array_index(options->attach, i), error)) {
            return false;
        }
    }
    for (unsigned i = 0; i < options->groups->len; i++) {
        struct pktgen_group *group = group_new(bed, g_ptr_array_index(options->groups, i));
        g_ptr_array_add(bed->groups, group);
        if (!open_group(group, error)) {
            return false;
        }
    }
    for (unsigned i = 0; i < bed->groups->len; i++) { /* when every header is set */
        if (!prepare_group(g_ptr_array_index(bed->groups, i), i, error)) {
            return false;
        }
    }
    return true;
}

struct pktgen_bed *pktgen_bed_new(const struct pktgen_options *options, GError **error)
{
    struct pktgen_bed *bed = g_new0(struct pktgen_bed, 1);

    bed->groups = g_ptr_array_new_with_free_func(group_free);
    bed->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bed->send_stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bed->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool ok = (bed->stop_fd >= 0 && bed->send_stop_fd >= 0 && bed->done_fd >= 0) ||
              fail(error, "eventfd: %s", g_strerror(errno));
    bed->host = ok ? host_new(options, error) : NULL;
    if (!bed->host || !fill(bed, options, error)) {
        pktgen_bed_free(bed);
        return NULL;
    }
    return bed;
}

void pktgen_bed_free(struct pktgen_bed *bed)
{
    const int fds[] = {bed->stop_fd, bed->send_stop_fd, bed->done_fd};

    g_ptr_array_unref(bed->groups);
    nm_host_free(bed->host);
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    g_free(bed);
}
