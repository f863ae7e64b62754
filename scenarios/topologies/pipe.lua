-- Two QEMUs, ptnet each, at the two ends of a netmap pipe: buffers change hands, bytes do not move.

local N = require "netmap"

local host = netmap {}
local m1, m2 = machine { name = "left" }, machine { name = "right" }
local left = m1:device("ptnet-pci", { netmap = host, port = "vale0:x{1", stepped = true })
local right = m2:device("ptnet-pci", { netmap = host, port = "vale0:x}1", stepped = true })

-- Passes of both kernel loops until neither has anything to do.
local function settle()
    for _ = 1, 8 do
        left:step()
        right:step()
    end
end

test("both guests see one allocator", function()
    ptnet(left, { vnet_hdr = false })
    ptnet(right, { vnet_hdr = false })
    expect(left.regs.HOSTMEMID, right.regs.HOSTMEMID)
    expect(left:memdev().regs.MEMID, right:memdev().regs.MEMID)
    expect.different(left.regs.NIFP_OFS, right.regs.NIFP_OFS)
end)

test("a frame crosses with its buffer, and nothing is copied", function()
    local a = ptnet(left, { vnet_hdr = false })
    local b = ptnet(right, { vnet_hdr = false })
    local tx, rx = a:ring "tx", b:ring "rx"
    local sent, empty = N.indices(tx), N.indices(rx)
    for i = 1, 5 do
        N.put(tx, N.frame(N.station(1), N.station(2), i))
        tx[i - 1].flags = N.NS_BUF_CHANGED
    end
    a:txsync()
    settle()
    b:rxsync()
    expect(rx:space(), 5)
    for i = 1, 5 do
        expect(rx[i - 1].buf_idx, sent[i]) -- the very buffer that was filled
        expect(rx[i - 1].flags, N.NS_BUF_CHANGED)
        expect(tx[i - 1].flags, 0)
        expect(rx[i - 1]:data(), N.frame(N.station(1), N.station(2), i))
    end
    N.step(rx, 5)
    b:rxsync()
    settle()
    a:txsync(0, N.FORCE_RECLAIM)
    settle()
    a:txsync()
    -- the buffers that were waiting on the other side have come in return
    for i = 1, 5 do
        expect(tx[i - 1].buf_idx, empty[i])
    end
end)

test("all buffers are still there, each once, after many turns", function()
    local a = ptnet(left, { vnet_hdr = false })
    local b = ptnet(right, { vnet_hdr = false })
    local tx, rx = a:ring "tx", b:ring "rx"
    local function all()
        local list = N.indices(tx)
        table.move(N.indices(rx), 1, rx.num_slots, #list + 1, list)
        table.sort(list)
        return list
    end
    local before = all()
    for turn = 1, 40 do
        local n = turn * 37 % 300 + 1
        for i = 1, n do
            N.put(tx, N.frame(N.station(1), N.station(2), turn * 1000 + i))
        end
        a:txsync(0, N.FORCE_RECLAIM)
        settle()
        b:rxsync()
        expect(rx:space(), n)
        for i = 1, n do
            expect(rx[rx.head]:data(), N.frame(N.station(1), N.station(2), turn * 1000 + i))
            N.step(rx, 1)
        end
        b:rxsync()
        settle()
        a:txsync(0, N.FORCE_RECLAIM)
    end
    expect(all(), before)
end)

test("the tx ring fills up when the other side takes nothing, and nothing is lost", function()
    local a = ptnet(left, { vnet_hdr = false })
    local b = ptnet(right, { vnet_hdr = false })
    local tx = a:ring "tx"
    local n = tx.num_slots - 1
    for i = 1, n do
        N.put(tx, N.frame(N.station(1), N.station(2), i))
    end
    a:txsync()
    settle()
    a:txsync()
    expect(tx:space(), 0)
    for i = 1, n do
        if i % 100 == 0 then
            settle()
        end
        local frames = b:rx_burst(1)
        expect(frames, { N.frame(N.station(1), N.station(2), i) })
    end
    settle()
    a:txsync(0, N.FORCE_RECLAIM)
    settle()
    a:txsync()
    expect(tx:space(), n)
end)
