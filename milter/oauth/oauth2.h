/* milter/oauth/oauth2.h - what is asked of a token endpoint, and what its
 * answers mean.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure: text in, text and values out.  All buffers here may hold secrets; the
 * caller wipes them.
 *
 * Sources: RFC 6749 5 and 6, RFC 7523 2.1 and 3, RFC 7515; Google, "Using
 * OAuth 2.0 for Server to Server Applications" and "OAuth 2.0 for iOS &
 * Desktop Apps" (developers.google.com/identity/protocols/oauth2).
 */
#ifndef TOKEN_OAUTH2_H
#define TOKEN_OAUTH2_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/base/buf.h"

/* Form body of the refresh-token grant.  client_secret NULL = public client. */
bool oauth2_refresh_form(struct buf *ret, const char *client_id,
                         const char *client_secret, const char *refresh_token);

/* The key of a service account, as Google's JSON file holds it. */
struct service_key {
    char *client_email, *private_key, *private_key_id, *token_uri;
};

/* Parses the file's text.  False with a sentence in err (no secret in it). */
bool service_key_parse(const char *json, size_t len, struct service_key *ret,
                       char *err, size_t err_size);
void service_key_free(struct service_key *k); /* wipes */

/* Form body of the JWT-bearer grant: RS256 over iss, sub, scope, aud, iat,
 * exp.  now_s: Unix time by the endpoint's clock; iat is set 30 s back and
 * exp 55 minutes ahead, well inside what Google accepts. */
bool oauth2_jwt_form(struct buf *ret, const struct service_key *k,
                     const char *subject, const char *scope,
                     const char *audience, int64_t now_s, char *err,
                     size_t err_size);

/* What an answer means for the account. */
enum oauth2_class {
    OAUTH2_OK = 0,
    OAUTH2_TRANSIENT,    /* try again soon; nothing is known to be wrong */
    OAUTH2_NEEDS_LOGIN,  /* the refresh token is dead */
    OAUTH2_CLIENT,       /* the client or the service account is refused, or its
                          * file cannot be used: all accounts of it */
    OAUTH2_NO_MAILBOX,   /* the service account's subject does not exist */
    OAUTH2_UNAUTHORIZED, /* delegation is missing, or not yet spread */
    OAUTH2_CLOCK,        /* our clock is off: correct it and try again */
    OAUTH2_CONFIG,       /* configuration, an administrator's policy, our bug */
    OAUTH2_SECRET,       /* the refresh token's file cannot be used */
    OAUTH2_CLASSES,
};

const char *oauth2_class_name(enum oauth2_class c);

struct oauth2_answer {
    enum oauth2_class class;
    char *access_token;     /* OK; owned, wiped by oauth2_answer_free */
    char *refresh_token;    /* a rotated one; NULL = keep the old one */
    int64_t expires_in_s;   /* OK; 1.. */
    char scope[300];        /* OK; what was granted; "" = what was asked for
                             * (RFC 6749 5.1), or it is too long to keep */
    int64_t retry_after_s;  /* the endpoint asked for so much rest; 0 = not */
    int64_t refresh_left_s; /* until the refresh token ends; 0 = not known */
    int64_t unused_s;       /* since it was last used or given; 0 = not known */
    char why[300]; /* else: a sentence for an administrator: what, and what to
                    * do; printable ASCII, none of it a secret */
};

/* Longer ones, and such with other characters than RFC 6749 A.12 and A.17
 * allow, are not taken. */
enum { OAUTH2_REFRESH_TOKEN_MAX = 8192 };

bool oauth2_refresh_token_ok(const char *token);

enum oauth2_grant {
    OAUTH2_GRANT_REFRESH,
    OAUTH2_GRANT_JWT,
    OAUTH2_GRANT_CODE, /* oauth2_code.h */
};

/* What the endpoint answered to that grant.  A body that is not JSON is
 * transient whatever its status. */
void oauth2_parse(enum oauth2_grant grant, unsigned http_status,
                  const char *body, size_t len, struct oauth2_answer *ret);
void oauth2_answer_free(struct oauth2_answer *a);

#endif
