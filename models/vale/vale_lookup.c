/*
 * The learning table: 1024 buckets of one address each, hashed as netmap's switch hashes them
 * (netmap.md 9.3, 3). A newcomer takes its bucket over; nothing ages.
 */
#include "models/vale/vale_private.h"

/* Bob Jenkins' mix of three words (lookup2, 1996); the last word is the hash. */
static uint32_t mix(uint32_t a, uint32_t b, uint32_t c)
{
    a = (a - b - c) ^ (c >> 13);
    b = (b - c - a) ^ (a << 8);
    c = (c - a - b) ^ (b >> 13);
    a = (a - b - c) ^ (c >> 12);
    b = (b - c - a) ^ (a << 16);
    c = (c - a - b) ^ (b >> 5);
    a = (a - b - c) ^ (c >> 3);
    b = (b - c - a) ^ (a << 10);
    return (c - a - b) ^ (b >> 15);
}

unsigned vale_hash(uint64_t mac)
{
    const uint32_t golden_ratio = 0x9e3779b9;

    return mix(golden_ratio + (uint32_t)mac, golden_ratio + (uint32_t)(mac >> 32), 0) &
           (VALE_TABLE_SIZE - 1);
}

void vale_learn(struct vale_table *table, uint64_t mac, unsigned port)
{
    atomic_store_explicit(&table->entries[vale_hash(mac)], mac | (uint64_t)(port + 1) << 48,
                          memory_order_relaxed);
}

unsigned vale_find(const struct vale_table *table, uint64_t mac)
{
    if (vale_mac_is_group(mac)) {
        return VALE_PORT_BROADCAST;
    }
    uint64_t entry = atomic_load_explicit(&table->entries[vale_hash(mac)], memory_order_relaxed);
    if ((entry & VALE_MAC_MASK) != mac || entry >> 48 == 0) {
        return VALE_PORT_BROADCAST;
    }
    return (unsigned)(entry >> 48) - 1;
}
