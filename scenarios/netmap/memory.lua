-- Allocators: whose memory a port has, extra buffers, what is left when its users have gone.

local N = require "netmap"

local host = netmap { buf_num = 2000, ring_num = 20 }
host:nic("em0", { slots = 64 })
host:nic("em1", { slots = 64 })

test("interfaces share the global allocator, switch ports have their own", function()
    local em0, em1 = host:open "netmap:em0", host:open "netmap:em1"
    local a, b = host:open "vale0:a", host:open "vale0:b"
    expect({ em0:info().mem_id, em1:info().mem_id }, { 1, 1 })
    expect(em0:info().flags, 0)
    expect.different(a:info().mem_id, b:info().mem_id)
    expect(a:info().flags, N.NI_PRIV_MEM)
end)

test("a port can be given an allocator that is there", function()
    local a = host:open "vale0:a"
    local id = a:info().mem_id
    local b = host:open("vale0:b@" .. id)
    expect(b:info().mem_id, id)
    expect(host:open("vale0:c@share=vale0:a"):info().mem_id, id)
    expect.different(a:info().offset, b:info().offset)
end)

test("extra buffers are a list, free for the taking, and given back with the file", function()
    local em0 = host:open "netmap:em0"
    local before = em0:info().free_bufs
    local port = host:open("netmap:em1", { extra_bufs = 50 })
    local list = port:extra_bufs()
    expect(#list, 50)
    expect(port:info().bufs_head, list[1])
    local with = em0:info().free_bufs
    port:close()
    expect(em0:info().free_bufs, before)
    expect(before - with, 50 + 2 * 64) -- and those of its rings
end)

test("fewer extra buffers than were asked for is what there is", function()
    local err, body = host:request { type = "REGISTER", name = "em0",
        body = { nr_mode = N.ALL_NIC, nr_extra_bufs = 1000000 } }
    expect(err, "OK")
    expect.above(body.nr_extra_bufs, 1000)
    expect.below(body.nr_extra_bufs, 2100)
end)

test("buffers swapped into rings are freed with the rings, those swapped out with the list", function()
    local em0 = host:open "netmap:em0"
    local before = em0:info().free_bufs
    local port = host:open("netmap:em1", { extra_bufs = 4 })
    local list = port:extra_bufs()
    for i, index in ipairs(list) do -- ring buffers into the list, the list's into the ring
        local slot = port.tx[0][i - 1]
        local from_ring = slot.buf_idx
        slot.buf_idx = index
        slot.flags = N.NS_BUF_CHANGED
        port.tx[0]:set_buf(from_ring, string.pack("<I4", i < 4 and port.tx[0][i].buf_idx or 0))
        if i == 1 then
            port:set_extra_bufs(from_ring)
        end
    end
    expect(#port:extra_bufs(), 4)
    port:close()
    expect(em0:info().free_bufs, before)
end)

test("a list that was destroyed leaks nothing for longer than its users live", function()
    local port = host:open("netmap:em0", { extra_bufs = 20 })
    local before = port:info().free_bufs
    port:set_extra_bufs(0)
    port:close()
    port = host:open("netmap:em0", { extra_bufs = 20 })
    expect(port:info().free_bufs, before)
end)

test("a list that runs in a circle, or leads nowhere, ends", function()
    local em1 = host:open "netmap:em1"
    local before = em1:info().free_bufs
    for _, wrong in ipairs { "circle", 0xffffffff, 1 } do
        local port = host:open("netmap:em0", { extra_bufs = 3 })
        local list = port:extra_bufs()
        local last = wrong == "circle" and list[1] or wrong
        port.tx[0]:set_buf(list[3], string.pack("<I4", last))
        port:close()
        expect(em1:info().free_bufs, before)
    end
end)

test("a null port has buffers of an allocator and nothing else", function()
    local em0 = host:open "netmap:em0"
    local err, body = host:request { type = "REGISTER", name = "x",
        body = { nr_mode = N.NULL, nr_mem_id = 1, nr_extra_bufs = 7 } }
    expect(err, "OK")
    expect({ body.nr_mem_id, body.nr_extra_bufs }, { 1, 7 })
    expect(host:request { type = "REGISTER", name = "x", body = { nr_mode = N.NULL, nr_mem_id = 99 } }, "EINVAL")
    expect(em0:poll "out", "out")
end)

test("memory handed in is what the port uses", function()
    local far = memory { size = "16M" }
    local file = host:file()
    local err, body = file:request { type = "REGISTER", name = "vale0:ext", body = { nr_mode = N.ALL_NIC },
        options = { { type = "EXTMEM", nro_usrptr = far:host(), nr_memsize = 16 << 20 } } }
    expect(err, "OK")
    expect(far:read(body.nr_offset, 9), "vale0:ext")
    local b = host:open "vale0:b"
    file:send(N.frame(N.station(1), N.BROADCAST))
    expect(b:recv(), N.frame(N.station(1), N.BROADCAST))
    file:close()
end)

test("offsets move where frames begin", function()
    local file = host:file()
    local err, _, options = file:request { type = "REGISTER", name = "vale0:a", body = { nr_mode = N.ALL_NIC },
        options = { { type = "OFFSETS", nro_max_offset = 256, nro_initial_offset = 64, nro_offset_bits = 16 } } }
    expect({ err, options[1].status }, { "OK", "OK" })
    expect(file.tx[0].offset_mask, 0xffff)
    expect(file.tx[0][0].ptr, 64)
    local b = host:open "vale0:b"
    local f = N.frame(N.station(1), N.BROADCAST)
    local slot = file.tx[0][0]
    file.tx[0]:set_buf(slot.buf_idx, f, 128)
    slot.ptr, slot.len, slot.flags = 128, 60, 0
    N.step(file.tx[0], 1)
    file:txsync()
    expect(b:recv(), f)
    expect(host:request { type = "REGISTER", name = "vale0:c", body = { nr_mode = N.ALL_NIC },
        options = { { type = "OFFSETS", nro_max_offset = 4096 } } }, "EINVAL")
end)

test("the old requests find their way", function()
    local err, info = host:legacy { cmd = "NIOCGINFO", nr_name = "em0" }
    expect(err, "OK")
    expect({ info.nr_tx_rings, info.nr_tx_slots, info.nr_arg2 }, { 1, 64, 1 })
    local file = host:file()
    err, info = file:legacy { cmd = "NIOCREGIF", nr_name = "em0", nr_flags = N.ALL_NIC, nr_arg3 = 5 }
    expect({ err, info.nr_arg3 }, { "OK", 5 })
    expect({ #file.tx, #file.rx, #file:extra_bufs() }, { 1, 1, 5 })
    expect(host:legacy { cmd = "NIOCGINFO", nr_name = "em0", nr_version = 13 }, "EINVAL")
    expect(host:legacy { cmd = 0x12345678, nr_name = "em0" }, "EOPNOTSUPP")
    expect(host:legacy { cmd = "NIOCGINFO", nr_name = "nobody" }, "ENXIO")
end)
