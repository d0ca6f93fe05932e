/* tests/unit/policy/test_compile_settings.c - what is said of wrong YAML,
 * settings and smarthosts
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "compile_case.h"

static const struct compile_row yaml_rows[] = {
    {"empty", 0, "", "1:1: the file is empty\n"},
    {"comments only", 0, "# x\n", "1:1: the file is empty\n"},
    {"only a byte order mark", 0, "\xEF\xBB\xBF", "1:1: the file is empty\n"},
    {"a list", 0, "- a\n",
     "1:1: want keys and their values (gmroute: 1 and so on), found a "
     "list\n"},
    {"a word", 0, "word\n",
     "1:1: want keys and their values (gmroute: 1 and so on), found "
     "\"word\"\n"},
    {"null", 0, "---\n",
     "2:1: want keys and their values (gmroute: 1 and so on), found "
     "nothing\n"},
    {"two documents", 0,
     HEAD "---\n"
          "gmroute: 1\n",
     "2:1: a second document begins here: one file holds one\n"},
    {"tab", 0,
     HEAD "milter:\n"
          "\tlisten: x\n",
     "3:1: a tab: YAML indents with spaces\n"},
    {"control", 0, HEAD "hostname: a\007b\n",
     "2:12: a control character, U+0007\n"},
    {"NUL", 24, HEAD "host\000name: a\n",
     "2:5: a NUL octet (is the file UTF-16? Save it as UTF-8)\n"},
    {"not UTF-8", 0, HEAD "hostname: \"\303\244\377\"\n",
     "2:13: the octet 0xFF is not UTF-8\n"},
    {"overlong", 0, HEAD "\300\200: 1\n", "2:1: the octet 0xC0 is not UTF-8\n"},
    {"surrogate", 0, "\355\240\200: 1\n", "1:1: the octet 0xED is not UTF-8\n"},
    {"escaped NUL", 0, HEAD "hostname: \"a\\0b\"\n",
     "2:11: a text has a NUL (\\0) inside\n"
     "2:11: warning: hostname: \"a\" has no dot: Google refuses EHLO "
     "names that are not fully qualified\n"},
    {"unclosed", 0, HEAD "milter: {listen: x\n",
     "3:1: did not find expected ',' or '}', while parsing a flow "
     "mapping that begins in line 2\n"},
    {"bad indentation", 0, HEAD "  milter: x\n",
     "2:9: mapping values are not allowed in this context\n"},
    {"duplicate key", 0,
     HEAD "untaggable: mta\n"
          "untaggable: mta\n",
     "3:1: \"untaggable\" is given twice, first in line 2\n"},
    {"duplicate account", 0,
     HEAD "accounts:\n"
          "  a: {address: a@x.example, auth: none}\n"
          "  a: {address: b@x.example, auth: none}\n",
     "3:3: warning: account \"a\": smtp.gmail.com takes no mail without "
     "a login, and auth is none\n"
     "4:3: \"a\" is given twice, first in line 3\n"
     "4:3: warning: account \"a\": smtp.gmail.com takes no mail without "
     "a login, and auth is none\n"},
    {"key is a list", 0, HEAD "[a]: b\n",
     "2:1: a key must be a word, not a list or a map\n"},
    {"no key", 0, HEAD ": b\n",
     "2:1: did not find expected key, while parsing a block mapping\n"},
    {"merge", 0, HEAD "milter: {<<: {listen: /x}}\n",
     "2:10: merge keys (<<) are not supported: write the keys out\n"
     "2:10: unknown key \"<<\" in milter\n"},
    {"tag", 0, HEAD "hostname: !!str a.b\n",
     "2:11: tags are not used here: leave out "
     "\"tag:yaml.org,2002:str\"\n"},
    {"unknown alias", 0, HEAD "hostname: *x\n",
     "2:11: there is no anchor \"x\" before this alias\n"},
    {"alias in itself", 0, HEAD "lists: {a: &x [*x]}\n",
     "2:16: the alias \"x\" would hold itself\n"},
    {"deep", 0,
     HEAD "x: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]"
          "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
     "2:53: lists and maps are nested deeper than 50 levels\n"},
};

static void
yaml(void **state)
{
    (void)state;
    compile_case_check(yaml_rows, LENGTH(yaml_rows));
}

static const struct compile_row settings_rows[] = {
    {"version missing", 0, "hostname: a.b\n",
     "1:1: the configuration: the key gmroute is missing\n"},
    {"version", 0, "gmroute: 2\n",
     "1:10: gmroute: format version \"2\" is not known: this program "
     "reads version 1\n"},
    {"version word", 0, "gmroute: one\n",
     "1:10: gmroute: format version \"one\" is not known: this program "
     "reads version 1\n"},
    {"unknown key", 0, HEAD "hostnam: a.b\n",
     "2:1: unknown key \"hostnam\" in the configuration; did you mean "
     "\"hostname\"?\n"},
    {"unknown, nothing near", 0, HEAD "zzzzzzzz: 1\n",
     "2:1: unknown key \"zzzzzzzz\" in the configuration\n"},
    {"case", 0, HEAD "Hostname: a.b\n",
     "2:1: unknown key \"Hostname\" in the configuration; did you mean "
     "\"hostname\"?\n"},
    {"hostname list", 0, HEAD "hostname: [a]\n",
     "2:11: hostname: want a domain, found a list\n"},
    {"hostname null", 0, HEAD "hostname:\n",
     "2:10: hostname: want a domain, found nothing\n"},
    {"hostname no dot", 0, HEAD "hostname: relay\n",
     "2:11: warning: hostname: \"relay\" has no dot: Google refuses "
     "EHLO names that are not fully qualified\n"},
    {"hostname space", 0, HEAD "hostname: a b.c\n",
     "2:11: hostname: \"a b.c\" is not a domain\n"},
    {"U-label", 0, HEAD "mta_domains: [m\303\274nchen.example]\n", ""},
    {"no U-label", 0, HEAD "mta_domains: [-m\303\274nchen.example]\n",
     "2:15: mta_domains: \"-m\303\274nchen.example\" is not a domain name "
     "that IDNA allows\n"},
    {"glob domain", 0, HEAD "mta_domains: ['*.x.example']\n",
     "2:15: mta_domains: \"*.x.example\" has a * or ?: write "
     ".example.com for all below example.com\n"},
    {"address as domain", 0, HEAD "internal_domains: a@x.example\n",
     "2:19: internal_domains: \"a@x.example\" is an address: want a "
     "domain\n"},
    {"empty label", 0, HEAD "mta_domains: [a..b, '.', x., '..x']\n",
     "2:15: mta_domains: \"a..b\" has an empty label\n"
     "2:21: mta_domains: \".\" is empty\n"
     "2:30: mta_domains: \"..x\" has an empty label\n"},
    {"long label", 0,
     HEAD "mta_domains: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "aaaaaaaaaaaa]\n",
     "2:15: mta_domains: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaa...\" has a label longer than 63 octets\n"},
    {"mta_domains null", 0, HEAD "mta_domains:\n",
     "2:13: mta_domains: want a list of domains (\".x\" is any "
     "subdomain of x), found nothing\n"},
    {"untaggable", 0, HEAD "untaggable: rejct\n",
     "2:13: untaggable: want mta, reject or defer, found \"rejct\"; did "
     "you mean \"reject\"?\n"},
    {"unparseable", 0, HEAD "unparseable: [reject]\n",
     "2:14: unparseable: want ignore or reject, found a list\n"},
    {"milter listen", 0, HEAD "milter: {listen: unix:relative}\n",
     "2:18: listen: want unix:/path, inet:port@host or inet6:port@host "
     "(a path of at most 107 octets), found \"unix:relative\"\n"},
    {"milter listen port", 0, HEAD "milter: {listen: 'inet:99999@127.0.0.1'}\n",
     "2:18: listen: want unix:/path, inet:port@host or inet6:port@host "
     "(a path of at most 107 octets), found \"inet:99999@127.0.0.1\"\n"},
    {"milter not a map", 0, HEAD "milter: x\n",
     "2:9: milter: want a map, found \"x\"\n"},
    {"tag domain", 0, HEAD "milter: {tag_domain: example.com}\n",
     "2:22: warning: tag_domain: mail to \"example.com\" and below it "
     "will be refused; a name that ends in .invalid cannot be anybody's "
     "(RFC 2606)\n"},
    {"long tag domain", 0,
     HEAD "milter: {tag_domain: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "aaaaa.bbbbbbbb.invalid}\n",
     "2:22: tag_domain: longer than 63 octets, which leaves too little "
     "room for addresses\n"},
    {"reinject", 0,
     HEAD "milter: {reinject_from: [127.0.0.1, 10.0.0.1/8, 10.0.0.0/33, "
          "host]}\n",
     "2:37: reinject_from: \"10.0.0.1/8\" has bits set behind its "
     "prefix\n"
     "2:49: reinject_from: \"10.0.0.0/33\" has no prefix length of "
     "0..32 (IPv4) or 0..128\n"
     "2:62: reinject_from: \"host\" is not an address or network\n"},
    {"lmtp listen", 0, HEAD "deliver: {listen: 'inet:2424', connections: 0}\n",
     "2:19: listen: want unix:/path or inet:port@host (a path of at "
     "most 107 octets), found \"inet:2424\"\n"
     "2:45: connections: \"0\" is outside 1..10000\n"},
    {"connections", 0, HEAD "deliver: {connections: many}\n",
     "2:24: connections: want a whole number, found \"many\"\n"},
    {"overflow", 0, HEAD "deliver: {connections: 99999999999999999999999}\n",
     "2:24: connections: \"99999999999999999999999\" is outside "
     "1..10000\n"},
    {"state", 0, HEAD "state: {accounts: -1, directory: [x], runtime: ''}\n",
     "2:19: accounts: want a whole number, found \"-1\"\n"
     "2:34: directory: want a path, found a list\n"
     "2:48: runtime: want a path, found \"\"\n"},
};

static void
settings(void **state)
{
    (void)state;
    compile_case_check(settings_rows, LENGTH(settings_rows));
}

static const struct compile_row hosts_rows[] = {
    {"smarthost", 0, HEAD "smarthosts: {s: {port: 25, tls: none}}\n",
     "2:14: a smarthost: the key host is missing\n"
     "2:33: tls: want implicit or starttls, found \"none\"\n"},
    {"smarthost host", 0,
     HEAD "smarthosts: {s: {host: 'a b', port: 70000, connect: 'x:25', "
          "ca_file: {}}}\n",
     "2:24: host: \"a b\" is not a domain\n"
     "2:37: port: \"70000\" is outside 1..65535\n"
     "2:53: connect: want a host name or address, found \"x:25\"\n"
     "2:70: ca_file: want system or a path, found a map\n"},
    {"smarthosts list", 0, HEAD "smarthosts: [s]\n",
     "2:13: smarthosts: want a map of smarthosts, found a list\n"},
    {"smarthost name", 0, HEAD "smarthosts: {'a/b': {host: x.example}}\n",
     "2:14: \"a/b\" cannot be a name: want 1 to 63 letters, digits, "
     "\"_\", \"-\" or \".\"\n"},
    {"client", 0,
     HEAD "oauth_clients: {c: {client_secret_file: x, token_url: "
          "'http://x.example/', connect: x.example, ca_file: system}}\n",
     "2:17: an OAuth2 client: the key client_id is missing\n"
     "2:55: token_url: want an https:// URL, found "
     "\"http://x.example/\"\n"
     "2:85: connect: want address:port, found \"x.example\"\n"},
    {"client provider", 0,
     HEAD "oauth_clients: {c: {client_id: x, provider: yahoo}}\n",
     "2:45: provider: want google or microsoft, found \"yahoo\"\n"},
    {"client tenant", 0,
     HEAD "oauth_clients:\n"
          "  c: {client_id: x, tenant: a.example}\n"
          "  d: {client_id: x, provider: microsoft, tenant: a/b}\n",
     "3:29: tenant: only with provider: microsoft\n"
     "4:50: tenant: want a directory id or a domain, found \"a/b\"\n"},
};

/* ---- alerts ---- */

