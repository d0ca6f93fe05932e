/* tests/unit/policy/test_decide.c - mirrors policy/decide.c
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

/* ---- the example of the manual ---- */

static void
first_match_wins(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - name: blocked\n"
        "    match: {recipient_domain: [blocked.example, .blocked.example]}\n"
        "    reject: '550 5.7.1 not there'\n"
        "  - name: newsletter\n"
        "    match: {sender: news@example.com,\n"
        "            header: {List-Unsubscribe: '*'}}\n"
        "    route: {pool: bulk}\n"
        "    otherwise: [{account: staff}, wait]\n"
        "  - name: people\n"
        "    match: {sender_domain: example.com, auth: '*', size: '<= 25MB'}\n"
        "    route: {account: staff}\n"
        "  - match: {sender_domain: example.com, not: {auth: '*'}}\n"
        "    defer: '451 4.7.1 log in'\n"
        "default: mta\n";
    static const struct row rows[] = {
        {"nobody's business",
         {.sender = "x@far.example"},
         NULL,
         "default: mta"},
        {"blocked",
         {.sender = "x@far.example", .recipient = "r@a.BLOCKED.example."},
         "blocked: reject 550 5.7.1 not there",
         "blocked: reject 550 5.7.1 not there"},
        {"newsletter; the author may use both",
         {.sender = "news@example.com",
          .login = "news@example.com",
          .headers = "list-unsubscribe: <x>\n"},
         NULL,
         "newsletter: account news@gmail.com[bulk] Sales@example.com[bulk] "
         "news@example.com(staff) wait"},
        {"newsletter; the template is left out without trust",
         {.sender = "news@example.com", .headers = "List-Unsubscribe: <x>\n"},
         NULL,
         "newsletter: account news@gmail.com[bulk] Sales@example.com[bulk] "
         "wait"},
        {"no newsletter",
         {.sender = "news@example.com", .login = "news"},
         NULL,
         "people: account news@example.com(staff) wait"},
        {"people, extension removed",
         {.sender = "Ann+x@Example.com", .login = "ann+x@example.com"},
         NULL,
         "people: account ann@example.com(staff) wait"},
        {"25 MB still pass",
         {.sender = "ann@example.com", .login = "ann", .size = 25000000},
         NULL,
         "people: account ann@example.com(staff) wait"},
        {"one octet more does not",
         {.sender = "ann@example.com", .login = "ann", .size = 25000001},
         NULL,
         "default: mta"},
        {"somebody else's login: no rule is left",
         {.sender = "ann@example.com", .login = "bob"},
         NULL,
         "default: mta"},
        {"no login; deferred, but the newsletter might have matched",
         {.sender = "ann@example.com"},
         "rule 4: defer 451 4.7.1 log in",
         "rule 4: defer 451 4.7.1 log in"},
        {"no login and maybe a newsletter",
         {.sender = "news@example.com"},
         NULL,
         "rule 4: defer 451 4.7.1 log in"},
        {"the null sender goes to no account",
         {.sender = "", .headers = "List-Unsubscribe: <x>\n"},
         NULL,
         "default: mta"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

static void
refusals_at_rcpt(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {name: a, match: {header: {X: 1}}, reject: '550 5.7.1 one'}\n"
        "  - {name: b, match: {sender: b@x}, reject: '550 5.7.1 one'}\n"
        "  - {name: c, match: {sender: c@x}, reject: '550 5.7.1 two'}\n"
        "  - {name: d, match: {sender: d@x, header: {X: 2}},\n"
        "     defer: '451 4.7.1 one'}\n"
        "  - {name: e, match: {sender: d@x}, reject: '550 5.7.1 one'}\n"
        "  - {name: f, match: {sender: f@x, size: '> 1'}, route: mta}\n"
        "  - {name: g, match: {sender: f@x}, reject: '550 5.7.1 one'}\n";
    static const struct row rows[] = {
        {"whatever the header is, the answer is the same",
         {.sender = "b@x"},
         "a: reject 550 5.7.1 one",
         "b: reject 550 5.7.1 one"},
        {"and so it is when the header is there",
         {.sender = "b@x", .headers = "X: 1\n"},
         "a: reject 550 5.7.1 one",
         "a: reject 550 5.7.1 one"},
        {"another text is another answer",
         {.sender = "c@x"},
         NULL,
         "c: reject 550 5.7.1 two"},
        {"deferred or rejected is not known yet",
         {.sender = "d@x", .headers = "X: 2\n"},
         NULL,
         "d: defer 451 4.7.1 one"},
        {"the MTA may still get it",
         {.sender = "f@x", .size = 1},
         NULL,
         "g: reject 550 5.7.1 one"},
        {"the default is no refusal",
         {.sender = "z@x", .headers = "X: 1\n"},
         NULL,
         "a: reject 550 5.7.1 one"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

static void
domains_of_the_mta(void **state)
{
    static const char yaml[] =
        ACCOUNTS "rules:\n"
                 "  - {name: no, match: {recipient: no@local.example},\n"
                 "     reject: '550 5.1.1 no'}\n"
                 "  - {name: all, route: {account: news}}\n";
    static const struct row rows[] = {
        {"outside",
         {.sender = "a@b", .recipient = "r@far.example"},
         NULL,
         "all: account news@gmail.com wait"},
        {"the domain",
         {.sender = "a@b", .recipient = "r@Local.Example."},
         NULL,
         "all: mta"},
        {"a subdomain",
         {.sender = "a@b", .recipient = "r@x.lan.example"},
         NULL,
         "all: mta"},
        {"not the parent of the subdomains",
         {.sender = "a@b", .recipient = "r@lan.example"},
         NULL,
         "all: account news@gmail.com wait"},
        {"quotes do not hide it",
         {.sender = "a@b", .recipient = "\"r@far.example\"@local.example"},
         NULL,
         "all: mta"},
        {"reject still applies",
         {.sender = "a@b", .recipient = "no@local.example"},
         "no: reject 550 5.1.1 no",
         "no: reject 550 5.1.1 no"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

static void
the_null_sender(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {name: all, match: {recipient: all@x}, route: {account: news}}\n"
        "  - {name: star, match: {recipient: star@x, sender: '*'},\n"
        "     route: {account: news}}\n"
        "  - {name: bounce, match: {recipient: bounce@x, kind: bounce},\n"
        "     route: {account: news}}\n"
        "  - {name: '<>', match: {recipient: null@x, sender: '<>'},\n"
        "     route: {account: news}}\n"
        "  - {name: staff, match: {recipient: staff@x, kind: bounce},\n"
        "     route: {account: staff}}\n"
        "  - {name: mta, match: {recipient: mta@x}, route: mta}\n"
        "  - {name: rest, reject: '550 5.7.1 no'}\n";
    static const struct row rows[] = {
        {"skipped",
         {.recipient = "all@x"},
         "rest: reject 550 5.7.1 no",
         "rest: reject 550 5.7.1 no"},
        {"a glob does not mean it",
         {.recipient = "star@x"},
         "rest: reject 550 5.7.1 no",
         "rest: reject 550 5.7.1 no"},
        {"kind: bounce means it",
         {.recipient = "bounce@x"},
         NULL,
         "bounce: account news@gmail.com wait"},
        {"<> means it",
         {.recipient = "null@x"},
         NULL,
         "<>: account news@gmail.com wait"},
        {"but fills no template",
         {.recipient = "staff@x"},
         "rest: reject 550 5.7.1 no",
         "rest: reject 550 5.7.1 no"},
        {"to the MTA as anybody", {.recipient = "mta@x"}, NULL, "mta: mta"},
        {"not a bounce",
         {.sender = "a@b", .recipient = "bounce@x"},
         "rest: reject 550 5.7.1 no",
         "rest: reject 550 5.7.1 no"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

static void
headers_decide(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {name: subject, match: {header: {Subject: '*gr\xc3\xbc\xc3\x9f"
        "e*'}},\n"
        "     reject: '550 5.7.1 subject'}\n"
        "  - {name: from, match: {from_domain: .example.com}, route: mta}\n"
        "  - {name: vip, match: {from: {list: vip}}, route: {account: news}}\n"
        "  - {name: list, match: {any: [{kind: [auto, bulk]},\n"
        "            {header: {X-Mailer: /^php/}}]},\n"
        "     reject: '550 5.7.1 bulk'}\n"
        "  - {name: not, match: {not: {any: [{from: '*@ok.example'},\n"
        "            {size: '< 1KiB'}]}}, reject: '550 5.7.1 not'}\n";
    static const struct row rows[] = {
        {"encoded and folded",
         {.headers = "Subject: liebe\n =?iso-8859-1?q?Gr=FC=DFe?= von\n"},
         NULL,
         "subject: reject 550 5.7.1 subject"},
        {"second From address",
         {.headers = "From: Ann <a@b>, \"x\" <c@D.Example.COM>\n"},
         NULL,
         "from: mta"},
        {"list",
         {.headers = "From: CEO <CEO@example.com>\n", .sender = "a@b"},
         NULL,
         "vip: account news@gmail.com wait"},
        {"glob in the list",
         {.headers = "From: x@board.example.com\n"},
         NULL,
         "from: mta"},
        {"kind",
         {.headers = "Precedence: bulk\n"},
         NULL,
         "list: reject 550 5.7.1 bulk"},
        {"expression",
         {.headers = "X-Mailer: PHP 8\n"},
         NULL,
         "list: reject 550 5.7.1 bulk"},
        {"not any",
         {.headers = "From: a@b\n", .size = 1024},
         NULL,
         "not: reject 550 5.7.1 not"},
        {"any", {.headers = "From: a@b\n", .size = 1023}, NULL, "default: mta"},
        {"the other of any",
         {.headers = "From: a@ok.example\n", .size = 1024},
         NULL,
         "default: mta"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

/* ---- broken headers ---- */

#define BROKEN_RULES                                                   \
    "rules:\n"                                                         \
    "  - {name: early, match: {sender: early@x}, route: mta}\n"        \
    "  - {name: vip, match: {from: ceo@example.com, sender: '*@x'},\n" \
    "     reject: '550 5.7.1 vip'}\n"                                  \
    "  - {name: rest, match: {sender: '*@x'}, reject: '550 5.7.1 vip'}\n"

static void
broken_headers_are_no(void **state)
{
    static const char yaml[] = ACCOUNTS BROKEN_RULES;
    struct policy *p = case_compile(yaml);
    struct mail m = {.sender = "a@x",
                     .recipient = "r@s",
                     .headers = "From: Boss <<ceo@example.com\n"};
    char got[CASE_TEXT];

    (void)state;
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "rest: reject 550 5.7.1 vip");
    assert_true(case_decision.unparseable);
    assert_false(case_decision.whole_message);
    case_decide(p, &m, FACTS_RCPT, NULL, got);
    assert_string_equal(got, "vip: reject 550 5.7.1 vip");

    m.headers = "From: Boss <ceo@example.com>\n";
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "vip: reject 550 5.7.1 vip");
    assert_false(case_decision.unparseable);
    policy_free(p);
}

static void
broken_headers_refuse(void **state)
{
    static const char yaml[] = ACCOUNTS "unparseable: reject\n" BROKEN_RULES;
    struct policy *p = case_compile(yaml);
    struct mail m = {.sender = "a@x",
                     .recipient = "r@s",
                     .headers = "From: Boss <<ceo@example.com\n"};
    char got[CASE_TEXT];

    (void)state;
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_memory_equal(got, "vip: reject 550 5.6.0 ", 22);
    assert_true(case_decision.whole_message);
    assert_true(case_decision.unparseable);
    assert_null(case_decision.plan);

    /* So nothing is certain before the header is there. */
    case_decide(p, &m, FACTS_RCPT, NULL, got);
    assert_string_equal(got, "unknown");

    /* A rule that does not depend on it is no reason to refuse. */
    m.sender = "early@x";
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "early: mta");
    m.sender = "a@y";
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "default: mta");
    assert_false(case_decision.whole_message);
    policy_free(p);
}

/* ---- why ---- */

static void
says_why_rules_failed(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {name: a, match: {sender_domain: c, auth: '*'}, route: mta}\n"
        "  - {name: b, route: {account: staff}}\n"
        "  - {name: c, route: {account: logins}}\n"
        "  - {match: {header: {X: 1}}, route: mta}\n"
        "  - {match: {size: ['> 1KB', 7]}, route: mta}\n"
        "  - {match: {not: {sender: '*@b'}}, route: mta}\n"
        "  - {match: {any: [{kind: bounce}, {from: x@y}]}, route: mta}\n"
        "  - {name: hit, route: {account: news}}\n"
        "  - {name: never, match: {sender: x@y}, route: mta}\n";
    static const char *const want[][2] = {
        {"a", "sender domain is b, want c"},
        {"b", "account staff: sender is a@b, of another domain"},
        {"c", "account logins: trust does not let this sender in; login is "
              "none"},
        {"rule 4", "x is not there, want 1"},
        {"rule 5", "size is 20, want > 1000 or 7"},
        {"rule 6", "not: sender is a@b, which is excluded"},
        {"rule 7", "none of 2, the first: kind is other, want bounce"},
    };
    struct policy *p = case_compile(yaml);
    struct why why[20];
    struct trace trace = {.max = LENGTH(why), .why = why};
    struct mail m = {.sender = "a@b", .recipient = "r@s", .size = 20};
    char got[CASE_TEXT];

    (void)state;
    case_decide(p, &m, FACTS_EOM, &trace, got);
    assert_string_equal(got, "hit: account news@gmail.com wait");
    assert_int_equal(trace.n, LENGTH(want));
    for (size_t i = 0; i < LENGTH(want); i++) {
        assert_string_equal(why[i].rule, want[i][0]);
        assert_string_equal(why[i].failed, want[i][1]);
        assert_string_equal(why[i].at.file, "/etc/gmroute/gmroute.yaml");
        assert_int_equal(why[i].at.line, why[0].at.line + i);
    }

    /* No more than there is room for. */
    trace.max = 3;
    case_decide(p, &m, FACTS_EOM, &trace, got);
    assert_int_equal(trace.n, 3);
    policy_free(p);
}

static void
says_why_the_null_sender_was_skipped(void **state)
{
    struct policy *p = case_compile(
        ACCOUNTS "rules:\n  - {name: a, route: {account: news}}\n");
    struct why why[2];
    struct trace trace = {.max = LENGTH(why), .why = why};
    struct mail m = {.recipient = "r@s"};
    char got[CASE_TEXT];

    (void)state;
    case_decide(p, &m, FACTS_EOM, &trace, got);
    assert_string_equal(got, "default: mta");
    assert_int_equal(trace.n, 1);
    assert_memory_equal(why[0].failed, "sender is <>", 12);
    policy_free(p);
}

static void
knows_its_place(void **state)
{
    struct policy *p = case_compile("gmroute: 1\n"
                                    "rules:\n"
                                    "  - {match: {sender: a@b}, route: mta}\n"
                                    "default: mta\n");
    struct mail m = {.sender = "a@b", .recipient = "r@s"};
    char got[CASE_TEXT];

    (void)state;
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "rule 1: mta");
    assert_int_equal(case_decision.at.line, 3);
    m.sender = "b@b";
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "default: mta");
    assert_int_equal(case_decision.at.line, 4);
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_match_wins),
        cmocka_unit_test(refusals_at_rcpt),
        cmocka_unit_test(domains_of_the_mta),
        cmocka_unit_test(the_null_sender),
        cmocka_unit_test(headers_decide),
        cmocka_unit_test(broken_headers_are_no),
        cmocka_unit_test(broken_headers_refuse),
        cmocka_unit_test(says_why_rules_failed),
        cmocka_unit_test(says_why_the_null_sender_was_skipped),
        cmocka_unit_test(knows_its_place),
    };

    return cmocka_run_group_tests_name("policy/decide", tests, case_setup,
                                       case_teardown);
}
