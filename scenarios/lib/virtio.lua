-- Virtio from the driver's side, by hand: constants, both PCI transports behind the same methods, and
-- split queues whose every field a script may write, rightly or wrongly. Nothing here checks anything:
-- for a driver that keeps the rules there is virtio_net{}. Follows virtio 1.2, 2 to 4.1 and 5.1.
local virtio = {}

-- ---- constants ----

-- device status, 2.1
virtio.ACKNOWLEDGE, virtio.DRIVER, virtio.DRIVER_OK, virtio.FEATURES_OK = 0x01, 0x02, 0x04, 0x08
virtio.NEEDS_RESET, virtio.FAILED = 0x40, 0x80
-- what a driver that does everything right has set when it is done
virtio.RUNNING = { modern = 0x0f, legacy = 0x07 }

-- descriptors, 2.7.5; available and used ring, 2.7.6 and 2.7.8
virtio.NEXT, virtio.WRITE, virtio.INDIRECT = 1, 2, 4
virtio.NO_INTERRUPT, virtio.NO_NOTIFY = 1, 1

virtio.NO_VECTOR = 0xffff
virtio.ISR_QUEUE, virtio.ISR_CONFIG = 1, 2

-- queues of a network device with one pair, 5.1.2
virtio.RX, virtio.TX, virtio.CTRL = 0, 1, 2

-- feature masks by name, 5.1.3 and 6
virtio.F = {}
for name, bit in pairs {
    CSUM = 0, GUEST_CSUM = 1, CTRL_GUEST_OFFLOADS = 2, MTU = 3, MAC = 5, GSO = 6, GUEST_TSO4 = 7, GUEST_TSO6 = 8,
    GUEST_ECN = 9, GUEST_UFO = 10, HOST_TSO4 = 11, HOST_TSO6 = 12, HOST_ECN = 13, HOST_UFO = 14, MRG_RXBUF = 15,
    STATUS = 16, CTRL_VQ = 17, CTRL_RX = 18, CTRL_VLAN = 19, CTRL_RX_EXTRA = 20, GUEST_ANNOUNCE = 21, MQ = 22,
    CTRL_MAC_ADDR = 23, NOTIFY_ON_EMPTY = 24, ANY_LAYOUT = 27, INDIRECT_DESC = 28, EVENT_IDX = 29, LEGACY_BAD = 30,
    VERSION_1 = 32, ACCESS_PLATFORM = 33, RING_PACKED = 34, IN_ORDER = 35, ORDER_PLATFORM = 36, SR_IOV = 37,
    NOTIFICATION_DATA = 38, RING_RESET = 40, HASH_REPORT = 57, RSS = 60, RSC_EXT = 61, STANDBY = 62,
    SPEED_DUPLEX = 63,
} do
    virtio.F[name] = 1 << bit
end
local F = virtio.F

-- ---- transports ----

-- Methods of both:
--   status() set_status(v) reset()      the device status; reset() writes 0
--   offered() accept(features)          feature bits; accept() writes them, no more
--   negotiate(features)                 from reset to FEATURES_OK (legacy: to the features)
--   select(q) queue_size(q)
--   enable(q, ring[, vector])           programs a queue and switches it on
--   go()                                DRIVER_OK
--   kick(q)                             one notification
--   isr()                               reads (and so clears) the ISR
--   queue_vector(q[, v]) config_vector([v])   legacy: while MSI-X is enabled
local modern, legacy = { name = "modern" }, { name = "legacy" }
modern.__index, legacy.__index = modern, legacy

-- The transport of a device: "modern" or "legacy".
function virtio.transport(dev, name)
    return setmetatable({ dev = dev }, name == "legacy" and legacy or modern)
end

function modern:status()
    return self.dev.common.device_status
end
function modern:set_status(value)
    self.dev.common.device_status = value
end
function modern:offered()
    local common, bits = self.dev.common, 0
    for word = 0, 1 do
        common.device_feature_select = word
        bits = bits | common.device_feature << 32 * word
    end
    return bits
end
function modern:accept(features)
    local common = self.dev.common
    for word = 0, 1 do
        common.driver_feature_select = word
        common.driver_feature = features >> 32 * word & 0xffffffff
    end
end
function modern:negotiate(features)
    self:set_status(0)
    self:set_status(virtio.ACKNOWLEDGE)
    self:set_status(virtio.ACKNOWLEDGE | virtio.DRIVER)
    self:accept(features)
    self:set_status(virtio.ACKNOWLEDGE | virtio.DRIVER | virtio.FEATURES_OK)
    expect(self:status(), virtio.ACKNOWLEDGE | virtio.DRIVER | virtio.FEATURES_OK)
end
function modern:select(q)
    self.dev.common.queue_select = q
end
function modern:queue_size(q)
    self:select(q)
    return self.dev.common.queue_size
end
function modern:enable(q, ring, vector)
    local common = self.dev.common
    common.queue_select = q
    common:set {
        queue_size = ring.size, queue_desc = ring:desc_gpa(), queue_driver = ring:avail_gpa(),
        queue_device = ring:used_gpa(), queue_msix_vector = vector or virtio.NO_VECTOR,
    }
    common.queue_enable = 1
