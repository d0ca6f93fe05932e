/* tests/unit/policy/test_mime.c - mirrors policy/mime.c, mime_part.c,
 * mime_field.c, mime_name.c and mime_transfer.c
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

#include "policy/mime.h"
#include "tests/support/failing_alloc.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* ---- a message as a text: header, empty line, body ---- */

static size_t
line_length(struct slice s)
{
    const char *end = memchr(s.at, '\n', s.len);

    return end != NULL ? (size_t)(end - s.at) + 1 : s.len;
}

/* Gives the header's fields to m; returns the body. */
static struct slice
feed_header(struct mime *m, struct slice s)
{
    while (s.len > 0 && s.at[0] != '\n' && s.at[0] != '\r') {
        size_t n = line_length(s), colon = 0;
        struct slice value;

        while (n < s.len && (s.at[n] == ' ' || s.at[n] == '\t'))
            n += line_length(slice_from(s, n));
        while (s.at[colon] != ':')
            assert_true(++colon < n);
        value = (struct slice){s.at + colon + 1, n - colon - 1};
        while (value.len > 0 && (value.at[value.len - 1] == '\n' ||
                                 value.at[value.len - 1] == '\r'))
            value.len--;
        mime_header(m, (struct slice){s.at, colon}, value);
        s = slice_from(s, n);
    }
    return s.len > 0 ? slice_from(s, line_length(s)) : s;
}

/* The names, each with "|" behind, and "CUT" when there may be others. */
static void
take_answer(struct mime *m, char *ret, size_t size)
{
    size_t n, len = 0;
    const struct slice *name = mime_names(m, &n);

    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(ret + len, size - len, "%.*s|",
                                SLICE_FMT(name[i]));
    snprintf(ret + len, size - len, "%s", mime_cut(m) ? "CUT" : "");
}

static void
read_whole(struct mime *m, struct slice message, char *ret, size_t size)
{
    struct slice body;

    mime_reset(m);
    body = feed_header(m, message);
    mime_body(m, body.at, body.len);
    take_answer(m, ret, size);
}

static char *
with_crlf(const char *text)
{
    char *crlf = malloc(2 * strlen(text) + 1), *to = crlf;

    assert_non_null(crlf);
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            *to++ = '\r';
        *to++ = *text;
    }
    *to = '\0';
    return crlf;
}

/* ---- names in one field ---- */

