#include "models/netmap/test_nm_bed.h"

struct reg_bed {
    struct nm_host *host;
    struct bed_nic *nic;
    char *log; /* the last line */
};

static void keep_line(void *data, const char *line)
{
    struct reg_bed *bed = data;

    g_free(bed->log);
    bed->log = g_strdup(line);
}

static int set_up(void **state)
{
    struct reg_bed *bed = g_new0(struct reg_bed, 1);

    bed->host = bed_host();
    nm_host_set_log(bed->host, keep_line, bed);
    bed->nic = bed_nic_new(bed->host, "x0");
    *state = bed;
    return 0;
}

/* Whatever a test did: nothing of it is left. */
static int tear_down(void **state)
{
    struct reg_bed *bed = *state;

    assert_use(bed->host, 0, 0, 0);
    assert_int_equal(bed->nic->up.refs, 1);
    assert_int_equal(bed->nic->up.active_files, 0);
    assert_false(bed->nic->is_active);
    nm_host_free(bed->host);
    g_free(bed->log);
    g_free(bed);
    return 0;
}

/* ---- what is bound ---- */

static void each_mode_binds_its_rings(void **state)
{
    static const struct {
        uint32_t mode;
        uint16_t ringid;
        uint64_t flags;
        unsigned first_tx, last_tx, first_rx, last_rx;
        int sync_flags;
    } cases[] = {
        {NR_REG_ALL_NIC, 0, 0, 0, 3, 0, 2, NAF_CAN_FORWARD_DOWN},
        {NR_REG_ALL_NIC, 9, 0, 0, 3, 0, 2, NAF_CAN_FORWARD_DOWN},
        {NR_REG_SW, 0, 0, 3, 4, 2, 3, 0},
        {NR_REG_NIC_SW, 0, 0, 0, 4, 0, 3, NAF_CAN_FORWARD_DOWN},
        {NR_REG_ONE_NIC, 1, 0, 1, 2, 1, 2, 0},
        {NR_REG_ONE_NIC, 2, 0, 2, 3, 0, 1, 0}, /* only 2 rx rings: the first */
        {NR_REG_ONE_SW, 0, 0, 3, 4, 2, 3, 0},
        {NR_REG_ALL_NIC, 0, NR_RX_RINGS_ONLY, 0, 0, 0, 2, 0},
        {NR_REG_ALL_NIC, 0, NR_TX_RINGS_ONLY, 0, 3, 0, 0, NAF_CAN_FORWARD_DOWN},
        {NR_REG_DEFAULT, 0, NR_TX_RINGS_ONLY | NR_RX_RINGS_ONLY, 0, 0, 0, 0, 0},
    };
    struct reg_bed *bed = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nm_file *file =
            bed_open(bed->host, "x0", cases[i].mode, cases[i].ringid, cases[i].flags);

        assert_non_null(file);
        assert_int_equal(file->first[NM_TX], cases[i].first_tx);
        assert_int_equal(file->last[NM_TX], cases[i].last_tx);
        assert_int_equal(file->first[NM_RX], cases[i].first_rx);
        assert_int_equal(file->last[NM_RX], cases[i].last_rx);
        assert_int_equal(file->sync_flags, cases[i].sync_flags);
        const unsigned n_tx = cases[i].last_tx - cases[i].first_tx;
        const unsigned n_rx = cases[i].last_rx - cases[i].first_rx;
        assert_use(bed->host, 1, n_tx + n_rx, 16 * n_tx + 8 * n_rx);
        struct netmap_if *nifp = nm_file_if(file);
        for (unsigned k = 0; k < 7; k++) {
            const bool is_bound = k < 4 ? k >= cases[i].first_tx && k < cases[i].last_tx
                                        : k - 4 >= cases[i].first_rx && k - 4 < cases[i].last_rx;
            assert_int_equal(nifp->ring_ofs[k] != 0, is_bound);
        }
        nm_close(file);
    }
}

