/*
 * A machine (qtest_client/machine.h) inside a Linux guest: PCI functions through their files in
 * sysfs, for drivers in a program of root's. Only the functions that were asked for are there, and
 * their BARs are virtual: a driver may size and place them as it likes, while the device keeps the
 * addresses that firmware and kernel gave it. So the same driver does the same accesses inside a
 * guest and outside.
 */
#ifndef RINGLAB_SYSFS_MACHINE_H
#define RINGLAB_SYSFS_MACHINE_H

#include "qtest_client/machine.h"

/* The functions of /sys/bus/pci/devices with this vendor. QTEST_ERROR_SYSTEM. `memory` is not
 * owned. */
struct machine *sysfs_machine_new(uint16_t vendor_id, struct guest_memory *memory, GError **error);
/* The memory of a BAR that a driver has placed at `at`, mapped here, as a region; whoever asked
 * frees it. NULL with an error if there is no memory BAR. */
struct guest_region *sysfs_machine_bar_region(struct machine *base, uint64_t at, GError **error);
/* One huge page of this guest's memory, placed where its bus sees it. */
struct guest_region *sysfs_machine_shared(struct machine *m, GError **error);

#endif
