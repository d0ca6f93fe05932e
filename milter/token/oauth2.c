/* milter/token/oauth2.c - see oauth2.h: requests.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/oauth2.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

enum {
    CLAIMS_MAX = 4096,
    IAT_BACK_S = 30,
    EXP_AHEAD_S = 3300,
    EXPIRES_DEFAULT_S = 3600, /* RFC 6749 5.1: expires_in is only advised */
};

/* application/x-www-form-urlencoded: RFC 6749 appendix B. */
static void
add_encoded(struct buf *b, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != 0; c++)
        if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
            (*c >= '0' && *c <= '9') || strchr("-._~", *c) != NULL)
            buf_add(b, c, 1);
        else
            buf_printf(b, "%%%02X", *c);
}

static void
add_field(struct buf *b, const char *name, const char *value)
{
    if (b->len > 0)
        buf_add_text(b, "&");
    buf_add_text(b, name);
    buf_add_text(b, "=");
    add_encoded(b, value);
}

bool
oauth2_refresh_form(struct buf *ret, const char *client_id,
                    const char *client_secret, const char *refresh_token)
{
    add_field(ret, "client_id", client_id);
    if (client_secret != NULL)
        add_field(ret, "client_secret", client_secret);
    add_field(ret, "refresh_token", refresh_token);
    add_field(ret, "grant_type", "refresh_token");
    return !buf_failed(ret);
}

/* ---- service accounts ---- */

static char *
copy_member(const json_t *root, const char *name)
{
    const char *text = json_string_value(json_object_get(root, name));

    return text != NULL ? strdup(text) : NULL;
}

static void
wipe_free(char *secret)
{
    if (secret == NULL)
        return;
    explicit_bzero(secret, strlen(secret));
    free(secret);
}

void
service_key_free(struct service_key *k)
{
    wipe_free(k->private_key);
    free(k->client_email);
    free(k->private_key_id);
    free(k->token_uri);
    *k = (struct service_key){0};
}

bool
service_key_parse(const char *json, size_t len, struct service_key *ret,
                  char *err, size_t err_size)
{
    json_error_t where;
    json_t *root = json_loadb(json, len, 0, &where);
    struct service_key k = {0};

    if (root == NULL) {
        snprintf(err, err_size, "not JSON (line %d)", where.line);
        return false;
    }
    k.client_email = copy_member(root, "client_email");
    k.private_key = copy_member(root, "private_key");
    k.private_key_id = copy_member(root, "private_key_id");
    k.token_uri = copy_member(root, "token_uri");
    json_decref(root);
    if (k.client_email == NULL || k.private_key == NULL) {
        snprintf(err, err_size,
                 "no \"%s\": want the JSON key file of a service account",
                 k.client_email == NULL ? "client_email" : "private_key");
        service_key_free(&k);
        return false;
    }
    *ret = k;
    return true;
}

/* RFC 7515 2: base64url without padding. */
static bool
add_base64url(struct buf *b, const void *data, size_t len)
{
    size_t room = 4 * ((len + 2) / 3) + 1;
    unsigned char *out;
    int n;

    if (len > INT32_MAX / 2 || !buf_reserve(b, room))
        return false;
    out = (unsigned char *)b->at + b->len;
    n = EVP_EncodeBlock(out, data, (int)len);
    while (n > 0 && out[n - 1] == '=')
        n--;
    for (int i = 0; i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    b->len += (size_t)n;
    return true;
}

static EVP_PKEY *
read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key =
        bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    return key;
}

/* RS256: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 3.3). */
static bool
add_signature(struct buf *b, size_t from, const char *pem, char *err,
              size_t err_size)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY *key = read_key(pem);
    unsigned char signature[1024];
    size_t n = sizeof signature;
    bool ok = false;

    if (key == NULL || EVP_PKEY_base_id(key) != EVP_PKEY_RSA) {
        snprintf(err, err_size, "private_key is not an RSA key in PEM form");
        goto done;
    }
    if (ctx == NULL ||
        EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) != 1 ||
        EVP_DigestSign(ctx, signature, &n, (const unsigned char *)b->at + from,
                       b->len - from) != 1) {
        snprintf(err, err_size, "the assertion cannot be signed");
        goto done;
    }
    ok = buf_add_text(b, ".") && add_base64url(b, signature, n);
