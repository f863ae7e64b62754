/*
 * Open files of a netmap host: registered ports with their rings, syncs and poll, and frames copied
 * in and out of them. Frames are strings; on ports with a vnet header they begin with it.
 */
#include "harness/scenario/lua_host.h"
#include "models/netmap/nm_kern.h"

#include <poll.h>
#include <string.h>

enum { MAX_BURST = 4096, DEFAULT_WAIT_MS = 2000 };

struct lua_rings {
    struct lua_port port; /* the handle is kept alive by uservalue 1 */
    enum nm_txrx direction;
};

static struct nm_file *check(lua_State *L)
{
    const struct lua_port *p = sc_check(L, 1, LUA_PORT);

    return sc_owned_data(L, p->file);
}

static struct nm_file *check_registered(lua_State *L)
{
    struct nm_file *file = check(L);

    if (!nm_file_if(file)) {
        luaL_error(L, "this file is not registered with a port");
    }
    return file;
}

static void free_file(void *data)
{
    nm_close(data);
}

struct nm_file *sc_push_port(lua_State *L, struct lua_netmap *host, int host_index)
{
    host_index = lua_absindex(L, host_index);
    struct nm_host *h = sc_netmap(L, host);
    struct lua_port *p = sc_new(L, LUA_PORT, sizeof(*p), 1);
    lua_pushvalue(L, host_index);
    lua_setiuservalue(L, -2, 1);
    struct nm_file *file = nm_open(h);
    p->host = host;
    p->file = sc_own(sc_of(L), NULL, "this port", free_file, file);
    return file;
}

static int l_gc(lua_State *L)
{
    struct lua_port *p = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&p->file));
    return 0;
}

static int l_close(lua_State *L)
{
    check(L);
    sc_owned_end(sc_of(L), ((struct lua_port *)lua_touserdata(L, 1))->file);
    return 0;
}

/* ---- rings ---- */

/* Ring i of the direction in the order of ring_ofs (host rings last), or NULL: not bound. Counts
 * come from the kernel's side, not from shared memory. */
static struct netmap_ring *ring_at(const struct nm_file *file, enum nm_txrx t, unsigned i)
{
    bool is_bound = i >= file->first[t] && i < file->last[t];

    return is_bound ? file->na->krings[t][i].ring : NULL;
}

/* Of a ring that is bound. */
static struct lua_ring describe(const struct nm_file *file, enum nm_txrx t, unsigned i)
{
    struct netmap_ring *ring = ring_at(file, t, i);

    g_assert(ring);
    return (struct lua_ring){
        .ring = ring,
        .buf_base = nm_mem_buf_base(file->mem),
        .num_slots = file->na->krings[t][i].num_slots,
        .buf_size = nm_mem_buf_size(file->mem),
        .buf_total = nm_mem_buf_total(file->mem),
    };
}

static struct nm_file *check_rings(lua_State *L)
{
    const struct lua_rings *r = sc_check(L, 1, LUA_RINGS);

    return sc_owned_data(L, r->port.file);
}

static int l_rings_index(lua_State *L)
{
    const struct nm_file *file = check_rings(L);
    const struct lua_rings *r = lua_touserdata(L, 1);
    lua_Integer i = luaL_checkinteger(L, 2);

    luaL_argcheck(L, i >= 0 && i < UINT16_MAX, 2, "rings are counted from 0");
    if (!ring_at(file, r->direction, (unsigned)i)) {
        lua_pushnil(L);
        return 1;
    }
    struct lua_ring ring = describe(file, r->direction, (unsigned)i);
    ring.owner = r->port.file;
    lua_getiuservalue(L, 1, 1);
    sc_push_ring(L, -1, &ring);
    return 1;
}

static int l_rings_len(lua_State *L)
{
    const struct nm_file *file = check_rings(L);
    const struct lua_rings *r = lua_touserdata(L, 1);

    lua_pushinteger(L, (lua_Integer)file->last[r->direction] - file->first[r->direction]);
    return 1;
}