static void new_rings_are_empty_and_have_fresh_buffers(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_NIC_SW, 0, 0);
    struct netmap_if *nifp = nm_file_if(file);
    g_autofree bool *is_seen = g_new0(bool, 4096);

    assert_string_equal(nifp->ni_name, "x0");
    assert_int_equal(nifp->ni_tx_rings, 3);
    assert_int_equal(nifp->ni_rx_rings, 2);
    assert_int_equal(nifp->ni_host_tx_rings, 1);
    assert_int_equal(nifp->ni_host_rx_rings, 1);
    assert_int_equal(nifp->ni_flags, 0);
    assert_int_equal(nifp->ni_bufs_head, 0);
    for (unsigned k = 0; k < 7; k++) {
        const bool is_tx = k < 4;
        struct netmap_ring *ring = is_tx ? nm_txring(nifp, k) : nm_rxring(nifp, k - 4);

        assert_int_equal(ring->num_slots, is_tx ? 16 : 8);
        assert_int_equal(ring->nr_buf_size, 2048);
        assert_int_equal(ring->ringid, is_tx ? k : k - 4);
        assert_int_equal(ring->dir, is_tx ? NM_TX : NM_RX);
        assert_int_equal(ring->head, 0);
        assert_int_equal(ring->cur, 0);
        assert_int_equal(ring->tail, is_tx ? 15 : 0);
        assert_int_equal(ring->flags, 0);
        assert_int_equal(ring->offset_mask, 0);
        assert_ptr_equal((char *)ring + ring->buf_ofs, nm_mem_buf_base(file->mem));
        for (unsigned i = 0; i < ring->num_slots; i++) {
            const struct netmap_slot *slot = &ring->slot[i];

            assert_in_range(slot->buf_idx, 2, 4095);
            assert_false(is_seen[slot->buf_idx]);
            is_seen[slot->buf_idx] = true;
            assert_int_equal(slot->len, 2048);
            assert_int_equal(slot->flags, 0);
            assert_int_equal(slot->ptr, 0);
        }
    }
    assert_true(bed->nic->is_active);
    nm_close(file);
}

static void a_second_user_sees_the_ring_as_it_is(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *a = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    struct netmap_ring *ring = nm_txring(nm_file_if(a), 0);

    ring->head = ring->cur = 5;
    assert_int_equal(nm_txsync(a), 0);
    struct nm_file *b = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);
    assert_ptr_equal(nm_txring(nm_file_if(b), 0), ring);
    assert_int_equal(ring->head, 5);
    assert_int_equal(ring->tail, 4);
    assert_use(bed->host, 2, 5, 3 * 16 + 2 * 8);
    nm_close(a);
    assert_int_equal(ring->head, 5);
    assert_use(bed->host, 1, 5, 3 * 16 + 2 * 8);
    nm_close(b);
    /* and a ring that had no user in between begins anew, though the port was open */
    struct nm_file *c = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 1, 0);
    a = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    nm_txring(nm_file_if(a), 0)->head = nm_txring(nm_file_if(a), 0)->cur = 3;
    nm_txsync(a);
    nm_close(a);
    a = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, 0);
    assert_int_equal(nm_txring(nm_file_if(a), 0)->head, 0);
    assert_int_equal(nm_txring(nm_file_if(a), 0)->tail, 15);
    nm_close(a);
    nm_close(c);
}

/* ---- errors, row by row of netmap.md 5.1 ---- */

static void a_bound_file_is_busy(void **state)
{
    struct reg_bed *bed = *state;
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);

    assert_int_equal(bed_register(file, "x0", &reg), EBUSY);
    assert_int_equal(bed_register(file, "nobody", &reg), EBUSY);
    nm_close(file);
}

static void refused(struct reg_bed *bed, uint32_t mode, uint16_t ringid, uint64_t flags, int err)
{
    struct nmreq_register reg = {
        .nr_mode = mode, .nr_ringid = ringid, .nr_flags = flags, .nr_extra_bufs = 3};
    struct nm_file *file = nm_open(bed->host);
    struct bed_use before = bed_use(bed->host);
    const unsigned refs = bed->nic->up.refs;

    assert_int_equal(bed_register(file, "x0", &reg), err);
    assert_null(nm_file_if(file));
    assert_null(nm_memory(file));
    assert_int_equal(nm_txsync(file), ENXIO);
    nm_close(file);
    assert_use(bed->host, before.ifs, before.rings, before.bufs);
    assert_int_equal(bed->nic->up.refs, refs);
}

