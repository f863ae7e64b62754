/*
 * ptnet's bring-up and tear-down against register models played by the test: the order of accesses,
 * and what a device or a memory that contradicts itself leads to.
 */
#include "harness/sim_machine.h"
#include "models/abi/pci.h"
#include "models/abi/ptnet.h"
#include "qtest_client/ptnet.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    N_TX = 2,
    N_RX = 1,
    N_RINGS = N_TX + N_RX,
    TX_SLOTS = 8,
    RX_SLOTS = 4,
    MEM_ID = 5,
    MEM_BYTES = 1 << 16,
    NIFP_OFS = 64,
    RING_OFS = 4096, /* of ring i: RING_OFS * (i + 1) */
    BUF_OFS = 32768,
    BUF_BYTES = 512,
    N_BUFS = 64,
    SHARED_BYTES = 1 << 16,
};
#define SHARED_GPA UINT64_C(0x7000000000)

struct toy_ptnet {
    uint32_t regs[PTNET_IO_BAR_BYTES / 4];
    uint32_t create_status, delete_status;
    bool is_header_fixed; /* VNET_HDR_LEN takes nothing */
    struct pci_model *m;
};

struct toy_memdev {
    uint32_t regs[PTNET_MDEV_IO_BAR_BYTES / 4];
};

static struct machine *machine;
static struct guest_region *shared, *memory;
static struct toy_ptnet *toy;
static struct toy_memdev *toy_mem;
static struct pci_bus *bus;
static struct pci_device *dev;
static struct ptnet_driver_options options;
static GString *trace;

/* ---- the toys ---- */

static uint64_t csb_gpa(enum ptnet_offset high)
{
    return (uint64_t)toy->regs[high / 4] << 32 | toy->regs[high / 4 + 1];
}

/* What CSB_ENABLE does (ptnet.md 4.1), for rings that are as new. */
static void enable_csb(void)
{
    struct nm_csb_atok *atok =
        pci_dma_map(pci_model_dma(toy->m), csb_gpa(PTNET_IO_CSB_GH_BAH), N_RINGS * sizeof(*atok));
    struct nm_csb_ktoa *ktoa =
        pci_dma_map(pci_model_dma(toy->m), csb_gpa(PTNET_IO_CSB_HG_BAH), N_RINGS * sizeof(*ktoa));

    assert_true(atok && ktoa);
    for (unsigned i = 0; i < N_RINGS; i++) {
        /* the driver stored these before (8.4, ON step 1a) */
        assert_int_equal(atok[i].appl_need_kick, i >= N_TX);
        assert_int_equal(ktoa[i].kern_need_kick, 1);
        atok[i].appl_need_kick = atok[i].sync_flags = 1;
        ktoa[i].hwtail = i < N_TX ? TX_SLOTS - 1 : 0;
    }
    pci_dma_unmap(pci_model_dma(toy->m), atok);
    pci_dma_unmap(pci_model_dma(toy->m), ktoa);
}

static uint64_t ptnet_read(void *data, unsigned bar, uint64_t offset, unsigned size)
{
    (void)data;
    (void)size;
    return bar == PTNETMAP_IO_PCI_BAR ? toy->regs[offset / 4] : 0;
}

static void ptnet_write(void *data, unsigned bar, uint64_t offset, uint64_t value, unsigned size)
{
    (void)data;
    (void)bar;
    (void)size;
    switch (offset) {
    case PTNET_IO_PTCTL:
        toy->regs[offset / 4] =
            value == PTNETMAP_PTCTL_CREATE ? toy->create_status : toy->delete_status;
        if (value == PTNETMAP_PTCTL_CREATE && toy->create_status == 0) {
            enable_csb();
        }
        break;
    case PTNET_IO_VNET_HDR_LEN:
        toy->regs[offset / 4] = toy->is_header_fixed ? toy->regs[offset / 4] : (uint32_t)value;
        break;
    case PTNET_IO_PTFEAT:
    case PTNET_IO_CSB_GH_BAH:
    case PTNET_IO_CSB_GH_BAL:
    case PTNET_IO_CSB_HG_BAH:
    case PTNET_IO_CSB_HG_BAL:
        toy->regs[offset / 4] = (uint32_t)value;
        break;
    default:
        break;
    }
}

