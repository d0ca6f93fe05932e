/* milter/state/quota_slot.c - see quota_private.h: what one slot says.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/quota_private.h"

#include "milter/state/words.h"

/* ---- reading ---- */

static bool
window_is_sound(const struct quota_window *w)
{
    uint64_t window_ms = words_get(&w->window.window_ms), sum = 0;

    if (words_get(&w->dimension) >= DIM_COUNT || window_ms == 0 ||
        window_ms > WINDOW_MS_MAX ||
        words_get(&w->window.newest) >
            window_bucket_of(window_ms, QUOTA_TIME_MAX) ||
        words_get(&w->window.ceiling_until_ms) >
            QUOTA_TIME_MAX + WINDOW_MS_MAX ||
        words_get(&w->observed_at_ms) > QUOTA_TIME_MAX)
        return false;
    for (unsigned i = 0; i < WINDOW_BUCKETS; i++)
        sum += words_get(&w->window.bucket[i]);
    return sum == words_get(&w->window.used);
}

/* Shared memory is input. */
static bool
copy_is_sound(const struct quota_slot *slot, uint64_t id)
{
    char text[IDENTITY_WORDS * 8];

    if (words_get(&slot->id) != id ||
        words_get(&slot->state) >= ACCOUNT_STATES ||
        !words_get_text(slot->identity, IDENTITY_WORDS, text,
                        IDENTITY_MAX + 1) ||
        !words_get_text(slot->reason, REASON_WORDS, text, sizeof text))
        return false;
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++)
        if (!window_is_sound(&slot->window[i]))
            return false;
    return true;
}

enum state_result
quota_slot_read(const struct quota_slot *shared, uint64_t id, uint32_t windows,
                struct quota_copy *ret)
{
    const _Atomic uint64_t *from =
        (const _Atomic uint64_t *)(const void *)shared;
    struct quota_slot *copy = quota_copy_slot(ret);
    unsigned tries = 0;
    uint32_t seq;

    do {
        uint64_t n;

        seq = words_read_begin(&shared->seq);
        if (seq == 0)
            return STATE_EEMPTY;
        if ((seq & 1) != 0)
            continue;
        words_copy(ret->word, from, sizeof *shared / 8);
        if (windows == 0)
            words_set(&copy->n_windows, 0);
        n = words_get(&copy->n_windows);
        if (n <= windows) /* else told from the copy, if it is a good one */
            words_copy(ret->word + sizeof *shared / 8,
                       from + sizeof *shared / 8,
                       n * (sizeof(struct quota_window) / 8));
        if (!words_read_good(&shared->seq, seq))
            continue;
        if (words_get(&copy->id) == 0)
            return STATE_EEMPTY; /* the account before has left */
        return n <= windows && copy_is_sound(copy, id) ? STATE_OK
                                                       : STATE_ECORRUPT;
    } while (words_try_again(&tries));
    return STATE_EBUSY;
}

enum state_result
quota_segment_read(const struct segment *s, uint64_t id, uint32_t windows,
                   struct quota_copy *ret)
{
    const struct quota_slot *slot;
    enum state_result r;

    do {
        slot = segment_find(s, id);
        if (slot == NULL)
            return STATE_EEMPTY;
        r = quota_slot_read(slot, id, windows, ret);
        /* What is not its own is the next account's if it has left. */
    } while (r == STATE_ECORRUPT && segment_find(s, id) != slot);
    return r;
}

/* ---- arithmetic ---- */

static uint64_t
externals(const struct cost *c)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < c->n_who; i++)
        n += c->who[i].external;
    return n;
}

uint64_t
quota_units(const struct cost *c, enum dimension d)
{
    switch (d) {
    case DIM_MESSAGES:
    case DIM_PACE:
        return c->messages;
    case DIM_RECIPIENTS:
        return c->recipients;
    case DIM_EXTERNAL_RECIPIENTS:
        return c->external_recipients;
    case DIM_BYTES:
        return c->bytes;
    case DIM_UNIQUE_RECIPIENTS:
        return c->who != NULL ? c->n_who : c->recipients;
    case DIM_UNIQUE_EXTERNAL_RECIPIENTS:
        return c->who != NULL ? externals(c) : c->external_recipients;
    case DIM_COUNT:
        break;
    }
    return 0;
}

enum account_state
quota_slot_state(const struct quota_slot *slot, uint64_t now_ms)
{
    enum account_state s = (enum account_state)words_get(&slot->state);
    uint64_t until_ms = words_get(&slot->until_ms);
    bool ends = s == ACCOUNT_COOLING || until_ms != 0;

    return ends && until_ms <= now_ms ? ACCOUNT_OK : s;
}

