-- Base address registers: how large they say to be, where they can lie, when they answer.

local pci = require "pci"

local m = machine()
local net = m:device "virtio-net-pci" -- transitional: ports, 32-bit, 64-bit prefetchable
local edu = m:device "edu"
local shm = m:device "ivshmem-plain"
local big = m:device "pci-testdev,membar=8G" -- 32-bit, ports, 64-bit beyond 4 GiB
local wide = m:device("ivshmem-plain", { memory = memory { name = "wide", size = "64M" } })
local bell = m:device "ivshmem-doorbell,vectors=2"
local e1000e = m:device "e1000e"

local IO, MEM = 1, 2 -- decode bits of COMMAND

-- What a BAR reads after all ones were written to it, decoding off.
local function sized(dev, bar)
    local at = 0x10 + 4 * bar
    dev.config.command = 0
    dev:config_write(at, 4, 0xffffffff)
    return dev:config_read(at, 4)
end

-- ---- sizing ----

test("all ones written to a BAR read back as its size and kind", function()
    expect(sized(net, 0), 0xffffffe1)      -- ports, 32
    expect(sized(net, 1), 0xfffff000)      -- 32-bit, 4 KiB
    expect(sized(net, 4), 0xffffc00c)      -- 64-bit prefetchable, 16 KiB
    expect(sized(net, 5), 0xffffffff)      -- its upper half
    expect(sized(edu, 0), 0xfff00000)      -- 32-bit, 1 MiB
    expect(sized(shm, 0), 0xffffff00)      -- 32-bit, 256
    expect(sized(shm, 2), 0xffc0000c)      -- 64-bit prefetchable, 4 MiB
    expect(sized(shm, 3), 0xffffffff)
    expect(sized(big, 0), 0xfffff000)
    expect(sized(big, 1), 0xffffff01)      -- ports, 256
    expect(sized(big, 2), 0x0000000c)      -- 64-bit prefetchable, 8 GiB
    expect(sized(big, 3), 0xfffffffe)
    expect(sized(e1000e, 0), 0xfffe0000)
    expect(sized(e1000e, 2), 0xffffffe1)
    expect(sized(e1000e, 3), 0xffffc000)
end)

test("a BAR that is not there reads zero whatever is written", function()
    for dev, bars in pairs { [net] = { 2, 3 }, [edu] = { 1, 2, 3, 4, 5 }, [shm] = { 1, 4, 5 }, [bell] = { 4, 5 }, [big] = { 4, 5 },
        [e1000e] = { 4, 5 } } do
        for _, bar in ipairs(bars) do
            expect(sized(dev, bar), 0)
            expect(dev:bar(bar), nil)
        end
    end
end)

test("the scan finds the same sizes", function()
    local function shape(dev, bar)
        local b = dev:bar(bar)
        return { b.kind, b.size, b.prefetchable }
    end
    expect(shape(net, 0), { "io", 32, false })
    expect(shape(net, 1), { "mem32", 4096, false })
    expect(shape(net, 4), { "mem64", 16384, true })
    expect(shape(edu, 0), { "mem32", 1 << 20, false })
    expect(shape(shm, 2), { "mem64", 4 << 20, true })
    expect(shape(big, 1), { "io", 256, false })
    expect(shape(big, 2), { "mem64", 8 << 30, true })
end)

test("the bits that tell the kind of a BAR cannot be changed", function()
    for _, value in ipairs { 0, 0xf } do
        net.config.command = 0
        net:config_write(0x20, 4, value)
        expect(net:config_read(0x20, 4), 0xc)
        net:config_write(0x10, 4, value)
        expect(net:config_read(0x10, 4), 1)
        net:config_write(0x14, 4, value)
        expect(net:config_read(0x14, 4), 0)
    end
end)

