/*
 * The ptnet network device and ptnetmap-memdev as register models: PCI functions
 * (models/pci_device.h) over a netmap port opened for passthrough. Follows hw/net/ptnetmap-netif.c,
 * ptnetmap-memdev.c and net/netmap.c of the ptnet QEMU, and netmap_virt.h; registers in
 * models/abi/ptnet.h.
 */
#ifndef RINGLAB_PTNET_H
#define RINGLAB_PTNET_H

#include "models/netmap/netmap.h"
#include "models/pci_device.h"
#include "models/ptnet/kloop.h"

struct ptnet;

struct ptnet_options {
    const char *port;     /* "vale0:a", "netmap:em0{1" ...; opened ALL_NIC, exclusive */
    uint8_t mac[6];       /* all 0: 52:54:00:12:34:56 */
    bool kloop_direct_tx; /* -netdev netmap,klooptx=off */
    bool kloop_direct_rx;
    bool is_stepped;     /* no kloop thread: the owner calls ptnet_step */
    bool no_passthrough; /* backend without passthrough: registers ignore writes */
};

struct ptnet_stats {
    uint64_t kicks[64]; /* per ring, tx first */
    uint64_t interrupts[64];
    uint64_t creates, deletes, create_failures, csb_failures;
};

/* Opens the port. The model is the data of the pci_model. errno in NM_ERROR. */
struct pci_model *ptnet_new(struct nm_host *host, const struct ptnet_options *options,
                            GError **error);
struct ptnet *ptnet_of(struct pci_model *m);
struct nm_file *ptnet_file(struct ptnet *pt);
/* Stepped: one pass of its kloop (nothing while there is none); true if a kick or the port called
 * for one since the last. */
bool ptnet_step(struct ptnet *pt);
bool ptnet_step_ring(struct ptnet *pt, unsigned ring);
struct ptnet_stats ptnet_stats(struct ptnet *pt);
struct kloop_stats ptnet_kloop_stats(struct ptnet *pt);

/* The memory of the allocator that `file`'s port uses; one per allocator and machine. */
struct pci_model *memdev_new(struct nm_file *file, GError **error);

#endif
