/*
 * Device handles: what machine:device() returns. A field that is no method is a register block.
 */
#include "harness/scenario/lua_host.h"
#include "harness/session_ptnet.h"

#include <inttypes.h>
#include <string.h>

static struct lua_device *check(lua_State *L)
{
    return sc_check(L, 1, LUA_DEVICE);
}

static struct pci_device *pci(lua_State *L)
{
    return sc_pci(L, check(L));
}

static int done(lua_State *L, bool ok, GError *error)
{
    return ok ? 0 : sc_raise(L, error);
}

/* ---- making ---- */

/* uservalues: 1 its machine, 2 memory, 3 server, 4 netmap host */
static struct lua_device *push_handle(lua_State *L, struct lua_machine *m, int machine_index)
{
    machine_index = lua_absindex(L, machine_index);
    struct lua_device *dev = sc_new(L, LUA_DEVICE, sizeof(*dev), 4);

    dev->sc = m->sc;
    dev->made_in = m->sc->generation;
    dev->machine = m;
    lua_pushvalue(L, machine_index);
    lua_setiuservalue(L, -2, 1);
    return dev;
}

static struct session_backing backing_of(lua_State *L, struct lua_device *dev)
{
    struct session_backing b = {NULL, NULL};

    if (dev->memory) {
        b.region = sc_region(L, dev->memory);
    }
    if (dev->server) {
        b.server = sc_server(L, dev->server);
    }
    return b;
}

/* What stands behind it: { memory=, server= }, and of ptnet devices { netmap=, port=, stepped=,
 * passthrough= } */
static void take_options(lua_State *L, struct lua_device *dev, int handle, int table)
{
    static const char *const known[] = {"memory", "server", NULL};
    static const char *const known_ptnet[] = {"netmap", "port", "stepped", "passthrough", NULL};
    bool is_ptnet = session_ptnet_is(dev->spec);

    sc_check_fields(L, table, is_ptnet ? known_ptnet : known);
    dev->memory = sc_field_object(L, table, "memory", LUA_MEMORY);
    lua_setiuservalue(L, handle, 2);
    dev->server = sc_field_object(L, table, "server", LUA_SERVER);
    lua_setiuservalue(L, handle, 3);
    dev->ptnet.host = sc_field_object(L, table, "netmap", LUA_NETMAP);
    lua_setiuservalue(L, handle, 4);
    if (is_ptnet) {
        dev->ptnet.port = g_strdup(sc_field_string(L, table, "port"));
        dev->ptnet.is_stepped = sc_field_boolean(L, table, "stepped", false);
        dev->ptnet.no_passthrough = !sc_field_boolean(L, table, "passthrough", true);
    }
}

static struct session_device *make_device(lua_State *L, struct lua_device *dev,
                                          struct session_machine *m, bool plug, GError **error)
{
    if (session_ptnet_is(dev->spec)) {
        struct session_ptnet_options o = {
            .host = dev->ptnet.host ? sc_netmap(L, dev->ptnet.host) : NULL,
            .ptnet = {.port = dev->ptnet.port,
                      .is_stepped = dev->ptnet.is_stepped,
                      .no_passthrough = dev->ptnet.no_passthrough},
        };
        return session_ptnet_new(m, dev->spec, &o, error);
    }
    struct session_backing b = backing_of(L, dev);
    return plug ? session_device_plug(m, dev->spec, &b, error)
                : session_device_new(m, dev->spec, &b, error);
}

void sc_push_device(lua_State *L, struct lua_machine *m, int machine_index, const char *spec,
                    int options_index, bool plug)
{
    machine_index = lua_absindex(L, machine_index);
    struct lua_device *dev = push_handle(L, m, machine_index);
    int handle = lua_gettop(L);
    dev->spec = g_strdup(spec);
    if (options_index && lua_istable(L, options_index)) {
        take_options(L, dev, handle, options_index);
    }
    if (plug) {
        GError *error = NULL;
        dev->generation = m->sc->generation;
        dev->device = make_device(L, dev, sc_running(L, m), true, &error);
        if (!dev->device) {
            sc_raise(L, error);
        }
        return;
    }
    lua_getiuservalue(L, machine_index, 1); /* the machine keeps it alive */
    lua_pushvalue(L, handle);
    lua_rawseti(L, -2, (lua_Integer)m->devices->len + 1);
    lua_settop(L, handle);
    g_ptr_array_add(m->devices, dev);
    if (!m->sc->in_test) {
        m->n_devices_loaded = m->devices->len;
    }
}

