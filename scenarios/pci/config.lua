-- Configuration space: how it is reached, what its header says, what of it can be written.

local pci = require "pci"

local m = machine()
local function device(name, spec, ids, class, revision, subsystem, pin)
    return { name = name, dev = m:device(spec), ids = ids, class = class, revision = revision, subsystem = subsystem, pin = pin }
end
local qemu = { 0x1af4, 0x1100 } -- the subsystem of most of QEMU's own devices
local devices = {
    device("virtio-net modern", "virtio-net-pci,disable-legacy=on", { 0x1af4, 0x1041 }, 0x020000, 1, qemu, 1),
    device("virtio-net transitional", "virtio-net-pci", { 0x1af4, 0x1000 }, 0x020000, 0, { 0x1af4, 1 }, 1),
    device("virtio-net legacy", "virtio-net-pci,disable-modern=on", { 0x1af4, 0x1000 }, 0x020000, 0, { 0x1af4, 1 }, 1),
    device("ivshmem-plain", "ivshmem-plain", { 0x1af4, 0x1110 }, 0x050000, 1, qemu, 0),
    device("ivshmem-doorbell", "ivshmem-doorbell", { 0x1af4, 0x1110 }, 0x050000, 1, qemu, 0),
    device("edu", "edu", { 0x1234, 0x11e8 }, 0x00ff00, 0x10, qemu, 1),
    device("e1000e", "e1000e", { 0x8086, 0x10d3 }, 0x020000, 0, { 0x8086, 0 }, 1),
}
local edu = devices[6].dev
local two = machine { name = "two functions" }
local first = two:device "edu,addr=10.0,multifunction=on"
local second = two:device "edu,addr=10.3"

-- ---- the header ----

test("every device says who it is", function()
    for _, d in ipairs(devices) do
        local c = d.dev.config
        expect({ c.vendor_id, c.device_id }, d.ids)
        expect(c.base_class << 16 | c.sub_class << 8 | c.prog_if, d.class)
        expect(c.revision_id, d.revision)
        expect({ c.subsystem_vendor_id, c.subsystem_id }, d.subsystem)
        expect({ c.header_type, c.interrupt_pin, c.bist }, { 0, d.pin, 0 })
    end
end)

test("what identifies a device cannot be written, at any width", function()
    for _, d in ipairs(devices) do
        local before = d.dev:config_bytes()
        local read_only = { 0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0a, 0x0b, 0x0e, 0x0f, 0x2c, 0x2d, 0x2e, 0x2f, 0x34, 0x3d, 0x3e,
            0x3f }
        for _, value in ipairs { 0xff, 0x00 } do
            for _, offset in ipairs(read_only) do
                d.dev:config_write(offset, 1, value)
            end
            for _, offset in ipairs { 0x00, 0x08, 0x2c } do
                d.dev:config_write(offset, 2, value << 8 | value)
                d.dev:config_write(offset, 4, value << 24 | value << 16 | value << 8 | value)
            end
        end
        expect(d.dev:config_bytes(), before)
    end
end)

test("COMMAND keeps I/O, memory, mastering, SERR and interrupt disable, and nothing else", function()
    for _, d in ipairs(devices) do
        d.dev.config.command = 0xffff
        expect(d.dev.config.command, 0x0507)
        d.dev.config.command = 0
        expect(d.dev.config.command, 0)
    end
end)

test("every COMMAND bit is set and cleared by itself", function()
    local command = edu.config.bits.command
    local masks = { io_space = 1, memory_space = 2, bus_master = 4, serr_enable = 0x100, interrupt_disable = 0x400 }
    edu.config.command = 0
    for name, mask in pairs(masks) do
        command[name] = 1
        expect(edu.config.command, mask)
        command[name] = 0
        expect(edu.config.command, 0)
    end
end)

test("writing ones to STATUS sets nothing", function()
    for _, d in ipairs(devices) do
        local before = d.dev.config.status
        d.dev.config.status = 0xffff
        expect(d.dev.config.status, before)
    end
end)

test("interrupt line and cache line size are scratch, the latency timer is wired to zero", function()
    for _, d in ipairs(devices) do
        local c = d.dev.config
        for _, value in ipairs { 0xff, 0x5a, 0 } do
            c.interrupt_line, c.cache_line_size, c.latency_timer = value, value, value
            expect({ c.interrupt_line, c.cache_line_size, c.latency_timer }, { value, value, 0 })
        end
        expect(c.interrupt_pin, d.pin)
    end
end)

-- ---- accesses ----

