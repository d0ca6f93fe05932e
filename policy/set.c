/* policy/set.c - see set.h: all texts in one piece, and a table of where
 * they begin.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Open addressing, at most three quarters full.  A slot holds the offset of a
 * text in as many low bits as offsets need, and in the bits above some of its
 * hash: a text that is not there is hardly ever compared.
 */
#include "policy/set.h"

#include <stdint.h>

#include "policy/arena.h"
#include "policy/hash.h"

struct string_set {
    size_t n;
    uint64_t n_slots;
    uint32_t offset_mask; /* low bits of a slot: offset + 1; 0 = free */
    uint32_t used;        /* octets of text */
    uint32_t *slot;
    char *text; /* each entry: its length, see put_length(); then, in lower
                 * case, its octets */
};

enum { SLOTS_SPARE = 8 };

/* ---- entries ---- */

/* Seven bits an octet, lowest first, all but the last with the eighth bit. */
static size_t
put_length(char *to, size_t len)
{
    size_t n = 0;

    for (; len >= 0x80; len >>= 7)
        to[n++] = (char)(len | 0x80);
    to[n++] = (char)len;
    return n;
}

static struct slice
entry_at(const struct string_set *s, uint32_t slot)
{
    const char *at = s->text + (slot & s->offset_mask) - 1;
    size_t len = 0;
    unsigned shift = 0;

    do {
        len |= (size_t)(*at & 0x7F) << shift;
        shift += 7;
    } while (*at++ & 0x80);
    return (struct slice){at, len};
}

/* ---- the table ---- */

static bool
is_entry(struct slice entry, struct slice text)
{
    if (entry.len != text.len)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (entry.at[i] != slice_lower(text.at[i]))
            return false;
    return true;
}

/* The slot that holds the text, or the free one where it belongs, and what
 * that one would hold but for the offset: the halves of the hash change
 * places, because the upper one has led to the slot and says no more. */
static uint32_t *
set_find(const struct string_set *s, struct slice text, uint32_t *ret_tag)
{
    uint32_t hash = hash_nocase(text), tag = hash << 16 | hash >> 16;
    uint64_t i = hash * s->n_slots >> 32;

    *ret_tag = tag & ~s->offset_mask;
    while (s->slot[i] != 0) {
        if ((s->slot[i] & ~s->offset_mask) == *ret_tag &&
            is_entry(entry_at(s, s->slot[i]), text))
            break;
        if (++i == s->n_slots)
            i = 0;
    }
    return &s->slot[i];
}

struct string_set *
string_set_room(struct arena *a, size_t n, size_t octets)
{
    struct string_set *s = arena_alloc(a, 1, sizeof *s);
    size_t size;

    if (s == NULL || n > UINT32_MAX / 4 || octets > UINT32_MAX / 2)
        return NULL;
    size = octets + n + octets / 128; /* a second octet of length from 128 on */
    if (size >= UINT32_MAX)
        return NULL;
    while (s->offset_mask < size)
        s->offset_mask = 2 * s->offset_mask + 1;
    s->n_slots = n + n / 3 + SLOTS_SPARE;
    s->slot = arena_alloc(a, s->n_slots, sizeof *s->slot);
    s->text = arena_alloc(a, size, 1);
    return s->slot != NULL && s->text != NULL ? s : NULL;
}

void
string_set_add(struct string_set *s, struct slice text)
{
    uint32_t tag, *slot = set_find(s, text, &tag);
    char *to = s->text + s->used;

    if (*slot != 0)
        return; /* given twice */
    *slot = tag | (s->used + 1);
    to += put_length(to, text.len);
    for (size_t i = 0; i < text.len; i++)
        *to++ = slice_lower(text.at[i]);
    s->used = (uint32_t)(to - s->text);
    s->n++;
}

struct string_set *
string_set_new(struct arena *a, const struct slice *entry, size_t n)
{
    struct string_set *s;
    size_t octets = 0;

    for (size_t i = 0; i < n; i++) {
        if (octets > SIZE_MAX - entry[i].len)
            return NULL;
        octets += entry[i].len;
    }
    s = string_set_room(a, n, octets);
    for (size_t i = 0; s != NULL && i < n; i++)
        string_set_add(s, entry[i]);
    return s;
}

bool
string_set_has(const struct string_set *s, struct slice text)
{
    uint32_t tag;

    return *set_find(s, text, &tag) != 0;
}

size_t
string_set_count(const struct string_set *s)
{
    return s->n;
}
