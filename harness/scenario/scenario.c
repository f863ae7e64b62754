/*
 * The scenario engine: one Lua state per file, one session per test.
 */
#include "harness/lua_dir.h"
#include "harness/scenario/lua_host.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

G_DEFINE_QUARK(scenario - error - quark, scenario_error)

enum { LOAD_TIMEOUT_MS = 30000 };

/* ---- tests ---- */

/* test(name, [{ timeout=ms }, ] function) */
static int l_test(lua_State *L)
{
    static const char *const known[] = {"timeout", NULL};
    struct scenario *sc = sc_of(L);
    const char *name = luaL_checkstring(L, 1);
    bool has_options = lua_istable(L, 2);
    int function = has_options ? 3 : 2;
    lua_Debug ar;

    luaL_checktype(L, function, LUA_TFUNCTION);
    if (sc->generation > 0) {
        return luaL_error(L, "test '%s': tests are declared while the file loads, not in a test",
                          name);
    }
    for (guint i = 0; i < sc->tests->len; i++) {
        if (strcmp(((struct scenario_test *)sc->tests->pdata[i])->name, name) == 0) {
            return luaL_error(L, "there are two tests called '%s'", name);
        }
    }
    struct scenario_test *t = g_new0(struct scenario_test, 1);
    g_ptr_array_add(sc->tests, t);
    t->name = g_strdup(name);
    t->function = LUA_NOREF;
    if (has_options) {
        sc_check_fields(L, 2, known);
        t->timeout_ms = (unsigned)sc_field_integer(L, 2, "timeout", 0, 1, 3600000);
    }
    if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "l", &ar)) {
        t->line = (unsigned)MAX(ar.currentline, 0);
    }
    lua_pushvalue(L, function);
    t->function = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static void test_free(gpointer data)
{
    struct scenario_test *t = data;

    g_free(t->name);
    g_free(t);
}

/* note(text): one line for whoever watches */
static int l_note(lua_State *L)
{
    sc_note(sc_of(L), luaL_tolstring(L, 1, NULL));
    return 0;
}

/* now() -> monotonic seconds */
static int l_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)g_get_monotonic_time() / 1e6);
    return 1;
}

/* yield_cpu(): for loops that poll */
static int l_yield_cpu(lua_State *L)
{
    (void)L;
    g_thread_yield();
    return 0;
}

/* engine.position() -> the script's file and line, or nil */
static int l_position(lua_State *L)
{
    char path[PATH_MAX];
    unsigned line;

    if (!sc_position(L, path, &line)) {
        return 0;
    }
    lua_pushstring(L, path);
    lua_pushinteger(L, line);
    return 2;
}

/* engine.machine_has_ended() -> whether a QEMU ended behind the script's back */
static int l_machine_has_ended(lua_State *L)
{
    lua_pushboolean(L, sc_machine_has_ended(sc_of(L)));
    return 1;
}

/* engine.nearest(word, table) -> "; did you mean 'NAME'?" of the table's names, or "" */
static int l_nearest(lua_State *L)
{
    const char *word = luaL_tolstring(L, 1, NULL);
    const char *near = sc_nearest_key(L, 2, word);

    if (near) {
        lua_pushfstring(L, "; did you mean '%s'?", near);
    } else {
        lua_pushliteral(L, "");
    }
    return 1;
}

/* ---- the state ---- */

/* What goes wrong where no error can be raised, in finalizers for instance, comes in pieces. */
static void on_warning(void *data, const char *text, int is_continued)
{
    struct scenario *sc = data;

    g_string_append(sc->warning, text);
    if (!is_continued) {
        if (sc->warning->str[0] != '@') { /* those are for the receiver: @on, @off */
            g_autofree char *line = g_strdup_printf("%s: warning: %s", sc->path, sc->warning->str);
            sc_note(sc, line);
        }
        g_string_truncate(sc->warning, 0);
    }
}

