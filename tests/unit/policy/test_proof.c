/* tests/unit/policy/test_proof.c - mirrors policy/proof.c and compile_proof.c:
 * the tests that a policy carries with it
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
#include "policy/proof.h"
#include "policy/scalar.h"

/* ---- as they are written ---- */

#define TESTS ACCOUNT "tests:\n"
#define FORMS \
    "mta, {account: NAME}, {pool: NAME}, reject, defer, hold or discard"

static const struct compile_row rows[] = {
    {"good", 0,
     RULES "  - {name: r, match: {auth: x}, route: {account: a}}\n"
           "pools: {p: {accounts: a}}\n"
           "tests:\n"
           "  - {recipient: a@b, expect: mta}\n"
           "  - {name: t, sender: <>, recipient: [a@b, <c@d>, postmaster], "
           "client: 192.0.2.1, client_name: h.example, helo: h, auth: '', "
           "local: yes, tls: no, now: 2026-02-28T23:59:59+01:00, size: 5MB, "
           "recipients: 7, header: {A: x, B: [y, '']}, macro: {i: x, '{j}': "
           "y}, attachment: [a.exe, \303\244.txt], expect: {account: a}, rule: "
           "r}\n"
           "  - {sender: '', client: '2001:db8::1', attachment: x, recipient: "
           "'@r:a@[192.0.2.1]', expect: {pool: p}, rule: default}\n"
           "  - {recipient: a@b, expect: hold}\n"
           "  - {recipient: a@b, expect: discard}\n"
           "  - {recipient: a@b, expect: reject}\n"
           "  - {recipient: a@b, expect: defer}\n",
     "5:9: warning: the pool \"p\" is not used: no rule leads to it\n"},
    {"before the rules", 0,
     HEAD "tests: [{recipient: a@b, expect: mta, rule: r}]\n"
          "rules: [{name: r, route: mta}]\n",
     ""},
    {"no list", 0, HEAD "tests: {recipient: a@b}\n",
     "2:8: tests: want a list of tests, found a map\n"},
    {"no map", 0, TESTS "  - x\n", "4:5: a test: want a map, found \"x\"\n"},
    {"missing", 0, TESTS "  - {}\n",
     "4:5: a test: the key recipient is missing\n"
     "4:5: a test: the key expect is missing\n"},
    {"unknown key", 0,
     TESTS "  - {recipients: 1, recipient: a@b, expct: mta}\n",
     "4:5: a test: the key expect is missing\n"
     "4:37: unknown key \"expct\" in a test; did you mean \"expect\"?\n"},
    {"addresses", 0,
     TESTS "  - {sender: a b@c, recipient: [], expect: mta}\n"
           "  - {sender: [a@b], recipient: [x, '', <>, a@, {}], expect: mta}\n"
           "  - {sender: \"a\\nb\", recipient: , expect: mta}\n",
     "4:14: sender: \"a b@c\" is not an address\n"
     "4:32: recipient: an empty list\n"
     "5:14: sender: want an address (the null sender is \"<>\"), found a "
     "list\n"
     "5:36: recipient: want an address, found \"\"\n"
     "5:40: recipient: want an address, found \"<>\"\n"
     "5:44: recipient: \"a@\" is not an address\n"
     "5:48: recipient: want an address (the null sender is \"<>\"), found a "
     "map\n"
     "6:14: sender: a line break or control character in \"a?b\"\n"
     "6:33: recipient: want an address (the null sender is \"<>\"), found "
     "nothing\n"},
    {"client", 0,
     TESTS "  - {recipient: a@b, expect: mta, client: 10.0.0.0/8}\n"
           "  - {recipient: a@b, expect: mta, client: host.example}\n"
           "  - {recipient: a@b, expect: mta, client: '::1/128'}\n"
           "  - {recipient: a@b, expect: mta, client: [x]}\n",
     "4:43: client: want an IPv4 or IPv6 address, found \"10.0.0.0/8\"\n"
     "5:43: client: want an IPv4 or IPv6 address, found \"host.example\"\n"
     "6:43: client: want an IPv4 or IPv6 address, found \"::1/128\"\n"
     "7:43: client: want an IPv4 or IPv6 address, found a list\n"},
    {"plain values", 0,
     TESTS "  - {recipient: a@b, expect: mta, now: today}\n"
           "  - {recipient: a@b, expect: mta, now: 2026-02-30T00:00:00Z}\n"
           "  - {recipient: a@b, expect: mta, now: []}\n"
           "  - {recipient: a@b, expect: mta, size: big, recipients: 0}\n"
           "  - {recipient: a@b, expect: mta, local: x, tls: 1, helo: {}}\n"
           "  - {recipient: a@b, expect: mta, auth: \"\\t\", client_name: }\n",
     "4:40: now: want a time such as 2026-01-05T12:00:00Z, found \"today\"\n"
     "5:40: now: there is no such time as \"2026-02-30T00:00:00Z\"\n"
     "6:40: now: want a time such as 2026-01-05T12:00:00Z, found a list\n"
     "7:41: size: want a size such as 25MB, found \"big\"\n"
     "7:58: recipients: \"0\" is outside 1..1000000\n"
     "8:42: local: want yes or no, found \"x\"\n"
     "8:50: tls: want yes or no, found \"1\"\n"
     "8:59: helo: want a text, found a map\n"
     "9:41: auth: a line break or control character in \"?\"\n"
     "9:60: client_name: want a text, found nothing\n"},
    {"maps", 0,
     TESTS "  - {recipient: a@b, expect: mta, header: X, macro: [i]}\n"
           "  - {recipient: a@b, expect: mta, header: {'A B': x, C: [[y]], D: "
           "{}}}\n"
           "  - {recipient: a@b, expect: mta, macro: {i: [x], j: }}\n"
           "  - {recipient: a@b, expect: mta, attachment: [a, {b: c}]}\n",
     "4:43: header: want a map of names and texts or lists of texts, found "
     "\"X\"\n"
     "4:53: macro: want a map of names and texts, found a list\n"
     "5:44: header: \"A B\" is not the name of a field\n"
     "5:58: header: want a text, found a list\n"
     "5:67: header: want a text, found a map\n"
     "6:46: macro: want a text, found a list\n"
     "6:54: macro: want a text, found nothing\n"
     "7:51: attachment: want a text, found a map\n"},
    {"expect", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: none, smarthost: "
          "gmail_relay}}\n"
          "pools: {p: {accounts: a}}\n"
          "tests:\n"
          "  - {recipient: a@b, expect: a}\n"
          "  - {recipient: a@b, expect: p}\n"
          "  - {recipient: a@b, expect: discrad}\n"
          "  - {recipient: a@b, expect: wait}\n"
          "  - {recipient: a@b, expect: [mta]}\n"
          "  - {recipient: a@b, expect: {account: b}}\n"
          "  - {recipient: a@b, expect: {pool: a}}\n"
          "  - {recipient: a@b, expect: {acount: a}}\n"
          "  - {recipient: a@b, expect: {account: a, pool: p}}\n"
          "  - {recipient: a@b, expect: {account: }}\n"
          "  - {recipient: a@b, expect: }\n",
     "5:30: expect: want " FORMS ", found \"a\"; did you mean {account: a}?\n"
     "6:30: expect: want " FORMS ", found \"p\"; did you mean {pool: p}?\n"
     "7:30: expect: want " FORMS
     ", found \"discrad\"; did you mean \"discard\"?\n"
     "8:30: expect: want " FORMS ", found \"wait\"\n"
     "9:30: expect: want " FORMS ", found a list\n"
     "10:40: \"b\": there is no such account\n"
     "11:37: \"a\": there is no such pool\n"
     "12:31: unknown key \"acount\" in expect: want " FORMS "\n"
     "13:30: expect: want " FORMS ", found a map\n"
     "14:40: want the name of an account, found nothing\n"
     "15:30: expect: want " FORMS ", found nothing\n"},
    {"rule", 0,
     RULES "  - {name: newsletter, route: mta}\n"
           "tests:\n"
           "  - {recipient: a@b, expect: mta, rule: newsleter}\n"
           "  - {recipient: a@b, expect: mta, rule: [default]}\n",
     "6:41: \"newsleter\": there is no such rule; did you mean "
     "\"newsletter\"?\n"
     "7:41: want the name of a rule, found a list\n"},
    {"a rule without a name", 0,
     RULES "  - {route: mta}\n"
           "tests: [{recipient: a@b, expect: mta, rule: rule 1}]\n",
     ""},
    {"lost rules are not called unknown", 0,
     HEAD "rules: {}\n"
          "tests: [{recipient: a@b, expect: mta, rule: x}]\n",
     "2:8: rules: want a list of rules, found a map\n"},
};

