/* tests/unit/state/test_unique.c - the set of recipients of one account.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "milter/state/unique.h"

static struct unique_cap cap;
static struct unique *set;

static int
set_up(void **state)
{
    (void)state;
    atomic_store(&cap.max, 1000000);
    atomic_store(&cap.used, 0);
    set = NULL;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    unique_free(set, &cap);
    assert_int_equal(cap.used, 0);
    return 0;
}

/* 0 = not known. */
static uint64_t
latest(uint64_t recipient)
{
    uint64_t ms;

    return unique_latest(set, recipient, &ms) ? ms : 0;
}

static void
what_is_undone_never_was(void **state)
{
    (void)state;
    assert_int_equal(latest(7), 0);
    assert_false(unique_undo(set, &cap, 7, 10));
    assert_true(unique_begin(&set, &cap, 7, false, 10));
    assert_true(unique_begin(&set, &cap, 7, false, 20));
    assert_int_equal(latest(7), 20);
    assert_int_equal(latest(7 + 16), 0); /* of the same chain */
    assert_false(unique_undo(set, &cap, 7, 15));
    assert_true(unique_undo(set, &cap, 7, 20));
    assert_int_equal(latest(7), 10);
    assert_true(unique_undo(set, &cap, 7, 10));
    assert_int_equal(latest(7), 0);
    assert_int_equal(cap.used, 0);
}

static void
two_of_one_moment_are_two(void **state)
{
    (void)state;
    assert_true(unique_begin(&set, &cap, 7, false, 10));
    assert_true(unique_begin(&set, &cap, 7, false, 10));
    assert_true(unique_undo(set, &cap, 7, 10));
    assert_int_equal(latest(7), 10);
    assert_true(unique_settle(set, &cap, 7, 10, 30));
    assert_false(unique_undo(set, &cap, 7, 10));
    assert_false(unique_settle(set, &cap, 7, 30, 40)); /* it is for good */
    assert_int_equal(latest(7), 30);
}

static void
settled_ones_become_one(void **state)
{
    (void)state;
    for (uint64_t at = 100; at > 0; at--) {
        assert_true(unique_begin(&set, &cap, 7, true, at));
        assert_true(unique_settle(set, &cap, 7, at, at + 1));
    }
    assert_int_equal(latest(7), 101); /* not the last that was settled */
    assert_int_equal(cap.used, 1);
    assert_true(unique_add(&set, &cap, 7, true, 50));
    assert_int_equal(latest(7), 101);
    assert_true(unique_add(&set, &cap, 7, true, 150));
    assert_int_equal(latest(7), 150);
    assert_int_equal(cap.used, 1);
}

static void
the_cap_is_for_new_ones(void **state)
{
    struct unique *other = NULL;

    (void)state;
    atomic_store(&cap.max, 3);
    assert_true(unique_begin(&set, &cap, 1, false, 10));
    assert_true(unique_add(&other, &cap, 1, false, 10));
    assert_true(unique_begin(&set, &cap, 2, false, 10));
    assert_false(unique_begin(&set, &cap, 3, false, 10));
    assert_false(unique_add(&other, &cap, 3, false, 10));
    assert_int_equal(latest(3), 0);
    assert_int_equal(cap.used, 3);
    assert_true(unique_begin(&set, &cap, 2, false, 20)); /* it is known */
    assert_int_equal(cap.used, 4);
    assert_true(unique_undo(set, &cap, 2, 20));
    assert_true(unique_undo(set, &cap, 2, 10));
    assert_true(unique_begin(&set, &cap, 3, false, 30));
    unique_free(other, &cap);
    assert_int_equal(cap.used, 2);
}

static void
sweeping_forgets_the_old(void **state)
{
    (void)state;
    for (uint64_t r = 1; r <= 1000; r++)
        assert_true(unique_add(&set, &cap, r, false, r));
    assert_true(unique_begin(&set, &cap, 1, false, 1)); /* under way */
    assert_true(unique_begin(&set, &cap, 5000, false, 2));
    unique_sweep(&set, &cap, 991);
    assert_int_equal(cap.used, 12);
    assert_int_equal(latest(990), 0);
    assert_int_equal(latest(991), 991);
    assert_int_equal(latest(1), 1);
    assert_true(unique_settle(set, &cap, 1, 1, 3));
    assert_true(unique_settle(set, &cap, 5000, 2, 2000));
    for (uint64_t r = 1; r <= 100; r++) /* it is smaller, and sound */
        assert_true(unique_add(&set, &cap, r, false, 3000));
    unique_sweep(&set, &cap, 2001);
    assert_int_equal(cap.used, 100);
    unique_sweep(&set, &cap, 3001);
    assert_null(set);
}

struct seen {
    unsigned n, external;
    uint64_t sum;
};

static void
count(void *cookie, uint64_t recipient, bool external, uint64_t latest_ms)
{
    struct seen *s = cookie;

    assert_int_equal(latest(recipient), latest_ms);
    s->n++;
    s->external += external;
    s->sum += latest_ms;
}

static void
each_is_told_once(void **state)
{
    struct seen s = {0};

    (void)state;
    unique_each(set, count, &s);
    assert_int_equal(s.n, 0);
    for (uint64_t r = 1; r <= 100; r++) {
        assert_true(unique_add(&set, &cap, r, r % 2 == 0, 10));
        assert_true(unique_begin(&set, &cap, r, r % 2 == 0, 20));
        assert_true(unique_begin(&set, &cap, r, r % 2 == 0, 5));
    }
    unique_each(set, count, &s);
    assert_int_equal(s.n, 100);
    assert_int_equal(s.external, 50);
    assert_int_equal(s.sum, 2000);
}

static void
many_are_found_again(void **state)
{
    enum { N = 200000 };

    (void)state;
    assert_true(unique_reserve(&set, 5));
    for (uint64_t r = 1; r <= N; r++)
        assert_true(
            unique_begin(&set, &cap, r * 0x9e3779b97f4a7c15u, false, r));
    for (uint64_t r = 1; r <= N; r++)
        assert_int_equal(latest(r * 0x9e3779b97f4a7c15u), r);
    for (uint64_t r = 1; r <= N; r++)
        assert_true(unique_undo(set, &cap, r * 0x9e3779b97f4a7c15u, r));
    assert_int_equal(cap.used, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_undone_never_was), TEST(two_of_one_moment_are_two),
        TEST(settled_ones_become_one),  TEST(the_cap_is_for_new_ones),
        TEST(sweeping_forgets_the_old), TEST(each_is_told_once),
        TEST(many_are_found_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
