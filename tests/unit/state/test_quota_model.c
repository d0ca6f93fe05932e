/* tests/unit/state/test_quota_model.c - the windows against a slow model that
 * keeps every grant with its exact time.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A world is one account with some windows.  It takes, gives back, settles,
 * lets time pass, sleeps for hours, has its wall clock set, its limits
 * reloaded and its agent killed or its machine booted, at random.  In every
 * world holds, by exact times:
 * - no span as long as a window holds more than its limit;
 * - what is refused would not have fitted a bucket earlier either;
 * - room_at is true: there it fits, and a bucket before it does not;
 * - what the ledger keeps rebuilds the same windows, to the bucket.
 *
 * GMROUTE_MODEL_STEPS steps a world (80000), GMROUTE_MODEL_SEED (1).
 */
#include <inttypes.h>

#include "milter/state/words.h"
#include "policy/window.h"
#include "tests/unit/state/quota_fixture.h"

enum { FLIGHTS = 24, BOOK_KINDS = 32, BOOK_CELLS = 1024 };

#define START_MS   1772359200000 /* 2026-03-01 10:00 */
#define MINUTE_MS  60000ull
#define LONGEST_MS (30 * HOUR_MS) /* of the menu */

static uint64_t seed;

static uint64_t
random_below(uint64_t n)
{
    uint64_t x = seed += 0x9e3779b97f4a7c15ull; /* splitmix64 */

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return (x ^ (x >> 31)) % n;
}

static bool
one_in(uint64_t n)
{
    return random_below(n) == 0;
}

/* ---- the ledger's spent buckets ---- */

struct book {
    unsigned n;
    struct kind {
        enum dimension dimension;
        uint64_t window_ms;
        struct {
            uint64_t bucket, units;
        } cell[BOOK_CELLS];
    } kind[BOOK_KINDS];
    uint64_t newest_ms;
};

static struct kind *
book_kind(struct book *b, enum dimension d, uint64_t window_ms)
{
    struct kind *k = b->kind;

    while (k < b->kind + b->n &&
           (k->dimension != d || k->window_ms != window_ms))
        k++;
    if (k == b->kind + b->n) {
        assert_true(b->n < BOOK_KINDS);
        b->n++;
        memset(k, 0, sizeof *k);
        k->dimension = d;
        k->window_ms = window_ms;
    }
    return k;
}

static void
book_write(struct book *b, const struct taken *t, bool add)
{
    for (unsigned i = 0; i < t->n; i++) {
        struct kind *k =
            book_kind(b, t->charge[i].dimension, t->charge[i].window_ms);
        uint64_t bucket = t->charge[i].bucket, units = t->charge[i].units;
        size_t c = bucket % BOOK_CELLS;

        if (k->cell[c].bucket > bucket)
            continue; /* long out of every window */
        if (k->cell[c].bucket < bucket)
            k->cell[c].units = 0;
        k->cell[c].bucket = bucket;
        if (add)
            k->cell[c].units += units;
        else
            k->cell[c].units -=
                units < k->cell[c].units ? units : k->cell[c].units;
    }
    if (add && t->at_ms > b->newest_ms)
        b->newest_ms = t->at_ms;
}

/* ---- the world ---- */

struct grant {
    uint64_t taken_ms, at_ms; /* true times, of the taking and what counts */
    struct cost cost;
    bool late; /* settled so late that a window had forgotten it */
};

struct rule { /* what the model knows of one window */
    struct limit limit;
    uint64_t born_ms;
    size_t first; /* grants before were taken, and are settled, without it */
    uint64_t known_ms; /* what was spent before, it was never told */
    uint64_t exact_ms; /* from then on it errs by one bucket only */
};

struct world {
    unsigned n;
    struct rule rule[LIMITS_MAX];
    uint64_t true_ms; /* what a perfect clock says */
    uint64_t lag_ms;  /* quota time is so much behind it */
    size_t n_grants, oldest, room;
    struct grant *grant;
    unsigned n_flights;
    struct flight {
        struct taken taken;
        size_t grant;
    } flight[FLIGHTS];
    /* When its limits last changed, or a flight from before was settled; 0 =
     * never. */
    uint64_t changed_ms;
    uint64_t takes, refusals, rooms, restarts, reloads;
};

static struct book book;
static struct world world;

