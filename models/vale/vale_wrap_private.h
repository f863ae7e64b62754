/*
 * A NIC wrapped into ports of a switch, and the threads that forward what it receives. Of
 * vale_wrap*.c.
 */
#ifndef RINGLAB_VALE_WRAP_PRIVATE_H
#define RINGLAB_VALE_WRAP_PRIVATE_H

#include "models/vale/vale_private.h"

enum { VALE_WRAPPED_NIC, VALE_WRAPPED_HOST, VALE_N_WRAPPED };

/* One side of a NIC as a port. */
struct vale_wrapped {
    struct vale_port port; /* first */
    struct vale_wrapper *wrapper;
    unsigned hw_first[NM_N_TXRX]; /* of the NIC's krings */
};

/* A thread on a CPU of its own that looks at receive rings without being told. */
struct vale_poller {
    struct vale_wrapper *wrapper;
    pthread_t thread;
    unsigned cpu, first, last; /* rings of the NIC port: [first, last) */
};

struct vale_wrapper {
    struct nm_adapter *hw;
    struct nm_file *file; /* binds hw */
    struct vale_wrapped *ports[VALE_N_WRAPPED];

    pthread_t thread; /* stands for the NIC's interrupts */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_woken, is_stopping; /* lock */
    struct nm_waiter *waiters;  /* one per kring of the NIC that is bound: tx, then rx */

    struct vale_poller *pollers;
    unsigned n_pollers;
    _Atomic bool is_polling; /* the pollers are to go on; interrupts are off */
};

/* The NIC's kring behind a wrapper's. */
struct nm_kring *vale_wrapped_hw(const struct nm_kring *kring);
/* Syncs the NIC's transmit ring behind a receive ring, now or by whoever is at it. Any thread. */
void vale_wrapped_transmit(struct nm_kring *kring, int flags);

int vale_wrapper_start(struct vale_wrapper *wrapper);
void vale_wrapper_stop(struct vale_wrapper *wrapper);
void vale_wrapper_wake(struct vale_wrapper *wrapper);
/* kring->notify of its transmit rings: there is room where their frames go. */
void vale_wrapper_wake_tx(struct nm_kring *kring, int flags);

/* `n` threads on CPUs from `first_cpu` on; `has_all`: each looks at all rings, else at its own. */
int vale_wrapper_poll(struct vale_wrapper *wrapper, unsigned first_cpu, unsigned n, bool has_all);
void vale_wrapper_unpoll(struct vale_wrapper *wrapper);

#endif
