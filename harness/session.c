/*
 * The session and its machines: see session.h. Devices are session_device.c's.
 */
#include "harness/session_private.h"
#include "models/abi/ivshmem.h"
#include "models/netmap/netmap.h"

#include <string.h>
#include <unistd.h>

G_DEFINE_QUARK(session - error - quark, session_error)

/* Shared memory lies from here up, each piece at a multiple of its size: above everything a bus
 * scan gives out, below 2^44, which is what legacy virtio can reach. */
#define SHARED_BASE 0x80000000000ull

enum { DEFAULT_RAM = 8 << 20, RAM_ALLOC_FROM = 1 << 20, BRIDGE_MEMORY = 4096 };

struct shared_region {
    struct guest_region *region;
    uint64_t gpa;
};

struct shared_server {
    struct ivshmem_server *server;
    struct guest_region *region;
};

struct session *session_new(session_note_fn note, void *note_data)
{
    struct session *s = g_new0(struct session, 1);

    s->note = note;
    s->note_data = note_data;
    s->cancel_fd = -1;
    s->machines = g_ptr_array_new();
    s->regions = g_array_new(FALSE, FALSE, sizeof(struct shared_region));
    s->servers = g_array_new(FALSE, FALSE, sizeof(struct shared_server));
    s->next_gpa = SHARED_BASE;
    return s;
}

void session_set_machine_hook(struct session *s, session_machine_fn hook, void *data)
{
    s->machine_hook = hook;
    s->machine_hook_data = data;
}

void session_set_cancel_fd(struct session *s, int fd)
{
    s->cancel_fd = fd;
}

static void tell_machine(struct session_machine *m, bool is_running)
{
    if (m->session->machine_hook) {
        m->session->machine_hook(m->session->machine_hook_data, m, is_running);
    }
}

static void machine_destroy(struct session_machine *m)
{
    session_machine_stop(m);
    for (guint i = m->devices->len; i > 0; i--) {
        session_device_free(m->devices->pdata[i - 1]);
    }
    g_ptr_array_unref(m->devices);
    g_ptr_array_unref(m->args);
    g_array_unref(m->inherit);
    guest_memory_free(m->memory);
    guest_region_free(m->ram);
    g_free(m->name);
    g_free(m->accelerator);
    g_free(m);
}

void session_free(struct session *s)
{
    if (!s) {
        return;
    }
    /* QEMUs first: they use everything else */
    for (guint i = 0; i < s->machines->len; i++) {
        session_machine_stop(s->machines->pdata[i]);
    }
    for (guint i = 0; i < s->servers->len; i++) {
        ivshmem_server_free(g_array_index(s->servers, struct shared_server, i).server);
    }
    for (guint i = 0; i < s->machines->len; i++) {
        machine_destroy(s->machines->pdata[i]);
    }
    nm_host_free(s->netmap);
    for (guint i = 0; i < s->regions->len; i++) {
        guest_region_free(g_array_index(s->regions, struct shared_region, i).region);
    }
    g_ptr_array_unref(s->machines);
    g_array_unref(s->regions);
    g_array_unref(s->servers);
    g_free(s);
}

void session_note(struct session *s, const char *line)
{
    if (s->note) {
        s->note(s->note_data, line);
    }
}

/* ---- memory and servers ---- */

static uint64_t power_of_two(uint64_t size)
{
    uint64_t p = 4096;

    while (p < size) {
        p <<= 1;
    }
    return p;
}

static struct guest_region *keep_region(struct session *s, struct guest_region *r)
{
    if (!r) {
        return NULL;
    }
    uint64_t align = power_of_two(r->size);
    s->next_gpa = (s->next_gpa + align - 1) & ~(align - 1);
    struct shared_region shared = {r, s->next_gpa};
    s->next_gpa += align;
    g_array_append_val(s->regions, shared);
    if (r->note) {
        session_note(s, r->note);
    }
    return r;
}

static bool size_is_possible(const char *name, uint64_t size, GError **error)
{
    if (size == 0 || size > (1ull << 40)) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "memory '%s' cannot have a size of %" G_GUINT64_FORMAT " bytes (1 to 2^40)",
                    name, size);
        return false;
    }
    return true;
}