static void
written(void **state)
{
    (void)state;
    compile_case_check(rows, LENGTH(rows));
}

static void
assert_slice(struct slice got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.at, want, got.len);
}

static void
what_they_become(void **state)
{
    struct policy *p = compile_case_good(rows[0].yaml);
    const struct proof *x = &p->proofs[0];
    int64_t now_s;

    (void)state;
    assert_int_equal(p->n_proofs, 7);
    assert_string_equal(x->name, "test 1");
    assert_int_equal(x->at.line, 7);
    assert_int_equal(x->facts.stage, FACTS_EOM);
    assert_int_equal(x->facts.now_s, 1767614400);
    assert_int_equal(x->facts.sender.len, 0);
    assert_int_equal(x->facts.n_recipients, 1);
    assert_false(x->facts.client.known);
    assert_false(x->facts.local || x->facts.tls || x->facts.attachments_cut);
    assert_int_equal(x->action, ACTION_MTA);
    assert_null(x->rule);

    x++;
    assert_string_equal(x->name, "t");
    assert_int_equal(x->facts.sender.len, 0);
    assert_int_equal(x->n_recipients, 3);
    assert_slice(x->recipient[0], "a@b");
    assert_slice(x->recipient[1], "c@d");
    assert_slice(x->recipient[2], "postmaster");
    assert_int_equal(x->facts.n_recipients, 7);
    assert_true(x->facts.client.known && x->facts.local && !x->facts.tls);
    assert_memory_equal(x->facts.client.address,
                        "\0\0\0\0\0\0\0\0\0\0\377\377\300\0\2\1", 16);
    assert_slice(x->facts.client.name, "h.example");
    assert_slice(x->facts.helo, "h");
    assert_slice(x->facts.auth, "");
    scalar_time(SLICE_LIT("2026-02-28T22:59:59Z"), &now_s);
    assert_true(x->facts.now_s == now_s);
    assert_int_equal(x->facts.size_octets, 5000000);
    assert_int_equal(x->facts.n_headers, 3);
    assert_slice(x->facts.header[0].name, "A");
    assert_slice(x->facts.header[0].value, "x");
    assert_slice(x->facts.header[2].name, "B");
    assert_slice(x->facts.header[2].value, "");
    assert_int_equal(x->facts.n_macros, 2);
    assert_slice(x->facts.macro[1].name, "j");
    assert_slice(x->facts.macro[1].value, "y");
    assert_int_equal(x->facts.n_attachments, 2);
    assert_slice(x->facts.attachment[1], "\303\244.txt");
    assert_int_equal(x->action, ACTION_ACCOUNT);
    assert_ptr_equal(x->account, &p->accounts[0]);
    assert_string_equal(x->rule, "r");

    x++;
    assert_slice(x->recipient[0], "a@[192.0.2.1]");
    assert_ptr_equal(x->pool, &p->pools[0]);
    assert_string_equal(x->rule, "default");
    policy_free(p);
}

