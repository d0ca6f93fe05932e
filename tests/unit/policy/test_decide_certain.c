/* tests/unit/policy/test_decide_certain.c - what is certain at RCPT stays so:
 * random policies, envelopes and messages
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

static uint32_t seed = 20240229;

static unsigned
random_below(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static const char *
pick(const char *const *from, unsigned n)
{
    return from[random_below(n)];
}

#define PICK(a) pick(a, LENGTH(a))

enum { YAML_MAX = 1 << 14 };

static void
add_yaml(char *to, const char *fmt, ...)
{
    size_t n = strlen(to);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(to + n, YAML_MAX - n, fmt, ap);
    va_end(ap);
    assert_true(strlen(to) < YAML_MAX - 1);
}

static void
random_condition(char *yaml, unsigned depth)
{
    static const char *const leaf[] = {
        "{sender: a@x}",
        "{sender: '*@x'}",
        "{sender: '<>'}",
        "{sender_domain: [x, .y]}",
        "{recipient: r@s}",
        "{recipient_domain: s}",
        "{auth: '*'}",
        "{auth: ''}",
        "{client: 192.0.2.0/30}",
        "{kind: bounce}",
        "{kind: [bounce, auto]}",
        "{kind: bulk}",
        "{from: a@x}",
        "{from_domain: x}",
        "{header: {Subject: '*one*'}}",
        "{header: {X: '/^[0-9]+$/'}}",
        "{size: '> 1000'}",
        "{size: '> 10', sender: a@x}",
        "{header: {X: '*'}, auth: '*'}",
    };
    static const char *const combine[] = {"any", "all", "any"};
    unsigned kind = random_below(6);

    if (depth == 0 || kind > 2) {
        add_yaml(yaml, "%s", PICK(leaf));
        return;
    }
    add_yaml(yaml, kind == 2 ? "{not: {%s: [" : "{%s: [", combine[kind]);
    random_condition(yaml, depth - 1);
    add_yaml(yaml, ", ");
    random_condition(yaml, depth - 1);
    add_yaml(yaml, kind == 2 ? "]}}" : "]}");
}

static void
random_policy(char *yaml)
{
    static const char *const action[] = {
        "reject: '550 5.7.1 one'",
        "reject: '550 5.7.1 one'",
        "reject: '550 5.7.1 two'",
        "defer: '451 4.7.1 one'",
        "route: mta",
        "route: {account: news}",
        "route: {account: t}",
        "route: {account: t}, otherwise: [mta]",
    };
    unsigned n = 1 + random_below(5);

    yaml[0] = '\0';
    add_yaml(yaml, "gmroute: 1\n"
                   "mta_domains: [s]\n"
                   "accounts:\n"
                   "  news: {address: n@g, auth: {password_file: p},\n"
                   "         quota: workspace}\n"
                   "  t: {address: '*@x', auth: {password_file: p},\n"
                   "      quota: workspace}\n");
    if (random_below(3) == 0)
        add_yaml(yaml, "unparseable: reject\n");
    add_yaml(yaml, "rules:\n");
    for (unsigned i = 0; i < n; i++) {
        add_yaml(yaml, "  - {match: ");
        random_condition(yaml, 2);
        add_yaml(yaml, ", %s}\n", PICK(action));
    }
    if (random_below(2) == 0)
        add_yaml(yaml, "  - {reject: '550 5.7.1 one'}\n");
}

static struct mail
random_envelope(void)
{
    static const char *const sender[] = {"a@x", "b@x", "a@z.y", "", "c@w"};
    static const char *const recipient[] = {"r@s", "q@s", "r@t"};
    static const char *const login[] = {"", "a", "b@x"};
    static const char *const client[] = {NULL, "1", "9"};

    return (struct mail){.sender = PICK(sender),
                         .recipient = PICK(recipient),
                         .login = PICK(login),
                         .client = PICK(client),
                         .local = random_below(4) == 0};
}

static void
random_message(struct mail *m)
{
    static const char *const headers[] = {
        "",
        "From: a@x\n",
        "From: b@x\nSubject: one\n",
        "From: <<broken\nX: 12\n",
        "From: q@w\nX: =?utf-8?q?12?=\nAuto-Submitted: auto-replied\n",
        "List-Id: x\nSubject: =?utf-8?b?b25l?=\nX: a\n",
    };

    m->headers = PICK(headers);
    m->size = random_below(2000);
}

static void
certain_at_rcpt_stays_so(void **state)
{
    char *yaml = malloc(YAML_MAX), early[CASE_TEXT], late[CASE_TEXT];
    unsigned certain = 0, unknown = 0;

    (void)state;
    assert_non_null(yaml);
    for (int round = 0; round < 3000; round++) {
        struct policy *p;

        random_policy(yaml);
        p = case_compile(yaml);
        for (int i = 0; i < 4; i++) {
            struct mail m = random_envelope();
            enum action action;
            const char *reply;

            case_decide(p, &m, FACTS_RCPT, NULL, early);
            action = case_decision.action;
            reply = case_decision.reply;
            if (action == ACTION_UNKNOWN) {
                unknown++;
            } else {
                assert_true(action == ACTION_REJECT || action == ACTION_DEFER);
                certain++;
            }
            for (int k = 0; k < 6; k++) {
                random_message(&m);
                case_decide(p, &m, FACTS_EOM, NULL, late);
                assert_int_not_equal(case_decision.action, ACTION_UNKNOWN);
                if (action == ACTION_UNKNOWN)
                    continue;
                if (case_decision.action != action ||
                    strcmp(case_decision.reply, reply) != 0)
                    print_error("%s\nat RCPT: %s\nat end: %s\n%s", yaml, early,
                                late, m.headers);
                assert_int_equal(case_decision.action, action);
                assert_string_equal(case_decision.reply, reply);
                assert_false(case_decision.whole_message);
            }
        }
        policy_free(p);
    }
    print_message("  %u certain, %u not\n", certain, unknown);
    assert_true(certain > 1000 && unknown > 1000);
    free(yaml);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certain_at_rcpt_stays_so),
    };

    return cmocka_run_group_tests_name("policy/decide, certain at RCPT", tests,
                                       case_setup, case_teardown);
}
