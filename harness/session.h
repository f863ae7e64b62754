/*
 * One test bed: QEMUs with their sockets, shared memory, devices and models, owned by one struct
 * and torn down in one place, whatever happened. Machines and devices are declared first; a machine
 * runs from session_machine_start on. Not here: what a device does (qtest_client/), scripts
 * (scenario/), command lines (cmd_*.c).
 */
#ifndef RINGLAB_SESSION_H
#define RINGLAB_SESSION_H

#include "harness/qemu.h"
#include "models/ivshmem_server.h"
#include "models/qemu_proxy.h"
#include "qtest_client/interrupt.h"
#include "qtest_client/pci.h"

#define SESSION_ERROR (session_error_quark())
GQuark session_error_quark(void);

enum session_error {
    SESSION_ERROR_SPEC,   /* a device specification that cannot be */
    SESSION_ERROR_STATE,  /* not now: the machine runs already, or not yet */
    SESSION_ERROR_DEVICE, /* the device is not on the bus */
    SESSION_ERROR_UNPLUG, /* the device did not go away */
};

struct session;
struct session_machine;
struct session_device;

/* One-line remarks for the user, such as "using ordinary pages: ..."; may be NULL. */
typedef void (*session_note_fn)(void *data, const char *line);
struct session *session_new(session_note_fn note, void *note_data);
/* Told when a machine has started but nothing was accessed yet (is_running true), and before it
 * ends (false): for traces. */
typedef void (*session_machine_fn)(void *data, struct session_machine *m, bool is_running);
void session_set_machine_hook(struct session *session, session_machine_fn hook, void *data);
/* Waits for its QEMUs end early once `fd` is readable (nothing is read from it); for machines that
 * start from now on. -1: none. */
void session_set_cancel_fd(struct session *session, int fd);
/* Ends every QEMU and frees everything made through the session. */
void session_free(struct session *session);

/* ---- things machines share; owned by the session ---- */

/* Shared memory of at least `size` bytes, rounded up to a power of two so that it can be a BAR. It
 * has one guest address for all machines of the session. */
struct guest_region *session_memory_new(struct session *session, const char *name, uint64_t size,
                                        enum guest_hugepages hugepages, GError **error);
/* The same on a mounted hugetlbfs, or with `hugepages` off in any folder. */
struct guest_region *session_memory_new_in_dir(struct session *session, const char *name,
                                               uint64_t size, const char *dir,
                                               enum guest_hugepages hugepages, GError **error);
/* Memory that somebody else made, such as a model's (struct pci_model_bar), by its descriptor,
 * which stays the caller's: with it, a device of QEMU's shows the same bytes (struct
 * session_backing). The file is made longer if it is shorter. Nothing can be allocated in it. */
struct guest_region *session_memory_from_fd(struct session *session, const char *name, int fd,
                                            uint64_t size, GError **error);
/* The server for doorbell devices that share `region`. */
struct ivshmem_server *session_ivshmem_server_new(struct session *session,
                                                  struct guest_region *region, unsigned n_vectors,
                                                  GError **error);
struct guest_region *session_server_region(struct session *session, struct ivshmem_server *server);

/* ---- machines ---- */

struct session_machine_options {
    const char *name; /* for messages; NULL: "m1", "m2" ... */
    enum machine_board board;
    const char *accelerator;        /* NULL: chosen (qemu.h) */
    uint64_t ram_bytes;             /* 0: 8 MiB, at most 2 GiB; RAM is always shared with us */
    enum guest_hugepages hugepages; /* for the RAM */
    unsigned timeout_ms;            /* per reply; 0: 5000 */
    bool is_bare;                   /* leave PCI as after power-on: no scan, nothing enabled */
    bool has_bridge;                /* an interrupt bridge, for INTERRUPT_EVENTFD */
};

struct session_machine *session_machine_new(struct session *session,
                                            const struct session_machine_options *options,
                                            GError **error);
/* One more argument (or two, "-netdev" and its value) for QEMU's command line. */
bool session_machine_add_args(struct session_machine *m, const char *const *args, GError **error);
/* A descriptor that QEMU inherits under the same number; the caller keeps it until the start. */
bool session_machine_inherit(struct session_machine *m, int fd, GError **error);

/* Starts QEMU, intercepts the I/O APIC, and unless it is bare scans PCI and enables every declared
 * device: BARs placed, memory, I/O and bus mastering on. Does nothing if it runs already. */
bool session_machine_start(struct session_machine *m, GError **error);
bool session_machine_is_started(const struct session_machine *m);
/* Ends its QEMU now; it can be started again. */
void session_machine_stop(struct session_machine *m);
/* QMP system_reset, waited for; addresses of BARs are forgotten as the devices forget them. */
bool session_machine_reset(struct session_machine *m, GError **error);
/* Scans (again) and enables all declared devices that are on the bus. */
bool session_machine_setup(struct session_machine *m, GError **error);

