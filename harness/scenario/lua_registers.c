/*
 * Registers as Lua fields: blocks, elements of repeating blocks, arrays of registers, bit fields.
 *   net.common.device_status = 0      net.common.bits.device_status.driver_ok = 1
 *   net.msix_table[2].message_data    net.device.mac[0]
 */
#include "harness/scenario/lua_scenario.h"

#include <inttypes.h>
#include <string.h>

enum view_kind {
    VIEW_BLOCK,  /* registers by name; elements by number if the block repeats */
    VIEW_BITS,   /* the same, giving VIEW_FIELDS */
    VIEW_FIELDS, /* bit fields of one register */
    VIEW_ARRAY,  /* elements of a register that repeats */
};

struct view {
    struct lua_device *dev; /* kept alive by uservalue 1 */
    struct sc_stamp stamp;
    enum view_kind kind;
    struct pci_device *pci;
    const struct pci_block *block;
    const struct abi_reg *reg;
    int64_t element; /* -1: none chosen */
};

static int l_read(lua_State *L), l_write(lua_State *L), l_values(lua_State *L), l_set(lua_State *L),
    l_names(lua_State *L), l_where(lua_State *L);

static const luaL_Reg methods[] = {
    {"read", l_read},   {"write", l_write}, {"values", l_values}, {"set", l_set},
    {"names", l_names}, {"where", l_where}, {NULL, NULL},
};

static struct view *check(lua_State *L)
{
    struct view *v = sc_check(L, 1, LUA_VIEW);

    sc_need_stamp(L, &v->stamp, "this register block");
    return v;
}

static struct view *push_view(lua_State *L, int device_index, const struct view *like)
{
    device_index = lua_absindex(L, device_index);
    struct view *v = sc_new(L, LUA_VIEW, sizeof(*v), 1);
    *v = *like;
    lua_pushvalue(L, device_index);
    lua_setiuservalue(L, -2, 1);
    return v;
}

void sc_push_block(lua_State *L, struct lua_device *dev, int device_index, struct pci_block *block)
{
    struct pci_device *pci = sc_pci(L, dev);
    struct view v = {dev, sc_stamp(dev->machine), VIEW_BLOCK, pci, block, NULL, -1};

    push_view(L, device_index, &v);
}

/* A view derived from the one at index 1. */
static int derive(lua_State *L, struct view v)
{
    lua_getiuservalue(L, 1, 1);
    push_view(L, -1, &v);
    return 1;
}

static const struct abi_reg *find_register(lua_State *L, const struct view *v, const char *name)
{
    GError *error = NULL;
    const struct abi_reg *reg = pci_find_register(v->block, name, &error);

    if (!reg) {
        sc_raise(L, error);
    }
    if (v->block->abi->stride && v->element < 0) {
        luaL_error(L, "%s repeats: choose one with %s[0] to %s[%d]", v->block->name, v->block->name,
                   v->block->name, (int)v->block->count - 1);
    }
    return reg;
}

static uint64_t read_register(lua_State *L, const struct view *v, const struct abi_reg *reg)
{
    uint64_t value;
    GError *error = NULL;

    if (!pci_reg_read(v->pci, v->block, reg, (uint32_t)MAX(v->element, 0), &value, &error)) {
        sc_raise(L, error);
    }
    return value;
}

static void write_register(lua_State *L, const struct view *v, const struct abi_reg *reg,
                           uint64_t value)
{
    GError *error = NULL;

    if (!pci_reg_write(v->pci, v->block, reg, (uint32_t)MAX(v->element, 0), value, &error)) {
        sc_raise(L, error);
    }
}

static uint64_t check_value(lua_State *L, int arg, const struct view *v, const char *name)
{
    int is_integer;
    lua_Integer value = lua_tointegerx(L, arg, &is_integer);

    if (lua_isboolean(L, arg)) {
        return (uint64_t)lua_toboolean(L, arg);
    }
    if (!is_integer) {
        luaL_error(L, "%s.%s takes an integer, not %s", v->block->name, name,
                   luaL_tolstring(L, arg, NULL));
    }
    return (uint64_t)value;
}

/* An offset or a width: what does not fit is refused, not cut off. */
static uint32_t check_u32(lua_State *L, int arg)
{
    lua_Integer value = luaL_checkinteger(L, arg);

    luaL_argcheck(L, value >= 0 && value <= UINT32_MAX, arg, "it has 32 bits");
    return (uint32_t)value;
}

