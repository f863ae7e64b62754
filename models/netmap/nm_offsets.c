/*
 * Option OFFSETS of REGISTER: frames that do not begin where their buffer does (netmap.md 15).
 */
#include "models/netmap/nm_core_private.h"

#include <errno.h>

static int offset_mask(const struct nmreq_opt_offsets *option, uint32_t buf_size, uint64_t *mask)
{
    const uint32_t bits = option->nro_offset_bits;

    if (bits > 64 || option->nro_max_offset > buf_size ||
        option->nro_initial_offset > option->nro_max_offset) {
        return EINVAL;
    }
    *mask = bits == 0 || bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    return option->nro_max_offset > *mask ? EINVAL : 0;
}

/* Whether a ring that others use too was set up for at least this. */
static bool is_compatible(const struct nm_kring *kring, uint64_t mask, uint64_t max_offset)
{
    return kring->users == 1 ||
           ((kring->offset_mask & mask) == mask && kring->offset_max >= max_offset);
}

static void set(struct nm_kring *kring, const struct nmreq_opt_offsets *option, uint64_t mask)
{
    const uint64_t room = kring->buf_size - option->nro_max_offset;

    kring->offset_mask = mask;
    kring->offset_max = option->nro_max_offset;
    kring->usable_len = (uint32_t)(option->nro_min_gap ? MIN(room, option->nro_min_gap) : room);
    kring->ring->offset_mask = mask;
    for (uint32_t i = 0; i < kring->num_slots; i++) {
        kring->ring->slot[i].ptr = option->nro_initial_offset;
    }
}

/* The file is the ring's only user; but a switch may deliver into it by now, and the other end of a
 * pipe send. */
static void apply(struct nm_kring *kring, const struct nmreq_opt_offsets *option, uint64_t mask)
{
    struct nm_adapter *na = kring->na;
    bool is_held;

    if (kring->users > 1) {
        return;
    }
    atomic_store(&kring->is_on, false);
    if (na->ops->quiesce) {
        na->ops->quiesce(na);
    }
    is_held = kring->pipe && nm_kr_acquire(kring->pipe, true) == 0;
    set(kring, option, mask);
    if (is_held) {
        nm_kr_release(kring->pipe);
    }
    atomic_store(&kring->is_on, true);
}

int nm_offsets_apply(struct nm_file *file, struct nmreq_opt_offsets *option)
{
    struct nm_adapter *na = file->na;
    uint64_t mask, effective = option->nro_max_offset;
    int err;

    if (!(na->flags & NAF_OFFSETS)) {
        return EOPNOTSUPP;
    }
    err = offset_mask(option, nm_mem_buf_size(na->mem), &mask);
    for (int t = 0; !err && t < NM_N_TXRX; t++) {
        for (unsigned i = file->first[t]; i < file->last[t]; i++) {
            if (!is_compatible(&na->krings[t][i], mask, option->nro_max_offset)) {
                err = EBUSY;
            }
        }
    }
    for (int t = 0; !err && t < NM_N_TXRX; t++) {
        for (unsigned i = file->first[t]; i < file->last[t]; i++) {
            apply(&na->krings[t][i], option, mask);
            effective = MAX(effective, na->krings[t][i].offset_max);
        }
    }
    if (!err) {
        option->nro_max_offset = effective;
    }
    return err;
}
