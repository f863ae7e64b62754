/*
 * What devices need beside themselves on QEMU's command line. One table says which property of
 * which device names what.
 */
#include "harness/devset.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum {
    DEVSET_DEFAULT_MEMORY_BYTES = 1 << 20,
    DEVSET_MIN_MEMORY_BYTES = 4096,
    DEVSET_DEFAULT_VECTORS = 1, /* QEMU's default for ivshmem-doorbell */
};
#define DEVSET_MAX_MEMORY_BYTES (64ull << 30)

/* A device whose name matches `pattern` needs `property`. */
struct rule {
    const char *pattern, *property;
    enum devspec_need need;
    /* NEEDS_OTHER and NEEDS_NETDEV: an option whose `format` takes a made-up id (and a number),
     * which becomes the property; without an option, `format` is the property and takes the number.
     */
    const char *option, *format;
};

#define NEEDS_NETDEV(pattern)                                                                      \
    {                                                                                              \
        pattern, "netdev", DEVSPEC_NEEDS_NETDEV, "-netdev", "hubport,id=%s,hubid=%u"               \
    }
#define NEEDS_OTHER(pattern, property, option, format)                                             \
    {                                                                                              \
        pattern, property, DEVSPEC_NEEDS_OTHER, option, format                                     \
    }

static const struct rule rules[] = {
    NEEDS_NETDEV("virtio-net*"),
    NEEDS_NETDEV("e1000*"),
    NEEDS_NETDEV("igb*"),
    NEEDS_NETDEV("i8255*"),
    NEEDS_NETDEV("i82562"),
    NEEDS_NETDEV("i82801"),
    NEEDS_NETDEV("ne2k_pci"),
    NEEDS_NETDEV("pcnet"),
    NEEDS_NETDEV("rtl8139"),
    NEEDS_NETDEV("tulip"),
    NEEDS_NETDEV("vmxnet3"),
    {"ivshmem-plain", "memdev", DEVSPEC_NEEDS_MEMORY, NULL, NULL},
    {"acpi-erst", "memdev", DEVSPEC_NEEDS_MEMORY, NULL, NULL},
    {"ivshmem-doorbell", "chardev", DEVSPEC_NEEDS_SERVER, NULL, NULL},
    NEEDS_OTHER("virtio-blk-*", "drive", "-blockdev", "null-co,node-name=%s,size=1048576"),
    NEEDS_OTHER("virtio-9p-*", "fsdev", "-fsdev", "synth,id=%s"),
    NEEDS_OTHER("virtio-9p-*", "mount_tag", NULL, "ringlab%u"),
    NEEDS_OTHER("virtio-crypto-*", "cryptodev", "-object", "cryptodev-backend-builtin,id=%s"),
    NEEDS_OTHER("nvme", "serial", NULL, "ringlab%u"),
    NEEDS_OTHER("pci-bridge*", "chassis_nr", NULL, "%u"),
    NEEDS_OTHER("pcie-root-port", "chassis", NULL, "%u"),
    NEEDS_OTHER("AC97", "audiodev", "-audiodev", "none,id=%s"),
    NEEDS_OTHER("ES1370", "audiodev", "-audiodev", "none,id=%s"),
    NEEDS_OTHER("ctucan_pci", "canbus0", "-object", "can-bus,id=%s"),
    NEEDS_OTHER("ctucan_pci", "canbus1", "-object", "can-bus,id=%s"),
    NEEDS_OTHER("kvaser_pci", "canbus", "-object", "can-bus,id=%s"),
    NEEDS_OTHER("mioe3680_pci", "canbus0", "-object", "can-bus,id=%s"),
    NEEDS_OTHER("mioe3680_pci", "canbus1", "-object", "can-bus,id=%s"),
    NEEDS_OTHER("pcm3680_pci", "canbus0", "-object", "can-bus,id=%s"),
    NEEDS_OTHER("pcm3680_pci", "canbus1", "-object", "can-bus,id=%s"),
    NEEDS_OTHER("pci-ipmi-*", "bmc", "-device", "ipmi-bmc-sim,id=%s"),
};

/* What was made for one device. */
struct supply {
    char *device_id;
    struct guest_region *region;   /* or NULL */
    struct ivshmem_server *server; /* or NULL */
};

struct backend {
    const struct guest_region *region;
    char *id;
};

struct devset {
    GPtrArray *specs;    /* struct devspec * */
    GPtrArray *args;     /* char * */
    const char **view;   /* of args, NULL-terminated, as devset_args returned it */
    GArray *fds;         /* int */
    GArray *own_fds;     /* int: those of them that the set closes */
    GPtrArray *supplies; /* struct supply * */
    GPtrArray *backends; /* struct backend * */
    unsigned n_made;     /* numbers the ids given */
};

static void free_supply(gpointer data)
{
    struct supply *supply = data;
    if (supply->server)
        ivshmem_server_free(supply->server);
    if (supply->region)
        guest_region_free(supply->region);
    g_free(supply->device_id);
    g_free(supply);
}

