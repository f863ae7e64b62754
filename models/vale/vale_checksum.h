/*
 * The Internet checksum (RFC 1071) over memory in pieces: native 16-bit words are added, so that
 * the result is stored as it is.
 */
#ifndef RINGLAB_VALE_CHECKSUM_H
#define RINGLAB_VALE_CHECKSUM_H

#include <stdint.h>
#include <string.h>

static inline uint16_t vale_sum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* Adds `len` bytes that begin at an even place. */
static inline uint64_t vale_sum_add(uint64_t sum, const void *from, uint32_t len)
{
    const uint8_t *at = from;
    uint64_t low = 0, high = 0, word;

    for (; len >= sizeof(word); at += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        low += word & 0xffffffff;
        high += word >> 32;
    }
    word = 0;
    memcpy(&word, at, len);
    return sum + vale_sum_fold(low) + vale_sum_fold(high) + vale_sum_fold(word);
}

/* The same at an odd place: each byte counts in the other half of its word. */
static inline uint64_t vale_sum_add_odd(uint64_t sum, const void *from, uint32_t len)
{
    uint16_t part = vale_sum_fold(vale_sum_add(0, from, len));

    return sum + (uint16_t)(part << 8 | part >> 8);
}

static inline uint16_t vale_sum_finish(uint64_t sum)
{
    return (uint16_t)~vale_sum_fold(sum);
}

#endif
