-- PCI Express configuration space in memory (ECAM): where q35's host bridge shows it, and what lies
-- beyond the first 256 bytes. PCI Express Base 2.0, 7.2.2 and 7.9.

local pci = require "pci"

local m = machine { board = "q35" }
local port = m:device "pcie-root-port,id=root"
local nic = m:device "e1000e,bus=root"
local edu = m:device "edu"

local BASE, ENABLE = 0xb0000000, 1
local PCIEXBAR = 0x60

local function at(dev, offset)
    local bus, slot, fn = dev:address()
    return BASE + (bus << 20 | slot << 15 | fn << 12 | (offset or 0))
end

local function place(value)
    pci.write(m, 0, 0, 0, PCIEXBAR + 4, 4, value >> 32)
    pci.write(m, 0, 0, 0, PCIEXBAR, 4, value & 0xffffffff)
end

-- The extended capabilities of a function: { { id =, at = }, ... }.
local function extended(dev)
    local list, offset = {}, 0x100
    while offset ~= 0 do
        local header = dev:config_read(offset, 4)
        if header == 0 or header == 0xffffffff then
            break
        end
        list[#list + 1] = { id = header & 0xffff, version = header >> 16 & 0xf, at = offset }
        offset = header >> 20
    end
    return list
end

test("after power-on ECAM is off, though its register names a place", function()
    m:start()
    expect(pci.read(m, 0, 0, 0, PCIEXBAR, 4), 0xb0000000)
    expect(pci.read(m, 0, 0, 0, PCIEXBAR + 4, 4), 0)
    expect(m:read(at(edu), 4), 0)
    place(BASE | ENABLE)
    expect(m:read(at(edu), 4), 0x11e81234)
    place(BASE)
    expect(m:read(at(edu), 4), 0)
end)

test("ECAM and the ports show the same first 256 bytes of every function", function()
    m:start()
    place(BASE | ENABLE)
    local functions = m:functions()
    expect(#functions, 7) -- four of the board, three declared
    for _, f in ipairs(functions) do
        expect(m:bytes(at(f), 256, "mmio"), f:config_bytes())
    end
end)

test("every width that is aligned reads the same bytes", function()
    m:start()
    place(BASE | ENABLE)
    expect(m:read(at(edu), 4), 0x11e81234)
    expect(m:read(at(edu, 1), 1), 0x12)
    expect(m:read(at(edu, 2), 2), 0x11e8)
    expect(m:read(at(edu, 0x08), 8), m:read(at(edu, 0x0c), 4) << 32 | m:read(at(edu, 0x08), 4))
end)

test("what one way writes the other reads", function()
    m:start()
    place(BASE | ENABLE)
    m:write(at(edu, 0x3c), 1, 0x42)
    expect(edu.config.interrupt_line, 0x42)
    edu.config.interrupt_line = 0x24
    expect(m:read(at(edu, 0x3c), 1), 0x24)
    m:write(at(edu, 0x04), 2, 0)
    expect(edu.config.command, 0)
    expect(edu.regs.id, 0)
    m:write(at(edu, 0x04), 2, 2)
    expect(edu.regs.id, 0x010000ed)
end)

test("functions and buses where nothing is read all ones", function()
    m:start()
    place(BASE | ENABLE)
    local _, slot = edu:address()
    for _, where in ipairs { 0 << 20 | 3 << 15, 0 << 20 | slot << 15 | 1 << 12, 2 << 20, 255 << 20 | 31 << 15 | 7 << 12 } do
        for _, width in ipairs { 1, 2, 4, 8 } do
            expect(m:read(BASE + where, width), pci.ones(width))
            expect(m:read(BASE + where + 0x100, width), pci.ones(width))
        end
        m:write(BASE + where, 4, 0)
    end
    expect(m:read(BASE + (256 << 20), 4), 0) -- past the last bus: no configuration space
end)

test("its place can be moved, also above 4 GiB", function()
    m:start()
    for _, base in ipairs { 0x80000000, 0xc0000000, 0x840000000 } do
        place(base | ENABLE)
        local _, slot = edu:address()
        expect(m:read(base + (slot << 15), 4), 0x11e81234)
        expect(m:read(at(edu), 4), 0)
    end
end)

test("half and a quarter of its length show half and a quarter of the buses", function()
    m:start()
    for _, t in ipairs { { 0, 256 }, { 2, 128 }, { 4, 64 } } do
        local length, buses = table.unpack(t)
        place(BASE | length | ENABLE)
        expect(m:read(at(edu), 4), 0x11e81234)
        expect(m:read(BASE + (buses << 20) - 4, 4), 0xffffffff) -- the last bus, where nothing is
        expect(m:read(BASE + (buses << 20), 4), 0)
    end
end)

test("a conventional function has nothing beyond 256 bytes, an express one has", function()
    for offset = 0x100, 0xffc, 0x7c do
        expect(edu:config_read(offset, 4), 0xffffffff)
    end
    expect(nic:config_read(0xffc, 4), 0)
end)

test("extended capabilities: advanced error reporting and a serial number, or access control", function()
    expect(extended(nic), { { id = 1, version = 2, at = 0x100 }, { id = 3, version = 1, at = 0x140 } })
    expect(extended(port), { { id = 1, version = 2, at = 0x100 }, { id = 0xd, version = 1, at = 0x148 } })
end)

test("error severities in the extended space are sticky: a bus reset leaves them as written", function()
    local severity, poisoned = 0x10c, 0x1000 -- of uncorrectable errors, 7.10.4
    local default = nic:config_read(severity, 4)
    expect(default, 0x462030)
    nic:config_write(severity, 4, default | poisoned)
    expect(nic:config_read(severity, 4), default | poisoned)
    port.config.bits.bridge_control.secondary_bus_reset = 1
    port.config.bits.bridge_control.secondary_bus_reset = 0
    expect(nic.config.command, 0)
    expect(nic:config_read(severity, 4), default | poisoned)
end)

test("a system reset switches it off", function()
    m:start()
    place(0xc0000000 | ENABLE)
    m:reset()
    expect(pci.read(m, 0, 0, 0, PCIEXBAR, 4), 0xb0000000)
    expect(m:read(0xc0000000, 4), 0)
    expect(m:read(BASE, 4), 0)
    m:setup()
    expect(extended(nic)[1].id, 1) -- the driver opens it again when it needs it
end)