static uint64_t memdev_read(void *data, unsigned bar, uint64_t offset, unsigned size)
{
    struct toy_memdev *t = data;

    (void)size;
    return bar == PTNETMAP_IO_PCI_BAR ? t->regs[offset / 4] : 0;
}

static struct pci_model *new_ptnet(unsigned n_vectors)
{
    static const struct pci_model_ops ops = {
        .name = "toy", .read = ptnet_read, .write = ptnet_write};
    struct pci_model_options o = {
        .vendor_id = PTNETMAP_PCI_VENDOR_ID,
        .device_id = PTNETMAP_PCI_NETIF_ID,
        .class_code = 0x020000,
        .bars[PTNETMAP_IO_PCI_BAR] = {.size = PTNET_IO_BAR_BYTES, .is_io = true},
        .n_vectors = n_vectors,
        .msix_bar = PTNETMAP_MSIX_PCI_BAR,
    };

    toy = g_new0(struct toy_ptnet, 1);
    toy->regs[PTNET_IO_MAC_HI / 4] = 0x5254;
    toy->regs[PTNET_IO_MAC_LO / 4] = 0x00abcdef;
    toy->regs[PTNET_IO_NIFP_OFS / 4] = NIFP_OFS;
    toy->regs[PTNET_IO_NUM_TX_RINGS / 4] = N_TX;
    toy->regs[PTNET_IO_NUM_RX_RINGS / 4] = N_RX;
    toy->regs[PTNET_IO_NUM_TX_SLOTS / 4] = TX_SLOTS;
    toy->regs[PTNET_IO_NUM_RX_SLOTS / 4] = RX_SLOTS;
    toy->regs[PTNET_IO_HOSTMEMID / 4] = MEM_ID;
    return toy->m = pci_model_new(&ops, toy, &o, NULL);
}

static struct pci_model *new_memdev(uint32_t id, bool has_memory, struct toy_memdev **out)
{
    static const struct pci_model_ops ops = {
        .name = "toy mem", .read = memdev_read, .free = g_free};
    struct toy_memdev *t = g_new0(struct toy_memdev, 1);
    struct pci_model_options o = {
        .vendor_id = PTNETMAP_PCI_VENDOR_ID,
        .device_id = PTNETMAP_PCI_DEVICE_ID,
        .class_code = 0x00ff00,
        .bars = {[PTNETMAP_IO_PCI_BAR] = {.size = PTNET_MDEV_IO_BAR_BYTES, .is_io = true},
                 [PTNETMAP_MEM_PCI_BAR] = {.size = MEM_BYTES,
                                           .memory = has_memory ? memory->host : NULL,
                                           .memory_size = MEM_BYTES}},
    };

    t->regs[PTNET_MDEV_IO_MEMSIZE_LO / 4] = MEM_BYTES;
    t->regs[PTNET_MDEV_IO_MEMID / 4] = id;
    t->regs[PTNET_MDEV_IO_BUF_POOL_OFS / 4] = BUF_OFS;
    t->regs[PTNET_MDEV_IO_BUF_POOL_OBJNUM / 4] = N_BUFS;
    t->regs[PTNET_MDEV_IO_BUF_POOL_OBJSZ / 4] = BUF_BYTES;
    *out = t;
    return pci_model_new(&ops, t, &o, NULL);
}

static struct netmap_if *nifp(void)
{
    return (void *)(memory->host + NIFP_OFS);
}

static struct netmap_ring *ring_at(unsigned i)
{
    return (void *)(memory->host + (uint64_t)RING_OFS * (i + 1));
}