static const struct abi_field *find_field(lua_State *L, const struct view *v, const char *name)
{
    GError *error = NULL;
    const struct abi_field *f = pci_find_field(v->reg, name, &error);

    if (!f) {
        sc_raise(L, error);
    }
    return f;
}

static uint64_t field_mask(const struct abi_field *f)
{
    return f->bits >= 64 ? UINT64_MAX : (UINT64_C(1) << f->bits) - 1;
}

static struct view at_element(lua_State *L, const struct view *v, uint32_t count)
{
    struct view e = *v;

    e.element = lua_tointeger(L, 2);
    if (e.element < 0 || e.element >= count) {
        luaL_error(L, "%s%s%s has elements 0 to %d, not %I", v->block->name, v->reg ? "." : "",
                   v->reg ? v->reg->name : "", (int)count - 1, (lua_Integer)e.element);
    }
    return e;
}

/* The register or method meant by a name that is neither; raises. */
static void check_name(lua_State *L, const struct view *v, const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autoptr(GError) unknown = NULL;

    if (pci_find_register(v->block, name, &unknown)) {
        return;
    }
    for (unsigned i = 0; i < v->block->abi->n_regs; i++) {
        g_ptr_array_add(names, (char *)(uintptr_t)v->block->abi->regs[i].name);
    }
    for (const luaL_Reg *m = methods; m->name; m++) {
        g_ptr_array_add(names, (char *)(uintptr_t)m->name);
    }
    g_ptr_array_add(names, (char *)(uintptr_t) "bits");
    const char *near = pci_nearest_name(name, (const char *const *)names->pdata, names->len);
    if (near) {
        GError *error =
            g_error_new(PCI_ERROR, PCI_ERROR_NOT_FOUND,
                        "%s has no register '%s'; did you mean '%s'?", v->block->name, name, near);
        g_clear_pointer(&names, g_ptr_array_unref);
        g_clear_error(&unknown);
        sc_raise(L, error);
    }
}

static int l_index(lua_State *L)
{
    struct view *v = check(L);

    if (lua_isinteger(L, 2)) {
        if (v->kind == VIEW_ARRAY) {
            struct view e = at_element(L, v, v->reg->count);
            lua_pushinteger(L, (lua_Integer)read_register(L, &e, v->reg));
            return 1;
        }
        if (v->kind == VIEW_FIELDS && v->reg->count > 1) {
            return derive(L, at_element(L, v, v->reg->count));
        }
        if (v->block->abi->stride && !v->reg) {
            return derive(L, at_element(L, v, v->block->count));
        }
        return luaL_error(L, "%s does not repeat", v->reg ? v->reg->name : v->block->name);
    }
    const char *name = luaL_checkstring(L, 2);
    if (v->kind == VIEW_FIELDS) {
        const struct abi_field *f = find_field(L, v, name);
        lua_pushinteger(L, (lua_Integer)((read_register(L, v, v->reg) >> f->lsb) & field_mask(f)));
        return 1;
    }
    if (v->kind == VIEW_BLOCK) {
        luaL_getmetafield(L, 1, "methods");
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) != LUA_TNIL) {
            return 1;
        }
        if (strcmp(name, "bits") == 0) {
            struct view bits = *v;
            bits.kind = VIEW_BITS;
            return derive(L, bits);
        }
        check_name(L, v, name);
    }
    if (v->kind == VIEW_ARRAY) {
        return luaL_error(L, "%s.%s is an array: index it with 0 to %d", v->block->name,
                          v->reg->name, (int)v->reg->count - 1);
    }
    struct view r = *v;
    r.reg = find_register(L, v, name);
    if (v->kind == VIEW_BITS) {
        r.kind = VIEW_FIELDS;
        return derive(L, r);
    }
    if (r.reg->count > 1) {
        r.kind = VIEW_ARRAY;
        return derive(L, r);
    }
    lua_pushinteger(L, (lua_Integer)read_register(L, v, r.reg));
    return 1;
}

