/* tests/unit/policy/test_compile_match.c - mirrors policy/compile_match.c,
 * compile_time.c and compile_order.c: what is said of wrong conditions, and
 * what good ones become
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
#include "policy/zone.h"

#define MATCH(conditions) RULES "  - {match: {" conditions "}, route: mta}\n"
#define UTC               "timezone: UTC\n"

/* ---- errors ---- */

#define NO_DAY(day, found)                                               \
    "time: \"" day "\" is no day: want mon, tue, wed, thu, fri, sat or " \
    "sun, found \"" found "\""
#define NO_HOURS(hours, found)                                   \
    "time: \"" hours "\" is no span of hours: want one such as " \
    "08:00-18:00 or 22:00-06:00, found \"" found "\"\n"
#define WANT_ZONE "want the name of a time zone, such as Europe/Berlin or UTC"
#define WANT_SAMPLE \
    "sample: want a part from 0% to 100%, such as 10% or 0.1%, found "
#define WANT_COUNT "recipients: want <, <=, > or >= and a number such as 10, "

static const struct compile_row rows[] = {
    {"all of them", 0,
     UTC MATCH("subject: [x, '/y/'], helo: [x.example, .x.example, '*.y', "
               "'/z/', '[192.0.2.1]'], tls: no, macro: {daemon_name: a, "
               "'{i}': b}, recipients: ['< 3', 5], attachment: '*.exe', "
               "time: 'mon-fri 08:00-18:00', sample: 10%"),
     ""},

    {"subject", 0, MATCH("subject: []"),
     "4:23: subject: an empty list, which nothing can match\n"},
    {"subject map", 0, MATCH("subject: {a: b}"),
     "4:23: subject: want a text or {list: NAME}\n"},
    {"helo", 0, MATCH("helo: ['', 'a b', '[]', {list: x}]"),
     "4:21: helo: found \"\": want a host name (no name at all is not: "
     "{helo: \"*\"})\n"
     "4:25: helo: \"a b\" is not a domain\n"
     "4:32: helo: \"[]\" is not a domain\n"
     "4:45: \"x\": there is no such list\n"},
    {"tls", 0, MATCH("tls: maybe"),
     "4:19: tls: want yes or no, found \"maybe\"\n"},
    {"tls quoted", 0, MATCH("tls: 'yes'"),
     "4:19: tls: want yes or no, found \"yes\"\n"},
    {"tls list", 0, MATCH("tls: [yes]"),
     "4:19: tls: want yes or no, found a list\n"},
    {"macro", 0, MATCH("macro: x"),
     "4:21: macro: want a map of names and patterns, found \"x\"\n"},
    {"macro names", 0,
     MATCH("macro: {'{': a, '{}': a, '$i': a, 'a b': a, i: [], '': a}"),
     "4:22: macro: \"{\" is not the name of a macro: want one such as "
     "daemon_name or \"{daemon_name}\"\n"
     "4:30: macro: \"{}\" is not the name of a macro: want one such as "
     "daemon_name or \"{daemon_name}\"\n"
     "4:39: macro: \"$i\" is not the name of a macro: want one such as "
     "daemon_name or \"{daemon_name}\"\n"
     "4:48: macro: \"a b\" is not the name of a macro: want one such as "
     "daemon_name or \"{daemon_name}\"\n"
     "4:61: macro: an empty list, which nothing can match\n"
     "4:65: macro: \"\" is not the name of a macro: want one such as "
     "daemon_name or \"{daemon_name}\"\n"},
    {"recipients", 0,
     MATCH("recipients: [1KB, '> -1', '<', '>= 99999999999999999999', x, {}]"),
     "4:27: " WANT_COUNT "found \"1KB\"\n"
     "4:32: " WANT_COUNT "found \"> -1\"\n"
     "4:40: " WANT_COUNT "found \"<\"\n"
     "4:45: " WANT_COUNT "found \">= 99999999999999999999\"\n"
     "4:72: " WANT_COUNT "found \"x\"\n"
     "4:75: " WANT_COUNT "found a map\n"},
    {"recipients empty", 0, MATCH("recipients: []"),
     "4:26: recipients: an empty list\n"},
    {"attachment", 0, MATCH("attachment: ['/(/']"),
     "4:27: attachment: expression \"/(/\": missing closing parenthesis, "
     "after 1 octets\n"},
    {"samples", 0,
     MATCH("any: [{sample: 0}, {sample: 100%}, {sample: "
           "'0.000001%'}, {sample: 12.5 %}]"),
     ""},
    {"sample", 0,
     MATCH("any: [{sample: x}, {sample: 101%}, {sample: 100.1%}, {sample: "
           "1.}, {sample: .5}, {sample: -1}, {sample: 0.1234567}, {sample: "
           "[1]}, {sample: '%'}, {sample: 1e1}]"),
     "4:29: " WANT_SAMPLE "\"x\"\n"
     "4:42: " WANT_SAMPLE "\"101%\"\n"
     "4:58: " WANT_SAMPLE "\"100.1%\"\n"
     "4:76: " WANT_SAMPLE "\"1.\"\n"
     "4:90: " WANT_SAMPLE "\".5\"\n"
     "4:104: " WANT_SAMPLE "\"-1\"\n"
     "4:118: " WANT_SAMPLE "\"0.1234567\"\n"
     "4:139: " WANT_SAMPLE "a list\n"
     "4:154: " WANT_SAMPLE "\"%\"\n"
     "4:169: " WANT_SAMPLE "\"1e1\"\n"},

    {"times", 0,
     MATCH("timezone: UTC, time: [mon, MONDAY, 'mon,wed , Fri', sat-sun, "
           "fri - mon, 8:00-18:00, '22:00 - 06:00', 'mon 00:00-24:00', "
           "'thursday-sat   23:59-0:00']"),
     ""},
    {"days", 0,
     MATCH("timezone: UTC, time: [mno, mon-fry, 'mon,', ',mon', mon-, "
           "mon-tue-wed, mo, 'sat sun', monday 1]"),
     "4:36: " NO_DAY(
         "mno",
         "mno") "; did you mean \"mon\"?\n"
                "4:41: " NO_DAY(
                    "fry",
                    "mon-fry") "; did you mean \"fri\"?\n"
                               "4:50: " NO_DAY(
                                   "",
                                   "mon,") "\n"
                                           "4:58: " NO_DAY(
                                               "",
                                               ",mon") "\n"
                                                       "4:66: " NO_DAY(
                                                           "",
                                                           "mon-") "\n"
                                                                   "4:72:"
                                                                   " " NO_DAY(
                                                                       "tue-"
                                                                       "wed",
                                                                       "mon-"
                                                                       "tue-"
                                                                       "wed") "\n"
                                                                              "4:85: " NO_DAY(
                                                                                  "mo",
                                                                                  "mo") "; did you mean \"mon\"?\n"
                                                                                        "4:89: " NO_DAY(
                                                                                            "sat sun",
                                                                                            "sat sun") "\n"
                                                                                                       "4:100: " NO_HOURS(
                                                                                                           "1",
                                                                                                           "monday 1")},
    {"hours", 0,
     MATCH("timezone: UTC, time: [8-18, '08:00', 08:00-, 08:60-09:00, "
           "24:01-1:00, 08:00-25:00, 008:00-09:00, 08:00-18:00 mon, "
           "8:0-9:00, ':00-9:00']"),
     "4:36: " NO_HOURS("8-18", "8-18") "4:42: " NO_HOURS(
         "08:00",
         "08:00") "4:51: " NO_HOURS("08:00-", "08:00-") "4:59: " NO_HOURS("08:"
                                                                          "60-"
                                                                          "09:"
                                                                          "00",
                                                                          "08:"
                                                                          "60-"
                                                                          "09:"
                                                                          "00") "4:72: " NO_HOURS("24:01-1:00", "24:01-1:00") "4:84: " NO_HOURS("08:00-25:00", "08:00-25:00") "4:97: " NO_HOURS("008:00-09:00", "008:00-09:00") "4:111: " NO_HOURS("08:00-18:00 mon", "08:00-18:00 mon") "4:128: " NO_HOURS("8:0-9:00",
                                                                                                                                                                                                                                                                                                            "8:0-9:00") "4:138: " NO_DAY(":",
                                                                                                                                                                                                                                                                                                                                         ":00-9:00") "\n"},
    {"no span", 0,
     MATCH("timezone: UTC, time: [24:00-24:00, 24:00-01:00, 08:00-08:00, "
           "00:00-24:00]"),
     "4:36: time: a day ends at 24:00, and none begins there: want 00:00, "
     "found \"24:00-24:00\"\n"
     "4:49: time: a day ends at 24:00, and none begins there: want 00:00, "
     "found \"24:00-01:00\"\n"
     "4:62: time: it begins and ends at the same time; all day is "
     "00:00-24:00, found \"08:00-08:00\"\n"},
    {"time kinds", 0, MATCH("timezone: UTC, time: [{}, [], ]"),
     "4:36: time: want days, hours or both, such as \"mon-fri "
     "08:00-18:00\", found a map\n"
     "4:40: time: want days, hours or both, such as \"mon-fri "
     "08:00-18:00\", found a list\n"},
    {"time null", 0, MATCH("timezone: UTC, time: "),
     "4:35: time: want days, hours or both, such as \"mon-fri "
     "08:00-18:00\", found nothing\n"},
    {"time empty", 0, MATCH("timezone: UTC, time: []"),
     "4:35: time: an empty list\n"},

    {"the host has no zone", 0, MATCH("any: [{time: mon}, {time: tue}]"),
     "4:27: warning: time: UTC is taken, for the host's time zone cannot be "
     "read (/etc/localtime: No such file or directory); timezone: NAME says "
     "which one is meant\n"},
    {"the zone of all", 0, "timezone: Europe/Berlin\n" MATCH("time: mon"), ""},
    {"a zone of its own", 0, MATCH("time: mon, timezone: Europe/Berlin"), ""},
    {"a zone without a time", 0,
     UTC MATCH("any: [{timezone: UTC, auth: x}, {time: mon}]"),
     "5:21: timezone: there is no time beside it that it could be for\n"},
    {"zone alone", 0, MATCH("timezone: UTC"),
     "4:14: timezone: there is no time beside it that it could be for\n"},
    {"bad zones", 0,
     MATCH("any: [{time: mon, timezone: Europe/Nowhere}, {time: mon, "
           "timezone: Etc/Text}, {time: mon, timezone: Etc/Text}]"),
     "4:42: timezone: there is no \"Europe/Nowhere\" that can be read "
     "(/usr/share/zoneinfo/Europe/Nowhere: No such file or "
     "directory): " WANT_ZONE "\n"
     "4:81: timezone: there is no \"Etc/Text\" that can be read "
     "(/usr/share/zoneinfo/Etc/Text: it is no TZif file): " WANT_ZONE "\n"
     "4:114: timezone: there is no \"Etc/Text\" that can be read "
     "(/usr/share/zoneinfo/Etc/Text: it is no TZif file): " WANT_ZONE "\n"},
    {"no names of zones", 0,
     "timezone: ../etc/passwd\n" MATCH(
         "any: [{time: mon, timezone: /UTC}, {time: mon, timezone: UTC/}, "
         "{time: mon, timezone: a//b}, {time: mon, timezone: a.b}, {time: "
         "mon, timezone: [UTC]}, {time: mon, timezone: }, {time: mon, "
         "timezone: 'a b'}]"),
     "1:11: timezone: " WANT_ZONE ", found \"../etc/passwd\"\n"
     "5:42: timezone: " WANT_ZONE ", found \"/UTC\"\n"
     "5:71: timezone: " WANT_ZONE ", found \"UTC/\"\n"
     "5:100: timezone: " WANT_ZONE ", found \"a//b\"\n"
     "5:129: timezone: " WANT_ZONE ", found \"a.b\"\n"
     "5:157: timezone: " WANT_ZONE ", found a list\n"
     "5:187: timezone: " WANT_ZONE ", found nothing\n"
     "5:212: timezone: " WANT_ZONE ", found \"a b\"\n"},
    {"the zone of all is bad", 0, "timezone: CET\n" MATCH("time: mon"),
     "1:11: timezone: there is no \"CET\" that can be read "
     "(/usr/share/zoneinfo/CET: No such file or directory): " WANT_ZONE "\n"
     "5:20: warning: time: UTC is taken, for the host's time zone cannot be "
     "read (/etc/localtime: No such file or directory); timezone: NAME says "
     "which one is meant\n"},
};

