/*
 * netmap{...}: a host with its allocators, interfaces, ports and switches; fresh in each test.
 */
#include "harness/scenario/lua_host.h"

#include <string.h>

enum { MAX_LOG_LINES = 1000 };

struct nic {
    struct nm_nic_options options;
    char *name;
    struct lua_backend *wire, *stack; /* kept alive by uservalue 1 of the host */
};

struct lua_netmap {
    struct scenario *sc;
    unsigned made_in;
    unsigned generation;
    struct nm_host_options options;
    char *name, *dir;
    GPtrArray *nics;      /* struct nic * */
    guint n_nics_loaded;  /* as declared while the file loaded */
    struct host_of *host; /* valid in `generation` */
};

/* A host of the running test, and what it had to say: from any thread. */
struct host_of {
    struct nm_host *host;
    GMutex lock;
    GPtrArray *lines; /* char * */
};

static struct lua_netmap *check(lua_State *L)
{
    return sc_check(L, 1, LUA_NETMAP);
}

static void nic_free(gpointer data)
{
    struct nic *n = data;

    g_free(n->name);
    g_free(n);
}

/* netmap{ name=, dir=, hugepages=, if_num=, if_size=, ring_num=, ring_size=, buf_num=, buf_size=,
 *   bridges=, batch=, retry=, generic_slots=, generic_rings=, forward=, timestamps=, admode= } */
static int l_netmap(lua_State *L)
{
    static const char *const known[] = {
        "name",          "dir",     "hugepages", "if_num",     "if_size",       "ring_num",
        "ring_size",     "buf_num", "buf_size",  "bridges",    "batch",         "retry",
        "generic_slots", "forward", "admode",    "timestamps", "generic_rings", NULL};
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    sc_check_fields(L, 1, known);
    struct lua_netmap *n = sc_new(L, LUA_NETMAP, sizeof(*n), 1);
    n->sc = sc_of(L);
    n->made_in = n->sc->generation;
    n->nics = g_ptr_array_new_with_free_func(nic_free);
    const char *name = sc_field_string(L, 1, "name");
    n->name = g_strdup(name ? name : "netmap");
    n->dir = g_strdup(sc_field_string(L, 1, "dir"));
    n->options = (struct nm_host_options){
        .name = n->name,
        .memory_dir = n->dir,
        .hugepages = sc_field_boolean(L, 1, "hugepages", false),
        .if_size = (uint32_t)sc_field_integer(L, 1, "if_size", 0, 0, UINT32_MAX),
        .if_num = (uint32_t)sc_field_integer(L, 1, "if_num", 0, 0, UINT32_MAX),
        .ring_size = (uint32_t)sc_field_integer(L, 1, "ring_size", 0, 0, UINT32_MAX),
        .ring_num = (uint32_t)sc_field_integer(L, 1, "ring_num", 0, 0, UINT32_MAX),
        .buf_size = (uint32_t)sc_field_integer(L, 1, "buf_size", 0, 0, UINT32_MAX),
        .buf_num = (uint32_t)sc_field_integer(L, 1, "buf_num", 0, 0, UINT32_MAX),
        .max_bridges = (uint32_t)sc_field_integer(L, 1, "bridges", 0, 0, 256),
        .bridge_batch = (uint32_t)sc_field_integer(L, 1, "batch", 0, 0, 65536),
        .txsync_retry = (uint32_t)sc_field_integer(L, 1, "retry", 0, 0, 1000),
        .generic_ringsize = (uint32_t)sc_field_integer(L, 1, "generic_slots", 0, 0, 65536),
        .generic_rings = (uint32_t)sc_field_integer(L, 1, "generic_rings", 0, 0, 64),
        .fwd = sc_field_boolean(L, 1, "forward", false),
        .no_timestamp = !sc_field_boolean(L, 1, "timestamps", true),
        .admode = (int)sc_field_integer(L, 1, "admode", 0, 0, 2),
    };
    lua_newtable(L); /* keeps the wires of its interfaces */
    lua_setiuservalue(L, -2, 1);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct lua_netmap *n = check(L);

    if (n->nics) {
        g_ptr_array_unref(g_steal_pointer(&n->nics));
        g_free(n->name);
        g_free(n->dir);
    }
    return 0;
}