static int l_rings_gc(lua_State *L)
{
    struct lua_rings *r = lua_touserdata(L, 1);

    sc_owned_unref(g_steal_pointer(&r->port.file));
    return 0;
}

static void push_rings(lua_State *L, enum nm_txrx direction)
{
    const struct lua_port *p = lua_touserdata(L, 1);
    struct lua_rings *r = sc_new(L, LUA_RINGS, sizeof(*r), 1);

    r->port = *p;
    r->port.file = sc_owned_ref(p->file);
    r->direction = direction;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
}

/* port.tx, port.rx, or a method */
static int l_index(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2);

    if (strcmp(name, "tx") == 0 || strcmp(name, "rx") == 0) {
        check_registered(L);
        push_rings(L, name[0] == 't' ? NM_TX : NM_RX);
        return 1;
    }
    luaL_getmetafield(L, 1, "methods");
    lua_getfield(L, -1, name); /* what is no method is an error that says so */
    return 1;
}

/* ---- frames ---- */

/* One frame into free slots, in as many as it takes; false: no room. */
static bool put_frame(const struct lua_ring *r, const char *bytes, size_t len)
{
    struct netmap_ring *ring = r->ring;
    uint32_t n = r->num_slots, head = atomic_load(&ring->head), tail = atomic_load(&ring->tail);
    uint32_t needed = (uint32_t)((len + r->buf_size - 1) / r->buf_size);

    if (head >= n || tail >= n || nm_dist(head, tail, n) < needed) {
        return false;
    }
    for (uint32_t i = 0; i < needed; i++) {
        struct netmap_slot *slot = &ring->slot[head];
        uint32_t index = slot->buf_idx;
        size_t part = MIN(len, r->buf_size);
        if (index >= r->buf_total) {
            return false;
        }
        memcpy(r->buf_base + (uint64_t)index * r->buf_size, bytes, part);
        slot->len = (uint16_t)part;
        slot->flags = i + 1 < needed ? NS_MOREFRAG : 0;
        bytes += part;
        len -= part;
        head = nm_next(head, n);
    }
    atomic_store(&ring->cur, head);
    atomic_store(&ring->head, head);
    return true;
}

/* The first frame that has come whole is pushed, its slots released; false: none. */
static bool take_frame(lua_State *L, const struct lua_ring *r)
{
    struct netmap_ring *ring = r->ring;
    uint32_t n = r->num_slots, head = atomic_load(&ring->head), tail = atomic_load(&ring->tail);
    luaL_Buffer b;
    bool has_more = true;

    if (head >= n || tail >= n || head == tail) {
        return false;
    }
    luaL_buffinit(L, &b);
    while (has_more && head != tail) {
        struct netmap_slot slot = ring->slot[head];
        if (slot.buf_idx < r->buf_total) {
            luaL_addlstring(&b, (const char *)r->buf_base + (uint64_t)slot.buf_idx * r->buf_size,
                            MIN(slot.len, r->buf_size));
        }
        has_more = slot.flags & NS_MOREFRAG;
        head = nm_next(head, n);
    }
    luaL_pushresult(&b);
    atomic_store(&ring->cur, head);
    atomic_store(&ring->head, head);
    return true;
}

/* The rings [*first, *last) that argument `arg` chooses: one, or all that are bound. */
static void chosen_rings(lua_State *L, const struct nm_file *file, enum nm_txrx t, int arg,
                         unsigned *first, unsigned *last)
{
    *first = file->first[t];
    *last = file->last[t];
    if (!lua_isnoneornil(L, arg)) {
        lua_Integer i = luaL_checkinteger(L, arg);
        if (i < *first || i >= *last) {
            luaL_error(L, "this port has %s rings %d to %d, not %I", t == NM_TX ? "tx" : "rx",
                       (int)*first, (int)*last - 1, i);
        }
        *first = (unsigned)i;
        *last = *first + 1;
    } else if (*first == *last) {
        luaL_error(L, "this port has no %s rings", t == NM_TX ? "tx" : "rx");
    }
}

