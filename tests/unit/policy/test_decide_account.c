/* tests/unit/policy/test_decide_account.c - mirrors policy/decide_account.c
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

static void
who_may_use_an_account(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {name: l, match: {recipient: l@x}, route: {account: logins}}\n"
        "  - {name: s, route: {account: staff}}\n";
    static const struct row rows[] = {
        {"login is the address",
         {.sender = "ann@example.com", .login = "Ann@Example.COM"},
         NULL,
         "s: account ann@example.com(staff) wait"},
        {"login is the local part",
         {.sender = "ann@example.com", .login = "ann"},
         NULL,
         "s: account ann@example.com(staff) wait"},
        {"login is somebody else",
         {.sender = "ann@example.com", .login = "bob"},
         NULL,
         "default: mta"},
        {"login of another domain",
         {.sender = "ann@example.com", .login = "ann@evil.example"},
         NULL,
         "default: mta"},
        {"login is a prefix",
         {.sender = "ann@example.com", .login = "an"},
         NULL,
         "default: mta"},
        {"no login", {.sender = "ann@example.com"}, NULL, "default: mta"},
        {"the sendmail command",
         {.sender = "ann@example.com", .local = true},
         NULL,
         "s: account ann@example.com(staff) wait"},
        {"another domain",
         {.sender = "ann@other.example", .login = "ann@other.example"},
         NULL,
         "default: mta"},
        {"a subdomain",
         {.sender = "ann@x.example.com", .local = true},
         NULL,
         "default: mta"},
        {"quotes are taken off",
         {.sender = "\"ann\"@example.com", .login = "ann"},
         NULL,
         "s: account ann@example.com(staff) wait"},
        {"no mailbox has such a name",
         {.sender = "\"a b\"@example.com", .local = true},
         NULL,
         "default: mta"},
        {"no mailbox has an @",
         {.sender = "\"a@b\"@example.com", .local = true},
         NULL,
         "default: mta"},
        {"a star is no name",
         {.sender = "*@example.com", .local = true},
         NULL,
         "default: mta"},
        {"a + in front is no extension",
         {.sender = "+ann@example.com", .local = true},
         NULL,
         "s: account +ann@example.com(staff) wait"},
        {"sender without domain",
         {.sender = "root", .local = true},
         NULL,
         "default: mta"},
        {"in the file of logins",
         {.sender = "x@y", .recipient = "l@x", .login = "MAILER"},
         NULL,
         "l: account logins@example.com wait"},
        {"not in the file",
         {.sender = "logins@example.com", .recipient = "l@x", .login = "ann"},
         NULL,
         "default: mta"},
        {"a template that is a named account is that account",
         {.sender = "sales@example.com", .login = "sales"},
         NULL,
         "s: account Sales@example.com wait"},
        {"and asks what it asks",
         {.sender = "logins@example.com", .login = "logins"},
         NULL,
         "default: mta"},
        {"of the template and of the account",
         {.sender = "sales@example.com", .login = "mailer"},
         NULL,
         "default: mta"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

static void
trusted_clients(void **state)
{
    static const char yaml[] =
        "gmroute: 1\n"
        "accounts:\n"
        "  staff:\n"
        "    address: '*@example.com'\n"
        "    auth: {service_account: {key_file: sa.json}}\n"
        "    trust: [{clients: [192.0.2.0/28]}]\n"
        "    quota: workspace\n"
        "rules:\n"
        "  - {name: s, route: {account: staff}}\n";
    static const struct row rows[] = {
        {"inside",
         {.sender = "a@example.com", .client = "15"},
         NULL,
         "s: account a@example.com(staff) wait"},
        {"outside",
         {.sender = "a@example.com", .client = "16"},
         NULL,
         "default: mta"},
        {"not known", {.sender = "a@example.com"}, NULL, "default: mta"},
        {"a login does not help",
         {.sender = "a@example.com", .login = "a"},
         NULL,
         "default: mta"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

static void
mapped_senders(void **state)
{
    static const char yaml[] =
        "gmroute: 1\n"
        "accounts:\n"
        "  staff:\n"
        "    address: '*@example.com'\n"
        "    map: {file: mailboxes.txt}\n"
        "    trust: [any]\n"
        "    auth: {service_account: {key_file: sa.json}}\n"
        "    quota: workspace\n"
        "rules:\n"
        "  - {name: s, route: {account: staff}}\n";
    static const struct row rows[] = {
        {"by the whole address",
         {.sender = "Info@example.com"},
         NULL,
         "s: account ann@example.com(staff) wait"},
        {"by the local part",
         {.sender = "boss@example.com"},
         NULL,
         "s: account carl@example.com(staff) wait"},
        {"without the extension",
         {.sender = "old.name+x@example.com"},
         NULL,
         "s: account bob@example.com(staff) wait"},
        {"a mailbox stands for itself",
         {.sender = "ann@example.com"},
         NULL,
         "s: account ann@example.com(staff) wait"},
        {"also with an extension",
         {.sender = "carl+y@example.com"},
         NULL,
         "s: account carl@example.com(staff) wait"},
        {"not in the map",
         {.sender = "dora@example.com"},
         NULL,
         "default: mta"},
        {"another domain, same name",
         {.sender = "boss@other.example"},
         NULL,
         "default: mta"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

static void
what_otherwise_says(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {name: a, match: {recipient: a@x}, route: {account: staff},\n"
        "     otherwise: [mta]}\n"
        "  - {name: b, match: {recipient: b@x}, route: {account: staff},\n"
        "     otherwise: [{pool: bulk}, defer]}\n"
        "  - {name: c, match: {recipient: c@x}, route: {pool: mixed},\n"
        "     otherwise: [{account: news}, {account: sales}, reject]}\n"
        "  - {name: rest, reject: '550 5.7.1 no'}\n";
    struct policy *p;
    struct mail m = {.sender = "ann@example.com", .recipient = "b@x"};
    char got[CASE_TEXT];
    static const struct row rows[] = {
        {"first choice and the MTA",
         {.sender = "ann@example.com", .login = "ann", .recipient = "a@x"},
         NULL,
         "a: account ann@example.com(staff) mta"},
        {"no account serves the sender: the rule is not for it",
         {.sender = "ann@other.example", .recipient = "a@x"},
         "rest: reject 550 5.7.1 no",
         "rest: reject 550 5.7.1 no"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));

    /* Texts of bare `defer` and `reject` are the compiler's. */
    p = case_compile(yaml);
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_memory_equal(got,
                        "b: account news@gmail.com[bulk] "
                        "Sales@example.com[bulk] defer(4",
                        62);
    m.recipient = "c@x";
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_memory_equal(got,
                        "c: account news@gmail.com[mixed] Sales@example.com "
                        "reject(5",
                        59);
    assert_int_equal(case_decision.n_candidates, 3);
    assert_non_null(case_decision.plan);
    policy_free(p);
}

