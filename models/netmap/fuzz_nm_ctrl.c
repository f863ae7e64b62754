/*
 * Fuzz target: what applications may ask of the device file, with any headers, bodies, option
 * chains and names, on several files of one host at once; and what they may write to the memory
 * they get. Each answer is an errno of netmap's, two ports of another switch go on exchanging
 * frames, and when all is closed nothing is left.
 * Input: operations, a byte each with what it needs behind it.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum {
    N_FILES = 6,
    N_OPTIONS = 4,
    MAX_OPERATIONS = 100,
    OPTION_BYTES = 128,
    USER_BYTES = 1 << 20,
    FILE_BYTES = 64 << 20, /* what a region may take: with more asked for there are fewer buffers */
    FRAME_BYTES = 60,
};

static uint8_t *user_memory; /* for EXTMEM and CSB */

/* ---- input ---- */

struct input {
    const uint8_t *data;
    size_t left;
};

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
        value |= (uint64_t)*in->data++ << (8 * i);
    return value;
}

/* Mostly small, as that gets further than any 64 bits. */
static uint64_t take_number(struct input *in)
{
    static const uint8_t widths[4] = {1, 2, 4, 8};
    uint64_t how = take(in, 1);

    return how < 0xf0 ? how : take(in, widths[how & 3]);
}

static void take_bytes(struct input *in, void *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)to)[i] = (uint8_t)take(in, 1);
}

static void take_name(struct input *in, char name[NETMAP_REQ_IFNAMSIZ])
{
    static const char *const names[] = {
        "vale0:a",   "vale0:b",   "vale1:a",   "vale0:", "vale0", "em0",   "em1",   "vale0:em0",
        "vale0:em1", "vale1:em0", "vale0:v0",  "v0",     "em0{1", "em0}1", "em1{a", "vale0:a{1",
        "vale0:a}1", "vale0:c{2", "vale0:c}2", "{",      "}",     "em0{",  "",      "vale0:a{1{2",
    };
    uint64_t which = take(in, 1);

    memset(name, 0, NETMAP_REQ_IFNAMSIZ);
    if (which < 0xf0)
        (void)g_strlcpy(name, names[which % G_N_ELEMENTS(names)], NETMAP_REQ_IFNAMSIZ);
    else
        take_bytes(in, name, take(in, 1) % (NETMAP_REQ_IFNAMSIZ + 1));
    if (strncmp(name, "valeQ", 5) == 0) /* which is the bystanders' */
        name[4] = 'q';
}

/* Mostly an address that is good. */
static uint64_t take_address(struct input *in, void *good)
{
    uint64_t how = take(in, 1);

    return how < 0xf0 ? (uintptr_t)good : how < 0xf8 ? take(in, 8) : (uintptr_t)good + (how & 7);
}

/* ---- requests ---- */

/* Bodies are what the type asks for: 16-bit fields first would be misread in others, but whatever
 * comes of it is a request all the same. */
static void take_body(struct input *in, uint16_t type, uint64_t body[16])
{
    struct nmreq_register *reg = (void *)body;

    memset(body, 0, 16 * sizeof(*body));
    switch (type) {
    case NETMAP_REQ_REGISTER:
    case NETMAP_REQ_VALE_ATTACH:
        reg->nr_mode = (uint32_t)take_number(in) % 12;
        reg->nr_flags = take(in, 3);
        reg->nr_ringid = (uint16_t)take_number(in);
        reg->nr_mem_id = (uint16_t)take_number(in);
        reg->nr_tx_slots = (uint32_t)take_number(in);
        reg->nr_rx_slots = (uint32_t)take_number(in);
        reg->nr_tx_rings = (uint16_t)take_number(in);
        reg->nr_rx_rings = (uint16_t)take_number(in);
        reg->nr_host_tx_rings = (uint16_t)take_number(in);
        reg->nr_host_rx_rings = (uint16_t)take_number(in);
        reg->nr_extra_bufs = (uint32_t)take_number(in);
        break;
    default:
        for (unsigned i = 0; i < 32; i += 2) /* pairs of 16-bit numbers, or one of 32 */
            ((uint32_t *)(void *)body)[i / 2] = (uint32_t)take_number(in);
        break;
    }
}

