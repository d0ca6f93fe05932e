/* policy/set.h - an immutable set of lower-cased strings: big lists.
 * SPDX-License-Identifier: Apache-2.0
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
bool string_set_has(const struct string_set *s, struct slice text);
size_t string_set_count(const struct string_set *s);

#endif
