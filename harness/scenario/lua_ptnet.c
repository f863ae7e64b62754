/*
 * ptnet(device, {...}): the guest's driver for a ptnet device, natively and as frames; and what
 * device handles of ptnet devices can do beyond those of others: step, statistics, memdev.
 */
#include "harness/scenario/lua_host.h"
#include "harness/session_ptnet.h"
#include "qtest_client/ptnet.h"

#include <string.h>

enum { MAX_BURST = 1024, DEFAULT_WAIT_MS = 2000 };

struct lua_ptnet {
    struct lua_machine *machine; /* kept alive by the device, uservalue 1 */
    struct sc_owned *driver;
};

/* What the test owns: a driver, until it is abandoned. */
struct guest {
    struct ptnet_driver *driver;
};

static struct ptnet_driver *check(lua_State *L)
{
    const struct lua_ptnet *p = sc_check(L, 1, LUA_PTNET);
    const struct guest *g = sc_owned_data(L, p->driver);

    return g->driver;
}

static int done(lua_State *L, bool ok, GError *error)
{
    return ok ? 0 : sc_raise(L, error);
}

static void free_guest(void *data)
{
    struct guest *g = data;

    if (g->driver) {
        ptnet_driver_free(g->driver);
    }
    g_free(g);
}

static void choose_interrupts(lua_State *L, struct session_machine *m,
                              struct ptnet_driver_options *o)
{
    const char *text = sc_field_string(L, 2, "interrupts");

    if (!text || strcmp(text, "none") == 0) {
        return;
    }
    o->has_interrupts = true;
    o->interrupt_kind = INTERRUPT_MEMORY;
    if (strcmp(text, "eventfd") == 0) {
        o->interrupt_kind = INTERRUPT_EVENTFD;
        o->bridge = session_machine_bridge(m);
        if (!o->bridge) {
            luaL_error(L, "machine '%s' has no interrupt bridge (machine { bridge = true })",
                       session_machine_name(m));
        }
    } else if (strcmp(text, "memory") != 0) {
        luaL_error(L, "interrupts are 'none', 'memory' or 'eventfd', not '%s'", text);
    }
}

/* ptnet(device, { memory= (of CSB and interrupts), interrupts="none"|"memory"|"eventfd",
 *   vnet_hdr=true, fence=false, start=true }) */
static int l_ptnet(lua_State *L)
{
    static const char *const known[] = {"memory", "interrupts", "vnet_hdr", "fence", "start", NULL};
    struct lua_device *dev = sc_check(L, 1, LUA_DEVICE);
    struct ptnet_driver_options o = {0};
    GError *error = NULL;

    if (lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_newtable(L);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    sc_check_fields(L, 2, known);
    struct pci_device *p = sc_pci(L, dev);
    struct session_machine *m = sc_running(L, dev->machine);
    choose_interrupts(L, m, &o);
    o.no_vnet_hdr = !sc_field_boolean(L, 2, "vnet_hdr", true);
    o.fence_before_kick = sc_field_boolean(L, 2, "fence", false);
    o.shared = session_machine_ram(m);
    struct lua_memory *memory = sc_field_object(L, 2, "memory", LUA_MEMORY);
    if (memory) {
        o.shared = sc_region(L, memory);
    }
    lua_pop(L, 1);
    o.memory = dev->spec ? session_ptnet_memory(sc_device(L, dev)) : NULL;
    bool starts = sc_field_boolean(L, 2, "start", true);
    struct lua_ptnet *handle = sc_new(L, LUA_PTNET, sizeof(*handle), 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    struct ptnet_driver *d = ptnet_driver_new(p, &o, &error);
    if (!d) {
        return sc_raise(L, error);
    }
    struct guest *g = g_new0(struct guest, 1);
    g->driver = d;
    handle->machine = dev->machine;
    handle->driver = sc_own(sc_of(L), m, "this driver", free_guest, g);
    if (starts && !ptnet_driver_start(d, &error)) {
        return sc_raise(L, error);
    }
    return 1;
}

static int l_gc(lua_State *L)
{
    struct lua_ptnet *p = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&p->driver));
    return 0;
}

