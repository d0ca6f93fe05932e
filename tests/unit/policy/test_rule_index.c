/* tests/unit/policy/test_rule_index.c - the index leaves out no rule that
 * counts, and a rule that is called unreachable never decides: random policies
 * and messages, decided by the index and by asking every rule
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

#include "policy/decide_private.h"
#include "policy/index.h"
#include "policy/match.h"
#include "policy/rule_index.h"
#include "tests/unit/policy/decide_case.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif

#ifdef SLOW
enum { ROUNDS = 400 };
#else
enum { ROUNDS = 3000 };
#endif

/* A domain in its two spellings. */
#define U_LABEL \
    "b\xc3\xbc" \
    "cher.x"
#define A_LABEL "xn--bcher-kva.x"

enum { YAML_MAX = 1 << 15, MESSAGES = 12, RECIPIENTS = 3 };

static uint64_t seed;

static unsigned
random_below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static bool
one_in(unsigned n)
{
    return random_below(n) == 0;
}

static const char *
pick(const char *const *from, unsigned n)
{
    return from[random_below(n)];
}

#define PICK(a) pick(a, LENGTH(a))

static void
add_yaml(char *to, const char *fmt, ...)
{
    size_t n = strlen(to);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(to + n, YAML_MAX - n, fmt, ap);
    va_end(ap);
    assert_true(strlen(to) < YAML_MAX - 1);
}

/* ---- policies ---- */

static const char lists[] =
    "lists:\n"
    "  plain: [a@x, B@z.y, x, .y, r@s, ann, '<>', 192.0.2.1, host.w]\n"
    "  few: [c@w, w, q@t]\n"
    "  nets: [192.0.2.0/29, '2001:db8::/32', a@x, .w]\n"
    "  globs: ['*@x', 'r*', '*.y', bob]\n"
    "  odd: [/^.@/, b@x, t]\n";

static const char *const address[] = {
    "a@" U_LABEL,
    "a@" A_LABEL,
    "'*@" A_LABEL "'",
    "a@x",
    "A@X",
    "b@x",
    "a@z.y",
    "c@w",
    "r@s",
    "q@s",
    "r@t",
    "'*@x'",
    "'*@s'",
    "'*@*.y'",
    "'a@*'",
    "'?@x'",
    "/^a/",
    "/x$/",
    "'\"a b\"@x'",
    "list: plain",
    "list: few",
    "list: globs",
    "list: odd",
    "list: nets",
    "a",
    "'*'",
    "'*@x.'",
    "'*@[192.0.2.1]'",
};
static const char *const domain[] = {
    U_LABEL,      ".xn--bcher-kva.x",
    ".x",         "x",
    "y",          ".y",
    "z.y",        "s",
    "t",          "w",
    "'*.y'",      "'?'",
    "'/^[xw]$/'", "list: plain",
    "list: few",  ".z.y",
    "X.",         "list: nets",
    "list: odd",  "list: globs",
    "'*'",        "'*y'",
};
static const char *const login[] = {
    "''",    "'*'", "ann",         "ANN", "b@x",
    "'*@x'", "bob", "list: plain", "/n/", "list: globs",
};
static const char *const client[] = {
    U_LABEL,
    ".x",
    "192.0.2.1",
    "192.0.2.0/30",
    "192.0.0.0/9",
    "0.0.0.0/0",
    "'2001:db8::1'",
    "'2001:db8::/33'",
    "'::/0'",
    "host.w",
    ".w",
    "'*.w'",
    "'192.0.*'",
    "list: nets",
    "list: plain",
    "'::ffff:192.0.2.9'",
    "'.2.1'",
    "/^host/",
    "'*.2.1'",
    "'::ffff:0:0/97'",
};

/* One pattern or a list of several. */
static void
add_patterns(char *yaml, const char *const *from, unsigned n)
{
    unsigned k = 1 + (one_in(3) ? random_below(3) : 0);

    add_yaml(yaml, "[");
    for (unsigned i = 0; i < k; i++) {
        const char *text = pick(from, n);
        bool list = strncmp(text, "list: ", 6) == 0;

        add_yaml(yaml, "%s%s%s%s", i > 0 ? ", " : "", list ? "{" : "", text,
                 list ? "}" : "");
    }
    add_yaml(yaml, "]");
}

