-- Descriptors and rings that cannot be (virtio 1.2, 2.7.5.1, 2.7.5.3.1, 2.7.13): what QEMU 7.2 answers, and that
-- the next reset brings the device back. Three answers are possible:
--   an error    status gains NEEDS_RESET and a configuration change is told (2.1.2); without VERSION_1
--               there is no such bit, and the device just stops;
--   lenient     the device makes do with what it got;
--   death       the process aborts. These are in tests of their own, at the end.
-- Each case is followed by a reset and a good frame, in the same QEMU.
local virtio = require "virtio"
local F = virtio.F
local NEXT, WRITE, INDIRECT = virtio.NEXT, virtio.WRITE, virtio.INDIRECT

local BASE = { modern = F.VERSION_1, legacy = 0 }
local NOWHERE = 0x700000000000 -- a guest address that nothing has
local RAM = 16 << 20

local m = machine { bridge = true, ram = RAM }
local net = virtio.lone_device(m)

-- What QEMU said on its standard error since the last call in this test.
local heard = 0
local function new_words(machine)
    local log = machine:log()
    if #log < heard then
        heard = 0
    end
    local words = log:sub(heard + 1):gsub("qemu%-system%-[%w_]+: ", "")
    heard = #log
    return words
end

-- A reset has to bring the device back: a good frame is sent, in rings of its own.
local function expect_recovers(transport)
    local up = virtio.bring_up(net, { transport = transport, features = BASE[transport], memory = m:ram() })
    up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
    up.tx:post(0)
    up.t:kick(virtio.TX)
    up.tx:await(1)
end

-- ---- transmit chains ----

