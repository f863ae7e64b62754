/*
 * What QEMU's x-pci-proxy-dev says over its socket: layout of messages, in the host's byte order.
 * Follows include/hw/remote/mpqemu-link.h and hw/remote/proxy.c of QEMU 7.2 (64-bit hosts).
 */
#ifndef RINGLAB_ABI_QEMU_PROXY_H
#define RINGLAB_ABI_QEMU_PROXY_H

#include <stdint.h>

enum qemu_proxy_command {
    QEMU_PROXY_SYNC_SYSMEM = 0, /* guest memory: no reply */
    QEMU_PROXY_RET = 1,         /* the reply to the others */
    QEMU_PROXY_PCI_CFGWRITE = 2,
    QEMU_PROXY_PCI_CFGREAD = 3,
    QEMU_PROXY_BAR_WRITE = 4,
    QEMU_PROXY_BAR_READ = 5,
    QEMU_PROXY_SET_IRQFD = 6, /* interrupt and resample eventfd: no reply */
    QEMU_PROXY_DEVICE_RESET = 7,
};

enum {
    QEMU_PROXY_MAX_FDS = 8,
    QEMU_PROXY_IRQFD_FDS = 2,
    QEMU_PROXY_MAX_PAYLOAD = 192,
};

struct qemu_proxy_header {
    int32_t command;
    uint32_t padding; /* anything */
    uint64_t size;    /* bytes that follow */
};

struct qemu_proxy_ret {
    uint64_t value;
};

struct qemu_proxy_config {
    uint32_t addr, value;
    int32_t len; /* 1, 2, 4 */
};

struct qemu_proxy_bar {
    uint64_t addr; /* on the bus, not in the BAR */
    uint64_t value;
    uint32_t size; /* 1, 2, 4 */
    uint8_t is_memory;
    uint8_t padding[3];
};

/* Entry i belongs to descriptor i. */
struct qemu_proxy_sysmem {
    uint64_t gpa[QEMU_PROXY_MAX_FDS];
    uint64_t size[QEMU_PROXY_MAX_FDS];
    uint64_t offset[QEMU_PROXY_MAX_FDS]; /* in the file */
};

_Static_assert(sizeof(struct qemu_proxy_header) == 16, "header");
_Static_assert(sizeof(struct qemu_proxy_ret) == 8, "RET");
_Static_assert(sizeof(struct qemu_proxy_config) == 12, "PCI_CFG");
_Static_assert(sizeof(struct qemu_proxy_bar) == 24, "BAR");
_Static_assert(sizeof(struct qemu_proxy_sysmem) == QEMU_PROXY_MAX_PAYLOAD, "SYNC_SYSMEM");

#endif