static void modes_and_rings_that_are_not_there_are_invalid(void **state)
{
    struct reg_bed *bed = *state;

    refused(bed, NR_REG_DEFAULT, 0, 0, EINVAL);
    refused(bed, NR_REG_PIPE_MASTER, 0, 0, EINVAL);
    refused(bed, NR_REG_PIPE_SLAVE, 0, 0, EINVAL);
    refused(bed, 9, 0, 0, EINVAL);
    refused(bed, 0xffffffff, 0, 0, EINVAL);
    refused(bed, NR_REG_ONE_NIC, 3, 0, EINVAL);
    refused(bed, NR_REG_ONE_NIC, 0xffff, 0, EINVAL);
    refused(bed, NR_REG_ONE_SW, 1, 0, EINVAL);
    bed->nic->up.flags &= ~(unsigned)NAF_HOST_RINGS;
    refused(bed, NR_REG_SW, 0, 0, EINVAL);
    refused(bed, NR_REG_NIC_SW, 0, 0, EINVAL);
    refused(bed, NR_REG_ONE_SW, 0, 0, EINVAL);
    bed->nic->up.flags |= NAF_HOST_RINGS;
}

static void unknown_ports_and_memories_are_told_apart(void **state)
{
    struct reg_bed *bed = *state;
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nm_file *file = nm_open(bed->host);

    assert_int_equal(bed_register(file, "nobody", &reg), ENXIO);
    assert_int_equal(bed_register(file, "", &reg), ENXIO);
    reg.nr_mem_id = 77;
    assert_int_equal(bed_register(file, "nobody", &reg), EINVAL);
    assert_int_equal(bed_register(file, "x0", &reg), EINVAL);
    nm_close(file);
}

static void a_port_of_the_kernel_is_busy_and_one_that_is_gone_is_not_there(void **state)
{
    struct reg_bed *bed = *state;

    bed->nic->up.flags |= NAF_BUSY;
    refused(bed, NR_REG_ALL_NIC, 0, 0, EBUSY);
    bed->nic->up.flags &= ~(unsigned)NAF_BUSY;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);
    bed->nic->up.flags |= NAF_ZOMBIE;
    refused(bed, NR_REG_ALL_NIC, 0, 0, ENXIO);
    assert_int_equal(nm_txsync(file), ENXIO);
    assert_int_equal(nm_rxsync(file), ENXIO);
    assert_int_equal(nm_poll(file, POLLIN), POLLERR);
    nm_close(file);
}

static void a_header_has_to_be_accepted(void **state)
{
    struct reg_bed *bed = *state;

    bed->nic->up.virt_hdr_len = 12;
    refused(bed, NR_REG_ALL_NIC, 0, 0, EIO);
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, NR_ACCEPT_VNET_HDR);
    assert_non_null(file);
    nm_close(file);
}

static void the_mtu_has_to_fit(void **state)
{
    static const struct {
        uint32_t mtu, rx_buf_maxsize;
        bool has_morefrag;
        int err;
    } cases[] = {
        {1500, 2048, false, 0},      {1500, 0, false, EIO}, {2048, 2048, false, 0},
        {2049, 4096, false, EINVAL}, /* fits a NIC's slot, but no buffer */
        {9000, 2048, false, EINVAL}, {9000, 2048, true, 0}, {9000, 4096, true, EINVAL},
        {9000, 9000, true, EINVAL},
    };
    struct reg_bed *bed = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        bed->nic->up.mtu = cases[i].mtu;
        bed->nic->up.rx_buf_maxsize = cases[i].rx_buf_maxsize;
        bed->nic->up.flags = NAF_HOST_RINGS | (cases[i].has_morefrag ? NAF_MOREFRAG : 0);
        struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);
        if (cases[i].err) {
            assert_null(file);
            assert_int_equal(errno, cases[i].err);
            /* who receives nothing is not asked */
            file = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, NR_TX_RINGS_ONLY);
            assert_non_null(file);
            /* nor is a second user */
            struct nm_file *second = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);
            assert_non_null(second);
            nm_close(second);
        }
        assert_non_null(file);
        nm_close(file);
    }
}

