/*
 * The inside of attach.c, attach_inject.c and attach_link.c.
 */
#ifndef RINGLAB_ATTACH_PRIVATE_H
#define RINGLAB_ATTACH_PRIVATE_H

#include "harness/attach.h"
#include "models/backend/backend.h"
#include "models/ptnet/ptnet.h"
#include "models/qemu_proxy.h"
#include "qtest_client/qtest.h"

#include <pthread.h>

struct attach_device {
    struct attach *attach;
    struct pci_model *model;
    struct qemu_proxy *proxy;
    char *id;
    char *properties; /* "x-pci-proxy-dev,addr=..." */
    int far_fd;
    bool is_memdev;
    uint16_t memory_id;    /* memdev: of its allocator */
    unsigned ivshmem_slot; /* memdev: of the device that shows the same memory */
    uint64_t placed_at;    /* memdev: where that lies; 0: nowhere */
};

struct attach {
    struct nm_host *host;
    attach_note_fn note;
    GPtrArray *devices; /* struct attach_device * */
    GPtrArray *links;   /* struct attach_link * */
    unsigned n_ptnets, n_memdevs;
    GArray *fds, *far_fds; /* int: inherited by QEMU; of these, those we close when it runs */
    int qtest_far;

    /* attach_inject.c */
    struct qtest *qtest;
    pthread_mutex_t qtest_lock;
    GAsyncQueue *messages; /* struct message * */
    GThread *injector;
    _Atomic uint64_t n_messages, n_failures, n_placements;
};

void attach_note(struct attach *a, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* ---- attach_inject.c: the qtest socket; `fd` is owned from now ---- */
void attach_inject_start(struct attach *a, int fd);
void attach_inject_stop(struct attach *a);
/* pci_model_msi_fn: an MSI-X message for the APIC. Any thread; never waits. */
bool attach_inject(void *data, uint64_t address, uint32_t value);
/* At an access to a memdev's registers: lays its memory where its BAR is now. */
void attach_place_memory(void *data);

/* ---- attach_link.c ---- */
struct attach_link;
void attach_link_free(struct attach_link *link);

#endif
