/* tests/unit/policy/test_pick.c - mirrors policy/pick.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "policy/pick.h"

enum { MEMBERS = 5, SENDERS = 100000 };

static unsigned
first_of(uint64_t seed, const unsigned *weight, unsigned n)
{
    unsigned first = 0;

    for (unsigned i = 1; i < n; i++)
        if (pick_draw(seed, 1000 + i, weight[i]) <
            pick_draw(seed, 1000 + first, weight[first]))
            first = i;
    return first;
}

static uint64_t
seed_of(unsigned sender)
{
    char name[40];

    snprintf(name, sizeof name, "sender%u@example.com", sender);
    return pick_seed(slice_of(name));
}

static void
shares_follow_the_weights(void **state)
{
    static const unsigned weights[][MEMBERS] = {{1, 1, 1, 1, 1},
                                                {1, 2, 3, 4, 10}};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        unsigned count[MEMBERS] = {0}, all = 0;

        for (unsigned i = 0; i < MEMBERS; i++)
            all += weights[k][i];
        for (unsigned i = 0; i < SENDERS; i++)
            count[first_of(seed_of(i), weights[k], MEMBERS)]++;
        for (unsigned i = 0; i < MEMBERS; i++) {
            unsigned want = SENDERS * weights[k][i] / all;

            assert_in_range(count[i], want - want / 20 - 100,
                            want + want / 20 + 100);
        }
    }
}

/* Who goes takes along its own senders only, and who comes takes its share
 * from all. */
static void
few_move_when_the_pool_changes(void **state)
{
    static const unsigned weight[MEMBERS] = {1, 1, 1, 1, 1};
    unsigned moved = 0;

    (void)state;
    for (unsigned i = 0; i < SENDERS; i++) {
        unsigned before = first_of(seed_of(i), weight, MEMBERS);
        unsigned after = first_of(seed_of(i), weight, MEMBERS - 1);

        if (before != MEMBERS - 1)
            assert_int_equal(after, before);
        moved += before != after;
    }
    assert_in_range(moved, SENDERS / MEMBERS * 95 / 100,
                    SENDERS / MEMBERS * 105 / 100);
}

/* The same on every host and in every version: senders keep their accounts
 * over an upgrade. */
static void
seeds_and_draws_are_for_ever(void **state)
{
    (void)state;
    assert_int_equal(pick_seed(slice_of("")), 0xcbf29ce484222325u);
    assert_int_equal(pick_seed(slice_of("a")), 0xaf63dc4c8601ec8cu);
    assert_int_equal(pick_seed(slice_of("Ann@Example.COM")),
                     pick_seed(slice_of("ann@example.com")));
    assert_true(pick_draw(1, 2, 3) == pick_draw(1, 2, 3));
    assert_true(pick_draw(0, 0, 1) > 0);
    assert_true(pick_draw(7, 9, 1) > pick_draw(7, 9, 1000));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_follow_the_weights),
        cmocka_unit_test(few_move_when_the_pool_changes),
        cmocka_unit_test(seeds_and_draws_are_for_ever),
    };

    return cmocka_run_group_tests_name("policy/pick", tests, NULL, NULL);
}