static const struct {
    const char *name, *field, *want;
} fields[] = {
    {"disposition", "Content-Disposition: attachment; filename=a.exe",
     "a.exe|"},
    {"type", "Content-Type: application/pdf; name=a.pdf", "a.pdf|"},
    {"no parameters", "Content-Type: application/pdf", ""},
    {"in capitals", "CONTENT-DISPOSITION: ATTACHMENT; FILENAME=A.EXE",
     "A.EXE|"},
    {"in quotes", "Content-Disposition: attachment; filename=\"a b.exe\"",
     "a b.exe|"},
    {"quoted pair", "Content-Disposition: attachment; filename=\"a\\\"b.exe\"",
     "a\"b.exe|"},
    {"semicolon in quotes",
     "Content-Disposition: attachment; filename=\"a;b.exe\"; size=1",
     "a;b.exe|"},
    {"parameter in quotes is none",
     "Content-Disposition: attachment; filename=\"a; name=b.exe; .txt\"",
     "a; name=b.exe; .txt|"},
    {"no space at all", "Content-Disposition:attachment;filename=a.exe;size=1",
     "a.exe|"},
    {"spaces everywhere",
     "Content-Disposition: attachment ; filename = \"a.exe\" ; size = 1",
     "a.exe|"},
    {"folded", "Content-Disposition: attachment;\n\tfilename=\"a.exe\"",
     "a.exe|"},
    {"folded around the sign",
     "Content-Disposition: attachment; filename\n =\n \"a.exe\"", "a.exe|"},
    {"folded within the name",
     "Content-Disposition: attachment; filename=\"a\n b.exe\"", "a b.exe|"},
    {"name and filename in one", "Content-Type: text/plain; name=a; filename=b",
     "a|b|"},
    {"other names are not ours",
     "Content-Type: text/plain; xname=a; filename-x=b; names=c; my-name=d", ""},
    {"no type", "Content-Type: name=a.exe", "a.exe|"},
    {"empty type", "Content-Disposition: ; filename=a.exe", "a.exe|"},
    {"empty parameters", "Content-Disposition: attachment;; ;filename=a.exe;",
     "a.exe|"},
    {"empty name", "Content-Disposition: attachment; filename=\"\"", ""},
    {"no value", "Content-Disposition: attachment; filename=; size=1", ""},

    /* paths, ends, controls */
    {"path of Windows",
     "Content-Disposition: attachment; filename=\"C:\\\\dir\\\\a.exe\"",
     "a.exe|"},
    {"path of Windows, not quoted",
     "Content-Disposition: attachment; filename=\"C:\\dir\\a.exe\"",
     "dira.exe|a.exe|"},
    {"path in a bare value",
     "Content-Disposition: attachment; filename=C:\\dir\\a.exe",
     "dira.exe|a.exe|"},
    {"path of Unix", "Content-Disposition: attachment; filename=\"/x/y/a.exe\"",
     "a.exe|"},
    {"path that climbs",
     "Content-Disposition: attachment; filename=../../a.exe", "a.exe|"},
    {"slash at the end", "Content-Disposition: attachment; filename=x/a.exe/",
     "a.exe|"},
    {"dot at the end", "Content-Disposition: attachment; filename=\"a.exe.\"",
     "a.exe|"},
    {"space at the end", "Content-Disposition: attachment; filename=\"a.exe \"",
     "a.exe|"},
    {"dots and spaces at the end",
     "Content-Disposition: attachment; filename=\" a.exe . ..\"", "a.exe|"},
    {"nothing but dots", "Content-Disposition: attachment; filename=\"..\"",
     ""},
    {"control", "Content-Disposition: attachment; filename=\"a.e\x01xe\x7f\"",
     "a.exe|"},
    {"tab", "Content-Disposition: attachment; filename=\"a\tb.exe\"",
     "a b.exe|"},
    {"encoded NUL", "Content-Disposition: attachment; filename*=''a.exe%00.txt",
     "a.exe .txt|a.exe|"},

    /* what many send against the standard */
    {"encoded word",
     "Content-Disposition: attachment; filename=\"=?utf-8?Q?=C3=BC=2Eexe?=\"",
     "\xc3\xbc.exe|"},
    {"encoded words",
     "Content-Type: x/y; name=\"=?UTF-8?B?w7w=?=\n =?UTF-8?B?LmV4ZQ==?=\"",
     "\xc3\xbc.exe|"},
    {"encoded word, a character split",
     "Content-Type: x/y; name=\"=?utf-8?q?=C3?= =?utf-8?q?=BC.exe?=\"",
     "\xc3\xbc.exe|"},
    {"encoded word, no quotes",
     "Content-Type: x/y; name==?iso-8859-1?Q?=FC=2Eexe?=", "\xc3\xbc.exe|"},
    {"encoded word, and text",
     "Content-Type: x/y; name=\"a =?utf-8?q?b?= c.exe\"", "a b c.exe|"},
    {"encoded word, unknown charset",
     "Content-Type: x/y; name=\"=?x-who?Q?=DD=2Eexe?=\"",
     "\xef\xbf\xbd.exe|CUT"},
    {"encoded word, broken base64",
     "Content-Type: x/y; name=\"=?utf-8?B?YS!5leGU=?=\"", "a.exe|CUT"},
    {"encoded word, base64 in pieces",
     "Content-Type: x/y; name=\"=?utf-8?B?YQ==LmV4ZQ==?=\"", "a.exe|CUT"},
    {"encoded word without an end",
     "Content-Type: x/y; name=\"=?utf-8?Q?a=2Eexe\"", "=?utf-8?Q?a=2Eexe|CUT"},
    {"raw utf-8", "Content-Type: x/y; name=\"\xc3\xbc.exe\"", "\xc3\xbc.exe|"},
    {"raw latin-1", "Content-Type: x/y; name=\"\xfc.exe\"",
     "\xef\xbf\xbd.exe|"},

    /* RFC 2231 */
    {"2231", "Content-Disposition: attachment; filename*=UTF-8''%C3%BC.exe",
     "\xc3\xbc.exe|"},
    {"2231 with a language",
     "Content-Disposition: attachment; filename*=iso-8859-1'de'%FC%2Eexe",
     "\xc3\xbc.exe|"},
    {"2231 in quotes",
     "Content-Disposition: attachment; filename*=\"UTF-8''%C3%BC.exe\"",
     "\xc3\xbc.exe|"},
    {"2231 without a charset",
     "Content-Disposition: attachment; filename*=''%C3%BC.exe",
     "\xc3\xbc.exe|"},
    {"2231 without apostrophes",
     "Content-Disposition: attachment; filename*=it's%2Eexe", "it's.exe|"},
    {"2231, unknown charset",
     "Content-Disposition: attachment; filename*=x-who''%DD.exe",
     "\xef\xbf\xbd.exe|CUT"},
    {"2231, bad percent",
     "Content-Disposition: attachment; filename*=utf-8''a%zz%4.exe",
     "a%zz%4.exe|"},
    {"2231 encoded path",
     "Content-Disposition: attachment; filename*=utf-8''x%2Fa.exe", "a.exe|"},
    {"2231 beside a plain one",
     "Content-Disposition: attachment; filename=\"_.exe\"; "
     "filename*=UTF-8''%C3%BC.exe",
     "_.exe|\xc3\xbc.exe|"},
    {"continued",
     "Content-Disposition: attachment; filename*0=\"a b\"; filename*1=\".exe\"",
     "a b.exe|"},
    {"continued, out of order",
     "Content-Disposition: attachment; filename*2=exe; filename*0=a; "
     "filename*1=.",
     "a.exe|"},
    {"continued, ten of them",
     "Content-Type: x/y; name*10=k; name*0=a; name*1=b; name*2=c; name*3=d;"
     " name*4=e; name*5=f; name*6=g; name*7=h; name*8=i; name*9=j",
     "abcdefghijk|"},
    {"continued and encoded",
     "Content-Disposition: attachment; filename*0*=UTF-8''%C3;\n"
     " filename*1*=%BC%2E; filename*2=exe",
     "\xc3\xbc.exe|"},
    {"continued, encoded from the second on",
     "Content-Disposition: attachment; filename*0=a; filename*1*=%2Eexe",
     "a.exe|"},
    {"continued, a plain piece is not decoded",
     "Content-Disposition: attachment; filename*0*=utf-8''a; filename*1=%2E",
     "a%2E|"},
    {"continued, first one missing",
     "Content-Disposition: attachment; filename*1=a; filename*2=.exe",
     "a.exe|"},
    {"continued, one missing: both readings",
     "Content-Disposition: attachment; filename*0=a.exe; filename*2=.txt",
     "a.exe.txt|a.exe|"},
    {"continued, one twice: both readings",
     "Content-Disposition: attachment; filename*0=a; filename*1=.txt; "
     "filename*1=.exe",
     "a.txt|a.exe|"},
    {"continued with encoded words",
     "Content-Type: x/y; name*0=\"=?utf-8?Q?=C3=BC\"; name*1=\".exe?=\"",
     "\xc3\xbc.exe|"},
    {"continued, encoded but not said so",
     "Content-Disposition: attachment; filename*0=utf-8''a%2E; filename*1=exe",
     "utf-8''a%2Eexe|a.exe|"},
    {"two attributes continued",
     "Content-Type: x/y; name*0=a; filename*0=c; name*1=b; filename*1=d",
     "ab|cd|"},
    {"number too large", "Content-Type: x/y; name*99999=a; name=b", "b|CUT"},

    /* several readings */
    {"two names", "Content-Disposition: attachment; filename=a; filename=b.exe",
     "a|b.exe|"},
    {"the same twice",
     "Content-Disposition: attachment; filename=a; filename=a", "a|"},
    {"spaces, no quotes",
     "Content-Disposition: attachment; filename=my file.exe; size=1",
     "my|my file.exe|"},
    {"quotes not closed",
     "Content-Disposition: attachment; filename=\"a.exe; size=1",
     "a.exe; size=1|a.exe|"},
    {"quotes not closed, another behind",
     "Content-Disposition: attachment; filename=\"a; filename=b.exe",
     "a; filename=b.exe|a|b.exe|"},
    {"text behind the quotes",
     "Content-Disposition: attachment; filename=\"a\".exe", "a|a.exe|"},
    {"quotes in the middle",
     "Content-Disposition: attachment; filename=a\".exe\"", "a.exe|"},
    {"no semicolon before", "Content-Disposition: attachment filename=a.exe",
     "a.exe|"},
    {"comma for a semicolon", "Content-Type: x/y, name=a.exe", "a.exe|"},
    {"comment", "Content-Disposition: attachment (x); (y) filename=a.exe (z)",
     "a.exe|a.exe (z)|"},
    {"comment in the middle",
     "Content-Disposition: attachment; filename=a(1).exe", "a|a(1).exe|"},
    {"name in a comment",
     "Content-Disposition: attachment; (; filename=a.exe) size=1",
     "a.exe) size=1|"},
    {"comment not closed", "Content-Disposition: attachment; (x filename=a.exe",
     "a.exe|"},
    {"word without a value",
     "Content-Disposition: attachment; x; filename=a.exe", "a.exe|"},
    {"garbage", "Content-Disposition: =;=\"\"=\"(;filename=a.exe", "a.exe|"},
};

