/* policy/set.h - an immutable set of lower-cased strings: big lists.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Costs the text, an octet or two for its length, and about 5.3 octets an
 * entry.
 */
#ifndef POLICY_SET_H
#define POLICY_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

struct arena;
struct string_set;

/* Copies the entries, folded to lower case, into the arena.  NULL = out of
 * memory. */
struct string_set *string_set_new(struct arena *a, const struct slice *entry,
                                  size_t n);

/* For entries that come one by one: an empty set with room for n of them,
 * which have so many octets together (more than 4 GiB is out of memory). */
struct string_set *string_set_room(struct arena *a, size_t n, size_t octets);
/* There must be room.  A text that is there already takes none. */
void string_set_add(struct string_set *s, struct slice text);

bool string_set_has(const struct string_set *s, struct slice text);
size_t string_set_count(const struct string_set *s);

#endif
