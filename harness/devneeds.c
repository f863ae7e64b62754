/*
 * The table of what devices need: see devneeds.h.
 */
#include "harness/devneeds.h"

/* All network cards of a machine share a hub, and so hear each other. */
#define NETDEV(pattern)                                                                            \
    {                                                                                              \
        pattern, "netdev", DEVNEED_NETDEV, "-netdev", "hubport,id=%s,hubid=0", NULL                \
    }

static const struct devneed needs[] = {
    NETDEV("virtio-net*"),
    NETDEV("e1000*"),
    NETDEV("igb*"),
    NETDEV("i8255*"),
    NETDEV("i82562"),
    NETDEV("i82801"),
    NETDEV("ne2k_pci"),
    NETDEV("pcnet"),
    NETDEV("rtl8139"),
    NETDEV("tulip"),
    NETDEV("vmxnet3"),
    {"ivshmem-plain", "memdev", DEVNEED_MEMORY, NULL, NULL, NULL},
    {"acpi-erst", "memdev", DEVNEED_MEMORY, NULL, NULL, NULL},
    {"ivshmem-doorbell", "chardev", DEVNEED_SERVER, NULL, NULL, NULL},
    {"virtio-blk-*", "drive", DEVNEED_OPTION, "-blockdev", "null-co,node-name=%s,size=1048576",
     NULL},
    {"virtio-9p-*", "fsdev", DEVNEED_OPTION, "-fsdev", "synth,id=%s", NULL},
    {"virtio-9p-*", "mount_tag", DEVNEED_NUMBER, NULL, "ringlab%u", NULL},
    {"virtio-crypto-*", "cryptodev", DEVNEED_OPTION, "-object", "cryptodev-backend-builtin,id=%s",
     NULL},
    {"nvme", "serial", DEVNEED_NUMBER, NULL, "ringlab%u", NULL},
    {"pci-bridge*", "chassis_nr", DEVNEED_NUMBER, NULL, "%u", NULL},
    {"pcie-root-port", "chassis", DEVNEED_NUMBER, NULL, "%u", NULL},
    {"xio3130-downstream", "chassis", DEVNEED_NUMBER, NULL, "%u", NULL},
    {"AC97", "audiodev", DEVNEED_OPTION, "-audiodev", "none,id=%s", NULL},
    {"ES1370", "audiodev", DEVNEED_OPTION, "-audiodev", "none,id=%s", NULL},
    {"ctucan_pci", "canbus0", DEVNEED_OPTION, "-object", "can-bus,id=%s", NULL},
    {"ctucan_pci", "canbus1", DEVNEED_OPTION, "-object", "can-bus,id=%s", NULL},
    {"kvaser_pci", "canbus", DEVNEED_OPTION, "-object", "can-bus,id=%s", NULL},
    {"mioe3680_pci", "canbus0", DEVNEED_OPTION, "-object", "can-bus,id=%s", NULL},
    {"mioe3680_pci", "canbus1", DEVNEED_OPTION, "-object", "can-bus,id=%s", NULL},
    {"pcm3680_pci", "canbus0", DEVNEED_OPTION, "-object", "can-bus,id=%s", NULL},
    {"pcm3680_pci", "canbus1", DEVNEED_OPTION, "-object", "can-bus,id=%s", NULL},
    {"pci-ipmi-*", "bmc", DEVNEED_OPTION, "-device", "ipmi-bmc-sim,id=%s", NULL},
    {"virtio-mem-*", "memdev", DEVNEED_OPTION, "-object", "memory-backend-ram,id=%s,size=128M",
     "slots=8,maxmem=8G"},
    {"virtio-pmem-*", "memdev", DEVNEED_OPTION, "-object", "memory-backend-ram,id=%s,size=128M",
     "slots=8,maxmem=8G"},
};

const struct devneed *devneed_next(const struct devspec *spec)
{
    for (size_t i = 0; i < G_N_ELEMENTS(needs); i++) {
        if (g_pattern_match_simple(needs[i].pattern, spec->driver) &&
            !devspec_get(spec, needs[i].property)) {
            return &needs[i];
        }
    }
    return NULL;
}
