/* tests/unit/policy/test_address.c - mirrors policy/address.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/address.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* local NULL = not an address; canonical NULL = has none. */
static const struct row {
    const char *name, *in, *local, *domain, *canonical;
    bool literal;
} rows[] = {
    {"plain", "Ann@Example.COM", "Ann", "Example.COM", "Ann@example.com", 0},
    {"brackets", "<a@b>", "a", "b", "a@b", 0},
    {"null sender", "", "", "", NULL, 0},
    {"null sender in brackets", "<>", "", "", NULL, 0},
    {"no domain", "postmaster", "postmaster", "", NULL, 0},
    {"trailing dot", "a@b.c.", "a", "b.c.", "a@b.c", 0},
    {"last @ counts", "a@b@c", "a@b", "c", "a@b@c", 0},
    {"literal", "a@[1.2.3.4]", "a", "[1.2.3.4]", "a@[1.2.3.4]", 1},
    {"IPv6 literal", "a@[IPv6:2001:DB8::1]", "a", "[IPv6:2001:DB8::1]",
     "a@[ipv6:2001:db8::1]", 1},
    {"quoted", "\"a b\"@c", "\"a b\"", "c", "a b@c", 0},
    {"quoted @", "\"a@b\"@c", "\"a@b\"", "c", "a@b@c", 0},
    {"quoted quote", "\"a\\\"b\"@c", "\"a\\\"b\"", "c", "a\"b@c", 0},
    {"needless backslash", "\"\\a\"@c", "\"\\a\"", "c", "a@c", 0},
    {"needless quotes", "\"ann\"@c", "\"ann\"", "c", "ann@c", 0},
    {"half quoted", "a.\"b c\"@d", "a.\"b c\"", "d", "a.b c@d", 0},
    {"route", "<@x,@y.z:a@b>", "a", "b", "a@b", 0},
    {"route with a literal", "@[IPv6:::1]:a@b", "a", "b", "a@b", 0},
    {"UTF-8", "\303\244@\303\266", "\303\244", "\303\266", "\303\244@\303\266",
     0},
    {"plus, percent, bang", "a+b%c!d@e", "a+b%c!d", "e", "a+b%c!d@e", 0},
    {"empty local part", "@b", NULL, NULL, NULL, 0},
    {"empty quotes", "\"\"@b", NULL, NULL, NULL, 0},
    {"empty quotes twice", "\"\"\"\"@b", NULL, NULL, NULL, 0},
    {"empty domain", "a@", NULL, NULL, NULL, 0},
    {"dot domain", "a@.b", NULL, NULL, NULL, 0},
    {"space", "a b@c", NULL, NULL, NULL, 0},
    {"space before", " a@c", NULL, NULL, NULL, 0},
    {"space in the domain", "a@b c", NULL, NULL, NULL, 0},
    {"control", "a\001@b", NULL, NULL, NULL, 0},
    {"line break in quotes", "\"a\n\"@b", NULL, NULL, NULL, 0},
    {"line break escaped", "\"a\\\n\"@b", NULL, NULL, NULL, 0},
    {"DEL", "a@b\177", NULL, NULL, NULL, 0},
    {"open quotes", "\"a@b", NULL, NULL, NULL, 0},
    {"backslash at the end", "\"a\\", NULL, NULL, NULL, 0},
    {"backslash outside quotes", "a\\b@c", NULL, NULL, NULL, 0},
    {"open bracket", "<a@b", NULL, NULL, NULL, 0},
    {"closed bracket", "a@b>", NULL, NULL, NULL, 0},
    {"bracket alone", "<", NULL, NULL, NULL, 0},
    {"two pairs", "<<a@b>>", NULL, NULL, NULL, 0},
    {"open literal", "a@[1.2.3.4", NULL, NULL, NULL, 0},
    {"literal and more", "a@[1.2.3.4].x", NULL, NULL, NULL, 0},
    {"empty literal", "a@[]", NULL, NULL, NULL, 0},
    {"comma", "a,b@c", NULL, NULL, NULL, 0},
    {"comment", "a(b)@c", NULL, NULL, NULL, 0},
    {"route without end", "@x,@y", NULL, NULL, NULL, 0},
    {"route and nothing", "@x:", NULL, NULL, NULL, 0},
    {"route broken", "@x,y:a@b", NULL, NULL, NULL, 0},
};

