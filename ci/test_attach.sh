#!/bin/bash
# A guest that boots, in a QEMU that is not ours, with modelled devices: what it sees of them, frames at
# memory speed, an interrupt. `make guest` makes the guest.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/tap.sh
build=${BUILD:-build}
qemu=${RINGLAB_QEMU:-qemu-system-x86_64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -s "$build/guest/initrd.gz" ]; then
    tap_skip a_guest_that_boots_drives_modelled_devices "there is no guest: 'make guest' makes one"
    tap_end
    exit
fi

boot() { # BOARD ARGUMENT-OF-ptnet ARGUMENT-OF-attach...
    board=$1 argument=$2
    shift 2
    # shellcheck disable=SC2086 # words
    timeout 120 "$build/ringlab" attach -v "$@" -- "$qemu" -machine "$board" -accel tcg -m 256M \
        -nodefaults -display none -serial stdio -no-reboot -kernel "$build/guest/vmlinux" \
        -initrd "$build/guest/initrd.gz" \
        -append "console=ttyS0 quiet panic=-1 ptnet=\"$argument\"" </dev/null >"$work/out" 2>&1
    status=$?
    tr -d '\r' <"$work/out" >"$work/log"
    return $status
}
said() { # PATTERN
    grep -Eq "$1" "$work/log"
}

for board in pc q35; do
    boot "$board" '-t -n 20000' ptnet-pci,port=vale0:guest --link vale0:far=echo
    tap "${board}_the_guest_boots_and_qemu_ends_in_order" $? "$(tail -20 "$work/log")"
    said '^lspci: .*Class 0200: Device 1b36:000d' && said '^lspci: .*Class 00ff: Device 1b36:000c' && said 'MSI-X: Enable. Count=2' &&
        said 'Region 0: I/O ports at [0-9a-f]+ .*\[size=256\]' &&
        said 'Region 1: Memory at [0-9a-f]+ \(32-bit, prefetchable\)'
    tap "${board}_lspci_in_the_guest_shows_ptnet_and_memdev" $? "$(grep lspci "$work/log")"
    said 'its memory lies at 0x[0-9a-f]+, where the guest looks for it'
    tap "${board}_the_memory_is_laid_where_the_guest_looks_for_it" $? "$(tail -20 "$work/log")"
    said '^guest: 20000 frames sent and back, 0 wrong'
    tap "${board}_frames_go_out_and_come_back" $? "$(grep ^guest "$work/log")"
    said '^guest: [1-9][0-9]* interrupts of the processor'
    tap "${board}_an_interrupt_of_the_model_reaches_the_guests_processor" $? "$(grep ^guest "$work/log")"
    sed -n 's/^guest: trace //p' "$work/log" >"$work/trace"
    cmp -s "$work/trace" images/guest/bring_up.trace
    tap "${board}_the_drivers_register_accesses_are_those_it_makes_outside_a_guest" $? \
        "$(diff "$work/trace" images/guest/bring_up.trace | head)"
    said '^guest: stopped'
    tap "${board}_the_driver_stops_the_device" $? "$(grep ^guest "$work/log")"
done
tap_end