static void
names_of_a_field(void **state)
{
    struct mime *m = *state;

    for (size_t i = 0; i < LENGTH(fields); i++) {
        char text[1000], got[1000];

        print_message("  %s\n", fields[i].name);
        snprintf(text, sizeof text, "%s\n\n", fields[i].field);
        read_whole(m, slice_of(text), got, sizeof got);
        assert_string_equal(got, fields[i].want);

        /* The same in a part. */
        snprintf(text, sizeof text,
                 "Content-Type: multipart/mixed; boundary=b\n\n--b\n%s\n\n"
                 "--b--\n",
                 fields[i].field);
        read_whole(m, slice_of(text), got, sizeof got);
        assert_string_equal(got, fields[i].want);
    }
}

/* ---- the structure ---- */

#define MIXED "Content-Type: multipart/mixed; boundary=b\n\n"
#define FILE_NAMED(name) \
    "Content-Disposition: attachment; filename=" name "\n\n"

static const struct {
    const char *name, *message, *want;
} messages[] = {
    {"no MIME at all", "Subject: x\n\nhello\n", ""},
    {"no body", "Content-Type: x/y; name=a\n", "a|"},
    {"nothing", "", ""},
    {"text and a file",
     MIXED "preamble\n--b\nContent-Type: text/plain\n\nhello\n--b\n" FILE_NAMED(
         "a.exe") "x\n--b--\nepilogue\n",
     "a.exe|"},
    {"names of several parts",
     MIXED "--b\n" FILE_NAMED("a") "--b\n" FILE_NAMED("b") "--b\n" FILE_NAMED(
         "a") "--b--\n",
     "a|b|a|"},
    {"type and disposition of one part",
     MIXED "--b\nContent-Type: x/y; name=a\nContent-Disposition: attachment;\n"
           "\tfilename=a\n\n--b\nContent-Type: x/y; name=a\n"
           "Content-Disposition: attachment; filename=c\n\n--b--\n",
     "a|a|c|"},
    {"header in a body is none",
     MIXED "--b\n\n" FILE_NAMED("a.exe") "\n--b--\n", ""},
    {"header in the preamble is none",
     MIXED FILE_NAMED("a.exe") "--b\n\n--b--\n", ""},
    {"header of the message counts", FILE_NAMED("a.exe") "hello\n", "a.exe|"},
    {"no blank line behind the header",
     MIXED "--b\nContent-Disposition: attachment; filename=a.exe\n--b--\n",
     "a.exe|"},
    {"ends in the header",
     MIXED "--b\nContent-Disposition: attachment; filename=a.exe", "a.exe|"},
    {"no closing delimiter", MIXED "--b\n" FILE_NAMED("a.exe") "x", "a.exe|"},
    {"ends in a delimiter", MIXED "--b\n" FILE_NAMED("a.exe") "\n--b",
     "a.exe|"},
    {"white space behind the delimiter",
     MIXED "--b \t \n" FILE_NAMED("a.exe") "\n--b--  \n", "a.exe|"},
    {"delimiter not at the start of the line",
     MIXED " --b\n" FILE_NAMED("a.exe"), ""},
    {"a part behind the end is shown by some",
     MIXED "--b\n\n--b--\n\n--b\n" FILE_NAMED("a.exe"), "a.exe|"},
    {"space before the colon",
     MIXED "--b\nContent-Disposition : x; filename=a.exe\n\n--b--\n", "a.exe|"},
    {"a line that is no field",
     MIXED "--b\nnonsense\n" FILE_NAMED("a.exe") "--b--\n", "a.exe|CUT"},
    {"fold without its white space",
     MIXED "--b\nContent-Type: x/y;\nname=a.exe\n\n--b--\n", "a.exe|CUT"},
    {"white space in the place of the empty line",
     "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
     "Content-Type: multipart/mixed; boundary=c\n \n--c\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"header twice",
     MIXED "--b\nContent-Type: x/y; name=a\nContent-Type: x/y; name=c\n\n",
     "a|c|"},

    /* boundaries */
    {"boundary in quotes",
     "Content-Type: multipart/mixed; boundary=\"b (c) ;d\"\n\n--b (c) "
     ";d\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"boundary with an equals sign, not quoted",
     "Content-Type: multipart/mixed; boundary=----=_Part\n\n"
     "------=_Part\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"boundary with a space at its end",
     "Content-Type: multipart/mixed; boundary=\"b \"\n\n--b\n" FILE_NAMED(
         "a.exe"),
     "a.exe|"},
    {"boundary folded before it",
     "Content-Type: multipart/mixed;\n boundary=\n \"b\"\n\n--b\n" FILE_NAMED(
         "a.exe"),
     "a.exe|"},
    {"boundary continued",
     "Content-Type: multipart/mixed; boundary*1=c; "
     "boundary*0=b\n\n--bc\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"boundary encoded",
     "Content-Type: multipart/mixed; "
     "boundary*=us-ascii''b%63\n\n--bc\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"case of the boundary counts", MIXED "--B\n" FILE_NAMED("a.exe") "--b--\n",
     ""},
    {"type in capitals",
     "content-type: MULTIPART/MIXED; BOUNDARY=b\n\n--b\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"comments in the type",
     "Content-Type: (x) multipart (y) / (z) mixed; "
     "boundary=b\n\n--b\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"no boundary",
     "Content-Type: multipart/mixed\n\n--b\n" FILE_NAMED("a.exe"), "CUT"},
    {"empty boundary",
     "Content-Type: multipart/mixed; boundary=\"\"\n\n--\n" FILE_NAMED("a.exe"),
     "CUT"},
    {"two boundaries",
     "Content-Type: multipart/mixed; boundary=b; "
     "boundary=c\n\n--b\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"the same boundary twice",
     "Content-Type: multipart/mixed; boundary=b; "
     "boundary=\"b\"\n\n--b\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"two types, one with a structure",
     "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=b\n\n"
     "--b\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"two types, the other way round",
     "Content-Type: multipart/mixed; boundary=b\nContent-Type: text/plain\n\n"
     "--b\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"more than the boundary in the line",
     MIXED "--bx\n" FILE_NAMED("a.exe") "--b--\n", "a.exe|CUT"},
    {"more than the boundary and its end in the line",
     MIXED "--b--x\n\n--b\n" FILE_NAMED("a.exe") "--b--\n", "a.exe|CUT"},
    {"inner boundary begins with the outer",
     MIXED "--b\nContent-Type: multipart/mixed; boundary=bb\n\n"
           "--bb\n" FILE_NAMED("a") "--bb--\n--b\n" FILE_NAMED("c") "--b--\n",
     "a|c|"},
    {"outer boundary begins with the inner",
     "Content-Type: multipart/mixed; boundary=bb\n\n"
     "--bb\nContent-Type: multipart/mixed; boundary=b\n\n"
     "--b\n" FILE_NAMED("a") "--b--\n--bb\n" FILE_NAMED("c") "--bb--\n",
     "a|c|"},
    {"boundary that ends like a closing delimiter",
     "Content-Type: multipart/mixed; boundary=\"b--\"\n\n--b--\n" FILE_NAMED(
         "a.exe"),
     "a.exe|"},
    {"outer boundary ends the inner part",
     MIXED "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nx\n"
           "--b\n" FILE_NAMED("a.exe") "--b--\n--c\n" FILE_NAMED("no"),
     "a.exe|"},
    {"the same boundary inside and outside",
     MIXED "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" FILE_NAMED(
         "a") "--b--\n--b\n" FILE_NAMED("c") "--b--\n",
     "a|c|"},

    /* messages in messages */
    {"forwarded",
     MIXED "--b\nContent-Type: message/rfc822\n\nSubject: x\n"
           "Content-Type: multipart/mixed; boundary=c\n\n--c\n" FILE_NAMED(
               "a.exe") "--c--\n--b\n" FILE_NAMED("d") "--b--\n",
     "a.exe|d|"},
    {"forwarded, header of the inner message",
     MIXED "--b\nContent-Type: message/rfc822; name=m.eml\n\n" FILE_NAMED(
         "a.exe") "x\n--b--\n",
     "m.eml|a.exe|"},
    {"forwarded, in capitals, for UTF-8",
     MIXED "--b\nContent-Type: MESSAGE/GLOBAL\n\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"forwarded, out of a mailbox file",
     MIXED
     "--b\nContent-Type: message/rfc822\n\nFrom a@b Mon Jan 1\n" FILE_NAMED(
         "a.exe"),
     "a.exe|"},
    {"forwarded, an empty line first",
     MIXED "--b\nContent-Type: message/rfc822\n\n\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"the whole message is one",
     "Content-Type: message/rfc822\n\nContent-Type: "
     "message/rfc822\n\n" FILE_NAMED("a.exe"),
     "a.exe|"},
    {"digest",
     "Content-Type: multipart/digest; boundary=b\n\n--b\n\n" FILE_NAMED(
         "a") "--b\nContent-Type: text/plain\n\n" FILE_NAMED("no") "--b--\n",
     "a|"},
    {"fragment",
     "Content-Type: message/partial; id=x; number=1; total=2\n\n" FILE_NAMED(
         "a.exe"),
     "a.exe|CUT"},
    {"delivery status",
     MIXED "--b\nContent-Type: message/delivery-status\n\n"
           "Action: failed\n\nStatus: 5.0.0\n--b--\n",
     ""},
    {"forwarded in base64",
     MIXED "--b\nContent-Type: message/rfc822\n"
           "Content-Transfer-Encoding: base64\n\n"
           "Q29udGVudC1EaXNwb3NpdGlvbjogYXR0\n"
           "YWNobWVudDsgZmlsZW5hbWU9YS5leGUKCng=\n--b\n" FILE_NAMED("c"),
     "a.exe|c|"},
    {"forwarded in base64, a multipart that ends early",
     MIXED "--b\nContent-Type: message/rfc822\n"
           "Content-Transfer-Encoding: BASE64\n\n"
           /* Content-Type: multipart/mixed; boundary=b, --b, the field */
           "Q29udGVudC1UeXBlOiBtdWx0aXBhcnQvbWl4ZWQ7IGJvdW5kYXJ5PWIKCi0tYgpD\n"
           "b250ZW50LURpc3Bvc2l0aW9uOiB4OyBmaWxlbmFtZT1hLmV4ZQ==\n"
           "--b\n" FILE_NAMED("c") "--b--\n",
     "a.exe|c|"},
    {"forwarded in quoted-printable",
     MIXED "--b\nContent-Type: message/rfc822\n"
           "Content-Transfer-Encoding: quoted-printable\n\n"
           "Content-Type: multipart/mixed; boundary=3D=\nc\n\n--c\n"
           "Content-Disposition: x; filename=3Da=2Ee=  "
           "\nxe\n\n--c--\n--b\n" FILE_NAMED("d"),
     "a.exe|d|"},
    {"forwarded in base64, said only",
     MIXED "--b\nContent-Type: message/rfc822\n"
           "Content-Transfer-Encoding: base64\n\n" FILE_NAMED("a.exe"),
     "CUT"},
    {"forwarded in quoted-printable, said only",
     MIXED
     "--b\nContent-Type: message/rfc822\n"
     "Content-Transfer-Encoding: quoted-printable\n\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"forwarded in an encoding we do not know",
     MIXED "--b\nContent-Type: message/rfc822\n"
           "Content-Transfer-Encoding: x-uuencode\n\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"two encodings",
     MIXED "--b\nContent-Transfer-Encoding: 7bit\n"
           "Content-Transfer-Encoding: base64\n"
           "Content-Type: message/rfc822\n\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"multipart in base64",
     "Content-Transfer-Encoding: base64\n" MIXED "--b\n" FILE_NAMED("a.exe"),
     "a.exe|CUT"},
    {"uuencode is not looked into",
     "Subject: x\n\nbegin 644 a.exe\n#0V%T\n`\nend\n", ""},
};

