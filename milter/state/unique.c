/* milter/state/unique.c - see unique.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A hash table with chains through one array of notes.  Recipients are hashes
 * that nobody can choose, so their low bits are the bucket.
 */
#include "milter/state/unique.h"

#include <stdlib.h>

enum { ROOM_MIN = 16 };
#define ROOM_MAX (1u << 31)
#define NONE     UINT32_MAX

struct note {
    uint64_t recipient;
    uint64_t at_ms;
    uint32_t next; /* of its chain, or of the free ones */
    bool under_way, external;
};

struct unique {
    uint32_t n, room, free; /* room: notes and chains; a power of two */
    uint32_t *chain;
    struct note note[];
};

void
unique_free(struct unique *u, struct unique_cap *cap)
{
    if (u == NULL)
        return;
    atomic_fetch_sub_explicit(&cap->used, u->n, memory_order_relaxed);
    free(u);
}

static uint32_t *
chain_of(const struct unique *u, uint64_t recipient)
{
    return &u->chain[recipient & (u->room - 1)];
}

static void
put(struct unique *u, const struct note *what)
{
    uint32_t i = u->free, *chain = chain_of(u, what->recipient);

    u->free = u->note[i].next;
    u->note[i] = *what;
    u->note[i].next = *chain;
    *chain = i;
    u->n++;
}

/* Moves everything to a set of another room. */
static bool
resize(struct unique **u, uint32_t room)
{
    const struct unique *old = *u;
    struct unique *fresh =
        malloc(sizeof *fresh +
               room * (sizeof fresh->note[0] + sizeof fresh->chain[0]));

    if (fresh == NULL)
        return false;
    fresh->n = 0;
    fresh->room = room;
    fresh->free = 0;
    fresh->chain = (uint32_t *)(void *)&fresh->note[room];
    for (uint32_t i = 0; i < room; i++) {
        fresh->chain[i] = NONE;
        fresh->note[i].next = i + 1;
    }
    fresh->note[room - 1].next = NONE;
    for (uint32_t c = 0; old != NULL && c < old->room; c++)
        for (uint32_t i = old->chain[c]; i != NONE; i = old->note[i].next)
            put(fresh, &old->note[i]);
    free(*u);
    *u = fresh;
    return true;
}

bool
unique_reserve(struct unique **u, uint32_t n)
{
    uint32_t used = *u != NULL ? (*u)->n : 0;
    uint32_t room = *u != NULL ? (*u)->room : ROOM_MIN;

    while (room - used < n) {
        if (room == ROOM_MAX)
            return false;
        room *= 2;
    }
    return (*u != NULL && room == (*u)->room) || resize(u, room);
}

static bool
is_known(const struct unique *u, uint64_t recipient)
{
    uint64_t at_ms;

    return unique_latest(u, recipient, &at_ms);
}

static bool
note(struct unique **u, struct unique_cap *cap, const struct note *what)
{
    size_t max = atomic_load_explicit(&cap->max, memory_order_relaxed);

    /* First taken, then looked at: nobody passes the cap unseen. */
    if (atomic_fetch_add_explicit(&cap->used, 1, memory_order_relaxed) >= max &&
        !is_known(*u, what->recipient))
        goto refused;
    if (!unique_reserve(u, 1))
        goto refused;
    put(*u, what);
    return true;

refused:
    atomic_fetch_sub_explicit(&cap->used, 1, memory_order_relaxed);
    return false;
}

/* Where the link to the first note of that kind is; NULL = there is none. */
static uint32_t *
find(struct unique *u, uint64_t recipient, bool under_way, uint64_t at_ms)
{
    if (u == NULL)
        return NULL;
    for (uint32_t *link = chain_of(u, recipient); *link != NONE;
         link = &u->note[*link].next) {
        const struct note *n = &u->note[*link];

        if (n->recipient == recipient && n->under_way == under_way &&
            (!under_way || n->at_ms == at_ms))
            return link;
    }
    return NULL;
}

