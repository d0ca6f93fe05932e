/* milter/state/quota_state.c - see quota.h: states, rests, what Gmail was seen
 * to allow, and diverts.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/quota.h"

#include "milter/state/quota_private.h"
#include "milter/state/words.h"

#define MINUTE_MS (60u * 1000u)
#define HOUR_MS   (60u * MINUTE_MS)
#define DAY_MS    (24ull * HOUR_MS)

enum { RESTS_MAX = 16 /* doublings that still count */ };

/* Gmail's word is about its daily limits: shorter windows are our own. */
#define OBSERVED_WINDOW_MS (12ull * HOUR_MS)

/* ---- states ---- */

/* Under the lock.  What somebody has paused does not come free because a
 * message that was still on its way made it cool. */
static bool
stays_paused(const struct quota_slot *slot, enum account_state s)
{
    return words_get(&slot->state) == ACCOUNT_PAUSED && s != ACCOUNT_OK &&
           s != ACCOUNT_PAUSED;
}

static void
put_state(struct quota_slot *slot, enum account_state s, uint64_t until_ms,
          const char *reason, uint64_t rests)
{
    words_set(&slot->state, s);
    words_set(&slot->until_ms, until_ms);
    words_put_text(slot->reason, REASON_WORDS, reason != NULL ? reason : "");
    words_set(&slot->rests, rests);
    words_set(&slot->probe_until_ms, 0);
}

bool
quota_restore_state(struct quota *q, uint64_t id, enum account_state s,
                    uint64_t until_ms, const char *reason, uint32_t rests)
{
    struct quota_slot *slot;
    bool keep;

    if (s >= ACCOUNT_STATES)
        return false;
    slot = quota_lock(q, id);
    if (slot == NULL)
        return false;
    keep = stays_paused(slot, s);
    if (!keep) {
        words_write_begin(&slot->seq);
        put_state(slot, s, until_ms, reason, rests);
        words_write_end(&slot->seq);
    }
    quota_unlock(q, slot);
    return !keep;
}

bool
quota_set_state(struct quota *q, uint64_t id, enum account_state s,
                uint64_t until_ms, const char *reason)
{
    /* Out of service for a time: when it is over, one message tries. */
    return quota_restore_state(q, id, s, until_ms, reason,
                               s == ACCOUNT_COOLING || s == ACCOUNT_DISABLED);
}

/* ---- rests ---- */

/* How long it may become says what it was for: a server that is busy, too many
 * logins, a daily limit. */
static uint64_t
rest_ms(uint64_t first_ms, uint64_t rests)
{
    uint64_t most_ms = first_ms <= 5 * MINUTE_MS ? 15 * MINUTE_MS
                       : first_ms < HOUR_MS      ? HOUR_MS
                                                 : DAY_MS;
    uint64_t ms = first_ms << (rests < RESTS_MAX ? rests : RESTS_MAX);

    if (first_ms > most_ms)
        most_ms = first_ms;
    return ms < most_ms ? ms : most_ms;
}

/* Under the lock, between two steps of seq.  Not before least_ms (quota
 * time; 0 = any). */
static uint64_t
rest(struct quota_slot *slot, uint64_t now_ms, uint64_t first_ms,
     uint64_t least_ms, const char *reason)
{
    uint64_t rests = words_get(&slot->rests);
    uint64_t ends_ms = words_get(&slot->until_ms), until_ms;

    /* Nor does a rest shorten what is worse. */
    if (stays_paused(slot, ACCOUNT_COOLING) ||
        quota_slot_state(slot, now_ms) == ACCOUNT_DISABLED)
        return 0;
    if (quota_slot_state(slot, now_ms) == ACCOUNT_COOLING) {
        /* Of the same burst: no rest of its own, but perhaps a longer one. */
        until_ms = now_ms + first_ms > ends_ms ? now_ms + first_ms : ends_ms;
        rests = rests > 0 ? rests - 1 : 0;
    } else {
        until_ms = now_ms + rest_ms(first_ms, rests);
    }
    if (least_ms > until_ms)
        until_ms = least_ms;
    put_state(slot, ACCOUNT_COOLING, until_ms, reason, rests + 1);
    return until_ms;
}

