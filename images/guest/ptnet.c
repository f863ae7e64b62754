/*
 * ptnet from a program inside a guest: finds the device and the netmap memory, brings both up,
 * sends frames and takes those that come back. The driver is qtest_client/ptnet.h, the same as
 * outside.
 *
 * ptnet [-n FRAMES] [-t]: one line per fact; exit status 0 if everything came back as it went. -t
 * prints each register access of the bring-up.
 */
#include "models/abi/ptnet.h"
#include "images/guest/sysfs_machine.h"
#include "images/guest/trace.h"
#include "qtest_client/ptnet.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BURST = 32,
    FRAME_BYTES = 60,
    ROOM = 2048,
    WAIT_MS = 10000,
    APIC_BASE_ADDRESS = 0xfee00000,
    /* Linux' POSTED_INTR_VECTOR: without KVM nothing uses it, it does nothing, and /proc/interrupts
     * counts it, as PIN */
    COUNTED_VECTOR = 0xf2,
};

struct guest {
    struct guest_memory *memory;
    struct machine *machine;
    struct pci_bus *bus;
    struct pci_device *ptnet, *memdev;
    struct guest_region *shared, *netmap;
    struct ptnet_driver *driver;
};

static void print_access(void *data, const struct machine_access *access)
{
    struct guest *g = data;
    struct pci_device *functions[] = {g->ptnet, g->memdev};

    for (unsigned i = 0; i < G_N_ELEMENTS(functions); i++) {
        g_autofree char *line = trace_line(functions[i], access);
        if (line) {
            printf("trace %s\n", line);
        }
    }
}

static bool find(struct guest *g, GError **error)
{
    g->memory = guest_memory_new();
    g->machine = sysfs_machine_new(PTNETMAP_PCI_VENDOR_ID, g->memory, error);
    if (!g->machine) {
        return false;
    }
    g->bus = pci_bus_new(g->machine);
    if (!pci_bus_scan(g->bus, error)) {
        return false;
    }
    g->ptnet = pci_bus_find_id(g->bus, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_NETIF_ID, 0);
    g->memdev = pci_bus_find_id(g->bus, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_DEVICE_ID, 0);
    if (!g->ptnet || !g->memdev) {
        g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "no ptnet or no memdev on the bus");
        return false;
    }
    return true;
}

/* The netmap memory lies behind memdev's BAR, and the CSB in a huge page of the guest's. */
static bool map_memory(struct guest *g, GError **error)
{
    uint64_t base;

    if (!pci_device_enable(g->memdev, error) || !pci_device_enable(g->ptnet, error)) {
        return false;
    }
    base = g->memdev->bars[PTNETMAP_MEM_PCI_BAR].base;
    g->netmap = sysfs_machine_bar_region(g->machine, base, error);
    g->shared = g->netmap ? sysfs_machine_shared(g->machine, error) : NULL;
    return g->shared && guest_memory_place(g->memory, g->netmap, base, error);
}

static bool bring_up(struct guest *g, GError **error)
{
    struct ptnet_driver_options options = {.has_interrupts = true,
                                           .interrupt_kind = INTERRUPT_MEMORY,
                                           .memory = g->netmap,
                                           .shared = g->shared,
                                           .fence_before_kick = true};

    g->driver = ptnet_driver_new(g->ptnet, &options, error);
    return g->driver && ptnet_driver_start(g->driver, error);
}

/* ---- frames ---- */

static void fill_frame(uint8_t *frame, uint32_t number)
{
    memset(frame, 0xff, 6); /* broadcast: a switch that has learnt nothing sends it everywhere */
    memset(frame + 6, 0x02, 6);
    frame[12] = 0x88;
    frame[13] = 0xb5; /* IEEE 802: local experiments */
    for (unsigned i = 14; i < FRAME_BYTES; i++) {
        frame[i] = (uint8_t)(number + i);
    }
    memcpy(frame + 14, &number, sizeof(number));
}

/* What comes back has its addresses exchanged. */
static bool is_frame(const struct ptnet_frame *f, uint32_t number)
{
    uint8_t expected[FRAME_BYTES];

    fill_frame(expected, number);
    return f->len == FRAME_BYTES && memcmp(f->data + 14, expected + 14, FRAME_BYTES - 14) == 0;
}

