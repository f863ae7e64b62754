/*
 * The gate before a host's switches. Those who forward mark their own ring and look whether the
 * gate is closed; who changes the layout closes it and looks at all marks. Both store before they
 * load, so one of them sees the other.
 */
#include "models/vale/vale_private.h"

#include <sched.h>

static _Thread_local struct vale_gate *passed; /* the gate this thread is in */

void vale_gate_init(struct vale_gate *gate)
{
    pthread_mutex_init(&gate->lock, NULL);
    atomic_init(&gate->is_closed, false);
    gate->passers = g_ptr_array_new();
}

void vale_gate_clear(struct vale_gate *gate)
{
    g_ptr_array_free(gate->passers, TRUE);
    pthread_mutex_destroy(&gate->lock);
}

void vale_gate_enter(struct vale_gate *gate, struct vale_passer *passer)
{
    passer->outer = passed;
    passer->is_nested = passed == gate; /* then the outer pass keeps the layout as it is */
    if (passer->is_nested) {
        return;
    }
    passed = gate;
    for (;;) {
        atomic_exchange(&passer->is_inside, 1);
        if (!atomic_load(&gate->is_closed)) {
            return;
        }
        atomic_store(&passer->is_inside, 0);
        pthread_mutex_lock(&gate->lock);
        pthread_mutex_unlock(&gate->lock);
    }
}

void vale_gate_leave(struct vale_passer *passer)
{
    if (!passer->is_nested) {
        passed = passer->outer;
        atomic_store_explicit(&passer->is_inside, 0, memory_order_release);
    }
}

void vale_gate_close(struct vale_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    atomic_store(&gate->is_closed, true);
    for (unsigned i = 0; i < gate->passers->len; i++) {
        struct vale_passer *passer = g_ptr_array_index(gate->passers, i);
        while (atomic_load(&passer->is_inside)) {
            sched_yield(); /* for as long as a ring's worth of frames takes */
        }
    }
}

void vale_gate_open(struct vale_gate *gate)
{
    atomic_store(&gate->is_closed, false);
    pthread_mutex_unlock(&gate->lock);
}

void vale_gate_add(struct vale_gate *gate, struct vale_passer *passer)
{
    g_ptr_array_add(gate->passers, passer);
}

void vale_gate_remove(struct vale_gate *gate, struct vale_passer *passer)
{
    g_ptr_array_remove_fast(gate->passers, passer);
}