static void
names_of_a_message(void **state)
{
    struct mime *m = *state;

    for (size_t i = 0; i < LENGTH(messages); i++) {
        char *crlf = with_crlf(messages[i].message), got[1000];

        print_message("  %s\n", messages[i].name);
        read_whole(m, slice_of(messages[i].message), got, sizeof got);
        assert_string_equal(got, messages[i].want);
        read_whole(m, slice_of(crlf), got, sizeof got);
        assert_string_equal(got, messages[i].want);
        free(crlf);
    }
}

/* In one octet at a time, and in two pieces of every length. */
static void
pieces_do_not_matter(void **state)
{
    struct mime *m = *state;

    for (size_t i = 0; i < LENGTH(messages); i++) {
        char *crlf = with_crlf(messages[i].message), got[1000];
        struct slice body;

        mime_reset(m);
        body = feed_header(m, slice_of(crlf));
        for (size_t k = 0; k < body.len; k++)
            mime_body(m, body.at + k, 1);
        take_answer(m, got, sizeof got);
        assert_string_equal(got, messages[i].want);

        for (size_t k = 0; k <= body.len; k++) {
            mime_reset(m);
            feed_header(m, slice_of(crlf));
            mime_body(m, body.at, k);
            mime_body(m, body.at + k, body.len - k);
            take_answer(m, got, sizeof got);
            assert_string_equal(got, messages[i].want);
        }
        free(crlf);
    }
}

