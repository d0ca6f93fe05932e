/* tests/unit/policy/test_decide_log.c - decide() on what a mail log tells
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy/decide_case.h"

static const char yaml[] =
    ACCOUNTS "unparseable: reject\n"
             "rules:\n"
             "- {name: big, match: {size: '> 1MB'}, route: mta}\n"
             "- {name: id, match: {header: {Message-ID: '*@lists>'}}, route: "
             "{account: news}}\n"
             "- {name: local, match: {recipient_domain: local.example}, route: "
             "{account: news}}\n"
             "- {name: cron, match: {sender: cron@example.com, subject: x}, "
             "reject: '550 5.7.1 no'}\n"
             "- {name: trusted, match: {sender: ann@example.com, header: {X: "
             "y}}, route: {account: logins}}\n"
             "- {name: far, match: {sender_domain: example.com}, route: "
             "{account: sales}}\n"
             "default: {account: logins}\n";

static const struct {
    const char *name;
    struct mail mail;
    const char *want, *rule; /* who decided, or who could not */
} rows[] = {
    {"a size is told",
     {.sender = "cron@example.com", .size = 2000000},
     "big: mta",
     "big"},
    {"so is a Message-ID",
     {.sender = "x@y", .headers = "Message-ID: <1@lists>\n"},
     "id: account news@gmail.com wait",
     "id"},
    {"the envelope decides",
     {.sender = "bob@example.com", .headers = "Message-ID: <1@x>\n"},
     "far: account Sales@example.com wait",
     "far"},
    {"the first rule that hangs on more ends it",
     {.sender = "cron@example.com", .headers = "Message-ID: <1@x>\n"},
     "unknown",
     "cron"},
    {"a Message-ID that is not in the log",
     {.sender = "bob@example.com"},
     "unknown",
     "id"},
    {"a rule nobody can serve is passed, known or not",
     {.sender = "ann@example.com", .headers = "Message-ID: <1@x>\n"},
     "far: account Sales@example.com wait",
     "far"},
    {"the MTA's domains",
     {.sender = "x@y",
      .recipient = "r@local.example",
      .headers = "Message-ID: <1@x>\n"},
     "local: mta",
     "local"},
    {"a default that serves nobody",
     {.sender = "x@y", .headers = "Message-ID: <1@x>\n"},
     "default: mta",
     NULL},
};

static void
from_a_log(void **state)
{
    struct policy *p = case_compile(yaml);
    char got[CASE_TEXT];

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct mail m = rows[i].mail;
        const struct decision *d = &case_decision;

        if (m.recipient == NULL)
            m.recipient = "r@far.example";
        m.client = "1";
        print_message("  %s\n", rows[i].name);
        case_decide(p, &m, FACTS_LOG, NULL, got);
        assert_string_equal(got, rows[i].want);
        if (rows[i].rule == NULL) {
            assert_null(d->rule);
        } else {
            assert_string_equal(d->rule, rows[i].rule);
            assert_int_not_equal(d->at.line, 0);
        }
        if (d->action == ACTION_UNKNOWN) {
            assert_null(d->reply);
            assert_null(d->plan);
            assert_int_equal(d->n_candidates, 0);
        }
        /* At the end of the message all is known. */
        case_decide(p, &m, FACTS_EOM, NULL, got);
        assert_int_not_equal(d->action, ACTION_UNKNOWN);
    }
    policy_free(p);
}

/* Whoever brought a message that only our ledger tells of. */
static void
the_client_of_a_ledger(void **state)
{
    struct policy *p = case_compile(
        ACCOUNTS "rules:\n"
                 "- {name: a, match: {sender: a@b, client: 192.0.2.1}, route: "
                 "mta}\n"
                 "- {name: net, match: {client: 192.0.2.0/28}, route: mta}\n"
                 "- {name: all, route: mta}\n");
    struct mail m = {.sender = "x@y", .recipient = "r@far.example"};
    char got[CASE_TEXT];

    (void)state;
    case_decide(p, &m, FACTS_LOG, NULL, got);
    assert_string_equal(got, "unknown");
    assert_string_equal(case_decision.rule, "net");
    m.client = "20"; /* it is told, and another */
    case_decide(p, &m, FACTS_LOG, NULL, got);
    assert_string_equal(got, "all: mta");
    m.client = NULL;
    m.local = true; /* nobody came over the network */
    case_decide(p, &m, FACTS_LOG, NULL, got);
    assert_string_equal(got, "all: mta");
    m.local = false;
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "all: mta");
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_a_log),
        cmocka_unit_test(the_client_of_a_ledger),
    };

    return cmocka_run_group_tests_name("policy/decide_log", tests, case_setup,
                                       case_teardown);
}
