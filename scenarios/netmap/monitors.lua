-- Monitors: who sees what of a port, copied or by changing buffers, and what it costs the port.

local N = require "netmap"

local host = netmap {}

local function f(i) return N.frame(N.station(1), N.BROADCAST, i) end

local function ports()
    return host:open "vale0:a@conf:slots=16", host:open "vale0:b@conf:slots=16"
end

for _, case in ipairs { { "t", true, false }, { "r", false, true }, { "tr", true, true } } do
    local flags, sees = case[1], { case[2], case[3] }
    test("a monitor with /" .. flags .. " sees what it asked for", function()
        local a, b = ports()
        local monitor = host:open("vale0:a/" .. flags)
        a:send(f(1))
        b:send(f(2))
        expect(b:recv(), f(1))
        expect(a:recv(), f(2))
        local wanted = {}
        if sees[1] then
            wanted[#wanted + 1] = f(1)
        end
        if sees[2] then
            wanted[#wanted + 1] = f(2)
        end
        expect(monitor:rx_burst(), wanted)
    end)
end

test("frames that were sent are marked, those received are not", function()
    local a, b = ports()
    local monitor = host:open "vale0:a/tr"
    a:send(f(1))
    b:send(f(2))
    a:recv()
    monitor:rxsync()
    expect(monitor.rx[0][0].flags & N.NS_TXMON, N.NS_TXMON)
    expect(monitor.rx[0][1].flags & N.NS_TXMON, 0)
end)

test("several copy monitors each see everything", function()
    local a, b = ports()
    local m1, m2 = host:open "vale0:a/t", host:open "vale0:a/t"
    expect.different(m1:info().mem_id, m2:info().mem_id)
    for i = 1, 5 do
        a:send(f(i))
    end
    expect(#b:rx_burst(), 5)
    expect(#m1:rx_burst(), 5)
    expect(#m2:rx_burst(), 5)
end)

test("a monitor that reads nothing misses frames, and holds nobody up", function()
    local a, b = ports()
    local monitor = host:open "vale0:a/t"
    for i = 1, 100 do
        a:send(f(i))
        expect(b:recv(), f(i))
    end
    expect.at_most(#monitor:rx_burst(), 15)
end)

test("a zero-copy monitor gets the buffers themselves, of the port's allocator", function()
    local a, b = ports()
    local monitor = host:open "vale0:a/zt"
    expect(monitor:info().mem_id, a:info().mem_id)
    for i = 1, 20 do
        a:send(f(i))
        expect(b:recv(), f(i))
        a:txsync()
        expect(monitor:recv(), f(i))
    end
end)

test("monitors do not send", function()
    ports()
    local monitor = host:open "vale0:a/r"
    expect(monitor:txsync(), "OK") -- sync errors are not returned
    expect(#monitor.rx, 1)
end)

test("there is nothing to monitor of a port that nobody has open", function()
    expect(host:request { type = "REGISTER", name = "vale0:a",
        body = { nr_mode = N.ALL_NIC, nr_flags = N.MONITOR_TX } }, "EINVAL")
end)

test("when the port goes, its monitor is told", function()
    local a, b = ports()
    local monitor = host:open "vale0:a/t"
    a:send(f(1))
    b:recv()
    expect(monitor:recv(), f(1))
    a:close()
    expect(monitor:poll "in", "err")
    expect(#monitor:rx_burst(), 0)
    a = host:open "vale0:a"
    a:send(f(2))
    expect(b:recv(), f(2))
end)
