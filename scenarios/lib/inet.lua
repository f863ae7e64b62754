-- ARP, IPv4, ICMP echo and UDP by hand: enough to talk to a real network stack.

local I = {}

-- "10.0.0.1" -> 4 bytes
function I.address(text)
    local a, b, c, d = text:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
    return string.char(a, b, c, d)
end

-- The Internet checksum of a string.
function I.checksum(bytes)
    local sum = 0
    for i = 1, #bytes - 1, 2 do
        sum = sum + string.unpack(">I2", bytes, i)
    end
    if #bytes % 2 == 1 then
        sum = sum + (bytes:byte(-1) << 8)
    end
    while sum > 0xffff do
        sum = (sum & 0xffff) + (sum >> 16)
    end
    return ~sum & 0xffff
end

-- Who has `target`? from { mac=, ip= }
function I.arp_request(from, target)
    return "\xff\xff\xff\xff\xff\xff" .. from.mac .. "\x08\x06" ..
        "\0\1\8\0\6\4\0\1" .. from.mac .. I.address(from.ip) .. "\0\0\0\0\0\0" .. I.address(target) ..
        string.rep("\0", 18)
end

-- Of a reply: the sender's MAC and IP addresses as bytes; nil if it is none.
function I.arp_reply(f)
    if f:sub(13, 14) == "\x08\x06" and f:sub(21, 22) == "\0\2" then
        return f:sub(23, 28), f:sub(29, 32)
    end
end

function I.arp_answer(from, request)
    return request:sub(7, 12) .. from.mac .. "\x08\x06" ..
        "\0\1\8\0\6\4\0\2" .. from.mac .. I.address(from.ip) .. request:sub(23, 32) .. string.rep("\0", 18)
end

local function ipv4(from, to, protocol, payload)
    local function header(sum)
        return string.pack(">I1I1I2I2I2I1I1I2", 0x45, 0, 20 + #payload & 0xffff, 1, 0x4000, 64, protocol, sum) ..
            I.address(from.ip) .. I.address(to.ip)
    end
    return to.mac .. from.mac .. "\x08\0" .. header(I.checksum(header(0))) .. payload
end

function I.echo_request(from, to, id, sequence, data)
    local function body(sum)
        return string.pack(">I1I1I2I2I2", 8, 0, sum, id, sequence) .. data
    end
    return ipv4(from, to, 1, body(I.checksum(body(0))))
end

-- Of an echo reply: id, sequence, data; nil if it is none or its checksum is wrong.
function I.echo_reply(f)
    if f:sub(13, 14) == "\x08\0" and f:byte(24) == 1 and f:byte(35) == 0 then
        local icmp = f:sub(35, 14 + string.unpack(">I2", f, 17))
        if I.checksum(icmp) == 0 then
            local id, sequence = string.unpack(">I2I2", icmp, 5)
            return id, sequence, icmp:sub(9)
        end
    end
end

function I.udp(from, from_port, to, to_port, data)
    local pseudo = I.address(from.ip) .. I.address(to.ip) .. string.pack(">I1I1I2", 0, 17, 8 + #data)
    local function body(sum)
        return string.pack(">I2I2I2I2", from_port, to_port, 8 + #data, sum) .. data
    end
    return ipv4(from, to, 17, body(I.checksum(pseudo .. body(0))))
end

-- Of a UDP frame: source port, destination port, data; nil if it is none. A checksum of 0 is not
-- looked at.
function I.udp_of(f)
    if f:sub(13, 14) == "\x08\0" and f:byte(24) == 17 then
        local from, to, len = string.unpack(">I2I2I2", f, 35)
        return from, to, f:sub(43, 34 + len)
    end
end

-- A TCP segment with PSH and ACK, without a checksum: for whoever cuts it.
function I.tcp(from, from_port, to, to_port, sequence, data)
    return ipv4(from, to, 6, string.pack(">I2I2I4I4I1I1I2I2I2", from_port, to_port, sequence, 1, 0x50, 0x18,
        0x1000, 0, 0) .. data)
end

-- Whether a TCP frame's checksum is right.
function I.tcp_is_sound(f)
    local segment = f:sub(35, 14 + string.unpack(">I2", f, 17))
    return I.checksum(f:sub(27, 34) .. string.pack(">I1I1I2", 0, 6, #segment) .. segment) == 0
end

-- The first frame that `what` makes something of, as what it made; others are passed over.
function I.await(receive, what)
    while true do
        local f = receive()
        local result = table.pack(what(f))
        if result[1] then
            return table.unpack(result, 1, result.n)
        end
    end
end

return I
