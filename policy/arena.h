/* policy/arena.h - memory that is filled once and freed whole.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_ARENA_H
#define POLICY_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

struct arena;

struct arena *arena_new(void);    /* NULL = out of memory */
void arena_free(struct arena *a); /* runs the cleanups; takes NULL */

/* Zeroed, aligned for any type; NULL = out of memory.  n * size is checked. */
void *arena_alloc(struct arena *a, size_t n, size_t size);
char *arena_copy(struct arena *a, struct slice s); /* with a NUL */
char *arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Calls fn(object) when the arena is freed, newest first.  False = out of
 * memory (fn was not registered). */
bool arena_cleanup(struct arena *a, void (*fn)(void *object), void *object);

size_t arena_size(const struct arena *a); /* octets held */

#endif
