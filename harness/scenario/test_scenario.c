/*
 * The scenario engine without any QEMU: what is reported of expectations, errors, deadlines and
 * files; which tests run. What machines and devices do in it is test_scenario_machine.c's.
 */
#include "harness/scenario/lua_guard.h"
#include "harness/scenario/test_run.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- expectations ---- */

static void an_expectation_tells_line_expression_expected_and_actual(void **state)
{
    struct run *run = *state;

    run_text(run, "test('sums', function()\n"
                  "    local n = 2\n"
                  "    expect(n + 2,\n"
                  "           5) -- not quite\n"
                  "end)\n");
    run_expect(run, 0, REPORT_FAILED, "not what was expected", 3);
    const struct report_test *t = run_nth(run, 0);
    assert_string_equal(t->expression, "expect(n + 2, 5) -- not quite");
    assert_string_equal(t->expected, "5");
    assert_string_equal(t->actual, "4");
    assert_int_equal(t->attachments->len, 0); /* one level: no traceback */
}

static void values_are_shown_as_people_write_them(void **state)
{
    struct run *run = *state;
    static const struct {
        const char *value, *text;
    } cases[] = {
        {"9", "9"},
        {"10", "0xa (10)"},
        {"-1", "0xffffffffffffffff (-1)"},
        {"1.5", "1.5"},
        {"true", "true"},
        {"nil", "nil"},
        {"'a \"b\"\\n\\tc'", "\"a \\\"b\\\"\\n\\tc\""},
        {"'\\x00\\xff'", "2 bytes: 00 ff"},
        {"{}", "{}"},
        {"{ 1, 2, x = { y = 'z' } }", "{ 1, 2, x = { y = \"z\" } }"},
        {"{ { { { { 1 } } } } }", "{ { { { { ... } } } } }"},
        {"setmetatable({}, { __index = error })", "{}"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup_printf(
            "test('x', function() local v = %s\nexpect(v, print) end)", cases[i].value);
        run_text(run, text);
        run_expect(run, 0, REPORT_FAILED, "not what was expected", 2);
        assert_string_equal(run_nth(run, 0)->actual, cases[i].text);
    }
}

static void long_strings_are_shown_around_their_first_difference(void **state)
{
    struct run *run = *state;

    run_text(run,
             "local a = string.rep('\\x11', 1000)\n"
             "test('bytes', function() expect(a, a:sub(1, 499) .. '\\x22' .. a:sub(501)) end)\n"
             "test('text', function() expect(string.rep('a', 999), string.rep('a', 1000)) end)\n"
             "test('short', function() expect('abc', 'abd') end)\n");
    run_expect(run, 0, REPORT_FAILED, "not what was expected (first difference at byte 499)", 2);
    assert_string_equal(
        run_nth(run, 0)->actual,
        "1000 bytes, from byte 480: 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 "
        "11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11");
    assert_true(g_str_has_prefix(run_nth(run, 0)->expected,
                                 "1000 bytes, from byte 480: 11 11 11 11 11 11 11 11 11 11 11 11 "
                                 "11 11 11 11 11 11 11 22 11"));
    run_expect(run, 1, REPORT_FAILED, "not what was expected (first difference at byte 999)", 3);
    run_expect(run, 2, REPORT_FAILED, "not what was expected (first difference at byte 2)", 4);
    assert_string_equal(run_nth(run, 2)->actual, "\"abc\"");
}

static void every_form_of_expect_holds_and_fails_as_it_says(void **state)
{
    struct run *run = *state;
    static const struct {
        const char *call, *message, *expected, *actual;
    } cases[] = {
        {"expect(1 == 2)", "the condition does not hold", "true", "false"},
        {"expect(nil, false)", "not what was expected", "false", "nil"},
        {"expect({ 1, { 2 } }, { 1, { 3 } })", "not what was expected", "{ 1, { 3 } }",
         "{ 1, { 2 } }"},
        {"expect({ 1 }, { 1, x = 2 })", "not what was expected", "{ 1, x = 2 }", "{ 1 }"},
        {"expect.different({ 1 }, { 1 })", "should be different", "not { 1 }", "{ 1 }"},
        {"expect.below(3, 3)", "out of bounds", "below 3", "3"},
        {"expect.at_most(4, 3)", "out of bounds", "at most 3", "4"},
        {"expect.above(3, 3)", "out of bounds", "above 3", "3"},
        {"expect.at_least(2, 3)", "out of bounds", "at least 3", "2"},
        {"expect.above(nil, 3)", "not comparable", "above 3", "nil"},
        {"expect.bits(5, 3)", "bits differ", "0x3 under the mask 0x3", "5"},
        {"expect.bits(5, 6, 2)", "bits differ", "0x2 under the mask 0x6", "5"},
        {"expect.bits('5', 6)", "no integer", "0x6 under the mask 0x6", "\"5\""},
        {"expect.match('abc', '^b')", "the text does not match", "^b", "\"abc\""},
        {"expect.match(nil, 'b')", "the text does not match", "b", "nil"},
        {"expect.error('x', function() end)", "should have failed", "an error like x", "no error"},
        {"expect.error('x', error, 'y')", "failed otherwise", "an error like x", "y"},
        {"expect.eventually(function() return nil end, nil, 0)", "did not happen within 0 ms",
         "something true", "nil"},
        {"expect.eventually(function() return 3 end, 4, 1)", "did not happen within 1 ms", "4",
         "3"},
        {"expect.fail('enough')", "enough", NULL, NULL},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup_printf("test('x', function()\n%s\nend)", cases[i].call);
        run_text(run, text);
        run_expect(run, 0, REPORT_FAILED, cases[i].message, 2);
        const struct report_test *t = run_nth(run, 0);
        assert_string_equal(t->expression, cases[i].call);
        if (g_strcmp0(t->expected, cases[i].expected) || g_strcmp0(t->actual, cases[i].actual)) {
            fail_msg("%s: expected %s, actual %s", cases[i].call, t->expected, t->actual);
        }
    }
    run_text(run, "test('x', function()\n"
                  "    local t, u = { 1 }, { 1 }\n"
                  "    t.t, u.t = t, u\n"
                  "    expect(t, u)\n"
                  "    expect(true) expect(1, 1.0) expect({ 1, x = { 2 } }, { 1, x = { 2 } })\n"
                  "    expect.different(1, 2) expect.below(1, 2) expect.at_most(2, 2)\n"
                  "    expect.above('b', 'a') expect.at_least(2, 2) expect.bits(7, 3)\n"
                  "    expect.bits(5, 6, 4) expect.match('abc', 'b')\n"
                  "    expect(expect.error('y', error, 'xyz'), 'xyz')\n"
                  "    expect(expect.error('no$', error, { message = 'no' }), 'no')\n"
                  "    local n = 0\n"
                  "    expect(expect.eventually(function() n = n + 1 return n > 3 and n end), 4)\n"
                  "    expect(expect.eventually(function() n = n + 1 return n end, 7), 7)\n"
                  "end)");
    run_expect_passed(run, 0);
}

static void the_line_is_the_scripts_whoever_called_expect(void **state)
{
    struct run *run = *state;

    run_write(run, "neighbour.lua", "return function(x)\n    expect(x, 1)\nend\n");
    run_text(run, "local check = require 'neighbour'\n"
                  "local function helper(x)\n"
                  "    expect(x, 1)\n"
                  "end\n"
                  "test('own helper', function()\n"
                  "    helper(2)\n"
                  "end)\n"
                  "test('neighbour', function()\n"
                  "    check(2)\n"
                  "end)\n"
                  "test('library', function()\n"
                  "    require('virtio').ring('none')\n"
                  "end)\n"
                  "test('coroutine', function()\n"
                  "    coroutine.wrap(function()\n"
                  "        expect(2, 1)\n"
                  "    end)()\n"
                  "end)\n"
                  "test('one line', function() expect(2, 1) end)\n");
    run_expect(run, 0, REPORT_FAILED, "not what was expected", 3);
    assert_string_equal(run_nth(run, 0)->expression, "expect(x, 1)");
    g_autofree char *trace = g_strdup_printf(
        "%s:3: in upvalue 'helper'\n%s:6: in function <%s:5>\n", run->path, run->path, run->path);
    assert_string_equal(run_attachment(run, 0, "traceback"), trace);
    run_expect(run, 1, REPORT_FAILED, "not what was expected", 9);
    assert_string_equal(run_nth(run, 1)->expression, "check(2)");
    assert_non_null(strstr(run_attachment(run, 1, "traceback"), "neighbour.lua:2: in "));
    assert_int_equal(run_nth(run, 2)->outcome, REPORT_ERROR);
    assert_int_equal(run_nth(run, 2)->line, 12);
    assert_non_null(strstr(run_nth(run, 2)->message, "lib/virtio.lua:"));
    run_expect(run, 3, REPORT_FAILED, "not what was expected", 16);
    run_expect(run, 4, REPORT_FAILED, "not what was expected", 19);
}

/* ---- errors of all kinds, and the test after them ---- */

static void whatever_is_raised_is_told_and_the_next_test_runs(void **state)
{
    struct run *run = *state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"error('text')", "text"},
        {"error('text', 0)", "text"},
        {"error('')", ""},
        {"error(nil)", "an error without a message (nil)"},
        {"error()", "an error without a message (nil)"},
        {"error(42)", "42"},
        {"error(false)", "an error that is no text: false"},
        {"error({ code = 5 })", "an error that is no text: { code = 5 }"},
        {"error({ message = 'm' })", "m"},
        {"error({ kind = 'mine', message = 'm' })", "m"},
        {"error({ kind = 'skip', message = {} })",
         "an error that is no text: { kind = \"skip\", message = {} }"},
        {"error({ kind = 'expect' })", "an error that is no text: { kind = \"expect\" }"},
        {"error(setmetatable({}, { __tostring = function() return 'T' end }))",
         "an error that is no text: T"},
        {"error(setmetatable({}, { __tostring = function() error('in it') end }))",
         "an error that is no text but a table"},
        {"error(setmetatable({}, { __index = function() error('in it') end }))",
         "an error that is no text: {}"},
        {"error(io.stderr)", NULL},
        {"error(function() end)", NULL},
        {"error(coroutine.create(print))", NULL},
        {"local x = nil + 1", "attempt to perform arithmetic on a nil value"},
        {"expcet(1, 1)", "attempt to call a nil value (global 'expcet'); did you mean 'expect'?"},
        {"xyzzyx(1, 1)", "attempt to call a nil value (global 'xyzzyx')"},
        {"expect.evnetually(1)", "there is no expect.evnetually; did you mean 'eventually'?"},
        {"mac('02')", "'02' is no MAC address"},
        {"unhex('0')", "'0' is no row of bytes in hexadecimal"},
        {"machine { bord = 'pc' }", "there is no option 'bord'; did you mean 'board'?"},
        {"machine { board = 'q53' }", "a machine's board is 'pc' or 'q35', not 'q53'"},
        {"machine { ram = 'much' }", "'much' is no size (bytes, or with k, M, G behind)"},
        {"machine { args = 'x' }", "option 'args' is a table of strings, not x"},
        {"machine { args = { 1 } }", "option 'args' is a table of strings; the one at 1 is 1"},
        {"machine { 'pc' }", "options have names; '1' is none"},
        {"machine { setup = 1 }", "option 'setup' is true or false, not 1"},
        {"machine { timeout = 0 }", "option 'timeout' is an integer from 1 to 3600000, not 0"},
        {"machine {}.start()", "start is a method of a machine: call it with a colon, as in "
                               "x:start(...)"},
        {"machine {}:strat()", "a machine has no method 'strat'; did you mean 'start'?"},
        {"machine {}.name = 'x'", "a machine has no 'name' to assign to"},
        {"memory {}", "memory needs a size, such as memory { size = \"16M\" }"},
        {"memory { size = -1 }", "-1 is no size (bytes, or a string such as \"16M\")"},
        {"ivshmem_server {}", "ivshmem_server needs memory, such as ivshmem_server { memory = "
                              "memory { size = \"1M\" } }"},
        {"ivshmem_server { memory = 5 }", "option 'memory' is a memory, not 5"},
        {"test('x', function() end)",
         "test 'x': tests are declared while the file loads, not in a test"},
        {"os.exit(0)", "a scenario cannot end the program: return, or use skip() or expect.fail()"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup_printf("test('fails', function()\n%s\nend)\n"
                                                "test('next', function() expect(1, 1) end)",
                                                cases[i].body);
        run_text(run, text);
        const struct report_test *t = run_nth(run, 0);
        if (cases[i].message) {
            run_expect(run, 0, REPORT_ERROR, cases[i].message, 2);
        } else {
            assert_int_equal(t->outcome, REPORT_ERROR);
            assert_true(g_str_has_prefix(t->message, "an error that is no text: "));
        }
        assert_int_equal(run_n(run), 2);
        run_expect_passed(run, 1);
    }
}

