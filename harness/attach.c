/*
 * The devices of `ringlab attach`, and the command line of the QEMU they are for.
 */
#include "harness/attach_private.h"

#include "harness/devspec.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

G_DEFINE_QUARK(ringlab - attach, attach_error)

enum {
    MEMDEV_MEMORY_BAR = 1,
    FIRST_IVSHMEM_SLOT = 0x1e, /* downwards: slots that nobody is given by default */
    LAST_IVSHMEM_SLOT = 0x18,
};

void attach_note(struct attach *a, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    if (a->note) {
        a->note(line);
    }
}

static void log_netmap(void *data, const char *line)
{
    attach_note(data, "%s", line);
}

static bool make_pair(int pair[2], GError **error)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        return true;
    }
    g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_SYSTEM, "cannot make a socket pair: %s",
                g_strerror(errno));
    return false;
}

struct attach *attach_new(attach_note_fn note, GError **error)
{
    struct attach *a = g_new0(struct attach, 1);
    int pair[2];

    a->note = note;
    a->devices = g_ptr_array_new();
    a->links = g_ptr_array_new_with_free_func((GDestroyNotify)attach_link_free);
    a->fds = g_array_new(FALSE, FALSE, sizeof(int));
    a->far_fds = g_array_new(FALSE, FALSE, sizeof(int));
    a->host = nm_host_new(NULL, error);
    if (!a->host || !make_pair(pair, error)) {
        attach_free(a);
        return NULL;
    }
    nm_host_set_log(a->host, log_netmap, a);
    a->qtest_far = pair[1];
    g_array_append_val(a->fds, pair[1]);
    g_array_append_val(a->far_fds, pair[1]);
    attach_inject_start(a, pair[0]);
    return a;
}

struct nm_host *attach_host(struct attach *a)
{
    return a->host;
}

static void close_far_ends(struct attach *a)
{
    for (guint i = 0; i < a->far_fds->len; i++) {
        close(g_array_index(a->far_fds, int, i));
    }
    g_array_set_size(a->far_fds, 0);
}

static void free_device(struct attach_device *d)
{
    if (!d->proxy || qemu_proxy_free(d->proxy)) {
        pci_model_free(d->model);
    }
    g_free(d->id);
    g_free(d->properties);
    g_free(d);
}

void attach_free(struct attach *a)
{
    close_far_ends(a);
    attach_inject_stop(a);
    for (guint i = a->devices->len; i > 0; i--) { /* memdevs before the ports they are of */
        free_device(a->devices->pdata[i - 1]);
    }
    g_ptr_array_unref(a->devices);
    g_ptr_array_unref(a->links);
    nm_host_free(a->host);
    g_array_unref(a->fds);
    g_array_unref(a->far_fds);
    g_free(a);
}

struct attach_stats attach_stats(struct attach *a)
{
    return (struct attach_stats){.messages = atomic_load(&a->n_messages),
                                 .failures = atomic_load(&a->n_failures),
                                 .placements = atomic_load(&a->n_placements)};
}

/* ---- devices ---- */

static struct attach_device *serve(struct attach *a, struct pci_model *model, const char *id,
                                   bool is_memdev, GError **error)
{
    struct attach_device *d = g_new0(struct attach_device, 1);
    struct qemu_proxy_options options = {
        .late_bars = is_memdev ? 1u << MEMDEV_MEMORY_BAR : 0,
        .bar_accessed = is_memdev ? attach_place_memory : NULL,
        .data = d,
    };
    int pair[2];

    d->attach = a;
    d->model = model;
    d->id = g_strdup(id);
    d->is_memdev = is_memdev;
    pci_model_set_msi(model, attach_inject, a);
    if (!make_pair(pair, error)) {
        free_device(d);
        return NULL;
    }
    d->far_fd = pair[1];
    g_array_append_val(a->fds, pair[1]);
    g_array_append_val(a->far_fds, pair[1]);
    d->proxy = qemu_proxy_new(model, pair[0], &options, error);
    if (!d->proxy) {
        free_device(d);
        return NULL;
    }
    g_ptr_array_add(a->devices, d);
    return d;
}

static bool has_memdev(struct attach *a, uint16_t memory_id)
{
    for (guint i = 0; i < a->devices->len; i++) {
        const struct attach_device *d = a->devices->pdata[i];
        if (d->is_memdev && d->memory_id == memory_id) {
            return true;
        }
    }
    return false;
}