struct guest_region *session_memory_new(struct session *s, const char *name, uint64_t size,
                                        enum guest_hugepages hugepages, GError **error)
{
    return size_is_possible(name, size, error)
               ? keep_region(s, guest_region_new(name, power_of_two(size), hugepages, error))
               : NULL;
}

struct guest_region *session_memory_new_in_dir(struct session *s, const char *name, uint64_t size,
                                               const char *dir, enum guest_hugepages hugepages,
                                               GError **error)
{
    return size_is_possible(name, size, error)
               ? keep_region(
                     s, guest_region_new_in_dir(name, power_of_two(size), dir, hugepages, error))
               : NULL;
}

struct guest_region *session_memory_from_fd(struct session *s, const char *name, int fd,
                                            uint64_t size, GError **error)
{
    return size_is_possible(name, size, error)
               ? keep_region(s, guest_region_new_from_fd(name, fd, power_of_two(size), error))
               : NULL;
}

uint64_t session_region_gpa(struct session *s, const struct guest_region *region)
{
    for (guint i = 0; i < s->regions->len; i++) {
        const struct shared_region *r = &g_array_index(s->regions, struct shared_region, i);
        if (r->region == region) {
            return r->gpa;
        }
    }
    return GUEST_UNPLACED;
}

struct ivshmem_server *session_ivshmem_server_new(struct session *s, struct guest_region *region,
                                                  unsigned n_vectors, GError **error)
{
    struct ivshmem_server *server = ivshmem_server_new(region->fd, n_vectors, error);

    if (server) {
        struct shared_server shared = {server, region};
        g_array_append_val(s->servers, shared);
    }
    return server;
}

struct guest_region *session_server_region(struct session *s, struct ivshmem_server *server)
{
    for (guint i = 0; i < s->servers->len; i++) {
        const struct shared_server *shared = &g_array_index(s->servers, struct shared_server, i);
        if (shared->server == server) {
            return shared->region;
        }
    }
    return NULL;
}

/* ---- machines ---- */

struct session_machine *session_machine_new(struct session *s,
                                            const struct session_machine_options *o, GError **error)
{
    g_autofree char *name =
        o->name ? g_strdup(o->name) : g_strdup_printf("m%u", s->machines->len + 1);
    uint64_t ram_bytes = o->ram_bytes ? o->ram_bytes : DEFAULT_RAM;

    if (ram_bytes < 2 * RAM_ALLOC_FROM || ram_bytes > (2ull << 30) || ram_bytes % 4096 != 0) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_SPEC,
                    "machine '%s': %" G_GUINT64_FORMAT
                    " bytes of RAM (2 MiB to 2 GiB, whole pages of 4096)",
                    name, ram_bytes);
        return NULL;
    }
    struct session_machine *m = g_new0(struct session_machine, 1);
    m->session = s;
    m->name = g_steal_pointer(&name);
    m->board = o->board;
    m->accelerator = g_strdup(o->accelerator);
    m->ram_bytes = ram_bytes;
    m->hugepages = o->hugepages;
    m->timeout_ms = o->timeout_ms;
    m->is_bare = o->is_bare;
    m->has_bridge = o->has_bridge;
    m->devices = g_ptr_array_new();
    m->args = g_ptr_array_new_with_free_func(g_free);
    m->inherit = g_array_new(FALSE, FALSE, sizeof(int));
    m->memory = guest_memory_new();
    g_ptr_array_add(s->machines, m);
    return m;
}

static bool not_started(struct session_machine *m, const char *doing, GError **error)
{
    if (m->qemu) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    "machine '%s' runs already: too late for %s", m->name, doing);
        return false;
    }
    return true;
}

bool session_machine_add_args(struct session_machine *m, const char *const *args, GError **error)
{
    if (!not_started(m, "another argument", error)) {
        return false;
    }
    for (; *args; args++) {
        g_ptr_array_add(m->args, g_strdup(*args));
    }
    return true;
}