static bool exchange(struct guest *g, uint32_t n, uint32_t *n_wrong, uint32_t *n_done,
                     GError **error)
{
    struct ptnet_queue *tx = ptnet_driver_tx(g->driver, 0), *rx = ptnet_driver_rx(g->driver, 0);
    static uint8_t bytes[BURST][ROOM];
    struct ptnet_frame frames[BURST];
    uint32_t n_back = 0;

    for (uint32_t n_sent = 0; n_back < n;) {
        unsigned n_burst = 0;
        for (; n_burst < BURST && n_sent + n_burst < n; n_burst++) {
            frames[n_burst] = (struct ptnet_frame){.data = bytes[n_burst], .len = FRAME_BYTES};
            fill_frame(bytes[n_burst], n_sent + n_burst);
        }
        /* no more in flight than come back: the ring of the other end drops what is too much */
        if (n_burst > 0 && n_sent - n_back + n_burst <= 4 * BURST) {
            unsigned n_taken = ptnet_tx_burst(tx, frames, n_burst, error);
            if (n_taken == 0 && *error) {
                return false;
            }
            n_sent += n_taken;
        }
        for (unsigned i = 0; i < BURST; i++) {
            frames[i] = (struct ptnet_frame){.data = bytes[i], .len = ROOM};
        }
        unsigned n_got = ptnet_rx_burst(rx, frames, BURST, error);
        for (unsigned i = 0; i < n_got; i++, n_back++) {
            *n_wrong += !is_frame(&frames[i], n_back);
        }
        *n_done = n_back;
        if (n_got == 0 && (*error || !ptnet_wait(rx, 1, WAIT_MS, error))) {
            return false;
        }
    }
    return true;
}

/* ---- an interrupt of the processor's ---- */

static uint64_t count_interrupts(void)
{
    g_autofree char *text = NULL;
    uint64_t count = 0;

    if (g_file_get_contents("/proc/interrupts", &text, NULL, NULL)) {
        const char *line = strstr(text, "PIN:");
        char *end = (char *)(uintptr_t)(line ? line + strlen("PIN:") : "");
        for (char *at = end; line; at = end) { /* one column per processor */
            uint64_t n = g_ascii_strtoull(at, &end, 10);
            if (end == at) {
                break;
            }
            count += n;
        }
    }
    return count;
}

/* The receive vector is aimed at the processor, and one frame makes the device raise it. */
static bool raise_interrupt(struct guest *g, uint64_t *n_taken, GError **error)
{
    struct ptnet_queue *tx = ptnet_driver_tx(g->driver, 0), *rx = ptnet_driver_rx(g->driver, 0);
    uint64_t before = count_interrupts();
    gint64 deadline = g_get_monotonic_time() + (gint64)WAIT_MS * 1000;
    uint8_t bytes[ROOM];
    struct ptnet_frame f = {.data = bytes, .len = FRAME_BYTES};

    fill_frame(bytes, 0);
    if (!msix_set_message(g->ptnet, rx->index, APIC_BASE_ADDRESS, COUNTED_VECTOR, error)) {
        return false;
    }
    atomic_store(&rx->atok->appl_need_kick, 1);
    if (ptnet_tx_burst(tx, &f, 1, error) != 1) {
        return false;
    }
    do {
        usleep(1000); /* interrupts are counted whoever sleeps */
        *n_taken = count_interrupts() - before;
    } while (*n_taken == 0 && g_get_monotonic_time() < deadline);
    return true;
}

int main(int argc, char **argv)
{
    uint32_t n = 100000, n_wrong = 0, n_done = 0;
    uint64_t n_interrupts = 0;
    bool has_trace = false;
    struct guest g = {0};
    g_autoptr(GError) error = NULL;
    int option;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while ((option = getopt(argc, argv, "n:t")) != -1) {
        if (option == 'n') {
            n = (uint32_t)strtoul(optarg, NULL, 0);
        } else if (option == 't') {
            has_trace = true;
        } else {
            return 2;
        }
    }
    bool ok = find(&g, &error) && map_memory(&g, &error);
    if (ok && has_trace) {
        g.machine->trace = print_access;
        g.machine->trace_data = &g;
    }
    ok = ok && bring_up(&g, &error);
    if (ok) {
        const uint8_t *mac = ptnet_driver_mac(g.driver);
        g.machine->trace = NULL;
        printf("ptnet %02x:%02x:%02x:%02x:%02x:%02x, %u transmit and %u receive rings of %" PRIu32
               " slots, header of %u bytes\n",
               mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], ptnet_driver_n_tx(g.driver),
               ptnet_driver_n_rx(g.driver), ptnet_driver_tx(g.driver, 0)->num_slots,
               ptnet_driver_header_bytes(g.driver));
        gint64 start = g_get_monotonic_time();
        ok = exchange(&g, n, &n_wrong, &n_done, &error);
        double seconds = (double)(g_get_monotonic_time() - start) / 1e6;
        printf("%" PRIu32 " frames sent and back, %" PRIu32 " wrong, %.0f a second\n", n_done,
               n_wrong, (double)n_done / seconds);
        printf("%" PRIu64 " kicks, %" PRIu64 " interrupts\n",
               ptnet_driver_tx(g.driver, 0)->n_kicks + ptnet_driver_rx(g.driver, 0)->n_kicks,
               ptnet_driver_rx(g.driver, 0)->n_interrupts);
    }
    if (ok && (ok = raise_interrupt(&g, &n_interrupts, &error))) {
        printf("%" PRIu64 " interrupts of the processor\n", n_interrupts);
    }
    if (ok && (ok = ptnet_driver_stop(g.driver, &error))) {
        printf("stopped\n");
    }
    if (error) {
        printf("ptnet: %s\n", error->message);
    }
    return ok && n_wrong == 0 && n_interrupts > 0 ? 0 : 1;
}
