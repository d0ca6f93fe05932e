/* milter/oauth/oauth2_answer.c - see oauth2.h: what a token endpoint's answers
 * mean.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/oauth2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "milter/state/status.h"
#include "milter/oauth/oauth2_private.h"
#include "milter/oauth/wipe.h"

enum {
    EXPIRES_DEFAULT_S = 3600, /* RFC 6749 5.1: expires_in is only advised */
    EXPIRES_MAX_S = 30 * 86400,
    SHOWN_MAX = 40, /* of an error code that is not known */
};

const char *
oauth2_class_name(enum oauth2_class c)
{
    static const char *const names[OAUTH2_CLASSES] = {
        "ok",          "transient",    "needs_login", "client_refused",
        "no_mailbox",  "unauthorized", "clock",       "configuration",
        "secret_file",
    };

    return c < OAUTH2_CLASSES ? names[c] : "?";
}

/* ---- errors ---- */

enum {
    REFRESH = 1 << OAUTH2_GRANT_REFRESH,
    JWT = 1 << OAUTH2_GRANT_JWT,
    CODE = 1 << OAUTH2_GRANT_CODE,
};
enum { BOTH = REFRESH | JWT };

#define LOGIN "gmroutectl login"

/* The first that fits.  RFC 6749 5.2, what Google's pages name beyond it, and
 * what Microsoft's endpoint says for the same. */
static const struct known {
    unsigned grants;
    const char *error, *part; /* part of description or subtype; NULL = any */
    enum oauth2_class class;
    const char *why;
} known[] = {
    {BOTH, "invalid_grant", "invalid_rapt", OAUTH2_NEEDS_LOGIN,
     "Google's session control wants a new login: " LOGIN ", or exempt the app "
     "in the Admin console"},
    {BOTH, "invalid_grant", "rapt_required", OAUTH2_NEEDS_LOGIN,
     "Google's session control wants a new login: " LOGIN ", or exempt the app "
     "in the Admin console"},
    {JWT, "invalid_grant", "Invalid JWT Signature", OAUTH2_CLIENT,
     "the service account's key is wrong, deleted or disabled: make a new key "
     "file"},
    {JWT, "invalid_grant", "short-lived token", OAUTH2_CLOCK,
     "the clock of this host is off: check time synchronisation (timedatectl)"},
    {JWT, "invalid_grant", "account not found", OAUTH2_CLIENT,
     "the service account does not exist (any more): check the key file"},
    {JWT, "invalid_grant", "Not a valid email", OAUTH2_NO_MAILBOX,
     "no such mailbox in the Workspace organisation: correct the address, or "
     "make the mailbox"},
    {JWT, "invalid_grant", "Invalid email or User ID", OAUTH2_NO_MAILBOX,
     "no such mailbox in the Workspace organisation: correct the address, or "
     "make the mailbox"},
    {JWT, "invalid_grant", NULL, OAUTH2_CONFIG,
     "the endpoint refuses the assertion: check key file and token_url; if "
     "both are right, please report this"},
    {CODE, "invalid_grant", "verifier", OAUTH2_NEEDS_LOGIN,
     "the code belongs to another login (PKCE): start again and open the new "
     "address, no older one"},
    {CODE, "invalid_grant", "AADSTS501481", OAUTH2_NEEDS_LOGIN,
     "the code belongs to another login (PKCE): start again and open the new "
     "address, no older one"},
    {CODE, "invalid_grant", "already redeemed", OAUTH2_NEEDS_LOGIN,
     "the code was used before, and works once: start again"},
    {CODE, "invalid_grant", "expired", OAUTH2_NEEDS_LOGIN,
     "the code is good for some minutes, which are over: start again"},
    {CODE, "invalid_grant", "Malformed", OAUTH2_NEEDS_LOGIN,
     "that was not the whole code: start again, and paste the whole address"},
    {CODE, "invalid_grant", NULL, OAUTH2_NEEDS_LOGIN,
     "the code is not good (any more): it works once, for some minutes, with "
     "the login that asked for it: start again"},
    {REFRESH, "invalid_grant", NULL, OAUTH2_NEEDS_LOGIN,
     "the refresh token is expired or revoked (password changed, six months "
     "unused, app in Testing mode, or taken back): " LOGIN},
    {BOTH, "interaction_required", NULL, OAUTH2_NEEDS_LOGIN,
     "the endpoint wants a new login: " LOGIN},
    {BOTH, "login_required", NULL, OAUTH2_NEEDS_LOGIN,
     "the endpoint wants a new login: " LOGIN},
    {BOTH, "consent_required", NULL, OAUTH2_NEEDS_LOGIN,
     "the user has not consented to this client: " LOGIN},
    {REFRESH, "invalid_client", "AADSTS7000222", OAUTH2_CLIENT,
     "the OAuth client's secret has expired: make a new one in Entra and put "
     "it into client_secret_file"},
    {BOTH, "invalid_client", NULL, OAUTH2_CLIENT,
     "the OAuth client is unknown or its secret is wrong: check client_id and "
     "client_secret_file"},
    {BOTH, "deleted_client", NULL, OAUTH2_CLIENT,
     "the OAuth client was deleted in the Cloud console: restore it there "
     "(within 30 days), or make another and log in again"},
    {BOTH, "disabled_client", NULL, OAUTH2_CLIENT,
     "the OAuth client was disabled: enable it in the Cloud console"},
    {JWT, "unauthorized_client", NULL, OAUTH2_UNAUTHORIZED,
     "no domain-wide delegation, or not yet (up to 24 hours): in the Admin "
     "console give the service account's numeric client id the scope "
     "https://mail.google.com/"},
    {CODE, "unauthorized_client", NULL, OAUTH2_CONFIG,
     "the OAuth client may not log in this way: want one for desktop apps"},
    {REFRESH, "unauthorized_client", NULL, OAUTH2_UNAUTHORIZED,
     "the OAuth client may not renew this token, which was given to another "
     "client or for other scopes: check client_id, then " LOGIN},
    {BOTH, "access_denied", NULL, OAUTH2_CONFIG,
     "an administrator's policy denies access: see Admin console, API "
     "controls"},
    {BOTH, "admin_policy_enforced", NULL, OAUTH2_CONFIG,
     "an administrator's policy blocks the app: see Admin console, API "
     "controls"},
    {BOTH, "org_internal", NULL, OAUTH2_CONFIG,
     "the OAuth client is limited to its own organisation, which this account "
     "is not in: use a client of the account's, or make it External"},
    {BOTH, "invalid_scope", NULL, OAUTH2_CONFIG,
     "the scope is refused: check it in the configuration and in the Cloud "
     "console"},
    {BOTH, "invalid_request", NULL, OAUTH2_CONFIG,
     "the request is refused: check token_url; if it is right, please report "
     "this"},
    {BOTH, "unsupported_grant_type", NULL, OAUTH2_CONFIG,
     "the endpoint does not know this grant: check token_url"},
    {BOTH, "redirect_uri_mismatch", NULL, OAUTH2_CONFIG,
     "the redirect address is not registered for the client: want one for "
     "desktop apps, or register http://127.0.0.1"},
    {BOTH, "internal_failure", NULL, OAUTH2_TRANSIENT, "the endpoint failed"},
    {BOTH, "server_error", NULL, OAUTH2_TRANSIENT, "the endpoint failed"},
    {BOTH, "temporarily_unavailable", NULL, OAUTH2_TRANSIENT,
     "the endpoint is busy"},
    {BOTH, "slow_down", NULL, OAUTH2_TRANSIENT, "too many requests"},
};

