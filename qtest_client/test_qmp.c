#include "qtest_client/qmp.h"

#include <linux/sockios.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { LONG_MS = 20000, SHORT_MS = 30 };

/*
 * The peer: a thread that follows a script, line by line:
 *   "> TEXT"  sends TEXT and a line end
 *   "+ TEXT"  sends TEXT without one
 *   "< TEXT"  expects a line that is exactly TEXT
 *   "F"       expects a descriptor with the next line and remembers it
 *   "X"       closes its end
 *   "W"       waits until the client has taken all that was sent
 *   "G"       sends the greeting
 *   "N"       the whole negotiation: greeting, qmp_capabilities, its answer
 * After the last line it keeps the socket open until the client closes its end.
 */
struct peer {
    int fd;
    const char *const *script;
    GThread *thread;
    GString *received;
    int passed_fd;
    char *complaint; /* what did not come as expected */
};

static const char greeting[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "
    "\"package\": \"Debian 1:7.2\"}, \"capabilities\": [\"oob\"]}}\r\n";

static void peer_send(struct peer *peer, const char *text)
{
    for (size_t len = strlen(text); len > 0;) {
        ssize_t n = send(peer->fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

/* False at the end of the stream. */
static bool peer_receive(struct peer *peer)
{
    char bytes[4096];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(peer->fd, &msg, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        return false;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
        memcpy(&peer->passed_fd, CMSG_DATA(cmsg), sizeof(int));
    g_string_append_len(peer->received, bytes, n);
    return true;
}

static void peer_expect(struct peer *peer, const char *text)
{
    const char *end;
    while (!(end = strchr(peer->received->str, '\n'))) {
        if (!peer_receive(peer)) {
            peer->complaint = g_strdup_printf("expected %s, came the end", text);
            return;
        }
    }
    gssize len = end - peer->received->str;
    g_autofree char *line = g_strndup(peer->received->str, (gsize)len);
    g_string_erase(peer->received, 0, len + 1);
    if (!g_str_equal(line, text))
        peer->complaint = g_strdup_printf("expected %s, came %s", text, line);
}

static void peer_wait_taken(struct peer *peer)
{
    gint64 deadline_us = g_get_monotonic_time() + LONG_MS * 1000;
    int n_waiting = 1;
    while (n_waiting > 0 && g_get_monotonic_time() < deadline_us) {
        if (ioctl(peer->fd, SIOCOUTQ, &n_waiting) < 0)
            break;
        g_thread_yield();
    }
    if (n_waiting > 0)
        peer->complaint = g_strdup("waited in vain for the client to read");
}

static gpointer peer_run(gpointer data)
{
    struct peer *peer = data;
    for (const char *const *line = peer->script; *line && !peer->complaint; line++) {
        switch (**line) {
        case '>':
            peer_send(peer, *line + 2);
            peer_send(peer, "\r\n");
            break;
        case '+':
            peer_send(peer, *line + 2);
            break;
        case '<':
            peer_expect(peer, *line + 2);
            break;
        case 'W':
            peer_wait_taken(peer);
            break;
        case 'G':
            peer_send(peer, greeting);
            break;
        case 'N':
            peer_send(peer, greeting);
            peer_expect(peer, "{\"execute\":\"qmp_capabilities\",\"id\":1}");
            peer_send(peer, "{\"return\": {}, \"id\": 1}\n");
            break;
        case 'F':
            if (peer->passed_fd < 0)
                peer->complaint = g_strdup("no descriptor came");
            break;
        case 'X':
            close(peer->fd);
            peer->fd = -1;
            return NULL;
        default:
            peer->complaint = g_strdup_printf("no such step: %s", *line);
            break;
        }
    }
    while (peer_receive(peer))
        ;
    return NULL;
}

/* Starts a peer; returns the client's end. */
static int peer_start(struct peer *peer, const char *const *script)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *peer = (struct peer){
        .fd = pair[1], .script = script, .received = g_string_new(NULL), .passed_fd = -1};
    peer->thread = g_thread_new("peer", peer_run, peer);
    return pair[0];
}

/* The client's end must be closed. */
static void peer_finish(struct peer *peer)
{
    g_thread_join(peer->thread);
    if (peer->fd >= 0)
        close(peer->fd);
    if (peer->passed_fd >= 0)
        close(peer->passed_fd);
    g_string_free(peer->received, TRUE);
    if (peer->complaint)
        fail_msg("the peer %s", peer->complaint);
}

static struct qmp *connect_ok(struct peer *peer, const char *const *script, int timeout_ms)
{
    g_autoptr(GError) error = NULL;
    struct qmp *qmp = qmp_new(peer_start(peer, script), timeout_ms, &error);
    if (!qmp)
        fail_msg("%s", error->message);
    return qmp;
}

static void finish(struct qmp *qmp, struct peer *peer)
{
    qmp_free(qmp);
    peer_finish(peer);
}

#define assert_error(error, code, text)                                                            \
    do {                                                                                           \
        assert_non_null(error);                                                                    \
        assert_string_equal((error)->message, text);                                               \
        assert_true(g_error_matches(error, QMP_ERROR, code));                                      \
        g_clear_error(&(error));                                                                   \
    } while (0)

/* ---- greeting ---- */

static void the_greeting_tells_the_version(void **state)
{
    (void)state;
    static const char *const script[] = {"N", NULL};
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_int_equal(qmp_version(qmp)->major, 7);
    assert_int_equal(qmp_version(qmp)->minor, 2);
    assert_int_equal(qmp_version(qmp)->micro, 22);
    assert_string_equal(qmp_version(qmp)->package, "Debian 1:7.2");
    finish(qmp, &peer);
}

static void assert_no_connection(const char *const *script, int timeout_ms, int code,
                                 const char *message)
{
    g_autoptr(GError) error = NULL;
    struct peer peer;
    assert_null(qmp_new(peer_start(&peer, script), timeout_ms, &error));
    assert_error(error, code, message);
    peer_finish(&peer);
}

static void a_bad_greeting_is_refused(void **state)
{
    (void)state;
    static const char *const silent[] = {NULL};
    assert_no_connection(silent, SHORT_MS, QMP_ERROR_TIMEOUT,
                         "QMP greeting: nothing came within 30 ms");
    static const char *const closed[] = {"X", NULL};
    assert_no_connection(closed, LONG_MS, QMP_ERROR_CLOSED,
                         "QMP greeting: QEMU closed the QMP connection");
    static const char *const half[] = {"+ {\"QMP\": ", "X", NULL};
    assert_no_connection(half, LONG_MS, QMP_ERROR_CLOSED,
                         "QMP greeting: QEMU closed the QMP connection");
    static const char *const other[] = {"> {\"return\": {}}", NULL};
    assert_no_connection(other, LONG_MS, QMP_ERROR_GARBLED,
                         "QMP greeting: expected the greeting with QEMU's version: "
                         "\"{\"return\":{}}\"");
    static const char *const text[] = {"> {\"QMP\": {\"version\": {\"qemu\": {\"major\": \"7\"}}}}",
                                       NULL};
    assert_no_connection(text, LONG_MS, QMP_ERROR_GARBLED,
                         "QMP greeting: expected the greeting with QEMU's version: "
                         "\"{\"QMP\":{\"version\":{\"qemu\":{\"major\":"
                         "\"7\"}}}}\"");
    static const char *const refused[] = {
        "G", "< {\"execute\":\"qmp_capabilities\",\"id\":1}",
        "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 1}", NULL};
    assert_no_connection(refused, LONG_MS, QMP_ERROR_COMMAND,
                         "QMP command qmp_capabilities: QEMU answered GenericError: no");
}

/* ---- commands ---- */

static void a_command_sends_its_arguments_and_returns_the_answer(void **state)
{
    (void)state;
    static const char *const script[] = {
        "N",
        "< {\"execute\":\"query-status\",\"id\":2}",
        "> {\"return\": {\"running\": true}, \"id\": 2}",
        "< {\"execute\":\"stop\",\"arguments\":{\"a\":1,\"b\":\"x\\ny\"},\"id\":3}",
        "> {\"return\": [], \"id\": 3}",
        NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    g_autoptr(JsonNode) status = qmp_execute(qmp, "query-status", NULL, &error);
    assert_non_null(status);
    assert_true(json_object_get_boolean_member(json_node_get_object(status), "running"));
    assert_true(qmp_run(qmp, "stop", "{ \"a\": 1, \"b\": \"x\\ny\" }", &error));
    finish(qmp, &peer);
}

static void the_pieces_an_answer_comes_in_do_not_matter(void **state)
{
    (void)state;
    static const char *const script[] = {"N",
                                         "< {\"execute\":\"a\",\"id\":2}",
                                         "+ {\"retu",
                                         "W",
                                         "+ rn\": 7,",
                                         "W",
                                         "+  \"id\": 2}\r",
                                         "W",
                                         "+ \n",
                                         "< {\"execute\":\"b\",\"id\":3}",
                                         "+ \r\n\n{\"event\": \"E\"}\n{\"retur",
                                         "W",
                                         "> n\": 8, \"id\": 3}",
                                         NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    g_autoptr(JsonNode) a = qmp_execute(qmp, "a", NULL, &error);
    assert_non_null(a);
    assert_int_equal(json_node_get_int(a), 7);
    g_autoptr(JsonNode) b = qmp_execute(qmp, "b", NULL, &error);
    assert_non_null(b);
    assert_int_equal(json_node_get_int(b), 8);
    g_autoptr(JsonNode) event = qmp_wait_event(qmp, "E", NULL, NULL, 0, &error);
    assert_non_null(event);
    finish(qmp, &peer);
}

static void an_error_has_class_and_text(void **state)
{
    (void)state;
    static const char *const script[] = {
        "N",
        "< {\"execute\":\"a\",\"id\":2}",
        "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"Bus 'x'\\nis full\"}, \"id\": 2}",
        "< {\"execute\":\"b\",\"id\":3}",
        "> {\"id\": 3, \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no b\"}}",
        "< {\"execute\":\"c\",\"id\":4}",
        "> {\"id\": 4, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no c\"}}",
        "< {\"execute\":\"d\",\"id\":5}",
        "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"cannot parse\"}}",
        "< {\"execute\":\"e\",\"id\":6}",
        "> {\"error\": \"just so\", \"id\": 6}",
        NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_false(qmp_run(qmp, "a", NULL, &error));
    assert_error(error, QMP_ERROR_COMMAND,
                 "QMP command a: QEMU answered GenericError: Bus 'x' is full");
    assert_false(qmp_run(qmp, "b", NULL, &error));
    assert_error(error, QMP_ERROR_DEVICE_NOT_FOUND,
                 "QMP command b: QEMU answered DeviceNotFound: no b");
    assert_false(qmp_run(qmp, "c", NULL, &error));
    assert_error(error, QMP_ERROR_COMMAND_NOT_FOUND,
                 "QMP command c: QEMU answered CommandNotFound: no c");
    assert_false(qmp_run(qmp, "d", NULL, &error));
    assert_error(error, QMP_ERROR_COMMAND,
                 "QMP command d: QEMU answered GenericError: cannot parse");
    assert_false(qmp_run(qmp, "e", NULL, &error));
    assert_error(error, QMP_ERROR_GARBLED,
                 "QMP command e: QMP sent an error without class and text: "
                 "\"{\"error\":\"just so\",\"id\":6}\"");
    finish(qmp, &peer);
}

static void arguments_that_are_no_object_are_not_sent(void **state)
{
    (void)state;
    static const char *const script[] = {"N", "< {\"execute\":\"b\",\"id\":3}",
                                         "> {\"return\": {}, \"id\": 3}", NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_false(qmp_run(qmp, "a", "[1]", &error));
    assert_error(error, QMP_ERROR_INVALID, "QMP command a: arguments must be a JSON object");
    assert_false(qmp_run(qmp, "a", "{", &error));
    assert_true(g_error_matches(error, QMP_ERROR, QMP_ERROR_INVALID));
    assert_true(g_str_has_prefix(error->message, "QMP command a: arguments are not JSON: "));
    g_clear_error(&error);
    assert_false(qmp_run(qmp, "a", "", &error));
    assert_true(g_error_matches(error, QMP_ERROR, QMP_ERROR_INVALID));
    g_clear_error(&error);
    assert_null(qmp_hmp(qmp, "\xff", &error));
    assert_error(error, QMP_ERROR_INVALID,
                 "QMP command human-monitor-command: the arguments are not valid UTF-8, nothing "
                 "was sent");
    assert_true(qmp_run(qmp, "b", NULL, &error));
    finish(qmp, &peer);
}

static void garbled_lines_are_named_and_the_next_command_works(void **state)
{
    (void)state;
    static const char *const script[] = {"N",
                                         "< {\"execute\":\"a\",\"id\":2}",
                                         "> [1]",
                                         "< {\"execute\":\"b\",\"id\":3}",
                                         "> {\"id\": 3}",
                                         "< {\"execute\":\"c\",\"id\":4}",
                                         "> {\"return\": {}, \"id\": 77}",
                                         "< {\"execute\":\"d\",\"id\":5}",
                                         "> {\"return\": {}}",
                                         "< {\"execute\":\"e\",\"id\":6}",
                                         "> \x01\x02 not json",
                                         "< {\"execute\":\"f\",\"id\":7}",
                                         "> {\"return\": {}, \"id\": 7}",
                                         NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_false(qmp_run(qmp, "a", NULL, &error));
    assert_error(error, QMP_ERROR_GARBLED,
                 "QMP command a: QMP sent a line that is not a JSON object (no object): \"[1]\"");
    assert_false(qmp_run(qmp, "b", NULL, &error));
    assert_error(error, QMP_ERROR_GARBLED,
                 "QMP command b: QMP sent neither return, error nor event: \"{\"id\":3}\"");
    assert_false(qmp_run(qmp, "c", NULL, &error));
    assert_error(error, QMP_ERROR_GARBLED,
                 "QMP command c: QMP sent an answer to no command of ours: "
                 "\"{\"return\":{},\"id\":77}\"");
    assert_false(qmp_run(qmp, "d", NULL, &error));
    assert_error(error, QMP_ERROR_GARBLED,
                 "QMP command d: QMP sent an answer to no command of ours: "
                 "\"{\"return\":{}}\"");
    assert_false(qmp_run(qmp, "e", NULL, &error));
    assert_true(g_error_matches(error, QMP_ERROR, QMP_ERROR_GARBLED));
    assert_non_null(strstr(error->message, "\"\\001\\002 not json\""));
    assert_null(strchr(error->message, '\n'));
    g_clear_error(&error);
    assert_true(qmp_run(qmp, "f", NULL, &error));
    finish(qmp, &peer);
}

static void nesting_without_end_is_refused(void **state)
{
    (void)state;
    g_autofree char *deep = g_strnfill(100000, '[');
    g_autofree char *line = g_strconcat("> {\"return\": ", deep, NULL);
    const char *const script[] = {"N", "< {\"execute\":\"a\",\"id\":2}", line, NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_false(qmp_run(qmp, "a", NULL, &error));
    assert_true(g_error_matches(error, QMP_ERROR, QMP_ERROR_GARBLED));
    assert_true(g_str_has_prefix(
        error->message, "QMP command a: QMP sent values nested deeper than 1024 levels: "));
    assert_true(strlen(error->message) < 300);
    finish(qmp, &peer);
}

static void a_long_answer_comes_whole(void **state)
{
    (void)state;
    g_autofree char *text = g_strnfill(3 << 20, 'x');
    g_autofree char *line = g_strconcat("> {\"return\": \"", text, "\", \"id\": 2}", NULL);
    const char *const script[] = {"N",
                                  "< {\"execute\":\"human-monitor-command\",\"arguments\":"
                                  "{\"command-line\":\"info qtree\"},\"id\":2}",
                                  line, NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    g_autofree char *answer = qmp_hmp(qmp, "info qtree", &error);
    assert_string_equal(answer, text);
    finish(qmp, &peer);
}

static void a_monitor_answer_that_is_no_text_is_garbled(void **state)
{
    (void)state;
    static const char *const script[] = {"N",
                                         "< {\"execute\":\"human-monitor-command\",\"arguments\":"
                                         "{\"command-line\":\"x\"},\"id\":2}",
                                         "> {\"return\": {}, \"id\": 2}", NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_null(qmp_hmp(qmp, "x", &error));
    assert_error(error, QMP_ERROR_GARBLED,
                 "QMP command human-monitor-command: the answer is no text: \"{}\"");
    finish(qmp, &peer);
}

/* ---- deadlines and ends ---- */

static void a_late_answer_is_not_taken_for_the_next_ones(void **state)
{
    (void)state;
    static const char *const script[] = {
        "N",
        "< {\"execute\":\"slow\",\"id\":2}",
        "< {\"execute\":\"next\",\"id\":3}",
        "> {\"error\": {\"class\": \"GenericError\", \"desc\": \"late\"}, \"id\": 2}",
        "> {\"return\": 5, \"id\": 3}",
        NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, 200);
    assert_false(qmp_run(qmp, "slow", NULL, &error));
    assert_error(error, QMP_ERROR_TIMEOUT, "QMP command slow: no answer within 200 ms");
    g_autoptr(JsonNode) answer = qmp_execute(qmp, "next", NULL, &error);
    assert_non_null(answer);
    assert_int_equal(json_node_get_int(answer), 5);
    finish(qmp, &peer);
}

static char *tell_fate(void *data)
{
    return g_strdup_printf("QEMU %s exited", (const char *)data);
}

static void a_closed_socket_is_reported_with_what_became_of_qemu(void **state)
{
    (void)state;
    static const char *const script[] = {"N", "< {\"execute\":\"a\",\"id\":2}", "X", NULL};
    static char name[] = "m";
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    qmp_set_closed_hook(qmp, tell_fate, name);
    assert_false(qmp_run(qmp, "a", NULL, &error));
    assert_error(error, QMP_ERROR_CLOSED,
                 "QMP command a: QEMU closed the QMP connection: QEMU m exited");
    assert_false(qmp_run(qmp, "b", NULL, &error));
    assert_error(error, QMP_ERROR_CLOSED,
                 "QMP command b: QEMU closed the QMP connection: QEMU m exited");
    assert_null(qmp_wait_event(qmp, "E", NULL, NULL, LONG_MS, &error));
    assert_error(error, QMP_ERROR_CLOSED,
                 "QMP event E: QEMU closed the QMP connection: QEMU m exited");
    finish(qmp, &peer);
}

static void a_wait_ends_when_the_cancel_descriptor_is_readable(void **state)
{
    (void)state;
    static const char *const script[] = {"N", NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    int cancel_fd = eventfd(1, EFD_CLOEXEC);
    qmp_set_cancel_fd(qmp, cancel_fd);
    assert_false(qmp_run(qmp, "slow", NULL, &error));
    assert_error(error, QMP_ERROR_CANCELLED, "QMP command slow: waiting for QEMU was cancelled");
    assert_null(qmp_wait_event(qmp, "E", NULL, NULL, LONG_MS, &error));
    assert_error(error, QMP_ERROR_CANCELLED, "QMP event E: waiting for QEMU was cancelled");
    close(cancel_fd);
    finish(qmp, &peer);
}

/* ---- events ---- */

static const char *event_name(JsonNode *event)
{
    return json_object_get_string_member(json_node_get_object(event), "event");
}

static void events_are_queued_by_name_in_order(void **state)
{
    (void)state;
    static const char *const script[] = {"N",
                                         "> {\"event\": \"A\", \"data\": {\"n\": 1}}",
                                         "< {\"execute\":\"x\",\"id\":2}",
                                         "> {\"event\": \"B\"}",
                                         "> {\"event\": \"A\", \"data\": {\"n\": 2}}",
                                         "> {\"return\": {}, \"id\": 2}",
                                         NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_true(qmp_run(qmp, "x", NULL, &error));
    for (int n = 1; n <= 2; n++) {
        g_autoptr(JsonNode) a = qmp_wait_event(qmp, "A", NULL, NULL, 0, &error);
        assert_non_null(a);
        JsonObject *data = json_object_get_object_member(json_node_get_object(a), "data");
        assert_int_equal(json_object_get_int_member(data, "n"), n);
    }
    assert_null(qmp_wait_event(qmp, "A", NULL, NULL, 0, &error));
    assert_null(error);
    g_autoptr(JsonNode) b = qmp_wait_event(qmp, "B", NULL, NULL, 0, &error);
    assert_non_null(b);
    assert_string_equal(event_name(b), "B");
    finish(qmp, &peer);
}

static void an_event_can_be_picked_by_its_data(void **state)
{
    (void)state;
    static const char *const script[] = {
        "N",
        "> {\"event\": \"DEVICE_DELETED\", \"data\": {\"path\": \"/machine/a\"}}",
        "> {\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": 7, \"path\": \"/machine/b\"}}",
        "> {\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"n0\", \"path\": \"p\"}}",
        "> {\"event\": \"DEVICE_DELETED\"}",
        NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    g_autoptr(JsonNode) event =
        qmp_wait_event(qmp, "DEVICE_DELETED", "device", "n0", LONG_MS, &error);
    assert_non_null(event);
    JsonObject *data = json_object_get_object_member(json_node_get_object(event), "data");
    assert_string_equal(json_object_get_string_member(data, "path"), "p");
    for (int i = 0; i < 3; i++) {
        g_autoptr(JsonNode) other =
            qmp_wait_event(qmp, "DEVICE_DELETED", NULL, NULL, LONG_MS, &error);
        assert_non_null(other);
    }
    finish(qmp, &peer);
}

static void an_event_that_does_not_come_is_a_timeout_naming_it(void **state)
{
    (void)state;
    static const char *const script[] = {"N", "> {\"event\": \"OTHER\"}", NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    assert_null(qmp_wait_event(qmp, "DEVICE_DELETED", "device", "n0", SHORT_MS, &error));
    assert_error(error, QMP_ERROR_TIMEOUT,
                 "QMP event DEVICE_DELETED with device \"n0\": it did not come within 30 ms");
    assert_null(qmp_wait_event(qmp, "RESET", NULL, NULL, SHORT_MS, &error));
    assert_error(error, QMP_ERROR_TIMEOUT, "QMP event RESET: it did not come within 30 ms");
    finish(qmp, &peer);
}

static void an_event_before_the_greeting_of_capabilities_is_kept(void **state)
{
    (void)state;
    static const char *const script[] = {"G", "< {\"execute\":\"qmp_capabilities\",\"id\":1}",
                                         "> {\"event\": \"EARLY\"}",
                                         "> {\"return\": {}, \"id\": 1}", NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    g_autoptr(JsonNode) event = qmp_wait_event(qmp, "EARLY", NULL, NULL, 0, &error);
    assert_non_null(event);
    finish(qmp, &peer);
}

/* ---- descriptors ---- */

static void getfd_passes_the_descriptor_with_the_command(void **state)
{
    (void)state;
    static const char *const script[] = {
        "N", "< {\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"f\"},\"id\":2}", "F",
        "> {\"return\": {}, \"id\": 2}", NULL};
    g_autoptr(GError) error = NULL;
    struct peer peer;
    struct qmp *qmp = connect_ok(&peer, script, LONG_MS);
    int fd = memfd_create("passed", MFD_CLOEXEC);
    assert_true(qmp_getfd(qmp, "f", fd, &error));
    /* The answer came after the peer had taken the descriptor. */
    struct stat ours, theirs;
    assert_int_equal(fstat(fd, &ours), 0);
    assert_int_equal(fstat(peer.passed_fd, &theirs), 0);
    assert_int_equal(ours.st_ino, theirs.st_ino);
    close(fd);
    finish(qmp, &peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greeting_tells_the_version),
        cmocka_unit_test(a_bad_greeting_is_refused),
        cmocka_unit_test(a_command_sends_its_arguments_and_returns_the_answer),
        cmocka_unit_test(the_pieces_an_answer_comes_in_do_not_matter),
        cmocka_unit_test(an_error_has_class_and_text),
        cmocka_unit_test(arguments_that_are_no_object_are_not_sent),
        cmocka_unit_test(garbled_lines_are_named_and_the_next_command_works),
        cmocka_unit_test(nesting_without_end_is_refused),
        cmocka_unit_test(a_long_answer_comes_whole),
        cmocka_unit_test(a_monitor_answer_that_is_no_text_is_garbled),
        cmocka_unit_test(a_late_answer_is_not_taken_for_the_next_ones),
        cmocka_unit_test(a_closed_socket_is_reported_with_what_became_of_qemu),
        cmocka_unit_test(a_wait_ends_when_the_cancel_descriptor_is_readable),
        cmocka_unit_test(events_are_queued_by_name_in_order),
        cmocka_unit_test(an_event_can_be_picked_by_its_data),
        cmocka_unit_test(an_event_that_does_not_come_is_a_timeout_naming_it),
        cmocka_unit_test(an_event_before_the_greeting_of_capabilities_is_kept),
        cmocka_unit_test(getfd_passes_the_descriptor_with_the_command),
    };
    return cmocka_run_group_tests_name("qmp", tests, NULL, NULL);
}
