/* policy/window.c - see window.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * At any time the buckets newest - WINDOW_PARTS .. newest are alive: bucket
 * b holds instants before (b + 1) * W / 144, so it is wholly W old when the
 * time reaches bucket b + 145.  Always true between calls: used is the sum of
 * all buckets.
 */
#include "policy/window.h"

static uint64_t
get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void
set(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

void
window_init(struct window *w, uint64_t limit, uint64_t window_ms)
{
    set(&w->limit, limit);
    set(&w->window_ms, window_ms);
    set(&w->newest, 0);
    set(&w->used, 0);
    window_set_ceiling(w, 0, 0);
    for (unsigned i = 0; i < WINDOW_BUCKETS; i++)
        set(&w->bucket[i], 0);
}

uint64_t
window_bucket_of(uint64_t window_ms, uint64_t now_ms)
{
    if (window_ms == 0)
        return 0; /* unused: one bucket, which never ages */
    if (now_ms > UINT64_MAX / WINDOW_PARTS)
        now_ms = UINT64_MAX / WINDOW_PARTS;
    return now_ms * WINDOW_PARTS / window_ms;
}

/* First ms of a bucket: bucket * W / 144, rounded up, without overflow. */
static uint64_t
bucket_start(uint64_t window_ms, uint64_t bucket)
{
    uint64_t part = bucket % WINDOW_PARTS * window_ms;

    return bucket / WINDOW_PARTS * window_ms +
           (part + WINDOW_PARTS - 1) / WINDOW_PARTS;
}

/* The bucket of now_ms, or the newest one if time went back. */
static uint64_t
bucket_now(const struct window *w, uint64_t now_ms)
{
    uint64_t bucket = window_bucket_of(get(&w->window_ms), now_ms);
    uint64_t newest = get(&w->newest);

    return bucket > newest ? bucket : newest;
}

/* The oldest bucket that still counts when the time has reached `bucket`. */
static uint64_t
oldest_alive(uint64_t bucket)
{
    return bucket > WINDOW_PARTS ? bucket - WINDOW_PARTS : 0;
}

/* Advances to a bucket number; nothing when it is not after the newest. */
static void
advance_to(struct window *w, uint64_t bucket)
{
    uint64_t newest = get(&w->newest), used = get(&w->used);

    if (bucket <= newest)
        return;
    if (used > 0) { /* else every bucket is empty already */
        uint64_t steps = bucket - newest;

        if (steps > WINDOW_BUCKETS)
            steps = WINDOW_BUCKETS;
        for (uint64_t i = 1; i <= steps; i++) {
            _Atomic uint64_t *slot = &w->bucket[(newest + i) % WINDOW_BUCKETS];

            used -= get(slot);
            set(slot, 0);
        }
        set(&w->used, used);
    }
    set(&w->newest, bucket);
}

void
window_advance(struct window *w, uint64_t now_ms)
{
    advance_to(w, bucket_now(w, now_ms));
}

/* What still counts when the time has reached `bucket`. */
static uint64_t
used_at(const struct window *w, uint64_t bucket)
{
    uint64_t newest = get(&w->newest), used = get(&w->used);

    if (used == 0 || bucket <= newest)
        return used;
    if (bucket - newest > WINDOW_PARTS)
        return 0;
    for (uint64_t b = newest + 1; b <= bucket; b++) {
        uint64_t gone = get(&w->bucket[b % WINDOW_BUCKETS]);

        used = used > gone ? used - gone : 0; /* a torn copy: never wrap */
    }
    return used;
}

uint64_t
window_used(const struct window *w, uint64_t now_ms)
{
    return used_at(w, bucket_now(w, now_ms));
}

uint64_t
window_share(uint64_t limit, unsigned share_percent)
{
    if (share_percent >= 100)
        return limit;
    return limit / 100 * share_percent + limit % 100 * share_percent / 100;
}

void
window_set_ceiling(struct window *w, uint64_t max, uint64_t until_ms)
{
    set(&w->ceiling, until_ms != 0 ? max : 0);
    set(&w->ceiling_until_ms, until_ms);
}

uint64_t
window_limit(const struct window *w, uint64_t now_ms)
{
    uint64_t limit = get(&w->limit), ceiling = get(&w->ceiling);

    return now_ms < get(&w->ceiling_until_ms) && ceiling < limit ? ceiling
                                                                 : limit;
}

static bool
fits(uint64_t used, uint64_t n, uint64_t max)
{
    return n <= max && used <= max - n;
}

bool
window_fits(const struct window *w, uint64_t now_ms, uint64_t n,
            unsigned share_percent)
{
    return fits(window_used(w, now_ms), n,
                window_share(window_limit(w, now_ms), share_percent));
}

/* Adds n to a bucket that is alive. */
static void
charge(struct window *w, uint64_t bucket, uint64_t n)
{
    _Atomic uint64_t *slot = &w->bucket[bucket % WINDOW_BUCKETS];
    uint64_t used = get(&w->used);

    if (n > UINT64_MAX - used)
        n = UINT64_MAX - used;
    set(slot, get(slot) + n);
    set(&w->used, used + n);
}

uint64_t
window_spend(struct window *w, uint64_t now_ms, uint64_t n)
{
    uint64_t bucket = bucket_now(w, now_ms);

    advance_to(w, bucket);
    charge(w, bucket, n);
    return bucket;
}

void
window_give_back(struct window *w, uint64_t bucket, uint64_t n)
{
    uint64_t newest = get(&w->newest);
    _Atomic uint64_t *slot = &w->bucket[bucket % WINDOW_BUCKETS];

    if (bucket > newest || newest - bucket > WINDOW_PARTS)
        return;
    if (n > get(slot))
        n = get(slot);
    set(slot, get(slot) - n);
    set(&w->used, get(&w->used) - n);
}

/* When do n more fit under max, which they do not exceed? */
static uint64_t
room_under(const struct window *w, uint64_t now_ms, uint64_t n, uint64_t max)
{
    uint64_t window_ms = get(&w->window_ms), newest = get(&w->newest);
    uint64_t now = bucket_now(w, now_ms), used = used_at(w, now);

    if (fits(used, n, max))
        return now_ms;
    if (window_ms == 0)
        return WINDOW_NEVER;
    for (uint64_t b = oldest_alive(now); b <= newest; b++) {
        uint64_t gone = get(&w->bucket[b % WINDOW_BUCKETS]);

        used = used > gone ? used - gone : 0;
        if (gone > 0 && fits(used, n, max))
            return bucket_start(window_ms, b + WINDOW_BUCKETS);
    }
    /* a torn copy: all has passed out once the newest bucket has */
    return bucket_start(window_ms, newest + WINDOW_BUCKETS);
}

uint64_t
window_room_at(const struct window *w, uint64_t now_ms, uint64_t n,
               unsigned share_percent)
{
    uint64_t max = window_share(get(&w->limit), share_percent);
    uint64_t low = window_share(window_limit(w, now_ms), share_percent);
    uint64_t until_ms = get(&w->ceiling_until_ms), at_ms;

    if (n > max)
        return WINDOW_NEVER;
    if (low == max)
        return room_under(w, now_ms, n, max);
    at_ms = n <= low ? room_under(w, now_ms, n, low) : WINDOW_NEVER;
    return at_ms <= until_ms ? at_ms : room_under(w, until_ms, n, max);
}

uint64_t
window_spent_at(const struct window *w, uint64_t now_ms)
{
    uint64_t newest = get(&w->newest);
    uint64_t oldest = oldest_alive(bucket_now(w, now_ms));

    for (uint64_t b = newest; b >= oldest; b--) {
        if (get(&w->bucket[b % WINDOW_BUCKETS]) > 0)
            return bucket_start(get(&w->window_ms), b);
        if (b == 0)
            break;
    }
    return 0;
}

void
window_restore(struct window *w, uint64_t now_ms, uint64_t bucket, uint64_t n)
{
    uint64_t newest;

    window_advance(w, now_ms);
    newest = get(&w->newest);
    if (bucket > newest)
        bucket = newest; /* time went back: it was spent before now */
    if (newest - bucket <= WINDOW_PARTS)
        charge(w, bucket, n);
}

void
window_repair(struct window *w)
{
    uint64_t used = 0;

    for (unsigned i = 0; i < WINDOW_BUCKETS; i++) {
        uint64_t n = get(&w->bucket[i]);

        if (n > UINT64_MAX - used) { /* nonsense: keep the sum true */
            n = UINT64_MAX - used;
            set(&w->bucket[i], n);
        }
        used += n;
    }
    set(&w->used, used);
}
