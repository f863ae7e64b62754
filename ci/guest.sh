#!/bin/sh
# Makes a guest that boots in seconds: ci/guest.sh BUILD. Debian's kernel, unpacked, so that QEMU enters
# it directly, and an initramfs with busybox, lspci and ringlab's ptnet program. Leaves BUILD/guest/vmlinux
# and BUILD/guest/initrd.gz; the kernel is fetched once and kept. Needs Debian and its package servers.
set -eu
cd "$(dirname "$0")/.."
build=$1
guest=$build/guest
mkdir -p "$guest/debs"

package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
if [ -z "$package" ]; then
    echo "ci/guest.sh: apt knows of no linux-image-amd64; 'apt-get update' may help" >&2
    exit 1
fi

fetch() { # PACKAGE: into debs, unpacked below root
    [ -e "$guest/debs/$1.done" ] && return
    if ! (cd "$guest/debs" && apt-get -q download "$1" >log 2>&1); then
        cat "$guest/debs/log" >&2
        echo "ci/guest.sh: cannot fetch $1 (apt's words are above)" >&2
        exit 1
    fi
    mkdir -p "$guest/root"
    for deb in "$guest/debs/$1"_*.deb; do
        dpkg-deb -x "$deb" "$guest/root"
        rm "$deb"
    done
    touch "$guest/debs/$1.done"
}

# The kernel's image is a program that unpacks an xz stream; the stream alone is what QEMU can enter.
if [ ! -s "$guest/vmlinux" ]; then
    fetch "$package"
    image=$(ls "$guest"/root/boot/vmlinuz-*)
    at=$(LC_ALL=C grep -aobP '\xfd7zXZ\x00' "$image" | head -n 1 | cut -d: -f1)
    tail -c "+$((at + 1))" "$image" | xz -dc --single-stream >"$guest/vmlinux.new" || :
    rm -rf "$guest/root/lib/modules" "$guest/root/boot"
    [ "$(head -c 4 "$guest/vmlinux.new" | tail -c 3)" = ELF ] || {
        echo "ci/guest.sh: no ELF kernel in $image" >&2
        exit 1
    }
    mv "$guest/vmlinux.new" "$guest/vmlinux"
fi

fetch busybox-static
root=$guest/initrd
rm -rf "$root"
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev"
cp "$guest/root/bin/busybox" "$root/bin/"
for name in sh mount sed echo cat poweroff; do
    ln -s busybox "$root/bin/$name"
done
# lspci with the libraries it needs; no names of devices: ids are what is looked for.
copy_program() {
    cp "$1" "$root/bin/"
    ldd "$1" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}
copy_program "$(command -v lspci)"
cp "$build/images/guest/ptnet" "$root/bin/"
cp images/guest/init "$root/init"
(cd "$root" && find . | bin/busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$guest/initrd.gz"
