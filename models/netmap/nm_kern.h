/*
 * netmap's inside: rings as the kernel side keeps them (krings), adapters (one per port) and what a
 * kind of port must be able to do. For the port kinds (null, pipe, monitor, NIC, emulated, VALE)
 * and the sync-kloop; applications use netmap.h.
 *
 * Locks, in the order they are taken: host->lock (control requests; adapters, names, references),
 * then a switch's lock, then a kring's: nm_kr_acquire while its indices change. Notification takes
 * none of these.
 */
#ifndef RINGLAB_NM_KERN_H
#define RINGLAB_NM_KERN_H

#include "models/netmap/netmap.h"
#include "models/netmap/nm_mem.h"

#include <pthread.h>

enum nm_txrx { NM_RX = 0, NM_TX = 1, NM_N_TXRX = 2 }; /* as in netmap_ring.dir */

struct nm_adapter;
struct nm_kring;

/* ---- waiting: who wants to know that a ring, or any ring of a direction, moved ---- */

/* Called by whoever made something happen, in its thread, with no lock of netmap held but perhaps a
 * kring acquired: it must not sync, only signal (an eventfd, a condition). */
typedef void (*nm_wake_fn)(void *data, struct nm_kring *kring);

struct nm_waiter {
    nm_wake_fn wake;
    void *data;
    struct nm_waiter *next; /* private */
};

struct nm_waiters {
    _Atomic unsigned n; /* looked at without the lock: nobody waits, nothing to do */
    pthread_mutex_t lock;
    struct nm_waiter *first;
};

void nm_waiters_init(struct nm_waiters *w);
void nm_waiters_clear(struct nm_waiters *w);
/* Adding includes a full fence, so that: add, then look at the ring, misses nothing. */
void nm_waiters_add(struct nm_waiters *w, struct nm_waiter *waiter);
void nm_waiters_remove(struct nm_waiters *w, struct nm_waiter *waiter);
void nm_waiters_wake(struct nm_waiters *w, struct nm_kring *kring);

/* ---- krings ---- */

/* One bit each. */
enum nm_kr_state { NM_KR_FREE, NM_KR_BUSY = 0x1, NM_KR_STOPPED = 0x2, NM_KR_LOCKED = 0x4 };

enum {
    NKR_EXCLUSIVE = 0x1,   /* bound by one file alone */
    NKR_FAKE = 0x2,        /* no application binds it: its slots point to buffer 0 */
    NKR_NEEDRING = 0x4,    /* is to have a netmap_ring though nobody binds it (pipe peers) */
    NKR_NO_INDIRECT = 0x8, /* its application is a guest: what it calls an address is none here */
};

struct nm_kring {
    _Alignas(64) struct netmap_ring *ring; /* in the region; NULL while not in netmap mode */
    uint32_t num_slots;
    uint32_t hwcur;          /* first slot the application has handed over and we have not taken */
    _Atomic uint32_t hwtail; /* first slot that is ours; VALE stores it from other threads */
    uint32_t rhead, rcur;    /* what the application last said, checked */
    uint32_t rtail;          /* what we last told it */
    uint32_t buf_total;      /* of the adapter's allocator: bound for buf_idx */
    uint32_t buf_size;       /* bytes */
    uint8_t *buf_base;       /* buffer 0 */
    uint32_t usable_len;     /* bytes of a buffer a frame may take, behind its offset */
    uint32_t mon_head;       /* tx: as far as copy monitors have seen */
    uint32_t mon_tail;       /* hwtail when copy (rx) or zero-copy (tx) monitors last looked */
    uint64_t offset_mask;    /* 0: no offsets */
    uint64_t offset_max;
    /* The port's work: take [hwcur, rhead), move hwcur and hwtail. Called acquired. 0 or errno. */
    int (*sync)(struct nm_kring *kring, int flags);
    /* Something moved that the application should look at. Any thread, through nm_kr_notify: a
     * monitor's comes to stand before the port's own. */
    void (*_Atomic notify)(struct nm_kring *kring, int flags);
    struct nm_adapter *na;
    uint16_t ring_id;  /* in its direction, host rings after the others */
    uint8_t tx;        /* enum nm_txrx */
    uint8_t flags;     /* NKR_ */
    uint32_t users;    /* files that bind it */
    _Atomic int state; /* enum nm_kr_state */
    /* In netmap mode: files bind it and `ring` is there. Goes false before the ring does, with the
     * port's quiesce in between: other ports' threads look at this before they touch `ring`. */
    _Atomic bool is_on;
    bool wants_flush; /* host rx: sync put frames into NIC tx rings; poll pushes them out */
    struct nm_waiters waiters;

