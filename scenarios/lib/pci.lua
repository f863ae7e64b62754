-- PCI by hand: configuration cycles to any function, there or not; and an interrupt whenever a script
-- wants one. For devices that were declared, dev.config and dev:config_read() are shorter.
local virtio = require "virtio"

local pci = {}

-- ---- configuration cycles ----

-- Mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2): `offset` need not be aligned.
function pci.read(m, bus, slot, fn, offset, width)
    m:outp(0xcf8, 4, 0x80000000 | bus << 16 | slot << 11 | fn << 8 | offset & 0xfc)
    return m:inp(0xcfc + (offset & 3), width)
end

function pci.write(m, bus, slot, fn, offset, width, value)
    m:outp(0xcf8, 4, 0x80000000 | bus << 16 | slot << 11 | fn << 8 | offset & 0xfc)
    m:outp(0xcfc + (offset & 3), width, value)
end

-- All ones of a width in bytes: what nobody answers.
function pci.ones(width)
    return width == 8 and -1 or (1 << 8 * width) - 1
end

-- Expects that configuration space of a function answers nothing: ids, header, the rest, at any width.
function pci.expect_absent(m, bus, slot, fn)
    for _, width in ipairs { 1, 2, 4 } do
        for _, offset in ipairs { 0x00, 0x04, 0x08, 0x0e, 0x10, 0x34, 0x40, 0xfc } do
            if pci.read(m, bus, slot, fn, offset, width) ~= pci.ones(width) then
                expect.fail(string.format("%02x:%02x.%x answers at offset 0x%x", bus, slot, fn, offset))
            end
        end
    end
end

-- The capabilities of a function as its configuration space tells them: { { id=, at= }, ... }.
function pci.capabilities(dev)
    local list = {}
    if dev:config_read(0x06, 2) & 0x10 ~= 0 then
        local at = dev:config_read(0x34, 1)
        while at ~= 0 and #list < 48 do
            list[#list + 1] = { id = dev:config_read(at, 1), at = at }
            at = dev:config_read(at + 1, 1)
        end
    end
    return list
end

-- ---- interrupts ----

-- A virtio network device as a source of interrupts: brought to DRIVER_OK without queues; each change of
-- its link is one configuration change, told before QEMU answers. It needs an id=.
--   s.raise([vector])   one interrupt, by this MSI-X vector from now on
function pci.source(m, dev, id)
    local t = virtio.transport(dev, "modern")
    local up = true
    t:negotiate(virtio.F.VERSION_1)
    t:go()
    return {
        transport = t,
        raise = function(vector)
            if vector then
                expect(t:config_vector(vector), vector)
            end
            up = not up
            m:qmp("set_link", { name = id, up = up })
        end,
    }
end

-- A word of RAM for messages: w() reads it, w.take() reads and clears it.
function pci.word(m)
    local ram = m:ram()
    local offset = ram:alloc(4, 4)
    ram:u32(offset, 0)
    return setmetatable({
        gpa = ram:gpa(offset),
        take = function()
            local value = ram:u32(offset)
            ram:u32(offset, 0)
            return value
        end,
    }, {
        __call = function()
            return ram:u32(offset)
        end,
    })
end

return pci
