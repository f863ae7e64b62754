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
    UNPLUG_TIMEOUT_MS = 5000,
};

/* ---- specifications ---- */

static bool is_network(const char *driver)
{
    static const char *const prefixes[] = {"virtio-net-pci", "e1000", "rtl8139",
                                           "ne2k_pci",       "pcnet", "i8255",
                                           "vmxnet3",        "tulip", "igb"};

    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (g_str_has_prefix(driver, prefixes[i])) {
            return true;
        }
    }
    return false;
}

/* Takes "name=value" out of the properties; NULL if it is not there. */
static char *take_property(GPtrArray *properties, const char *name)
{
    size_t len = strlen(name);

    for (guint i = 0; i < properties->len; i++) {
        const char *p = properties->pdata[i];
        if (strncmp(p, name, len) == 0 && p[len] == '=') {
            char *value = g_strdup(p + len + 1);
            g_ptr_array_remove_index(properties, i);
            return value;
        }
    }
    return NULL;
}

static bool has_property(GPtrArray *properties, const char *name)
{
    size_t len = strlen(name);

    for (guint i = 0; i < properties->len; i++) {
        const char *p = properties->pdata[i];
        if (strncmp(p, name, len) == 0 && p[len] == '=') {
            return true;
        }
    }
    return false;
}

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
                    dev->driver, text);
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
            if (strcmp(d->id, dev->bus) == 0 && strcmp(d->driver, "pci-bridge") == 0) {
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
                dev->machine->name, dev->driver);
    return false;
}

static bool make_backing(struct session_device *dev, GPtrArray *properties,
                         const struct session_backing *backing, GError **error)
{
    struct session *s = dev->machine->session;

    dev->region = backing ? backing->region : NULL;
    dev->server = backing ? backing->server : NULL;
    dev->needs_netdev = is_network(dev->driver) && !has_property(properties, "netdev");
    bool is_plain =
        strcmp(dev->driver, "ivshmem-plain") == 0 && !has_property(properties, "memdev");
    bool is_doorbell =
        strcmp(dev->driver, "ivshmem-doorbell") == 0 && !has_property(properties, "chardev");
    if ((is_plain || (is_doorbell && !dev->server)) && !dev->region) {
        dev->region = session_memory_new(s, dev->id, DEFAULT_SHARED, GUEST_HUGEPAGES_OFF, error);
        if (!dev->region) {
            return false;
        }
    }
    if (is_doorbell && !dev->server) {
        dev->server = session_ivshmem_server_new(s, dev->region, 1, error);
        if (!dev->server) {
            return false;
        }
    }
    if (is_doorbell) {
        dev->region = session_server_region(s, dev->server);
    }
    return true;
}

static struct session_device *parse(struct session_machine *m, const char *spec,
                                    const struct session_backing *backing, GError **error)
{
    g_auto(GStrv) words = g_strsplit(spec, ",", -1);
    g_autoptr(GPtrArray) properties = g_ptr_array_new_with_free_func(g_free);

    if (!words[0] || words[0][0] == '\0') {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "'%s' names no device (NAME[,property=value...])", spec);
        return NULL;
    }
    for (unsigned i = 1; words[i]; i++) {
        if (!strchr(words[i], '=')) {
            g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                        "device '%s': '%s' is not property=value", words[0], words[i]);
            return NULL;
        }
        g_ptr_array_add(properties, g_strdup(words[i]));
    }
    struct session_device *dev = g_new0(struct session_device, 1);
    dev->machine = m;
    dev->driver = g_strdup(words[0]);
    dev->id = take_property(properties, "id");
    dev->bus = take_property(properties, "bus");
    g_autofree char *addr = take_property(properties, "addr");
    if (!dev->id) {
        dev->id = g_strdup_printf("dev%u", m->devices->len);
    }
    if ((addr ? !parse_addr(dev, addr, error) : !choose_slot(dev, error)) ||
        !make_backing(dev, properties, backing, error)) {
        session_device_free(dev);
        return NULL;
    }
    GString *rest = g_string_new(NULL);
    for (guint i = 0; i < properties->len; i++) {
        g_string_append_printf(rest, ",%s", (const char *)properties->pdata[i]);
    }
    dev->properties = g_string_free(rest, FALSE);
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
    g_free(dev->driver);
    g_free(dev->id);
    g_free(dev->bus);
    g_free(dev->properties);
    g_free(dev);
}

/* ---- QEMU's command line ---- */

char *session_device_option(const struct session_device *dev)
{
    GString *s = g_string_new(dev->driver);

    g_string_append_printf(s, ",id=%s,addr=%x.%x", dev->id, dev->slot, dev->function);
    if (dev->bus) {
        g_string_append_printf(s, ",bus=%s", dev->bus);
    }
    if (dev->server) {
        g_string_append_printf(s, ",chardev=%s.bell", dev->id);
    } else if (dev->region) {
        g_string_append_printf(s, ",memdev=%s.mem", dev->id);
    }
    if (dev->needs_netdev) {
        g_string_append_printf(s, ",netdev=%s.net", dev->id);
    }
    g_string_append(s, dev->properties);
    return g_string_free(s, FALSE);
}

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
    if (dev->server) {
        int fd;
        if (!ivshmem_server_connect(dev->server, &fd, &dev->peer, error)) {
            return false;
        }
        dev->has_peer = true;
        g_array_append_val(inherit, fd);
        g_array_append_val(close_after, fd);
        add2(args, "-chardev", g_strdup_printf("socket,id=%s.bell,fd=%d", dev->id, fd));
    } else if (dev->region) {
        g_array_append_val(inherit, dev->region->fd);
        add2(args, "-object",
             g_strdup_printf("memory-backend-file,id=%s.mem,size=%" G_GUINT64_FORMAT
                             ",mem-path=/proc/self/fd/%d,share=on",
                             dev->id, dev->region->size, dev->region->fd));
    }
    if (dev->needs_netdev) {
        add2(args, "-netdev", g_strdup_printf("hubport,id=%s.net,hubid=0", dev->id));
    }
    add2(args, "-device", session_device_option(dev));
    return true;
}

