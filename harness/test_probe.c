#include "harness/cmd.h"
#include "harness/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct probe *probe_ok(const struct probe_options *options)
{
    g_autoptr(GError) error = NULL;
    struct probe *probe = probe_new(options, &error);
    if (!probe)
        fail_msg("%s", error->message);
    return probe;
}

typedef void (*print_fn)(const struct probe *probe, FILE *out);

static void print_plain(const struct probe *probe, FILE *out)
{
    probe_print_text(probe, out, false);
}

static char *print(const struct probe *probe, print_fn fn)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    fn(probe, out);
    fclose(out);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in:\n%s", part, text);
}

static const struct probe_function *find(const struct probe *probe, const char *id)
{
    for (guint i = 0; i < probe->functions->len; i++) {
        const struct probe_function *function = g_ptr_array_index(probe->functions, i);
        if (function->device && g_str_equal(session_device_id(function->device), id))
            return function;
    }
    fail_msg("no function with id %s", id);
    return NULL;
}

/* ---- what is found ---- */

static void the_bare_machine_is_listed_without_registers(void **state)
{
    (void)state;
    struct probe *probe = probe_ok(&(struct probe_options){0});
    g_autofree char *text = print(probe, print_plain);
    assert_has(text, "machine pc, accelerator ");
    assert_has(text, "\n00:00.0  8086:1237  host bridge\n"
                     "00:01.0  8086:7000  ISA bridge\n"
                     "00:01.1  8086:7010  IDE controller\n"
                     "00:01.3  8086:7113  bridge\n"
                     "\n"
                     "Name devices to add them and see their registers; --all shows those of "
                     "these.\n");
    for (guint i = 0; i < probe->functions->len; i++)
        assert_null(((struct probe_function *)g_ptr_array_index(probe->functions, i))->blocks);
    probe_free(probe);
}

static void all_shows_the_registers_of_the_machine_itself(void **state)
{
    (void)state;
    struct probe *probe = probe_ok(&(struct probe_options){.board = MACHINE_Q35, .is_all = true});
    g_autofree char *text = print(probe, print_plain);
    assert_has(text, "machine q35, accelerator ");
    assert_has(text, "\n00:00.0  host bridge\n");
    assert_has(text, "\n    0x002  device_id             ro    0x29c0      which device\n");
    assert_has(text, "\n00:1f.2  SATA controller\n");
    probe_free(probe);
}

static void devices_asked_for_are_found_by_their_ids_and_enabled(void **state)
{
    (void)state;
    static const char *const devices[] = {"ivshmem-plain,id=b,size=64K", "ivshmem-plain,id=a",
                                          NULL};
    struct probe *probe = probe_ok(&(struct probe_options){.devices = devices});
    const struct probe_function *a = find(probe, "a"), *b = find(probe, "b");
    assert_string_equal(a->name, "ivshmem-plain");
    assert_int_equal(a->dev->bars[2].size, 4 << 20);
    assert_int_equal(b->dev->bars[2].size, 65536);
    assert_true(a->dev->bars[2].base != 0);
    /* The host bridge was not asked for. */
    assert_null(((struct probe_function *)g_ptr_array_index(probe->functions, 0))->blocks);
    probe_free(probe);
}

static void a_device_behind_a_root_port_is_found(void **state)
{
    (void)state;
    static const char *const devices[] = {"pcie-root-port,id=rp", "e1000e,bus=rp,id=nic", NULL};
    struct probe *probe =
        probe_ok(&(struct probe_options){.board = MACHINE_Q35, .devices = devices});
    const struct probe_function *port = find(probe, "rp"), *nic = find(probe, "nic");
    assert_true(port->dev->secondary_bus > 0);
    assert_int_equal(nic->dev->bus, port->dev->secondary_bus);
    g_autofree char *text = print(probe, print_plain);
    g_autofree char *range = g_strdup_printf("\n  bridge to   buses %02x to %02x\n",
                                             port->dev->secondary_bus, port->dev->subordinate_bus);
    assert_has(text, range);
    assert_has(text, "\n    0x05400  RA[0]        rw    0x12005452  ");
    probe_free(probe);
}

