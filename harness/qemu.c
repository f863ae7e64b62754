/*
 * One QEMU process: its command line, its two sockets, its end. Whatever names a file would
 * usually be needed for (sockets, the ROM, machine RAM, the log) is an inherited descriptor.
 */
#include "harness/qemu.h"
#include "harness/child.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    QEMU_DEFAULT_TIMEOUT_MS = 5000,
    QEMU_DEFAULT_RAM_BYTES = 16 << 20,
    QEMU_MAX_LOG_BYTES = 16 << 20,
    QEMU_N_LAST_LINES = 3,
    /* From the end of a socket to the process being reapable: exit closes files before it ends. */
    QEMU_END_TIMEOUT_MS = 2000,
};

/* images/park/embed.S */
extern const char park_rom[], park_rom_end[];

struct qemu {
    char *name;
    char *accelerator; /* NULL: QEMU chooses */
    unsigned timeout_ms;
    struct child child;
    GPtrArray *argv;
    int log_fd;
    struct qtest *qtest;
    struct qmp *qmp;
};

/* The parent's copies of what only the child needs, closed when it has started. */
struct far_ends {
    int qtest, qmp, rom;
};

static bool fail_system(const struct qemu *qemu, const char *what, GError **error)
{
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_SYSTEM, "QEMU %s: cannot make %s: %s", qemu->name,
                what, g_strerror(errno));
    return false;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

static int rom_new(void)
{
    int fd = memfd_create("ringlab-park-rom", MFD_CLOEXEC);
    size_t len = (size_t)(park_rom_end - park_rom);
    if (fd >= 0 && write(fd, park_rom, len) != (ssize_t)len) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool make_socket_pair(int *near, int *far)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    *near = pair[0];
    *far = pair[1];
    return true;
}

G_GNUC_PRINTF(2, 3) static void add_arg(GPtrArray *argv, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_ptr_array_add(argv, g_strdup_vprintf(format, ap));
    va_end(ap);
}

static void add_option(GPtrArray *argv, const char *option, const char *value)
{
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, g_strdup(value));
}

static void add_machine(GPtrArray *argv, const struct qemu_options *options)
{
    uint64_t ram_bytes = options->ram_bytes ? options->ram_bytes : QEMU_DEFAULT_RAM_BYTES;
    const char *ram = "";
    if (options->ram_fd > 0) {
        add_arg(argv, "-object");
        add_arg(argv,
                "memory-backend-file,id=ringlab-ram,size=%" PRIu64
                ",mem-path=/proc/self/fd/%d,share=on",
                ram_bytes, options->ram_fd);
        ram = ",memory-backend=ringlab-ram";
    }
    /* The timer chip would raise GSI 0 all the time. */
    add_arg(argv, "-machine");
    add_arg(argv, "%s,pit=off%s", options->board == MACHINE_Q35 ? "q35" : "pc", ram);
    add_arg(argv, "-m");
    add_arg(argv, "%" PRIu64 "B", ram_bytes);
}

static void build_argv(struct qemu *qemu, const char *binary, const struct qemu_options *options,
                       const struct far_ends *far)
{
    GPtrArray *argv = qemu->argv;
    add_arg(argv, "%s", binary);
    add_machine(argv, options);
    if (qemu->accelerator) {
        add_option(argv, "-accel", qemu->accelerator);
    } else {
        add_option(argv, "-accel", "qtest");
        add_option(argv, "-accel", "tcg");
    }
    add_arg(argv, "-bios");
    add_arg(argv, "/proc/self/fd/%d", far->rom);
    add_option(argv, "-display", "none");
    add_arg(argv, "-nodefaults");
    add_arg(argv, "-no-user-config");
    add_arg(argv, "-chardev");
    add_arg(argv, "socket,id=ringlab-qtest,fd=%d", far->qtest);
    add_option(argv, "-object", "qtest,id=ringlab-qtest-server,chardev=ringlab-qtest,log=none");
    add_arg(argv, "-chardev");
    add_arg(argv, "socket,id=ringlab-qmp,fd=%d", far->qmp);
    add_option(argv, "-mon", "chardev=ringlab-qmp,mode=control");
    for (const char *const *arg = options->args; arg && *arg; arg++)
        add_arg(argv, "%s", *arg);
    g_ptr_array_add(argv, NULL);
}

