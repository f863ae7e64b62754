/*
 * Queues of frames inside a NIC-like port, and the choice of a queue.
 */
#include "models/netmap/nm_nic_private.h"

#include <string.h>

bool nic_queue_init(struct nic_queue *q, uint32_t max_frames, uint32_t frame_bytes)
{
    enum { MIN_SIZE = 128 * 1024, MAX_SIZE = 512 * 1024 }; /* the least holds any one frame */
    const size_t wanted = (size_t)max_frames * (frame_bytes + sizeof(uint32_t));

    _Static_assert(MIN_SIZE > BACKEND_MAX_FRAME + 4, "a queue holds one frame");
    q->size = MIN_SIZE;
    while (q->size < wanted && q->size < MAX_SIZE) {
        q->size *= 2;
    }
    q->max_frames = max_frames;
    q->bytes = g_try_malloc(q->size);
    return q->bytes != NULL;
}

void nic_queue_clear(struct nic_queue *q)
{
    g_free(q->bytes);
    *q = (struct nic_queue){0};
}

static void put_bytes(struct nic_queue *q, const void *bytes, size_t len)
{
    size_t at = q->n_in & (q->size - 1), n = MIN(len, q->size - at);

    memcpy(q->bytes + at, bytes, n);
    memcpy(q->bytes, (const uint8_t *)bytes + n, len - n);
    q->n_in += len;
}

static void copy_bytes(const struct nic_queue *q, size_t from, void *to, size_t len)
{
    size_t at = from & (q->size - 1), n = MIN(len, q->size - at);

    memcpy(to, q->bytes + at, n);
    memcpy((uint8_t *)to + n, q->bytes, len - n);
}

bool nic_queue_put(struct nic_queue *q, const uint8_t *frame, uint32_t len)
{
    if (q->n_frames == q->max_frames ||
        q->size - (q->n_in - q->n_out) < sizeof(len) + (size_t)len) {
        return false;
    }
    put_bytes(q, &len, sizeof(len));
    put_bytes(q, frame, len);
    q->n_frames++;
    return true;
}

uint32_t nic_queue_first(const struct nic_queue *q)
{
    uint32_t len = 0;

    if (q->n_frames > 0) {
        copy_bytes(q, q->n_out, &len, sizeof(len));
    }
    return len;
}

void nic_queue_copy(const struct nic_queue *q, uint32_t at, uint8_t *to, uint32_t len)
{
    copy_bytes(q, q->n_out + sizeof(uint32_t) + at, to, len);
}

void nic_queue_drop(struct nic_queue *q)
{
    q->n_out += sizeof(uint32_t) + nic_queue_first(q);
    q->n_frames--;
}

/* ---- which queue ---- */

static uint32_t load(const uint8_t *at, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

/* Addresses and ports are added, so that both directions meet; then Murmur3's finalizer mixes. */
unsigned nic_hash(const uint8_t *frame, uint32_t len, unsigned n)
{
    enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, TCP = 6, UDP = 17 };
    uint32_t h, at = NIC_MIN_FRAME, protocol;

    if (n < 2 || len < NIC_MIN_FRAME) {
        return 0;
    }
    uint32_t type = load(frame + 12, 2);
    if (type == ETHERTYPE_IPV4 && len >= at + 20) {
        bool is_fragment = (load(frame + at + 6, 2) & 0x3fff) != 0;
        protocol = is_fragment ? 0 : frame[at + 9];
        h = load(frame + at + 12, 4) + load(frame + at + 16, 4);
        at += (frame[at] & 15u) * 4;
    } else if (type == ETHERTYPE_IPV6 && len >= at + 40) {
        protocol = frame[at + 6];
        h = 0;
        for (unsigned i = 8; i < 40; i += 4) {
            h += load(frame + at + i, 4);
        }
        at += 40;
    } else {
        return 0;
    }
    if ((protocol == TCP || protocol == UDP) && len >= at + 4) {
        h += load(frame + at, 2) + load(frame + at + 2, 2);
    }
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    h ^= h >> 16;
    return h % n;
}