done:
    ERR_clear_error();
    EVP_PKEY_free(key);
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool
add_json_part(struct buf *b, json_t *part)
{
    char *text = part != NULL ? json_dumps(part, JSON_COMPACT) : NULL;
    bool ok = text != NULL && strlen(text) <= CLAIMS_MAX &&
              add_base64url(b, text, strlen(text));

    free(text);
    json_decref(part);
    return ok;
}

bool
oauth2_jwt_form(struct buf *ret, const struct service_key *k,
                const char *subject, const char *scope, const char *audience,
                int64_t now_s, char *err, size_t err_size)
{
    json_t *header = json_pack("{s:s, s:s}", "alg", "RS256", "typ", "JWT");
    json_t *claims =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "iss", k->client_email,
                  "sub", subject, "scope", scope, "aud", audience, "iat",
                  (json_int_t)(now_s - IAT_BACK_S), "exp",
                  (json_int_t)(now_s + EXP_AHEAD_S));
    size_t from;

    if (header != NULL && k->private_key_id != NULL)
        json_object_set_new(header, "kid", json_string(k->private_key_id));
    add_field(ret, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    buf_add_text(ret, "&assertion=");
    from = ret->len;
    snprintf(err, err_size, "out of memory");
    if (!add_json_part(ret, header)) {
        json_decref(claims);
        return false;
    }
    return buf_add_text(ret, ".") && add_json_part(ret, claims) &&
           add_signature(ret, from, k->private_key, err, err_size) &&
           !buf_failed(ret);
}

/* ---- answers ---- */

const char *
oauth2_class_name(enum oauth2_class c)
{
    static const char *const names[OAUTH2_CLASSES] = {
        "ok",         "transient",    "needs_login", "client_refused",
        "no_mailbox", "unauthorized", "clock",       "configuration",
    };

    return c < OAUTH2_CLASSES ? names[c] : "?";
}

/* One known error.  NULL description = any. */
static const struct known {
    const char *error, *description; /* part of it */
    enum oauth2_class class;
    const char *why;
} known[] = {
    {"invalid_grant", "invalid_rapt", OAUTH2_NEEDS_LOGIN,
     "Google's session control wants a new login: gmroutectl login, or exempt "
     "the app in the Admin console"},
    {"invalid_grant", "rapt_required", OAUTH2_NEEDS_LOGIN,
     "Google's session control wants a new login: gmroutectl login, or exempt "
     "the app in the Admin console"},
    {"invalid_grant", "Invalid JWT Signature", OAUTH2_CONFIG,
     "the service account's key is wrong, deleted or disabled: make a new key "
     "file"},
    {"invalid_grant", "short-lived token", OAUTH2_CLOCK,
     "this host's clock is off: check time synchronisation"},
    {"invalid_grant", "account not found", OAUTH2_CONFIG,
     "the service account does not exist (any more): check the key file"},
    {"invalid_grant", "Not a valid email", OAUTH2_NO_MAILBOX,
     "no such mailbox in the Workspace organisation"},
    {"invalid_grant", "Invalid email or User ID", OAUTH2_NO_MAILBOX,
     "no such mailbox in the Workspace organisation"},
    {"invalid_grant", "Invalid JWT", OAUTH2_CONFIG,
     "the assertion is refused: please report this"},
    {"invalid_grant", NULL, OAUTH2_NEEDS_LOGIN,
     "the refresh token is expired or revoked (password changed, six months "
     "unused, app in Testing mode, or taken back): gmroutectl login"},
    {"invalid_client", NULL, OAUTH2_CLIENT,
     "the OAuth client is unknown or its secret is wrong: check client_id and "
     "client_secret_file"},
    {"deleted_client", NULL, OAUTH2_CLIENT,
     "the OAuth client was deleted in the Cloud console"},
    {"disabled_client", NULL, OAUTH2_CLIENT,
     "the OAuth client was disabled in the Cloud console"},
    {"unauthorized_client", NULL, OAUTH2_UNAUTHORIZED,
     "domain-wide delegation is missing or not yet spread (up to 24 hours): "
     "allow the numeric client id for scope https://mail.google.com/"},
    {"access_denied", NULL, OAUTH2_NEEDS_LOGIN,
     "an administrator's policy denies access: see Admin console, API "
     "controls"},
    {"admin_policy_enforced", NULL, OAUTH2_NEEDS_LOGIN,
     "an administrator's policy blocks the app: see Admin console, API "
     "controls"},
    {"org_internal", NULL, OAUTH2_CLIENT,
     "the OAuth client is limited to its own organisation"},
    {"invalid_scope", NULL, OAUTH2_CONFIG, "the scope is refused"},
    {"invalid_request", NULL, OAUTH2_CONFIG,
     "the request is refused: please report this"},
    {"unsupported_grant_type", NULL, OAUTH2_CONFIG,
     "the endpoint does not know this grant: check token_url"},
    {"redirect_uri_mismatch", NULL, OAUTH2_CONFIG,
     "the redirect address is not registered for the client"},
    {"internal_failure", NULL, OAUTH2_TRANSIENT, "the endpoint failed"},
};