/* One host ring per direction between the others, not bound. */
static void fill_memory(void)
{
    const unsigned at[N_RINGS] = {0, 1, N_TX + 1};

    nifp()->ni_tx_rings = N_TX;
    nifp()->ni_rx_rings = N_RX;
    nifp()->ni_host_tx_rings = nifp()->ni_host_rx_rings = 1;
    for (unsigned i = 0; i < N_RINGS; i++) {
        nifp()->ring_ofs[at[i]] = (int64_t)RING_OFS * (i + 1) - NIFP_OFS;
        ring_at(i)->num_slots = i < N_TX ? TX_SLOTS : RX_SLOTS;
        ring_at(i)->nr_buf_size = BUF_BYTES;
        ring_at(i)->buf_ofs = BUF_OFS - (int64_t)RING_OFS * (i + 1);
    }
}

/* ---- the bed ---- */

/* "p" or "m", R or W, the register, what was written: "pW38=1000 ". */
static void trace_access(void *data, const struct machine_access *a)
{
    struct pci_device *memdev =
        pci_bus_find_id(bus, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_DEVICE_ID, 0);
    struct pci_device *owners[] = {dev, memdev};

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(owners) && a->space == MACHINE_IO; i++) {
        uint64_t base = owners[i] ? owners[i]->bars[0].base : 0;
        if (base != 0 && a->addr >= base && a->addr - base < owners[i]->bars[0].size) {
            g_string_append_printf(trace, "%c%c%02x", i == 0 ? 'p' : 'm', a->is_write ? 'W' : 'R',
                                   (unsigned)(a->addr - base));
            if (a->is_write) {
                g_string_append_printf(trace, "=%" PRIx64, a->value);
            }
            g_string_append_c(trace, ' ');
        }
    }
}

static void expect_trace(const char *expected)
{
    assert_string_equal(trace->str, expected);
    g_string_set_size(trace, 0);
}

static void scan(void)
{
    g_autoptr(GError) error = NULL;

    bus = pci_bus_new(machine);
    assert_true(pci_bus_scan(bus, &error));
    dev = pci_bus_find_id(bus, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_NETIF_ID, 0);
    assert_non_null(dev);
}

static void open_bare(unsigned n_vectors)
{
    g_autoptr(GError) error = NULL;

    machine = sim_machine_new();
    trace = g_string_new(NULL);
    shared = guest_region_new("shared", SHARED_BYTES, GUEST_HUGEPAGES_OFF, &error);
    memory = guest_region_new("netmap", MEM_BYTES, GUEST_HUGEPAGES_OFF, &error);
    assert_true(sim_machine_add_memory(machine, shared, SHARED_GPA, &error));
    fill_memory();
    assert_true(sim_machine_add(machine, new_ptnet(n_vectors), 3, &error));
    options = (struct ptnet_driver_options){.shared = shared};
}

static int open_all(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    open_bare(N_RINGS);
    assert_true(sim_machine_add(machine, new_memdev(MEM_ID, true, &toy_mem), 4, &error));
    scan();
    machine->trace = trace_access;
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    pci_bus_free(bus);
    machine_free(machine);
    g_free(toy);
    guest_region_free(shared);
    guest_region_free(memory);
    g_string_free(trace, TRUE);
    return 0;
}

static struct ptnet_driver *new_driver(void)
{
    g_autoptr(GError) error = NULL;
    struct ptnet_driver *d = ptnet_driver_new(dev, &options, &error);

    if (!d) {
        fail_msg("%s", error->message);
    }
    return d;
}

static void start(struct ptnet_driver *d)
{
    g_autoptr(GError) error = NULL;

    if (!ptnet_driver_start(d, &error)) {
        fail_msg("%s", error->message);
    }
}

static void expect_error(GError **error, GQuark domain, int code, const char *text)
{
    assert_non_null(*error);
    assert_int_equal((*error)->domain, domain);
    assert_int_equal((*error)->code, code);
    if (!strstr((*error)->message, text)) {
        fail_msg("'%s' is not in '%s'", text, (*error)->message);
    }
    g_clear_error(error);
}

/* The probe fails with this, and leaves nothing behind. */
static void expect_no_driver(int code, const char *text)
{
    GError *error = NULL;

    assert_null(ptnet_driver_new(dev, &options, &error));
    expect_error(&error, PTNET_ERROR, code, text);
    assert_int_equal(guest_region_allocated(shared), 0);
    assert_int_equal(csb_gpa(PTNET_IO_CSB_GH_BAH), 0);
    assert_int_equal(csb_gpa(PTNET_IO_CSB_HG_BAH), 0);
}

