/*
 * The scenario engine: one Lua state per file, one session per test.
 */
#include "harness/lua_dir.h"
#include "harness/scenario/lua_scenario.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

G_DEFINE_QUARK(scenario - error - quark, scenario_error)

enum { DEFAULT_TEST_TIMEOUT_MS = 30000, HOOK_INSTRUCTIONS = 2000 };

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
    report_note(sc_of(L)->report, "%s", luaL_tolstring(L, 1, NULL));
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

/* ---- the state ---- */

static void deadline_hook(lua_State *L, lua_Debug *ar)
{
    struct scenario *sc = sc_of(L);

    (void)ar;
    if (sc->options->is_cancelled && sc->options->is_cancelled()) {
        luaL_error(L, "stopped by request");
    }
    if (sc->in_test && g_get_monotonic_time() > sc->deadline_us) {
        luaL_error(L, "the test took longer than its deadline");
    }
}

static void set_package_path(lua_State *L, const char *script, const char *library)
{
    g_autofree char *dir = g_path_get_dirname(script);

    lua_getglobal(L, "package");
    lua_pushfstring(L, "%s/?.lua;%s/?.lua", library, dir);
    lua_setfield(L, -2, "path");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "cpath");
    lua_pop(L, 1);
}

static bool load_failed(lua_State *L, const char *path, GError **error)
{
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "message");
    }
    const char *message = luaL_tolstring(L, -1, NULL);
    /* Lua's own messages name the file already */
    if (strstr(message, path)) {
        g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD, "%s", message);
    } else {
        g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD, "%s: %s", path, message);
    }
    return false;
}

static bool open_state(struct scenario *sc, GError **error)
{
    g_autofree char *library = lua_dir(error);

    if (!library) {
        return false;
    }
    lua_State *L = luaL_newstate();
    sc->L = L;
    *(struct scenario **)lua_getextraspace(L) = sc;
    luaL_openlibs(L);
    set_package_path(L, sc->path, library);
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
    lua_sethook(L, deadline_hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ringlab");
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        g_autofree char *message = g_strdup(lua_tostring(L, -1));
        g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD,
                    "ringlab's Lua library cannot be loaded from %s (set RINGLAB_LUA_PATH): %.200s",
                    library, message);
        return false;
    }
    return true;
}

static bool load_file(struct scenario *sc, GError **error)
{
    lua_State *L = sc->L;

    if (access(sc->path, R_OK) != 0) {
        g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD, "%s: %s", sc->path,
                    g_strerror(errno));
        return false;
    }
    if (luaL_loadfilex(L, sc->path, "t") != LUA_OK || lua_pcall(L, 0, 0, 0) != LUA_OK) {
        return load_failed(L, sc->path, error);
    }
    if (sc->tests->len == 0) {
        g_set_error(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD, "%s: declares no test", sc->path);
        return false;
    }
    return true;
}

/* ---- one test ---- */

struct outcome {
    struct report_result result;
    char *message, *expression, *expected, *actual, *script, *traceback;
    GPtrArray *texts; /* char *: name, text, name, text ... */
};

static int message_handler(lua_State *L)
{
    if (lua_istable(L, 1)) {
        return 1; /* expect and skip make their own */
    }
    lua_newtable(L);
    lua_pushliteral(L, "error");
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, luaL_tolstring(L, 1, NULL));
    lua_setfield(L, 2, "message");
    lua_pop(L, 1);
    luaL_traceback(L, L, NULL, 1);
    lua_setfield(L, 2, "traceback");
    lua_settop(L, 2);
    return 1;
}