/* After each allocation that may fail, the answer is the right one, or it is
 * cut and has no name that the right one has not. */
static void
every_allocation_may_fail(void **state)
{
    struct mime *m = *state;

    alloc_left = 0;
    assert_null(mime_new());
    alloc_left = ALLOC_FOR_EVER;
    for (size_t i = 0; i < LENGTH(messages); i++) {
        struct slice text = slice_of(messages[i].message);
        const struct slice *name;
        unsigned long n = 0, used;
        char got[1000];
        size_t n_names;

        do {
            struct slice body;

            assert_true(n < 100);
            mime_reset(m);
            alloc_left = n++;
            body = feed_header(m, text);
            mime_body(m, body.at, body.len);
            name = mime_names(m, &n_names);
            used = alloc_left;
            alloc_left = ALLOC_FOR_EVER;
            for (size_t k = 0; k < n_names; k++) {
                snprintf(got, sizeof got, "%.*s|", SLICE_FMT(name[k]));
                assert_non_null(strstr(messages[i].want, got));
            }
            take_answer(m, got, sizeof got);
            if (strcmp(got, messages[i].want) != 0)
                assert_true(mime_failed(m));
        } while (used == 0);
        assert_false(mime_failed(m));
        assert_string_equal(got, messages[i].want);
    }
}

