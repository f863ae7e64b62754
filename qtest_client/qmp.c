/*
 * QMP's client side. One JSON object per line; each command carries an id, and only the answer with
 * that id is taken: the late answer of a command that was given up is dropped, never mistaken for
 * the next one's. Follows QEMU's docs/interop/qmp-spec.txt.
 */
#include "qtest_client/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    QMP_DEFAULT_TIMEOUT_MS = 5000,
    QMP_MAX_LINE = 64 << 20, /* bytes; QEMU's longest, the schema, has some 200 KiB */
    QMP_MAX_DEPTH = 1024,    /* QEMU's own limit for nested values */
    QMP_CHUNK = 16384,
};

struct qmp {
    int fd;
    int cancel_fd; /* or -1 */
    int timeout_ms;
    GByteArray *received;
    guint scanned; /* bytes of `received` known to hold no line end */
    GQueue events; /* JsonNode *, oldest first */
    gint64 last_id;
    struct qmp_version version;
    char *(*closed_hook)(void *data);
    void *closed_data;
};

G_DEFINE_QUARK(ringlab_qmp_error, qmp_error)

/* The first bytes of what came, fit for a one-line message. */
static char *excerpt(const char *text, gsize len)
{
    g_autofree char *valid = g_utf8_make_valid(text, MIN(len, 120));
    g_autofree char *escaped = g_strescape(valid, "\"");
    return g_strdup_printf("%s%s", escaped, len > 120 ? "..." : "");
}

static char *one_line(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return g_strdelimit(g_strchomp(g_steal_pointer(&valid)), "\r\n", ' ');
}

static int remaining_ms(gint64 deadline_us)
{
    gint64 left_us = deadline_us - g_get_monotonic_time();
    return left_us <= 0 ? 0 : (int)MIN((left_us + 999) / 1000, G_MAXINT);
}

static gint64 deadline_after(int timeout_ms)
{
    return g_get_monotonic_time() + (gint64)timeout_ms * 1000;
}

static bool fail_closed(struct qmp *qmp, const char *what, GError **error)
{
    g_autofree char *became = qmp->closed_hook ? qmp->closed_hook(qmp->closed_data) : NULL;
    g_set_error(error, QMP_ERROR, QMP_ERROR_CLOSED, "%s: QEMU closed the QMP connection%s%s", what,
                became ? ": " : "", became ? became : "");
    return false;
}

static bool fail_system(const char *what, const char *call, GError **error)
{
    g_set_error(error, QMP_ERROR, QMP_ERROR_SYSTEM, "%s: %s on the QMP socket: %s", what, call,
                g_strerror(errno));
    return false;
}

enum receive_result { RECEIVED, NOTHING_THERE, RECEIVE_FAILED };

