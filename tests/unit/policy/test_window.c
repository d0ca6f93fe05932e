/* tests/unit/policy/test_window.c - the rolling window against a slow model
 * that remembers every spend.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DAY_MS  (24ull * 3600 * 1000)
#define UNIX_MS 1790000000000ull

/* ---- rows ---- */

static void
test_bucket_numbers(void **state)
{
    static const struct {
        uint64_t window_ms, now_ms, bucket;
    } rows[] = {
        {DAY_MS, 0, 0},
        {DAY_MS, 599999, 0},
        {DAY_MS, 600000, 1},
        {DAY_MS, DAY_MS, 144},
        {7000, 48, 0},
        {7000, 49, 1}, /* 48.6 ms a bucket */
        {7000, 97, 1},
        {7000, 98, 2},
        {1, 1, 144},
        {144, 17, 17},
        {WINDOW_MS_MAX, UNIX_MS, UNIX_MS * 144 / WINDOW_MS_MAX},
        {0, UNIX_MS, 0},
        {1, UINT64_MAX, UINT64_MAX / 144 * 144},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(window_bucket_of(rows[i].window_ms, rows[i].now_ms),
                         rows[i].bucket);
}

static void
test_share_of_a_limit(void **state)
{
    static const struct {
        uint64_t limit;
        unsigned percent;
        uint64_t most;
    } rows[] = {
        {100, 100, 100},
        {100, 80, 80},
        {100, 0, 0},
        {99, 50, 49},
        {3, 33, 0},
        {3, 34, 1},
        {2000, 101, 2000}, /* never more than the whole */
        {UINT64_MAX, 100, UINT64_MAX},
        {UINT64_MAX, 50, UINT64_MAX / 2},
        {UINT64_MAX, 1, UINT64_MAX / 100},
        {UINT64_MAX, 99, UINT64_MAX / 100 * 99 + 15 * 99 / 100},
        {0, 100, 0},
    };
    struct window w;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        window_init(&w, rows[i].limit, 1000);
        assert_true(window_fits(&w, 0, rows[i].most, rows[i].percent));
        if (rows[i].most < UINT64_MAX) {
            assert_false(window_fits(&w, 0, rows[i].most + 1, rows[i].percent));
            assert_true(window_room_at(&w, 0, rows[i].most + 1,
                                       rows[i].percent) == WINDOW_NEVER);
        }
        window_spend(&w, 0, rows[i].most);
        assert_true(window_fits(&w, 0, 0, rows[i].percent));
        assert_true(rows[i].most == 0 ||
                    !window_fits(&w, 0, rows[i].most, rows[i].percent));
    }
}

static void
test_a_day(void **state)
{
    struct window w;
    uint64_t t = UNIX_MS / DAY_MS * DAY_MS, bucket;

    (void)state;
    window_init(&w, 2000, DAY_MS);
    bucket = window_spend(&w, t + 1, 1500);
    window_spend(&w, t + 599999, 400);
    window_spend(&w, t + 600000, 100);
    assert_int_equal(bucket, window_bucket_of(DAY_MS, t));
    assert_int_equal(window_used(&w, t + 600000), 2000);
    assert_false(window_fits(&w, t + 600000, 1, 100));
    assert_true(window_room_at(&w, t + 600000, 1, 100) == t + DAY_MS + 600000);
    assert_true(window_room_at(&w, t + 600000, 1900, 100) ==
                t + DAY_MS + 600000);
    assert_true(window_room_at(&w, t + 600000, 1901, 100) ==
                t + DAY_MS + 1200000);
    assert_false(window_fits(&w, t + DAY_MS + 599999, 1, 100));
    assert_true(window_fits(&w, t + DAY_MS + 600000, 1900, 100));
    window_give_back(&w, bucket, 1500);
    assert_int_equal(window_used(&w, t + 600000), 500);
    window_give_back(&w, bucket, 1000); /* more than is there */
    assert_int_equal(window_used(&w, t + 600000), 100);
}

static void
test_spends_past_the_limit(void **state)
{
    struct window w;

    (void)state;
    window_init(&w, 10, 1440);
    window_spend(&w, 5, 25);
    assert_int_equal(window_used(&w, 5), 25);
    assert_false(window_fits(&w, 5, 0, 100));
    assert_int_equal(window_room_at(&w, 5, 10, 100), 1450);
    assert_int_equal(window_used(&w, 1449), 25);
    assert_int_equal(window_used(&w, 1450), 0);
}