/* ---- as they run ---- */

#define POLICY                                                                \
    HEAD "mta_domains: [local.example]\n"                                     \
         "accounts:\n"                                                        \
         "  sales: {address: sales@x.example, auth: none, smarthost: "        \
         "gmail_relay}\n"                                                     \
         "  news: {address: news@x.example, auth: none, smarthost: "          \
         "gmail_relay}\n"                                                     \
         "  staff: {address: '*@x.example', auth: none, smarthost: "          \
         "gmail_relay}\n"                                                     \
         "pools: {both: {accounts: [news, sales]}}\n"                         \
         "rules:\n"                                                           \
         "  - {name: no, match: {recipient: no@y}, reject: 550 5.7.1 x}\n"    \
         "  - {name: later, match: {recipient: later@y}, defer: 450 4.7.1 "   \
         "x}\n"                                                               \
         "  - {name: look, match: {header: {X: y}}, hold: x}\n"               \
         "  - {name: gone, match: {sender: gone@y}, discard: true}\n"         \
         "  - {name: bulk, match: {sender: news@z}, route: {pool: both}}\n"   \
         "  - {name: try, match: {auth: '*'}, hold: x, shadow: yes}\n"        \
         "  - {name: odd, match: {sender: odd@z}, route: {account: staff}, "  \
         "otherwise: [wait, mta, {account: sales}]}\n"                        \
         "  - {name: odd2, match: {sender: od2@z}, route: {account: staff}, " \
         "otherwise: [{reject: 550 5.7.1 x}, {account: sales}]}\n"            \
         "  - {name: people, match: {auth: '*'}, route: {account: staff}}\n"  \
         "  - {name: big, match: {size: '> 10'}, route: {account: sales}}\n"  \
         "default: {account: news}\n"                                         \
         "tests:\n"

