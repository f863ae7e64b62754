/*
 * `ringlab attach`: what it makes of a QEMU command, and what it refuses. A guest that boots with
 * its devices is ci/test_attach.sh's business.
 */
#include "harness/attach.h"
#include "harness/cmd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/test_capture.h"

#define PROXY_ID "id=ringlab-ptnet0,fd="

static void assert_usage(const char *line, const char *message)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    int argc = (int)g_strv_length(words);
    g_autofree char **argv = g_memdup2(words, ((size_t)argc + 1) * sizeof(char *));
    g_autofree char *expected = g_strdup_printf("ringlab attach: %s\n", message);
    struct capture capture;

    g_set_prgname("ringlab attach");
    capture_begin(&capture, 2);
    int status = cmd_attach(argc, argv);
    g_autofree char *err = capture_end(&capture);
    assert_string_equal(err, expected);
    assert_int_equal(status, CMD_USAGE);
}

static void wrong_usage_is_one_line(void **state)
{
    (void)state;
    assert_usage("attach", "no DEVICE given; 'ringlab attach --help' shows how");
    assert_usage("attach -- qemu", "no DEVICE given; 'ringlab attach --help' shows how");
    assert_usage("attach ptnet-pci,port=vale0:a",
                 "no QEMU command; it stands behind '--'; 'ringlab attach --help' shows how");
    assert_usage("attach ptnet-pci,port=vale0:a --",
                 "no QEMU command; it stands behind '--'; 'ringlab attach --help' shows how");
    assert_usage("attach ptnet-pci,port=vale0:a -- /nowhere/qemu",
                 "there is no program '/nowhere/qemu'");
}

static void devices_that_cannot_be_are_refused(void **state)
{
    (void)state;
    assert_usage("attach e1000 -- qemu", "there is no modelled device 'e1000'; there is ptnet-pci");
    assert_usage("attach ptnet-pci -- qemu",
                 "ptnet-pci: no port; 'ptnet-pci,port=vale0:a' names one");
    assert_usage("attach ptnet-pci,port=vale0:a,mac=5 -- qemu",
                 "ptnet-pci: mac=5 is no MAC address");
    assert_usage("attach ptnet-pci,port=vale0:a,klooptx=maybe -- qemu",
                 "klooptx=maybe: it is on or off");
}

static void links_that_cannot_be_are_refused(void **state)
{
    (void)state;
    assert_usage("attach ptnet-pci,port=vale0:a --link vale0:b -- qemu",
                 "'vale0:b' is no link; PORT=tap:NAME, PORT=pcap:FILE and PORT=echo are");
    assert_usage("attach ptnet-pci,port=vale0:a --link vale0:b=tcp:1 -- qemu",
                 "nothing is called 'tcp:1': a port may be linked to tap:NAME, pcap:FILE or echo");
}

/* ---- the command line ---- */

/* What comes behind the user's own words; NULL with *error. */
static GPtrArray *extend(struct attach *a, const char *line, GError **error)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);

    return attach_command(a, words, error);
}

static bool has(const GPtrArray *argv, const char *option, const char *pattern)
{
    for (guint i = 0; i + 2 < argv->len; i++) {
        if (strcmp(argv->pdata[i], option) == 0 &&
            g_pattern_match_simple(pattern, argv->pdata[i + 1])) {
            return true;
        }
    }
    return false;
}

static struct attach *with_device(const char *spec)
{
    struct attach *a = attach_new(NULL, NULL);

    assert_non_null(a);
    assert_true(attach_add_device(a, spec, NULL));
    return a;
}

static void the_command_gets_shared_memory_of_the_size_it_asks_for(void **state)
{
    static const struct {
        const char *line;
        uint64_t bytes;
    } cases[] = {
        {"qemu", UINT64_C(128) << 20},           {"qemu -m 300", UINT64_C(300) << 20},
        {"qemu -m 2G", UINT64_C(2) << 30},       {"qemu -m size=512M,slots=2", UINT64_C(512) << 20},
        {"qemu -m 1048576k", UINT64_C(1) << 30},
    };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct attach *a = with_device("ptnet-pci,port=vale0:a");
        g_autoptr(GPtrArray) argv = extend(a, cases[i].line, NULL);
        g_autofree char *ram = g_strdup_printf(
            "memory-backend-memfd,id=ringlab-ram,size=%" G_GUINT64_FORMAT ",share=on",
            cases[i].bytes);
        assert_true(has(argv, "-object", ram));
        assert_true(has(argv, "-machine", "memory-backend=ringlab-ram"));
        attach_free(a);
    }
}