static bool put_somewhere(lua_State *L, const struct nm_file *file, int ring_arg, const char *bytes,
                          size_t len)
{
    unsigned i, last;

    chosen_rings(L, file, NM_TX, ring_arg, &i, &last);
    for (; i < last; i++) {
        struct lua_ring r = describe(file, NM_TX, i);
        if (put_frame(&r, bytes, len)) {
            return true;
        }
    }
    return false;
}

/* Pushes a frame and its ring. */
static bool take_anywhere(lua_State *L, const struct nm_file *file, int ring_arg)
{
    unsigned i, last;

    chosen_rings(L, file, NM_RX, ring_arg, &i, &last);
    for (; i < last; i++) {
        struct lua_ring r = describe(file, NM_RX, i);
        if (take_frame(L, &r)) {
            lua_pushinteger(L, i);
            return true;
        }
    }
    return false;
}

static void check_sync(lua_State *L, const char *what, int err)
{
    if (err) {
        luaL_error(L, "%s: %s (%s)", what, sc_errno_name(err), g_strerror(err));
    }
}

/* Waits until nm_poll has another look to take, or the deadline (monotonic us) is over: false. */
static bool wait_for_port(struct nm_file *file, int64_t deadline)
{
    struct pollfd pfd = {.fd = nm_poll_fd(file), .events = POLLIN};
    int64_t left = deadline - g_get_monotonic_time();

    if (left <= 0) {
        return false;
    }
    poll(&pfd, 1, (int)((left + 999) / 1000));
    return true;
}

static const char *check_frame(lua_State *L, int index, size_t *len)
{
    const char *bytes = luaL_checklstring(L, index, len);

    luaL_argcheck(L, *len > 0 && *len <= BACKEND_MAX_FRAME, index, "1 to 69632 bytes");
    return bytes;
}

/* port:send(frame[, ms[, ring]]): waits for room; handed over when it returns */
static int l_send(lua_State *L)
{
    struct nm_file *file = check_registered(L);
    size_t len;
    const char *bytes = check_frame(L, 2, &len);
    int timeout = sc_timeout(L, 3, DEFAULT_WAIT_MS);
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout * 1000;

    lua_settop(L, 4);
    while (!put_somewhere(L, file, 4, bytes, len)) {
        short ready = nm_poll(file, POLLOUT);
        if (ready & POLLERR) {
            return luaL_error(L, "poll of the port: POLLERR");
        }
        if (put_somewhere(L, file, 4, bytes, len)) {
            break;
        }
        if (!wait_for_port(file, deadline)) {
            return luaL_error(L, "no room in the port's tx rings within %d ms", timeout);
        }
    }
    check_sync(L, "txsync", nm_txsync(file));
    return 0;
}

/* port:tx_burst({ frame, ... }[, ring]) -> how many found room; one txsync */
static int l_tx_burst(lua_State *L)
{
    struct nm_file *file = check_registered(L);

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    lua_Integer n = luaL_len(L, 2), i = 0;
    for (; i < n; i++) {
        size_t len;
        lua_geti(L, 2, i + 1);
        const char *bytes = check_frame(L, -1, &len);
        if (!put_somewhere(L, file, 3, bytes, len)) {
            break;
        }
        lua_pop(L, 1);
    }
    check_sync(L, "txsync", nm_txsync(file));
    lua_pushinteger(L, i);
    return 1;
}

