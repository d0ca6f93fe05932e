/* tests/unit/policy/test_reply.c - replies as Gmail sends them, and as nobody
 * should.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SID " 98e67ed59e1d1-3276f57b227sm30235195a91.6 - gsmtp\r\n"

static const struct good {
    const char *name, *wire;
    uint16_t code;
    struct enhanced enhanced;
    uint16_t lines;
    const char *text, *keyword;
} goods[] = {
    {"greeting",
     "220 smtp.gmail.com ESMTP abc - gsmtp\r\n",
     220,
     {0},
     1,
     "smtp.gmail.com ESMTP abc - gsmtp",
     ""},
    {"EHLO",
     "250-smtp.gmail.com at your service, [192.0.2.1]\r\n"
     "250-SIZE 35882577\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
     250,
     {0},
     4,
     "smtp.gmail.com at your service, [192.0.2.1] SIZE 35882577 8BITMIME "
     "SMTPUTF8",
     ""},
    {"ready",
     "220 2.0.0 Ready to start TLS\r\n",
     220,
     {2, 0, 0},
     1,
     "Ready to start TLS",
     ""},
    {"challenge", "334 \r\n", 334, {0}, 1, "", ""},
    {"two spaces",
     "354  Go ahead abc - gsmtp\r\n",
     354,
     {0},
     1,
     "Go ahead abc - gsmtp",
     ""},
    {"accepted",
     "250 2.0.0 OK  1790000000 abc - gsmtp\r\n",
     250,
     {2, 0, 0},
     1,
     "OK  1790000000 abc - gsmtp",
     ""},
    {"code alone", "250\r\n", 250, {0}, 1, "", ""},
    {"code and space", "250 \r\n", 250, {0}, 1, "", ""},
    {"enhanced alone", "250 2.1.5\r\n", 250, {2, 1, 5}, 1, "", ""},
    {"wide enhanced", "550 5.123.456 x\r\n", 550, {5, 123, 456}, 1, "x", ""},
    {"the last enhanced code counts",
     "550-5.1.1 a\r\n550-b\r\n550 5.7.1 c\r\n",
     550,
     {5, 7, 1},
     3,
     "a b c",
     ""},
    {"kept when the last line has none",
     "550-5.1.1 a\r\n550 b\r\n",
     550,
     {5, 1, 1},
     2,
     "a b",
     ""},
    {"class other than the code's",
     "454 5.5.1 STARTTLS may not be "
     "repeated\r\n",
     454,
     {5, 5, 1},
     1,
     "STARTTLS may not be repeated",
     ""},
    {"no class 3", "250 3.0.0 x\r\n", 250, {0}, 1, "3.0.0 x", ""},
    {"no class 25", "250 25.0.0 x\r\n", 250, {0}, 1, "25.0.0 x", ""},
    {"an address is no enhanced code",
     "220 5.6.7.8 ready\r\n",
     220,
     {0},
     1,
     "5.6.7.8 ready",
     ""},
    {"four digits are too many",
     "550 5.1.1234 x\r\n",
     550,
     {0},
     1,
     "5.1.1234 x",
     ""},
    {"half an enhanced code", "550 5.1 x\r\n", 550, {0}, 1, "5.1 x", ""},
    {"bad login",
     "535-5.7.8 Username and Password not accepted. For more information, go "
     "to\r\n"
     "535 5.7.8  https://support.google.com/mail/?p=BadCredentials" SID,
     535,
     {5, 7, 8},
     2,
     "Username and Password not accepted. For more information, go to "
     "https://support.google.com/mail/?p=BadCredentials "
     "98e67ed59e1d1-3276f57b227sm30235195a91.6 - gsmtp",
     "BadCredentials"},
    {"daily limit",
     "550-5.4.5 Daily user sending limit exceeded. For more information on "
     "Gmail\r\n550-5.4.5 sending limits go to\r\n"
     "550 5.4.5  https://support.google.com/a/answer/166852" SID,
     550,
     {5, 4, 5},
     3,
     "Daily user sending limit exceeded. For more information on Gmail "
     "sending limits go to https://support.google.com/a/answer/166852 "
     "98e67ed59e1d1-3276f57b227sm30235195a91.6 - gsmtp",
     ""},
    {"a link in pieces",
     "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1&scc=1\r\n"
     "534-5.7.14 plt=AKgnsbv> Please log in via your web browser and\r\n"
     "534-5.7.14 then try again.\r\n"
     "534 5.7.14  https://support.google.com/mail/answer/78754" SID,
     534,
     {5, 7, 14},
     4,
     "<https://accounts.google.com/signin/continue?sarp=1&scc=1 plt=AKgnsbv> "
     "Please log in via your web browser and then try again. "
     "https://support.google.com/mail/answer/78754 "
     "98e67ed59e1d1-3276f57b227sm30235195a91.6 - gsmtp",
     ""},
    {"keyword behind another parameter",
     "550 5.1.1 https://x/?hl=en&p=NoSuchUser abc\r\n",
     550,
     {5, 1, 1},
     1,
     "https://x/?hl=en&p=NoSuchUser abc",
     "NoSuchUser"},
    {"help=yes is no keyword",
     "550 see ?help=yes p=No ?p= &p=Yes_2.\r\n",
     550,
     {0},
     1,
     "see ?help=yes p=No ?p= &p=Yes_2.",
     "Yes_2"},
    {"controls",
     "550 a\tb\x01"
     "c\x7f"
     "d\re\xc3\xa9\r\n",
     550,
     {0},
     1,
     "a?b?c?d?e??",
     ""},
    {"empty lines add no spaces",
     "250-\r\n250-a \r\n250-  \r\n250 b\r\n",
     250,
     {0},
     4,
     "a b",
     ""},
};

static enum reply_result
parse(const char *wire, struct reply *ret, size_t *ret_used)
{
    return reply_parse(wire, strlen(wire), ret, ret_used);
}

static void
assert_row(const struct good *g, const struct reply *r)
{
    struct slice keyword = reply_keyword(r);

    if (r->code != g->code || r->lines != g->lines ||
        strcmp(r->text, g->text) != 0)
        fail_msg("%s: got %u, %u lines, \"%s\"", g->name, r->code, r->lines,
                 r->text);
    if (r->enhanced.klass != g->enhanced.klass ||
        r->enhanced.subject != g->enhanced.subject ||
        r->enhanced.detail != g->enhanced.detail)
        fail_msg("%s: got %u.%u.%u", g->name, r->enhanced.klass,
                 r->enhanced.subject, r->enhanced.detail);
    if (!slice_eq(keyword, slice_of(g->keyword)))
        fail_msg("%s: keyword \"%.*s\"", g->name, SLICE_FMT(keyword));
}

static void
test_good_replies(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        struct reply r;
        size_t used = 0;

        if (parse(goods[i].wire, &r, &used) != REPLY_OK)
            fail_msg("%s: not parsed", goods[i].name);
        assert_int_equal(used, strlen(goods[i].wire));
        assert_row(&goods[i], &r);
    }
}

/* Octets in a block of their own, so that ASan sees one read too many. */
static enum reply_result
parse_copy(const char *wire, size_t len, struct reply *ret, size_t *ret_used)
{
    char *copy = malloc(len > 0 ? len : 1);
    enum reply_result result;

    assert_non_null(copy);
    memcpy(copy, wire, len);
    result = reply_parse(copy, len, ret, ret_used);
    free(copy);
    return result;
}

