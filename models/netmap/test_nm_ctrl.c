#include "models/netmap/test_nm_bed.h"

#include <stdlib.h>
#include <sys/mman.h>

struct ctrl_bed {
    struct nm_host *host;
    struct bed_nic *nic;
    struct nm_file *file;
    uint8_t *hole; /* two pages, the second of which is not there */
};

enum { PAGE = 4096 };

static int set_up(void **state)
{
    struct ctrl_bed *bed = g_new0(struct ctrl_bed, 1);

    bed->host = bed_host();
    bed->nic = bed_nic_new(bed->host, "x0");
    bed->file = nm_open(bed->host);
    bed->hole = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(bed->hole + PAGE, PAGE);
    *state = bed;
    return 0;
}

static int tear_down(void **state)
{
    struct ctrl_bed *bed = *state;

    nm_close(bed->file);
    assert_use(bed->host, 0, 0, 0);
    munmap(bed->hole, PAGE);
    nm_host_free(bed->host);
    g_free(bed);
    return 0;
}

static struct nmreq_header info_header(struct nmreq_port_info_get *info)
{
    return (struct nmreq_header){
        .nr_version = NETMAP_API,
        .nr_reqtype = NETMAP_REQ_PORT_INFO_GET,
        .nr_name = "x0",
        .nr_body = (uintptr_t)info,
    };
}

static void versions_14_and_15_are_spoken(void **state)
{
    static const struct {
        uint16_t version;
        int err;
    } cases[] = {{0, EINVAL}, {13, EINVAL}, {14, 0}, {15, 0}, {16, EINVAL}, {65535, EINVAL}};
    struct ctrl_bed *bed = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nmreq_port_info_get info = {0};
        struct nmreq_header header = info_header(&info);

        header.nr_version = cases[i].version;
        assert_int_equal(nm_ctrl(bed->file, &header), cases[i].err);
        assert_int_equal(header.nr_version, cases[i].version);
    }
}

static void reserved_bits_and_bodies_are_checked(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    struct nmreq_header header = info_header(&info);

    header.nr_reserved = 1;
    assert_int_equal(nm_ctrl(bed->file, &header), EINVAL);
    header = info_header(NULL);
    assert_int_equal(nm_ctrl(bed->file, &header), EINVAL);
    /* CSB_ENABLE, SYNC_KLOOP_STOP, VALE_DELIF have none; unknown types neither */
    const uint16_t without[] = {
        NETMAP_REQ_CSB_ENABLE, NETMAP_REQ_SYNC_KLOOP_STOP, NETMAP_REQ_VALE_DELIF, 0, 16, 0xffff};
    for (size_t i = 0; i < G_N_ELEMENTS(without); i++) {
        header = info_header(&info);
        header.nr_reqtype = without[i];
        assert_int_equal(nm_ctrl(bed->file, &header), EINVAL);
    }
    assert_int_equal(bed_request(bed->file, 0, "x0", NULL, NULL), EINVAL);
    assert_int_equal(bed_request(bed->file, 16, "x0", NULL, NULL), EINVAL);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_CSB_ENABLE, "x0", NULL, NULL), EINVAL);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_SYNC_KLOOP_STOP, "x0", NULL, NULL), ENXIO);
}

static void addresses_that_are_not_there_are_faults(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    struct nmreq_header header = info_header(&info);
    uint8_t *edge = bed->hole + PAGE;

    assert_int_equal(nm_ctrl(bed->file, NULL), EINVAL);
    assert_int_equal(nm_ctrl(bed->file, (void *)edge), EFAULT);
    assert_int_equal(nm_ctrl(bed->file, (void *)(edge - 80)), EFAULT);

    header.nr_body = (uintptr_t)edge;
    assert_int_equal(nm_ctrl(bed->file, &header), EFAULT);
    header.nr_body = (uintptr_t)(edge - sizeof(info) + 1);
    assert_int_equal(nm_ctrl(bed->file, &header), EFAULT);
    memset(edge - sizeof(info), 0, sizeof(info));
    header.nr_body = (uintptr_t)(edge - sizeof(info));
    assert_int_equal(nm_ctrl(bed->file, &header), 0);
    header.nr_body = UINT64_MAX - 7;
    assert_int_equal(nm_ctrl(bed->file, &header), EFAULT);

    header = info_header(&info);
    header.nr_options = (uintptr_t)edge;
    assert_int_equal(nm_ctrl(bed->file, &header), EFAULT);
    /* an option whose header is there and whose body is not */
    struct nmreq_option option = {.nro_reqtype = NETMAP_REQ_OPT_CSB};
    memcpy(edge - sizeof(option), &option, sizeof(option));
    header.nr_options = (uintptr_t)(edge - sizeof(option));
    assert_int_equal(nm_ctrl(bed->file, &header), EFAULT);
}

