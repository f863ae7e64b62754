-- A guest's ptnet, a NIC passed through, its wire a TAP: at the other end the real Linux kernel, in
-- a network namespace of its own.

local I = require "inet"

local host = netmap {}
local ns = netns()
host:nic("em0", { wire = ns:tap("tap0", "10.9.8.1/24") })
local m = machine { name = "guest" }
local dev = m:device("ptnet-pci,mac=02:00:00:00:00:07", { netmap = host, port = "netmap:em0" })

local guest = { mac = mac "02:00:00:00:00:07", ip = "10.9.8.7" }

local function up()
    local pt = ptnet(dev, { interrupts = "memory" })
    pt:send(I.arp_request(guest, "10.9.8.1"))
    local kernel = { ip = "10.9.8.1" }
    kernel.mac = I.await(function() return pt:recv() end, I.arp_reply)
    return pt, kernel
end

test("the kernel answers ARP", function()
    local pt = ptnet(dev, { interrupts = "memory" })
    pt:send(I.arp_request(guest, "10.9.8.1"))
    local kernel_mac, address = I.await(function() return pt:recv() end, I.arp_reply)
    expect(#kernel_mac, 6)
    expect(address, I.address "10.9.8.1")
end)

test("the kernel answers echo requests of all sizes", function()
    local pt, kernel = up()
    for i, len in ipairs { 0, 1, 18, 100, 1000, 1472 } do
        pt:send(I.echo_request(guest, kernel, 77, i, pattern(len, i)))
        local id, sequence, data = I.await(function() return pt:recv() end, I.echo_reply)
        expect({ id, sequence, data }, { 77, i, pattern(len, i) })
    end
end)

test("a program on the kernel and the guest speak UDP with each other", function()
    local pt, kernel = up()
    local socket = ns:udp(4242)
    for i = 1, 20 do
        pt:send(I.udp(guest, 1111, kernel, 4242, pattern(i * 50, i)))
        local data, from, port = socket:recv()
        expect({ data, from, port }, { pattern(i * 50, i), "10.9.8.7", 1111 })
        socket:send("answer " .. i, from, port)
        local from_port, to_port, answer = I.await(function()
            local f = pt:recv()
            if f:sub(13, 14) == "\x08\x06" and f:sub(21, 22) == "\0\1" then
                pt:send(I.arp_answer(guest, f))
            end
            return f
        end, I.udp_of)
        expect({ from_port, to_port, answer }, { 4242, 1111, "answer " .. i })
    end
end)

test("a datagram for nobody comes back as unreachable", function()
    local pt, kernel = up()
    pt:send(I.udp(guest, 1111, kernel, 9, "anyone?"))
    local code = I.await(function() return pt:recv() end, function(f)
        return f:sub(13, 14) == "\x08\0" and f:byte(24) == 1 and f:byte(35) == 3 and f:byte(36)
    end)
    expect(code, 3) -- port unreachable
end)