static void an_error_brings_a_traceback_where_it_has_more_to_say_than_the_line(void **state)
{
    struct run *run = *state;

    run_text(run, "local function inner() error('deep') end\n"
                  "local function outer() inner() end\n"
                  "test('deep', function()\n"
                  "    outer()\n"
                  "end)\n"
                  "test('flat', function() error('flat') end)\n"
                  "test('endless', function()\n"
                  "    local function f() return 1 + f() end\n"
                  "    f()\n"
                  "end)\n");
    run_expect(run, 0, REPORT_ERROR, "deep", 1);
    g_autofree char *trace = g_strdup_printf("%s:1: in upvalue 'inner'\n"
                                             "%s:2: in upvalue 'outer'\n"
                                             "%s:4: in function <%s:3>\n",
                                             run->path, run->path, run->path, run->path);
    assert_string_equal(run_attachment(run, 0, "traceback"), trace);
    assert_null(run_attachment(run, 1, "traceback"));
    assert_int_equal(run_nth(run, 2)->outcome, REPORT_ERROR);
    assert_non_null(strstr(run_nth(run, 2)->message, "stack overflow"));
    assert_int_equal(run_nth(run, 2)->line, 8);
}

static void a_skip_has_its_reason_and_is_not_caught_by_expect_error(void **state)
{
    struct run *run = *state;

    run_text(run, "test('plain', function() skip('no such card') expect(1, 2) end)\n"
                  "test('bare', function() skip() end)\n"
                  "test('odd', function() skip({}) end)\n"
                  "test('inside', function() expect.error('', skip, 'inside') end)\n");
    run_expect(run, 0, REPORT_SKIPPED, "no such card", 0);
    run_expect(run, 1, REPORT_SKIPPED, "no reason given", 0);
    assert_int_equal(run_nth(run, 2)->outcome, REPORT_SKIPPED);
    run_expect(run, 3, REPORT_SKIPPED, "inside", 0);
}