/* ---- coming and going ---- */

static int l_start(lua_State *L)
{
    GError *error = NULL;
    bool ok = ptnet_driver_start(check(L), &error);

    return done(L, ok, error);
}

static int l_stop(lua_State *L)
{
    GError *error = NULL;
    bool ok = ptnet_driver_stop(check(L), &error);

    return done(L, ok, error);
}

static int l_abandon(lua_State *L)
{
    check(L);
    const struct lua_ptnet *p = lua_touserdata(L, 1);
    struct guest *g = sc_owned_data(L, p->driver);
    ptnet_driver_abandon(g_steal_pointer(&g->driver));
    sc_owned_end(sc_of(L), p->driver);
    return 0;
}

static int l_close(lua_State *L)
{
    check(L);
    sc_owned_end(sc_of(L), ((struct lua_ptnet *)lua_touserdata(L, 1))->driver);
    return 0;
}

/* ---- rings ---- */

static struct ptnet_queue *check_queue(lua_State *L, bool is_tx, int arg)
{
    struct ptnet_driver *d = check(L);
    lua_Integer i = luaL_optinteger(L, arg, 0);
    unsigned n = is_tx ? ptnet_driver_n_tx(d) : ptnet_driver_n_rx(d);

    if (i < 0 || i >= n) {
        luaL_error(L, "the device has %s rings 0 to %d, not %I", is_tx ? "tx" : "rx", (int)n - 1,
                   i);
    }
    return is_tx ? ptnet_driver_tx(d, (unsigned)i) : ptnet_driver_rx(d, (unsigned)i);
}

/* The queue named by "tx" or "rx" at `arg` and a number behind it. */
static struct ptnet_queue *named_queue(lua_State *L, int arg)
{
    static const char *const names[] = {"rx", "tx", NULL};

    return check_queue(L, luaL_checkoption(L, arg, NULL, names) == 1, arg + 1);
}

/* pt:ring("tx"|"rx"[, i]) -> the ring in the netmap memory */
static int l_ring(lua_State *L)
{
    struct ptnet_queue *q = named_queue(L, 2);
    struct lua_ring ring = {
        .owner = ((struct lua_ptnet *)lua_touserdata(L, 1))->driver,
        .ring = q->ring,
        .buf_base = q->buf_base,
        .num_slots = q->num_slots,
        .buf_size = q->buf_size,
        .buf_total = q->buf_total,
    };

    if (!q->ring) {
        return luaL_error(L, "the driver was not started");
    }
    sc_push_ring(L, 1, &ring);
    return 1;
}

/* pt:csb("tx"|"rx"[, i[, { field=value }]]) -> what both sides say, as a table */
static int l_csb(lua_State *L)
{
    struct ptnet_queue *q = named_queue(L, 2);
    const struct {
        const char *name;
        _Atomic uint32_t *word;
    } fields[] = {
        {"head", &q->atok->head},
        {"cur", &q->atok->cur},
        {"appl_need_kick", &q->atok->appl_need_kick},
        {"sync_flags", &q->atok->sync_flags},
        {"hwcur", &q->ktoa->hwcur},
        {"hwtail", &q->ktoa->hwtail},
        {"kern_need_kick", &q->ktoa->kern_need_kick},
    };
    static const char *const known[] = {"head",  "cur",    "appl_need_kick", "sync_flags",
                                        "hwcur", "hwtail", "kern_need_kick", NULL};

    if (lua_istable(L, 4)) {
        sc_check_fields(L, 4, known);
        for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
            lua_Integer value = sc_field_integer(L, 4, fields[i].name, -1, 0, UINT32_MAX);
            if (value >= 0) {
                atomic_store(fields[i].word, (uint32_t)value);
            }
        }
    }
    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, atomic_load(fields[i].word));
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

