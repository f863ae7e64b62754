#!/bin/sh
# The demonstration, from a folder of its own: what arrived is a capture that tcpdump reads, and reads
# the same as what was sent.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/tap.sh
top=$PWD
program=$(realpath "${BUILD:-build}/ringlab")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

out=$(cd "$work" && "$program" run "$top/scenarios/demo.lua" 2>&1)
tap the_demonstration_runs_from_any_folder $? "$out"
# Times, lengths and every byte; in a chroot tcpdump may not find the user it would become.
dump() {
    tcpdump -Z "$(id -un)" -nn -tttt -e -XX -r "$1" 2>"$work/err"
}
dump scenarios/data/ordinary.pcap >"$work/sent" && dump "$work/results/demo.pcap" >"$work/received"
tap tcpdump_reads_what_arrived $? "$(cat "$work/err")"
[ -s "$work/sent" ] && cmp -s "$work/sent" "$work/received"
tap and_finds_the_same_as_in_what_was_sent $? "$(diff "$work/sent" "$work/received" | head)"
tap_end
