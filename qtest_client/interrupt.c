/*
 * Interrupts a driver can wait for, whatever form they have. Where a function's INTx pin leads is
 * known here for the boards pc (QEMU's PIIX3) and q35 (ICH9).
 */
#include "qtest_client/interrupt.h"
#include "models/abi/ivshmem.h"
#include "models/abi/pci.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

enum {
    SPIN_US = 50,   /* MEMORY: how long to poll before giving way to other threads */
    LOOK_US = 1000, /* MEMORY: how often to see whether the machine is still there */
    N_PINS = 4,
};

static bool fail_find(struct pci_device *dev, GError **error, const char *what)
{
    g_autofree char *name = pci_device_describe(dev);

    g_set_error(error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "%s: %s", name, what);
    return false;
}

static struct interrupt *interrupt_new(struct pci_device *dev, enum interrupt_kind kind)
{
    struct interrupt *irq = g_new0(struct interrupt, 1);

    irq->kind = kind;
    irq->dev = dev;
    irq->eventfd = -1;
    return irq;
}

/* Aims the vector and opens it; `irq` is freed if that fails. The vector is masked while `irq` is
 * emptied, so that nothing of an earlier use is left in it. */
static struct interrupt *aim(struct interrupt *irq, uint64_t address, uint32_t data, GError **error)
{
    uint64_t count;

    if (!msix_set_masked(irq->dev, irq->vector, true, error) ||
        !msix_set_message(irq->dev, irq->vector, address, data, error)) {
        interrupt_free(irq);
        return NULL;
    }
    if (irq->kind == INTERRUPT_MEMORY) {
        atomic_store(irq->word, 0);
    } else if (read(irq->eventfd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_SYSTEM,
                    "reading eventfd %d of the interrupt bridge: %s", irq->eventfd,
                    g_strerror(errno));
        interrupt_free(irq);
        return NULL;
    }
    if (!msix_set_masked(irq->dev, irq->vector, false, error)) {
        interrupt_free(irq);
        return NULL;
    }
    return irq;
}

struct interrupt *interrupt_new_memory(struct pci_device *dev, unsigned vector, uint64_t word_gpa,
                                       uint32_t data, GError **error)
{
    if (word_gpa % sizeof(uint32_t) != 0 || data == 0) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(error, PCI_ERROR, PCI_ERROR_INVALID,
                    "%s: an interrupt cannot be the value 0x%" PRIx32 " at 0x%" PRIx64
                    " (not 0, and a multiple of 4)",
                    name, data, word_gpa);
        return NULL;
    }
    void *word = guest_memory_host_checked(dev->machine->memory, word_gpa, sizeof(uint32_t), error);
    if (!word) {
        return NULL;
    }
    struct interrupt *irq = interrupt_new(dev, INTERRUPT_MEMORY);
    irq->vector = vector;
    irq->word = word;
    irq->data = data;
    return aim(irq, word_gpa, data, error);
}

struct interrupt *interrupt_new_eventfd(struct pci_device *dev, unsigned vector,
                                        struct interrupt_bridge *bridge, GError **error)
{
    unsigned channel = 0;

    if (bridge->n_used == 0) {
        bridge->used = 0;
    }
    while (channel < bridge->n_channels && (bridge->used >> channel & 1)) {
        channel++;
    }
    if (channel == bridge->n_channels) {
        g_autofree char *name = pci_device_describe(dev);
        g_set_error(
            error, PCI_ERROR, PCI_ERROR_NO_SPACE,
            "%s: all %u channels of the interrupt bridge are in use; free an interrupt first", name,
            bridge->n_channels);
        return NULL;
    }
    struct interrupt *irq = interrupt_new(dev, INTERRUPT_EVENTFD);
    irq->vector = vector;
    irq->bridge = bridge;
    irq->channel = channel;
    irq->eventfd = bridge->eventfds[channel];
    bridge->used |= UINT64_C(1) << channel;
    bridge->n_used++;
    /* vector 0 of the peer that this channel is */
    return aim(irq, bridge->doorbell_gpa,
               (uint32_t)bridge->peer_ids[channel] << IVSHMEM_DOORBELL_PEER_SHIFT, error);
}

/* ---- where INTx leads ---- */

