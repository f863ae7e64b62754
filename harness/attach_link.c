/*
 * Links between a netmap port and a back end, for `ringlab attach`: a thread that carries frames
 * both ways.
 */
#include "harness/attach_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BURST = 32, MAC_BYTES = 6 };

struct attach_link {
    struct nm_port *port;
    struct backend *backend; /* NULL: echo */
    GThread *thread;
    int stop_fd;
};

/* Source and destination change places. */
static void turn_round(uint8_t *frame)
{
    uint8_t mac[MAC_BYTES];

    memcpy(mac, frame, MAC_BYTES);
    memcpy(frame, frame + MAC_BYTES, MAC_BYTES);
    memcpy(frame + MAC_BYTES, mac, MAC_BYTES);
}

static void advance(struct netmap_ring *ring, uint32_t head)
{
    atomic_store_explicit(&ring->cur, head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head, memory_order_release);
}

/* Puts one frame into the transmit ring; what does not fit is dropped, as on a wire. */
static void put(struct netmap_ring *ring, const uint8_t *frame, uint32_t len)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    struct netmap_slot *slot = &ring->slot[head];

    if (nm_ring_space(ring) == 0 || len > ring->nr_buf_size) {
        return;
    }
    memcpy(nm_buf(ring, slot->buf_idx), frame, len);
    slot->len = (uint16_t)len;
    slot->flags = 0;
    advance(ring, nm_ring_next(ring, head));
}

static void from_port(struct attach_link *l)
{
    struct netmap_ring *rx = nm_rxring(l->port->nifp, 0), *tx = nm_txring(l->port->nifp, 0);
    uint32_t head = atomic_load_explicit(&rx->head, memory_order_relaxed);

    for (uint32_t n = nm_ring_space(rx); n > 0; n--) {
        const struct netmap_slot *slot = &rx->slot[head];
        struct backend_frame f = {(uint8_t *)nm_buf(rx, slot->buf_idx), slot->len, 0};
        if (l->backend) {
            backend_send(l->backend, &f, 1);
        } else if (f.len >= 2 * MAC_BYTES) {
            turn_round(f.data);
            put(tx, f.data, f.len);
        }
        head = nm_ring_next(rx, head);
    }
    advance(rx, head);
}

static void to_port(struct attach_link *l)
{
    struct netmap_ring *tx = nm_txring(l->port->nifp, 0);

    for (unsigned i = 0; i < BURST && nm_ring_space(tx) > 0; i++) {
        uint32_t head = atomic_load_explicit(&tx->head, memory_order_relaxed);
        struct netmap_slot *slot = &tx->slot[head];
        struct backend_frame f = {(uint8_t *)nm_buf(tx, slot->buf_idx), tx->nr_buf_size, 0};
        if (backend_receive(l->backend, &f, 1) == 0) {
            break;
        }
        slot->len = (uint16_t)f.len;
        slot->flags = 0;
        advance(tx, nm_ring_next(tx, head));
    }
}

static void *carry(void *data)
{
    struct attach_link *l = data;
    struct pollfd fds[3] = {{.fd = l->stop_fd, .events = POLLIN},
                            {.fd = nm_poll_fd(l->port->file), .events = POLLIN},
                            {.fd = l->backend ? l->backend->fd : -1, .events = POLLIN}};

    while (!(fds[0].revents & POLLIN)) {
        bool is_ready = nm_poll(l->port->file, POLLIN) & POLLIN; /* if not, its descriptor tells */
        if (is_ready) {
            from_port(l);
            nm_rxsync(l->port->file);
        }
        if (l->backend) {
            to_port(l);
            if (l->backend->is_ended) {
                fds[2].fd = -1;
            }
        }
        nm_txsync(l->port->file);
        poll(fds, G_N_ELEMENTS(fds), is_ready ? 0 : 1000);
    }
    return NULL;
}

static struct backend *open_backend(const char *text, bool *is_echo, GError **error)
{
    struct backend_pcap_options original = {.pace = BACKEND_PACE_ORIGINAL};

    *is_echo = strcmp(text, "echo") == 0;
    if (*is_echo) {
        return NULL;
    }
    if (g_str_has_prefix(text, "tap:")) {
        return backend_tap_new(text + strlen("tap:"), error);
    }
    if (g_str_has_prefix(text, "pcap:")) {
        return backend_pcap_new(text + strlen("pcap:"), &original, error);
    }
    g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_SPEC,
                "nothing is called '%s': a port may be linked to tap:NAME, pcap:FILE or echo",
                text);
    return NULL;
}

bool attach_add_link(struct attach *a, const char *spec, GError **error)
{
    const char *equals = strchr(spec, '=');
    bool is_echo = false;

    if (!equals || equals == spec) {
        g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_SPEC,
                    "'%s' is no link; PORT=tap:NAME, PORT=pcap:FILE and PORT=echo are", spec);
        return false;
    }
    g_autofree char *port = g_strndup(spec, (gsize)(equals - spec));
    struct attach_link *l = g_new0(struct attach_link, 1);
    l->stop_fd = -1;
    l->backend = open_backend(equals + 1, &is_echo, error);
    if ((!l->backend && !is_echo) || !(l->port = nm_port_open(a->host, port, 0, error))) {
        attach_link_free(l);
        return false;
    }
    l->stop_fd = eventfd(0, EFD_CLOEXEC);
    l->thread = g_thread_new("link", carry, l);
    g_ptr_array_add(a->links, l);
    return true;
}

void attach_link_free(struct attach_link *l)
{
    if (l->thread) {
        eventfd_write(l->stop_fd, 1);
        g_thread_join(l->thread);
    }
    if (l->stop_fd >= 0) {
        close(l->stop_fd);
    }
    if (l->port) {
        nm_port_close(l->port);
    }
    backend_free(l->backend);
    g_free(l);
}
