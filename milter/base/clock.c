/* milter/base/clock.c - see clock.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/clock.h"

#include <stddef.h>
#include <time.h>

static uint64_t
real_boot_ms(void *cookie)
{
    struct timespec t;

    (void)cookie;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int64_t
real_wall_ms(void *cookie)
{
    struct timespec t;

    (void)cookie;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t
clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

const struct clock clock_real = {real_boot_ms, real_wall_ms, NULL};
