/* tests/unit/policy/test_decide_actions.c - policy/decide.c: hold, discard,
 * header edits and shadows
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy/decide_case.h"

static void
hold_and_discard(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {name: hold, match: {sender: hold@x}, hold: ask the boss}\n"
        "  - {name: gone, match: {sender: gone@x}, discard: true}\n"
        "  - {name: refuse, match: {sender: '*@x'}, reject: '550 5.7.1 no'}\n"
        "  - {name: late, match: {header: {X: h}}, hold: look}\n"
        "  - {name: all, match: {sender: '?*'}, reject: '550 5.7.1 all'}\n"
        "  - {name: bounce, match: {recipient: b@far.example}, hold: ask}\n";
    static const struct row rows[] = {
        {"a hold is no refusal at RCPT",
         {.sender = "hold@x"},
         NULL,
         "hold: hold ask the boss"},
        {"nor is a discard", {.sender = "gone@x"}, NULL, "gone: discard"},
        {"a reject is",
         {.sender = "b@x"},
         "refuse: reject 550 5.7.1 no",
         "refuse: reject 550 5.7.1 no"},
        {"a hold that may come makes a reject late",
         {.sender = "c@y", .headers = "X: z\n"},
         NULL,
         "all: reject 550 5.7.1 all"},
        {"and may come",
         {.sender = "c@y", .headers = "X: h\n"},
         NULL,
         "late: hold look"},
        {"domains of the MTA can be held",
         {.sender = "hold@x", .recipient = "r@local.example"},
         NULL,
         "hold: hold ask the boss"},
        {"and dropped",
         {.sender = "gone@x", .recipient = "r@a.lan.example"},
         NULL,
         "gone: discard"},
        {"the null sender can be held by any rule",
         {.sender = "", .recipient = "b@far.example"},
         NULL,
         "bounce: hold ask"},
    };

    (void)state;
    case_rows(yaml, rows, LENGTH(rows));
}

/* ---- edits ---- */

/* "-name ... +name=value ..." of the last decision */
static const char *
show_edits(void)
{
    static char text[CASE_TEXT];
    const struct header_edits *e = case_decision.edits;
    size_t n = 0;

    text[0] = '\0';
    for (size_t i = 0; e != NULL && i < e->n_remove; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "-%s ", e->remove[i]);
    for (size_t i = 0; e != NULL && i < e->n_add; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "+%s=%s ",
                              e->add[i].name, e->add[i].value);
    return text;
}

static void
edits_go_with_what_goes_on(void **state)
{
    struct policy *p = case_compile(
        ACCOUNTS "unparseable: reject\n"
                 "rules:\n"
                 "  - {name: shadow, add_header: {X: shadow}, hold: x,\n"
                 "     shadow: yes}\n"
                 "  - {name: mta, match: {sender: mta@x}, route: mta,\n"
                 "     remove_header: [X-A, X-B], add_header: {X: mta}}\n"
                 "  - {name: news, match: {sender: news@x},\n"
                 "     route: {account: news}, add_header: {X: news}}\n"
                 "  - {name: staff, match: {sender: staff@x},\n"
                 "     route: {account: staff}, add_header: {X: staff}}\n"
                 "  - {name: hold, match: {sender: hold@x}, hold: x,\n"
                 "     add_header: {X: hold}}\n"
                 "  - {name: gone, match: {sender: gone@x}, discard: true,\n"
                 "     add_header: {X: gone}}\n"
                 "  - {name: no, match: {sender: no@x}, defer: 450 4.7.1 x,\n"
                 "     add_header: {X: no}}\n"
                 "  - {name: from, match: {from: '*@x'}, route: mta,\n"
                 "     add_header: {X: from}}\n");
    static const struct {
        struct mail mail;
        const char *got, *edits;
    } rows[] = {
        {{.sender = "mta@x"}, "mta: mta", "-X-A -X-B +X=mta "},
        {{.sender = "news@x"}, "news: account news@gmail.com wait", "+X=news "},
        {{.sender = "news@x", .recipient = "r@local.example"},
         "news: mta",
         "+X=news "},
        /* No account serves it: another rule decides. */
        {{.sender = "staff@x"}, "default: mta", ""},
        {{.sender = "hold@x"}, "hold: hold x", "+X=hold "},
        {{.sender = "gone@x"}, "gone: discard", ""},
        {{.sender = "no@x"}, "no: defer 450 4.7.1 x", ""},
        {{.sender = "a@x", .headers = "From: a@x\n"}, "from: mta", "+X=from "},
        {{.sender = "a@x", .headers = "From: @@@\n"},
         "from: reject 550 5.6.0 A header of the message cannot be parsed",
         ""},
    };
    char got[CASE_TEXT];

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct mail m = rows[i].mail;

        if (m.recipient == NULL)
            m.recipient = "r@far.example";
        case_decide(p, &m, FACTS_EOM, NULL, got);
        assert_string_equal(got, rows[i].got);
        assert_string_equal(show_edits(), rows[i].edits);
        case_decide(p, &m, FACTS_RCPT, NULL, got);
        assert_string_equal(show_edits(), "");
    }
    policy_free(p);
}

