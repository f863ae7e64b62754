/*
 * Two ptnets on two machines without QEMU, over the ends of a pipe or two ports of a VALE switch,
 * with numbered frames whose every byte is known.
 */
#ifndef RINGLAB_TEST_PTNET_SIM_H
#define RINGLAB_TEST_PTNET_SIM_H

#include "harness/sim_ptnet.h"
#include "models/vale/vale.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum {
    SIM_SHARED_BYTES = 1 << 20,
    SIM_MAX_BURST = 64,
    SIM_ROOM = 70000, /* bytes, per received frame */
};
#define SIM_SHARED_GPA UINT64_C(0x500000000)

struct sim_bed_options {
    bool is_pipe; /* else VALE */
    bool is_stepped;
    bool is_direct;        /* the kernel loops run in whoever kicks */
    unsigned rings, slots; /* 0: 1, 256 */
};

struct sim_bed {
    struct sim_bed_options options;
    struct nm_host *host;
    struct machine *machines[2];
    struct guest_region *regions[2];
    struct pci_bus *buses[2];
    struct sim_ptnet sides[2];
    uint8_t *room;
};

static inline void sim_bed_rescan(struct sim_bed *bed, unsigned side)
{
    g_autoptr(GError) error = NULL;

    if (!bed->buses[side]) {
        bed->buses[side] = pci_bus_new(bed->machines[side]);
    }
    if (!pci_bus_scan(bed->buses[side], &error)) {
        fail_msg("%s", error->message);
    }
}

static inline void sim_bed_open_side(struct sim_bed *bed, unsigned side, const char *port)
{
    struct ptnet_options options = {.port = port,
                                    .mac = {2, 0, 0, 0, 0, (uint8_t)(side + 1)},
                                    .is_stepped = bed->options.is_stepped,
                                    .kloop_direct_tx = bed->options.is_direct,
                                    .kloop_direct_rx = bed->options.is_direct};
    g_autoptr(GError) error = NULL;

    bed->machines[side] = sim_machine_new();
    bed->regions[side] = guest_region_new("shared", SIM_SHARED_BYTES, GUEST_HUGEPAGES_OFF, &error);
    if (!bed->regions[side] ||
        !sim_machine_add_memory(bed->machines[side], bed->regions[side], SIM_SHARED_GPA, &error) ||
        !sim_ptnet_add(bed->machines[side], bed->host, &options, &bed->sides[side], &error)) {
        fail_msg("%s", error->message);
    }
    sim_bed_rescan(bed, side);
}

static inline void sim_bed_open(struct sim_bed *bed, const struct sim_bed_options *options)
{
    const unsigned rings = options->rings ? options->rings : 1;
    const unsigned slots = options->slots ? options->slots : 256;

    struct nm_nic_options nic = {.name = "x0"}; /* what pipes hang on */

    *bed = (struct sim_bed){.options = *options, .host = nm_host_new(NULL, NULL)};
    assert_true(bed->host && nm_nic_new(bed->host, &nic, NULL));
    bed->room = g_malloc((size_t)SIM_MAX_BURST * SIM_ROOM);
    for (unsigned side = 0; side < 2; side++) {
        g_autofree char *port =
            g_strdup_printf("%s@conf:rings=%u,slots=%u",
                            options->is_pipe ? (side == 0 ? "netmap:x0{1" : "netmap:x0}1")
                                             : (side == 0 ? "vale0:a" : "vale0:b"),
                            rings, slots);
        sim_bed_open_side(bed, side, port);
    }
}

static inline void sim_bed_close(struct sim_bed *bed)
{
    for (unsigned side = 0; side < 2; side++) {
        sim_ptnet_close(&bed->sides[side]);
        pci_bus_free(bed->buses[side]);
        machine_free(bed->machines[side]);
        guest_region_free(bed->regions[side]);
    }
    nm_host_free(bed->host);
    g_free(bed->room);
}

/* NULL: poll mode, no header. */
static inline void sim_bed_start_side(struct sim_bed *bed, unsigned side,
                                      const struct ptnet_driver_options *wanted)
{
    struct ptnet_driver_options options =
        wanted ? *wanted : (struct ptnet_driver_options){.no_vnet_hdr = true};
    g_autoptr(GError) error = NULL;

    options.shared = bed->regions[side];
    options.bridge = sim_machine_bridge(bed->machines[side]);
    if (!sim_ptnet_open(&bed->sides[side], bed->buses[side], &options, &error)) {
        fail_msg("side %u: %s", side, error->message);
    }
}