/* When do n units fit into one window after `ahead` others?
 *
 * With limit L and length W, what is spent as early as possible comes back W
 * later and can be spent again: k * L units more take k * W longer. */
static uint64_t
fits_at(const struct window *w, uint64_t ahead, uint64_t n, unsigned percent,
        uint64_t now_ms)
{
    uint64_t max = window_share(words_get(&w->limit), percent);
    uint64_t total = ahead > UINT64_MAX - n ? UINT64_MAX : ahead + n;
    uint64_t rounds, at_ms, more_ms;

    if (n > max)
        return WINDOW_NEVER;
    rounds = (total - 1) / max;
    at_ms = window_room_at(w, now_ms, total - rounds * max, percent);
    if (rounds == 0)
        return at_ms;
    if (__builtin_mul_overflow(rounds, words_get(&w->window_ms), &more_ms) ||
        __builtin_add_overflow(at_ms, more_ms, &at_ms) || at_ms == WINDOW_NEVER)
        return WINDOW_NEVER - 1; /* some day */
    return at_ms;
}

static unsigned
clamp_percent(unsigned share_percent)
{
    return share_percent == 0 || share_percent > 100 ? 100 : share_percent;
}

void
quota_slot_room(const struct quota_slot *slot, const struct cost *cost,
                const struct cost *ahead, unsigned share_percent,
                uint64_t now_ms, struct room *ret)
{
    struct room room = {.limiting = -1, .at_ms = now_ms};
    uint64_t until_ms = words_get(&slot->until_ms);

    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        const struct quota_window *w = &slot->window[i];
        enum dimension d = (enum dimension)words_get(&w->dimension);
        uint64_t n = quota_units(cost, d), at_ms;

        if (n == 0)
            continue;
        at_ms =
            fits_at(&w->window, ahead != NULL ? quota_units(ahead, d) : 0, n,
                    d == DIM_PACE ? 100 : clamp_percent(share_percent), now_ms);
        if (at_ms <= room.at_ms)
            continue;
        room.at_ms = at_ms;
        room.limiting = (int)d;
        room.limit = window_limit(&w->window, now_ms);
        room.used = window_used(&w->window, now_ms);
        room.window_ms = words_get(&w->window.window_ms);
    }
    room.state = quota_slot_state(slot, now_ms);
    if (words_get(&slot->rests) > 0 && room.at_ms != WINDOW_NEVER &&
        words_get(&slot->probe_until_ms) > room.at_ms) {
        room.at_ms = words_get(&slot->probe_until_ms);
        room.limiting = -1;
    }
    room.ok = room.state == ACCOUNT_OK && room.at_ms <= now_ms;
    if (room.state != ACCOUNT_OK && room.at_ms != WINDOW_NEVER) {
        uint64_t ends_ms = until_ms != 0 ? until_ms : WINDOW_NEVER;

        if (ends_ms > room.at_ms) {
            room.at_ms = ends_ms;
            room.limiting = -1;
        }
    }
    *ret = room;
}

/* ---- windows ---- */

void
quota_slot_limits(struct quota_slot *slot, const struct quota_limits *l)
{
    for (unsigned i = 0; i < l->n; i++) {
        words_set(&slot->window[i].dimension, l->limit[i].dimension);
        words_set(&slot->window[i].observed, 0);
        words_set(&slot->window[i].observed_at_ms, 0);
        window_init(&slot->window[i].window, l->limit[i].max,
                    l->limit[i].window_ms);
    }
    words_set(&slot->n_windows, l->n);
}

/* First ms of a bucket. */
static uint64_t
bucket_start_ms(uint64_t window_ms, uint64_t bucket)
{
    uint64_t part = bucket % WINDOW_PARTS * window_ms;

    return bucket / WINDOW_PARTS * window_ms +
           (part + WINDOW_PARTS - 1) / WINDOW_PARTS;
}

uint64_t
quota_bucket_end_ms(uint64_t window_ms, uint64_t bucket)
{
    uint64_t next_ms = bucket_start_ms(window_ms, bucket + 1);

    return next_ms > 0 ? next_ms - 1 : 0;
}

uint64_t
quota_oldest_ms(uint64_t window_ms, uint64_t now_ms)
{
    uint64_t now = window_bucket_of(window_ms, now_ms);

    return now > WINDOW_PARTS ? bucket_start_ms(window_ms, now - WINDOW_PARTS)
                              : 0;
}