/* ---- what is done, in which order ---- */

#define REMOVAL "pW04=2 pR04 pW34=0 pW38=0 pW3c=0 pW40=0 "

static void the_probe_follows_linux_order(void **state)
{
    (void)state;
    struct ptnet_driver *d = new_driver();

    expect_trace("pW00=1 pR00 pR1c pR20 "            /* features, rings */
                 "pW34=70 pW38=0 pW3c=70 pW40=1000 " /* CSB */
                 "pR0c pR08 "                        /* MAC */
                 "pR18 pR24 pR28 pR30 "              /* netmap_if, slots, memory id */
                 "pW2c=c pR2c "                      /* header */
                 "mR08 mR04 mR00 mR60 mR5c mR58 ");  /* memdev */
    assert_int_equal(ptnet_driver_n_tx(d), N_TX);
    assert_int_equal(ptnet_driver_n_rx(d), N_RX);
    assert_memory_equal(ptnet_driver_mac(d), "\x52\x54\x00\xab\xcd\xef", 6);
    assert_int_equal(ptnet_driver_header_bytes(d), 12);
    assert_int_equal(ptnet_driver_features(d), PTNETMAP_F_VNET_HDR);
    ptnet_driver_free(d);
    expect_trace(REMOVAL);
    assert_int_equal(guest_region_allocated(shared), 0);
}

static void starting_and_stopping_follow_the_published_order(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct ptnet_driver *d = new_driver();

    g_string_set_size(trace, 0);
    start(d);
    expect_trace("pR1c pR20 pR24 pR28 pW2c=c pR2c pW04=1 pR04 ");
    assert_false(ptnet_driver_start(d, &error));
    g_clear_error(&error);
    assert_true(ptnet_driver_stop(d, &error));
    expect_trace("pW04=2 pR04 ");
    start(d);
    g_string_set_size(trace, 0);
    ptnet_driver_free(d);
    expect_trace("pW04=2 pR04 " REMOVAL);
}

static void queues_are_found_where_the_host_keeps_them(void **state)
{
    (void)state;
    struct ptnet_driver *d = new_driver();

    start(d);
    for (unsigned i = 0; i < N_RINGS; i++) {
        struct ptnet_queue *q = i < N_TX ? ptnet_driver_tx(d, i) : ptnet_driver_rx(d, i - N_TX);
        uint8_t *csb = shared->host + (csb_gpa(PTNET_IO_CSB_GH_BAH) - SHARED_GPA);
        assert_int_equal(q->index, i);
        assert_int_equal(q->is_tx, i < N_TX);
        assert_ptr_equal(q->ring, ring_at(i));
        assert_ptr_equal(q->buf_base, memory->host + BUF_OFS);
        assert_int_equal(q->buf_size, BUF_BYTES);
        assert_int_equal(q->buf_total, N_BUFS);
        assert_int_equal(q->num_slots, i < N_TX ? TX_SLOTS : RX_SLOTS);
        assert_ptr_equal(q->atok, csb + 64 * i);
        assert_ptr_equal(q->ktoa, csb + 4096 + 64 * i);
        assert_int_equal(q->ring->tail, i < N_TX ? TX_SLOTS - 1 : 0);
        assert_int_equal(q->atok->appl_need_kick, 0); /* poll mode */
        assert_null(q->irq);
    }
    assert_null(ptnet_driver_tx(d, N_TX));
    assert_null(ptnet_driver_rx(d, N_RX));
    ptnet_driver_free(d);
}

static void a_kick_is_a_write_to_the_ring_s_register(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct ptnet_driver *d = new_driver();

    start(d);
    g_string_set_size(trace, 0);
    assert_true(ptnet_txsync(ptnet_driver_tx(d, 1), NAF_FORCE_RECLAIM, &error));
    expect_trace("pW84=0 ");
    assert_true(ptnet_rxsync(ptnet_driver_rx(d, 0), 0, &error));
    expect_trace("pW88=0 ");
    ptnet_driver_free(d);
}

