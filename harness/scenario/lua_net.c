/*
 * virtio_net(device, {...}): the virtio network driver. Frames are strings.
 */
#include "harness/scenario/lua_scenario.h"
#include "qtest_client/virtio_net.h"

#include <string.h>

enum { MAX_BURST = 1024, DEFAULT_WAIT_MS = 2000 };

struct lua_net {
    struct lua_machine *machine; /* kept alive by the device, uservalue 1 */
    struct sc_owned *net;
};

static struct virtio_net *check(lua_State *L)
{
    struct lua_net *n = sc_check(L, 1, LUA_NET);

    return sc_owned_data(L, n->net);
}

static void free_net(void *data)
{
    virtio_net_free(data);
}

/* virtio_net(device, { transport="modern"|"legacy", wanted=bits, refused=bits, rx_size=, tx_size=,
 *   buffer=bytes, indirect=entries, memory=, interrupts="none"|"memory"|"eventfd"|"line" }) */
static int l_virtio_net(lua_State *L)
{
    static const char *const known[] = {"transport", "wanted",   "refused", "rx_size",    "tx_size",
                                        "buffer",    "indirect", "memory",  "interrupts", NULL};
    static const char *const forms[] = {"memory", "eventfd", "line"};
    struct lua_device *dev = sc_check(L, 1, LUA_DEVICE);
    struct virtio_net_options o = {.transport = VIRTIO_TRANSPORT_MODERN};
    GError *error = NULL;

    if (lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_newtable(L);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    sc_check_fields(L, 2, known);
    struct pci_device *p = sc_pci(L, dev);
    struct session_machine *m = sc_running(L, dev->machine);
    const char *transport = sc_field_string(L, 2, "transport");
    if (transport && strcmp(transport, "legacy") == 0) {
        o.transport = VIRTIO_TRANSPORT_LEGACY;
    } else if (transport && strcmp(transport, "modern") != 0) {
        return luaL_error(L, "a transport is 'modern' or 'legacy', not '%s'", transport);
    }
    o.wanted_features =
        (uint64_t)sc_field_integer(L, 2, "wanted", 0, LUA_MININTEGER, LUA_MAXINTEGER);
    o.refused_features =
        (uint64_t)sc_field_integer(L, 2, "refused", 0, LUA_MININTEGER, LUA_MAXINTEGER);
    o.rx_size = (uint16_t)sc_field_integer(L, 2, "rx_size", 0, 1, 32768);
    o.tx_size = (uint16_t)sc_field_integer(L, 2, "tx_size", 0, 1, 32768);
    o.buffer_bytes = (unsigned)sc_field_integer(L, 2, "buffer", 0, 64, 1 << 20);
    o.indirect_entries = (uint16_t)sc_field_integer(L, 2, "indirect", 0, 1, 1024);
    o.region = session_machine_ram(m);
    struct lua_memory *memory = sc_field_object(L, 2, "memory", LUA_MEMORY);
    if (memory) {
        o.region = sc_region(L, memory);
    }
    lua_pop(L, 1);
    const char *interrupts = sc_field_string(L, 2, "interrupts");
    for (int i = 0; interrupts && i < 3; i++) {
        if (strcmp(interrupts, forms[i]) == 0) {
            o.use_interrupts = true;
            o.interrupts = (enum interrupt_kind)i;
        }
    }
    if (interrupts && !o.use_interrupts && strcmp(interrupts, "none") != 0) {
        return luaL_error(L, "interrupts are 'none', 'memory', 'eventfd' or 'line', not '%s'",
                          interrupts);
    }
    o.bridge = session_machine_bridge(m);
    if (o.use_interrupts && o.interrupts == INTERRUPT_EVENTFD && !o.bridge) {
        return luaL_error(L, "machine '%s' has no interrupt bridge (machine { bridge = true })",
                          session_machine_name(m));
    }
    struct lua_net *n = sc_new(L, LUA_NET, sizeof(*n), 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    struct virtio_net *net = virtio_net_new(p, &o, &error);
    if (!net) {
        return sc_raise(L, error);
    }
    n->machine = dev->machine;
    n->net = sc_own(sc_of(L), m, "this driver", free_net, net);
    return 1;
}

static struct virtio_net_frame check_frame(lua_State *L, int index)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, index, &len);
    struct virtio_net_frame f = {(uint8_t *)(uintptr_t)bytes, (uint32_t)len, 0};

    if (len == 0 || len > 65535) {
        luaL_error(L, "a frame has 1 to 65535 bytes, not %d", (int)len);
    }
    return f;
}

