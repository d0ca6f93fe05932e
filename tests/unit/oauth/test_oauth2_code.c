/* tests/unit/oauth/test_oauth2_code.c - mirrors milter/oauth/oauth2_code.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/oauth2_code.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "milter/oauth/oauth2.h"

/* RFC 7636, appendix A and B. */
static void
challenge_of_the_standard(void **state)
{
    static const unsigned char octets[OAUTH2_RANDOM] = {
        116, 24,  223, 180, 151, 153, 224, 37,  79,  250, 96,
        125, 216, 173, 187, 186, 22,  212, 37,  77,  105, 214,
        191, 240, 91,  88,  5,   88,  83,  132, 141, 121};
    char verifier[OAUTH2_VERIFIER + 1], challenge[OAUTH2_VERIFIER + 1];

    (void)state;
    assert_true(oauth2_random_text(octets, verifier));
    assert_string_equal(verifier,
                        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_true(oauth2_challenge(verifier, challenge));
    assert_string_equal(challenge,
                        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

static void
assert_text(const struct buf *b, const char *want)
{
    assert_int_equal(b->len, strlen(want));
    assert_memory_equal(b->at, want, b->len);
}

static void
url_and_form(void **state)
{
    struct oauth2_login l = {
        .auth_url = "https://accounts.example/auth",
        .client_id = "123.apps",
        .scope = "https://mail.google.com/",
        .redirect_uri = "http://127.0.0.1:8085/",
        .state = "st",
        .challenge = "ch",
        .login_hint = "a+b@example.com",
    };
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    assert_true(oauth2_login_url(&b, &l));
    assert_text(&b, "https://accounts.example/auth?response_type=code"
                    "&client_id=123.apps"
                    "&redirect_uri=http%3A%2F%2F127.0.0.1%3A8085%2F"
                    "&scope=https%3A%2F%2Fmail.google.com%2F&state=st"
                    "&code_challenge=ch&code_challenge_method=S256"
                    "&access_type=offline&prompt=consent"
                    "&login_hint=a%2Bb%40example.com");
    buf_clear(&b);
    l.auth_url = "https://accounts.example/auth?realm=x";
    assert_true(oauth2_login_url(&b, &l));
    assert_memory_equal(b.at, "https://accounts.example/auth?realm=x&response",
                        46);
    buf_clear(&b);
    assert_true(oauth2_code_form(&b, "id", "sec", "4/0A", "ver", "http://x/"));
    assert_text(&b, "client_id=id&client_secret=sec&code=4%2F0A"
                    "&code_verifier=ver&redirect_uri=http%3A%2F%2Fx%2F"
                    "&grant_type=authorization_code");
    buf_clear(&b);
    assert_true(oauth2_code_form(&b, "id", NULL, "c", "ver", "http://x/"));
    assert_null(memmem(b.at, b.len, "secret", 6));
    buf_free(&b);
    buf_init(&b, 10);
    assert_false(oauth2_login_url(&b, &l));
    buf_free(&b);
}

static void
scopes(void **state)
{
    static const struct {
        const char *granted, *asked;
        bool want;
    } rows[] = {
        {"", "https://mail.google.com/", true},
        {"  ", "https://mail.google.com/", true},
        {"https://mail.google.com/", "https://mail.google.com/", true},
        {"email https://mail.google.com/ openid", "https://mail.google.com/",
         true},
        {"email openid", "https://mail.google.com/", false},
        {"https://mail.google.com/x", "https://mail.google.com/", false},
        {"https://outlook.office.com/SMTP.Send",
         "https://outlook.office.com/SMTP.Send offline_access", true},
        {"a", "a b", false},
        {"b a", "a  b", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(oauth2_scope_covers(rows[i].granted, rows[i].asked),
                         rows[i].want);
}

static void
answers_to_a_code(void **state)
{
    static const char gone[] = "{\"error\":\"invalid_grant\"}";
    static const char uri[] = "{\"error\":\"redirect_uri_mismatch\"}";
    static const char client[] = "{\"error\":\"invalid_client\"}";
    static const char good[] =
        "{\"access_token\":\"ya29.x\",\"refresh_token\":\"1//r\","
        "\"scope\":\"a b\",\"expires_in\":10}";
    struct oauth2_answer a;

    (void)state;
    oauth2_parse(OAUTH2_GRANT_CODE, 400, gone, sizeof gone - 1, &a);
    assert_non_null(strstr(a.why, "works once"));
    oauth2_parse(OAUTH2_GRANT_CODE, 400, uri, sizeof uri - 1, &a);
    assert_int_equal(a.class, OAUTH2_CONFIG);
    assert_non_null(strstr(a.why, "desktop"));
    oauth2_parse(OAUTH2_GRANT_CODE, 401, client, sizeof client - 1, &a);
    assert_int_equal(a.class, OAUTH2_CLIENT);
    oauth2_parse(OAUTH2_GRANT_CODE, 200, good, sizeof good - 1, &a);
    assert_int_equal(a.class, OAUTH2_OK);
    assert_string_equal(a.refresh_token, "1//r");
    assert_string_equal(a.scope, "a b");
    oauth2_answer_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(challenge_of_the_standard),
        cmocka_unit_test(url_and_form),
        cmocka_unit_test(scopes),
        cmocka_unit_test(answers_to_a_code),
    };

    return cmocka_run_group_tests_name("token/oauth2_code", tests, NULL, NULL);
}
