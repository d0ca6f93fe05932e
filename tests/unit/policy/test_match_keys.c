/* tests/unit/policy/test_match_keys.c - mirrors policy/match.c,
 * match_message.c and match_explain.c: helo, tls, macro, time, subject,
 * recipients, attachment and sample, at each stage
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "compile_case.h"
#include "policy/match.h"
#include "policy/rule.h"
#include "policy/scratch.h"

enum { N = TRUTH_NO, Y = TRUTH_YES, U = TRUTH_UNKNOWN };

static struct scratch *scratch;

static int
setup(void **state)
{
    (void)state;
    scratch = scratch_new();
    return scratch == NULL;
}

static int
teardown(void **state)
{
    (void)state;
    scratch_free(scratch);
    return 0;
}

static struct policy *
policy_of(const char *match)
{
    char yaml[1000];

    snprintf(yaml, sizeof yaml,
             HEAD
             "timezone: Europe/Berlin\n"
             "lists: {l: [mx.example, .sub.example, '*.exe', /^x/, inbound]}\n"
             "rules: [{match: {%s}, route: mta}]\n",
             match);
    return compile_case_good(yaml);
}

struct asked {
    enum truth truth;
    bool unparseable;
    char why[WHY_TEXT];
};

static struct asked
ask(const struct policy *p, const struct facts *f, enum facts_stage stage,
    bool unreadable_unknown)
{
    struct facts now = *f;
    struct asked a = {.truth = TRUTH_NO};
    struct match m;

    now.stage = stage;
    scratch_reset(scratch);
    match_init(&m, &now, slice_of("r@s"), scratch);
    m.unreadable_unknown = unreadable_unknown;
    a.truth = match_condition(&m, &p->rules[0].match);
    a.unparseable = m.unparseable;
    assert_false(m.nomem);
    match_explain(&m, &p->rules[0].match, a.why);
    return a;
}

/* ---- yes, no, not known ---- */

static const struct facts_pair macros[] = {
    {SLICE_LIT("daemon_name"), SLICE_LIT("inbound")},
    {SLICE_LIT("empty"), {NULL, 0}},
    {SLICE_LIT("rcpt_addr"), SLICE_LIT("of the message")},
};
static const struct facts_pair rcpt_macros[] = {
    {SLICE_LIT("rcpt_addr"), SLICE_LIT("of the recipient")},
};
static const struct facts_pair headers[] = {
    {SLICE_LIT("SUBJECT"), SLICE_LIT("=?utf-8?q?Hi?= all")},
    {SLICE_LIT("Message-Id"), SLICE_LIT(" <CAFE-1@example.com>\r\n")},
};
static const struct slice names[] = {SLICE_LIT("a.pdf"), SLICE_LIT("b.EXE")};

#define MACROS .n_macros = LENGTH(macros), .macro = macros
#define RCPT_MACROS \
    .n_rcpt_macros = LENGTH(rcpt_macros), .rcpt_macro = rcpt_macros
#define HEADERS    .n_headers = LENGTH(headers), .header = headers
#define HELO(name) .helo = SLICE_LIT(name)
#define NAMES      .n_attachments = LENGTH(names), .attachment = names