/* Takes what has arrived, without waiting. */
static enum receive_result receive_some(struct qmp *qmp, const char *what, GError **error)
{
    guint old_len = qmp->received->len;
    g_byte_array_set_size(qmp->received, old_len + QMP_CHUNK);
    ssize_t n;
    do {
        n = recv(qmp->fd, qmp->received->data + old_len, QMP_CHUNK, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    int saved_errno = errno;
    g_byte_array_set_size(qmp->received, old_len + (n > 0 ? (guint)n : 0));
    if (n > 0)
        return RECEIVED;
    if (n < 0 && (saved_errno == EAGAIN || saved_errno == EWOULDBLOCK))
        return NOTHING_THERE;
    if (n == 0 || saved_errno == ECONNRESET) {
        fail_closed(qmp, what, error);
    } else {
        errno = saved_errno;
        fail_system(what, "recv", error);
    }
    return RECEIVE_FAILED;
}

/* Removes and returns the oldest complete line, without its end, or NULL. */
static char *take_line(struct qmp *qmp, gsize *len)
{
    GByteArray *received = qmp->received;
    const guint8 *end = received->len > qmp->scanned ? memchr(received->data + qmp->scanned, '\n',
                                                              received->len - qmp->scanned)
                                                     : NULL;
    if (!end) {
        qmp->scanned = received->len;
        return NULL;
    }
    guint n = (guint)(end - received->data);
    char *line = g_strndup((const char *)received->data, n);
    g_byte_array_remove_range(received, 0, n + 1);
    qmp->scanned = 0;
    if (n > 0 && line[n - 1] == '\r')
        line[--n] = '\0';
    *len = n;
    return line;
}

/* The parser recurses once per level; a peer must not be able to exhaust the stack with it. */
static bool is_too_deep(const char *text, gsize len)
{
    unsigned depth = 0;
    bool in_string = false;
    for (gsize i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > QMP_MAX_DEPTH)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

static JsonNode *parse_line(const char *what, const char *line, gsize len, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) parse_error = NULL;
    g_autofree char *seen = NULL;
    if (is_too_deep(line, len)) {
        seen = excerpt(line, len);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GARBLED,
                    "%s: QMP sent values nested deeper than %d levels: \"%s\"", what, QMP_MAX_DEPTH,
                    seen);
        return NULL;
    }
    JsonNode *root = NULL;
    if (json_parser_load_from_data(parser, line, (gssize)len, &parse_error))
        root = json_parser_get_root(parser);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        g_autofree char *why = one_line(parse_error ? parse_error->message : "no object");
        seen = excerpt(line, len);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GARBLED,
                    "%s: QMP sent a line that is not a JSON object (%s): \"%s\"", what, why, seen);
        return NULL;
    }
    return json_parser_steal_root(parser);
}

/* Returns when something may have arrived, or the time is over. */
static bool wait_readable(struct qmp *qmp, const char *what, int timeout_ms, GError **error)
{
    struct pollfd p[] = {{.fd = qmp->fd, .events = POLLIN},
                         {.fd = qmp->cancel_fd, .events = POLLIN}};
    int n = poll(p, 2, timeout_ms);
    if (n < 0 && errno != EINTR)
        return fail_system(what, "poll", error);
    if (n > 0 && p[1].revents) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_CANCELLED, "%s: waiting for QEMU was cancelled",
                    what);
        return false;
    }
    return true;
}

/* The next message, events included. NULL without an error: nothing before the deadline. */
static JsonNode *next_message(struct qmp *qmp, const char *what, gint64 deadline_us, GError **error)
{
    for (;;) {
        gsize len = 0;
        g_autofree char *line = take_line(qmp, &len);
        if (line && len == 0)
            continue;
        if (line)
            return parse_line(what, line, len, error);
        if (qmp->received->len > QMP_MAX_LINE) {
            g_byte_array_set_size(qmp->received, 0);
            qmp->scanned = 0;
            g_set_error(error, QMP_ERROR, QMP_ERROR_GARBLED,
                        "%s: QMP sent more than %d MiB without a line end", what,
                        QMP_MAX_LINE >> 20);
            return NULL;
        }
        enum receive_result result = receive_some(qmp, what, error);
        if (result == RECEIVE_FAILED)
            return NULL;
        if (result == RECEIVED)
            continue;
        int left_ms = remaining_ms(deadline_us);
        if (left_ms == 0)
            return NULL;
        if (!wait_readable(qmp, what, left_ms, error))
            return NULL;
    }
}

/* Sends all of `text`, the descriptor (unless -1) with its first bytes. */
static bool send_all(struct qmp *qmp, const char *what, const char *text, gsize len, int fd,
                     gint64 deadline_us, GError **error)
{
    gsize done = 0;
    while (done < len) {
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct iovec iov = {.iov_base = (void *)(guintptr)(text + done), .iov_len = len - done};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (fd >= 0 && done == 0) {
            msg.msg_control = control.space;
            msg.msg_controllen = sizeof(control.space);
            control.header.cmsg_level = SOL_SOCKET;
            control.header.cmsg_type = SCM_RIGHTS;
            control.header.cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
        }
        ssize_t n = sendmsg(qmp->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            done += (gsize)n;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return fail_closed(qmp, what, error);
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return fail_system(what, "sendmsg", error);
        int left_ms = remaining_ms(deadline_us);
        if (left_ms == 0) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_TIMEOUT,
                        "%s: QEMU did not take the command from the QMP socket within %d ms", what,
                        qmp->timeout_ms);
            return false;
        }
        struct pollfd p = {.fd = qmp->fd, .events = POLLOUT};
        if (poll(&p, 1, left_ms) < 0 && errno != EINTR)
            return fail_system(what, "poll", error);
    }
    return true;
}

