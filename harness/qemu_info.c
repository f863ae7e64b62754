/*
 * What a QEMU binary says of itself: version, accelerators, devices. The output of -version,
 * `-accel help` and `-device help` is parsed; each is asked once per binary.
 */
#include "harness/child.h"
#include "harness/qemu.h"
#include "qtest_client/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    INFO_TIMEOUT_MS = 10000,
    INFO_MAX_OUTPUT = 4 << 20,
};

struct known_binary {
    struct qemu_info info;
    char **accelerators; /* NULL: not asked yet */
    char **devices;
};

static GMutex info_lock;
static GHashTable *known_binaries; /* path -> struct known_binary; kept for good */

G_DEFINE_QUARK(ringlab_qemu_error, qemu_error)

char *qemu_find_binary(GError **error)
{
    const char *wanted = g_getenv("RINGLAB_QEMU");
    bool is_chosen = wanted && *wanted;
    char *path = g_find_program_in_path(is_chosen ? wanted : "qemu-system-x86_64");
    if (path)
        return path;
    if (is_chosen)
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_NOT_FOUND,
                    "no QEMU: RINGLAB_QEMU=%s is no program; set it to the path of a "
                    "qemu-system-x86_64",
                    wanted);
    else
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_NOT_FOUND,
                    "no QEMU: qemu-system-x86_64 is not on PATH; install the package "
                    "qemu-system-x86 or set RINGLAB_QEMU");
    return NULL;
}

/* Runs `path option argument` and returns what it printed. */
static char *ask(const char *path, const char *option, const char *argument, GError **error)
{
    const char *argv[] = {path, option, argument, NULL};
    int log_fd = child_log_new("ringlab-qemu-info", INFO_MAX_OUTPUT);
    int complaints_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (log_fd < 0 || complaints_fd < 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_SYSTEM, "cannot ask %s %s: %s", path, option,
                    g_strerror(errno));
        close(log_fd);
        close(complaints_fd);
        return NULL;
    }
    struct child child;
    struct child_options options = {
        .program = path, .argv = argv, .stdout_fd = log_fd, .stderr_fd = complaints_fd};
    g_autoptr(GError) local = NULL;
    g_autofree char *text = NULL;
    if (!child_start(&child, &options, &local)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_START, "%s", local->message);
    } else if (!child_wait(&child, INFO_TIMEOUT_MS)) {
        child_kill(&child);
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_START,
                    "%s %s did not end within %d ms: is it a QEMU?", path, option, INFO_TIMEOUT_MS);
    } else {
        text = child_log_text(log_fd);
    }
    close(log_fd);
    close(complaints_fd);
    return g_steal_pointer(&text);
}

/* "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)" */
static bool parse_version(struct qemu_info *info, const char *text, GError **error)
{
    static const char marker[] = "QEMU emulator version ";
    const char *version = strstr(text, marker);
    if (!version || sscanf(version + strlen(marker), "%d.%d.%d", &info->major, &info->minor,
                           &info->micro) != 3) {
        g_autofree char *first = g_strndup(text, strcspn(text, "\n"));
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_START,
                    "%s -version printed \"%.120s\", which is no QEMU's version; set RINGLAB_QEMU "
                    "to a qemu-system-x86_64",
                    info->path, first);
        return false;
    }
    g_autofree char *line = g_strndup(version, strcspn(version, "\n"));
    char *open = strchr(line, '(');
    char *close = open ? strrchr(open, ')') : NULL;
    info->package = close ? g_strndup(open + 1, (gsize)(close - open - 1)) : g_strdup("");
    return true;
}

/* `binary` is the path; found or asked while the lock is held. */
static struct known_binary *get_known(char *path, GError **error)
{
    if (!known_binaries)
        known_binaries = g_hash_table_new(g_str_hash, g_str_equal);
    struct known_binary *known = g_hash_table_lookup(known_binaries, path);
    if (known)
        return known;
    g_autofree char *text = ask(path, "-version", NULL, error);
    if (!text)
        return NULL;
    known = g_new0(struct known_binary, 1);
    known->info.path = g_strdup(path);
    if (!parse_version(&known->info, text, error)) {
        g_free(known->info.path);
        g_free(known);
        return NULL;
    }
    g_hash_table_insert(known_binaries, known->info.path, known);
    return known;
}

const struct qemu_info *qemu_info_get(GError **error)
{
    g_autofree char *path = qemu_find_binary(error);
    if (!path)
        return NULL;
    g_mutex_lock(&info_lock);
    struct known_binary *known = get_known(path, error);
    g_mutex_unlock(&info_lock);
    return known ? &known->info : NULL;
}

/* After a heading, one name a line. */
static char **parse_accelerators(const char *text)
{
    GPtrArray *names = g_ptr_array_new();
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        char *name = g_strstrip(*line);
        if (*name && !strchr(name, ' ') && !strchr(name, ':'))
            g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

/* Adds what stands in quotes behind `key`. */
static void add_quoted(GPtrArray *names, const char *line, const char *key)
{
    const char *start = strstr(line, key);
    if (!start)
        return;
    start += strlen(key);
    const char *end = strchr(start, '"');
    if (end)
        g_ptr_array_add(names, g_strndup(start, (gsize)(end - start)));
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* name "ich9-ahci", bus PCI, alias "ahci", desc "..." */
static char **parse_devices(const char *text)
{
    GPtrArray *names = g_ptr_array_new();
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!g_str_has_prefix(*line, "name \""))
            continue;
        add_quoted(names, *line, "name \"");
        add_quoted(names, *line, ", alias \"");
    }
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

/* The list behind *list, asked for if need be. */
static const char *const *get_list(const struct qemu_info *info, char ***list, const char *option,
                                   char **(*parse)(const char *text))
{
    g_mutex_lock(&info_lock);
    if (!*list) {
        g_autofree char *text = ask(info->path, option, "help", NULL);
        *list = parse(text ? text : "");
    }
    g_mutex_unlock(&info_lock);
    return (const char *const *)*list;
}

static struct known_binary *known_of(const struct qemu_info *info)
{
    g_mutex_lock(&info_lock);
    struct known_binary *known = g_hash_table_lookup(known_binaries, info->path);
    g_mutex_unlock(&info_lock);
    return known;
}

const char *const *qemu_info_accelerators(const struct qemu_info *info)
{
    return get_list(info, &known_of(info)->accelerators, "-accel", parse_accelerators);
}

const char *const *qemu_info_devices(const struct qemu_info *info)
{
    return get_list(info, &known_of(info)->devices, "-device", parse_devices);
}

bool qemu_info_has_device(const struct qemu_info *info, const char *name)
{
    return g_strv_contains(qemu_info_devices(info), name);
}

const char *qemu_info_nearest_device(const struct qemu_info *info, const char *name)
{
    const char *const *devices = qemu_info_devices(info);
    return pci_nearest_name(name, devices, g_strv_length((char **)(guintptr)devices));
}
