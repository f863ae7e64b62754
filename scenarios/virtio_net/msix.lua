-- MSI-X as virtio uses it: which event has which vector, masks and pending bits, and vectors that change
-- while the device runs (virtio 1.2, 4.1.5.1.2; PCI 3.0, 6.8.2). Every message rings an eventfd, so that
-- each is counted. The table by itself is in scenarios/pci.
local virtio = require "virtio"
local F = virtio.F
local RX, TX = virtio.RX, virtio.TX
local NO_VECTOR = virtio.NO_VECTOR

local TRANSPORTS = { "modern", "legacy" }
local BASE = { modern = F.VERSION_1, legacy = 0 }

local m = machine { bridge = true }
local net = m:device "virtio-net-pci,id=dev0"
local other = m:device "virtio-net-pci,id=dev1"

local function set_link(up)
    m:qmp("set_link", { name = "dev0", up = up })
end

-- A running device with the vectors given, and all four of its vectors on eventfds: up.irq[v].
-- up.transmit() and up.receive() cause one event, up.link() two (the link goes down and up again); they
-- return when QEMU is done with them.
local function bring_up(transport, vectors)
    local up = virtio.bring_up(net, {
        transport = transport, features = BASE[transport] | F.STATUS, memory = m:ram(), buffers = 64,
        vectors = vectors,
    })
    up.irq = {}
    for v = 0, 3 do
        up.irq[v] = irq(net, { form = "eventfd", vector = v })
    end
    local peer = virtio_net(other)
    local b = virtio.buffer(m:ram(), up.header .. frame(60))
    up.tx:chain(0, { b })
    function up.transmit()
        up.tx:post(0)
        up.t:kick(TX)
        up.tx:await()
        m:barrier()
        peer:recv()
    end
    local n_received = 0
    function up.receive()
        peer:send(frame(60))
        n_received = n_received + 1
        up.rx:await(n_received)
        m:barrier()
    end
    function up.link()
        set_link(false)
        set_link(true)
    end
    -- Messages of vectors 0 to 3 since the last call.
    local before = { 0, 0, 0, 0 }
    function up.messages()
        local new = {}
        for v = 0, 3 do
            local n = up.irq[v]:messages()
            new[v + 1], before[v + 1] = n - before[v + 1], n
        end
        return new
    end
    return up
end

-- ---- mapping ----

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": vectors that the table has are taken, others read back as none", function()
        local t = virtio.transport(net, transport)
        expect(net:msix_vectors(), 4)
        if transport == "legacy" then
            net:msix_enable()
        end -- modern: also before MSI-X is enabled
        for _, case in ipairs {
            { 0, 0 }, { 3, 3 }, { 4, NO_VECTOR }, { 1, 1 }, { 5, NO_VECTOR }, { 2, 2 }, { 2047, NO_VECTOR },
            { 2, 2 }, { 0x8000, NO_VECTOR }, { 2, 2 }, { 0xfffe, NO_VECTOR }, { 2, 2 }, { NO_VECTOR, NO_VECTOR },
        } do
            expect({ case[1], t:config_vector(case[1]) }, case)
            for q = RX, virtio.CTRL do
                expect({ q, case[1], t:queue_vector(q, case[1]) }, { q, table.unpack(case) })
            end
        end
        expect(t:queue_vector(3, 1), 1) -- lenient: there is no such queue
    end)

    test(transport .. ": a reset takes all mappings away", function() -- 4.1.5.1.2
        local up = bring_up(transport, { config = 0, rx = 1, tx = 2 })
        up.t:reset()
        expect({ up.t:config_vector(), up.t:queue_vector(RX), up.t:queue_vector(TX) },
            { NO_VECTOR, NO_VECTOR, NO_VECTOR })
    end)

    test(transport .. ": each event has the vector it was given", function()
        local up = bring_up(transport, { config = 3, rx = 0, tx = 2 })
        up.messages()
        up.transmit()
        expect(up.messages(), { 0, 0, 1, 0 })
        up.receive()
        expect(up.messages(), { 1, 0, 0, 0 })
        up.link()
        expect(up.messages(), { 0, 0, 0, 2 })
    end)

    test(transport .. ": all events can share a vector", function()
        local up = bring_up(transport, { config = 1, rx = 1, tx = 1 })
        up.transmit()
        up.receive()
        up.link()
        expect(up.messages(), { 0, 4, 0, 0 })
    end)

    test(transport .. ": events without a vector send no message and raise no line", function()
        local up = bring_up(transport, { tx = 2 })
        local line = irq(net, { form = "line" })
        up.receive()
        up.link()
        expect({ up.messages(), line:raised() }, { { 0, 0, 0, 0 }, false })
        up.transmit()
        expect({ up.messages(), line:raised() }, { { 0, 0, 1, 0 }, false })
        -- Lenient: with MSI-X the ISR need not say anything (4.1.4.5); here it goes on.
        expect(up.t:isr(), virtio.ISR_QUEUE | virtio.ISR_CONFIG)
    end)
