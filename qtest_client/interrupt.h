/*
 * Interrupts of a PCI function in three forms behind one interface: MSI-X to a word in shared
 * memory that is polled; MSI-X to the doorbell register of an ivshmem-doorbell device, which makes
 * an eventfd of ours readable; INTx through intercepted I/O APIC lines.
 * Follows PCI Local Bus 3.0, 6.8.2 (MSI-X).
 */
#ifndef RINGLAB_INTERRUPT_H
#define RINGLAB_INTERRUPT_H

#include "qtest_client/pci.h"

enum interrupt_kind {
    INTERRUPT_MEMORY,  /* the message lands in a word of shared memory */
    INTERRUPT_EVENTFD, /* the message rings a doorbell whose eventfd is ours */
    INTERRUPT_LINE,    /* INTx */
};

struct interrupt {
    enum interrupt_kind kind;
    struct pci_device *dev;
    unsigned vector;      /* MSI-X vector; unused for a line */
    _Atomic uint32_t *word; /* MEMORY: where the message lands; 0 when none is pending */
    uint32_t data;        /* MEMORY: what lands there, never 0 */
    int eventfd;          /* EVENTFD: owned by the bridge; else -1 */
    unsigned line;        /* LINE: GSI */
    uint64_t n_seen;      /* LINE: raises consumed */
    uint64_t n_taken;     /* how often interrupt_take returned true */
};

/* What the doorbell form needs: an ivshmem-doorbell device on the same bus whose server is ours,
 * and eventfds that were announced as vector 0 of made-up peers. */
struct interrupt_bridge {
    uint64_t doorbell_gpa; /* its BAR 0 + Doorbell */
    const uint16_t *peer_ids;
    const int *eventfds; /* eventfds[i] is what peer_ids[i]'s doorbell signals */
    unsigned n_channels;
    unsigned n_used; /* channels given out so far */
};

/* ---- MSI-X of a function ---- */

/* The Enable and Function Mask bits of Message Control. */
bool msix_set_enabled(struct pci_device *dev, bool enabled, GError **error);
bool msix_set_function_mask(struct pci_device *dev, bool masked, GError **error);
/* Programs entry `vector` of the table; leaves its mask bit as it is. */
bool msix_set_message(struct pci_device *dev, unsigned vector, uint64_t address, uint32_t data,
                      GError **error);
bool msix_set_masked(struct pci_device *dev, unsigned vector, bool masked, GError **error);
bool msix_pending(struct pci_device *dev, unsigned vector, bool *pending, GError **error);

/* ---- the three forms; each unmasks what it uses, and leaves enabling MSI-X to the caller ---- */

/* `word_gpa` (4-byte aligned) lies in shared memory; `data` is not 0. */
struct interrupt *interrupt_new_memory(struct pci_device *dev, unsigned vector, uint64_t word_gpa,
                                       uint32_t data, GError **error);
/* Takes the bridge's next free channel. */
struct interrupt *interrupt_new_eventfd(struct pci_device *dev, unsigned vector,
                                        struct interrupt_bridge *bridge, GError **error);
/* Routes the function's pin on machine pc, finds its line on q35. The I/O APIC must be
 * intercepted. */
struct interrupt *interrupt_new_line(struct pci_device *dev, GError **error);
/* Masks the vector again (best effort). */
void interrupt_free(struct interrupt *irq);

/* Consumes one pending interrupt without waiting: true if there was one. Several messages that
 * arrived before count as one, as for an edge-triggered controller. */
bool interrupt_take(struct interrupt *irq);
/* Waits for one and consumes it; QTEST_ERROR_TIMEOUT names device and vector. MEMORY polls,
 * EVENTFD sleeps in poll(2), LINE sleeps on the qtest socket. timeout_ms >= 0. */
bool interrupt_wait(struct interrupt *irq, int timeout_ms, GError **error);
/* LINE: the level now. The others: whether one is pending. Consumes nothing. */
bool interrupt_is_raised(struct interrupt *irq);

#endif
