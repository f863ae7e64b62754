-- The three forms of interrupt under real traffic, on both boards and both transports; and INTx by hand:
-- raised, shared, lowered by reading the ISR (virtio 1.2, 4.1.4.5, 4.1.5.3, 4.1.5.4).
local virtio = require "virtio"
local F = virtio.F
local RX, TX = virtio.RX, virtio.TX

local BASE = { modern = F.VERSION_1, legacy = 0 }

for _, v in ipairs(virtio.variants) do
    local m = machine { board = v.board, bridge = true }
    local one = m:device(virtio.spec("id=dev0", v.properties))
    local two = m:device(virtio.spec(v.properties))

    for _, form in ipairs { "memory", "eventfd", "line" } do
        test(v.name .. ": every event comes once in the form of " .. form, function()
            local up = virtio.bring_up(one, {
                transport = v.transport, features = BASE[v.transport] | F.STATUS, memory = m:ram(), buffers = 16,
                vectors = form ~= "line" and { config = 0, rx = 1, tx = 2 } or nil,
            })
            local peer = virtio_net(two, { transport = v.transport })
            local interrupts = {}
            for vector = 0, 2 do
                interrupts[vector] = vector > 0 and form == "line" and interrupts[0] or
                    irq(one, { form = form, vector = vector })
            end
            local b = virtio.buffer(m:ram(), up.header .. frame(60))
            up.tx:chain(0, { b })
            local link = false
            local events = {
                { 1, virtio.ISR_QUEUE, function() peer:send(frame(60)) end },
                { 2, virtio.ISR_QUEUE, function()
                    up.tx:post(0)
                    up.t:kick(TX)
                end },
                { 0, virtio.ISR_QUEUE | virtio.ISR_CONFIG, function() -- twice: down and up again
                    m:qmp("set_link", { name = "dev0", up = link })
                    link = not link
                end },
                { 0, virtio.ISR_QUEUE | virtio.ISR_CONFIG, function()
                    m:qmp("set_link", { name = "dev0", up = link })
                    link = not link
                end },
            }
            for _ = 1, 5 do
                for _, event in ipairs(events) do
                    local i = interrupts[event[1]]
                    local before = i:messages()
                    event[3]()
                    i:wait()
                    m:barrier()
                    expect({ event[1], i:messages() - before }, { event[1], 1 })
                    expect({ event[1], up.t:isr() }, { event[1], event[2] })
                    for other = 0, 2 do
                        expect({ event[1], other, interrupts[other]:raised() }, { event[1], other, false })
                    end
                end
            end
            expect({ up.rx:used_idx(), up.tx:used_idx() }, { 5, 5 })
        end)

        test(v.name .. ": drivers that sleep until they are interrupted pass frames to and fro (" .. form .. ")", function()
            local a = virtio_net(one, { transport = v.transport, interrupts = form })
            local b = virtio_net(two, { transport = v.transport, interrupts = form })
            for n = 1, 20 do
                expect(a:tx_burst { frame(60 + n, n) }, 1)
                expect(b:recv(), frame(60 + n, n))
                expect(b:tx_burst { frame(1500 - n, 100 + n) }, 1)
                expect(a:recv(), frame(1500 - n, 100 + n))
            end
            a:drain()
            b:drain()
        end)
    end

    test("C25: " .. v.name .. ": INTx rises with an event and falls when the ISR is read", function()
        local up = virtio.bring_up(one, {
            transport = v.transport, features = BASE[v.transport] | F.STATUS, memory = m:ram(), buffers = 16,
        })
        local peer = virtio_net(two, { transport = v.transport })
        local line = irq(one, { form = "line" })
        local b = virtio.buffer(m:ram(), up.header .. frame(60))
        up.tx:chain(0, { b })
        local causes = {
            function() -- a frame sent
                up.tx:post(0)
                up.t:kick(TX)
                up.tx:await()
                m:barrier()
            end,
            function() -- a frame received
                local n = up.rx:used_idx()
                peer:send(frame(60))
                up.rx:await(n + 1)
                m:barrier()
            end,
        }
        local raises = 0
        for _, cause in ipairs(causes) do
            for _ = 1, 5 do
                expect(line:raised(), false)
                cause()
                raises = raises + 1
                expect({ line:raised(), line:messages() }, { true, raises })
                cause() -- it is up already
                expect({ line:raised(), line:messages() }, { true, raises })
                expect(up.t:isr(), virtio.ISR_QUEUE)
                expect({ line:raised(), line:messages() }, { false, raises })
                expect(up.t:isr(), 0)
            end
        end
        up.tx:avail_flags(virtio.NO_INTERRUPT)
        causes[1]()
        expect({ line:raised(), up.t:isr() }, { false, 0 })
    end)

    test(v.name .. ": two devices on one line: it stays up until both are served", function()
        -- slots 6 and 10 lead to the same line
        local twin = machine { board = v.board }
        local devices = {
            twin:device(virtio.spec("addr=6", v.properties)), twin:device(virtio.spec("addr=0xa", v.properties)),
            twin:device(virtio.spec("addr=0xb", v.properties)), -- a port for their frames to leave by
        }
        local drain = virtio_net(devices[3], { transport = v.transport })
        local ups, lines = {}, {}
        for i = 1, 2 do
            ups[i] = virtio.bring_up(devices[i], {
                transport = v.transport, features = BASE[v.transport], memory = twin:ram(),
            })
            lines[i] = irq(devices[i], { form = "line" })
            ups[i].tx:chain(0, { virtio.buffer(twin:ram(), ups[i].header .. frame(60)) })
        end
        expect(lines[1]:line(), lines[2]:line())
        for i = 1, 2 do
            ups[i].tx:post(0)
            ups[i].t:kick(TX)
            ups[i].tx:await(1)
            twin:barrier()
            expect({ i, lines[1]:raised(), lines[1]:messages() }, { i, true, 1 })
        end
        expect(ups[1].t:isr(), virtio.ISR_QUEUE)
        expect(lines[1]:raised(), true)
        expect(ups[2].t:isr(), virtio.ISR_QUEUE)
        expect(lines[1]:raised(), false)
        drain:close()
    end)
