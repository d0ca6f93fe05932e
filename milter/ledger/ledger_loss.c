/* milter/ledger/ledger_loss.c - what a loss of power may have taken from the
 * book.
 * SPDX-License-Identifier: Apache-2.0
 *
 * At most sessions.max transactions of an account are begun and have no end on
 * disk, and every end on disk has all begins before it with it.  What the lost
 * ones cost nobody knows; they are taken for as many of the account's recent
 * average.
 */
#include "milter/ledger/ledger_private.h"
#include "policy/window.h"

static bool
counts_messages(enum dimension d)
{
    return d == DIM_MESSAGES || d == DIM_PACE;
}

static bool
same_window(const struct ledger_bucket *a, const struct ledger_bucket *b)
{
    return a->dimension == b->dimension && a->window_ms == b->window_ms;
}

/* Units of the window of b[0] in buckets that reach beyond since_ms, and the
 * most in any one. */
static uint64_t
sum(const struct ledger_bucket *b, size_t n, uint64_t since_ms, uint64_t *most)
{
    uint64_t units = 0;

    *most = 0;
    for (size_t i = 0; i < n && same_window(&b[i], b); i++) {
        if (b[i].end_ms <= since_ms)
            continue;
        if (__builtin_add_overflow(units, b[i].units, &units))
            units = UINT64_MAX;
        if (b[i].units > *most)
            *most = b[i].units;
    }
    return units;
}

/* The longest window that counts messages; n = there is none. */
static size_t
find_messages(const struct ledger_bucket *b, size_t n)
{
    size_t best = n;

    for (size_t i = 0; i < n; i++)
        if (counts_messages(b[i].dimension) &&
            (best == n || b[i].window_ms > b[best].window_ms))
            best = i;
    return best;
}

/* Of the window that begins at `at`, for one message, rounded up: both are
 * looked at for the length of the shorter one.  Where nothing has counted
 * messages each bucket is taken for one: rather too much than too little. */
static uint64_t
average(const struct ledger_bucket *b, size_t n, size_t at, size_t messages,
        uint64_t newest_ms)
{
    uint64_t span_ms = b[at].window_ms, since_ms, units, most, count = 0, same;

    if (counts_messages(b[at].dimension))
        return 1;
    if (messages < n && b[messages].window_ms < span_ms)
        span_ms = b[messages].window_ms;
    since_ms = newest_ms > span_ms ? newest_ms - span_ms : 0;
    units = sum(b + at, n - at, since_ms, &most);
    if (messages < n)
        count = sum(b + messages, n - messages, since_ms, &same);
    if (count == 0)
        return most > 0 ? most : 1;
    return units / count + (units % count != 0);
}

/* What is left of the limit at now_ms; a window that has none any more is
 * charged in full. */
static uint64_t
room_left(const struct ledger_bucket *b, size_t n, const struct account *a,
          uint64_t now_ms)
{
    uint64_t most, used;

    for (unsigned i = 0; i < a->quota.n; i++) {
        const struct limit *l = &a->quota.limit[i];

        if (l->dimension != b->dimension || l->window_ms != b->window_ms)
            continue;
        /* A bucket counts until its end is a window ago. */
        used =
            sum(b, n, now_ms > l->window_ms ? now_ms - l->window_ms : 0, &most);
        return used < l->max ? l->max - used : 0;
    }
    return UINT64_MAX;
}

/* As much as struct cost holds. */
static void
add_cost(struct cost *c, enum dimension d, uint64_t units)
{
    uint32_t n = units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;

    if (counts_messages(d) && n > c->messages)
        c->messages = n;
    if (d == DIM_RECIPIENTS && n > c->recipients)
        c->recipients = n;
    if (d == DIM_EXTERNAL_RECIPIENTS && n > c->external_recipients)
        c->external_recipients = n;
    if (d == DIM_BYTES && units > c->bytes)
        c->bytes = units;
}

bool
ledger_loss(const struct ledger_bucket *b, size_t n, const struct account *a,
            uint64_t newest_ms, uint64_t now_ms, struct taken *ret)
{
    struct taken t = {.at_ms = now_ms};
    size_t messages = find_messages(b, n);
    bool recent = false;

    for (size_t i = 0; i < n; i++)
        recent = recent || b[i].end_ms + LEDGER_RECENT_MS > newest_ms;
    for (size_t i = 0; recent && i < n && t.n < LIMITS_MAX; i++) {
        uint64_t units, left;

        if (i > 0 && same_window(&b[i], &b[i - 1]))
            continue;
        left = room_left(b + i, n - i, a, now_ms);
        if (__builtin_mul_overflow(average(b, n, i, messages, newest_ms),
                                   a->sessions.max, &units) ||
            units > left)
            units = left;
        t.charge[t.n].dimension = b[i].dimension;
        t.charge[t.n].window_ms = b[i].window_ms;
        t.charge[t.n].bucket = window_bucket_of(b[i].window_ms, now_ms);
        t.charge[t.n].units = units;
        t.n++;
        add_cost(&t.cost, b[i].dimension, units);
    }
    *ret = t;
    return recent;
}
