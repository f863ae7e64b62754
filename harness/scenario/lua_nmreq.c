/*
 * netmap's control requests as tables: any version, type, name, body and list of options, right or
 * wrong, and what came back. The layouts are those of models/abi/netmap.h, field by field.
 */
#include "harness/scenario/lua_host.h"

#include <errno.h>
#include <string.h>

struct field {
    const char *name;
    uint16_t offset;
    uint8_t width; /* bytes; 0: a string of NETMAP_IFNAMSIZ */
};

struct layout {
    const char *name;
    unsigned type; /* NETMAP_REQ_, or NETMAP_REQ_OPT_ */
    size_t size;   /* 0: no body */
    const struct field *fields;
};

#define F(type, name)                                                                              \
    {                                                                                              \
#name, offsetof(struct type, name), sizeof(((struct type *)NULL)->name)                    \
    }
/* clang-format off */
#define REGISTER_FIELDS(F) F(nr_offset) F(nr_memsize) F(nr_tx_slots) F(nr_rx_slots) F(nr_tx_rings) \
    F(nr_rx_rings) F(nr_host_tx_rings) F(nr_host_rx_rings) F(nr_mem_id) F(nr_ringid) F(nr_mode) \
    F(nr_extra_bufs) F(nr_flags)
#define POOLS_FIELDS(F) F(nr_memsize) F(nr_mem_id) F(nr_if_pool_offset) F(nr_if_pool_objtotal) \
    F(nr_if_pool_objsize) F(nr_ring_pool_offset) F(nr_ring_pool_objtotal) \
    F(nr_ring_pool_objsize) F(nr_buf_pool_offset) F(nr_buf_pool_objtotal) F(nr_buf_pool_objsize)
/* clang-format on */

#define REG(name) F(nmreq_register, name),
static const struct field reg_fields[] = {REGISTER_FIELDS(REG){NULL, 0, 0}};
#define ATTACH_REG(name)                                                                           \
    {#name, offsetof(struct nmreq_vale_attach, reg.name),                                          \
     sizeof(((struct nmreq_register *)NULL)->name)},
static const struct field attach_fields[] = {
    REGISTER_FIELDS(ATTACH_REG) F(nmreq_vale_attach, port_index), {NULL, 0, 0}};
static const struct field info_fields[] = {F(nmreq_port_info_get, nr_memsize),
                                           F(nmreq_port_info_get, nr_tx_slots),
                                           F(nmreq_port_info_get, nr_rx_slots),
                                           F(nmreq_port_info_get, nr_tx_rings),
                                           F(nmreq_port_info_get, nr_rx_rings),
                                           F(nmreq_port_info_get, nr_host_tx_rings),
                                           F(nmreq_port_info_get, nr_host_rx_rings),
                                           F(nmreq_port_info_get, nr_mem_id),
                                           {NULL, 0, 0}};
static const struct field detach_fields[] = {F(nmreq_vale_detach, port_index), {NULL, 0, 0}};
static const struct field list_fields[] = {
    F(nmreq_vale_list, nr_bridge_idx), F(nmreq_vale_list, nr_port_idx), {NULL, 0, 0}};
static const struct field hdr_fields[] = {F(nmreq_port_hdr, nr_hdr_len), {NULL, 0, 0}};
static const struct field newif_fields[] = {
    F(nmreq_vale_newif, nr_tx_slots), F(nmreq_vale_newif, nr_rx_slots),
    F(nmreq_vale_newif, nr_tx_rings), F(nmreq_vale_newif, nr_rx_rings),
    F(nmreq_vale_newif, nr_mem_id),   {NULL, 0, 0}};
static const struct field polling_fields[] = {F(nmreq_vale_polling, nr_mode),
                                              F(nmreq_vale_polling, nr_first_cpu_id),
                                              F(nmreq_vale_polling, nr_num_polling_cpus),
                                              {NULL, 0, 0}};
