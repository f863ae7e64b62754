/*
 * What the tests of netmap's core share: a host, an interface that is there only for the test (what
 * is sent on ring i arrives on ring i, by copying slots), and short forms of requests.
 */
#ifndef RINGLAB_TEST_NM_BED_H
#define RINGLAB_TEST_NM_BED_H

#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct bed_nic {
    struct nm_adapter up;
    bool is_active;
    int set_active_fails; /* errno */
    int n_syncs[NM_N_TXRX];
    int last_flags[NM_N_TXRX]; /* of the last sync */
    int sync_fails;            /* errno */
    bool echoes;               /* tx slots arrive on the rx ring of the same number */
};

/* Takes everything at once; with `echoes`, the lengths arrive on the rx ring. */
static int bed_txsync(struct nm_kring *kring, int flags)
{
    struct bed_nic *nic = kring->na->port;

    nic->n_syncs[NM_TX]++;
    nic->last_flags[NM_TX] = flags;
    if (nic->sync_fails) {
        return nic->sync_fails;
    }
    while (kring->hwcur != kring->rhead) {
        struct nm_kring *rx = &kring->na->krings[NM_RX][kring->ring_id];
        const uint32_t tail = atomic_load(&rx->hwtail);

        if (nic->echoes && rx->ring) {
            rx->ring->slot[tail].len = kring->ring->slot[kring->hwcur].len;
            atomic_store(&rx->hwtail, nm_next(tail, rx->num_slots));
            rx->notify(rx, 0);
        }
        kring->hwcur = nm_next(kring->hwcur, kring->num_slots);
    }
    atomic_store(&kring->hwtail, nm_prev(kring->hwcur, kring->num_slots));
    return 0;
}

static int bed_rxsync(struct nm_kring *kring, int flags)
{
    struct bed_nic *nic = kring->na->port;

    nic->n_syncs[NM_RX]++;
    nic->last_flags[NM_RX] = flags;
    if (nic->sync_fails) {
        return nic->sync_fails;
    }
    kring->hwcur = kring->rhead;
    return 0;
}

static int bed_krings_created(struct nm_adapter *na)
{
    for (int t = 0; t < NM_N_TXRX; t++) {
        for (unsigned i = 0; i < nm_all_rings(na, t); i++) {
            na->krings[t][i].sync = t == NM_TX ? bed_txsync : bed_rxsync;
        }
    }
    return 0;
}

static int bed_set_active(struct nm_adapter *na, bool active)
{
    struct bed_nic *nic = na->port;

    if (active && nic->set_active_fails) {
        return nic->set_active_fails;
    }
    nic->is_active = active;
    return 0;
}

static void bed_free(struct nm_adapter *na)
{
    nm_adapter_clear(na);
    g_free(na->port);
}

static const struct nm_port_ops bed_ops = {
    .kind = "bed",
    .krings_created = bed_krings_created,
    .set_active = bed_set_active,
    .free = bed_free,
};

/* Of the global allocator: 3 tx rings of 16 slots, 2 rx rings of 8, host rings. */
static inline struct bed_nic *bed_nic_new(struct nm_host *host, const char *name)
{
    struct bed_nic *nic = g_new0(struct bed_nic, 1);
    struct nm_mem *mem = nm_mem_find(host->mems, 1);

    nm_adapter_init(&nic->up, host, &bed_ops, name, mem);
    nm_mem_unref(mem);
    nic->up.port = nic;
    nic->up.flags = NAF_HOST_RINGS | NAF_OFFSETS;
    nic->up.n_rings[NM_TX] = 3;
    nic->up.n_rings[NM_RX] = 2;
    nic->up.n_slots[NM_TX] = 16;
    nic->up.n_slots[NM_RX] = 8;
    g_hash_table_insert(host->nics, g_strdup(name), &nic->up);
    return nic;
}

static inline struct nm_host *bed_host(void)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);

    assert_non_null(host);
    return host;
}

/* A request of any type. */
static inline int bed_request(struct nm_file *file, uint16_t type, const char *name, void *body,
                              void *options)
{
    struct nmreq_header header = {
        .nr_version = NETMAP_API,
        .nr_reqtype = type,
        .nr_options = (uintptr_t)options,
        .nr_body = (uintptr_t)body,
    };

    (void)g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    return nm_ctrl(file, &header);
}

static inline int bed_register(struct nm_file *file, const char *name, struct nmreq_register *reg)
{
    return bed_request(file, NETMAP_REQ_REGISTER, name, reg, NULL);
}

/* Opens and registers; NULL and errno. */
static inline struct nm_file *bed_open(struct nm_host *host, const char *name, uint32_t mode,
                                       uint16_t ringid, uint64_t flags)
{
    struct nmreq_register reg = {.nr_mode = mode, .nr_ringid = ringid, .nr_flags = flags};
    struct nm_file *file = nm_open(host);
    int err = bed_register(file, name, &reg);

    if (err) {
        nm_close(file);
        errno = err;
        return NULL;
    }
    return file;
}

/* What of the global allocator is in use. */
struct bed_use {
    uint32_t ifs, rings, bufs;
};

static inline struct bed_use bed_use(struct nm_host *host)
{
    struct nm_mem *mem = nm_mem_find(host->mems, 1);
    struct bed_use use = {nm_mem_used(mem, NM_POOL_IF), nm_mem_used(mem, NM_POOL_RING),
                          nm_mem_used(mem, NM_POOL_BUF)};

    nm_mem_unref(mem);
    return use;
}

#define assert_use(host, n_ifs, n_rings, n_bufs)                                                   \
    do {                                                                                           \
        struct bed_use use_ = bed_use(host);                                                       \
        assert_int_equal(use_.ifs, n_ifs);                                                         \
        assert_int_equal(use_.rings, n_rings);                                                     \
        assert_int_equal(use_.bufs, n_bufs);                                                       \
    } while (0)

#endif
