-- Hotplug by the registers of a PCI Express slot, where ACPI leaves it to them: a root port and a
-- downstream port of q35. PCI Express Base 2.0, 6.7.

local pci = require "pci"
local virtio = require "virtio"

local NATIVE = { "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off" }
local m = machine { name = "native", board = "q35", args = NATIVE }
local root = m:device "pcie-root-port,id=root"
local switch = m:device "pcie-root-port,id=switch"
local up = m:device "x3130-upstream,id=up,bus=switch"
local down = m:device "xio3130-downstream,id=down,bus=up"
local boot = m:device "pcie-root-port,id=boot"
local there = m:device "virtio-net-pci,id=there,bus=boot"

-- slot status
local BUTTON, PRESENCE_CHANGED, COMMAND_COMPLETED, PRESENT = 0x01, 0x08, 0x10, 0x40
-- slot control: power off (1: off), indicator on and off
local POWER_OFF, LIGHT_ON, LIGHT_OFF = 0x400, 0x100, 0x300

local function status(port)
    return port.pci_express.slot_status
end

local function power(port, on)
    local e = port.pci_express
    e.slot_control = e.slot_control & ~0x700 | (on and LIGHT_ON or POWER_OFF | LIGHT_OFF)
end

local function add(spec)
    m:start()
    m:qmp("device_add", spec)
end

local function id_behind(port)
    return pci.read(m, port.config.secondary_bus, 0, 0, 0, 4)
end

test("ports say what their slots have: button, power, lights, hotplug", function()
    for _, port in ipairs { root, down, boot } do
        local c = port.pci_express.bits.slot_capabilities
        expect({ c.attention_button, c.power_controller, c.attention_indicator, c.power_indicator, c.hot_plug_capable, c
            .hot_plug_surprise }, { 1, 1, 1, 1, 1, 1 })
    end
end)

test("an empty slot is off; one that was filled before the start is on", function()
    expect(root.pci_express.slot_control, 0x07c0)
    expect(status(root), 0)
    expect(root.pci_express.bits.link_status.data_link_layer_active, 0)
    expect(boot.pci_express.slot_control, 0x01c0)
    expect(status(boot), PRESENT)
    expect(boot.pci_express.bits.link_status.data_link_layer_active, 1)
    expect(there.common.num_queues, 3)
end)

for _, p in ipairs { { "root port", root, "root" }, { "downstream port", down, "down" } } do
    local name, port, bus = table.unpack(p)

    test(name .. ": a plugged device is told, and answers once its slot has power", function()
        add { driver = "virtio-net-pci", id = "late", bus = bus }
        expect(status(port), PRESENT | PRESENCE_CHANGED | BUTTON)
        expect(id_behind(port), 0xffffffff)
        pci.expect_absent(m, port.config.secondary_bus, 0, 0)
        power(port, true)
        expect(id_behind(port), 0x10411af4)
        expect(status(port), PRESENT | PRESENCE_CHANGED | BUTTON | COMMAND_COMPLETED)
        port.pci_express.slot_status = BUTTON | PRESENCE_CHANGED | COMMAND_COMPLETED
        expect(status(port), PRESENT)
        expect(port.pci_express.slot_control, 0x01c0)
    end)

    test(name .. ": device_del presses the button, and taking the power away lets it go", function()
        add { driver = "virtio-net-pci", id = "late", bus = bus }
        power(port, true)
        port.pci_express.slot_status = BUTTON | PRESENCE_CHANGED | COMMAND_COMPLETED
        m:qmp("device_del", { id = "late" })
        expect(status(port), PRESENT | BUTTON)
        expect(id_behind(port), 0x10411af4)
        expect.error("already in the process of unplug", m.qmp, m, "device_del", { id = "late" })
        power(port, false)
        expect(m:wait_event("DEVICE_DELETED", nil, "device", "late").device, "late")
        pci.expect_absent(m, port.config.secondary_bus, 0, 0)
        expect(status(port), BUTTON | PRESENCE_CHANGED | COMMAND_COMPLETED)
        expect(port.pci_express.slot_control, 0x07c0)
        expect(port.pci_express.bits.link_status.data_link_layer_active, 0)
    end)
end

test("status bits of events are cleared by writing one, each by itself; the others cannot be written", function()
    add { driver = "edu", id = "late", bus = "root" }
    power(root, true)
    expect(status(root), PRESENT | PRESENCE_CHANGED | BUTTON | COMMAND_COMPLETED)
    root.pci_express.slot_status = 0
    expect(status(root), PRESENT | PRESENCE_CHANGED | BUTTON | COMMAND_COMPLETED)
    root.pci_express.slot_status = BUTTON
    expect(status(root), PRESENT | PRESENCE_CHANGED | COMMAND_COMPLETED)
    -- A write of a bit that has not been seen set would lose the event that sets it: QEMU clears nothing then.
    root.pci_express.slot_status = BUTTON | COMMAND_COMPLETED
    expect(status(root), PRESENT | PRESENCE_CHANGED | COMMAND_COMPLETED)
    root.pci_express.slot_status = PRESENT | COMMAND_COMPLETED
    expect(status(root), PRESENT | PRESENCE_CHANGED)
    root.pci_express.slot_status = PRESENCE_CHANGED
    expect(status(root), PRESENT)
end)

