#include "models/netmap/test_nm_bed.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void names_become_requests(void **state)
{
    static const struct {
        const char *text, *name;
        uint32_t mode;
        uint16_t ring, mem_id;
        uint64_t flags;
    } cases[] = {
        {"netmap:em0", "em0", NR_REG_ALL_NIC, 0, 0, 0},
        {"netmap:em0^", "em0", NR_REG_SW, 0, 0, 0},
        {"netmap:em0^3", "em0", NR_REG_ONE_SW, 3, 0, 0},
        {"netmap:em0*", "em0", NR_REG_NIC_SW, 0, 0, 0},
        {"netmap:em0-2", "em0", NR_REG_ONE_NIC, 2, 0, 0},
        {"netmap:em0-4094", "em0", NR_REG_ONE_NIC, 4094, 0, 0},
        {"netmap:em0-2/x", "em0", NR_REG_ONE_NIC, 2, 0, NR_EXCLUSIVE},
        {"netmap:em0/", "em0", NR_REG_ALL_NIC, 0, 0, 0},
        {"netmap:em0/ztrRTx@7", "em0", NR_REG_ALL_NIC, 0, 7,
         NR_ZCOPY_MON | NR_MONITOR_TX | NR_MONITOR_RX | NR_RX_RINGS_ONLY | NR_TX_RINGS_ONLY |
             NR_EXCLUSIVE},
        {"netmap:em0{a_1", "em0{a_1", NR_REG_ALL_NIC, 0, 0, 0},
        {"netmap:em0}1-0", "em0}1", NR_REG_ONE_NIC, 0, 0, 0},
        {"netmap:em0{", "em0{", NR_REG_ALL_NIC, 0, 0, 0}, /* the kernel refuses it */
        {"vale0:a", "vale0:a", NR_REG_ALL_NIC, 0, 0, 0},
        {"vale:a{1", "vale:a{1", NR_REG_ALL_NIC, 0, 0, 0},
        {"vale_x9:b.c@3", "vale_x9:b.c", NR_REG_ALL_NIC, 0, 3, 0},
        {"netmap:em0@65535", "em0", NR_REG_ALL_NIC, 0, 65535, 0},
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nmreq_header header;
        struct nmreq_register reg;

        assert_true(nm_parse_port(NULL, cases[i].text, &header, &reg, NULL));
        assert_string_equal(header.nr_name, cases[i].name);
        assert_int_equal(header.nr_version, 14);
        assert_int_equal(header.nr_reqtype, NETMAP_REQ_REGISTER);
        assert_int_equal(header.nr_body, (uintptr_t)&reg);
        assert_int_equal(header.nr_options, 0);
        assert_int_equal(reg.nr_mode, cases[i].mode);
        assert_int_equal(reg.nr_ringid, cases[i].ring);
        assert_int_equal(reg.nr_mem_id, cases[i].mem_id);
        assert_int_equal(reg.nr_flags, cases[i].flags);
    }
}

