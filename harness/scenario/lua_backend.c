/*
 * Wires: where an interface's frames come from and go to (models/backend/). Declared as values,
 * made in each test when an interface takes them, or when a script sends or receives by itself.
 */
#include "harness/scenario/lua_host.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_BURST = 1024, DEFAULT_WAIT_MS = 2000 };

enum kind { NOTHING, SOURCE, CABLE, TAP, PCAP, PCAP_WRITER, NETNS_TAP, NETDEV };

/* What the two ends of a cable share: the end that was not asked for first waits here. */
struct cable {
    unsigned refs, generation;
    unsigned n_slots;
    uint32_t max_frame;
    struct backend *ends[2];
};

struct lua_backend {
    struct scenario *sc;
    enum kind kind;
    unsigned made_in, generation;
    char *text; /* TAP: its name; captures: a path; SOURCE: the frame */
    size_t text_len;
    uint64_t n_frames;
    struct backend_pcap_options pcap;
    struct cable *cable;
    unsigned end;         /* of the cable */
    struct lua_netns *ns; /* NETNS_TAP, with `address`; kept alive by uservalue 1 */
    char *address;
    struct lua_machine *machine; /* NETDEV of this id; kept alive by uservalue 1 */
    bool is_stream;
    struct sc_owned *owned; /* what keeps `made` */
};

static struct lua_backend *check(lua_State *L)
{
    return sc_check(L, 1, LUA_BACKEND);
}

static struct lua_backend *push_handle(lua_State *L, enum kind kind)
{
    struct lua_backend *b = sc_new(L, LUA_BACKEND, sizeof(*b), 1);

    b->sc = sc_of(L);
    b->kind = kind;
    b->made_in = b->sc->generation;
    return b;
}

/* ---- declaring ---- */

static int l_null(lua_State *L)
{
    push_handle(L, NOTHING);
    return 1;
}

/* wire.source(frame[, count]) */
static int l_source(lua_State *L)
{
    size_t len;
    const char *frame = luaL_checklstring(L, 1, &len);
    lua_Integer n = luaL_optinteger(L, 2, 0);

    luaL_argcheck(L, n >= 0, 2, "a number of frames cannot be negative");
    struct lua_backend *b = push_handle(L, SOURCE);
    b->text = g_memdup2(frame, len);
    b->text_len = len;
    b->n_frames = (uint64_t)n;
    return 1;
}

/* wire.cable([{ slots=, max_frame= }]) -> two ends */
static int l_cable(lua_State *L)
{
    static const char *const known[] = {"slots", "max_frame", NULL};

    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    sc_check_fields(L, 1, known);
    unsigned n_slots = (unsigned)sc_field_integer(L, 1, "slots", 1024, 1, 65536);
    uint32_t max_frame = (uint32_t)sc_field_integer(L, 1, "max_frame", 2048, 1, BACKEND_MAX_FRAME);
    struct lua_backend *ends[2] = {push_handle(L, CABLE), push_handle(L, CABLE)};
    struct cable *c = g_new0(struct cable, 1);
    c->refs = 2;
    c->n_slots = n_slots;
    c->max_frame = max_frame;
    for (unsigned i = 0; i < 2; i++) {
        ends[i]->cable = c;
        ends[i]->end = i;
    }
    return 2;
}

static int l_tap(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);

    push_handle(L, TAP)->text = g_strdup(name);
    return 1;
}

