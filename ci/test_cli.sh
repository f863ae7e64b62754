#!/bin/sh
# The program as a user meets it: wrong input is one line that names the thing and what to do, with the
# right exit status; killed QEMUs and killed runs leave nothing behind. Prints TAP.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=ci/tap.sh
. "$root/ci/tap.sh"
case ${BUILD:-build} in
/*) ringlab=$BUILD/ringlab ;;
*) ringlab=$root/${BUILD:-build}/ringlab ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export RINGLAB_CLI_TEST="$$"

# script NAME: standard input becomes the scenario NAME.lua
script() {
    cat >"$1.lua"
}

# one_line NAME STATUS PATTERN COMMAND...: the command ends with STATUS and its standard error is one line
# that matches PATTERN.
one_line() {
    name=$1 wanted=$2 pattern=$3
    shift 3
    "$@" >out 2>err </dev/null
    status=$?
    lines=$(wc -l <err)
    why=
    [ "$status" = "$wanted" ] || why="exit status $status, not $wanted"
    [ "$lines" = 1 ] || why="$why; $lines lines of standard error, not 1"
    grep -qE -- "$pattern" err || why="$why; no '$pattern'"
    tap "$name" "$([ -z "$why" ]; echo $?)" "$why
$(cat err)"
}

# fails NAME STATUS PATTERN COMMAND...: the same for a test that fails: the report has one message line.
fails() {
    name=$1 wanted=$2 pattern=$3
    shift 3
    "$@" >out 2>err </dev/null
    status=$?
    why=
    [ "$status" = "$wanted" ] || why="exit status $status, not $wanted"
    grep -E '^ *message:' out | grep -qE -- "$pattern" || why="$why; no message like '$pattern'"
    tap "$name" "$([ -z "$why" ]; echo $?)" "$why
$(grep -vE 'command line|qemu-system' out)$(cat err)"
}

# Processes of this test, which inherit its environment.
ours() {
    # shellcheck disable=SC2013 # words without spaces
    for environ in $(grep -lsz "^RINGLAB_CLI_TEST=$$\$" /proc/[0-9]*/environ); do
        pid=${environ#/proc/}
        pid=${pid%/environ}
        case $(cat "/proc/$pid/comm" 2>/dev/null) in
        *qemu* | ringlab) grep -qs '^State:.[^ZX]' "/proc/$pid/status" && echo "$pid" ;;
        esac
    done
}

# until_true COMMAND...: polls it for 10 s at most.
until_true() {
    n=0
    until "$@"; do
        n=$((n + 1))
        [ "$n" -lt 1000 ] || return 1
        sleep 0.01
    done
}

none_left() {
    [ -z "$(ours)" ]
}

# ---- wrong usage ----
one_line a_command_that_does_not_exist 2 "no command 'runn'.*did you mean 'run'" "$ringlab" runn
one_line an_option_that_does_not_exist 2 'nknown option' "$ringlab" run --tracee x.lua
one_line run_without_a_scenario 2 'ringlab run' "$ringlab" run
one_line a_scenario_that_is_not_there 2 'missing\.lua.*No such file' "$ringlab" run missing.lua
mkdir empty
one_line a_folder_without_scenarios 2 "no scenario in folder 'empty'" "$ringlab" run empty
echo 'test("x", function() expect(1, 1 end)' >syntax.lua
one_line a_lua_syntax_error 2 "syntax\.lua:1: .*'\)' expected near 'end'" "$ringlab" run syntax.lua
echo 'local x = nil + 1' >load.lua
one_line an_error_while_loading 2 'load\.lua:1: attempt to perform arithmetic' "$ringlab" run load.lua
echo 'local x = 1' >none.lua
one_line a_file_without_tests 2 'none\.lua: declares no test' "$ringlab" run none.lua
if [ "$(id -u)" != 0 ]; then
    echo 'test("x", function() end)' >secret.lua
    chmod 0 secret.lua
    one_line a_scenario_that_cannot_be_read 2 'secret\.lua.*Permission denied' "$ringlab" run secret.lua
elif command -v setpriv >/dev/null; then
    echo 'test("x", function() end)' >secret.lua
    chmod 0600 secret.lua
    chmod 0755 .
    cp "$ringlab" ringlab-copy
    one_line a_scenario_that_cannot_be_read 2 'secret\.lua.*Permission denied' \
        setpriv --reuid=65534 --clear-groups ./ringlab-copy run --results /nonexistent secret.lua