static void huge_texts_are_cut(void **state)
{
    struct run *run = *state;

    run_text(run, "test('long', function() error(string.rep('x', 100000), 0) end)\n"
                  "test('items', function() local t = {} for i = 1, 1000 do t[i] = 1 end\n"
                  "    expect(t, {}) end)\n");
    assert_int_equal(strlen(run_nth(run, 0)->message), 4000 + strlen(" ... (100000 bytes)"));
    assert_true(g_str_has_suffix(run_nth(run, 0)->message, "x ... (100000 bytes)"));
    assert_true(g_str_has_suffix(run_nth(run, 1)->actual, ", 1, ... (1000 in all) }"));
}

/* ---- deadlines ---- */

static void a_test_ends_at_its_deadline_wherever_it_is(void **state)
{
    struct run *run = *state;
    static const char *const bodies[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error) end",
        "local function f() pcall(f) f() end while true do pcall(f) end",
        "while true do pcall(expect.eventually, function() end) end",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "local co = coroutine.wrap(function() while true do pcall(coroutine.yield) end end)\n"
        "while true do co() end",
        "while true do xpcall(function() while true do end end, function(m) return m end) end",
        "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end })\n"
        "while true do pcall(function() return t[1] end) end",
        "table.sort({ 3, 1, 2 }, function() while true do end end)",
        "string.gsub('abc', '.', function() while true do end end)",
        "load(function() while true do end end)",
        "expect.eventually(function() end, nil, 60000)",
        "while true do string.rep('x', 1 << 20) end",
        "while true do collectgarbage() end",
        "repeat until pcall(skip, 'x') == nil",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autofree char *text =
            g_strdup_printf("test('endless', { timeout = 30 }, function()\n%s\nend)\n"
                            "test('next', function() expect(1, 1) end)",
                            bodies[i]);
        run_text(run, text);
        run_expect(run, 0, REPORT_ERROR, "the test took longer than its deadline of 30 ms", 0);
        assert_string_equal(run_nth(run, 0)->script, run->path);
        assert_true(run_nth(run, 0)->line >= 1);
        run_expect_passed(run, 1);
    }
}

