/*
 * What goes through the qtest socket of a QEMU whose guest runs: MSI-X messages to its APIC, and
 * the place of the memory behind a memdev's BAR.
 */
#include "harness/attach_private.h"

#include "models/abi/ivshmem.h"
#include "models/abi/pci.h"

enum {
    CONFIG_ADDRESS = 0xcf8,
    CONFIG_DATA = 0xcfc,
    MEMDEV_MEMORY_BAR = 1,
    DEADLINE_MS = 1500, /* below that of a modelled device over one access */
};

static const uint64_t APIC_BASE = 0xfee00000, APIC_MASK = 0xfff00000;

struct message {
    uint64_t address;
    uint32_t value;
    bool is_stop;
};

static void send(struct attach *a, const struct message *m)
{
    pthread_mutex_lock(&a->qtest_lock);
    bool ok = qtest_write(a->qtest, 4, m->address, m->value, NULL);
    pthread_mutex_unlock(&a->qtest_lock);
    atomic_fetch_add(ok ? &a->n_messages : &a->n_failures, 1);
}

static void *inject(void *data)
{
    struct attach *a = data;

    for (;;) {
        g_autofree struct message *m = g_async_queue_pop(a->messages);
        if (m->is_stop) {
            return NULL;
        }
        send(a, m);
    }
}

static void push(struct attach *a, struct message m)
{
    g_async_queue_push(a->messages, g_memdup2(&m, sizeof(m)));
}

bool attach_inject(void *data, uint64_t address, uint32_t value)
{
    struct attach *a = data;

    if ((address & APIC_MASK) != APIC_BASE || address >> 32) {
        return false;
    }
    push(a, (struct message){.address = address, .value = value});
    return true;
}

void attach_inject_start(struct attach *a, int fd)
{
    a->qtest = qtest_new(fd);
    qtest_set_timeout(a->qtest, DEADLINE_MS);
    pthread_mutex_init(&a->qtest_lock, NULL);
    a->messages = g_async_queue_new_full(g_free);
    a->injector = g_thread_new("msix", inject, a);
}

void attach_inject_stop(struct attach *a)
{
    if (!a->injector) {
        return;
    }
    push(a, (struct message){.is_stop = true});
    g_thread_join(a->injector);
    g_async_queue_unref(a->messages);
    qtest_free(a->qtest);
    pthread_mutex_destroy(&a->qtest_lock);
}

/* ---- memdev's memory ---- */

static uint32_t config_address(unsigned slot, unsigned offset)
{
    return 0x80000000u | slot << 11 | (offset & 0xfcu);
}

/* A function of bus 0, with the qtest lock. */
static bool config_read(struct attach *a, unsigned slot, unsigned offset, uint64_t *value)
{
    return qtest_out(a->qtest, 4, CONFIG_ADDRESS, config_address(slot, offset), NULL) &&
           qtest_in(a->qtest, 4, CONFIG_DATA, value, NULL);
}

static bool config_write(struct attach *a, unsigned slot, unsigned offset, uint32_t value)
{
    return qtest_out(a->qtest, 4, CONFIG_ADDRESS, config_address(slot, offset), NULL) &&
           qtest_out(a->qtest, 4, CONFIG_DATA, value, NULL);
}

/* The guest is in the middle of a configuration access of its own: the address register is put back
 * as it was. Its processor waits for us, and Linux lets no other one in meanwhile. */
static bool place(struct attach *a, unsigned slot, uint64_t address)
{
    uint64_t saved = 0, id = 0, command = 0;
    bool ok = qtest_in(a->qtest, 4, CONFIG_ADDRESS, &saved, NULL) &&
              config_read(a, slot, PCI_VENDOR_ID, &id) &&
              id == (IVSHMEM_VENDOR_ID | (uint64_t)IVSHMEM_DEVICE_ID << 16) &&
              config_read(a, slot, PCI_COMMAND, &command) &&
              config_write(a, slot, PCI_COMMAND, 0) &&
              config_write(a, slot, PCI_BAR0 + 4 * IVSHMEM_BAR_MEMORY, (uint32_t)address) &&
              config_write(a, slot, PCI_BAR0 + 4 * IVSHMEM_BAR_MEMORY + 4, 0) &&
              config_write(a, slot, PCI_COMMAND, (uint32_t)(command & 0xffff) | PCI_COMMAND_MEMORY);

    return qtest_out(a->qtest, 4, CONFIG_ADDRESS, saved, NULL) && ok;
}

void attach_place_memory(void *data)
{
    struct attach_device *d = data;
    uint32_t command = pci_model_config_read(d->model, PCI_COMMAND, 2);
    uint32_t bar =
        pci_model_config_read(d->model, PCI_BAR0 + 4 * MEMDEV_MEMORY_BAR, 4) & ~UINT32_C(0xf);

    if (!(command & PCI_COMMAND_MEMORY) || bar == 0 || bar == d->placed_at) {
        return;
    }
    pthread_mutex_lock(&d->attach->qtest_lock);
    bool ok = place(d->attach, d->ivshmem_slot, bar);
    pthread_mutex_unlock(&d->attach->qtest_lock);
    d->placed_at = ok ? bar : 0;
    if (ok) {
        atomic_fetch_add(&d->attach->n_placements, 1);
    }
    attach_note(d->attach,
                ok ? "%s: its memory lies at 0x%x, where the guest looks for it"
                   : "%s: its memory could not be laid at 0x%x; the guest sees none",
                d->id, bar);
}
