-- CSB addresses that are not in the guest's memory, indices beyond the ring, buffers of nobody: the
-- host answers with an errno or a ring that begins anew, and everybody else carries on.

local N = require "netmap"
local P = require "ptnet"

local ENXIO = 6

local host = netmap {}
local m = machine { name = "guest" }
local dev = m:device("ptnet-pci", { netmap = host, port = "vale0:a@conf:slots=64", stepped = true })

-- Two others on the switch, who must not notice; what the guest sends is none of theirs.
local function bystanders()
    local a, b = host:open "vale0:x", host:open "vale0:y"
    local seed = 0
    return function()
        seed = seed + 1
        local f = N.frame(N.station(101), N.BROADCAST, seed)
        a:send(f)
        repeat
            local got = b:recv()
        until got == f
    end
end

test("a CSB outside the guest's memory, or across its end, is refused", function()
    local c = P.csb(dev)
    local ram_end = c.ram:size()
    local good = c.ram:gpa(c.gh)
    for i, bad in ipairs { ram_end - 64, ram_end, 0x40000000, 0xfffff000, 1 << 40, -4096 } do
        c:place(bad, good)
        expect(c:create(), ENXIO)
        c:place(good, bad)
        expect(c:create(), ENXIO)
        expect(dev:stats().csb_failures, 2 * i)
    end
    c:place()
    expect(c:create(), 0)
end)

test("a CSB at the very end of memory is taken", function()
    local c = P.csb(dev)
    c:place(c.ram:size() - 128, c.ram:size() - 256)
    expect(c:create(), 0)
    expect(c.ram:u32(c.ram:size() - 256 + 4), 63)
    expect(c:delete(), 0)
end)

test("a CSB that is not aligned to 64 bytes is refused", function()
    local c = P.csb(dev)
    for _, off in ipairs { 4, 8, 32, 63 } do
        c:place(c.ram:gpa(c.gh) + off, nil)
        expect.different(c:create(), 0)
        c:place(nil, c.ram:gpa(c.hg) + off)
        expect.different(c:create(), 0)
    end
    c:place()
    expect(c:create(), 0)
end)

test("ROM, registers and the device's own BAR are no place for a CSB", function()
    local c = P.csb(dev)
    for _, bad in ipairs { 0xfffff000, 0xfee00000, dev:bar(2).base, dev:memdev():bar(1).base } do
        c:place(bad, bad)
        expect(c:create(), ENXIO)
    end
end)

for _, index in ipairs { "head", "cur" } do
    test("a tx " .. index .. " that cannot be makes the ring begin anew, with kicks asked for", function()
        local others = bystanders()
        local c = P.csb(dev)
        c:place()
        c:create()
        for i, bad in ipairs { 64, 65, 0x80000000, 0xffffffff } do
            c:word(0, index, bad)
            dev:step()
            expect(dev:stats().bad_rings, i)
            expect({ c:word(0, "hwcur"), c:word(0, "hwtail"), c:word(0, "kern_need_kick") }, { 0, 63, 1 })
            others()
        end
        c:say(0, 0)
        dev:step()
        expect(dev:stats().bad_rings, 4)
    end)
end

test("a cur behind head is no order that can be", function()
    local others = bystanders()
    local c = P.csb(dev)
    c:place()
    c:create()
    c:say(0, 5, 3)
    dev:step()
    expect(dev:stats().bad_rings, 1)
    expect(c:word(0, "hwcur"), 0)
    others()
end)

test("an rx head beyond what has arrived is refused", function()
    local others = bystanders()
    local c = P.csb(dev)
    c:place()
    c:create()
    others() -- one frame has arrived
    c:say(1, 5)
    dev:step()
    expect.at_least(dev:stats().bad_rings, 1)
    expect(c:word(1, "hwcur"), 0)
    c:say(1, 0)
    dev:step()
    expect(c:word(1, "hwtail"), 1)
    others()
end)

test("sync flags nobody knows are not passed on", function()
    local others = bystanders()
    local c = P.csb(dev)
    c:place()
    c:create()
    c:word(0, "sync_flags", 0xffffffff)
    c:word(1, "sync_flags", 0xffffffff)
    dev:step()
    others()
    expect(dev:stats().bad_rings, 0)
end)

test("buffers that are not the guest's and lengths beyond them are sent as nothing", function()
    local others = bystanders()
    local port = host:open "vale0:peer"
    local pt = ptnet(dev, { vnet_hdr = false })
    local tx = pt:ring "tx"
    for _, bad in ipairs { { buf_idx = 0 }, { buf_idx = 1 }, { buf_idx = 0xffffffff }, { len = 0xffff }, { len = 2049 } } do
        local slot = tx[tx.cur]
        local good = slot.buf_idx
        slot:set(N.frame(N.station(1), N.BROADCAST))
        slot.flags = 0
        for key, value in pairs(bad) do
            slot[key] = value
        end
        N.step(tx, 1)
        pt:txsync()
        dev:step()
        slot.buf_idx = good
        for _, f in ipairs(port:rx_burst()) do
            expect.different(f, N.frame(N.station(1), N.BROADCAST))
        end
        others()
        port:rx_burst()
    end
end)

test("a guest that never stops changing its mind loses nobody else a frame", function()
    local others = bystanders()
    local c = P.csb(dev)
    c:place()
    c:create()
    for i = 1, 300 do
        for ring = 0, 1 do
            for k, name in ipairs { "head", "cur", "appl_need_kick", "sync_flags", "hwcur", "hwtail", "kern_need_kick" } do
                c:word(ring, name, string.unpack("<I4", pattern(4, i * 16 + ring * 8 + k)))
            end
        end
        c:kick(i % 2)
        dev:step()
        others()
    end
end)

test("a storm of kicks is counted to the last one, and costs the others nothing", function()
    local others = bystanders()
    local c = P.csb(dev)
    c:place()
    c:create()
    for i = 1, 50 do
        for _ = 1, 20 do
            c:kick(0)
        end
        dev:step()
        others()
    end
    expect(dev:stats().kicks[0], 1000)
end)

test("after all that, a guest that behaves has its frames", function()
    local others = bystanders()
    local c = P.csb(dev)
    c:place()
    c:create()
    c:say(0, 0xffffffff)
    c:say(1, 0xffffffff)
    dev:step()
    expect(c:delete(), 0)
    c:place(0, 0)
    local port = host:open "vale0:peer"
    local pt = ptnet(dev, { vnet_hdr = false })
    for i = 1, 100 do
        local f = N.frame(N.station(1), N.BROADCAST, i)
        pt:send(f)
        dev:step()
        expect(port:recv(), f)
    end
    others()
end)
