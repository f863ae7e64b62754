-- Direct mode (klooptx=off, klooprx=off): rings are synced by whoever kicks them, not by the loop, and
-- what the port does is an interrupt at once.

local N = require "netmap"

local host = netmap {}
local machines = {}
for _, case in ipairs { "klooptx=off", "klooprx=off" } do
    local m = machine { name = case:gsub("=off", "") }
    machines[case] = m:device("ptnet-pci," .. case, { netmap = host, port = "vale0:a@conf:slots=64" })
end

local function f(i) return N.frame(N.station(1), N.BROADCAST, i) end

test("a direct tx ring is emptied by its kick, frame by frame", function()
    local dev = machines["klooptx=off"]
    local pt, port = ptnet(dev, { vnet_hdr = false, interrupts = "memory" }), host:open "vale0:b"
    for i = 1, 50 do
        pt:send(f(i))
        dev:machine():barrier() -- the kick's write has returned
        expect(port:rx_burst(), { f(i) })
    end
    expect({ dev:stats().kicks[0], dev:stats().tx_syncs }, { 50, 50 })
end)

test("beside a direct tx ring, rx is the loop's", function()
    local pt, port = ptnet(machines["klooptx=off"], { vnet_hdr = false, interrupts = "memory" }), host:open "vale0:b"
    for i = 1, 50 do
        port:send(f(i))
        expect(pt:recv(), f(i))
    end
end)

test("a direct rx ring interrupts for every arrival, and fills when it is kicked", function()
    local dev = machines["klooprx=off"]
    local pt, port = ptnet(dev, { vnet_hdr = false, interrupts = "memory" }), host:open "vale0:b"
    local rx = pt:ring "rx"
    pt:rxsync()
    dev:machine():barrier()
    for i = 1, 20 do
        port:send(f(i))
        pt:irq("rx"):wait()
        pt:rxsync() -- nothing to see yet: the guest kicks
        dev:machine():barrier()
        pt:rxsync()
        expect(rx:space(), 1)
        expect(rx[rx.head]:data(), f(i))
        N.step(rx, 1)
        pt:rxsync()
    end
    -- at least: releasing a slot kicks as well, and a sync by a kick may find the next frame
    expect.at_least(dev:stats().interrupts[1], 20)
    expect.at_least(dev:stats().kicks[1], 20)
end)
