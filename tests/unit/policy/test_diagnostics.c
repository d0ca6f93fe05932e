/* tests/unit/policy/test_diagnostics.c - what is said of a configuration,
 * and exactly where: what the tests of its parts do not hold yet.
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

/* Texts of just so many octets. */
#define X10   "xxxxxxxxxx"
#define X50   X10 X10 X10 X10 X10
#define X100  X50 X50
#define X250  X100 X100 X50
#define X1000 X250 X250 X250 X250
/* How a long one is shown. */
#define CUT "\"" X50 X10 "...\""

static const struct {
    const char *path, *text;
} files[] = {
    {"/c/long.txt",
     "a@x.example\n" X1000 "@x.example" X10 X10 "\n" X1000 "@x.example\n"},
    {"/c/map.txt", "a\001b c\n"
                   "a@@b c\n"
                   "a b[c\n"
                   "\"a b\n"
                   "b a@[192.0.2.1]\n"},
    {"/c/nomap.txt", "\n  # a\n"},
    {"/c/10.txt", "10.0.0.0/33\n10.0.0.1/8\n[*\n/*(/\n"},
};

static bool
read_file(void *cookie, const char *path, const char **ret_text,
          size_t *ret_len, char *err, size_t err_size)
{
    (void)cookie;
    for (size_t i = 0; i < LENGTH(files); i++)
        if (strcmp(files[i].path, path) == 0) {
            *ret_text = files[i].text;
            *ret_len = strlen(files[i].text);
            return true;
        }
    snprintf(err, err_size, "Permission denied");
    return false;
}

static const struct policy_files all_files = {.read_file = read_file};

#define NAMES                                                                 \
    HEAD "oauth_clients: {corp: {client_id: i}}\n"                            \
         "smarthosts: {office: {host: o.example}}\n"                          \
         "accounts: {sales: {address: s@x.example, smarthost: office, auth: " \
         "{oauth2: {client: corp, refresh_token_file: t}}}}\n"                \
         "pools: {bulk: {accounts: sales}}\n"                                 \
         "lists: {staff: [a@x.example]}\n"

static const struct compile_row did_you_mean[] = {
    {"account", 0, NAMES "default: {account: slaes}\n",
     "7:20: \"slaes\": there is no such account; did you mean \"sales\"?\n"},
    {"pool", 0, NAMES "default: {pool: bluk}\n",
     "7:17: \"bluk\": there is no such pool; did you mean \"bulk\"?\n"},
    {"list", 0,
     NAMES "rules: [{match: {sender: {list: staf}, auth: 'list: stafff'}, "
           "route: mta}]\n",
     "7:33: \"staf\": there is no such list; did you mean \"staff\"?\n"
     "7:46: \"stafff\": there is no such list; did you mean \"staff\"?\n"},
    {"smarthost, client, member", 0,
     HEAD "oauth_clients: {corp: {client_id: i}}\n"
          "accounts:\n"
          "  a: {address: a@x.example, smarthost: gmial, auth: none}\n"
          "  b: {address: b@x.example, smarthost: gmail_rely, auth: none}\n"
          "  c: {address: c@x.example, auth: {oauth2: {client: crop, "
          "refresh_token_file: t}}}\n"
          "pools: {p: {accounts: [A, {acount: b}]}}\n",
     "4:40: \"gmial\": there is no such smarthost; did you mean \"gmail\"?\n"
     "5:40: \"gmail_rely\": there is no such smarthost; did you mean "
     "\"gmail_relay\"?\n"
     "6:53: \"crop\": there is no such OAuth2 client; did you mean "
     "\"corp\"?\n"
     "7:24: \"A\": there is no such account; did you mean \"a\"?\n"
     "7:27: a member of a pool: the key account is missing\n"
     "7:28: unknown key \"acount\" in a member of a pool; did you mean "
     "\"account\"?\n"},
    {"keys", 0,
     HEAD "acounts: {}\n"
          "state: {dirctory: /x}\n"
          "deliver: {connection: 3}\n"
          "accounts:\n"
          "  a: {adress: a@x.example, auth: none, sesions: {}}\n"
          "lists: {l: {flie: x}}\n",
     "2:1: unknown key \"acounts\" in the configuration; did you mean "
     "\"accounts\"?\n"
     "3:9: unknown key \"dirctory\" in state; did you mean \"directory\"?\n"
     "4:11: unknown key \"connection\" in deliver; did you mean "
     "\"connections\"?\n"
     "6:3: an account: the key address is missing\n"
     "6:7: unknown key \"adress\" in an account; did you mean \"address\"?\n"
     "6:40: unknown key \"sesions\" in an account; did you mean "
     "\"sessions\"?\n"
     "7:12: a list: the key file is missing\n"
     "7:13: unknown key \"flie\" in a list; did you mean \"file\"?\n"},
    {"nothing is like it", 0, NAMES "default: {account: qqqq}\n",
     "7:20: \"qqqq\": there is no such account\n"},
    {"names that are none", 0, NAMES "default: {account: [sales]}\n",
     "7:20: want the name of an account, found a list\n"},
};

