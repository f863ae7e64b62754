/*
 * What the files of qemu_proxy share: the connection and its threads (qemu_proxy.c), what messages
 * mean (qemu_proxy_message.c), guest memory (qemu_proxy_memory.c).
 */
#ifndef RINGLAB_QEMU_PROXY_PRIVATE_H
#define RINGLAB_QEMU_PROXY_PRIVATE_H

#include "models/abi/qemu_proxy.h"
#include "models/qemu_proxy.h"

#include <pthread.h>
#include <stdatomic.h>

struct qemu_proxy_memory; /* what is mapped at present */

struct qemu_proxy {
    struct pci_model *model;
    struct pci_dma *dma;
    unsigned deadline_ms;

    /* of the serving thread */
    struct qemu_proxy_memory *memory;
    uint8_t hidden_bars; /* late ones, until the first reset */
    void (*bar_accessed)(void *data);
    void *data;

    int fd;
    bool has_threads;
    pthread_t server, watchdog;
    _Atomic int64_t busy_since_us; /* monotonic: since when the model has the word; 0: it has not */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool is_stopping;
    bool has_ended;    /* the serving thread is done with model and socket */
    bool is_abandoned; /* ... and frees the proxy when it is */
    bool was_cut_off;
    char why_ended[128];

    _Atomic uint64_t requests, config_reads, config_writes, bar_reads, bar_writes, memory_updates,
        resets, bad_messages, unmapped_ranges;
};

static inline void qemu_proxy_count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* Remembers why the connection ends; the first reason counts. */
void qemu_proxy_say_why(struct qemu_proxy *p, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Maps what the descriptors stand for and makes it the model's guest memory. Closes none of them.
 */
void qemu_proxy_memory_update(struct qemu_proxy *p, const struct qemu_proxy_sysmem *sysmem,
                              const int *fds, unsigned n_fds);
/* No guest memory any more. */
void qemu_proxy_memory_forget(struct qemu_proxy *p);

#endif
