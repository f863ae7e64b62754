/*
 * From what was raised in a script, whatever it is, to what a report can say: a message, the line
 * of the script, a traceback worth reading.
 */
#include "harness/scenario/lua_scenario.h"

#include <limits.h>
#include <string.h>

int sc_raise(lua_State *L, GError *error)
{
    struct scenario *sc = sc_of(L);

    if (g_error_matches(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_HUGEPAGES)) {
        lua_newtable(L);
        lua_pushliteral(L, "skip");
        lua_setfield(L, -2, "kind");
        lua_pushstring(L, error->message);
        lua_setfield(L, -2, "message");
    } else {
        if (g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED) ||
            g_error_matches(error, QMP_ERROR, QMP_ERROR_CLOSED)) {
            sc->is_death_told = true;
        }
        luaL_where(L, 1); /* the nearest Lua function */
        lua_pushstring(L, error->message);
        lua_concat(L, 2);
    }
    g_error_free(error);
    return lua_error(L);
}

void sc_add_deaths(struct scenario *sc, GError **error)
{
    for (unsigned i = 0; session_nth_machine(sc->session, i); i++) {
        struct session_machine *m = session_nth_machine(sc->session, i);
        struct qemu *qemu = session_machine_qemu(m);
        g_autofree char *reason = NULL;
        if (!qemu || qemu_is_alive(qemu, &reason)) {
            continue;
        }
        char *text =
            g_strdup_printf("%s; QEMU %s %s", (*error)->message, session_machine_name(m), reason);
        g_free((*error)->message);
        (*error)->message = text;
        sc->is_death_told = true;
    }
}

/* ---- where ---- */

static bool is_in_library(const struct scenario *sc, const char *path)
{
    size_t n = strlen(sc->library);

    return strncmp(path, sc->library, n) == 0 && path[n] == '/';
}

bool sc_position(lua_State *L, char *path, unsigned *line)
{
    const struct scenario *sc = sc_of(L);
    bool found = false;
    lua_Debug ar;

    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.source[0] != '@' || ar.currentline <= 0) {
            continue;
        }
        bool is_file_itself = strcmp(ar.source + 1, sc->path) == 0;
        if (is_file_itself || (!found && !is_in_library(sc, ar.source + 1))) {
            g_strlcpy(path, ar.source + 1, PATH_MAX);
            *line = (unsigned)ar.currentline;
            found = true;
        }
        if (is_file_itself) {
            return true;
        }
    }
    return found;
}

/* "SCRIPT:12: text" -> line 12, and where the text begins; 0 if it does not begin so. */
static unsigned line_prefix(const struct scenario *sc, const char *message, const char **text)
{
    size_t n = strlen(sc->short_path);
    char *end;

    if (strncmp(message, sc->short_path, n) != 0 || message[n] != ':') {
        return 0;
    }
    guint64 line = g_ascii_strtoull(message + n + 1, &end, 10);
    if (line == 0 || line > UINT_MAX || strncmp(end, ": ", 2) != 0) {
        return 0;
    }
    *text = end + 2;
    return (unsigned)line;
}

/* ---- what ---- */

/* The string member of the table at `index`, raw, or NULL; left on the stack. */
static const char *raw_string(lua_State *L, int index, const char *name)
{
    index = lua_absindex(L, index);
    lua_pushstring(L, name);
    lua_rawget(L, index);
    return lua_type(L, -1) == LUA_TSTRING || lua_type(L, -1) == LUA_TNUMBER ? lua_tostring(L, -1)
                                                                            : NULL;
}

static int protected_tostring(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* As the library shows values; left on the stack. */
static bool show_value(lua_State *L, int index)
{
    if (luaL_getmetafield(L, index, "__tostring") != LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushcfunction(L, protected_tostring);
    } else {
        lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
        lua_pushliteral(L, "ringlab.engine");
        lua_rawget(L, -2);
        lua_remove(L, -2);
        if (!lua_istable(L, -1)) {
            return false;
        }
        lua_pushliteral(L, "show");
        lua_rawget(L, -2);
        lua_remove(L, -2);
    }
    lua_pushvalue(L, index);
    return lua_pcall(L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TSTRING;
}

/* Pushes what the error at `index` says. */
static void push_message(lua_State *L, int index)
{
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        lua_pushstring(L, lua_tostring(L, index)); /* the copy: it may be a number */
        return;
    case LUA_TNIL:
        lua_pushliteral(L, "an error without a message (nil)");
        return;
    case LUA_TTABLE:
        if (raw_string(L, index, "message")) {
            return;
        }
        break;
    default:
        break;
    }
    if (show_value(L, index)) {
        lua_pushfstring(L, "an error that is no text: %s", lua_tostring(L, -1));
    } else {
        lua_pushfstring(L, "an error that is no text but a %s", luaL_typename(L, index));
    }
}

const char *sc_nearest_key(lua_State *L, int table, const char *word)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    table = lua_absindex(L, table);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            g_ptr_array_add(names, (char *)(uintptr_t)lua_tostring(L, -1));
        }
    }
    return pci_nearest_name(word, (const char *const *)names->pdata, names->len);
}