-- { name, what QEMU says or nil if it is lenient, function(ring, buffer, offset of 32 KiB of memory) }
local function table_of(ram, at, entries)
    for i, e in ipairs(entries) do
        virtio.descriptor(ram, at + 16 * (i - 1), e)
    end
    return { addr = ram:gpa(at), len = 16 * #entries, flags = INDIRECT }
end

local transmit = {
    { "a head just beyond the table", "Guest says index 256 is available", function(r)
        r:post(256)
    end },
    { "the greatest head", "Guest says index 65535 is available", function(r)
        r:post(0xffff)
    end },
    { "next beyond the table", "Desc next is 256", function(r, b)
        r:descriptor(0, { addr = b.addr, len = b.len, flags = NEXT, next = 256 })
        r:post(0)
    end },
    { "a descriptor that follows itself", "Looped descriptor", function(r, b)
        r:descriptor(7, { addr = b.addr, len = b.len, flags = NEXT, next = 7 })
        r:post(7)
    end },
    { "two that follow each other", "Looped descriptor", function(r, b)
        r:descriptor(0, { addr = b.addr, len = b.len, flags = NEXT, next = 1 })
        r:descriptor(1, { addr = b.addr, len = b.len, flags = NEXT, next = 0 })
        r:post(0)
    end },
    { "all of the table in a loop", "Looped descriptor", function(r, b)
        for i = 0, 255 do
            r:descriptor(i, { addr = b.addr, len = 1, flags = NEXT, next = (i + 1) % 256 })
        end
        r:post(0)
    end },
    { "C18: a descriptor of zeroes", "virtio: zero sized buffers are not allowed", function(r)
        r:post(0)
    end },
    { "a length of zero", "virtio: zero sized buffers are not allowed", function(r, b)
        r:descriptor(0, { addr = b.addr })
        r:post(0)
    end },
    { "a length of zero inside a chain", "virtio: zero sized buffers are not allowed", function(r, b)
        r:chain(0, { { addr = b.addr, len = 12 }, { addr = b.addr, len = 0 }, { addr = b.addr, len = 60 } })
        r:post(0)
    end },
    { "a length of 4 GiB - 1", "virtio: bogus descriptor or out of resources", function(r, b)
        r:chain(0, { { addr = b.addr, len = 0xffffffff } })
        r:post(0)
    end },
    { "two buffers at addresses that nothing has", "virtio: bogus descriptor or out of resources", function(r)
        -- QEMU has one bounce buffer; see the lenient cases for what it does with one such address
        r:chain(0, { { addr = NOWHERE, len = 12 }, { addr = NOWHERE, len = 60 } })
        r:post(0)
    end },
    { "a buffer to write before one to read", "Incorrect order for descriptors", function(r, b) -- 2.7.4.2
        r:chain(0, { { addr = b.addr, len = 20, write = true }, b })
        r:post(0)
    end },
    { "nothing to read", "virtio%-net header not in first element", function(r, b)
        r:chain(0, { { addr = b.addr, len = 72, write = true } })
        r:post(0)
    end },
    { "C05: an indirect table of no length", "Invalid size for indirect buffer table", function(r, b)
        r:descriptor(0, { addr = b.addr, len = 0, flags = INDIRECT })
        r:post(0)
    end },
    { "C05: an indirect table of part of a descriptor", "Invalid size for indirect buffer table", function(r, b)
        r:descriptor(0, { addr = b.addr, len = 15, flags = INDIRECT })
        r:post(0)
    end },
    { "C05: an indirect table of one and a half", "Invalid size for indirect buffer table", function(r, b)
        r:descriptor(0, { addr = b.addr, len = 24, flags = INDIRECT })
        r:post(0)
    end },
    { "an indirect table that ends outside the RAM", "Cannot map indirect buffer", function(r)
        r:descriptor(0, { addr = RAM - 16, len = 32, flags = INDIRECT })
        r:post(0)
    end },
    { "an indirect table that nothing has", "virtio: zero sized buffers are not allowed", function(r)
        r:descriptor(0, { addr = NOWHERE, len = 16, flags = INDIRECT }) -- reads as zeroes
        r:post(0)
    end },
    { "next beyond an indirect table", "Desc next is 1", function(r, b, at)
        r:descriptor(0, table_of(m:ram(), at, { { addr = b.addr, len = b.len, flags = NEXT, next = 1 } }))
        r:post(0)
    end },
    { "a loop inside an indirect table", "Looped descriptor", function(r, b, at)
        r:descriptor(0, table_of(m:ram(), at, {
            { addr = b.addr, len = 12, flags = NEXT, next = 1 }, { addr = b.addr, len = 60, flags = NEXT, next = 0 },
        }))
        r:post(0)
    end },
    { "more buffers than QEMU takes", "virtio: too many write descriptors in indirect table", function(r, b, at)
        local t = {} -- 1024 is the most (as the message does not say)
        for i = 1, 1025 do
            t[i] = { addr = b.addr, len = 1, flags = i < 1025 and NEXT or 0, next = i < 1025 and i or 0 }
        end
        r:descriptor(0, table_of(m:ram(), at, t))
        r:post(0)
    end },

    -- Lenient, all of them. Where nothing is at an address QEMU reads zeroes, and sends them.
    { "one buffer at an address that nothing has", nil, function(r)
        r:chain(0, { { addr = NOWHERE, len = 72 } })
        r:post(0)
    end },
    { "a buffer that ends outside the RAM", nil, function(r)
        r:chain(0, { { addr = RAM - 16, len = 72 } })
        r:post(0)
    end },
    { "a buffer that wraps around the end of all addresses", nil, function(r)
        r:chain(0, { { addr = -16, len = 72 } })
        r:post(0)
    end },
    { "C08: a frame read from the device's own registers", nil, function(r)
        r:chain(0, { { addr = net:bar(4) and net:bar(4).base or net:bar(1).base, len = 72 } })
        r:post(0)
    end },
    { "a frame of 70000 bytes", nil, function(r)
        r:chain(0, { { addr = 0, len = 70000 } })
        r:post(0)
    end },
    { "flags that mean nothing", nil, function(r, b)
        r:descriptor(0, { addr = b.addr, len = b.len, flags = 0xfff8 })
        r:post(0)
    end },
    { "an indirect table and a next descriptor", nil, function(r, b, at) -- 2.7.5.3.1: MUST NOT
        r:descriptor(0, table_of(m:ram(), at, { { addr = b.addr, len = b.len } }))
        r:descriptor(0, { addr = m:ram():gpa(at), len = 16, flags = INDIRECT | NEXT, next = 300 }) -- next is not read
        r:post(0)
    end },
    { "an indirect table inside an indirect table", nil, function(r, b, at) -- MUST NOT; the inner is data
        virtio.descriptor(m:ram(), at + 16, { addr = b.addr, len = b.len })
        r:descriptor(0, table_of(m:ram(), at, { { addr = m:ram():gpa(at + 16), len = 16, flags = INDIRECT } }))
        r:post(0)
    end },
    { "an indirect table behind another buffer", nil, function(r, b, at) -- the descriptor counts as plain
        table_of(m:ram(), at, { { addr = b.addr, len = b.len } })
        r:descriptor(0, { addr = b.addr, len = 12, flags = NEXT, next = 1 })
        r:descriptor(1, { addr = m:ram():gpa(at), len = 16, flags = INDIRECT })
        r:post(0)
    end },
    { "an indirect table longer than the queue", nil, function(r, b, at) -- 2.7.5.3.1: MUST NOT
        local t = {}
        for i = 1, 1024 do
            t[i] = { addr = b.addr, len = 1, flags = i < 1024 and NEXT or 0, next = i < 1024 and i or 0 }
        end
        r:descriptor(0, table_of(m:ram(), at, t))
        r:post(0)
    end },
}

for _, transport in ipairs { "modern", "legacy" } do
    for _, negotiated in ipairs { 0, F.INDIRECT_DESC } do
        local name = transport .. (negotiated ~= 0 and ", INDIRECT_DESC" or "")

        -- QEMU follows indirect tables whether the feature was negotiated or not (lenient: MUST NOT).
        test("C05, C08: " .. name .. ": a broken transmit chain is an error, and a reset recovers", function()
            heard = 0
            for _, case in ipairs(transmit) do
                local what, words, break_it = table.unpack(case, 1, 3)
                local up = virtio.bring_up(net, {
                    transport = transport, features = BASE[transport] | negotiated, memory = m:ram(),
                })
                local b = virtio.buffer(m:ram(), up.header .. frame(60))
                local scratch = m:ram():alloc(16 * 1100, 16)
                break_it(up.tx, b, scratch)
                up.t:kick(virtio.TX)
                if not words then
                    up.tx:await(1)
                    m:barrier()
                    expect({ what, up.t:status() }, { what, virtio.RUNNING[transport] })
                else
                    virtio.settle(m)
                    expect.match(what .. " -> " .. new_words(m), words)
                    expect({ what, up.tx:used_idx() }, { what, 0 })
                    local is_modern = transport == "modern"
                    expect({ what, up.t:status() },
                        { what, virtio.RUNNING[transport] | (is_modern and virtio.NEEDS_RESET or 0) })
                    expect({ what, up.t:isr() },
                        { what, is_modern and virtio.ISR_CONFIG | virtio.ISR_QUEUE or 0 })
                    up.tx:chain(1, { b }) -- it does nothing more, not even what is right
                    up.tx:post(1)
                    up.t:kick(virtio.TX)
                    virtio.settle(m)
                    expect({ what, up.tx:used_idx() }, { what, 0 })
                end
                up.t:reset()
                expect({ what, up.t:status() }, { what, 0 })
                expect_recovers(transport)
                m:ram():free(b.offset)
                m:ram():free(scratch)
            end
        end)
    end
end

for _, transport in ipairs { "modern", "legacy" } do
    test(transport .. ": a frame of a header and nothing else is an error", function()
        heard = 0
        local up = virtio.bring_up(net, { transport = transport, features = BASE[transport], memory = m:ram() })
        up.tx:chain(0, { virtio.buffer(m:ram(), up.header) })
        up.tx:post(0)
        up.t:kick(virtio.TX)
        virtio.settle(m)
        expect(up.t:status(), virtio.RUNNING[transport] | (transport == "modern" and virtio.NEEDS_RESET or 0))
        expect.match(new_words(m), "^virtio%-net nothing to send")
        expect(up.tx:used_idx(), 0)
        expect_recovers(transport)
    end)
end

test("C20: a broken ring is told once, by the configuration's vector", function()
    local up = virtio.bring_up(net, { memory = m:ram(), vectors = { config = 0, tx = 1 } })
    local config, tx = irq(net, { form = "eventfd", vector = 0 }), irq(net, { form = "eventfd", vector = 1 })
    up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
    up.tx:post(0, 256, 0)
    up.t:kick(virtio.TX)
    config:wait()
    virtio.settle(m)
    expect(up.t:status(), 0x0f | virtio.NEEDS_RESET)
    expect({ up.tx:used_idx(), tx:messages(), config:messages() }, { 1, 1, 1 }) -- what was good was sent
    for _ = 1, 3 do
        up.t:kick(virtio.TX)
    end
    virtio.settle(m)
    expect(config:messages(), 1)
end)

-- ---- the available ring ----

for _, transport in ipairs { "modern", "legacy" } do
    -- Lenient: the transmit queue does not compare avail.idx with the size, and goes round and round.
    test("C18: " .. transport .. ": an avail.idx beyond the size sends the ring over again", function()
        local up = virtio.bring_up(net, { transport = transport, features = BASE[transport], memory = m:ram() })
        local b = virtio.buffer(m:ram(), up.header .. frame(60))
        for i = 0, 255 do
            up.tx:chain(i, { b })
        end
        up.tx:avail_idx(257) -- all entries of the ring say 0
        up.t:kick(virtio.TX)
        up.tx:await(257)
        up.tx:avail_idx(256) -- and one back is 65535 forward
        up.t:kick(virtio.TX)
        up.tx:await(256, 10000)
        expect(up.t:status(), virtio.RUNNING[transport])
    end)
end

-- ---- where the rings are ----

-- A part of the ring where it cannot be. What is outside the RAM, or in a BAR and longer than what is
-- there, cannot be mapped; where nothing is at all QEMU reads zeroes and drops what it writes.
test("C03: rings in places that are not memory: an error when the queue is enabled, or nothing happens", function()
    heard = 0
    local c = net.common
    local table_gpa, common_gpa = net:bar(1).base, net:bar(4).base
    local function own(r)
        return { r:desc_gpa(), r:avail_gpa(), r:used_gpa() }
    end
    local names = { "desc", "avail", "used" }
    for part = 1, 3 do
        for _, place in ipairs {
            -- address, error when enabled
            { RAM - 16, true }, -- ends outside the RAM
            { -16, part == 1 }, -- wraps: a table of 4 KiB cannot be, what is shorter is not noticed
            { table_gpa, true }, -- C03: longer than the MSI-X table is
            { NOWHERE, false },
            { 0xffff0000, false }, -- ROM: whatever it holds
        } do
            if place[1] ~= -16 or part == 1 then
                local r = virtio.ring(m:ram(), 256)
                local gpa = own(r)
                gpa[part] = place[1]
                local t = virtio.transport(net, "modern")
                t:negotiate(F.VERSION_1)
                t:select(virtio.TX)
                c:set { queue_desc = gpa[1], queue_driver = gpa[2], queue_device = gpa[3] }
                c.queue_enable = 1
                local what = string.format("%s at 0x%x", names[part], place[1])
                expect({ what, t:status() }, { what, place[2] and 0x4b or 0x0b })
                if place[2] then
                    expect.match(what .. " -> " .. new_words(m), "Cannot map " .. names[part])
                end
                t:go()
                t:kick(virtio.TX)
                virtio.settle(m)
                t:reset()
                m:ram():free(r.desc)
                expect_recovers("modern")
            end
        end
    end
    -- C03: short enough for the MSI-X table, the notification register, the common configuration: the
    -- used ring is written there, into registers.
    for _, gpa in ipairs { table_gpa, common_gpa + 0x3000, common_gpa } do
        local r = virtio.ring(m:ram(), 2)
        r:chain(0, { virtio.buffer(m:ram(), string.rep("\0", 12) .. frame(60)) })
        r:post(0)
        local t = virtio.transport(net, "modern")
        t:negotiate(F.VERSION_1)
        t:select(virtio.TX)
        c:set { queue_size = 2, queue_desc = r:desc_gpa(), queue_driver = r:avail_gpa(), queue_device = gpa }
        c.queue_enable = 1
        t:go()
        t:kick(virtio.TX)
        virtio.settle(m)
        expect(r:used_idx(), 0) -- it was not written to the memory, at least
        expect(m:alive(), true)
        expect_recovers("modern")
    end
end)

-- ---- receive chains ----

local pair = machine {}
local receiver = pair:device "virtio-net-pci"
local sender = pair:device "virtio-net-pci"

-- { name, words without MRG_RXBUF, words with it, build }: words: a message; true: the frame is delivered;
-- false: it is kept back until there are buffers, or dropped, and nothing is used
local receive = {
    { "a head beyond the table", "Guest says index 256 is available", "Guest says index 256 is available",
        function(r) r:post(256) end },
    { "a loop", "Looped descriptor", "Looped descriptor", function(r, b)
        r:descriptor(0, { addr = b.addr, len = 1024, flags = NEXT | WRITE, next = 0 })
        r:post(0)
    end },
    { "C18: a descriptor of zeroes", "virtio: zero sized buffers are not allowed", false, function(r)
        r:post(0) -- with MRG_RXBUF QEMU adds up first, and finds no room to write
    end },
    { "C18: an avail.idx beyond the size", true, "Guest moved used index from 0 to 257", function(r, b)
        r:chain(0, { b })
        r:avail_idx(257)
    end },
    { "nothing to write to", "virtio%-net receive queue contains no in buffers", false, function(r, b)
        r:chain(0, { { addr = b.addr, len = 2048 } })
        r:post(0)
    end },
    { "a buffer too small for the frame", false, false, function(r, b) -- 60 + 12 wanted
        r:chain(0, { { addr = b.addr, len = 71, write = true } })
        r:post(0)
    end },
    { "a buffer that just fits", true, true, function(r, b)
        r:chain(0, { { addr = b.addr, len = 72, write = true } })
        r:post(0)
    end },
    { "a length of 4 GiB - 1", "virtio: bogus descriptor or out of resources",
        "virtio: bogus descriptor or out of resources", function(r, b)
        r:chain(0, { { addr = b.addr, len = 0xffffffff, write = true } })
        r:post(0)
    end },
    { "a buffer at an address that nothing has", true, true, function(r)
        r:chain(0, { { addr = NOWHERE, len = 2048, write = true } })
        r:post(0)
    end },
    { "two of them", "virtio: bogus descriptor or out of resources", "virtio: bogus descriptor or out of resources",
        function(r)
        r:chain(0, { { addr = NOWHERE, len = 12, write = true }, { addr = NOWHERE, len = 2048, write = true } })
        r:post(0)
    end },
    { "a buffer in ROM", true, true, function(r)
        r:chain(0, { { addr = 0xffff0000, len = 2048, write = true } })
        r:post(0)
    end },
    { "C08: the device's notification register", true, true, function(r)
        r:chain(0, { { addr = receiver:bar(4).base + 0x3000, len = 2048, write = true } })
        r:post(0)
    end },
    { "C06: a first buffer that is good and a second one that is not", false,
        "virtio%-net unexpected empty queue", function(r, b)
        r:chain(0, { { addr = b.addr, len = 40, write = true } })
        r:chain(1, { { addr = NOWHERE, len = 20, write = true }, { addr = NOWHERE, len = 20, write = true } })
        r:post(0, 1)
    end },
    { "C06: a second buffer in the device's MSI-X table", false, true, function(r, b)
        r:chain(0, { { addr = b.addr, len = 40, write = true } })
        r:chain(1, { { addr = receiver:bar(1).base, len = 40, write = true } })
        r:post(0, 1)
    end },
}

for _, mergeable in ipairs { 0, F.MRG_RXBUF } do
    local name = mergeable ~= 0 and ", MRG_RXBUF" or ""

    test("C06: a broken receive chain is an error or waits, and a reset recovers" .. name, function()
        heard = 0
        local peer = virtio_net(sender)
        for _, case in ipairs(receive) do
            local what, words, build = case[1], case[mergeable == 0 and 2 or 3], case[4]
            local up = virtio.bring_up(receiver, { memory = pair:ram(), features = F.VERSION_1 | mergeable })
            local b = virtio.buffer(pair:ram(), 2048)
            build(up.rx, b)
            up.t:kick(virtio.RX)
            peer:send(frame(60))
            virtio.settle(pair)
            if type(words) == "string" then
                expect.match(what .. " -> " .. new_words(pair), words)
                expect({ what, up.t:status() }, { what, 0x0f | virtio.NEEDS_RESET })
                expect({ what, up.t:isr() }, { what, virtio.ISR_CONFIG | virtio.ISR_QUEUE })
                expect({ what, up.rx:used_idx() }, { what, 0 })
            else
                expect({ what, up.t:status() }, { what, 0x0f })
                expect({ what, up.rx:used_idx() > 0 }, { what, words })
            end
            -- after a reset it receives
            local again = virtio.bring_up(receiver, { memory = pair:ram(), buffers = 1 })
            peer:send(frame(100, 77))
            again.rx:await(1)
            expect(pair:ram():read(again.rx_buffers[0].offset + 12, 100), frame(100, 77))
            again.t:reset()
            for _, offset in ipairs { b.offset, up.rx.desc, up.tx.desc, again.rx.desc, again.tx.desc } do
                pair:ram():free(offset)
            end
        end
    end)
end

test("C08: a frame received into the common configuration writes registers, and QEMU lives", function()
    -- Bytes 0x14 and on of what is written there: header 12, destination 6, source 2 of 6: device_status = 0.
    local peer = virtio_net(sender)
    local up = virtio.bring_up(receiver, { memory = pair:ram() })
    up.rx:chain(0, { { addr = receiver:bar(4).base, len = 2048, write = true } })
    up.rx:post(0)
    up.t:kick(virtio.RX)
    peer:send(frame(60))
    virtio.settle(pair)
    expect(up.t:status(), 0) -- the device was reset while it received
    expect(up.rx:used_idx(), 0)
    local again = virtio.bring_up(receiver, { memory = pair:ram(), buffers = 1 })
    peer:send(frame(100, 77))
    again.rx:await(1)
end)

-- ---- what kills QEMU 7.2 ----

-- A guest can end its QEMU with a buffer shorter than the virtio header, on either queue: an assertion
-- about lengths. Said here so that nobody wonders; a QEMU that answers otherwise is a better one.
local function expect_abort(machine, message)
    expect.eventually(function() return not machine:alive() end)
    local alive, how = machine:alive()
    expect(alive, false)
    expect.match(how, "signal 6")
    expect.match(machine:log(), message)
end

local function only_7_2(machine)
    local v = machine:qmp("query-version").qemu
    if v.major ~= 7 or v.minor ~= 2 then
        skip(string.format("known of QEMU 7.2, this is %d.%d", v.major, v.minor))
    end
end

for transport, bytes in pairs { modern = 11, legacy = 9 } do
    test(transport .. ": a transmit chain shorter than the header aborts QEMU 7.2", function()
        only_7_2(m)
        local up = virtio.bring_up(net, { transport = transport, features = BASE[transport], memory = m:ram() })
        up.tx:chain(0, { virtio.buffer(m:ram(), string.rep("\0", bytes)) })
        up.tx:post(0)
        pcall(up.t.kick, up.t, virtio.TX)
        expect_abort(m, "iov_copy: Assertion")
    end)
end

test("a receive buffer shorter than the header, without MRG_RXBUF, aborts QEMU 7.2", function()
    only_7_2(pair)
    local peer = virtio_net(sender)
    local up = virtio.bring_up(receiver, { memory = pair:ram() })
    local b = virtio.buffer(pair:ram(), 2048)
    up.rx:chain(0, { { addr = b.addr, len = 11, write = true } })
    up.rx:post(0)
    up.t:kick(virtio.RX)
    pcall(peer.tx_burst, peer, { frame(60) })
    expect_abort(pair, "iov_from_buf_full: Assertion")
end)

