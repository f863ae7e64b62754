/*
 * ptnet and its memdev on a machine without QEMU.
 */
#include "harness/sim_ptnet.h"
#include "models/abi/ptnet.h"

/* The memdev whose MEMID this is. */
static bool has_memdev(struct machine *m, uint16_t mem_id)
{
    for (unsigned i = 0; i < SIM_MACHINE_SLOTS; i++) {
        struct pci_model *f = sim_machine_function(m, i);
        if (f &&
            pci_model_config_read(f, 0, 4) ==
                (PTNETMAP_PCI_VENDOR_ID | (uint32_t)PTNETMAP_PCI_DEVICE_ID << 16) &&
            pci_model_bar_read(f, PTNETMAP_IO_PCI_BAR, PTNET_MDEV_IO_MEMID, 4) == mem_id) {
            return true;
        }
    }
    return false;
}

static bool add_memdev(struct machine *m, struct nm_file *file, GError **error)
{
    /* none: a port without passthrough */
    if (!file || has_memdev(m, nm_mem_id(file->mem))) {
        return true;
    }
    struct pci_model *memdev = memdev_new(file, error);
    return memdev && sim_machine_add(m, memdev, 0, error);
}

bool sim_ptnet_add(struct machine *m, struct nm_host *host, const struct ptnet_options *options,
                   struct sim_ptnet *out, GError **error)
{
    *out = (struct sim_ptnet){.model = ptnet_new(host, options, error)};
    if (!out->model) {
        return false;
    }
    out->ptnet = ptnet_of(out->model);
    if (!sim_machine_add(m, out->model, 0, error)) {
        *out = (struct sim_ptnet){.model = NULL};
        return false;
    }
    while (sim_machine_function(m, out->slot) != out->model) {
        out->slot++;
    }
    return add_memdev(m, ptnet_file(out->ptnet), error);
}

bool sim_ptnet_open(struct sim_ptnet *p, struct pci_bus *bus,
                    const struct ptnet_driver_options *options, GError **error)
{
    p->driver = ptnet_driver_new(pci_bus_find(bus, 0, p->slot, 0), options, error);
    return p->driver && ptnet_driver_start(p->driver, error);
}

void sim_ptnet_close(struct sim_ptnet *p)
{
    ptnet_driver_free(p->driver);
    p->driver = NULL;
}