static void
test_time_that_goes_back(void **state)
{
    struct window w;
    uint64_t bucket;

    (void)state;
    window_init(&w, 10, 1440);
    window_spend(&w, 5000, 4);
    bucket = window_spend(&w, 3000, 3); /* charged at 5000 */
    assert_int_equal(bucket, 500);
    assert_int_equal(window_used(&w, 0), 7);
    assert_int_equal(window_used(&w, 6449), 7);
    assert_int_equal(window_used(&w, 6450), 0);
    assert_int_equal(window_room_at(&w, 100, 1, 100), 100);
    assert_int_equal(window_room_at(&w, 100, 9, 100), 6450);
    window_advance(&w, 1);
    assert_int_equal(window_used(&w, 5000), 7);
}

static void
test_give_back_of_what_has_passed(void **state)
{
    struct window w;
    uint64_t bucket;

    (void)state;
    window_init(&w, 10, 1440);
    bucket = window_spend(&w, 0, 4);
    /* same slot of the ring, 145 buckets on */
    window_spend(&w, 1450, 6);
    window_give_back(&w, bucket, 4);
    assert_int_equal(window_used(&w, 1450), 6);
    window_give_back(&w, 100000, 6); /* not yet */
    assert_int_equal(window_used(&w, 1450), 6);
}

static void
test_restore(void **state)
{
    struct window w;

    (void)state;
    window_init(&w, 10, 1440);
    window_restore(&w, 5000, 500, 1); /* now */
    window_restore(&w, 5000, 356, 2); /* the oldest alive */
    window_restore(&w, 5000, 355, 4); /* too old */
    window_restore(&w, 5000, 0, 4);
    assert_int_equal(window_used(&w, 5000), 3);
    assert_int_equal(window_used(&w, 5010), 1);
    window_restore(&w, 5000, 1ull << 40, 5); /* the future counts from now */
    assert_int_equal(window_used(&w, 5000), 8);
    assert_int_equal(window_used(&w, 6450), 0);
}

static void
test_unused_window(void **state)
{
    struct window w;

    (void)state;
    memset(&w, 0, sizeof(w));
    assert_false(window_fits(&w, UNIX_MS, 1, 100));
    assert_true(window_room_at(&w, UNIX_MS, 1, 100) == WINDOW_NEVER);
    assert_int_equal(window_spend(&w, UNIX_MS, 3), 0);
    assert_int_equal(window_used(&w, UNIX_MS * 2), 3);
    assert_true(window_room_at(&w, UNIX_MS, 0, 100) == WINDOW_NEVER);
}