static void
test_every_prefix_asks_for_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        size_t len = strlen(goods[i].wire);

        for (size_t n = 0; n < len; n++) {
            struct reply r = {.code = 7};
            size_t used = 77;

            if (parse_copy(goods[i].wire, n, &r, &used) != REPLY_MORE)
                fail_msg("%s: first %zu octets", goods[i].name, n);
            assert_int_equal(r.code, 7);
            assert_int_equal(used, 77);
        }
    }
}

/* What comes behind a reply does not change it, and every reply of a row of
 * them is found, however they arrive. */
static void
test_any_split_gives_the_same(void **state)
{
    static char wire[16384];
    size_t len = 0, n_goods = sizeof(goods) / sizeof(goods[0]);

    (void)state;
    for (size_t i = 0; i < n_goods; i++) {
        memcpy(wire + len, goods[i].wire, strlen(goods[i].wire));
        len += strlen(goods[i].wire);
    }
    for (size_t chunk = 1; chunk < 200; chunk++) {
        size_t have = 0, eaten = 0, got = 0;

        while (got < n_goods) {
            struct reply r;
            size_t used;
            enum reply_result result =
                parse_copy(wire + eaten, have - eaten, &r, &used);

            if (result == REPLY_MORE) {
                assert_true(have < len);
                have = have + chunk < len ? have + chunk : len;
                continue;
            }
            assert_int_equal(result, REPLY_OK);
            assert_row(&goods[got++], &r);
            eaten += used;
        }
        assert_int_equal(eaten, len);
    }
}