static bool add_memdev(struct attach *a, struct nm_file *file, GError **error)
{
    uint16_t memory_id = nm_mem_id(file->mem);

    if (has_memdev(a, memory_id)) {
        return true;
    }
    if (a->n_memdevs > FIRST_IVSHMEM_SLOT - LAST_IVSHMEM_SLOT) {
        g_set_error(
            error, ATTACH_ERROR, ATTACH_ERROR_SPEC,
            "more than %u separate memories; let ports share one ('@ID' behind their names)",
            a->n_memdevs);
        return false;
    }
    struct pci_model *model = memdev_new(file, error);
    if (!model) {
        return false;
    }
    g_autofree char *id = g_strdup_printf("ringlab-memdev%u", a->n_memdevs);
    struct attach_device *d = serve(a, model, id, true, error);
    if (!d) {
        return false;
    }
    d->memory_id = memory_id;
    d->ivshmem_slot = FIRST_IVSHMEM_SLOT - a->n_memdevs++;
    int memory_fd = pci_model_bar(model, MEMDEV_MEMORY_BAR)->memory_fd;
    g_array_append_val(a->fds, memory_fd);
    return true;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
    unsigned b[6];
    char rest;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
               &rest) != 6) {
        return false;
    }
    for (unsigned i = 0; i < 6; i++) {
        mac[i] = (uint8_t)b[i];
    }
    return true;
}

static bool parse_switch(const struct devspec *spec, const char *key, bool *is_off, GError **error)
{
    const char *value = devspec_get(spec, key);

    if (value && strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
        g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_SPEC, "%s=%s: it is on or off", key, value);
        return false;
    }
    *is_off = value && strcmp(value, "off") == 0;
    return true;
}

/* What is ours is taken out of `spec`; the rest is QEMU's. */
static bool parse_ptnet(struct devspec *spec, char **port, struct ptnet_options *options,
                        GError **error)
{
    const char *mac = devspec_get(spec, "mac");

    *port = g_strdup(devspec_get(spec, "port"));
    if (!*port) {
        g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_SPEC,
                    "ptnet-pci: no port; 'ptnet-pci,port=vale0:a' names one");
        return false;
    }
    if (mac && !parse_mac(mac, options->mac)) {
        g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_SPEC, "ptnet-pci: mac=%s is no MAC address",
                    mac);
        return false;
    }
    if (!parse_switch(spec, "klooptx", &options->kloop_direct_tx, error) ||
        !parse_switch(spec, "klooprx", &options->kloop_direct_rx, error)) {
        return false;
    }
    options->port = *port;
    for (unsigned i = 0; i < 4; i++) {
        static const char *const ours[] = {"port", "mac", "klooptx", "klooprx"};
        devspec_set(spec, ours[i], NULL);
    }
    return true;
}

bool attach_add_device(struct attach *a, const char *text, GError **error)
{
    g_autoptr(devspec) spec = devspec_parse(text, error);
    g_autofree char *port = NULL;
    struct ptnet_options options = {0};

    if (!spec) {
        return false;
    }
    if (strcmp(spec->driver, "ptnet-pci") != 0) {
        g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_SPEC,
                    "there is no modelled device '%s'; there is ptnet-pci", spec->driver);
        return false;
    }
    /* told apart by default, as QEMU does it */
    options.mac[0] = 0x52, options.mac[1] = 0x54, options.mac[3] = 0x12, options.mac[4] = 0x34;
    options.mac[5] = (uint8_t)(0x56 + a->n_ptnets);
    if (!parse_ptnet(spec, &port, &options, error)) {
        return false;
    }
    struct pci_model *model = ptnet_new(a->host, &options, error);
    if (!model) {
        return false;
    }
    g_autofree char *id = g_strdup_printf("ringlab-ptnet%u", a->n_ptnets++);
    struct attach_device *d = serve(a, model, spec->id ? spec->id : id, false, error);
    if (!d) {
        return false;
    }
    g_free(spec->driver);
    spec->driver = g_strdup("x-pci-proxy-dev");
    devspec_set(spec, "id", NULL);
    d->properties = devspec_to_arg(spec);
    attach_note(a, "ptnet-pci '%s' on port %s", d->id, port);
    return add_memdev(a, ptnet_file(ptnet_of(model)), error);
}

