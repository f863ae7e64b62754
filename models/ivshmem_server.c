/*
 * The ivshmem server: one table of peers under one lock, messages sent without ever blocking, and a
 * thread that sees peers die and sends what did not fit. Wire format and order of messages: QEMU's
 * docs/specs/ivshmem-spec.txt, "Client-server protocol".
 * POSIX locks instead of GLib's: thread checkers understand them.
 */
#include "models/ivshmem_server.h"
#include "models/abi/ivshmem.h"
#include "models/ivshmem_outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

G_DEFINE_QUARK(ringlab_ivshmem_server_error, ivshmem_server_error)

enum {
    MEMORY_MESSAGE = -1,
    N_IDS = IVSHMEM_SERVER_MAX_ID + 1,
    MIN_MEMORY_BYTES = 4096,
    LISTEN_BACKLOG = 16,
    EVENTS_PER_PASS = 64,
    STARVED_RETRY_MS = 20,
};

/* What epoll reports; peers report their serial number, which counts from FIRST_SERIAL. */
enum { TAG_WAKE, TAG_LISTEN, FIRST_SERIAL };

struct peer {
    GList link;           /* in server->peers, in the order of joining */
    GList connected_link; /* in server->connected, if it has a connection */
    uint64_t serial;
    uint16_t id;
    bool wants_out; /* epoll reports when the socket takes more */
    unsigned n_vectors;
    int eventfds[IVSHMEM_SERVER_MAX_VECTORS];
    struct ivshmem_outbox outbox; /* no socket (-1) for a member of this process */
};

struct ivshmem_server {
    pthread_mutex_t lock; /* guards all below that changes after creation */
    pthread_cond_t peers_changed;
    pthread_t thread;
    int memory_fd;
    unsigned n_vectors;
    int epoll_fd;
    int wake_fd;
    bool is_stopping;
    bool is_starved; /* the system was short of something: sending and accepting are tried again */
    int listen_fd;   /* -1 before listen */
    char *listen_name;
    GHashTable *by_id;     /* id -> struct peer */
    GHashTable *by_serial; /* &serial -> struct peer */
    GQueue peers;          /* all */
    GQueue connected;      /* those with a connection, who have to be told of the others */
    uint32_t next_id;
    uint64_t next_serial;
};

static bool fail_errno(GError **error, const char *what)
{
    int saved = errno;
    g_set_error(error, IVSHMEM_SERVER_ERROR, IVSHMEM_SERVER_ERROR_SYSTEM,
                "ivshmem server: %s: %s%s", what, g_strerror(saved),
                saved == EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
    return false;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

static bool is_connected(const struct peer *peer)
{
    return peer->outbox.socket >= 0;
}

static void wake_thread(struct ivshmem_server *server)
{
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the thread is awake anyway. */
    ssize_t n = write(server->wake_fd, &one, sizeof(one));
    (void)n;
}

/* ---- sending; the lock is held ---- */

static void watch_peer(struct ivshmem_server *server, struct peer *peer, bool wants_out)
{
    if (peer->wants_out == wants_out)
        return;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (wants_out ? EPOLLOUT : 0u),
                                .data.u64 = peer->serial};
    peer->wants_out = wants_out;
    /* Changing a watch that is there cannot fail for a reason the caller could mend. */
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, peer->outbox.socket, &event) != 0)
        g_error("ivshmem server: changing what epoll watches: %s", g_strerror(errno));
}

/* Sends as much as the socket takes now. */
static void flush_peer(struct ivshmem_server *server, struct peer *peer)
{
    switch (ivshmem_outbox_flush(&peer->outbox)) {
    case IVSHMEM_OUTBOX_EMPTY:
        watch_peer(server, peer, false);
        break;
    case IVSHMEM_OUTBOX_FULL:
        watch_peer(server, peer, true);
        break;
    case IVSHMEM_OUTBOX_STARVED:
        watch_peer(server, peer, false);
        server->is_starved = true;
        wake_thread(server);
        break;
    case IVSHMEM_OUTBOX_BROKEN:
        /* The end of the connection reaches the thread, which removes the peer. */
        watch_peer(server, peer, false);
        shutdown(peer->outbox.socket, SHUT_RDWR);
        break;
    }
}