static int l_newindex(lua_State *L)
{
    struct view *v = check(L);

    if (lua_isinteger(L, 2)) {
        if (v->kind != VIEW_ARRAY) {
            return luaL_error(L, "%s[%I] has registers: assign to one of them", v->block->name,
                              lua_tointeger(L, 2));
        }
        struct view e = at_element(L, v, v->reg->count);
        write_register(L, &e, v->reg, check_value(L, 3, v, v->reg->name));
        return 0;
    }
    const char *name = luaL_checkstring(L, 2);
    if (v->kind == VIEW_FIELDS) {
        const struct abi_field *f = find_field(L, v, name);
        uint64_t value = check_value(L, 3, v, v->reg->name);
        if (value & ~field_mask(f)) {
            char hex[19];
            g_snprintf(hex, sizeof(hex), "0x%" PRIx64, value);
            return luaL_error(L, "value %s is too wide for %s.%s, which has %d bit%s", hex,
                              v->reg->name, f->name, (int)f->bits, f->bits == 1 ? "" : "s");
        }
        uint64_t old = read_register(L, v, v->reg);
        write_register(L, v, v->reg, (old & ~(field_mask(f) << f->lsb)) | value << f->lsb);
        return 0;
    }
    if (v->kind != VIEW_BLOCK) {
        return luaL_error(L, "choose a bit field of %s to assign to", name);
    }
    const struct abi_reg *reg = find_register(L, v, name);
    if (reg->count > 1) {
        return luaL_error(L, "%s.%s is an array: assign to its elements", v->block->name, name);
    }
    write_register(L, v, reg, check_value(L, 3, v, name));
    return 0;
}

static int l_len(lua_State *L)
{
    struct view *v = check(L);

    lua_pushinteger(L, v->kind == VIEW_ARRAY   ? v->reg->count
                       : v->block->abi->stride ? (lua_Integer)v->block->count
                                               : v->block->abi->n_regs);
    return 1;
}

/* block:read(offset, width), block:write(offset, width, value): whatever is there */
static int l_read(lua_State *L)
{
    struct view *v = check(L);
    uint64_t value;
    GError *error = NULL;

    if (!pci_block_read(v->pci, v->block, check_u32(L, 2), check_u32(L, 3), &value, &error)) {
        return sc_raise(L, error);
    }
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

static int l_write(lua_State *L)
{
    struct view *v = check(L);
    GError *error = NULL;

    if (!pci_block_write(v->pci, v->block, check_u32(L, 2), check_u32(L, 3),
                         (uint64_t)luaL_checkinteger(L, 4), &error)) {
        return sc_raise(L, error);
    }
    return 0;
}

/* block:values() -> { name = value } of all registers that can be read without an effect */
static int l_values(lua_State *L)
{
    struct view *v = check(L);

    if (v->block->abi->stride && v->element < 0) {
        return luaL_error(L, "%s repeats: choose an element", v->block->name);
    }
    lua_newtable(L);
    for (unsigned i = 0; i < v->block->abi->n_regs; i++) {
        const struct abi_reg *reg = &v->block->abi->regs[i];
        if (reg->access == ABI_WO || reg->access == ABI_RC || reg->count > 1) {
            continue;
        }
        lua_pushinteger(L, (lua_Integer)read_register(L, v, reg));
        lua_setfield(L, -2, reg->name);
    }
    return 1;
}

/* block:set { name = value, ... }, in the order of the register table */
static int l_set(lua_State *L)
{
    struct view *v = check(L);

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 2)) { /* all names first: nothing is written if one is wrong */
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        find_register(L, v, luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    for (unsigned i = 0; i < v->block->abi->n_regs; i++) {
        const struct abi_reg *reg = &v->block->abi->regs[i];
        if (lua_getfield(L, 2, reg->name) != LUA_TNIL) {
            write_register(L, v, reg, check_value(L, lua_gettop(L), v, reg->name));
        }
        lua_pop(L, 1);
    }
    return 0;
}

/* block:names() -> the registers' names in order */
static int l_names(lua_State *L)
{
    struct view *v = check(L);

    lua_newtable(L);
    for (unsigned i = 0; i < v->block->abi->n_regs; i++) {
        lua_pushstring(L, v->block->abi->regs[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* block:where() -> address in its space ("config", "io", "mem"), bytes */
static int l_where(lua_State *L)
{
    struct view *v = check(L);
    const struct pci_bar *bar = &v->pci->bars[v->block->bar];

    lua_pushinteger(
        L, (lua_Integer)(v->block->in_config ? v->block->offset : bar->base + v->block->offset));
    lua_pushstring(L, v->block->in_config ? "config" : bar->kind == PCI_BAR_IO ? "io" : "mem");
    lua_pushinteger(L, v->block->size);
    return 3;
}

void sc_open_registers(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__index", l_index}, {"__newindex", l_newindex}, {"__len", l_len}, {NULL, NULL}};

    sc_type(L, LUA_VIEW, methods, meta);
}
