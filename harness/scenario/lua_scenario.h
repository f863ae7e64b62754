/*
 * What the files that bind ringlab to Lua share: the running scenario, declared things and their
 * instances, errors, arguments. Not for users of the engine.
 *
 * Things declared while a file loads (machines, devices, memory, servers) are handles: each test
 * gets its own instance, made when the test first uses it. Things made inside a test (drivers,
 * interrupts) end with it; using one in a later test is an error that says so.
 */
#ifndef RINGLAB_LUA_SCENARIO_H
#define RINGLAB_LUA_SCENARIO_H

#include "harness/scenario/lua_guard.h"
#include "harness/scenario/scenario.h"
#include "harness/session.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

struct scenario {
    lua_State *L;
    const struct scenario_options *options;
    struct report *report;
    char *path;
    char short_path[LUA_IDSIZE]; /* as Lua's own messages spell it */
    char *library;               /* folder of the Lua library */
    struct guard *guard;
    struct session *session; /* of the running test, or NULL */
    unsigned generation;     /* counts tests; 0 while loading */
    bool in_test;
    bool is_death_told;    /* an error of this test says that a QEMU is gone */
    GPtrArray *tests;      /* struct scenario_test * */
    GPtrArray *machines;   /* struct lua_machine *: all there are, freed by Lua */
    GPtrArray *owned;      /* struct sc_owned *, of the running test */
    GPtrArray *hosts;      /* netmap hosts of the running test: lua_netmap.c */
    GPtrArray *traces;     /* struct machine_trace *, of the running test */
    GString *warning;      /* what Lua has told of one so far */
    const char *test_name; /* of the running test */
    GPtrArray *recordings; /* of its machines: lua_record.c */
};

struct scenario_test {
    char *name;
    int function; /* registry reference */
    unsigned line;
    unsigned timeout_ms; /* 0: the run's */
};

/* Runs one test and reports it. */
void sc_run_test(struct scenario *sc, const struct scenario_test *test);
/* A machine of the running test has ended without the script knowing. */
bool sc_machine_has_ended(struct scenario *sc);

/* When something was made: it is good for that run of that machine, in that test. */
struct sc_stamp {
    struct lua_machine *machine;
    unsigned generation, run;
};

struct lua_memory {
    struct scenario *sc;
    unsigned made_in; /* the test that declared it; 0: the file */
    unsigned generation;
    char *name, *dir;
    uint64_t size;
    enum guest_hugepages hugepages;
    struct guest_region *region; /* valid in `generation` */
    struct lua_machine *ram_of;  /* or: the RAM of this machine */
};

struct lua_server {
    struct scenario *sc;
    unsigned made_in;
    unsigned generation;
    struct lua_memory *memory; /* kept alive by the uservalue */
    unsigned n_vectors;
    struct ivshmem_server *server;
};

struct lua_device;
struct lua_netmap; /* lua_netmap.c */

struct lua_machine {
    struct scenario *sc;
    unsigned made_in;
    unsigned generation;
    unsigned run;        /* counts its starts and stops */
    bool is_death_known; /* the script killed it, or asked and was told */
    struct session_machine_options options;
    char *name, *accelerator;
    GPtrArray *args;    /* char * */
    GPtrArray *devices; /* struct lua_device * */
    GPtrArray *netdevs; /* struct lua_backend *: lua_backend.c */
    GArray *far_fds;    /* int: QEMU's ends of these, until it has them */
    guint n_args_loaded, n_devices_loaded, n_netdevs_loaded; /* as declared while the file loaded */
    struct session_machine *machine;                         /* valid in `generation` */
};

/* What a ptnet device is made over. */
struct lua_ptnet_backing {
    struct lua_netmap *host; /* kept alive by the device's uservalue; NULL: the session's */
    char *port;
    bool is_stepped, no_passthrough;
};

struct lua_device {
    struct scenario *sc;
    unsigned made_in;
    unsigned generation;
    struct lua_machine *machine;
    char *spec; /* NULL: a function that was not declared */
    struct lua_memory *memory;
    struct lua_server *server;
    struct lua_ptnet_backing ptnet;
    struct session_device *device; /* valid in `generation`; NULL without spec */
    struct pci_device *pci;        /* without spec, else NULL */
    struct sc_stamp stamp;         /* of `pci` */
};

#define LUA_MACHINE "ringlab.machine"
#define LUA_DEVICE  "ringlab.device"
#define LUA_MEMORY  "ringlab.memory"
#define LUA_SERVER  "ringlab.ivshmem_server"
#define LUA_VIEW    "ringlab.registers"
#define LUA_IRQ     "ringlab.interrupt"
#define LUA_NET     "ringlab.virtio_net"
#define LUA_PEER    "ringlab.ivshmem_peer"

struct scenario *sc_of(lua_State *L);
/* Notes for whoever watches, from the script's thread; once: unless this run was told before. */
void sc_note(struct scenario *sc, const char *text);
void sc_note_once(struct scenario *sc, const char *text);

/* ---- errors ---- */

/* Raises a Lua error with the error's message; NO_HUGEPAGES skips the test instead. Frees it. */
int sc_raise(lua_State *L, GError *error);
/* Adds which QEMUs of the test have died, to the error of a wait that was in vain. */
void sc_add_deaths(struct scenario *sc, GError **error);
/* The line of the script that is being executed: the innermost of the scenario file itself, or of
 * any file but the library. False if there is none. `path` needs PATH_MAX bytes. */
