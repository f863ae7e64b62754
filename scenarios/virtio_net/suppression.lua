-- Who need not tell whom: interrupts that the driver does not want, kicks that the device does not
-- want, by flags and by event index, on both queues (virtio 1.2, 2.7.7, 2.7.10).
--
-- Messages are counted exactly: they ring eventfds. What makes counts exact is a rule of QEMU 7.2: it
-- decides about a message in the same callback that stores used.idx, so that after a barrier that
-- follows the store nothing more comes. It decides for each frame by itself; the specification would
-- let it send one message for all.
local virtio = require "virtio"
local F = virtio.F

local TRANSPORTS = { "modern", "legacy" }
local BASE = { modern = F.VERSION_1, legacy = 0 }

-- ---- transmit interrupts ----

local m = machine { bridge = true }
local net = virtio.lone_device(m)

-- A running device whose transmit queue rings an eventfd; descriptor i is a frame, for every i.
local function transmitter(transport, features)
    local up = virtio.bring_up(net, {
        transport = transport, features = BASE[transport] | features, memory = m:ram(), vectors = { tx = 1 },
    })
    up.irq = irq(net, { form = "eventfd", vector = 1 })
    local b = virtio.buffer(m:ram(), up.header .. frame(60))
    for i = 0, up.tx.size - 1 do
        up.tx:chain(i, { b })
    end
    -- Publishes n frames, kicks once; returns how many messages they made.
    function up.send(n)
        local before = up.irq:messages()
        for i = 1, n do
            up.tx:post((up.tx.n_posted) % up.tx.size)
        end
        up.t:kick(virtio.TX)
        up.tx:await()
        m:barrier()
        return up.irq:messages() - before
    end
    return up
end

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": without EVENT_IDX every transmitted frame sends a message", function()
        local up = transmitter(transport, 0)
        expect(up.send(1), 1)
        expect(up.send(5), 5)
        expect(up.send(64), 64)
    end)

    test(transport .. ": NO_INTERRUPT in avail.flags silences the queue until it is cleared", function()
        local up = transmitter(transport, 0)
        up.tx:avail_flags(virtio.NO_INTERRUPT)
        expect(up.send(1), 0)
        expect(up.send(7), 0)
        up.tx:avail_flags(0)
        m:barrier()
        expect(up.irq:messages(), 0) -- what was used in silence is not told afterwards
        expect(up.send(3), 3)
    end)

    test(transport .. ": with EVENT_IDX a message comes when used.idx passes used_event, and only then", function()
        local up = transmitter(transport, F.EVENT_IDX)
        up.tx:used_event(1000)
        -- The first used buffer is always told: the device has told nothing yet that it could go by.
        expect(up.send(1), 1)
        for _, step in ipairs {
            -- used_event relative to used.idx, frames, messages
            { 0, 1, 1 }, { 0, 5, 1 }, { 4, 5, 1 }, { 3, 5, 1 }, { 5, 5, 0 }, { -1, 5, 0 }, { -5, 5, 0 },
            { 1000, 5, 0 }, { 0, 64, 1 }, { 63, 64, 1 }, { 64, 64, 0 }, { 0x8000, 64, 0 },
        } do
            local event, frames, messages = table.unpack(step)
            up.tx:used_event(up.tx:used_idx() + event & 0xffff)
            expect({ event, frames, up.send(frames) }, { event, frames, messages })
        end
    end)

    test(transport .. ": with EVENT_IDX avail.flags is not looked at", function()
        local up = transmitter(transport, F.EVENT_IDX)
        expect(up.send(1), 1)
        up.tx:avail_flags(virtio.NO_INTERRUPT)
        up.tx:used_event(1)
        expect(up.send(1), 1)
        up.tx:avail_flags(0)
        expect(up.send(1), 0)
    end)

    test(transport .. ": used_event works across the wrap of used.idx", function()
        local up = transmitter(transport, F.EVENT_IDX)
        up.tx:used_event(0x8000) -- passed once on the way
        local messages = 0
        for _ = 1, 255 do
            messages = messages + up.send(256)
        end
        expect(messages, 2) -- the first, and the one asked for
        up.tx:used_event(0xffff) -- told when used.idx goes from 0xffff to 0
        expect(up.send(255), 0)
        expect(up.tx:used_idx(), 0xffff)
        expect(up.send(1), 1)
        expect(up.tx:used_idx(), 0)
        up.tx:used_event(0)
        expect(up.send(10), 1)
        up.tx:used_event(5) -- behind it
        expect(up.send(10), 0)
    end)