static void exclusive_rings_are_nobody_elses(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *one = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 1, NR_EXCLUSIVE);

    assert_non_null(one);
    refused(bed, NR_REG_ALL_NIC, 0, 0, EBUSY);
    refused(bed, NR_REG_ONE_NIC, 1, 0, EBUSY);
    refused(bed, NR_REG_ONE_NIC, 1, NR_TX_RINGS_ONLY, EBUSY);
    /* ring 2 has no rx counterpart: rx ring 0, which is free */
    struct nm_file *two = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 2, NR_EXCLUSIVE);
    assert_non_null(two);
    refused(bed, NR_REG_ONE_NIC, 0, 0, EBUSY); /* rx ring 0 */
    struct nm_file *tx = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 0, NR_TX_RINGS_ONLY);
    assert_non_null(tx);
    refused(bed, NR_REG_ONE_NIC, 0, NR_TX_RINGS_ONLY | NR_EXCLUSIVE, EBUSY);
    nm_close(one);
    nm_close(two);
    nm_close(tx);
    struct nm_file *all = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, NR_EXCLUSIVE);
    assert_non_null(all);
    struct nm_file *sw = bed_open(bed->host, "x0", NR_REG_SW, 0, NR_EXCLUSIVE);
    assert_non_null(sw);
    nm_close(all);
    /* free again, though the port stays open */
    all = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);
    assert_non_null(all);
    nm_close(all);
    nm_close(sw);
}

static void a_failure_leaves_other_users_alone(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_ONE_NIC, .nr_extra_bufs = 4094 - 24 - 20};

    assert_int_equal(bed_register(file, "x0", &reg), 0);
    refused(bed, NR_REG_ONE_NIC, 1, 0, ENOMEM); /* 20 buffers left, of 24: a tx ring, no rx ring */
    assert_int_equal(bed->nic->up.krings[NM_TX][1].users, 0);
    assert_null(bed->nic->up.krings[NM_TX][1].ring);
    struct nm_file *tx = bed_open(bed->host, "x0", NR_REG_ONE_NIC, 1, NR_TX_RINGS_ONLY);
    assert_non_null(tx);
    nm_close(tx);
    nm_close(file);
}

static void what_does_not_fit_into_memory_is_undone(void **state)
{
    struct reg_bed *bed = *state;

    bed->nic->up.n_slots[NM_RX] = 2100; /* 2 x 2100 + 48 buffers, of 4094 */
    refused(bed, NR_REG_ALL_NIC, 0, 0, ENOMEM);
    bed->nic->up.n_slots[NM_RX] = 3000; /* a ring larger than an object */
    refused(bed, NR_REG_ALL_NIC, 0, 0, ENOMEM);
    bed->nic->up.n_slots[NM_RX] = 8;
    bed->nic->up.n_rings[NM_TX] = 200; /* 202 rings, of 200; and an interface of 1656 bytes */
    refused(bed, NR_REG_ALL_NIC, 0, 0, ENOMEM);
    bed->nic->up.n_rings[NM_TX] = 120; /* rings and buffers fit, the interface does not */
    refused(bed, NR_REG_ONE_NIC, 0, 0, ENOMEM);
    bed->nic->up.n_rings[NM_TX] = 3;
    struct nm_file *file = bed_open(bed->host, "x0", NR_REG_ALL_NIC, 0, 0);
    assert_non_null(file);
    nm_close(file);
}

static void a_port_that_cannot_enter_netmap_mode_undoes_all(void **state)
{
    struct reg_bed *bed = *state;

    bed->nic->set_active_fails = ENODATA;
    refused(bed, NR_REG_ALL_NIC, 0, 0, ENODATA);
    bed->nic->set_active_fails = 0;
}

/* ---- extra buffers ---- */

static void extra_buffers_are_a_list_and_come_back(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_ONE_NIC, .nr_extra_bufs = 10};

    assert_int_equal(bed_register(file, "x0", &reg), 0);
    assert_int_equal(reg.nr_extra_bufs, 10);
    assert_use(bed->host, 1, 2, 16 + 8 + 10);
    struct netmap_if *nifp = nm_file_if(file);
    struct netmap_ring *ring = nm_txring(nifp, 0);
    unsigned n = 0;
    for (uint32_t i = nifp->ni_bufs_head; i; n++) {
        memcpy(&i, nm_buf(ring, i), sizeof(i));
    }
    assert_int_equal(n, 10);
    /* swapped with a slot's, as applications do */
    const uint32_t mine = nifp->ni_bufs_head;
    memcpy(nm_buf(ring, ring->slot[3].buf_idx), nm_buf(ring, mine), sizeof(mine));
    nifp->ni_bufs_head = ring->slot[3].buf_idx;
    ring->slot[3].buf_idx = mine;
    nm_close(file);
    assert_use(bed->host, 0, 0, 0);
    assert_null(bed->log);
}

