-- ptnet's and memdev's registers and their place on the bus, as QEMU shows them.

local N = require "netmap"

local host = netmap {}
local m = machine { name = "guest" }
local dev = m:device("ptnet-pci,mac=02:11:22:33:44:55",
    { netmap = host, port = "vale0:a@conf:tx_rings=3,rx_rings=2,tx_slots=256,rx_slots=128" })

test("ids, classes and BARs are those of the published devices", function()
    expect({ dev:id() }, { 0x1b36, 0x000d })
    expect({ dev.config.base_class, dev.config.sub_class, dev.config.interrupt_pin }, { 2, 0, 1 })
    expect({ dev:bar(0).kind, dev:bar(0).size }, { "io", 256 })
    expect(dev:bar(1), nil)
    expect(dev:bar(2).kind, "mem32")
    local memdev = dev:memdev()
    expect({ memdev:id() }, { 0x1b36, 0x000c })
    expect({ memdev.config.base_class, memdev.config.sub_class, memdev.config.interrupt_pin }, { 0, 0xff, 0 })
    expect({ memdev:bar(0).kind, memdev:bar(0).size }, { "io", 128 })
    expect({ memdev:bar(1).kind, memdev:bar(1).prefetchable }, { "mem32", true })
    expect.at_least(memdev:bar(1).size, memdev.regs.MEMSIZE_LO)
    expect(memdev:bar(2), nil)
end)

test("there is an MSI-X vector for each ring", function()
    expect(dev:msix_vectors(), 5)
    expect(dev:memdev():msix_vectors(), 0)
end)

test("the registers describe the port", function()
    local regs = dev.regs
    expect(regs.NUM_TX_RINGS, 3)
    expect(regs.NUM_RX_RINGS, 2)
    expect(regs.NUM_TX_SLOTS, 256)
    expect(regs.NUM_RX_SLOTS, 128)
    expect(regs.MAC_HI, 0x0211)
    expect(regs.MAC_LO, 0x22334455)
    local pools = host:pools_info "vale0:a"
    expect(regs.HOSTMEMID, pools.nr_mem_id)
    local memdev = dev:memdev().regs
    expect(memdev.MEMID, pools.nr_mem_id)
    expect(memdev.MEMSIZE_LO | memdev.MEMSIZE_HI << 32, pools.nr_memsize)
    for _, pool in ipairs { "if", "ring", "buf" } do
        expect(memdev[pool:upper() .. "_POOL_OFS"], pools["nr_" .. pool .. "_pool_offset"])
        expect(memdev[pool:upper() .. "_POOL_OBJNUM"], pools["nr_" .. pool .. "_pool_objtotal"])
        expect(memdev[pool:upper() .. "_POOL_OBJSZ"], pools["nr_" .. pool .. "_pool_objsize"])
    end
end)

test("the netmap_if lies where NIFP_OFS says, and names the port", function()
    local memory = dev:memory()
    local at = dev.regs.NIFP_OFS
    expect(memory:read(at, 8), "vale0:a\0")
    expect({ memory:u32(at + 24), memory:u32(at + 28) }, { 3, 2 })
end)

