/* milter/state/segment_table.c - see segment.h: the account table.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Linear probing over the ids.  A search ends at the first place that was
 * never claimed, or where no id lies further from home.  Two that claim one id
 * meet in the same place, for nobody leaves meanwhile.
 */
#include "milter/state/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "milter/state/segment_private.h"

static void *
slot_at(const struct segment *s, uint32_t i)
{
    return s->slots + (size_t)i * s->slot_size;
}

/* Else the place is free. */
static bool
is_id(uint64_t there)
{
    return there != 0 && there != SEGMENT_LEFT;
}

/* How many places a search looks at.  What is shared is input. */
static uint32_t
reach_of(const struct segment *s)
{
    uint32_t n = atomic_load_explicit(&s->head->reach, memory_order_acquire);

    return n < s->n_slots ? n : s->n_slots;
}

void *
segment_find(const struct segment *s, uint64_t id)
{
    uint32_t mask = s->n_slots - 1, i = (uint32_t)id & mask;
    uint32_t reach = reach_of(s);

    if (!is_id(id))
        return NULL;
    for (uint32_t n = 0; n < reach; n++, i = (i + 1) & mask) {
        uint64_t there = atomic_load_explicit(&s->id[i], memory_order_acquire);

        if (there == id)
            return slot_at(s, i);
        if (there == 0)
            return NULL;
    }
    return NULL;
}

/* The pages of a slot's first octets, which it may share with its
 * neighbours. */
static void
pages_of(const struct segment *s, uint32_t i, uint32_t octets, char **ret,
         size_t *ret_len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *slot = slot_at(s, i);
    size_t before = (size_t)(slot - (char *)s->head) % page;

    *ret = slot - before;
    *ret_len = (before + octets + page - 1) / page * page;
}

/* Nobody ever touches what has no memory. */
enum state_result
segment_reserve(const struct segment *s, uint32_t i, uint32_t octets)
{
    char *slot = slot_at(s, i), *pages;
    size_t len;
    int n;

    pages_of(s, i, octets, &pages, &len);
    if (madvise(pages, len, MADV_POPULATE_WRITE) == 0)
        return STATE_OK;
    /* A kernel before 5.14, or no memory: this one says which. */
    do
        n = fallocate(s->fd, 0, (off_t)(slot - (char *)s->head), (off_t)octets);
    while (n != 0 && errno == EINTR);
    if (n != 0)
        return segment_fail_errno(errno, NULL, 0, "", "");

    /* A page once touched is there for good: a failed fallocate nearby may
     * take reserved pages back, but never used ones.  Nothing is changed:
     * whoever is quicker may already write here. */
    for (size_t o = 0; o < len; o += (size_t)sysconf(_SC_PAGESIZE))
        atomic_fetch_or((_Atomic uint64_t *)(void *)(pages + o), 0);
    return STATE_OK;
}

uint32_t
segment_room(const struct segment *s)
{
    uint32_t most = s->n_slots - s->n_slots / 8;
    uint32_t used = atomic_load(&s->head->slots_used);

    return used < most ? most - used : 0;
}

/* Where the id is (true) or may be put; *ret_n: how many places a search for it
 * there looks at, 0 = there is none. */
static bool
find_place(const struct segment *s, uint64_t id, uint32_t *ret, uint32_t *ret_n)
{
    uint32_t mask = s->n_slots - 1, i = (uint32_t)id & mask;
    uint32_t reach = reach_of(s);

    *ret_n = 0;
    for (uint32_t n = 1; n <= s->n_slots && (n <= reach || *ret_n == 0); n++) {
        uint64_t there = atomic_load_explicit(&s->id[i], memory_order_acquire);

        if (there == id) {
            *ret = i;
            return true;
        }
        if (!is_id(there) && *ret_n == 0) {
            *ret = i;
            *ret_n = n;
        }
        if (there == 0)
            break;
        i = (i + 1) & mask;
    }
    return false;
}

/* Before an id is put there: who sees it must find it. */
static void
raise_reach(struct segment *s, uint32_t n)
{
    uint32_t was = atomic_load_explicit(&s->head->reach, memory_order_relaxed);

    while (was < n && !atomic_compare_exchange_weak(&s->head->reach, &was, n))
        ;
}

enum state_result
segment_claim(struct segment *s, uint64_t id, void **ret)
{
    uint32_t i = 0, n;

    if (!is_id(id))
        return STATE_ECORRUPT;
    while (!find_place(s, id, &i, &n)) {
        uint64_t there = n > 0 ? atomic_load(&s->id[i]) : 0;
        enum state_result r;

        if (n == 0 || segment_room(s) == 0)
            return STATE_EFULL;
        r = segment_reserve(s, i, s->reserve); /* before it is published */
        if (r != STATE_OK)
            return r;
        raise_reach(s, n);
        if (!is_id(there) &&
            atomic_compare_exchange_strong(&s->id[i], &there, id)) {
            atomic_fetch_add(&s->head->slots_used, 1);
            break;
        } /* else: somebody was quicker, perhaps with this very id */
    }
    *ret = slot_at(s, i);
    return STATE_OK;
}

void
segment_leave(struct segment *s, void *slot)
{
    atomic_store_explicit(&s->id[segment_index(s, slot)], SEGMENT_LEFT,
                          memory_order_release);
    atomic_fetch_sub(&s->head->slots_used, 1);
}

void *
segment_slot(const struct segment *s, uint32_t i, uint64_t *ret_id)
{
    uint64_t id = atomic_load_explicit(&s->id[i], memory_order_acquire);

    if (!is_id(id))
        return NULL;
    *ret_id = id;
    return slot_at(s, i);
}

uint32_t
segment_index(const struct segment *s, const void *slot)
{
    return (uint32_t)((size_t)((const char *)slot - s->slots) / s->slot_size);
}
