/*
 * TAP 14, as it happens. One flat line per test, "FILE: TEST": consumers that know no subtests
 * still count every test. The YAML keeps to what perl's small YAML reader understands too: quoted
 * strings, and literal blocks whose blank lines are indented like the rest.
 */
#include "harness/report/report.h"

#include <string.h>

/* Of each attachment, so that a failure stays readable; the files hold all of it. */
enum { TAP_ATTACHMENT_LINES = 60, TAP_NOT_RUN_LINES = 20 };

struct tap {
    struct report_sink sink;
    FILE *out;
    unsigned version;
    bool color;
    unsigned n; /* test lines so far */
};

/* "#" starts a directive, and "\" escapes (TAP 14, "Test Points"). */
static char *escape(const char *text)
{
    GString *out = g_string_new(NULL);
    for (; *text; text++) {
        if (*text == '#' || *text == '\\')
            g_string_append_c(out, '\\');
        g_string_append_c(out, *text);
    }
    return g_string_free(out, FALSE);
}

static void put_verdict(struct tap *tap, const char *word, unsigned color)
{
    if (tap->color)
        fprintf(tap->out, "\033[%um%s\033[0m", color, word);
    else
        fputs(word, tap->out);
}

static void put_quoted(struct tap *tap, const char *text)
{
    fputc('"', tap->out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', tap->out);
        if (*text == '\n')
            fputs("\\n", tap->out);
        else if (*text == '\t')
            fputs("\\t", tap->out);
        else
            fputc(*text, tap->out);
    }
    fputc('"', tap->out);
}

/* A literal block. The first line's own indentation would be taken for that of the block. */
static void put_block(struct tap *tap, const char *text, unsigned indent, unsigned max_lines)
{
    g_autofree char *copy = g_strchomp(g_strdup(text));
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);
    unsigned n = g_strv_length(lines), first = n > max_lines ? n - max_lines : 0;
    fputs("|\n", tap->out);
    if (first > 0)
        fprintf(tap->out, "%*s(%u earlier lines are in the result files)\n", (int)indent, "",
                first);
    else if (n > 0)
        g_strchug(lines[0]);
    for (unsigned i = first; i < n; i++)
        fprintf(tap->out, "%*s%s\n", (int)indent, "", lines[i]);
}

static void put_key(struct tap *tap, const char *key, const char *text)
{
    if (!text)
        return;
    fprintf(tap->out, "  %s: ", key);
    g_autofree char *body = g_strstrip(g_strdup(text));
    if (strchr(body, '\n'))
        put_block(tap, body, 4, G_MAXUINT);
    else
        put_quoted(tap, body);
    if (!strchr(body, '\n'))
        fputc('\n', tap->out);
}

static void put_attachments(struct tap *tap, const GPtrArray *attachments)
{
    bool is_first = true;
    for (guint i = 0; i < attachments->len; i++) {
        const struct report_text *a = attachments->pdata[i];
        g_autofree char *body = g_strstrip(g_strdup(a->text));
        if (a->only_in_files)
            continue;
        if (is_first)
            fputs("  attachments:\n", tap->out);
        is_first = false;
        fputs("    ", tap->out);
        put_quoted(tap, a->name);
        fputs(": ", tap->out);
        if (*body)
            put_block(tap, a->text, 6, TAP_ATTACHMENT_LINES);
        else
            fputs("\"\"\n", tap->out);
    }
}

static void put_diagnostic(struct tap *tap, const struct report_test *test)
{
    fputs("  ---\n", tap->out);
    put_key(tap, "message", test->message ? test->message : "no message");
    fprintf(tap->out, "  severity: %s\n", test->outcome == REPORT_ERROR ? "error" : "fail");
    if (test->script) {
        fputs("  at:\n    file: ", tap->out);
        put_quoted(tap, test->script);
        fputc('\n', tap->out);
        if (test->line)
            fprintf(tap->out, "    line: %u\n", test->line);
    }
    put_key(tap, "expression", test->expression);
    put_key(tap, "expected", test->expected);
    put_key(tap, "actual", test->actual);
    fprintf(tap->out, "  duration_ms: %.3f\n", (double)test->duration_us / 1000);
    put_attachments(tap, test->attachments);
    fputs("  ...\n", tap->out);
}