static void a_header_that_is_not_wanted_is_not_asked_for(void **state)
{
    (void)state;
    options.no_vnet_hdr = true;
    struct ptnet_driver *d = new_driver();

    assert_true(g_str_has_prefix(trace->str, "pW00=0 pR00 "));
    assert_non_null(strstr(trace->str, "pW2c=0 pR2c "));
    assert_int_equal(ptnet_driver_header_bytes(d), 0);
    assert_int_equal(ptnet_driver_features(d), 0);
    ptnet_driver_free(d);
}

static void a_guest_that_died_tells_nobody(void **state)
{
    (void)state;
    options.has_interrupts = true;
    options.interrupt_kind = INTERRUPT_MEMORY;
    struct ptnet_driver *d = new_driver();

    start(d);
    uint64_t csb = csb_gpa(PTNET_IO_CSB_GH_BAH), allocated = guest_region_allocated(shared);
    g_string_set_size(trace, 0);
    ptnet_driver_abandon(d);
    expect_trace("");
    assert_int_equal(csb_gpa(PTNET_IO_CSB_GH_BAH), csb);
    assert_int_equal(guest_region_allocated(shared), allocated); /* the host uses it */
    assert_true(pci_model_msix_enabled(toy->m));
    d = new_driver(); /* the guest's next life */
    start(d);
    assert_int_not_equal(csb_gpa(PTNET_IO_CSB_GH_BAH), csb);
    ptnet_driver_free(d);
    assert_int_equal(guest_region_allocated(shared), allocated);
}

/* ---- interrupts ---- */

static void expect_vectors(struct ptnet_driver *d)
{
    for (unsigned i = 0; i < N_RINGS; i++) {
        pci_model_raise(toy->m, i);
        for (unsigned k = 0; k < N_RINGS; k++) {
            struct ptnet_queue *q = k < N_TX ? ptnet_driver_tx(d, k) : ptnet_driver_rx(d, k - N_TX);
            assert_int_equal(interrupt_take(q->irq), k == i);
        }
    }
}

static void each_ring_has_its_vector(void **state)
{
    (void)state;
    options.has_interrupts = true;
    for (unsigned kind = 0; kind < 2; kind++) {
        options.interrupt_kind = kind == 0 ? INTERRUPT_MEMORY : INTERRUPT_EVENTFD;
        options.bridge = kind == 0 ? NULL : sim_machine_bridge(machine);
        struct ptnet_driver *d = new_driver();
        start(d);
        assert_int_equal(ptnet_driver_tx(d, 0)->atok->appl_need_kick, 1);
        expect_vectors(d);
        ptnet_driver_free(d);
        assert_false(pci_model_msix_enabled(toy->m));
        assert_int_equal(guest_region_allocated(shared), 0);
    }
    assert_int_equal(sim_machine_bridge(machine)->n_used, 0);
}

static void a_waiter_sleeps_until_its_vector(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    options.has_interrupts = true;
    options.interrupt_kind = INTERRUPT_EVENTFD;
    options.bridge = sim_machine_bridge(machine);
    struct ptnet_driver *d = new_driver();
    start(d);
    struct ptnet_queue *rx = ptnet_driver_rx(d, 0);
    assert_false(ptnet_wait(rx, 1, 1, &error));
    g_clear_error(&error);
    assert_int_equal(rx->atok->appl_need_kick, 1);
    rx->ktoa->hwtail = 1;
    assert_true(ptnet_wait(rx, 1, 1, &error)); /* no interrupt needed */
    rx->ring->head = rx->ring->cur = 1;
    assert_true(ptnet_rxsync(rx, 0, &error));
    pci_model_raise(toy->m, 0); /* another ring's */
    assert_false(ptnet_wait(rx, 1, 1, &error));
    g_clear_error(&error);
    assert_int_equal(rx->n_interrupts, 0);
    ptnet_driver_free(d);
}

