/*
 * The data path of the virtio network driver: bursts in both directions. Nothing here allocates;
 * the only access outside shared memory is the kick.
 */
#include "qtest_client/virtio_net_private.h"

#include <string.h>

/* ---- both directions ---- */

bool virtio_net_kick(struct virtio_net *net, struct net_queue *q, uint64_t *n_kicks, GError **error)
{
    if (!virtqueue_needs_kick(q->vq)) {
        return true;
    }
    (*n_kicks)++;
    return virtio_pci_notify(net->transport, q->index, error);
}

/* ---- transmit ---- */

void virtio_net_reclaim(struct net_queue *tx)
{
    struct virtqueue_used used[NET_BURST];
    unsigned n;

    do {
        n = virtqueue_pop(tx->vq, used, NET_BURST);
        for (unsigned i = 0; i < n; i++) {
            const struct net_buffer *buffer = used[i].token;
            tx->buffers.stack[tx->buffers.n_stack++] = buffer->index;
        }
    } while (n == NET_BURST);
}

/* 5.1.6.2: header and frame in one descriptor, or the header alone and the frame in equal parts.
 * Returns how many descriptors it takes. */
static unsigned cut(const struct virtio_net *net, const struct net_queue *tx, uint64_t gpa,
                    uint32_t len, struct virtqueue_buffer *pieces)
{
    unsigned header = net->header_bytes;

    if (tx->n_desc == 1) {
        pieces[0] = (struct virtqueue_buffer){gpa, header + len};
        return 1;
    }
    unsigned n = MIN(tx->n_desc - 1, len);
    uint32_t each = len / n, done = 0;
    pieces[0] = (struct virtqueue_buffer){gpa, header};
    for (unsigned i = 0; i < n; i++) {
        uint32_t part = i + 1 == n ? len - done : each;
        pieces[1 + i] = (struct virtqueue_buffer){gpa + header + done, part};
        done += part;
    }
    return 1 + n;
}

static bool send_one(struct virtio_net *net, struct net_queue *tx,
                     const struct virtio_net_frame *frame)
{
    struct virtqueue_buffer pieces[VIRTIO_NET_MAX_CHAIN];

    if (tx->buffers.n_stack == 0) {
        return false;
    }
    struct net_buffer *buffer = &tx->buffers.all[tx->buffers.stack[tx->buffers.n_stack - 1]];
    unsigned n = cut(net, tx, buffer->gpa, frame->len, pieces);
    memset(buffer->data, 0, net->header_bytes);
    memcpy(buffer->data + net->header_bytes, frame->data, frame->len);
    if (!virtqueue_add(tx->vq, pieces, n, 0, buffer)) {
        return false;
    }
    tx->buffers.n_stack--;
    net->stats.tx_frames++;
    net->stats.tx_bytes += frame->len;
    return true;
}

unsigned virtio_net_tx_burst(struct virtio_net *net, unsigned pair,
                             const struct virtio_net_frame *frames, unsigned n, GError **error)
{
    struct net_queue *tx = virtio_net_queue(net, pair, false, error);
    unsigned n_sent = 0;

    if (!tx) {
        return 0;
    }
    uint32_t max = tx->buffers.bytes - net->header_bytes;
    if (tx->buffers.n_stack < n) {
        virtio_net_reclaim(tx);
    }
    if (!virtio_net_queue_ok(net, tx, error)) {
        return 0;
    }
    while (n_sent < n && frames[n_sent].len - 1 < max && send_one(net, tx, &frames[n_sent])) {
        n_sent++;
    }
    if (n_sent == 0 && n > 0 && frames[0].len - 1 >= max) {
        g_set_error(error, VIRTIO_NET_ERROR, VIRTIO_NET_ERROR_INVALID,
                    "a frame of %u bytes cannot be sent (1 to %u)", frames[0].len, max);
        return 0;
    }
    net->stats.tx_full += n_sent < n;
    virtqueue_publish(tx->vq);
    return virtio_net_kick(net, tx, &net->stats.tx_kicks, error) ? n_sent : 0;
}

unsigned virtio_net_tx_pending(struct virtio_net *net, unsigned pair)
{
    struct net_queue *tx = virtio_net_queue(net, pair, false, NULL);

    if (!tx) {
        return 0;
    }
    virtio_net_reclaim(tx);
    return tx->vq->n_in_flight;
}

/* ---- receive ---- */

static void give_back(struct net_queue *rx, const struct net_buffer *buffer)
{
    rx->buffers.stack[rx->buffers.n_stack++] = buffer->index;
}

void virtio_net_post(struct virtio_net *net, struct net_queue *rx)
{
    while (rx->buffers.n_stack > 0) {
        struct net_buffer *buffer = &rx->buffers.all[rx->buffers.stack[rx->buffers.n_stack - 1]];
        /* legacy without ANY_LAYOUT: the header in a descriptor of its own (5.1.6.6) */
        struct virtqueue_buffer pieces[2] = {
            {buffer->gpa, rx->n_desc == 1 ? rx->buffers.bytes : net->header_bytes},
            {buffer->gpa + net->header_bytes, rx->buffers.bytes - net->header_bytes},
        };
        if (!virtqueue_add(rx->vq, pieces, 0, rx->n_desc, buffer)) {
            break;
        }
        rx->buffers.n_stack--;
    }
    virtqueue_publish(rx->vq);
}

