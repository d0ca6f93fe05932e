/* policy/pick.c - see pick.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/pick.h"

#include <math.h>

/* The finish of SplitMix64: every bit of x counts for every bit of the
 * result. */
static uint64_t
mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t
pick_seed(struct slice name)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (unsigned char)slice_lower(name.at[i])) * 0x100000001b3u;
    return h;
}

double
pick_draw(uint64_t seed, uint64_t id, unsigned weight)
{
    /* 53 bits, the middle of each step: never 0, never 1. */
    double u = ((double)(mix(mix(seed) ^ id) >> 11) + 0.5) * 0x1p-53;

    return -log(u) / (double)weight;
}
