/* tests/unit/oauth/test_oauth2.c - mirrors milter/oauth/oauth2.c and
 * oauth2_answer.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "milter/oauth/oauth2.h"

/* ---- answers: every row of gmail.md 3.3, and what is odder ---- */

static const struct answer_row {
    const char *name;
    enum oauth2_grant grant;
    unsigned status;
    const char *body;
    enum oauth2_class want;
    const char *why; /* must be in the sentence; NULL = any */
} answers[] = {
#define R           OAUTH2_GRANT_REFRESH
#define J           OAUTH2_GRANT_JWT
#define ERROR(e, d) "{\"error\":\"" e "\",\"error_description\":\"" d "\"}"
    {"a token", R, 200,
     "{\"access_token\":\"ya29.x\",\"expires_in\":3599,"
     "\"token_type\":\"Bearer\"}",
     OAUTH2_OK, NULL},
    {"expired or revoked", R, 400,
     ERROR("invalid_grant", "Token has been expired or revoked."),
     OAUTH2_NEEDS_LOGIN, "gmroutectl login"},
    {"malformed refresh token", R, 400, ERROR("invalid_grant", "Bad Request"),
     OAUTH2_NEEDS_LOGIN, NULL},
    {"session control", R, 400,
     "{\"error\":\"invalid_grant\",\"error_description\":\"reauth related "
     "error (invalid_rapt)\",\"error_subtype\":\"invalid_rapt\"}",
     OAUTH2_NEEDS_LOGIN, "session control"},
    {"session control by subtype alone", R, 400,
     "{\"error\":\"invalid_grant\",\"error_subtype\":\"rapt_required\"}",
     OAUTH2_NEEDS_LOGIN, "session control"},
    {"key deleted", J, 400, ERROR("invalid_grant", "Invalid JWT Signature."),
     OAUTH2_CLIENT, "key"},
    {"clock", J, 400,
     ERROR("invalid_grant",
           "Invalid JWT: Token must be a short-lived token (60 minutes) and in "
           "a reasonable timeframe. Check your iat and exp values."),
     OAUTH2_CLOCK, "clock"},
    {"service account gone", J, 400,
     ERROR("invalid_grant", "Invalid grant: account not found"), OAUTH2_CLIENT,
     "service account"},
    {"no mailbox", J, 400, ERROR("invalid_grant", "Not a valid email"),
     OAUTH2_NO_MAILBOX, "no such mailbox"},
    {"no mailbox, newer", J, 400,
     ERROR("invalid_grant", "Invalid email or User ID"), OAUTH2_NO_MAILBOX,
     "no such mailbox"},
    {"audience", J, 400,
     ERROR("invalid_grant", "Invalid JWT: Failed audience check."),
     OAUTH2_CONFIG, "report"},
    {"iat not set", J, 400,
     ERROR("invalid_grant", "Invalid JWT: iat must be set, iat not set"),
     OAUTH2_CONFIG, NULL},
    {"undecodable assertion", J, 400, ERROR("invalid_request", "Bad Request"),
     OAUTH2_CONFIG, NULL},
    {"scope", J, 400,
     ERROR("invalid_scope",
           "Invalid OAuth scope or ID token audience provided."),
     OAUTH2_CONFIG, "scope"},
    {"grant type", R, 400, ERROR("unsupported_grant_type", "x"), OAUTH2_CONFIG,
     "token_url"},
    {"redirect", R, 400, ERROR("redirect_uri_mismatch", "x"), OAUTH2_CONFIG,
     NULL},
    {"client not found", R, 401,
     ERROR("invalid_client", "The OAuth client was not found."), OAUTH2_CLIENT,
     "client_secret_file"},
    {"wrong client secret", R, 401, ERROR("invalid_client", "Unauthorized"),
     OAUTH2_CLIENT, NULL},
    {"client deleted", R, 401, ERROR("deleted_client", "x"), OAUTH2_CLIENT,
     "30 days"},
    {"client disabled", R, 400,
     ERROR("disabled_client", "The OAuth client was disabled."), OAUTH2_CLIENT,
     "disabled"},
    {"delegation", J, 401,
     ERROR("unauthorized_client",
           "Client is unauthorized to retrieve access tokens using this "
           "method, or client not authorized for any of the scopes "
           "requested."),
     OAUTH2_UNAUTHORIZED, "delegation"},
    {"denied", R, 403, ERROR("access_denied", "x"), OAUTH2_CONFIG,
     "administrator"},
    {"policy", R, 400, ERROR("admin_policy_enforced", "x"), OAUTH2_CONFIG,
     "administrator"},
    {"internal app", R, 403, ERROR("org_internal", "x"), OAUTH2_CONFIG,
     "organisation"},
    {"backend", R, 500, ERROR("internal_failure", "Backend Error"),
     OAUTH2_TRANSIENT, NULL},
    {"backend as 400", R, 400, ERROR("internal_failure", "Backend Error"),
     OAUTH2_TRANSIENT, NULL},
    {"5xx whatever it says", R, 503, ERROR("invalid_grant", "x"),
     OAUTH2_TRANSIENT, "503"},
    {"too many", R, 429, ERROR("invalid_grant", "x"), OAUTH2_TRANSIENT, "429"},
    {"403 of a rate limit", R, 403, ERROR("rate_limit_exceeded", "x"),
     OAUTH2_TRANSIENT, NULL},
    {"403 with a page", R, 403, "<html>Sorry...</html>", OAUTH2_TRANSIENT,
     "without JSON"},
    {"401 with nothing", R, 401, "", OAUTH2_TRANSIENT, "401"},
    {"half of the JSON", R, 400, "{\"error\":\"invalid_gra", OAUTH2_TRANSIENT,
     NULL},
    {"an array", R, 400, "[1]", OAUTH2_TRANSIENT, NULL},
    {"error is no string", R, 400, "{\"error\":7}", OAUTH2_TRANSIENT, NULL},
    {"unknown scope: 200 without a token", J, 200, "{\"id_token\":\"e.y.J\"}",
     OAUTH2_CONFIG, "scope"},
    {"200 with an error", R, 200, ERROR("invalid_grant", "x"),
     OAUTH2_NEEDS_LOGIN, NULL},
    {"unknown error", R, 400, ERROR("no_cheese", "secret-in-description"),
     OAUTH2_CONFIG, "no_cheese"},
    {"an error that is no word", R, 400, ERROR("a b\\u0001\\u00e4", "x"),
     OAUTH2_CONFIG, "a?b???"},
    {"an empty token", R, 200, "{\"access_token\":\"\"}", OAUTH2_TRANSIENT,
     NULL},
    {"a token with a line end", R, 200, "{\"access_token\":\"a\\r\\nb\"}",
     OAUTH2_TRANSIENT, NULL},
    {"Microsoft wants a login", R, 400, ERROR("interaction_required", "x"),
     OAUTH2_NEEDS_LOGIN, NULL},
};

