/*
 * Interrupts of a PCI function in three forms behind one interface: MSI-X to a word in shared
 * memory that is polled; MSI-X to the doorbell register of an ivshmem-doorbell device, which makes
 * an eventfd of ours readable; INTx through intercepted I/O APIC lines.
 * Follows PCI Local Bus 3.0, 6.8.2 (MSI-X) and 2.2.6 (INTx).
 */
#ifndef RINGLAB_INTERRUPT_H
#define RINGLAB_INTERRUPT_H

#include "qtest_client/pci.h"

enum interrupt_kind {
    INTERRUPT_MEMORY,  /* the message lands in a word of shared memory */
    INTERRUPT_EVENTFD, /* the message rings a doorbell whose eventfd is ours */
    INTERRUPT_LINE,    /* INTx */
};

/* What the doorbell form needs: an ivshmem-doorbell device on the same bus whose server is ours,
 * and eventfds that were announced as vector 0 of made-up peers. */
struct interrupt_bridge {
    uint64_t doorbell_gpa; /* its BAR 0 + Doorbell */
    const uint16_t *peer_ids;
    const int *eventfds; /* eventfds[i] is what peer_ids[i]'s doorbell signals; non-blocking */
    unsigned n_channels; /* 0..64 */
    unsigned n_used;     /* channels given out; setting it to 0 takes all back */
    uint64_t used;       /* private: bit i: channel i is given out */
};

struct interrupt {
    enum interrupt_kind kind;
    struct pci_device *dev;
    unsigned vector;                 /* MSI-X vector; unused for a line */
    _Atomic uint32_t *word;          /* MEMORY: where the message lands; 0 when none is pending */
    uint32_t data;                   /* MEMORY: what lands there, never 0 */
    int eventfd;                     /* EVENTFD: owned by the bridge; else -1 */
    struct interrupt_bridge *bridge; /* EVENTFD, else NULL */
    unsigned channel;                /* EVENTFD: of the bridge */
    unsigned line;                   /* LINE: GSI */
    uint64_t n_seen;                 /* LINE: raises consumed */
    uint64_t n_taken;                /* interrupts consumed by interrupt_take and interrupt_wait */
    uint64_t n_messages;             /* what they were: EVENTFD: messages, LINE: raises; a word in
                                        memory cannot tell one from several: MEMORY: as n_taken */
};

/* ---- MSI-X of a function; PCI_ERROR_NOT_FOUND if it has none or the table's BAR has no address,
 * INVALID for a vector that its table does not have ---- */

/* The Enable and Function Mask bits of Message Control. */
bool msix_set_enabled(struct pci_device *dev, bool enabled, GError **error);
bool msix_set_function_mask(struct pci_device *dev, bool masked, GError **error);
/* Programs entry `vector` of the table; leaves its mask bit as it is (an unmasked entry is masked
 * while it changes, 6.8.3.5). `address` is a multiple of 4. */
bool msix_set_message(struct pci_device *dev, unsigned vector, uint64_t address, uint32_t data,
                      GError **error);
bool msix_set_masked(struct pci_device *dev, unsigned vector, bool masked, GError **error);
bool msix_pending(struct pci_device *dev, unsigned vector, bool *pending, GError **error);

/* ---- the three forms; MSI-X ones unmask their vector, and leave enabling MSI-X to the caller. The
 * function must outlive the interrupt; so must the bridge ---- */

/* `word_gpa` (4-byte aligned) lies in shared memory, which stays where it is; the word is set to 0.
 * `data` is not 0. */
struct interrupt *interrupt_new_memory(struct pci_device *dev, unsigned vector, uint64_t word_gpa,
                                       uint32_t data, GError **error);
/* Takes the lowest free channel of the bridge, emptied; NO_SPACE if all are given out. */
struct interrupt *interrupt_new_eventfd(struct pci_device *dev, unsigned vector,
                                        struct interrupt_bridge *bridge, GError **error);
/* Finds the line that the function's pin leads to, through bridges. On machine pc a PIRQ that leads
 * nowhere yet is routed to a line (PIRQA..D to 10, 11, 5, 3); after a system reset the interrupt
 * must be made again. The I/O APIC must be intercepted. Raises before this call do not count. */
struct interrupt *interrupt_new_line(struct pci_device *dev, GError **error);
/* Masks the vector again (best effort) and gives the channel back. */
void interrupt_free(struct interrupt *irq);
/* The same without telling the function, which may go on raising it: a guest that died. The channel
 * stays given out, and the word of memory must stay what it is. */
void interrupt_abandon(struct interrupt *irq);

/* Consumes what is pending, without waiting: true if there was something. Messages that arrived
 * before count as one, as for an edge-triggered controller. LINE asks QEMU unless a raise is known
 * already, and consumes raises, not levels: a line that stays up after it was taken (nobody served
 * the device, or another device on the same line) counts once. */
bool interrupt_take(struct interrupt *irq);
/* Waits for one and consumes it; QTEST_ERROR_TIMEOUT names device and vector or line. MEMORY polls
 * the word, and gives way to other threads after a short while; EVENTFD sleeps in poll(2); these
 * two leave the qtest socket alone, so any thread may wait, but see it close: a QEMU that dies
 * meanwhile is QTEST_ERROR_CLOSED at once. LINE sleeps on the qtest socket. timeout_ms >= 0; 0
 * looks once. */
bool interrupt_wait(struct interrupt *irq, int timeout_ms, GError **error);
/* LINE: the level now (asks QEMU). The others: whether one is pending. Consumes nothing. */
bool interrupt_is_raised(struct interrupt *irq);

#endif