static void set_package_path(lua_State *L, const char *script, const char *library)
{
    g_autofree char *dir = g_path_get_dirname(script);

    lua_getglobal(L, "package");
    lua_pushfstring(L, "%s/?.lua;%s/?.lua;%s/lib/?.lua", library, dir, dir);
    lua_setfield(L, -2, "path");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "cpath");
    /* Scenarios are Lua: the searchers for C libraries would find nothing, and say so. */
    lua_getfield(L, -1, "searchers");
    for (lua_Integer n = luaL_len(L, -1); n > 2; n--) {
        lua_pushnil(L);
        lua_seti(L, -2, n);
    }
    lua_pop(L, 2);
}

/* What scripts see, made in protected mode: the first argument is the scenario. */
static int open_all(lua_State *L)
{
    static const luaL_Reg engine[] = {{"position", l_position},
                                      {"machine_has_ended", l_machine_has_ended},
                                      {"nearest", l_nearest},
                                      {NULL, NULL}};
    struct scenario *sc = lua_touserdata(L, 1);

    luaL_openlibs(L);
    set_package_path(L, sc->path, sc->library);
    lua_register(L, "test", l_test);
    lua_register(L, "note", l_note);
    lua_register(L, "now", l_now);
    lua_register(L, "yield_cpu", l_yield_cpu);
    sc_open_machine(L);
    sc_open_device(L);
    sc_open_registers(L);
    sc_open_memory(L);
    sc_open_interrupt(L);
    sc_open_net(L);
    sc_open_ivshmem(L);
    sc_open_netmap(L);
    sc_open_port(L);
    sc_open_ring(L);
    sc_open_backend(L);
    sc_open_ptnet(L);
    sc_open_netns(L);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    luaL_newlib(L, engine);
    lua_setfield(L, -2, "ringlab.engine");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ringlab");
    lua_call(L, 1, 0);
    return 0;
}

static bool open_state(struct scenario *sc, GError **error)
{
    lua_State *L = guard_new_state(sc->guard, sc->options->memory_mib);

    sc->L = L;
    if (L) {
        *(struct scenario **)lua_getextraspace(L) = sc;
        lua_setwarnf(L, on_warning, sc);
        lua_pushcfunction(L, open_all);
        lua_pushlightuserdata(L, sc);
    }
    if (!L || lua_pcall(L, 1, 0, 0) != LUA_OK) {
        g_autofree char *message = g_strdup(L ? lua_tostring(L, -1) : "no memory");
        g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD,
                    "ringlab's Lua library cannot be loaded from %s (set RINGLAB_LUA_PATH): %.200s",
                    sc->library, message);
        return false;
    }
    return true;
}

static bool load_failed(struct scenario *sc, const char *where, const char *message, GError **error)
{
    g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD, "%s%s: %s", sc->path, where, message);
    return false;
}

/* A syntax error, "SHORT:12: text", or that it is no text. */
static bool syntax_failed(struct scenario *sc, GError **error)
{
    const char *message = lua_tostring(sc->L, -1);
    size_t n = strlen(sc->short_path);

    if (strncmp(message, sc->short_path, n) == 0 && message[n] == ':') {
        g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD, "%s%s", sc->path, message + n);
        return false;
    }
    return load_failed(sc, "", message, error);
}

/* Whatever the file's own code raised, made a table by the message handler. */
static bool run_failed(struct scenario *sc, GError **error)
{
    lua_State *L = sc->L;
    g_autofree char *where = NULL;

    if (!lua_istable(L, -1)) { /* out of memory, or an error in the handler */
        return load_failed(sc, "", lua_tostring(L, -1), error);
    }
    lua_getfield(L, -1, "script");
    bool is_here = g_strcmp0(lua_tostring(L, -1), sc->path) == 0;
    lua_getfield(L, -2, "line");
    if (is_here && lua_tointeger(L, -1) > 0) {
        where = g_strdup_printf(":%d", (int)lua_tointeger(L, -1));
    }
    lua_getfield(L, -3, "message");
    return load_failed(sc, where ? where : "", lua_tostring(L, -1), error);
}

