#include "harness/devset.h"
#include "harness/qemu.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct devspec *add(struct devset *set, const char *text)
{
    g_autoptr(GError) error = NULL;
    const struct devspec *spec = devset_add_text(set, text, &error);
    if (!spec)
        fail_msg("%s", error->message);
    return spec;
}

static struct qemu *start(struct devset *set, enum machine_board board)
{
    g_autoptr(GError) error = NULL;
    unsigned n_fds;
    const int *fds = devset_fds(set, &n_fds);
    struct qemu *qemu = qemu_start(&(struct qemu_options){.name = "m",
                                                          .board = board,
                                                          .args = devset_args(set),
                                                          .inherit_fds = fds,
                                                          .n_inherit_fds = n_fds},
                                   &error);
    if (!qemu)
        fail_msg("%s", error->message);
    devset_started(set);
    return qemu;
}

static char *join(struct devset *set)
{
    return g_strjoinv(" ", (char **)(guintptr)devset_args(set));
}

static void a_complete_device_gets_an_id_and_nothing_else(void **state)
{
    (void)state;
    struct devset *set = devset_new();
    add(set, "edu");
    add(set, "edu,id=dev1");
    add(set, "virtio-net-pci,netdev=n0");
    g_autofree char *args = join(set);
    assert_string_equal(args, "-device edu,id=dev0 -device edu,id=dev1 "
                              "-device virtio-net-pci,id=dev2,netdev=n0");
    assert_int_equal(devset_len(set), 3);
    assert_string_equal(devset_get(set, 1)->id, "dev1");
    assert_null(devset_memory(set, "dev0"));
    assert_null(devset_server(set, "dev0"));
    devset_free(set);
}

static void an_id_given_twice_is_refused(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct devset *set = devset_new();
    add(set, "edu,id=e");
    assert_null(devset_add_text(set, "pvpanic-pci,id=e", &error));
    assert_true(g_error_matches(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID));
    assert_string_equal(error->message, "device pvpanic-pci: another device has the id e already");
    assert_int_equal(devset_len(set), 1);
    devset_free(set);
}

static void every_network_card_gets_a_hub_of_its_own(void **state)
{
    (void)state;
    struct devset *set = devset_new();
    add(set, "virtio-net-pci");
    add(set, "e1000e");
    g_autofree char *args = join(set);
    assert_string_equal(args, "-netdev hubport,id=ringlab1,hubid=1 "
                              "-device virtio-net-pci,id=dev0,netdev=ringlab1 "
                              "-netdev hubport,id=ringlab2,hubid=2 "
                              "-device e1000e,id=dev1,netdev=ringlab2");
    devset_free(set);
}

static void needs_are_told_from_the_name_and_the_properties(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum devspec_need need;
    } cases[] = {
        {"edu", DEVSPEC_NEEDS_NOTHING},
        {"i82801", DEVSPEC_NEEDS_NETDEV},
        {"i82801b11-bridge", DEVSPEC_NEEDS_NOTHING},
        {"virtio-net-pci-transitional", DEVSPEC_NEEDS_NETDEV},
        {"virtio-net-pci,netdev=x", DEVSPEC_NEEDS_NOTHING},
        {"ivshmem-plain", DEVSPEC_NEEDS_MEMORY},
        {"ivshmem-plain,memdev=x", DEVSPEC_NEEDS_NOTHING},
        {"ivshmem-doorbell", DEVSPEC_NEEDS_SERVER},
        {"ivshmem-doorbell,chardev=x", DEVSPEC_NEEDS_NOTHING},
        {"virtio-blk-pci", DEVSPEC_NEEDS_OTHER},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(devspec) spec = devspec_parse(cases[i].text, NULL);
        assert_int_equal(devspec_need(spec), cases[i].need);
    }
}

static void shared_memory_is_made_in_the_size_asked_for(void **state)
{
    (void)state;
    struct devset *set = devset_new();
    const struct devspec *shm = add(set, "ivshmem-plain,size=64K,id=shm");
    assert_null(devspec_get(shm, "size"));
    struct guest_region *region = devset_memory(set, "shm");
    assert_non_null(region);
    assert_int_equal(region->size, 65536);
    add(set, "ivshmem-plain");
    assert_int_equal(devset_memory(set, "dev0")->size, 1 << 20);
    struct qemu *qemu = start(set, MACHINE_PC);
    assert_true(qemu_is_alive(qemu, NULL));
    qemu_free(qemu);
    devset_free(set);
}

static void one_region_becomes_one_backend(void **state)
{
    (void)state;
    struct devset *set = devset_new();
    struct guest_region *region = guest_region_new("r", 4096, GUEST_HUGEPAGES_OFF, NULL);
    const char *id = devset_add_memory(set, region);
    assert_string_equal(id, "ringlab-mem0");
    assert_ptr_equal(devset_add_memory(set, region), id);
    unsigned n_fds;
    const int *fds = devset_fds(set, &n_fds);
    assert_int_equal(n_fds, 1);
    assert_int_equal(fds[0], region->fd);
    devset_free(set);
    guest_region_free(region);
}

static void a_doorbell_device_gets_a_server(void **state)
{
    (void)state;
    struct devset *set = devset_new();
    add(set, "ivshmem-doorbell,vectors=3,id=bell");
    assert_non_null(devset_server(set, "bell"));
    assert_int_equal(ivshmem_server_n_peers(devset_server(set, "bell")), 1);
    struct qemu *qemu = start(set, MACHINE_PC);
    assert_true(qemu_is_alive(qemu, NULL));
    qemu_free(qemu);
    assert_true(ivshmem_server_wait_peers(devset_server(set, "bell"), 0, 5000));
    devset_free(set);
}

