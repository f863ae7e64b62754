/*
 * What QEMU's messages to a proxied device mean, and the answers. See models/abi/qemu_proxy.h.
 */
#include "models/abi/pci.h"
#include "models/qemu_proxy_private.h"

#include <string.h>
#include <unistd.h>

struct message {
    struct qemu_proxy_header header;
    union {
        struct qemu_proxy_config config;
        struct qemu_proxy_bar bar;
        struct qemu_proxy_sysmem sysmem;
    } payload;
    const int *fds;
    unsigned n_fds;
};

enum answer { ANSWER_BAD = -1, ANSWER_NONE, ANSWER_VALUE };

/* ---- what a message may look like ---- */

struct shape {
    const char *name;
    uint64_t size;
    unsigned min_fds, max_fds;
};

static const struct shape shapes[] = {
    [QEMU_PROXY_SYNC_SYSMEM] = {"SYNC_SYSMEM", sizeof(struct qemu_proxy_sysmem), 1,
                                QEMU_PROXY_MAX_FDS},
    [QEMU_PROXY_PCI_CFGWRITE] = {"PCI_CFGWRITE", sizeof(struct qemu_proxy_config), 0, 0},
    [QEMU_PROXY_PCI_CFGREAD] = {"PCI_CFGREAD", sizeof(struct qemu_proxy_config), 0, 0},
    [QEMU_PROXY_BAR_WRITE] = {"BAR_WRITE", sizeof(struct qemu_proxy_bar), 0, 0},
    [QEMU_PROXY_BAR_READ] = {"BAR_READ", sizeof(struct qemu_proxy_bar), 0, 0},
    [QEMU_PROXY_SET_IRQFD] = {"SET_IRQFD", 0, QEMU_PROXY_IRQFD_FDS, QEMU_PROXY_IRQFD_FDS},
    [QEMU_PROXY_DEVICE_RESET] = {"DEVICE_RESET", 0, 0, 0},
};

static const struct shape *shape_of(int32_t command)
{
    bool is_known = command >= 0 && (size_t)command < G_N_ELEMENTS(shapes) && shapes[command].name;

    return is_known ? &shapes[command] : NULL;
}

static bool check_shape(struct qemu_proxy *p, const struct message *m, size_t len)
{
    const struct shape *shape = shape_of(m->header.command);

    if (!shape) {
        qemu_proxy_say_why(p, "QEMU sent a message of unknown kind %d", m->header.command);
        return false;
    }
    if (m->header.size != shape->size || len != sizeof(m->header) + shape->size) {
        qemu_proxy_say_why(p, "QEMU's %s has %zu bytes, not %" G_GUINT64_FORMAT, shape->name,
                           len - sizeof(m->header), shape->size);
        return false;
    }
    if (m->n_fds < shape->min_fds || m->n_fds > shape->max_fds) {
        qemu_proxy_say_why(p, "QEMU's %s came with %u descriptors (%u to %u)", shape->name,
                           m->n_fds, shape->min_fds, shape->max_fds);
        return false;
    }
    return true;
}

/* ---- configuration space ---- */

static bool check_config(struct qemu_proxy *p, const struct qemu_proxy_config *c)
{
    if ((c->len == 1 || c->len == 2 || c->len == 4) &&
        c->addr <= PCI_MODEL_CONFIG_BYTES - (uint32_t)c->len)
        return true;
    qemu_proxy_say_why(p, "QEMU asked for %d bytes at 0x%x of configuration space", c->len,
                       c->addr);
    return false;
}

/* Of a BAR that QEMU is not to know of yet. */
static bool is_hidden(const struct qemu_proxy *p, uint32_t addr)
{
    uint32_t bar = (addr - PCI_BAR0) / 4;

    return addr >= PCI_BAR0 && bar < PCI_MODEL_BARS && (p->hidden_bars & (1u << bar));
}

static enum answer config_read(struct qemu_proxy *p, const struct qemu_proxy_config *c,
                               uint64_t *value)
{
    qemu_proxy_count(&p->config_reads);
    if (!check_config(p, c))
        return ANSWER_BAD;
    uint32_t read = pci_model_config_read(p->model, c->addr, (unsigned)c->len);
    *value = is_hidden(p, c->addr) ? 0 : read;
    return ANSWER_VALUE;
}

static enum answer config_write(struct qemu_proxy *p, const struct qemu_proxy_config *c)
{
    qemu_proxy_count(&p->config_writes);
    if (!check_config(p, c))
        return ANSWER_BAD;
    pci_model_config_write(p->model, c->addr, c->value, (unsigned)c->len);
    return ANSWER_VALUE;
}