static uint64_t
grain(uint64_t window_ms)
{
    return (window_ms + WINDOW_PARTS - 1) / WINDOW_PARTS;
}

static uint64_t
longest_ms(const struct world *w)
{
    uint64_t ms = 0;

    for (unsigned i = 0; i < w->n; i++)
        if (w->rule[i].limit.window_ms > ms)
            ms = w->rule[i].limit.window_ms;
    return ms;
}

/* Units of this dimension spent less than `age_ms` before at_ms. */
static uint64_t
spent(const struct world *w, enum dimension d, uint64_t at_ms, uint64_t age_ms)
{
    uint64_t sum = 0;

    for (size_t i = w->oldest; i < w->n_grants; i++)
        if (w->grant[i].at_ms + age_ms > at_ms)
            sum += quota_units(&w->grant[i].cost, d);
    return sum;
}

/* What the window must know to be spent in it now. */
static uint64_t
spent_for_sure(const struct world *w, const struct rule *r)
{
    uint64_t sum = 0;

    for (size_t i = w->oldest; i < w->n_grants; i++) {
        const struct grant *g = &w->grant[i];
        uint64_t at_ms = i < r->first ? g->taken_ms : g->at_ms;

        if (at_ms >= r->known_ms && at_ms + r->limit.window_ms > w->true_ms)
            sum += quota_units(&g->cost, r->limit.dimension);
    }
    return sum;
}

static uint64_t
most(const struct rule *r, unsigned share)
{
    return window_share(r->limit.max,
                        r->limit.dimension == DIM_PACE ? 100 : share);
}

/* ---- take ---- */

static void
check_fitted(const struct world *w, const struct cost *c, unsigned share)
{
    for (unsigned i = 0; i < w->n; i++) {
        const struct rule *r = &w->rule[i];
        uint64_t n = quota_units(c, r->limit.dimension);

        if (n > 0 && spent_for_sure(w, r) + n > most(r, share))
            fail_msg("seed %" PRIu64 ": more than %" PRIu64 " %s per %" PRIu64
                     " ms",
                     seed, r->limit.max, dimension_name(r->limit.dimension),
                     r->limit.window_ms);
    }
}

/* Some window is too full, counting what a bucket may hold too long. */
static bool
is_full(const struct world *w, const struct cost *c, unsigned share,
        uint64_t at_ms, bool lenient)
{
    for (unsigned i = 0; i < w->n; i++) {
        const struct rule *r = &w->rule[i];
        uint64_t n = quota_units(c, r->limit.dimension), age_ms;

        if (n == 0)
            continue;
        age_ms = r->limit.window_ms + grain(r->limit.window_ms);
        if (n > most(r, share) || (lenient && w->true_ms < r->exact_ms) ||
            spent(w, r->limit.dimension, at_ms, age_ms) + n > most(r, share))
            return true;
    }
    return false;
}

/* at_ms is believed by moving the clock there and asking. */
static void
check_room(struct world *w, const struct cost *c, unsigned share,
           const struct room *room)
{
    uint64_t now_ms = atomic_load(&fixture_boot_ms), quota_ms, longest;
    struct room then;

    assert_true(room->limiting >= 0 && room->limiting < DIM_COUNT);
    w->rooms++;
    if (room->at_ms == WINDOW_NEVER) {
        bool never = false;

        for (unsigned i = 0; i < w->n; i++)
            never |= quota_units(c, w->rule[i].limit.dimension) >
                     most(&w->rule[i], share);
        assert_true(never);
        return;
    }
    quota_ms = quota_now_ms(quota);
    assert_true(room->at_ms > quota_ms);
    atomic_store(&fixture_boot_ms, now_ms + (room->at_ms - quota_ms));
    assert_true(quota_fits(quota, sales.id, c, share, &then));
    atomic_fetch_sub(&fixture_boot_ms, 1);
    assert_false(quota_fits(quota, sales.id, c, share, &then));
    assert_true(then.at_ms == room->at_ms);
    atomic_store(&fixture_boot_ms, now_ms);

    /* By exact times it does not fit a bucket earlier. */
    longest = grain(room->window_ms) + 1;
    if (room->at_ms > quota_ms + longest) {
        uint64_t at_ms = room->at_ms + w->lag_ms - longest;
        bool full = false;

        for (unsigned i = 0; i < w->n; i++) {
            const struct rule *r = &w->rule[i];
            uint64_t n = quota_units(c, r->limit.dimension);

            full |=
                w->true_ms < r->exact_ms ||
                (n > 0 &&
                 spent(w, r->limit.dimension, at_ms, r->limit.window_ms) + n >
                     most(r, share));
        }
        assert_true(full);
    }
}

