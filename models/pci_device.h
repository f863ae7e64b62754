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

#define PCI_MODEL_ERROR (pci_model_error_quark())
GQuark pci_model_error_quark(void);

enum pci_model_error {
    PCI_MODEL_ERROR_INVALID, /* options that no function on a bus could have */
};

enum {
    PCI_MODEL_BARS = 6,
    PCI_MODEL_CONFIG_BYTES = 256,
    PCI_MODEL_MAX_VECTORS = 2048,
    PCI_MODEL_MSIX_CAPABILITY = 0x40, /* where in configuration space */
};

/* ---- the guest's memory as a device reaches it (DMA) ----
 * Guest-physical ranges and where they are mapped here. Whoever puts a device on a bus keeps them
 * up to date; pointers into them are good while they are mapped, whatever changes meanwhile. Any
 * thread; nothing here waits but for a lock that is held for some instructions. */
struct pci_dma;

struct pci_dma *pci_dma_new(void);
/* Takes away all ranges. What is mapped stays, until it is unmapped. */
void pci_dma_free(struct pci_dma *dma);
struct pci_dma_range {
    uint64_t gpa,
        size; /* bytes; ranges do not overlap; one of size 0, or beyond 2^64, is nowhere */
    uint8_t *host;
};
/* Replaces all ranges. `release(data)` (may be NULL) is called once, when nobody uses the ranges
 * given here any more: after they were replaced, and all that was mapped of them was unmapped.
 * Where two sets of ranges name the same host address, either's release must leave it to the
 * other. */
void pci_dma_set(struct pci_dma *dma, const struct pci_dma_range *ranges, size_t n,
                 void (*release)(void *data), void *data);
/* Host address of [gpa, gpa + len), NULL if no one range holds all of it, or len is 0. Good until
 * pci_dma_unmap, which every map needs, also over changes of the ranges. */
void *pci_dma_map(struct pci_dma *dma, uint64_t gpa, uint64_t len);
void pci_dma_unmap(struct pci_dma *dma, void *host);
/* Stores 4 bytes, little endian, in one piece, after everything this thread stored before. False:
 * not in memory, or not a multiple of 4. */
bool pci_dma_write32(struct pci_dma *dma, uint64_t gpa, uint32_t value);

/* ---- a model ---- */

struct pci_model;

struct pci_model_bar {
    uint32_t size; /* bytes, a power of two: I/O 16..256, memory 16..1 GiB; 0: absent */
    bool is_io, is_prefetchable;
    /* A BAR of memory only: accesses are loads and stores at `memory`, which is aligned to 8;
     * beyond memory_size reads give 0 and writes go nowhere. Otherwise `read` and `write`. */
    uint8_t *memory;
    uint64_t memory_size;
    int memory_fd; /* of that memory, from its start, for those who can map it instead of trapping;
                      0 or -1: none */
};

struct pci_model_ops {
    const char *name; /* "ptnet-pci" */
    /* Registers, from the thread that serves the bus: 1, 2 or 4 bytes, aligned to their size,
     * inside the BAR. What read returns is cut to `size`. NULL: reads as 0, writes are ignored. */
    uint64_t (*read)(void *model, unsigned bar, uint64_t offset, unsigned size);
    void (*write)(void *model, unsigned bar, uint64_t offset, uint64_t value, unsigned size);
    void (*reset)(void *model); /* after config space was reset; NULL: nothing */
    void (*free)(void *model);  /* NULL: nothing */
};

struct pci_model_options {
    uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
    uint32_t class_code; /* 24 bits: base, sub, interface */
    uint8_t revision, interrupt_pin;
    uint8_t cache_line; /* at power-on; a reset clears it, as QEMU's does */
    struct pci_model_bar bars[PCI_MODEL_BARS];
    unsigned n_vectors; /* MSI-X, 0..2048; 0: none */
    unsigned msix_bar;  /* a BAR of its own: memory, table at 0, pending bits from its half on (its
                           size may be left 0: then as small as can be, at least 4 KiB) */
};

/* INVALID: a BAR that cannot be. Nothing is freed then. */
struct pci_model *pci_model_new(const struct pci_model_ops *ops, void *model,
                                const struct pci_model_options *options, GError **error);
void pci_model_free(struct pci_model *m); /* and the model behind it */
const char *pci_model_name(const struct pci_model *m);
void *pci_model_data(struct pci_model *m); /* what ops' functions get */

/* ---- from the bus: one thread at a time ---- */

/* 1, 2 or 4 bytes, aligned or not. Offsets from 256 on read as all ones and take nothing. */
uint32_t pci_model_config_read(struct pci_model *m, unsigned offset, unsigned size);
void pci_model_config_write(struct pci_model *m, unsigned offset, uint32_t value, unsigned size);
/* By BAR and offset: 1, 2, 4 or 8 bytes, aligned or not; what is not aligned, and 8 bytes, reach
 * the model in aligned pieces, lowest first. Outside a BAR: all ones, and nothing. */
uint64_t pci_model_bar_read(struct pci_model *m, unsigned bar, uint64_t offset, unsigned size);
void pci_model_bar_write(struct pci_model *m, unsigned bar, uint64_t offset, uint64_t value,
                         unsigned size);
/* By absolute address in the space, as the BARs are placed and decoded at present; -1: nobody. A
 * BAR at 0 is not placed. */
int pci_model_decode(const struct pci_model *m, bool is_io, uint64_t addr, uint64_t *offset);
/* As after power-on; then the model's own reset. */
void pci_model_reset(struct pci_model *m);
const struct pci_model_bar *pci_model_bar(const struct pci_model *m, unsigned bar);

/* ---- to the bus: any thread ---- */

/* Before there are accesses, and after the last (NULL). The model keeps what it needs of `dma` for
 * as long as something of it is mapped. */
void pci_model_set_dma(struct pci_model *m, struct pci_dma *dma);
/* For maps, in ops' functions; NULL: the function is on no bus. */
struct pci_dma *pci_model_dma(struct pci_model *m);
/* Delivers an MSI-X message that is not for guest memory, where pci_dma_write32 stores them. False:
 * it reached nobody. Called with the function's interrupts locked: it must neither wait for the bus
 * nor call back. NULL: there are none but for memory. */
typedef bool (*pci_model_msi_fn)(void *data, uint64_t address, uint32_t value);
void pci_model_set_msi(struct pci_model *m, pci_model_msi_fn msi, void *data);
/* Raises vector i: sends its message, or sets its pending bit while it (or the function) is masked;
 * unmasking sends what is pending. Nothing while MSI-X is off or bus mastering is, or where there
 * is no such vector. Once a mask was written, no message comes any more. */
void pci_model_raise(struct pci_model *m, unsigned vector);
bool pci_model_msix_enabled(struct pci_model *m);
struct pci_model_stats {
    uint64_t config_reads, config_writes, bar_reads, bar_writes, messages, messages_lost;
};
struct pci_model_stats pci_model_stats(struct pci_model *m);

#endif
