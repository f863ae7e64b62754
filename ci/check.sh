#!/bin/bash
# ci/check.sh COMMAND...: runs everything `make check` proves, one command (a single argument) after the
# other, as TAP: each is a subtest, the last line counts all. What it wrote to standard error is shown
# when it fails. It fails by its exit status, a failed test, fewer tests than it announced, by leaving a
# process behind, or by not ending within $DEADLINE_S (300). $BUILD/ is left out of the names.
set -u

deadline_s=${DEADLINE_S:-300}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

passed=0 failed=0 skipped=0 n_parts=0
export CMOCKA_MESSAGE_OUTPUT=TAP
RINGLAB_CHECK="$$.$(date +%s%N)" # marks all processes of this run
export RINGLAB_CHECK

# Reads TAP (cmocka's dialect too, which calls a skipped test "not ok"), prints it indented, and writes
# "passed failed skipped" of its leaves to the file `counts`. A test point after deeper indented ones
# sums these up and counts only if it fails and none of them did.
# shellcheck disable=SC2016 # awk's variables, not the shell's
count='
function leaf(bad, skip) { if (skip) n_skipped++; else if (bad) n_failed++; else n_passed++ }
{
    line = $0
    if (line ~ /^ *not ok [0-9]+ # SKIP /) {
        name = line; sub(/^ *not ok [0-9]+ # SKIP /, "", name)
        sub(/not ok/, "ok", line); sub(/# SKIP .*/, "- " name " # SKIP", line)
    }
    print "    " line
    match(line, /^ */); depth = RLENGTH; text = substr(line, depth + 1)
    if (depth == 0 && text ~ /^1\.\.[0-9]+/) { planned += substr(text, 4) + 0; if (text ~ /# SKIP/) n_skipped++ }
    if (text !~ /^(not )?ok( |$)/) next
    bad = text ~ /^not/; skip = text ~ /# (SKIP|skip)/; if (text ~ /# TODO/) bad = 0
    if (depth == 0) seen++
    deeper = 0; deeper_bad = 0
    for (d in points) if (d + 0 > depth) { deeper += points[d]; deeper_bad += bads[d]; delete points[d]; delete bads[d] }
    points[depth]++; bads[depth] += bad
    if (!deeper) leaf(bad, skip); else if (bad && !deeper_bad) n_failed++
}
END {
    if (seen < planned && !n_failed) { print "    # " planned " tests were announced, " seen + 0 " ran"; n_failed++ }
    print n_passed + 0, n_failed + 0, n_skipped + 0 > counts
}'

# The processes of this run that are still there when a part has ended.
left_behind() {
    local environ pid
    # shellcheck disable=SC2013 # words without spaces
    for environ in $(grep -lsz "^RINGLAB_CHECK=$RINGLAB_CHECK\$" /proc/[0-9]*/environ); do
        pid=${environ#/proc/}
        pid=${pid%/environ}
        grep -qs '^State:.[^ZX]' "/proc/$pid/status" && echo "$pid"
    done
}

part() {
    local name=$1 status p f s left pid why=
    name=${name#"${BUILD:-build}/"}
    name=${name#tests/}
    n_parts=$((n_parts + 1))
    echo "# Subtest: $name"
    # shellcheck disable=SC2086 # a command line, to be split
    timeout --foreground -k 5 "$deadline_s" $1 </dev/null >"$work/out" 2>"$work/err"
    status=$?
    awk -v counts="$work/counts" "$count" "$work/out"
    read -r p f s <"$work/counts"
    if [ $((p + f + s)) = 0 ]; then # no TAP: the exit status is the test
        case $status in
        0) p=1 ;;
        77) s=1 ;;
        esac
    fi
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then
        why="no end after $deadline_s s"
    elif [ "$status" != 0 ] && [ "$status" != 77 ]; then
        why="exit status $status"
    elif [ "$f" != 0 ]; then
        why="failed tests but exit status $status"
    fi
    left=$(left_behind)
    if [ -n "$left" ]; then
        why="${why:+$why, }processes left behind:"
        for pid in $left; do
            why="$why $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null))"
            kill -KILL "$pid" 2>/dev/null
        done
        f=$((f + 1))
    elif [ -n "$why" ] && [ "$f" = 0 ]; then
        f=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ -n "$why" ]; then
        echo "not ok $n_parts - $name"
        echo "# $name: $why; its standard error:"
        sed 's/^/# | /' "$work/err"
    else
        echo "ok $n_parts - $name"
    fi
}

echo "TAP version 14"
for command in "$@"; do
    part "$command"
done
echo "1..$n_parts"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
