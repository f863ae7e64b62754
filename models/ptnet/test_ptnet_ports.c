/*
 * ptnet over real ports: frames between two guests through a VALE switch and through a pipe, vnet
 * header negotiation, and as many rings as there are kicks.
 */
#include "models/abi/pci.h"
#include "models/abi/ptnet.h"
#include "models/netmap/nm_kern.h"
#include "models/ptnet/ptnet.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { RAM_BYTES = 0x10000, RAM_GPA = 0x100000, FRAME_BYTES = 60 };

struct guest {
    struct pci_model *model;
    struct ptnet *pt;
    struct pci_dma *dma;
    struct netmap_if *nifp;
    struct nm_csb_atok *atok;
    struct nm_csb_ktoa *ktoa;
    unsigned n_tx;
    _Alignas(4096) uint8_t ram[RAM_BYTES];
};

struct bed {
    struct nm_host *host;
    struct guest guests[2];
};

static uint32_t reg_read(struct guest *g, unsigned offset)
{
    return (uint32_t)pci_model_bar_read(g->model, PTNETMAP_IO_PCI_BAR, offset, 4);
}

static void reg_write(struct guest *g, unsigned offset, uint32_t value)
{
    pci_model_bar_write(g->model, PTNETMAP_IO_PCI_BAR, offset, value, 4);
}

/* A stepped ptnet whose CSB is at the start of its own memory; not yet created. */
static struct guest *boot(struct bed *bed, unsigned i, const char *port)
{
    struct guest *g = &bed->guests[i];
    struct ptnet_options options = {.port = port, .is_stepped = true};
    GError *error = NULL;

    g->model = ptnet_new(bed->host, &options, &error);
    assert_null(error);
    g->pt = ptnet_of(g->model);
    g->dma = pci_dma_new();
    pci_dma_set(g->dma, &(struct pci_dma_range){RAM_GPA, RAM_BYTES, g->ram}, 1, NULL, NULL);
    pci_model_set_dma(g->model, g->dma);
    g->nifp = nm_file_if(ptnet_file(g->pt));
    g->n_tx = reg_read(g, PTNET_IO_NUM_TX_RINGS);
    g->atok = (void *)g->ram;
    g->ktoa = (void *)(g->ram + 0x1000);
    reg_write(g, PTNET_IO_CSB_GH_BAL, RAM_GPA);
    reg_write(g, PTNET_IO_CSB_HG_BAL, RAM_GPA + 0x1000);
    return g;
}

static void create(struct guest *g)
{
    reg_write(g, PTNET_IO_PTCTL, PTNETMAP_PTCTL_CREATE);
    assert_int_equal(reg_read(g, PTNET_IO_PTCTL), 0);
    ptnet_step(g->pt);
}

static void publish(struct guest *g, unsigned ring, uint32_t head)
{
    atomic_store(&g->atok[ring].cur, head);
    atomic_store(&g->atok[ring].head, head);
    if (atomic_load(&g->ktoa[ring].kern_need_kick))
        reg_write(g, PTNET_IO_KICK_BASE + 4 * ring, 0);
}

/* Returns the index of the buffer it was sent from. */
static uint32_t send_frame(struct guest *g, unsigned ring, const void *frame, uint16_t len)
{
    struct netmap_ring *r = nm_txring(g->nifp, ring);
    uint32_t head = g->atok[ring].head;
    struct netmap_slot *slot = &r->slot[head];
    uint32_t buf_idx = slot->buf_idx;

    memcpy(nm_buf(r, buf_idx), frame, len);
    slot->len = len;
    slot->flags = 0;
    publish(g, ring, nm_ring_next(r, head));
    return buf_idx;
}

/* Bytes of the next frame, 0: none; its buffer's index. */
static uint16_t receive_frame(struct guest *g, unsigned ring, void *frame, uint32_t *buf_idx)
{
    struct netmap_ring *r = nm_rxring(g->nifp, ring);
    unsigned entry = g->n_tx + ring;
    uint32_t head = g->atok[entry].head;

    if (head == g->ktoa[entry].hwtail)
        return 0;
    uint16_t len = r->slot[head].len;
    *buf_idx = r->slot[head].buf_idx;
    memcpy(frame, nm_buf(r, *buf_idx), len);
    publish(g, entry, nm_ring_next(r, head));
    return len;
}

static void make_frame(uint8_t *frame, uint8_t to, uint8_t from, uint8_t fill)
{
    memset(frame, fill, FRAME_BYTES);
    memset(frame, 0, 12);
    frame[0] = frame[6] = 2;
    frame[5] = to;
    frame[11] = from;
    if (to == 0xff)
        memset(frame, 0xff, 6);
}

