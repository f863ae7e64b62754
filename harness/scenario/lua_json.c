/*
 * JSON between C and Lua, for QMP.
 */
#include "harness/scenario/lua_scenario.h"

enum { MAX_DEPTH = 64 };

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

/* Raises for what cannot be JSON, before anything is allocated that an error would leak. */
static void check(lua_State *L, int index, unsigned depth)
{
    luaL_checkstack(L, 8, "JSON too deep");
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
    case LUA_TNUMBER:
    case LUA_TNIL:
        return;
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        if (!g_utf8_validate(text, (gssize)len, NULL)) {
            luaL_error(L, "a string in JSON is UTF-8 without zero bytes");
        }
        return;
    }
    case LUA_TTABLE:
        break;
    default:
        luaL_error(L, "a %s cannot be JSON", luaL_typename(L, index));
    }
    if (depth == MAX_DEPTH) {
        luaL_error(L, "a table of more than %d levels, or one that contains itself, cannot be JSON",
                   MAX_DEPTH);
    }
    size_t n = lua_rawlen(L, index);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (n == 0 && lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "the members of a JSON object have names");
        }
        if (n > 0 && !(lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 &&
                       lua_tointeger(L, -2) <= (lua_Integer)n)) {
            luaL_error(L, "a table is a JSON array (1, 2 ...) or an object (names), not both");
        }
        if (n == 0) { /* its name, which is a string */
            lua_pushvalue(L, -2);
            check(L, lua_gettop(L), depth + 1);
            lua_pop(L, 1);
        }
        check(L, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
    }
}

static JsonNode *make(lua_State *L, int index);

static JsonNode *make_from_table(lua_State *L, int index)
{
    JsonNode *node;
    size_t n = lua_rawlen(L, index);

    if (n > 0) {
        JsonArray *array = json_array_new();
        for (size_t i = 1; i <= n; i++) {
            lua_rawgeti(L, index, (lua_Integer)i);
            json_array_add_element(array, make(L, lua_gettop(L)));
            lua_pop(L, 1);
        }
        node = json_node_init_array(json_node_alloc(), array);
        json_array_unref(array);
        return node;
    }
    JsonObject *object = json_object_new();
    lua_pushnil(L);
    while (lua_next(L, index)) {
        json_object_set_member(object, lua_tostring(L, -2), make(L, lua_gettop(L)));
        lua_pop(L, 1);
    }
    node = json_node_init_object(json_node_alloc(), object);
    json_object_unref(object);
    return node;
}

static JsonNode *make(lua_State *L, int index)
{
    switch (lua_type(L, index)) {
    case LUA_TTABLE:
        return make_from_table(L, index);
    case LUA_TBOOLEAN:
        return json_node_init_boolean(json_node_alloc(), lua_toboolean(L, index));
    case LUA_TNUMBER:
        return lua_isinteger(L, index)
                   ? json_node_init_int(json_node_alloc(), lua_tointeger(L, index))
                   : json_node_init_double(json_node_alloc(), lua_tonumber(L, index));
    case LUA_TSTRING:
        return json_node_init_string(json_node_alloc(), lua_tostring(L, index));
    default:
        return json_node_init_null(json_node_alloc());
    }
}

JsonNode *sc_to_json(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    check(L, index, 0);
    return make(L, index);
}
