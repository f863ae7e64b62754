-- INTx: which input of the I/O APIC a device's pin leads to, on pc (PIIX3), on q35 (ICH9), through
-- bridges; levels, sharing, and the bit that switches it off.

local pci = require "pci"

local ROUTES = { [0] = 3, 5, 10, 11 } -- of PIRQ A to D

local pc = machine { name = "pc" }
local on_pc = {}
for slot = 4, 9 do
    on_pc[slot] = pc:device(string.format("edu,addr=%x", slot))
end
local outer = pc:device "pci-bridge,id=outer,addr=a"
local inner = pc:device "pci-bridge,id=inner,bus=outer,addr=3"
local behind, deep = {}, {}
for slot = 4, 7 do
    behind[slot] = pc:device(string.format("edu,bus=outer,addr=%x", slot))
    deep[slot] = pc:device(string.format("edu,bus=inner,addr=%x", slot))
end
local edu = on_pc[4]

-- Programs PIIX3 to these lines (0x80: none).
local function route(a, b, c, d)
    for i, line in ipairs { a, b, c, d } do
        pci.write(pc, 0, 1, 0, 0x5f + i, 1, line)
    end
end

local function routed()
    pc:start()
    route(ROUTES[0], ROUTES[1], ROUTES[2], ROUTES[3])
end

