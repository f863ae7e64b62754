-- The four registers of ivshmem, plain and doorbell (QEMU's docs/specs/ivshmem-spec.txt).

local m = machine()
local plain = m:device "ivshmem-plain"
local server_memory = memory { name = "bell", size = "64k" }
local server = ivshmem_server { memory = server_memory, vectors = 2 }
local bell = m:device("ivshmem-doorbell,vectors=2", { server = server })

for _, v in ipairs { { "plain", plain }, { "doorbell", bell } } do
    local name, dev = table.unpack(v)

    test("C27: " .. name .. ": IntrMask keeps 32 bits, and a reset clears it", function()
        -- QEMU 972ad21553 kept it over a reset
        expect(dev.regs.IntrMask, 0)
        dev.regs.IntrMask = 0xffffffff
        expect(dev.regs.IntrMask, 0xffffffff)
        m:reset()
        m:setup()
        expect(dev.regs.IntrMask, 0)
    end)

    test(name .. ": reading IntrStatus clears it", function()
        dev.regs.IntrStatus = 5
        expect(dev.regs.IntrStatus, 5)
        expect(dev.regs.IntrStatus, 0)
    end)

    test(name .. ": IVPosition cannot be written", function()
        local before = dev.regs.IVPosition
        dev.regs.IVPosition = before ~ 0xffff
        expect(dev.regs.IVPosition, before)
    end)

    test(name .. ": Doorbell reads zero", function()
        expect(dev.regs.Doorbell, 0)
    end)

    test(name .. ": the rest of the block reads zero and ignores writes", function()
        for offset = 0x10, 0xfc, 4 do
            dev.regs:write(offset, 4, 0xffffffff)
            expect(dev.regs:read(offset, 4), 0)
        end
        expect.error("beyond block 'regs'", dev.regs.read, dev.regs, 0xfd, 4)
    end)
end

test("C28: IVPosition is the peer id in this machine's byte order", function()
    -- QEMU ef80a708b5: BAR 0 was in host order
    expect(plain.regs.IVPosition, 0)
    expect(bell.regs.IVPosition, bell:peer())
    m:start()
    local second = machine { name = "second" }
    local other = second:device("ivshmem-doorbell,vectors=2", { server = server })
    expect(other.regs.IVPosition, other:peer())
    expect.different(other.regs.IVPosition, bell.regs.IVPosition)
end)

test("plain has no capability and no interrupt; doorbell has MSI-X and no pin", function()
    expect(plain:capability(0x11), nil)
    expect(plain.config.interrupt_pin, 0)
    expect(bell:msix_vectors(), 2)
    expect(bell.config.interrupt_pin, 0)
end)