static void
remember(struct world *w, const struct cost *c)
{
    if (w->n_grants == w->room) {
        w->room = w->room != 0 ? 2 * w->room : 1024;
        w->grant = reallocarray(w->grant, w->room, sizeof *w->grant);
        assert_non_null(w->grant);
    }
    w->grant[w->n_grants++] = (struct grant){w->true_ms, w->true_ms, *c, false};
}

static struct cost
some_cost(const struct world *w)
{
    struct cost c = {.messages = 1};
    uint64_t most_recipients = 8, most_bytes = 1000;

    for (unsigned i = 0; i < w->n; i++) {
        const struct limit *l = &w->rule[i].limit;

        if (l->dimension == DIM_RECIPIENTS)
            most_recipients = l->max / 6 + 2;
        if (l->dimension == DIM_BYTES)
            most_bytes = l->max / 20 + 2;
    }
    if (one_in(100)) /* does it fit at all? */
        most_recipients *= 20;
    if (one_in(100))
        most_bytes *= 40;
    c.recipients = 1 + (uint32_t)random_below(most_recipients);
    c.external_recipients = (uint32_t)random_below(c.recipients + 1);
    c.bytes = random_below(most_bytes);
    return c;
}

static void
take_some(struct world *w)
{
    static const unsigned shares[] = {100, 100, 100, 100, 80, 50, 1};
    unsigned share = shares[random_below(sizeof shares / sizeof *shares)];
    struct cost c = some_cost(w);
    struct taken t;
    struct room room;

    if (w->n_flights == FLIGHTS)
        return;
    if (!quota_take(quota, sales.id, &c, share, &t, &room)) {
        w->refusals++;
        if (!is_full(w, &c, share, w->true_ms, true))
            fail_msg("seed %" PRIu64 ": refused (%s) what fits", seed,
                     dimension_name((enum dimension)room.limiting));
        check_room(w, &c, share, &room);
        return;
    }
    w->takes++;
    check_fitted(w, &c, share);
    remember(w, &c);
    book_write(&book, &t, true);
    w->flight[w->n_flights++] =
        (struct flight){.taken = t, .grant = w->n_grants - 1};
}

/* What a window says is spent lies between what the exact window holds and
 * what it would hold with one bucket more. */
static void
check_used(const struct world *w)
{
    struct quota_slot *slot = quota_lock(quota, sales.id);
    uint64_t now_ms = quota_now_ms(quota);

    assert_non_null(slot);
    for (unsigned i = 0; i < w->n; i++) {
        const struct rule *r = &w->rule[i];
        const struct limit *l = &r->limit;
        uint64_t used = window_used(&slot->window[i].window, now_ms);
        uint64_t least = spent_for_sure(w, r);
        uint64_t exact = spent(w, l->dimension, w->true_ms,
                               l->window_ms + grain(l->window_ms));

        if (used < least || (w->true_ms >= r->exact_ms && used > exact))
            fail_msg("seed %" PRIu64 ": used %" PRIu64 " %s per %" PRIu64
                     " ms, not %" PRIu64 "..%" PRIu64,
                     seed, used, dimension_name(l->dimension), l->window_ms,
                     least, exact);
    }
    quota_unlock(quota, slot);
}

/* ---- the ends of a flight ---- */

static void
settle(struct world *w, struct flight *f, struct grant *g)
{
    for (unsigned i = 0; i < w->n; i++) {
        g->late |= w->true_ms - g->at_ms >= w->rule[i].limit.window_ms;
        if (f->grant < w->rule[i].first)
            w->changed_ms = w->true_ms;
    }
    quota_settle(quota, &f->taken);
    g->at_ms = w->true_ms;
}