static void
add_key(char *yaml, unsigned key)
{
    static const struct {
        const char *name;
        const char *const *from;
        unsigned n;
    } keys[] = {
        {"sender", address, LENGTH(address)},
        {"recipient", address, LENGTH(address)},
        {"from", address, LENGTH(address)},
        {"sender_domain", domain, LENGTH(domain)},
        {"recipient_domain", domain, LENGTH(domain)},
        {"from_domain", domain, LENGTH(domain)},
        {"auth", login, LENGTH(login)},
        {"client", client, LENGTH(client)},
    };
    static const char *const other[] = {
        "kind: bounce",
        "kind: [bounce, auto]",
        "kind: bulk",
        "size: '> 1000'",
        "header: {Subject: '*one*'}",
        "header: {X: '/^[0-9]+$/'}",
        "header: {X: '*', Subject: /o/}",
        "subject: '*o*'",
        "helo: [h.w, .y]",
        "helo: /h/",
        "tls: yes",
        "macro: {j: '*x'}",
        "macro: {i: '/[0-9]/'}",
        "recipients: '> 2'",
        "attachment: ['*.exe', /bat$/]",
        "time: mon-fri 08:00-18:00",
        "sample: 50%",
    };

    if (key >= LENGTH(keys)) {
        add_yaml(yaml, "%s", other[key - LENGTH(keys)]);
        return;
    }
    add_yaml(yaml, "%s: ", keys[key].name);
    add_patterns(yaml, keys[key].from, keys[key].n);
}

enum { N_KEYS = 8 + 17, N_PATTERN_KEYS = 8 };

/* A map of several keys, each once. */
static void
add_map(char *yaml, unsigned depth)
{
    unsigned n = 1 + random_below(3), used = 0;
    bool first = true;

    add_yaml(yaml, "{");
    for (unsigned i = 0; i < n; i++) {
        unsigned key = random_below(one_in(2) ? N_KEYS : N_PATTERN_KEYS);

        /* Some of the others come in several forms. */
        if (used >> key & 1 || (key >= N_PATTERN_KEYS && used >> 8 != 0))
            continue;
        used |= 1u << key;
        add_yaml(yaml, first ? "" : ", ");
        first = false;
        add_key(yaml, key);
    }
    for (unsigned i = 0; depth > 0 && i < 3; i++) {
        static const char *const combine[] = {"any: [", "all: [",
                                              "not: {all: ["};

        if (!one_in(6))
            continue;
        add_yaml(yaml, "%s%s", first ? "" : ", ", combine[i]);
        first = false;
        add_map(yaml, depth - 1);
        add_yaml(yaml, ", ");
        add_map(yaml, depth - 1);
        add_yaml(yaml, i == 2 ? "]}" : "]");
    }
    add_yaml(yaml, "}");
}

static void
random_policy(char *yaml)
{
    static const char *const action[] = {
        "reject: '550 5.7.1 one'",
        "reject: '550 5.7.1 two'",
        "defer: '451 4.7.1 one'",
        "route: mta",
        "route: {account: news}",
        "route: {account: t}",
        "route: {account: t}, otherwise: [mta]",
        "route: {pool: both}",
        "hold: spam, add_header: {X-Held: a}",
        "discard: true",
    };
    unsigned n = 1 + random_below(one_in(4) ? 60 : 12);

    yaml[0] = '\0';
    add_yaml(yaml,
             "gmroute: 1\n"
             "mta_domains: [t]\n"
             "accounts:\n"
             "  news: {address: n@g, auth: {password_file: p},\n"
             "         quota: workspace}\n"
             "  t: {address: '*@x', auth: {password_file: p},\n"
             "      quota: workspace}\n"
             "pools: {both: {accounts: [t, news], pick: most_room}}\n"
             "%s",
             lists);
    if (one_in(3))
        add_yaml(yaml, "unparseable: reject\n");
    if (one_in(3))
        add_yaml(yaml, "default: {reject: '550 5.7.1 one'}\n");
    add_yaml(yaml, "rules:\n");
    for (unsigned i = 0; i < n; i++) {
        add_yaml(yaml, "  - {match: ");
        if (one_in(40))
            add_yaml(yaml, "{}");
        else
            add_map(yaml, 2);
        add_yaml(yaml, ", %s%s}\n", PICK(action),
                 one_in(8) ? ", shadow: yes" : "");
    }
}