static void what_cannot_be_written_back_is_a_fault(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_header header = info_header((void *)bed->hole);

    memset(bed->hole, 0, PAGE);
    assert_int_equal(mprotect(bed->hole, PAGE, PROT_READ), 0);
    assert_int_equal(nm_ctrl(bed->file, &header), EFAULT);
    assert_int_equal(mprotect(bed->hole, PAGE, PROT_READ | PROT_WRITE), 0);
}

static void a_name_without_an_end_is_cut(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    struct nmreq_header header = info_header(&info);

    memset(header.nr_name, 'n', sizeof(header.nr_name));
    assert_int_equal(nm_ctrl(bed->file, &header), ENXIO);
    assert_int_equal(strlen(header.nr_name), 63);
}

static void the_body_is_written_back_only_without_an_error(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_extra_bufs = 5};
    struct nmreq_register before = reg;

    assert_int_equal(bed_register(bed->file, "nobody", &reg), ENXIO);
    assert_memory_equal(&reg, &before, sizeof(reg));
    assert_int_equal(bed_register(bed->file, "x0", &reg), 0);
    assert_int_equal(reg.nr_tx_rings, 3);

    /* NEWIF of what is there describes it, but the error keeps that in */
    struct nmreq_vale_newif newif = {.nr_tx_slots = 16};
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_VALE_NEWIF, "v0", &newif, NULL), 0);
    newif = (struct nmreq_vale_newif){0};
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_VALE_NEWIF, "v0", &newif, NULL), EEXIST);
    assert_int_equal(newif.nr_tx_slots, 0);
}

/* ---- options ---- */

static struct nmreq_option option(uint32_t type, void *next)
{
    return (struct nmreq_option){
        .nro_reqtype = type, .nro_next = (uintptr_t)next, .nro_status = 12345};
}

static void options_of_no_type_and_doubles_are_marked(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    struct nmreq_opt_csb second = {.nro_opt = option(NETMAP_REQ_OPT_CSB, NULL)};
    struct nmreq_option none = option(0, &second);
    struct nmreq_opt_csb first = {.nro_opt = option(NETMAP_REQ_OPT_CSB, &none)};
    struct nmreq_option unknown = option(77, &first);

    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &unknown),
                     EINVAL);
    assert_int_equal(unknown.nro_status, EOPNOTSUPP);
    assert_int_equal(none.nro_status, EINVAL);
    assert_int_equal(first.nro_opt.nro_status, EINVAL);
    assert_int_equal(second.nro_opt.nro_status, EINVAL);
    assert_int_equal(unknown.nro_next, (uintptr_t)&first);
    assert_int_equal(info.nr_tx_rings, 0);
}

static void options_that_a_request_does_not_know_are_ignored_but_said(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    struct nmreq_opt_csb csb = {.nro_opt = option(NETMAP_REQ_OPT_CSB, NULL)};
    struct nmreq_option unknown = option(6, &csb);

    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &unknown), 0);
    assert_int_equal(info.nr_tx_rings, 3);
    assert_int_equal(unknown.nro_status, EOPNOTSUPP);
    assert_int_equal(csb.nro_opt.nro_status, EOPNOTSUPP);
}

/* Its header lies at the end of a page, its body in one that cannot be written. */
static void the_body_of_an_option_that_nobody_took_is_not_written_back(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    uint8_t *pages =
        mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct nmreq_option *csb = (void *)(pages + PAGE - sizeof(*csb));

    *csb = option(NETMAP_REQ_OPT_CSB, NULL);
    assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_READ), 0);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, csb), 0);
    assert_int_equal(csb->nro_status, EOPNOTSUPP);
    munmap(pages, 2 * PAGE);
}

