-- ptnet by hand, for scripts that do wrong things: its registers, and a CSB in guest memory.

local P = { CREATE = 1, DELETE = 2 }

local atok = { head = 0, cur = 4, appl_need_kick = 8, sync_flags = 12 }
local ktoa = { hwcur = 0, hwtail = 4, kern_need_kick = 8 }

local C = {}
C.__index = C

-- A CSB for `dev` in its machine's RAM: two pages, or what `bytes` says.
function P.csb(dev, bytes)
    local ram = dev:machine():ram()
    local at = ram:alloc(bytes or 8192, 4096)
    return setmetatable({ dev = dev, ram = ram, gh = at, hg = at + (bytes or 8192) // 2 }, C)
end

-- Tells the device where it is: high halves first.
function C:place(gh, hg)
    local regs = self.dev.regs
    gh, hg = gh or self.ram:gpa(self.gh), hg or self.ram:gpa(self.hg)
    regs.CSB_GH_BAH = gh >> 32
    regs.CSB_GH_BAL = gh & 0xffffffff
    regs.CSB_HG_BAH = hg >> 32
    regs.CSB_HG_BAL = hg & 0xffffffff
end

-- Gives a command; its status.
function C:control(command)
    self.dev.regs.PTCTL = command
    return self.dev.regs.PTCTL
end

function C:create() return self:control(P.CREATE) end
function C:delete() return self:control(P.DELETE) end

function C:kick(ring) self.dev.regs.KICK[ring] = 0 end

-- A field of a ring's entries, by its global number (tx first); with a value: stored.
function C:word(ring, name, value)
    local offset = atok[name] and self.gh + atok[name] or self.hg + ktoa[name]
    return self.ram:u32(offset + 64 * ring, value)
end

-- All fields of a ring's entries.
function C:entry(ring)
    local fields = {}
    for _, names in ipairs { atok, ktoa } do
        for name in pairs(names) do
            fields[name] = self:word(ring, name)
        end
    end
    return fields
end

-- What the guest's side says: cur before head, as the driver stores them.
function C:say(ring, head, cur)
    self:word(ring, "cur", cur or head)
    self:word(ring, "head", head)
end

return P