/* Follows the pin (0: INTA) through bridges to the root bus (PCI-to-PCI Bridge 1.2, 9.1). */
static bool find_root_pin(struct pci_device *dev, unsigned *slot, unsigned *pin, GError **error)
{
    GPtrArray *all = pci_bus_devices(dev->host);
    unsigned bus = dev->bus;

    *slot = dev->slot;
    *pin = dev->interrupt_pin - 1u;
    while (bus != 0) {
        struct pci_device *bridge = NULL;
        for (guint i = 0; i < all->len && !bridge; i++) {
            struct pci_device *d = all->pdata[i];
            bridge = d->secondary_bus == bus && d->bus < bus ? d : NULL;
        }
        if (!bridge) {
            return fail_find(dev, error, "no bridge leads to its bus; scan again");
        }
        *pin = (*pin + *slot) % N_PINS;
        *slot = bridge->slot;
        bus = bridge->bus;
    }
    return true;
}

/* PIIX3 routes each of four PIRQs to a line of its choice. */
static bool find_line_pc(struct pci_device *dev, unsigned slot, unsigned pin, unsigned *line,
                         GError **error)
{
    static const uint8_t chosen[N_PINS] = {10, 11, 5, 3};
    struct pci_device *isa = pci_bus_find(dev->host, 0, PIIX3_SLOT, 0);
    uint64_t route;

    if (!isa || isa->class_code >> 8 != PCI_CLASS_BRIDGE_ISA) {
        return fail_find(dev, error, "the PIIX3 that routes its interrupt is not on the bus");
    }
    unsigned pirq = (slot - PIIX3_SLOT + pin) % N_PINS;
    if (!pci_config_read(isa, PIIX3_PIRQA + pirq, 1, &route, error)) {
        return false;
    }
    if (route & PIIX3_PIRQ_DISABLE) {
        route = chosen[pirq];
        if (!pci_config_write(isa, PIIX3_PIRQA + pirq, 1, route, error)) {
            return false;
        }
    }
    *line = route & PIIX3_PIRQ_IRQ_MASK;
    return true;
}

/* ICH9's PIRQs A..H are inputs 16..23 of the I/O APIC. The routes of slots 25 and up are set in
 * chipset memory, which nobody has changed since power-on. */
static unsigned find_line_q35(unsigned slot, unsigned pin)
{
    if (slot < ICH9_FIRST_ROUTED_SLOT) {
        return ICH9_GSI_PIRQE + (slot + pin) % N_PINS;
    }
    return (slot == ICH9_PCI_BRIDGE_SLOT ? ICH9_GSI_PIRQE : ICH9_GSI_PIRQA) + pin;
}

static uint64_t line_raises(const struct interrupt *irq)
{
    struct machine *m = irq->dev->machine;
    uint64_t n = 0;
    bool level;

    m->ops->irq_state(m, irq->line, &level, &n);
    return n;
}

struct interrupt *interrupt_new_line(struct pci_device *dev, GError **error)
{
    unsigned slot, pin, line;

    if (dev->interrupt_pin == 0) {
        fail_find(dev, error, "it has no interrupt pin");
        return NULL;
    }
    if (!find_root_pin(dev, &slot, &pin, error)) {
        return NULL;
    }
    if (dev->machine->board == MACHINE_Q35) {
        line = find_line_q35(slot, pin);
    } else if (!find_line_pc(dev, slot, pin, &line, error)) {
        return NULL;
    }
    if (!machine_barrier(dev->machine, error)) {
        return NULL;
    }
    struct interrupt *irq = interrupt_new(dev, INTERRUPT_LINE);
    irq->line = line;
    irq->n_seen = line_raises(irq);
    return irq;
}

void interrupt_free(struct interrupt *irq)
{
    if (!irq) {
        return;
    }
    if (irq->kind != INTERRUPT_LINE) {
        msix_set_masked(irq->dev, irq->vector, true, NULL);
    }
    if (irq->bridge && irq->bridge->n_used > 0) {
        irq->bridge->used &= ~(UINT64_C(1) << irq->channel);
        irq->bridge->n_used--;
    }
    g_free(irq);
}

void interrupt_abandon(struct interrupt *irq)
{
    g_free(irq);
}

/* ---- consuming ---- */

static bool take_known_raises(struct interrupt *irq)
{
    uint64_t n = line_raises(irq);
    bool is_new = n > irq->n_seen;

    irq->n_messages += n - irq->n_seen;
    irq->n_seen = n;
    return is_new;
}

bool interrupt_take(struct interrupt *irq)
{
    uint64_t count;
    bool taken = false;

    switch (irq->kind) {
    case INTERRUPT_MEMORY:
        taken = atomic_exchange(irq->word, 0) != 0;
        irq->n_messages += taken;
        break;
    case INTERRUPT_EVENTFD:
        taken = read(irq->eventfd, &count, sizeof(count)) == (ssize_t)sizeof(count);
        irq->n_messages += taken ? count : 0;
        break;
    case INTERRUPT_LINE:
        taken = take_known_raises(irq) ||
                (machine_barrier(irq->dev->machine, NULL) && take_known_raises(irq));
        break;
    }
    irq->n_taken += taken;
    return taken;
}