static void
end_flight(struct world *w, unsigned k)
{
    struct flight *f = &w->flight[k];
    struct grant *g = &w->grant[f->grant];
    struct taken before = f->taken;
    uint32_t back, external;

    switch (random_below(5)) {
    case 0: /* refused */
        quota_give_back(quota, &f->taken);
        g->cost = (struct cost){0};
        book_write(&book, &before, false);
        break;
    case 1: /* refused for some */
        back = (uint32_t)random_below(g->cost.recipients);
        external =
            back < g->cost.external_recipients
                ? (uint32_t)random_below(back + 1)
                : (uint32_t)random_below(g->cost.external_recipients + 1);
        g->cost.recipients -= back;
        g->cost.external_recipients -= external;
        quota_give_back_recipients(quota, &f->taken, &g->cost);
        settle(w, f, g);
        book_write(&book, &before, false);
        book_write(&book, &f->taken, true);
        break;
    case 2: /* the agent never knew */
        break;
    default: /* sent */
        settle(w, f, g);
        book_write(&book, &before, false);
        book_write(&book, &f->taken, true);
    }
    w->flight[k] = w->flight[--w->n_flights];
}

/* ---- time ---- */

static void
pass(struct world *w, uint64_t ms)
{
    size_t end = w->n_grants;

    w->true_ms += ms;
    atomic_fetch_add(&fixture_boot_ms, ms);
    atomic_fetch_add(&fixture_wall_ms, (int64_t)ms);
    for (unsigned i = 0; i < w->n_flights; i++)
        if (w->flight[i].grant < end)
            end = w->flight[i].grant; /* may be settled yet */
    while (w->oldest < end &&
           w->grant[w->oldest].at_ms + 3 * longest_ms(w) + 2 * DAY_MS <
               w->true_ms)
        w->oldest++;
}

static void
let_time_pass(struct world *w)
{
    uint64_t window_ms = w->rule[random_below(w->n)].limit.window_ms;

    switch (random_below(40)) {
    case 0:
        pass(w, random_below(2 * window_ms + 1));
        break;
    case 1:
        pass(w, window_ms);
        break;
    case 2: /* the machine sleeps */
        if (one_in(8))
            pass(w, random_below(9 * HOUR_MS));
        break;
    case 3:
    case 4:
    case 5:
        pass(w, random_below(window_ms / 10 + 2));
        break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
        pass(w, random_below(window_ms / WINDOW_PARTS + 2));
        break;
    default:
        pass(w, random_below(2));
    }
    assert_true(quota_now_ms(quota) + w->lag_ms == w->true_ms);
}

/* Somebody sets the wall clock: while the agent runs, nothing happens. */
static void
set_wall(void)
{
    static const int64_t step_ms[] = {1, 61000, 2 * (int64_t)HOUR_MS,
                                      400 * (int64_t)DAY_MS};
    int64_t step = step_ms[random_below(4)];
    uint64_t before_ms = quota_now_ms(quota);

    atomic_fetch_add(&fixture_wall_ms, one_in(2) ? step : -step);
    assert_true(quota_now_ms(quota) == before_ms);
}

/* ---- new limits ---- */

static const struct limit menu[] = {
    {DIM_MESSAGES, 40, DAY_MS},
    {DIM_MESSAGES, 9, HOUR_MS},
    {DIM_MESSAGES, 60, LONGEST_MS},
    {DIM_RECIPIENTS, 150, DAY_MS},
    {DIM_RECIPIENTS, 70, 7 * HOUR_MS + 1},
    {DIM_EXTERNAL_RECIPIENTS, 80, DAY_MS},
    {DIM_BYTES, 300000000, HOUR_MS},
    {DIM_BYTES, 1500000000, DAY_MS},
    {DIM_PACE, 6, MINUTE_MS},
    {DIM_PACE, 3, 7001},
};

static void
set_limits(const struct limit *limit, unsigned n)
{
    fixture_policy(&fixture, limit, n);
    /* Nobody's, but so the slots have place for all that a reload brings. */
    fixture.account[FIXTURE_ACCOUNTS - 1].quota.n = LIMITS_MAX;
    sales = fixture_mailbox(&fixture.account[0], "sales@example.com");
}

