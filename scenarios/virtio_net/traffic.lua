-- Frames: every length, bursts beyond the ring, chains, indirect tables, mergeable buffers, and more of them
-- than a 16-bit index counts (virtio 1.2, 2.7, 5.1.6). Two devices on QEMU's hub; each frame is compared
-- byte by byte. Rings and buffers lie in an ivshmem BAR, in huge pages where there are any, and in some tests
-- in the machine's RAM.
local virtio = require "virtio"
local F = virtio.F
local NEXT, WRITE, INDIRECT = virtio.NEXT, virtio.WRITE, virtio.INDIRECT
local RX, TX = virtio.RX, virtio.TX

local BASE = { modern = F.VERSION_1, legacy = 0 }
local shared = memory { size = "8M", hugepages = "prefer", name = "rings" }

-- ---- by the driver, everywhere ----

for _, v in ipairs(virtio.variants) do
    local m = machine { board = v.board }
    m:device("ivshmem-plain", { memory = shared })
    local one, two = m:device(virtio.spec(v.properties)), m:device(virtio.spec(v.properties))

    local function drivers(o)
        o = o or {}
        o.transport, o.memory = v.transport, o.memory or shared
        return virtio_net(one, o), virtio_net(two, o)
    end

    -- Sends frame_of(1) to frame_of(n), and takes them off the other side as they come; order and contents
    -- must hold. Never more on their way than there are receive buffers: a receiver without buffers makes
    -- QEMU's hub change the order (see the last tests).
    local function expect_through(from, to, frame_of, n, burst)
        local window = to:queue("rx").size // 2
        local sent, received = 0, 0
        while received < n do
            local frames = {}
            for i = 1, math.min(burst, n - sent, received + window - sent) do
                frames[i] = frame_of(sent + i)
            end
            sent = sent + from:tx_burst(frames)
            for _, got in ipairs(to:rx_burst(64)) do
                received = received + 1
                if got ~= frame_of(received) then
                    expect({ received, got }, { received, frame_of(received) })
                end
            end
        end
        from:drain()
        expect(to:rx_burst(), {})
    end

    test(v.name .. ": frames of 1 to 1500 bytes and the longest, 1514", function()
        local a, b = drivers()
        expect_through(a, b, function(i) return frame(i <= 1500 and i or 1514, i) end, 1501, 64)
        expect({ a:stats().tx_frames, b:stats().rx_frames, b:stats().rx_errors }, { 1501, 1501, 0 })
    end)

    test(v.name .. ": bursts larger than the transmit ring", function()
        local size = v.transport == "modern" and 16 or 256 -- a legacy driver takes the ring as it is
        local a, b = drivers { tx_size = v.transport == "modern" and size or nil }
        local frames = {}
        for i = 1, 1000 do
            frames[i] = frame(60 + i % 100, i)
        end
        expect(a:tx_burst(frames), size) -- what fits
        for i = 1, size do
            expect(b:recv(), frames[i])
        end
        expect_through(a, b, function(i) return frames[i] end, 1000, 1000)
        expect.at_least(a:stats().tx_full, 1)
    end)

    test(v.name .. ": rings and buffers in the machine's RAM, chains in indirect tables", function()
        local a, b = drivers { memory = m:ram(), indirect = 8 }
        local function frame_of(i)
            return frame(14 + 5 * i, i)
        end
        expect_through(a, b, frame_of, 300, 100)
        expect_through(b, a, frame_of, 300, 7)
    end)

    test(v.name .. ": more frames than a 16-bit index counts", function()
        local a, b = drivers()
        local n = 66000
        local tail = string.rep("\x5a", 42)
        expect_through(a, b, function(i)
            return string.pack(">I4I4I4I2I4", 0xffffffff, 0xffff0200, 1, 0x88b5, i) .. tail
        end, n, 128)
        expect({ a:queue("tx").avail_idx, a:queue("tx").used_idx }, { n & 0xffff, n & 0xffff })
        expect(b:queue("rx").used_idx, n & 0xffff)
        expect(b:queue("rx").avail_idx, (n & 0xffff) + b:queue("rx").in_flight) -- wrapped as well
    end)
end

-- ---- by hand ----

local m = machine {}
m:device("ivshmem-plain", { memory = shared })
local net, other = m:device "virtio-net-pci", m:device "virtio-net-pci"

local function bring_up(transport, o)
    o = o or {}
    return virtio.bring_up(net, {
        transport = transport, features = BASE[transport] | (o.features or 0), memory = shared, size = o.size,
        buffers = o.buffers,
    })
end

