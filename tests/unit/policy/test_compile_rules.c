/* tests/unit/policy/test_compile_rules.c - what is said of wrong rules and
 * conditions
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "compile_case.h"

static const struct compile_row rules_rows[] = {
    {"rules map", 0, HEAD "rules: {}\n",
     "2:8: rules: want a list of rules, found a map\n"},
    {"rule word", 0, HEAD "rules: [x]\n",
     "2:9: a rule: want a map of name, match and route, reject, defer, "
     "hold or discard, found \"x\"\n"},
    {"no action", 0, RULES "  - {name: a}\n",
     "4:5: a rule needs exactly one of route, reject, defer, hold and "
     "discard\n"},
    {"two actions", 0, RULES "  - {route: mta, reject: '550 5.7.1 x'}\n",
     "4:5: a rule needs exactly one of route, reject, defer, hold and "
     "discard\n"},
    {"rule names", 0,
     HEAD "rules:\n"
          "  - {name: a, match: {auth: x}, route: mta}\n"
          "  - {name: a, match: {auth: x}, route: mta}\n"
          "  - {name: rule 4, match: {auth: x}, route: mta}\n"
          "  - {match: {auth: x}, route: mta}\n",
     "4:12: the rule in line 3 has the name \"a\" too\n"
     "6:5: the rule in line 5 has the name \"rule 4\" too\n"},
    {"a rule called default", 0, RULES "  - {route: mta, name: default}\n",
     "4:24: name: \"default\" is what explain and tests call the default "
     "itself\n"},
    {"rule key", 0, RULES "  - {rout: mta}\n",
     "4:5: a rule needs exactly one of route, reject, defer, hold and discard\n"
     "4:6: unknown key \"rout\" in a rule; did you mean \"route\"?\n"},
    {"rule name", 0, RULES "  - {name: [x], route: mta}\n",
     "4:12: name: want a text, found a list\n"},
    {"route", 0, RULES "  - {route: mtaa}\n",
     "4:13: route: want mta, {account: NAME} or {pool: NAME}, found "
     "\"mtaa\"\n"},
    {"route account", 0, RULES "  - {route: {account: b}}\n",
     "4:23: \"b\": there is no such account\n"},
    {"route name", 0, RULES "  - {route: a}\n",
     "4:13: route: want mta, {account: NAME} or {pool: NAME}, found "
     "\"a\"; did you mean {account: a}?\n"},
    {"route null", 0, RULES "  - {route: }\n",
     "4:13: route: want mta, {account: NAME} or {pool: NAME}, found "
     "nothing\n"},
    {"route two", 0, RULES "  - {route: {account: a, pool: b}}\n",
     "4:13: route: want mta, {account: NAME} or {pool: NAME}, found a "
     "map\n"},
    {"route key", 0, RULES "  - {route: {acount: a}}\n",
     "4:14: unknown key \"acount\" in route: want mta, {account: NAME} "
     "or {pool: NAME}\n"},
    {"route pool", 0, RULES "  - {route: {pool: p}}\n",
     "4:20: \"p\": there is no such pool\n"},
    {"replies", 0,
     HEAD "rules:\n"
          "  - {match: {auth: x}, reject: no}\n"
          "  - {match: {auth: x}, reject: 550 x}\n"
          "  - {match: {auth: x}, reject: 550 4.7.1 x}\n"
          "  - {match: {auth: x}, reject: 450 5.7.1 x}\n"
          "  - {match: {auth: x}, reject: 560 5.7.1 x}\n"
          "  - {match: {auth: x}, reject: 550 5.7.1}\n"
          "  - {match: {auth: x}, reject: '550 5.7.1 '}\n"
          "  - {match: {auth: x}, reject: 550 5.07.1 x}\n"
          "  - {match: {auth: x}, reject: [550 5.7.1 x]}\n"
          "  - {match: {auth: x}, reject: \"550 5.7.1 x\\r\\ny\"}\n"
          "  - {match: {auth: x}, reject: 550 5.7.1 \303\244}\n"
          "  - {match: {auth: x}, reject: 550 5.7.1 "
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
          "xx}\n"
          "  - {match: {auth: x}, defer: 421 4.7.1 x}\n"
          "  - {match: {auth: x}, defer: 550 5.7.1 x}\n"
          "  - {match: {auth: x}, defer: }\n",
     "3:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"no\"\n"
     "4:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"550 x\"\n"
     "5:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"550 4.7.1 x\"\n"
     "6:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"450 5.7.1 x\"\n"
     "7:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"560 5.7.1 x\"\n"
     "8:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"550 5.7.1\"\n"
     "9:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"550 5.7.1 \"\n"
     "10:32: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"550 5.07.1 x\"\n"
     "11:32: reject: want a reply such as \"550 5.7.1 text\", found a "
     "list\n"
     "12:32: reject: a reply is one line of printable ASCII, found "
     "\"550 5.7.1 x??y\"\n"
     "13:32: reject: a reply is one line of printable ASCII, found "
     "\"550 5.7.1 \303\244\"\n"
     "14:32: reject: the reply is longer than 200 octets\n"
     "15:31: defer: 421 closes the connection for all that comes on it: "
     "want 450 or 451\n"
     "16:31: defer: want a reply such as \"451 4.7.1 text\", found "
     "\"550 5.7.1 x\"\n"
     "17:31: defer: want a reply such as \"451 4.7.1 text\", found "
     "nothing\n"},
    {"otherwise", 0,
     RULES "  - {route: {account: a}, otherwise: [wait, mtaa, {account: b}, "
           "{defer: '550 5.7.1 x'}, []]}\n",
     "4:45: otherwise: want wait, mta, defer, reject, {account: NAME} "
     "or {pool: NAME}, found \"mtaa\"\n"
     "4:61: \"b\": there is no such account\n"
     "4:73: defer: want a reply such as \"451 4.7.1 text\", found \"550 "
     "5.7.1 x\"\n"
     "4:89: otherwise: want wait, mta, defer, reject, {account: NAME} "
     "or {pool: NAME}, found a list\n"},
    {"otherwise empty", 0, RULES "  - {route: {account: a}, otherwise: []}\n",
     "4:38: otherwise: an empty list; for an answer at once write "
     "defer\n"},
    {"otherwise idle", 0,
     RULES "  - {route: {account: a}, otherwise: [{account: a}, mta, wait]}\n",
     "4:39: warning: otherwise: a is tried already\n"
     "4:58: warning: otherwise: nothing is tried after mta, defer or "
     "reject\n"},
    {"otherwise mta", 0,
     RULES "  - {route: mta, otherwise: wait, share: 50%, from: rewrite}\n",
     "4:29: otherwise goes with a route to an account or pool only\n"
     "4:42: share goes with a route to an account or pool only\n"
     "4:53: from goes with a route to an account or pool only\n"},
    {"share", 0, RULES "  - {route: {account: a}, share: 0%}\n",
     "4:34: share: \"0%\" is outside 1%..100%\n"},
    {"share 2", 0,
     RULES "  - {route: {account: a}, share: 101, from: rewite}\n",
     "4:34: share: \"101\" is outside 1%..100%\n"
     "4:45: from: want keep, rewrite or require, found \"rewite\"; did "
     "you mean \"rewrite\"?\n"},
    {"share 3", 0, RULES "  - {route: {account: a}, share: half}\n",
     "4:34: share: want a share such as 80%, found \"half\"\n"},
    {"default", 0, HEAD "default: wait\n",
     "2:10: default: want mta, {account: NAME} or {pool: NAME}, found "
     "\"wait\"\n"},
    {"default 2", 0, HEAD "default: {account: a}\n",
     "2:20: \"a\": there is no such account\n"},
    {"default 3", 0, HEAD "default: {reject: '450 4.7.1 x'}\n",
     "2:19: reject: want a reply such as \"550 5.7.1 text\", found "
     "\"450 4.7.1 x\"\n"},
    {"unreachable", 0,
     HEAD "rules:\n"
          "  - {name: a, route: mta}\n"
          "  - {name: b, match: {auth: x}, route: mta}\n",
     "4:5: warning: no message gets to this rule: the rule \"a\" in "
     "line 3 has no condition\n"},
    {"late reject", 0,
     HEAD "rules:\n"
          "  - {name: a, match: {header: {X: y}}, route: mta}\n"
          "  - {name: b, match: {auth: x}, reject: 550 5.7.1 x}\n",
     "4:5: warning: the rule \"b\" can refuse only at the end of the "
     "message, not at RCPT: the rule \"a\" in line 3 looks into the "
     "message first\n"},
    {"pool", 0,
     ACCOUNT "pools: {p: {accounts: [a, b, a, {account: a, weight: 0}], pick: "
             "x}, q: {accounts: []}, r: {}}\n",
     "3:27: \"b\": there is no such account\n"
     "3:30: the account a is in the pool already\n"
     "3:54: weight: \"0\" is outside 1..1000\n"
     "3:65: pick: want most_room, round_robin, weighted or by_sender, "
     "found \"x\"\n"
     "3:83: a pool has 1 to 64 accounts\n"
     "3:88: a pool: the key accounts is missing\n"},
    {"pool pick", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: none, smarthost: "
          "gmail_relay}, b: {address: b@x.example, auth: none, smarthost: "
          "gmail_relay}}\n"
          "pools: {p: {accounts: [a, b]}}\n"
          "rules: [{route: {pool: p}}]\n",
     ""},
};

static void
rules(void **state)
{
    (void)state;
    compile_case_check(rules_rows, LENGTH(rules_rows));
}

static const struct compile_row conditions_rows[] = {
    {"match word", 0, RULES "  - {match: x, route: mta}\n",
     "4:13: want conditions, such as {sender: a@example.com}, found "
     "\"x\"\n"},
    {"match key", 0, RULES "  - {match: {sendr: x}, route: mta}\n",
     "4:14: unknown key \"sendr\" in match; did you mean \"sender\"?\n"},
    {"sender null", 0,
     RULES "  - {match: {sender: , recipient: '', auth: }, route: mta}\n",
     "4:22: sender: want a text, found nothing\n"
     "4:35: recipient: found \"\": want an address (the null sender is "
     "\"<>\")\n"
     "4:45: auth: want a text, found nothing; no login is \"\"\n"},
    {"sender list empty", 0, RULES "  - {match: {sender: []}, route: mta}\n",
     "4:22: sender: an empty list, which nothing can match\n"},
    {"sender bad", 0,
     RULES "  - {match: {sender: 'a b@c', recipient: example.com}, route: "
           "mta}\n",
     "4:22: sender: \"a b@c\" is not an address\n"
     "4:42: warning: recipient: \"example.com\" has no @: it matches "
     "only an address without a domain (a domain is asked for by the "
     "keys that end in _domain)\n"},
    {"sender nested", 0, RULES "  - {match: {sender: [[a]]}, route: mta}\n",
     "4:23: sender: want a text, found a list\n"},
    {"sender map", 0, RULES "  - {match: {sender: {lst: x}}, route: mta}\n",
     "4:22: sender: want a text or {list: NAME}\n"},
    {"unknown list", 0,
     RULES "  - {match: {sender: {list: vip}, recipient: 'list: vip'}, route: "
           "mta}\n",
     "4:29: \"vip\": there is no such list\n"
     "4:46: \"vip\": there is no such list\n"},
    {"U-label in address", 0,
     RULES "  - {match: {sender: a@m\303\274nchen.example}, route: mta}\n", ""},
    {"no U-label", 0,
     RULES "  - {match: {sender: a@-\303\274, sender_domain: -\303\274, "
           "recipient: '*@-\303\274'}, route: mta}\n",
     "4:22: sender: the domain of \"a@-\303\274\" is not one that IDNA "
     "allows\n"
     "4:43: sender_domain: \"-\303\274\" is not a domain name that IDNA "
     "allows\n"},
    {"domain", 0,
     RULES "  - {match: {sender_domain: a@x.example, recipient_domain: a_b "
           "c}, route: mta}\n",
     "4:29: sender_domain: \"a@x.example\" is an address: want a "
     "domain\n"
     "4:60: recipient_domain: \"a_b c\" is not a domain\n"},
    {"regex", 0,
     RULES "  - {match: {sender: '/a(/', recipient: //, from: '/[z-a]/'}, "
           "route: mta}\n",
     "4:22: sender: expression \"/a(/\": missing closing parenthesis, "
     "after 2 octets\n"
     "4:41: recipient: the expression // is empty\n"
     "4:51: from: expression \"/[z-a]/\": range out of order in "
     "character class, after 3 octets\n"},
    {"client", 0,
     RULES "  - {match: {client: [10.0.0.1/8, 'host name', 1.2.3.4/99, "
           "'::1/129']}, route: mta}\n",
     "4:23: client: \"10.0.0.1/8\" has bits set behind its prefix\n"
     "4:35: client: \"host name\" is not a domain\n"
     "4:48: client: \"1.2.3.4/99\" has no prefix length of 0..32 (IPv4) "
     "or 0..128\n"
     "4:60: client: \"::1/129\" has no prefix length of 0..32 (IPv4) or "
     "0..128\n"},
    {"header", 0, RULES "  - {match: {header: X}, route: mta}\n",
     "4:22: header: want a map of names and patterns, found \"X\"\n"},
    {"header name", 0,
     RULES "  - {match: {header: {'X Y': a, 'X:': b}}, route: mta}\n",
     "4:23: header: \"X Y\" is not the name of a field\n"
     "4:33: header: \"X:\" is not the name of a field\n"},
    {"header pattern", 0,
     RULES "  - {match: {header: {X: [], Y: {}}}, route: mta}\n",
     "4:26: header: an empty list, which nothing can match\n"
     "4:33: header: want a text or {list: NAME}\n"},
    {"size", 0,
     RULES "  - {match: {size: [10XB, '= 5', '>', '<= 99999999999999999999', "
           "{}]}, route: mta}\n",
     "4:21: size: want <, <=, > or >= and a size such as 25MB, found "
     "\"10XB\"\n"
     "4:27: size: want <, <=, > or >= and a size such as 25MB, found "
     "\"= 5\"\n"
     "4:34: size: want <, <=, > or >= and a size such as 25MB, found "
     "\">\"\n"
     "4:39: size: want <, <=, > or >= and a size such as 25MB, found "
     "\"<= 99999999999999999999\"\n"
     "4:66: size: want <, <=, > or >= and a size such as 25MB, found a "
     "map\n"},
    {"kind", 0, RULES "  - {match: {kind: [bounc, auto]}, route: mta}\n",
     "4:21: kind: want bounce, auto or bulk, found \"bounc\"; did you "
     "mean \"bounce\"?\n"},
    {"any", 0,
     RULES "  - {match: {any: {sender: a@b}, all: [], not: [a]}, route: mta}\n",
     "4:19: any: want a list of conditions, such as [{sender: a}, "
     "{auth: b}], found a map\n"
     "4:39: all: want a list of conditions, such as [{sender: a}, "
     "{auth: b}], found an empty one\n"
     "4:48: want conditions, such as {sender: a@example.com}, found a "
     "list\n"},
    {"any 2", 0, RULES "  - {match: {any: [{}, x, {not: {}}]}, route: mta}\n",
     "4:20: want conditions, such as {sender: a@example.com}, found "
     "none\n"
     "4:24: want conditions, such as {sender: a@example.com}, found "
     "\"x\"\n"
     "4:33: want conditions, such as {sender: a@example.com}, found "
     "none\n"},
};

static void
conditions(void **state)
{
    (void)state;
    compile_case_check(conditions_rows, LENGTH(conditions_rows));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules),
        cmocka_unit_test(conditions),
    };

    return cmocka_run_group_tests_name("policy/compile_rules", tests, NULL,
                                       NULL);
}