/* ---- ringlab's own models ---- */

static char *probe_ptnet(enum machine_board board)
{
    static const char *const devices[] = {"ptnet-pci,id=pt,mac=02:00:00:00:00:09", NULL};
    struct probe *probe = probe_ok(&(struct probe_options){.board = board, .devices = devices});
    assert_string_equal(find(probe, "pt")->name, "ptnet-pci");
    char *text = print(probe, print_plain);
    probe_free(probe);
    return text;
}

static void a_ptnet_and_its_memdev_are_decoded_as_any_device_on_pc(void **state)
{
    (void)state;
    g_autofree char *text = probe_ptnet(MACHINE_PC);
    assert_has(text, "00:04.0  1b36:000d  ptnet-pci        Ethernet controller\n");
    assert_has(text, "  1b36:000c  ptnetmap-memdev  device without a class\n");
    assert_has(text, "\n00:04.0  ptnet-pci  id pt\n"
                     "  device      1b36:000d revision 00, netmap passthrough network device\n"
                     "  class       020000, Ethernet controller\n"
                     "  interrupt   INTA#\n"
                     "  BAR 0       I/O ports                       256 B at 0x1000\n"
                     "  BAR 2       32-bit memory                   4 KiB at 0xe0000000\n"
                     "  cap 0x11    MSI-X, 2 vectors                      at 0x40  "
                     "registers: msix\n");
    assert_has(text, "\n    0-1      0x00000000       0x00000000             0x00000000    "
                     "0x00000001\n");
    assert_has(text, "\n    0x008  MAC_LO        ro    0x00000009  MAC address, bytes 2..5, ");
    assert_has(text, "\n    0x00c  MAC_HI        ro    0x00000200  ");
    assert_has(text, "\n    0x01c  NUM_TX_RINGS  ro    0x00000001  transmit rings\n");
    assert_has(text, "\n  BAR 1       32-bit memory, prefetchable    64 MiB at 0xe4000000\n");
    assert_has(text, "\n    0x008  MEMID             ro    0x0000");
}

static void a_ptnet_and_its_memdev_are_decoded_as_any_device_on_q35(void **state)
{
    (void)state;
    g_autofree char *text = probe_ptnet(MACHINE_Q35);
    assert_has(text, "00:04.0  1b36:000d  ptnet-pci         Ethernet controller\n");
    assert_has(text, "00:05.0  1b36:000c  ptnetmap-memdev   device without a class\n");
    assert_has(text, "\n    0x00c  MAC_HI        ro    0x00000200  ");
}

/* ---- text ---- */

static void a_virtio_device_is_decoded_to_the_field(void **state)
{
    (void)state;
    static const char *const devices[] = {
        "virtio-net-pci,mac=02:00:00:00:00:07,disable-legacy=on,vectors=3", NULL};
    struct probe *probe = probe_ok(&(struct probe_options){.devices = devices});
    g_autofree char *text = print(probe, print_plain);
    assert_has(text, "00:04.0  1af4:1041  virtio-net-pci  Ethernet controller\n");
    assert_has(text, "\n00:04.0  virtio-net-pci  id dev0\n"
                     "  device      1af4:1041 revision 01, virtio network device\n"
                     "  class       020000, Ethernet controller\n"
                     "  interrupt   INTA#\n"
                     "  BAR 1       32-bit memory                   4 KiB at 0xe0000000\n"
                     "  BAR 4       64-bit memory, prefetchable    16 KiB at 0xe0004000\n"
                     "  cap 0x11    MSI-X, 3 vectors                      at 0x98  "
                     "registers: msix\n");
    assert_has(text, "\n    0x004  command               rw    0x0007      "
                     "what it may do on the bus\n"
                     "           [0]     io_space                = 1      answers to I/O space\n");
    assert_has(text, "\n           clear:  special_cycles, memory_write_invalidate, "
                     "vga_palette_snoop, parity_error_response,\n"
                     "                   stepping_control, serr_enable, fast_back_to_back, "
                     "interrupt_disable\n");
    assert_has(text, "  ro    02:00:00:00:00:07  ");
    assert_has(text, "\n    element  message_address  message_upper_address  message_data  "
                     "vector_control\n"
                     "    0-2      0x00000000       0x00000000             0x00000000    "
                     "0x00000001\n");
    assert_null(strchr(text, '\033'));
    assert_null(strstr(text, " \n"));
    probe_free(probe);
}

