-- Capability lists, and the capabilities of their own: MSI, power management, PCI Express.

local pci = require "pci"

local PM, SLOT_ID, MSI, VENDOR, SHPC, SUBSYSTEM, EXPRESS, MSIX = 0x01, 0x04, 0x05, 0x09, 0x0c, 0x0d, 0x10, 0x11

local pc = machine { name = "pc" }
local q35 = machine { name = "q35", board = "q35" }
local port = q35:device "pcie-root-port,id=root"
local edu = pc:device "edu"
local modern = pc:device "virtio-net-pci,disable-legacy=on"
local express = q35:device "virtio-net-pci,bus=root"
local e1000e = pc:device "e1000e"

local expected = {
    { modern, { { MSIX, 0x98 }, { VENDOR, 0x84 }, { VENDOR, 0x70 }, { VENDOR, 0x60 }, { VENDOR, 0x50 }, { VENDOR, 0x40 } } },
    { pc:device "virtio-net-pci,disable-modern=on", { { MSIX, 0x40 } } },
    { pc:device "virtio-net-pci,disable-modern=on,vectors=0", {} },
    { pc:device "ivshmem-plain", {} },
    { pc:device "ivshmem-doorbell", { { MSIX, 0x40 } } },
    { edu, { { MSI, 0x40 } } },
    { e1000e, { { PM, 0xc8 }, { MSI, 0xd0 }, { EXPRESS, 0xe0 }, { MSIX, 0xa0 } } },
    { pc:device "pci-bridge", { { MSI, 0x4c }, { SLOT_ID, 0x48 }, { SHPC, 0x40 } } },
    { port, { { EXPRESS, 0x54 }, { MSIX, 0x48 }, { SUBSYSTEM, 0x40 } } },
    { express, { { MSIX, 0xdc }, { VENDOR, 0xc8 }, { VENDOR, 0xb4 }, { VENDOR, 0xa4 }, { VENDOR, 0x94 }, { VENDOR, 0x84 },
        { PM, 0x7c }, { EXPRESS, 0x40 } } },
}

-- ---- lists ----

test("every list is found by hand as the devices have it, and ends", function()
    for _, e in ipairs(expected) do
        local dev, list = table.unpack(e)
        local found = {}
        for i, c in ipairs(pci.capabilities(dev)) do
            found[i] = { c.id, c.at }
            expect(c.at % 4, 0)
            expect.at_least(c.at, 0x40)
        end
        expect(found, list)
    end
end)