static const struct row {
    const char *match;
    struct facts f;
    int at_rcpt, at_log, at_end;
} rows[] = {
    {"helo: mx.example", {HELO("MX.example")}, Y, Y, Y},
    {"helo: mx.example", {HELO("mx.example.")}, Y, Y, Y},
    {"helo: mx.example", {HELO("x.mx.example")}, N, N, N},
    {"helo: .example", {HELO("x.mx.example")}, Y, Y, Y},
    {"helo: '*'", {HELO("anything [at] all")}, Y, Y, Y},
    {"helo: /^ANY/", {HELO("anything [at] all")}, Y, Y, Y},
    {"helo: 'list: l'", {HELO("a.sub.example")}, Y, Y, Y},
    {"helo: {list: l}", {HELO("sub.example")}, N, N, N},
    {"helo: '[192.0.2.1]'", {HELO("[192.0.2.1]")}, Y, Y, Y},
    {"helo: '*'", {.tls = true}, N, U, N},
    {"not: {helo: '*'}", {.tls = true}, Y, U, Y},

    {"tls: yes", {.tls = true}, Y, Y, Y},
    {"tls: no", {.tls = true}, N, N, N},
    {"tls: yes", {.tls = false}, N, U, N},
    {"tls: no", {.tls = false}, Y, U, Y},

    {"macro: {daemon_name: INBOUND}", {MACROS}, Y, Y, Y},
    {"macro: {'{daemon_name}': in*}", {MACROS}, Y, Y, Y},
    {"macro: {daemon_name: /bound/}", {MACROS}, Y, Y, Y},
    {"macro: {daemon_name: {list: l}}", {MACROS}, Y, Y, Y},
    {"macro: {daemon_name: outbound}", {MACROS}, N, N, N},
    {"macro: {Daemon_Name: '*'}", {MACROS}, U, U, N},
    {"macro: {empty: ''}", {MACROS}, Y, Y, Y},
    {"macro: {absent: ''}", {MACROS}, U, U, N},
    {"macro: {absent: '*'}", {MACROS}, U, U, N},
    {"macro: {absent: x, daemon_name: y}", {MACROS}, N, N, N},
    {"macro: {absent: x, daemon_name: inbound}", {MACROS}, U, U, N},
    {"macro: {rcpt_addr: of the message}", {MACROS}, Y, Y, Y},
    {"macro: {rcpt_addr: of the message}", {MACROS, RCPT_MACROS}, N, N, N},
    {"macro: {rcpt_addr: of the rec*}", {MACROS, RCPT_MACROS}, Y, Y, Y},

    {"subject: hi all", {HEADERS}, U, U, Y},
    {"subject: [a, /^HI/]", {HEADERS}, U, U, Y},
    {"subject: '*utf*'", {HEADERS}, U, U, N},
    {"header: {message-id: '*@example.com>'}", {HEADERS}, U, Y, Y},
    {"header: {Message-ID: x}", {HEADERS}, U, N, N},
    {"header: {Message-ID: '*'}", {.tls = true}, U, U, N},
    {"header: {X: y}", {HEADERS}, U, U, N},
    {"kind: [auto, bulk]", {HEADERS, .sender = SLICE_LIT("a@b")}, U, U, N},
    {"kind: [auto, bounce]", {HEADERS}, Y, Y, Y},
    {"from: a@b", {HEADERS}, U, U, N},

    {"size: '> 5'", {.size_octets = 6}, U, Y, Y},
    {"recipients: 3", {.n_recipients = 3}, U, Y, Y},
    {"recipients: '< 3'", {.n_recipients = 3}, U, N, N},
    {"recipients: '<=3'", {.n_recipients = 3}, U, Y, Y},
    {"recipients: ['> 3', 1, '>= 3']", {.n_recipients = 3}, U, Y, Y},

    {"attachment: '*.exe'", {NAMES}, U, U, Y},
    {"attachment: [x, a.PDF]", {NAMES}, U, U, Y},
    {"attachment: '/e{1}$/'", {NAMES}, U, U, Y},
    {"attachment: {list: l}", {NAMES}, U, U, Y},
    {"attachment: '*.zip'", {NAMES}, U, U, N},
    {"attachment: '*'", {.tls = true}, U, U, N},

    {"sample: 100%", {HEADERS}, U, Y, Y},
    {"sample: 0%", {HEADERS}, U, N, N},
    {"sample: 100%", {.tls = true}, U, U, Y},
    {"sample: 0%", {.tls = true}, U, U, N},
};

static void
truths(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct policy *p = policy_of(rows[i].match);

        print_message("  %s\n", rows[i].match);
        assert_int_equal(ask(p, &rows[i].f, FACTS_RCPT, false).truth,
                         rows[i].at_rcpt);
        assert_int_equal(ask(p, &rows[i].f, FACTS_LOG, false).truth,
                         rows[i].at_log);
        assert_int_equal(ask(p, &rows[i].f, FACTS_EOM, false).truth,
                         rows[i].at_end);
        policy_free(p);
    }
}

