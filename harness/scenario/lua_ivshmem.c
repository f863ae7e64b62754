/*
 * ivshmem_server{...} and peers of this process.
 */
#include "harness/scenario/lua_scenario.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

struct lua_peer {
    struct scenario *sc;
    unsigned generation;
    struct ivshmem_server *server;
    uint16_t id;
    bool has_left;
    unsigned n_vectors;
    int eventfds[IVSHMEM_SERVER_MAX_VECTORS];
};

static struct lua_server *check(lua_State *L)
{
    return sc_check(L, 1, LUA_SERVER);
}

/* ivshmem_server{ memory=, vectors=1 } */
static int l_server(lua_State *L)
{
    static const char *const known[] = {"memory", "vectors", NULL};

    luaL_checktype(L, 1, LUA_TTABLE);
    sc_check_fields(L, 1, known);
    struct lua_server *s = sc_new(L, LUA_SERVER, sizeof(*s), 1);
    s->sc = sc_of(L);
    s->made_in = s->sc->generation;
    s->n_vectors = (unsigned)sc_field_integer(L, 1, "vectors", 1, 1, IVSHMEM_SERVER_MAX_VECTORS);
    s->memory = sc_field_object(L, 1, "memory", LUA_MEMORY);
    if (!s->memory) {
        return luaL_error(L, "ivshmem_server needs memory, such as ivshmem_server { memory = "
                             "memory { size = \"1M\" } }");
    }
    lua_setiuservalue(L, -2, 1);
    return 1;
}

struct ivshmem_server *sc_server(lua_State *L, struct lua_server *s)
{
    GError *error = NULL;

    sc_need_test(L, "an ivshmem server");
    sc_need_made_in(L, s->made_in, "this ivshmem server");
    if (s->generation != s->sc->generation) {
        struct guest_region *region = sc_region(L, s->memory);
        s->server = session_ivshmem_server_new(s->sc->session, region, s->n_vectors, &error);
        if (!s->server) {
            sc_raise(L, error);
        }
        s->generation = s->sc->generation;
    }
    return s->server;
}

/* Returns when all QEMUs of the test have acted on what the server told them. */
static void settle(lua_State *L, struct ivshmem_server *server)
{
    struct session *session = sc_of(L)->session;
    GError *error = NULL;

    if (!ivshmem_server_wait_taken(server, sc_timeout(L, lua_gettop(L) + 1, 2000))) {
        luaL_error(L, "a peer of the ivshmem server does not read what it is told");
    }
    for (unsigned i = 0; session_nth_machine(session, i); i++) {
        struct session_machine *m = session_nth_machine(session, i);
        if (session_machine_is_started(m) && qemu_is_alive(session_machine_qemu(m), NULL) &&
            !machine_barrier(session_machine_machine(m), &error)) {
            sc_raise(L, error);
        }
    }
}

static int l_settle(lua_State *L)
{
    settle(L, sc_server(L, check(L)));
    return 0;
}

/* server:join([vectors]) -> a peer in this process, known to all others */
static int l_join(lua_State *L)
{
    struct lua_server *s = check(L);
    struct ivshmem_server *server = sc_server(L, s);
    lua_Integer n = luaL_optinteger(L, 2, s->n_vectors);
    GError *error = NULL;

    luaL_argcheck(L, n >= 1 && n <= IVSHMEM_SERVER_MAX_VECTORS, 2, "1 to 64 vectors");
    struct lua_peer *p = sc_new(L, LUA_PEER, sizeof(*p), 1);
    p->sc = s->sc;
    p->generation = s->sc->generation;
    p->server = server;
    p->n_vectors = (unsigned)n;
    if (!ivshmem_server_join(server, p->n_vectors, p->eventfds, &p->id, &error)) {
        return sc_raise(L, error);
    }
    settle(L, server);
    return 1;
}

static int l_leave(lua_State *L)
{
    struct ivshmem_server *server = sc_server(L, check(L));
    lua_Integer id = luaL_checkinteger(L, 2);

    luaL_argcheck(L, id >= 0 && id <= IVSHMEM_SERVER_MAX_ID, 2, "ids are 0 to 65535");
    lua_pushboolean(L, ivshmem_server_leave(server, (uint16_t)id));
    return 1;
}

static int l_ring(lua_State *L)
{
    struct ivshmem_server *server = sc_server(L, check(L));
    lua_Integer id = luaL_checkinteger(L, 2), vector = luaL_optinteger(L, 3, 0);

    luaL_argcheck(L, id >= 0 && id <= IVSHMEM_SERVER_MAX_ID, 2, "ids are 0 to 65535");
    lua_pushboolean(L, ivshmem_server_ring(server, (uint16_t)id, (unsigned)vector));
    return 1;
}

