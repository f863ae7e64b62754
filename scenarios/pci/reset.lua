-- What a system reset takes back and what it leaves. Interrupts, bridges, ECAM and a pending unplug have
-- theirs in intx.lua, bridges.lua, ecam.lua and hotplug.lua; MSI-X in msix.lua (C22).

local pci = require "pci"
local virtio = require "virtio"

for _, board in ipairs { "pc", "q35" } do
    local m = machine { name = board, board = board }
    local net = m:device "virtio-net-pci,id=net"
    local peer = m:device "virtio-net-pci,id=peer,disable-legacy=on"
    local mem = memory { name = "kept", size = "1M" }
    local shm = m:device("ivshmem-plain", { memory = mem })
    local server = ivshmem_server { memory = memory { name = "bell", size = "64k" } }
    local bell = m:device("ivshmem-doorbell", { server = server })
    local edu = m:device "edu,id=edu"
    local all = { net, peer, shm, bell, edu }

    test("C22: " .. board .. ": configuration space is as after power-on, in every byte", function()
        local bare = machine { name = board .. ", bare", board = board, setup = false }
        local devices = {}
        for i, spec in ipairs { "virtio-net-pci,addr=4", "ivshmem-plain,addr=5", "edu,addr=6", "e1000e,addr=7", "pci-bridge,addr=8" } do
            devices[i] = bare:device(spec)
        end
        bare:scan()
        local before = {}
        for i, f in ipairs(bare:functions()) do
            before[i] = f:config_bytes()
        end
        bare:setup()
        for i, f in ipairs(bare:functions()) do
            f:config_write(0x3c, 1, 0xff)
            f:config_write(0x04, 2, 0x0507)
            f:config_write(0x0c, 1, 0x10)
        end
        devices[1]:msix_enable()
        devices[3].msi:set { message_address = 0x1000, message_data = 5 }
        bare:reset()
        bare:scan()
        local changed = {}
        for i, f in ipairs(bare:functions()) do
            local now = f:config_bytes()
            for at = 0, 255 do
                -- bridges have numbers and windows already: the scan needs them
                if f.config.header_type & 0x7f == 0 and now:byte(at + 1) ~= before[i]:byte(at + 1) then
                    local _, slot, fn = f:address()
                    changed[#changed + 1] = string.format("%x.%x: 0x%x", slot, fn, at)
                end
            end
        end
        expect(table.concat(changed, ", "), "")
    end)

    test(board .. ": BARs are off the bus, and their addresses forgotten, until they are set up", function()
        local places = {}
        for _, dev in ipairs(all) do
            for bar = 0, 5 do
                local b = dev:bar(bar)
                if b then
                    places[#places + 1] = b
                    expect(b.base ~= 0)
                end
            end
        end
        m:reset()
        for _, b in ipairs(places) do
            if b.kind == "io" then
                expect(m:inp(b.base, 4), 0xffffffff)
            else
                expect(m:read(b.base, 4), 0)
            end
        end
        for _, dev in ipairs(all) do
            expect(dev.config.command, 0)
            for bar = 0, 5 do
                expect((dev:bar(bar) or { base = 0 }).base, 0)
                expect(dev:config_read(0x10 + 4 * bar, 4) & ~0xf, 0)
            end
        end
        expect.error("BAR 4 has no address yet", function() return net.common.num_queues end)
        m:setup()
        expect({ net.common.num_queues, edu.regs.id, bell.regs.IVPosition }, { 3, 0x010000ed, bell:peer() })
    end)

    test(board .. ": a virtio device is reset, with its queues running", function()
        local there = virtio_net(peer)
        local up = virtio.bring_up(net, { memory = m:ram(), buffers = 8, vectors = { rx = 0, tx = 1 } })
        there:send(frame(60, 1))
        up.rx:await(1)
        up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60, 2)) })
        up.tx:post(0)
        up.t:kick(virtio.TX)
        m:reset()
        local used = { up.rx:used_idx(), up.tx:used_idx() }
        m:setup()
        expect({ net.common.device_status, net.common.queue_enable, net.common.queue_size, net.common.queue_desc },
            { 0, 0, 256, 0 })
        expect({ net.common.config_msix_vector, net.common.queue_msix_vector }, { virtio.NO_VECTOR, virtio.NO_VECTOR })
        local again, here = virtio_net(peer), virtio_net(net)
        again:send(frame(70, 3))
        expect(here:recv(), frame(70, 3))
        here:send(frame(80, 4))
        expect(again:recv(), frame(80, 4))
        expect({ up.rx:used_idx(), up.tx:used_idx() }, used)
    end)

    test(board .. ": ivshmem loses its registers and keeps its memory, its id and its peers", function()
        m:start()
        local here = server:join()
        local id = bell:peer()
        mem:write(0x100, pattern(64, 5))
        shm.regs.IntrMask, shm.regs.IntrStatus = 7, 7
        bell.regs.IntrMask = 0xff
        m:reset()
        m:setup()
        expect({ shm.regs.IntrMask, shm.regs.IntrStatus, bell.regs.IntrMask }, { 0, 0, 0 })
        expect(m:bytes(mem:gpa(0x100), 64), pattern(64, 5))
        expect({ bell.regs.IVPosition, bell:peer(), server:has_peer(id) }, { id, id, true })
        bell.regs.Doorbell = here:id() << 16
        expect(here:wait(), 1)
        local i = irq(bell)
        bell:msix_enable()
        server:ring(id)
        i:wait()
    end)

    test(board .. ": RAM keeps its contents", function()
        m:start()
        local ram = m:ram()
        ram:write(0x100000, pattern(4096, 6))
        m:reset()
        expect(ram:read(0x100000, 4096), pattern(4096, 6))
        expect(m:bytes(0x100000, 4096), pattern(4096, 6))
    end)

    test(board .. ": what was plugged in stays, what was unplugged stays away, a link that is down stays down", function()
        local dev = virtio_net(peer)
        local late = board == "pc" and m:plug "edu,id=late,addr=10"
        m:qmp("set_link", { name = "peer", up = false })
        m:reset()
        m:setup()
        expect({ net:present(), late and late:present() }, { true, late and true })
        expect(virtio_net(peer):link_up(), false)
        if late then
            expect(late.regs.id, 0x010000ed)
            late:unplug()
            m:reset()
            m:setup()
            expect(late:present(), false)
        end
        m:qmp("set_link", { name = "peer", up = true })
        expect(virtio_net(peer):link_up(), true)
    end)

    test(board .. ": edu has no reset of its own: its registers stay", function()
        edu.regs.liveness = 0x5555aaaa
        edu.regs.irq_raise = 4
        m:reset()
        m:setup()
        expect({ edu.regs.liveness, edu.regs.irq_status }, { 0xaaaa5555, 4 })
        expect(edu.config.bits.status.interrupt_status, 0) -- though its pin was let go
    end)

    test(board .. ": ten resets are as good as one, and each is told", function()
        m:start()
        for round = 1, 10 do
            m:reset()
            expect(m:wait_event("RESET", 0), nil) -- one each, which reset() took
            m:setup()
            expect({ net.common.num_queues, edu.regs.id, shm.regs.IVPosition }, { 3, 0x010000ed, 0 })
            mem:u32(0, round)
            expect(m:read(mem:gpa(), 4), round)
        end
        expect(m:qmp("query-status").status, "running")
    end)
end

test("the power state is kept", function()
    -- as QEMU 7.2 has it: real devices return to D0
    local m = machine { name = "power" }
    local nic = m:device "e1000e"
    nic.power_management.bits.control_status.power_state = 3
    m:reset()
    expect(nic.power_management.bits.control_status.power_state, 3)
end)

test("drivers of before a reset are told that their device has no place any more", function()
    local m = machine { name = "stale" }
    local net = m:device "virtio-net-pci,disable-legacy=on"
    m:device "virtio-net-pci,disable-legacy=on"
    local n = virtio_net(net)
    m:reset()
    expect.error("BAR %d has no address yet", function() return n:link_up() end)
    m:setup()
    expect(n:link_up(), true) -- its registers are there again, its queues are not
    expect(net.common.device_status, 0)
    expect(pci.read(m, 0, 4, 0, 0, 4), 0x10411af4)
end)
