/*
 * memory{...}: shared memory that devices show to guests, and a machine's RAM.
 */
#include "harness/scenario/lua_scenario.h"

#include <string.h>

static struct lua_memory *check(lua_State *L)
{
    return sc_check(L, 1, LUA_MEMORY);
}

static struct guest_region *region(lua_State *L)
{
    return sc_region(L, check(L));
}

/* memory{ size="16M", hugepages="require"|"prefer"|"off", dir="/dev/hugepages", name= } */
static int l_memory(lua_State *L)
{
    static const char *const known[] = {"size", "hugepages", "dir", "name", NULL};
    static const char *const hugepages[] = {"off", "prefer", "require"};

    luaL_checktype(L, 1, LUA_TTABLE);
    sc_check_fields(L, 1, known);
    struct lua_memory *m = sc_new(L, LUA_MEMORY, sizeof(*m), 1);
    m->sc = sc_of(L);
    m->made_in = m->sc->generation;
    if (lua_getfield(L, 1, "size") == LUA_TNIL) {
        return luaL_error(L, "memory needs a size, such as memory { size = \"16M\" }");
    }
    m->size = sc_check_size(L, lua_gettop(L));
    lua_pop(L, 1);
    const char *text = sc_field_string(L, 1, "hugepages");
    int chosen = text ? -1 : 0;
    for (int i = 0; text && i < 3; i++) {
        chosen = strcmp(text, hugepages[i]) == 0 ? i : chosen;
    }
    if (chosen < 0) {
        return luaL_error(L, "hugepages are 'require', 'prefer' or 'off', not '%s'", text);
    }
    m->hugepages = (enum guest_hugepages)chosen;
    m->dir = g_strdup(sc_field_string(L, 1, "dir"));
    const char *name = sc_field_string(L, 1, "name");
    m->name = g_strdup(name ? name : "memory");
    return 1;
}

static int l_gc(lua_State *L)
{
    struct lua_memory *m = check(L);

    g_free(g_steal_pointer(&m->name));
    g_free(g_steal_pointer(&m->dir));
    return 0;
}

struct guest_region *sc_region(lua_State *L, struct lua_memory *m)
{
    GError *error = NULL;

    sc_need_test(L, "memory");
    sc_need_made_in(L, m->made_in, "this memory");
    if (m->ram_of) {
        return session_machine_ram(sc_running(L, m->ram_of));
    }
    if (m->generation != m->sc->generation) {
        m->region =
            m->dir ? session_memory_new_in_dir(m->sc->session, m->name, m->size, m->dir,
                                               m->hugepages, &error)
                   : session_memory_new(m->sc->session, m->name, m->size, m->hugepages, &error);
        if (!m->region) {
            sc_raise(L, error);
        }
        m->generation = m->sc->generation;
    }
    return m->region;
}

/* Offset argument such that [offset, offset + len) lies inside. */
static uint8_t *at(lua_State *L, struct guest_region *r, int arg, uint64_t len)
{
    lua_Integer offset = luaL_checkinteger(L, arg);

    if (offset < 0 || (uint64_t)offset > r->size || len > r->size - (uint64_t)offset) {
        luaL_error(L, "%I bytes at offset %I are outside memory '%s' of %I bytes", (lua_Integer)len,
                   offset, r->name, (lua_Integer)r->size);
    }
    return r->host + offset;
}

/* mem:read(offset, len) -> string; mem:write(offset, string) */
static int l_read(lua_State *L)
{
    struct guest_region *r = region(L);
    lua_Integer len = luaL_checkinteger(L, 3);

    luaL_argcheck(L, len >= 0, 3, "a length cannot be negative");
    lua_pushlstring(L, (const char *)at(L, r, 2, (uint64_t)len), (size_t)len);
    return 1;
}

static int l_write(lua_State *L)
{
    struct guest_region *r = region(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 3, &len);

    memcpy(at(L, r, 2, len), bytes, len);
    return 0;
}

/* mem:fill(offset, len[, byte]) */
static int l_fill(lua_State *L)
{
    struct guest_region *r = region(L);
    lua_Integer len = luaL_checkinteger(L, 3);

    lua_Integer byte = luaL_optinteger(L, 4, 0);

    luaL_argcheck(L, len >= 0, 3, "a length cannot be negative");
    luaL_argcheck(L, byte >= 0 && byte <= 255, 4, "a byte is 0 to 255");
    memset(at(L, r, 2, (uint64_t)len), (int)byte, (size_t)len);
    return 0;
}