/* port:recv([ms[, ring]]) -> frame, the ring it came from; an error when none comes */
static int l_recv(lua_State *L)
{
    struct nm_file *file = check_registered(L);
    int timeout = sc_timeout(L, 2, DEFAULT_WAIT_MS);
    int64_t deadline = g_get_monotonic_time() + (int64_t)timeout * 1000;

    lua_settop(L, 3);
    for (bool is_last = false;;) {
        short ready = nm_poll(file, POLLIN);
        if (take_anywhere(L, file, 3)) {
            check_sync(L, "rxsync", nm_rxsync(file)); /* gives the slots back */
            return 2;
        }
        if (ready & POLLERR) {
            return luaL_error(L, "poll of the port: POLLERR");
        }
        if (is_last) {
            GError *error = g_error_new(QTEST_ERROR, QTEST_ERROR_TIMEOUT,
                                        "no frame came within %d ms", timeout);
            sc_add_deaths(sc_of(L), &error);
            return sc_raise(L, error);
        }
        is_last = !wait_for_port(file, deadline);
    }
}

/* port:rx_burst([max[, ring]]) -> { frame, ... }: what is there after one rxsync */
static int l_rx_burst(lua_State *L)
{
    struct nm_file *file = check_registered(L);
    lua_Integer max = luaL_optinteger(L, 2, MAX_BURST);

    luaL_argcheck(L, max >= 1 && max <= MAX_BURST, 2, "1 to 4096 frames");
    lua_settop(L, 3);
    check_sync(L, "rxsync", nm_rxsync(file));
    lua_newtable(L);
    int list = lua_gettop(L);
    for (lua_Integer i = 1; i <= max && take_anywhere(L, file, 3); i++) {
        lua_pop(L, 1);
        lua_rawseti(L, list, i);
    }
    check_sync(L, "rxsync", nm_rxsync(file));
    return 1;
}

/* ---- syncs, poll, requests ---- */

static int l_txsync(lua_State *L)
{
    lua_pushstring(L, sc_errno_name(nm_txsync(check(L))));
    return 1;
}

static int l_rxsync(lua_State *L)
{
    lua_pushstring(L, sc_errno_name(nm_rxsync(check(L))));
    return 1;
}

static short check_events(lua_State *L, int arg)
{
    const char *text = luaL_checkstring(L, arg);
    short events = 0;

    if (strstr(text, "in")) {
        events |= POLLIN;
    }
    if (strstr(text, "out")) {
        events |= POLLOUT;
    }
    luaL_argcheck(L, events != 0, arg, "events are 'in', 'out' or 'in out'");
    return events;
}

/* port:poll("in"|"out"|"in out"[, ms]) -> what is ready, in the same words, with "err"; "" if
 * nothing is within the time (default: 0) */
static int l_poll(lua_State *L)
{
    struct nm_file *file = check(L);
    short events = check_events(L, 2), ready;
    int64_t deadline = g_get_monotonic_time() + (int64_t)sc_timeout(L, 3, 0) * 1000;

    do {
        ready = nm_poll(file, events);
    } while (!ready && wait_for_port(file, deadline));
    lua_pushfstring(L, "%s%s%s%s%s", ready & POLLIN ? "in" : "",
                    ready & POLLIN && ready & (POLLOUT | POLLERR) ? " " : "",
                    ready & POLLOUT ? "out" : "", ready & POLLOUT && ready & POLLERR ? " " : "",
                    ready & POLLERR ? "err" : "");
    return 1;
}

static int l_request(lua_State *L)
{
    struct nm_file *file = check(L);

    return sc_request(L, file, 2);
}

static int l_legacy(lua_State *L)
{
    struct nm_file *file = check(L);

    return sc_legacy_request(L, file, 2);
}