static void
every_answer_has_its_class(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct answer_row *t = &answers[i];
        struct oauth2_answer a;

        print_message("  %s\n", t->name);
        oauth2_parse(t->grant, t->status, t->body, strlen(t->body), &a);
        assert_string_equal(oauth2_class_name(a.class),
                            oauth2_class_name(t->want));
        assert_int_equal(a.access_token != NULL, t->want == OAUTH2_OK);
        assert_int_equal(a.why[0] != 0, t->want != OAUTH2_OK);
        if (t->why != NULL)
            assert_non_null(strstr(a.why, t->why));
        assert_null(strstr(a.why, "secret-in-description"));
        oauth2_answer_free(&a);
    }
}

/* Whatever part of an answer arrives: never a token, never a lasting state
 * for want of its end. */
static void
every_prefix_passes(void **state)
{
    static const char whole[] =
        ERROR("invalid_grant", "Token has been expired or revoked.");
    struct oauth2_answer a;

    (void)state;
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        oauth2_parse(OAUTH2_GRANT_REFRESH, 400, whole, n, &a);
        assert_int_equal(a.class, OAUTH2_TRANSIENT);
        oauth2_answer_free(&a);
    }
}

static void
lives(void **state)
{
    static const struct {
        const char *expires;
        int64_t want_s;
    } rows[] = {
        {"3599", 3599},        {"\"120\"", 120}, {"0", 3600},
        {"-5", 3600},          {"null", 3600},   {"\"soon\"", 3600},
        {"1e300", 30 * 86400}, {"0.5", 3600},    {"[]", 3600},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[120];
        struct oauth2_answer a;

        snprintf(body, sizeof body,
                 "{\"access_token\":\"x\",\"expires_in\":%s}", rows[i].expires);
        oauth2_parse(OAUTH2_GRANT_REFRESH, 200, body, strlen(body), &a);
        assert_int_equal(a.class, OAUTH2_OK);
        assert_int_equal(a.expires_in_s, rows[i].want_s);
        oauth2_answer_free(&a);
    }
}

static void
rotated_tokens(void **state)
{
    static const char good[] =
        "{\"access_token\":\"x\",\"refresh_token\":\"1//new\"}";
    static const char bad[] =
        "{\"access_token\":\"x\",\"refresh_token\":\"1//new\\n\"}";
    struct oauth2_answer a;

    (void)state;
    oauth2_parse(OAUTH2_GRANT_REFRESH, 200, good, sizeof good - 1, &a);
    assert_string_equal(a.refresh_token, "1//new");
    oauth2_answer_free(&a);
    assert_null(a.refresh_token);
    oauth2_parse(OAUTH2_GRANT_REFRESH, 200, bad, sizeof bad - 1, &a);
    assert_int_equal(a.class, OAUTH2_OK);
    assert_null(a.refresh_token);
    oauth2_answer_free(&a);
}