/* mem:u16(offset[, value]) and the like: what the other side may change is read once, atomically */
static int word(lua_State *L, unsigned width)
{
    struct guest_region *r = region(L);
    uint8_t *p = at(L, r, 2, width);
    bool is_write = !lua_isnoneornil(L, 3);
    uint64_t value = is_write ? (uint64_t)luaL_checkinteger(L, 3) : 0;

    if ((uintptr_t)p % width != 0) {
        return luaL_error(L, "offset %I is not aligned to %d bytes", lua_tointeger(L, 2),
                          (int)width);
    }
    if (is_write && width < 8 && value >> (8 * width) != 0) {
        return luaL_error(L, "value %I is too wide for %d bytes", (lua_Integer)value, (int)width);
    }
    switch (width) {
    case 1:
        if (is_write) {
            __atomic_store_n(p, (uint8_t)value, __ATOMIC_SEQ_CST);
        } else {
            value = __atomic_load_n(p, __ATOMIC_SEQ_CST);
        }
        break;
    case 2:
        if (is_write) {
            __atomic_store_n((uint16_t *)(void *)p, (uint16_t)value, __ATOMIC_SEQ_CST);
        } else {
            value = __atomic_load_n((uint16_t *)(void *)p, __ATOMIC_SEQ_CST);
        }
        break;
    case 4:
        if (is_write) {
            __atomic_store_n((uint32_t *)(void *)p, (uint32_t)value, __ATOMIC_SEQ_CST);
        } else {
            value = __atomic_load_n((uint32_t *)(void *)p, __ATOMIC_SEQ_CST);
        }
        break;
    default:
        if (is_write) {
            __atomic_store_n((uint64_t *)(void *)p, value, __ATOMIC_SEQ_CST);
        } else {
            value = __atomic_load_n((uint64_t *)(void *)p, __ATOMIC_SEQ_CST);
        }
    }
    if (is_write) {
        return 0;
    }
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

static int l_u8(lua_State *L)
{
    return word(L, 1);
}

static int l_u16(lua_State *L)
{
    return word(L, 2);
}

static int l_u32(lua_State *L)
{
    return word(L, 4);
}

static int l_u64(lua_State *L)
{
    return word(L, 8);
}

/* mem:alloc(len[, align]) -> offset */
static int l_alloc(lua_State *L)
{
    struct guest_region *r = region(L);
    uint64_t offset;
    GError *error = NULL;
    lua_Integer align = luaL_optinteger(L, 3, 16);

    luaL_argcheck(L, align > 0, 3, "an alignment is a power of two");
    if (!guest_region_alloc(r, (uint64_t)luaL_checkinteger(L, 2), (uint64_t)align, &offset,
                            &error)) {
        return sc_raise(L, error);
    }
    lua_pushinteger(L, (lua_Integer)offset);
    return 1;
}

static int l_free(lua_State *L)
{
    guest_region_release(region(L), (uint64_t)luaL_checkinteger(L, 2));
    return 0;
}

/* mem:gpa([offset]) -> guest-physical address; an error while no device shows it to a guest */
static int l_gpa(lua_State *L)
{
    struct guest_region *r = region(L);
    lua_Integer offset = luaL_optinteger(L, 2, 0);

    if (offset < 0 || (uint64_t)offset > r->size) {
        return luaL_error(L, "offset %I is outside memory '%s' of %I bytes", offset, r->name,
                          (lua_Integer)r->size);
    }
    if (r->gpa == GUEST_UNPLACED) {
        return luaL_error(L, "memory '%s' is not on any guest's bus", r->name);
    }
    lua_pushinteger(L, (lua_Integer)r->gpa + offset);
    return 1;
}

static int l_host(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)(uintptr_t)region(L)->host);
    return 1;
}

static int l_size(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)region(L)->size);
    return 1;
}

static int l_page_size(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)region(L)->page_size);
    return 1;
}

static int l_note(lua_State *L)
{
    lua_pushstring(L, region(L)->note);
    return 1;
}

void sc_open_memory(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"read", l_read},
        {"write", l_write},
        {"fill", l_fill},
        {"u8", l_u8},
        {"u16", l_u16},
        {"u32", l_u32},
        {"u64", l_u64},
        {"alloc", l_alloc},
        {"free", l_free},
        {"gpa", l_gpa},
        {"host", l_host},
        {"size", l_size},
        {"page_size", l_page_size},
        {"note", l_note},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};

    sc_type(L, LUA_MEMORY, methods, meta);
    lua_pushcfunction(L, l_memory);
    lua_setglobal(L, "memory");
}