static void free_backend(gpointer data)
{
    struct backend *backend = data;
    g_free(backend->id);
    g_free(backend);
}

static void free_spec(gpointer data)
{
    devspec_free(data);
}

struct devset *devset_new(void)
{
    struct devset *set = g_new0(struct devset, 1);
    set->specs = g_ptr_array_new_with_free_func(free_spec);
    set->args = g_ptr_array_new_with_free_func(g_free);
    set->fds = g_array_new(FALSE, FALSE, sizeof(int));
    set->own_fds = g_array_new(FALSE, FALSE, sizeof(int));
    set->supplies = g_ptr_array_new_with_free_func(free_supply);
    set->backends = g_ptr_array_new_with_free_func(free_backend);
    return set;
}

void devset_free(struct devset *set)
{
    if (!set)
        return;
    devset_started(set);
    g_ptr_array_unref(set->backends);
    g_ptr_array_unref(set->supplies);
    g_array_unref(set->own_fds);
    g_array_unref(set->fds);
    g_free(set->view);
    g_ptr_array_unref(set->args);
    g_ptr_array_unref(set->specs);
    g_free(set);
}

static bool applies(const struct rule *rule, const struct devspec *spec)
{
    return g_pattern_match_simple(rule->pattern, spec->driver) &&
           !devspec_get(spec, rule->property);
}

enum devspec_need devspec_need(const struct devspec *spec)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (applies(&rules[i], spec))
            return rules[i].need;
    }
    return DEVSPEC_NEEDS_NOTHING;
}

G_GNUC_PRINTF(3, 4)
static void add_option(struct devset *set, const char *option, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_ptr_array_add(set->args, g_strdup(option));
    g_ptr_array_add(set->args, g_strdup_vprintf(format, ap));
    va_end(ap);
}

static struct supply *add_supply(struct devset *set, const struct devspec *spec)
{
    struct supply *supply = g_new0(struct supply, 1);
    supply->device_id = g_strdup(spec->id);
    g_ptr_array_add(set->supplies, supply);
    return supply;
}

const char *devset_add_memory(struct devset *set, const struct guest_region *region)
{
    for (guint i = 0; i < set->backends->len; i++) {
        struct backend *known = g_ptr_array_index(set->backends, i);
        if (known->region == region)
            return known->id;
    }
    struct backend *backend = g_new0(struct backend, 1);
    backend->region = region;
    backend->id = g_strdup_printf("ringlab-mem%u", set->n_made++);
    g_ptr_array_add(set->backends, backend);
    g_array_append_val(set->fds, region->fd);
    add_option(set, "-object",
               "memory-backend-file,id=%s,size=%" PRIu64 ",mem-path=/proc/self/fd/%d,share=on",
               backend->id, region->size, region->fd);
    return backend->id;
}

static bool fail(GError **error, const struct devspec *spec, const char *why)
{
    g_set_error(error, DEVSPEC_ERROR, DEVSPEC_ERROR_RESOURCE, "device %s: %s", spec->driver, why);
    return false;
}

/* The memory for `spec`, of the size that its property `size` asks for. */
static struct guest_region *make_memory(struct devspec *spec, GError **error)
{
    uint64_t size = DEVSET_DEFAULT_MEMORY_BYTES;
    const char *text = devspec_get(spec, "size");
    if (text && !devspec_parse_size(text, &size, error))
        return NULL;
    /* QEMU aborts on an ivshmem memory that is no power of two. */
    if (size < DEVSET_MIN_MEMORY_BYTES || size > DEVSET_MAX_MEMORY_BYTES || (size & (size - 1))) {
        g_set_error(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID,
                    "device %s: size=%s must be a power of two from 4K to 64G", spec->driver, text);
        return NULL;
    }
    devspec_set(spec, "size", NULL);
    g_autoptr(GError) local = NULL;
    struct guest_region *region = guest_region_new(spec->id, size, GUEST_HUGEPAGES_OFF, &local);
    if (!region)
        fail(error, spec, local->message);
    return region;
}

static bool supply_memory(struct devset *set, struct devspec *spec, const struct rule *rule,
                          GError **error)
{
    struct guest_region *region = make_memory(spec, error);
    if (!region)
        return false;
    add_supply(set, spec)->region = region;
    devspec_set(spec, rule->property, devset_add_memory(set, region));
    return true;
}

static bool parse_vectors(const struct devspec *spec, unsigned *n, GError **error)
{
    const char *text = devspec_get(spec, "vectors");
    guint64 number = DEVSET_DEFAULT_VECTORS;
    if (text &&
        !g_ascii_string_to_unsigned(text, 10, 1, IVSHMEM_SERVER_MAX_VECTORS, &number, NULL)) {
        g_set_error(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID,
                    "device %s: vectors=%s must be a number from 1 to %d", spec->driver, text,
                    IVSHMEM_SERVER_MAX_VECTORS);
        return false;
    }
    *n = (unsigned)number;
    return true;
}

