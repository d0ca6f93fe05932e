/* tests/unit/base/test_buf.c - mirrors milter/base/buf.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/base/buf.h"

static void
assert_holds(const struct buf *b, const char *want)
{
    assert_int_equal(b->len, strlen(want));
    assert_memory_equal(b->at, want, b->len);
}

static void
grows_to_its_maximum_and_not_past_it(void **state)
{
    enum { MAX = 1000 };
    struct buf b;

    (void)state;
    buf_init(&b, MAX);
    for (unsigned i = 0; i < MAX; i++)
        assert_true(buf_add(&b, &"0123456789"[i % 10], 1));
    assert_int_equal(b.len, MAX);
    for (unsigned i = 0; i < MAX; i++)
        assert_int_equal(b.at[i], '0' + (int)(i % 10));
    assert_true(b.room <= MAX + 1);

    assert_true(buf_add(&b, "", 0));
    assert_false(buf_failed(&b));
    assert_false(buf_add(&b, "x", 1));
    assert_true(buf_failed(&b));
    assert_int_equal(b.len, MAX);
    buf_free(&b);
}

static void
a_failure_is_sticky_until_cleared(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 5);
    assert_true(buf_add_text(&b, "abc"));
    assert_false(buf_add_text(&b, "def"));
    assert_false(buf_add_text(&b, "d"));
    assert_false(buf_printf(&b, "%d", 1));
    assert_false(buf_reserve(&b, 0));
    assert_holds(&b, "abc");

    buf_clear(&b);
    assert_false(buf_failed(&b));
    assert_true(buf_add_text(&b, "defgh"));
    assert_holds(&b, "defgh");
    buf_free(&b);
}

static void
absurd_sizes_fail(void **state)
{
    static const size_t maxima[] = {0, 10, SIZE_MAX - 1, SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof maxima / sizeof *maxima; i++) {
        struct buf b;

        buf_init(&b, maxima[i]);
        assert_false(buf_reserve(&b, SIZE_MAX));
        assert_true(buf_failed(&b));
        buf_clear(&b);
        if (maxima[i] >= 3) {
            assert_true(buf_add_text(&b, "abc"));
            assert_false(buf_reserve(&b, SIZE_MAX - 3));
            assert_holds(&b, "abc");
        }
        buf_free(&b);
    }
}

static void
printf_fits_exactly(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    assert_true(buf_printf(&b, "%s=%d", "abc", 12));
    assert_true(buf_printf(&b, "%s", "wxyz"));
    assert_holds(&b, "abc=12wxyz");
    assert_false(buf_printf(&b, "%c", '!'));
    assert_holds(&b, "abc=12wxyz");
    buf_free(&b);
}

static void
printf_grows_from_any_room(void **state)
{
    char text[700];

    (void)state;
    memset(text, 'q', sizeof text);
    for (int n = 0; n < 700; n++) {
        struct buf b;

        buf_init(&b, 2000);
        assert_true(buf_printf(&b, "<%.*s>", n, text));
        assert_int_equal(b.len, n + 2);
        assert_int_equal(b.at[n + 1], '>');
        buf_free(&b);
    }
}

static void
eats_from_the_front(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    buf_eat(&b, 5);
    assert_int_equal(b.len, 0);
    assert_true(buf_add_text(&b, "250 ok\r\n354 go\r\n"));
    buf_eat(&b, 0);
    assert_int_equal(b.len, 16);
    buf_eat(&b, 8);
    assert_holds(&b, "354 go\r\n");
    buf_eat(&b, 9);
    assert_int_equal(b.len, 0);
    assert_true(buf_add_text(&b, "x"));
    assert_holds(&b, "x");
    buf_free(&b);
}

static void
reserved_room_can_be_written(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 200000);
    for (unsigned i = 0; i < 20; i++) {
        assert_true(buf_reserve(&b, 10000));
        memset(b.at + b.len, 'a' + (int)i, 10000);
        b.len += 10000;
    }
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(b.at[i * 10000 + 5000], 'a' + (int)i);
    assert_false(buf_reserve(&b, 1));
    buf_free(&b);
}

static void
takes_all_zero_and_twice_freed(void **state)
{
    struct buf zero = {0}, b;

    (void)state;
    buf_free(&zero);
    buf_wipe_free(&zero);
    assert_int_equal(buf_slice(&zero).len, 0);

    buf_init(&b, 10);
    assert_true(buf_add_text(&b, "secret"));
    buf_wipe_free(&b);
    assert_null(b.at);
    assert_int_equal(b.max, 10);
    buf_free(&b);
    assert_true(buf_add_text(&b, "again"));
    assert_holds(&b, "again");
    buf_free(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_to_its_maximum_and_not_past_it),
        cmocka_unit_test(a_failure_is_sticky_until_cleared),
        cmocka_unit_test(absurd_sizes_fail),
        cmocka_unit_test(printf_fits_exactly),
        cmocka_unit_test(printf_grows_from_any_room),
        cmocka_unit_test(eats_from_the_front),
        cmocka_unit_test(reserved_room_can_be_written),
        cmocka_unit_test(takes_all_zero_and_twice_freed),
    };

    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
