#!/bin/sh
# ci/deps.sh, with stand-ins for dpkg-query, apt-get, id and sudo: nothing is installed.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/tap.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset RINGLAB_QEMU LUA

# stub NAME: an executable from standard input, found before the real one
mkdir "$work/bin"
stub() {
    { echo '#!/bin/sh'; cat; } >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}
# Packages in $work/absent are not installed; apt-get install takes out of it what $work/offered has.
stub dpkg-query <<E
shift 3
for package in "\$@"; do grep -qx "\$package" "$work/absent" || echo "installed \$package"; done
E
stub apt-get <<E
echo "apt-get \$*" >>"$work/calls"
case " \$* " in
*" update "*) cat "$work/later" >>"$work/offered" ;;
*)
    for package in \$(cat "$work/absent"); do
        grep -qx "\$package" "$work/offered" || { echo "E: Unable to locate package \$package"; exit 100; }
    done
    : >"$work/absent" ;;
esac
E
stub id <<E
cat "$work/uid"
E
stub sudo <<E
[ "\$1" = -n ] && [ -e "$work/sudo" ] || exit 1
shift
echo sudo >>"$work/calls"
exec "\$@"
E
# deps UID ABSENT OFFERED [OFFERED AFTER UPDATE]: what ci/deps.sh does then, as $status, $out, $calls
deps() {
    echo "$1" >"$work/uid"
    echo "$2" | xargs -n1 >"$work/absent"
    echo "$3" | xargs -n1 >"$work/offered"
    echo "${4:-}" | xargs -n1 >"$work/later"
    : >"$work/calls"
    out=$(PATH=$work/bin:$PATH ci/deps.sh 2>&1)
    status=$?
    calls=$(sed -n -e 's/.*\(install\|update\).*/\1/p' -e /^sudo/p "$work/calls" | xargs)
}
report() {
    echo "status $status, calls '$calls', output: $out"
}

deps 0 "" ""
[ "$status $out $calls" = "0  " ]
tap where_all_is_there_nothing_is_said_or_done $? "$(report)"
if [ -d /var/lib/dpkg ]; then
    deps 0 "gcc tcpdump" "gcc tcpdump"
    [ "$status $calls" = "0 install" ] && [ "$out" = "ci/deps.sh: installing gcc tcpdump" ]
    tap root_installs_what_is_missing_and_fetches_no_lists_for_it $? "$(report)"
    deps 0 "gcc tcpdump" "gcc" "tcpdump"
    [ "$status $calls" = "0 install update install" ]
    tap with_old_lists_it_fetches_new_ones_and_tries_again $? "$(report)"
    deps 0 "gcc tcpdump" "gcc"
    case $out in *"Unable to locate package tcpdump"*"could not install gcc tcpdump"*) [ $status = 1 ] ;; *) false ;; esac
    tap when_that_fails_too_apt_gets_words_are_shown $? "$(report)"
    touch "$work/sudo"
    deps 1000 "gcc" "gcc"
    [ "$status $calls" = "0 sudo sudo install" ]
    tap a_user_with_sudo_installs_too $? "$(report)"
    rm "$work/sudo"
fi
deps 1000 "gcc libcmocka-dev" "gcc libcmocka-dev"
[ $status = 1 ] && [ -z "$calls" ] &&
    [ "$(echo "$out" | tail -n 1)" = "    apt-get install --no-install-recommends gcc libcmocka-dev" ]
tap anyone_else_is_told_the_one_command $? "$(report)"
deps 1000 "qemu-system-x86" ""
export RINGLAB_QEMU=/bin/sh
needed=$status
with_own=$(PATH=$work/bin:$PATH ci/deps.sh 2>&1) && [ "$needed" = 1 ]
tap with_a_qemu_of_ones_own_debians_is_not_needed $? "$with_own"
unset RINGLAB_QEMU

# A system without dpkg: only these programs.
mkdir "$work/elsewhere"
for program in sh env sed awk cat dirname gcc make objcopy qemu-system-x86_64 tcpdump; do
    ln -s "$(command -v "$program" || echo /bin/true)" "$work/elsewhere/$program"
done
cat >"$work/elsewhere/pkg-config" <<'E'
#!/bin/sh
[ "$2" != cmocka ]
E
chmod +x "$work/elsewhere/pkg-config"
out=$(PATH=$work/elsewhere ci/deps.sh 2>&1)
[ $? = 1 ] && case $out in *"not Debian, please install what provides: cmocka.pc "*) true ;; *) false ;; esac
tap elsewhere_it_says_what_is_missing $? "$out"
printf '#!/bin/sh\n' >"$work/elsewhere/pkg-config"
out=$(PATH=$work/elsewhere ci/deps.sh 2>&1)
[ "$? $out" = "0 " ]
tap elsewhere_with_all_there_it_is_content $? "$out"
tap_end
