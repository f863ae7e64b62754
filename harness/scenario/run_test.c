/*
 * One test: a fresh session, the script's function within its deadline, what came out of it, and
 * everything it made gone.
 */
#include "harness/scenario/lua_host.h"

#include <string.h>

enum { DEFAULT_TEST_TIMEOUT_MS = 30000, MAX_TEXT = 4000 };

struct outcome {
    struct report_result result;
    char *message, *expression, *expected, *actual, *script, *traceback;
    GPtrArray *texts;         /* char *: name, text, name, text ... */
    GPtrArray *command_lines; /* the same */
};

/* ---- the verdict ---- */

/* A text of the error table at the top, cut to what a report can show. */
static char *field(lua_State *L, const char *name)
{
    size_t len;

    lua_getfield(L, -1, name);
    const char *text = lua_tolstring(L, -1, &len);
    char *copy = NULL;
    if (text && len > MAX_TEXT) {
        copy = g_strdup_printf("%.*s ... (%zu bytes)", MAX_TEXT, text, len);
    } else if (text) {
        copy = g_strdup(text);
    }
    lua_pop(L, 1);
    return copy;
}

static void take_error(struct scenario *sc, int status, struct outcome *o)
{
    lua_State *L = sc->L;

    o->result.outcome = REPORT_ERROR;
    if (!lua_istable(L, -1)) { /* the message handler was not called, or could not end */
        o->message = status == LUA_ERRMEM
                         ? g_strdup_printf("not enough memory: a scenario may use %u MiB in Lua",
                                           guard_memory_mib(sc->guard))
                         : g_strdup_printf("an error while another one was handled: %s",
                                           lua_tostring(L, -1));
        return;
    }
    g_autofree char *kind = field(L, "kind");
    g_autofree char *line = field(L, "line");
    o->message = field(L, "message");
    if (g_strcmp0(kind, "skip") == 0) {
        o->result.outcome = REPORT_SKIPPED;
        return;
    }
    if (g_strcmp0(kind, "expect") == 0) {
        o->result.outcome = REPORT_FAILED;
    }
    o->traceback = field(L, "traceback");
    o->expression = field(L, "expression");
    o->expected = field(L, "expected");
    o->actual = field(L, "actual");
    o->script = field(L, "script");
    o->result.line = line ? (unsigned)g_ascii_strtoull(line, NULL, 10) : 0;
}

static void put_before(struct outcome *o, const char *text)
{
    g_autofree char *seen = g_steal_pointer(&o->message);

    o->message = seen ? g_strdup_printf("%s: %s", text, seen) : g_strdup(text);
    o->result.outcome = REPORT_ERROR;
}

/* A request to stop ends every QEMU: what went wrong after it is no finding about a device. A test
 * that is over its deadline has failed, whatever it made of the errors that told it so; those of
 * waits that were cut short do not say why. */
static void blame_guard(const struct scenario *sc, struct outcome *o)
{
    const char *text = guard_text(sc->guard);

    if (o->result.outcome == REPORT_SKIPPED) {
        return;
    }
    if (sc->options->is_cancelled && sc->options->is_cancelled()) {
        put_before(o, o->message ? "interrupted; what the test saw of it" : "interrupted");
    } else if (guard_is_over(sc->guard) && !(o->message && strstr(o->message, text))) {
        put_before(o, text);
    }
}

static bool is_death_known(const struct scenario *sc, const struct session_machine *m)
{
    for (guint i = 0; i < sc->machines->len; i++) {
        const struct lua_machine *lm = sc->machines->pdata[i];
        if (lm->generation == sc->generation && lm->machine == m && lm->is_death_known) {
            return true;
        }
    }
    return false;
}

/* The last thing a test did may have ended its QEMU, and nobody has looked since. */
static void check_survivors(struct scenario *sc, struct outcome *o)
{
    for (unsigned i = 0; session_nth_machine(sc->session, i); i++) {
        struct session_machine *m = session_nth_machine(sc->session, i);
        g_autoptr(GError) error = NULL;
        if (!session_machine_is_started(m) || is_death_known(sc, m)) {
            continue;
        }
        if (sc->options->record_dir) {
            sc_record_machine(sc, m, false); /* this is no part of the test */
        }
        if (machine_barrier(session_machine_machine(m), &error)) {
            continue;
        }
        g_autofree char *text =
            g_strdup_printf("machine '%s' did not survive the test", session_machine_name(m));
        o->message = g_strdup(error->message);
        put_before(o, text);
        return;
    }
}

/* A QEMU that ended behind the back of a test explains what the test found instead, such as memory
 * that does not change any more. */
static void add_deaths(struct scenario *sc, struct outcome *o)
{
    for (unsigned i = 0; session_nth_machine(sc->session, i); i++) {
        struct session_machine *m = session_nth_machine(sc->session, i);
        struct qemu *qemu = session_machine_qemu(m);
        g_autofree char *reason = NULL;
        if (!qemu || is_death_known(sc, m) || qemu_is_alive(qemu, &reason)) {
            continue;
        }
        g_autofree char *seen = g_steal_pointer(&o->message);
        o->message = g_strdup_printf("%s; QEMU %s %s", seen, session_machine_name(m), reason);
    }
}

bool sc_machine_has_ended(struct scenario *sc)
{
    for (unsigned i = 0; sc->session && session_nth_machine(sc->session, i); i++) {
        struct session_machine *m = session_nth_machine(sc->session, i);
        struct qemu *qemu = session_machine_qemu(m);
        g_autofree char *reason = NULL;
        if (qemu && !is_death_known(sc, m) && !qemu_is_alive(qemu, &reason)) {
            return true;
        }
    }
    return false;
}

/* ---- evidence ---- */

