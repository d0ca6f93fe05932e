/* milter/state/quota_take.c - see quota.h: take, give back, and the words the
 * agent publishes.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/quota.h"

#include "milter/state/quota_private.h"
#include "milter/state/words.h"

/* An answer takes seconds; whoever waits for it looks again after that. */
enum { PROBE_MS = 30 * 1000 };

/* ---- take and give back ---- */

/* Are the units of this dimension kept for each recipient (quota_unique.c)? */
static bool
by_recipient(const struct taken *t, enum dimension d)
{
    return dimension_is_unique(d) && t->cost.who != NULL;
}

/* Room there is: it is taken; the slot is locked. */
static void
take(struct quota *q, struct quota_slot *slot, uint64_t now_ms,
     struct taken *ret)
{
    uint64_t n_windows = words_get(&slot->n_windows);

    words_write_begin(&slot->seq);
    for (uint64_t i = 0; i < n_windows; i++) {
        struct quota_window *w = &slot->window[i];
        enum dimension d = (enum dimension)words_get(&w->dimension);
        uint64_t n = quota_units(&ret->cost, d);

        if (n == 0)
            continue;
        ret->charge[ret->n].dimension = d;
        ret->charge[ret->n].window_ms = words_get(&w->window.window_ms);
        ret->charge[ret->n].bucket =
            by_recipient(ret, d)
                ? window_bucket_of(words_get(&w->window.window_ms), now_ms)
                : window_spend(&w->window, now_ms, n);
        ret->charge[ret->n].units = n;
        ret->n++;
    }
    quota_unique_take(q, slot, ret);
    ret->probe = words_get(&slot->rests) > 0;
    if (ret->probe)
        words_set(&slot->probe_until_ms, now_ms + PROBE_MS);
    words_write_end(&slot->seq);
}

bool
quota_take(struct quota *q, uint64_t id, const struct cost *c,
           unsigned share_percent, struct taken *ret, struct room *ret_room)
{
    struct quota_slot *slot = quota_lock(q, id);
    struct room room = {.limiting = -1, .at_ms = WINDOW_NEVER};
    struct quota_copy copy;
    uint64_t now_ms;

    if (slot == NULL) {
        *ret_room = room;
        return false;
    }
    /* Under the lock, so that no two takes are out of order in time. */
    now_ms = quota_now_ms(q);
    quota_slot_room(quota_unique_without(q, slot, c, &copy), c, NULL,
                    share_percent, now_ms, &room);
    if (room.ok) {
        *ret = (struct taken){.id = id, .cost = *c, .at_ms = now_ms};
        take(q, slot, now_ms, ret);
    }
    quota_unlock(q, slot);
    if (!room.ok)
        *ret_room = room;
    return room.ok;
}

static struct quota_window *
window_of(struct quota_slot *slot, enum dimension d, uint64_t window_ms)
{
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++)
        if (words_get(&slot->window[i].dimension) == d &&
            words_get(&slot->window[i].window.window_ms) == window_ms)
            return &slot->window[i];
    return NULL;
}

/* All of t, or (kept not NULL) what t says of the windows and, of who the
 * recipients are, those that are not kept. */
static void
give_back(struct quota *q, const struct taken *t, const struct cost *kept)
{
    struct quota_slot *slot = quota_lock(q, t->id);

    if (slot == NULL)
        return;
    words_write_begin(&slot->seq);
    for (unsigned i = 0; i < t->n && i < LIMITS_MAX; i++) {
        /* A reload may have taken the window away. */
        struct quota_window *w =
            window_of(slot, t->charge[i].dimension, t->charge[i].window_ms);

        if (w != NULL && !by_recipient(t, t->charge[i].dimension))
            window_give_back(&w->window, t->charge[i].bucket,
                             t->charge[i].units);
    }
    quota_unique_give_back(q, slot, t, kept);
    if (t->probe) /* it says nothing of the account: the next one tries */
        words_set(&slot->probe_until_ms, 0);
    words_write_end(&slot->seq);
    quota_unlock(q, slot);
}

void
quota_give_back(struct quota *q, const struct taken *t)
{
    give_back(q, t, NULL);
}

bool
quota_fits(struct quota *q, uint64_t id, const struct cost *c,
           unsigned share_percent, struct room *ret)
{
    struct quota_slot *slot = quota_lock(q, id);
    struct room room = {.limiting = -1, .at_ms = WINDOW_NEVER};
    struct quota_copy copy;

    if (slot != NULL) {
        quota_slot_room(quota_unique_without(q, slot, c, &copy), c, NULL,
                        share_percent, quota_now_ms(q), &room);
        quota_unlock(q, slot);
    }
    *ret = room;
    return room.ok;
}