/* ---- what became of it ---- */

/* What our own command line makes QEMU say: that it has no qtest accelerator, and that a hub is
 * meant for nothing but its network cards. */
static bool is_expected(const struct qemu *qemu, const char *line)
{
    if (strstr(line, "warning: hub ") &&
        g_str_has_suffix(line, " is not connected to host network"))
        return true;
    return !qemu->accelerator && (g_str_has_suffix(line, "invalid accelerator qtest") ||
                                  g_str_has_suffix(line, ": falling back to tcg"));
}

char *qemu_log(struct qemu *qemu)
{
    g_autofree char *text = child_log_text(qemu->log_fd);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GString *kept = g_string_new(NULL);
    for (char **line = lines; *line; line++) {
        if (!is_expected(qemu, *line))
            g_string_append_printf(kept, "%s%s", *line, line[1] ? "\n" : "");
    }
    return g_string_free(kept, FALSE);
}

/* Its last lines as one, without the program's name before each; "" if there are none. */
static char *last_lines(struct qemu *qemu)
{
    g_autofree char *log = qemu_log(qemu);
    g_autofree char *program = g_path_get_basename(g_ptr_array_index(qemu->argv, 0));
    g_autofree char *prefix = g_strdup_printf("%s: ", program);
    g_auto(GStrv) lines = g_strsplit(log, "\n", -1);
    GString *text = g_string_new(NULL);
    unsigned n = 0;
    for (guint i = g_strv_length(lines); i > 0 && n < QEMU_N_LAST_LINES; i--) {
        char *line = g_strstrip(lines[i - 1]);
        if (g_str_has_prefix(line, prefix))
            line += strlen(prefix);
        if (!*line)
            continue;
        if (n++ > 0)
            g_string_prepend(text, " | ");
        g_autofree char *cut = g_strndup(line, 300);
        g_autofree char *valid = g_utf8_make_valid(cut, -1);
        g_string_prepend(text, valid);
    }
    return g_string_free(text, FALSE);
}

/* "QEMU m was killed by signal 9 (Killed): last lines" */
static char *describe_end(struct qemu *qemu)
{
    g_autofree char *how = child_how_ended(&qemu->child);
    g_autofree char *lines = last_lines(qemu);
    return g_strdup_printf("QEMU %s %s%s%s", qemu->name, how, *lines ? ": " : "", lines);
}

static char *on_closed(void *data)
{
    struct qemu *qemu = data;
    child_wait(&qemu->child, QEMU_END_TIMEOUT_MS);
    return describe_end(qemu);
}

bool qemu_is_alive(struct qemu *qemu, char **reason)
{
    /* A process closes its sockets some time before it has ended. */
    struct pollfd p = {.fd = qtest_fd(qemu->qtest)};
    bool is_ending = poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
    if (reason)
        *reason = NULL;
    if (!child_wait(&qemu->child, is_ending ? QEMU_END_TIMEOUT_MS : 0))
        return true;
    if (reason) {
        g_autofree char *how = child_how_ended(&qemu->child);
        g_autofree char *lines = last_lines(qemu);
        *reason = g_strdup_printf("%s%s%s", how, *lines ? ": " : "", lines);
    }
    return false;
}

/* ---- starting ---- */

/* What stands between `before` and `after` in `text`; `before` is looked for to the left of
 * `after`. NULL if it does not stand there. */
static char *between(const char *text, const char *before, const char *after)
{
    const char *end = strstr(text, after);
    const char *start = end ? g_strrstr_len(text, end - text, before) : NULL;
    if (!start)
        return NULL;
    start += strlen(before);
    return g_strndup(start, (gsize)(end - start));
}

