/* tests/unit/policy/test_mime_name.c - mirrors policy/mime_field.c and
 * mime_name.c: the names in one field
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

#include "mime_case.h"

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_a_field),
    };

    return cmocka_run_group_tests_name("policy/mime_name", tests, mime_case_new,
                                       mime_case_free);
}
