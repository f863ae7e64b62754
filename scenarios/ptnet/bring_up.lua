-- Bringing ptnet up and down, in the right order and in every wrong one.

local N = require "netmap"
local P = require "ptnet"

local ENXIO, EINVAL = 6, 22

local host = netmap {}
local m = machine { name = "guest" }
local dev = m:device("ptnet-pci", { netmap = host, port = "vale0:a", stepped = true })

local function peer() return host:open "vale0:peer" end

test("the published order brings it up", function()
    local c = P.csb(dev)
    dev.regs.PTFEAT = 0
    c:place()
    expect(c:create(), 0)
    expect(c:delete(), 0)
    expect({ dev:stats().creates, dev:stats().create_failures }, { 1, 0 })
end)

test("CREATE stores what the rings are like into both arrays", function()
    local c = P.csb(dev)
    c.ram:fill(c.gh, 8192, 0x55)
    c:place()
    expect(c:create(), 0)
    local n = dev.regs.NUM_TX_SLOTS
    expect(c:entry(0), { head = 0, cur = 0, appl_need_kick = 1, sync_flags = 1,
        hwcur = 0, hwtail = n - 1, kern_need_kick = 1 })
    expect(c:entry(1), { head = 0, cur = 0, appl_need_kick = 1, sync_flags = 1,
        hwcur = 0, hwtail = 0, kern_need_kick = 1 })
    expect(c.ram:u32(c.gh + 128), 0x55555555) -- there is no third ring
    expect(c.ram:u32(c.hg + 128), 0x55555555)
    expect(c.ram:u32(c.gh + 16), 0x55555555) -- the guest's own padding
end)

test("CREATE without a CSB, or with one half of it, is refused", function()
    local c = P.csb(dev)
    expect(c:create(), ENXIO)
    c:place(nil, 0)
    expect(c:create(), ENXIO)
    c:place(0, nil)
    expect(c:create(), ENXIO)
    c:place(0, 0)
    expect(c:create(), ENXIO)
    c:place()
    expect(c:create(), 0)
end)

test("commands that do not exist are refused, before and after", function()
    local c = P.csb(dev)
    for _, command in ipairs { 0, 3, 4, 0x100, 0x101, 0xffffffff } do
        expect(c:control(command), EINVAL)
    end
    c:place()
    c:create()
    for _, command in ipairs { 0, 3, 0xffffffff } do
        expect(c:control(command), EINVAL)
    end
    expect(c:delete(), 0)
end)

test("a second CREATE changes nothing, a second DELETE neither", function()
    local c = P.csb(dev)
    c:place()
    expect(c:create(), 0)
    c:say(0, 0)
    c:word(0, "appl_need_kick", 0)
    expect(c:create(), 0)
    expect(c:word(0, "appl_need_kick"), 0)
    expect(c:delete(), 0)
    expect(c:delete(), 0)
end)

test("DELETE before anything else is nothing, and CREATE works after it", function()
    local c = P.csb(dev)
    expect(c:delete(), 0)
    c:place()
    expect(c:delete(), 0)
    expect(c:create(), 0)
end)

test("a new CSB address ends the loop, and overwrites the status", function()
    for _, half in ipairs { "CSB_GH_BAL", "CSB_HG_BAL" } do
        local c = P.csb(dev)
        c:place()
        expect(c:create(), 0)
        c:control(7)
        expect(dev.regs.PTCTL, EINVAL)
        dev.regs[half] = dev.regs[half]
        expect(dev.regs.PTCTL, 0)
        expect(dev:step(), false)
        local before = c:entry(0)
        N.put(host:open("vale0:b").tx[0], N.frame(N.station(1), N.BROADCAST))
        dev:step()
        expect(c:entry(0), before)
        expect(c:create(), 0)
        c:place(0, 0)
    end
end)

test("the high half alone changes nothing until the low half is written", function()
    local c = P.csb(dev)
    c:place()
    expect(c:create(), 0)
    dev.regs.CSB_GH_BAH = 0xdead
    dev.regs.CSB_HG_BAH = 0xdead
    local port = peer()
    port:send(N.frame(N.station(9), N.BROADCAST))
    dev:step()
    expect(c:word(1, "hwtail"), 1)
    dev.regs.CSB_GH_BAL = dev.regs.CSB_GH_BAL -- now it is taken: 0xdead00000000 is no memory
    expect(c:create(), ENXIO)
end)

test("kicks before CREATE are counted, and do nothing", function()
    local c = P.csb(dev)
    c:kick(0)
    c:kick(1)
    expect(dev:step(), false)
    expect({ dev:stats().kicks[0], dev:stats().kicks[1] }, { 1, 1 })
    c:place()
    expect(c:create(), 0)
end)

test("kicks of rings that do not exist do nothing", function()
    local c = P.csb(dev)
    c:place()
    c:create()
    for ring = 2, 31 do
        c:kick(ring)
    end
    for ring = 2, 31 do
        expect(dev:stats().kicks[ring], 0)
    end
    expect(c:delete(), 0)
end)

test("frames flow again after DELETE and CREATE, from where the rings were", function()
    local port = peer()
    for round = 1, 3 do
        local pt = ptnet(dev, { vnet_hdr = false })
        local f = N.frame(N.station(1), N.BROADCAST, round)
        pt:send(f)
        dev:step()
        expect(port:recv(), f)
        expect(pt:csb("tx").head, round)
        port:send(N.frame(N.station(2), N.BROADCAST, round))
        dev:step()
        expect(pt:recv(), N.frame(N.station(2), N.BROADCAST, round))
        dev:step() -- the host hears that the slot is released: else the frame would come again
        pt:close()
    end
end)

test("a guest that forgets its device is followed by one that starts anew", function()
    local pt = ptnet(dev, { vnet_hdr = false })
    pt:send(N.frame(N.station(1), N.BROADCAST))
    pt:abandon()
    dev:step()
    m:reset()
    m:setup()
    local port = peer()
    pt = ptnet(dev, { vnet_hdr = false })
    pt:send(N.frame(N.station(1), N.BROADCAST, 2))
    dev:step()
    expect(port:recv(), N.frame(N.station(1), N.BROADCAST, 2))
end)

test("a reset ends the loop: nothing is stored into the guest's memory any more", function()
    local c = P.csb(dev)
    c:place()
    expect(c:create(), 0)
    m:reset()
    c.ram:fill(c.gh, 8192, 0xaa)
    peer():send(N.frame(N.station(9), N.BROADCAST))
    dev:step()
    expect(c.ram:read(c.gh, 8192), string.rep("\xaa", 8192))
    m:setup()
    expect(dev.regs.PTFEAT, 0)
    expect(c:create(), ENXIO)
    c:place()
    expect(c:create(), 0)
end)

test("without bus mastering and decoding the device is not there, and comes back", function()
    local pt = ptnet(dev, { vnet_hdr = false })
    local command = dev.config.command
    dev.config.command = 0
    expect(m:inp(dev:bar(0).base, 4), 0xffffffff)
    dev.config.command = command
    local port = peer()
    pt:send(N.frame(N.station(1), N.BROADCAST, 3))
    dev:step()
    expect(port:recv(), N.frame(N.station(1), N.BROADCAST, 3))
end)