/* ---- when is there no need to read on? ---- */

static void
wants_no_more_than_it_needs(void **state)
{
    static const struct {
        const char *name, *message;
        bool after_header, after_body;
    } rows[] = {
        {"text", "Subject: x\n\nhello\n", false, false},
        {"a file", "Content-Type: x/y; name=a\n\nhello\n", false, false},
        {"multipart", MIXED "--b\n", true, true},
        {"multipart, closed: some read on", MIXED "--b\n\n--b--\n", true, true},
        {"multipart without a boundary", "Content-Type: multipart/x\n\n", false,
         false},
        {"status", "Content-Type: message/delivery-status\n\n", false, false},
        {"message", "Content-Type: message/rfc822\n\nSubject: x\n", true, true},
        {"text in a message",
         "Content-Type: message/rfc822\n\nSubject: x\n\nhello", true, false},
        {"multipart in a message",
         "Content-Type: message/rfc822\n\n" MIXED "hello\n", true, true},
    };
    struct mime *m = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct slice body;

        print_message("  %s\n", rows[i].name);
        mime_reset(m);
        body = feed_header(m, slice_of(rows[i].message));
        assert_int_equal(mime_wants_body(m), rows[i].after_header);
        mime_body(m, body.at, body.len);
        assert_int_equal(mime_wants_body(m), rows[i].after_body);
    }
}

/* As libmilter may give them: a space in front, and each in its own memory,
 * gone when the call is over. */
static void
borrows_nothing(void **state)
{
    static const char type[] = " multipart/mixed; boundary=b; name=a",
                      body[] = "--b\n" FILE_NAMED("c");
    struct mime *m = *state;
    char *copy, got[100];

    mime_reset(m);
    copy = strdup(type);
    assert_non_null(copy);
    mime_header(m, SLICE_LIT("content-TYPE"), slice_of(copy));
    free(copy);
    for (size_t i = 0; i < sizeof body - 1; i++) {
        copy = malloc(1);
        assert_non_null(copy);
        *copy = body[i];
        mime_body(m, copy, 1);
        free(copy);
    }
    mime_header(m, SLICE_LIT("Content-Type"), SLICE_LIT("x/y; name=late"));
    take_answer(m, got, sizeof got);
    assert_string_equal(got, "a|c|");
    mime_body(m, "", 0);
    mime_body(m, "--b\n" FILE_NAMED("late"), 40); /* the answer stands */
    take_answer(m, got, sizeof got);
    assert_string_equal(got, "a|c|");
}