    /* VALE receive queues: slots reserved by senders and not yet published (models/vale/) */
    pthread_spinlock_t lease_lock;
    uint32_t lease_next; /* first slot not reserved */
    uint32_t *leases;    /* NULL unless a VALE port's rx ring */

    /* Pipes: published tail, up to the last whole packet. Stored by the other end's thread. */
    _Alignas(64) _Atomic uint32_t pipe_tail;
    char name[NETMAP_REQ_IFNAMSIZ + 16]; /* "vale0:a TX0", in messages */
    uint32_t n_reinits;                  /* how often the application's values were refused */
    struct nm_kring *pipe;               /* the other end's ring; NULL: not a pipe */
    struct nm_monitored *monitored;      /* by whom (nm_monitor_private.h); NULL: by nobody */
    void (*_Atomic base_notify)(struct nm_kring *kring, int flags); /* the port's own, then */
    void *port_data;                                                /* of the port kind */
};

static inline uint32_t nm_next(uint32_t i, uint32_t n)
{
    return i + 1 == n ? 0 : i + 1;
}
static inline uint32_t nm_prev(uint32_t i, uint32_t n)
{
    return i == 0 ? n - 1 : i - 1;
}
/* Slots from a up to b. */
static inline uint32_t nm_dist(uint32_t a, uint32_t b, uint32_t n)
{
    return b >= a ? b - a : b + n - a;
}

/* A slot is shared with an application: its first three fields are read and written together, once.
 */
union nm_slot_word {
    uint64_t word;
    struct {
        uint32_t buf_idx;
        uint16_t len, flags;
    };
};
static inline union nm_slot_word nm_slot_load(const struct netmap_slot *slot)
{
    return (union nm_slot_word){
        .word = __atomic_load_n((const uint64_t *)(const void *)slot, __ATOMIC_RELAXED)};
}
static inline void nm_slot_store(struct netmap_slot *slot, union nm_slot_word w)
{
    __atomic_store_n((uint64_t *)(void *)slot, w.word, __ATOMIC_RELAXED);
}

/* Takes the ring for a sync: 0, or EBUSY (another thread is in it), EIO (stopped). With `wait` an
 * EBUSY ring is waited for. A locked one is in any case: that is soon over. */
int nm_kr_acquire(struct nm_kring *kring, bool wait);
void nm_kr_release(struct nm_kring *kring);
/* No sync enters from now on, and none is inside when this returns. */
void nm_kr_stop(struct nm_kring *kring);
/* The same for the moment in which its functions are changed, with host->lock held: who wants to
 * sync waits. Stopped or not, it is as before afterwards. */
void nm_kr_lock(struct nm_kring *kring);
void nm_kr_unlock(struct nm_kring *kring);

/* The checks of an application's head and cur (netmap.md 6.2, 6.3). Values were read once, into
 * `head` and `cur`. True: rhead and rcur hold them. False: the ring is bad, and goes through
 * nm_ring_reinit. Beyond netmap's own checks, both must be below N also where the free space wraps,
 * and a tx head must lie between hwcur and hwtail. */
bool nm_txsync_prologue(struct nm_kring *kring, uint32_t head, uint32_t cur);
bool nm_rxsync_prologue(struct nm_kring *kring, uint32_t head, uint32_t cur);
/* netmap.md 6.4; called acquired. True if indices were beyond the ring. Where only their order was
 * wrong the shared ring keeps what the application wrote, as in netmap, but unlike there rhead and
 * rtail are not taken from it: a sync that follows takes nothing. */
bool nm_ring_reinit(struct nm_kring *kring);
/* How far the application may be told that the ring goes: hwtail, or less while copy monitors of a
 * receive ring have not seen all of it. For who has acquired the ring. */
static inline uint32_t nm_kr_tail(const struct nm_kring *kring)
{
    return kring->monitored && kring->tx == NM_RX
               ? kring->mon_tail
               : atomic_load_explicit(&kring->hwtail, memory_order_acquire);
}
/* Publishes it in ring.tail and rtail (release). */
void nm_sync_finalize(struct nm_kring *kring);

static inline void nm_kr_notify(struct nm_kring *kring, int flags)
{
    void (*notify)(struct nm_kring *, int) =
        atomic_load_explicit(&kring->notify, memory_order_acquire);

    notify(kring, flags);
}
/* Wakes the ring's waiters, and those of the adapter's direction. Default of kring->notify. */
void nm_notify(struct nm_kring *kring, int flags);

/* ---- adapters ---- */

