/* tests/unit/policy/test_mime_bounds.c - mirrors policy/mime.c, mime_part.c,
 * mime_field.c and mime_transfer.c: what is too much of something
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
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

    return cmocka_run_group_tests_name("policy/mime bounds", tests,
                                       mime_case_new, mime_case_free);
}
