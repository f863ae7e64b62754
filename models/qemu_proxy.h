/*
 * A modelled PCI function on the bus of a stock QEMU, through its x-pci-proxy-dev: one socket and
 * one thread per device (and one that watches it); guest memory mapped from the descriptors QEMU
 * hands over, as DMA for the model. Follows hw/remote/ of QEMU 7.2. Not here: starting QEMU, or
 * telling it to make the device.
 */
#ifndef RINGLAB_QEMU_PROXY_H
#define RINGLAB_QEMU_PROXY_H

#include "models/pci_device.h"

#include <sys/types.h>

#define QEMU_PROXY_ERROR (qemu_proxy_error_quark())
GQuark qemu_proxy_error_quark(void);

enum qemu_proxy_error {
    QEMU_PROXY_ERROR_SYSTEM, /* no thread could be started */
};

struct qemu_proxy;

struct qemu_proxy_options {
    unsigned deadline_ms; /* a model that takes longer over one access is cut off (its socket
                             closed, so that QEMU goes on without it); 0: 2000 */
    /* Bit i: BAR i is shown to QEMU only from the first reset on, after it was asked for its size.
     * QEMU then never decodes it, but firmware and guest give it an address, where something else
     * may be laid: an ivshmem device with the same memory, at the speed of memory. */
    uint8_t late_bars;
    /* Called before each access to a BAR is carried out, in the device's thread, while QEMU waits
     * for it without its big lock: qtest commands are answered meanwhile. NULL: nobody. */
    void (*bar_accessed)(void *data);
    void *data;
};

struct qemu_proxy_stats {
    uint64_t requests, config_reads, config_writes, bar_reads, bar_writes, memory_updates, resets;
    uint64_t bad_messages;    /* 0, or 1: the connection was ended then */
    uint64_t unmapped_ranges; /* of guest memory, that could not be mapped here */
    bool is_connected;        /* QEMU still talks to it */
    bool was_cut_off;         /* the model exceeded its deadline */
    char why_ended[128];      /* one line; "" while connected, and after QEMU hung up */
};

/* Serves `model` (not owned, on no other bus) on `fd`, a connected stream socket (owned from now),
 * until QEMU hangs up, says what cannot be (too short, too long, unknown, with descriptors too many
 * or uncalled for), or qemu_proxy_free. The model is then reset, as if power was gone, and its DMA
 * has no ranges any more; what it has mapped stays. `options` may be NULL. On failure `fd` is
 * closed. With `fd` -1 nobody is served: for qemu_proxy_message. */
struct qemu_proxy *qemu_proxy_new(struct pci_model *model, int fd,
                                  const struct qemu_proxy_options *options, GError **error);
/* Ends its thread; QEMU sees a dead device. False: the model has not come back from an access for
 * longer than its deadline, and must not be freed, now or later. */
bool qemu_proxy_free(struct qemu_proxy *proxy);
/* Waits until nobody is served any more, and the model is reset. False: not within `timeout_ms`. */
bool qemu_proxy_wait_end(struct qemu_proxy *proxy, int timeout_ms);
struct qemu_proxy_stats qemu_proxy_stats(struct qemu_proxy *proxy);
/* One message as QEMU would send it, for tests and fuzzing: header, payload, descriptors (taken).
 * Returns the bytes to answer with: 0 (no reply), or -1: the connection is to be ended. */
ssize_t qemu_proxy_message(struct qemu_proxy *proxy, const void *message, size_t len,
                           const int *fds, unsigned n_fds, uint8_t reply[24]);

#endif
