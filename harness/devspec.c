/*
 * The text form of a device, as QEMU's -device takes it.
 */
#include "harness/devspec.h"

#include <string.h>

G_DEFINE_QUARK(ringlab_devspec_error, devspec_error)

static void free_property(gpointer data)
{
    struct devspec_property *property = data;
    g_free(property->key);
    g_free(property->value);
    g_free(property);
}

/* Cuts the next part off *rest: up to a single comma, ",," being one comma of the text. */
static char *next_part(const char **rest)
{
    GString *part = g_string_new(NULL);
    const char *p = *rest;
    while (*p) {
        if (*p == ',' && p[1] != ',')
            break;
        if (*p == ',')
            p++;
        g_string_append_c(part, *p++);
    }
    *rest = *p ? p + 1 : NULL;
    return g_string_free(part, FALSE);
}

/* Letters, digits, '-', '_', '.': what QEMU's names and property names are made of. */
static bool is_word(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("-_.+[]", *p))
            return false;
    }
    return *text != '\0';
}

static bool fail(GError **error, const char *text, const char *why)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_autofree char *shown = g_strescape(valid, "\"");
    g_set_error(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID,
                "device \"%s\": %s; devices are written as for QEMU's -device: "
                "NAME,PROPERTY=VALUE,...",
                shown, why);
    return false;
}

static bool take_part(struct devspec *spec, const char *text, const char *part, bool is_first,
                      GError **error)
{
    const char *equals = strchr(part, '=');
    g_autofree char *key = equals ? g_strndup(part, (gsize)(equals - part)) : g_strdup(part);
    if (!is_word(key))
        return fail(error, text, *key ? "a name in it cannot be" : "a part of it is empty");
    if (is_first && !equals) {
        spec->driver = g_steal_pointer(&key);
        return true;
    }
    const char *value = equals ? equals + 1 : "on";
    if (g_str_equal(key, "driver") && !spec->driver) {
        if (!is_word(value))
            return fail(error, text, "its name cannot be");
        spec->driver = g_strdup(value);
    } else if (devspec_get(spec, key)) {
        return fail(error, text, "a property is given twice");
    } else {
        devspec_set(spec, key, value);
    }
    return true;
}

struct devspec *devspec_parse(const char *text, GError **error)
{
    g_autoptr(devspec) spec = g_new0(struct devspec, 1);
    spec->properties = g_ptr_array_new_with_free_func(free_property);
    if (*text == '{') {
        fail(error, text, "the JSON form is not understood");
        return NULL;
    }
    bool is_first = true;
    for (const char *rest = text; rest; is_first = false) {
        g_autofree char *part = next_part(&rest);
        if (!take_part(spec, text, part, is_first, error))
            return NULL;
    }
    if (!spec->driver) {
        fail(error, text, "it names no device");
        return NULL;
    }
    return g_steal_pointer(&spec);
}

void devspec_free(struct devspec *spec)
{
    if (!spec)
        return;
    g_free(spec->driver);
    g_free(spec->id);
    g_ptr_array_unref(spec->properties);
    g_free(spec);
}

static struct devspec_property *find(const struct devspec *spec, const char *key)
{
    for (guint i = 0; i < spec->properties->len; i++) {
        struct devspec_property *property = g_ptr_array_index(spec->properties, i);
        if (g_str_equal(property->key, key))
            return property;
    }
    return NULL;
}

const char *devspec_get(const struct devspec *spec, const char *key)
{
    if (g_str_equal(key, "id"))
        return spec->id;
    const struct devspec_property *property = find(spec, key);
    return property ? property->value : NULL;
}

void devspec_set(struct devspec *spec, const char *key, const char *value)
{
    if (g_str_equal(key, "id")) {
        g_free(spec->id);
        spec->id = g_strdup(value);
        return;
    }
    struct devspec_property *property = find(spec, key);
    if (!value) {
        if (property)
            g_ptr_array_remove(spec->properties, property);
        return;
    }
    if (!property) {
        property = g_new0(struct devspec_property, 1);
        property->key = g_strdup(key);
        g_ptr_array_add(spec->properties, property);
    }
    g_free(property->value);
    property->value = g_strdup(value);
}

static void append_property(GString *text, const char *key, const char *value)
{
    g_string_append_printf(text, ",%s=", key);
    for (const char *p = value; *p; p++) {
        if (*p == ',')
            g_string_append_c(text, ',');
        g_string_append_c(text, *p);
    }
}

char *devspec_to_arg(const struct devspec *spec)
{
    GString *text = g_string_new(spec->driver);
    if (spec->id)
        append_property(text, "id", spec->id);
    for (guint i = 0; i < spec->properties->len; i++) {
        const struct devspec_property *property = g_ptr_array_index(spec->properties, i);
        append_property(text, property->key, property->value);
    }
    return g_string_free(text, FALSE);
}

JsonNode *devspec_to_json(const struct devspec *spec)
{
    JsonObject *object = json_object_new();
    json_object_set_string_member(object, "driver", spec->driver);
    if (spec->id)
        json_object_set_string_member(object, "id", spec->id);
    for (guint i = 0; i < spec->properties->len; i++) {
        const struct devspec_property *property = g_ptr_array_index(spec->properties, i);
        json_object_set_string_member(object, property->key, property->value);
    }
    JsonNode *node = json_node_init_object(json_node_alloc(), object);
    json_object_unref(object);
    return node;
}

bool devspec_parse_size(const char *text, uint64_t *bytes, GError **error)
{
    static const char suffixes[] = "KMGT";
    char *end = NULL;
    guint64 number = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 0) : 0;
    const char *suffix = end && *end ? strchr(suffixes, g_ascii_toupper(*end)) : NULL;
    unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
    bool has_junk = !end || (suffix ? end[1] != '\0' : *end != '\0');
    if (has_junk || number == 0 || number > (G_MAXUINT64 >> 1) >> shift) {
        g_set_error(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID,
                    "\"%s\" is no size; sizes are written as 4096, 64K, 4M or 1G", text);
        return false;
    }
    *bytes = number << shift;
    return true;
}
