-- The library every scenario has: expectations, skipping, polling, bytes and frames.
-- Loaded before a scenario's first line; its functions are globals.

local engine = require "ringlab.engine"

local lines_of = {} -- script -> its lines, read once

local function read_lines(script)
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
    return lines_of[script]
end

-- The expression that begins in a line of the script: on to the line that closes its last parenthesis.
local function source_text(script, number)
    local lines = read_lines(script)
    local parts, open = {}, 0
    for i = number, math.min(number + 7, #lines) do
        parts[#parts + 1] = lines[i]:match("^%s*(.-)%s*$")
        local code = lines[i]:gsub("\\.", ""):gsub('"[^"]*"', ""):gsub("'[^']*'", ""):gsub("%-%-.*", "")
        for bracket in code:gmatch("[(){}]") do
            open = open + ((bracket == "(" or bracket == "{") and 1 or -1)
        end
        if open <= 0 or code:match("function%s*%b()%s*$") then
            break
        end
    end
    return table.concat(parts, " ")
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

local max_text, max_items = 400, 40

local function show(value, depth)
    depth = depth or 0
    if math.type(value) == "integer" then
        if value >= 0 and value < 10 then
            return tostring(value)
        end
        return string.format("0x%x (%d)", value, value)
    elseif type(value) == "string" then
        if value:match("^[%g%s]*$") and not value:match("[\v\f]") then
            local text = #value > max_text and value:sub(1, max_text) or value
            text = string.format("%q", text):gsub("\\\n", "\\n"):gsub("\\9", "\\t"):gsub("\\13", "\\r")
            return #value > max_text and string.format("%s ... (%d bytes)", text, #value) or text
        end
        return string.format("%d bytes: %s", #value, hex(value))
    elseif type(value) == "table" and depth < 4 then
        local parts, n = {}, 0
        while rawget(value, n + 1) ~= nil do
            n = n + 1
            if n <= max_items then
                parts[n] = show(rawget(value, n), depth + 1)
            end
        end
        local keys = {}
        for key in next, value do
            if not (math.type(key) == "integer" and key >= 1 and key <= n) then
                keys[#keys + 1] = key
            end
        end
        table.sort(keys, function(a, b)
            return tostring(a) < tostring(b)
        end)
        for _, key in ipairs(keys) do
            if #parts == max_items then
                break
            end
            parts[#parts + 1] = tostring(key) .. " = " .. show(rawget(value, key), depth + 1)
        end
        if n + #keys > #parts then
            parts[#parts + 1] = string.format("... (%d in all)", n + #keys)
        end
        return #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
    elseif type(value) == "table" then
        return "{ ... }"
    end
    return tostring(value)
end
engine.show = show -- for errors that are no text

-- Equal, tables by content; `seen`: pairs of tables that are being compared already.
local function same(a, b, seen)
    if type(a) ~= "table" or type(b) ~= "table" or rawequal(a, b) then
        return a == b
    end
    seen = seen or {}
    if seen[a] == b then
        return true
    end
    seen[a] = b
    for key, value in next, a do
        if not same(value, rawget(b, key), seen) then
            return false
        end
    end
    for key in next, b do
        if rawget(a, key) == nil then
            return false
        end
    end
    return true
end

-- Two strings as text; of long ones what surrounds their first difference, and where that is.
local function show_both(actual, expected)
    if type(actual) ~= "string" or type(expected) ~= "string" or actual == expected then
        return show(actual), show(expected), ""
    end
    local at = 1
    while actual:byte(at) == expected:byte(at) do
        at = at + 1
    end
    local where = string.format(" (first difference at byte %d)", at - 1)
    local is_text = not (actual .. expected):match("[^%g%s]")
    local around = is_text and 60 or 16
    if math.max(#actual, #expected) <= (is_text and max_text or 96) then
        return show(actual), show(expected), where
    end
    local from = math.max(is_text and at - around or (at - 1) // 16 * 16 - around + 1, 1)
    local function window(bytes)
        local part = bytes:sub(from, from + 3 * around - 1)
        if is_text then
            part = show(part)
        else
            part = hex(part)
        end
        return string.format("%d bytes, from byte %d: %s", #bytes, from - 1, part)
    end
    return window(actual), window(expected), where
end

-- ---- expectations ----

local function fail(message, expected, actual)
    local script, line = engine.position()
    error({
        kind = "expect",
        message = message,
        expression = script and source_text(script, line) or nil,
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
            local is, should, where = show_both(actual, expected)
            fail("not what was expected" .. where, should, is)
        end
    end,
    __index = function(_, name)
        error("there is no expect." .. tostring(name) .. engine.nearest(name, expect), 2)
    end,
})

function expect.different(actual, other)
    if same(actual, other) then
        fail("should be different", "not " .. show(other), show(actual))
    end
end

local function compare(name, text, holds)
    expect[name] = function(actual, limit)
        if type(actual) ~= type(limit) then
            fail("not comparable", text .. " " .. show(limit), show(actual))
        end
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
    if math.type(actual) ~= "integer" then
        fail("no integer", string.format("0x%x under the mask 0x%x", value, mask), show(actual))
    end
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
        return tostring(problem.message or show(problem))
    end
    return tostring(problem)
end

-- The function fails with a message in which `pattern` (a Lua pattern) is found. Returns the message.
function expect.error(pattern, fn, ...)
    local ok, problem = pcall(fn, ...)
    if ok then
        fail("should have failed", "an error like " .. pattern, "no error")
    end
    if type(problem) == "table" and problem.kind == "skip" then
        error(problem, 0)
    end
    local message = message_of(problem)
    if not message:match(pattern) then
        fail("failed otherwise", "an error like " .. pattern, message)
    end
    return message
end

-- Polls until the function returns something true (or equal to `expected`, if given); returns it.
function expect.eventually(fn, expected, timeout_ms)
    timeout_ms = timeout_ms or 2000
    local until_time = now() + timeout_ms / 1000
    local value, has_ended
    repeat
        has_ended = engine.machine_has_ended()
        local is_last = has_ended or now() > until_time -- one more look: it may have been slow
        value = fn()
        if expected == nil and value or expected ~= nil and same(value, expected) then
            return value
        end
        yield_cpu()
    until is_last
    fail(has_ended and "did not happen before a QEMU ended"
            or string.format("did not happen within %d ms", timeout_ms),
        expected == nil and "something true" or show(expected), show(value))
end

-- Fails with a text of one's own.
function expect.fail(message)
    fail(message)
end

-- Ends the test without a verdict.
function skip(reason)
    error({ kind = "skip", message = tostring(reason or "no reason given") }, 0)
end

-- ---- a script and the program around it ----

-- Standard output is the report's: what a script prints goes into it as notes, what it writes to
-- io.stdout to standard error.
function print(...)
    local parts = table.pack(...)
    for i = 1, parts.n do
        parts[i] = tostring(parts[i])
    end
    for line in (table.concat(parts, "\t") .. "\n"):gmatch("([^\n]*)\n") do
        note(line)
    end
end
io.output(io.stderr)
io.stdout = io.stderr

-- The program ends with its report, and with its own exit status.
function os.exit()
    error("a scenario cannot end the program: return, or use skip() or expect.fail()", 2)
end

-- ---- bytes ----

-- "02:00:00:00:00:01" -> 6 bytes
function mac(text)
    local bytes = text:gsub("(%x%x):?", function(digits)
        return string.char(tonumber(digits, 16))
    end)
    if #bytes ~= 6 then
        error("'" .. tostring(text) .. "' is no MAC address", 2)
    end
    return bytes
end

-- "de ad be ef" -> bytes
function unhex(text)
    local digits = text:gsub("%s+", "")
    if #digits % 2 ~= 0 or digits:match("%X") then
        error("'" .. text .. "' is no row of bytes in hexadecimal", 2)
    end
    return (digits:gsub("%x%x", function(byte)
        return string.char(tonumber(byte, 16))
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