static void take_option(struct input *in, uint8_t *option)
{
    struct nmreq_option *head = (void *)option;
    struct nmreq_opt_extmem *extmem = (void *)option;
    struct nmreq_opt_csb *csb = (void *)option;

    memset(option, 0, OPTION_BYTES);
    head->nro_reqtype = (uint32_t)take_number(in) % (NETMAP_REQ_OPT_MAX + 2);
    head->nro_size = take_number(in);
    if (head->nro_reqtype == NETMAP_REQ_OPT_EXTMEM) {
        extmem->nro_usrptr = take_address(in, user_memory);
        extmem->nro_info.nr_memsize = take(in, 1) << 12;
        extmem->nro_info.nr_if_pool_objtotal = (uint32_t)take_number(in);
        extmem->nro_info.nr_if_pool_objsize = (uint32_t)take_number(in);
        extmem->nro_info.nr_ring_pool_objtotal = (uint32_t)take_number(in);
        extmem->nro_info.nr_ring_pool_objsize = (uint32_t)take_number(in);
        extmem->nro_info.nr_buf_pool_objtotal = (uint32_t)take_number(in);
        extmem->nro_info.nr_buf_pool_objsize = (uint32_t)take_number(in);
    } else if (head->nro_reqtype == NETMAP_REQ_OPT_CSB) {
        csb->csb_atok = take_address(in, user_memory);
        csb->csb_ktoa = take_address(in, user_memory + USER_BYTES / 2);
    } else {
        for (unsigned i = 0; i < 4; i++) {
            uint64_t value = take_number(in);
            memcpy(option + sizeof(*head) + 8 * (size_t)i, &value, sizeof(value));
        }
    }
}

/* A chain of options, which may go anywhere, also back. */
static uint64_t take_options(struct input *in, uint8_t options[N_OPTIONS][OPTION_BYTES])
{
    unsigned n = take(in, 1) % (N_OPTIONS + 1);

    for (unsigned i = 0; i < n; i++) {
        struct nmreq_option *head = (void *)options[i];
        take_option(in, options[i]);
        uint64_t how = take(in, 1);
        head->nro_next = how < 0xe0   ? i + 1 < n ? (uintptr_t)options[i + 1] : 0
                         : how < 0xf0 ? (uintptr_t)options[how % N_OPTIONS]
                                      : take_address(in, options[0]);
    }
    return n > 0 ? (uintptr_t)options[0] : 0;
}

static void check_errno(int err)
{
    static const int known[] = {0,   EINVAL, ENXIO,  EBUSY,  ENOMEM,  EFAULT,    EMSGSIZE,
                                EIO, EEXIST, ENOENT, ENODEV, ENOTSUP, EOPNOTSUPP};

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
        if (err == known[i])
            return;
    abort();
}

static void request(struct input *in, struct nm_file *file)
{
    struct nmreq_header header = {.nr_version = NETMAP_API};
    uint8_t options[N_OPTIONS][OPTION_BYTES] __attribute__((aligned(8)));
    uint64_t body[16], how = take(in, 1);

    header.nr_reqtype = (uint16_t)(how & 0x1f);
    if (how & 0x20)
        header.nr_version = (uint16_t)take_number(in);
    if (how & 0x40)
        header.nr_reserved = (uint32_t)take_number(in);
    take_name(in, header.nr_name);
    take_body(in, header.nr_reqtype, body);
    header.nr_options = take_options(in, options);
    bool has_body = header.nr_reqtype != NETMAP_REQ_VALE_DELIF &&
                    header.nr_reqtype != NETMAP_REQ_SYNC_KLOOP_STOP &&
                    header.nr_reqtype != NETMAP_REQ_CSB_ENABLE;
    header.nr_body = take_address(in, has_body ? body : NULL);
    /* with a CSB the loop would run in here; it is another target's */
    if (header.nr_reqtype != NETMAP_REQ_SYNC_KLOOP_START || !file->csb_atok)
        check_errno(nm_ctrl(file, &header));
}

static void legacy_request(struct input *in, struct nm_file *file)
{
    struct nmreq req = {.nr_version = 11};
    char name[NETMAP_REQ_IFNAMSIZ];

    take_name(in, name);
    memcpy(req.nr_name, name, sizeof(req.nr_name));
    uint64_t how = take(in, 1);
    req.nr_version = how < 0xf0 ? NETMAP_API : (uint32_t)take_number(in);
    req.nr_ringid = (uint16_t)take(in, 2);
    req.nr_cmd = (uint16_t)(take_number(in) % 16);
    req.nr_arg1 = (uint16_t)take_number(in);
    req.nr_arg2 = (uint16_t)take_number(in);
    req.nr_arg3 = (uint32_t)take_number(in);
    req.nr_flags = (uint32_t)take(in, 3);
    req.nr_tx_slots = (uint32_t)take_number(in);
    req.nr_rx_rings = (uint16_t)take_number(in);
    check_errno(nm_legacy(file, how & 1 ? NIOCGINFO : NIOCREGIF, &req));
}

/* ---- what an application does with its memory ---- */

/* The file's rings are where the interface says, unless somebody has written over that. */
static struct netmap_ring *ring_of(struct nm_file *file, uint64_t which)
{
    if (!file->nifp)
        return NULL;
    enum nm_txrx t = which & 1;
    unsigned n = file->last[t] - file->first[t];
    return n > 0 ? file->na->krings[t][file->first[t] + (which >> 1) % n].ring : NULL;
}

