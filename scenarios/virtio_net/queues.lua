-- Setting queues up: what sizes and addresses are taken, enabling, setting up again, and taking one queue
-- back with queue_reset (virtio 1.2, 2.6.1, 2.7, 4.1.4.3, 4.1.5.1.3). "Lenient": QEMU 7.2 takes what the
-- specification forbids the driver.
local virtio = require "virtio"
local F = virtio.F
local RX, TX, CTRL = virtio.RX, virtio.TX, virtio.CTRL

local BASE = { modern = F.VERSION_1, legacy = 0 }

-- Gives a device that was brought up a frame for each of its transmit descriptors.
local function fill(up)
    up.frame = virtio.buffer(up.memory, up.header .. frame(60))
    for i = 0, up.tx.size - 1 do
        up.tx:chain(i, { up.frame })
    end
end

-- Publishes n frames, kicks.
local function send(up, n)
    for _ = 1, n do
        up.tx:post(up.tx.n_posted % up.tx.size)
    end
    up.t:kick(TX)
end

for _, v in ipairs(virtio.variants) do
    local m = machine { board = v.board }
    local net = virtio.lone_device(m, v.properties)

    test("C12: " .. v.name .. ": queues 0 to 2 have their sizes, others do not exist", function()
        local t = virtio.transport(net, v.transport)
        local sizes = {}
        for q = 0, 7 do
            sizes[q] = t:queue_size(q)
        end
        expect(sizes, { [0] = 256, 256, 64, 0, 0, 0, 0, 0 })
        if v.transport == "modern" then
            expect(net.common.num_queues, 3)
            for _, q in ipairs { 0, 1, 2, 3, 1023 } do
                t:select(q)
                expect(net.common.queue_notify_off, q) -- also where there is no queue
            end
        end
    end)

    test(v.name .. ": queue_select takes 0 to 1023", function()
        local t = virtio.transport(net, v.transport)
        local regs = v.transport == "modern" and net.common or net.legacy
        for _, case in ipairs { { 1, 1 }, { 1023, 1023 }, { 1024, 1023 }, { 0xffff, 1023 }, { 2, 2 } } do
            t:select(case[1])
            expect({ case[1], regs.queue_select }, case)
        end
    end)

    test("C18: " .. v.name .. ": a queue that does not exist cannot be brought to life", function()
        local t = virtio.transport(net, v.transport)
        t:negotiate(BASE[v.transport])
        local r = virtio.ring(m:ram(), 4)
        r:chain(0, { virtio.buffer(m:ram(), 100) })
        r:post(0)
        for _, q in ipairs { 3, 4, 1023 } do
            t:enable(q, r)
            expect(t:queue_size(q), 0)
            t:kick(q)
        end
        t:go()
        for _, q in ipairs { 3, 4, 1023 } do
            t:kick(q)
        end
        virtio.settle(m)
        expect({ r:used_idx(), t:status() }, { 0, virtio.RUNNING[v.transport] })
    end)

    test(v.name .. ": each queue keeps its own settings", function()
        local t = virtio.transport(net, v.transport)
        for q = 0, 2 do
            t:select(q)
            if v.transport == "modern" then
                net.common:set {
                    queue_size = 16 << q, queue_desc = 0x100000 + q, queue_driver = 0x1200000000 + q,
                    queue_device = 0xffffffff00000000 + q, queue_msix_vector = q,
                }
            else
                net.legacy.queue_address = 0x80000000 + q
            end
        end
        for q = 0, 2 do
            t:select(q)
            if v.transport == "modern" then
                local c = net.common
                expect({ c.queue_size, c.queue_desc, c.queue_driver, c.queue_device, c.queue_msix_vector },
                    { 16 << q, 0x100000 + q, 0x1200000000 + q, 0xffffffff00000000 + q, q })
                expect(c.queue_enable, 0)
            else
                expect(net.legacy.queue_address, 0x80000000 + q)
            end
        end
    end)
end

-- ---- sizes ----

local m = machine {}
local net = virtio.lone_device(m)

