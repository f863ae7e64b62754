-- The machine of the 2015 README: one port on a plain VALE back end, one VALE port, one pipe and one
-- NIC passed through; and a second NIC, whose allocator is the first one's.

local N = require "netmap"

local host = netmap {}
local inside, outside = wire.cable()
local inside2, outside2 = wire.cable()
host:nic("ix0", { wire = inside })
host:nic("ix1", { wire = inside2 })

local m = machine { name = "netmapvm" }
host:nic("plain", { wire = m:netdev("n0", "stream") })
local card = m:device("virtio-net-pci,netdev=n0,mac=" .. N.station(1))
local function passed_through(station, port)
    return m:device("ptnet-pci,mac=" .. N.station(station), { netmap = host, port = port })
end
local on_vale = passed_through(2, "vale1:1")
local on_pipe = passed_through(3, "vale2:x{1")
local on_nic = passed_through(4, "netmap:ix0")
local on_nic2 = passed_through(5, "netmap:ix1")

test("there is a memdev for each allocator, not for each port", function()
    m:start()
    local memdevs, ids = 0, {}
    for _, f in ipairs(m:functions()) do
        local vendor, device = f:id()
        if vendor == 0x1b36 and device == 0x000c then
            memdevs = memdevs + 1
            ids[f.regs.MEMID] = true
        end
    end
    expect(memdevs, 3)
    expect(on_nic.regs.HOSTMEMID, 1)
    expect(on_nic2.regs.HOSTMEMID, 1)
    for _, dev in ipairs { on_vale, on_pipe, on_nic, on_nic2 } do
        expect(ids[dev.regs.HOSTMEMID], true)
        expect(dev:memdev().regs.MEMID, dev.regs.HOSTMEMID)
    end
    expect.different(on_vale.regs.HOSTMEMID, on_pipe.regs.HOSTMEMID)
end)

test("traffic flows on all of its ports, each to its own other side", function()
    host:attach "vale0:plain"
    local net = virtio_net(card)
    local vale, pipe = ptnet(on_vale, { vnet_hdr = false }), ptnet(on_pipe, { vnet_hdr = false })
    local nic, nic2 = ptnet(on_nic, { vnet_hdr = false }), ptnet(on_nic2, { vnet_hdr = false })
    local far = { host:open "vale0:2", host:open "vale1:2", host:open "vale2:x}1", outside, outside2 }
    local near = { net, vale, pipe, nic, nic2 }
    for round = 1, 5 do
        for i = 1, 5 do
            local f = N.frame(N.station(i), N.station(100 + i), round * 10 + i, 60 + 100 * round)
            near[i]:send(f)
            expect(far[i]:recv(), f)
            f = N.frame(N.station(100 + i), N.station(i), round * 100 + i, 60 + 100 * round)
            far[i]:send(f)
            expect(near[i]:recv(), f)
        end
    end
    for i = 1, 5 do
        expect(#near[i]:rx_burst(), 0)
        expect(#far[i]:rx_burst(), 0)
    end
end)