static void enqueue_eventfds(struct peer *to, const struct peer *of)
{
    for (unsigned i = 0; i < of->n_vectors; i++)
        ivshmem_outbox_add(&to->outbox, of->id, of->eventfds[i]);
}

/* Tells `to` that the peer `gone` left. Eventfds of it that were not sent yet never will be; if
 * none was, `to` never heard of it. */
static void enqueue_leave(struct peer *to, const struct peer *gone)
{
    if (ivshmem_outbox_take_back(&to->outbox, gone->id) < gone->n_vectors)
        ivshmem_outbox_add(&to->outbox, gone->id, -1);
}

/* ---- peers; the lock is held ---- */

static void peer_free(struct peer *peer)
{
    for (unsigned i = 0; i < peer->n_vectors; i++)
        close(peer->eventfds[i]);
    close_if_open(peer->outbox.socket);
    ivshmem_outbox_clear(&peer->outbox);
    g_free(peer);
}

/* Takes ownership of `socket` (-1 for a peer of this process), also on failure. */
static struct peer *peer_new(int socket, unsigned n_vectors, GError **error)
{
    struct peer *peer = g_new0(struct peer, 1);
    peer->link.data = peer->connected_link.data = peer;
    ivshmem_outbox_init(&peer->outbox, socket);
    for (; peer->n_vectors < n_vectors; peer->n_vectors++) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0) {
            fail_errno(error, "creating a peer's eventfds");
            peer_free(peer);
            return NULL;
        }
        peer->eventfds[peer->n_vectors] = fd;
    }
    return peer;
}

static struct peer *find_peer(struct ivshmem_server *server, uint16_t id)
{
    return g_hash_table_lookup(server->by_id, GUINT_TO_POINTER(id));
}

static bool allocate_id(struct ivshmem_server *server, uint16_t *id, GError **error)
{
    for (unsigned tried = 0; tried < N_IDS; tried++) {
        uint16_t candidate = (uint16_t)server->next_id;
        server->next_id = (server->next_id + 1) % N_IDS;
        if (!find_peer(server, candidate)) {
            *id = candidate;
            return true;
        }
    }
    g_set_error(error, IVSHMEM_SERVER_ERROR, IVSHMEM_SERVER_ERROR_FULL,
                "ivshmem server: all %d peer ids are in use; a peer must leave first", N_IDS);
    return false;
}

/* Gives the peer its id, tells everybody, and takes ownership; frees the peer on failure. */
static bool add_peer(struct ivshmem_server *server, struct peer *peer, GError **error)
{
    if (!allocate_id(server, &peer->id, error)) {
        peer_free(peer);
        return false;
    }
    peer->serial = server->next_serial++;
    if (is_connected(peer)) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = peer->serial};
        if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, peer->outbox.socket, &event) != 0) {
            fail_errno(error, "watching a new peer's connection");
            peer_free(peer);
            return false;
        }
    }

    if (is_connected(peer)) {
        ivshmem_outbox_add(&peer->outbox, IVSHMEM_PROTOCOL_VERSION, -1);
        ivshmem_outbox_add(&peer->outbox, peer->id, -1);
        ivshmem_outbox_add(&peer->outbox, MEMORY_MESSAGE, server->memory_fd);
    }
    for (GList *l = server->connected.head; l; l = l->next) {
        enqueue_eventfds(l->data, peer);
        flush_peer(server, l->data);
    }
    if (is_connected(peer)) {
        for (GList *l = server->peers.head; l; l = l->next)
            enqueue_eventfds(peer, l->data);
        enqueue_eventfds(peer, peer);
        flush_peer(server, peer);
        g_queue_push_tail_link(&server->connected, &peer->connected_link);
    }

    g_queue_push_tail_link(&server->peers, &peer->link);
    g_hash_table_insert(server->by_id, GUINT_TO_POINTER(peer->id), peer);
    g_hash_table_insert(server->by_serial, &peer->serial, peer);
    pthread_cond_broadcast(&server->peers_changed);
    return true;
}

