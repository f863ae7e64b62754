/*
 * QMP over a connected stream socket: greeting, capabilities, commands with JSON arguments, events
 * queued by name. JSON is json-glib's. Follows QEMU's docs/interop/qmp-spec.txt.
 */
#ifndef RINGLAB_QMP_H
#define RINGLAB_QMP_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

#define QMP_ERROR (qmp_error_quark())
GQuark qmp_error_quark(void);

enum qmp_error {
    QMP_ERROR_COMMAND, /* QEMU answered with an error; the message carries command, class, text */
    QMP_ERROR_DEVICE_NOT_FOUND,  /* the same, of class DeviceNotFound */
    QMP_ERROR_COMMAND_NOT_FOUND, /* the same, of class CommandNotFound */
    QMP_ERROR_CLOSED,
    QMP_ERROR_GARBLED, /* not JSON, or not the shape the protocol has */
    QMP_ERROR_TIMEOUT,
    QMP_ERROR_INVALID,   /* arguments that are no JSON object; nothing was sent */
    QMP_ERROR_CANCELLED, /* the cancel descriptor became readable while waiting */
    QMP_ERROR_SYSTEM,
};

struct qmp_version {
    int major, minor, micro;
    char *package; /* the distribution's addition, may be "" */
};

struct qmp;

/* Takes ownership of `fd`. Reads the greeting and leaves negotiation mode. */
struct qmp *qmp_new(int fd, int timeout_ms, GError **error);
void qmp_free(struct qmp *qmp);
const struct qmp_version *qmp_version(const struct qmp *qmp);
/* Waits end early, with CANCELLED, once `fd` is readable (nothing is read from it); -1: none. */
void qmp_set_cancel_fd(struct qmp *qmp, int fd);
/* As qtest_set_closed_hook. */
void qmp_set_closed_hook(struct qmp *qmp, char *(*hook)(void *data), void *data);

/* Executes `command` with `arguments` (a JSON object as text, or NULL) and waits for its answer
 * (default deadline 5 s). Returns the `return` member, to be freed with json_node_unref. Events
 * that arrive meanwhile are queued. */
JsonNode *qmp_execute(struct qmp *qmp, const char *command, const char *arguments, GError **error);
/* The same with an object made by json-glib; takes ownership of `arguments` (may be NULL). */
JsonNode *qmp_execute_node(struct qmp *qmp, const char *command, JsonNode *arguments,
                           GError **error);
/* For commands whose answer is of no interest. */
bool qmp_run(struct qmp *qmp, const char *command, const char *arguments, GError **error);
/* Passes a descriptor under `name` (getfd), for device_add, chardev-add ... The caller keeps its
 * own copy of `fd`. */
bool qmp_getfd(struct qmp *qmp, const char *name, int fd, GError **error);
/* human-monitor-command; the text is freed with g_free. */
char *qmp_hmp(struct qmp *qmp, const char *command_line, GError **error);

/* Takes the oldest queued event called `name`; waits for one up to the deadline. Returns its whole
 * object (members event, data, timestamp). With timeout_ms 0 it looks at what has arrived and
 * returns NULL without an error if there is none. If `data_key` is given, only an event whose data
 * has that member with the string value `data_value` counts (others stay queued). */
JsonNode *qmp_wait_event(struct qmp *qmp, const char *name, const char *data_key,
                         const char *data_value, int timeout_ms, GError **error);

#endif
