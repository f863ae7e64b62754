/*
 * ptnet on a machine without QEMU: the modelled device and the memdev of its allocator on the bus,
 * and the driver that runs on them. For tests and measurements.
 */
#ifndef RINGLAB_SIM_PTNET_H
#define RINGLAB_SIM_PTNET_H

#include "harness/sim_machine.h"
#include "models/ptnet/ptnet.h"
#include "qtest_client/ptnet.h"

struct sim_ptnet {
    struct pci_model *model; /* the machine's */
    struct ptnet *ptnet;     /* behind it */
    unsigned slot;
    struct ptnet_driver *driver; /* NULL: none yet */
};

/* Opens the port and puts its ptnet on the bus; and a memdev, unless the machine has one of the
 * same allocator. */
bool sim_ptnet_add(struct machine *m, struct nm_host *host, const struct ptnet_options *options,
                   struct sim_ptnet *out, GError **error);
/* Probes and starts the driver; `bus` was scanned after the ptnet was added. */
bool sim_ptnet_open(struct sim_ptnet *p, struct pci_bus *bus,
                    const struct ptnet_driver_options *options, GError **error);
/* Ends the driver, if there is one; the ptnet stays. */
void sim_ptnet_close(struct sim_ptnet *p);

#endif
