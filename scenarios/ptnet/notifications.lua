-- Kicks and interrupts, counted one by one: the kernel loop is stepped, so that each of them has one
-- reason, and each that is not needed does not happen.

local N = require "netmap"
local P = require "ptnet"

local host = netmap {}
local m = machine { name = "guest", bridge = true }
local dev = m:device("ptnet-pci", { netmap = host, port = "vale0:a@conf:slots=16", stepped = true })

local TX, RX = 0, 1

-- Kicks and interrupts so far: tx, rx, tx, rx.
local function counts()
    m:barrier() -- kicks are posted
    local s = dev:stats()
    return { s.kicks[TX], s.kicks[RX], s.interrupts[TX], s.interrupts[RX] }
end

local function f(i) return N.frame(N.station(1), N.BROADCAST, i) end

local function peer() return host:open("vale0:peer@conf:slots=64") end

-- ---- guest to host ----

test("a kick while the host asks for kicks, none while it does not", function()
    local pt = ptnet(dev, { vnet_hdr = false })
    expect(pt:csb("tx").kern_need_kick, 1)
    pt:send(f(1))
    expect(counts(), { 1, 0, 0, 0 })
    pt:send(f(2)) -- the host has not looked yet
    expect(counts(), { 2, 0, 0, 0 })
    pt:csb("tx", 0, { kern_need_kick = 0 })
    pt:send(f(3))
    pt:send(f(4))
    expect(counts(), { 2, 0, 0, 0 })
    dev:step()
    expect(pt:csb("tx").kern_need_kick, 1)
    pt:send(f(5))
    expect(counts(), { 3, 0, 0, 0 })
    dev:step()
    expect(pt:csb("tx").hwcur, 5)
end)

test("a burst costs one kick, a burst of nothing none", function()
    local pt = ptnet(dev, { vnet_hdr = false })
    expect(pt:tx_burst { f(1), f(2), f(3), f(4), f(5) }, 5)
    expect(counts(), { 1, 0, 0, 0 })
    expect(pt:tx_burst {}, 0)
    expect(counts(), { 1, 0, 0, 0 })
end)

test("a pass takes all that is there and says so once", function()
    local pt, port = ptnet(dev, { vnet_hdr = false }), peer()
    pt:tx_burst { f(1), f(2), f(3) }
    expect(counts()[1], 1) -- the kick has come
    expect(dev:step(), true)
    expect(port:rx_burst(), { f(1), f(2), f(3) })
    expect(dev:stats().tx_syncs, 1)
    expect(dev:step(), false)
end)

test("an idle host leaves rx kicks off while the guest has slots to give", function()
    local pt, port = ptnet(dev, { vnet_hdr = false }), peer()
    dev:step()
    expect(pt:csb("rx").kern_need_kick, 0)
    for i = 1, 5 do
        port:send(f(i))
        dev:step()
        expect(pt:recv(), f(i))
    end
    expect(counts()[2], 0)
end)

test("a host that has run out of the guest's slots asks for a kick, and gets one", function()
    local pt, port = ptnet(dev, { vnet_hdr = false }), peer()
    for i = 1, 15 do
        port:send(f(i))
    end
    dev:step()
    expect(pt:csb("rx").hwtail, 15)
    expect(pt:csb("rx").kern_need_kick, 1)
    expect(counts()[2], 0)
    local rx = pt:ring "rx"
    pt:rxsync()
    N.step(rx, 1)
    pt:rxsync()
    expect(counts()[2], 1)
    dev:step()
    expect(pt:csb("rx").hwcur, 1)
    expect(pt:csb("rx").kern_need_kick, 0)
    N.step(rx, 14)
    pt:rxsync()
    expect(counts()[2], 1)
end)

test("a guest whose ring is full asks again, until the host has made room", function()
    local pt = ptnet(dev, { vnet_hdr = false })
    local frames = {}
    for i = 1, 15 do
        frames[i] = f(i)
    end
    expect(pt:tx_burst(frames), 15)
    expect(pt:tx_burst { f(16) }, 0)
    dev:step()
    expect(pt:tx_burst { f(16) }, 1)
    dev:step()
    expect(pt:csb("tx").hwcur, 0) -- 16 slots: once round
end)