static char *field(lua_State *L, const char *name)
{
    char *text = NULL;

    if (lua_getfield(L, -1, name) != LUA_TNIL) {
        text = g_strdup(luaL_tolstring(L, -1, NULL));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return text;
}

/* "dir/file.lua:12: message" becomes its parts. */
static void split_position(struct outcome *o)
{
    const char *lua = strstr(o->message, ".lua:");

    if (!lua) {
        return;
    }
    char *end;
    guint64 line = g_ascii_strtoull(lua + 5, &end, 10);
    if (line > 0 && *end == ':' && !memchr(o->message, '\n', (size_t)(lua - o->message))) {
        o->script = g_strndup(o->message, (size_t)(lua - o->message) + 4);
        o->result.line = (unsigned)line;
        char *rest = g_strdup(end + (end[1] == ' ' ? 2 : 1));
        g_free(o->message);
        o->message = rest;
    }
}

static void take_error(lua_State *L, struct outcome *o)
{
    g_autofree char *kind = field(L, "kind");

    o->message = field(L, "message");
    if (!o->message) {
        o->message = g_strdup("an error that is a table without a message");
    }
    o->traceback = field(L, "traceback");
    if (g_strcmp0(kind, "skip") == 0) {
        o->result.outcome = REPORT_SKIPPED;
        return;
    }
    o->result.outcome = g_strcmp0(kind, "expect") == 0 ? REPORT_FAILED : REPORT_ERROR;
    o->expression = field(L, "expression");
    o->expected = field(L, "expected");
    o->actual = field(L, "actual");
    o->script = field(L, "script");
    g_autofree char *line = field(L, "line");
    o->result.line = line ? (unsigned)g_ascii_strtoull(line, NULL, 10) : 0;
    if (!o->script) {
        split_position(o);
    }
}

/* A request to stop ends every QEMU: what went wrong after it is no finding about a device. */
static void blame_interruption(const struct scenario *sc, struct outcome *o)
{
    bool is_cancelled = sc->options->is_cancelled && sc->options->is_cancelled();

    if (is_cancelled && o->result.outcome != REPORT_SKIPPED) {
        g_autofree char *seen = g_steal_pointer(&o->message);
        o->message = g_strdup_printf("interrupted; what the test saw of it: %s", seen);
        o->result.outcome = REPORT_ERROR;
    }
}

static void attach(struct outcome *o, char *name, char *text)
{
    g_ptr_array_add(o->texts, name);
    g_ptr_array_add(o->texts, text);
}

static void attach_evidence(struct scenario *sc, struct outcome *o)
{
    if (o->traceback) {
        attach(o, g_strdup("traceback"), g_strdup(o->traceback));
    }
    for (unsigned i = 0; session_nth_machine(sc->session, i); i++) {
        struct session_machine *m = session_nth_machine(sc->session, i);
        struct qemu *qemu = session_machine_qemu(m);
        if (!qemu) {
            continue;
        }
        char *log = qemu_log(qemu);
        if (log && *log) {
            attach(o, g_strdup_printf("%s: QEMU's log", session_machine_name(m)), log);
        } else {
            g_free(log);
        }
        attach(o, g_strdup_printf("%s: QEMU's command line", session_machine_name(m)),
               qemu_command_line(qemu));
    }
    sc_attach_traces(sc, o->texts);
}

void sc_run_cleanups(struct scenario *sc)
{
    while (sc->cleanups->len > 0) {
        struct scenario_cleanup c =
            g_array_index(sc->cleanups, struct scenario_cleanup, sc->cleanups->len - 1);
        g_array_set_size(sc->cleanups, sc->cleanups->len - 1);
        c.free(c.data);
    }
}

/* What a test declared beyond the file's own goes away with it. */
static void forget_declared(struct scenario *sc)
{
    for (guint i = 0; i < sc->machines->len; i++) {
        struct lua_machine *m = sc->machines->pdata[i];
        if (m->args->len > m->n_args_loaded) {
            g_ptr_array_set_size(m->args, (gint)m->n_args_loaded);
        }
        if (m->devices->len > m->n_devices_loaded) {
            g_ptr_array_set_size(m->devices, (gint)m->n_devices_loaded);
        }
    }
}

static void note_to_report(void *data, const char *line)
{
    report_note_once(((struct scenario *)data)->report, line);
}

static void machine_changed(void *data, struct session_machine *m, bool is_running)
{
    struct scenario *sc = data;

    if (sc->options->has_trace) {
        sc_trace_machine(sc, m, is_running);
    }
    if (sc->options->record_dir) {
        sc_record_machine(sc, m, is_running);
    }
}

static void run_test(struct scenario *sc, const struct scenario_test *t)
{
    lua_State *L = sc->L;
    unsigned timeout = t->timeout_ms                  ? t->timeout_ms
                       : sc->options->test_timeout_ms ? sc->options->test_timeout_ms
                                                      : DEFAULT_TEST_TIMEOUT_MS;
    struct outcome o = {.texts = g_ptr_array_new_with_free_func(g_free)};

    report_test_started(sc->report, t->name);
    sc->generation++;
    sc->in_test = true;
    sc->session = session_new(note_to_report, sc);
    session_set_machine_hook(sc->session, machine_changed, sc);
    sc->test_name = t->name;
    sc->deadline_us = g_get_monotonic_time() + (int64_t)timeout * 1000;
    lua_settop(L, 0);
    lua_pushcfunction(L, message_handler);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->function);
    o.result.outcome = REPORT_PASSED;
    if (lua_pcall(L, 0, 0, 1) != LUA_OK) {
        take_error(L, &o);
        blame_interruption(sc, &o);
    }
    lua_settop(L, 0);
    if (o.result.outcome == REPORT_FAILED || o.result.outcome == REPORT_ERROR) {
        attach_evidence(sc, &o);
    }
    sc->in_test = false;
    sc_run_cleanups(sc);
    session_free(g_steal_pointer(&sc->session));
    sc_drop_traces(sc);
    sc_drop_recordings(sc);
    forget_declared(sc);
    lua_gc(L, LUA_GCCOLLECT);

    o.result.message = o.message;
    o.result.expression = o.expression;
    o.result.expected = o.expected;
    o.result.actual = o.actual;
    o.result.script = o.script ? o.script : sc->path;
    if (o.result.line == 0) {
        o.result.line = t->line;
    }
    g_autofree struct report_attachment *attachments =
        g_new0(struct report_attachment, o.texts->len / 2 + 1);
    for (guint i = 0; i + 1 < o.texts->len; i += 2) {
        attachments[i / 2].name = o.texts->pdata[i];
        attachments[i / 2].text = o.texts->pdata[i + 1];
    }
    o.result.attachments = attachments;
    o.result.n_attachments = o.texts->len / 2;
    report_test_ended(sc->report, &o.result);
    g_ptr_array_unref(o.texts);
    g_free(o.message);
    g_free(o.expression);
    g_free(o.expected);
    g_free(o.actual);
    g_free(o.script);
    g_free(o.traceback);
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
        run_test(sc, chosen->pdata[i]);
    }
}

bool scenario_run_file(const char *path, const struct scenario_options *options,
                       struct report *report, GError **error)
{
    struct scenario sc = {
        .options = options,
        .report = report,
        .path = g_strdup(path),
        .tests = g_ptr_array_new_with_free_func(test_free),
        .machines = g_ptr_array_new(),
        .cleanups = g_array_new(FALSE, FALSE, sizeof(struct scenario_cleanup)),
        .traces = g_ptr_array_new(),
        .recordings = g_ptr_array_new(),
    };
    bool ok = open_state(&sc, error) && load_file(&sc, error);

    if (ok) {
        run_tests(&sc);
    }
    if (sc.L) {
        lua_close(sc.L);
    }
    g_ptr_array_unref(sc.tests);
    g_ptr_array_unref(sc.machines);
    g_ptr_array_unref(sc.traces);
    g_ptr_array_unref(sc.recordings);
    g_array_unref(sc.cleanups);
    g_free(sc.path);
    return ok;
}
