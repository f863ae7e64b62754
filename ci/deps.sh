#!/bin/sh
# Sees to it that the packages ringlab needs are there. `ci/deps.sh [lint] [capture] [guest] [fuzz]`: what
# building, running and checking need, and what these need besides. Debian: installs what is missing when it
# may (root, or sudo without a password), else prints the one command and fails. Elsewhere: looks for
# the programs and libraries themselves and says what is not there. Two at once wait for each other.
set -eu

# libc6-dev is only recommended by gcc, and recommendations are not installed. qemu-system-x86 needs
# none either: the ROMs of SeaBIOS and of the network cards are among its dependencies.
packages="gcc libc6-dev make binutils pkg-config libglib2.0-dev libjson-glib-dev liblua5.4-dev \
libcmocka-dev libpcap-dev qemu-system-x86 tcpdump"
programs="gcc make objcopy pkg-config qemu-system-x86_64 tcpdump"
modules="glib-2.0 json-glib-1.0 ${LUA:-lua5.4} libpcap cmocka"
for group in "$@"; do
    case $group in
    lint)
        packages="$packages clang-tidy clang-format cppcheck lua5.4 mandoc python3 shellcheck"
        programs="$programs clang-tidy clang-format cppcheck luac5.4 mandoc python3 shellcheck"
        ;;
    capture)
        packages="$packages iproute2 iputils-ping ethtool curl python3"
        programs="$programs ip ping ethtool curl python3"
        ;;
    guest)
        packages="$packages pciutils xz-utils"
        programs="$programs lspci xz"
        ;;
    fuzz)
        packages="$packages clang"
        programs="$programs clang"
        ;;
    *)
        echo "ci/deps.sh: unknown group '$group': lint, capture, guest and fuzz are there" >&2
        exit 2
        ;;
    esac
done
if [ -x "${RINGLAB_QEMU:-}" ]; then # someone's own QEMU: none is installed beside it
    packages=$(echo "$packages" | sed 's/ qemu-system-x86 / /')
    programs=$(echo "$programs" | sed 's/ qemu-system-x86_64 / /')
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    missing=
    for program in $programs; do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    for module in $modules; do
        pkg-config --exists "$module" 2>/dev/null || missing="$missing $module.pc"
    done
    [ -z "$missing" ] && exit 0
    echo "ci/deps.sh: this is not Debian, please install what provides:$missing" \
        "(the Debian packages are: $packages)" >&2
    exit 1
fi

# What of $packages is not installed, on one line.
list_missing() {
    # shellcheck disable=SC2086 # one word per package
    { dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null || :; } |
        awk -v want="$packages" '$1 == "installed" { have[$2] = 1 }
            END { n = split(want, w, " "); for (i = 1; i <= n; i++) if (!have[w[i]]) printf " %s", w[i] }'
}

missing=$(list_missing)
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
else
    echo "ci/deps.sh: packages are missing and this user may not install them; please run" >&2
    echo "    apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

exec 9</var/lib/dpkg
flock 9
missing=$(list_missing) # another run may have installed them meanwhile
[ -z "$missing" ] && exit 0

echo "ci/deps.sh: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM HUP

apt() {
    $as_root DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 "$@" </dev/null >>"$log" 2>&1 9<&-
}

# The lists are only fetched when installing with those there are does not work. Fetching may fail
# for one source of several: whether it was enough shows in the second attempt.
# shellcheck disable=SC2086 # one word per package
if ! apt install --no-install-recommends $missing; then
    apt update || :
    if ! apt install --no-install-recommends $missing; then
        cat "$log" >&2
        echo "ci/deps.sh: apt-get could not install$missing (its words are above)" >&2
        exit 1
    fi
fi