static void attach(GPtrArray *texts, char *name, char *text)
{
    if (text && *text) {
        g_ptr_array_add(texts, name);
        g_ptr_array_add(texts, text);
    } else {
        g_free(name);
        g_free(text);
    }
}

static void attach_evidence(struct scenario *sc, struct outcome *o)
{
    attach(o->texts, g_strdup("traceback"), g_steal_pointer(&o->traceback));
    for (unsigned i = 0; session_nth_machine(sc->session, i); i++) {
        struct session_machine *m = session_nth_machine(sc->session, i);
        const char *name = session_machine_name(m);
        struct qemu *qemu = session_machine_qemu(m);
        if (qemu) {
            attach(o->texts, g_strdup_printf("%s: QEMU's log", name), qemu_log(qemu));
            attach(o->command_lines, g_strdup_printf("%s: QEMU's command line", name),
                   qemu_command_line(qemu));
        }
    }
    sc_attach_traces(sc, o->texts);
}

/* ---- running ---- */

/* What a test declared beyond the file's own goes away with it. */
static void forget_declared(struct scenario *sc)
{
    for (guint i = 0; i < sc->machines->len; i++) {
        struct lua_machine *m = sc->machines->pdata[i];
        g_ptr_array_set_size(m->args, (gint)MIN(m->args->len, m->n_args_loaded));
        g_ptr_array_set_size(m->devices, (gint)MIN(m->devices->len, m->n_devices_loaded));
        g_ptr_array_set_size(m->netdevs, (gint)MIN(m->netdevs->len, m->n_netdevs_loaded));
        sc_close_netdevs(m);
    }
}

static void on_note(void *data, const char *line)
{
    sc_note_once(data, line);
}

static void on_machine(void *data, struct session_machine *m, bool is_running)
{
    struct scenario *sc = data;

    if (!is_running) {
        sc_end_all(sc, m);
    }
    if (sc->options->has_trace) {
        sc_trace_machine(sc, m, is_running);
    }
    if (sc->options->record_dir) {
        sc_record_machine(sc, m, is_running);
    }
}

static void begin(struct scenario *sc, const struct scenario_test *t)
{
    unsigned timeout_ms = t->timeout_ms                  ? t->timeout_ms
                          : sc->options->test_timeout_ms ? sc->options->test_timeout_ms
                                                         : DEFAULT_TEST_TIMEOUT_MS;

    sc->generation++;
    sc->in_test = true;
    sc->is_death_told = false;
    sc->test_name = t->name;
    sc->session = session_new(on_note, sc);
    session_set_machine_hook(sc->session, on_machine, sc);
    session_set_cancel_fd(sc->session, guard_fd(sc->guard));
    guard_set_deadline(sc->guard, "the test", timeout_ms);
}

static void end(struct scenario *sc)
{
    sc->in_test = false;
    sc_end_all(sc, NULL);
    session_free(g_steal_pointer(&sc->session)); /* and devices that hold netmap ports */
    sc_free_hosts(sc);
    sc_drop_traces(sc);
    sc_drop_recordings(sc);
    forget_declared(sc);
    lua_gc(sc->L, LUA_GCCOLLECT); /* with the finalizers of scripts: still watched */
    guard_set_deadline(sc->guard, "", 0);
}

static void add_attachments(GArray *to, const GPtrArray *texts, bool only_in_files)
{
    for (guint i = 0; i + 1 < texts->len; i += 2) {
        struct report_attachment a = {texts->pdata[i], texts->pdata[i + 1], only_in_files};
        g_array_append_val(to, a);
    }
}

static void report(struct scenario *sc, const struct scenario_test *t, struct outcome *o)
{
    g_autoptr(GArray) attachments = g_array_new(FALSE, FALSE, sizeof(struct report_attachment));

    o->result.message = o->message;
    o->result.expression = o->expression;
    o->result.expected = o->expected;
    o->result.actual = o->actual;
    o->result.script = o->script ? o->script : sc->path;
    if (o->result.line == 0) {
        o->result.line = t->line;
    }
    add_attachments(attachments, o->texts, false);
    add_attachments(attachments, o->command_lines, true);
    o->result.attachments = (const struct report_attachment *)(const void *)attachments->data;
    o->result.n_attachments = attachments->len;
    report_test_ended(sc->report, &o->result);
}

void sc_run_test(struct scenario *sc, const struct scenario_test *t)
{
    lua_State *L = sc->L;
    struct outcome o = {.texts = g_ptr_array_new_with_free_func(g_free),
                        .command_lines = g_ptr_array_new_with_free_func(g_free)};

    report_test_started(sc->report, t->name);
    begin(sc, t);
    lua_settop(L, 0);
    lua_pushcfunction(L, sc_message_handler);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->function);
    o.result.outcome = REPORT_PASSED;
    int status = lua_pcall(L, 0, 0, 1);
    if (status != LUA_OK) {
        take_error(sc, status, &o);
    }
    blame_guard(sc, &o);
    if (o.result.outcome == REPORT_PASSED && !sc->is_death_told) {
        check_survivors(sc, &o);
    }
    lua_settop(L, 0);
    bool has_failed = o.result.outcome == REPORT_FAILED || o.result.outcome == REPORT_ERROR;
    if (has_failed && !sc->is_death_told) {
        add_deaths(sc, &o);
    }
    if (has_failed) {
        attach_evidence(sc, &o);
    }
    end(sc);
    report(sc, t, &o);
    g_ptr_array_unref(o.texts);
    g_ptr_array_unref(o.command_lines);
    g_free(o.message);
    g_free(o.expression);
    g_free(o.expected);
    g_free(o.actual);
    g_free(o.script);
    g_free(o.traceback);
}