static void
errors(void **state)
{
    (void)state;
    compile_case_check(rows, LENGTH(rows));
}

/* ---- spans ---- */

static void
spans(void **state)
{
    enum { SUN = 1, MON = 2, TUE = 4, WED = 8, THU = 16, FRI = 32, SAT = 64 };
    static const struct {
        const char *text;
        unsigned days, begin, end;
    } want[] = {
        {"mon", MON, 0, 1440},
        {"Monday", MON, 0, 1440},
        {"mon-fri 08:00-18:00", MON | TUE | WED | THU | FRI, 480, 1080},
        {"mon,wed,fri", MON | WED | FRI, 0, 1440},
        {"sat-sun", SAT | SUN, 0, 1440},
        {"fri-mon", FRI | SAT | SUN | MON, 0, 1440},
        {"sun-sat", 127, 0, 1440},
        {"mon-mon", MON, 0, 1440},
        {"mon-tue,thu 9:05-17:00", MON | TUE | THU, 545, 1020},
        {"22:00-06:00", 127, 1320, 360},
        {"12:00-24:00", 127, 720, 1440},
        {"SAT 23:59-0:00", SAT, 1439, 0},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(want); i++) {
        char yaml[400];
        struct policy *p;
        const struct condition *time;

        snprintf(yaml, sizeof yaml, "%s - {match: {time: '%s'}, route: mta}\n",
                 "gmroute: 1\n" UTC "rules:\n", want[i].text);
        p = compile_case_good(yaml);
        time = &p->rules[0].match.child[0];
        print_message("  %s\n", want[i].text);
        assert_int_equal(time->n_spans, 1);
        assert_int_equal(time->span[0].days, want[i].days);
        assert_int_equal(time->span[0].begin, want[i].begin);
        assert_int_equal(time->span[0].end, want[i].end);
        assert_string_equal(time->span[0].text, want[i].text);
        policy_free(p);
    }
}

