/*
 * Machines and devices in scenarios, with real QEMUs: what lives for how long, what is said of what
 * has ended, deadlines of waits, QEMUs that die, traces.
 */
#include "harness/scenario/test_run.h"

static const char *const declared = "local m = machine { name = 'm' }\n"
                                    "local net = m:device 'virtio-net-pci,disable-legacy=on'\n";

/* The script behind the declarations above; every test in it passes. */
static void passes(struct run *run, const char *text)
{
    g_autofree char *all = g_strconcat(declared, text, NULL);

    run_text(run, all);
    if (run->broken) {
        fail_msg("s.lua%s", run->broken);
    }
    for (unsigned i = 0; i < run_n(run); i++) {
        const struct report_test *t = run_nth(run, i);
        if (t->outcome != REPORT_PASSED) {
            fail_msg("test '%s' %s: %s (line %u; expected %s, actual %s)", t->name,
                     run_outcome(t->outcome), t->message, t->line, t->expected, t->actual);
        }
    }
}

/* The same with a single test of this body, which is an error with this message. */
static void fails(struct run *run, const char *body, const char *message)
{
    g_autofree char *all = g_strdup_printf("%stest('x', { timeout = 20000 }, function()\n%s\nend)\n"
                                           "test('next', function() m:start() end)\n",
                                           declared, body);

    run_text(run, all);
    const struct report_test *t = run_nth(run, 0);
    if (t->outcome != REPORT_ERROR || !g_pattern_match_simple(message, t->message)) {
        fail_msg("%s\n%s \"%s\", not an error like \"%s\"", body, run_outcome(t->outcome),
                 t->message, message);
    }
    run_expect_passed(run, 1);
}

/* ---- what lives for how long ---- */

static void each_test_gets_its_machines_fresh_and_takes_them_with_it(void **state)
{
    passes(
        *state,
        "local pid, own\n"
        "local function is_running(p) return (os.execute('kill -0 ' .. p .. ' 2>/dev/null')) end\n"
        "test('first', function()\n"
        "    pid = m:pid()\n"
        "    expect(pid, nil)\n"
        "    net.common.device_status = 1\n"
        "    pid, own = m:pid(), machine {}:start():pid()\n"
        "    expect(is_running(pid) and is_running(own))\n"
        "end)\n"
        "test('second', function()\n"
        "    expect(not is_running(pid) and not is_running(own))\n"
        "    expect(net.common.device_status, 0)\n"
        "    expect.different(m:pid(), pid)\n"
        "end)\n");
}

static void what_a_test_made_cannot_be_used_in_the_next(void **state)
{
    passes(*state,
           "local keep = {}\n"
           "local function ended(what, fn, ...)\n"
           "    expect(expect.error('.', fn, ...):gsub('^.*lua:%d+: ', ''),\n"
           "        what .. ' belongs to an earlier test, and ended with it')\n"
           "end\n"
           "test('makes', function()\n"
           "    keep.net = virtio_net(net, { interrupts = 'memory' })\n"
           "    keep.borrowed = keep.net:irq 'rx'\n"
           "    keep.block, keep.bits = net.common, net.common.bits\n"
           "    keep.fields, keep.array = net.common.bits.device_status, net.device.mac\n"
           "    keep.fn = m:pci(1)\n"
           "    keep.machine = machine { name = 'own' }\n"
           "    keep.dev = keep.machine:device 'edu'\n"
           "    keep.irq = irq(keep.dev, { form = 'line' })\n"
           "    keep.ram = keep.machine:ram()\n"
           "    keep.memory = memory { size = '4k' }\n"
           "    keep.memory:u8(0, 1)\n"
           "    keep.server = ivshmem_server { memory = keep.memory }\n"
           "    keep.peer = keep.server:join()\n"
           "end)\n"
           "test('uses', function()\n"
           "    for _ = 1, 2 do\n"
           "        ended('this driver', keep.net.send, keep.net, frame(64))\n"
           "        ended('this driver', keep.borrowed.take, keep.borrowed)\n"
           "        ended('this register block', function() return keep.block.device_status end)\n"
           "        ended('this register block', function() keep.block.device_status = 0 end)\n"
           "        ended('this register block', function() return keep.bits.device_status end)\n"
           "        ended('this register block', function() return keep.fields.driver end)\n"
           "        ended('this register block', function() return keep.array[0] end)\n"
           "        ended('this register block', function() return #keep.array end)\n"
           "        ended('this PCI function', keep.fn.config_read, keep.fn, 0, 2)\n"
           "        ended(\"machine 'own'\", keep.machine.start, keep.machine)\n"
           "        ended(\"machine 'own'\", keep.machine.alive, keep.machine)\n"
           "        ended('edu', keep.dev.enable, keep.dev)\n"
           "        ended('edu', function() return keep.dev.config end)\n"
           "        ended('this interrupt', keep.irq.wait, keep.irq)\n"
           "        ended('this memory', keep.ram.u8, keep.ram, 0)\n"
           "        ended('this memory', keep.memory.u8, keep.memory, 0)\n"
           "        ended('this ivshmem server', keep.server.join, keep.server)\n"
           "        ended('this peer', keep.peer.take, keep.peer)\n"
           "    end\n"
           "end)\n");
}

