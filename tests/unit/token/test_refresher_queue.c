/* tests/unit/token/test_refresher_queue.c - mirrors
 * milter/token/refresher_queue.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/refresher_queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { N = 1000 };

static uint32_t seed = 1;

static uint32_t
random_below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static void
the_most_urgent_comes_first(void **state)
{
    struct queued e[] = {
        {.ends_s = 300, .due_ms = 1}, {.ends_s = 200, .due_ms = 2},
        {.ends_s = 200, .due_ms = 1}, {.ends_s = 0, .due_ms = 9},
        {.ends_s = 900, .due_ms = 1},
    };
    static const unsigned order[] = {4, 3, 2, 1, 0};
    struct queue q = {0};

    (void)state;
    assert_null(queue_take(&q));
    queue_hurry(&q, &e[4]); /* before it is due */
    for (unsigned i = 0; i < 5; i++)
        assert_true(queue_put(&q, &e[i]));
    for (unsigned i = 0; i < 5; i++)
        assert_ptr_equal(queue_take(&q), &e[order[i]]);
    assert_null(queue_take(&q));
    queue_free(&q);
}

/* Puts, takes and hurries at random against the rule itself. */
static void
order_holds_whatever_happens(void **state)
{
    static struct queued e[N];
    struct queue q = {0};
    size_t inside = 0;

    (void)state;
    for (unsigned step = 0; step < 20000; step++) {
        struct queued *x = &e[random_below(N)];

        if (x->place == 0 && random_below(3) > 0) {
            x->awaited = false;
            x->ends_s = random_below(50);
            x->due_ms = random_below(1000);
            assert_true(queue_put(&q, x));
            inside++;
        } else if (x->place != 0 && random_below(4) == 0) {
            queue_hurry(&q, x);
        } else if (inside > 0) {
            const struct queued *first = queue_take(&q);

            assert_int_equal(first->place, 0);
            inside--;
            for (size_t i = 0; i < q.n; i++) {
                const struct queued *other = q.at[i];

                assert_int_equal(other->place, i + 1);
                assert_true(first->awaited || !other->awaited);
                if (first->awaited == other->awaited)
                    assert_true(first->ends_s < other->ends_s ||
                                (first->ends_s == other->ends_s &&
                                 first->due_ms <= other->due_ms));
            }
        }
        assert_int_equal(q.n, inside);
    }
    queue_free(&q);
    assert_int_equal(q.n, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_urgent_comes_first),
        cmocka_unit_test(order_holds_whatever_happens),
    };

    return cmocka_run_group_tests_name("token/refresher_queue", tests, NULL,
                                       NULL);
}
