/* tests/unit/policy/test_match.c - mirrors policy/match.c, match_explain.c
 * and scratch.c
 * SPDX-License-Identifier: Apache-2.0
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pcre2.h>

#include "policy/arena.h"
#include "policy/match.h"
#include "policy/scratch.h"
#include "policy/set.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* ---- one condition ---- */

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

static void *
regex_new(const char *text)
{
    int error;
    PCRE2_SIZE offset;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                      PCRE2_CASELESS | PCRE2_UTF, &error, &offset, NULL);

    assert_non_null(code);
    assert_int_equal(pcre2_jit_compile(code, PCRE2_JIT_COMPLETE), 0);
    return code;
}

/* The kind of a pattern from its text, as the configuration tells them apart:
 * "/x/", "*", or neither. */
static struct pattern
pattern_of(const char *text, enum match_key key)
{
    struct pattern p = {.text = text, .kind = PATTERN_EXACT};
    size_t n = strlen(text);

    if (n > 1 && text[0] == '/' && text[n - 1] == '/') {
        char inside[200];

        snprintf(inside, sizeof inside, "%.*s", (int)(n - 2), text + 1);
        p.kind = PATTERN_REGEX;
        p.regex = regex_new(inside);
    } else if (strpbrk(text, "*?") != NULL) {
        p.kind = PATTERN_GLOB;
    } else if (key == MATCH_SENDER_DOMAIN || key == MATCH_RECIPIENT_DOMAIN ||
               key == MATCH_FROM_DOMAIN || key == MATCH_CLIENT) {
        p.kind = PATTERN_DOMAIN;
    }
    return p;
}

static enum truth
ask(const struct facts *f, const char *recipient, enum match_key key,
    const char *name, const char *text, char why[WHY_TEXT])
{
    struct pattern p = pattern_of(text, key);
    struct condition c = {
        .key = key, .name = name, .n_patterns = 1, .pattern = &p};
    struct match m;
    enum truth t;

    match_init(&m, f, slice_of(recipient), scratch);
    t = match_condition(&m, &c);
    assert_false(m.nomem);
    if (why != NULL)
        match_explain(&m, &c, why);
    pcre2_code_free(p.regex);
    scratch_reset(scratch); /* it remembers answers by expression */
    return t;
}

