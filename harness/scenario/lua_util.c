/*
 * What lives for how long, arguments, types: between C and Lua.
 */
#include "harness/scenario/lua_scenario.h"

#include <limits.h>
#include <string.h>

struct scenario *sc_of(lua_State *L)
{
    return *(struct scenario **)lua_getextraspace(L);
}

void sc_note(struct scenario *sc, const char *text)
{
    guard_leave_script(sc->guard);
    report_note(sc->report, "%s", text);
    guard_enter_script(sc->guard);
}

void sc_note_once(struct scenario *sc, const char *text)
{
    guard_leave_script(sc->guard);
    report_note_once(sc->report, text);
    guard_enter_script(sc->guard);
}

/* ---- what lives when ---- */

void sc_need_test(lua_State *L, const char *what)
{
    if (!sc_of(L)->in_test) {
        luaL_error(L, "%s can be used inside a test only: nothing runs while the file loads", what);
    }
}

static void fail_earlier(lua_State *L, const char *what)
{
    luaL_error(L, "%s belongs to an earlier test, and ended with it", what);
}

void sc_need_made_in(lua_State *L, unsigned made_in, const char *what)
{
    if (made_in != 0 && made_in != sc_of(L)->generation) {
        fail_earlier(L, what);
    }
}

struct sc_stamp sc_stamp(struct lua_machine *m)
{
    return (struct sc_stamp){m, m->sc->generation, m->run};
}

void sc_need_stamp(lua_State *L, const struct sc_stamp *stamp, const char *what)
{
    sc_need_test(L, what);
    if (stamp->generation != sc_of(L)->generation) {
        fail_earlier(L, what);
    }
    if (stamp->run != stamp->machine->run) {
        luaL_error(L, "%s ended when machine '%s' was stopped", what, stamp->machine->name);
    }
}

struct sc_owned {
    unsigned refs;
    struct scenario *sc;
    unsigned generation;
    struct session_machine *machine;
    const char *what;
    void (*free)(void *data);
    void *data;         /* NULL once it has ended */
    char *stopped_with; /* name of the machine whose stop ended it, or NULL: it was closed */
};

struct sc_owned *sc_own(struct scenario *sc, struct session_machine *m, const char *what,
                        void (*free_fn)(void *), void *data)
{
    struct sc_owned *o = g_new0(struct sc_owned, 1);

    o->refs = 2; /* the list's and the caller's */
    o->sc = sc;
    o->generation = sc->generation;
    o->machine = m;
    o->what = what;
    o->free = free_fn;
    o->data = data;
    g_ptr_array_add(sc->owned, o);
    return o;
}

struct sc_owned *sc_owned_ref(struct sc_owned *o)
{
    o->refs++;
    return o;
}

void sc_owned_unref(struct sc_owned *o)
{
    if (o && --o->refs == 0) {
        g_free(o->stopped_with);
        g_free(o);
    }
}

void *sc_owned_data(lua_State *L, const struct sc_owned *o)
{
    sc_need_test(L, o->what);
    if (o->generation != o->sc->generation) {
        fail_earlier(L, o->what);
    }
    if (!o->data && o->stopped_with) {
        luaL_error(L, "%s ended when machine '%s' was stopped", o->what, o->stopped_with);
    }
    if (!o->data) {
        luaL_error(L, "%s was closed", o->what);
    }
    return o->data;
}

static void end(struct scenario *sc, guint index)
{
    struct sc_owned *o = g_ptr_array_remove_index(sc->owned, index);

    o->free(g_steal_pointer(&o->data));
    sc_owned_unref(o);
}

void sc_owned_end(struct scenario *sc, struct sc_owned *o)
{
    guint index;

    if (g_ptr_array_find(sc->owned, o, &index)) {
        end(sc, index);
    }
}

void sc_end_all(struct scenario *sc, const struct session_machine *m)
{
    for (guint i = sc->owned->len; i > 0; i--) {
        struct sc_owned *o = sc->owned->pdata[i - 1];
        if (!m || o->machine == m) {
            o->stopped_with = m ? g_strdup(session_machine_name(m)) : NULL;
            end(sc, i - 1);
        }
    }
}

/* ---- arguments ---- */

/* "ringlab.virtio_net" -> "virtio_net" */
static const char *short_name(const char *type)
{
    return type + strlen("ringlab.");
}

void *sc_check(lua_State *L, int arg, const char *type)
{
    void *object = luaL_testudata(L, arg, type);
    lua_Debug ar;

    if (object) {
        return object;
    }
    if (arg == 1 && lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name &&
        strcmp(ar.namewhat, "field") == 0) {
        luaL_error(L, "%s is a method of a %s: call it with a colon, as in x:%s(...)", ar.name,
                   short_name(type), ar.name);
    }
    luaL_error(L, "argument %d is a %s, not %s", arg, short_name(type),
               lua_isnone(L, arg) ? "left out" : luaL_tolstring(L, arg, NULL));
    return NULL;
}

int sc_timeout(lua_State *L, int arg, int default_ms)
{
    lua_Integer wanted = luaL_optinteger(L, arg, default_ms);

    luaL_argcheck(L, wanted >= 0 && wanted <= 3600000, arg, "a timeout is 0 to 3600000 ms");
    /* waits count in whole ms and may end one early: the deadline is to be over when they do */
    int left = guard_left_ms(sc_of(L)->guard);
    if (left == 0 && guard_is_over(sc_of(L)->guard)) {
        luaL_error(L, "%s", guard_text(sc_of(L)->guard));
    }
    return (int)MIN(wanted, left < INT_MAX ? left + 2 : left);
}

