-- Two QEMUs, ptnet each, through a VALE switch: with one ring pair, and with four.

local N = require "netmap"

local host = netmap {}

local function guests(name, conf)
    local g = {}
    for i = 1, 2 do
        local m = machine { name = name .. i }
        g[i] = m:device("ptnet-pci,mac=" .. N.station(i),
            { netmap = host, port = "vale0:g" .. i .. (conf or "") })
    end
    return g
end

local one = guests "guest"
local four = guests("quad", "@conf:rings=4")

local function to_and_fro(a, b, rings)
    for len = 60, 1514, 97 do
        for ring = 0, rings - 1 do
            a:send(N.frame(N.station(1), N.station(2), len + ring, len), 2000, ring)
            expect(b:recv(2000, ring), N.frame(N.station(1), N.station(2), len + ring, len))
            b:send(N.frame(N.station(2), N.station(1), len + ring, len), 2000, ring)
            expect(a:recv(2000, ring), N.frame(N.station(2), N.station(1), len + ring, len))
        end
    end
end

for _, interrupts in ipairs { "none", "memory" } do
    test("frames of all lengths cross from guest to guest, interrupts: " .. interrupts, function()
        local a, b = ptnet(one[1], { interrupts = interrupts }), ptnet(one[2], { interrupts = interrupts })
        expect(a:mac(), mac(N.station(1)))
        b:send(N.frame(N.station(2), N.BROADCAST))
        a:recv()
        to_and_fro(a, b, 1)
    end)

    test("four ring pairs each, every frame stays on its ring, interrupts: " .. interrupts, function()
        local a, b = ptnet(four[1], { interrupts = interrupts }), ptnet(four[2], { interrupts = interrupts })
        expect({ a:rings() }, { 4, 4 })
        b:send(N.frame(N.station(2), N.BROADCAST))
        a:recv()
        to_and_fro(a, b, 4)
    end)
end

test("a burst arrives whole and in order", function()
    local a, b = ptnet(one[1]), ptnet(one[2])
    local sent = {}
    for i = 1, 200 do
        sent[i] = N.frame(N.station(1), N.station(2), i, 60 + i)
    end
    expect(a:tx_burst(sent), 200)
    for i = 1, 200 do
        expect(b:recv(), sent[i])
    end
    expect(a:stats("tx").errors + b:stats("rx").errors, 0)
end)

test("a large TCP frame stays whole between guests that both take offloads", function()
    local a, b = ptnet(one[1]), ptnet(one[2])
    expect({ a:header(), b:header() }, { 12, 12 })
    local f = N.frame(N.station(1), N.station(2), 5, 40000)
    local header = { flags = 1, gso_type = 1, hdr_len = 54, gso_size = 1448, csum_start = 34, csum_offset = 16 }
    a:send(f, 2000, 0, header)
    local got, with = b:recv()
    expect(got, f)
    expect(with, header)
end)

test("a guest that dies leaves the switch and the other guest as they were", function()
    local a, b = ptnet(one[1]), ptnet(one[2])
    local third = host:open("vale0:third", { vnet_hdr = true })
    a:send(N.frame(N.station(1), N.BROADCAST))
    b:recv()
    third:recv()
    one[2]:machine():kill()
    local f = N.frame(N.station(1), N.BROADCAST, 2)
    a:send(f)
    expect(third:recv(), f)
end)

test("a guest that is started again finds its port again", function()
    ptnet(one[1]):close()
    local m = one[1]:machine()
    m:stop()
    m:start()
    local a, b = ptnet(one[1]), ptnet(one[2])
    to_and_fro(a, b, 1)
end)
