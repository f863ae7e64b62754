-- Four QEMUs with two ptnets each, on two switches; ports that come and go beside them; every few
-- seconds one QEMU is killed and another takes its place. Frames have random sizes, a number, and
-- contents that follow from the number. Nothing may be corrupted, doubled or out of order, and what is
-- lost must be what the switch counts as dropped for a full port. `make stress`; STRESS_SECONDS (600).

local N = require "netmap"

local seconds = tonumber(os.getenv "STRESS_SECONDS" or 600)
local seed = tonumber(os.getenv "STRESS_SEED" or os.time())
local host = netmap {}
local GUESTS, SWITCHES = 4, 2
local BROADCAST = mac(N.BROADCAST)
local BURST, KILL_EVERY_S, ROUNDS_BETWEEN_CHECKS = 16, 4, 160

local guests = {}
for g = 1, GUESTS do
    local m = machine { name = "guest" .. g }
    guests[g] = { machine = m, ports = {} }
    for s = 1, SWITCHES do
        guests[g].ports[s] = {
            name = ("vale%d:g%d"):format(s - 1, g),
            station = mac(N.station(10 * s + g)),
            device = m:device("ptnet-pci", { netmap = host, port = ("vale%d:g%d"):format(s - 1, g) }),
        }
    end
end