static const struct envelope_row {
    const char *name;
    enum match_key key;
    const char *value, *pattern;
    enum truth want;
} envelope[] = {
    {"same", MATCH_SENDER, "a@b.c", "a@b.c", TRUTH_YES},
    {"case of the domain", MATCH_SENDER, "a@B.C", "a@b.c", TRUTH_YES},
    {"case of the local part", MATCH_SENDER, "A@b.c", "a@B.c", TRUTH_YES},
    {"trailing dot", MATCH_SENDER, "a@b.c.", "a@b.c", TRUTH_YES},
    {"quotes for nothing", MATCH_SENDER, "\"a\"@b.c", "a@b.c", TRUTH_YES},
    {"quotes in the pattern", MATCH_SENDER, "\"a b\"@c", "\"a b\"@c",
     TRUTH_YES},
    {"other", MATCH_SENDER, "a@b.c", "b@b.c", TRUTH_NO},
    {"glob", MATCH_SENDER, "a@b.c", "*@b.c", TRUTH_YES},
    {"glob is whole", MATCH_SENDER, "a@b.c.d", "*@b.c", TRUTH_NO},
    {"regex is found anywhere", MATCH_SENDER, "xay@b", "/A/", TRUTH_YES},
    {"regex, not there", MATCH_SENDER, "a@b", "/z/", TRUTH_NO},
    {"null sender by <>", MATCH_SENDER, "", "<>", TRUTH_YES},
    {"null sender by nothing", MATCH_SENDER, "", "", TRUTH_YES},
    {"null sender by *", MATCH_SENDER, "", "*", TRUTH_YES},
    {"null sender is not one character", MATCH_SENDER, "", "?*", TRUTH_NO},
    {"null sender is no address", MATCH_SENDER, "", "*@*", TRUTH_NO},
    {"<> is not everybody", MATCH_SENDER, "a@b", "<>", TRUTH_NO},
    {"not an address at all", MATCH_SENDER, "root", "root", TRUTH_YES},
    {"garbage as it is", MATCH_SENDER, "a b@", "a b@", TRUTH_YES},
    {"recipient", MATCH_RECIPIENT, "a@b", "A@B", TRUTH_YES},

    {"domain", MATCH_SENDER_DOMAIN, "a@b.c", "b.c", TRUTH_YES},
    {"domain case", MATCH_SENDER_DOMAIN, "a@B.c", "b.C", TRUTH_YES},
    {"domain is not a suffix", MATCH_SENDER_DOMAIN, "a@x.b.c", "b.c", TRUTH_NO},
    {"subdomain", MATCH_SENDER_DOMAIN, "a@x.b.c", ".b.c", TRUTH_YES},
    {"subsubdomain", MATCH_SENDER_DOMAIN, "a@y.x.b.c", ".b.c", TRUTH_YES},
    {"domain is no subdomain", MATCH_SENDER_DOMAIN, "a@b.c", ".b.c", TRUTH_NO},
    {"suffix needs its dot", MATCH_SENDER_DOMAIN, "a@xb.c", ".b.c", TRUTH_NO},
    {"domain with trailing dot", MATCH_SENDER_DOMAIN, "a@b.c.", "b.c",
     TRUTH_YES},
    {"domain behind a quoted @", MATCH_SENDER_DOMAIN, "\"a@x\"@b.c", "b.c",
     TRUTH_YES},
    {"glob on the domain", MATCH_SENDER_DOMAIN, "a@mx.b.c", "mx.*", TRUTH_YES},
    {"no domain", MATCH_SENDER_DOMAIN, "root", "*", TRUTH_NO},
    {"the null sender has no domain", MATCH_SENDER_DOMAIN, "", "*", TRUTH_NO},
    {"recipient domain", MATCH_RECIPIENT_DOMAIN, "a@b.c", "b.c", TRUTH_YES},

    {"login", MATCH_AUTH, "ann", "Ann", TRUTH_YES},
    {"any login", MATCH_AUTH, "ann", "*", TRUTH_YES},
    {"a login is not none", MATCH_AUTH, "ann", "", TRUTH_NO},
    {"none", MATCH_AUTH, "", "", TRUTH_YES},
    {"none is not any", MATCH_AUTH, "", "*", TRUTH_NO},
    {"none is not an expression", MATCH_AUTH, "", "/.*/", TRUTH_NO},
};

static void
envelope_conditions(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(envelope); i++) {
        const struct envelope_row *r = &envelope[i];
        struct facts f = {.stage = FACTS_RCPT};
        const char *recipient = "nobody@nowhere";

        print_message("  %s\n", r->name);
        if (r->key == MATCH_SENDER || r->key == MATCH_SENDER_DOMAIN)
            f.sender = slice_of(r->value);
        else if (r->key == MATCH_AUTH)
            f.auth = slice_of(r->value);
        else
            recipient = r->value;
        assert_int_equal(ask(&f, recipient, r->key, NULL, r->pattern, NULL),
                         r->want);
    }
}

static struct facts_client
client_of(uint8_t a, uint8_t b, uint8_t c, uint8_t d, const char *name)
{
    struct facts_client client = {.known = true, .name = slice_of(name)};
    const uint8_t at[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d};

    memcpy(client.address, at, sizeof at);
    return client;
}

static void
client_conditions(void **state)
{
    static const struct {
        const char *name, *pattern;
        enum truth want;
    } rows[] = {
        {"mail.example.com", "mail.example.com", TRUTH_YES},
        {"Mail.Example.com.", ".example.com", TRUTH_YES},
        {"example.com", ".example.com", TRUTH_NO},
        {"evil-example.com", ".example.com", TRUTH_NO},
        {"unknown", "unknown", TRUTH_NO},
        {"", "*.example.com", TRUTH_NO},
        {"", "192.0.2.7", TRUTH_YES},
        {"", "192.0.2.?", TRUTH_YES},
        {"", "/^192\\.0\\.2\\./", TRUTH_YES},
        {"mx", "192.0.2.8", TRUTH_NO},
    };
    struct facts f = {.stage = FACTS_RCPT};

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        print_message("  %s ~ %s\n", rows[i].name, rows[i].pattern);
        f.client = client_of(192, 0, 2, 7, rows[i].name);
        assert_int_equal(
            ask(&f, "a@b", MATCH_CLIENT, NULL, rows[i].pattern, NULL),
            rows[i].want);
    }
    f.client = (struct facts_client){.known = false};
    assert_int_equal(ask(&f, "a@b", MATCH_CLIENT, NULL, "*", NULL), TRUTH_NO);
}