-- The inputs that are high now.
local function high(m)
    local list = {}
    for line = 0, 23 do
        if m:irq(line) then
            list[#list + 1] = line
        end
    end
    return list
end

-- The one line that follows the device's interrupt.
local function line_of(m, dev)
    dev.regs.irq_raise = 1
    local up = high(m)
    dev.regs.irq_ack = 1
    expect(high(m), {})
    return table.concat(up, ",")
end

-- ---- routing on pc ----

test("pc: pin A of a slot leads to PIRQ (slot - 1) modulo 4, and that to the line it is routed to", function()
    routed()
    for slot, dev in pairs(on_pc) do
        expect(line_of(pc, dev), tostring(ROUTES[(slot - 1) % 4]))
    end
end)

test("pc: behind a bridge pins are turned by the slot, once for each bridge", function()
    routed()
    for slot = 4, 7 do
        expect(line_of(pc, behind[slot]), tostring(ROUTES[(0xa - 1 + slot) % 4]))
        expect(line_of(pc, deep[slot]), tostring(ROUTES[(0xa - 1 + 3 + slot) % 4]))
    end
end)

test("pc: after power-on no PIRQ is routed and no line moves", function()
    pc:start()
    for i = 0, 3 do
        expect(pci.read(pc, 0, 1, 0, 0x60 + i, 1), 0x80)
    end
    for _, dev in pairs(on_pc) do
        expect(line_of(pc, dev), "")
    end
end)

test("pc: a route of its own for every PIRQ can be any line from 3 to 15", function()
    pc:start()
    for _, line in ipairs { 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15 } do
        route(0x80, 0x80, 0x80, line)
        expect(line_of(pc, edu), tostring(line)) -- slot 4: PIRQ D
        expect(line_of(pc, on_pc[5]), "")
    end
end)

test("pc: the level moves with the route, and leaves when the route is switched off", function()
    routed()
    edu.regs.irq_raise = 1
    expect(high(pc), { 11 })
    route(3, 5, 10, 9)
    expect(high(pc), { 9 })
    route(3, 5, 10, 0x80)
    expect(high(pc), {})
    route(3, 5, 10, 11)
    expect(high(pc), { 11 })
end)

test("pc: the driver finds the line by itself, and routes what was not", function()
    for slot, dev in pairs { [4] = edu, [6] = behind[6], [7] = deep[7] } do
        local i = irq(dev, { form = "line" })
        dev.regs.irq_raise = 1
        i:wait()
        expect({ slot, high(pc) }, { slot, { i:line() } })
        dev.regs.irq_ack = 1
        expect(i:raised(), false)
    end
end)

-- ---- levels ----

test("the line is high as long as the device has a cause, and rises once", function()
    routed()
    local _, before = pc:irq(11)
    edu.regs.irq_raise = 1
    edu.regs.irq_raise = 6
    expect({ pc:irq(11) }, { true, before + 1 })
    expect(edu.regs.irq_status, 7)
    edu.regs.irq_ack = 3
    expect({ pc:irq(11) }, { true, before + 1 })
    edu.regs.irq_ack = 4
    expect({ pc:irq(11) }, { false, before + 1 })
    edu.regs.irq_raise = 1
    expect({ pc:irq(11) }, { true, before + 2 })
end)

test("devices that share a line keep it high until the last one lets go", function()
    routed()
    local _, before = pc:irq(11)
    for _, dev in ipairs { on_pc[4], on_pc[8], behind[6] } do -- all on PIRQ D
        dev.regs.irq_raise = 1
        expect({ pc:irq(11) }, { true, before + 1 })
    end
    on_pc[8].regs.irq_ack = 1
    behind[6].regs.irq_ack = 1
    expect({ pc:irq(11) }, { true, before + 1 })
    on_pc[4].regs.irq_ack = 1
    expect({ pc:irq(11) }, { false, before + 1 })
end)

test("two PIRQs routed to one line share it too", function()
    pc:start()
    route(7, 7, 0x80, 0x80)
    on_pc[5].regs.irq_raise = 1 -- PIRQ A
    on_pc[6].regs.irq_raise = 1 -- PIRQ B
    expect(high(pc), { 7 })
    on_pc[5].regs.irq_ack = 1
    expect(high(pc), { 7 })
    on_pc[6].regs.irq_ack = 1
    expect(high(pc), {})
end)

-- ---- switching it off ----

test("STATUS tells of an interrupt as long as there is one, also when it is disabled", function()
    routed()
    expect(edu.config.bits.status.interrupt_status, 0)
    edu.regs.irq_raise = 1
    expect(edu.config.bits.status.interrupt_status, 1)
    edu.config.bits.command.interrupt_disable = 1
    expect(edu.config.bits.status.interrupt_status, 1)
    edu.config.bits.status.interrupt_status = 1 -- not one of those that are cleared by writing
    expect(edu.config.bits.status.interrupt_status, 1)
    edu.regs.irq_ack = 1
    expect(edu.config.bits.status.interrupt_status, 0)
end)

-- Byte writes to the upper half of COMMAND did not reach the line before QEMU 8.1: skips where they do not
-- and that QEMU may be excused.
local function check_byte_writes(m, dev, line)
    dev.regs.irq_raise = 1
    expect(high(m), { line })
    dev:config_write(5, 1, 0x04)
    local v = m:qmp("query-version").qemu
    if (v.major < 8 or v.major == 8 and v.minor < 1) and m:irq(line) then
        skip(string.format("known of QEMU before 8.1, and true of this %d.%d: the line stays high", v.major, v.minor))
    end
    for _ = 1, 2 do
        expect(high(m), {})
        dev:config_write(5, 1, 0)
        expect(high(m), { line })
        dev:config_write(5, 1, 0x04)
    end
    dev:config_write(5, 1, 0)
    dev.regs.irq_ack = 1
end

test("C09: a byte write to the upper half of COMMAND switches the line at once", function()
    -- QEMU 0f936247e8
    routed()
    check_byte_writes(pc, edu, 11)
end)

test("C09: a word or dword write to COMMAND switches the line at once", function()
    routed()
    edu.regs.irq_raise = 1
    local function set(offset, width, value)
        edu:config_write(offset, width, value)
        return high(pc)
    end
    for _ = 1, 2 do
        expect(set(4, 2, 0x0407), {})
        expect(set(4, 1, 0x07), {}) -- the lower half does not change it
        expect(set(4, 2, 0x0007), { 11 })
        expect(set(4, 4, 0x0407), {})
        expect(set(4, 4, 0x0007), { 11 })
    end
end)

test("an interrupt that comes while disabled shows when it is enabled, unless it went away", function()
    routed()
    edu.config.bits.command.interrupt_disable = 1
    edu.regs.irq_raise = 1
    expect(high(pc), {})
    edu.config.bits.command.interrupt_disable = 0
    expect(high(pc), { 11 })
    edu.config.bits.command.interrupt_disable = 1
    edu.regs.irq_ack = 1
    edu.config.bits.command.interrupt_disable = 0
    expect(high(pc), {})
end)

test("the line does not ask whether memory, ports or mastering are on", function()
    routed()
    edu.regs.irq_raise = 1
    edu.config.command = 0
    expect(high(pc), { 11 })
    edu.config.command = 7
    edu.regs.irq_ack = 1
    expect(high(pc), {})
end)

test("with MSI on, events are messages and the line stays low", function()
    routed()
    local word = pci.word(pc)
    edu.msi:set { message_address = word.gpa, message_data = 5 }
    edu.msi.bits.message_control.enable = 1
    edu.regs.irq_raise = 1
    expect({ word(), high(pc) }, { 5, {} })
end)

test("a system reset takes the routes away, and a device that is routed again starts low", function()
    routed()
    edu.regs.irq_raise = 1
    expect(high(pc), { 11 })
    pc:reset()
    for i = 0, 3 do
        expect(pci.read(pc, 0, 1, 0, 0x60 + i, 1), 0x80)
    end
    expect(edu.config.bits.status.interrupt_status, 0)
    routed()
    expect(high(pc), {})
    pc:setup()
    on_pc[8].regs.irq_raise = 1
    expect(high(pc), { 11 })
end)

-- ---- q35 ----

local q35 = machine { name = "q35", board = "q35" }
local on_q35 = {}
for _, slot in ipairs { 4, 5, 6, 7, 0x18, 0x19, 0x1a, 0x1e } do
    on_q35[slot] = q35:device(string.format("edu,addr=%x", slot))
end
local root = q35:device "pcie-root-port,id=root,addr=9"
local legs = q35:device "pcie-pci-bridge,id=legs,bus=root"
local on_legs = {}
for slot = 4, 7 do
    on_legs[slot] = q35:device(string.format("edu,bus=legs,addr=%x", slot))
end

test("q35: pin A of slots 0 to 24 leads to input 20 + slot modulo 4, with no route set", function()
    for _, slot in ipairs { 4, 5, 6, 7, 0x18 } do
        expect(line_of(q35, on_q35[slot]), tostring(20 + slot % 4))
    end
    expect(pci.read(q35, 0, 0x1f, 0, 0x60, 1), 0x80)
end)

test("q35: slots from 25 on have routes of their own", function()
    expect(line_of(q35, on_q35[0x19]), "16")
    expect(line_of(q35, on_q35[0x1a]), "16")
    expect(line_of(q35, on_q35[0x1e]), "20")
end)

test("q35: pins are turned by the bridge, then by the port they come through", function()
    for slot = 4, 7 do
        -- the bridge sits in slot 0 behind the port, which is in slot 9
        expect(line_of(q35, on_legs[slot]), tostring(20 + (9 + slot) % 4))
    end
end)

test("q35: the driver finds the line by itself", function()
    for _, dev in ipairs { on_q35[5], on_q35[0x1a], on_legs[6] } do
        local i = irq(dev, { form = "line" })
        dev.regs.irq_raise = 1
        i:wait()
        expect(high(q35), { i:line() })
        dev.regs.irq_ack = 1
        expect(i:raised(), false)
    end
end)

test("q35: a system reset lets the line go", function()
    on_legs[4].regs.irq_raise = 1
    expect(high(q35), { 21 })
    q35:reset()
    expect(high(q35), {})
    q35:setup()
    expect(on_legs[4].config.bits.status.interrupt_status, 0)
    expect(high(q35), {})
end)

test("C09: behind a port too a byte write to COMMAND switches the line at once", function()
    q35:start()
    check_byte_writes(q35, on_legs[4], 21)
end)