static void interrupts_that_cannot_be_are_refused(void **state)
{
    (void)state;
    options.has_interrupts = true;
    options.interrupt_kind = INTERRUPT_LINE;
    expect_no_driver(PTNET_ERROR_INVALID, "MSI-X only");
    options.interrupt_kind = INTERRUPT_EVENTFD;
    expect_no_driver(PTNET_ERROR_INVALID, "interrupt bridge");
}

static void as_many_vectors_as_rings_are_required(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    open_bare(N_RINGS - 1);
    assert_true(sim_machine_add(machine, new_memdev(MEM_ID, true, &toy_mem), 4, &error));
    scan();
    options.has_interrupts = true;
    options.interrupt_kind = INTERRUPT_MEMORY;
    expect_no_driver(PTNET_ERROR_DEVICE, "2 MSI-X vectors for 3 rings");
    close_all(NULL);
}

/* ---- memory ---- */

static void memory_shown_elsewhere_is_used_where_it_is_shown(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    uint8_t *again = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);

    options.memory = guest_region_new_over("again", again, MEM_BYTES, memory->fd, &error);
    struct ptnet_driver *d = new_driver();
    assert_ptr_equal(ptnet_driver_tx(d, 0)->ring, again + RING_OFS);
    ptnet_driver_free(d);
    guest_region_free(options.memory);
    options.memory = guest_region_new_over("half", again, MEM_BYTES / 2, memory->fd, &error);
    expect_no_driver(PTNET_ERROR_MEMORY, "memory 'half' has 32768 bytes");
    guest_region_free(options.memory);
    munmap(again, MEM_BYTES);
}

static void the_memdev_is_found_by_its_id(void **state)
{
    g_autoptr(GError) error = NULL;
    struct toy_memdev *other;

    (void)state;
    open_bare(N_RINGS);
    scan();
    expect_no_driver(PTNET_ERROR_MEMORY, "allocator 5 (0 on the bus have other ids)");
    assert_true(sim_machine_add(machine, new_memdev(MEM_ID + 1, false, &other), 4, &error));
    assert_true(pci_bus_scan(bus, &error));
    expect_no_driver(PTNET_ERROR_MEMORY, "allocator 5 (1 on the bus have other ids)");
    assert_true(sim_machine_add(machine, new_memdev(MEM_ID, true, &toy_mem), 5, &error));
    assert_true(pci_bus_scan(bus, &error));
    ptnet_driver_free(new_driver());
    close_all(NULL);
}

static void memory_that_is_trapped_is_no_memory(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    open_bare(N_RINGS);
    assert_true(sim_machine_add(machine, new_memdev(MEM_ID, false, &toy_mem), 4, &error));
    scan();
    expect_no_driver(PTNET_ERROR_MEMORY, "cannot be mapped: say which shared memory");
    options.memory = memory;
    ptnet_driver_free(new_driver());
    close_all(NULL);
}

static void a_memdev_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    toy_mem->regs[PTNET_MDEV_IO_MEMSIZE_HI / 4] = 1;
    expect_no_driver(PTNET_ERROR_MEMORY, "4295032832 bytes, in a BAR of 65536");
    toy_mem->regs[PTNET_MDEV_IO_MEMSIZE_HI / 4] = 0;
    toy_mem->regs[PTNET_MDEV_IO_BUF_POOL_OBJNUM / 4] = N_BUFS + 1;
    expect_no_driver(PTNET_ERROR_DEVICE, "65 buffers of 512 bytes lie at 32768");
    toy_mem->regs[PTNET_MDEV_IO_BUF_POOL_OBJNUM / 4] = UINT32_MAX;
    toy_mem->regs[PTNET_MDEV_IO_BUF_POOL_OBJSZ / 4] = UINT32_MAX;
    toy_mem->regs[PTNET_MDEV_IO_BUF_POOL_OFS / 4] = UINT32_MAX;
    expect_no_driver(PTNET_ERROR_DEVICE, "buffers");
    toy_mem->regs[PTNET_MDEV_IO_BUF_POOL_OFS / 4] = BUF_OFS;
    toy_mem->regs[PTNET_MDEV_IO_BUF_POOL_OBJSZ / 4] = 0;
    expect_no_driver(PTNET_ERROR_DEVICE, "buffers of 0 bytes");
}

