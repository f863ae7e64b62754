/*
 * The ptnet network device and ptnetmap-memdev as register models: PCI functions
 * (models/pci_device.h) over a netmap port opened for passthrough. Follows hw/net/ptnetmap-netif.c,
 * ptnetmap-memdev.c and net/netmap.c of the ptnet QEMU, and netmap_virt.h; registers in
 * models/abi/ptnet.h.
 *
 * Where ptnet differs from QEMU's, on purpose: a reset, and the device's end, stop the kernel loop
 * before the CSB is unmapped, and so does a new CSB address (QEMU unmaps first, and lets the loop
 * run on across a reset). What the guest sees of registers is the same.
 */
#ifndef RINGLAB_PTNET_H
#define RINGLAB_PTNET_H

#include "models/netmap/netmap.h"
#include "models/pci_device.h"
#include "models/ptnet/kloop.h"

enum { PTNET_MAX_RINGS = 64 }; /* whose CSB entries fill a page: what a guest's driver can take */

struct ptnet;

struct ptnet_options {
    const char *port;     /* "vale0:a", "netmap:em0{1" ...; opened with all its rings, exclusive */
    uint8_t mac[6];       /* all 0: 52:54:00:12:34:56 */
    bool kloop_direct_tx; /* -netdev netmap,klooptx=off */
    bool kloop_direct_rx;
    bool is_stepped;     /* no kloop thread: the owner calls ptnet_step */
    bool no_passthrough; /* a backend without passthrough: no rings, writes are ignored */
};

struct ptnet_stats {
    uint64_t kicks[PTNET_MAX_RINGS]; /* per ring, tx first */
    uint64_t interrupts[PTNET_MAX_RINGS];
    uint64_t creates, deletes; /* PTCTL commands, as written */
    uint64_t create_failures;  /* of the creates: a status other than 0 */
    uint64_t csb_failures;     /* CSB addresses that are not in guest memory */
};

/* Opens the port. The model is the data of the pci_model, and freed with it. NM_ERROR with an
 * errno: what opening the port gives, EINVAL (a port name with a ring suffix), E2BIG (more than
 * PTNET_MAX_RINGS rings). */
struct pci_model *ptnet_new(struct nm_host *host, const struct ptnet_options *options,
                            GError **error);
/* NULL if `m` is something else. */
struct ptnet *ptnet_of(struct pci_model *m);
/* Of the open port, which stays the device's. */
struct nm_file *ptnet_file(struct ptnet *pt);
/* Stepped: one pass of its kloop (nothing while there is none); true if a kick, the port or a visit
 * that was cut short called for one since the last. Any thread. */
bool ptnet_step(struct ptnet *pt);
/* One visit to one ring. False: no kloop, or no such ring. */
bool ptnet_step_ring(struct ptnet *pt, unsigned ring);
/* Any thread. */
struct ptnet_stats ptnet_stats(struct ptnet *pt);
/* Of all its kloops until now. */
struct kloop_stats ptnet_kloop_stats(struct ptnet *pt);

/* The memory of the allocator that `file`'s port uses (registered; or NM_ERROR with ENXIO); one per
 * allocator and machine, shared by the ptnets whose HOSTMEMID is its MEMID. It keeps the allocator,
 * not the file. EFBIG: memory beyond the 1 GiB that a BAR can show. */
struct pci_model *memdev_new(struct nm_file *file, GError **error);

#endif
