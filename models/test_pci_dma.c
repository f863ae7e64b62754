/*
 * Guest memory for modelled devices: ranges that change while pointers into them are in use.
 */
#include "models/pci_device.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

static _Alignas(8) uint8_t first[64], second[64];

static void count_release(void *data)
{
    ++*(unsigned *)data;
}

static void set_one(struct pci_dma *dma, uint64_t gpa, uint8_t *host, unsigned *n_released)
{
    struct pci_dma_range range = {gpa, 64, host};
    pci_dma_set(dma, &range, 1, count_release, n_released);
}

static void only_what_one_range_holds_is_mapped(void **state)
{
    struct pci_dma *dma = pci_dma_new();
    struct pci_dma_range ranges[] = {{0x1000, 64, first}, {0x1040, 64, second}};
    (void)state;
    assert_null(pci_dma_map(dma, 0, 1));
    pci_dma_set(dma, ranges, 2, NULL, NULL);
    uint8_t *p = pci_dma_map(dma, 0x1000, 64);
    assert_ptr_equal(p, first);
    pci_dma_unmap(dma, p);
    p = pci_dma_map(dma, 0x107f, 1);
    assert_ptr_equal(p, second + 63);
    pci_dma_unmap(dma, p);
    assert_null(pci_dma_map(dma, 0x103f, 2));
    assert_null(pci_dma_map(dma, 0xfff, 2));
    assert_null(pci_dma_map(dma, 0x1080, 1));
    assert_null(pci_dma_map(dma, 0x1000, 0));
    assert_null(pci_dma_map(dma, 0x1001, UINT64_MAX));
    assert_null(pci_dma_map(dma, UINT64_MAX, 2));
    pci_dma_unmap(dma, NULL);
    pci_dma_free(dma);
    pci_dma_free(NULL);
}

static void ranges_that_cannot_be_are_left_out(void **state)
{
    struct pci_dma *dma = pci_dma_new();
    struct pci_dma_range ranges[] = {{0, 0, first}, {UINT64_MAX - 8, 64, first}, {64, 64, second}};
    (void)state;
    pci_dma_set(dma, ranges, 3, NULL, NULL);
    assert_null(pci_dma_map(dma, 0, 1));
    assert_null(pci_dma_map(dma, UINT64_MAX - 8, 1));
    uint8_t *p = pci_dma_map(dma, 64, 1);
    assert_ptr_equal(p, second);
    pci_dma_unmap(dma, p);
    pci_dma_free(dma);
}

static void replaced_ranges_are_released_when_their_last_pointer_is_given_back(void **state)
{
    struct pci_dma *dma = pci_dma_new();
    unsigned n_first = 0, n_second = 0, n_third = 0;
    (void)state;
    set_one(dma, 0, first, &n_first);
    uint8_t *a = pci_dma_map(dma, 0, 8), *b = pci_dma_map(dma, 32, 8);
    set_one(dma, 0, second, &n_second);
    assert_ptr_equal(pci_dma_map(dma, 0, 8), second);
    assert_int_equal(n_first, 0);
    pci_dma_unmap(dma, a);
    assert_int_equal(n_first, 0);
    pci_dma_unmap(dma, b);
    assert_int_equal(n_first, 1);
    pci_dma_unmap(dma, second);
    assert_int_equal(n_second, 0); /* still in force */
    set_one(dma, 64, first, &n_third);
    assert_int_equal(n_second, 1); /* nobody used it */
    pci_dma_free(dma);
    assert_int_equal(n_third, 1);
    assert_int_equal(n_first, 1);
}

static void the_same_memory_may_be_in_several_sets(void **state)
{
    struct pci_dma *dma = pci_dma_new();
    unsigned n_released[3] = {0};
    (void)state;
    struct pci_dma_range both[] = {{0, 64, first}, {64, 64, second}};
    pci_dma_set(dma, both, 2, count_release, &n_released[0]);
    uint8_t *old = pci_dma_map(dma, 64, 4);
    set_one(dma, 0, first, &n_released[1]);
    uint8_t *new = pci_dma_map(dma, 0, 4);
    /* `new` is of the second set: giving it back must not count for the first */
    pci_dma_unmap(dma, new);
    assert_int_equal(n_released[0], 0);
    set_one(dma, 0, first, &n_released[2]);
    assert_int_equal(n_released[1], 1);
    assert_int_equal(n_released[0], 0);
    pci_dma_unmap(dma, old);
    assert_int_equal(n_released[0], 1);
    pci_dma_free(dma);
}

static void pointers_outlive_the_owner(void **state)
{
    struct pci_dma *dma = pci_dma_new();
    unsigned n_released = 0;
    (void)state;
    set_one(dma, 0, first, &n_released);
    uint8_t *a = pci_dma_map(dma, 0, 8), *b = pci_dma_map(dma, 8, 8);
    pci_dma_free(dma);
    assert_int_equal(n_released, 0);
    assert_null(pci_dma_map(dma, 0, 8));
    assert_false(pci_dma_write32(dma, 0, 1));
    pci_dma_unmap(dma, b);
    assert_int_equal(n_released, 0);
    pci_dma_unmap(dma, a);
    assert_int_equal(n_released, 1);
}

static void a_word_is_stored_little_endian_where_it_fits(void **state)
{
    struct pci_dma *dma = pci_dma_new();
    unsigned n_released = 0;
    (void)state;
    memset(first, 0, sizeof(first));
    set_one(dma, 0x100, first, &n_released);
    assert_true(pci_dma_write32(dma, 0x13c, 0x11223344));
    assert_memory_equal(first + 0x3c, "\x44\x33\x22\x11", 4);
    assert_false(pci_dma_write32(dma, 0x13e, 1));
    assert_false(pci_dma_write32(dma, 0x101, 1));
    assert_false(pci_dma_write32(dma, 0x140, 1));
    assert_false(pci_dma_write32(dma, 0xfc, 1));
    assert_int_equal(first[0], 0);
    pci_dma_free(dma);
}

/* ---- many threads ---- */

enum { N_ROUNDS = 2000 };

static void *map_and_unmap(void *data)
{
    struct pci_dma *dma = data;
    for (unsigned i = 0; i < N_ROUNDS; i++) {
        void *word = pci_dma_map(dma, 4, 4);
        if (word) {
            /* into memory that was freed, were it released too early */
            atomic_store((_Atomic uint32_t *)word, i);
            pci_dma_unmap(dma, word);
        }
        pci_dma_write32(dma, 8, i);
    }
    return NULL;
}

static void ranges_may_change_while_others_map(void **state)
{
    pthread_t threads[2];
    struct pci_dma *dma = pci_dma_new();
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap, dma), 0);
    }
    for (unsigned i = 0; i < N_ROUNDS; i++) {
        struct pci_dma_range range = {0, 64, g_malloc0(64)};
        pci_dma_set(dma, &range, 1, g_free, range.host);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    pci_dma_free(dma);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_one_range_holds_is_mapped),
        cmocka_unit_test(ranges_that_cannot_be_are_left_out),
        cmocka_unit_test(replaced_ranges_are_released_when_their_last_pointer_is_given_back),
        cmocka_unit_test(the_same_memory_may_be_in_several_sets),
        cmocka_unit_test(pointers_outlive_the_owner),
        cmocka_unit_test(a_word_is_stored_little_endian_where_it_fits),
        cmocka_unit_test(ranges_may_change_while_others_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