static void what_is_declared_for_a_test_is_gone_in_the_next(void **state)
{
    passes(*state, "local function n() local all = m:functions() return #all end\n"
                   "local before, dev\n"
                   "test('plain', function() before = n() end)\n"
                   "test('more', function()\n"
                   "    dev = m:device 'edu'\n"
                   "    m:args('-device', 'edu,addr=10')\n"
                   "    expect(n(), before + 2)\n"
                   "    expect(dev:id(), 0x1234)\n"
                   "end)\n"
                   "test('plain again', function()\n"
                   "    expect(n(), before)\n"
                   "    expect.error('edu belongs to an earlier test', dev.present, dev)\n"
                   "end)\n"
                   "test('more again', function()\n"
                   "    local other = m:device 'edu'\n"
                   "    expect(n(), before + 1)\n"
                   "    expect(other:present())\n"
                   "end)\n");
}

static void what_a_machine_carried_ends_when_it_stops(void **state)
{
    passes(*state,
           "test('x', function()\n"
           "    local other = machine { name = 'other' }\n"
           "    local n2 = virtio_net(other:device 'virtio-net-pci,disable-legacy=on')\n"
           "    local n = virtio_net(net, { interrupts = 'memory' })\n"
           "    local i, block, fn = n:irq 'tx', net.common, m:pci(1)\n"
           "    local l = irq(m:pci(1, 2) or net, { form = 'line' })\n"
           "    m:stop()\n"
           "    local function check()\n"
           "        for what, use in pairs {\n"
           "            ['this driver'] = function() n:send(frame(64)) end,\n"
           "            ['this driver '] = function() i:take() end,\n"
           "            ['this interrupt'] = function() l:take() end,\n"
           "            ['this register block'] = function() return block.device_status end,\n"
           "            ['this PCI function'] = function() return fn:id() end,\n"
           "        } do\n"
           "            expect.error(what:gsub(' $', '') .. \" ended when machine 'm' was "
           "stopped\", use)\n"
           "        end\n"
           "    end\n"
           "    check()\n"
           "    expect(m:alive(), false) expect(m:pid(), nil) expect(m:log(), '')\n"
           "    expect.error(\"machine 'm' does not run\", m.kill, m)\n"
           "    m:start()\n"
           "    check()\n"
           "    expect(net.common.device_status, 0)\n"
           "    expect(n2:pending(), 0)\n"
           "    local again = virtio_net(net)\n"
           "    again:close()\n"
           "    expect.error('this driver was closed', again.close, again)\n"
           "end)\n"
           "test('an interrupt of a driver ends with it', function()\n"
           "    local n = virtio_net(net, { interrupts = 'memory' })\n"
           "    local i, j = n:irq 'rx', n:irq 'rx'\n"
           "    j:close()\n"
           "    expect.error('this interrupt was closed', j.take, j)\n"
           "    expect(i:take(), false)\n"
           "    n:close()\n"
           "    expect.error('this driver was closed', i.take, i)\n"
           "end)\n"
           "test('an interrupt of its own', function()\n"
           "    local i = irq(net, { vector = 1 })\n"
           "    expect(i:take(), false)\n"
           "    i:close()\n"
           "    expect.error('this interrupt was closed', i.take, i)\n"
           "    irq(net, { vector = 1 }):close()\n"
           "end)\n");
}

