/* milter/base/clock.h - the time, passed in so that tests can own it.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

struct clock {
    /* ms since some start, counting suspend, never going back
     * (CLOCK_BOOTTIME). */
    uint64_t (*boot_ms)(void *cookie);
    /* ms since the Unix epoch; may jump. */
    int64_t (*wall_ms)(void *cookie);
    void *cookie;
};

/* The machine's clocks. */
extern const struct clock clock_real;

/* For how long something takes: microseconds, never going back. */
uint64_t clock_us(void);

static inline uint64_t
clock_boot_ms(const struct clock *c)
{
    return c->boot_ms(c->cookie);
}

static inline int64_t
clock_wall_ms(const struct clock *c)
{
    return c->wall_ms(c->cookie);
}

#endif