static void every_register_of_every_block_is_shown(void **state)
{
    (void)state;
    static const char *const devices[] = {"virtio-net-pci", "ivshmem-doorbell", "edu", NULL};
    struct probe *probe = probe_ok(&(struct probe_options){.devices = devices});
    g_autofree char *text = print(probe, print_plain);
    unsigned n_registers = 0;
    for (guint i = 0; i < probe->functions->len; i++) {
        const struct probe_function *function = g_ptr_array_index(probe->functions, i);
        for (guint j = 0; function->blocks && j < function->blocks->len; j++) {
            const struct probe_block *block = g_ptr_array_index(function->blocks, j);
            g_autofree char *head = g_strdup_printf("\n  %s: ", block->block->name);
            assert_has(text, head);
            for (unsigned k = 0; k < block->block->abi->n_regs; k++) {
                const struct abi_reg *reg = &block->block->abi->regs[k];
                bool is_inside =
                    block->block->abi->stride || reg->offset + reg->width <= block->block->size;
                assert_true((block->values[k] != NULL) == (is_inside && reg->access != ABI_WO));
                if (is_inside)
                    assert_has(text, reg->what);
                n_registers++;
            }
        }
    }
    assert_true(n_registers > 150);
    probe_free(probe);
}

static void a_terminal_gets_escape_sequences(void **state)
{
    (void)state;
    struct probe *probe = probe_ok(&(struct probe_options){.is_all = true});
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    probe_print_text(probe, out, true);
    fclose(out);
    assert_has(text, "\033[1m00:00.0  host bridge\033[0m\n");
    free(text);
    probe_free(probe);
}

/* ---- JSON ---- */

static JsonObject *member(JsonArray *array, const char *name)
{
    for (guint i = 0; i < json_array_get_length(array); i++) {
        JsonObject *object = json_array_get_object_element(array, i);
        if (g_str_equal(json_object_get_string_member(object, "name"), name))
            return object;
    }
    fail_msg("no member called %s", name);
    return NULL;
}

static void json_has_the_same_values(void **state)
{
    (void)state;
    static const char *const devices[] = {"ivshmem-doorbell,vectors=2,id=bell", NULL};
    struct probe *probe = probe_ok(&(struct probe_options){.devices = devices});
    g_autofree char *text = print(probe, probe_print_json);
    g_autoptr(JsonNode) root = json_from_string(text, NULL);
    assert_non_null(root);
    JsonObject *top = json_node_get_object(root);
    assert_string_equal(json_object_get_string_member(top, "machine"), "pc");
    JsonObject *bell = member(json_object_get_array_member(top, "functions"), "ivshmem-doorbell");
    assert_string_equal(json_object_get_string_member(bell, "id"), "bell");
    assert_string_equal(json_object_get_string_member(bell, "vendor_id"), "0x1af4");
    assert_string_equal(json_object_get_string_member(bell, "class_code"), "0x050000");
    assert_int_equal(json_object_get_int_member(bell, "msix_vectors"), 2);
    JsonObject *bar0 = json_array_get_object_element(json_object_get_array_member(bell, "bars"), 0);
    assert_string_equal(json_object_get_string_member(bar0, "kind"), "mem32");
    assert_int_equal(json_object_get_int_member(bar0, "size"), 256);
    JsonArray *blocks = json_object_get_array_member(bell, "blocks");
    JsonArray *config = json_object_get_array_member(member(blocks, "config"), "registers");
    JsonObject *command = member(config, "command");
    assert_string_equal(json_object_get_string_member(command, "value"), "0x0007");
    JsonObject *master = member(json_object_get_array_member(command, "fields"), "bus_master");
    assert_string_equal(json_object_get_string_member(master, "value"), "0x1");
    assert_int_equal(json_object_get_int_member(master, "lsb"), 2);
    JsonArray *regs = json_object_get_array_member(member(blocks, "regs"), "registers");
    assert_false(json_object_has_member(member(regs, "Doorbell"), "value"));
    JsonObject *table = member(blocks, "msix_table");
    assert_int_equal(json_object_get_int_member(table, "count"), 2);
    JsonArray *controls = json_object_get_array_member(
        member(json_object_get_array_member(table, "registers"), "vector_control"), "values");
    assert_int_equal(json_array_get_length(controls), 2);
    assert_string_equal(json_array_get_string_element(controls, 1), "0x00000001");
    probe_free(probe);
}

