/*
 * Rings and slots in shared memory, field by field, for scripts that look closely or do wrong
 * things: port.tx[0].head, port.tx[0][5].len. Nothing is checked but that buffers exist.
 */
#include "harness/scenario/lua_host.h"

#include <string.h>

struct lua_slot {
    struct lua_ring ring;
    uint32_t index;
};

static struct lua_ring *check(lua_State *L)
{
    struct lua_ring *r = sc_check(L, 1, LUA_RING);

    sc_owned_data(L, r->owner);
    g_assert(r->ring);
    return r;
}

static struct lua_slot *check_slot(lua_State *L)
{
    struct lua_slot *s = sc_check(L, 1, LUA_SLOT);

    sc_owned_data(L, s->ring.owner);
    return s;
}

void sc_push_ring(lua_State *L, int keeper_index, const struct lua_ring *ring)
{
    keeper_index = lua_absindex(L, keeper_index);
    struct lua_ring *r = sc_new(L, LUA_RING, sizeof(*r), 1);

    *r = *ring;
    r->owner = sc_owned_ref(ring->owner);
    lua_pushvalue(L, keeper_index);
    lua_setiuservalue(L, -2, 1);
}

static int l_ring_gc(lua_State *L)
{
    struct lua_ring *r = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&r->owner));
    return 0;
}

static int l_slot_gc(lua_State *L)
{
    struct lua_slot *s = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&s->ring.owner));
    return 0;
}

static uint8_t *buffer(lua_State *L, const struct lua_ring *r, lua_Integer index)
{
    if (index < 0 || index >= r->buf_total) {
        luaL_error(L, "there are buffers 0 to %d, not %I", (int)r->buf_total - 1, index);
    }
    return r->buf_base + (uint64_t)index * r->buf_size;
}

/* ring:buf(index[, len]) -> bytes; ring:set_buf(index, bytes[, offset]) */
static int l_buf(lua_State *L)
{
    struct lua_ring *r = check(L);
    const uint8_t *bytes = buffer(L, r, luaL_checkinteger(L, 2));
    lua_Integer len = luaL_optinteger(L, 3, r->buf_size);

    luaL_argcheck(L, len >= 0 && len <= r->buf_size, 3, "longer than a buffer");
    lua_pushlstring(L, (const char *)bytes, (size_t)len);
    return 1;
}

static int l_set_buf(lua_State *L)
{
    struct lua_ring *r = check(L);
    uint8_t *to = buffer(L, r, luaL_checkinteger(L, 2));
    size_t len;
    const char *bytes = luaL_checklstring(L, 3, &len);
    lua_Integer offset = luaL_optinteger(L, 4, 0);

    luaL_argcheck(L, offset >= 0 && (uint64_t)offset + len <= r->buf_size, 3,
                  "does not fit the buffer");
    memcpy(to + offset, bytes, len);
    return 0;
}

static int l_space(lua_State *L)
{
    const struct lua_ring *r = check(L);
    uint32_t head = atomic_load(&r->ring->head), tail = atomic_load(&r->ring->tail);

    lua_pushinteger(L, tail >= head ? (lua_Integer)tail - head
                                    : (lua_Integer)tail + r->num_slots - head);
    return 1;
}

static const luaL_Reg methods[] = {
    {"buf", l_buf}, {"set_buf", l_set_buf}, {"space", l_space}, {NULL, NULL}};

static _Atomic uint32_t *index_field(struct netmap_ring *ring, const char *name)
{
    return strcmp(name, "head") == 0    ? &ring->head
           : strcmp(name, "cur") == 0   ? &ring->cur
           : strcmp(name, "tail") == 0  ? &ring->tail
           : strcmp(name, "flags") == 0 ? &ring->flags
                                        : NULL;
}

static int no_field(lua_State *L, const char *what, const char *const *names, size_t n,
                    const char *name)
{
    const char *near = pci_nearest_name(name, names, n);

    return luaL_error(L, "a %s has no '%s'%s%s%s", what, name, near ? "; did you mean '" : "",
                      near ? near : "", near ? "'?" : "");
}

static int l_ring_index(lua_State *L)
{
    static const char *const names[] = {
        "head", "cur", "tail",        "flags",     "buf",     "set_buf", "space",      "num_slots",
        "dir",  "ts",  "nr_buf_size", "buf_total", "buf_ofs", "ringid",  "offset_mask"};
    struct lua_ring *r = check(L);

    if (lua_isinteger(L, 2)) {
        lua_Integer i = lua_tointeger(L, 2);
        if (i < 0 || i >= r->num_slots) {
            return luaL_error(L, "the ring has slots 0 to %d, not %I", (int)r->num_slots - 1, i);
        }
        struct lua_slot *s = sc_new(L, LUA_SLOT, sizeof(*s), 1);
        s->ring = *r;
        s->ring.owner = sc_owned_ref(r->owner);
        s->index = (uint32_t)i;
        lua_pushvalue(L, 1);
        lua_setiuservalue(L, -2, 1);
        return 1;
    }
    const char *name = luaL_checkstring(L, 2);
    for (const luaL_Reg *m = methods; m->name; m++) {
        if (strcmp(m->name, name) == 0) {
            lua_pushcfunction(L, m->func);
            return 1;
        }
    }
    const struct netmap_ring *ring = r->ring;
    const _Atomic uint32_t *shared = index_field(r->ring, name);
    if (shared) {
        lua_pushinteger(L, atomic_load(shared));
    } else if (strcmp(name, "num_slots") == 0) {
        lua_pushinteger(L, ring->num_slots);
    } else if (strcmp(name, "nr_buf_size") == 0) {
        lua_pushinteger(L, ring->nr_buf_size);
    } else if (strcmp(name, "buf_total") == 0) {
        lua_pushinteger(L, r->buf_total);
    } else if (strcmp(name, "buf_ofs") == 0) {
        lua_pushinteger(L, ring->buf_ofs);
    } else if (strcmp(name, "ringid") == 0) {
        lua_pushinteger(L, ring->ringid);
    } else if (strcmp(name, "dir") == 0) {
        lua_pushinteger(L, ring->dir);
    } else if (strcmp(name, "offset_mask") == 0) {
        lua_pushinteger(L, (lua_Integer)ring->offset_mask);
    } else if (strcmp(name, "ts") == 0) { /* seconds since 1970; 0: none yet */
        lua_pushnumber(L, (lua_Number)ring->ts.tv_sec + (lua_Number)ring->ts.tv_usec / 1e6);
    } else {
        return no_field(L, "ring", names, G_N_ELEMENTS(names), name);
    }
    return 1;
}

