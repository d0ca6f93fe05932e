/* milter/ctl/tally.h - how often something was seen, by name.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A name has two parts (a rule and its place, before and after).  Bounded:
 * names that come when TALLY_MAX are there already are counted together.
 */
#ifndef CTL_TALLY_H
#define CTL_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TALLY_MAX = 100000 };

struct tally_row {
    const char *name, *detail; /* owned by the tally */
    uint64_t n;
};

struct tally;

struct tally *tally_new(void); /* NULL = out of memory */
void tally_free(struct tally *t);

/* Counts n more.  detail may be NULL: "".  False = out of memory. */
bool tally_add(struct tally *t, const char *name, const char *detail,
               uint64_t n);

/* The rows, most first, then by name; valid until the next call. */
const struct tally_row *tally_rows(struct tally *t, size_t *ret_n);

uint64_t tally_others(const struct tally *t); /* counted without a name */

#endif
