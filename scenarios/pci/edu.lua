-- QEMU's educational device, as an example of one that ringlab has no driver for: its registers by name,
-- computing, DMA and interrupts. Follows QEMU's docs/specs/edu.txt.

local pci = require "pci"

local COMPUTING, RAISE = 0x01, 0x80      -- status
local START, FROM_EDU, DMA_RAISE = 1, 2, 4 -- dma_cmd
local BUFFER, BUFFER_BYTES = 0x40000, 4096
local FACTORIAL_DONE, DMA_DONE = 1, 0x100  -- irq_status

-- Its DMA takes 100 ms of virtual time. Here virtual time jumps to the next thing that happens.
local m = machine { name = "jumping", args = { "-icount", "shift=0,sleep=off" } }
local mem = memory { name = "shared", size = "1M" }
local edu = m:device "edu,dma_mask=0xffffffffffffffff"
local shm = m:device("ivshmem-plain", { memory = mem })
local slow = machine { name = "real time" }
local unhurried = slow:device "edu"

local function wait_idle(dev)
    expect.eventually(function() return dev.regs.bits.dma_cmd.start end, 0)
end

local function dma(dev, from, to, bytes, command)
    dev.regs:set { dma_source = from, dma_destination = to, dma_count = bytes }
    dev.regs.dma_cmd = command | START
end

local function put(at, bytes) -- memory to device
    dma(edu, at, BUFFER, bytes, 0)
    wait_idle(edu)
end

local function get(at, bytes) -- device to memory
    dma(edu, BUFFER, at, bytes, FROM_EDU)
    wait_idle(edu)
end

-- ---- registers ----

test("it tells its magic number and version, which cannot be written", function()
    expect(edu.regs.id, 0x010000ed)
    expect({ edu.regs.bits.id.magic, edu.regs.bits.id.major, edu.regs.bits.id.minor }, { 0xed, 1, 0 })
    edu.regs.id = 0
    expect(edu.regs.id, 0x010000ed)
end)

test("liveness answers the inverse of what was written", function()
    for _, value in ipairs { 0, 1, 0x12345678, 0xffffffff } do
        edu.regs.liveness = value
        expect(edu.regs.liveness, value ~ 0xffffffff)
    end
end)

test("every register starts with zero but the id", function()
    local values = edu.regs:values()
    values.id = nil
    expect(values, { liveness = 0, factorial = 0, status = 0, irq_status = 0, dma_source = 0, dma_destination = 0,
        dma_count = 0, dma_cmd = 0 })
end)

test("holes between the registers read all ones", function()
    for _, offset in ipairs { 0x0c, 0x1c, 0x28, 0x5c, 0x68, 0x7c, 0xa0, 0xffc, BUFFER, 0xffffc } do
        edu.regs:write(offset, 4, 0)
        expect(edu.regs:read(offset, 4), 0xffffffff)
    end
end)

-- ---- computing ----

test("a number is replaced by its factorial, modulo 2^32", function()
    for number, factorial in pairs { [0] = 1, [1] = 1, [5] = 120, [12] = 479001600, [13] = 1932053504, [20] = 2192834560,
        [34] = 0 } do
        edu.regs.factorial = number
        expect.eventually(function() return edu.regs.bits.status.computing end, 0)
        expect({ number, edu.regs.factorial }, { number, factorial })
        expect(edu.regs.irq_status, 0)
    end
end)

test("of status only the interrupt wish can be written, and it makes the factorial interrupt", function()
    edu.regs.status = 0xffffffff
    expect(edu.regs.status & ~COMPUTING, RAISE)
    local i = irq(edu, { form = "line" })
    edu.regs.factorial = 10
    i:wait()
    expect(edu.regs.factorial, 3628800)
    expect(edu.regs.irq_status, FACTORIAL_DONE)
    edu.regs.irq_ack = FACTORIAL_DONE
    expect(i:raised(), false)
    edu.regs.status = 0
    edu.regs.factorial = 3
    expect.eventually(function() return edu.regs.bits.status.computing end, 0)
    expect({ edu.regs.factorial, edu.regs.status, edu.regs.irq_status }, { 6, 0, 0 })
end)

-- ---- interrupts ----

test("irq_raise sets bits of irq_status, irq_ack clears them, and the line follows", function()
    local i = irq(edu, { form = "line" })
    edu.regs.irq_raise = 0x5
    expect({ edu.regs.irq_status, i:raised() }, { 0x5, true })
    edu.regs.irq_raise = 0xf0000000
    edu.regs.irq_ack = 0x50000004
    expect({ edu.regs.irq_status, i:raised() }, { 0xa0000001, true })
    edu.regs.irq_status = 0 -- can be read only
    expect(edu.regs.irq_status, 0xa0000001)
    edu.regs.irq_ack = 0xffffffff
    expect({ edu.regs.irq_status, i:raised() }, { 0, false })
    expect(i:messages(), 1)
end)

test("with MSI the same is a message into shared memory, and the line stays low", function()
    local i = irq(edu, { form = "line" })
    edu.msi:set { message_address = mem:gpa(0x40) & 0xffffffff, message_upper_address = mem:gpa(0x40) >> 32,
        message_data = 0xed }
    edu.msi.bits.message_control.enable = 1
    edu.regs.irq_raise = 1
    expect({ mem:u32(0x40), i:raised() }, { 0xed, false })
    mem:u32(0x40, 0)
    edu.regs.irq_raise = 0 -- no bit more, but a message all the same
    expect(mem:u32(0x40), 0xed)
end)

-- ---- DMA ----