#define POOL(name) F(nmreq_pools_info, name),
static const struct field pools_fields[] = {POOLS_FIELDS(POOL){NULL, 0, 0}};
static const struct field kloop_fields[] = {F(nmreq_sync_kloop_start, sleep_us), {NULL, 0, 0}};

#define BODY(name, body, fields)                                                                   \
    {                                                                                              \
#name, NETMAP_REQ_##name, sizeof(struct body), fields                                      \
    }
#define EMPTY(name)                                                                                \
    {                                                                                              \
#name, NETMAP_REQ_##name, 0, NULL                                                          \
    }
static const struct layout requests[] = {
    BODY(REGISTER, nmreq_register, reg_fields),
    BODY(PORT_INFO_GET, nmreq_port_info_get, info_fields),
    BODY(VALE_ATTACH, nmreq_vale_attach, attach_fields),
    BODY(VALE_DETACH, nmreq_vale_detach, detach_fields),
    BODY(VALE_LIST, nmreq_vale_list, list_fields),
    BODY(PORT_HDR_SET, nmreq_port_hdr, hdr_fields),
    BODY(PORT_HDR_GET, nmreq_port_hdr, hdr_fields),
    BODY(VALE_NEWIF, nmreq_vale_newif, newif_fields),
    EMPTY(VALE_DELIF),
    BODY(VALE_POLLING_ENABLE, nmreq_vale_polling, polling_fields),
    BODY(VALE_POLLING_DISABLE, nmreq_vale_polling, polling_fields),
    BODY(POOLS_INFO_GET, nmreq_pools_info, pools_fields),
    BODY(SYNC_KLOOP_START, nmreq_sync_kloop_start, kloop_fields),
    EMPTY(SYNC_KLOOP_STOP),
    EMPTY(CSB_ENABLE)};

#define OPTION_FIELDS                                                                              \
    F(nmreq_option, nro_next), F(nmreq_option, nro_reqtype), F(nmreq_option, nro_status),          \
        F(nmreq_option, nro_size)
static const struct field option_fields[] = {OPTION_FIELDS, {NULL, 0, 0}};
#define EXT_POOL(name)                                                                             \
    {#name, offsetof(struct nmreq_opt_extmem, nro_info.name),                                      \
     sizeof(((struct nmreq_pools_info *)NULL)->name)},
static const struct field extmem_fields[] = {OPTION_FIELDS, F(nmreq_opt_extmem, nro_usrptr),
                                             POOLS_FIELDS(EXT_POOL){NULL, 0, 0}};
static const struct field csb_fields[] = {
    OPTION_FIELDS, F(nmreq_opt_csb, csb_atok), F(nmreq_opt_csb, csb_ktoa), {NULL, 0, 0}};
static const struct field mode_fields[] = {
    OPTION_FIELDS, F(nmreq_opt_sync_kloop_mode, mode), {NULL, 0, 0}};
static const struct field offsets_fields[] = {OPTION_FIELDS,
                                              F(nmreq_opt_offsets, nro_max_offset),
                                              F(nmreq_opt_offsets, nro_initial_offset),
                                              F(nmreq_opt_offsets, nro_offset_bits),
                                              F(nmreq_opt_offsets, nro_tx_align),
                                              F(nmreq_opt_offsets, nro_min_gap),
                                              {NULL, 0, 0}};
#define OPTION(name, body, fields)                                                                 \
    {                                                                                              \
#name, NETMAP_REQ_OPT_##name, sizeof(struct body), fields                                  \
    }
static const struct layout options[] = {
    OPTION(EXTMEM, nmreq_opt_extmem, extmem_fields),
    OPTION(SYNC_KLOOP_EVENTFDS, nmreq_option, option_fields),
    OPTION(CSB, nmreq_opt_csb, csb_fields),
    OPTION(SYNC_KLOOP_MODE, nmreq_opt_sync_kloop_mode, mode_fields),
    OPTION(OFFSETS, nmreq_opt_offsets, offsets_fields),
};

