-- Control requests, right and wrong: versions, bodies, options, names, and the errno for each.

local N = require "netmap"

local host = netmap {}

local function register(name, fields)
    local body = { nr_mode = N.ALL_NIC }
    for key, value in pairs(fields or {}) do
        body[key] = value
    end
    return { type = "REGISTER", name = name, body = body }
end

test("versions 14 and 15 are spoken, others are not", function()
    for _, version in ipairs { 0, 11, 13, 16, 0xffff } do
        local request = register "vale0:a"
        request.version = version
        expect(host:request(request), "EINVAL")
    end
    for version = N.MIN_API, N.MAX_API do
        local request = register "vale0:a"
        request.version = version
        expect(host:request(request), "OK")
    end
end)

test("the reserved word of the header must be zero", function()
    local request = register "vale0:a"
    request.reserved = 1
    expect(host:request(request), "EINVAL")
end)

test("a request needs the body it has, and none that it has not", function()
    expect(host:request { type = "REGISTER", name = "vale0:a", body = false }, "EINVAL")
    expect(host:request { type = "VALE_DELIF", name = "v0", body = "12345678" }, "EINVAL")
    expect(host:request { type = "CSB_ENABLE", body = "12345678" }, "EINVAL")
end)

test("a body that is not in memory is a fault", function()
    expect(host:request { type = "REGISTER", name = "vale0:a", body = 4096 }, "EFAULT")
    expect(host:request { type = "REGISTER", name = "vale0:a", body = -4096 }, "EFAULT")
end)

test("request types that do not exist are refused, with and without a body", function()
    for _, kind in ipairs { 0, 16, 77, 0xffff } do
        expect(host:request { type = kind, name = "vale0:a", body = false }, "EINVAL")
        expect(host:request { type = kind, name = "vale0:a", body = string.rep("\0", 64) }, "EINVAL")
    end
end)

test("nothing but a registration works on a file without a port", function()
    local file = host:file()
    expect(file:txsync(), "ENXIO")
    expect(file:rxsync(), "ENXIO")
    expect(file:poll("in out"), "err")
    expect(file:request { type = "SYNC_KLOOP_START" }, "ENXIO")
    expect(file:request { type = "SYNC_KLOOP_STOP" }, "ENXIO")
end)

test("a file is registered once", function()
    local port = host:open "vale0:a"
    expect(port:request(register "vale0:b"), "EBUSY")
    expect(port:info().name, "vale0:a")
end)

test("modes that do not exist and those of old pipes are refused", function()
    for _, mode in ipairs { 0, N.PIPE_MASTER, N.PIPE_SLAVE, 9, 1000 } do
        expect(host:request(register("vale0:a", { nr_mode = mode })), "EINVAL")
    end
end)

test("host rings and rings that do not exist are refused", function()
    expect(host:request(register("vale0:a", { nr_mode = N.SW })), "EINVAL")
    expect(host:request(register("vale0:a", { nr_mode = N.NIC_SW })), "EINVAL")
    expect(host:request(register("vale0:a", { nr_mode = N.ONE_NIC, nr_ringid = 1 })), "EINVAL")
    expect(host:request(register("vale0:a", { nr_mode = N.ONE_NIC, nr_ringid = 0 })), "OK")
end)

test("an allocator that does not exist is refused", function()
    expect(host:request(register("vale0:a", { nr_mem_id = 77 })), "EINVAL")
end)

test("names of nobody are not found", function()
    expect(host:request(register "em0"), "ENXIO")
    expect(host:request(register ""), "ENXIO")
    expect(host:request { type = "PORT_INFO_GET", name = "em0" }, "ENXIO")
    expect(host:request { type = "VALE_LIST", name = "vale9:" }, "ENOENT")
    expect(host:request { type = "VALE_DETACH", name = "vale9:x" }, "ENXIO")
end)

test("switch names have letters, digits and underscores, and end in time", function()
    expect(host:request(register "vale-0:a"), "ENOMEM")
    expect(host:request(register "vale0123456789abcdef:a"), "ENOMEM")
    expect(host:request { type = "PORT_HDR_GET", name = "vale-0:a" }, "ENXIO")
end)

-- ---- options ----

test("an option nobody knows undoes the registration", function()
    local request = register "vale0:a"
    request.options = { { type = 77 } }
    local err, _, options = host:request(request)
    expect(err, "EOPNOTSUPP")
    expect(options[1].status, "EOPNOTSUPP")
    expect(host:request { type = "VALE_LIST", name = "vale0:a" }, "ENOENT")
end)

test("other requests leave an option alone, and say so", function()
    host:open "vale0:a"
    local err, _, options = host:request { type = "PORT_INFO_GET", name = "vale0:a",
        options = { { type = "CSB" }, { type = 77 } } }
    expect(err, "OK")
    expect(options[1].status, "EOPNOTSUPP")
    expect(options[2].status, "EOPNOTSUPP")
end)

