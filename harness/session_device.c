/*
 * Devices of a session: from a specification to QEMU's command line and to a function on the bus.
 * Hotplug is session_hotplug.c's.
 */
#include "harness/session_private.h"
#include "harness/session_ptnet.h"
#include "models/abi/ivshmem.h"

#include <string.h>

enum {
    FIRST_SLOT = 4, /* below lie what the boards bring themselves */
    LAST_SLOT = 24, /* q35 keeps the slots above for itself */
    DEFAULT_SHARED = 4 << 20,
    MIN_SHARED = 4096,
};

/* ---- specifications ---- */

/* By any device, or only by those that are plugged in now. */
static bool slot_is_taken(const struct session_machine *m, const char *bus, unsigned slot,
                          bool by_any)
{
    for (guint i = 0; i < m->devices->len; i++) {
        const struct session_device *d = m->devices->pdata[i];
        if (d->slot == slot && g_strcmp0(d->bus, bus) == 0 && (by_any || !d->is_unplugged)) {
            return true;
        }
    }
    return false;
}

/* "4", "0x4", "4.0": slot, and function if given. */
static bool parse_addr(struct session_device *dev, const char *text, GError **error)
{
    char *end;
    guint64 slot = g_ascii_strtoull(text, &end, 16), function = 0;

    bool ok = end != text && slot < 32;
    if (ok && *end == '.') {
        const char *from = end + 1;
        function = g_ascii_strtoull(from, &end, 16);
        ok = end != from && function < 8;
    }
    if (!ok || *end != '\0') {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "device '%s': addr=%s is no slot (hexadecimal, 0 to 1f, with .function)",
                    dev->spec->driver, text);
        return false;
    }
    dev->slot = (unsigned)slot;
    dev->function = (unsigned)function;
    return true;
}

/* A conventional bridge keeps slot 0 for hotplug control, a port of PCI Express has no other. */
static void slots_of_bus(const struct session_device *dev, unsigned *first, unsigned *last)
{
    const struct session_device *bridge =
        dev->bus ? session_device_by_id(dev->machine, dev->bus) : NULL;
    const char *driver = bridge ? bridge->spec->driver : "";
    bool is_port =
        strcmp(driver, "pcie-root-port") == 0 || strcmp(driver, "xio3130-downstream") == 0;

    *first = !dev->bus ? FIRST_SLOT : strcmp(driver, "pci-bridge") == 0 ? 1 : 0;
    *last = is_port ? 0 : LAST_SLOT;
}

/* One that nobody had; else one that is free again. */
static bool choose_slot(struct session_device *dev, GError **error)
{
    unsigned first, last;

    slots_of_bus(dev, &first, &last);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned s = first; s <= last; s++) {
            if (!slot_is_taken(dev->machine, dev->bus, s, i == 0)) {
                dev->slot = s;
                return true;
            }
        }
    }
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                "machine '%s' has no slot left for '%s'%s%s", dev->machine->name, dev->spec->driver,
                dev->bus ? " on bus " : "", dev->bus ? dev->bus : "");
    return false;
}

/* ---- what it needs ---- */

static bool make_region(struct session_device *dev, GError **error)
{
    uint64_t size = DEFAULT_SHARED;
    const char *text = devspec_get(dev->spec, "size");

    if (dev->region) {
        return true;
    }
    if (text && !devspec_parse_size(text, &size, error)) {
        return false;
    }
    /* QEMU aborts on shared memory that is no power of two */
    if (text && (size < MIN_SHARED || (size & (size - 1)) != 0)) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "device '%s': size=%s must be a power of two, 4K or more", dev->spec->driver,
                    text);
        return false;
    }
    devspec_set(dev->spec, "size", NULL);
    dev->region =
        session_memory_new(dev->machine->session, dev->spec->id, size, GUEST_HUGEPAGES_OFF, error);
    return dev->region != NULL;
}

static bool make_server(struct session_device *dev, GError **error)
{
    const char *text = devspec_get(dev->spec, "vectors");
    guint64 n_vectors = 1; /* as QEMU has it */

    if (dev->server) {
        dev->region = session_server_region(dev->machine->session, dev->server);
        return true;
    }
    if (text &&
        !g_ascii_string_to_unsigned(text, 10, 1, IVSHMEM_SERVER_MAX_VECTORS, &n_vectors, NULL)) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "device '%s': vectors=%s must be a number from 1 to %d", dev->spec->driver,
                    text, IVSHMEM_SERVER_MAX_VECTORS);
        return false;
    }
    if (!make_region(dev, error)) {
        return false;
    }
    dev->server =
        session_ivshmem_server_new(dev->machine->session, dev->region, (unsigned)n_vectors, error);
    return dev->server != NULL;
}