/* For "... (global 'expcet')": the global meant. */
static const char *nearest_global(lua_State *L, const char *message)
{
    const char *start = strstr(message, "(global '");
    const char *end = start ? strchr(start + 9, '\'') : NULL;

    if (!end) {
        return NULL;
    }
    g_autofree char *word = g_strndup(start + 9, (gsize)(end - start - 9));
    lua_pushglobaltable(L);
    const char *near = sc_nearest_key(L, -1, word);
    lua_pop(L, 1);
    return near;
}

/* ---- how it came there ---- */

/* Lua's traceback without its heading, what is below the test, and the library's inner calls; NULL
 * if what is left is a single line, which says no more than the position. */
static char *traceback(lua_State *L)
{
    const struct scenario *sc = sc_of(L);
    g_autofree char *prelude = g_strdup_printf("%s/ringlab.lua:", sc->library);
    GString *out = g_string_new(NULL);
    unsigned n_lua = 0;

    luaL_traceback(L, L, NULL, 1);
    g_auto(GStrv) lines = g_strsplit(lua_tostring(L, -1), "\n", -1);
    lua_pop(L, 1);
    for (char **l = lines + 1; lines[0] && *l; l++) {
        char *line = g_strstrip(*l);
        bool is_c = g_str_has_prefix(line, "[C]:");
        if (strcmp(line, "[C]: in ?") == 0 || strcmp(line, "[C]: in function 'error'") == 0 ||
            g_str_has_prefix(line, prelude) ||
            (g_str_has_prefix(line, "...") && strstr(line, "/ringlab.lua:"))) {
            continue;
        }
        g_string_append_printf(out, "%s\n", line);
        n_lua += !is_c;
    }
    return g_string_free(out, n_lua < 2);
}

static void set(lua_State *L, int table, const char *name)
{
    lua_setfield(L, table, name);
}

static void copy(lua_State *L, int from, int to, const char *name)
{
    if (raw_string(L, from, name)) {
        set(L, to, name);
    } else {
        lua_pop(L, 1);
    }
}

/* Puts where it happened into the table at `t`, unless the message at the top says so itself. */
static void locate(lua_State *L, int t)
{
    char path[PATH_MAX];
    const char *text;
    unsigned line = line_prefix(sc_of(L), lua_tostring(L, -1), &text);

    if (line > 0) {
        lua_pushstring(L, sc_of(L)->path);
        set(L, t, "script");
        lua_pushstring(L, text);
        lua_replace(L, -2);
    } else if (sc_position(L, path, &line)) {
        lua_pushstring(L, path);
        set(L, t, "script");
    }
    lua_pushinteger(L, line);
    set(L, t, "line");
}

int sc_message_handler(lua_State *L)
{
    bool is_ours = false;

    lua_settop(L, 1);
    luaL_checkstack(L, 20, NULL);
    lua_newtable(L);
    if (lua_istable(L, 1)) {
        const char *kind = raw_string(L, 1, "kind");
        is_ours = kind && (strcmp(kind, "expect") == 0 || strcmp(kind, "skip") == 0) &&
                  raw_string(L, 1, "message");
        if (is_ours) {
            copy(L, 1, 2, "kind");
            copy(L, 1, 2, "expression");
            copy(L, 1, 2, "expected");
            copy(L, 1, 2, "actual");
            copy(L, 1, 2, "script");
            copy(L, 1, 2, "line");
        }
        lua_settop(L, 2);
    }
    push_message(L, 1);
    lua_replace(L, 1); /* the message, and then the table */
    lua_pushvalue(L, 1);
    if (!is_ours) {
        lua_pushliteral(L, "error");
        set(L, 2, "kind");
        locate(L, 2);
        const char *meant = nearest_global(L, lua_tostring(L, -1));
        if (meant) {
            lua_pushfstring(L, "%s; did you mean '%s'?", lua_tostring(L, -1), meant);
        }
    }
    set(L, 2, "message");
    g_autofree char *trace = traceback(L);
    if (trace) {
        lua_pushstring(L, trace);
        set(L, 2, "traceback");
    }
    lua_settop(L, 2);
    return 1;
}
