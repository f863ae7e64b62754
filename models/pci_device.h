/*
 * A modelled PCI function: configuration space with write masks, BARs with a model behind them,
 * MSI-X with table and pending bits in a BAR. It does not know who drives it: a QEMU (qemu_proxy.h)
 * or a machine in the same process. Accesses come from one thread at a time; interrupts from any.
 * Follows PCI Local Bus 3.0, 6.1, 6.2.5 and 6.8.2.
 */
#ifndef RINGLAB_MODELS_PCI_DEVICE_H
#define RINGLAB_MODELS_PCI_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PCI_MODEL_BARS = 6, PCI_MODEL_CONFIG_BYTES = 256 };

/* The guest's memory as a device reaches it (DMA): guest-physical ranges and where they are mapped
 * here. Whoever puts the device on a bus keeps it up to date, from its own thread; users hold a
 * read reference while they use pointers. */
struct pci_dma;
struct pci_dma *pci_dma_new(void);
void pci_dma_free(struct pci_dma *dma);
struct pci_dma_range {
    uint64_t gpa, size;
    uint8_t *host;
};
/* Replaces all ranges. `release(data)` is called when nobody uses the ranges before any more (unmap
 * there). */
void pci_dma_set(struct pci_dma *dma, const struct pci_dma_range *ranges, size_t n,
                 void (*release)(void *data), void *data);
/* Host address of [gpa, gpa + len), NULL if no one range holds all of it. Good until pci_dma_unmap,
 * which every map needs, also over changes of the ranges. */
void *pci_dma_map(struct pci_dma *dma, uint64_t gpa, uint64_t len);
void pci_dma_unmap(struct pci_dma *dma, void *host);
bool pci_dma_write32(struct pci_dma *dma, uint64_t gpa, uint32_t value);

struct pci_model;

struct pci_model_bar {
    uint32_t size; /* bytes, a power of two: I/O 4..256, memory 16..1 GiB; 0: absent */
    bool is_io, is_prefetchable;
    /* A BAR of memory only: accesses are loads and stores at `memory`; reads beyond memory_size
     * give 0. Otherwise `read` and `write`. */
    uint8_t *memory;
    uint64_t memory_size;
    int memory_fd; /* of that memory, for those who can map it instead of trapping; -1: none */
};

struct pci_model_ops {
    const char *name; /* "ptnet-pci" */
    uint64_t (*read)(void *model, unsigned bar, uint64_t offset, unsigned size);
    void (*write)(void *model, unsigned bar, uint64_t offset, uint64_t value, unsigned size);
    void (*reset)(void *model); /* after config space was reset; NULL: nothing */
    /* Bus mastering, decoding or MSI-X changed; NULL: nothing. */
    void (*config_changed)(void *model);
    void (*free)(void *model);
};

struct pci_model_options {
    uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
    uint32_t class_code; /* 24 bits: base, sub, interface */
    uint8_t revision, interrupt_pin, cache_line;
    struct pci_model_bar bars[PCI_MODEL_BARS];
    unsigned n_vectors; /* MSI-X; 0: none */
    unsigned msix_bar;  /* a memory BAR of its own: table at 0, pending bits in its second half */
};

struct pci_model *pci_model_new(const struct pci_model_ops *ops, void *model,
                                const struct pci_model_options *options, GError **error);
void pci_model_free(struct pci_model *m); /* and the model behind it */
const char *pci_model_name(const struct pci_model *m);
void *pci_model_data(struct pci_model *m); /* what ops' functions get */

/* ---- from the bus: 1, 2 or 4 bytes ---- */
uint32_t pci_model_config_read(struct pci_model *m, unsigned offset, unsigned size);
void pci_model_config_write(struct pci_model *m, unsigned offset, uint32_t value, unsigned size);
/* By BAR and offset. Aligned or not; sizes 1, 2, 4 (8: two of 4). */
uint64_t pci_model_bar_read(struct pci_model *m, unsigned bar, uint64_t offset, unsigned size);
void pci_model_bar_write(struct pci_model *m, unsigned bar, uint64_t offset, uint64_t value,
                         unsigned size);
/* By absolute address in the space, as the BARs are programmed and decoded at present; -1: nobody.
 */
int pci_model_decode(const struct pci_model *m, bool is_io, uint64_t addr, uint64_t *offset);
void pci_model_reset(struct pci_model *m);
const struct pci_model_bar *pci_model_bar(const struct pci_model *m, unsigned bar);

/* ---- to the bus ---- */
void pci_model_set_dma(struct pci_model *m, struct pci_dma *dma);
struct pci_dma *pci_model_dma(struct pci_model *m);
/* Delivers an MSI-X message; NULL: stored with pci_dma_write32. False: it reached nobody. */
typedef bool (*pci_model_msi_fn)(void *data, uint64_t address, uint32_t value);
void pci_model_set_msi(struct pci_model *m, pci_model_msi_fn msi, void *data);
/* Raises vector i: sends its message, or sets its pending bit while it (or the function) is masked;
 * unmasking sends what is pending. Nothing while MSI-X is off or bus mastering is. Any thread. */
void pci_model_raise(struct pci_model *m, unsigned vector);
bool pci_model_msix_enabled(const struct pci_model *m);
struct pci_model_stats {
    uint64_t config_reads, config_writes, bar_reads, bar_writes, messages, messages_lost;
};
struct pci_model_stats pci_model_stats(const struct pci_model *m);

#endif
