/* tests/unit/policy/test_header.c - mirrors policy/header.c and
 * policy/header_address.c
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

#include "policy/header.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* ---- decoding ---- */

static const struct {
    const char *name, *raw, *want;
} decoded[] = {
    {"plain", " hello", "hello"},
    {"empty", " \r\n ", ""},
    {"folded with a space", "a\r\n b", "a b"},
    {"folded with a tab", "a\r\n\tb", "a b"},
    {"folded, LF alone as libmilter gives it", "a\n\tb", "a b"},
    {"white space behind the fold stays", "a\n  b", "a  b"},
    {"white space before the fold stays", "a \n b", "a  b"},
    {"a break that is no fold never joins words", "a\nb", "a b"},
    {"tab in the line stays", "a\tb", "a\tb"},
    {"utf-8 as it is", "Gr\xc3\xbc\xc3\x9f", "Gr\xc3\xbc\xc3\x9f"},
    {"octet that is no utf-8", "a\xe4z", "a\xef\xbf\xbdz"},
    {"utf-8 cut off at the end", "a\xe2\x82", "a\xef\xbf\xbd"},
    {"overlong utf-8", "\xe0\x80\xaf", "\xef\xbf\xbd"},
    {"surrogate", "\xed\xa0\x80", "\xef\xbf\xbd"},
    {"beyond U+10FFFF", "\xf4\x90\x80\x80", "\xef\xbf\xbd"},
    {"four octets", "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
    {"Q", "=?utf-8?Q?Gr=C3=BC=C3=9Fe_da?=",
     "Gr\xc3\xbc\xc3\x9f"
     "e da"},
    {"q, us-ascii", "=?us-ascii?q?a=20b?=", "a b"},
    {"B", "=?UTF-8?B?R3LDvMOfZQ==?=",
     "Gr\xc3\xbc\xc3\x9f"
     "e"},
    {"B without padding", "=?UTF-8?b?R3LDvMOfZQ?=",
     "Gr\xc3\xbc\xc3\x9f"
     "e"},
    {"iso-8859-1", "=?ISO-8859-1?Q?M=FCller?=", "M\xc3\xbcller"},
    {"iso-8859-15", "=?iso-8859-15?q?5=A4?=", "5\xe2\x82\xac"},
    {"windows-1252", "=?windows-1252?q?5=80_=FC?=", "5\xe2\x82\xac \xc3\xbc"},
    {"windows-1252, undefined", "=?windows-1252?q?=81?=", "\xef\xbf\xbd"},
    {"iso-8859-2", "=?iso-8859-2?Q?=A1=EC?=", "\xc4\x84\xc4\x9b"},
    {"iso-8859-5", "=?iso-8859-5?Q?=BF=E0?=", "\xd0\x9f\xd1\x80"},
    {"iso-8859-7", "=?iso-8859-7?Q?=C1=F9?=", "\xce\x91\xcf\x89"},
    {"iso-8859-7, undefined", "=?iso-8859-7?Q?=FF?=", "\xef\xbf\xbd"},
    {"iso-8859-9", "=?iso-8859-9?Q?=DD=FE?=", "\xc4\xb0\xc5\x9f"},
    {"windows-1250", "=?windows-1250?Q?=8A=9E?=", "\xc5\xa0\xc5\xbe"},
    {"windows-1251", "=?Windows-1251?B?z/Do4uXy?=",
     "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82"},
    {"koi8-r", "=?KOI8-R?B?8NLJ18XU?=",
     "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82"},
    {"gb18030 stays", "=?gb18030?B?xOO6ww==?=", "=?gb18030?B?xOO6ww==?="},
    {"iso-2022-jp stays", "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=",
     "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?="},
    {"language", "=?utf-8*de?q?a?=", "a"},
    {"language, any case", "=?UTF-8*EN-gb?Q?a?=", "a"},
    {"underscore, and an encoded one", "=?utf-8?q?a_b=5Fc?=", "a b_c"},
    {"underscore in B is no space", "=?utf-8?b?YV9i?=", "a_b"},
    {"underscore outside stays", "a_b", "a_b"},
    {"small hexadecimal digits", "=?utf-8?q?=c3=bc?=", "\xc3\xbc"},
    {"character split over three words, B and Q",
     "=?utf-8?b?4g==?=\r\n =?utf-8?q?=82?=\r\n\t=?utf-8?b?rA==?=",
     "\xe2\x82\xac"},
    {"character split, and never ended",
     "=?utf-8?b?4oI=?= =?utf-8?q?x?=", "\xef\xbf\xbdx"},
    {"neighbours with a comment sign between",
     "=?utf-8?q?a?= ( =?utf-8?q?b?=", "a ( b"},
    {"neighbours join", "=?utf-8?q?a?= =?utf-8?q?b?=", "ab"},
    {"neighbours join over a fold", "=?utf-8?q?a?=\r\n =?utf-8?b?Yg==?=", "ab"},
    {"neighbours without a space", "=?utf-8?q?a?==?utf-8?q?b?=", "ab"},
    {"three", "=?utf-8?q?a?= =?utf-8?q?b?= =?iso-8859-1?q?=FC?=", "ab\xc3\xbc"},
    {"character split over two words",
     "=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "\xc3\xbc"},
    {"not joined with another charset",
     "=?utf-8?q?=C3?= =?latin1?q?=BC?=", "\xef\xbf\xbd\xc2\xbc"},
    {"not joined with plain text", "=?utf-8?q?=C3?= \xbc",
     "\xef\xbf\xbd \xef\xbf\xbd"},
    {"plain text before is not joined",
     "\xc3=?utf-8?q?=BC?=", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"text between keeps its spaces", "=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"},
    {"inside text", "x=?utf-8?q?a?=y", "xay"},
    {"in quotes, as some mailers do", "\"=?utf-8?q?a?=\" <a@b>", "\"a\" <a@b>"},
    {"with spaces inside, as some mailers do", "=?utf-8?q?a b?=", "a b"},
    {"bad hex stays", "=?utf-8?q?a=ZZ=4?=", "a=ZZ=4"},
    {"line end in the text is a space", "=?utf-8?q?a=0D=0Ab=00c?=", "a  b c"},
    {"unknown charset stays", "=?x-who?q?a?= b", "=?x-who?q?a?= b"},
    {"unknown charset between known ones",
     "=?utf-8?q?a?= =?x-who?q?b?= =?utf-8?q?c?=", "a =?x-who?q?b?= c"},
    {"unknown encoding stays", "=?utf-8?x?a?=", "=?utf-8?x?a?="},
    {"bad base64 stays", "=?utf-8?b?R3!D?=", "=?utf-8?b?R3!D?="},
    {"no end", "=?utf-8?q?abc", "=?utf-8?q?abc"},
    {"no end, but a question mark", "=?utf-8?q?abc?", "=?utf-8?q?abc?"},
    {"nothing but the start", "=?", "=?"},
    {"empty word",
     "a =?utf-8?q?"
     "?= b",
     "a  b"},
    {"empty charset stays",
     "=?"
     "?"
     "?q?a?=",
     "=?"
     "?"
     "?q?a?="},
    {"word after a false start", "=?=?utf-8?q?a?=", "=?a"},
};

static void
decodes_each_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(decoded); i++) {
        char room[512];
        bool cut = true;
        size_t n;

        print_message("  %s\n", decoded[i].name);
        n = header_decode(slice_of(decoded[i].raw), room, sizeof room - 1,
                          &cut);
        room[n] = '\0';
        assert_string_equal(room, decoded[i].want);
        assert_false(cut);
        assert_true(n <= HEADER_DECODED_MAX(strlen(decoded[i].raw)));
    }
}