uint64_t
quota_rest(struct quota *q, uint64_t id, uint64_t first_ms, const char *reason)
{
    struct quota_slot *slot = quota_lock(q, id);
    uint64_t until_ms;

    if (slot == NULL)
        return 0;
    words_write_begin(&slot->seq);
    until_ms = rest(slot, quota_now_ms(q), first_ms, 0, reason);
    words_write_end(&slot->seq);
    quota_unlock(q, slot);
    return until_ms;
}

uint32_t
quota_rests(const struct quota *q, uint64_t id)
{
    const struct quota_slot *slot = segment_find(&q->segment, id);

    return slot != NULL ? (uint32_t)words_get(&slot->rests) : 0;
}

/* ---- what Gmail was seen to allow ---- */

static void
note_window(struct observation *o, const struct quota_window *w, uint64_t used)
{
    o->window[o->n].dimension = (enum dimension)words_get(&w->dimension);
    o->window[o->n].window_ms = words_get(&w->window.window_ms);
    o->window[o->n].limit = words_get(&w->window.limit);
    o->window[o->n++].used = used;
}

/* Sets the ceilings; returns when one message fits under them. */
static uint64_t
observe(struct quota_slot *slot, uint64_t now_ms, struct observation *ret)
{
    static const struct cost least = {
        .messages = 1, .recipients = 1, .external_recipients = 1};
    struct room room;

    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        struct quota_window *w = &slot->window[i];
        uint64_t window_ms = words_get(&w->window.window_ms);
        uint64_t used = window_used(&w->window, now_ms);
        uint64_t d = words_get(&w->dimension);

        if (d == DIM_BYTES || d == DIM_PACE || window_ms < OBSERVED_WINDOW_MS)
            continue;
        words_set(&w->observed, used);
        words_set(&w->observed_at_ms, now_ms);
        /* Nothing of ours counts: others have used it up, which says nothing
         * of the limit.  The rest and its probe find out when it is over. */
        window_set_ceiling(&w->window, used, used > 0 ? now_ms + window_ms : 0);
        note_window(ret, w, used);
    }
    quota_slot_room(slot, &least, NULL, 100, now_ms, &room);
    return room.at_ms;
}

uint64_t
quota_full(struct quota *q, uint64_t id, uint64_t first_ms, const char *reason,
           struct observation *ret)
{
    struct quota_slot *slot = quota_lock(q, id);
    uint64_t now_ms = quota_now_ms(q), room_ms, until_ms;

    *ret = (struct observation){.id = id, .at_ms = now_ms};
    if (slot == NULL)
        return 0;
    words_write_begin(&slot->seq);
    room_ms = observe(slot, now_ms, ret);
    if (room_ms > now_ms + DAY_MS)
        room_ms = now_ms + DAY_MS;
    until_ms = rest(slot, now_ms, first_ms, room_ms, reason);
    words_write_end(&slot->seq);
    quota_unlock(q, slot);
    return until_ms;
}

void
quota_restore_observed(struct quota *q, uint64_t id, enum dimension d,
                       uint64_t window_ms, uint64_t observed, uint64_t at_ms)
{
    struct quota_slot *slot = quota_lock(q, id);
    uint64_t now_ms = quota_now_ms(q);

    if (slot == NULL)
        return;
    if (at_ms > now_ms)
        at_ms = now_ms;
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        struct quota_window *w = &slot->window[i];

        if (words_get(&w->dimension) != d ||
            words_get(&w->window.window_ms) != window_ms)
            continue;
        words_write_begin(&slot->seq);
        words_set(&w->observed, observed);
        words_set(&w->observed_at_ms, at_ms);
        window_set_ceiling(&w->window, observed,
                           observed > 0 ? at_ms + window_ms : 0);
        words_write_end(&slot->seq);
    }
    quota_unlock(q, slot);
}

/* Within one window Gmail has let through more than it seemed to allow. */
static bool
is_disproved(const struct quota_window *w, uint64_t now_ms)
{
    uint64_t at_ms = words_get(&w->observed_at_ms);

    return at_ms != 0 && now_ms < at_ms + words_get(&w->window.window_ms) &&
           window_used(&w->window, now_ms) > words_get(&w->observed);
}

