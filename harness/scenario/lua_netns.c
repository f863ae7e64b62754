/*
 * netns(): a network namespace with the real Linux stack in it, fresh in each test; its TAPs are
 * wires, its UDP sockets are spoken through by the script. Where none can be made, tests are
 * skipped.
 */
#include "harness/netns.h"
#include "harness/scenario/lua_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LUA_NETNS "ringlab.netns"
#define LUA_UDP   "ringlab.udp_socket"

enum { MAX_DATAGRAM = 65536, DEFAULT_WAIT_MS = 2000 };

struct lua_netns {
    struct scenario *sc;
    unsigned made_in, generation;
    struct netns *ns; /* valid in `generation` */
};

struct lua_udp {
    struct sc_owned *socket;
};

static struct lua_netns *check(lua_State *L)
{
    return sc_check(L, 1, LUA_NETNS);
}

static int l_netns(lua_State *L)
{
    struct lua_netns *n = sc_new(L, LUA_NETNS, sizeof(*n), 0);

    n->sc = sc_of(L);
    n->made_in = n->sc->generation;
    return 1;
}

/* What the system does not let us have is no finding. */
static int raise_or_skip(lua_State *L, GError *error)
{
    if (!g_error_matches(error, NETNS_ERROR, NETNS_ERROR_PERMISSION)) {
        return sc_raise(L, error);
    }
    lua_newtable(L);
    lua_pushliteral(L, "skip");
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, error->message);
    lua_setfield(L, -2, "message");
    g_error_free(error);
    return lua_error(L);
}

static void free_netns(void *data)
{
    netns_free(data);
}

static struct netns *instance(lua_State *L, struct lua_netns *n)
{
    GError *error = NULL;

    sc_need_test(L, "a network namespace");
    sc_need_made_in(L, n->made_in, "this network namespace");
    if (n->generation != n->sc->generation) {
        n->ns = netns_new(&error);
        if (!n->ns) {
            raise_or_skip(L, error);
        }
        n->generation = n->sc->generation;
        sc_owned_unref(sc_own(n->sc, NULL, "this network namespace", free_netns, n->ns));
    }
    return n->ns;
}

struct backend *sc_netns_tap(lua_State *L, struct lua_netns *n, const char *name,
                             const char *address)
{
    GError *error = NULL;
    struct backend *tap = netns_tap(instance(L, n), name, address, &error);

    if (!tap) {
        raise_or_skip(L, error);
    }
    return tap;
}

/* ns:tap(name, "10.0.0.1/24") -> a wire */
static int l_tap(lua_State *L)
{
    sc_push_netns_tap(L, check(L), 1, luaL_checkstring(L, 2), luaL_checkstring(L, 3));
    return 1;
}

/* ---- UDP ---- */

static void free_socket(void *data)
{
    close(GPOINTER_TO_INT(data) - 1);
}

/* ns:udp(port) -> a socket */
static int l_udp(lua_State *L)
{
    struct lua_netns *n = check(L);
    lua_Integer port = luaL_checkinteger(L, 2);
    GError *error = NULL;

    luaL_argcheck(L, port >= 0 && port <= 65535, 2, "ports are 0 to 65535");
    struct netns *ns = instance(L, n);
    struct lua_udp *u = sc_new(L, LUA_UDP, sizeof(*u), 0);
    int fd = netns_udp(ns, (uint16_t)port, &error);
    if (fd < 0) {
        return raise_or_skip(L, error);
    }
    u->socket = sc_own(n->sc, NULL, "this socket", free_socket, GINT_TO_POINTER(fd + 1));
    return 1;
}

static int check_socket(lua_State *L)
{
    const struct lua_udp *u = sc_check(L, 1, LUA_UDP);

    return GPOINTER_TO_INT(sc_owned_data(L, u->socket)) - 1;
}

/* socket:recv([ms]) -> bytes, address, port */
static int l_recv(lua_State *L)
{
    int fd = check_socket(L), timeout = sc_timeout(L, 2, DEFAULT_WAIT_MS);
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    uint8_t bytes[MAX_DATAGRAM];
    struct sockaddr_in from = {.sin_family = AF_INET};
    socklen_t from_len = sizeof(from);
    char text[INET_ADDRSTRLEN] = "";

    poll(&pfd, 1, timeout);
    ssize_t len = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &from_len);
    if (len < 0) {
        return luaL_error(L, "no datagram came within %d ms", timeout);
    }
    lua_pushlstring(L, (const char *)bytes, (size_t)len);
    inet_ntop(AF_INET, &from.sin_addr, text, sizeof(text));
    lua_pushstring(L, text);
    lua_pushinteger(L, ntohs(from.sin_port));
    return 3;
}

/* socket:send(bytes, address, port) */
static int l_send(lua_State *L)
{
    int fd = check_socket(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len), *address = luaL_checkstring(L, 3);
    lua_Integer port = luaL_checkinteger(L, 4);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    luaL_argcheck(L, inet_pton(AF_INET, address, &to.sin_addr) == 1, 3, "no IPv4 address");
    luaL_argcheck(L, port >= 1 && port <= 65535, 4, "ports are 1 to 65535");
    if (sendto(fd, bytes, len, 0, (const struct sockaddr *)&to, sizeof(to)) < 0) {
        return luaL_error(L, "sendto %s: %s", address, g_strerror(errno));
    }
    return 0;
}

static int l_udp_gc(lua_State *L)
{
    struct lua_udp *u = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&u->socket));
    return 0;
}

void sc_open_netns(lua_State *L)
{
    static const luaL_Reg methods[] = {{"tap", l_tap}, {"udp", l_udp}, {NULL, NULL}};
    static const luaL_Reg udp_methods[] = {{"recv", l_recv}, {"send", l_send}, {NULL, NULL}};
    static const luaL_Reg udp_meta[] = {{"__gc", l_udp_gc}, {NULL, NULL}};

    sc_type(L, LUA_NETNS, methods, NULL);
    sc_type(L, LUA_UDP, udp_methods, udp_meta);
    lua_pushcfunction(L, l_netns);
    lua_setglobal(L, "netns");
}
