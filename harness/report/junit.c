/*
 * A run as JUnit XML, as CI servers read it: a suite per file, a case per test. Texts are clean
 * already (text.c), so that only XML's own characters are left to be escaped.
 */
#include "harness/report/report.h"

/* Line feeds and tabs of an attribute would be read as spaces. */
static void put_escaped(GString *xml, const char *text, bool in_attribute)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            g_string_append(xml, "&amp;");
            break;
        case '<':
            g_string_append(xml, "&lt;");
            break;
        case '>':
            g_string_append(xml, "&gt;");
            break;
        case '"':
            g_string_append(xml, "&quot;");
            break;
        case '\n':
        case '\t':
            if (in_attribute) {
                g_string_append_printf(xml, "&#%d;", *text);
                break;
            }
            /* fall through */
        default:
            g_string_append_c(xml, *text);
        }
    }
}

static void put_attribute(GString *xml, const char *name, const char *value)
{
    g_string_append_printf(xml, " %s=\"", name);
    put_escaped(xml, value, true);
    g_string_append_c(xml, '"');
}

static void put_counts(GString *xml, const struct report_counts *counts, int64_t duration_us)
{
    unsigned errors = counts->errors + counts->broken;
    g_string_append_printf(xml, " tests=\"%u\" failures=\"%u\" errors=\"%u\" skipped=\"%u\"",
                           counts->passed + counts->failed + counts->skipped,
                           counts->failed - errors, errors, counts->skipped);
    char seconds[G_ASCII_DTOSTR_BUF_SIZE];
    g_ascii_formatd(seconds, sizeof seconds, "%.6f", (double)duration_us / 1e6);
    g_string_append_printf(xml, " time=\"%s\"", seconds);
}

static void put_line(GString *xml, const char *label, const char *value)
{
    if (!value)
        return;
    put_escaped(xml, label, false);
    put_escaped(xml, value, false);
    g_string_append_c(xml, '\n');
}

static void put_failure(GString *xml, const struct report_test *test)
{
    const char *element = test->outcome == REPORT_ERROR ? "error" : "failure";
    g_string_append_printf(xml, "      <%s", element);
    put_attribute(xml, "message", test->message ? test->message : "");
    put_attribute(xml, "type", element);
    g_string_append_c(xml, '>');
    if (test->script) {
        put_escaped(xml, test->script, false);
        g_string_append_printf(xml, ":%u: ", test->line);
    }
    put_line(xml, "", test->message);
    put_line(xml, "expression: ", test->expression);
    put_line(xml, "expected:   ", test->expected);
    put_line(xml, "actual:     ", test->actual);
    g_string_append_printf(xml, "</%s>\n", element);
}

static void put_attachments(GString *xml, const GPtrArray *attachments)
{
    if (attachments->len == 0)
        return;
    g_string_append(xml, "      <system-out>");
    for (guint i = 0; i < attachments->len; i++) {
        const struct report_text *a = attachments->pdata[i];
        put_line(xml, "---- ", a->name);
        put_line(xml, "", a->text);
    }
    g_string_append(xml, "</system-out>\n");
}

static void put_case(GString *xml, const char *class_name, const struct report_test *test)
{
    char seconds[G_ASCII_DTOSTR_BUF_SIZE];
    g_ascii_formatd(seconds, sizeof seconds, "%.6f", (double)test->duration_us / 1e6);
    g_string_append(xml, "    <testcase");
    put_attribute(xml, "classname", class_name);
    put_attribute(xml, "name", test->name);
    if (test->script)
        put_attribute(xml, "file", test->script);
    if (test->line)
        g_string_append_printf(xml, " line=\"%u\"", test->line);
    g_string_append_printf(xml, " time=\"%s\">\n", seconds);
    if (test->outcome == REPORT_SKIPPED) {
        g_string_append(xml, "      <skipped");
        put_attribute(xml, "message", test->message ? test->message : "");
        g_string_append(xml, "/>\n");
    } else if (test->outcome != REPORT_PASSED) {
        put_failure(xml, test);
    }
    put_attachments(xml, test->attachments);
    g_string_append(xml, "    </testcase>\n");
}

static void put_suite(GString *xml, const struct report *r, const struct report_file *file)
{
    g_autofree char *title = report_title(r, file, NULL);
    struct report_counts counts = report_file_counts(file);
    g_string_append(xml, "  <testsuite");
    put_attribute(xml, "name", title);
    put_counts(xml, &counts, file->duration_us);
    g_string_append(xml, ">\n");
    for (guint i = 0; i < file->tests->len; i++)
        put_case(xml, title, file->tests->pdata[i]);
    if (file->broken) {
        g_string_append(xml, "    <testcase");
        put_attribute(xml, "classname", title);
        g_string_append(xml, " name=\"(the scenario itself)\">\n      <error");
        put_attribute(xml, "message", file->broken);
        g_string_append(xml, " type=\"broken\"/>\n    </testcase>\n");
    }
    g_string_append(xml, "  </testsuite>\n");
}

char *report_junit(const struct report *r)
{
    const GPtrArray *files = report_files(r);
    struct report_counts counts = report_counts(r);
    g_autofree char *started = g_date_time_format(report_started(r), "%Y-%m-%dT%H:%M:%SZ");
    GString *xml = g_string_new("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites");
    put_attribute(xml, "name", "ringlab");
    put_counts(xml, &counts, report_duration_us(r));
    put_attribute(xml, "timestamp", started);
    g_string_append(xml, ">\n");
    for (guint i = 0; i < files->len; i++)
        put_suite(xml, r, files->pdata[i]);
    g_string_append(xml, "</testsuites>\n");
    return g_string_free(xml, FALSE);
}