static void a_netmap_if_that_contradicts_the_registers_is_refused(void **state)
{
    static const uint32_t bad_places[] = {MEM_BYTES, MEM_BYTES - 48, UINT32_MAX, NIFP_OFS + 4};

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_places); i++) {
        toy->regs[PTNET_IO_NIFP_OFS / 4] = bad_places[i];
        expect_no_driver(PTNET_ERROR_DEVICE, "the netmap_if cannot lie at");
    }
    toy->regs[PTNET_IO_NIFP_OFS / 4] = NIFP_OFS;
    nifp()->ni_tx_rings = N_TX + 1;
    expect_no_driver(PTNET_ERROR_DEVICE, "3 tx, 1 host tx and 1 rx rings");
    nifp()->ni_tx_rings = N_TX;
    nifp()->ni_rx_rings = UINT32_MAX;
    expect_no_driver(PTNET_ERROR_DEVICE, "4294967295 rx rings");
    nifp()->ni_rx_rings = N_RX;
    nifp()->ni_host_tx_rings = UINT32_MAX; /* the rx rings would lie outside */
    expect_no_driver(PTNET_ERROR_DEVICE, "4294967295 host tx");
}

static void rings_that_contradict_the_registers_are_refused(void **state)
{
    int64_t *const offset = &nifp()->ring_ofs[1];
    const int64_t good = *offset;
    static const int64_t bad[] = {MEM_BYTES, -NIFP_OFS - 8,     INT64_MIN,
                                  INT64_MAX, RING_OFS * 2 - 60, MEM_BYTES - NIFP_OFS - 256};

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        *offset = bad[i];
        expect_no_driver(PTNET_ERROR_DEVICE, "ring 1 cannot lie at");
    }
    *offset = 0;
    expect_no_driver(PTNET_ERROR_DEVICE, "ring 1 is not bound");
    *offset = good;
    ring_at(1)->num_slots = TX_SLOTS + 1;
    expect_no_driver(PTNET_ERROR_DEVICE, "ring 1 says it has 9 slots");
    ring_at(1)->num_slots = TX_SLOTS;
    ring_at(1)->nr_buf_size = BUF_BYTES * 2;
    expect_no_driver(PTNET_ERROR_DEVICE, "buffers of 1024 bytes");
    ring_at(1)->nr_buf_size = BUF_BYTES;
    ring_at(1)->buf_ofs = INT64_MIN;
    expect_no_driver(PTNET_ERROR_DEVICE, "at -9223372036854775808");
    ring_at(1)->buf_ofs = BUF_OFS - RING_OFS * 2 + 8;
    expect_no_driver(PTNET_ERROR_DEVICE, "and 24576");
}

/* ---- the device ---- */

static void numbers_that_cannot_be_are_refused(void **state)
{
    (void)state;
    toy->regs[PTNET_IO_NUM_TX_RINGS / 4] = 0;
    expect_no_driver(PTNET_ERROR_DEVICE, "0 tx and 1 rx rings (32 at most)");
    toy->regs[PTNET_IO_NUM_TX_RINGS / 4] = 32;
    expect_no_driver(PTNET_ERROR_DEVICE, "32 tx and 1 rx rings (32 at most)");
    toy->regs[PTNET_IO_NUM_TX_RINGS / 4] = UINT32_MAX;
    expect_no_driver(PTNET_ERROR_DEVICE, "4294967295 tx");
    toy->regs[PTNET_IO_NUM_TX_RINGS / 4] = N_TX;
    toy->regs[PTNET_IO_NUM_RX_SLOTS / 4] = 1;
    expect_no_driver(PTNET_ERROR_DEVICE, "8 tx and 1 rx slots");
    toy->regs[PTNET_IO_NUM_RX_SLOTS / 4] = UINT32_MAX;
    expect_no_driver(PTNET_ERROR_DEVICE, "ring 2 cannot lie at");
}

