/*
 * What pci_device.c and pci_device_msix.c share. Not for users of a model.
 */
#ifndef RINGLAB_MODELS_PCI_DEVICE_PRIVATE_H
#define RINGLAB_MODELS_PCI_DEVICE_PRIVATE_H

#include "models/pci_device.h"

#include <pthread.h>
#include <stdatomic.h>

struct pci_model {
    const struct pci_model_ops *ops;
    void *data;
    struct pci_model_options options;

    /* Read and written by the thread that serves the bus; written with the lock held, because
     * pci_model_raise looks at the command register and MSI-X control from other threads. */
    uint8_t config[PCI_MODEL_CONFIG_BYTES];
    uint8_t write_mask[PCI_MODEL_CONFIG_BYTES];

    pthread_mutex_t lock;  /* guards what follows */
    uint8_t *msix_table;   /* n_vectors entries, as the guest sees them */
    uint8_t *msix_pending; /* n_vectors bits, in whole units of 8 bytes */
    struct pci_dma *dma;
    pci_model_msi_fn msi;
    void *msi_data;

    _Atomic uint64_t config_reads, config_writes, bar_reads, bar_writes, messages, messages_lost;
};

struct pci_dma *pci_dma_ref(struct pci_dma *dma);
void pci_dma_unref(struct pci_dma *dma); /* NULL: nothing */

/* Checks the options and fills in the size of MSI-X' BAR; allocates table and pending bits. */
bool pci_msix_init(struct pci_model *m, GError **error);
void pci_msix_clear(struct pci_model *m);
/* The capability's bytes. */
void pci_msix_fill_config(struct pci_model *m);
/* All entries 0 and masked, nothing pending. The lock is held. */
void pci_msix_reset(struct pci_model *m);
/* One access to MSI-X' BAR, inside it: any size, any alignment. */
uint64_t pci_msix_read(struct pci_model *m, uint64_t offset, unsigned size);
void pci_msix_write(struct pci_model *m, uint64_t offset, uint64_t value, unsigned size);
/* Sends whatever is pending and may be sent now. The lock is held. */
void pci_msix_send_pending(struct pci_model *m);

#endif