uint64_t sc_check_size(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TSTRING) {
        char *end;
        const char *text = lua_tostring(L, arg);
        guint64 value = g_ascii_strtoull(text, &end, 0);
        unsigned shift = *end == 'k' || *end == 'K'   ? 10
                         : *end == 'm' || *end == 'M' ? 20
                         : *end == 'g' || *end == 'G' ? 30
                                                      : 0;
        if (end == text || (shift ? end[1] : end[0]) != '\0' || value > UINT64_MAX >> shift ||
            (value << shift) > INT64_MAX) {
            luaL_error(L, "'%s' is no size (bytes, or with k, M, G behind)", text);
        }
        return value << shift;
    }
    int is_integer;
    lua_Integer value = lua_tointegerx(L, arg, &is_integer);
    if (!is_integer || value < 0) {
        luaL_error(L, "%s is no size (bytes, or a string such as \"16M\")",
                   luaL_tolstring(L, arg, NULL));
    }
    return (uint64_t)value;
}

lua_Integer sc_field_integer(lua_State *L, int table, const char *name, lua_Integer def,
                             lua_Integer min, lua_Integer max)
{
    lua_Integer value = def;

    if (lua_getfield(L, table, name) != LUA_TNIL) {
        int is_integer;
        value = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer || value < min || value > max) {
            luaL_error(L, "option '%s' is an integer from %I to %I, not %s", name, min, max,
                       luaL_tolstring(L, -1, NULL));
        }
    }
    lua_pop(L, 1);
    return value;
}

bool sc_field_boolean(lua_State *L, int table, const char *name, bool def)
{
    int type = lua_getfield(L, table, name);
    bool value = type == LUA_TNIL ? def : lua_toboolean(L, -1);

    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        luaL_error(L, "option '%s' is true or false, not %s", name, luaL_tolstring(L, -1, NULL));
    }
    lua_pop(L, 1);
    return value;
}

const char *sc_field_string(lua_State *L, int table, const char *name)
{
    int type = lua_getfield(L, table, name);

    if (type != LUA_TNIL && type != LUA_TSTRING) {
        luaL_error(L, "option '%s' is a string, not %s", name, luaL_tolstring(L, -1, NULL));
    }
    const char *value = lua_tostring(L, -1);
    lua_pop(L, 1);
    return value;
}

void *sc_field_object(lua_State *L, int table, const char *name, const char *type)
{
    if (lua_getfield(L, table, name) == LUA_TNIL) {
        return NULL;
    }
    void *object = luaL_testudata(L, -1, type);
    if (!object) {
        luaL_error(L, "option '%s' is a %s, not %s", name, short_name(type),
                   luaL_tolstring(L, -1, NULL));
    }
    return object;
}

void sc_check_fields(lua_State *L, int table, const char *const *known)
{
    size_t n = 0;

    while (known[n]) {
        n++;
    }
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING) {
            luaL_error(L, "options have names; '%s' is none", luaL_tolstring(L, -1, NULL));
        }
        const char *name = lua_tostring(L, -1);
        bool found = false;
        for (size_t i = 0; i < n && !found; i++) {
            found = strcmp(known[i], name) == 0;
        }
        if (!found) {
            const char *near = pci_nearest_name(name, known, n);
            luaL_error(L, "there is no option '%s'%s%s%s", name, near ? "; did you mean '" : "",
                       near ? near : "", near ? "'?" : "");
        }
    }
}

void *sc_new(lua_State *L, const char *type, size_t size, int n_uservalues)
{
    void *object = lua_newuserdatauv(L, size, n_uservalues);

    memset(object, 0, size);
    luaL_setmetatable(L, type);
    return object;
}

/* upvalue 1: the methods, 2: the type's name */
static int unknown_method(lua_State *L)
{
    const char *type = lua_tostring(L, lua_upvalueindex(2));
    const char *name = luaL_tolstring(L, 2, NULL);
    const char *near = sc_nearest_key(L, lua_upvalueindex(1), name);

    return luaL_error(L, "a %s has no method '%s'%s%s%s", type, name,
                      near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int no_assignment(lua_State *L)
{
    return luaL_error(L, "a %s has no '%s' to assign to%s", lua_tostring(L, lua_upvalueindex(1)),
                      luaL_tolstring(L, 2, NULL),
                      luaL_testudata(L, 1, LUA_DEVICE)
                          ? ": assign to a register of one of its blocks, as in dev.BLOCK.REGISTER"
                          : "");
}

void sc_type(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *meta)
{
    luaL_newmetatable(L, type);
    lua_newtable(L); /* methods */
    luaL_setfuncs(L, methods, 0);
    lua_newtable(L); /* theirs, for names that are none */
    lua_pushvalue(L, -2);
    lua_pushstring(L, short_name(type));
    lua_pushcclosure(L, unknown_method, 2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods");
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, short_name(type));
    lua_pushcclosure(L, no_assignment, 1);
    lua_setfield(L, -2, "__newindex");
    if (meta) {
        luaL_setfuncs(L, meta, 0);
    }
    lua_pushstring(L, short_name(type));
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, false); /* its metatable is ours alone */
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
