-- Status and features: the order of virtio 1.2, 3.1, and everything out of order that 2.1, 2.2, 3.1 and
-- 4.1.4.3 name. Where QEMU 7.2 takes what the specification forbids the driver (it nearly always does:
-- it keeps what is written and looks at few bits of it), the comment says "lenient"; what is pinned is
-- what it does.
local virtio = require "virtio"
local F = virtio.F
local ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = virtio.ACKNOWLEDGE, virtio.DRIVER, virtio.DRIVER_OK,
    virtio.FEATURES_OK
local NEEDS_RESET, FAILED = virtio.NEEDS_RESET, virtio.FAILED

local BASE = { modern = F.VERSION_1, legacy = 0 }
-- What 7.2 offers with a netdev that knows no virtio header.
local COMMON = F.CTRL_GUEST_OFFLOADS | F.MAC | F.MRG_RXBUF | F.STATUS | F.CTRL_VQ | F.CTRL_RX | F.CTRL_VLAN |
    F.CTRL_RX_EXTRA | F.GUEST_ANNOUNCE | F.CTRL_MAC_ADDR | F.INDIRECT_DESC | F.EVENT_IDX
local OFFERED = {
    modern = COMMON | F.VERSION_1 | F.RING_RESET,
    legacy = COMMON | F.GSO | F.NOTIFY_ON_EMPTY | F.ANY_LAYOUT | F.LEGACY_BAD,
}

-- Sends one frame and waits until it is used: the device works.
local function expect_works(up)
    local b = virtio.buffer(up.memory, up.header .. frame(60))
    up.tx:chain(0, { b })
    up.tx:post(0)
    up.t:kick(virtio.TX)
    up.tx:await()
end

-- ---- the right order, everywhere ----

