/* tests/unit/policy/test_compile_actions.c - hold, discard, header edits and
 * shadow as they are written: what is said of wrong ones, what right ones
 * become
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "compile_case.h"
#include "policy/rule.h"

#define FIFTY       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define TWO_HUNDRED FIFTY FIFTY FIFTY FIFTY

static const struct compile_row action_rows[] = {
    {"good", 0,
     RULES "  - {match: {auth: a}, hold: ask the boss}\n"
           "  - {match: {auth: b}, discard: true}\n"
           "  - {match: {auth: c}, discard: yes, shadow: yes}\n"
           "  - {match: {auth: d}, hold: " TWO_HUNDRED "}\n",
     ""},
    {"two actions", 0, RULES "  - {hold: x, discard: true}\n",
     "4:5: a rule needs exactly one of route, reject, defer, hold and "
     "discard\n"},
    {"all actions", 0,
     RULES "  - {route: mta, reject: 550 5.7.1 x, defer: 450 4.7.1 x, hold: x, "
           "discard: yes}\n",
     "4:5: a rule needs exactly one of route, reject, defer, hold and "
     "discard\n"},
    {"shadow is no action", 0, RULES "  - {shadow: yes}\n",
     "4:5: a rule needs exactly one of route, reject, defer, hold and "
     "discard\n"},
    {"hold", 0,
     RULES "  - {match: {auth: a}, hold: }\n"
           "  - {match: {auth: a}, hold: ''}\n"
           "  - {match: {auth: a}, hold: yes}\n"
           "  - {match: {auth: a}, hold: ' '}\n"
           "  - {match: {auth: a}, hold: [x]}\n"
           "  - {match: {auth: a}, hold: {x: y}}\n"
           "  - {match: {auth: a}, hold: \"x\\ny\"}\n"
           "  - {match: {auth: a}, hold: \"x\\ty\"}\n"
           "  - {match: {auth: a}, hold: \303\244}\n"
           "  - {match: {auth: a}, hold: " TWO_HUNDRED "x}\n",
     "4:30: hold: want the reason, as a text, found nothing\n"
     "5:30: hold: want the reason, as a text, found \"\"\n"
     "6:30: hold: want the reason, as a text, found \"yes\"\n"
     "7:30: hold: want the reason, as a text, found \" \"\n"
     "8:30: hold: want the reason, as a text, found a list\n"
     "9:30: hold: want the reason, as a text, found a map\n"
     "10:30: hold: a reason is one line of printable ASCII, found \"x?y\"\n"
     "11:30: hold: a reason is one line of printable ASCII, found \"x?y\"\n"
     "12:30: hold: a reason is one line of printable ASCII, found "
     "\"\303\244\"\n"
     "13:30: hold: the reason is longer than 200 octets\n"},
    {"discard", 0,
     RULES "  - {match: {auth: a}, discard: no}\n"
           "  - {match: {auth: a}, discard: false}\n"
           "  - {match: {auth: a}, discard: 'true'}\n"
           "  - {match: {auth: a}, discard: }\n"
           "  - {match: {auth: a}, discard: []}\n",
     "4:33: discard: \"no\" is no action: leave it out\n"
     "5:33: discard: \"false\" is no action: leave it out\n"
     "6:33: discard: want true, found \"true\"\n"
     "7:33: discard: want true, found nothing\n"
     "8:33: discard: want true, found a list\n"},
    {"shadow", 0, RULES "  - {route: mta, shadow: maybe}\n",
     "4:26: shadow: want yes or no, found \"maybe\"\n"},
    {"no account", 0,
     RULES "  - {match: {auth: a}, hold: x, otherwise: wait, share: 5%, from: "
           "keep}\n"
           "  - {match: {auth: a}, discard: true, otherwise: wait}\n"
           "  - {match: {auth: a}, discard: no, from: keep, add_header: x}\n",
     "4:44: otherwise goes with a route to an account or pool only\n"
     "4:57: share goes with a route to an account or pool only\n"
     "4:67: from goes with a route to an account or pool only\n"
     "5:50: otherwise goes with a route to an account or pool only\n"
     "6:33: discard: \"no\" is no action: leave it out\n"
     "6:43: from goes with a route to an account or pool only\n"
     "6:61: add_header: want a map of names and texts, found \"x\"\n"},
    {"shadows hide nothing", 0,
     RULES "  - {name: a, hold: x, shadow: yes}\n"
           "  - {name: b, hold: x}\n"
           "  - {name: c, route: mta}\n",
     "6:5: warning: no message gets to this rule: the rule \"b\" in line 5 has "
     "no condition\n"},
    {"discard hides", 0,
     RULES "  - {name: a, discard: true}\n"
           "  - {name: b, hold: x}\n",
     "5:5: warning: no message gets to this rule: the rule \"a\" in line 4 has "
     "no condition\n"},
    {"hold makes a reject late, a shadow does not", 0,
     RULES "  - {name: a, match: {header: {X: y}}, hold: x, shadow: yes}\n"
           "  - {name: b, match: {auth: x}, reject: 550 5.7.1 x}\n"
           "  - {name: c, match: {header: {X: y}}, hold: x}\n"
           "  - {name: d, match: {auth: y}, reject: 550 5.7.1 x}\n"
           "  - {name: e, match: {auth: z}, reject: 550 5.7.1 x, shadow: "
           "yes}\n",
     "7:5: warning: the rule \"d\" can refuse only at the end of the message, "
     "not at RCPT: the rule \"c\" in line 6 looks into the message first\n"},
};

static void
actions(void **state)
{
    (void)state;
    compile_case_check(action_rows, LENGTH(action_rows));
}

static const struct compile_row edit_rows[] = {
    {"good", 0,
     RULES "  - {match: {auth: a}, route: mta, add_header: {X-Route: gmail, "
           "X-Other: \"\303\244 b\", X-N: 5, X-Yes: yes}, remove_header: "
           "[X-Internal, To, DKIM-Signature, x-other]}\n"
           "  - {match: {auth: b}, hold: x, remove_header: X-Internal}\n"
           "  - {route: {account: a}, add_header: {subject: x}, remove_header: "
           "Subject}\n",
     ""},
    {"add form", 0,
     RULES "  - {match: {auth: a}, route: mta, add_header: X-Route}\n"
           "  - {match: {auth: a}, route: mta, add_header: [X-Route]}\n"
           "  - {match: {auth: a}, route: mta, add_header: {}}\n"
           "  - {match: {auth: a}, route: mta, add_header: }\n",
     "4:48: add_header: want a map of names and texts, found \"X-Route\"\n"
     "5:48: add_header: want a map of names and texts, found a list\n"
     "6:48: add_header: want a map of names and texts, found an empty one\n"
     "7:48: add_header: want a map of names and texts, found nothing\n"},
    {"add name", 0,
     RULES "  - route: mta\n"
           "    add_header:\n"
           "      X Y: a\n"
           "      'X:': b\n"
           "      \303\244: c\n"
           "      '': d\n"
           "      X-Good: e\n"
           "      x-good: f\n",
     "6:7: add_header: \"X Y\" is not the name of a field\n"
     "7:7: add_header: \"X:\" is not the name of a field\n"
     "8:7: add_header: \"\303\244\" is not the name of a field\n"
     "9:7: add_header: \"\" is not the name of a field\n"
     "11:7: add_header: \"x-good\" is named twice\n"},
    {"add value", 0,
     RULES "  - route: mta\n"
           "    add_header:\n"
           "      A: \n"
           "      B: ''\n"
           "      C: '  '\n"
           "      D: [x]\n"
           "      E: \"a\\nb\"\n"
           "      F: \"a\\rb\"\n"
           "      G: \"a\\tb\"\n"
           "      H: \"a\\x7fb\"\n",
     "6:9: add_header: want a text for A, found nothing\n"
     "7:10: add_header: want a text for B, found \"\"\n"
     "8:10: add_header: want a text for C, found \"  \"\n"
     "9:10: add_header: want a text for D, found a list\n"
     "10:10: add_header: a line break or control character in \"a?b\"\n"
     "11:10: add_header: a line break or control character in \"a?b\"\n"
     "12:10: add_header: a line break or control character in \"a?b\"\n"
     "13:10: add_header: a line break or control character in \"a?b\"\n"},
    {"add to what is there", 0,
     RULES "  - {route: mta, add_header: {reply-to: a@x.example}}\n",
     "4:31: add_header: a message has one reply-to at most: write "
     "remove_header: reply-to too\n"},
    {"remove form", 0,
     RULES "  - {match: {auth: a}, route: mta, remove_header: {X: y}}\n"
           "  - {match: {auth: a}, route: mta, remove_header: []}\n"
           "  - {match: {auth: a}, route: mta, remove_header: }\n"
           "  - {match: {auth: a}, route: mta, remove_header: [X, [Y], 'Z:', "
           "x]}\n",
     "4:51: remove_header: a map is not the name of a field\n"
     "5:51: remove_header: an empty list\n"
     "6:51: remove_header: nothing is not the name of a field\n"
     "7:55: remove_header: a list is not the name of a field\n"
     "7:60: remove_header: \"Z:\" is not the name of a field\n"
     "7:66: remove_header: \"x\" is named twice\n"},
    {"refused with edits", 0,
     RULES "  - {match: {auth: a}, reject: 550 5.7.1 x, add_header: {X: y}}\n"
           "  - {match: {auth: b}, discard: true, remove_header: X}\n",
     "4:57: warning: add_header changes nothing: the rule lets no message "
     "pass\n"
     "5:54: warning: remove_header changes nothing: the rule lets no message "
     "pass\n"},
};

static void
edits(void **state)
{
    (void)state;
    compile_case_check(edit_rows, LENGTH(edit_rows));
}

/* Each of these names, and the same in the other case. */
static void
fields_that_stay_as_they_are(void **state)
{
    static const struct {
        const char *name;
        bool add, remove; /* allowed */
    } rows[] = {
        {"From", false, false},
        {"Date", false, false},
        {"Message-ID", false, false},
        {"Received", false, false},
        {"Return-Path", false, false},
        {"MIME-Version", false, false},
        {"Content-Type", false, false},
        {"Content-Transfer-Encoding", false, false},
        {"Content-X", false, false},
        {"To", false, true},
        {"Cc", false, true},
        {"Bcc", false, true},
        {"DKIM-Signature", false, true},
        {"Subject", false, true}, /* a second one */
        {"Sender", false, true},
        {"Reply-To", false, true},
        {"In-Reply-To", false, true},
        {"References", false, true},
        {"Contents", true, true},
        {"X-From", true, true},
        {"List-Id", true, true},
    };
    static struct diag d;

    (void)state;
    for (size_t i = 0; i < 4 * LENGTH(rows); i++) {
        bool add = i % 2, upper = i / 2 % 2;
        size_t k = i / 4;
        char name[40], text[400];
        struct policy *p;

        snprintf(name, sizeof name, "%s", rows[k].name);
        for (char *c = name; upper && *c != '\0'; c++)
            *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
        snprintf(text, sizeof text,
                 add ? RULES "  - {route: mta, add_header: {%s: x}}\n"
                     : RULES "  - {route: mta, remove_header: %s}\n",
                 name);
        p = policy_compile(text, strlen(text), "/c/f", &compile_case_files, &d);
        if ((p != NULL) != (add ? rows[k].add : rows[k].remove))
            print_error("%s", text);
        assert_int_equal(p != NULL, add ? rows[k].add : rows[k].remove);
        if (p == NULL)
            assert_true(d.item[0].at.line == 4 && d.n_errors == 1);
        policy_free(p);
    }
}