/* Of a window that is new, what do the others know that it can inherit? */
static void
new_rule(struct rule *r, const struct rule *old, unsigned n, uint64_t now_ms,
         size_t first)
{
    uint64_t worst_ms = 0;

    r->born_ms = now_ms;
    r->first = first;
    r->known_ms = now_ms + 1;
    r->exact_ms = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct limit *l = &old[i].limit;
        uint64_t from_ms = now_ms - l->window_ms + 1;

        if (l->dimension != r->limit.dimension)
            continue;
        if (l->window_ms == r->limit.window_ms) {
            r->born_ms = old[i].born_ms;
            r->first = old[i].first;
            r->known_ms = old[i].known_ms;
            r->exact_ms = old[i].exact_ms;
            return;
        }
        if (from_ms < old[i].known_ms)
            from_ms = old[i].known_ms;
        if (from_ms < r->known_ms)
            r->known_ms = from_ms;
        if (l->window_ms > worst_ms)
            worst_ms = l->window_ms;
    }
    if (worst_ms > 0) /* a bucket of the other is not one of its own */
        r->exact_ms = now_ms + 2 * (worst_ms + r->limit.window_ms);
}

/* Other limits: some windows go, some come, some change their limit.  `keep`:
 * none goes, for a window that comes back may be charged by a flight from
 * before. */
static void
choose_limits(struct world *w, bool keep)
{
    struct rule old[LIMITS_MAX];
    struct limit chosen[LIMITS_MAX];
    unsigned n = w->n, n_new = 0;

    memcpy(old, w->rule, sizeof old);
    for (size_t i = 0; i < sizeof menu / sizeof *menu; i++) {
        bool had = false;

        for (unsigned k = 0; k < n; k++)
            had |= old[k].limit.dimension == menu[i].dimension &&
                   old[k].limit.window_ms == menu[i].window_ms;
        if (!(had && keep) && one_in(had ? 3 : 2))
            continue;
        chosen[n_new] = menu[i];
        chosen[n_new].max += random_below(menu[i].max);
        n_new++;
    }
    if (n_new == 0)
        chosen[n_new++] = menu[0];
    w->n = n_new;
    w->changed_ms = w->true_ms;
    for (unsigned i = 0; i < n_new; i++) {
        w->rule[i].limit = chosen[i];
        new_rule(&w->rule[i], old, n, w->true_ms, w->n_grants);
    }
    set_limits(chosen, n_new);
}

static void
reload(struct world *w)
{
    bool keep = one_in(2);

    while (!keep && w->n_flights > 0)
        end_flight(w, 0);
    choose_limits(w, keep);
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
    w->reloads++;
}

/* ---- the agent ends and starts again ---- */

/* The windows as they stand, for a comparison. */
static unsigned
copy_windows(struct quota_window ret[LIMITS_MAX])
{
    struct quota_slot *slot = quota_lock(quota, sales.id);
    unsigned n;

    assert_non_null(slot);
    n = (unsigned)words_get(&slot->n_windows);
    memcpy((void *)ret, (void *)slot->window, n * sizeof *ret);
    quota_unlock(quota, slot);
    return n;
}

static void
make_agent(void)
{
    if (quota_make(&quota, directory, &fixture.policy, &fixture_clock,
                   &(struct quota_start){book.newest_ms, 0}, err,
                   sizeof err) != STATE_OK)
        fail_msg("%s", err);
}

static void
restore(void)
{
    unsigned skip = (unsigned)random_below(BOOK_CELLS);

    for (unsigned i = 0; i < book.n; i++) {
        const struct kind *k = &book.kind[i];
        uint64_t now = window_bucket_of(k->window_ms, quota_now_ms(quota));

        for (unsigned c = 0; c < BOOK_CELLS; c++) {
            unsigned at = (c + skip) % BOOK_CELLS;

            if (k->cell[at].units > 0 &&
                now < k->cell[at].bucket + WINDOW_BUCKETS)
                quota_restore(quota, sales.id, k->dimension, k->window_ms,
                              k->cell[at].bucket, k->cell[at].units);
        }
    }
    quota_restored(quota, sales.id);
}

static void
check_same_windows(const struct quota_window *was, unsigned n)
{
    struct quota_window is[LIMITS_MAX];

    assert_int_equal(copy_windows(is), n);
    for (unsigned i = 0; i < n; i++) {
        uint64_t window_ms = words_get(&was[i].window.window_ms);
        uint64_t now_ms = quota_now_ms(quota);

        for (unsigned k = 0; k <= WINDOW_BUCKETS; k++) {
            uint64_t at_ms = now_ms + k * window_ms / WINDOW_PARTS;

            assert_int_equal(window_used(&is[i].window, at_ms),
                             window_used(&was[i].window, at_ms));
        }
    }
}

