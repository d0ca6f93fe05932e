/* policy/table.c - see table.h: open addressing, at most half full.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/table.h"

#include <stdint.h>

#include "policy/arena.h"
#include "policy/hash.h"

struct slot {
    struct slice key;
    void *value; /* NULL = free */
    uint32_t hash;
};

struct table {
    struct arena *arena;
    size_t n, mask; /* mask + 1 slots */
    struct slot *slot;
};

enum { SLOTS_MIN = 16 };

struct table *
table_new(struct arena *a)
{
    struct table *t = arena_alloc(a, 1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->arena = a;
    t->mask = SLOTS_MIN - 1;
    t->slot = arena_alloc(a, SLOTS_MIN, sizeof *t->slot);
    return t->slot != NULL ? t : NULL;
}

static struct slot *
table_find(const struct table *t, struct slice key, uint32_t hash)
{
    size_t i = hash & t->mask;

    while (t->slot[i].value != NULL &&
           (t->slot[i].hash != hash || !slice_eq(t->slot[i].key, key)))
        i = (i + 1) & t->mask;
    return &t->slot[i];
}

static bool
table_grow(struct table *t)
{
    struct table old = *t;

    t->slot = arena_alloc(t->arena, 2 * (old.mask + 1), sizeof *t->slot);
    if (t->slot == NULL) {
        *t = old;
        return false;
    }
    t->mask = 2 * old.mask + 1;
    for (size_t i = 0; i <= old.mask; i++)
        if (old.slot[i].value != NULL)
            *table_find(t, old.slot[i].key, old.slot[i].hash) = old.slot[i];
    return true;
}

bool
table_add(struct table *t, struct slice key, void *value, void **ret_old)
{
    uint32_t hash = hash_nocase(key);
    struct slot *s = table_find(t, key, hash);

    *ret_old = s->value;
    if (s->value != NULL)
        return true;
    if (2 * (t->n + 1) > t->mask + 1) {
        if (!table_grow(t))
            return false;
        s = table_find(t, key, hash);
    }
    *s = (struct slot){key, value, hash};
    t->n++;
    return true;
}

bool
table_put(struct table *t, struct slice key, void *value)
{
    void *old;

    if (!table_add(t, key, value, &old))
        return false;
    if (old != NULL)
        table_find(t, key, hash_nocase(key))->value = value;
    return true;
}

void *
table_get(const struct table *t, struct slice key)
{
    return table_find(t, key, hash_nocase(key))->value;
}

void
table_each(const struct table *t,
           void (*fn)(struct slice key, void *value, void *cookie),
           void *cookie)
{
    for (size_t i = 0; i <= t->mask; i++)
        if (t->slot[i].value != NULL)
            fn(t->slot[i].key, t->slot[i].value, cookie);
}