/* ---- messages ---- */

static char long_text[70 * 1000]; /* more than an expression may search */

struct message {
    struct facts f;
    struct facts_pair header[CASE_HEADERS_MAX];
    struct facts_pair macro;
    struct slice attachment;
    const char *recipient[RECIPIENTS];
};

static void
add_header(struct message *m, const char *name, struct slice value)
{
    m->header[m->f.n_headers++] = (struct facts_pair){slice_of(name), value};
}

static struct slice
random_address(void)
{
    static const char *const text[] = {
        "a@" U_LABEL,
        "a@" A_LABEL,
        "a@y." U_LABEL,
        "a@x",
        "A@X",
        "b@x",
        "b@z.y",
        "a@z.y.",
        "c@w",
        "r@s",
        "q@s",
        "r@t",
        "a",
        "\"a\"@x",
        "\"a b\"@x",
        "@y",
        "a@b@x",
        "a@x..",
        "a@.y",
        "a@",
        "a@z.y...",
        "a@[192.0.2.1]",
        "<>",
        "\"a@y\"@x",
        "\"<>\"@w",
        "@s:a@x",
        "x",
    };

    if (one_in(60))
        return (struct slice){long_text, sizeof long_text};
    return slice_of(PICK(text));
}

static void
random_client(struct facts_client *c)
{
    static const char *const name[] = {U_LABEL,    A_LABEL,   "a." U_LABEL ".",
                                       "",         "unknown", "host.w",
                                       "HOST.W..", "a.b.z.y", "x",
                                       ".w",       "w"};
    static const uint8_t net[][16] = {
        {[10] = 255, 255, 192, 0, 2, 1},      {[10] = 255, 255, 192, 0, 2, 9},
        {[10] = 255, 255, 10, 0, 2, 1},       {0x20, 1, 0xd, 0xb8, [15] = 1},
        {0x20, 1, 0xd, 0xb8, 0x80, [15] = 1}, {0},
    };

    c->known = !one_in(5);
    memcpy(c->address, net[random_below(LENGTH(net))], sizeof c->address);
    c->name = slice_of(PICK(name));
}

static void
random_message(struct message *m)
{
    static const char *const logins[] = {"", "", "ann", "Ann", "b@x", "bob"};
    static const char *const from[] = {
        "a@" A_LABEL,         "a@" U_LABEL, "a@x",        "A <b@z.y>, c@w",
        "<<broken",           "q@w, ",      "c@w",        "=?utf-8?q?A?= <A@X>",
        "r@s (x), \"a b\"@x", "",           "a@z.y., x@y"};
    static const char *const recipient[] = {
        "a@" U_LABEL, "r@s", "q@s", "r@t",     "R@S.", "a@x",
        "b@z.y",      "r",   "",    "\"r\"@s", "q@t"};
    static const char *const subject[] = {"one", "=?utf-8?b?b25l?=", "two"};

    memset(m, 0, sizeof *m);
    m->f.header = m->header;
    m->f.local = one_in(4);
    m->f.auth = slice_of(PICK(logins));
    if (!one_in(6))
        m->f.sender = random_address();
    random_client(&m->f.client);
    m->f.size_octets = random_below(2000);
    m->f.n_recipients = RECIPIENTS;
    for (unsigned i = 0; i < RECIPIENTS; i++)
        m->recipient[i] = PICK(recipient);
    for (unsigned i = random_below(3); i > 0; i--)
        add_header(m, "From", slice_of(PICK(from)));
    if (one_in(2))
        add_header(m, "Subject", slice_of(PICK(subject)));
    if (one_in(3))
        add_header(m, "X", slice_of(one_in(2) ? "12" : "a"));
    if (one_in(40))
        add_header(m, "X", (struct slice){long_text, sizeof long_text});
    if (one_in(4))
        add_header(m, "List-Id", SLICE_LIT("x"));
    if (one_in(4))
        add_header(m, "Auto-Submitted", SLICE_LIT("auto-replied"));
    m->f.now_s = 1700000000 + 3600 * (int64_t)random_below(200);
    m->f.tls = one_in(2);
    m->f.helo = slice_of(one_in(2) ? "h.w" : "a.y.");
    if (one_in(2))
        add_header(m, "Message-ID", slice_of(one_in(2) ? "<1@x>" : "<b@y>"));
    m->macro = (struct facts_pair){slice_of(one_in(2) ? "j" : "i"),
                                   slice_of(one_in(2) ? "mx.x" : "A17")};
    m->f.macro = &m->macro;
    m->f.n_macros = one_in(3) ? 0 : 1;
    m->attachment = slice_of(one_in(2) ? "a.exe" : "b.txt");
    m->f.attachment = &m->attachment;
    m->f.n_attachments = one_in(3);
    m->f.attachments_cut = one_in(8);
    if (m->f.n_headers == 0)
        m->f.header = NULL;
}