static void a_memory_backend_of_the_users_is_left_alone(void **state)
{
    struct attach *a = with_device("ptnet-pci,port=vale0:a");

    (void)state;
    g_autoptr(GPtrArray) argv = extend(a, "qemu -machine q35,memory-backend=mine -m 1G", NULL);
    assert_false(has(argv, "-object", "memory-backend-memfd,*"));
    assert_false(has(argv, "-machine", "memory-backend=ringlab-ram"));
    attach_free(a);
}

static void devices_are_named_with_the_descriptors_that_qemu_inherits(void **state)
{
    struct attach *a = with_device("ptnet-pci,port=vale0:a,addr=9");
    unsigned n_fds;

    (void)state;
    assert_true(attach_add_device(a, "ptnet-pci,port=vale0:b,id=second", NULL));
    g_autoptr(GPtrArray) argv = extend(a, "qemu -nodefaults", NULL);
    assert_string_equal(argv->pdata[0], "qemu");
    assert_string_equal(argv->pdata[1], "-nodefaults");
    assert_true(has(argv, "-device", "x-pci-proxy-dev,addr=9," PROXY_ID "*"));
    assert_true(has(argv, "-device", "x-pci-proxy-dev,id=second,fd=*"));
    /* two ports, each with an allocator of its own: two memdevs, each with its window */
    assert_true(has(argv, "-device", "x-pci-proxy-dev,id=ringlab-memdev0,fd=*"));
    assert_true(has(argv, "-device", "x-pci-proxy-dev,id=ringlab-memdev1,fd=*"));
    assert_true(
        has(argv, "-device",
            "ivshmem-plain,id=ringlab-memdev1-window,memdev=ringlab-memdev1-memory,addr=*"));
    assert_true(has(argv, "-chardev", "socket,id=ringlab-qtest,fd=*"));
    attach_fds(a, &n_fds);
    assert_int_equal(n_fds, 1 + 2 + 2 * 2);
    attach_free(a);
}

static void ports_that_share_an_allocator_share_a_memdev(void **state)
{
    struct attach *a = with_device("ptnet-pci,port=vale0:a@1");

    (void)state;
    assert_true(attach_add_device(a, "ptnet-pci,port=vale0:b@1", NULL));
    g_autoptr(GPtrArray) argv = extend(a, "qemu", NULL);
    assert_true(has(argv, "-device", "x-pci-proxy-dev,id=ringlab-memdev0,fd=*"));
    assert_false(has(argv, "-device", "x-pci-proxy-dev,id=ringlab-memdev1,fd=*"));
    attach_free(a);
}

static void commands_that_cannot_be_extended_are_refused(void **state)
{
    struct attach *a = with_device("ptnet-pci,port=vale0:a");
    GError *error = NULL;

    (void)state;
    assert_null(extend(a, "qemu -qtest stdio", &error));
    assert_string_equal(error->message,
                        "the QEMU command has a -qtest of its own, and there can be only one");
    g_clear_error(&error);
    assert_null(extend(a, "qemu -m lots", &error));
    assert_string_equal(error->message, "cannot read how much RAM '-m lots' means");
    g_clear_error(&error);
    attach_free(a);
}

static void a_port_that_is_taken_is_refused(void **state)
{
    struct attach *a = with_device("ptnet-pci,port=vale0:a");
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_false(attach_add_device(a, "ptnet-pci,port=vale0:a", &error));
    assert_non_null(strstr(error->message, "vale0:a"));
    attach_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage_is_one_line),
        cmocka_unit_test(devices_that_cannot_be_are_refused),
        cmocka_unit_test(links_that_cannot_be_are_refused),
        cmocka_unit_test(the_command_gets_shared_memory_of_the_size_it_asks_for),
        cmocka_unit_test(a_memory_backend_of_the_users_is_left_alone),
        cmocka_unit_test(devices_are_named_with_the_descriptors_that_qemu_inherits),
        cmocka_unit_test(ports_that_share_an_allocator_share_a_memdev),
        cmocka_unit_test(commands_that_cannot_be_extended_are_refused),
        cmocka_unit_test(a_port_that_is_taken_is_refused),
    };
    return cmocka_run_group_tests_name("ringlab attach", tests, NULL, NULL);
}