static void
zones_of_conditions(void **state)
{
    static const char yaml[] =
        "gmroute: 1\n"
        "timezone: Europe/Berlin\n"
        "rules:\n"
        "- {match: {any: [{time: mon}, {time: mon, timezone: UTC},\n"
        "                 {timezone: Europe/Berlin, time: mon}]}, route: "
        "mta}\n";
    struct policy *p = compile_case_good(yaml);
    const struct condition *any = &p->rules[0].match.child[0];

    (void)state;
    assert_int_equal(any->n_children, 3);
    assert_string_equal(any->child[0].child[0].zone_name, "Europe/Berlin");
    assert_string_equal(any->child[1].child[0].zone_name, "UTC");
    assert_null(any->child[1].child[0].zone);
    assert_int_equal(any->child[2].n_children, 1);
    assert_non_null(any->child[2].child[0].zone);
    assert_ptr_equal(any->child[2].child[0].zone, any->child[0].child[0].zone);
    assert_int_equal(zone_wall(any->child[0].child[0].zone, 0).minute, 60);
    policy_free(p);
}

/* ---- what is asked of the MTA ---- */

static void
needs(void **state)
{
    static const struct {
        const char *match;
        unsigned needs;
    } want[] = {
        {"helo: x", POLICY_NEEDS_HELO},
        {"tls: yes", 0},
        {"time: mon, timezone: UTC", 0},
        {"macro: {i: x}", POLICY_NEEDS_MACROS},
        {"subject: x", POLICY_NEEDS_HEADERS},
        {"sample: 10%", POLICY_NEEDS_HEADERS},
        {"recipients: 1", 0},
        {"attachment: x", POLICY_NEEDS_HEADERS | POLICY_NEEDS_BODY},
        {"any: [{not: {helo: x}}, {size: 1}]",
         POLICY_NEEDS_HELO | POLICY_NEEDS_SIZE},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(want); i++) {
        char yaml[400];
        struct policy *p;

        snprintf(yaml, sizeof yaml, HEAD "rules: [{match: {%s}, route: mta}]\n",
                 want[i].match);
        p = compile_case_good(yaml);
        print_message("  %s\n", want[i].match);
        assert_int_equal(p->needs, want[i].needs);
        policy_free(p);
    }
}