/* pt:txsync([i[, flags]]), pt:rxsync([i[, flags]]) */
static int l_txsync(lua_State *L)
{
    GError *error = NULL;
    bool ok = ptnet_txsync(check_queue(L, true, 2), (int)luaL_optinteger(L, 3, 0), &error);

    return done(L, ok, error);
}

static int l_rxsync(lua_State *L)
{
    GError *error = NULL;
    bool ok = ptnet_rxsync(check_queue(L, false, 2), (int)luaL_optinteger(L, 3, 0), &error);

    return done(L, ok, error);
}

/* pt:wait("tx"|"rx", i, slots[, ms]) */
static int l_wait(lua_State *L)
{
    struct ptnet_queue *q = named_queue(L, 2);
    lua_Integer n = luaL_optinteger(L, 4, 1);
    GError *error = NULL;

    luaL_argcheck(L, n >= 1 && n < q->num_slots, 4, "1 to one less than there are slots");
    bool ok = ptnet_wait(q, (unsigned)n, sc_timeout(L, 5, DEFAULT_WAIT_MS), &error);
    return done(L, ok, error);
}

/* ---- frames ---- */

/* The header in front of the bytes, if the ring has one and the script gives one. */
static struct ptnet_frame check_frame(lua_State *L, int index)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, index, &len);

    luaL_argcheck(L, len >= 1 && len <= PTNET_MAX_FRAME, index, "1 to 65550 bytes");
    return (struct ptnet_frame){.data = (uint8_t *)(uintptr_t)bytes, .len = (uint32_t)len};
}

static void header_field(lua_State *L, int table, const char *name, void *to, size_t width)
{
    uint16_t value =
        (uint16_t)sc_field_integer(L, table, name, 0, 0, width == 1 ? UINT8_MAX : UINT16_MAX);

    memcpy(to, &value, width); /* little endian */
}

/* { flags=, gso_type=, hdr_len=, gso_size=, csum_start=, csum_offset= } */
static void check_header(lua_State *L, int table, struct nm_vnet_hdr *h)
{
    static const char *const known[] = {"flags",      "gso_type",    "hdr_len", "gso_size",
                                        "csum_start", "csum_offset", NULL};

    if (lua_isnoneornil(L, table)) {
        return;
    }
    luaL_checktype(L, table, LUA_TTABLE);
    sc_check_fields(L, table, known);
    header_field(L, table, "flags", &h->flags, 1);
    header_field(L, table, "gso_type", &h->gso_type, 1);
    header_field(L, table, "hdr_len", &h->hdr_len, 2);
    header_field(L, table, "gso_size", &h->gso_size, 2);
    header_field(L, table, "csum_start", &h->csum_start, 2);
    header_field(L, table, "csum_offset", &h->csum_offset, 2);
}

/* pt:send(frame[, ms[, ring[, header]]]): waits for room in the ring */
static int l_send(lua_State *L)
{
    struct ptnet_queue *q = check_queue(L, true, 4);
    struct ptnet_frame f = check_frame(L, 2);
    int timeout = sc_timeout(L, 3, DEFAULT_WAIT_MS);
    GError *error = NULL;

    check_header(L, 5, &f.hdr);
    if (ptnet_tx_burst(q, &f, 1, &error) == 0) {
        unsigned needed = MIN(ptnet_frame_slots(q, f.len), q->num_slots - 1);
        if (error || !ptnet_wait(q, needed, timeout, &error) ||
            ptnet_tx_burst(q, &f, 1, &error) == 0) {
            return error ? sc_raise(L, error) : luaL_error(L, "the transmit ring stays full");
        }
    }
    return 0;
}

