/*
 * The host side in scenarios, without QEMU: netmap hosts, ports, rings and wires; what lives for
 * how long, and what is said of what cannot be.
 */
#include "harness/scenario/test_run.h"

static const char *const declared = "local host = netmap { name = 'h' }\n"
                                    "local near, far = wire.cable()\n"
                                    "host:nic('em0', { wire = near, slots = 64 })\n";

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

/* A test of this body is an error with this message, and the next test finds all in order. */
static void fails(struct run *run, const char *body, const char *message)
{
    g_autofree char *all = g_strdup_printf("%stest('x', { timeout = 20000 }, function()\n%s\nend)\n"
                                           "test('next', function()\n"
                                           "    local p = host:open 'netmap:em0'\n"
                                           "    p:send(frame(60))\n"
                                           "    expect(far:recv(), frame(60))\n"
                                           "end)\n",
                                           declared, body);

    run_text(run, all);
    const struct report_test *t = run_nth(run, 0);
    if (t->outcome != REPORT_ERROR || !g_pattern_match_simple(message, t->message)) {
        fail_msg("%s\n%s \"%s\", not an error like \"%s\"", body, run_outcome(t->outcome),
                 t->message, message);
    }
    run_expect_passed(run, 1);
}

static void each_test_gets_its_host_fresh(void **state)
{
    passes(*state, "test('first', function()\n"
                   "    local a = host:open 'vale0:a'\n"
                   "    a:send(frame(60))\n"
                   "    host:nic('own', {})\n"
                   "    expect(a.tx[0].head, 1)\n"
                   "    far:send(frame(60))\n" /* stays on the wire */
                   "end)\n"
                   "test('second', function()\n"
                   "    local err = host:request { type = 'VALE_LIST', name = 'vale0:' }\n"
                   "    expect(err, 'ENOENT')\n"
                   "    expect(host:open('vale0:a').tx[0].head, 0)\n"
                   "    expect.error('ENXIO', host.open, host, 'netmap:own')\n"
                   "    expect(#host:open('netmap:em0'):rx_burst(), 0)\n"
                   "    host:nic('own', {})\n"
                   "end)\n");
}

static void what_a_test_made_cannot_be_used_in_the_next(void **state)
{
    passes(*state, "local keep = {}\n"
                   "test('makes', function()\n"
                   "    keep.port = host:open 'vale0:a'\n"
                   "    keep.rings, keep.ring = keep.port.tx, keep.port.tx[0]\n"
                   "    keep.slot = keep.ring[0]\n"
                   "    keep.wire = wire.null()\n"
                   "    keep.host = netmap {}\n"
                   "    keep.host:open 'vale0:a'\n"
                   "end)\n"
                   "test('uses', function()\n"
                   "    local old = 'belongs to an earlier test, and ended with it'\n"
                   "    expect.error(old, function() keep.port:txsync() end)\n"
                   "    expect.error(old, function() return keep.port.tx end)\n"
                   "    expect.error(old, function() return keep.rings[0] end)\n"
                   "    expect.error(old, function() return keep.ring.head end)\n"
                   "    expect.error(old, function() keep.ring.head = 1 end)\n"
                   "    expect.error(old, function() return keep.slot.len end)\n"
                   "    expect.error(old, function() keep.wire:send(frame(60)) end)\n"
                   "    expect.error(old, function() keep.host:open 'vale0:a' end)\n"
                   "end)\n");
}

static void a_closed_port_says_so(void **state)
{
    fails(*state, "local p = host:open 'vale0:a'\np:close()\np:txsync()", "*this port was closed");
    fails(*state, "local p = host:open 'vale0:a'\nlocal r = p.tx[0]\np:close()\nreturn r.head",
          "*this port was closed");
}

static void nothing_of_a_host_runs_while_the_file_loads(void **state)
{
    struct run *run = *state;

    run_text(run, "local host = netmap {}\nhost:open 'vale0:a'\n");
    assert_non_null(strstr(run->broken, "a netmap host can be used inside a test only"));
    run_text(run, "wire.null():send 'x'\n");
    assert_non_null(strstr(run->broken, "a wire can be used inside a test only"));
}

static void handles_survive_any_amount_of_collecting(void **state)
{
    passes(*state, "test('collects', function()\n"
                   "    local ring = netmap({}):open('vale0:a').tx[0]\n"
                   "    local slot = netmap({}):open('vale0:b').tx[0][3]\n"
                   "    for _ = 1, 3 do collectgarbage() end\n"
                   "    ring[0]:set(frame(60))\n"
                   "    expect(ring[0]:data(), frame(60))\n"
                   "    slot.len = 7\n"
                   "    expect(slot.len, 7)\n"
                   "    local a, b = wire.cable()\n"
                   "    a = nil\n"
                   "    collectgarbage()\n"
                   "    expect(b:send(frame(60)), true)\n"
                   "end)\n");
}