/* wire.pcap(path[, { pace="fast"|"original"|"rate", speed=, rate=, loops= }]) */
static int l_pcap(lua_State *L)
{
    static const char *const known[] = {"pace", "speed", "rate", "loops", NULL};
    static const char *const paces[] = {"fast", "original", "rate"};
    const char *path = luaL_checkstring(L, 1);

    if (lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_newtable(L);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    sc_check_fields(L, 2, known);
    const char *pace = sc_field_string(L, 2, "pace");
    int chosen = pace ? -1 : 0;
    for (int i = 0; pace && i < 3; i++) {
        chosen = strcmp(pace, paces[i]) == 0 ? i : chosen;
    }
    if (chosen < 0) {
        return luaL_error(L, "a pace is 'fast', 'original' or 'rate', not '%s'", pace);
    }
    lua_getfield(L, 2, "speed");
    lua_Number speed = luaL_optnumber(L, -1, 0);
    struct lua_backend *b = push_handle(L, PCAP);
    b->text = g_strdup(path);
    b->pcap.pace = (enum backend_pace)chosen;
    b->pcap.speed = speed;
    b->pcap.rate_bps = (uint64_t)sc_field_integer(L, 2, "rate", 0, 0, LUA_MAXINTEGER);
    b->pcap.n_loops = (unsigned)sc_field_integer(L, 2, "loops", 0, 0, 1000000);
    return 1;
}

static int l_pcap_writer(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    push_handle(L, PCAP_WRITER)->text = g_strdup(path);
    return 1;
}

void sc_push_netns_tap(lua_State *L, struct lua_netns *ns, int ns_index, const char *name,
                       const char *address)
{
    ns_index = lua_absindex(L, ns_index);
    struct lua_backend *b = push_handle(L, NETNS_TAP);

    lua_pushvalue(L, ns_index);
    lua_setiuservalue(L, -2, 1);
    b->ns = ns;
    b->text = g_strdup(name);
    b->address = g_strdup(address);
}

/* m:netdev(id, "stream"|"dgram") -> the wire at the other end of QEMU's -netdev of that id */
int sc_machine_netdev(lua_State *L)
{
    static const char *const kinds[] = {"stream", "dgram", NULL};
    struct lua_machine *m = sc_check(L, 1, LUA_MACHINE);
    const char *id = luaL_checkstring(L, 2);
    bool is_stream = luaL_checkoption(L, 3, "stream", kinds) == 0;

    if (m->sc->in_test && m->generation == m->sc->generation) {
        return luaL_error(L, "machine '%s' is in use already: declare its netdevs before", m->name);
    }
    struct lua_backend *b = push_handle(L, NETDEV);
    b->text = g_strdup(id);
    b->is_stream = is_stream;
    b->machine = m;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    lua_getiuservalue(L, 1, 1); /* the machine keeps it alive, too */
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, id);
    lua_pop(L, 1);
    g_ptr_array_add(m->netdevs, b);
    if (!m->sc->in_test) {
        m->n_netdevs_loaded = m->netdevs->len;
    }
    return 1;
}

static void cable_unref(struct cable *c)
{
    if (c && --c->refs == 0) {
        g_free(c);
    }
}

static int l_gc(lua_State *L)
{
    struct lua_backend *b = lua_touserdata(L, 1);

    g_free(g_steal_pointer(&b->text));
    g_free(g_steal_pointer(&b->address));
    cable_unref(g_steal_pointer(&b->cable));
    sc_owned_unref(g_steal_pointer(&b->owned));
    return 0;
}

/* ---- the instance of a test ---- */

static void free_backend(void *data)
{
    struct backend **slot = data;

    if (*slot) {
        backend_free(*slot);
    }
    g_free(slot);
}

/* What is made is owned by the test until an interface takes it out of here. */
static void own(struct lua_backend *b, struct backend *made)
{
    struct backend **slot = g_new0(struct backend *, 1);

    *slot = made;
    sc_owned_unref(g_steal_pointer(&b->owned));
    b->owned = sc_own(b->sc, NULL, "this wire", free_backend, slot);
    b->generation = b->sc->generation;
}

/* The end that nobody has asked for goes with the test. */
static void end_cable(void *data)
{
    struct cable *c = data;

    for (unsigned i = 0; i < 2; i++) {
        if (c->ends[i]) {
            backend_free(g_steal_pointer(&c->ends[i]));
        }
    }
    cable_unref(c);
}

/* Both ends are made at once; the other one's handle finds its own in the cable. */
static struct backend *cable_end(struct lua_backend *b, GError **error)
{
    struct cable *c = b->cable;

    if (c->generation != b->sc->generation) {
        if (!backend_cable_new(c->n_slots, c->max_frame, &c->ends[0], &c->ends[1], error)) {
            return NULL;
        }
        c->generation = b->sc->generation;
        c->refs++;
        sc_owned_unref(sc_own(b->sc, NULL, "this cable", end_cable, c));
    }
    return g_steal_pointer(&c->ends[b->end]);
}

static struct backend *make(lua_State *L, struct lua_backend *b, GError **error)
{
    switch (b->kind) {
    case SOURCE:
        return backend_source_new(b->text, (uint32_t)b->text_len, b->n_frames, error);
    case CABLE:
        return cable_end(b, error);
    case TAP:
        return backend_tap_new(b->text, error);
    case PCAP:
        return backend_pcap_new(b->text, &b->pcap, error);
    case PCAP_WRITER:
        return backend_pcap_writer_new(b->text, error);
    case NETNS_TAP:
        return sc_netns_tap(L, b->ns, b->text, b->address);
    default:
        return backend_null_new();
    }
}

/* QEMU inherits its end; a machine connects once per test, so one that is started again finds
 * nobody there. */