/* The rules begin in line 9, the default is in line 19, the test in 21. */
static const struct {
    const char *test, *want; /* "" = good */
} run_rows[] = {
    {"sender: a@b, recipient: c@d, expect: {account: news}", ""},
    {"sender: a@b, recipient: c@d, expect: {account: news}, rule: default", ""},
    {"sender: a@b, recipient: c@local.example, expect: mta, rule: default", ""},
    {"recipient: c@d, expect: mta, rule: default", ""},
    {"recipient: no@y, expect: reject, rule: 'no'", ""},
    {"recipient: later@y, expect: defer", ""},
    {"recipient: a@local.example, header: {X: y}, expect: hold", ""},
    {"sender: gone@y, recipient: c@d, expect: discard", ""},
    {"sender: news@z, recipient: c@d, expect: {pool: both}", ""},
    {"sender: od2@z, recipient: c@d, expect: reject, rule: odd2", ""},
    {"sender: news@z, recipient: c@d, expect: {account: news}", ""},
    {"sender: ann@x.example, auth: ann, recipient: c@d, expect: {account: "
     "staff}, rule: people",
     ""},
    {"sender: a@b, recipient: c@d, size: 11B, expect: {account: sales}", ""},
    {"sender: odd@z, recipient: c@d, expect: {account: sales}",
     "test \"test 1\": recipient c@d: want account sales, got mta by the rule "
     "\"odd\" in line 15"},
    /* A template filled in with the address of a named account is that. */
    {"sender: news@x.example, auth: news, recipient: c@d, expect: {account: "
     "news}, rule: people",
     ""},
    {"name: newsletter, sender: a@b, recipient: c@d, expect: mta",
     "test \"newsletter\": recipient c@d: want mta, got account news by the "
     "default in line 19"},
    {"sender: a@b, recipient: no@y, expect: {account: sales}, rule: big",
     "test \"test 1\": recipient no@y: want account sales by the rule "
     "\"big\", got reject by the rule \"no\" in line 9"},
    {"sender: ann@x.example, auth: ann, recipient: c@d, size: 1B, expect: "
     "{account: staff}, rule: default",
     "test \"test 1\": recipient c@d: want account staff by the default, got "
     "account staff by the rule \"people\" in line 17"},
    {"recipient: c@d, expect: mta, rule: people",
     "test \"test 1\": recipient c@d: want mta by the rule \"people\", got mta "
     "by the default in line 19; \"people\": login is none, want *"},
    {"sender: a@b, recipient: c@d, expect: {account: sales}, rule: big",
     "test \"test 1\": recipient c@d: want account sales by the rule "
     "\"big\", got account news by the default in line 19; \"big\": size is "
     "0, want > 10"},
    {"sender: ann@w.example, auth: ann, recipient: c@d, expect: {account: "
     "staff}, rule: people",
     "test \"test 1\": recipient c@d: want account staff by the rule "
     "\"people\", got account news by the default in line 19; \"people\": "
     "account staff: sender is ann@w.example, of another domain"},
    {"sender: ann@x.example, auth: ann, recipient: c@d, expect: hold, rule: "
     "try",
     "test \"test 1\": recipient c@d: want hold by the rule \"try\", got "
     "account staff by the rule \"people\" in line 17; \"try\": shadow: would "
     "have held it"},
    {"sender: a@b, recipient: c@local.example, expect: {account: news}",
     "test \"test 1\": recipient c@local.example: want account news, got mta "
     "by the default in line 19 (its domain is in mta_domains)"},
    {"recipient: c@d, expect: {pool: both}",
     "test \"test 1\": recipient c@d: want pool both, got mta by the default "
     "in line 19 (the sender is <>)"},
    {"sender: a@b, recipient: c@d, expect: {pool: both}",
     "test \"test 1\": recipient c@d: want pool both, got account news by the "
     "default in line 19"},
    {"sender: news@z, recipient: c@d, expect: {account: sales}",
     "test \"test 1\": recipient c@d: want account sales, got account news by "
     "the rule \"bulk\" in line 13"},
};

