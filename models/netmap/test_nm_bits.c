/*
 * The bitmap of free objects.
 */
#include "models/netmap/nm_bits_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glib.h>

static void expect_taken(struct nm_bits *b, uint32_t index)
{
    uint32_t got = UINT32_MAX;

    assert_true(nm_bits_take(b, &got));
    assert_int_equal(got, index);
}

static void each_object_is_given_out_once_in_order(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, 63, 64, 65, 4095, 4096, 4097, 10000};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct nm_bits b;
        uint32_t index;
        nm_bits_init(&b, sizes[i]);
        assert_int_equal(b.n_free, sizes[i]);
        for (uint32_t j = 0; j < sizes[i]; j++)
            expect_taken(&b, j);
        assert_false(nm_bits_take(&b, &index));
        assert_int_equal(b.n_free, 0);
        nm_bits_clear(&b);
    }
}

static void the_lowest_free_object_is_taken_first(void **state)
{
    (void)state;
    struct nm_bits b;

    nm_bits_init(&b, 20000);
    for (uint32_t i = 0; i < 20000; i++)
        expect_taken(&b, i);
    assert_true(nm_bits_give(&b, 19999));
    assert_true(nm_bits_give(&b, 4096));
    assert_true(nm_bits_give(&b, 64));
    assert_true(nm_bits_give(&b, 0));
    assert_true(nm_bits_give(&b, 63));
    expect_taken(&b, 0);
    expect_taken(&b, 63);
    assert_true(nm_bits_give(&b, 5));
    expect_taken(&b, 5);
    expect_taken(&b, 64);
    expect_taken(&b, 4096);
    expect_taken(&b, 19999);
    assert_int_equal(b.n_free, 0);
    nm_bits_clear(&b);
}

static void what_is_free_or_beyond_the_end_cannot_be_given_back(void **state)
{
    (void)state;
    struct nm_bits b;

    nm_bits_init(&b, 70);
    assert_false(nm_bits_give(&b, 0));
    expect_taken(&b, 0);
    assert_true(nm_bits_give(&b, 0));
    assert_false(nm_bits_give(&b, 0));
    for (uint32_t i = 0; i < 70; i++)
        expect_taken(&b, i);
    assert_false(nm_bits_give(&b, 70));
    assert_false(nm_bits_give(&b, 127));
    assert_false(nm_bits_give(&b, UINT32_MAX));
    assert_true(nm_bits_give(&b, 69));
    assert_int_equal(b.n_free, 1);
    nm_bits_clear(&b);
}

static void a_reset_makes_all_objects_free(void **state)
{
    (void)state;
    struct nm_bits b;

    nm_bits_init(&b, 5000);
    for (uint32_t i = 0; i < 4999; i++)
        expect_taken(&b, i);
    nm_bits_reset(&b);
    assert_int_equal(b.n_free, 5000);
    for (uint32_t i = 0; i < 5000; i++)
        expect_taken(&b, i);
    nm_bits_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_object_is_given_out_once_in_order),
        cmocka_unit_test(the_lowest_free_object_is_taken_first),
        cmocka_unit_test(what_is_free_or_beyond_the_end_cannot_be_given_back),
        cmocka_unit_test(a_reset_makes_all_objects_free),
    };
    return cmocka_run_group_tests_name("models/netmap/nm_bits", tests, NULL, NULL);
}
