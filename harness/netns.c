/*
 * See netns.h. A namespace belongs to a thread: what is to happen inside is done by a thread that
 * goes there, and ends.
 */
#include "harness/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

G_DEFINE_QUARK(netns - error - quark, netns_error)

struct netns {
    int fd;
};

/* ---- in a thread of its own ---- */

struct errand {
    int ns; /* -1: make one */
    bool (*run)(void *data, GError **error);
    void *data;
    bool is_done;
    GError *error;
};

static bool fail(GError **error, const char *what)
{
    int code = errno == EPERM || errno == EACCES ? NETNS_ERROR_PERMISSION : NETNS_ERROR_SYSTEM;

    g_set_error(error, NETNS_ERROR, code, "network namespace: %s: %s", what, g_strerror(errno));
    return false;
}

static void *go(void *data)
{
    struct errand *e = data;
    bool is_there = e->ns < 0 ? unshare(CLONE_NEWNET) == 0 : setns(e->ns, CLONE_NEWNET) == 0;

    e->is_done = is_there ? e->run(e->data, &e->error) : fail(&e->error, "entering it");
    return NULL;
}

static bool send_there(int ns, bool (*run)(void *, GError **), void *data, GError **error)
{
    struct errand e = {.ns = ns, .run = run, .data = data};
    pthread_t thread;

    errno = pthread_create(&thread, NULL, go, &e);
    if (errno != 0) {
        return fail(error, "a thread for it");
    }
    pthread_join(thread, NULL);
    if (e.error) {
        g_propagate_error(error, e.error);
    }
    return e.is_done;
}

/* ---- what is done there ---- */

static bool set_up(int fd, struct ifreq *r, GError **error)
{
    if (ioctl(fd, SIOCGIFFLAGS, r) < 0) {
        return fail(error, "SIOCGIFFLAGS");
    }
    r->ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, r) == 0 || fail(error, "SIOCSIFFLAGS");
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        close(fd);
    }
}

static bool settle_in(void *data, GError **error)
{
    int *ns = data, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {.ifr_name = "lo"};

    if (fd < 0) {
        return fail(error, "a socket");
    }
    /* it would speak first: what it has to say is not what is tested */
    write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    bool ok = set_up(fd, &r, error);
    close(fd);
    if (ok) {
        *ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        ok = *ns >= 0 || fail(error, "/proc/thread-self/ns/net");
    }
    return ok;
}

struct netns *netns_new(GError **error)
{
    int fd = -1;

    if (!send_there(-1, settle_in, &fd, error)) {
        return NULL;
    }
    struct netns *ns = g_new0(struct netns, 1);
    ns->fd = fd;
    return ns;
}

void netns_free(struct netns *ns)
{
    if (ns) {
        close(ns->fd);
        g_free(ns);
    }
}

struct tap {
    const char *name, *address;
    struct backend *backend;
};

static bool parse_address(const char *text, struct in_addr *address, struct in_addr *mask)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 2);
    guint64 bits;

    if (!parts[0] || inet_pton(AF_INET, parts[0], address) != 1 || !parts[1] ||
        !g_ascii_string_to_unsigned(parts[1], 10, 0, 32, &bits, NULL)) {
        return false;
    }
    mask->s_addr = htonl(bits ? UINT32_MAX << (32 - bits) : 0);
    return true;
}

static bool set_address(int fd, const struct tap *tap, GError **error)
{
    struct ifreq r = {0};
    struct sockaddr_in a = {.sin_family = AF_INET}, mask = a;

    if (!parse_address(tap->address, &a.sin_addr, &mask.sin_addr)) {
        g_set_error(error, NETNS_ERROR, NETNS_ERROR_SYSTEM,
                    "'%s' is no address such as 10.0.0.1/24", tap->address);
        return false;
    }
    g_strlcpy(r.ifr_name, tap->name, sizeof(r.ifr_name));
    memcpy(&r.ifr_addr, &a, sizeof(a));
    if (ioctl(fd, SIOCSIFADDR, &r) < 0) {
        return fail(error, "SIOCSIFADDR");
    }
    memcpy(&r.ifr_netmask, &mask, sizeof(mask));
    return (ioctl(fd, SIOCSIFNETMASK, &r) == 0 || fail(error, "SIOCSIFNETMASK")) &&
           set_up(fd, &r, error);
}

static bool make_tap(void *data, GError **error)
{
    struct tap *tap = data;
    GError *cause = NULL;

    tap->backend = backend_tap_new(tap->name, &cause);
    if (!tap->backend) {
        bool is_missing = cause->code == ENOENT || cause->code == ENODEV || cause->code == EPERM;
        g_set_error(error, NETNS_ERROR, is_missing ? NETNS_ERROR_PERMISSION : NETNS_ERROR_SYSTEM,
                    "%s", cause->message);
        g_error_free(cause);
        return false;
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = (fd >= 0 || fail(error, "a socket")) && set_address(fd, tap, error);
    if (fd >= 0) {
        close(fd);
    }
    if (!ok) {
        backend_free(g_steal_pointer(&tap->backend));
    }
    return ok;
}

struct backend *netns_tap(struct netns *ns, const char *name, const char *address, GError **error)
{
    struct tap tap = {.name = name, .address = address};

    return send_there(ns->fd, make_tap, &tap, error) ? tap.backend : NULL;
}

struct udp {
    uint16_t port;
    int fd;
};

static bool make_udp(void *data, GError **error)
{
    struct udp *udp = data;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(udp->port)};

    udp->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (udp->fd < 0) {
        return fail(error, "a UDP socket");
    }
    if (bind(udp->fd, (const struct sockaddr *)&a, sizeof(a)) < 0) {
        fail(error, "bind");
        close(udp->fd);
        return false;
    }
    return true;
}

int netns_udp(struct netns *ns, uint16_t port, GError **error)
{
    struct udp udp = {.port = port, .fd = -1};

    return send_there(ns->fd, make_udp, &udp, error) ? udp.fd : -1;
}
