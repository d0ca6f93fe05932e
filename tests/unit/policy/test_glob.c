/* tests/unit/policy/test_glob.c - mirrors policy/glob.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/glob.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

static uint32_t seed = 4711;

static unsigned
random_below(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static const struct {
    const char *pattern, *value;
    bool want;
} globs[] = {
    {"", "", true},
    {"", "a", false},
    {"*", "", true},
    {"*", "abc", true},
    {"?", "", false},
    {"?", "a", true},
    {"a", "A", true},
    {"A*c", "aXXXC", true},
    {"a*c", "ab", false},
    {"*@example.com", "ann@example.com", true},
    {"*@example.com", "ann@example.com.evil", false},
    {"*.exe", "a.exe.txt", false},
    {"*a*b*", "xxaxxbxx", true},
    {"*a*b*", "xxbxxaxx", false},
    {"a**b", "ab", true},
    {"*?", "", false},
    {"*??", "a", false},
    {"*ab", "aab", true},
    {"*aab", "aaaab", true},
    {"?", "\xc3\xbc", true}, /* one character, two octets */
    {"??", "\xc3\xbc", false},
    {"*?x", "\xc3\xbcx", true},
    {"\xc3\xbc*",
     "\xc3\xbc"
     "b",
     true},
    {"?", "\xff", true},
    {"[a]", "a", false}, /* no classes: it is itself */
};

static void
globs_match(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(globs); i++) {
        print_message("  %s ~ %s\n", globs[i].pattern, globs[i].value);
        assert_int_equal(
            glob_matches(slice_of(globs[i].pattern), slice_of(globs[i].value)),
            globs[i].want);
    }
}

/* By the book, in time nobody would wait for with longer strings. */
static bool
slow_glob(const char *p, const char *v)
{
    if (*p == '\0')
        return *v == '\0';
    if (*p == '*')
        return slow_glob(p + 1, v) || (*v != '\0' && slow_glob(p, v + 1));
    return *v != '\0' && (*p == '?' || *p == *v) && slow_glob(p + 1, v + 1);
}

static void
random_string(char *to, unsigned max, const char *octets)
{
    unsigned n = random_below(max);

    for (unsigned i = 0; i < n; i++)
        to[i] = octets[random_below((unsigned)strlen(octets))];
    to[n] = '\0';
}

static void
globs_agree_with_the_book(void **state)
{
    unsigned yes = 0;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        char pattern[10], value[12];
        bool want;

        random_string(pattern, sizeof pattern, "ab*?");
        random_string(value, sizeof value, "ab");
        want = slow_glob(pattern, value);
        yes += want;
        assert_int_equal(glob_matches(slice_of(pattern), slice_of(value)),
                         want);
    }
    assert_in_range(yes, 10000, 190000);
}

static void
globs_do_not_explode(void **state)
{
    size_t size = 1 << 20;
    char *value = malloc(size);

    (void)state;
    assert_non_null(value);
    memset(value, 'a', size);
    assert_false(
        glob_matches(SLICE_LIT("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"),
                     (struct slice){value, size}));
    free(value);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_match),
        cmocka_unit_test(globs_agree_with_the_book),
        cmocka_unit_test(globs_do_not_explode),
    };

    return cmocka_run_group_tests_name("policy/glob", tests, NULL, NULL);
}