static const struct compile_row lengths[] = {
    {"text", 0, HEAD "oauth_clients: {c: {client_id: " X250 X10 "}}\n",
     "2:32: client_id: longer than 256 octets: " CUT "\n"},
    {"line break", 0,
     HEAD "oauth_clients: {c: {client_id: \"a\\nb\", scope: \"\\x7f\"}}\n",
     "2:32: client_id: a line break or control character in \"a?b\"\n"
     "2:47: scope: a line break or control character in \"?\"\n"},
    {"tag domain", 0, HEAD "milter: {tag_domain: " X50 "." X50 ".invalid}\n",
     "2:22: tag_domain: longer than 63 octets, which leaves too little room "
     "for addresses\n"},
    {"domain", 0, HEAD "mta_domains: " X50 "." X50 "." X50 "." X50 "." X50 "\n",
     "2:14: mta_domains: \"" X50 ".xxxxxxxxx...\" is longer than 253 octets\n"},
    {"address", 0,
     HEAD "accounts: {a: {auth: none, address: " X250 "@x.example}}\n",
     "2:37: address: " CUT " is longer than 254 octets\n"},
    {"expression", 0,
     HEAD "rules: [{match: {auth: /" X1000 X1000 X1000 X1000 X100 "/}, route: "
          "mta}]\n",
     "2:24: auth: the expression is longer than 4096 octets\n"},
    {"line of a file", 0,
     HEAD "lists: {l: {file: long.txt}}\n"
          "rules: [{match: {auth: {list: l}}, route: mta}]\n",
     "/c/long.txt:2:1: the line is longer than 1024 octets\n"},
    {"name", 0, HEAD "pools: {" X50 X10 "xxxx: {accounts: []}, '': {}}\n",
     "2:9: " CUT " cannot be a name: want 1 to 63 letters, digits, \"_\", "
     "\"-\" or \".\"\n"
     "2:91: \"\" cannot be a name: want 1 to 63 letters, digits, \"_\", "
     "\"-\" or \".\"\n"},
    {"otherwise", 0,
     RULES "  - {route: {account: a}, otherwise: [wait, wait, wait, wait, "
           "wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, "
           "wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, "
           "wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, "
           "wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, "
           "wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, wait, "
           "wait, wait, wait, wait, wait]}\n",
     "4:38: otherwise: more than 63 entries\n"},
};

