#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct nm_host *host_new(void)
{
    struct nm_host *host = nm_host_new(&(struct nm_host_options){.buf_num = 4096}, NULL);

    assert_non_null(host);
    return host;
}

static int register_null(struct nm_file *file, struct nmreq_register *reg)
{
    struct nmreq_header header = {
        .nr_version = NETMAP_API,
        .nr_reqtype = NETMAP_REQ_REGISTER,
        .nr_name = "x",
        .nr_body = (uintptr_t)reg,
    };

    return nm_ctrl(file, &header);
}

static void a_null_port_gives_an_interface_and_extra_buffers(void **state)
{
    struct nm_host *host = host_new();
    struct nm_file *file = nm_open(host);
    struct nmreq_register reg = {.nr_mode = NR_REG_NULL, .nr_mem_id = 1, .nr_extra_bufs = 3};

    (void)state;
    assert_int_equal(nm_memory_size(file), 0);
    assert_int_equal(nm_memory_fd(file), -1);
    assert_null(nm_memory(file));
    assert_null(nm_file_if(file));

    assert_int_equal(register_null(file, &reg), 0);
    assert_int_equal(reg.nr_extra_bufs, 3);
    assert_int_equal(reg.nr_mem_id, 1);
    assert_int_equal(reg.nr_memsize, nm_memory_size(file));
    struct netmap_if *nifp = nm_file_if(file);
    assert_ptr_equal(nifp, (char *)nm_memory(file) + reg.nr_offset);
    assert_string_equal(nifp->ni_name, "null:x");
    assert_int_equal(nifp->ni_tx_rings, 0);
    assert_int_equal(nifp->ni_host_rx_rings, 1);
    assert_int_equal(nifp->ni_flags, 0);

    struct nm_mem *mem = nm_mem_find(host->mems, 1);
    assert_int_equal(nm_mem_used(mem, NM_POOL_BUF), 3);
    assert_int_equal(nm_mem_used(mem, NM_POOL_IF), 1);
    nm_close(file);
    assert_int_equal(nm_mem_used(mem, NM_POOL_BUF), 0);
    assert_int_equal(nm_mem_used(mem, NM_POOL_IF), 0);
    nm_mem_unref(mem);
    nm_host_free(host);
}

static void freeing_a_host_closes_what_is_open(void **state)
{
    struct nm_host *host = host_new();

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct nmreq_register reg = {.nr_mode = NR_REG_NULL,
                                     .nr_mem_id = 1,
                                     .nr_tx_rings = 2,
                                     .nr_rx_rings = 1,
                                     .nr_tx_slots = 8,
                                     .nr_rx_slots = 16};
        assert_int_equal(register_null(nm_open(host), &reg), 0);
        assert_int_equal(reg.nr_tx_rings, 2);
        assert_int_equal(reg.nr_rx_slots, 16);
    }
    nm_host_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_null_port_gives_an_interface_and_extra_buffers),
        cmocka_unit_test(freeing_a_host_closes_what_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