static void
nul_ends_a_name_for_some(void **state)
{
    static const char value[] = "attachment; filename=\"a.exe\0.txt\"";
    struct mime *m = *state;
    char got[100];

    mime_reset(m);
    mime_header(m, SLICE_LIT("Content-Disposition"),
                (struct slice){value, sizeof value - 1});
    take_answer(m, got, sizeof got);
    assert_string_equal(got, "a.exe .txt|a.exe|");
}

/* ---- bounds ---- */

static void
feed_text(struct mime *m, const char *text)
{
    mime_body(m, text, strlen(text));
}

static void
begin_mixed(struct mime *m)
{
    mime_reset(m);
    mime_header(m, SLICE_LIT("Content-Type"),
                SLICE_LIT("multipart/mixed; boundary=b"));
}

static void
a_thousand_names(void **state)
{
    struct mime *m = *state;

    for (size_t bound = 1000; bound <= 1001; bound++) {
        size_t n;

        begin_mixed(m);
        for (size_t i = 0; i < bound; i++)
            feed_text(m, "--b\n" FILE_NAMED("a"));
        assert_int_equal(mime_wants_body(m), bound == 1000);
        mime_names(m, &n);
        assert_int_equal(n, 1000);
        assert_int_equal(mime_cut(m), bound > 1000);
    }
}

/* Of a longer name the end counts, for that is what tells its kind. */
static void
long_names_keep_their_end(void **state)
{
    struct mime *m = *state;

    for (size_t len = 1023; len <= 1026; len++) {
        char value[2000] = "x; filename=\xc3\xbc";
        const struct slice *name;
        size_t n, at = strlen(value);

        memset(value + at, 'a', len - 6);
        strcpy(value + at + len - 6, ".exe");
        mime_reset(m);
        mime_header(m, SLICE_LIT("Content-Disposition"), slice_of(value));
        name = mime_names(m, &n);
        assert_int_equal(n, 1);
        /* 1,025: not in the middle of the first character */
        assert_int_equal(name[0].len, len <= 1024   ? len
                                      : len == 1025 ? 1023
                                                    : 1024);
        assert_true(slice_ends_nocase(name[0], SLICE_LIT("a.exe")));
        assert_int_equal(mime_cut(m), len > 1024);
    }
}

static void
a_hundred_multiparts(void **state)
{
    struct mime *m = *state;

    for (int depth = 100; depth <= 101; depth++) {
        char text[200], got[100];

        mime_reset(m);
        mime_header(m, SLICE_LIT("Content-Type"),
                    SLICE_LIT("multipart/mixed; boundary=b001"));
        for (int i = 2; i <= depth; i++) {
            snprintf(text, sizeof text,
                     "--b%03d\nContent-Type: multipart/mixed; "
                     "boundary=b%03d\n\n",
                     i - 1, i);
            feed_text(m, text);
        }
        snprintf(text, sizeof text, "--b%03d\n" FILE_NAMED("deep"), depth);
        feed_text(m, text);
        feed_text(m, "--b001\n" FILE_NAMED("flat"));
        take_answer(m, got, sizeof got);
        assert_string_equal(got, depth <= 100 ? "deep|flat|" : "flat|CUT");
    }
}

static void
a_hundred_messages(void **state)
{
    struct mime *m = *state;

    for (int depth = 100; depth <= 101; depth++) {
        char got[100];

        begin_mixed(m);
        feed_text(m, "--b\n");
        for (int i = 1; i < depth; i++)
            feed_text(m, "Content-Type: message/rfc822\n\n");
        feed_text(m, FILE_NAMED("deep") "--b\n" FILE_NAMED("flat"));
        take_answer(m, got, sizeof got);
        assert_string_equal(got, depth <= 100 ? "deep|flat|" : "flat|CUT");
    }
}

/* Quoted-printable leaves a text without "=" as it is, so that the same lines
 * serve at each depth. */
static void
encoded_messages_in_one_another(void **state)
{
    struct mime *m = *state;

    for (int depth = 3; depth <= 4; depth++) {
        char got[100];

        begin_mixed(m);
        feed_text(m, "--b\n");
        for (int i = 0; i < depth; i++)
            feed_text(m, "Content-Transfer-Encoding: quoted-printable\n"
                         "Content-Type: message/rfc822; x\n\n");
        feed_text(m, "Content-Disposition: x; filename*0");
        feed_text(m, depth == 3 ? "=3D3D3Ddeep\n" : "=3D3D3D3Ddeep\n");
        feed_text(m, "--b\n" FILE_NAMED("flat"));
        take_answer(m, got, sizeof got);
        assert_string_equal(got, depth == 3 ? "deep|flat|" : "flat|CUT");
    }
}

static void
boundaries_of_256_octets(void **state)
{
    struct mime *m = *state;

    for (size_t len = 255; len <= 257; len++) {
        char boundary[300] = "", type[400], got[100];

        memset(boundary, 'x', len);
        snprintf(type, sizeof type, "multipart/mixed; boundary=\"%s\"",
                 boundary);
        mime_reset(m);
        mime_header(m, SLICE_LIT("Content-Type"), slice_of(type));
        feed_text(m, "--");
        feed_text(m, boundary);
        feed_text(m, " \t                           \r\n" FILE_NAMED("a"));
        feed_text(m, "--");
        feed_text(m, boundary);
        feed_text(m, "--                           \r\n");
        take_answer(m, got, sizeof got);
        assert_string_equal(got, len <= 256 ? "a|" : "CUT");
    }
}

