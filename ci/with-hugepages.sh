#!/bin/bash
# ci/with-hugepages.sh N COMMAND...: reserves N more 2 MiB huge pages while COMMAND runs and gives
# them back, however this ends; for COMMAND alone, a hugetlbfs is mounted too. Its status is COMMAND's.
# Where it cannot, one line says so and COMMAND runs without: what requires huge pages then skips. Runs
# side by side add up: each changes the kernel's number by its own N, under a lock.
# $RINGLAB_HUGEPAGES_DIR stands in for the kernel's folder in tests.
set -u

dir=${RINGLAB_HUGEPAGES_DIR:-/sys/kernel/mm/hugepages/hugepages-2048kB}
case ${1:-} in
'' | *[!0-9]*)
    echo "usage: ci/with-hugepages.sh N COMMAND..." >&2
    exit 2
    ;;
esac
n=$1
shift
granted=0
mount_dir=

# Adds $1 (may be negative) to the number of pages, never below none; sets $change to what was got.
# Surplus pages (still in use when given back by someone) are not part of what was asked for.
adjust() {
    local before after
    change=0
    exec 9<"$dir" && flock 9 || return 1
    before=$(($(cat "$dir/nr_hugepages") - $(cat "$dir/surplus_hugepages")))
    echo $((before + $1 > 0 ? before + $1 : 0)) 2>/dev/null >"$dir/nr_hugepages"
    after=$(($(cat "$dir/nr_hugepages") - $(cat "$dir/surplus_hugepages")))
    change=$((after - before))
    exec 9<&-
}

say_without() {
    echo "# hugepages: none reserved ($1), what requires them is skipped; as root:" \
        "echo $n > $dir/nr_hugepages"
}

if [ ! -d "$dir" ]; then
    say_without "this kernel has no 2 MiB pages"
elif [ ! -w "$dir/nr_hugepages" ]; then
    # Someone may have set pages aside for everyone: then there is nothing to do.
    [ "$(cat "$dir/free_hugepages")" -ge "$n" ] || say_without "not root"
elif adjust "$n"; then
    granted=$change
    if [ "$granted" -lt "$n" ]; then
        adjust "-$granted"
        say_without "the kernel had only $granted of $n to give"
        granted=0
    fi
else
    say_without "cannot lock $dir"
fi

# Who gives them back is a process that waits for the end of a pipe, which comes even when this
# script is killed with SIGKILL.
if [ "$granted" -gt 0 ]; then
    if [ "$dir" = /sys/kernel/mm/hugepages/hugepages-2048kB ] && unshare -m true 2>/dev/null; then
        mount_dir=$(mktemp -d /tmp/hugepages.XXXXXX)
        # shellcheck disable=SC2016 # the inner shell's
        set -- unshare -m sh -c 'mount -t hugetlbfs -o pagesize=2M ringlab "$0" 2>/dev/null; exec "$@"' "$mount_dir" "$@"
    fi
    exec 8> >(
        trap '' INT TERM HUP
        cat >/dev/null
        adjust "-$granted"
        [ -z "$mount_dir" ] || rmdir "$mount_dir"
    )
    giver=$!
fi
give_back() {
    [ "$granted" -gt 0 ] || return 0
    granted=0
    exec 8>&-
    wait "$giver"
}

# The command gets a process group of its own, to which signals are passed on, so that it ends first.
set -m
"$@" 8>&- <&0 &
child=$!
for signal in INT TERM HUP; do
    # shellcheck disable=SC2064 # the name is meant to be expanded now
    trap "kill -$signal -- -$child 2>/dev/null" "$signal"
done
{
    while :; do
        wait "$child"
        status=$?
        kill -0 "$child" || break
    done
    set +m
    give_back
} 2>/dev/null # job control would tell of a command that a signal ended
exit "$status"
