/* policy/scalar.h - numbers with units and times, as people write them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  All compare without case and overflow-check; *ret is set only on
 * success.
 */
#ifndef POLICY_SCALAR_H
#define POLICY_SCALAR_H

#include <stdint.h>

#include "policy/slice.h"

enum scalar_result {
    SCALAR_OK = 0,
    SCALAR_ESYNTAX, /* no digits, or something behind them */
    SCALAR_EUNIT,   /* no unit, or one that we do not know */
    SCALAR_ERANGE,  /* does not fit into 64 bits; no such day or time */
};

enum scalar_result scalar_number(struct slice s, uint64_t *ret);

/* "500ms", "60s", "10m", "24h", "7d"; 0 needs no unit. */
enum scalar_result scalar_duration(struct slice s, uint64_t *ret_ms);

/* Octets: "1000", "10KB" (1000), "10KiB" (1024), MB, MiB, GB, GiB, TB, TiB,
 * B; a space may stand before the unit. */
enum scalar_result scalar_size(struct slice s, uint64_t *ret_octets);

/* "80%"; the sign may be left out. */
enum scalar_result scalar_percent(struct slice s, uint64_t *ret);

/* "2026-01-05T12:00:00Z", "2026-01-05 13:00:00.5+01:00" (RFC 3339 5.6), to
 * Unix time; the fraction is cut off, a leap second is the second after it. */
enum scalar_result scalar_time(struct slice s, int64_t *ret_s);

/* The other way, in the largest unit that leaves a whole number.  Return ret
 * or a literal. */
enum { SCALAR_TEXT = 32 /* octets, NUL included */ };
const char *scalar_show_duration(uint64_t ms, char ret[SCALAR_TEXT]);
const char *scalar_show_size(uint64_t octets, char ret[SCALAR_TEXT]);

#endif