/* What fits is the start of the whole, ends between characters, and is not
 * written past. */
static void
cuts_at_any_length(void **state)
{
    static const char raw[] =
        "Gr\xc3\xbc\xc3\x9f =?utf-8?b?8J+YgA==?= \xff end";
    char whole[100], *part;
    bool cut;
    size_t n = header_decode(slice_of(raw), whole, sizeof whole, &cut);

    (void)state;
    for (size_t room = 0; room < n; room++) {
        size_t m;

        part = malloc(room > 0 ? room : 1); /* ASan watches its end */
        assert_non_null(part);
        m = header_decode(slice_of(raw), part, room, &cut);
        assert_true(cut);
        assert_true(m <= room && room - m < 4);
        assert_memory_equal(part, whole, m);
        assert_true(((unsigned char)whole[m] & 0xC0) != 0x80);
        free(part);
    }
}

static bool
is_utf8(const char *at, size_t len)
{
    size_t i = 0;

    while (i < len) {
        unsigned char c = (unsigned char)at[i++];
        size_t more = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;

        if (c >= 0x80 && c < 0xC2)
            return false;
        for (; more > 0; more--)
            if (i == len || ((unsigned char)at[i++] & 0xC0) != 0x80)
                return false;
    }
    return true;
}

static uint32_t seed = 12345;