test("an option ROM is sized like a BAR, with bit 0 to enable it", function()
    e1000e.config.command = 0
    e1000e.config.expansion_rom = 0xfffff800
    local size = e1000e.config.expansion_rom
    if size == 0 then
        skip("QEMU has no option ROM for e1000e installed")
    end
    expect(size, 0xfffc0000)
    e1000e.config.expansion_rom = 0xe8000000
    e1000e.config.command = MEM
    expect(m:read(0xe8000000, 2), 0) -- not enabled yet
    e1000e.config.expansion_rom = 0xe8000001
    expect(m:read(0xe8000000, 2), 0xaa55) -- the signature of an option ROM
    e1000e.config.command = 0
    expect(m:read(0xe8000000, 2), 0)
end)

-- ---- placing ----

test("a 32-bit BAR answers wherever it is put below 4 GiB, and nowhere else", function()
    edu.regs.liveness = 0x12345678
    local old = edu:bar(0).base
    for _, at in ipairs { 0x02000000, 0x40000000, 0x80000000, 0xc0000000, 0xfd000000 } do
        edu:place_bar(0, at)
        expect(m:read(at + 4, 4), 0xedcba987)
        expect(m:read(at, 4), 0x010000ed)
        expect(m:read(old + 4, 4), 0)
        old = at
    end
end)

test("a 64-bit BAR answers wherever it is put, also where no address of 32 bits reaches", function()
    local common = net:bar(4).base
    expect(m:read(common + 0x12, 2), 3) -- num_queues
    for _, at in ipairs { 0x30000000, 0xe8000000, 0x100000000, 0x123456000000, 1 << 46, 1 << 51 } do
        net:place_bar(4, at)
        expect(m:read(at + 0x12, 2), 3)
        expect(m:read(common + 0x12, 2), 0)
        common = at
    end
end)

test("ports answer where they are put", function()
    local old = net:bar(0).base
    for _, at in ipairs { 0x1000, 0xc000, 0xff00, 0xffe0 } do
        net:place_bar(0, at)
        expect(m:inp(at + 0x0c, 2), 256) -- queue_size
        if at ~= old then
            expect(m:inp(old + 0x0c, 2), 0xffff)
        end
        old = at
    end
end)

test("large BARs lie above 4 GiB at a multiple of their size", function()
    for _, dev in ipairs { big, wide } do
        local b = dev:bar(2)
        expect.at_least(b.base, 4 << 30)
        expect(b.base & (b.size - 1), 0)
    end
end)

test("a large BAR is decoded to its last byte, wherever it lies", function()
    local mem, size = wide:memory(), 64 << 20
    mem:u32(0, 0x11111111)
    mem:u32(size - 4, 0x22222222)
    for _, at in ipairs { 1 << 40, 0xc0000000, 1 << 50 } do
        wide:place_bar(2, at)
        expect({ m:read(at, 4), m:read(at + size - 4, 4), m:read(at + size, 4) }, { 0x11111111, 0x22222222, 0 })
    end
end)

test("an address that is no multiple of the size is rounded down by the BAR itself", function()
    edu.config.command = 0
    edu:config_write(0x10, 4, 0xc01fffff)
    expect(edu:config_read(0x10, 4), 0xc0100000)
    edu.config.command = MEM
    expect(m:read(0xc0100000, 4), 0x010000ed)
    expect(m:read(0xc0200000, 4), 0)
end)

test("a place that cannot be is refused before anything is written", function()
    local before = edu:config_bytes()
    expect.error("BAR 0 of 0x100000 bytes cannot lie at 0xc0080000", edu.place_bar, edu, 0, 0xc0080000)
    expect.error("cannot lie at 0x100000000", edu.place_bar, edu, 0, 1 << 32)
    expect.error("cannot lie at 0x10000", net.place_bar, net, 0, 0x10000)
    expect.error("has no BAR 3", edu.place_bar, edu, 3, 0xc0000000)
    expect(edu:config_bytes(), before)
end)

test("at address zero, and with its last byte at the last address, a BAR is switched off", function()
    net:config_write(0x20, 4, 0)
    net:config_write(0x24, 4, 0)
    expect(m:read(0x12, 2), 0) -- RAM
    net:config_write(0x20, 4, 0xffffc000)
    net:config_write(0x24, 4, 0xffffffff)
    expect(m:read(-0x4000 + 0x12, 2), 0)
    net:config_write(0x20, 4, 0xffff8000) -- one step below it answers
    expect(m:read(-0x8000 + 0x12, 2), 3)
end)