static void a_test_that_swallows_its_deadline_has_failed_all_the_same(void **state)
{
    struct run *run = *state;

    run_text(run, "test('swallows', { timeout = 30 }, function()\n"
                  "    pcall(function() while true do end end)\n"
                  "end)\n"
                  "test('fails late', { timeout = 30 }, function()\n"
                  "    pcall(function() while true do end end) error('late')\n"
                  "end)\n"
                  "test('next', function() for i = 1, 1e5 do end end)\n");
    run_expect(run, 0, REPORT_ERROR, "the test took longer than its deadline of 30 ms", 0);
    run_expect(run, 1, REPORT_ERROR, "the test took longer than its deadline of 30 ms", 0);
    run_expect_passed(run, 2);
}

static void the_deadline_of_the_run_holds_for_tests_without_one(void **state)
{
    struct run *run = *state;

    run->options.test_timeout_ms = 30;
    run_text(run, "test('its own', { timeout = 20 }, function() while true do end end)\n"
                  "test('the run\\'s', function() while true do end end)\n");
    run_expect(run, 0, REPORT_ERROR, "the test took longer than its deadline of 20 ms", 1);
    run_expect(run, 1, REPORT_ERROR, "the test took longer than its deadline of 30 ms", 2);
}

static void memory_without_bound_is_an_error_of_that_test(void **state)
{
    struct run *run = *state;

    run->options.memory_mib = 64;
    run_text(run, "test('at once', function() string.rep('x', 1 << 30) end)\n"
                  "test('bit by bit', function()\n"
                  "    local t, s = {}, string.rep('x', 1 << 20)\n"
                  "    for i = 1, 1e6 do t[i] = s .. i end\n"
                  "end)\n"
                  "test('next', function() expect(#string.rep('x', 1 << 24), 1 << 24) end)\n");
    run_expect(run, 0, REPORT_ERROR, "not enough memory: a scenario may use 64 MiB in Lua", 0);
    run_expect(run, 1, REPORT_ERROR, "not enough memory: a scenario may use 64 MiB in Lua", 0);
    run_expect_passed(run, 2);
}