static const struct compile_row alert_rows[] = {
    {"alert of nobody", 0, HEAD "alert: {quota: 80%}\n",
     "2:8: alert: want command, mail or both\n"},
    {"alert word", 0, HEAD "alert: postmaster\n",
     "2:8: alert: want a map, found \"postmaster\"\n"},
    {"alert command", 0, HEAD "alert: {command: [page, x]}\n",
     "2:19: command: want the path of a program, from / on, found \"page\"; "
     "for a shell write [/bin/sh, -c, \"...\"]\n"},
    {"alert command's word", 0, HEAD "alert: {command: [/bin/page, [x]]}\n",
     "2:30: command: want a word without controls, found a list\n"},
    {"alert mail", 0, HEAD "alert: {mail: 'a b, c', timeout: 1h}\n",
     "2:15: mail: want one address or user, found \"a b, c\"\n"
     "2:34: timeout: \"1h\" is outside 1s..10m\n"},
    {"alert", 0,
     HEAD "alert: {command: /bin/page, mail: root, quota: 80%, interval: 4h}\n",
     ""},
};

static void
alerts(void **state)
{
    (void)state;
    compile_case_check(alert_rows, LENGTH(alert_rows));
}

static void
hosts(void **state)
{
    (void)state;
    compile_case_check(hosts_rows, LENGTH(hosts_rows));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml),
        cmocka_unit_test(settings),
        cmocka_unit_test(hosts),
        cmocka_unit_test(alerts),
    };

    return cmocka_run_group_tests_name("policy/compile_settings", tests, NULL,
                                       NULL);
}