static bool fail_device(const struct qemu *qemu, const char *name, GError **error)
{
    const struct qemu_info *info = qemu_info_get(NULL);
    const char *nearest = info ? qemu_info_nearest_device(info, name) : NULL;
    g_autofree char *hint = nearest
                                ? g_strdup_printf("did you mean %s?", nearest)
                                : g_strdup_printf("'%s -device help' lists those it has",
                                                  (const char *)g_ptr_array_index(qemu->argv, 0));
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNSUPPORTED, "QEMU %s: there is no device %s; %s",
                qemu->name, name, hint);
    return false;
}

static bool fail_accelerator(const struct qemu *qemu, const char *lines, GError **error)
{
    const struct qemu_info *info = qemu_info_get(NULL);
    g_autofree char *list =
        info ? g_strjoinv(", ", (char **)(guintptr)qemu_info_accelerators(info)) : NULL;
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNSUPPORTED,
                "QEMU %s: accelerator %s cannot be used (this QEMU has %s): %s", qemu->name,
                qemu->accelerator, list ? list : "others", lines);
    return false;
}

/* It ended while starting: says why in its own words, or in ours where we can tell what to do. */
static bool fail_ended(const struct qemu *qemu, const char *lines, GError **error)
{
    g_autofree char *device = between(lines, "'", "' is not a valid device model name");
    if (device)
        return fail_device(qemu, device, error);
    if (qemu->accelerator &&
        (strstr(lines, "invalid accelerator") || strstr(lines, "failed to initialize ")))
        return fail_accelerator(qemu, lines, error);
    bool is_unsupported = strstr(lines, "unsupported machine type") != NULL;
    g_autofree char *how = child_how_ended(&qemu->child);
    g_autofree char *silent =
        g_strdup_printf("it printed nothing; is %s a qemu-system-x86_64? (RINGLAB_QEMU names one)",
                        (const char *)g_ptr_array_index(qemu->argv, 0));
    g_set_error(error, QEMU_ERROR,
                (int)(is_unsupported ? QEMU_ERROR_UNSUPPORTED : QEMU_ERROR_START),
                "QEMU %s %s while starting: %s", qemu->name, how, *lines ? lines : silent);
    return false;
}

/* Turns what a socket reported during the start into what happened to the process. */
static bool fail_start(struct qemu *qemu, const GError *cause, GError **error)
{
    bool is_closed = g_error_matches(cause, QMP_ERROR, QMP_ERROR_CLOSED) ||
                     g_error_matches(cause, QTEST_ERROR, QTEST_ERROR_CLOSED);
    bool is_ended = child_wait(&qemu->child, is_closed ? QEMU_END_TIMEOUT_MS : 0);
    g_autofree char *lines = last_lines(qemu);
    if (is_ended)
        return fail_ended(qemu, lines, error);
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_START, "QEMU %s did not start: %s%s%s", qemu->name,
                cause->message, *lines ? "; it printed: " : "", lines);
    return false;
}

static bool spawn(struct qemu *qemu, const struct qemu_options *options, const struct far_ends *far,
                  GError **error)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    int ours[] = {far->qtest, far->qmp, far->rom};
    g_array_append_vals(fds, ours, G_N_ELEMENTS(ours));
    if (options->ram_fd > 0)
        g_array_append_val(fds, options->ram_fd);
    if (options->n_inherit_fds)
        g_array_append_vals(fds, options->inherit_fds, options->n_inherit_fds);
    struct child_options child_options = {
        .program = g_ptr_array_index(qemu->argv, 0),
        .argv = (const char *const *)qemu->argv->pdata,
        .inherit_fds = (const int *)(gpointer)fds->data,
        .n_inherit_fds = fds->len,
        .stdout_fd = qemu->log_fd,
        .stderr_fd = qemu->log_fd,
    };
    g_autoptr(GError) local = NULL;
    if (child_start(&qemu->child, &child_options, &local))
        return true;
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_START, "QEMU %s: %s", qemu->name, local->message);
    return false;
}