void sc_push_function(lua_State *L, struct lua_machine *m, int machine_index,
                      struct pci_device *function)
{
    struct lua_device *dev = push_handle(L, m, machine_index);

    dev->pci = function;
    dev->stamp = sc_stamp(m);
}

static int l_gc(lua_State *L)
{
    struct lua_device *dev = check(L);

    g_free(g_steal_pointer(&dev->spec));
    g_free(g_steal_pointer(&dev->ptnet.port));
    return 0;
}

struct session_device *sc_device(lua_State *L, struct lua_device *dev)
{
    struct scenario *sc = dev->sc;

    if (!dev->spec) {
        luaL_error(L, "this function was not declared with machine:device()");
    }
    sc_need_test(L, dev->spec);
    sc_need_made_in(L, dev->made_in, dev->spec);
    if (dev->generation != sc->generation) {
        struct session_machine *m = sc_machine(L, dev->machine);
        GError *error = NULL;
        dev->device = make_device(L, dev, m, false, &error);
        if (!dev->device) {
            sc_raise(L, error);
        }
        dev->generation = sc->generation;
    }
    return dev->device;
}

struct pci_device *sc_pci(lua_State *L, struct lua_device *dev)
{
    GError *error = NULL;

    if (!dev->spec) {
        sc_need_stamp(L, &dev->stamp, "this PCI function");
        return dev->pci;
    }
    sc_need_test(L, dev->spec);
    sc_need_made_in(L, dev->made_in, dev->spec);
    sc_running(L, dev->machine);
    struct pci_device *p = session_device_pci(sc_device(L, dev), &error);
    if (!p) {
        sc_raise(L, error);
    }
    return p;
}

/* ---- methods ---- */

static int l_enable(lua_State *L)
{
    struct lua_device *dev = check(L);
    struct pci_device *p = sc_pci(L, dev);
    GError *error = NULL;
    bool ok =
        dev->spec ? session_device_enable(sc_device(L, dev), &error) : pci_device_enable(p, &error);

    return done(L, ok, error);
}

static int l_unplug(lua_State *L)
{
    struct lua_device *dev = check(L);
    GError *error = NULL;

    pci(L);
    bool ok = session_device_unplug(sc_device(L, dev), &error);
    return done(L, ok, error);
}

static int l_replug(lua_State *L)
{
    struct lua_device *dev = check(L);
    GError *error = NULL;
    bool ok = session_device_replug(sc_device(L, dev), &error);

    return done(L, ok, error);
}

/* dev:present(): whether a configuration cycle finds it */
static int l_present(lua_State *L)
{
    struct lua_device *dev = check(L);
    uint64_t vendor = 0xffff;
    GError *error = NULL;
    struct pci_device *p;

    if (dev->spec) {
        sc_running(L, dev->machine);
        p = session_device_pci(sc_device(L, dev), &error);
        if (g_error_matches(error, SESSION_ERROR, SESSION_ERROR_DEVICE)) {
            g_clear_error(&error);
        }
    } else {
        p = sc_pci(L, dev);
    }
    if (error || (p && !pci_config_read(p, 0, 2, &vendor, &error))) {
        return sc_raise(L, error);
    }
    lua_pushboolean(L, vendor != 0xffff);
    return 1;
}

/* dev:bar(n) -> { kind=, size=, base=, prefetchable= } or nil */
static int l_bar(lua_State *L)
{
    static const char *const kinds[] = {"none", "io", "mem32", "mem64"};
    struct pci_device *p = pci(L);
    lua_Integer n = luaL_checkinteger(L, 2);

    luaL_argcheck(L, n >= 0 && n < PCI_N_BARS, 2, "BARs are 0 to 5");
    const struct pci_bar *b = &p->bars[n];
    if (b->size == 0) {
        lua_pushnil(L);
        return 1;
    }
    lua_newtable(L);
    lua_pushstring(L, kinds[b->kind]);
    lua_setfield(L, -2, "kind");
    lua_pushinteger(L, (lua_Integer)b->size);
    lua_setfield(L, -2, "size");
    lua_pushinteger(L, (lua_Integer)b->base);
    lua_setfield(L, -2, "base");
    lua_pushboolean(L, b->prefetchable);
    lua_setfield(L, -2, "prefetchable");
    return 1;
}