/* ---- shadows ---- */

static const char shadows_yaml[] = ACCOUNTS
    "unparseable: reject\n"
    "rules:\n"
    "  - {name: s1, match: {header: {X: '*'}}, hold: x, shadow: yes}\n"
    "  - {name: s2, match: {from: '*@gmail.com'}, reject: 550 5.7.1 s,\n"
    "     shadow: yes}\n"
    "  - {name: s3, route: {account: staff}, shadow: yes}\n"
    "  - {name: s4, match: {auth: bulk}, route: {pool: bulk}, shadow: yes}\n"
    "  - {name: s5, match: {auth: z}, discard: true, shadow: yes}\n"
    "  - {name: s6, match: {auth: z}, defer: 450 4.7.1 x, shadow: yes}\n"
    "  - {name: no, match: {recipient: no@far.example},\n"
    "     reject: 550 5.7.1 no}\n"
    "  - {name: yes, match: {auth: '*'}, route: mta}\n"
    "  - {name: s7, route: mta, shadow: yes}\n";

/* "name=action ..." of the last decision */
static const char *
show_shadows(void)
{
    static char text[CASE_TEXT];
    size_t n = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < case_decision.n_shadows; i++) {
        const struct shadow *s = &case_decision.shadow[i];

        n +=
            (size_t)snprintf(text + n, sizeof text - n, "%s%s=%s",
                             i > 0 ? " " : "", s->rule, action_name(s->action));
        assert_true((s->plan != NULL) == (s->action == ACTION_ACCOUNT));
        assert_true(s->at.line > 0 && s->at.file != NULL);
    }
    return text;
}

static void
shadows_only_say(void **state)
{
    static const struct {
        const char *name;
        struct mail mail;
        const char *at_rcpt, *at_end, *shadows;
    } rows[] = {
        {"nothing matches but the last",
         {.sender = "a@b", .headers = "From: a@b\n"},
         "unknown",
         "default: mta",
         "s7=mta"},
        {"those behind the rule that decides are not asked",
         {.sender = "a@b", .login = "l", .headers = "From: a@b\n"},
         "unknown",
         "yes: mta",
         ""},
        {"a reject at RCPT stays certain",
         {.sender = "a@b",
          .recipient = "no@far.example",
          .headers = "From: a@gmail.com\nX: y\n"},
         "no: reject 550 5.7.1 no",
         "no: reject 550 5.7.1 no",
         "s1=hold s2=reject"},
        {"a route that serves nobody would not have decided",
         {.sender = "ann@example.com", .headers = "From: a@b\n"},
         "unknown",
         "default: mta",
         "s7=mta"},
        {"one that does would",
         {.sender = "ann@example.com",
          .login = "ann",
          .headers = "From: a@b\n"},
         "unknown",
         "yes: mta",
         "s3=account"},
        {"not to a domain of the MTA",
         {.sender = "ann@example.com",
          .login = "ann",
          .recipient = "r@local.example",
          .headers = "From: a@b\n"},
         "unknown",
         "yes: mta",
         "s3=mta"},
        {"nor the null sender",
         {.sender = "", .login = "bulk", .headers = "From: a@b\n"},
         "unknown",
         "yes: mta",
         ""},
        {"pools, discard and defer",
         {.sender = "a@b", .login = "bulk", .headers = "From: a@b\n"},
         "unknown",
         "yes: mta",
         "s4=account"},
        {"two for one",
         {.sender = "a@b", .login = "z", .headers = "From: a@b\n"},
         "unknown",
         "yes: mta",
         "s5=discard s6=defer"},
        {"a From that cannot be read: no shadow refuses it",
         {.sender = "a@b", .login = "z", .headers = "From: @@@\n"},
         "unknown",
         "yes: mta",
         "s5=discard s6=defer"},
    };
    struct policy *p = case_compile(shadows_yaml);
    char got[CASE_TEXT];

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct mail m = rows[i].mail;

        if (m.recipient == NULL)
            m.recipient = "r@far.example";
        print_message("  %s\n", rows[i].name);
        case_decide(p, &m, FACTS_RCPT, NULL, got);
        assert_string_equal(got, rows[i].at_rcpt);
        assert_int_equal(case_decision.n_shadows, 0);
        case_decide(p, &m, FACTS_EOM, NULL, got);
        assert_string_equal(got, rows[i].at_end);
        assert_string_equal(show_shadows(), rows[i].shadows);
    }
    policy_free(p);
}