/* pt:tx_burst({ frame, ... }[, ring]) -> how many were taken */
static int l_tx_burst(lua_State *L)
{
    struct ptnet_queue *q = check_queue(L, true, 3);
    GError *error = NULL;

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Integer n = luaL_len(L, 2);
    luaL_argcheck(L, n <= MAX_BURST, 2, "at most 1024 frames");
    struct ptnet_frame *frames = lua_newuserdatauv(L, sizeof(*frames) * (size_t)MAX(n, 1), 0);
    luaL_checkstack(L, (int)n, "too many frames");
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, 2, i + 1); /* stays on the stack: the strings must live */
        frames[i] = check_frame(L, lua_gettop(L));
    }
    unsigned taken = n ? ptnet_tx_burst(q, frames, (unsigned)n, &error) : 0;
    if (error) {
        return sc_raise(L, error);
    }
    lua_pushinteger(L, taken);
    return 1;
}

/* Pushes a frame; false: none, or (raised) an error. */
static bool receive_one(lua_State *L, struct ptnet_queue *q, struct nm_vnet_hdr *header)
{
    uint8_t room[PTNET_MAX_FRAME];
    struct ptnet_frame f = {.data = room, .len = sizeof(room)};
    GError *error = NULL;

    if (ptnet_rx_burst(q, &f, 1, &error) == 0) {
        if (error) {
            sc_raise(L, error);
        }
        return false;
    }
    lua_pushlstring(L, (const char *)room, f.len);
    *header = f.hdr;
    return true;
}

static void push_header(lua_State *L, const struct nm_vnet_hdr *h)
{
    const struct {
        const char *name;
        unsigned value;
    } fields[] = {{"flags", h->flags},           {"gso_type", h->gso_type},
                  {"hdr_len", h->hdr_len},       {"gso_size", h->gso_size},
                  {"csum_start", h->csum_start}, {"csum_offset", h->csum_offset}};

    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
}

/* pt:recv([ms[, ring]]) -> frame, its header; an error when none comes */
static int l_recv(lua_State *L)
{
    struct ptnet_queue *q = check_queue(L, false, 3);
    int64_t deadline = g_get_monotonic_time() + (int64_t)sc_timeout(L, 2, DEFAULT_WAIT_MS) * 1000;
    struct nm_vnet_hdr header;
    GError *error = NULL;

    while (!receive_one(L, q, &header)) {
        int64_t left = MAX(deadline - g_get_monotonic_time(), 0);
        if (!ptnet_wait(q, 1, (int)((left + 999) / 1000), &error)) {
            sc_add_deaths(sc_of(L), &error);
            return sc_raise(L, error);
        }
    }
    push_header(L, &header);
    return 2;
}

/* pt:rx_burst([max[, ring]]) -> { frame, ... }: what is there */
static int l_rx_burst(lua_State *L)
{
    lua_Integer max = luaL_optinteger(L, 2, 64);
    struct ptnet_queue *q = check_queue(L, false, 3);
    struct nm_vnet_hdr header;

    luaL_argcheck(L, max >= 1, 2, "1 frame at least");
    lua_newtable(L);
    int list = lua_gettop(L);
    for (lua_Integer i = 1; i <= max && receive_one(L, q, &header); i++) {
        lua_rawseti(L, list, i);
    }
    return 1;
}

/* ---- what it knows ---- */

static int l_mac(lua_State *L)
{
    lua_pushlstring(L, (const char *)ptnet_driver_mac(check(L)), 6);
    return 1;
}

static int l_header(lua_State *L)
{
    lua_pushinteger(L, ptnet_driver_header_bytes(check(L)));
    return 1;
}

static int l_features(lua_State *L)
{
    lua_pushinteger(L, ptnet_driver_features(check(L)));
    return 1;
}

/* pt:rings() -> tx, rx */
static int l_rings(lua_State *L)
{
    const struct ptnet_driver *d = check(L);

    lua_pushinteger(L, ptnet_driver_n_tx(d));
    lua_pushinteger(L, ptnet_driver_n_rx(d));
    return 2;
}

