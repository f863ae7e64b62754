/*
 * The server that ivshmem-doorbell devices connect to: shared memory, peer ids, eventfds, peers
 * coming and going. Follows QEMU's docs/specs/ivshmem-spec.txt, "Interrupts" and "Client-server
 * protocol". Peers are real QEMUs, or members of this process.
 */
#ifndef RINGLAB_IVSHMEM_SERVER_H
#define RINGLAB_IVSHMEM_SERVER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define IVSHMEM_SERVER_ERROR (ivshmem_server_error_quark())
GQuark ivshmem_server_error_quark(void);

enum ivshmem_server_error {
    IVSHMEM_SERVER_ERROR_FULL,    /* no peer id is left */
    IVSHMEM_SERVER_ERROR_INVALID, /* memory no device can show, or a number of vectors out of range
                                   */
    IVSHMEM_SERVER_ERROR_SYSTEM,
};

enum { IVSHMEM_SERVER_MAX_ID = 65535, IVSHMEM_SERVER_MAX_VECTORS = 64 };

struct ivshmem_server;

/* Serves the memory behind `memory_fd` (kept open by the server as a duplicate) with `n_vectors`
 * per connected peer (1..64). Its size must be a power of two and at least a page: INVALID
 * otherwise, because QEMU would abort. A thread of its own watches the peers: one that closes its
 * connection, dies or sends anything is gone, and the others are told at once. All functions may be
 * called from any thread, and none ever waits for a peer: what a peer does not read is kept for
 * it, and taken back when it stops being true (an announcement of somebody who left), so that what
 * is kept never exceeds one announcement for each peer there is and one notice for each id. */
struct ivshmem_server *ivshmem_server_new(int memory_fd, unsigned n_vectors, GError **error);
/* Closes every connection and all eventfds; connected peers keep memory and the eventfds they know
 * (the protocol has no good-bye). */
void ivshmem_server_free(struct ivshmem_server *server);

/* Accepts peers on an abstract unix socket as well (for a user's own QEMU: `-chardev
 * socket,abstract=on,path=NAME,...`), from processes of the same user and of root. Returns its name
 * (without the leading NUL byte) in a string owned by the server; the same name every time. */
const char *ivshmem_server_listen(struct ivshmem_server *server, GError **error);
/* A new peer over a socket pair: the far end is returned in *client_fd, for a QEMU to inherit
 * (owned by the caller, close-on-exec; to be closed once QEMU has it, or its death goes unseen).
 * All it needs to start is already written into it: memory, its id, and as many of the others'
 * eventfds and its own as the socket's buffer holds (some 270); the rest follows as it reads. Ids
 * are given in turn from 0, and used again only after all others were. */
bool ivshmem_server_connect(struct ivshmem_server *server, int *client_fd, uint16_t *id,
                            GError **error);
/* A peer in this process: only eventfds, `n_vectors` of them (0..64), non-blocking, owned by the
 * server and closed when the peer leaves; `eventfds` has room for them. Announced to all others.
 * Without vectors nobody hears of it: it only takes an id, so that the next one is given away. */
bool ivshmem_server_join(struct ivshmem_server *server, unsigned n_vectors, int *eventfds,
                         uint16_t *id, GError **error);
/* Ends a peer of either kind: its connection is closed, the others are told. False if there is no
 * such peer. */
bool ivshmem_server_leave(struct ivshmem_server *server, uint16_t id);
/* Rings a peer's vector from this process. False if there is no such peer or vector. */
bool ivshmem_server_ring(struct ivshmem_server *server, uint16_t id, unsigned vector);
/* Peers at present, and whether `id` is one. A connection that died counts until its end was
 * seen. */
unsigned ivshmem_server_n_peers(struct ivshmem_server *server);
bool ivshmem_server_has_peer(struct ivshmem_server *server, uint16_t id);
/* Waits until the number of peers is `n`; false if it was not within `timeout_ms`. */
bool ivshmem_server_wait_peers(struct ivshmem_server *server, unsigned n, int timeout_ms);
/* Waits until every connected peer has taken all messages out of its socket: who is there, who
 * left. A QEMU has acted on them once it answers what it was asked after that. */
bool ivshmem_server_wait_taken(struct ivshmem_server *server, int timeout_ms);

#endif
