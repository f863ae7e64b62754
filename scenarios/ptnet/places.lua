-- ptnet elsewhere: on q35, behind a bridge, plugged into a running machine and out of it.

local N = require "netmap"

local host = netmap {}

local function crosses(dev, seed)
    local port = host:open("vale0:peer", { vnet_hdr = true })
    local pt = ptnet(dev, { vnet_hdr = false, interrupts = "memory" })
    while #pt:rx_burst() > 0 do -- what came while no guest was there
    end
    for i = 1, 5 do
        local f = N.frame(N.station(1), N.BROADCAST, seed + i)
        pt:send(f)
        expect(port:recv(), f)
        port:send(f)
        expect(pt:recv(), f)
    end
    port:close()
    return pt
end

local q35 = machine { name = "q35", board = "q35" }
local on_q35 = q35:device("ptnet-pci", { netmap = host, port = "vale0:q" })

test("q35 takes it as pc does", function()
    crosses(on_q35, 0)
end)

local behind = machine { name = "bridged" }
behind:device "pci-bridge,id=b0,chassis_nr=1"
local bridged = behind:device("ptnet-pci,bus=b0,addr=3", { netmap = host, port = "vale0:b" })

test("behind a bridge its registers, kicks and interrupts are the same", function()
    expect(bridged:address() > 0, true)
    crosses(bridged, 10)
end)

local m = machine { name = "running" }

test("one that is plugged into a running machine brings its memory with it", function()
    m:start()
    local dev = m:plug("ptnet-pci", { netmap = host, port = "vale0:h" })
    dev:enable()
    crosses(dev, 20)
    local second = m:plug("ptnet-pci", { netmap = host, port = "vale0:i@share=vale0:h" })
    second:enable()
    expect(second:memdev():address(), dev:memdev():address())
    crosses(second, 30)
end)

test("one that is unplugged leaves the others their frames, and can come back", function()
    m:start()
    local dev = m:plug("ptnet-pci", { netmap = host, port = "vale0:h" })
    dev:enable()
    crosses(dev, 40):close()
    dev:unplug()
    expect(dev:present(), false)
    local a, b = host:open "vale0:x", host:open "vale0:y"
    local f = N.frame(N.station(5), N.BROADCAST)
    a:send(f)
    expect(b:recv(), f)
    dev:replug()
    dev:enable()
    crosses(dev, 50)
end)

test("a machine whose QEMU is killed gives its port back with the test, not before", function()
    local dying = machine { name = "dying" }
    local dev = dying:device("ptnet-pci", { netmap = host, port = "vale0:d" })
    crosses(dev, 60)
    dying:kill()
    expect.eventually(function() return not dying:alive() end)
    expect.error("EBUSY", host.open, host, "vale0:d")
    local a, b = host:open "vale0:x", host:open "vale0:y"
    for i = 1, 20 do
        local f = N.frame(N.station(5), N.BROADCAST, i)
        a:send(f)
        expect(b:recv(), f)
    end
end)