static void arguments_are_taken_until_the_start(void **state)
{
    passes(*state, "test('x', function()\n"
                   "    m:start()\n"
                   "    expect.error(\"machine 'm' runs already: too late for another argument\", "
                   "m.args, m, '-device', 'edu')\n"
                   "    expect.error(\"runs already: use plug\", m.device, m, 'edu')\n"
                   "    m:stop()\n"
                   "    m:args('-device', 'edu,addr=11')\n"
                   "    expect(m:pci(0x11):id(), 0x1234)\n"
                   "end)\n");
}

static void handles_survive_any_amount_of_collecting(void **state)
{
    passes(*state, "collectgarbage('setpause', 0) collectgarbage('setstepmul', 1000)\n"
                   "local shared = memory { size = '64k' }\n"
                   "local function churn(n)\n"
                   "    for i = 1, n do\n"
                   "        local own = machine { name = 'own' .. i }\n"
                   "        own:device('ivshmem-plain', { memory = memory { size = '4k' } })\n"
                   "        own:ram()\n"
                   "        collectgarbage(i % 2 == 0 and 'step' or 'collect')\n"
                   "    end\n"
                   "end\n"
                   "churn(20)\n"
                   "for i = 1, 3 do\n"
                   "    test('round ' .. i, function()\n"
                   "        churn(20)\n"
                   "        local net2 = machine {}:device 'virtio-net-pci,disable-legacy=on'\n"
                   "        local shm = m:device('ivshmem-plain', { memory = shared })\n"
                   "        collectgarbage()\n"
                   "        local a = virtio_net(net, { interrupts = 'memory' })\n"
                   "        local i = a:irq 'rx'\n"
                   "        local status = net2.common.bits.device_status\n"
                   "        churn(5)\n"
                   "        net2.common.device_status = 1\n"
                   "        expect(status.acknowledge, 1)\n"
                   "        shm:memory():u32(8, 5)\n"
                   "        expect(shared:u32(8), 5)\n"
                   "        a:tx_burst { frame(64), frame(65) }\n"
                   "        a, net2 = nil, nil\n"
                   "        collectgarbage() collectgarbage()\n"
                   "        expect(i:take() ~= nil)\n"
                   "        for _ = 1, 200 do net.common.device_feature_select = 1 "
                   "expect(net.common.num_queues, 3)\n"
                   "            collectgarbage('step') end\n"
                   "        local own = machine {}:start()\n"
                   "        own = nil\n"
                   "        collectgarbage()\n"
                   "    end)\n"
                   "end\n");
}

static void many_machines_run_side_by_side(void **state)
{
    passes(*state,
           "test('x', function()\n"
           "    local shared, all = memory { size = '1M' }, {}\n"
           "    for i = 1, 6 do\n"
           "        local own = machine { board = i % 2 == 0 and 'q35' or 'pc' }\n"
           "        all[i] = own:device('ivshmem-plain', { memory = shared })\n"
           "    end\n"
           "    for i = 1, 6 do all[i]:bar_read(2, 0, 4) all[i]:bar_write(2, 4 * i, 4, i) end\n"
           "    for i = 1, 6 do expect(all[7 - i]:bar_read(2, 4 * i, 4), i) end\n"
           "end)\n");
}

static void a_test_without_a_machine_needs_no_qemu(void **state)
{
    struct run *run = *state;

    g_setenv("RINGLAB_QEMU", "/nonexistent/qemu", TRUE);
    run_text(run, "local m = machine {}\n"
                  "local mem = memory { size = '4k' }\n"
                  "test('without', function() mem:u8(0, 1) expect(mem:u8(0), 1) end)\n"
                  "test('with', function() m:start() end)\n");
    g_unsetenv("RINGLAB_QEMU");
    run_expect_passed(run, 0);
    run_expect(run, 1, REPORT_ERROR,
               "no QEMU: RINGLAB_QEMU=/nonexistent/qemu is no program; set it to the path of a "
               "qemu-system-x86_64",
               4);
}

static void huge_pages_that_are_required_and_missing_skip_the_test(void **state)
{
    struct run *run = *state;

    run_text(run, "local mem = memory { size = '256G', hugepages = 'require', name = 'big' }\n"
                  "test('x', function() mem:u8(0) end)\n");
    assert_int_equal(run_nth(run, 0)->outcome, REPORT_SKIPPED);
    assert_true(g_str_has_prefix(run_nth(run, 0)->message, "memory 'big': "));
    assert_non_null(strstr(run_nth(run, 0)->message, "nr_hugepages"));
}