else
    tap_skip a_scenario_that_cannot_be_read 'neither an ordinary user nor setpriv'
fi

# ---- the packet generator ----
one_line a_pktgen_port_that_cannot_be 2 'pktgen: em0: No such device' "$ringlab" pktgen -i em0
env --default-signal=INT "$ringlab" pktgen -T 10 -i vale0:a -f tx -R 1K -i vale0:b >out 2>err </dev/null &
pid=$!
until_true grep -qs 'vale0:b .* rx ' out
kill -s INT $pid
wait $pid
status=$?
tap ctrl_c_ends_pktgen_with_its_totals "$([ $status = 130 ] && grep -qE '^vale0:a tx: [0-9]+ packets sent' out &&
    grep -qE '^vale0:b rx: [0-9]+ packets received' out; echo $?)" "$status
$(cat out err)"

# ---- output that cannot be written ----
echo 'test("x", function() end)' >passes.lua
# shellcheck disable=SC2016 # the inner shell's
one_line a_report_that_cannot_be_written 2 'cannot write to standard output' \
    sh -c '"$1" run passes.lua >/dev/full' sh "$ringlab"
# shellcheck disable=SC2016 # the inner shell's
one_line a_help_that_cannot_be_written 2 'cannot write to standard output: No space left' \
    sh -c '"$1" --help >/dev/full' sh "$ringlab"
"$ringlab" run --results closed passes.lua <&- >&- 2>&-
status=$?
tap closed_standard_descriptors_are_not_given_to_others "$([ $status = 0 ]; echo $?)" "exit status $status"

# ---- QEMU ----
script start <<'END'
test("starts", function() machine():start() end)
END
fails no_qemu 1 '/nonexistent/qemu' env RINGLAB_QEMU=/nonexistent/qemu "$ringlab" run start.lua
one_line probe_without_a_qemu 2 '/nonexistent/qemu' env RINGLAB_QEMU=/nonexistent/qemu "$ringlab" probe
if ! command -v "${RINGLAB_QEMU:-qemu-system-x86_64}" >/dev/null; then
    tap_skip everything_with_a_qemu 'there is no QEMU'
    tap_end
    exit 0
fi
printf '#!/bin/sh\nexit 3\n' >broken
chmod +x broken
fails a_qemu_that_exits_at_once 1 'exited with status 3' env RINGLAB_QEMU="$work/broken" "$ringlab" run start.lua
fails a_program_that_is_no_qemu_and_says_nothing 1 'printed nothing; is .*/true a qemu-system-x86_64\?' \
    env RINGLAB_QEMU="$(command -v true)" "$ringlab" run start.lua
script device <<'END'
test("x", function() local m = machine(); m:device("virtio-nett-pci"); m:start() end)
END
fails a_device_that_qemu_lacks 1 "virtio-nett-pci.*did you mean virtio-net-pci" "$ringlab" run device.lua
one_line probe_of_a_device_that_qemu_lacks 2 "virtio-nett-pci.*did you mean '?virtio-net-pci" "$ringlab" probe virtio-nett-pci
script accel <<'END'
test("x", function() machine { accel = "warp" }:start() end)
END
fails a_wrong_accelerator 1 'warp.*tcg' "$ringlab" run accel.lua
script path <<'END'
test("x", function()
    machine { args = { "-chardev", "socket,id=c,server=on,wait=off,path=/tmp/" .. ("x"):rep(200) } }:start()
end)
END
fails a_socket_path_too_long 1 'UNIX socket path.*must be less than' "$ringlab" run path.lua

# ---- registers and memory ----
script name <<'END'
local d = machine():device "virtio-net-pci"
test("x", function() return d.common.device_statsu end)
END
fails an_unknown_register 1 "no register 'device_statsu'; did you mean 'device_status'" "$ringlab" run name.lua
script wide <<'END'
local d = machine():device "virtio-net-pci"
test("x", function() d.common.device_status = 0x100 end)
END
fails a_value_too_wide_for_its_register 1 '0x100 is too wide for common.device_status, which has 8 bits' "$ringlab" run wide.lua
script outside <<'END'
test("x", function() machine():bytes(0x100000000, 4) end)
END
fails an_address_outside_guest_memory 1 '0x100000000 are outside the shared memory' "$ringlab" run outside.lua
script vast <<'END'
test("x", function() memory { size = "512G" }:size() end)
END
fails memory_that_is_not_there 1 'no room for 549755813888 bytes' "$ringlab" run vast.lua
script full <<'END'
test("x", function() memory { size = "1M", dir = os.getenv("DIR") }:size() end)
END
mkdir small
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k tmpfs small 2>/dev/null; then
    fails a_full_file_system 1 'small has no room for 1048576 bytes' env DIR="$work/small" "$ringlab" run full.lua
    umount small