static void what_qemu_would_have_inherited_is_closed_with_the_set(void **state)
{
    (void)state;
    struct devset *set = devset_new();
    add(set, "ivshmem-doorbell");
    unsigned n_fds;
    int fd = devset_fds(set, &n_fds)[0];
    assert_int_equal(n_fds, 1);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    devset_free(set);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void assert_refused(const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    struct devset *set = devset_new();
    assert_null(devset_add_text(set, text, &error));
    assert_true(g_error_matches(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID));
    assert_string_equal(error->message, message);
    devset_free(set);
}

static void sizes_and_vectors_that_cannot_be_are_refused(void **state)
{
    (void)state;
    assert_refused("ivshmem-plain,size=3M",
                   "device ivshmem-plain: size=3M must be a power of two from 4K to 64G");
    assert_refused("ivshmem-plain,size=1K",
                   "device ivshmem-plain: size=1K must be a power of two from 4K to 64G");
    assert_refused("ivshmem-plain,size=big",
                   "\"big\" is no size; sizes are written as 4096, 64K, 4M or 1G");
    assert_refused("ivshmem-doorbell,vectors=65",
                   "device ivshmem-doorbell: vectors=65 must be a number from 1 to 64");
    assert_refused("ivshmem-doorbell,vectors=0",
                   "device ivshmem-doorbell: vectors=0 must be a number from 1 to 64");
}

/* The devices of the table of needs that Debian's QEMU has, each by its name alone. */
static void every_device_that_needs_something_starts_by_its_name_alone(void **state)
{
    (void)state;
    static const char *const names[] = {
        "virtio-net-pci",
        "e1000",
        "e1000e",
        "i82550",
        "i82562",
        "i82801",
        "ne2k_pci",
        "pcnet",
        "rtl8139",
        "tulip",
        "vmxnet3",
        "acpi-erst",
        "ivshmem-plain",
        "ivshmem-doorbell",
        "virtio-blk-pci",
        "virtio-9p-pci",
        "nvme",
        "pci-bridge",
        "virtio-crypto-pci",
        "AC97",
        "ES1370",
        "ctucan_pci",
        "kvaser_pci",
        "mioe3680_pci",
        "pcm3680_pci",
        "pci-ipmi-bt",
    };
    const struct qemu_info *info = qemu_info_get(NULL);
    assert_non_null(info);
    struct devset *set = devset_new();
    unsigned n = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!qemu_info_has_device(info, names[i])) {
            print_message("# this QEMU has no %s\n", names[i]);
            continue;
        }
        add(set, names[i]);
        n++;
    }
    struct qemu *qemu = start(set, MACHINE_PC);
    g_autofree char *log = qemu_log(qemu);
    assert_string_equal(log, "");
    g_autoptr(JsonNode) list =
        qmp_execute(qemu_qmp(qemu), "qom-list", "{\"path\": \"/machine/peripheral\"}", NULL);
    assert_non_null(list);
    /* "type" is a member as well; the IPMI card brings its BMC, a device of its own. */
    assert_true(json_array_get_length(json_node_get_array(list)) >= n + 1);
    qemu_free(qemu);
    devset_free(set);
}

static void two_root_ports_have_chassis_numbers_of_their_own(void **state)
{
    (void)state;
    struct devset *set = devset_new();
    add(set, "pcie-root-port,id=port0");
    add(set, "pcie-root-port,id=port1");
    add(set, "virtio-net-pci,bus=port1");
    struct qemu *qemu = start(set, MACHINE_Q35);
    assert_true(qemu_is_alive(qemu, NULL));
    qemu_free(qemu);
    devset_free(set);
}

static void the_json_form_is_understood_by_device_add(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct devset *set = devset_new();
    struct qemu *qemu = start(set, MACHINE_PC);
    g_autoptr(devspec) spec =
        devspec_parse("virtio-net-pci,id=hot,vectors=5,mrg_rxbuf=off,addr=7", NULL);
    g_autoptr(JsonNode) answer =
        qmp_execute_node(qemu_qmp(qemu), "device_add", devspec_to_json(spec), &error);
    if (!answer)
        fail_msg("%s", error->message);
    g_autoptr(JsonNode) vectors =
        qmp_execute(qemu_qmp(qemu), "qom-get",
                    "{\"path\": \"/machine/peripheral/hot\", \"property\": \"vectors\"}", &error);
    assert_non_null(vectors);
    assert_int_equal(json_node_get_int(vectors), 5);
    qemu_free(qemu);
    devset_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_complete_device_gets_an_id_and_nothing_else),
        cmocka_unit_test(an_id_given_twice_is_refused),
        cmocka_unit_test(every_network_card_gets_a_hub_of_its_own),
        cmocka_unit_test(needs_are_told_from_the_name_and_the_properties),
        cmocka_unit_test(shared_memory_is_made_in_the_size_asked_for),
        cmocka_unit_test(one_region_becomes_one_backend),
        cmocka_unit_test(a_doorbell_device_gets_a_server),
        cmocka_unit_test(what_qemu_would_have_inherited_is_closed_with_the_set),
        cmocka_unit_test(sizes_and_vectors_that_cannot_be_are_refused),
        cmocka_unit_test(every_device_that_needs_something_starts_by_its_name_alone),
        cmocka_unit_test(two_root_ports_have_chassis_numbers_of_their_own),
        cmocka_unit_test(the_json_form_is_understood_by_device_add),
    };
    return cmocka_run_group_tests_name("devset", tests, NULL, NULL);
}