static unsigned check_bar(lua_State *L, int arg)
{
    lua_Integer n = luaL_checkinteger(L, arg);

    luaL_argcheck(L, n >= 0 && n < PCI_N_BARS, arg, "BARs are 0 to 5");
    return (unsigned)n;
}

static int l_place_bar(lua_State *L)
{
    struct lua_device *dev = check(L);
    struct pci_device *p = sc_pci(L, dev);
    unsigned bar = check_bar(L, 2);
    uint64_t base = (uint64_t)luaL_checkinteger(L, 3);
    GError *error = NULL;
    struct guest_region *region = dev->spec ? session_device_region(dev->device) : NULL;

    if (!pci_bar_place(p, bar, base, &error)) {
        return sc_raise(L, error);
    }
    if (region && bar == 2 &&
        !guest_memory_place(session_machine_memory(sc_running(L, dev->machine)), region, base,
                            &error)) {
        return sc_raise(L, error);
    }
    return 0;
}

static unsigned check_width(lua_State *L, int arg)
{
    lua_Integer w = luaL_checkinteger(L, arg);

    luaL_argcheck(L, w == 1 || w == 2 || w == 4 || w == 8, arg, "widths are 1, 2, 4 or 8");
    return (unsigned)w;
}

/* dev:bar_read(bar, offset, width), dev:bar_write(bar, offset, width, value) */
static int l_bar_read(lua_State *L)
{
    struct pci_device *p = pci(L);
    uint64_t value;
    GError *error = NULL;

    if (!pci_bar_read(p, check_bar(L, 2), (uint64_t)luaL_checkinteger(L, 3), check_width(L, 4),
                      &value, &error)) {
        return sc_raise(L, error);
    }
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

static int l_bar_write(lua_State *L)
{
    struct pci_device *p = pci(L);
    GError *error = NULL;
    bool ok = pci_bar_write(p, check_bar(L, 2), (uint64_t)luaL_checkinteger(L, 3),
                            check_width(L, 4), (uint64_t)luaL_checkinteger(L, 5), &error);

    return done(L, ok, error);
}

/* dev:config_read(offset, width), dev:config_write(offset, width, value) */
static int l_config_read(lua_State *L)
{
    struct pci_device *p = pci(L);
    uint64_t value;
    GError *error = NULL;
    lua_Integer offset = luaL_checkinteger(L, 2);

    luaL_argcheck(L, offset >= 0 && offset < 4096, 2, "offsets are 0 to 4095");
    if (!pci_config_read(p, (unsigned)offset, check_width(L, 3), &value, &error)) {
        return sc_raise(L, error);
    }
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

static int l_config_write(lua_State *L)
{
    struct pci_device *p = pci(L);
    GError *error = NULL;
    lua_Integer offset = luaL_checkinteger(L, 2);

    luaL_argcheck(L, offset >= 0 && offset < 4096, 2, "offsets are 0 to 4095");
    bool ok = pci_config_write(p, (unsigned)offset, check_width(L, 3),
                               (uint64_t)luaL_checkinteger(L, 4), &error);
    return done(L, ok, error);
}

/* dev:config_bytes() -> the 256 bytes of configuration space */
static int l_config_bytes(lua_State *L)
{
    uint8_t bytes[256];
    GError *error = NULL;

    if (!pci_config_read_bytes(pci(L), 0, sizeof(bytes), bytes, &error)) {
        return sc_raise(L, error);
    }
    lua_pushlstring(L, (const char *)bytes, sizeof(bytes));
    return 1;
}

/* dev:capability(id[, n]) -> its offset in configuration space, or nil */
static int l_capability(lua_State *L)
{
    struct pci_device *p = pci(L);
    lua_Integer id = luaL_checkinteger(L, 2), n = luaL_optinteger(L, 3, 0);

    luaL_argcheck(L, id >= 0 && id < 256, 2, "capability ids are 0 to 255");
    const struct pci_capability *cap = pci_find_capability(p, (uint8_t)id, (unsigned)n);
    if (cap) {
        lua_pushinteger(L, cap->offset);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int l_blocks(lua_State *L)
{
    struct pci_device *p = pci(L);

    lua_newtable(L);
    for (guint i = 0; i < p->blocks->len; i++) {
        lua_pushstring(L, ((struct pci_block *)p->blocks->pdata[i])->name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int l_address(lua_State *L)
{
    struct pci_device *p = pci(L);

    lua_pushinteger(L, p->bus);
    lua_pushinteger(L, p->slot);
    lua_pushinteger(L, p->function);
    return 3;
}

static int l_id(lua_State *L)
{
    struct pci_device *p = pci(L);

    lua_pushinteger(L, p->vendor_id);
    lua_pushinteger(L, p->device_id);
    return 2;
}

/* dev:describe() -> "00:04.0 virtio-net-pci" */
static int l_describe(lua_State *L)
{
    char *text = pci_device_describe(pci(L));

    lua_pushstring(L, text);
    g_free(text);
    return 1;
}

/* ---- MSI-X ---- */

static int l_msix_enable(lua_State *L)
{
    struct pci_device *p = pci(L);
    GError *error = NULL;
    bool ok = msix_set_enabled(p, lua_isnone(L, 2) || lua_toboolean(L, 2), &error);

    return done(L, ok, error);
}

static int l_msix_mask_all(lua_State *L)
{
    struct pci_device *p = pci(L);
    GError *error = NULL;
    bool ok = msix_set_function_mask(p, lua_toboolean(L, 2), &error);

    return done(L, ok, error);
}

static unsigned check_vector(lua_State *L, struct pci_device *p)
{
    lua_Integer v = luaL_checkinteger(L, 2);

    if (v < 0 || v >= p->msix_n) {
        luaL_error(L, "the device has MSI-X vectors 0 to %d, not %I", (int)p->msix_n - 1, v);
    }
    return (unsigned)v;
}

/* dev:msix_message(vector, address, data) */
static int l_msix_message(lua_State *L)
{
    struct pci_device *p = pci(L);
    GError *error = NULL;
    lua_Integer data = luaL_checkinteger(L, 4);

    luaL_argcheck(L, data >= 0 && data <= UINT32_MAX, 4, "data has 32 bits");
    bool ok = msix_set_message(p, check_vector(L, p), (uint64_t)luaL_checkinteger(L, 3),
                               (uint32_t)data, &error);

    return done(L, ok, error);
}

static int l_msix_mask(lua_State *L)
{
    struct pci_device *p = pci(L);
    GError *error = NULL;
    bool ok = msix_set_masked(p, check_vector(L, p), lua_toboolean(L, 3), &error);

    return done(L, ok, error);
}

static int l_msix_pending(lua_State *L)
{
    struct pci_device *p = pci(L);
    bool pending;
    GError *error = NULL;

    if (!msix_pending(p, check_vector(L, p), &pending, &error)) {
        return sc_raise(L, error);
    }
    lua_pushboolean(L, pending);
    return 1;
}

static int l_msix_vectors(lua_State *L)
{
    lua_pushinteger(L, pci(L)->msix_n);
    return 1;
}

/* ---- backing ---- */

/* dev:memory() -> the shared memory behind its BAR 2 */
static int l_memory(lua_State *L)
{
    struct lua_device *dev = check(L);

    pci(L);
    if (dev->memory) {
        lua_getiuservalue(L, 1, 2);
        return 1;
    }
    struct guest_region *region = session_ptnet_is(dev->spec)
                                      ? session_ptnet_memory(sc_device(L, dev))
                                      : session_device_region(sc_device(L, dev));
    if (!region) {
        return luaL_error(L, "%s has no shared memory", dev->spec);
    }
    struct lua_memory *memory = sc_new(L, LUA_MEMORY, sizeof(*memory), 1);
    memory->sc = dev->sc;
    memory->made_in = dev->sc->generation;
    memory->generation = dev->sc->generation;
    memory->region = region;
    return 1;
}

/* A handle for what came with a ptnet device; nil if nothing did. */
static int push_companion(lua_State *L, struct session_device *companion)
{
    const struct lua_device *dev = check(L);

    if (!companion) {
        lua_pushnil(L);
        return 1;
    }
    lua_getiuservalue(L, 1, 1);
    struct lua_device *other = push_handle(L, dev->machine, -1);
    other->generation = other->made_in = dev->sc->generation;
    other->spec = g_strdup(session_device_driver(companion));
    other->device = companion;
    return 1;
}

/* dev:memdev() and dev:ivshmem(): the devices that show a ptnet's memory */
static int l_memdev(lua_State *L)
{
    pci(L);
    return push_companion(L, session_ptnet_memdev(sc_device(L, check(L))));
}

static int l_ivshmem(lua_State *L)
{
    pci(L);
    return push_companion(L, session_ptnet_ivshmem(sc_device(L, check(L))));
}

/* dev:peer() -> its id at the ivshmem server */
static int l_peer(lua_State *L)
{
    struct lua_device *dev = check(L);

    pci(L);
    lua_pushinteger(L, session_device_peer(sc_device(L, dev)));
    return 1;
}

/* Names the method or block meant by a name that is neither. */
static void suggest_name(lua_State *L, struct pci_device *p, const char *name, GError *error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    luaL_getmetafield(L, 1, "methods");
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        g_ptr_array_add(names, (char *)(uintptr_t)lua_tostring(L, -1));
    }
    for (guint i = 0; i < p->blocks->len; i++) {
        g_ptr_array_add(names, ((struct pci_block *)p->blocks->pdata[i])->name);
    }
    const char *near = pci_nearest_name(name, (const char *const *)names->pdata, names->len);
    if (near) {
        g_autofree char *device = pci_device_describe(p);
        g_free(error->message);
        error->message = g_strdup_printf("%s has no method and no register block '%s'; did you "
                                         "mean '%s'?",
                                         device, name, near);
    }
    lua_settop(L, 2);
}

static int l_index(lua_State *L)
{
    struct lua_device *dev = check(L);
    const char *name = luaL_checkstring(L, 2);
    GError *error = NULL;

    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL) {
        return 1;
    }
    struct pci_device *p = sc_pci(L, dev);
    struct pci_block *block = pci_find_block(p, name, &error);
    if (!block) {
        suggest_name(L, p, name, error);
        return sc_raise(L, error);
    }
    sc_push_block(L, dev, 1, block);
    return 1;
}

/* dev:machine() -> the machine it is in */
static int l_machine(lua_State *L)
{
    check(L);
    lua_getiuservalue(L, 1, 1);
    return 1;
}

static int l_tostring(lua_State *L)
{
    struct lua_device *dev = check(L);

    lua_pushfstring(L, "%s on %s", dev->spec ? dev->spec : "PCI function", dev->machine->name);
    return 1;
}

void sc_open_device(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"enable", l_enable},
        {"unplug", l_unplug},
        {"replug", l_replug},
        {"present", l_present},
        {"bar", l_bar},
        {"place_bar", l_place_bar},
        {"bar_read", l_bar_read},
        {"bar_write", l_bar_write},
        {"config_read", l_config_read},
        {"config_write", l_config_write},
        {"config_bytes", l_config_bytes},
        {"capability", l_capability},
        {"blocks", l_blocks},
        {"address", l_address},
        {"id", l_id},
        {"describe", l_describe},
        {"msix_enable", l_msix_enable},
        {"msix_mask_all", l_msix_mask_all},
        {"msix_message", l_msix_message},
        {"msix_mask", l_msix_mask},
        {"msix_pending", l_msix_pending},
        {"msix_vectors", l_msix_vectors},
        {"memory", l_memory},
        {"peer", l_peer},
        {"machine", l_machine},
        {"memdev", l_memdev},
        {"ivshmem", l_ivshmem},
        {"step", sc_ptnet_step},
        {"stats", sc_ptnet_stats},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {
        {"__index", l_index}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};

    sc_type(L, LUA_DEVICE, methods, meta);
}
