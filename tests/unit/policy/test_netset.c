/* tests/unit/policy/test_netset.c - mirrors policy/netset.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <string.h>

#include <cmocka.h>

#include "policy/netset.h"

static struct network
net(const char *text, unsigned bits)
{
    struct network n = {.bits = bits};

    assert_int_equal(inet_pton(AF_INET6, text, n.address), 1);
    return n;
}

static bool
has(const struct network *set, size_t n, const char *text)
{
    struct network a = net(text, 128);

    return netset_has(set, n, a.address);
}

static void
edges(void **state)
{
    struct network set[] = {
        net("2001:db8:8000::", 33),  net("::ffff:10.0.0.0", 104),
        net("2001:db8:ffff::", 48),  net("::ffff:192.0.2.8", 125),
        net("::ffff:10.1.0.0", 112),
    };
    static const struct {
        const char *address;
        bool want;
    } rows[] = {
        {"::", false},
        {"::ffff:9.255.255.255", false},
        {"::ffff:10.0.0.0", true},
        {"::ffff:10.1.2.3", true},
        {"::ffff:10.255.255.255", true},
        {"::ffff:11.0.0.0", false},
        {"::ffff:192.0.2.7", false},
        {"::ffff:192.0.2.8", true},
        {"::ffff:192.0.2.15", true},
        {"::ffff:192.0.2.16", false},
        {"2001:db8:7fff:ffff:ffff:ffff:ffff:ffff", false},
        {"2001:db8:8000::", true},
        {"2001:db8:ffff:1::", true},
        {"2001:db9::", false},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    };
    size_t n = netset_sort(set, sizeof set / sizeof *set);

    (void)state;
    assert_int_equal(n, 3); /* two lay within others */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].address);
        assert_int_equal(has(set, n, rows[i].address), rows[i].want);
    }
}

static void
nothing_and_everything(void **state)
{
    struct network all[] = {net("::1", 128), net("::", 0), net("::", 0)};

    (void)state;
    assert_int_equal(netset_sort(NULL, 0), 0);
    assert_false(has(NULL, 0, "::1"));
    assert_int_equal(netset_sort(all, 3), 1);
    assert_true(has(all, 1, "::"));
    assert_true(has(all, 1, "ffff::"));
}

static uint32_t seed = 1;

static uint32_t
next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* A small space, so that many hold one another and many addresses hit. */
static struct network
random_network(void)
{
    struct network n = {.bits = 112 + next() % 17};

    n.address[14] = (uint8_t)(next() & 3);
    n.address[15] = (uint8_t)next();
    for (unsigned i = n.bits; i < 128; i++)
        n.address[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
    return n;
}

/* The search finds what a look at each would find. */
static void
same_as_one_by_one(void **state)
{
    enum { ROUNDS = 300, MOST = 40 };

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct network one[MOST], set[MOST];
        size_t n = next() % MOST, kept;

        for (size_t i = 0; i < n; i++)
            one[i] = random_network();
        memcpy(set, one, sizeof set);
        kept = netset_sort(set, n);
        assert_true(kept <= n);
        for (unsigned a = 0; a < 1024; a++) {
            uint8_t address[16] = {0};
            bool want = false;

            address[14] = (uint8_t)(a >> 8);
            address[15] = (uint8_t)a;
            for (size_t i = 0; i < n; i++)
                want |= netset_holds(&one[i], address);
            if (netset_has(set, kept, address) != want)
                fail_msg("round %u, address %u", round, a);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges),
        cmocka_unit_test(nothing_and_everything),
        cmocka_unit_test(same_as_one_by_one),
    };

    return cmocka_run_group_tests_name("policy/netset", tests, NULL, NULL);
}
