/* tests/unit/token/test_failures.c - every refusal that a token endpoint is known
 * to give (gmail.md 3.3): the state it leaves, when it is tried again, and
 * the sentence that an administrator reads.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "milter/oauth/oauth2.h"
#include "milter/token/schedule.h"

enum { S = 1000, MIN10 = 600 * S, H = 3600 * S, H6 = 6 * H };

#define R           OAUTH2_GRANT_REFRESH
#define J           OAUTH2_GRANT_JWT
#define C           OAUTH2_GRANT_CODE
#define ERROR(e, d) "{\"error\":\"" e "\",\"error_description\":\"" d "\"}"
#define DEAD                                                            \
    "invalid_grant: the refresh token is expired or revoked (password " \
    "changed, six months unused, app in Testing mode, or taken back): " \
    "gmroutectl login"
#define RAPT                                                                 \
    "invalid_grant: Google's session control wants a new login: gmroutectl " \
    "login, or exempt the app in the Admin console"
#define NOBODY                                                               \
    "invalid_grant: no such mailbox in the Workspace organisation: correct " \
    "the address, or make the mailbox"
#define PKCE                                                                \
    "invalid_grant: the code belongs to another login (PKCE): start again " \
    "and open the new address, no older one"
#define NO_CODE                                                           \
    "invalid_grant: the code is not good (any more): it works once, for " \
    "some minutes, with the login that asked for it: start again"
#define AGAIN "; gmroute-token tries again by itself"
#define REDIRECT                                                             \
    "redirect_uri_mismatch: the redirect address is not registered for the " \
    "client: want one for desktop apps, or register http://127.0.0.1"
#define OUR_BUG                                                              \
    "invalid_grant: the endpoint refuses the assertion: check key file and " \
    "token_url; if both are right, please report this"
#define CLIENT                                                             \
    "invalid_client: the OAuth client is unknown or its secret is wrong: " \
    "check client_id and client_secret_file"
#define DELEGATION                                                            \
    "unauthorized_client: no domain-wide delegation, or not yet (up to 24 "   \
    "hours): in the Admin console give the service account's numeric client " \
    "id the scope https://mail.google.com/"

static const struct row {
    enum oauth2_grant grant;
    unsigned http;
    const char *body;
    enum token_state state;
    uint64_t first_ms, hundredth_ms; /* pause after so many in a row */
    const char *why;
} rows[] = {
    {R, 400, ERROR("invalid_grant", "Token has been expired or revoked."),
     TOKEN_NEEDS_LOGIN, H6, H6, DEAD},
    {R, 400, ERROR("invalid_grant", "Bad Request"), TOKEN_NEEDS_LOGIN, H6, H6,
     DEAD},
    {R, 400,
     "{\"error\":\"invalid_grant\",\"error_description\":\"reauth related "
     "error (invalid_rapt)\",\"error_subtype\":\"invalid_rapt\"}",
     TOKEN_NEEDS_LOGIN, H6, H6, RAPT},
    {R, 400,
     "{\"error\":\"invalid_grant\",\"error_description\":\"reauth related "
     "error\",\"error_subtype\":\"rapt_required\"}",
     TOKEN_NEEDS_LOGIN, H6, H6, RAPT},
    {J, 400, ERROR("invalid_grant", "Invalid JWT Signature."),
     TOKEN_CLIENT_BROKEN, MIN10, MIN10,
     "invalid_grant: the service account's key is wrong, deleted or disabled: "
     "make a new key file"},
    {J, 400,
     ERROR("invalid_grant",
           "Invalid JWT: Token must be a short-lived token (60 minutes) and in "
           "a reasonable timeframe. Check your iat and exp values in the JWT "
           "claim."),
     TOKEN_RETRYING, S, 300 * S,
     "invalid_grant: the clock of this host is off: check time "
     "synchronisation (timedatectl)"},
    {J, 400, ERROR("invalid_grant", "Invalid grant: account not found"),
     TOKEN_CLIENT_BROKEN, MIN10, MIN10,
     "invalid_grant: the service account does not exist (any more): check the "
     "key file"},
    {J, 400, ERROR("invalid_grant", "Not a valid email"), TOKEN_NO_MAILBOX, H6,
     H6, NOBODY},
    {J, 400, ERROR("invalid_grant", "Invalid email or User ID"),
     TOKEN_NO_MAILBOX, H6, H6, NOBODY},
    {J, 400, ERROR("invalid_grant", "Invalid JWT: Failed audience check."),
     TOKEN_CONFIG, H, H, OUR_BUG},
    {J, 400, ERROR("invalid_grant", "Invalid JWT: iat field is not set."),
     TOKEN_CONFIG, H, H, OUR_BUG},
    {J, 400, ERROR("invalid_grant", "Invalid JWT: exp field is not set."),
     TOKEN_CONFIG, H, H, OUR_BUG},
    {J, 400, ERROR("invalid_request", "Bad Request"), TOKEN_CONFIG, H, H,
     "invalid_request: the request is refused: check token_url; if it is "
     "right, please report this"},
    {J, 400,
     ERROR("invalid_scope",
           "Invalid OAuth scope or ID token audience provided."),
     TOKEN_CONFIG, H, H,
     "invalid_scope: the scope is refused: check it in the configuration and "
     "in the Cloud console"},
    {R, 400, ERROR("unsupported_grant_type", "Invalid grant_type: x"),
     TOKEN_CONFIG, H, H,
     "unsupported_grant_type: the endpoint does not know this grant: check "
     "token_url"},
    {R, 400, ERROR("redirect_uri_mismatch", "Bad Request"), TOKEN_CONFIG, H, H,
     REDIRECT},
    {R, 401, ERROR("invalid_client", "The OAuth client was not found."),
     TOKEN_CLIENT_BROKEN, MIN10, MIN10, CLIENT},
    {R, 401, ERROR("invalid_client", "Unauthorized"), TOKEN_CLIENT_BROKEN,
     MIN10, MIN10, CLIENT},
    {R, 401, ERROR("deleted_client", "The OAuth client was deleted."),
     TOKEN_CLIENT_BROKEN, MIN10, MIN10,
     "deleted_client: the OAuth client was deleted in the Cloud console: "
     "restore it there (within 30 days), or make another and log in again"},
    {J, 401, ERROR("disabled_client", "The OAuth client was disabled."),
     TOKEN_CLIENT_BROKEN, MIN10, MIN10,
     "disabled_client: the OAuth client was disabled: enable it in the Cloud "
     "console"},
    {J, 401,
     ERROR("unauthorized_client",
           "Client is unauthorized to retrieve access tokens using this "
           "method, or client not authorized for any of the scopes "
           "requested."),
     TOKEN_CONFIG, H, H6, DELEGATION},
    {J, 401,
     ERROR("unauthorized_client", "Unauthorized client or scope in request."),
     TOKEN_CONFIG, H, H6, DELEGATION},
    {R, 401, ERROR("unauthorized_client", "Unauthorized"), TOKEN_CONFIG, H, H6,
     "unauthorized_client: the OAuth client may not renew this token, which "
     "was "
     "given to another client or for other scopes: check client_id, then "
     "gmroutectl login"},
    {R, 403, ERROR("access_denied", "Access denied."), TOKEN_CONFIG, H, H,
     "access_denied: an administrator's policy denies access: see Admin "
     "console, API controls"},
    {R, 400, ERROR("admin_policy_enforced", "restricted"), TOKEN_CONFIG, H, H,
     "admin_policy_enforced: an administrator's policy blocks the app: see "
     "Admin console, API controls"},
    {R, 403, ERROR("org_internal", "restricted"), TOKEN_CONFIG, H, H,
     "org_internal: the OAuth client is limited to its own organisation, which "
     "this account is not in: use a client of the account's, or make it "
     "External"},
    {R, 500, ERROR("internal_failure", "Backend Error"), TOKEN_RETRYING, S,
     300 * S, "the token endpoint answered 500 internal_failure" AGAIN},
    {J, 400, ERROR("internal_failure", "Backend Error"), TOKEN_RETRYING, S,
     300 * S, "internal_failure: the endpoint failed" AGAIN},
    {R, 503, "", TOKEN_RETRYING, S, 300 * S,
     "the token endpoint answered 503 without JSON" AGAIN},
    {R, 429, ERROR("rate_limit_exceeded", "Rate Limit Exceeded"),
     TOKEN_RETRYING, S, 300 * S,
     "the token endpoint answered 429 rate_limit_exceeded" AGAIN},
    {R, 403, "<html><title>Sorry...</title></html>", TOKEN_RETRYING, S, 300 * S,
     "the token endpoint answered 403 without JSON" AGAIN},
    {R, 403, ERROR("rate_limited", "x"), TOKEN_RETRYING, S, 300 * S,
     "the token endpoint answered 403 rate_limited" AGAIN},
    {J, 200, "{\"id_token\":\"e.y.J\"}", TOKEN_CONFIG, H, H,
     "the endpoint gave no access token: check the scope in the configuration "
     "and in the Cloud console"},
    {R, 401,
     ERROR("invalid_client",
           "AADSTS7000222: The provided client secret keys for app 'x' are "
           "expired."),
     TOKEN_CLIENT_BROKEN, MIN10, MIN10,
     "invalid_client: the OAuth client's secret has expired: make a new one in "
     "Entra and put it into client_secret_file"},
    {R, 400, ERROR("brand_new", "x"), TOKEN_CONFIG, H, H,
     "the token endpoint answered 400 brand_new, which is not known: look it "
     "up in the provider's help, and please report it"},

    /* What a login's code is refused with; nothing is tried again. */
    {C, 400, ERROR("invalid_grant", "Bad Request"), TOKEN_NEEDS_LOGIN, H6, H6,
     NO_CODE},
    {C, 400, ERROR("invalid_grant", "Malformed auth code."), TOKEN_NEEDS_LOGIN,
     H6, H6,
     "invalid_grant: that was not the whole code: start again, and paste the "
     "whole address"},
    {C, 400, ERROR("invalid_grant", "Invalid code verifier."),
     TOKEN_NEEDS_LOGIN, H6, H6, PKCE},
    {C, 400, ERROR("invalid_grant", "Missing code verifier."),
     TOKEN_NEEDS_LOGIN, H6, H6, PKCE},
    {C, 400,
     ERROR("invalid_grant",
           "AADSTS501481: The Code_Verifier does not match the code_challenge "
           "supplied in the authorization request."),
     TOKEN_NEEDS_LOGIN, H6, H6, PKCE},
    {C, 400,
     ERROR("invalid_grant",
           "AADSTS54005: OAuth2 Authorization code was already redeemed, "
           "please retry with a new valid code or use an existing refresh "
           "token."),
     TOKEN_NEEDS_LOGIN, H6, H6,
     "invalid_grant: the code was used before, and works once: start again"},
    {C, 400,
     ERROR("invalid_grant",
           "AADSTS70008: The provided authorization code or refresh token has "
           "expired due to inactivity."),
     TOKEN_NEEDS_LOGIN, H6, H6,
     "invalid_grant: the code is good for some minutes, which are over: start "
     "again"},
    {C, 400, ERROR("redirect_uri_mismatch", "Bad Request"), TOKEN_CONFIG, H, H,
     REDIRECT},
    {C, 401, ERROR("invalid_client", "The provided client secret is invalid."),
     TOKEN_CLIENT_BROKEN, MIN10, MIN10, CLIENT},
    {C, 400, ERROR("unauthorized_client", "Unauthorized"), TOKEN_CONFIG, H, H,
     "unauthorized_client: the OAuth client may not log in this way: want one "
     "for desktop apps"},
    {C, 503, "", TOKEN_RETRYING, S, 300 * S,
     "the token endpoint answered 503 without JSON; start again in a while"},
};

