-- The demonstration: a stock QEMU, no guest, real traffic.
-- A capture of ordinary programs' traffic goes out of one virtio-net and comes in at another, through
-- QEMU's own network. Rings and buffers of both lie in one file of huge pages that an ivshmem BAR
-- shows to the devices; interrupts are stores into the same memory.

local pcap = require "pcap"

local here = debug.getinfo(1, "S").source:match("^@(.*)/") or "."
local capture = here .. "/data/ordinary.pcap"
local out = (os.getenv("RINGLAB_RESULTS") or "results") .. "/demo.pcap"

local m = machine { name = "demo" }
local left = m:device "virtio-net-pci,disable-legacy=on,mac=02:00:00:00:00:01"
local right = m:device "virtio-net-pci,disable-legacy=on,mac=02:00:00:00:00:02"
local pages = memory { name = "pages", size = "4M", hugepages = "prefer" }
local shm = m:device("ivshmem-plain", { memory = pages })

test("the devices are found on the PCI bus of a stock QEMU", function()
    local version = m:qmp("query-version").qemu
    note(string.format("QEMU %d.%d.%d is running, its processor parked: no guest will boot",
        version.major, version.minor, version.micro))
    for _, f in ipairs(m:functions()) do
        note("  " .. f:describe())
    end
    expect({ left:id() }, { 0x1af4, 0x1041 })
    expect({ right:id() }, { 0x1af4, 0x1041 })
    expect({ shm:id() }, { 0x1af4, 0x1110 })
    expect(shm.regs.IVPosition, 0)
end)

test("captured traffic crosses QEMU from one virtio-net to another", function()
    local sent = pcap.read(capture)
    local a = virtio_net(left, { memory = pages, interrupts = "memory" })
    local b = virtio_net(right, { memory = pages, interrupts = "memory" })
    note(string.format("rings and buffers: %d KiB of shared memory in pages of %d KiB, at guest address 0x%x",
        pages:size() // 1024, pages:page_size() // 1024, pages:gpa()))

    -- the first frame alone: its interrupt is a word that QEMU stores into the shared memory
    local received = { nano = sent.nano }
    local commands = m:commands()
    a:tx_burst { sent[1].bytes }
    b:irq("rx"):wait()
    note("the first frame's interrupt: a word that QEMU stored into that memory, found by polling")
    received[1] = { time = sent[1].time, frac = sent[1].frac, bytes = b:recv() }

    -- the others in bursts
    local next_frame = 2
    while #received < #sent do
        local burst = {}
        while next_frame <= #sent and #burst < 64 do
            burst[#burst + 1] = sent[next_frame].bytes
            next_frame = next_frame + 1
        end
        if #burst > 0 then
            next_frame = next_frame - (#burst - a:tx_burst(burst))
        end
        for _, bytes in ipairs { b:recv(), table.unpack(b:rx_burst(1024)) } do
            local original = sent[#received + 1]
            received[#received + 1] = { time = original.time, frac = original.frac, bytes = bytes }
        end
    end
    a:drain()
    commands = m:commands() - commands

    local bytes = 0
    for i, record in ipairs(sent) do
        expect(received[i].bytes, record.bytes)
        bytes = bytes + #record.bytes
    end
    expect(#received, #sent)
    expect(b:rx_burst(), {})

    os.execute("mkdir -p " .. (os.getenv("RINGLAB_RESULTS") or "results"))
    pcap.write(out, received)
    local tx, rx = a:stats(), b:stats()
    note(string.format("%d frames, %d bytes, sent and received: every one the same", #sent, bytes))
    note(string.format("%d transmit kicks and %d receive kicks: %d qtest commands for all of it",
        tx.tx_kicks, rx.rx_kicks, commands))
    note("what arrived: " .. out)
end)