static void names_that_do_not_exist_suggest_the_nearest(void **state)
{
    fails(*state, "netmap { buf_mun = 1 }", "*no option 'buf_mun'; did you mean 'buf_num'?");
    fails(*state, "host:opn 'vale0:a'", "*no method 'opn'; did you mean 'open'?");
    fails(*state, "host:open('vale0:a', { slot = 1 })", "*no option 'slot'; did you mean 'slots'?");
    fails(*state, "host:request { type = 'REGISTRE' }",
          "*no request or option 'REGISTRE'; did you mean 'REGISTER'?");
    fails(*state, "host:request { type = 'REGISTER', body = { nr_mod = 1 } }",
          "*no field 'nr_mod'; did you mean 'nr_mode'?");
    fails(*state, "return host:open('vale0:a').tx[0].hed", "*no 'hed'; did you mean 'head'?");
    fails(*state, "return host:open('vale0:a').tx[0][0].length", "*slot has no 'length'*");
    fails(*state, "host:open('vale0:a').tx[0][0].buf_id = 1",
          "*no 'buf_id'; did you mean 'buf_idx'?");
}

static void values_too_wide_and_places_outside_are_refused(void **state)
{
    fails(*state, "return host:open('vale0:a').tx[0][1024]",
          "*the ring has slots 0 to 1023, not 1024");
    fails(*state, "host:open('vale0:a').tx[0].head = -1", "*32 bits*");
    fails(*state, "host:open('vale0:a').tx[0][0].len = 65536", "*too wide for the field*");
    fails(*state, "local r = host:open('vale0:a').tx[0]\nr:buf(r.buf_total)",
          "*there are buffers 0 *");
    fails(*state, "host:open('vale0:a').tx[0]:set_buf(2, string.rep('x', 2049))",
          "*does not fit the buffer*");
    fails(*state,
          "local s = host:open('vale0:a').tx[0][0]\ns.buf_idx = 0xffffffff\nreturn s:data()",
          "*there are buffers 0 *");
    fails(*state, "host:request { type = 'REGISTER', body = { nr_ringid = 65536 } }",
          "*nr_ringid has 16 bits*");
    fails(*state, "host:open('vale0:a'):send('')", "*1 to 69632 bytes*");
    fails(*state, "host:open('vale0:a'):send(frame(60), 100, 1)", "*tx rings 0 to 0, not 1");
    fails(*state, "host:file():send(frame(60))", "*not registered*");
}

static void a_failing_request_names_its_errno(void **state)
{
    fails(*state, "host:open 'netmap:nobody'", "*open netmap:nobody: ENXIO (*)");
    fails(*state, "host:attach 'vale0:nobody'", "*VALE_ATTACH vale0:nobody: EINVAL (*)");
    fails(*state, "host:stats 'vale0:a'", "*statistics of vale0:a: ENXIO (*)");
}

static void a_wire_has_one_owner(void **state)
{
    fails(*state, "host:nic('em1', { wire = near })", "*belongs to another interface already");
    fails(*state, "host:open 'netmap:em0'\nnear:send(frame(60))", "*belongs to an interface*");
}

static void waits_end_at_their_deadline(void **state)
{
    fails(*state, "host:open('vale0:a'):recv(10)", "*no frame came within 10 ms");
    fails(*state, "far:recv(10)", "*no frame came out of the wire within 10 ms");
    fails(*state,
          "local p, q = host:open 'vale0:p{1@conf:slots=4', host:open 'vale0:p}1'\n"
          "for _ = 1, 4 do p:send(frame(60), 10) end",
          "*no room in the port's tx rings within 10 ms");
}

#define on_run(test) cmocka_unit_test_setup_teardown(test, run_setup, run_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_run(each_test_gets_its_host_fresh),
        on_run(what_a_test_made_cannot_be_used_in_the_next),
        on_run(a_closed_port_says_so),
        on_run(nothing_of_a_host_runs_while_the_file_loads),
        on_run(handles_survive_any_amount_of_collecting),
        on_run(names_that_do_not_exist_suggest_the_nearest),
        on_run(values_too_wide_and_places_outside_are_refused),
        on_run(a_failing_request_names_its_errno),
        on_run(a_wire_has_one_owner),
        on_run(waits_end_at_their_deadline),
    };
    g_setenv("RINGLAB_LUA_PATH", "scenarios/lib", FALSE); /* tests run at the top of the tree */
    return cmocka_run_group_tests_name("scenario host side", tests, NULL, NULL);
}
