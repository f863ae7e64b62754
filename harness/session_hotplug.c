/*
 * Devices that come and go while QEMU runs: what QEMU must be told, and the guest's part of it, by
 * ACPI's registers or those of a PCI Express slot.
 */
#include "harness/session_private.h"
#include "harness/session_ptnet.h"
#include "models/abi/acpi_hotplug.h"
#include "models/abi/pci.h"

#include <string.h>
#include <unistd.h>

enum { UNPLUG_TIMEOUT_MS = 5000 };

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

/* ---- what stands behind a device ---- */

/* Options that a running QEMU takes too, as HMP commands. */
static const char *hmp_verb(const char *option)
{
    return strcmp(option, "-netdev") == 0   ? "netdev_add"
           : strcmp(option, "-object") == 0 ? "object_add"
                                            : NULL;
}

static bool add_options(struct session_device *dev, GError **error)
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

static bool add_backing(struct session_device *dev, GError **error)
{
    struct qmp *qmp = qemu_qmp(dev->machine->qemu);

    if (!add_options(dev, error)) {
        return false;
    }
    if (dev->model) {
        int fd;
        if (!session_model_connect(dev, &fd, error)) {
            return false;
        }
        g_autofree char *name = g_strdup_printf("%s.fd", dev->spec->id);
        devspec_set(dev->spec, "fd", name);
        bool ok = qmp_getfd(qmp, name, fd, error);
        close(fd);
        return ok;
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

/* "id=" of an option's value */
static char *option_id(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);

    for (unsigned i = 0; parts[i]; i++) {
        if (g_str_has_prefix(parts[i], "id=")) {
            return g_strdup(parts[i] + strlen("id="));
        }
    }
    return NULL;
}

static bool remove_options(struct session_device *dev, GError **error)
{
    for (guint i = 0; i + 1 < dev->options->len; i += 2) {
        const char *value = dev->options->pdata[i + 1];
        g_autofree char *id = value ? option_id(value) : NULL;
        bool is_netdev = strcmp(dev->options->pdata[i], "-netdev") == 0;
        g_autofree char *command =
            id ? g_strdup_printf("%s %s", is_netdev ? "netdev_del" : "object_del", id) : NULL;
        if (command && !hmp_quiet(dev->machine, command, error)) {
            return false;
        }
    }
    return true;
}

static bool remove_backing(struct session_device *dev, GError **error)
{
    session_model_disconnect(dev);
    if (dev->has_peer) {
        ivshmem_server_leave(dev->server, dev->peer);
        dev->has_peer = false;
    }
    const char *id = dev->has_chardev  ? devspec_get(dev->spec, "chardev")
                     : dev->has_memdev ? devspec_get(dev->spec, "memdev")
                                       : NULL;
    g_autofree char *json = g_strdup_printf("{\"id\":\"%s\"}", id ? id : "");
    return remove_options(dev, error) &&
           (!id || qmp_run(qemu_qmp(dev->machine->qemu),
                           dev->has_chardev ? "chardev-remove" : "object-del", json, error));
}

/* ---- who tells the guest, and how it answers ---- */

enum hotplug_kind { HOTPLUG_NONE, HOTPLUG_ACPI, HOTPLUG_NATIVE };

struct hotplug {
    enum hotplug_kind kind;
    uint32_t selector;       /* ACPI: of its bus */
    struct pci_device *port; /* native: the port it hangs on, and where its slot's registers are */
    unsigned slot_control, slot_status;
};

static bool find_port(struct session_device *bridge, struct hotplug *hotplug, GError **error)
{
    struct pci_device *port = session_device_pci(bridge, error);
    const struct pci_capability *express =
        port ? pci_find_capability(port, PCI_CAP_ID_EXPRESS, 0) : NULL;
    uint64_t capabilities = 0;

    if (!port || (express && !pci_config_read(port, express->offset + PCI_EXP_SLTCAP, 4,
                                              &capabilities, error))) {
        return false;
    }
    if (capabilities & PCI_EXP_SLTCAP_HPC) {
        hotplug->kind = HOTPLUG_NATIVE;
        hotplug->port = port;
        hotplug->slot_control = express->offset + PCI_EXP_SLTCTL;
        hotplug->slot_status = express->offset + PCI_EXP_SLTSTA;
    }
    return true;
}

/* A bus has a selector among the ACPI hotplug registers where ACPI does it; else a port of PCI
 * Express does it by itself. */
static bool find_hotplug(struct session_device *dev, struct hotplug *hotplug, GError **error)
{
    struct session_machine *m = dev->machine;
    struct session_device *bridge = dev->bus ? session_device_by_id(m, dev->bus) : NULL;
    g_autofree char *path =
        bridge ? g_strdup_printf("/machine/peripheral/%s/%s", dev->bus, dev->bus)
               : g_strdup(m->board == MACHINE_PC ? "/machine/i440fx/pci.0" : "/machine/q35/pcie.0");
    g_autofree char *json =
        g_strdup_printf("{\"path\":\"%s\",\"property\":\"acpi-pcihp-bsel\"}", path);
    g_autoptr(GError) why = NULL;
    JsonNode *node = qmp_execute(qemu_qmp(m->qemu), "qom-get", json, &why);

    *hotplug = (struct hotplug){.kind = HOTPLUG_NONE};
    if (node) {
        hotplug->kind = HOTPLUG_ACPI;
        hotplug->selector = (uint32_t)json_node_get_int(node);
        json_node_unref(node);
        return true;
    }
    if (!g_error_matches(why, QMP_ERROR, QMP_ERROR_COMMAND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    return !bridge || find_port(bridge, hotplug, error);
}

/* Switches the power of a slot and its light, and clears what it reports: only bits that were read
 * as set, or an event that comes in between would be lost. */
static bool set_slot_power(const struct hotplug *hotplug, bool is_on, GError **error)
{
    enum { LIGHT_ON = 1, LIGHT_OFF = 3 };
    const uint64_t events = PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_CC;
    uint64_t control, status;

    if (!pci_config_read(hotplug->port, hotplug->slot_control, 2, &control, error)) {
        return false;
    }
    control &= ~(uint64_t)(PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PIC);
    control |= is_on ? LIGHT_ON << PCI_EXP_SLTCTL_PIC_SHIFT
                     : PCI_EXP_SLTCTL_PCC | LIGHT_OFF << PCI_EXP_SLTCTL_PIC_SHIFT;
    return pci_config_write(hotplug->port, hotplug->slot_control, 2, control, error) &&
           pci_config_read(hotplug->port, hotplug->slot_status, 2, &status, error) &&
           pci_config_write(hotplug->port, hotplug->slot_status, 2, status & events, error);
}

static bool eject(struct session_device *dev, const struct hotplug *hotplug, GError **error)
{
    struct machine *m = dev->machine->machine;
    uint64_t registers =
        dev->machine->board == MACHINE_PC ? ACPI_PCIHP_BASE_PC : ACPI_PCIHP_BASE_Q35;

    if (hotplug->kind == HOTPLUG_NATIVE) {
        return set_slot_power(hotplug, false, error);
    }
    return machine_write(m, MACHINE_IO, registers + ACPI_PCIHP_SEL, 4, hotplug->selector, error) &&
           machine_write(m, MACHINE_IO, registers + ACPI_PCIHP_EJ, 4, 1u << dev->slot, error);
}

/* ---- in and out ---- */

/* Of a name that QEMU does not have, it says only that. */
static void explain_plug(const struct session_device *dev, GError **error)
{
    const struct qemu_info *info = NULL;
    const char *nearest = NULL;

    if (error && *error && strstr((*error)->message, "is not a valid device model name")) {
        info = qemu_info_get(NULL);
        nearest = info ? qemu_info_nearest_device(info, dev->spec->driver) : NULL;
    }
    if (nearest) {
        g_clear_error(error);
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNSUPPORTED,
                    "QEMU %s: there is no device %s to plug in; did you mean %s?",
                    dev->machine->name, dev->spec->driver, nearest);
    }
}

static bool plug(struct session_device *dev, GError **error)
{
    struct hotplug hotplug;

    if (!session_model_check_memory(dev->machine, dev, error) || !add_backing(dev, error)) {
        return false;
    }
    JsonNode *answer = qmp_execute_node(qemu_qmp(dev->machine->qemu), "device_add",
                                        devspec_to_json(dev->spec), error);
    if (!answer) {
        explain_plug(dev, error);
        remove_backing(dev, NULL);
        return false;
    }
    json_node_unref(answer);
    dev->is_unplugged = false;
    return find_hotplug(dev, &hotplug, error) &&
           (hotplug.kind != HOTPLUG_NATIVE || set_slot_power(&hotplug, true, error)) &&
           pci_bus_scan(dev->machine->bus, error);
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
    if (session_ptnet_is(spec)) {
        return session_ptnet_new(m, spec, NULL, error);
    }
    struct session_device *dev = session_device_parse(m, spec, backing, error);
    return dev && session_device_plug_in(dev, error) ? dev : NULL;
}

bool session_device_plug_in(struct session_device *dev, GError **error)
{
    if (!plug(dev, error)) {
        session_device_free(dev);
        return false;
    }
    g_ptr_array_add(dev->machine->devices, dev);
    return true;
}

/* It went, and with it whatever hangs on it. */
static bool has_gone(struct session_device *dev, GError **error)
{
    for (guint i = 0; i < dev->machine->devices->len; i++) {
        struct session_device *d = dev->machine->devices->pdata[i];
        if (g_strcmp0(d->bus, dev->spec->id) == 0 && !d->is_unplugged && !has_gone(d, error)) {
            return false;
        }
    }
    session_device_unmap(dev);
    dev->is_unplugged = true;
    return remove_backing(dev, error);
}

bool session_device_unplug(struct session_device *dev, GError **error)
{
    struct session_machine *m = dev->machine;
    struct hotplug hotplug;

    if (!m->qemu || dev->is_unplugged) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE, "device '%s' is not plugged in",
                    dev->spec->id);
        return false;
    }
    if (!find_hotplug(dev, &hotplug, error)) {
        return false;
    }
    if (hotplug.kind == HOTPLUG_NONE) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_UNPLUG,
                    "device '%s' hangs on a bus without hotplug", dev->spec->id);
        return false;
    }
    g_autofree char *json = g_strdup_printf("{\"id\":\"%s\"}", dev->spec->id);
    if (!qmp_run(qemu_qmp(m->qemu), "device_del", json, error)) {
        return false;
    }
    session_device_unmap(dev);
    if (!eject(dev, &hotplug, error)) {
        return false;
    }
    JsonNode *event = qmp_wait_event(qemu_qmp(m->qemu), "DEVICE_DELETED", "device", dev->spec->id,
                                     UNPLUG_TIMEOUT_MS, error);
    if (!event) {
        g_prefix_error(error, "device '%s' was not unplugged: ", dev->spec->id);
        return false;
    }
    json_node_unref(event);
    return has_gone(dev, error) && pci_bus_scan(m->bus, error);
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