static void frames_cross_a_switch_between_two_guests(void **state)
{
    struct bed *bed = *state;
    struct guest *a = boot(bed, 0, "vale0:a"), *b = boot(bed, 1, "vale0:b");
    uint8_t sent[FRAME_BYTES], got[2048];
    uint32_t index = 0;

    create(a);
    create(b);
    for (uint8_t i = 0; i < 200; i++) {
        make_frame(sent, 0xff, 1, i);
        send_frame(a, 0, sent, FRAME_BYTES);
        while (ptnet_step(a->pt) | ptnet_step(b->pt)) {
        }
        assert_int_equal(receive_frame(b, 0, got, &index), FRAME_BYTES);
        assert_memory_equal(got, sent, FRAME_BYTES);
        make_frame(sent, 1, 2, i);
        send_frame(b, 0, sent, FRAME_BYTES);
        while (ptnet_step(a->pt) | ptnet_step(b->pt)) {
        }
        assert_int_equal(receive_frame(a, 0, got, &index), FRAME_BYTES);
        assert_memory_equal(got, sent, FRAME_BYTES);
    }
    assert_int_equal(receive_frame(a, 0, got, &index), 0);
    assert_int_equal(receive_frame(b, 0, got, &index), 0);
}

static void frames_cross_a_pipe_without_being_copied(void **state)
{
    struct bed *bed = *state;
    struct guest *a = boot(bed, 0, "vale0:p{1"), *b = boot(bed, 1, "vale0:p}1");
    uint8_t sent[FRAME_BYTES], got[2048];
    uint32_t index = 0;

    assert_int_equal(reg_read(a, PTNET_IO_HOSTMEMID), reg_read(b, PTNET_IO_HOSTMEMID));
    create(a);
    create(b);
    for (unsigned i = 0; i < 300; i++) {
        make_frame(sent, 9, 1, (uint8_t)i);
        uint32_t from = send_frame(a, 0, sent, FRAME_BYTES);
        while (ptnet_step(a->pt) | ptnet_step(b->pt)) {
        }
        assert_int_equal(receive_frame(b, 0, got, &index), FRAME_BYTES);
        assert_memory_equal(got, sent, FRAME_BYTES);
        assert_int_equal(index, from);
    }
}

static void an_address_in_a_slot_is_not_followed_into_the_host(void **state)
{
    struct bed *bed = *state;
    struct guest *a = boot(bed, 0, "vale0:a"), *b = boot(bed, 1, "vale0:b");
    uint8_t secret[FRAME_BYTES], got[2048];
    uint32_t index = 0;

    create(a);
    create(b);
    make_frame(secret, 0xff, 1, 0x99);
    struct netmap_slot *slot = &nm_txring(a->nifp, 0)->slot[0];
    slot->flags = NS_INDIRECT;
    slot->len = FRAME_BYTES;
    slot->ptr = (uintptr_t)secret;
    publish(a, 0, 1);
    while (ptnet_step(a->pt) | ptnet_step(b->pt)) {
    }
    assert_int_equal(a->ktoa[0].hwcur, 1);
    assert_int_equal(receive_frame(b, 0, got, &index), 0);
    send_frame(a, 0, secret, FRAME_BYTES);
    while (ptnet_step(a->pt) | ptnet_step(b->pt)) {
    }
    assert_int_equal(receive_frame(b, 0, got, &index), FRAME_BYTES);
}

static void a_header_is_offered_and_each_length_can_be_had(void **state)
{
    static const struct {
        uint32_t written, read;
    } rows[] = {{12, 12}, {11, 12}, {10, 10}, {0xffffffff, 10}, {0, 0}, {1, 0}};

    struct bed *bed = *state;
    struct guest *g = boot(bed, 0, "vale0:a");
    reg_write(g, PTNET_IO_PTFEAT, 0xffffffff);
    assert_int_equal(reg_read(g, PTNET_IO_PTFEAT), PTNETMAP_F_VNET_HDR);
    reg_write(g, PTNET_IO_PTFEAT, 0);
    assert_int_equal(reg_read(g, PTNET_IO_PTFEAT), 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        reg_write(g, PTNET_IO_VNET_HDR_LEN, rows[i].written);
        assert_int_equal(reg_read(g, PTNET_IO_VNET_HDR_LEN), rows[i].read);
        assert_int_equal(ptnet_file(g->pt)->na->virt_hdr_len, rows[i].read);
    }
}

