-- MSI-X: the table, masks, pending bits, where messages land, what resets them.
-- PCI Local Bus 3.0, 6.8.2 and 6.8.3.5.

local pci = require "pci"
local virtio = require "virtio"

local m = machine()
local net = m:device "virtio-net-pci,id=net,disable-legacy=on,vectors=70" -- more than 64 pending bits
local server = ivshmem_server { memory = memory { name = "bell", size = "64k" }, vectors = 2 }
local bell = m:device("ivshmem-doorbell,vectors=2", { server = server })
local e1000e = m:device "e1000e"
local N = 70

-- The network device as a source, MSI-X on, and words for the messages of some vectors, which are unmasked.
-- Up to three vectors stay in use, by queues, when the source moves on: QEMU forgets what is pending for
-- one that nothing uses.
local function set_up(...)
    local s, words = pci.source(m, net, "net"), {}
    for i, vector in ipairs { ... } do
        expect(s.transport:queue_vector(i - 1, vector), vector)
        words[vector] = pci.word(m)
        net:msix_message(vector, words[vector].gpa, 0x100 + vector)
        net:msix_mask(vector, false)
    end
    net:msix_enable()
    return s, words
end

local function pending()
    local list = {}
    for vector = 0, N - 1 do
        if net:msix_pending(vector) then
            list[#list + 1] = vector
        end
    end
    return list
end

-- ---- the capability ----

test("the capability says how many vectors there are and where table and pending bits lie", function()
    expect(net.msix.message_control, N - 1)
    expect(bell.msix.message_control, 1)
    expect(e1000e.msix.message_control, 4)
    local t, p = net.msix.bits.table, net.msix.bits.pba
    expect({ t.bir, t.offset, p.bir, p.offset }, { 1, 0, 1, 0x800 // 8 })
    t, p = e1000e.msix.bits.table, e1000e.msix.bits.pba
    expect({ t.bir, t.offset, p.bir, p.offset }, { 3, 0, 3, 0x2000 // 8 })
end)

test("only enable and function mask of the control word can be written", function()
    for dev, size in pairs { [net] = N - 1, [bell] = 1, [e1000e] = 4 } do
        local places = { dev.msix.table, dev.msix.pba }
        dev.msix.message_control = 0xffff
        expect(dev.msix.message_control, 0xc000 | size)
        dev.msix.message_control = 0
        expect(dev.msix.message_control, size)
        dev.msix.table, dev.msix.pba = 0xffffffff, 0
        expect({ dev.msix.table, dev.msix.pba }, places)
    end
end)

-- ---- the table ----

test("after power-on every entry is empty and masked, nothing is pending, MSI-X is off", function()
    for _, dev in ipairs { net, bell, e1000e } do
        expect(dev.msix.message_control & 0xc000, 0)
        for vector = 0, dev:msix_vectors() - 1 do
            local entry = dev.msix_table[vector]:values()
            expect(entry, { message_address = 0, message_upper_address = 0, message_data = 0, vector_control = 1 })
            expect(dev:msix_pending(vector), false)
        end
    end
end)

test("every entry keeps what is written to it, and no other changes", function()
    local function value(vector, i)
        return vector << 8 | i << 4
    end
    for vector = 0, N - 1 do
        net.msix_table[vector]:set { message_address = value(vector, 1), message_upper_address = value(vector, 2),
            message_data = value(vector, 3), vector_control = 1 }
    end
    for vector = 0, N - 1 do
        expect(net.msix_table[vector]:values(), { message_address = value(vector, 1),
            message_upper_address = value(vector, 2), message_data = value(vector, 3), vector_control = 1 })
    end
    local entry = net.msix_table[N - 1]
    entry:set { message_address = 0xffffffff, message_upper_address = 0xffffffff, message_data = 0xffffffff,
        vector_control = 0xffffffff }
    expect(entry:values(), { message_address = 0xffffffff, message_upper_address = 0xffffffff, message_data = 0xffffffff,
        vector_control = 0xffffffff })
end)

test("C23: an access to the table that is no aligned dword or qword reads zero and writes nothing", function()
    -- QEMU 76f5159d7f: writes of other widths changed an entry in the middle
    net:msix_message(2, 0x1122334455667788, 0x99aabbcc)
    local at = 2 * 16
    local before = net.msix_table[2]:values()
    for _, access in ipairs { { 0, 1 }, { 1, 1 }, { 3, 1 }, { 0, 2 }, { 2, 2 }, { 1, 2 }, { 1, 4 }, { 2, 4 }, { 3, 4 }, { 12, 1 }, { 12, 2 },
        { 14, 2 } } do
        local offset, width = table.unpack(access)
        expect({ offset, width, net:bar_read(1, at + offset, width) }, { offset, width, 0 })
        net:bar_write(1, at + offset, width, pci.ones(width))
        expect(net.msix_table[2]:values(), before)
    end
    net:bar_write(1, at, 8, 0x0102030405060708)
    expect(net:bar_read(1, at, 8), 0x0102030405060708)
    expect(net.msix_table[2].message_data, 0x99aabbcc)
end)

-- ---- messages ----

test("a message is the data of its entry, stored at the address of its entry", function()
    local s, words = set_up(0, 1, 69)
    for _, vector in ipairs { 1, 0, 69, 1 } do
        s.raise(vector)
        for v, word in pairs(words) do
            expect(word.take(), v == vector and 0x100 + v or 0)
        end
    end
end)

test("a message of 32 bits reaches any multiple of 4, and four bytes of it", function()
    local s = set_up(3)
    local ram = m:ram()
    local at = ram:alloc(32, 16)
    for i = 0, 4 do
        ram:fill(at, 32, 0xee)
        net:msix_message(3, ram:gpa(at + 4 * i), 0x04030201)
        s.raise(3)
        local want = ("\xee"):rep(4 * i) .. "\1\2\3\4" .. ("\xee"):rep(28 - 4 * i)
        expect(ram:read(at, 32), want)
    end
end)

test("a message goes above 4 GiB into the memory of an ivshmem", function()
    local s = set_up(4)
    local mem = bell:memory()
    expect.above(mem:gpa(), 0xffffffff)
    net:msix_message(4, mem:gpa(0x10), 0xfeedface)
    s.raise(4)
    expect(mem:u32(0x10), 0xfeedface)
end)

test("an interrupt taken as an eventfd wakes whoever waits for it, once for each message", function()
    local b = machine { name = "bridged", bridge = true }
    local dev = b:device "virtio-net-pci,id=net,disable-legacy=on"
    b:start()
    local s = pci.source(b, dev, "net")
    local i = irq(dev, { form = "eventfd", vector = 2 })
    dev:msix_enable()
    s.raise(2)
    i:wait()
    for _ = 1, 5 do
        s.raise()
    end
    expect.eventually(function() return i:messages() end, 6)
end)

test("while MSI-X is off the device interrupts by its line, while it is on by message only", function()
    local s, words = set_up(5)
    local line = irq(net, { form = "line" })
    s.raise(5)
    expect(words[5].take(), 0x105)
    expect(line:messages(), 0)
    expect(line:raised(), false)
    s.transport:isr()
    net:msix_enable(false)
    s.raise()
    expect(words[5].take(), 0)
    expect(line:raised(), true)
    expect(s.transport:isr(), 3)
    expect(line:raised(), false)
end)

test("a vector that does not exist, and none at all, send nothing", function()
    -- C23: the number of a vector was never checked
    local s, words = set_up(0, 69)
    for _, vector in ipairs { 70, 71, 0x7ff, 0x800, 0xfffe, 0xffff } do
        expect(s.transport:config_vector(vector), virtio.NO_VECTOR)
        s.raise()
        expect({ words[0](), words[69]() }, { 0, 0 })
    end
    s.raise(69)
    expect(words[69](), 0x145)
end)

test("without bus mastering a message is lost", function()
    local s, words = set_up(6)
    net:msix_mask(6, true)
    s.raise(6)
    net.config.bits.command.bus_master = 0
    net:msix_mask(6, false)
    expect(net:msix_pending(6), false) -- sent, and dropped on the bus
    net.config.bits.command.bus_master = 1
    expect(words[6](), 0)
    s.transport:set_status(virtio.RUNNING.modern) -- QEMU's virtio stops with mastering
    s.raise(6)
    expect(words[6](), 0x106)
end)

-- ---- masks ----

test("a masked vector keeps its message pending, others go on", function()
    local s, words = set_up(0, 7, 64)
    net:msix_mask(7, true)
    net:msix_mask(64, true)
    s.raise(7)
    expect(pending(), { 7 })
    s.raise(64)
    expect(pending(), { 7, 64 })
    expect({ net.msix_pba[0].pending, net.msix_pba[1].pending }, { 1 << 7, 1 })
    s.raise(0)
    expect(words[0].take(), 0x100)
    expect({ words[7](), words[64]() }, { 0, 0 })
    net:msix_mask(64, false)
    expect(words[64](), 0x140)
    expect(pending(), { 7 })
    net:msix_mask(7, false)
    expect(words[7](), 0x107)
    expect(pending(), {})
end)

test("however many there were, unmasking sends one message", function()
    local b = machine { name = "bridged", bridge = true }
    local dev = b:device "virtio-net-pci,id=net,disable-legacy=on"
    b:start()
    local s = pci.source(b, dev, "net")
    local i = irq(dev, { form = "eventfd", vector = 1 })
    dev:msix_enable()
    dev:msix_mask(1, true)
    for _ = 1, 3 do
        s.raise(1)
    end
    dev:msix_mask(1, false)
    i:wait()
    dev:msix_mask(1, true)
    dev:msix_mask(1, false)
    s.raise(1)
    expect.eventually(function() return i:messages() end, 2)
end)

test("masking a vector that is not pending, and unmasking it, sends nothing", function()
    local s, words = set_up(8)
    for _ = 1, 3 do
        net:msix_mask(8, true)
        net:msix_mask(8, false)
        net:msix_mask(8, false)
    end
    expect(words[8](), 0)
    s.raise(8)
    expect(words[8](), 0x108)
end)

test("C23: the function mask holds back vectors that are unmasked themselves", function()
    -- QEMU e1e4bf2252, 15377f6e79: a test of the masks looked at the entry only
    local s, words = set_up(9, 10)
    net:msix_mask_all(true)
    s.raise(9)
    s.raise(10)
    expect(pending(), { 9, 10 })
    expect({ words[9](), words[10]() }, { 0, 0 })
    expect(net.msix_table[9].vector_control, 0) -- it does not show in the entries
    net:msix_mask_all(false)
    expect({ words[9](), words[10]() }, { 0x109, 0x10a })
    expect(pending(), {})
end)

test("with both masks set either one alone still holds", function()
    local s, words = set_up(11)
    for _, first in ipairs { "function", "vector" } do
        net:msix_mask(11, true)
        net:msix_mask_all(true)
        s.raise(11)
        if first == "function" then
            net:msix_mask_all(false)
        else
            net:msix_mask(11, false)
        end
        expect(words[11](), 0)
        expect(pending(), { 11 })
        net:msix_mask_all(false)
        net:msix_mask(11, false)
        expect(words[11].take(), 0x10b)
        expect(pending(), {})
    end
end)

test("address and data changed while masked are those the pending message goes out with", function()
    local s, words = set_up(12, 13)
    net:msix_mask(12, true)
    s.raise(12)
    net.msix_table[12].message_data = 0x777
    net:msix_mask(12, false)
    expect(words[12].take(), 0x777)
    net:msix_mask(12, true)
    s.raise(12)
    net:msix_message(12, words[13].gpa, 0x888)
    expect({ words[12](), words[13]() }, { 0, 0 })
    net:msix_mask(12, false)
    expect({ words[12](), words[13]() }, { 0, 0x888 })
end)

test("only bit 0 of the vector control masks", function()
    local s, words = set_up(14)
    net.msix_table[14].vector_control = 0xfffffffe
    s.raise(14)
    expect(words[14].take(), 0x10e)
    net.msix_table[14].vector_control = 0xffffffff
    s.raise(14)
    expect(words[14](), 0)
    net.msix_table[14].vector_control = 0xfffffffe
    expect(words[14](), 0x10e)
end)

-- ---- pending bits ----

test("pending bits cannot be written, neither set nor cleared", function()
    local s, words = set_up(15)
    net:msix_mask(15, true)
    s.raise(15)
    for _, value in ipairs { 0, -1 } do
        for element = 0, 1 do
            net.msix_pba[element].pending = value
        end
        net:bar_write(1, 0x800, 4, value & 0xffffffff)
        net:bar_write(1, 0x801, 1, value & 0xff)
        expect({ net.msix_pba[0].pending, net.msix_pba[1].pending }, { 1 << 15, 0 })
    end
    net:msix_mask(15, false)
    expect(words[15](), 0x10f)
    expect(net.msix_pba[0].pending, 0)
end)

test("what is pending when MSI-X is switched off goes out when it is switched on again", function()
    local s, words = set_up(16)
    net:msix_mask_all(true)
    s.raise(16)
    net:msix_enable(false)
    net:msix_mask_all(false)
    expect(words[16](), 0)
    expect(pending(), { 16 })
    net:msix_enable(true)
    expect(words[16](), 0x110)
    expect(pending(), {})
end)

test("what is pending for a vector is forgotten when the device stops using it", function()
    local s, words = set_up(17)
    net:msix_mask(18, true)
    s.raise(18)
    expect(pending(), { 18 })
    s.transport:config_vector(17)
    expect(pending(), {})
    net:msix_mask(17, true)
    s.raise()
    s.transport:config_vector(virtio.NO_VECTOR)
    expect(pending(), { 17 }) -- a queue still uses it
    s.transport:queue_vector(0, virtio.NO_VECTOR)
    expect(pending(), {})
    net:msix_mask(17, false)
    expect(words[17](), 0)
end)

test("a reset of the virtio device leaves MSI-X as it is, and forgets what is pending", function()
    local s, words = set_up(19)
    net:msix_mask(19, true)
    s.raise(19)
    s.transport:reset()
    expect(net.msix.bits.message_control.enable, 1)
    expect(net.msix_table[19]:values(), { message_address = words[19].gpa, message_upper_address = 0,
        message_data = 0x113, vector_control = 1 })
    expect({ s.transport:config_vector(), s.transport:queue_vector(0) }, { virtio.NO_VECTOR, virtio.NO_VECTOR })
    expect(pending(), {})
    net:msix_mask(19, false)
    expect(words[19](), 0)
end)

-- ---- reset values ----

for _, board in ipairs { "pc", "q35" } do
    test("C22: after a system reset MSI-X is off and every vector masked, on " .. board, function()
        -- QEMU 1f944c661a, ae1be0bbc1: enable and masks kept their values
        local b = machine { name = board, board = board }
        local devices = { b:device "virtio-net-pci,id=net,disable-legacy=on", b:device "ivshmem-doorbell,vectors=4",
            b:device "e1000e" }
        local word
        b:start()
        word = pci.word(b)
        for _, dev in ipairs(devices) do
            for vector = 0, dev:msix_vectors() - 1 do
                dev:msix_message(vector, word.gpa, 1)
                dev:msix_mask(vector, false)
                expect(dev.msix_table[vector].vector_control, 0)
            end
            dev:msix_enable()
            dev:msix_mask_all(true)
        end
        pci.source(b, devices[1], "net").raise(0) -- held back, pending
        expect(devices[1]:msix_pending(0), true)
        b:reset()
        for _, dev in ipairs(devices) do
            expect(dev.msix.message_control & 0xc000, 0)
        end
        b:setup()
        for _, dev in ipairs(devices) do
            for vector = 0, dev:msix_vectors() - 1 do
                expect(dev.msix_table[vector]:values(),
                    { message_address = 0, message_upper_address = 0, message_data = 0, vector_control = 1 })
                expect(dev:msix_pending(vector), false)
            end
        end
        expect(word(), 0)
    end)
end
