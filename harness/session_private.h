/*
 * What session.c, session_device.c and session_hotplug.c share. Not for users of the session.
 */
#ifndef RINGLAB_SESSION_PRIVATE_H
#define RINGLAB_SESSION_PRIVATE_H

#include "harness/devneeds.h"
#include "harness/session.h"

enum { SESSION_BRIDGE_CHANNELS = 32 };

struct session {
    session_note_fn note;
    void *note_data;
    session_machine_fn machine_hook;
    void *machine_hook_data;
    int cancel_fd;
    GPtrArray *machines; /* struct session_machine * */
    GArray *regions;     /* struct shared_region (session.c) */
    GArray *servers;     /* struct shared_server (session.c) */
    uint64_t next_gpa;
    struct nm_host *netmap; /* of ptnet devices that came without one; NULL: none yet */
    unsigned n_ptnets;
};

/* The modelled device behind a session_device. */
struct session_model {
    struct pci_model *model;
    struct qemu_proxy_options options;
    struct qemu_proxy *proxy; /* NULL while no QEMU is there */
    struct qemu_proxy_stats last;
};

struct session_machine {
    struct session *session;
    char *name, *accelerator;
    enum machine_board board;
    uint64_t ram_bytes;
    enum guest_hugepages hugepages;
    unsigned timeout_ms;
    bool is_bare, has_bridge;
    unsigned n_numbers; /* given to devices that need one */
    GPtrArray *devices; /* struct session_device * */
    GPtrArray *args;
    GArray *inherit;
    struct guest_memory *memory;
    struct guest_region *ram;
    struct session_device *bridge_device; /* NULL unless asked for */
    struct interrupt_bridge bridge;
    uint16_t bridge_peers[SESSION_BRIDGE_CHANNELS];
    int bridge_eventfds[SESSION_BRIDGE_CHANNELS];
    _Atomic uint64_t doorbell_gpa; /* the bridge's, for threads of models; 0: none */
    /* while it runs: */
    struct qemu *qemu;
    struct machine *machine;
    struct pci_bus *bus;
};

struct session_device {
    struct session_machine *machine;
    struct devspec *spec; /* complete: id, addr, and what it needs */
    GPtrArray *options;   /* char *: QEMU options for what it needs, in pairs */
    char *bus;            /* id of the bus it hangs on; NULL: the root bus */
    unsigned slot, function;
    bool has_memdev, has_chardev; /* the backend is ours to make */
    bool is_unplugged;
    struct guest_region *region;
    struct ivshmem_server *server;
    uint16_t peer;
    bool has_peer;
    struct session_model *model; /* NULL: QEMU's own device */
};

void session_note(struct session *s, const char *line);
uint64_t session_region_gpa(struct session *s, const struct guest_region *region);

/* A device by its specification, not yet on any list. */
struct session_device *session_device_parse(struct session_machine *m, const char *text,
                                            const struct session_backing *backing, GError **error);
struct session_device *session_device_by_id(struct session_machine *m, const char *id);
void session_device_free(struct session_device *dev);
/* Its QEMU is about to end, or the bus was reset: its memory is not on the bus any more. */
void session_device_stopped(struct session_device *dev);
void session_device_unmap(struct session_device *dev);
/* What QEMU's command line needs for it. `close_after`: descriptors that are QEMU's alone. */
bool session_device_args(struct session_device *dev, GPtrArray *args, GArray *inherit,
                         GArray *close_after, GError **error);

/* QEMU hands over guest memory in 8 pieces at most, and then says nothing more about it: whether
 * they suffice for the machine as it is, with `coming` (NULL: nothing). */
bool session_model_check_memory(struct session_machine *m, const struct session_device *coming,
                                GError **error);
/* Serves the model from now on; *far_fd is QEMU's end, which the caller closes. */
bool session_model_connect(struct session_device *dev, int *far_fd, GError **error);
/* No QEMU any more. Notes what went wrong. */
void session_model_disconnect(struct session_device *dev);
void session_model_free(struct session_device *dev);

/* Into a running machine; frees the device on failure. */
bool session_device_plug_in(struct session_device *dev, GError **error);

#endif
