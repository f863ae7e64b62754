/*
 * Whether to poll the socket for a moment before sleeping, or to sleep at once. Polling saves the
 * wake-up of a sleeping processor, which on an idle machine is most of a round trip; where other
 * work wants the processors it keeps QEMU from running. Which it is shows only by trying, so both
 * are tried now and then, a few exchanges each, and the quicker is kept.
 */
#include "qtest_client/qtest_private.h"

enum {
    FIRST_TRIAL_AFTER = 64, /* exchanges: a short session polls and is done */
    N_TRIES = 8,            /* exchanges of either kind in a trial */
    TRIAL_EVERY = 4096,
};

enum { KEEPING, TRYING_SPIN, TRYING_SLEEP };

static void begin(struct qtest_spin *s, uint8_t phase, unsigned n)
{
    s->phase = phase;
    s->n_left = n;
    s->sum_us = s->longest_us = 0;
}

void qtest_spin_init(struct qtest_spin *s)
{
    *s = (struct qtest_spin){.sleeps = false};
    begin(s, KEEPING, FIRST_TRIAL_AFTER);
}

bool qtest_spin_wanted(const struct qtest_spin *s)
{
    return s->phase == KEEPING ? !s->sleeps : s->phase == TRYING_SPIN;
}

bool qtest_spin_is_trial(const struct qtest_spin *s)
{
    return s->phase != KEEPING;
}

void qtest_spin_exchanged(struct qtest_spin *s, int64_t took_us)
{
    s->sum_us += took_us;
    s->longest_us = MAX(s->longest_us, took_us);
    if (--s->n_left > 0) {
        return;
    }
    /* without the longest, which may be anything */
    int64_t result_us = s->sum_us - s->longest_us;
    switch (s->phase) {
    case KEEPING:
        begin(s, TRYING_SPIN, N_TRIES);
        break;
    case TRYING_SPIN:
        s->spin_us = result_us;
        begin(s, TRYING_SLEEP, N_TRIES);
        break;
    default:
        /* what is quicker by less than a quarter may be so by chance */
        s->sleeps = s->sleeps ? result_us * 3 < s->spin_us * 4 : result_us * 4 < s->spin_us * 3;
        begin(s, KEEPING, TRIAL_EVERY);
    }
}