enum {
    NAF_HOST_RINGS = 0x2, /* has host rings that work (else they are fake) */
    NAF_MEM_OWNER = 0x4,  /* keeps its allocator whatever requests say */
    NAF_BUSY = 0x8,       /* owned by the kernel: attached to a switch ... */
    NAF_OFFSETS = 0x10,   /* OFFSETS option */
    NAF_MOREFRAG = 0x20,  /* takes packets of several slots */
    NAF_ZOMBIE = 0x40,    /* its driver is gone */
    NAF_NATIVE = 0x80,
    NAF_AUTODELETE = 0x100, /* in host->nics only as long as somebody has a reference */
};

/* What a kind of port does. Functions that may be NULL say so. Called with host->lock held, except
 * sync, notify and forward_up. */
struct nm_port_ops {
    const char *kind; /* "vale", "pipe", "nic" ... */
    /* Fills in sync and notify of its krings; krings exist, without rings yet. 0 or errno. */
    int (*krings_created)(struct nm_adapter *na);
    void (*krings_deleted)(struct nm_adapter *na); /* NULL: nothing */
    /* First file entered (true; rings exist) or last one is leaving netmap mode (they still do; the
     * result is not looked at). NULL: nothing. */
    int (*set_active)(struct nm_adapter *na, bool active);
    /* Rings went !is_on and will be freed: returns when no other thread is using them. NULL: nobody
     * else does. */
    void (*quiesce)(struct nm_adapter *na);
    /* Whether krings and rings are to outlive the last file (pipes). NULL: no. */
    bool (*keeps_krings)(struct nm_adapter *na);
    /* Refreshes ring and slot counts while no file is active. NULL: fixed. */
    int (*config)(struct nm_adapter *na);
    /* vnet header (0, 10, 12), or NULL: EOPNOTSUPP/ENXIO as netmap.md 9.4. */
    int (*set_header)(struct nm_adapter *na, unsigned len);
    /* Before an application's rxsync (not held: host->lock; acquired: the kring): slots [hwcur,
     * rhead) that are to be forwarded go to the host stack (netmap.md 13). NULL: no host rings. */
    void (*forward_up)(struct nm_kring *kring);
    void (*free)(struct nm_adapter *na); /* last reference is gone: frees `na` itself */
};

struct nm_adapter {
    const struct nm_port_ops *ops;
    struct nm_host *host;
    char name[NETMAP_REQ_IFNAMSIZ];
    unsigned refs;                    /* host->lock */
    _Atomic unsigned flags;           /* NAF_ */
    unsigned active_files;            /* files that bind rings */
    uint32_t n_rings[NM_N_TXRX];      /* without host rings */
    uint32_t n_host_rings[NM_N_TXRX]; /* at least 1 */
    uint32_t n_slots[NM_N_TXRX];
    struct nm_kring *krings[NM_N_TXRX];   /* n_rings + n_host_rings each; NULL while not active */
    struct nm_waiters waiters[NM_N_TXRX]; /* of files bound to more than one ring */
    struct nm_mem *mem;
    struct nm_mem *mem_before; /* what a request replaced while idle; NULL */
    unsigned virt_hdr_len;     /* bytes before each frame: 0, 10, 12 */
    uint32_t rx_buf_maxsize;   /* bytes a receive slot can take; looked at with an mtu */
    uint32_t mtu;              /* of the interface behind it; 0: there is none */
    GPtrArray *pipes;          /* struct nm_adapter; NULL: none yet */
    GPtrArray *monitors;       /* struct nm_adapter of monitors, oldest first; NULL: none yet */
    unsigned next_monitor_id;  /* in their names */
    void *port;                /* the kind's own */
};

/* One open file, as the sync-kloop and port kinds see it. */
struct nm_file {
    struct nm_host *host;
    struct nm_adapter *na; /* NULL before registration */
    struct netmap_if *nifp;
    struct nm_mem *mem;
    unsigned first[NM_N_TXRX], last[NM_N_TXRX]; /* bound krings [first, last) per direction */
    uint64_t reg_flags;                         /* NR_ of the registration */
    int sync_flags;                             /* NAF_CAN_FORWARD_DOWN */
    struct nm_csb_atok *csb_atok;               /* NULL: not in CSB mode */
    struct nm_csb_ktoa *csb_ktoa;
    _Atomic int kloop_state; /* KLOOP_ bits, models/ptnet/kloop.h */
    /* poll: one waiter per direction, on waits_on (its one ring's, or the adapter's) from the first
     * time that nothing was ready */
    struct nm_waiter waiter[NM_N_TXRX];
    struct nm_waiters *waits_on[NM_N_TXRX];
    _Atomic bool is_armed[NM_N_TXRX];
    _Atomic bool is_signalled; /* poll_fd was written */
    int poll_fd;
};

/* nm_open and nm_close for those who hold host->lock; no sync-kloop may run on it. */
struct nm_file *nm_file_new(struct nm_host *host);
void nm_file_free(struct nm_file *file);