static void
networks_match(void **state)
{
    const struct network all = {.bits = 0},
                         odd = {
                             {[10] = 255, [11] = 255, [12] = 10, [13] = 0x80},
                             96 + 9};
    struct network one = {.bits = 128};
    struct facts_client client = client_of(10, 0x80, 3, 4, "");

    (void)state;
    memcpy(one.address, client.address, 16);
    assert_true(match_network(&one, &client));
    assert_true(match_network(&all, &client));
    assert_true(match_network(&odd, &client));
    client = client_of(10, 0xff, 3, 4, "");
    assert_false(match_network(&one, &client));
    assert_true(match_network(&odd, &client));
    client = client_of(10, 0x7f, 3, 4, "");
    assert_false(match_network(&odd, &client));
    client.known = false;
    assert_false(match_network(&all, &client));
}

/* ---- the message ---- */

static const struct {
    const char *name, *header, *value;
    enum match_key key;
    const char *want_name, *pattern;
    enum truth want;
    bool unparseable;
} headers[] = {
    {"exact", "Subject", "hello", MATCH_HEADER, "subject", "HELLO", TRUTH_YES,
     false},
    {"another header", "Subject", "hello", MATCH_HEADER, "x-a", "*", TRUTH_NO,
     false},
    {"there but empty", "X-A", "", MATCH_HEADER, "x-a", "*", TRUTH_YES, false},
    {"exactly empty", "X-A", " ", MATCH_HEADER, "x-a", "", TRUTH_YES, false},
    {"folded", "SUBJECT", "a\r\n b", MATCH_HEADER, "subject", "a b", TRUTH_YES,
     false},
    {"decoded", "Subject", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", MATCH_HEADER,
     "subject",
     "gr\xc3\xbc\xc3\x9f"
     "e",
     TRUTH_YES, false},
    {"regex in the decoded text", "Subject", "=?utf-8?b?R3LDvMOfZQ==?=",
     MATCH_HEADER, "subject", "/^gr\xc3\x9c/", TRUTH_YES, false},
    {"not in the encoded text", "Subject", "=?utf-8?b?R3LDvMOfZQ==?=",
     MATCH_HEADER, "subject", "*utf*", TRUTH_NO, false},
    {"regex on broken utf-8 still answers", "Subject",
     "a\xff"
     "b",
     MATCH_HEADER, "subject", "/a.b/", TRUTH_YES, false},

    {"from", "From", "Ann <a@b>", MATCH_FROM, NULL, "a@b", TRUTH_YES, false},
    {"any of several", "From", "x@y, A@b", MATCH_FROM, NULL, "a@b", TRUTH_YES,
     false},
    {"the name does not count", "From", "\"a@b\" <x@y>", MATCH_FROM, NULL,
     "a@b", TRUTH_NO, false},
    {"from domain", "From", "Ann <a@X.b>", MATCH_FROM_DOMAIN, NULL, ".b",
     TRUTH_YES, false},
    {"from domain, quoted @", "From", "\"a@x\"@b", MATCH_FROM_DOMAIN, NULL, "b",
     TRUTH_YES, false},
    {"garbage is no", "From", "Ann", MATCH_FROM, NULL, "*", TRUTH_NO, true},
    {"empty is garbage", "From", "", MATCH_FROM, NULL, "*", TRUTH_NO, true},
    {"empty group is garbage", "From", "x:;", MATCH_FROM, NULL, "*", TRUTH_NO,
     true},
    {"the good part counts", "From", "a@b, Ann", MATCH_FROM, NULL, "a@b",
     TRUTH_YES, false},
    {"the good part is not what is wanted", "From", "a@b, Ann", MATCH_FROM,
     NULL, "c@d", TRUTH_NO, true},
    {"no From at all", "To", "a@b", MATCH_FROM, NULL, "*", TRUTH_NO, false},
};