static int l_ring_newindex(lua_State *L)
{
    static const char *const names[] = {"head", "cur", "tail", "flags"};
    struct lua_ring *r = check(L);
    const char *name = luaL_checkstring(L, 2);
    lua_Integer value = luaL_checkinteger(L, 3);
    _Atomic uint32_t *shared = index_field(r->ring, name);

    if (!shared) {
        return no_field(L, "ring (to assign to)", names, G_N_ELEMENTS(names), name);
    }
    luaL_argcheck(L, value >= 0 && value <= UINT32_MAX, 3, "it has 32 bits");
    atomic_store(shared, (uint32_t)value);
    return 0;
}

static int l_ring_len(lua_State *L)
{
    lua_pushinteger(L, check(L)->num_slots);
    return 1;
}

/* ---- slots ---- */

/* slot:data() -> its bytes; slot:set(bytes) fills its buffer and sets len */
static int l_data(lua_State *L)
{
    const struct lua_slot *s = check_slot(L);
    struct netmap_slot slot = s->ring.ring->slot[s->index];
    const uint8_t *bytes = buffer(L, &s->ring, slot.buf_idx);

    lua_pushlstring(L, (const char *)bytes, MIN(slot.len, s->ring.buf_size));
    return 1;
}

static int l_set(lua_State *L)
{
    const struct lua_slot *s = check_slot(L);
    struct netmap_slot *slot = &s->ring.ring->slot[s->index];
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);

    luaL_argcheck(L, len <= s->ring.buf_size && len <= UINT16_MAX, 2, "does not fit the buffer");
    memcpy(buffer(L, &s->ring, slot->buf_idx), bytes, len);
    slot->len = (uint16_t)len;
    return 0;
}

static int l_slot_index(lua_State *L)
{
    static const char *const names[] = {"buf_idx", "len", "flags", "ptr", "data", "set"};
    const struct lua_slot *s = check_slot(L);
    const struct netmap_slot *slot = &s->ring.ring->slot[s->index];
    const char *name = luaL_checkstring(L, 2);

    if (strcmp(name, "data") == 0) {
        lua_pushcfunction(L, l_data);
    } else if (strcmp(name, "set") == 0) {
        lua_pushcfunction(L, l_set);
    } else if (strcmp(name, "buf_idx") == 0) {
        lua_pushinteger(L, slot->buf_idx);
    } else if (strcmp(name, "len") == 0) {
        lua_pushinteger(L, slot->len);
    } else if (strcmp(name, "flags") == 0) {
        lua_pushinteger(L, slot->flags);
    } else if (strcmp(name, "ptr") == 0) {
        lua_pushinteger(L, (lua_Integer)slot->ptr);
    } else {
        return no_field(L, "slot", names, G_N_ELEMENTS(names), name);
    }
    return 1;
}

static int l_slot_newindex(lua_State *L)
{
    static const char *const names[] = {"buf_idx", "len", "flags", "ptr"};
    const struct lua_slot *s = check_slot(L);
    struct netmap_slot *slot = &s->ring.ring->slot[s->index];
    const char *name = luaL_checkstring(L, 2);
    uint64_t value = (uint64_t)luaL_checkinteger(L, 3);
    uint64_t max = UINT16_MAX;

    if (strcmp(name, "ptr") == 0) {
        slot->ptr = value;
        return 0;
    }
    if (strcmp(name, "buf_idx") == 0) {
        max = UINT32_MAX;
    }
    luaL_argcheck(L, value <= max, 3, "too wide for the field");
    if (strcmp(name, "buf_idx") == 0) {
        slot->buf_idx = (uint32_t)value;
    } else if (strcmp(name, "len") == 0) {
        slot->len = (uint16_t)value;
    } else if (strcmp(name, "flags") == 0) {
        slot->flags = (uint16_t)value;
    } else {
        return no_field(L, "slot (to assign to)", names, G_N_ELEMENTS(names), name);
    }
    return 0;
}

void sc_open_ring(lua_State *L)
{
    static const luaL_Reg ring_meta[] = {{"__index", l_ring_index},
                                         {"__newindex", l_ring_newindex},
                                         {"__len", l_ring_len},
                                         {"__gc", l_ring_gc},
                                         {NULL, NULL}};
    static const luaL_Reg slot_meta[] = {{"__index", l_slot_index},
                                         {"__newindex", l_slot_newindex},
                                         {"__gc", l_slot_gc},
                                         {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};

    sc_type(L, LUA_RING, none, ring_meta);
    sc_type(L, LUA_SLOT, none, slot_meta);
}