/* Boots the machine; its wall clock may come up behind. */
static void
boot(struct world *w)
{
    int64_t wall_ms = (int64_t)(w->true_ms - w->lag_ms);

    if (one_in(20))
        wall_ms -= (int64_t)random_below(3 * DAY_MS);
    atomic_store(&fixture_boot_ms, random_below(100000));
    atomic_store(&fixture_wall_ms, wall_ms);
    fixture_remove(directory);
    fixture_directory(directory, sizeof directory);
}

/* After a change of limits the book cannot tell all: it has what a window was
 * charged, not what the window had inherited. */
static void
forget_some(struct world *w, const struct rule *old, unsigned n)
{
    for (unsigned i = 0; i < w->n; i++) {
        struct rule *r = &w->rule[i];
        uint64_t known_ms = w->true_ms + 1;

        for (unsigned k = 0; k < n; k++) {
            const struct limit *l = &old[k].limit;
            uint64_t from_ms = w->true_ms - l->window_ms;

            if (l->dimension != r->limit.dimension)
                continue;
            if (l->window_ms > r->limit.window_ms)
                from_ms = w->true_ms - r->limit.window_ms;
            /* A bucket of the other may begin before the past of this. */
            if (l->window_ms != r->limit.window_ms)
                from_ms += grain(LONGEST_MS);
            if (from_ms <= old[k].born_ms)
                from_ms = old[k].born_ms + 1;
            if (from_ms < known_ms)
                known_ms = from_ms;
        }
        if (known_ms > r->known_ms)
            r->known_ms = known_ms;
        /* A length that is gone counts in all others, too. */
        r->exact_ms = w->true_ms + 2 * LONGEST_MS;
    }
}

static void
restart(struct world *w)
{
    struct quota_window was[LIMITS_MAX];
    struct rule old[LIMITS_MAX];
    bool booted = one_in(4), exact;
    unsigned n, n_old = w->n;
    uint64_t lag_ms;

    memcpy(old, w->rule, sizeof old);
    if (one_in(2))
        while (w->n_flights > 0)
            end_flight(w, 0);
    w->n_flights = 0; /* in doubt: spent, and never heard of again */
    n = copy_windows(was);
    quota_free(quota);
    quota = NULL;
    if (booted)
        boot(w);
    if (w->changed_ms != 0 && one_in(3))
        choose_limits(w, false);
    exact = w->true_ms - w->changed_ms > 3 * LONGEST_MS;
    make_agent();
    restore();
    if (!exact)
        forget_some(w, old, n_old);
    lag_ms = w->true_ms - quota_now_ms(quota);
    if (!booted) /* whatever the wall clock says */
        assert_true(lag_ms == w->lag_ms);
    for (unsigned i = 0; i < w->n; i++) {
        struct rule *r = &w->rule[i];
        uint64_t ms = w->true_ms + lag_ms + 2 * r->limit.window_ms;

        if (lag_ms > w->lag_ms && ms > r->exact_ms)
            r->exact_ms = ms; /* the past seems nearer than it is */
    }
    if (exact && lag_ms == w->lag_ms)
        check_same_windows(was, n);
    w->lag_ms = lag_ms;
    w->restarts++;
}

/* ---- one world ---- */

static void
step(struct world *w, bool reloads)
{
    let_time_pass(w);
    take_some(w);
    if (w->n_flights > 0 && one_in(2))
        end_flight(w, (unsigned)random_below(w->n_flights));
    check_used(w);
    if (one_in(50))
        set_wall();
    if (one_in(400))
        restart(w);
    if (reloads && one_in(200))
        reload(w);
}

static int
by_time(const void *a, const void *b)
{
    const struct grant *x = a, *y = b;

    return x->at_ms < y->at_ms ? -1 : x->at_ms > y->at_ms;
}