static void
default_that_cannot_serve(void **state)
{
    static const char yaml[] = ACCOUNTS "default: {account: staff}\n";
    static const struct row rows[] = {
        {"serves",
         {.sender = "ann@example.com", .login = "ann"},
         NULL,
         "default: account ann@example.com(staff) wait"},
        {"does not", {.sender = "ann@example.com"}, NULL, "default: mta"},
        {"null sender", {.sender = ""}, NULL, "default: mta"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

/* ---- the agent's questions ---- */

static void
candidates_without_trust(void **state)
{
    struct policy *p = case_compile(
        ACCOUNTS
        "rules:\n"
        "  - {route: {account: staff}, otherwise: [{account: news}, wait]}\n");
    static struct candidate c[CANDIDATES_MAX];
    unsigned n;

    (void)state;
    assert_int_equal(p->n_plans > 0, true);
    for (size_t i = 0; i < p->n_plans; i++) {
        if (p->plans[i]->n != 3)
            continue;
        n = decide_candidates(p, p->plans[i], SLICE_LIT("ann@example.com"), c);
        assert_int_equal(n, 3);
        assert_string_equal(c[0].mailbox.address, "ann@example.com");
        assert_string_equal(c[1].mailbox.address, "news@gmail.com");
        assert_int_equal(c[2].kind, STEP_WAIT);
        n = decide_candidates(p, p->plans[i], SLICE_LIT(""), c);
        assert_int_equal(n, 2); /* the template is left out */
    }
    policy_free(p);
}

static void
from_that_is_allowed(void **state)
{
    static const struct {
        const char *name, *headers;
        bool want;
    } rows[] = {
        {"its address", "From: Sales <SALES@example.com>\n", true},
        {"an alias", "From: info@example.com\n", true},
        {"a domain", "From: x@promo.example.com\n", true},
        {"no subdomain of it", "From: x@a.promo.example.com\n", false},
        {"no longer domain", "From: x@evilpromo.example.com\n", false},
        {"another", "From: x@example.com\n", false},
        {"several, all good", "From: sales@example.com, info@example.com\n",
         true},
        {"several, one bad", "From: sales@example.com, x@example.com\n", false},
        {"two fields, one bad",
         "From: sales@example.com\nFROM: x@example.com\n", false},
        {"two fields, both good",
         "From: sales@example.com\nFrom: info@example.com\n", true},
        {"only the name", "From: \"sales@example.com\" <x@y>\n", false},
        {"only the name, without quotes", "From: sales@example.com <x@y>\n",
         false},
        {"it is the name of another", "From: x@y <sales@example.com>\n", false},
        {"a name that others take for an address",
         "From: =?utf-8?q?,x@y,?= <sales@example.com>\n", false},
        {"space before the colon of another",
         "From : x@y\nFrom: sales@example.com\n", false},
        {"only a route", "From: <@sales@example.com:x@y>\n", false},
        {"garbage", "From: sales\n", false},
        {"good and garbage", "From: sales@example.com, sales\n", false},
        {"nothing in it", "From: \n", false},
        {"an empty group", "From: nobody:;\n", false},
        {"none at all", "Subject: sales@example.com\n", false},
    };
    struct policy *p = case_compile(ACCOUNTS);
    const struct account *sales = policy_account(p, "sales");

    (void)state;
    assert_non_null(sales);
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct mail mail = {.sender = "a@b", .headers = rows[i].headers};
        struct facts_pair h[CASE_HEADERS_MAX];
        struct facts f = case_facts(&mail, FACTS_EOM, h);
        struct mailbox m;

        print_message("  %s\n", rows[i].name);
        assert_true(decide_mailbox(sales, &f, &m, NULL));
        assert_int_equal(decide_from_allowed(&m, &f), rows[i].want);
    }
    policy_free(p);
}

static void
mailbox_says_why_not(void **state)
{
    struct policy *p = case_compile(ACCOUNTS);
    const struct facts f = {.sender = SLICE_LIT("a@far.example")};
    struct mailbox m = {.id = 7};
    char why[WHY_TEXT] = "";

    (void)state;
    assert_false(decide_mailbox(policy_account(p, "staff"), &f, &m, why));
    assert_string_equal(why, "sender is a@far.example, of another domain");
    assert_int_equal(m.id, 7); /* untouched */
    assert_true(decide_mailbox(policy_account(p, "news"), &f, &m, why));
    assert_string_equal(m.address, "news@gmail.com");
    assert_true(m.id != 0 && m.id != 7);
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_may_use_an_account),
        cmocka_unit_test(trusted_clients),
        cmocka_unit_test(mapped_senders),
        cmocka_unit_test(what_otherwise_says),
        cmocka_unit_test(default_that_cannot_serve),
        cmocka_unit_test(candidates_without_trust),
        cmocka_unit_test(from_that_is_allowed),
        cmocka_unit_test(mailbox_says_why_not),
    };

    return cmocka_run_group_tests_name("policy/decide_account", tests,
                                       case_setup, case_teardown);
}