static bool load_file(struct scenario *sc, GError **error)
{
    lua_State *L = sc->L;
    g_autofree char *chunk = g_strdup_printf("@%s", sc->path);
    lua_Debug ar;

    if (access(sc->path, R_OK) != 0) {
        return load_failed(sc, "", g_strerror(errno), error);
    }
    /* how Lua shortens the name in messages: asked of an empty chunk of that name */
    if (luaL_loadbufferx(L, "", 0, chunk, "t") == LUA_OK) {
        lua_getinfo(L, ">S", &ar);
        g_strlcpy(sc->short_path, ar.short_src, sizeof(sc->short_path));
    }
    lua_settop(L, 0);
    lua_pushcfunction(L, sc_message_handler);
    if (luaL_loadfilex(L, sc->path, "t") != LUA_OK) {
        return syntax_failed(sc, error);
    }
    guard_set_deadline(sc->guard, "the file's own code, outside any test,", LOAD_TIMEOUT_MS);
    bool ok = lua_pcall(L, 0, 0, 1) == LUA_OK;
    guard_set_deadline(sc->guard, "", 0);
    if (!ok) {
        return run_failed(sc, error);
    }
    lua_settop(L, 0);
    if (sc->tests->len == 0) {
        return load_failed(sc, "", "declares no test", error);
    }
    return true;
}

static void shuffle(GPtrArray *tests, unsigned seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    for (guint i = tests->len; i > 1; i--) {
        guint k = (guint)g_rand_int_range(rand, 0, (gint32)i);
        gpointer t = tests->pdata[i - 1];
        tests->pdata[i - 1] = tests->pdata[k];
        tests->pdata[k] = t;
    }
}

static void run_tests(struct scenario *sc)
{
    const struct scenario_options *o = sc->options;
    g_autoptr(GPtrArray) chosen = g_ptr_array_new();
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < sc->tests->len; i++) {
        struct scenario_test *t = sc->tests->pdata[i];
        if (!o->filter || g_pattern_match_simple(o->filter, t->name)) {
            g_ptr_array_add(chosen, t);
        }
    }
    if (o->shuffle_seed) {
        shuffle(chosen, o->shuffle_seed);
    }
    for (guint i = 0; i < chosen->len; i++) {
        g_ptr_array_add(names, ((struct scenario_test *)chosen->pdata[i])->name);
    }
    report_file_planned(sc->report, (const char *const *)names->pdata, names->len);
    for (guint i = 0; i < chosen->len && !o->only_list; i++) {
        if (o->is_cancelled && o->is_cancelled()) {
            return;
        }
        sc_run_test(sc, chosen->pdata[i]);
    }
}

static void on_stuck(void *data)
{
    struct scenario *sc = data;

    sc->options->stuck(sc->options->stuck_data, sc->report);
}

bool scenario_run_file(const char *path, const struct scenario_options *options,
                       struct report *report, GError **error)
{
    struct scenario sc = {
        .options = options,
        .report = report,
        .path = g_strdup(path),
        .library = lua_dir(error),
        .tests = g_ptr_array_new_with_free_func(test_free),
        .machines = g_ptr_array_new(),
        .owned = g_ptr_array_new(),
        .hosts = g_ptr_array_new(),
        .traces = g_ptr_array_new(),
        .recordings = g_ptr_array_new(),
        .warning = g_string_new(NULL),
    };
    if (sc.library) {
        sc.guard = guard_new(options->cancel_fd, options->is_cancelled,
                             options->grace_ms ? options->grace_ms : GUARD_GRACE_MS,
                             options->stuck ? on_stuck : NULL, &sc, error);
    }
    bool ok = sc.guard && open_state(&sc, error) && load_file(&sc, error);

    if (ok) {
        run_tests(&sc);
    }
    if (sc.L) {
        guard_set_deadline(sc.guard, "the end of the file", LOAD_TIMEOUT_MS); /* finalizers */
        lua_close(sc.L);
    }
    guard_free(sc.guard);
    g_ptr_array_unref(sc.tests);
    g_ptr_array_unref(sc.machines);
    g_ptr_array_unref(sc.owned);
    g_ptr_array_unref(sc.hosts);
    g_ptr_array_unref(sc.traces);
    g_ptr_array_unref(sc.recordings);
    g_string_free(sc.warning, TRUE);
    g_free(sc.library);
    g_free(sc.path);
    return ok;
}
