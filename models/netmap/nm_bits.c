/*
 * Free objects as a bitmap of two levels: see nm_bits_private.h.
 */
#include "models/netmap/nm_bits_private.h"

#include <glib.h>

static uint32_t words_for(uint32_t bits)
{
    return bits / 64 + (bits % 64 != 0);
}

static void set_first(uint64_t *words, uint32_t bits)
{
    for (uint32_t i = 0; i < bits / 64; i++)
        words[i] = UINT64_MAX;
    if (bits % 64 != 0)
        words[bits / 64] = (UINT64_C(1) << bits % 64) - 1;
}

void nm_bits_init(struct nm_bits *b, uint32_t n)
{
    *b = (struct nm_bits){.n = n};
    b->words = g_new0(uint64_t, words_for(n));
    b->summary = g_new0(uint64_t, words_for(words_for(n)));
    nm_bits_reset(b);
}

void nm_bits_clear(struct nm_bits *b)
{
    g_clear_pointer(&b->words, g_free);
    g_clear_pointer(&b->summary, g_free);
    *b = (struct nm_bits){.n = 0};
}

void nm_bits_reset(struct nm_bits *b)
{
    set_first(b->words, b->n);
    set_first(b->summary, words_for(b->n));
    b->n_free = b->n;
    b->first = 0;
}

bool nm_bits_take(struct nm_bits *b, uint32_t *index)
{
    if (b->n_free == 0)
        return false;
    while (b->summary[b->first] == 0)
        b->first++;
    uint32_t word = b->first * 64 + (uint32_t)__builtin_ctzll(b->summary[b->first]);
    *index = word * 64 + (uint32_t)__builtin_ctzll(b->words[word]);
    b->words[word] &= b->words[word] - 1;
    if (b->words[word] == 0)
        b->summary[word / 64] &= ~(UINT64_C(1) << word % 64);
    b->n_free--;
    return true;
}

bool nm_bits_give(struct nm_bits *b, uint32_t index)
{
    uint32_t word = index / 64;
    uint64_t bit = UINT64_C(1) << index % 64;

    if (index >= b->n || (b->words[word] & bit) != 0)
        return false;
    b->words[word] |= bit;
    b->summary[word / 64] |= UINT64_C(1) << word % 64;
    b->first = MIN(b->first, word / 64);
    b->n_free++;
    return true;
}