/* ---- the host of a test ---- */

static void on_log(void *data, const char *line)
{
    struct host_of *h = data;

    g_mutex_lock(&h->lock);
    if (h->lines->len < MAX_LOG_LINES) {
        g_ptr_array_add(h->lines, g_strdup(line));
    }
    g_mutex_unlock(&h->lock);
}

void sc_free_hosts(struct scenario *sc)
{
    for (guint i = 0; i < sc->hosts->len; i++) {
        struct host_of *h = sc->hosts->pdata[i];
        nm_host_free(h->host);
        g_ptr_array_unref(h->lines);
        g_mutex_clear(&h->lock);
        g_free(h);
    }
    g_ptr_array_set_size(sc->hosts, 0);
}

static void make_nic(lua_State *L, struct nm_host *host, const struct nic *nic)
{
    struct nm_nic_options o = nic->options;
    GError *error = NULL;

    o.wire = nic->wire ? sc_take_backend(L, nic->wire) : NULL;
    o.stack = nic->stack ? sc_take_backend(L, nic->stack) : NULL;
    if (!nm_nic_new(host, &o, &error)) {
        sc_raise(L, error);
    }
}

struct nm_host *sc_netmap(lua_State *L, struct lua_netmap *n)
{
    struct scenario *sc = n->sc;
    GError *error = NULL;

    sc_need_test(L, "a netmap host");
    sc_need_made_in(L, n->made_in, "this netmap host");
    if (n->generation == sc->generation) {
        return n->host->host;
    }
    struct nm_host *host = nm_host_new(&n->options, &error);
    if (!host) {
        sc_raise(L, error);
    }
    struct host_of *h = g_new0(struct host_of, 1);
    h->host = host;
    h->lines = g_ptr_array_new_with_free_func(g_free);
    g_mutex_init(&h->lock);
    nm_host_set_log(host, on_log, h);
    g_ptr_array_add(sc->hosts, h);
    g_ptr_array_set_size(n->nics, (gint)MIN(n->nics->len, n->n_nics_loaded));
    n->generation = sc->generation;
    n->host = h;
    for (guint i = 0; i < n->nics->len; i++) {
        make_nic(L, host, n->nics->pdata[i]);
    }
    return host;
}

/* ---- interfaces ---- */

static uint32_t number(lua_State *L, const char *name, uint32_t def, uint32_t max)
{
    return (uint32_t)sc_field_integer(L, 3, name, def, 0, max);
}

/* The back end of the field, kept alive by the table at `keeper`. */
static struct lua_backend *backend_field(lua_State *L, const char *name, int keeper)
{
    struct lua_backend *b = sc_field_object(L, 3, name, LUA_BACKEND);

    lua_rawseti(L, keeper, (lua_Integer)lua_rawlen(L, keeper) + 1);
    return b;
}

/* host:nic(name, { rings=, tx_rings=, rx_rings=, slots=, tx_slots=, rx_slots=, mtu=,
 *   mac=, emulated=, wire=, stack= }) */
