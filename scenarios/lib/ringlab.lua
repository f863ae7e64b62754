-- The library every scenario has: expectations, skipping, polling, bytes and frames.
-- Loaded before a scenario's first line; its functions are globals.

local lines_of = {} -- script -> its lines, read once

local function source_line(script, number)
    if not lines_of[script] then
        local lines = {}
        local file = io.open(script, "r")
        if file then
            for line in file:lines() do
                lines[#lines + 1] = line
            end
            file:close()
        end
        lines_of[script] = lines
    end
    local line = lines_of[script][number] or ""
    return (line:gsub("^%s+", ""):gsub("%s+$", ""))
end

local library = debug.getinfo(1, "S").source:match("^@(.*/)") or "@"

-- The nearest function that belongs to a script, not to this library.
local function script_position()
    local level = 3
    while true do
        local info = debug.getinfo(level, "Sl")
        if not info then
            return nil
        end
        local path = info.source:match("^@(.*)")
        if info.currentline > 0 and path and path:sub(1, #library) ~= library then
            return path, info.currentline
        end
        level = level + 1
    end
end

-- ---- values as text ----

-- Bytes as hexadecimal, 16 to a group, with what differs left to the reader's eye.
function hex(bytes, max)
    max = max or 96
    local shown = bytes:sub(1, max):gsub(".", function(c)
        return string.format("%02x ", c:byte())
    end)
    shown = shown:gsub(" $", "")
    if #bytes > max then
        shown = shown .. string.format(" ... (%d bytes)", #bytes)
    end
    return shown
end

local function show(value, depth)
    depth = depth or 0
    if math.type(value) == "integer" then
        if value >= 0 and value < 10 then
            return tostring(value)
        end
        return string.format("0x%x (%d)", value, value)
    elseif type(value) == "string" then
        if value:match("^[%g ]*$") then
            return string.format("%q", value)
        end
        return string.format("%d bytes: %s", #value, hex(value))
    elseif type(value) == "table" and depth < 4 then
        local parts = {}
        for i, item in ipairs(value) do
            parts[i] = show(item, depth + 1)
        end
        local keys = {}
        for key in pairs(value) do
            if not (math.type(key) == "integer" and key >= 1 and key <= #parts) then
                keys[#keys + 1] = key
            end
        end
        table.sort(keys, function(a, b)
            return tostring(a) < tostring(b)
        end)
        for _, key in ipairs(keys) do
            parts[#parts + 1] = tostring(key) .. " = " .. show(value[key], depth + 1)
        end
        return "{ " .. table.concat(parts, ", ") .. " }"
    end
    return tostring(value)
end

local function same(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for key, value in pairs(a) do
        if not same(value, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return false
        end
    end
    return true
end

-- Where two strings first differ, for frames.
local function difference(actual, expected)
    if type(actual) == "string" and type(expected) == "string" and actual ~= expected then
        for i = 1, math.max(#actual, #expected) do
            if actual:byte(i) ~= expected:byte(i) then
                return string.format(" (first difference at byte %d)", i - 1)
            end
        end
    end
    return ""
end

-- ---- expectations ----

local function fail(message, expected, actual)
    local script, line = script_position()
    error({
        kind = "expect",
        message = message,
        expression = script and source_line(script, line) or nil,
        expected = expected,
        actual = actual,
        script = script,
        line = line,
    }, 0)
end

expect = setmetatable({}, {
    -- expect(actual, expected): equal, tables by content. expect(condition): true.
    __call = function(_, actual, ...)
        if select("#", ...) == 0 then
            if not actual then
                fail("the condition does not hold", "true", show(actual))
            end
            return
        end
        local expected = ...
        if not same(actual, expected) then
            fail("not what was expected" .. difference(actual, expected), show(expected), show(actual))
        end
    end,
})

function expect.different(actual, other)
    if same(actual, other) then
        fail("should be different", "not " .. show(other), show(actual))
    end
end

local function compare(name, text, holds)
    expect[name] = function(actual, limit)
        if not holds(actual, limit) then
            fail("out of bounds", text .. " " .. show(limit), show(actual))
        end
    end
end
compare("below", "below", function(a, b) return a < b end)
compare("at_most", "at most", function(a, b) return a <= b end)
compare("above", "above", function(a, b) return a > b end)
compare("at_least", "at least", function(a, b) return a >= b end)

-- All bits of `mask` are set (or, with a value, equal that value under the mask).
function expect.bits(actual, mask, value)
    value = value or mask
    if actual & mask ~= value then
        fail("bits differ", string.format("0x%x under the mask 0x%x", value, mask), show(actual))
    end
end

function expect.match(text, pattern)
    if type(text) ~= "string" or not text:match(pattern) then
        fail("the text does not match", pattern, show(text))
    end
end

local function message_of(problem)
    if type(problem) == "table" then
        return problem.message or show(problem)
    end
    return tostring(problem)
end

-- The function fails with a message in which `pattern` (a Lua pattern) is found. Returns the message.
function expect.error(pattern, fn, ...)
    local ok, problem = pcall(fn, ...)
    if ok then
        fail("should have failed", "an error like " .. pattern, "no error")
    end
    local message = message_of(problem)
    if not message:match(pattern) then
        fail("failed otherwise", "an error like " .. pattern, message)
    end
    return message
end

-- Polls until the function returns something true (or equal to `expected`, if given); returns it.
function expect.eventually(fn, expected, timeout_ms)
    local until_time = now() + (timeout_ms or 2000) / 1000
    local value
    repeat
        value = fn()
        if expected == nil and value or expected ~= nil and same(value, expected) then
            return value
        end
        yield_cpu()
    until now() > until_time
    fail(string.format("did not happen within %d ms", timeout_ms or 2000),
        expected == nil and "something true" or show(expected), show(value))
end

-- Fails with a text of one's own.
function expect.fail(message)
    fail(message)
end

-- Ends the test without a verdict.
function skip(reason)
    error({ kind = "skip", message = reason or "no reason given" }, 0)
end

-- ---- bytes ----

-- "02:00:00:00:00:01" -> 6 bytes
function mac(text)
    local bytes = text:gsub("(%x%x):?", function(digits)
        return string.char(tonumber(digits, 16))
    end)
    if #bytes ~= 6 then
        error("'" .. text .. "' is no MAC address", 2)
    end
    return bytes
end

-- "de ad be ef" -> bytes
function unhex(text)
    return (text:gsub("%s+", ""):gsub("%x%x", function(digits)
        return string.char(tonumber(digits, 16))
    end))
end

-- Bytes that look different everywhere: a counter mixed with `seed`.
function pattern(len, seed)
    local parts = {}
    local x = (seed or 1) * 2654435761 & 0xffffffff
    for i = 1, (len + 3) // 4 do
        x = (x * 1664525 + 1013904223) & 0xffffffff
        parts[i] = string.pack("<I4", x)
    end
    return table.concat(parts):sub(1, len)
end

-- An Ethernet frame of `len` bytes in all (14 at least): broadcast, a local experimental type.
function frame(len, seed)
    local header = "\xff\xff\xff\xff\xff\xff" .. "\x02\x00\x00\x00\x00\x01" .. "\x88\xb5"
    if len <= 14 then
        return header:sub(1, len)
    end
    return header .. pattern(len - 14, seed or len)
end