static JsonNode *member_of_kind(JsonObject *object, const char *name, JsonNodeType type)
{
    JsonNode *node = object ? json_object_get_member(object, name) : NULL;
    return node && json_node_get_node_type(node) == type ? node : NULL;
}

static JsonObject *object_member(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_kind(object, name, JSON_NODE_OBJECT);
    return node ? json_node_get_object(node) : NULL;
}

static const char *string_member(JsonObject *object, const char *name)
{
    JsonNode *node = member_of_kind(object, name, JSON_NODE_VALUE);
    return node && json_node_get_value_type(node) == G_TYPE_STRING ? json_node_get_string(node)
                                                                   : NULL;
}

static bool int_member(JsonObject *object, const char *name, gint64 *value)
{
    JsonNode *node = member_of_kind(object, name, JSON_NODE_VALUE);
    if (!node || json_node_get_value_type(node) != G_TYPE_INT64)
        return false;
    *value = json_node_get_int(node);
    return true;
}

static bool fail_garbled(const char *what, const char *why, JsonNode *message, GError **error)
{
    g_autofree char *text = json_to_string(message, FALSE);
    g_autofree char *seen = excerpt(text, strlen(text));
    g_set_error(error, QMP_ERROR, QMP_ERROR_GARBLED, "%s: %s: \"%s\"", what, why, seen);
    return false;
}

/* Turns {"class": ..., "desc": ...} into an error. */
static bool fail_command(const char *what, JsonNode *message, GError **error)
{
    JsonObject *answer = object_member(json_node_get_object(message), "error");
    const char *class_name = string_member(answer, "class");
    const char *desc = string_member(answer, "desc");
    if (!class_name || !desc)
        return fail_garbled(what, "QMP sent an error without class and text", message, error);
    enum qmp_error code = QMP_ERROR_COMMAND;
    if (g_str_equal(class_name, "DeviceNotFound"))
        code = QMP_ERROR_DEVICE_NOT_FOUND;
    else if (g_str_equal(class_name, "CommandNotFound"))
        code = QMP_ERROR_COMMAND_NOT_FOUND;
    g_autofree char *text = one_line(desc);
    g_set_error(error, QMP_ERROR, (int)code, "%s: QEMU answered %s: %s", what, class_name, text);
    return false;
}

/* Keeps it if it is an event. */
static bool keep_event(struct qmp *qmp, JsonNode *message)
{
    if (!string_member(json_node_get_object(message), "event"))
        return false;
    g_queue_push_tail(&qmp->events, json_node_ref(message));
    return true;
}

static JsonNode *wait_answer(struct qmp *qmp, const char *what, gint64 id, gint64 deadline_us,
                             GError **error)
{
    for (;;) {
        GError *local = NULL;
        g_autoptr(JsonNode) message = next_message(qmp, what, deadline_us, &local);
        if (local) {
            g_propagate_error(error, local);
            return NULL;
        }
        if (!message) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_TIMEOUT, "%s: no answer within %d ms", what,
                        qmp->timeout_ms);
            return NULL;
        }
        if (keep_event(qmp, message))
            continue;
        JsonObject *object = json_node_get_object(message);
        bool is_error = json_object_has_member(object, "error");
        gint64 answered_id;
        if (int_member(object, "id", &answered_id)) {
            if (answered_id < id)
                continue;
        } else {
            /* QEMU leaves the id out of an error only when it could not parse the command. */
            answered_id = is_error ? id : -1;
        }
        if (answered_id != id) {
            fail_garbled(what, "QMP sent an answer to no command of ours", message, error);
            return NULL;
        }
        if (is_error) {
            fail_command(what, message, error);
            return NULL;
        }
        if (!json_object_has_member(object, "return")) {
            fail_garbled(what, "QMP sent neither return, error nor event", message, error);
            return NULL;
        }
        return json_object_dup_member(object, "return");
    }
}