static int l_nic(lua_State *L)
{
    static const char *const known[] = {"rings",    "tx_rings", "rx_rings", "slots",
                                        "tx_slots", "rx_slots", "mtu",      "mac",
                                        "emulated", "wire",     "stack",    NULL};
    struct lua_netmap *n = check(L);
    const char *name = luaL_checkstring(L, 2);
    size_t len = 6;

    if (lua_isnoneornil(L, 3)) {
        lua_settop(L, 2);
        lua_newtable(L);
    }
    luaL_checktype(L, 3, LUA_TTABLE);
    sc_check_fields(L, 3, known);
    uint32_t rings = number(L, "rings", 0, UINT16_MAX), slots = number(L, "slots", 0, UINT32_MAX);
    struct nm_nic_options o = {
        .tx_rings = (uint16_t)number(L, "tx_rings", rings, UINT16_MAX),
        .rx_rings = (uint16_t)number(L, "rx_rings", rings, UINT16_MAX),
        .tx_slots = number(L, "tx_slots", slots, UINT32_MAX),
        .rx_slots = number(L, "rx_slots", slots, UINT32_MAX),
        .mtu = number(L, "mtu", 0, UINT32_MAX),
        .is_emulated = sc_field_boolean(L, 3, "emulated", false),
    };
    lua_getfield(L, 3, "mac");
    const char *mac = lua_isnil(L, -1) ? NULL : luaL_checklstring(L, -1, &len);
    luaL_argcheck(L, len == 6, 3, "a mac has 6 bytes, as mac \"02:...\" gives them");
    if (mac) {
        memcpy(o.mac, mac, 6);
    }
    lua_getiuservalue(L, 1, 1);
    int keeper = lua_gettop(L);
    struct nic *nic = g_new0(struct nic, 1);
    g_ptr_array_add(n->nics, nic);
    nic->name = g_strdup(name);
    nic->options = o;
    nic->options.name = nic->name;
    nic->wire = backend_field(L, "wire", keeper);
    nic->stack = backend_field(L, "stack", keeper);
    if (!n->sc->in_test) {
        n->n_nics_loaded = n->nics->len;
    } else {
        g_ptr_array_steal_index(n->nics, n->nics->len - 1); /* not among those of the file */
        struct nm_host *host = sc_netmap(L, n);
        g_ptr_array_add(n->nics, nic);
        make_nic(L, host, nic);
    }
    lua_settop(L, 1);
    return 1;
}

static int l_remove_nic(lua_State *L)
{
    struct nm_host *host = sc_netmap(L, check(L));
    GError *error = NULL;

    if (!nm_nic_remove(host, luaL_checkstring(L, 2), &error)) {
        return sc_raise(L, error);
    }
    return 0;
}

static void push_side(lua_State *L, const struct nm_nic_side_stats *s, const char *name)
{
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {{"sent", s->sent},
                  {"received", s->received},
                  {"dropped_tx", s->dropped_tx},
                  {"dropped_rx", s->dropped_rx}};

    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_setfield(L, -2, name);
}

/* host:nic_info(name) -> { mac=, mtu=, wire={ sent=, received=, dropped_tx=, dropped_rx= }, stack=
 * }
 */
static int l_nic_info(lua_State *L)
{
    struct nm_host *host = sc_netmap(L, check(L));
    const char *name = luaL_checkstring(L, 2);
    struct nm_nic_info info;

    if (!nm_nic_info(host, name, &info)) {
        return luaL_error(L, "there is no interface '%s'", name);
    }
    lua_newtable(L);
    lua_pushlstring(L, (const char *)info.mac, 6);
    lua_setfield(L, -2, "mac");
    lua_pushinteger(L, info.mtu);
    lua_setfield(L, -2, "mtu");
    push_side(L, &info.wire, "wire");
    push_side(L, &info.stack, "stack");
    return 1;
}

/* ---- ports and requests ---- */

/* host:file() -> an open file, not registered */
static int l_file(lua_State *L)
{
    sc_push_port(L, check(L), 1);
    return 1;
}

/* The fields of host:open that go into the request as they are. */
static void fill_register(lua_State *L, struct nmreq_register *reg)
{
    uint32_t rings = number(L, "rings", 0, UINT16_MAX), slots = number(L, "slots", 0, UINT32_MAX);

    reg->nr_tx_rings = (uint16_t)number(L, "tx_rings", rings ? rings : reg->nr_tx_rings, 65535);
    reg->nr_rx_rings = (uint16_t)number(L, "rx_rings", rings ? rings : reg->nr_rx_rings, 65535);
    reg->nr_host_tx_rings = (uint16_t)number(L, "host_tx_rings", reg->nr_host_tx_rings, 65535);
    reg->nr_host_rx_rings = (uint16_t)number(L, "host_rx_rings", reg->nr_host_rx_rings, 65535);
    reg->nr_tx_slots = number(L, "tx_slots", slots ? slots : reg->nr_tx_slots, UINT32_MAX);
    reg->nr_rx_slots = number(L, "rx_slots", slots ? slots : reg->nr_rx_slots, UINT32_MAX);
    reg->nr_extra_bufs = number(L, "extra_bufs", reg->nr_extra_bufs, UINT32_MAX);
    reg->nr_mode = number(L, "mode", reg->nr_mode, UINT32_MAX);
    reg->nr_ringid = (uint16_t)number(L, "ring", reg->nr_ringid, 65535);
    reg->nr_mem_id = (uint16_t)number(L, "mem_id", reg->nr_mem_id, 65535);
    reg->nr_flags |= (uint64_t)sc_field_integer(L, 3, "flags", 0, 0, LUA_MAXINTEGER);
    reg->nr_flags |= sc_field_boolean(L, 3, "vnet_hdr", false) ? NR_ACCEPT_VNET_HDR : 0;
    reg->nr_flags |= sc_field_boolean(L, 3, "exclusive", false) ? NR_EXCLUSIVE : 0;
}