/* A recipient's macros lie where the last one's did, and the scratch is the
 * message's. */
static void
expressions_see_the_macro_of_now(void **state)
{
    struct policy *p = policy_of("macro: {rcpt_addr: /one/}");
    char value[] = "one";
    struct facts_pair pair = {SLICE_LIT("rcpt_addr"), {value, 3}};
    struct facts f = {
        .stage = FACTS_EOM, .n_rcpt_macros = 1, .rcpt_macro = &pair};
    struct match m;

    (void)state;
    scratch_reset(scratch);
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &p->rules[0].match), TRUTH_YES);
    memcpy(value, "two", 3);
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &p->rules[0].match), TRUTH_NO);
    scratch_reset(scratch);
    policy_free(p);
}

/* ---- time ---- */

/* 2026-03-29 is the Sunday on which Berlin's clocks go from 02:00 to 03:00,
 * 2026-10-25 the one on which they go from 03:00 back to 02:00. */
static const struct time_row {
    const char *name, *match;
    int64_t now_s;
    bool want;
} times[] = {
    {"begins", "time: 'mon-fri 08:00-18:00'", 1774850400, true}, /* mon 08:00 */
    {"just before", "time: 'mon-fri 08:00-18:00'", 1774850399, false},
    {"the last second", "time: 'mon-fri 08:00-18:00'", 1774886399, true},
    {"the end is exclusive", "time: 'mon-fri 08:00-18:00'", 1774886400, false},
    {"not that day", "time: 'tue-fri 08:00-18:00'", 1774850400, false},
    {"any of several", "time: [tue, 'mon 08:00-08:01']", 1774850400, true},
    {"UTC is earlier", "time: 'mon 06:00-06:01', timezone: UTC", 1774850400,
     true},
    {"whole day", "time: mon", 1774821600, true}, /* mon 00:00 */
    {"whole day, ends", "time: mon", 1774907999, true},
    {"whole day, over", "time: mon", 1774908000, false},
    {"over the end of the week", "time: sat-mon", 1774821600, true},
    {"overnight, evening", "time: 'mon 22:00-06:00'", 1774900800, true},
    {"overnight, morning", "time: 'mon 22:00-06:00'", 1774929599, true},
    {"overnight, ended", "time: 'mon 22:00-06:00'", 1774929600, false},
    {"overnight, its own morning", "time: 'mon 22:00-06:00'", 1774821600,
     false},
    {"overnight, the evening after", "time: 'mon 22:00-06:00'", 1774987200,
     false},
    {"overnight into sunday", "time: 'sat 22:00-06:00'", 1774738800, true},
    {"until midnight", "time: 'mon 22:00-00:00'", 1774907999, true},
    {"until midnight, over", "time: 'mon 22:00-00:00'", 1774908000, false},
    {"until 24:00", "time: 'mon 22:00-24:00'", 1774907999, true},

    {"before the clocks go forward", "time: 'sun 01:59-02:00'", 1774745999,
     true},
    {"the skipped hour never comes", "time: 'sun 02:00-03:00'", 1774745999,
     false},
    {"nor after", "time: 'sun 02:00-03:00'", 1774746000, false},
    {"and three follows", "time: 'sun 03:00-03:01'", 1774746000, true},
    {"the repeated hour", "time: 'sun 02:30-02:31'", 1792888200, true},
    {"and once more", "time: 'sun 02:30-02:31'", 1792891800, true},
};

static void
times_of_day(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(times); i++) {
        struct policy *p = policy_of(times[i].match);
        struct facts f = {.now_s = times[i].now_s};

        print_message("  %s\n", times[i].name);
        for (int stage = FACTS_RCPT; stage <= FACTS_EOM; stage++)
            assert_int_equal(ask(p, &f, (enum facts_stage)stage, false).truth,
                             times[i].want ? TRUTH_YES : TRUTH_NO);
        policy_free(p);
    }
}

/* ---- attachments that could not all be read ---- */