static unsigned
random_below(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* Whatever comes in, valid UTF-8 without line ends comes out, within the
 * room promised. */
static void
always_gives_clean_text(void **state)
{
    static const char *const piece[] = {
        "=?",
        "?=",
        "?q?",
        "?b?",
        "utf-8",
        "latin1",
        "=C3",
        "=BC",
        "w7w=",
        "\xc3",
        "\xbc",
        "\xff",
        " ",
        "\r\n ",
        "\n",
        "a",
        "_",
        "=",
        "?",
        "=?utf-8?q?=C3?=",
        "=?windows-1252?b?gICAgA==?=",
        "\xf0\x9f",
    };

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char raw[400] = "", *out;
        size_t len, n;
        bool cut;

        for (unsigned i = random_below(20); i > 0; i--)
            strcat(raw, piece[random_below(LENGTH(piece))]);
        len = strlen(raw);
        out = malloc(HEADER_DECODED_MAX(len) + 1);
        assert_non_null(out);
        n = header_decode((struct slice){raw, len}, out,
                          HEADER_DECODED_MAX(len), &cut);
        assert_false(cut);
        assert_true(is_utf8(out, n));
        for (size_t i = 0; i < n; i++)
            assert_true(out[i] != '\r' && out[i] != '\n' && out[i] != '\0');
        free(out);
    }
}

/* ---- addresses ---- */

