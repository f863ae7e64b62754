/*
 * The netmap port behind a ptnet device, and the life of its kernel loop: what net/netmap.c of the
 * ptnet QEMU does. The loop is a thread, or stepped by whoever drives the device.
 */
#include "models/abi/ptnet.h"
#include "models/ptnet/ptnet_private.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* ---- control requests ---- */

static int control(struct ptnet_backend *b, uint16_t type, void *body)
{
    struct nmreq_header header = {
        .nr_version = NETMAP_API, .nr_reqtype = type, .nr_body = (uintptr_t)body};

    memcpy(header.nr_name, b->port->header.nr_name, sizeof(header.nr_name));
    return nm_ctrl(b->port->file, &header);
}

int ptnet_backend_info(struct ptnet_backend *b, struct nmreq_port_info_get *info)
{
    *info = (struct nmreq_port_info_get){0};
    return control(b, NETMAP_REQ_PORT_INFO_GET, info);
}

static int set_header(struct ptnet_backend *b, uint32_t len)
{
    struct nmreq_port_hdr hdr = {.nr_hdr_len = len};

    return control(b, NETMAP_REQ_PORT_HDR_SET, &hdr);
}

static int try_header(struct ptnet_backend *b, uint32_t len)
{
    int err = set_header(b, len);

    if (!err)
        set_header(b, b->vnet_hdr_len);
    return err;
}

int ptnet_backend_set_header(struct ptnet_backend *b, uint32_t len)
{
    int err = try_header(b, len);

    if (!err)
        err = set_header(b, len);
    if (!err)
        b->vnet_hdr_len = len;
    return err;
}

/* ---- life ---- */

/* Whether addresses in slots (NS_INDIRECT) are followed: a guest's would be the host's memory. */
static void follow_addresses(struct nm_file *file, bool are_followed)
{
    for (unsigned i = file->first[NM_TX]; i < file->last[NM_TX]; i++) {
        uint8_t *flags = &file->na->krings[NM_TX][i].flags;

        *flags = (uint8_t)(are_followed ? *flags & ~NKR_NO_INDIRECT : *flags | NKR_NO_INDIRECT);
    }
}

bool ptnet_backend_open(struct ptnet_backend *b, struct nm_host *host,
                        const struct ptnet_options *options, GError **error)
{
    b->host = host;
    b->is_stepped = options->is_stepped;
    b->kloop_mode = (options->kloop_direct_tx ? NM_OPT_SYNC_KLOOP_DIRECT_TX : 0) |
                    (options->kloop_direct_rx ? NM_OPT_SYNC_KLOOP_DIRECT_RX : 0);
    b->port = nm_port_open(host, options->port, NR_EXCLUSIVE | NR_NO_TX_POLL, error);
    if (!b->port)
        return false;
    pthread_mutex_init(&b->lock, NULL);
    if (b->port->reg.nr_mode != NR_REG_ALL_NIC) {
        g_set_error(error, NM_ERROR, EINVAL,
                    "%s: a ptnet has all rings of its port, not the host's and not some of them",
                    options->port);
        ptnet_backend_close(b);
        return false;
    }
    follow_addresses(b->port->file, false);
    if (try_header(b, NM_VNET_HDR_LEN_12) == 0)
        b->features |= PTNETMAP_F_VNET_HDR;
    return true;
}

void ptnet_backend_close(struct ptnet_backend *b)
{
    if (!b->port)
        return;
    ptnet_backend_stop(b);
    follow_addresses(b->port->file, true); /* rings of a pipe outlive their user */
    nm_port_close(b->port);
    pthread_mutex_destroy(&b->lock);
    b->port = NULL;
}

/* ---- the kernel loop ---- */

static void add_stats(struct kloop_stats *sum, const struct kloop_stats *s)
{
    sum->passes += s->passes;
    sum->kicks_seen += s->kicks_seen;
    sum->interrupts += s->interrupts;
    sum->sleeps += s->sleeps;
    sum->timeouts += s->timeouts;
    sum->tx_syncs += s->tx_syncs;
    sum->rx_syncs += s->rx_syncs;
    sum->bad_rings += s->bad_rings;
    sum->sync_errors += s->sync_errors;
}

static void end_kloop(struct ptnet_backend *b)
{
    pthread_mutex_lock(&b->lock);
    if (b->kloop) {
        struct kloop_stats stats = kloop_stats(b->kloop);
        add_stats(&b->ended, &stats);
        kloop_free(g_steal_pointer(&b->kloop));
    }
    pthread_mutex_unlock(&b->lock);
}

static void *kloop_thread(void *data)
{
    struct ptnet_backend *b = data;

    /* b->kloop is nobody else's to free while its thread lives */
    kloop_run(b->kloop);
    end_kloop(b);
    return NULL;
}

static int start_thread(struct ptnet_backend *b)
{
    char name[16];
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&b->thread, NULL, kloop_thread, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err)
        return err;
    b->has_thread = true;
    g_snprintf(name, sizeof(name), "kloop-%s", b->port->header.nr_name);
    pthread_setname_np(b->thread, name);
    return 0;
}

int ptnet_backend_start(struct ptnet_backend *b, struct nm_csb_atok *atok, struct nm_csb_ktoa *ktoa)
{
    struct kloop_options options = {
        .interrupt = b->interrupt, .interrupt_data = b->interrupt_data, .mode = b->kloop_mode};
    const char *name = b->port->header.nr_name;

    if (b->is_started)
        return 0;
    int err = kloop_csb_enable(b->port->file, atok, ktoa);
    if (err) {
        nm_log(b->host, "%s: ptnet: enabling the CSB: %s", name, g_strerror(err));
        return 1; /* -1 is what the system call returns */
    }
    b->is_started = true;
    /* That the loop did not start only its thread learns, in the kernel: PTCTL says 0 anyway. */
    pthread_mutex_lock(&b->lock);
    b->kloop = kloop_new(b->port->file, &options, &err);
    pthread_mutex_unlock(&b->lock);
    if (b->kloop && !b->is_stepped)
        err = start_thread(b);
    if (err) {
        nm_log(b->host, "%s: ptnet: starting the sync-kloop: %s", name, g_strerror(err));
        end_kloop(b);
    }
    return 0;
}

int ptnet_backend_stop(struct ptnet_backend *b)
{
    struct nm_file *file = b->port->file;
    int err = 0;

    if (!b->is_started)
        return 0;
    if (b->has_thread) {
        pthread_mutex_lock(&b->lock);
        bool is_running = b->kloop != NULL; /* somebody else may have stopped it */
        pthread_mutex_unlock(&b->lock);
        if (is_running)
            err = kloop_stop(file);
        pthread_join(b->thread, NULL);
        b->has_thread = false;
    }
    end_kloop(b);
    atomic_store(&file->kloop_state, 0); /* a stop that came too late is not for the next loop */
    b->is_started = false;
    /* who asks for a loop of this file now has to enable a CSB first */
    file->csb_atok = NULL;
    file->csb_ktoa = NULL;
    return err;
}

void ptnet_backend_kick(struct ptnet_backend *b, unsigned ring)
{
    pthread_mutex_lock(&b->lock);
    if (b->kloop)
        kloop_kick(b->kloop, ring);
    pthread_mutex_unlock(&b->lock);
}

void ptnet_backend_stats(struct ptnet_backend *b, struct kloop_stats *sum)
{
    pthread_mutex_lock(&b->lock);
    *sum = b->ended;
    if (b->kloop) {
        struct kloop_stats stats = kloop_stats(b->kloop);
        add_stats(sum, &stats);
    }
    pthread_mutex_unlock(&b->lock);
}