bool sc_position(lua_State *L, char *path, unsigned *line);
/* The key of the table that is nearest to `word`, or NULL. Owned by the table. */
const char *sc_nearest_key(lua_State *L, int table, const char *word);
/* A message handler: makes a table of strings out of whatever was raised: kind ("expect", "skip",
 * "error"), message, expression, expected, actual, script, line, traceback. Never raises, short of
 * memory. */
int sc_message_handler(lua_State *L);

/* ---- what lives when ---- */

/* Raises unless a test is running. `what` is named. */
void sc_need_test(lua_State *L, const char *what);
/* Raises unless it was declared by the file or by the running test. */
void sc_need_made_in(lua_State *L, unsigned made_in, const char *what);
struct sc_stamp sc_stamp(struct lua_machine *m);
/* Raises unless the machine still runs as it did then. */
void sc_need_stamp(lua_State *L, const struct sc_stamp *stamp, const char *what);

/* Something made for the running test that handles in Lua refer to: freed when it is closed, when
 * its machine stops, or when the test ends; handles that outlive it find that out. */
struct sc_owned;
/* Freed last made first. `what` is constant: "this driver". One reference goes to the caller. */
struct sc_owned *sc_own(struct scenario *sc, struct session_machine *m, const char *what,
                        void (*free)(void *data), void *data);
struct sc_owned *sc_owned_ref(struct sc_owned *owned);
void sc_owned_unref(struct sc_owned *owned);
/* Its data; raises if it has ended. */
void *sc_owned_data(lua_State *L, const struct sc_owned *owned);
void sc_owned_end(struct scenario *sc, struct sc_owned *owned);
/* Ends all of a machine's, or all (NULL). */
void sc_end_all(struct scenario *sc, const struct session_machine *m);

/* ---- arguments ---- */

/* Argument `arg` as a userdata of this type; says how to call a method if it is not. */
void *sc_check(lua_State *L, int arg, const char *type);
/* Argument `arg` in ms (default if absent), cut to what is left of the test's deadline. */
int sc_timeout(lua_State *L, int arg, int default_ms);
/* A number, or a string such as "16M", "4k", "1G". */
uint64_t sc_check_size(lua_State *L, int arg);
/* Integer fields of an option table, with a default and a range. */
lua_Integer sc_field_integer(lua_State *L, int table, const char *name, lua_Integer def,
                             lua_Integer min, lua_Integer max);
bool sc_field_boolean(lua_State *L, int table, const char *name, bool def);
/* NULL if absent; valid while the table is. */
const char *sc_field_string(lua_State *L, int table, const char *name);
/* Raises for a field of the table that is not in `known` (NULL-terminated), suggesting the nearest.
 */
void sc_check_fields(lua_State *L, int table, const char *const *known);
/* The userdata of this type, left on the stack; NULL (and nil on the stack) if absent. */
void *sc_field_object(lua_State *L, int table, const char *name, const char *type);
/* A new userdata of `size` bytes, zeroed, with the metatable. */
void *sc_new(lua_State *L, const char *type, size_t size, int n_uservalues);
/* Makes a metatable whose methods are found by __index, unless `meta` has an __index of its own. A
 * name that is no method is an error that suggests the nearest; so is any assignment. */
void sc_type(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *meta);

/* Instances for the running test: made, and machines started, when first asked for. */
struct session_machine *sc_machine(lua_State *L, struct lua_machine *m);
struct session_machine *sc_running(lua_State *L, struct lua_machine *m);
/* Begins and ends the register trace of a machine, its transcript. */
void sc_trace_machine(struct scenario *sc, struct session_machine *m, bool is_running);
void sc_record_machine(struct scenario *sc, struct session_machine *m, bool is_running);
/* Forgets what the harness itself did to set the machine up: the trace is about the script. */
void sc_trace_started(struct scenario *sc, struct session_machine *m);
void sc_drop_traces(struct scenario *sc);
void sc_drop_recordings(struct scenario *sc);
/* Appends name, text, name, text ... (char *, owned by the array). */
void sc_attach_traces(struct scenario *sc, GPtrArray *texts);
struct guest_region *sc_region(lua_State *L, struct lua_memory *memory);
struct ivshmem_server *sc_server(lua_State *L, struct lua_server *server);
struct session_device *sc_device(lua_State *L, struct lua_device *dev);
struct pci_device *sc_pci(lua_State *L, struct lua_device *dev);
/* A handle for a function that was not declared. */
void sc_push_function(lua_State *L, struct lua_machine *m, int machine_index,
                      struct pci_device *function);
void sc_push_device(lua_State *L, struct lua_machine *m, int machine_index, const char *spec,
                    int options_index, bool plug);

/* JSON both ways; null is nil. Raises for what cannot be JSON. An empty table is an object. */
void sc_push_json(lua_State *L, JsonNode *node);
JsonNode *sc_to_json(lua_State *L, int index);

/* A handle for an interrupt that belongs to `owner`, a driver. */
void sc_push_interrupt(lua_State *L, struct lua_machine *m, int machine_index,
                       struct sc_owned *owner, struct interrupt *irq);

void sc_open_machine(lua_State *L);
void sc_open_device(lua_State *L);
void sc_open_registers(lua_State *L);
void sc_open_memory(lua_State *L);
void sc_open_interrupt(lua_State *L);
void sc_open_net(lua_State *L);
void sc_open_ivshmem(lua_State *L);

/* The view of register block `block` of `dev` (whose handle is at `device_index`). */
void sc_push_block(lua_State *L, struct lua_device *dev, int device_index, struct pci_block *block);

#endif