test("DMA carries bytes from shared memory into the device and back", function()
    m:start()
    mem:write(0x1000, pattern(1024, 1))
    put(mem:gpa(0x1000), 1024)
    mem:fill(0x1000, 1024)
    get(mem:gpa(0x3000), 1024)
    expect(mem:read(0x3000, 1024), pattern(1024, 1))
    expect(mem:read(0x2ff0, 16), ("\0"):rep(16))
    expect(mem:read(0x3400, 16), ("\0"):rep(16))
    get(m:ram():gpa(0x200000), 1024) -- RAM as well
    expect(m:ram():read(0x200000, 1024), pattern(1024, 1))
end)

test("any length at any place of its buffer, up to the last but one byte", function()
    m:start()
    mem:write(0, pattern(BUFFER_BYTES, 2))
    -- QEMU takes the buffer for one byte shorter than it is
    put(mem:gpa(), BUFFER_BYTES - 1)
    get(mem:gpa(0x10000), BUFFER_BYTES - 1)
    expect(mem:read(0x10000, BUFFER_BYTES - 1), pattern(BUFFER_BYTES, 2):sub(1, -2))
    for _, piece in ipairs { { 0, 1 }, { 1, 1 }, { 3, 5 }, { 4000, 95 }, { 17, 1000 } } do
        local offset, len = table.unpack(piece)
        mem:fill(0x20000, 2048, 0xee)
        dma(edu, BUFFER + offset, mem:gpa(0x20003), len, FROM_EDU)
        wait_idle(edu)
        expect(mem:read(0x20000, len + 6), "\xee\xee\xee" .. pattern(BUFFER_BYTES, 2):sub(offset + 1, offset + len) ..
            "\xee\xee\xee")
    end
end)

test("DMA from one device's BAR to another's needs no memory in between", function()
    -- shm.regs of another function is the target: IntrMask keeps what the DMA writes
    m:start()
    mem:u32(0, 0xa5a55a5a)
    put(mem:gpa(), 4)
    get(shm:bar(0).base, 4)
    expect(shm.regs.IntrMask, 0xa5a55a5a)
end)

test("the end of a transfer interrupts if it was asked to", function()
    local i = irq(edu, { form = "line" })
    dma(edu, mem:gpa(), BUFFER, 64, 0)
    wait_idle(edu)
    expect({ edu.regs.irq_status, i:raised() }, { 0, false })
    dma(edu, mem:gpa(), BUFFER, 64, DMA_RAISE)
    i:wait()
    expect({ edu.regs.irq_status, edu.regs.dma_cmd }, { DMA_DONE, DMA_RAISE })
    edu.regs.irq_ack = DMA_DONE
    expect(i:raised(), false)
end)

test("without bus mastering a transfer ends as usual and moves nothing", function()
    m:start()
    mem:write(0, pattern(64, 3))
    put(mem:gpa(), 64)
    mem:fill(0x1000, 64, 0xee)
    edu.config.bits.command.bus_master = 0
    get(mem:gpa(0x1000), 64)
    expect(mem:read(0x1000, 64), ("\xee"):rep(64))
    dma(edu, mem:gpa(0x1000), BUFFER, 16, 0) -- reads zeroes in place of the memory
    wait_idle(edu)
    edu.config.bits.command.bus_master = 1
    get(mem:gpa(0x1000), 64)
    expect(mem:read(0x1000, 64), ("\0"):rep(16) .. pattern(64, 3):sub(17))
end)

test("memory that is not mapped takes nothing and gives zeroes", function()
    m:start()
    local at = mem:gpa()
    mem:write(0, pattern(64, 4))
    put(at, 64)
    shm.config.bits.command.memory_space = 0
    get(at, 64)
    put(at, 16)
    shm.config.bits.command.memory_space = 1
    expect(mem:read(0, 64), pattern(64, 4))
    get(mem:gpa(0x100), 64)
    expect(mem:read(0x100, 64), ("\0"):rep(16) .. pattern(64, 4):sub(17))
end)

test("by default it reaches 28 bits of address: higher ones are cut off", function()
    slow:start()
    local ram = slow:ram()
    local at = ram:alloc(8, 8)
    ram:u64(at, 0x1122334455667788)
    dma(unhurried, 0x70000000 + ram:gpa(at), BUFFER, 8, 0)
    wait_idle(unhurried) -- in real time, at that
    dma(unhurried, BUFFER, 0xfff0000000 + ram:gpa(at), 4, FROM_EDU)
    ram:u64(at, 0)
    wait_idle(unhurried)
    expect(ram:u64(at), 0x55667788)
    expect.match(slow:log(), "clamping DMA")
end)

test("registers of a running transfer cannot be changed", function()
    slow:start()
    local ram = slow:ram()
    local at = ram:alloc(16, 8)
    ram:u64(at, 42)
    dma(unhurried, ram:gpa(at), BUFFER, 8, 0)
    unhurried.regs:set { dma_source = 1, dma_destination = 2, dma_count = 3 }
    expect({ unhurried.regs.dma_source, unhurried.regs.dma_destination, unhurried.regs.dma_count },
        { ram:gpa(at), BUFFER, 8 })
    wait_idle(unhurried)
    unhurried.regs.dma_count = 3
    expect(unhurried.regs.dma_count, 3)
end)

test("a transfer beyond its buffer ends QEMU, and the test that did it is told how", function()
    m:start()
    edu.regs:set { dma_source = mem:gpa(), dma_destination = BUFFER, dma_count = BUFFER_BYTES }
    pcall(function()
        edu.regs.dma_cmd = START
        wait_idle(edu)
    end)
    expect.eventually(function() return not m:alive() end)
    local _, how = m:alive()
    expect.match(how, "signal 6")
    expect.match(m:log(), "EDU: DMA range 0x0000000000040000%-0x0000000000040fff out of bounds")
end)