test("a slot without power hides its device entirely, and the device keeps its place", function()
    local late = m:plug "edu,id=late,bus=root"
    late:enable()
    local at = late:bar(0).base
    expect(m:read(at, 4), 0x010000ed)
    late:unplug()
    add { driver = "edu", id = "late", bus = "root" }
    expect(id_behind(root), 0xffffffff)
    pci.write(m, root.config.secondary_bus, 0, 0, 0x10, 4, at)
    pci.write(m, root.config.secondary_bus, 0, 0, 0x04, 2, 7)
    expect(m:read(at, 4), 0)
    power(root, true)
    expect(pci.read(m, root.config.secondary_bus, 0, 0, 0x04, 2), 0) -- the writes went nowhere
    expect(id_behind(root), 0x11e81234)
end)

test("taking the power away removes the device also if nobody asked", function()
    add { driver = "edu", id = "late", bus = "root" }
    power(root, true)
    power(root, false)
    expect(m:wait_event("DEVICE_DELETED").device, "late")
    expect(id_behind(root), 0xffffffff)
end)

test("the device goes when power and light are both off, in whichever order", function()
    local e = root.pci_express
    for _, first in ipairs { POWER_OFF, LIGHT_OFF } do
        add { driver = "edu", id = "late", bus = "root" }
        power(root, true)
        e.slot_control = e.slot_control | first
        expect(e.bits.slot_status.presence_detect_state, 1)
        expect(id_behind(root), first == POWER_OFF and 0xffffffff or 0x11e81234)
        power(root, true) -- it can still come back
        expect(id_behind(root), 0x11e81234)
        e.slot_control = e.slot_control | first
        e.slot_control = e.slot_control | POWER_OFF | LIGHT_OFF
        expect(e.bits.slot_status.presence_detect_state, 0)
        power(root, true)
        expect(id_behind(root), 0xffffffff)
        power(root, false)
        expect(m:wait_event("DEVICE_DELETED").device, "late")
    end
end)

test("while the light blinks device_del is refused", function()
    add { driver = "edu", id = "late", bus = "root" }
    local e = root.pci_express
    e.slot_control = e.slot_control & ~0x700 | 0x200
    expect.error("guest is busy", m.qmp, m, "device_del", { id = "late" })
    power(root, true)
    m:qmp("device_del", { id = "late" })
    expect(id_behind(root), 0x11e81234)
end)

test("a device in a slot without power is gone as soon as it is asked for", function()
    add { driver = "edu", id = "late", bus = "root" }
    m:qmp("device_del", { id = "late" })
    expect(m:wait_event("DEVICE_DELETED").device, "late")
end)

test("a hotplug interrupt comes as a message, if the slot's interrupts are on", function()
    local word = pci.word(m)
    local vector = root.pci_express.bits.capabilities.interrupt_message_number
    root:msix_message(vector, word.gpa, 0x707)
    root:msix_mask(vector, false)
    root:msix_enable()
    add { driver = "edu", id = "late", bus = "root" }
    expect(word.take(), 0) -- no interrupt was asked for
    power(root, true)
    power(root, false)
    expect(m:wait_event("DEVICE_DELETED").device, "late")
    expect(status(root), BUTTON | PRESENCE_CHANGED | COMMAND_COMPLETED)
    root.pci_express.slot_status = BUTTON | PRESENCE_CHANGED | COMMAND_COMPLETED
    root.pci_express.bits.slot_control.presence_detect_enable = 1
    root.pci_express.bits.slot_control.hot_plug_interrupt_enable = 1
    expect(word.take(), 0)
    add { driver = "edu", id = "next", bus = "root" }
    expect(word.take(), 0x707)
end)

test("a system reset does not carry out a request that nobody answered", function()
    add { driver = "edu", id = "late", bus = "root" }
    power(root, true)
    m:qmp("device_del", { id = "late" })
    m:reset()
    m:setup()
    expect(id_behind(root), 0x11e81234)
end)

-- ---- with the guest's part played for us ----

for _, bus in ipairs { "root", "down" } do
    test("C21: " .. bus .. ": devices are plugged, used, unplugged and plugged again", function()
        local mem = memory { name = "kept", size = "1M" }
        local peer = virtio_net(there)
        for round = 1, 2 do
            local late = m:plug("virtio-net-pci,bus=" .. bus)
            late:enable()
            local here = virtio_net(late)
            here:send(frame(60, round))
            expect(peer:recv(), frame(60, round))
            peer:send(frame(90, round))
            expect(here:recv(), frame(90, round))
            local at, nr = late:bar(4).base, (late:address())
            late:unplug()
            pci.expect_absent(m, nr, 0, 0)
            expect(m:read(at + 0x12, 2), 0)
            local shm = m:plug("ivshmem-plain,bus=" .. bus, { memory = mem })
            shm:enable()
            mem:u32(0, round)
            expect(m:read(mem:gpa(), 4), round)
            shm:unplug()
            pci.expect_absent(m, nr, 0, 0)
        end
    end)
end

test("unplugged with its queues running, a virtio-net writes nothing more", function()
    local late = m:plug "virtio-net-pci,bus=root"
    late:enable()
    local peer = virtio_net(there)
    local ring = virtio.bring_up(late, { memory = m:ram(), buffers = 16 })
    peer:send(frame(60, 1))
    ring.rx:await(1)
    late:unplug()
    expect(peer:tx_burst { frame(60, 2) }, 1) -- for nobody: waits, or is dropped when a port comes
    virtio.settle(m)
    expect(ring.rx:used_idx(), 1)
    late:replug()
    late:enable()
    expect(late.common.device_status, 0)
    local here = virtio_net(late)
    expect(peer:tx_burst { frame(60, 3) }, 1)
    repeat
        local got = here:recv()
    until got == frame(60, 3)
    expect(ring.rx:used_idx(), 1)
end)