/* ---- wrong names and values ---- */

static void names_that_do_not_exist_suggest_the_nearest(void **state)
{
    passes(*state, "test('x', function()\n"
                   "    for name, meant in pairs { comon = 'common', enabel = 'enable', msix_tabel "
                   "= 'msix_table' } do\n"
                   "        expect.error(\"no method and no register block '\" .. name .. \"'; did "
                   "you mean '\" .. meant .. \"'\",\n"
                   "            function() return net[name] end)\n"
                   "    end\n"
                   "    for name, meant in pairs { device_statu = 'device_status', vales = "
                   "'values', bit = 'bits' } do\n"
                   "        expect.error(\"common has no register '\" .. name .. \"'; did you mean "
                   "'\" .. meant .. \"'\",\n"
                   "            function() return net.common[name] end)\n"
                   "    end\n"
                   "    expect.error(\"did you mean 'device_status'\", function() "
                   "net.common.device_statu = 1 end)\n"
                   "    expect.error(\"device_status has no bit field 'drivr_ok'; did you mean "
                   "'driver_ok'\",\n"
                   "        function() return net.common.bits.device_status.drivr_ok end)\n"
                   "    expect.error(\"did you mean 'queue_select'\", net.common.set, net.common, "
                   "{ queue_selec = 1 })\n"
                   "    expect.error('assign to a register of one of its blocks', function() "
                   "net.common = 1 end)\n"
                   "    local n = virtio_net(net)\n"
                   "    expect.error(\"a virtio_net has no method 'sent'; did you mean 'send'\", "
                   "function() n:sent() end)\n"
                   "    expect.error('send is a method of a virtio_net: call it with a colon', "
                   "function() n.send('x') end)\n"
                   "    expect.error('argument 1 is a device, not 5', virtio_net, 5)\n"
                   "    expect.error('argument 1 is a device, not left out', irq)\n"
                   "end)\n");
}

static void values_too_wide_and_places_outside_are_refused(void **state)
{
    passes(
        *state,
        "test('x', function()\n"
        "    expect.error('value 0x100 is too wide for common.device_status, which has 8 bits',\n"
        "        function() net.common.device_status = 256 end)\n"
        "    expect.error('value 0xffffffffffffffff is too wide', function() "
        "net.common.device_status = -1 end)\n"
        "    expect.error('value 0x2 is too wide for device_status.driver_ok, which has 1 bit$',\n"
        "        function() net.common.bits.device_status.driver_ok = 2 end)\n"
        "    net.common.bits.device_status.acknowledge = true\n"
        "    expect(net.common.device_status, 1)\n"
        "    expect.error('common.device_status takes an integer, not x$',\n"
        "        function() net.common.device_status = 'x' end)\n"
        "    expect.error('common.device_status takes an integer, not 1.5$',\n"
        "        function() net.common.device_status = 1.5 end)\n"
        "    expect.error('device.mac takes an integer, not nil$', function() net.device.mac[0] = "
        "nil "
        "end)\n"
        "    expect.error('has elements 0 to 5, not 6', function() return net.device.mac[6] end)\n"
        "    expect.error('msix_table repeats', function() return net.msix_table.message_data "
        "end)\n"
        "    expect.error('device.mac is an array', function() net.device.mac = 1 end)\n"
        "    expect.error('common does not repeat', function() return net.common[1] end)\n"
        "    expect.error('it has 32 bits', net.common.read, net.common, 1 << 32, 4)\n"
        "    expect.error('it has 32 bits', net.common.read, net.common, 0, 1 << 32 | 4)\n"
        "    expect.error('it has 32 bits', net.common.write, net.common, 1 << 32, 4, 0)\n"
        "    expect.error('data has 32 bits', net.msix_message, net, 0, 0, 1 << 32)\n"
        "    expect.error('offsets are 0 to 4095', net.config_read, net, 4096, 1)\n"
        "    expect.error('widths are 1, 2, 4 or 8', net.config_read, net, 0, 3)\n"
        "    expect.error('BARs are 0 to 5', net.bar, net, 6)\n"
        "    expect.error('vectors 0 to 3, not 4', net.msix_mask, net, 4, true)\n"
        "    expect.error('an access of 3 bytes does not exist', m.read, m, 0, 3)\n"
        "    expect.error('0x10000', m.inp, m, 0x10000, 1)\n"
        "    expect.error('too wide', m.outp, m, 0x80, 1, 256)\n"
        "    expect.error('slots are 0 to 31', m.pci, m, 32)\n"
        "    expect.error('lines are 0 to 23', m.irq, m, 24)\n"
        "    expect.error('a frame has 1 to 65535 bytes, not 0', function() "
        "virtio_net(net):send('') end)\n"
        "    local ram = m:ram()\n"
        "    expect.error('1 bytes at offset %d+ are outside memory', ram.u8, ram, ram:size())\n"
        "    expect.error('outside memory', ram.read, ram, -1, 1)\n"
        "    expect.error('outside memory', ram.write, ram, ram:size() - 2, 'abc')\n"
        "    expect.error('outside memory', ram.gpa, ram, ram:size() + 1)\n"
        "    expect.error('too wide', ram.u8, ram, 0, 256)\n"
        "    expect.error('a byte is 0 to 255', ram.fill, ram, 0, 1, 256)\n"
        "    expect.error('not aligned', ram.u64, ram, 4)\n"
        "    expect.error('aligned to 3', ram.alloc, ram, 8, 3)\n"
        "    local size = ram:size()\n"
        "    m:set_bytes(size - 4, 'abcd')\n"
        "    expect(m:bytes(size - 4, 4), 'abcd')\n"
        "    for _, at in ipairs { size - 3, size, -4, 1 << 40 } do\n"
        "        local text = ('4 bytes at guest address 0x%x are outside the shared memory "
        ".\\'m.ram\\' "
        "0x0.0x7fffff'):format(at)\n"
        "        expect.error(text, m.bytes, m, at, 4)\n"
        "        expect.error(text, m.set_bytes, m, at, 'efgh')\n"
        "    end\n"
        "    expect(m:bytes(size - 4, 4), 'abcd')\n"
        "    expect(m:bytes(1 << 40, 4, 'mmio'), '\\0\\0\\0\\0')\n"
        "    expect.error('invalid option .bus.', m.bytes, m, 0, 4, 'bus')\n"
        "    expect.error('.', ram.alloc, ram, -8)\n"
        "    ram:free(12345678)\n"
        "end)\n");
}

