/*
 * Devices of a session: from a specification to QEMU's command line, to a function on the bus, and
 * off the bus again.
 */
#include "harness/session_private.h"
#include "models/abi/acpi_hotplug.h"
#include "models/abi/ivshmem.h"

#include <string.h>
#include <unistd.h>

enum {
    FIRST_SLOT = 4, /* below lie what the boards bring themselves */
    LAST_SLOT = 24, /* q35 keeps the slots above for itself */
    DEFAULT_SHARED = 4 << 20,
    MIN_SHARED = 4096,
    UNPLUG_TIMEOUT_MS = 5000,
};

/* ---- specifications ---- */

static bool slot_is_taken(const struct session_machine *m, const char *bus, unsigned slot)
{
    for (guint i = 0; i < m->devices->len; i++) {
        const struct session_device *d = m->devices->pdata[i];
        if (d->slot == slot && g_strcmp0(d->bus, bus) == 0) {
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

static bool choose_slot(struct session_device *dev, GError **error)
{
    unsigned first = dev->bus ? 0 : FIRST_SLOT;

    if (dev->bus) {
        /* a conventional bridge keeps slot 0 for hotplug control; a root port has slot 0 only */
        for (guint i = 0; i < dev->machine->devices->len; i++) {
            const struct session_device *d = dev->machine->devices->pdata[i];
            if (strcmp(d->spec->id, dev->bus) == 0 && strcmp(d->spec->driver, "pci-bridge") == 0) {
                first = 1;
            }
        }
    }
    for (unsigned s = first; s <= LAST_SLOT; s++) {
        if (!slot_is_taken(dev->machine, dev->bus, s)) {
            dev->slot = s;
            return true;
        }
    }
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC, "machine '%s' has no slot left for '%s'",
                dev->machine->name, dev->spec->driver);
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

static struct session_device *parse(struct session_machine *m, const char *text,
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
    struct session_device *dev = parse(m, spec, backing, error);
    if (dev) {
        g_ptr_array_add(m->devices, dev);
    }
    return dev;
}

void session_device_free(struct session_device *dev)
{
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
    add2(args, "-device", devspec_to_arg(dev->spec));
    return true;
}

/* ---- on the bus ---- */

static struct session_device *find_by_id(struct session_machine *m, const char *id)
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
    struct session_device *bridge = find_by_id(m, dev->bus);
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
    if (dev->region && p->bars[IVSHMEM_BAR_MEMORY].size != 0 &&
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

/* ---- hotplug ---- */

/* An HMP command that prints nothing when it worked. */
static bool hmp_quiet(struct session_machine *m, const char *command, GError **error)
{
    g_autofree char *text = qmp_hmp(qemu_qmp(m->qemu), command, error);

    if (!text) {
        return false;
    }
    g_strstrip(text);
    if (text[0] != '\0') {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_DEVICE, "machine '%s': '%s': %s", m->name,
                    command, text);
        return false;
    }
    return true;
}

/* Options that a running QEMU takes too, as HMP commands. */
static const char *hmp_verb(const char *option)
{
    return strcmp(option, "-netdev") == 0   ? "netdev_add"
           : strcmp(option, "-object") == 0 ? "object_add"
                                            : NULL;
}

static bool plug_options(struct session_device *dev, GError **error)
{
    for (guint i = 0; i + 1 < dev->options->len; i += 2) {
        const char *verb = hmp_verb(dev->options->pdata[i]);
        if (!verb) {
            g_set_error(
                error, SESSION_ERROR, SESSION_ERROR_SPEC,
                "device '%s' needs %s %s, which cannot be added while QEMU runs: declare it "
                "before the start",
                dev->spec->driver, (const char *)dev->options->pdata[i],
                (const char *)dev->options->pdata[i + 1]);
            return false;
        }
        g_autofree char *command =
            g_strdup_printf("%s %s", verb, (const char *)dev->options->pdata[i + 1]);
        if (!hmp_quiet(dev->machine, command, error)) {
            return false;
        }
    }
    return true;
}

static bool plug_backing(struct session_device *dev, GError **error)
{
    struct qmp *qmp = qemu_qmp(dev->machine->qemu);

    if (!plug_options(dev, error)) {
        return false;
    }
    if (dev->has_chardev) {
        int fd;
        if (!ivshmem_server_connect(dev->server, &fd, &dev->peer, error)) {
            return false;
        }
        dev->has_peer = true;
        g_autofree char *name = g_strdup_printf("%s.fd", dev->spec->id);
        g_autofree char *json = g_strdup_printf(
            "{\"id\":\"%s\",\"backend\":{\"type\":\"socket\",\"data\":{\"server\":false,"
            "\"addr\":{\"type\":\"fd\",\"data\":{\"str\":\"%s\"}}}}}",
            devspec_get(dev->spec, "chardev"), name);
        bool ok = qmp_getfd(qmp, name, fd, error) && qmp_run(qmp, "chardev-add", json, error);
        close(fd);
        return ok;
    }
    if (dev->has_memdev) {
        /* QEMU opens our own descriptor through /proc */
        g_autofree char *json = g_strdup_printf(
            "{\"qom-type\":\"memory-backend-file\",\"id\":\"%s\",\"size\":%" G_GUINT64_FORMAT
            ",\"mem-path\":\"/proc/%d/fd/%d\",\"share\":true}",
            devspec_get(dev->spec, "memdev"), dev->region->size, (int)getpid(), dev->region->fd);
        return qmp_run(qmp, "object-add", json, error);
    }
    return true;
}

static bool plug(struct session_device *dev, GError **error)
{
    if (!plug_backing(dev, error)) {
        return false;
    }
    JsonNode *answer = qmp_execute_node(qemu_qmp(dev->machine->qemu), "device_add",
                                        devspec_to_json(dev->spec), error);
    if (!answer) {
        return false;
    }
    json_node_unref(answer);
    dev->is_unplugged = false;
    return pci_bus_scan(dev->machine->bus, error);
}

struct session_device *session_device_plug(struct session_machine *m, const char *spec,
                                           const struct session_backing *backing, GError **error)
{
    if (!m->qemu) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    "machine '%s' does not run: declare '%s' instead of plugging it in", m->name,
                    spec);
        return NULL;
    }
    struct session_device *dev = parse(m, spec, backing, error);
    if (!dev) {
        return NULL;
    }
    if (!plug(dev, error)) {
        session_device_free(dev);
        return NULL;
    }
    g_ptr_array_add(m->devices, dev);
    return dev;
}

/* The bus selector of the ACPI hotplug registers for the bus the device hangs on. */
static bool bus_selector(struct session_device *dev, uint32_t *selector, GError **error)
{
    g_autofree char *path =
        dev->bus && find_by_id(dev->machine, dev->bus)
            ? g_strdup_printf("/machine/peripheral/%s/%s", dev->bus, dev->bus)
            : g_strdup(dev->machine->board == MACHINE_PC ? "/machine/i440fx/pci.0"
                                                         : "/machine/q35/pcie.0");
    g_autofree char *json =
        g_strdup_printf("{\"path\":\"%s\",\"property\":\"acpi-pcihp-bsel\"}", path);
    JsonNode *node = qmp_execute(qemu_qmp(dev->machine->qemu), "qom-get", json, error);
    if (!node) {
        g_prefix_error(error, "device '%s' hangs on a bus without hotplug: ", dev->spec->id);
        return false;
    }
    *selector = (uint32_t)json_node_get_int(node);
    json_node_unref(node);
    return true;
}

static bool unplug_backing(struct session_device *dev, GError **error)
{
    struct qmp *qmp = qemu_qmp(dev->machine->qemu);

    for (guint i = 0; i + 1 < dev->options->len; i += 2) {
        bool is_netdev = strcmp(dev->options->pdata[i], "-netdev") == 0;
        const char *id = devspec_get(dev->spec, "netdev");
        g_autofree char *command = is_netdev ? g_strdup_printf("netdev_del %s", id) : NULL;
        if (command && !hmp_quiet(dev->machine, command, error)) {
            return false;
        }
    }
    if (dev->has_chardev) {
        ivshmem_server_leave(dev->server, dev->peer);
        dev->has_peer = false;
    }
    const char *backend = dev->has_chardev  ? devspec_get(dev->spec, "chardev")
                          : dev->has_memdev ? devspec_get(dev->spec, "memdev")
                                            : NULL;
    g_autofree char *json = g_strdup_printf("{\"id\":\"%s\"}", backend ? backend : "");
    return !backend ||
           qmp_run(qmp, dev->has_chardev ? "chardev-remove" : "object-del", json, error);
}

bool session_device_unplug(struct session_device *dev, GError **error)
{
    struct session_machine *m = dev->machine;
    bool is_pc = m->board == MACHINE_PC;
    uint64_t registers = is_pc ? ACPI_PCIHP_BASE_PC : ACPI_PCIHP_BASE_Q35;
    uint32_t selector = 0;

    if (!m->qemu || dev->is_unplugged) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE, "device '%s' is not plugged in",
                    dev->spec->id);
        return false;
    }
    g_autofree char *json = g_strdup_printf("{\"id\":\"%s\"}", dev->spec->id);
    if (!bus_selector(dev, &selector, error) ||
        !qmp_run(qemu_qmp(m->qemu), "device_del", json, error)) {
        return false;
    }
    session_device_unmap(dev);
    if (!machine_write(m->machine, MACHINE_IO, registers + ACPI_PCIHP_SEL, 4, selector, error) ||
        !machine_write(m->machine, MACHINE_IO, registers + ACPI_PCIHP_EJ, 4, 1u << dev->slot,
                       error)) {
        return false;
    }
    JsonNode *event = qmp_wait_event(qemu_qmp(m->qemu), "DEVICE_DELETED", "device", dev->spec->id,
                                     UNPLUG_TIMEOUT_MS, error);
    if (!event) {
        g_prefix_error(error, "device '%s' was not unplugged: ", dev->spec->id);
        return false;
    }
    json_node_unref(event);
    dev->is_unplugged = true;
    return unplug_backing(dev, error) && pci_bus_scan(m->bus, error);
}

bool session_device_replug(struct session_device *dev, GError **error)
{
    if (!dev->machine->qemu || !dev->is_unplugged) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE, "device '%s' was not unplugged",
                    dev->spec->id);
        return false;
    }
    return plug(dev, error);
}

/* ---- what it is ---- */

struct session_device *session_machine_device(struct session_machine *m, unsigned n)
{
    return n < m->devices->len ? m->devices->pdata[n] : NULL;
}

const char *session_device_driver(const struct session_device *dev)
{
    return dev->spec->driver;
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
