/* tests/unit/policy/test_mime.c - mirrors policy/mime.c, mime_part.c and
 * mime_transfer.c: the structure of messages
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
#include "tests/support/failing_alloc.h"

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

/* ---- the structure ---- */

#define MIXED "Content-Type: multipart/mixed; boundary=b\n\n"

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_a_message),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(wants_no_more_than_it_needs),
        cmocka_unit_test(borrows_nothing),
        cmocka_unit_test(nul_ends_a_name_for_some),
    };

    return cmocka_run_group_tests_name("policy/mime", tests, mime_case_new,
                                       mime_case_free);
}