static void register_fails_over_an_option_that_nobody_took(void **state)
{
    struct ctrl_bed *bed = *state;
    const uint32_t types[] = {NETMAP_REQ_OPT_SYNC_KLOOP_MODE, NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS, 6,
                              0xffffffff};

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_extra_bufs = 2};
        struct nmreq_opt_sync_kloop_mode mode = {.nro_opt = option(types[i], NULL)};

        assert_int_equal(bed_request(bed->file, NETMAP_REQ_REGISTER, "x0", &reg, &mode),
                         EOPNOTSUPP);
        assert_int_equal(mode.nro_opt.nro_status, EOPNOTSUPP);
        assert_use(bed->host, 0, 0, 0);
        assert_int_equal(bed->nic->up.refs, 1);
        assert_null(nm_file_if(bed->file));
    }
}

static void a_list_that_loops_is_too_long(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    struct nmreq_option loop = option(6, NULL);

    loop.nro_next = (uintptr_t)&loop;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &loop),
                     EMSGSIZE);
}

static void body_and_options_are_4096_bytes_at_most(void **state)
{
    struct ctrl_bed *bed = *state;
    /* 32 of body, and options of 24: 169 fit, and 8 bytes are left */
    enum { N = 170 };
    struct nmreq_option many[N];
    struct nmreq_port_info_get info = {0};
    struct {
        struct nmreq_option head;
        uint8_t body[4096];
    } big = {.head = option(NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS, NULL)};

    for (int i = 0; i < N; i++) {
        many[i] = option(100, i + 1 < N ? &many[i + 1] : NULL);
    }
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, many), EMSGSIZE);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &many[1]), 0);
    assert_int_equal(many[1].nro_status, EOPNOTSUPP);
    assert_int_equal(many[169].nro_status, EOPNOTSUPP);

    big.head.nro_size = 4096 - 32;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &big), 0);
    big.head.nro_size = 4096 - 31;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &big), EMSGSIZE);
    big.head.nro_size = UINT64_MAX;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &big), EMSGSIZE);
    big.head.nro_size = 3; /* below a header: just the header */
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &big), 0);
    /* a body of odd length, and another option behind it */
    big.head.nro_size = 24 + 13;
    big.head.nro_next = (uintptr_t)&many[169];
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, &big), 0);
    assert_int_equal(many[169].nro_status, EOPNOTSUPP);
}

static void a_csb_goes_with_the_registration_or_later(void **state)
{
    struct ctrl_bed *bed = *state;
    _Alignas(64) static struct nm_csb_atok atok[5];
    _Alignas(64) static struct nm_csb_ktoa ktoa[5];
    struct nmreq_opt_csb csb = {.nro_opt = option(NETMAP_REQ_OPT_CSB, NULL),
                                .csb_atok = (uintptr_t)atok,
                                .csb_ktoa = (uintptr_t)ktoa};
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};

    /* not exclusive: refused, and the registration undone */
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_REGISTER, "x0", &reg, &csb), EINVAL);
    assert_int_equal(csb.nro_opt.nro_status, EINVAL);
    assert_null(nm_file_if(bed->file));
    reg.nr_flags = NR_EXCLUSIVE;
    csb.csb_ktoa += 8;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_REGISTER, "x0", &reg, &csb), EINVAL);
    csb.csb_ktoa = (uintptr_t)bed->hole + PAGE;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_REGISTER, "x0", &reg, &csb), EFAULT);
    assert_int_equal(csb.nro_opt.nro_status, EFAULT);
    assert_use(bed->host, 0, 0, 0);

    csb.csb_ktoa = (uintptr_t)ktoa;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_REGISTER, "x0", &reg, &csb), 0);
    assert_int_equal(csb.nro_opt.nro_status, 0);
    assert_int_equal(ktoa[2].hwtail, 15);
    assert_int_equal(ktoa[4].hwtail, 0);
    assert_int_equal(atok[4].appl_need_kick, 1);
    assert_int_equal(nm_txsync(bed->file), EBUSY);
    assert_int_equal(nm_rxsync(bed->file), EBUSY);
    assert_int_equal(nm_poll(bed->file, POLLIN), POLLERR);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_CSB_ENABLE, "", NULL, &csb), 0);
    assert_int_equal(csb.nro_opt.nro_status, 0);
}

/* ---- questions ---- */

