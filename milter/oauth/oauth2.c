/* milter/oauth/oauth2.c - see oauth2.h: requests.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/oauth2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "milter/oauth/oauth2_private.h"
#include "milter/oauth/wipe.h"

enum {
    CLAIMS_MAX = 4096,
    IAT_BACK_S = 30,
    EXP_AHEAD_S = 3300,
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

void
oauth2_add_field(struct buf *b, const char *name, const char *value)
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
    oauth2_add_field(ret, "client_id", client_id);
    if (client_secret != NULL)
        oauth2_add_field(ret, "client_secret", client_secret);
    oauth2_add_field(ret, "refresh_token", refresh_token);
    oauth2_add_field(ret, "grant_type", "refresh_token");
    return !buf_failed(ret);
}

/* ---- service accounts ---- */

static char *
copy_member(const json_t *root, const char *name)
{
    const char *text = json_string_value(json_object_get(root, name));

    return text != NULL ? wipe_strdup(text) : NULL;
}

void
service_key_free(struct service_key *k)
{
    wipe_free(k->private_key);
    wipe_free(k->client_email);
    wipe_free(k->private_key_id);
    wipe_free(k->token_uri);
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
bool
oauth2_add_base64url(struct buf *b, const void *data, size_t len)
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

/* Without one OpenSSL would ask on the terminal. */
static int
no_password(char *password, int size, int writing, void *cookie)
{
    (void)password;
    (void)size;
    (void)writing;
    (void)cookie;
    return -1;
}

static EVP_PKEY *
read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio != NULL
                        ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)
                        : NULL;

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
    ok = buf_add_text(b, ".") && oauth2_add_base64url(b, signature, n);
done:
    ERR_clear_error();
    EVP_PKEY_free(key);
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* Takes the part over. */
static bool
add_json_part(struct buf *b, json_t *part)
{
    char *text = part != NULL ? json_dumps(part, JSON_COMPACT) : NULL;
    bool ok = text != NULL && strlen(text) <= CLAIMS_MAX &&
              oauth2_add_base64url(b, text, strlen(text));
    json_free_t give_back;

    json_get_alloc_funcs(NULL, &give_back);
    give_back(text);
    json_decref(part);
    return ok;
}

static json_t *
header_of(const struct service_key *k)
{
    json_t *header = json_pack("{s:s, s:s}", "alg", "RS256", "typ", "JWT");

    if (header != NULL && k->private_key_id != NULL)
        json_object_set_new(header, "kid", json_string(k->private_key_id));
    return header;
}

bool
oauth2_jwt_form(struct buf *ret, const struct service_key *k,
                const char *subject, const char *scope, const char *audience,
                int64_t now_s, char *err, size_t err_size)
{
    size_t from;

    oauth2_add_field(ret, "grant_type",
                     "urn:ietf:params:oauth:grant-type:jwt-bearer");
    buf_add_text(ret, "&assertion=");
    from = ret->len;
    snprintf(err, err_size, "the assertion cannot be written");
    return add_json_part(ret, header_of(k)) && buf_add_text(ret, ".") &&
           add_json_part(ret, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "iss",
                                        k->client_email, "sub", subject,
                                        "scope", scope, "aud", audience, "iat",
                                        (json_int_t)(now_s - IAT_BACK_S), "exp",
                                        (json_int_t)(now_s + EXP_AHEAD_S))) &&
           add_signature(ret, from, k->private_key, err, err_size) &&
           !buf_failed(ret);
}