static void put_test(struct tap *tap, const struct report *r, const struct report_file *file,
                     const struct report_test *test)
{
    g_autofree char *title = report_title(r, file, test->name);
    g_autofree char *escaped = escape(title);
    bool failed = test->outcome == REPORT_FAILED || test->outcome == REPORT_ERROR;
    if (failed)
        put_verdict(tap, "not ok", 31);
    else
        put_verdict(tap, "ok", test->outcome == REPORT_SKIPPED ? 33 : 32);
    fprintf(tap->out, " %u - %s", ++tap->n, escaped);
    if (test->outcome == REPORT_SKIPPED) {
        g_autofree char *reason = report_clean_line(test->message ? test->message : "");
        g_autofree char *safe = escape(reason);
        fprintf(tap->out, " # SKIP%s%s", *safe ? " " : "", safe);
    }
    fputc('\n', tap->out);
    if (failed)
        put_diagnostic(tap, test);
}

static void put_broken(struct tap *tap, const struct report *r, const struct report_file *file,
                       const char *why)
{
    g_autofree char *title = report_title(r, file, NULL);
    g_autofree char *escaped = escape(title);
    put_verdict(tap, "not ok", 31);
    fprintf(tap->out, " %u - %s\n  ---\n", ++tap->n, escaped);
    put_key(tap, "message", why);
    fputs("  severity: error\n  ...\n", tap->out);
}

static void put_end(struct tap *tap, const struct report *r, const char *interruption)
{
    if (interruption) {
        g_autoptr(GPtrArray) not_run = report_not_run(r);
        for (guint i = 0; i < MIN(not_run->len, TAP_NOT_RUN_LINES); i++)
            fprintf(tap->out, "# not run: %s\n", (const char *)not_run->pdata[i]);
        if (not_run->len > TAP_NOT_RUN_LINES)
            fprintf(tap->out, "# not run: %u more\n", not_run->len - TAP_NOT_RUN_LINES);
        fprintf(tap->out, "Bail out! %s\n", interruption);
    } else {
        fprintf(tap->out, "1..%u%s\n", tap->n, tap->n ? "" : " # SKIP no tests");
    }
    g_autofree char *summary = report_summary(r);
    fprintf(tap->out, "%s\n", summary);
}

static void event(struct report_sink *sink, const struct report *r, enum report_event event,
                  const struct report_file *file, const struct report_test *test, const char *text)
{
    struct tap *tap = (struct tap *)sink;
    switch (event) {
    case REPORT_RUN_STARTED:
        fprintf(tap->out, "TAP version %u\n", tap->version);
        break;
    case REPORT_TEST_ENDED:
        put_test(tap, r, file, test);
        break;
    case REPORT_FILE_BROKEN:
        put_broken(tap, r, file, text);
        break;
    case REPORT_NOTE:
        fprintf(tap->out, "# %s\n", text);
        break;
    case REPORT_RUN_ENDED:
        put_end(tap, r, text);
        break;
    case REPORT_FILE_STARTED:
    case REPORT_TEST_STARTED:
    case REPORT_FILE_ENDED:
        break;
    }
    fflush(tap->out);
}

static void tap_free(struct report_sink *sink)
{
    g_free(sink);
}

struct report_sink *report_tap_new(FILE *out, unsigned version, bool color)
{
    struct tap *tap = g_new0(struct tap, 1);
    tap->sink = (struct report_sink){.event = event, .free = tap_free};
    tap->out = out;
    tap->version = version;
    tap->color = color;
    return &tap->sink;
}
