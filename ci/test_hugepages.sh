#!/bin/sh
# ci/with-hugepages.sh, on a folder of plain files that stands in for the kernel's.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/tap.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
RINGLAB_HUGEPAGES_DIR=$work/kernel
export RINGLAB_HUGEPAGES_DIR
mkdir "$work/kernel"
echo 3 >"$work/kernel/nr_hugepages"
echo 0 >"$work/kernel/surplus_hugepages"
echo 0 >"$work/kernel/free_hugepages"
mkfifo "$work/started" "$work/go"

# pages NUMBER: whether there are so many now
pages() {
    [ "$(cat "$work/kernel/nr_hugepages")" = "$1" ]
}
# pages_soon NUMBER: the same, for what another process does in its time (5 s at most)
pages_soon() {
    # shellcheck disable=SC2016 # the inner shell's
    timeout 5 sh -c 'until [ "$(cat "$0")" = "$1" ]; do :; done' "$work/kernel/nr_hugepages" "$1"
}
now() {
    echo "pages: $(cat "$work/kernel/nr_hugepages")"
}
# waiter: a command that tells when it runs and ends when told
# shellcheck disable=SC2016 # the inner shell's
waiter='echo >"$0/started"; read -r _ <"$0/go"'
started() {
    read -r _ <"$work/started"
}

out=$(ci/with-hugepages.sh 4 cat "$work/kernel/nr_hugepages")
[ "$out" = 7 ]
tap pages_are_added_while_the_command_runs $? "saw $out"
pages 3
tap they_are_given_back_when_it_ends $? "$(now)"
ci/with-hugepages.sh 4 sh -c 'exit 5'
[ $? = 5 ]
tap the_commands_status_is_the_scripts $?

ci/with-hugepages.sh 4 sh -c "$waiter" "$work" &
started
out=$(ci/with-hugepages.sh 2 cat "$work/kernel/nr_hugepages")
[ "$out" = 9 ] && pages 7
tap two_runs_add_up_and_each_gives_back_its_own $? "saw $out, $(now)"
echo >"$work/go"
wait $!
pages 3
tap the_first_gives_back_its_own_later $? "$(now)"

for signal in INT TERM HUP; do
    env --default-signal=INT ci/with-hugepages.sh 4 sh -c "$waiter" "$work" & # a background job ignores it
    started
    kill -"$signal" $!
    wait $! 2>/dev/null
    status=$?
    pages 3 && [ $status -gt 128 ]
    tap "they_are_given_back_after_SIG$signal" $? "status $status, $(now)"
done
ci/with-hugepages.sh 4 sh -c "$waiter" "$work" &
started
kill -KILL $!
wait $! 2>/dev/null
pages_soon 3
tap they_are_given_back_even_after_SIGKILL $? "$(now)"
echo >"$work/go"

ln -sf /dev/null "$work/kernel/nr_hugepages" # a kernel that gives none
out=$(ci/with-hugepages.sh 4 echo ran)
[ "$out" = "# hugepages: none reserved (the kernel had only 0 of 4 to give), what requires them is skipped; \
as root: echo 4 > $work/kernel/nr_hugepages
ran" ]
tap without_pages_one_line_says_so_and_the_command_runs $? "$out"
out=$(RINGLAB_HUGEPAGES_DIR=$work/none ci/with-hugepages.sh 4 echo ran)
[ "$(echo "$out" | tail -n 1)" = ran ]
tap a_kernel_without_such_pages_is_no_error $? "$out"
tap_end
