/*
 * Deadlines, memory and the watchdog of scripts: see lua_guard.h.
 */
#include "harness/scenario/lua_guard.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { HOOK_INSTRUCTIONS = 2000 };

struct guard {
    bool (*is_cancelled)(void);
    guard_stuck_fn stuck;
    void *stuck_data;
    unsigned grace_ms;
    lua_State *main;           /* the state's main thread */
    size_t n_bytes, max_bytes; /* of Lua's */
    int64_t deadline_us;       /* 0: none */
    char *text;
    int timer_fd, epoll_fd;
    /* the watchdog */
    GThread *thread;
    GMutex lock;
    GCond changed;
    int64_t stuck_at_us; /* 0: not watching */
    bool is_ending;
};

/* ---- memory ---- */

static void *allocate(void *data, void *block, size_t old_size, size_t size)
{
    struct guard *g = data;
    size_t before = block ? old_size : 0; /* without a block it tells the kind of object */

    if (size == 0) {
        g->n_bytes -= before;
        free(block);
        return NULL;
    }
    if (size > before && size - before > g->max_bytes - g->n_bytes) {
        return NULL;
    }
    void *moved = realloc(block, size);
    if (moved) {
        g->n_bytes = g->n_bytes - before + size;
    }
    return moved;
}

/* ---- the hook ---- */

/* Once it is over, every single instruction of every coroutine raises the error: a loop of pcalls
 * cannot go on. */
static void on_count(lua_State *L, lua_Debug *ar)
{
    struct guard *g;
    bool is_cancelled;

    (void)ar;
    lua_getallocf(L, (void **)&g);
    is_cancelled = g->is_cancelled && g->is_cancelled();
    if (!is_cancelled && !guard_is_over(g)) {
        if (lua_gethookcount(L) != HOOK_INSTRUCTIONS) {
            lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
        }
        return;
    }
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    lua_sethook(g->main, on_count, LUA_MASKCOUNT, 1);
    luaL_error(L, "%s", is_cancelled ? "stopped by request" : g->text);
}

static int on_panic(lua_State *L)
{
    const char *text = lua_tostring(L, -1);

    g_error("an error outside all protection in Lua: %s", text ? text : "no text");
    return 0;
}

unsigned guard_memory_mib(const struct guard *g)
{
    return (unsigned)(g->max_bytes >> 20);
}

lua_State *guard_new_state(struct guard *g, unsigned memory_mib)
{
    g->max_bytes = (size_t)(memory_mib ? memory_mib : GUARD_MEMORY_MIB) << 20;
    lua_State *L = lua_newstate(allocate, g);

    if (L) {
        lua_atpanic(L, on_panic);
        lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    }
    g->main = L;
    return L;
}

/* ---- deadlines ---- */

void guard_set_deadline(struct guard *g, const char *what, unsigned ms)
{
    struct itimerspec when = {.it_value = {ms / 1000, (long)(ms % 1000) * 1000000}};

    g->deadline_us = ms ? g_get_monotonic_time() + (int64_t)ms * 1000 : 0;
    g_free(g->text);
    g->text = g_strdup_printf("%s took longer than its deadline of %u ms", what, ms);
    timerfd_settime(g->timer_fd, 0, &when, NULL);
    g_mutex_lock(&g->lock);
    g->stuck_at_us = ms ? g->deadline_us + (int64_t)g->grace_ms * 1000 : 0;
    g_cond_signal(&g->changed);
    g_mutex_unlock(&g->lock);
}

bool guard_is_over(const struct guard *g)
{
    return g->deadline_us != 0 && g_get_monotonic_time() >= g->deadline_us;
}

int guard_left_ms(const struct guard *g)
{
    if (g->deadline_us == 0) {
        return INT_MAX;
    }
    return (int)CLAMP((g->deadline_us - g_get_monotonic_time()) / 1000, 0, INT_MAX);
}

const char *guard_text(const struct guard *g)
{
    return g->text;
}

int guard_fd(const struct guard *g)
{
    return g->epoll_fd;
}

/* ---- the watchdog ---- */

void guard_leave_script(struct guard *g)
{
    g_mutex_lock(&g->lock);
}

void guard_enter_script(struct guard *g)
{
    g_mutex_unlock(&g->lock);
}

static gpointer watch(gpointer data)
{
    struct guard *g = data;

    g_mutex_lock(&g->lock);
    while (!g->is_ending) {
        if (g->stuck_at_us == 0) {
            g_cond_wait(&g->changed, &g->lock);
        } else if (g_get_monotonic_time() < g->stuck_at_us) {
            g_cond_wait_until(&g->changed, &g->lock, g->stuck_at_us);
        } else {
            /* the lock stays held: should the script return now, it waits for the end */
            g->stuck(g->stuck_data);
            g->stuck_at_us = 0;
        }
    }
    g_mutex_unlock(&g->lock);
    return NULL;
}

static bool add_to_epoll(struct guard *g, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    return epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

struct guard *guard_new(int cancel_fd, bool (*is_cancelled)(void), unsigned grace_ms,
                        guard_stuck_fn stuck, void *stuck_data, GError **error)
{
    struct guard *g = g_new0(struct guard, 1);

    g->is_cancelled = is_cancelled;
    g->stuck = stuck;
    g->stuck_data = stuck_data;
    g->grace_ms = grace_ms;
    g_mutex_init(&g->lock);
    g_cond_init(&g->changed);
    g->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (g->timer_fd < 0 || g->epoll_fd < 0 || !add_to_epoll(g, g->timer_fd) ||
        (cancel_fd >= 0 && !add_to_epoll(g, cancel_fd))) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "a timer for the tests' deadlines: %s", g_strerror(errno));
        guard_free(g);
        return NULL;
    }
    if (stuck) {
        g->thread = g_thread_new("watchdog", watch, g);
    }
    return g;
}

void guard_free(struct guard *g)
{
    if (!g) {
        return;
    }
    if (g->thread) {
        g_mutex_lock(&g->lock);
        g->is_ending = true;
        g_cond_signal(&g->changed);
        g_mutex_unlock(&g->lock);
        g_thread_join(g->thread);
    }
    if (g->timer_fd >= 0) {
        close(g->timer_fd);
    }
    if (g->epoll_fd >= 0) {
        close(g->epoll_fd);
    }
    g_mutex_clear(&g->lock);
    g_cond_clear(&g->changed);
    g_free(g->text);
    g_free(g);
}
