/*
 * What PCI class codes and capability ids are called. Follows PCI Local Bus 3.0, appendices D and
 * H, and the PCI Code and ID Assignment Specification.
 */
#ifndef RINGLAB_ABI_PCI_NAMES_H
#define RINGLAB_ABI_PCI_NAMES_H

#include <stdint.h>

/* "Ethernet controller"; by base class alone where the sub class is not known; never NULL.
 * `class_code` has 24 bits: base class, sub class, programming interface. */
const char *abi_class_name(uint32_t class_code);
/* "MSI-X"; "unknown" for ids without a name. */
const char *abi_capability_name(uint8_t cap_id);

#endif