for _, v in ipairs(virtio.variants) do
    local m = machine { board = v.board }
    local net = virtio.lone_device(m, v.properties)

    test(v.name .. ": the steps of 3.1.1 read back one by one and end in a device that sends", function()
        local t = virtio.transport(net, v.transport)
        expect(t:status(), 0)
        t:set_status(ACKNOWLEDGE)
        expect(t:status(), 0x01)
        t:set_status(ACKNOWLEDGE | DRIVER)
        expect(t:status(), 0x03)
        expect(t:offered(), OFFERED[v.transport])
        t:accept(BASE[v.transport])
        if v.transport == "modern" then -- 3.1.2: a legacy driver has no FEATURES_OK
            t:set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
            expect(t:status(), 0x0b)
        end
        local tx = virtio.ring(m:ram(), t:queue_size(virtio.TX))
        t:enable(virtio.TX, tx)
        t:go()
        expect(t:status(), virtio.RUNNING[v.transport])
        expect_works { t = t, tx = tx, memory = m:ram(), header = string.rep("\0", 12) }
    end)

    test(v.name .. ": features agreed once are agreed again after a reset", function() -- 2.2.2
        local t = virtio.transport(net, v.transport)
        local features = OFFERED[v.transport] & ~F.LEGACY_BAD
        for _ = 1, 3 do
            t:negotiate(features)
            t:go()
            expect(t:status(), virtio.RUNNING[v.transport])
            expect(t:offered(), OFFERED[v.transport])
            t:reset()
            expect(t:status(), 0)
        end
        -- "any valid subset": each feature alone
        for name, bit in pairs(F) do
            if OFFERED[v.transport] & bit ~= 0 and bit ~= F.LEGACY_BAD then
                t:negotiate(BASE[v.transport] | bit)
                expect({ name, t:status() & NEEDS_RESET }, { name, 0 })
            end
        end
    end)

    test(v.name .. ": a reset takes any status back to 0", function() -- 2.1.2
        local t = virtio.transport(net, v.transport)
        for _, status in ipairs { 1, 3, 7, 0x0b, 0x0f, FAILED, 0x83, 0x8f, NEEDS_RESET, 0xff } do
            t:set_status(status)
            expect(t:status(), status)
            t:reset()
            expect(t:status(), 0)
        end
    end)

    test(v.name .. ": nothing is sent or received before DRIVER_OK", function() -- 2.1.2
        local t = virtio.transport(net, v.transport)
        local line = irq(net, { form = "line" })
        t:negotiate(BASE[v.transport])
        local up = { t = t, memory = m:ram(), header = string.rep("\0", 12) }
        for q, name in pairs { [virtio.RX] = "rx", [virtio.TX] = "tx" } do
            up[name] = virtio.ring(m:ram(), t:queue_size(q))
            t:enable(q, up[name])
        end
        up.rx:chain(0, { virtio.buffer(m:ram(), 2048) })
        up.rx:post(0)
        up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
        up.tx:post(0)
        for _ = 1, 3 do
            t:kick(virtio.RX) -- 3.1.1: the driver MUST NOT
            t:kick(virtio.TX)
        end
        virtio.settle(m)
        expect({ up.rx:used_idx(), up.tx:used_idx(), line:raised() }, { 0, 0, false })
        t:go() -- and now it looks by itself
        up.tx:await(1)
        expect(up.tx:used_element(0), 0)
    end)

    -- Lenient: 2.1.2 forbids the device to use buffers before DRIVER_OK, and to tell of it. The control
    -- queue is served, and INTx raised, from the moment it has an address, whatever the status.
    test(v.name .. ": the control queue is served before DRIVER_OK", function()
        local t = virtio.transport(net, v.transport)
        local line = irq(net, { form = "line" })
        for _, status in ipairs { 0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER } do
            t:negotiate(BASE[v.transport] | F.CTRL_VQ | F.CTRL_RX)
            t:set_status(status == 0 and DRIVER or status) -- 0 would be a reset
            local ctrl = virtio.ring(m:ram(), 64)
            t:enable(virtio.CTRL, ctrl)
            local ack = virtio.buffer(m:ram(), "\x55")
            ack.write = true
            ctrl:chain(0, { virtio.buffer(m:ram(), "\0\0\1"), ack }) -- promiscuous on
            ctrl:post(0)
            t:kick(virtio.CTRL)
            expect(ctrl:used_idx(), 1) -- in the kick itself: before DRIVER_OK there is no eventfd
            expect({ ctrl:used_element(0) }, { 0, 1 })
            expect(m:ram():u8(ack.offset), 0)
            expect(line:take(), true)
            expect(t:isr(), virtio.ISR_QUEUE)
            expect(line:raised(), false)
        end
    end)
end

-- ---- wrong orders: modern ----

local m = machine {}
local net = virtio.lone_device(m, "mac=52:54:00:12:34:56") -- transitional: its legacy registers show what
                                                             -- features the device really goes by
local function taken()
    return net.legacy.driver_features
end

test("every value but 0 is kept in device_status, possible or not", function()
    local c = net.common
    for _, status in ipairs {
        DRIVER, -- without ACKNOWLEDGE
        DRIVER_OK, -- without anything
        FEATURES_OK, -- before ACKNOWLEDGE and DRIVER
        ACKNOWLEDGE | FEATURES_OK, -- before DRIVER
        ACKNOWLEDGE | DRIVER | DRIVER_OK, -- without FEATURES_OK
        ACKNOWLEDGE | DRIVER_OK | FEATURES_OK, -- without DRIVER
        NEEDS_RESET, -- the device's to set, not the driver's
        0x10, 0x20, -- reserved
        FAILED,
    } do
        c.device_status = status -- lenient, each of them
        expect(c.device_status, status)
        c.device_status = 0
        expect(c.device_status, 0)
    end
end)

test("bits of device_status can be taken back without a reset", function() -- lenient: 2.1.1 MUST NOT
    local c = net.common
    for _, status in ipairs { 0x0f, 0x0b, 0x07, 0x03, 0x01, 0x0f, 0x01 } do
        c.device_status = status
        expect(c.device_status, status)
    end
end)