static void a_header_stays_in_front_of_frames_between_two_that_have_it(void **state)
{
    struct bed *bed = *state;
    struct guest *a = boot(bed, 0, "vale0:a"), *b = boot(bed, 1, "vale0:b");
    uint8_t sent[12 + FRAME_BYTES] = {0}, got[2048];
    uint32_t index = 0;

    reg_write(a, PTNET_IO_VNET_HDR_LEN, 12);
    create(a);
    create(b);
    make_frame(sent + 12, 0xff, 1, 0x5a);
    send_frame(a, 0, sent, sizeof(sent));
    while (ptnet_step(a->pt) | ptnet_step(b->pt)) {
    }
    assert_int_equal(receive_frame(b, 0, got, &index), FRAME_BYTES); /* taken off */
    assert_memory_equal(got, sent + 12, FRAME_BYTES);
    reg_write(b, PTNET_IO_VNET_HDR_LEN, 12);
    send_frame(a, 0, sent, sizeof(sent));
    while (ptnet_step(a->pt) | ptnet_step(b->pt)) {
    }
    assert_int_equal(receive_frame(b, 0, got, &index), sizeof(sent));
    assert_memory_equal(got, sent, sizeof(sent));
}

static void all_thirty_two_kicks_and_vectors_have_their_ring(void **state)
{
    struct bed *bed = *state;
    struct guest *g = boot(bed, 0, "vale0:wide@conf:rings=16");
    uint8_t frame[FRAME_BYTES];

    assert_int_equal(g->n_tx, 16);
    assert_int_equal(reg_read(g, PTNET_IO_NUM_RX_RINGS), 16);
    assert_int_equal(pci_model_config_read(g->model, PCI_MODEL_MSIX_CAPABILITY + 2, 2), 31);
    create(g);
    make_frame(frame, 9, 1, 0);
    for (unsigned i = 0; i < 16; i++) {
        send_frame(g, i, frame, FRAME_BYTES);
        publish(g, 16 + i, 0);
    }
    ptnet_step(g->pt);
    struct ptnet_stats stats = ptnet_stats(g->pt);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(stats.kicks[i], i < 16); /* empty rx rings leave kicks off */
        assert_int_equal(stats.interrupts[i], i < 16);
        if (i < 16)
            assert_int_equal(g->ktoa[i].hwcur, 1);
    }
    reg_write(g, PTNET_IO_KICK_BASE + 4 * 31, 0);
    assert_int_equal(ptnet_stats(g->pt).kicks[31], 1);
}

static void a_port_whose_driver_goes_leaves_a_device_that_does_nothing(void **state)
{
    struct bed *bed = *state;
    struct nm_nic_options nic = {
        .name = "em0", .tx_rings = 2, .rx_rings = 2, .tx_slots = 64, .rx_slots = 64};
    uint8_t frame[FRAME_BYTES];

    assert_true(nm_nic_new(bed->host, &nic, NULL));
    struct guest *g = boot(bed, 0, "netmap:em0");
    create(g);
    make_frame(frame, 9, 1, 0);
    send_frame(g, 1, frame, FRAME_BYTES);
    ptnet_step(g->pt);
    assert_int_equal(g->ktoa[1].hwcur, 1);
    assert_true(nm_nic_remove(bed->host, "em0", NULL));
    send_frame(g, 1, frame, FRAME_BYTES);
    ptnet_step(g->pt);
    assert_int_equal(g->ktoa[1].hwcur, 1);
    assert_int_equal(reg_read(g, PTNET_IO_NUM_TX_RINGS), 2); /* as last known */
    reg_write(g, PTNET_IO_PTCTL, PTNETMAP_PTCTL_DELETE);
    assert_int_equal(reg_read(g, PTNET_IO_PTCTL), 0);
    reg_write(g, PTNET_IO_PTCTL, PTNETMAP_PTCTL_CREATE);
    assert_int_equal(reg_read(g, PTNET_IO_PTCTL), 0); /* only its thread would learn (3.1, 6) */
    assert_false(ptnet_step(g->pt));
}

static int setup(void **state)
{
    void *aligned = NULL;

    assert_int_equal(posix_memalign(&aligned, 4096, sizeof(struct bed)), 0);
    struct bed *bed = memset(aligned, 0, sizeof(struct bed));
    bed->host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);
    assert_non_null(bed->host);
    *state = bed;
    return 0;
}

static int teardown(void **state)
{
    struct bed *bed = *state;

    for (unsigned i = 0; i < 2; i++) {
        pci_model_free(bed->guests[i].model);
        pci_dma_free(bed->guests[i].dma);
    }
    nm_host_free(bed->host);
    free(bed);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(frames_cross_a_switch_between_two_guests),
        TEST(frames_cross_a_pipe_without_being_copied),
        TEST(an_address_in_a_slot_is_not_followed_into_the_host),
        TEST(a_header_is_offered_and_each_length_can_be_had),
        TEST(a_header_stays_in_front_of_frames_between_two_that_have_it),
        TEST(a_port_whose_driver_goes_leaves_a_device_that_does_nothing),
        TEST(all_thirty_two_kicks_and_vectors_have_their_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