test("an option without a type, and one that comes twice, are wrong in themselves", function()
    local request = register "vale0:a"
    request.options = { { type = 0 } }
    local err, _, options = host:request(request)
    expect(err, "EINVAL")
    expect(options[1].status, "EINVAL")
    request.options = { { type = "CSB" }, { type = "CSB" } }
    err, _, options = host:request(request)
    expect(err, "EINVAL")
    expect(options[1].status, "EINVAL")
    expect(options[2].status, "EINVAL")
end)

test("a list of options that loops is too long, not endless", function()
    local request = register "vale0:a"
    request.options = { { type = 77 }, { type = 78, next = 1 } }
    expect(host:request(request), "EMSGSIZE")
    request.options = { { type = 77, next = 1 } }
    expect(host:request(request), "EMSGSIZE")
end)

test("options that are not in memory are a fault", function()
    local request = register "vale0:a"
    request.options = 4096
    expect(host:request(request), "EFAULT")
    request.options = { { type = 77, next = 4096 } }
    expect(host:request(request), "EFAULT")
end)

test("body and options fit 4096 bytes", function()
    local request = register "vale0:a"
    request.options = { { type = "SYNC_KLOOP_EVENTFDS", bytes = string.rep("\xff", 4096) } }
    expect(host:request(request), "EMSGSIZE")
end)

-- ---- the CSB and the kernel loop ----

test("CSB mode is for exclusive files, and needs aligned memory that is there", function()
    local csb = memory { size = "4k" }
    local atok, ktoa = csb:host(), csb:host() + 2048
    local function enable(port, a, k)
        return port:request { type = "CSB_ENABLE",
            options = { { type = "CSB", csb_atok = a, csb_ktoa = k } } }
    end
    expect(enable(host:open "vale0:shared", atok, ktoa), "EINVAL")
    local port = host:open("vale0:a", { exclusive = true })
    expect(port:request { type = "CSB_ENABLE" }, "EINVAL")
    expect(enable(port, atok + 32, ktoa), "EINVAL")
    expect(enable(port, atok, ktoa + 4), "EINVAL")
    expect(enable(port, 4096, ktoa), "EFAULT")
    expect(enable(port, atok, 4096), "EFAULT")
    expect(port:txsync(), "OK")
    expect(enable(port, atok, ktoa), "OK")
    expect(port:txsync(), "EBUSY")
    expect(port:rxsync(), "EBUSY")
    expect(port:poll("in out"), "err")
end)

test("enabling a CSB stores what the rings are like", function()
    local csb = memory { size = "4k" }
    csb:fill(0, 4096, 0x55)
    local port = host:open("vale0:a", { exclusive = true, tx_slots = 64, rx_slots = 32 })
    expect(port:request { type = "CSB_ENABLE",
        options = { { type = "CSB", csb_atok = csb:host(), csb_ktoa = csb:host() + 2048 } } }, "OK")
    for entry, hwtail in pairs { [0] = 63, [1] = 0 } do
        local atok, ktoa = 64 * entry, 2048 + 64 * entry
        expect({ csb:u32(atok), csb:u32(atok + 4), csb:u32(atok + 8), csb:u32(atok + 12) }, { 0, 0, 1, 1 })
        expect({ csb:u32(ktoa), csb:u32(ktoa + 4), csb:u32(ktoa + 8) }, { 0, hwtail, 1 })
    end
    expect(csb:u32(2048 + 12), 0)
    expect(csb:u32(128), 0x55555555)
    expect(csb:u32(2048 + 128), 0x55555555)
end)

test("a kernel loop needs a CSB, and sleeps for a second at most", function()
    local port = host:open("vale0:a", { exclusive = true })
    expect(port:request { type = "SYNC_KLOOP_START", body = { sleep_us = 1000001 } }, "EINVAL")
    expect(port:request { type = "SYNC_KLOOP_START", body = { sleep_us = 10 } }, "EINVAL")
end)

-- ---- what is told about ports ----

test("a port's information is what it was registered with", function()
    host:open("vale0:a", { tx_rings = 2, rx_rings = 3, tx_slots = 64, rx_slots = 128 })
    local info = host:port_info "vale0:a"
    expect(info.nr_tx_rings, 2)
    expect(info.nr_rx_rings, 3)
    expect(info.nr_tx_slots, 64)
    expect(info.nr_rx_slots, 128)
    expect(info.nr_host_tx_rings, 1)
    expect(info.nr_host_rx_rings, 1)
    expect.above(info.nr_mem_id, 1)
end)

test("the pools of an allocator lie one behind the other in its region", function()
    local port = host:open "vale0:a"
    local pools = host:pools_info "vale0:a"
    expect(pools.nr_memsize, port:info().memsize)
    expect(pools.nr_mem_id, port:info().mem_id)
    expect(pools.nr_if_pool_offset, 0)
    expect(pools.nr_ring_pool_offset, pools.nr_if_pool_objtotal * pools.nr_if_pool_objsize)
    expect(pools.nr_buf_pool_offset,
        pools.nr_ring_pool_offset + pools.nr_ring_pool_objtotal * pools.nr_ring_pool_objsize)
    expect.at_most(pools.nr_buf_pool_offset + pools.nr_buf_pool_objtotal * pools.nr_buf_pool_objsize,
        pools.nr_memsize)
    expect(pools.nr_buf_pool_objsize, 2048)
end)