static void fewer_extra_buffers_than_asked_for_are_no_error(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_ONE_NIC, .nr_extra_bufs = 0xffffffff};

    assert_int_equal(bed_register(file, "x0", &reg), 0);
    assert_int_equal(reg.nr_extra_bufs, 4096 - 2 - 24);
    nm_close(file);
}

static void leaked_buffers_are_reclaimed_with_the_last_user(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host), *other = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_ONE_NIC, .nr_extra_bufs = 10};
    struct nmreq_register null = {.nr_mode = NR_REG_NULL, .nr_mem_id = 1};

    assert_int_equal(bed_register(file, "x0", &reg), 0);
    assert_int_equal(bed_register(other, "o", &null), 0);
    nm_file_if(file)->ni_bufs_head = 0;
    nm_txring(nm_file_if(file), 0)->slot[0].buf_idx = 4096;
    nm_close(file);
    assert_use(bed->host, 1, 0, 11);
    nm_close(other);
    assert_use(bed->host, 0, 0, 0);
    assert_non_null(bed->log);
    assert_string_equal(bed->log,
                        "netmap: null:o: 11 buffers, rings or interfaces were leaked and are free "
                        "again");
}

static void a_bad_list_of_extra_buffers_frees_nothing_twice(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *a = nm_open(bed->host), *b = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_ONE_NIC, .nr_extra_bufs = 2};

    assert_int_equal(bed_register(a, "x0", &reg), 0);
    assert_int_equal(bed_register(b, "x0", &reg), 0);
    struct netmap_ring *ring = nm_txring(nm_file_if(a), 0);
    const uint32_t head = nm_file_if(a)->ni_bufs_head;
    memcpy(nm_buf(ring, head), &head, sizeof(head)); /* a loop */
    nm_close(a);
    assert_use(bed->host, 1, 2, 24 + 1 + 2);
    nm_close(b);
}

/* ---- memory ---- */

static void a_request_lends_another_allocator_to_an_idle_port(void **state)
{
    struct reg_bed *bed = *state;
    int err;
    struct nm_mem *private = nm_mem_private_new(bed->host->mems, 3, 16, 2, 8, 0, 0, &err);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_mem_id = nm_mem_id(private)};
    struct nmreq_port_info_get info = {.nr_mem_id = nm_mem_id(private)};
    struct nm_file *file = nm_open(bed->host), *second = nm_open(bed->host);

    assert_int_equal(bed_request(file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, NULL), 0);
    assert_int_equal(info.nr_mem_id, nm_mem_id(private));
    assert_int_equal(nm_mem_id(bed->nic->up.mem), 1);
    assert_int_equal(bed_register(file, "x0", &reg), 0);
    assert_int_equal(reg.nr_mem_id, nm_mem_id(private));
    assert_int_equal(nm_file_if(file)->ni_flags, NI_PRIV_MEM);
    assert_use(bed->host, 0, 0, 0);
    reg.nr_mem_id = 1; /* not idle any more */
    assert_int_equal(bed_register(second, "x0", &reg), 0);
    assert_int_equal(reg.nr_mem_id, nm_mem_id(private));
    nm_close(file);
    nm_close(second);
    assert_int_equal(nm_mem_id(bed->nic->up.mem), 1);

    bed->nic->up.flags |= NAF_MEM_OWNER;
    file = nm_open(bed->host);
    reg.nr_mem_id = nm_mem_id(private);
    assert_int_equal(bed_register(file, "x0", &reg), 0);
    assert_int_equal(reg.nr_mem_id, 1);
    nm_close(file);
    nm_mem_unref(private);
}

