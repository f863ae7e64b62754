/*
 * A modelled device for tests: scratch registers in an I/O and in a memory BAR, a BAR of memory, a
 * register that raises vectors, and one that keeps its model busy until it is told to go on.
 */
#ifndef RINGLAB_TEST_TOY_MODEL_H
#define RINGLAB_TEST_TOY_MODEL_H

#include "models/abi/pci.h"
#include "models/pci_device.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    TOY_IO_BAR = 0,
    TOY_MEMORY_BAR = 1,
    TOY_REGISTER_BAR = 2,
    TOY_MSIX_BAR = 4,
    TOY_IO_BYTES = 64,
    TOY_MEMORY_BYTES = 8192,
    TOY_REGISTER_BYTES = 256,
    TOY_VECTORS = 4,
    TOY_RAISE = 0xf0, /* in the register BAR: raises the vector written */
    TOY_HANG = 0xf4,  /* ... does not come back before toy_go_on */
    TOY_VENDOR = 0x1b36,
    TOY_DEVICE = 0x0fee,
};

struct toy_model {
    struct pci_model *m;
    uint8_t io[TOY_IO_BYTES], registers[TOY_REGISTER_BYTES];
    int memory_fd;
    uint8_t *memory;
    unsigned last_size;
    uint64_t last_offset, last_value;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    unsigned n_resets;
    bool is_hanging, may_go_on;
};

static inline uint8_t *toy_bytes(struct toy_model *toy, unsigned bar)
{
    return bar == TOY_IO_BAR ? toy->io : toy->registers;
}

static inline uint64_t toy_read(void *data, unsigned bar, uint64_t offset, unsigned size)
{
    struct toy_model *toy = data;
    uint64_t value = 0;

    toy->last_size = size;
    toy->last_offset = offset;
    memcpy(&value, toy_bytes(toy, bar) + offset, size);
    return value;
}

static inline void toy_hang(struct toy_model *toy)
{
    pthread_mutex_lock(&toy->lock);
    toy->is_hanging = true;
    pthread_cond_broadcast(&toy->changed);
    while (!toy->may_go_on)
        pthread_cond_wait(&toy->changed, &toy->lock);
    toy->is_hanging = toy->may_go_on = false;
    pthread_cond_broadcast(&toy->changed);
    pthread_mutex_unlock(&toy->lock);
}

static inline void toy_write(void *data, unsigned bar, uint64_t offset, uint64_t value,
                             unsigned size)
{
    struct toy_model *toy = data;

    toy->last_size = size;
    toy->last_offset = offset;
    toy->last_value = value;
    memcpy(toy_bytes(toy, bar) + offset, &value, size);
    if (bar == TOY_REGISTER_BAR && offset == TOY_RAISE)
        pci_model_raise(toy->m, (unsigned)value);
    if (bar == TOY_REGISTER_BAR && offset == TOY_HANG)
        toy_hang(toy);
}

static inline void toy_reset(void *data)
{
    struct toy_model *toy = data;

    memset(toy->io, 0, sizeof(toy->io));
    memset(toy->registers, 0, sizeof(toy->registers));
    pthread_mutex_lock(&toy->lock);
    toy->n_resets++;
    pthread_mutex_unlock(&toy->lock);
}

static inline unsigned toy_n_resets(struct toy_model *toy)
{
    pthread_mutex_lock(&toy->lock);
    unsigned n = toy->n_resets;
    pthread_mutex_unlock(&toy->lock);
    return n;
}

static inline void toy_wait_hanging(struct toy_model *toy, bool is_hanging)
{
    pthread_mutex_lock(&toy->lock);
    while (toy->is_hanging != is_hanging)
        pthread_cond_wait(&toy->changed, &toy->lock);
    pthread_mutex_unlock(&toy->lock);
}

static inline void toy_go_on(struct toy_model *toy)
{
    pthread_mutex_lock(&toy->lock);
    toy->may_go_on = true;
    pthread_cond_broadcast(&toy->changed);
    pthread_mutex_unlock(&toy->lock);
}

static inline void toy_free(void *data)
{
    struct toy_model *toy = data;

    munmap(toy->memory, TOY_MEMORY_BYTES);
    close(toy->memory_fd);
    pthread_cond_destroy(&toy->changed);
    pthread_mutex_destroy(&toy->lock);
    g_free(toy);
}

/* Freed with pci_model_free. */
static inline struct toy_model *toy_new(void)
{
    static const struct pci_model_ops ops = {
        .name = "toy", .read = toy_read, .write = toy_write, .reset = toy_reset, .free = toy_free};
    struct toy_model *toy = g_new0(struct toy_model, 1);

    pthread_mutex_init(&toy->lock, NULL);
    pthread_cond_init(&toy->changed, NULL);
    toy->memory_fd = memfd_create("toy", MFD_CLOEXEC);
    if (toy->memory_fd < 0 || ftruncate(toy->memory_fd, TOY_MEMORY_BYTES) < 0)
        g_error("no memory for a test's device");
    toy->memory =
        mmap(NULL, TOY_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, toy->memory_fd, 0);
    struct pci_model_options options = {
        .vendor_id = TOY_VENDOR,
        .device_id = TOY_DEVICE,
        .subsystem_vendor_id = 0x1af4,
        .subsystem_id = 0x1100,
        .class_code = 0xff0000,
        .bars = {[TOY_IO_BAR] = {.size = TOY_IO_BYTES, .is_io = true},
                 [TOY_MEMORY_BAR] = {.size = TOY_MEMORY_BYTES,
                                     .memory = toy->memory,
                                     .memory_size = TOY_MEMORY_BYTES,
                                     .memory_fd = toy->memory_fd},
                 [TOY_REGISTER_BAR] = {.size = TOY_REGISTER_BYTES}},
        .n_vectors = TOY_VECTORS,
        .msix_bar = TOY_MSIX_BAR,
    };
    toy->m = pci_model_new(&ops, toy, &options, NULL);
    return toy;
}

#endif
