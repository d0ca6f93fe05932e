/* tests/unit/policy/test_idn.c - mirrors policy/idn.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/idn.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

#define MUENCHEN   "m\303\274nchen"
#define MUENCHEN_A "xn--mnchen-3ya"

/* want NULL: it stays as it is. */
static const struct row {
    const char *name, *in, *want;
} domains[] = {
    {"ASCII", "example.com", NULL},
    {"nothing", "", NULL},
    {"an A-label", MUENCHEN_A ".example", NULL},
    {"a U-label", MUENCHEN ".example", MUENCHEN_A ".example"},
    {"upper case", "M\303\234NCHEN.Example", MUENCHEN_A ".example"},
    {"not composed", "mu\314\210nchen.example", MUENCHEN_A ".example"},
    {"any subdomain", "." MUENCHEN ".example", "." MUENCHEN_A ".example"},
    {"sharp s is a letter of its own", "stra\303\237e.example",
     "xn--strae-oqa.example"},
    {"ideographic full stop", MUENCHEN "\343\200\202example",
     MUENCHEN_A ".example"},
    {"underscore", "_x." MUENCHEN ".example", "_x." MUENCHEN_A ".example"},
    {"globs", "*." MUENCHEN ".ex?mple", "*." MUENCHEN_A ".ex?mple"},
    {"globs, any subdomain", "." MUENCHEN ".*", "." MUENCHEN_A ".*"},
    {"a glob in the label", "m\303\274*.example", "m\303\274*.example"},
    {"hyphen first", "-" MUENCHEN ".example", NULL},
    {"hyphen first, with a glob", "*.-" MUENCHEN, NULL},
    {"not UTF-8", "m\374nchen.example", NULL},
    {"a space", MUENCHEN " x.example", NULL},
    {"a full-width @", "x\357\274\240example.com", NULL},
    {"a full-width *", "\357\274\212.example.com", NULL},
    {"a full-width dot before", "\357\274\216example.com", NULL},
    {"a sign that is a/c", "\342\204\200.example.com", NULL},
    {"only a dot before", ".\303\274", ".xn--tda"},
};

static const struct row addresses[] = {
    {"ASCII", "a@example.com", NULL},
    {"no domain", MUENCHEN, NULL},
    {"nothing behind it", MUENCHEN "@", NULL},
    {"the local part stays", MUENCHEN "@" MUENCHEN ".example",
     MUENCHEN "@" MUENCHEN_A ".example"},
    {"the last @", "a@b@" MUENCHEN, "a@b@" MUENCHEN_A},
    {"any of a domain", "*@" MUENCHEN ".example", "*@" MUENCHEN_A ".example"},
    {"only the local part", MUENCHEN "@example.com", NULL},
};

typedef enum idn_result converter(struct slice in, char *ret, size_t ret_size,
                                  size_t *ret_len);

static void
check(converter *convert, const struct row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char got[300] = "untouched";
        size_t len = 4711;
        enum idn_result r = convert(slice_of(row[i].in), got, sizeof got, &len);

        print_message("  %s\n", row[i].name);
        assert_int_equal(r, row[i].want != NULL ? IDN_OK : IDN_SAME);
        assert_string_equal(got,
                            row[i].want != NULL ? row[i].want : "untouched");
        assert_int_equal(len, row[i].want != NULL ? strlen(row[i].want) : 4711);
    }
}

static void
each_domain(void **state)
{
    (void)state;
    check(idn_domain, domains, LENGTH(domains));
}

static void
each_address(void **state)
{
    (void)state;
    check(idn_address, addresses, LENGTH(addresses));
}

/* With each octet less there is either room or nothing is written. */
static void
room_for_each_octet(void **state)
{
    static const char want[] = "a@" MUENCHEN_A ".example";

    (void)state;
    for (size_t size = 0; size <= sizeof want + 2; size++) {
        char *got = malloc(size + 1);
        size_t len = 4711;
        enum idn_result r =
            idn_address(slice_of("a@" MUENCHEN ".example"), got, size, &len);

        assert_int_equal(r, size >= sizeof want ? IDN_OK : IDN_SAME);
        if (r == IDN_OK)
            assert_string_equal(got, want);
        free(got);
    }
}

static void
in_its_own_place(void **state)
{
    char room[100] = "ann@" MUENCHEN;
    size_t len;

    (void)state;
    assert_int_equal(idn_address(slice_of(room), room, sizeof room, &len),
                     IDN_OK);
    assert_string_equal(room, "ann@" MUENCHEN_A);
    assert_int_equal(len, strlen(room));
}

static void
long_ones_stay(void **state)
{
    char *text = malloc(100000);
    char got[300];
    size_t len;

    (void)state;
    for (size_t n = 2; n <= 100000; n = n * 5) {
        for (size_t i = 0; i + 1 < n; i += 2)
            memcpy(text + i, "\303\274", 2);
        assert_int_equal(
            idn_domain((struct slice){text, n / 2 * 2}, got, sizeof got, &len),
            n < 100 ? IDN_OK : IDN_SAME);
    }
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_domain),
        cmocka_unit_test(each_address),
        cmocka_unit_test(room_for_each_octet),
        cmocka_unit_test(in_its_own_place),
        cmocka_unit_test(long_ones_stay),
    };

    return cmocka_run_group_tests_name("policy/idn", tests, NULL, NULL);
}
