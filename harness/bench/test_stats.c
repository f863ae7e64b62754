/*
 * Medians, quartiles, and that the sides of a comparison take turns.
 */
#include "harness/bench/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_spread(struct bench_spread s, double low, double median, double high, unsigned n)
{
    assert_true(s.low == low);
    assert_true(s.median == median);
    assert_true(s.high == high);
    assert_int_equal(s.n, n);
}

static void a_quantile_between_two_values_is_interpolated(void **state)
{
    const double values[] = {1, 2, 4, 8, 16};

    (void)state;
    assert_true(bench_quantile(values, 5, 0) == 1);
    assert_true(bench_quantile(values, 5, 0.25) == 2);
    assert_true(bench_quantile(values, 5, 0.5) == 4);
    assert_true(bench_quantile(values, 5, 0.625) == 6);
    assert_true(bench_quantile(values, 5, 1) == 16);
    assert_true(bench_quantile(values, 2, 0.5) == 1.5);
}

static void one_sample_is_its_own_median_and_quartiles(void **state)
{
    const double value = 7;

    (void)state;
    assert_spread(bench_summarize(&value, 1), 7, 7, 7, 1);
}

static void samples_need_no_order_and_keep_theirs(void **state)
{
    const double values[] = {30, 10, 50, 20, 40};
    double copy[5];

    (void)state;
    memcpy(copy, values, sizeof(values));
    assert_spread(bench_summarize(copy, 5), 20, 30, 40, 5);
    assert_memory_equal(copy, values, sizeof(values));
}

static void one_outlier_does_not_move_the_median(void **state)
{
    const double values[] = {10, 1e9, 10, 10, 10};

    (void)state;
    assert_spread(bench_summarize(values, 5), 10, 10, 10, 5);
}

static void a_ratio_is_of_what_was_measured_in_the_same_round(void **state)
{
    /* the machine gets slower and slower: the ratio of the medians would be 3, too, but its
     * spread would not be 0 */
    const double fast[] = {900, 300, 90, 30, 3}, slow[] = {300, 100, 30, 10, 1};

    (void)state;
    assert_spread(bench_summarize_ratios(fast, slow, 5), 3, 3, 3, 5);
}

static void a_difference_is_of_what_was_measured_in_the_same_round(void **state)
{
    const double with[] = {15, 25, 105}, without[] = {10, 20, 100};

    (void)state;
    assert_spread(bench_summarize_differences(with, without, 3), 5, 5, 5, 3);
}

/* ---- rounds ---- */

static char order[64];

struct player {
    char letter;
    unsigned n_calls, fails_at; /* 0: never */
};

static bool play(void *data, int64_t slice_us, double *sample, GError **error)
{
    struct player *p = data;
    char letter[] = {p->letter, '\0'};

    assert_int_equal(slice_us, 5000);
    g_strlcat(order, letter, sizeof(order));
    *sample = p->n_calls++;
    if (p->n_calls == p->fails_at) {
        g_set_error(error, BENCH_ERROR, BENCH_ERROR_WRONG, "%c stumbled", p->letter);
        return false;
    }
    return true;
}

static void sides_take_turns_and_the_first_round_does_not_count(void **state)
{
    const struct bench_settings settings = {.n_rounds = 3, .slice_ms = 5};
    struct player a = {.letter = 'a'}, b = {.letter = 'b'};
    struct bench_side sides[] = {{play, &a, NULL}, {play, &b, NULL}};
    GError *error = NULL;

    (void)state;
    order[0] = '\0';
    assert_true(bench_rounds(&settings, sides, 2, &error));
    assert_null(error);
    assert_string_equal(order, "abababab");
    for (unsigned i = 0; i < 3; i++) {
        assert_true(sides[0].samples[i] == i + 1);
        assert_true(sides[1].samples[i] == i + 1);
    }
    bench_sides_clear(sides, 2);
    assert_null(sides[0].samples);
}

static void an_error_of_one_side_ends_the_rounds(void **state)
{
    const struct bench_settings settings = {.n_rounds = 3, .slice_ms = 5};
    struct player a = {.letter = 'a'}, b = {.letter = 'b', .fails_at = 2};
    struct bench_side sides[] = {{play, &a, NULL}, {play, &b, NULL}};
    GError *error = NULL;

    (void)state;
    order[0] = '\0';
    assert_false(bench_rounds(&settings, sides, 2, &error));
    assert_string_equal(order, "abab");
    assert_string_equal(error->message, "b stumbled");
    g_clear_error(&error);
    bench_sides_clear(sides, 2);

    a = (struct player){.letter = 'a', .fails_at = 1}; /* in the round that does not count */
    order[0] = '\0';
    assert_false(bench_rounds(&settings, sides, 2, &error));
    assert_string_equal(order, "a");
    assert_string_equal(error->message, "a stumbled");
    g_error_free(error);
    bench_sides_clear(sides, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quantile_between_two_values_is_interpolated),
        cmocka_unit_test(one_sample_is_its_own_median_and_quartiles),
        cmocka_unit_test(samples_need_no_order_and_keep_theirs),
        cmocka_unit_test(one_outlier_does_not_move_the_median),
        cmocka_unit_test(a_ratio_is_of_what_was_measured_in_the_same_round),
        cmocka_unit_test(a_difference_is_of_what_was_measured_in_the_same_round),
        cmocka_unit_test(sides_take_turns_and_the_first_round_does_not_count),
        cmocka_unit_test(an_error_of_one_side_ends_the_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