static void what_cannot_be_json_is_refused(void **state)
{
    passes(*state, "test('x', function()\n"
                   "    local loop = {}\n"
                   "    loop.loop = loop\n"
                   "    expect.error('contains itself', m.qmp, m, 'query-status', loop)\n"
                   "    expect.error('a function cannot be JSON', m.qmp, m, 'query-status', { a = "
                   "{ 1, print } })\n"
                   "    expect.error('not both', m.qmp, m, 'query-status', { 1, a = 2 })\n"
                   "    expect.error('have names', m.qmp, m, 'query-status', { [3.5] = 2 })\n"
                   "    expect.error('UTF%-8', m.qmp, m, 'query-status', { a = '\\xff' })\n"
                   "    expect(m:qmp('query-status').status, 'running')\n"
                   "    expect(m:qmp('qom-get', { path = '/machine', property = 'type' }), "
                   "'pc-i440fx-7.2-machine')\n"
                   "    expect(m:qmp('query-status', {}).running, true)\n"
                   "end)\n");
}

/* ---- deadlines of waits ---- */

static void a_wait_is_cut_at_the_tests_deadline_whatever_it_waits_for(void **state)
{
    struct run *run = *state;
    static const char *const bodies[] = {
        "virtio_net(net):recv(60000)",
        "virtio_net(net, { interrupts = 'memory' }):recv(60000)",
        "irq(net, {}):wait(60000)",
        "irq(net, { form = 'eventfd' }):wait(60000)",
        "irq(net, { form = 'line' }):wait(60000)",
        "m:wait_irq(3, true, 60000)",
        "m:wait_event('RESET', 60000)",
        "local s = ivshmem_server { memory = memory { size = '4k' } } s:join():wait(0, 60000)",
        "local s = ivshmem_server { memory = memory { size = '4k' } } s:wait_peers(1, 60000)",
        "m:start() m:kill(19) m:read(0, 4)", /* stopped: no reply */
        "m:start() m:kill(19) m:qmp('query-status')",
        "m:start() m:kill(19) while true do pcall(m.read, m, 0, 4) end",
        "local n = virtio_net(net) while true do pcall(n.recv, n) end",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autofree char *text =
            g_strdup_printf("local m = machine { timeout = 60000, bridge = true }\n"
                            "local net = m:device 'virtio-net-pci,disable-legacy=on'\n"
                            "test('waits', { timeout = 200 }, function()\n%s\nend)\n"
                            "test('next', function() m:start() end)",
                            bodies[i]);
        run_text(run, text);
        const struct report_test *t = run_nth(run, 0);
        if (t->outcome != REPORT_ERROR ||
            !g_str_has_prefix(t->message, "the test took longer than its deadline of 200 ms")) {
            fail_msg("%s: %s \"%s\"", bodies[i], run_outcome(t->outcome), t->message);
        }
        assert_true(t->duration_us < 20 * G_USEC_PER_SEC);
        run_expect_passed(run, 1);
    }
}