static uint64_t
oldest_bucket(const struct window *w)
{
    uint64_t newest = words_get(&w->newest);

    return newest > WINDOW_PARTS ? newest - WINDOW_PARTS : 0;
}

const struct quota_window *
quota_window_elder(const struct quota_window *w, uint64_t n,
                   enum dimension dimension, uint64_t window_ms)
{
    const struct quota_window *best = NULL;
    uint64_t best_ms = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t ms = words_get(&w[i].window.window_ms);

        if (words_get(&w[i].dimension) != dimension ||
            (ms != window_ms && words_get(&w[i].window.used) == 0))
            continue;
        if (best == NULL || (best_ms < window_ms && ms > best_ms) ||
            (ms >= window_ms && ms < best_ms)) {
            best = &w[i];
            best_ms = ms;
        }
    }
    return best;
}

void
quota_window_inherit(struct quota_window *to, const struct quota_window *from,
                     uint64_t now_ms)
{
    uint64_t from_ms = words_get(&from->window.window_ms);
    uint64_t to_ms = words_get(&to->window.window_ms);
    uint64_t newest = words_get(&from->window.newest);

    for (uint64_t b = oldest_bucket(&from->window); b <= newest; b++) {
        uint64_t n = words_get(&from->window.bucket[b % WINDOW_BUCKETS]);
        uint64_t at_ms = quota_bucket_end_ms(from_ms, b);

        if (n > 0)
            window_restore(
                &to->window, now_ms,
                window_bucket_of(to_ms, at_ms < now_ms ? at_ms : now_ms), n);
    }
}

/* What lies in the buckets from `bucket` on. */
static uint64_t
spent_since(const struct window *w, uint64_t bucket)
{
    uint64_t newest = words_get(&w->newest), sum = 0;

    if (bucket < oldest_bucket(w))
        bucket = oldest_bucket(w);
    for (; bucket <= newest; bucket++)
        sum += words_get(&w->bucket[bucket % WINDOW_BUCKETS]);
    return sum;
}

/* Back from now, bucket by bucket of `from`: what `from` has spent since, `to`
 * has spent too, or did not know.  Of the bucket in which the past of `to`
 * begins nobody can tell how much is part of it: it is taken for missing where
 * other things are. */
static void
level_window(struct window *to, const struct window *from, uint64_t now_ms)
{
    uint64_t to_ms = words_get(&to->window_ms);
    uint64_t from_ms = words_get(&from->window_ms);
    uint64_t spent = 0, begins_ms;
    bool younger = false;

    window_advance(to, now_ms);
    begins_ms = bucket_start_ms(to_ms, oldest_bucket(to));
    for (uint64_t b = words_get(&from->newest) + 1; b > oldest_bucket(from);) {
        uint64_t n = words_get(&from->bucket[--b % WINDOW_BUCKETS]);
        uint64_t start_ms, known, at_ms;

        if (n == 0)
            continue; /* `to` knows what was spent since, or was told */
        start_ms = bucket_start_ms(from_ms, b);
        spent += n;
        if (start_ms < begins_ms && !younger)
            return;
        known = spent_since(to, window_bucket_of(to_ms, start_ms));
        if (known >= spent)
            continue;
        younger = true;
        at_ms = quota_bucket_end_ms(from_ms, b);
        window_restore(to, now_ms,
                       window_bucket_of(to_ms, at_ms < now_ms ? at_ms : now_ms),
                       spent - known);
        if (start_ms < begins_ms)
            return;
    }
}

bool
quota_slot_has_pairs(const struct quota_slot *slot)
{
    uint64_t n = words_get(&slot->n_windows);
    unsigned seen = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t d = words_get(&slot->window[i].dimension);

        if ((seen >> d & 1) != 0 && !dimension_is_unique((enum dimension)d))
            return true;
        seen |= 1u << d;
    }
    return false;
}

void
quota_slot_level(struct quota_slot *slot, const struct quota_slot *was,
                 uint64_t now_ms)
{
    uint64_t n = words_get(&slot->n_windows);

    for (uint64_t i = 0; i < n; i++) {
        uint64_t d = words_get(&slot->window[i].dimension);

        if (dimension_is_unique((enum dimension)d))
            continue; /* all of them were told the same recipients */
        for (uint64_t k = 0; k < n; k++)
            if (i != k && d == words_get(&was->window[k].dimension))
                level_window(&slot->window[i].window, &was->window[k].window,
                             now_ms);
    }
}