static void
header_conditions(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(headers); i++) {
        struct facts_pair h = {slice_of(headers[i].header),
                               slice_of(headers[i].value)};
        struct facts f = {.stage = FACTS_EOM, .n_headers = 1, .header = &h};
        struct pattern p = pattern_of(headers[i].pattern, headers[i].key);
        struct condition c = {.key = headers[i].key,
                              .name = headers[i].want_name,
                              .n_patterns = 1,
                              .pattern = &p};
        struct match m;

        print_message("  %s\n", headers[i].name);
        match_init(&m, &f, slice_of("r@s"), scratch);
        assert_int_equal(match_condition(&m, &c), headers[i].want);
        assert_int_equal(m.unparseable, headers[i].unparseable);

        /* For those who want to know, broken is not "no". */
        match_init(&m, &f, slice_of("r@s"), scratch);
        m.unreadable_unknown = true;
        assert_int_equal(match_condition(&m, &c), headers[i].unparseable
                                                      ? TRUTH_UNKNOWN
                                                      : headers[i].want);

        f.stage = FACTS_RCPT;
        match_init(&m, &f, slice_of("r@s"), scratch);
        assert_int_equal(match_condition(&m, &c), TRUTH_UNKNOWN);
        scratch_reset(scratch);
        pcre2_code_free(p.regex);
    }
}

static void
any_of_repeated_headers(void **state)
{
    const struct facts_pair h[] = {
        {SLICE_LIT("X-A"), SLICE_LIT("1")},
        {SLICE_LIT("From"), SLICE_LIT("a@b")},
        {SLICE_LIT("x-a"), SLICE_LIT("2")},
        {SLICE_LIT("FROM"), SLICE_LIT("c@d")},
    };
    struct facts f = {.stage = FACTS_EOM, .n_headers = LENGTH(h), .header = h};

    (void)state;
    assert_int_equal(ask(&f, "r", MATCH_HEADER, "x-a", "1", NULL), TRUTH_YES);
    assert_int_equal(ask(&f, "r", MATCH_HEADER, "x-a", "2", NULL), TRUTH_YES);
    assert_int_equal(ask(&f, "r", MATCH_HEADER, "x-a", "3", NULL), TRUTH_NO);
    assert_int_equal(ask(&f, "r", MATCH_FROM, NULL, "a@b", NULL), TRUTH_YES);
    assert_int_equal(ask(&f, "r", MATCH_FROM, NULL, "c@d", NULL), TRUTH_YES);
}

static const struct {
    const char *name, *header, *value;
    enum mail_kind kind;
    bool want;
} kinds[] = {
    {"replied", "Auto-Submitted", "auto-replied", KIND_AUTO, true},
    {"generated", "AUTO-SUBMITTED", " auto-generated; x=y", KIND_AUTO, true},
    {"no", "Auto-Submitted", "no", KIND_AUTO, false},
    {"no with parameters", "Auto-Submitted", "No ; x=y", KIND_AUTO, false},
    {"no with comments", "Auto-Submitted", "(x) no(y)", KIND_AUTO, false},
    {"garbage is not no", "Auto-Submitted", "\"no\"", KIND_AUTO, true},
    {"another header", "Subject", "auto-replied", KIND_AUTO, false},
    {"bulk", "Precedence", "bulk", KIND_BULK, true},
    {"list", "precedence", "List", KIND_BULK, true},
    {"junk", "Precedence", "junk (x)", KIND_BULK, true},
    {"first-class", "Precedence", "first-class", KIND_BULK, false},
    {"List-Id", "List-Id", "x", KIND_BULK, true},
    {"List-Unsubscribe", "list-unsubscribe", "x", KIND_BULK, true},
    {"List- alone", "List-", "x", KIND_BULK, false},
    {"Listen", "Listening", "x", KIND_BULK, false},
};

static void
kind_conditions(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(kinds); i++) {
        struct facts_pair h = {slice_of(kinds[i].header),
                               slice_of(kinds[i].value)};
        struct facts f = {.stage = FACTS_EOM,
                          .sender = SLICE_LIT("a@b"),
                          .n_headers = 1,
                          .header = &h};
        enum mail_kind kind[] = {KIND_BOUNCE, kinds[i].kind};
        struct condition c = {.key = MATCH_KIND, .n_kinds = 2, .kind = kind};
        struct match m;

        print_message("  %s\n", kinds[i].name);
        match_init(&m, &f, slice_of("r@s"), scratch);
        assert_int_equal(match_condition(&m, &c),
                         kinds[i].want ? TRUTH_YES : TRUTH_NO);

        f.stage = FACTS_RCPT; /* bounce is known, the other is not */
        assert_int_equal(match_condition(&m, &c), TRUTH_UNKNOWN);
        c.n_kinds = 1;
        assert_int_equal(match_condition(&m, &c), TRUTH_NO);
        f.sender = (struct slice){NULL, 0};
        c.n_kinds = 2;
        assert_int_equal(match_condition(&m, &c), TRUTH_YES);
        scratch_reset(scratch);
    }
}

