/*
 * A run as one JSON object, and the files a run leaves behind.
 */
#include "harness/report/report.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <unistd.h>

static const char *const outcome_names[] = {
    [REPORT_PASSED] = "passed",
    [REPORT_FAILED] = "failed",
    [REPORT_SKIPPED] = "skipped",
    [REPORT_ERROR] = "error",
};

static void add_string(JsonBuilder *b, const char *name, const char *value)
{
    if (!value)
        return;
    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, value);
}

static void add_int(JsonBuilder *b, const char *name, int64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, value);
}

static void add_test(JsonBuilder *b, const struct report_test *test)
{
    json_builder_begin_object(b);
    add_string(b, "name", test->name);
    add_string(b, "outcome", outcome_names[test->outcome]);
    add_int(b, "duration_us", test->duration_us);
    add_string(b, "message", test->message);
    add_string(b, "script", test->script);
    if (test->line)
        add_int(b, "line", test->line);
    add_string(b, "expression", test->expression);
    add_string(b, "expected", test->expected);
    add_string(b, "actual", test->actual);
    if (test->attachments->len > 0) {
        json_builder_set_member_name(b, "attachments");
        json_builder_begin_array(b);
        for (guint i = 0; i < test->attachments->len; i++) {
            const struct report_text *a = test->attachments->pdata[i];
            json_builder_begin_object(b);
            add_string(b, "name", a->name);
            add_string(b, "text", a->text);
            json_builder_end_object(b);
        }
        json_builder_end_array(b);
    }
    json_builder_end_object(b);
}

static void add_file(JsonBuilder *b, const struct report_file *file)
{
    json_builder_begin_object(b);
    add_string(b, "path", file->path);
    add_int(b, "round", file->round);
    add_int(b, "duration_us", file->duration_us);
    add_string(b, "broken", file->broken);
    json_builder_set_member_name(b, "tests");
    json_builder_begin_array(b);
    for (guint i = 0; i < file->tests->len; i++)
        add_test(b, file->tests->pdata[i]);
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static void add_run(JsonBuilder *b, const struct report *r)
{
    const GPtrArray *files = report_files(r);
    struct report_counts counts = report_counts(r);
    g_autofree char *started = g_date_time_format(report_started(r), "%Y-%m-%dT%H:%M:%SZ");
    add_string(b, "ringlab", RINGLAB_VERSION);
    add_string(b, "started", started);
    add_int(b, "duration_us", report_duration_us(r));
    add_int(b, "passed", counts.passed);
    add_int(b, "failed", counts.failed);
    add_int(b, "skipped", counts.skipped);
    add_int(b, "errors", counts.errors);
    add_int(b, "broken", counts.broken);
    add_string(b, "interruption", report_interruption(r));
    json_builder_set_member_name(b, "files");
    json_builder_begin_array(b);
    for (guint i = 0; i < files->len; i++)
        add_file(b, files->pdata[i]);
    json_builder_end_array(b);
    g_autoptr(GPtrArray) not_run = report_not_run(r);
    json_builder_set_member_name(b, "not_run");
    json_builder_begin_array(b);
    for (guint i = 0; i < not_run->len; i++)
        json_builder_add_string_value(b, not_run->pdata[i]);
    json_builder_end_array(b);
}

char *report_json(const struct report *r)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    json_builder_begin_object(b);
    add_run(b, r);
    json_builder_end_object(b);
    g_autoptr(JsonNode) root = json_builder_get_root(b);
    g_autofree char *text = json_to_string(root, TRUE);
    return g_strconcat(text, "\n", NULL);
}

static bool write_file(const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    /* Written beside it and renamed: a reader or a second run never sees half a file. */
    return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0644, error);
}

bool report_prepare(const char *dir, GError **error)
{
    if (g_mkdir_with_parents(dir, 0777) == 0 && g_access(dir, W_OK | X_OK) == 0)
        return true;
    int code = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code),
                "cannot write results to '%s': %s; choose another folder with --results", dir,
                g_strerror(code));
    return false;
}

bool report_write(const struct report *r, const char *dir, GError **error)
{
    g_autofree char *junit = report_junit(r);
    g_autofree char *json = report_json(r);
    return report_prepare(dir, error) && write_file(dir, "junit.xml", junit, error) &&
           write_file(dir, "run.json", json, error);
}
