-- Writing 0 to the status: at every stage of the handshake, with queues running, with frames in flight and
-- interrupts pending; what it takes back and what it must leave alone (virtio 1.2, 2.4, 4.1.4.3).
local virtio = require "virtio"
local F = virtio.F
local RX, TX, CTRL = virtio.RX, virtio.TX, virtio.CTRL

local BASE = { modern = F.VERSION_1, legacy = 0 }

-- Sends a frame from one to the other: `from` by hand, `to` a driver.
local function expect_sends(up, to, n)
    up.tx:chain(0, { virtio.buffer(up.memory, up.header .. frame(100, n)) })
    up.tx:post(0)
    up.t:kick(TX)
    up.tx:await()
    expect(to:recv(), frame(100, n))
end

local function expect_receives(up, from, n)
    local at = up.rx:used_idx()
    from:send(frame(200, n))
    up.rx:await(at + 1)
    local id, len = up.rx:used_element(at)
    expect(len, #up.header + 200)
    expect(up.memory:read(up.rx_buffers[id].offset + #up.header, 200), frame(200, n))
end

-- ---- every stage ----

-- { name, function(t, up, m): takes a device that was just reset there }; `up()` brings it up fully
local function steps(n)
    return function(t)
        local features = BASE[t.name]
        local all = {
            function() t:set_status(virtio.ACKNOWLEDGE) end,
            function() t:set_status(virtio.ACKNOWLEDGE | virtio.DRIVER) end,
            function() t:accept(features) end,
            function() t:set_status(virtio.RUNNING[t.name] & ~virtio.DRIVER_OK) end,
        }
        for i = 1, n do
            all[i]()
        end
    end
end
local stages = {
    { "not begun", function() end },
    { "ACKNOWLEDGE", steps(1) },
    { "DRIVER", steps(2) },
    { "features accepted", steps(3) },
    { "FEATURES_OK", steps(4) },
    { "queues enabled", function(t, _, m)
        steps(4)(t)
        for q = RX, CTRL do
            t:enable(q, virtio.ring(m:ram(), t:queue_size(q)))
        end
    end },
    { "DRIVER_OK", function(_, up) up() end },
    { "a frame sent", function(_, up, m)
        local d = up()
        d.tx:chain(0, { virtio.buffer(m:ram(), d.header .. frame(60)) })
        d.tx:post(0)
        d.t:kick(TX)
        d.tx:await(1)
    end },
    { "a frame kicked and not waited for", function(_, up, m)
        local d = up()
        d.tx:chain(0, { virtio.buffer(m:ram(), d.header .. frame(60)) })
        d.tx:post(0)
        d.t:kick(TX)
    end },
    { "buffers posted without a kick", function(_, up, m)
        local d = up()
        for i = 0, 255 do
            d.tx:chain(i, { virtio.buffer(m:ram(), d.header .. frame(60)) })
            d.tx:post(i)
        end
    end },
    { "FAILED", function(t, up)
        up()
        t:set_status(virtio.RUNNING[t.name] | virtio.FAILED)
    end },
    { "a ring broken", function(t, up)
        local d = up()
        d.tx:post(256)
        d.t:kick(TX)
        t:status()
    end },
    { "the link down", function(_, up, m)
        up()
        m:qmp("set_link", { name = "dev0", up = false })
        m:qmp("set_link", { name = "dev0", up = true })
    end },
}

for _, v in ipairs(virtio.variants) do
    local m = machine { board = v.board }
    local net = m:device(virtio.spec("id=dev0", v.properties))
    local other = m:device "virtio-net-pci"

    test(v.name .. ": a reset at any stage gives the device as it was, and it works", function()
        local peer = virtio_net(other)
        local t = virtio.transport(net, v.transport)
        local line = irq(net, { form = "line" })
        local function up()
            return virtio.bring_up(net, {
                transport = v.transport, features = BASE[v.transport], memory = m:ram(), buffers = 4,
            })
        end
        for n, stage in ipairs(stages) do
            local name, reach = table.unpack(stage)
            reach(t, up, m)
            t:reset()
            expect({ name, t:status() }, { name, 0 })
            local sizes = {}
            for q = RX, 3 do
                sizes[q] = t:queue_size(q)
                if v.transport == "modern" then
                    local c = net.common
                    expect({ name, q, c.queue_enable, c.queue_desc, c.queue_driver, c.queue_device },
                        { name, q, 0, 0, 0, 0 })
                else
                    expect({ name, q, net.legacy.queue_address }, { name, q, 0 })
                end
            end
            expect({ name, sizes }, { name, { [0] = 256, 256, 64, 0 } })
            expect({ name, line:raised(), t:isr() }, { name, false, 0 })

            virtio.settle(m)
            peer:rx_burst(64) -- what an earlier stage sent
            local d = up()
            expect_sends(d, peer, n)
            expect_receives(d, peer, n)
            t:reset()
        end
    end)

    test(v.name .. ": a reset lowers INTx", function()
        local peer = virtio_net(other)
        local t = virtio.transport(net, v.transport)
        local line = irq(net, { form = "line" })
        local d = virtio.bring_up(net, {
            transport = v.transport, features = BASE[v.transport], memory = m:ram(), buffers = 4,
        })
        expect_receives(d, peer, 1)
        line:wait()
        expect(line:raised(), true)
        t:reset()
        expect(line:raised(), false)
        expect(t:isr(), 0)
    end)
end

-- ---- what survives ----

local m = machine {}
local net = virtio.lone_device(m, "mac=52:54:00:12:34:56")

test("C11: what a reset of the modern transport keeps and what it takes back", function()
    local c = net.common
    net:msix_enable()
    net:msix_message(1, 0x1234560, 0x55)
    net:msix_mask(1, false)
    net:msix_mask_all(true)
    net.pci_cfg_cap.bar = 4
    net.pci_cfg_cap.offset = 0x2000
    net.pci_cfg_cap.length = 1
    local t = virtio.transport(net, "modern")
    t:negotiate(F.VERSION_1 | F.STATUS)
    t:config_vector(2)
    t:select(TX)
    c:set { queue_size = 16, queue_msix_vector = 3, queue_desc = 0x1000, queue_driver = 0x2000, queue_device = 0x3000 }
    c.queue_enable = 1
    c.device_feature_select = 1
    t:go()
    m:qmp("set_link", { name = "dev0", up = false })
    m:qmp("set_link", { name = "dev0", up = true })
    expect(c.config_generation, 2)
    local config = net:config_bytes()

    t:reset()
    expect(c.queue_select, 0) -- taken back; so choose the queue again
    c.queue_select = TX
    expect(c:values(), {
        -- taken back
        device_status = 0, config_msix_vector = 0xffff, queue_select = TX, queue_size = 256, queue_msix_vector = 0xffff,
        queue_enable = 0, queue_desc = 0, queue_driver = 0, queue_device = 0, queue_reset = 0,
        -- kept: what was written to select, and the word written last though the features are gone
        device_feature_select = 1, driver_feature_select = 1, driver_feature = F.VERSION_1 >> 32,
        config_generation = 2,
        -- facts
        device_feature = t:offered() >> 32, num_queues = 3, queue_notify_off = TX, queue_notify_data = 0,
    })
    expect(net.legacy.driver_features, 0)
    -- kept: everything that is PCI's and not virtio's
    expect(net:config_bytes(), config)
    expect(net.msix.message_control & 0xc000, 0xc000)
    local e = net.msix_table[1]
    expect({ e.message_address, e.message_upper_address, e.message_data, e.vector_control }, { 0x1234560, 0, 0x55, 0 })
    expect({ net.pci_cfg_cap.bar, net.pci_cfg_cap.offset, net.pci_cfg_cap.length }, { 4, 0x2000, 1 })
end)

test("C11: what a reset of the legacy transport keeps and what it takes back", function()
    local l = net.legacy
    net:msix_enable()
    net:msix_message(1, 0x1234560, 0x55)
    local t = virtio.transport(net, "legacy")
    t:negotiate(F.STATUS)
    t:config_vector(2)
    expect(t:queue_vector(TX, 3), 3)
    l.queue_address = 0x123
    t:go()
    local config = net:config_bytes()

    t:reset()
    expect(l.queue_select, 0)
    expect(t:queue_vector(TX), 0xffff)
    expect({ l.device_status, l.driver_features, l.queue_address, l.queue_size, t:config_vector() },
        { 0, 0, 0, 256, 0xffff })
    expect(net:config_bytes(), config)
    expect(net.msix.message_control & 0xc000, 0x8000)
    expect(net.msix_table[1].message_data, 0x55)
end)

test("a reset clears a pending vector", function()
    local up = virtio.bring_up(net, { memory = m:ram(), vectors = { tx = 1 } })
    local i = irq(net, { vector = 1 })
    net:msix_mask(1, true)
    up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
    up.tx:post(0)
    up.t:kick(TX)
    up.tx:await(1)
    expect.eventually(function() return net:msix_pending(1) end)
    up.t:reset()
    expect(net:msix_pending(1), false)
    net:msix_mask(1, false)
    expect(i:take(), false)
end)

-- The capabilities of a function behind a root port that a virtio reset has no business with.
local express = machine { board = "q35" }
express:device "pcie-root-port,id=rp"
express:args("-netdev", "user,id=sink,restrict=on,ipv6=off")
local behind = express:device "virtio-net-pci,netdev=sink,bus=rp"

test("C10: a reset leaves PCI Express and power management registers alone", function()
    local e = behind.pci_express
    e.device_control = 0x000f -- all error reports
    e.link_control = 0x0040 -- common clock
    local up = virtio.bring_up(behind, { memory = express:ram() })
    local before = behind:config_bytes()
    expect(e.device_control, 0x000f)
    expect(e.link_control, 0x0040)
    up.t:reset()
    expect(behind:config_bytes(), before)
end)

-- ---- frames in flight ----

local pair = machine { bridge = true }
local sender = pair:device "virtio-net-pci,id=dev0"
local receiver = pair:device "virtio-net-pci"

test("C20: a frame in flight at a reset is not completed afterwards", function()
    for _, transport in ipairs { "modern", "legacy" } do
        local up = virtio.bring_up(sender, {
            transport = transport, features = BASE[transport], memory = pair:ram(), vectors = { tx = 1 },
        })
        local message = irq(sender, { form = "eventfd", vector = 1 })
        local b = virtio.buffer(pair:ram(), up.header .. frame(60, 1))
        up.tx:chain(0, { b })
        up.tx:post(0, 0)
        up.t:kick(TX) -- nobody can receive: the first stays in flight
        expect.eventually(function() return up.tx:used_flags() end, virtio.NO_NOTIFY)
        up.t:reset()
        -- QEMU drops the frame and, still in the reset, says that it was sent; the second is not looked at.
        expect({ up.t:status(), up.tx:used_idx(), message:messages() }, { 0, 1, 1 })
        local memory = pair:ram():read(up.tx.used, 64)
        local peer = virtio_net(receiver) -- now somebody could
        virtio.settle(pair)
        expect(pair:ram():read(up.tx.used, 64), memory)
        expect(message:messages(), 1)
        expect(peer:rx_burst(), {})
        peer:close()
        message:close()
    end
end)

test("frames kicked right before a reset are used before it or not at all", function()
    virtio_net(receiver)
    for _ = 1, 50 do
        local up = virtio.bring_up(sender, { memory = pair:ram() })
        local b = virtio.buffer(pair:ram(), up.header .. frame(60, 1))
        for i = 0, 255 do
            up.tx:chain(i, { b })
            up.tx:post(i)
        end
        up.t:kick(TX)
        up.t:reset()
        expect(up.t:status(), 0)
        local ring = pair:ram():read(up.tx.desc, up.tx.bytes)
        virtio.settle(pair)
        expect(pair:ram():read(up.tx.desc, up.tx.bytes) == ring)
        for _, offset in ipairs { b.offset, up.tx.desc, up.rx.desc } do
            pair:ram():free(offset)
        end
    end
end)

test("a device that is reset while frames arrive writes nothing afterwards, and starts again", function()
    local from = virtio_net(sender)
    local burst = {}
    for i = 1, 64 do
        burst[i] = frame(500, i)
    end
    local memory = pair:ram()
    for round = 1, 50 do
        local up = virtio.bring_up(receiver, { memory = memory, buffers = 16 })
        from:tx_burst(burst)
        if round % 2 == 0 then
            up.rx:await(16) -- starved, with frames waiting
        end
        up.t:reset()
        expect(up.t:status(), 0)
        local seen = {}
        for i = 0, 15 do
            seen[i] = memory:read(up.rx_buffers[i].offset, 512)
        end
        local used = memory:read(up.rx.used, 132)
        from:tx_burst(burst)
        virtio.settle(pair)
        for i = 0, 15 do
            expect(memory:read(up.rx_buffers[i].offset, 512) == seen[i])
            memory:free(up.rx_buffers[i].offset)
        end
        expect(memory:read(up.rx.used, 132) == used)
        memory:free(up.rx.desc)
        memory:free(up.tx.desc)
    end
end)

test("kicks between a reset and the next set-up are harmless", function()
    local to = virtio_net(receiver)
    local up = virtio.bring_up(sender, { memory = pair:ram() })
    expect_sends(up, to, 1)
    up.t:reset()
    for q = RX, 3 do
        up.t:kick(q)
    end
    virtio.settle(pair)
    expect(up.t:status(), 0)
    up.t:reset()
    up.t:reset()
    expect_sends(virtio.bring_up(sender, { memory = pair:ram() }), to, 2)
end)

test("a transitional device that runs modern can be reset by its legacy register, and the other way round", function()
    local to = virtio_net(receiver)
    for n = 1, 3 do
        local up = virtio.bring_up(sender, { memory = pair:ram(), buffers = 2 })
        expect_sends(up, to, n)
        virtio.transport(sender, "legacy"):reset()
        expect(up.t:status(), 0)
        up = virtio.bring_up(sender, { transport = "legacy", memory = pair:ram(), buffers = 2 })
        expect_sends(up, to, 10 + n)
        virtio.transport(sender, "modern"):reset()
        expect(up.t:status(), 0)
    end
end)

test("the two-hundredth start is as the first", function()
    local to = virtio_net(receiver)
    local up
    for n = 1, 200 do
        if up then
            for _, offset in ipairs { up.tx.desc, up.rx.desc } do
                pair:ram():free(offset)
            end
        end
        up = virtio.bring_up(sender, { memory = pair:ram() })
        expect_sends(up, to, n)
        up.t:reset()
    end
end)
