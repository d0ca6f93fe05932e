/* tests/unit/policy/test_compile_memory.c - memory that runs out at every
 * place in turn.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Linked with --wrap=calloc, the only allocator of policy/arena.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compile_case.h"
#include "policy/arena.h"

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static bool armed;
static unsigned left; /* calls that still work */

void *
__wrap_calloc(size_t n, size_t size)
{
    if (armed && left-- == 0) {
        left = 0;
        return NULL;
    }
    return __real_calloc(n, size);
}

static const char yaml[] =
    ACCOUNT "lists: {l: [a@b, '*@c', /x/]}\n"
            "pools: {p: {accounts: a}}\n"
            "rules:\n"
            "  - {match: {sender: {list: l}, header: {X: /y/}},\n"
            "     route: {pool: p}, otherwise: [{account: a}, wait]}\n"
            "  - {match: {client: 10.0.0.0/8}, reject: 550 5.7.1 x}\n"
            "  - {match: {auth: x}, hold: x, add_header: {X: y, Z: a},\n"
            "     remove_header: [A, B, C]}\n"
            "  - {match: {subject: x, helo: y, macro: {i: z}, sample: 1%,\n"
            "             any: [{time: mon, timezone: Europe/Berlin},\n"
            "                   {time: tue, timezone: UTC}, {time: wed}]},\n"
            "     route: mta}\n";

static const char proofs[] =
    "tests:\n"
    "  - {sender: a@b, recipient: [c@d, e@f], auth: x, client: '::1',\n"
    "     header: {X: [y, z], A: b}, macro: {i: x}, attachment: [a, b],\n"
    "     expect: {account: a}}\n";

static char many_rules[100 * 1024], many_lines[300 * 1024];

/* "/c/rules" and "/c/lines" besides the files of all cases. */
static bool
read_file(void *cookie, const char *path, const char **ret_text,
          size_t *ret_len, char *err, size_t err_size)
{
    const char *text = strcmp(path, "/c/rules") == 0   ? many_rules
                       : strcmp(path, "/c/lines") == 0 ? many_lines
                                                       : NULL;

    if (text == NULL)
        return compile_case_files.read_file(cookie, path, ret_text, ret_len,
                                            err, err_size);
    *ret_text = text;
    *ret_len = strlen(text);
    return true;
}

static bool
find_files(void *cookie, const char *pattern, const char *const **ret,
           size_t *ret_n, char *err, size_t err_size)
{
    static const char *const path[] = {"/c/rules"};

    (void)cookie;
    (void)pattern;
    (void)err;
    (void)err_size;
    *ret = path;
    *ret_n = 1;
    return true;
}

static const struct policy_files files = {.read_file = read_file,
                                          .glob = find_files};

static struct policy *
compile_with(const char *text, unsigned n, struct diag *d)
{
    struct policy *p;

    armed = true;
    left = n;
    p = policy_compile(text, strlen(text), "/c/f", &files, d);
    armed = false;
    return p;
}

/* Says so, and nothing else; nothing leaks (the sanitizer looks). */
static unsigned
fail_everywhere(const char *text)
{
    static struct diag d;
    struct policy *p = NULL;
    unsigned n = 0;

    for (; n < 100000; n++) {
        p = compile_with(text, n, &d);
        if (p != NULL)
            break;
        assert_int_equal(d.n_errors, 1);
        assert_string_equal(d.item[0].text, "out of memory");
        assert_string_equal(d.item[0].at.file, "/c/f");
        assert_int_equal(d.item[0].at.line, 0);
    }
    assert_non_null(p);
    policy_free(p);
    return n;
}

static void
small(void **state)
{
    static char text[sizeof yaml + sizeof proofs];

    (void)state;
    snprintf(text, sizeof text, "%s%s", yaml, proofs);
    assert_in_range(fail_everywhere(text), 6, 1000);
}

/* Large enough that blocks of memory end inside every step. */
static void
large(void **state)
{
    static char text[300 * 1024];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", yaml);

    (void)state;
    for (unsigned i = 0; i < 600; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "  - {match: {recipient: [r%u@x, 's*@%u', "
                              "/t%u/], size: '> %uKB'}, route: {account: a},"
                              " share: %u%%, name: n%u,"
                              " add_header: {X-%u: a}, remove_header: B-%u}\n",
                              i, i, i, i, i % 100 + 1, i, i, i);
    n += (size_t)snprintf(text + n, sizeof text - n, "%s", proofs);
    for (unsigned i = 0; i < 300; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "  - {recipient: [r%u@x, s%u@y], header: {X: "
                              "[a, b%u], Y: c}, macro: {m%u: v}, attachment: "
                              "[f%u, g], expect: mta, rule: n%u}\n",
                              i, i, i, i, i, i);
    assert_true(n < sizeof text - 1);
    assert_in_range(fail_everywhere(text), 10, 1000);
}

static void
included(void **state)
{
    size_t n = (size_t)snprintf(many_rules, sizeof many_rules, "rules:\n");

    (void)state;
    for (unsigned i = 0; i < 500; i++)
        n += (size_t)snprintf(many_rules + n, sizeof many_rules - n,
                              "  - {match: {sender: {list: m}, auth: a%u}, "
                              "route: {account: a}}\n",
                              i);
    n = 0;
    for (unsigned i = 0; i < 3000; i++)
        n += (size_t)snprintf(many_lines + n, sizeof many_lines - n,
                              "user%u@x.example\n*%u@x.example\n"
                              "10.0.%u.0/24\n192.0.2.%u\n",
                              i, i, i % 256, i % 256);
    assert_in_range(
        fail_everywhere(ACCOUNT "include: '*'\n"
                                "lists: {m: {file: lines}}\n"
                                "rules: [{match: {auth: x}, route: mta}]\n"),
        10, 1000);
}

static void
arena_refuses_overflow(void **state)
{
    struct arena *a = arena_new();

    (void)state;
    assert_null(arena_alloc(a, SIZE_MAX, 2));
    assert_null(arena_alloc(a, SIZE_MAX / 2, 2));
    assert_null(arena_alloc(a, SIZE_MAX - 4, 1));
    assert_null(arena_copy(a, (struct slice){"", SIZE_MAX}));
    assert_non_null(arena_alloc(a, 0, 8));
    arena_free(a);
    arena_free(NULL);
    policy_free(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small),
        cmocka_unit_test(large),
        cmocka_unit_test(included),
        cmocka_unit_test(arena_refuses_overflow),
    };

    return cmocka_run_group_tests_name("policy/compile_memory", tests, NULL,
                                       NULL);
}
