/* tests/unit/filter/test_message_edits.c - mirrors
 * milter/filter/message_edits.c: the header, and an MTA that refuses
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

#include "tests/unit/filter/filter_case.h"

#define TAGGED(a) "del " a "; tag " a " sales@example.com"

static const char rules[] = ACCOUNTS
    "rules:\n"
    "  - {name: late, match: {header: {X-Late: '*'}},\n"
    "     reject: '550 5.7.1 Not with that header'}\n"
    "  - {name: one, match: {recipient_domain: one.test},\n"
    "     route: {account: sales},\n"
    "     remove_header: [X-A, X-B], add_header: {X-One: '1'}}\n"
    "  - {name: two, match: {recipient_domain: two.test}, route: mta,\n"
    "     remove_header: [x-a, X-One], add_header: {X-ONE: '1', X-Two: t}}\n"
    "  - {name: three, match: {recipient_domain: three.test}, hold: odd,\n"
    "     add_header: {X-One: '3'}}\n"
    "  - {name: no, match: {recipient_domain: no.test},\n"
    "     reject: '550 5.7.1 No'}\n"
    "  - {name: gone, match: {recipient_domain: gone.test}, discard: true}\n"
    "default: mta\n";

static const struct row headers[] = {
    {"added, nothing to remove",
     {.rcpt = {"<a@one.test>"}, .headers = "Subject: x\n"},
     "250; +X-One: 1; " TAGGED("a@one.test")},
    {"removed",
     {.rcpt = {"<a@one.test>"}, .headers = "Subject: x\nX-A: 1\n"},
     "250; -X-A[1]; +X-One: 1; " TAGGED("a@one.test")},
    {"every field of the name, the last one first, in any case",
     {.rcpt = {"<a@one.test>"},
      .headers = "x-a: 1\nX-AB: 2\nX-A:3\nX-B: 4\nX-a: 5\n"},
     "250; -X-A[3]; -X-A[2]; -X-A[1]; -X-B[1]; +X-One: 1; " TAGGED(
         "a@one.test")},
    {"one rule for two recipients edits once",
     {.rcpt = {"<a@one.test>", "<b@one.test>"}, .headers = "X-A: 1\n"},
     "250; -X-A[1]; +X-One: 1; " TAGGED("a@one.test") "; " TAGGED(
         "b@one.test")},
    {"two rules: what both say is done once",
     {.rcpt = {"<a@one.test>", "<b@two.test>"}, .headers = "X-A: 1\n"},
     "250; -X-A[1]; +X-One: 1; +X-Two: t; " TAGGED("a@one.test")},
    {"no rule removes what another one adds",
     {.rcpt = {"<a@one.test>", "<b@two.test>"}, .headers = "X-One: old\n"},
     "250; -X-One[1]; +X-One: 1; +X-Two: t; " TAGGED("a@one.test")},
    {"the same name with another value is another field",
     {.rcpt = {"<b@two.test>", "<c@three.test>"}},
     "250; hold odd; +X-ONE: 1; +X-Two: t; +X-One: 3"},
    {"beside discarded and refused ones",
     {.rcpt = {"<g@gone.test>", "<n@no.test>", "<b@two.test>"}},
     "250; +X-ONE: 1; +X-Two: t; del g@gone.test; del n@no.test; "
     "tag n@no.test refuse"},
    {"no rule that edits, no edit",
     {.rcpt = {"<a@far.test>"}, .headers = "X-A: 1\n"},
     "250"},
    {"a refused message is not edited",
     {.rcpt = {"<a@one.test>", "<b@two.test>", "<c@three.test>"},
      .headers = "X-A: 1\nX-Late: y\n"},
     "550 5.7.1 Not with that header"},
};

static void
the_header_is_edited_for_all(void **state)
{
    (void)state;
    case_rows(rules, headers, LENGTH(headers));
}

/* Behind a content filter: ACCOUNTS has its address in reinject_from. */
static void
a_second_pass_adds_nothing_twice(void **state)
{
    struct mail m = {.rcpt = {"<b@two.test>"},
                     .headers = "x-two:  t\nX-ONE: 1\n",
                     .client = "9"};

    (void)state;
    case_open(rules);
    /* X-One is removed by the rule, and so is added again. */
    assert_string_equal(case_send(&m), "250; -X-One[1]; +X-ONE: 1");
    m.headers = "X-Two: other\n";
    assert_string_equal(case_send(&m), "250; +X-ONE: 1; +X-Two: t");
    m.headers = "X-Two: t\n";
    m.client = NULL; /* anybody can write that */
    assert_string_equal(case_send(&m), "250; +X-ONE: 1; +X-Two: t");
    case_close();
}