/* Takes ownership of `arguments`. */
static JsonNode *execute(struct qmp *qmp, const char *command, JsonNode *arguments, int fd,
                         GError **error)
{
    g_autofree char *what = g_strdup_printf("QMP command %s", command);
    JsonObject *object = json_object_new();
    gint64 id = ++qmp->last_id;
    json_object_set_string_member(object, "execute", command);
    if (arguments)
        json_object_set_member(object, "arguments", arguments);
    json_object_set_int_member(object, "id", id);
    g_autoptr(JsonNode) root = json_node_init_object(json_node_alloc(), object);
    json_object_unref(object);
    g_autofree char *text = json_to_string(root, FALSE);
    gsize len = strlen(text);
    if (!g_utf8_validate(text, (gssize)len, NULL)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_INVALID,
                    "%s: the arguments are not valid UTF-8, nothing was sent", what);
        return NULL;
    }
    text[len++] = '\n'; /* in place of the final NUL byte */
    gint64 deadline_us = deadline_after(qmp->timeout_ms);
    if (!send_all(qmp, what, text, len, fd, deadline_us, error))
        return NULL;
    return wait_answer(qmp, what, id, deadline_us, error);
}

static bool take_version(struct qmp *qmp, JsonNode *greeting, GError **error)
{
    JsonObject *version =
        object_member(object_member(json_node_get_object(greeting), "QMP"), "version");
    JsonObject *numbers = object_member(version, "qemu");
    gint64 major, minor, micro;
    if (!int_member(numbers, "major", &major) || !int_member(numbers, "minor", &minor) ||
        !int_member(numbers, "micro", &micro))
        return fail_garbled("QMP greeting", "expected the greeting with QEMU's version", greeting,
                            error);
    const char *package = string_member(version, "package");
    qmp->version.major = (int)major;
    qmp->version.minor = (int)minor;
    qmp->version.micro = (int)micro;
    qmp->version.package = g_strdup(package ? package : "");
    return true;
}

struct qmp *qmp_new(int fd, int timeout_ms, GError **error)
{
    struct qmp *qmp = g_new0(struct qmp, 1);
    qmp->fd = fd;
    qmp->cancel_fd = -1;
    qmp->timeout_ms = timeout_ms > 0 ? timeout_ms : QMP_DEFAULT_TIMEOUT_MS;
    qmp->received = g_byte_array_new();
    g_queue_init(&qmp->events);

    GError *local = NULL;
    const char *what = "QMP greeting";
    g_autoptr(JsonNode) greeting = next_message(qmp, what, deadline_after(qmp->timeout_ms), &local);
    if (!greeting && !local)
        g_set_error(&local, QMP_ERROR, QMP_ERROR_TIMEOUT, "%s: nothing came within %d ms", what,
                    qmp->timeout_ms);
    if (local || !take_version(qmp, greeting, &local) ||
        !qmp_run(qmp, "qmp_capabilities", NULL, &local)) {
        g_propagate_error(error, local);
        qmp_free(qmp);
        return NULL;
    }
    return qmp;
}

void qmp_free(struct qmp *qmp)
{
    if (!qmp)
        return;
    close(qmp->fd);
    g_byte_array_free(qmp->received, TRUE);
    for (JsonNode *event; (event = g_queue_pop_head(&qmp->events));)
        json_node_unref(event);
    g_free(qmp->version.package);
    g_free(qmp);
}

const struct qmp_version *qmp_version(const struct qmp *qmp)
{
    return &qmp->version;
}

void qmp_set_cancel_fd(struct qmp *qmp, int fd)
{
    qmp->cancel_fd = fd;
}

void qmp_set_closed_hook(struct qmp *qmp, char *(*hook)(void *data), void *data)
{
    qmp->closed_hook = hook;
    qmp->closed_data = data;
}

