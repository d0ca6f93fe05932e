/* tests/unit/policy/test_decide_idn.c - U-labels and A-labels are equal,
 * wherever either is written
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "decide_case.h"

/* Spellings of one domain, and one that is another. */
static const char *const domain[] = {
    "m\303\274nchen.example", "xn--mnchen-3ya.example",
    "M\303\234NCHEN.example", "mu\314\210nchen.EXAMPLE"};
static const char other[] = "m\303\266nchen.example";

/* A condition with the domain for each %s; what the message has at that place
 * is the same domain in one spelling or the other. */
static const char *const conditions[] = {
    "sender: a@%s",
    "sender: '*@%s'",
    "sender: {list: l}",
    "sender_domain: %s",
    "sender_domain: {list: l}",
    "sender_domain: '*chen*.example'", /* the A-label has it as well */
    "recipient: b@sub.%s",
    "recipient: '*@*.%s'",
    "recipient_domain: .%s",
    "recipient_domain: [x, '?ub.%s']",
    "recipient_domain: {list: l}",
    "from: c@%s",
    "from: {list: l}",
    "from_domain: %s",
    "from_domain: {list: l}",
    "client: %s",
    "client: {list: l}",
};

static bool
matches(const struct policy *p, const char *d, unsigned rules)
{
    char sender[100], recipient[100], from[100];
    struct facts_pair header = {.name = SLICE_LIT("From")};
    struct facts f = {.stage = FACTS_EOM, .n_headers = 1, .header = &header};
    enum decide_result r;

    snprintf(sender, sizeof sender, "a@%s", d);
    snprintf(recipient, sizeof recipient, "b@sub.%s", d);
    snprintf(from, sizeof from, " Ann <c@%s>", d);
    f.sender = slice_of(sender);
    header.value = slice_of(from);
    f.client = (struct facts_client){.known = true, .name = slice_of(d)};
    r = decide(p, &f, slice_of(recipient), case_scratch, &case_decision, NULL);
    scratch_reset(case_scratch);
    assert_int_equal(r, DECIDE_OK);
    assert_int_equal(p->n_rules, rules);
    return case_decision.rule != NULL;
}

static void
everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(conditions); i++)
        for (size_t k = 0; k < LENGTH(domain); k++) {
            char condition[200], yaml[1000];
            struct policy *p;

            snprintf(condition, sizeof condition, conditions[i], domain[k]);
            print_message("  %s\n", condition);
            snprintf(yaml, sizeof yaml,
                     "gmroute: 1\n"
                     "lists: {l: [a@%s, %s, .%s, c@%s]}\n"
                     "rules: [{match: {%s}, route: mta}]\n",
                     domain[k], domain[k], domain[k], domain[k], condition);
            p = case_compile(yaml);
            for (size_t v = 0; v < LENGTH(domain); v++)
                assert_true(matches(p, domain[v], 1));
            if (strstr(condition, "*chen") == NULL)
                assert_false(matches(p, other, 1));
            policy_free(p);
        }
}

/* A list does not know what it is asked about: its texts stay as well. */
static void
lists_keep_their_texts(void **state)
{
    struct facts_pair header = {.name = SLICE_LIT("X"),
                                .value = SLICE_LIT("Gr\303\266\303\237e")};
    struct facts f = {.stage = FACTS_EOM, .n_headers = 1, .header = &header};
    struct policy *p = case_compile(
        "gmroute: 1\n"
        "lists: {l: ['gr\303\266\303\237e']}\n"
        "rules: [{match: {header: {X: {list: l}}}, route: mta}]\n");

    (void)state;
    assert_int_equal(
        decide(p, &f, SLICE_LIT("a@b"), case_scratch, &case_decision, NULL),
        DECIDE_OK);
    assert_non_null(case_decision.rule);
    scratch_reset(case_scratch);
    policy_free(p);
}