test("FAILED keeps nobody from going on without a reset", function() -- lenient: 2.1.1 MUST reset
    local c = net.common
    c.device_status = ACKNOWLEDGE | DRIVER | FAILED
    expect(c.device_status, 0x83)
    c.device_status = ACKNOWLEDGE | DRIVER
    expect(c.device_status, 0x03)
    local up = virtio.bring_up(net, { memory = m:ram() })
    c.device_status = 0x0f | FAILED
    expect(c.device_status, 0x8f)
    expect_works(up) -- nor does it stop a device that runs
end)

test("a device told DRIVER_OK and nothing else sends", function() -- lenient: no step of 3.1.1 was made
    local t = virtio.transport(net, "modern")
    local tx = virtio.ring(m:ram(), 256)
    t:enable(virtio.TX, tx)
    t:set_status(DRIVER_OK)
    -- without VERSION_1 and MRG_RXBUF the header is the legacy one
    expect_works { t = t, tx = tx, memory = m:ram(), header = string.rep("\0", 10) }
end)

test("DRIVER_OK without FEATURES_OK runs with the features written", function() -- lenient
    local t = virtio.transport(net, "modern")
    t:set_status(ACKNOWLEDGE)
    t:set_status(ACKNOWLEDGE | DRIVER)
    t:accept(F.VERSION_1 | F.MAC)
    local tx = virtio.ring(m:ram(), 256)
    t:enable(virtio.TX, tx)
    t:set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK)
    expect(taken(), F.MAC)
    expect_works { t = t, tx = tx, memory = m:ram(), header = string.rep("\0", 12) }
end)

test("FEATURES_OK is kept whatever was accepted", function() -- lenient: 2.2.2 MUST fail to set it
    local t = virtio.transport(net, "modern")
    for _, case in ipairs {
        -- accepted, what the device goes by (low 32 bits)
        { 0, 0 }, -- no VERSION_1 on the modern transport
        { F.MAC, F.MAC },
        { F.VERSION_1 | F.CTRL_RX, F.CTRL_RX }, -- needs CTRL_VQ
        { F.VERSION_1 | F.CTRL_MAC_ADDR, F.CTRL_MAC_ADDR }, -- needs CTRL_VQ
        { F.VERSION_1 | F.GUEST_ANNOUNCE, F.GUEST_ANNOUNCE }, -- needs CTRL_VQ
        { F.VERSION_1 | F.MQ, 0 }, -- not offered
        { F.VERSION_1 | F.GUEST_TSO4, 0 }, -- not offered, and needs GUEST_CSUM
        { F.VERSION_1 | F.RING_PACKED | F.IN_ORDER, 0 }, -- not offered
        { -1, 0x79bf8064 }, -- all bits: what is taken is what is offered, to a legacy driver even
    } do
        t:negotiate(case[1]) -- expects 0x0b
        expect({ case[1], taken() }, case)
    end
end)

test("features written after FEATURES_OK are not taken", function() -- 3.1.1 step 5
    local c = net.common
    local t = virtio.transport(net, "modern")
    t:negotiate(F.VERSION_1 | F.MAC)
    expect(taken(), F.MAC)
    t:accept(F.VERSION_1 | F.MAC | F.STATUS | F.EVENT_IDX)
    expect(taken(), F.MAC)
    c.driver_feature_select = 0
    expect(c.driver_feature, F.MAC | F.STATUS | F.EVENT_IDX) -- though they read back (4.1.4.3.1: MAY)
    t:go()
    t:accept(0)
    expect(taken(), F.MAC)
    t:reset()
    expect(taken(), 0)
end)

test("features can be changed once FEATURES_OK was taken back", function() -- lenient: 2.1.1, 3.1.1
    local t = virtio.transport(net, "modern")
    t:negotiate(F.VERSION_1 | F.MAC)
    t:set_status(ACKNOWLEDGE | DRIVER)
    t:accept(F.VERSION_1 | F.STATUS)
    expect(taken(), F.STATUS)
    t:set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    expect(t:status(), 0x0b)
end)