static void
size_conditions(void **state)
{
    static const struct {
        enum compare op;
        bool below, equal, above;
    } rows[] = {
        {COMPARE_EQ, false, true, false}, {COMPARE_LT, true, false, false},
        {COMPARE_LE, true, true, false},  {COMPARE_GT, false, false, true},
        {COMPARE_GE, false, true, true},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct facts f = {.stage = FACTS_EOM};
        struct condition c = {.key = MATCH_SIZE, .n_numbers = 1};
        struct match m;

        c.number = test_calloc(1, sizeof *c.number);
        c.number->op = rows[i].op;
        c.number->value = 1000;
        match_init(&m, &f, slice_of("r@s"), scratch);
        f.size_octets = 999;
        assert_int_equal(match_condition(&m, &c), rows[i].below);
        f.size_octets = 1000;
        assert_int_equal(match_condition(&m, &c), rows[i].equal);
        f.size_octets = 1001;
        assert_int_equal(match_condition(&m, &c), rows[i].above);
        f.stage = FACTS_RCPT;
        assert_int_equal(match_condition(&m, &c), TRUTH_UNKNOWN);
        test_free(c.number);
    }
}

/* ---- lists ---- */

static void
lists_match(void **state)
{
    static const struct {
        const char *name;
        enum match_key key;
        const char *value;
        enum truth want;
    } rows[] = {
        {"plain entry", MATCH_SENDER, "Ann@example.com", TRUTH_YES},
        {"glob entry", MATCH_SENDER, "x@promo.example", TRUTH_YES},
        {"expression entry", MATCH_SENDER, "no-reply-7@x", TRUTH_YES},
        {"null sender entry", MATCH_SENDER, "", TRUTH_YES},
        {"none of them", MATCH_SENDER, "bob@example.com", TRUTH_NO},
        {"an entry is no suffix here", MATCH_SENDER, "x.sub.example", TRUTH_NO},
        {"domain entry", MATCH_SENDER_DOMAIN, "a@one.example", TRUTH_YES},
        {"domain entry stands alone", MATCH_SENDER_DOMAIN, "a@x.one.example",
         TRUTH_NO},
        {"subdomain entry", MATCH_SENDER_DOMAIN, "a@x.y.sub.example",
         TRUTH_YES},
        {"subdomain entry, not itself", MATCH_SENDER_DOMAIN, "a@sub.example",
         TRUTH_NO},
    };
    const struct slice plain[] = {SLICE_LIT("ann@example.com"),
                                  SLICE_LIT("one.example"),
                                  SLICE_LIT(".sub.example"), SLICE_LIT("<>")};
    struct arena *arena = arena_new();
    struct pattern other[] = {pattern_of("*@promo.example", MATCH_SENDER),
                              pattern_of("/^no-?reply/", MATCH_SENDER)};
    struct pattern_list list = {.name = "l", .n = 2, .pattern = other};
    struct pattern p = {.kind = PATTERN_LIST, .list = &list};

    (void)state;
    assert_non_null(arena);
    list.exact = string_set_new(arena, plain, LENGTH(plain));
    assert_non_null(list.exact);
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct facts f = {.stage = FACTS_RCPT,
                          .sender = slice_of(rows[i].value)};
        struct condition c = {
            .key = rows[i].key, .n_patterns = 1, .pattern = &p};
        struct match m;

        print_message("  %s\n", rows[i].name);
        match_init(&m, &f, slice_of("r@s"), scratch);
        assert_int_equal(match_condition(&m, &c), rows[i].want);
    }
    pcre2_code_free(other[1].regex);
    arena_free(arena);
}

/* ---- Kleene ---- */