/* The whole line counts: RFC 5322 2.1.1. */
static void
length_of_a_line(void **state)
{
    static struct diag d;
    char text[2000];

    (void)state;
    for (int n = 990; n <= 996; n++) { /* "X-A: " are 5 of 998 */
        struct policy *p;

        snprintf(text, sizeof text,
                 RULES "  - {route: mta, add_header: {X-A: %0*d}}\n", n, 7);
        p = policy_compile(text, strlen(text), "/c/f", &compile_case_files, &d);
        assert_int_equal(p != NULL, n <= 993);
        if (p == NULL)
            assert_string_equal(d.item[0].text, "add_header: the line is "
                                                "longer than 998 octets");
        policy_free(p);
    }
}

static void
what_they_become(void **state)
{
    struct policy *p = compile_case_good(
        RULES "  - {match: {auth: a}, hold: 'ask: boss', remove_header: "
              "[X-A, x-b],\n"
              "     add_header: {X-A: 1, X-C: \"\303\244\"}}\n"
              "  - {match: {auth: b}, discard: on, shadow: off}\n"
              "  - {route: {account: a}, shadow: yes}\n");
    const struct rule *r = p->rules;

    (void)state;
    assert_int_equal(r[0].action, ACTION_HOLD);
    assert_string_equal(r[0].reply, "ask: boss");
    assert_null(r[0].plan);
    assert_false(r[0].shadow);
    assert_int_equal(r[0].edits->n_remove, 2);
    assert_string_equal(r[0].edits->remove[0], "X-A");
    assert_string_equal(r[0].edits->remove[1], "x-b");
    assert_int_equal(r[0].edits->n_add, 2);
    assert_string_equal(r[0].edits->add[0].name, "X-A");
    assert_string_equal(r[0].edits->add[0].value, "1");
    assert_string_equal(r[0].edits->add[1].value, "\303\244");
    assert_int_equal(r[1].action, ACTION_DISCARD);
    assert_null(r[1].reply);
    assert_null(r[1].plan);
    assert_null(r[1].edits);
    assert_false(r[1].shadow);
    assert_int_equal(r[2].action, ACTION_ACCOUNT);
    assert_true(r[2].shadow);
    /* Its plan and the default's. */
    assert_int_equal(p->n_plans, 2);
    policy_free(p);
}