/* The watchdog's way out: tells the test that is running, and ends the process. */
static void end_process(void *data, struct report *report)
{
    const struct report_file *file = report_files(report)->pdata[0];

    _exit(g_strcmp0(file->running, data) == 0 ? 42 : 43);
}

static void a_script_that_nothing_can_interrupt_is_given_up(void **state)
{
    struct run *run = *state;
    static const char *const bodies[] = {
        "string.find(string.rep('a', 40), string.rep('a-', 30) .. 'b')",
        "setmetatable({}, { __gc = function() while true do end end }) collectgarbage()",
        "xpcall(function() while true do end end, function() while true do end end)",
        "debug.sethook() while true do end",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autofree char *text =
            g_strdup_printf("test('stuck', { timeout = 20 }, function()\n%s\nend)\n", bodies[i]);
        int status;
        pid_t child = fork();
        assert_int_not_equal(child, -1);
        if (child == 0) {
            char name[] = "stuck";
            run->options.grace_ms = 50;
            run->options.stuck = end_process;
            run->options.stuck_data = name;
            alarm(60); /* should the watchdog sleep */
            run_text(run, text);
            _exit(1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 42) {
            fail_msg("%s: status 0x%x", bodies[i], (unsigned)status);
        }
    }
}

/* ---- files ---- */

static void a_file_that_is_no_scenario_is_told_in_one_line_that_names_it(void **state)
{
    struct run *run = *state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"test('x', function()", ":1: 'end' expected near <eof>"},
        {"\nx = = 1", ":2: unexpected symbol near '='"},
        {"", ": declares no test"},
        {"error('early')", ":1: early"},
        {"\nerror({ code = 1 })", ":2: an error that is no text: { code = 1 }"},
        {"\n\nlocal m = mchine {}",
         ":3: attempt to call a nil value (global 'mchine'); did you mean 'machine'?"},
        {"test('a', function() end)\ntest('a', function() end)",
         ":2: there are two tests called 'a'"},
        {"test('a')", ":1: bad argument #2 to 'test' (function expected, got no value)"},
        {"test('a', { timout = 1 }, function() end)",
         ":1: there is no option 'timout'; did you mean 'timeout'?"},
        {"test(function() end)", ":1: bad argument #1 to 'test' (string expected, got function)"},
        {"machine {}:start()", ":1: machine 'm1' can be used inside a test only: nothing runs "
                               "while the file loads"},
        {"expect(1, 2)", ":1: not what was expected"},
        {"skip('no')", ": no"},
        {"string.rep('x', 1 << 30)", ": not enough memory"},
        {"require 'nothing'", NULL},
        {"\x1bLua", ": attempt to load a binary chunk (mode is 't')"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        run_text(run, cases[i].text);
        assert_non_null(run->broken);
        if (cases[i].message) {
            assert_string_equal(run->broken, cases[i].message);
        } else {
            assert_true(g_str_has_prefix(run->broken, ":1: module 'nothing' not found"));
        }
        assert_int_equal(run_n(run), 0);
    }
}