static const struct compile_row forms[] = {
    {"null lists of rules", 0, HEAD "rules:\nlists:\npools:\n",
     "2:7: rules: want a list of rules, found nothing\n"
     "3:7: lists: want a map of lists, found nothing\n"
     "4:7: pools: want a map of pools, found nothing\n"},
    {"sections", 0,
     HEAD "oauth_clients: [a]\nsmarthosts: x\naccounts: [b]\n"
          "default: {account: a}\n",
     "2:16: oauth_clients: want a map of OAuth2 clients, found a list\n"
     "3:13: smarthosts: want a map of smarthosts, found \"x\"\n"
     "4:11: accounts: want a map of accounts, found a list\n"},
    {"networks", 0, HEAD "milter: {reinject_from: {a: b}}\n",
     "2:25: reinject_from: want a list of addresses and networks, found a "
     "map\n"},
    {"send_as", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: none, smarthost: "
          "gmail_relay, send_as: {b: c}}, b: {address: b@x.example, auth: "
          "none, smarthost: gmail_relay, send_as: [b, '@', '@a b', c@]}}\n",
     "2:83: send_as: want a list of addresses and \"@domain\", found a map\n"
     "2:164: send_as: \"b\" has no @domain\n"
     "2:167: send_as: \"@\" is empty\n"
     "2:172: send_as: \"@a b\" is not a domain\n"
     "2:180: send_as: \"c@\" is not an address\n"},
    {"units", 0,
     HEAD "accounts: {a: {address: a@x.example, auth: none, smarthost: "
          "gmail_relay, quota: {bytes: 3XB per 1h}, max_wait: 5w}}\n",
     "2:89: bytes: \"3XB per 1h\" begins with no size\n"
     "2:112: max_wait: \"5w\" has no unit that is known: want s, m, h or "
     "d\n"},
    {"empty lists of a condition", 0,
     HEAD "rules: [{match: {size: [], kind: [], client: ''}, route: mta}]\n",
     "2:24: size: an empty list\n"
     "2:34: kind: an empty list\n"
     "2:46: client: found \"\": want an address, a network or a host name\n"},
    {"entries of a list", 0,
     HEAD "lists: {l: ['', [a], {b: c}, 'list: l', 10.0.0.1/8, /(/]}\n"
          "rules: [{match: {auth: {list: l}}, route: mta}]\n",
     "2:13: l: found \"\": an empty entry\n"
     "2:17: l: want a text, found a list\n"
     "2:22: l: a list cannot hold a list\n"
     "2:30: l: a list cannot hold a list\n"
     "2:41: l: \"10.0.0.1/8\" has bits set behind its prefix\n"
     "2:53: l: expression \"/(/\": missing closing parenthesis, after 1 "
     "octets\n"},
    {"entries of a list file", 0,
     HEAD "lists: {l: {file: 10.txt}}\n"
          "rules: [{match: {auth: {list: l}}, route: mta}]\n",
     "/c/10.txt:1:1: l: \"10.0.0.0/33\" has no prefix length of 0..32 (IPv4) "
     "or 0..128\n"
     "/c/10.txt:2:1: l: \"10.0.0.1/8\" has bits set behind its prefix\n"
     "/c/10.txt:4:1: l: expression \"/*(/\": quantifier does not follow a "
     "repeatable item, after 0 octets\n"},
    {"a file that cannot be read", 0,
     HEAD "lists: {l: {file: closed.txt}}\n"
          "rules: [{match: {auth: {list: l}}, route: mta}]\n",
     "2:19: file: cannot read /c/closed.txt: Permission denied\n"},
    {"maps", 0,
     HEAD "accounts:\n"
          "  a: {address: '*@x.example', auth: none, smarthost: gmail_relay, "
          "map: {file: map.txt}}\n"
          "  b: {address: '*@y.example', auth: none, smarthost: gmail_relay, "
          "map: {file: nomap.txt}}\n",
     "4:79: warning: map: the file holds no alias\n"
     "/c/map.txt:1:2: a control character\n"
     "/c/map.txt:2:1: \"a@@b\" is not an address\n"
     "/c/map.txt:3:3: \"b[c\" is not an address or local part\n"
     "/c/map.txt:4:1: \"\"a\" is not an address or local part\n"
     "/c/map.txt:5:3: \"a@[192.0.2.1]\" has an address literal for a domain\n"},
};

/* Good accounts, all in one line: only what nothing leads to is named. */
#define UNUSED                                                                 \
    HEAD "mta_domains: [in.example, .sub.example, .lan]\n"                     \
         "oauth_clients: {corp: {client_id: i}, old: {client_id: j}}\n"        \
         "smarthosts: {office: {host: o.example}, gmail: {port: 587}}\n"       \
         "accounts:\n"                                                         \
         "  a: {address: a@x.example, smarthost: gmail_relay, auth: none}\n"   \
         "  b: {address: b@x.example, smarthost: gmail_relay, auth: none}\n"   \
         "  c: {address: c@x.example, smarthost: gmail_relay, auth: none}\n"   \
         "  t: {address: '*@t.example', smarthost: gmail_relay, auth: none}\n" \
         "  n: {address: n@t.example, smarthost: gmail_relay, auth: none}\n"   \
         "  o: {address: o@t.example, smarthost: office, auth: {oauth2: "      \
         "{client: "                                                           \
         "corp, refresh_token_file: t}}}\n"                                    \
         "pools:\n"                                                            \
         "  p: {accounts: b}\n"                                                \
         "  q: {accounts: c}\n"                                                \
         "rules:\n"

#define GMAIL_AND_OLD                                                         \
    "3:39: warning: the OAuth2 client \"old\" is not used: no account names " \
    "it\n"                                                                    \
    "4:41: warning: the smarthost \"gmail\" is not used: no account names "   \
    "it\n"

