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
    struct session *session; /* of the running test, or NULL */
    unsigned generation;     /* counts tests; 0 while loading */
    bool in_test;
    int64_t deadline_us;
    GPtrArray *tests;      /* struct scenario_test * */
    GPtrArray *machines;   /* struct lua_machine *: all there are, freed by Lua */
    GArray *cleanups;      /* struct scenario_cleanup, of the running test */
    GPtrArray *traces;     /* struct trace *, of the running test */
    const char *test_name; /* of the running test */
    GPtrArray *recordings; /* of its machines: lua_record.c */
};

struct scenario_test {
    char *name;
    int function; /* registry reference */
    unsigned line;
    unsigned timeout_ms; /* 0: the run's */
};

struct scenario_cleanup {
    void (*free)(void *data);
    void *data;
};

struct lua_memory {
    struct scenario *sc;
    unsigned generation;
    char *name, *dir;
    uint64_t size;
    enum guest_hugepages hugepages;
    struct guest_region *region; /* valid in `generation` */
    struct lua_machine *ram_of;  /* or: the RAM of this machine */
};

struct lua_server {
    struct scenario *sc;
    unsigned generation;
    struct lua_memory *memory; /* kept alive by the uservalue */
    unsigned n_vectors;
    struct ivshmem_server *server;
};

struct lua_device;

struct lua_machine {
    struct scenario *sc;
    unsigned generation;
    struct session_machine_options options;
    char *name, *accelerator;
    GPtrArray *args;                       /* char * */
    GPtrArray *devices;                    /* struct lua_device * */
    guint n_args_loaded, n_devices_loaded; /* as declared while the file loaded */
    struct session_machine *machine;       /* valid in `generation` */
};

struct lua_device {
    struct scenario *sc;
    unsigned generation;
    struct lua_machine *machine;
    char *spec;
    struct lua_memory *memory;
    struct lua_server *server;
    struct session_device *device; /* valid in `generation`; NULL for a bare function */
    struct pci_device *pci;        /* the same, once looked up */
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
/* Raises a Lua error with the error's message; NO_HUGEPAGES skips the test instead. Frees it. */
int sc_raise(lua_State *L, GError *error);
/* Raises unless a test is running. `what` is named. */
void sc_need_test(lua_State *L, const char *what);
/* Raises unless the object was made in the running test. */
void sc_need_generation(lua_State *L, unsigned generation, const char *what);
/* Argument `arg` in ms (default if absent), cut to what is left of the test's deadline. */
int sc_timeout(lua_State *L, int arg, int default_ms);
/* `free(data)` runs when the test ends; the last one added first. */
void sc_at_end(struct scenario *sc, void (*free)(void *), void *data);
/* Runs it now instead, if it is still to run. */
void sc_end_now(struct scenario *sc, void *data);
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
/* A new userdata of `size` bytes, zeroed, with the metatable. */
void *sc_new(lua_State *L, const char *type, size_t size, int n_uservalues);
/* Makes a metatable whose methods are found by __index, unless `meta` has an __index of its own. */
void sc_type(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *meta);

/* Instances for the running test: made, and machines started, when first asked for. */
struct session_machine *sc_machine(lua_State *L, struct lua_machine *m);
struct session_machine *sc_running(lua_State *L, struct lua_machine *m);
/* Ends drivers and interrupts made so far in this test. */
void sc_run_cleanups(struct scenario *sc);
/* Begins and ends the register trace of a machine, its transcript. */
void sc_trace_machine(struct scenario *sc, struct session_machine *m, bool is_running);
void sc_record_machine(struct scenario *sc, struct session_machine *m, bool is_running);
/* Forgets what the harness itself did to set the machine up: the trace is about the script. */
void sc_restart_trace(struct scenario *sc, struct session_machine *m);
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

/* JSON both ways: null is nil inside objects and json.null nowhere (nil). */
void sc_push_json(lua_State *L, JsonNode *node);
JsonNode *sc_to_json(lua_State *L, int index);

void sc_push_interrupt(lua_State *L, struct interrupt *irq, bool is_borrowed);

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