struct refusal {
    const char *error, *description, *subtype; /* NULL = not said */
};

static bool
says(const char *text, const char *part)
{
    return text != NULL && strcasestr(text, part) != NULL;
}

/* What refuses a refresh token refuses a code as well, unless a row of its own
 * comes first. */
static const struct known *
find_known(enum oauth2_grant grant, const struct refusal *r)
{
    unsigned grants = grant == OAUTH2_GRANT_CODE ? CODE | REFRESH : 1u << grant;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct known *k = &known[i];

        if ((k->grants & grants) != 0 && strcmp(k->error, r->error) == 0 &&
            (k->part == NULL || says(r->description, k->part) ||
             says(r->subtype, k->part)))
            return k;
    }
    return NULL;
}

/* An error code in the log: what else may stand there is not ours to show. */
static void
show_code(const char *code, char ret[SHOWN_MAX + 1])
{
    size_t n = 0;

    for (; code != NULL && code[n] != 0 && n < SHOWN_MAX; n++) {
        char c = code[n];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c >= '0' && c <= '9') || c == '_' || c == '-';

        ret[n] = '?';
        if (plain)
            ret[n] = c;
    }
    ret[n] = 0;
}

/* Google counts requests in more places than it documents errors for. */
static bool
is_rate_limit(unsigned http_status, const struct refusal *r)
{
    return http_status == 429 ||
           (http_status == 403 &&
            (says(r->error, "rate") || says(r->error, "quota") ||
             says(r->description, "rate limit") ||
             says(r->description, "quota")));
}

static void
classify(enum oauth2_grant grant, unsigned http_status, const struct refusal *r,
         struct oauth2_answer *ret)
{
    const struct known *k;
    char code[SHOWN_MAX + 1];

    show_code(r->error, code);
    if (http_status >= 500 || http_status == 408 || r->error == NULL ||
        is_rate_limit(http_status, r)) {
        ret->class = OAUTH2_TRANSIENT;
        snprintf(ret->why, sizeof ret->why,
                 "the token endpoint answered %u%s%s", http_status,
                 code[0] != 0 ? " " : "", code);
        return;
    }
    k = find_known(grant, r);
    if (k == NULL) {
        ret->class = OAUTH2_CONFIG;
        snprintf(ret->why, sizeof ret->why,
                 "the token endpoint answered %u %s, which is not known: look "
                 "it up in the provider's help, and please report it",
                 http_status, code);
        return;
    }
    ret->class = k->class;
    snprintf(ret->why, sizeof ret->why, "%s: %s", code, k->why);
}