test("C12: queue_size takes 1 to 1024 and keeps what it had for anything else", function()
    local c = net.common
    for q = RX, CTRL do
        c.queue_select = q
        for _, case in ipairs {
            -- written, read back
            { 1, 1 }, { 2, 2 }, { 64, 64 }, { 256, 256 },
            { 512, 512 }, { 1024, 1024 }, -- lenient: more than the device said
            { 3, 3 }, { 100, 100 }, { 255, 255 }, { 257, 257 }, { 1023, 1023 }, -- lenient: no power of two
            { 1025, 1023 }, { 2048, 1023 }, { 32768, 1023 }, { 0xffff, 1023 },
            { 0, 1023 }, -- C18: a queue does not go away by its size
            { 16, 16 },
        } do
            c.queue_size = case[1]
            expect({ q, case[1], c.queue_size }, { q, case[1], case[2] })
        end
    end
    c.queue_select = 3
    c.queue_size = 256
    expect(c.queue_size, 0) -- nor does one come to life
end)

test("C12: legacy: queue_size cannot be written", function()
    local l = net.legacy
    for q, size in pairs { [RX] = 256, [TX] = 256, [CTRL] = 64, [3] = 0 } do
        l.queue_select = q
        for _, value in ipairs { 0, 1, 128, 0xffff } do
            l.queue_size = value
            expect({ q, value, l.queue_size }, { q, value, size })
        end
    end
end)

test("the sizes are those of the device's properties", function()
    local big = machine {}
    local dev = virtio.lone_device(big, "rx_queue_size=1024")
    for _, transport in ipairs { "modern", "legacy" } do
        local t = virtio.transport(dev, transport)
        expect({ t:queue_size(RX), t:queue_size(TX), t:queue_size(CTRL) }, { 1024, 256, 64 })
    end
end)

test("queues of any size work, powers of two or not", function()
    for _, size in ipairs { 1, 2, 3, 4, 8, 100, 256, 512, 1000, 1024 } do
        local up = virtio.bring_up(net, { memory = m:ram(), size = size })
        fill(up)
        for round = 1, 3 do
            send(up, size)
            up.tx:await(round * size)
        end
        for i = 0, size - 1 do
            expect({ size, up.tx:used_element(2 * size + i) }, { size, (2 * size + i) % size, 0 })
        end
        up.t:reset()
    end
end)

-- ---- enabling ----

test("C13: 1 enables a queue; any other value breaks the device", function() -- 4.1.4.3.2: MUST NOT write 0
    local c = net.common
    local t = virtio.transport(net, "modern")
    for _, value in ipairs { 0, 2, 3, 0x100, 0x101, 0xffff } do
        t:negotiate(F.VERSION_1)
        c.queue_select = TX
        c.queue_enable = value
        expect({ value, c.queue_enable, t:status() }, { value, 0, 0x0b | virtio.NEEDS_RESET })
        expect.match(m:log(), string.format("wrong value for queue_enable %x\n?$", value))
    end
    t:negotiate(F.VERSION_1)
    c.queue_select = TX
    c.queue_enable = 1
    expect({ c.queue_enable, t:status() }, { 1, 0x0b })
    c.queue_select = RX
    expect(c.queue_enable, 0)
end)

test("C13: 0 breaks a queue that is enabled, which still reads as enabled", function()
    local up = virtio.bring_up(net, { memory = m:ram() })
    up.t:select(TX)
    net.common.queue_enable = 0
    expect({ net.common.queue_enable, up.t:status() }, { 1, 0x4f })
end)

test("C01: with MQ the control queue can be enabled as any other", function()
    local mq = machine {}
    local dev = virtio.lone_device(mq, "mq=on")
    local t = virtio.transport(dev, "modern")
    expect.bits(t:offered(), F.MQ)
    t:negotiate(F.VERSION_1 | F.MQ | F.CTRL_VQ)
    expect(dev.common.num_queues, 3) -- one pair and the control queue
    local last = dev.common.num_queues - 1
    t:enable(last, virtio.ring(mq:ram(), 64))
    expect(dev.common.queue_enable, 1)
    t:enable(last + 1, virtio.ring(mq:ram(), 64)) -- and beyond
    t:go()
    expect(t:status(), 0x0f)
end)

test("a queue enabled with no addresses does nothing", function() -- lenient: 4.1.4.3.2 MUST configure first
    local t = virtio.transport(net, "modern")
    t:negotiate(F.VERSION_1)
    for q = RX, CTRL do
        t:select(q)
        net.common.queue_enable = 1
    end
    t:go()
    for q = RX, CTRL do
        t:kick(q)
    end
    virtio.settle(m)
    expect({ t:status(), t:isr() }, { 0x0f, 0 })
end)