/* The empty line at its end counts. */
static void
a_header_of_64_kib(void **state)
{
    static const char first[] = "X: ", last[] = "\n" FILE_NAMED("a.exe");
    struct mime *m = *state;

    for (size_t over = 0; over < 2; over++) {
        size_t filler = 64 * 1024 - strlen(first) - strlen(last) + over;
        char got[100];

        begin_mixed(m);
        feed_text(m, "--b\n");
        feed_text(m, first);
        for (; filler > 0; filler--)
            feed_text(m, filler % 70 > 0 ? "x" : "\t");
        feed_text(m, last);
        feed_text(m, "--b\n" FILE_NAMED("c"));
        take_answer(m, got, sizeof got);
        assert_string_equal(got, over == 0 ? "a.exe|c|" : "a.exe|c|CUT");
    }
}

/* A megabyte of the worst is read in one go: a step that is not linear would
 * take hours. */
enum { HOSTILE_OCTETS = 1 << 20 };

static void
feed_many(struct mime *m, const char *unit, size_t octets)
{
    size_t len = strlen(unit), whole = 0;
    char *many = malloc(octets);

    assert_non_null(many);
    for (; whole + len <= octets; whole += len)
        memcpy(many + whole, unit, len);
    mime_body(m, many, whole);
    free(many);
}

static void
hostile_bodies_are_linear(void **state)
{
    static const char *const unit[] = {
        "--",
        "--\n",
        "\n",
        " ",
        "-",
        "--b",
        "--b\n",
        "--b--\n",
        "--b                                   ",
        "x\n",
        "--b\nContent-Type: multipart/mixed; boundary=b\n\n",
        "--b\nContent-Type: message/rfc822\n\n",
        "--b\nContent-Disposition: x; filename=a; filename=b\n\n",
        "Content-Type: message/rfc822\n",
        "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: "
        "base64\n\nQUFBQUFBQUFBQUFB\nQ29udGVudC1UeXBlOiB4Cg==\n",
        "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: "
        "quoted-printable\n\n=\n=\n=\n=3D=3D= = = = \n",
    };
    struct mime *m = *state;

    for (size_t i = 0; i < LENGTH(unit); i++) {
        size_t n;

        begin_mixed(m);
        feed_many(m, unit[i], HOSTILE_OCTETS);
        mime_names(m, &n);
        assert_true(n <= 1000);
    }

    /* Ten thousand boundaries, and lines that are nearly one of them. */
    begin_mixed(m);
    feed_text(m, "--b\n");
    for (int i = 0; i < 10000; i++) {
        char text[500];

        snprintf(text, sizeof text,
                 "Content-Type: multipart/mixed; boundary=%0200d\n\n--%0200d\n",
                 i, i);
        feed_text(m, text);
    }
    feed_many(m, "--00000000000000000000000000000000000000\n", HOSTILE_OCTETS);
    assert_true(mime_cut(m));
}

static void
hostile_fields_are_linear(void **state)
{
    static const char *const unit[] = {
        "(",
        "\"",
        "\\",
        ";",
        "=",
        "a",
        " ",
        "name",
        "name=",
        "name=\"",
        "name*",
        "name ",
        "name=a",
        ";name=a",
        "name=(",
        "name=\\",
        "name=\\\"",
        "(name=a)",
        "=?",
        "=?a?q?",
        "'",
        ";name*=a'",
        ";name*1=a",
        ";name*9=a;name*8=b",
        ";name=\"=?utf-8?q?a?=\"",
        "filename filename=",
        "boundary=a;",
        "\n ",
    };
    struct mime *m = *state;

    for (size_t i = 0; i < LENGTH(unit); i++) {
        begin_mixed(m);
        for (size_t octets = 0; octets < HOSTILE_OCTETS / 4; octets += 60000) {
            feed_text(m, "--b\nContent-Type: multipart/x; name=\\x");
            feed_many(m, unit[i], 60000);
            feed_text(m, "\n\n");
        }
    }
}

static int
new_mime(void **state)
{
    return (*state = mime_new()) == NULL ? -1 : 0;
}

static int
free_mime(void **state)
{
    mime_free(*state);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_a_field),
        cmocka_unit_test(names_of_a_message),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(wants_no_more_than_it_needs),
        cmocka_unit_test(borrows_nothing),
        cmocka_unit_test(nul_ends_a_name_for_some),
        cmocka_unit_test(a_thousand_names),
        cmocka_unit_test(long_names_keep_their_end),
        cmocka_unit_test(a_hundred_multiparts),
        cmocka_unit_test(a_hundred_messages),
        cmocka_unit_test(encoded_messages_in_one_another),
        cmocka_unit_test(boundaries_of_256_octets),
        cmocka_unit_test(a_header_of_64_kib),
        cmocka_unit_test(hostile_bodies_are_linear),
        cmocka_unit_test(hostile_fields_are_linear),
    };

    return cmocka_run_group_tests_name("policy/mime", tests, new_mime,
                                       free_mime);
}