static const struct field legacy_fields[] = {{"nr_name", offsetof(struct nmreq, nr_name), 0},
                                             F(nmreq, nr_version),
                                             F(nmreq, nr_offset),
                                             F(nmreq, nr_memsize),
                                             F(nmreq, nr_tx_slots),
                                             F(nmreq, nr_rx_slots),
                                             F(nmreq, nr_tx_rings),
                                             F(nmreq, nr_rx_rings),
                                             F(nmreq, nr_ringid),
                                             F(nmreq, nr_cmd),
                                             F(nmreq, nr_arg1),
                                             F(nmreq, nr_arg2),
                                             F(nmreq, nr_arg3),
                                             F(nmreq, nr_flags),
                                             {NULL, 0, 0}};

/* ---- errno ---- */

const char *sc_errno_name(int err)
{
    const char *name = err == 0 ? "OK" : strerrorname_np(err);

    return name ? name : "an errno that has no name";
}

int sc_raise_errno(lua_State *L, const char *what, const char *name, int err)
{
    return luaL_error(L, "%s %s: %s (%s)", what, name, sc_errno_name(err), g_strerror(err));
}

/* ---- tables to bytes and back ---- */

static const struct field *find_field(lua_State *L, const struct field *fields, const char *name)
{
    const char *names[32];
    size_t n = 0;

    for (const struct field *f = fields; f && f->name; f++) {
        if (strcmp(f->name, name) == 0) {
            return f;
        }
        names[n++] = f->name;
    }
    const char *near = pci_nearest_name(name, names, n);
    luaL_error(L, "the request has no field '%s'%s%s%s", name, near ? "; did you mean '" : "",
               near ? near : "", near ? "'?" : "");
    return NULL;
}

/* The table at `table` into `bytes`; keys of `ours` (NULL-terminated) are somebody else's. */
static void encode(lua_State *L, int table, const struct field *fields, uint8_t *bytes,
                   const char *const *ours)
{
    lua_pushnil(L);
    while (lua_next(L, table)) {
        bool is_ours = false;
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "fields of a request have names; '%s' is none",
                       luaL_tolstring(L, -2, NULL));
        }
        const char *name = lua_tostring(L, -2);
        for (size_t i = 0; ours && ours[i] && !is_ours; i++) {
            is_ours = strcmp(ours[i], name) == 0;
        }
        if (!is_ours) {
            const struct field *f = find_field(L, fields, name);
            if (f->width == 0) {
                size_t len;
                const char *text = luaL_checklstring(L, -1, &len);
                memcpy(bytes + f->offset, text, MIN(len, NETMAP_IFNAMSIZ));
            } else {
                int is_integer;
                uint64_t value = (uint64_t)lua_tointegerx(L, -1, &is_integer);
                if (!is_integer || (f->width < 8 && value >> (8 * f->width) != 0)) {
                    luaL_error(L, "%s has %d bits: %s is not possible", name, 8 * f->width,
                               luaL_tolstring(L, -1, NULL));
                }
                memcpy(bytes + f->offset, &value, f->width);
            }
        }
        lua_pop(L, 1);
    }
}

static void push_decoded(lua_State *L, const struct field *fields, const uint8_t *bytes)
{
    lua_newtable(L);
    for (const struct field *f = fields; f && f->name; f++) {
        uint64_t value = 0;
        if (f->width == 0) {
            const char *text = (const char *)bytes + f->offset;
            lua_pushlstring(L, text, strnlen(text, NETMAP_IFNAMSIZ));
        } else {
            memcpy(&value, bytes + f->offset, f->width);
            lua_pushinteger(L, (lua_Integer)value);
        }
        lua_setfield(L, -2, f->name);
    }
}

/* The layout that the field `type` of the table names or numbers; NULL (and *number) for a number
 * that is none. */
