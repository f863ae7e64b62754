#!/bin/sh
# What `make install` leaves: a program from outside finds it through pkg-config, compiles, links and
# runs; each header compiles by itself; the binary finds its Lua library; uninstall takes all away.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/tap.sh
build=${BUILD:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
# to_make TARGET ARGUMENT...
to_make() {
    make "$@" "BUILD=$build" "SANITIZE=${SANITIZE:-}" "CC=${CC:-cc}" >"$work/log" 2>&1
}

to_make install "PREFIX=$prefix"
tap make_install_succeeds $? "$(cat "$work/log")"

PKG_CONFIG_PATH=$prefix/lib/pkgconfig
export PKG_CONFIG_PATH
# compile ARGUMENT...: as someone outside would, with the repository out of reach
compile() {
    (cd "$work" && ${CC:-cc} -std=c11 -Wall -Wextra -Werror ${SANITIZE:+-fsanitize=$SANITIZE} "$@") >"$work/log" 2>&1
}

cat >"$work/outside.c" <<'E'
#include "models/ivshmem_server.h"
#include "qtest_client/qtest.h"
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Drives both libraries: a qtest client whose QEMU is gone, and an ivshmem server with one peer. */
int main(void)
{
    int pair[2];
    GError *error = NULL;
    uint64_t value;
    uint16_t id;
    int far_end;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 1;
    struct qtest *q = qtest_new(pair[0]);
    shutdown(pair[1], SHUT_RDWR);
    if (qtest_read(q, 4, 0x1000, &value, &error) || !g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED))
        return 2;
    g_clear_error(&error);
    qtest_free(q);
    int memory = memfd_create("memory", 0);
    if (ftruncate(memory, 4096))
        return 3;
    struct ivshmem_server *server = ivshmem_server_new(memory, 1, &error);
    if (!server || !ivshmem_server_connect(server, &far_end, &id, &error)) {
        puts(error->message);
        return 4;
    }
    printf("%u peer\n", ivshmem_server_n_peers(server));
    ivshmem_server_free(server);
    return 0;
}
E
# shellcheck disable=SC2046 # words
compile -D_GNU_SOURCE outside.c -o outside $(pkg-config --cflags --libs ringlab)
tap a_program_outside_compiles_and_links_with_pkg_config $? "$(cat "$work/log")"
out=$("$work/outside" 2>&1)
[ "$out" = "1 peer" ]
tap it_runs $? "said: $out"

# The README's own program, as written there.
# shellcheck disable=SC2016 # a fence, no command
sed -n '/^```c$/,/^```$/p' qtest_client/README.md | sed '/^```/d' >"$work/net.c"
# shellcheck disable=SC2046 # words
compile -std=gnu11 net.c -o net $(pkg-config --cflags --libs ringlab)
tap the_program_in_the_readme_compiles $? "$(cat "$work/log")"
if command -v qemu-system-x86_64 >/dev/null; then
    out=$("$work/net" "$(pkg-config --variable=parkrom ringlab)" 2>"$work/log")
    [ "$out" = "64 bytes, the same" ]
    tap and_sends_a_frame_through_qemu $? "said: $out $(cat "$work/log")"
else
    tap_skip and_sends_a_frame_through_qemu 'there is no qemu-system-x86_64'
fi

bad=
for header in $(cd "$prefix/include/ringlab" && find . -name '*.h' | sort); do
    echo "#include \"${header#./}\"" >"$work/header.c"
    # shellcheck disable=SC2046 # words
    compile -fsyntax-only header.c $(pkg-config --cflags ringlab) || bad="$bad $header: $(cat "$work/log")"
done
[ -z "$bad" ]
tap every_installed_header_compiles_by_itself $? "$bad"

missing=
for header in qtest_client/qtest.h qtest_client/virtio_net.h models/ivshmem_server.h models/abi/reg.h; do
    [ -f "$prefix/include/ringlab/$header" ] || missing="$missing $header"
done
[ -z "$missing" ]
tap headers_keep_the_folders_of_their_rooms $? "missing:$missing"

rom=$(pkg-config --variable=parkrom ringlab)
[ "$(stat -c %s "$rom")" = 65536 ]
tap the_parking_rom_is_where_pkg_config_says $? "$rom"

version=$("$prefix/bin/ringlab" --version)
[ "$version" = "ringlab $(pkg-config --modversion ringlab)" ]
tap binary_and_pkg_config_file_agree_on_the_version $? "$version"

echo 'test("one is one", function() expect(1, 1) end)' >"$work/one.lua"
out=$(cd "$work" && "$prefix/bin/ringlab" run one.lua 2>&1)
tap the_installed_program_runs_a_scenario_from_any_folder $? "$out"
mv "$prefix" "$work/moved"
out=$(mkdir "$work/far" && cd "$work/far" && "$work/moved/bin/ringlab" run "$work/one.lua" 2>&1)
tap the_installation_can_be_moved $? "$out"
mv "$work/moved/share/ringlab/lua" "$work/lua"
out=$(cd "$work" && moved/bin/ringlab run one.lua 2>&1)
[ $? = 2 ] && case $out in *RINGLAB_LUA_PATH*) true ;; *) false ;; esac
tap without_its_lua_library_it_says_what_to_set $? "$out"
out=$(cd "$work" && RINGLAB_LUA_PATH=lua moved/bin/ringlab run one.lua 2>&1)
tap and_takes_the_library_from_there $? "$out"
mv "$work/lua" "$work/moved/share/ringlab/lua"
mv "$work/moved" "$prefix"

to_make install "DESTDIR=$work/stage" PREFIX=/opt/ringlab
staged=$(cd "$work/stage/opt/ringlab" && find . -type f | sort)
installed=$(cd "$prefix" && find . -type f | sort)
[ "$staged" = "$installed" ] && grep -qx prefix=/opt/ringlab "$work/stage/opt/ringlab/lib/pkgconfig/ringlab.pc"
tap destdir_stages_the_same_files_for_another_prefix $? "$staged"

to_make uninstall "PREFIX=$prefix"
left=$(find "$prefix" -type f -o -type l)
[ -z "$left" ]
tap make_uninstall_takes_everything_away $? "left: $left $(cat "$work/log")"
tap_end
