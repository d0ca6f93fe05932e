/* policy/hash.h - the hash of the look-up tables.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  FNV-1a with a final mix.  What is stored comes from
 * the configuration, so nobody else can pile up collisions; what strangers
 * send is only looked up.
 */
#ifndef POLICY_HASH_H
#define POLICY_HASH_H

#include <stdint.h>

#include "policy/slice.h"

/* Without case, so that one hash serves tables of either kind. */
static inline uint32_t
hash_nocase(struct slice s)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < s.len; i++) {
        h ^= (unsigned char)slice_lower(s.at[i]);
        h *= 0x100000001b3u;
    }
    return (uint32_t)(h ^ h >> 29 ^ h >> 47);
}

#endif