static const struct layout *find_layout(lua_State *L, int table, const struct layout *layouts,
                                        size_t n, lua_Integer *number)
{
    const struct layout *found = NULL;

    if (lua_getfield(L, table, "type") == LUA_TSTRING) {
        const char *names[32];
        for (size_t i = 0; i < n; i++) {
            names[i] = layouts[i].name;
            if (strcmp(layouts[i].name, lua_tostring(L, -1)) == 0) {
                found = &layouts[i];
            }
        }
        if (!found) {
            const char *near = pci_nearest_name(lua_tostring(L, -1), names, n);
            luaL_error(L, "there is no request or option '%s'%s%s%s", lua_tostring(L, -1),
                       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        }
        *number = found->type;
    } else {
        int is_integer;
        *number = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer) {
            luaL_error(L, "'type' is a name or a number, not %s", luaL_tolstring(L, -1, NULL));
        }
        for (size_t i = 0; i < n; i++) {
            found = layouts[i].type == (unsigned)*number ? &layouts[i] : found;
        }
    }
    lua_pop(L, 1);
    return found;
}

/* ---- options ---- */

/* One option into memory that lives as long as the userdata this leaves on the stack. */
static uint8_t *make_option(lua_State *L, int table)
{
    static const char *const ours[] = {"type", "size", "next", "bytes", NULL};
    lua_Integer number;
    const struct layout *l = find_layout(L, table, options, G_N_ELEMENTS(options), &number);
    size_t size = l ? l->size : sizeof(struct nmreq_option), n_bytes = 0;

    lua_getfield(L, table, "bytes"); /* behind the header */
    const char *more = lua_tolstring(L, -1, &n_bytes);
    uint8_t *bytes = lua_newuserdatauv(L, MAX(size, sizeof(struct nmreq_option) + n_bytes), 0);
    memset(bytes, 0, size);
    encode(L, table, l ? l->fields : option_fields, bytes, ours);
    if (more) {
        memcpy(bytes + sizeof(struct nmreq_option), more, n_bytes);
    }
    struct nmreq_option *o = (struct nmreq_option *)(void *)bytes;
    o->nro_reqtype = (uint32_t)number;
    o->nro_size =
        (uint64_t)sc_field_integer(L, table, "size", (lua_Integer)o->nro_size, 0, LUA_MAXINTEGER);
    if (more && o->nro_size == 0) {
        o->nro_size = sizeof(struct nmreq_option) + n_bytes;
    }
    return bytes;
}

enum { MAX_OPTIONS = 64 };

/* Links the options of the list at the top; userdata are left on the stack. */
static unsigned link_options(lua_State *L, int list, uint8_t *made[MAX_OPTIONS], uint64_t *first)
{
    lua_Integer n = luaL_len(L, list);

    luaL_argcheck(L, n <= MAX_OPTIONS, 2, "at most 64 options");
    luaL_checkstack(L, 4 * (int)n + 16, "too many options");
    for (lua_Integer i = 0; i < n; i++) {
        if (lua_geti(L, list, i + 1) != LUA_TTABLE) {
            luaL_error(L, "an option is a table with a type");
        }
        made[i] = make_option(L, lua_gettop(L));
    }
    *first = n ? (uint64_t)(uintptr_t)made[0] : 0;
    for (lua_Integer i = 0; i < n; i++) {
        struct nmreq_option *o = (struct nmreq_option *)(void *)made[i];
        lua_geti(L, list, i + 1);
        /* `next`: another of the list than the following one, from 1; or an address */
        if (lua_getfield(L, -1, "next") == LUA_TNIL) {
            o->nro_next = i + 1 < n ? (uint64_t)(uintptr_t)made[i + 1] : 0;
        } else {
            lua_Integer next = luaL_checkinteger(L, -1);
            o->nro_next =
                next >= 1 && next <= n ? (uint64_t)(uintptr_t)made[next - 1] : (uint64_t)next;
        }
        lua_pop(L, 2);
    }
    return (unsigned)n;
}

