/*
 * Frames over ptnet rings, copied as a network stack would: virtio-net header, several slots per
 * frame, one publication and at most one kick per burst. Sections are those of the reference sheet
 * ptnet.md. Where Linux keeps room for the largest frame (min_tx_slots), this needs room for the
 * frame at hand only, so that small rings work too.
 */
#include "qtest_client/ptnet_private.h"

#include <inttypes.h>
#include <string.h>

unsigned ptnet_frame_slots(const struct ptnet_queue *q, uint32_t len)
{
    return (unsigned)(((uint64_t)len + q->driver->header_bytes + q->buf_size - 1) / q->buf_size);
}

/* ---- the header (11.1) ---- */

static bool header_is_empty(const struct nm_vnet_hdr *hdr)
{
    return hdr->flags == 0 && hdr->gso_type == NM_VNET_HDR_GSO_NONE;
}

static bool gso_is_sane(const struct nm_vnet_hdr *hdr, uint32_t len)
{
    const uint8_t type = hdr->gso_type & (uint8_t)~NM_VNET_HDR_GSO_ECN;

    return hdr->gso_type == NM_VNET_HDR_GSO_NONE ||
           ((type == NM_VNET_HDR_GSO_TCPV4 || type == NM_VNET_HDR_GSO_UDP ||
             type == NM_VNET_HDR_GSO_TCPV6) &&
            hdr->gso_size != 0 && hdr->hdr_len <= len);
}

static bool header_is_sane(const struct nm_vnet_hdr *hdr, uint32_t len)
{
    const uint8_t known = NM_VNET_HDR_F_NEEDS_CSUM | NM_VNET_HDR_F_DATA_VALID;

    return (hdr->flags & ~known) == 0 && gso_is_sane(hdr, len) &&
           (!(hdr->flags & NM_VNET_HDR_F_NEEDS_CSUM) ||
            (uint32_t)hdr->csum_start + hdr->csum_offset + 2 <= len);
}

/* ---- transmit (11.2) ---- */

static bool check_frame(const struct ptnet_queue *q, const struct ptnet_frame *f, GError **error)
{
    const unsigned header_bytes = q->driver->header_bytes;

    if (f->len == 0 || f->len > PTNET_MAX_FRAME || ptnet_frame_slots(q, f->len) >= q->num_slots ||
        ptnet_frame_slots(q, f->len) > NETMAP_MAX_FRAGS) {
        return ptnet_fail(q->driver, PTNET_ERROR_INVALID, error,
                          "ring %u cannot send a frame of %" PRIu32 " bytes (1 to %d, in less than "
                          "%" PRIu32 " slots of %" PRIu32 ")",
                          q->index, f->len, PTNET_MAX_FRAME, q->num_slots, q->buf_size);
    }
    if (header_bytes == 0 ? !header_is_empty(&f->hdr) : !header_is_sane(&f->hdr, f->len)) {
        return ptnet_fail(q->driver, PTNET_ERROR_INVALID, error,
                          "ring %u cannot send a frame of %" PRIu32 " bytes with flags 0x%02x, "
                          "gso_type 0x%02x, gso_size %u, hdr_len %u, checksum at %u + %u "
                          "(headers have %u bytes)",
                          q->index, f->len, f->hdr.flags, f->hdr.gso_type, f->hdr.gso_size,
                          f->hdr.hdr_len, f->hdr.csum_start, f->hdr.csum_offset, header_bytes);
    }
    return true;
}

/* Fills the slots from `head` on; there is room. Returns the head behind it, or `head` with error
 * set: the host gave a slot without a buffer. */
static uint32_t put_frame(struct ptnet_queue *q, uint32_t head, const struct ptnet_frame *f,
                          GError **error)
{
    const uint32_t first = head;
    uint32_t header_bytes = q->driver->header_bytes, done = 0;

    do {
        struct netmap_slot *slot = &q->ring->slot[head];
        union ptnet_slot s = ptnet_slot_load(slot);
        uint8_t *buffer = ptnet_buffer(q, s.buf_idx);
        if (G_UNLIKELY(!buffer)) {
            q->n_errors++;
            ptnet_fail(q->driver, PTNET_ERROR_DEVICE, error,
                       "ring %u: slot %" PRIu32 " has buffer %" PRIu32 " of %" PRIu32, q->index,
                       head, s.buf_idx, q->buf_total);
            return first;
        }
        if (header_bytes != 0) {
            struct nm_vnet_hdr hdr = f->hdr;
            hdr.num_buffers = 0; /* 11.1 step 3: unused */
            memcpy(buffer, &hdr, header_bytes);
        }
        uint32_t n = MIN(f->len - done, q->buf_size - header_bytes);
        memcpy(buffer + header_bytes, f->data + done, n);
        done += n;
        /* 11.2 steps 4 and 5 */
        s.len = (uint16_t)(header_bytes + n);
        s.flags = done < f->len ? NS_MOREFRAG : 0;
        ptnet_slot_store(slot, s);
        header_bytes = 0;
        head = ptnet_next(head, q->num_slots);
    } while (done < f->len);
    q->n_frames++;
    q->n_bytes += f->len;
    return head;
}