static void remove_peer(struct ivshmem_server *server, struct peer *peer)
{
    g_queue_unlink(&server->peers, &peer->link);
    g_hash_table_remove(server->by_id, GUINT_TO_POINTER(peer->id));
    g_hash_table_remove(server->by_serial, &peer->serial);
    if (is_connected(peer))
        g_queue_unlink(&server->connected, &peer->connected_link);
    for (GList *l = server->connected.head; l; l = l->next) {
        enqueue_leave(l->data, peer);
        flush_peer(server, l->data);
    }
    /* A copy of the descriptor may still be on its way into a child process: the watch must not
     * outlive the peer. */
    if (is_connected(peer))
        epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, peer->outbox.socket, NULL);
    peer_free(peer);
    pthread_cond_broadcast(&server->peers_changed);
}

/* ---- the thread ---- */

static bool watch_listen_socket(struct ivshmem_server *server, bool is_watched)
{
    struct epoll_event event = {.events = is_watched ? EPOLLIN : 0u, .data.u64 = TAG_LISTEN};
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->listen_fd, &event) == 0;
}

/* An abstract name has no permissions: the user on the other side is looked at instead. */
static bool is_welcome(int socket)
{
    struct ucred credentials;
    socklen_t len = sizeof(credentials);
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &len) == 0 &&
           (credentials.uid == geteuid() || credentials.uid == 0);
}

static void accept_peers(struct ivshmem_server *server)
{
    for (;;) {
        int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            if (errno != EAGAIN) { /* no descriptor or no memory now: they wait in the backlog */
                watch_listen_socket(server, false);
                server->is_starved = true;
            }
            return;
        }
        if (!is_welcome(fd)) {
            close(fd);
            continue;
        }
        g_autoptr(GError) error = NULL;
        struct peer *peer = peer_new(fd, server->n_vectors, &error);
        if (!peer || !add_peer(server, peer, &error))
            g_warning("a connecting peer was turned away: %s", error->message);
    }
}

/* Tries again what failed because the system was short of something. */
static void retry_starved(struct ivshmem_server *server)
{
    server->is_starved = false;
    for (GList *l = server->connected.head; l; l = l->next) {
        struct peer *peer = l->data;
        if (!ivshmem_outbox_is_empty(&peer->outbox) && !peer->wants_out)
            flush_peer(server, peer);
    }
    if (server->listen_fd >= 0 && watch_listen_socket(server, true))
        accept_peers(server);
}

static void handle_event(struct ivshmem_server *server, const struct epoll_event *event)
{
    uint64_t serial = event->data.u64;
    if (serial == TAG_WAKE) {
        uint64_t count;
        ssize_t n = read(server->wake_fd, &count, sizeof(count));
        (void)n;
        return;
    }
    if (serial == TAG_LISTEN) {
        accept_peers(server);
        return;
    }
    struct peer *peer = g_hash_table_lookup(server->by_serial, &serial);
    if (!peer) /* left between the event and now */
        return;
    /* A client never sends: bytes mean the same as the end of the connection. */
    if (event->events & ~(uint32_t)EPOLLOUT)
        remove_peer(server, peer);
    else
        flush_peer(server, peer);
}

static void *server_thread(void *data)
{
    struct ivshmem_server *server = data;
    struct epoll_event events[EVENTS_PER_PASS];
    bool is_stopping = false, is_starved = false;

    while (!is_stopping) {
        int n = epoll_wait(server->epoll_fd, events, EVENTS_PER_PASS,
                           is_starved ? STARVED_RETRY_MS : -1);
        pthread_mutex_lock(&server->lock);
        for (int i = 0; i < n; i++)
            handle_event(server, &events[i]);
        if (n == 0 && server->is_starved)
            retry_starved(server);
        is_stopping = server->is_stopping;
        is_starved = server->is_starved;
        pthread_mutex_unlock(&server->lock);
    }
    return NULL;
}

/* ---- creation and end ---- */

static bool check_memory(int memory_fd, GError **error)
{
    struct stat st;
    if (fstat(memory_fd, &st) != 0)
        return fail_errno(error, "looking at the shared memory's descriptor");
    uint64_t size = (uint64_t)st.st_size;
    if (st.st_size < MIN_MEMORY_BYTES || (size & (size - 1)) != 0) {
        g_set_error(error, IVSHMEM_SERVER_ERROR, IVSHMEM_SERVER_ERROR_INVALID,
                    "ivshmem server: the shared memory has %" G_GUINT64_FORMAT
                    " bytes; it must be a power of two and at least %d, or QEMU aborts",
                    size, MIN_MEMORY_BYTES);
        return false;
    }
    return true;
}

