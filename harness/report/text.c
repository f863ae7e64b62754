/*
 * Texts of a report, made fit for XML, JSON, TAP and a terminal once, when they come in.
 */
#include "harness/report/report.h"

#include <string.h>

/* XML 1.0 forbids C0 controls and U+FFFE/FFFF; C1 controls and DEL would steer a terminal. */
static bool is_plain(gunichar c)
{
    if (c < 0x20)
        return c == '\t' || c == '\n';
    return !(c >= 0x7f && c <= 0x9f) && (c & 0xfffe) != 0xfffe;
}

char *report_clean(const char *text)
{
    GString *out = g_string_new(NULL);
    while (*text) {
        gunichar c = g_utf8_get_char_validated(text, -1);
        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append_printf(out, "\\x%02x", (guchar)*text++);
            continue;
        }
        const char *next = text + g_unichar_to_utf8(c, NULL);
        if (is_plain(c))
            g_string_append_len(out, text, next - text);
        else if (c < 0x80)
            g_string_append_printf(out, "\\x%02x", c);
        else
            g_string_append_printf(out, "\\u{%x}", c);
        text = next;
    }
    return g_string_free(out, FALSE);
}

char *report_clean_line(const char *text)
{
    char *clean = report_clean(text);
    return g_strstrip(g_strdelimit(clean, "\n\t", ' '));
}
