-- VALE switches: who gets a frame, what is learned, what is dropped and counted, headers, and the
-- requests that manage switches.

local N = require "netmap"

local host = netmap {}

local function ports(n, options)
    local list = {}
    for i = 1, n do
        list[i] = host:open("vale0:p" .. i, options)
    end
    return list
end

local function at(n) return N.station(n) end

-- Which of the ports have the frame waiting, alone.
local function who_got(list, bytes)
    local who = {}
    for i, port in ipairs(list) do
        local frames = port:rx_burst()
        if #frames > 0 then
            expect(frames, { bytes })
            who[#who + 1] = i
        end
    end
    return who
end

-- ---- where frames go ----

test("a frame for somebody unknown goes to all other ports", function()
    local p = ports(4)
    local f = N.frame(at(1), at(9))
    p[1]:send(f)
    expect(who_got(p, f), { 2, 3, 4 })
end)

test("broadcast and multicast go to all other ports, whatever was learned", function()
    local p = ports(3)
    for _, to in ipairs { N.BROADCAST, "01:00:5e:00:00:01", "33:33:00:00:00:01" } do
        local f = N.frame(at(1), to)
        p[1]:send(f)
        expect(who_got(p, f), { 2, 3 })
    end
end)

test("a frame for an address that was seen goes to its port alone", function()
    local p = ports(4)
    p[3]:send(N.frame(at(3), at(9)))
    who_got(p, N.frame(at(3), at(9)))
    local f = N.frame(at(1), at(3))
    p[1]:send(f)
    expect(who_got(p, f), { 3 })
end)

test("a station that moves is found where it was seen last", function()
    local p = ports(3)
    for _, where in ipairs { 1, 2, 1, 3 } do
        for i = 1, 3 do -- everybody is heard: what a port said last is not learned again
            p[i]:send(N.frame(at(i), N.BROADCAST))
        end
        for i = 1, 3 do
            p[i]:rx_burst()
        end
        local hello = N.frame(at(7), N.BROADCAST, where)
        p[where]:send(hello)
        who_got(p, hello)
        local from = where % 3 + 1
        local f = N.frame(at(100 + from), at(7), where)
        p[from]:send(f)
        expect(who_got(p, f), { where })
    end
end)

test("a station that comes back to a port which heard nobody else is still sought where it went", function()
    local p = ports(3)
    for _, where in ipairs { 1, 2, 1 } do
        p[where]:send(N.frame(at(7), N.BROADCAST, where))
    end
    for i = 1, 3 do
        p[i]:rx_burst()
    end
    local f = N.frame(at(3), at(7))
    p[3]:send(f)
    expect(who_got(p, f), { 2 })
end)

test("a frame for the port it came from goes nowhere", function()
    local p = ports(2)
    p[1]:send(N.frame(at(1), at(9)))
    p[2]:rx_burst()
    p[1]:send(N.frame(at(2), at(1)))
    expect(who_got(p, ""), {})
end)

test("a group address as source is not learned", function()
    local p = ports(3)
    local odd = mac "03:00:00:00:00:01"
    p[1]:send(mac(at(9)) .. odd .. pattern(48))
    who_got(p, mac(at(9)) .. odd .. pattern(48))
    local f = N.frame(at(2), "03:00:00:00:00:01")
    p[2]:send(f)
    expect(who_got(p, f), { 1, 3 })
end)

test("frames keep their order and their bytes, whatever their length", function()
    local p = ports(2, { slots = 128 })
    local sent = {}
    for len = 14, 2040, 61 do
        sent[#sent + 1] = N.frame(at(1), at(2), len, len)
    end
    expect(p[1]:tx_burst(sent), #sent)
    expect(p[2]:rx_burst(), sent)
end)

test("a frame shorter than its addresses and type is dropped, and counted", function()
    local p = ports(2)
    p[1]:send(N.frame(at(1), at(2), 1, 14):sub(1, 13))
    expect(who_got(p, ""), {})
    expect(host:stats("vale0:p1").dropped_bad, 1)
end)

test("a frame in several slots arrives in several slots", function()
    local p = ports(2)
    local f = N.frame(at(1), at(2), 5, 5000)
    p[1]:send(f)
    expect(p[2]:rxsync(), "OK")
    local rx = p[2].rx[0]
    expect(rx:space(), 3)
    expect({ rx[0].len, rx[1].len, rx[2].len }, { 2048, 2048, 904 })
    expect(rx[0].flags, 3 << 8 | N.NS_MOREFRAG)
    expect(rx[1].flags, 3 << 8 | N.NS_MOREFRAG)
    expect(rx[2].flags, 3 << 8)
    expect(p[2]:recv(), f)
end)

test("a frame that never ends is sent as far as it goes", function()
    local p = ports(2)
    local tx = p[1].tx[0]
    tx[0]:set(N.frame(at(1), at(2)))
    tx[0].flags = N.NS_MOREFRAG
    N.step(tx, 1)
    expect(p[1]:txsync(), "OK")
    expect(p[2]:recv(), N.frame(at(1), at(2)))
end)

test("an indirect slot's data are read from where it points", function()
    local p = ports(2)
    local far = memory { size = "4k" }
    local f = N.frame(at(1), at(2), 9, 100)
    far:write(128, f)
    local slot = p[1].tx[0][0]
    slot.ptr, slot.len, slot.flags = far:host() + 128, 100, N.NS_INDIRECT
    N.step(p[1].tx[0], 1)
    expect(p[1]:txsync(), "OK")
    expect(p[2]:recv(), f)
end)

test("an indirect slot that points nowhere harms nobody", function()
    local p = ports(2)
    local slot = p[1].tx[0][0]
    slot.ptr, slot.len, slot.flags = 4096, 100, N.NS_INDIRECT
    N.step(p[1].tx[0], 1)
    expect(p[1]:txsync(), "OK")
    local f = N.frame(at(1), at(2))
    p[1]:send(f)
    expect.eventually(function() return p[2]:recv() == f end)
end)

test("unicast keeps to its ring, modulo the rings there are; broadcast comes on ring 0", function()
    local a = host:open("vale0:a", { rings = 4, slots = 64 })
    local b = host:open("vale0:b", { rings = 3, slots = 64 })
    b:send(N.frame(at(2), at(9)))
    for ring, where in pairs { [0] = 0, [1] = 1, [2] = 2, [3] = 0 } do
        a:send(N.frame(at(1), at(2), ring), 1000, ring)
        local f, from = b:recv()
        expect({ f, from }, { N.frame(at(1), at(2), ring), where })
        a:send(N.frame(at(1), N.BROADCAST, ring), 1000, ring)
        f, from = b:recv()
        expect({ f, from }, { N.frame(at(1), N.BROADCAST, ring), 0 })
    end
end)

test("a lookup of one's own sends frames where it likes", function()
    local p = ports(4)
    local f = N.frame(at(1), at(2))
    host:lookup("vale0:", 2)
    p[1]:send(f)
    expect(who_got(p, f), { 3 })
    host:lookup("vale0:", "drop")
    p[1]:send(f)
    expect(who_got(p, f), {})
    host:lookup("vale0:", "broadcast")
    p[1]:send(f)
    expect(who_got(p, f), { 2, 3, 4 })
    host:lookup("vale0:", 99) -- nobody
    p[1]:send(f)
    expect(who_got(p, f), {})
    host:lookup("vale0:", "learn")
    p[2]:send(N.frame(at(2), N.BROADCAST))
    who_got(p, N.frame(at(2), N.BROADCAST))
    p[1]:send(f)
    expect(who_got(p, f), { 2 })
end)

test("a slot can name its destination, where the switch looks at that", function()
    local p = ports(4)
    local f = N.frame(at(1), N.BROADCAST)
    local function send_to(port)
        local tx = p[1].tx[0]
        tx[tx.cur]:set(f)
        tx[tx.cur].flags = port << 8
        N.step(tx, 1)
        p[1]:txsync()
        return who_got(p, f)
    end
    expect(send_to(3), { 2, 3, 4 }) -- netmap's own does not
    host:slot_destination("vale0:", true)
    expect(send_to(3), { 3 })
    expect(send_to(4), { 4 })
    expect(send_to(255), { 2, 3, 4 })
    expect(send_to(0), { 2, 3, 4 })
    expect(send_to(1), {}) -- its own
    expect(send_to(200), {}) -- nobody's
end)

-- ---- full destinations ----

test("what does not fit the destination is dropped and counted, the sender is never held up", function()
    local p = ports(2, { slots = 16 })
    for round = 0, 2 do
        for i = 1, 10 do
            p[1]:send(N.frame(at(1), at(2), round * 10 + i))
        end
    end
    local got = p[2]:rx_burst()
    expect(#got, 15)
    for i = 1, 15 do
        expect(got[i], N.frame(at(1), at(2), i))
    end
    local s1, s2 = host:stats "vale0:p1", host:stats "vale0:p2"
    expect({ s1.rx_frames, s1.rx_bytes }, { 30, 1800 })
    expect({ s2.tx_frames, s2.tx_bytes, s2.dropped_full }, { 15, 900, 15 })
end)

test("a full port costs the others nothing", function()
    local p = ports(3, { slots = 16 })
    for i = 1, 100 do
        local f = N.frame(at(1), N.BROADCAST, i)
        p[1]:send(f)
        expect(p[3]:recv(), f)
    end
    expect(#p[2]:rx_burst(), 15)
    expect(host:stats("vale0:p2").dropped_full, 85)
end)

test("with the policy to wait, frames stay in the sender's ring until there is room", function()
    local p = ports(2, { slots = 16 })
    host:policy("vale0:", "wait")
    for i = 1, 15 do
        p[1]:send(N.frame(at(1), at(2), i))
    end
    expect(p[1]:tx_burst { N.frame(at(1), at(2), 16), N.frame(at(1), at(2), 17) }, 2)
    expect(p[1].tx[0]:space(), 13)
    local got = p[2]:rx_burst()
    expect(#got, 15)
    expect(p[1]:txsync(), "OK")
    expect(p[1].tx[0]:space(), 15)
    expect(p[2]:rx_burst(), { N.frame(at(1), at(2), 16), N.frame(at(1), at(2), 17) })
    expect(host:stats("vale0:p2").dropped_full, 0)
end)

test("a port that has gone gets nothing, and its name can come back", function()
    local p = ports(3)
    p[3]:send(N.frame(at(3), at(9)))
    p[1]:rx_burst()
    p[2]:rx_burst()
    p[3]:close()
    p[1]:send(N.frame(at(1), at(3), 5))
    p[3] = host:open "vale0:p3"
    expect(#p[3]:rx_burst(), 0)
    p[1]:send(N.frame(at(1), N.BROADCAST, 6))
    expect(p[3]:recv(), N.frame(at(1), N.BROADCAST, 6))
end)

-- ---- vnet headers ----

local function headed(options, ...)
    local list = {}
    for i, len in ipairs { ... } do
        local name = "vale0:h" .. i
        list[i] = host:open(name, options)
        if len > 0 then
            host:set_header(name, { nr_hdr_len = len })
        end
    end
    return list
end

test("a header is put before frames of ports without one, and taken away again", function()
    for _, len in ipairs { 10, 12 } do
        local p = headed({ vnet_hdr = true }, 0, len)
        local f = N.frame(at(1), at(2))
        p[1]:send(f)
        expect(p[2]:recv(), string.rep("\0", len) .. f)
        p[2]:send(string.rep("\0", len) .. f)
        expect(p[1]:recv(), f)
        p[1]:close()
        p[2]:close()
    end
end)

test("headers of 10 and 12 bytes become each other", function()
    local p = headed({ vnet_hdr = true }, 10, 12)
    local f = N.frame(at(1), at(2))
    local header = "\0\0\x0e\0\0\0\0\0\0\0"
    p[1]:send(header .. f)
    expect(p[2]:recv(), header .. "\0\0" .. f)
    p[2]:send(header .. "\1\0" .. f)
    expect(p[1]:recv(), header .. f)
end)

test("between headers of the same length everything is passed on as it is", function()
    local p = headed({ vnet_hdr = true }, 12, 12)
    local bytes = pattern(12, 3) .. N.frame(at(1), at(2))
    p[1]:send(bytes)
    expect(p[2]:recv(), bytes)
end)

test("a header that cannot be is dropped where it would be acted on", function()
    local p = headed({ vnet_hdr = true }, 12, 0)
    p[1]:send("\0\x55\0\0\0\0\0\0\0\0\0\0" .. N.frame(at(1), at(2)))
    expect(#p[2]:rx_burst(), 0)
    expect(host:stats("vale0:h1").dropped_bad, 1)
end)

local function ipv4_tcp(payload)
    local ip = "\x45\0" .. string.pack(">I2", 40 + #payload) .. "\0\1\0\0\x40\6\0\0\x0a\0\0\1\x0a\0\0\2"
    local tcp = "\0\x50\0\x51\0\0\0\1\0\0\0\2\x50\x18\x10\0\0\0\0\0"
    return mac(at(2)) .. mac(at(1)) .. "\8\0" .. ip .. tcp .. payload
end

test("a large TCP segment is cut for a port that takes no offloads", function()
    local p = headed({ vnet_hdr = true, slots = 64 }, 12, 0)
    local payload = pattern(4000)
    local header = string.pack("<I1I1I2I2I2I2I2", 1, 1, 54, 1000, 34, 16, 0)
    p[1]:send(header .. ipv4_tcp(payload))
    local got = p[2]:rx_burst()
    local data, sequence = "", 1
    for i, f in ipairs(got) do
        expect(#f, 14 + string.unpack(">I2", f, 17))
        expect(string.unpack(">I4", f, 39), sequence)
        expect(f:byte(48) & 9, i == #got and 8 or 0) -- PSH on the last one alone
        data = data .. f:sub(55)
        sequence = sequence + #f - 54
    end
    expect(data, payload)
    expect.above(#got, 2)
end)

test("header lengths are 0, 10 and 12, and of switch ports", function()
    local p = host:open("vale0:a", { vnet_hdr = true })
    for _, len in ipairs { 1, 11, 13, 14, 0xffffffff } do
        expect(host:request { type = "PORT_HDR_SET", name = "vale0:a", body = { nr_hdr_len = len } },
            "EINVAL")
    end
    host:set_header("vale0:a", { nr_hdr_len = 12 })
    expect(host:header("vale0:a").nr_hdr_len, 12)
    expect(p:info().header, 12)
    expect.error("EIO", host.open, host, "vale0:a")
    expect(host:request { type = "PORT_HDR_SET", name = "vale0:b", body = { nr_hdr_len = 12 } }, "ENXIO")
end)

-- ---- management ----

test("ports are found by name and by number", function()
    host:open "vale0:a"
    host:open "vale0:b"
    host:open "vale7:c"
    local b = host:list "vale0:b"
    expect({ b.nr_bridge_idx, b.nr_port_idx }, { 0, 1 })
    local names, bridge, port = {}, 0, 0
    while true do
        local err, body = host:request { type = "VALE_LIST",
            body = { nr_bridge_idx = bridge, nr_port_idx = port } }
        if err ~= "OK" then
            expect(err, "ENOENT")
            break
        end
        bridge, port = body.nr_bridge_idx, body.nr_port_idx + 1
        names[#names + 1] = bridge
    end
    expect(names, { 0, 0, 1 })
end)

test("a switch goes with its last port", function()
    local a = host:open "vale3:a"
    expect(host:request { type = "VALE_LIST", name = "vale3:" }, "OK")
    a:close()
    expect(host:request { type = "VALE_LIST", name = "vale3:" }, "ENOENT")
end)

test("persistent interfaces are made, attached, used and taken away", function()
    host:newif("v1", { nr_tx_slots = 64, nr_rx_slots = 32, nr_tx_rings = 2, nr_rx_rings = 1 })
    expect(host:request { type = "VALE_NEWIF", name = "v1" }, "EEXIST")
    local info = host:port_info "v1"
    expect({ info.nr_tx_slots, info.nr_rx_slots, info.nr_tx_rings, info.nr_rx_rings }, { 64, 32, 2, 1 })
    host:attach "vale0:v1"
    expect(host:request { type = "VALE_ATTACH", name = "vale0:v1", body = { nr_mode = N.ALL_NIC } }, "EBUSY")
    local v1, a = host:open "netmap:v1", host:open "vale0:a"
    v1:send(N.frame(at(1), at(2)))
    expect(a:recv(), N.frame(at(1), at(2)))
    v1:close()
    host:detach "vale0:v1"
    host:delif "v1"
    expect(host:request { type = "VALE_DELIF", name = "v1" }, "ENXIO")
end)

test("a switch takes 8 of its kind beside it", function()
    local kept = {}
    for i = 0, 7 do
        kept[i] = host:open("vale" .. i .. ":a", { slots = 16 })
    end
    expect(host:request { type = "REGISTER", name = "vale8:a", body = { nr_mode = N.ALL_NIC } }, "ENOMEM")
    kept[3]:close()
    host:open "vale8:a"
end)

test("a switch has 254 ports and no more, and each of them its own frames", function()
    local p = ports(254, { slots = 4 })
    expect(host:request { type = "REGISTER", name = "vale0:p255", body = { nr_mode = N.ALL_NIC } }, "ENOMEM")
    local f = N.frame(at(1), N.BROADCAST)
    p[254]:send(f)
    expect(#who_got(p, f), 253)
    f = N.frame(at(7), at(1))
    p[100]:send(f)
    expect(who_got(p, f), { 254 })
    p[17]:close()
    host:open("vale0:again", { slots = 4 })
end)

test("switches do not hear each other", function()
    local a, b = host:open "vale0:a", host:open "vale1:b"
    a:send(N.frame(at(1), N.BROADCAST))
    expect(#b:rx_burst(), 0)
end)
