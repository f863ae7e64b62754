/*
 * The table of what devices need: see devneeds.h.
 */
#include "harness/devneeds.h"

/* All network cards of a machine share a hub, and so hear each other. */
#define NETDEV(pattern)                                                                            \
    {                                                                                              \
        pattern, "netdev", DEVNEED_NETDEV, "-netdev", "hubport,id=%s,hubid=0"                      \
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
    {"ivshmem-plain", "memdev", DEVNEED_MEMORY, NULL, NULL},
    {"acpi-erst", "memdev", DEVNEED_MEMORY, NULL, NULL},
    {"ivshmem-doorbell", "chardev", DEVNEED_SERVER, NULL, NULL},
    {"virtio-blk-*", "drive", DEVNEED_OPTION, "-blockdev", "null-co,node-name=%s,size=1048576"},
    {"virtio-9p-*", "fsdev", DEVNEED_OPTION, "-fsdev", "synth,id=%s"},
    {"virtio-9p-*", "mount_tag", DEVNEED_NUMBER, NULL, "ringlab%u"},
    {"virtio-crypto-*", "cryptodev", DEVNEED_OPTION, "-object", "cryptodev-backend-builtin,id=%s"},
    {"nvme", "serial", DEVNEED_NUMBER, NULL, "ringlab%u"},
    {"pci-bridge*", "chassis_nr", DEVNEED_NUMBER, NULL, "%u"},
    {"pcie-root-port", "chassis", DEVNEED_NUMBER, NULL, "%u"},
    {"xio3130-downstream", "chassis", DEVNEED_NUMBER, NULL, "%u"},
    {"AC97", "audiodev", DEVNEED_OPTION, "-audiodev", "none,id=%s"},
    {"ES1370", "audiodev", DEVNEED_OPTION, "-audiodev", "none,id=%s"},
    {"ctucan_pci", "canbus0", DEVNEED_OPTION, "-object", "can-bus,id=%s"},
    {"ctucan_pci", "canbus1", DEVNEED_OPTION, "-object", "can-bus,id=%s"},
    {"kvaser_pci", "canbus", DEVNEED_OPTION, "-object", "can-bus,id=%s"},
    {"mioe3680_pci", "canbus0", DEVNEED_OPTION, "-object", "can-bus,id=%s"},
    {"mioe3680_pci", "canbus1", DEVNEED_OPTION, "-object", "can-bus,id=%s"},
    {"pcm3680_pci", "canbus0", DEVNEED_OPTION, "-object", "can-bus,id=%s"},
    {"pcm3680_pci", "canbus1", DEVNEED_OPTION, "-object", "can-bus,id=%s"},
    {"pci-ipmi-*", "bmc", DEVNEED_OPTION, "-device", "ipmi-bmc-sim,id=%s"},
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