end

test("legacy: NOTIFY_ON_EMPTY tells when the last buffer is used, NO_INTERRUPT or not", function()
    local up = transmitter("legacy", F.NOTIFY_ON_EMPTY)
    up.tx:avail_flags(virtio.NO_INTERRUPT)
    expect(up.send(1), 1)
    expect(up.send(5), 1) -- for the fifth
end)

-- ---- receive interrupts ----

local pair = machine { bridge = true }
local receiver = pair:device "virtio-net-pci"
local sender = pair:device "virtio-net-pci"

-- The receiver by hand with n buffers, its receive queue on an eventfd; the sender by the driver.
local function receiving(transport, features, n)
    local up = virtio.bring_up(receiver, {
        transport = transport, features = BASE[transport] | features, memory = pair:ram(), buffers = n,
        vectors = { rx = 2 },
    })
    up.irq = irq(receiver, { form = "eventfd", vector = 2 })
    up.peer = virtio_net(sender)
    up.n_sent = 0
    -- Sends n frames to it; returns how many messages they made.
    function up.receive(n)
        local before = up.irq:messages()
        local burst = {}
        for i = 1, n do
            burst[i] = frame(60, i)
        end
        expect(up.peer:tx_burst(burst), n)
        up.n_sent = up.n_sent + n
        up.rx:await(up.n_sent)
        pair:barrier()
        return up.irq:messages() - before
    end
    return up
end

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": received frames: a message each, none with NO_INTERRUPT", function()
        local up = receiving(transport, 0, 32)
        expect(up.receive(1), 1)
        expect(up.receive(4), 4)
        up.rx:avail_flags(virtio.NO_INTERRUPT)
        expect(up.receive(6), 0)
        up.rx:avail_flags(0)
        expect(up.receive(2), 2)
    end)

    test(transport .. ": received frames: used_event decides with EVENT_IDX", function()
        local up = receiving(transport, F.EVENT_IDX, 64)
        expect(up.receive(1), 1)
        for _, step in ipairs { { 0, 3, 1 }, { 2, 3, 1 }, { 3, 3, 0 }, { -1, 3, 0 }, { 7, 8, 1 }, { 9, 8, 0 } } do
            local event, frames, messages = table.unpack(step)
            up.rx:used_event(up.rx:used_idx() + event & 0xffff)
            expect({ event, frames, up.receive(frames) }, { event, frames, messages })
        end
    end)
end

-- ---- kicks that the device does not want ----

-- A device on a hub whose only other port is not ready cannot get rid of a frame: QEMU keeps the first
-- one in flight, stops, and says with NO_NOTIFY (or by leaving avail_event behind) that it will look
-- again by itself. This is a state one can stay in, and so one where nothing depends on time.
-- (It ends when the other port is ready; the frames held back count as sent, but QEMU 7.2 loses them: it
-- hands them over while the receiver is about to run and does not take any yet.)
local function stalled(transport, features)
    local up = virtio.bring_up(sender, {
        transport = transport, features = BASE[transport] | features, memory = pair:ram(),
    })
    local b = virtio.buffer(pair:ram(), up.header .. frame(60))
    for i = 0, up.tx.size - 1 do
        up.tx:chain(i, { b })
    end
    return up
end

-- The other port gets ready: four frames held back are used, a fifth is sent and arrives.
local function let_go(up)
    local peer = virtio_net(receiver)
    up.tx:await(4)
    pair:barrier()
    local b = virtio.buffer(pair:ram(), up.header .. frame(60, 5))
    up.tx:chain(4, { b })
    up.tx:post(4)
    up.t:kick(virtio.TX)
    up.tx:await(5)
    expect(peer:recv(), frame(60, 5))