-- ---- host to guest ----

for _, form in ipairs { "memory", "eventfd" } do
    test("one interrupt for a frame the guest waits for, none while it does not wait: " .. form, function()
        local pt, port = ptnet(dev, { vnet_hdr = false, interrupts = form }), peer()
        pt:rxsync() -- empty: the guest will wait
        expect(pt:csb("rx").appl_need_kick, 1)
        port:send(f(1))
        expect(counts()[4], 0) -- the host has not looked yet
        dev:step()
        expect(counts()[4], 1)
        pt:irq("rx"):wait()
        port:send(f(2))
        pt:csb("rx", 0, { appl_need_kick = 0 })
        dev:step()
        expect(counts()[4], 1)
        expect(pt:irq("rx"):take(), false)
        expect(pt:recv(), f(1))
        expect(pt:recv(), f(2))
    end)
end

test("many frames in one pass are one interrupt", function()
    local pt, port = ptnet(dev, { vnet_hdr = false, interrupts = "memory" }), peer()
    pt:rxsync()
    for i = 1, 10 do
        port:send(f(i))
    end
    dev:step()
    expect(counts()[4], 1)
    expect(pt:irq("rx"):messages(), 1)
end)

test("tx interrupts come when there is room again and the guest asked for it", function()
    local pt = ptnet(dev, { vnet_hdr = false, interrupts = "memory" })
    local frames = {}
    for i = 1, 15 do
        frames[i] = f(i)
    end
    pt:csb("tx", 0, { appl_need_kick = 0 })
    pt:tx_burst(frames)
    pt:txsync() -- full: the guest will wait
    expect(pt:csb("tx").appl_need_kick, 1)
    dev:step()
    expect(counts()[3], 1)
    pt:irq("tx"):wait()
    expect(pt:tx_burst(frames), 15)
end)

test("a masked vector's interrupt is kept until it is unmasked", function()
    local pt, port = ptnet(dev, { vnet_hdr = false, interrupts = "memory" }), peer()
    pt:rxsync()
    dev:msix_mask(RX, true)
    port:send(f(1))
    dev:step()
    expect(counts()[4], 1)
    expect(pt:irq("rx"):take(), false)
    expect(dev:msix_pending(RX), true)
    expect(dev:msix_pending(TX), false)
    dev:msix_mask(RX, false)
    pt:irq("rx"):wait()
    expect(dev:msix_pending(RX), false)
end)

test("each ring has its own vector: tx first, then rx", function()
    local quad = machine { name = "quad" }
    local four = quad:device("ptnet-pci",
        { netmap = host, port = "vale1:a@conf:rings=2,slots=16", stepped = true })
    local pt = ptnet(four, { vnet_hdr = false, interrupts = "memory" })
    local port = host:open("vale1:peer@conf:rings=2,slots=16", { vnet_hdr = true })
    for ring = 0, 1 do
        pt:rxsync(ring)
    end
    pt:send(N.frame(N.station(1), N.BROADCAST))
    four:step()
    port:recv()
    for ring = 0, 1 do
        port:send(N.frame(N.station(2), N.station(1), ring), 1000, ring)
        four:step()
        local s = four:stats().interrupts
        expect({ s[2], s[3] }, ring == 0 and { 1, 0 } or { 1, 1 })
        pt:irq("rx", ring):wait()
        expect(pt:irq("rx", 1 - ring):take(), false)
        expect(pt:recv(1000, ring), N.frame(N.station(2), N.station(1), ring))
    end
end)

-- ---- the loop in its own thread ----

test("a sleeping loop is woken by a kick, a sleeping guest by an interrupt: nothing is lost", function()
    local live = machine { name = "live", bridge = true }
    local d = live:device("ptnet-pci", { netmap = host, port = "vale2:a@conf:slots=32" })
    local pt, port = ptnet(d, { vnet_hdr = false, interrupts = "eventfd", fence = true }), host:open("vale2:b", { vnet_hdr = true })
    for i = 1, 300 do
        pt:send(f(i))
        expect(port:recv(), f(i))
        port:send(f(i + 1))
        expect(pt:recv(), f(i + 1))
    end
    expect(d:stats().timeouts, 0)
    expect.at_most(d:stats().kicks[TX], 300)
end)