/* The first thing everybody tries is one network card alone. */
static int raise_untaken(lua_State *L, GError *error)
{
    if (g_error_matches(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT)) {
        char *text = g_strdup_printf("%s; a frame stays in the ring until somebody on the same "
                                     "network can take it: is there a second, receiving device?",
                                     error->message);
        g_free(error->message);
        error->message = text;
    }
    return sc_raise(L, error);
}

/* net:send(frame[, timeout]): waits for room in the ring, and until the device has taken it */
static int l_send(lua_State *L)
{
    struct virtio_net *net = check(L);
    struct virtio_net_frame f = check_frame(L, 2);
    int timeout = sc_timeout(L, 3, DEFAULT_WAIT_MS);
    GError *error = NULL;

    if (virtio_net_tx_burst(net, 0, &f, 1, &error) == 0) {
        if (error || !virtio_net_tx_drain(net, 0, timeout, &error) ||
            virtio_net_tx_burst(net, 0, &f, 1, &error) == 0) {
            return error ? raise_untaken(L, error) : luaL_error(L, "the transmit ring stays full");
        }
    }
    if (!virtio_net_tx_drain(net, 0, timeout, &error)) {
        return raise_untaken(L, error);
    }
    return 0;
}

/* net:tx_burst{ frame, ... } -> how many were taken */
static int l_tx_burst(lua_State *L)
{
    struct virtio_net *net = check(L);
    GError *error = NULL;

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Integer n = luaL_len(L, 2);
    luaL_argcheck(L, n <= MAX_BURST, 2, "at most 1024 frames");
    struct virtio_net_frame *frames = lua_newuserdatauv(L, sizeof(*frames) * (size_t)MAX(n, 1), 0);
    luaL_checkstack(L, (int)n, "too many frames");
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, 2, i + 1); /* stays on the stack: the strings must live */
        frames[i] = check_frame(L, lua_gettop(L));
    }
    unsigned taken = n ? virtio_net_tx_burst(net, 0, frames, (unsigned)n, &error) : 0;
    if (error) {
        return sc_raise(L, error);
    }
    lua_pushinteger(L, taken);
    return 1;
}

/* net:rx_burst([max]) -> { frame, ... } */
static int l_rx_burst(lua_State *L)
{
    struct virtio_net *net = check(L);
    lua_Integer max = luaL_optinteger(L, 2, 64);
    struct virtio_net_frame frames[MAX_BURST];
    GError *error = NULL;

    luaL_argcheck(L, max >= 1 && max <= MAX_BURST, 2, "1 to 1024 frames");
    lua_newtable(L);
    unsigned n = virtio_net_rx_burst(net, 0, frames, (unsigned)max, &error);
    if (error) {
        return sc_raise(L, error);
    }
    for (unsigned i = 0; i < n; i++) {
        lua_pushlstring(L, (const char *)frames[i].data, frames[i].len);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
        virtio_net_rx_release(net, 0, &frames[i]);
    }
    return 1;
}

/* net:recv([timeout]) -> frame; an error when none comes */
static int l_recv(lua_State *L)
{
    struct virtio_net *net = check(L);
    struct virtio_net_frame f;
    GError *error = NULL;

    if (!virtio_net_rx_wait(net, 0, sc_timeout(L, 2, DEFAULT_WAIT_MS), &error)) {
        return sc_raise(L, error);
    }
    if (virtio_net_rx_burst(net, 0, &f, 1, &error) == 0) {
        return error ? sc_raise(L, error)
                     : luaL_error(L, "the device signalled a frame but delivered none");
    }
    lua_pushlstring(L, (const char *)f.data, f.len);
    virtio_net_rx_release(net, 0, &f);
    return 1;
}