static uint64_t
pause_ms(enum oauth2_class class, unsigned failures)
{
    uint64_t least = UINT64_MAX, most = 0;

    for (uint32_t n = 0; n < 100000; n++) {
        uint64_t ms = schedule_pause_ms(&(struct schedule_facts){
            .class = class, .failures = failures, .random = n * 2654435761u});

        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    return (least + most) / 2;
}

static void
each_has_state_schedule_and_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        struct oauth2_answer a;

        print_message("  %u %s\n", t->http, t->body);
        oauth2_parse(t->grant, t->http, t->body, strlen(t->body), &a);
        assert_string_equal(a.why, t->why);
        assert_null(a.access_token);
        assert_int_equal(schedule_state(a.class), t->state);
        assert_in_range(pause_ms(a.class, 1), t->first_ms - t->first_ms / 50,
                        t->first_ms + t->first_ms / 50);
        assert_in_range(pause_ms(a.class, 100),
                        t->hundredth_ms - t->hundredth_ms / 50,
                        t->hundredth_ms + t->hundredth_ms / 50);
        /* All of it is shown by gmroutectl tokens. */
        assert_true(strlen(a.why) < sizeof((struct token_status *)NULL)->error);
        oauth2_answer_free(&a);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_state_schedule_and_sentence),
    };

    return cmocka_run_group_tests_name("token/failures", tests, NULL, NULL);
}