static const struct compile_row unused[] = {
    {"all wait for rules", 0, UNUSED "  - {match: {auth: x}, route: mta}\n",
     GMAIL_AND_OLD},
    {"through a pool, otherwise and the default", 0,
     UNUSED "  - {match: {auth: x}, route: {pool: p}, otherwise: {account: a}}"
            "\n"
            "default: {account: o}\n",
     GMAIL_AND_OLD
     "8:3: warning: the account \"c\" is not used: no rule leads to it\n"
     "9:3: warning: the account \"t\" is not used: no rule leads to it\n"
     "10:3: warning: the account \"n\" is not used: no rule leads to it\n"
     "14:3: warning: the pool \"q\" is not used: no rule leads to it\n"},
    /* n is t with the sender n@t.example; o has another smarthost. */
    {"through a template", 0,
     UNUSED "  - {match: {auth: x}, route: {pool: q}, otherwise: {account: t}}"
            "\n",
     GMAIL_AND_OLD
     "6:3: warning: the account \"a\" is not used: no rule leads to it\n"
     "7:3: warning: the account \"b\" is not used: no rule leads to it\n"
     "11:3: warning: the account \"o\" is not used: no rule leads to it\n"
     "13:3: warning: the pool \"p\" is not used: no rule leads to it\n"},
};

#define MTA                                                                    \
    HEAD "mta_domains: [in.example, .sub.example, .lan]\n"                     \
         "accounts: {a: {address: a@x.example, smarthost: gmail_relay, auth: " \
         "none}}\n"                                                            \
         "rules:\n"                                                            \
         "  - {name: r, route: {account: a}, match: "
#define NEVER                                                          \
    ": warning: the route of the rule \"r\" never applies: all these " \
    "recipients are in mta_domains, whose mail the MTA delivers itself\n"

static const struct compile_row mta_only[] = {
    {"a domain", 0, MTA "{recipient_domain: IN.example}}\n", "5:44" NEVER},
    {"an address", 0, MTA "{auth: x, recipient: [a@x.lan, '*@in.example']}}\n",
     "5:53" NEVER},
    {"any subdomain", 0,
     MTA "{recipient_domain: [.sub.example, .x.sub.example]}}\n", "5:44" NEVER},
    {"any of several", 0,
     MTA "{any: [{recipient_domain: a.lan}, {recipient: a@in.example, size: "
         "1}]}}\n",
     "5:78" NEVER},
    {"all of several", 0,
     MTA "{all: [{auth: y}, {recipient_domain: a.lan}]}}\n", "5:62" NEVER},
    {"one of them elsewhere", 0,
     MTA "{recipient_domain: [in.example, x.example]}}\n", ""},
    {"above", 0, MTA "{recipient_domain: [.in.example, lan, .example]}}\n", ""},
    {"a part of a label", 0, MTA "{recipient_domain: .xsub.example}}\n", ""},
    {"a wildcard", 0, MTA "{recipient_domain: '*.lan'}}\n", ""},
    {"an expression", 0, MTA "{recipient: /@in.example$/}}\n", ""},
    {"any other", 0, MTA "{any: [{recipient_domain: a.lan}, {auth: x}]}}\n",
     ""},
    {"not", 0, MTA "{not: {recipient_domain: a.lan}}}\n", ""},
};

static void
names_that_are_nearly_right(void **state)
{
    (void)state;
    compile_case_check_in(&all_files, did_you_mean, LENGTH(did_you_mean));
}

static void
what_is_too_long(void **state)
{
    (void)state;
    compile_case_check_in(&all_files, lengths, LENGTH(lengths));
}

static void
what_has_another_form(void **state)
{
    (void)state;
    compile_case_check_in(&all_files, forms, LENGTH(forms));
}

static void
what_nothing_uses(void **state)
{
    (void)state;
    compile_case_check_in(&all_files, unused, LENGTH(unused));
}

static void
routes_of_what_the_mta_delivers(void **state)
{
    (void)state;
    compile_case_check_in(&all_files, mta_only, LENGTH(mta_only));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_nearly_right),
        cmocka_unit_test(what_is_too_long),
        cmocka_unit_test(what_has_another_form),
        cmocka_unit_test(what_nothing_uses),
        cmocka_unit_test(routes_of_what_the_mta_delivers),
    };

    return cmocka_run_group_tests_name("policy/diagnostics", tests, NULL, NULL);
}
