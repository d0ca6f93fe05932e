/* policy/zone.h - time zones: what the clock on the wall shows.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  Pure: the compiler reads the zone's file through
 * struct policy_files.
 *
 * Source: RFC 8536 (TZif, versions 1 to 3, and the POSIX TZ footer for times
 * after the last transition).
 */
#ifndef POLICY_ZONE_H
#define POLICY_ZONE_H

#include <stddef.h>
#include <stdint.h>

struct arena;
struct zone;

/* Reads the octets of a TZif file into the arena.  NULL: *ret_error is a
 * sentence, or NULL when memory ran out. */
const struct zone *zone_read(struct arena *a, const char *tzif, size_t len,
                             const char **ret_error);

struct wall_clock {
    unsigned weekday; /* 0 = Sunday */
    unsigned minute;  /* of the day, 0..1439 */
};

/* zone NULL = UTC.  now_s: Unix time, any. */
struct wall_clock zone_wall(const struct zone *z, int64_t now_s);

#endif