static bool
has_macro(const struct policy *p, const char *name)
{
    for (size_t i = 0; i < p->n_macros; i++)
        if (strcmp(p->macros[i], name) == 0)
            return true;
    return false;
}

static void
macros_are_listed_once(void **state)
{
    struct policy *p = compile_case_good(
        HEAD
        "rules:\n"
        "- {match: {macro: {'{daemon_name}': a, i: b, I: c}}, route: mta}\n"
        "- {match: {not: {macro: {daemon_name: x}}}, route: mta}\n");

    (void)state;
    assert_int_equal(p->n_macros, 3);
    assert_true(has_macro(p, "daemon_name"));
    assert_true(has_macro(p, "i"));
    assert_true(has_macro(p, "I"));
    policy_free(p);
    p = compile_case_good(HEAD);
    assert_int_equal(p->n_macros, 0);
    policy_free(p);
}

/* ---- the order of conditions ---- */

static void
add_keys(const struct condition *c, char *to, size_t size)
{
    static const char *const name[] = {
        [MATCH_SENDER] = "sender",
        [MATCH_SENDER_DOMAIN] = "sender_domain",
        [MATCH_HELO] = "helo",
        [MATCH_TLS] = "tls",
        [MATCH_TIME] = "time",
        [MATCH_MACRO] = "macro",
        [MATCH_FROM] = "from",
        [MATCH_HEADER] = "header",
        [MATCH_SIZE] = "size",
        [MATCH_RECIPIENTS] = "recipients",
        [MATCH_ATTACHMENT] = "attachment",
        [MATCH_SAMPLE] = "sample",
        [MATCH_KIND] = "kind",
        [MATCH_ALL] = "all",
        [MATCH_ANY] = "any",
        [MATCH_NOT] = "not",
        [MATCH_CLIENT] = "client",
        [MATCH_AUTH] = "auth",
    };

    for (size_t i = 0; i < c->n_children; i++) {
        size_t n = strlen(to);

        snprintf(to + n, size - n, "%s%s", n == 0 ? "" : " ",
                 name[c->child[i].key]);
        if (c->child[i].n_children > 0) {
            snprintf(to + strlen(to), size - strlen(to), "(");
            add_keys(&c->child[i], to, size);
            snprintf(to + strlen(to), size - strlen(to), ")");
        }
    }
}