/* ---- BARs ---- */

/* Also tells whoever wants to know of the access. */
static bool check_bar(struct qemu_proxy *p, const struct qemu_proxy_bar *b)
{
    if (b->size == 1 || b->size == 2 || b->size == 4) {
        if (p->bar_accessed)
            p->bar_accessed(p->data);
        return true;
    }
    qemu_proxy_say_why(p, "QEMU asked for %u bytes of a BAR", b->size);
    return false;
}

static enum answer bar_read(struct qemu_proxy *p, const struct qemu_proxy_bar *b, uint64_t *value)
{
    uint64_t offset;

    qemu_proxy_count(&p->bar_reads);
    if (!check_bar(p, b))
        return ANSWER_BAD;
    int bar = pci_model_decode(p->model, !b->is_memory, b->addr, &offset);
    *value = bar >= 0 ? pci_model_bar_read(p->model, (unsigned)bar, offset, b->size)
                      : (1ull << (8 * b->size)) - 1;
    return ANSWER_VALUE;
}

static enum answer bar_write(struct qemu_proxy *p, const struct qemu_proxy_bar *b)
{
    uint64_t offset;

    qemu_proxy_count(&p->bar_writes);
    if (!check_bar(p, b))
        return ANSWER_BAD;
    int bar = pci_model_decode(p->model, !b->is_memory, b->addr, &offset);
    if (bar >= 0)
        pci_model_bar_write(p->model, (unsigned)bar, offset, b->value, b->size);
    return ANSWER_VALUE;
}

/* ---- all ---- */

static enum answer handle(struct qemu_proxy *p, const struct message *m, uint64_t *value)
{
    switch ((enum qemu_proxy_command)m->header.command) {
    case QEMU_PROXY_SYNC_SYSMEM:
        qemu_proxy_count(&p->memory_updates);
        qemu_proxy_memory_update(p, &m->payload.sysmem, m->fds, m->n_fds);
        return ANSWER_NONE;
    case QEMU_PROXY_PCI_CFGWRITE:
        return config_write(p, &m->payload.config);
    case QEMU_PROXY_PCI_CFGREAD:
        return config_read(p, &m->payload.config, value);
    case QEMU_PROXY_BAR_WRITE:
        return bar_write(p, &m->payload.bar);
    case QEMU_PROXY_BAR_READ:
        return bar_read(p, &m->payload.bar, value);
    case QEMU_PROXY_DEVICE_RESET:
        qemu_proxy_count(&p->resets);
        p->hidden_bars = 0;
        pci_model_reset(p->model);
        return ANSWER_VALUE;
    case QEMU_PROXY_SET_IRQFD: /* INTx, which models do not use */
    case QEMU_PROXY_RET:
        break;
    }
    return ANSWER_NONE;
}

static void make_reply(uint8_t reply[24], uint64_t value)
{
    struct qemu_proxy_header header = {.command = QEMU_PROXY_RET,
                                       .size = sizeof(struct qemu_proxy_ret)};
    struct qemu_proxy_ret ret = {value};

    memcpy(reply, &header, sizeof(header));
    memcpy(reply + sizeof(header), &ret, sizeof(ret));
}

static enum answer parse_and_handle(struct qemu_proxy *p, const void *bytes, size_t len,
                                    struct message *m, uint64_t *value)
{
    if (len < sizeof(m->header) || len > sizeof(m->header) + sizeof(m->payload)) {
        qemu_proxy_say_why(p, "QEMU sent a message of %zu bytes", len);
        return ANSWER_BAD;
    }
    memcpy(&m->header, bytes, sizeof(m->header));
    memcpy(&m->payload, (const uint8_t *)bytes + sizeof(m->header), len - sizeof(m->header));
    return check_shape(p, m, len) ? handle(p, m, value) : ANSWER_BAD;
}

ssize_t qemu_proxy_message(struct qemu_proxy *proxy, const void *message, size_t len,
                           const int *fds, unsigned n_fds, uint8_t reply[24])
{
    struct message m = {.fds = fds, .n_fds = n_fds};
    uint64_t value = 0;

    qemu_proxy_count(&proxy->requests);
    enum answer answer = parse_and_handle(proxy, message, len, &m, &value);
    for (unsigned i = 0; i < n_fds; i++)
        close(fds[i]);
    if (answer == ANSWER_BAD) {
        qemu_proxy_count(&proxy->bad_messages);
        return -1;
    }
    if (answer == ANSWER_NONE)
        return 0;
    make_reply(reply, value);
    return sizeof(struct qemu_proxy_header) + sizeof(struct qemu_proxy_ret);
}