static bool supply_server(struct devset *set, struct devspec *spec, const struct rule *rule,
                          GError **error)
{
    unsigned n_vectors;
    if (!parse_vectors(spec, &n_vectors, error))
        return false;
    struct guest_region *region = make_memory(spec, error);
    if (!region)
        return false;
    struct supply *supply = add_supply(set, spec);
    supply->region = region;
    g_autoptr(GError) local = NULL;
    supply->server = ivshmem_server_new(region->fd, n_vectors, &local);
    int client_fd = -1;
    uint16_t peer_id;
    if (!supply->server || !ivshmem_server_connect(supply->server, &client_fd, &peer_id, &local))
        return fail(error, spec, local->message);
    g_array_append_val(set->fds, client_fd);
    g_array_append_val(set->own_fds, client_fd);
    g_autofree char *id = g_strdup_printf("ringlab-server%u", set->n_made++);
    add_option(set, "-chardev", "socket,id=%s,fd=%d", id, client_fd);
    devspec_set(spec, rule->property, id);
    return true;
}

static void supply_option(struct devset *set, struct devspec *spec, const struct rule *rule)
{
    unsigned number = ++set->n_made;
    g_autofree char *id = g_strdup_printf("ringlab%u", number);
    if (rule->option) {
        g_ptr_array_add(set->args, g_strdup(rule->option));
        g_ptr_array_add(set->args, g_strdup_printf(rule->format, id, number));
        devspec_set(spec, rule->property, id);
    } else {
        g_autofree char *value = g_strdup_printf(rule->format, number);
        devspec_set(spec, rule->property, value);
    }
}

bool devset_supply(struct devset *set, struct devspec *spec, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        const struct rule *rule = &rules[i];
        if (!applies(rule, spec))
            continue;
        bool ok = true;
        if (rule->need == DEVSPEC_NEEDS_MEMORY)
            ok = supply_memory(set, spec, rule, error);
        else if (rule->need == DEVSPEC_NEEDS_SERVER)
            ok = supply_server(set, spec, rule, error);
        else
            supply_option(set, spec, rule);
        if (!ok)
            return false;
    }
    return true;
}

static bool is_id_taken(const struct devset *set, const char *id)
{
    for (guint i = 0; i < set->specs->len; i++) {
        if (g_strcmp0(devset_get(set, i)->id, id) == 0)
            return true;
    }
    return false;
}

static bool give_id(const struct devset *set, struct devspec *spec, GError **error)
{
    if (spec->id) {
        if (!is_id_taken(set, spec->id))
            return true;
        g_set_error(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID,
                    "device %s: another device has the id %s already", spec->driver, spec->id);
        return false;
    }
    for (unsigned i = 0; !spec->id; i++) {
        g_autofree char *id = g_strdup_printf("dev%u", i);
        if (!is_id_taken(set, id))
            spec->id = g_steal_pointer(&id);
    }
    return true;
}

const struct devspec *devset_add(struct devset *set, struct devspec *spec, GError **error)
{
    if (!give_id(set, spec, error) || !devset_supply(set, spec, error)) {
        devspec_free(spec);
        return NULL;
    }
    g_autofree char *arg = devspec_to_arg(spec);
    add_option(set, "-device", "%s", arg);
    g_ptr_array_add(set->specs, spec);
    return spec;
}

const struct devspec *devset_add_text(struct devset *set, const char *text, GError **error)
{
    struct devspec *spec = devspec_parse(text, error);
    return spec ? devset_add(set, spec, error) : NULL;
}

const char *const *devset_args(struct devset *set)
{
    g_free(set->view);
    set->view = g_new0(const char *, set->args->len + 1);
    for (guint i = 0; i < set->args->len; i++)
        set->view[i] = g_ptr_array_index(set->args, i);
    return set->view;
}

const int *devset_fds(const struct devset *set, unsigned *n)
{
    *n = set->fds->len;
    return (const int *)(gpointer)set->fds->data;
}

void devset_started(struct devset *set)
{
    for (guint i = 0; i < set->own_fds->len; i++)
        close(g_array_index(set->own_fds, int, i));
    g_array_set_size(set->own_fds, 0);
}

unsigned devset_len(const struct devset *set)
{
    return set->specs->len;
}

const struct devspec *devset_get(const struct devset *set, unsigned index)
{
    return g_ptr_array_index(set->specs, index);
}

static struct supply *find_supply(struct devset *set, const char *id)
{
    for (guint i = 0; i < set->supplies->len; i++) {
        struct supply *supply = g_ptr_array_index(set->supplies, i);
        if (g_strcmp0(supply->device_id, id) == 0)
            return supply;
    }
    return NULL;
}

struct guest_region *devset_memory(struct devset *set, const char *id)
{
    struct supply *supply = find_supply(set, id);
    return supply ? supply->region : NULL;
}

struct ivshmem_server *devset_server(struct devset *set, const char *id)
{
    struct supply *supply = find_supply(set, id);
    return supply ? supply->server : NULL;
}
