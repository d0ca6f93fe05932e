/* tests/fuzz/fuzz_zone.c - any octets as the file of a time zone.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: eight octets of Unix time, then the file.  It is a zone, or there is
 * a sentence about why not; a zone's clock is never further from UTC than
 * clocks are, at that time or at the ends of all time.
 */
#include <stdint.h>
#include <stdlib.h>

#include "policy/arena.h"
#include "policy/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WEEK_MINUTES = 7 * 24 * 60, AWAY_MINUTES = 27 * 60 };

static void
check(bool good)
{
    if (!good)
        abort();
}

static unsigned
minute_of_week(struct wall_clock w)
{
    check(w.weekday < 7 && w.minute < 24 * 60);
    return w.weekday * 24 * 60 + w.minute;
}

static void
look(const struct zone *z, int64_t now_s)
{
    unsigned here = minute_of_week(zone_wall(z, now_s)),
             utc = minute_of_week(zone_wall(NULL, now_s)),
             away = (here + WEEK_MINUTES - utc) % WEEK_MINUTES;

    check(away <= AWAY_MINUTES || away >= WEEK_MINUTES - AWAY_MINUTES);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    const struct zone *z;
    const char *error;
    uint64_t bits = 0;
    int64_t now_s;

    check(a != NULL);
    for (size_t i = 0; i < 8 && size > 0; i++, size--)
        bits = bits << 8 | *data++;
    memcpy(&now_s, &bits, sizeof now_s);
    z = zone_read(a, (const char *)data, size, &error);
    check((z == NULL) == (error != NULL));
    if (z != NULL) {
        look(z, now_s);
        look(z, 0);
        look(z, INT64_MIN);
        look(z, INT64_MAX);
    }
    arena_free(a);
    return 0;
}
