-- Memory that ivshmem shows: one file behind BARs in several machines, where the guest sees it, and
-- what backs it.

local mem = memory { name = "shared", size = "1M" }
local left = machine { name = "left" }
local right = machine { name = "right", board = "q35" }
local a = left:device("ivshmem-plain", { memory = mem })
local b = right:device("ivshmem-plain", { memory = mem })

test("two QEMUs and this process see the same bytes", function()
    left:start()
    right:start()
    local at = mem:gpa(0x1000)
    mem:write(0x1000, pattern(64, 1))
    expect(left:bytes(at, 64), pattern(64, 1))
    -- through the bus of each QEMU, not through our own mapping
    left:write(at, 4, 0x11223344)
    expect(right:read(at, 4), 0x11223344)
    right:write(at + 4, 8, 0x5566778899aabbcc)
    expect(left:read(at + 4, 8), 0x5566778899aabbcc)
    expect(mem:u64(0x1008) & 0xffffffff, 0x55667788)
end)

test("the last byte belongs to the BAR and the next does not", function()
    local size = mem:size()
    left:start()
    mem:u8(size - 1, 0xa5)
    expect(left:read(mem:gpa(size - 1), 1), 0xa5)
    expect(left:read(mem:gpa(size), 1), 0) -- unassigned memory reads zero
    expect.error("outside the shared memory", left.bytes, left, mem:gpa(size), 1)
    expect.error("outside memory 'shared'", mem.u8, mem, size)
end)

test("C28: BAR 2 is as large as the memory, 64 bits wide and prefetchable", function()
    -- QEMU b2b79a6960 had the 64-bit flag the wrong way round
    local bar = a:bar(2)
    expect(bar.kind, "mem64")
    expect(bar.prefetchable, true)
    expect(bar.size, mem:size())
    expect(a:config_read(0x18, 4) & 0xf, 0xc)
    expect(b:bar(2).size, mem:size())
end)

test("the BAR can lie at the host address of the memory, so that pointers need no translation", function()
    left:start()
    a:place_bar(2, mem:host())
    expect(mem:gpa(), mem:host())
    mem:u32(0x40, 0xcafe)
    expect(left:read(mem:host() + 0x40, 4), 0xcafe)
end)

test("moving the BAR moves what the bus sees, and the old place is empty", function()
    left:start()
    mem:u32(0, 0x600dcafe)
    local old = mem:gpa()
    a:place_bar(2, 0xc0000000)
    expect(left:read(0xc0000000, 4), 0x600dcafe)
    expect(left:read(old, 4), 0)
end)

test("the BAR answers only while memory decoding is on", function()
    left:start()
    mem:u32(0, 0x77)
    expect(left:read(mem:gpa(), 4), 0x77)
    a.config.bits.command.memory_space = 0
    expect(left:read(mem:gpa(), 4), 0)
    a.config.bits.command.memory_space = 1
    expect(left:read(mem:gpa(), 4), 0x77)
end)

test("a system reset takes the BAR off the bus and leaves the bytes", function()
    left:start()
    mem:u32(0, 0x1234)
    local at = mem:gpa()
    left:reset()
    expect(left:read(at, 4), 0)
    left:setup()
    expect(left:read(mem:gpa(), 4), 0x1234)
end)

for _, kind in ipairs { "off", "prefer", "require" } do
    test("memory with hugepages = '" .. kind .. "' is shared like any other", function()
        local pages = memory { name = "pages", size = "2M", hugepages = kind }
        local m = machine { name = "huge" }
        m:device("ivshmem-plain", { memory = pages })
        m:start()
        pages:u32(0x100000, 0xfeed)
        expect(m:read(pages:gpa(0x100000), 4), 0xfeed)
        m:write(pages:gpa(4), 4, 7)
        expect(pages:u32(4), 7)
        if kind == "off" then
            expect(pages:page_size(), 4096)
            expect(pages:note(), nil)
        elseif kind == "require" then
            expect.above(pages:page_size(), 4096)
        elseif pages:page_size() == 4096 then
            expect.match(pages:note(), "using ordinary pages: .*nr_hugepages")
        end
    end)
end

test("a mounted hugetlbfs can back it", function()
    local dir
    for line in io.lines("/proc/mounts") do
        dir = dir or line:match("^%S+ (%S+) hugetlbfs %S*pagesize=2M")
    end
    if not dir then
        skip("no hugetlbfs is mounted: mount -t hugetlbfs -o pagesize=2M none /dev/hugepages (as root)")
    end
    local free = tonumber(io.open("/proc/meminfo"):read("a"):match("HugePages_Free:%s+(%d+)"))
    if free < 1 then
        skip("no huge page is free: echo 64 > /proc/sys/vm/nr_hugepages (as root)")
    end
    local pages = memory { name = "file", size = "2M", dir = dir }
    local m = machine { name = "mounted" }
    m:device("ivshmem-plain", { memory = pages })
    m:start()
    pages:u32(0, 0xabcd)
    expect(m:read(pages:gpa(), 4), 0xabcd)
    expect.above(pages:page_size(), 4096)
end)

test("memory is allocated aligned, zeroed and within bounds", function()
    mem:fill(0, 4096, 0xff)
    local first = mem:alloc(100)
    local second = mem:alloc(16, 256)
    expect(second % 256, 0)
    expect.at_least(second, first + 100)
    expect(mem:read(first, 100), ("\0"):rep(100))
    expect.error("no room for", mem.alloc, mem, mem:size() + 1)
    expect.error("not aligned", mem.u32, mem, 2)
    expect.error("too wide", mem.u16, mem, 0, 0x10000)
end)
