-- How the registers themselves are accessed: widths, odd offsets, the end of a region, and the window in
-- configuration space (virtio 1.2, 4.1.3.1, 4.1.4.5, 4.1.4.9). What each register does is in the other files.
local virtio = require "virtio"
local F = virtio.F
local TX = virtio.TX

local m = machine {}
local net = virtio.lone_device(m, "mac=52:54:00:12:34:56")

-- ---- common configuration ----

test("registers of the common configuration answer at their own offset only", function()
    -- 4.1.3.1: the driver MUST use the width of the field. QEMU decodes the first byte's offset, and gives a
    -- wider access that register alone, a narrower one its low part.
    local c = net.common
    c.queue_select = TX
    c.device_status = 3
    c.queue_size = 128
    c.queue_msix_vector = 2
    c.device_feature_select = 0
    expect({ c:read(0x14, 1), c:read(0x14, 2), c:read(0x14, 4) }, { 3, 3, 3 }) -- not config_generation, queue_select
    expect({ c:read(0x18, 1), c:read(0x18, 2), c:read(0x18, 4) }, { 128, 128, 128 })
    expect({ c:read(0x1a, 2), c:read(0x19, 1), c:read(0x1b, 1) }, { 2, 0, 0 })
    expect({ c:read(0x04, 4), c:read(0x04, 2), c:read(0x04, 1) }, { 0x30bf8024, 0x8024, 0x24 })
    expect({ c:read(0x05, 1), c:read(0x06, 2), c:read(0x07, 1) }, { 0, 0, 0 })
    for _, width in ipairs { 1, 2, 4, 8 } do
        expect({ width, c:read(0x40, width), c:read(0x1000 - width, width) }, { width, 0, 0 })
    end

    c:write(0x18, 4, 0x00030040) -- the vector beside it is not written
    expect({ c.queue_size, c.queue_msix_vector }, { 64, 2 })
    c:write(0x19, 1, 1)
    expect(c.queue_size, 64)
    c.driver_feature_select = 0
    c:write(0x0c, 4, 0x30bf8024)
    c:write(0x0c, 1, 0x20) -- the other bytes become 0
    expect(c.driver_feature, 0x20)
    c:write(0x0d, 1, 0x80)
    expect(c.driver_feature, 0x20)
    for _, width in ipairs { 1, 2, 4, 8 } do
        c:write(0x40, width, 0xff)
        c:write(0x1000 - width, width, 0xff)
        expect(c:read(0x40, width), 0)
    end
    expect(c.device_status, 3)
end)

test("the queue addresses can be written in halves and as a whole", function()
    local c = net.common
    c.queue_select = TX
    for offset = 0x20, 0x30, 8 do
        c:write(offset, 8, 0x1122334455667788)
        expect({ c:read(offset, 8), c:read(offset, 4), c:read(offset + 4, 4) },
            { 0x1122334455667788, 0x55667788, 0x11223344 })
        c:write(offset + 4, 4, 0xaabbccdd)
        expect(c:read(offset, 8), 0xaabbccdd55667788 | 0)
        c:write(offset, 4, 0)
        expect(c:read(offset, 8), 0xaabbccdd00000000 | 0)
    end
end)

-- ---- ISR and notification ----

test("the ISR reads, and is cleared, at any width and anywhere in its region", function()
    for _, case in ipairs { { 0, 1 }, { 0, 2 }, { 0, 4 }, { 1, 1 }, { 4, 4 }, { 0xffe, 2 } } do
        local offset, width = case[1], case[2]
        local up = virtio.bring_up(net, { memory = m:ram() })
        up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
        up.tx:post(0)
        up.t:kick(TX)
        up.tx:await(1)
        m:barrier()
        local base = 0x1000 + offset
        net:bar_write(4, base, width, 0) -- cannot be written
        expect({ offset, width, net:bar_read(4, base, width) }, { offset, width, virtio.ISR_QUEUE })
        expect({ offset, width, net:bar_read(4, base, width) }, { offset, width, 0 })
        expect(net.isr.isr_status, 0)
    end
end)

