/*
 * What keeps a script within bounds: the deadline of a test, for loops (a Lua hook) and for waits
 * (a descriptor that becomes readable), a limit to its memory, and a watchdog for a script that is
 * stuck where neither reaches: one call into C that does not return.
 */
#ifndef RINGLAB_LUA_GUARD_H
#define RINGLAB_LUA_GUARD_H

#include <glib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    GUARD_MEMORY_MIB = 1024, /* of Lua's own, per scenario, unless told otherwise */
    GUARD_GRACE_MS = 10000,  /* how long after its deadline a script counts as stuck */
};

struct guard;

/* Runs in a thread of its own while the script's thread is stuck; is to end the process. */
typedef void (*guard_stuck_fn)(void *data);

/* `cancel_fd`: readable: stop as soon as possible (-1: none); `is_cancelled` says the same and may
 * be NULL. NULL if the system has no descriptor left. */
struct guard *guard_new(int cancel_fd, bool (*is_cancelled)(void), unsigned grace_ms,
                        guard_stuck_fn stuck, void *stuck_data, GError **error);
void guard_free(struct guard *g);

/* A state whose memory is limited (0: GUARD_MEMORY_MIB), with the hook. NULL: no memory. Close it
 * with lua_close. */
lua_State *guard_new_state(struct guard *g, unsigned memory_mib);
unsigned guard_memory_mib(const struct guard *g);

/* From now on the script may run for `ms`; 0: for as long as it likes. `what` is named when it is
 * over: "the test". */
void guard_set_deadline(struct guard *g, const char *what, unsigned ms);
bool guard_is_over(const struct guard *g);
/* Until the deadline, 0 if it is over; INT_MAX without one. */
int guard_left_ms(const struct guard *g);
/* "WHAT took longer than its deadline of N ms" */
const char *guard_text(const struct guard *g);
/* Readable once the deadline is over or the run is cancelled. */
int guard_fd(const struct guard *g);

/* Around what the script's thread does for others, such as reporting: it cannot be found stuck in
 * between. */
void guard_leave_script(struct guard *g);
void guard_enter_script(struct guard *g);

#endif
