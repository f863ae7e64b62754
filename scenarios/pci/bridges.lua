-- Bridges: bus numbers, windows, reset of what lies behind; conventional ones on pc, root ports and a
-- switch on q35. Follows PCI-to-PCI Bridge 1.2, 3.

local pci = require "pci"

local pc = machine { name = "pc" }
local outer = pc:device "pci-bridge,id=outer"
local inner = pc:device "pci-bridge,id=inner,bus=outer"
local near = pc:device "edu,id=near,bus=outer,addr=5"
local far = pc:device "edu,id=far,bus=inner,addr=3"
local net = pc:device "virtio-net-pci,id=net,bus=inner"
local shm = pc:device "ivshmem-plain,bus=outer"
local aside = pc:device "edu,id=aside"

local q35 = machine { name = "q35", board = "q35" }
local port = q35:device "pcie-root-port,id=root"
local empty = q35:device "pcie-root-port,id=vacant"
local up = q35:device "x3130-upstream,id=up,bus=root"
local down = q35:device "xio3130-downstream,id=down,bus=up"
local legs = q35:device "pcie-pci-bridge,id=legs,bus=down"
local qnet = q35:device "virtio-net-pci,id=qnet,bus=legs" -- four bridges deep

-- The windows of a bridge as its registers tell them: { first, last }, nil if closed.
local function window(bridge, kind)
    local c = bridge.config
    local first, last
    if kind == "io" then
        first, last = (c.io_base & 0xf0) << 8, (c.io_limit & 0xf0) << 8 | 0xfff
    elseif kind == "mem" then
        first, last = c.memory_base << 16, c.memory_limit << 16 | 0xfffff
    else
        first = c.prefetchable_base_upper << 32 | (c.prefetchable_memory_base & 0xfff0) << 16
        last = c.prefetchable_limit_upper << 32 | (c.prefetchable_memory_limit & 0xfff0) << 16 | 0xfffff
    end
    return first < last and { first, last } or nil
end

local function contains(outer_window, inner_window)
    return outer_window[1] <= inner_window[1] and inner_window[2] <= outer_window[2]
end

local function numbers(bridge)
    return { bridge.config.primary_bus, bridge.config.secondary_bus, bridge.config.subordinate_bus }
end

-- ---- bus numbers ----

test("the scan numbers buses depth first, and every bridge covers what lies behind it", function()
    local o, i = numbers(outer), numbers(inner)
    expect({ o[1], o[2] }, { 0, 1 })
    expect({ i[1], i[2] }, { 1, 2 })
    expect.at_least(o[3], i[3])
    expect({ near:address() }, { 1, 5, 0 })
    expect({ far:address() }, { 2, 3, 0 })
    expect(outer.config.header_type, 1)
    expect({ outer.config.base_class, outer.config.sub_class }, { 6, 4 })
end)

test("a function behind four bridges is found and driven", function()
    local at = 0
    for _, bridge in ipairs { port, up, down, legs } do
        local n = numbers(bridge)
        expect(n[1], at)
        at = n[2]
        expect.at_least(n[3], n[2])
        expect.at_least(numbers(port)[3], n[3])
    end
    expect((qnet:address()), at)
    expect(qnet.common.num_queues, 3)
    expect(qnet.legacy.queue_size, 256) -- through four I/O windows
end)

test("without bus numbers nothing behind a bridge answers", function()
    local bus, slot = far:address()
    expect(pci.read(pc, bus, slot, 0, 0, 4), 0x11e81234)
    inner.config.secondary_bus = 0
    inner.config.subordinate_bus = 0
    pci.expect_absent(pc, bus, slot, 0)
    inner.config.secondary_bus = 2
    inner.config.subordinate_bus = 2
    expect(pci.read(pc, bus, slot, 0, 0, 4), 0x11e81234)
end)

test("a bus beyond the subordinate number of a bridge above is not reached", function()
    outer.config.subordinate_bus = 1
    pci.expect_absent(pc, 2, 3, 0)
    expect(pci.read(pc, 1, 5, 0, 0, 4), 0x11e81234)
    outer.config.subordinate_bus = 2
    expect(pci.read(pc, 2, 3, 0, 0, 4), 0x11e81234)
end)

