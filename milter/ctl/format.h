/* milter/ctl/format.h - numbers, times and tables as people read them, and
 * times as scripts do.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure, but for the time zone of ctl_time().
 */
#ifndef CTL_FORMAT_H
#define CTL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "policy/policy.h"

enum { FORMAT_MAX = 40 /* octets of any of these texts, NUL included */ };

/* "2 h 5 min", "45 s"; rounded up; "now" for 0. */
void ctl_duration(uint64_t ms, char *ret, size_t size);
/* "300 MB", "1.5 GB": 1 KB = 1000 octets, as the configuration writes it. */
void ctl_octets(uint64_t n, char *ret, size_t size);
/* Units of a dimension: octets as above, all else as a number. */
void ctl_units(enum dimension d, uint64_t n, char *ret, size_t size);
/* Rounded down, so that 100 is really all of it; at most 999. */
unsigned ctl_percent(uint64_t used, uint64_t limit);
/* "2026-03-01 10:00:00", local time. */
void ctl_time(int64_t unix_s, char *ret, size_t size);
void ctl_rfc3339(int64_t unix_s, char *ret, size_t size); /* in UTC */
json_t *ctl_json_time(int64_t unix_s); /* RFC 3339, or null for 0 */

/* ---- a table ---- */

struct ctl_table;

/* Columns with these titles, NULL-terminated; one that begins with '>' is
 * aligned to the right.  NULL = out of memory. */
struct ctl_table *ctl_table_new(const char *const *titles);
/* The next cell, from left to right, row by row. */
void ctl_table_cell(struct ctl_table *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints, no line wider than `width` characters (0 = as wide as it is), and
 * frees.  False = out of memory: nothing was printed. */
bool ctl_table_print(struct ctl_table *t, FILE *to, unsigned width);

#endif
