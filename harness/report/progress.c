/*
 * What runs right now, on one line of a terminal that is written over and taken away again before
 * anything else is printed.
 */
#include "harness/report/report.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct progress {
    struct report_sink sink;
    FILE *terminal;
    unsigned columns; /* 0: ask the terminal */
    bool is_shown;
};

static unsigned width(const struct progress *p)
{
    struct winsize size;
    if (p->columns)
        return p->columns;
    if (ioctl(fileno(p->terminal), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* Cuts `text` to `columns` cells: a wide character takes two, a combining one none. */
static void cut(GString *text, unsigned columns)
{
    unsigned used = 0;
    gsize fits = 0; /* bytes that leave room for the ellipsis */
    for (char *c = text->str; *c; c = g_utf8_next_char(c)) {
        gunichar u = g_utf8_get_char(c);
        unsigned cells = g_unichar_iszerowidth(u) ? 0 : g_unichar_iswide(u) ? 2 : 1;
        used += cells;
        if (used + 3 <= columns)
            fits = (gsize)(g_utf8_next_char(c) - text->str);
        if (used > columns) {
            g_string_truncate(text, fits);
            g_string_append(text, columns < 3 ? "" : "...");
            return;
        }
    }
}

static void hide(struct report_sink *sink)
{
    struct progress *p = (struct progress *)sink;
    if (p->is_shown) {
        fputs("\r\033[K", p->terminal);
        fflush(p->terminal);
    }
    p->is_shown = false;
}

static void show(struct progress *p, const struct report *r, const struct report_file *file)
{
    struct report_counts counts = report_counts(r);
    g_autofree char *title = report_title(r, file, file->running);
    GString *line = g_string_new(NULL);
    g_string_printf(line, "[%u done, %u failed] ", counts.passed + counts.failed + counts.skipped,
                    counts.failed);
    if (file->running && file->planned)
        g_string_append_printf(line, "%u/%u ", file->tests->len + 1, file->planned->len);
    g_string_append(line, title);
    cut(line, width(p) - 1); /* a full last column makes some terminals wrap */
    fprintf(p->terminal, "\r%s\033[K", line->str);
    fflush(p->terminal);
    g_string_free(line, TRUE);
    p->is_shown = true;
}

static void event(struct report_sink *sink, const struct report *r, enum report_event event,
                  const struct report_file *file, const struct report_test *test, const char *text)
{
    struct progress *p = (struct progress *)sink;
    (void)test;
    (void)text;
    if (file && event != REPORT_FILE_ENDED) {
        show(p, r, file);
    }
}

static void progress_free(struct report_sink *sink)
{
    hide(sink);
    g_free(sink);
}

struct report_sink *report_progress_new(FILE *terminal, unsigned columns)
{
    struct progress *p = g_new0(struct progress, 1);
    p->sink = (struct report_sink){.event = event, .hide = hide, .free = progress_free};
    p->terminal = terminal;
    p->columns = columns;
    return &p->sink;
}