/* ---- both ways ---- */

static struct {
    unsigned long decisions, by_rule, unparseable, regex_limit, skipped, asked;
    unsigned long rules, unreachable;
} seen;

/* What the compiler said of the policy at hand. */
static struct diag said;

static struct policy *
compile(const char *yaml)
{
    struct policy *p =
        policy_compile(yaml, strlen(yaml), "/etc/gmroute/f", NULL, &said);

    if (p == NULL)
        print_error("%u: %s\n%s", said.item[0].at.line, said.item[0].text,
                    yaml);
    assert_non_null(p);
    seen.rules += p->n_rules;
    for (unsigned i = 0; i < said.n; i++)
        seen.unreachable +=
            strstr(said.item[i].text, "no message gets") != NULL;
    return p;
}

static bool
is_unreachable(const struct loc *at)
{
    for (unsigned i = 0; i < said.n; i++)
        if (said.item[i].at.line == at->line &&
            strstr(said.item[i].text, "no message gets") != NULL)
            return true;
    return false;
}

static bool
same_reply(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_candidate(const struct candidate *a, const struct candidate *b)
{
    return a->kind == b->kind && a->pool == b->pool && a->weight == b->weight &&
           same_reply(a->reply, b->reply) &&
           a->mailbox.account == b->mailbox.account &&
           a->mailbox.id == b->mailbox.id &&
           strcmp(a->mailbox.address, b->mailbox.address) == 0;
}

static bool
same_shadow(const struct shadow *a, const struct shadow *b)
{
    return a->rule == b->rule && a->at.line == b->at.line &&
           a->action == b->action && a->plan == b->plan;
}

static bool
same_decision(const struct decision *a, const struct decision *b)
{
    if (a->action != b->action || a->rule != b->rule ||
        a->at.file != b->at.file || a->at.line != b->at.line ||
        a->at.col != b->at.col || !same_reply(a->reply, b->reply) ||
        a->plan != b->plan || a->whole_message != b->whole_message ||
        a->unparseable != b->unparseable || a->regex_limit != b->regex_limit ||
        a->edits != b->edits || a->n_shadows != b->n_shadows ||
        a->n_candidates != b->n_candidates)
        return false;
    for (unsigned i = 0; i < a->n_shadows; i++)
        if (!same_shadow(&a->shadow[i], &b->shadow[i]))
            return false;
    for (unsigned i = 0; i < a->n_candidates; i++)
        if (!same_candidate(&a->candidate[i], &b->candidate[i]))
            return false;
    return true;
}

/* How many rules the index spares. */
static void
count_asked(const struct policy *p, const struct facts *f, struct slice to)
{
    struct rule_walk w;
    struct match m;
    size_t i, n = 0, last = 0;

    match_init(&m, f, to, case_scratch);
    rule_walk_start(&w, p->index->rules, p->n_rules, &m);
    while (rule_walk_next(&w, &i)) {
        assert_true(i < p->n_rules);
        assert_true(n == 0 || i > last);
        last = i;
        n++;
    }
    seen.asked += n;
    seen.skipped += p->n_rules - n;
}

static void
fail_with(const char *yaml, uint64_t round_seed, const struct facts *f,
          const char *to, const struct decision *a, const struct decision *b)
{
    print_error("seed %llu\n%s\nstage %d, from <%.*s> to <%s>, client %.*s, "
                "login %.*s\nindex: %s %s %d%d, every rule: %s %s %d%d\n",
                (unsigned long long)round_seed, yaml, (int)f->stage,
                SLICE_FMT(f->sender), to, SLICE_FMT(f->client.name),
                SLICE_FMT(f->auth), a->rule != NULL ? a->rule : "default",
                action_name(a->action), a->unparseable, a->regex_limit,
                b->rule != NULL ? b->rule : "default", action_name(b->action),
                b->unparseable, b->regex_limit);
    fail();
}

static struct scratch *other_scratch;

static void
decide_both(const struct policy *p, const char *yaml, uint64_t round_seed,
            const struct facts *f, const char *to)
{
    static struct decision indexed, scanned;
    struct slice r = slice_of(to);

    memset(&indexed, 0xA5, sizeof indexed);
    memset(&scanned, 0x5A, sizeof scanned);
    assert_int_equal(decide(p, f, r, case_scratch, &indexed, NULL), DECIDE_OK);
    assert_int_equal(decide_scan(p, f, r, other_scratch, &scanned, NULL),
                     DECIDE_OK);
    if (!same_decision(&indexed, &scanned))
        fail_with(yaml, round_seed, f, to, &indexed, &scanned);
    if (scanned.action != ACTION_UNKNOWN && is_unreachable(&scanned.at)) {
        print_error("unreachable, but it decides:\n");
        fail_with(yaml, round_seed, f, to, &indexed, &scanned);
    }
    count_asked(p, f, r);
    seen.decisions++;
    seen.by_rule += scanned.rule != NULL;
    seen.unparseable += scanned.unparseable;
    seen.regex_limit += scanned.regex_limit;
}

/* As the milter does: every recipient early, then all of them at the end; and
 * what a log tells. */
static void
message_both(const struct policy *p, const char *yaml, uint64_t round_seed,
             struct message *m)
{
    struct facts early = m->f;

    scratch_reset(case_scratch);
    scratch_reset(other_scratch);
    early.stage = FACTS_RCPT;
    early.n_headers = 0;
    early.header = NULL;
    m->f.stage = FACTS_EOM;
    for (unsigned i = 0; i < RECIPIENTS; i++)
        decide_both(p, yaml, round_seed, &early, m->recipient[i]);
    for (unsigned i = 0; i < RECIPIENTS; i++)
        decide_both(p, yaml, round_seed, &m->f, m->recipient[i]);
    early = m->f;
    early.stage = FACTS_LOG;
    early.n_headers = 0;
    decide_both(p, yaml, round_seed, &early, m->recipient[0]);
}

static void
index_is_as_every_rule(void **state)
{
    static struct message m;
    char *yaml = malloc(YAML_MAX);

    (void)state;
    assert_non_null(yaml);
    memset(long_text, 'b', sizeof long_text);
    other_scratch = scratch_new();
    assert_non_null(other_scratch);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t round_seed = 20240229 + round;
        struct policy *p;

        seed = round_seed;
        random_policy(yaml);
        p = compile(yaml);
        for (int i = 0; i < MESSAGES; i++) {
            random_message(&m);
            message_both(p, yaml, round_seed, &m);
        }
        policy_free(p);
    }
    scratch_reset(case_scratch); /* the headers are gone after this */
    scratch_free(other_scratch);
    print_message("  %lu decisions, %lu by a rule; %lu unparseable, %lu over a "
                  "limit; %lu rules asked, %lu left out\n",
                  seen.decisions, seen.by_rule, seen.unparseable,
                  seen.regex_limit, seen.asked, seen.skipped);
    print_message("  %lu of %lu rules unreachable\n", seen.unreachable,
                  seen.rules);
    /* Or the test has tested nothing. */
    assert_true(seen.by_rule > seen.decisions / 8);
    assert_true(seen.by_rule < seen.decisions);
    assert_true(seen.unparseable > seen.decisions / 100);
    assert_true(seen.regex_limit > seen.decisions / 2000);
    assert_true(seen.asked > seen.decisions / 4);
    assert_true(seen.skipped > seen.asked / 4);
    assert_true(seen.unreachable > seen.rules / 100);
    free(yaml);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_is_as_every_rule),
    };

    return cmocka_run_group_tests_name("policy/rule_index", tests, case_setup,
                                       case_teardown);
}
