/*
 * Modelled devices of a session: a socket pair and a thread (models/qemu_proxy.h) for each while
 * its QEMU runs, and the way of their messages. What QEMU is told is session_device.c's and
 * session_hotplug.c's business, as for any other device.
 */
#include "harness/session_private.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* An MSI-X message that is not for memory: for the doorbell of the interrupt bridge, whose peers
 * are all here. From the model's threads. */
static bool deliver(void *data, uint64_t address, uint32_t value)
{
    const struct session_device *dev = data;
    const struct session_machine *m = dev->machine;
    uint64_t doorbell = m->doorbell_gpa;

    if (doorbell == 0 || address != doorbell) {
        return false;
    }
    for (unsigned i = 0; i < SESSION_BRIDGE_CHANNELS; i++) {
        if (value == (uint32_t)m->bridge_peers[i] << 16) {
            return eventfd_write(m->bridge_eventfds[i], 1) == 0;
        }
    }
    return false;
}

/* ---- what QEMU can hand over ---- */

bool session_model_check_memory(struct session_machine *m, const struct session_device *coming,
                                GError **error)
{
    enum { MAX_SHARED = 5 }; /* of 8 descriptors, RAM takes 3 */
    unsigned n_models = coming && coming->model, n_shared = coming && coming->region;

    for (guint i = 0; i < m->devices->len; i++) {
        const struct session_device *dev = m->devices->pdata[i];
        n_models += !dev->is_unplugged && dev->model;
        n_shared += !dev->is_unplugged && dev->region;
    }
    if (n_models > 0 && n_shared > MAX_SHARED) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "machine '%s': QEMU shows a modelled device the memory of %d devices at most, "
                    "and there are %u with shared memory; let some share one device",
                    m->name, MAX_SHARED, n_shared);
        return false;
    }
    return true;
}

/* ---- with a QEMU, and without ---- */

bool session_model_connect(struct session_device *dev, int *far_fd, GError **error)
{
    struct session_model *model = dev->model;
    int pair[2];

    if (!model->model) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    "device '%s': its model hangs and cannot be used again", dev->spec->id);
        return false;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_DEVICE, "device '%s': a socket pair: %s",
                    dev->spec->id, g_strerror(errno));
        return false;
    }
    pci_model_set_msi(model->model, deliver, dev);
    model->proxy = qemu_proxy_new(model->model, pair[0], &model->options, error);
    if (!model->proxy) {
        close(pair[1]);
        return false;
    }
    *far_fd = pair[1];
    return true;
}

static void note(const struct session_device *dev, const char *what)
{
    g_autofree char *line =
        g_strdup_printf("machine %s, device '%s': %s", dev->machine->name, dev->spec->id, what);
    session_note(dev->machine->session, line);
}

void session_model_disconnect(struct session_device *dev)
{
    struct session_model *model = dev->model;

    if (!model || !model->proxy) {
        return;
    }
    model->last = qemu_proxy_stats(model->proxy);
    if (model->last.why_ended[0] != '\0') {
        note(dev, model->last.why_ended);
    }
    if (qemu_proxy_free(g_steal_pointer(&model->proxy))) {
        model->last.is_connected = false;
        return;
    }
    note(dev, "its model hangs; it is left behind with what it has");
    model->model = NULL;
}

void session_model_free(struct session_device *dev)
{
    if (dev->model) {
        session_model_disconnect(dev);
        pci_model_free(dev->model->model);
        g_free(dev->model);
    }
}

/* ---- declaring ---- */

static struct session_device *model_parse(struct session_machine *m, struct pci_model *model,
                                          const struct session_model_options *o, GError **error)
{
    const char *properties = o && o->properties ? o->properties : "";
    g_autofree char *spec =
        g_strdup_printf("x-pci-proxy-dev%s%s", *properties ? "," : "", properties);
    struct session_device *dev = session_device_parse(m, spec, NULL, error);

    if (!dev) {
        pci_model_free(model);
        return NULL;
    }
    dev->model = g_new0(struct session_model, 1);
    dev->model->model = model;
    if (o) {
        dev->model->options = o->proxy;
    }
    return dev;
}

struct session_device *session_model_new(struct session_machine *m, struct pci_model *model,
                                         const struct session_model_options *options,
                                         GError **error)
{
    if (m->qemu) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    "machine '%s' runs already: plug '%s' in instead", m->name,
                    pci_model_name(model));
        pci_model_free(model);
        return NULL;
    }
    struct session_device *dev = model_parse(m, model, options, error);
    if (dev) {
        g_ptr_array_add(m->devices, dev);
    }
    return dev;
}

struct session_device *session_model_plug(struct session_machine *m, struct pci_model *model,
                                          const struct session_model_options *options,
                                          GError **error)
{
    if (!m->qemu) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    "machine '%s' does not run: declare '%s' instead of plugging it in", m->name,
                    pci_model_name(model));
        pci_model_free(model);
        return NULL;
    }
    struct session_device *dev = model_parse(m, model, options, error);
    return dev && session_device_plug_in(dev, error) ? dev : NULL;
}

/* ---- what it is ---- */

struct pci_model *session_device_model(struct session_device *dev)
{
    return dev->model ? dev->model->model : NULL;
}

struct qemu_proxy_stats session_device_proxy_stats(struct session_device *dev)
{
    if (!dev->model) {
        return (struct qemu_proxy_stats){0};
    }
    return dev->model->proxy ? qemu_proxy_stats(dev->model->proxy) : dev->model->last;
}

bool session_device_wait_unserved(struct session_device *dev, int timeout_ms)
{
    return !dev->model || !dev->model->proxy || qemu_proxy_wait_end(dev->model->proxy, timeout_ms);
}
