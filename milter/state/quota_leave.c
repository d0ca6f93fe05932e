/* milter/state/quota_leave.c - see quota_private.h: a segment that is full takes
 * back the slots of idle accounts.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A slot is emptied under its lock and between two steps of its sequence
 * number before its id leaves the table.  So whoever has found it by its id
 * and comes late finds nobody in it, or another id than the one he looks for,
 * and never another account's numbers.
 */
#include <stdlib.h>

#include "milter/state/quota_private.h"
#include "milter/state/words.h"

enum {
    /* Longer than anybody holds on to an account that he has opened and not
     * yet charged. */
    STAY_MS = 10 * 60 * 1000,
    PARTS = 16, /* that part of the slots leaves at once, if it can */
    AGAIN_MS = 1000,
};

struct idle {
    uint64_t used_ms;
    uint32_t index;
};

static int
compare_idle(const void *a, const void *b)
{
    const struct idle *x = a, *y = b;

    return x->used_ms < y->used_ms ? -1 : x->used_ms > y->used_ms;
}

/* Under its lock: would it be the same if it were opened again? */
static bool
is_idle(const struct quota_slot *slot, uint64_t now_ms)
{
    if (words_get(&slot->waiting) != 0 || words_get(&slot->sessions) != 0 ||
        words_get(&slot->divert) != 0 ||
        quota_slot_state(slot, now_ms) != ACCOUNT_OK)
        return false;
    if (words_get(&slot->rests) != 0 &&
        now_ms < words_get(&slot->until_ms) + RESTS_KEEP_MS)
        return false;
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        const struct quota_window *w = &slot->window[i];
        uint64_t observed_ms = words_get(&w->observed_at_ms);

        if (window_used(&w->window, now_ms) > 0 ||
            now_ms < words_get(&w->window.ceiling_until_ms) ||
            (observed_ms != 0 && now_ms < observed_ms + OBSERVED_KEEP_MS))
            return false;
    }
    return true;
}

/* Others' mail is diverted to those, by the index of their slot. */
static void
mark_carriers(const struct quota *q, bool *carries)
{
    for (uint32_t i = 0; i < q->segment.n_slots; i++) {
        uint64_t id, other;
        const struct quota_slot *slot = segment_slot(&q->segment, i, &id);

        other = slot != NULL ? words_get(&slot->divert) : 0;
        slot = segment_find(&q->segment, other);
        if (slot != NULL)
            carries[segment_index(&q->segment, slot)] = true;
    }
}

static uint32_t
gather(struct quota *q, const bool *carries, uint64_t now_ms, struct idle *ret)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < q->segment.n_slots; i++) {
        uint64_t id, used_ms = atomic_load(&q->guest[i].used_ms);
        struct quota_slot *slot = segment_slot(&q->segment, i, &id);

        if (slot == NULL || carries[i] || atomic_load(&q->guest[i].stays) ||
            used_ms + STAY_MS > now_ms || (slot = quota_lock(q, id)) == NULL)
            continue;
        if (is_idle(slot, now_ms))
            ret[n++] = (struct idle){used_ms, i};
        quota_unlock(q, slot);
    }
    return n;
}

static void
clear(struct quota_slot *slot)
{
    /* Not seq: who reads it now must notice. */
    _Atomic uint64_t *word = &slot->id;
    size_t n = (sizeof *slot - offsetof(struct quota_slot, id)) / 8;

    words_write_begin(&slot->seq);
    for (size_t i = 0; i < n; i++)
        words_set(&word[i], 0);
    words_write_end(&slot->seq);
}

static bool
leave(struct quota *q, uint32_t index, uint64_t now_ms)
{
    _Atomic uint64_t *request = &q->segment.word[index];
    struct quota_slot *slot;
    uint64_t id;
    bool idle;

    if (segment_slot(&q->segment, index, &id) == NULL ||
        (slot = quota_lock(q, id)) == NULL)
        return false;
    idle = is_idle(slot, now_ms);
    if (idle) {
        unique_free(q->unique[index], &q->unique_cap);
        q->unique[index] = NULL;
        clear(slot);
        /* Never back to 0: a request of the next account must look new. */
        if (words_get(request) != 0)
            words_set(request, quota_request(words_get(request), 0));
        segment_leave(&q->segment, slot);
    }
    quota_unlock(q, slot);
    return idle;
}

/* Under the exclusive hold. */
static bool
make_room(struct quota *q, uint64_t now_ms)
{
    uint32_t n_slots = q->segment.n_slots, n, n_left = 0;
    struct idle *idle = malloc(n_slots * sizeof *idle);
    bool *carries = calloc(n_slots, sizeof *carries);

    if (idle != NULL && carries != NULL) {
        mark_carriers(q, carries);
        n = gather(q, carries, now_ms, idle);
        qsort(idle, n, sizeof *idle, compare_idle);
        if (n > n_slots / PARTS)
            n = n_slots / PARTS;
        for (uint32_t i = 0; i < n; i++)
            n_left += leave(q, idle[i].index, now_ms);
    }
    free(carries);
    free(idle);
    return n_left > 0;
}

bool
quota_leave_idle(struct quota *q, uint64_t now_ms)
{
    bool done;

    pthread_rwlock_wrlock(&q->door);
    done = segment_room(&q->segment) > 0; /* another one has made room */
    /* Whoever looked in vain need not look again for each message. */
    if (!done && (q->looked_ms == 0 || now_ms >= q->looked_ms + AGAIN_MS)) {
        done = make_room(q, now_ms);
        q->looked_ms = done ? 0 : now_ms;
    }
    pthread_rwlock_unlock(&q->door);
    return done;
}
