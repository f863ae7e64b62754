/*
 * Register traces of a test's machines: begun when a machine starts, attached to a failure.
 */
#include "harness/scenario/lua_scenario.h"
#include "harness/trace.h"

struct machine_trace {
    struct session_machine *machine;
    struct trace *trace;
    uint64_t mark; /* before the last start */
};

static struct machine_trace *find(struct scenario *sc, struct session_machine *m)
{
    for (guint i = 0; i < sc->traces->len; i++) {
        struct machine_trace *t = sc->traces->pdata[i];
        if (t->machine == m) {
            return t;
        }
    }
    struct machine_trace *t = g_new0(struct machine_trace, 1);
    t->machine = m;
    t->trace = trace_new(0);
    g_ptr_array_add(sc->traces, t);
    return t;
}

void sc_trace_machine(struct scenario *sc, struct session_machine *m, bool is_running)
{
    struct machine_trace *t = find(sc, m);
    struct trace *trace = t->trace;

    if (!is_running) {
        trace_detach(trace);
        trace_set_devices(trace, NULL);
        return;
    }
    for (unsigned i = 0; session_machine_device(m, i); i++) {
        const struct session_device *dev = session_machine_device(m, i);
        unsigned slot, function;
        if (session_device_slot(dev, &slot, &function)) {
            g_autofree char *name = g_strdup_printf("%s@%02x", session_device_driver(dev), slot);
            trace_name_function(trace, 0, slot, function, name);
        }
    }
    if (trace_mark(trace) > 0) {
        trace_remark(trace, "QEMU was started again");
    }
    t->mark = trace_mark(trace);
    trace_set_devices(trace, pci_bus_devices(session_machine_bus(m)));
    trace_attach(trace, session_machine_machine(m));
}

void sc_trace_started(struct scenario *sc, struct session_machine *m)
{
    if (sc->options->has_trace) {
        struct machine_trace *t = find(sc, m);
        trace_rewind(t->trace, t->mark);
    }
}

void sc_drop_traces(struct scenario *sc)
{
    for (guint i = 0; i < sc->traces->len; i++) {
        struct machine_trace *t = sc->traces->pdata[i];
        trace_free(t->trace);
        g_free(t);
    }
    g_ptr_array_set_size(sc->traces, 0);
}

void sc_attach_traces(struct scenario *sc, GPtrArray *texts)
{
    for (guint i = 0; i < sc->traces->len; i++) {
        struct machine_trace *t = sc->traces->pdata[i];
        char *text = trace_text(t->trace);
        if (*text) {
            g_ptr_array_add(
                texts, g_strdup_printf("%s: register trace", session_machine_name(t->machine)));
            g_ptr_array_add(texts, text);
        } else {
            g_free(text);
        }
    }
}