JsonNode *qmp_execute(struct qmp *qmp, const char *command, const char *arguments, GError **error)
{
    JsonNode *node = NULL;
    if (arguments) {
        g_autoptr(GError) parse_error = NULL;
        if (!is_too_deep(arguments, strlen(arguments)))
            node = json_from_string(arguments, &parse_error);
        if (!node) {
            g_autofree char *why = one_line(parse_error ? parse_error->message : "no value");
            g_set_error(error, QMP_ERROR, QMP_ERROR_INVALID,
                        "QMP command %s: arguments are not JSON: %s", command, why);
            return NULL;
        }
    }
    return qmp_execute_node(qmp, command, node, error);
}

JsonNode *qmp_execute_node(struct qmp *qmp, const char *command, JsonNode *arguments,
                           GError **error)
{
    if (arguments && !JSON_NODE_HOLDS_OBJECT(arguments)) {
        json_node_unref(arguments);
        g_set_error(error, QMP_ERROR, QMP_ERROR_INVALID,
                    "QMP command %s: arguments must be a JSON object", command);
        return NULL;
    }
    return execute(qmp, command, arguments, -1, error);
}

bool qmp_run(struct qmp *qmp, const char *command, const char *arguments, GError **error)
{
    g_autoptr(JsonNode) answer = qmp_execute(qmp, command, arguments, error);
    return answer != NULL;
}

bool qmp_getfd(struct qmp *qmp, const char *name, int fd, GError **error)
{
    JsonObject *object = json_object_new();
    json_object_set_string_member(object, "fdname", name);
    JsonNode *arguments = json_node_init_object(json_node_alloc(), object);
    json_object_unref(object);
    g_autoptr(JsonNode) answer = execute(qmp, "getfd", arguments, fd, error);
    return answer != NULL;
}

char *qmp_hmp(struct qmp *qmp, const char *command_line, GError **error)
{
    JsonObject *object = json_object_new();
    json_object_set_string_member(object, "command-line", command_line);
    JsonNode *arguments = json_node_init_object(json_node_alloc(), object);
    json_object_unref(object);
    g_autoptr(JsonNode) answer = execute(qmp, "human-monitor-command", arguments, -1, error);
    if (!answer)
        return NULL;
    if (!JSON_NODE_HOLDS_VALUE(answer) || json_node_get_value_type(answer) != G_TYPE_STRING) {
        fail_garbled("QMP command human-monitor-command", "the answer is no text", answer, error);
        return NULL;
    }
    return json_node_dup_string(answer);
}

static bool event_matches(JsonNode *event, const char *name, const char *data_key,
                          const char *data_value)
{
    JsonObject *object = json_node_get_object(event);
    if (!g_str_equal(string_member(object, "event"), name))
        return false;
    return !data_key ||
           g_strcmp0(string_member(object_member(object, "data"), data_key), data_value) == 0;
}

static JsonNode *take_event(struct qmp *qmp, const char *name, const char *data_key,
                            const char *data_value)
{
    for (GList *link = qmp->events.head; link; link = link->next) {
        JsonNode *event = link->data;
        if (event_matches(event, name, data_key, data_value)) {
            g_queue_delete_link(&qmp->events, link);
            return event;
        }
    }
    return NULL;
}

JsonNode *qmp_wait_event(struct qmp *qmp, const char *name, const char *data_key,
                         const char *data_value, int timeout_ms, GError **error)
{
    gint64 deadline_us = deadline_after(MAX(timeout_ms, 0));
    g_autofree char *what = data_key ? g_strdup_printf("QMP event %s with %s \"%s\"", name,
                                                       data_key, data_value ? data_value : "")
                                     : g_strdup_printf("QMP event %s", name);
    for (;;) {
        JsonNode *event = take_event(qmp, name, data_key, data_value);
        if (event)
            return event;
        GError *local = NULL;
        g_autoptr(JsonNode) message = next_message(qmp, what, deadline_us, &local);
        if (local) {
            g_propagate_error(error, local);
            return NULL;
        }
        if (!message) {
            if (timeout_ms > 0)
                g_set_error(error, QMP_ERROR, QMP_ERROR_TIMEOUT, "%s: it did not come within %d ms",
                            what, timeout_ms);
            return NULL;
        }
        /* Anything else is the late answer of a command that was given up. */
        keep_event(qmp, message);
    }
}
