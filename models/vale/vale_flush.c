/*
 * Giving lists of packets to their destinations, to one or to all. Where a destination is full, the
 * rest is dropped (netmap's way), or its sender waits until there is room everywhere.
 */
#include "models/vale/vale_deliver_private.h"

static void remember_to_wake(struct vale_sender *sender, unsigned list)
{
    if (!sender->is_to_wake[list]) {
        sender->is_to_wake[list] = true;
        sender->to_wake[sender->n_to_wake++] = (uint16_t)list;
    }
}

void vale_wake_receivers(struct vale_sender *sender, struct vale_switch *sw)
{
    for (unsigned i = 0; i < sender->n_to_wake; i++) {
        unsigned list = sender->to_wake[i];
        struct vale_port *dst = sw->ports[list / VALE_MAX_RINGS];
        struct nm_kring *kring = &dst->na.krings[NM_RX][list % VALE_MAX_RINGS];
        sender->is_to_wake[list] = false;
        nm_kr_notify(kring, 0);
    }
    sender->n_to_wake = 0;
}

/* A list of a ring, with what is flooded (NULL: nothing). False: nobody is there to take it. */
static bool begin_delivery(struct vale_sender *sender, struct vale_switch *sw, unsigned id,
                           const struct vale_list *broadcast, struct vale_delivery *d)
{
    static const struct vale_list empty = {.head = VALE_NO_FRAG};
    const struct vale_list *unicast = &sender->lists[id];
    struct vale_port *dst = sw->ports[id / VALE_MAX_RINGS];

    unicast = unicast->head != VALE_NO_FRAG ? unicast : &empty;
    broadcast = broadcast ? broadcast : &empty;
    *d = (struct vale_delivery){
        .dst = dst,
        .kring = dst->is_on ? &dst->na.krings[NM_RX][id % VALE_MAX_RINGS] : NULL,
        .unicast = unicast->head,
        .broadcast = broadcast->head,
        .packets = (uint32_t)unicast->packets + broadcast->packets,
        .slots = (uint32_t)unicast->slots + broadcast->slots,
    };
    if (!d->kring || !vale_kring_is_open(dst, d->kring)) {
        vale_count(&sender->port->counters.dropped_no_destination, unicast->packets);
        return false;
    }
    return true;
}

/* Room is made by a NIC's own transmit ring when it is asked to reclaim. */
static void deliver_retrying(struct vale_sender *sender, struct vale_delivery *d, unsigned id)
{
    unsigned retries = d->dst->is_wrapper ? d->dst->na.host->options.txsync_retry : 0;

    vale_deliver(sender, d);
    for (; d->packets > 0 && retries > 0; retries--) {
        nm_kr_notify(d->kring, NAF_FORCE_RECLAIM);
        vale_deliver(sender, d);
    }
    remember_to_wake(sender, id);
}

static void flush_list(struct vale_sender *sender, struct vale_switch *sw, unsigned id,
                       const struct vale_list *broadcast)
{
    struct vale_delivery d;

    if (begin_delivery(sender, sw, id, broadcast, &d)) {
        deliver_retrying(sender, &d, id);
        vale_count(&d.dst->counters.dropped_full, d.packets);
    }
    sender->lists[id].head = VALE_NO_FRAG;
}

void vale_flush(struct vale_sender *sender, struct vale_switch *sw)
{
    struct vale_list *broadcast = &sender->lists[VALE_LIST_BROADCAST];

    if (broadcast->head != VALE_NO_FRAG) {
        for (unsigned i = 0; i < sw->n_active; i++) {
            if (sw->ports[sw->active[i]] != sender->port) {
                flush_list(sender, sw, sw->active[i] * VALE_MAX_RINGS, broadcast);
            }
        }
        broadcast->head = VALE_NO_FRAG;
    }
    for (unsigned i = 0; i < sender->n_touched; i++) {
        if (sender->lists[sender->touched[i]].head != VALE_NO_FRAG) {
            flush_list(sender, sw, sender->touched[i], NULL);
        }
    }
    sender->n_touched = 0;
}

