/* policy/rule_index_private.h - what rule_index.c fills and rule_walk.c reads.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_RULE_INDEX_PRIVATE_H
#define POLICY_RULE_INDEX_PRIVATE_H

#include "policy/rule.h"
#include "policy/rule_index.h"
#include "policy/slice.h"

/* A hash stands for key and text.  Two that fell together would only have a
 * rule asked in vain. */
struct rule_slot {
    uint64_t hash; /* 0 = free */
    uint32_t begin, n;
};

struct rule_list { /* a list that a key is held against: one question for all
                    * rules that do so */
    struct condition condition;
    struct pattern pattern; /* the condition's */
    uint64_t hash;
};

enum { RULE_FILTER_BITS = 8 /* for each slot; a power of two */ };

struct rule_index {
    size_t mask; /* slots - 1; slots are a power of two, at most half used */
    struct rule_slot *slot;
    uint64_t *filter; /* a bit for each hash: small enough to stay in a cache,
                       * it spares the look for what is not there */
    uint32_t *rule;   /* the slots' ranges, then those below */
    struct rule_range always;
    struct rule_range from; /* filed under From: asked while that is not known
                             * or cannot be read */
    unsigned keys;          /* bit 1 << enum match_key: looked up as text */
    size_t n_lists;
    struct rule_list *list;
    unsigned n_bits;
    uint8_t bits[129]; /* prefix lengths of networks in use */
};

static inline bool
rule_key_is_from(enum match_key key)
{
    return key == MATCH_FROM || key == MATCH_FROM_DOMAIN;
}

/* ---- hashes: FNV-1a from the end, so that one pass meets every tail ---- */

static inline uint64_t
rule_hash_start(enum match_key key)
{
    return 0xcbf29ce484222325u ^ (uint64_t)(key + 1) * 0x9e3779b97f4a7c15u;
}

static inline uint64_t
rule_hash_step(uint64_t h, char c)
{
    return (h ^ (unsigned char)slice_lower(c)) * 0x100000001b3u;
}

static inline uint64_t
rule_hash_end(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h != 0 ? h : 1;
}

static inline uint64_t
rule_hash_text(enum match_key key, struct slice s)
{
    uint64_t h = rule_hash_start(key);

    for (size_t i = s.len; i > 0; i--)
        h = rule_hash_step(h, s.at[i - 1]);
    return rule_hash_end(h);
}

static inline size_t
rule_filter_bit(const struct rule_index *x, uint64_t hash)
{
    return hash >> 32 & (RULE_FILTER_BITS * (x->mask + 1) - 1);
}

static inline struct rule_range
rule_index_find(const struct rule_index *x, uint64_t hash)
{
    size_t i = hash & x->mask, bit = rule_filter_bit(x, hash);

    if ((x->filter[bit / 64] >> bit % 64 & 1) == 0)
        return (struct rule_range){NULL, NULL};
    while (x->slot[i].hash != 0 && x->slot[i].hash != hash)
        i = (i + 1) & x->mask;
    return (struct rule_range){x->rule + x->slot[i].begin,
                               x->rule + x->slot[i].begin + x->slot[i].n};
}

/* Of the first `bits` bits; bits behind them do not count. */
uint64_t rule_hash_network(const uint8_t address[16], unsigned bits);

#endif
