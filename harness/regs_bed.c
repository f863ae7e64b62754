/*
 * A bed for the register prober: a session with one stopped machine and one device. The BARs lie
 * apart from each other (while there is room), so that what is read beyond the end of one is not
 * the next one.
 */
#include "harness/cancel.h"
#include "harness/regs.h"
#include "models/abi/pci.h"

#include <string.h>

enum { RAM_BYTES = 4 << 20 }; /* nothing uses it, and each restart pays for it */

struct session_bed {
    struct regs_bed bed;
    char *spec;
    enum machine_board board;
    struct session *session;
    struct session_machine *machine;
    struct session_device *device;
    uint64_t bases[PCI_N_BARS]; /* 0: not reserved yet */
};

/* A new session, not just a new QEMU: peer ids and the like start over. */
static bool restart(struct session_bed *b, GError **error)
{
    struct session_machine_options options = {
        .name = "regs", .board = b->board, .ram_bytes = RAM_BYTES, .is_bare = true};

    session_free(b->session);
    memset(b->bases, 0, sizeof(b->bases));
    b->bed.dev = NULL;
    b->session = session_new(NULL, NULL);
    b->machine = session_machine_new(b->session, &options, error);
    b->device = b->machine ? session_device_new(b->machine, b->spec, NULL, error) : NULL;
    if (!b->device || !session_machine_start(b->machine, error) ||
        !qmp_run(qemu_qmp(session_machine_qemu(b->machine)), "stop", NULL, error))
        return false;
    b->bed.dev = session_device_pci(b->device, error);
    return b->bed.dev != NULL;
}

static bool place_bars(struct session_bed *b, GError **error)
{
    struct pci_device *dev = b->bed.dev;

    for (unsigned i = 0; i < PCI_N_BARS && dev->bus == 0; i++) {
        const struct pci_bar *bar = &dev->bars[i];

        if (bar->size == 0)
            continue;
        if (b->bases[i] == 0 &&
            !pci_bus_reserve(dev->host, bar->kind, 2 * bar->size, &b->bases[i], NULL) &&
            !pci_bus_reserve(dev->host, bar->kind, bar->size, &b->bases[i], error))
            return false;
        if (!pci_bar_place(dev, i, b->bases[i], error))
            return false;
    }
    return pci_device_enable(dev, error);
}

static bool enable_msix(struct pci_device *dev, GError **error)
{
    uint64_t control;

    return !dev->msix_cap ||
           (pci_config_read(dev, dev->msix_cap + PCI_MSIX_FLAGS, 2, &control, error) &&
            pci_config_write(dev, dev->msix_cap + PCI_MSIX_FLAGS, 2,
                             control | PCI_MSIX_FLAGS_ENABLE, error));
}

static bool bed_reset(struct regs_bed *bed, bool is_restart, enum regs_mode mode, GError **error)
{
    struct session_bed *b = (struct session_bed *)bed;

    if (is_restart || !b->session) {
        if (!restart(b, error))
            return false;
    } else if (!session_machine_reset(b->machine, error) ||
               (bed->dev->bus != 0 && !pci_bus_scan(bed->dev->host, error))) {
        return false;
    }
    if (mode == REGS_PLAIN)
        return true;
    return place_bars(b, error) && (mode != REGS_MSIX || enable_msix(bed->dev, error));
}

static char *bed_ended(struct regs_bed *bed)
{
    struct session_bed *b = (struct session_bed *)bed;
    struct qemu *qemu = b->machine ? session_machine_qemu(b->machine) : NULL;
    char *reason = NULL, *details;

    if (cancel_is_requested())
        return NULL; /* it was we who ended it */
    if (!qemu)
        return g_strdup("was not running");
    if (qemu_is_alive(qemu, &reason))
        return NULL;
    /* its last words may hold addresses, which differ from run to run */
    details = strstr(reason, ": ");
    if (details)
        *details = '\0';
    return reason;
}

struct regs_bed *regs_bed_new(const char *spec, enum machine_board board, GError **error)
{
    struct session_bed *b = g_new0(struct session_bed, 1);

    b->bed.reset = bed_reset;
    b->bed.ended = bed_ended;
    b->spec = g_strdup(spec);
    b->board = board;
    if (bed_reset(&b->bed, true, REGS_PLAIN, error))
        return &b->bed;
    regs_bed_free(&b->bed);
    return NULL;
}

void regs_bed_free(struct regs_bed *bed)
{
    struct session_bed *b = (struct session_bed *)bed;

    if (!b)
        return;
    session_free(b->session);
    g_free(b->spec);
    g_free(b);
}
