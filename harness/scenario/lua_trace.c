/*
 * Register traces of a test's machines: begun when a machine starts, attached to a failure.
 */
#include "harness/scenario/lua_scenario.h"

void sc_trace_machine(struct scenario *sc, struct session_machine *m)
{
    (void)sc;
    (void)m;
}

void sc_drop_traces(struct scenario *sc)
{
    g_ptr_array_set_size(sc->traces, 0);
}

void sc_attach_traces(struct scenario *sc, GPtrArray *texts)
{
    (void)sc;
    (void)texts;
}