end

test("a change of the link is told once, with the next generation", function()
    local up = bring_up("modern", { config = 0 })
    expect({ net.device.status, net.common.config_generation }, { 1, 0 })
    set_link(false)
    expect({ net.device.status, net.common.config_generation, up.messages() }, { 0, 1, { 1, 0, 0, 0 } })
    set_link(false) -- no change
    expect({ net.common.config_generation, up.messages() }, { 1, { 0, 0, 0, 0 } })
    set_link(true)
    expect({ net.device.status, net.common.config_generation, up.messages() }, { 1, 2, { 1, 0, 0, 0 } })
end)

test("a function without MSI-X has no vectors to give", function()
    local without = machine {}
    local dev = virtio.lone_device(without, "vectors=0")
    expect(dev:capability(0x11), nil)
    local t = virtio.transport(dev, "modern")
    for _, v in ipairs { 0, 1, NO_VECTOR } do
        expect({ t:config_vector(v), t:queue_vector(TX, v) }, { NO_VECTOR, NO_VECTOR })
    end
end)

test("the table has as many vectors as asked for", function()
    local many = machine {}
    local one, sixteen = many:device "virtio-net-pci,vectors=1", many:device "virtio-net-pci,vectors=16"
    expect({ one:msix_vectors(), sixteen:msix_vectors() }, { 1, 16 })
    expect({ virtio.transport(one, "modern"):queue_vector(TX, 1), virtio.transport(one, "modern"):queue_vector(TX, 0) },
        { NO_VECTOR, 0 })
    expect(virtio.transport(sixteen, "modern"):queue_vector(TX, 15), 15)
end)

-- ---- masks and pending bits ----

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": a masked vector waits in its pending bit and comes once", function()
        local up = bring_up(transport, { config = 0, rx = 1, tx = 2 })
        local causes = { [0] = up.link, [1] = up.receive, [2] = up.transmit }
        for v = 0, 2 do
            net:msix_mask(v, true)
            expect(net:msix_pending(v), false)
            for _ = 1, 3 do
                causes[v]()
            end
            expect({ v, net:msix_pending(v), up.messages() }, { v, true, { 0, 0, 0, 0 } })
            net:msix_mask(v, false)
            local once = { 0, 0, 0, 0 }
            once[v + 1] = 1
            expect({ v, net:msix_pending(v), up.messages() }, { v, false, once })
            net:msix_mask(v, true)
            net:msix_mask(v, false)
            expect(up.messages(), { 0, 0, 0, 0 })
        end
    end)

    test(transport .. ": the function mask holds every vector back", function()
        local up = bring_up(transport, { config = 0, rx = 1, tx = 2 })
        net:msix_mask_all(true)
        net:msix_mask(2, true)
        up.link()
        up.receive()
        up.transmit()
        expect(up.messages(), { 0, 0, 0, 0 })
        expect({ net:msix_pending(0), net:msix_pending(1), net:msix_pending(2), net:msix_pending(3) },
            { true, true, true, false })
        net:msix_mask(1, true)
        net:msix_mask(1, false) -- an open vector under a masked function
        expect({ up.messages(), net:msix_pending(1) }, { { 0, 0, 0, 0 }, true })
        net:msix_mask_all(false)
        expect({ up.messages(), net:msix_pending(2) }, { { 1, 1, 0, 0 }, true })
        net:msix_mask(2, false)
        expect({ up.messages(), net:msix_pending(2) }, { { 0, 0, 1, 0 }, false })
    end)
end