bool session_machine_inherit(struct session_machine *m, int fd, GError **error)
{
    if (!not_started(m, "a descriptor to inherit", error)) {
        return false;
    }
    g_array_append_val(m->inherit, fd);
    return true;
}

void session_machine_stop(struct session_machine *m)
{
    if (m->machine) {
        tell_machine(m, false);
    }
    for (guint i = 0; i < m->devices->len; i++) {
        session_device_stopped(m->devices->pdata[i]);
    }
    pci_bus_free(g_steal_pointer(&m->bus));
    machine_free(g_steal_pointer(&m->machine));
    qemu_free(g_steal_pointer(&m->qemu));
    for (guint i = 0; i < m->devices->len; i++) {
        session_model_disconnect(m->devices->pdata[i]);
    }
    m->doorbell_gpa = 0;
    m->bridge.doorbell_gpa = 0;
    m->bridge.n_used = 0;
}

/* ---- the interrupt bridge: a doorbell device whose peers are all here ---- */

static bool make_bridge(struct session_machine *m, GError **error)
{
    g_autofree char *name = g_strdup_printf("%s.bridge", m->name);
    struct guest_region *region =
        session_memory_new(m->session, name, BRIDGE_MEMORY, GUEST_HUGEPAGES_OFF, error);
    struct ivshmem_server *server =
        region ? session_ivshmem_server_new(m->session, region, 1, error) : NULL;

    for (unsigned i = 0; server && i < SESSION_BRIDGE_CHANNELS; i++) {
        if (!ivshmem_server_join(server, 1, &m->bridge_eventfds[i], &m->bridge_peers[i], error)) {
            return false;
        }
    }
    if (!server) {
        return false;
    }
    m->bridge.peer_ids = m->bridge_peers;
    m->bridge.eventfds = m->bridge_eventfds;
    m->bridge.n_channels = SESSION_BRIDGE_CHANNELS;
    struct session_backing backing = {.server = server};
    m->bridge_device = session_device_new(m, "ivshmem-doorbell,vectors=1", &backing, error);
    return m->bridge_device != NULL;
}

static bool find_doorbell(struct session_machine *m, GError **error)
{
    struct pci_device *dev = session_device_pci(m->bridge_device, error);

    if (dev) {
        m->bridge.doorbell_gpa = dev->bars[IVSHMEM_BAR_REGISTERS].base + IVSHMEM_DOORBELL;
        m->doorbell_gpa = m->bridge.doorbell_gpa;
    }
    return dev != NULL;
}

static bool start_qemu(struct session_machine *m, GError **error)
{
    g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) inherit = g_array_copy(m->inherit);

    for (guint i = 0; i < m->args->len; i++) {
        g_ptr_array_add(args, g_strdup(m->args->pdata[i]));
    }
    g_autoptr(GArray) close_after = g_array_new(FALSE, FALSE, sizeof(int));
    bool ok = true;
    for (guint i = 0; ok && i < m->devices->len; i++) {
        ok = session_device_args(m->devices->pdata[i], args, inherit, close_after, error);
    }
    g_ptr_array_add(args, NULL);
    if (ok) {
        struct qemu_options o = {
            .name = m->name,
            .board = m->board,
            .accelerator = m->accelerator,
            .ram_bytes = m->ram_bytes,
            .ram_fd = m->ram->fd,
            .args = (const char *const *)args->pdata,
            .inherit_fds = (const int *)(const void *)inherit->data,
            .n_inherit_fds = inherit->len,
            .timeout_ms = m->timeout_ms,
        };
        m->qemu = qemu_start(&o, error);
    }
    for (guint i = 0; i < close_after->len; i++) {
        close(g_array_index(close_after, int, i));
    }
    return m->qemu != NULL;
}

/* Every device gets a slot; QEMU refuses it for one that is no PCI device, in words of its own. */
static void explain_start(struct session_machine *m, GError **error)
{
    for (guint i = 0; error && *error && i < m->devices->len; i++) {
        const char *driver = ((struct session_device *)m->devices->pdata[i])->spec->driver;
        g_autofree char *property = g_strdup_printf("Property '%s.addr' not found", driver);
        g_autofree char *bus = g_strdup_printf("bus found for device '%s'", driver);
        if (strstr((*error)->message, property) || strstr((*error)->message, bus)) {
            g_clear_error(error);
            g_set_error(error, SESSION_ERROR, SESSION_ERROR_DEVICE,
                        "device %s is on no PCI bus of this machine", driver);
        }
    }
}