/* ---- runs ---- */

bool vale_can_run(const struct vale_switch *sw, unsigned list)
{
    const struct vale_port *dst = sw->ports[list / VALE_MAX_RINGS];

    if (!dst->is_on || dst->is_wrapper || dst->na.virt_hdr_len != 0) {
        return false;
    }
    const struct nm_kring *kring = &dst->na.krings[NM_RX][list % VALE_MAX_RINGS];
    return kring->offset_mask == 0 && vale_kring_is_open(dst, kring);
}

void vale_flush_run(struct vale_sender *sender, struct vale_switch *sw, unsigned list, uint32_t n)
{
    struct vale_port *dst = sw->ports[list / VALE_MAX_RINGS];
    struct nm_kring *kring = &dst->na.krings[NM_RX][list % VALE_MAX_RINGS];

    vale_count(&dst->counters.dropped_full, n - vale_deliver_run(sender, dst, kring, n));
    remember_to_wake(sender, list);
}

/* ---- where senders wait ---- */

/* Whether `slots` could ever be free at once: else waiting would never end. */
static bool can_fit(const struct vale_delivery *d, uint32_t slots)
{
    return slots < d->kring->num_slots;
}

/* Notes the sender down. True: by now there is room, it need not wait. */
static bool wait_for(struct vale_sender *sender, const struct vale_delivery *d, uint32_t slots)
{
    struct vale_receiver *receiver = d->kring->port_data;
    unsigned port = sender->port->index;

    atomic_fetch_or(&receiver->waiting[port / 64], UINT64_C(1) << port % 64);
    return vale_queue_room(d->kring) >= slots;
}

/* One packet to all: it goes when there is room for it everywhere. */
static bool flood_waiting(struct vale_sender *sender, struct vale_switch *sw)
{
    struct vale_list *broadcast = &sender->lists[VALE_LIST_BROADCAST];
    struct vale_delivery d;

    for (unsigned i = 0; i < sw->n_active; i++) {
        unsigned id = sw->active[i] * VALE_MAX_RINGS;
        if (sw->ports[sw->active[i]] == sender->port ||
            !begin_delivery(sender, sw, id, broadcast, &d)) {
            continue;
        }
        uint32_t slots = vale_delivery_slots(sender, &d);
        if (can_fit(&d, slots) && vale_queue_room(d.kring) < slots &&
            !wait_for(sender, &d, slots)) {
            return false;
        }
    }
    vale_flush(sender, sw);
    return true;
}

/* A run of packets to one ring, as far as they fit. Returns the first that does not, or `end`. */
static unsigned run_waiting(struct vale_sender *sender, struct vale_switch *sw, unsigned id,
                            unsigned end)
{
    struct vale_delivery d;

    if (!begin_delivery(sender, sw, id, NULL, &d)) {
        return end;
    }
    for (bool had_room = false;;) {
        uint32_t before = d.packets;
        deliver_retrying(sender, &d, id);
        if (d.packets == 0) {
            return end;
        }
        had_room = had_room && d.packets == before;
        struct vale_delivery one = d;
        one.packets = 1;
        one.slots = sender->frags[d.unicast].frags;
        uint32_t slots = vale_delivery_slots(sender, &one);
        if (can_fit(&d, slots) && !had_room) {
            if (!wait_for(sender, &d, slots)) {
                return d.unicast;
            }
            had_room = true;
            continue;
        }
        vale_count(&d.dst->counters.dropped_full, 1); /* it never fits */
        d.unicast = sender->frags[d.unicast].next;
        d.packets--;
        d.slots -= one.slots;
    }
}

unsigned vale_flush_waiting(struct vale_sender *sender, struct vale_switch *sw, unsigned end)
{
    unsigned id = sender->touched[0], stop;

    if (id == VALE_LIST_BROADCAST) {
        stop = flood_waiting(sender, sw) ? end : sender->lists[id].head;
    } else {
        stop = run_waiting(sender, sw, id, end);
    }
    sender->lists[id].head = VALE_NO_FRAG;
    sender->n_touched = 0;
    return stop;
}
