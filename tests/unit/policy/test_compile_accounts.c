/* tests/unit/policy/test_compile_accounts.c - what is said of wrong accounts,
 * quotas and lists
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "compile_case.h"

static const struct compile_row accounts_rows[] = {
    {"account empty", 0, HEAD "accounts: {a: {}}\n",
     "2:12: an account: the key address is missing\n"
     "2:12: an account: the key auth is missing\n"},
    {"account null", 0, HEAD "accounts: {a: }\n",
     "2:15: an account: want a map, found nothing\n"},
    {"accounts list", 0,
     HEAD "accounts: []\n"
          "rules: [{route: {account: a}}]\n",
     "2:11: accounts: want a map of accounts, found a list\n"},
    {"addresses", 0,
     HEAD "accounts:\n"
          "  a: {address: a, auth: none}\n"
          "  b: {address: 'a*@x.example', auth: none}\n"
          "  c: {address: 'a@[1.2.3.4]', auth: none}\n"
          "  d: {address: \303\244@x.example, auth: none}\n"
          "  e: {address: a@b@c, auth: none}\n"
          "  f: {address: '<a@b>', auth: none}\n",
     "3:16: address: \"a\" has no @domain\n"
     "4:16: address: \"a*@x.example\" is no template: want "
     "\"*@domain\"\n"
     "5:16: address: \"a@[1.2.3.4]\" has an address literal for a "
     "domain\n"
     "6:16: address: \"\303\244@x.example\" is not ASCII, and not for an "
     "account: only its domain may be internationalized\n"
     "7:16: address: \"a@b@c\" is not an address\n"
     "8:16: address: \"<a@b>\" is not an address\n"},
    {"same address", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, auth: {password_file: x}}\n"
          "  b: {address: A@X.example, auth: {password_file: x}}\n"
          "  c: {address: a@x.example, smarthost: gmail_relay, auth: none}\n",
     "4:3: account \"b\" has the address and smarthost of account "
     "\"a\" in line 3\n"},
    {"same template", 0,
     HEAD "accounts:\n"
          "  a: {address: '*@x.example', auth: {service_account: {key_file: "
          "x}}}\n"
          "  b: {address: '*@X.example', auth: {service_account: {key_file: "
          "x}}}\n",
     "4:3: account \"b\" has the address and smarthost of account "
     "\"a\" in line 3\n"},
    {"smarthost unknown", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: {password_file: p}, "
          "smarthost: gmial}}\n",
     "2:75: \"gmial\": there is no such smarthost; did you mean "
     "\"gmail\"?\n"},
    {"none to gmail", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: none}}\n",
     "2:12: warning: account \"a\": smtp.gmail.com takes no mail "
     "without a login, and auth is none\n"},
    {"auth word", 0, HEAD "accounts: {a: {address: a@x.example, auth: yes}}\n",
     "2:44: auth: want none, or one of oauth2, service_account, "
     "password_file, found \"yes\"\n"},
    {"auth two", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: {password_file: x, "
          "service_account: {key_file: y}}}}\n",
     "2:44: auth: want exactly one of oauth2, service_account, "
     "password_file\n"},
    {"auth empty", 0, HEAD "accounts: {a: {address: a@x.example, auth: {}}}\n",
     "2:44: auth: want exactly one of oauth2, service_account, "
     "password_file\n"},
    {"auth unknown", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: {pasword_file: x}}}\n",
     "2:45: unknown key \"pasword_file\" in auth; did you mean "
     "\"password_file\"?\n"},
    {"oauth2", 0,
     HEAD "oauth_clients: {corp: {client_id: x}}\n"
          "accounts: {a: {address: a@x.example, auth: {oauth2: {client: "
          "crop}}}}\n",
     "3:53: oauth2: the key refresh_token_file is missing\n"
     "3:62: \"crop\": there is no such OAuth2 client; did you mean "
     "\"corp\"?\n"},
    {"service", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: {service_account: "
          "{token_url: x}}}}\n",
     "2:62: service_account: the key key_file is missing\n"
     "2:74: token_url: want an https:// URL, found \"x\"\n"},
    {"microsoft by gmail", 0,
     HEAD "oauth_clients: {m: {client_id: x, provider: microsoft}}\n"
          "accounts:\n"
          "  a: {address: a@x.example, auth: {oauth2: {client: m,\n"
          "      refresh_token_file: f}}}\n",
     "4:3: warning: account \"a\": OAuth2 client \"m\" is Microsoft's, and "
     "the smarthost is gmail; want smarthost: office365?\n"},
    {"credential", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: {password_file: "
          "'credential:a/b'}}}\n",
     "2:60: password_file: want credential:NAME, a name as in systemd's "
     "LoadCredential, found \"credential:a/b\"\n"},
    {"template refresh", 0,
     HEAD "oauth_clients: {corp: {client_id: x}}\n"
          "accounts: {a: {address: '*@x.example', auth: {oauth2: {client: "
          "corp, refresh_token_file: f}}}}\n",
     "3:46: auth: a refresh token is one user's; a template needs "
     "service_account or none\n"},
    {"template password", 0,
     HEAD "accounts: {a: {address: '*@x.example', auth: {password_file: "
          "f}}}\n",
     "2:46: warning: auth: one password for every sender of "
     "\"*@x.example\"\n"},
    {"send_as", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      send_as: [b@x.example, '@y.example', c, '@', '@*.example', "
          "{a: b}]}\n",
     "4:44: send_as: \"c\" has no @domain\n"
     "4:47: send_as: \"@\" is empty\n"
     "4:52: send_as: \"@*.example\" has a * or ?: write .example.com "
     "for all below example.com\n"
     "4:66: send_as: a map is not an address or \"@domain\"\n"},
    {"mail_from", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      mail_from: orignal}\n",
     "4:18: mail_from: want account or original, found \"orignal\"; did "
     "you mean \"original\"?\n"},
    {"max_wait", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      max_wait: 31d}\n",
     "4:17: max_wait: \"31d\" is outside 0s..30d\n"},
    {"max_wait unit", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      max_wait: 24}\n",
     "4:17: max_wait: \"24\" has no unit that is known: want s, m, h or "
     "d\n"},
    {"max_wait word", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      max_wait: long}\n",
     "4:17: max_wait: want a duration such as 90s or 24h, found "
     "\"long\"\n"},
    {"max_wait overflow", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      max_wait: 999999999999999999d}\n",
     "4:17: max_wait: \"999999999999999999d\" is outside 0s..30d\n"},
    {"sessions", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      sessions: {max: 0, idle: 0s, age: 2h, messages: 1.5, x: "
          "1}}\n",
     "4:23: max: \"0\" is outside 1..100\n"
     "4:32: idle: \"0s\" is outside 1s..1h\n"
     "4:41: age: \"2h\" is outside 1s..1h\n"
     "4:55: messages: want a whole number, found \"1.5\"\n"
     "4:60: unknown key \"x\" in sessions\n"},
    {"trust", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      trust: [logn, {logins: none.txt}, {clients: [x]}, {client: "
          "y}, []]}\n",
     "4:15: trust: want any, login, local, {logins: FILE} or {clients: "
     "[...]}, or a list of these, found \"logn\"; did you mean "
     "\"login\"?\n"
     "4:30: logins: cannot read /c/none.txt: No such file or directory\n"
     "4:52: clients: \"x\" is not an address or network\n"
     "4:58: unknown key \"client\" in trust; did you mean \"clients\"?\n"
     "4:70: trust: want any, login, local, {logins: FILE} or {clients: "
     "[...]}, or a list of these, found a list\n"},
    {"trust empty", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      trust: []}\n",
     "4:14: trust: an empty list lets nobody use the account\n"},
    {"trust any", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      trust: [any, login]}\n",
     "4:14: warning: trust: with any, the other entries change nothing\n"},
    {"trust logins", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      trust: [{logins: good.txt}, {logins: good.txt}, {logins: "
          "bad.txt}]}\n",
     "4:36: trust: logins is given twice\n"
     "4:56: trust: logins is given twice\n"},
    {"trust logins empty", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      trust: {logins: empty.txt}}\n",
     "4:23: warning: logins: the file holds no login\n"},
    {"map named", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      map: {file: map.txt}}\n",
     "4:12: map: only a template (\"*@domain\") can have one\n"},
    {"map", 0,
     HEAD "accounts: {t: {address: '*@x.example', auth: {service_account: "
          "{key_file: k}}, map: {file: map.txt}}}\n",
     "2:92: map: the alias ANN has two mailboxes, Ann@x.example and "
     "other\n"
     "/c/map.txt:2:1: want an alias, a space and a mailbox, found "
     "\"bob\"\n"
     "/c/map.txt:3:1: want an alias, a space and a mailbox, found \"c d "
     "e\"\n"
     "/c/map.txt:4:1: \"@\" is not an address\n"
     "/c/map.txt:5:3: the mailbox \"h@y.example\" is not in the "
     "template's domain, x.example\n"},
    {"map key", 0,
     HEAD "accounts: {t: {address: '*@x.example', auth: {service_account: "
          "{key_file: k}}, map: {fle: map.txt}}}\n",
     "2:85: map: the key file is missing\n"
     "2:86: unknown key \"fle\" in map; did you mean \"file\"?\n"},
};

static void
accounts(void **state)
{
    (void)state;
    compile_case_check(accounts_rows, LENGTH(accounts_rows));
}

static const struct compile_row quotas_rows[] = {
    {"quota word", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: workspaces}\n",
     "4:14: quota: want gmail, workspace, workspace_trial or relay, or "
     "a map of limits, found \"workspaces\"; did you mean "
     "\"workspace\"?\n"},
    {"quota list", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: [gmail]}\n",
     "4:14: quota: want gmail, workspace, workspace_trial or relay, or "
     "a map of limits, found a list\n"},
    {"quota empty", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: {}}\n",
     "4:14: quota: no limit is given\n"},
    {"quota only per message", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: {recipients_per_message: 0}}\n",
     "4:39: recipients_per_message: \"0\" is outside 1..1000\n"},
    {"quota limits", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: {messages: 500, recipients: 0 per 24h, bytes: 1XB "
          "per 1h, pace: 1 per 0s, external_recipients: x per 1h}}\n",
     "4:25: messages: want a limit such as \"500 per 24h\", found "
     "\"500\"\n"
     "4:42: recipients: \"0 per 24h\": the limit is outside "
     "1..1000000000000000\n"
     "4:60: bytes: \"1XB per 1h\" begins with no size\n"
     "4:78: pace: \"1 per 0s\": the span is outside 1s..366d\n"
     "4:109: external_recipients: \"x per 1h\" begins with no whole "
     "number\n"},
    {"quota limits 2", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: {messages: [1 per 24, 1 per 367d, "
          "99999999999999999999 per 1h, 5 per 1h, 6 per 60m, {}], bytes: "
          "[]}}\n",
     "4:26: messages: \"1 per 24\" ends with no duration such as 24h\n"
     "4:36: messages: \"1 per 367d\": the span is outside 1s..366d\n"
     "4:48: messages: \"99999999999999999999 per 1h\": the limit is "
     "outside 1..1000000000000000\n"
     "4:87: messages: two limits for one span of time\n"
     "4:98: messages: want a limit such as \"500 per 24h\", found a "
     "map\n"
     "4:110: bytes: an empty list\n"},
    {"quota unique", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: {unique_recipients: [3 per 1h, 4 per 60m],\n"
          "              unique_external_recipients: 0 per 1h}}\n",
     "4:45: unique_recipients: two limits for one span of time\n"
     "5:43: unique_external_recipients: \"0 per 1h\": the limit is outside "
     "1..1000000000000000\n"},
    {"quota many", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmail_relay, auth: none,\n"
          "      quota: {messages: [1 per 1h, 2 per 2h, 3 per 3h, 4 per 4h, "
          "5 per 5h, 6 per 6h, 7 per 7h, 8 per 8h, 9 per 9h, 10 per 10h, 11 "
          "per 11h, 12 per 12h, 13 per 13h]}}\n",
     "4:152: messages: an account has at most 12 limits\n"},
};

static void
quotas(void **state)
{
    (void)state;
    compile_case_check(quotas_rows, LENGTH(quotas_rows));
}

static const struct compile_row lists_rows[] = {
    {"list word", 0, HEAD "lists: {a: b}\n",
     "2:12: a: want a list of patterns or {file: PATH}, found \"b\"\n"},
    {"list in list", 0, HEAD "lists: {a: [x, 'list: b', {list: c}, [d], '']}\n",
     "2:16: a: a list cannot hold a list\n"
     "2:27: a: a list cannot hold a list\n"
     "2:38: a: want a text, found a list\n"
     "2:43: a: found \"\": an empty entry\n"},
    {"lists list", 0, HEAD "lists: [a]\n",
     "2:8: lists: want a map of lists, found a list\n"},
    {"list file", 0, HEAD "lists: {a: {file: none.txt}}\n",
     "2:19: file: cannot read /c/none.txt: No such file or directory\n"},
    {"list file bad", 0,
     HEAD "lists: {a: {file: bad.txt}}\n"
          "rules: [{match: {sender: {list: a}}, route: mta}]\n",
     "/c/bad.txt:2:3: a: \"10.0.0.1/8\" has bits set behind its prefix\n"
     "/c/bad.txt:3:1: a control character\n"
     "/c/bad.txt:4:1: an octet that is not UTF-8\n"
     "/c/bad.txt:5:1: a: expression \"/(/\": missing closing "
     "parenthesis, after 1 octets\n"},
    {"list file controls", 0, HEAD "lists: {a: {fil: x}}\n",
     "2:12: a list: the key file is missing\n"
     "2:13: unknown key \"fil\" in a list; did you mean \"file\"?\n"},
    {"list empty", 0,
     HEAD "lists: {a: {file: empty.txt}}\n"
          "rules: [{match: {sender: {list: a}}, route: mta}]\n",
     "2:19: warning: a: the file holds no entry\n"},
    {"list unused", 0, HEAD "lists: {a: [b]}\n",
     "2:9: warning: the list \"a\" is not used\n"},
};

static void
lists(void **state)
{
    (void)state;
    compile_case_check(lists_rows, LENGTH(lists_rows));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts),
        cmocka_unit_test(quotas),
        cmocka_unit_test(lists),
    };

    return cmocka_run_group_tests_name("policy/compile_accounts", tests, NULL,
                                       NULL);
}