-- The bytes in buffers of the sizes given; what is left over in a last one.
local function split(bytes, sizes)
    local buffers, at = {}, 1
    for _, size in ipairs(sizes) do
        buffers[#buffers + 1] = virtio.buffer(shared, bytes:sub(at, at + size - 1))
        at = at + size
    end
    if at <= #bytes then
        buffers[#buffers + 1] = virtio.buffer(shared, bytes:sub(at))
    end
    return buffers
end

local function ones(n)
    local t = {}
    for i = 1, n do
        t[i] = 1
    end
    return t
end

-- How a frame of 100 bytes and its header can be cut. 5.1.6: the device MUST NOT assume a layout; legacy
-- ones may (2.7.4.3), QEMU's does not.
local function cuts(header)
    return {
        {}, { header }, { header, 14 }, { 1 }, { header - 1 }, { header + 1 }, { 1, header - 1, 1 },
        { header // 2, header }, { header, 1, 1, 1, 97 }, { header + 99 }, ones(header + 100),
    }
end

for _, transport in ipairs { "modern", "legacy" } do
    test(transport .. ": a frame to send may be cut anywhere", function()
        local up = bring_up(transport)
        local peer = virtio_net(other)
        for n, cut in ipairs(cuts(#up.header)) do
            local buffers = split(up.header .. frame(100, n), cut)
            up.tx:chain(n, buffers)
            up.tx:post(n)
            up.t:kick(TX)
            up.tx:await()
            expect({ n, up.tx:used_element(n - 1) }, { n, n, 0 })
            expect({ n, peer:recv() }, { n, frame(100, n) })
        end
    end)

    test(transport .. ": an indirect table does what a chain does", function()
        local up = bring_up(transport, { features = F.INDIRECT_DESC })
        local peer = virtio_net(other)
        for n, cut in ipairs(cuts(#up.header)) do
            local buffers = split(up.header .. frame(100, n), cut)
            local at = shared:alloc(16 * #buffers, 16)
            -- in memory backwards, so that only `next` gives the order
            local order = {}
            for i = 1, #buffers do
                order[i] = i == 1 and 0 or #buffers - i + 1
            end
            for i, b in ipairs(buffers) do
                virtio.descriptor(shared, at + 16 * order[i], {
                    addr = b.addr, len = b.len, flags = i < #buffers and NEXT or 0, next = order[i + 1] or 0,
                })
            end
            up.tx:descriptor(5, { addr = shared:gpa(at), len = 16 * #buffers, flags = INDIRECT })
            -- a plain one between two of them
            up.tx:chain(6, split(up.header .. frame(80, n), {}))
            up.tx:post(5, 6, 5)
            up.t:kick(TX)
            up.tx:await()
            for _, len in ipairs { 100, 80, 100 } do
                expect({ n, peer:recv() }, { n, frame(len, n) })
            end
        end
    end)

    test(transport .. ": a received frame fills its chain in order", function()
        for _, features in ipairs { 0, F.INDIRECT_DESC } do
            local up = bring_up(transport, { features = features })
            local peer = virtio_net(other)
            for n, cut in ipairs(cuts(#up.header)) do
                local buffers = split(string.rep("\xee", #up.header + 120), cut)
                for _, b in ipairs(buffers) do
                    b.write = true
                end
                if features == 0 then
                    up.rx:chain(3, buffers)
                else
                    local at = shared:alloc(16 * #buffers, 16)
                    for i, b in ipairs(buffers) do
                        virtio.descriptor(shared, at + 16 * (i - 1), {
                            addr = b.addr, len = b.len, flags = WRITE | (i < #buffers and NEXT or 0), next = i % #buffers,
                        })
                    end
                    up.rx:descriptor(3, { addr = shared:gpa(at), len = 16 * #buffers, flags = INDIRECT })
                end
                up.rx:post(3)
                up.t:kick(RX)
                peer:send(frame(100, n))
                up.rx:await(n)
                expect({ n, up.rx:used_element(n - 1) }, { n, 3, #up.header + 100 })
                local bytes = {}
                for i, b in ipairs(buffers) do
                    bytes[i] = shared:read(b.offset, b.len)
                end
                bytes = table.concat(bytes)
                -- 5.1.6.4.1: num_buffers MUST be 1; QEMU writes it with MRG_RXBUF only
                local header = string.rep("\0", 10) .. string.rep("\xee", #up.header - 10)
                expect({ n, bytes }, { n, header .. frame(100, n) .. string.rep("\xee", 20) })
            end
            up.t:reset()
            peer:close()
        end
    end)

    test(transport .. ": with MRG_RXBUF a frame spreads over as many buffers as it needs", function()
        local peer = virtio_net(other)
        for _, case in ipairs {
            -- bytes of a buffer, of the frame, buffers used (12 + frame in buffers of that size)
            { 2048, 1514, 1 }, { 1526, 1514, 1 }, { 1525, 1514, 2 }, { 512, 1500, 3 }, { 504, 1500, 3 }, { 503, 1500, 4 },
            { 100, 1500, 16 }, { 64, 52, 1 }, { 64, 53, 2 }, { 13, 60, 6 }, { 12, 60, 6 }, { 72, 60, 1 },
        } do
            local size, len, count = table.unpack(case)
            local up = bring_up(transport, { features = F.MRG_RXBUF })
            local buffers = {}
            for i = 0, count do -- one more than needed
                buffers[i] = virtio.buffer(shared, size)
                up.rx:chain(20 + i, { buffers[i] })
                up.rx:post(20 + i)
            end
            up.t:kick(RX)
            peer:send(frame(len, size))
            up.rx:await(count)
            local bytes = {}
            for i = 0, count - 1 do
                local used = i < count - 1 and size or 12 + len - size * (count - 1)
                expect({ size, i, up.rx:used_element(i) }, { size, i, 20 + i, used })
                bytes[#bytes + 1] = shared:read(buffers[i].offset, used)
            end
            bytes = table.concat(bytes)
            expect({ size, bytes:sub(1, 10), string.unpack("<I2", bytes, 11) }, { size, string.rep("\0", 10), count, 13 })
            expect({ size, bytes:sub(13) }, { size, frame(len, size) })
            virtio.settle(m)
            expect({ size, up.rx:used_idx() }, { size, count })
        end
    end)

    test(transport .. ": a chain as long as the queue", function()
        local up = bring_up(transport)
        local peer = virtio_net(other)
        local bytes = up.header .. frame(1500)
        local buffers = split(bytes, ones(255))
        expect(#buffers, 256)
        up.tx:chain(0, buffers)
        for _ = 1, 3 do
            up.tx:post(0)
            up.t:kick(TX)
            up.tx:await()
            expect(peer:recv(), frame(1500))
        end
    end)

    test(transport .. ": heads in any order, the same one over and over", function()
        local up = bring_up(transport)
        local peer = virtio_net(other)
        for i = 0, 255 do
            up.tx:chain(i, split(up.header .. frame(60, i), {}))
        end
        local order = {}
        for i = 0, 255 do
            order[i + 1] = i * 37 % 256
        end
        table.move({ 7, 7, 7, 7 }, 1, 4, 100, order)
        up.tx:post(table.unpack(order))
        up.t:kick(TX)
        up.tx:await(256)
        for i, head in ipairs(order) do
            expect({ i, up.tx:used_element(i - 1) }, { i, head, 0 })
            expect({ i, peer:recv() }, { i, frame(60, head) })
        end
    end)

    test(transport .. ": indices wrap in rings made by hand, both ways", function()
        -- 65,600 frames: avail.idx and used.idx go once around, in bursts of a whole ring.
        local up = bring_up(transport)
        local peer = virtio.bring_up(other, { transport = transport, features = BASE[transport], memory = shared, buffers = 256 })
        for i = 0, 255 do
            up.tx:chain(i, split(up.header .. frame(60, i), {}))
            up.tx:post(i) -- fills the available ring; its entries stay
        end
        up.t:kick(TX)
        local n = 256
        local total = 65536 + 64 + 256
        while true do
            up.tx:await(n)
            peer.rx:await(n)
            if n >= 65536 - 512 then -- close to the wrap and beyond look at all of it
                for i = 0, 255 do
                    expect({ n, i, up.tx:used_element(i) }, { n, i, i, 0 })
                    expect({ n, i, peer.rx:used_element(i) }, { n, i, i, #up.header + 60 })
                    local at = peer.rx_buffers[i].offset + #up.header
                    expect(shared:read(at, 60) == frame(60, i))
                    shared:fill(at, 60)
                end
            end
            if n > total then
                break
            end
            n = n + 256
            peer.rx:avail_idx(n & 0xffff) -- all buffers again
            peer.t:kick(RX)
            up.tx:avail_idx(n & 0xffff)
            up.t:kick(TX)
        end
        expect({ up.tx:used_idx(), peer.rx:used_idx() }, { n & 0xffff, n & 0xffff })
        expect.above(n, 65536)
    end)
end

test("buffers may begin and end anywhere: odd addresses, page ends, the last byte of the BAR", function()
    local up = bring_up("modern", { buffers = 0 })
    local peer = virtio_net(other)
    local block = shared:alloc(3 * 4096, 4096)
    local last = shared:size()
    for n, offset in ipairs { block + 1, block + 4095 - 12, block + 4096 - 12, block + 4096 - 72, last - 72 } do
        shared:write(offset, up.header .. frame(60, n))
        up.tx:descriptor(0, { addr = shared:gpa(offset), len = 72 })
        up.tx:post(0)
        up.t:kick(TX)
        up.tx:await(n)
        expect(peer:recv(), frame(60, n))
        up.rx:descriptor(0, { addr = shared:gpa(offset), len = 72, flags = WRITE })
        up.rx:post(0)
        up.t:kick(RX)
        peer:send(frame(60, 100 + n))
        up.rx:await(n)
        expect(shared:read(offset + 12, 60), frame(60, 100 + n))
    end
end)

test("rings in the BAR and buffers in RAM, and the other way round", function()
    local ram = m:ram()
    local peer = virtio_net(other, { memory = ram })
    for n, places in ipairs { { shared, ram }, { ram, shared } } do
        local up = virtio.bring_up(net, { memory = places[1] })
        local b = virtio.buffer(places[2], up.header .. frame(99, n))
        up.tx:chain(0, { b })
        up.tx:post(0)
        up.t:kick(TX)
        up.tx:await(1)
        expect(peer:recv(), frame(99, n))
        b = virtio.buffer(places[2], 2048)
        up.rx:chain(0, { b })
        up.rx:post(0)
        up.t:kick(RX)
        peer:send(frame(77, n))
        up.rx:await(1)
        expect(places[2]:read(b.offset + 12, 77), frame(77, n))
    end
end)

test("three devices on a hub: what one sends the two others receive", function()
    local hub = machine {}
    local devices, drivers = {}, {}
    for i = 1, 3 do
        devices[i] = hub:device(i == 2 and "virtio-net-pci,disable-modern=on" or "virtio-net-pci")
    end
    for i = 1, 3 do
        drivers[i] = virtio_net(devices[i], { transport = i == 2 and "legacy" or "modern" })
    end
    for i = 1, 3 do
        for n = 1, 10 do
            drivers[i]:send(frame(100 + n, 10 * i + n))
        end
        for k = 1, 3 do
            for n = 1, k ~= i and 10 or 0 do
                expect(drivers[k]:recv(), frame(100 + n, 10 * i + n))
            end
            expect(drivers[k]:rx_burst(), {})
        end
    end
end)

-- ---- a receiver without buffers ----

test("a frame that finds no buffer waits, and QEMU 7.2's hub delivers the next one before it", function()
    -- The first frame waits at the receiver, all others at the sender; when there are buffers again the hub
    -- begins with the sender.
    for _, all_at_once in ipairs { true, false } do
        local up = bring_up("modern")
        local peer = virtio_net(other)
        for i = 1, 10 do
            expect(peer:tx_burst { frame(64, i) }, 1)
        end
        virtio.settle(m) -- the second has been tried as well
        expect({ peer:pending(), up.rx:used_idx() }, { 9, 0 }) -- the first counts as sent
        local buffers = {}
        for i = 0, 9 do
            buffers[i] = virtio.buffer(shared, 76)
            up.rx:chain(i, { buffers[i] })
            up.rx:post(i)
            if not all_at_once then
                up.t:kick(RX)
                up.rx:await(i + 1)
            end
        end
        if all_at_once then
            up.t:kick(RX)
            up.rx:await(10)
        end
        for i, n in ipairs { 2, 1, 3, 4, 5, 6, 7, 8, 9, 10 } do
            expect({ i, up.rx:used_element(i - 1) }, { i, i - 1, 76 })
            expect({ i, shared:read(buffers[i - 1].offset + 12, 64) }, { i, frame(64, n) })
        end
        peer:drain()
        peer:close()
    end
end)

test("a receiver that starves again and again gets every frame once", function()
    local a, b = virtio_net(net, { memory = shared, rx_size = 4 }), virtio_net(other, { memory = shared })
    local expected, frames = {}, {}
    for i = 1, 1000 do
        frames[i] = frame(64, i)
        expected[frames[i]] = 1
    end
    local counts, sent, received = {}, 0, 0
    while received < 1000 do
        sent = sent + b:tx_burst(table.move(frames, sent + 1, math.min(sent + 50, 1000), 1, {}))
        for _, got in ipairs(a:rx_burst(64)) do
            received = received + 1
            counts[got] = (counts[got] or 0) + 1
        end
    end
    expect(counts, expected)
end)