/* pt:stats("tx"|"rx"[, i]) -> kicks, interrupts, syncs, frames, bytes, errors */
static int l_stats(lua_State *L)
{
    const struct ptnet_queue *q = named_queue(L, 2);
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"kicks", q->n_kicks},   {"interrupts", q->n_interrupts}, {"syncs", q->n_syncs},
        {"frames", q->n_frames}, {"bytes", q->n_bytes},           {"errors", q->n_errors},
        {"hwcur", q->hwcur},     {"hwtail", q->hwtail},
    };

    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

/* pt:irq("tx"|"rx"[, i]) */
static int l_irq(lua_State *L)
{
    struct ptnet_queue *q = named_queue(L, 2);
    struct lua_ptnet *p = lua_touserdata(L, 1);

    if (!q->irq) {
        return luaL_error(L, "the driver is in poll mode: it has no interrupts");
    }
    lua_getiuservalue(L, 1, 1);
    sc_push_interrupt(L, p->machine, -1, p->driver, q->irq);
    return 1;
}

/* ---- the device, from the host's side ---- */

static struct ptnet *check_model(lua_State *L)
{
    struct lua_device *dev = sc_check(L, 1, LUA_DEVICE);
    struct ptnet *pt = dev->spec ? session_device_ptnet(sc_device(L, dev)) : NULL;

    if (!pt) {
        luaL_error(L, "%s is no ptnet device", dev->spec ? dev->spec : "this function");
    }
    return pt;
}

int sc_ptnet_step(lua_State *L)
{
    struct ptnet *pt = check_model(L);
    lua_Integer ring = luaL_optinteger(L, 2, -1);

    luaL_argcheck(L, ring >= -1 && ring < PTNET_MAX_RINGS, 2, "rings are counted from 0, tx first");
    lua_pushboolean(L, ring < 0 ? ptnet_step(pt) : ptnet_step_ring(pt, (unsigned)ring));
    return 1;
}

static void push_list(lua_State *L, const uint64_t *values, const char *name)
{
    lua_newtable(L);
    for (lua_Integer i = 0; i < PTNET_MAX_RINGS; i++) {
        lua_pushinteger(L, (lua_Integer)values[i]);
        lua_rawseti(L, -2, i); /* from 0, as rings are */
    }
    lua_setfield(L, -2, name);
}

int sc_ptnet_stats(lua_State *L)
{
    struct ptnet_stats s = ptnet_stats(check_model(L));
    struct kloop_stats k = ptnet_kloop_stats(check_model(L));
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"creates", s.creates},
        {"deletes", s.deletes},
        {"create_failures", s.create_failures},
        {"csb_failures", s.csb_failures},
        {"passes", k.passes},
        {"kicks_seen", k.kicks_seen},
        {"sleeps", k.sleeps},
        {"timeouts", k.timeouts},
        {"tx_syncs", k.tx_syncs},
        {"rx_syncs", k.rx_syncs},
        {"bad_rings", k.bad_rings},
        {"sync_errors", k.sync_errors},
    };

    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    push_list(L, s.kicks, "kicks");
    push_list(L, s.interrupts, "interrupts");
    return 1;
}

void sc_open_ptnet(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"start", l_start},       {"stop", l_stop},     {"abandon", l_abandon},
        {"close", l_close},       {"ring", l_ring},     {"csb", l_csb},
        {"txsync", l_txsync},     {"rxsync", l_rxsync}, {"wait", l_wait},
        {"send", l_send},         {"recv", l_recv},     {"tx_burst", l_tx_burst},
        {"rx_burst", l_rx_burst}, {"mac", l_mac},       {"header", l_header},
        {"features", l_features}, {"rings", l_rings},   {"stats", l_stats},
        {"irq", l_irq},           {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};

    sc_type(L, LUA_PTNET, methods, meta);
    lua_pushcfunction(L, l_ptnet);
    lua_setglobal(L, "ptnet");
}
