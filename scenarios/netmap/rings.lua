-- Rings as their user moves them: what head, cur and tail say, what happens to values that cannot
-- be, and that nobody else notices.

local N = require "netmap"

local host = netmap {}

local function pair(options)
    return host:open("vale0:a", options), host:open("vale0:b", options)
end

test("a new tx ring is free but for one slot, a new rx ring is empty", function()
    local a = pair { slots = 64 }
    local tx, rx = a.tx[0], a.rx[0]
    expect({ tx.head, tx.cur, tx.tail, tx.num_slots }, { 0, 0, 63, 64 })
    expect({ rx.head, rx.cur, rx.tail, rx.num_slots }, { 0, 0, 0, 64 })
    expect({ tx.dir, rx.dir, tx.ringid, tx.nr_buf_size }, { 1, 0, 0, 2048 })
    expect(tx:space(), 63)
end)

test("each slot of a new ring has a buffer of its own, of full length", function()
    local a = pair { slots = 64 }
    local seen = {}
    for _, ring in ipairs { a.tx[0], a.rx[0] } do
        for i = 0, 63 do
            expect.at_least(ring[i].buf_idx, 2)
            expect(seen[ring[i].buf_idx], nil)
            seen[ring[i].buf_idx] = true
            expect({ ring[i].len, ring[i].flags, ring[i].ptr }, { 2048, 0, 0 })
        end
    end
end)

test("head hands slots over, tail gives them back", function()
    local a, b = pair { slots = 64 }
    for i = 1, 3 do
        N.put(a.tx[0], frame(60, i))
    end
    expect(a:txsync(), "OK")
    expect({ a.tx[0].head, a.tx[0].tail }, { 3, 2 })
    expect({ b.rx[0].head, b.rx[0].tail }, { 0, 0 })
    expect(b:rxsync(), "OK")
    expect(b.rx[0].tail, 3)
    for i = 1, 3 do
        expect(b.rx[0][i - 1]:data(), frame(60, i))
    end
    N.step(b.rx[0], 2)
    expect(b:rxsync(), "OK")
    expect(b.rx[0]:space(), 1)
end)

test("rings go round", function()
    local a, b = pair { slots = 16 }
    for i = 1, 100 do
        a:send(frame(60 + i, i))
        expect(b:recv(), frame(60 + i, i))
    end
    expect(a.tx[0].head, 100 % 16)
end)

test("poll says what is ready, and syncs for it", function()
    local a, b = pair { slots = 16 }
    expect(a:poll "out", "out")
    expect(b:poll "in", "")
    expect(b:poll "in out", "out")
    N.put(a.tx[0], frame(60))
    expect(a:poll "out", "out")
    expect(b:poll("in", 1000), "in")
    expect(b.rx[0]:space(), 1)
    N.step(b.rx[0], 1)
    expect(b:poll "in", "")
end)

test("cur says where to be woken: a ring with unread slots before it is not ready", function()
    local a, b = pair { slots = 16 }
    a:tx_burst { frame(60, 1), frame(60, 2) }
    expect(b:poll "in", "in")
    b.rx[0].cur = 2
    expect(b:poll "in", "")
    expect(b.rx[0].head, 0)
    a:send(frame(60, 3))
    expect(b:poll("in", 1000), "in")
    expect(b.rx[0]:space(), 3)
end)

-- ---- what cannot be ----