/* Makes what is missing, and sets the properties that name it. */
static bool supply(struct session_device *dev, GError **error)
{
    const struct devneed *need;

    while ((need = devneed_next(dev->spec)) != NULL) {
        g_autofree char *id = g_strdup_printf("%s.%s", dev->spec->id, need->property);
        g_autofree char *value = NULL;
        if ((need->kind == DEVNEED_MEMORY && !make_region(dev, error)) ||
            (need->kind == DEVNEED_SERVER && !make_server(dev, error))) {
            return false;
        }
        if (need->memory) {
            g_ptr_array_add(dev->options, g_strdup("-m"));
            g_ptr_array_add(dev->options, g_strdup(need->memory));
        }
        if (need->option) {
            g_ptr_array_add(dev->options, g_strdup(need->option));
            value = strstr(need->format, "%s") ? g_strdup_printf(need->format, id) : NULL;
            g_ptr_array_add(dev->options, g_steal_pointer(&value));
        }
        if (need->kind == DEVNEED_NUMBER) {
            value = g_strdup_printf(need->format, dev->machine->n_numbers++ + 1);
        }
        if (need->kind == DEVNEED_MEMORY) {
            dev->has_memdev = true;
        }
        if (need->kind == DEVNEED_SERVER) {
            dev->has_chardev = true;
        }
        devspec_set(dev->spec, need->property, value ? value : id);
    }
    return true;
}

static bool id_is_free(struct session_machine *m, const char *id)
{
    for (guint i = 0; i < m->devices->len; i++) {
        if (strcmp(((struct session_device *)m->devices->pdata[i])->spec->id, id) == 0) {
            return false;
        }
    }
    return true;
}

static bool give_id(struct session_device *dev, GError **error)
{
    struct session_machine *m = dev->machine;

    if (dev->spec->id && !id_is_free(m, dev->spec->id)) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "device '%s': another device of machine '%s' has the id '%s' already",
                    dev->spec->driver, m->name, dev->spec->id);
        return false;
    }
    for (unsigned i = m->devices->len; !dev->spec->id; i++) {
        g_autofree char *id = g_strdup_printf("dev%u", i);
        if (id_is_free(m, id)) {
            devspec_set(dev->spec, "id", id);
        }
    }
    return true;
}

struct session_device *session_device_parse(struct session_machine *m, const char *text,
                                            const struct session_backing *backing, GError **error)
{
    struct devspec *spec = devspec_parse(text, error);

    if (!spec) {
        return NULL;
    }
    struct session_device *dev = g_new0(struct session_device, 1);
    dev->machine = m;
    dev->spec = spec;
    dev->options = g_ptr_array_new_with_free_func(g_free);
    dev->region = backing ? backing->region : NULL;
    dev->server = backing ? backing->server : NULL;
    dev->bus = g_strdup(devspec_get(spec, "bus"));
    const char *addr = devspec_get(spec, "addr");
    if (!give_id(dev, error) || !(addr ? parse_addr(dev, addr, error) : choose_slot(dev, error)) ||
        !supply(dev, error)) {
        session_device_free(dev);
        return NULL;
    }
    if (!addr) {
        g_autofree char *chosen = g_strdup_printf("%x.%x", dev->slot, dev->function);
        devspec_set(spec, "addr", chosen);
    }
    return dev;
}

struct session_device *session_device_new(struct session_machine *m, const char *spec,
                                          const struct session_backing *backing, GError **error)
{
    if (m->qemu) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    "machine '%s' runs already: plug '%s' in instead", m->name, spec);
        return NULL;
    }
    if (session_ptnet_is(spec)) {
        return session_ptnet_new(m, spec, NULL, error);
    }
    struct session_device *dev = session_device_parse(m, spec, backing, error);
    if (dev) {
        g_ptr_array_add(m->devices, dev);
    }
    return dev;
}

void session_device_free(struct session_device *dev)
{
    session_model_free(dev);
    devspec_free(dev->spec);
    g_ptr_array_unref(dev->options);
    g_free(dev->bus);
    g_free(dev);
}

/* ---- QEMU's command line ---- */

static void add2(GPtrArray *args, const char *option, char *value)
{
    g_ptr_array_add(args, g_strdup(option));
    g_ptr_array_add(args, value);
}

bool session_device_args(struct session_device *dev, GPtrArray *args, GArray *inherit,
                         GArray *close_after, GError **error)
{
    if (dev->is_unplugged) {
        return true;
    }
    for (guint i = 0; i < dev->options->len; i++) {
        g_ptr_array_add(args, g_strdup(dev->options->pdata[i]));
    }
    if (dev->has_chardev) {
        int fd;
        if (!ivshmem_server_connect(dev->server, &fd, &dev->peer, error)) {
            return false;
        }
        dev->has_peer = true;
        g_array_append_val(inherit, fd);
        g_array_append_val(close_after, fd);
        add2(args, "-chardev",
             g_strdup_printf("socket,id=%s,fd=%d", devspec_get(dev->spec, "chardev"), fd));
    } else if (dev->has_memdev) {
        g_array_append_val(inherit, dev->region->fd);
        add2(args, "-object",
             g_strdup_printf("memory-backend-file,id=%s,size=%" G_GUINT64_FORMAT
                             ",mem-path=/proc/self/fd/%d,share=on",
                             devspec_get(dev->spec, "memdev"), dev->region->size, dev->region->fd));
    }
    if (dev->model) {
        int fd;
        if (!session_model_connect(dev, &fd, error)) {
            return false;
        }
        g_array_append_val(inherit, fd);
        g_array_append_val(close_after, fd);
        g_autofree char *number = g_strdup_printf("%d", fd);
        devspec_set(dev->spec, "fd", number);
    }
    add2(args, "-device", devspec_to_arg(dev->spec));
    return true;
}

