-- Doorbells between peers: real QEMUs and members of this process, coming, going and dying.

local mem = memory { name = "bell", size = "64k" }
local server = ivshmem_server { memory = mem, vectors = 2 }
local one = machine { name = "one" }
local two = machine { name = "two" }
local first = one:device("ivshmem-doorbell,vectors=2", { server = server })
local second = two:device("ivshmem-doorbell,vectors=2", { server = server })

local function ring(dev, peer, vector)
    dev.regs.Doorbell = peer << 16 | vector
end

-- Both MSI-X vectors of a doorbell device, landing in the shared memory.
local function listen(dev, offset)
    local irqs = {}
    for vector = 0, 1 do
        irqs[vector] = irq(dev, { vector = vector, memory = mem, offset = offset + 4 * vector })
    end
    dev:msix_enable()
    return irqs
end

test("each vector of each peer is rung by itself", function()
    local here = server:join()
    for vector = 0, 1 do
        ring(first, here:id(), vector)
        expect(here:wait(vector), 1)
        expect(here:take(1 - vector), 0)
    end
end)

test("rings of one vector add up until they are taken", function()
    local here = server:join()
    for _ = 1, 5 do
        ring(first, here:id(), 0)
    end
    local n = here:wait(0)
    while n < 5 do
        n = n + here:wait(0)
    end
    expect(n, 5)
end)

test("a ring from another QEMU arrives as an MSI-X message", function()
    one:start()
    two:start()
    local irqs = listen(second, 0x100)
    ring(first, second:peer(), 1)
    irqs[1]:wait()
    expect(irqs[0]:take(), false)
    ring(first, second:peer(), 0)
    irqs[0]:wait()
    expect(irqs[1]:take(), false)
end)

test("a peer may ring itself", function()
    local irqs = listen(first, 0x200)
    ring(first, first:peer(), 0)
    irqs[0]:wait()
end)

test("ringing a peer or vector that nobody has does nothing", function()
    local here = server:join()
    ring(first, 999, 0)
    ring(first, here:id(), 7)
    ring(first, here:id(), 255)
    ring(first, 65535, 255)
    ring(first, here:id(), 1) -- and the device still rings
    expect(here:wait(1), 1)
    expect(here:take(0), 0)
end)

test("C26: with MSI-X in use neither IntrStatus nor a line tells of a ring", function()
    -- QEMU 2d1d422d11 raised INTx as well
    one:start()
    local irqs = listen(first, 0x300)
    server:ring(first:peer(), 0)
    irqs[0]:wait()
    expect(first.regs.IntrStatus, 0)
    for line = 0, 23 do
        local level, raised = one:irq(line)
        expect(level, false)
        expect(raised, 0)
    end
end)

test("a ring before MSI-X is on is lost, not delivered later", function()
    one:start()
    local here = server:join()
    server:ring(first:peer(), 0)
    ring(first, here:id(), 0) -- QEMU has gone through its main loop since
    here:wait(0)
    one:barrier()
    local irqs = listen(first, 0x400)
    one:barrier()
    expect(irqs[0]:take(), false)
    server:ring(first:peer(), 0)
    irqs[0]:wait()
end)

test("C30: MSI-X can be switched off and on between rings", function()
    -- QEMU a40227911c, 089fd80376, e6a354be6e
    one:start()
    local irqs = listen(first, 0x500)
    for _ = 1, 3 do
        server:ring(first:peer(), 1)
        irqs[1]:wait()
        first:msix_enable(false)
        first:msix_enable(true)
    end
    one:reset()
    one:setup()
    irqs = listen(first, 0x500)
    server:ring(first:peer(), 0)
    irqs[0]:wait()
end)

test("a masked vector is pending until it is unmasked", function()
    one:start()
    local irqs = listen(first, 0x600)
    first:msix_mask(0, true)
    server:ring(first:peer(), 0)
    expect.eventually(function()
        return first:msix_pending(0)
    end)
    expect(irqs[0]:take(), false)
    first:msix_mask(0, false)
    irqs[0]:wait()
    expect(first:msix_pending(0), false)
end)

test("among three peers one dies and one joins, and doorbells reach who is there", function()
    one:start()
    two:start()
    local third = machine { name = "three" }
    local dying = third:device("ivshmem-doorbell,vectors=2", { server = server })
    third:start()
    server:wait_peers(3)
    local irqs = listen(first, 0x700)
    ring(dying, first:peer(), 0)
    irqs[0]:wait()

    local gone = dying:peer()
    third:kill()
    server:wait_peers(2)
    expect(server:has_peer(gone), false)
    ring(first, gone, 0) -- nobody there: ignored
    ring(second, first:peer(), 1)
    irqs[1]:wait()

    local fourth = machine { name = "four" }
    local joined = fourth:device("ivshmem-doorbell,vectors=2", { server = server })
    fourth:start()
    server:wait_peers(3)
    expect.different(joined:peer(), gone)
    local heard = listen(joined, 0x780)
    ring(first, joined:peer(), 1)
    heard[1]:wait()
    ring(joined, first:peer(), 0)
    irqs[0]:wait()
    expect(heard[0]:take(), false)
end)

test("a peer of this process that leaves is told to the others", function()
    one:start()
    local here = server:join()
    local id = here:id()
    ring(first, id, 0)
    expect(here:wait(0), 1)
    here:leave()
    expect(server:has_peer(id), false)
    ring(first, id, 0) -- must not ring an old eventfd, or crash
    local next_one = server:join()
    ring(first, next_one:id(), 0)
    expect(next_one:wait(0), 1)
end)

test("C29: a newcomer never inherits the vectors of one who left", function()
    -- QEMU 9db51b4d64
    one:start()
    for round = 1, 4 do
        local here = server:join(2)
        ring(first, here:id(), round % 2)
        expect(here:wait(round % 2), 1)
        expect(here:take(1 - round % 2), 0)
        here:leave()
    end
end)

test("C30, C31: peers may have more or fewer vectors than the device", function()
    -- fewer eventfds than vectors, and more
    one:start()
    local few, many = server:join(1), server:join(8)
    ring(first, few:id(), 0)
    expect(few:wait(0), 1)
    ring(first, few:id(), 1) -- it has no such vector
    ring(first, many:id(), 0)
    expect(many:wait(0), 1)
    ring(first, many:id(), 7) -- beyond what the device accepts
    ring(first, many:id(), 1)
    expect(many:wait(1), 1)
    expect(many:take(7), 0)
end)

test("the memory is the server's, for QEMUs and for this process", function()
    two:start()
    local at = mem:gpa(0x2000)
    mem:u32(0x2000, 0xbe11)
    expect(two:read(at, 4), 0xbe11)
    expect(second:bar(2).size, mem:size())
end)
