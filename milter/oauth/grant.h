/* milter/oauth/grant.h - one request for one mailbox's token: secrets read,
 * request built, posted, answer understood.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_GRANT_H
#define TOKEN_GRANT_H

#include "milter/base/clock.h"
#include "milter/oauth/https.h"
#include "milter/oauth/oauth2.h"
#include "milter/oauth/secret.h"
#include "policy/policy.h"

struct grant_request {
    const struct policy *policy;
    const struct mailbox *mailbox; /* AUTH_REFRESH_TOKEN or _SERVICE_ACCOUNT */
    const struct clock *clock;
    void (*post)(const struct https_request *q, struct https_answer *ret);
    const atomic_bool *stop; /* as in https_request */
    int64_t skew_s; /* in: endpoint's clock less ours, as known; out: as seen */
    int64_t used_s; /* Unix time of the last good answer; 0 = not known */
    /* In and out: a rotated refresh token that could not be stored.  The
     * caller keeps it, gives it to the next request, and tries grant_save. */
    struct refresh_token *unsaved;
};

/* Blocks.  A rotated refresh token is on disk before this returns; when it
 * cannot be stored, it is in q->unsaved, which is logged, and the answer is
 * still OK.  oauth2_answer_free(ret) afterwards. */
void grant_ask(struct grant_request *q, struct oauth2_answer *ret);

/* Stores q->unsaved and empties it; false when it still cannot be. */
bool grant_save(struct grant_request *q);

/* A code that a person's login gave, and what asked for it (oauth2_code.h). */
struct grant_code {
    const char *code, *verifier, *redirect_uri;
};

/* Exchanges it, for an account of AUTH_REFRESH_TOKEN.  Blocks.  Nothing is
 * stored: the refresh token is in *ret, NULL when the endpoint gave none;
 * q->unsaved is not looked at. */
void grant_login(struct grant_request *q, const struct grant_code *code,
                 struct oauth2_answer *ret);

/* What the account itself has to log in with, and what its client has, changed
 * if these do (secret_stamp). */
uint64_t grant_stamp(const struct policy *p, const struct mailbox *m);
uint64_t grant_client_stamp(const struct account *a);

#endif