static void
shadows_in_the_trace(void **state)
{
    static const struct {
        const char *rule, *failed;
    } want[] = {
        {"s1", "shadow: would have held it"},
        {"s2", "shadow: would have rejected it"},
        {"s3", "account staff: sender is a@b, of another domain"},
        {"s4", "shadow: would have routed it to pool bulk"},
        {"s5", "login is bulk, want z"},
        {"s6", "login is bulk, want z"},
        {"no", "recipient is r@far.example, want no@far.example"},
    };
    struct mail m = {.sender = "a@b",
                     .recipient = "r@far.example",
                     .login = "bulk",
                     .headers = "From: a@gmail.com\nX: y\n"};
    struct policy *p = case_compile(shadows_yaml);
    struct why why[20];
    struct trace trace = {.max = LENGTH(why), .why = why};
    char got[CASE_TEXT];

    (void)state;
    case_decide(p, &m, FACTS_EOM, &trace, got);
    assert_string_equal(got, "yes: mta");
    assert_int_equal(trace.n, LENGTH(want));
    for (size_t i = 0; i < LENGTH(want); i++) {
        assert_string_equal(why[i].rule, want[i].rule);
        assert_string_equal(why[i].failed, want[i].failed);
    }
    case_decide(p, &m, FACTS_RCPT, &trace, got);
    assert_int_equal(trace.n, 1); /* "no"; then "yes" decides */
    policy_free(p);
}

static void
shadows_are_bounded(void **state)
{
    static char text[8000];
    struct mail m = {.sender = "a@b", .recipient = "r@far.example"};
    size_t n = (size_t)snprintf(text, sizeof text, ACCOUNTS "rules:\n");
    struct policy *p;
    char got[CASE_TEXT];

    (void)state;
    for (int i = 0; i < SHADOWS_MAX + 5; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "  - {name: s%d, hold: x, shadow: yes}\n", i);
    p = case_compile(text);
    case_decide(p, &m, FACTS_EOM, NULL, got);
    assert_string_equal(got, "default: mta");
    assert_string_equal(show_shadows(),
                        "s0=hold s1=hold s2=hold s3=hold s4=hold s5=hold "
                        "s6=hold s7=hold");
    policy_free(p);
}

/* With every shadow taken out of a policy, and with none of them, the
 * decisions are the same: at both stages, whatever the mail. */
static void
shadows_change_nothing(void **state)
{
    static const char *const senders[] = {"", "a@b", "ann@example.com"};
    static const char *const logins[] = {NULL, "ann", "bulk", "z"};
    static const char *const headers[] = {"From: a@b\n", "From: @@@\n",
                                          "From: a@gmail.com\nX: y\n"};
    static const char *const recipients[] = {"r@far.example", "no@far.example",
                                             "r@local.example"};
    struct policy *with = case_compile(shadows_yaml);
    struct policy *without = case_compile(
        ACCOUNTS "unparseable: reject\n"
                 "rules:\n"
                 "  - {name: no, match: {recipient: no@far.example},\n"
                 "     reject: 550 5.7.1 no}\n"
                 "  - {name: yes, match: {auth: '*'}, route: mta}\n");
    char got[CASE_TEXT], want[CASE_TEXT];

    (void)state;
    for (size_t i = 0; i < 3 * 4 * 3 * 3 * 2; i++) {
        struct mail m = {.sender = senders[i % 3],
                         .login = logins[i / 3 % 4],
                         .headers = headers[i / 12 % 3],
                         .recipient = recipients[i / 36 % 3]};
        enum facts_stage stage = i / 108 == 0 ? FACTS_RCPT : FACTS_EOM;

        case_decide(with, &m, stage, NULL, got);
        case_decide(without, &m, stage, NULL, want);
        assert_string_equal(got, want);
    }
    policy_free(with);
    policy_free(without);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hold_and_discard),
        cmocka_unit_test(edits_go_with_what_goes_on),
        cmocka_unit_test(shadows_only_say),
        cmocka_unit_test(shadows_in_the_trace),
        cmocka_unit_test(shadows_are_bounded),
        cmocka_unit_test(shadows_change_nothing),
    };

    return cmocka_run_group_tests_name("policy/decide, actions", tests,
                                       case_setup, case_teardown);
}