/* At 0 and 100 ms of a window of 1440, 3 and 4 of 20 were spent. */
static void
test_ceiling(void **state)
{
    static const struct {
        uint64_t max, until_ms, now_ms, n;
        unsigned percent;
        uint64_t at_ms; /* now_ms = it fits */
    } rows[] = {
        {0, 0, 200, 13, 100, 200}, /* none */
        {0, 0, 200, 14, 100, 1450},
        {7, 5000, 200, 1, 100, 1450}, /* the oldest bucket ages */
        {7, 5000, 200, 4, 100, 1550},
        {7, 5000, 200, 7, 100, 1550},
        {7, 5000, 200, 8, 100, 5000}, /* over it: later, never "never" */
        {7, 5000, 200, 20, 100, 5000},
        {7, 5000, 200, 21, 100, WINDOW_NEVER},
        {7, 1000, 200, 1, 100, 1000}, /* it ends before anything ages */
        {7, 1000, 200, 14, 100, 1450},
        {7, 1450, 200, 1, 100, 1450},  /* both at once */
        {7, 1500, 200, 16, 100, 1500}, /* room under the limit came earlier */
        {7, 1450, 1449, 1, 100, 1450},
        {7, 1450, 1450, 1, 100, 1450}, /* the end is exclusive */
        {7, 200, 200, 13, 100, 200},
        {9, 5000, 200, 2, 100, 200}, /* room is left under it */
        {0, 5000, 200, 1, 100, 5000},
        {0, 5000, 200, 0, 100, 1550},  /* what is over must age even for 0 */
        {30, 5000, 200, 13, 100, 200}, /* higher than the limit: no matter */
        {30, 5000, 200, 14, 100, 1450},
        {10, 5000, 200, 1, 80, 200}, /* a share is one of what holds */
        {10, 5000, 200, 2, 80, 1450},
        {10, 5000, 200, 9, 80, 5000},
        {10, 5000, 200, 16, 80, 5000},
        {10, 5000, 200, 17, 80, WINDOW_NEVER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct window w;
        uint64_t at_ms;

        window_init(&w, 20, 1440);
        window_spend(&w, 0, 3);
        window_spend(&w, 100, 4);
        window_set_ceiling(&w, rows[i].max, rows[i].until_ms);
        at_ms = window_room_at(&w, rows[i].now_ms, rows[i].n, rows[i].percent);
        if (at_ms != rows[i].at_ms)
            fail_msg("row %zu: room at %llu", i, (unsigned long long)at_ms);
        assert_int_equal(
            window_fits(&w, rows[i].now_ms, rows[i].n, rows[i].percent),
            at_ms == rows[i].now_ms);
        assert_int_equal(window_used(&w, 200), 7);
    }
}

static void
test_the_limit_that_holds(void **state)
{
    struct window w;

    (void)state;
    window_init(&w, 20, 1440);
    assert_int_equal(window_limit(&w, 0), 20);
    window_set_ceiling(&w, 7, 100);
    assert_int_equal(window_limit(&w, 99), 7);
    assert_int_equal(window_limit(&w, 100), 20);
    window_set_ceiling(&w, 21, 100);
    assert_int_equal(window_limit(&w, 99), 20);
    window_set_ceiling(&w, 7, 100);
    window_set_ceiling(&w, 7, 0);
    assert_int_equal(window_limit(&w, 99), 20);
    window_set_ceiling(&w, 7, 100);
    window_init(&w, 20, 1440);
    assert_int_equal(window_limit(&w, 99), 20);
}

static void
test_last_spend(void **state)
{
    struct window w;

    (void)state;
    window_init(&w, 10, 1440); /* buckets of 10 ms */
    assert_int_equal(window_spent_at(&w, 5000), 0);
    window_spend(&w, 5005, 1);
    assert_int_equal(window_spent_at(&w, 5005), 5000);
    window_spend(&w, 5123, 9);
    assert_int_equal(window_spent_at(&w, 5200), 5120);
    window_advance(&w, 5300); /* empty buckets are none */
    assert_int_equal(window_spent_at(&w, 5300), 5120);
    assert_int_equal(window_spent_at(&w, 5120 + 1440), 5120);
    assert_int_equal(window_spent_at(&w, 5120 + 1450), 0); /* passed out */
    assert_int_equal(window_spent_at(&w, 1000000), 0);
}

static void
test_sums_do_not_wrap(void **state)
{
    struct window w;
    uint64_t bucket;

    (void)state;
    window_init(&w, UINT64_MAX, 1440);
    window_spend(&w, 0, UINT64_MAX - 1);
    bucket = window_spend(&w, 100, 5); /* only 1 is left */
    assert_true(window_used(&w, 100) == UINT64_MAX);
    window_give_back(&w, bucket, 5);
    assert_true(window_used(&w, 100) == UINT64_MAX - 1);
    assert_int_equal(window_used(&w, 1450), 0);
}

static void
test_repair(void **state)
{
    struct window w;

    (void)state;
    window_init(&w, 100, 1440);
    window_spend(&w, 0, 3);
    window_spend(&w, 100, 4);
    atomic_store(&w.used, 1); /* a writer died between two words */
    window_repair(&w);
    assert_int_equal(window_used(&w, 100), 7);
    assert_int_equal(window_used(&w, 1450), 4);
    atomic_store(&w.bucket[7], UINT64_MAX);
    window_repair(&w);
    window_advance(&w, 1000000);
    assert_int_equal(window_used(&w, 1000000), 0);
}

/* ---- the model ---- */

struct spend {
    uint64_t at_ms, bucket, n;
};

struct model {
    uint64_t limit, window_ms, newest_ms;
    uint64_t ceiling, until_ms; /* as in struct window */
    size_t n, oldest;           /* spends before `oldest` are over */
    struct spend *spend;
};

/* Late by so much at the most: a bucket, to the next whole ms. */
static uint64_t
grain(const struct model *m)
{
    return (m->window_ms + WINDOW_PARTS - 1) / WINDOW_PARTS;
}

/* Spent at t counts while t is less than `age` ms ago. */
static uint64_t
model_used(struct model *m, uint64_t now_ms, uint64_t age)
{
    uint64_t used = 0;

    if (now_ms < m->newest_ms)
        now_ms = m->newest_ms;
    for (size_t i = m->oldest; i < m->n; i++)
        if (now_ms - m->spend[i].at_ms < age)
            used += m->spend[i].n;
    return used;
}

/* What may have been spent at most, at that time. */
static uint64_t
model_max(const struct model *m, uint64_t now_ms, unsigned percent)
{
    bool low = now_ms < m->until_ms && m->ceiling < m->limit;

    return (low ? m->ceiling : m->limit) * percent / 100;
}

/* The window has been told this time. */
static void
model_see(struct model *m, uint64_t now_ms)
{
    if (now_ms > m->newest_ms)
        m->newest_ms = now_ms;
}

static void
model_forget(struct model *m)
{
    while (m->oldest < m->n &&
           m->newest_ms - m->spend[m->oldest].at_ms > 3 * m->window_ms + 1000)
        m->oldest++;
}

static uint64_t
random_u64(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15ull; /* splitmix64 */

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t
random_step(uint64_t *seed, uint64_t window_ms)
{
    switch (random_u64(seed) % 16) {
    case 0:
        return random_u64(seed) % (2 * window_ms + 1);
    case 1:
        return window_ms;
    case 2:
    case 3:
    case 4:
        return random_u64(seed) % (window_ms / 10 + 2);
    case 5:
    case 6:
    case 7:
        return random_u64(seed) % (window_ms / 144 + 2);
    default:
        return 0;
    }
}

/* used lies between what the exact window and the exact window plus one
 * bucket hold. */
static void
check_used(struct model *m, const struct window *w, uint64_t now_ms)
{
    uint64_t used = window_used(w, now_ms);

    assert_true(used >= model_used(m, now_ms, m->window_ms));
    assert_true(used <= model_used(m, now_ms, m->window_ms + grain(m)));
}

static void
check_room(struct model *m, const struct window *w, uint64_t now_ms, uint64_t n,
           unsigned percent)
{
    uint64_t at = window_room_at(w, now_ms, n, percent);
    uint64_t max;

    if (n > m->limit * percent / 100) {
        assert_true(at == WINDOW_NEVER);
        return;
    }
    max = model_max(m, at, percent);
    assert_true(window_fits(w, at, n, percent));
    if (window_fits(w, now_ms, n, percent)) {
        assert_true(at == now_ms);
        return;
    }
    assert_true(at > now_ms);
    assert_false(window_fits(w, at - 1, n, percent));
    /* and by the model: not before it is right, at most a bucket late */
    assert_true(model_used(m, at, m->window_ms) + n <= max);
    if (at > m->newest_ms + grain(m))
        assert_true(model_used(m, at - 1 - grain(m), m->window_ms) + n >
                    model_max(m, at - 1 - grain(m), percent));
}

static void
step(struct model *m, struct window *w, uint64_t *now_ms, uint64_t *seed)
{
    static const unsigned percents[] = {100, 100, 100, 80, 50, 1};
    unsigned percent = percents[random_u64(seed) % 6];
    uint64_t n = random_u64(seed) % (m->limit / 4 + 2);
    uint64_t at = *now_ms += random_step(seed, m->window_ms);
    bool fit;

    if (random_u64(seed) % 32 == 0) /* a clock that went back */
        at -= random_u64(seed) % m->window_ms;
    if (random_u64(seed) % 4 == 0) {
        window_advance(w, at);
        model_see(m, at);
    }
    if (m->n > m->oldest && random_u64(seed) % 8 == 0) {
        struct spend *s =
            &m->spend[m->oldest + random_u64(seed) % (m->n - m->oldest)];
        uint64_t back = random_u64(seed) % (s->n + 1);
        bool alive = window_bucket_of(m->window_ms, m->newest_ms) <=
                     s->bucket + WINDOW_PARTS;

        /* Passed out: gone for the window, so that nothing changes; what
         * was let through stays let through. */
        window_give_back(w, s->bucket, back);
        if (alive)
            s->n -= back;
    }
    if (random_u64(seed) % 64 == 0) {
        /* Gmail says that it is full, or a person forgets it. */
        bool set = random_u64(seed) % 4 != 0;

        m->ceiling = window_used(w, at);
        m->until_ms = set ? at + m->window_ms : 0;
        window_set_ceiling(w, m->ceiling, m->until_ms);
    }
    fit = window_fits(w, at, n, percent);
    assert_true(!fit || n <= model_max(m, at, percent));
    if (!fit)
        assert_true(model_used(m, at, m->window_ms + grain(m)) + n >
                    model_max(m, at, percent));
    else
        assert_true(model_used(m, at, m->window_ms) + n <=
                    model_max(m, at, percent));
    check_used(m, w, at);
    check_used(m, w, at + random_step(seed, m->window_ms));
    check_room(m, w, at, n, percent);
    if (fit && n > 0) {
        uint64_t bucket = window_spend(w, at, n);

        model_see(m, at);
        assert_true(bucket == window_bucket_of(m->window_ms, m->newest_ms));
        m->spend[m->n++] = (struct spend){m->newest_ms, bucket, n};
    }
    model_forget(m);
}

/* Over the whole history: no span of length W holds more than the limit. */
static void
check_history(const struct model *m)
{
    uint64_t sum = 0;
    size_t first = 0;

    for (size_t i = 0; i < m->n; i++) {
        sum += m->spend[i].n;
        while (m->spend[i].at_ms - m->spend[first].at_ms >= m->window_ms)
            sum -= m->spend[first++].n;
        assert_true(sum <= m->limit);
    }
}

static void
test_against_the_model(void **state)
{
    static const uint64_t windows[] = {1,        2,      143,          144,
                                       145,      7000,   61000,        600000,
                                       86399999, DAY_MS, WINDOW_MS_MAX};
    static const uint64_t limits[] = {1, 7, 100, 2000, 300000000};
    enum { STEPS = 12000 };
    uint64_t seed = 1;

    (void)state;
    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++)
        for (size_t j = 0; j < sizeof(limits) / sizeof(limits[0]); j++) {
            struct model m = {.limit = limits[j], .window_ms = windows[i]};
            struct window w;
            uint64_t now_ms = UNIX_MS + random_u64(&seed) % DAY_MS;

            m.spend = calloc(STEPS, sizeof(*m.spend));
            assert_non_null(m.spend);
            window_init(&w, m.limit, m.window_ms);
            for (int k = 0; k < STEPS; k++)
                step(&m, &w, &now_ms, &seed);
            check_history(&m);
            assert_true(m.n > 100);
            free(m.spend);
        }
}

/* What the ledger kept rebuilds the same window. */
static void
test_restore_is_the_same(void **state)
{
    static const uint64_t windows[] = {1, 7000, 61000, DAY_MS};
    uint64_t seed = 2;

    (void)state;
    for (int round = 0; round < 400; round++) {
        uint64_t window_ms = windows[round % 4], now_ms = UNIX_MS;
        struct spend spend[200];
        struct window a, b;

        window_init(&a, 1000000, window_ms);
        window_init(&b, 1000000, window_ms);
        for (int i = 0; i < 200; i++) {
            now_ms += random_u64(&seed) % (window_ms / 50 + 2);
            spend[i].n = random_u64(&seed) % 1000;
            spend[i].bucket = window_spend(&a, now_ms, spend[i].n);
        }
        for (int i = 0; i < 200; i++) {
            struct spend s = spend[(i * 7 + round) % 200];

            window_restore(&b, now_ms, s.bucket, s.n);
        }
        assert_memory_equal(&a, &b, sizeof(a));
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket_numbers),
        cmocka_unit_test(test_share_of_a_limit),
        cmocka_unit_test(test_a_day),
        cmocka_unit_test(test_spends_past_the_limit),
        cmocka_unit_test(test_time_that_goes_back),
        cmocka_unit_test(test_give_back_of_what_has_passed),
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_unused_window),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_the_limit_that_holds),
        cmocka_unit_test(test_last_spend),
        cmocka_unit_test(test_sums_do_not_wrap),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_against_the_model),
        cmocka_unit_test(test_restore_is_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
