/* tests/unit/base/test_sasl.c - what a client says to log in.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/sasl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

struct row {
    const char *name;
    enum sasl_mechanism mechanism;
    const char *user, *secret;
    const char *want; /* before base64, ^A as '^', NUL as '0'; NULL = refused */
};

static const struct row rows[] = {
    {"xoauth2", SASL_XOAUTH2, "a@example.com", "ya29.x",
     "user=a@example.com^auth=Bearer ya29.x^^"},
    {"plain", SASL_PLAIN, "a@example.com", "abcdabcdabcdabcd",
     "0a@example.com0abcdabcdabcdabcd"},
    {"bearer", SASL_OAUTHBEARER, "a@example.com", "t",
     "n,a=a@example.com,^host=smtp.gmail.com^port=587^auth=Bearer t^^"},
    {"bearer escapes the name", SASL_OAUTHBEARER, "a,b=c@x", "t",
     "n,a=a=2Cb=3Dc@x,^host=smtp.gmail.com^port=587^auth=Bearer t^^"},
    {"empty secret", SASL_XOAUTH2, "a@x", "", NULL},
    {"empty user", SASL_PLAIN, "", "pw", NULL},
    {"^A in the token", SASL_XOAUTH2, "a@x", "t\001auth=Bearer u", NULL},
    {"line end in the token", SASL_XOAUTH2, "a@x", "t\r\nMAIL FROM:<>", NULL},
    {"^A in the user", SASL_XOAUTH2, "a\001b@x", "t", NULL},
    {"control in the password", SASL_PLAIN, "a@x", "p\tw", NULL},
};

static void
decode(struct slice text, char *ret, size_t size)
{
    size_t pad = 0;
    int n;

    assert_true(text.len % 4 == 0 && text.len / 4 * 3 < size);
    n = EVP_DecodeBlock((unsigned char *)ret, (const unsigned char *)text.at,
                        (int)text.len);
    assert_true(n >= 0);
    while (pad < text.len && text.at[text.len - 1 - pad] == '=')
        pad++;
    ret[(size_t)n - pad] = '\0';
    for (size_t i = 0; i + pad < (size_t)n; i++)
        if (ret[i] == '\001' || ret[i] == '\0')
            ret[i] = ret[i] == '\001' ? '^' : '0';
}

static void
test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        struct sasl_login l = {r->user, slice_of(r->secret), "smtp.gmail.com",
                               587};
        struct buf b;
        char got[1000];
        bool ok;

        buf_init(&b, 20000);
        buf_add_text(&b, "AUTH ");
        ok = sasl_response(r->mechanism, &l, &b);
        if (ok != (r->want != NULL))
            fail_msg("%s: %d", r->name, ok);
        if (ok) {
            decode(slice_from(buf_slice(&b), 5), got, sizeof got);
            if (strcmp(got, r->want) != 0)
                fail_msg("%s: %s", r->name, got);
        } else {
            assert_int_equal(b.len, 5);
        }
        buf_wipe_free(&b);
    }
}

/* Google's own example. */
static void
test_google_example(void **state)
{
    struct sasl_login l = {"someuser@example.com",
                           SLICE_LIT("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY"
                                     "29tCg"),
                           "smtp.gmail.com", 465};
    struct buf b;

    (void)state;
    buf_init(&b, 20000);
    assert_true(sasl_response(SASL_XOAUTH2, &l, &b));
    buf_add(&b, "", 1);
    assert_string_equal(b.at,
                        "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5"
                        "YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZ"
                        "Mjl0Q2cBAQ==");
    buf_wipe_free(&b);
}

static void
test_long_token(void **state)
{
    char token[SASL_RESPONSE_MAX];
    struct sasl_login l = {"a@x", {token, 4096}, "h", 25};
    struct buf b;

    (void)state;
    memset(token, 't', sizeof token);
    buf_init(&b, 20000);
    assert_true(sasl_response(SASL_XOAUTH2, &l, &b)); /* as long as they get */
    assert_true(b.len > 5000 && b.len <= SASL_RESPONSE_MAX);
    buf_clear(&b);
    l.secret.len = sizeof token; /* base64 makes it too long */
    assert_false(sasl_response(SASL_XOAUTH2, &l, &b));
    assert_int_equal(b.len, 0);
    buf_wipe_free(&b);
    buf_init(&b, 100); /* no room where it should go */
    l.secret.len = 4096;
    assert_false(sasl_response(SASL_XOAUTH2, &l, &b));
    buf_wipe_free(&b);
}

static void
test_failed_answers(void **state)
{
    (void)state;
    assert_string_equal(sasl_failed_answer(SASL_XOAUTH2), "");
    assert_string_equal(sasl_failed_answer(SASL_OAUTHBEARER), "AQ==");
    assert_string_equal(sasl_failed_answer(SASL_PLAIN), "*");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_google_example),
        cmocka_unit_test(test_long_token),
        cmocka_unit_test(test_failed_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
