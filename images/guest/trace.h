/*
 * The register trace of a driver's bring-up, as text: the program in the guest prints it, and a
 * test outside compares it with that of the same driver on a machine of its own.
 */
#ifndef RINGLAB_GUEST_TRACE_H
#define RINGLAB_GUEST_TRACE_H

#include "qtest_client/pci.h"

#include <inttypes.h>
#include <string.h>

/* Where memory lies is each machine's own business: such values are told as '*'. */
static inline bool trace_is_address(const char *name)
{
    return strncmp(name, "CSB_", 4) == 0 || strstr(name, "_address") != NULL;
}

/* "regs.PTCTL <- 0x1"; NULL if the access hits no register of `dev`. Freed with g_free. */
static inline char *trace_line(struct pci_device *dev, const struct machine_access *access)
{
    const struct pci_block *block;
    const struct abi_reg *reg;
    uint32_t index;

    if (!pci_device_decode(dev, access, &block, &reg, &index) || !reg) {
        return NULL;
    }
    g_autofree char *value = g_strdup_printf("0x%" PRIx64, access->value);
    g_autofree char *element = g_strdup_printf("[%" PRIu32 "]", index);
    return g_strdup_printf("%s.%s%s %s %s", block->name, reg->name, index > 0 ? element : "",
                           access->is_write ? "<-" : "->",
                           trace_is_address(reg->name) ? "*" : value);
}

#endif
