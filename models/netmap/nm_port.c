/*
 * Ports by name, as libnetmap opens them: parse, open, register, and find the rings that were
 * bound.
 */
#include "models/netmap/nm_kern.h"
#include "models/netmap/nm_parse_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool nm_parse_port(struct nm_host *host, const char *name, struct nmreq_header *header,
                   struct nmreq_register *reg, GError **error)
{
    struct nm_parsed parsed;

    if (!nm_parse(host, name, &parsed, error)) {
        return false;
    }
    if (parsed.extmem_file) {
        nm_parsed_clear(&parsed);
        g_set_error(error, NM_ERROR, EINVAL, "%s: option extmem has to be opened with the port",
                    name);
        return false;
    }
    *header = parsed.header;
    *reg = parsed.reg;
    header->nr_body = (uintptr_t)reg;
    return true;
}

/* ---- memory from a file ---- */

static bool map_file(const char *path, struct nm_port_memory *memory, GError **error)
{
    struct stat st = {0};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int err = fd < 0 || fstat(fd, &st) < 0 ? errno : 0;

    if (!err) {
        memory->size = (uint64_t)st.st_size;
        memory->base = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        err = memory->base == MAP_FAILED ? errno : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (err) {
        *memory = (struct nm_port_memory){0};
        g_set_error(error, NM_ERROR, err, "%s: %s", path, g_strerror(err));
    }
    return !err;
}

/* An allocator that other ports still use keeps its memory until the host goes. */
static void unmap_file(struct nm_host *host, struct nm_port_memory memory, uint16_t mem_id)
{
    struct nm_mem *mem;

    if (!memory.base) {
        return;
    }
    pthread_mutex_lock(&host->lock);
    mem = mem_id ? nm_mem_find(host->mems, mem_id) : NULL;
    if (mem) {
        g_array_append_val(host->kept_memory, memory);
        nm_mem_unref(mem);
    }
    pthread_mutex_unlock(&host->lock);
    if (!mem) {
        munmap(memory.base, memory.size);
    }
}

/* ---- opening ---- */

/* The run of rings of one direction that are bound: [*first, *last], empty where last < first. */
static void find_bound(const struct netmap_if *nifp, unsigned from, unsigned n, uint16_t *first,
                       uint16_t *last)
{
    unsigned i = 0;

    while (i < n && !nifp->ring_ofs[from + i]) {
        i++;
    }
    *first = (uint16_t)i;
    while (i < n && nifp->ring_ofs[from + i]) {
        i++;
    }
    *last = (uint16_t)(i - 1);
}

static void find_all_bound(struct nm_port *port)
{
    const struct netmap_if *nifp = port->nifp;
    const unsigned n_tx = nifp->ni_tx_rings + nifp->ni_host_tx_rings;
    const unsigned n_rx = nifp->ni_rx_rings + nifp->ni_host_rx_rings;

    find_bound(nifp, 0, n_tx, &port->first_tx_ring, &port->last_tx_ring);
    find_bound(nifp, n_tx, n_rx, &port->first_rx_ring, &port->last_rx_ring);
}

static int register_port(struct nm_port *port, struct nm_parsed *parsed)
{
    struct nmreq_opt_extmem extmem = {
        .nro_opt.nro_reqtype = NETMAP_REQ_OPT_EXTMEM,
        .nro_usrptr = (uintptr_t)port->memory.base,
        .nro_info = parsed->extmem,
    };
    int err;

    port->header = parsed->header;
    port->reg = parsed->reg;
    port->header.nr_body = (uintptr_t)&port->reg;
    if (port->memory.base) {
        extmem.nro_info.nr_memsize = port->memory.size;
        port->header.nr_options = (uintptr_t)&extmem;
    }
    err = nm_ctrl(port->file, &port->header);
    port->header.nr_options = 0;
    return err;
}

static bool open_parsed(struct nm_port *port, struct nm_host *host, struct nm_parsed *parsed,
                        GError **error)
{
    int err;

    if (parsed->extmem_file && !map_file(parsed->extmem_file, &port->memory, error)) {
        return false;
    }
    port->file = nm_open(host);
    err = port->file ? register_port(port, parsed) : errno;
    if (err) {
        g_set_error(error, NM_ERROR, err, "%s: %s", parsed->header.nr_name, g_strerror(err));
        return false;
    }
    port->nifp = nm_file_if(port->file);
    find_all_bound(port);
    return true;
}

struct nm_port *nm_port_open(struct nm_host *host, const char *name, uint64_t nr_flags,
                             GError **error)
{
    struct nm_parsed parsed;
    struct nm_port *port;

    if (!nm_parse(host, name, &parsed, error)) {
        return NULL;
    }
    parsed.reg.nr_flags |= nr_flags;
    port = g_new0(struct nm_port, 1);
    port->host = host;
    if (!open_parsed(port, host, &parsed, error)) {
        g_clear_pointer(&port, nm_port_close);
    }
    nm_parsed_clear(&parsed);
    return port;
}

void nm_port_close(struct nm_port *port)
{
    if (!port) {
        return;
    }
    nm_close(port->file);
    unmap_file(port->host, port->memory, port->nifp ? port->reg.nr_mem_id : 0);
    g_free(port);
}