static void
needs(void **state)
{
    enum {
        EDITS = POLICY_EDITS_HEADER,
        HOLD = POLICY_EDITS_HOLD,
        HEADERS = POLICY_NEEDS_HEADERS,
    };
    static const struct {
        const char *rule;
        unsigned needs;
    } rows[] = {
        {"route: mta", 0},
        {"route: mta, add_header: {X: y}", EDITS},
        {"route: mta, remove_header: X", EDITS | HEADERS},
        {"route: {account: a}, add_header: {X: y}", EDITS},
        {"hold: x", HOLD},
        {"hold: x, add_header: {X: y}", HOLD | EDITS},
        {"discard: true", 0},
        {"discard: true, add_header: {X: y}", 0},
        {"reject: 550 5.7.1 x, remove_header: X", POLICY_NEEDS_RCPT_REPLY},
        {"reject: 550 5.7.1 x, shadow: yes", 0},
        {"hold: x, add_header: {X: y}, shadow: yes", 0},
        {"route: {account: a}, from: require", HEADERS},
        {"route: {account: a}, from: require, shadow: yes", 0},
        {"match: {header: {X: y}}, hold: x, shadow: yes", HEADERS},
        {"match: {size: 5}, discard: true, shadow: yes", POLICY_NEEDS_SIZE},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char text[400];
        struct policy *p;

        snprintf(text, sizeof text, RULES "  - {%s}\n", rows[i].rule);
        p = compile_case_good(text);
        if (p->needs != rows[i].needs)
            print_error("%s", text);
        assert_int_equal(p->needs, rows[i].needs);
        policy_free(p);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actions),
        cmocka_unit_test(edits),
        cmocka_unit_test(fields_that_stay_as_they_are),
        cmocka_unit_test(length_of_a_line),
        cmocka_unit_test(what_they_become),
        cmocka_unit_test(needs),
    };

    return cmocka_run_group_tests_name("policy/compile, actions", tests, NULL,
                                       NULL);
}
