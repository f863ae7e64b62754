/*
 * See session_ptnet.h. Devices find each other by the memory they show.
 */
#include "harness/session_ptnet.h"

#include "harness/session_private.h"
#include "models/abi/ptnet.h"
#include "models/netmap/nm_kern.h"

#include <string.h>

#define PTNET   "ptnet-pci"
#define MEMDEV  "ptnetmap-memdev"
#define IVSHMEM "-memory" /* behind the id of its memdev */

static bool names(const char *spec, const char *driver)
{
    size_t n = strlen(driver);

    return strncmp(spec, driver, n) == 0 && (spec[n] == '\0' || spec[n] == ',');
}

bool session_ptnet_is(const char *spec)
{
    return names(spec, PTNET) || names(spec, MEMDEV);
}

/* ---- finding ---- */

static bool shows(struct session_device *dev, const void *memory)
{
    struct pci_model *model = session_device_model(dev);

    return model && strcmp(pci_model_name(model), MEMDEV) == 0 &&
           pci_model_bar(model, PTNETMAP_MEM_PCI_BAR)->memory == memory;
}

static struct session_device *find_memdev(struct session_machine *m, const void *memory)
{
    for (guint i = 0; i < m->devices->len; i++) {
        struct session_device *dev = m->devices->pdata[i];
        if (!dev->is_unplugged && shows(dev, memory)) {
            return dev;
        }
    }
    return NULL;
}

static struct session_device *find_ivshmem(const struct session_device *memdev)
{
    g_autofree char *id = g_strconcat(memdev->spec->id, IVSHMEM, NULL);

    return session_device_by_id(memdev->machine, id);
}

struct ptnet *session_device_ptnet(struct session_device *dev)
{
    struct pci_model *model = session_device_model(dev);

    return model ? ptnet_of(model) : NULL;
}

struct session_device *session_ptnet_memdev(struct session_device *dev)
{
    struct ptnet *pt = session_device_ptnet(dev);

    return pt ? find_memdev(dev->machine, nm_memory(ptnet_file(pt))) : NULL;
}

struct session_device *session_ptnet_ivshmem(struct session_device *dev)
{
    struct session_device *memdev = session_ptnet_memdev(dev);

    return memdev ? find_ivshmem(memdev) : NULL;
}

struct guest_region *session_ptnet_memory(struct session_device *dev)
{
    struct session_device *ivshmem = session_ptnet_ivshmem(dev);

    return ivshmem ? ivshmem->region : NULL;
}

/* The same memory in all machines of the session is one region, with one guest address. */
static struct guest_region *region_of(struct session *s, struct pci_model *memdev, const char *name,
                                      GError **error)
{
    const struct pci_model_bar *bar = pci_model_bar(memdev, PTNETMAP_MEM_PCI_BAR);

    for (guint i = 0; i < s->machines->len; i++) {
        struct session_device *other = find_memdev(s->machines->pdata[i], bar->memory);
        struct session_device *ivshmem = other ? find_ivshmem(other) : NULL;
        if (ivshmem) {
            return ivshmem->region;
        }
    }
    return session_memory_from_fd(s, name, bar->memory_fd, bar->size, error);
}

/* ---- making ---- */

static struct session_device *add_model(struct session_machine *m, struct pci_model *model,
                                        const char *properties, GError **error)
{
    struct session_model_options o = {.properties = properties};

    return m->qemu ? session_model_plug(m, model, &o, error)
                   : session_model_new(m, model, &o, error);
}

/* The ivshmem BAR beside a memdev. */
static bool add_ivshmem(struct session_device *memdev, GError **error)
{
    struct session_machine *m = memdev->machine;
    struct session_backing backing = {0};
    g_autofree char *spec =
        g_strdup_printf("ivshmem-plain,id=%s" IVSHMEM, session_device_id(memdev));

    if (pci_model_bar(session_device_model(memdev), PTNETMAP_MEM_PCI_BAR)->memory_fd < 0) {
        return true;
    }
    backing.region = region_of(m->session, session_device_model(memdev), memdev->spec->id, error);
    if (!backing.region) {
        return false;
    }
    return m->qemu ? session_device_plug(m, spec, &backing, error)
                   : session_device_new(m, spec, &backing, error);
}