/* port:info() -> what the registration gave */
static int l_info(lua_State *L)
{
    const struct nm_file *file = check_registered(L);
    const struct netmap_if *nifp = file->nifp;
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"mem_id", nm_mem_id(file->mem)},
        {"memsize", nm_mem_size(file->mem)},
        {"offset", (uint64_t)((const uint8_t *)nifp - nm_mem_base(file->mem))},
        {"flags", nifp->ni_flags},
        {"tx_rings", nifp->ni_tx_rings},
        {"rx_rings", nifp->ni_rx_rings},
        {"host_tx_rings", nifp->ni_host_tx_rings},
        {"host_rx_rings", nifp->ni_host_rx_rings},
        {"tx_slots", file->na->n_slots[NM_TX]},
        {"rx_slots", file->na->n_slots[NM_RX]},
        {"first_tx", file->first[NM_TX]},
        {"first_rx", file->first[NM_RX]},
        {"bufs_head", nifp->ni_bufs_head},
        {"header", file->na->virt_hdr_len},
        {"free_bufs", nm_mem_buf_total(file->mem) - 2 - nm_mem_used(file->mem, NM_POOL_BUF)},
    };

    lua_newtable(L);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_pushlstring(L, nifp->ni_name, strnlen(nifp->ni_name, sizeof(nifp->ni_name)));
    lua_setfield(L, -2, "name");
    return 1;
}

/* port:extra_bufs() -> the indices of its list; port:set_extra_bufs(first) */
static int l_extra_bufs(lua_State *L)
{
    const struct nm_file *file = check_registered(L);
    uint32_t index = file->nifp->ni_bufs_head, total = nm_mem_buf_total(file->mem);

    lua_newtable(L);
    for (lua_Integer i = 1; nm_buf_index_ok(index, total) && i <= total; i++) {
        lua_pushinteger(L, index);
        lua_rawseti(L, -2, i);
        memcpy(&index, nm_mem_buf_base(file->mem) + (uint64_t)index * nm_mem_buf_size(file->mem),
               sizeof(index));
    }
    return 1;
}

static int l_set_extra_bufs(lua_State *L)
{
    const struct nm_file *file = check_registered(L);
    lua_Integer first = luaL_checkinteger(L, 2);

    luaL_argcheck(L, first >= 0 && first <= UINT32_MAX, 2, "an index has 32 bits");
    file->nifp->ni_bufs_head = (uint32_t)first;
    return 0;
}

/* port:memory() -> the region as this process sees it: size, and whether it has a file */
static int l_region(lua_State *L)
{
    struct nm_file *file = check(L);

    lua_pushinteger(L, (lua_Integer)nm_memory_size(file));
    lua_pushboolean(L, nm_memory_fd(file) >= 0);
    return 2;
}

/* port:bytes(offset, len) of the region */
static int l_bytes(lua_State *L)
{
    struct nm_file *file = check(L);
    lua_Integer offset = luaL_checkinteger(L, 2), len = luaL_checkinteger(L, 3);
    uint64_t size = nm_memory_size(file);

    if (offset < 0 || len < 0 || (uint64_t)offset > size ||
        (uint64_t)len > size - (uint64_t)offset) {
        return luaL_error(L, "%I bytes at offset %I are outside the region of %I bytes", len,
                          offset, (lua_Integer)size);
    }
    lua_pushlstring(L, (const char *)nm_memory(file) + offset, (size_t)len);
    return 1;
}

void sc_open_port(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"send", l_send},
        {"recv", l_recv},
        {"tx_burst", l_tx_burst},
        {"rx_burst", l_rx_burst},
        {"txsync", l_txsync},
        {"rxsync", l_rxsync},
        {"poll", l_poll},
        {"request", l_request},
        {"legacy", l_legacy},
        {"info", l_info},
        {"extra_bufs", l_extra_bufs},
        {"set_extra_bufs", l_set_extra_bufs},
        {"region", l_region},
        {"bytes", l_bytes},
        {"close", l_close},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__index", l_index}, {"__gc", l_gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg rings_meta[] = {
        {"__index", l_rings_index}, {"__len", l_rings_len}, {"__gc", l_rings_gc}, {NULL, NULL}};

    sc_type(L, LUA_PORT, methods, meta);
    sc_type(L, LUA_RINGS, none, rings_meta);
}