static void write_ring(struct input *in, struct nm_file *file)
{
    struct netmap_ring *ring = ring_of(file, take(in, 1));
    uint64_t how = take(in, 1);
    uint32_t value = (uint32_t)take_number(in);

    if (!ring)
        return;
    if (how & 0x80) { /* as it should be */
        uint32_t n = MAX(ring->num_slots, 1);
        ring->head = ring->cur = (ring->head + value) % n;
    } else if (how & 0x40) {
        ring->head = value;
        ring->cur = (uint32_t)take_number(in);
    } else {
        struct netmap_slot *slot = &ring->slot[value % 8];
        slot->buf_idx = (uint32_t)take_number(in);
        slot->len = (uint16_t)take_number(in);
        slot->flags = (uint16_t)take(in, 2);
        slot->ptr = take_address(in, user_memory);
    }
}

static void scribble(struct input *in, struct nm_file *file)
{
    uint64_t size = nm_memory_size(file), at = take(in, 3), value = take(in, 8);
    uint8_t *memory = nm_memory(file);

    if (memory)
        memcpy(memory + at * 8 % size, &value, sizeof(value));
}

/* ---- two ports that behave ---- */

struct bystanders {
    struct nm_port *from, *to;
    uint8_t n_sent;
};

static void exchange(struct bystanders *b)
{
    struct netmap_ring *tx = nm_txring(b->from->nifp, 0), *rx = nm_rxring(b->to->nifp, 0);
    struct netmap_slot *slot = &tx->slot[tx->head];

    memset(nm_buf(tx, slot->buf_idx), 0xff, FRAME_BYTES);
    memset(nm_buf(tx, slot->buf_idx) + 6, ++b->n_sent & 0xfe, FRAME_BYTES - 6);
    slot->len = FRAME_BYTES;
    tx->head = tx->cur = nm_ring_next(tx, tx->head);
    if (nm_txsync(b->from->file) != 0 || nm_rxsync(b->to->file) != 0 || nm_ring_space(rx) != 1 ||
        rx->slot[rx->head].len != FRAME_BYTES ||
        (uint8_t)nm_buf(rx, rx->slot[rx->head].buf_idx)[20] != (b->n_sent & 0xfe))
        abort();
    rx->head = rx->cur = nm_ring_next(rx, rx->head);
}

/* ---- one input ---- */

static void operate(struct input *in, struct nm_host *host, struct nm_file *files[N_FILES])
{
    uint64_t what = take(in, 1);
    struct nm_file **file = &files[what % N_FILES];

    if (!*file)
        *file = nm_open(host);
    switch (what / N_FILES % 16) {
    case 0:
        (void)nm_txsync(*file);
        break;
    case 1:
        (void)nm_rxsync(*file);
        break;
    case 2:
        (void)nm_poll(*file, (short)take(in, 1));
        break;
    case 3:
        nm_close(g_steal_pointer(file));
        break;
    case 4:
        legacy_request(in, *file);
        break;
    case 5:
    case 6:
        write_ring(in, *file);
        break;
    case 7:
        scribble(in, *file);
        break;
    default:
        request(in, *file);
        break;
    }
}

static struct nm_host *host_new(void)
{
    const struct nm_host_options options = {.buf_num = 4096};
    const struct nm_nic_options em0 = {.name = "em0", .tx_rings = 2, .rx_rings = 3, .tx_slots = 64},
                                em1 = {.name = "em1", .is_emulated = true};
    struct nm_host *host = nm_host_new(&options, NULL);

    if (!host || !nm_nic_new(host, &em0, NULL) || !nm_nic_new(host, &em1, NULL))
        abort();
    return host;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct rlimit limit = {.rlim_cur = FILE_BYTES, .rlim_max = FILE_BYTES};

    (void)argc;
    (void)argv;
    user_memory =
        mmap(NULL, USER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (user_memory == MAP_FAILED || setrlimit(RLIMIT_FSIZE, &limit) != 0)
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct nm_host *host = host_new();
    struct nm_file *files[N_FILES] = {NULL};
    struct bystanders b = {.from = nm_port_open(host, "valeQ9:x", 0, NULL),
                           .to = nm_port_open(host, "valeQ9:y", 0, NULL)};

    signal(SIGXFSZ, SIG_IGN); /* which libFuzzer has taken meanwhile */
    for (unsigned n = 0; n < MAX_OPERATIONS && in.left > 0; n++)
        operate(&in, host, files);
    exchange(&b);
    for (unsigned i = 0; i < N_FILES; i++)
        nm_close(files[i]);
    exchange(&b);
    nm_port_close(b.from);
    nm_port_close(b.to);
    nm_host_free(host);
    return 0;
}