test("bytes, words and dwords of configuration space tell the same", function()
    for _, d in ipairs { devices[1], devices[5] } do
        local bytes, words, dwords = {}, {}, {}
        for offset = 0, 255 do
            bytes[#bytes + 1] = string.pack("<I1", d.dev:config_read(offset, 1))
        end
        for offset = 0, 254, 2 do
            words[#words + 1] = string.pack("<I2", d.dev:config_read(offset, 2))
        end
        for offset = 0, 252, 4 do
            dwords[#dwords + 1] = string.pack("<I4", d.dev:config_read(offset, 4))
        end
        expect(table.concat(words), table.concat(bytes))
        expect(table.concat(dwords), table.concat(bytes))
    end
end)

test("a write of one byte or word leaves its neighbours alone", function()
    edu.config.command = 0
    edu:config_write(0x0c, 4, 0)
    edu:config_write(0x3c, 1, 0x11)
    expect(edu:config_read(0x3c, 4), 0x00000111) -- the pin behind it
    edu:config_write(0x04, 1, 0x07)
    expect(edu:config_read(0x04, 2), 0x0007)
    edu:config_write(0x05, 1, 0x04)
    expect(edu:config_read(0x04, 2), 0x0407)
    edu:config_write(0x04, 1, 0)
    expect(edu:config_read(0x04, 2), 0x0400)
    edu:config_write(0x10, 1, 0xff) -- below the BAR's size: no bit of it can be written
    expect(edu:config_read(0x10, 4), edu:bar(0).base)
    edu:config_write(0x13, 1, 0xd0)
    expect(edu:config_read(0x10, 4), edu:bar(0).base & 0xffffff | 0xd0000000)
    edu:config_write(0x12, 2, 0xc120)
    expect(edu:config_read(0x10, 4), 0xc1200000)
end)

test("the data port's lanes read any byte, also out of alignment", function()
    local _, slot = edu:address() -- 34 12 e8 11
    expect(pci.read(m, 0, slot, 0, 0, 4), 0x11e81234)
    expect(pci.read(m, 0, slot, 0, 1, 1), 0x12)
    expect(pci.read(m, 0, slot, 0, 1, 2), 0xe812)
    expect(pci.read(m, 0, slot, 0, 2, 2), 0x11e8)
    expect(pci.read(m, 0, slot, 0, 3, 2), 0xff11) -- the next port is nobody's
end)

test("the address port's two low bits are kept, and count", function()
    -- the specification wires them to zero; QEMU reads from where they point
    local _, slot = edu:address()
    edu.config.command = 7
    m:outp(0xcf8, 4, 0x80000000 | slot << 11 | 2)
    expect(m:inp(0xcf8, 4), 0x80000000 | slot << 11 | 2)
    expect(m:inp(0xcfc, 4), 0x000711e8)
end)

test("the address port keeps what dwords write to it and ignores bytes and words", function()
    m:outp(0xcf8, 4, 0xffffffff)
    expect(m:inp(0xcf8, 4), 0xffffffff)
    m:outp(0xcf8, 4, 0x80002000)
    m:outp(0xcf8, 1, 0x3c)
    m:outp(0xcf8, 2, 0x1234)
    expect(m:inp(0xcf8, 4), 0x80002000)
end)

-- ---- what is not there ----

test("without its enable bit the address selects nothing", function()
    local _, slot = edu:address()
    m:outp(0xcf8, 4, 0x80000000 | slot << 11)
    expect(m:inp(0xcfc, 4), 0x11e81234)
    m:outp(0xcf8, 4, slot << 11)
    for _, width in ipairs { 1, 2, 4 } do
        expect(m:inp(0xcfc, width), pci.ones(width))
    end
    m:outp(0xcfc, 4, 0)
    m:outp(0xcf8, 4, 0x80000000 | slot << 11)
    expect(m:inp(0xcfc, 4), 0x11e81234)
end)

test("slots, functions and buses where nothing is read all ones and take writes without a trace", function()
    m:start()
    local before = {}
    for i, f in ipairs(m:functions()) do
        before[i] = f:config_bytes()
    end
    local _, slot = edu:address()
    for _, where in ipairs { { 0, 3, 0 }, { 0, 31, 0 }, { 0, slot, 1 }, { 0, slot, 7 }, { 1, 0, 0 }, { 255, 31, 7 } } do
        local bus, s, fn = table.unpack(where)
        pci.expect_absent(m, bus, s, fn)
        for offset = 0, 0x3c, 4 do
            pci.write(m, bus, s, fn, offset, 4, 0xffffffff)
        end
        pci.expect_absent(m, bus, s, fn)
    end
    for i, f in ipairs(m:functions()) do
        expect(f:config_bytes(), before[i])
    end
end)

test("a slot with two functions says so in function 0, and each answers for itself", function()
    expect(first.config.header_type, 0x80)
    expect(second.config.header_type, 0)
    expect({ first:address() }, { 0, 0x10, 0 })
    expect({ second:address() }, { 0, 0x10, 3 })
    for _, fn in ipairs { 1, 2, 4, 5, 6, 7 } do
        pci.expect_absent(two, 0, 0x10, fn)
    end
    first.config.interrupt_line = 0x11
    second.config.interrupt_line = 0x22
    expect(first.config.interrupt_line, 0x11)
    first.regs.liveness = 1
    second.regs.liveness = 2
    expect({ first.regs.liveness, second.regs.liveness }, { 0xfffffffe, 0xfffffffd })
end)
