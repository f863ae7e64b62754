/*
 * Which of n objects are free: one bit each, and one bit per 64 of those, so that the lowest free
 * object of a million is found by looking at a few words. Not thread safe; nothing is allocated
 * between nm_bits_init and nm_bits_clear. Private to nm_mem.
 */
#ifndef RINGLAB_NM_BITS_PRIVATE_H
#define RINGLAB_NM_BITS_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

struct nm_bits {
    uint64_t *words;   /* 1: free */
    uint64_t *summary; /* 1: the word has a free object */
    uint32_t n, n_free;
    uint32_t first; /* no word of the summary before this one is other than 0 */
};

void nm_bits_init(struct nm_bits *b, uint32_t n); /* all free */
void nm_bits_clear(struct nm_bits *b);
void nm_bits_reset(struct nm_bits *b); /* all free again */
/* Takes the lowest free object; false if there is none. */
bool nm_bits_take(struct nm_bits *b, uint32_t *index);
/* Gives one back; false if it is free already or beyond n. */
bool nm_bits_give(struct nm_bits *b, uint32_t index);

#endif