bool virtio_net_refill(struct virtio_net *net, struct net_queue *rx, GError **error)
{
    if (rx->buffers.n_stack == 0) {
        return true;
    }
    virtio_net_post(net, rx);
    return virtio_net_kick(net, rx, &net->stats.rx_kicks, error);
}

static void append_piece(struct net_scratch *s, const uint8_t *bytes, uint32_t len)
{
    if (len > NET_SCRATCH_BYTES - s->len) {
        s->is_too_long = true;
        return;
    }
    memcpy(s->data + s->len, bytes, len);
    s->len += len;
}

/* The last buffer of a frame that spans several is there. */
static bool finish_assembly(struct virtio_net *net, struct net_queue *rx,
                            struct virtio_net_frame *frame)
{
    struct net_scratch *s = rx->assembling;
    uint32_t index = (uint32_t)(s - rx->scratch);

    rx->assembling = NULL;
    if (s->is_too_long || s->len == 0) {
        net->stats.rx_errors++;
        rx->free_scratch[rx->n_free_scratch++] = index;
        return false;
    }
    s->is_held = true;
    *frame = (struct virtio_net_frame){s->data, s->len, rx->buffers.n + index};
    return true;
}

static void begin_assembly(struct net_queue *rx, const uint8_t *bytes, uint32_t len,
                           unsigned n_buffers)
{
    struct net_scratch *s = &rx->scratch[rx->free_scratch[--rx->n_free_scratch]];

    s->len = 0;
    s->is_too_long = false;
    append_piece(s, bytes, len);
    rx->assembling = s;
    rx->n_missing = n_buffers - 1;
}

/* Takes one used buffer; true if it completes a frame. 5.1.6.4 */
static bool receive_one(struct virtio_net *net, struct net_queue *rx,
                        const struct virtqueue_used *used, struct virtio_net_frame *frame)
{
    struct net_buffer *buffer = used->token;
    unsigned header = net->header_bytes, n_buffers = 1;

    if (rx->assembling) { /* no header in the second buffer and further ones */
        append_piece(rx->assembling, buffer->data, used->len);
        give_back(rx, buffer);
        return --rx->n_missing == 0 && finish_assembly(net, rx, frame);
    }
    if (net->has_mrg_rxbuf && used->len >= header) {
        uint16_t num_buffers;
        memcpy(&num_buffers, buffer->data + offsetof(struct virtio_net_hdr, num_buffers),
               sizeof(num_buffers));
        n_buffers = num_buffers;
    }
    if (used->len < header || n_buffers == 0 || n_buffers > rx->buffers.n ||
        (n_buffers == 1 && used->len == header)) {
        net->stats.rx_errors++;
        give_back(rx, buffer);
        return false;
    }
    if (n_buffers > 1) {
        begin_assembly(rx, buffer->data + header, used->len - header, n_buffers);
        give_back(rx, buffer);
        return false;
    }
    buffer->is_held = true;
    *frame = (struct virtio_net_frame){buffer->data + header, used->len - header, buffer->index};
    return true;
}

unsigned virtio_net_rx_burst(struct virtio_net *net, unsigned pair, struct virtio_net_frame *frames,
                             unsigned n, GError **error)
{
    struct net_queue *rx = virtio_net_queue(net, pair, true, error);
    struct virtqueue_used used[NET_BURST];
    unsigned n_got = 0;

    if (!rx || !virtio_net_refill(net, rx, error)) {
        return 0;
    }
    while (n_got < n) {
        unsigned room = MIN(n - n_got, NET_BURST);
        if (net->has_mrg_rxbuf) { /* any may begin a frame to be copied, after what is missing */
            room = MIN(room, rx->n_free_scratch + rx->n_missing);
        }
        unsigned n_used = virtqueue_pop(rx->vq, used, room);
        for (unsigned i = 0; i < n_used; i++) {
            if (receive_one(net, rx, &used[i], &frames[n_got])) {
                net->stats.rx_frames++;
                net->stats.rx_bytes += frames[n_got].len;
                n_got++;
            }
        }
        if (n_used < room || room == 0) {
            break;
        }
    }
    if (n_got == 0) {
        virtio_net_queue_ok(net, rx, error);
    }
    return n_got;
}

void virtio_net_rx_release(struct virtio_net *net, unsigned pair, const struct virtio_net_frame *f)
{
    struct net_queue *rx = virtio_net_queue(net, pair, true, NULL);

    g_assert(rx);
    if (f->handle < rx->buffers.n) {
        struct net_buffer *buffer = &rx->buffers.all[f->handle];
        g_assert(buffer->is_held);
        buffer->is_held = false;
        give_back(rx, buffer);
        return;
    }
    uint32_t index = f->handle - rx->buffers.n;
    g_assert(rx->scratch && index < NET_N_SCRATCH && rx->scratch[index].is_held);
    rx->scratch[index].is_held = false;
    rx->free_scratch[rx->n_free_scratch++] = index;
}