static void a_file_that_cannot_be_read_says_why(void **state)
{
    struct run *run = *state;
    struct report *report = report_new();
    g_autoptr(GError) error = NULL;

    assert_false(scenario_run_file("/nowhere/x.lua", &run->options, report, &error));
    assert_true(g_error_matches(error, SCENARIO_ERROR, SCENARIO_ERROR_LOAD));
    assert_string_equal(error->message, "/nowhere/x.lua: No such file or directory");
    report_free(report);
}

static void a_script_requires_its_neighbours_and_the_library(void **state)
{
    struct run *run = *state;

    run_write(run, "beside.lua", "return { name = 'beside' }");
    run_write(run, "lib/shared.lua", "return { name = 'shared' }");
    run_text(run, "local beside, virtio = require 'beside', require 'virtio'\n"
                  "test('all', function()\n"
                  "    expect(beside.name, 'beside')\n"
                  "    expect(require('shared').name, 'shared')\n"
                  "    expect(virtio.DRIVER_OK, 4)\n"
                  "    local text = expect.error('not found', require, 'nothing')\n"
                  "    expect.match(text, '/lib/nothing.lua')\n"
                  "    expect(not text:find(\"no file ''\", 1, true))\n"
                  "end)\n");
    run_expect_passed(run, 0);
}

static void what_a_script_prints_is_a_note_and_not_on_standard_output(void **state)
{
    struct run *run = *state;
    int saved = dup(STDOUT_FILENO), pipe_ends[2];
    char got[64];

    assert_int_equal(pipe(pipe_ends), 0);
    fflush(stdout);
    dup2(pipe_ends[1], STDOUT_FILENO);
    run_text(run, "print('loading', 1)\n"
                  "test('x', function() print('a', nil, 2) print('b\\nc') note(5)\n"
                  "    local f = io.output() f:write('') io.stdout:write('') end)\n");
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(pipe_ends[1]);
    assert_int_equal(read(pipe_ends[0], got, sizeof(got)), 0);
    close(pipe_ends[0]);
    run_expect_passed(run, 0);
    assert_string_equal(run->notes->str, "loading 1\na nil 2\nb\nc\n5\n");
}

static void an_error_in_a_finalizer_is_a_note(void **state)
{
    struct run *run = *state;

    run_text(run, "test('x', function()\n"
                  "    setmetatable({}, { __gc = function() error('too late', 0) end })\n"
                  "end)\n");
    run_expect_passed(run, 0);
    g_autofree char *note = g_strdup_printf("%s: warning: error in __gc (too late)\n", run->path);
    assert_string_equal(run->notes->str, note);
}

/* ---- which tests run ---- */