test("a notification is the write and not what is written", function()
    -- 4.1.5.2 asks for the queue's number in 16 bits; QEMU goes by the address.
    local up = virtio.bring_up(net, { memory = m:ram() })
    up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
    local n = 0
    for _, width in ipairs { 1, 2, 4 } do
        for _, value in ipairs { 0, 1, 2, 0xff } do
            up.tx:post(0)
            n = n + 1
            net:bar_write(4, 0x3000 + 4 * TX, width, value)
            up.tx:await(n)
        end
    end
    expect({ net:bar_read(4, 0x3000 + 4 * TX, 2), net:bar_read(4, 0x3000, 4) }, { 0, 0 })
end)

-- ---- device configuration ----

test("C16: the configuration reads the same in pieces of 1, 2 and 4 bytes", function()
    local by = {}
    for _, width in ipairs { 1, 2, 4 } do
        local bytes = {}
        for offset = 0, 16 - width, width do
            bytes[#bytes + 1] = string.pack("<I" .. width, net.device:read(offset, width))
        end
        by[width] = table.concat(bytes)
    end
    -- address, link up; beyond the last field of an offered feature all ones
    expect(by[1], unhex "52 54 00 12 34 56 01 00 ff ff ff ff ff ff ff ff")
    expect({ by[2], by[4] }, { by[1], by[1] })
end)

test("C16: fields appear with their features, in little-endian order on either transport", function()
    local wide = machine {}
    local dev = virtio.lone_device(wide, "mq=on,rss=on,host_mtu=1400,speed=10000,duplex=full,guest_rsc_ext=on")
    for _, block in ipairs { "device", "legacy_device" } do
        local d = dev[block]
        expect({
            block, d.status, d.max_virtqueue_pairs, d.mtu, d.speed, d.duplex, d.rss_max_key_size,
            d.rss_max_indirection_table_length, d.supported_hash_types,
        }, { block, 1, 1, 1400, 10000, 1, 40, 128, 0x1ff })
        expect({ d:read(0x0a, 1), d:read(0x0b, 1) }, { 1400 & 0xff, 1400 >> 8 })
        expect({ d:read(0x0c, 1), d:read(0x0f, 1) }, { 10000 & 0xff, 0 })
    end
    expect(dev.device:read(0x18, 4), 0xffffffff) -- and there it ends
end)

test("C17: an access that begins inside the configuration and ends outside is all ones", function()
    for _, case in ipairs {
        -- offset, width, value
        { 7, 1, 0 }, { 8, 1, 0xff }, { 8, 4, 0xffffffff }, { 0xffc, 4, 0xffffffff }, { 0xffe, 2, 0xffff },
        { 0xfff, 1, 0xff },
    } do
        expect({ case[1], case[2], net.device:read(case[1], case[2]) }, case)
        net.device:write(case[1], case[2], 0)
        expect({ case[1], case[2], net.device:read(case[1], case[2]) }, case)
    end
    -- The legacy configuration is byte by byte, and odd offsets reach beyond the end.
    for _, case in ipairs {
        { 4, 4, 0x00015634 }, { 5, 4, 0xff000156 }, { 6, 4, 0xffff0001 }, { 7, 4, 0xffffff00 }, { 8, 4, 0xffffffff },
        { 7, 2, 0xff00 },
    } do
        expect({ case[1], case[2], net.legacy_device:read(case[1], case[2]) }, case)
    end
    expect({ net:bar_read(0, 31, 1), net:bar_read(0, 30, 2), net:bar_read(0, 28, 4) }, { 0xff, 0xffff, 0xffffffff })
    for _, case in ipairs { { 31, 1 }, { 30, 2 }, { 28, 4 } } do
        net:bar_write(0, case[1], case[2], 0)
    end
    expect(net.device.mac[5], 0x56)
end)

test("legacy: the configuration moves when MSI-X is switched on", function() -- 4.1.4.10
    local _, _, size = net.legacy:where()
    expect(size, 0x14)
    expect(net:bar_read(0, 0x14, 4), 0x12005452)
    net:msix_enable()
    expect({ net:bar_read(0, 0x14, 2), net:bar_read(0, 0x16, 2) }, { 0xffff, 0xffff }) -- the vectors, none chosen
    expect(net:bar_read(0, 0x18, 4), 0x12005452)
    net:msix_enable(false)
    expect(net:bar_read(0, 0x14, 4), 0x12005452)
end)

test("legacy: registers can be read in bytes, and what is not one reads as ones", function()
    local l = net.legacy
    l.queue_select = TX
    expect({ l:read(0x0c, 2), l:read(0x0c, 1) }, { 256, 0 })
    expect({ l:read(0x12, 1), l:read(0x13, 1) }, { 0, 0 })
    expect({ l:read(0x01, 1), l:read(0x0d, 1) }, { 0xff, 0xff })
end)

-- ---- the window in configuration space ----

test("C15: the window accesses with 1, 2 or 4 bytes, and with any other length not at all", function() -- 4.1.4.9
    local w, c = net.pci_cfg_cap, net.common
    w.bar = 4
    w.offset = 0x14 -- device_status
    for _, case in ipairs {
        -- length, works
        { 1, true }, { 2, true }, { 4, true }, { 0, false }, { 3, false }, { 5, false }, { 8, false },
        { 16, false }, { 0x100, false }, { 0xffffffff, false },
    } do
        local length, works = case[1], case[2]
        w.length = length
        expect(w.length, length)
        c.device_status = 0x01
        w.pci_cfg_data = 0x03
        expect({ length, c.device_status }, { length, works and 0x03 or 0x01 })
        c.device_status = 0x07
        expect({ length, w.pci_cfg_data & 0xff }, { length, works and 0x07 or 0x03 }) -- else what was written last
        c.device_status = 0
    end
end)

test("C15: the window looks at the offset, and not at the BAR", function() -- lenient: bar must be that of a capability
    local w, c = net.pci_cfg_cap, net.common
    c.device_status = 0x0f
    w.offset, w.length = 0x14, 1
    for _, bar in ipairs { 4, 0, 1, 2, 5, 6, 7, 0xff } do
        w.bar = bar
        w.length = 4
        w.pci_cfg_data = 0x0f
        expect({ bar, w.pci_cfg_data }, { bar, 0x0f })
    end
    w.bar = 4
    for _, case in ipairs {
        -- offset, length, what is read where 0xa5a5a5a5 was in the data register
        { 0x2000, 4, 0x12005452 }, { 0x2004, 2, 0xa5a55634 }, { 0x2007, 1, 0xa5a5a500 }, -- the configuration
        { 0x4000, 4, 0xa5a5a5a5 }, { 0xfffffffc, 4, 0xa5a5a5a5 }, { 0x80000000, 1, 0xa5a5a5a5 }, -- beyond the BAR
        -- not aligned (lenient): the access before
        { 0x2001, 4, 0x12005452 }, { 0x2001, 2, 0xa5a55452 }, { 0x2003, 2, 0xa5a51200 }, { 0x3ffe, 4, 0 },
    } do
        w.offset, w.length = 0x3000, 0 -- no access is made by the next write
        w.pci_cfg_data = 0xa5a5a5a5
        w.offset, w.length = case[1], case[2]
        expect({ case[1], case[2], w.pci_cfg_data }, case)
    end
    expect(c.device_status, 0x0f)
end)

test("the window drives a device whose BARs have no address", function()
    local bare = machine { setup = false }
    local dev = virtio.lone_device(bare, "mac=52:54:00:12:34:56")
    bare:scan()
    local w = dev.pci_cfg_cap
    local function common(offset, length, value)
        w.bar, w.offset, w.length = 4, offset, length
        if value then
            w.pci_cfg_data = value
        end
        return w.pci_cfg_data & (1 << 8 * length) - 1
    end
    expect(common(0x12, 2), 3) -- num_queues
    for _, status in ipairs { 1, 3 } do
        expect(common(0x14, 1, status), status)
    end
    common(0x08, 4, 1)
    common(0x0c, 4, F.VERSION_1 >> 32)
    expect(common(0x14, 1, 0x0b), 0x0b)
    expect(common(0x14, 1, 0), 0)
end)
