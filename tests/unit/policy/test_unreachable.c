/* tests/unit/policy/test_unreachable.c - which rules are called unreachable
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

#include "tests/unit/policy/decide_case.h"

static struct diag said;

/* The text about the rule in that line, NULL when there is none. */
static const char *
said_of(unsigned line)
{
    for (unsigned i = 0; i < said.n; i++)
        if (said.item[i].at.line == line &&
            strncmp(said.item[i].text, "no message gets", 15) == 0)
            return said.item[i].text;
    return NULL;
}

static void
compile(const char *yaml)
{
    struct policy *p = policy_compile(yaml, strlen(yaml), "/c/f", NULL, &said);

    for (unsigned i = 0; p == NULL && i < said.n; i++)
        print_error("%u: %s\n", said.item[i].at.line, said.item[i].text);
    assert_non_null(p);
    policy_free(p);
}

static const struct {
    const char *earlier, *later; /* match */
    bool unreachable;
} rows[] = {
    {"{sender: a@x}", "{sender: a@x}", true},
    {"{sender: a@x}", "{sender: A@X, auth: '*'}", true},
    {"{sender: a@x, auth: '*'}", "{sender: a@x}", false},
    {"{sender: [a@x, b@x]}", "{sender: b@x}", true},
    {"{sender: b@x}", "{sender: [a@x, b@x]}", false},
    {"{sender: '*@x'}", "{sender: a@x}", true},
    {"{sender: '*@x'}", "{sender: a@y}", false},
    {"{sender: '*'}", "{sender: '<>'}", false},
    {"{sender: '*@x'}", "{sender: '*@x'}", true},
    {"{sender: '*@x'}", "{sender: 'a*@x'}", false}, /* not looked for */
    {"{sender: /a/}", "{sender: /a/}", true},
    {"{sender: /a/}", "{sender: /A/}", false},
    {"{sender_domain: .x}", "{sender_domain: y.x}", true},
    {"{sender_domain: .x}", "{sender_domain: .y.x}", true},
    {"{sender_domain: .x}", "{sender_domain: x}", false},
    {"{sender_domain: x}", "{sender_domain: .x}", false},
    {"{sender_domain: x}", "{recipient_domain: x}", false},
    {"{sender_domain: x}", "{sender: a@x}", true},
    {"{sender_domain: x}", "{sender: '*@X'}", true},
    {"{sender_domain: [.x, y]}", "{sender: [a@b.x, c@y]}", true},
    {"{sender_domain: .x}", "{sender: a@x}", false},
    {"{sender_domain: x}", "{sender: [a@x, a@y]}", false},
    {"{sender_domain: x}", "{sender: '<>'}", false},
    {"{sender_domain: x}", "{sender: '*x'}", false},
    {"{sender_domain: x}", "{sender: '*@?'}", false},
    {"{sender_domain: x}", "{sender: /@x/}", false},
    {"{sender_domain: x}", "{recipient: a@x}", false},
    {"{recipient_domain: .x}", "{recipient: a@y.x, auth: a}", true},
    {"{from_domain: x}", "{from: a@x}", true},
    {"{sender: a@x}", "{sender_domain: x}", false},
    {"{client: 10.0.0.0/8}", "{client: 10.1.0.0/16}", true},
    {"{client: 10.0.0.0/8}", "{client: 10.1.2.3}", true},
    {"{client: 10.1.0.0/16}", "{client: 10.0.0.0/8}", false},
    {"{client: '::/0'}", "{client: 10.1.0.0/16}", true},
    {"{auth: '*'}", "{auth: ann}", true},
    {"{auth: '*'}", "{auth: ''}", false},
    {"{sender: {list: l}}", "{sender: {list: l}, size: '> 1'}", true},
    {"{sender: {list: l}}", "{recipient: {list: l}}", false},
    {"{size: '>= 10'}", "{size: '> 10'}", true},
    {"{size: '> 10'}", "{size: '>= 10'}", false},
    {"{size: ['< 5', '> 10']}", "{size: 11}", true},
    {"{size: ['< 5', '> 10']}", "{size: 5}", false},
    {"{kind: [bounce, auto]}", "{kind: bounce}", true},
    {"{kind: bounce}", "{kind: [bounce, auto]}", false},
    {"{header: {X: '*'}}", "{header: {X: '*', Y: a}}", true},
    {"{header: {X: '*'}}", "{header: {Y: '*'}}", false},
    {"{header: {X: 'a*'}, sender: a@x}", "{sender: a@x, header: {x: ab}}",
     true},
    {"{any: [{sender: a@x}, {auth: '*'}]}", "{auth: b}", true},
    {"{any: [{sender: a@x}, {auth: '*'}]}", "{sender: b@x}", false},
    {"{sender: '*@x'}", "{any: [{sender: a@x}, {sender: b@x}]}", true},
    {"{sender: '*@x'}", "{any: [{sender: a@x}, {auth: b}]}", false},
    {"{all: [{sender: a@x}, {auth: b}]}", "{sender: a@x, auth: b}", true},
    {"{not: {sender: a@x}}", "{not: {sender: a@x}}",
     false}, /* not looked for */
    {"{not: {sender: a@x}}", "{sender: a@x}", false},
    {"{tls: yes}", "{tls: yes, sender: a@x}", true},
    {"{tls: yes}", "{tls: no}", false},
    {"{recipients: '> 2'}", "{recipients: 5}", true},
    {"{subject: '*'}", "{subject: a}", true},
    {"{macro: {j: a}}", "{macro: {i: a}}", false},
    {"{sample: 10%}", "{sample: 20%}", false},
    {"{from_domain: .x}", "{from_domain: a.x, sender: q@q}", true},
};