static enum truth
combine(enum match_key key, enum truth a, enum truth b)
{
    static struct pattern all = {.kind = PATTERN_GLOB, .text = "*"};
    static struct pattern none = {.kind = PATTERN_EXACT, .text = "nobody"};
    const struct condition leaf[] = {
        [TRUTH_NO] = {.key = MATCH_SENDER, .n_patterns = 1, .pattern = &none},
        [TRUTH_YES] = {.key = MATCH_SENDER, .n_patterns = 1, .pattern = &all},
        [TRUTH_UNKNOWN] = {.key = MATCH_SIZE},
    };
    struct condition child[] = {leaf[a], leaf[b]};
    struct condition c = {.key = key, .n_children = 2, .child = child};
    struct facts f = {.stage = FACTS_RCPT, .sender = SLICE_LIT("a@b")};
    struct match m;

    match_init(&m, &f, slice_of("r@s"), scratch);
    return match_condition(&m, &c);
}

static void
truth_tables(void **state)
{
    enum { N = TRUTH_NO, Y = TRUTH_YES, U = TRUTH_UNKNOWN };
    static const int both[3][3] = {
        [N] = {[N] = N, [Y] = N, [U] = N},
        [Y] = {[N] = N, [Y] = Y, [U] = U},
        [U] = {[N] = N, [Y] = U, [U] = U},
    };
    static const int either[3][3] = {
        [N] = {[N] = N, [Y] = Y, [U] = U},
        [Y] = {[N] = Y, [Y] = Y, [U] = Y},
        [U] = {[N] = U, [Y] = Y, [U] = U},
    };
    static const int opposite[3] = {[N] = Y, [Y] = N, [U] = U};

    (void)state;
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            enum truth x = (enum truth)a, y = (enum truth)b;

            assert_int_equal(combine(MATCH_ALL, x, y), both[a][b]);
            assert_int_equal(combine(MATCH_ANY, x, y), either[a][b]);
            assert_int_equal(combine(MATCH_NOT, x, y), opposite[both[a][b]]);
        }
}

static void
nothing_to_hold_holds(void **state)
{
    struct facts f = {.stage = FACTS_RCPT};
    struct condition c = {.key = MATCH_ALL};
    struct match m;

    (void)state;
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &c), TRUTH_YES);
    c.key = MATCH_ANY;
    assert_int_equal(match_condition(&m, &c), TRUTH_NO);
    c.key = MATCH_NOT;
    assert_int_equal(match_condition(&m, &c), TRUTH_NO);
}

/* ---- limits ---- */

static void
evil_expressions_give_up(void **state)
{
    static const char *const evil[] = {"/(a+)+$/", "/(a|aa)+$/",
                                       "/^(([a-z])+.)+[A-Z]([a-z])+$/",
                                       "/(?:a*)*(?:a*)*$/"};
    char value[5000];
    struct facts_pair h = {SLICE_LIT("X"), {value, sizeof value}};
    struct facts f = {.stage = FACTS_EOM, .n_headers = 1, .header = &h};

    (void)state;
    memset(value, 'a', sizeof value);
    value[sizeof value - 1] = '!';
    for (size_t i = 0; i < LENGTH(evil); i++) {
        struct pattern p = pattern_of(evil[i], MATCH_HEADER);
        struct condition c = {
            .key = MATCH_HEADER, .name = "x", .n_patterns = 1, .pattern = &p};
        struct match m;

        match_init(&m, &f, slice_of("r@s"), scratch);
        assert_int_equal(match_condition(&m, &c), TRUTH_NO);
        print_message("  %s: %s\n", evil[i],
                      m.regex_limit ? "gave up" : "found nothing");
        if (i < 2)
            assert_true(m.regex_limit);
        pcre2_code_free(p.regex);
        scratch_reset(scratch);
    }
}

/* Of a very long value the start is searched; its end is not where the search
 * stopped. */
static void
long_values_are_searched_in_part(void **state)
{
    size_t size = 2 * SCRATCH_REGEX_MAX + 1;
    char *value = malloc(size);
    void *code = regex_new("x");
    void *at_end = regex_new("\xc3\xbc$");

    (void)state;
    assert_non_null(value);
    for (size_t i = 0; i < size; i++)
        value[i] = i == 0 ? 'a' : i % 2 == 1 ? '\xc3' : '\xbc';
    assert_int_equal(
        scratch_regex(scratch, code, (struct slice){value, size}, false),
        REGEX_LIMIT);
    assert_int_equal(
        scratch_regex(scratch, at_end, (struct slice){value, size}, false),
        REGEX_LIMIT);
    value[0] = 'X';
    assert_int_equal(
        scratch_regex(scratch, code, (struct slice){value, size}, false),
        REGEX_YES);
    pcre2_code_free(code);
    pcre2_code_free(at_end);
    free(value);
}

