/*
 * A modelled PCI function on the bus of a stock QEMU, through its x-pci-proxy-dev: one socket and
 * one thread per device; guest memory mapped from the descriptors QEMU hands over, as DMA for the
 * model. Follows hw/remote/ of QEMU 7.2. Not here: starting QEMU, or telling it to make the device.
 */
#ifndef RINGLAB_QEMU_PROXY_H
#define RINGLAB_QEMU_PROXY_H

#include "models/pci_device.h"

struct qemu_proxy;

struct qemu_proxy_options {
    unsigned deadline_ms; /* a model that takes longer over one access is cut off (its socket
                             closed, so that QEMU goes on without it); 0: 2000 */
};

struct qemu_proxy_stats {
    uint64_t requests, config_reads, config_writes, bar_reads, bar_writes, memory_updates, resets;
    uint64_t bad_messages;
    bool is_connected; /* QEMU still talks to it */
    bool was_cut_off;  /* the model exceeded its deadline */
};

/* Serves `model` (not owned) on `fd` (owned from now) until QEMU hangs up or qemu_proxy_free. */
struct qemu_proxy *qemu_proxy_new(struct pci_model *model, int fd,
                                  const struct qemu_proxy_options *options, GError **error);
/* Ends its thread; QEMU sees a dead device. */
void qemu_proxy_free(struct qemu_proxy *proxy);
struct qemu_proxy_stats qemu_proxy_stats(struct qemu_proxy *proxy);
/* One message as QEMU would send it, for tests and fuzzing: header, payload, descriptors (taken).
 * Returns the bytes to answer with: 0 (no reply), or -1: the connection is to be ended. */
ssize_t qemu_proxy_message(struct qemu_proxy *proxy, const void *message, size_t len, int *fds,
                           unsigned n_fds, uint8_t reply[24]);

#endif
