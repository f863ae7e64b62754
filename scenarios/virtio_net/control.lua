-- The control queue (virtio 1.2, 5.1.6.5): commands of every length and count, and what they do to what is
-- received. Queue pairs: 7.2 offers MQ to a netdev with one queue as well; more pairs need other netdevs.
local virtio = require "virtio"
local F = virtio.F
local CTRL = virtio.CTRL

local OK, ERR = 0, 1
local CONTROL = F.CTRL_VQ | F.CTRL_RX | F.CTRL_RX_EXTRA | F.CTRL_VLAN | F.CTRL_MAC_ADDR | F.GUEST_ANNOUNCE |
    F.CTRL_GUEST_OFFLOADS
local BASE = { modern = F.VERSION_1, legacy = 0 }

local m = machine {}
local net = m:device "virtio-net-pci,mac=52:54:00:12:34:56"
local other = m:device "virtio-net-pci"

-- A device with its control queue: up.command(part, ...) lays each part into a buffer of its own, adds one
-- for the ack, and returns the ack.
local function bring_up(dev, machine, o)
    o = o or {}
    local up = virtio.bring_up(dev, {
        transport = o.transport, features = BASE[o.transport or "modern"] | (o.features or CONTROL),
        memory = machine:ram(), ctrl = true, buffers = o.buffers,
    })
    local ack = virtio.buffer(machine:ram(), 1)
    function up.command(...)
        local chain, kept = {}, { ... }
        for i, part in ipairs(kept) do
            chain[i] = virtio.buffer(machine:ram(), part)
            kept[i] = chain[i].offset
        end
        chain[#chain + 1] = ack
        machine:ram():u8(ack.offset, 0x55)
        up.ctrl:chain(0, chain)
        up.ctrl:post(0)
        up.t:kick(CTRL)
        up.ctrl:await()
        expect({ up.ctrl:used_element(up.ctrl.n_posted - 1) }, { 0, 1 }) -- one byte written: the ack
        for _, offset in ipairs(kept) do
            machine:ram():free(offset)
        end
        return machine:ram():u8(ack.offset)
    end
    return up
end

local function table_set(n_unicast, unicast, n_multicast, multicast)
    return "\1\0", string.pack("<I4", n_unicast) .. unicast .. string.pack("<I4", n_multicast) .. multicast
end

-- ---- commands ----

for _, transport in ipairs { "modern", "legacy" } do
    test("C16: " .. transport .. ": commands are answered by what they are, in one buffer or many", function()
        local up = bring_up(net, m, { transport = transport })
        for _, case in ipairs {
            -- what, ack, parts
            { "promiscuous", OK, "\0\0\1" },
            { "in three parts", OK, "\0", "\0", "\1" },
            { "more data than needed", OK, "\0\0\1", "\1\1\1" }, -- lenient
            { "no data", ERR, "\0\0" },
            { "no such receive mode", ERR, "\0\6\1" },
            { "no such class", ERR, "\200\0\1" },
            { "VLAN 4095", OK, "\2\0", "\xff\x0f" },
            { "VLAN 4096", ERR, "\2\0", "\x00\x10" },
            { "half a VLAN", ERR, "\2\0", "\1" },
            { "no such VLAN command", ERR, "\2\2", "\1\0" },
            { "an ack for an announcement that was not asked for", ERR, "\3\0" },
            { "offloads that were not negotiated", ERR, "\5\0", string.pack("<I8", -1) },
            { "the address", OK, "\1\1", "\2bcdef" },
            { "an address of 5 bytes", ERR, "\1\1", "\2bcde" },
            { "an address of 7 bytes", ERR, "\1\1", "\2bcdefg" },
            { "no such MAC command", ERR, "\1\2", "\2bcdef" },
            { "pairs, without MQ", ERR, "\4\0", "\2\0" },
        } do
            expect({ case[1], up.command(table.unpack(case, 3)) }, { case[1], case[2] })
        end
        expect(up.t:status(), virtio.RUNNING[transport])
    end)
end

test("commands of features that were not negotiated are carried out all the same", function() -- lenient
    local up = bring_up(net, m, { features = F.CTRL_VQ })
    expect(up.command("\0\0\1"), OK)
    expect(up.command("\2\0", "\1\0"), OK)
    expect(up.command("\1\1", "\2bcdef"), OK)
end)

test("a command that lacks its header or its ack breaks the device, and a reset recovers", function()
    for _, build in ipairs {
        function(r) r:chain(0, { virtio.buffer(m:ram(), "\0\0\1") }) end, -- nowhere to write the ack
        function(r) r:chain(0, { virtio.buffer(m:ram(), 1) }) end, -- nothing to read
        function(r) r:chain(0, { virtio.buffer(m:ram(), "\0"), virtio.buffer(m:ram(), 1) }) end,
    } do
        local up = bring_up(net, m)
        build(up.ctrl)
        up.ctrl:post(0)
        up.t:kick(CTRL)
        virtio.settle(m)
        expect({ up.t:status(), up.ctrl:used_idx() }, { 0x0f | virtio.NEEDS_RESET, 0 })
        expect.match(m:log(), "virtio%-net ctrl missing headers\n?$")
    end
    expect(bring_up(net, m).command("\0\0\1"), OK)
end)

test("the address set by a command shows in the configuration, and a reset takes it back", function()
    local up = bring_up(net, m)
    local function address()
        local bytes = {}
        for i = 0, 5 do
            bytes[i + 1] = string.char(net.device.mac[i])
        end
        return table.concat(bytes)
    end
    expect(address(), mac "52:54:00:12:34:56")
    expect(up.command("\1\1", mac "02:11:22:33:44:55"), OK)
    expect(address(), mac "02:11:22:33:44:55")
    up.t:reset()
    expect(address(), mac "52:54:00:12:34:56")
end)

test("C19: a MAC table is taken by what is there, not by what it claims", function()
    local up = bring_up(net, m)
    for _, n in ipairs { 0, 1, 63, 64, 65, 200 } do -- 64 is what QEMU keeps; more: it lets all pass
        expect({ n, up.command(table_set(n, string.rep("\2abcde", n), 0, "")) }, { n, OK })
        expect({ n, up.command(table_set(0, "", n, string.rep("\3abcde", n))) }, { n, OK })
    end
    for _, n in ipairs { 2, 64, 65, 1 << 26, 0x2aaaaaab, 0x80000000, 0xffffffff } do
        expect({ n, up.command(table_set(n, "\2abcde", 0, "")) }, { n, ERR })
        expect({ n, up.command(table_set(0, "", n, "\3abcde")) }, { n, ERR })
    end
    -- Lenient: 6 * n is computed in 32 bits. A count whose product wraps to what is there is taken, as one
    -- of the tables that are too long: nothing is read beyond the end.
    expect(up.command(table_set(0x80000000, "", 0, "")), OK)
    expect(up.command(table_set(0x2aaaaaab, "xx", 0, "")), OK)
    expect(up.command(table_set(0, "", 0x80000000, "")), OK)
    expect(up.command(table_set(0, "", 0x2aaaaaab, "xx")), OK)
    expect(up.command(table_set(0, "", 0x2aaaaaab, "xxx")), ERR)
    expect(up.command("\1\0", "\0\0\0"), ERR)
    expect(up.command("\1\0", "\0\0\0\0"), ERR)
    expect(up.command("\1\0"), ERR)
    expect(up.t:status(), 0x0f)
end)

-- ---- what is received ----

local OWN, TABLE_UNI, OTHER_UNI = mac "52:54:00:12:34:56", mac "02:00:00:00:00:aa", mac "02:00:00:00:00:bb"
local BROADCAST, TABLE_MULTI, OTHER_MULTI = mac "ff:ff:ff:ff:ff:ff", mac "01:00:5e:00:00:01", mac "01:00:5e:00:00:02"
local KINDS = {
    { "own", OWN }, { "unicast in the table", TABLE_UNI }, { "other unicast", OTHER_UNI },
    { "broadcast", BROADCAST }, { "multicast in the table", TABLE_MULTI }, { "other multicast", OTHER_MULTI },
}

-- Sends a frame of each kind and, through a mode that takes all, one that ends them; returns the names of
-- those that arrived.
local function arriving(up, peer, kinds)
    local frames, names = {}, {}
    for i, kind in ipairs(kinds or KINDS) do
        frames[i] = kind[2] .. mac "02:00:00:00:00:01" .. (kind[3] or "") .. "\x88\xb5" .. string.rep(string.char(i), 50)
        names[i] = kind[1]
    end
    expect(peer:tx_burst(frames), #frames)
    peer:drain()
    virtio.settle(m)
    local arrived = {}
    while up.rx_seen ~= up.rx:used_idx() do
        local id, len = up.rx:used_element(up.rx_seen)
        local got = m:ram():read(up.rx_buffers[id].offset + 12, len - 12)
        for i, f in ipairs(frames) do
            if f == got then
                arrived[#arrived + 1] = names[i]
            end
        end
        up.rx:post(id)
        up.rx_seen = up.rx_seen + 1
    end
    up.t:kick(virtio.RX)
    return arrived
end

test("C19: receive modes and the MAC table let pass what they should", function()
    local up = bring_up(net, m, { buffers = 32 })
    up.rx_seen = 0
    local peer = virtio_net(other)
    local function set(...)
        for _, command in ipairs { ... } do
            expect(up.command(table.unpack(command)), OK)
        end
    end
    local function mode(n, on)
        return { "\0" .. string.char(n, on) }
    end
    local PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST = 0, 1, 2, 3, 4, 5
    local own, uni, other_uni, bcast, multi, other_multi = "own", "unicast in the table", "other unicast", "broadcast",
        "multicast in the table", "other multicast"

    expect(arriving(up, peer), { own, uni, other_uni, bcast, multi, other_multi }) -- promiscuous from the start
    set(mode(PROMISC, 0))
    expect(arriving(up, peer), { own, bcast })
    set({ table_set(1, TABLE_UNI, 1, TABLE_MULTI) })
    expect(arriving(up, peer), { own, uni, bcast, multi })
    set(mode(ALLMULTI, 1))
    expect(arriving(up, peer), { own, uni, bcast, multi, other_multi })
    set(mode(NOMULTI, 1))
    expect(arriving(up, peer), { own, uni, bcast }) -- stronger
    set(mode(ALLUNI, 1))
    expect(arriving(up, peer), { own, uni, other_uni, bcast })
    set(mode(NOUNI, 1))
    expect(arriving(up, peer), { bcast }) -- not even its own
    set(mode(NOBCAST, 1))
    expect(arriving(up, peer), {})
    set(mode(PROMISC, 1))
    expect(arriving(up, peer), { own, uni, other_uni, bcast, multi, other_multi })
    set(mode(PROMISC, 0), mode(NOBCAST, 0), mode(NOUNI, 0), mode(ALLUNI, 0), mode(NOMULTI, 0), mode(ALLMULTI, 0))
    expect(arriving(up, peer), { own, uni, bcast, multi })
    -- a table that is too long lets all of its kind pass
    set({ table_set(65, string.rep("\2abcde", 65), 0, "") })
    expect(arriving(up, peer), { own, uni, other_uni, bcast })
    set({ table_set(0, "", 65, string.rep("\3abcde", 65)) })
    expect(arriving(up, peer), { own, bcast, multi, other_multi })
    set({ table_set(0, "", 0, "") })
    expect(arriving(up, peer), { own, bcast })
    -- a command that fails leaves the table as it was
    set({ table_set(1, TABLE_UNI, 1, TABLE_MULTI) })
    expect(up.command(table_set(1, TABLE_UNI, 2, TABLE_MULTI)), ERR)
    expect(arriving(up, peer), { own, uni, bcast, multi })
end)

test("with CTRL_VLAN only VLANs that were added pass, without it all do", function()
    local kinds = {
        { "untagged", OWN }, { "VLAN 0", OWN, "\x81\x00\0\0" }, { "VLAN 5", OWN, "\x81\x00\0\5" },
        { "VLAN 5, priority 7", OWN, "\x81\x00\xe0\5" }, { "VLAN 4095", OWN, "\x81\x00\x0f\xff" },
    }
    local peer = virtio_net(other)
    for _, features in ipairs { CONTROL, CONTROL & ~F.CTRL_VLAN } do
        local up = bring_up(net, m, { buffers = 32, features = features })
        up.rx_seen = 0
        expect(up.command("\0\0\0"), OK) -- promiscuous off
        if features & F.CTRL_VLAN == 0 then
            expect(arriving(up, peer, kinds), { "untagged", "VLAN 0", "VLAN 5", "VLAN 5, priority 7", "VLAN 4095" })
        else
            expect(arriving(up, peer, kinds), { "untagged" })
            expect(up.command("\2\0", "\5\0"), OK)
            expect(arriving(up, peer, kinds), { "untagged", "VLAN 5", "VLAN 5, priority 7" })
            expect(up.command("\2\0", "\xff\x0f"), OK)
            expect(up.command("\2\1", "\5\0"), OK)
            expect(arriving(up, peer, kinds), { "untagged", "VLAN 4095" })
        end
        up.t:reset()
    end
end)

-- ---- queue pairs and RSS ----

local mm = machine {}
local mq = mm:device "virtio-net-pci,mq=on,rss=on,mac=52:54:00:12:34:56"
local mq_peer = mm:device "virtio-net-pci"

test("the number of queue pairs can be 1 to what there are", function()
    local up = bring_up(mq, mm, { features = F.CTRL_VQ | F.MQ })
    for _, case in ipairs { { 0, ERR }, { 1, OK }, { 2, ERR }, { 0x8000, ERR }, { 0x8001, ERR }, { 0xffff, ERR } } do
        expect({ case[1], up.command("\4\0", string.pack("<I2", case[1])) }, case)
    end
    expect(up.command("\4\0"), ERR)
    expect(up.command("\4\0", "\1"), ERR)
    expect(mq.device.max_virtqueue_pairs, 1)
end)

-- types, mask, unclassified queue, table, transmit queues, key
local function rss(o)
    return "\4\1", string.pack("<I4I2I2", o.types or 0x1ff, o.mask or #o.table - 1, o.unclassified or 0) ..
        string.pack("<" .. string.rep("I2", #o.table), table.unpack(o.table)) ..
        string.pack("<I2B", o.pairs or 1, o.key or 40) .. string.rep("\1", o.key or 40)
end

test("C07: an RSS table that names queues there are not: frames come by those there are", function()
    local up = bring_up(mq, mm, { features = F.CTRL_VQ | F.MQ | F.RSS, buffers = 16 })
    local peer = virtio_net(mq_peer)
    local udp = OWN .. mac "02:00:00:00:00:01" .. "\x08\x00" ..
        unhex "45 00 00 2e 00 00 00 00 40 11 00 00 0a 00 00 01 0a 00 00 02 10 00 10 01 00 1a 00 00" .. string.rep("x", 18)
    for i, entry in ipairs { 0, 1, 2, 7, 100, 0x7fff, 0xffff } do
        expect({ entry, up.command(rss { table = { entry, entry, entry, entry } }) }, { entry, OK }) -- lenient
        peer:send(udp)
        up.rx:await(i)
    end
    expect({ up.t:status(), mm:alive() }, { 0x0f, true })
end)

test("C07: RSS settings that cannot be are refused", function()
    local up = bring_up(mq, mm, { features = F.CTRL_VQ | F.MQ | F.RSS })
    local entries = {}
    for i = 1, 129 do
        entries[i] = 0
    end
    for _, case in ipairs {
        { "one pair", OK, { table = { 0 } } },
        { "no pairs", ERR, { table = { 0 }, pairs = 0 } },
        { "two pairs", ERR, { table = { 0 }, pairs = 2 } },
        { "65535 pairs", ERR, { table = { 0 }, pairs = 0xffff } },
        { "an unclassified queue that is not there", ERR, { table = { 0 }, unclassified = 1 } },
        { "no power of two", ERR, { table = { 0, 0, 0 } } },
        { "a table of 128", OK, { table = { table.unpack(entries, 1, 128) } } },
        { "a table of 129", ERR, { table = entries } },
        { "a table shorter than its mask", ERR, { table = { 0 }, mask = 127 } },
        { "a key of 41", ERR, { table = { 0 }, key = 41 } },
        { "a key of 0", ERR, { table = { 0 }, key = 0 } },
        { "hash types that are not", OK, { table = { 0 }, types = 0xffffffff } },
    } do
        expect({ case[1], up.command(rss(case[3])) }, { case[1], case[2] })
    end
    expect(up.command("\4\1", "\0\0\0\0\0"), ERR)
    expect(up.t:status(), 0x0f)
end)