static int l_drain(lua_State *L)
{
    struct virtio_net *net = check(L);
    GError *error = NULL;

    if (!virtio_net_tx_drain(net, 0, sc_timeout(L, 2, DEFAULT_WAIT_MS), &error)) {
        return raise_untaken(L, error);
    }
    return 0;
}

static int l_pending(lua_State *L)
{
    lua_pushinteger(L, virtio_net_tx_pending(check(L), 0));
    return 1;
}

static int l_mac(lua_State *L)
{
    const uint8_t *mac = virtio_net_mac(check(L));

    lua_pushlstring(L, (const char *)mac, 6);
    return 1;
}

static int l_features(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)virtio_net_features(check(L)));
    return 1;
}

static int l_link_up(lua_State *L)
{
    bool up;
    GError *error = NULL;

    if (!virtio_net_link_up(check(L), &up, &error)) {
        return sc_raise(L, error);
    }
    lua_pushboolean(L, up);
    return 1;
}

static int l_stats(lua_State *L)
{
    struct virtio_net_stats s = virtio_net_stats(check(L));
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"tx_frames", s.tx_frames}, {"tx_bytes", s.tx_bytes},   {"tx_kicks", s.tx_kicks},
        {"tx_full", s.tx_full},     {"rx_frames", s.rx_frames}, {"rx_bytes", s.rx_bytes},
        {"rx_kicks", s.rx_kicks},   {"rx_errors", s.rx_errors}, {"interrupts", s.interrupts},
    };

    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

/* net:queue("rx"|"tx") -> { size=, desc=, avail=, used= (guest addresses), avail_idx=, used_idx=,
 *                           in_flight=, free=, last_used= } */
static int l_queue(lua_State *L)
{
    struct virtio_net *net = check(L);
    const char *which = luaL_checkstring(L, 2);
    bool is_tx = strcmp(which, "tx") == 0;

    if (!is_tx && strcmp(which, "rx") != 0) {
        return luaL_error(L, "a queue is 'rx' or 'tx', not '%s'", which);
    }
    struct virtqueue *vq = is_tx ? virtio_net_tx_queue(net, 0) : virtio_net_rx_queue(net, 0);
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"size", vq->size},
        {"desc", vq->desc_gpa},
        {"avail", vq->avail_gpa},
        {"used", vq->used_gpa},
        {"avail_idx", atomic_load(&vq->avail->idx)},
        {"used_idx", atomic_load(&vq->used->idx)},
        {"last_used", vq->last_used_idx},
        {"in_flight", vq->n_in_flight},
        {"free", vq->n_free},
    };
    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

static int l_irq(lua_State *L)
{
    struct virtio_net *net = check(L);
    const char *which = luaL_checkstring(L, 2);
    struct interrupt *irq = strcmp(which, "rx") == 0       ? virtio_net_rx_interrupt(net, 0)
                            : strcmp(which, "tx") == 0     ? virtio_net_tx_interrupt(net, 0)
                            : strcmp(which, "config") == 0 ? virtio_net_config_interrupt(net)
                                                           : NULL;

    if (!irq) {
        return luaL_error(L, "there is no '%s' interrupt (rx, tx, config; none in poll mode)",
                          which);
    }
    struct lua_net *n = lua_touserdata(L, 1);
    lua_getiuservalue(L, 1, 1); /* the device, which keeps its machine alive */
    sc_push_interrupt(L, n->machine, -1, n->net, irq);
    return 1;
}

static int l_close(lua_State *L)
{
    check(L);
    sc_owned_end(sc_of(L), ((struct lua_net *)lua_touserdata(L, 1))->net);
    return 0;
}

static int l_gc(lua_State *L)
{
    struct lua_net *n = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&n->net));
    return 0;
}

void sc_open_net(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"send", l_send},         {"tx_burst", l_tx_burst},
        {"rx_burst", l_rx_burst}, {"recv", l_recv},
        {"drain", l_drain},       {"pending", l_pending},
        {"mac", l_mac},           {"features", l_features},
        {"link_up", l_link_up},   {"stats", l_stats},
        {"queue", l_queue},       {"irq", l_irq},
        {"close", l_close},       {NULL, NULL},
    };

    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};

    sc_type(L, LUA_NET, methods, meta);
    lua_pushcfunction(L, l_virtio_net);
    lua_setglobal(L, "virtio_net");
}
