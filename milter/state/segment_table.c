/* milter/state/segment_table.c - see segment.h: the account table.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Linear probing over the ids.  An id is never taken out, so a search may end
 * at the first free place, and two that claim one id meet in the same place.
 */
#include "milter/state/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "milter/state/segment_private.h"

static void *
slot_at(const struct segment *s, uint32_t i)
{
    return s->slots + (size_t)i * s->slot_size;
}

void *
segment_find(const struct segment *s, uint64_t id)
{
    uint32_t mask = s->n_slots - 1, i = (uint32_t)id & mask;

    if (id == 0)
        return NULL;
    for (uint32_t n = 0; n < s->n_slots; n++, i = (i + 1) & mask) {
        uint64_t there = atomic_load_explicit(&s->id[i], memory_order_acquire);

        if (there == id)
            return slot_at(s, i);
        if (there == 0)
            return NULL;
    }
    return NULL;
}

/* Before the id is published, so that nobody ever touches a slot that has no
 * memory. */
static enum state_result
reserve_slot(const struct segment *s, uint32_t i)
{
    char *slot = slot_at(s, i);
    off_t at = (off_t)(slot - (char *)s->head);
    long page = sysconf(_SC_PAGESIZE);
    int n;

    do
        n = fallocate(s->fd, 0, at, (off_t)s->slot_size);
    while (n != 0 && errno == EINTR);
    if (n != 0)
        return segment_fail_errno(errno, NULL, 0, "", "");

    /* A page once touched is there for good: a failed fallocate nearby may
     * take reserved pages back, but never used ones.  Only read: whoever is
     * quicker may already write here. */
    for (size_t o = 0; o < s->slot_size; o += (size_t)page)
        atomic_load((_Atomic uint64_t *)(void *)(slot + o));
    atomic_load((_Atomic uint64_t *)(void *)(slot + s->slot_size - 8));
    return STATE_OK;
}

uint32_t
segment_room(const struct segment *s)
{
    uint32_t most = s->n_slots - s->n_slots / 8;
    uint32_t used = atomic_load(&s->head->slots_used);

    return used < most ? most - used : 0;
}

enum state_result
segment_claim(struct segment *s, uint64_t id, void **ret)
{
    uint32_t mask = s->n_slots - 1, i = (uint32_t)id & mask;
    enum state_result r;

    if (id == 0)
        return STATE_ECORRUPT;
    for (uint32_t n = 0; n < s->n_slots; n++, i = (i + 1) & mask) {
        uint64_t there = atomic_load_explicit(&s->id[i], memory_order_acquire);

        if (there == 0) {
            if (segment_room(s) == 0)
                return STATE_EFULL;
            r = reserve_slot(s, i);
            if (r != STATE_OK)
                return r;
            if (atomic_compare_exchange_strong(&s->id[i], &there, id)) {
                atomic_fetch_add(&s->head->slots_used, 1);
                there = id;
            } /* else: `there` is what another one has claimed it for */
        }
        if (there == id) {
            *ret = slot_at(s, i);
            return STATE_OK;
        }
    }
    return STATE_EFULL;
}

void *
segment_slot(const struct segment *s, uint32_t i, uint64_t *ret_id)
{
    uint64_t id = atomic_load_explicit(&s->id[i], memory_order_acquire);

    if (id == 0)
        return NULL;
    *ret_id = id;
    return slot_at(s, i);
}

uint32_t
segment_index(const struct segment *s, const void *slot)
{
    return (uint32_t)((size_t)((const char *)slot - s->slots) / s->slot_size);
}