/* What is no name compares as it is; it matches itself and nothing else. */
static void
no_names_are_themselves(void **state)
{
    struct policy *p = case_compile(
        "gmroute: 1\n"
        "rules: [{match: {sender: ['a@-m\303\274*', /-m\303\266/]}, route: "
        "mta}]\n");

    (void)state;
    assert_true(matches(p, "-m\303\274", 1));
    assert_true(matches(p, "-m\303\266", 1));
    assert_false(matches(p, "-m\303\204", 1));
    policy_free(p);
}

static void
settings_and_accounts(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        static const char account[] = "r: account a@xn--mnchen-3ya.example(t) "
                                      "wait";
        char yaml[1000], got[CASE_TEXT];
        struct policy *p;

        snprintf(yaml, sizeof yaml,
                 "gmroute: 1\n"
                 "mta_domains: [l.%s]\n"
                 "internal_domains: [%s, .%s]\n"
                 "accounts:\n"
                 "  t: {address: '*@%s', auth: none, smarthost: gmail_relay, "
                 "trust: login}\n"
                 "  n: {address: n@%s, auth: none, smarthost: gmail_relay, "
                 "send_as: [a@%s, '@%s']}\n"
                 "rules: [{name: r, route: {account: t}}]\n",
                 domain[k], domain[k], domain[k], domain[k], domain[k],
                 domain[k], domain[k]);
        p = case_compile(yaml);
        for (size_t v = 0; v < LENGTH(domain); v++) {
            char sender[100], recipient[100];
            const struct mail routed = {.sender = sender,
                                        .recipient = "b@x.example",
                                        .login = "a"},
                              local = {.sender = sender,
                                       .recipient = recipient,
                                       .login = "a"};

            snprintf(sender, sizeof sender, "a@%s", domain[v]);
            snprintf(recipient, sizeof recipient, "b@l.%s", domain[v]);
            case_decide(p, &routed, FACTS_EOM, NULL, got);
            assert_string_equal(got, account);
            case_decide(p, &local, FACTS_EOM, NULL, got);
            assert_int_equal(case_decision.action, ACTION_MTA);
            assert_true(policy_is_internal_domain(p, slice_of(domain[v])));
            assert_true(policy_is_internal_domain(p, slice_of(recipient + 2)));
        }
        assert_false(policy_is_internal_domain(p, slice_of(other)));
        assert_string_equal(policy_account(p, "n")->send_as[0],
                            "a@xn--mnchen-3ya.example");
        assert_string_equal(policy_account(p, "n")->send_as[1],
                            "@xn--mnchen-3ya.example");
        policy_free(p);
    }
}

/* from: require */
static void
from_is_the_account(void **state)
{
    struct policy *p =
        case_compile("gmroute: 1\n"
                     "accounts: {n: {address: n@m\303\274nchen.example, auth: "
                     "{password_file: p}, send_as: [c@xn--mnchen-3ya.example]"
                     "}}\n"
                     "default: {account: n}\n");
    struct mailbox m = {.account = policy_account(p, "n")};

    (void)state;
    strcpy(m.address, m.account->address);
    for (size_t v = 0; v <= LENGTH(domain); v++) {
        char from[100];
        struct facts_pair header = {.name = SLICE_LIT("From")};
        struct facts f = {
            .stage = FACTS_EOM, .n_headers = 1, .header = &header};

        snprintf(from, sizeof from, "c@%s, N@%s",
                 v < LENGTH(domain) ? domain[v] : other,
                 v < LENGTH(domain) ? domain[v] : other);
        header.value = slice_of(from);
        assert_int_equal(decide_from_allowed(&m, &f), v < LENGTH(domain));
    }
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everywhere),
        cmocka_unit_test(lists_keep_their_texts),
        cmocka_unit_test(no_names_are_themselves),
        cmocka_unit_test(settings_and_accounts),
        cmocka_unit_test(from_is_the_account),
    };

    return cmocka_run_group_tests_name("policy/decide_idn", tests, case_setup,
                                       case_teardown);
}