end

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": NO_NOTIFY is set while the device cannot send, and cleared when it could", function()
        local up = stalled(transport, 0)
        expect(up.tx:used_flags(), 0)
        up.tx:post(0)
        up.t:kick(virtio.TX)
        expect.eventually(function() return up.tx:used_flags() end, virtio.NO_NOTIFY)
        expect(up.tx:used_idx(), 0)

        -- More frames, no kick, as it asked; and a kick too many does no harm.
        up.tx:post(1, 2, 3)
        up.t:kick(virtio.TX)
        virtio.settle(pair)
        expect(up.tx:used_idx(), 0)

        let_go(up)
        expect.eventually(function() return up.tx:used_flags() end, 0)
    end)

    test(transport .. ": with EVENT_IDX avail_event stays behind while the device cannot send", function()
        local up = stalled(transport, F.EVENT_IDX)
        expect(up.tx:avail_event(), 0)
        up.tx:post(0)
        up.t:kick(virtio.TX)
        virtio.settle(pair)
        up.tx:post(1, 2, 3)
        virtio.settle(pair)
        expect({ up.tx:used_idx(), up.tx:avail_event(), up.tx:used_flags() }, { 0, 0, 0 })

        let_go(up)
        expect.eventually(function() return up.tx:avail_event() end, 5)
        expect(up.tx:used_flags(), 0) -- never used with EVENT_IDX
    end)

    for _, features in ipairs { 0, F.EVENT_IDX } do
        local name = features == 0 and "flags" or "EVENT_IDX"

        test(transport .. ": the driver kicks once for all a stalled device gets (" .. name .. ")", function()
            local d = virtio_net(sender, { transport = transport, refused = F.EVENT_IDX & ~features })
            virtio.settle(pair)
            expect(d:tx_burst { frame(60, 1) }, 1)
            if features == 0 then
                local used = d:queue("tx").used
                expect.eventually(function() return pair:read(used, 2) end, virtio.NO_NOTIFY)
            end
            for i = 2, 200 do
                expect(d:tx_burst { frame(60, i) }, 1)
            end
            expect(d:stats().tx_kicks, 1)
            expect(d:pending(), 200)
            virtio_net(receiver)
            d:drain()
            expect(d:stats().tx_kicks, 1)
        end)

        test(transport .. ": the driver kicks for every frame an idle device gets (" .. name .. ")", function()
            local d = virtio_net(net, { transport = transport, refused = F.EVENT_IDX & ~features })
            virtio.settle(m) -- the look at its queues that DRIVER_OK made it take
            for i = 1, 20 do
                m:barrier() -- the device has asked for kicks again after the last frame
                d:send(frame(60, i))
                expect(d:stats().tx_kicks, i)
            end
        end)
    end
end

-- ---- the receive queue's side of it ----

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": the receive queue wants kicks only while it is starved", function()
        local up = receiving(transport, 0, 3)
        expect(up.rx:used_flags(), 0)
        up.receive(1)
        expect(up.rx:used_flags(), virtio.NO_NOTIFY) -- two buffers left: no need to tell of more
        up.receive(2)
        expect(up.peer:tx_burst { frame(60, 9) }, 1) -- nowhere to put it
        expect.eventually(function() return up.rx:used_flags() end, 0)
        up.rx:post(0)
        up.t:kick(virtio.RX)
        up.rx:await(4)
        expect(pair:ram():read(up.rx_buffers[0].offset + #up.header, 60), frame(60, 9))
    end)

    test(transport .. ": with EVENT_IDX avail_event of the receive queue moves only when it is starved", function()
        local up = receiving(transport, F.EVENT_IDX, 3)
        up.receive(1)
        local event = up.rx:avail_event()
        up.receive(2)
        expect(up.rx:avail_event(), event)
        expect(up.peer:tx_burst { frame(60, 9) }, 1)
        expect.eventually(function() return up.rx:avail_event() end, 3)
        up.rx:post(0)
        up.t:kick(virtio.RX)
        up.rx:await(4)
    end)
end

-- ---- kicks that tell nothing ----

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": frames made available without a kick wait for one", function()
        local up = transmitter(transport, 0)
        up.tx:post(0, 1, 2)
        virtio.settle(m)
        expect(up.tx:used_idx(), 0)
        up.t:kick(virtio.TX)
        up.tx:await(3)
    end)

    test(transport .. ": kicks with nothing to do make no message and use nothing", function()
        local up = transmitter(transport, 0)
        for q = 0, 5 do -- also of queues that are not set up, and that do not exist
            up.t:kick(q)
        end
        virtio.settle(m)
        expect({ up.tx:used_idx(), up.rx:used_idx(), up.irq:messages() }, { 0, 0, 0 })
        expect(up.t:status(), virtio.RUNNING[transport])
        expect(up.send(1), 1)
    end)
end