static void
cut_attachments(void **state)
{
    static const struct facts f = {NAMES, .attachments_cut = true};
    struct policy *zip = policy_of("attachment: '*.zip'"),
                  *exe = policy_of("attachment: '*.exe'");
    struct asked a = ask(zip, &f, FACTS_EOM, false);

    (void)state;
    assert_int_equal(a.truth, TRUTH_NO);
    assert_true(a.unparseable);
    assert_string_equal(
        a.why, "attachment is a.pdf and 1 more, want *.zip; there may be more");
    a = ask(zip, &f, FACTS_EOM, true);
    assert_int_equal(a.truth, TRUTH_UNKNOWN);
    a = ask(exe, &f, FACTS_EOM, true);
    assert_int_equal(a.truth, TRUTH_YES);
    assert_false(a.unparseable);
    policy_free(zip);
    policy_free(exe);
}

/* ---- sample ---- */

/* Where a message lies: matched by `sample: above`, not by `sample: below`. */
static void
assert_sample(const struct facts *f, double per_cent)
{
    char match[60];
    struct policy *p;

    snprintf(match, sizeof match, "sample: %.4f%%", per_cent + 0.0001);
    p = policy_of(match);
    assert_int_equal(ask(p, f, FACTS_EOM, false).truth, TRUTH_YES);
    policy_free(p);
    snprintf(match, sizeof match, "sample: %.4f%%", per_cent - 0.0001);
    p = policy_of(match);
    assert_int_equal(ask(p, f, FACTS_EOM, false).truth, TRUTH_NO);
    policy_free(p);
}

/* The numbers are sha256sum's: its first eight digits of 2^32.  They must
 * never change: a rollout of 10% is the same 10% tomorrow. */
static void
samples_are_for_ever(void **state)
{
    const struct facts_pair id[] = {
        {SLICE_LIT("Subject"), SLICE_LIT("hi")},
        {SLICE_LIT("message-ID"), SLICE_LIT("\r\n\t<CAFE-1@example.com> ")},
        {SLICE_LIT("Message-ID"), SLICE_LIT("another")}};
    const struct facts_pair none[] = {
        {SLICE_LIT("Subject"), SLICE_LIT(" hi")},
        {SLICE_LIT("From"), SLICE_LIT("a@b")},
        {SLICE_LIT("From"), SLICE_LIT("c@d")},
        {SLICE_LIT("Message-ID"), SLICE_LIT(" \r\n")},
        {SLICE_LIT("Date"), SLICE_LIT("Mon, 1 Jan 2026 00:00:00 +0000")}};
    struct facts f = {.n_headers = LENGTH(id), .header = id};

    (void)state;
    assert_sample(&f, 100.0 * 0xfa139537 / 4294967296.0);
    f = (struct facts){.n_headers = LENGTH(none), .header = none};
    assert_sample(&f, 100.0 * 0x321bda55 / 4294967296.0);
    f = (struct facts){.tls = false};
    assert_sample(&f, 100.0 * 0x6a3cf519 / 4294967296.0);
}

/* Of many messages about that part, of neighbours as well, and a larger sample
 * holds all of a smaller one. */
static void
samples_are_even(void **state)
{
    enum { MESSAGES = 20000 };
    static const double part[] = {0.5, 1, 10, 50, 90};
    struct policy *p[LENGTH(part)];
    unsigned in[LENGTH(part)] = {0};

    (void)state;
    for (size_t k = 0; k < LENGTH(part); k++) {
        char match[60];

        snprintf(match, sizeof match, "sample: %g%%", part[k]);
        p[k] = policy_of(match);
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        char id[40];
        struct facts_pair h = {SLICE_LIT("Message-ID"), {id, 0}};
        struct facts f = {.n_headers = 1, .header = &h};
        bool smaller = false;

        h.value.len = (size_t)snprintf(id, sizeof id, "<%u@x>", i);
        for (size_t k = 0; k < LENGTH(part); k++) {
            bool is_in = ask(p[k], &f, FACTS_EOM, false).truth == TRUTH_YES;

            assert_true(is_in || !smaller);
            smaller = is_in;
            in[k] += is_in;
        }
    }
    for (size_t k = 0; k < LENGTH(part); k++) {
        double mean = MESSAGES * part[k] / 100,
               sigma = sqrt(mean * (1 - part[k] / 100));

        print_message("  %g%%: %u of %d\n", part[k], in[k], MESSAGES);
        assert_true(fabs(in[k] - mean) < 4 * sigma);
        policy_free(p[k]);
    }
}