static void
test_bad_replies(void **state)
{
    static const struct {
        const char *name, *wire;
        size_t len;
        enum reply_result want;
    } rows[] = {
#define ROW(name, wire, want) {name, wire, sizeof(wire) - 1, want}
        ROW("garbage", "hello\r\n", REPLY_ESYNTAX),
        ROW("garbage without a line end", "SSH-2.0", REPLY_ESYNTAX),
        ROW("a TLS alert", "\x15\x03\x01\x00\x02\x02\x46", REPLY_ESYNTAX),
        ROW("empty line", "\r\n", REPLY_ESYNTAX),
        ROW("LF alone", "\n", REPLY_ESYNTAX),
        ROW("CR alone may go on", "250\r", REPLY_MORE),
        ROW("CR, then text", "250\rx", REPLY_ESYNTAX),
        ROW("bare LF", "250 ok\n", REPLY_ESYNTAX),
        ROW("bare LF inside", "250 ok\n250 ok\r\n", REPLY_ESYNTAX),
        ROW("bare LF in a continuation", "250-a\n250 b\r\n", REPLY_ESYNTAX),
        ROW("two digits", "25\r\n", REPLY_ESYNTAX),
        ROW("two digits and text", "25 ok\r\n", REPLY_ESYNTAX),
        ROW("four digits", "2500 ok\r\n", REPLY_ESYNTAX),
        ROW("code 1xx", "150 x\r\n", REPLY_ESYNTAX),
        ROW("code 6xx", "600 x\r\n", REPLY_ESYNTAX),
        ROW("NUL in the code", "25\0 x\r\n", REPLY_ESYNTAX),
        ROW("NUL behind the code", "250\0x\r\n", REPLY_ESYNTAX),
        ROW("tab behind the code", "250\tx\r\n", REPLY_ESYNTAX),
        ROW("leading space", " 250 x\r\n", REPLY_ESYNTAX),
        ROW("codes disagree", "250-a\r\n550 b\r\n", REPLY_ECODE),
        ROW("codes disagree later", "550-a\r\n550-b\r\n551 c\r\n", REPLY_ECODE),
        ROW("a continuation that is garbage", "250-a\r\nb\r\n", REPLY_ESYNTAX),
        ROW("nothing", "", REPLY_MORE),
#undef ROW
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply r = {.code = 7};
        size_t used = 77;
        enum reply_result got =
            parse_copy(rows[i].wire, rows[i].len, &r, &used);

        if (got != rows[i].want)
            fail_msg("%s: got %d", rows[i].name, (int)got);
        assert_int_equal(r.code, 7);
        assert_int_equal(used, 77);
    }
    assert_int_equal(reply_parse(NULL, 0, NULL, NULL), REPLY_MORE);
}

static void
test_nul_in_the_text(void **state)
{
    static const char wire[] = "250 a\0b\r\n";
    struct reply r;
    size_t used;

    (void)state;
    assert_int_equal(parse_copy(wire, sizeof(wire) - 1, &r, &used), REPLY_OK);
    assert_string_equal(r.text, "a?b");
}

static void
test_line_length(void **state)
{
    static const struct {
        size_t octets; /* CRLF included */
        enum reply_result want;
    } rows[] = {{REPLY_LINE_MAX - 1, REPLY_OK},
                {REPLY_LINE_MAX, REPLY_OK},
                {REPLY_LINE_MAX + 1, REPLY_ETOOLONG},
                {REPLY_LINE_MAX * 4, REPLY_ETOOLONG}};
    char wire[REPLY_LINE_MAX * 4];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply r;
        size_t used = 0, n = rows[i].octets;

        memset(wire, 'x', n);
        memcpy(wire, "550 ", 4);
        memcpy(wire + n - 2, "\r\n", 2);
        assert_int_equal(parse_copy(wire, n, &r, &used), rows[i].want);
        if (rows[i].want == REPLY_OK) {
            assert_int_equal(used, n);
            assert_int_equal(strlen(r.text), REPLY_TEXT_MAX - 1);
        }
        /* no endless waiting for the end of it */
        for (size_t part = 0; part < n; part++)
            assert_int_equal(
                reply_parse(wire, part, &r, &used),
                part < REPLY_LINE_MAX ? REPLY_MORE : REPLY_ETOOLONG);
    }
}

static void
test_line_count(void **state)
{
    char wire[8 * (REPLY_LINES_MAX + 2)];
    struct reply r;
    size_t used, n = 0;

    (void)state;
    for (int i = 0; i < REPLY_LINES_MAX - 1; i++, n += 7)
        memcpy(wire + n, "250-x\r\n", 7);
    assert_int_equal(parse_copy(wire, n, &r, &used), REPLY_MORE);
    memcpy(wire + n, "250 x\r\n", 7);
    assert_int_equal(parse_copy(wire, n + 7, &r, &used), REPLY_OK);
    assert_int_equal(r.lines, REPLY_LINES_MAX);
    wire[n + 3] = '-';
    assert_int_equal(parse_copy(wire, n + 7, &r, &used), REPLY_ETOOLONG);
}

static void
test_text_is_cut_at_the_end(void **state)
{
    char wire[40 * 64 + 1];
    struct reply r;
    size_t used;

    (void)state;
    for (int i = 0; i < 64; i++)
        snprintf(wire + i * 40, 41, "550%c5.1.1 %-28s\r\n", i < 63 ? '-' : ' ',
                 "0123456789012345678901234567");
    assert_int_equal(parse(wire, &r, &used), REPLY_OK);
    assert_int_equal(used, 40 * 64);
    assert_int_equal(strlen(r.text), REPLY_TEXT_MAX - 1);
    assert_int_equal(strncmp(r.text,
                             "0123456789012345678901234567 "
                             "0123456789012345678901234567 ",
                             58),
                     0);
    assert_int_equal(r.enhanced.detail, 1);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_replies),
        cmocka_unit_test(test_every_prefix_asks_for_more),
        cmocka_unit_test(test_any_split_gives_the_same),
        cmocka_unit_test(test_bad_replies),
        cmocka_unit_test(test_nul_in_the_text),
        cmocka_unit_test(test_line_length),
        cmocka_unit_test(test_line_count),
        cmocka_unit_test(test_text_is_cut_at_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