test("the status bit, and nothing else, says whether there is a list", function()
    for _, e in ipairs(expected) do
        local dev, list = table.unpack(e)
        expect(dev.config.bits.status.capabilities_list, #list > 0 and 1 or 0)
        expect(dev.config.capabilities_pointer, #list > 0 and list[1][2] or 0)
    end
end)

test("the scan finds them too, and counts those with the same id", function()
    expect(modern:capability(MSIX), 0x98)
    expect(modern:capability(VENDOR), 0x84)
    expect(modern:capability(VENDOR, 4), 0x40)
    expect(modern:capability(VENDOR, 5), nil)
    expect(modern:capability(PM), nil)
    expect(express:capability(EXPRESS), 0x40)
end)

test("ids and links of a list cannot be written", function()
    for _, e in ipairs(expected) do
        local dev = e[1]
        local before = pci.capabilities(dev)
        for _, c in ipairs(before) do
            dev:config_write(c.at, 2, 0xffff)
            dev:config_write(c.at, 1, 0)
            dev:config_write(c.at + 1, 1, 0)
        end
        dev:config_write(0x34, 1, 0xff)
        expect(pci.capabilities(dev), before)
    end
end)

-- ---- MSI (PCI Local Bus 3.0, 6.8.1) ----

test("MSI starts switched off, with one message of 64 bits and no masks", function()
    expect(edu.msi.message_control, 0x0080)
    expect({ edu.msi.message_address, edu.msi.message_upper_address, edu.msi.message_data }, { 0, 0, 0 })
end)

test("of MSI's control only the enable bit of a one-message device can be written", function()
    edu.msi.message_control = 0xffff
    expect(edu.msi.message_control, 0x0081)
    edu.msi.message_control = 0
    expect(edu.msi.message_control, 0x0080)
end)

test("MSI's address is a multiple of 4 and its data is 16 bits", function()
    edu.msi.message_address = 0xffffffff
    edu.msi.message_upper_address = 0xffffffff
    edu.msi.message_data = 0xffff
    expect(edu.msi.message_address, 0xfffffffc)
    expect(edu.msi.message_upper_address, 0xffffffff)
    expect(edu:config_read(0x4c, 4), 0x0000ffff)
end)

test("an MSI lands at its address with its data, the upper half of the word zero", function()
    local word = pci.word(pc)
    edu.msi:set { message_address = word.gpa, message_data = 0xbeef }
    edu.regs.irq_raise = 1
    expect(word(), 0) -- not enabled
    edu.regs.irq_ack = 1
    edu.msi.bits.message_control.enable = 1
    pc:ram():u32(word.gpa, 0xffffffff)
    edu.regs.irq_raise = 1
    expect(word.take(), 0xbeef)
    edu.regs.irq_raise = 2 -- no ack is needed: every event is a message
    expect(word.take(), 0xbeef)
end)

test("an MSI reaches memory above 4 GiB", function()
    local mem = memory { name = "high", size = "64k" }
    local m = machine { name = "high" }
    local source = m:device "edu"
    m:device("ivshmem-plain", { memory = mem })
    m:start()
    expect.above(mem:gpa(), 0xffffffff)
    source.msi:set { message_address = mem:gpa(8) & 0xffffffff, message_upper_address = mem:gpa(8) >> 32, message_data = 7 }
    source.msi.bits.message_control.enable = 1
    source.regs.irq_raise = 1
    expect(mem:u32(8), 7)
end)

test("an MSI without bus mastering is lost, not kept", function()
    local word = pci.word(pc)
    edu.msi:set { message_address = word.gpa, message_data = 1 }
    edu.msi.bits.message_control.enable = 1
    edu.config.bits.command.bus_master = 0
    edu.regs.irq_raise = 1
    expect(word(), 0)
    edu.config.bits.command.bus_master = 1
    expect(word(), 0)
    edu.regs.irq_raise = 1
    expect(word(), 1)
end)

-- ---- power management and PCI Express ----

test("the power state can be set to D0 and D3hot and reads back", function()
    for _, dev in ipairs { e1000e, express } do
        local pm = dev.power_management
        expect(pm.bits.capabilities.version, dev == e1000e and 2 or 3)
        expect(pm.bits.control_status.power_state, 0)
        pm.bits.control_status.power_state = 3
        expect(pm.bits.control_status.power_state, 3)
        pm.bits.control_status.power_state = 0
        expect(pm.bits.control_status.power_state, 0)
    end
end)

test("a device behind a root port is an endpoint of PCI Express with the link up, one on pc is none", function()
    local e = express.pci_express.bits
    expect({ e.capabilities.version, e.capabilities.device_port_type }, { 2, 0 })
    expect({ e.link_status.current_link_speed, e.link_status.negotiated_link_width }, { 1, 1 })
    expect(port.pci_express.bits.link_status.data_link_layer_active, 0) -- not offered in ACPI's mode
    expect(modern:capability(EXPRESS), nil)
end)

test("a function level reset resets this function: its header, its MSI-X and the device behind", function()
    express.common.device_status = 3
    express.config.interrupt_line = 9
    express:msix_enable()
    express.pci_express.bits.device_control.function_level_reset = 1
    expect(express.pci_express.bits.device_control.function_level_reset, 0) -- reads zero
    expect({ express.config.command, express.config.interrupt_line, express.config.bar1 }, { 0, 0, 0 })
    expect(express.msix.bits.message_control.enable, 0)
    expect(port.config.command, 7)
    q35:setup()
    expect(express.common.device_status, 0)
    expect(express.common.num_queues, 3)
end)