static const struct {
    const char *name, *raw, *want; /* addresses, each with "|" behind */
    bool garbage;
} from[] = {
    {"bare", "a@b.example", "a@b.example|", false},
    {"angle", "<a@b.example>", "a@b.example|", false},
    {"name", "Ann Bee <a@b.example>", "a@b.example|", false},
    {"domain in lower case, local part as it is", "Ann@B.Example",
     "Ann@b.example|", false},
    {"trailing dot of the domain", "a@b.example.", "a@b.example|", false},
    {"quoted name with a comma", "\"Bee, Ann\" <a@b>", "a@b|", false},
    {"quoted name with an address", "\"x@y\" <a@b>", "a@b|", false},
    {"quoted name with quotes", "\"a \\\"x@y\\\" b\" <a@b>", "a@b|", false},
    {"name with dots", "J. R. Doe <a@b>", "a@b|", false},
    {"name in utf-8", "J\xc3\xbcrgen <a@b>", "a@b|", false},
    {"old style comment", "a@b (Ann Bee)", "a@b|", false},
    {"nested comment with an address", "(x (y@z) <q@r>) a@b", "a@b|", false},
    {"comment with an escaped end", "(\\) x@y,) a@b", "a@b|", false},
    {"comments everywhere", "(1)a(2)@(3)b(4).(5)c(6)", "a@b.c|", false},
    {"spaces around the signs", "a . b @ c . d", "a.b@c.d|", false},
    {"folded", "Ann\r\n\t<a@b>", "a@b|", false},
    {"several", "a@b, Ann <c@d>,e@f", "a@b|c@d|e@f|", false},
    {"empty elements", ",, a@b ,,c@d,", "a@b|c@d|", false},
    {"quoted local part", "\"a b\"@c", "a b@c|", false},
    {"quoted for nothing", "\"ann\"@c", "ann@c|", false},
    {"quoted at sign", "\"a@b\"@c", "a@b@c|", false},
    {"old mixed local part", "a.\"b c\".d@e", "a.b c.d@e|", false},
    {"domain literal", "a@[192.0.2.1]", "a@[192.0.2.1]|", false},
    {"route", "<@x,@y:a@b>", "a@b|", false},
    {"group", "Friends: a@b, C <c@d>;", "a@b|c@d|", false},
    {"group and more", "Friends: a@b;, c@d", "a@b|c@d|", false},
    {"empty group", "undisclosed-recipients:;", "", false},
    {"quoted group name", "\"a: b\": c@d;", "c@d|", false},
    {"encoded word that plays an address", "=?utf-8?q?x@evil.example?= <a@b>",
     "a@b|", false},
    {"encoded word with specials", "=?utf-8?q?Bee,_(Ann)_<x>?= <a@b>", "a@b|",
     false},
    {"nested comments in a group", "G (a (b@c;) d): (e) a@b (f (;)), c@d;",
     "a@b|c@d|", false},
    {"empty group between addresses", "a@b, G:;, c@d", "a@b|c@d|", false},
    {"group of empty elements", "G: ,, ;", "", false},
    {"route with comments", "<@x (y),,@z : a@b>", "a@b|", false},
    {"quoted name next to the angle", "\"Ann\"<a@b>", "a@b|", false},
    {"comment in the angle", "Ann <(x@y) a@b (c@d)>", "a@b|", false},
    {"8-bit local part and domain", "\xc3\xbc@\xc3\xa4.example",
     "\xc3\xbc@\xc3\xa4.example|", false},
    {"8-bit that is no UTF-8", "\xfc <a@b>", "a@b|", false},
    {"quoted address in front of another", "\"c@d\" <a@b>", "a@b|", false},
    {"quoted local part that plays an address", "\"c@d\"@a", "c@d@a|", false},
    {"dots that RFC 5322 forbids but phones use", "a..b.@c", "a..b.@c|", false},

    {"nothing", "", "", false},
    {"white space", " \r\n ", "", false},
    {"only commas", ",,,", "", false},
    {"words", "Ann Bee", "", true},
    {"name with a comma, not quoted", "Bee, Ann <a@b>", "a@b|", true},
    {"no domain", "ann@", "", true},
    {"no local part", "@b", "", true},
    {"two at signs", "a@b@c", "", true},
    {"empty angle", "<>", "", true},
    {"empty angle with a name", "Ann <>", "", true},
    {"angle not closed", "Ann <a@b", "", true},
    {"angle twice", "<<a@b>>", "", true},
    {"two angles", "<a@b> <c@d>", "a@b|", true},
    {"text after the angle", "<a@b> Ann", "a@b|", true},
    {"address as a name, not quoted", "x@y <a@b>", "a@b|", true},
    {"encoded word with an angle address", "=?utf-8?q?<x@y>?= <a@b>", "a@b|",
     true},
    {"encoded word with an address between commas", "=?utf-8?q?,x@y,?= <a@b>",
     "a@b|", true},
    {"encoded word with an address, alone", "=?utf-8?q?<x@y>?=", "", true},
    {"address as a name, then a group", "x@y G: a@b;", "", true},
    {"angle without its end, then another", "Ann <a@b, <c@d>", "c@d|", true},
    {"angle without its beginning", "Ann a@b>", "", true},
    {"comment that ends too late", "a@b (x, c@d", "", true},
    {"quote that ends too late", "\"a\" <a@b>, \"x, c@d", "a@b|", true},
    {"address behind a group, no comma", "G: a@b; c@d", "a@b|c@d|", false},
    {"literal with an address", "a@[x@y]", "a@[x@y]|", false},
    {"two addresses with a space", "a@b c@d", "", true},
    {"address and words", "a@b is me", "", true},
    {"quote not closed", "\"Ann <a@b>", "", true},
    {"comment not closed", "a@b (Ann", "", true},
    {"comment not closed before", "(Ann a@b", "", true},
    {"literal not closed", "a@[192.0.2.1", "", true},
    {"comment closed twice", "a@b )", "", true},
    {"semicolons as Outlook writes them", "a@b; c@d", "a@b|c@d|", true},
    {"group not closed", "Friends: a@b", "a@b|", true},
    {"group in a group", "A: B: c@d;", "", true},
    {"group without a name", ": a@b;", "", true},
    {"broken one between good ones", "a@b, <x, c@d", "a@b|c@d|", true},
    {"backslash", "a\\@b", "", true},
    {"control character", "a\x01@b", "", true},
    {"control in quotes", "\"a\x01\"@b", "", true},
    {"route without an address", "<@x:>", "", true},
    {"route not ended", "<@x,a@b>", "", true},
    {"fold in a quoted local part", "\"a\r\n b\"@c", "a b@c|", false},
};

static void
finds_each_address(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(from); i++) {
        struct header_addresses it = header_addresses(slice_of(from[i].raw));
        struct header_address a;
        char got[1000] = "";

        print_message("  %s\n", from[i].name);
        while (header_next_address(&it, &a)) {
            assert_int_equal(a.len, strlen(a.text));
            strcat(got, a.text);
            strcat(got, "|");
        }
        assert_string_equal(got, from[i].want);
        assert_int_equal(it.garbage, from[i].garbage);
    }
}

