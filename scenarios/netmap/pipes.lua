-- Pipes: two ends that exchange slots; what is published when, and what is left when one end goes.

local N = require "netmap"

local host = netmap {}

local function ends(slots)
    local conf = slots and "@conf:slots=" .. slots or ""
    return host:open("vale0:p{1" .. conf), host:open("vale0:p}1" .. conf)
end

local function f(i) return N.frame(N.station(1), N.station(2), i) end

test("frames cross in both directions", function()
    local a, b = ends(16)
    for i = 1, 50 do
        a:send(f(i))
        expect(b:recv(), f(i))
        b:send(f(100 + i))
        expect(a:recv(), f(100 + i))
    end
end)

test("a slot crosses whole: buffer, length, flags and pointer; the change is told to the other end", function()
    local a, b = ends(16)
    local extra = host:open("vale0:p{9@conf:slots=16", { extra_bufs = 1 }):extra_bufs()[1]
    local slot = a.tx[0][0]
    a.tx[0]:set_buf(extra, f(1))
    slot.buf_idx, slot.len, slot.ptr = extra, 60, 0x1234
    slot.flags = N.NS_BUF_CHANGED | N.NS_REPORT
    N.step(a.tx[0], 1)
    expect(a:txsync(), "OK")
    expect(b:rxsync(), "OK")
    local got = b.rx[0][0]
    expect({ got.buf_idx, got.len, got.ptr, got.flags }, { extra, 60, 0x1234, N.NS_BUF_CHANGED | N.NS_REPORT })
    expect(got:data(), f(1))
    expect(slot.flags & N.NS_BUF_CHANGED, 0)
end)

test("buffers travel: none is copied, none is lost", function()
    local a, b = ends(16)
    local function all()
        local list = N.indices(a.tx[0])
        table.move(N.indices(b.rx[0]), 1, 16, 17, list)
        table.sort(list)
        return list
    end
    local before = all()
    for i = 1, 100 do
        local index = a.tx[0][a.tx[0].head].buf_idx
        N.put(a.tx[0], f(i))
        a:txsync()
        b:rxsync()
        expect(b.rx[0][b.rx[0].head].buf_idx, index)
        N.step(b.rx[0], 1)
        b:rxsync()
    end
    a:txsync()
    expect(all(), before)
end)

test("a packet in several slots is published when it is whole", function()
    local a, b = ends(16)
    for i = 0, 1 do
        a.tx[0][i]:set(f(i))
        a.tx[0][i].flags = N.NS_MOREFRAG
        N.step(a.tx[0], 1)
        a:txsync()
        b:rxsync()
        expect(b.rx[0]:space(), 0)
    end
    N.put(a.tx[0], f(2))
    a:txsync()
    b:rxsync()
    expect(b.rx[0]:space(), 3)
    expect(b:recv(), f(0) .. f(1) .. f(2))
end)

test("a ring whose other end takes nothing fills up; nothing is dropped", function()
    local a, b = ends(16)
    for i = 1, 15 do
        a:send(f(i))
    end
    expect(a:tx_burst { f(16) }, 0)
    expect(a:poll "out", "")
    for i = 1, 15 do
        expect(b:recv(), f(i))
    end
    expect(a:poll("out", 1000), "out")
end)

test("the end that waits is told", function()
    local a, b = ends(16)
    expect(b:poll "in", "")
    a:send(f(1))
    expect(b:poll("in", 1000), "in")
end)

test("when one end goes, what it sent can still be read; when it comes back, all goes on", function()
    local a, b = ends(16)
    a:send(f(1))
    a:send(f(2))
    a:close()
    expect(b:recv(), f(1))
    b:send(f(3))
    a = host:open "vale0:p{1@conf:slots=16"
    expect(b:recv(), f(2))
    expect(a:recv(), f(3))
    a:send(f(4))
    expect(b:recv(), f(4))
end)

test("ring i of one end is ring i of the other, and the slave's counts are the master's turned round", function()
    local a = host:open "vale0:p{1@conf:tx_rings=3,rx_rings=2,tx_slots=64,rx_slots=32"
    local b = host:open "vale0:p}1"
    expect({ #a.tx, #a.rx, #b.tx, #b.rx }, { 3, 2, 2, 3 })
    expect({ b.tx[0].num_slots, b.rx[0].num_slots }, { 32, 64 })
    for ring = 0, 2 do
        a:send(f(ring), 1000, ring)
        local got, from = b:recv()
        expect({ got, from }, { f(ring), ring })
    end
end)

test("both ends share the parent's allocator; a parent that is not there is made", function()
    local a, b = ends()
    expect(a:info().mem_id, b:info().mem_id)
    expect(host:pools_info("vale0:p").nr_mem_id, a:info().mem_id)
end)

test("pipes have names and parents, and no host rings", function()
    local function register(name, mode)
        return (host:request { type = "REGISTER", name = name, body = { nr_mode = mode or N.ALL_NIC } })
    end
    expect(register "vale0:p{", "EINVAL")
    expect(register "{1", "EINVAL")
    expect(register("vale0:p{1", N.SW), "EINVAL")
    expect(register("vale0:p{1", N.NIC_SW), "EINVAL")
    expect(register("vale0:p{1", N.ONE_NIC), "OK")
end)

test("nonsense at one end is none of the other's business", function()
    local a, b = ends(16)
    for i = 1, 50 do
        b.tx[0].head = i * 77777 & 0xffffffff
        b.tx[0].cur = i * 99999 & 0xffffffff
        b:txsync()
        a:send(f(i))
        expect(b:recv(), f(i))
        expect(#a:rx_burst(), 0)
    end
end)