/* ---- tokens ---- */

/* 0x20 to 0x7e in RFC 6749; a space would break the AUTH line, and nobody has
 * one. */
static bool
is_clean(const char *token, size_t max)
{
    size_t n = strlen(token);

    for (const char *c = token; *c != 0; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    return n > 0 && n <= max;
}

bool
oauth2_refresh_token_ok(const char *token)
{
    return is_clean(token, OAUTH2_REFRESH_TOKEN_MAX);
}

/* Seconds.  Some endpoints send a string; a life that makes no sense is taken
 * for one that was not told. */
static int64_t
life_of(const json_t *expires)
{
    double life_s = json_is_string(expires)
                        ? strtod(json_string_value(expires), NULL)
                        : json_number_value(expires);

    if (!(life_s >= 1))
        return EXPIRES_DEFAULT_S;
    return life_s < EXPIRES_MAX_S ? (int64_t)life_s : EXPIRES_MAX_S;
}

/* Google tells it of consent for a time; 0 = it does not. */
static int64_t
left_of(const json_t *expires)
{
    double left_s = json_number_value(expires);

    return left_s >= 1 && left_s < INT32_MAX ? (int64_t)left_s : 0;
}

static void
take_tokens(const json_t *root, const char *access, struct oauth2_answer *ret)
{
    const char *refresh =
        json_string_value(json_object_get(root, "refresh_token"));
    const char *scope = json_string_value(json_object_get(root, "scope"));

    if (!is_clean(access, TOKEN_TEXT_MAX)) {
        ret->class = OAUTH2_TRANSIENT;
        snprintf(ret->why, sizeof ret->why,
                 "the endpoint gave an access token that is empty, longer than "
                 "%d octets or has characters that no token has",
                 TOKEN_TEXT_MAX);
        return;
    }
    ret->access_token = wipe_strdup(access);
    if (refresh != NULL && oauth2_refresh_token_ok(refresh))
        ret->refresh_token = wipe_strdup(refresh);
    if (scope != NULL && strlen(scope) < sizeof ret->scope)
        memcpy(ret->scope, scope, strlen(scope) + 1);
    ret->expires_in_s = life_of(json_object_get(root, "expires_in"));
    ret->refresh_left_s =
        left_of(json_object_get(root, "refresh_token_expires_in"));
    ret->class = ret->access_token != NULL ? OAUTH2_OK : OAUTH2_TRANSIENT;
    if (ret->access_token == NULL)
        snprintf(ret->why, sizeof ret->why, "out of memory");
}

static void
read_answer(enum oauth2_grant grant, unsigned http_status, const json_t *root,
            struct oauth2_answer *ret)
{
    const char *access =
        json_string_value(json_object_get(root, "access_token"));
    struct refusal r = {
        json_string_value(json_object_get(root, "error")),
        json_string_value(json_object_get(root, "error_description")),
        json_string_value(json_object_get(root, "error_subtype")),
    };

    if (http_status == 200 && access != NULL) {
        take_tokens(root, access, ret);
    } else if (http_status == 200 && r.error == NULL) {
        /* Google answers an unknown scope with 200 and only an id_token. */
        ret->class = OAUTH2_CONFIG;
        snprintf(ret->why, sizeof ret->why,
                 "the endpoint gave no access token: check the scope in the "
                 "configuration and in the Cloud console");
    } else {
        classify(grant, http_status, &r, ret);
    }
}

void
oauth2_say_again(enum oauth2_grant grant, struct oauth2_answer *ret)
{
    size_t len = strlen(ret->why);

    if (ret->class == OAUTH2_TRANSIENT)
        snprintf(ret->why + len, sizeof ret->why - len, "; %s",
                 grant == OAUTH2_GRANT_CODE
                     ? "start again in a while"
                     : "gmroute-token tries again by itself");
}

void
oauth2_parse(enum oauth2_grant grant, unsigned http_status, const char *body,
             size_t len, struct oauth2_answer *ret)
{
    json_t *root = json_loadb(body, len, 0, NULL);

    *ret = (struct oauth2_answer){.class = OAUTH2_TRANSIENT};
    if (json_is_object(root))
        read_answer(grant, http_status, root, ret);
    else
        snprintf(ret->why, sizeof ret->why,
                 "the token endpoint answered %u without JSON", http_status);
    json_decref(root);
    oauth2_say_again(grant, ret);
}

void
oauth2_answer_free(struct oauth2_answer *a)
{
    wipe_free(a->access_token);
    wipe_free(a->refresh_token);
    a->access_token = a->refresh_token = NULL;
}