static inline void sim_bed_start(struct sim_bed *bed, const struct ptnet_driver_options *wanted)
{
    sim_bed_start_side(bed, 0, wanted);
    sim_bed_start_side(bed, 1, wanted);
}

static inline struct ptnet_queue *sim_tx(struct sim_bed *bed, unsigned side)
{
    return ptnet_driver_tx(bed->sides[side].driver, 0);
}

static inline struct ptnet_queue *sim_rx(struct sim_bed *bed, unsigned side)
{
    return ptnet_driver_rx(bed->sides[side].driver, 0);
}

/* Passes of both kloops, in turn, as long as something calls for them. */
static inline void sim_step(struct sim_bed *bed)
{
    unsigned n = 0;
    bool was_called_for;

    do {
        was_called_for = ptnet_step(bed->sides[0].ptnet);
        was_called_for |= ptnet_step(bed->sides[1].ptnet);
        assert_in_range(n++, 0, 20);
    } while (was_called_for);
}

static inline uint64_t sim_sum(const uint64_t *values)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 64; i++) {
        sum += values[i];
    }
    return sum;
}

static inline uint64_t sim_kicks(struct sim_bed *bed, unsigned side)
{
    struct ptnet_stats s = ptnet_stats(bed->sides[side].ptnet);

    return sim_sum(s.kicks);
}

static inline uint64_t sim_interrupts(struct sim_bed *bed, unsigned side)
{
    struct ptnet_stats s = ptnet_stats(bed->sides[side].ptnet);

    return sim_sum(s.interrupts);
}

/* ---- numbered frames: from side to the other, 60 to 1513 bytes ---- */

static inline uint32_t sim_frame_len(uint32_t number)
{
    return 60 + number * 2654435761u % 1454;
}

static inline void sim_frame_fill(unsigned from, uint32_t number, uint8_t *data, uint32_t len)
{
    const uint8_t head[14] = {
        2, 0, 0, 0, 0, (uint8_t)(2 - from), 2, 0, 0, 0, 0, (uint8_t)(from + 1), 0x88, 0xb5};

    for (uint32_t i = 0; i < len; i++) {
        data[i] = i < sizeof(head) ? head[i] : (uint8_t)(number * 31 + i * 7);
    }
    memcpy(data + sizeof(head), &number, sizeof(number));
}

/* Numbers first .. first + n - 1; how many were taken. */
static inline unsigned sim_try_send_on(struct ptnet_queue *q, unsigned side, uint32_t first,
                                       unsigned n)
{
    struct ptnet_frame frames[SIM_MAX_BURST];
    g_autoptr(GError) error = NULL;

    g_autofree uint8_t *bytes = g_malloc((size_t)n * 2048);
    for (unsigned i = 0; i < n; i++) {
        frames[i] = (struct ptnet_frame){bytes + (size_t)i * 2048, sim_frame_len(first + i), {0}};
        sim_frame_fill(side, first + i, frames[i].data, frames[i].len);
    }
    unsigned done = ptnet_tx_burst(q, frames, n, &error);
    if (error) {
        fail_msg("%s", error->message);
    }
    return done;
}

static inline unsigned sim_try_send(struct sim_bed *bed, unsigned side, uint32_t first, unsigned n)
{
    return sim_try_send_on(sim_tx(bed, side), side, first, n);
}

static inline void sim_send(struct sim_bed *bed, unsigned side, uint32_t first, unsigned n)
{
    assert_int_equal(sim_try_send(bed, side, first, n), n);
}

static inline unsigned sim_receive_on(struct sim_bed *bed, struct ptnet_queue *q,
                                      struct ptnet_frame *frames, unsigned n)
{
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < n; i++) {
        frames[i] = (struct ptnet_frame){bed->room + (size_t)i * SIM_ROOM, SIM_ROOM, {0}};
    }
    unsigned done = ptnet_rx_burst(q, frames, n, &error);
    if (error) {
        fail_msg("%s", error->message);
    }
    return done;
}

static inline void sim_check(unsigned from, uint32_t number, const struct ptnet_frame *f)
{
    uint8_t expected[2048];

    assert_int_equal(f->len, sim_frame_len(number));
    sim_frame_fill(from, number, expected, f->len);
    assert_memory_equal(f->data, expected, f->len);
}

/* Exactly these have arrived at `side`, or at least these first. */
static inline void sim_expect(struct sim_bed *bed, unsigned side, uint32_t first, unsigned n)
{
    struct ptnet_frame frames[SIM_MAX_BURST];

    assert_int_equal(sim_receive_on(bed, sim_rx(bed, side), frames, n), n);
    for (unsigned i = 0; i < n; i++) {
        sim_check(1 - side, first + i, &frames[i]);
    }
}

#endif