static void what_is_no_name_is_told(void **state)
{
    static const struct {
        const char *text, *says;
        int err;
    } cases[] = {
        {"", "begins neither", EINVAL},
        {"em0", "begins neither", EINVAL},
        {"vale", "no ':'", EINVAL},
        {"vale0", "no ':'", EINVAL},
        {"vale-x:a", "no ':'", EINVAL},
        {"netmap:", "0 characters", EINVAL},
        {"netmap:-1", "0 characters", EINVAL},
        {"netmap:0123456789012345678901234567890123456789012345678901234567890123", "64 characters",
         EINVAL},
        {"netmap:em0{a.b", "'.' in the name of a pipe", EINVAL},
        {"netmap:em0{a}b", "'}' in the name of a pipe", EINVAL},
        {"netmap:em0-", "ring number is missing", EINVAL},
        {"netmap:em0-x", "ring number is missing", EINVAL},
        {"netmap:em0-4095", "ring number is more than 4094", EINVAL},
        {"netmap:em0-99999999999999999999", "ring number is more than 4094", EINVAL},
        {"netmap:em0^x", "unexpected \"x\"", EINVAL},
        {"netmap:em0*1", "unexpected \"1\"", EINVAL},
        {"netmap:em0-1-2", "unexpected \"-2\"", EINVAL},
        {"netmap:em0/q", "unknown flag 'q'", EINVAL},
        {"netmap:em0@", "unknown option \"\"", EINVAL},
        {"netmap:em0@0", "bad memory id", EINVAL},
        {"netmap:em0@65536", "memory id is more than 65535", EINVAL},
        {"netmap:em0@3x", "bad memory id", EINVAL},
        {"netmap:em0@3@4", "unknown option \"4\"", EINVAL},
        {"netmap:em0@nope=1", "unknown option \"nope\"", EINVAL},
        {"netmap:em0@conf", "option \"conf\" has no value", EINVAL},
        {"netmap:em0@conf=3", "option conf needs a key", EINVAL},
        {"netmap:em0@conf:", "option conf is empty", EINVAL},
        {"netmap:em0@conf:slots", "has no '='", EINVAL},
        {"netmap:em0@conf:slots=", "slots is missing", EINVAL},
        {"netmap:em0@conf:slots=1k", "slots=1k is no number", EINVAL},
        {"netmap:em0@conf:rings=65536", "rings is more than 65535", EINVAL},
        {"netmap:em0@conf:nope=1", "no key \"nope\"", EINVAL},
        {"netmap:em0@extmem:nope=1", "no key \"nope\"", EINVAL},
        {"netmap:em0@extmem=/x", "has to be opened with the port", EINVAL},
        {"netmap:em0@share=x", "begins neither", EINVAL},
        {"netmap:em0@offset=2", "has to be asked for by a request", EOPNOTSUPP},
        {"netmap:em0@offset:initial=2,bits=3", "has to be asked for by a request", EOPNOTSUPP},
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nmreq_header header;
        struct nmreq_register reg;
        g_autoptr(GError) error = NULL;

        assert_false(nm_parse_port(NULL, cases[i].text, &header, &reg, &error));
        assert_true(g_error_matches(error, NM_ERROR, cases[i].err));
        assert_true(g_str_has_prefix(error->message, cases[i].text) ||
                    strstr(cases[i].text, "share"));
        if (!strstr(error->message, cases[i].says)) {
            fail_msg("\"%s\" does not say \"%s\"", error->message, cases[i].says);
        }
    }
}

static void conf_sets_rings_and_slots(void **state)
{
    struct nmreq_header header;
    struct nmreq_register reg;

    (void)state;
    assert_true(nm_parse_port(NULL, "vale0:a@2@conf:rings=3,slots=64@conf:host-rings=2", &header,
                              &reg, NULL));
    assert_int_equal(reg.nr_mem_id, 2);
    assert_int_equal(reg.nr_tx_rings, 3);
    assert_int_equal(reg.nr_rx_rings, 3);
    assert_int_equal(reg.nr_tx_slots, 64);
    assert_int_equal(reg.nr_rx_slots, 64);
    assert_int_equal(reg.nr_host_tx_rings, 2);
    assert_int_equal(reg.nr_host_rx_rings, 2);
    assert_true(nm_parse_port(NULL,
                              "vale0:a@conf:tx-rings=1,rx_rings=2,tx_slots=3,rx_slots=4,"
                              "host_tx_rings=5,host_rx_rings=6",
                              &header, &reg, NULL));
    assert_int_equal(reg.nr_tx_rings, 1);
    assert_int_equal(reg.nr_rx_rings, 2);
    assert_int_equal(reg.nr_tx_slots, 3);
    assert_int_equal(reg.nr_rx_slots, 4);
    assert_int_equal(reg.nr_host_tx_rings, 5);
    assert_int_equal(reg.nr_host_rx_rings, 6);
}

static void share_takes_the_memory_of_another_port(void **state)
{
    struct nm_host *host = bed_host();
    struct nmreq_header header;
    struct nmreq_register reg;
    g_autoptr(GError) error = NULL;

    (void)state;
    bed_nic_new(host, "x0");
    assert_true(nm_parse_port(host, "netmap:y@share=netmap:x0", &header, &reg, NULL));
    assert_int_equal(reg.nr_mem_id, 1);
    assert_true(nm_parse_port(host, "netmap:y@1@share:port=netmap:x0", &header, &reg, NULL));
    assert_false(nm_parse_port(host, "netmap:y@2@share=netmap:x0", &header, &reg, &error));
    assert_true(g_error_matches(error, NM_ERROR, EINVAL));
    g_clear_error(&error);
    assert_false(nm_parse_port(host, "netmap:y@share=netmap:z", &header, &reg, &error));
    assert_true(g_error_matches(error, NM_ERROR, ENXIO));
    nm_host_free(host);
}