static void
keeps_the_phrase_as_written(void **state)
{
    static const struct {
        const char *raw, *want;
    } rows[] = {
        {"Ann Bee <a@b>", "Ann Bee"},
        {"\"Bee, Ann\" <a@b>", "\"Bee, Ann\""},
        {"=?utf-8?q?x?= <a@b>", "=?utf-8?q?x?="},
        {"<a@b>", ""},
        {"a@b", ""},
        {"G: Ann <a@b>;", "Ann"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct header_addresses it = header_addresses(slice_of(rows[i].raw));
        struct header_address a;

        assert_true(header_next_address(&it, &a));
        assert_true(slice_eq(a.phrase, slice_of(rows[i].want)));
    }
}

static void
too_long_an_address_is_garbage(void **state)
{
    char raw[HEADER_ADDRESS_MAX + 10];
    struct header_addresses it;
    struct header_address a;

    (void)state;
    memset(raw, 'a', sizeof raw);
    raw[1] = '@';
    it = header_addresses((struct slice){raw, HEADER_ADDRESS_MAX});
    assert_true(header_next_address(&it, &a));
    assert_int_equal(a.len, HEADER_ADDRESS_MAX);
    it = header_addresses((struct slice){raw, HEADER_ADDRESS_MAX + 1});
    assert_false(header_next_address(&it, &a));
    assert_true(it.garbage);
}

/* A NUL is an octet like any other that cannot stand there. */
static void
nul_is_garbage(void **state)
{
    struct header_addresses it = header_addresses(SLICE_LIT("a\0b@c"));
    struct header_address a;

    (void)state;
    assert_false(header_next_address(&it, &a));
    assert_true(it.garbage);
}

/* However the octets fall, the walk ends, and what it gives is a local part,
 * an @ and a domain. */
static void
random_fields_end(void **state)
{
    static const char octets[] = "ab.@<>,;:()[]\"\\ \t\r\n=?q\x01\xc3\xbc";

    (void)state;
    for (int round = 0; round < 50000; round++) {
        char raw[40];
        size_t len = random_below(sizeof raw), n = 0;
        struct header_addresses it;
        struct header_address a;

        for (size_t i = 0; i < len; i++)
            raw[i] = octets[random_below(sizeof octets - 1)];
        it = header_addresses((struct slice){raw, len});
        while (header_next_address(&it, &a)) {
            const char *at = strrchr(a.text, '@');

            assert_non_null(at);
            assert_true(at > a.text && at[1] != '\0');
            assert_true(n++ <= len);
        }
        assert_int_equal(it.rest.len, 0);
    }
}

/* A megabyte of the worst is read in one go: a step that is not linear would
 * take hours. */
static void
long_fields_are_linear(void **state)
{
    static const char *const unit[] = {
        "(",  "\"", "<",    "=?", "=?a?q?", "=?utf-8?q?=C3?= ",
        "a,", ":",  "=?a?", "\\", "@",      "<@",
        "a:", " ",  "(\\",
    };
    size_t size = 1 << 20;
    char *raw = malloc(size), *out = malloc(HEADER_DECODED_MAX(size));

    (void)state;
    assert_non_null(raw);
    assert_non_null(out);
    for (size_t u = 0; u < LENGTH(unit); u++) {
        struct header_addresses it;
        struct header_address a;
        bool cut;

        for (size_t i = 0; i < size; i++)
            raw[i] = unit[u][i % strlen(unit[u])];
        header_decode((struct slice){raw, size}, out, HEADER_DECODED_MAX(size),
                      &cut);
        it = header_addresses((struct slice){raw, size});
        while (header_next_address(&it, &a))
            ;
    }
    free(raw);
    free(out);
}

static void
reads_the_first_token(void **state)
{
    static const struct {
        const char *raw, *want;
    } rows[] = {
        {"bulk", "bulk"},
        {" no ; x=y", "no"},
        {"(x) no(y)", "no"},
        {"auto-replied; a", "auto-replied"},
        {"", ""},
        {"\"no\"", ""},
        {"(not closed no", ""},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++)
        assert_true(slice_eq(header_first_token(slice_of(rows[i].raw)),
                             slice_of(rows[i].want)));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_each_row),
        cmocka_unit_test(cuts_at_any_length),
        cmocka_unit_test(always_gives_clean_text),
        cmocka_unit_test(finds_each_address),
        cmocka_unit_test(keeps_the_phrase_as_written),
        cmocka_unit_test(too_long_an_address_is_garbage),
        cmocka_unit_test(nul_is_garbage),
        cmocka_unit_test(random_fields_end),
        cmocka_unit_test(long_fields_are_linear),
        cmocka_unit_test(reads_the_first_token),
    };

    return cmocka_run_group_tests_name("policy/header", tests, NULL, NULL);
}
