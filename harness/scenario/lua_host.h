/*
 * What the files that bind the host side (netmap, VALE, wires, ptnet) to Lua share. Not for users
 * of the engine. As with machines, what a file declares is a handle, and each test gets its own.
 */
#ifndef RINGLAB_LUA_HOST_H
#define RINGLAB_LUA_HOST_H

#include "harness/scenario/lua_scenario.h"
#include "models/backend/backend.h"
#include "models/netmap/netmap.h"

#define LUA_NETMAP  "ringlab.netmap"
#define LUA_PORT    "ringlab.netmap_port"
#define LUA_RINGS   "ringlab.netmap_rings"
#define LUA_RING    "ringlab.netmap_ring"
#define LUA_SLOT    "ringlab.netmap_slot"
#define LUA_BACKEND "ringlab.wire"
#define LUA_PTNET   "ringlab.ptnet"

struct lua_netmap;
struct lua_backend;

/* An open file of a netmap host, registered or not. uservalue 1: the host. */
struct lua_port {
    struct sc_owned *file;
    struct lua_netmap *host;
};

/* A ring as its user sees it. Shared memory: what the other side may change is looked at once, and
 * nothing outside the buffers can be reached through it. uservalue 1: whatever keeps it alive. */
struct lua_ring {
    struct sc_owned *owner;
    struct netmap_ring *ring;
    uint8_t *buf_base;
    uint32_t num_slots, buf_size, buf_total;
};

/* The host of the running test, made (with its declared interfaces) when first asked for. */
struct nm_host *sc_netmap(lua_State *L, struct lua_netmap *n);
/* Frees all hosts of the test: after its ports, and after the devices that hold some. */
void sc_free_hosts(struct scenario *sc);
/* A back end's instance for the running test, whose owner the caller becomes; raises if somebody
 * has it already. */
struct backend *sc_take_backend(lua_State *L, struct lua_backend *b);
struct lua_netns;
/* A TAP in a namespace as a wire, and what makes its instance. */
void sc_push_netns_tap(lua_State *L, struct lua_netns *ns, int ns_index, const char *name,
                       const char *address);
struct backend *sc_netns_tap(lua_State *L, struct lua_netns *ns, const char *name,
                             const char *address);
/* Socket netdevs of a machine (m:netdev): connected when it is made, QEMU's ends closed here once
 * it has them. */
void sc_connect_netdevs(lua_State *L, struct lua_machine *m);
void sc_close_netdevs(struct lua_machine *m);
int sc_machine_netdev(lua_State *L);

/* A new file as a handle; `host_index` is its host's. */
struct nm_file *sc_push_port(lua_State *L, struct lua_netmap *host, int host_index);
void sc_push_ring(lua_State *L, int keeper_index, const struct lua_ring *ring);

/* Carries out the request that the table at `table` describes (scenarios/README.md) and pushes the
 * name of its errno, its body and its options: three values. */
int sc_request(lua_State *L, struct nm_file *file, int table);
int sc_legacy_request(lua_State *L, struct nm_file *file, int table);
/* host:NAME(port_name[, body]): the request of upvalue 1 on a file of its own; raises on failure.
 * For functions made by sc_push_request_methods. */
void sc_push_request_methods(lua_State *L, int methods);
/* Those of hosts that are about switches. */
void sc_push_vale_methods(lua_State *L, int methods);
/* Raises "WHAT NAME: ERRNO (text)". */
int sc_raise_errno(lua_State *L, const char *what, const char *name, int err);
/* "OK", "EBUSY" ... */
const char *sc_errno_name(int err);

/* Methods of device handles that are ptnet devices: dev:step([ring]), dev:stats(). */
int sc_ptnet_step(lua_State *L);
int sc_ptnet_stats(lua_State *L);

void sc_open_netmap(lua_State *L);
void sc_open_port(lua_State *L);
void sc_open_ring(lua_State *L);
void sc_open_backend(lua_State *L);
void sc_open_ptnet(lua_State *L);
void sc_open_netns(lua_State *L);

#endif
