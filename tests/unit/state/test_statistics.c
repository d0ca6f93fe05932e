/* tests/unit/state/test_statistics.c - mirrors milter/state/statistics.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "milter/state/statistics.h"

static void
times_fall_into_the_first_bound_that_holds_them(void **state)
{
    static const struct {
        uint64_t took;
        unsigned word;
    } rows[] = {
        {0, 0},
        {10, 0},
        {11, 1},
        {20, 1},
        {1000, 6},
        {1001, 7},
        {100000, LATENCY_BOUNDS - 1},
        {100001, LATENCY_BOUNDS},
        {(uint64_t)1 << 60, LATENCY_BOUNDS},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        _Atomic uint64_t word[LATENCY_WORDS] = {0};

        latency_count(word, rows[i].took);
        for (unsigned k = 0; k <= LATENCY_BOUNDS; k++)
            assert_int_equal(word[k], k == rows[i].word);
        assert_int_equal(word[LATENCY_BOUNDS + 1], rows[i].took);
    }
    for (unsigned i = 1; i < LATENCY_BOUNDS; i++)
        assert_true(latency_bound[i] > latency_bound[i - 1]);
}

static void
each_code_has_its_word(void **state)
{
    _Atomic uint64_t word[REPLY_CODES] = {0};

    (void)state;
    for (unsigned i = 0; i < REPLY_CODES; i++)
        reply_code_count(word, reply_codes[i]);
    for (unsigned i = 0; i < REPLY_CODES; i++)
        assert_int_equal(word[i], 1);
    reply_code_count(word, 0);
    reply_code_count(word, 599);
    assert_int_equal(reply_codes[REPLY_CODES - 2], 0);
    assert_int_equal(word[REPLY_CODES - 2], 2);
    assert_int_equal(word[REPLY_CODES - 1], 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_fall_into_the_first_bound_that_holds_them),
        cmocka_unit_test(each_code_has_its_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