test("RAM hides a BAR put over it, and is found unchanged when the BAR has gone", function()
    local ram = m:ram()
    local at = ram:alloc(1 << 20, 1 << 20)
    ram:u32(at, 0x1234)
    edu:place_bar(0, ram:gpa(at))
    expect(m:read(ram:gpa(at), 4), 0x1234)
    m:write(ram:gpa(at) + 4, 4, 0xffff)
    expect(ram:u32(at + 4), 0xffff)
    edu:place_bar(0, 0xc0000000)
    expect(m:read(0xc0000004, 4), 0) -- liveness was never written
end)

test("of neighbours each answers to its last byte", function()
    shm:place_bar(0, 0xe8000000)
    net:place_bar(1, 0xe8001000)
    edu:place_bar(0, 0xe8100000)
    shm.regs.IntrMask = 0xffffffff
    edu.regs.liveness = 0
    expect(m:read(0xe8000000, 4), 0xffffffff)
    expect(m:read(0xe80000fc, 4), 0)
    expect(m:read(0xe8000100, 4), 0) -- past 256 bytes
    expect(m:read(0xe80ffffc, 4), 0)
    expect(m:read(0xe8100004, 4), 0xffffffff)
    expect(m:read(0xe8001000 + 0x0c, 4), 1) -- the mask of MSI-X entry 0
end)

-- ---- decoding ----

test("memory decoding switches memory BARs, I/O decoding ports, and neither the other", function()
    local mem, ports = net:bar(4).base, net:bar(0).base
    local function answers()
        return { m:read(mem + 0x12, 2), m:inp(ports + 0x0c, 2) }
    end
    net.config.command = IO | MEM
    expect(answers(), { 3, 256 })
    net.config.command = IO
    expect(answers(), { 0, 256 })
    net.config.command = MEM
    expect(answers(), { 3, 0xffff })
    net.config.command = 0
    expect(answers(), { 0, 0xffff })
    net.config.command = IO | MEM
    expect(answers(), { 3, 256 })
end)

test("writes to a BAR that does not decode are lost", function()
    edu.regs.liveness = 0x11111111
    edu.config.command = 0
    edu.regs.liveness = 0x22222222
    edu.config.command = MEM
    expect(edu.regs.liveness, 0xeeeeeeee)
end)

test("a BAR may be moved while it decodes", function()
    local at = edu:bar(0).base
    edu.regs.liveness = 0x33333333
    edu:config_write(0x10, 4, 0xc0000000)
    expect(m:read(0xc0000004, 4), 0xcccccccc)
    expect(m:read(at + 4, 4), 0)
end)

test("the half-written address of a 64-bit BAR is an address like any other", function()
    net:place_bar(4, 0x100000000)
    net:config_write(0x20, 4, 0xc8000000) -- the upper half is still 1
    expect(m:read(0x1c8000012, 2), 3)
    net:config_write(0x24, 4, 0)
    expect(m:read(0xc8000012, 2), 3)
    expect(m:read(0x1c8000012, 2), 0)
end)

-- ---- widths: what any access at any offset answers, QEMU lives through all of it ----