/* ---- the command line ---- */

G_GNUC_PRINTF(3, 4)
static void add2(GPtrArray *argv, const char *option, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, g_strdup_vprintf(format, args));
    va_end(args);
}

/* "-m 512", "-m 1G", "-m size=1G,slots=2": bytes; without a unit it counts MiB. */
static bool parse_memory(const char *value, uint64_t *bytes, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);

    for (char **part = parts; *part; part++) {
        const char *size = *part;
        char *end;
        if (g_str_has_prefix(size, "size=")) {
            size += strlen("size=");
        } else if (strchr(size, '=')) {
            continue;
        }
        guint64 number = g_ascii_strtoull(size, &end, 10);
        unsigned shift = 20;
        if (*end) {
            const char *unit = strchr("BKMGT", g_ascii_toupper(*end));
            shift = unit ? (unsigned)(unit - "BKMGT") * 10 : 64;
        }
        if (end == size || shift == 64 || (*end && end[1]) || number == 0 ||
            number > (UINT64_C(1) << 46) >> shift) {
            break;
        }
        *bytes = number << shift;
        return true;
    }
    g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_COMMAND, "cannot read how much RAM '-m %s' means",
                value);
    return false;
}

/* RAM must be shared: the models reach it through its descriptor. */
static bool share_memory(GPtrArray *argv, char *const *command, GError **error)
{
    uint64_t bytes = UINT64_C(128) << 20; /* QEMU's default */

    for (char *const *arg = command; *arg; arg++) {
        if (strstr(*arg, "memory-backend=") || g_str_has_prefix(*arg, "-mem-path") ||
            g_str_has_prefix(*arg, "-numa")) {
            return true; /* the user's own; share=on is theirs to say */
        }
        if (strcmp(*arg, "-m") == 0 && arg[1] && !parse_memory(arg[1], &bytes, error)) {
            return false;
        }
    }
    add2(argv, "-object", "memory-backend-memfd,id=ringlab-ram,size=%" G_GUINT64_FORMAT ",share=on",
         bytes);
    add2(argv, "-machine", "memory-backend=ringlab-ram");
    return true;
}

static void add_devices(struct attach *a, GPtrArray *argv)
{
    for (guint i = 0; i < a->devices->len; i++) {
        const struct attach_device *d = a->devices->pdata[i];
        add2(argv, "-device", "%s,id=%s,fd=%d", d->properties ? d->properties : "x-pci-proxy-dev",
             d->id, d->far_fd);
        if (d->is_memdev) {
            const struct pci_model_bar *bar = pci_model_bar(d->model, MEMDEV_MEMORY_BAR);
            add2(argv, "-object",
                 "memory-backend-file,id=%s-memory,size=%u,mem-path=/proc/self/fd/%d,share=on",
                 d->id, bar->size, bar->memory_fd);
            add2(argv, "-device", "ivshmem-plain,id=%s-window,memdev=%s-memory,addr=0x%x", d->id,
                 d->id, d->ivshmem_slot);
        }
    }
}

GPtrArray *attach_command(struct attach *a, char *const *command, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);

    if (!*command) {
        g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_COMMAND,
                    "no QEMU command; it stands behind '--'");
        return NULL;
    }
    for (char *const *arg = command; *arg; arg++) {
        if (strcmp(*arg, "-qtest") == 0) {
            g_set_error(error, ATTACH_ERROR, ATTACH_ERROR_COMMAND,
                        "the QEMU command has a -qtest of its own, and there can be only one");
            return NULL;
        }
        g_ptr_array_add(argv, g_strdup(*arg));
    }
    if (!share_memory(argv, command, error)) {
        return NULL;
    }
    add2(argv, "-chardev", "socket,id=ringlab-qtest,fd=%d", a->qtest_far);
    add2(argv, "-object", "qtest,id=ringlab-qtest-server,chardev=ringlab-qtest,log=none");
    add_devices(a, argv);
    g_ptr_array_add(argv, NULL);
    return g_steal_pointer(&argv);
}

const int *attach_fds(struct attach *a, unsigned *n)
{
    *n = a->fds->len;
    return (const int *)(const void *)a->fds->data;
}

void attach_started(struct attach *a)
{
    close_far_ends(a);
}