else
    tap_skip a_full_file_system 'needs to mount a small one'
fi
script huge <<'END'
test("x", function() memory { size = "512G", hugepages = "require" }:size() end)
END
"$ringlab" run huge.lua >out 2>err </dev/null
status=$?
tap required_huge_pages_that_are_not_there_skip_the_test \
    "$([ $status = 77 ] && grep -q 'SKIP.*nr_hugepages' out; echo $?)" "$status: $(cat out err)"
script prefer <<'END'
test("x", function()
    local m = memory { size = "4G", hugepages = "prefer" }
    if m:page_size() > 4096 then skip("there are that many") end
    expect.match(m:note(), "nr_hugepages")
end)
END
"$ringlab" run prefer.lua >out 2>err </dev/null
status=$?
tap preferred_huge_pages_fall_back_with_one_line \
    "$({ [ $status = 0 ] && [ "$(grep -c 'using ordinary pages' out)" = 1 ]; } || [ $status = 77 ]; echo $?)" \
    "$status: $(cat out err)"

# ---- two runs at once ----
script busy <<'END'
local m = machine()
local a, b = m:device "virtio-net-pci", m:device "virtio-net-pci"
for i = 1, 5 do
    test("frames " .. i, function()
        local x, y = virtio_net(a), virtio_net(b)
        x:send(frame(64, i))
        expect(y:recv(), frame(64, i))
    end)
end
END
"$ringlab" run --results one busy.lua >first 2>&1 </dev/null &
first=$!
"$ringlab" run --results two busy.lua >second 2>&1 </dev/null
second_status=$?
wait $first
first_status=$?
tap two_runs_at_once_do_not_disturb_each_other \
    "$([ $first_status = 0 ] && [ $second_status = 0 ]; echo $?)" "$(cat first second)"

# ---- killed in the middle ----
script qemu_dies <<'END'
local m = machine { name = "victim" }
local d = m:device "virtio-net-pci"
test("killed", function()
    d.common.device_status = 1
    m:kill(9)
    d.common.device_status = 3
end)
test("the next one runs", function()
    d.common.device_status = 1
    expect(d.common.device_status, 1)
end)
END
"$ringlab" run qemu_dies.lua >out 2>err </dev/null
status=$?
tap a_killed_qemu_is_reported_as_what_it_is \
    "$([ $status = 1 ] && grep -q 'message:.*QEMU victim was killed by signal 9 (Killed)' out; echo $?)" "$(cat out)"
tap and_the_next_test_runs "$(grep -q '^ok 2' out; echo $?)" "$(cat out)"
until_true none_left
tap and_no_process_is_left $? "$(ours)"

script harness_dies <<'END'
local m, n = machine { name = "a" }, machine { name = "b" }
local mem = memory { size = "4M", hugepages = "prefer" }
local server = ivshmem_server { memory = mem }
m:device("ivshmem-plain", { memory = mem })
n:device("ivshmem-doorbell", { server = server })
test("waits for its end", { timeout = 20000 }, function()
    m:start()
    n:start()
    local f = io.open("ready", "w")
    f:close()
    while true do yield_cpu() end
end)
END
mkdir tmp
shm_before=$(ls /dev/shm)
for signal in KILL TERM INT; do
    rm -f ready
    # a shell's background commands ignore SIGINT, unless told otherwise
    TMPDIR=$work/tmp env --default-signal=INT "$ringlab" run --results r harness_dies.lua >out 2>err </dev/null &
    pid=$!
    until_true test -e ready
    kill -s $signal $pid
    wait $pid 2>/dev/null
    status=$?
    case $signal in
    KILL) wanted=137 ;;
    *) wanted=130 ;;
    esac
    tap "a_run_ended_by_SIG${signal}_has_status_$wanted" "$([ $status = $wanted ]; echo $?)" "$status $(cat out err)"
    until_true none_left
    tap "after_SIG${signal}_no_process_is_left" $? "$(ours)"
    tap "after_SIG${signal}_no_file_is_left" \
        "$([ -z "$(ls -A tmp)" ] && [ "$(ls /dev/shm)" = "$shm_before" ]; echo $?)" "$(ls -la tmp /dev/shm)"
done
tap_end