/* ---- QEMUs that die ---- */

static void a_qemu_that_dies_is_told_by_whatever_waits_for_it(void **state)
{
    static const char *const bodies[] = {
        "local n = virtio_net(net) m:kill() n:recv(15000)",
        "local n = virtio_net(net, { interrupts = 'memory' }) m:kill() n:recv(15000)",
        "local n = virtio_net(net, { interrupts = 'line' }) m:kill() n:recv(15000)",
        "local n = virtio_net(net) m:kill() n:send(frame(64), 15000)",
        "local i = irq(net, {}) m:kill() i:wait(15000)",
        "local i = irq(net, { form = 'line' }) m:kill() i:wait(15000)",
        "local own = machine { name = 'm', bridge = true } local i = irq(own:device 'edu', { form "
        "= 'line' })\n"
        "own:kill() i:wait(15000)",
        "local own = machine { name = 'm', bridge = true }\n"
        "local i = irq(own:device 'virtio-net-pci', { form = 'eventfd' }) own:kill() i:wait(15000)",
        "m:start() m:kill() m:wait_event('RESET', 15000)",
        "m:start() m:kill() m:wait_irq(10, true, 15000)",
        "m:start() m:kill() m:read(0, 4)",
        "m:start() m:kill() m:barrier()",
        "m:start() m:kill() m:bytes(1 << 30, 100, 'mmio')",
        "m:start() m:kill() m:hmp('info version')",
        "m:start() m:kill() m:reset()",
        "m:start() m:kill() return net.common.device_status",
        "local s = ivshmem_server { memory = memory { size = '1M' } }\n"
        "m:device('ivshmem-doorbell', { server = s }) m:start() local p = s:join() m:kill() "
        "p:wait(0, 100)",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bodies); i++) {
        fails(*state, bodies[i], "*QEMU m was killed by signal 9 (Killed)*");
    }
}

static void a_failure_tells_of_a_qemu_that_ended_meanwhile(void **state)
{
    struct run *run = *state;
    g_autofree char *text = g_strconcat(
        declared,
        "local function crash() os.execute('kill -ABRT ' .. m:start():pid())\n"
        "    local path, text = '/proc/' .. m:pid() .. '/status', nil\n"
        "    repeat local status <close> = io.open(path) text = status:read('a')\n"
        "    until text:match('State:%s*Z.*Threads:%s*1%s') end\n"
        "test('polls', function() crash()\n"
        "    expect.eventually(function() return m:ram():u8(0) == 1 end, nil, 1e6) end)\n"
        "test('fails', function() crash() error('enough') end)\n"
        "test('knows', function() m:start() m:kill() expect(1, 2) end)\n"
        "test('lives', function() m:start() expect(1, 2) end)\n",
        NULL);

    run_text(run, text);
    run_expect(run, 0, REPORT_FAILED,
               "did not happen before a QEMU ended; QEMU m was killed by signal 6 (Aborted)", 8);
    run_expect(run, 1, REPORT_ERROR, "enough; QEMU m was killed by signal 6 (Aborted)", 9);
    run_expect(run, 2, REPORT_FAILED, "not what was expected", 10);
    run_expect(run, 3, REPORT_FAILED, "not what was expected", 11);
}