static void
run(void **state)
{
    static struct diag d;
    char yaml[4000];

    (void)state;
    for (size_t i = 0; i < LENGTH(run_rows); i++) {
        const char *want = run_rows[i].want;
        struct policy *p;
        bool good;

        snprintf(yaml, sizeof yaml, POLICY "  - {%s}\n", run_rows[i].test);
        p = compile_case_good(yaml);
        d = (struct diag){.n = 0};
        good = proof_run(p, &d);
        if (good != (want[0] == '\0') ||
            (!good && strcmp(d.item[0].text, want) != 0))
            print_error("%s:\n%s\n", run_rows[i].test, d.item[0].text);
        assert_int_equal(good, want[0] == '\0');
        assert_int_equal(d.n_errors, good ? 0 : 1);
        assert_int_equal(d.n, d.n_errors);
        if (!good) {
            assert_string_equal(d.item[0].text, want);
            assert_int_equal(d.item[0].at.line, 21);
            assert_int_equal(d.item[0].at.col, 5);
            assert_string_equal(d.item[0].at.file, p->file);
        }
        policy_free(p);
    }
}

/* What the milter refuses at the end of the message is no route. */
static void
from_require(void **state)
{
    static struct diag d;
    struct policy *p = compile_case_good(
        "gmroute: 1\n"
        "accounts: {a: {address: a@x, auth: {password_file: p}, send_as: "
        "['@y']}}\n"
        "rules: [{route: {account: a}, from: require}]\n"
        "tests:\n"
        "  - {sender: s@x, recipient: c@d, header: {From: a@x}, expect: "
        "{account: a}}\n"
        "  - {sender: s@x, recipient: c@d, header: {From: b@y}, expect: "
        "{account: a}}\n"
        "  - {sender: s@x, recipient: c@d, header: {From: b@z}, expect: "
        "reject}\n"
        "  - {sender: s@x, recipient: c@d, expect: reject}\n");

    (void)state;
    d = (struct diag){.n = 0};
    if (!proof_run(p, &d))
        fail_msg("%u: %s", d.item[0].at.line, d.item[0].text);
    policy_free(p);
}

static void
all_of_them(void **state)
{
    static struct diag d;
    struct policy *p = compile_case_good(
        POLICY "  - {sender: a@b, recipient: [c@d, no@y, later@y], "
               "expect: {account: news}}\n"
               "  - {sender: a@b, recipient: c@d, expect: {account: news}}\n"
               "  - {name: last, sender: a@b, recipient: c@d, expect: hold}\n");

    (void)state;
    d = (struct diag){.n = 0};
    diag_error(&d, (struct loc){"x", 1, 1}, "kept");
    assert_false(proof_run(p, &d));
    assert_int_equal(d.n_errors, 4);
    assert_string_equal(d.item[0].text, "kept");
    assert_non_null(strstr(d.item[1].text, "recipient no@y: want account news, "
                                           "got reject by the rule \"no\""));
    assert_non_null(strstr(d.item[2].text, "recipient later@y: "));
    assert_non_null(strstr(d.item[3].text, "test \"last\": "));
    assert_int_equal(d.item[3].at.line, 23);
    policy_free(p);
}

/* The same message twice with other headers: nothing of one is left in the
 * next. */
static void
no_proof_knows_another(void **state)
{
    static struct diag d;
    struct policy *p = compile_case_good(
        POLICY "  - {sender: a@b, recipient: c@d, header: {X: y}, expect: "
               "hold}\n"
               "  - {sender: a@b, recipient: c@d, header: {X: z}, expect: "
               "{account: news}}\n"
               "  - {sender: a@b, recipient: c@d, expect: {account: news}}\n"
               "  - {sender: a@b, recipient: c@d, header: {A: b, X: [z, y]}, "
               "expect: hold}\n");

    (void)state;
    d = (struct diag){.n = 0};
    assert_true(proof_run(p, &d));
    assert_int_equal(d.n, 0);
    policy_free(p);
}

static void
none(void **state)
{
    static struct diag d;
    struct policy *p = compile_case_good(HEAD "tests: []\n");

    (void)state;
    d = (struct diag){.n = 0};
    assert_true(proof_run(p, &d));
    assert_int_equal(d.n, 0);
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written),     cmocka_unit_test(what_they_become),
        cmocka_unit_test(run),         cmocka_unit_test(from_require),
        cmocka_unit_test(all_of_them), cmocka_unit_test(no_proof_knows_another),
        cmocka_unit_test(none),
    };

    return cmocka_run_group_tests_name("policy/proof", tests, NULL, NULL);
}
