/* tests/unit/base/test_parallel.c - mirrors milter/base/parallel.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "milter/base/parallel.h"

struct seen {
    atomic_uint calls[PARALLEL_MAX];
    atomic_bool wrong;
    unsigned of;
    pthread_barrier_t *meet; /* NULL: nobody waits for the others */
};

static void
see(void *cookie, unsigned i, unsigned of)
{
    struct seen *s = cookie;

    if (of != s->of || i >= of)
        s->wrong = true;
    else
        atomic_fetch_add(&s->calls[i], 1);
    if (s->meet != NULL)
        pthread_barrier_wait(s->meet);
}

static void
each_part_is_done_once(void **state)
{
    (void)state;
    for (unsigned of = 1; of <= PARALLEL_MAX; of++) {
        struct seen s = {.of = of};

        parallel(of, see, &s);
        assert_false(s.wrong);
        for (unsigned i = 0; i < PARALLEL_MAX; i++)
            assert_int_equal(s.calls[i], i < of);
    }
}

/* Else they would wait for each other for ever. */
static void
parts_run_side_by_side(void **state)
{
    pthread_barrier_t meet;
    struct seen s = {.of = PARALLEL_MAX, .meet = &meet};

    (void)state;
    assert_int_equal(pthread_barrier_init(&meet, NULL, PARALLEL_MAX), 0);
    parallel(PARALLEL_MAX, see, &s);
    pthread_barrier_destroy(&meet);
}

static void
as_many_as_processors_within_reason(void **state)
{
    (void)state;
    assert_in_range(parallel_parts(), 1, PARALLEL_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_is_done_once),
        cmocka_unit_test(parts_run_side_by_side),
        cmocka_unit_test(as_many_as_processors_within_reason),
    };

    return cmocka_run_group_tests_name("base/parallel", tests, NULL, NULL);
}