static void a_port_opens_by_its_name(void **state)
{
    static const struct {
        const char *name;
        uint16_t first_tx, last_tx, first_rx, last_rx;
    } cases[] = {
        {"netmap:x0", 0, 2, 0, 1},  {"netmap:x0-1", 1, 1, 1, 1}, {"netmap:x0^", 3, 3, 2, 2},
        {"netmap:x0*", 0, 3, 0, 2}, {"netmap:x0/T", 0, 2, 3, 2}, /* of 3 rx rings none: last is
                                                                    before first */
    };
    struct nm_host *host = bed_host();
    g_autoptr(GError) error = NULL;

    (void)state;
    bed_nic_new(host, "x0");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nm_port *port = nm_port_open(host, cases[i].name, 0, NULL);

        assert_non_null(port);
        assert_int_equal(port->first_tx_ring, cases[i].first_tx);
        assert_int_equal(port->last_tx_ring, cases[i].last_tx);
        assert_int_equal(port->first_rx_ring, cases[i].first_rx);
        assert_int_equal(port->last_rx_ring, cases[i].last_rx);
        assert_int_equal(port->reg.nr_tx_rings, 3);
        nm_port_close(port);
    }
    assert_null(nm_port_open(host, "netmap:nobody", 0, &error));
    assert_true(g_error_matches(error, NM_ERROR, ENXIO));
    assert_string_equal(error->message, "nobody: No such device or address");
    assert_use(host, 0, 0, 0);
    nm_host_free(host);
}

static void a_port_opens_over_a_files_memory(void **state)
{
    struct nm_host *host = bed_host();
    g_autofree char *path = g_strdup("/tmp/ringlab-extmem-XXXXXX");
    int fd = g_mkstemp(path);
    g_autoptr(GError) error = NULL;

    (void)state;
    bed_nic_new(host, "x0");
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    g_autofree char *name = g_strdup_printf(
        "netmap:x0-0@extmem:file=%s,ring_size=1024,ring-num=16,if_num=4,buf_num=128", path);
    struct nm_port *port = nm_port_open(host, name, 0, &error);
    assert_null(error);
    assert_non_null(port);
    assert_ptr_equal(nm_memory(port->file), port->memory.base);
    assert_int_equal(port->memory.size, 1 << 20);
    assert_int_equal(nm_memory_fd(port->file), -1);
    assert_int_equal(port->reg.nr_memsize, 1 << 20);

    /* another port on the same memory outlives the first */
    g_autofree char *by_id = g_strdup_printf("netmap:x0{1@%u@conf:slots=16", port->reg.nr_mem_id);
    struct nm_port *other = nm_port_open(host, by_id, 0, NULL);
    assert_non_null(other);
    nm_port_close(port);
    nm_buf(nm_txring(other->nifp, 0), nm_txring(other->nifp, 0)->slot[3].buf_idx)[0] = 1;
    nm_port_close(other);
    nm_host_free(host);
    close(fd);
    unlink(path);
}

static void an_extmem_file_that_is_not_there_is_named(void **state)
{
    struct nm_host *host = bed_host();
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(nm_port_open(host, "netmap:x0@extmem=/nowhere/at/all", 0, &error));
    assert_true(g_error_matches(error, NM_ERROR, ENOENT));
    assert_string_equal(error->message, "/nowhere/at/all: No such file or directory");
    nm_host_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_become_requests),
        cmocka_unit_test(what_is_no_name_is_told),
        cmocka_unit_test(conf_sets_rings_and_slots),
        cmocka_unit_test(share_takes_the_memory_of_another_port),
        cmocka_unit_test(a_port_opens_by_its_name),
        cmocka_unit_test(a_port_opens_over_a_files_memory),
        cmocka_unit_test(an_extmem_file_that_is_not_there_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
