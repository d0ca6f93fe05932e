/* milter/oauth/oauth2_code.c - see oauth2_code.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/oauth2_code.h"

#include <string.h>

#include <openssl/evp.h>

#include "milter/oauth/oauth2_private.h"
#include "policy/slice.h"

static bool
as_text(const unsigned char octets[OAUTH2_RANDOM],
        char ret[OAUTH2_VERIFIER + 1])
{
    struct buf b;
    bool ok;

    buf_init(&b, 64);
    ok = oauth2_add_base64url(&b, octets, OAUTH2_RANDOM) &&
         b.len == OAUTH2_VERIFIER;
    if (ok) {
        memcpy(ret, b.at, OAUTH2_VERIFIER);
        ret[OAUTH2_VERIFIER] = '\0';
    }
    buf_wipe_free(&b);
    return ok;
}

bool
oauth2_random_text(const unsigned char random[OAUTH2_RANDOM],
                   char ret[OAUTH2_VERIFIER + 1])
{
    return as_text(random, ret);
}

bool
oauth2_challenge(const char *verifier, char ret[OAUTH2_VERIFIER + 1])
{
    unsigned char digest[OAUTH2_RANDOM]; /* SHA-256 has as many */

    return EVP_Digest(verifier, strlen(verifier), digest, NULL, EVP_sha256(),
                      NULL) == 1 &&
           as_text(digest, ret);
}

bool
oauth2_login_url(struct buf *ret, const struct oauth2_login *l)
{
    struct buf query;
    bool ok;

    buf_init(&query, 8192);
    oauth2_add_field(&query, "response_type", "code");
    oauth2_add_field(&query, "client_id", l->client_id);
    oauth2_add_field(&query, "redirect_uri", l->redirect_uri);
    oauth2_add_field(&query, "scope", l->scope);
    oauth2_add_field(&query, "state", l->state);
    oauth2_add_field(&query, "code_challenge", l->challenge);
    oauth2_add_field(&query, "code_challenge_method", "S256");
    oauth2_add_field(&query, "access_type", "offline");
    oauth2_add_field(&query, "prompt", "consent");
    oauth2_add_field(&query, "login_hint", l->login_hint);
    ok = !buf_failed(&query) && buf_add_text(ret, l->auth_url) &&
         buf_add_text(ret, strchr(l->auth_url, '?') != NULL ? "&" : "?") &&
         buf_add(ret, query.at, query.len);
    buf_free(&query);
    return ok;
}

bool
oauth2_code_form(struct buf *ret, const char *client_id,
                 const char *client_secret, const char *code,
                 const char *verifier, const char *redirect_uri)
{
    oauth2_add_field(ret, "client_id", client_id);
    if (client_secret != NULL)
        oauth2_add_field(ret, "client_secret", client_secret);
    oauth2_add_field(ret, "code", code);
    oauth2_add_field(ret, "code_verifier", verifier);
    oauth2_add_field(ret, "redirect_uri", redirect_uri);
    oauth2_add_field(ret, "grant_type", "authorization_code");
    return !buf_failed(ret);
}

/* ---- scopes ---- */

/* The next word; empty at the end. */
static struct slice
next_word(const char **at)
{
    struct slice word;

    *at += strspn(*at, " ");
    word = (struct slice){*at, strcspn(*at, " ")};
    *at += word.len;
    return word;
}

static bool
has_word(const char *list, struct slice word)
{
    for (struct slice w = next_word(&list); w.len > 0; w = next_word(&list))
        if (w.len == word.len && memcmp(w.at, word.at, w.len) == 0)
            return true;
    return false;
}

bool
oauth2_scope_covers(const char *granted, const char *asked)
{
    if (granted[strspn(granted, " ")] == '\0')
        return true;
    for (struct slice w = next_word(&asked); w.len > 0; w = next_word(&asked))
        if (!has_word("offline_access openid email profile", w) &&
            !has_word(granted, w))
            return false;
    return true;
}