static int l_peers(lua_State *L)
{
    lua_pushinteger(L, ivshmem_server_n_peers(sc_server(L, check(L))));
    return 1;
}

static int l_has_peer(lua_State *L)
{
    struct ivshmem_server *server = sc_server(L, check(L));
    lua_Integer id = luaL_checkinteger(L, 2);

    lua_pushboolean(L, id >= 0 && id <= IVSHMEM_SERVER_MAX_ID &&
                           ivshmem_server_has_peer(server, (uint16_t)id));
    return 1;
}

/* server:wait_peers(n[, timeout]) */
static int l_wait_peers(lua_State *L)
{
    struct ivshmem_server *server = sc_server(L, check(L));
    lua_Integer n = luaL_checkinteger(L, 2);

    luaL_argcheck(L, n >= 0 && n <= IVSHMEM_SERVER_MAX_ID, 2, "0 to 65535 peers");
    if (!ivshmem_server_wait_peers(server, (unsigned)n, sc_timeout(L, 3, 2000))) {
        GError *error =
            g_error_new(QTEST_ERROR, QTEST_ERROR_TIMEOUT, "the server has %u peers, not %u",
                        ivshmem_server_n_peers(server), (unsigned)n);
        sc_add_deaths(sc_of(L), &error);
        return sc_raise(L, error);
    }
    return 0;
}

/* ---- peers of this process ---- */

static struct lua_peer *check_peer(lua_State *L)
{
    struct lua_peer *p = sc_check(L, 1, LUA_PEER);

    sc_need_test(L, "this peer");
    sc_need_made_in(L, p->generation, "this peer");
    if (p->has_left) {
        luaL_error(L, "peer %d has left", (int)p->id);
    }
    return p;
}

static int peer_fd(lua_State *L, struct lua_peer *p, int arg)
{
    lua_Integer v = luaL_optinteger(L, arg, 0);

    if (v < 0 || v >= p->n_vectors) {
        luaL_error(L, "the peer has vectors 0 to %d, not %I", (int)p->n_vectors - 1, v);
    }
    return p->eventfds[v];
}

/* peer:take([vector]) -> how often it was rung since, 0 if not */
static int l_peer_take(lua_State *L)
{
    int fd = peer_fd(L, check_peer(L), 2);
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    uint64_t n = 0;

    if (poll(&pfd, 1, 0) == 1 && read(fd, &n, sizeof(n)) != sizeof(n)) {
        n = 0;
    }
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

/* peer:wait([vector[, timeout]]) -> how often it was rung */
static int l_peer_wait(lua_State *L)
{
    struct lua_peer *p = check_peer(L);
    int fd = peer_fd(L, p, 2), timeout = sc_timeout(L, 3, 2000);
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout * 1000;
    uint64_t n;

    for (;;) {
        int64_t left = MAX(deadline - g_get_monotonic_time(), 0);
        int ready = poll(&pfd, 1, (int)((left + 999) / 1000));
        if (ready == 1 && read(fd, &n, sizeof(n)) == sizeof(n)) {
            lua_pushinteger(L, (lua_Integer)n);
            return 1;
        }
        if (ready == 0) {
            GError *error = g_error_new(QTEST_ERROR, QTEST_ERROR_TIMEOUT,
                                        "peer %u: vector %d was not rung within %d ms", p->id,
                                        (int)luaL_optinteger(L, 2, 0), timeout);
            sc_add_deaths(p->sc, &error);
            return sc_raise(L, error);
        }
        if (ready < 0 && errno != EINTR) {
            return luaL_error(L, "peer %d: poll: %s", (int)p->id, g_strerror(errno));
        }
    }
}

static int l_peer_id(lua_State *L)
{
    lua_pushinteger(L, check_peer(L)->id);
    return 1;
}

static int l_peer_leave(lua_State *L)
{
    struct lua_peer *p = check_peer(L);

    lua_pushboolean(L, ivshmem_server_leave(p->server, p->id));
    p->has_left = true;
    settle(L, p->server);
    return 1;
}

void sc_open_ivshmem(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"join", l_join},         {"leave", l_leave},
        {"ring", l_ring},         {"peers", l_peers},
        {"has_peer", l_has_peer}, {"wait_peers", l_wait_peers},
        {"settle", l_settle},     {NULL, NULL},
    };
    static const luaL_Reg peer_methods[] = {
        {"take", l_peer_take},   {"wait", l_peer_wait}, {"id", l_peer_id},
        {"leave", l_peer_leave}, {NULL, NULL},
    };

    sc_type(L, LUA_SERVER, methods, NULL);
    sc_type(L, LUA_PEER, peer_methods, NULL);
    lua_pushcfunction(L, l_server);
    lua_setglobal(L, "ivshmem_server");
}