-- Reads and writes back every width at the first bytes, at the last and across the end of a BAR.
local function sweep(dev, bar)
    local b = dev:bar(bar)
    local read, write = m.read, m.write
    if b.kind == "io" then
        read, write = m.inp, m.outp
    end
    local out = {}
    for _, width in ipairs(b.kind == "io" and { 1, 2, 4 } or { 1, 2, 4, 8 }) do
        for _, offset in ipairs { 0, 1, 2, 3, b.size - 8, b.size - 4, b.size - 3, b.size - 2, b.size - 1 } do
            local value = read(m, b.base + offset, width)
            write(m, b.base + offset, width, value)
            out[#out + 1] = value
        end
    end
    return out
end

test("C02: every width at the edges of every BAR is answered, or ignored, and nothing behind it is touched", function()
    -- QEMU 5d971f9e67 (CVE-2020-13754): accesses beyond what a region declares reached what lay behind it
    for _, dev in ipairs { net, shm, bell, big } do
        for bar = 0, 5 do
            -- not the memory of ivshmem: there any width is good
            if dev:bar(bar) and not (bar == 2 and dev ~= net) then
                sweep(dev, bar)
            end
        end
    end
    expect(m:alive(), true)
    expect({ net:id() }, { 0x1af4, 0x1000 })
    expect(net.common.num_queues, 3)
    expect(shm.regs.IVPosition, 0)
end)

test("C02: the MSI-X table and pending bits answer aligned dwords and qwords only", function()
    -- the golden table: entry 1 holds ffffffff, an address of its own, and is masked
    for _, t in ipairs { { net, 1 }, { bell, 1 } } do
        local dev, bar = table.unpack(t)
        dev:msix_message(1, 0x1122334455667788, 0x99aabbcc)
        local golden = {
            { 16, 4, 0x55667788 }, { 20, 4, 0x11223344 }, { 24, 4, 0x99aabbcc }, { 28, 4, 1 },
            { 16, 8, 0x1122334455667788 }, { 24, 8, 0x199aabbcc },
            { 16, 1, 0 }, { 17, 1, 0 }, { 19, 1, 0 }, { 16, 2, 0 }, { 18, 2, 0 }, { 17, 4, 0 }, { 18, 4, 0 },
            -- 20 and 28 are no multiple of 8: two dwords
            { 20, 8, 0x99aabbcc11223344 },
            -- between table and pending bits nothing is mapped
            { 0x400, 4, 0 }, { 0x7fc, 4, 0 }, { 0x7f8, 8, 0 }, { 0x7fe, 2, 0 },
            { 0x800, 4, 0 }, { 0x800, 8, 0 }, { 0x800, 1, 0 }, { 0xffc, 4, 0 }, { 0xff8, 8, 0 }, { 0xfff, 1, 0 },
        }
        for _, g in ipairs(golden) do
            local offset, width, value = table.unpack(g)
            expect({ offset, width, dev:bar_read(bar, offset, width) }, { offset, width, value })
        end
        -- the last entry's last dword, read together with what follows it
        local last = 16 * dev:msix_vectors()
        expect(dev:bar_read(bar, last - 4, 4), 1)
        expect(dev:bar_read(bar, last - 4, 8), 1)
        expect(dev:bar_read(bar, last, 4), 0)
        for offset = last, last + 28, 4 do
            dev:bar_write(bar, offset, 4, 0xffffffff)
            expect(dev:bar_read(bar, offset, 4), 0)
        end
    end
end)

test("C02: edu answers dwords below 0x80, dwords and qwords above, and the rest with ones", function()
    -- its region declares the widths that it takes
    edu.regs.liveness = 0x0f0f0f0f
    edu.regs.dma_source = 0x1234567890
    local ones = pci.ones
    local golden = {
        { 0x00, 4, 0x010000ed }, { 0x04, 4, 0xf0f0f0f0 }, { 0x80, 4, 0x34567890 }, { 0x80, 8, 0x1234567890 },
        { 0xffffc, 4, ones(4) }, { 0xffff8, 8, ones(8) },
    }
    for _, g in ipairs(golden) do
        local offset, width, value = table.unpack(g)
        expect({ offset, width, edu:bar_read(0, offset, width) }, { offset, width, value })
    end
    for _, width in ipairs { 1, 2 } do
        for _, offset in ipairs { 0, 2, 4, 0x80, 0xffffe } do
            expect(edu:bar_read(0, offset, width), 0)
            edu:bar_write(0, offset, width, 0x55)
        end
    end
    expect(edu.regs.liveness, 0xf0f0f0f0)
    expect(edu.regs.dma_source, 0x1234567890)
end)