test("a message changed while it waits goes where it says when it comes", function()
    local up = bring_up("modern", { tx = 2 })
    local ram = m:ram()
    local old, new = ram:alloc(4), ram:alloc(4)
    net:msix_message(2, ram:gpa(old), 0x11)
    net:msix_mask(2, true)
    up.transmit()
    expect(net:msix_pending(2), true)
    net:msix_message(2, ram:gpa(new), 0x22)
    net:msix_mask(2, false)
    expect({ ram:u32(old), ram:u32(new) }, { 0, 0x22 })
end)

test("masking around every frame loses none", function()
    local up = bring_up("modern", { tx = 2 })
    for n = 1, 100 do
        net:msix_mask(2, true)
        up.transmit()
        net:msix_mask(2, false)
        expect({ n, up.irq[2]:messages() }, { n, n })
    end
end)

-- ---- changes while the device runs ----

for _, transport in ipairs(TRANSPORTS) do
    test("C24: " .. transport .. ": a queue's vector can change while it runs, to none and back", function()
        local up = bring_up(transport, { config = 0, rx = 1, tx = 2 })
        for _, step in ipairs {
            -- vector of the transmit queue, messages of a frame
            { 3, { 0, 0, 0, 1 } }, { NO_VECTOR, { 0, 0, 0, 0 } }, { 2, { 0, 0, 1, 0 } }, { 1, { 0, 1, 0, 0 } },
            { 7, { 0, 0, 0, 0 }, NO_VECTOR }, { NO_VECTOR, { 0, 0, 0, 0 } }, { 0, { 1, 0, 0, 0 } },
        } do
            expect(up.t:queue_vector(TX, step[1]), step[3] or step[1])
            up.transmit()
            expect({ step[1], up.messages() }, { step[1], step[2] })
        end
        up.receive() -- the others did not notice
        up.link()
        expect(up.messages(), { 2, 1, 0, 0 })
    end)

    test("C24: " .. transport .. ": the configuration's vector can change while the device runs", function()
        local up = bring_up(transport, { config = 0 })
        for _, step in ipairs {
            { 3, { 0, 0, 0, 2 } }, { NO_VECTOR, { 0, 0, 0, 0 } }, { 1, { 0, 2, 0, 0 } }, { 9, { 0, 0, 0, 0 }, NO_VECTOR },
            { 0, { 2, 0, 0, 0 } },
        } do
            expect(up.t:config_vector(step[1]), step[3] or step[1])
            up.link()
            expect({ step[1], up.messages() }, { step[1], step[2] })
        end
    end)

    test("C24: " .. transport .. ": vectors change between frames, a hundred times", function()
        local up = bring_up(transport, { tx = 0 })
        local total = { 0, 0, 0, 0 }
        for n = 1, 100 do
            local v = n % 5 == 4 and NO_VECTOR or n % 5
            up.t:queue_vector(TX, v)
            up.transmit()
            if v ~= NO_VECTOR then
                total[v + 1] = total[v + 1] + 1
            end
        end
        expect(up.messages(), total)
    end)
end

test("a pending message is dropped when nobody uses its vector any more", function()
    local up = bring_up("modern", { rx = 1, tx = 2 })
    net:msix_mask(2, true)
    up.transmit()
    expect(net:msix_pending(2), true)
    up.t:queue_vector(TX, 3)
    expect(net:msix_pending(2), false)
    net:msix_mask(2, false)
    expect(up.messages(), { 0, 0, 0, 0 })

    -- While another queue uses the vector it stays.
    up.t:queue_vector(TX, 1)
    net:msix_mask(1, true)
    up.transmit()
    up.t:queue_vector(TX, 3)
    expect(net:msix_pending(1), true)
    net:msix_mask(1, false)
    expect(up.messages(), { 0, 1, 0, 0 })
end)

-- ---- MSI-X off and on ----

for _, transport in ipairs(TRANSPORTS) do
    test(transport .. ": with MSI-X off events raise the line, with MSI-X on they send messages", function()
        local up = bring_up(transport, { tx = 2 })
        local line = irq(net, { form = "line" })
        up.transmit()
        expect({ up.messages(), line:raised() }, { { 0, 0, 1, 0 }, false })
        up.t:isr()

        net:msix_enable(false)
        up.transmit()
        expect({ up.messages(), line:raised() }, { { 0, 0, 0, 0 }, true })
        net:msix_enable(true) -- the line belongs to the other form
        expect(line:raised(), false)
        up.t:isr()
        up.transmit()
        expect({ up.messages(), line:raised() }, { { 0, 0, 1, 0 }, false })
    end)
end