static void
cheap_conditions_come_first(void **state)
{
    static const struct {
        const char *name, *match, *want;
    } order[] = {
        {"everything",
         "attachment: a, header: {A: /x/}, from: a@b, sample: 1%, kind: auto, "
         "recipients: 1, size: 1, macro: {i: x}, sender: /x/, tls: yes, time: "
         "mon, helo: x, auth: a",
         "tls time helo auth sender macro recipients size from sample kind "
         "header attachment"},
        {"equal ones stay", "auth: a, sender_domain: b, client: c, helo: d",
         "auth sender_domain client helo"},
        {"bounce is known early", "size: 1, kind: bounce", "kind size"},
        {"bounce or auto is not", "kind: [bounce, auto], auth: a", "auth kind"},
        {"a long list of globs", "sender: {list: globs}, helo: x",
         "helo sender"},
        {"a list of plain texts", "sender: {list: plain}, helo: x",
         "sender helo"},
        {"all of several headers", "header: {A: x, B: y}, auth: a",
         "auth all( header header)"},
        {"inside",
         "not: {subject: x, auth: a}, all: [{size: 1}, {tls: no}], "
         "client: c",
         "client all( all( tls) all( size)) not( auth header)"},
        {"any stays, and costs what its dearest part does",
         "any: [{attachment: x}, {auth: a}], subject: x, helo: y",
         "helo header any( all( attachment) all( auth))"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(order); i++) {
        char yaml[800], got[400] = "";
        struct policy *p;

        snprintf(yaml, sizeof yaml,
                 HEAD UTC "lists: {globs: ['*@b'], plain: [a@b]}\n"
                          "rules: [{match: {%s}, route: mta}]\n",
                 order[i].match);
        p = compile_case_good(yaml);
        add_keys(&p->rules[0].match, got, sizeof got);
        print_message("  %s\n", order[i].name);
        assert_string_equal(got, order[i].want);
        policy_free(p);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),
        cmocka_unit_test(spans),
        cmocka_unit_test(zones_of_conditions),
        cmocka_unit_test(needs),
        cmocka_unit_test(macros_are_listed_once),
        cmocka_unit_test(cheap_conditions_come_first),
    };

    return cmocka_run_group_tests_name("policy/compile_match", tests, NULL,
                                       NULL);
}