static void
edits_are_logged_with_their_rule(void **state)
{
    struct mail m = {.rcpt = {"<a@one.test>", "<b@two.test>"}};

    (void)state;
    case_open(rules);
    case_send(&m);
    case_log_has("queue=QUEUEID from=someone@else.test rule=one "
                 "remove_header=X-A remove_header=X-B add_header=X-One\n");
    case_log_has("rule=two remove_header=x-a remove_header=X-One "
                 "add_header=X-ONE add_header=X-Two\n");
    m.rcpt[1] = "<b@one.test>"; /* one rule: one line */
    case_send(&m);
    case_log_has("add_header");
    assert_null(strstr(strstr(case_log, "add_header") + 1, "add_header"));
    m.headers = "X-Late: y\n";
    case_send(&m);
    case_log_lacks("add_header");
    case_close();
}

/* The fields that would be left in could be the ones that must not leave. */
static void
a_header_that_cannot_be_counted_is_refused(void **state)
{
    enum { FIELDS = 4097, FIELD = sizeof "X-A: 1\n" - 1 };
    char *many = malloc(FIELDS * FIELD + 1);
    struct mail m = {.rcpt = {"<a@one.test>"}, .headers = many};
    struct session *s;

    (void)state;
    assert_non_null(many);
    for (size_t i = 0; i < FIELDS; i++)
        memcpy(many + i * FIELD, "X-A: 1\n", FIELD + 1);
    case_open(rules);
    assert_string_equal(case_send(&m),
                        "550 5.6.0 The message has too many header fields");
    m.rcpt[0] = "<c@three.test>"; /* adding needs no counting */
    assert_string_equal(case_send(&m), "250; hold odd; +X-One: 3");
    m.rcpt[0] = "<b@two.test>";
    s = case_connect(&m);
    assert_memory_equal(case_send_over(s, &m), "550 5.6.0 ", 10);
    many[(FIELDS - 1) * FIELD] = 0; /* as many as are kept */
    case_send_over(s, &m);
    assert_int_equal(case_edits, FIELDS - 1 + 2);
    session_free(s);
    free(many);
    case_close();
}

/* Property: whichever edit the MTA refuses, the message is deferred, nothing
 * is tried behind it, and nothing counts as done. */
static void
every_edit_may_be_refused(void **state)
{
    const struct mail m = {
        .rcpt = {"<a@one.test>", "<b@two.test>", "<c@three.test>",
                 "<n@no.test>", "<g@gone.test>", "<A@one.test>"},
        .headers = "X-A: 1\nX-B: 2\nX-A: 3\n"};
    unsigned n;

    (void)state;
    case_open(rules);
    assert_memory_equal(case_send(&m), "250; ", 5);
    n = case_edits;
    assert_int_equal(n, 1 + 3 + 3 + 2 + 2 + 1 + 1);
    for (unsigned i = 1; i <= n; i++) {
        case_open(rules);
        case_refuse_edit = i;
        assert_memory_equal(case_send(&m),
                            "451 4.3.0 gmroute: temporary failure; ", 38);
        assert_int_equal(case_edits, i);
        assert_int_equal(case_count(HINTS_FAILED), 1);
        assert_int_equal(case_count(HINTS_ROUTED), 0);
        case_log_has("the MTA refused an edit");
        case_log_lacks("ticket=");
        /* And the next message is as if nothing had been. */
        case_refuse_edit = 0;
        assert_memory_equal(case_send(&m), "250; ", 5);
        assert_int_equal(case_edits, n);
    }
    case_close();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_header_is_edited_for_all),
        cmocka_unit_test(edits_are_logged_with_their_rule),
        cmocka_unit_test(a_second_pass_adds_nothing_twice),
        cmocka_unit_test(a_header_that_cannot_be_counted_is_refused),
        cmocka_unit_test(every_edit_may_be_refused),
    };

    return cmocka_run_group_tests_name("filter/message_edits", tests, NULL,
                                       NULL);
}
