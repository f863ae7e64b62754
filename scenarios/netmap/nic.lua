-- NIC-like ports: wires, rings, host rings with a stack, forwarding, emulated ones, NICs on switches.

local N = require "netmap"

local host = netmap {}
local inside, outside = wire.cable()
local stack_in, stack_out = wire.cable()
host:nic("em0", { rings = 2, slots = 64, wire = inside, stack = stack_in })

local function f(i, len) return N.frame(N.station(1), N.station(2), i, len) end

for _, kind in ipairs { "native", "emulated" } do
    local near, far = wire.cable()
    local nic = kind == "native" and "n0" or "g0"
    host:nic(nic, { slots = 64, wire = near, emulated = kind == "emulated" })

    test("frames go to the wire and come from it: " .. kind, function()
        local port = host:open("netmap:" .. nic)
        for i = 1, 20 do
            port:send(f(i, 60 + 50 * i))
            expect(far:recv(), f(i, 60 + 50 * i))
            far:send(f(100 + i, 60 + 50 * i))
            expect(port:recv(), f(100 + i, 60 + 50 * i))
        end
    end)

    test("bursts keep their order: " .. kind, function()
        local port = host:open("netmap:" .. nic)
        local sent = {}
        for i = 1, 50 do
            sent[i] = f(i)
        end
        expect(port:tx_burst(sent), 50)
        for i = 1, 50 do
            expect(far:recv(), sent[i])
        end
        for i = 1, 50 do
            far:send(sent[i])
        end
        for i = 1, 50 do
            expect(port:recv(), sent[i])
        end
    end)
end

test("what nobody has a ring for goes between wire and stack, as a driver would carry it", function()
    host:nic_info "em0" -- the interface is there
    outside:send(f(1))
    expect(stack_out:recv(), f(1))
    stack_out:send(f(2))
    expect(outside:recv(), f(2))
end)

test("with its rings in netmap mode, the wire is the program's and the stack is cut off", function()
    local port = host:open "netmap:em0"
    outside:send(f(1))
    expect(port:recv(), f(1))
    port:send(f(2))
    expect(outside:recv(), f(2))
    expect(#stack_out:rx_burst(), 0)
end)

test("host rings are the stack's side", function()
    local port = host:open "netmap:em0*"
    expect({ #port.tx, #port.rx }, { 3, 3 })
    stack_out:send(f(1))
    local got, ring = port:recv()
    expect({ got, ring }, { f(1), 2 })
    port:send(f(2), 1000, 2)
    expect(stack_out:recv(), f(2))
    local sw = host:open "netmap:em0^"
    expect({ #sw.tx, #sw.rx, sw.tx[2].ringid }, { 1, 1, 2 })
end)

test("forwarded slots go to the other side", function()
    local port = host:open "netmap:em0*"
    for ring = 0, 1 do
        port.rx[ring].flags = N.NR_FORWARD
    end
    outside:send(f(1))
    outside:send(f(2))
    expect.eventually(function()
        port:rxsync()
        return port.rx[0]:space() == 2
    end)
    port.rx[0][1].flags = N.NS_FORWARD -- the second one alone
    N.step(port.rx[0], 2)
    port:rxsync()
    expect(stack_out:recv(), f(2))
    expect(#stack_out:rx_burst(), 0)
end)

test("an interface's information is the model's", function()
    local info = host:nic_info "em0"
    expect({ #info.mac, info.mtu }, { 6, 1500 })
    outside:send(f(1))
    stack_out:recv()
    expect(host:nic_info("em0").wire.received, 1)
    expect(host:nic_info("em0").stack.sent, 1)
end)

test("an interface that is taken away says so to its users", function()
    local port = host:open "netmap:em0"
    host:remove_nic "em0"
    expect(port:txsync(), "ENXIO")
    expect(port:poll "in out", "err")
    expect.error("ENXIO", host.open, host, "netmap:em0")
end)

test("names are taken once, and not those of others", function()
    expect.error("em0", host.nic, host, "em0")
    expect.error("vale0:x", host.nic, host, "vale0:x")
end)

test("a NIC on a switch is one of its ports", function()
    local a, b = host:open "vale0:a", host:open "vale0:b"
    host:attach "vale0:n0"
    expect.error("EBUSY", host.open, host, "netmap:n0")
    host:attach "vale0:g0"
    local hello = N.frame(N.station(7), N.BROADCAST)
    a:send(hello)
    expect(b:recv(), hello)
    host:detach "vale0:n0"
    host:detach "vale0:g0"
    host:open "netmap:n0"
end)

test("a NIC on a switch brings the wire's frames to the others, and theirs to the wire", function()
    local near, far = wire.cable()
    host:nic("sw0", { wire = near })
    host:attach "vale0:sw0"
    local a = host:open "vale0:a"
    for i = 1, 20 do
        far:send(f(i))
        expect(a:recv(), f(i))
        a:send(N.frame(N.station(2), N.station(1), i))
        expect(far:recv(), N.frame(N.station(2), N.station(1), i))
    end
end)

test("a NIC attached with its host rings is two ports: the wire's and the stack's", function()
    host:attach("vale0:em0", { nr_mode = N.NIC_SW })
    expect(host:list("vale0:em0^").nr_port_idx, 1)
    local a = host:open "vale0:a"
    stack_out:send(f(1))
    expect(a:recv(), f(1))
    outside:send(N.frame(N.station(2), N.BROADCAST))
    expect(a:recv(), N.frame(N.station(2), N.BROADCAST))
    expect(stack_out:recv(), N.frame(N.station(2), N.BROADCAST))
end)

test("polling is for NICs on a switch, with processors that there are", function()
    local one_cpu = { nr_mode = 1, nr_first_cpu_id = 0, nr_num_polling_cpus = 1 }
    local function poll(name, body, off)
        return (host:request { type = off and "VALE_POLLING_DISABLE" or "VALE_POLLING_ENABLE", name = name,
            body = body or one_cpu })
    end
    host:attach "vale0:n0"
    host:open "vale0:a"
    expect(poll "n0", "EINVAL")
    expect(poll "vale9:n0", "ENXIO")
    expect(poll "vale0:a", "EOPNOTSUPP")
    expect(poll("vale0:n0", { nr_mode = 1, nr_num_polling_cpus = 0 }), "EINVAL")
    expect(poll("vale0:n0", { nr_mode = 1, nr_num_polling_cpus = 2 }), "EINVAL")
    expect(poll("vale0:n0", one_cpu, true), "EFAULT")
    expect(poll "vale0:n0", "OK")
    expect(poll "vale0:n0", "EFAULT")
    expect(host:request { type = "VALE_DETACH", name = "vale0:n0" }, "EBUSY")
    expect(poll("vale0:n0", one_cpu, true), "OK")
    host:detach "vale0:n0"
end)

test("a capture is a wire: its frames come in order, and what is sent is written", function()
    local path = os.tmpname()
    local writer = wire.pcap_writer(path)
    for i = 1, 30 do
        writer:send(f(i))
    end
    host:nic("replay", { slots = 64, wire = wire.pcap(path, { loops = 2 }) })
    local port = host:open "netmap:replay"
    for _ = 1, 2 do
        for i = 1, 30 do
            expect(port:recv(), f(i))
        end
    end
    os.remove(path)
end)