/* Over the whole history of a world whose limits never changed. */
static void
check_history(struct world *w)
{
    qsort(w->grant, w->n_grants, sizeof *w->grant, by_time);
    for (unsigned k = 0; k < w->n; k++) {
        const struct limit *l = &w->rule[k].limit;
        uint64_t sum = 0;
        size_t first = 0;

        for (size_t i = 0; i < w->n_grants; i++) {
            if (w->grant[i].late)
                continue;
            sum += quota_units(&w->grant[i].cost, l->dimension);
            for (; w->grant[i].at_ms - w->grant[first].at_ms >= l->window_ms;
                 first++)
                if (!w->grant[first].late)
                    sum -= quota_units(&w->grant[first].cost, l->dimension);
            assert_true(sum <= l->max);
        }
    }
}

static uint64_t
number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void
live(const struct limit *limit, unsigned n, bool reloads)
{
    uint64_t steps = number("GMROUTE_MODEL_STEPS", 80000);
    struct world *w = &world;

    *w = (struct world){.n = n};
    book = (struct book){0};
    for (unsigned i = 0; i < n; i++)
        w->rule[i].limit = limit[i];
    atomic_store(&fixture_boot_ms, 1000);
    atomic_store(&fixture_wall_ms, START_MS);
    fixture_directory(directory, sizeof directory);
    set_limits(limit, n);
    make_agent();
    w->true_ms = quota_now_ms(quota);
    if (reloads)
        w->changed_ms = w->true_ms;
    for (uint64_t i = 0; i < steps; i++)
        step(w, reloads);
    if (!reloads)
        check_history(w);
    print_message("  %s: %" PRIu64 " takes, %" PRIu64 " refusals, %" PRIu64
                  " restarts, %" PRIu64 " reloads\n",
                  dimension_name(limit[0].dimension), w->takes, w->refusals,
                  w->restarts, w->reloads);
    assert_true(w->takes > steps / 50 && w->refusals > steps / 50);
    quota_free(quota);
    quota = NULL;
    fixture_remove(directory);
    free(w->grant);
}

/* ---- worlds ---- */

static void
one_window(void **state)
{
    static const struct limit rows[] = {
        {DIM_MESSAGES, 1, DAY_MS},
        {DIM_MESSAGES, 2000, DAY_MS},
        {DIM_RECIPIENTS, 100, HOUR_MS},
        {DIM_EXTERNAL_RECIPIENTS, 30, 61000},
        {DIM_BYTES, 300000000, HOUR_MS},
        {DIM_PACE, 20, MINUTE_MS},
        {DIM_PACE, 3, 143},
        {DIM_MESSAGES, 7, 145},
        {DIM_RECIPIENTS, 90, 86399999},
        {DIM_MESSAGES, 50, 1},
        {DIM_BYTES, 1ull << 45, DAY_MS},
        {DIM_MESSAGES, 40, 31 * DAY_MS},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        live(&rows[i], 1, false);
}

static void
several_windows(void **state)
{
    static const struct limit rows[][6] = {
        {{DIM_MESSAGES, 200, DAY_MS},
         {DIM_RECIPIENTS, 700, DAY_MS},
         {DIM_EXTERNAL_RECIPIENTS, 400, DAY_MS},
         {DIM_BYTES, 30000000, HOUR_MS},
         {DIM_BYTES, 150000000, DAY_MS},
         {DIM_PACE, 20, MINUTE_MS}},
        {{DIM_MESSAGES, 10, 7 * HOUR_MS + 1},
         {DIM_MESSAGES, 40, 2 * DAY_MS},
         {DIM_MESSAGES, 4, 61000},
         {DIM_RECIPIENTS, 25, DAY_MS},
         {DIM_RECIPIENTS, 19, 3 * HOUR_MS},
         {DIM_PACE, 2, 1001}},
        {{DIM_PACE, 5, MINUTE_MS},
         {DIM_PACE, 2, 7001},
         {DIM_RECIPIENTS, 300, HOUR_MS},
         {DIM_RECIPIENTS, 100, 599999},
         {DIM_BYTES, 9000, 1234567},
         {DIM_MESSAGES, 100, HOUR_MS}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned n = 2; n <= 6; n += 2)
            live(rows[i], n, false);
}

static void
limits_that_change(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        live(&menu[i], 1, true);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_window),
        cmocka_unit_test(several_windows),
        cmocka_unit_test(limits_that_change),
    };

    seed = number("GMROUTE_MODEL_SEED", 1);
    return cmocka_run_group_tests_name("state/quota_model", tests, NULL, NULL);
}
