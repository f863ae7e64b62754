#!/bin/bash
# Makes scenarios/data/ordinary.pcap anew: two network namespaces joined by a veth pair, ordinary
# programs talking across it, tcpdump listening. Nothing of this machine's network is in it. Needs
# root; all it makes besides the file is gone when it ends.
set -eu

out=$(realpath "${1:-$(dirname "$0")/../scenarios/data/ordinary.pcap}")
"$(dirname "$0")/deps.sh" capture
[ "$(id -u)" = 0 ] || { echo "ci/capture.sh: network namespaces need root" >&2; exit 1; }

a=ringlab-a-$$ b=ringlab-b-$$
work=$(mktemp -d)
clean_up() {
    exec 2>/dev/null # the shell would tell of each program that is ended
    for ns in "$a" "$b"; do
        ip netns pids "$ns" 2>/dev/null | xargs -r kill 2>/dev/null || :
        ip netns del "$ns" 2>/dev/null || :
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

in_a() { ip netns exec "$a" "$@"; }
in_b() { ip netns exec "$b" "$@"; }
# until_true COMMAND...: tried again for 10 s at most
until_true() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "ci/capture.sh: after 10 s still not true: $*" >&2
    exit 1
}

ip netns add "$a"
ip netns add "$b"
ip link add veth0 netns "$a" address 52:54:00:00:00:0a type veth \
    peer name veth0 netns "$b" address 52:54:00:00:00:0b
for ns in "$a" "$b"; do
    # Frames as a wire carries them: 1514 bytes at most, checksums computed.
    ip netns exec "$ns" ethtool -K veth0 tx off rx off tso off gso off gro off >/dev/null
    ip -n "$ns" link set lo up
done
ip -n "$a" address add 192.0.2.1/24 dev veth0
ip -n "$b" address add 192.0.2.2/24 dev veth0
ip -n "$b" link set veth0 up # tcpdump wants it up; nothing is sent before the other end is

ip netns exec "$b" tcpdump -i veth0 -U --immediate-mode -w "$work/pcap" 2>"$work/tcpdump" &
tcpdump=$!
until_true grep -q listening "$work/tcpdump"

# IPv6 comes up by itself with the links: multicast reports, duplicate address detection.
ip -n "$a" link set veth0 up
ip -n "$a" address add 2001:db8::1/64 dev veth0
ip -n "$b" address add 2001:db8::2/64 dev veth0
until_true in_a ping -6 -c 1 -W 1 -I 2001:db8::1 2001:db8::2

# A name server for one name, and a web server.
cat >"$work/dns.py" <<'E'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.0.2.2", 53))
while True:
    query, who = s.recvfrom(512)
    end = query.index(b"\0", 12) + 5  # the question: name, type, class
    is_a = query[end - 4:end - 2] == b"\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("192.0.2.2") if is_a else b""
    s.sendto(query[:2] + b"\x85\x80\0\1\0" + bytes([is_a]) + b"\0\0\0\0" + query[12:end] + answer, who)
E
ip netns exec "$b" python3 "$work/dns.py" &
disown
mkdir "$work/web"
seq -f 'line %05g of a text that is fetched in one piece' 1 1200 >"$work/web/bulk.txt"
echo 'a small page' >"$work/web/index.html"
ip netns exec "$b" python3 -m http.server --bind 192.0.2.2 --directory "$work/web" 80 >"$work/http" 2>&1 &
disown
echo 'nameserver 192.0.2.2' >"$work/resolv.conf"
until_true in_b sh -c 'ss -Hltn sport = 80 | grep -q . && ss -Hlun sport = 53 | grep -q .'
in_a sh -c "mount --bind $work/resolv.conf /etc/resolv.conf && exec curl -sS \
    http://files.example/ http://files.example/bulk.txt http://files.example/none" >/dev/null
in_a curl -s -o /dev/null http://192.0.2.2:81/ || : # a port where nobody listens

# Every size class: 42 bytes is the smallest echo, 1472 of payload fill the frame, more is fragmented.
for size in 0 1 17 18 19 56 82 83 470 471 998 1300 1471 1472 2000; do
    in_a ping -q -c 1 -s "$size" 192.0.2.2 >/dev/null
done
in_b ping -6 -q -c 2 -i 0.2 -s 200 2001:db8::1 >/dev/null
in_b ping -6 -q -c 1 -s 1452 2001:db8::1 >/dev/null

kill "$tcpdump"
wait "$tcpdump"
chmod 644 "$work/pcap"
size=$(stat -c %s "$work/pcap")
[ "$size" -lt $((200 * 1024)) ] || { echo "ci/capture.sh: $size bytes are too many" >&2; exit 1; }
cp "$work/pcap" "$out"
echo "$out: $size bytes, $(tcpdump -r "$out" 2>/dev/null | wc -l) frames"