test("rings need not be aligned as 2.7 asks", function() -- lenient
    local ram = m:ram()
    local t = virtio.transport(net, "modern")
    t:negotiate(F.VERSION_1)
    local r = virtio.ring(ram, 4)
    r.desc, r.used = r.desc + 8, r.used + 2 -- 16 and 4 asked for
    r:chain(0, { virtio.buffer(ram, string.rep("\0", 12) .. frame(60)) })
    r:post(0, 0, 0)
    t:enable(TX, r)
    t:go()
    r:await(3)
    expect(ram:read(r.used + 4, 24), string.rep("\0", 24))
end)

-- ---- setting up again ----

test("new addresses count from the next enabling on, and the device goes on where it was", function()
    -- Lenient: 4.1.4.3.2 has a queue changed only after a reset. QEMU keeps its own index, so that a new
    -- ring must start there.
    local up = virtio.bring_up(net, { memory = m:ram() })
    fill(up)
    send(up, 5)
    up.tx:await(5)
    local old = up.tx
    local new = virtio.ring(m:ram(), 256)
    local c = net.common
    up.t:select(TX)
    c:set { queue_desc = new:desc_gpa(), queue_driver = new:avail_gpa(), queue_device = new:used_gpa() }
    expect(c.queue_desc, new:desc_gpa())
    send(up, 1) -- into the old one
    old:await(6)
    expect(new:used_idx(), 0)

    new.n_posted = 6
    up.tx = new
    fill(up)
    new:avail_idx(6)
    c.queue_enable = 1
    send(up, 2)
    new:await(8)
    expect({ new:used_element(6) }, { 6, 0 })
    expect(old:used_idx(), 6)
    expect(up.t:status(), 0x0f)
end)

test("legacy: a new queue address counts at once, and the device goes on where it was", function()
    local up = virtio.bring_up(net, { transport = "legacy", memory = m:ram() })
    fill(up)
    send(up, 5)
    up.tx:await(5)
    local new = virtio.ring(m:ram(), 256)
    new.n_posted = 5
    up.tx = new
    fill(up)
    new:avail_idx(5)
    up.t:enable(TX, new)
    send(up, 3)
    new:await(8)
    expect({ new:used_element(5) }, { 5, 0 })
end)

test("legacy: queue_address 0 resets the whole device", function()
    local up = virtio.bring_up(net, { transport = "legacy", memory = m:ram() })
    up.t:select(TX)
    net.legacy.queue_address = 0
    expect(up.t:status(), 0)
    for q = RX, CTRL do
        up.t:select(q)
        expect(net.legacy.queue_address, 0)
    end
end)

test("C05: a queue that grows after it was enabled is broken at the next descriptor", function()
    for _, case in ipairs { { 65, false }, { 128, false }, { 1024, false }, { 64, true }, { 63, true }, { 32, true } } do
        local size, works = case[1], case[2]
        local up = virtio.bring_up(net, { memory = m:ram(), size = 64 })
        fill(up)
        send(up, 3)
        up.tx:await(3)
        up.t:select(TX)
        net.common.queue_size = size
        expect({ net.common.queue_size, net.common.queue_enable, up.t:status() }, { size, 1, 0x0f })
        send(up, 3)
        if works then
            up.tx:await(6)
        else
            virtio.settle(m)
            expect({ size, up.tx:used_idx(), up.t:status() }, { size, 3, 0x0f | virtio.NEEDS_RESET })
            expect.match(m:log(), "Cannot map descriptor ring\n?$")
        end
    end
    local up = virtio.bring_up(net, { memory = m:ram() })
    fill(up)
    send(up, 3)
    up.tx:await(3)
end)

test("C04: features may change under a live queue: the rings are measured again", function()
    -- EVENT_IDX makes both rings two bytes longer. Here the used ring ends where the RAM does.
    local ram_end = m:ram():size()
    local t = virtio.transport(net, "legacy") -- takes features at any time
    local c = net.common
    local r = virtio.ring(m:ram(), 256)
    r.used = ram_end - (4 + 8 * 256)
    local function start(features)
        t:negotiate(features)
        t:select(TX)
        c:set { queue_desc = r:desc_gpa(), queue_driver = r:avail_gpa(), queue_device = r:used_gpa() }
        c.queue_enable = 1
        t:go()
    end
    local up = { t = t, tx = r, memory = m:ram(), header = string.rep("\0", 10) }
    fill(up)
    start(0)
    send(up, 3)
    r:await(3)
    t:accept(F.EVENT_IDX)
    expect.match(m:log(), "Cannot map used")
    send(up, 1)
    virtio.settle(m)
    expect(r:used_idx(), 3)

    -- Two bytes lower it fits, and the feature works from the next frame on.
    r.used = r.used - 4
    r.n_posted = 0
    r:avail_idx(0)
    r:used_idx(0)
    r:avail_event(0)
    start(0)
    send(up, 3)
    r:await(3)
    expect(r:avail_event(), 0)
    t:accept(F.EVENT_IDX)
    t:accept(0)
    t:accept(F.EVENT_IDX)
    send(up, 2)
    r:await(5)
    expect.eventually(function() return r:avail_event() end, 5)
end)