for _, field in ipairs { "head", "cur" } do
    test(field .. " beyond the tx ring re-initialises it, and the port goes on", function()
        local a, b = pair { slots = 16 }
        for _, value in ipairs { 16, 17, 0x80000000, 0xffffffff } do
            a:send(frame(60, 1))
            b:recv()
            local before = a.tx[0].head
            a.tx[0][field] = value
            expect(a:txsync(), "OK")
            expect({ a.tx[0].head, a.tx[0].cur }, { before, before })
            expect(#b:rx_burst(), 0)
            a:send(frame(60, 2))
            expect(b:recv(), frame(60, 2))
        end
        expect.match(host:log()[1], "vale0:a TX0: bad ring .1 so far.: head %d+ cur %d+ tail 0, of 16 slots")
    end)

    test(field .. " beyond the rx ring re-initialises it, and the port goes on", function()
        local a, b = pair { slots = 16 }
        for _, value in ipairs { 16, 0xffffffff } do
            b.rx[0][field] = value
            expect(b:rxsync(), "OK")
            expect.below(b.rx[0].head, 16)
            expect(b.rx[0].head, b.rx[0].cur)
            a:send(frame(60, 2))
            expect(b:recv(), frame(60, 2))
        end
    end)
end

test("poll of a bad ring says so once, and the ring is good again", function()
    local a = pair { slots = 16 }
    a.tx[0].head = 99
    expect.match(a:poll "out", "err")
    expect(a:poll "out", "out")
end)

test("a head beyond tail but in the ring stays as it is, and nothing moves until it is mended", function()
    local a, b = pair { slots = 16 }
    b.rx[0].cur = 3
    b.rx[0].head = 3
    expect(b:rxsync(), "OK")
    expect({ b.rx[0].head, b.rx[0].tail }, { 3, 0 })
    expect.match(host:log()[1], "vale0:b RX0: bad ring")
    b.rx[0].head = 0
    b.rx[0].cur = 0
    a:send(frame(60, 1))
    expect(b:recv(), frame(60, 1))
    a.tx[0].head = 5 -- cur was left behind
    expect(a:txsync(), "OK")
    expect(#b:rx_burst(), 0)
    expect({ a.tx[0].head, a.tx[0].cur }, { 5, 1 })
    a.tx[0].head = 1
    a:send(frame(60, 2))
    expect(b:recv(), frame(60, 2))
end)

test("tail is the kernel's: what a user stores there is put right", function()
    local a = pair { slots = 16 }
    a.tx[0].tail = 5
    expect(a:txsync(), "OK")
    expect(a.tx[0].tail, 15)
    a.tx[0].tail = 0xffffffff
    expect(a:txsync(), "OK")
    expect(a.tx[0].tail, 15)
end)

test("after a bad head, buffers that are not the user's are taken out of its slots", function()
    local a = pair { slots = 16 }
    local first = a.tx[0][4].buf_idx
    a.tx[0][1].buf_idx = 0xffffffff
    a.tx[0][2].buf_idx = 1
    a.tx[0][3].len = 2049
    a.tx[0].head = 99
    expect(a:txsync(), "OK")
    expect({ a.tx[0][1].buf_idx, a.tx[0][1].len }, { 0, 0 })
    expect({ a.tx[0][2].buf_idx, a.tx[0][2].len }, { 0, 0 })
    expect(a.tx[0][3].len, 0)
    expect({ a.tx[0][4].buf_idx, a.tx[0][4].len }, { first, 2048 })
end)

test("slots with buffers of nobody and lengths beyond the buffer are sent as nothing", function()
    local a, b = pair { slots = 16 }
    for _, bad in ipairs { { buf_idx = 0xfffffff0 }, { len = 0xffff }, { len = 2049 } } do
        local slot = a.tx[0][a.tx[0].cur]
        local good = slot.buf_idx
        slot:set(frame(60))
        for key, value in pairs(bad) do
            slot[key] = value
        end
        N.step(a.tx[0], 1)
        expect(a:txsync(), "OK")
        slot.buf_idx, slot.len = good, 60
        expect(#b:rx_burst(), 0)
    end
    a:send(frame(60, 7))
    expect(b:recv(), frame(60, 7))
end)

test("one user's nonsense loses no frame of another's", function()
    local a, b = pair { slots = 64 }
    local fool = host:open("vale0:fool", { slots = 16 })
    for i = 1, 200 do
        fool.tx[0].head = i * 77 & 0xffffffff
        fool.tx[0].cur = i * 1234567 & 0xffffffff
        fool.rx[0].head = 0xffffffff - i
        fool.tx[0][i % 16].buf_idx = i * 99991
        expect(fool:txsync(), "OK")
        expect(fool:rxsync(), "OK")
        a:send(N.frame(N.station(1), N.BROADCAST, i))
        expect(b:recv(), N.frame(N.station(1), N.BROADCAST, i))
    end
end)

-- ---- which rings ----

test("a file has the rings it asked for, the others are not bound", function()
    host:open("vale0:a", { rings = 4, slots = 16 })
    local one = host:open "vale0:a-2"
    expect({ #one.tx, #one.rx }, { 1, 1 })
    expect(one.tx[1], nil)
    expect(one.tx[2].ringid, 2)
    local tx_only = host:open("vale0:a/T")
    expect({ #tx_only.tx, #tx_only.rx }, { 4, 0 })
    local rx_only = host:open("vale0:a/R")
    expect({ #rx_only.tx, #rx_only.rx }, { 0, 4 })
end)

test("an exclusive ring has one user", function()
    host:open("vale0:a", { rings = 2, slots = 16 }):close()
    local all = host:open("vale0:a", { rings = 2, slots = 16 })
    expect.error("EBUSY", host.open, host, "vale0:a-0/x")
    all:close()
    host:open("vale0:a", { rings = 2, slots = 16, mode = N.ONE_NIC, ring = 0, exclusive = true })
    expect.error("EBUSY", host.open, host, "vale0:a-0")
    expect.error("EBUSY", host.open, host, "vale0:a")
    host:open "vale0:a-1"
end)

test("several users of a ring see the same slots", function()
    local one, two = host:open("vale0:a", { slots = 16 }), host:open "vale0:a"
    local b = host:open("vale0:b", { slots = 16 })
    one:send(frame(60, 1))
    expect(two.tx[0].head, 1)
    two:send(frame(60, 2))
    expect(b:rx_burst(), { frame(60, 1), frame(60, 2) })
end)