static void an_option_that_cannot_be_is_refused(void **state)
{
    (void)state;
    GError *error = NULL;
    struct pci_device *memdev =
        pci_bus_find_id(bus, PTNETMAP_PCI_VENDOR_ID, PTNETMAP_PCI_DEVICE_ID, 0);

    assert_null(ptnet_driver_new(memdev, &options, &error));
    expect_error(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "is 1b36:000c, not ptnet");
    options.shared = NULL;
    assert_null(ptnet_driver_new(dev, &options, &error));
    expect_error(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "shared memory");
    options.shared = memory; /* placed nowhere */
    assert_null(ptnet_driver_new(dev, &options, &error));
    expect_error(&error, PTNET_ERROR, PTNET_ERROR_INVALID, "shared memory");
    expect_trace("");
}

static void a_command_that_fails_says_why(void **state)
{
    (void)state;
    GError *error = NULL;
    struct ptnet_driver *d = new_driver();

    toy->create_status = ENXIO;
    assert_false(ptnet_driver_start(d, &error));
    expect_error(&error, PTNET_ERROR, PTNET_ERROR_DEVICE, "PTCTL CREATE: status 6 (No such device");
    toy->create_status = 0;
    start(d);
    toy->delete_status = EBUSY;
    assert_false(ptnet_driver_stop(d, &error));
    expect_error(&error, PTNET_ERROR, PTNET_ERROR_DEVICE, "PTCTL DELETE: status 16");
    /* what the host may still use is not given back */
    ptnet_driver_free(d);
    assert_int_equal(guest_region_allocated(shared), 8192);
}

static void rings_that_changed_since_the_probe_are_refused(void **state)
{
    (void)state;
    GError *error = NULL;
    struct ptnet_driver *d = new_driver();

    toy->regs[PTNET_IO_NUM_RX_SLOTS / 4] = 2 * RX_SLOTS;
    assert_false(ptnet_driver_start(d, &error));
    expect_error(&error, PTNET_ERROR, PTNET_ERROR_DEVICE, "register 0x28 reads 8, not 4");
    ptnet_driver_free(d);
}

static void the_header_length_that_reads_back_counts(void **state)
{
    (void)state;
    toy->is_header_fixed = true;
    toy->regs[PTNET_IO_VNET_HDR_LEN / 4] = 10;
    struct ptnet_driver *d = new_driver();
    assert_int_equal(ptnet_driver_header_bytes(d), 10);
    ptnet_driver_free(d);
    toy->regs[PTNET_IO_VNET_HDR_LEN / 4] = 11;
    expect_no_driver(PTNET_ERROR_DEVICE, "VNET_HDR_LEN reads 11");
}

#define on_bed(test) cmocka_unit_test_setup_teardown(test, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_bed(the_probe_follows_linux_order),
        on_bed(starting_and_stopping_follow_the_published_order),
        on_bed(queues_are_found_where_the_host_keeps_them),
        on_bed(a_kick_is_a_write_to_the_ring_s_register),
        on_bed(a_header_that_is_not_wanted_is_not_asked_for),
        on_bed(a_guest_that_died_tells_nobody),
        on_bed(each_ring_has_its_vector),
        on_bed(a_waiter_sleeps_until_its_vector),
        on_bed(interrupts_that_cannot_be_are_refused),
        cmocka_unit_test(as_many_vectors_as_rings_are_required),
        on_bed(memory_shown_elsewhere_is_used_where_it_is_shown),
        cmocka_unit_test(the_memdev_is_found_by_its_id),
        cmocka_unit_test(memory_that_is_trapped_is_no_memory),
        on_bed(a_memdev_that_contradicts_itself_is_refused),
        on_bed(a_netmap_if_that_contradicts_the_registers_is_refused),
        on_bed(rings_that_contradict_the_registers_are_refused),
        on_bed(numbers_that_cannot_be_are_refused),
        on_bed(an_option_that_cannot_be_is_refused),
        on_bed(a_command_that_fails_says_why),
        on_bed(rings_that_changed_since_the_probe_are_refused),
        on_bed(the_header_length_that_reads_back_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