end
function modern:go()
    self:set_status(virtio.RUNNING.modern)
end
function modern:kick(q)
    self.dev.notify[q].queue_notify = q
end
function modern:isr()
    return self.dev.isr.isr_status
end
function modern:queue_vector(q, vector)
    self:select(q)
    if vector then
        self.dev.common.queue_msix_vector = vector
    end
    return self.dev.common.queue_msix_vector
end
function modern:config_vector(vector)
    if vector then
        self.dev.common.config_msix_vector = vector
    end
    return self.dev.common.config_msix_vector
end

function legacy:status()
    return self.dev.legacy.device_status
end
function legacy:set_status(value)
    self.dev.legacy.device_status = value
end
function legacy:offered()
    return self.dev.legacy.device_features
end
function legacy:accept(features)
    self.dev.legacy.driver_features = features & 0xffffffff
end
function legacy:negotiate(features)
    self:set_status(0)
    self:set_status(virtio.ACKNOWLEDGE)
    self:set_status(virtio.ACKNOWLEDGE | virtio.DRIVER)
    self:accept(features)
end
function legacy:select(q)
    self.dev.legacy.queue_select = q
end
function legacy:queue_size(q)
    self:select(q)
    return self.dev.legacy.queue_size
end
function legacy:enable(q, ring, vector)
    self:select(q)
    if vector then
        self.dev.legacy_msix.queue_msix_vector = vector
    end
    self.dev.legacy.queue_address = ring:desc_gpa() >> 12
end
function legacy:go()
    self:set_status(virtio.RUNNING.legacy)
end
function legacy:kick(q)
    self.dev.legacy.queue_notify = q
end
function legacy:isr()
    return self.dev.legacy.isr_status
end
function legacy:queue_vector(q, vector)
    self:select(q)
    if vector then
        self.dev.legacy_msix.queue_msix_vector = vector
    end
    return self.dev.legacy_msix.queue_msix_vector
end
function legacy:config_vector(vector)
    if vector then
        self.dev.legacy_msix.config_msix_vector = vector
    end
    return self.dev.legacy_msix.config_msix_vector
end

for _, transport in ipairs { modern, legacy } do
    function transport:reset()
        self:set_status(0)
    end
end

-- What scenarios that should hold everywhere loop over: both boards, both transports, and devices that
-- offer both or one of them.
virtio.variants = {
    { name = "pc, transitional, modern", board = "pc", transport = "modern" },
    { name = "pc, transitional, legacy", board = "pc", transport = "legacy" },
    { name = "q35, modern only", board = "q35", transport = "modern", properties = "disable-legacy=on" },
    { name = "q35, legacy only", board = "q35", transport = "legacy", properties = "disable-modern=on" },
}

-- ---- split queues ----

local ring = {}
ring.__index = ring

-- A split queue of `size` entries in `memory` (a region of a BAR, or machine:ram()), zeroed: one block,
-- the used ring on a page of its own, which is the legacy layout (2.7.2) and suits modern devices too.
-- Guest addresses are asked for when needed, so that the BAR may move.
function virtio.ring(memory, size)
    local desc_and_avail = (16 * size + 6 + 2 * size + 4095) // 4096 * 4096
    local total = desc_and_avail + 6 + 8 * size
    local r = setmetatable({ memory = memory, size = size }, ring)
    r.desc = memory:alloc(total, 4096)
    r.avail = r.desc + 16 * size
    r.used = r.desc + desc_and_avail
    r.bytes = total
    r:clear()
    return r
end

function ring:clear()
    self.memory:fill(self.desc, self.bytes)
    self.n_posted = 0
end
function ring:desc_gpa()
    return self.memory:gpa(self.desc)
end
function ring:avail_gpa()
    return self.memory:gpa(self.avail)
end
function ring:used_gpa()
    return self.memory:gpa(self.used)
end

-- Descriptor `i` as a table; its fields, if given, are stored. Fields left out are 0.
function ring:descriptor(i, fields)
    return virtio.descriptor(self.memory, self.desc + 16 * i, fields)
end

-- A descriptor at any offset of a memory: for indirect tables.
function virtio.descriptor(memory, offset, fields)
    if fields then
        memory:u64(offset, fields.addr or 0)
        memory:u32(offset + 8, fields.len or 0)
        memory:u16(offset + 12, fields.flags or 0)
        memory:u16(offset + 14, fields.next or 0)
    end
    return {
        addr = memory:u64(offset), len = memory:u32(offset + 8), flags = memory:u16(offset + 12),
        next = memory:u16(offset + 14),
    }
end

-- Lays the buffers { addr=, len=, [write=true] } out as a chain in descriptors first, first + 1, ...
function ring:chain(first, buffers)
    for i, b in ipairs(buffers) do
        local last = i == #buffers
        self:descriptor(first + i - 1, {
            addr = b.addr, len = b.len, next = last and 0 or first + i,
            flags = (last and 0 or virtio.NEXT) | (b.write and virtio.WRITE or 0),
        })
    end
    return first