/* The scratch holds no more than its limit, whatever a message brings; what
 * was cut off is noted, what was kept still matches. */
static void
decoded_text_is_bounded(void **state)
{
    size_t size = SCRATCH_TEXT_MAX - 10;
    char *big = malloc(size);
    struct facts_pair h[3];
    struct facts f = {.stage = FACTS_EOM, .n_headers = 3, .header = h};
    struct pattern end = {.kind = PATTERN_GLOB, .text = "*z"};
    struct pattern start = {.kind = PATTERN_GLOB, .text = "a*"};
    struct condition c = {
        .key = MATCH_HEADER, .name = "x", .n_patterns = 1, .pattern = &end};
    struct condition other = {
        .key = MATCH_HEADER, .name = "x", .n_patterns = 1, .pattern = &start};
    struct match m;

    (void)state;
    assert_non_null(big);
    memset(big, 'a', size);
    for (size_t i = 0; i < 3; i++)
        h[i] = (struct facts_pair){SLICE_LIT("X"), {big, size}};
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &c), TRUTH_NO);
    assert_true(m.unparseable);

    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &other), TRUTH_YES);
    assert_false(m.unparseable);
    scratch_reset(scratch);
    free(big);
}

/* What is about the message is asked once for all of its recipients: here the
 * answer, and what was found on the way, outlive the names. */
static void
a_message_is_asked_once(void **state)
{
    char text[] = "a.exe";
    struct slice name = slice_of(text);
    struct facts f = {.stage = FACTS_EOM,
                      .n_attachments = 1,
                      .attachment = &name,
                      .attachments_cut = true};
    struct pattern exe = {.kind = PATTERN_GLOB, .text = "*.exe"};
    struct pattern doc = {.kind = PATTERN_GLOB, .text = "*.doc"};
    struct condition is_exe = {
        .key = MATCH_ATTACHMENT, .n_patterns = 1, .pattern = &exe};
    struct condition is_doc = {
        .key = MATCH_ATTACHMENT, .n_patterns = 1, .pattern = &doc};
    struct match m;

    (void)state;
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &is_exe), TRUTH_YES);
    assert_int_equal(match_condition(&m, &is_doc), TRUTH_NO);
    memcpy(text, "b.doc", sizeof text);
    match_init(&m, &f, slice_of("r2@s"), scratch);
    assert_int_equal(match_condition(&m, &is_exe), TRUTH_YES);
    assert_false(m.unparseable);
    assert_int_equal(match_condition(&m, &is_doc), TRUTH_NO);
    assert_true(m.unparseable);
    /* Where it counts as not known, that is another question. */
    m.unreadable_unknown = true;
    assert_int_equal(match_condition(&m, &is_doc), TRUTH_YES);
    scratch_reset(scratch);
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &is_exe), TRUTH_NO);
    scratch_reset(scratch);
}

static void
a_crowd_in_from_is_bounded(void **state)
{
    size_t n = SCRATCH_FROM_MAX + 1;
    char *many = malloc(4 * n);
    struct facts_pair h = {SLICE_LIT("From"), {many, 4 * n}};
    struct facts f = {.stage = FACTS_EOM, .n_headers = 1, .header = &h};
    const struct scratch_from *from;

    (void)state;
    assert_non_null(many);
    for (size_t i = 0; i < n; i++)
        memcpy(many + 4 * i, "a@b,", 4);
    scratch_bind(scratch, &f);
    from = scratch_from(scratch);
    assert_non_null(from);
    assert_int_equal(from->n, SCRATCH_FROM_MAX);
    assert_true(from->garbage);
    scratch_reset(scratch);
    free(many);
}