static struct session_device *add_memdev(struct session_machine *m, struct nm_file *file,
                                         const char *properties, GError **error)
{
    struct pci_model *model = memdev_new(file, error);
    struct session_device *dev = model ? add_model(m, model, properties, error) : NULL;

    return dev && add_ivshmem(dev, error) ? dev : NULL;
}

static struct nm_host *host_of(struct session *s, GError **error)
{
    if (!s->netmap) {
        s->netmap = nm_host_new(&(struct nm_host_options){0}, error);
    }
    return s->netmap;
}

static bool parse_mac(const char *text, uint8_t mac[6], GError **error)
{
    unsigned b[6];
    char rest;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
               &rest) != 6) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC, "mac=%s is no MAC address", text);
        return false;
    }
    for (unsigned i = 0; i < 6; i++) {
        mac[i] = (uint8_t)b[i];
    }
    return true;
}

static bool parse_switch(const struct devspec *spec, const char *key, bool *is_off, GError **error)
{
    const char *text = devspec_get(spec, key);

    if (text && strcmp(text, "on") != 0 && strcmp(text, "off") != 0) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC, "%s is on or off, not %s", key, text);
        return false;
    }
    *is_off |= text && strcmp(text, "off") == 0;
    return true;
}

/* Ours out of the specification; the rest as properties for QEMU. */
static char *take_properties(struct devspec *spec)
{
    static const char *const ours[] = {"mac", "port", "klooptx", "klooprx"};

    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++) {
        devspec_set(spec, ours[i], NULL);
    }
    g_autofree char *text = devspec_to_arg(spec);
    const char *comma = strchr(text, ',');
    return g_strdup(comma ? comma + 1 : "");
}

/* A memdev that shows the memory of a port of its own, which nobody else opens. */
static struct session_device *memdev_alone(struct session_machine *m, struct nm_host *host,
                                           struct devspec *spec, GError **error)
{
    const char *port = devspec_get(spec, "port");
    g_autofree char *chosen = g_strdup(port ? port : "vale0:memdev");
    g_autofree char *properties = take_properties(spec);
    struct nm_port *p = nm_port_open(host, chosen, 0, error);
    struct session_device *dev = p ? add_memdev(m, p->file, properties, error) : NULL;

    if (p) {
        nm_port_close(p); /* the memdev keeps the allocator */
    }
    return dev;
}

static struct session_device *ptnet_with(struct session_machine *m, struct nm_host *host,
                                         struct devspec *spec, struct ptnet_options o,
                                         GError **error)
{
    const char *mac = devspec_get(spec, "mac");
    g_autofree char *port = g_strdup(o.port ? o.port : devspec_get(spec, "port"));

    if (!port) {
        port = g_strdup_printf("vale0:p%u", m->session->n_ptnets);
    }
    o.port = port;
    if ((mac && !parse_mac(mac, o.mac, error)) ||
        !parse_switch(spec, "klooptx", &o.kloop_direct_tx, error) ||
        !parse_switch(spec, "klooprx", &o.kloop_direct_rx, error)) {
        return NULL;
    }
    if (!mac) { /* as QEMU counts them */
        const uint8_t first[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
        memcpy(o.mac, first, 6);
        o.mac[5] = (uint8_t)(o.mac[5] + m->session->n_ptnets);
    }
    m->session->n_ptnets++;
    g_autofree char *properties = take_properties(spec);
    struct pci_model *model = ptnet_new(host, &o, error);
    struct nm_file *file = model ? ptnet_file(ptnet_of(model)) : NULL;
    struct session_device *dev = model ? add_model(m, model, properties, error) : NULL;

    if (!dev || (file && !find_memdev(m, nm_memory(file)) && !add_memdev(m, file, NULL, error))) {
        return NULL;
    }
    return dev;
}

struct session_device *session_ptnet_new(struct session_machine *m, const char *spec,
                                         const struct session_ptnet_options *options,
                                         GError **error)
{
    struct session_ptnet_options o = options ? *options : (struct session_ptnet_options){0};
    g_autoptr(devspec) parsed = devspec_parse(spec, error);
    struct nm_host *host = o.host ? o.host : host_of(m->session, error);

    if (!parsed || !host) {
        return NULL;
    }
    return names(spec, MEMDEV) ? memdev_alone(m, host, parsed, error)
                               : ptnet_with(m, host, parsed, o.ptnet, error);
}