test("memdev's BAR and the ivshmem BAR show the same bytes", function()
    local memory, memdev, shm = dev:memory(), dev:memdev(), dev:ivshmem()
    local size = memdev.regs.MEMSIZE_LO
    for i, offset in ipairs { 0, 4, 0x1000, dev.regs.NIFP_OFS, size // 2 & ~3, size - 4 } do
        local old = memory:u32(offset)
        memdev:bar_write(1, offset, 4, 0x1000000 + i)
        expect(memory:u32(offset), 0x1000000 + i)
        expect(shm:bar_read(2, offset, 4), 0x1000000 + i)
        shm:bar_write(2, offset, 4, 0x2000000 + i)
        expect(memdev:bar_read(1, offset, 4), 0x2000000 + i)
        memory:u32(offset, old)
        expect(memdev:bar_read(1, offset, 4), old)
    end
end)

test("QEMU's own list shows the BARs where they were put", function()
    dev:id()
    local text = m:hmp "info pci"
    for _, d in ipairs { dev, dev:memdev() } do
        for n = 0, 2 do
            local bar = d:bar(n)
            if bar then
                expect.match(text, string.format("BAR%d: %s at 0x%x [[]0x%x[]]", n,
                    bar.kind == "io" and "I/O" or "32 bit memory",
                    bar.base, bar.base + bar.size - 1):gsub("0x(%x+)", "0x0*%1"))
            end
        end
    end
end)

test("only the feature that is offered is acknowledged", function()
    expect(dev.regs.PTFEAT, 0)
    dev.regs.PTFEAT = 0xffffffff
    expect(dev.regs.PTFEAT, 1)
    dev.regs.PTFEAT = 0xfffffffe
    expect(dev.regs.PTFEAT, 0)
end)

test("header lengths are 0, 10 and 12; others leave the register as it was", function()
    for _, len in ipairs { 10, 12, 0, 12 } do
        dev.regs.VNET_HDR_LEN = len
        expect(dev.regs.VNET_HDR_LEN, len)
        expect(host:header("vale0:a").nr_hdr_len, len)
        for _, wrong in ipairs { 1, 11, 13, 0xffffffff } do
            dev.regs.VNET_HDR_LEN = wrong
            expect(dev.regs.VNET_HDR_LEN, len)
        end
    end
end)

test("what is read-only stays, whatever is written", function()
    local before = dev.regs:values()
    for _, name in ipairs { "MAC_LO", "MAC_HI", "NIFP_OFS", "NUM_TX_RINGS", "NUM_RX_RINGS", "NUM_TX_SLOTS",
        "NUM_RX_SLOTS", "HOSTMEMID", "CSBBAH", "CSBBAL" } do
        dev.regs:write(({ MAC_LO = 8, MAC_HI = 12, NIFP_OFS = 24, NUM_TX_RINGS = 28, NUM_RX_RINGS = 32,
            NUM_TX_SLOTS = 36, NUM_RX_SLOTS = 40, HOSTMEMID = 48, CSBBAH = 16, CSBBAL = 20 })[name],
            4, 0xffffffff)
    end
    expect(dev.regs:values(), before)
    local memdev = dev:memdev()
    before = memdev.regs:values()
    for offset = 0, 124, 4 do
        memdev:bar_write(0, offset, 4, 0xffffffff)
    end
    expect(memdev.regs:values(), before)
end)

test("from the last register to the kicks everything reads 0 and takes nothing", function()
    for offset = 0x44, 0xfc, 4 do
        expect(dev:bar_read(0, offset, 4), 0)
    end
    for offset = 0x44, 0x7c, 4 do
        dev:bar_write(0, offset, 4, 0xffffffff)
        expect(dev:bar_read(0, offset, 4), 0)
    end
    for offset = 12, 60, 4 do
        expect(dev:memdev():bar_read(0, offset, 4), 0)
    end
end)

test("nonsense in every register hurts nobody", function()
    local a, b = host:open "vale0:x", host:open "vale0:y"
    for seed = 1, 20 do
        local value = string.unpack("<I4", pattern(4, seed))
        for offset = 0, 252, 4 do
            dev:bar_write(0, offset, 4, value)
            dev:bar_read(0, offset, 4)
        end
        a:send(N.frame(N.station(1), N.station(2), seed))
        expect(b:recv(), N.frame(N.station(1), N.station(2), seed))
    end
    expect(dev.regs.NUM_TX_RINGS, 3)
    dev.regs.PTFEAT = 0
    dev.regs.VNET_HDR_LEN = 0
    ptnet(dev, { vnet_hdr = false }):send(N.frame(N.station(3), N.BROADCAST, 77))
    expect(b:recv(), N.frame(N.station(3), N.BROADCAST, 77))
end)

test("a device without passthrough shows its port and takes no write", function()
    local m2 = machine { name = "other" }
    local plain = m2:device("ptnet-pci", { netmap = host, port = "vale0:p", passthrough = false })
    plain.regs.PTFEAT = 1
    expect(plain.regs.PTFEAT, 0)
    plain.regs.PTCTL = 1
    expect(plain.regs.PTCTL, 0)
    plain.regs.CSB_GH_BAH = 7
    expect(plain.regs.CSB_GH_BAH, 0)
end)