test("buses may have any numbers, and functions follow them", function()
    outer.config.subordinate_bus = 0xe7
    outer.config.secondary_bus = 0x40
    pci.expect_absent(pc, 1, 5, 0)
    expect(pci.read(pc, 0x40, 5, 0, 0, 4), 0x11e81234)
    pci.write(pc, 0x40, 1, 0, 0x18, 4, 0xe7e740) -- the inner bridge
    expect(pci.read(pc, 0xe7, 3, 0, 0, 4), 0x11e81234)
end)

-- ---- windows ----

test("windows lie inside the windows above and hold the BARs behind", function()
    for _, kind in ipairs { "io", "mem", "prefetchable" } do
        expect(contains(window(outer, kind), window(inner, kind)))
    end
    local function inside(bridge, kind, dev, bar)
        local b = dev:bar(bar)
        expect(contains(window(bridge, kind), { b.base, b.base + b.size - 1 }))
    end
    inside(inner, "mem", far, 0)
    inside(inner, "io", net, 0)
    inside(inner, "mem", net, 1)
    inside(inner, "mem", net, 4)
    inside(outer, "mem", near, 0)
    inside(outer, "mem", shm, 2)
    expect(far.regs.id, 0x010000ed)
    expect(net.legacy.queue_size, 256)
end)

test("window registers keep the bits that count: 4 KiB of ports, 1 MiB of memory, 64 bits of prefetchable", function()
    local c = outer.config
    c.io_base, c.io_limit = 0xff, 0xff
    expect({ c.io_base, c.io_limit }, { 0xf0, 0xf0 })
    c.memory_base, c.memory_limit = 0xffff, 0xffff
    expect({ c.memory_base, c.memory_limit }, { 0xfff0, 0xfff0 })
    c.prefetchable_memory_base, c.prefetchable_memory_limit = 0xffff, 0xffff
    expect({ c.prefetchable_memory_base, c.prefetchable_memory_limit }, { 0xfff1, 0xfff1 })
    c.prefetchable_base_upper, c.prefetchable_limit_upper = 0xffffffff, 0xffffffff
    expect({ c.prefetchable_base_upper, c.prefetchable_limit_upper }, { 0xffffffff, 0xffffffff })
end)

test("memory outside the window is not forwarded, inside it is, up to the last byte", function()
    local first, last = table.unpack(window(outer, "mem"))
    near.regs.liveness = 0
    near:place_bar(0, last + 1 - 0x100000)
    expect(near.regs.liveness, 0xffffffff)
    expect(pc:read(last + 1 - 4, 4), pci.ones(4))
    near:place_bar(0, last + 1)
    expect(near.regs.id, 0)
    near:place_bar(0, first - 0x100000)
    expect(near.regs.id, 0)
    near:place_bar(0, first)
    inner.config.command = 0 -- whose window starts there too
    expect(near.regs.id, 0x010000ed)
end)

test("a window whose base lies above its limit is closed", function()
    expect(near.regs.id, 0x010000ed)
    outer.config.memory_limit = outer.config.memory_base - 0x10
    expect(near.regs.id, 0)
    expect(far.regs.id, 0) -- and with it all behind
    expect(aside.regs.id, 0x010000ed)
end)

test("a bridge forwards memory and ports only while it decodes them", function()
    local ports = net:bar(0).base
    local function answers()
        return { far.regs.id, pc:inp(ports + 0x0c, 2) }
    end
    expect(answers(), { 0x010000ed, 256 })
    outer.config.bits.command.memory_space = 0
    expect(answers(), { 0, 256 })
    outer.config.bits.command.io_space = 0
    expect(answers(), { 0, 0xffff })
    outer.config.bits.command.memory_space = 1
    expect(answers(), { 0x010000ed, 0xffff })
    outer.config.bits.command.io_space = 1
    expect(answers(), { 0x010000ed, 256 })
    -- configuration cycles pass all the time
    outer.config.command = 0
    expect(pci.read(pc, 2, 3, 0, 0, 4), 0x11e81234)
end)