static void
parses_each_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct address a = {.local = {"unset", 5}};
        char canonical[64] = "unset";
        struct slice in = slice_of(rows[i].in);
        bool good = rows[i].local != NULL;
        size_t n;

        print_message("  %s\n", rows[i].name);
        assert_int_equal(address_parse(in, &a), good);
        n = address_canonical(in, canonical, sizeof canonical);
        if (rows[i].canonical == NULL)
            assert_int_equal(n, 0);
        else
            assert_string_equal(canonical, rows[i].canonical);
        if (!good) {
            assert_true(slice_eq(a.local, SLICE_LIT("unset")));
            continue;
        }
        assert_true(slice_eq(a.local, slice_of(rows[i].local)));
        assert_true(slice_eq(a.domain, slice_of(rows[i].domain)));
        assert_int_equal(a.is_literal, rows[i].literal);
    }
}

static void
a_nul_is_a_control(void **state)
{
    struct address a;

    (void)state;
    assert_false(address_parse((struct slice){"a\0b@c", 5}, &a));
    assert_false(address_parse((struct slice){"a@b\0", 4}, &a));
}

/* It fits exactly, or it is not written. */
static void
canonical_needs_room(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        size_t len = rows[i].canonical != NULL ? strlen(rows[i].canonical) : 0;

        for (size_t size = 0; size < len + 3; size++) {
            char *room = malloc(size + 1);

            assert_int_equal(
                address_canonical(slice_of(rows[i].in), room, size),
                size > len ? len : 0);
            free(room);
        }
    }
}

/* Whatever two octets stand anywhere in a good address. */
static void
any_octets_do_no_harm(void **state)
{
    static const char whole[] = "<@a,@[b]:\"c\\\"d\"@[e]>";
    size_t len = sizeof whole - 1;
    struct address a;
    char canonical[64];

    (void)state;
    for (size_t at = 0; at < len; at++)
        for (unsigned octet = 0; octet < 256; octet++) {
            char *copy = malloc(at + 1);

            memcpy(copy, whole, at);
            copy[at] = (char)octet;
            address_parse((struct slice){copy, at + 1}, &a);
            address_canonical((struct slice){copy, at + 1}, canonical,
                              sizeof canonical);
            free(copy);
        }
}

static void
domains_match(void **state)
{
    static const struct {
        const char *domain, *pattern;
        bool yes;
    } rows2[] = {
        {"a.b", "a.b", true},       {"A.B.", "a.b", true},
        {"a.b", ".a.b", false},     {"x.a.b", ".a.b", true},
        {"y.x.A.b.", ".a.B", true}, {"xa.b", ".a.b", false},
        {"x.a.b", "a.b", false},    {".a.b", ".a.b", false},
        {"", "a", false},           {"a", "", false},
        {"", ".a", false},          {".", ".a", false},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows2); i++) {
        print_message("  %s %s\n", rows2[i].domain, rows2[i].pattern);
        assert_int_equal(address_domain_matches(slice_of(rows2[i].domain),
                                                slice_of(rows2[i].pattern)),
                         rows2[i].yes);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_each_row),
        cmocka_unit_test(a_nul_is_a_control),
        cmocka_unit_test(canonical_needs_room),
        cmocka_unit_test(any_octets_do_no_harm),
        cmocka_unit_test(domains_match),
    };

    return cmocka_run_group_tests_name("policy/address", tests, NULL, NULL);
}
