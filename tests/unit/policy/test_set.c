/* tests/unit/policy/test_set.c - mirrors policy/set.c, table.c and arena.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/arena.h"
#include "policy/set.h"
#include "policy/table.h"

static void
empty_set(void **state)
{
    struct arena *a = arena_new();
    struct string_set *s = string_set_new(a, NULL, 0);

    (void)state;
    assert_int_equal(string_set_count(s), 0);
    assert_false(string_set_has(s, SLICE_LIT("")));
    assert_false(string_set_has(s, SLICE_LIT("x")));
    arena_free(a);
}

static void
case_and_duplicates(void **state)
{
    static const struct slice entry[] = {
        {"Ann@X", 5}, {"ann@x", 5}, {"", 0}, {"b", 1}, {"a\0c", 3}};
    struct arena *a = arena_new();
    struct string_set *s = string_set_new(a, entry, 5);

    (void)state;
    assert_int_equal(string_set_count(s), 4);
    assert_true(string_set_has(s, SLICE_LIT("ANN@x")));
    assert_true(string_set_has(s, SLICE_LIT("")));
    assert_true(string_set_has(s, (struct slice){"A\0C", 3}));
    assert_false(string_set_has(s, SLICE_LIT("a")));
    assert_false(string_set_has(s, SLICE_LIT("ann@")));
    assert_false(string_set_has(s, SLICE_LIT("ann@xy")));
    arena_free(a);
}

/* All that is in it, nothing that is not, at many sizes. */
static void
holds_what_it_was_given(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 40000; n = n * 3 + 1) {
        struct arena *a = arena_new();
        struct slice *entry = calloc(n, sizeof *entry);
        struct string_set *s;
        char text[32];

        for (unsigned i = 0; i < n; i++)
            entry[i] = slice_of(arena_printf(a, "User%u@example.com", i));
        s = string_set_new(a, entry, n);
        free(entry); /* the set has copies */
        assert_int_equal(string_set_count(s), n);
        for (unsigned i = 0; i < 2 * n; i++) {
            snprintf(text, sizeof text, "uSER%u@example.com", i);
            assert_int_equal(string_set_has(s, slice_of(text)), i < n);
        }
        arena_free(a);
    }
}

/* Where the length takes one octet more, and where a set is one long text. */
static void
entries_of_any_length(void **state)
{
    enum { LONGEST = 20000 };
    static const size_t length[] = {0,   1,     126,   127,    128,
                                    129, 16383, 16384, LONGEST};
    struct slice entry[sizeof length / sizeof *length];
    static char text[LONGEST + 1];

    (void)state;
    memset(text, 'A', sizeof text);
    for (size_t n = 0; n <= sizeof length / sizeof *length; n++) {
        struct arena *a = arena_new();
        struct string_set *s;

        for (size_t i = 0; i < n; i++)
            entry[i] = (struct slice){text, length[i]};
        s = string_set_new(a, entry, n);
        assert_int_equal(string_set_count(s), n);
        for (size_t i = 0; i < sizeof length / sizeof *length; i++)
            assert_int_equal(string_set_has(s, (struct slice){text, length[i]}),
                             i < n);
        assert_false(string_set_has(s, (struct slice){text, 2}));
        assert_false(string_set_has(s, (struct slice){text, 125}));
        assert_false(string_set_has(s, (struct slice){text, 16382}));
        assert_false(string_set_has(s, (struct slice){text, LONGEST - 1}));
        arena_free(a);
    }
}

static void
too_much_text_is_out_of_memory(void **state)
{
    struct arena *a = arena_new();
    struct slice huge[] = {{"", SIZE_MAX}, {"", 1}};

    (void)state;
    assert_null(string_set_new(a, huge, 2));
    assert_null(string_set_room(a, 1, (size_t)1 << 32));
    assert_null(string_set_room(a, (size_t)1 << 31, 1));
    arena_free(a);
}

static void
table_keeps_the_first(void **state)
{
    struct arena *a = arena_new();
    struct table *t = table_new(a);
    int x, y;
    void *old = &x;

    (void)state;
    assert_true(table_add(t, SLICE_LIT("k"), &x, &old));
    assert_null(old);
    assert_true(table_add(t, SLICE_LIT("k"), &y, &old));
    assert_ptr_equal(old, &x);
    assert_ptr_equal(table_get(t, SLICE_LIT("k")), &x);
    assert_null(table_get(t, SLICE_LIT("K"))); /* with case */
    assert_true(table_put(t, SLICE_LIT("k"), &y));
    assert_ptr_equal(table_get(t, SLICE_LIT("k")), &y);
    arena_free(a);
}

static void
count_one(struct slice key, void *value, void *cookie)
{
    assert_true(slice_eq(key, slice_of(value)));
    ++*(unsigned *)cookie;
}

static void
table_grows(void **state)
{
    enum { N = 20000 };
    struct arena *a = arena_new();
    struct table *t = table_new(a);
    unsigned n = 0;
    char text[16];
    void *old;

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        char *key = arena_printf(a, "%u", i);

        assert_true(table_add(t, slice_of(key), key, &old));
        assert_null(old);
    }
    for (unsigned i = 0; i < 2 * N; i++) {
        snprintf(text, sizeof text, "%u", i);
        assert_int_equal(table_get(t, slice_of(text)) != NULL, i < N);
    }
    table_each(t, count_one, &n);
    assert_int_equal(n, N);
    arena_free(a);
}

/* ---- the arena under them ---- */

static void
memory_is_zeroed_aligned_and_apart(void **state)
{
    struct arena *a = arena_new();
    unsigned char *last = NULL;

    (void)state;
    for (size_t i = 0; i < 3000; i++) {
        size_t n = i * 37 % 5000;
        unsigned char *at = arena_alloc(a, n, 1);

        assert_int_equal((uintptr_t)at % _Alignof(max_align_t), 0);
        assert_ptr_not_equal(at, last);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(at[k], 0);
        memset(at, 0xA5, n);
        last = at;
    }
    assert_true(arena_size(a) > 3000 * 2000);
    assert_true(arena_size(a) < 3000 * 4000); /* little is wasted */
    arena_free(a);
}

static char order[4];

static void
note(void *object)
{
    strcat(order, object);
}

static void
cleanups_run_newest_first(void **state)
{
    struct arena *a = arena_new();
    char one[] = "1", two[] = "2";

    (void)state;
    assert_true(arena_cleanup(a, note, one));
    assert_true(arena_cleanup(a, note, two));
    arena_free(a);
    assert_string_equal(order, "21");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_set),
        cmocka_unit_test(case_and_duplicates),
        cmocka_unit_test(holds_what_it_was_given),
        cmocka_unit_test(entries_of_any_length),
        cmocka_unit_test(too_much_text_is_out_of_memory),
        cmocka_unit_test(table_keeps_the_first),
        cmocka_unit_test(table_grows),
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(cleanups_run_newest_first),
    };

    return cmocka_run_group_tests_name("policy/set", tests, NULL, NULL);
}
