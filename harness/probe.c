/*
 * Collecting what a probe shows.
 */
#include "harness/probe.h"

#include "models/abi/pci_names.h"

#include <string.h>

G_DEFINE_QUARK(ringlab_probe_error, probe_error)

static void free_block(gpointer data)
{
    struct probe_block *block = data;
    for (unsigned i = 0; i < block->block->abi->n_regs; i++) {
        if (block->values[i])
            g_array_unref(block->values[i]);
    }
    g_free(block->values);
    g_free(block);
}

static void free_function(gpointer data)
{
    struct probe_function *function = data;
    if (function->blocks)
        g_ptr_array_unref(function->blocks);
    g_free(function);
}

/* ---- registers ---- */

/* Whether all of the register lies in what this device has of the block. */
static bool is_present(const struct pci_block *block, const struct abi_reg *reg)
{
    uint32_t end = reg->offset + (reg->count - 1u) * reg->stride + reg->width;
    return end <= (block->abi->stride ? block->abi->stride : block->size);
}

/* Registers that move as MSI-X is switched on and off are not there in the other state. */
static bool is_there_now(const struct pci_device *dev, const struct pci_block *block)
{
    return block->when == ABI_ALWAYS || (block->when == ABI_WITH_MSIX) == dev->msix_enabled;
}

static GArray *read_register(struct pci_device *dev, const struct pci_block *block,
                             const struct abi_reg *reg, GError **error)
{
    uint32_t n = block->abi->stride ? block->count : reg->count;
    g_autoptr(GArray) values = g_array_sized_new(FALSE, FALSE, sizeof(uint64_t), n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t value = 0;
        if (!pci_reg_read(dev, block, reg, i, &value, error))
            return NULL;
        g_array_append_val(values, value);
    }
    return g_steal_pointer(&values);
}

static bool read_block(struct probe_function *function, const struct pci_block *block,
                       GError **error)
{
    const struct abi_block *abi = block->abi;
    struct probe_block *read = g_new0(struct probe_block, 1);
    read->block = block;
    read->values = g_new0(GArray *, abi->n_regs);
    g_ptr_array_add(function->blocks, read);
    for (unsigned i = 0; i < abi->n_regs; i++) {
        const struct abi_reg *reg = &abi->regs[i];
        if (reg->access == ABI_WO || !is_present(block, reg))
            continue;
        read->values[i] = read_register(function->dev, block, reg, error);
        if (!read->values[i])
            return false;
    }
    return true;
}

static bool read_function(struct probe_function *function, GError **error)
{
    struct pci_device *dev = function->dev;
    if (!pci_device_enable(dev, error))
        return false;
    function->blocks = g_ptr_array_new_with_free_func(free_block);
    for (guint i = 0; i < dev->blocks->len; i++) {
        const struct pci_block *block = g_ptr_array_index(dev->blocks, i);
        if (is_there_now(dev, block) && !read_block(function, block, error))
            return false;
    }
    return true;
}

/* ---- which function is which device ---- */

static const struct session_device *find_device(const struct probe *probe,
                                                const struct pci_device *dev)
{
    for (unsigned i = 0; session_machine_device(probe->machine, i); i++) {
        struct session_device *device = session_machine_device(probe->machine, i);
        if (session_device_pci(device, NULL) == dev)
            return device;
    }
    return NULL;
}

static void list_functions(struct probe *probe)
{
    GPtrArray *devices = pci_bus_devices(session_machine_bus(probe->machine));
    for (guint i = 0; i < devices->len; i++) {
        struct probe_function *function = g_new0(struct probe_function, 1);
        struct pci_device *dev = g_ptr_array_index(devices, i);
        function->dev = dev;
        function->device = find_device(probe, dev);
        function->name = function->device ? session_device_driver(function->device)
                         : dev->abi       ? dev->abi->name
                                          : abi_class_name(dev->class_code);
        g_ptr_array_add(probe->functions, function);
    }
}

static bool check_on_bus(const struct probe *probe, GError **error)
{
    for (unsigned i = 0; session_machine_device(probe->machine, i); i++) {
        struct session_device *device = session_machine_device(probe->machine, i);
        if (session_device_pci(device, NULL))
            continue;
        g_set_error(error, PROBE_ERROR, PROBE_ERROR_NO_PCI,
                    "device %s is on no PCI bus of this machine, so there is nothing to show of it",
                    session_device_driver(device));
        return false;
    }
    return true;
}

/* ---- the whole ---- */

static bool start(struct probe *probe, const struct probe_options *options, GError **error)
{
    struct session_machine_options machine_options = {
        .name = options->board == MACHINE_Q35 ? "q35" : "pc",
        .board = options->board,
        .accelerator = options->accelerator,
        .is_bare = true,
    };
    probe->session = session_new(NULL, NULL);
    probe->machine = session_machine_new(probe->session, &machine_options, error);
    if (!probe->machine)
        return false;
    for (const char *const *text = options->devices; text && *text; text++) {
        if (!session_device_new(probe->machine, *text, NULL, error))
            return false;
    }
    return session_machine_start(probe->machine, error) &&
           pci_bus_scan(session_machine_bus(probe->machine), error);
}

static bool look(struct probe *probe, bool is_all, GError **error)
{
    if (!check_on_bus(probe, error))
        return false;
    list_functions(probe);
    for (guint i = 0; i < probe->functions->len; i++) {
        struct probe_function *function = g_ptr_array_index(probe->functions, i);
        if ((is_all || function->device) && !read_function(function, error))
            return false;
    }
    return true;
}

struct probe *probe_new(const struct probe_options *options, GError **error)
{
    struct probe *probe = g_new0(struct probe, 1);
    probe->board = options->board;
    probe->functions = g_ptr_array_new_with_free_func(free_function);
    if (start(probe, options, error) && look(probe, options->is_all, error))
        return probe;
    probe_free(probe);
    return NULL;
}

void probe_free(struct probe *probe)
{
    if (!probe)
        return;
    g_ptr_array_unref(probe->functions);
    session_free(probe->session);
    g_free(probe);
}

const char *probe_access_name(enum abi_access access)
{
    switch (access) {
    case ABI_RO:
        return "ro";
    case ABI_RW:
        return "rw";
    case ABI_WO:
        return "wo";
    case ABI_RC:
        return "rc";
    case ABI_RW1C:
        return "w1c";
    case ABI_RW1S:
        return "w1s";
    case ABI_RSVD:
        return "rsvd";
    }
    return "?";
}

uint64_t probe_field_value(const struct abi_field *field, uint64_t value)
{
    uint64_t mask = field->bits < 64 ? (UINT64_C(1) << field->bits) - 1 : UINT64_MAX;
    return value >> field->lsb & mask;
}
