#include "harness/devspec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct devspec *parse_ok(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct devspec *spec = devspec_parse(text, &error);
    if (!spec)
        fail_msg("%s", error->message);
    return spec;
}

static void assert_invalid(const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    assert_null(devspec_parse(text, &error));
    assert_true(g_error_matches(error, DEVSPEC_ERROR, DEVSPEC_ERROR_INVALID));
    assert_string_equal(error->message, message);
}

static void a_name_alone_is_a_device(void **state)
{
    (void)state;
    g_autoptr(devspec) spec = parse_ok("edu");
    assert_string_equal(spec->driver, "edu");
    assert_null(spec->id);
    assert_int_equal(spec->properties->len, 0);
    g_autofree char *arg = devspec_to_arg(spec);
    assert_string_equal(arg, "edu");
}

static void properties_keep_their_order_and_the_id_comes_first(void **state)
{
    (void)state;
    g_autoptr(devspec) spec = parse_ok("virtio-net-pci,mrg_rxbuf=off,id=n,romfile=,vectors=3,x");
    assert_string_equal(spec->id, "n");
    assert_string_equal(devspec_get(spec, "id"), "n");
    assert_string_equal(devspec_get(spec, "mrg_rxbuf"), "off");
    assert_string_equal(devspec_get(spec, "romfile"), "");
    assert_string_equal(devspec_get(spec, "x"), "on");
    assert_null(devspec_get(spec, "y"));
    g_autofree char *arg = devspec_to_arg(spec);
    assert_string_equal(arg, "virtio-net-pci,id=n,mrg_rxbuf=off,romfile=,vectors=3,x=on");
}

static void a_doubled_comma_is_one_comma_of_the_value(void **state)
{
    (void)state;
    g_autoptr(devspec) spec = parse_ok("d,path=a,,b,,,c=1");
    assert_string_equal(devspec_get(spec, "path"), "a,b,");
    assert_string_equal(devspec_get(spec, "c"), "1");
    g_autofree char *arg = devspec_to_arg(spec);
    assert_string_equal(arg, "d,path=a,,b,,,c=1");
}

static void the_name_may_be_given_as_driver(void **state)
{
    (void)state;
    g_autoptr(devspec) spec = parse_ok("driver=edu,id=e");
    g_autofree char *arg = devspec_to_arg(spec);
    assert_string_equal(arg, "edu,id=e");
}

static void properties_can_be_set_and_removed(void **state)
{
    (void)state;
    g_autoptr(devspec) spec = parse_ok("d,a=1,b=2");
    devspec_set(spec, "a", "3");
    devspec_set(spec, "b", NULL);
    devspec_set(spec, "nothing", NULL);
    devspec_set(spec, "c", "4");
    devspec_set(spec, "id", "x");
    g_autofree char *arg = devspec_to_arg(spec);
    assert_string_equal(arg, "d,id=x,a=3,c=4");
}

static void the_json_form_has_driver_id_and_properties(void **state)
{
    (void)state;
    g_autoptr(devspec) spec = parse_ok("d,a=1,id=x");
    g_autoptr(JsonNode) node = devspec_to_json(spec);
    g_autofree char *text = json_to_string(node, FALSE);
    assert_string_equal(text, "{\"driver\":\"d\",\"id\":\"x\",\"a\":\"1\"}");
}

#define SYNTAX "; devices are written as for QEMU's -device: NAME,PROPERTY=VALUE,..."

static void text_that_is_no_device_is_refused(void **state)
{
    (void)state;
    assert_invalid("", "device \"\": a part of it is empty" SYNTAX);
    assert_invalid("d,", "device \"d,\": a part of it is empty" SYNTAX);
    assert_invalid("d,=1", "device \"d,=1\": a part of it is empty" SYNTAX);
    assert_invalid("a=1", "device \"a=1\": it names no device" SYNTAX);
    assert_invalid("d,a=1,a=2", "device \"d,a=1,a=2\": a property is given twice" SYNTAX);
    assert_invalid("d,id=1,id=2", "device \"d,id=1,id=2\": a property is given twice" SYNTAX);
    assert_invalid("two words", "device \"two words\": a name in it cannot be" SYNTAX);
    assert_invalid("driver=", "device \"driver=\": its name cannot be" SYNTAX);
    assert_invalid("d\n\xff", "device \"d\\n\\357\\277\\275\": a name in it cannot be" SYNTAX);
    assert_invalid("{}", "device \"{}\": the JSON form is not understood" SYNTAX);
}

static void sizes_have_suffixes(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    assert_true(devspec_parse_size("4096", &bytes, NULL));
    assert_int_equal(bytes, 4096);
    assert_true(devspec_parse_size("0x10k", &bytes, NULL));
    assert_int_equal(bytes, 16384);
    assert_true(devspec_parse_size("3M", &bytes, NULL));
    assert_int_equal(bytes, 3 << 20);
    assert_true(devspec_parse_size("2G", &bytes, NULL));
    assert_int_equal(bytes, 2ull << 30);
    static const char *const bad[] = {
        "", "0", "-1", "4X", "M", "1MB", " 1", "99999999999999999999", "1.5G", "8388608T"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(devspec_parse_size(bad[i], &bytes, &error));
        g_autofree char *expected =
            g_strdup_printf("\"%s\" is no size; sizes are written as 4096, 64K, 4M or 1G", bad[i]);
        assert_string_equal(error->message, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_alone_is_a_device),
        cmocka_unit_test(properties_keep_their_order_and_the_id_comes_first),
        cmocka_unit_test(a_doubled_comma_is_one_comma_of_the_value),
        cmocka_unit_test(the_name_may_be_given_as_driver),
        cmocka_unit_test(properties_can_be_set_and_removed),
        cmocka_unit_test(the_json_form_has_driver_id_and_properties),
        cmocka_unit_test(text_that_is_no_device_is_refused),
        cmocka_unit_test(sizes_have_suffixes),
    };
    return cmocka_run_group_tests_name("devspec", tests, NULL, NULL);
}