/* ---- requests ---- */

/* As a string, for strstr. */
static const char *
text_of(struct buf *form)
{
    assert_true(buf_add(form, "", 1));
    form->len--;
    assert_int_equal(strlen(form->at), form->len);
    return form->at;
}

static void
refresh_form(void **state)
{
    struct buf form;
    const char *text;

    (void)state;
    buf_init(&form, 4096);
    assert_true(oauth2_refresh_form(&form, "id 1", "s&=+%", "1//r"));
    text = text_of(&form);
    assert_non_null(strstr(text, "grant_type=refresh_token"));
    assert_non_null(strstr(text, "client_id=id%201"));
    assert_non_null(strstr(text, "client_secret=s%26%3D%2B%25"));
    assert_non_null(strstr(text, "refresh_token=1%2F%2Fr"));
    buf_wipe_free(&form);
    buf_init(&form, 4096);
    assert_true(oauth2_refresh_form(&form, "id", NULL, "r"));
    assert_null(strstr(text_of(&form), "client_secret"));
    buf_wipe_free(&form);
    buf_init(&form, 16);
    assert_false(oauth2_refresh_form(&form, "id", NULL, "r"));
    buf_wipe_free(&form);
}

static EVP_PKEY *
make_key(char *pem, size_t size)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    BIO *bio = BIO_new(BIO_s_mem());
    int n;

    assert_non_null(key);
    assert_true(
        PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
    n = BIO_read(bio, pem, (int)size - 1);
    assert_true(n > 0);
    pem[n] = 0;
    BIO_free(bio);
    return key;
}

/* base64url without padding; returns octets, 0 = not that. */
static size_t
decode(const char *at, size_t len, unsigned char *ret)
{
    char text[2048];
    int n;

    assert_true(len < sizeof text - 4);
    memcpy(text, at, len);
    for (size_t i = 0; i < len; i++) {
        assert_null(strchr("+/=", text[i]));
        text[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    }
    while (len % 4 != 0)
        text[len++] = '=';
    n = EVP_DecodeBlock(ret, (const unsigned char *)text, (int)len);
    while (len > 0 && text[--len] == '=')
        n--;
    assert_true(n > 0);
    return (size_t)n;
}

static void
jwt_form_is_signed(void **state)
{
    char pem[4096], err[200];
    EVP_PKEY *key = make_key(pem, sizeof pem);
    struct service_key k = {(char *)"sa@p.iam.gserviceaccount.com", pem,
                            (char *)"kid1", NULL};
    unsigned char claims[2048], signature[512];
    const char *jwt, *dot, *dot2;
    struct buf form;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n;

    (void)state;
    buf_init(&form, 32768);
    assert_true(oauth2_jwt_form(&form, &k, "ann@example.com", "https://s/",
                                "https://aud/token", 1700000000, err,
                                sizeof err));
    jwt = text_of(&form);
    assert_non_null(strstr(jwt, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3A"
                                "grant-type%3Ajwt-bearer"));
    jwt = strstr(jwt, "assertion=");
    assert_non_null(jwt);
    jwt += strlen("assertion=");
    dot = strchr(jwt, '.');
    assert_non_null(dot);
    dot2 = strchr(dot + 1, '.');
    assert_non_null(dot2);
    n = decode(dot + 1, (size_t)(dot2 - dot - 1), claims);
    claims[n] = 0;
    assert_non_null(strstr((char *)claims, "\"sub\":\"ann@example.com\""));
    assert_non_null(strstr((char *)claims, "\"iat\":1699999970"));
    assert_non_null(strstr((char *)claims, "\"exp\":1700003300"));
    n = decode(dot2 + 1, strlen(dot2 + 1), signature);
    assert_true(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key));
    assert_int_equal(
        EVP_DigestVerify(ctx, signature, n, (const unsigned char *)jwt,
                         (size_t)(dot2 - jwt)),
        1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    buf_wipe_free(&form);
}

static void
key_files(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"type\":\"service_account\"}",
        ("{\"type\":\"service_account\",\"client_email\":7,"
         "\"private_key\":\"PLANTED\"}"),
    };
    struct service_key k;
    char err[200];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err[0] = 0;
        memset(&k, 0, sizeof k);
        assert_false(
            service_key_parse(bad[i], strlen(bad[i]), &k, err, sizeof err));
        assert_true(err[0] != 0);
        assert_null(strstr(err, "PLANTED"));
        service_key_free(&k);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_has_its_class),
        cmocka_unit_test(every_prefix_passes),
        cmocka_unit_test(lives),
        cmocka_unit_test(rotated_tokens),
        cmocka_unit_test(refresh_form),
        cmocka_unit_test(jwt_form_is_signed),
        cmocka_unit_test(key_files),
    };

    return cmocka_run_group_tests_name("token/oauth2", tests, NULL, NULL);
}
