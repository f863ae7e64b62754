/*
 * A ptnet over a port made for testing: "em0" with two tx rings of 16 slots and two rx rings of 32,
 * which takes what is sent and delivers what the test says; guest memory at 1 MiB and above 4 GiB;
 * the device stepped, or with its thread.
 */
#ifndef RINGLAB_TEST_PTNET_BED_H
#define RINGLAB_TEST_PTNET_BED_H

#include "models/abi/pci.h"
#include "models/abi/ptnet.h"
#include "models/netmap/nm_kern.h"
#include "models/ptnet/ptnet.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum {
    N_TX = 2,
    N_RX = 2,
    N_RINGS = N_TX + N_RX,
    TX0 = 0,
    TX1 = 1,
    RX0 = 2,
    RX1 = 3,
    TX_SLOTS = 16,
    RX_SLOTS = 32,
    DEADLINE_MS = 10000,

    RAM_BYTES = 0x10000,
    LOW_GPA = 0x100000,
    GH_GPA = LOW_GPA + 0x1000,
    HG_GPA = LOW_GPA + 0x2000,
    MSI_GPA = LOW_GPA + 0x3000, /* one word per vector */
    CSB_BYTES = 64 * N_RINGS,
};
#define HIGH_GPA UINT64_C(0x180000000)

struct bed {
    _Alignas(4096) uint8_t low[RAM_BYTES];
    uint8_t high[RAM_BYTES];
    struct nm_host *host;
    struct nm_adapter *na; /* em0 */
    struct pci_model *model;
    struct ptnet *pt;
    struct pci_dma *dma;
    _Atomic unsigned n_released; /* sets of memory that nobody uses any more */
    _Atomic unsigned n_syncs[N_RINGS];
    _Atomic unsigned arriving; /* frames for the next sync of rx ring 0 */
    char last_log[256];
};

/* ---- the port ---- */

static int em_sync(struct nm_kring *kring, int flags)
{
    struct bed *bed = kring->na->port;
    uint32_t n = kring->num_slots;

    (void)flags;
    bed->n_syncs[kring->tx ? kring->ring_id : N_TX + kring->ring_id]++;
    kring->hwcur = kring->rhead;
    if (kring->tx) {
        kring->hwtail = nm_prev(kring->hwcur, n);
    } else if (kring->ring_id == 0) {
        uint32_t room = n - 1 - nm_dist(kring->hwcur, kring->hwtail, n);
        uint32_t come = MIN(room, atomic_load(&bed->arriving));
        atomic_fetch_sub(&bed->arriving, come);
        kring->hwtail = (kring->hwtail + come) % n;
    }
    return 0;
}

static int em_krings_created(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < nm_all_rings(na, t); i++) {
            na->krings[t][i].sync = em_sync;
            na->krings[t][i].notify = nm_notify;
        }
    }
    return 0;
}

static void em_free(struct nm_adapter *na)
{
    nm_adapter_clear(na);
    g_free(na);
}

static const struct nm_port_ops em_ops = {
    .kind = "test", .krings_created = em_krings_created, .free = em_free};

static inline struct nm_adapter *add_port(struct bed *bed, const char *name, unsigned rings)
{
    struct nm_adapter *na = g_new0(struct nm_adapter, 1);
    struct nm_mem *mem = nm_mem_find(bed->host->mems, 1);

    nm_adapter_init(na, bed->host, &em_ops, name, mem);
    nm_mem_unref(mem);
    na->n_rings[NM_TX] = na->n_rings[NM_RX] = rings;
    na->n_slots[NM_TX] = TX_SLOTS;
    na->n_slots[NM_RX] = RX_SLOTS;
    na->port = bed;
    g_hash_table_insert(bed->host->nics, g_strdup(name), na);
    return na;
}

/* ---- the bus ---- */

static inline uint32_t reg_read(struct bed *bed, unsigned offset)
{
    return (uint32_t)pci_model_bar_read(bed->model, PTNETMAP_IO_PCI_BAR, offset, 4);
}

static inline void reg_write(struct bed *bed, unsigned offset, uint32_t value)
{
    pci_model_bar_write(bed->model, PTNETMAP_IO_PCI_BAR, offset, value, 4);
}

/* PTCTL: a command, and its status. */
static inline uint32_t control(struct bed *bed, uint32_t command)
{
    reg_write(bed, PTNET_IO_PTCTL, command);
    return reg_read(bed, PTNET_IO_PTCTL);
}

static inline void set_csb(struct bed *bed, uint64_t gh, uint64_t hg)
{
    reg_write(bed, PTNET_IO_CSB_GH_BAH, (uint32_t)(gh >> 32));
    reg_write(bed, PTNET_IO_CSB_GH_BAL, (uint32_t)gh);
    reg_write(bed, PTNET_IO_CSB_HG_BAH, (uint32_t)(hg >> 32));
    reg_write(bed, PTNET_IO_CSB_HG_BAL, (uint32_t)hg);
}

