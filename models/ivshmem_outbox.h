/*
 * What the ivshmem server has to tell one connection: messages in order, sent as far as the socket
 * takes them, and taken back while unsent when they are no longer true. Knows the message format of
 * QEMU's docs/specs/ivshmem-spec.txt, "Client-server protocol"; not what is said to whom.
 */
#ifndef RINGLAB_IVSHMEM_OUTBOX_H
#define RINGLAB_IVSHMEM_OUTBOX_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct ivshmem_outbox {
    int socket; /* not owned */
    bool is_broken;
    GArray *queue; /* private */
    guint n_sent;  /* private: messages at the front of the queue that went out */
};

enum ivshmem_outbox_result {
    IVSHMEM_OUTBOX_EMPTY,   /* all was sent */
    IVSHMEM_OUTBOX_FULL,    /* the socket takes no more until the other side reads */
    IVSHMEM_OUTBOX_STARVED, /* the kernel lacks memory, or too many descriptors are under way on
                               all sockets of this user: to be tried again later */
    IVSHMEM_OUTBOX_BROKEN,  /* the connection is of no use any more: what was kept is dropped, and
                               what is added is not kept */
};

void ivshmem_outbox_init(struct ivshmem_outbox *outbox, int socket);
void ivshmem_outbox_clear(struct ivshmem_outbox *outbox);

/* Adds a message: eight bytes, and a descriptor with it or -1. The descriptor is not owned, and
 * must be valid until it was sent or taken back. */
void ivshmem_outbox_add(struct ivshmem_outbox *outbox, int64_t value, int fd);
/* Drops unsent messages that carry `value` and a descriptor; returns how many there were. */
unsigned ivshmem_outbox_take_back(struct ivshmem_outbox *outbox, int64_t value);
/* Sends without blocking. */
enum ivshmem_outbox_result ivshmem_outbox_flush(struct ivshmem_outbox *outbox);
bool ivshmem_outbox_is_empty(const struct ivshmem_outbox *outbox);

#endif