test("the prefetchable window reaches above 4 GiB", function()
    local first, last = table.unpack(window(inner, "prefetchable"))
    expect.above(first, 0xffffffff)
    net:place_bar(4, first)
    expect(pc:read(first + 0x12, 2), 3)
    net:place_bar(4, last + 1 - 0x4000)
    expect(pc:read(last + 1 - 0x4000 + 0x12, 2), 3)
    net:place_bar(4, last + 1)
    expect(pc:read(last + 1 + 0x12, 2), 0)
end)

test("memory shown behind a bridge is the same for the bus, for this process and for a device's DMA", function()
    local mem = shm:memory()
    mem:u32(0x100, 0xc0ffee)
    expect(pc:read(mem:gpa(0x100), 4), 0xc0ffee)
    pc:write(mem:gpa(0x104), 4, 0xf00d)
    expect(mem:u32(0x104), 0xf00d)
    -- an MSI of a device on another bus
    aside.msi.message_address = mem:gpa(0x200) & 0xffffffff
    aside.msi.message_upper_address = mem:gpa(0x200) >> 32
    aside.msi.message_data = 0x4711
    aside.msi.bits.message_control.enable = 1
    aside.regs.irq_raise = 1
    expect(mem:u32(0x200), 0x4711)
end)

-- ---- reset ----

test("secondary bus reset resets all that lies behind, at any depth, and nothing else", function()
    near.config.interrupt_line, far.config.interrupt_line, aside.config.interrupt_line = 1, 2, 3
    net.common.device_status = 3
    local windows = outer:config_bytes():sub(0x19, 0x30)
    outer.config.bits.bridge_control.secondary_bus_reset = 1
    outer.config.bits.bridge_control.secondary_bus_reset = 0
    expect(outer:config_bytes():sub(0x19, 0x30), windows)
    expect({ aside.config.interrupt_line, aside.config.command }, { 3, 7 })
    for _, dev in ipairs { near, inner, shm } do
        expect({ dev.config.command, dev.config.interrupt_line, dev.config.bar0 & ~0xf }, { 0, 0, 0 })
    end
    expect(numbers(inner), { 0, 0, 0 })
    pc:setup()
    expect({ far.config.interrupt_line, far.config.command }, { 0, 7 })
    expect(net.common.device_status, 0)
    expect(far.regs.id, 0x010000ed)
end)

test("a system reset takes numbers and windows; the next scan gives them back", function()
    pc:start()
    local before = { numbers(outer), window(outer, "mem"), numbers(inner), window(inner, "io") }
    local bar = outer:bar(0).base
    pc:reset()
    expect(numbers(outer), { 0, 0, 0 })
    expect({ outer.config.memory_base, outer.config.memory_limit, outer.config.command }, { 0, 0, 0 })
    pci.expect_absent(pc, 1, 5, 0)
    pc:setup()
    expect({ numbers(outer), window(outer, "mem"), numbers(inner), window(inner, "io") }, before)
    expect(outer:bar(0).base, bar)
    expect(outer:config_read(0x10, 4) & ~0xf, bar)
    expect(far.regs.id, 0x010000ed)
end)

-- ---- ports of PCI Express ----

test("a port leads to slot 0 only", function()
    q35:start()
    local bus = port.config.secondary_bus
    expect(pci.read(q35, bus, 0, 0, 0, 4), 0x8232104c)
    for slot = 1, 31 do
        expect(pci.read(q35, bus, slot, 0, 0, 4), 0xffffffff)
    end
end)

test("behind an empty port nothing answers, and its link is down", function()
    expect(empty.pci_express.bits.link_status.data_link_layer_active, 0)
    expect(empty.pci_express.bits.slot_status.presence_detect_state, 0)
    pci.expect_absent(q35, empty.config.secondary_bus, 0, 0)
    expect(window(empty, "mem") ~= nil) -- room for what may come
end)

test("ports tell what they are: root, upstream, downstream, and a bridge to conventional PCI", function()
    local function kind(dev)
        return dev.pci_express.bits.capabilities.device_port_type
    end
    expect({ kind(port), kind(up), kind(down), kind(legs) }, { 4, 5, 6, 7 })
    expect(port.pci_express.bits.capabilities.slot_implemented, 1)
    expect(up.pci_express.bits.capabilities.slot_implemented, 0)
    expect(down.pci_express.bits.capabilities.slot_implemented, 1)
end)
