/*
 * Fuzz target: what QEMU may say to a proxied device. Whatever comes, the model is driven through
 * its bus, its vectors reach what it takes for guest memory, and nothing stays open.
 * Input: a byte for the late BARs, then messages. Each starts with a byte: with bit 7 the message
 * follows as it is (a byte of descriptors, a byte of its length, and so many bytes); otherwise its
 * low 3 bits are the command, and a message of the right shape is made of the next bytes.
 */
#include "models/abi/qemu_proxy.h"
#include "models/qemu_proxy.h"
#include "models/test_toy_model.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

enum {
    MAX_FDS = 9, /* one more than there may be */
    RAM_BYTES = 1 << 16,
    IO_BASE = 0xc000,
    REGISTER_BASE = 0x10000000,
    MSIX_BASE = 0x10001000,
    MEMORY_BASE = 0x10004000,
    MAX_MESSAGE = sizeof(struct qemu_proxy_header) + QEMU_PROXY_MAX_PAYLOAD,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Guest memory, a file that cannot be mapped, one that is read-only, one that is empty. */
static int open_of_kind(int ram, unsigned kind)
{
    switch (kind % 4) {
    case 0:
        return fcntl(ram, F_DUPFD_CLOEXEC, 3);
    case 1:
        return eventfd(0, EFD_CLOEXEC);
    case 2:
        return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    default:
        return memfd_create("empty", MFD_CLOEXEC);
    }
}

struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t next_byte(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->data++;
}

static uint64_t next_number(struct input *in, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)next_byte(in) << (8 * i);
    return value;
}

struct message {
    uint8_t bytes[MAX_MESSAGE];
    size_t len;
    unsigned n_fds, kind_of_fds;
};

static void next_raw(struct input *in, struct message *m)
{
    uint8_t about_fds = next_byte(in);

    m->n_fds = (about_fds & 15u) % (MAX_FDS + 1);
    m->kind_of_fds = about_fds >> 4;
    m->len = next_byte(in) % (MAX_MESSAGE + 1u);
    for (size_t i = 0; i < m->len; i++)
        m->bytes[i] = next_byte(in);
}

static const uint64_t bases[] = {IO_BASE, REGISTER_BASE, MSIX_BASE, MEMORY_BASE};

static size_t fill_payload(struct input *in, int command, void *payload)
{
    struct qemu_proxy_config config;
    struct qemu_proxy_bar bar = {0};
    struct qemu_proxy_sysmem sysmem = {0};

    switch (command) {
    case QEMU_PROXY_PCI_CFGREAD:
    case QEMU_PROXY_PCI_CFGWRITE:
        config.addr = next_byte(in);
        config.len = 1 << next_byte(in) % 3;
        config.value = (uint32_t)next_number(in, 4);
        memcpy(payload, &config, sizeof(config));
        return sizeof(config);
    case QEMU_PROXY_BAR_READ:
    case QEMU_PROXY_BAR_WRITE:
        bar.size = 1u << next_byte(in) % 3;
        bar.addr = bases[next_byte(in) % G_N_ELEMENTS(bases)] + next_number(in, 2) % 0x2010;
        bar.is_memory = bar.addr >= REGISTER_BASE;
        bar.value = next_number(in, 4);
        memcpy(payload, &bar, sizeof(bar));
        return sizeof(bar);
    case QEMU_PROXY_SYNC_SYSMEM:
        for (unsigned i = 0; i < QEMU_PROXY_MAX_FDS; i++) {
            sysmem.gpa[i] = next_number(in, 2) << 8;
            sysmem.size[i] = next_number(in, 2);
            sysmem.offset[i] = next_number(in, 2);
        }
        memcpy(payload, &sysmem, sizeof(sysmem));
        return sizeof(sysmem);
    default:
        return 0;
    }
}

static void next_well_formed(struct input *in, uint8_t about, struct message *m)
{
    struct qemu_proxy_header header = {.command = about & 7};

    m->kind_of_fds = header.command == QEMU_PROXY_SYNC_SYSMEM ? about >> 3 & 7u : 0;
    m->n_fds = header.command == QEMU_PROXY_SYNC_SYSMEM ? 1u + next_byte(in) % QEMU_PROXY_MAX_FDS
               : header.command == QEMU_PROXY_SET_IRQFD ? QEMU_PROXY_IRQFD_FDS
                                                        : 0;
    header.size = fill_payload(in, header.command, m->bytes + sizeof(header));
    memcpy(m->bytes, &header, sizeof(header));
    m->len = sizeof(header) + header.size;
}

static bool handle(struct qemu_proxy *proxy, struct toy_model *toy, int ram, struct message *m)
{
    uint8_t reply[24] = {0};
    int fds[MAX_FDS];

    for (unsigned i = 0; i < m->n_fds; i++) {
        fds[i] = open_of_kind(ram, m->kind_of_fds & 4 ? m->kind_of_fds + i : m->kind_of_fds);
        if (fds[i] < 0)
            abort(); /* a message before leaked its descriptors */
    }
    toy_go_on(toy); /* the register that hangs does not */
    ssize_t answer = qemu_proxy_message(proxy, m->bytes, m->len, fds, m->n_fds, reply);
    if (answer != sizeof(reply) && answer != 0 && answer != -1)
        abort();
    pci_model_raise(toy->m, reply[16] % TOY_VECTORS);
    return answer >= 0;
}

static void place_bars(struct toy_model *toy)
{
    pci_model_config_write(toy->m, PCI_BAR0, IO_BASE, 4);
    pci_model_config_write(toy->m, PCI_BAR1, MEMORY_BASE, 4);
    pci_model_config_write(toy->m, PCI_BAR2, REGISTER_BASE, 4);
    pci_model_config_write(toy->m, PCI_BAR4, MSIX_BASE, 4);
    pci_model_config_write(toy->m, PCI_COMMAND,
                           PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ram = -1;
    struct input in = {data, size};

    if (ram < 0) {
        ram = memfd_create("ram", MFD_CLOEXEC);
        if (ram < 0 || ftruncate(ram, RAM_BYTES) < 0)
            abort();
    }
    struct toy_model *toy = toy_new();
    struct qemu_proxy_options options = {.late_bars = next_byte(&in)};
    struct qemu_proxy *proxy = qemu_proxy_new(toy->m, -1, &options, NULL);
    place_bars(toy);
    for (bool is_going_on = true; is_going_on && in.left > 0;) {
        struct message m = {.len = 0};
        uint8_t about = next_byte(&in);
        if (about & 0x80)
            next_raw(&in, &m);
        else
            next_well_formed(&in, about, &m);
        is_going_on = handle(proxy, toy, ram, &m);
    }
    if (!qemu_proxy_free(proxy))
        abort();
    pci_model_free(toy->m);
    return 0;
}