/* ---- on the bus ---- */

static struct session_device *find_by_id(struct session_machine *m, const char *id)
{
    for (guint i = 0; i < m->devices->len; i++) {
        struct session_device *d = m->devices->pdata[i];
        if (strcmp(d->id, id) == 0) {
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
                    "device '%s': machine '%s' does not run", dev->id, m->name);
        return NULL;
    }
    struct pci_device *p = find(dev);
    if (!p && !pci_bus_scan(m->bus, error)) {
        return NULL;
    }
    p = p ? p : find(dev);
    if (!p) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_DEVICE,
                    "device '%s' (%s) is not on machine %s's bus%s%s at slot 0x%x%s", dev->id,
                    dev->driver, m->name, dev->bus ? " " : "", dev->bus ? dev->bus : "", dev->slot,
                    dev->is_unplugged ? ": it was unplugged" : "");
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

static bool plug_backing(struct session_device *dev, GError **error)
{
    struct session_machine *m = dev->machine;
    struct qmp *qmp = qemu_qmp(m->qemu);

    if (dev->server) {
        int fd;
        if (!ivshmem_server_connect(dev->server, &fd, &dev->peer, error)) {
            return false;
        }
        dev->has_peer = true;
        g_autofree char *name = g_strdup_printf("%s.fd", dev->id);
        g_autofree char *json = g_strdup_printf(
            "{\"id\":\"%s.bell\",\"backend\":{\"type\":\"socket\",\"data\":{\"server\":false,"
            "\"addr\":{\"type\":\"fd\",\"data\":{\"str\":\"%s\"}}}}}",
            dev->id, name);
        bool ok = qmp_getfd(qmp, name, fd, error) && qmp_run(qmp, "chardev-add", json, error);
        close(fd);
        return ok;
    }
    if (dev->region) {
        /* QEMU opens our own descriptor through /proc */
        g_autofree char *json = g_strdup_printf(
            "{\"qom-type\":\"memory-backend-file\",\"id\":\"%s.mem\",\"size\":%" G_GUINT64_FORMAT
            ",\"mem-path\":\"/proc/%d/fd/%d\",\"share\":true}",
            dev->id, dev->region->size, (int)getpid(), dev->region->fd);
        return qmp_run(qmp, "object-add", json, error);
    }
    if (dev->needs_netdev) {
        g_autofree char *command = g_strdup_printf("netdev_add hubport,id=%s.net,hubid=0", dev->id);
        return hmp_quiet(m, command, error);
    }
    return true;
}

static bool plug(struct session_device *dev, GError **error)
{
    g_autofree char *option = session_device_option(dev);
    g_autofree char *command = g_strconcat("device_add ", option, NULL);

    if (!plug_backing(dev, error) || !hmp_quiet(dev->machine, command, error)) {
        return false;
    }
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
        g_prefix_error(error, "device '%s' hangs on a bus without hotplug: ", dev->id);
        return false;
    }
    *selector = (uint32_t)json_node_get_int(node);
    json_node_unref(node);
    return true;
}

bool session_device_unplug(struct session_device *dev, GError **error)
{
    struct session_machine *m = dev->machine;
    bool is_pc = m->board == MACHINE_PC;
    uint64_t registers = is_pc ? ACPI_PCIHP_BASE_PC : ACPI_PCIHP_BASE_Q35;
    uint32_t selector = 0;

    if (!m->qemu || dev->is_unplugged) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE, "device '%s' is not plugged in",
                    dev->id);
        return false;
    }
    g_autofree char *json = g_strdup_printf("{\"id\":\"%s\"}", dev->id);
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
    JsonNode *event = qmp_wait_event(qemu_qmp(m->qemu), "DEVICE_DELETED", "device", dev->id,
                                     UNPLUG_TIMEOUT_MS, error);
    if (!event) {
        g_prefix_error(error, "device '%s' was not unplugged: ", dev->id);
        return false;
    }
    json_node_unref(event);
    dev->is_unplugged = true;
    if (dev->needs_netdev) {
        g_autofree char *command = g_strdup_printf("netdev_del %s.net", dev->id);
        if (!hmp_quiet(m, command, error)) {
            return false;
        }
    }
    g_autofree char *backend =
        g_strdup_printf("{\"id\":\"%s.%s\"}", dev->id, dev->server ? "bell" : "mem");
    if (dev->server) {
        ivshmem_server_leave(dev->server, dev->peer);
        dev->has_peer = false;
        if (!qmp_run(qemu_qmp(m->qemu), "chardev-remove", backend, error)) {
            return false;
        }
    } else if (dev->region && !qmp_run(qemu_qmp(m->qemu), "object-del", backend, error)) {
        return false;
    }
    return pci_bus_scan(m->bus, error);
}

bool session_device_replug(struct session_device *dev, GError **error)
{
    if (!dev->machine->qemu || !dev->is_unplugged) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE, "device '%s' was not unplugged",
                    dev->id);
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
    return dev->driver;
}

const char *session_device_id(const struct session_device *dev)
{
    return dev->id;
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