-- A frame from `from` to `to` on switch s: number, length and what follows from both.
local function make(s, from, to, number)
    local len = math.random(60, 1514)
    local head = guests[to].ports[s].station .. guests[from].ports[s].station .. "\x88\xb5"
        .. string.pack("<I4I2I2I1I1", number, len, seed & 0xffff, from, to)
    return head .. pattern(len - #head, number * 31 + from * 7 + to + s)
end

local function check(s, to, data, seen)
    local number, len, run, from, dest = string.unpack("<I4I2I2I1I1", data, 15)
    expect(run, seed & 0xffff)
    expect(#data, len)
    expect(data:sub(1, 6), guests[to].ports[s].station)
    expect(data:sub(7, 12), guests[from].ports[s].station)
    expect(dest, to)
    expect(data:sub(25), pattern(len - 24, number * 31 + from * 7 + to + s))
    local last = seen[from] or 0
    if number <= last then
        expect.fail(("switch %d, guest %d: frame %d of guest %d after %d"):format(s, to, number, from, last))
    end
    seen[from] = number
end

-- What this guest's side of a port has seen since its QEMU started.
local function begin_epoch(p)
    p.sent_to, p.received, p.seen = 0, 0, {}
    p.before = host:stats(p.name)
end

local function bring_up(g)
    for _, p in ipairs(guests[g].ports) do
        p.driver = ptnet(p.device, { interrupts = "none", vnet_hdr = false, fence = true })
        p.driver:send(BROADCAST .. p.station .. "\x88\xb5" .. ("\0"):rep(46)) -- so that the switch knows it
    end
end

local function receive(s, g)
    local p, n = guests[g].ports[s], 0
    for _, data in ipairs(p.driver:rx_burst(4 * BURST)) do
        if data:sub(1, 6) ~= BROADCAST then
            check(s, g, data, p.seen)
            p.received = p.received + 1
        end
        n = n + 1
    end
    return n
end

local function send(s, from, numbers)
    local p, frames, tos = guests[from].ports[s], {}, {}
    for i = 1, math.random(BURST) do
        local to = math.random(GUESTS - 1)
        to = to < from and to or to + 1
        local key = s * 100 + from * 10 + to
        numbers[key] = (numbers[key] or 0) + 1
        frames[i], tos[i] = make(s, from, to, numbers[key]), to
    end
    local taken = p.driver:tx_burst(frames)
    for i = 1, taken do
        guests[tos[i]].ports[s].sent_to = guests[tos[i]].ports[s].sent_to + 1
    end
    return taken
end

-- Everything on its way has arrived or was dropped: nobody gets anything any more, and the switch has
-- taken what each driver has sent.
local function settle()
    local function look()
        local n = 0
        for s = 1, SWITCHES do
            for g = 1, GUESTS do
                n = n + receive(s, g)
                local p = guests[g].ports[s]
                p.driver:txsync(0, N.FORCE_RECLAIM)
                n = n + (p.driver:ring("tx"):space() < p.driver:ring("tx").num_slots - 1 and 1 or 0)
            end
        end
        return n
    end
    local quiet = 0
    expect.eventually(function()
        quiet = look() == 0 and quiet + 1 or 0
        return quiet > 200
    end, nil, 20000)
end

-- Between two settled moments nothing but what was dropped for want of room is missing.
local function account(totals)
    for s = 1, SWITCHES do
        for g = 1, GUESTS do
            local p = guests[g].ports[s]
            local dropped = host:stats(p.name).dropped_full - p.before.dropped_full
            if p.received + dropped ~= p.sent_to then
                expect.fail(("%s: %d frames were sent to it, %d came and %d were dropped"):format(p.name, p.sent_to,
                    p.received, dropped))
            end
            totals.received, totals.dropped = totals.received + p.received, totals.dropped + dropped
        end
    end
end

local function begin_epochs()
    for s = 1, SWITCHES do
        for g = 1, GUESTS do
            local p = guests[g].ports[s]
            local seen = p.seen
            begin_epoch(p)
            p.seen = seen or {}
        end
    end
end

-- Ports beside the guests': opened, heard on, closed.
local function visit(visitors)
    local i = math.random(6)
    if visitors[i] then
        visitors[i]:close()
        visitors[i] = nil
    else
        visitors[i] = host:open(("vale%d:visitor%d"):format(i % SWITCHES, i))
    end
    for _, v in pairs(visitors) do
        v:rx_burst(64)
    end
end

-- A QEMU is killed in the middle of things; what was on its way to or from it is gone, and nothing else.
local function replace(g, totals)
    guests[g].machine:kill()
    for s = 1, SWITCHES do
        guests[g].ports[s].seen = {} -- the next finds what this one had not given back yet
        totals.lost_with_a_guest = totals.lost_with_a_guest + guests[g].ports[s].sent_to - guests[g].ports[s].received
    end
    guests[g].machine:stop()
    guests[g].machine:start()
    bring_up(g)
    totals.kills = totals.kills + 1
end

test("frames arrive whole, once and in order, whoever comes and goes", { timeout = (seconds + 120) * 1000 }, function()
    math.randomseed(seed)
    note(("seed %d, %d s"):format(seed, seconds))
    local totals = { received = 0, dropped = 0, kills = 0, lost_with_a_guest = 0, sent = 0 }
    local visitors, numbers = {}, {}
    for g = 1, GUESTS do
        guests[g].machine:start()
    end
    for s = 1, SWITCHES do
        for g = 1, GUESTS do
            begin_epoch(guests[g].ports[s])
        end
    end
    for g = 1, GUESTS do
        bring_up(g)
    end
    settle()
    local stop, next_kill = now() + seconds, now() + KILL_EVERY_S
    while now() < stop do
        begin_epochs()
        local asleep = math.random(2 * GUESTS) -- its rings run full; half of the time nobody's
        for _ = 1, ROUNDS_BETWEEN_CHECKS do
            for s = 1, SWITCHES do
                for g = 1, GUESTS do
                    totals.sent = totals.sent + send(s, g, numbers)
                end
                for g = 1, GUESTS do
                    if g ~= asleep and math.random(4) > 1 then
                        receive(s, g)
                    end
                end
            end
            visit(visitors)
        end
        if now() > next_kill then
            replace(math.random(GUESTS), totals)
            next_kill = now() + KILL_EVERY_S
            settle()
        else
            settle()
            account(totals)
        end
    end
    note(("%d frames sent, %d received in settled rounds, %d dropped for full ports there, %d QEMUs killed"):format(
        totals.sent, totals.received, totals.dropped, totals.kills))
    expect.above(totals.received, 0)
    expect.above(totals.kills, seconds // KILL_EVERY_S // 3)
end)
