/*
 * What a scenario sets and asks of a host's VALE switches beyond control requests.
 */
#include "harness/scenario/lua_host.h"
#include "models/vale/vale.h"

static struct nm_host *check(lua_State *L)
{
    return sc_netmap(L, sc_check(L, 1, LUA_NETMAP));
}

static int done(lua_State *L, const char *what, int err)
{
    return err ? sc_raise_errno(L, what, lua_tostring(L, 2), err) : 0;
}

/* host:policy("vale0:", "drop"|"wait"): what happens to frames for a port that is full */
static int l_policy(lua_State *L)
{
    static const char *const names[] = {"drop", "wait", NULL};
    struct nm_host *host = check(L);
    const char *name = luaL_checkstring(L, 2);
    int policy = luaL_checkoption(L, 3, NULL, names);

    return done(L, "policy of", vale_set_full_policy(host, name, (enum vale_full_policy)policy));
}

/* host:slot_destination("vale0:", on): whether slots name their destination */
static int l_slot_destination(lua_State *L)
{
    struct nm_host *host = check(L);
    const char *name = luaL_checkstring(L, 2);

    luaL_checktype(L, 3, LUA_TBOOLEAN);
    return done(L, "slot destination of",
                vale_set_slot_destination(host, name, lua_toboolean(L, 3)));
}

static unsigned always(void *data, const uint8_t *frame, size_t len, unsigned src_port,
                       uint8_t *ring)
{
    (void)frame;
    (void)len;
    (void)src_port;
    (void)ring;
    return GPOINTER_TO_UINT(data);
}

/* host:lookup("vale0:", "learn"|"broadcast"|"drop"|port index): where frames go */
static int l_lookup(lua_State *L)
{
    static const char *const names[] = {"learn", "broadcast", "drop", NULL};
    struct nm_host *host = check(L);
    const char *name = luaL_checkstring(L, 2);
    unsigned port;

    if (lua_isinteger(L, 3)) {
        lua_Integer index = lua_tointeger(L, 3);
        luaL_argcheck(L, index >= 0 && index < VALE_MAX_PORTS, 3, "ports are 0 to 253");
        port = (unsigned)index;
    } else {
        int way = luaL_checkoption(L, 3, NULL, names);
        if (way == 0) {
            return done(L, "lookup of", vale_set_lookup(host, name, NULL, NULL));
        }
        port = way == 1 ? VALE_PORT_BROADCAST : VALE_PORT_DROP;
    }
    return done(L, "lookup of", vale_set_lookup(host, name, always, GUINT_TO_POINTER(port)));
}

/* host:stats("vale0:a") -> counters of a switch's port */
static int l_stats(lua_State *L)
{
    struct nm_host *host = check(L);
    const char *name = luaL_checkstring(L, 2);
    struct vale_port_stats s;
    int err = vale_port_stats(host, name, &s);

    if (err) {
        return done(L, "statistics of", err);
    }
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"rx_frames", s.rx_frames},
        {"rx_bytes", s.rx_bytes},
        {"tx_frames", s.tx_frames},
        {"tx_bytes", s.tx_bytes},
        {"dropped_full", s.dropped_full},
        {"dropped_bad", s.dropped_bad},
        {"dropped_no_destination", s.dropped_no_destination},
    };
    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

void sc_push_vale_methods(lua_State *L, int methods)
{
    static const luaL_Reg functions[] = {
        {"policy", l_policy}, {"slot_destination", l_slot_destination},
        {"lookup", l_lookup}, {"stats", l_stats},
        {NULL, NULL},
    };

    lua_pushvalue(L, methods);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
