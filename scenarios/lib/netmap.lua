-- netmap's numbers, API version 14, and what scenarios about its rings have in common.

local N = {
    API = 14, MIN_API = 14, MAX_API = 15,
    -- slot flags
    NS_BUF_CHANGED = 0x01, NS_REPORT = 0x02, NS_FORWARD = 0x04, NS_NO_LEARN = 0x08,
    NS_INDIRECT = 0x10, NS_MOREFRAG = 0x20, NS_TXMON = 0x40,
    -- ring flags
    NR_TIMESTAMP = 0x2, NR_FORWARD = 0x4,
    -- how to register
    ALL_NIC = 1, SW = 2, NIC_SW = 3, ONE_NIC = 4, PIPE_MASTER = 5, PIPE_SLAVE = 6, NULL = 7, ONE_SW = 8,
    MONITOR_TX = 0x100, MONITOR_RX = 0x200, ZCOPY_MON = 0x400, EXCLUSIVE = 0x800,
    RX_RINGS_ONLY = 0x2000, TX_RINGS_ONLY = 0x4000, ACCEPT_VNET_HDR = 0x8000,
    NO_TX_POLL = 0x20000,
    -- of netmap_if
    NI_PRIV_MEM = 1,
    -- kernel loop
    DIRECT_TX = 1, DIRECT_RX = 2,
    -- sync flags in a CSB
    FORCE_READ = 1, FORCE_RECLAIM = 2,
}

-- Fills the slot at the ring's cur with the bytes and steps over it; the caller syncs.
function N.put(ring, bytes)
    ring[ring.cur]:set(bytes)
    ring[ring.cur].flags = 0
    N.step(ring, 1)
end

-- Moves head and cur n slots on.
function N.step(ring, n)
    local to = (ring.head + n) % ring.num_slots
    ring.cur = to
    ring.head = to
end

-- The buffer indices of a ring's slots, in order.
function N.indices(ring)
    local list = {}
    for i = 0, ring.num_slots - 1 do
        list[i + 1] = ring[i].buf_idx
    end
    return list
end

-- A frame from one address to another, 60 bytes unless told otherwise.
function N.frame(from, to, seed, len)
    return mac(to) .. mac(from) .. "\x88\xb5" .. pattern((len or 60) - 14, seed or 1)
end

N.BROADCAST = "ff:ff:ff:ff:ff:ff"

-- The address of station n.
function N.station(n)
    return string.format("02:00:00:00:%02x:%02x", n >> 8, n & 0xff)
end

return N
