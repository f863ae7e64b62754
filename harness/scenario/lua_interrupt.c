/*
 * Interrupts of a device: irq(dev, {...}) in each of the three forms.
 */
#include "harness/scenario/lua_scenario.h"

#include <string.h>

struct lua_irq {
    struct lua_machine *machine; /* kept alive by uservalue 1 */
    struct sc_owned *owner;      /* the interrupt, or the driver it belongs to */
    struct interrupt *irq;       /* good as long as the owner is; NULL: closed */
    bool is_borrowed;            /* belongs to a driver */
};

static struct interrupt *check(lua_State *L)
{
    struct lua_irq *i = sc_check(L, 1, LUA_IRQ);

    sc_owned_data(L, i->owner);
    if (!i->irq) {
        luaL_error(L, "this interrupt was closed");
    }
    return i->irq;
}

static void free_irq(void *data)
{
    interrupt_free(data);
}

/* A handle that refers to nothing yet: what can fail in Lua comes before there is something to
 * lose. */
static struct lua_irq *push_handle(lua_State *L, struct lua_machine *m, int machine_index)
{
    machine_index = lua_absindex(L, machine_index);
    struct lua_irq *i = sc_new(L, LUA_IRQ, sizeof(*i), 1);

    i->machine = m;
    lua_pushvalue(L, machine_index);
    lua_setiuservalue(L, -2, 1);
    return i;
}

void sc_push_interrupt(lua_State *L, struct lua_machine *m, int machine_index,
                       struct sc_owned *owner, struct interrupt *irq)
{
    struct lua_irq *i = push_handle(L, m, machine_index);

    i->owner = sc_owned_ref(owner);
    i->irq = irq;
    i->is_borrowed = true;
}

static enum interrupt_kind kind_of(lua_State *L, const char *text)
{
    if (!text || strcmp(text, "memory") == 0) {
        return INTERRUPT_MEMORY;
    }
    if (strcmp(text, "eventfd") == 0) {
        return INTERRUPT_EVENTFD;
    }
    if (strcmp(text, "line") != 0) {
        luaL_error(L, "an interrupt's form is 'memory', 'eventfd' or 'line', not '%s'", text);
    }
    return INTERRUPT_LINE;
}

/* irq(device, { form="memory"|"eventfd"|"line", vector=0, memory=, offset=, data= }) */
static int l_irq(lua_State *L)
{
    static const char *const known[] = {"form", "vector", "memory", "offset", "data", NULL};
    struct lua_device *dev = sc_check(L, 1, LUA_DEVICE);
    GError *error = NULL;
    struct interrupt *irq = NULL;

    if (lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_newtable(L);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    sc_check_fields(L, 2, known);
    struct pci_device *p = sc_pci(L, dev);
    struct session_machine *m = sc_running(L, dev->machine);
    unsigned vector = (unsigned)sc_field_integer(L, 2, "vector", 0, 0, 2047);
    enum interrupt_kind kind = kind_of(L, sc_field_string(L, 2, "form"));
    struct lua_irq *i = push_handle(L, dev->machine, 1);
    switch (kind) {
    case INTERRUPT_MEMORY: {
        struct guest_region *region = session_machine_ram(m);
        uint64_t offset;
        struct lua_memory *memory = sc_field_object(L, 2, "memory", LUA_MEMORY);
        if (memory) {
            region = sc_region(L, memory);
        }
        lua_pop(L, 1);
        if (region->gpa == GUEST_UNPLACED) {
            return luaL_error(L, "memory '%s' is not on any guest's bus", region->name);
        }
        lua_Integer at = sc_field_integer(L, 2, "offset", -1, 0, (lua_Integer)region->size - 4);
        if (at >= 0) {
            offset = (uint64_t)at;
        } else if (!guest_region_alloc(region, 4, 4, &offset, &error)) {
            return sc_raise(L, error);
        }
        lua_Integer data = sc_field_integer(L, 2, "data", (lua_Integer)vector + 1, 1, UINT32_MAX);
        irq = interrupt_new_memory(p, vector, region->gpa + offset, (uint32_t)data, &error);
        break;
    }
    case INTERRUPT_EVENTFD:
        if (!session_machine_bridge(m)) {
            return luaL_error(L, "machine '%s' has no interrupt bridge (machine { bridge = true })",
                              session_machine_name(m));
        }
        irq = interrupt_new_eventfd(p, vector, session_machine_bridge(m), &error);
        break;
    case INTERRUPT_LINE:
        irq = interrupt_new_line(p, &error);
        break;
    }
    if (!irq) {
        return sc_raise(L, error);
    }
    i->irq = irq;
    i->owner = sc_own(sc_of(L), m, "this interrupt", free_irq, irq);
    return 1;
}

static int l_take(lua_State *L)
{
    lua_pushboolean(L, interrupt_take(check(L)));
    return 1;
}

/* irq:wait([timeout]) */
static int l_wait(lua_State *L)
{
    struct interrupt *irq = check(L);
    struct lua_irq *i = lua_touserdata(L, 1);
    GError *error = NULL;

    if (!interrupt_wait(irq, sc_timeout(L, 2, 2000), &error)) {
        if (irq->kind != INTERRUPT_LINE &&
            g_error_matches(error, QTEST_ERROR, QTEST_ERROR_CLOSED)) {
            /* the socket has closed; this waits until the process has ended too */
            machine_barrier(session_machine_machine(sc_running(L, i->machine)), NULL);
            sc_add_deaths(sc_of(L), &error);
        }
        return sc_raise(L, error);
    }
    return 0;
}

static int l_raised(lua_State *L)
{
    lua_pushboolean(L, interrupt_is_raised(check(L)));
    return 1;
}

static int l_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check(L)->n_taken);
    return 1;
}

/* irq:messages() -> how many messages came so far, those pending consumed */
static int l_messages(lua_State *L)
{
    struct interrupt *irq = check(L);

    interrupt_take(irq);
    lua_pushinteger(L, (lua_Integer)irq->n_messages);
    return 1;
}

static int l_line(lua_State *L)
{
    lua_pushinteger(L, check(L)->line);
    return 1;
}

static int l_close(lua_State *L)
{
    check(L);
    struct lua_irq *i = lua_touserdata(L, 1);

    if (!i->is_borrowed) {
        sc_owned_end(sc_of(L), i->owner);
    }
    i->irq = NULL;
    return 0;
}

static int l_gc(lua_State *L)
{
    struct lua_irq *i = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&i->owner));
    return 0;
}

void sc_open_interrupt(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"take", l_take},         {"wait", l_wait}, {"raised", l_raised}, {"count", l_count},
        {"messages", l_messages}, {"line", l_line}, {"close", l_close},   {NULL, NULL},
    };

    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};

    sc_type(L, LUA_IRQ, methods, meta);
    lua_pushcfunction(L, l_irq);
    lua_setglobal(L, "irq");
}