bool session_machine_start(struct session_machine *m, GError **error)
{
    if (m->qemu) {
        return true;
    }
    if (!m->ram) {
        g_autofree char *name = g_strdup_printf("%s.ram", m->name);
        m->ram = guest_region_new(name, m->ram_bytes, m->hugepages, error);
        if (!m->ram) {
            return false;
        }
        if (m->ram->note) {
            session_note(m->session, m->ram->note);
        }
        guest_region_reserve_below(m->ram, RAM_ALLOC_FROM);
        if (!guest_memory_place(m->memory, m->ram, 0, error)) {
            return false;
        }
    }
    if (m->has_bridge && !m->bridge_device && !make_bridge(m, error)) {
        return false;
    }
    if (!session_model_check_memory(m, NULL, error)) {
        return false;
    }
    if (!start_qemu(m, error)) {
        explain_start(m, error);
        session_machine_stop(m);
        return false;
    }
    m->machine = machine_qtest_new(qemu_qtest(m->qemu), m->memory, m->board);
    m->bus = pci_bus_new(m->machine);
    qtest_set_cancel_fd(qemu_qtest(m->qemu), m->session->cancel_fd);
    qmp_set_cancel_fd(qemu_qmp(m->qemu), m->session->cancel_fd);
    tell_machine(m, true);
    if (!qtest_irq_intercept_ioapic(qemu_qtest(m->qemu), error) ||
        (!m->is_bare && !session_machine_setup(m, error))) {
        session_machine_stop(m);
        return false;
    }
    return true;
}

bool session_machine_setup(struct session_machine *m, GError **error)
{
    if (!pci_bus_scan(m->bus, error)) {
        return false;
    }
    for (guint i = 0; i < m->devices->len; i++) {
        struct session_device *dev = m->devices->pdata[i];
        if (!dev->is_unplugged && !session_device_enable(dev, error)) {
            return false;
        }
    }
    return !m->bridge_device || find_doorbell(m, error);
}

bool session_machine_reset(struct session_machine *m, GError **error)
{
    if (!m->qemu) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE, "machine '%s' does not run",
                    m->name);
        return false;
    }
    if (!qmp_run(qemu_qmp(m->qemu), "system_reset", NULL, error)) {
        return false;
    }
    JsonNode *event =
        qmp_wait_event(qemu_qmp(m->qemu), "RESET", NULL, NULL, QTEST_DEFAULT_TIMEOUT_MS, error);
    if (!event) {
        return false;
    }
    json_node_unref(event);
    pci_bus_forget(m->bus);
    for (guint i = 0; i < m->devices->len; i++) {
        session_device_unmap(m->devices->pdata[i]);
    }
    return qtest_barrier(qemu_qtest(m->qemu), error);
}

bool session_machine_is_started(const struct session_machine *m)
{
    return m->qemu != NULL;
}

struct session_machine *session_nth_machine(struct session *s, unsigned n)
{
    return n < s->machines->len ? s->machines->pdata[n] : NULL;
}

const char *session_machine_name(const struct session_machine *m)
{
    return m->name;
}

struct session *session_machine_session(const struct session_machine *m)
{
    return m->session;
}

struct machine *session_machine_machine(struct session_machine *m)
{
    return m->machine;
}

struct qemu *session_machine_qemu(struct session_machine *m)
{
    return m->qemu;
}

struct pci_bus *session_machine_bus(struct session_machine *m)
{
    return m->bus;
}

struct guest_memory *session_machine_memory(struct session_machine *m)
{
    return m->memory;
}

struct guest_region *session_machine_ram(struct session_machine *m)
{
    return m->ram;
}

struct interrupt_bridge *session_machine_bridge(struct session_machine *m)
{
    return m->bridge.doorbell_gpa ? &m->bridge : NULL;
}