/* Part of a description that is safe to show: printable, short. */
static void
clean(const char *from, char *ret, size_t size)
{
    size_t n = 0;

    for (; from != NULL && *from != 0 && n + 1 < size; from++)
        ret[n++] = *from >= ' ' && *from < 0x7f ? *from : '?';
    ret[n] = 0;
}

static void
classify(unsigned http_status, const json_t *root, struct oauth2_answer *ret)
{
    const char *error = json_string_value(json_object_get(root, "error"));
    const char *description =
        json_string_value(json_object_get(root, "error_description"));
    const char *subtype =
        json_string_value(json_object_get(root, "error_subtype"));
    char shown[80];

    if (http_status >= 500 || http_status == 429 || error == NULL) {
        ret->class = OAUTH2_TRANSIENT;
        clean(error, shown, sizeof shown);
        snprintf(ret->why, sizeof ret->why, "the token endpoint answered %u %s",
                 http_status, shown);
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct known *k = &known[i];

        if (strcmp(k->error, error) != 0 ||
            (k->description != NULL &&
             (description == NULL ||
              strstr(description, k->description) == NULL) &&
             (subtype == NULL || strstr(subtype, k->description) == NULL)))
            continue;
        ret->class = k->class;
        snprintf(ret->why, sizeof ret->why, "%s: %s", error, k->why);
        return;
    }
    clean(error, shown, sizeof shown);
    ret->class = OAUTH2_CONFIG;
    snprintf(ret->why, sizeof ret->why,
             "the token endpoint answered %u %s, which is not known",
             http_status, shown);
}

static bool
token_is_clean(const char *token)
{
    size_t n = strlen(token);

    if (n == 0)
        return false;
    for (const char *c = token; *c != 0; c++)
        if (*c <= ' ' || *c > '~')
            return false; /* it would break the AUTH line */
    return true;
}

static void
take_tokens(const json_t *root, struct oauth2_answer *ret)
{
    const json_t *expires = json_object_get(root, "expires_in");
    double life_s = json_is_string(expires)
                        ? strtod(json_string_value(expires), NULL)
                        : json_number_value(expires);
    const char *access =
        json_string_value(json_object_get(root, "access_token"));

    if (access == NULL) {
        /* Google answers an unknown scope with 200 and only an id_token. */
        ret->class = OAUTH2_CONFIG;
        snprintf(ret->why, sizeof ret->why,
                 "the endpoint gave no access token: check the scope");
        return;
    }
    if (!token_is_clean(access)) {
        ret->class = OAUTH2_TRANSIENT;
        snprintf(ret->why, sizeof ret->why,
                 "the endpoint gave an access token with characters that no "
                 "token has");
        return;
    }
    ret->access_token = copy_member(root, "access_token");
    ret->refresh_token = copy_member(root, "refresh_token");
    ret->expires_in_s = life_s >= 1 && life_s <= 30 * 86400.0
                            ? (int64_t)life_s
                            : EXPIRES_DEFAULT_S;
    ret->class = ret->access_token != NULL ? OAUTH2_OK : OAUTH2_TRANSIENT;
}

void
oauth2_parse(unsigned http_status, const char *body, size_t len,
             struct oauth2_answer *ret)
{
    json_error_t where;
    json_t *root = json_loadb(body, len, 0, &where);

    *ret = (struct oauth2_answer){.class = OAUTH2_TRANSIENT};
    if (!json_is_object(root))
        snprintf(ret->why, sizeof ret->why,
                 "the token endpoint answered %u without JSON", http_status);
    else if (http_status == 200)
        take_tokens(root, ret);
    else
        classify(http_status, root, ret);
    json_decref(root);
}

void
oauth2_answer_free(struct oauth2_answer *a)
{
    wipe_free(a->access_token);
    wipe_free(a->refresh_token);
    a->access_token = a->refresh_token = NULL;
}