/* Vector i stores 0x100 + i at MSI_GPA + 4 i. */
static inline void enable_msix(struct bed *bed, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t entry = i * PCI_MSIX_ENTRY_BYTES;
        pci_model_bar_write(bed->model, PTNETMAP_MSIX_PCI_BAR, entry, MSI_GPA + 4 * i, 4);
        pci_model_bar_write(bed->model, PTNETMAP_MSIX_PCI_BAR, entry + 4, 0, 4);
        pci_model_bar_write(bed->model, PTNETMAP_MSIX_PCI_BAR, entry + 8, 0x100 + i, 4);
        pci_model_bar_write(bed->model, PTNETMAP_MSIX_PCI_BAR, entry + 12, 0, 4);
    }
    pci_model_config_write(bed->model, PCI_COMMAND,
                           PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    pci_model_config_write(bed->model, PCI_MODEL_MSIX_CAPABILITY + PCI_MSIX_FLAGS,
                           PCI_MSIX_FLAGS_ENABLE, 2);
}

/* ---- guest memory ---- */

static inline struct nm_csb_atok *gh(struct bed *bed)
{
    return (struct nm_csb_atok *)(void *)(bed->low + (GH_GPA - LOW_GPA));
}

static inline struct nm_csb_ktoa *hg(struct bed *bed)
{
    return (struct nm_csb_ktoa *)(void *)(bed->low + (HG_GPA - LOW_GPA));
}

static inline uint32_t msi_word(struct bed *bed, unsigned vector)
{
    return atomic_load((_Atomic uint32_t *)(void *)(bed->low + (MSI_GPA - LOW_GPA) + 4 * vector));
}

static inline void guest_says(struct bed *bed, unsigned ring, uint32_t head)
{
    atomic_store(&gh(bed)[ring].cur, head);
    atomic_store(&gh(bed)[ring].head, head);
}

static void memory_released(void *data)
{
    ((struct bed *)data)->n_released++;
}

static inline void set_memory(struct bed *bed)
{
    struct pci_dma_range ranges[] = {{LOW_GPA, RAM_BYTES, bed->low},
                                     {HIGH_GPA, RAM_BYTES, bed->high}};

    pci_dma_set(bed->dma, ranges, G_N_ELEMENTS(ranges), memory_released, bed);
}

/* ---- life ---- */

static void keep_log(void *data, const char *line)
{
    struct bed *bed = data;

    g_strlcpy(bed->last_log, line, sizeof(bed->last_log));
}

static inline void plug(struct bed *bed, const struct ptnet_options *options)
{
    GError *error = NULL;

    bed->model = ptnet_new(bed->host, options, &error);
    assert_null(error);
    assert_non_null(bed->model);
    bed->pt = ptnet_of(bed->model);
    assert_non_null(bed->pt);
    pci_model_set_dma(bed->model, bed->dma);
}

static inline void unplug(struct bed *bed)
{
    pci_model_free(bed->model);
    bed->model = NULL;
}

static inline int bare_setup(void **state)
{
    void *aligned = NULL;

    assert_int_equal(posix_memalign(&aligned, 4096, sizeof(struct bed)), 0);
    struct bed *bed = memset(aligned, 0, sizeof(struct bed));
    bed->host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);
    assert_non_null(bed->host);
    nm_host_set_log(bed->host, keep_log, bed);
    bed->na = add_port(bed, "em0", 2);
    bed->dma = pci_dma_new();
    set_memory(bed);
    *state = bed;
    return 0;
}

static inline int stepped_setup(void **state)
{
    bare_setup(state);
    plug(*state, &(struct ptnet_options){.port = "netmap:em0", .is_stepped = true});
    enable_msix(*state, N_RINGS);
    return 0;
}

static inline int threaded_setup(void **state)
{
    bare_setup(state);
    plug(*state, &(struct ptnet_options){.port = "netmap:em0"});
    enable_msix(*state, N_RINGS);
    return 0;
}

static inline int teardown(void **state)
{
    struct bed *bed = *state;

    pci_model_free(bed->model);
    pci_dma_free(bed->dma);
    nm_host_free(bed->host);
    free(bed);
    return 0;
}

static inline uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#define STEPPED(f)  cmocka_unit_test_setup_teardown(f, stepped_setup, teardown)
#define THREADED(f) cmocka_unit_test_setup_teardown(f, threaded_setup, teardown)
#define BARE(f)     cmocka_unit_test_setup_teardown(f, bare_setup, teardown)

#endif