static void
drop(struct unique *u, struct unique_cap *cap, uint32_t *link)
{
    uint32_t i = *link;

    *link = u->note[i].next;
    u->note[i].next = u->free;
    u->free = i;
    u->n--;
    atomic_fetch_sub_explicit(&cap->used, 1, memory_order_relaxed);
}

bool
unique_latest(const struct unique *u, uint64_t recipient, uint64_t *ret_ms)
{
    bool found = false;

    for (uint32_t i = u != NULL ? *chain_of(u, recipient) : NONE; i != NONE;
         i = u->note[i].next) {
        const struct note *n = &u->note[i];

        if (n->recipient != recipient || (found && n->at_ms <= *ret_ms))
            continue;
        *ret_ms = n->at_ms;
        found = true;
    }
    return found;
}

bool
unique_begin(struct unique **u, struct unique_cap *cap, uint64_t recipient,
             bool external, uint64_t at_ms)
{
    return note(u, cap, &(struct note){recipient, at_ms, NONE, true, external});
}

bool
unique_undo(struct unique *u, struct unique_cap *cap, uint64_t recipient,
            uint64_t at_ms)
{
    uint32_t *link = find(u, recipient, true, at_ms);

    if (link == NULL)
        return false;
    drop(u, cap, link);
    return true;
}

bool
unique_settle(struct unique *u, struct unique_cap *cap, uint64_t recipient,
              uint64_t from_ms, uint64_t to_ms)
{
    uint32_t *link = find(u, recipient, true, from_ms), *last;

    if (link == NULL)
        return false;
    last = find(u, recipient, false, 0);
    if (last == NULL) { /* it needs no memory */
        u->note[*link].under_way = false;
        u->note[*link].at_ms = to_ms;
        return true;
    }
    if (u->note[*last].at_ms < to_ms)
        u->note[*last].at_ms = to_ms;
    drop(u, cap, link);
    return true;
}

bool
unique_add(struct unique **u, struct unique_cap *cap, uint64_t recipient,
           bool external, uint64_t at_ms)
{
    uint32_t *last = find(*u, recipient, false, 0);

    if (last == NULL)
        return note(u, cap,
                    &(struct note){recipient, at_ms, NONE, false, external});
    if ((*u)->note[*last].at_ms < at_ms)
        (*u)->note[*last].at_ms = at_ms;
    return true;
}

void
unique_sweep(struct unique **u, struct unique_cap *cap, uint64_t before_ms)
{
    struct unique *s = *u;
    uint32_t room;

    if (s == NULL)
        return;
    for (uint32_t c = 0; c < s->room; c++)
        for (uint32_t *link = &s->chain[c]; *link != NONE;) {
            const struct note *n = &s->note[*link];

            if (!n->under_way && n->at_ms < before_ms)
                drop(s, cap, link);
            else
                link = &s->note[*link].next;
        }
    if (s->n == 0) {
        free(s);
        *u = NULL;
        return;
    }
    for (room = s->room; room > ROOM_MIN && s->n <= room / 8;)
        room /= 2;
    if (room < s->room)
        resize(u, room); /* without memory for it, later */
}

void
unique_each(const struct unique *u,
            void (*each)(void *cookie, uint64_t recipient, bool external,
                         uint64_t latest_ms),
            void *cookie)
{
    for (uint32_t c = 0; u != NULL && c < u->room; c++)
        for (uint32_t i = u->chain[c]; i != NONE; i = u->note[i].next) {
            const struct note *n = &u->note[i];
            uint64_t latest_ms = 0;
            bool first = true;

            /* Of several notes of one recipient, at the first of its chain. */
            for (uint32_t k = u->chain[c]; k != i; k = u->note[k].next)
                first = first && u->note[k].recipient != n->recipient;
            if (first && unique_latest(u, n->recipient, &latest_ms))
                each(cookie, n->recipient, n->external, latest_ms);
        }
}
