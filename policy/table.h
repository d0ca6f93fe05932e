/* policy/table.h - names to objects.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  Lies in an arena; keys compare with case and are
 * borrowed.
 */
#ifndef POLICY_TABLE_H
#define POLICY_TABLE_H

#include <stdbool.h>

#include "policy/slice.h"

struct arena;
struct table;

struct table *table_new(struct arena *a); /* NULL = out of memory */

/* Stores value (not NULL) under a new key.  When the key is there already,
 * nothing is stored and *ret_old is the value it has; else *ret_old is NULL.
 * False = out of memory. */
bool table_add(struct table *t, struct slice key, void *value, void **ret_old);

/* The same, but a key that is there takes the new value. */
bool table_put(struct table *t, struct slice key, void *value);

void table_each(const struct table *t,
                void (*fn)(struct slice key, void *value, void *cookie),
                void *cookie);

void *table_get(const struct table *t, struct slice key); /* NULL = not there */

#endif