/* Allocates krings with their first indices and calls krings_created; the allocator is finalized.
 * Delete calls krings_deleted first, then frees rings, their buffers and krings. For nm_file_bind
 * and for ports that make others (pipes, wrapped NICs). */
int nm_krings_create(struct nm_adapter *na);
void nm_krings_delete(struct nm_adapter *na);
/* Rings for krings with users or NKR_NEEDRING that have none: all of them or ENOMEM, and the
 * indices begin anew. The reverse frees those of krings with neither. */
int nm_rings_create(struct nm_adapter *na);
void nm_rings_delete(struct nm_adapter *na);
static inline unsigned nm_all_rings(const struct nm_adapter *na, enum nm_txrx t)
{
    return na->n_rings[t] + na->n_host_rings[t];
}

/* The common part of a zeroed struct, one reference; takes its own of `mem`. Ring and slot counts,
 * flags and port are the caller's. Clear is for ops->free. */
void nm_adapter_init(struct nm_adapter *na, struct nm_host *host, const struct nm_port_ops *ops,
                     const char *name, struct nm_mem *mem);
void nm_adapter_clear(struct nm_adapter *na);
struct nm_adapter *nm_adapter_ref(struct nm_adapter *na);
void nm_adapter_unref(struct nm_adapter *na); /* host->lock held; frees at 0 */

/* Port kinds find (or with `create` make) the adapter a request names: 0 with *na referenced, 0
 * with *na NULL (not mine: ask the next), or errno. In netmap.md 4.1's order. Called with
 * host->lock. */
typedef int (*nm_resolve_fn)(struct nm_host *host, struct nmreq_header *header,
                             struct nmreq_register *reg, struct nm_mem *mem, bool create,
                             struct nm_adapter **na);
int nm_null_resolve(struct nm_host *, struct nmreq_header *, struct nmreq_register *,
                    struct nm_mem *, bool create, struct nm_adapter **);
int nm_monitor_resolve(struct nm_host *, struct nmreq_header *, struct nmreq_register *,
                       struct nm_mem *, bool create, struct nm_adapter **);
int nm_pipe_resolve(struct nm_host *, struct nmreq_header *, struct nmreq_register *,
                    struct nm_mem *, bool create, struct nm_adapter **);
int vale_resolve(struct nm_host *, struct nmreq_header *, struct nmreq_register *, struct nm_mem *,
                 bool create, struct nm_adapter **);
int nm_nic_resolve(struct nm_host *, struct nmreq_header *, struct nmreq_register *,
                   struct nm_mem *, bool create, struct nm_adapter **);
/* All of the above in order; ENXIO if nobody knows the name. `mem` or nr_mem_id replaces the
 * allocator of an idle adapter that does not own its memory. nm_unresolve gives the reference back,
 * and the allocator too if nobody uses the port. */
void nm_unresolve(struct nm_adapter *na);
int nm_resolve(struct nm_host *host, struct nmreq_header *header, struct nmreq_register *reg,
               struct nm_mem *mem, bool create, struct nm_adapter **na);

/* The port is leaving netmap mode, or its driver goes: monitors see nothing any more, and learn it
 * (EIO). Rings still exist; host->lock held. */
void nm_monitor_stop(struct nm_adapter *parent);

/* Which rings of a direction a mode selects (netmap.md 5.2): [*first, *last). EINVAL: bad mode,
 * ring or no host rings. */
int nm_ring_range(const struct nm_adapter *na, enum nm_txrx t, uint32_t mode, uint16_t ringid,
                  uint64_t flags, unsigned *first, unsigned *last);

/* Bind and unbind as REGISTER does it, for kernel users too (a switch that wraps a NIC); host->lock
 * held. A reference of its own is taken. 0 or errno of netmap.md 5.1, everything undone. */
int nm_file_bind(struct nm_file *file, struct nm_adapter *na, uint32_t mode, uint16_t ringid,
                 uint64_t flags);
void nm_file_unbind(struct nm_file *file);

struct vale_switches;

struct nm_host {
    pthread_mutex_t lock;
    struct nm_host_options options; /* defaults filled in */
    char *name;
    struct nm_mems *mems;
    GHashTable *nics; /* name -> struct nm_adapter */
    struct vale_switches *vale;
    GPtrArray *files;
    GArray *kept_memory; /* struct nm_port_memory whose ports are closed and whose users are not */
    pthread_mutex_t log_lock;
    nm_log_fn log;
    void *log_data;
};

/* Memory of this process at an address that a request or slot named: 0, or EFAULT where none is
 * mapped (or not writable). System calls: not for the data path. */
int nm_copyin(void *to, uint64_t from, size_t len);
int nm_copyout(uint64_t to, const void *from, size_t len);

void nm_log(struct nm_host *host, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