static bool check_vectors(unsigned n_vectors, unsigned min, GError **error)
{
    if (n_vectors >= min && n_vectors <= IVSHMEM_SERVER_MAX_VECTORS)
        return true;
    g_set_error(error, IVSHMEM_SERVER_ERROR, IVSHMEM_SERVER_ERROR_INVALID,
                "ivshmem server: %u vectors per peer were asked for; there may be %u to %d",
                n_vectors, min, IVSHMEM_SERVER_MAX_VECTORS);
    return false;
}

static void init_locks(struct ivshmem_server *server)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&server->peers_changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&server->lock, NULL);
}

static bool open_descriptors(struct ivshmem_server *server, int memory_fd, GError **error)
{
    server->memory_fd = fcntl(memory_fd, F_DUPFD_CLOEXEC, 3);
    if (server->memory_fd < 0)
        return fail_errno(error, "duplicating the shared memory's descriptor");
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0)
        return fail_errno(error, "creating an epoll descriptor");
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake_fd < 0)
        return fail_errno(error, "creating an eventfd");
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = TAG_WAKE};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->wake_fd, &event) != 0)
        return fail_errno(error, "watching an eventfd");
    return true;
}

/* Everything but the thread. */
static void server_destroy(struct ivshmem_server *server)
{
    GList *next;
    for (GList *l = server->peers.head; l; l = next) {
        next = l->next;
        peer_free(l->data);
    }
    g_hash_table_destroy(server->by_id);
    g_hash_table_destroy(server->by_serial);
    close_if_open(server->listen_fd);
    close_if_open(server->wake_fd);
    close_if_open(server->epoll_fd);
    close_if_open(server->memory_fd);
    pthread_cond_destroy(&server->peers_changed);
    pthread_mutex_destroy(&server->lock);
    g_free(server->listen_name);
    g_free(server);
}

struct ivshmem_server *ivshmem_server_new(int memory_fd, unsigned n_vectors, GError **error)
{
    if (!check_vectors(n_vectors, 1, error) || !check_memory(memory_fd, error))
        return NULL;
    struct ivshmem_server *server = g_new0(struct ivshmem_server, 1);
    init_locks(server);
    server->n_vectors = n_vectors;
    server->memory_fd = server->epoll_fd = server->wake_fd = server->listen_fd = -1;
    server->by_id = g_hash_table_new(NULL, NULL);
    server->by_serial = g_hash_table_new(g_int64_hash, g_int64_equal);
    server->next_serial = FIRST_SERIAL;
    g_queue_init(&server->peers);
    g_queue_init(&server->connected);
    if (!open_descriptors(server, memory_fd, error)) {
        server_destroy(server);
        return NULL;
    }
    int rc = pthread_create(&server->thread, NULL, server_thread, server);
    if (rc != 0) {
        errno = rc;
        fail_errno(error, "starting its thread");
        server_destroy(server);
        return NULL;
    }
    return server;
}

void ivshmem_server_free(struct ivshmem_server *server)
{
    if (!server)
        return;
    pthread_mutex_lock(&server->lock);
    server->is_stopping = true;
    pthread_mutex_unlock(&server->lock);
    wake_thread(server);
    pthread_join(server->thread, NULL);
    server_destroy(server);
}

/* ---- peers, from outside ---- */

/* Binds to a name of the kernel's choosing (unix(7), "Autobind feature"). */
static int open_listen_socket(char **name, GError **error)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        fail_errno(error, "creating a listening socket");
        return -1;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t);
    if (bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, LISTEN_BACKLOG) == 0) {
        len = sizeof(address);
        if (getsockname(fd, (struct sockaddr *)&address, &len) == 0) {
            size_t skipped = offsetof(struct sockaddr_un, sun_path) + 1;
            *name = g_strndup(address.sun_path + 1, len - skipped);
            return fd;
        }
    }
    fail_errno(error, "listening on an abstract unix socket");
    close(fd);
    return -1;
}