/* ---- on the bus ---- */

struct session_device *session_device_by_id(struct session_machine *m, const char *id)
{
    for (guint i = 0; i < m->devices->len; i++) {
        struct session_device *d = m->devices->pdata[i];
        if (strcmp(d->spec->id, id) == 0) {
            return d;
        }
    }
    return NULL;
}

/* Number of the bus it hangs on; -1 if its bridge has not been found. */
static int bus_number(struct session_device *dev)
{
    struct session_machine *m = dev->machine;

    if (!dev->bus) {
        return 0;
    }
    struct session_device *bridge = session_device_by_id(m, dev->bus);
    if (!bridge) {
        return strcmp(dev->bus, "pci.0") == 0 || strcmp(dev->bus, "pcie.0") == 0 ? 0 : -1;
    }
    int up = bus_number(bridge);
    struct pci_device *p =
        up < 0 ? NULL : pci_bus_find(m->bus, (unsigned)up, bridge->slot, bridge->function);
    return p && p->secondary_bus ? p->secondary_bus : -1;
}

static struct pci_device *find(struct session_device *dev)
{
    int nr = bus_number(dev);

    return nr < 0 ? NULL : pci_bus_find(dev->machine->bus, (unsigned)nr, dev->slot, dev->function);
}

struct pci_device *session_device_pci(struct session_device *dev, GError **error)
{
    struct session_machine *m = dev->machine;

    if (!m->qemu) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    "device '%s': machine '%s' does not run", dev->spec->id, m->name);
        return NULL;
    }
    struct pci_device *p = find(dev);
    if (!p && !pci_bus_scan(m->bus, error)) {
        return NULL;
    }
    p = p ? p : find(dev);
    if (!p) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_DEVICE,
                    "device '%s' (%s) is not on machine %s's bus%s%s at slot 0x%x%s", dev->spec->id,
                    dev->spec->driver, m->name, dev->bus ? " " : "", dev->bus ? dev->bus : "",
                    dev->slot, dev->is_unplugged ? ": it was unplugged" : "");
    }
    return p;
}

bool session_device_enable(struct session_device *dev, GError **error)
{
    struct pci_device *p = session_device_pci(dev, error);

    if (!p) {
        return false;
    }
    /* behind a bridge only what lies in its windows can be reached: placed like any BAR */
    if (dev->region && p->bus == 0 && p->bars[IVSHMEM_BAR_MEMORY].size != 0 &&
        p->bars[IVSHMEM_BAR_MEMORY].base == 0 &&
        !pci_bar_place(p, IVSHMEM_BAR_MEMORY,
                       session_region_gpa(dev->machine->session, dev->region), error)) {
        return false;
    }
    if (!pci_device_enable(p, error)) {
        return false;
    }
    return !dev->region || p->bars[IVSHMEM_BAR_MEMORY].size == 0 ||
           guest_memory_place(dev->machine->memory, dev->region, p->bars[IVSHMEM_BAR_MEMORY].base,
                              error);
}

void session_device_unmap(struct session_device *dev)
{
    if (dev->region) {
        guest_memory_remove(dev->machine->memory, dev->region);
    }
}

void session_device_stopped(struct session_device *dev)
{
    session_device_unmap(dev);
    dev->is_unplugged = false;
    if (dev->server && dev->has_peer) {
        ivshmem_server_leave(dev->server, dev->peer);
        dev->has_peer = false;
    }
}

/* ---- what it is ---- */

struct session_device *session_machine_device(struct session_machine *m, unsigned n)
{
    return n < m->devices->len ? m->devices->pdata[n] : NULL;
}

const char *session_device_driver(const struct session_device *dev)
{
    return dev->model && dev->model->model ? pci_model_name(dev->model->model) : dev->spec->driver;
}

const char *session_device_id(const struct session_device *dev)
{
    return dev->spec->id;
}

bool session_device_slot(const struct session_device *dev, unsigned *slot, unsigned *function)
{
    *slot = dev->slot;
    *function = dev->function;
    return dev->bus == NULL;
}

struct session_machine *session_device_machine(const struct session_device *dev)
{
    return dev->machine;
}

struct guest_region *session_device_region(const struct session_device *dev)
{
    return dev->region;
}

struct ivshmem_server *session_device_server(const struct session_device *dev)
{
    return dev->server;
}

uint16_t session_device_peer(const struct session_device *dev)
{
    return dev->peer;
}