/* The next message's values never answer for the last one's. */
static void
reset_forgets(void **state)
{
    char value[] = "one";
    struct facts_pair h = {SLICE_LIT("X"), {value, 3}};
    struct facts f = {.stage = FACTS_EOM, .n_headers = 1, .header = &h};
    struct pattern p = pattern_of("/one/", MATCH_HEADER);
    struct condition c = {
        .key = MATCH_HEADER, .name = "x", .n_patterns = 1, .pattern = &p};
    struct match m;

    (void)state;
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &c), TRUTH_YES);
    assert_int_equal(match_condition(&m, &c), TRUTH_YES);
    memcpy(value, "two", 3); /* the same place, as a reused buffer has it */
    scratch_reset(scratch);
    match_init(&m, &f, slice_of("r@s"), scratch);
    assert_int_equal(match_condition(&m, &c), TRUTH_NO);
    pcre2_code_free(p.regex);
    scratch_reset(scratch);
}

/* ---- the text ---- */

static void
says_why(void **state)
{
    static const struct {
        enum match_key key;
        const char *name, *pattern, *want;
    } rows[] = {
        {MATCH_SENDER, NULL, "*@c", "sender is a@b, want *@c"},
        {MATCH_SENDER_DOMAIN, NULL, ".c", "sender domain is b, want .c"},
        {MATCH_RECIPIENT, NULL, "x", "recipient is r@s, want x"},
        {MATCH_AUTH, NULL, "*", "login is none, want *"},
        {MATCH_CLIENT, NULL, "x", "client is 192.0.2.7 (mx.example), want x"},
        {MATCH_FROM, NULL, "x",
         "header From is f@g, want x; it cannot be parsed"},
        {MATCH_HEADER, "subject", "x",
         "subject is tab and a very long text that will not f..., want x"},
        {MATCH_HEADER, "x-y", "*", "x-y is not there, want *"},
    };
    const struct facts_pair h[] = {
        {SLICE_LIT("From"), SLICE_LIT("f@g, oops")},
        {SLICE_LIT("Subject"),
         SLICE_LIT("tab\tand a very long text that will not fit at all")},
    };
    struct facts f = {.stage = FACTS_EOM,
                      .client = client_of(192, 0, 2, 7, "mx.example"),
                      .sender = SLICE_LIT("a@b"),
                      .n_headers = 2,
                      .header = h};
    char why[WHY_TEXT];

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_int_equal(
            ask(&f, "r@s", rows[i].key, rows[i].name, rows[i].pattern, why),
            TRUTH_NO);
        assert_string_equal(why, rows[i].want);
    }
    f.stage = FACTS_RCPT;
    ask(&f, "r@s", MATCH_FROM, NULL, "x", why);
    assert_string_equal(why, "header From is not known yet");
}

/* Any text fits, ends, and is whole characters. */
static void
says_why_within_its_room(void **state)
{
    char longest[600], guard[WHY_TEXT + 8];

    (void)state;
    memset(guard, 'G', sizeof guard);
    for (size_t n = 0; n + 2 < sizeof longest; n++) {
        struct facts f = {.stage = FACTS_RCPT};
        size_t len;

        for (size_t i = 0; i < n; i++)
            longest[i] = i % 2 == 0 ? '\xc3' : '\xbc';
        longest[n] = '\0';
        f.sender = (struct slice){longest, n & ~(size_t)1};
        ask(&f, "r@s", MATCH_SENDER, NULL, longest, guard);
        len = strlen(guard);
        assert_true(len < WHY_TEXT);
        assert_true(n % 2 == 1 || len == 0 ||
                    (unsigned char)guard[len - 1] != 0xc3);
        assert_memory_equal(guard + WHY_TEXT, "GGGGGGGG", 8);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelope_conditions),
        cmocka_unit_test(client_conditions),
        cmocka_unit_test(networks_match),
        cmocka_unit_test(header_conditions),
        cmocka_unit_test(any_of_repeated_headers),
        cmocka_unit_test(kind_conditions),
        cmocka_unit_test(size_conditions),
        cmocka_unit_test(lists_match),
        cmocka_unit_test(truth_tables),
        cmocka_unit_test(nothing_to_hold_holds),
        cmocka_unit_test(evil_expressions_give_up),
        cmocka_unit_test(long_values_are_searched_in_part),
        cmocka_unit_test(decoded_text_is_bounded),
        cmocka_unit_test(a_message_is_asked_once),
        cmocka_unit_test(a_crowd_in_from_is_bounded),
        cmocka_unit_test(reset_forgets),
        cmocka_unit_test(says_why),
        cmocka_unit_test(says_why_within_its_room),
    };

    return cmocka_run_group_tests_name("policy/match", tests, setup, teardown);
}