static void extmem_that_is_not_there_is_a_fault(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nmreq_opt_extmem extmem = {
        .nro_opt.nro_reqtype = NETMAP_REQ_OPT_EXTMEM,
        .nro_usrptr = 0x1000,
        .nro_info.nr_memsize = 1 << 20,
    };

    assert_int_equal(bed_request(file, NETMAP_REQ_REGISTER, "x0", &reg, &extmem), EFAULT);
    assert_int_equal(extmem.nro_opt.nro_status, EFAULT);
    nm_close(file);
}

/* ---- host rings ---- */

static void host_ring_counts_are_the_first_users_to_choose(void **state)
{
    struct reg_bed *bed = *state;
    struct nmreq_register reg = {
        .nr_mode = NR_REG_NIC_SW, .nr_host_tx_rings = 2, .nr_host_rx_rings = 4};
    struct nm_file *file = nm_open(bed->host);

    assert_int_equal(bed_register(file, "x0", &reg), 0);
    assert_int_equal(reg.nr_host_tx_rings, 2);
    assert_int_equal(reg.nr_host_rx_rings, 4);
    assert_int_equal(nm_file_if(file)->ni_host_rx_rings, 4);
    assert_use(bed->host, 1, 3 + 2 + 2 + 4, 5 * 16 + 6 * 8);
    assert_int_equal(nm_rxring(nm_file_if(file), 5)->ringid, 5);
    struct nm_file *second = nm_open(bed->host);
    reg.nr_host_tx_rings = 7;
    assert_int_equal(bed_register(second, "x0", &reg), 0);
    assert_int_equal(reg.nr_host_tx_rings, 2);
    nm_close(second);
    nm_close(file);
    assert_int_equal(bed->nic->up.n_host_rings[NM_RX], 1);
}

/* ---- offsets ---- */

static int register_offsets(struct reg_bed *bed, struct nm_file **file, uint64_t max,
                            uint64_t initial, uint32_t bits, struct nmreq_opt_offsets *option)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ONE_NIC};

    *option = (struct nmreq_opt_offsets){
        .nro_opt.nro_reqtype = NETMAP_REQ_OPT_OFFSETS,
        .nro_max_offset = max,
        .nro_initial_offset = initial,
        .nro_offset_bits = bits,
        .nro_min_gap = option->nro_min_gap,
    };
    *file = nm_open(bed->host);
    int err = bed_request(*file, NETMAP_REQ_REGISTER, "x0", &reg, option);
    assert_int_equal(option->nro_opt.nro_status, err);
    if (err) {
        nm_close(*file);
        *file = NULL;
    }
    return err;
}

static void offsets_move_where_frames_begin(void **state)
{
    struct reg_bed *bed = *state;
    struct nmreq_opt_offsets option = {0};
    struct nm_file *file;

    assert_int_equal(register_offsets(bed, &file, 512, 128, 12, &option), 0);
    assert_int_equal(option.nro_max_offset, 512);
    struct netmap_ring *ring = nm_txring(nm_file_if(file), 0);
    struct nm_kring *kring = &bed->nic->up.krings[NM_TX][0];
    assert_int_equal(ring->offset_mask, 0xfff);
    assert_int_equal(ring->slot[0].ptr, 128);
    assert_int_equal(ring->slot[15].ptr, 128);
    assert_int_equal(kring->offset_max, 512);
    assert_int_equal(kring->usable_len, 1536);

    /* a second user: not more than the first agreed to, and the slots stay */
    struct nm_file *second;
    assert_int_equal(register_offsets(bed, &second, 513, 0, 12, &option), EBUSY);
    assert_int_equal(register_offsets(bed, &second, 512, 0, 13, &option), EBUSY);
    assert_int_equal(register_offsets(bed, &second, 256, 0, 12, &option), 0);
    assert_int_equal(option.nro_max_offset, 512);
    assert_int_equal(ring->slot[0].ptr, 128);
    nm_close(second);
    nm_close(file);
}