static void a_qemu_that_does_not_survive_a_test_fails_it_unless_the_test_knows(void **state)
{
    struct run *run = *state;

    fails(run, "os.execute('kill -SEGV ' .. m:start():pid())",
          "machine 'm' did not survive the test: *QEMU m was killed by signal 11 (*");
    assert_non_null(run_attachment(run, 0, "m: QEMU's command line"));
    passes(run, "local function crash() os.execute('kill -SEGV ' .. m:start():pid()) end\n"
                "test('told', function() crash() expect.error('signal 11', m.read, m, 0, 4) end)\n"
                "test('asked', function() crash()\n"
                "    expect.eventually(function() return not m:alive() end) end)\n"
                "test('asks how', function() crash()\n"
                "    local _, how = expect.eventually(function() return not m:alive() end), nil\n"
                "    _, how = m:alive() expect.match(how, 'killed by signal 11') end)\n"
                "test('killed', function() m:start() m:kill() end)\n"
                "test('quits', function() m:qmp('quit') end)\n"
                "test('stopped', function() m:start() m:stop() end)\n"
                "test('again', function() crash() m:stop() m:start() expect(m:alive()) end)\n");
}

/* ---- traces ---- */

static void the_trace_of_a_failed_test_covers_every_run_of_the_machine(void **state)
{
    struct run *run = *state;
    g_autofree char *text =
        g_strconcat(declared,
                    "test('x', function()\n"
                    "    net.common.device_status = 1\n"
                    "    m:set_bytes(0x40000000, string.rep('ab', 20), 'mmio')\n"
                    "    m:bytes(0x40000000, 3, 'mmio')\n"
                    "    m:stop()\n"
                    "    net.common.device_status = 3\n"
                    "    expect(1, 2)\n"
                    "end)\n"
                    "test('none', function() m:start() expect(1, 2) end)\n",
                    NULL);

    run->options.has_trace = true;
    run_text(run, text);
    const char *trace = run_attachment(run, 0, "m: register trace");
    assert_non_null(trace);
    g_auto(GStrv) lines = g_strsplit(trace, "\n", -1);
    static const char *const wanted[] = {
        "*virtio-net-pci@04  common.device_status <- 0x01 (acknowledge)",
        "*mem  *0x40000000 <- 40 bytes: 61 62 61 62 61 62 61 62 61 62 61 62 61 62 61 62 ...",
        "*mem  *0x40000000 -> 3 bytes: 00 00 00",
        "+* ---- QEMU was started again ----",
        "*virtio-net-pci@04  common.device_status <- 0x03 (acknowledge driver)",
        "",
    };
    assert_int_equal(g_strv_length(lines), G_N_ELEMENTS(wanted));
    for (unsigned i = 0; i < G_N_ELEMENTS(wanted); i++) {
        if (!g_pattern_match_simple(wanted[i], lines[i])) {
            fail_msg("line %u is \"%s\", not \"%s\"", i, lines[i], wanted[i]);
        }
    }
    assert_null(run_attachment(run, 1, "m: register trace"));
}

#define on_run(test) cmocka_unit_test_setup_teardown(test, run_setup, run_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_run(each_test_gets_its_machines_fresh_and_takes_them_with_it),
        on_run(what_a_test_made_cannot_be_used_in_the_next),
        on_run(what_is_declared_for_a_test_is_gone_in_the_next),
        on_run(what_a_machine_carried_ends_when_it_stops),
        on_run(arguments_are_taken_until_the_start),
        on_run(handles_survive_any_amount_of_collecting),
        on_run(many_machines_run_side_by_side),
        on_run(a_test_without_a_machine_needs_no_qemu),
        on_run(huge_pages_that_are_required_and_missing_skip_the_test),
        on_run(names_that_do_not_exist_suggest_the_nearest),
        on_run(values_too_wide_and_places_outside_are_refused),
        on_run(what_cannot_be_json_is_refused),
        on_run(a_wait_is_cut_at_the_tests_deadline_whatever_it_waits_for),
        on_run(a_qemu_that_dies_is_told_by_whatever_waits_for_it),
        on_run(a_failure_tells_of_a_qemu_that_ended_meanwhile),
        on_run(a_qemu_that_does_not_survive_a_test_fails_it_unless_the_test_knows),
        on_run(the_trace_of_a_failed_test_covers_every_run_of_the_machine),
    };
    g_setenv("RINGLAB_LUA_PATH", "scenarios/lib", FALSE); /* tests run at the top of the tree */
    return cmocka_run_group_tests_name("scenario machines", tests, NULL, NULL);
}
