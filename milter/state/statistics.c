/* milter/state/statistics.c - see statistics.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/statistics.h"

const uint32_t latency_bound[LATENCY_BOUNDS] = {
    10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000,
};

const uint16_t reply_codes[REPLY_CODES] = {
    250, 421, 450, 451, 452, 454, 501, 530,
    534, 535, 550, 552, 553, 554, 0,   UINT16_MAX,
};

static void
count(_Atomic uint64_t *word, uint64_t n)
{
    atomic_fetch_add_explicit(word, n, memory_order_relaxed);
}

void
latency_count(_Atomic uint64_t word[LATENCY_WORDS], uint64_t took)
{
    unsigned i = 0;

    while (i < LATENCY_BOUNDS && took > latency_bound[i])
        i++;
    count(&word[i], 1);
    count(&word[LATENCY_BOUNDS + 1], took);
}

void
reply_code_count(_Atomic uint64_t word[REPLY_CODES], uint16_t code)
{
    unsigned i = 0;

    while (i < REPLY_CODES - 1 && code != reply_codes[i])
        i++;
    count(&word[i], 1);
}