const char *ivshmem_server_listen(struct ivshmem_server *server, GError **error)
{
    pthread_mutex_lock(&server->lock);
    if (!server->listen_name) {
        server->listen_fd = open_listen_socket(&server->listen_name, error);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = TAG_LISTEN};
        if (server->listen_fd >= 0 &&
            epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->listen_fd, &event) != 0) {
            fail_errno(error, "watching the listening socket");
            close(server->listen_fd);
            server->listen_fd = -1;
            g_clear_pointer(&server->listen_name, g_free);
        }
    }
    const char *name = server->listen_name;
    pthread_mutex_unlock(&server->lock);
    return name;
}

bool ivshmem_server_connect(struct ivshmem_server *server, int *client_fd, uint16_t *id,
                            GError **error)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return fail_errno(error, "creating a socket pair for a peer");
    struct peer *peer = peer_new(fds[0], server->n_vectors, error);
    bool ok = false;
    if (peer) {
        pthread_mutex_lock(&server->lock);
        ok = add_peer(server, peer, error);
        if (ok)
            *id = peer->id;
        pthread_mutex_unlock(&server->lock);
    }
    if (ok)
        *client_fd = fds[1];
    else
        close(fds[1]);
    return ok;
}

bool ivshmem_server_join(struct ivshmem_server *server, unsigned n_vectors, int *eventfds,
                         uint16_t *id, GError **error)
{
    if (!check_vectors(n_vectors, 0, error))
        return false;
    struct peer *peer = peer_new(-1, n_vectors, error);
    if (!peer)
        return false;
    pthread_mutex_lock(&server->lock);
    bool ok = add_peer(server, peer, error);
    if (ok) {
        *id = peer->id;
        if (n_vectors > 0)
            memcpy(eventfds, peer->eventfds, n_vectors * sizeof(int));
    }
    pthread_mutex_unlock(&server->lock);
    return ok;
}

bool ivshmem_server_leave(struct ivshmem_server *server, uint16_t id)
{
    pthread_mutex_lock(&server->lock);
    struct peer *peer = find_peer(server, id);
    if (peer)
        remove_peer(server, peer);
    pthread_mutex_unlock(&server->lock);
    return peer != NULL;
}

bool ivshmem_server_ring(struct ivshmem_server *server, uint16_t id, unsigned vector)
{
    bool ok = false;
    uint64_t one = 1;
    pthread_mutex_lock(&server->lock);
    struct peer *peer = find_peer(server, id);
    if (peer && vector < peer->n_vectors) {
        ssize_t n = write(peer->eventfds[vector], &one, sizeof(one));
        ok = n == (ssize_t)sizeof(one) || errno == EAGAIN; /* full: pending already */
    }
    pthread_mutex_unlock(&server->lock);
    return ok;
}

unsigned ivshmem_server_n_peers(struct ivshmem_server *server)
{
    pthread_mutex_lock(&server->lock);
    unsigned n = server->peers.length;
    pthread_mutex_unlock(&server->lock);
    return n;
}

bool ivshmem_server_has_peer(struct ivshmem_server *server, uint16_t id)
{
    pthread_mutex_lock(&server->lock);
    bool has = find_peer(server, id) != NULL;
    pthread_mutex_unlock(&server->lock);
    return has;
}

bool ivshmem_server_wait_peers(struct ivshmem_server *server, unsigned n, int timeout_ms)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&server->lock);
    int rc = 0;
    while (server->peers.length != n && rc == 0)
        rc = pthread_cond_timedwait(&server->peers_changed, &server->lock, &deadline);
    bool ok = server->peers.length == n;
    pthread_mutex_unlock(&server->lock);
    return ok;
}

static bool all_taken(struct ivshmem_server *server)
{
    bool is_taken = true;

    pthread_mutex_lock(&server->lock);
    for (const GList *l = server->connected.head; l && is_taken; l = l->next) {
        const struct peer *peer = l->data;
        int unread = 0;
        is_taken = ivshmem_outbox_is_empty(&peer->outbox) &&
                   (ioctl(peer->outbox.socket, SIOCOUTQ, &unread) < 0 || unread == 0);
    }
    pthread_mutex_unlock(&server->lock);
    return is_taken;
}

bool ivshmem_server_wait_taken(struct ivshmem_server *server, int timeout_ms)
{
    gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;

    /* nothing tells when the other side reads: asked again and again */
    while (!all_taken(server)) {
        if (g_get_monotonic_time() >= deadline)
            return false;
        g_thread_yield();
    }
    return true;
}
