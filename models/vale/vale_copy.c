/*
 * Reading what a sender's slot points to: its buffer, or with NS_INDIRECT an address that the
 * application wrote, which need not be mapped: a load of our own would be a SIGSEGV.
 */
#include "models/vale/vale_private.h"

bool vale_frag_read(const struct vale_frag *frag, uint32_t offset, void *to, uint32_t len)
{
    const uint8_t *from = (const uint8_t *)((uintptr_t)frag->data + offset);

    if (frag->flags & NS_INDIRECT) {
        return len == 0 || nm_copyin(to, (uintptr_t)from, len) == 0;
    }
    memcpy(to, from, len);
    return true;
}
