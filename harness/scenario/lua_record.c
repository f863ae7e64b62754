/*
 * Transcripts of a run: everything that went over the qtest socket of each machine of each test, in
 * the form that qtest_replay_new() plays. Written while it happens.
 */
#include "harness/scenario/lua_scenario.h"

#include <errno.h>
#include <string.h>

struct recording {
    struct session_machine *machine;
    unsigned n_starts; /* of its QEMU in this test: each gets a file */
    char *path;
    FILE *file; /* NULL while it does not run */
};

static struct recording *find(struct scenario *sc, struct session_machine *m)
{
    for (guint i = 0; i < sc->recordings->len; i++) {
        struct recording *r = sc->recordings->pdata[i];
        if (r->machine == m) {
            return r;
        }
    }
    struct recording *r = g_new0(struct recording, 1);
    r->machine = m;
    g_ptr_array_add(sc->recordings, r);
    return r;
}

/* "handshake.writing zero resets.m1.qtest", with nothing in it that a shell would take apart. */
static char *file_name(const struct scenario *sc, const struct recording *r)
{
    static const char kept[] = G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._";
    g_autofree char *script = g_path_get_basename(sc->path);
    GString *name = g_string_new(script);

    if (g_str_has_suffix(script, ".lua")) {
        g_string_truncate(name, name->len - strlen(".lua"));
    }
    g_string_append_printf(name, ".%.120s.%s", sc->test_name, session_machine_name(r->machine));
    if (r->n_starts > 1) {
        g_string_append_printf(name, ".%u", r->n_starts);
    }
    g_string_append(name, ".qtest");
    return g_strcanon(g_string_free(name, FALSE), kept, '-');
}

static void complain(struct scenario *sc, const struct recording *r, const char *doing)
{
    g_autofree char *text =
        g_strdup_printf("not recorded: %s %s: %s", doing, r->path, g_strerror(errno));
    sc_note_once(sc, text);
}

static void begin(struct scenario *sc, struct recording *r)
{
    struct qemu *qemu = session_machine_qemu(r->machine);

    r->n_starts++;
    g_autofree char *name = file_name(sc, r);
    g_free(r->path);
    r->path = g_build_filename(sc->options->record_dir, name, NULL);
    r->file = fopen(r->path, "we");
    if (!r->file) {
        complain(sc, r, "making");
        return;
    }
    g_autofree char *command_line = qemu_command_line(qemu);
    fprintf(r->file, "# %s: %s\n# %s\n", sc->path, sc->test_name, command_line);
    qtest_record(qemu_qtest(qemu), r->file);
}

static void end(struct scenario *sc, struct recording *r)
{
    if (!r->file) {
        return;
    }
    qtest_record(qemu_qtest(session_machine_qemu(r->machine)), NULL);
    bool has_failed = ferror(r->file);
    has_failed |= fclose(r->file) != 0;
    r->file = NULL;
    if (has_failed) {
        complain(sc, r, "writing");
    }
}

void sc_record_machine(struct scenario *sc, struct session_machine *m, bool is_running)
{
    struct recording *r = find(sc, m);

    if (is_running) {
        begin(sc, r);
    } else {
        end(sc, r);
    }
}

void sc_drop_recordings(struct scenario *sc)
{
    for (guint i = 0; i < sc->recordings->len; i++) {
        struct recording *r = sc->recordings->pdata[i];
        g_free(r->path);
        g_free(r);
    }
    g_ptr_array_set_size(sc->recordings, 0);
}