static void push_options(lua_State *L, uint8_t *const *made, unsigned n)
{
    lua_createtable(L, (int)n, 0);
    for (unsigned i = 0; i < n; i++) {
        const struct nmreq_option *o = (const struct nmreq_option *)(const void *)made[i];
        const struct field *fields = option_fields;
        for (size_t k = 0; k < G_N_ELEMENTS(options); k++) {
            fields = options[k].type == o->nro_reqtype ? options[k].fields : fields;
        }
        push_decoded(L, fields, made[i]);
        lua_pushstring(L, sc_errno_name((int)o->nro_status));
        lua_setfield(L, -2, "status");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

/* ---- requests ---- */

/* What nr_body is to be: a table of fields (left out: zeroes), bytes, an address, or false. */
static uint64_t make_body(lua_State *L, int table, const struct layout *l, uint8_t **decodable)
{
    size_t size = l ? l->size : 0, len;
    int type = lua_getfield(L, table, "body");

    if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1)) {
        return 0;
    }
    if (type == LUA_TNUMBER) {
        return (uint64_t)luaL_checkinteger(L, -1);
    }
    if (type == LUA_TSTRING) {
        const char *text = lua_tolstring(L, -1, &len);
        uint8_t *bytes = lua_newuserdatauv(L, MAX(len, 1), 0);
        memcpy(bytes, text, len);
        return (uint64_t)(uintptr_t)bytes;
    }
    if (type != LUA_TNIL && type != LUA_TTABLE) {
        luaL_error(L, "'body' is a table of fields, bytes, an address or false, not %s",
                   luaL_typename(L, -1));
    }
    if (size == 0) {
        if (type == LUA_TTABLE) {
            luaL_error(L, "this request has no body: give bytes to send one all the same");
        }
        return 0;
    }
    int fields = lua_gettop(L);
    *decodable = lua_newuserdatauv(L, size, 0);
    memset(*decodable, 0, size);
    if (type == LUA_TTABLE) {
        encode(L, fields, l->fields, *decodable, NULL);
    }
    return (uint64_t)(uintptr_t)*decodable;
}

int sc_request(lua_State *L, struct nm_file *file, int table)
{
    static const char *const known[] = {"type", "version", "reserved", "name",
                                        "body", "options", NULL};
    struct nmreq_header header = {0};
    uint8_t *made[MAX_OPTIONS] = {NULL}, *decodable = NULL;
    unsigned n_options = 0;
    lua_Integer number;

    luaL_checktype(L, table, LUA_TTABLE);
    sc_check_fields(L, table, known);
    const struct layout *l = find_layout(L, table, requests, G_N_ELEMENTS(requests), &number);
    luaL_argcheck(L, number >= 0 && number <= UINT16_MAX, table, "a type has 16 bits");
    header.nr_reqtype = (uint16_t)number;
    header.nr_version = (uint16_t)sc_field_integer(L, table, "version", NETMAP_API, 0, UINT16_MAX);
    header.nr_reserved = (uint32_t)sc_field_integer(L, table, "reserved", 0, 0, UINT32_MAX);
    const char *name = sc_field_string(L, table, "name");
    memcpy(header.nr_name, name ? name : "", name ? MIN(strlen(name), sizeof(header.nr_name)) : 0);
    header.nr_body = make_body(L, table, l, &decodable);
    int type = lua_getfield(L, table, "options");
    if (type == LUA_TNUMBER) {
        header.nr_options = (uint64_t)luaL_checkinteger(L, -1);
    } else if (type != LUA_TNIL) {
        luaL_checktype(L, -1, LUA_TTABLE);
        n_options = link_options(L, lua_gettop(L), made, &header.nr_options);
    }
    int err = nm_ctrl(file, &header);
    lua_pushstring(L, sc_errno_name(err));
    if (decodable) {
        push_decoded(L, l->fields, decodable);
    } else {
        lua_newtable(L);
    }
    push_options(L, made, n_options);
    return 3;
}