static void the_filter_takes_whole_names(void **state)
{
    struct run *run = *state;

    run->options.filter = "a*";
    run_text(run, "for _, n in ipairs { 'ab', 'ba', 'a' } do test(n, function() end) end");
    assert_int_equal(run_n(run), 2);
    assert_string_equal(run_nth(run, 0)->name, "ab");
    assert_string_equal(run_nth(run, 1)->name, "a");
}

static void a_list_runs_nothing(void **state)
{
    struct run *run = *state;

    run->options.only_list = true;
    run_text(run, "test('b', function() error('ran') end) test('a', function() end)");
    assert_int_equal(run_n(run), 0);
    const struct report_file *file = report_files(run->report)->pdata[0];
    assert_int_equal(file->planned->len, 2);
    assert_string_equal(file->planned->pdata[0], "b");
    assert_string_equal(file->planned->pdata[1], "a");
}

static char *names_in_order(struct run *run, unsigned seed)
{
    GString *names = g_string_new(NULL);

    run->options.shuffle_seed = seed;
    run_text(run, "for i = 1, 9 do test(tostring(i), function() end) end");
    assert_int_equal(run_n(run), 9);
    for (unsigned i = 0; i < 9; i++) {
        g_string_append(names, run_nth(run, i)->name);
    }
    return g_string_free(names, FALSE);
}

static void a_seed_shuffles_the_tests_the_same_way_every_time(void **state)
{
    struct run *run = *state;
    g_autofree char *plain = names_in_order(run, 0);
    g_autofree char *first = names_in_order(run, 1);
    g_autofree char *again = names_in_order(run, 1);
    g_autofree char *second = names_in_order(run, 2);

    assert_string_equal(plain, "123456789");
    assert_string_not_equal(first, plain);
    assert_string_equal(again, first);
    assert_string_not_equal(second, first);
    for (int c = '1'; c <= '9'; c++) {
        assert_non_null(strchr(first, c));
    }
}

static void tests_of_one_file_share_its_variables(void **state)
{
    struct run *run = *state;

    run_text(run, "local n = 0\n"
                  "test('first', function() n = n + 1 end)\n"
                  "test('second', function() expect(n, 1) end)\n");
    run_expect_passed(run, 0);
    run_expect_passed(run, 1);
}

#define on_run(test) cmocka_unit_test_setup_teardown(test, run_setup, run_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_run(an_expectation_tells_line_expression_expected_and_actual),
        on_run(values_are_shown_as_people_write_them),
        on_run(long_strings_are_shown_around_their_first_difference),
        on_run(every_form_of_expect_holds_and_fails_as_it_says),
        on_run(the_line_is_the_scripts_whoever_called_expect),
        on_run(whatever_is_raised_is_told_and_the_next_test_runs),
        on_run(an_error_brings_a_traceback_where_it_has_more_to_say_than_the_line),
        on_run(a_skip_has_its_reason_and_is_not_caught_by_expect_error),
        on_run(huge_texts_are_cut),
        on_run(a_test_ends_at_its_deadline_wherever_it_is),
        on_run(a_test_that_swallows_its_deadline_has_failed_all_the_same),
        on_run(the_deadline_of_the_run_holds_for_tests_without_one),
        on_run(memory_without_bound_is_an_error_of_that_test),
        on_run(a_script_that_nothing_can_interrupt_is_given_up),
        on_run(a_file_that_is_no_scenario_is_told_in_one_line_that_names_it),
        on_run(a_file_that_cannot_be_read_says_why),
        on_run(a_script_requires_its_neighbours_and_the_library),
        on_run(what_a_script_prints_is_a_note_and_not_on_standard_output),
        on_run(an_error_in_a_finalizer_is_a_note),
        on_run(the_filter_takes_whole_names),
        on_run(a_list_runs_nothing),
        on_run(a_seed_shuffles_the_tests_the_same_way_every_time),
        on_run(tests_of_one_file_share_its_variables),
    };
    g_setenv("RINGLAB_LUA_PATH", "scenarios/lib", FALSE); /* tests run at the top of the tree */
    return cmocka_run_group_tests_name("scenario", tests, NULL, NULL);
}
