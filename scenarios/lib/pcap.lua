-- Capture files in the classic format (libpcap's savefile, magic a1b2c3d4 or a1b23c4d), both byte
-- orders. Records are { time = seconds, frac = µs or ns, length = on the wire, bytes = captured }.

local pcap = {}

local MICRO, NANO = 0xa1b2c3d4, 0xa1b23c4d
local ETHERNET = 1

-- Reads a whole file: a list of records, with .nano true if `frac` counts nanoseconds.
function pcap.read(path)
    local file, problem = io.open(path, "rb")
    if not file then
        error(problem, 2)
    end
    local data = file:read("a")
    file:close()
    if #data < 24 then
        error(path .. ": too short to be a capture", 2)
    end
    local order = "<"
    local magic = string.unpack("<I4", data)
    if magic ~= MICRO and magic ~= NANO then
        order = ">"
        magic = string.unpack(">I4", data)
    end
    if magic ~= MICRO and magic ~= NANO then
        error(path .. ": no capture in the classic format", 2)
    end
    local link = string.unpack(order .. "I4", data, 21) & 0xffff
    if link ~= ETHERNET then
        error(string.format("%s: link type %d is not Ethernet", path, link), 2)
    end
    local records = { nano = magic == NANO }
    local at = 25
    while at <= #data do
        if at + 15 > #data then
            error(path .. ": cut off in a record's header", 2)
        end
        local seconds, frac, captured, length = string.unpack(order .. "I4I4I4I4", data, at)
        if at + 15 + captured > #data then
            error(path .. ": cut off in a frame", 2)
        end
        records[#records + 1] = {
            time = seconds,
            frac = frac,
            length = length,
            bytes = data:sub(at + 16, at + 15 + captured),
        }
        at = at + 16 + captured
    end
    return records
end

-- Writes records as pcap.read returns them.
function pcap.write(path, records)
    local file, problem = io.open(path, "wb")
    if not file then
        error(problem, 2)
    end
    file:write(string.pack("<I4I2I2i4I4I4I4", records.nano and NANO or MICRO, 2, 4, 0, 0, 65535, ETHERNET))
    for _, r in ipairs(records) do
        file:write(string.pack("<I4I4I4I4", r.time, r.frac, #r.bytes, r.length or #r.bytes), r.bytes)
    end
    file:close()
end

return pcap
