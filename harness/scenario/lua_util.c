/*
 * Arguments, errors and JSON between C and Lua.
 */
#include "harness/scenario/lua_scenario.h"

#include <string.h>

struct scenario *sc_of(lua_State *L)
{
    return *(struct scenario **)lua_getextraspace(L);
}

int sc_raise(lua_State *L, GError *error)
{
    bool skip = g_error_matches(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_HUGEPAGES);

    if (skip) {
        lua_newtable(L);
        lua_pushliteral(L, "skip");
        lua_setfield(L, -2, "kind");
        lua_pushstring(L, error->message);
        lua_setfield(L, -2, "message");
    } else {
        /* the nearest Lua function: that is where the script went wrong */
        luaL_where(L, 1);
        lua_pushstring(L, error->message);
        lua_concat(L, 2);
    }
    g_error_free(error);
    return lua_error(L);
}

void sc_need_test(lua_State *L, const char *what)
{
    if (!sc_of(L)->in_test) {
        luaL_error(L, "%s can be used inside a test only: nothing runs while the file loads", what);
    }
}

void sc_need_generation(lua_State *L, unsigned generation, const char *what)
{
    sc_need_test(L, what);
    if (generation != sc_of(L)->generation) {
        luaL_error(L, "%s belongs to an earlier test, and ended with it", what);
    }
}

int sc_timeout(lua_State *L, int arg, int default_ms)
{
    lua_Integer wanted = luaL_optinteger(L, arg, default_ms);
    int64_t left = (sc_of(L)->deadline_us - g_get_monotonic_time()) / 1000;

    luaL_argcheck(L, wanted >= 0 && wanted <= 3600000, arg, "a timeout is 0 to 3600000 ms");
    return (int)MAX(MIN(wanted, left), 0);
}

void sc_at_end(struct scenario *sc, void (*free_fn)(void *), void *data)
{
    struct scenario_cleanup c = {free_fn, data};

    g_array_append_val(sc->cleanups, c);
}

void sc_end_now(struct scenario *sc, void *data)
{
    for (guint i = sc->cleanups->len; i > 0; i--) {
        struct scenario_cleanup c = g_array_index(sc->cleanups, struct scenario_cleanup, i - 1);
        if (c.data == data) {
            g_array_remove_index(sc->cleanups, i - 1);
            c.free(c.data);
            return;
        }
    }
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
    lua_Integer value = luaL_checkinteger(L, arg);
    luaL_argcheck(L, value >= 0, arg, "a size cannot be negative");
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

void sc_type(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *meta)
{
    luaL_newmetatable(L, type);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods");
    lua_setfield(L, -2, "__index");
    if (meta) {
        luaL_setfuncs(L, meta, 0);
    }
    lua_pushstring(L, type + strlen("ringlab."));
    lua_setfield(L, -2, "__name");
    lua_pop(L, 1);
}

/* ---- JSON ---- */

void sc_push_json(lua_State *L, JsonNode *node)
{
    luaL_checkstack(L, 8, "JSON too deep");
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT: {
        JsonObjectIter it;
        const char *name;
        JsonNode *member;
        lua_newtable(L);
        json_object_iter_init(&it, json_node_get_object(node));
        while (json_object_iter_next(&it, &name, &member)) {
            sc_push_json(L, member);
            lua_setfield(L, -2, name);
        }
        return;
    }
    case JSON_NODE_ARRAY: {
        JsonArray *array = json_node_get_array(node);
        lua_newtable(L);
        for (guint i = 0; i < json_array_get_length(array); i++) {
            sc_push_json(L, json_array_get_element(array, i));
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        return;
    }
    case JSON_NODE_VALUE:
        switch (json_node_get_value_type(node)) {
        case G_TYPE_INT64:
            lua_pushinteger(L, json_node_get_int(node));
            return;
        case G_TYPE_DOUBLE:
            lua_pushnumber(L, json_node_get_double(node));
            return;
        case G_TYPE_BOOLEAN:
            lua_pushboolean(L, json_node_get_boolean(node));
            return;
        default:
            lua_pushstring(L, json_node_get_string(node));
            return;
        }
    case JSON_NODE_NULL:
        break;
    }
    lua_pushnil(L);
}

static JsonNode *table_to_json(lua_State *L, int index)
{
    JsonNode *node;

    if (lua_rawlen(L, index) > 0) {
        JsonArray *array = json_array_new();
        for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, index); i++) {
            lua_rawgeti(L, index, i);
            json_array_add_element(array, sc_to_json(L, -1));
            lua_pop(L, 1);
        }
        node = json_node_init_array(json_node_alloc(), array);
        json_array_unref(array);
        return node;
    }
    JsonObject *object = json_object_new();
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            json_object_unref(object);
            luaL_error(L, "a JSON object's members have names");
        }
        json_object_set_member(object, lua_tostring(L, -2), sc_to_json(L, -1));
        lua_pop(L, 1);
    }
    node = json_node_init_object(json_node_alloc(), object);
    json_object_unref(object);
    return node;
}

JsonNode *sc_to_json(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    luaL_checkstack(L, 8, "JSON too deep");
    switch (lua_type(L, index)) {
    case LUA_TTABLE:
        return table_to_json(L, index);
    case LUA_TBOOLEAN:
        return json_node_init_boolean(json_node_alloc(), lua_toboolean(L, index));
    case LUA_TNUMBER:
        return lua_isinteger(L, index)
                   ? json_node_init_int(json_node_alloc(), lua_tointeger(L, index))
                   : json_node_init_double(json_node_alloc(), lua_tonumber(L, index));
    case LUA_TSTRING:
        return json_node_init_string(json_node_alloc(), lua_tostring(L, index));
    case LUA_TNIL:
        return json_node_init_null(json_node_alloc());
    default:
        luaL_error(L, "%s cannot be JSON", luaL_typename(L, index));
        return NULL;
    }
}