-- ---- queue_reset, 2.6.1 ----

for _, negotiated in ipairs { 0, F.RING_RESET } do
    -- Lenient: without RING_RESET there is no such register.
    local name = negotiated ~= 0 and "with RING_RESET" or "without RING_RESET"

    test("queue_reset takes one queue back and leaves the others alone, " .. name, function()
        local pair = machine {}
        local dev, other = pair:device "virtio-net-pci", pair:device "virtio-net-pci"
        local peer = virtio_net(other)
        local up = virtio.bring_up(dev, {
            memory = pair:ram(), features = F.VERSION_1 | negotiated, size = 128, buffers = 4,
        })
        local c = dev.common
        fill(up)
        send(up, 5)
        up.tx:await(5)
        for _ = 1, 5 do
            peer:recv()
        end
        local desc = up.tx:desc_gpa()
        up.t:queue_vector(TX, 2)
        c.queue_reset = 1
        -- done when the write is; enable and size as after a reset, the addresses kept
        expect({ c.queue_reset, c.queue_enable, c.queue_size, c.queue_msix_vector, c.queue_desc },
            { 0, 0, 256, virtio.NO_VECTOR, desc })
        send(up, 1)
        virtio.settle(pair)
        expect({ up.tx:used_idx(), up.t:status() }, { 5, 0x0f })

        peer:send(frame(90, 1)) -- the receive queue does not notice
        up.rx:await(1)
        expect(pair:ram():read(up.rx_buffers[0].offset + 12, 90), frame(90, 1))

        up.tx = virtio.ring(pair:ram(), 32) -- another ring of another size, from index 0
        up.t:enable(TX, up.tx)
        fill(up)
        send(up, 2)
        up.tx:await(2)
        expect(peer:recv(), frame(60))
    end)
end

test("queue_reset of the receive queue: buffers posted before are not written any more", function()
    local pair = machine {}
    local dev, other = pair:device "virtio-net-pci", pair:device "virtio-net-pci"
    local peer = virtio_net(other)
    local up = virtio.bring_up(dev, { memory = pair:ram(), features = F.VERSION_1 | F.RING_RESET, buffers = 4 })
    peer:send(frame(60, 1))
    up.rx:await(1)
    up.t:select(RX)
    dev.common.queue_reset = 1
    local before = pair:ram():read(up.rx_buffers[1].offset, 2048)
    peer:tx_burst { frame(60, 2) } -- waits: the only other port of the hub has no receive queue
    virtio.settle(pair)
    expect(pair:ram():read(up.rx_buffers[1].offset, 2048), before)
    expect(up.rx:used_idx(), 1)

    up.rx:clear()
    up.rx:chain(0, { up.rx_buffers[1] })
    up.rx:chain(1, { up.rx_buffers[2] })
    up.rx:post(0, 1)
    up.t:enable(RX, up.rx)
    up.t:kick(RX)
    up.rx:await(1)
    peer:send(frame(60, 3))
    up.rx:await(2)
    for i = 1, 2 do
        expect(pair:ram():read(up.rx_buffers[i].offset + 12, 60), frame(60, i + 1))
    end
end)

test("queue_reset takes 1 only, and queues that do not exist without harm", function()
    local c = net.common
    local up = virtio.bring_up(net, { memory = m:ram(), ctrl = true })
    fill(up)
    up.t:select(TX)
    for _, value in ipairs { 0, 2, 0x100, 0xffff } do
        c.queue_reset = value
        expect({ value, c.queue_reset, c.queue_enable, up.t:status() }, { value, 0, 1, 0x0f })
    end
    for _, q in ipairs { CTRL, 3, 1023 } do
        up.t:select(q)
        c.queue_reset = 1
        expect({ q, c.queue_reset, c.queue_enable, up.t:status() }, { q, 0, 0, 0x0f })
    end
    send(up, 3)
    up.tx:await(3)
end)