test("features written before ACKNOWLEDGE and DRIVER count", function() -- lenient
    local t = virtio.transport(net, "modern")
    t:accept(F.VERSION_1 | F.MAC)
    expect(taken(), F.MAC)
    t:set_status(0x0b)
    expect(taken(), F.MAC)
end)

test("accepting one half of the features keeps the other half as it was written before a reset", function()
    -- The device forgets its features at a reset, but not the two words written: one word alone brings
    -- the other one back. So a driver always writes both.
    local c = net.common
    local t = virtio.transport(net, "modern")
    t:negotiate(F.VERSION_1 | F.MAC | F.STATUS)
    t:reset()
    expect(taken(), 0)
    c.driver_feature_select = 1
    c.driver_feature = F.VERSION_1 >> 32
    expect(taken(), F.MAC | F.STATUS)
end)

test("C14: feature selects beyond 1 show nothing and store nothing", function() -- 4.1.4.3.1
    local c = net.common
    local t = virtio.transport(net, "modern")
    t:accept(F.VERSION_1 | F.MAC)
    for _, select in ipairs { 2, 3, 4, 31, 32, 0x7fffffff, 0x80000000, 0xffffffff } do
        c.device_feature_select = select
        c.driver_feature_select = select
        c.driver_feature = 0xffffffff
        expect({ c.device_feature_select, c.driver_feature_select }, { select, select })
        expect({ c.device_feature, c.driver_feature }, { 0, 0 })
    end
    expect(taken(), F.MAC)
    c.driver_feature_select = 1
    expect(c.driver_feature, F.VERSION_1 >> 32)
    c.device_feature_select = 1
    expect(c.device_feature, OFFERED.modern >> 32)
end)

test("read-only registers ignore what is written to them", function() -- 4.1.4.3.2: the driver MUST NOT
    local c = net.common
    local t = virtio.transport(net, "modern")
    t:negotiate(F.VERSION_1)
    c.queue_select = 1
    c.device_feature_select = 0
    local before = c:values()
    for name, width in pairs {
        device_feature = 4, num_queues = 2, config_generation = 1, queue_notify_off = 2, queue_notify_data = 2,
    } do
        for _, value in ipairs { 0, (1 << 8 * width) - 1 } do
            c[name] = value
            expect({ name, c:values() }, { name, before })
        end
    end
end)

test("C16: legacy features are offered to legacy drivers only, and VERSION_1 to modern ones only", function()
    local legacy_only = F.GSO | F.NOTIFY_ON_EMPTY | F.ANY_LAYOUT | F.LEGACY_BAD
    expect(virtio.transport(net, "modern"):offered() & legacy_only, 0)
    expect(virtio.transport(net, "legacy"):offered(), OFFERED.legacy)
    expect(OFFERED.legacy & legacy_only, legacy_only)
end)

-- ---- NEEDS_RESET ----

-- queue_enable = 0 is an error that leaves the rings alone (queues.lua).
local function break_device(t)
    t:select(0)
    net.common.queue_enable = 0
end

test("NEEDS_RESET is told as a configuration change, once the device runs", function() -- 2.1.2
    local t = virtio.transport(net, "modern")
    local line = irq(net, { form = "line" })
    t:negotiate(F.VERSION_1)
    break_device(t)
    expect(t:status(), 0x0b | NEEDS_RESET)
    expect({ line:raised(), t:isr() }, { false, 0 })
    t:negotiate(F.VERSION_1)
    t:go()
    break_device(t)
    expect(t:status(), 0x0f | NEEDS_RESET)
    expect(line:raised(), true)
    expect(t:isr(), virtio.ISR_QUEUE | virtio.ISR_CONFIG) -- QEMU sets both for a configuration change
    expect(line:raised(), false)
end)

