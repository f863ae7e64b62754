-- Devices that are plugged in and unplugged while QEMU runs, ACPI's way: on pc's root bus, behind a
-- bridge, in root ports of q35. dev:unplug() plays the guest's part; the first tests do it by hand.
-- QEMU's docs/specs/acpi_pci_hotplug.rst.

local pci = require "pci"
local virtio = require "virtio"

-- registers, from the base
local UP, DOWN, EJECT, REMOVABLE, SELECT = 0x00, 0x04, 0x08, 0x0c, 0x10

local pc = machine { name = "pc" }
local stays = pc:device "virtio-net-pci,id=stays,disable-legacy=on"
local net = pc:device "virtio-net-pci,id=net,disable-legacy=on"
local bridge = pc:device "pci-bridge,id=bridge"
local q35 = machine { name = "q35", board = "q35" }
local port = q35:device "pcie-root-port,id=root"
local other = q35:device "pcie-root-port,id=other"

local base = { [pc] = 0xae00, [q35] = 0x0cc0 }
local function get(m, register)
    return m:inp(base[m] + register, 4)
end
local function set(m, register, value)
    m:outp(base[m] + register, 4, value)
end

-- Where a device lies, to look there after it has gone.
local function place(dev)
    local p = { address = { dev:address() }, bars = {} }
    for bar = 0, 5 do
        local b = dev:bar(bar)
        if b and b.base ~= 0 then
            p.bars[#p.bars + 1] = b
        end
    end
    return p
end

-- Nothing is left of it: configuration cycles read all ones, its BARs are nobody's.
local function expect_gone(m, p)
    pci.expect_absent(m, table.unpack(p.address))
    for _, bar in ipairs(p.bars) do
        for _, offset in ipairs { 0, bar.size - 8 } do
            for _, width in ipairs { 1, 2, 4, 8 } do
                if bar.kind ~= "io" then
                    expect(m:read(bar.base + offset, width), 0) -- unassigned memory
                    m:write(bar.base + offset, width, 0)
                elseif width < 8 then
                    expect(m:inp(bar.base + offset, width), pci.ones(width))
                    m:outp(bar.base + offset, width, 0)
                end
            end
        end
    end
    expect(m:alive(), true)
end

-- ---- the handshake, step by step ----

test("pc: a plugged device answers at once, and its slot is told once", function()
    pc:start()
    local _, slot = bridge:address() -- it cannot be taken away, and the board's slots 0 and 1 cannot
    expect({ get(pc, UP), get(pc, DOWN), get(pc, REMOVABLE) }, { 0, 0, 0xfffffffc & ~(1 << slot) })
    pci.expect_absent(pc, 0, 0x10, 0)
    local late = pc:plug "edu,id=late,addr=10"
    expect(pc:inp(0xafe0, 1) & 2, 2) -- general purpose event 1: look at the bus
    expect({ get(pc, UP), get(pc, UP), get(pc, DOWN) }, { 1 << 0x10, 0, 0 })
    expect({ late:id() }, { 0x1234, 0x11e8 })
    expect({ late.config.command, late.config.bar0 }, { 0, 0 })
    late:enable()
    expect(late.regs.id, 0x010000ed)
end)

test("pc: device_del only asks; the device works until it is ejected", function()
    local late = pc:plug "edu,id=late,addr=10"
    late:enable()
    local where = place(late)
    pc:qmp("device_del", { id = "late" })
    expect(get(pc, DOWN), 1 << 0x10)
    expect(get(pc, DOWN), 1 << 0x10) -- reading does not clear it
    expect(late.regs.id, 0x010000ed)
    expect(pc:wait_event("DEVICE_DELETED", 0), nil)
    set(pc, SELECT, 0)
    set(pc, EJECT, 1 << 0x10)
    expect(pc:wait_event("DEVICE_DELETED").device, "late")
    expect_gone(pc, where)
    expect(get(pc, DOWN), 0)
end)

test("pc: a second request is taken, and one ejection answers both", function()
    local late = pc:plug "edu,id=late,addr=10"
    local where = place(late)
    pc:qmp("device_del", { id = "late" })
    pc:qmp("device_del", { id = "late" })
    set(pc, EJECT, 1 << 0x10)
    expect(pc:wait_event("DEVICE_DELETED").device, "late")
    expect(pc:wait_event("DEVICE_DELETED", 0), nil)
    expect_gone(pc, where)
    expect.error("DeviceNotFound", pc.qmp, pc, "device_del", { id = "late" })
end)

test("pc: a guest may eject without being asked", function()
    local late = pc:plug "edu,id=late,addr=10"
    local where = place(late)
    set(pc, EJECT, 1 << 0x10)
    expect(pc:wait_event("DEVICE_DELETED").device, "late")
    expect_gone(pc, where)
end)

test("pc: only dword writes eject, from the selected bus, and of several bits the lowest", function()
    local first = pc:plug "edu,id=first,addr=10"
    local second = pc:plug "edu,id=second,addr=11"
    local p, q = place(first), place(second)
    pc:outp(base[pc] + EJECT, 1, 0xff)
    pc:outp(base[pc] + EJECT, 2, 0xffff)
    set(pc, SELECT, 7) -- no such bus
    set(pc, EJECT, 3 << 0x10)
    set(pc, SELECT, 0)
    set(pc, EJECT, 1 << 0x1f) -- nothing there
    set(pc, EJECT, 0)
    expect({ first:present(), second:present() }, { true, true })
    set(pc, EJECT, 3 << 0x10)
    expect_gone(pc, p)
    expect(second:present(), true)
    set(pc, EJECT, 2 << 0x10)
    expect_gone(pc, q)
end)

test("pc: what belongs to the board cannot be ejected", function()
    pc:start()
    set(pc, EJECT, 1 << 0)
    set(pc, EJECT, 1 << 1)
    expect(pci.read(pc, 0, 0, 0, 0, 4), 0x12378086)
    expect(pci.read(pc, 0, 1, 0, 0, 4), 0x70008086)
    set(pc, EJECT, 1 << 6)
    expect(bridge:present(), true)
    expect.error("not support hotplugging", pc.qmp, pc, "device_del", { id = "/machine/i440fx/pci.0/child[0]" })
end)

test("pc: behind a bridge the bus is selected by its number", function()
    local late = pc:plug "edu,id=late,bus=bridge,addr=3"
    late:enable()
    expect(late.regs.id, 0x010000ed)
    local where = place(late)
    expect(where.address[1], bridge.config.secondary_bus)
    local bsel = pc:qmp("qom-get", { path = "/machine/peripheral/bridge/bridge", property = "acpi-pcihp-bsel" })
    expect(bsel, 1)
    set(pc, SELECT, bsel)
    expect(get(pc, UP), 1 << 3)
    pc:qmp("device_del", { id = "late" })
    expect(get(pc, DOWN), 1 << 3)
    set(pc, SELECT, 0)
    expect(get(pc, DOWN), 0)
    set(pc, SELECT, bsel)
    set(pc, EJECT, 1 << 3)
    expect(pc:wait_event("DEVICE_DELETED").device, "late")
    expect_gone(pc, where)
end)

test("q35: the root bus takes nothing, a root port takes one device in slot 0", function()
    expect.error("does not support hotplugging", q35.plug, q35, "edu")
    local late = q35:plug "e1000e,id=late,bus=root"
    set(q35, SELECT, q35:qmp("qom-get", { path = "/machine/peripheral/root/root", property = "acpi-pcihp-bsel" }))
    expect(get(q35, UP), 1)
    expect.error("in use by e1000e", q35.plug, q35, "edu,bus=root,addr=0")
    expect.error("no slot left for 'edu' on bus root", q35.plug, q35, "edu,bus=root")
    expect(port.pci_express.bits.link_status.current_link_speed, 1)
    late:enable()
    local where = place(late)
    q35:qmp("device_del", { id = "late" })
    expect(get(q35, DOWN), 1)
    set(q35, EJECT, 1)
    expect(q35:wait_event("DEVICE_DELETED").device, "late")
    expect_gone(q35, where)
    expect.different(port.pci_express.bits.link_status.data_link_layer_active, 1)
end)

test("a request that nobody answered is carried out by a system reset", function()
    local late = pc:plug "edu,id=late,addr=10"
    local where = place(late)
    pc:qmp("device_del", { id = "late" })
    pc:reset()
    expect(pc:wait_event("DEVICE_DELETED").device, "late")
    expect_gone(pc, where)
end)

-- ---- devices that come and go ----

-- { name, machine, where a device is plugged }
local places = {
    { "pc, root bus", pc, "" }, { "pc, behind a bridge", pc, ",bus=bridge" }, { "q35, root port", q35, ",bus=root" },
}

for _, p in ipairs(places) do
    local name, m, bus = table.unpack(p)

    test("C21: " .. name .. ": nothing is left of an unplugged virtio-net or ivshmem, and QEMU lives", function()
        -- QEMU c3fd706165, 80ebfd69b9, bf697371db, df07a8f8cb: accesses to one that had gone
        for _, kind in ipairs { "virtio-net-pci", "virtio-net-pci,disable-legacy=on", "virtio-net-pci,disable-modern=on,disable-legacy=off",
            "ivshmem-plain" } do
            local dev = m:plug(kind .. bus)
            dev:enable()
            local where = place(dev)
            expect(dev:present(), true)
            dev:unplug()
            expect(dev:present(), false)
            expect_gone(m, where)
        end
    end)

    test(name .. ": an ivshmem shows its memory again after it was plugged again", function()
        local mem = memory { name = "kept", size = "1M" }
        local shm = m:plug("ivshmem-plain" .. bus, { memory = mem })
        shm:enable()
        local at = mem:gpa()
        mem:u32(0x40, 0x600d)
        expect(m:read(at + 0x40, 4), 0x600d)
        shm.regs.IntrMask = 5
        for round = 1, 2 do
            shm:unplug()
            expect(m:read(at + 0x40, 4), 0)
            shm:replug()
            shm:enable()
            at = mem:gpa()
            expect(m:read(at + 0x40, 4), 0x600d)
            expect(shm.regs.IntrMask, 0)
            m:write(at + 0x44, 4, round)
            expect(mem:u32(0x44), round)
        end
    end)

    test(name .. ": a virtio-net plugged in carries frames, each time it is plugged", function()
        local first = m == pc and stays or m:plug "virtio-net-pci,disable-legacy=on,bus=other"
        local late = m:plug("virtio-net-pci,disable-legacy=on,mac=02:00:00:00:00:07" .. bus)
        first:enable()
        local there = virtio_net(first)
        for round = 1, 2 do
            late:enable()
            local here = virtio_net(late)
            expect(here:mac(), mac "02:00:00:00:00:07")
            here:send(frame(60 + round, round))
            expect(there:recv(), frame(60 + round, round))
            there:send(frame(100 + round, round))
            expect(here:recv(), frame(100 + round, round))
            late:unplug()
            if round < 2 then
                late:replug()
            end
        end
    end)
end

test("unplugged with its queues running, a virtio-net writes nothing more and the others go on", function()
    local third = pc:device "virtio-net-pci,id=third,disable-legacy=on"
    local there, watch = virtio_net(stays), virtio_net(third)
    local up = virtio.bring_up(net, { memory = pc:ram(), buffers = 64 })
    local first = virtio.buffer(pc:ram(), up.header .. frame(200, 1))
    for i = 0, 31 do
        up.tx:chain(i, { first })
        up.tx:post(i)
    end
    for i = 1, 8 do
        there:send(frame(100, i))
    end
    up.rx:await(8)
    up.t:kick(virtio.TX) -- 32 frames on their way
    net:unplug()
    local used, sent = up.rx:used_idx(), up.tx:used_idx()
    local before = pc:ram():read(up.rx_buffers[8].offset, 2048)
    for i = 9, 16 do
        there:send(frame(100, i))
    end
    -- all the last eight arrive where somebody still listens
    local last
    repeat
        last = watch:recv()
    until last == frame(100, 16)
    expect({ up.rx:used_idx(), up.tx:used_idx() }, { used, sent })
    expect(pc:ram():read(up.rx_buffers[8].offset, 2048), before)
    net:replug()
    net:enable()
    there:rx_burst(64)
    virtio_net(net):send(frame(300, 17))
    expect(there:recv(), frame(300, 17))
end)

test("an interrupt that is up when its device is unplugged goes down with it", function()
    local late = pc:plug "edu,id=late"
    late:enable()
    local i = irq(late, { form = "line" })
    late.regs.irq_raise = 1
    i:wait()
    expect((pc:irq(i:line())), true)
    late:unplug()
    expect((pc:irq(i:line())), false)
end)

test("a message that is pending when its device is unplugged is never sent", function()
    local s = pci.source(pc, net, "net")
    local word = pci.word(pc)
    net:msix_message(0, word.gpa, 0x55)
    net:msix_enable()
    s.raise(0)
    expect(net:msix_pending(0), true)
    net:unplug()
    net:replug()
    net:enable()
    expect(net.msix.bits.message_control.enable, 0)
    expect(net:msix_pending(0), false)
    net:msix_enable()
    net:msix_mask(0, false)
    expect(word(), 0)
end)

test("a plugged device starts with the values of power-on, whatever its predecessor had", function()
    pc:start()
    local before = net:config_bytes():sub(0x41) -- beyond the header: no addresses in it
    net.config.interrupt_line = 0x77
    net.common.device_status = 3
    net:msix_enable()
    net:unplug()
    net:replug()
    expect({ net.config.command, net.config.interrupt_line, net.config.bar1 }, { 0, 0, 0 })
    expect(net:config_bytes():sub(0x41), before)
    net:enable()
    expect(net.common.device_status, 0)
end)

test("slots that are free again can be taken by another device", function()
    local a = pc:plug "edu,addr=10"
    a:unplug()
    local b = pc:plug "e1000e,addr=10"
    expect({ b:id() }, { 0x8086, 0x10d3 })
    expect({ a:present() }, { true }) -- the slot has somebody: not the same
    b:unplug()
    pci.expect_absent(pc, 0, 0x10, 0)
    a:replug()
    expect({ a:id() }, { 0x1234, 0x11e8 })
end)

test("a bridge can be plugged with devices behind it, and takes them along when it goes", function()
    local late = pc:plug "pci-bridge,id=late"
    local inside = pc:plug "edu,id=inside,bus=late"
    local shm = pc:plug "ivshmem-plain,id=shm,bus=late"
    inside:enable()
    shm:enable()
    expect(inside.regs.id, 0x010000ed)
    shm:memory():u32(0, 0x1234)
    expect(pc:read(shm:memory():gpa(), 4), 0x1234)
    local p, q = place(inside), place(shm)
    late:unplug()
    expect_gone(pc, p)
    expect_gone(pc, q)
    expect({ late:present(), inside:present(), shm:present() }, { false, false, false })
    pc:setup() -- the rest goes on
    expect(net.common.num_queues, 3)
    late:replug()
    inside:replug()
    inside:enable()
    expect(inside.regs.id, 0x010000ed)
end)

test("what cannot be unplugged or plugged is an error that says so", function()
    local late = pc:plug "edu,id=late"
    late:unplug()
    expect.error("it was unplugged", late.unplug, late)
    late:replug()
    expect.error("was not unplugged", late.replug, late)
    expect.error("'qwertzuiop' is not a valid device model name", pc.plug, pc, "qwertzuiop")
    expect.error("there is no device virtio%-nett%-pci to plug in; did you mean virtio%-net%-pci%?",
        pc.plug, pc, "virtio-nett-pci")
    local inside = pc:plug "pci-bridge,id=late2"
    local child = pc:plug "edu,bus=late2"
    expect.error("hangs on a bus without hotplug", child.unplug, child)
    expect(inside:present(), true)
end)

test("a doorbell device is a peer from plug to unplug", function()
    local server = ivshmem_server { memory = memory { name = "bell", size = "64k" }, vectors = 2 }
    pc:start()
    local here = server:join()
    local bell = pc:plug("ivshmem-doorbell,vectors=2", { server = server })
    bell:enable()
    expect(server:has_peer(bell:peer()), true)
    expect(bell.regs.IVPosition, bell:peer())
    bell.regs.Doorbell = here:id() << 16 | 1
    expect(here:wait(1), 1)
    local i = irq(bell, { vector = 1 })
    bell:msix_enable()
    server:ring(bell:peer(), 1)
    i:wait()
    local id, where = bell:peer(), place(bell)
    i:close()
    -- the last thing this QEMU does: 7.2 keeps watching the eventfds of a doorbell that has gone
    bell:unplug()
    expect(server:has_peer(id), false)
    pci.expect_absent(pc, table.unpack(where.address))
end)