/* The n-th (from 0) machine of the session, or NULL. */
struct session_machine *session_nth_machine(struct session *session, unsigned n);
const char *session_machine_name(const struct session_machine *m);
struct session *session_machine_session(const struct session_machine *m);
/* NULL while it does not run. */
struct machine *session_machine_machine(struct session_machine *m);
struct qemu *session_machine_qemu(struct session_machine *m);
struct pci_bus *session_machine_bus(struct session_machine *m);
struct guest_memory *session_machine_memory(struct session_machine *m);
struct guest_region *session_machine_ram(struct session_machine *m);
/* NULL unless asked for. */
struct interrupt_bridge *session_machine_bridge(struct session_machine *m);

/* ---- devices ---- */

/* What stands behind a device that needs something of ours; all may be NULL. */
struct session_backing {
    struct guest_region *region;   /* ivshmem-plain: its memory */
    struct ivshmem_server *server; /* ivshmem-doorbell: its server */
};

/* Declares a device by what QEMU's -device takes: "virtio-net-pci,mac=...". What is missing is
 * made: an id, a slot (`addr`), memory for ivshmem-plain (memdev; 4 MiB), a server for
 * ivshmem-doorbell (chardev), and for network devices a netdev: a port of QEMU's hub 0, so that all
 * of a machine see each other's frames. A NAME that this QEMU does not have is reported at the
 * start. */
struct session_device *session_device_new(struct session_machine *m, const char *spec,
                                          const struct session_backing *backing, GError **error);

struct session_model_options {
    const char *properties; /* for QEMU: "id=pt0,bus=b0,addr=6"; NULL: chosen */
    struct qemu_proxy_options proxy;
};

/* Declares a modelled device (x-pci-proxy-dev), and owns the model from then on, also if that
 * fails: it is freed with the session, after those declared later. It is served from the machine's
 * start to its end by a thread of its own, and reset when its QEMU ends; it stays what it is when
 * that happens, and meets the next. `options` may be NULL. Messages (MSI-X) reach guest memory and
 * the interrupt bridge. QEMU hands over guest memory in 8 pieces at most, 3 of which are RAM: a
 * machine with modelled devices can have 5 devices with shared memory, its bridge included. */
struct session_device *session_model_new(struct session_machine *m, struct pci_model *model,
                                         const struct session_model_options *options,
                                         GError **error);
/* The same for a running machine; see session_device_plug. */
struct session_device *session_model_plug(struct session_machine *m, struct pci_model *model,
                                          const struct session_model_options *options,
                                          GError **error);
/* NULL: QEMU's own device. */
struct pci_model *session_device_model(struct session_device *dev);
/* What went over its connection, at present or at the last. A model that was cut off, or a QEMU
 * that spoke badly, is also noted when the machine ends or the device is unplugged. */
struct qemu_proxy_stats session_device_proxy_stats(struct session_device *dev);
/* Waits until the model is served no more: QEMU ended, or the model was cut off. */
bool session_device_wait_unserved(struct session_device *dev, int timeout_ms);

/* The n-th (from 0) declared device, or NULL. */
struct session_device *session_machine_device(struct session_machine *m, unsigned n);
const char *session_device_driver(const struct session_device *dev);
const char *session_device_id(const struct session_device *dev);
/* Where it hangs on the root bus; false if it lies behind a bridge. */
bool session_device_slot(const struct session_device *dev, unsigned *slot, unsigned *function);
struct session_machine *session_device_machine(const struct session_device *dev);
struct guest_region *session_device_region(const struct session_device *dev);
struct ivshmem_server *session_device_server(const struct session_device *dev);
/* Its peer id at the server (doorbell devices). */
uint16_t session_device_peer(const struct session_device *dev);
/* The function on the bus; scans if it was not seen yet. DEVICE error if it is not there. */
struct pci_device *session_device_pci(struct session_device *dev, GError **error);
/* Enables it (BARs, decoding, bus mastering), and enters its shared memory into the guest's map. */
bool session_device_enable(struct session_device *dev, GError **error);

/* Plugs a device into a running machine; the machine is scanned, the device not enabled. */
struct session_device *session_device_plug(struct session_machine *m, const char *spec,
                                           const struct session_backing *backing, GError **error);
/* device_del, then the guest's part of the handshake (ACPI eject register), then waits for
 * DEVICE_DELETED. The handle stays valid but the device is gone; session_device_replug brings the
 * same specification back. */
bool session_device_unplug(struct session_device *dev, GError **error);
bool session_device_replug(struct session_device *dev, GError **error);

#endif