bool
quota_accepted(struct quota *q, uint64_t id, struct observation *ret_lifted)
{
    struct quota_slot *slot = segment_find(&q->segment, id);
    uint64_t now_ms = quota_now_ms(q);
    bool any = false, rested = false;

    *ret_lifted = (struct observation){.id = id, .at_ms = now_ms};
    if (slot == NULL)
        return false;
    for (uint64_t i = 0; i < words_get(&slot->n_windows) && !any; i++)
        any = words_get(&slot->window[i].observed_at_ms) != 0;
    if (!any && words_get(&slot->rests) == 0)
        return false; /* as nearly always: without the lock */
    slot = quota_lock(q, id);
    if (slot == NULL)
        return false;
    /* One that was on its way when another of its burst was sent to rest says
     * nothing of what comes after. */
    if (quota_slot_state(slot, now_ms) == ACCOUNT_OK) {
        rested = words_get(&slot->rests) > 0;
        words_write_begin(&slot->seq);
        words_set(&slot->rests, 0);
        words_set(&slot->probe_until_ms, 0);
        for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
            struct quota_window *w = &slot->window[i];

            if (!is_disproved(w, now_ms))
                continue;
            note_window(ret_lifted, w, words_get(&w->observed));
            words_set(&w->observed, 0);
            words_set(&w->observed_at_ms, 0);
            window_set_ceiling(&w->window, 0, 0);
        }
        words_write_end(&slot->seq);
    }
    quota_unlock(q, slot);
    return rested;
}

bool
quota_forget(struct quota *q, uint64_t id)
{
    struct quota_slot *slot = quota_lock(q, id);

    if (slot == NULL)
        return false;
    words_write_begin(&slot->seq);
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        struct quota_window *w = &slot->window[i];

        window_init(&w->window, words_get(&w->window.limit),
                    words_get(&w->window.window_ms));
        words_set(&w->observed, 0);
        words_set(&w->observed_at_ms, 0);
    }
    quota_unique_forget(q, slot, quota_now_ms(q));
    if (words_get(&slot->state) == ACCOUNT_COOLING)
        put_state(slot, ACCOUNT_OK, 0, "", 0);
    words_set(&slot->rests, 0);
    words_set(&slot->probe_until_ms, 0);
    words_write_end(&slot->seq);
    quota_unlock(q, slot);
    return true;
}

/* ---- diverts ---- */

void
quota_set_divert(struct quota *q, uint64_t id, uint64_t other)
{
    struct quota_slot *slot = quota_lock(q, id);

    if (slot == NULL)
        return;
    words_set(&slot->divert, other);
    quota_unlock(q, slot);
}

bool
quota_segment_identity(const struct segment *s, uint64_t id,
                       char ret[IDENTITY_MAX + 1])
{
    struct quota_copy copy;

    return quota_segment_read(s, id, 0, &copy) == STATE_OK &&
           words_get_text(quota_copy_slot(&copy)->identity, IDENTITY_WORDS, ret,
                          IDENTITY_MAX + 1);
}

bool
quota_segment_divert(const struct segment *s, uint64_t id,
                     char ret[IDENTITY_MAX + 1])
{
    struct quota_copy copy;
    uint64_t other;

    if (quota_segment_read(s, id, 0, &copy) != STATE_OK)
        return false;
    other = words_get(&quota_copy_slot(&copy)->divert);
    return other != 0 && quota_segment_identity(s, other, ret);
}

bool
quota_divert(const struct quota *q, uint64_t id, char ret[IDENTITY_MAX + 1])
{
    return quota_segment_divert(&q->segment, id, ret);
}

bool
quota_diverted_here(const struct quota *q, uint64_t id,
                    char ret[IDENTITY_MAX + 1])
{
    for (uint32_t i = 0; i < q->segment.n_slots; i++) {
        uint64_t from;
        const struct quota_slot *slot = segment_slot(&q->segment, i, &from);

        if (slot != NULL && words_get(&slot->divert) == id &&
            quota_segment_identity(&q->segment, from, ret))
            return true;
    }
    return false;
}

void
quota_accounts(const struct quota *q,
               void (*each)(void *cookie, uint64_t id, const char *identity),
               void *cookie)
{
    for (uint32_t i = 0; i < q->segment.n_slots; i++) {
        char identity[IDENTITY_MAX + 1];
        uint64_t id;

        if (segment_slot(&q->segment, i, &id) != NULL &&
            quota_segment_identity(&q->segment, id, identity))
            each(cookie, id, identity);
    }
}
