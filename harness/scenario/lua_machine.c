/*
 * machine{...} and its methods.
 */
#include "harness/scenario/lua_host.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

static struct lua_machine *check(lua_State *L)
{
    return sc_check(L, 1, LUA_MACHINE);
}

static enum guest_hugepages hugepages_option(lua_State *L, int table)
{
    static const char *const names[] = {"off", "prefer", "require"};
    const char *text = sc_field_string(L, table, "hugepages");

    for (int i = 0; text && i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum guest_hugepages)i;
        }
    }
    if (text) {
        luaL_error(L, "hugepages are 'require', 'prefer' or 'off', not '%s'", text);
    }
    return GUEST_HUGEPAGES_OFF;
}

/* machine{ name=, board="pc"|"q35", accel=, ram="16M", hugepages=, setup=true, bridge=false,
 *          timeout=ms, args={...} } */
static int l_machine(lua_State *L)
{
    static const char *const known[] = {"name",  "board",  "accel",   "ram",  "hugepages",
                                        "setup", "bridge", "timeout", "args", NULL};
    struct scenario *sc = sc_of(L);

    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    sc_check_fields(L, 1, known);
    const char *board = sc_field_string(L, 1, "board");
    if (board && strcmp(board, "pc") != 0 && strcmp(board, "q35") != 0) {
        return luaL_error(L, "a machine's board is 'pc' or 'q35', not '%s'", board);
    }
    struct lua_machine *m = sc_new(L, LUA_MACHINE, sizeof(*m), 1);
    m->sc = sc;
    m->made_in = sc->generation;
    m->args = g_ptr_array_new_with_free_func(g_free);
    m->devices = g_ptr_array_new();
    m->netdevs = g_ptr_array_new();
    m->far_fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_ptr_array_add(sc->machines, m);
    const char *name = sc_field_string(L, 1, "name");
    m->name = name ? g_strdup(name) : g_strdup_printf("m%u", sc->machines->len);
    m->accelerator = g_strdup(sc_field_string(L, 1, "accel"));
    m->options.name = m->name;
    m->options.accelerator = m->accelerator;
    m->options.board = board && strcmp(board, "q35") == 0 ? MACHINE_Q35 : MACHINE_PC;
    if (lua_getfield(L, 1, "ram") != LUA_TNIL) {
        m->options.ram_bytes = sc_check_size(L, lua_gettop(L));
    }
    lua_pop(L, 1);
    m->options.hugepages = hugepages_option(L, 1);
    m->options.is_bare = !sc_field_boolean(L, 1, "setup", true);
    m->options.has_bridge = sc_field_boolean(L, 1, "bridge", false);
    m->options.timeout_ms = (unsigned)sc_field_integer(L, 1, "timeout", 0, 1, 3600000);
    if (lua_getfield(L, 1, "args") != LUA_TNIL) {
        if (!lua_istable(L, -1)) {
            return luaL_error(L, "option 'args' is a table of strings, not %s",
                              luaL_tolstring(L, -1, NULL));
        }
        lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
        for (lua_Integer i = 1; i <= n; i++) {
            if (lua_rawgeti(L, -1, i) != LUA_TSTRING) {
                return luaL_error(L, "option 'args' is a table of strings; the one at %I is %s", i,
                                  luaL_tolstring(L, -1, NULL));
            }
            g_ptr_array_add(m->args, g_strdup(lua_tostring(L, -1)));
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    m->n_args_loaded = m->args->len;
    m->n_devices_loaded = 0;
    lua_newtable(L); /* keeps its devices alive */
    lua_setiuservalue(L, -2, 1);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct lua_machine *m = check(L);

    if (m->args) {
        g_ptr_array_remove(m->sc->machines, m);
        g_ptr_array_unref(g_steal_pointer(&m->args));
        g_ptr_array_unref(g_steal_pointer(&m->devices));
        g_ptr_array_unref(g_steal_pointer(&m->netdevs));
        sc_close_netdevs(m);
        g_array_unref(g_steal_pointer(&m->far_fds));
        g_free(m->name);
        g_free(m->accelerator);
    }
    return 0;
}

struct session_machine *sc_machine(lua_State *L, struct lua_machine *m)
{
    struct scenario *sc = m->sc;
    GError *error = NULL;

    const char *what = lua_pushfstring(L, "machine '%s'", m->name);
    sc_need_test(L, what);
    sc_need_made_in(L, m->made_in, what);
    lua_pop(L, 1);
    if (m->generation != sc->generation) {
        m->generation = sc->generation;
        m->machine = session_machine_new(sc->session, &m->options, &error);
        bool ok = m->machine != NULL;
        for (guint i = 0; ok && i < m->args->len; i++) {
            const char *one[] = {m->args->pdata[i], NULL};
            ok = session_machine_add_args(m->machine, one, &error);
        }
        if (!ok) {
            sc_raise(L, error);
        }
        sc_connect_netdevs(L, m);
    }
    if (!m->machine) {
        luaL_error(L, "machine '%s' could not be made in this test", m->name);
    }
    return m->machine;
}

/* NULL if it was not started in this test, or was stopped. */
static struct qemu *started(lua_State *L, struct lua_machine *m)
{
    return session_machine_qemu(sc_machine(L, m));
}

/* The same as sc_machine, running. */
static struct session_machine *running(lua_State *L, struct lua_machine *m)
{
    struct session_machine *sm = sc_machine(L, m);
    GError *error = NULL;

    if (!session_machine_is_started(sm)) {
        for (guint i = 0; i < m->devices->len; i++) {
            sc_device(L, m->devices->pdata[i]);
        }
        if (!session_machine_start(sm, &error)) {
            sc_raise(L, error);
        }
        sc_close_netdevs(m);
        m->run++;
        m->is_death_known = false;
        sc_trace_started(m->sc, sm);
    }
    return sm;
}

struct session_machine *sc_running(lua_State *L, struct lua_machine *m)
{
    return running(L, m);
}

static struct machine *bus(lua_State *L)
{
    return session_machine_machine(running(L, check(L)));
}

static struct qmp *qmp(lua_State *L)
{
    return qemu_qmp(session_machine_qemu(running(L, check(L))));
}

static int done(lua_State *L, bool ok, GError *error)
{
    return ok ? 0 : sc_raise(L, error);
}

static int l_start(lua_State *L)
{
    running(L, check(L));
    lua_settop(L, 1);
    return 1;
}

static int l_setup(lua_State *L)
{
    GError *error = NULL;
    bool ok = session_machine_setup(running(L, check(L)), &error);

    return done(L, ok, error);
}

static int l_scan(lua_State *L)
{
    GError *error = NULL;
    bool ok = pci_bus_scan(session_machine_bus(running(L, check(L))), &error);

    return done(L, ok, error);
}

static int l_reset(lua_State *L)
{
    GError *error = NULL;
    bool ok = session_machine_reset(running(L, check(L)), &error);

    return done(L, ok, error);
}

/* m:device(spec[, { memory=, server= }]) declares; in a running machine it is too late */
static int l_device(lua_State *L)
{
    struct lua_machine *m = check(L);
    const char *spec = luaL_checkstring(L, 2);

    if (m->sc->in_test && m->generation == m->sc->generation && m->machine &&
        session_machine_is_started(m->machine)) {
        return luaL_error(L, "machine '%s' runs already: use plug(\"%s\") instead", m->name, spec);
    }
    sc_push_device(L, m, 1, spec, 3, false);
    return 1;
}

static int l_plug(lua_State *L)
{
    struct lua_machine *m = check(L);
    const char *spec = luaL_checkstring(L, 2);

    running(L, m);
    sc_push_device(L, m, 1, spec, 3, true);
    return 1;
}

/* m:args("-netdev", "...") */
static int l_args(lua_State *L)
{
    struct lua_machine *m = check(L);

    for (int i = 2; i <= lua_gettop(L); i++) {
        luaL_checkstring(L, i);
    }
    bool is_made = m->sc->in_test && m->generation == m->sc->generation && m->machine;
    for (int i = 2; i <= lua_gettop(L); i++) {
        const char *one[] = {lua_tostring(L, i), NULL};
        GError *error = NULL;
        if (is_made && !session_machine_add_args(m->machine, one, &error)) {
            return sc_raise(L, error);
        }
        g_ptr_array_add(m->args, g_strdup(one[0]));
    }
    if (!m->sc->in_test) {
        m->n_args_loaded = m->args->len;
    }
    lua_settop(L, 1);
    return 1;
}

/* m:pci(slot[, function[, bus]]): a function that was not declared, or nil */
static int l_pci(lua_State *L)
{
    struct lua_machine *m = check(L);
    lua_Integer slot = luaL_checkinteger(L, 2), function = luaL_optinteger(L, 3, 0),
                nr = luaL_optinteger(L, 4, 0);
    struct session_machine *sm = running(L, m);
    GError *error = NULL;

    luaL_argcheck(L, slot >= 0 && slot < 32, 2, "slots are 0 to 31");
    luaL_argcheck(L, function >= 0 && function < 8, 3, "functions are 0 to 7");
    luaL_argcheck(L, nr >= 0 && nr < 256, 4, "buses are 0 to 255");
    if (pci_bus_devices(session_machine_bus(sm))->len == 0 &&
        !pci_bus_scan(session_machine_bus(sm), &error)) {
        return sc_raise(L, error);
    }
    struct pci_device *p =
        pci_bus_find(session_machine_bus(sm), (unsigned)nr, (unsigned)slot, (unsigned)function);
    if (!p) {
        lua_pushnil(L);
        return 1;
    }
    sc_push_function(L, m, 1, p);
    return 1;
}

/* Everything the last scan found, in bus order. */
static int l_functions(lua_State *L)
{
    struct lua_machine *m = check(L);
    GPtrArray *all = pci_bus_devices(session_machine_bus(running(L, m)));

    lua_newtable(L);
    for (guint i = 0; i < all->len; i++) {
        sc_push_function(L, m, 1, all->pdata[i]);
        lua_rawseti(L, 2, (lua_Integer)i + 1);
    }
    return 1;
}

/* ---- accesses: m:read(addr, width), m:write(addr, width, value), m:inp(port, width), ... ---- */

static int access_bus(lua_State *L, enum machine_space space, bool is_write)
{
    struct machine *m = bus(L);
    uint64_t value = 0;
    GError *error = NULL;
    uint64_t addr = (uint64_t)luaL_checkinteger(L, 2);
    lua_Integer width = luaL_checkinteger(L, 3);

    luaL_argcheck(L, width >= 1 && width <= 8, 3, "widths are 1, 2, 4 or 8");
    if (is_write) {
        value = (uint64_t)luaL_checkinteger(L, 4);
        bool ok = machine_write(m, space, addr, (unsigned)width, value, &error);
        return done(L, ok, error);
    }
    if (!machine_read(m, space, addr, (unsigned)width, &value, &error)) {
        return sc_raise(L, error);
    }
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

static int l_read(lua_State *L)
{
    return access_bus(L, MACHINE_MEM, false);
}

static int l_write(lua_State *L)
{
    return access_bus(L, MACHINE_MEM, true);
}

static int l_inp(lua_State *L)
{
    return access_bus(L, MACHINE_IO, false);
}

static int l_outp(lua_State *L)
{
    return access_bus(L, MACHINE_IO, true);
}

/* The place of a block: guest memory, so that a wrong address is an error and not a row of zeroes;
 * with "mmio" at `arg` whatever answers there, or nothing. */
static void check_place(lua_State *L, int arg, uint64_t gpa, uint64_t len)
{
    static const char *const places[] = {"memory", "mmio", NULL};
    struct session_machine *sm = running(L, check(L));
    GError *error = NULL;

    if (luaL_checkoption(L, arg, "memory", places) == 0 &&
        !guest_memory_host_checked(session_machine_memory(sm), gpa, len, &error)) {
        sc_raise(L, error);
    }
}

/* m:bytes(gpa, len[, "mmio"]) -> string; m:set_bytes(gpa, string[, "mmio"]) */
static int l_bytes(lua_State *L)
{
    struct machine *m = bus(L);
    uint64_t gpa = (uint64_t)luaL_checkinteger(L, 2);
    lua_Integer len = luaL_checkinteger(L, 3);
    GError *error = NULL;
    luaL_Buffer b;

    luaL_argcheck(L, len >= 0 && len <= (64 << 20), 3, "0 to 64 MiB");
    check_place(L, 4, gpa, (uint64_t)len);
    char *bytes = luaL_buffinitsize(L, &b, (size_t)len);
    if (!machine_read_bytes(m, gpa, bytes, (size_t)len, &error)) {
        return sc_raise(L, error);
    }
    luaL_pushresultsize(&b, (size_t)len);
    return 1;
}

static int l_set_bytes(lua_State *L)
{
    struct machine *m = bus(L);
    uint64_t gpa = (uint64_t)luaL_checkinteger(L, 2);
    size_t len;
    const char *bytes = luaL_checklstring(L, 3, &len);
    GError *error = NULL;

    check_place(L, 4, gpa, len);
    bool ok = machine_write_bytes(m, gpa, bytes, len, &error);
    return done(L, ok, error);
}

static int l_barrier(lua_State *L)
{
    GError *error = NULL;
    bool ok = machine_barrier(bus(L), &error);

    return done(L, ok, error);
}

static int l_commands(lua_State *L)
{
    lua_pushinteger(
        L, (lua_Integer)qtest_n_commands(qemu_qtest(session_machine_qemu(running(L, check(L))))));
    return 1;
}

/* ---- interrupt lines ---- */

/* m:irq(line) -> level, times raised */
static int l_irq(lua_State *L)
{
    struct machine *m = bus(L);
    lua_Integer line = luaL_checkinteger(L, 2);
    bool level;
    uint64_t n;
    GError *error = NULL;

    luaL_argcheck(L, line >= 0 && line < QTEST_N_IRQ_LINES, 2, "lines are 0 to 23");
    if (!machine_barrier(m, &error)) {
        return sc_raise(L, error);
    }
    m->ops->irq_state(m, (unsigned)line, &level, &n);
    lua_pushboolean(L, level);
    lua_pushinteger(L, (lua_Integer)n);
    return 2;
}

/* m:wait_irq(line, level[, timeout]) */
static int l_wait_irq(lua_State *L)
{
    struct machine *m = bus(L);
    lua_Integer line = luaL_checkinteger(L, 2);
    GError *error = NULL;
    bool ok;

    luaL_argcheck(L, line >= 0 && line < QTEST_N_IRQ_LINES, 2, "lines are 0 to 23");
    luaL_checktype(L, 3, LUA_TBOOLEAN);
    ok = m->ops->irq_wait_level(m, (unsigned)line, lua_toboolean(L, 3), sc_timeout(L, 4, 2000),
                                &error);
    return done(L, ok, error);
}

/* ---- QMP ---- */

/* m:qmp(command[, arguments]) -> the answer */
static int l_qmp(lua_State *L)
{
    const char *command = luaL_checkstring(L, 2);
    struct qmp *q = qmp(L);
    GError *error = NULL;
    JsonNode *arguments = lua_isnoneornil(L, 3) ? NULL : sc_to_json(L, 3);

    if (strcmp(command, "quit") == 0) {
        check(L)->is_death_known = true;
    }
    JsonNode *answer = qmp_execute_node(q, command, arguments, &error);

    if (!answer) {
        return sc_raise(L, error);
    }
    sc_push_json(L, answer);
    json_node_unref(answer);
    return 1;
}

static int l_hmp(lua_State *L)
{
    GError *error = NULL;
    char *text = qmp_hmp(qmp(L), luaL_checkstring(L, 2), &error);

    if (!text) {
        return sc_raise(L, error);
    }
    lua_pushstring(L, text);
    g_free(text);
    return 1;
}

/* m:wait_event(name[, timeout[, key, value]]) -> its data; nil with timeout 0 and none there */
static int l_wait_event(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2);
    struct qmp *q = qmp(L);
    GError *error = NULL;
    JsonNode *event = qmp_wait_event(q, name, luaL_optstring(L, 4, NULL),
                                     luaL_optstring(L, 5, NULL), sc_timeout(L, 3, 5000), &error);

    if (!event) {
        if (error) {
            return sc_raise(L, error);
        }
        lua_pushnil(L);
        return 1;
    }
    JsonNode *data = json_object_get_member(json_node_get_object(event), "data");
    if (data) {
        sc_push_json(L, data);
    } else {
        lua_newtable(L);
    }
    json_node_unref(event);
    return 1;
}

/* ---- the process ---- */

static int l_pid(lua_State *L)
{
    struct qemu *qemu = started(L, check(L));

    if (!qemu) {
        return 0;
    }
    lua_pushinteger(L, qemu_pid(qemu));
    return 1;
}

/* m:kill([signal]): what happens to a QEMU that crashes */
static int l_kill(lua_State *L)
{
    struct lua_machine *m = check(L);
    lua_Integer sig = luaL_optinteger(L, 2, SIGKILL);
    struct qemu *qemu = started(L, m);

    luaL_argcheck(L, sig > 0 && sig < 65, 2, "no such signal");
    if (!qemu) {
        return luaL_error(L, "machine '%s' does not run", m->name);
    }
    m->is_death_known = true;
    if (qemu_pid(qemu) > 0) {
        kill(qemu_pid(qemu), (int)sig);
    }
    return 0;
}

/* m:alive() -> true, or false and how it ended */
static int l_alive(lua_State *L)
{
    struct lua_machine *m = check(L);
    struct qemu *qemu = started(L, m);
    char *reason = qemu ? NULL : g_strdup("was not started");
    bool alive = qemu && qemu_is_alive(qemu, &reason);

    m->is_death_known |= !alive;
    lua_pushboolean(L, alive);
    if (alive) {
        return 1; /* alone, so that expect(m:alive()) is what it looks like */
    }
    lua_pushstring(L, reason);
    g_free(reason);
    return 2;
}

static int l_stop(lua_State *L)
{
    struct lua_machine *m = check(L);

    session_machine_stop(sc_machine(L, m));
    m->run++;
    return 0;
}

static int l_log(lua_State *L)
{
    struct qemu *qemu = started(L, check(L));
    char *text = qemu ? qemu_log(qemu) : NULL;

    lua_pushstring(L, text ? text : "");
    g_free(text);
    return 1;
}

static int l_name(lua_State *L)
{
    lua_pushstring(L, check(L)->name);
    return 1;
}

static int l_tostring(lua_State *L)
{
    lua_pushfstring(L, "machine '%s'", check(L)->name);
    return 1;
}

/* m:ram() -> the machine's RAM as memory */
static int l_ram(lua_State *L)
{
    struct lua_machine *m = check(L);
    struct lua_memory *memory = sc_new(L, LUA_MEMORY, sizeof(*memory), 1);

    memory->sc = m->sc;
    memory->made_in = m->made_in;
    memory->ram_of = m;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

void sc_open_machine(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"start", l_start},
        {"setup", l_setup},
        {"scan", l_scan},
        {"reset", l_reset},
        {"device", l_device},
        {"plug", l_plug},
        {"args", l_args},
        {"netdev", sc_machine_netdev},
        {"pci", l_pci},
        {"functions", l_functions},
        {"read", l_read},
        {"write", l_write},
        {"inp", l_inp},
        {"outp", l_outp},
        {"bytes", l_bytes},
        {"set_bytes", l_set_bytes},
        {"barrier", l_barrier},
        {"commands", l_commands},
        {"irq", l_irq},
        {"wait_irq", l_wait_irq},
        {"qmp", l_qmp},
        {"hmp", l_hmp},
        {"wait_event", l_wait_event},
        {"pid", l_pid},
        {"kill", l_kill},
        {"alive", l_alive},
        {"stop", l_stop},
        {"log", l_log},
        {"name", l_name},
        {"ram", l_ram},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};

    sc_type(L, LUA_MACHINE, methods, meta);
    lua_pushcfunction(L, l_machine);
    lua_setglobal(L, "machine");
}
