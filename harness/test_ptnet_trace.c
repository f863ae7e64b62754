/*
 * The register trace of the ptnet driver's bring-up, outside a guest. It is
 * images/guest/bring_up.trace; ci/test_attach.sh compares that of the same driver inside a guest
 * with the same file.
 */
#include "harness/sim_ptnet.h"
#include "images/guest/trace.h"
#include "models/netmap/test_nm_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TRACE_FILE "images/guest/bring_up.trace"

struct tracer {
    struct pci_bus *bus;
    GString *text;
};

static void trace(void *data, const struct machine_access *access)
{
    struct tracer *t = data;
    GPtrArray *devices = pci_bus_devices(t->bus);

    for (guint i = 0; i < devices->len; i++) {
        g_autofree char *line = trace_line(devices->pdata[i], access);
        if (line) {
            g_string_append_printf(t->text, "%s\n", line);
        }
    }
}

static void the_bring_up_makes_the_accesses_that_it_makes_in_a_guest(void **state)
{
    struct ptnet_options device = {.port = "vale0:guest", .mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56}};
    struct nm_host *host = bed_host();
    struct nm_port *far = nm_port_open(host, "vale0:far", 0, NULL); /* as ringlab attach --link */
    struct machine *m = sim_machine_new();
    struct guest_region *shared = guest_region_new("shared", 1 << 20, GUEST_HUGEPAGES_OFF, NULL);
    struct tracer tracer = {.text = g_string_new(NULL)};
    struct sim_ptnet side = {0};
    g_autofree char *expected = NULL;
    GError *error = NULL;

    (void)state;
    assert_non_null(far);
    assert_true(sim_machine_add_memory(m, shared, 0x500000000, NULL));
    assert_true(sim_ptnet_add(m, host, &device, &side, NULL));
    tracer.bus = pci_bus_new(m);
    assert_true(pci_bus_scan(tracer.bus, NULL));
    GPtrArray *devices = pci_bus_devices(tracer.bus);
    for (guint i = 0; i < devices->len; i++) {
        assert_true(pci_device_enable(devices->pdata[i], NULL));
    }
    m->trace = trace;
    m->trace_data = &tracer;
    struct ptnet_driver_options options = {.has_interrupts = true,
                                           .interrupt_kind = INTERRUPT_MEMORY,
                                           .shared = shared,
                                           .fence_before_kick = true};
    if (!sim_ptnet_open(&side, tracer.bus, &options, &error)) {
        fail_msg("%s", error->message);
    }
    m->trace = NULL;
    assert_true(g_file_get_contents(TRACE_FILE, &expected, NULL, NULL));
    assert_string_equal(tracer.text->str, expected);

    sim_ptnet_close(&side);
    pci_bus_free(tracer.bus);
    machine_free(m);
    guest_region_free(shared);
    nm_port_close(far);
    nm_host_free(host);
    g_string_free(tracer.text, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bring_up_makes_the_accesses_that_it_makes_in_a_guest),
    };
    return cmocka_run_group_tests_name("the ptnet driver's trace", tests, NULL, NULL);
}
