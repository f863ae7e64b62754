#!/bin/sh
# ci/check.sh itself: that it counts what it should and lets nothing pass that failed.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/tap.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# program NAME: an executable from standard input
program() {
    { echo '#!/bin/sh'; cat; } >"$work/$1"
    chmod +x "$work/$1"
}
# expect TEST-NAME STATUS LAST-LINE COMMAND...: what ci/check.sh makes of the commands
expect() {
    name=$1 want_status=$2 want_line=$3
    shift 3
    DEADLINE_S=${DEADLINE:-20} ci/check.sh "$@" >"$work/log" 2>&1
    status=$?
    line=$(tail -n 1 "$work/log")
    [ "$status" = "$want_status" ] && [ "$line" = "$want_line" ]
    tap "$name" $? "status $status, last line '$line'; wanted $want_status, '$want_line'"
}

program good <<'E'
echo 1..2; echo 'ok 1 - a'; echo 'ok 2 - b'
E
program cmocka_skip <<'E'
echo 1..2; echo 'ok 1 - a'; echo 'not ok 2 # SKIP b'
E
program bad <<'E'
echo 1..2; echo 'ok 1 - a'; echo 'not ok 2 - b'; echo 'the reason' >&2; exit 1
E
program nested <<'E'
echo 1..2
echo '    1..2'; echo '    ok 1 - a'; echo '    not ok 2 - b'; echo 'not ok 1 - file'
echo '    1..1'; echo '    ok 1 - c # SKIP no device'; echo 'ok 2 - other'
exit 1
E
program crash <<'E'
echo 1..3; echo 'ok 1 - a'; kill -SEGV $$
E
program short <<'E'
echo 1..3; echo 'ok 1 - a'
E
program lying <<'E'
echo 1..1; echo 'not ok 1 - a'
E
program silent <<'E'
exit 0
E
program silent_skip <<'E'
exit 77
E
program hangs <<'E'
echo 1..1; echo 'ok 1 - a'; exec sleep 60
E
program leaves <<'E'
echo 1..1; echo 'ok 1 - a'; sleep 60 >/dev/null 2>&1 &
E

expect passed_tests_of_all_parts_are_added 0 "4 passed, 0 failed, 0 skipped" "$work/good" "$work/good"
expect a_skip_in_cmockas_words_is_a_skip 0 "1 passed, 0 failed, 1 skipped" "$work/cmocka_skip"
expect a_failed_test_fails_the_run 1 "3 passed, 1 failed, 0 skipped" "$work/bad" "$work/good"
expect what_a_failed_part_said_is_shown 1 "1 passed, 1 failed, 0 skipped" "$work/bad"
grep -q '^# | the reason$' "$work/log"
tap standard_error_of_a_failed_part_is_in_the_log $? "$(cat "$work/log")"
expect subtests_are_counted_once 1 "1 passed, 1 failed, 1 skipped" "$work/nested"
expect a_crash_fails_the_run 1 "1 passed, 1 failed, 0 skipped" "$work/crash"
expect fewer_tests_than_announced_fail_the_run 1 "1 passed, 1 failed, 0 skipped" "$work/short"
expect a_failed_test_counts_whatever_the_exit_status 1 "0 passed, 1 failed, 0 skipped" "$work/lying"
expect without_tap_the_exit_status_counts 0 "1 passed, 0 failed, 1 skipped" "$work/silent" "$work/silent_skip"
expect a_missing_program_fails_the_run 1 "0 passed, 1 failed, 0 skipped" "$work/nowhere"
DEADLINE=1 expect a_part_that_hangs_is_ended_and_fails 1 "1 passed, 1 failed, 0 skipped" "$work/hangs"
expect a_process_left_behind_fails_the_run 1 "1 passed, 1 failed, 0 skipped" "$work/leaves"
tap_end
