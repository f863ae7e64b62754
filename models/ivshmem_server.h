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
    IVSHMEM_SERVER_ERROR_FULL,    /* no peer id is left, or too many vectors */
    IVSHMEM_SERVER_ERROR_INVALID,
    IVSHMEM_SERVER_ERROR_SYSTEM,
};

enum { IVSHMEM_SERVER_MAX_ID = 65535, IVSHMEM_SERVER_MAX_VECTORS = 64 };

struct ivshmem_server;

/* Serves the memory behind `memory_fd` (kept open by the server as a duplicate) with `n_vectors`
 * per peer (1..64). A thread of its own watches the peers: one that dies is reported to the others
 * at once. All functions may be called from any thread. */
struct ivshmem_server *ivshmem_server_new(int memory_fd, unsigned n_vectors, GError **error);
/* Closes every connection; peers keep memory and known eventfds (the protocol has no good-bye). */
void ivshmem_server_free(struct ivshmem_server *server);

/* Accepts peers on an abstract unix socket as well (for a user's own QEMU). Returns its name
 * (without the leading NUL byte) in a string owned by the server. */
const char *ivshmem_server_listen(struct ivshmem_server *server, GError **error);
/* A new peer over a socket pair: the far end is returned in *client_fd, for a QEMU to inherit
 * (owned by the caller). All it needs to start is already written into it: memory, its id, its
 * eventfds and those of all peers there are. Ids are given in turn, and used again only after
 * 65535 others. */
bool ivshmem_server_connect(struct ivshmem_server *server, int *client_fd, uint16_t *id,
                            GError **error);
/* A peer in this process: only eventfds, `n_vectors` of them, owned by the server; `eventfds` has
 * room for them. Announced to all others. */
bool ivshmem_server_join(struct ivshmem_server *server, unsigned n_vectors, int *eventfds,
                         uint16_t *id, GError **error);
/* Ends a peer of either kind: its connection is closed, the others are told. False if there is no
 * such peer. */
bool ivshmem_server_leave(struct ivshmem_server *server, uint16_t id);
/* Rings a peer's vector from this process. */
bool ivshmem_server_ring(struct ivshmem_server *server, uint16_t id, unsigned vector);
/* Peers at present, and whether `id` is one. A connection that died counts until its end was
 * seen. */
unsigned ivshmem_server_n_peers(struct ivshmem_server *server);
bool ivshmem_server_has_peer(struct ivshmem_server *server, uint16_t id);
/* Waits until the number of peers is `n`. */
bool ivshmem_server_wait_peers(struct ivshmem_server *server, unsigned n, int timeout_ms);

#endif
