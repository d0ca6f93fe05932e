/* milter/token/grant.h - one request for one mailbox's token: secrets read,
 * request built, posted, answer understood.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_GRANT_H
#define TOKEN_GRANT_H

#include "milter/base/clock.h"
#include "milter/token/https.h"
#include "milter/token/oauth2.h"
#include "policy/policy.h"

struct grant_request {
    const struct policy *policy;
    const struct mailbox *mailbox; /* AUTH_REFRESH_TOKEN or _SERVICE_ACCOUNT */
    const struct clock *clock;
    void (*post)(const struct https_request *q, struct https_answer *ret);
    int64_t skew_s; /* in: endpoint's clock less ours, as known; out: as seen */
};

/* Blocks.  A rotated refresh token is on disk before this returns; when it
 * cannot be stored, the answer is still OK and the failure is logged.
 * oauth2_answer_free(ret) afterwards. */
void grant_ask(struct grant_request *q, struct oauth2_answer *ret);

#endif