static void port_info_tells_numbers_and_memory(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {0};
    struct nmreq_port_info_get memory = {0};

    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &info, NULL), 0);
    assert_int_equal(info.nr_tx_rings, 3);
    assert_int_equal(info.nr_rx_rings, 2);
    assert_int_equal(info.nr_host_tx_rings, 1);
    assert_int_equal(info.nr_host_rx_rings, 1);
    assert_int_equal(info.nr_tx_slots, 16);
    assert_int_equal(info.nr_rx_slots, 8);
    assert_int_equal(info.nr_mem_id, 1);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "", &memory, NULL), 0);
    assert_int_equal(memory.nr_mem_id, 1);
    assert_int_equal(memory.nr_memsize, info.nr_memsize);
    assert_int_equal(memory.nr_tx_rings, 0);
    memory.nr_mem_id = 9;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "", &memory, NULL), EINVAL);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0", &memory, NULL), EINVAL);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "y", &info, NULL), ENXIO);
    assert_int_equal(bed->nic->up.refs, 1);
}

static void a_pipe_is_made_for_the_question_alone(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_port_info_get info = {.nr_tx_rings = 2, .nr_rx_slots = 4};

    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_INFO_GET, "x0}1", &info, NULL), 0);
    assert_int_equal(info.nr_tx_rings, 1);
    assert_int_equal(info.nr_rx_rings, 2);
    assert_int_equal(info.nr_tx_slots, 4);
    assert_int_equal(info.nr_rx_slots, 16);
    assert_int_equal(bed->nic->up.refs, 1);
    assert_int_equal(bed->nic->up.pipes->len, 0);
}

static void pools_info_tells_the_layout(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq_pools_info info = {0};

    assert_int_equal(bed_request(bed->file, NETMAP_REQ_POOLS_INFO_GET, "x0", &info, NULL), 0);
    assert_int_equal(info.nr_mem_id, 1);
    assert_int_equal(info.nr_if_pool_offset, 0);
    assert_int_equal(info.nr_if_pool_objsize, 1024);
    assert_int_equal(info.nr_ring_pool_objsize, 36864);
    assert_int_equal(info.nr_buf_pool_objsize, 2048);
    assert_int_equal(info.nr_buf_pool_objtotal, 4096);
    assert_int_equal(info.nr_buf_pool_offset + 4096 * 2048, info.nr_memsize);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_POOLS_INFO_GET, "", &info, NULL), ENXIO);
}

static void headers_are_for_switch_ports(void **state)
{
    static const uint32_t bad[] = {1, 9, 11, 13, 0xffffffff};
    struct ctrl_bed *bed = *state;
    struct nmreq_port_hdr hdr = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        hdr.nr_hdr_len = bad[i];
        assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_HDR_SET, "x0", &hdr, NULL), EINVAL);
    }
    hdr.nr_hdr_len = 12;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_HDR_SET, "x0", &hdr, NULL), ENXIO);
    bed->nic->up.virt_hdr_len = 10;
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_HDR_GET, "x0", &hdr, NULL), 0);
    assert_int_equal(hdr.nr_hdr_len, 10);
    assert_int_equal(bed_request(bed->file, NETMAP_REQ_PORT_HDR_GET, "y", &hdr, NULL), ENXIO);
    assert_int_equal(bed->nic->up.refs, 1);
}

/* ---- the old requests ---- */

static void old_requests_register(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq nmr = {.nr_name = "x0", .nr_version = 13, .nr_arg3 = 4};

    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), EINVAL);
    nmr.nr_version = 14;
    nmr.nr_ringid = NETMAP_HW_RING | NETMAP_NO_TX_POLL | 1;
    nmr.nr_flags = NR_EXCLUSIVE;
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), 0);
    assert_int_equal(nmr.nr_tx_rings, 3);
    assert_int_equal(nmr.nr_rx_rings, 2);
    assert_int_equal(nmr.nr_tx_slots, 16);
    assert_int_equal(nmr.nr_arg2, 1);
    assert_int_equal(nmr.nr_arg3, 4);
    assert_int_equal(nmr.nr_memsize, nm_memory_size(bed->file));
    assert_int_equal(nmr.nr_offset, (char *)nm_file_if(bed->file) - (char *)nm_memory(bed->file));
    assert_int_equal(bed->file->first[NM_TX], 1);
    assert_int_equal(bed->file->last[NM_TX], 2);
    assert_int_equal(bed->file->reg_flags, NR_EXCLUSIVE | NR_NO_TX_POLL);
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), EBUSY);
}

