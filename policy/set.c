/* policy/set.c - see set.h: open addressing, 12 to 24 octets an entry and
 * the text.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/set.h"

#include <stdint.h>

#include "policy/arena.h"
#include "policy/hash.h"

struct entry {
    const char *at; /* lower case */
    uint32_t len, hash;
};

struct string_set {
    size_t n;
    size_t mask; /* slots - 1; slots are a power of two, at most half used */
    struct entry *entry;
    uint32_t *slot; /* number of the entry + 1; 0 = free */
};

/* The slot that holds the text, or the free one where it belongs. */
static size_t
set_find(const struct string_set *s, struct slice text, uint32_t hash)
{
    size_t i = hash & s->mask;

    for (; s->slot[i] != 0; i = (i + 1) & s->mask) {
        const struct entry *e = &s->entry[s->slot[i] - 1];

        if (e->hash == hash &&
            slice_eq_nocase((struct slice){e->at, e->len}, text))
            break;
    }
    return i;
}

static void
set_add(struct string_set *s, struct slice text, char *room)
{
    uint32_t hash = hash_nocase(text);
    size_t i = set_find(s, text, hash);

    if (s->slot[i] != 0)
        return; /* given twice */
    for (size_t k = 0; k < text.len; k++)
        room[k] = slice_lower(text.at[k]);
    s->entry[s->n] = (struct entry){room, (uint32_t)text.len, hash};
    s->slot[i] = (uint32_t)++s->n;
}

struct string_set *
string_set_new(struct arena *a, const struct slice *entry, size_t n)
{
    struct string_set *s = arena_alloc(a, 1, sizeof *s);
    size_t slots = 8, octets = 0;
    char *text;

    if (s == NULL || n > UINT32_MAX / 4)
        return NULL;
    while (slots < 2 * n)
        slots *= 2;
    for (size_t i = 0; i < n; i++) {
        if (entry[i].len > UINT32_MAX || octets > SIZE_MAX - entry[i].len)
            return NULL;
        octets += entry[i].len;
    }
    s->mask = slots - 1;
    s->entry = arena_alloc(a, n, sizeof *s->entry);
    s->slot = arena_alloc(a, slots, sizeof *s->slot);
    text = arena_alloc(a, octets, 1);
    if (s->entry == NULL || s->slot == NULL || text == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        set_add(s, entry[i], text);
        text += entry[i].len;
    }
    return s;
}

bool
string_set_has(const struct string_set *s, struct slice text)
{
    return s->slot[set_find(s, text, hash_nocase(text))] != 0;
}

size_t
string_set_count(const struct string_set *s)
{
    return s->n;
}
