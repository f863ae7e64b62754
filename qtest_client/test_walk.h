/*
 * A driver's way over a machine `pc` with a virtio-net device in slot 4, from the first look at the
 * bus to a kick. It takes the same steps each time, so that it can be recorded on a real QEMU
 * (harness/test_transcript_live.c) and replayed where there is none (test_machine.c).
 */
#ifndef RINGLAB_TEST_WALK_H
#define RINGLAB_TEST_WALK_H

#include "models/abi/virtio_net.h"
#include "qtest_client/virtio_pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WALK_DEVICE "virtio-net-pci,addr=4,mac=02:00:00:00:00:2a,netdev=n0"
#define WALK_NETDEV "hubport,id=n0,hubid=0"

enum {
    WALK_SLOT = 4,
    WALK_RAM_BYTES = 4 << 20,
    WALK_RINGS_FROM = 2 << 20, /* guest memory that a machine of 16 MiB has, and nobody uses */
};

/* `call` fails the test with the error it leaves in `error`. */
#define WALK_OK(call)                                                                              \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            fail_msg("%s: %s", #call, error->message);                                             \
        }                                                                                          \
    } while (0)

static inline struct pci_device *walk_scan(struct pci_bus *bus)
{
    static const struct {
        uint8_t slot, function;
        uint16_t vendor_id, device_id;
    } expected[] = {
        {0, 0, 0x8086, 0x1237}, {1, 0, 0x8086, 0x7000}, {1, 1, 0x8086, 0x7010},
        {1, 3, 0x8086, 0x7113}, {4, 0, 0x1af4, 0x1000},
    };
    GError *error = NULL;

    WALK_OK(pci_bus_scan(bus, &error));
    GPtrArray *found = pci_bus_devices(bus);
    assert_int_equal(found->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < found->len; i++) {
        const struct pci_device *dev = found->pdata[i];
        assert_int_equal(dev->slot, expected[i].slot);
        assert_int_equal(dev->function, expected[i].function);
        assert_int_equal(dev->vendor_id, expected[i].vendor_id);
        assert_int_equal(dev->device_id, expected[i].device_id);
    }
    struct pci_device *net = pci_bus_find(bus, 0, WALK_SLOT, 0);
    assert_int_equal(net->bars[0].kind, PCI_BAR_IO);
    assert_int_equal(net->bars[0].size, 32);
    assert_int_equal(net->bars[1].kind, PCI_BAR_MEM32);
    assert_int_equal(net->bars[1].size, 4096);
    assert_int_equal(net->bars[4].kind, PCI_BAR_MEM64);
    assert_int_equal(net->bars[4].size, 16384);
    assert_int_equal(net->msix_n, 4);
    return net;
}

static inline void walk_virtio(struct pci_device *net, enum virtio_transport transport,
                               struct guest_memory *memory, struct guest_region *ram)
{
    bool is_modern = transport == VIRTIO_TRANSPORT_MODERN;
    uint64_t required = is_modern ? VIRTIO_FEATURE(VIRTIO_F_VERSION_1) : 0;
    uint64_t wanted = VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_MTU);
    static const uint8_t mac[] = {0x02, 0, 0, 0, 0, 0x2a};
    uint8_t got[sizeof(mac)], status;
    GError *error = NULL;
    uint16_t n, size;

    struct virtio_pci *v = virtio_pci_new(net, transport, &error);
    WALK_OK(v);
    WALK_OK(virtio_pci_negotiate(v, wanted, required, &error));
    /* MTU is not offered */
    assert_true(v->features == (VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | required));
    WALK_OK(virtio_pci_config_read(v, VIRTIO_NET_CFG_MAC, got, sizeof(got), &error));
    assert_memory_equal(got, mac, sizeof(mac));
    WALK_OK(virtio_pci_n_queues(v, &n, &error));
    assert_int_equal(n, 3);
    WALK_OK(virtio_pci_queue_max_size(v, 1, &size, &error));
    assert_int_equal(size, 256);
    struct virtqueue *tx = virtqueue_new(
        memory, ram, size, is_modern ? VIRTQUEUE_LAYOUT_MODERN : VIRTQUEUE_LAYOUT_LEGACY, false, 0,
        &error);
    WALK_OK(tx);
    WALK_OK(virtio_pci_queue_enable(v, 1, tx, VIRTIO_NO_VECTOR, &error));
    WALK_OK(virtio_pci_add_status(v, VIRTIO_STATUS_DRIVER_OK, &error));
    WALK_OK(virtio_pci_notify(v, 1, &error));
    WALK_OK(virtio_pci_get_status(v, &status, &error));
    assert_int_equal(status, is_modern ? 0x0f : 0x07);
    WALK_OK(virtio_pci_reset(v, &error));
    virtqueue_free(tx);
    virtio_pci_free(v);
}

static inline void walk(struct qtest *q)
{
    GError *error = NULL;
    struct guest_memory *memory = guest_memory_new();
    struct guest_region *ram = guest_region_new("ram", WALK_RAM_BYTES, GUEST_HUGEPAGES_OFF, &error);
    WALK_OK(ram);
    WALK_OK(guest_memory_place(memory, ram, 0, &error));
    guest_region_reserve_below(ram, WALK_RINGS_FROM);
    struct machine *machine = machine_qtest_new(q, memory, MACHINE_PC);
    struct pci_bus *bus = pci_bus_new(machine);
    struct pci_device *net = walk_scan(bus);
    walk_virtio(net, VIRTIO_TRANSPORT_MODERN, memory, ram);
    walk_virtio(net, VIRTIO_TRANSPORT_LEGACY, memory, ram);
    pci_bus_free(bus);
    machine_free(machine);
    guest_memory_free(memory);
    guest_region_free(ram);
}

#endif