static void old_modes_become_todays(void **state)
{
    static const struct {
        uint16_t ringid;
        uint32_t flags;
        unsigned first_tx, last_tx;
        const char *name;
    } cases[] = {
        {0, 0, 0, 3, "x0"},
        {NETMAP_SW_RING, 0, 3, 4, "x0"},
        {2, NR_REG_ONE_NIC, 2, 3, "x0"},
        {0, NR_REG_NIC_SW, 0, 4, "x0"},
        {7, NR_REG_PIPE_MASTER, 0, 1, "x0{7"},
        {7, NR_REG_PIPE_SLAVE, 0, 1, "x0}7"},
    };
    struct ctrl_bed *bed = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nmreq nmr = {.nr_name = "x0",
                            .nr_version = 99,
                            .nr_ringid = cases[i].ringid,
                            .nr_flags = cases[i].flags};
        struct nm_file *file = nm_open(bed->host);

        assert_int_equal(nm_legacy(file, NIOCREGIF, &nmr), 0);
        assert_string_equal(nmr.nr_name, "x0");
        assert_string_equal(file->na->name, cases[i].name);
        assert_int_equal(file->first[NM_TX], cases[i].first_tx);
        assert_int_equal(file->last[NM_TX], cases[i].last_tx);
        assert_int_equal(file->reg_flags, 0);
        nm_close(file);
    }
}

static void other_old_requests_answer_as_netmap(void **state)
{
    struct ctrl_bed *bed = *state;
    struct nmreq nmr = {.nr_name = "x0", .nr_version = 14};

    assert_int_equal(nm_legacy(bed->file, NIOCGINFO, &nmr), 0);
    assert_int_equal(nmr.nr_tx_rings, 3);
    assert_int_equal(nmr.nr_arg2, 1);
    assert_int_equal(nm_legacy(bed->file, NIOCCTRL, &nmr), EOPNOTSUPP);
    assert_int_equal(nm_legacy(bed->file, NIOCGINFO, NULL), EINVAL);
    assert_int_equal(nm_legacy(bed->file, NIOCGINFO, (void *)(bed->hole + PAGE)), EFAULT);
    nmr.nr_cmd = NETMAP_PT_HOST_CREATE;
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), ENOMEM);
    nmr.nr_cmd = NETMAP_BDG_REGOPS;
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), EINVAL);
    nmr.nr_cmd = 99;
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), EINVAL);
    nmr.nr_cmd = NETMAP_VNET_HDR_GET;
    bed->nic->up.virt_hdr_len = 12;
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), 0);
    assert_int_equal(nmr.nr_arg1, 12);
    nmr.nr_cmd = NETMAP_BDG_VNET_HDR;
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), ENXIO);
    nmr.nr_arg1 = 5;
    assert_int_equal(nm_legacy(bed->file, NIOCREGIF, &nmr), EINVAL);
}

int main(void)
{
#define CTRL_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CTRL_TEST(versions_14_and_15_are_spoken),
        CTRL_TEST(reserved_bits_and_bodies_are_checked),
        CTRL_TEST(addresses_that_are_not_there_are_faults),
        CTRL_TEST(what_cannot_be_written_back_is_a_fault),
        CTRL_TEST(a_name_without_an_end_is_cut),
        CTRL_TEST(the_body_is_written_back_only_without_an_error),
        CTRL_TEST(options_of_no_type_and_doubles_are_marked),
        CTRL_TEST(options_that_a_request_does_not_know_are_ignored_but_said),
        CTRL_TEST(the_body_of_an_option_that_nobody_took_is_not_written_back),
        CTRL_TEST(register_fails_over_an_option_that_nobody_took),
        CTRL_TEST(a_list_that_loops_is_too_long),
        CTRL_TEST(body_and_options_are_4096_bytes_at_most),
        CTRL_TEST(a_csb_goes_with_the_registration_or_later),
        CTRL_TEST(port_info_tells_numbers_and_memory),
        CTRL_TEST(a_pipe_is_made_for_the_question_alone),
        CTRL_TEST(pools_info_tells_the_layout),
        CTRL_TEST(headers_are_for_switch_ports),
        CTRL_TEST(old_requests_register),
        CTRL_TEST(old_modes_become_todays),
        CTRL_TEST(other_old_requests_answer_as_netmap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
