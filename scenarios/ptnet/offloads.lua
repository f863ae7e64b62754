-- The virtio-net header on ptnet's frames: who negotiates it, and what the switch does for ports
-- without one.

local I = require "inet"
local N = require "netmap"

local host = netmap {}
local m = machine { name = "guest" }
local dev = m:device("ptnet-pci", { netmap = host, port = "vale0:a" })

local guest = { mac = mac(N.station(1)), ip = "10.0.0.1" }
local other = { mac = mac(N.station(2)), ip = "10.0.0.2" }

test("the driver asks for a header of 12 bytes, and gets it from a switch port", function()
    local pt = ptnet(dev)
    expect({ pt:features(), pt:header(), dev.regs.VNET_HDR_LEN }, { 1, 12, 12 })
    expect(host:header("vale0:a").nr_hdr_len, 12)
end)

test("a driver that wants none gets none", function()
    local pt = ptnet(dev, { vnet_hdr = false })
    expect({ pt:features(), pt:header(), dev.regs.VNET_HDR_LEN }, { 0, 0, 0 })
    expect(host:header("vale0:a").nr_hdr_len, 0)
end)

test("an interface that has no headers offers none", function()
    local near, far = wire.cable()
    host:nic("em0", { wire = near })
    local plain = machine { name = "plain" }
    local on_nic = plain:device("ptnet-pci", { netmap = host, port = "netmap:em0" })
    local pt = ptnet(on_nic)
    expect({ pt:features(), pt:header() }, { 0, 0 })
    pt:send(N.frame(N.station(1), N.station(2)))
    expect(far:recv(), N.frame(N.station(1), N.station(2)))
end)

test("a checksum the guest left to others is there when a port without headers gets the frame", function()
    local pt, port = ptnet(dev), host:open "vale0:plain"
    local whole = I.udp(guest, 1000, other, 2000, pattern(333, 3))
    -- what a stack leaves in the field: the sum of the pseudo header
    local pseudo = I.address(guest.ip) .. I.address(other.ip) .. string.pack(">I1I1I2", 0, 17, 8 + 333)
    local partial = ~I.checksum(pseudo) & 0xffff
    pt:send(whole:sub(1, 40) .. string.pack(">I2", partial) .. whole:sub(43), 1000, 0,
        { flags = 1, csum_start = 34, csum_offset = 6 })
    expect(port:recv(), whole)
end)

for _, case in ipairs { { 1000, 4000 }, { 1448, 20000 }, { 1448, 60000 } } do
    local mss, len = case[1], case[2]
    test("a TCP frame of " .. len .. " bytes is cut at " .. mss .. " for a port without headers", function()
        local pt, port = ptnet(dev), host:open("vale0:plain", { slots = 128 })
        local payload = pattern(len, 5)
        pt:send(I.tcp(guest, 80, other, 81, 1000, payload), 1000, 0,
            { flags = 1, gso_type = 1, hdr_len = 54, gso_size = mss, csum_start = 34, csum_offset = 16 })
        local data, sequence = {}, 1000
        local got = 0
        while got < len do
            local f = port:recv()
            local part = f:sub(55)
            expect(I.checksum(f:sub(15, 34)), 0)
            expect(I.tcp_is_sound(f), true)
            expect(string.unpack(">I4", f, 39), sequence)
            sequence = sequence + #part
            got = got + #part
            data[#data + 1] = part
            expect.at_most(#f, 1514)
        end
        expect(table.concat(data), payload)
    end)
end

test("a header that cannot be is dropped and counted; the next frame comes", function()
    local pt, port = ptnet(dev), host:open "vale0:plain"
    expect.error("gso_type 0x55", pt.send, pt, N.frame(N.station(1), N.station(2), 1), 1000, 0, { gso_type = 0x55 })
    N.put(pt:ring "tx", "\0\x55" .. string.rep("\0", 10) .. N.frame(N.station(1), N.station(2), 1))
    pt:txsync()
    pt:send(N.frame(N.station(1), N.station(2), 2))
    expect(port:recv(), N.frame(N.station(1), N.station(2), 2))
    expect(host:stats("vale0:a").dropped_bad, 1)
end)
