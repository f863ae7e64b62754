/*
 * Putting a chunk's frames into one receive ring: reserve, copy, publish. Of vale_forward.c.
 */
#ifndef RINGLAB_VALE_DELIVER_PRIVATE_H
#define RINGLAB_VALE_DELIVER_PRIVATE_H

#include "models/vale/vale_private.h"

/* Frames to one ring, in the order of the sender's slots: those sent to it and those flooded. */
struct vale_delivery {
    struct vale_port *dst;
    struct nm_kring *kring;
    uint16_t unicast, broadcast; /* first fragments of the next ones; VALE_NO_FRAG */
    uint32_t packets, slots;     /* to come */
};

/* Whether frames can be put into a ring now: its port is in netmap mode, and somebody has it. */
bool vale_kring_is_open(const struct vale_port *port, const struct nm_kring *kring);
/* Slots that the packets to come take at most. */
uint32_t vale_delivery_slots(const struct vale_sender *sender, const struct vale_delivery *d);
/* Delivers packets until there is no room; *d is what is left. Counts what came through, and
 * packets that could not be converted. */
void vale_deliver(struct vale_sender *sender, struct vale_delivery *d);

/* The first `n` fragments of the sender are frames of one slot each to an open ring that needs no
 * conversion and has no offsets: puts those into it for which there is room. Returns how many. */
uint32_t vale_deliver_run(struct vale_sender *sender, struct vale_port *dst, struct nm_kring *kring,
                          uint32_t n);

/* Whether a list's ring can take runs as above. */
bool vale_can_run(const struct vale_switch *sw, unsigned list);
/* Gives a run to it; what does not fit is dropped and counted. */
void vale_flush_run(struct vale_sender *sender, struct vale_switch *sw, unsigned list, uint32_t n);
/* Gives the sender's lists to their destinations; what does not fit is dropped and counted. */
void vale_flush(struct vale_sender *sender, struct vale_switch *sw);
/* The same for one list (of one packet, if it is flooded), where senders wait for room. `end` is
 * the fragment behind it. Returns the first fragment that was not taken, or `end`; the sender is
 * noted down at the destination that was full. */
unsigned vale_flush_waiting(struct vale_sender *sender, struct vale_switch *sw, unsigned end);
/* Tells the receivers that got something since the last time. */
void vale_wake_receivers(struct vale_sender *sender, struct vale_switch *sw);

#endif
