/*
 * A network namespace of our own: a real Linux network stack to talk to, with nothing else in it.
 * It needs the right to make one (root, or CAP_SYS_ADMIN), and is gone when it is freed and the
 * last descriptor that was made in it is closed. The caller's own namespace is never left.
 */
#ifndef RINGLAB_NETNS_H
#define RINGLAB_NETNS_H

#include "models/backend/backend.h"

#define NETNS_ERROR (netns_error_quark())
GQuark netns_error_quark(void);

enum netns_error {
    NETNS_ERROR_PERMISSION, /* not allowed to make one, or no TAP */
    NETNS_ERROR_SYSTEM,
};

struct netns;

/* The loopback interface is up. */
struct netns *netns_new(GError **error);
void netns_free(struct netns *ns);
/* A TAP in it, up, without IPv6: `address` is IPv4 as "10.0.0.1/24". */
struct backend *netns_tap(struct netns *ns, const char *name, const char *address, GError **error);
/* A UDP socket that does not wait, bound to all addresses and `port`; -1. */
int netns_udp(struct netns *ns, uint16_t port, GError **error);

#endif