static void
pairs(void **state)
{
    char yaml[1000];

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        print_message("  %s, then %s\n", rows[i].earlier, rows[i].later);
        snprintf(yaml, sizeof yaml,
                 "gmroute: 1\n"
                 "lists: {l: [a@x], k: [b@x]}\n"
                 "rules:\n"
                 "  - {match: {recipient: {list: k}}, route: mta}\n"
                 "  - {name: first, match: %s, reject: 550 5.7.1 no}\n"
                 "  - {match: {sender: {list: l}, auth: zoe}, route: mta}\n"
                 "  - {match: %s, route: mta}\n",
                 rows[i].earlier, rows[i].later);
        compile(yaml);
        if (rows[i].unreachable)
            assert_string_equal(said_of(7), "no message gets to this rule: the "
                                            "rule \"first\" in line 5 matches "
                                            "all that it matches");
        else
            assert_null(said_of(7));
    }
}

/* Whether the earlier rule keeps what it matches. */
static void
actions(void **state)
{
    static const struct {
        const char *name, *earlier, *match;
        bool unreachable;
    } row[] = {
        {"mta", "route: mta", "sender: a@x", true},
        {"defer", "defer: 451 4.7.1 x", "sender: a@x", true},
        {"an account for all", "route: {account: n}", "sender: a@x", true},
        {"the null sender passes by", "route: {account: n}", "recipient: a@x",
         false},
        {"trust", "route: {account: k}", "sender: a@x", false},
        {"a template", "route: {account: t}", "sender: a@x", false},
        {"hold", "hold: why", "recipient: a@x", true},
        {"a shadow", "discard: true, shadow: yes", "sender: a@x", false},
        {"a template, then one for all",
         "route: {account: t}, otherwise: [{account: n}]", "sender: a@x", true},
    };
    char yaml[1000];

    (void)state;
    for (size_t i = 0; i < LENGTH(row); i++) {
        print_message("  %s\n", row[i].name);
        snprintf(
            yaml, sizeof yaml,
            "gmroute: 1\n"
            "accounts:\n"
            "  n: {address: n@g, auth: {password_file: p}, quota: gmail}\n"
            "  k: {address: k@g, auth: {password_file: p}, quota: gmail,\n"
            "      trust: local}\n"
            "  t: {address: '*@x', auth: {password_file: p}, quota: gmail}\n"
            "rules:\n"
            "  - {match: {%s}, %s}\n"
            "  - {match: {%s}, route: mta}\n"
            "  - {match: {sender: z@z}, route: {account: k}}\n",
            row[i].match, row[i].earlier, row[i].match);
        compile(yaml);
        if (row[i].unreachable)
            assert_non_null(said_of(9));
        else
            assert_null(said_of(9));
    }
}

/* "any" in "any" multiply: there is an end to the comparing. */
static void
deep_conditions_take_no_time(void **state)
{
    enum { DEPTH = 20 };
    char yaml[4000];
    size_t n = 0;

    (void)state;
    n += (size_t)snprintf(yaml + n, sizeof yaml - n, "gmroute: 1\nrules:\n");
    for (unsigned rule = 0; rule < 2; rule++) {
        n += (size_t)snprintf(yaml + n, sizeof yaml - n, "- {match: ");
        for (unsigned i = 0; i < DEPTH; i++)
            n += (size_t)snprintf(yaml + n, sizeof yaml - n, "{any: [");
        n += (size_t)snprintf(yaml + n, sizeof yaml - n, "{helo: x%u}", rule);
        for (unsigned i = 0; i < DEPTH; i++)
            n += (size_t)snprintf(yaml + n, sizeof yaml - n, "]}");
        n += (size_t)snprintf(yaml + n, sizeof yaml - n, ", route: mta}\n");
    }
    assert_true(n < sizeof yaml);
    compile(yaml);
    assert_null(said_of(4));
}

static void
one_word_behind_a_rule_for_all(void **state)
{
    (void)state;
    compile("gmroute: 1\n"
            "rules:\n"
            "  - {name: all, route: mta}\n"
            "  - {match: {sender: a@x}, route: mta}\n"
            "  - {match: {sender: b@x}, route: mta}\n");
    assert_string_equal(said_of(4), "no message gets to this rule: the rule "
                                    "\"all\" in line 3 has no condition");
    assert_null(said_of(5));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs),
        cmocka_unit_test(actions),
        cmocka_unit_test(deep_conditions_take_no_time),
        cmocka_unit_test(one_word_behind_a_rule_for_all),
    };

    return cmocka_run_group_tests_name("policy/compile_unreachable", tests,
                                       NULL, NULL);
}
