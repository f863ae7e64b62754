-- QEMU's own virtio-net, and a ptnet in another QEMU, on one VALE switch, with a monitor whose
-- frames are written to a capture that tcpdump reads.

local N = require "netmap"

local host = netmap {}
local stock = machine { name = "stock" }
local wires = { stream = stock:netdev("n0", "stream"), dgram = stock:netdev("n1", "dgram") }
local cards = {
    stream = stock:device("virtio-net-pci,netdev=n0,mac=" .. N.station(1)),
    dgram = stock:device("virtio-net-pci,netdev=n1,mac=" .. N.station(3)),
}
for _, kind in ipairs { "stream", "dgram" } do
    host:nic(kind, { wire = wires[kind] })
end
local other = machine { name = "other" }
local dev = other:device("ptnet-pci,mac=" .. N.station(2), { netmap = host, port = "vale0:pt" })

-- A virtio-net behind a socket of this kind, and a ptnet, both on the switch.
local function up(kind)
    host:attach("vale0:" .. kind)
    return virtio_net(cards[kind]), ptnet(dev, { vnet_hdr = false })
end

for i, kind in ipairs { "stream", "dgram" } do
    local station = N.station(i == 1 and 1 or 3)
    test("a virtio-net behind a " .. kind .. " socket and a ptnet hear each other", function()
        local card, pt = up(kind)
        for len = 60, 1514, 242 do
            local f = N.frame(station, N.station(2), len, len)
            card:send(f)
            expect(pt:recv(), f)
            f = N.frame(N.station(2), station, len, len)
            pt:send(f)
            expect(card:recv(), f)
        end
    end)
end

test("a monitor sees both directions, and tcpdump reads what it wrote", function()
    local card, pt = up "stream"
    local monitor = host:open "vale0:pt/tr"
    local path = os.tmpname()
    local capture = wire.pcap_writer(path)
    for i = 1, 10 do
        local there = N.frame(N.station(1), N.station(2), i, 60 + i)
        local back = N.frame(N.station(2), N.station(1), 100 + i, 160 + i)
        card:send(there)
        expect(pt:recv(), there)
        pt:send(back)
        expect(card:recv(), back)
        expect(monitor:recv(), there)
        expect(monitor:recv(), back)
        capture:send(there)
        capture:send(back)
    end
    expect(#monitor:rx_burst(), 0)
    local pipe = io.popen("tcpdump -nne -r " .. path .. " 2>/dev/null; rm " .. path)
    local text = pipe:read "a"
    pipe:close()
    if text == "" then
        skip "there is no tcpdump"
    end
    local n = 0
    for from, to, len in text:gmatch "(%S+) > (%S+), ethertype [^,]*, length (%d+)" do
        n = n + 1
        local is_back = n % 2 == 0
        expect({ from, to }, is_back and { N.station(2), N.station(1) } or { N.station(1), N.station(2) })
        expect(tonumber(len), (is_back and 160 or 60) + (n + 1) // 2)
    end
    expect(n, 20)
end)
