/* milter/oauth/oauth2_code.h - the authorization code grant: a person logs in
 * with a browser, the code that comes of it buys the first refresh token.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  Sources: RFC 6749 4.1, RFC 7636 (PKCE, S256), RFC 8252 (native apps);
 * Google, "OAuth 2.0 for iOS & Desktop Apps".
 */
#ifndef TOKEN_OAUTH2_CODE_H
#define TOKEN_OAUTH2_CODE_H

#include <stdbool.h>

#include "milter/base/buf.h"

enum {
    OAUTH2_RANDOM = 32,   /* octets behind a verifier or a state */
    OAUTH2_VERIFIER = 43, /* characters: RFC 7636 4.1 wants 43 to 128 */
};

/* Random octets as text, for code_verifier and state. */
bool oauth2_random_text(const unsigned char random[OAUTH2_RANDOM],
                        char ret[OAUTH2_VERIFIER + 1]);

/* What stands for the verifier in the browser's address line (S256). */
bool oauth2_challenge(const char *verifier, char ret[OAUTH2_VERIFIER + 1]);

struct oauth2_login { /* borrowed */
    const char *auth_url, *client_id, *scope;
    const char *redirect_uri; /* http://127.0.0.1:PORT/ */
    const char *state, *challenge;
    const char *login_hint; /* the account's address */
};

/* The page to open.  It asks for a refresh token whatever was consented to
 * before (access_type=offline, prompt=consent; others than Google pass the
 * first by). */
bool oauth2_login_url(struct buf *ret, const struct oauth2_login *l);

/* Form body that exchanges the code.  client_secret NULL = public client. */
bool oauth2_code_form(struct buf *ret, const char *client_id,
                      const char *client_secret, const char *code,
                      const char *verifier, const char *redirect_uri);

/* Was everything granted that was asked for?  An empty `granted` is all of it
 * (RFC 6749 5.1).  Words that are no permission (offline_access, openid,
 * email, profile) may be left out of an answer. */
bool oauth2_scope_covers(const char *granted, const char *asked);

#endif