static void fields_are_cut_out_of_the_value(void **state)
{
    (void)state;
    struct abi_field field = {"f", 4, 3, ""};
    assert_int_equal(probe_field_value(&field, 0xabcd), 4);
    struct abi_field all = {"f", 0, 64, ""};
    assert_true(probe_field_value(&all, UINT64_MAX) == UINT64_MAX);
    struct abi_field top = {"f", 63, 1, ""};
    assert_int_equal(probe_field_value(&top, UINT64_MAX), 1);
}

/* ---- refusals ---- */

static void a_device_that_is_not_on_the_bus_is_an_error(void **state)
{
    (void)state;
    static const char *const devices[] = {"isa-debug-exit", NULL};
    g_autoptr(GError) error = NULL;
    assert_null(probe_new(&(struct probe_options){.devices = devices}, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_DEVICE));
    assert_string_equal(error->message, "device isa-debug-exit is on no PCI bus of this machine");
}

static int run(const char *const *arguments)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup("probe"));
    for (; *arguments; arguments++)
        g_ptr_array_add(argv, g_strdup(*arguments));
    int argc = (int)argv->len;
    g_ptr_array_add(argv, NULL);
    /* The command may move the pointers. */
    g_autofree char **copy = g_memdup2(argv->pdata, argv->len * sizeof(char *));
    return cmd_probe(argc, copy);
}

static void wrong_usage_has_status_2(void **state)
{
    (void)state;
    assert_int_equal(run((const char *const[]){"--machine", "isapc", NULL}), CMD_USAGE);
    assert_int_equal(run((const char *const[]){"--bogus", NULL}), CMD_USAGE);
    assert_int_equal(run((const char *const[]){"no-such-device", NULL}), CMD_USAGE);
    assert_int_equal(run((const char *const[]){"edu,x", NULL}), CMD_USAGE);
    assert_int_equal(run((const char *const[]){"edu,", NULL}), CMD_USAGE);
    assert_int_equal(run((const char *const[]){"isa-debug-exit", NULL}), CMD_USAGE);
    assert_int_equal(run((const char *const[]){"--accel", "warp", NULL}), CMD_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bare_machine_is_listed_without_registers),
        cmocka_unit_test(all_shows_the_registers_of_the_machine_itself),
        cmocka_unit_test(devices_asked_for_are_found_by_their_ids_and_enabled),
        cmocka_unit_test(a_device_behind_a_root_port_is_found),
        cmocka_unit_test(a_ptnet_and_its_memdev_are_decoded_as_any_device_on_pc),
        cmocka_unit_test(a_ptnet_and_its_memdev_are_decoded_as_any_device_on_q35),
        cmocka_unit_test(a_virtio_device_is_decoded_to_the_field),
        cmocka_unit_test(every_register_of_every_block_is_shown),
        cmocka_unit_test(a_terminal_gets_escape_sequences),
        cmocka_unit_test(json_has_the_same_values),
        cmocka_unit_test(fields_are_cut_out_of_the_value),
        cmocka_unit_test(a_device_that_is_not_on_the_bus_is_an_error),
        cmocka_unit_test(wrong_usage_has_status_2),
    };
    return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
