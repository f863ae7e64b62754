/*
 * The choice between polling for a reply and sleeping at once, fed with durations.
 */
#include "qtest_client/qtest_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* As they stand in qtest_spin.c. */
enum { FIRST_TRIAL_AFTER = 64, N_TRIES = 8, TRIAL_EVERY = 4096 };

/* `n` exchanges, all of which begin by polling or not, as `spins` says. */
static void exchange(struct qtest_spin *s, unsigned n, bool spins, bool is_trial, int64_t took_us)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(qtest_spin_wanted(s), spins);
        assert_int_equal(qtest_spin_is_trial(s), is_trial);
        qtest_spin_exchanged(s, took_us);
    }
}

static void try_both(struct qtest_spin *s, int64_t spin_us, int64_t sleep_us)
{
    exchange(s, N_TRIES, true, true, spin_us);
    exchange(s, N_TRIES, false, true, sleep_us);
}

static void a_session_begins_by_polling(void **state)
{
    struct qtest_spin s;

    (void)state;
    qtest_spin_init(&s);
    exchange(&s, FIRST_TRIAL_AFTER, true, false, 0);
}

static void polling_is_kept_where_it_is_quicker(void **state)
{
    struct qtest_spin s;

    (void)state;
    qtest_spin_init(&s);
    exchange(&s, FIRST_TRIAL_AFTER, true, false, 0);
    try_both(&s, 6, 50);
    exchange(&s, TRIAL_EVERY, true, false, 0);
}

static void sleeping_is_taken_up_where_it_is_quicker_and_given_up_again(void **state)
{
    struct qtest_spin s;

    (void)state;
    qtest_spin_init(&s);
    exchange(&s, FIRST_TRIAL_AFTER, true, false, 0);
    try_both(&s, 60, 20);
    exchange(&s, TRIAL_EVERY, false, false, 0);
    try_both(&s, 60, 20);
    exchange(&s, TRIAL_EVERY, false, false, 0);
    try_both(&s, 6, 20);
    exchange(&s, TRIAL_EVERY, true, false, 0);
}

static void a_difference_of_less_than_a_quarter_changes_nothing(void **state)
{
    struct qtest_spin s;

    (void)state;
    qtest_spin_init(&s);
    exchange(&s, FIRST_TRIAL_AFTER, true, false, 0);
    try_both(&s, 100, 75);
    exchange(&s, TRIAL_EVERY, true, false, 0);
    try_both(&s, 100, 74);
    exchange(&s, TRIAL_EVERY, false, false, 0);
    try_both(&s, 100, 133);
    exchange(&s, TRIAL_EVERY, false, false, 0);
    try_both(&s, 100, 134);
    exchange(&s, TRIAL_EVERY, true, false, 0);
}

static void one_long_exchange_decides_nothing(void **state)
{
    struct qtest_spin s;

    (void)state;
    qtest_spin_init(&s);
    exchange(&s, FIRST_TRIAL_AFTER, true, false, 0);
    exchange(&s, 1, true, true, 1000000);
    exchange(&s, N_TRIES - 1, true, true, 6);
    exchange(&s, N_TRIES, false, true, 50);
    exchange(&s, TRIAL_EVERY, true, false, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_by_polling),
        cmocka_unit_test(polling_is_kept_where_it_is_quicker),
        cmocka_unit_test(sleeping_is_taken_up_where_it_is_quicker_and_given_up_again),
        cmocka_unit_test(a_difference_of_less_than_a_quarter_changes_nothing),
        cmocka_unit_test(one_long_exchange_decides_nothing),
    };
    return cmocka_run_group_tests_name("qtest_spin", tests, NULL, NULL);
}