static void offsets_are_checked(void **state)
{
    struct reg_bed *bed = *state;
    struct nmreq_opt_offsets option = {0};
    struct nm_file *file;

    assert_int_equal(register_offsets(bed, &file, 2049, 0, 0, &option), EINVAL);
    assert_int_equal(register_offsets(bed, &file, 2048, 0, 65, &option), EINVAL);
    assert_int_equal(register_offsets(bed, &file, 2048, 0, 11, &option), EINVAL);
    assert_int_equal(register_offsets(bed, &file, 64, 65, 0, &option), EINVAL);
    bed->nic->up.flags &= ~(unsigned)NAF_OFFSETS;
    assert_int_equal(register_offsets(bed, &file, 64, 0, 0, &option), EOPNOTSUPP);
    bed->nic->up.flags |= NAF_OFFSETS;
    assert_use(bed->host, 0, 0, 0);

    assert_int_equal(register_offsets(bed, &file, 2048, 0, 64, &option), 0);
    assert_int_equal(nm_txring(nm_file_if(file), 0)->offset_mask, UINT64_MAX);
    assert_int_equal(bed->nic->up.krings[NM_TX][0].usable_len, 0);
    nm_close(file);
    option.nro_min_gap = 100;
    assert_int_equal(register_offsets(bed, &file, 1024, 0, 0, &option), 0);
    assert_int_equal(bed->nic->up.krings[NM_TX][0].usable_len, 100);
    nm_close(file);
    option.nro_min_gap = 2000;
    assert_int_equal(register_offsets(bed, &file, 1024, 0, 0, &option), 0);
    assert_int_equal(bed->nic->up.krings[NM_TX][0].usable_len, 1024);
    nm_close(file);
}

/* ---- null ports ---- */

static void null_ports_need_a_memory(void **state)
{
    struct reg_bed *bed = *state;
    struct nm_file *file = nm_open(bed->host);
    struct nmreq_register reg = {.nr_mode = NR_REG_NULL};
    struct nmreq_port_hdr hdr = {0};

    assert_int_equal(bed_register(file, "x0", &reg), EINVAL);
    reg.nr_mem_id = 2;
    assert_int_equal(bed_register(file, "x0", &reg), EINVAL);
    reg = (struct nmreq_register){.nr_mode = NR_REG_NULL,
                                  .nr_mem_id = 1,
                                  .nr_tx_rings = 1,
                                  .nr_rx_rings = 1,
                                  .nr_tx_slots = 0xffffffff,
                                  .nr_rx_slots = 4};
    assert_int_equal(bed_register(file, "x0", &reg), ENOMEM);
    reg.nr_tx_slots = 0;
    assert_int_equal(bed_register(file, "x0", &reg), 0);
    assert_int_equal(nm_txring(nm_file_if(file), 0)->num_slots, 0);
    assert_int_equal(nm_txsync(file), 0);
    nm_rxring(nm_file_if(file), 0)->head = 1;
    assert_int_equal(nm_rxsync(file), 0);
    assert_int_equal(bed_request(file, NETMAP_REQ_PORT_HDR_GET, "null:x0", &hdr, NULL), ENXIO);
    nm_close(file);
}

int main(void)
{
#define REG_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        REG_TEST(each_mode_binds_its_rings),
        REG_TEST(new_rings_are_empty_and_have_fresh_buffers),
        REG_TEST(a_second_user_sees_the_ring_as_it_is),
        REG_TEST(a_bound_file_is_busy),
        REG_TEST(modes_and_rings_that_are_not_there_are_invalid),
        REG_TEST(unknown_ports_and_memories_are_told_apart),
        REG_TEST(a_port_of_the_kernel_is_busy_and_one_that_is_gone_is_not_there),
        REG_TEST(a_header_has_to_be_accepted),
        REG_TEST(the_mtu_has_to_fit),
        REG_TEST(exclusive_rings_are_nobody_elses),
        REG_TEST(what_does_not_fit_into_memory_is_undone),
        REG_TEST(a_port_that_cannot_enter_netmap_mode_undoes_all),
        REG_TEST(a_failure_leaves_other_users_alone),
        REG_TEST(extra_buffers_are_a_list_and_come_back),
        REG_TEST(fewer_extra_buffers_than_asked_for_are_no_error),
        REG_TEST(leaked_buffers_are_reclaimed_with_the_last_user),
        REG_TEST(a_bad_list_of_extra_buffers_frees_nothing_twice),
        REG_TEST(a_request_lends_another_allocator_to_an_idle_port),
        REG_TEST(extmem_that_is_not_there_is_a_fault),
        REG_TEST(host_ring_counts_are_the_first_users_to_choose),
        REG_TEST(offsets_move_where_frames_begin),
        REG_TEST(offsets_are_checked),
        REG_TEST(null_ports_need_a_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