void
quota_settle(struct quota *q, struct taken *t)
{
    struct quota_slot *slot = quota_lock(q, t->id);
    uint64_t now_ms;

    if (slot == NULL)
        return;
    now_ms = quota_now_ms(q);
    words_write_begin(&slot->seq);
    for (unsigned i = 0; i < t->n && i < LIMITS_MAX; i++) {
        struct quota_window *w =
            window_of(slot, t->charge[i].dimension, t->charge[i].window_ms);

        if (t->charge[i].units == 0)
            continue;
        if (by_recipient(t, t->charge[i].dimension)) {
            t->charge[i].bucket =
                window_bucket_of(t->charge[i].window_ms, now_ms);
            continue;
        }
        if (w == NULL)
            continue;
        window_give_back(&w->window, t->charge[i].bucket, t->charge[i].units);
        t->charge[i].bucket =
            window_spend(&w->window, now_ms, t->charge[i].units);
    }
    quota_unique_settle(q, slot, t, now_ms);
    words_write_end(&slot->seq);
    quota_unlock(q, slot);
    t->at_ms = now_ms;
}

void
quota_give_back_recipients(struct quota *q, struct taken *t,
                           const struct cost *kept)
{
    struct taken part = *t;

    part.n = 0;
    part.probe = false; /* the transaction itself went through */
    for (unsigned i = 0; i < t->n && i < LIMITS_MAX; i++) {
        enum dimension d = t->charge[i].dimension;
        uint64_t stays = quota_units(kept, d);

        if (d == DIM_MESSAGES || d == DIM_PACE || d == DIM_BYTES ||
            stays >= t->charge[i].units)
            continue;
        part.charge[part.n] = t->charge[i];
        part.charge[part.n++].units = t->charge[i].units - stays;
        t->charge[i].units = stays;
    }
    if (kept->recipients < t->cost.recipients)
        t->cost.recipients = kept->recipients;
    if (kept->external_recipients < t->cost.external_recipients)
        t->cost.external_recipients = kept->external_recipients;
    if (t->cost.who != NULL) {
        t->cost.who = kept->who;
        t->cost.n_who = kept->n_who;
    }
    give_back(q, &part, kept);
}

/* ---- counts ---- */

/* One half of a packed word, plus n, within 0..UINT32_MAX. */
static uint64_t
add_clamped(uint64_t half, int n)
{
    int64_t sum = (int64_t)half + n;

    return sum < 0 ? 0 : sum > UINT32_MAX ? UINT32_MAX : (uint64_t)sum;
}

void
quota_add_waiting(struct quota *q, uint64_t id, int messages, int recipients,
                  int external)
{
    struct quota_slot *slot = quota_lock(q, id);
    uint64_t was;

    if (slot == NULL)
        return;
    was = words_get(&slot->waiting);
    words_set(&slot->waiting, add_clamped(was >> 32, messages) << 32 |
                                  add_clamped(was & UINT32_MAX, recipients));
    words_set(&slot->waiting_external,
              add_clamped(words_get(&slot->waiting_external), external));
    quota_unlock(q, slot);
}

void
quota_set_sessions(struct quota *q, uint64_t id, uint32_t open, uint32_t busy)
{
    struct quota_slot *slot = quota_lock(q, id);

    if (slot == NULL)
        return;
    words_set(&slot->sessions, (uint64_t)open << 32 | busy);
    quota_unlock(q, slot);
}

void
quota_count(struct quota *q, uint64_t id, enum quota_event e, uint32_t n)
{
    struct quota_slot *slot = quota_lock(q, id);

    _Static_assert((int)QUOTA_EVENTS == (int)QUOTA_COUNTS, "layout.h");
    if (slot == NULL)
        return;
    if (e < QUOTA_EVENTS)
        words_set(&slot->count[e], words_get(&slot->count[e]) + n);
    quota_unlock(q, slot);
}

uint64_t
quota_request(uint64_t word, uint64_t refused_serial)
{
    uint64_t times = (word >> REQUEST_SERIAL_BITS) + 1;

    if (times >> (64 - REQUEST_SERIAL_BITS) != 0)
        times = 1; /* 0 would say: never */
    return times << REQUEST_SERIAL_BITS |
           (refused_serial & REQUEST_SERIAL_MASK);
}

void
quota_want_token(struct quota *q, uint64_t id, uint64_t refused_serial)
{
    struct quota_slot *slot = quota_lock(q, id);
    _Atomic uint64_t *word;

    if (slot == NULL)
        return;
    word = &q->segment.word[segment_index(&q->segment, slot)];
    /* Who sees the request sees whose it is. */
    atomic_store_explicit(word, quota_request(words_get(word), refused_serial),
                          memory_order_release);
    quota_unlock(q, slot);
    segment_wake(&q->segment);
}