/* { cmd = "NIOCREGIF"|"NIOCGINFO"|number, nr_name=, ... } */
int sc_legacy_request(lua_State *L, struct nm_file *file, int table)
{
    static const char *const ours[] = {"cmd", NULL};
    struct nmreq request = {.nr_version = NETMAP_API};
    uint32_t cmd;

    luaL_checktype(L, table, LUA_TTABLE);
    if (lua_getfield(L, table, "cmd") == LUA_TNUMBER) {
        cmd = (uint32_t)luaL_checkinteger(L, -1);
    } else {
        const char *text = luaL_checkstring(L, -1);
        cmd = strcmp(text, "NIOCREGIF") == 0 ? NIOCREGIF : NIOCGINFO;
        if (cmd == NIOCGINFO && strcmp(text, "NIOCGINFO") != 0) {
            return luaL_error(L, "'cmd' is 'NIOCREGIF', 'NIOCGINFO' or a number, not '%s'", text);
        }
    }
    encode(L, table, legacy_fields, (uint8_t *)&request, ours);
    int err = nm_legacy(file, cmd, &request);
    lua_pushstring(L, sc_errno_name(err));
    push_decoded(L, legacy_fields, (const uint8_t *)&request);
    return 2;
}

/* host:NAME(port[, fields]) -> the body as answered. upvalue 1: index in `requests` */
static int l_request(lua_State *L)
{
    const struct layout *l = &requests[lua_tointeger(L, lua_upvalueindex(1))];
    struct nm_host *host = sc_netmap(L, sc_check(L, 1, LUA_NETMAP));
    struct nmreq_header header = {.nr_version = NETMAP_API, .nr_reqtype = (uint16_t)l->type};
    const char *name = luaL_optstring(L, 2, "");
    uint8_t body[128] = {0};

    G_STATIC_ASSERT(sizeof(body) >= sizeof(struct nmreq_vale_attach));
    g_strlcpy(header.nr_name, name, sizeof(header.nr_name));
    header.nr_body = l->size ? (uint64_t)(uintptr_t)body : 0;
    if (l->type == NETMAP_REQ_VALE_ATTACH) {
        ((struct nmreq_vale_attach *)(void *)body)->reg.nr_mode = NR_REG_ALL_NIC;
    }
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        encode(L, 3, l->fields, body, NULL);
    }
    struct nm_file *file = nm_open(host);
    int err = nm_ctrl(file, &header);
    nm_close(file);
    if (err != 0) {
        return sc_raise_errno(L, l->name, name, err);
    }
    push_decoded(L, l->fields, body);
    if (l->type == NETMAP_REQ_VALE_LIST) { /* answers with a name, too */
        lua_pushstring(L, header.nr_name);
        lua_setfield(L, -2, "name");
    }
    return 1;
}

void sc_push_request_methods(lua_State *L, int methods)
{
    static const struct {
        const char *method;
        unsigned type;
    } names[] = {
        {"attach", NETMAP_REQ_VALE_ATTACH},
        {"detach", NETMAP_REQ_VALE_DETACH},
        {"list", NETMAP_REQ_VALE_LIST},
        {"set_header", NETMAP_REQ_PORT_HDR_SET},
        {"header", NETMAP_REQ_PORT_HDR_GET},
        {"newif", NETMAP_REQ_VALE_NEWIF},
        {"delif", NETMAP_REQ_VALE_DELIF},
        {"polling_on", NETMAP_REQ_VALE_POLLING_ENABLE},
        {"polling_off", NETMAP_REQ_VALE_POLLING_DISABLE},
        {"port_info", NETMAP_REQ_PORT_INFO_GET},
        {"pools_info", NETMAP_REQ_POOLS_INFO_GET},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        size_t k = 0;
        while (requests[k].type != names[i].type) {
            k++;
        }
        lua_pushinteger(L, (lua_Integer)k);
        lua_pushcclosure(L, l_request, 1);
        lua_setfield(L, methods, names[i].method);
    }
}