static bool connect_netdev(struct lua_backend *b, GError **error)
{
    struct lua_machine *m = b->machine;
    int pair[2];

    if (socketpair(AF_UNIX, (b->is_stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0, pair) <
        0) {
        g_set_error(error, BACKEND_ERROR, errno, "a socket pair: %s", g_strerror(errno));
        return false;
    }
    g_array_append_val(m->far_fds, pair[1]);
    struct backend *made = b->is_stream ? backend_stream_from_fd(pair[0], error)
                                        : backend_dgram_from_fd(pair[0], error);
    if (!made) {
        return false;
    }
    own(b, made);
    g_autofree char *value =
        b->is_stream
            ? g_strdup_printf("stream,id=%s,server=off,addr.type=fd,addr.str=%d", b->text, pair[1])
            : g_strdup_printf("dgram,id=%s,local.type=fd,local.str=%d", b->text, pair[1]);
    const char *args[] = {"-netdev", value, NULL};
    return session_machine_inherit(m->machine, pair[1], error) &&
           session_machine_add_args(m->machine, args, error);
}

void sc_connect_netdevs(lua_State *L, struct lua_machine *m)
{
    GError *error = NULL;

    for (guint i = 0; i < m->netdevs->len; i++) {
        if (!connect_netdev(m->netdevs->pdata[i], &error)) {
            sc_raise(L, error);
        }
    }
}

void sc_close_netdevs(struct lua_machine *m)
{
    for (guint i = 0; i < m->far_fds->len; i++) {
        close(g_array_index(m->far_fds, int, i));
    }
    g_array_set_size(m->far_fds, 0);
}

/* The instance; NULL: an interface has taken it. */
static struct backend **instance(lua_State *L, struct lua_backend *b)
{
    GError *error = NULL;

    sc_need_test(L, "a wire");
    sc_need_made_in(L, b->made_in, "this wire");
    if (b->kind == NETDEV) {
        sc_machine(L, b->machine); /* connects its netdevs */
    }
    if (b->generation != b->sc->generation) {
        struct backend *made = make(L, b, &error);
        if (!made) {
            sc_raise(L, error);
        }
        own(b, made);
    }
    return sc_owned_data(L, b->owned);
}

struct backend *sc_take_backend(lua_State *L, struct lua_backend *b)
{
    struct backend **slot = instance(L, b);

    if (!*slot) {
        luaL_error(L, "this wire belongs to another interface already");
    }
    return g_steal_pointer(slot);
}

static struct backend *usable(lua_State *L)
{
    struct backend **slot = instance(L, check(L));

    if (!*slot) {
        luaL_error(L, "this wire belongs to an interface: send and receive at its other end");
    }
    return *slot;
}

/* ---- used by the script itself ---- */

static struct backend_frame check_frame(lua_State *L, int index)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, index, &len);

    luaL_argcheck(L, len > 0 && len <= BACKEND_MAX_FRAME, index, "1 to 69632 bytes");
    return (struct backend_frame){.data = (uint8_t *)(uintptr_t)bytes, .len = (uint32_t)len};
}

/* wire:send(frame) -> whether it was taken */
static int l_send(lua_State *L)
{
    struct backend *backend = usable(L);
    struct backend_frame f = check_frame(L, 2);

    lua_pushboolean(L, backend_send(backend, &f, 1) == 1);
    return 1;
}

static bool receive_one(lua_State *L, struct backend *backend)
{
    uint8_t room[BACKEND_MAX_FRAME];
    struct backend_frame f = {.data = room, .len = sizeof(room)};

    if (backend_receive(backend, &f, 1) == 0) {
        return false;
    }
    lua_pushlstring(L, (const char *)room, f.len);
    return true;
}

/* wire:recv([ms]) -> frame; an error when none comes */
static int l_recv(lua_State *L)
{
    struct backend *backend = usable(L);
    int timeout = sc_timeout(L, 2, DEFAULT_WAIT_MS);
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout * 1000;

    for (;;) {
        int64_t left = deadline - g_get_monotonic_time();
        if (receive_one(L, backend)) {
            return 1;
        }
        if (left <= 0) {
            return luaL_error(L, "no frame came out of the wire within %d ms", timeout);
        }
        if (backend->fd >= 0) {
            struct pollfd pfd = {.fd = backend->fd, .events = POLLIN};
            poll(&pfd, 1, (int)((left + 999) / 1000));
        } else {
            g_thread_yield();
        }
    }
}

/* wire:rx_burst([max]) -> { frame, ... }: what is there */
static int l_rx_burst(lua_State *L)
{
    struct backend *backend = usable(L);
    lua_Integer max = luaL_optinteger(L, 2, MAX_BURST);

    lua_newtable(L);
    for (lua_Integer i = 1; i <= max && receive_one(L, backend); i++) {
        lua_rawseti(L, -2, i);
    }
    return 1;
}

void sc_open_backend(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"send", l_send}, {"recv", l_recv}, {"rx_burst", l_rx_burst}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};
    static const luaL_Reg kinds[] = {
        {"null", l_null}, {"source", l_source},           {"cable", l_cable}, {"tap", l_tap},
        {"pcap", l_pcap}, {"pcap_writer", l_pcap_writer}, {NULL, NULL}};

    sc_type(L, LUA_BACKEND, methods, meta);
    luaL_newlib(L, kinds);
    lua_setglobal(L, "wire");
}