static bool shake_hands(struct qemu *qemu, int qmp_near, GError **error)
{
    GError *cause = NULL;
    qemu->qmp = qmp_new(qmp_near, (int)qemu->timeout_ms, &cause);
    if (qemu->qmp && qtest_barrier(qemu->qtest, &cause)) {
        qmp_set_closed_hook(qemu->qmp, on_closed, qemu);
        qtest_set_closed_hook(qemu->qtest, on_closed, qemu);
        return true;
    }
    fail_start(qemu, cause, error);
    g_error_free(cause);
    return false;
}

static bool start(struct qemu *qemu, const char *binary, const struct qemu_options *options,
                  struct far_ends *far, GError **error)
{
    int qtest_near = -1, qmp_near = -1;
    qemu->log_fd = child_log_new("ringlab-qemu-log", QEMU_MAX_LOG_BYTES);
    if (qemu->log_fd < 0)
        return fail_system(qemu, "a memfd for the log", error);
    far->rom = rom_new();
    if (far->rom < 0)
        return fail_system(qemu, "a memfd for the ROM", error);
    if (!make_socket_pair(&qtest_near, &far->qtest))
        return fail_system(qemu, "a socket pair", error);
    qemu->qtest = qtest_new(qtest_near);
    qtest_set_timeout(qemu->qtest, qemu->timeout_ms);
    if (!make_socket_pair(&qmp_near, &far->qmp))
        return fail_system(qemu, "a socket pair", error);
    build_argv(qemu, binary, options, far);
    if (!spawn(qemu, options, far, error)) {
        close(qmp_near);
        return false;
    }
    /* With our copies closed, the end of the process is the end of the sockets. */
    close(far->qtest);
    close(far->qmp);
    far->qtest = far->qmp = -1;
    return shake_hands(qemu, qmp_near, error);
}

struct qemu *qemu_start(const struct qemu_options *options, GError **error)
{
    g_autofree char *binary = qemu_find_binary(error);
    if (!binary)
        return NULL;
    struct qemu *qemu = g_new0(struct qemu, 1);
    qemu->name = g_strdup(options->name ? options->name : "machine");
    qemu->accelerator = g_strdup(options->accelerator);
    qemu->timeout_ms = options->timeout_ms ? options->timeout_ms : QEMU_DEFAULT_TIMEOUT_MS;
    qemu->child = (struct child){.pidfd = -1};
    qemu->argv = g_ptr_array_new_with_free_func(g_free);
    qemu->log_fd = -1;
    struct far_ends far = {-1, -1, -1};
    bool ok = start(qemu, binary, options, &far, error);
    close_if_open(far.qtest);
    close_if_open(far.qmp);
    close_if_open(far.rom);
    if (ok)
        return qemu;
    qemu_free(qemu);
    return NULL;
}

void qemu_free(struct qemu *qemu)
{
    if (!qemu)
        return;
    child_kill(&qemu->child);
    qtest_free(qemu->qtest);
    qmp_free(qemu->qmp);
    close_if_open(qemu->log_fd);
    g_ptr_array_free(qemu->argv, TRUE);
    g_free(qemu->accelerator);
    g_free(qemu->name);
    g_free(qemu);
}

struct qtest *qemu_qtest(struct qemu *qemu)
{
    return qemu->qtest;
}

struct qmp *qemu_qmp(struct qemu *qemu)
{
    return qemu->qmp;
}

int qemu_pid(const struct qemu *qemu)
{
    return qemu->child.pid;
}

const char *qemu_accelerator(const struct qemu *qemu)
{
    if (qemu->accelerator)
        return qemu->accelerator;
    g_autofree char *log = child_log_text(qemu->log_fd);
    return strstr(log, "invalid accelerator qtest") ? "tcg" : "qtest";
}

char *qemu_command_line(struct qemu *qemu)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i + 1 < qemu->argv->len; i++) {
        g_autofree char *quoted = g_shell_quote(g_ptr_array_index(qemu->argv, i));
        g_string_append_printf(text, "%s%s", i ? " " : "", quoted);
    }
    return g_string_free(text, FALSE);
}
