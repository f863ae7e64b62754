/*
 * A device as a command line or a script names it, "virtio-net-pci,mrg_rxbuf=off": parsing,
 * changing and printing it. Not here: what QEMU must be given beside it (devneeds.h).
 */
#ifndef RINGLAB_DEVSPEC_H
#define RINGLAB_DEVSPEC_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#define DEVSPEC_ERROR (devspec_error_quark())
GQuark devspec_error_quark(void);

enum devspec_error {
    DEVSPEC_ERROR_INVALID, /* the text is no device, or a property cannot be */
};

struct devspec_property {
    char *key, *value;
};

struct devspec {
    char *driver;          /* "virtio-net-pci" */
    char *id;              /* QEMU's id= of it, or NULL */
    GPtrArray *properties; /* struct devspec_property *, in order, without id */
};

/* Parses QEMU's -device syntax: driver,key=value,... with ",," for a comma in a value, and `key`
 * alone for key=on. */
struct devspec *devspec_parse(const char *text, GError **error);
void devspec_free(struct devspec *spec);
typedef struct devspec devspec; /* g_autoptr wants a name of one word */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(devspec, devspec_free)
/* The value of a property, or NULL; `id` counts as one. */
const char *devspec_get(const struct devspec *spec, const char *key);
/* Sets or (value NULL) removes a property. */
void devspec_set(struct devspec *spec, const char *key, const char *value);
/* For -device; freed with g_free. */
char *devspec_to_arg(const struct devspec *spec);
/* For QMP's device_add. */
JsonNode *devspec_to_json(const struct devspec *spec);

/* "4096", "64K", "4M", "1G": bytes; for options that take a size. */
bool devspec_parse_size(const char *text, uint64_t *bytes, GError **error);

#endif