/* host:open(name[, { rings=, slots=, ... }]) -> a registered port; the name in libnetmap's grammar
 */
static int l_open(lua_State *L)
{
    static const char *const known[] = {"rings",         "tx_rings", "rx_rings",  "host_tx_rings",
                                        "host_rx_rings", "slots",    "tx_slots",  "rx_slots",
                                        "mode",          "ring",     "mem_id",    "flags",
                                        "extra_bufs",    "vnet_hdr", "exclusive", NULL};
    struct lua_netmap *n = check(L);
    const char *name = luaL_checkstring(L, 2);
    struct nmreq_header header = {0};
    struct nmreq_register reg = {0};
    GError *error = NULL;

    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        sc_check_fields(L, 3, known);
    }
    if (!nm_parse_port(sc_netmap(L, n), name, &header, &reg, &error)) {
        return sc_raise(L, error);
    }
    if (lua_istable(L, 3)) {
        fill_register(L, &reg);
    }
    header.nr_version = NETMAP_API;
    header.nr_reqtype = NETMAP_REQ_REGISTER;
    header.nr_body = (uint64_t)(uintptr_t)&reg;
    int err = nm_ctrl(sc_push_port(L, n, 1), &header);
    return err ? sc_raise_errno(L, "open", name, err) : 1;
}

/* host:request{...} and host:legacy{...}: on a file of their own, closed afterwards */
static int l_request(lua_State *L)
{
    struct nm_file *file = sc_push_port(L, check(L), 1);

    lua_insert(L, 2); /* the port's handle before the table */
    int n = sc_request(L, file, 3);
    sc_owned_end(sc_of(L), ((struct lua_port *)lua_touserdata(L, 2))->file);
    return n;
}

static int l_legacy(lua_State *L)
{
    struct nm_file *file = sc_push_port(L, check(L), 1);

    lua_insert(L, 2);
    int n = sc_legacy_request(L, file, 3);
    sc_owned_end(sc_of(L), ((struct lua_port *)lua_touserdata(L, 2))->file);
    return n;
}

/* host:log() -> what netmap had to say since the last call, line by line */
static int l_log(lua_State *L)
{
    struct lua_netmap *n = check(L);

    sc_netmap(L, n);
    g_mutex_lock(&n->host->lock);
    GPtrArray *lines = g_steal_pointer(&n->host->lines);
    n->host->lines = g_ptr_array_new_with_free_func(g_free);
    g_mutex_unlock(&n->host->lock);
    lua_createtable(L, (int)lines->len, 0);
    for (guint i = 0; i < lines->len; i++) {
        lua_pushstring(L, lines->pdata[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    g_ptr_array_unref(lines);
    return 1;
}

void sc_open_netmap(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"nic", l_nic},   {"remove_nic", l_remove_nic}, {"nic_info", l_nic_info}, {"file", l_file},
        {"open", l_open}, {"request", l_request},       {"legacy", l_legacy},     {"log", l_log},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};

    sc_type(L, LUA_NETMAP, methods, meta);
    luaL_getmetatable(L, LUA_NETMAP);
    lua_getfield(L, -1, "methods");
    sc_push_request_methods(L, lua_gettop(L));
    sc_push_vale_methods(L, lua_gettop(L));
    lua_pop(L, 2);
    lua_pushcfunction(L, l_netmap);
    lua_setglobal(L, "netmap");
}
