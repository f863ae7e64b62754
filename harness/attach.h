/*
 * Modelled devices for a QEMU that somebody else configured, with a guest that boots: what its
 * command line must say besides, serving the devices, their MSI-X as writes to the APIC's address
 * through a qtest socket, and memdev's memory at the speed of memory: an ivshmem device that shows
 * the same bytes is laid over the address that the guest gave to memdev's BAR (pci-proxy.md,
 * section 10). Not here: QEMUs of our own (session.h), the command (cmd_attach.c).
 */
#ifndef RINGLAB_ATTACH_H
#define RINGLAB_ATTACH_H

#include "models/netmap/netmap.h"

#include <glib.h>
#include <stdbool.h>

#define ATTACH_ERROR (attach_error_quark())
GQuark attach_error_quark(void);

enum attach_error {
    ATTACH_ERROR_SPEC,    /* a device or a link that cannot be */
    ATTACH_ERROR_COMMAND, /* a QEMU command that cannot be extended */
    ATTACH_ERROR_SYSTEM,
};

struct attach;

/* One-line remarks for the user; from any thread. */
typedef void (*attach_note_fn)(const char *line);

struct attach *attach_new(attach_note_fn note, GError **error);
/* The QEMU must have ended, or never have been started. */
void attach_free(struct attach *a);
struct nm_host *attach_host(struct attach *a);

/* "ptnet-pci,port=vale0:a[,mac=..][,id=..][,addr=..][,klooptx=off][,klooprx=off]". The memdev of
 * the port's allocator is added with the first device that needs it. */
bool attach_add_device(struct attach *a, const char *spec, GError **error);
/* "PORT=tap:NAME|pcap:FILE|echo": frames of a port go to and come from a TAP or a capture, or go
 * back to where they came from. */
bool attach_add_link(struct attach *a, const char *spec, GError **error);

/* The user's command with what the devices need: shared RAM, a qtest socket, the devices. argv[0]
 * is as the user gave it. NULL-terminated; freed with g_ptr_array_unref. */
GPtrArray *attach_command(struct attach *a, char *const *command, GError **error);
/* What QEMU must inherit; owned by `a`. */
const int *attach_fds(struct attach *a, unsigned *n);
/* QEMU runs: our copies of its ends of the sockets are closed. */
void attach_started(struct attach *a);

struct attach_stats {
    uint64_t messages;   /* MSI-X messages injected */
    uint64_t failures;   /* of them not: the qtest socket is gone */
    uint64_t placements; /* of memory over memdev's BAR */
};
struct attach_stats attach_stats(struct attach *a);

#endif
