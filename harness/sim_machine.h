/*
 * A machine with no QEMU behind it: modelled PCI functions (models/pci_device.h) on bus 0 of a
 * board like pc, guest memory, MSI-X messages stored there or ringing eventfds. Drivers run on it
 * as on any other machine (qtest_client/machine.h), in the same process. Accesses may come from
 * any thread; one is carried out at a time, as under QEMU's big lock.
 */
#ifndef RINGLAB_SIM_MACHINE_H
#define RINGLAB_SIM_MACHINE_H

#include "models/pci_device.h"
#include "qtest_client/interrupt.h"
#include "qtest_client/machine.h"

enum {
    SIM_MACHINE_SLOTS = 32,
    SIM_MACHINE_CHANNELS = 64, /* of the interrupt bridge */
};

/* Memory and functions are added before drivers run. Freed with machine_free, functions, their
 * models and the map of memory included; regions are their creators' and outlive it. */
struct machine *sim_machine_new(void);
/* `region` answers at [gpa, gpa + size), for drivers and for devices (DMA).
 * GUEST_MEMORY_ERROR_OVERLAP. */
bool sim_machine_add_memory(struct machine *m, struct guest_region *region, uint64_t gpa,
                            GError **error);
/* Puts the function into slot 1..31 (0: the next free one) and owns it from now on, also if that
 * fails: PCI_ERROR_INVALID for a slot that is taken, NO_SPACE. A BAR that is memory of its model is
 * seen as guest memory (guest_memory_host ...) while it is decoded. */
bool sim_machine_add(struct machine *m, struct pci_model *function, unsigned slot, GError **error);
/* For INTERRUPT_EVENTFD: messages to its doorbell address make one of its eventfds readable. */
struct interrupt_bridge *sim_machine_bridge(struct machine *m);
/* The function in this slot, or NULL. */
struct pci_model *sim_machine_function(struct machine *m, unsigned slot);

#endif