end

-- Makes heads available: entries of the available ring, then its index (2.7.13). No kick.
function ring:post(...)
    for _, head in ipairs { ... } do
        self.memory:u16(self.avail + 4 + 2 * (self.n_posted % self.size), head)
        self.n_posted = self.n_posted + 1
    end
    self:avail_idx(self.n_posted & 0xffff)
end

-- Fields, read and, with a value, written.
local function word(offset_of)
    return function(self, value)
        return self.memory:u16(offset_of(self), value)
    end
end
ring.avail_flags = word(function(r) return r.avail end)
ring.avail_idx = word(function(r) return r.avail + 2 end)
ring.used_event = word(function(r) return r.avail + 4 + 2 * r.size end)
ring.used_flags = word(function(r) return r.used end)
ring.used_idx = word(function(r) return r.used + 2 end)
ring.avail_event = word(function(r) return r.used + 4 + 8 * r.size end)

-- Entry `i` (any number: modulo the size) of the used ring: id, len.
function ring:used_element(i)
    local at = self.used + 4 + 8 * (i % self.size)
    return self.memory:u32(at), self.memory:u32(at + 4)
end

-- Waits until the device has used `n` chains in all (default: everything posted).
function ring:await(n, timeout)
    expect.eventually(function() return self:used_idx() end, (n or self.n_posted) & 0xffff, timeout)
end

-- Lets QEMU do what it was kicked to do: each barrier is a turn of its main loop. A kick's eventfd is seen
-- in the turn after it was written, the transmit queue is served in the next but one.
function virtio.settle(machine)
    for _ = 1, 4 do
        machine:barrier()
    end
end

-- ---- the network device's own ----

-- The header before a frame, 5.1.6: 12 bytes, or 10 for a legacy driver without MRG_RXBUF.
function virtio.header_bytes(features)
    return features & (F.VERSION_1 | F.MRG_RXBUF) ~= 0 and 12 or 10
end

-- Bytes in a memory, as a buffer for chain(): { addr=, len=, offset= }.
function virtio.buffer(memory, bytes_or_len)
    local is_text = type(bytes_or_len) == "string"
    local len = is_text and #bytes_or_len or bytes_or_len
    local offset = memory:alloc(len, 16)
    if is_text then
        memory:write(offset, bytes_or_len)
    end
    return { addr = memory:gpa(offset), len = len, offset = offset, write = not is_text }
end

-- A network device whose frames go to QEMU's user network, which swallows all it does not know: what
-- it sends is taken at once, and nothing is ever received.
function virtio.lone_device(machine, properties)
    machine:args("-netdev", "user,id=sink,restrict=on,ipv6=off")
    return machine:device(virtio.spec("netdev=sink", properties))
end

-- "virtio-net-pci" with properties, each "a=b,c=d" or nil.
function virtio.spec(...)
    local text = "virtio-net-pci"
    for i = 1, select("#", ...) do
        local properties = select(i, ...)
        text = text .. (properties and "," .. properties or "")
    end
    return text
end

-- A network device brought to DRIVER_OK with rings by hand:
--   { transport = "modern", features = mask, memory =, size = entries (legacy: the device's), ctrl = false,
--     vectors = { config=, rx=, tx=, ctrl= } (switches MSI-X on), buffers = n (receive buffers of 2048 bytes posted before
--     DRIVER_OK) }
-- The device is idle when this returns.
-- -> { t = transport, rx =, tx =, ctrl = rings, header = bytes, memory =, features = }
function virtio.bring_up(dev, o)
    if not (o and o.memory) then
        error("virtio.bring_up needs memory for the rings, such as { memory = machine:ram() }", 2)
    end
    local t = virtio.transport(dev, o.transport)
    local up = { t = t, memory = o.memory, rx_buffers = {} }
    local vectors = o.vectors or {}
    up.features = o.features or (t.name == "modern" and F.VERSION_1 or 0)
    up.header = string.rep("\0", virtio.header_bytes(up.features))
    if o.vectors then
        dev:msix_enable() -- legacy: its vector registers are there only now
    end
    t:negotiate(up.features)
    if vectors.config then
        t:config_vector(vectors.config)
    end
    for q, name in pairs { [virtio.RX] = "rx", [virtio.TX] = "tx", [virtio.CTRL] = o.ctrl and "ctrl" or nil } do
        up[name] = virtio.ring(o.memory, t.name == "modern" and o.size or t:queue_size(q))
        t:enable(q, up[name], vectors[name])
    end
    for i = 1, o.buffers or 0 do
        local b = virtio.buffer(o.memory, 2048)
        up.rx_buffers[i - 1] = b
        up.rx:chain(i - 1, { b })
        up.rx:post(i - 1)
    end
    t:go()
    for _ = 1, 4 do -- as settle(): after DRIVER_OK QEMU looks at every queue once by itself
        expect(t:status(), virtio.RUNNING[t.name])
    end
    return up
end

return virtio
