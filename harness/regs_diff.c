/*
 * Comparing two snapshots as text. A snapshot is paragraphs: a line that names something, and
 * indented lines that say what it does. Paragraphs are matched by the first word of their name.
 */
#include "harness/regs.h"

#include <string.h>

struct paragraph {
    char *key;        /* "common.queue_size"; "" for the head */
    GPtrArray *lines; /* char *, all of its lines */
};

static void paragraph_free(gpointer data)
{
    struct paragraph *p = data;

    g_free(p->key);
    g_ptr_array_unref(p->lines);
    g_free(p);
}

static char *key_of(const char *line)
{
    const char *end = strstr(line, " +0x");

    return end ? g_strndup(line, (gsize)(end - line)) : g_strdup(line);
}

static GPtrArray *split(const char *text)
{
    GPtrArray *paragraphs = g_ptr_array_new_with_free_func(paragraph_free);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    struct paragraph *p = NULL;

    for (char **line = lines; *line; line++) {
        if (**line == '#')
            continue;
        if (**line == '\0') {
            p = NULL;
            continue;
        }
        if (!p) {
            p = g_new0(struct paragraph, 1);
            p->key = paragraphs->len ? key_of(*line) : g_strdup("");
            p->lines = g_ptr_array_new_with_free_func(g_free);
            g_ptr_array_add(paragraphs, p);
        }
        g_ptr_array_add(p->lines, g_strdup(*line));
    }
    return paragraphs;
}

static struct paragraph *find(GPtrArray *paragraphs, const char *key)
{
    for (guint i = 0; i < paragraphs->len; i++) {
        struct paragraph *p = paragraphs->pdata[i];
        if (strcmp(p->key, key) == 0)
            return p;
    }
    return NULL;
}

static bool has_line(const struct paragraph *p, const char *line)
{
    for (guint i = 0; p && i < p->lines->len; i++)
        if (strcmp(p->lines->pdata[i], line) == 0)
            return true;
    return false;
}

static bool is_same(const struct paragraph *a, const struct paragraph *b)
{
    bool same = a->lines->len == b->lines->len;

    for (guint i = 0; same && i < a->lines->len; i++)
        same = strcmp(a->lines->pdata[i], b->lines->pdata[i]) == 0;
    return same;
}

/* Lines of `p` that `other` (or NULL) does not have. */
static void put_lines(GString *text, char sign, const struct paragraph *p,
                      const struct paragraph *other)
{
    for (guint i = 0; p && i < p->lines->len; i++)
        if (!has_line(other, p->lines->pdata[i]))
            g_string_append_printf(text, "%c %s\n", sign, (const char *)p->lines->pdata[i]);
}

static void put_difference(GString *text, const struct paragraph *before,
                           const struct paragraph *after)
{
    const struct paragraph *named = before ? before : after;
    gsize start;

    g_string_append_printf(text, "%s\n", *named->key ? named->key : "(head)");
    start = text->len;
    put_lines(text, '-', before, after);
    put_lines(text, '+', after, before);
    if (text->len == start)
        g_string_append(text, "  the same lines in another order or number\n");
}

static bool is_snapshot(const char *text, const char *which, GError **error)
{
    g_autofree char *device = regs_header(text, "device");

    if (device)
        return true;
    g_set_error(error, REGS_ERROR, REGS_ERROR_FORMAT,
                "the %s text is no register snapshot: it has no line 'device'", which);
    return false;
}

char *regs_diff(const char *before, const char *after, GError **error)
{
    if (!is_snapshot(before, "first", error) || !is_snapshot(after, "second", error))
        return NULL;
    g_autoptr(GPtrArray) old = split(before), new = split(after);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < old->len; i++) {
        const struct paragraph *p = old->pdata[i], *q = find(new, p->key);
        if (!q || !is_same(p, q))
            put_difference(text, p, q);
    }
    for (guint i = 0; i < new->len; i++) {
        const struct paragraph *q = new->pdata[i];
        if (!find(old, q->key))
            put_difference(text, NULL, q);
    }
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

char *regs_header(const char *snapshot, const char *key)
{
    g_auto(GStrv) lines = g_strsplit(snapshot, "\n", -1);
    size_t len = strlen(key);

    for (char **line = lines; *line && **line; line++)
        if (strncmp(*line, key, len) == 0 && (*line)[len] == ' ')
            return g_strdup(g_strstrip(*line + len));
    return NULL;
}
