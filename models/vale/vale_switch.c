/*
 * Switches: their names, their ports, their coming and going (netmap.md 4.4, 9.1). The layout is
 * changed with the gate closed, so that whoever forwards sees it whole.
 */
#include "models/vale/vale_private.h"

enum { COLON_WITHIN = 16 };

static const char prefix[] = "val"; /* netmap compares only this much */

enum vale_name vale_name_parse(const char *name, size_t *len)
{
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
        return VALE_NAME_OTHER;
    }
    for (size_t i = 0; i < COLON_WITHIN; i++) {
        if (name[i] == ':') {
            *len = i + 1;
            return VALE_NAME_GOOD;
        }
        if (!g_ascii_isalnum(name[i]) && name[i] != '_') {
            break;
        }
    }
    return VALE_NAME_BAD;
}

struct vale_switches *vale_switches_new(struct nm_host *host)
{
    struct vale_switches *switches = g_new0(struct vale_switches, 1);

    switches->host = host;
    switches->n_slots = host->options.max_bridges;
    switches->slots = g_new0(struct vale_switch *, switches->n_slots);
    vale_gate_init(&switches->gate);
    return switches;
}

void vale_switches_free(struct vale_switches *switches)
{
    if (!switches) {
        return;
    }
    for (unsigned i = 0; i < switches->n_slots; i++) {
        while (switches->slots[i]) {
            struct vale_switch *sw = switches->slots[i];
            struct vale_port *port = sw->ports[sw->active[0]];
            if (port->is_wrapper) {
                vale_unwrap(switches, port);
            } else {
                vale_switch_remove(switches, port);
                nm_adapter_unref(&port->na);
            }
        }
    }
    vale_gate_clear(&switches->gate);
    g_free(switches->slots);
    g_free(switches);
}

static struct vale_switch *switch_new(const char *name, size_t len)
{
    struct vale_switch *sw = g_new0(struct vale_switch, 1);

    memcpy(sw->name, name, len);
    for (unsigned i = 0; i < VALE_MAX_PORTS; i++) {
        sw->active[i] = (uint8_t)i;
    }
    return sw;
}

struct vale_switch *vale_switch_find(struct vale_switches *switches, const char *name, bool create)
{
    struct vale_switch **empty = NULL;
    size_t len;

    if (vale_name_parse(name, &len) != VALE_NAME_GOOD) {
        return NULL;
    }
    for (unsigned i = 0; i < switches->n_slots; i++) {
        struct vale_switch **slot = &switches->slots[i];
        if (*slot && strlen((*slot)->name) == len && memcmp((*slot)->name, name, len) == 0) {
            return *slot;
        }
        empty = !*slot && !empty ? slot : empty;
    }
    if (create && empty) {
        *empty = switch_new(name, len);
    }
    return create && empty ? *empty : NULL;
}

unsigned vale_switch_index(const struct vale_switches *switches, const struct vale_switch *sw)
{
    unsigned i = 0;

    while (switches->slots[i] != sw) {
        i++;
    }
    return i;
}

void vale_switch_drop_if_empty(struct vale_switches *switches, struct vale_switch *sw)
{
    if (sw->n_active == 0) {
        switches->slots[vale_switch_index(switches, sw)] = NULL;
        g_free(sw);
    }
}

struct vale_port *vale_switch_port(const struct vale_switch *sw, const char *name)
{
    for (unsigned i = 0; i < sw->n_active; i++) {
        struct vale_port *port = sw->ports[sw->active[i]];
        if (strcmp(port->name, name) == 0) {
            return port;
        }
    }
    return NULL;
}

void vale_switch_add(struct vale_switches *switches, struct vale_switch *sw, struct vale_port *port,
                     const char *name)
{
    g_assert(sw->n_active < VALE_MAX_PORTS);
    vale_gate_close(&switches->gate);
    (void)g_strlcpy(port->name, name, sizeof(port->name));
    port->index = sw->active[sw->n_active++];
    port->sw = sw;
    atomic_store(&port->last_source, 0);
    sw->ports[port->index] = port;
    vale_gate_open(&switches->gate);
}

void vale_switch_remove(struct vale_switches *switches, struct vale_port *port)
{
    struct vale_switch *sw = port->sw;
    unsigned at = 0;

    vale_gate_close(&switches->gate);
    while (sw->active[at] != port->index) {
        at++;
    }
    sw->active[at] = sw->active[--sw->n_active];
    sw->active[sw->n_active] = (uint8_t)port->index; /* the next to be used */
    sw->ports[port->index] = NULL;
    port->sw = NULL;
    vale_wake_all(sw);
    vale_gate_open(&switches->gate);
    vale_switch_drop_if_empty(switches, sw);
}