end

-- ---- what PCI says of it ----

local m = machine {}
local net = virtio.lone_device(m)

test("the Interrupt Status bit of the PCI status follows INTx, whether the command lets it out or not", function()
    -- 4.1.4.5; PCI 3.0, 6.2.2 and 6.2.3
    local up = virtio.bring_up(net, { memory = m:ram() })
    local line = irq(net, { form = "line" })
    up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
    local function transmit()
        up.tx:post(0)
        up.t:kick(TX)
        up.tx:await()
        m:barrier()
    end
    local INTERRUPT_STATUS, INTERRUPT_DISABLE = 0x0008, 0x0400
    expect(net.config.status & INTERRUPT_STATUS, 0)
    transmit()
    expect({ line:raised(), net.config.status & INTERRUPT_STATUS }, { true, INTERRUPT_STATUS })
    local command = net.config.command
    net.config.command = command | INTERRUPT_DISABLE
    expect({ line:raised(), net.config.status & INTERRUPT_STATUS }, { false, INTERRUPT_STATUS })
    transmit()
    expect(line:raised(), false)
    net.config.command = command
    expect(line:raised(), true)
    expect(up.t:isr(), virtio.ISR_QUEUE)
    expect({ line:raised(), net.config.status & INTERRUPT_STATUS }, { false, 0 })
end)

test("no interrupt is lost between looking and arming", function()
    -- The order of 2.7.7 against frames that come at any moment: the receiver sleeps only when armed.
    local pair = machine { bridge = true }
    local one, two = pair:device "virtio-net-pci", pair:device "virtio-net-pci"
    local a, b = virtio_net(one), virtio_net(two, { interrupts = "eventfd" })
    local sent = 0
    for burst = 1, 60 do
        local frames = {}
        for i = 1, burst % 7 + 1 do
            sent = sent + 1
            frames[i] = frame(64, sent)
        end
        expect(a:tx_burst(frames), #frames)
        for i = 1, #frames do
            expect(b:recv(), frames[i])
        end
    end
end)
