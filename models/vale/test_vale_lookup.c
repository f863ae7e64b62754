/*
 * The learning table: which bucket an address goes to, and what a bucket remembers.
 */
#include "models/vale/vale_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t mac_of(const uint8_t bytes[VALE_MAC_LEN])
{
    uint64_t mac = 0;

    for (unsigned i = 0; i < VALE_MAC_LEN; i++) {
        mac |= (uint64_t)bytes[i] << (8 * i);
    }
    return mac;
}

#define MAC(...) mac_of((const uint8_t[VALE_MAC_LEN]){__VA_ARGS__})

/* Buckets computed apart from this code, from the published mix and key. */
static void addresses_hash_as_in_netmap(void **state)
{
    (void)state;
    assert_int_equal(vale_hash(MAC(2, 0, 0, 0, 0, 1)), 92);
    assert_int_equal(vale_hash(MAC(2, 0, 0, 0, 0, 2)), 23);
    assert_int_equal(vale_hash(MAC(0x52, 0x54, 0, 0x12, 0x34, 0x56)), 814);
    assert_int_equal(vale_hash(MAC(0, 0, 0, 0, 0, 0)), 269);
    assert_int_equal(vale_hash(MAC(0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54)), 337);
}

static void addresses_are_read_from_a_frame_first_byte_lowest(void **state)
{
    const uint8_t frame[VALE_ETHER_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};

    (void)state;
    assert_true(vale_frame_destination(frame) == MAC(1, 2, 3, 4, 5, 6));
    assert_true(vale_frame_source(frame) == MAC(7, 8, 9, 10, 11, 12));
}

static void what_was_learnt_is_found_in_its_own_bucket(void **state)
{
    struct vale_table table = {0};

    (void)state;
    vale_learn(&table, MAC(2, 0, 0, 0, 0, 1), 0);
    vale_learn(&table, MAC(2, 0, 0, 0, 0, 2), 253);
    assert_int_equal(vale_find(&table, MAC(2, 0, 0, 0, 0, 1)), 0);
    assert_int_equal(vale_find(&table, MAC(2, 0, 0, 0, 0, 2)), 253);
    assert_true(table.entries[92] == (MAC(2, 0, 0, 0, 0, 1) | UINT64_C(1) << 48));
    assert_true(table.entries[23] == (MAC(2, 0, 0, 0, 0, 2) | UINT64_C(254) << 48));
}

static void unknown_and_group_addresses_are_for_all(void **state)
{
    struct vale_table table = {0};

    (void)state;
    assert_int_equal(vale_find(&table, MAC(2, 0, 0, 0, 0, 1)), VALE_PORT_BROADCAST);
    assert_int_equal(vale_find(&table, 0), VALE_PORT_BROADCAST);
    vale_learn(&table, MAC(1, 0, 0x5e, 0, 0, 1), 3);
    assert_int_equal(vale_find(&table, MAC(1, 0, 0x5e, 0, 0, 1)), VALE_PORT_BROADCAST);
    assert_int_equal(vale_find(&table, VALE_MAC_MASK), VALE_PORT_BROADCAST);
}

static void an_address_of_the_same_bucket_takes_it_over(void **state)
{
    struct vale_table table = {0};
    const uint64_t first = MAC(2, 0, 0, 0, 0, 1), second = MAC(2, 0, 0, 0, 7, 231);

    (void)state;
    assert_int_equal(vale_hash(first), vale_hash(second));
    vale_learn(&table, first, 1);
    vale_learn(&table, second, 2);
    assert_int_equal(vale_find(&table, first), VALE_PORT_BROADCAST);
    assert_int_equal(vale_find(&table, second), 2);
}

static void an_address_that_moves_is_found_at_its_new_port(void **state)
{
    struct vale_table table = {0};

    (void)state;
    vale_learn(&table, MAC(2, 0, 0, 0, 0, 1), 1);
    vale_learn(&table, MAC(2, 0, 0, 0, 0, 1), 2);
    assert_int_equal(vale_find(&table, MAC(2, 0, 0, 0, 0, 1)), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_hash_as_in_netmap),
        cmocka_unit_test(addresses_are_read_from_a_frame_first_byte_lowest),
        cmocka_unit_test(what_was_learnt_is_found_in_its_own_bucket),
        cmocka_unit_test(unknown_and_group_addresses_are_for_all),
        cmocka_unit_test(an_address_of_the_same_bucket_takes_it_over),
        cmocka_unit_test(an_address_that_moves_is_found_at_its_new_port),
    };
    return cmocka_run_group_tests_name("models/vale/lookup", tests, NULL, NULL);
}