/* The end of a burst: publishes, kicks if the host wants it; 11.2 steps 5 to 7, 11.3 step 6. */
static void publish(struct ptnet_queue *q, uint32_t head, int flags)
{
    ptnet_store(&q->ring->head, head);
    ptnet_store(&q->ring->cur, head);
    q->rhead = q->rcur = head;
    q->n_syncs++;
    ptnet_appl_write(q);
    if (ptnet_host_wants_kick(q)) {
        ptnet_store(&q->atok->sync_flags, (uint32_t)flags);
        q->owes_kick = true;
    }
}

unsigned ptnet_tx_burst(struct ptnet_queue *q, const struct ptnet_frame *frames, unsigned n,
                        GError **error)
{
    uint32_t head = q->rhead;
    unsigned done = 0;

    ptnet_wake_up(q);
    if (!ptnet_pay_kick(q, error) || !ptnet_sync_tail(q, error)) { /* 11.2 step 1 */
        return 0;
    }
    for (; done < n; done++) {
        const struct ptnet_frame *f = &frames[done];
        GError **first_error = done == 0 ? error : NULL;
        if (!check_frame(q, f, first_error) ||
            ptnet_distance(head, q->hwtail, q->num_slots) < ptnet_frame_slots(q, f->len)) {
            break;
        }
        uint32_t next = put_frame(q, head, f, first_error);
        if (next == head) {
            break;
        }
        head = next;
    }
    if (done > 0) {
        publish(q, head, NAF_FORCE_RECLAIM);
        ptnet_pay_kick(q, NULL); /* if that fails, the next call says so */
    }
    return done;
}

/* ---- receive (11.3) ---- */

/* A slot's bytes behind `skip`, as the host wrote them, or NULL if they cannot be. */
static const uint8_t *slot_data(const struct ptnet_queue *q, union ptnet_slot s, uint32_t skip)
{
    const uint8_t *buffer = ptnet_buffer(q, s.buf_idx);

    return buffer && s.len >= skip && s.len <= q->buf_size ? buffer + skip : NULL;
}

/* Takes the frame that begins at *head, and moves *head behind it. False: it was dropped; or, with
 * *head where it was, its end is not there yet. A slot without anything is a place that a VALE
 * switch reserved and did not use (netmap.md 9.3 step 7), no error. */
static bool take_frame(struct ptnet_queue *q, uint32_t *head, struct ptnet_frame *f)
{
    const uint32_t room = f->len, header_bytes = q->driver->header_bytes;
    uint32_t at = *head, len = 0, skip = header_bytes;
    struct nm_vnet_hdr hdr = {.flags = 0};
    bool ok = true, is_unused = true;
    union ptnet_slot s;

    do {
        if (at == q->hwtail) {
            q->n_errors++; /* 11.3 step 3: truncated */
            return false;
        }
        s = ptnet_slot_load(&q->ring->slot[at]);
        is_unused = is_unused && s.len == 0 && !(s.flags & NS_MOREFRAG);
        const uint8_t *data = slot_data(q, s, skip);
        uint32_t n = (uint32_t)s.len - skip;
        ok = ok && data && n <= room - len;
        if (ok) {
            memcpy(&hdr, data - skip, skip);
            memcpy(f->data + len, data, n);
            len += n;
        }
        skip = 0;
        at = ptnet_next(at, q->num_slots);
    } while (s.flags & NS_MOREFRAG);
    *head = at;
    if (!ok || len == 0 || !header_is_sane(&hdr, len)) {
        q->n_errors += !is_unused;
        return false;
    }
    f->len = len;
    f->hdr = hdr;
    q->n_frames++;
    q->n_bytes += len;
    return true;
}

unsigned ptnet_rx_burst(struct ptnet_queue *q, struct ptnet_frame *frames, unsigned n,
                        GError **error)
{
    uint32_t head = q->rhead;
    unsigned done = 0;

    ptnet_wake_up(q);
    if (!ptnet_pay_kick(q, error) || !ptnet_sync_tail(q, error)) { /* 11.3 step 2 */
        return 0;
    }
    while (done < n && head != q->hwtail) {
        const uint32_t before = head;
        if (take_frame(q, &head, &frames[done])) {
            done++;
        } else if (head == before) {
            break;
        }
    }
    if (head != q->rhead) {
        publish(q, head, NAF_FORCE_READ);
        ptnet_pay_kick(q, NULL);
    }
    return done;
}