test("a broken device does nothing until it is reset, whatever is written to its status", function()
    local up = virtio.bring_up(net, { memory = m:ram() })
    break_device(up.t)
    up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
    up.tx:post(0)
    for _, status in ipairs { 0x4f, 0x0f, 0x0b, 0x0f, 0x03, 0x0f } do
        up.t:set_status(status)
        expect(up.t:status(), status) -- lenient: NEEDS_RESET is cleared by a write
        up.t:kick(virtio.TX)
        virtio.settle(m)
        expect(up.tx:used_idx(), 0)
    end
    expect_works(virtio.bring_up(net, { memory = m:ram() })) -- from a reset on
end)

test("without VERSION_1 a broken device does not say so", function() -- 2.1: NEEDS_RESET came with it
    local up = virtio.bring_up(net, { memory = m:ram(), features = 0 })
    break_device(up.t)
    expect(up.t:status(), 0x0f)
    up.tx:chain(0, { virtio.buffer(m:ram(), up.header .. frame(60)) })
    up.tx:post(0)
    up.t:kick(virtio.TX)
    virtio.settle(m)
    expect(up.tx:used_idx(), 0)
    expect_works(virtio.bring_up(net, { memory = m:ram(), features = 0 }))
end)

-- ---- wrong orders: legacy ----

test("legacy: features can be changed while the device runs", function() -- lenient: 3.1.2 as 3.1.1
    local up = virtio.bring_up(net, { transport = "legacy", memory = m:ram() })
    up.t:accept(F.STATUS | F.MAC)
    expect(taken(), F.STATUS | F.MAC)
    up.t:accept(0)
    expect(taken(), 0)
    expect_works(up)
end)

test("legacy: FEATURES_OK, which is not for it, locks the features all the same", function()
    local t = virtio.transport(net, "legacy")
    t:negotiate(F.MAC)
    t:set_status(0x0b)
    expect(t:status(), 0x0b)
    t:accept(F.STATUS)
    expect(taken(), F.MAC)
end)

test("legacy: a driver that takes the bit which no driver should take gets the MAC address only", function()
    -- Bit 30 marks drivers that return what they read; QEMU gives them what cannot do harm.
    local t = virtio.transport(net, "legacy")
    t:negotiate(0xffffffff)
    expect(taken(), F.MAC)
    t:negotiate(F.LEGACY_BAD)
    expect(taken(), F.MAC)
    t:negotiate(F.STATUS)
    expect(taken(), F.STATUS)
end)

test("both transports of a transitional device show the same status", function()
    local modern, legacy = virtio.transport(net, "modern"), virtio.transport(net, "legacy")
    modern:set_status(ACKNOWLEDGE)
    expect(legacy:status(), ACKNOWLEDGE)
    legacy:set_status(ACKNOWLEDGE | DRIVER)
    expect(modern:status(), 0x03)
    legacy:reset()
    expect(modern:status(), 0)
end)

-- ---- device configuration ----

test("the MAC address can be written only by a driver without VERSION_1 or CTRL_MAC_ADDR", function()
    -- Lenient: 3.1.1 forbids writing the configuration before FEATURES_OK.
    local t = virtio.transport(net, "modern")
    local mac0 = net.device.mac[0]
    expect(mac0, 0x52)
    local function write(value)
        net.device:write(0, 1, value)
        return net.device.mac[0]
    end
    expect(write(0xaa), 0xaa) -- before anything
    t:set_status(ACKNOWLEDGE | DRIVER)
    expect(write(0xab), 0xab)
    t:negotiate(F.VERSION_1 | F.MAC)
    expect(net.device.mac[0], 0x52) -- the reset gave the address back
    expect(write(0xac), 0x52)
    t:negotiate(F.MAC)
    expect(write(0xad), 0xad)
    t:negotiate(F.MAC | F.CTRL_MAC_ADDR)
    expect(write(0xae), 0x52)
end)

test("the link status field is read-only", function()
    net.device:write(6, 2, 0)
    expect(net.device.status, 1)
end)
