/*
 * The host: one netmap with its allocators, ports and open files; and the files' plain questions
 * (what memory, which descriptor). Requests are in nm_ctrl.c, syncs in nm_sync.c.
 */
#include "models/netmap/nm_kern.h"
#include "models/ptnet/kloop.h"
#include "models/vale/vale.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static void fill_defaults(struct nm_host_options *o)
{
    const struct {
        uint32_t *field, value;
    } defaults[] = {
        {&o->if_size, 1024},          {&o->if_num, 100},
        {&o->ring_size, 36864},       {&o->ring_num, 200},
        {&o->buf_size, 2048},         {&o->buf_num, 16384},
        {&o->max_bridges, 8},         {&o->bridge_batch, 1024},
        {&o->txsync_retry, 2},        {&o->generic_rings, 1},
        {&o->generic_ringsize, 1024},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(defaults); i++) {
        if (!*defaults[i].field) {
            *defaults[i].field = defaults[i].value;
        }
    }
}

struct nm_host *nm_host_new(const struct nm_host_options *options, GError **error)
{
    struct nm_host *host = g_new0(struct nm_host, 1);

    if (options) {
        host->options = *options;
    }
    fill_defaults(&host->options);
    host->name = g_strdup(host->options.name ? host->options.name : "netmap");
    host->options.name = host->name;

    const struct nm_host_options *o = &host->options;
    const struct nm_mems_options mems = {
        .dir = o->memory_dir,
        .hugepages = o->hugepages,
        .global.pools = {[NM_POOL_IF] = {o->if_size, o->if_num},
                         [NM_POOL_RING] = {o->ring_size, o->ring_num},
                         [NM_POOL_BUF] = {o->buf_size, o->buf_num}},
    };
    host->mems = nm_mems_new(&mems, error);
    if (!host->mems) {
        g_free(host->name);
        g_free(host);
        return NULL;
    }
    host->options.memory_dir = NULL; /* the caller's string; not needed any more */
    pthread_mutex_init(&host->lock, NULL);
    pthread_mutex_init(&host->log_lock, NULL);
    host->nics = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->files = g_ptr_array_new();
    host->kept_memory = g_array_new(FALSE, FALSE, sizeof(struct nm_port_memory));
    host->vale = vale_switches_new(host);
    return host;
}

/* Interfaces of the system: the table holds one reference each. */
static void drop_nics(struct nm_host *host)
{
    GHashTableIter iter;
    gpointer na;

    g_hash_table_iter_init(&iter, host->nics);
    while (g_hash_table_iter_next(&iter, NULL, &na)) {
        g_hash_table_iter_remove(&iter);
        nm_adapter_unref(na);
    }
    g_hash_table_unref(host->nics);
}

void nm_host_free(struct nm_host *host)
{
    if (!host) {
        return;
    }
    while (host->files->len) {
        nm_close(g_ptr_array_index(host->files, host->files->len - 1));
    }
    pthread_mutex_lock(&host->lock);
    vale_switches_free(host->vale);
    drop_nics(host);
    pthread_mutex_unlock(&host->lock);
    g_ptr_array_unref(host->files);
    nm_mems_free(host->mems);
    for (unsigned i = 0; i < host->kept_memory->len; i++) {
        const struct nm_port_memory *memory =
            &g_array_index(host->kept_memory, struct nm_port_memory, i);

        munmap(memory->base, memory->size);
    }
    g_array_unref(host->kept_memory);
    pthread_mutex_destroy(&host->lock);
    pthread_mutex_destroy(&host->log_lock);
    g_free(host->name);
    g_free(host);
}

void nm_host_set_log(struct nm_host *host, nm_log_fn log, void *data)
{
    pthread_mutex_lock(&host->log_lock);
    host->log = log;
    host->log_data = data;
    pthread_mutex_unlock(&host->log_lock);
}

void nm_log(struct nm_host *host, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&host->log_lock);
    if (host->log) {
        va_start(args, format);
        g_autofree char *text = g_strdup_vprintf(format, args);
        va_end(args);
        g_autofree char *line = g_strdup_printf("%s: %s", host->name, text);
        host->log(host->log_data, line);
    }
    pthread_mutex_unlock(&host->log_lock);
}

/* ---- files ---- */

/* Something that the file waits for happened. Written first, marked second: whoever sees the mark
 * finds the descriptor readable. */
static void wake_file(struct nm_file *file, enum nm_txrx t)
{
    const uint64_t one = 1;

    if (atomic_exchange(&file->is_armed[t], false)) {
        ssize_t n = write(file->poll_fd, &one, sizeof(one)); /* full: readable already */

        (void)n;
        atomic_store(&file->is_signalled, true);
    }
}

static void wake_tx(void *data, struct nm_kring *kring)
{
    (void)kring;
    wake_file(data, NM_TX);
}

static void wake_rx(void *data, struct nm_kring *kring)
{
    (void)kring;
    wake_file(data, NM_RX);
}

struct nm_file *nm_file_new(struct nm_host *host)
{
    struct nm_file *file;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return NULL;
    }
    file = g_new0(struct nm_file, 1);
    file->host = host;
    file->poll_fd = fd;
    file->waiter[NM_TX] = (struct nm_waiter){.wake = wake_tx, .data = file};
    file->waiter[NM_RX] = (struct nm_waiter){.wake = wake_rx, .data = file};
    g_ptr_array_add(host->files, file);
    return file;
}

void nm_file_free(struct nm_file *file)
{
    nm_file_unbind(file);
    g_ptr_array_remove_fast(file->host->files, file);
    close(file->poll_fd);
    g_free(file);
}

struct nm_file *nm_open(struct nm_host *host)
{
    pthread_mutex_lock(&host->lock);
    struct nm_file *file = nm_file_new(host);
    pthread_mutex_unlock(&host->lock);
    return file;
}

void nm_close(struct nm_file *file)
{
    if (!file) {
        return;
    }
    struct nm_host *host = file->host;

    if (atomic_load(&file->kloop_state) & KLOOP_RUNNING) {
        int err = kloop_stop(file);

        if (err) { /* its thread would run on in what is freed below: better a leak */
            nm_log(host, "%s: the sync-kloop does not stop (%s); its file stays open",
                   file->na->name, g_strerror(err));
            return;
        }
    }
    pthread_mutex_lock(&host->lock);
    nm_file_free(file);
    pthread_mutex_unlock(&host->lock);
}

int nm_memory_fd(struct nm_file *file)
{
    if (!file->mem) {
        errno = EINVAL;
        return -1;
    }
    return nm_mem_fd(file->mem);
}

uint64_t nm_memory_size(struct nm_file *file)
{
    return file->mem ? nm_mem_size(file->mem) : 0;
}

void *nm_memory(struct nm_file *file)
{
    return file->mem ? nm_mem_base(file->mem) : NULL;
}

struct netmap_if *nm_file_if(struct nm_file *file)
{
    return __atomic_load_n(&file->nifp, __ATOMIC_ACQUIRE);
}

int nm_poll_fd(struct nm_file *file)
{
    return file->poll_fd;
}