static bool fail_timeout(struct interrupt *irq, int timeout_ms, GError **error)
{
    g_autofree char *name = pci_device_describe(irq->dev);
    g_autofree char *what = irq->kind == INTERRUPT_LINE
                                ? g_strdup_printf("line %u", irq->line)
                                : g_strdup_printf("MSI-X vector %u", irq->vector);

    g_set_error(error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "%s: no interrupt (%s) within %d ms", name,
                what, timeout_ms);
    return false;
}

static bool fail_gone(struct interrupt *irq, GError **error)
{
    g_autofree char *name = pci_device_describe(irq->dev);

    g_set_error(error, QTEST_ERROR, QTEST_ERROR_CLOSED,
                "%s: QEMU is gone: no interrupt (MSI-X vector %u) will come", name, irq->vector);
    return false;
}

/* Whether the machine is gone, which is not to say that its last interrupt was taken. */
static bool is_gone(struct interrupt *irq)
{
    struct pollfd p = {.fd = machine_lifeline(irq->dev->machine)};

    return p.fd >= 0 && poll(&p, 1, 0) > 0;
}

static bool wait_memory(struct interrupt *irq, int timeout_ms, GError **error)
{
    const gint64 start = g_get_monotonic_time();
    gint64 now = start, next_look = start + LOOK_US;

    while (!interrupt_take(irq)) {
        if (now - start >= (gint64)timeout_ms * 1000) {
            return fail_timeout(irq, timeout_ms, error);
        }
        if (now >= next_look) {
            if (is_gone(irq)) {
                return interrupt_take(irq) || fail_gone(irq, error);
            }
            next_look = now + LOOK_US;
        }
        if (now - start >= SPIN_US) {
            sched_yield();
        }
        now = g_get_monotonic_time();
    }
    return true;
}

static bool wait_eventfd(struct interrupt *irq, int timeout_ms, GError **error)
{
    const gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    struct pollfd fds[2] = {{.fd = irq->eventfd, .events = POLLIN},
                            {.fd = machine_lifeline(irq->dev->machine)}};

    while (!interrupt_take(irq)) {
        gint64 left_ms = (deadline - g_get_monotonic_time() + 999) / 1000;
        int n = left_ms > 0 ? poll(fds, 2, (int)left_ms) : 0;
        if (n > 0 && fds[0].revents == 0) {
            return interrupt_take(irq) || fail_gone(irq, error);
        }
        if (n == 0) {
            return fail_timeout(irq, timeout_ms, error);
        }
        if ((n < 0 && errno != EINTR) || (n > 0 && !(fds[0].revents & POLLIN))) {
            g_set_error(error, QTEST_ERROR, QTEST_ERROR_SYSTEM,
                        "waiting for eventfd %d of the interrupt bridge: %s", irq->eventfd,
                        n < 0 ? g_strerror(errno) : "it was closed");
            return false;
        }
    }
    return true;
}

static bool wait_line(struct interrupt *irq, int timeout_ms, GError **error)
{
    struct machine *m = irq->dev->machine;
    g_autoptr(GError) why = NULL;

    if (m->ops->irq_wait_raised(m, irq->line, irq->n_seen + 1, timeout_ms, &why)) {
        take_known_raises(irq);
        irq->n_taken++;
        return true;
    }
    if (g_error_matches(why, QTEST_ERROR, QTEST_ERROR_TIMEOUT)) {
        return fail_timeout(irq, timeout_ms, error);
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool interrupt_wait(struct interrupt *irq, int timeout_ms, GError **error)
{
    switch (irq->kind) {
    case INTERRUPT_MEMORY:
        return wait_memory(irq, timeout_ms, error);
    case INTERRUPT_EVENTFD:
        return wait_eventfd(irq, timeout_ms, error);
    default:
        return wait_line(irq, timeout_ms, error);
    }
}

bool interrupt_is_raised(struct interrupt *irq)
{
    struct pollfd p = {.fd = irq->eventfd, .events = POLLIN};
    struct machine *m = irq->dev->machine;
    uint64_t n_raised;
    bool level = false;

    switch (irq->kind) {
    case INTERRUPT_MEMORY:
        return atomic_load(irq->word) != 0;
    case INTERRUPT_EVENTFD:
        return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
    default:
        return machine_barrier(m, NULL) && m->ops->irq_state(m, irq->line, &level, &n_raised) &&
               level;
    }
}
