/* tests/race/race.h - what the race programs share.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A race program runs for a few seconds, prints what it saw, and exits 0 when
 * every promise held; the first broken one ends it with exit code 1.  Run it
 * plain and in a build with -DGMROUTE_SANITIZE=thread.
 */
#ifndef TESTS_RACE_H
#define TESTS_RACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "milter/base/clock.h"

#define RACE_CHECK(promise, ...)                                       \
    do {                                                               \
        if (!(promise)) {                                              \
            fprintf(stderr, "%s:%d: broken: %s: ", __FILE__, __LINE__, \
                    #promise);                                         \
            fprintf(stderr, __VA_ARGS__);                              \
            fputc('\n', stderr);                                       \
            exit(1);                                                   \
        }                                                              \
    } while (0)

/* xorshift64*: each thread has its own. */
static inline uint64_t
race_random(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545f4914f6cdd1dull;
}

static inline bool
race_over(uint64_t end_ms)
{
    return clock_boot_ms(&clock_real) >= end_ms;
}

static inline uint64_t
race_end_ms(unsigned seconds)
{
    return clock_boot_ms(&clock_real) + seconds * 1000ull;
}

static inline void
race_nap_us(uint64_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    nanosleep(&t, NULL);
}

#endif