/* ---- what nobody had to read ---- */

/* The envelope says no first, so the broken header is no news. */
static void
headers_not_asked_for_are_not_reported(void **state)
{
    static const struct facts_pair from = {SLICE_LIT("From"),
                                           SLICE_LIT("oops")};
    static const struct facts f = {
        .n_headers = 1, .header = &from, HELO("mx.example")};
    struct policy *p = policy_of("from: a@b, helo: other");
    struct asked a = ask(p, &f, FACTS_EOM, true);

    (void)state;
    assert_int_equal(a.truth, TRUTH_NO);
    assert_false(a.unparseable);
    policy_free(p);
    p = policy_of("from: a@b, helo: mx.example");
    a = ask(p, &f, FACTS_EOM, true);
    assert_int_equal(a.truth, TRUTH_UNKNOWN);
    assert_true(a.unparseable);
    policy_free(p);
}

/* ---- the text ---- */

static const struct {
    const char *match, *want;
} why_rows[] = {
    {"helo: [x, y]", "helo is mx.example, want x or y"},
    {"tls: yes", "tls is no, want yes"},
    {"not: {tls: no}", "not: tls is no, which is excluded"},
    {"time: 'mon-fri 08:00-18:00'",
     "time is sun 12:30 in Europe/Berlin, want mon-fri 08:00-18:00"},
    {"time: [mon, tue, wed], timezone: UTC",
     "time is sun 11:30 in UTC, want mon or tue or 1 more"},
    {"macro: {daemon_name: x}", "macro {daemon_name} is inbound, want x"},
    {"macro: {'{absent}': x}", "macro {absent} is not there, want x"},
    {"macro: {empty: x}", "macro {empty} is empty, want x"},
    {"subject: x", "subject is Hi all, want x"},
    {"recipients: ['< 3', 5]", "number of recipients is 7, want < 3 or 5"},
    {"attachment: '*.zip'", "attachment is a.pdf and 1 more, want *.zip"},
    {"sample: 0.5%", "sample is at "
                     "97.6861%"
                     ", want below 0.5%"},
    {"not: {sample: 100%}", "not: sample is at "
                            "97.6861%"
                            ", which is excluded"},
    /* The cheap one is to blame, wherever it stands. */
    {"subject: x, helo: y", "helo is mx.example, want y"},
};

static void
says_why(void **state)
{
    static const struct facts f = {
        .now_s = 1769945400, /* Sunday, 1 February 2026, 11:30 UTC */
        MACROS,
        HEADERS,
        NAMES,
        HELO("mx.example"),
        .n_recipients = 7,
    };
    struct policy *p;

    (void)state;
    for (size_t i = 0; i < LENGTH(why_rows); i++) {
        struct asked a;

        p = policy_of(why_rows[i].match);
        a = ask(p, &f, FACTS_EOM, false);
        assert_int_equal(a.truth, TRUTH_NO);
        assert_string_equal(a.why, why_rows[i].want);
        policy_free(p);
    }
    p = policy_of("macro: {absent: x}");
    assert_string_equal(ask(p, &f, FACTS_RCPT, false).why,
                        "macro {absent} is not known yet");
    policy_free(p);
    p = policy_of("attachment: x");
    assert_string_equal(ask(p, &f, FACTS_LOG, false).why,
                        "attachment is not in the log");
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truths),
        cmocka_unit_test(expressions_see_the_macro_of_now),
        cmocka_unit_test(times_of_day),
        cmocka_unit_test(cut_attachments),
        cmocka_unit_test(samples_are_for_ever),
        cmocka_unit_test(samples_are_even),
        cmocka_unit_test(headers_not_asked_for_are_not_reported),
        cmocka_unit_test(says_why),
    };

    return cmocka_run_group_tests_name("policy/match_keys", tests, setup,
                                       teardown);
}
